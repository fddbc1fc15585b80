//! What a made-up cycle of learning looks like: the curves of its steps and the numbers that decide.

use std::collections::BTreeMap;

use crate::contract::event::Numbers;
use crate::contract::wire::{StepProgress, finite};
use crate::simulator::random::Random;

/// The furthest that a candidate may have moved the model on general texts, in nats per token.
const MAX_KL: f64 = 0.05;

/// A lesson: how well it would go is settled when it begins.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// Steps that are done.
    pub step: u64,
    /// Steps that it will have.
    pub steps: u64,
    reward: f64,
    gain: f64,
    kl: f64,
    step_s: f64,
}

/// The numbers that a candidate is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Held-out questions that both have answered.
    pub questions: u64,
    /// Share of right answers before.
    pub before: f64,
    /// Share of right answers after.
    pub after: f64,
    /// Half the width of the interval around their difference.
    margin: f64,
    log_p_before: f64,
    log_p_after: f64,
    kl: f64,
}

impl Lesson {
    /// A lesson of `steps` steps.
    pub fn new(random: &mut Random, steps: u64) -> Self {
        Self {
            step: 0,
            steps,
            reward: random.between(-2.6, -1.2),
            // Most lessons help, some do nothing, a few do harm.
            gain: random.between(-0.25, 0.9),
            kl: random.between(0.01, 0.055),
            step_s: random.between(14.0, 32.0),
        }
    }

    /// How long a step takes, in seconds of the life.
    pub const fn step_s(&self) -> f64 {
        self.step_s
    }

    /// Ends another step, and tells of it.
    pub fn next(&mut self, random: &mut Random) -> StepProgress {
        self.step = (self.step + 1).min(self.steps);
        let done = self.step as f64 / self.steps.max(1) as f64;
        let learned = self.gain * (1.0 - (-3.0 * done).exp());
        let reward = self.reward + learned + 0.12 * random.noise();
        let kl = self.kl * (1.0 - (-2.0 * done).exp()) * random.between(0.85, 1.15);
        let total_s = self.step_s * random.between(0.9, 1.1);
        let numbers = [
            ("step", self.step as f64),
            ("prompts_per_step", 8.0),
            ("reward", reward),
            ("log_p_answer", reward - 0.15 + 0.05 * random.noise()),
            ("kl", kl),
            ("entropy", 1.3 - 0.3 * done + 0.03 * random.noise()),
            ("rationale_tokens", 90.0 + 25.0 * done + 4.0 * random.noise()),
            ("finished_share", (0.8 + 0.15 * done + 0.02 * random.noise()).clamp(0.0, 1.0)),
            ("clipped_ratio", random.between(0.0, 0.04)),
            ("grad_norm", 0.4 + 0.4 * (1.0 - done) + 0.05 * random.noise()),
            ("learning_rate", 1e-4 * (self.step as f64 / 5.0).min(1.0)),
            ("loss", 0.02 * random.noise()),
            ("rollout_s", 0.7 * total_s),
            ("total_s", total_s),
            ("elapsed_s", self.step as f64 * self.step_s),
        ];
        StepProgress::new(self.step, self.steps, numbers.map(|(name, n)| (name, short(n))))
    }

    /// How the candidate compares with an adapter that gives `before` of the answers.
    pub fn evidence(&self, random: &mut Random, before: f64, questions: u64) -> Evidence {
        let n = questions.max(30) as f64;
        let margin = 1.96 * (0.35 * before * (1.0 - before) / n).sqrt();
        // What is left to learn gets less, and what is measured scatters.
        let gain = 0.22 * self.gain * (1.0 - before) + 0.4 * margin * random.noise();
        let log_p_before = -2.2 * (1.0 - before);
        Evidence {
            questions: questions.max(30),
            before,
            after: (before + gain).clamp(0.02, 0.98),
            margin,
            log_p_before,
            log_p_after: log_p_before + 0.9 * gain,
            kl: self.kl * random.between(0.8, 1.2),
        }
    }
}

impl Evidence {
    /// The same comparison on questions that have come since.
    pub fn again(&self, random: &mut Random, questions: u64) -> Self {
        let after = self.after + 0.8 * self.margin * random.noise();
        Self { after: after.clamp(0.02, 0.98), questions, ..*self }
    }

    /// Whether the candidate is promoted.
    pub fn is_proof(&self) -> bool {
        self.after - self.before > self.margin && self.kl <= MAX_KL
    }

    /// Whether an adapter that is compared with its parent again must go.
    pub fn is_disproof(&self) -> bool {
        self.after - self.before < -self.margin
    }

    /// The verdict in words.
    pub fn reason(&self) -> String {
        if self.kl > MAX_KL {
            return format!(
                "the candidate is {:.4} nats per token from the base model on general prompts, more than \
                 the {MAX_KL} allowed",
                self.kl
            );
        }
        let head = match (self.is_proof(), self.is_disproof()) {
            (true, _) => "more answers are right",
            (_, true) => "fewer answers are right",
            _ => "no gain is proven",
        };
        let gain = self.after - self.before;
        let points = |share: f64| 100.0 * share;
        format!(
            "{head}: accuracy {:.1} % ({:+.1} points, bounds {:+.1} to {:+.1}); {} questions",
            points(self.after),
            points(gain),
            points(gain - self.margin),
            points(gain + self.margin),
            self.questions
        )
    }

    /// The numbers, as events have them.
    pub fn numbers(&self) -> Numbers {
        let (gain, log_p_gain) = (self.after - self.before, self.log_p_after - self.log_p_before);
        let numbers = [
            ("accuracy_before", self.before),
            ("accuracy_after", self.after),
            ("accuracy_gain_low", gain - self.margin),
            ("accuracy_gain_high", gain + self.margin),
            ("log_p_before", self.log_p_before),
            ("log_p_after", self.log_p_after),
            ("log_p_gain_low", log_p_gain - self.margin),
            ("log_p_gain_high", log_p_gain + self.margin),
            ("kl_nats_per_token", self.kl),
        ];
        let questions = [("questions", self.questions as f64)].into_iter();
        questions.chain(numbers.map(|(name, n)| (name, short(n)))).collect()
    }

    /// The same, as states have them.
    pub fn named(&self) -> BTreeMap<String, f64> {
        finite(self.numbers())
    }
}

/// As many digits as anybody reads.
fn short(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
