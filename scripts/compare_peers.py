#!/usr/bin/env python3
"""Compares a LaTRO step in latrod and in other programs on one machine: medians of several runs, side by side.

    scripts/compare_peers.py --model smol.gguf
    scripts/compare_peers.py --model smol.gguf --python v/bin/python --torch torch_reference.py \\
        --llama llama_cpp_reference.py --runs 5 --json results.json

latrod is measured by `cargo bench --bench step`. The others are programs that take these arguments and print
JSON lines with these fields; they are left out if not given:

    --torch: bench MODEL --k K --max-new NEW --iters N --threads T      (its prompt is its own)
             rollout_tok_s, total_s, rss_mb: a line for each step
    --llama: bench MODEL --k K --prompt P --new NEW --prefill N --threads T
             decode_tok_s, prefill_tok_s, rss_mb: one line; it doesn't train

The programs take turns, round by round, so that a busy minute affects all of them. Run nothing else meanwhile.
For latrod, prefill is the sampling time of a step with a prompt of --prefill tokens and one new token each, which
is computed from the prompt alone.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
METRICS = {  # name: unit, whether more is better
    "step": ("LaTRO step, s", False),
    "peak": ("peak memory, MB", False),
    "rollout 8": ("rollout K 8, tok/s", True),
    "rollout 16": ("rollout K 16, tok/s", True),
    "prefill": ("prefill, tok/s", True),
}


def lines(command, **options):
    """The JSON objects that a command prints, one a line."""
    print("+", " ".join(map(str, command)), file=sys.stderr, flush=True)
    try:
        done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE, check=True, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"cannot measure: {error}")
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return found or sys.exit(f"{command[0]} printed no JSON line")


def median(rows, field):
    return statistics.median(row[field] for row in rows)


def latrod(a, compute):
    """One round of ours."""
    def step(k, prompt, new):
        command = ["cargo", "bench", "--locked", "--quiet", "--bench", "step", "--", "--model", a.model, "-k", k,
                   "--prompt", prompt, "--new", new, "--iters", a.iters, "--threads", a.threads, "--compute", compute]
        return lines(command, cwd=ROOT)

    eight, sixteen, prefill = step(8, a.prompt, a.new), step(16, a.prompt, a.new), step(2, a.prefill, 1)
    return {
        "step": median(eight, "total_s"),
        "peak": max(row["rss_mb"] for row in eight),
        "rollout 8": median(eight, "rollout_tok_s"),
        "rollout 16": median(sixteen, "rollout_tok_s"),
        "prefill": a.prefill / median(prefill, "rollout_s"),
    }


def torch(a):
    """One round of the PyTorch reference, which trains."""
    def bench(k):
        return lines([a.python, a.torch, "bench", a.model, "--k", k, "--max-new", a.new, "--iters", a.iters,
                      "--threads", a.threads])

    eight, sixteen = bench(8), bench(16)
    return {
        "step": median(eight, "total_s"),
        "peak": max(row["rss_mb"] for row in eight),
        "rollout 8": median(eight, "rollout_tok_s"),
        "rollout 16": median(sixteen, "rollout_tok_s"),
    }


def llama(a):
    """One round of the llama.cpp reference, which samples only; its peak is that of sampling."""
    def bench(k):
        return lines([a.python, a.llama, "bench", a.model, "--k", k, "--prompt", a.prompt, "--new", a.new,
                      "--prefill", a.prefill, "--threads", a.threads])[-1]

    eight, sixteen = bench(8), bench(16)
    return {
        "peak": eight["rss_mb"],
        "rollout 8": eight["decode_tok_s"],
        "rollout 16": sixteen["decode_tok_s"],
        "prefill": statistics.median([eight["prefill_tok_s"], sixteen["prefill_tok_s"]]),
    }


def measure(a, computes):
    """The rounds of each program, which take turns, and their medians."""
    programs = {f"latrod {compute}": lambda compute=compute: latrod(a, compute) for compute in computes}
    if a.torch:
        programs["PyTorch"] = lambda: torch(a)
    if a.llama:
        programs["llama.cpp"] = lambda: llama(a)

    rounds = {name: [] for name in programs}
    for _ in range(a.runs):
        for name, run in programs.items():
            rounds[name].append(run())
    return rounds, {name: {m: median(rows, m) for m in METRICS if m in rows[0]} for name, rows in rounds.items()}


def table(medians):
    """Markdown: the figures, and by what factor our first column is better than each other program."""
    names = list(medians)
    ours, others = names[0], [n for n in names if not n.startswith("latrod")]
    head = ["", *names, *(f"{ours} against {n}" for n in others)]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for metric, (label, more) in METRICS.items():
        row = [label]
        for name in names:
            value = medians[name].get(metric)
            row.append("–" if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}")
        for name in others:
            mine, its = medians[ours].get(metric), medians[name].get(metric)
            row.append(f"{mine / its if more else its / mine:.2f}×" if mine and its else "–")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="a GGUF file")
    p.add_argument("--torch", help="the PyTorch reference")
    p.add_argument("--llama", help="the llama.cpp reference")
    p.add_argument("--python", default=sys.executable, help="the Python that runs them")
    p.add_argument("--prompt", type=int, default=76, help="tokens of the prompt (%(default)s)")
    p.add_argument("--new", type=int, default=128, help="tokens of a rationale (%(default)s)")
    p.add_argument("--prefill", type=int, default=512, help="tokens of the prompt of the prefill figure (%(default)s)")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (%(default)s)")
    p.add_argument("--iters", type=int, default=3, help="steps in a run (%(default)s)")
    p.add_argument("--runs", type=int, default=3, help="rounds (%(default)s)")
    p.add_argument("--json", help="also write every figure here")
    a = p.parse_args()
    a.model = os.path.abspath(a.model)

    rounds, medians = measure(a, ("fast", "exact"))

    settings = {name: getattr(a, name) for name in ("prompt", "new", "prefill", "threads", "iters", "runs")}
    settings["model"] = os.path.basename(a.model)
    print(f"{settings['model']}: K 8, {a.prompt} + {a.new} tokens, {a.threads} threads, rounds: {a.runs}, medians\n")
    print(table(medians))
    if a.json:
        with open(a.json, "w") as f:
            f.write(json.dumps({"settings": settings, "medians": medians, "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
