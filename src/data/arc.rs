//! Multiple choice in the form of ARC (Clark et al. 2018, arXiv 1803.05457).
//!
//! The prompt is the question, an empty line, and each choice on a line of its own, "A. …", with the
//! labels of the file, which is how people and instruction data write such questions. The answer is
//! the label alone: it can be judged without doubt, and its likelihood doesn't depend on how long a
//! choice is.

use std::fmt::Write;

use serde_json::Value;

use super::parse::text_of;
use super::{RejectReason, Task};

/// As many choices as there are letters.
const MAX_CHOICES: usize = 26;
/// Longest label, in bytes.
const MAX_LABEL: usize = 8;

/// A task from the fields of a line.
///
/// `question` is a text, or an object with the text as `stem` and maybe the `choices`. `choices` is
/// `{"text": […], "label": […]}`, `[{"text": …, "label": …}, …]`, or a list of texts, which get the
/// labels A, B, C ….
pub(super) fn task(
    question: Option<Value>,
    choices: Option<Value>,
    answer_key: Option<Value>,
) -> Result<Task, RejectReason> {
    let (stem, choices) = match question {
        Some(Value::Object(mut object)) => {
            (object.shift_remove("stem"), choices.or_else(|| object.shift_remove("choices")))
        }
        other => (other, choices),
    };
    let mut question = text_of(stem, "question")?;
    let key = text_of(answer_key, "answerKey")?;
    let choices = labeled(choices.ok_or(RejectReason::MissingField { field: "choices" })?)?;
    if !(2..=MAX_CHOICES).contains(&choices.len()) {
        return Err(RejectReason::BadChoices { what: "there must be 2 to 26" });
    }
    question.push('\n');
    for (n, (label, text)) in choices.iter().enumerate() {
        if label.len() > MAX_LABEL || choices[..n].iter().any(|(other, _)| other == label) {
            return Err(RejectReason::BadChoices { what: "a label is too long or used twice" });
        }
        // On one line, so that no text can pass for another choice.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // Writing to a String cannot fail.
        let _ = write!(question, "\n{label}. {text}");
    }
    if !choices.iter().any(|(label, _)| *label == key) {
        return Err(RejectReason::UnknownAnswerKey);
    }
    Ok(Task::new(question, key))
}

/// Label and text of each choice.
fn labeled(choices: Value) -> Result<Vec<(String, String)>, RejectReason> {
    const WRONG: RejectReason =
        RejectReason::BadChoices { what: "they are not a list of texts with labels" };
    let text = |value: Option<Value>| text_of(value, "choices");
    match choices {
        Value::Object(mut lists) => {
            match (lists.shift_remove("label"), lists.shift_remove("text")) {
                (Some(Value::Array(labels)), Some(Value::Array(texts)))
                    if labels.len() == texts.len() =>
                {
                    let pairs = labels.into_iter().zip(texts);
                    pairs.map(|(l, t)| Ok((text(Some(l))?, text(Some(t))?))).collect()
                }
                _ => Err(WRONG),
            }
        }
        Value::Array(list) if list.len() <= MAX_CHOICES => list
            .into_iter()
            .zip('A'..='Z')
            .map(|(choice, letter)| match choice {
                Value::Object(mut one) => {
                    Ok((text(one.shift_remove("label"))?, text(one.shift_remove("text"))?))
                }
                other => Ok((letter.to_string(), text(Some(other))?)),
            })
            .collect(),
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::parse::parse_line;
    use crate::data::{RejectReason as R, Task};

    fn parse(line: &str) -> Result<Task, R> {
        parse_line(line.as_bytes()).unwrap()
    }

    #[test]
    fn all_spellings_of_arc_give_the_same_task() {
        let expected = Task::new("Which is a metal?\n\nA. iron\nB. dry wood".into(), "A".into());
        for line in [
            r#"{"id": "x", "question": "Which is a metal?", "choices": {"text": ["iron", "dry\nwood"], "label": ["A", "B"]}, "answerKey": "A"}"#,
            r#"{"question": "Which is a metal?", "choices": [{"text": "iron", "label": "A"}, {"text": "dry wood", "label": "B"}], "answerKey": "A"}"#,
            r#"{"question": {"stem": "Which is a metal?", "choices": [{"label": "A", "text": "iron"}, {"label": "B", "text": "dry wood"}]}, "answerKey": "A"}"#,
            r#"{"question": "Which is a metal?", "choices": ["iron", "dry wood"], "answerKey": "A"}"#,
        ] {
            assert_eq!(parse(line), Ok(expected.clone()), "{line}");
        }
    }

    #[test]
    fn labels_may_be_digits() {
        let line = r#"{"question": "q", "choices": {"text": ["x", "y"], "label": [1, 2]}, "answerKey": 2}"#;

        let task = Task::new("q\n\n1. x\n2. y".into(), "2".into());
        assert_eq!(parse(line), Ok(task));
    }

    #[test]
    fn unusable_choices_have_their_reasons() {
        let labels = R::BadChoices { what: "a label is too long or used twice" };
        let list = R::BadChoices { what: "they are not a list of texts with labels" };
        let cases = [
            (r#"["x", "y"]"#, "\"C\"", R::UnknownAnswerKey),
            (r#"["x"]"#, "\"A\"", R::BadChoices { what: "there must be 2 to 26" }),
            (r#"{"text": ["x", "y"], "label": ["A", "A"]}"#, "\"A\"", labels.clone()),
            (r#"{"text": ["x", "y"], "label": ["A", "a long label"]}"#, "\"A\"", labels),
            (r#"{"text": ["x", "y"], "label": ["A"]}"#, "\"A\"", list.clone()),
            ("7", "\"A\"", list),
            (r#"["x", ""]"#, "\"A\"", R::EmptyField { field: "choices" }),
            (r#"["x", [1]]"#, "\"A\"", R::WrongType { field: "choices" }),
            ("null", "\"A\"", R::MissingField { field: "choices" }),
        ];
        for (choices, key, reason) in cases {
            let line = format!(r#"{{"question": "q", "choices": {choices}, "answerKey": {key}}}"#);
            assert_eq!(parse(&line), Err(reason), "{line}");
        }
        let missing = parse(r#"{"question": {"stem": "q"}, "choices": ["x", "y"]}"#);
        assert_eq!(missing, Err(R::MissingField { field: "answerKey" }));
    }
}
