//! What several commands share: opening models and adapters, and how errors become exits.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::arch::lora::LoraTensors;
use crate::arch::spec::ModelSpec;
use crate::cli::CliError;
use crate::engine::device::DeviceKind;
use crate::engine::{Engine, ModelError};
use crate::gguf::GgufFile;
use crate::kernels::Compute;
use crate::latro::learner::LearnError;
use crate::memory::MemoryError;
use crate::session::QuestionsError;
use crate::store::{AdapterConfig, AdapterManifest, AdapterShape, StoreError, Training, read_peft};

/// The most threads that may be asked for: starting many more takes minutes.
const MAX_THREADS: usize = 1024;

/// An input that cannot be used: exit code 64.
pub fn usage(error: impl Display) -> CliError {
    CliError::Usage(error.to_string())
}

/// Work that failed: exit code 1.
pub fn failed(error: impl Display) -> CliError {
    CliError::Failed(error.to_string())
}

/// Prints `text` to the standard output and ends its line if it doesn't. A reader that has seen
/// enough (`| head`) is no failure.
pub fn say(text: impl Display) -> Result<(), CliError> {
    say_to(&mut io::stdout().lock(), text)
}

fn say_to(out: &mut impl Write, text: impl Display) -> Result<(), CliError> {
    let mut text = text.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(failed(format!("cannot write to the standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Tells whoever watches `text` on the standard error. Nobody may be watching, which is no failure.
pub fn warn(text: impl Display) {
    let _ = writeln!(io::stderr(), "latrod: {text}");
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        if error.is_busy() { Self::TryLater(error.to_string()) } else { failed(error) }
    }
}

impl From<LearnError> for CliError {
    fn from(error: LearnError) -> Self {
        match error {
            LearnError::Model(error) => error.into(),
            LearnError::Prompt(_) => usage(error),
            _ => failed(error),
        }
    }
}

impl From<ModelError> for CliError {
    /// Texts that are too long and unknown tokens are their giver's affair; anything else has failed.
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Context { .. } | ModelError::Token { .. } => usage(error),
            _ => failed(error),
        }
    }
}

impl From<QuestionsError> for CliError {
    fn from(error: QuestionsError) -> Self {
        match error {
            QuestionsError::NoneLeft(_) => usage(error),
            QuestionsError::Interrupted(error) => error.into(),
        }
    }
}

impl From<MemoryError> for CliError {
    fn from(error: MemoryError) -> Self {
        usage(error)
    }
}

/// A size as an argument: a whole number of bytes, or of KiB, MiB or GiB with K, M or G.
pub fn size_argument(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|n| *n > 0)
        .ok_or_else(|| "give a size such as 600M or 2G".to_owned())
}

/// Refuses a device that this program was not built for.
pub fn check_device(device: DeviceKind) -> Result<(), CliError> {
    device.why_not().map_or(Ok(()), |sentence| Err(usage(sentence)))
}

/// Opens and loads a model.
pub fn load_model<E: Engine>(
    path: &Path,
    compute: Compute,
    device: DeviceKind,
) -> Result<(GgufFile, E), CliError> {
    check_device(device)?;
    let file = GgufFile::open(path).map_err(usage)?;
    let model = E::load(&file, compute, device).map_err(usage)?;
    Ok((file, model))
}

/// Reads a PEFT folder made for this model, after comparing its manifest with the model's file.
pub fn read_adapter(
    dir: &Path,
    file: &GgufFile,
    model: &impl Engine,
) -> Result<(AdapterConfig, LoraTensors), CliError> {
    read_adapter_for(dir, file, model.spec())
}

/// As [`read_adapter`], for a model of which only the header was read.
pub fn read_adapter_for(
    dir: &Path,
    file: &GgufFile,
    spec: &ModelSpec,
) -> Result<(AdapterConfig, LoraTensors), CliError> {
    if AdapterManifest::read(dir).map_err(usage)?.is_some() {
        AdapterManifest::check(dir, &file.sha256().map_err(failed)?).map_err(usage)?;
    }
    read_peft(dir, &AdapterShape::from(spec)).map_err(usage)
}

/// Reads a PEFT folder for computing with it.
pub fn load_adapter<E: Engine>(
    dir: &Path,
    file: &GgufFile,
    model: &E,
) -> Result<E::Adapter, CliError> {
    let (config, tensors) = read_adapter(dir, file, model)?;
    Ok(model.adapter(&tensors, config.scale() as f32)?)
}

/// How the adapter in a folder was trained, if there is one and its folder says so.
pub fn training_of(adapter: Option<&Path>) -> Result<Option<Training>, CliError> {
    let Some(dir) = adapter else { return Ok(None) };
    Ok(AdapterManifest::read(dir).map_err(usage)?.and_then(|made| made.training))
}

/// Makes the pool of threads that everything computes with; all cores if not given.
pub fn set_threads(threads: Option<usize>) -> Result<(), CliError> {
    if threads.is_some_and(|n| !(1..=MAX_THREADS).contains(&n)) {
        return Err(usage(format!("--threads must be from 1 to {MAX_THREADS}")));
    }
    crate::kernels::threads::start(threads.unwrap_or(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output that fails in one way.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        assert_eq!(size_argument("600M"), Ok(600 << 20));
        assert_eq!(size_argument("2g"), Ok(2 << 30));
        assert_eq!(size_argument("4096"), Ok(4096));
        for wrong in ["", "M", "0", "-1M", "1.5G", "1MB", "99999999999G", "1\u{b5}"] {
            assert!(size_argument(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_text_ends_its_line_once() {
        let mut out = Vec::new();

        say_to(&mut out, "a").unwrap();
        say_to(&mut out, "b\n").unwrap();

        assert_eq!(out, b"a\nb\n");
    }

    #[test]
    fn a_reader_may_go_but_a_full_disk_is_an_error() {
        assert!(say_to(&mut Broken(ErrorKind::BrokenPipe), "a").is_ok());

        let error = say_to(&mut Broken(ErrorKind::StorageFull), "a").unwrap_err();

        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("standard output"), "{error}");
    }
}
