//! What happens to a device within a day, and its files at any second of it.

use std::fs;
use std::path::Path;

/// The machine's cores, and its clock's ticks in a second.
pub const CORES: u64 = 4;
pub const HERTZ: u64 = 100;

const fn at(hour: u64, minute: u64) -> u64 {
    hour * 3600 + minute * 60
}

const fn within(t: u64, from: u64, to: u64) -> bool {
    from <= t && t < to
}

/// The day, second by second.
pub struct Script;

impl Script {
    /// Load by others, percent.
    pub fn load(t: u64) -> u64 {
        match t {
            // A timer job each hour, for one second: no reason to stop.
            _ if t.is_multiple_of(3600) => 90,
            _ if within(t, at(2, 0), at(3, 0)) => 60,
            _ if within(t, at(9, 0), at(12, 0)) || within(t, at(14, 0), at(19, 30)) => 35,
            _ if within(t, at(12, 30), at(13, 0)) => 45,
            _ if within(t, at(20, 0), at(21, 30)) => 25 + t % 40,
            _ => 3,
        }
    }

    /// Degrees Celsius.
    pub fn heat(t: u64) -> u64 {
        match t {
            _ if within(t, at(4, 0), at(4, 30)) => 88,
            // Cooling, but not cool yet: 70 is.
            _ if within(t, at(4, 30), at(4, 45)) => 75,
            _ => 55,
        }
    }

    pub fn mains(t: u64) -> bool {
        !within(t, at(5, 30), at(6, 15))
    }

    pub fn inhibited(t: u64) -> bool {
        within(t, at(13, 10), at(13, 30))
    }

    pub fn window(t: u64) -> bool {
        within(t, 0, at(8, 0)) || within(t, at(12, 0), at(14, 0)) || t >= at(20, 0)
    }

    pub fn paused(t: u64) -> bool {
        within(t, at(22, 30), at(23, 0))
    }

    pub fn broker(t: u64) -> bool {
        !(within(t, at(1, 0), at(3, 30)) || within(t, at(21, 0), at(23, 10)))
    }

    /// New tasks of this second.
    pub fn tasks(t: u64) -> usize {
        match t {
            60 => 400,
            _ if t == at(11, 55) || t == at(19, 0) => 150,
            _ if t == at(22, 0) => 40,
            _ => 0,
        }
    }

    /// Whether training may run.
    pub fn allows(t: u64) -> bool {
        let cool = Self::heat(t) < 80 && !within(t, at(4, 0), at(4, 45));
        let spike = t.is_multiple_of(3600);
        (Self::load(t) <= 30 || spike)
            && cool
            && Self::mains(t)
            && !Self::inhibited(t)
            && Self::window(t)
            && !Self::paused(t)
    }
}

/// The files of the device.
pub fn write_device(root: &Path, t: u64, others: u64, worker: u64) {
    let total = t * CORES * HERTZ;
    let busy = others + worker;
    let idle = total.saturating_sub(busy);
    write(
        root,
        "proc/stat",
        &format!(
            "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\ncpu2 0 0 0 0\ncpu3 0 0 0 0\n"
        ),
    );
    write(
        root,
        "proc/7/stat",
        &format!("7 (latrod) R 1 7 7 0 -1 0 0 0 0 0 {worker} 0 0 0 39 19 4 0 100 0 0\n"),
    );
    write(root, "sys/class/thermal/thermal_zone0/temp", &format!("{}000\n", Script::heat(t)));
    let online = u8::from(Script::mains(t));
    write(root, "sys/class/power_supply/AC/online", &format!("{online}\n"));
    let inhibit = root.join("in-use");
    if Script::inhibited(t) {
        fs::write(&inhibit, "").unwrap();
    } else {
        let _ = fs::remove_file(&inhibit);
    }
}

pub fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
