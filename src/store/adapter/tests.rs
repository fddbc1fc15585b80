use std::fs;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::arch::lora::Matrix;

/// Two layers, two heads of four rows, one key head; input 3.
fn shape() -> AdapterShape {
    AdapterShape {
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        permuted_qk: true,
        dims: BTreeMap::from([(Target::Q, (8, 3)), (Target::K, (4, 3)), (Target::Down, (3, 5))]),
    }
}

fn config() -> AdapterConfig {
    AdapterConfig {
        r: 2,
        lora_alpha: 4.0,
        target_modules: vec![Target::Q, Target::K, Target::Down],
        base_model_name_or_path: None,
    }
}

/// Tensors whose values are all different.
fn tensors(config: &AdapterConfig, shape: &AdapterShape) -> LoraTensors {
    let mut next = 0.0;
    shape
        .keys(&config.target_modules)
        .map(|key| {
            let [rows, cols] = shape.tensor_shape(key, config.r).unwrap();
            let data = (0..rows * cols)
                .map(|_| {
                    next += 0.25;
                    next
                })
                .collect();
            (key, Matrix { rows, cols, data })
        })
        .collect()
}

fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_peft(dir.path(), &config(), &tensors(&config(), &shape()), &shape()).unwrap();
    dir
}

/// The two files of [`written`], made once.
fn good_files() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir = written();
        [WEIGHTS_FILE, "adapter_config.json"]
            .map(|name| (name, fs::read(dir.path().join(name)).unwrap()))
            .into()
    })
}

#[test]
fn an_adapter_comes_back_exactly() {
    let dir = written();

    let (read_config, read) = read_peft(dir.path(), &shape()).unwrap();

    assert_eq!(read_config, config());
    assert_eq!(read, tensors(&config(), &shape()));
}

#[test]
fn equal_adapters_are_equal_files() {
    let (first, second) = (written(), written());

    for name in [WEIGHTS_FILE, "adapter_config.json"] {
        let read = |dir: &tempfile::TempDir| fs::read(dir.path().join(name)).unwrap();
        assert_eq!(read(&first), read(&second), "{name}");
    }
}

#[test]
fn rows_of_q_are_reordered_within_their_head() {
    // Eight rows of one column, numbered in GGUF order: two heads of four.
    let shape = AdapterShape { layers: 1, dims: [(Target::Q, (8, 1))].into(), ..shape() };
    let key = LoraKey { layer: 0, target: Target::Q, factor: Factor::B };
    let b = Matrix { rows: 8, cols: 1, data: (0_u8..8).map(f32::from).collect() };
    let lora = LoraTensors::from([(key, b)]);

    let peft = peft_tensors(&lora, &shape).unwrap();

    // GGUF rows 0 1 2 3 are the pairs (0, 2) and (1, 3) of PEFT's rows.
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    assert_eq!(peft[name].data, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(lora_from_peft(peft, &shape).unwrap(), lora);
}

#[test]
fn the_two_orders_are_inverse_for_longer_heads() {
    // In a head of six, GGUF row 2i+j is PEFT row 3j+i; here the two directions differ.
    let shape = AdapterShape {
        layers: 1,
        heads: 1,
        head_dim: 6,
        dims: [(Target::Q, (6, 1))].into(),
        ..shape()
    };
    let key = LoraKey { layer: 0, target: Target::Q, factor: Factor::B };
    let b = Matrix { rows: 6, cols: 1, data: (0_u8..6).map(f32::from).collect() };
    let lora = LoraTensors::from([(key, b)]);

    let peft = peft_tensors(&lora, &shape).unwrap();

    assert_eq!(peft.values().next().unwrap().data, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    assert_eq!(lora_from_peft(peft, &shape).unwrap(), lora);
}

#[test]
fn only_the_rows_of_q_and_k_are_reordered_and_only_where_the_file_asks_for_it() {
    let lora = tensors(&config(), &shape());
    let plain = AdapterShape { permuted_qk: false, ..shape() };

    let permuted = peft_tensors(&lora, &shape()).unwrap();
    let straight = peft_tensors(&lora, &plain).unwrap();

    let changed: Vec<_> =
        permuted.keys().filter(|&name| permuted[name] != straight[name]).collect();
    assert_eq!(changed.len(), 4, "{changed:?}");
    assert!(changed.iter().all(|name| name.ends_with("lora_B.weight")), "{changed:?}");
    for (key, matrix) in &lora {
        assert_eq!(&straight[&peft_name(*key)], matrix);
    }
}

#[test]
fn an_adapter_of_a_deeper_model_is_named_as_such() {
    let dir = written();
    let shallow = AdapterShape { layers: 1, ..shape() };

    let error = read_peft(dir.path(), &shallow).unwrap_err().to_string();

    assert!(error.contains("layers.1.") && error.contains("it has 1 layers"), "{error}");
}

#[test]
fn an_adapter_of_a_shallower_model_is_named_as_such() {
    let dir = written();
    let deep = AdapterShape { layers: 3, ..shape() };

    let error = read_peft(dir.path(), &deep).unwrap_err().to_string();

    assert!(error.contains("layers.2.") && error.contains("missing"), "{error}");
}

#[test]
fn an_adapter_of_a_wider_model_is_named_with_both_shapes() {
    let dir = written();
    let mut wide = shape();
    wide.dims.insert(Target::Down, (6, 5));

    let error = read_peft(dir.path(), &wide).unwrap_err().to_string();

    assert!(error.contains("down_proj.lora_B") && error.contains("[3, 2]"), "{error}");
    assert!(error.contains("[6, 2]"), "{error}");
}

#[test]
fn a_model_without_the_layer_is_said() {
    let dir = written();
    let mut shape = shape();
    shape.dims.remove(&Target::Down);

    let error = read_peft(dir.path(), &shape).unwrap_err().to_string();

    assert!(error.contains("no down_proj"), "{error}");
}

#[test]
fn an_incomplete_adapter_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut lora = tensors(&config(), &shape());
    let (dropped, _) = lora.pop_last().unwrap();

    let error = write_peft(dir.path(), &config(), &lora, &shape()).unwrap_err().to_string();

    assert!(error.contains(&peft_name(dropped)), "{error}");
    assert!(!dir.path().join(WEIGHTS_FILE).exists());
}

#[test]
fn tensors_beyond_the_configuration_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let lora = tensors(&config(), &shape());
    let few = AdapterConfig { target_modules: vec![Target::Q], ..config() };
    let shallow = AdapterShape { layers: 1, ..shape() };

    assert!(write_peft(dir.path(), &few, &lora, &shape()).is_err());
    assert!(write_peft(dir.path(), &config(), &lora, &shallow).is_err());
}

#[test]
fn an_odd_head_is_an_error() {
    let shape =
        AdapterShape { heads: 1, head_dim: 3, dims: [(Target::Q, (3, 1))].into(), ..shape() };
    let key = LoraKey { layer: 0, target: Target::Q, factor: Factor::B };
    let lora = LoraTensors::from([(key, Matrix { rows: 3, cols: 1, data: vec![0.0; 3] })]);

    assert!(matches!(peft_tensors(&lora, &shape), Err(StoreError::Shape { .. })));
}

#[test]
fn a_folder_without_an_adapter_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();

    let error = read_peft(dir.path(), &shape()).unwrap_err().to_string();

    assert!(error.contains("adapter_config.json"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_bytes_never_panic(
        weights in any::<bool>(),
        cut in any::<proptest::sample::Index>(),
        truncate in proptest::bool::weighted(0.2),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in good_files() {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let path = dir.path().join(if weights { WEIGHTS_FILE } else { "adapter_config.json" });
        let mut bytes = fs::read(&path).unwrap();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();

        if let Ok((config, lora)) = read_peft(dir.path(), &shape()) {
            prop_assert_eq!(lora.len(), 2 * config.target_modules.len() * shape().layers);
        }
    }

    #[test]
    fn gradients_go_to_peft_and_back(bits in proptest::collection::vec(any::<u32>(), 16)) {
        let shape = AdapterShape { layers: 1, ..shape() };
        let key = LoraKey { layer: 0, target: Target::Q, factor: Factor::B };
        let data: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let lora = LoraTensors::from([(key, Matrix { rows: 8, cols: 2, data })]);

        let back = lora_from_peft(peft_tensors(&lora, &shape).unwrap(), &shape).unwrap();

        let read: Vec<u32> = back[&key].data.iter().map(|v| v.to_bits()).collect();
        prop_assert_eq!(read, bits);
    }
}
