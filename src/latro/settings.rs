//! The settings of a training run: two presets, what each value means, and the check of them all.
//!
//! Knows nothing of files, command lines or models; whether a rank or a length fits a model is
//! checked where the model is known.

use serde::{Deserialize, Serialize};

use crate::arch::lora::Target;

/// What is learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Method {
    /// Sampled rationales, rewarded by the likelihood of the right answer.
    Latro,
    /// The right answer alone, without a rationale: the baseline to compare with.
    Sft,
}

/// How the likelihood of the answer's tokens becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum RewardKind {
    /// The sum of the tokens' log-probabilities (LaTRO, eq. 4).
    LogProb,
    /// Their mean, so that long answers don't outweigh short ones.
    MeanLogProb,
    /// The mean of the tokens' probabilities (RLPR, arXiv 2506.18254): between 0 and 1, so that one
    /// very unlikely token doesn't drown the others.
    MeanProb,
}

/// Which tokens after the rationale the reward looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Span {
    /// The answer phrase, the answer and the end of the turn.
    Full,
    /// The answer's own tokens.
    Answer,
}

/// How a rationale is judged that used up its tokens without coming to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Truncation {
    /// As any other (the paper).
    Keep,
    /// Its advantage is at most 0, so that being cut off is never encouraged.
    NeverPays,
}

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Schedule {
    /// Falls on a straight line to 0 at the end of the run.
    Linear,
    /// Falls on half a cosine to 0 at the end of the run.
    Cosine,
    /// Stays.
    Constant,
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

/// Everything that decides what a training run does, apart from model, tasks and compute mode.
///
/// A missing field takes its value from [`TrainSettings::edge`]; an unknown one is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// What is learned from. Default: `latro`.
    pub method: Method,
    /// Rationales sampled per prompt, at least 2: each is compared with the others. Default 8; the
    /// paper has 16, which halves the noise of the baseline at twice the cost.
    pub num_generations: usize,
    /// Prompts whose gradients make one step. Default 2: more make a step steadier and slower.
    pub prompts_per_step: usize,
    /// Longest rationale, in tokens. Default 128; the paper has 500.
    pub max_new_tokens: usize,
    /// Temperature of sampling. Default 1, the only one at which samples come from the policy whose
    /// log-probabilities the objective uses; others make the gradient an approximation. From 0.01
    /// to 100.
    pub temperature: f32,
    /// Weight of the KL term in the reward (β of eq. 4), in units of reward per nat. Default 0.05.
    pub beta: f64,
    /// Weight of the answer's own likelihood gradient (w; 1 in eq. 5). Default 1; 0 leaves only the
    /// policy gradient, as the authors' code does.
    pub likelihood_weight: f64,
    /// How the answer's likelihood becomes one number. Default: `log_prob`.
    pub reward: RewardKind,
    /// Which tokens the reward and its gradient look at. Default: `full`, as in the paper. The
    /// gradient of the phrase's likelihood teaches the model to state the answer anywhere, also in
    /// the middle of a thought, and rationales shrink; `answer` leaves the phrase alone.
    pub reward_span: Span,
    /// How truncated rationales are judged. Default: `never_pays`.
    pub truncation: Truncation,
    /// With `never_pays`, a rationale of fewer tokens than this is judged as a truncated one is: its
    /// advantage is at most 0. Default 0, no limit. Where the answer phrase is costly, a model
    /// learns to leave the rationale out; a limit of some tokens keeps it. Must be below
    /// `max_new_tokens`.
    pub min_rationale_tokens: usize,
    /// Whether the token with which the model ended a rationale counts in log p(z|x). Default true:
    /// the choice to stop is the model's too, and without it nothing holds rationales back from
    /// shrinking to nothing. The paper's formula covers the rationale's own tokens.
    pub stop_counts: bool,
    /// Mean rationale length in tokens under which the sentinel speaks of a collapse. Default 2; 0
    /// lets rationales vanish.
    pub collapse_tokens: f64,
    /// Whether prompts are skipped whose rewards hardly differ from one rationale to the next.
    /// Default true: their backward pass costs as much as any and says little.
    pub skip_flat: bool,
    /// A prompt is flat if its rewards' standard deviation is below this share of the moving
    /// average. Default 0.25: rollouts are costly, so only clear cases are thrown away.
    pub flat_share: f64,
    /// Whether advantages are divided by the standard deviation of their group. Default false: it
    /// is in neither the paper nor RLOO, and it magnifies prompts that are nearly flat.
    pub scale_rewards: bool,
    /// Rank of the LoRA update. Default 16.
    pub rank: usize,
    /// LoRA's α; the update is scaled by α / rank. Default 32.
    pub alpha: f32,
    /// The layers that are adapted, by PEFT's names. Default: all seven, which learns more than
    /// attention alone at the same rank.
    #[serde(with = "target_names")]
    pub target_modules: Vec<Target>,
    /// Peak learning rate. Default 1e-4, a usual value for LoRA.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its peak; a shorter run never gets there.
    /// Default 5: enough for AdamW's moments to settle.
    pub warmup_steps: u64,
    /// Steps of the run. Default 200.
    pub steps: u64,
    /// What the learning rate does after the warm-up. Default: `linear`.
    pub lr_scheduler: Schedule,
    /// AdamW's weight decay. Default 0: LoRA starts at no change, and the KL term already pulls
    /// towards the base model.
    pub weight_decay: f64,
    /// AdamW's β₁. Default 0.9.
    pub adam_beta1: f64,
    /// AdamW's β₂. Default 0.999.
    pub adam_beta2: f64,
    /// AdamW's ε. Default 1e-8.
    pub adam_epsilon: f64,
    /// The gradient's norm is cut to this. Default 1; none in the paper, written as 0 in files.
    #[serde(with = "zero_is_none")]
    pub max_grad_norm: Option<f64>,
    /// Seed of everything random: adapter, order of tasks, sampling. Default 0.
    pub seed: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self::edge()
    }
}

impl TrainSettings {
    /// The default: half the paper's samples, and guards that an unattended device needs.
    #[must_use]
    pub fn edge() -> Self {
        Self {
            method: Method::Latro,
            num_generations: 8,
            prompts_per_step: 2,
            max_new_tokens: 128,
            temperature: 1.0,
            beta: 0.05,
            likelihood_weight: 1.0,
            reward: RewardKind::LogProb,
            reward_span: Span::Full,
            truncation: Truncation::NeverPays,
            min_rationale_tokens: 0,
            stop_counts: true,
            collapse_tokens: 2.0,
            skip_flat: true,
            flat_share: 0.25,
            scale_rewards: false,
            rank: 16,
            alpha: 32.0,
            target_modules: Target::ALL.to_vec(),
            learning_rate: 1e-4,
            warmup_steps: 5,
            steps: 200,
            lr_scheduler: Schedule::Linear,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: Some(1.0),
            seed: 0,
        }
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
            max_grad_norm: None,
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
        let mut wrong = Vec::new();
        let mut check = |ok: bool, sentence: String| {
            if !ok {
                wrong.push(sentence);
            }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let (k, latro) = (self.num_generations, self.method == Method::Latro);
        check(
            !latro || k >= 2,
            format!(
                "num_generations is {k}, but a rationale is compared with others: use at least 2"
            ),
        );
        check(k <= MAX_K, format!("num_generations is {k}: use at most {MAX_K}"));
        for (name, value, most) in [
            ("prompts_per_step", self.prompts_per_step, MAX_PROMPTS),
            ("max_new_tokens", self.max_new_tokens, MAX_TOKENS),
            ("rank", self.rank, MAX_RANK),
        ] {
            let ok = (1..=most).contains(&value);
            check(ok, format!("{name} is {value}: use a number from 1 to {most}"));
        }
        for (name, value) in [
            ("alpha", f64::from(self.alpha)),
            ("learning_rate", self.learning_rate),
            ("adam_epsilon", self.adam_epsilon),
            ("max_grad_norm", self.max_grad_norm.unwrap_or(1.0)),
        ] {
            check(positive(value), format!("{name} is {value}: use a finite number above 0"));
        }
        for (name, value) in [
            ("beta", self.beta),
            ("likelihood_weight", self.likelihood_weight),
            ("weight_decay", self.weight_decay),
            ("collapse_tokens", self.collapse_tokens),
        ] {
            check(
                not_negative(value),
                format!("{name} is {value}: use a finite number, 0 or more"),
            );
        }
        for (name, value) in [
            ("adam_beta1", self.adam_beta1),
            ("adam_beta2", self.adam_beta2),
            ("flat_share", self.flat_share),
        ] {
            let ok = (0.0..1.0).contains(&value);
            check(ok, format!("{name} is {value}: use a number from 0 to below 1"));
        }
        let (low, high) = (TEMPERATURES.start(), TEMPERATURES.end());
        check(
            TEMPERATURES.contains(&self.temperature),
            format!("temperature is {}: use a number from {low} to {high}", self.temperature),
        );
        let (least, most) = (self.min_rationale_tokens, self.max_new_tokens);
        check(
            least == 0 || least < most,
            format!("min_rationale_tokens is {least}: use less than max_new_tokens, {most}"),
        );
        check(
            least == 0 || self.truncation == Truncation::NeverPays,
            format!(
                "min_rationale_tokens is {least}, but only truncation never_pays looks at it: \
                 choose that or leave min_rationale_tokens at 0"
            ),
        );
        check(self.steps >= 1, "steps is 0: use at least 1".into());
        check(!self.target_modules.is_empty(), "target_modules is empty: name a layer".into());
        for (i, target) in self.target_modules.iter().enumerate() {
            check(
                !self.target_modules[..i].contains(target),
                format!("target_modules names {} twice: name it once", target.peft_name()),
            );
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Bounds that no sensible run meets, so that a slip of the keyboard is told from a plan.
const MAX_K: usize = 1024;
const MAX_PROMPTS: usize = 4096;
const MAX_TOKENS: usize = 1 << 20;
const MAX_RANK: usize = 4096;
/// Temperatures at which logits divided by them, and differences of these, keep their meaning.
const TEMPERATURES: std::ops::RangeInclusive<f32> = 0.01..=100.0;

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
        let find = |name: String| {
            Target::ALL.into_iter().find(|t| t.peft_name() == name).ok_or_else(|| {
                let known = Target::ALL.map(Target::peft_name).join(", ");
                D::Error::custom(format!("unknown layer {name:?} in target_modules; use {known}"))
            })
        };
        Vec::<String>::deserialize(from)?.into_iter().map(find).collect()
    }
}

/// An optional number whose absence is written as 0, because TOML has no null and a missing field
/// means the default.
mod zero_is_none {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands fields over by reference")]
    pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.unwrap_or(0.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Ok(Some(f64::deserialize(from)?).filter(|value| *value != 0.0))
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
        assert_eq!((paper.max_grad_norm, paper.skip_flat), (None, false));
        assert_eq!((paper.truncation, paper.likelihood_weight), (Truncation::Keep, 1.0));
    }

    #[test]
    fn all_errors_come_at_once() {
        let settings = TrainSettings {
            num_generations: 1,
            learning_rate: f64::NAN,
            beta: -1.0,
            max_grad_norm: Some(0.0),
            target_modules: vec![Target::Q, Target::Q],
            steps: 0,
            ..TrainSettings::edge()
        };

        let errors = settings.validate().unwrap_err();

        assert_eq!(errors.len(), 6, "{errors:#?}");
        assert!(errors[0].contains("num_generations is 1"), "{errors:#?}");
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
