//! Who a [`Link`](super::Link) speaks for, what it reports to the daemon and what it counts.

use std::fmt;
use std::time::Duration;

use crate::contract::event::Sentence;
use crate::contract::topics::Topics;
use crate::contract::wire::wall_clock_ms;
use crate::report::ReportError;
use crate::report::inbox::Accepted;

/// Who speaks: the device's names, and a number of this start of the daemon.
#[derive(Debug, Clone)]
pub struct DeviceIdentity {
    /// The device's topics.
    pub topics: Topics,
    /// Names this start of the daemon; 16 hex digits.
    pub boot_id: String,
}

impl DeviceIdentity {
    /// `device` in `fleet`, with a new boot id.
    ///
    /// # Errors
    /// [`ReportError::Contract`].
    pub fn new(fleet: &str, device: &str) -> Result<Self, ReportError> {
        let mut random = [0u8; 8];
        // Without random numbers the process id and the time still tell starts apart.
        if getrandom::fill(&mut random).is_err() {
            random = (u64::from(std::process::id()) << 40 ^ wall_clock_ms()).to_be_bytes();
        }
        let boot_id = format!("{:016x}", u64::from_be_bytes(random));
        Ok(Self { topics: Topics::new(fleet, device)?, boot_id })
    }
}

/// What [`Link::poll`](super::Link::poll) returns.
#[derive(Debug)]
pub enum LinkEvent {
    /// The broker has accepted us.
    Connected {
        /// Number of the connection.
        connection: u64,
    },
    /// The connection was lost or did not come about.
    Disconnected {
        /// Why.
        reason: String,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The broker does not let us subscribe: no commands will come. Somebody should look at its
    /// access list.
    NotListening,
    /// A command to be done. It is written down; its `received` is on its way. End it with
    /// [`Link::finish`](super::Link::finish).
    Command(Accepted),
    /// A command was not accepted, or came too late. Those without a valid signature are reported
    /// every ten seconds at most.
    Refused {
        /// Why.
        reason: Sentence,
    },
    /// The broker has refused a message for good; it was removed from the outbox.
    MessageRefused {
        /// The broker's reason.
        reason: String,
    },
    /// The ledger failed. What it concerns waits and is tried again.
    LedgerFailed(ReportError),
}

impl fmt::Display for LinkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { connection } => {
                write!(f, "connected to the broker, connection {connection}")
            }
            Self::Disconnected { reason, retry_in } => {
                let retry_s = retry_in.as_secs_f64();
                write!(f, "no connection to the broker: {reason}; next attempt in {retry_s:.1} s")
            }
            Self::NotListening => f.write_str(
                "the broker refuses the subscription to commands; check its access list",
            ),
            Self::Command(command) => {
                write!(f, "command {}: {}", command.id, command.action.name())
            }
            Self::Refused { reason } => write!(f, "refused a command: {reason}"),
            Self::MessageRefused { reason } => {
                write!(f, "the broker refused a message: {reason}; check its access list")
            }
            Self::LedgerFailed(e) => write!(f, "{e}"),
        }
    }
}

/// How the link is doing, for the `state` message and `latrod status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Whether a broker has accepted us.
    pub connected: bool,
    /// Number of the connection, or of the last one.
    pub connection: u64,
    /// Messages that wait for the broker's acknowledgement, on disk and in memory.
    pub waiting: u64,
    /// Bytes of those on disk.
    pub waiting_bytes: u64,
    /// Events dropped because the outbox was full, since the ledger was made.
    pub dropped_events: u64,
    /// Progress messages dropped since the start.
    pub dropped_progress: u64,
    /// Commands refused or too late since the start.
    pub commands_refused: u64,
    /// Messages that the broker has refused for good since the start.
    pub messages_refused: u64,
}
