//! What `latrod eval` prints: the numbers of one or two policies and the test of their difference.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::cli::CliError;
use crate::cli::shared::common::failed;
use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
use crate::latro::metrics::EvalMetrics;
use crate::promotion::evaluate::QuestionResult;
use crate::promotion::interval::PairedCounts;
use crate::promotion::statistics::{McNemar, PairedT, mcnemar, paired_t};

/// The probability of error at each end of an interval of 95 %.
const TAIL: f64 = 0.025;

/// The JSON object.
#[derive(Debug, Serialize)]
pub struct Report {
    pub model: String,
    pub tasks: String,
    pub compute: Compute,
    pub device: DeviceKind,
    /// Lines of the task files that are no tasks.
    pub bad_lines: usize,
    /// Tasks that cannot be asked.
    pub left_out: usize,
    /// The untouched model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// The adapter against the untouched model, question by question.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Accuracy gained, −1 to 1.
    pub accuracy_gain: f64,
    /// Newcombe's interval of it, as in the gate.
    pub accuracy_confidence_95: [f64; 2],
    pub mcnemar: McNemar,
    /// log p(answer) gained per token of the answer, nats. Nothing for a single question, which no
    /// variance can be estimated from.
    pub log_p_answer_per_token: Option<PairedT>,
}

impl Comparison {
    /// Compares results on the same questions.
    ///
    /// # Errors
    /// If a log-likelihood is not a number.
    pub fn new(base: &[QuestionResult], adapter: &[QuestionResult]) -> Result<Self, CliError> {
        let right = |results: &[QuestionResult]| results.iter().map(|r| r.correct).collect();
        let per_token = |results: &[QuestionResult]| -> Vec<f64> {
            results.iter().map(QuestionResult::log_p_answer_per_token).collect()
        };
        let (before, after): (Vec<bool>, Vec<bool>) = (right(base), right(adapter));
        let mcnemar = mcnemar(&before, &after).map_err(failed)?;
        let likelihood = match base.len() {
            0 | 1 => None,
            _ => Some(paired_t(&per_token(base), &per_token(adapter)).map_err(failed)?),
        };
        let counts = PairedCounts::of(before.into_iter().zip(after));
        let gain = counts.accuracy_gain(TAIL);
        Ok(Self {
            accuracy_gain: gain.estimate,
            accuracy_confidence_95: [gain.lower, gain.upper],
            mcnemar,
            log_p_answer_per_token: likelihood,
        })
    }

    fn sentences(&self) -> String {
        let McNemar { gained, lost, p, .. } = self.mcnemar;
        let mut text = format!(
            "accuracy {:+.1} points, 95 % confidence {:+.1} to {:+.1}: gained {gained}, lost \
             {lost}; McNemar's exact test p = {}\n",
            100.0 * self.accuracy_gain,
            100.0 * self.accuracy_confidence_95[0],
            100.0 * self.accuracy_confidence_95[1],
            probability(p)
        );
        let _ = match &self.log_p_answer_per_token {
            Some(t) => writeln!(
                text,
                "log p(answer) {:+.4} nats per token, 95 % confidence {:+.4} to {:+.4}; paired \
                 t-test p = {}",
                t.mean,
                t.confidence_95[0],
                t.confidence_95[1],
                probability(t.p)
            ),
            None => writeln!(text, "log p(answer): a single question cannot be tested"),
        };
        text
    }
}

/// The metrics of an evaluation as JSON, without the fields that only mean something in training.
///
/// # Errors
/// If they cannot be turned into JSON.
pub fn metrics(metrics: &EvalMetrics) -> Result<Value, CliError> {
    let mut value = serde_json::to_value(metrics).map_err(failed)?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| name != "step" && name != "elapsed_s");
    }
    Ok(value)
}

impl Report {
    /// One line of JSON.
    ///
    /// # Errors
    /// If a number cannot be written.
    pub fn json(&self) -> Result<String, CliError> {
        Ok(serde_json::to_string(self).map_err(failed)? + "\n")
    }

    /// The same for people.
    #[must_use]
    pub fn table(&self) -> String {
        let columns: Vec<(&str, &Value)> = [("untouched", &self.base), ("adapter", &self.adapter)]
            .into_iter()
            .filter_map(|(name, metrics)| Some((name, metrics.as_ref()?)))
            .collect();
        let mut text = String::new();
        let mut row = |name: &str, cell: &dyn Fn(&(&str, &Value)) -> String| {
            let cells: String = columns.iter().map(|c| format!("{:>16}", cell(c))).collect();
            let _ = writeln!(text, "{name:<26}{cells}");
        };
        let number = |metrics: &Value, name: &str| metrics[name].as_f64().unwrap_or(f64::NAN);
        let percent = |m: &Value, name| format!("{:.1} %", 100.0 * number(m, name));
        row("", &|(name, _)| (*name).to_owned());
        row("right answers", &|(_, m)| format!("{} of {}", m["correct"], m["questions"]));
        row("accuracy", &|(_, m)| percent(m, "accuracy"));
        row("  when asked for it", &|(_, m)| percent(m, "forced_accuracy"));
        if let Some(k) = columns.iter().find_map(|(_, m)| m["majority_k"].as_u64()) {
            let name = format!("accuracy, majority of {k}");
            row(&name, &|(_, m)| percent(m, "majority_accuracy"));
        }
        row("log p(answer), nats", &|(_, m)| format!("{:.3}", number(m, "log_p_answer")));
        row("  per token", &|(_, m)| format!("{:.4}", number(m, "log_p_answer_per_token")));
        row("response, tokens", &|(_, m)| format!("{:.1}", number(m, "response_tokens")));
        row("  that ended by itself", &|(_, m)| percent(m, "finished_share"));
        row("  with an answer", &|(_, m)| percent(m, "readable_share"));
        row("seconds", &|(_, m)| format!("{:.1}", number(m, "eval_s")));
        if let Some(comparison) = &self.comparison {
            text += "\n";
            text += &comparison.sentences();
        }
        text
    }
}

/// A p-value: never rounded to 0.
fn probability(p: f64) -> String {
    if p >= 0.001 || p == 0.0 { format!("{p:.3}") } else { format!("{p:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(correct: bool, log_p_answer: f64) -> QuestionResult {
        QuestionResult {
            correct,
            given: Some("8".into()),
            wanted: "8".into(),
            response: "8".into(),
            response_tokens: 12,
            forced: None,
            log_p_answer,
            log_p_direct: log_p_answer,
            answer_tokens: 4,
            rationale_tokens: 10,
            finished: true,
            majority_correct: None,
        }
    }

    #[test]
    fn a_comparison_pairs_questions() {
        let base = [result(false, -8.0), result(true, -4.0), result(false, -6.0)];
        let adapter = [result(true, -4.0), result(true, -4.0), result(true, -3.0)];

        let comparison = Comparison::new(&base, &adapter).unwrap();

        assert!((comparison.accuracy_gain - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((comparison.mcnemar.gained, comparison.mcnemar.lost), (2, 0));
        let test = comparison.log_p_answer_per_token.unwrap();
        assert!((test.mean - (1.0 + 0.0 + 0.75) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_single_question_is_reported_without_a_test() {
        let comparison = Comparison::new(&[result(true, -1.0)], &[result(true, -1.0)]).unwrap();

        assert!(comparison.log_p_answer_per_token.is_none());
        assert!(comparison.sentences().contains("a single question cannot be tested"));
    }

    #[test]
    fn small_probabilities_keep_their_size() {
        assert_eq!(["0.042", "1.0e-9", "0.000"], [0.042, 1e-9, 0.0].map(probability));
    }
}
