//! The scheduler's orders, carried out.

use std::path::PathBuf;

use super::{Driver, wall};
use crate::contract::event::{Event, Sentence};
use crate::daemon::check::CheckFolder;
use crate::daemon::cycle::{Basis, Cycle, Snapshot, Stage};
use crate::daemon::faults::FaultKind;
use crate::daemon::memory::Remembered;
use crate::daemon::scheduler::{Job, Order};
use crate::daemon::trouble::Trouble;
use crate::latro::settings::TrainSettings;
use crate::report::inbox::CommandOutcome;
use crate::store::AdapterConfig;
use crate::store::ledger::StoredTask;
use crate::store::versions::Version;
use crate::worker::child::{Worker, own_program};
use crate::worker::hash::Stamp;
use crate::worker::protocol::{CompareJob, ToWorker, TrainJob};

/// Text of tasks in a snapshot, at most.
const MAX_SNAPSHOT_BYTES: usize = 64 << 20;

impl Driver {
    /// Does as ordered. True if that changed what the scheduler decides on.
    pub(super) async fn carry_out(&mut self, order: Order) -> bool {
        let now = self.now();
        match order {
            Order::Freeze => self.trainer.worker().is_some_and(|worker| worker.freeze().is_ok()),
            Order::Thaw => {
                self.look_soon();
                self.trainer.worker().is_some_and(|worker| worker.thaw().is_ok())
            }
            Order::EndWorker => {
                self.trainer.kill(now);
                true
            }
            Order::StartWorker => {
                self.look_soon();
                self.start_worker().await
            }
            Order::BeginCycle => self.begin_cycle(),
            Order::Judge => self.judge_cycle(),
            Order::Give(job) => self.give(job).await,
        }
    }

    async fn start_worker(&mut self) -> bool {
        let model = self.config.model.clone();
        let stamp = Stamp::of(&model).ok();
        let cache = Some(self.storage.paths.model_hash());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let settings = self.config.compute.worker(cores);
        let setup = settings.setup(model, None, cache, self.config.learn.clone());
        let started = own_program().and_then(|program| Worker::spawn(&program, &settings));
        match started {
            Ok(mut worker) => {
                // A worker that is gone already says so itself.
                let _ = worker.send(&ToWorker::Setup(Box::new(setup))).await;
                self.trainer.set(worker, stamp);
                true
            }
            Err(error) => {
                let sentence = format!("cannot start the worker process: {error}");
                self.trouble(Trouble::new(FaultKind::Worker, sentence));
                false
            }
        }
    }

    /// Hands the worker a job, once it has loaded the model.
    async fn give(&mut self, job: Job) -> bool {
        if !self.trainer.is_loaded() {
            return false;
        }
        let prepared = match job {
            Job::Train => self.train_job(),
            Job::Evaluate => self.evaluate_job(),
            Job::Check => self.check_job(),
        };
        let Some(message) = self.check(prepared).flatten() else { return false };
        let Some(worker) = self.trainer.worker() else { return false };
        if worker.send(&message).await.is_ok() {
            self.trainer.set_job(Some(job));
        }
        true
    }

    /// The settings of this cycle's run: every cycle has a seed of its own.
    fn run_settings(&self, number: u64) -> TrainSettings {
        let learn = &self.config.learn;
        TrainSettings { seed: learn.seed.wrapping_add(number), ..learn.clone() }
    }

    fn train_job(&mut self) -> Result<Option<ToWorker>, Trouble> {
        let base_sha256 = self.model.sha256.clone();
        let Some(cycle) = &self.storage.cycle else { return Ok(None) };
        let number = cycle.record.number;
        let basis = match cycle.record.basis.clone() {
            Some(basis) if basis.base_sha256 == base_sha256 => basis,
            Some(_) => {
                self.drop_cycle("the model is another one than when the cycle began")?;
                return Ok(None);
            }
            None => {
                let start = self.start_version()?.map(|version| version.id.to_string());
                let basis = Basis { base_sha256, start };
                if let Some(cycle) = &mut self.storage.cycle {
                    cycle.change(|record| record.basis = Some(basis.clone()))?;
                }
                basis
            }
        };
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
        let settings = self.run_settings(number);
        let Some(cycle) = &self.storage.cycle else { return Ok(None) };
        Ok(Some(ToWorker::Train(Box::new(TrainJob {
            dir: cycle.candidate(),
            tasks: cycle.tasks(),
            settings,
            start,
            until_step: None,
        }))))
    }

    /// The active version if a run with the present settings can start from it.
    fn start_version(&self) -> Result<Option<Version>, Trouble> {
        let Some(version) = self.active_version()? else { return Ok(None) };
        let config = AdapterConfig::read(&version.path)?;
        let learn = &self.config.learn;
        let mut targets = config.target_modules.clone();
        targets.sort_unstable();
        let fits = config.r == learn.rank
            && (config.lora_alpha - f64::from(learn.alpha)).abs() < 1e-6
            && targets == learn.target_modules;
        if !fits {
            log::info!(
                event = "fresh_start", adapter = version.id.to_string().as_str();
                "the active adapter has another rank, alpha or layers than [learn] asks for: the \
                 cycle begins with a fresh one, and has to be better all the same"
            );
        }
        Ok(fits.then_some(version))
    }

    /// The active version, if it was made for the model that is loaded.
    pub(super) fn active_version(&self) -> Result<Option<Version>, Trouble> {
        let Some(versions) = &self.storage.versions else { return Ok(None) };
        let Some(id) = versions.active()? else { return Ok(None) };
        let version = versions.get(id)?;
        let fits = version.manifest.adapter.base_sha256 == self.model.sha256;
        Ok(fits.then_some(version))
    }

    /// The folder of the version with this name.
    pub(super) fn version_path(&self, id: &str) -> Option<PathBuf> {
        let found = self.storage.versions.as_ref().zip(id.parse().ok());
        found.and_then(|(versions, id)| versions.get(id).ok()).map(|version| version.path)
    }

    fn evaluate_job(&mut self) -> Result<Option<ToWorker>, Trouble> {
        let active = self.active_version()?;
        let baseline = active.as_ref().map(|version| version.id.to_string());
        let Some(cycle) = &mut self.storage.cycle else { return Ok(None) };
        let number = cycle.record.number;
        cycle.change(|record| record.baseline = Some(baseline.clone()))?;
        let (out, tasks) = (cycle.comparison(), cycle.held_out());
        let candidate = cycle.candidate();
        Ok(Some(ToWorker::Compare(Box::new(CompareJob {
            out,
            tasks,
            baseline: active.map(|version| version.path),
            candidate,
            max_questions: 0,
            settings: self.run_settings(number),
            general_prompts: self.general_prompts(),
            gguf: Some(self.storage.paths.candidate_gguf()),
        }))))
    }

    /// The operator's general prompts; none for the built-in ones.
    fn general_prompts(&self) -> Option<PathBuf> {
        let path = &self.config.promotion.general_prompts;
        (!path.as_os_str().is_empty()).then(|| path.clone())
    }

    fn check_job(&mut self) -> Result<Option<ToWorker>, Trouble> {
        let Some(active) = self.active_version()? else {
            self.forget_check("no adapter is active that could be checked")?;
            return Ok(None);
        };
        let version = active.id.to_string();
        let parent = active.manifest.parent.map(|id| id.to_string());
        let dir = self.storage.paths.check();
        let most = self.config.cycle.max_held_out_questions;
        let folder = match CheckFolder::open(&dir)? {
            Some(folder)
                if folder.record.version == version
                    && folder.record.newest > self.judged.newest =>
            {
                folder
            }
            _ => {
                let after = self.judged.newest;
                let fresh = self.with_ledger(|ledger| {
                    let tasks = ledger.held_out(most, MAX_SNAPSHOT_BYTES, Some(after))?;
                    Ok((tasks, ledger.newest_sequence()?))
                });
                let Some((fresh, newest)) = fresh else { return Ok(None) };
                CheckFolder::begin(&dir, &version, parent.as_deref(), newest, &plain(fresh))?
            }
        };
        let baseline = match folder.record.parent.as_deref() {
            Some(id) => self.version_path(id),
            None => None,
        };
        Ok(Some(ToWorker::Compare(Box::new(CompareJob {
            out: folder.comparison(),
            tasks: folder.tasks(),
            baseline,
            candidate: active.path,
            max_questions: 0,
            settings: self.config.learn.clone(),
            general_prompts: self.general_prompts(),
            gguf: None,
        }))))
    }

    fn begin_cycle(&mut self) -> bool {
        let cycle = &self.config.cycle;
        let (most_tasks, most_questions) = (cycle.max_train_tasks, cycle.max_held_out_questions);
        let snapshot = self.with_ledger(|ledger| {
            Ok(Snapshot {
                newest: ledger.newest_sequence()?,
                tasks: plain(ledger.snapshot_train(most_tasks, MAX_SNAPSHOT_BYTES)?),
                held_out: plain(ledger.held_out(most_questions, MAX_SNAPSHOT_BYTES, None)?),
            })
        });
        let Some(snapshot) = snapshot else { return false };
        let (number, wall) = (self.next_number(), wall());
        let begun = Cycle::begin(&self.storage.paths.training(), number, wall, &snapshot);
        let Some(begun) = self.check(begun) else { return false };
        let (train, held_out) = (begun.record.train as u64, begun.record.held_out as u64);
        self.storage.cycle = Some(begun);
        self.trainer.last_step = None;
        self.tell(Event::CycleBegan { number, train, held_out });
        self.answer_train_now();
        true
    }

    /// The number of the next cycle: also after a ledger was lost one that no version has had, since
    /// it is the seed, and the same one would find the same adapter.
    fn next_number(&self) -> u64 {
        let listed = self.storage.versions.as_ref().and_then(|versions| versions.list().ok());
        let numbers = listed.iter().flat_map(|listing| &listing.versions);
        let of = |version: &Version| version.manifest.metrics["cycle"].as_u64().unwrap_or(0);
        numbers.map(of).fold(self.last.number, u64::max) + 1
    }

    /// The command that asked for a cycle is done: there is one.
    pub(super) fn answer_train_now(&mut self) {
        let Some(cycle) = &self.storage.cycle else { return };
        let Some(id) = self.wishes.train_now.clone() else { return };
        let said = Sentence::new(format!("cycle {} has begun", cycle.record.number));
        self.wishes.train_now = None;
        self.finish_wish(&id, CommandOutcome::Done(Some(said)));
    }

    /// Gives the cycle up for another one, without blame.
    pub(super) fn drop_cycle(&mut self, why: &str) -> Result<(), Trouble> {
        log::warn!(event = "cycle_dropped", reason = why; "the cycle begins anew: {why}");
        self.storage.end_cycle()
    }

    /// Ends a cycle that came to nothing.
    pub(super) fn fail_cycle(&mut self, why: &str) {
        let Some(cycle) = &self.storage.cycle else { return };
        let record = cycle.record.clone();
        let mut last = self.last.clone();
        last.number = record.number;
        last.newest = record.newest;
        last.ended = Some(wall());
        last.failures += 1;
        last.outcome = format!("failed: {why}");
        if self.with_ledger(|ledger| last.keep(ledger)).is_some() {
            self.last = last;
            let reason = Sentence::new(why);
            self.tell(Event::CycleFailed { number: record.number, reason });
            let ended = self.storage.end_cycle();
            self.check(ended);
        }
        self.count_tasks();
    }

    /// What the cycle waits for next.
    pub(super) fn advance(&mut self, stage: Stage) {
        let Some(cycle) = &mut self.storage.cycle else { return };
        let changed = cycle.change(|record| record.stage = stage);
        self.check(changed);
    }
}

fn plain(stored: Vec<StoredTask>) -> Vec<crate::data::Task> {
    stored.into_iter().map(|stored| stored.task).collect()
}
