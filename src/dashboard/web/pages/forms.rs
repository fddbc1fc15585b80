//! The forms that command devices.

use maud::{Markup, html};

use super::{frame, word};
use crate::dashboard::fleet::DeviceId;
use crate::dashboard::web::access::Session;
use crate::dashboard::web::words;

/// A button of a form: the command, its label, what is asked before it is done.
type Button = (&'static str, &'static str, &'static str);

/// What can be asked of one device or of many, without more to say.
const BUTTONS: [Button; 7] = [
    ("pause", "Pause", "Stop training on {n} devices until they are resumed?"),
    ("resume", "Resume", "Let {n} devices train again?"),
    ("train_now", "Train now", "Begin a cycle on {n} devices as soon as they are idle?"),
    (
        "check",
        "Check",
        "Compare the active adapters of {n} devices with their parents on new questions?",
    ),
    (
        "approve",
        "Approve",
        "Make the adapters that wait for approval the active ones of {n} devices?",
    ),
    ("rollback", "Roll back", "Go back to the parents of the active adapters on {n} devices?"),
    (
        "restore_tasks",
        "Restore tasks",
        "Take tasks that were set aside back into training on {n} devices?",
    ),
];

fn buttons(question: impl Fn(&str) -> String) -> Markup {
    html! {
        @for (command, label, asked) in BUTTONS {
            button type="submit" name="command" value=(command) class=[(command == "rollback").then_some("danger")]
                data-confirm=(question(asked)) { (label) }
        }
    }
}

/// What can be done with the devices that are selected in the list, or with all that the filter takes; commands
/// only for those who may give them.
pub fn for_many(session: &Session, filter: &str, acts: bool) -> Markup {
    html! {
        form id="act" class="act" method="post" action="/act" {
            (word(session))
            input type="hidden" name="filter" value=(filter);
            fieldset {
                legend { (if acts { "Command" } else { "Devices" }) }
                label { input type="radio" name="scope" value="selected" checked; " selected devices" }
                label { input type="radio" name="scope" value="filter"; " all that this list shows, on all pages" }
                output id="selected" {}
                button type="button" data-clear { "Clear selection" }
            }
            div class="buttons" { button type="submit" name="command" value="compare" { "Compare" } }
            @if acts { div class="buttons" {
                label for="stages" { "In stages, % of the devices" }
                input id="stages" name="stages" placeholder="empty: all at once; or 5, 25, 100" maxlength="80";
                label for="pause" { "Minutes between" }
                input id="pause" name="pause" type="number" min="0" max="10080" value="10";
                label for="limit" { "Stop if more fail than, %" }
                input id="limit" name="limit" type="number" min="0" max="100" value="10";
            } }
            @if acts { div class="buttons" {
                (buttons(str::to_owned))
                label for="many-key" { "Setting" }
                input id="many-key" name="key" placeholder="learn.steps" maxlength="256";
                label for="many-value" { "Value" }
                input id="many-value" name="value" placeholder="empty: the file's own" maxlength="256";
                button type="submit" name="command" value="set" data-confirm="Change this setting on {n} devices?" { "Set" }
            } }
        }
    }
}

/// Commands for one device.
pub fn for_one(session: &Session, device: &str, versions: &[String]) -> Markup {
    let of_one = |asked: &str| asked.replace("{n} devices", device);
    html! {
        form id="act" class="act" method="post" action="/act" {
            (word(session))
            input type="hidden" name="device" value=(device);
            input type="hidden" name="scope" value="selected";
            div class="buttons" { (buttons(of_one)) }
            div class="buttons" {
                @if !versions.is_empty() {
                    label for="version" { "Version" }
                    select id="version" name="version" {
                        @for version in versions { option value=(version) { (version) } }
                    }
                    button type="submit" name="command" value="promote"
                        data-confirm={ "Make this version the active adapter of " (device) "?" } { "Promote" }
                }
                label for="key" { "Setting" }
                input id="key" name="key" placeholder="learn.steps" maxlength="256";
                label for="value" { "Value" }
                input id="value" name="value" placeholder="empty: the file's own" maxlength="256";
                button type="submit" name="command" value="set"
                    data-confirm={ "Change this setting on " (device) "?" } { "Set" }
            }
        }
        form class="act" method="post" action="/retire" {
            (word(session))
            input type="hidden" name="device" value=(device);
            button type="submit" class="danger" data-confirm={
                "Forget " (device) "? What the broker keeps of it is cleared; its history stays. A device that still runs comes back."
            } { "Retire this device" }
        }
    }
}

/// Asks whether a command is meant for all these devices: fields of the form, and what it is in words.
pub fn confirmation(
    session: &Session,
    what: &str,
    back: &str,
    fields: &[(&str, &str)],
    devices: &[DeviceId],
) -> Markup {
    let shown = 20;
    frame(
        "Confirm",
        &[],
        &html! {
            main id="main" class="confirm" {
                h1 { (what) " on " (words::devices(devices.len())) "?" }
                ul { @for id in devices.iter().take(shown) { li { (id) } } }
                @if devices.len() > shown { p { "and " (words::count(devices.len() - shown)) " more" } }
                form method="post" action="/act" {
                    (word(session))
                    input type="hidden" name="scope" value="selected";
                    @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                    @for id in devices { input type="hidden" name="device" value=(id); }
                    button type="submit" class="primary" { "Yes, on all of them" }
                    " " a href=(back) { "No" }
                }
            }
        },
    )
}
