//! Which devices got better this week, by how much, and which lost what they had.

use maud::{Markup, html};

use super::{Piece, link_to};
use crate::contract::event::Severity;
use crate::dashboard::fleet::DeviceId;
use crate::dashboard::fleet::summary::{Change, WEEK_MS, changes};
use crate::dashboard::history::Happening;
use crate::dashboard::hub::Hub;
use crate::dashboard::web::words;

/// Rows of a table.
const SHOWN: usize = 200;

pub fn pieces(hub: &Hub, now_ms: u64) -> Vec<Piece> {
    let fleet = hub.fleet();
    let (better, lost) = changes(&fleet, now_ms.saturating_sub(WEEK_MS));
    vec![
        Piece::Fixed(html! {
            p { "Promotions of the last seven days, by the devices' clocks. Each gain is that over the version "
                "before, on questions of its own, so gains of one device must not be added up." }
        }),
        Piece::Live(
            "better",
            table("better", "Better", &better, "No device got better this week.", now_ms),
        ),
        Piece::Live(
            "lost",
            table("lost", "Rolled back", &lost, "No device lost an adapter of this week.", now_ms),
        ),
    ]
}

fn table(id: &str, title: &str, changes: &[Change<'_>], none: &str, now_ms: u64) -> Markup {
    let interval = |change: &Change<'_>| {
        let number = |name| words::share(&change.version.numbers, name);
        let (low, high) = (number("accuracy_gain_low")?, number("accuracy_gain_high")?);
        Some(format!("{:+.1} to {:+.1}", 100.0 * low, 100.0 * high))
    };
    html! {
        section id=(id) data-part aria-label=(title) {
            h2 { (title) " (" (words::count(changes.len())) ")" }
            @if changes.is_empty() { p class="empty" { (none) } } @else {
                div class="scroll" { table class="cards" {
                    thead { tr { th scope="col" { "Device" } th scope="col" { "Version" } th scope="col" { "Gain" } th scope="col" { "Interval" } th scope="col" { "Questions" } th scope="col" { "Promoted" } } }
                    tbody { @for change in changes.iter().take(SHOWN) { tr {
                        th scope="row" { (link_to(change.id)) }
                        td data-label="Version" { code { (change.version.version) } }
                        td data-label="Gain" class="number" { (change.gain.map_or("–".to_owned(), words::points)) }
                        td data-label="Interval" class="number" { (interval(change).unwrap_or_default()) }
                        td data-label="Questions" class="number" { (change.version.numbers.get("questions").map_or("–".to_owned(), |n| format!("{n:.0}"))) }
                        td data-label="Promoted" { (words::ago(change.version.published_ms, now_ms)) }
                    } } }
                } }
                @if changes.len() > SHOWN { p { "and " (words::count(changes.len() - SHOWN)) " more" } }
            }
        }
    }
}

/// An event of the history, with its device where the page is not about one.
pub fn event(event: &Happening, device: Option<&DeviceId>, now_ms: u64) -> Markup {
    let mut known = [Severity::Error, Severity::Warning].into_iter();
    let severity = known.find(|it| it.name() == event.severity).unwrap_or(Severity::Info);
    let mark = words::severity_mark(severity);
    let at_ms = u64::try_from(event.at_ms).unwrap_or_default();
    html! {
        li class={ "severity " (event.severity) } {
            (words::ago(at_ms, now_ms)) " "
            span class="mark" aria-hidden="true" { (mark) } " "
            @if let Some(device) = device { (link_to(device)) ": " }
            (event.sentence)
        }
    }
}
