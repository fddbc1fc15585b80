//! `[promotion]`: what a candidate must show.

use std::path::PathBuf;

use crate::settings::{Rule, Value, choices, settings};

choices! {
    /// Who has the last word on a candidate that has proved better.
    pub enum Approval {
        /// Nobody: it becomes the active adapter at once.
        Automatic = "automatic",
        /// An operator: it is published as a version, and waits until an operator promotes it.
        Operator = "operator",
    }
}

settings! {
    /// What a candidate must show on held-out questions to replace the active adapter.
    pub struct GateSettings {
        /// Fewer held-out questions than this decide nothing.
        ///
        /// With 50, a kind of question that makes up 6 % of the work is among them with a probability
        /// of 95 %, so that a loss there can be seen at all.
        min_questions: usize = 50 => Rule::Whole(2, u64::MAX),
        /// How sure a promotion or a rollback must be, 0.5 to below 1.
        ///
        /// One that nothing justifies has a probability of 1 − `confidence` at most.
        confidence: f64 = 0.95 => Rule::Custom(is_sure),
        /// Every further candidate against the same adapter must show more, so that trying often does
        /// not pay.
        ///
        /// Without this, every candidate gets the whole 1 − `confidence`.
        correct_repeats: bool = true => Rule::Any,
        /// Observed loss of accuracy, in percent of the questions, that a proven gain of likelihood
        /// makes up for.
        ///
        /// Chance alone moves the accuracy on a hundred questions by more, and a real loss is found
        /// by the tests.
        max_accuracy_loss_percent: f64 = 2.0 => Rule::Number(0.0, 100.0),
        /// Accuracy, in percent, below which a gain of likelihood alone promotes nothing. 0: none.
        ///
        /// An adapter that gets fewer answers right serves nobody. Wrong answers have a look of their
        /// own, which a model can learn without ever being right.
        min_accuracy_percent: f64 = 10.0 => Rule::Number(0.0, 100.0),
        /// How far the candidate may be from the base model on general texts, as the mean KL(base ‖
        /// adapted) in nats per token. 0: no limit.
        ///
        /// On SmolLM2-135M-Instruct and the built-in texts, runs of 100 steps that learned their task
        /// ended between 0.03 and 0.16; an adapter that spoils ordinary text is far above.
        max_kl_nats_per_token: f64 = 0.2 => Rule::NotNegative,
        /// The general texts, as a file of JSON lines, read whenever a candidate is compared. Empty:
        /// the built-in ones.
        general_prompts: PathBuf = PathBuf::new() => Rule::Any,
        /// Who has the last word on a candidate that has proved better.
        approval: Approval = Approval::Automatic => Rule::Any,
    }
}

fn is_sure(value: Value<'_>) -> Option<String> {
    let Value::Number(confidence) = value else { return None };
    let is_share = (0.5..1.0).contains(&confidence);
    (!is_share).then(|| format!("is {confidence}: use a share from 0.5 to below 1, such as 0.95"))
}
