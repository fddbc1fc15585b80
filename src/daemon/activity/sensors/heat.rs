//! Temperatures: the kernel's thermal zones and hwmon chips.
//!
//! Zones that are disabled, that refuse to be read (on a Jetson Orin those of engines that are
//! switched off or missing: EAGAIN, EINVAL) or that show a value no device survives (-256 °C is
//! Jetson's "none", 127 °C that of an input without a sensor) are passed over; the hottest of the others
//! counts. The kernel's own trip points are not read: throttling begins above the default limit on the
//! boards we know, and trips that start a fan lie far below it.

use std::io;
use std::path::PathBuf;

use crate::system::files::{self, Root};

/// Temperatures that are believed, in °C: no board works beyond them, and inputs of monitoring chips
/// to which nothing is wired often show 127 or 255.
const BELIEVABLE: std::ops::RangeInclusive<f64> = -40.0..=125.0;
/// How many sensors are looked at.
const MAX_SENSORS: usize = 128;

/// One sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// The zone's type, or the chip's name with the sensor's label.
    name: String,
    /// A file with milli-degrees Celsius.
    temp: PathBuf,
    /// For zones that can be switched off, the file that says whether they are.
    mode: Option<PathBuf>,
}

/// The sensors of this device, except those named in `ignore`.
pub fn find(root: &Root, ignore: &[String]) -> Vec<Sensor> {
    let zones = zones(root);
    let mut sensors: Vec<Sensor> = Vec::new();
    for chip in chips(root) {
        // Zones appear as chips once more, under the same name with `_` for `-`.
        let again = zones.iter().any(|zone| zone.name.replace('-', "_") == chip.0);
        if !again && !ignore.contains(&chip.0) {
            sensors.extend(chip.1);
        }
    }
    sensors.extend(zones.into_iter().filter(|zone| !ignore.contains(&zone.name)));
    sensors.truncate(MAX_SENSORS);
    sensors
}

fn zones(root: &Root) -> Vec<Sensor> {
    let folder = root.path("/sys/class/thermal");
    let names = files::names(&folder).unwrap_or_default();
    let zones = names.into_iter().filter(|name| name.starts_with("thermal_zone"));
    zones
        .map(|name| {
            let zone = folder.join(&name);
            Sensor {
                name: files::text(&zone.join("type")).unwrap_or(name),
                temp: zone.join("temp"),
                mode: Some(zone.join("mode")),
            }
        })
        .collect()
}

/// Per chip its name and its sensors.
fn chips(root: &Root) -> Vec<(String, Vec<Sensor>)> {
    let folder = root.path("/sys/class/hwmon");
    let names = files::names(&folder).unwrap_or_default();
    let chip = |name: String| {
        let chip = folder.join(&name);
        let name = files::text(&chip.join("name")).unwrap_or(name);
        let inputs = files::names(&chip).unwrap_or_default();
        let sensors = inputs
            .iter()
            .filter_map(|input| input.strip_suffix("_input").filter(|it| it.starts_with("temp")))
            .map(|input| Sensor {
                name: match files::text(&chip.join(format!("{input}_label"))) {
                    Ok(label) => format!("{name} {label}"),
                    Err(_) => name.clone(),
                },
                temp: chip.join(format!("{input}_input")),
                mode: None,
            })
            .collect();
        (name, sensors)
    };
    names.into_iter().map(chip).collect()
}

/// The hottest of `sensors` and its temperature in °C; `None` if none can be read. An error only if one
/// of them could not be read for lack of permission.
pub fn hottest(sensors: &[Sensor]) -> io::Result<Option<(&str, f64)>> {
    let mut hottest: Option<(&str, f64)> = None;
    let mut failure = None;
    for sensor in sensors {
        if sensor.is_off() {
            continue;
        }
        match files::number(&sensor.temp) {
            Ok(milli) => {
                let celsius = milli / 1000.0;
                if BELIEVABLE.contains(&celsius) && hottest.is_none_or(|(_, most)| celsius > most) {
                    hottest = Some((&sensor.name, celsius));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failure = Some(error),
            Err(_) => {}
        }
    }
    match (hottest, failure) {
        (None, Some(error)) => Err(error),
        (hottest, _) => Ok(hottest),
    }
}

impl Sensor {
    fn is_off(&self) -> bool {
        self.mode
            .as_ref()
            .is_some_and(|mode| files::text(mode).is_ok_and(|text| text == "disabled"))
    }
}
