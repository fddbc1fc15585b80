//! The settings of a training run: the table of them, presets, and what must hold between them.
//!
//! Knows nothing of files, command lines or models; whether a rank or a length fits a model is
//! checked where the model is known.

use crate::answer::{AnswerKind, Mark};
use crate::arch::lora::Target;
use crate::settings::{Choice, Rule, Settings, settings};
use crate::text::Wording;

mod choices;
mod conflicts;
mod presets;
#[cfg(test)]
mod tests;

pub use choices::{Method, RewardKind, Schedule, Seam, Span, TaskOrder, Truncation, WarmStart};
pub use presets::Preset;

/// AdamW's own numbers; see [`crate::latro::optimizer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Decay of the mean of the gradients, per step.
    pub beta1: f64,
    /// Decay of the mean of their squares, per step.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of a parameter that decays per step and unit of learning rate.
    pub weight_decay: f64,
}

settings! {
    /// The learner, as in `latrod train`. A cycle of the daemon starts from the active adapter.
    pub struct TrainSettings {
        /// What to learn from.
        method: Method = Method::Latro => Rule::Any,
        /// Rationales sampled for each prompt, at least 2: each is compared with the others.
        ///
        /// The paper has 16, which halves the noise of the baseline at twice the cost.
        num_generations: usize = 8 => Rule::Whole(0, 1024),
        /// Prompts whose gradients make one step.
        ///
        /// More make a step steadier and slower, and sample more tokens a second. Half of the prompts
        /// or more may turn out flat.
        prompts_per_step: usize = 12 => Rule::Whole(1, 4096),
        /// In which order tasks come up.
        ///
        /// Where all rationales of a prompt earn the same, there is nothing to learn. Only where rewards
        /// are probabilities.
        task_order: TaskOrder = TaskOrder::Success => Rule::Any,
        /// Prompts of a step that should not be flat: where more are, others are asked as well, up to
        /// three times `prompts_per_step` in all (DAPO's dynamic sampling, arXiv 2503.14476). 0: no
        /// others are.
        ///
        /// A step that learns from one or two prompts is mostly noise.
        teaching_prompts: usize = 4 => Rule::Whole(0, 4096),
        /// Longest rationale, in tokens.
        ///
        /// The paper has 500.
        max_new_tokens: usize = 400 => Rule::Whole(1, 1 << 20),
        /// A system message before the question. Empty: what the model's template says without one.
        system_prompt: String = String::new() => Rule::Any,
        /// What stands before a question, in the same message.
        prompt_prefix: String = String::new() => Rule::Any,
        /// What follows a question, in the same message.
        ///
        /// What is learned is learned for this prompt: train with what the application sends.
        prompt_suffix: String = String::new() => Rule::Any,
        /// Temperature of sampling.
        ///
        /// The policy that learns is softmax(logits / temperature), and log p(z | x) is its; the right
        /// answer's likelihood is that at 1. At 1 a small model loses its way in many rationales, and what
        /// is learned first is to keep to it, which greedy decoding does anyway.
        temperature: f32 = 0.7 => Rule::Number(TEMPERATURES.0, TEMPERATURES.1),
        /// Weight of the KL term in the reward (β of eq. 4), in units of reward per nat.
        ///
        /// Where the reward is a probability, a nat is much. At 0 the reference is not computed but for
        /// one prompt of a step, for the sentinel.
        beta: f64 = 0.0 => Rule::NotNegative,
        /// Weight of the gradient of the answer's own likelihood (w; 1 in eq. 5).
        ///
        /// 0 leaves only the policy gradient, as in the authors' code.
        likelihood_weight: f64 = 1.0 => Rule::NotNegative,
        /// What kind of text answers are, and so how they are compared.
        answer_kind: AnswerKind = AnswerKind::Auto => Rule::Any,
        /// Where a rationale ends and what follows it.
        seam: Seam = Seam::Policy => Rule::Any,
        /// What announces an answer, with seam `policy`.
        answer_marks: Vec<Mark> = <Mark as Choice>::ALL.to_vec() => Rule::Any,
        /// How the answer's likelihood becomes a reward.
        reward: RewardKind = RewardKind::Prob => Rule::Any,
        /// How many times the reward of a guess, made without a rationale, is taken off every reward,
        /// which then is 0 at least. 0: nothing is.
        ///
        /// Without it a lucky guess has the best advantage where thinking does not help, and the model
        /// learns to answer at once. Only where rewards are probabilities, with seam `policy`.
        guess_weight: f64 = 1.1 => Rule::NotNegative,
        /// Which tokens the reward and its gradient look at.
        ///
        /// The gradient of the phrase's likelihood teaches the model to state the answer anywhere,
        /// even in the middle of a thought, and rationales shrink; `answer` leaves the phrase alone.
        reward_span: Span = Span::Full => Rule::Any,
        /// How rationales that ran out of tokens are judged.
        truncation: Truncation = Truncation::Zero => Rule::Any,
        /// Judge shorter rationales, in tokens, like those that ran out of tokens. 0: no limit.
        ///
        /// Where the answer phrase is costly, a model learns to leave the rationale out; a limit of
        /// a few tokens prevents that. Only with truncation `never_pays`, and below
        /// `max_new_tokens`.
        min_rationale_tokens: usize = 0 => Rule::Any,
        /// End rationales that repeat the same text over and over, and judge them like those that ran out
        /// of tokens.
        ///
        /// They come to no answer, and the longest rationales decide how long sampling takes.
        stop_repeating: bool = true => Rule::Any,
        /// Cut rationales off at one and a half times the longest that has lately earned something, where
        /// that is less than `max_new_tokens`.
        ///
        /// Those that are much longer come to nothing, and everything waits for them.
        adapt_length: bool = true => Rule::Any,
        /// Count the token that ended a rationale in its probability.
        ///
        /// The choice to stop is the model's too; if it doesn't count, nothing holds rationales back
        /// from shrinking to nothing. The paper's formula covers the rationale's own tokens.
        stop_counts: bool = true => Rule::Any,
        /// Mean rationale length, in tokens, below which the sentinel reports a collapse. 0: never.
        collapse_tokens: f64 = 2.0 => Rule::NotNegative,
        /// Skip prompts whose rewards hardly differ from one rationale to the next.
        ///
        /// Their backward pass costs as much as any and says little.
        skip_flat: bool = true => Rule::Any,
        /// A prompt is flat if its rewards' standard deviation is below this share of the moving
        /// average.
        ///
        /// Rollouts are costly, so only clear cases are thrown away.
        flat_share: f64 = 0.25 => Rule::Share,
        /// A prompt is flat as well if its rewards' standard deviation is below this.
        ///
        /// AdamW makes a step of full size even of next to nothing.
        flat_spread: f64 = 0.01 => Rule::NotNegative,
        /// Learn from so many rationales of a prompt only, those whose rewards differ the most. 0: all.
        ///
        /// Passing through the model forwards and backwards costs more than sampling, and the middling
        /// say little.
        update_generations: usize = 4 => Rule::Whole(0, 1024),
        /// First steps that learn from one right rationale of each question, supervised, instead of
        /// comparing rationales. 0: none.
        ///
        /// Only with seam `policy`, where rationales announce answers of their own.
        warm_start_steps: u64 = 0 => Rule::Any,
        /// Which rationale these first steps learn from.
        warm_start: WarmStart = WarmStart::Worked => Rule::Any,
        /// Divide advantages by the standard deviation of their group.
        ///
        /// Neither the paper nor RLOO does, and it magnifies prompts that are nearly flat.
        scale_rewards: bool = false => Rule::Any,
        /// Rank of the LoRA update.
        rank: usize = 16 => Rule::Whole(1, 4096),
        /// LoRA's α: the update is scaled by α / rank.
        alpha: f32 = 32.0 => Rule::Positive,
        /// Layers to adapt, by PEFT's names, for example `q_proj,v_proj`.
        ///
        /// All seven learn more than attention alone at the same rank.
        target_modules: Vec<Target> as "target_names" = Target::ALL.to_vec() => Rule::Any,
        /// Peak learning rate.
        ///
        /// 1e-4 is usual for LoRA.
        learning_rate: f64 = 1e-4 => Rule::Positive,
        /// Steps over which the learning rate rises to its peak; a shorter run never gets there.
        ///
        /// 5 are enough for AdamW's moments to settle.
        warmup_steps: u64 = 5 => Rule::Any,
        /// Training steps of the whole run, or of a cycle of the daemon.
        ///
        /// A run can be lengthened: run it again with more. The schedule of the learning rate is then
        /// that of the longer run.
        steps: u64 = 200 => Rule::Whole(1, u64::MAX),
        /// What the learning rate does after the warm-up.
        lr_scheduler: Schedule = Schedule::Linear => Rule::Any,
        /// AdamW's weight decay.
        ///
        /// LoRA starts at no change, and the KL term already pulls towards the base model.
        weight_decay: f64 = 0.0 => Rule::NotNegative,
        /// AdamW's β₁.
        adam_beta1: f64 = 0.9 => Rule::Share,
        /// AdamW's β₂.
        adam_beta2: f64 = 0.999 => Rule::Share,
        /// AdamW's ε.
        adam_epsilon: f64 = 1e-8 => Rule::Positive,
        /// Largest norm of the gradient; a longer one is scaled down to it. 0: no limit, as in the
        /// paper.
        max_grad_norm: f64 = 1.0 => Rule::NotNegative,
        /// Seed of everything random: adapter, order of tasks, sampling.
        seed: u64 = 0 => Rule::Any,
    }
    check TrainSettings::conflicts
}

/// Temperatures at which logits divided by them, and differences of these, keep their meaning.
const TEMPERATURES: (f64, f64) = (0.01, 100.0);

impl TrainSettings {
    /// The words around questions.
    #[must_use]
    pub fn wording(&self) -> Wording {
        Wording {
            system: self.system_prompt.clone(),
            prefix: self.prompt_prefix.clone(),
            suffix: self.prompt_suffix.clone(),
        }
    }

    /// The numbers that AdamW needs.
    #[must_use]
    pub const fn adam(&self) -> AdamSettings {
        AdamSettings {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            eps: self.adam_epsilon,
            weight_decay: self.weight_decay,
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// One sentence for each value that cannot be used, all of them at once.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let problems = self.problems();
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.into_iter().map(|(name, sentence)| format!("{name} {sentence}")).collect())
    }
}

/// Layers by the names that PEFT gives them.
mod target_names {
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::SerializeSeq};

    use crate::arch::lora::Target;

    pub fn serialize<S: Serializer>(targets: &[Target], to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(targets.len()))?;
        for target in targets {
            list.serialize_element(target.peft_name())?;
        }
        list.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Target>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
    }

    impl std::str::FromStr for Target {
        type Err = String;

        fn from_str(name: &str) -> Result<Self, String> {
            Self::ALL.into_iter().find(|t| t.peft_name() == name).ok_or_else(|| {
                let known = Self::ALL.map(Self::peft_name).join(", ");
                format!("unknown layer {name:?} in target_modules; use {known}")
            })
        }
    }
}
