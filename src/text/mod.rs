//! Text and token ids: the tokenizer and the chat template of a GGUF file.

use crate::gguf::GgufFile;

use chat::{ChatError, ChatTemplate};
use tokenizer::{Tokenizer, TokenizerError};

pub mod chat;
pub mod tokenizer;
mod wording;

pub use wording::Wording;

/// How a model takes text.
#[derive(Debug)]
pub struct TextFormat {
    pub tokenizer: Tokenizer,
    /// How messages become a prompt; `None` for a model without a chat template.
    pub template: Option<ChatTemplate>,
}

/// Why a model's text format cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Chat(#[from] ChatError),
}

impl TextFormat {
    /// Reads the tokenizer and the chat template of a GGUF file.
    ///
    /// # Errors
    /// [`TextError`] if one of them is not supported or broken.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TextError> {
        let tokenizer = Tokenizer::from_gguf(file)?;
        let template = ChatTemplate::from_gguf(file, &tokenizer)?;
        Ok(Self { tokenizer, template })
    }
}
