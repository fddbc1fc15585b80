//! What is known of a fleet: a fold over the messages of the MQTT contract.
//!
//! [`Fleet::hear`] takes one message, with the time at which it arrived by the dashboard's own clock, and
//! changes what is known of one device. Messages may come twice, late, in any order or damaged: what is
//! older than what is known changes nothing, and what cannot be read is counted. Whoever looks at a
//! [`Device`] gives the time, since silence is known only then.
//!
//! Pure: knows no broker, no database and no page.

use std::collections::BTreeMap;
use std::fmt;

use crate::contract::topics::{self, Kind, Topics};
use crate::contract::wire::MAX_PAYLOAD_BYTES;

pub mod alarms;
mod bounds;
pub mod device;
mod noticed;
pub mod orders;
pub mod presence;
pub mod query;
pub mod summary;
mod told;
mod voice;

pub use alarms::Seen;
pub use device::Device;
pub use presence::Status;
pub use query::{Filter, Page, Sort};

/// Devices that are followed, at most: a broker that lets anybody publish under any name must not fill the memory.
pub const MAX_DEVICES: usize = 200_000;

/// Names a device: its fleet and its own name, in this order of the page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Its fleet.
    pub fleet: String,
    /// Its name in the fleet.
    pub device: String,
}

impl DeviceId {
    /// Reads `fleet/device`; nothing if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (fleet, device) = text.split_once('/')?;
        Topics::new(fleet, device).ok()?;
        Some(Self { fleet: fleet.to_owned(), device: device.to_owned() })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.fleet, self.device)
    }
}

/// A message as it came from a broker.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Where it was published.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
    /// Whether the broker had kept it, so that it says nothing of when it was sent.
    pub retained: bool,
    /// When it arrived, in milliseconds since 1970 by the dashboard's clock.
    pub at_ms: u64,
}

/// What followed from a message, for whoever keeps a history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// Numbers to draw curves of, by name.
    pub numbers: Vec<(String, f64)>,
    /// Something that happened, and was not known before.
    pub happening: Option<device::Happening>,
    /// How the time since the last message was spent.
    pub spent: Option<device::Spent>,
}

/// Why a message changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its topic is none that a device publishes to.
    Topic,
    /// It cannot be read; it is counted with its device if that is known.
    Unreadable,
    /// There are [`MAX_DEVICES`] already.
    TooMany,
}

/// All devices that were heard of.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: BTreeMap<DeviceId, Device>,
    /// Alarms that somebody has seen on devices that have not been heard of yet.
    seen: BTreeMap<DeviceId, BTreeMap<String, Seen>>,
    changes: u64,
}

impl Fleet {
    /// Takes a message in.
    ///
    /// # Errors
    /// Why it was not: nothing of it has any effect then, except that it is counted.
    pub fn hear(&mut self, arrival: Arrival<'_>) -> Result<(DeviceId, Heard), Refused> {
        let (fleet, device, kind) = topics::parse(arrival.topic).ok_or(Refused::Topic)?;
        if matches!(kind, Kind::Command(_)) {
            return Err(Refused::Topic);
        }
        let id = DeviceId { fleet, device };
        // An empty retained message is how a broker is told to forget one: nothing that a device says.
        if arrival.payload.is_empty() {
            return Err(Refused::Unreadable);
        }
        let known = self.devices.len();
        let readable = arrival.payload.len() <= MAX_PAYLOAD_BYTES;
        match self.devices.get_mut(&id) {
            Some(device) => {
                self.changes += 1;
                let heard = if readable { device.hear(&kind, arrival) } else { Err(()) };
                heard.map(|heard| (id, heard)).map_err(|()| {
                    device.unreadable.add(arrival.at_ms);
                    Refused::Unreadable
                })
            }
            None if known >= MAX_DEVICES => Err(Refused::TooMany),
            // A device exists from the first message that can be read.
            None => {
                let mut device = Device::new(arrival.at_ms);
                let heard = if readable { device.hear(&kind, arrival) } else { Err(()) };
                let heard = heard.map_err(|()| Refused::Unreadable)?;
                self.changes += 1;
                device.seen = self.seen.remove(&id).unwrap_or_default();
                self.devices.insert(id.clone(), device);
                Ok((id, heard))
            }
        }
    }

    /// A device.
    #[must_use]
    pub fn get(&self, id: &DeviceId) -> Option<&Device> {
        self.devices.get(id)
    }

    /// A device, to note what operators have asked of it.
    pub fn get_mut(&mut self, id: &DeviceId) -> Option<&mut Device> {
        self.changes += 1;
        self.devices.get_mut(id)
    }

    /// Notes that somebody has seen an alarm of a device, which may not have been heard of yet.
    pub fn acknowledge(&mut self, id: &DeviceId, alarm: &str, seen: Seen) {
        self.changes += 1;
        let of_device = match self.devices.get_mut(id) {
            Some(device) => &mut device.seen,
            None => self.seen.entry(id.clone()).or_default(),
        };
        of_device.insert(alarm.to_owned(), seen);
    }

    /// Forgets a device, whose retained messages somebody else has cleared.
    pub fn retire(&mut self, id: &DeviceId) {
        self.changes += 1;
        self.devices.remove(id);
    }

    /// All devices by name.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceId, &Device)> {
        self.devices.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether none was heard of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Grows with every change.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }
}

#[cfg(test)]
mod tests;
