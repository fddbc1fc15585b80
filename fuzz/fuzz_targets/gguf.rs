//! Any bytes as a GGUF file: an error or a header that keeps its promises, never a panic.
//!
//! `cargo +nightly fuzz run gguf fuzz/corpus/gguf tests/fixtures -- -max_len=65536`

#![no_main]

use std::io::Write;
use std::path::Path;

use latrod::arch::spec::ModelSpec;
use latrod::gguf::{GgufFile, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::read(bytes, bytes.len() as u64, Path::new("fuzz.gguf")) else {
        return;
    };
    for (key, _) in header.metadata.iter() {
        let _ = (header.metadata.u64(key), header.metadata.f32(key), header.metadata.i32s(key));
    }
    for t in &header.tensors {
        assert_eq!(t.rows() * t.cols(), t.elements());
        assert!(t.file_offset() + t.bytes().unwrap_or(0) <= bytes.len() as u64);
    }

    let mut saved = tempfile::NamedTempFile::new().expect("a temporary file");
    saved.write_all(bytes).expect("room for it");
    let file = GgufFile::open(saved.path()).expect("the header was fine a moment ago");
    for t in file.tensors() {
        if let Ok(data) = file.read_tensor(t) {
            assert_eq!(Some(data.len() as u64), t.bytes());
        }
    }
    let _ = ModelSpec::from_gguf(&file);
});
