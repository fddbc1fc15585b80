//! The key-value metadata of a GGUF file and its typed getters.
//!
//! Doesn't know any key by name: what the keys mean is up to the callers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::gguf::{GgufError, printable};

/// A metadata value, in the type that the file states.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array of one element type. Arrays of arrays are refused by the reader.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Strings(Vec<String>),
}

impl Value {
    /// What the value is, in words, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::U8(_) => "a u8",
            Self::I8(_) => "an i8",
            Self::U16(_) => "a u16",
            Self::I16(_) => "an i16",
            Self::U32(_) => "a u32",
            Self::I32(_) => "an i32",
            Self::U64(_) => "a u64",
            Self::I64(_) => "an i64",
            Self::F32(_) => "an f32",
            Self::F64(_) => "an f64",
            Self::Bool(_) => "a bool",
            Self::String(_) => "a string",
            Self::Array(array) => array.kind(),
        }
    }

    /// The number that an integer of any width holds.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }
}

impl Array {
    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::Strings(v) => v.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::U8(_) => "an array of u8",
            Self::I8(_) => "an array of i8",
            Self::U16(_) => "an array of u16",
            Self::I16(_) => "an array of i16",
            Self::U32(_) => "an array of u32",
            Self::I32(_) => "an array of i32",
            Self::U64(_) => "an array of u64",
            Self::I64(_) => "an array of i64",
            Self::F32(_) => "an array of f32",
            Self::F64(_) => "an array of f64",
            Self::Bool(_) => "an array of bool",
            Self::Strings(_) => "an array of strings",
        }
    }

    /// The elements as i32; `None` if they are not integers or one does not fit.
    fn to_i32s(&self) -> Option<Vec<i32>> {
        fn convert<T: Copy + TryInto<i32>>(v: &[T]) -> Option<Vec<i32>> {
            v.iter().map(|&x| x.try_into().ok()).collect()
        }
        match self {
            Self::U8(v) => convert(v),
            Self::I8(v) => convert(v),
            Self::U16(v) => convert(v),
            Self::I16(v) => convert(v),
            Self::U32(v) => convert(v),
            Self::I32(v) => Some(v.clone()),
            Self::U64(v) => convert(v),
            Self::I64(v) => convert(v),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::Strings(_) => None,
        }
    }
}

/// All metadata of one file, in file order, keys unique.
///
/// Each typed getter comes twice: `u32(key)` makes a missing key an error, `opt_u32(key)` gives
/// `None` for it. A key of another type is an error in both; integers of any width convert as long
/// as the number fits.
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), entries: Vec::new(), index: HashMap::new() }
    }

    /// Adds an entry; an error when the key is there already.
    pub(super) fn insert(&mut self, key: String, value: Value) -> Result<(), GgufError> {
        if self.index.contains_key(&key) {
            return Err(self.error(&key, "is there twice; the file is damaged".into()));
        }
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        Ok(())
    }

    /// The value of a key, whatever its type.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// All entries in file order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the file has no metadata at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An error about a key of this file: "{path}: metadata key {key} {problem}".
    #[must_use]
    pub fn error(&self, key: &str, problem: String) -> GgufError {
        GgufError::Key { path: self.path.clone(), key: printable(key), problem }
    }

    /// The error of a key that should be there.
    #[must_use]
    pub fn missing(&self, key: &str) -> GgufError {
        self.error(key, "is missing".into())
    }

    /// Applies `read` to the value of `key`, if any; what `read` refuses is a type error.
    fn opt<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            let found = match value.integer() {
                Some(n) => format!("{n}"),
                None => value.kind().into(),
            };
            self.error(key, format!("should be {expected}, but is {found}"))
        })
    }
}

#[expect(
    clippy::missing_errors_doc,
    reason = "the type's own documentation says it for all of them"
)]
impl Metadata {
    /// An unsigned 32-bit number.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.opt(key, "an integer that fits u32", |v| v.integer()?.try_into().ok())
    }

    /// See [`Self::opt_u32`].
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.opt_u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// An unsigned 64-bit number.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.opt(key, "an integer that fits u64", |v| v.integer()?.try_into().ok())
    }

    /// See [`Self::opt_u64`].
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.opt_u64(key)?.ok_or_else(|| self.missing(key))
    }

    /// A floating-point number; an f64 is rounded.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.opt(key, "a floating-point number", |v| match *v {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        })
    }

    /// See [`Self::opt_f32`].
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.opt_f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// A boolean.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.opt(key, "a bool", |v| if let Value::Bool(b) = *v { Some(b) } else { None })
    }

    /// See [`Self::opt_bool`].
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.opt_bool(key)?.ok_or_else(|| self.missing(key))
    }

    /// A string.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.opt(
            key,
            "a string",
            |v| if let Value::String(s) = v { Some(s.as_str()) } else { None },
        )
    }

    /// See [`Self::opt_str`].
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        self.opt_str(key)?.ok_or_else(|| self.missing(key))
    }

    /// An array of strings.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.opt(key, "an array of strings", |v| match v {
            Value::Array(Array::Strings(s)) => Some(s.as_slice()),
            _ => None,
        })
    }

    /// See [`Self::opt_strings`].
    pub fn strings(&self, key: &str) -> Result<&[String], GgufError> {
        self.opt_strings(key)?.ok_or_else(|| self.missing(key))
    }

    /// An array of integers that all fit i32.
    pub fn opt_i32s(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        self.opt(key, "an array of integers that fit i32", |v| match v {
            Value::Array(array) => array.to_i32s(),
            _ => None,
        })
    }

    /// See [`Self::opt_i32s`].
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>, GgufError> {
        self.opt_i32s(key)?.ok_or_else(|| self.missing(key))
    }

    /// An array of f32.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.opt(key, "an array of f32", |v| match v {
            Value::Array(Array::F32(x)) => Some(x.as_slice()),
            _ => None,
        })
    }

    /// See [`Self::opt_f32s`].
    pub fn f32s(&self, key: &str) -> Result<&[f32], GgufError> {
        self.opt_f32s(key)?.ok_or_else(|| self.missing(key))
    }
}
