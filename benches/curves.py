#!/usr/bin/env python3
"""Compares the learning curves of `--compute fast` and `exact`, seed by seed.

    cargo build --release --locked
    benches/curves.py target/release/latrod --model SMOL.gguf --tasks samples/sums-train.jsonl --steps 16
    benches/curves.py target/release/latrod --model tests/fixtures/tiny.gguf --tasks tests/fixtures/tiny-train.jsonl \\
        --steps 100 -- --learning-rate 1e-3

What follows `--` goes to `latrod train`. Printed is the mean reward over the second half of the steps for each seed,
and the mean of the differences with its 95 % interval (Student's t, paired by seed). An interval that holds 0 shows no
difference that these seeds could tell from chance. Both runs sample with the same random numbers, but rounding makes
them say different things soon.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

# The quantile 0.975 of Student's t for 1, 2, … degrees of freedom.
T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def rewards(a, compute, seed):
    """The reward of each step of a run."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = os.path.join(folder, "adapter")
        command = [a.program, "train", "--model", a.model, "--tasks", a.tasks, "--adapter", adapter, "--compute", compute,
                   "--seed", seed, "--steps", a.steps, "--eval-questions", 0, *a.more]
        done = subprocess.run([str(c) for c in command], text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"cannot train: {done.stderr.strip()}")
        with open(os.path.join(adapter, "metrics.jsonl")) as f:
            lines = [json.loads(line) for line in f]
    return [line["reward"] for line in lines if "reward" in line]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program", help="latrod")
    p.add_argument("--model", required=True, help="a GGUF file")
    p.add_argument("--tasks", required=True, help="questions with answers")
    p.add_argument("--steps", type=int, default=16, help="steps of each run (%(default)s)")
    p.add_argument("--seeds", type=int, default=3, help="runs of each kind, 2 to 10 (%(default)s)")
    # argparse takes no list of options behind other options.
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = p.parse_args(sys.argv[1:end], argparse.Namespace(more=sys.argv[end + 1:]))
    if not 2 <= a.seeds <= len(T) + 1:
        p.error("--seeds must be 2 to 10")

    print("| seed | fast | exact | difference |\n|---:|---:|---:|---:|", flush=True)
    differences = []
    for seed in range(1, a.seeds + 1):
        late = {c: statistics.mean(rewards(a, c, seed)[a.steps // 2:]) for c in ("fast", "exact")}
        differences.append(late["fast"] - late["exact"])
        print(f"| {seed} | {late['fast']:.4f} | {late['exact']:.4f} | {differences[-1]:+.4f} |", flush=True)
    mean = statistics.mean(differences)
    half = T[a.seeds - 2] * statistics.stdev(differences) / a.seeds ** 0.5
    print(f"\nfast less exact: {mean:+.4f}, 95 % interval {mean - half:+.4f} to {mean + half:+.4f}")


if __name__ == "__main__":
    main()
