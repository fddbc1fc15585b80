//! A door between a device and its broker that the test opens and shuts; shutting it cuts what
//! goes through, as a lost network does. Where the packets are not encrypted it listens, and notes
//! what the broker has acknowledged: a witness that knows nothing of latrod's code.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Door {
    pub port: u16,
    open: watch::Sender<bool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Door {
    /// An open door to a port of this machine.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (open, is_open) = watch::channel(true);
        let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let noted = acknowledged.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((here, _)) = listener.accept().await else { return };
                let (mut open, noted) = (is_open.clone(), noted.clone());
                tokio::spawn(async move {
                    if !*open.borrow() {
                        return;
                    }
                    let broker = SocketAddr::from(([127, 0, 0, 1], port));
                    let Ok(there) = TcpStream::connect(broker).await else { return };
                    tokio::select! {
                        () = pass(here, there, noted) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port: own, open, acknowledged, task }
    }

    /// Cuts all connections and lets no new ones through.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Cuts all connections; new ones get through.
    pub async fn cut(&self) {
        self.shut();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        self.open();
    }

    /// Ids of the messages whose acknowledgement came through.
    pub fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries bytes both ways until one side ends.
async fn pass(mut here: TcpStream, mut there: TcpStream, noted: Arc<Mutex<BTreeSet<String>>>) {
    let (mut from_device, mut from_broker) = (Packets::default(), Packets::default());
    let mut on_their_way = HashMap::new();
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            read = here.read(&mut up) => {
                let Ok(n @ 1..) = read else { return };
                for (kind, body) in from_device.take(&up[..n]) {
                    // PUBLISH at QoS 1: a topic, a packet id, in MQTT 5 properties, the message.
                    if kind & 0xf6 == 0x32 && body.len() > 2 {
                        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                        let packet = [body[2 + topic], body[3 + topic]];
                        if let Some(id) = id_in(&body[4 + topic..]) {
                            on_their_way.insert(packet, id);
                        }
                    }
                }
                if there.write_all(&up[..n]).await.is_err() { return }
            }
            read = there.read(&mut down) => {
                let Ok(n @ 1..) = read else { return };
                for (kind, body) in from_broker.take(&down[..n]) {
                    // PUBACK: the packet id.
                    if kind == 0x40
                        && let Some(id) = on_their_way.remove(&[body[0], body[1]])
                    {
                        noted.lock().unwrap().insert(id);
                    }
                }
                if here.write_all(&down[..n]).await.is_err() { return }
            }
        }
    }
}

/// The message's id; the properties that MQTT 5 puts before the JSON are skipped.
fn id_in(rest: &[u8]) -> Option<String> {
    let json = &rest[rest.iter().position(|b| *b == b'{')?..];
    let message: serde_json::Value = serde_json::from_slice(json).ok()?;
    Some(message["id"].as_str()?.to_owned())
}

/// Cuts a stream of bytes into MQTT packets: first byte and body.
#[derive(Default)]
struct Packets {
    bytes: Vec<u8>,
    lost: bool,
}

impl Packets {
    fn take(&mut self, more: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        if self.lost {
            return found;
        }
        self.bytes.extend_from_slice(more);
        // A TLS record begins with 0x14 to 0x17, no MQTT packet with 0x14 or 0x16 first.
        if matches!(self.bytes[0], 0x14..=0x17) {
            self.lost = true;
            return found;
        }
        while let Some((length, header)) = length(&self.bytes)
            && self.bytes.len() >= header + length
        {
            let packet: Vec<u8> = self.bytes.drain(..header + length).collect();
            found.push((packet[0], packet[header..].to_vec()));
        }
        found
    }
}

/// The length of the first packet's body and of the header before it (MQTT 3.1.1, 2.2.3).
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (n, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((length, n + 2));
        }
    }
    None
}
