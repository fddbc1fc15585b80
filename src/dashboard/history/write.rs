//! Writes a batch.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::bucket::{self, Bucket, Numbers};
use super::cache::Cache;
use super::level::{Level, floor};
use super::{
    Acknowledgment, Batch, DAY_MS, Deed, Dropped, HOUR_MS, Happening, HistoryError, Limits, MAX_AT,
    Sample, Spent,
};

/// The longest name of an event, a severity, a state or a reason that is kept, in bytes.
const MAX_WORD_BYTES: usize = 128;
/// The longest sentence that is kept, in bytes.
const MAX_SENTENCE_BYTES: usize = 1024;
/// The longest detail of an event, in bytes.
const MAX_DETAIL_BYTES: usize = 8 << 10;
/// How many reasons of a day are kept apart, how many states then, and how many rows there are.
const MAX_SPENT: [i64; 3] = [48, 63, 64];
/// Stands for the reasons and states that are not kept apart.
const OTHER: &str = "other";

/// Writes the batch, and returns what was left out.
pub(super) fn write(
    connection: &Connection,
    cache: &mut Cache,
    limits: &Limits,
    batch: &Batch,
) -> Result<Dropped, HistoryError> {
    let mut writer = Writer { connection, cache, limits, dropped: Dropped::default() };
    batch.samples.iter().try_for_each(|sample| writer.sample(sample))?;
    writer.happenings(&batch.happenings)?;
    batch.spent.iter().try_for_each(|spent| writer.spent(spent))?;
    batch.deeds.iter().try_for_each(|deed| writer.deed(deed))?;
    batch.acknowledgments.iter().try_for_each(|seen| acknowledge(connection, seen))?;
    for (id, json) in &batch.rollouts {
        connection.execute(
            "INSERT OR REPLACE INTO rollout (id, json) VALUES (?1, ?2)",
            params![id, json],
        )?;
    }
    Ok(writer.dropped)
}

fn acknowledge(connection: &Connection, seen: &Acknowledgment) -> Result<(), HistoryError> {
    let Acknowledgment { device, alarm, at_ms, who } = seen;
    connection.execute(
        "INSERT OR REPLACE INTO acknowledged (device, alarm, at, who) VALUES (?1, ?2, ?3, ?4)",
        params![device, alarm, at_ms, who],
    )?;
    Ok(())
}

struct Writer<'a> {
    connection: &'a Connection,
    cache: &'a mut Cache,
    limits: &'a Limits,
    dropped: Dropped,
}

impl Writer<'_> {
    fn sample(&mut self, sample: &Sample) -> Result<(), HistoryError> {
        let at = sample.at_ms;
        let Some(device) = self.device(&sample.device, at, self.cache.horizon.coarse)? else {
            self.dropped.samples += 1;
            return Ok(());
        };
        let numbers = self.numbers(&sample.numbers)?;
        if numbers.is_empty() {
            return Ok(());
        }
        if at < self.cache.horizon.raw {
            self.late(device, at, &numbers)
        } else if self.has_room(device, floor(at, HOUR_MS))? {
            self.raw(device, at, numbers)
        } else {
            self.dropped.samples += 1;
            Ok(())
        }
    }

    /// The numbers that are kept; of those with the same name, the last.
    fn numbers(&mut self, numbers: &[(String, f64)]) -> Result<Numbers, HistoryError> {
        let mut kept = Numbers::new();
        for (name, value) in numbers {
            match self.cache.name(self.connection, name)? {
                Some(id) if value.is_finite() => {
                    kept.insert(id, Bucket::of(*value));
                }
                _ => self.dropped.numbers += 1,
            }
        }
        Ok(kept)
    }

    /// Whether one more message of that hour is kept. If so, its buckets are to be made.
    fn has_room(&mut self, device: i64, hour: i64) -> Result<bool, HistoryError> {
        let filled = match self.cache.filled.get_mut(&(device, hour)) {
            Some(filled) => filled,
            None => {
                let filled = self
                    .connection
                    .prepare("SELECT count(*) FROM raw WHERE device = ?1 AND at >= ?2 AND at < ?3")?
                    .query_row([device, hour, hour + HOUR_MS], |row| row.get(0))?;
                self.connection
                    .prepare("INSERT OR IGNORE INTO stale (device, at) VALUES (?1, ?2)")?
                    .execute([device, hour])?;
                self.cache.filled.entry((device, hour)).or_insert(filled)
            }
        };
        let has_room = *filled < self.limits.max_samples_per_hour;
        *filled += u32::from(has_room);
        Ok(has_room)
    }

    /// Writes a message. One of the same time that is there is kept with it: a device can say
    /// several things within a millisecond.
    fn raw(&mut self, device: i64, at: i64, numbers: Numbers) -> Result<(), HistoryError> {
        let is_new = self
            .connection
            .prepare("INSERT OR IGNORE INTO raw (device, at, numbers) VALUES (?1, ?2, ?3)")?
            .execute(params![device, at, bucket::encode(&numbers, true)])?;
        if is_new == 0 {
            let mut row = Level::Raw.get(self.connection, device, at)?;
            row.extend(numbers);
            Level::Raw.put(self.connection, device, at, &row)?;
        }
        Ok(())
    }

    /// Adds a message that is older than the raw window to its buckets.
    fn late(&mut self, device: i64, at: i64, numbers: &Numbers) -> Result<(), HistoryError> {
        for level in [Level::Fine, Level::Coarse] {
            if level == Level::Fine && at < self.cache.horizon.fine {
                continue;
            }
            let at = floor(at, level.width_ms());
            let known = level.get(self.connection, device, at)?;
            let mut row = numbers.clone();
            // As if it had come first, so that `last` stays.
            known.iter().for_each(|(name, bucket)| bucket::append(&mut row, *name, bucket));
            level.put(self.connection, device, at, &row)?;
        }
        Ok(())
    }

    fn happenings(&mut self, happenings: &[Happening]) -> Result<(), HistoryError> {
        let mut devices = BTreeSet::new();
        for happening in happenings {
            let horizon = self.cache.horizon.event;
            let fits = (1..=MAX_WORD_BYTES).contains(&happening.id.len());
            match self.device(&happening.device, happening.at_ms, horizon)? {
                Some(device) if fits => {
                    self.happening(device, happening)?;
                    devices.insert(device);
                }
                _ => self.dropped.happenings += 1,
            }
        }
        // Its oldest, beyond the limit.
        let mut delete = self.connection.prepare(
            "DELETE FROM event WHERE number IN (SELECT number FROM event WHERE device = ?1 \
             ORDER BY at DESC, number DESC LIMIT -1 OFFSET ?2)",
        )?;
        for device in devices {
            delete.execute(params![device, self.limits.max_events_per_device])?;
        }
        Ok(())
    }

    fn happening(&self, device: i64, happening: &Happening) -> Result<(), HistoryError> {
        let Happening { at_ms, id, event, severity, sentence, detail, .. } = happening;
        let detail = if detail.len() <= MAX_DETAIL_BYTES { detail } else { "" };
        self.connection
            .prepare(
                "INSERT INTO event (device, at, id, event, severity, sentence, detail) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (device, id) DO NOTHING",
            )?
            .execute(params![
                device,
                at_ms,
                id,
                clip(event, MAX_WORD_BYTES),
                clip(severity, MAX_WORD_BYTES),
                clip(sentence, MAX_SENTENCE_BYTES),
                detail
            ])?;
        Ok(())
    }

    fn spent(&mut self, spent: &Spent) -> Result<(), HistoryError> {
        let Some(device) = self.device(&spent.device, spent.at_ms, self.cache.horizon.coarse)?
        else {
            self.dropped.spent += 1;
            return Ok(());
        };
        let day = floor(spent.at_ms, DAY_MS);
        let ms = i64::try_from(spent.ms).unwrap_or(DAY_MS).min(DAY_MS);
        let state = clip(&spent.state, MAX_WORD_BYTES);
        let reason = clip(&spent.reason, MAX_WORD_BYTES);
        let mut add = self.connection.prepare(
            "UPDATE spent SET ms = ms + ?5 \
             WHERE device = ?1 AND at = ?2 AND state = ?3 AND reason = ?4",
        )?;
        let mut insert = self.connection.prepare(
            "INSERT INTO spent (device, at, state, reason, ms) SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?6 > \
             (SELECT count(*) FROM spent WHERE device = ?1 AND at = ?2)",
        )?;
        let rows = [(state, reason), (state, OTHER), (OTHER, OTHER)];
        for ((state, reason), max) in rows.into_iter().zip(MAX_SPENT) {
            if add.execute(params![device, day, state, reason, ms])? > 0
                || insert.execute(params![device, day, state, reason, ms, max])? > 0
            {
                break;
            }
        }
        Ok(())
    }

    fn deed(&self, deed: &Deed) -> Result<(), HistoryError> {
        let Deed { at_ms, who, what, target, outcome } = deed;
        let [who, what, target, outcome] =
            [who, what, target, outcome].map(|text| clip(text, MAX_SENTENCE_BYTES));
        self.connection
            .prepare(
                "INSERT INTO deed (at, who, what, target, outcome) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![at_ms, who, what, target, outcome])?;
        Ok(())
    }

    /// The number of a device, of which something is to be kept that happened then; `None` if
    /// that cannot be.
    fn device(&mut self, name: &str, at: i64, horizon: i64) -> Result<Option<i64>, HistoryError> {
        if !(0..=MAX_AT).contains(&at) || at < horizon {
            return Ok(None);
        }
        self.cache.device(self.connection, name, self.limits.max_devices)
    }
}

/// The beginning of a text.
fn clip(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}
