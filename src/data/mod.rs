//! Tasks: questions with known answers, read from JSON lines and CSV that anybody may have written.
//!
//! Owns the file formats, what makes a line bad, and which tasks are held out. Doesn't know what a
//! model does with a task.

mod arc;
mod chat;
mod csv;
pub(crate) mod lines;
mod parse;
mod read;
pub(crate) mod records;
pub(crate) mod split;

use sha2::{Digest, Sha256};

pub use crate::answer::AnswerKind;
use crate::answer::Wanted;

pub use parse::RejectReason;
pub use read::{DataError, REJECTED_FILE, Rejected, TaskLimits, TaskSet, read_tasks};
pub use split::{is_held_out, question_key, split};

/// A question and its correct answer, both non-empty and without surrounding white space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub question: String,
    pub answer: String,
    /// How somebody came to the answer, where the task says it; nothing but supervised training on
    /// rationales looks at it.
    pub rationale: Option<String>,
    /// What kind of text the answer is, where the task says it.
    pub answer_kind: Option<AnswerKind>,
}

impl Task {
    /// A task without a rationale.
    #[must_use]
    pub const fn new(question: String, answer: String) -> Self {
        Self { question, answer, rationale: None, answer_kind: None }
    }

    /// The answer, ready to judge others with; of this kind unless the task says another.
    #[must_use]
    pub fn wanted(&self, kind: AnswerKind) -> Wanted {
        Wanted::new(&self.question, &self.answer, self.answer_kind.unwrap_or(kind))
    }

    /// Bytes of its texts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.question.len() + self.answer.len() + self.rationale.as_ref().map_or(0, String::len)
    }

    /// The task's identity: equal exactly when question and answer are.
    #[must_use]
    pub fn id(&self) -> TaskId {
        let mut hash = Sha256::new();
        for text in [&self.question, &self.answer] {
            // With its length in front, no part of one text can pass for a part of the other.
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        TaskId(hash.finalize().into())
    }
}

/// SHA-256 over a task's question and answer. Displayed as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub [u8; 32]);

impl TaskId {
    /// Reads what [`TaskId`] is displayed as; `None` if it is anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut id = [0; 32];
        let digits: Vec<_> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            *byte = (pair[0] << 4 | pair[1]) as u8;
        }
        Some(Self(id))
    }
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(question: &str, answer: &str) -> Task {
        Task::new(question.into(), answer.into())
    }

    #[test]
    fn a_task_knows_its_kind_of_answer_better() {
        let code = Task { answer_kind: Some(AnswerKind::Exact), ..task("a", "42.0") };

        assert!(task("a", "42.0").wanted(AnswerKind::Auto).is_given_by(" 42"));
        assert!(!code.wanted(AnswerKind::Auto).is_given_by(" 42"));
        assert_eq!(code.id(), task("a", "42.0").id());
    }

    #[test]
    fn an_id_tells_question_and_answer_apart() {
        assert_eq!(task("a", "b").id(), task("a", "b").id());
        assert_ne!(task("ab", "c").id(), task("a", "bc").id());
        assert_ne!(task("a", "b").id(), task("b", "a").id());
    }

    #[test]
    fn an_id_comes_back_from_its_digits() {
        let id = task("a", "b").id();

        assert_eq!(TaskId::from_hex(&id.to_string()), Some(id));
        assert_eq!(TaskId::from_hex(""), None);
        assert_eq!(TaskId::from_hex(&"x".repeat(64)), None);
    }

    #[test]
    fn an_id_is_the_sha256_of_length_prefixed_texts() {
        // printf '\x01\0\0\0\0\0\0\0a\x01\0\0\0\0\0\0\0b' | sha256sum
        assert_eq!(
            task("a", "b").id().to_string(),
            "cf6ab613e3942391f88ed698557e1680f160bd10e88c6b668c50360c10930e2b"
        );
    }
}
