//! Since when things that last have lasted.

/// What lasts, by name, and since when, in milliseconds since 1970.
#[derive(Debug, Clone, Default)]
pub struct Lasting(Vec<(&'static str, u64)>);

impl Lasting {
    /// Takes note of what lasts at `now_ms`; whether that has changed.
    pub fn note(&mut self, names: Vec<&'static str>, now_ms: u64) -> bool {
        if self.0.iter().map(|(name, _)| name).eq(&names) {
            return false;
        }
        let since = |name| self.since(name).unwrap_or(now_ms);
        self.0 = names.into_iter().map(|name| (name, since(name))).collect();
        true
    }

    fn since(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, since_ms)| *since_ms)
    }

    /// For how long something has lasted at `now_ms`, in seconds.
    pub fn seconds(&self, name: &str, now_ms: u64) -> u64 {
        self.since(name).map_or(0, |since_ms| now_ms.saturating_sub(since_ms) / 1000)
    }
}
