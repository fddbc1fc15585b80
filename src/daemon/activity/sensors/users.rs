//! People at the device, from logind's session files (`/run/systemd/sessions`), the terminals'
//! access times and the screens' state.
//!
//! A terminal's access time is when a key was last read from it; `w` and logind tell idle time by
//! it. A graphical session has no such time in any file, so it counts while it is in the foreground
//! and a screen is connected and on: desktops blank their screen when nobody is there, and nobody uses a
//! device that logs itself in without a screen. No names leave this file, only counts.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::system::files::{self, Root};

/// People with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct People {
    /// All who are logged in.
    pub present: usize,
    /// Those who use the device.
    pub active: usize,
}

/// Who is here at `wall_s` (unix seconds), where a terminal is unused after `idle_after_s`.
pub fn people(root: &Root, wall_s: i64, idle_after_s: u64) -> io::Result<People> {
    let folder = root.path("/run/systemd/sessions");
    let mut people = People::default();
    let mut screen = None;
    for name in files::names(&folder)? {
        // `<id>.ref` are pipes that logind holds.
        if name.contains('.') {
            continue;
        }
        let Ok(text) = files::text(&folder.join(name)) else {
            continue; // ended since the folder was listed
        };
        let Some(session) = Session::parse(&text) else {
            continue;
        };
        people.present += 1;
        let active = match session.place {
            Place::Terminal(tty) => used(&root.path("/dev").join(tty), wall_s, idle_after_s),
            Place::Screen { foreground } => {
                foreground && *screen.get_or_insert_with(|| screen_is_on(root))
            }
            Place::RemoteScreen => true,
            Place::Nowhere => false,
        };
        people.active += usize::from(active);
    }
    Ok(people)
}

/// Where a person sits.
#[derive(Debug, PartialEq)]
enum Place<'a> {
    /// A terminal below `/dev`: `tty1`, `pts/0`.
    Terminal(&'a str),
    /// A graphical session here.
    Screen { foreground: bool },
    /// A graphical session from elsewhere: nothing shows whether someone is looking at it.
    RemoteScreen,
    /// A session without a terminal, such as a file transfer.
    Nowhere,
}

struct Session<'a> {
    place: Place<'a>,
}

impl<'a> Session<'a> {
    /// The session described by `text`, if it is a person's and has not ended.
    fn parse(text: &'a str) -> Option<Self> {
        let value = |key| files::value_of(text, key);
        // `user`, and since systemd 256 also `user-light` and the like; not `greeter`,
        // `lock-screen`, `background` and `manager`.
        if !value("CLASS")?.starts_with("user") || value("STATE") == Some("closing") {
            return None;
        }
        let place = match (value("TYPE"), value("TTY")) {
            (Some("x11" | "wayland" | "mir"), _) => match value("REMOTE") {
                Some("1") => Place::RemoteScreen,
                _ => Place::Screen { foreground: value("ACTIVE") == Some("1") },
            },
            (_, Some(tty)) if is_terminal(tty) => Place::Terminal(tty),
            _ => Place::Nowhere,
        };
        Some(Self { place })
    }
}

/// Whether `tty` is a name such as `tty1`, `ttyS0` or `pts/3`: a path must not lead elsewhere.
fn is_terminal(tty: &str) -> bool {
    let name = tty.strip_prefix("pts/").unwrap_or(tty);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Whether a key was read from the terminal within `idle_after_s`. A time to come (the clock was
/// set back) counts as use: better to wait than to disturb.
fn used(tty: &Path, wall_s: i64, idle_after_s: u64) -> bool {
    let idle_after_s = i64::try_from(idle_after_s).unwrap_or(i64::MAX);
    fs::symlink_metadata(tty)
        .is_ok_and(|metadata| wall_s.saturating_sub(metadata.atime()) < idle_after_s)
}

/// Whether a connected screen is on, or nothing is known of screens.
fn screen_is_on(root: &Root) -> bool {
    let folder = root.path("/sys/class/drm");
    let names = files::names(&folder).unwrap_or_default();
    let mut sockets = names.iter().filter(|name| name.starts_with("card") && name.contains('-'));
    let mut any = false;
    let on = sockets.any(|name| {
        any = true;
        let field = |field: &str| files::text(&folder.join(name).join(field));
        field("status").is_ok_and(|status| status != "disconnected")
            && !field("dpms").is_ok_and(|dpms| dpms == "Off")
    });
    on || !any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_people_are_told_from_others() {
        let place = |text| Session::parse(text).map(|session| session.place);
        let ssh = "ACTIVE=1\nSTATE=active\nREMOTE=1\nTYPE=tty\nCLASS=user\nTTY=pts/0";
        assert_eq!(place(ssh), Some(Place::Terminal("pts/0")));
        let desktop = "ACTIVE=1\nSTATE=active\nREMOTE=0\nTYPE=wayland\nCLASS=user\nTTY=tty2";
        assert_eq!(place(desktop), Some(Place::Screen { foreground: true }));
        let behind = "ACTIVE=0\nSTATE=online\nREMOTE=0\nTYPE=x11\nCLASS=user";
        assert_eq!(place(behind), Some(Place::Screen { foreground: false }));
        let xrdp = "ACTIVE=1\nSTATE=active\nREMOTE=1\nTYPE=x11\nCLASS=user";
        assert_eq!(place(xrdp), Some(Place::RemoteScreen));
        let sftp = "ACTIVE=1\nSTATE=active\nREMOTE=1\nTYPE=unspecified\nCLASS=user";
        assert_eq!(place(sftp), Some(Place::Nowhere));
        for other in [
            "STATE=closing\nTYPE=tty\nCLASS=user\nTTY=pts/0",
            "STATE=active\nTYPE=wayland\nCLASS=greeter",
            "STATE=active\nTYPE=unspecified\nCLASS=manager",
            "nonsense",
            "",
        ] {
            assert_eq!(place(other), None, "{other}");
        }
    }

    #[test]
    fn a_terminal_is_never_a_path() {
        for tty in ["../etc/passwd", "pts/../x", "", "pts/", "/dev/tty1", ":0"] {
            assert!(!is_terminal(tty), "{tty}");
        }
    }
}
