//! The device that learns: its model, its tasks, and settings with which that is quick and never waits for the
//! machine to be idle, since somebody sits there and looks.

use std::fs::{self, DirEntry, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::folder::Folder;
use super::{DEVICE, DemoError, Settings};
use crate::config::sections::idle::Users;
use crate::config::{ActivitySettings, Config, CycleSettings, DeviceSettings, StatusSettings};
use crate::data::records::Format;
use crate::intake::SpoolSettings;
use crate::latro::settings::TrainSettings;
use crate::promotion::gate::GateSettings;
use crate::report::mqtt::MqttSettings;

/// A model of 800,000 weights that knows small sums in words, and 600 sums: `scripts/make_tiny_model.py`.
const MODEL: &[u8] = include_bytes!("../../tests/fixtures/tiny.gguf");
const SUMS: &[u8] = include_bytes!("../../tests/fixtures/tiny-train.jsonl");

/// Puts tasks into the spool, and the built-in model into the folder if there is no other.
///
/// # Errors
/// Files that cannot be read or written; no tasks.
pub fn fill(settings: &Settings, folder: &Folder) -> Result<(), DemoError> {
    if settings.model.is_none() {
        folder.write("tiny.gguf", MODEL)?;
    }
    match &settings.tasks {
        None => folder.write("spool/sums.jsonl", SUMS).map(drop),
        Some(path) => copy(path, &folder.path().join("spool")),
    }
}

/// Whether the files that settings name can be used, as far as that is quickly told.
///
/// # Errors
/// No model, no task files.
pub fn check(settings: &Settings) -> Result<(), DemoError> {
    if let Some(model) = &settings.model {
        let mut magic = [0; 4];
        let read = File::open(model).and_then(|mut file| file.read_exact(&mut magic));
        if read.is_err() || magic != *b"GGUF" {
            return Err(DemoError::NoModel(model.clone()));
        }
    }
    settings.tasks.as_deref().map_or(Ok(()), |tasks| task_files(tasks).map(drop))
}

/// The task files of a folder, or the one.
fn task_files(from: &Path) -> Result<Vec<PathBuf>, DemoError> {
    let mut files = vec![from.to_owned()];
    if from.is_dir() {
        let entries = fs::read_dir(from).map_err(DemoError::file(from))?;
        let entries: Result<Vec<_>, _> = entries.collect();
        files = entries.map_err(DemoError::file(from))?.iter().map(DirEntry::path).collect();
    }
    files.retain(|file| Format::of(file).is_some());
    files.sort();
    if files.is_empty() { Err(DemoError::NoTasks(from.to_owned())) } else { Ok(files) }
}

/// Copies task files into the spool, which consumes what is in it.
fn copy(from: &Path, spool: &Path) -> Result<(), DemoError> {
    for file in task_files(from)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Hidden files are not read there.
        let to = spool.join(name.trim_start_matches('.'));
        fs::copy(&file, &to).map_err(DemoError::file(&file))?;
    }
    Ok(())
}

/// The daemon's configuration.
pub fn config(settings: &Settings, folder: &Folder, broker: String) -> Config {
    let at = |name: &str| folder.path().join(name);
    let learn = match &settings.model {
        None => tiny(),
        Some(_) => real(),
    };
    let promotion = GateSettings {
        // The tiny model knows nothing but sums: general texts say nothing of it.
        max_kl_nats_per_token: match &settings.model {
            None => 0.0,
            Some(_) => GateSettings::default().max_kl_nats_per_token,
        },
        ..GateSettings::default()
    };
    Config {
        model: settings.model.clone().unwrap_or_else(|| at("tiny.gguf")),
        state_dir: at("state"),
        device: DeviceSettings {
            fleet: DEVICE.0.into(),
            name: DEVICE.1.into(),
            tags: vec!["site=here".into()],
        },
        cycle: CycleSettings {
            min_new_tasks: learn.prompts_per_step as u64,
            max_held_out_questions: 100,
            // The same tasks once more, so that there is something to see.
            repeat_after_s: 60,
            ..CycleSettings::default()
        },
        learn,
        tasks: SpoolSettings {
            folder: at("spool"),
            settle_s: 0,
            held_out_share: 0.25,
            ..SpoolSettings::default()
        },
        idle: always(),
        promotion,
        mqtt: MqttSettings {
            broker,
            operator_keys: vec![folder.public_key()],
            state_every_s: 10,
            ..MqttSettings::default()
        },
        status: StatusSettings { socket: folder.socket() },
        ..Config::default()
    }
}

/// The tiny model learns in half a minute.
fn tiny() -> TrainSettings {
    TrainSettings {
        steps: 30,
        num_generations: 8,
        prompts_per_step: 4,
        max_new_tokens: 48,
        prompt_suffix: " Let's think step by step.".into(),
        rank: 8,
        alpha: 16.0,
        learning_rate: 1e-3,
        ..TrainSettings::default()
    }
}

/// A model that people use learns as it does everywhere, in shorter cycles.
fn real() -> TrainSettings {
    TrainSettings { steps: 20, ..TrainSettings::default() }
}

/// No load, no heat, no battery and nobody at the keyboard keeps it from learning; the memory and the disk of
/// others do.
fn always() -> ActivitySettings {
    ActivitySettings {
        idle_after_s: 0,
        busy_after_s: 0,
        max_cpu_percent: 0.0,
        max_cpu_training_percent: 0.0,
        max_cpu_pressure_percent: 0.0,
        max_io_pressure_percent: 0.0,
        max_memory_pressure_percent: 0.0,
        max_gpu_percent: 0.0,
        max_celsius: 0.0,
        require_mains: false,
        min_battery_percent: 0.0,
        users: Users::Ignore,
        systemd_inhibitors: false,
        ..ActivitySettings::default()
    }
}
