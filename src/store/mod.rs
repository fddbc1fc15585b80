//! Files that survive a power cut: atomic writes, checkpoints and adapters.
//!
//! Every file is written to a temporary name, fsynced, renamed and its folder fsynced, so that a
//! reader finds the old file or the new one, never half of one. Knows nothing of training: callers
//! hand over plain values and matrices.

pub mod adapter;
pub mod checkpoint;
pub mod durable;
mod error;
pub mod json;
pub mod ledger;
pub mod lines;
pub mod lock;
pub mod sqlite;
pub mod tensors;
pub mod versions;

pub use adapter::{
    AdapterConfig, AdapterManifest, AdapterShape, Training, file_sha256, lora_from_peft,
    peft_tensors, read_peft, write_gguf_lora, write_peft,
};
pub use checkpoint::Checkpoint;
pub use durable::{remove_stale_temps, write_atomic};
pub use error::StoreError;
pub use json::{load_json, save_json};
pub use lines::{JsonLines, Sync};
pub use lock::DirLock;
pub use tensors::{read_safetensors, write_safetensors};
