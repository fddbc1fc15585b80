//! Compares the wall clock with the monotonic one, to see whether it was set. Pure.

use std::time::Duration;

/// Differences below this, in seconds, are drift and small corrections.
const JUMP_S: i64 = 60;

/// Watches the wall clock.
#[derive(Debug, Clone, Default)]
pub struct ClockWatch {
    last: Option<(Duration, i64)>,
}

impl ClockWatch {
    /// Compares the clocks: `now` monotonic, `wall` in unix seconds. Returns by how many seconds the
    /// wall clock has jumped since the last look, if it has.
    ///
    /// Time in which the machine slept passes on the wall clock alone on some systems; that is
    /// reported as a jump as well, because whatever depends on the time must look again in both cases.
    pub fn look(&mut self, now: Duration, wall: i64) -> Option<i64> {
        let (then, wall_then) = self.last.replace((now, wall))?;
        let passed = i64::try_from(now.saturating_sub(then).as_secs()).unwrap_or(i64::MAX);
        let jump = wall.saturating_sub(wall_then).saturating_sub(passed);
        (jump.saturating_abs() >= JUMP_S).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_jumps_are_reported_and_each_once() {
        let mut clock = ClockWatch::default();
        let at = Duration::from_secs;
        let ten_years = 10 * 365 * 86_400;

        assert_eq!(clock.look(at(0), 1_000_000), None);
        assert_eq!(clock.look(at(300), 1_000_301), None);
        assert_eq!(clock.look(at(310), 1_000_311 + ten_years), Some(ten_years));
        assert_eq!(clock.look(at(320), 1_000_321 + ten_years), None);
        assert_eq!(clock.look(at(330), 0), Some(-(1_000_331 + ten_years)));
        assert_eq!(clock.look(at(331), i64::MAX), Some(i64::MAX - 1));
        assert!(clock.look(at(332), i64::MIN).is_some());
    }
}
