//! Who did what.

use maud::html;

use super::Piece;
use crate::dashboard::hub::Hub;
use crate::dashboard::web::{Failure, words};

/// Entries on the page.
const SHOWN: usize = 200;

pub fn pieces(hub: &Hub, before: Option<i64>, now_ms: u64) -> Result<Vec<Piece>, Failure> {
    let deeds = hub.reader().deeds(SHOWN, before)?;
    let older = deeds.last().filter(|_| deeds.len() == SHOWN).map(|(number, _)| *number);
    let list = html! {
        section id="deeds" data-part aria-label="Audit log" {
            @if deeds.is_empty() { p class="empty" { "Nobody has done anything yet." } } @else {
                div class="scroll" { table class="cards" {
                    thead { tr { th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "Where" } th scope="col" { "Outcome" } } }
                    tbody { @for (_, deed) in &deeds { tr {
                        td data-label="When" { (words::ago(u64::try_from(deed.at_ms).unwrap_or_default(), now_ms)) }
                        th scope="row" { (deed.who) }
                        td data-label="What" { (deed.what) }
                        td data-label="Where" { (deed.target) }
                        td data-label="Outcome" { (deed.outcome) }
                    } } }
                } }
            }
        }
    };
    let pager = html! {
        nav class="pager" aria-label="Older entries" {
            @if before.is_some() { a href="/audit" { "Newest" } }
            @if let Some(number) = older { " " a href={ "/audit?before=" (number) } rel="next" { "Older" } }
        }
    };
    Ok(vec![Piece::Live("deeds", list), Piece::Fixed(pager)])
}
