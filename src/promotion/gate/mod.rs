//! Promote or reject: the decision from paired results, with the reason.
//!
//! Two measures are taken of the same questions: whether the greedy answer is right, and the log
//! likelihood of the right answer per token (each question counting the same, however long its
//! answer). Likelihood is the finer measure, and what LaTRO follows; accuracy is what users see. So
//! a candidate has *gained* if
//!
//! - its likelihood is proven better, its accuracy has not fallen (the observed difference is not
//!   below the tolerance, nor proven worse), and it is not next to nothing, or
//! - its accuracy is proven better and its likelihood not proven worse.
//!
//! Of likelihood *worse* is proven only if it holds for the probability of the right answers as well as
//! for its logarithm. A model that begins to think is sure of what it says: where its rationale is right,
//! the answer's probability goes from little to 1, where it is wrong, from little to nothing. That
//! lowers the mean of the logarithms however many more answers are right.
//!
//! *Proven* means that the bound of the difference lies beyond 0, for accuracy also that the exact
//! test of McNemar agrees, since Newcombe's interval is too narrow where few questions changed
//! ([`super::interval`] has the sources).
//!
//! **How often that is wrong.** With α = 1 − `confidence`, a candidate that is no better than the
//! baseline is promoted with probability α at most: each of the two ways has half of it (Bonferroni).
//! Cycle after cycle asks the same held-out questions, and asking often enough gets a yes by
//! chance. So the k-th candidate against the same baseline gets α/(k(k + 1)), which adds up to α over
//! all k: it is the probability that an active adapter is *ever* replaced by one that is no better,
//! however many are tried (alpha spending; Foster and Stine 2008, "α-investing", J. R. Statist. Soc. B
//! 70, starts over with each success in the same way). A promotion makes a new baseline and starts
//! the count over; what a chain of promotions owes to the luck of one held-out set, [`check`] finds
//! on fresh tasks.
//!
//! Beside the gain, the general prompts: the mean KL to the base model must be within its limit.
//!
//! Pure. Knows no tasks, only their results, so no text of a task can leave through it.

mod sentence;
mod settings;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::forget::Forget;
use super::interval::{Interval, PairedCounts, mean_interval};

pub use settings::{Approval, GateSettings};

impl GateSettings {
    /// The probability of error at each end of each interval, for the `attempt`-th comparison with
    /// the same baseline (1 for the first).
    #[must_use]
    pub fn tail(&self, attempt: u32) -> f64 {
        let k = f64::from(attempt.max(1));
        let share = if self.correct_repeats { 1.0 / (k * (k + 1.0)) } else { 1.0 };
        // Two measures, either of which may decide.
        (1.0 - self.confidence) * share / 2.0
    }
}

/// What one policy made of one question.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// Whether the greedy answer is right.
    pub correct: bool,
    /// log p of the right answer, nats. Not finite where the policy computes no numbers.
    #[serde(with = "maybe_finite")]
    pub log_p_answer: f64,
    /// Tokens of the right answer.
    pub answer_tokens: usize,
}

impl Answered {
    /// log p of the right answer per token, nats.
    #[must_use]
    pub fn log_p_per_token(&self) -> f64 {
        self.log_p_answer / self.answer_tokens.max(1) as f64
    }
}

/// JSON has no NaN and no infinities: they are stored as `null` and come back as NaN.
mod maybe_finite {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// One question, asked of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The active adapter, or the base model where there is none; in [`check`], the parent.
    pub baseline: Answered,
    /// The candidate; in [`check`], the active adapter.
    pub candidate: Answered,
}

/// Everything that a decision depends on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Paired {
    pub questions: Vec<Pair>,
    /// How far the candidate is from the base model on general prompts, if that was measured.
    pub forget: Option<Forget>,
    /// Which comparison with this baseline it is: 1 for the first, then 2, 3 …
    pub attempt: u32,
}

/// What becomes of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Promote,
    Reject,
    /// Too few questions to say.
    Undecided,
}

/// What becomes of the active adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Keep,
    RollBack,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Fewer questions than asked for.
    TooFew,
    /// A likelihood is not a finite number.
    NotFinite,
    /// Too far from the base model on general prompts, or not measured though there is a limit.
    Forgot,
    /// Accuracy fell.
    AccuracyFell,
    /// Likelihood fell.
    LikelihoodFell,
    /// Likelihood is proven better, but hardly any answer is right.
    AccuracyLow,
    /// Neither a gain nor a loss is proven.
    NotProven,
    /// Likelihood is proven better, accuracy has not fallen.
    LikelihoodGained,
    /// Accuracy is proven better, likelihood has not fallen.
    AccuracyGained,
}

/// One measure of both policies and the difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The mean of the baseline.
    pub baseline: f64,
    /// The mean of the candidate.
    pub candidate: f64,
    /// Candidate less baseline.
    pub gain: Interval,
}

/// The numbers behind a decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Share of right answers, 0 to 1.
    pub accuracy: Gain,
    /// Questions by who answered them right.
    pub counts: PairedCounts,
    /// log p of the right answer per token, nats.
    pub log_p_per_token: Gain,
    /// Probability of the right answer, as the geometric mean over its tokens: 0 to 1. Not in what
    /// earlier versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_per_token: Option<Gain>,
    /// The probability of error at each end of the intervals.
    pub tail: f64,
}

/// What the gate says of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub verdict: Verdict,
    pub finding: Finding,
    /// One sentence with the numbers that decided.
    pub reason: String,
    pub questions: usize,
    pub attempt: u32,
    /// `None` for fewer than two questions or likelihoods that are not finite.
    pub evidence: Option<Evidence>,
    pub forget: Option<Forget>,
}

/// What a later look at an active adapter says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    pub verdict: Check,
    pub finding: Finding,
    /// One sentence with the numbers that decided.
    pub reason: String,
    pub questions: usize,
    pub attempt: u32,
    /// As in [`Decision`].
    pub evidence: Option<Evidence>,
}

impl Evidence {
    /// Weighs the questions; `None` if there are fewer than two or one has no finite likelihood.
    #[must_use]
    pub fn of(questions: &[Pair], tail: f64) -> Option<Self> {
        let n = questions.len() as f64;
        let mean = |f: &dyn Fn(&Pair) -> f64| questions.iter().map(f).sum::<f64>() / n;
        let gain = |of: &dyn Fn(&Answered) -> f64| {
            let differences: Vec<f64> =
                questions.iter().map(|q| of(&q.candidate) - of(&q.baseline)).collect();
            let (baseline, candidate) = (mean(&|q| of(&q.baseline)), mean(&|q| of(&q.candidate)));
            let gain = mean_interval(&differences, tail).ok()?;
            let sound = baseline.is_finite() && candidate.is_finite();
            sound.then_some(Gain { baseline, candidate, gain })
        };
        let log_p_per_token = gain(&Answered::log_p_per_token)?;
        let p_per_token = gain(&|answered| answered.log_p_per_token().exp());
        let counts =
            PairedCounts::of(questions.iter().map(|q| (q.baseline.correct, q.candidate.correct)));
        let right = |correct: bool| f64::from(u8::from(correct));
        Some(Self {
            accuracy: Gain {
                baseline: mean(&|q| right(q.baseline.correct)),
                candidate: mean(&|q| right(q.candidate.correct)),
                gain: counts.accuracy_gain(tail),
            },
            counts,
            log_p_per_token,
            p_per_token,
            tail,
        })
    }

    fn likelihood_better(&self) -> bool {
        self.log_p_per_token.gain.lower > 0.0
    }

    fn likelihood_worse(&self) -> bool {
        let less = |gain: &Gain| gain.gain.upper < 0.0;
        less(&self.log_p_per_token) && self.p_per_token.as_ref().is_none_or(less)
    }

    fn accuracy_better(&self) -> bool {
        self.accuracy.gain.lower > 0.0 && self.counts.gain_p() <= self.tail
    }

    fn accuracy_worse(&self) -> bool {
        self.accuracy.gain.upper < 0.0 && self.counts.loss_p() <= self.tail
    }

    /// Whether the observed accuracy fell by more than so many percent of the questions.
    fn accuracy_fell_by(&self, percent: f64) -> bool {
        let net_loss = self.counts.lost as f64 - self.counts.gained as f64;
        100.0 * net_loss > percent * self.counts.questions() as f64
    }
}

/// Whether the candidate takes the baseline's place.
#[must_use]
pub fn decide(settings: &GateSettings, paired: &Paired) -> Decision {
    let Paired { questions, forget, attempt } = paired;
    let evidence = Evidence::of(questions, settings.tail(*attempt));
    let finding = finding_of(settings, paired, evidence.as_ref());
    let verdict = match finding {
        Finding::TooFew => Verdict::Undecided,
        Finding::LikelihoodGained | Finding::AccuracyGained => Verdict::Promote,
        _ => Verdict::Reject,
    };
    let reason = sentence::of_decision(settings, paired, finding, evidence.as_ref());
    Decision {
        verdict,
        finding,
        reason,
        questions: questions.len(),
        attempt: *attempt,
        evidence,
        forget: *forget,
    }
}

fn finding_of(settings: &GateSettings, paired: &Paired, evidence: Option<&Evidence>) -> Finding {
    if paired.questions.len() < settings.min_questions.max(2) {
        return Finding::TooFew;
    }
    let Some(evidence) = evidence else { return Finding::NotFinite };
    // A KL that is not a number exceeds every limit.
    let limit = settings.max_kl_nats_per_token;
    let within = paired.forget.is_some_and(|f| f.kl_nats_per_token <= limit);
    if limit > 0.0 && !within {
        return Finding::Forgot;
    }
    let fell =
        evidence.accuracy_worse() || evidence.accuracy_fell_by(settings.max_accuracy_loss_percent);
    let low = 100.0 * evidence.accuracy.candidate < settings.min_accuracy_percent;
    if evidence.likelihood_better() && !fell && !low {
        Finding::LikelihoodGained
    } else if evidence.accuracy_better() && !evidence.likelihood_worse() {
        Finding::AccuracyGained
    } else if fell {
        Finding::AccuracyFell
    } else if evidence.likelihood_worse() {
        Finding::LikelihoodFell
    } else if evidence.likelihood_better() {
        Finding::AccuracyLow
    } else {
        Finding::NotProven
    }
}

/// Whether an active adapter (the candidate in `paired`) is still better than its parent (the
/// baseline), on tasks that came after its promotion. It is rolled back if its accuracy is proven
/// worse, or its likelihood is and its accuracy not proven better. With too few questions it stays.
#[must_use]
pub fn check(settings: &GateSettings, paired: &Paired) -> Checked {
    let Paired { questions, attempt, .. } = paired;
    let evidence = Evidence::of(questions, settings.tail(*attempt));
    let finding = match &evidence {
        _ if questions.len() < settings.min_questions.max(2) => Finding::TooFew,
        None => Finding::NotFinite,
        Some(e) if e.accuracy_worse() => Finding::AccuracyFell,
        Some(e) if e.likelihood_worse() && !e.accuracy_better() => Finding::LikelihoodFell,
        Some(e) if e.accuracy_better() => Finding::AccuracyGained,
        Some(e) if e.likelihood_better() => Finding::LikelihoodGained,
        Some(_) => Finding::NotProven,
    };
    let verdict = match finding {
        // An adapter that does not compute numbers answers nobody.
        Finding::NotFinite if !finite(questions, |q| q.candidate) => Check::RollBack,
        Finding::AccuracyFell | Finding::LikelihoodFell => Check::RollBack,
        _ => Check::Keep,
    };
    let reason = sentence::of_check(settings, paired, finding, evidence.as_ref());
    Checked { verdict, finding, reason, questions: questions.len(), attempt: *attempt, evidence }
}

fn finite(questions: &[Pair], side: impl Fn(&Pair) -> Answered) -> bool {
    questions.iter().all(|q| side(q).log_p_answer.is_finite())
}
