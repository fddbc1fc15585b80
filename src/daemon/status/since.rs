//! Since when something has been the case.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is the case now, by name, and since when.
#[derive(Debug, Clone, Default)]
pub struct Since(BTreeMap<String, Duration>);

impl Since {
    /// Takes note of all that is the case at `now`; what is not named is over. Whether anything has begun or
    /// ended.
    pub fn note<'a>(&mut self, now: Duration, names: impl IntoIterator<Item = &'a str>) -> bool {
        let before = std::mem::take(&mut self.0);
        let since = |name: &str| before.get(name).copied().unwrap_or(now);
        self.0 = names.into_iter().map(|name| (name.to_owned(), since(name))).collect();
        !self.0.keys().eq(before.keys())
    }

    /// For how many whole seconds it has been the case at `now`; 0 if it is not.
    #[must_use]
    pub fn seconds(&self, name: &str, now: Duration) -> u64 {
        self.0.get(name).map_or(0, |since| now.saturating_sub(*since).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_begins_anew() {
        let (at, mut since) = (Duration::from_secs, Since::default());

        since.note(at(10), ["disk", "model"]);
        since.note(at(20), ["disk"]);
        since.note(at(30), ["disk", "model"]);

        assert_eq!(since.seconds("disk", at(35)), 25);
        assert_eq!(since.seconds("model", at(35)), 5);
        assert_eq!(since.seconds("worker", at(35)), 0);
    }
}
