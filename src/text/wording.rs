//! The words around a question.

use serde::{Deserialize, Serialize};

use super::chat::Message;

/// The words around every question. What is learned is learned for them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wording {
    /// The system message; none if empty.
    pub system: String,
    /// What stands before the question.
    pub prefix: String,
    /// What follows the question.
    pub suffix: String,
}

impl Wording {
    /// The messages of a question; all of its text is in the last one.
    #[must_use]
    pub fn messages(&self, content: &str) -> Vec<Message> {
        let system = (!self.system.is_empty()).then(|| Message::system(self.system.as_str()));
        system.into_iter().chain([Message::user(content)]).collect()
    }
}
