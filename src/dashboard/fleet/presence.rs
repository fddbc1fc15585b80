//! Whether a device is there.

/// Silence after which a device counts as silent, in milliseconds: three times the longest usual distance
/// between two of its states (`docs/mqtt.md`, "Aging").
pub const SILENT_AFTER_MS: u64 = 180_000;

/// Whether a device is there, as far as can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It is connected and speaks.
    Online,
    /// It is said to be connected, but has not spoken for [`SILENT_AFTER_MS`].
    Silent,
    /// Its connection broke.
    Lost,
    /// It has stopped in good order.
    Stopped,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Online, Self::Silent, Self::Lost, Self::Stopped];

    /// Its name, on the page and in addresses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::Stopped => "stopped",
        }
    }

    /// That of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// How the newest connection that is known to have ended did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub connection: u64,
    /// Whether in good order.
    pub in_order: bool,
}

/// Whether a device is there whose newest connection is `connection`, and which spoke last at `heard_ms`.
#[must_use]
pub const fn status(connection: u64, ended: Ended, heard_ms: u64, now_ms: u64) -> Status {
    if ended.connection >= connection && ended.connection > 0 {
        return if ended.in_order { Status::Stopped } else { Status::Lost };
    }
    if now_ms.saturating_sub(heard_ms) > SILENT_AFTER_MS { Status::Silent } else { Status::Online }
}
