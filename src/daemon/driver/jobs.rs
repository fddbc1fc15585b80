//! The worker's process and its jobs.

use std::path::PathBuf;

use super::{Driver, wall};
use crate::contract::event::Event as Told;
use crate::daemon::adapters::CheckFolder;
use crate::daemon::cycle::{Baseline, Basis, Cycle, CycleState, Snapshot};
use crate::daemon::effect::{AdapterEffect, CommandEffect, CycleEffect};
use crate::daemon::faults::FaultKind;
use crate::daemon::scheduler::Job;
use crate::daemon::storage::StorageError;
use crate::data::Task;
use crate::latro::settings::TrainSettings;
use crate::store::AdapterConfig;
use crate::store::ledger::StoredTask;
use crate::store::versions::Version;
use crate::worker::child::{Worker, own_program};
use crate::worker::hash::Stamp;
use crate::worker::protocol::{CompareJob, ToWorker, TrainJob};

/// Text of tasks in a snapshot, at most.
const MAX_SNAPSHOT_BYTES: usize = 64 << 20;

impl Driver {
    /// Starts the worker, which loads the model. True if there is a process.
    pub(super) async fn start_worker(&mut self) -> bool {
        let config = &self.settings.effective;
        let model = config.model.clone();
        let stamp = Stamp::of(&model).ok();
        let cache = Some(self.storage.paths.model_hash());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let settings = config.compute.worker(cores);
        let setup = settings.setup(model, None, cache, config.learn.clone());
        match own_program().and_then(|program| Worker::spawn(&program, &settings)) {
            Ok(mut worker) => {
                // A worker that is gone already says so itself.
                let _ = worker.send(&ToWorker::Setup(Box::new(setup))).await;
                self.supervisor.started(worker, stamp);
                true
            }
            Err(error) => {
                let sentence = format!("cannot start the worker process: {error}");
                self.raise(FaultKind::Worker, &sentence);
                false
            }
        }
    }

    /// Gives the worker a job, once it has loaded the model.
    pub(super) async fn give(&mut self, job: Job) -> bool {
        if !self.supervisor.is_ready() {
            return false;
        }
        let prepared = match job {
            Job::Train => self.train_job(),
            Job::Evaluate => self.evaluate_job(),
            Job::Check => self.check_job(),
        };
        let Some(message) = self.ok_or_raise(prepared).flatten() else { return false };
        let Some(worker) = self.supervisor.process() else { return false };
        if worker.send(&message).await.is_ok() {
            self.supervisor.given(job);
        }
        true
    }

    /// The settings of a cycle's run: every cycle has a seed of its own.
    fn run_settings(&self, number: u64) -> TrainSettings {
        let learn = &self.settings.effective.learn;
        TrainSettings { seed: learn.seed.wrapping_add(number), ..learn.clone() }
    }

    fn train_job(&mut self) -> Result<Option<ToWorker>, StorageError> {
        let Some(basis) = self.basis()? else { return Ok(None) };
        let start = match basis.start.as_deref() {
            Some(id) => match self.version_path(id) {
                Some(path) => Some(path),
                None => {
                    self.drop_cycle("the adapter that it began from is gone")?;
                    return Ok(None);
                }
            },
            None => None,
        };
        let Some(cycle) = &self.storage.cycle else { return Ok(None) };
        Ok(Some(ToWorker::Train(Box::new(TrainJob {
            dir: cycle.candidate(),
            tasks: cycle.tasks(),
            settings: self.run_settings(cycle.record.number),
            start,
            until_step: None,
        }))))
    }

    /// On what the cycle in progress builds: noted in its record the first time; `None` once the model
    /// is another one, which ends the cycle.
    fn basis(&mut self) -> Result<Option<Basis>, StorageError> {
        let base_sha256 = self.supervisor.model.known.sha256.clone();
        let Some(cycle) = &self.storage.cycle else { return Ok(None) };
        match cycle.record.state.basis() {
            Some(basis) if basis.base_sha256 == base_sha256 => return Ok(Some(basis.clone())),
            Some(_) => {
                self.drop_cycle("the model is another one than when the cycle began")?;
                return Ok(None);
            }
            None => {}
        }
        let start = self.start_version()?.map(|version| version.id.to_string());
        let basis = Basis { base_sha256, start };
        if let Some(cycle) = &mut self.storage.cycle {
            cycle.change(CycleState::Training { basis: Some(basis.clone()) })?;
        }
        Ok(Some(basis))
    }

    fn drop_cycle(&mut self, why: &str) -> Result<(), StorageError> {
        self.carry_out(vec![CycleEffect::Drop(why.to_owned()).into()])
    }

    /// The active version if a run with the present settings can start from it.
    fn start_version(&self) -> Result<Option<Version>, StorageError> {
        let Some(version) = self.active_version()? else { return Ok(None) };
        let config = AdapterConfig::read(&version.path)?;
        let learn = &self.settings.effective.learn;
        let mut targets = config.target_modules.clone();
        targets.sort_unstable();
        let fits = config.r == learn.rank
            && (config.lora_alpha - f64::from(learn.alpha)).abs() < 1e-6
            && targets == learn.target_modules;
        if !fits {
            log::info!(
                event = "fresh_start", adapter = version.id.to_string().as_str();
                "the active adapter has another rank, alpha or layers than [learn] asks for: the \
                 cycle begins with a fresh one, which has to be better all the same"
            );
        }
        Ok(fits.then_some(version))
    }

    fn evaluate_job(&mut self) -> Result<Option<ToWorker>, StorageError> {
        let active = self.active_version()?;
        let baseline = Baseline(active.as_ref().map(|version| version.id.to_string()));
        self.carry_out(vec![CycleEffect::Comparing(baseline).into()])?;
        let Some(cycle) = &self.storage.cycle else { return Ok(None) };
        Ok(Some(ToWorker::Compare(Box::new(CompareJob {
            out: cycle.comparison(),
            tasks: cycle.held_out(),
            baseline: active.map(|version| version.path),
            candidate: cycle.candidate(),
            max_questions: 0,
            settings: self.run_settings(cycle.record.number),
            general_prompts: self.general_prompts(),
            gguf: Some(self.storage.paths.candidate_gguf()),
        }))))
    }

    /// The operator's general prompts; `None` for the built-in ones.
    fn general_prompts(&self) -> Option<PathBuf> {
        let path = &self.settings.effective.promotion.general_prompts;
        (!path.as_os_str().is_empty()).then(|| path.clone())
    }

    fn check_job(&mut self) -> Result<Option<ToWorker>, StorageError> {
        let Some(active) = self.active_version()? else {
            let why = "no adapter is active that could be checked";
            self.carry_out(vec![AdapterEffect::ForgetCheck(why.to_owned()).into()])?;
            return Ok(None);
        };
        let Some(folder) = self.check_folder(&active)? else { return Ok(None) };
        let parent = folder.record.parent.as_deref();
        Ok(Some(ToWorker::Compare(Box::new(CompareJob {
            out: folder.comparison(),
            tasks: folder.tasks(),
            baseline: parent.and_then(|id| self.version_path(id)),
            candidate: active.path,
            max_questions: 0,
            settings: self.settings.effective.learn.clone(),
            general_prompts: self.general_prompts(),
            gguf: None,
        }))))
    }

    /// The check of `active` that is in progress, or a new one; `None` if the ledger fails.
    fn check_folder(&mut self, active: &Version) -> Result<Option<CheckFolder>, StorageError> {
        let dir = self.storage.paths.check();
        let (version, judged) = (active.id.to_string(), self.adapters.active.newest);
        let in_progress = CheckFolder::open(&dir)?
            .filter(|folder| folder.record.version == version && folder.record.newest > judged);
        if in_progress.is_some() {
            return Ok(in_progress);
        }
        let most = self.settings.effective.cycle.max_held_out_questions;
        let fresh = self.with_ledger(|ledger| {
            let tasks = ledger.held_out(most, MAX_SNAPSHOT_BYTES, Some(judged))?;
            Ok((tasks, ledger.newest_sequence()?))
        });
        let Some((fresh, newest)) = fresh else { return Ok(None) };
        let parent = active.manifest.parent.map(|id| id.to_string());
        let begun = CheckFolder::begin(&dir, &version, parent.as_deref(), newest, &plain(fresh))?;
        Ok(Some(begun))
    }

    /// Takes a snapshot of the tasks and begins a cycle. True if there is one.
    pub(super) fn begin_cycle(&mut self) -> bool {
        let cycle = &self.settings.effective.cycle;
        let (most_tasks, most_questions) = (cycle.max_train_tasks, cycle.max_held_out_questions);
        let snapshot = self.with_ledger(|ledger| {
            Ok(Snapshot {
                newest: ledger.newest_sequence()?,
                tasks: plain(ledger.snapshot_train(most_tasks, MAX_SNAPSHOT_BYTES)?),
                held_out: plain(ledger.held_out(most_questions, MAX_SNAPSHOT_BYTES, None)?),
            })
        });
        let Some(snapshot) = snapshot else { return false };
        let listed = self.storage.versions.as_ref().and_then(|versions| versions.list().ok());
        let versions = listed.iter().flat_map(|listing| &listing.versions);
        let cycle_of = |version: &Version| version.manifest.metrics["cycle"].as_u64().unwrap_or(0);
        let number = self.cycles.next_number(versions.map(cycle_of));
        let begun = Cycle::begin(&self.storage.paths.training(), number, wall(), &snapshot);
        let Some(begun) = self.ok_or_raise(begun) else { return false };
        let (train, held_out) = (begun.record.train as u64, begun.record.held_out as u64);
        self.storage.cycle = Some(begun);
        self.supervisor.forget_steps();
        self.tell(Told::CycleBegan { number, train, held_out });
        self.perform(vec![CommandEffect::AnswerTrainNow.into()]);
        true
    }
}

fn plain(stored: Vec<StoredTask>) -> Vec<Task> {
    stored.into_iter().map(|stored| stored.task).collect()
}
