//! What kind of device this is, for the birth message.

use std::collections::BTreeMap;
use std::fs;

use crate::contract::wire::{Action, Birth, DeviceInfo};
use crate::system::files::Root;
use crate::system::proc;

/// The birth message as far as it is known before a model is loaded.
pub(super) fn birth(tags: BTreeMap<String, String>) -> Birth {
    let mut capabilities: Vec<String> = Action::NAMES.iter().map(|&name| name.to_owned()).collect();
    capabilities.push("signed_commands".into());
    Birth {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: device(),
        tags,
        capabilities,
        ..Birth::default()
    }
}

fn device() -> DeviceInfo {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    DeviceInfo {
        host: text(uname.nodename()),
        hardware: hardware().unwrap_or_default(),
        os: format!("{} {}", text(uname.sysname()), text(uname.release())),
        arch: std::env::consts::ARCH.to_owned(),
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        memory_mib: memory_mib().unwrap_or(0),
    }
}

/// The board's name: from the device tree (ARM) or from the firmware (PCs).
fn hardware() -> Option<String> {
    let paths = ["/proc/device-tree/model", "/sys/class/dmi/id/product_name"];
    let text = paths.iter().find_map(|path| fs::read_to_string(path).ok())?;
    let line: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    Some(line.trim().to_owned())
}

fn memory_mib() -> Option<u64> {
    Some(proc::meminfo(&Root::new("/")).ok()?.total? >> 20)
}
