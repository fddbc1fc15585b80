//! Decides whether a silent worker is stalled.
//!
//! ```text
//!   loading ──loaded──► idle ──job──► working ──job ended──► idle
//!      │ no end within the         │ no sign of life within the
//!      ▼ bound of loading          ▼ bound of work
//!   stalled                     stalled
//! ```
//!
//! Time in which the worker is frozen does not count. Depends only on the times it is given; knows
//! no clock and no process.

use std::time::Duration;

/// What the worker is doing, as far as its silence goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Loading shows no progress; only its end counts.
    Loading,
    /// Nothing: it may be silent forever.
    Idle,
    Working,
}

/// A worker's signs of life. Times are durations since any fixed moment.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    load: Duration,
    stall: Duration,
    doing: Doing,
    /// Silence that has been counted.
    quiet: Duration,
    /// From when silence is to be counted; `None` while frozen.
    since: Option<Duration>,
}

impl Heartbeat {
    /// The heartbeat of a worker that was started at `now`. It is stalled if it hasn't loaded its model
    /// within `load`, or shows no progress of a job for `stall`.
    #[must_use]
    pub const fn new(now: Duration, load: Duration, stall: Duration) -> Self {
        Self { load, stall, doing: Doing::Loading, quiet: Duration::ZERO, since: Some(now) }
    }

    /// It has been given a job.
    pub fn job(&mut self, now: Duration) {
        self.restart(Doing::Working, now);
    }

    /// It has shown that its job makes progress.
    pub fn beat(&mut self, now: Duration) {
        if self.doing == Doing::Working {
            self.restart(Doing::Working, now);
        }
    }

    /// It has ended its job, or loaded its model.
    pub fn idle(&mut self, now: Duration) {
        self.restart(Doing::Idle, now);
    }

    /// It is frozen.
    pub fn freeze(&mut self, now: Duration) {
        self.quiet = self.quiet(now);
        self.since = None;
    }

    /// It runs again.
    pub fn thaw(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// How long it has been silent, without the time in which it was frozen.
    #[must_use]
    pub fn quiet(&self, now: Duration) -> Duration {
        self.quiet + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Whether it has been silent for too long.
    #[must_use]
    pub fn is_stalled(&self, now: Duration) -> bool {
        match self.doing {
            Doing::Loading => self.quiet(now) > self.load,
            Doing::Idle => false,
            Doing::Working => self.quiet(now) > self.stall,
        }
    }

    fn restart(&mut self, doing: Doing, now: Duration) {
        self.doing = doing;
        self.quiet = Duration::ZERO;
        // Messages from before it was frozen may arrive afterwards.
        self.since = self.since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn loaded() -> Heartbeat {
        let mut heartbeat = Heartbeat::new(s(0), s(900), s(300));
        heartbeat.idle(s(100));
        heartbeat
    }

    #[test]
    fn loading_has_a_bound_of_its_own() {
        let mut heartbeat = Heartbeat::new(s(50), s(900), s(300));

        heartbeat.beat(s(400));

        assert!(!heartbeat.is_stalled(s(950)));
        assert!(heartbeat.is_stalled(s(951)), "beats don't show that loading will end");
        assert!(!loaded().is_stalled(s(1_000_000)), "an idle worker may be silent");
    }

    #[test]
    fn a_job_needs_signs_of_life() {
        let mut heartbeat = loaded();
        heartbeat.job(s(1000));
        heartbeat.beat(s(1200));

        assert!(!heartbeat.is_stalled(s(1500)));
        assert!(heartbeat.is_stalled(s(1501)));
        heartbeat.idle(s(1502));
        assert!(!heartbeat.is_stalled(s(9999)));
    }

    #[test]
    fn frozen_time_does_not_count() {
        let mut heartbeat = loaded();
        heartbeat.job(s(1000));
        heartbeat.freeze(s(1200));
        heartbeat.freeze(s(1300));

        assert!(!heartbeat.is_stalled(s(100_000)));
        heartbeat.thaw(s(100_000));
        heartbeat.thaw(s(100_050));

        assert_eq!(heartbeat.quiet(s(100_100)), s(300), "200 before and 100 after");
        assert!(heartbeat.is_stalled(s(100_101)));
    }

    #[test]
    fn what_is_heard_late_from_a_frozen_worker_does_not_start_its_clock() {
        let mut heartbeat = loaded();
        heartbeat.job(s(1000));
        heartbeat.freeze(s(1100));
        heartbeat.beat(s(1101));

        assert_eq!(heartbeat.quiet(s(5000)), s(0));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_no_stall() {
        let mut heartbeat = loaded();
        heartbeat.job(s(1000));

        assert_eq!(heartbeat.quiet(s(10)), s(0));
    }
}
