//! Where things lie below the state folder.

use std::path::PathBuf;

/// The places of everything that the daemon keeps.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The state folder itself.
    pub state: PathBuf,
}

impl Paths {
    /// The database.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.state.join("ledger.db")
    }

    /// The cycle in progress.
    #[must_use]
    pub fn training(&self) -> PathBuf {
        self.state.join("training")
    }

    /// The promoted adapters.
    #[must_use]
    pub fn adapters(&self) -> PathBuf {
        self.state.join("adapters")
    }

    /// The candidate for llama.cpp, written when it is compared.
    #[must_use]
    pub fn candidate_gguf(&self) -> PathBuf {
        self.training().join("cycle").join("candidate.gguf")
    }

    /// The check of the active adapter.
    #[must_use]
    pub fn check(&self) -> PathBuf {
        self.training().join("check")
    }

    /// The remembered hash of the model.
    #[must_use]
    pub fn model_hash(&self) -> PathBuf {
        self.state.join("model-sha256.json")
    }

    pub(super) fn probe(&self) -> PathBuf {
        self.state.join("probe")
    }
}
