//! The thread that takes messages in and sends commands.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::DashboardError;
use super::curves;
use super::fleet::{Arrival, DeviceId, Heard};
use super::history::{Batch, Happening, Sample, Spent};
use super::hub::{Hub, Line, now_ms};
use super::orders::Outgoing;
use crate::contract::topics::Topics;
use crate::report::mqtt::subscriber::{Received, Subscriber};

/// How messages that retire a device are named, before its name.
const RETIRE: &str = "retire ";

/// Starts it. It runs as long as the program.
pub fn start(
    hub: Arc<Hub>,
    subscriber: Subscriber,
    orders: mpsc::Receiver<Outgoing>,
) -> Result<(), DashboardError> {
    let cannot = || DashboardError::system("the listener cannot start");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(cannot())?;
    let run = move || runtime.block_on(listen(&hub, subscriber, orders));
    std::thread::Builder::new().name("listener".into()).spawn(run).map_err(cannot())?;
    Ok(())
}

async fn listen(hub: &Hub, mut subscriber: Subscriber, mut orders: mpsc::Receiver<Outgoing>) {
    loop {
        tokio::select! {
            received = subscriber.next() => take(hub, received),
            outgoing = orders.recv() => match outgoing {
                Some(outgoing) => send(hub, &mut subscriber, outgoing),
                None => return,
            },
        }
    }
}

fn take(hub: &Hub, received: Received) {
    match received {
        Received::Message(message) => {
            let arrival = Arrival {
                topic: &message.topic,
                payload: &message.payload,
                retained: message.retained,
                at_ms: now_ms(),
            };
            let heard = hub.fleet().hear(arrival);
            match heard {
                Ok((id, heard)) => hub.record(batch(&id, heard, arrival.at_ms)),
                Err(why) => log::debug!("{}: {why:?}", message.topic),
            }
        }
        Received::Passed { id, refusal } => passed(hub, &id, refusal),
        Received::Up => {
            log::info!("listening to the fleet");
            hub.set_line(Line::Up);
        }
        Received::Forbidden => {
            let why = "the broker does not let us read some of page.fleets".to_owned();
            log::error!("{why}");
            hub.set_line(Line::Down(why));
        }
        Received::Down { reason } => {
            if hub.line() != Line::Down(reason.clone()) {
                log::warn!("no connection to the broker: {reason}");
            }
            hub.set_line(Line::Down(reason));
        }
    }
}

/// The broker has a message, or will not get it.
fn passed(hub: &Hub, id: &str, refusal: Option<String>) {
    if let Some(device) = id.strip_prefix(RETIRE).and_then(DeviceId::parse) {
        match refusal {
            None => hub.fleet().retire(&device),
            Some(why) => log::warn!("{device} cannot be retired: {why}"),
        }
        return;
    }
    let Some(device) = hub.giver.ended(id) else { return };
    match refusal {
        None => {
            if let Some(device) = hub.fleet().get_mut(&device) {
                device.orders.sent(id);
            }
        }
        Some(why) => hub.unsent(&device, id, &why),
    }
}

fn send(hub: &Hub, subscriber: &mut Subscriber, outgoing: Outgoing) {
    match outgoing {
        Outgoing::Command { device, command, envelope } => {
            let Ok(topics) = Topics::new(&device.fleet, &device.device) else { return };
            if !subscriber.send(&topics, &command, &envelope) {
                hub.giver.ended(&command.id);
                hub.unsent(&device, &command.id, "too many commands wait for the broker");
            }
        }
        Outgoing::Retire(device) => {
            let Ok(topics) = Topics::new(&device.fleet, &device.device) else { return };
            if !subscriber.clear(&format!("{RETIRE}{device}"), &topics) {
                log::warn!("{device} cannot be retired: too many messages wait for the broker");
            }
        }
    }
}

/// What is kept of a message.
fn batch(id: &DeviceId, heard: Heard, at_ms: u64) -> Batch {
    let mut batch = Batch::default();
    let (device, at_ms) = (id.to_string(), i64::try_from(at_ms).unwrap_or(i64::MAX));
    let kept = heard.numbers.into_iter().filter(|(name, _)| curves::is_kept(name));
    let numbers: Vec<_> = kept.collect();
    if let Some(happening) = heard.happening {
        let event = happening.event;
        batch.happenings.push(Happening {
            device: device.clone(),
            at_ms,
            id: happening.id,
            event: event.event,
            severity: event.severity.name().to_owned(),
            sentence: event.sentence,
            detail: serde_json::to_string(&event.detail).unwrap_or_default(),
        });
    }
    if let Some(spent) = heard.spent {
        let device = device.clone();
        let (state, reason, ms) = (spent.state, spent.reason, spent.ms);
        batch.spent.push(Spent { device, at_ms, state, reason, ms });
    }
    if !numbers.is_empty() {
        batch.samples.push(Sample { device, at_ms, numbers });
    }
    batch
}
