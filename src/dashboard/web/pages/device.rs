//! One device.

use maud::{Markup, html};

use super::{Piece, address_of, forms, may_act};
use crate::contract::wire::{State, VersionInfo};
use crate::dashboard::fleet::summary::gain_of;
use crate::dashboard::fleet::{Device, DeviceId, alarms};
use crate::dashboard::history::{Day, EventQuery, Happening};
use crate::dashboard::hub::Hub;
use crate::dashboard::web::access::Session;
use crate::dashboard::web::{Failure, words};

/// Days of which it is said how they were spent.
const DAYS: i64 = 14;
/// Events on the page.
const EVENTS: usize = 50;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

pub fn pieces(
    hub: &Hub,
    session: &Session,
    id: &DeviceId,
    now_ms: u64,
) -> Result<Vec<Piece>, Failure> {
    let device = hub.fleet().get(id).cloned().ok_or(Failure::NotFound("device"))?;
    let name = id.to_string();
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let query = EventQuery {
        device: Some(name.clone()),
        kinds: Vec::new(),
        from_ms: 0,
        to_ms: i64::MAX,
        limit: EVENTS,
    };
    let (events, days) = {
        let reader = hub.reader();
        (reader.events(&query)?, reader.days(&name, now - DAYS * DAY_MS, now)?)
    };
    let versions: Vec<String> = device
        .state()
        .iter()
        .flat_map(|state| &state.versions)
        .rev()
        .map(|version| version.version.clone())
        .collect();
    let mut pieces = vec![
        Piece::Live("now", now_part(&device, now_ms)),
        Piece::Fixed(curves(id, now_ms.saturating_sub(device.first_ms) / 1000)),
        Piece::Live("versions", versions_part(device.state(), now_ms)),
        Piece::Live("spent", spent(&days)),
        Piece::Live("orders", orders(&device, now_ms)),
    ];
    if may_act(hub, session) {
        pieces.push(Piece::Fixed(forms::for_one(session, &name, &versions)));
    }
    pieces.push(Piece::Live("events", events_part(&events, now_ms)));
    pieces.push(Piece::Live("facts", facts(&device)));
    Ok(pieces)
}

/// What it does, and what is wrong or in the way.
fn now_part(device: &Device, now_ms: u64) -> Markup {
    let status = device.status_at(now_ms);
    let alarms = alarms::of(device, now_ms);
    html! {
        section id="now" data-part aria-label="Now" {
            p class="headline" {
                span class={ "status " (status.name()) } {
                    span class="mark" aria-hidden="true" { (words::mark(status)) } " " (status.name())
                }
                @if let Some(state) = device.state() {
                    " · " strong { (words::plain(&state.state)) }
                    @if !state.reason.is_empty() { " – " (state.reason) }
                }
                " · heard " (words::ago(device.arrived_ms(), now_ms))
            }
            @if let Some(state) = device.state().filter(|state| state.steps > 0) {
                p {
                    "Step " (state.step) " of " (state.steps) " "
                    progress max=(state.steps) value=(state.step) aria-label="Steps of the run" {}
                }
            }
            @if !alarms.is_empty() {
                h2 { "Alarms" }
                ul class="alarms" {
                    @for alarm in &alarms {
                        li class={ "severity " (alarm.severity.name()) } {
                            span class="mark" aria-hidden="true" { (words::severity_mark(alarm.severity)) }
                            " " strong { (words::plain(&alarm.name)) } ": " (alarm.sentence) ", since "
                            (words::ago(alarm.since_ms, now_ms))
                            @if let Some(who) = &alarm.seen_by { ", seen by " (who) }
                        }
                    }
                }
            }
            @if let Some(state) = device.state().filter(|state| !state.blockers.is_empty()) {
                h2 { "What keeps it from training" }
                ul class="blockers" {
                    @for blocker in &state.blockers {
                        li { (blocker.sentence) ", for " (words::duration(blocker.for_s)) }
                    }
                }
            }
            @if let Some(cycle) = device.state().and_then(|state| state.last_cycle.as_ref()) {
                h2 { "Last cycle" }
                p {
                    "Cycle " (cycle.number) " was " strong { (cycle.result) } " "
                    (words::ago(cycle.ended_ms, now_ms))
                    @if !cycle.reason.is_empty() { ": " (cycle.reason) } "."
                    @if let Some(text) = evidence(&cycle.numbers) { " " (text) }
                }
            }
        }
    }
}

/// The numbers of a decision, in a sentence.
fn evidence(numbers: &std::collections::BTreeMap<String, f64>) -> Option<String> {
    let number = |name| words::share(numbers, name);
    let (before, after) = (number("accuracy_before")?, number("accuracy_after")?);
    let mut text = format!("{:.1} → {:.1} % right", 100.0 * before, 100.0 * after);
    if let Some(questions) = numbers.get("questions").filter(|n| **n < 1e9) {
        text += &format!(" on {questions:.0} held-out questions");
    }
    if let (Some(low), Some(high)) = (number("accuracy_gain_low"), number("accuracy_gain_high")) {
        text += &format!(" (gain {:+.1} to {:+.1} points)", 100.0 * low, 100.0 * high);
    }
    Some(text + ".")
}

fn curves(id: &DeviceId, known_s: u64) -> Markup {
    curves_at(&format!("{}/curves", address_of(id)), first_range(known_s))
}

/// The range that curves begin with, in seconds: a day with a few minutes at its end shows nothing.
pub fn first_range(known_s: u64) -> u64 {
    match known_s {
        0..600 => 300,
        600..7200 => 3600,
        _ => 86_400,
    }
}

/// The frame of curves whose numbers are at `address`; `first`: the range that is shown first, in seconds.
pub fn curves_at(address: &str, first: u64) -> Markup {
    let ranges = [
        (300, "5 min"),
        (3600, "1 h"),
        (86_400, "24 h"),
        (604_800, "7 days"),
        (2_592_000, "30 days"),
        (31_536_000, "1 year"),
    ];
    html! {
        section id="curves" class="curves" data-curves=(address) aria-label="Curves" {
            h2 { "Curves" }
            div class="ranges" role="group" aria-label="Range" {
                @for (seconds, name) in ranges {
                    button type="button" data-range=(seconds) aria-pressed=(seconds == first) { (name) } " "
                }
            }
            noscript { p class="notice" { "Curves need JavaScript." } }
        }
    }
}

fn versions_part(state: Option<&State>, now_ms: u64) -> Markup {
    let versions = state.map(|state| state.versions.as_slice()).unwrap_or_default();
    html! {
        section id="versions" data-part aria-label="Adapters" {
            h2 { "Adapters" }
            @if versions.is_empty() {
                p class="empty" { "Nothing has been promoted: the base model serves." }
            } @else {
                // Each gain is over the version's own parent, on questions of its own.
                div class="scroll" { table class="cards" {
                    thead { tr {
                        th scope="col" { "Version" } th scope="col" { "Compared with" } th scope="col" { "Gain over that" }
                        th scope="col" { "Evidence" } th scope="col" { "Published" } th scope="col" { "Now" }
                    } }
                    tbody { @for version in versions.iter().rev() { (version_row(version, state, now_ms)) } }
                } }
            }
        }
    }
}

fn version_row(version: &VersionInfo, state: Option<&State>, now_ms: u64) -> Markup {
    let active = state.and_then(|state| state.adapter.as_ref()).map(|adapter| &adapter.version);
    let awaiting = state.and_then(|state| state.awaiting.as_ref());
    let now = if Some(&version.version) == active {
        "active"
    } else if Some(&version.version) == awaiting {
        "waits for approval"
    } else if version.rolled_back {
        "rolled back"
    } else {
        "kept"
    };
    html! {
        tr {
            th scope="row" { code { (version.version) } }
            td data-label="Compared with" {
                @match &version.parent { Some(parent) => { code { (parent) } } None => { "base model" } }
            }
            td data-label="Gain over that" class="number" { (gain_of(version).map_or("–".to_owned(), words::points)) }
            td data-label="Evidence" { (evidence(&version.numbers).unwrap_or_default()) }
            td data-label="Published" { (words::ago(version.published_ms, now_ms)) }
            td data-label="Now" { (now) }
        }
    }
}

/// Why it has not trained: hours by state and reason.
fn spent(days: &[Day]) -> Markup {
    let mut totals = std::collections::BTreeMap::<(&str, &str), u64>::new();
    for day in days {
        *totals.entry((&day.state, &day.reason)).or_default() += day.ms;
    }
    let all: u64 = totals.values().sum();
    let mut totals: Vec<_> = totals.into_iter().collect();
    totals.sort_by_key(|(_, ms)| std::cmp::Reverse(*ms));
    html! {
        section id="spent" data-part aria-label="How the time was spent" {
            h2 { "How the last " (DAYS) " days were spent" }
            @if totals.is_empty() { p class="empty" { "Nothing is known yet." } } @else {
                div class="scroll" { table class="cards" {
                    thead { tr { th scope="col" { "State" } th scope="col" { "In the way" } th scope="col" class="number" { "Time" } th scope="col" class="number" { "Share" } } }
                    tbody { @for ((state, reason), ms) in totals { tr {
                        th scope="row" { (words::plain(state)) }
                        td data-label="In the way" { @if reason.is_empty() { "–" } @else { (words::plain(reason)) } }
                        td data-label="Time" class="number" { (words::duration(ms / 1000)) }
                        td data-label="Share" class="number" { (format!("{:.0} %", 100.0 * ms as f64 / all.max(1) as f64)) }
                    } } }
                } }
            }
        }
    }
}

fn orders(device: &Device, now_ms: u64) -> Markup {
    let mut orders = device.orders.iter().peekable();
    html! {
        section id="orders" data-part aria-label="Commands" {
            h2 { "Commands" }
            @if orders.peek().is_none() { p class="empty" { "No commands yet." } } @else {
                div class="scroll" { table class="orders cards" {
                    thead { tr { th scope="col" { "Command" } th scope="col" { "By" } th scope="col" { "Given" } th scope="col" { "Progress" } th scope="col" { "Answer" } } }
                    tbody { @for order in orders { tr {
                        th scope="row" { @if order.what.is_empty() { code { (order.id) } } @else { (order.what) } }
                        td data-label="By" { @if order.who.is_empty() { "somebody else" } @else { (order.who) } }
                        td data-label="Given" { (words::ago(order.given_ms, now_ms)) }
                        td data-label="Progress" { (order.progress(now_ms)) }
                        td data-label="Answer" { (order.unsent.as_deref().unwrap_or(&order.reason)) }
                    } } }
                } }
            }
        }
    }
}

fn events_part(events: &[Happening], now_ms: u64) -> Markup {
    html! {
        section id="events" data-part aria-label="Events" {
            h2 { "Events" }
            @if events.is_empty() { p class="empty" { "No events yet." } } @else {
                ol class="events" { @for event in events { (super::changes::event(event, None, now_ms)) } }
            }
        }
    }
}

fn facts(device: &Device) -> Markup {
    let signals = device.state().map(|state| &state.signals);
    html! {
        section id="facts" data-part aria-label="The device" {
            h2 { "The device" }
            dl class="facts" {
                @if let Some(birth) = device.birth() {
                    dt { "Host" } dd { (birth.device.host) }
                    dt { "Hardware" } dd {
                        @if !birth.device.hardware.is_empty() { (birth.device.hardware) ", " }
                        (birth.device.arch) ", " (birth.device.cores) " cores, " (birth.device.memory_mib) " MiB"
                    }
                    dt { "System" } dd { (birth.device.os) }
                    dt { "latrod" } dd { (birth.version) }
                    @if let Some(model) = &birth.model {
                        dt { "Model" } dd { (model.architecture) " " (model.quantization) ", " (model.file_mib) " MiB, " code { (model.sha256.chars().take(12).collect::<String>()) } }
                    }
                    dt { "Tags" }
                    dd { @for (name, value) in &birth.tags { span class="tag" { (name) "=" (value) } " " } }
                }
                @for (name, value) in signals.into_iter().flatten() {
                    @let (name, unit) = words::signal(name);
                    dt { (name) } dd { (words::number(*value)) " " (unit) }
                }
                @if let Some(state) = device.state() {
                    @for (name, value) in &state.counts { dt { (words::plain(name)) } dd { (value) } }
                    @for (key, value) in &state.overrides { dt { "set: " (key) } dd { (value) } }
                }
            }
        }
    }
}
