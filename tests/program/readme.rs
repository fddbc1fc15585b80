//! The README's examples, run as they stand there.

use std::path::Path;
use std::process::Command;

use latrod::gguf::GgufFile;
use latrod::latro::prompt::Prompter;
use latrod::store::{AdapterManifest, Training};
use latrod::text::chat::{ChatTemplate, Message};
use latrod::text::{TextFormat, Wording};
use serde_json::Value;

const README: &str = include_str!("../../README.md");

/// The first block in a language that holds `part`.
fn example(language: &str, part: &str) -> &'static str {
    let opening = format!("```{language}\n");
    let blocks = README.split(&opening).skip(1).filter_map(|text| text.split("\n```").next());
    blocks.into_iter().find(|block| block.contains(part)).expect("the README has it")
}

fn tiny() -> GgufFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
    GgufFile::open(&path).unwrap()
}

/// What follows the imports asks an adapter in PEFT with the prompt that it was trained with.
#[test]
fn peft_gets_the_prompt_that_the_adapter_was_trained_with() {
    let wordings = [
        Wording::default(),
        Wording {
            system: "Be brief.".into(),
            prefix: "Q: ".into(),
            suffix: "\n{Think} 'first'.".into(),
        },
    ];
    for prompt in wordings {
        let folder = tempfile::tempdir().unwrap();
        let training = Training {
            method: "latro".into(),
            prompt: prompt.clone(),
            tasks_sha256: String::new(),
            settings: Value::Null,
        };
        let manifest = AdapterManifest::new(&"0".repeat(64), "tiny").with_training(Some(training));
        let adapter = folder.path().join("my-adapter");
        std::fs::create_dir(&adapter).unwrap();
        manifest.write(&adapter).unwrap();
        let question = "What is 2 + 3?";
        let program = format!(
            "question = {question:?}\n{}\nprint(json.dumps(messages))",
            example("python", "latrod.json")
        );

        let ran = Command::new("python3").args(["-c", &program]).current_dir(&folder).output();
        let ran = ran.expect("python3 is there: scripts/setup.sh");

        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let said: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
        let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
        let messages: Vec<Message> = said
            .iter()
            .map(|m| Message { role: text(m, "role"), content: text(m, "content") })
            .collect();
        let TextFormat { tokenizer, template } = TextFormat::from_gguf(&tiny()).unwrap();
        let rendered = template.as_ref().map(|t: &ChatTemplate| t.render(&messages, true));
        let theirs = tokenizer.encode(&rendered.unwrap().unwrap(), true).unwrap();
        let format = TextFormat { tokenizer, template };
        let ours = Prompter::new(format, prompt).unwrap().prompt(question).unwrap();
        assert_eq!(theirs, ours);
    }
}
