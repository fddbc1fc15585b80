#!/usr/bin/env python3
"""Compares latrod's numbers on a model with those of PyTorch, as written by parity_fixture.py.

Install:  pip install -r requirements.txt
Run:      parity_fixture.py --model qwen.gguf --tasks tasks.jsonl --out parity
          check_parity.py --latrod ../target/release/latrod --model qwen.gguf --fixture parity

Prints one JSON line: the largest difference in a token's log-probability, in rewards and advantages, and the
largest relative error of a gradient (‖ours − theirs‖ / ‖theirs‖), in exact mode unless --compute says fast.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy as np
from safetensors.numpy import load_file


def lines(text):
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def largest(ours, theirs, name):
    flat = lambda all_tasks: np.concatenate([np.ravel(np.asarray(t[name], dtype=np.float64)) for t in all_tasks])
    return float(np.abs(flat(ours) - flat(theirs)).max())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--latrod", required=True, help="the program, with its command debug")
    p.add_argument("--model", required=True)
    p.add_argument("--fixture", required=True, help="the folder written by parity_fixture.py")
    p.add_argument("--compute", default="exact")
    a = p.parse_args()
    inside = lambda name: os.path.join(a.fixture, name)
    shared = ["--model", a.model, "--rollouts", inside("rollouts.jsonl"), "--adapter", inside("adapter"),
              "--compute", a.compute]

    def run(*args):
        return subprocess.run([a.latrod, "debug", *args], check=True, capture_output=True, text=True).stdout

    ours = lines(run("score", *shared, "--tokens"))
    with open(inside("expected.jsonl"), encoding="utf-8") as f:
        theirs = lines(f.read())
    with tempfile.TemporaryDirectory() as work:
        out = os.path.join(work, "gradients.safetensors")
        run("grad", *shared, "--out", out)
        got, wanted = load_file(out), load_file(inside("gradients.safetensors"))
    assert got.keys() == wanted.keys(), "the same tensors"
    errors = {k: float(np.linalg.norm(got[k] - w) / np.linalg.norm(w)) for k, w in wanted.items()}
    worst = max(errors, key=errors.get)
    print(json.dumps({
        "tasks": len(ours), "tokens": sum(len(t["token_logp"]) for t in ours),
        "token_logp": largest(ours, theirs, "token_logp"), "reward": largest(ours, theirs, "reward"),
        "advantage": largest(ours, theirs, "advantage"), "gradients": len(errors),
        "gradient": errors[worst], "gradient_median": float(np.median(list(errors.values()))), "worst": worst,
    }))


if __name__ == "__main__":
    main()
