//! `latrod debug logits`: the logits at every position of given token sequences.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::shared::choice::choice;
use crate::cli::shared::common::{load_adapter, load_model, usage};
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, Input, ModelError, with_engine};
use crate::kernels::{Compute, Floats};
use crate::store::write_atomic;

/// The largest file of ids that is read.
const MAX_IDS_BYTES: u64 = 1 << 28;
/// Rows of logits that exist at a time.
const CHUNK_ROWS: usize = 256;

/// Write the logits at every position of given token sequences as a NumPy file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The ids are a JSON list of lists, used as they are (no token is added). The result is a float32
array [sum of lengths, vocabulary].

Example:
  echo '[[1, 4093, 198], [1, 504]]' > ids.json
  latrod debug logits --model smol.gguf --ids ids.json --out logits.npy")]
pub struct Args {
    /// The GGUF model
    #[arg(long)]
    model: PathBuf,
    /// A JSON list of lists of token ids
    #[arg(long)]
    ids: PathBuf,
    /// A PEFT adapter folder
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// exact: f32; fast: activations rounded to 8 bits
    #[arg(long, value_parser = choice::<Compute>(), default_value = "exact")]
    compute: Compute,
    /// Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)
    #[arg(long, value_parser = choice::<DeviceKind>(), default_value = "cpu")]
    device: DeviceKind,
    /// The .npy file to write
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Unusable files (exit code 64), a failing computation or an unwritable file (1).
pub fn run(args: &Args) -> Result<(), CliError> {
    with_engine!(args.device, E => run_on::<E>(args))
}

fn run_on<E: Engine>(args: &Args) -> Result<(), CliError> {
    let lists = read_lists(&args.ids)?;
    let (file, model) = load_model::<E>(&args.model, args.compute, args.device)?;
    let context = model.spec().context_length;
    if let Some(long) = lists.iter().find(|ids| ids.len() > context) {
        let (shown, n) = (args.ids.display(), long.len());
        return Err(usage(format!("{shown}: a list of {n} ids; the context holds {context}")));
    }
    let adapter = args.adapter.as_ref().map(|dir| load_adapter(dir, &file, &model)).transpose()?;
    let lora = adapter.as_ref();
    let rows = lists.iter().map(Vec::len).sum();
    let mut wrong = None;
    let written = write_atomic(&args.out, |out| {
        out.write_all(&npy_header(rows, model.spec().vocab))?;
        for ids in lists.iter().filter(|ids| !ids.is_empty()) {
            if let Err(error) = write_logits(&model, lora, ids, out)? {
                wrong = Some(error);
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        Ok(())
    });
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok(written?),
    }
}

fn read_lists(path: &Path) -> Result<Vec<Vec<u32>>, CliError> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|e| usage(format!("{shown}: {e}")))?.len();
    if size > MAX_IDS_BYTES {
        return Err(usage(format!("{shown} is larger than {MAX_IDS_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| usage(format!("{shown}: {e}")))?;
    serde_json::from_str(&text).map_err(|e| usage(format!("{shown}: {e}")))
}

/// Computes one list and writes its logits. The outer error is the file's, the inner the model's.
fn write_logits<E: Engine>(
    model: &E,
    lora: Option<&E::Adapter>,
    ids: &[u32],
    out: &mut dyn Write,
) -> io::Result<Result<(), ModelError>> {
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let input = Input::causal(ids, &positions);
    let hidden = match model.hidden(input, None, lora, &Interrupt::new()) {
        Ok(hidden) => hidden,
        Err(error) => return Ok(Err(error)),
    };
    let rows: Vec<usize> = (0..ids.len()).collect();
    let mut logits = Floats::default();
    for rows in rows.chunks(CHUNK_ROWS) {
        if let Err(error) = model.logits(&hidden, rows, &mut logits) {
            return Ok(Err(error));
        }
        let bytes: Vec<u8> = logits.iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
        out.write_all(&bytes)?;
    }
    Ok(Ok(()))
}

/// What a NumPy file of float32 `[rows, columns]` begins with (NumPy's format, version 1.0): magic,
/// version, length of the description, and the description padded to a multiple of 64 bytes.
fn npy_header(rows: usize, columns: usize) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let before = 10;
    while !(before + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.bytes());
    header
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;

    #[test]
    fn the_file_is_what_candle_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logits.npy");
        let values: Vec<f32> = (0..6).map(|i| i as f32 - 2.5).collect();

        let mut bytes = npy_header(2, 3);
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        std::fs::write(&path, bytes).unwrap();

        let read = Tensor::read_npy(&path).unwrap();
        assert_eq!(read.to_vec2::<f32>().unwrap(), [values[..3].to_vec(), values[3..].to_vec()]);
        assert_eq!(npy_header(1, 49152).len() % 64, 0);
    }
}
