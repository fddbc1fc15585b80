//! The watch on the device: what was last measured, whether it is idle, and whether its clock jumped.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Zoned;

use super::clock::ClockWatch;
use super::{Activity, ActivitySettings, Condition, IdleJudge, Own, Reading, Signal};

/// The device as it was last seen.
#[derive(Debug)]
pub struct DeviceWatch {
    activity: Activity,
    judge: IdleJudge,
    reading: Reading,
    condition: Condition,
    clock: ClockWatch,
}

impl DeviceWatch {
    /// A watch that has seen nothing yet: the device counts as in use. `root` and `state_dir` as for
    /// [`Activity::new`].
    ///
    /// # Errors
    /// As [`Activity::new`].
    pub fn new(
        settings: ActivitySettings,
        root: PathBuf,
        state_dir: PathBuf,
    ) -> Result<Self, crate::config::sections::windows::WindowError> {
        Ok(Self {
            judge: IdleJudge::new(&settings),
            activity: Activity::new(settings, root, state_dir)?,
            reading: Reading::default(),
            condition: Condition::Busy { reason: "just started".into(), idle_in_s: None },
            clock: ClockWatch::default(),
        })
    }

    /// Works with other settings: quiet has to be shown anew.
    ///
    /// # Errors
    /// As [`Activity::new`]; nothing has changed then.
    pub fn use_settings(
        &mut self,
        settings: ActivitySettings,
        root: PathBuf,
        state_dir: PathBuf,
    ) -> Result<(), crate::config::sections::windows::WindowError> {
        let judge = IdleJudge::new(&settings);
        self.activity = Activity::new(settings, root, state_dir)?;
        self.judge = judge;
        Ok(())
    }

    /// Measures the device at `now` (monotonic) and `wall` (local time).
    pub fn look(&mut self, now: Duration, wall: &Zoned, own: &Own<'_>) {
        let reading = self.activity.sample(now, wall, own);
        self.observe(now, reading);
    }

    /// Takes in what was measured at `now`.
    pub fn observe(&mut self, now: Duration, reading: Reading) {
        self.condition = self.judge.observe(now, &reading);
        self.reading = reading;
    }

    /// By how many seconds the wall clock (`wall`, unix seconds) has jumped since the last call, if it
    /// has.
    pub fn clock_jump(&mut self, now: Duration, wall: i64) -> Option<i64> {
        self.clock.look(now, wall)
    }

    /// Whether the device is idle; if not, why not.
    #[must_use]
    pub const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// What was last measured.
    #[must_use]
    pub fn signals(&self) -> &[Signal] {
        &self.reading.signals
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Measure, Verdict};
    use super::*;

    fn reading(load: f64) -> Reading {
        let verdict = if load > 20.0 { Verdict::Busy } else { Verdict::Ok };
        let signal = Signal {
            measure: Measure::CpuLoad,
            value: Some(load),
            limit: Some(20.0),
            verdict,
            text: format!("{load:.0} %"),
        };
        Reading { signals: vec![signal], opens_in_s: None }
    }

    fn watch(settings: &ActivitySettings) -> DeviceWatch {
        DeviceWatch::new(settings.clone(), "/nonexistent".into(), "/nonexistent".into()).unwrap()
    }

    #[test]
    fn a_device_is_in_use_until_it_was_quiet_and_again_after_other_settings() {
        let at = Duration::from_secs;
        let settings = ActivitySettings { idle_after_s: 30, ..ActivitySettings::default() };
        let mut watch = watch(&settings);
        assert_eq!(watch.condition().reason(), Some("just started"));

        watch.observe(at(0), reading(5.0));
        watch.observe(at(30), reading(5.0));

        assert_eq!(watch.condition(), &Condition::Idle);
        assert_eq!(watch.signals(), reading(5.0).signals);
        watch.use_settings(settings, "/nonexistent".into(), "/nonexistent".into()).unwrap();
        watch.observe(at(32), reading(5.0));
        assert_ne!(watch.condition(), &Condition::Idle);
    }

    #[test]
    fn settings_that_cannot_be_used_change_nothing() {
        let mut watch = watch(&ActivitySettings { idle_after_s: 0, ..ActivitySettings::default() });
        watch.observe(Duration::ZERO, reading(5.0));
        let wrong = ActivitySettings { windows: vec!["now".into()], ..ActivitySettings::default() };

        assert!(watch.use_settings(wrong, "/nonexistent".into(), "/nonexistent".into()).is_err());

        watch.observe(Duration::from_secs(1), reading(5.0));
        assert_eq!(watch.condition(), &Condition::Idle);
    }
}
