//! What owners want done, as values.
//!
//! The driver carries effects out in their order and stops at the first that fails; the failure becomes
//! a fault. What has to be written together is one [`Commit`], a single transaction of the ledger.

use crate::contract::event::{Event, Sentence};
use crate::daemon::adapters::{ActiveAdapter, Switch};
use crate::daemon::cycle::{Baseline, LastCycle};
use crate::daemon::faults::FaultKind;
use crate::daemon::operator::OperatorChange;
use crate::daemon::supervisor::KnownModel;
use crate::latro::metrics::StepMetrics;
use crate::promotion::gate::Decision;
use crate::report::inbox::CommandOutcome;
use crate::worker::protocol::Loaded;

/// Something for the driver to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell the journal and the fleet.
    Tell(Event),
    /// Tell the fleet the present state.
    PublishState,
    /// Tell the fleet of a training step.
    PublishProgress(Box<StepMetrics>),
    /// Write to the ledger, all or nothing.
    Commit(Box<Commit>),
    /// Count the tasks again.
    CountTasks,
    /// Open what is not open of the storage.
    OpenStorage,
    /// Note a fault, with its sentence.
    Raise(FaultKind, String),
    /// The cause of a fault is gone.
    Mend(FaultKind),
    /// Let what has failed be tried again.
    TryAgain(FaultKind),
    /// Try the model again if its file is there.
    RetryModel,
    /// Something about the cycle in progress.
    Cycle(CycleEffect),
    /// Something about the adapters, or the check of the active one.
    Adapter(AdapterEffect),
    /// Something about an operator's command.
    Command(CommandEffect),
    /// End the worker process.
    KillWorker,
    /// A worker has loaded the model: see whether the active adapter was made for it.
    ModelLoaded(Box<Loaded>),
}

/// What becomes of the cycle in progress.
#[derive(Debug, Clone, PartialEq)]
pub enum CycleEffect {
    /// Its steps are done.
    Trained,
    /// A comparison with this baseline begins.
    Comparing(Baseline),
    /// Its comparison is done.
    Compared,
    /// Its comparison has to be done again.
    CompareAgain,
    /// Publish the candidate for the reasons given, and promote it.
    Publish(Box<Decision>),
    /// Note in its record that the candidate was published as this version.
    Published(String),
    /// Make this published version the active one.
    Promote(String),
    /// Remove its folder: it has come to its end.
    End,
    /// Abandon it for another one; says why.
    Drop(String),
    /// It has come to nothing; says why.
    Fail(String),
    /// Set its tasks aside, since training on them gave up; says why.
    SetTasksAside(String),
}

/// What becomes of the adapters.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterEffect {
    /// Go back to the parent of a version.
    RollBack {
        /// The version.
        version: String,
        /// Why.
        reason: String,
    },
    /// Another adapter is active now.
    Changed,
    /// Remove versions that are no longer kept.
    Retain,
    /// Make sure that the active version is sound.
    Repair,
    /// Judge the check of the active adapter.
    JudgeCheck,
    /// Note in the check's record that the version is being rolled back.
    MarkRollingBack,
    /// Remove the check's folder.
    EndCheck,
    /// The check cannot be done; says why.
    ForgetCheck(String),
}

/// What becomes of an operator's command.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandEffect {
    /// Answer `train_now` if a cycle is in progress.
    AnswerTrainNow,
    /// Answer `check` if there is nothing to check.
    AnswerCheck,
    /// Roll back what was asked to be rolled back.
    RollBack,
    /// Activate the version that was chosen.
    Promote {
        /// The command.
        id: String,
        /// The version.
        version: String,
    },
    /// Take back all tasks that were set aside.
    RestoreTasks {
        /// The command.
        id: String,
    },
    /// Work with the operator's settings.
    ApplySettings,
}

/// What is written in one transaction of the ledger; `None` stays as it was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// A change of what operators have asked for.
    pub operator: Option<OperatorChange>,
    /// How the last cycle ended.
    pub last_cycle: Option<LastCycle>,
    /// Up to where the active adapter was judged.
    pub active: Option<ActiveAdapter>,
    /// The change that the hook has yet to be told of; `Some(None)`: nothing.
    pub hook: Option<Option<Switch>>,
    /// The model that was loaded.
    pub model: Option<KnownModel>,
    /// Commands that begin or end.
    pub commands: Vec<CommandStep>,
    /// What is told of it.
    pub event: Option<Event>,
}

impl From<Commit> for Effect {
    fn from(commit: Commit) -> Self {
        Self::Commit(Box::new(commit))
    }
}

impl From<CycleEffect> for Effect {
    fn from(effect: CycleEffect) -> Self {
        Self::Cycle(effect)
    }
}

impl From<AdapterEffect> for Effect {
    fn from(effect: AdapterEffect) -> Self {
        Self::Adapter(effect)
    }
}

impl From<CommandEffect> for Effect {
    fn from(effect: CommandEffect) -> Self {
        Self::Command(effect)
    }
}

/// How far a command is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandStep {
    /// The command with this id runs.
    Started(String),
    /// The command with this id has ended.
    Ended(String, CommandOutcome),
}

impl CommandStep {
    /// The command `id` is done; `said` is what came of it.
    #[must_use]
    pub fn done(id: &str, said: &str) -> Self {
        Self::Ended(id.to_owned(), CommandOutcome::Done(Some(Sentence::new(said))))
    }

    /// The command `id` was tried without success.
    #[must_use]
    pub fn failed(id: &str, why: &str) -> Self {
        Self::Ended(id.to_owned(), CommandOutcome::Failed(Sentence::new(why)))
    }

    /// The command `id` makes no sense here and now.
    #[must_use]
    pub fn refused(id: &str, why: &str) -> Self {
        Self::Ended(id.to_owned(), CommandOutcome::Refused(Sentence::new(why)))
    }
}
