//! One line of JSON to one task, or the reason why not. Reasons never contain text of the task.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Number;
use serde_json::error::Category;

use super::Task;

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
    /// More good tasks than [`super::TaskLimits::max_tasks`].
    #[error("there are already {limit} tasks")]
    TooManyTasks { limit: usize },
    /// More text than [`super::TaskLimits::max_text_bytes`].
    #[error("the tasks before it already hold {limit} bytes of text")]
    TooMuchText { limit: usize },
}

/// The two fields that count; others are ignored.
#[derive(Deserialize)]
struct Fields {
    question: Option<Field>,
    answer: Option<Field>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Number(Number),
    Other(IgnoredAny),
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
    Ok(Task {
        question: text_of(fields.question, "question")?,
        answer: text_of(fields.answer, "answer")?,
    })
}

fn text_of(field: Option<Field>, name: &'static str) -> Result<String, RejectReason> {
    match field {
        None => Err(RejectReason::MissingField { field: name }),
        Some(Field::Text(text)) => match text.trim() {
            "" => Err(RejectReason::EmptyField { field: name }),
            trimmed => Ok(trimmed.to_owned()),
        },
        Some(Field::Number(number)) if is_exact(&number) => Ok(number.to_string()),
        Some(Field::Number(_)) => Err(RejectReason::InexactNumber { field: name }),
        Some(Field::Other(_)) => Err(RejectReason::WrongType { field: name }),
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
            assert_eq!(parse(line), Ok(Task { question: "1+1?".into(), answer: answer.into() }));
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
