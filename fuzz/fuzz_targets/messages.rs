//! Any bytes as messages of devices and as commands: the fleet stays a fleet, and nothing panics.
//!
//! `cargo +nightly fuzz run messages fuzz/corpus/messages -- -max_len=4096`

#![no_main]

use latrod::contract::envelope::Envelope;
use latrod::contract::wire::Command;
use latrod::dashboard::fleet::summary::Summary;
use latrod::dashboard::fleet::{Arrival, Fleet, alarms};
use libfuzzer_sys::fuzz_target;

const KINDS: [&str; 7] =
    ["status", "birth", "state", "progress", "event", "ack/c1", "cmd/pause/c1"];
/// 2026.
const START_MS: u64 = 1_780_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    let mut fleet = Fleet::default();
    let mut at_ms = START_MS;
    // Each message: what kind it is and whether it was retained, how much later it comes, and a line of JSON.
    for message in bytes.split(|byte| *byte == b'\n') {
        let [kind, later, payload @ ..] = message else { continue };
        let kind_name = KINDS[usize::from(*kind) % KINDS.len()];
        let device = usize::from(*kind) / 16 % 3;
        at_ms += u64::from(*later) * u64::from(*later) * 100;
        let topic = format!("latro/v2/f/d{device}/{kind_name}");
        let retained = kind & 8 != 0;
        let _ = fleet.hear(Arrival { topic: &topic, payload, retained, at_ms });
        let _ = Command::parse(payload);
        let _ = Envelope::parse(payload);
    }
    let summary = Summary::of(&fleet, at_ms + 1_000_000);
    assert!(summary.devices <= 3);
    for (_, device) in fleet.iter() {
        let _ = alarms::of(device, at_ms);
    }
});
