use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    step: u64,
    learning_rate: f64,
    note: String,
}

fn checkpoint() -> Checkpoint<Header> {
    let lora = LoraTensors::from([
        (
            LoraKey { layer: 0, target: Target::Q, factor: Factor::A },
            Matrix { rows: 1, cols: 3, data: vec![1.0, -0.0, 0.1] },
        ),
        (
            LoraKey { layer: 11, target: Target::Down, factor: Factor::B },
            Matrix { rows: 2, cols: 1, data: vec![f32::MIN_POSITIVE, 3.0] },
        ),
    ]);
    Checkpoint {
        header: Header { step: 3, learning_rate: 1e-4 / 3.0, note: "a \"b\"\n".into() },
        tensors: named("weights", &lora).map(|(name, m)| (name, m.clone())).collect(),
    }
}

fn saved() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    checkpoint().save(&path).unwrap();
    (dir, path)
}

#[test]
fn a_checkpoint_comes_back_exactly() {
    let (_dir, path) = saved();

    let mut loaded = Checkpoint::<Header>::load(&path).unwrap();

    assert_eq!(loaded, checkpoint());
    assert!(take_named("weight", &mut loaded.tensors).is_empty());
    let lora = take_named("weights", &mut loaded.tensors);
    assert_eq!(lora.len(), 2);
    assert_eq!(lora.keys().last().unwrap().layer, 11);
    assert!(loaded.tensors.is_empty());
}

#[test]
fn equal_checkpoints_are_equal_files() {
    let (_dir, first) = saved();
    let (_dir2, second) = saved();

    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn absent_is_not_damaged() {
    let (dir, path) = saved();

    assert!(Checkpoint::<Header>::load_if_present(&path).unwrap().is_some());
    assert!(Checkpoint::<Header>::load_if_present(&dir.path().join("absent")).unwrap().is_none());
}

#[test]
fn a_flipped_bit_never_changes_what_is_loaded() {
    let (_dir, path) = saved();
    let good = fs::read(&path).unwrap();

    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        // A letter of an escape may change its case without a change of meaning.
        if let Ok(loaded) = Checkpoint::<Header>::load(&path) {
            assert_eq!(loaded, checkpoint(), "byte {at}");
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let (_dir, path) = saved();
    let good = fs::read(&path).unwrap();

    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        let error = Checkpoint::<Header>::load(&path).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}

#[test]
fn a_header_that_json_would_lose_is_refused_and_the_old_checkpoint_stays() {
    let (_dir, path) = saved();
    let mut bad = checkpoint();
    bad.header.learning_rate = f64::INFINITY;

    assert!(matches!(bad.save(&path), Err(StoreError::Unstorable { .. })));

    assert_eq!(Checkpoint::<Header>::load(&path).unwrap(), checkpoint());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bits_survive(bits in proptest::collection::vec(any::<u32>(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let data: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let matrix = Matrix { rows: data.len(), cols: 1, data };
        save(&path, &1_u8, &BTreeMap::from([("x".to_owned(), &matrix)])).unwrap();

        let loaded = Checkpoint::<u8>::load(&path).unwrap();

        let read: Vec<u32> = loaded.tensors["x"].data.iter().map(|v| v.to_bits()).collect();
        prop_assert_eq!(read, bits);
    }

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        fs::write(&path, &bytes).unwrap();

        prop_assert!(Checkpoint::<u8>::load(&path).is_err());
    }
}
