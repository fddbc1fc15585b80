//! Times of the week in which training is allowed, in local time.
//!
//! A window is open while the clock on the wall shows a time in it: an hour that a change of
//! daylight saving time skips is never open, one that it repeats is open twice.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::{Span, Timestamp, ToSpan, Zoned};

/// A time window that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the time window {text:?} can't be used: {why}; write it as \"Mon-Fri 22:00-06:00\"")]
pub struct WindowError {
    /// Its beginning.
    text: String,
    /// What is wrong with it.
    why: &'static str,
}

const MINUTES_PER_DAY: u16 = 24 * 60;

/// One window: the days on which it begins, and the minutes of the day at which it begins and ends.
/// One that ends no later than it begins ends on the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// By weekday, Monday first.
    days: [bool; 7],
    /// 0 to 1439.
    start: u16,
    /// Behind `start`, by up to a whole day.
    end: u16,
}

impl Window {
    /// Whether the clock on the wall shows a time in it.
    fn is_open_at(&self, at: &Zoned) -> bool {
        let minute =
            u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs());
        let today = day_index(at.weekday());
        let yesterday = (today + 6) % 7;
        (self.days[today] && (self.start..self.end).contains(&minute))
            || (self.days[yesterday]
                && (self.start..self.end).contains(&(minute + MINUTES_PER_DAY)))
    }
}

fn day_index(day: Weekday) -> usize {
    usize::from(day.to_monday_zero_offset().unsigned_abs())
}

/// Whether any of `windows` is open at `at`; without windows it always is.
#[must_use]
pub fn are_open(windows: &[Window], at: &Zoned) -> bool {
    windows.is_empty() || windows.iter().any(|window| window.is_open_at(at))
}

/// How long after `at` the next of `windows` opens; none if none does within eight days (which takes
/// a clock at the end of time, or a window that daylight saving time skips).
#[must_use]
pub fn opens_in(windows: &[Window], at: &Zoned) -> Option<Duration> {
    let zone = at.time_zone();
    let last = at.checked_add(Span::new().days(8)).ok()?.timestamp();
    // Windows begin where the clock shows their start, or where it jumps into them.
    let jumps = zone
        .following(at.timestamp())
        .map(|jump| jump.timestamp())
        .take_while(|&jump| jump <= last);
    let starts = windows.iter().flat_map(|window| {
        (0..=8).flat_map(move |days: i64| {
            let day = at.date().checked_add(days.days()).ok();
            let start = day.map(|day| {
                day.to_datetime(Time::midnight()).saturating_add(i64::from(window.start).minutes())
            });
            let ambiguous = start.map(|start| zone.to_ambiguous_zoned(start));
            let both = ambiguous.map(|zoned| [zoned.clone().earlier(), zoned.later()]);
            both.into_iter().flatten().flatten().map(|zoned| zoned.timestamp())
        })
    });
    let next: Timestamp = jumps
        .chain(starts)
        .filter(|&candidate| {
            candidate > at.timestamp() && are_open(windows, &candidate.to_zoned(zone.clone()))
        })
        .min()?;
    Duration::try_from(next.duration_since(at.timestamp())).ok()
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = |why: &'static str| WindowError { text: shortened(text), why };
        let (days, times) = match text.trim().rsplit_once(char::is_whitespace) {
            Some((days, times)) => {
                (parse_days(days.trim()).ok_or_else(|| wrong(WRONG_DAYS))?, times)
            }
            None => ([true; 7], text.trim()),
        };
        let (start, end) = times
            .split_once('-')
            .and_then(|(start, end)| Some((parse_minute(start)?, parse_minute(end)?)))
            .filter(|&(start, _)| start < MINUTES_PER_DAY)
            .ok_or_else(|| wrong(WRONG_TIMES))?;
        if start == end {
            return Err(wrong("it begins and ends at the same time; a whole day is 00:00-24:00"));
        }
        let end = if end < start { end + MINUTES_PER_DAY } else { end };
        Ok(Self { days, start, end })
    }
}

const WRONG_TIMES: &str = "the times are not written as 22:00-06:00";
const WRONG_DAYS: &str = "the days are not written as Sat, Mon-Fri or Sat,Sun";

/// The beginning of what was written, for an error message.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon,Wed` as days, Monday first.
fn parse_days(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (parse_day(first)?, parse_day(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Some(days)
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn parse_day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim()))
}

/// `6:30` or `24:00` as a minute of the day, 0 to 1440.
fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |text: &str, most| {
        let plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|&value| plain && value <= most)
    };
    let minute = digits(hour, 24)? * 60 + digits(minute, 59).filter(|_| minute.len() == 2)?;
    (minute <= MINUTES_PER_DAY).then_some(minute)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let days = DAYS.iter().zip(self.days).filter(|(_, open)| *open).map(|(day, _)| *day);
            write!(f, "{} ", days.collect::<Vec<_>>().join(","))?;
        }
        let end = if self.end > MINUTES_PER_DAY { self.end - MINUTES_PER_DAY } else { self.end };
        let (start, end) = (self.start, end);
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
    }
}

#[cfg(test)]
mod tests;
