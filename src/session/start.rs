//! Starts a run from an adapter that was trained before, instead of a fresh one.
//!
//! Rank and layers must be those of the settings, because they are the parameters' shapes. Alpha must
//! be too: the update is scaled by alpha / rank, so another alpha would start from another model
//! than the one that was judged and promoted. The optimizer starts fresh: its moments belong to the
//! gradients of other tasks.

use std::path::Path;

use super::SessionError;
use crate::arch::lora::Target;
use crate::arch::spec::ModelSpec;
use crate::latro::learner::LearnerState;
use crate::latro::settings::TrainSettings;
use crate::store::adapter::WEIGHTS_FILE;
use crate::store::{AdapterManifest, AdapterShape, file_sha256, read_peft};

/// The state before the first step of a run that starts from the PEFT folder `dir`, and the SHA-256
/// of its weights, which is part of the run's identity.
///
/// # Errors
/// [`SessionError::OtherStart`] if rank, layers or alpha differ from the settings;
/// [`SessionError::Store`] if the folder cannot be read, is damaged, or belongs to another model.
pub fn start_from(
    dir: &Path,
    settings: &TrainSettings,
    spec: &ModelSpec,
    base_sha256: &str,
) -> Result<(LearnerState, String), SessionError> {
    AdapterManifest::check(dir, base_sha256)?;
    let (config, params) = read_peft(dir, &AdapterShape::from(spec))?;
    let describe = |rank: usize, alpha: f64, targets: &[Target]| {
        let mut names: Vec<_> = targets.iter().map(|t| t.peft_name()).collect();
        names.sort_unstable();
        format!("rank {rank}, alpha {alpha} and the layers {}", names.join(", "))
    };
    let wanted = describe(settings.rank, f64::from(settings.alpha), &settings.target_modules);
    let found = describe(config.r, config.lora_alpha, &config.target_modules);
    if wanted != found {
        return Err(SessionError::OtherStart { dir: dir.to_owned(), wanted, found });
    }
    let sha256 = file_sha256(&dir.join(WEIGHTS_FILE))?;
    Ok((LearnerState::beginning_with(params), sha256))
}
