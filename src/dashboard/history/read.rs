//! Reads curves and lists, beside the writer.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::bucket::{self, Bucket};
use super::cache::Horizon;
use super::level::{Level, floor};
use super::{
    Acknowledgment, Curve, DAY_MS, Day, Deed, EventQuery, FINE_MS, HOUR_MS, Happening,
    HistoryError, MAX_AT, Point,
};

/// The most points of a curve.
const MAX_POINTS: usize = 4096;
/// The most rows of a list.
const MAX_ROWS: usize = 10_000;

/// A connection that only reads; each call sees all of a batch or nothing of it.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// A device's numbers over `from_ms..to_ms` (milliseconds since 1970): those of `names` in that
    /// order, all in the order of their names if that is empty. Those without a point are left out.
    ///
    /// Every part of the range has the finest resolution that is kept of it. With more than
    /// `max_points` (at most 4,096), neighbors are merged. A bucket belongs to the range if a part
    /// of it does.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn curves(
        &self,
        device: &str,
        from_ms: i64,
        to_ms: i64,
        names: &[&str],
        max_points: usize,
    ) -> Result<Vec<Curve>, HistoryError> {
        let snapshot = self.connection.unchecked_transaction()?;
        let Some(device) = device_id(&snapshot, device)? else { return Ok(Vec::new()) };
        let (from_ms, to_ms) = (from_ms.max(0), to_ms.min(MAX_AT + 1));
        let step_ms = step_ms(from_ms, to_ms, max_points);
        let mut curves = Curves::new(&snapshot, names)?;
        for (level, from, to) in parts(&snapshot, device, from_ms, to_ms, step_ms)? {
            level.scan(&snapshot, device, from, to, |at, bytes| {
                // A bucket may begin before the range.
                let cell = (at - from_ms).max(0) / step_ms;
                bucket::decode(bytes).try_for_each(|number| {
                    let (name, bucket) = number?;
                    curves.add(name, cell, at, &bucket);
                    Ok(())
                })
            })?;
        }
        Ok(curves.finish())
    }

    /// The events that the query asks for, the newest first.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn events(&self, query: &EventQuery) -> Result<Vec<Happening>, HistoryError> {
        let EventQuery { device, kinds, from_ms, to_ms, limit } = query;
        let whose = match device {
            Some(_) => "device = (SELECT id FROM device WHERE name = ?1)",
            None => "?1 IS NULL",
        };
        let kinds = serde_json::to_string(kinds).unwrap_or_default();
        let mut select = self.connection.prepare(&format!(
            "SELECT name, at, event.id, event, severity, sentence, detail \
             FROM event CROSS JOIN device ON device.id = device AND name IS NOT NULL \
             WHERE {whose} AND at >= ?2 AND at < ?3 \
             AND (?4 = '[]' OR event IN (SELECT value FROM json_each(?4))) \
             ORDER BY at DESC, number DESC LIMIT ?5"
        ))?;
        let values = params![device, from_ms, to_ms, kinds, rows(*limit)];
        let rows = select.query_map(values, |row| {
            Ok(Happening {
                device: row.get(0)?,
                at_ms: row.get(1)?,
                id: row.get(2)?,
                event: row.get(3)?,
                severity: row.get(4)?,
                sentence: row.get(5)?,
                detail: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How a device spent the days that `from_ms..to_ms` (milliseconds since 1970) touches, the
    /// oldest first.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn days(&self, device: &str, from_ms: i64, to_ms: i64) -> Result<Vec<Day>, HistoryError> {
        let mut select = self.connection.prepare(
            "SELECT at, state, reason, ms FROM spent \
             WHERE device = (SELECT id FROM device WHERE name = ?1) AND at > ?2 AND at < ?3 \
             ORDER BY at, ms DESC, state, reason",
        )?;
        let rows =
            select.query_map(params![device, from_ms.saturating_sub(DAY_MS), to_ms], |row| {
                let (day_ms, state, reason) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(Day { day_ms, state, reason, ms: row.get::<_, i64>(3)?.max(0).unsigned_abs() })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The first day of which something is known of a device's numbers or states: its start (UTC),
    /// in milliseconds since 1970.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn first_day(&self, device: &str) -> Result<Option<i64>, HistoryError> {
        let snapshot = self.connection.unchecked_transaction()?;
        let Some(device) = device_id(&snapshot, device)? else { return Ok(None) };
        let mut oldest: Option<i64> = None;
        for table in ["raw", "fine", "coarse", "spent"] {
            let first: Option<i64> = snapshot
                .prepare(&format!("SELECT min(at) FROM {table} WHERE device = ?1"))?
                .query_row([device], |row| row.get(0))?;
            oldest = oldest.into_iter().chain(first).min();
        }
        Ok(oldest.map(|at| floor(at, DAY_MS)))
    }

    /// The audit log, the newest first, each entry with its number: at most `limit` (and 10,000) entries,
    /// with `before` only those with a smaller number.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn deeds(
        &self,
        limit: usize,
        before: Option<i64>,
    ) -> Result<Vec<(i64, Deed)>, HistoryError> {
        let mut select = self.connection.prepare(
            "SELECT at, who, what, target, outcome, number FROM deed WHERE number < ?1 \
             ORDER BY number DESC LIMIT ?2",
        )?;
        let deeds = select.query_map([before.unwrap_or(i64::MAX), rows(limit)], |row| {
            let (at_ms, who, what) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let deed = Deed { at_ms, who, what, target: row.get(3)?, outcome: row.get(4)? };
            Ok((row.get(5)?, deed))
        })?;
        Ok(deeds.collect::<Result<_, _>>()?)
    }
}

impl Reader {
    /// The newest roll-outs as JSON, the newest first: at most `limit` (and 10,000).
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn rollouts(&self, limit: usize) -> Result<Vec<String>, HistoryError> {
        let mut select =
            self.connection.prepare("SELECT json FROM rollout ORDER BY id DESC LIMIT ?1")?;
        let rollouts = select.query_map([rows(limit)], |row| row.get(0))?;
        Ok(rollouts.collect::<Result<_, _>>()?)
    }

    /// Every alarm that somebody has seen.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn acknowledgments(&self) -> Result<Vec<Acknowledgment>, HistoryError> {
        let mut select =
            self.connection.prepare("SELECT device, alarm, at, who FROM acknowledged")?;
        let seen = select.query_map([], |row| {
            let (device, alarm, at_ms) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Acknowledgment { device, alarm, at_ms, who: row.get(3)? })
        })?;
        Ok(seen.collect::<Result<_, _>>()?)
    }
}

/// Curves in the making.
struct Curves {
    names: Vec<String>,
    /// Which of `names` the ids mean.
    places: HashMap<u16, usize>,
    /// For each name the cells that have something: which, since when, and what.
    cells: Vec<Vec<(i64, i64, Bucket)>>,
}

impl Curves {
    fn new(connection: &Connection, wanted: &[&str]) -> Result<Self, HistoryError> {
        let mut select = connection.prepare("SELECT name, id FROM name ORDER BY name")?;
        let known: Vec<(String, u16)> = select
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let place = |name: &str, id: u16| match wanted {
            [] => Some(id.into()),
            _ => wanted.iter().position(|wanted| *wanted == name),
        };
        let mut found: Vec<_> = known
            .into_iter()
            .filter_map(|(name, id)| place(&name, id).map(|place| (place, name, id)))
            .collect();
        if !wanted.is_empty() {
            found.sort();
        }
        let places = found.iter().enumerate().map(|(place, (_, _, id))| (*id, place)).collect();
        let cells = vec![Vec::new(); found.len()];
        Ok(Self { names: found.into_iter().map(|(_, name, _)| name).collect(), places, cells })
    }

    /// Adds what came after all that was added before.
    fn add(&mut self, name: u16, cell: i64, at: i64, bucket: &Bucket) {
        let Some(cells) = self.places.get(&name).and_then(|place| self.cells.get_mut(*place))
        else {
            return;
        };
        match cells.last_mut() {
            Some((open, _, all)) if *open == cell => all.append(bucket),
            _ => cells.push((cell, at, *bucket)),
        }
    }

    fn finish(self) -> Vec<Curve> {
        let point = |(_, at_ms, bucket): (i64, i64, Bucket)| {
            let Bucket { mean, min, max, last, .. } = bucket;
            Point { at_ms, mean, min, max, last }
        };
        let filled = self.names.into_iter().zip(self.cells).filter(|(_, cells)| !cells.is_empty());
        filled
            .map(|(name, cells)| Curve { name, points: cells.into_iter().map(point).collect() })
            .collect()
    }
}

/// From which resolution to read which part of a range. Where points will be merged anyhow, a
/// coarser one does, as far as its buckets are made.
fn parts(
    connection: &Connection,
    device: i64,
    from: i64,
    to: i64,
    step_ms: i64,
) -> Result<[(Level, i64, i64); 3], HistoryError> {
    let horizon = Horizon::load(connection)?;
    let stale: Option<i64> = connection
        .prepare("SELECT min(at) FROM stale WHERE device = ?1")?
        .query_row([device], |row| row.get(0))?;
    let made = stale.unwrap_or(i64::MAX);
    let raw = if step_ms >= FINE_MS { made } else { horizon.raw.min(made) };
    let fine = if step_ms >= HOUR_MS { raw } else { horizon.fine.min(raw) };
    let overlapping = |level: Level| from - (level.width_ms() - 1);
    Ok([
        (Level::Coarse, overlapping(Level::Coarse), to.min(fine)),
        (Level::Fine, overlapping(Level::Fine).max(fine), to.min(raw)),
        (Level::Raw, from.max(raw), to),
    ])
}

fn step_ms(from_ms: i64, to_ms: i64, max_points: usize) -> i64 {
    let points = max_points.clamp(1, MAX_POINTS) as u64;
    let range = to_ms.saturating_sub(from_ms).max(0).unsigned_abs();
    range.div_ceil(points).max(1).cast_signed()
}

fn device_id(connection: &Connection, device: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare("SELECT id FROM device WHERE name = ?1")?
        .query_row([device], |row| row.get(0))
        .optional()
}

/// A limit of rows, for SQLite.
fn rows(limit: usize) -> i64 {
    limit.min(MAX_ROWS) as i64
}
