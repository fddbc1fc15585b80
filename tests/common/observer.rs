//! Somebody who reads all messages of the fleet, as an operator or the dashboard would, and who
//! subscribes again whenever the broker comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, Transport};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::broker::{Broker, LOCAL_PASSWORD, LOCAL_USER, PATIENCE};

/// A message as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The part of the topic after `latro/v2/`.
    pub topic: String,
    pub retained: bool,
    pub text: String,
    pub json: Value,
}

impl Seen {
    pub fn is(&self, topic: &str) -> bool {
        self.topic == topic
    }

    pub fn field(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or("")
    }

    pub fn connection(&self) -> u64 {
        self.json["connection"].as_u64().unwrap_or(0)
    }
}

pub struct Observer {
    seen: Arc<Mutex<Vec<Seen>>>,
    pub client: AsyncClient,
    subscribed: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Reads as the dashboard over the plain listener, with a password.
    pub async fn reader(broker: &Broker) -> Self {
        let mut options = MqttOptions::new(unique("reader"), "127.0.0.1", broker.plain_port);
        options.set_credentials(LOCAL_USER, LOCAL_PASSWORD);
        Self::start(options).await
    }

    /// Reads and commands as an operator, over TLS with a certificate.
    pub async fn operator(broker: &Broker) -> Self {
        Self::with_certificate(broker, "operator").await
    }

    /// Speaks with the certificate called `name`.
    pub async fn with_certificate(broker: &Broker, name: &str) -> Self {
        let read = |file: &str| std::fs::read(broker.path(file)).unwrap();
        // rustls's own way to find its provider needs a default for the process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = (read(&format!("{name}.pem")), read(&format!("{name}.key")));
        let mut options = MqttOptions::new(unique(name), "127.0.0.1", broker.tls_port);
        options.set_transport(Transport::tls(read("ca.pem"), Some(client), None));
        Self::start(options).await
    }

    pub async fn start(mut options: MqttOptions) -> Self {
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(1 << 22, 1 << 22);
        let (client, mut events) = AsyncClient::new(options, 100);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (is_subscribed, subscribed) = watch::channel(false);
        let (task_seen, task_client) = (seen.clone(), client.clone());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let _ = task_client.try_subscribe("latro/v2/#", QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        is_subscribed.send_replace(true);
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let text = String::from_utf8_lossy(&publish.payload).into_owned();
                        let topic = publish.topic.trim_start_matches("latro/v2/").to_owned();
                        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
                        let retained = publish.retain;
                        task_seen.lock().unwrap().push(Seen { topic, retained, text, json });
                    }
                    Ok(_) => {}
                    Err(_) => {
                        is_subscribed.send_replace(false);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        });
        let mut observer = Self { seen, client, subscribed, task };
        observer.wait_until_subscribed().await;
        observer
    }

    pub async fn wait_until_subscribed(&mut self) {
        let subscribed = self.subscribed.wait_for(|yes| *yes);
        tokio::time::timeout(PATIENCE, subscribed).await.unwrap().unwrap();
    }

    /// Waits until the broker's end was noticed.
    pub async fn wait_until_cut(&mut self) {
        let cut = self.subscribed.wait_for(|yes| !*yes);
        tokio::time::timeout(PATIENCE, cut).await.unwrap().unwrap();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for a message.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.seen().into_iter().find(&wanted) {
                return found;
            }
            assert!(tokio::time::Instant::now() < end, "no {what} in {:#?}", self.texts());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn texts(&self) -> Vec<String> {
        self.seen().iter().map(|s| format!("{} {}", s.topic, s.text)).collect()
    }

    /// Publishes below `latro/v2/`.
    pub async fn publish(&self, topic: &str, payload: Vec<u8>) {
        let topic = format!("latro/v2/{topic}");
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Client ids that no two clients of a test share.
pub fn unique(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
