//! What is broken, since when, and when to look again.
//!
//! At most one fault of a kind is held. A fault is told when it is new and when its cause is gone; in
//! between it is looked at again less and less often.

use std::time::Duration;

use crate::contract::event::{Event, Sentence};
use crate::daemon::effect::Effect;

/// How long a disk or ledger must work again before it counts as mended.
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

    /// Whether training can continue all the same.
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

    /// [`Self::raise`], and the event that tells of a fault if it is new.
    pub fn report(&mut self, kind: FaultKind, sentence: &str, now: Duration) -> Option<Event> {
        if !self.raise(kind, sentence.to_owned(), now) {
            return None;
        }
        let reason = Sentence::new(sentence);
        Some(match kind {
            FaultKind::Model => Event::ModelMissing { sentence: reason },
            _ => Event::Degraded { reason },
        })
    }

    /// [`Self::clear`], and the event that tells of it if there was such a fault. `model` is the SHA-256
    /// of the model that is known.
    pub fn mend(&mut self, kind: FaultKind, model: &str) -> Option<Event> {
        if !self.clear(kind) {
            return None;
        }
        let sentence = Sentence::new(format!("{} works again", kind.name()));
        Some(match kind {
            FaultKind::Model => Event::ModelBack { sha256: model.to_owned() },
            _ => Event::Recovered { sentence },
        })
    }

    /// What to do at `now` about faults whose cause may be gone, with the storage open or not.
    pub fn look(&mut self, now: Duration, is_open: bool) -> Vec<Effect> {
        let on_disk = |kind: &FaultKind| matches!(kind, FaultKind::Disk | FaultKind::Ledger);
        let proven = self.proven(now).into_iter().filter(|kind| on_disk(kind) && is_open);
        let mut effects: Vec<Effect> = proven.map(Effect::Mend).collect();
        let due = self.due(now);
        let held = self.holds(FaultKind::Disk) || self.holds(FaultKind::Ledger);
        if due.iter().any(on_disk) || (!is_open && !held) {
            effects.push(Effect::OpenStorage);
        }
        for kind in due {
            match kind {
                FaultKind::Model => effects.push(Effect::RetryModel),
                // Trying again is the only way to know.
                FaultKind::Worker => effects.push(Effect::TryAgain(kind)),
                // Opened above; mended by a reload; mended by a scan that succeeds.
                FaultKind::Disk | FaultKind::Ledger | FaultKind::Settings | FaultKind::Tasks => {}
            }
        }
        effects
    }

    /// The cause is gone; says whether there was such a fault.
    pub fn clear(&mut self, kind: FaultKind) -> bool {
        let before = self.faults.len();
        self.faults.retain(|f| f.kind != kind);
        self.faults.len() < before
    }

    /// Lets what has failed be tried again: the fault counts as gone until it is raised anew, which
    /// continues its waits, or cleared.
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

    /// Whether there is such a fault and it is not being tried again.
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

    /// What keeps training from continuing, if anything does.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let holds = |f: &&Fault| !f.kind.is_mild() && f.trying.is_none();
        self.faults.iter().find(holds).map(|f| f.sentence.as_str())
    }

    /// Every fault with its sentence, but for those whose cause seems to be gone.
    pub fn standing(&self) -> impl Iterator<Item = (FaultKind, &str)> {
        let standing = self.faults.iter().filter(|f| f.trying.is_none());
        standing.map(|f| (f.kind, f.sentence.as_str()))
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
    fn a_fault_is_told_when_it_comes_and_when_it_goes() {
        let mut faults = Faults::default();
        let degraded = faults.report(FaultKind::Disk, "full", s(0));
        assert!(matches!(degraded, Some(Event::Degraded { .. })), "{degraded:?}");
        assert_eq!(faults.report(FaultKind::Disk, "still full", s(1)), None);
        let missing = faults.report(FaultKind::Model, "missing", s(1));
        assert!(matches!(missing, Some(Event::ModelMissing { .. })), "{missing:?}");

        let back = Event::ModelBack { sha256: "abc".into() };
        assert_eq!(faults.mend(FaultKind::Model, "abc"), Some(back));
        assert!(matches!(faults.mend(FaultKind::Disk, ""), Some(Event::Recovered { .. })));
        assert_eq!(faults.mend(FaultKind::Disk, ""), None);
    }

    #[test]
    fn storage_is_opened_when_it_is_due_and_counts_as_mended_once_it_has_proven_itself() {
        let mut faults = Faults::default();
        assert_eq!(faults.look(s(0), false), [Effect::OpenStorage], "nothing was tried yet");
        faults.report(FaultKind::Disk, "full", s(0));
        faults.report(FaultKind::Worker, "died", s(0));
        assert_eq!(faults.look(s(0), false), [], "too soon");

        let again = [Effect::OpenStorage, Effect::TryAgain(FaultKind::Worker)];
        assert_eq!(faults.look(s(1), false), again);
        faults.try_again(FaultKind::Disk, s(1));
        faults.try_again(FaultKind::Worker, s(1));
        assert_eq!(faults.look(s(5), true), []);
        assert_eq!(faults.look(s(11), true), [Effect::Mend(FaultKind::Disk)], "not the worker");
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
