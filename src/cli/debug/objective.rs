//! The arguments that choose the objective of `debug score` and `debug grad`.

use crate::cli::shared::choice::choice;
use crate::latro::settings::{Preset, RewardKind, TrainSettings};

/// Which objective.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ObjectiveArgs {
    /// The settings that the objective comes from
    #[arg(long, value_parser = choice::<Preset>(), default_value = "paper")]
    preset: Preset,
    /// How the answer's likelihood becomes a reward, instead of the preset's way
    #[arg(long, value_parser = choice::<RewardKind>())]
    reward: Option<RewardKind>,
    /// Weight of the KL term, instead of the preset's
    #[arg(long)]
    beta: Option<f64>,
}

impl ObjectiveArgs {
    /// The settings.
    pub fn settings(self) -> TrainSettings {
        let preset = self.preset.settings();
        TrainSettings {
            reward: self.reward.unwrap_or(preset.reward),
            beta: self.beta.unwrap_or(preset.beta),
            ..preset
        }
    }
}
