//! A cycle's record: how far the cycle is, with what is known by then.

use serde::{Deserialize, Serialize};

/// What a cycle waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Steps are left.
    Training,
    /// The candidate is complete.
    Evaluating,
    /// The comparison is complete.
    Judging,
}

impl Stage {
    /// The name in `latrod status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Evaluating => "evaluating",
            Self::Judging => "judging",
        }
    }
}

/// On what a cycle builds; known once the model has been loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// SHA-256 of the model's file.
    pub base_sha256: String,
    /// The version of the adapter that training starts from; `None` for a fresh one.
    pub start: Option<String>,
}

/// What the candidate is compared with: a version of the adapter, or the base model (`None`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline(pub Option<String>);

/// How far a cycle is. Each state has what must be known by then, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CycleState {
    /// Steps are left.
    Training {
        /// Set when the first job is given.
        basis: Option<Basis>,
    },
    /// The candidate is complete.
    Evaluating {
        /// On what it builds.
        basis: Basis,
        /// Set when the comparison begins.
        baseline: Option<Baseline>,
    },
    /// The comparison is complete.
    Judging {
        /// On what the candidate builds.
        basis: Basis,
        /// What it was compared with.
        baseline: Baseline,
    },
    /// The candidate was found to be better, and published.
    Promoting {
        /// On what it builds.
        basis: Basis,
        /// What it was compared with.
        baseline: Baseline,
        /// The version that it was published as.
        version: String,
    },
}

impl CycleState {
    /// What the cycle waits for.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Training { .. } => Stage::Training,
            Self::Evaluating { .. } => Stage::Evaluating,
            Self::Judging { .. } | Self::Promoting { .. } => Stage::Judging,
        }
    }

    /// On what the cycle builds, once that is known.
    #[must_use]
    pub const fn basis(&self) -> Option<&Basis> {
        match self {
            Self::Training { basis } => basis.as_ref(),
            Self::Evaluating { basis, .. }
            | Self::Judging { basis, .. }
            | Self::Promoting { basis, .. } => Some(basis),
        }
    }

    /// What the candidate was compared with, once that is known.
    #[must_use]
    pub const fn baseline(&self) -> Option<&Baseline> {
        match self {
            Self::Training { .. } => None,
            Self::Evaluating { baseline, .. } => baseline.as_ref(),
            Self::Judging { baseline, .. } | Self::Promoting { baseline, .. } => Some(baseline),
        }
    }

    /// Whether the candidate was published.
    #[must_use]
    pub const fn is_promoting(&self) -> bool {
        matches!(self, Self::Promoting { .. })
    }

    /// The steps are done.
    #[must_use]
    pub fn trained(&self) -> Option<Self> {
        let basis = self.basis()?.clone();
        matches!(self, Self::Training { .. }).then_some(Self::Evaluating { basis, baseline: None })
    }

    /// A comparison with `with` begins.
    #[must_use]
    pub fn comparing(&self, with: Baseline) -> Option<Self> {
        let basis = self.basis()?.clone();
        matches!(self, Self::Evaluating { .. })
            .then_some(Self::Evaluating { basis, baseline: Some(with) })
    }

    /// The comparison is done.
    #[must_use]
    pub fn compared(&self) -> Option<Self> {
        match self.clone() {
            Self::Evaluating { basis, baseline: Some(baseline) } => {
                Some(Self::Judging { basis, baseline })
            }
            _ => None,
        }
    }

    /// The comparison has to be done again.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        match self.clone() {
            Self::Judging { basis, .. } => Some(Self::Evaluating { basis, baseline: None }),
            _ => None,
        }
    }

    /// The candidate was published as `version`.
    #[must_use]
    pub fn published(&self, version: String) -> Option<Self> {
        match self.clone() {
            Self::Judging { basis, baseline } => Some(Self::Promoting { basis, baseline, version }),
            _ => None,
        }
    }
}

/// A cycle's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct Record {
    /// Counted from 1 over the life of the state folder; also the seed of the run.
    pub number: u64,
    /// How far it is.
    pub state: CycleState,
    /// Tasks to learn from.
    pub train: usize,
    /// Questions to compare with.
    pub held_out: usize,
    /// The newest task of the ledger when the cycle began.
    pub newest: i64,
    /// Unix seconds.
    pub began: i64,
}

/// A record in `cycle.json`.
#[derive(Serialize, Deserialize)]
struct File {
    number: u64,
    stage: Stage,
    basis: Option<Basis>,
    /// `null` for the base model, and before a comparison begins.
    baseline: Option<String>,
    published: Option<String>,
    train: usize,
    held_out: usize,
    newest: i64,
    began: i64,
}

impl From<Record> for File {
    fn from(record: Record) -> Self {
        let Record { number, state, train, held_out, newest, began } = record;
        let stage = state.stage();
        let (basis, baseline, published) = match state {
            CycleState::Training { basis } => (basis, None, None),
            CycleState::Evaluating { basis, baseline } => {
                (Some(basis), baseline.and_then(|baseline| baseline.0), None)
            }
            CycleState::Judging { basis, baseline } => (Some(basis), baseline.0, None),
            CycleState::Promoting { basis, baseline, version } => {
                (Some(basis), baseline.0, Some(version))
            }
        };
        Self { number, stage, basis, baseline, published, train, held_out, newest, began }
    }
}

impl TryFrom<File> for Record {
    type Error = &'static str;

    fn try_from(file: File) -> Result<Self, Self::Error> {
        let File { number, stage, basis, baseline, published, train, held_out, newest, began } =
            file;
        let baseline = Baseline(baseline);
        let state = match (stage, basis, published) {
            (Stage::Training, basis, None) => CycleState::Training { basis },
            // Which baseline it was is told anew when the comparison goes on.
            (Stage::Evaluating, Some(basis), None) => {
                CycleState::Evaluating { basis, baseline: None }
            }
            (Stage::Judging, Some(basis), None) => CycleState::Judging { basis, baseline },
            (Stage::Judging, Some(basis), Some(version)) => {
                CycleState::Promoting { basis, baseline, version }
            }
            (_, None, _) => return Err("it has come past training without a model"),
            (_, _, Some(_)) => return Err("it was published before it was judged"),
        };
        Ok(Self { number, state, train, held_out, newest, began })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis() -> Basis {
        Basis { base_sha256: "b".into(), start: Some("00000001-0a1b2c3d".into()) }
    }

    fn record(state: CycleState) -> Record {
        Record { number: 3, state, train: 5, held_out: 1, newest: 6, began: 1000 }
    }

    #[test]
    fn a_cycle_goes_from_state_to_state_and_nowhere_else() {
        let fresh = CycleState::Training { basis: None };
        assert_eq!(fresh.trained(), None, "no model was loaded yet");
        let training = CycleState::Training { basis: Some(basis()) };
        assert_eq!(training.compared(), None);

        let evaluating = training.trained().unwrap();
        assert_eq!(evaluating.compared(), None, "no comparison has begun");
        let with = Baseline(Some("00000001-0a1b2c3d".into()));
        let judging = evaluating.comparing(with.clone()).unwrap().compared().unwrap();
        assert_eq!(judging, CycleState::Judging { basis: basis(), baseline: with });
        assert_eq!(judging.again(), Some(evaluating));

        let promoting = judging.published("00000002-0a1b2c3d".into()).unwrap();
        assert_eq!((promoting.stage(), promoting.again()), (Stage::Judging, None));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let baseline = Baseline(None);
        let states = [
            CycleState::Training { basis: None },
            CycleState::Training { basis: Some(basis()) },
            CycleState::Evaluating { basis: basis(), baseline: None },
            CycleState::Judging { basis: basis(), baseline: baseline.clone() },
            CycleState::Promoting { basis: basis(), baseline, version: "v".into() },
        ];
        for state in states {
            let text = serde_json::to_string(&record(state.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record(state), "{text}");
        }
    }

    #[test]
    fn a_record_that_contradicts_itself_is_refused() {
        let text = |stage, basis, published| {
            format!(
                r#"{{"number": 3, "stage": "{stage}", "basis": {basis}, "baseline": null,
                "published": {published}, "train": 5, "held_out": 1, "newest": 6, "began": 1000}}"#
            )
        };
        let basis = r#"{"base_sha256": "b", "start": null}"#;
        let read = |text: String| serde_json::from_str::<Record>(&text).map_err(|e| e.to_string());

        assert!(read(text("judging", basis, "\"v\"")).is_ok());
        assert!(read(text("judging", "null", "null")).unwrap_err().contains("without a model"));
        assert!(
            read(text("training", basis, "\"v\"")).unwrap_err().contains("before it was judged")
        );
    }
}
