//! What is broken, since when, and when to look again. Pure: the driver probes and reports.

use std::time::Duration;

/// How long a disk or ledger must do its work again before it counts as mended.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// What can be broken. The first in this order is what the daemon gives as its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The state folder cannot be written.
    Disk,
    /// The database cannot be used.
    Ledger,
    /// The model cannot be loaded.
    Model,
    /// The settings don't fit the model or the machine.
    Settings,
    /// The worker keeps dying.
    Worker,
    /// The tasks' folder cannot be read.
    Tasks,
}

impl FaultKind {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Ledger => "ledger",
            Self::Model => "model",
            Self::Settings => "settings",
            Self::Worker => "worker",
            Self::Tasks => "tasks",
        }
    }

    /// Whether training can go on all the same.
    const fn is_mild(self) -> bool {
        matches!(self, Self::Tasks)
    }
}

#[derive(Debug, Clone)]
struct Fault {
    kind: FaultKind,
    sentence: String,
    retry_at: Duration,
    tries: u32,
    /// Since when it is being tried again, as if the cause were gone.
    trying: Option<Duration>,
}

/// The faults of the moment, at most one of a kind.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    faults: Vec<Fault>,
}

impl Faults {
    /// Notes a fault at `now`; says whether it is new. One that was there already is looked at again
    /// later than the time before: after 1 s, 2 s, 4 s … 64 s.
    pub fn raise(&mut self, kind: FaultKind, sentence: String, now: Duration) -> bool {
        let found = self.faults.iter_mut().find(|f| f.kind == kind);
        let is_new = found.is_none();
        let wait = |tries: u32| Duration::from_secs(1 << tries.min(6));
        match found {
            Some(fault) => {
                fault.tries += 1;
                fault.retry_at = now + wait(fault.tries);
                fault.trying = None;
                fault.sentence = sentence;
            }
            None => {
                let retry_at = now + wait(0);
                self.faults.push(Fault { kind, sentence, retry_at, tries: 0, trying: None });
                self.faults.sort_by_key(|f| f.kind);
            }
        }
        is_new
    }

    /// The cause is gone; says whether there was such a fault.
    pub fn clear(&mut self, kind: FaultKind) -> bool {
        let before = self.faults.len();
        self.faults.retain(|f| f.kind != kind);
        self.faults.len() < before
    }

    /// Lets what has failed be tried again: the fault counts as gone until it is raised anew, which
    /// goes on with its waits, or cleared.
    pub fn try_again(&mut self, kind: FaultKind, now: Duration) {
        for fault in self.faults.iter_mut().filter(|f| f.kind == kind) {
            fault.trying = Some(now);
        }
    }

    /// The kinds that have been tried again for so long without being raised that the cause must be
    /// gone. For those that show it in no other way.
    #[must_use]
    pub fn proven(&self, now: Duration) -> Vec<FaultKind> {
        let long = |since: Duration| now.saturating_sub(since) >= PROVEN_AFTER;
        let proven = |f: &&Fault| f.trying.is_some_and(long);
        self.faults.iter().filter(proven).map(|f| f.kind).collect()
    }

    /// Whether there is such a fault that nobody is trying again.
    #[must_use]
    pub fn holds(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|f| f.kind == kind && f.trying.is_none())
    }

    /// Whether there is such a fault.
    #[must_use]
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|f| f.kind == kind)
    }

    /// The kinds whose cause may be gone: it is time to look.
    #[must_use]
    pub fn due(&self, now: Duration) -> Vec<FaultKind> {
        let due = |f: &&Fault| f.retry_at <= now && f.trying.is_none();
        self.faults.iter().filter(due).map(|f| f.kind).collect()
    }

    /// What keeps training from going on, if anything does.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let holds = |f: &&Fault| !f.kind.is_mild() && f.trying.is_none();
        self.faults.iter().find(holds).map(|f| f.sentence.as_str())
    }

    /// Every fault with its sentence.
    pub fn all(&self) -> impl Iterator<Item = (FaultKind, &str)> {
        self.faults.iter().map(|f| (f.kind, f.sentence.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_fault_is_new_once_and_looked_at_less_and_less_often() {
        let mut faults = Faults::default();
        let mut now = s(100);
        assert!(faults.raise(FaultKind::Model, "missing".into(), now));
        let mut waits = Vec::new();
        for _ in 0..8 {
            let mut wait = 0;
            while faults.due(now).is_empty() {
                now += s(1);
                wait += 1;
            }
            waits.push(wait);
            assert!(!faults.raise(FaultKind::Model, "still missing".into(), now));
        }

        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!(faults.reason(), Some("still missing"));
        assert!(faults.clear(FaultKind::Model));
        assert!(!faults.clear(FaultKind::Model));
        assert_eq!(faults.reason(), None);
    }

    #[test]
    fn what_is_tried_again_and_fails_again_waits_longer() {
        let mut faults = Faults::default();
        faults.raise(FaultKind::Worker, "died".into(), s(0));
        faults.try_again(FaultKind::Worker, s(1));
        assert_eq!((faults.reason(), faults.due(s(1000)).len()), (None, 0));

        assert_eq!((faults.proven(s(5)), faults.proven(s(20))), (vec![], vec![FaultKind::Worker]));
        assert!(!faults.raise(FaultKind::Worker, "died".into(), s(1000)), "it was never over");

        assert_eq!(faults.reason(), Some("died"));
        assert_eq!(faults.due(s(1001)), []);
        assert_eq!(faults.due(s(1002)), [FaultKind::Worker]);
        assert!(faults.clear(FaultKind::Worker));
    }

    #[test]
    fn the_deepest_cause_is_the_reason_and_a_mild_one_is_none() {
        let mut faults = Faults::default();
        faults.raise(FaultKind::Tasks, "no such folder".into(), s(0));
        assert_eq!(faults.reason(), None);
        faults.raise(FaultKind::Worker, "died".into(), s(0));
        faults.raise(FaultKind::Disk, "full".into(), s(0));

        assert_eq!(faults.reason(), Some("full"));
        assert_eq!(faults.all().count(), 3);
    }
}
