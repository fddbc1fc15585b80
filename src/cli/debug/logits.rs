//! `latrod debug logits`: the logits at every position of given token sequences.

use std::path::PathBuf;

use candle_core::{Device, Tensor};

use crate::cli::CliError;
use crate::cli::common::{failed, load_adapter, load_model, usage};
use crate::kernels::Compute;
use crate::model::interrupt::Interrupt;
use crate::model::transformer::Keys;
use crate::ops::attention::{AttentionPlan, Segment};
use crate::ops::with_values;

/// The largest file of ids that is read.
const MAX_IDS_BYTES: u64 = 1 << 28;

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
    #[arg(long, value_enum, default_value_t = Compute::Exact)]
    compute: Compute,
    /// The .npy file to write
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Unusable files (exit code 64), a failing computation or an unwritable file (1).
pub fn run(args: Args) -> Result<(), CliError> {
    let shown = args.ids.display();
    let size = std::fs::metadata(&args.ids).map_err(|e| usage(format!("{shown}: {e}")))?.len();
    if size > MAX_IDS_BYTES {
        return Err(usage(format!("{shown} is larger than {MAX_IDS_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(&args.ids).map_err(|e| usage(format!("{shown}: {e}")))?;
    let lists: Vec<Vec<u32>> =
        serde_json::from_str(&text).map_err(|e| usage(format!("{shown}: {e}")))?;
    let (file, model) = load_model(&args.model, args.compute)?;
    let adapter = args.adapter.as_ref().map(|dir| load_adapter(dir, &file, &model)).transpose()?;
    let lora = adapter.as_ref().map(crate::model::adapter::Adapter::frozen);
    let vocabulary = model.spec.vocab;
    let mut all = Vec::new();
    for ids in lists.iter().filter(|ids| !ids.is_empty()) {
        if ids.len() > model.spec.context_length {
            let context = model.spec.context_length;
            let n = ids.len();
            return Err(usage(format!("{shown}: a list of {n} ids; the context holds {context}")));
        }
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let segment = Segment { rows: ids.len(), seen: vec![], own: Some(0) };
        let rows = model.rows(&positions, AttentionPlan { segments: vec![segment] });
        let hidden =
            model.hidden(ids, &rows, Keys::Pass, lora, &Interrupt::new()).map_err(usage)?;
        let start = all.len();
        all.resize(start + ids.len() * vocabulary, 0.0);
        with_values(&hidden, |hidden| {
            model.head().matmul(model.compute, hidden, ids.len(), &mut all[start..]);
        })
        .map_err(failed)?;
    }
    let rows = all.len() / vocabulary;
    Tensor::from_vec(all, (rows, vocabulary), &Device::Cpu)
        .and_then(|logits| logits.write_npy(&args.out))
        .map_err(|e| failed(format!("{}: {e}", args.out.display())))
}
