//! What a device may say is bounded, so that a hostile one costs no more memory than another.

use std::collections::BTreeMap;

use crate::contract::event::MAX_SENTENCE_CHARS;
use crate::contract::topics::check_command_id;
use crate::contract::wire::{Ack, Birth, EventMessage, State};

/// Entries of a list or a map.
const MAX_ENTRIES: usize = 64;
/// Characters of a name.
const MAX_NAME_CHARS: usize = 80;
/// Steps of a run: more would only widen the page.
const MAX_STEPS: u64 = 999_999_999;
/// Bytes of an event's fields, as JSON.
const MAX_DETAIL_BYTES: usize = 4096;

fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
    }
}

fn name(text: &mut String) {
    cut(text, MAX_NAME_CHARS);
}

fn sentence(text: &mut String) {
    cut(text, MAX_SENTENCE_CHARS);
}

fn map<T>(map: &mut BTreeMap<String, T>) {
    while map.len() > MAX_ENTRIES {
        map.pop_last();
    }
    map.retain(|key, _| key.chars().count() <= MAX_NAME_CHARS);
}

/// Cuts a state down to size.
pub fn state(state: &mut State) {
    name(&mut state.state);
    sentence(&mut state.reason);
    state.step = state.step.min(MAX_STEPS);
    state.steps = state.steps.min(MAX_STEPS);
    if let Some(adapter) = &mut state.adapter {
        name(&mut adapter.version);
        name(&mut adapter.sha256);
    }
    state.awaiting.iter_mut().for_each(name);
    map(&mut state.counts);
    map(&mut state.dropped);
    map(&mut state.signals);
    map(&mut state.overrides);
    state.overrides.values_mut().for_each(sentence);
    state.alarms.truncate(MAX_ENTRIES);
    for alarm in &mut state.alarms {
        name(&mut alarm.alarm);
        sentence(&mut alarm.sentence);
    }
    state.blockers.truncate(MAX_ENTRIES);
    for blocker in &mut state.blockers {
        name(&mut blocker.blocker);
        sentence(&mut blocker.sentence);
    }
    // The newest versions come last.
    let surplus = state.versions.len().saturating_sub(MAX_ENTRIES);
    state.versions.drain(..surplus);
    for version in &mut state.versions {
        name(&mut version.version);
        name(&mut version.sha256);
        version.parent.iter_mut().for_each(name);
        map(&mut version.numbers);
    }
    if let Some(cycle) = &mut state.last_cycle {
        name(&mut cycle.result);
        sentence(&mut cycle.reason);
        map(&mut cycle.numbers);
    }
}

/// Cuts a birth down to size.
pub fn birth(birth: &mut Birth) {
    name(&mut birth.boot_id);
    name(&mut birth.version);
    let device = &mut birth.device;
    let texts = [&mut device.host, &mut device.hardware, &mut device.os, &mut device.arch];
    texts.into_iter().for_each(name);
    if let Some(model) = &mut birth.model {
        let texts = [&mut model.sha256, &mut model.architecture, &mut model.quantization];
        texts.into_iter().for_each(name);
    }
    map(&mut birth.tags);
    birth.tags.values_mut().for_each(name);
    map(&mut birth.memory_plan_mib);
    birth.capabilities.truncate(MAX_ENTRIES);
    birth.capabilities.iter_mut().for_each(name);
}

/// Cuts an event down to size; fields that are too many are left out altogether.
pub fn event(event: &mut EventMessage) {
    name(&mut event.event);
    sentence(&mut event.sentence);
    if serde_json::to_string(&event.detail).map_or(true, |json| json.len() > MAX_DETAIL_BYTES) {
        event.detail.clear();
    }
}

/// Cuts an acknowledgement down to size; `Err` if its command's id is none.
pub fn ack(ack: &mut Ack) -> Result<(), ()> {
    if let Some(reason) = &mut ack.reason {
        sentence(reason);
    }
    check_command_id(&ack.command).map_err(|_| ())
}

/// Cuts the numbers of a message down to size.
pub fn numbers(numbers: &mut BTreeMap<String, f64>) {
    map(numbers);
    numbers.retain(|_, number| number.is_finite());
}
