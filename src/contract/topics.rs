//! Every topic string of the MQTT contract, `latro/v2/<fleet>/<device>/…`, in one place.
//!
//! Names are checked here once, so that a name can neither add levels to a topic nor turn a
//! subscription into a wildcard. Knows nothing of what the messages say.

use crate::contract::ContractError;

/// The contract's name and version; the first two levels of every topic. The version is that of the
/// messages, [`crate::contract::wire::VERSION`].
pub const ROOT: &str = "latro/v2";

/// Longest name of a fleet or a device, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;

/// Longest id of a command, in bytes; also the longest type in a command's topic.
pub const MAX_COMMAND_ID_BYTES: usize = 64;

/// What a message to or from a device is, by the levels after the device's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Online or offline; the last will. QoS 1, retained.
    Status,
    /// Who the device is. QoS 1, retained.
    Birth,
    /// What it does and why. QoS 1, retained.
    State,
    /// One training step's numbers. QoS 0.
    Progress,
    /// Something that happened. QoS 1.
    Event,
    /// A command. QoS 1. Its type is a level of its own, so that a broker's access list can allow
    /// some commands and forbid others.
    Command(CommandTopic),
    /// What became of a command, by its id. QoS 1.
    Ack(String),
}

impl Kind {
    /// The level after the device's name; commands and acknowledgements have more levels behind it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Birth => "birth",
            Self::State => "state",
            Self::Progress => "progress",
            Self::Event => "event",
            Self::Command(_) => "cmd",
            Self::Ack(_) => "ack",
        }
    }
}

/// The levels of a command's topic after `cmd`. The signed command must say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTopic {
    /// What it asks for: `pause`, `promote` …
    pub action: String,
    /// The command's id.
    pub id: String,
}

/// The topics of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    fleet: String,
    device: String,
}

impl Topics {
    /// The topics of `device` in `fleet`.
    ///
    /// # Errors
    /// [`ContractError::Name`] for a name that cannot be a level of a topic.
    pub fn new(fleet: &str, device: &str) -> Result<Self, ContractError> {
        check_name("the fleet's name", fleet)?;
        check_name("the device's name", device)?;
        Ok(Self { fleet: fleet.to_owned(), device: device.to_owned() })
    }

    /// The fleet's name.
    #[must_use]
    pub fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The topic for messages of `kind`.
    #[must_use]
    pub fn of(&self, kind: &Kind) -> String {
        let Self { fleet, device } = self;
        let rest = match kind {
            Kind::Command(CommandTopic { action, id }) => format!("/{action}/{id}"),
            Kind::Ack(id) => format!("/{id}"),
            _ => String::new(),
        };
        format!("{ROOT}/{fleet}/{device}/{}{rest}", kind.name())
    }

    /// What the device subscribes to: all of its commands, whatever their type and id.
    #[must_use]
    pub fn command_filter(&self) -> String {
        format!("{ROOT}/{}/{}/cmd/+/+", self.fleet, self.device)
    }

    /// Type and id in a command's topic; nothing if the topic is not a command of this device.
    #[must_use]
    pub fn command(&self, topic: &str) -> Option<CommandTopic> {
        match parse(topic)? {
            (fleet, device, Kind::Command(command))
                if fleet == self.fleet && device == self.device =>
            {
                Some(command)
            }
            _ => None,
        }
    }
}

/// Whether a topic is one of version 1 of the contract, which brokers still deliver to a device that
/// subscribed under it.
#[must_use]
pub fn is_version_1(topic: &str) -> bool {
    topic.starts_with("latro/v1/")
}

/// Takes a topic apart: fleet, device and kind; nothing if it is not one of the contract's.
#[must_use]
pub fn parse(topic: &str) -> Option<(String, String, Kind)> {
    let rest = topic.strip_prefix(ROOT)?.strip_prefix('/')?;
    let mut levels = rest.split('/');
    let (fleet, device, kind) = (levels.next()?, levels.next()?, levels.next()?);
    check_name("", fleet).ok()?;
    check_name("", device).ok()?;
    let more = [levels.next(), levels.next()];
    if levels.next().is_some() {
        return None;
    }
    let kind = match (kind, more) {
        ("status", [None, None]) => Kind::Status,
        ("birth", [None, None]) => Kind::Birth,
        ("state", [None, None]) => Kind::State,
        ("progress", [None, None]) => Kind::Progress,
        ("event", [None, None]) => Kind::Event,
        ("cmd", [Some(action), Some(id)]) => {
            Kind::Command(CommandTopic { action: checked_id(action)?, id: checked_id(id)? })
        }
        ("ack", [Some(id), None]) => Kind::Ack(checked_id(id)?),
        _ => return None,
    };
    Some((fleet.to_owned(), device.to_owned(), kind))
}

fn checked_id(id: &str) -> Option<String> {
    check_command_id(id).is_ok().then(|| id.to_owned())
}

/// Whether `name` can be a level of a topic, that is, a fleet or a device: 1 to
/// [`MAX_NAME_BYTES`] bytes without `/`, `+`, `#`, control characters, marks of direction, spaces at an end or a
/// leading `$`, which brokers keep for themselves (MQTT 3.1.1, 4.7.2).
///
/// # Errors
/// [`ContractError::Name`], which says `what` the name belongs to.
pub fn check_name(what: &'static str, name: &str) -> Result<(), ContractError> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("it has {} bytes, {MAX_NAME_BYTES} are allowed", name.len())
    } else if let Some(c) = name.chars().find(|c| matches!(c, '/' | '+' | '#') || c.is_control()) {
        format!("it contains {c:?}")
    } else if name.chars().any(is_direction) {
        "it contains a mark that changes the direction of writing".to_owned()
    } else if matches!(name, "." | "..") {
        "web addresses cannot hold it".to_owned()
    } else if name.starts_with('$') {
        "it starts with $".to_owned()
    } else if name.trim() != name {
        "it starts or ends with a space".to_owned()
    } else {
        return Ok(());
    };
    Err(ContractError::Name { what, why })
}

/// Marks with which a name could pass for another one (Unicode, UAX #9).
const fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `id` can name a command: 1 to [`MAX_COMMAND_ID_BYTES`] of ASCII letters, digits, `-`
/// and `_`.
///
/// # Errors
/// [`ContractError::Name`].
pub fn check_command_id(id: &str) -> Result<(), ContractError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if !id.is_empty() && id.len() <= MAX_COMMAND_ID_BYTES && id.bytes().all(allowed) {
        return Ok(());
    }
    let why = format!("1 to {MAX_COMMAND_ID_BYTES} letters, digits, - and _ are allowed");
    Err(ContractError::Name { what: "the command's id", why })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> [Kind; 7] {
        let id = "0a-Z_9".to_owned();
        [
            Kind::Status,
            Kind::Birth,
            Kind::State,
            Kind::Progress,
            Kind::Event,
            Kind::Command(CommandTopic { action: "train_now".to_owned(), id: id.clone() }),
            Kind::Ack(id),
        ]
    }

    #[test]
    fn topics_are_those_of_the_contract() {
        let topics = Topics::new("press", "jetson-3").unwrap();

        let all = kinds().map(|k| topics.of(&k));

        let ids = ["cmd/train_now/0a-Z_9", "ack/0a-Z_9"];
        let names = ["status", "birth", "state", "progress", "event", ids[0], ids[1]];
        assert_eq!(all, names.map(|n| format!("latro/v2/press/jetson-3/{n}")));
        assert_eq!(topics.command_filter(), "latro/v2/press/jetson-3/cmd/+/+");
        assert_eq!(ROOT, format!("latro/v{}", crate::contract::wire::VERSION));
    }

    #[test]
    fn a_topic_is_taken_apart_again() {
        let topics = Topics::new("Fabrik Süd", "ø-1").unwrap();
        for kind in kinds() {
            let parsed = parse(&topics.of(&kind)).unwrap();
            assert_eq!(parsed, ("Fabrik Süd".to_owned(), "ø-1".to_owned(), kind));
        }
    }

    #[test]
    fn a_command_counts_only_for_its_device() {
        let topics = Topics::new("f", "d").unwrap();
        let pause = topics.command("latro/v2/f/d/cmd/pause/7");
        assert_eq!(pause, Some(CommandTopic { action: "pause".to_owned(), id: "7".to_owned() }));
        let others = ["v2/f/e/cmd/pause/7", "v2/f/d/ack/7", "v2/f/d/cmd", "v2/f/d/cmd/pause"];
        let odd = ["v2/f/d/cmd/pause/7/8", "v2/f/d/cmd/pause/ä", "v2/f/d/cmd//7", "v1/f/d/cmd/7"];
        for other in others.iter().chain(&odd).map(|rest| format!("latro/{rest}")) {
            assert_eq!(topics.command(&other), None, "{other}");
            assert_eq!(is_version_1(&other), other.contains("v1"), "{other}");
        }
        assert_eq!(topics.command("f/d/cmd/pause/7"), None);
        assert_eq!(topics.command(""), None);
    }

    #[test]
    fn names_that_would_change_a_topic_are_refused() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for name in [
            "",
            ".",
            "..",
            "a\u{202e}b",
            "a/b",
            "+",
            "#",
            "a+",
            "\0",
            "a\nb",
            "$SYS",
            " a",
            "a ",
            &long,
        ] {
            assert!(Topics::new(name, "d").is_err(), "{name:?}");
            assert!(Topics::new("f", name).is_err(), "{name:?}");
        }
    }

    proptest! {
        /// Whatever a name is, it is refused or stands alone on its level.
        #[test]
        fn a_name_never_adds_a_level(fleet in ".{0,80}", device in ".{0,80}") {
            if let Ok(topics) = Topics::new(&fleet, &device) {
                let topic = topics.of(&Kind::Event);
                prop_assert_eq!(topic.split('/').count(), 5);
                prop_assert!(!topic.contains(['+', '#']));
                prop_assert_eq!(parse(&topic), Some((fleet, device, Kind::Event)));
            }
        }

        #[test]
        fn parsing_never_panics(topic in ".*") {
            let _ = parse(&topic);
        }
    }
}
