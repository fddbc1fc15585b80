//! What a device and its fleet say to each other over MQTT: topics, payloads, signatures.

pub mod event;
pub mod sign;
pub mod topics;
pub mod wire;
