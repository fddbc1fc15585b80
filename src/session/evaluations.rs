//! What a run remembers of its evaluations on held-out questions.

use serde::{Deserialize, Serialize};

use crate::latro::metrics::EvalMetrics;

/// What a run remembers of its evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Evaluations {
    /// The step of the last one.
    #[serde(rename = "evaluated")]
    pub last: Option<u64>,
    /// The best one, the untouched model's left out.
    #[serde(default)]
    pub best: Option<Best>,
}

/// An evaluation that no other was better than.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: u64,
    pub accuracy: f64,
    pub log_p_answer_per_token: f64,
}

impl Best {
    /// Whether an evaluation is better: by its accuracy and, where that is the same, by the answers'
    /// likelihood.
    #[must_use]
    pub fn is_surpassed_by(&self, eval: &EvalMetrics) -> bool {
        (eval.accuracy, eval.log_p_answer_per_token) > (self.accuracy, self.log_p_answer_per_token)
    }
}
