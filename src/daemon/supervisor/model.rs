//! The model's file: which model it holds, and whether it has to be loaded again.

use serde::{Deserialize, Serialize};

use crate::daemon::effect::Effect;
use crate::daemon::faults::FaultKind;
use crate::daemon::storage::Remembered;
use crate::worker::hash::Stamp;

/// The model that was last loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownModel {
    /// Of its file; empty before the first time.
    pub sha256: String,
    /// Its file's name.
    pub name: String,
}

impl Remembered for KnownModel {
    const KEY: &'static str = "model";
}

/// The model's file, as far as it is known.
#[derive(Debug, Default)]
pub struct ModelFile {
    /// What was last loaded from it.
    pub known: KnownModel,
    /// Its stamp when it could not be loaded: the same file would fail again.
    unusable: Option<Stamp>,
}

impl ModelFile {
    /// The file with this stamp could not be loaded.
    pub const fn cannot_load(&mut self, stamp: Option<Stamp>) {
        self.unusable = stamp;
    }

    /// See [`Supervisor::watch_model`](super::Supervisor::watch_model). `loaded` is the stamp of the file
    /// that the worker was started with.
    pub(super) fn look(
        &mut self,
        found: Result<Stamp, String>,
        loaded: Option<Stamp>,
        is_faulty: bool,
    ) -> Vec<Effect> {
        let stamp = match found {
            Ok(stamp) => stamp,
            Err(sentence) => {
                self.unusable = None;
                return vec![Effect::Raise(FaultKind::Model, sentence)];
            }
        };
        let mut effects = Vec::new();
        if loaded.is_some_and(|loaded| loaded != stamp) {
            log::warn!(event = "model_replaced"; "the model was replaced");
            effects.push(Effect::KillWorker);
        }
        if is_faulty && self.unusable != Some(stamp) {
            self.unusable = Some(stamp);
            effects.push(Effect::TryAgain(FaultKind::Model));
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(text: &str) -> Stamp {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, text).unwrap();
        Stamp::of(&path).unwrap()
    }

    #[test]
    fn a_model_that_was_replaced_is_loaded_again() {
        let (old, new) = (stamp("old"), stamp("a new one"));
        let mut file = ModelFile::default();

        assert_eq!(file.look(Ok(old), Some(old), false), []);
        assert_eq!(file.look(Ok(new), Some(old), false), [Effect::KillWorker]);
        assert_eq!(file.look(Ok(new), None, false), [], "no worker has loaded anything");
    }

    #[test]
    fn a_model_that_could_not_be_loaded_is_tried_again_once_it_is_another_file() {
        let (old, new) = (stamp("old"), stamp("a new one"));
        let mut file = ModelFile::default();
        file.cannot_load(Some(old));

        assert_eq!(file.look(Ok(old), None, true), [], "it would fail again");
        let again = [Effect::TryAgain(FaultKind::Model)];
        assert_eq!(file.look(Ok(new), None, true), again);
        assert_eq!(file.look(Ok(new), None, true), [], "once");

        let gone = file.look(Err("it is gone".into()), None, true);
        assert_eq!(gone, [Effect::Raise(FaultKind::Model, "it is gone".into())]);
        assert_eq!(file.look(Ok(new), None, true), again, "the same file, put back");
    }
}
