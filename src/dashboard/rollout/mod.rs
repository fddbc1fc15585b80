//! A command that reaches many devices in stages, and stops where it does harm.
//!
//! Pure: [`Rollout::turn`] is told how the devices fare and says which are to be commanded now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fleet::DeviceId;
use super::orders::Wish;

/// Stages of a roll-out, at most.
pub const MAX_STAGES: usize = 20;

/// How far a roll-out is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It goes on.
    Running,
    /// All stages are over.
    Done,
    /// It ended before that, and why.
    Stopped(String),
}

/// How a device fares with its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended it.
    Waiting,
    /// It has done it.
    Done,
    /// It has not done it, and will not.
    Failed,
    /// It has done it, and something is wrong with it since.
    Worse,
}

/// What an operator has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The command, by name.
    pub command: String,
    /// Its version, if it takes one.
    pub version: Option<String>,
    /// Its setting, if it takes one.
    pub key: Option<String>,
    /// The setting's value.
    pub value: Option<String>,
    /// Shares of the devices that have the command after each stage, in percent; the last one is 100.
    pub percent: Vec<u32>,
    /// Shortest time between the beginnings of two stages, in milliseconds.
    pub pause_ms: u64,
    /// The largest share of commanded devices that may fail or get worse, in percent.
    pub max_failed_percent: u32,
}

/// A roll-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// When it was begun, in milliseconds since 1970; no two have the same.
    pub id: u64,
    /// Who began it.
    pub who: String,
    /// What was asked for.
    pub plan: Plan,
    /// The devices, in the order in which they are reached.
    pub devices: Vec<String>,
    /// Devices that were commanded, and the ids of their commands.
    pub given: BTreeMap<String, String>,
    /// Stages that have begun.
    pub stage: usize,
    /// When the last of them began, in milliseconds since 1970.
    pub stage_ms: u64,
    /// How far it is.
    pub progress: Progress,
    /// How the commanded devices fared when it was last looked at: done, failed, worse.
    pub tally: (usize, usize, usize),
}

impl Plan {
    /// Reads the shares of the stages: `5, 25, 100`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn stages(text: &str) -> Result<Vec<u32>, String> {
        let form = "stages are percentages that grow to 100, such as 5, 25, 100";
        let shares: Result<Vec<u32>, _> = text
            .split(',')
            .map(|share| share.trim().trim_end_matches('%').trim().parse())
            .collect();
        let shares = shares.map_err(|_| form.to_owned())?;
        let grow = shares.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = shares.first().is_some_and(|first| *first > 0) && shares.last() == Some(&100);
        if grow && fits && shares.len() <= MAX_STAGES { Ok(shares) } else { Err(form.to_owned()) }
    }

    /// What is wanted.
    ///
    /// # Errors
    /// A sentence, if it is nothing.
    pub fn wish(&self) -> Result<Wish, String> {
        Wish::read(&self.command, self.version.clone(), self.key.clone(), self.value.clone())
    }
}

impl Rollout {
    /// One that begins at the next turn.
    #[must_use]
    pub fn new(plan: Plan, who: &str, devices: &[DeviceId], now_ms: u64) -> Self {
        Self {
            id: now_ms,
            who: who.to_owned(),
            plan,
            devices: devices.iter().map(ToString::to_string).collect(),
            given: BTreeMap::new(),
            stage: 0,
            stage_ms: 0,
            progress: Progress::Running,
            tally: (0, 0, 0),
        }
    }

    /// How many devices have the command after `stages` stages: at least one more with each, while there are
    /// more.
    fn reach(&self, stages: usize) -> usize {
        let all = self.devices.len();
        let share = |stage: usize| {
            let percent = self.plan.percent.get(stage).copied().unwrap_or(100) as usize;
            (all * percent).div_ceil(100).min(all)
        };
        (0..stages).fold(0, |before, stage| share(stage).max((before + 1).min(all)))
    }

    /// Looks at how the devices fare; the devices that are to be commanded now.
    pub fn turn(&mut self, now_ms: u64, outcome: impl Fn(&str, &str) -> Outcome) -> Vec<String> {
        if self.progress != Progress::Running {
            return Vec::new();
        }
        let mut waiting = 0;
        let (mut done, mut failed, mut worse) = (0, 0, 0);
        for (device, command) in &self.given {
            match outcome(device, command) {
                Outcome::Waiting => waiting += 1,
                Outcome::Done => done += 1,
                Outcome::Failed => failed += 1,
                Outcome::Worse => worse += 1,
            }
        }
        self.tally = (done, failed, worse);
        let bad = failed + worse;
        if bad * 100 > self.given.len() * self.plan.max_failed_percent as usize {
            let given = self.given.len();
            self.progress = Progress::Stopped(format!(
                "{failed} of {given} devices failed and {worse} got worse"
            ));
            return Vec::new();
        }
        if waiting > 0 {
            return Vec::new();
        }
        if self.given.len() >= self.devices.len() {
            self.progress = Progress::Done;
            return Vec::new();
        }
        // The first stage waits for nothing; after each one there is time to see what comes of it.
        if self.stage > 0 && now_ms.saturating_sub(self.stage_ms) < self.plan.pause_ms {
            return Vec::new();
        }
        (self.stage, self.stage_ms) = (self.stage + 1, now_ms);
        self.devices[self.given.len()..self.reach(self.stage)].to_vec()
    }

    /// Notes that a device was commanded; `command` is the id of its command.
    pub fn gave(&mut self, device: &str, command: &str) {
        self.given.insert(device.to_owned(), command.to_owned());
    }

    /// Ends it; what was given stays given.
    pub fn stop(&mut self, why: &str) {
        if self.progress == Progress::Running {
            self.progress = Progress::Stopped(why.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
