#!/usr/bin/env python3
"""Compares ways of computing the same logits: KL(first ‖ other) per token, in nats.

    pip install numpy
    latrod debug logits --model M --ids ids.json --compute exact --out exact.npy
    latrod debug logits --model M --ids ids.json --compute fast --out fast.npy
    scripts/compare_logits.py exact.npy fast.npy [llama-cpp.npy …]

Every file holds float32 or float64 logits [tokens, vocabulary] of the same tokens. The first is the reference.
Files are mapped and read a few rows at a time, so they may be larger than memory.
"""
import sys

import numpy as np

ROWS = 64


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergences(truth, other):
    """KL(truth ‖ other) of each token, and whether both have the same likeliest next token."""
    kl, same = [], []
    for start in range(0, len(truth), ROWS):
        p, q = (log_softmax(x[start:start + ROWS].astype(np.float64)) for x in (truth, other))
        kl.append((np.exp(p) * (p - q)).sum(axis=1))
        same.append(p.argmax(axis=1) == q.argmax(axis=1))
    return np.concatenate(kl), np.concatenate(same)


def main(paths):
    if len(paths) < 2:
        sys.exit(__doc__)
    try:
        truth, *others = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read the logits: {error}")
    if truth.ndim != 2 or 0 in truth.shape:
        sys.exit(f"{paths[0]}: expected logits [tokens, vocabulary], found the shape {truth.shape}")
    print(f"{len(truth)} tokens; KL({paths[0]} ‖ other), nats per token")
    print(f"{'mean':>10} {'median':>10} {'max':>10} {'same top':>10}  other")
    for path, other in zip(paths[1:], others):
        if other.shape != truth.shape:
            sys.exit(f"{path}: shape {other.shape}, but {paths[0]} has {truth.shape}")
        kl, same = divergences(truth, other)
        if not np.isfinite(kl).all():
            sys.exit(f"{path}: some logits are not finite")
        print(f"{kl.mean():10.6f} {np.median(kl):10.6f} {kl.max():10.6f} {same.mean():10.2%}  {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
