//! The fleet's history, one SQLite file: numbers over time, events, how days were spent, and an
//! audit log.
//!
//! ```text
//! message ─┬─ within 48 h ─► raw ── hour is over ──► fine (5 minutes), coarse (hour)
//!          └─ older ───────────────────────────────► fine, coarse
//! ```
//!
//! A row holds all numbers of a device's message, 5 minutes or hour, so that a curve is one range
//! of rows. An hour's buckets are made when it is over, from its messages, and made again if
//! another one comes: within the raw window, what comes late or twice changes nothing else. What
//! is older is added to its buckets, where it counts once more if it comes again.
//!
//! One writer, [`History`], for one thread; any number of [`Reader`]s, each for one thread.
//! Bounded, whatever devices send: what breaks a limit is left out and counted ([`Dropped`]).

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

mod bucket;
mod cache;
mod error;
mod file;
mod level;
mod read;
mod records;
mod upkeep;
mod write;

use cache::Cache;
use file::Place;

pub use error::HistoryError;
pub use read::Reader;
pub use records::{
    Acknowledgment, Batch, Curve, Day, Deed, Dropped, EventQuery, Happening, Limits, Point, Sample,
    Spent, Upkeep,
};

const FINE_MS: i64 = 5 * 60 * 1000;
const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The end of the year 9999, in milliseconds since 1970.
const MAX_AT: i64 = 253_402_300_799_999;

/// The open history, to write to.
#[derive(Debug)]
pub struct History {
    place: Place,
    limits: Limits,
    connection: Connection,
    /// Absent after a failed transaction: it may hold what was undone.
    cache: Option<Cache>,
    dropped: Dropped,
    /// The device at which the purge is; `None` when there is nothing to purge.
    purging: Option<i64>,
    set_aside: Option<PathBuf>,
}

impl History {
    /// Opens the history, or creates an empty one. A damaged one is moved aside with a warning,
    /// never deleted, and replaced by an empty one.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be used, belongs to another program, or was made by
    /// another version of latrod. It is unchanged then.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, HistoryError> {
        let place = Place::File(path.to_owned());
        match Self::at(place.clone(), limits) {
            Err(error) if error.is_corrupt() => Self::anew(place, limits, &error),
            result => result,
        }
    }

    /// A history in memory, which is gone with the last of its connections. Its readers and its
    /// writer wait for each other, while those of a file don't.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn in_memory(limits: Limits) -> Result<Self, HistoryError> {
        Self::at(Place::in_memory(), limits)
    }

    /// Moves this history aside and creates an empty one, after a call failed with an error that
    /// [`HistoryError::is_corrupt`]. Readers still read the old one: replace them too.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn replace(self, reason: &HistoryError) -> Result<Self, HistoryError> {
        let Self { place, limits, connection, .. } = self;
        drop(connection);
        match place {
            Place::File(_) => Self::anew(place, limits, reason),
            Place::Memory(_) => Self::in_memory(limits),
        }
    }

    /// A connection to read with, for another thread.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn reader(&self) -> Result<Reader, HistoryError> {
        Ok(Reader::new(self.place.read()?))
    }

    /// Where a damaged history was moved to when this one was opened.
    #[must_use]
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// What was left out since the history was opened.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Writes all of the batch or, after an error, nothing of it; durable once this returns `Ok`.
    /// A batch that comes again changes nothing, except for its [`Spent`] and [`Deed`]s and for
    /// samples older than the raw window.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn write(&mut self, batch: &Batch) -> Result<(), HistoryError> {
        let limits = self.limits;
        let dropped =
            self.transaction(|connection, cache| write::write(connection, cache, &limits, batch))?;
        self.dropped += dropped;
        Ok(())
    }

    /// Forgets a retired device: at once for readers, its rows with the next [`Self::maintain`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn forget(&mut self, device: &str) -> Result<(), HistoryError> {
        self.transaction(|connection, cache| {
            if let Some(id) = cache.devices.remove(device) {
                connection.execute("UPDATE device SET name = NULL WHERE id = ?1", [id])?;
                connection.execute("DELETE FROM stale WHERE device = ?1", [id])?;
                cache.filled.retain(|(device, _), _| *device != id);
            }
            Ok(())
        })?;
        self.purging = Some(0);
        Ok(())
    }

    fn at(place: Place, limits: Limits) -> Result<Self, HistoryError> {
        let connection = place.write()?;
        let (dropped, set_aside) = (Dropped::default(), None);
        // From the first device: an earlier process may not have finished.
        let purging = Some(0);
        Ok(Self { place, limits, connection, cache: None, dropped, purging, set_aside })
    }

    fn anew(place: Place, limits: Limits, reason: &HistoryError) -> Result<Self, HistoryError> {
        let aside = place.move_aside()?;
        log::warn!("{reason}; it is now {}, and an empty one takes its place", aside.display());
        Ok(Self { set_aside: Some(aside), ..Self::at(place, limits)? })
    }

    /// Does all of `work` or nothing of it.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Connection, &mut Cache) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let mut cache = match self.cache.take() {
            Some(cache) => cache,
            None => Cache::load(&transaction)?,
        };
        let value = work(&transaction, &mut cache)?;
        transaction.commit()?;
        self.cache = Some(cache);
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
