//! Costs of a model small enough to count by hand.

use super::*;
use crate::arch::FAMILIES;
use crate::arch::spec::Rope;
use crate::gguf::fixture::small_llama;

/// Two blocks of width 4 with 2 query heads and 1 key head of 2, a feed-forward width of 6, and 10
/// tokens. A block has Q 4·4, O 4·4, three of 6·4 = 104, and K, V 2·4 each = 16 weights.
fn tiny() -> ModelSpec {
    ModelSpec {
        family: FAMILIES[0],
        layers: 2,
        hidden: 4,
        ffn: 6,
        heads: 2,
        kv_heads: 1,
        head_dim: 2,
        vocab: 10,
        context_length: 64,
        rms_eps: 1e-5,
        rope: Rope { base: 1e4, dim: 2, linear_factor: 1.0, has_factors: false },
        tied_embeddings: true,
    }
}

const BYTES: WeightBytes = WeightBytes { blocks: 1000, head: 300 };

/// With rank 3 on Q (4 + 4) and Down (4 + 6): 3·18 = 54 parameters a block.
fn model() -> CostModel {
    let adapter = CostAdapter { rank: 3, targets: &[Target::Q, Target::Down] };
    CostModel::new(&tiny(), BYTES, Some(adapter))
}

#[test]
fn decoding_counts_each_branch_and_the_shared_prompt_once() {
    // 3 branches; each row sees 5 + 2 keys.
    let expected = Cost {
        projections: 2 * 3 * 104,
        keys_values: 2 * 3 * 16,
        lora: 2 * 3 * 54,
        // Per layer, row and key a score and a sum of 2 heads of 2 each.
        attention: 2 * 3 * 7 * (2 * 2 + 2 * 2),
        head: 3 * 40,
        weight_bytes: 1300,
        // Keys and values, 2 wide, of 5 shared and 3·2 own tokens.
        kv_bytes: 2 * 2 * 2 * (5 + 6) * 4,
        ..Cost::default()
    };
    assert_eq!(model().decode(3, 5, 2), expected);
}

#[test]
fn a_prompt_sees_itself_backwards_and_has_one_row_of_logits() {
    let cost = model().prefill(4);

    assert_eq!(cost.projections, 2 * 4 * 104);
    assert_eq!(cost.attention, 2 * (1 + 2 + 3 + 4) * 8);
    assert_eq!((cost.head, cost.head_gradients), (40, 0));
    assert_eq!(cost.kv_bytes, 2 * 2 * 2 * 4 * 4);
}

/// A prompt of 2; two branches of 3 + 1 tokens, of which 3 are fed: 8 rows.
const SIZE: TreeSize = TreeSize { prompt: 2, branches: 2, new: 3, answer: 1 };

#[test]
fn a_rollout_is_the_prompt_and_a_step_for_each_token_but_the_last() {
    let steps: Vec<Cost> = model().rollout(SIZE).collect();

    assert_eq!(steps, [model().prefill(2), model().decode(2, 2, 1), model().decode(2, 2, 2)]);
}

#[test]
fn a_tree_counts_the_prompt_once() {
    let forward = model().tree_forward(SIZE);

    assert_eq!((SIZE.rows(), SIZE.predictions()), (8, 8));
    assert_eq!(forward.projections, 2 * 8 * 104);
    assert_eq!(forward.lora, 2 * 8 * 54);
    // The prompt's rows see 1, 2; each branch's 3, 4, 5.
    assert_eq!(forward.attention, 2 * (3 + 2 * 12) * 8);
    assert_eq!((forward.head, forward.weight_bytes, forward.kv_bytes), (0, 1000, 0));
    assert_eq!(CostModel::new(&tiny(), BYTES, None).tree_forward(SIZE).lora, 0);
}

#[test]
fn going_back_computes_again_and_then_twice_as_much() {
    let (forward, backward) = (model().tree_forward(SIZE), model().tree_backward(SIZE));

    assert_eq!(backward.projections, forward.projections);
    assert_eq!(backward.input_gradients, 2 * 8 * (104 + 16));
    assert_eq!(backward.lora, 3 * forward.lora);
    assert_eq!(backward.attention, 3 * forward.attention);
    assert_eq!(backward.weight_bytes, 2000);
}

#[test]
fn the_head_is_read_again_for_its_gradient() {
    let (without, with) = (model().head(5, false), model().head(5, true));

    assert_eq!((without.head, without.head_gradients, without.weight_bytes), (200, 0, 300));
    assert_eq!((with.head, with.head_gradients, with.weight_bytes), (200, 200, 600));
    assert_eq!(
        without + with,
        Cost { head: 400, head_gradients: 200, weight_bytes: 900, ..without }
    );
}

#[test]
fn the_slower_of_operations_and_bytes_sets_the_time() {
    let rates =
        MachineRates { float: 10.0, int8: 40.0, cache: 8.0, memory: 2.0, cache_bytes: 100.0 };
    let cost = Cost { projections: 600, head: 200, lora: 100, ..Cost::default() };
    let near = |seconds: f64, nanoseconds: f64| assert!((seconds * 1e9 - nanoseconds).abs() < 1e-9);

    assert_eq!(cost.products(Compute::Exact), (0, 900));
    assert_eq!(cost.products(Compute::Fast), (800, 100));
    near(cost.seconds(Compute::Exact, &rates), 2.0 * 900.0 / 10.0);
    near(cost.seconds(Compute::Fast, &rates), 2.0 * (800.0 / 40.0 + 100.0 / 10.0));
    let cached = Cost { weight_bytes: 70, kv_bytes: 30, ..Cost::default() };
    near(cached.seconds(Compute::Fast, &rates), 100.0 / 8.0);
    near(Cost { kv_bytes: 31, ..cached }.seconds(Compute::Fast, &rates), 101.0 / 2.0);
}

#[test]
fn every_gradient_is_counted_as_f32() {
    let one = Cost {
        projections: 1,
        keys_values: 2,
        input_gradients: 4,
        lora: 8,
        attention: 16,
        head: 32,
        head_gradients: 64,
        weight_bytes: 128,
        kv_bytes: 256,
    };
    assert_eq!(one.products(Compute::Fast), (33, 94));
    assert_eq!((one + one).products(Compute::Exact), (0, 254));
}

#[test]
fn bytes_are_those_of_the_files_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, small_llama().build()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let spec = ModelSpec::from_gguf(&file).unwrap();

    let bytes = WeightBytes::of(&file, &spec);

    let size = |name: &str| file.tensor(name).unwrap().bytes().unwrap();
    let block = |layer: usize| -> u64 {
        Target::ALL.iter().map(|t| size(&format!("blk.{layer}.{}.weight", t.gguf_name()))).sum()
    };
    assert_eq!(bytes.blocks, block(0) + block(1));
    assert_eq!(bytes.head, size("token_embd.weight"));
}
