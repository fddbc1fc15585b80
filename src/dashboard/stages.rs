//! Turns roll-outs: looks at how their devices fare and commands the next ones.

use std::sync::Arc;
use std::time::Duration;

use super::fleet::{DeviceId, Fleet, Status, alarms};
use super::hub::{Hub, now_ms};
use super::rollout::{Outcome, Progress, Rollout};
use crate::contract::event::Severity;
use crate::contract::wire::AckState;

/// Time between two turns.
const EVERY: Duration = Duration::from_secs(1);

/// Turns them for as long as the program runs.
pub async fn run(hub: Arc<Hub>) {
    let mut clock = tokio::time::interval(EVERY);
    loop {
        clock.tick().await;
        turn(&hub);
    }
}

fn turn(hub: &Hub) {
    let now_ms = now_ms();
    let mut rollouts = hub.rollouts();
    for rollout in rollouts.iter_mut().filter(|it| it.progress == Progress::Running) {
        let next = {
            let fleet = hub.fleet();
            rollout.turn(now_ms, |device, command| outcome(&fleet, device, command, now_ms))
        };
        give(hub, rollout, &next, now_ms);
        // How many have answered meanwhile is in the fleet; only what is decided here is written down.
        if !next.is_empty() || rollout.progress != Progress::Running {
            hub.keep(rollout);
        }
    }
}

/// Commands the devices of a stage. One that cannot be commanded has failed.
fn give(hub: &Hub, rollout: &mut Rollout, devices: &[String], now_ms: u64) {
    let Ok(wish) = rollout.plan.wish() else { return rollout.stop("its command is none") };
    for device in devices {
        let id = DeviceId::parse(device);
        let given = id.map(|id| hub.give(&rollout.who, &id, &wish, now_ms));
        rollout.gave(device, &given.and_then(Result::ok).unwrap_or_default());
    }
}

/// How a device fares with a command.
fn outcome(fleet: &Fleet, device: &str, command: &str, now_ms: u64) -> Outcome {
    let device = DeviceId::parse(device).and_then(|id| fleet.get(&id));
    let Some((device, order)) = device.and_then(|it| Some((it, it.orders.get(command)?))) else {
        return Outcome::Failed;
    };
    let is_worse = || {
        device.status_at(now_ms) == Status::Lost
            || alarms::worst(device, now_ms) >= Some(Severity::Error)
    };
    match order.said.map(|(state, _)| state) {
        Some(AckState::Done) if is_worse() => Outcome::Worse,
        Some(AckState::Done) => Outcome::Done,
        _ if order.is_over(now_ms) => Outcome::Failed,
        _ => Outcome::Waiting,
    }
}
