#!/usr/bin/env python3
"""Writes tests/fixtures/parity-qwen2/model.gguf: a qwen2 model of two layers with random weights.

Install:  pip install -r requirements.txt
Run:      make_qwen2_fixture.py --tiny ../tests/fixtures/tiny.gguf --out ../tests/fixtures/parity-qwen2/model.gguf
          parity_fixture.py --model ../tests/fixtures/parity-qwen2/model.gguf --tasks ../tests/fixtures/tiny-train.jsonl \\
                            --out ../tests/fixtures/parity-qwen2

Tokenizer and chat template are those of the tiny model. The biases of q, k and v are as large as the
values they are added to, so that a missing or misplaced one shows. Head and embedding are separate matrices.
"""
import argparse

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import quantize

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS = 2, 64, 96, 4, 2


def copy_tokenizer(out, tiny):
    for key, field in tiny.fields.items():
        if key.startswith("tokenizer."):
            kind = field.types[0]
            if kind == GGUFValueType.ARRAY:
                out.add_array(key, field.contents())
            else:
                out.add_key_value(key, field.contents(), kind)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tiny", required=True, help="the GGUF file whose tokenizer is taken")
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    rng, tiny = np.random.default_rng(a.seed), GGUFReader(a.tiny)
    vocabulary = len(tiny.fields["tokenizer.ggml.tokens"].contents())
    out = GGUFWriter(a.out, "qwen2")
    out.add_type("model")
    out.add_name("Random qwen2")
    out.add_license("MIT OR Apache-2.0")
    out.add_block_count(LAYERS)
    out.add_context_length(512)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(FFN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_rope_freq_base(1e6)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_quantization_version(2)
    copy_tokenizer(out, tiny)

    def matrix(name, rows, cols, kind, scale=None):
        values = rng.normal(0, scale or cols**-0.5, (rows, cols)).astype(np.float32)
        out.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    def vector(name, width, mean, scale):
        out.add_tensor(name, rng.normal(mean, scale, width).astype(np.float32))

    matrix("token_embd.weight", vocabulary, HIDDEN, T.Q8_0, 1.0)
    matrix("output.weight", vocabulary, HIDDEN, T.Q8_0)
    vector("output_norm.weight", HIDDEN, 1, 0.1)
    head = HIDDEN // HEADS
    for i in range(LAYERS):
        vector(f"blk.{i}.attn_norm.weight", HIDDEN, 1, 0.1)
        vector(f"blk.{i}.ffn_norm.weight", HIDDEN, 1, 0.1)
        for name, rows in (("q", HEADS * head), ("k", KV_HEADS * head), ("v", KV_HEADS * head)):
            matrix(f"blk.{i}.attn_{name}.weight", rows, HIDDEN, T.Q5_0)
            vector(f"blk.{i}.attn_{name}.bias", rows, 0, 1)
        matrix(f"blk.{i}.attn_output.weight", HIDDEN, HEADS * head, T.Q5_0)
        matrix(f"blk.{i}.ffn_gate.weight", FFN, HIDDEN, T.Q8_0)
        matrix(f"blk.{i}.ffn_up.weight", FFN, HIDDEN, T.Q8_0)
        matrix(f"blk.{i}.ffn_down.weight", HIDDEN, FFN, T.Q8_0)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main()
