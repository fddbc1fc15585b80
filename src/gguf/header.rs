//! The header of a GGUF file (ggml `docs/gguf.md`, versions 2 and 3, little-endian): metadata and
//! tensor table, read strictly and with limits.
//!
//! Works on any stream of known length; knows nothing about the tensors' contents.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use crate::gguf::cursor::{Cursor, Text};
use crate::gguf::{Array, GgmlType, GgufError, Metadata, TensorInfo, Value, printable};

/// The most bytes of metadata and tensor table together. The largest vocabularies in use (262144
/// tokens with their merges) take about 10 MiB.
const MAX_HEADER_BYTES: u64 = 64 << 20;
const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 17;
const MAX_ARRAY: u64 = 1 << 24;
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u32 = 1 << 20;
const DEFAULT_ALIGNMENT: u32 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// Everything before the tensors' data.
#[derive(Debug)]
pub struct Header {
    /// The version of the format: 2 or 3.
    pub version: u32,
    /// The key-value metadata.
    pub metadata: Metadata,
    /// The tensor table, in file order.
    pub tensors: Vec<TensorInfo>,
    /// The index of each tensor's name in the table.
    names: HashMap<String, usize>,
}

impl Header {
    /// Reads the header of a file of `file_len` bytes from a reader positioned at its start.
    /// `path` is only for messages.
    ///
    /// # Errors
    /// [`GgufError`] when the bytes break the format or a limit, or a tensor's data would lie
    /// outside the file. Memory stays within a small multiple of the header's true size.
    pub fn read(reader: impl Read, file_len: u64, path: &Path) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(reader, file_len, MAX_HEADER_BYTES, path);
        let version = read_version(&mut cursor)?;
        cursor.place = "the tensor count".into();
        let tensors = cursor.count(32, MAX_TENSORS)?;
        cursor.place = "the metadata count".into();
        let keys = cursor.count(13, MAX_KEYS)?;

        let mut metadata = Metadata::new(path);
        for i in 0..keys {
            cursor.place = format!("metadata key number {i}");
            let key = cursor.string(Text::Key)?;
            cursor.place = format!("the value of metadata key {}", printable(&key));
            let value = read_value(&mut cursor)?;
            metadata.insert(key, value)?;
        }
        let alignment = alignment(&metadata)?;
        let (tensors, names) = read_tensors(&mut cursor, tensors, alignment, file_len)?;
        Ok(Self { version, metadata, tensors, names })
    }

    /// The tensor with this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.names.get(name).map(|&i| &self.tensors[i])
    }
}

fn read_version(cursor: &mut Cursor<'_, impl Read>) -> Result<u32, GgufError> {
    let magic: [u8; 4] = cursor.bytes()?;
    if &magic != b"GGUF" {
        return Err(cursor.malformed(
            "it does not start with \"GGUF\"; models in other formats must be converted first",
        ));
    }
    match cursor.u32()? {
        v @ (2 | 3) => Ok(v),
        v if v.swap_bytes() <= 3 => {
            Err(cursor.malformed("it is big-endian, and only little-endian files are supported"))
        }
        v => Err(cursor.malformed(format!(
            "it has version {v} of the format, and versions 2 and 3 are supported; convert the \
             model again"
        ))),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let n = metadata.opt_u32(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !n.is_power_of_two() || n > MAX_ALIGNMENT {
        return Err(metadata.error(
            ALIGNMENT_KEY,
            format!("is {n}, but must be a power of two of at most {MAX_ALIGNMENT}"),
        ));
    }
    Ok(n.into())
}

fn read_bool(cursor: &mut Cursor<'_, impl Read>) -> Result<bool, GgufError> {
    match cursor.bytes::<1>()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [b] => Err(cursor.malformed(format!("{} is a bool with the byte {b}", cursor.place))),
    }
}

fn read_value(cursor: &mut Cursor<'_, impl Read>) -> Result<Value, GgufError> {
    Ok(match cursor.u32()? {
        0 => Value::U8(u8::from_le_bytes(cursor.bytes()?)),
        1 => Value::I8(i8::from_le_bytes(cursor.bytes()?)),
        2 => Value::U16(u16::from_le_bytes(cursor.bytes()?)),
        3 => Value::I16(i16::from_le_bytes(cursor.bytes()?)),
        4 => Value::U32(cursor.u32()?),
        5 => Value::I32(i32::from_le_bytes(cursor.bytes()?)),
        6 => Value::F32(f32::from_le_bytes(cursor.bytes()?)),
        7 => Value::Bool(read_bool(cursor)?),
        8 => Value::String(cursor.string(Text::Value)?),
        9 => Value::Array(read_array(cursor)?),
        10 => Value::U64(cursor.u64()?),
        11 => Value::I64(i64::from_le_bytes(cursor.bytes()?)),
        12 => Value::F64(f64::from_le_bytes(cursor.bytes()?)),
        t => {
            return Err(cursor.malformed(format!("{} has the unknown type {t}", cursor.place)));
        }
    })
}

fn read_array(cursor: &mut Cursor<'_, impl Read>) -> Result<Array, GgufError> {
    let element = cursor.u32()?;
    let least_bytes = match element {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => {
            return Err(cursor.malformed(format!(
                "{} is an array of arrays, which are not supported",
                cursor.place
            )));
        }
        t => {
            return Err(
                cursor.malformed(format!("{} is an array of the unknown type {t}", cursor.place))
            );
        }
    };
    let n = cursor.count(least_bytes, MAX_ARRAY)?;
    Ok(match element {
        0 => Array::U8(cursor.values(n, u8::from_le_bytes)?),
        1 => Array::I8(cursor.values(n, i8::from_le_bytes)?),
        2 => Array::U16(cursor.values(n, u16::from_le_bytes)?),
        3 => Array::I16(cursor.values(n, i16::from_le_bytes)?),
        4 => Array::U32(cursor.values(n, u32::from_le_bytes)?),
        5 => Array::I32(cursor.values(n, i32::from_le_bytes)?),
        6 => Array::F32(cursor.values(n, f32::from_le_bytes)?),
        7 => Array::Bool((0..n).map(|_| read_bool(cursor)).collect::<Result<_, _>>()?),
        10 => Array::U64(cursor.values(n, u64::from_le_bytes)?),
        11 => Array::I64(cursor.values(n, i64::from_le_bytes)?),
        12 => Array::F64(cursor.values(n, f64::from_le_bytes)?),
        _ => Array::Strings((0..n).map(|_| cursor.string(Text::Value)).collect::<Result<_, _>>()?),
    })
}

/// Reads the tensor table. Offsets in the file count from the start of the data, which is the end
/// of the table rounded up to the alignment; they are turned into file positions here.
fn read_tensors(
    cursor: &mut Cursor<'_, impl Read>,
    count: usize,
    alignment: u64,
    file_len: u64,
) -> Result<(Vec<TensorInfo>, HashMap<String, usize>), GgufError> {
    let mut tensors = Vec::with_capacity(count);
    let mut names = HashMap::with_capacity(count);
    for i in 0..count {
        cursor.place = format!("the entry of tensor number {i}");
        let tensor = read_tensor(cursor, alignment)?;
        if names.insert(tensor.name.clone(), i).is_some() {
            return Err(cursor.tensor_error(&tensor.name, "is there twice; the file is damaged"));
        }
        tensors.push(tensor);
    }
    let data_start = cursor.position().next_multiple_of(alignment);
    for tensor in &mut tensors {
        let start = data_start.checked_add(tensor.start);
        let end = start.and_then(|s| s.checked_add(tensor.bytes.unwrap_or(0)));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len => tensor.start = start,
            _ => {
                let p = format!(
                    "lies at bytes {} to {} of a file of {file_len}; the file is cut off or \
                     damaged, copy or download it again",
                    start.map_or("?".into(), |s| s.to_string()),
                    end.map_or("?".into(), |e| e.to_string()),
                );
                return Err(cursor.tensor_error(&tensor.name, &p));
            }
        }
    }
    check_overlap(cursor, &tensors)?;
    Ok((tensors, names))
}

fn read_tensor(
    cursor: &mut Cursor<'_, impl Read>,
    alignment: u64,
) -> Result<TensorInfo, GgufError> {
    let name = cursor.string(Text::TensorName)?;
    cursor.place = format!("the entry of tensor {}", printable(&name));
    let n_dims = cursor.u32()?;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        let p = format!("has {n_dims} dimensions, but 1 to {MAX_DIMS} are possible");
        return Err(cursor.tensor_error(&name, &p));
    }
    let dims: Vec<u64> = (0..n_dims).map(|_| cursor.u64()).collect::<Result<_, _>>()?;
    let ggml_type = GgmlType::from_u32(cursor.u32()?);
    let start = cursor.u64()?;

    // The product must fit i64, as in ggml; on 32-bit machines every size must fit usize as well.
    let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let sizes = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
    let (Some(elements), Some(sizes)) = (elements, sizes) else {
        return Err(cursor.tensor_error(&name, &format!("has impossible dimensions {dims:?}")));
    };
    if elements == 0 || i64::try_from(elements).is_err() || usize::try_from(elements).is_err() {
        return Err(cursor.tensor_error(&name, &format!("has impossible dimensions {dims:?}")));
    }
    let mut bytes = None;
    if let (Some(values), Some(size)) = (ggml_type.block_values(), ggml_type.block_bytes()) {
        if !dims[0].is_multiple_of(values as u64) {
            let p = format!(
                "has rows of {} values, but {ggml_type} needs a multiple of {values}",
                dims[0]
            );
            return Err(cursor.tensor_error(&name, &p));
        }
        bytes = (elements / values as u64).checked_mul(size as u64);
        if bytes.is_none() {
            return Err(cursor.tensor_error(&name, &format!("has impossible dimensions {dims:?}")));
        }
    }
    if !start.is_multiple_of(alignment) {
        let p = format!("starts at offset {start}, which is not a multiple of {alignment}");
        return Err(cursor.tensor_error(&name, &p));
    }
    Ok(TensorInfo { name, dims: sizes, ggml_type, start, bytes })
}

/// Two tensors that share bytes are a sign of damage, and no writer makes them.
fn check_overlap(cursor: &Cursor<'_, impl Read>, tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut by_place: Vec<&TensorInfo> = tensors.iter().collect();
    by_place.sort_by_key(|t| t.start);
    for pair in by_place.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if a.start + a.bytes.unwrap_or(1) > b.start {
            let p = format!("shares bytes with tensor {}; the file is damaged", printable(&a.name));
            return Err(cursor.tensor_error(&b.name, &p));
        }
    }
    Ok(())
}
