//! The files of a training run, in the adapter's folder.
//!
//! | file | holds |
//! |---|---|
//! | `adapter_config.json`, `adapter_model.safetensors`, `latrod.json` | the adapter, for PEFT and for latrod |
//! | `metrics.jsonl` | one line for each step and evaluation |
//! | `training/checkpoint.safetensors` | the state after the last step |
//! | `training/good-STEP.safetensors` | two older states, for sentinels to return to, and step 0 of a run that started from an adapter |
//! | `training/best.safetensors` | the adapter that did best on held-out questions |
//! | `training/rollouts.json` | what the step in progress has sampled |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SessionError;
use super::evaluations::Evaluations;
use crate::arch::lora::LoraTensors;
use crate::data::Task;
use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
use crate::latro::learner::{LearnerState, Sampled, TrainerState};
use crate::latro::metrics::MetricLine;
use crate::latro::optimizer::AdamW;
use crate::latro::sentinel::Sentinel;
use crate::latro::settings::{Method, TrainSettings, WarmStart};
use crate::settings::Choice;
use crate::store::adapter::WEIGHTS_FILE;
use crate::store::{
    AdapterConfig, AdapterManifest, AdapterShape, Checkpoint, DirLock, JsonLines, StoreError, Sync,
    Training, checkpoint, durable::create_folder, json::hex, load_json, remove_stale_temps,
    save_json, write_peft,
};

/// Good states that are kept: the older one is at least a sentinel's window old.
/// Lines for each step and evaluation of a run, in its folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
const GOOD_KEPT: usize = 2;

/// What makes two runs the same run: everything that decides the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    pub settings: TrainSettings,
    pub compute: Compute,
    #[serde(default)]
    pub device: DeviceKind,
    /// Branches sampled together.
    pub batch: usize,
    /// SHA-256 of the model's file.
    pub base_sha256: String,
    /// The model's name, for people.
    pub base_name: String,
    /// SHA-256 over the training tasks.
    pub tasks_sha256: String,
    /// SHA-256 of the weights of the adapter that the run started from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_sha256: Option<String>,
}

impl RunIdentity {
    /// The identity of a run that learns from `tasks` on the model in `file`, whose SHA-256 is
    /// `base_sha256`, on the CPU, and starts from a fresh adapter.
    #[must_use]
    pub fn new(
        settings: &TrainSettings,
        compute: Compute,
        batch: usize,
        file: &Path,
        base_sha256: String,
        tasks: &[Task],
    ) -> Self {
        let mut hash = Sha256::new();
        tasks.iter().for_each(|t| hash.update(t.id().0));
        for (i, task) in tasks.iter().enumerate() {
            if let Some(kind) = task.answer_kind {
                hash.update((i as u64).to_le_bytes());
                hash.update(kind.word());
            }
        }
        let worked = settings.warm_start_steps > 0 && settings.warm_start == WarmStart::Worked;
        if worked || settings.method == Method::SftRationale {
            tasks.iter().flat_map(|t| &t.rationale).for_each(|text| hash.update(text));
        }
        Self {
            settings: settings.clone(),
            compute,
            device: DeviceKind::Cpu,
            batch,
            base_sha256,
            base_name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            tasks_sha256: hex(&hash.finalize()),
            start_sha256: None,
        }
    }

    /// The first difference from another identity, in words. A run may be lengthened or shortened, so
    /// the number of steps makes none.
    fn difference(&self, other: &Self) -> Option<String> {
        let json = |i: &Self| {
            let settings = TrainSettings { steps: other.settings.steps, ..i.settings.clone() };
            serde_json::to_value(settings).unwrap_or_default()
        };
        let (mine, theirs) = (json(self), json(other));
        let setting = mine.as_object().into_iter().flatten().find_map(|(name, value)| {
            (theirs.get(name) != Some(value)).then(|| format!("{name} = {value}"))
        });
        let differs = |same: bool, what: String| (!same).then_some(what);
        setting
            .or_else(|| {
                differs(self.base_sha256 == other.base_sha256, format!("model {}", self.base_name))
            })
            .or_else(|| {
                differs(self.tasks_sha256 == other.tasks_sha256, "other training tasks".into())
            })
            .or_else(|| {
                let what = match self.start_sha256 {
                    Some(_) => "another adapter to start from",
                    None => "no adapter to start from",
                };
                differs(self.start_sha256 == other.start_sha256, what.into())
            })
            .or_else(|| differs(self.compute == other.compute, "another --compute".into()))
            .or_else(|| {
                let device = format!("--device {}", self.device.name());
                differs(self.device == other.device, device)
            })
            .or_else(|| differs(self.batch == other.batch, format!("--batch {}", self.batch)))
    }
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    identity: RunIdentity,
    progress: TrainerState,
    sentinel: Sentinel,
    /// Updates that AdamW's moments have seen.
    optimizer_step: u64,
    /// Lines of `metrics.jsonl` that belong to this state.
    metric_lines: usize,
    #[serde(flatten)]
    evaluations: Evaluations,
}

/// What a folder holds of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    pub state: LearnerState,
    pub sentinel: Sentinel,
    pub evaluations: Evaluations,
}

/// An adapter's folder, locked for one process.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    identity: RunIdentity,
    metrics: JsonLines,
    _lock: DirLock,
}

impl Folder {
    /// Opens or makes the folder; returns what it holds of this run, if anything.
    ///
    /// # Errors
    /// [`StoreError::is_busy`] if another process has it open; [`SessionError::OtherRun`] if it
    /// holds a run with another identity; [`SessionError::OtherAdapter`] if it holds an adapter
    /// from elsewhere, which the run would replace; the errors of its files.
    pub fn open(dir: &Path, identity: RunIdentity) -> Result<(Self, Option<Saved>), SessionError> {
        let lock = DirLock::acquire(dir)?;
        let training = dir.join("training");
        create_folder(&training)?;
        remove_stale_temps(dir)?;
        remove_stale_temps(&training)?;
        let found =
            Checkpoint::<Header>::load_if_present(&training.join("checkpoint.safetensors"))?;
        let (lines, saved) = match found {
            None if dir.join(WEIGHTS_FILE).exists() => {
                return Err(SessionError::OtherAdapter { dir: dir.to_owned() });
            }
            None => {
                forget(&training)?;
                (0, None)
            }
            Some(found) => {
                if let Some(what) = found.header.identity.difference(&identity) {
                    return Err(SessionError::OtherRun { dir: dir.to_owned(), what });
                }
                (found.header.metric_lines, Some(restore(found)))
            }
        };
        let metrics = JsonLines::open_truncated(&dir.join(METRICS_FILE), lines)?;
        Ok((Self { dir: dir.to_owned(), identity, metrics, _lock: lock }, saved))
    }

    /// What the run in `dir` is known by, if there is one: a run keeps the batch and the method it
    /// started with.
    ///
    /// # Errors
    /// If its checkpoint cannot be read.
    pub fn identity_of_run_in(dir: &Path) -> Result<Option<RunIdentity>, StoreError> {
        let path = dir.join("training/checkpoint.safetensors");
        Ok(Checkpoint::<Header>::load_if_present(&path)?.map(|found| found.header.identity))
    }

    /// Whether the run started from an adapter.
    #[must_use]
    pub const fn began_with_adapter(&self) -> bool {
        self.identity.start_sha256.is_some()
    }

    /// The folder's path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn training(&self, name: &str) -> PathBuf {
        self.dir.join("training").join(name)
    }

    /// Adds a line to `metrics.jsonl`; it counts once a checkpoint is saved.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&mut self, line: &MetricLine) -> Result<(), StoreError> {
        self.metrics.append(line, Sync::Disk)
    }

    /// Saves the state after a step, durably; if it is `good`, also as one to return to.
    ///
    /// # Errors
    /// If it cannot be written. The last checkpoint is then still whole.
    pub fn save(
        &self,
        state: &LearnerState,
        sentinel: &Sentinel,
        evaluations: Evaluations,
        good: bool,
    ) -> Result<(), StoreError> {
        let header = Header {
            identity: self.identity.clone(),
            progress: state.progress.clone(),
            sentinel: sentinel.clone(),
            optimizer_step: state.optimizer.step,
            metric_lines: self.metrics.lines(),
            evaluations,
        };
        let tensors: BTreeMap<_, _> = checkpoint::named("params", &state.params)
            .chain(checkpoint::named("m", &state.optimizer.m))
            .chain(checkpoint::named("v", &state.optimizer.v))
            .collect();
        if good {
            checkpoint::save(&self.good(state.progress.step), &header, &tensors)?;
            // Step 0, where it was saved, is the adapter that the run started from.
            self.forget(|steps, step| {
                step > 0 && steps.iter().filter(|s| **s > step).count() >= GOOD_KEPT
            })?;
        }
        checkpoint::save(&self.training("checkpoint.safetensors"), &header, &tensors)
    }

    /// Saves the adapter that did best on held-out questions.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_best(&self, params: &LoraTensors) -> Result<(), StoreError> {
        let tensors = checkpoint::named("params", params).collect();
        checkpoint::save(&self.training("best.safetensors"), &self.identity, &tensors)
    }

    /// The adapter that did best on held-out questions, if one was saved.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn best(&self) -> Result<Option<LoraTensors>, StoreError> {
        let path = self.training("best.safetensors");
        let found = Checkpoint::<RunIdentity>::load_if_present(&path)?;
        Ok(found.map(|mut best| checkpoint::take_named("params", &mut best.tensors)))
    }

    fn good(&self, step: u64) -> PathBuf {
        good_path(&self.dir.join("training"), step)
    }

    /// The steps whose states were saved as good.
    fn good_steps(&self) -> Result<Vec<u64>, StoreError> {
        good_steps(&self.dir.join("training"))
    }

    /// Deletes the good states for which `unwanted(all steps, step)`.
    fn forget(&self, unwanted: impl Fn(&[u64], u64) -> bool) -> Result<(), StoreError> {
        let steps = self.good_steps()?;
        for &step in steps.iter().filter(|step| unwanted(&steps, **step)) {
            let path = self.good(step);
            std::fs::remove_file(&path).map_err(StoreError::io("delete", &path))?;
        }
        Ok(())
    }

    /// The newest good state of `step` or before, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn good_at(&self, step: u64) -> Result<Option<LearnerState>, StoreError> {
        let Some(step) = self.good_steps()?.into_iter().filter(|s| *s <= step).max() else {
            return Ok(None);
        };
        let found = Checkpoint::<Header>::load_if_present(&self.good(step))?;
        Ok(found.map(|c| restore(c).state))
    }

    /// Deletes the good states after `step`, to which the run has returned.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub fn forget_after(&self, step: u64) -> Result<(), StoreError> {
        self.forget(|_, s| s > step)
    }

    /// Saves what a step has sampled.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_rollouts(&self, sampled: &Sampled) -> Result<(), StoreError> {
        save_json(&self.training("rollouts.json"), sampled)
    }

    /// What `step` has sampled before the run was stopped, if it got so far.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn rollouts(&self, step: u64, trips: u64) -> Result<Option<Sampled>, StoreError> {
        let path = self.training("rollouts.json");
        if !path.try_exists().map_err(StoreError::io("read", &path))? {
            return Ok(None);
        }
        let sampled: Sampled = load_json(&path)?;
        Ok((sampled.step == step && sampled.trips == trips).then_some(sampled))
    }

    /// Writes the adapter in PEFT's form.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_adapter(
        &self,
        params: &LoraTensors,
        shape: &AdapterShape,
    ) -> Result<(), StoreError> {
        let RunIdentity { settings, base_sha256, base_name, tasks_sha256, .. } = &self.identity;
        let config = AdapterConfig {
            r: settings.rank,
            lora_alpha: f64::from(settings.alpha),
            target_modules: settings.target_modules.clone(),
            base_model_name_or_path: Some(base_name.clone()),
        };
        let training = Training {
            method: settings.method.word().to_owned(),
            prompt: settings.wording(),
            tasks_sha256: tasks_sha256.clone(),
            settings: serde_json::to_value(settings).unwrap_or_default(),
        };
        let manifest = AdapterManifest::new(base_sha256, base_name);
        manifest.with_training(Some(training)).write(&self.dir)?;
        write_peft(&self.dir, &config, params, shape)
    }
}

fn good_path(training: &Path, step: u64) -> PathBuf {
    training.join(format!("good-{step:08}.safetensors"))
}

/// The steps of the good states in a run's folder.
fn good_steps(training: &Path) -> Result<Vec<u64>, StoreError> {
    let mut steps = Vec::new();
    for entry in std::fs::read_dir(training).map_err(StoreError::io("read", training))? {
        let name = entry.map_err(StoreError::io("read", training))?.file_name();
        let step = name.to_str().and_then(|name| {
            name.strip_prefix("good-")?.strip_suffix(".safetensors")?.parse::<u64>().ok()
        });
        steps.extend(step);
    }
    Ok(steps)
}

/// Removes what is left of a run whose checkpoint was removed.
fn forget(training: &Path) -> Result<(), StoreError> {
    let good = good_steps(training)?.into_iter().map(|step| good_path(training, step));
    let others = ["rollouts.json", "best.safetensors"].map(|name| training.join(name));
    for path in good.chain(others) {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn restore(mut found: Checkpoint<Header>) -> Saved {
    let mut take = |prefix| checkpoint::take_named(prefix, &mut found.tensors);
    let (params, m, v) = (take("params"), take("m"), take("v"));
    let Header { progress, sentinel, optimizer_step, evaluations, .. } = found.header;
    let optimizer = AdamW { m, v, step: optimizer_step };
    Saved { state: LearnerState { progress, params, optimizer }, sentinel, evaluations }
}
