//! LoRA adapters as GGUF files for llama.cpp.
//!
//! Owns the layout that llama.cpp's adapter loader reads (`llama-adapter.cpp`): metadata
//! `general.type = adapter`, `adapter.type = lora`, `adapter.lora.alpha`, and for each layer
//! `blk.N.attn_q.weight.lora_a` and `.lora_b`. The words around questions that the adapter was trained
//! with stand in `adapter.lora.prompt_prefix`, which llama-server shows with the adapter, and in
//! `latrod.system_prompt` and `latrod.prompt_suffix`, for which llama.cpp has no keys. Rows stay in the GGUF file's own order, and the
//! update is scaled by alpha / rank. Format: ggml's `docs/gguf.md`, version 3.

use std::io::{self, Write};
use std::path::Path;

use crate::arch::lora::{Factor, LoraKey, LoraTensors};
use crate::store::StoreError;
use crate::store::durable::write_atomic;
use crate::store::tensors::for_each_chunk;
use crate::text::Wording;

/// Tensor data starts at multiples of this, GGUF's default.
const ALIGNMENT: usize = 32;
const VERSION: u32 = 3;
/// `enum gguf_type`.
const TYPE_FLOAT32: u32 = 6;
const TYPE_STRING: u32 = 8;
/// `enum ggml_type`.
const GGML_F32: u32 = 0;

/// Writes an adapter that llama.cpp loads with `--lora`. `architecture` is the base model's
/// `general.architecture`; `alpha` is LoRA's alpha, not yet divided by the rank; `prompt` are the words
/// around questions.
///
/// # Errors
/// [`StoreError::Unstorable`] if a matrix's data does not fit its shape, [`StoreError::Io`] if the
/// file cannot be written.
pub fn write_gguf_lora(
    path: &Path,
    architecture: &str,
    alpha: f32,
    tensors: &LoraTensors,
    prompt: &Wording,
) -> Result<(), StoreError> {
    let strings = [
        ("general.type", "adapter"),
        ("general.architecture", architecture),
        ("adapter.type", "lora"),
        ("adapter.lora.prompt_prefix", &prompt.prefix),
        ("latrod.system_prompt", &prompt.system),
        ("latrod.prompt_suffix", &prompt.suffix),
    ];
    let head = head_of(&strings, alpha, tensors)?;
    write_atomic(path, |w| {
        w.write_all(&head)?;
        for matrix in tensors.values() {
            for_each_chunk(&matrix.data, |bytes| w.write_all(bytes))?;
            pad(w, matrix.data.len() * size_of::<f32>())?;
        }
        Ok(())
    })
}

/// Everything before the tensors' data: header, metadata (of `strings` those that say something),
/// tensor table, padding.
fn head_of(
    strings: &[(&str, &str)],
    alpha: f32,
    tensors: &LoraTensors,
) -> Result<Vec<u8>, StoreError> {
    let strings = || strings.iter().filter(|(_, value)| !value.is_empty());
    let mut head = b"GGUF".to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((strings().count() as u64 + 1).to_le_bytes());
    for (key, value) in strings() {
        put_string(&mut head, key);
        head.extend(TYPE_STRING.to_le_bytes());
        put_string(&mut head, value);
    }
    put_string(&mut head, "adapter.lora.alpha");
    head.extend(TYPE_FLOAT32.to_le_bytes());
    head.extend(alpha.to_le_bytes());

    let mut offset = 0;
    for (&key, matrix) in tensors {
        let name = gguf_name(key);
        if matrix.rows.checked_mul(matrix.cols) != Some(matrix.data.len()) {
            return Err(StoreError::Unstorable {
                what: format!("tensor {name}"),
                reason: "its data does not fit its shape".into(),
            });
        }
        put_string(&mut head, &name);
        head.extend(2_u32.to_le_bytes());
        // ggml names the fastest dimension first.
        head.extend((matrix.cols as u64).to_le_bytes());
        head.extend((matrix.rows as u64).to_le_bytes());
        head.extend(GGML_F32.to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += (matrix.data.len() * size_of::<f32>()).next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    Ok(head)
}

fn gguf_name(key: LoraKey) -> String {
    let factor = match key.factor {
        Factor::A => 'a',
        Factor::B => 'b',
    };
    format!("blk.{}.{}.weight.lora_{factor}", key.layer, key.target.gguf_name())
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Fills up after `written` bytes of data.
fn pad(w: &mut dyn Write, written: usize) -> io::Result<()> {
    w.write_all(&[0; ALIGNMENT][..written.next_multiple_of(ALIGNMENT) - written])
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use candle_core::quantized::gguf_file::Content;
    use candle_core::{DType, Device};

    use super::*;
    use crate::arch::lora::{Matrix, Target};

    #[test]
    fn candle_reads_what_is_written_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adapter.gguf");
        let a = LoraKey { layer: 0, target: Target::O, factor: Factor::A };
        let b = LoraKey { layer: 0, target: Target::O, factor: Factor::B };
        let tensors = LoraTensors::from([
            (a, Matrix { rows: 1, cols: 3, data: vec![1.0, 2.0, 3.0] }),
            (b, Matrix { rows: 2, cols: 1, data: vec![4.0, 5.0] }),
        ]);

        let prompt = Wording { prefix: "Q: ".into(), suffix: " A".into(), ..Wording::default() };
        write_gguf_lora(&path, "llama", 16.0, &tensors, &prompt).unwrap();

        let mut file = File::open(&path).unwrap();
        let content = Content::read(&mut file).unwrap();
        let text = |key: &str| content.metadata[key].to_string().unwrap().clone();
        assert_eq!(text("general.type"), "adapter");
        assert_eq!(text("general.architecture"), "llama");
        assert_eq!(text("adapter.type"), "lora");
        assert_eq!(text("adapter.lora.prompt_prefix"), "Q: ");
        assert_eq!(text("latrod.prompt_suffix"), " A");
        assert!(!content.metadata.contains_key("latrod.system_prompt"));
        let alpha = content.metadata["adapter.lora.alpha"].to_f32().unwrap();
        assert_eq!(alpha.to_bits(), 16_f32.to_bits());
        for (name, key) in
            [("blk.0.attn_output.weight.lora_a", a), ("blk.0.attn_output.weight.lora_b", b)]
        {
            let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
            let tensor = tensor.dequantize(&Device::Cpu).unwrap();
            let expected = &tensors[&key];
            assert_eq!(tensor.dims(), [expected.rows, expected.cols]);
            let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
            assert_eq!(values.to_vec1::<f32>().unwrap(), expected.data);
        }
    }
}
