//! What the writer remembers of the database, so that it need not ask for it with every message.

use std::collections::HashMap;

use rusqlite::Connection;

use super::HistoryError;

/// More names would come from a hostile device only.
pub(super) const MAX_NAMES: usize = 512;
/// The longest name of a number, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;
/// The longest `fleet/device`, in bytes.
const MAX_DEVICE_BYTES: usize = 129;

/// Where each resolution begins, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Horizon {
    pub(super) raw: i64,
    pub(super) fine: i64,
    pub(super) coarse: i64,
    pub(super) event: i64,
}

impl Horizon {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        connection.prepare("SELECT raw, fine, coarse, event FROM horizon")?.query_row([], |row| {
            let (raw, fine, coarse) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Self { raw, fine, coarse, event: row.get(3)? })
        })
    }

    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare("UPDATE horizon SET raw = ?1, fine = ?2, coarse = ?3, event = ?4")?
            .execute([self.raw, self.fine, self.coarse, self.event])?;
        Ok(())
    }
}

/// The database's small tables. To be forgotten when a transaction fails.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) horizon: Horizon,
    pub(super) devices: HashMap<String, i64>,
    names: HashMap<String, u16>,
    /// How many messages the stale hours of devices have.
    pub(super) filled: HashMap<(i64, i64), u32>,
}

impl Cache {
    pub(super) fn load(connection: &Connection) -> Result<Self, HistoryError> {
        let devices = connection
            .prepare("SELECT name, id FROM device WHERE name IS NOT NULL")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let names = connection
            .prepare("SELECT name, id FROM name")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let horizon = Horizon::load(connection)?;
        Ok(Self { horizon, devices, names, filled: HashMap::new() })
    }

    /// The number of a device, which gets one if it has none; `None` for one too many.
    pub(super) fn device(
        &mut self,
        connection: &Connection,
        device: &str,
        max_devices: usize,
    ) -> Result<Option<i64>, HistoryError> {
        if let Some(id) = self.devices.get(device) {
            return Ok(Some(*id));
        }
        let fits = (1..=MAX_DEVICE_BYTES).contains(&device.len());
        if !fits || self.devices.len() >= max_devices {
            return Ok(None);
        }
        connection.execute("INSERT INTO device (name) VALUES (?1)", [device])?;
        let id = connection.last_insert_rowid();
        self.devices.insert(device.to_owned(), id);
        Ok(Some(id))
    }

    /// The number of a name, which gets one if it has none; `None` for one too many.
    pub(super) fn name(
        &mut self,
        connection: &Connection,
        name: &str,
    ) -> Result<Option<u16>, HistoryError> {
        if let Some(id) = self.names.get(name) {
            return Ok(Some(*id));
        }
        let id = self.names.len();
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || id >= MAX_NAMES {
            return Ok(None);
        }
        let id = id as u16;
        connection.execute("INSERT INTO name (id, name) VALUES (?1, ?2)", (id, name))?;
        self.names.insert(name.to_owned(), id);
        Ok(Some(id))
    }
}
