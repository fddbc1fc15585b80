//! What is wrong with a made-up device: faults that stop it and pass, and what needs an operator.

use std::time::Duration;

use super::TICK_S;
use crate::contract::event::{Event, Sentence, Severity};
use crate::contract::wire::Alarm;
use crate::daemon::status::since::Since;
use crate::simulator::random::Random;

/// How long a device works between two faults, on average, in seconds.
const SOUND_S: f64 = 18_000.0;
/// How long a fault lasts, on average, in seconds.
const BROKEN_S: f64 = 240.0;
/// What training needs on the disk, in MiB.
const NEEDED_MIB: u64 = 512;

/// Something that stops a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Disk { free_mib: u64 },
    Model,
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::Disk { .. } => "disk",
            Self::Model => "model",
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::Disk { free_mib } => {
                format!("the disk has {free_mib} MiB free, {NEEDED_MIB} MiB are needed")
            }
            Self::Model => "the model cannot be used: the file is missing".to_owned(),
        }
    }

    fn begins(self) -> [Event; 2] {
        let first = match self {
            Self::Disk { free_mib } => Event::LowDisk { free_mib, needed_mib: NEEDED_MIB },
            Self::Model => Event::ModelMissing { sentence: Sentence::new("the file is missing") },
        };
        [first, Event::Degraded { reason: Sentence::new(self.sentence()) }]
    }

    fn ends(self, model_sha256: &str) -> [Event; 2] {
        let first = match self {
            Self::Disk { .. } => Event::DiskRecovered { free_mib: 8 * NEEDED_MIB },
            Self::Model => Event::ModelBack { sha256: model_sha256.to_owned() },
        };
        let sentence = Sentence::new(format!("the {} can be used again", self.name()));
        [first, Event::Recovered { sentence }]
    }
}

/// What is wrong.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    fault: Option<Fault>,
    /// Tasks that are set aside until an operator restores them.
    pub set_aside: u64,
    /// Cycles in a row that have failed.
    pub failures: u64,
    lasting: Since,
}

impl Troubles {
    /// A tick passes; says what has happened.
    pub fn tick(&mut self, random: &mut Random, model_sha256: &str) -> Vec<Event> {
        match self.fault {
            None if random.chance(TICK_S / SOUND_S) => {
                let disk = Fault::Disk { free_mib: random.whole(20, NEEDED_MIB - 1) };
                let fault = if random.chance(0.7) { disk } else { Fault::Model };
                self.fault = Some(fault);
                fault.begins().into()
            }
            Some(fault) if random.chance(TICK_S / BROKEN_S) => {
                self.fault = None;
                fault.ends(model_sha256).into()
            }
            _ => Vec::new(),
        }
    }

    /// The program starts again: it doesn't know since when things are wrong.
    pub fn restart(&mut self) {
        self.lasting = Since::default();
    }

    /// What stops the device, in a sentence.
    pub fn stops(&self) -> Option<String> {
        self.fault.map(Fault::sentence)
    }

    /// Takes note of what is wrong at `now_ms`; whether that has changed.
    pub fn note(&mut self, now_ms: u64) -> bool {
        let names: Vec<_> = self.now().into_iter().map(|(name, ..)| name).collect();
        self.lasting.note(Duration::from_millis(now_ms), names)
    }

    fn now(&self) -> Vec<(&'static str, Severity, String)> {
        let mut found = Vec::new();
        if let Some(fault) = self.fault {
            found.push((fault.name(), Severity::Error, fault.sentence()));
        }
        if self.set_aside > 0 {
            let sentence =
                format!("{} tasks are set aside until an operator restores them", self.set_aside);
            found.push(("tasks_set_aside", Severity::Warning, sentence));
        }
        if self.failures > 0 {
            let sentence =
                format!("{} cycles in a row have failed: the worker died", self.failures);
            found.push(("cycles_fail", Severity::Warning, sentence));
        }
        found
    }

    /// The alarms, as states have them.
    pub fn alarms(&self, now_ms: u64) -> Vec<Alarm> {
        let alarm = |(name, severity, sentence): (&'static str, Severity, String)| Alarm {
            alarm: name.to_owned(),
            severity,
            sentence,
            for_s: self.lasting.seconds(name, Duration::from_millis(now_ms)),
        };
        self.now().into_iter().map(alarm).collect()
    }
}
