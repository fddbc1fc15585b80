//! Mains or battery, from `/sys/class/power_supply`.
//!
//! Batteries of mice and headsets (`scope` = Device) are not ours. A supply that is offline doesn't
//! prove that the device runs from its battery: a Jetson's USB-C socket says `online` 0 while the
//! barrel plug feeds it. A battery that charges, or is full, does prove mains.

use std::io;

use crate::system::files::{self, Root};

/// What feeds the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Supply {
    pub on_mains: bool,
    /// Charge in percent, the mean of all batteries; `None` if none reports it.
    pub charge_percent: Option<f64>,
}

/// What feeds the device; none if it has no battery.
pub fn supply(root: &Root) -> io::Result<Option<Supply>> {
    let folder = root.path("/sys/class/power_supply");
    let mut online = false;
    let mut charges = Vec::new();
    let mut statuses = Vec::new();
    for name in files::names(&folder)? {
        let folder = folder.join(name);
        let field = |name: &str| files::text(&folder.join(name)).unwrap_or_default();
        if field("scope") == "Device" {
            continue;
        }
        match field("type").as_str() {
            "" => {}
            "Battery" | "UPS" => {
                if field("present") != "0" {
                    statuses.push(field("status"));
                    let charge = field("capacity").parse().ok();
                    charges.extend(charge.filter(|charge: &f64| (0.0..=100.0).contains(charge)));
                }
            }
            // Mains, USB in its kinds, Wireless: whatever brings power from outside.
            _ => online |= matches!(field("online").as_str(), "1" | "2"),
        }
    }
    if statuses.is_empty() {
        return Ok(None);
    }
    let fed = |status: &String| matches!(status.as_str(), "Charging" | "Full" | "Not charging");
    let drained = |status: &String| status == "Discharging";
    let charge_percent = match charges.len() {
        0 => None,
        count => Some(charges.iter().sum::<f64>() / count as f64),
    };
    Ok(Some(Supply {
        on_mains: online || (statuses.iter().any(fed) && !statuses.iter().any(drained)),
        charge_percent,
    }))
}
