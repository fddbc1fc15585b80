//! What operators do from the page.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use super::access::Session;
use super::pages::{MAX_COMPARED, compare_query, confirmation};
use super::query::ListQuery;
use super::{Failure, Shared, words};
use crate::dashboard::fleet::{DeviceId, Seen, alarms};
use crate::dashboard::history::{Acknowledgment, Batch, Deed};
use crate::dashboard::hub::{Hub, Line, now_ms};
use crate::dashboard::orders::{Outgoing, Wish};
use crate::dashboard::rollout::{Plan, Rollout};

/// Devices that one form may name.
const MAX_SELECTED: usize = 20_000;

/// A form as it came.
#[derive(Debug, Default)]
struct Form {
    word: String,
    command: String,
    version: String,
    key: String,
    value: String,
    filter: String,
    alarm: String,
    /// Shares of a roll-out's stages; empty: all at once.
    stages: String,
    /// Minutes between two stages.
    pause: String,
    /// Percent that may fail.
    limit: String,
    rollout: Option<u64>,
    /// Whether all devices are meant that the filter takes.
    all: bool,
    devices: Vec<DeviceId>,
}

impl Form {
    /// Reads a form.
    fn parse(body: &str) -> Result<Self, Failure> {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "word" => form.word = value,
                "command" => form.command = value,
                "version" => form.version = value,
                "key" => form.key = value,
                "value" => form.value = value,
                "filter" => form.filter = value,
                "alarm" => form.alarm = value,
                "stages" => form.stages = value.trim().to_owned(),
                "pause" => form.pause = value,
                "limit" => form.limit = value,
                "rollout" => form.rollout = value.parse().ok(),
                "scope" => form.all = value == "filter",
                "device" => {
                    let device = DeviceId::parse(&value);
                    form.devices.push(device.ok_or_else(|| bad("that is no device's name"))?);
                }
                _ => {}
            }
        }
        form.devices.sort();
        form.devices.dedup();
        Ok(form)
    }

    /// What a confirmation sends again.
    fn fields(&self) -> [(&'static str, &str); 7] {
        [
            ("filter", &self.filter),
            ("command", &self.command),
            ("key", &self.key),
            ("value", &self.value),
            ("stages", &self.stages),
            ("pause", &self.pause),
            ("limit", &self.limit),
        ]
    }

    /// Where to go on: the list that was shown, or the page from which the form came.
    fn back(&self, headers: &HeaderMap) -> String {
        match self.filter.as_str() {
            "" => back(headers),
            filter => ListQuery::parse(filter).address(),
        }
    }

    /// Reads an operator's form about exactly one device.
    fn of_one(session: &Session, headers: &HeaderMap, body: &str) -> Result<Self, Failure> {
        let form = Self::parse(body)?;
        session.owns(headers, &form.word)?;
        session.may_act()?;
        if form.devices.len() == 1 { Ok(form) } else { Err(bad("name one device")) }
    }

    /// The command's version, key and value; fields of other buttons are left alone.
    fn arguments(&self) -> [Option<String>; 3] {
        let takes = |command: &str, text: &String| (self.command == command).then(|| text.clone());
        [takes("promote", &self.version), takes("set", &self.key), takes("set", &self.value)]
    }

    /// What is to be done.
    fn wish(&self) -> Result<Wish, Failure> {
        let [version, key, value] = self.arguments();
        Wish::read(&self.command, version, key, value).map_err(|why| bad(&why))
    }
}

fn bad(why: &str) -> Failure {
    Failure::Refused(StatusCode::BAD_REQUEST, why.to_owned())
}

/// Does what a form asks for with devices: gives them a command, at once or in stages, or compares them.
pub async fn act(
    State(hub): Shared,
    Extension(session): Extension<Arc<Session>>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let mut form = Form::parse(&body)?;
    session.owns(&headers, &form.word)?;
    let compares = form.command == "compare";
    if !compares {
        session.may_act()?;
    }
    let now_ms = now_ms();
    if form.all {
        let filter = ListQuery::parse(&form.filter).filter;
        let fleet = hub.fleet();
        let taken = fleet.select(&filter, now_ms).map(|(id, _)| id.clone());
        form.devices = taken.take(MAX_SELECTED + 1).collect();
    }
    if form.devices.is_empty() {
        return Err(bad("no devices are selected"));
    }
    if form.devices.len() > MAX_SELECTED {
        let most = words::count(MAX_SELECTED);
        return Err(bad(&format!("that is more than {most} devices: choose fewer with a filter")));
    }
    if compares {
        return Ok(Redirect::to(&compared(&form.devices)?).into_response());
    }
    let wish = form.wish()?;
    let back = form.back(&headers);
    if form.all {
        // What is confirmed is what is done: these devices, whichever the filter takes by then.
        let (what, fields) = (wish.in_words(), form.fields());
        return Ok(confirmation(&session, &what, &back, &fields, &form.devices).into_response());
    }
    if !form.stages.is_empty() {
        begin(&hub, &session, &form, &wish, now_ms)?;
        return Ok(Redirect::to("/rollouts").into_response());
    }
    give(&hub, &session, &form.devices, &wish, now_ms)?;
    Ok(Redirect::to(&back).into_response())
}

/// Gives a command to devices at once.
fn give(
    hub: &Hub,
    session: &Session,
    devices: &[DeviceId],
    wish: &Wish,
    now_ms: u64,
) -> Result<(), Failure> {
    let (mut refused, mut why) = (0, String::new());
    for device in devices {
        let outcome = match hub.give(&session.user, device, wish, now_ms) {
            Ok(_) => "given".to_owned(),
            Err(reason) => {
                refused += 1;
                why.clone_from(&reason);
                format!("not given: {reason}")
            }
        };
        note(hub, session, wish.in_words(), device.to_string(), outcome, now_ms);
    }
    if refused == 0 {
        return Ok(());
    }
    let given = words::devices(devices.len() - refused);
    let text = format!("given to {given}, and not to {}: {why}", words::count(refused));
    Err(Failure::Refused(StatusCode::CONFLICT, text))
}

/// The address of the page that compares devices.
fn compared(devices: &[DeviceId]) -> Result<String, Failure> {
    if devices.len() < 2 || devices.len() > MAX_COMPARED {
        return Err(bad(&format!("select 2 to {MAX_COMPARED} devices to compare")));
    }
    Ok(format!("/compare?{}", compare_query(devices)))
}

/// Begins a roll-out in stages.
fn begin(
    hub: &Hub,
    session: &Session,
    form: &Form,
    wish: &Wish,
    now_ms: u64,
) -> Result<(), Failure> {
    if !hub.giver.can() {
        return Err(bad("no operator_key is configured, so no commands can be given"));
    }
    let number = |name: &str, text: &str, most: u32| {
        let number = text.trim().parse::<u32>().ok().filter(|number| *number <= most);
        number.ok_or_else(|| bad(&format!("{name} is a whole number up to {most}")))
    };
    let [version, key, value] = form.arguments();
    let plan = Plan {
        command: form.command.clone(),
        version,
        key,
        value,
        percent: Plan::stages(&form.stages).map_err(|why| bad(&why))?,
        pause_ms: u64::from(number("the pause in minutes", &form.pause, 10_080)?) * 60_000,
        max_failed_percent: number("the share that may fail, in percent,", &form.limit, 100)?,
    };
    hub.begin(Rollout::new(plan, &session.user, &form.devices, now_ms));
    let target = format!("{} in stages {} %", words::devices(form.devices.len()), form.stages);
    note(hub, session, wish.in_words(), target, "begun".to_owned(), now_ms);
    Ok(())
}

/// Stops a roll-out.
pub async fn stop(
    State(hub): Shared,
    Extension(session): Extension<Arc<Session>>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let form = Form::parse(&body)?;
    session.owns(&headers, &form.word)?;
    session.may_act()?;
    let stopped = {
        let mut rollouts = hub.rollouts();
        let rollout = rollouts.iter_mut().find(|rollout| Some(rollout.id) == form.rollout);
        let rollout = rollout.ok_or(Failure::NotFound("roll-out"))?;
        rollout.stop(&format!("{} has stopped it", session.user));
        rollout.clone()
    };
    hub.keep(&stopped);
    let target = words::devices(stopped.devices.len());
    note(&hub, &session, "stop a roll-out".to_owned(), target, "stopped".to_owned(), now_ms());
    Ok(Redirect::to("/rollouts").into_response())
}

/// Notes that the user has seen an alarm.
pub async fn acknowledge(
    State(hub): Shared,
    Extension(session): Extension<Arc<Session>>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let form = Form::of_one(&session, &headers, &body)?;
    let device = &form.devices[0];
    let (now_ms, who, alarm) = (now_ms(), session.user.clone(), form.alarm);
    let known = hub.fleet().get(device).map(|device| alarms::of(device, now_ms));
    if !known.ok_or(Failure::NotFound("device"))?.iter().any(|known| known.name == alarm) {
        return Err(Failure::NotFound("alarm any more"));
    }
    hub.fleet().acknowledge(device, &alarm, Seen { who: who.clone(), at_ms: now_ms });
    let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let what = format!("acknowledge {alarm}");
    let seen = Acknowledgment { device: device.to_string(), alarm, at_ms, who };
    hub.note(Batch { acknowledgments: vec![seen], ..Batch::default() });
    note(&hub, &session, what, device.to_string(), "noted".to_owned(), now_ms);
    Ok(Redirect::to(&back(&headers)).into_response())
}

/// Forgets a device.
pub async fn retire(
    State(hub): Shared,
    Extension(session): Extension<Arc<Session>>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let form = Form::of_one(&session, &headers, &body)?;
    let device = &form.devices[0];
    let cannot = |why: &str| Err(Failure::Refused(StatusCode::CONFLICT, why.to_owned()));
    if !hub.giver.can() {
        return cannot("no operator_key is configured, so this page is read-only");
    }
    if hub.line() != Line::Up {
        return cannot("there is no connection to the broker, which keeps what is to be cleared");
    }
    if let Err(why) = hub.send(Outgoing::Retire(device.clone())) {
        return cannot(why);
    }
    let outcome = "asked of the broker".to_owned();
    note(&hub, &session, "retire".to_owned(), device.to_string(), outcome, now_ms());
    Ok(Redirect::to("/").into_response())
}

fn note(hub: &Hub, session: &Session, what: String, target: String, outcome: String, now_ms: u64) {
    log::info!("{} {what}: {target}: {outcome}", session.user);
    let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let deed = Deed { at_ms, who: session.user.clone(), what, target, outcome };
    hub.note(Batch { deeds: vec![deed], ..Batch::default() });
}

/// The page from which a form was sent; only its path, so that it is one of ours.
fn back(headers: &HeaderMap) -> String {
    let referer = headers.get("referer").and_then(|referer| referer.to_str().ok());
    let path = referer.and_then(|referer| referer.split_once("://")?.1.split_once('/'));
    match path {
        Some((_, path)) if !path.starts_with(['/', '\\']) && !path.starts_with("act") => {
            format!("/{path}")
        }
        _ => "/".to_owned(),
    }
}
