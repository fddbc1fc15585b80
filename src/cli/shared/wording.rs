//! The arguments that put words around a question.

use crate::text::Wording;

/// The words around the question.
#[derive(Debug, Clone, clap::Args)]
pub struct WordingArgs {
    /// A system message before the question
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// What stands before the question, in the same message
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt_prefix: Option<String>,
    /// What follows the question, in the same message
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt_suffix: Option<String>,
}

impl WordingArgs {
    /// What was given, and the rest from `known`.
    #[must_use]
    pub fn over(&self, known: Option<&Wording>) -> Wording {
        let known = known.cloned().unwrap_or_default();
        let given = |given: &Option<String>, known| given.clone().unwrap_or(known);
        Wording {
            system: given(&self.system_prompt, known.system),
            prefix: given(&self.prompt_prefix, known.prefix),
            suffix: given(&self.prompt_suffix, known.suffix),
        }
    }
}
