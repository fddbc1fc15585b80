//! Who a made-up device is: hardware, model and tags, for its birth message.

use crate::contract::wire::{Action, Birth, DeviceInfo, ModelInfo};
use crate::simulator::random::Random;

/// A kind of device: hardware, operating system, processor, cores, MiB of memory.
type Board = (&'static str, &'static str, &'static str, u32, u64);
/// A model: name of the tag, architecture, quantization, MiB.
type Model = (&'static str, &'static str, &'static str, u64);

const BOARD: Board = ("NVIDIA Jetson Orin Nano", "Linux 5.15.148-tegra", "aarch64", 6, 7620);
const BOARDS: [Board; 3] = [
    ("Raspberry Pi 5 Model B Rev 1.0", "Linux 6.6.51+rpt-rpi-2712", "aarch64", 4, 8063),
    ("NUC12WSKi5", "Linux 6.1.0-28-amd64", "x86_64", 16, 31_890),
    ("Raspberry Pi 4 Model B Rev 1.5", "Linux 6.6.51+rpt-rpi-v8", "aarch64", 4, 3796),
];
const MODEL: Model = ("smollm2-135m", "llama", "Q4_1", 94);
const MODELS: [Model; 2] =
    [("qwen2.5-0.5b", "qwen2", "Q4_K", 469), ("smollm2-360m", "llama", "Q4_1", 242)];
const SITES: [&str; 5] = ["berlin", "lyon", "porto", "gdansk", "toronto"];

/// Who a device is; none of it changes.
#[derive(Debug, Clone)]
pub struct Person {
    board: Board,
    model: Model,
    site: &'static str,
    ring: &'static str,
}

impl Person {
    /// Somebody.
    pub fn new(random: &mut Random) -> Self {
        let ring = match random.whole(1, 20) {
            1 => "canary",
            2..=4 => "early",
            _ => "stable",
        };
        Self {
            board: random.pick(BOARD, &BOARDS),
            model: random.pick(MODEL, &MODELS),
            site: random.pick("oslo", &SITES),
            ring,
        }
    }

    /// Memory of the device, in MiB.
    pub const fn memory_mib(&self) -> u64 {
        self.board.4
    }

    /// SHA-256 of the model, the same for all who have it.
    pub fn model_sha256(&self) -> String {
        Random::of(self.model.3, 0).sha256()
    }

    /// The birth message of a device called `host`; `signed`: it takes signed commands.
    pub fn birth(&self, host: &str, boot_id: &str, signed: bool) -> Birth {
        let (hardware, os, arch, cores, memory_mib) = self.board;
        let (model, architecture, quantization, file_mib) = self.model;
        let weights = 1.17 * file_mib as f64;
        let plan = [
            ("weights", weights),
            ("sampling", 190.0),
            ("training", 420.5),
            ("total", weights + 420.5),
            ("limit", 0.5 * memory_mib as f64),
        ];
        let tags = [("site", self.site), ("ring", self.ring), ("model", model)];
        let takes = Action::NAMES.iter().copied();
        let capabilities = takes.chain(signed.then_some("signed_commands")).map(str::to_owned);
        Birth {
            boot_id: boot_id.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: DeviceInfo {
                host: host.to_owned(),
                hardware: hardware.to_owned(),
                os: os.to_owned(),
                arch: arch.to_owned(),
                cores,
                memory_mib,
            },
            tags: tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            model: Some(ModelInfo {
                sha256: self.model_sha256(),
                architecture: architecture.to_owned(),
                quantization: quantization.to_owned(),
                file_mib,
            }),
            memory_plan_mib: plan.map(|(name, mib)| (name.to_owned(), mib)).into(),
            capabilities: capabilities.collect(),
        }
    }
}
