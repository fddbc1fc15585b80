//! Makes buckets of finished hours, and purges what is too old or too much: in slices that each
//! take milliseconds, so that writing goes on in between.

use rusqlite::{Connection, OptionalExtension, params};

use super::bucket::{self, Numbers};
use super::cache::{Cache, Horizon};
use super::file::number;
use super::level::{Level, floor};
use super::{DAY_MS, FINE_MS, HOUR_MS, History, HistoryError, Limits, Upkeep};

/// Messages may be so late, in milliseconds, before an hour counts as over.
const GRACE_MS: i64 = 60 * 1000;
/// How many hours of devices, and about how many messages, a slice makes buckets of.
const SLICE_HOURS: usize = 100;
const SLICE_MESSAGES: u64 = 20_000;
/// How many devices a slice purges, and how many rows.
const SLICE_DEVICES: usize = 250;
const SLICE_ROWS: u64 = 5_000;
/// How many pages a slice gives back to the file system.
const SLICE_PAGES: i64 = 1024;
/// Over the size limit, everything loses this part of the time that it has.
const SHRINK: i64 = 32;

impl History {
    /// Does a slice of what is due: makes buckets of hours that are over, purges what is too old,
    /// or the oldest of everything while the file is too large, and gives free space back. Call it
    /// every minute, and again at once (after what waits to be written) while there is more.
    ///
    /// `now_ms` is in milliseconds since 1970. What lies more than a day behind it, as a device's
    /// wrong clock may say, is purged too.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn maintain(&mut self, now_ms: i64) -> Result<Upkeep, HistoryError> {
        let limits = self.limits;
        let mut purging = self.purging;
        let mut upkeep = self.transaction(|connection, cache| {
            let slice = Slice { connection, limits: &limits, now: now_ms };
            slice.run(cache, &mut purging)
        })?;
        self.purging = purging;
        upkeep.more |= self.vacuum()?;
        let page = u64::from(number(&self.connection, "page_size")?.unsigned_abs());
        let pages = |pragma| number(&self.connection, pragma).map(|n| u64::from(n.unsigned_abs()));
        upkeep.file_bytes = pages("page_count")? * page;
        upkeep.used_bytes = upkeep.file_bytes.saturating_sub(pages("freelist_count")? * page);
        Ok(upkeep)
    }

    /// Gives free space back where that is worth the writing. Returns whether there is more.
    fn vacuum(&self) -> Result<bool, HistoryError> {
        let is_due = || {
            let free = i64::from(number(&self.connection, "freelist_count")?);
            let all = i64::from(number(&self.connection, "page_count")?);
            let page = i64::from(number(&self.connection, "page_size")?);
            let is_large = (all * page).unsigned_abs() > self.limits.max_bytes;
            Ok::<_, HistoryError>(free > 256 && (free > all / 4 || is_large))
        };
        if !is_due()? {
            return Ok(false);
        }
        // Yields a row for each page, so it must be stepped through.
        let mut vacuum =
            self.connection.prepare(&format!("PRAGMA incremental_vacuum({SLICE_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        is_due()
    }
}

struct Slice<'a> {
    connection: &'a Connection,
    limits: &'a Limits,
    now: i64,
}

impl Slice<'_> {
    fn run(&self, cache: &mut Cache, purging: &mut Option<i64>) -> Result<Upkeep, HistoryError> {
        let mut upkeep = Upkeep { more: true, ..Upkeep::default() };
        let has_more = self.roll_up(cache, &mut upkeep)?;
        // No horizon may pass an hour without buckets.
        if has_more {
            return Ok(upkeep);
        }
        let before = cache.horizon;
        self.age(&mut cache.horizon);
        if purging.is_none() && self.is_over_size()? {
            self.shrink(&mut cache.horizon)?;
        }
        if cache.horizon != before {
            cache.horizon.store(self.connection)?;
            self.connection
                .execute("DELETE FROM stale WHERE at > ?1", [self.now.saturating_add(DAY_MS)])?;
            cache.filled.retain(|(_, hour), _| *hour <= self.now.saturating_add(DAY_MS));
            *purging = Some(0);
        }
        if let Some(device) = *purging {
            *purging = self.purge(&cache.horizon, device, &mut upkeep.rows)?;
        }
        upkeep.more = purging.is_some() || (upkeep.rows > 0 && self.is_over_size()?);
        Ok(upkeep)
    }

    /// Hours that begin before this are over.
    fn settled(&self) -> i64 {
        floor(self.now.saturating_sub(GRACE_MS), HOUR_MS)
    }

    /// Makes the buckets of some stale hours. Returns whether there are more.
    fn roll_up(&self, cache: &mut Cache, upkeep: &mut Upkeep) -> Result<bool, HistoryError> {
        let stale: Vec<(i64, i64)> = self
            .connection
            .prepare("SELECT device, at FROM stale WHERE at < ?1 LIMIT ?2")?
            .query_map(params![self.settled(), SLICE_HOURS as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut messages = 0;
        for (device, hour) in &stale {
            messages += self.roll_up_hour(*device, *hour)?;
            self.connection
                .prepare("DELETE FROM stale WHERE device = ?1 AND at = ?2")?
                .execute([device, hour])?;
            cache.filled.remove(&(*device, *hour));
            upkeep.hours += 1;
            if messages >= SLICE_MESSAGES {
                return Ok(true);
            }
        }
        Ok(stale.len() == SLICE_HOURS)
    }

    /// Makes the buckets of an hour. Returns how many messages it has.
    fn roll_up_hour(&self, device: i64, hour: i64) -> Result<u64, HistoryError> {
        let mut coarse = Numbers::new();
        let mut fine: Option<(i64, Numbers)> = None;
        let mut messages = 0;
        Level::Raw.scan(self.connection, device, hour, hour + HOUR_MS, |at, bytes| {
            messages += 1;
            let start = floor(at, FINE_MS);
            if let Some((start, row)) = fine.take_if(|(open, _)| *open != start) {
                Level::Fine.put(self.connection, device, start, &row)?;
            }
            let (_, row) = fine.get_or_insert_with(|| (start, Numbers::new()));
            for number in bucket::decode(bytes) {
                let (name, value) = number?;
                bucket::append(row, name, &value);
                bucket::append(&mut coarse, name, &value);
            }
            Ok(())
        })?;
        if let Some((start, row)) = fine {
            Level::Fine.put(self.connection, device, start, &row)?;
            Level::Coarse.put(self.connection, device, hour, &coarse)?;
        }
        Ok(messages)
    }

    /// Moves the horizons with time.
    fn age(&self, horizon: &mut Horizon) {
        let Limits { raw_ms, fine_ms, coarse_ms, events_ms, .. } = *self.limits;
        for (horizon, kept) in [
            (&mut horizon.raw, raw_ms),
            (&mut horizon.fine, fine_ms),
            (&mut horizon.coarse, coarse_ms),
            (&mut horizon.event, events_ms),
        ] {
            let target = floor(self.now.saturating_sub(kept.max(0)), HOUR_MS).min(self.settled());
            // One that lies ahead comes from a clock that was wrong.
            *horizon = if *horizon > self.now.saturating_add(DAY_MS) {
                target
            } else {
                target.max(*horizon)
            };
        }
    }

    fn is_over_size(&self) -> Result<bool, HistoryError> {
        let number = |pragma| number(self.connection, pragma).map(i64::from);
        let pages = number("page_count")? - number("freelist_count")?;
        Ok((pages * number("page_size")?).unsigned_abs() > self.limits.max_bytes)
    }

    /// Takes a part of the time that they have from all resolutions and the events.
    fn shrink(&self, horizon: &mut Horizon) -> Result<(), HistoryError> {
        for (table, horizon) in [
            ("raw", &mut horizon.raw),
            ("fine", &mut horizon.fine),
            ("coarse", &mut horizon.coarse),
            ("event", &mut horizon.event),
        ] {
            let oldest: Option<i64> = self
                .connection
                .prepare(&format!(
                    "SELECT min((SELECT at FROM {table} WHERE device = device.id \
                     ORDER BY at LIMIT 1)) FROM device"
                ))?
                .query_row([], |row| row.get(0))?;
            if let Some(oldest) = oldest.filter(|oldest| *oldest < self.settled()) {
                let part = ((self.settled() - oldest) / SHRINK).max(HOUR_MS);
                let target = floor(oldest.saturating_add(part), HOUR_MS).min(self.settled());
                *horizon = target.max(*horizon);
            }
        }
        Ok(())
    }

    /// Deletes some rows, beginning behind a device. Returns behind which to go on.
    fn purge(
        &self,
        horizon: &Horizon,
        mut device: i64,
        rows: &mut u64,
    ) -> Result<Option<i64>, HistoryError> {
        for _ in 0..SLICE_DEVICES {
            let next: Option<(i64, bool)> = self
                .connection
                .prepare("SELECT id, name IS NULL FROM device WHERE id > ?1 ORDER BY id LIMIT 1")?
                .query_row([device], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((next, is_retired)) = next else {
                return self.purge_deeds(device, rows);
            };
            for (table, horizon) in [
                ("raw", horizon.raw),
                ("fine", horizon.fine),
                ("coarse", horizon.coarse),
                ("spent", floor(horizon.coarse, DAY_MS)),
                ("event", horizon.event),
            ] {
                let before = if is_retired { i64::MAX } else { horizon };
                *rows += self.prune(table, next, before, SLICE_ROWS.saturating_sub(*rows))?;
                if *rows >= SLICE_ROWS {
                    return Ok(Some(device));
                }
            }
            if is_retired {
                self.connection.execute("DELETE FROM device WHERE id = ?1", [next])?;
            }
            device = next;
        }
        Ok(Some(device))
    }

    /// Deletes rows of a device that are older than a time, or of the future: at most `limit`, and
    /// those of the same time as the last of them. Returns how many.
    fn prune(
        &self,
        table: &str,
        device: i64,
        before: i64,
        limit: u64,
    ) -> Result<u64, HistoryError> {
        let limit = limit.cast_signed();
        let old = self
            .connection
            .prepare(&format!(
                "DELETE FROM {table} WHERE device = ?1 AND at <= (SELECT max(at) FROM \
                 (SELECT at FROM {table} WHERE device = ?1 AND at < ?2 ORDER BY at LIMIT ?3))"
            ))?
            .execute([device, before, limit])?;
        let future = self
            .connection
            .prepare(&format!(
                "DELETE FROM {table} WHERE device = ?1 AND at >= (SELECT min(at) FROM \
                 (SELECT at FROM {table} WHERE device = ?1 AND at > ?2 ORDER BY at DESC LIMIT ?3))"
            ))?
            .execute([device, self.now.saturating_add(DAY_MS), limit])?;
        Ok((old + future) as u64)
    }

    /// Ends a purge with the audit log. Returns `device` if that has more than fits into the slice.
    fn purge_deeds(&self, device: i64, rows: &mut u64) -> Result<Option<i64>, HistoryError> {
        let before = self.now.saturating_sub(self.limits.deeds_ms.max(0));
        let limit = SLICE_ROWS.saturating_sub(*rows).cast_signed();
        *rows += self
            .connection
            .prepare(
                "DELETE FROM deed WHERE number IN \
                 (SELECT number FROM deed WHERE at < ?1 ORDER BY at LIMIT ?2)",
            )?
            .execute([before, limit])? as u64;
        Ok((*rows >= SLICE_ROWS).then_some(device))
    }
}
