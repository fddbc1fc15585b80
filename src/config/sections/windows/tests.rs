use super::*;

use jiff::tz::TimeZone;
use proptest::prelude::*;

fn windows(texts: &[&str]) -> Vec<Window> {
    texts.iter().map(|text| text.parse().expect("a window")).collect()
}

/// A moment in Berlin, where clocks go forward on 29 March 2026 at 02:00 and back on 25 October at
/// 03:00. Written out in full, so that no test needs a time zone database.
fn berlin(text: &str) -> Zoned {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
    text.parse::<jiff::civil::DateTime>().expect("a time").to_zoned(zone).expect("a moment")
}

fn open(texts: &[&str], at: &str) -> bool {
    are_open(&windows(texts), &berlin(at))
}

#[test]
fn without_windows_it_is_always_open() {
    assert!(open(&[], "2026-06-01T12:00"));
}

#[test]
fn a_night_goes_on_after_midnight() {
    let night = ["22:00-06:00"];
    assert!(!open(&night, "2026-06-01T21:59"));
    assert!(open(&night, "2026-06-01T22:00"));
    assert!(open(&night, "2026-06-02T00:00"));
    assert!(open(&night, "2026-06-02T05:59"));
    assert!(!open(&night, "2026-06-02T06:00"));
}

#[test]
fn days_are_those_on_which_a_window_begins() {
    // 5 June 2026 is a Friday.
    let weekdays = ["Mon-Fri 22:00-06:00", "sat,Sun 00:00-24:00"];
    assert!(open(&weekdays, "2026-06-06T05:00"), "Friday's night");
    assert!(open(&weekdays, "2026-06-06T06:00"), "Saturday");
    assert!(open(&weekdays, "2026-06-07T23:59"), "Sunday");
    assert!(!open(&weekdays, "2026-06-08T00:00"), "Sunday's window ends at midnight");
    assert!(!open(&weekdays, "2026-06-08T21:59"), "Monday");
    assert!(open(&["Fri-Mon 12:00-13:00"], "2026-06-07T12:30"), "days go round the week");
    assert!(!open(&["Fri-Mon 12:00-13:00"], "2026-06-09T12:30"));
}

fn opens_after(texts: &[&str], at: &str) -> Option<i64> {
    let wait = opens_in(&windows(texts), &berlin(at))?;
    Some(i64::try_from(wait.as_secs()).expect("days") / 60)
}

#[test]
fn the_next_opening_is_told_in_time_that_passes() {
    assert_eq!(opens_after(&["22:00-06:00"], "2026-06-01T21:00"), Some(60));
    assert_eq!(opens_after(&["Sat 10:00-12:00"], "2026-06-06T12:00"), Some(7 * 24 * 60 - 120));
    // The night in which clocks go forward is an hour shorter.
    assert_eq!(opens_after(&["06:00-08:00"], "2026-03-29T00:00"), Some(5 * 60));
    // Half past two isn't there that night; at three the window is open.
    assert_eq!(opens_after(&["02:30-04:00"], "2026-03-29T01:00"), Some(60));
    assert!(open(&["02:30-04:00"], "2026-03-29T03:00"));
    // An hour that is skipped comes the next day.
    assert_eq!(opens_after(&["02:00-03:00"], "2026-03-29T01:00"), Some(24 * 60));
    // An hour that comes twice opens twice.
    assert_eq!(opens_after(&["02:10-02:20"], "2026-10-25T02:20"), Some(50));
}

#[test]
fn what_is_no_window_is_refused_with_a_reason() {
    for text in [
        "",
        "22:00",
        "22-06",
        "22:00-06:0",
        "24:00-06:00",
        "22:60-06:00",
        "22:00-24:01",
        "1:00-1:00",
        "Foo 22:00-06:00",
        "Mon- 22:00-06:00",
        "Mon 22:00 - 06:00",
        "+1:00-02:00",
        "22:00-06:00 Mon",
        "00000022:00-06:00",
    ] {
        let error = text.parse::<Window>().expect_err(text);
        assert!(error.to_string().contains("time window"), "{error}");
    }
}

#[test]
fn a_clock_at_either_end_of_time_does_no_harm() {
    for at in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let at = at.to_zoned(TimeZone::UTC);
        let night = windows(&["22:00-06:00", "Wed 12:00-13:00"]);
        let _ = (are_open(&night, &at), opens_in(&night, &at));
    }
}

fn any_window() -> impl Strategy<Value = Window> {
    (any::<[bool; 7]>(), 0..MINUTES_PER_DAY, 1..=MINUTES_PER_DAY).prop_map(
        |(days, start, length)| {
            let end = (start + length).min(start + MINUTES_PER_DAY);
            Window { days, start, end }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Going through the week minute by minute finds the same opening.
    #[test]
    fn the_next_opening_is_the_first_open_minute(
        windows in prop::collection::vec(any_window(), 1..4),
        // Around both changes of the clock.
        day in prop::sample::select(vec!["2026-03-26T00:00", "2026-10-22T00:00", "2026-06-01T00:00"]),
        minute in 0i64..(5 * 24 * 60),
    ) {
        let at = &berlin(day) + minute.minutes();
        prop_assume!(!are_open(&windows, &at));
        let mut slow = None;
        for minute in 1..=8i64 * 24 * 60 {
            if are_open(&windows, &(&at + minute.minutes())) {
                slow = Some(Duration::from_secs(minute.unsigned_abs() * 60));
                break;
            }
        }
        let found = opens_in(&windows, &at);
        // At the very end of the eight days the two may differ by an hour.
        if slow.is_some_and(|wait| wait < Duration::from_secs(7 * 24 * 3600)) {
            prop_assert_eq!(found, slow);
        }
    }

    /// What a window is written as, is that window.
    #[test]
    fn a_window_written_and_read_is_the_same(window in any_window()) {
        prop_assume!(window.days != [false; 7] && window.end - window.start < MINUTES_PER_DAY);
        prop_assert_eq!(window.to_string().parse::<Window>().expect("a window"), window);
    }

    /// No text makes the parser panic.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,20}|[0-9:\\-, MonFri]{0,20}") {
        let _ = text.parse::<Window>();
    }
}
