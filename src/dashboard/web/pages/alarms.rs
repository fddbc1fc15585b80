//! All alarms, the worst first.

use maud::{Markup, html};

use super::{Piece, link_to, word};
use crate::contract::event::Severity;
use crate::dashboard::fleet::alarms::{self, Alarm};
use crate::dashboard::fleet::{DeviceId, Fleet};
use crate::dashboard::hub::Hub;
use crate::dashboard::web::access::Session;
use crate::dashboard::web::access::users::Role;
use crate::dashboard::web::query::ListQuery;
use crate::dashboard::web::words;

/// Alarms on the page; the list of devices has the others.
const SHOWN: usize = 200;

pub fn pieces(hub: &Hub, session: &Session, now_ms: u64) -> Vec<Piece> {
    let fleet = hub.fleet();
    let mut all: Vec<(&DeviceId, Alarm)> = of(&fleet, now_ms);
    all.sort_by_key(|(_, alarm)| (std::cmp::Reverse(alarm.severity), alarm.since_ms));
    let (seen, new): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, a)| a.seen_by.is_some());
    let may = session.role == Role::Operator;
    vec![
        Piece::Live("alarms", list("alarms", &new, may.then_some(session), now_ms)),
        Piece::Live("seen", list("seen", &seen, None, now_ms)),
    ]
}

fn of(fleet: &Fleet, now_ms: u64) -> Vec<(&DeviceId, Alarm)> {
    let alarms = fleet.iter().flat_map(|(id, device)| {
        alarms::of(device, now_ms).into_iter().map(move |alarm| (id, alarm))
    });
    alarms.filter(|(_, alarm)| alarm.severity >= Severity::Warning).collect()
}

/// A list of alarms; `session`: that of a user who may acknowledge them.
fn list(id: &str, all: &[(&DeviceId, Alarm)], session: Option<&Session>, now_ms: u64) -> Markup {
    let is_new = id == "alarms";
    let title = if is_new { "New alarms" } else { "Acknowledged alarms" };
    html! {
        section id=(id) data-part aria-label=(title) {
            @if !is_new && !all.is_empty() { h2 { (title) } }
            @if !is_new && all.is_empty() {} @else if all.is_empty() { p class="empty" { "No new alarms." } } @else {
                p { (words::many(all.len(), "alarm")) @if all.len() > SHOWN { ", the first " (SHOWN) " of them:" } }
                div class="scroll" { table class="cards" {
                    thead { tr { th scope="col" { "Severity" } th scope="col" { "Alarm" } th scope="col" { "Device" } th scope="col" { "What is wrong" } th scope="col" { "Since" } th scope="col" { "Seen" } } }
                    tbody { @for (id, alarm) in all.iter().take(SHOWN) { tr {
                        td data-label="Severity" class={ "severity " (alarm.severity.name()) } {
                            span class="mark" aria-hidden="true" { (words::severity_mark(alarm.severity)) } " " (alarm.severity.name())
                        }
                        td data-label="Alarm" { a href=(ListQuery::only("alarm", &alarm.name)) { (words::plain(&alarm.name)) } }
                        th scope="row" { (link_to(id)) }
                        td data-label="What is wrong" { (alarm.sentence) }
                        td data-label="Since" { (words::ago(alarm.since_ms, now_ms)) }
                        td data-label="Seen" {
                            @match (&alarm.seen_by, session) {
                                (Some(who), _) => { "by " (who) }
                                (None, Some(session)) => {
                                    form method="post" action="/acknowledge" {
                                        (word(session))
                                        input type="hidden" name="device" value=(id);
                                        input type="hidden" name="alarm" value=(alarm.name);
                                        button type="submit" aria-label={ "Acknowledge " (words::plain(&alarm.name)) " of " (id) } { "Acknowledge" }
                                    }
                                }
                                (None, None) => { "–" }
                            }
                        }
                    } } }
                } }
            }
        }
    }
}
