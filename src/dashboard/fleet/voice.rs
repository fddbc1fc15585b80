//! Which process speaks under a device's name.
//!
//! Numbers of connections only grow, and every start of a daemon has a boot id of its own (`docs/mqtt.md`).
//! So a process that connects again after another one has, or that goes on speaking long after another one
//! has connected, is a second living one: two devices have one name, as after copying a disk image.

use super::noticed::Noticed;

/// Time in which what an ended process has sent may still arrive, in milliseconds.
const GRACE_MS: u64 = 60_000;
/// Time of silence after which a process with smaller numbers takes over, in milliseconds: a device that has
/// lost its ledger and its clock begins again below.
const TAKEOVER_MS: u64 = 180_000;
/// Earlier processes that are remembered.
const EARLIER: usize = 8;

/// What a message is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It comes from the process that speaks for the device.
    Current,
    /// It comes from a process that now speaks for the device, whose numbers begin anew below the old ones.
    TakesOver,
    /// It comes from a process that no longer speaks for it.
    Earlier,
}

/// Who speaks.
#[derive(Debug, Clone, Default)]
pub struct Voice {
    boot: String,
    connection: u64,
    since_ms: u64,
    heard_ms: u64,
    earlier: Vec<String>,
    /// A second process.
    doubled: Noticed,
}

impl Voice {
    /// Takes note of a message that `boot` has sent on its connection. `live`: it was sent just now, as far
    /// as its kind tells.
    pub fn hear(&mut self, boot: &str, connection: u64, live: bool, at_ms: u64) -> Standing {
        let same = boot == self.boot;
        if self.boot.is_empty() || connection > self.connection {
            if !same && self.earlier.iter().any(|earlier| earlier == boot) {
                self.doubled.add(at_ms);
            }
            self.change(boot, connection, at_ms);
        } else if !same || connection < self.connection {
            if !live {
                return Standing::Earlier;
            }
            if at_ms.saturating_sub(self.heard_ms) > TAKEOVER_MS {
                self.change(boot, connection, at_ms);
                self.heard_ms = at_ms;
                return Standing::TakesOver;
            }
            if !same && at_ms.saturating_sub(self.since_ms) > GRACE_MS {
                self.doubled.add(at_ms);
            }
            return Standing::Earlier;
        }
        if live {
            self.heard_ms = at_ms;
        }
        Standing::Current
    }

    fn change(&mut self, boot: &str, connection: u64, at_ms: u64) {
        self.connection = connection;
        if boot == self.boot {
            return;
        }
        let before = std::mem::replace(&mut self.boot, boot.to_owned());
        self.earlier.retain(|earlier| earlier != boot);
        if !before.is_empty() {
            self.earlier.push(before);
        }
        if self.earlier.len() > EARLIER {
            self.earlier.remove(0);
        }
        (self.since_ms, self.heard_ms) = (at_ms, at_ms);
    }

    /// The newest connection's number.
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// When the process last sent something of which it is known when it was sent.
    pub const fn heard_ms(&self) -> u64 {
        self.heard_ms
    }

    /// Since when two processes speak under the name, if they do.
    pub fn doubled_since_ms(&self, now_ms: u64) -> Option<u64> {
        self.doubled.since_ms(now_ms)
    }
}

/// The process that has sent a message with this id: the part before its last `-`; a last will's id has two
/// more parts.
pub fn boot_of(id: &str) -> &str {
    let stream = id.rsplit_once('-').map_or("", |(stream, _)| stream);
    stream.strip_suffix("-will").unwrap_or(stream)
}
