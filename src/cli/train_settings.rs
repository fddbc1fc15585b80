//! The arguments of `latrod train` that make up the settings of the learner.

use super::CliError;
use super::common::usage;
use crate::arch::lora::Target;
use crate::latro::settings::{Method, RewardKind, Schedule, Span, TrainSettings, Truncation};

/// A named set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Preset {
    /// Half the paper's samples, and guards that an unattended device needs
    Edge,
    /// The algorithm of the paper: K 16, 500 tokens, no clipping, nothing skipped
    Paper,
}

/// Settings of the learner; what is not given comes from the preset.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings of the learner (defaults: those of the preset)")]
pub struct SettingArgs {
    /// Where the other settings start from
    #[arg(long, value_enum, default_value_t = Preset::Edge)]
    preset: Preset,
    /// latro: learn to reason; sft: learn the answers alone, without rationales
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Training steps of the whole run
    #[arg(long)]
    steps: Option<u64>,
    /// Rationales for each question
    #[arg(long, short = 'k', value_name = "K")]
    num_generations: Option<usize>,
    /// Questions in a step
    #[arg(long)]
    prompts_per_step: Option<usize>,
    /// Longest rationale, in tokens
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// Temperature of sampling
    #[arg(long)]
    temperature: Option<f32>,
    /// Weight of the KL term in the reward
    #[arg(long)]
    beta: Option<f64>,
    /// Weight of the gradient of the answer's own likelihood
    #[arg(long)]
    likelihood_weight: Option<f64>,
    /// How the answer's likelihood becomes a reward
    #[arg(long, value_enum)]
    reward: Option<RewardKind>,
    /// Which tokens the reward looks at: the whole answer sentence or the answer's own
    #[arg(long, value_enum)]
    reward_span: Option<Span>,
    /// How rationales that ran out of tokens are judged
    #[arg(long, value_enum)]
    truncation: Option<Truncation>,
    /// Judge shorter rationales, in tokens, as those that ran out of tokens
    #[arg(long)]
    min_rationale_tokens: Option<usize>,
    /// Count the token that ended a rationale as part of it
    #[arg(long)]
    stop_counts: Option<bool>,
    /// Mean rationale length, in tokens, that counts as a collapse; 0: never
    #[arg(long)]
    collapse_tokens: Option<f64>,
    /// Skip questions whose rewards hardly differ
    #[arg(long)]
    skip_flat: Option<bool>,
    /// Divide advantages by their standard deviation
    #[arg(long)]
    scale_rewards: Option<bool>,
    /// Rank of the LoRA update
    #[arg(long)]
    rank: Option<usize>,
    /// Alpha: the update is scaled by alpha / rank
    #[arg(long)]
    alpha: Option<f32>,
    /// Layers to adapt, for example `q_proj,v_proj`
    #[arg(long, value_delimiter = ',', value_parser = target)]
    target_modules: Option<Vec<Target>>,
    /// Peak learning rate
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Steps over which the learning rate rises
    #[arg(long)]
    warmup_steps: Option<u64>,
    /// What the learning rate does after that
    #[arg(long, value_enum)]
    lr_scheduler: Option<Schedule>,
    /// Weight decay
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Largest norm of the gradient; 0 for no limit
    #[arg(long)]
    max_grad_norm: Option<f64>,
    /// Seed of everything random
    #[arg(long)]
    seed: Option<u64>,
}

fn target(name: &str) -> Result<Target, String> {
    Target::ALL.into_iter().find(|t| t.peft_name() == name).ok_or_else(|| {
        format!("no such layer; known: {}", Target::ALL.map(Target::peft_name).join(", "))
    })
}

impl SettingArgs {
    /// The preset with what was given, checked.
    ///
    /// # Errors
    /// All values that cannot be used, in one sentence each.
    pub fn resolve(&self) -> Result<TrainSettings, CliError> {
        let mut s = match self.preset {
            Preset::Edge => TrainSettings::edge(),
            Preset::Paper => TrainSettings::paper(),
        };
        macro_rules! take {
            ($($arg:ident => $field:ident),* $(,)?) => {
                $(if let Some(value) = self.$arg.clone() { s.$field = value; })*
            };
        }
        take! {
            method => method, steps => steps, num_generations => num_generations,
            prompts_per_step => prompts_per_step,
            max_new_tokens => max_new_tokens, temperature => temperature, beta => beta,
            likelihood_weight => likelihood_weight, reward => reward, reward_span => reward_span,
            truncation => truncation,
            min_rationale_tokens => min_rationale_tokens,
            stop_counts => stop_counts, collapse_tokens => collapse_tokens, skip_flat => skip_flat,
            scale_rewards => scale_rewards, rank => rank, alpha => alpha,
            target_modules => target_modules, learning_rate => learning_rate,
            warmup_steps => warmup_steps, lr_scheduler => lr_scheduler,
            weight_decay => weight_decay, seed => seed,
        }
        match self.max_grad_norm {
            Some(0.0) => s.max_grad_norm = None,
            Some(norm) => s.max_grad_norm = Some(norm),
            None => {}
        }
        s.target_modules.sort_unstable();
        s.target_modules.dedup();
        s.validate().map_err(|wrong| usage(wrong.join("; ")))?;
        Ok(s)
    }
}
