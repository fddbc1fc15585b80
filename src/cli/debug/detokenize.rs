//! `latrod debug detokenize`: the text of token ids.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::tokenize::{convert_lines, open};
use crate::cli::CliError;

/// Print the text of each line of token ids on standard input.
///
/// A line is a JSON list of ids, or an object with such a list under "ids", as `tokenize` prints
/// it. One JSON line {"ids", "text", "hex"} comes out for each; "hex" holds the exact bytes (in
/// "text" bytes that are not UTF-8 become U+FFFD). Blank lines are skipped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    echo '[19556, 905]' | latrod debug detokenize --model smol.gguf")]
pub struct Args {
    /// The model, a GGUF file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Print control tokens such as `<|im_end|>`.
    #[arg(long)]
    special: bool,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be used, or a line that is no list of ids of its vocabulary.
pub fn run(args: Args) -> Result<(), CliError> {
    let tokenizer = open(&args.model)?;
    convert_lines(|line, out| {
        if line.trim().is_empty() {
            return Ok(());
        }
        let ids = parse_ids(line)?;
        for &id in &ids {
            tokenizer.token_bytes(id).map_err(|e| format!("is wrong: {e}"))?;
        }
        let bytes = tokenizer.decode(&ids, args.special);
        let text = Value::from(String::from_utf8_lossy(&bytes));
        let hex = bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = write!(out, "{{\"ids\": {ids:?}, \"text\": {text}, \"hex\": \"{hex}\"}}");
        Ok(())
    })
}

/// The ids of a line: a list, or an object with "ids".
fn parse_ids(line: &str) -> Result<Vec<u32>, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("is no JSON ({e})"))?;
    let list = value.get("ids").unwrap_or(&value);
    let ids = list.as_array().and_then(|list| {
        list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
    });
    ids.ok_or_else(|| "is no list of token ids".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_objects_are_read() {
        assert_eq!(parse_ids("[1, 2]").unwrap(), [1, 2]);
        assert!(parse_ids(r#"{"text": "x", "ids": []}"#).unwrap().is_empty());
        for wrong in ["", "[-1]", "[1.5]", "[\"1\"]", "{}", "7", "[4294967296]"] {
            assert!(parse_ids(wrong).is_err(), "{wrong}");
        }
    }
}
