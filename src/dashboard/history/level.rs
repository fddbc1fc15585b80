//! The three resolutions, and single rows of them.

use rusqlite::{Connection, OptionalExtension, params};

use super::bucket::{self, Numbers};
use super::{FINE_MS, HOUR_MS, HistoryError};

/// A resolution, with a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Single messages.
    Raw,
    /// Buckets of 5 minutes.
    Fine,
    /// Hourly buckets.
    Coarse,
}

impl Level {
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Fine => "fine",
            Self::Coarse => "coarse",
        }
    }

    /// How long a row is, in milliseconds.
    pub(super) fn width_ms(self) -> i64 {
        match self {
            Self::Raw => 1,
            Self::Fine => FINE_MS,
            Self::Coarse => HOUR_MS,
        }
    }

    /// The row of a time, to which it must be rounded down; empty if there is none.
    pub(super) fn get(
        self,
        connection: &Connection,
        device: i64,
        at: i64,
    ) -> Result<Numbers, HistoryError> {
        let table = self.table();
        let bytes: Option<Vec<u8>> = connection
            .prepare(&format!("SELECT numbers FROM {table} WHERE device = ?1 AND at = ?2"))?
            .query_row([device, at], |row| row.get(0))
            .optional()?;
        bucket::decode(&bytes.unwrap_or_default()).collect()
    }

    /// Writes a row, over the one that is there.
    pub(super) fn put(
        self,
        connection: &Connection,
        device: i64,
        at: i64,
        numbers: &Numbers,
    ) -> Result<(), HistoryError> {
        let table = self.table();
        connection
            .prepare(&format!(
                "INSERT INTO {table} (device, at, numbers) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET numbers = excluded.numbers"
            ))?
            .execute(params![device, at, bucket::encode(numbers, self == Self::Raw)])?;
        Ok(())
    }

    /// Hands the rows in `from..to` to `each`, in the order of time.
    pub(super) fn scan(
        self,
        connection: &Connection,
        device: i64,
        from: i64,
        to: i64,
        mut each: impl FnMut(i64, &[u8]) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let table = self.table();
        let mut query = connection.prepare(&format!(
            "SELECT at, numbers FROM {table} WHERE device = ?1 AND at >= ?2 AND at < ?3 ORDER BY at"
        ))?;
        let mut rows = query.query([device, from, to])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            each(row.get(0)?, bytes)?;
        }
        Ok(())
    }
}

/// The time rounded down to a multiple of `width`.
pub(super) fn floor(at: i64, width: i64) -> i64 {
    at.saturating_sub(at.rem_euclid(width))
}
