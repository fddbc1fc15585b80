//! The pages, each a list of pieces, and the frame around them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::access::Session;
use super::access::users::Role;
use super::{Failure, Shared, assets, words};
use crate::dashboard::fleet::DeviceId;
use crate::dashboard::fleet::summary;
use crate::dashboard::hub::{Hub, Line, now_ms};

mod alarms;
mod audit;
mod changes;
mod compare;
mod device;
mod devices;
mod forms;
mod rollouts;

pub use compare::{MAX_COMPARED, query as compare_query};
pub use forms::confirmation;

/// A part of a page.
pub enum Piece {
    /// It stays as it is.
    Fixed(Markup),
    /// It changes by itself: the element with this id, as a whole.
    Live(&'static str, Markup),
}

/// A page that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// The list of devices, with what follows the question mark.
    Devices(super::query::ListQuery),
    /// One device.
    Device(DeviceId),
    /// Several devices beside each other.
    Compare(Vec<DeviceId>),
    /// All alarms.
    Alarms,
    /// Who got better or worse.
    Changes,
    /// Commands that go out in stages.
    Rollouts,
    /// Who did what, before the entry with this number.
    Audit(Option<i64>),
}

impl View {
    /// The page at an address within this site; nothing if there is none.
    pub fn parse(path: &str, query: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Devices(super::query::ListQuery::parse(query))),
            "/compare" => compare::parse(query).map(Self::Compare),
            "/alarms" => Some(Self::Alarms),
            "/changes" => Some(Self::Changes),
            "/rollouts" => Some(Self::Rollouts),
            "/audit" => {
                let mut pairs = form_urlencoded::parse(query.as_bytes());
                let before = pairs.find(|(name, _)| name == "before");
                Some(Self::Audit(before.and_then(|(_, ms)| ms.parse().ok())))
            }
            _ => {
                let name = path.strip_prefix("/devices/")?;
                let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
                Some(Self::Device(DeviceId::parse(&name)?))
            }
        }
    }

    fn title(&self) -> String {
        match self {
            Self::Devices(_) => "Devices".to_owned(),
            Self::Device(id) => id.to_string(),
            Self::Compare(devices) => words::devices(devices.len()),
            Self::Alarms => "Alarms".to_owned(),
            Self::Changes => "Better or worse".to_owned(),
            Self::Rollouts => "Roll-outs".to_owned(),
            Self::Audit(_) => "Audit log".to_owned(),
        }
    }

    /// The entry of the menu that it belongs to.
    const fn menu(&self) -> &'static str {
        match self {
            Self::Devices(_) | Self::Device(_) | Self::Compare(_) => "/",
            Self::Alarms => "/alarms",
            Self::Changes => "/changes",
            Self::Rollouts => "/rollouts",
            Self::Audit(_) => "/audit",
        }
    }

    /// Its pieces, as they are now.
    pub fn pieces(&self, hub: &Hub, session: &Session, now_ms: u64) -> Result<Vec<Piece>, Failure> {
        match self {
            Self::Devices(query) => Ok(devices::pieces(hub, session, query, now_ms)),
            Self::Device(id) => device::pieces(hub, session, id, now_ms),
            Self::Compare(devices) => Ok(compare::pieces(hub, devices, now_ms)),
            Self::Alarms => Ok(alarms::pieces(hub, session, now_ms)),
            Self::Changes => Ok(changes::pieces(hub, now_ms)),
            Self::Rollouts => Ok(rollouts::pieces(hub, session, now_ms)),
            Self::Audit(before) => audit::pieces(hub, *before, now_ms),
        }
    }
}

/// Serves a page.
pub async fn show(
    State(hub): Shared,
    Extension(session): Extension<Arc<Session>>,
    uri: Uri,
) -> Result<Markup, Failure> {
    let view = View::parse(uri.path(), uri.query().unwrap_or_default());
    let view = view.ok_or(Failure::NotFound("page"))?;
    let now_ms = now_ms();
    let pieces = view.pieces(&hub, &session, now_ms)?;
    let alarmed = summary::alarmed(&hub.fleet(), now_ms);
    let address = uri.path_and_query().map_or("/", |address| address.as_str());
    let page =
        form_urlencoded::Serializer::new(String::new()).append_pair("page", address).finish();
    let live = format!("/live?{page}");
    let body = html! {
        (top(&view, &session, alarmed))
        main id="main" data-live=(live) {
            h1 { (view.title()) }
            (line(&hub.line()))
            @for piece in pieces {
                @match piece {
                    Piece::Fixed(markup) | Piece::Live(_, markup) => { (markup) }
                }
            }
        }
    };
    let scripts: &[&str] = if matches!(view, View::Device(_) | View::Compare(_)) {
        &["live.js", "charts.js"]
    } else {
        &["live.js"]
    };
    Ok(frame(&view.title(), scripts, &body))
}

/// Whether messages come in; it is part of every page.
pub fn line(line: &Line) -> Markup {
    html! {
        div id="line" data-part {
            @match line {
                Line::Up => {}
                Line::Trying => {
                    p class="notice" { "Connecting to the broker …" }
                }
                Line::Down(why) => {
                    p class="notice error" {
                        "Not connected to the broker; this page may be out of date: " (why)
                    }
                }
            }
        }
    }
}

fn top(view: &View, session: &Session, alarmed: usize) -> Markup {
    let menu = [
        ("/", "Devices"),
        ("/alarms", "Alarms"),
        ("/changes", "Better or worse"),
        ("/rollouts", "Roll-outs"),
        ("/audit", "Audit log"),
    ];
    html! {
        a class="skip" href="#main" { "Skip to content" }
        header class="top" {
            a class="brand" href="/" { "latrod" }
            nav aria-label="Pages" {
                @for (address, name) in menu {
                    a href=(address) aria-current=[(view.menu() == address).then_some("page")] {
                        (name)
                        @if address == "/alarms" && alarmed > 0 {
                            " " span class="count" { (words::count(alarmed)) }
                        }
                    }
                }
            }
            p id="connection" class="connection" role="status" {}
            form class="logout" method="post" action="/logout" {
                (word(session))
                span class="user" { (session.user) " (" (session.role.name()) ")" }
                @if !session.is_by_proxy() { button type="submit" { "Log out" } }
            }
        }
    }
}

/// The session's word, which every form carries.
fn word(session: &Session) -> Markup {
    html! { input type="hidden" name="word" value=(session.word); }
}

/// Whether forms are shown that command devices.
fn may_act(hub: &Hub, session: &Session) -> bool {
    session.role == Role::Operator && hub.giver.can()
}

fn frame(title: &str, scripts: &[&str], body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – latrod" }
                link rel="stylesheet" href=(assets::address("style.css"));
                link rel="icon" href="data:,";
                @for script in scripts { script type="module" src=(assets::address(script)) {} }
            }
            body { (body) }
        }
    }
}

/// The page of something that went wrong.
pub fn failure(status: StatusCode, why: &str) -> Markup {
    let title = status.canonical_reason().unwrap_or("Error");
    frame(
        title,
        &[],
        &html! {
            header class="top" { a class="brand" href="/" { "latrod" } }
            main id="main" {
                h1 { (title) }
                p class="notice error" role="alert" { (why) }
                p { a href="/" { "To the list of devices" } }
            }
        },
    )
}

/// The form to log in with. `by_token`: there are no users, but a token for this run.
pub fn login(why: Option<&str>, by_token: bool, next: &str) -> Markup {
    frame(
        "Log in",
        &[],
        &html! {
            main id="main" class="login" {
                h1 { "latrod" }
                @if let Some(why) = why {
                    p class="notice error" role="alert" { (why) }
                }
                form method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                    @if by_token {
                        p { "The program printed an address with a token when it started." }
                    } @else {
                        label for="name" { "Name" }
                        input id="name" name="name" autocomplete="username" required;
                    }
                    label for="token" { "Token" }
                    input id="token" name="token" type="password" autocomplete="current-password" required;
                    button type="submit" class="primary" { "Log in" }
                }
            }
        },
    )
}

/// A device's address.
fn address_of(id: &DeviceId) -> String {
    let safe = percent_encoding::NON_ALPHANUMERIC;
    let level = |name: &str| percent_encoding::utf8_percent_encode(name, safe).to_string();
    format!("/devices/{}/{}", level(&id.fleet), level(&id.device))
}

/// A link to a device.
fn link_to(id: &DeviceId) -> Markup {
    html! { a href=(address_of(id)) { (id) } }
}

/// The HTML of a piece as it is sent.
pub fn text(markup: Markup) -> String {
    let PreEscaped(text) = markup;
    text
}
