//! Several devices beside each other.

use maud::{Markup, html};

use super::device::{curves_at, first_range};
use super::{Piece, link_to};
use crate::dashboard::fleet::DeviceId;
use crate::dashboard::fleet::summary::gain;
use crate::dashboard::hub::Hub;
use crate::dashboard::web::words;

/// Devices that can be told apart in one picture.
pub const MAX_COMPARED: usize = 8;

/// What names devices in an address.
pub fn query(devices: &[DeviceId]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(devices.iter().map(|device| ("device", device.to_string()))).finish()
}

/// The devices of an address: `device=fleet/name`, several times.
pub fn parse(query: &str) -> Option<Vec<DeviceId>> {
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "device");
    let devices: Option<Vec<_>> = pairs.map(|(_, device)| DeviceId::parse(&device)).collect();
    devices.filter(|devices| (1..=MAX_COMPARED).contains(&devices.len()))
}

pub fn pieces(hub: &Hub, devices: &[DeviceId], now_ms: u64) -> Vec<Piece> {
    let address = format!("/compare/curves?{}", query(devices));
    let fleet = hub.fleet();
    let first_ms =
        devices.iter().filter_map(|id| fleet.get(id)).map(|device| device.first_ms).min();
    let known_s = now_ms.saturating_sub(first_ms.unwrap_or(now_ms)) / 1000;
    drop(fleet);
    vec![
        Piece::Live("compared", table(hub, devices, now_ms)),
        Piece::Fixed(curves_at(&address, first_range(known_s))),
    ]
}

fn table(hub: &Hub, devices: &[DeviceId], now_ms: u64) -> Markup {
    let fleet = hub.fleet();
    html! {
        section id="compared" data-part aria-label="Now" { div class="scroll" { table class="cards" {
            thead { tr { th scope="col" { "Device" } th scope="col" { "Status" } th scope="col" { "State" } th scope="col" { "Adapter" } th scope="col" { "Gain" } th scope="col" { "Model" } } }
            tbody { @for id in devices {
                @let device = fleet.get(id);
                @let state = device.and_then(|device| device.state());
                @let adapter = state.and_then(|state| state.adapter.as_ref());
                @let model = device.and_then(|device| device.birth()?.model.as_ref());
                tr {
                    th scope="row" { (link_to(id)) }
                    td data-label="Status" { (device.map_or("unknown", |device| device.status_at(now_ms).name())) }
                    td data-label="State" { (state.map_or("–".to_owned(), |state| words::plain(&state.state))) }
                    td data-label="Adapter" { @match adapter { Some(adapter) => { code { (adapter.version) } } None => { "base model" } } }
                    td data-label="Gain" class="number" { (device.and_then(gain).map_or("–".to_owned(), words::points)) }
                    td data-label="Model" { (model.map_or("–".to_owned(), |model| format!("{} {}", model.architecture, model.quantization))) }
                }
            } }
        } } }
    }
}
