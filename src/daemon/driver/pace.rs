//! When the driver looks up next, and whether it is about to end.

use std::time::{Duration, Instant};

/// Between two looks while the worker computes: how soon the device's needs are seen.
const TICK_WORKING: Duration = Duration::from_millis(500);
/// Between two looks otherwise.
const TICK_RESTING: Duration = Duration::from_secs(2);
/// Between two looks while there is something to get through.
const TICK_HURRYING: Duration = Duration::from_millis(20);
/// How long the end may take, once it was asked for.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Whether the daemon runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// It was asked to stop, at this time.
    Stopping(Duration),
}

/// The driver's clock and what is due on it. Times count from the start.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    next_tick: Duration,
    /// When the service manager's watchdog was last fed.
    pinged: Option<Duration>,
    life: Life,
}

impl Default for Pace {
    fn default() -> Self {
        Self { began: Instant::now(), next_tick: Duration::ZERO, pinged: None, life: Life::Running }
    }
}

impl Pace {
    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Until the next regular look.
    pub fn until_tick(&self) -> Duration {
        self.next_tick.saturating_sub(self.now())
    }

    /// The worker begins to compute: what the device needs must be seen soon from now on.
    pub fn look_soon(&mut self) {
        self.next_tick = self.next_tick.min(self.now() + TICK_WORKING);
    }

    /// A regular look is over; the worker computes, or there is more to take in at once.
    pub fn ticked(&mut self, working: bool, more_waiting: bool) {
        let wait = match self.life {
            Life::Stopping(_) => TICK_HURRYING,
            Life::Running if more_waiting => TICK_HURRYING,
            Life::Running if working => TICK_WORKING,
            Life::Running => TICK_RESTING,
        };
        self.next_tick = self.now() + wait;
    }

    /// Whether the watchdog, which wants to be fed once in `every`, has to be fed at `now`; it counts as
    /// fed then.
    pub fn ping_is_due(&mut self, now: Duration, every: Duration) -> bool {
        let due = self.pinged.is_none_or(|last| now.saturating_sub(last) >= every / 2);
        if due {
            self.pinged = Some(now);
        }
        due
    }

    /// The daemon was asked to stop; says whether that is new.
    pub fn stop(&mut self) -> bool {
        let is_new = self.life == Life::Running;
        if is_new {
            self.next_tick = self.now();
            self.life = Life::Stopping(self.next_tick);
        }
        is_new
    }

    /// Whether the daemon was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.life != Life::Running
    }

    /// Whether the daemon was asked to stop and nothing is waited for any more (`busy`), or that has
    /// taken too long.
    pub fn is_over(&self, busy: bool) -> bool {
        match self.life {
            Life::Running => false,
            Life::Stopping(since) => !busy || self.now().saturating_sub(since) >= STOP_LIMIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_looked_at_more_often_while_the_worker_computes() {
        let mut pace = Pace::default();
        let waits = |pace: &Pace, most: Duration| {
            let wait = pace.until_tick();
            wait <= most && wait + Duration::from_millis(400) > most
        };
        pace.ticked(false, false);
        assert!(waits(&pace, TICK_RESTING), "{pace:?}");
        pace.look_soon();
        assert!(waits(&pace, TICK_WORKING), "{pace:?}");
        pace.ticked(true, false);
        assert!(waits(&pace, TICK_WORKING), "{pace:?}");
        pace.ticked(false, true);
        assert!(pace.until_tick() <= TICK_HURRYING, "{pace:?}");
    }

    #[test]
    fn an_end_waits_for_what_is_busy_but_not_for_ever() {
        let mut pace = Pace::default();
        assert!(!pace.is_over(false) && !pace.is_stopping());

        assert!(pace.stop());

        assert!(!pace.stop(), "once");
        assert!(pace.is_stopping() && pace.until_tick().is_zero());
        assert!(pace.is_over(false) && !pace.is_over(true));
        pace.began = pace.began.checked_sub(STOP_LIMIT).expect("a time in the past");
        assert!(pace.is_over(true));
    }

    #[test]
    fn the_watchdog_is_fed_at_once_and_then_twice_as_often_as_it_wants() {
        let mut pace = Pace::default();
        let at = Duration::from_millis;
        let mut due = |now| pace.ping_is_due(at(now), at(1000));

        assert_eq!([0, 400, 500, 600, 1000].map(&mut due), [true, false, true, false, true]);
    }
}
