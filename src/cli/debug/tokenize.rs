//! `latrod debug tokenize`: token ids of lines of text.

use std::io::{BufRead, Read, Write};
use std::path::PathBuf;

use crate::cli::CliError;
use crate::gguf::GgufFile;
use crate::text::tokenizer::Tokenizer;

/// The longest line of standard input, in bytes.
const LONGEST_LINE: usize = 16 << 20;

/// Print the token ids of each line of standard input.
///
/// One JSON line {"text", "ids"} comes out for each line that goes in. BOS and EOS are added where
/// the model's metadata asks for them. The ids are those of llama.cpp.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    printf 'Hello world\\n48 + 5\\n' | latrod debug tokenize --model smol.gguf\n  \
    printf '\"two\\\\nlines<|im_end|>\"\\n' | latrod debug tokenize --model smol.gguf --special --json")]
pub struct Args {
    /// The model, a GGUF file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Read control tokens such as `<|im_end|>` in the text as themselves, not as plain text.
    #[arg(long)]
    special: bool,
    /// Each input line is a JSON string, so that a text may contain newlines.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be used, or a line that is no text.
pub fn run(args: Args) -> Result<(), CliError> {
    let tokenizer = open(&args.model)?;
    convert_lines(|line, out| {
        let unescaped;
        let text = if args.json {
            unescaped = serde_json::from_str::<String>(line)
                .map_err(|e| format!("is no JSON string ({e})"))?;
            unescaped.as_str()
        } else {
            line
        };
        let ids =
            tokenizer.encode_document(text, args.special).map_err(|e| format!("failed: {e}"))?;
        let _ = write!(out, "{{\"text\": {}, \"ids\": {ids:?}}}", serde_json::Value::from(text));
        Ok(())
    })
}

/// The tokenizer of a model file.
pub(super) fn open(model: &std::path::Path) -> Result<Tokenizer, CliError> {
    let file = GgufFile::open(model).map_err(|e| CliError::Usage(e.to_string()))?;
    Tokenizer::from_gguf(&file).map_err(|e| CliError::Usage(e.to_string()))
}

/// Turns each line of standard input into one of standard output. `convert` appends to the output,
/// where nothing means no line, or says what is wrong with the line.
pub(super) fn convert_lines(
    convert: impl Fn(&str, &mut Vec<u8>) -> Result<(), String>,
) -> Result<(), CliError> {
    convert_from(&mut std::io::stdin().lock(), &mut std::io::stdout().lock(), convert)
}

fn convert_from(
    input: &mut impl BufRead,
    output: &mut impl Write,
    convert: impl Fn(&str, &mut Vec<u8>) -> Result<(), String>,
) -> Result<(), CliError> {
    let (mut line, mut out) = (Vec::new(), Vec::new());
    for number in 1u64.. {
        let wrong =
            |problem: String| CliError::Usage(format!("line {number} of standard input {problem}"));
        line.clear();
        let read = input.by_ref().take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut line);
        if read.map_err(|e| CliError::Failed(format!("cannot read standard input: {e}")))? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > LONGEST_LINE {
            return Err(wrong(format!("has more than {LONGEST_LINE} bytes; split it")));
        }
        let text = std::str::from_utf8(&line)
            .map_err(|e| wrong(format!("is no UTF-8 from byte {} on", e.valid_up_to())))?;
        out.clear();
        convert(text, &mut out).map_err(wrong)?;
        if out.is_empty() {
            continue;
        }
        out.push(b'\n');
        match output.write_all(&out).and_then(|()| output.flush()) {
            // Whoever reads has seen enough, as in `| head`.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => break,
            result => result
                .map_err(|e| CliError::Failed(format!("cannot write to standard output: {e}")))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(input: &[u8]) -> Result<String, String> {
        let mut output = Vec::new();
        let convert = |line: &str, out: &mut Vec<u8>| {
            if line == "bad" {
                return Err("is bad".into());
            }
            out.extend(line.to_uppercase().bytes());
            Ok(())
        };
        convert_from(&mut &input[..], &mut output, convert).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn each_line_gives_one_line_or_none() {
        assert_eq!(upper(b"a\n\nb\r\nc").unwrap(), "A\nB\r\nC\n");
        assert_eq!(upper(b"").unwrap(), "");
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(upper(b"a\nbad\n").unwrap_err(), "line 2 of standard input is bad");
        assert_eq!(
            upper(b"a\nb\xff\n").unwrap_err(),
            "line 2 of standard input is no UTF-8 from byte 1 on"
        );
        let long = vec![b'x'; LONGEST_LINE + 1];
        assert!(upper(&long).unwrap_err().contains("line 1 of standard input has more than"));
    }
}
