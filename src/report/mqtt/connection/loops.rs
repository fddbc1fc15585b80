//! The two event loops of `rumqttc` behind one interface: options for each, events of both as reports.

use rumqttc::v5::mqttbytes::v5 as packets5;
use rumqttc::{NetworkOptions, Outgoing, Transport, v5};
use tokio::sync::mpsc;

use super::{ConnectOptions, Incoming, Lost, Refusal, Report, Signal, Ticket, Will};
use crate::report::mqtt::settings::Broker;

/// Largest packet that is read. A larger one ends the connection, so it lies well above what is
/// looked at ([`crate::contract::wire::MAX_COMMAND_BYTES`]): a command that is too large is refused,
/// not fatal.
const MAX_INCOMING_BYTES: u32 = 1 << 20;

/// Largest packet that is written: the largest payload and room for its topic.
const MAX_OUTGOING_BYTES: usize = crate::contract::wire::MAX_PAYLOAD_BYTES + 4096;

/// Time for DNS, TCP, TLS and CONNACK together, and for writing one packet.
const NETWORK_TIMEOUT_S: u64 = 20;

/// `rumqttc` reuses packet ids after this many and stalls if one is still in use: far more than messages
/// without an acknowledgement, and not too many, since each takes some 200 bytes from the beginning.
fn packet_ids(options: &ConnectOptions) -> u16 {
    options.max_inflight.saturating_mul(16).clamp(32, 1024)
}

/// How long an MQTT 5 broker keeps commands for an absent device, in seconds: the longest life of a
/// command. By MQTT 3.1.1 the broker decides.
const SESSION_EXPIRY_S: u32 = 7 * 86_400;

pub(super) fn network_options() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(NETWORK_TIMEOUT_S);
    network
}

fn transport(options: &ConnectOptions) -> Transport {
    match &options.tls {
        Some(config) => {
            Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config.clone()))
        }
        None => Transport::Tcp,
    }
}

pub(super) fn options_v4(options: &ConnectOptions) -> rumqttc::MqttOptions {
    let Broker { host, port, .. } = &options.broker;
    let mut mqtt = rumqttc::MqttOptions::new(&options.client_id, host, *port);
    mqtt.set_transport(transport(options))
        .set_keep_alive(options.keep_alive)
        .set_clean_session(options.clean)
        .set_manual_acks(true)
        .set_inflight(packet_ids(options))
        .set_max_packet_size(MAX_INCOMING_BYTES as usize, MAX_OUTGOING_BYTES);
    if let Some((user, password)) = &options.credentials {
        mqtt.set_credentials(user, password);
    }
    if let Some(Will { topic, payload }) = &options.will {
        let qos = rumqttc::QoS::AtLeastOnce;
        mqtt.set_last_will(rumqttc::LastWill::new(topic, payload.clone(), qos, true));
    }
    mqtt
}

pub(super) fn options_v5(options: &ConnectOptions) -> v5::MqttOptions {
    let Broker { host, port, .. } = &options.broker;
    let mut mqtt = v5::MqttOptions::new(&options.client_id, host, *port);
    mqtt.set_transport(transport(options))
        .set_keep_alive(options.keep_alive)
        .set_clean_start(options.clean)
        .set_manual_acks(true)
        .set_connection_timeout(NETWORK_TIMEOUT_S)
        .set_network_options(network_options())
        .set_outgoing_inflight_upper_limit(packet_ids(options))
        .set_max_packet_size(Some(MAX_INCOMING_BYTES))
        .set_session_expiry_interval(Some(if options.clean { 0 } else { SESSION_EXPIRY_S }));
    if let Some((user, password)) = &options.credentials {
        mqtt.set_credentials(user, password);
    }
    if let Some(Will { topic, payload }) = &options.will {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        mqtt.set_last_will(packets5::LastWill::new(topic, payload.clone(), qos, true, None));
    }
    mqtt
}

pub(super) async fn run_v4(mut events: rumqttc::EventLoop, reports: mpsc::Sender<Report>) {
    use rumqttc::{Event, Packet};
    loop {
        let report = match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(packet))) => Report::Sent(packet),
            Ok(Event::Outgoing(_)) => continue,
            Ok(Event::Incoming(Packet::ConnAck(_))) => Report::Signal(Signal::Up),
            Ok(Event::Incoming(Packet::PubAck(ack))) => Report::Acknowledged(ack.pkid, None),
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let granted = |c: &_| matches!(c, rumqttc::SubscribeReasonCode::Success(_));
                Report::Signal(Signal::Subscribed { granted: ack.return_codes.iter().all(granted) })
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                Report::Signal(Signal::Message(Incoming {
                    topic: publish.topic.clone(),
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                    ticket: Box::new(Ticket::V4(publish)),
                }))
            }
            Ok(Event::Incoming(_)) => Report::Signal(Signal::Alive),
            Err(e) => {
                let _ = reports.send(Report::Signal(Signal::Down(lost_v4(&e)))).await;
                return;
            }
        };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

pub(super) async fn run_v5(mut events: v5::EventLoop, reports: mpsc::Sender<Report>) {
    use packets5::Packet;
    use v5::Event;
    loop {
        let report = match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(packet))) => Report::Sent(packet),
            Ok(Event::Outgoing(_)) => continue,
            Ok(Event::Incoming(Packet::ConnAck(_))) => Report::Signal(Signal::Up),
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                Report::Acknowledged(ack.pkid, refusal(ack.reason))
            }
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let granted = |c: &_| matches!(c, packets5::SubscribeReasonCode::Success(_));
                Report::Signal(Signal::Subscribed { granted: ack.return_codes.iter().all(granted) })
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                Report::Signal(Signal::Message(Incoming {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                    ticket: Box::new(Ticket::V5(publish)),
                }))
            }
            Ok(Event::Incoming(_)) => Report::Signal(Signal::Alive),
            Err(e) => {
                let _ = reports.send(Report::Signal(Signal::Down(lost_v5(&e)))).await;
                return;
            }
        };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

/// Reasons by MQTT 5, 3.4.2.1. A full quota, and what the broker doesn't explain, may pass with time.
fn refusal(reason: packets5::PubAckReason) -> Option<Refusal> {
    use packets5::PubAckReason as Reason;
    let passing = match reason {
        Reason::Success | Reason::NoMatchingSubscribers => return None,
        Reason::QuotaExceeded
        | Reason::UnspecifiedError
        | Reason::ImplementationSpecificError
        | Reason::PacketIdentifierInUse => true,
        Reason::NotAuthorized | Reason::TopicNameInvalid | Reason::PayloadFormatInvalid => false,
    };
    Some(Refusal { reason: format!("{reason:?}"), passing })
}

fn lost_v4(error: &rumqttc::ConnectionError) -> Lost {
    use rumqttc::{ConnectionError, StateError, mqttbytes};
    let unreadable = matches!(
        error,
        ConnectionError::MqttState(StateError::Deserialization(e)) if !matches!(e, mqttbytes::Error::Io(_))
    );
    Lost { reason: lost_reason(&error.to_string()), unreadable }
}

fn lost_v5(error: &v5::ConnectionError) -> Lost {
    use v5::{ConnectionError, StateError, mqttbytes};
    let unreadable = match error {
        ConnectionError::MqttState(StateError::Deserialization(e)) => {
            !matches!(e, mqttbytes::Error::Io(_))
        }
        ConnectionError::MqttState(StateError::IncomingPacketTooLarge { .. }) => true,
        _ => false,
    };
    Lost { reason: lost_reason(&error.to_string()), unreadable }
}

/// The error's text on one bounded line, since it may contain a broker's own words, without the
/// prefixes of the layers that it came through.
fn lost_reason(text: &str) -> String {
    const LAYERS: [&str; 5] =
        ["Mqtt state: ", "Mqtt serialization/deserialization error: ", "I/O: ", "IO: ", "TLS: "];
    let mut text = text;
    while let Some(rest) = LAYERS.iter().find_map(|layer| text.strip_prefix(layer)) {
        text = rest;
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_bounded_and_says_what_happened() {
        let text =
            "Mqtt state: Mqtt serialization/deserialization error: IO: Broken pipe (os error 32)";
        assert_eq!(lost_reason(text), "Broken pipe (os error 32)");
        assert_eq!(lost_reason("I/O: a\nb"), "a b");
        assert_eq!(lost_reason(&"x".repeat(1000)).len(), 200);
    }

    #[test]
    fn refusals_that_may_pass_are_told_from_final_ones() {
        use packets5::PubAckReason as Reason;
        let passing = |reason| refusal(reason).map(|r| r.passing);
        assert_eq!(passing(Reason::Success), None);
        assert_eq!(passing(Reason::NoMatchingSubscribers), None);
        assert_eq!(passing(Reason::QuotaExceeded), Some(true));
        assert_eq!(passing(Reason::NotAuthorized), Some(false));
    }
}
