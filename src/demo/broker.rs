//! An MQTT broker within the process, for whoever is on this machine.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::{DemoError, PATIENCE};

/// Largest message, as `configs/mosquitto/` has it.
const MAX_MESSAGE_BYTES: usize = 262_144;

/// A broker that speaks MQTT 3.1.1; it ends with the process.
pub struct Broker {
    address: SocketAddr,
}

impl Broker {
    /// Starts it at a free port, and waits until it listens.
    ///
    /// # Errors
    /// No free port, or nobody who listens there in time.
    pub fn start() -> Result<Self, DemoError> {
        // rumqttd does not tell which port it was given, so it is given one that is free.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
        let address = free.map_err(DemoError::system("there is no free port"))?;
        let mut broker = rumqttd::Broker::new(config(address));
        let body = move || {
            if let Err(error) = broker.start() {
                log::error!("the broker ended: {error}");
            }
        };
        super::spawn("broker", body)?;
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            if Instant::now() > end {
                return Err(DemoError::Broker(format!("nobody listens at {address}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { address })
    }

    /// Its address, as clients are given it.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5000,
        max_payload_size: MAX_MESSAGE_BYTES,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "demo".into(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let router = RouterConfig {
        max_connections: 10_000,
        max_outgoing_packet_count: 200,
        // Of each subscription's messages the last 4 MiB are kept, for clients that lag behind.
        max_segment_size: 1 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let v4 = Some(HashMap::from([("1".to_owned(), server)]));
    Config { router, v4, ..Config::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_this_machine_alone() {
        let broker = Broker::start().expect("a broker");

        assert!(broker.address.ip().is_loopback());
        assert_eq!(broker.url(), format!("mqtt://127.0.0.1:{}", broker.address.port()));
        TcpStream::connect(broker.address).expect("it listens");
    }
}
