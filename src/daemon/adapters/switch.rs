//! Changes of the active adapter, and whether the hook has been told of them.

use serde::{Deserialize, Serialize};

use super::hook::HookKind;
use crate::daemon::storage::Remembered;

/// A change of the active adapter, as the hook is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Whether it went forward or back.
    pub kind: HookKind,
    /// What is active now; `None` for the base model.
    pub version: Option<String>,
    /// What was active before; `None` for the base model.
    pub previous: Option<String>,
}

/// The change that the hook has yet to be told of, as the ledger remembers it: kept together with the
/// change itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookDue {
    /// `None` if no hook is due.
    kind: Option<HookKind>,
    version: Option<String>,
    previous: Option<String>,
}

impl Remembered for HookDue {
    const KEY: &'static str = "hook_due";
}

impl From<Option<Switch>> for HookDue {
    fn from(switch: Option<Switch>) -> Self {
        let Some(Switch { kind, version, previous }) = switch else { return Self::default() };
        Self { kind: Some(kind), version, previous }
    }
}

impl From<HookDue> for Option<Switch> {
    fn from(due: HookDue) -> Self {
        let HookDue { kind, version, previous } = due;
        Some(Switch { kind: kind?, version, previous })
    }
}

/// Whether the hook runs or has to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HookState {
    /// There is nothing to tell it.
    #[default]
    Idle,
    /// It has to be told of this.
    Due(Switch),
    /// It runs.
    Running {
        /// What it was told of.
        told: Switch,
        /// What has happened since, if anything: it has to be told of that next.
        next: Option<Switch>,
    },
}

impl HookState {
    /// The ledger says that this has to be told (`None`: nothing).
    pub fn set(&mut self, due: Option<Switch>) {
        *self = match (std::mem::take(self), due) {
            (Self::Running { told, .. }, due) => {
                let next = due.filter(|switch| *switch != told);
                Self::Running { told, next }
            }
            (_, Some(switch)) => Self::Due(switch),
            (_, None) => Self::Idle,
        };
    }

    /// What the hook has to be told now; it runs from here on.
    pub fn start(&mut self) -> Option<Switch> {
        let Self::Due(switch) = self else { return None };
        let told = switch.clone();
        *self = Self::Running { told: told.clone(), next: None };
        Some(told)
    }

    /// The hook has ended. True if there is nothing else to tell: then it is to be forgotten, and is due
    /// again until the ledger has done so.
    pub fn ended(&mut self) -> bool {
        let (state, is_last) = match std::mem::take(self) {
            Self::Running { told, next: None } => (Self::Due(told), true),
            Self::Running { next: Some(next), .. } => (Self::Due(next), false),
            other => (other, false),
        };
        *self = state;
        is_last
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(version: &str) -> Switch {
        Switch { kind: HookKind::Promoted, version: Some(version.into()), previous: None }
    }

    #[test]
    fn the_hook_runs_once_for_a_change() {
        let mut hook = HookState::default();
        assert_eq!(hook.start(), None);
        hook.set(Some(switch("1")));
        assert_eq!(hook.start(), Some(switch("1")));
        assert_eq!(hook.start(), None, "it runs already");

        assert!(hook.ended(), "to be forgotten");
        assert_eq!(hook, HookState::Due(switch("1")), "until the ledger has written that down");
        hook.set(None);
        assert_eq!(hook, HookState::Idle);
    }

    #[test]
    fn what_happens_while_it_runs_is_told_next() {
        let mut hook = HookState::default();
        hook.set(Some(switch("1")));
        hook.start();
        hook.set(Some(switch("1")));
        assert_eq!(hook, HookState::Running { told: switch("1"), next: None }, "recalled only");

        hook.set(Some(switch("2")));

        assert!(!hook.ended());
        assert_eq!(hook.start(), Some(switch("2")));
        assert!(hook.ended());
    }

    #[test]
    fn the_ledger_gives_back_what_was_kept() {
        for due in [None, Some(switch("1"))] {
            let text = serde_json::to_string(&HookDue::from(due.clone())).unwrap();
            let kept: HookDue = serde_json::from_str(&text).unwrap();
            assert_eq!(Option::from(kept), due);
        }
    }
}
