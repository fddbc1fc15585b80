//! One line of JSON to one task, or the reason why not. Reasons never contain text of the task.
//!
//! | fields | format |
//! |---|---|
//! | `question`, `answer` | plain; an answer that ends in `#### n` (GSM8K) is n |
//! | `question`, `choices`, `answerKey` | multiple choice as in ARC: [`super::arc`] |
//! | `messages` | a conversation: [`super::chat`] |
//!
//! `answer_kind` may stand beside them all: how answers are judged. Other fields are ignored.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;
use serde_json::{Number, Value};

use super::{AnswerKind, Task, arc, chat};

/// Why a line was set aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// Longer than [`super::TaskLimits::max_line_bytes`].
    #[error("the line is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the line is not UTF-8 text")]
    InvalidUtf8,
    /// `column` counts bytes from 1.
    #[error("the line is not valid JSON at column {column}")]
    BrokenJson { column: usize },
    #[error("the line is not an object with one question and one answer")]
    NotAnObject,
    #[error("the field {field:?} is missing")]
    MissingField { field: &'static str },
    #[error("the field {field:?} is neither text nor a number")]
    WrongType { field: &'static str },
    #[error("the field {field:?} is empty")]
    EmptyField { field: &'static str },
    /// JSON numbers of that size are read with rounding.
    #[error("the field {field:?} is a number too long to keep every digit; write it as text")]
    InexactNumber { field: &'static str },
    #[error("the choices cannot be used: {what}")]
    BadChoices { what: &'static str },
    #[error("the answer key is not one of the choices' labels")]
    UnknownAnswerKey,
    #[error("the messages cannot be used: {what}")]
    BadMessages { what: &'static str },
    #[error("the answer_kind is none of auto, number, choice, text and exact")]
    UnknownAnswerKind,
    /// Said of the whole file.
    #[error("the file is one JSON array; write each object on its own line")]
    JsonArray,
    /// Said of the whole file.
    #[error("the first line of the CSV file does not name the columns \"question\" and \"answer\"")]
    NoHeader,
    #[error("the CSV row has {found} fields where the header has {expected}")]
    FieldCount { expected: usize, found: usize },
    #[error("the CSV row begins a quoted text that does not end")]
    UnclosedQuote,
    /// More good tasks than [`super::TaskLimits::max_tasks`].
    #[error("there are already {limit} tasks")]
    TooManyTasks { limit: usize },
    /// More text than [`super::TaskLimits::max_text_bytes`].
    #[error("the tasks before it already hold {limit} bytes of text")]
    TooMuchText { limit: usize },
}

impl RejectReason {
    /// Whether nothing in the file can be used, so that a person must change the file.
    #[must_use]
    pub fn is_of_file(&self) -> bool {
        matches!(self, Self::JsonArray | Self::NoHeader)
    }
}

/// The fields that count.
#[derive(Deserialize)]
struct Fields {
    question: Option<Value>,
    answer: Option<Value>,
    choices: Option<Value>,
    #[serde(rename = "answerKey")]
    answer_key: Option<Value>,
    messages: Option<Value>,
    answer_kind: Option<Value>,
}

/// Reads a line. `None` if it is blank.
pub(super) fn parse_line(line: &[u8]) -> Option<Result<Task, RejectReason>> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Some(Err(RejectReason::InvalidUtf8));
    };
    let text = text.trim();
    (!text.is_empty()).then(|| parse_object(text))
}

fn parse_object(text: &str) -> Result<Task, RejectReason> {
    // Asked for by hand, since a struct may also be read from a JSON array.
    if serde_json::from_str::<IgnoredAny>(text).is_ok() && !text.starts_with('{') {
        return Err(RejectReason::NotAnObject);
    }
    let fields: Fields = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => RejectReason::NotAnObject,
        _ => RejectReason::BrokenJson { column: error.column() },
    })?;
    let Fields { question, answer, choices, answer_key, messages, answer_kind } = fields;
    let answer_kind = answer_kind.map(kind_of).transpose()?;
    let task = if let Some(messages) = messages {
        chat::task(messages)?
    } else if answer_key.is_some() || matches!(question, Some(Value::Object(_))) {
        arc::task(question, choices, answer_key)?
    } else {
        let question = text_of(question, "question")?;
        derived(question, &text_of(answer, "answer")?)
    };
    Ok(Task { answer_kind, ..task })
}

/// The kind of answer that a field names.
pub(super) fn kind_of(field: Value) -> Result<AnswerKind, RejectReason> {
    let Value::String(word) = field else { return Err(RejectReason::UnknownAnswerKind) };
    word.trim().parse().map_err(|_| RejectReason::UnknownAnswerKind)
}

/// The text of a field, without surrounding white space.
pub(super) fn text_of(field: Option<Value>, name: &'static str) -> Result<String, RejectReason> {
    match field {
        None => Err(RejectReason::MissingField { field: name }),
        Some(Value::String(text)) => match text.trim() {
            "" => Err(RejectReason::EmptyField { field: name }),
            trimmed => Ok(trimmed.to_owned()),
        },
        Some(Value::Number(number)) if is_exact(&number) => Ok(number.to_string()),
        Some(Value::Number(_)) => Err(RejectReason::InexactNumber { field: name }),
        Some(_) => Err(RejectReason::WrongType { field: name }),
    }
}

/// A task whose answer may be written as in GSM8K: a derivation and, behind the last `####`, the
/// answer, if that is the end of the text and on one line. The derivation is the task's rationale,
/// without the notes for a calculator, `<<48/2=24>>`. Commas between groups of three digits of the
/// answer go (`1,234` is `1234`), as in GSM8K's own evaluation; for judging answers they make no
/// difference.
pub(super) fn derived(question: String, text: &str) -> Task {
    let marked = text.rsplit_once("####").filter(|(before, after)| {
        (before.is_empty() || before.ends_with(char::is_whitespace))
            && !after.trim().is_empty()
            && !after.trim().contains('\n')
    });
    match marked {
        Some((before, after)) => {
            let rationale = Some(without_notes(before.trim())).filter(|text| !text.is_empty());
            Task { rationale, ..Task::new(question, without_separators(after.trim())) }
        }
        None => Task::new(question, text.to_owned()),
    }
}

/// A derivation without what stands in `<<` and `>>`.
fn without_notes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        let Some((_, behind)) = after.split_once(">>") else { break };
        kept.push_str(before);
        rest = behind;
    }
    kept + rest
}

fn without_separators(text: &str) -> String {
    let digits = text.trim_start_matches(['-', '+', '$']);
    let whole = digits.split('.').next().unwrap_or_default();
    let mut groups = whole.split(',');
    let all_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let first = groups.next().is_some_and(|g| (1..=3).contains(&g.len()) && all_digits(g));
    if first && groups.all(|group| group.len() == 3 && all_digits(group)) {
        text.replace(',', "")
    } else {
        text.to_owned()
    }
}

/// Whether the number's text is surely the one that was written (up to zeros at its end). Larger
/// whole numbers have become floating-point ones.
fn is_exact(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|value| value.abs() < 1e15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Task, RejectReason> {
        parse_line(line.as_bytes()).expect("the line is not blank")
    }

    #[test]
    fn texts_and_numbers_are_answers() {
        let cases = [
            (r#"{"question": "1+1?", "answer": "2"}"#, "2"),
            (r#"{"answer": 2, "question": "1+1?"}"#, "2"),
            (r#"{"question": "1+1?", "answer": -0.5, "metadata": {"x": [1]}}"#, "-0.5"),
            ("{\"question\": \" 1+1?\\n\", \"answer\": \" 2 \"}\r", "2"),
            (r#"{"question": "1+1?", "answer": 18446744073709551615}"#, "18446744073709551615"),
        ];
        for (line, answer) in cases {
            assert_eq!(parse(line), Ok(Task::new("1+1?".into(), answer.into())));
        }
    }

    #[test]
    fn every_kind_of_bad_line_has_its_reason() {
        use RejectReason as R;
        let (question, answer) = ("question", "answer");
        let cases = [
            ("{\"question\": \"a", R::BrokenJson { column: 15 }),
            ("nonsense", R::BrokenJson { column: 2 }),
            ("[\"a\", \"b\"]", R::NotAnObject),
            ("\"a\"", R::NotAnObject),
            (r#"{"question": "a", "question": "b", "answer": "c"}"#, R::NotAnObject),
            (r#"{"answer": "2"}"#, R::MissingField { field: question }),
            (r#"{"question": "a", "answer": null}"#, R::MissingField { field: answer }),
            (r#"{"question": "a", "answer": ["2"]}"#, R::WrongType { field: answer }),
            (r#"{"question": true, "answer": "2"}"#, R::WrongType { field: question }),
            (r#"{"question": "a", "answer": " \n"}"#, R::EmptyField { field: answer }),
            (
                r#"{"question": "a", "answer": 123456789012345678901}"#,
                R::InexactNumber { field: answer },
            ),
        ];
        for (line, reason) in cases {
            assert_eq!(parse(line), Err(reason), "{line}");
        }
        assert_eq!(parse_line(b"{\"question\": \"\xff\"}"), Some(Err(R::InvalidUtf8)));
    }

    #[test]
    fn the_final_answer_of_gsm8k_counts() {
        let cases = [
            ("She sells 9 * 2 = <<9*2=18>>18.\n#### 18", "18"),
            ("so #### -1,234,567.25 ", "-1234567.25"),
            ("#### $1,000", "$1000"),
            ("#### 1,23", "1,23"),
            ("#### 1234,567", "1234,567"),
            ("#### a, b", "a, b"),
            ("the pattern is ####", "the pattern is ####"),
            ("ab#### 3", "ab#### 3"),
            ("##### 3", "##### 3"),
            ("#### 3\nand more", "#### 3\nand more"),
            ("1,234", "1,234"),
        ];
        for (text, answer) in cases {
            let line = serde_json::json!({"question": "q", "answer": text}).to_string();
            assert_eq!(parse(&line).unwrap().answer, answer);
        }
    }

    #[test]
    fn a_task_may_say_how_its_answer_is_judged() {
        let of = |fields: &str| {
            let line = format!("{{\"question\": \"q\", \"answer\": \"a\", {fields}}}");
            parse_line(line.as_bytes()).unwrap().map(|task| task.answer_kind)
        };

        assert_eq!(of("\"answer_kind\": \"exact\""), Ok(Some(AnswerKind::Exact)));
        assert_eq!(of("\"more\": 1"), Ok(None));
        for wrong in ["\"code\"", "7", "\"\""] {
            let refused = of(&format!("\"answer_kind\": {wrong}"));
            assert_eq!(refused, Err(RejectReason::UnknownAnswerKind), "{wrong}");
        }
    }

    #[test]
    fn the_derivation_is_the_rationale() {
        let of = |text: &str| derived("q".into(), text).rationale;

        assert_eq!(
            of("He has 3*2=<<3*2=6>>6.\nSo <<6+1=7>>7.\n#### 7").unwrap(),
            "He has 3*2=6.\nSo 7."
        );
        assert_eq!(of("1 << 2 is 4\n#### 4").unwrap(), "1 << 2 is 4");
        assert_eq!(of("#### 7"), None);
        assert_eq!(of("7"), None);
    }

    #[test]
    fn blank_lines_are_no_lines() {
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b" \t\r"), None);
    }

    #[test]
    fn deep_nesting_is_only_broken() {
        let deep = "[".repeat(500_000);

        assert!(matches!(parse(&deep), Err(RejectReason::BrokenJson { .. })));
        let inside = format!(r#"{{"question": {deep}"#);
        assert!(matches!(parse(&inside), Err(RejectReason::BrokenJson { .. })));
    }
}
