//! `/devices.json`: the list of devices for other programs, with the filters of the page.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;

use super::Shared;
use super::query::ListQuery;
use crate::dashboard::fleet::summary::gain;
use crate::dashboard::fleet::{Device, DeviceId, alarms};
use crate::dashboard::hub::now_ms;

/// A device.
#[derive(Serialize)]
pub struct Row {
    fleet: String,
    device: String,
    /// `online`, `silent`, `lost` or `stopped`.
    status: &'static str,
    /// What it does, by the scheduler's name; empty if it has not said.
    state: String,
    reason: String,
    step: u64,
    steps: u64,
    /// Version of the active adapter; null while the base model serves.
    adapter: Option<String>,
    /// What that has gained over its parent, as a share of held-out questions.
    gain: Option<f64>,
    /// Names of alarms, the worst first.
    alarms: Vec<String>,
    /// When anything last arrived, in milliseconds since 1970.
    heard_ms: u64,
}

/// Answers with all devices that the filter takes, by name.
pub async fn show(State(hub): Shared, RawQuery(query): RawQuery) -> Json<Vec<Row>> {
    let filter = ListQuery::parse(&query.unwrap_or_default()).filter;
    let now_ms = now_ms();
    let fleet = hub.fleet();
    Json(fleet.select(&filter, now_ms).map(|(id, device)| row(id, device, now_ms)).collect())
}

fn row(id: &DeviceId, device: &Device, now_ms: u64) -> Row {
    let state = device.state();
    // A state comes at changes; between them the steps are told one by one.
    let step = device.progress().map_or(0, |progress| progress.step);
    Row {
        fleet: id.fleet.clone(),
        device: id.device.clone(),
        status: device.status_at(now_ms).name(),
        state: state.map(|state| state.state.clone()).unwrap_or_default(),
        reason: state.map(|state| state.reason.clone()).unwrap_or_default(),
        step: state.map_or(0, |state| if state.steps == 0 { 0 } else { state.step.max(step) }),
        steps: state.map_or(0, |state| state.steps),
        adapter: state.and_then(|state| Some(state.adapter.as_ref()?.version.clone())),
        gain: gain(device),
        alarms: alarms::of(device, now_ms).into_iter().map(|alarm| alarm.name).collect(),
        heard_ms: device.arrived_ms(),
    }
}
