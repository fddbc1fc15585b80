//! The tokenizer and the prompts of the tiny model, against llama.cpp's ids for the same file.
//!
//! `scripts/tokenizer_lines.py --ids` made tests/fixtures/tiny-tokens.jsonl.

use std::path::{Path, PathBuf};

#[cfg(feature = "debug")]
use assert_cmd::Command;
use latrod::gguf::GgufFile;
use latrod::latro::prompt::{Finish, Prompter};
use latrod::text::tokenizer::Tokenizer;
use latrod::text::{TextFormat, Wording};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tiny() -> GgufFile {
    GgufFile::open(&fixture("tiny.gguf")).expect("the fixture is valid")
}

/// The text of each line, and its ids without and with special tokens.
fn llama_cpp_lines() -> Vec<(String, [Vec<u32>; 2])> {
    let ids = |v: &Value| -> Vec<u32> { serde_json::from_value(v.clone()).unwrap() };
    let lines = std::fs::read_to_string(fixture("tiny-tokens.jsonl")).unwrap();
    let line = |line: &str| {
        let v: Value = serde_json::from_str(line).unwrap();
        (v["text"].as_str().unwrap().to_owned(), [ids(&v["ids"]), ids(&v["special_ids"])])
    };
    lines.lines().map(line).collect()
}

#[test]
fn ids_equal_those_of_llama_cpp() {
    let tokenizer = Tokenizer::from_gguf(&tiny()).unwrap();
    let lines = llama_cpp_lines();
    assert_eq!(lines.len(), 200);

    for (text, [plain, special]) in lines {
        assert_eq!(tokenizer.encode_document(&text, false).unwrap(), plain, "{text:?}");
        assert_eq!(tokenizer.encode_document(&text, true).unwrap(), special, "{text:?}");
    }
}

#[cfg(feature = "debug")]
#[test]
fn the_command_prints_what_the_library_says_and_takes_it_back() {
    let (text, [ids, _]) = llama_cpp_lines().swap_remove(0);
    let run = |command: &str, input: String| -> Value {
        let mut latrod = Command::cargo_bin("latrod").unwrap();
        latrod.args(["debug", command, "--model"]).arg(fixture("tiny.gguf"));
        let output = latrod.write_stdin(input).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    };

    let tokens = run("tokenize", text.clone());
    assert_eq!(tokens["ids"], Value::from(ids));

    let back = run("detokenize", tokens.to_string());
    assert_eq!(back["text"], Value::from(text));
}

#[cfg(feature = "debug")]
#[test]
fn the_command_refuses_bad_input_with_exit_code_64() {
    for (command, input) in [
        ("tokenize", &b"a\nb\xFF\n"[..]),
        ("detokenize", b"[1]\n[4096]\n"),
        ("detokenize", b"1\n2"),
    ] {
        let mut latrod = Command::cargo_bin("latrod").unwrap();
        latrod.args(["debug", command, "--model"]).arg(fixture("tiny.gguf")).write_stdin(input);
        let output = latrod.assert().code(64).get_output().stderr.clone();
        let message = String::from_utf8(output).unwrap();
        assert!(message.starts_with("latrod: line "), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_task_becomes_a_chat_and_a_rationale_ends_where_it_should() {
    let prompter =
        Prompter::new(TextFormat::from_gguf(&tiny()).unwrap(), Wording::default()).unwrap();
    let tokenizer = prompter.tokenizer();
    let text = |ids: &[u32]| String::from_utf8(tokenizer.decode(ids, true)).unwrap();

    assert_eq!(
        text(&prompter.prompt("What is 3 plus 4?").unwrap()),
        "<|im_start|>user\nWhat is 3 plus 4?<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let answer = prompter.answer("7").unwrap();
    assert_eq!(text(&answer), "\nThe answer is 7.<|im_end|>");
    assert_eq!(text(&answer[prompter.answer_span("7").unwrap()]).trim(), "7");

    let generated = tokenizer.encode("3 plus 4 makes 7. The answer is 7.", false).unwrap();
    let cut = prompter.cut(&generated);
    assert_eq!(cut.finish, Finish::Announced);
    assert_eq!(text(&generated[..cut.len]).trim_end(), "3 plus 4 makes 7.");
    let mut watch = prompter.watch();
    assert!(generated.iter().any(|&id| watch.push(id) == Some(Finish::Announced)));
}
