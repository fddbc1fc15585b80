//! Files that describe a model, rightly and wrongly.

use std::path::PathBuf;

use super::*;
use crate::gguf::fixture::{GgufBytes, small_llama, small_qwen2};
use crate::ops::rope::RopeStyle;

fn spec(g: &GgufBytes) -> Result<ModelSpec, SpecError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, g.build()).unwrap();
    ModelSpec::from_gguf(&GgufFile::open(&path).unwrap())
}

#[track_caller]
fn refused(g: &GgufBytes, expected: &str) {
    let message = spec(g).expect_err("this model is not supported").to_string();
    assert!(message.contains(expected), "{message}");
    assert!(message.contains("m.gguf") && !message.contains('\n'), "{message}");
}

#[test]
fn a_llama_file_becomes_numbers() {
    let s = spec(&small_llama()).unwrap();
    assert_eq!((s.layers, s.hidden, s.ffn, s.vocab), (2, 64, 96, 40));
    assert_eq!((s.heads, s.kv_heads, s.head_dim), (4, 2, 16));
    assert_eq!(s.context_length, 256);
    assert!(s.tied_embeddings && s.family.permuted_qk && !s.rope.has_factors);
    assert_eq!(s.target_dims(Target::K), (32, 64));
    assert_eq!(s.target_dims(Target::Down), (64, 96));
}

#[test]
fn a_qwen2_file_has_biases_and_another_rotation() {
    let s = spec(&small_qwen2()).unwrap();
    assert_eq!((s.family.name, s.family.rope), ("qwen2", RopeStyle::Halves));
    assert!(!s.tied_embeddings && !s.family.permuted_qk);
    let bias = "blk.1.attn_k.bias";
    refused(&small_qwen2().without_tensor(bias), "no tensor blk.1.attn_k.bias");
    let long = small_qwen2().without_tensor(bias).weights(bias, &[64], 0);
    refused(&long, "should be F32 of shape [32], but is F32 of shape [64]");
}

#[test]
fn an_output_matrix_rope_factors_and_linear_scaling_are_seen() {
    let g = small_llama()
        .weights("output.weight", &[64, 40], 8)
        .weights("rope_freqs.weight", &[8], 0)
        .str("llama.rope.scaling.type", "linear")
        .f32("llama.rope.scaling.factor", 4.0);
    let s = spec(&g).unwrap();
    assert!(!s.tied_embeddings && s.rope.has_factors);
    assert!((s.rope.linear_factor - 4.0).abs() < 1e-6);
}

#[test]
fn missing_optional_keys_take_ggmls_defaults() {
    let g = small_llama()
        .without("llama.attention.head_count_kv")
        .without("llama.rope.freq_base")
        .without("llama.rope.dimension_count");
    // Without the key there are as many key heads as query heads, which these tensors contradict.
    refused(&g, "tensor blk.0.attn_k.weight should be");
    let s = spec(&g.u32("llama.attention.head_count_kv", 2)).unwrap();
    assert_eq!((s.rope.dim, s.rope.base), (16, 10_000.0));
}

#[test]
fn frequencies_follow_the_formula() {
    let mut rope = spec(&small_llama()).unwrap().rope;
    let f = rope.frequencies(None);
    assert_eq!(f.len(), 8);
    // 10000^(-2i/16) = 10^(-i/2)
    for (i, f) in f.iter().enumerate() {
        assert!((f - 10f32.powf(-0.5 * i as f32)).abs() < 1e-6, "{i}: {f}");
    }
    rope.linear_factor = 2.0;
    let g = rope.frequencies(Some(&[4.0; 8]));
    assert!(f.iter().zip(&g).all(|(a, b)| (a / 8.0 - b).abs() < 1e-7));
}

#[test]
fn other_architectures_are_named_with_those_that_work() {
    let g = small_llama().without("general.architecture").str("general.architecture", "mamba");
    refused(&g, "the architecture mamba is not supported; supported: llama, qwen2");
    refused(&small_llama().without("general.architecture"), "general.architecture is missing");
}

#[test]
fn absurd_numbers_are_refused_by_key() {
    for (key, value) in [
        ("llama.block_count", 0),
        ("llama.block_count", u32::MAX),
        ("llama.embedding_length", 1 << 30),
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", 5),
        ("llama.attention.head_count_kv", 3),
        ("llama.context_length", 0),
        ("llama.rope.dimension_count", 8),
    ] {
        refused(&small_llama().without(key).u32(key, value), key);
    }
    for value in [f32::NAN, 0.0, -1.0, f32::INFINITY] {
        for key in ["llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"] {
            refused(&small_llama().without(key).f32(key, value), key);
        }
    }
    let odd = small_llama().u32("llama.attention.key_length", 15);
    refused(&odd, "only a value that is even");
    refused(&small_llama().without("llama.block_count"), "llama.block_count is missing");
}

#[test]
fn variants_that_would_compute_something_else_are_refused() {
    refused(&small_llama().u32("llama.expert_count", 8), "llama.expert_count is 8");
    refused(&small_llama().str("llama.rope.scaling.type", "yarn"), "is yarn");
    refused(&small_llama().f32("llama.logit_scale", 0.5), "llama.logit_scale");
    refused(&small_llama().bool("llama.attention.causal", false), "causal");
    let biased = small_llama().weights("blk.0.attn_q.bias", &[64], 0);
    refused(&biased, "tensor blk.0.attn_q.bias is part of a variant");
}

#[test]
fn tensors_are_checked_by_name_shape_and_type() {
    refused(&small_llama().without_tensor("blk.1.ffn_up.weight"), "no tensor blk.1.ffn_up.weight");
    let replaced = |dims: &[u64], kind| {
        let name = "blk.0.attn_q.weight";
        small_llama().without_tensor(name).weights(name, dims, kind)
    };
    refused(&replaced(&[64, 32], 3), "of shape [64, 64], but is Q4_1 of shape [64, 32]");
    refused(&replaced(&[32, 128], 3), "of shape [32, 128]");
    assert!(spec(&replaced(&[64, 64], 0)).is_ok());

    let name = "output_norm.weight";
    let quantized_norm = small_llama().without_tensor(name).weights(name, &[64], 8);
    refused(&quantized_norm, "should be F32 of shape [64], but is Q8_0 of shape [64]");
    let name = "token_embd.weight";
    let unknown = small_llama().without_tensor(name).tensor(name, &[64, 40], 20, vec![0; 1440]);
    refused(&unknown, "but is IQ4_NL of shape [64, 40]");
    let short = small_llama().without_tensor(name).weights(name, &[64, 39], 8);
    refused(&short, "of shape [64, 40], but is Q8_0 of shape [64, 39]");
}

#[test]
#[ignore = "needs SmolLM2-135M-Instruct.Q4_1.gguf, named by LATROD_TEST_MODEL"]
fn smollm2_is_supported() {
    let path = std::env::var_os("LATROD_TEST_MODEL").map(PathBuf::from).expect("is set");
    let s = ModelSpec::from_gguf(&GgufFile::open(&path).unwrap()).unwrap();
    assert_eq!((s.layers, s.hidden, s.ffn, s.vocab), (30, 576, 1536, 49152));
}
