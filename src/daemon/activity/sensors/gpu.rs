//! The load of the GPU where the kernel reports it in a file: Jetson's own GPU, and amdgpu.
//!
//! Discrete NVIDIA GPUs have no such file (their driver's library would be needed): absent there.
//! The load is that of the whole GPU, ours included.

use std::io;
use std::path::PathBuf;

use crate::system::files::{self, Root};

/// A file that holds a load.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadFile {
    path: PathBuf,
    /// The value that stands for 100 %.
    full: f64,
}

/// Names of Jetson GPUs in `/sys/class/devfreq`, behind the address: `17000000.ga10b` is an Orin
/// under `JetPack` 5, `17000000.gpu` under `JetPack` 6; gv11b is Xavier, gp10b TX2, gm20b Nano.
const JETSON_GPUS: [&str; 5] = [".gpu", ".ga10b", ".gv11b", ".gp10b", ".gm20b"];
/// Links to the same file on some releases, for kernels without devfreq.
const JETSON_LINKS: [&str; 2] = ["/sys/devices/platform/gpu.0/load", "/sys/devices/gpu.0/load"];

/// The load files of this device.
pub fn find(root: &Root) -> Vec<LoadFile> {
    let devfreq = root.path("/sys/class/devfreq");
    let by_name = files::names(&devfreq)
        .unwrap_or_default()
        .into_iter()
        .filter(|name| JETSON_GPUS.iter().any(|gpu| name.ends_with(gpu)));
    // Jetson reports tenths of a percent.
    let jetson = by_name
        .map(|name| devfreq.join(name).join("device/load"))
        .chain(JETSON_LINKS.iter().map(|link| root.path(link)))
        .find(|path| path.exists())
        .map(|path| LoadFile { path, full: 1000.0 });

    let drm = root.path("/sys/class/drm");
    // `card1` is a GPU, `card1-HDMI-A-1` a socket of it.
    let cards = files::names(&drm)
        .unwrap_or_default()
        .into_iter()
        .filter(|name| name.starts_with("card") && !name.contains('-'));
    let amd = cards
        .map(|name| drm.join(name).join("device/gpu_busy_percent"))
        .filter(|path| path.exists())
        .map(|path| LoadFile { path, full: 100.0 });
    jetson.into_iter().chain(amd).collect()
}

/// The highest load among `loads`, in percent; none without any. An error only if none can be read.
pub fn load(loads: &[LoadFile]) -> io::Result<Option<f64>> {
    let mut highest: Option<f64> = None;
    let mut failure = None;
    for file in loads {
        match files::number(&file.path) {
            Ok(value) => {
                let percent = (100.0 * value / file.full).clamp(0.0, 100.0);
                highest = Some(highest.map_or(percent, |other| other.max(percent)));
            }
            Err(error) => failure = Some(error),
        }
    }
    match (highest, failure) {
        (None, Some(error)) => Err(error),
        (highest, _) => Ok(highest),
    }
}
