//! Commands that go out in stages.

use maud::{Markup, html};

use super::{Piece, may_act, word};
use crate::dashboard::hub::Hub;
use crate::dashboard::rollout::{Progress, Rollout};
use crate::dashboard::web::access::Session;
use crate::dashboard::web::words;

pub fn pieces(hub: &Hub, session: &Session, now_ms: u64) -> Vec<Piece> {
    let session = may_act(hub, session).then_some(session);
    let rollouts = hub.rollouts();
    let list = html! {
        section id="rollouts" data-part aria-label="Roll-outs" {
            @if rollouts.is_empty() {
                p class="empty" { "None was begun. Select devices in the list, say in which stages, and give a command." }
            } @else {
                div class="scroll" { table class="cards" {
                    thead { tr { th scope="col" { "Command" } th scope="col" { "Begun" } th scope="col" { "Stage" } th scope="col" { "Commanded" } th scope="col" { "How they fared" } th scope="col" { "Progress" } } }
                    tbody { @for rollout in rollouts.iter().rev() { (row(rollout, session, now_ms)) } }
                } }
            }
        }
    };
    vec![Piece::Live("rollouts", list)]
}

fn row(rollout: &Rollout, session: Option<&Session>, now_ms: u64) -> Markup {
    let what = rollout.plan.wish().map_or_else(|why| why, |wish| wish.in_words());
    let (done, failed, worse) = rollout.tally;
    let (given, all) = (rollout.given.len(), rollout.devices.len());
    html! {
        tr {
            th scope="row" { (what) }
            td data-label="Begun" { (words::ago(rollout.id, now_ms)) " by " (rollout.who) }
            td data-label="Stage" { (rollout.stage) " of " (rollout.plan.percent.len()) }
            td data-label="Commanded" class="number" {
                progress max=(all) value=(given) aria-label="Devices that have the command" {}
                " " (words::count(given)) "/" (words::count(all))
            }
            td data-label="How they fared" { (done) " done, " (failed) " failed, " (worse) " worse" }
            td data-label="Progress" {
                @match (&rollout.progress, session) {
                    (Progress::Done, _) => { "done" }
                    (Progress::Stopped(why), _) => { "stopped: " (why) }
                    (Progress::Running, None) => { "running" }
                    (Progress::Running, Some(session)) => {
                        form method="post" action="/rollouts/stop" {
                            "running " (word(session))
                            input type="hidden" name="rollout" value=(rollout.id);
                            button type="submit" class="danger" data-confirm="Stop this roll-out? What was given stays given." { "Stop" }
                        }
                    }
                }
            }
        }
    }
}
