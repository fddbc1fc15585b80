//! The list of devices.

use maud::{Markup, html};

use super::{Piece, address_of, forms, may_act};
use crate::dashboard::fleet::summary::{Summary, gain};
use crate::dashboard::fleet::{Device, DeviceId, Page, Sort, Status, alarms};
use crate::dashboard::hub::Hub;
use crate::dashboard::web::access::Session;
use crate::dashboard::web::query::ListQuery;
use crate::dashboard::web::words;

pub fn pieces(hub: &Hub, session: &Session, query: &ListQuery, now_ms: u64) -> Vec<Piece> {
    let fleet = hub.fleet();
    let summary = Summary::of(&fleet, now_ms);
    let page = fleet.page(&query.filter, query.sort, query.descending, query.page, now_ms);
    let acts = may_act(hub, session);
    let list = list(&page, query, now_ms);
    let filter = ListQuery::filter_text(&query.filter);
    vec![
        Piece::Live("summary", tiles(&summary)),
        Piece::Fixed(filters(query, &summary)),
        Piece::Live("devices", list),
        Piece::Fixed(forms::for_many(session, &filter, acts)),
    ]
}

/// The fleet in a few numbers, each a link to the devices that it counts.
fn tiles(summary: &Summary) -> Markup {
    let status = |status: Status| summary.status.get(&status).copied().unwrap_or_default();
    let state = |name: &str| summary.states.get(name).copied().unwrap_or_default();
    let tile = |name: &str, count: usize, address: String, class: &str| {
        html! {
            a class={ "tile " (class) } href=(address) {
                span class="name" { (name) } strong { (words::count(count)) }
            }
        }
    };
    let of_status = |it: Status, name: &str| {
        tile(name, status(it), ListQuery::only("status", it.name()), it.name())
    };
    html! {
        section id="summary" class="tiles" data-part aria-label="The fleet" {
            (tile("Devices", summary.devices, "/".to_owned(), ""))
            (of_status(Status::Online, "Online"))
            (of_status(Status::Silent, "Silent"))
            (of_status(Status::Lost, "Lost"))
            (of_status(Status::Stopped, "Stopped"))
            (tile("Training", state("training"), ListQuery::only("state", "training"), ""))
            (tile("Alarms", summary.alarmed, ListQuery::only("alarm", "any"), if summary.alarmed > 0 { "alarm" } else { "" }))
            div class="tile" {
                span class="name" { "Trained this week" }
                strong { (share(summary.learning, summary.devices)) }
            }
            div class="tile" {
                span class="name" { "With an adapter" }
                strong { (share(summary.improved, summary.devices)) }
            }
            div class="tile" {
                span class="name" { "Median gain of adapters" }
                strong { (summary.median_gain.map_or("–".to_owned(), words::points)) }
            }
        }
    }
}

fn share(part: usize, whole: usize) -> String {
    if whole == 0 {
        "–".to_owned()
    } else {
        format!("{:.0} %", 100.0 * part as f64 / whole as f64)
    }
}

fn filters(query: &ListQuery, summary: &Summary) -> Markup {
    let filter = &query.filter;
    let status = filter.status.map_or("", Status::name);
    let statuses: Vec<&str> = Status::ALL.into_iter().map(Status::name).collect();
    let states: Vec<&str> = summary.states.keys().map(String::as_str).collect();
    let tags: Vec<&str> = summary.tags.iter().map(String::as_str).collect();
    let adapters: Vec<&str> = summary.adapters.keys().map(String::as_str).collect();
    let alarms: Vec<&str> =
        std::iter::once("any").chain(summary.alarms.keys().map(String::as_str)).collect();
    html! {
        form class="filters" method="get" action="/" role="search" aria-label="Filter the list" {
            label {
                "Search"
                input name="q" type="search" value=(filter.text) placeholder="name, host, tag, reason";
            }
            (choice("status", "Status", &statuses, status))
            (choice("state", "State", &states, &filter.state))
            (choice("tag", "Tag", &tags, &filter.tag))
            (choice("adapter", "Adapter", &adapters, &filter.adapter))
            (choice("alarm", "Alarm", &alarms, &filter.alarm))
            @if query.sort != Sort::Name || query.descending {
                input type="hidden" name="sort" value=(sort_word(query.sort, query.descending));
            }
            button type="submit" { "Show" }
            @if !filter.is_empty() { a class="reset" href="/" { "Show all" } }
        }
    }
}

fn choice(name: &str, label: &str, values: &[&str], chosen: &str) -> Markup {
    // What was asked for stays on the list, even if no device has it any more.
    let missing = !chosen.is_empty() && !values.contains(&chosen);
    html! {
        label {
            (label)
            select name=(name) {
                option value="" { "any" }
                @if missing { option value=(chosen) selected { (chosen) } }
                @for value in values {
                    option value=(value) selected[*value == chosen] {
                        @if *value == "any" { "new ones" } @else if matches!(name, "state" | "alarm") { (words::plain(value)) } @else { (value) }
                    }
                }
            }
        }
    }
}

fn sort_word(sort: Sort, descending: bool) -> String {
    use crate::settings::Choice as _;
    format!("{}{}", if descending { "-" } else { "" }, sort.word())
}

const COLUMNS: [(Option<Sort>, &str); 8] = [
    (Some(Sort::Name), "Device"),
    (Some(Sort::Status), "Status"),
    (Some(Sort::State), "State"),
    (Some(Sort::Step), "Run"),
    (None, "Adapter"),
    (Some(Sort::Gain), "Gain"),
    (Some(Sort::Trained), "Last trained"),
    (Some(Sort::Alarms), "Alarms"),
];

fn list(page: &Page<'_>, query: &ListQuery, now_ms: u64) -> Markup {
    html! {
        div id="devices" data-part {
            @if page.total == 0 {
                p class="empty" {
                    @if query.filter.is_empty() {
                        "No device has been heard of. A device appears as soon as it reports to this broker: "
                        code { "mqtt.broker" } " in its configuration."
                    } @else { "No devices match." }
                }
            } @else {
                div class="scroll" {
                    table class="devices cards" {
                        caption class="hidden" { "Devices" }
                        thead { tr {
                            th scope="col" { input type="checkbox" data-all aria-label="Select all on this page"; }
                            @for (sort, name) in COLUMNS { (heading(sort, name, query)) }
                        } }
                        tbody {
                            @for (id, device) in &page.devices { (row(id, device, now_ms)) }
                        }
                    }
                }
                (pager(page, query))
            }
        }
    }
}

fn heading(sort: Option<Sort>, name: &str, query: &ListQuery) -> Markup {
    let Some(sort) = sort else { return html! { th scope="col" { (name) } } };
    let is_sorted = query.sort == sort;
    let direction = if query.descending { "descending" } else { "ascending" };
    // Numbers are of interest from the largest down, and a second click turns any order around.
    let first = matches!(sort, Sort::Gain | Sort::Trained | Sort::Alarms | Sort::Step);
    let descending = if is_sorted { !query.descending } else { first };
    let address = ListQuery { sort, descending, page: 1, ..query.clone() }.address();
    html! {
        th scope="col" aria-sort=[is_sorted.then_some(direction)] { a href=(address) { (name) } }
    }
}

fn row(id: &DeviceId, device: &Device, now_ms: u64) -> Markup {
    let status = device.status_at(now_ms);
    let state = device.state();
    let alarms = alarms::of(device, now_ms);
    let adapter = state.and_then(|state| state.adapter.as_ref());
    html! {
        tr {
            td class="select" {
                input type="checkbox" name="device" value=(id) form="act" aria-label={ "Select " (id) };
            }
            th scope="row" {
                a href=(address_of(id)) { (id.device) } " " span class="fleet" { (id.fleet) }
            }
            td data-label="Status" class={ "status " (status.name()) } {
                span class="mark" aria-hidden="true" { (words::mark(status)) } " " (status.name())
            }
            td data-label="State" {
                @match state {
                    Some(state) => { (words::plain(&state.state)) @if !state.reason.is_empty() {
                        span class="reason" { " – " (state.reason) }
                    } }
                    None => { "–" }
                }
            }
            td data-label="Run" class="number" {
                @match state.filter(|state| state.steps > 0) {
                    Some(state) => {
                        progress max=(state.steps) value=(state.step) aria-label="Steps of the run" {}
                        " " (state.step) "/" (state.steps)
                    }
                    None => { "–" }
                }
            }
            td data-label="Adapter" {
                @match adapter { Some(adapter) => { code { (adapter.version) } } None => { "base model" } }
            }
            td data-label="Gain" class="number" { (gain(device).map_or("–".to_owned(), words::points)) }
            td data-label="Last trained" {
                @match state.and_then(|state| state.last_trained_ms) {
                    Some(ms) => { (words::ago(ms, now_ms)) } None => { "never" }
                }
            }
            td data-label="Alarms" {
                @match alarms.first() {
                    None => { "none" }
                    Some(worst) => {
                        span class={ "severity " (worst.severity.name()) } {
                            span class="mark" aria-hidden="true" { (words::severity_mark(worst.severity)) }
                            " " (words::plain(&worst.name)) @if worst.seen_by.is_some() { " (seen)" }
                            @if alarms.len() > 1 { " and " (alarms.len() - 1) " more" }
                        }
                    }
                }
            }
        }
    }
}

fn pager(page: &Page<'_>, query: &ListQuery) -> Markup {
    let to = |number: usize| ListQuery { page: number, ..query.clone() }.address();
    html! {
        nav class="pager" aria-label="Pages of the list" {
            span { (words::devices(page.total)) ", page " (page.number) " of " (page.pages) }
            @if page.number > 1 {
                a href=(to(1)) { "First" } " " a href=(to(page.number - 1)) rel="prev" { "Previous" }
            }
            @if page.number < page.pages {
                " " a href=(to(page.number + 1)) rel="next" { "Next" } " " a href=(to(page.pages)) { "Last" }
            }
        }
    }
}
