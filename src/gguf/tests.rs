//! The reader against valid files, a second opinion, and every kind of damage.

use std::path::Path;

use proptest::prelude::*;

use crate::gguf::fixture::{GgufBytes, small_llama};
use crate::gguf::{Array, GgmlType, GgufError, GgufFile, Header, Value};

fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(bytes, bytes.len() as u64, Path::new("test.gguf"))
}

/// The message of the error that these bytes end in.
fn complaint(bytes: &[u8]) -> String {
    let message = parse(bytes).expect_err("the file is broken").to_string();
    assert!(message.contains("test.gguf"), "names the file: {message}");
    assert!(!message.contains('\n') && message.len() < 500, "one sentence: {message}");
    message
}

fn saved(bytes: &[u8]) -> (tempfile::TempDir, GgufFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.gguf");
    std::fs::write(&path, bytes).unwrap();
    let file = GgufFile::open(&path).unwrap();
    (folder, file)
}

#[test]
fn a_valid_file_is_read() {
    let data: Vec<u8> = (0..68).collect();
    let bytes = GgufBytes::new()
        .str("a.string", "größer")
        .u32("a.number", 7)
        .i32s("some.numbers", &[1, -2])
        .strings("some.strings", &["x", "", "zz"])
        .tensor("first", &[3], 0, vec![1; 12])
        .tensor("second", &[32, 2], 8, data.clone())
        .build();

    let (_folder, file) = saved(&bytes);

    assert_eq!(file.version(), 3);
    assert_eq!(file.file_len(), bytes.len() as u64);
    let m = file.metadata();
    assert_eq!(m.str("a.string").unwrap(), "größer");
    assert_eq!(m.u32("a.number").unwrap(), 7);
    assert_eq!(m.i32s("some.numbers").unwrap(), [1, -2]);
    assert_eq!(m.strings("some.strings").unwrap(), ["x", "", "zz"]);
    let t = file.tensor("second").unwrap();
    assert_eq!((t.rows(), t.cols(), t.elements()), (2, 32, 64));
    assert_eq!((t.ggml_type, t.bytes()), (GgmlType::Q8_0, Some(68)));
    assert_eq!(file.read_tensor(t).unwrap(), data);
    let mut piece = [0; 3];
    file.read_tensor_at(t, 65, &mut piece).unwrap();
    assert_eq!(piece, [65, 66, 67]);
    assert!(file.read_tensor_at(t, 66, &mut piece).is_err());
}

#[test]
fn the_hash_is_that_of_the_whole_file() {
    // An empty file: magic, version, two counts of zero, padding. Its hash comes from sha256sum.
    let (_folder, file) = saved(&GgufBytes::new().build());
    assert_eq!(file.file_len(), 32);
    assert_eq!(
        file.sha256().unwrap(),
        "a3718c7940c34ff91a906d0758debb656aed43d1aa8b23b99f67cb106cdbc881"
    );
}

#[test]
fn the_gguf_crate_reads_the_same() {
    let bytes = small_llama().build();

    let ours = parse(&bytes).unwrap();
    let theirs = gguf::GGUFFile::read(&bytes).unwrap().unwrap();

    assert_eq!(ours.metadata.len(), theirs.header.metadata.len());
    for ((key, value), other) in ours.metadata.iter().zip(&theirs.header.metadata) {
        assert_eq!(key, other.key);
        assert!(same(value, &other.value), "{key}: {value:?} / {:?}", other.value);
    }
    assert_eq!(ours.tensors.len(), theirs.tensors.len());
    let data_start = ours.tensors[0].file_offset() - theirs.tensors[0].offset;
    for (t, other) in ours.tensors.iter().zip(&theirs.tensors) {
        assert_eq!(t.name, other.name);
        assert!(t.dims.iter().map(|&d| d as u64).eq(other.dimensions.iter().copied()));
        assert_eq!(t.ggml_type.to_u32(), other.tensor_type as u32);
        assert_eq!(t.file_offset(), data_start + other.offset);
    }
}

fn same(ours: &Value, theirs: &gguf::GGUFMetadataValue) -> bool {
    use gguf::GGUFMetadataValue as G;
    match (ours, theirs) {
        (Value::U32(a), G::Uint32(b)) => a == b,
        (Value::F32(a), G::Float32(b)) => a == b,
        (Value::Bool(a), G::Bool(b)) => a == b,
        (Value::String(a), G::String(b)) => a == b,
        (Value::Array(Array::I32(a)), G::Array(b)) => {
            a.len() == b.value.len()
                && a.iter().zip(&b.value).all(|(x, y)| matches!(y, G::Int32(y) if x == y))
        }
        (Value::Array(Array::Strings(a)), G::Array(b)) => {
            a.len() == b.value.len()
                && a.iter().zip(&b.value).all(|(x, y)| matches!(y, G::String(y) if x == y))
        }
        _ => false,
    }
}

#[test]
fn getters_convert_integers_that_fit_and_name_the_key_otherwise() {
    let header = parse(
        &GgufBytes::new()
            .raw("wide", 10, &5u64.to_le_bytes())
            .raw("negative", 5, &(-1i32).to_le_bytes())
            .raw("double", 12, &0.5f64.to_le_bytes())
            .str("text", "x")
            .build(),
    )
    .unwrap();
    let m = &header.metadata;

    assert_eq!(m.u32("wide").unwrap(), 5);
    assert!((m.f32("double").unwrap() - 0.5).abs() < f32::EPSILON);
    assert_eq!(m.opt_bool("absent").unwrap(), None);
    let message = |e: GgufError| e.to_string();
    assert_eq!(message(m.u32("absent").unwrap_err()), "test.gguf: metadata key absent is missing");
    assert_eq!(
        message(m.u32("negative").unwrap_err()),
        "test.gguf: metadata key negative should be an integer that fits u32, but is -1"
    );
    assert_eq!(
        message(m.opt_f32("text").unwrap_err()),
        "test.gguf: metadata key text should be a floating-point number, but is a string"
    );
}

#[test]
fn other_formats_versions_and_byte_orders_are_named() {
    assert!(complaint(b"PK\x03\x04 a zip file").contains("does not start with \"GGUF\""));
    assert!(complaint(b"").contains("ends"));
    let mut g = GgufBytes::new();
    g.version = 1;
    assert!(complaint(&g.build()).contains("version 1"));
    g.version = 3u32.swap_bytes();
    assert!(complaint(&g.build()).contains("big-endian"));
    g.version = 2;
    assert!(parse(&g.build()).is_ok());
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let bytes = small_llama().build();
    for n in (0..bytes.len().min(2000)).chain((2000..bytes.len()).step_by(97)) {
        complaint(&bytes[..n]);
    }
    assert!(parse(&bytes).is_ok());
}

#[test]
fn counts_and_lengths_beyond_the_file_cost_no_memory() {
    let valid = small_llama().build();
    for at in [8, 16, 24] {
        for count in [1 << 63, u64::MAX, 1 << 40, 100_000] {
            let mut bytes = valid.clone();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            complaint(&bytes);
        }
    }
    let huge = usize::MAX;
    for element in [0, 4, 8, 12] {
        let bytes = GgufBytes::new().array("numbers", element, huge, &[0; 64]).build();
        assert!(complaint(&bytes).contains("metadata key numbers claims"));
    }
}

#[test]
fn broken_values_are_refused_by_key() {
    let cases: [(u32, &[u8], &str); 6] = [
        (7, &[2], "a bool with the byte 2"),
        (13, &[0; 8], "unknown type 13"),
        (9, &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], "array of arrays"),
        (9, &[77, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], "unknown type 77"),
        (8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xFF], "not valid UTF-8"),
        (9, &[7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9], "a bool with the byte 9"),
    ];
    for (kind, value, expected) in cases {
        let message = complaint(&GgufBytes::new().raw("some.key", kind, value).build());
        assert!(message.contains("some.key") && message.contains(expected), "{message}");
    }
}

#[test]
fn names_that_appear_twice_are_refused() {
    let keys = GgufBytes::new().u32("k", 1).u32("k", 2).build();
    assert!(complaint(&keys).contains("key k is there twice"));
    let tensors = GgufBytes::new()
        .tensor("t", &[4], 0, vec![0; 16])
        .tensor("t", &[4], 0, vec![0; 16])
        .build();
    assert!(complaint(&tensors).contains("tensor t is there twice"));
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let name = format!("\u{1b}[31m\n{}", "x".repeat(200));
    let message = complaint(&GgufBytes::new().u32(&name, 1).u32(&name, 1).build());
    assert!(!message.contains('\u{1b}'), "{message}");
}

#[test]
fn alignment_must_be_a_small_power_of_two() {
    for n in [0, 3, 1 << 30] {
        let message = complaint(&GgufBytes::new().u32("general.alignment", n).build());
        assert!(message.contains(&format!("general.alignment is {n}")), "{message}");
    }
    let mut g = GgufBytes::new().u32("general.alignment", 4096);
    g.alignment = 4096;
    let g = g.tensor("a", &[1], 0, vec![0; 4]).tensor("b", &[1], 0, vec![7; 4]);
    let (_folder, file) = saved(&g.build());
    assert_eq!(file.read_tensor(file.tensor("b").unwrap()).unwrap(), [7; 4]);
}

#[test]
fn impossible_tensors_are_refused_by_name() {
    let big = 1 << 62;
    let cases: [(&[u64], u32, &str); 8] = [
        (&[], 0, "0 dimensions"),
        (&[1; 5], 0, "5 dimensions"),
        (&[4, 0], 0, "impossible dimensions"),
        (&[big, big, 2], 0, "impossible dimensions"),
        (&[1 << 63], 24, "impossible dimensions"),
        (&[big, 1], 28, "impossible dimensions"),
        (&[31, 2], 8, "multiple of 32"),
        (&[1 << 40], 0, "lies at bytes"),
    ];
    for (dims, kind, expected) in cases {
        let message = complaint(&GgufBytes::new().tensor("bad", dims, kind, vec![0; 64]).build());
        assert!(message.contains("tensor bad") && message.contains(expected), "{message}");
    }
}

#[test]
fn offsets_must_be_aligned_inside_the_file_and_apart() {
    let valid = GgufBytes::new()
        .tensor("a", &[4], 0, vec![0; 16])
        .tensor("b", &[4], 0, vec![0; 16])
        .build();
    // The header takes 24 bytes, each entry 33: the second offset is the last field.
    let at = 24 + 2 * 33 - 8;
    for (offset, expected) in [
        (8u64, "not a multiple of 32"),
        (1 << 20, "lies at bytes"),
        (u64::MAX - 31, "lies at bytes"),
        (0, "shares bytes with tensor a"),
    ] {
        let mut bytes = valid.clone();
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        let message = complaint(&bytes);
        assert!(message.contains("tensor b") && message.contains(expected), "{message}");
    }
}

#[test]
fn unknown_types_are_tolerated_in_the_table_and_refused_in_reading() {
    let bytes = GgufBytes::new()
        .tensor("iq", &[256], 23, vec![0; 136])
        .tensor("strange", &[7], 4711, vec![0; 7])
        .build();
    let (_folder, file) = saved(&bytes);

    assert_eq!(file.tensor("iq").unwrap().bytes(), Some(136));
    assert_eq!(file.tensor("strange").unwrap().bytes(), None);
    for (name, kind) in [("iq", "IQ4_XS"), ("strange", "number 4711")] {
        let message = file.read_tensor(file.tensor(name).unwrap()).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(kind), "{message}");
    }
}

#[test]
fn folders_and_missing_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(GgufFile::open(folder.path()).unwrap_err().to_string().contains("not a regular file"));
    let missing = folder.path().join("missing.gguf");
    assert!(GgufFile::open(&missing).unwrap_err().to_string().contains("cannot read"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Damage may go unnoticed (a flipped weight), but it never panics, and a file that is
    /// accepted can be used.
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..3000, any::<u8>()), 1..8)) {
        let mut bytes = small_llama().build();
        for (at, value) in flips {
            bytes[at] = value;
        }
        if let Ok(header) = parse(&bytes) {
            for t in &header.tensors {
                prop_assert!(t.file_offset() + t.bytes().unwrap_or(0) <= bytes.len() as u64);
                prop_assert_eq!(t.rows() * t.cols(), t.elements());
            }
        }
    }

    #[test]
    fn random_bytes_after_the_magic_never_panic(tail in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tail);
        let _ = parse(&bytes);
    }
}
