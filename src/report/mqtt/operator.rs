//! The operator's side: gives one command to one device and follows what becomes of it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::{ConnectOptions, Connection, Lost, Signal};
use crate::contract::envelope::Envelope;
use crate::contract::topics::{CommandTopic, Kind, Topics};
use crate::contract::wire::{Ack, Command, MAX_PAYLOAD_BYTES, Message};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The device says that the command has ended.
    Ended(Ack),
    /// The broker has the command; the device has not said how it ended.
    Sent {
        /// The device's last word.
        last: Option<Ack>,
    },
    /// The broker could not be reached, or does not let us speak.
    NotSent {
        /// Why.
        reason: String,
    },
}

/// Gives `command` in its `envelope` to the device of `topics` and waits until it has ended, for
/// `wait` at most. Each acknowledgement is passed to `heard`. When the connection breaks, the command
/// is sent again under the same id, which acts once. Without a `wait` it ends when the broker has it.
pub async fn give(
    options: &ConnectOptions,
    topics: &Topics,
    command: &Command,
    envelope: &Envelope,
    wait: Option<Duration>,
    mut heard: impl FnMut(&Ack),
) -> Answer {
    // Without a wait for the device, the broker still gets as long as a connection may take.
    let end = Instant::now() + wait.unwrap_or(Duration::from_secs(30));
    let mut attempt = Attempt { topics, command, envelope, sent: false, last: None };
    let mut reason = "the broker did not answer in time".to_owned();
    while Instant::now() < end {
        let mut connection = Connection::open(options);
        let run = attempt.run(&mut connection, wait.is_some(), &mut heard);
        match timeout_at(end, run).await {
            Ok(Ok(answer)) => {
                connection.disconnect();
                let closed = async { while !matches!(connection.next().await, Signal::Down(_)) {} };
                let _ = timeout_at(Instant::now() + PAUSE, closed).await;
                return answer;
            }
            Ok(Err(lost)) => reason = lost.reason,
            Err(_) => break,
        }
        sleep_until(end.min(Instant::now() + PAUSE)).await;
    }
    if attempt.sent { Answer::Sent { last: attempt.last } } else { Answer::NotSent { reason } }
}

struct Attempt<'a> {
    topics: &'a Topics,
    command: &'a Command,
    envelope: &'a Envelope,
    /// Whether the broker has acknowledged the command.
    sent: bool,
    last: Option<Ack>,
}

impl Attempt<'_> {
    async fn run(
        &mut self,
        connection: &mut Connection,
        follow: bool,
        heard: &mut impl FnMut(&Ack),
    ) -> Result<Answer, Lost> {
        let lost = |reason: &str| Lost { reason: reason.to_owned(), unreadable: false };
        let ack_topic = self.topics.of(&Kind::Ack(self.command.id.clone()));
        loop {
            match connection.next().await {
                // Subscribed before the command is sent: no acknowledgement may be missed.
                Signal::Up => {
                    if !connection.subscribe(&ack_topic) {
                        return Err(lost("the connection is stuck"));
                    }
                }
                Signal::Subscribed { granted: false } => {
                    let reason = format!("the broker does not let us read {ack_topic}");
                    return Ok(Answer::NotSent { reason });
                }
                Signal::Subscribed { granted: true } => self.publish(connection)?,
                Signal::Acknowledged { refusal: Some(refusal), .. } => {
                    let reason = format!("the broker refused the command: {}", refusal.reason);
                    return Ok(Answer::NotSent { reason });
                }
                Signal::Acknowledged { .. } => {
                    self.sent = true;
                    if !follow {
                        return Ok(Answer::Sent { last: None });
                    }
                }
                Signal::Message(message) => {
                    // Without this it would come again to an MQTT session that ends anyway.
                    let _ = connection.acknowledge(&message);
                    if message.topic != ack_topic || message.payload.len() > MAX_PAYLOAD_BYTES {
                        continue;
                    }
                    let ack = match Message::<Ack>::parse(&message.payload) {
                        Ok(message) => message.body,
                        Err(why) => {
                            log::warn!("an acknowledgement cannot be used: {why}");
                            continue;
                        }
                    };
                    if self.last.as_ref() != Some(&ack) {
                        heard(&ack);
                    }
                    self.last = Some(ack.clone());
                    if ack.state.is_final() {
                        return Ok(Answer::Ended(ack));
                    }
                }
                Signal::Alive => {}
                Signal::Down(lost) => return Err(lost),
            }
        }
    }

    fn publish(&self, connection: &mut Connection) -> Result<(), Lost> {
        let Command { action, id, .. } = self.command;
        let topic = CommandTopic { action: action.name().to_owned(), id: id.clone() };
        let topic = self.topics.of(&Kind::Command(topic));
        let life = self.command.expires.saturating_sub(self.command.issued);
        let expiry = u32::try_from(life).ok();
        if connection.publish(0, &topic, false, self.envelope.to_json(), expiry) {
            Ok(())
        } else {
            Err(Lost { reason: "the connection is stuck".to_owned(), unreadable: false })
        }
    }
}
