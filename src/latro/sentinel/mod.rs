//! Watches the numbers of a run and says when it goes wrong, and what to do then.
//!
//! ```text
//!              healthy step                       healthy step
//!               ┌──────┐                           ┌──────┐
//!               ▼      │    enough steps seen      ▼      │
//!  start ──►  Gathering ─────────────────────►  Watching ─┘
//!               ▲   │                              │
//!               │   │ not finite                   │ any trip
//!               │   ▼                              ▼
//!               │  trip 1 … max_trips − 1: StepBack
//!               └──── the caller restores the last good checkpoint
//!                                                  │ trip max_trips
//!                                                  ▼
//!                                         GiveUp: stopped, and any later trip says so again
//! ```
//!
//! Gathering learns what is normal for this model and task set, so most limits are relative to it.
//! Trips are counted for the life of a task set: after a step back the caller goes on with this
//! sentinel, not with the one in the restored checkpoint. Judges numbers only; restoring, settings
//! and quarantine are the caller's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::latro::metrics::{SHORT, StepMetrics};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TripKind {
    /// Loss, reward, gradient, parameters or another number is NaN or infinite.
    NotFinite,
    /// The policy is far from the reference.
    Kl,
    /// The policy is certain of what it writes, and no better for it.
    EntropyCollapse,
    /// The gradient's norm is many times its usual size.
    GradientExplosion,
    /// Rationales have shrunk to nothing.
    ShortRationales,
    /// Rationales no longer come to an end.
    Truncation,
}

impl TripKind {
    /// The name in events, the same as in `metrics.jsonl`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFinite => "not_finite",
            Self::Kl => "kl",
            Self::EntropyCollapse => "entropy_collapse",
            Self::GradientExplosion => "gradient_explosion",
            Self::ShortRationales => "short_rationales",
            Self::Truncation => "truncation",
        }
    }
}

/// What the trainer should do about a trip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Response {
    /// Go back to the last good checkpoint and go on more carefully.
    StepBack {
        /// What to multiply the learning rate with.
        learning_rate_factor: f64,
        /// What to multiply β with.
        beta_factor: f64,
    },
    /// Stop: the task set is to be quarantined.
    GiveUp,
}

/// A sentinel has tripped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trip {
    /// The step at which it did.
    pub step: u64,
    /// What went wrong (`trip` in files, where `kind` is the kind of line).
    #[serde(rename = "trip")]
    pub kind: TripKind,
    /// The same for people, with numbers.
    pub sentence: String,
    /// What to do about it.
    pub response: Response,
}

/// The limits. The defaults are wide: a model that learns well becomes sure of itself, drifts from
/// the reference and shortens what it says, and none of that is an accident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SentinelSettings {
    /// Steps that show what is normal, and over which later means are taken. Default 16.
    pub window: usize,
    /// Steps in a row that must be over a limit. Default 3, so that one odd batch is forgiven.
    pub patience: u32,
    /// Highest KL per rationale token, in nats, where a rationale counts as at least 16 tokens: a
    /// short one may well owe all its KL to one decision. Default 3: a model that has become certain of
    /// something the reference finds merely likely comes to 1 or 2, one that babbles to 5 and more.
    pub kl_per_token: f64,
    /// Entropy in nats per token under which a policy counts as certain. Default 0.02; it is a
    /// collapse only if the policy was four times less certain at the start, and its reward is not
    /// above that of the start.
    pub entropy: f64,
    /// How many times the median gradient norm is an explosion. Default 100: hard tasks after easy
    /// ones give ten times and more, and clipping bears that.
    pub gradient_factor: f64,
    /// Gradient norms below this never are an explosion. Default 10.
    pub gradient_floor: f64,
    /// Mean rationale length in tokens under which rationales count as gone, if they were at least
    /// twice as long at the start. Default 2.
    pub rationale_tokens: f64,
    /// Share of rationales of a few tokens, guesses, above which a policy counts as guessing, if at the
    /// start it was lower by at least 0.2. Default 0.6. The mean length hides it: half of the
    /// rationales may be guesses while the others grow.
    pub short_share: f64,
    /// Share of truncated rationales above which they count as endless, if at the start it was
    /// lower by at least 0.2. Default 0.99.
    pub clipped_ratio: f64,
    /// At which trip to give up. Default 3.
    pub max_trips: u32,
}

impl Default for SentinelSettings {
    fn default() -> Self {
        Self {
            window: 16,
            patience: 3,
            kl_per_token: 3.0,
            entropy: 0.02,
            gradient_factor: 100.0,
            gradient_floor: 10.0,
            rationale_tokens: 2.0,
            short_share: 0.6,
            clipped_ratio: 0.99,
            max_trips: 3,
        }
    }
}

/// The response to a trip that is not the last.
const STEP_BACK: Response = Response::StepBack { learning_rate_factor: 0.5, beta_factor: 2.0 };
/// Tokens that a rationale counts as at least when its KL is judged.
const KL_TOKENS: f64 = 16.0;
/// How much less certain than the entropy limit a policy must have been for a collapse.
const ENTROPY_FALL: f64 = 4.0;
/// How much lower a share must have been for a rise.
const RISE: f64 = 0.2;

/// What the sentinel keeps of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Sample {
    reward: f64,
    entropy: f64,
    grad_norm: f64,
    rationale_tokens: f64,
    /// Not in what earlier versions saved: so high that nothing is a rise.
    #[serde(default = "all")]
    short_share: f64,
    clipped_ratio: f64,
}

const fn all() -> f64 {
    1.0
}

/// The watcher and its memory; saved and restored as a whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sentinel {
    settings: SentinelSettings,
    /// The last `window` healthy steps, oldest first.
    recent: VecDeque<Sample>,
    /// The means of the first `window` healthy steps of the run.
    normal: Option<Sample>,
    /// Steps in a row with too high a KL.
    kl_streak: u32,
    /// Steps in a row with an exploding gradient.
    gradient_streak: u32,
    /// Trips so far.
    trips: u32,
}

impl Sentinel {
    /// A sentinel that has seen nothing.
    #[must_use]
    pub fn new(settings: SentinelSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Trips so far.
    #[must_use]
    pub const fn trips(&self) -> u32 {
        self.trips
    }

    /// Whether it has given up.
    #[must_use]
    pub const fn stopped(&self) -> bool {
        self.trips >= self.settings.max_trips
    }

    /// Takes note of a step, and says if something is wrong.
    pub fn observe(&mut self, step: &StepMetrics) -> Option<Trip> {
        let (kind, sentence) = self.judge(step)?;
        Some(self.trip(step.step, kind, sentence))
    }

    /// Takes note of an accident that somebody else has seen, such as a model whose logits are no
    /// numbers and which therefore cannot even sample the next step.
    pub fn trip(&mut self, step: u64, kind: TripKind, sentence: String) -> Trip {
        self.trips = self.trips.saturating_add(1);
        self.recent.clear();
        (self.kl_streak, self.gradient_streak) = (0, 0);
        let response = if self.stopped() { Response::GiveUp } else { STEP_BACK };
        Trip { step, kind, sentence, response }
    }

    /// Steps over which means are taken: what a trip says is true of about so many steps.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.settings.window as u64
    }

    fn judge(&mut self, step: &StepMetrics) -> Option<(TripKind, String)> {
        if let Some(name) = not_finite(step) {
            return Some((TripKind::NotFinite, format!("{name} is not a finite number")));
        }
        let gradient = self.judge_gradient(step.grad_norm);
        if gradient.is_none() && self.gradient_streak == 0 {
            self.remember(step);
        }
        let rationales = step.method.samples();
        gradient.or_else(|| rationales.then(|| self.judge_rationales(step)).flatten())
    }

    /// An exploding gradient counts against the median of the steps before, which it doesn't join.
    fn judge_gradient(&mut self, norm: f64) -> Option<(TripKind, String)> {
        let limits = &self.settings;
        // Steps whose prompts were all skipped have no gradient to compare with.
        let norms = self.recent.iter().map(|s| s.grad_norm).filter(|n| *n > 0.0);
        let median = median(norms.collect()).filter(|_| self.recent.len() >= limits.window)?;
        let most = (median * limits.gradient_factor).max(limits.gradient_floor);
        self.gradient_streak = if norm > most { self.gradient_streak + 1 } else { 0 };
        (self.gradient_streak >= limits.patience).then(|| {
            let sentence = format!(
                "the gradient's norm has been over {most:.1} for {} steps, at last {norm:.1}, where \
                 {median:.2} was usual",
                self.gradient_streak
            );
            (TripKind::GradientExplosion, sentence)
        })
    }

    fn judge_rationales(&mut self, step: &StepMetrics) -> Option<(TripKind, String)> {
        let limits = &self.settings;
        let kl = step.kl / step.rationale_tokens.max(KL_TOKENS);
        self.kl_streak = if kl > limits.kl_per_token { self.kl_streak + 1 } else { 0 };
        if self.kl_streak >= limits.patience {
            let sentence = format!(
                "the policy has been further than {} nats per token from the reference for {} \
                 steps, at last {kl:.2}",
                limits.kl_per_token, self.kl_streak
            );
            return Some((TripKind::Kl, sentence));
        }
        let normal = self.normal.filter(|_| self.recent.len() >= limits.window)?;
        let now = mean(&self.recent);
        if now.entropy < limits.entropy
            && normal.entropy >= ENTROPY_FALL * limits.entropy
            && now.reward <= normal.reward
        {
            let sentence = format!(
                "entropy has fallen from {:.2} to {:.3} nats per token, and the reward has not \
                 risen: {:.2} before, {:.2} now",
                normal.entropy, now.entropy, normal.reward, now.reward
            );
            return Some((TripKind::EntropyCollapse, sentence));
        }
        if now.rationale_tokens < limits.rationale_tokens
            && normal.rationale_tokens >= 2.0 * limits.rationale_tokens
        {
            let sentence = format!(
                "rationales have shrunk from {:.1} tokens to {:.1}",
                normal.rationale_tokens, now.rationale_tokens
            );
            return Some((TripKind::ShortRationales, sentence));
        }
        if now.clipped_ratio > limits.clipped_ratio
            && normal.clipped_ratio <= limits.clipped_ratio - RISE
        {
            let sentence = format!(
                "rationales no longer come to an end: {:.0} % were truncated at the start, {:.0} % \
                 are now",
                100.0 * normal.clipped_ratio,
                100.0 * now.clipped_ratio
            );
            return Some((TripKind::Truncation, sentence));
        }
        self.judge_guesses(&normal, &now)
    }

    fn judge_guesses(&self, normal: &Sample, now: &Sample) -> Option<(TripKind, String)> {
        let most = self.settings.short_share;
        let guesses = now.short_share > most && normal.short_share <= most - RISE;
        (guesses && now.reward <= normal.reward).then(|| {
            let sentence = format!(
                "the model guesses: {:.0} % of the rationales have fewer than {SHORT} tokens, {:.0} % had \
                 at the start, and the reward has not risen: {:.2} before, {:.2} now",
                100.0 * now.short_share,
                100.0 * normal.short_share,
                normal.reward,
                now.reward
            );
            (TripKind::ShortRationales, sentence)
        })
    }

    fn remember(&mut self, step: &StepMetrics) {
        let window = self.settings.window.max(1);
        while self.recent.len() >= window {
            self.recent.pop_front();
        }
        self.recent.push_back(Sample {
            reward: step.reward,
            entropy: step.entropy,
            grad_norm: step.grad_norm,
            rationale_tokens: step.rationale_tokens,
            short_share: step.short_share,
            clipped_ratio: step.clipped_ratio,
        });
        if self.normal.is_none() && self.recent.len() >= window {
            self.normal = Some(mean(&self.recent));
        }
    }
}

/// The first number of a step that is not finite, by name.
fn not_finite(step: &StepMetrics) -> Option<&'static str> {
    [
        ("the loss", step.loss),
        ("the reward", step.reward),
        ("the answer's log-probability", step.log_p_answer),
        ("the gradient's norm", step.grad_norm),
        ("the parameters' norm", step.parameter_norm),
        ("the KL divergence", step.kl),
        ("the KL divergence per token", step.kl_per_token),
        ("the entropy", step.entropy),
        ("the rationales' mean length", step.rationale_tokens),
        ("the share of truncated rationales", step.clipped_ratio),
    ]
    .into_iter()
    .find_map(|(name, value)| (!value.is_finite()).then_some(name))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The mean of at least one sample.
fn mean(samples: &VecDeque<Sample>) -> Sample {
    #[expect(clippy::cast_precision_loss, reason = "a window of steps")]
    let n = samples.len() as f64;
    let over = |field: fn(&Sample) -> f64| samples.iter().map(field).sum::<f64>() / n;
    Sample {
        reward: over(|s| s.reward),
        entropy: over(|s| s.entropy),
        grad_norm: over(|s| s.grad_norm),
        rationale_tokens: over(|s| s.rationale_tokens),
        short_share: over(|s| s.short_share),
        clipped_ratio: over(|s| s.clipped_ratio),
    }
}

#[cfg(test)]
mod tests;
