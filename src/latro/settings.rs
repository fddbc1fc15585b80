//! The settings of a training run: the table of them, two presets, and what must hold between them.
//!
//! Knows nothing of files, command lines or models; whether a rank or a length fits a model is
//! checked where the model is known.

use crate::arch::lora::Target;
use crate::settings::{Problem, Rule, Settings, choices, settings};

choices! {
    /// What is learned from.
    pub enum Method {
        /// Sampled rationales, rewarded by the likelihood of the right answer.
        Latro = "latro",
        /// The right answer alone, without a rationale: the baseline to compare with.
        Sft = "sft",
    }
}

choices! {
    /// How the likelihood of the answer's tokens becomes one number.
    pub enum RewardKind {
        /// The sum of the tokens' log-probabilities (LaTRO, eq. 4).
        LogProb = "log_prob",
        /// Their mean, so that long answers don't outweigh short ones.
        MeanLogProb = "mean_log_prob",
        /// The mean of the tokens' probabilities (RLPR, arXiv 2506.18254): between 0 and 1, so that
        /// one very unlikely token doesn't drown out the others.
        MeanProb = "mean_prob",
    }
}

choices! {
    /// Which tokens after the rationale the reward looks at.
    pub enum Span {
        /// The answer phrase, the answer and the end of the turn.
        Full = "full",
        /// The answer's own tokens.
        Answer = "answer",
    }
}

choices! {
    /// How a rationale is judged that used up its tokens without coming to an end.
    pub enum Truncation {
        /// Like any other, as in the paper.
        Keep = "keep",
        /// Its advantage is at most 0, so that being cut off is never encouraged.
        NeverPays = "never_pays",
    }
}

choices! {
    /// What the learning rate does after the warm-up.
    pub enum Schedule {
        /// Falls in a straight line to 0 at the end of the run.
        Linear = "linear",
        /// Falls along half a cosine to 0 at the end of the run.
        Cosine = "cosine",
        /// Stays.
        Constant = "constant",
    }
}

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
        /// More make a step steadier and slower.
        prompts_per_step: usize = 2 => Rule::Whole(1, 4096),
        /// Longest rationale, in tokens.
        ///
        /// The paper has 500.
        max_new_tokens: usize = 128 => Rule::Whole(1, 1 << 20),
        /// Temperature of sampling.
        ///
        /// At 1 samples come from the policy whose log-probabilities the objective uses; any other
        /// temperature makes the gradient an approximation.
        temperature: f32 = 1.0 => Rule::Number(TEMPERATURES.0, TEMPERATURES.1),
        /// Weight of the KL term in the reward (β of eq. 4), in units of reward per nat.
        beta: f64 = 0.05 => Rule::NotNegative,
        /// Weight of the gradient of the answer's own likelihood (w; 1 in eq. 5).
        ///
        /// 0 leaves only the policy gradient, as in the authors' code.
        likelihood_weight: f64 = 1.0 => Rule::NotNegative,
        /// How the answer's likelihood becomes a reward.
        reward: RewardKind = RewardKind::LogProb => Rule::Any,
        /// Which tokens the reward and its gradient look at.
        ///
        /// The gradient of the phrase's likelihood teaches the model to state the answer anywhere,
        /// even in the middle of a thought, and rationales shrink; `answer` leaves the phrase alone.
        reward_span: Span = Span::Full => Rule::Any,
        /// How rationales that ran out of tokens are judged.
        truncation: Truncation = Truncation::NeverPays => Rule::Any,
        /// Judge shorter rationales, in tokens, like those that ran out of tokens. 0: no limit.
        ///
        /// Where the answer phrase is costly, a model learns to leave the rationale out; a limit of
        /// a few tokens prevents that. Only with truncation `never_pays`, and below
        /// `max_new_tokens`.
        min_rationale_tokens: usize = 0 => Rule::Any,
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
    /// The default: half the paper's samples, and guards that an unattended device needs.
    #[must_use]
    pub fn edge() -> Self {
        Self::default()
    }

    /// The algorithm of the paper (arXiv 2411.04282, section 4 and appendix): K 16, T 1, L 500,
    /// β 0.05, AdamW with linear decay, w = 1, no clipping, nothing skipped.
    ///
    /// Three values are ours, because the paper tunes every weight of the model and this program
    /// adapters: rank 16, α 32, and the learning rate 1e-5. The paper's 5e-7 is for full tuning;
    /// on LoRA's factors, which start at B = 0, it would hardly move the model.
    #[must_use]
    pub fn paper() -> Self {
        Self {
            num_generations: 16,
            max_new_tokens: 500,
            truncation: Truncation::Keep,
            stop_counts: false,
            skip_flat: false,
            learning_rate: 1e-5,
            warmup_steps: 0,
            max_grad_norm: 0.0,
            ..Self::edge()
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

    fn conflicts(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut check = |ok: bool, name: &'static str, sentence: String| {
            if !ok {
                found.push((name, sentence));
            }
        };
        let k = self.num_generations;
        check(
            self.method != Method::Latro || k >= 2,
            "num_generations",
            format!("is {k}, but a rationale is compared with others: use at least 2"),
        );
        let (least, most) = (self.min_rationale_tokens, self.max_new_tokens);
        check(
            least == 0 || least < most,
            "min_rationale_tokens",
            format!("is {least}: use less than max_new_tokens, {most}"),
        );
        check(
            least == 0 || self.truncation == Truncation::NeverPays,
            "min_rationale_tokens",
            format!(
                "is {least}, but only truncation never_pays looks at it: choose that or leave \
                 min_rationale_tokens at 0"
            ),
        );
        check(!self.target_modules.is_empty(), "target_modules", "is empty: name a layer".into());
        for (i, target) in self.target_modules.iter().enumerate() {
            check(
                !self.target_modules[..i].contains(target),
                "target_modules",
                format!("names {} twice: name it once", target.peft_name()),
            );
        }
        found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_presets_are_valid() {
        assert_eq!(TrainSettings::paper().validate(), Ok(()));
        assert_eq!(TrainSettings::edge().validate(), Ok(()));
        assert_eq!(TrainSettings::default(), TrainSettings::edge());
    }

    #[test]
    fn paper_differs_from_edge_where_the_paper_does() {
        let paper = TrainSettings::paper();

        assert_eq!((paper.num_generations, paper.max_new_tokens, paper.beta), (16, 500, 0.05));
        assert_eq!((paper.max_grad_norm, paper.skip_flat), (0.0, false));
        assert_eq!((paper.truncation, paper.likelihood_weight), (Truncation::Keep, 1.0));
    }

    #[test]
    fn all_errors_come_at_once() {
        let settings = TrainSettings {
            num_generations: 1,
            learning_rate: f64::NAN,
            beta: -1.0,
            max_grad_norm: -1.0,
            target_modules: vec![Target::Q, Target::Q],
            steps: 0,
            ..TrainSettings::edge()
        };

        let errors = settings.validate().unwrap_err();

        assert_eq!(errors.len(), 6, "{errors:#?}");
        assert!(errors.iter().any(|e| e.starts_with("num_generations is 1")), "{errors:#?}");
    }

    #[test]
    fn temperatures_have_both_ends() {
        let errors = |temperature| {
            let settings = TrainSettings { temperature, ..TrainSettings::edge() };
            settings.validate().map_or_else(|wrong| wrong.len(), |()| 0)
        };

        assert_eq!([0.01, 1.0, 100.0].map(errors), [0; 3]);
        assert_eq!([0.0, 0.009, 101.0, -1.0, f32::NAN, f32::INFINITY].map(errors), [1; 6]);
    }

    #[test]
    fn a_least_length_needs_room_and_a_judge() {
        let errors = |least, truncation| {
            let settings = TrainSettings {
                min_rationale_tokens: least,
                max_new_tokens: 16,
                truncation,
                ..TrainSettings::edge()
            };
            settings.validate().map_or_else(|wrong| wrong.join("; "), |()| String::new())
        };

        assert_eq!(errors(15, Truncation::NeverPays), "");
        assert_eq!(errors(0, Truncation::Keep), "");
        assert!(errors(16, Truncation::NeverPays).contains("use less than max_new_tokens, 16"));
        assert!(errors(8, Truncation::Keep).contains("never_pays"));
    }

    #[test]
    fn a_collapse_is_a_finite_length() {
        for collapse_tokens in [-1.0, f64::NAN, f64::INFINITY] {
            let settings = TrainSettings { collapse_tokens, ..TrainSettings::edge() };

            let wrong = settings.validate().unwrap_err();

            assert!(wrong[0].contains("collapse_tokens"), "{wrong:?}");
        }
    }

    #[test]
    fn supervised_training_needs_no_group() {
        let settings =
            TrainSettings { method: Method::Sft, num_generations: 1, ..TrainSettings::edge() };

        assert_eq!(settings.validate(), Ok(()));
    }

    #[test]
    fn settings_survive_json_and_toml() {
        for settings in [TrainSettings::paper(), TrainSettings::edge()] {
            let json = serde_json::to_string(&settings).unwrap();
            let toml = toml::to_string(&settings).unwrap();

            assert_eq!(serde_json::from_str::<TrainSettings>(&json).unwrap(), settings);
            assert_eq!(toml::from_str::<TrainSettings>(&toml).unwrap(), settings);
        }
    }

    #[test]
    fn a_part_is_completed_from_edge_and_a_slip_is_refused() {
        let part: TrainSettings =
            toml::from_str("num_generations = 4\ntarget_modules = ['q_proj']").unwrap();

        assert_eq!(part.num_generations, 4);
        assert_eq!(part.target_modules, [Target::Q]);
        assert_eq!(part.rank, TrainSettings::edge().rank);
        let slip = toml::from_str::<TrainSettings>("learning_rte = 1").unwrap_err().to_string();
        assert!(slip.contains("learning_rte"), "{slip}");
        let slip = toml::from_str::<TrainSettings>("target_modules = ['qq']").unwrap_err();
        assert!(slip.to_string().contains("q_proj"), "{slip}");
    }
}
