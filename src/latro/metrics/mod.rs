//! The numbers of a training run, as they stand in the JSON lines that `train` writes.
//!
//! Field names are a format that other programs read: they stay. `docs/metrics.schema.json` describes
//! them; after a change, `LATROD_WRITE_SCHEMAS=1 cargo test --lib metrics` writes it anew. Numbers that
//! are not finite are written as `null` (JSON knows no NaN) and read back as NaN. Knows nothing of files
//! or of how the numbers come about.

pub(super) mod tally;

use serde::{Deserialize, Deserializer, Serialize};

use crate::latro::sentinel::Trip;
use crate::latro::settings::Method;

/// One line: what `kind` says and its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MetricLine {
    /// A training step.
    Step(StepMetrics),
    /// An evaluation on held-out questions.
    Eval(EvalMetrics),
    /// A sentinel that stopped the run or set it back.
    Sentinel(Trip),
}

/// Rationales with fewer tokens are guesses, hardly ever thoughts.
pub const SHORT: usize = 20;

/// Every number of a training step. Times are in seconds of wall clock, log-probabilities in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StepMetrics {
    /// Number of the step, from 1.
    pub step: u64,
    /// What was learned from.
    pub method: Method,
    /// Prompts of the step.
    pub prompts_per_step: usize,
    /// Mean reward of the rationales.
    #[serde(deserialize_with = "null_is_nan")]
    pub reward: f64,
    /// log p(y | x ⊕ z), summed over the tokens after the rationale; mean over branches.
    #[serde(deserialize_with = "null_is_nan")]
    pub log_p_answer: f64,
    /// The same divided by the number of these tokens, over all branches together.
    #[serde(deserialize_with = "null_is_nan")]
    pub log_p_answer_per_token: f64,
    /// `log p(z|x) − log p_ref(z|x)`, summed over the rationale; mean over branches.
    #[serde(deserialize_with = "null_is_nan")]
    pub kl: f64,
    /// The same divided by the number of rationale tokens, over all branches together.
    #[serde(deserialize_with = "null_is_nan")]
    pub kl_per_token: f64,
    /// Mean entropy of the distributions that the rationales' tokens were sampled from, in nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub entropy: f64,
    /// Mean length of a rationale, in tokens. 0 without rationales.
    pub rationale_tokens: f64,
    /// Share of rationales that ended by end of turn or answer phrase.
    pub finished_share: f64,
    /// Share of rationales that ran out of tokens.
    pub clipped_ratio: f64,
    /// Share of rationales that announced an answer. With seam `phrase` all count.
    #[serde(default = "unknown", deserialize_with = "null_is_nan")]
    pub announced_share: f64,
    /// Share of rationales with fewer than [`SHORT`] tokens: guesses.
    #[serde(default = "unknown", deserialize_with = "null_is_nan")]
    pub short_share: f64,
    /// Share of rationales whose own answer was right; with seam `policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_share: Option<f64>,
    /// Share of prompts with a right answer among their rationales (pass@K); with seam `policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_at_k: Option<f64>,
    /// Mean reward of a guess without a rationale, where that is scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess: Option<f64>,
    /// Standard deviation of the advantages, over all branches.
    #[serde(deserialize_with = "null_is_nan")]
    pub advantage_spread: f64,
    /// Prompts skipped because their rewards hardly differed.
    pub skipped_prompts: usize,
    /// Norm of the gradient before clipping. 0 if every prompt was skipped.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// Norm of all LoRA parameters after the update.
    #[serde(deserialize_with = "null_is_nan")]
    pub parameter_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Weight of the KL term.
    pub beta: f64,
    /// The loss; see [`crate::latro::objective::advantage::loss`].
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Tokens after which rationales were cut off; 0 where an earlier version did not write it.
    #[serde(default)]
    pub length_limit: usize,
    /// Tokens sampled.
    pub rollout_tokens: u64,
    /// Tokens sampled per second of `rollout_s`.
    pub rollout_tokens_per_s: f64,
    /// Sampling.
    pub rollout_s: f64,
    /// The forward pass of the reference.
    pub reference_s: f64,
    /// The forward pass of the policy.
    pub forward_s: f64,
    /// The backward pass.
    pub backward_s: f64,
    /// Clipping and AdamW.
    pub update_s: f64,
    /// Writing files since the line before: rollouts, checkpoints, adapters.
    pub checkpoint_s: f64,
    /// The whole step.
    pub total_s: f64,
    /// Training time since the run's first step, over all restarts; evaluations don't count.
    pub elapsed_s: f64,
    /// Highest memory use of the process so far, in MiB; NaN where the system doesn't say.
    #[serde(deserialize_with = "null_is_nan")]
    pub peak_memory_mib: f64,
}

/// A number that earlier versions did not write.
const fn unknown() -> f64 {
    f64::NAN
}

/// How good the model is on held-out questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EvalMetrics {
    /// Training steps done. 0 is the untouched model.
    pub step: u64,
    /// Training time until then, as in [`StepMetrics::elapsed_s`].
    pub elapsed_s: f64,
    /// Questions asked.
    pub questions: usize,
    /// Questions answered rightly, with greedy decoding, as read from what the model wrote.
    pub correct: usize,
    /// `correct / questions`.
    pub accuracy: f64,
    /// Accuracy of what is answered when "The answer is" is put after the rationale, if that was
    /// asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_accuracy: Option<f64>,
    /// Rationales per question in a majority vote, if one was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority_k: Option<usize>,
    /// Accuracy of the majority's answer, if a vote was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority_accuracy: Option<f64>,
    /// log p of the right answer after what the model wrote and "The answer is", summed over the
    /// answer's tokens; mean over questions.
    #[serde(deserialize_with = "null_is_nan")]
    pub log_p_answer: f64,
    /// The same divided by the number of these tokens, over all questions together.
    #[serde(deserialize_with = "null_is_nan")]
    pub log_p_answer_per_token: f64,
    /// Mean length of a response, in tokens.
    #[serde(alias = "rationale_tokens")]
    pub response_tokens: f64,
    /// Share of responses that ended by themselves.
    pub finished_share: f64,
    /// Share of responses in which an answer was found, right or wrong.
    #[serde(default = "unknown", deserialize_with = "null_is_nan")]
    pub readable_share: f64,
    /// What the response does for the right answer's log-likelihood: E [log p(y|x,z) − log p(y|x)], in
    /// nats. Not for a model that answers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_log_p: Option<f64>,
    /// What it does for the right answer's probability: E [p(y|x,z) − p(y|x)].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_p: Option<f64>,
    /// Duration of the evaluation, in seconds.
    pub eval_s: f64,
}

fn null_is_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// A healthy step, for tests.
#[cfg(test)]
pub(crate) fn healthy_step(step: u64) -> StepMetrics {
    StepMetrics {
        step,
        method: Method::Latro,
        prompts_per_step: 2,
        reward: -12.5,
        log_p_answer: -12.25,
        log_p_answer_per_token: -1.75,
        kl: 5.0,
        kl_per_token: 0.1,
        entropy: 0.8,
        rationale_tokens: 50.0,
        finished_share: 0.75,
        clipped_ratio: 0.25,
        announced_share: 0.75,
        short_share: 0.0,
        right_share: Some(0.5),
        pass_at_k: Some(1.0),
        guess: Some(0.05),
        advantage_spread: 3.0,
        skipped_prompts: 0,
        grad_norm: 2.5,
        parameter_norm: 30.0,
        learning_rate: 1e-4,
        beta: 0.05,
        loss: 12.0,
        length_limit: 100,
        rollout_tokens: 800,
        rollout_tokens_per_s: 160.0,
        rollout_s: 5.0,
        reference_s: 1.0,
        forward_s: 1.0,
        backward_s: 2.0,
        update_s: 0.1,
        checkpoint_s: 0.1,
        total_s: 9.2,
        elapsed_s: 9.2,
        peak_memory_mib: 400.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::latro::sentinel::{Response, TripKind};

    fn eval() -> EvalMetrics {
        EvalMetrics {
            step: 20,
            elapsed_s: 184.0,
            questions: 200,
            correct: 50,
            accuracy: 0.25,
            forced_accuracy: None,
            majority_k: None,
            majority_accuracy: None,
            log_p_answer: -10.0,
            log_p_answer_per_token: -1.25,
            response_tokens: 40.0,
            finished_share: 0.9,
            readable_share: 0.95,
            delta_log_p: Some(2.5),
            delta_p: Some(0.2),
            eval_s: 30.0,
        }
    }

    /// The schema of a line. Any number may be `null`.
    fn schema() -> Value {
        fn with_null(value: &mut Value) {
            if value["type"] == "number" {
                value["type"] = json!(["number", "null"]);
            }
            match value {
                Value::Object(fields) => fields.values_mut().for_each(with_null),
                Value::Array(values) => values.iter_mut().for_each(with_null),
                _ => {}
            }
        }
        let mut schema = schemars::schema_for!(MetricLine).to_value();
        schema["title"] = "a line of metrics.jsonl".into();
        with_null(&mut schema);
        schema
    }

    #[test]
    fn the_schema_in_docs_is_that_of_the_lines() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.schema.json");
        let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("LATROD_WRITE_SCHEMAS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), text, "{path}");
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        let unsound = StepMetrics { loss: f64::NAN, ..healthy_step(3) };
        for line in [MetricLine::Step(unsound), MetricLine::Eval(eval())] {
            let line = serde_json::to_value(line).unwrap();
            assert!(validator.is_valid(&line), "{line}");
        }
        assert!(!validator.is_valid(&json!({"kind": "step", "step": 1})));
    }

    #[test]
    fn lines_say_their_kind_and_come_back_as_they_were() {
        let trip = Trip {
            step: 7,
            kind: TripKind::NotFinite,
            sentence: "the loss is NaN".into(),
            response: Response::GiveUp,
        };
        for (line, kind) in [
            (MetricLine::Step(healthy_step(3)), "step"),
            (MetricLine::Eval(eval()), "eval"),
            (MetricLine::Sentinel(trip), "sentinel"),
        ] {
            let text = serde_json::to_string(&line).unwrap();

            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["kind"], json!(kind));
            assert_eq!(serde_json::from_str::<MetricLine>(&text).unwrap(), line);
        }
    }

    #[test]
    fn a_diverged_step_can_be_written_and_read() {
        let step = StepMetrics { loss: f64::NAN, grad_norm: f64::INFINITY, ..healthy_step(1) };

        let text = serde_json::to_string(&MetricLine::Step(step)).unwrap();
        let MetricLine::Step(back) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };

        assert!(back.loss.is_nan() && back.grad_norm.is_nan());
        assert_eq!(back.reward, -12.5);
    }

    #[test]
    fn a_missing_number_is_an_error_that_names_it() {
        let mut value = serde_json::to_value(MetricLine::Eval(eval())).unwrap();
        value.as_object_mut().unwrap().remove("accuracy");

        let error = serde_json::from_value::<MetricLine>(value).unwrap_err().to_string();

        assert!(error.contains("accuracy"), "{error}");
    }
}
