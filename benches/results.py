#!/usr/bin/env python3
"""Measures everything that results.md reports, on one machine in one run, beside PyTorch and llama.cpp.

    benches/results.py --smollm2 SMOL.gguf --qwen QWEN.gguf                  # prints our figures
    benches/results.py --smollm2 SMOL.gguf --qwen QWEN.gguf --python v/bin/python \\
        --torch torch_reference.py --llama llama_cpp_reference.py --write    # makes results.md

The models are those that scripts/fetch-model.sh fetches; what the other programs are is said by
scripts/compare_peers.py. Run nothing else meanwhile: a round takes about 12 minutes.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
import compare_peers as peers  # noqa: E402

REPORT = os.path.join(ROOT, "benches", "results.md")
BEHIND = (128, 1024, 4096)
SEQUENCES = (8, 16, 32, 64)
PHASES = {"rollout_s": "rollout", "score_s": "forward passes and head", "update_s": "backward pass"}


def bench(name, *options):
    """The command that runs one of our benches."""
    return ["cargo", "bench", "--locked", "--quiet", "--bench", name, "--", *map(str, options)]


def step(model, *options, iters=3):
    """The steps of one run without the first, which is a warm-up."""
    return peers.lines(bench("step", "--model", model, "--iters", iters, *options), cwd=ROOT)[1:]


def limits(*options):
    """What the limits bench says, one object."""
    command = bench("limits", "--json", *options)
    print("+", " ".join(command), file=sys.stderr, flush=True)
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout)


def machine():
    with open("/proc/cpuinfo") as f:
        found = re.search(r"^model name\s*: (.*)", f.read(), re.MULTILINE)
    return found[1] if found else "unknown"


def versions(python, *packages):
    code = "import importlib.metadata as m, sys; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *packages], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def rates(a):
    peak = limits("--threads", a.threads)["peak"]
    yield "## What the machine can do\n"
    best = {}
    for product in peak["products"]:
        kind = product["operands"]
        best[kind] = max(product, best.get(kind, product), key=lambda p: p["giga_per_s"]["all"])
    rows = [[f"{kind}, `{p['instructions']}`, 1e9 operations a second", *(f"{p['giga_per_s'][n]:.0f}" for n in ("one", "all"))]
            for kind, p in best.items()]
    for name in ("cache", "memory"):
        if peak.get(name):
            rows.append([f"{name}, GB a second", *(f"{peak[name]['gb_per_s'][n]:.1f}" for n in ("one", "all"))])
    yield from table(["", "1 thread", f"{a.threads} threads"], rows)


def phases(a, name, model, options):
    """Each part of a step beside the least time that the machine allows."""
    least = limits("--model", model, "--threads", a.threads, *options)
    # With tiles, if the processor has them: that mode comes last.
    fast = max(i for i, mode in enumerate(least["modes"]) if mode["name"].startswith("fast"))
    of = {part["name"]: part["least_s"][fast] for part in least["parts"]}
    at_least = {
        "rollout_s": of["rollout"],
        "score_s": of["reference forward"] + of["policy forward"],
        "update_s": of["backward"],
    }
    runs = {n: [line for _ in range(a.runs) for line in step(model, "--threads", n, *options)] for n in (1, a.threads)}
    yield f"\n## Parts of a step: {name}\n"
    yield f"`{' '.join(map(str, options))}`, medians; the least time is counted for {a.threads} threads.\n"
    rows = []
    for field, label in PHASES.items():
        one, all_threads = (peers.median(runs[n], field) for n in (1, a.threads))
        rows.append([label, f"{one:.2f}", f"{all_threads:.2f}", f"{one / all_threads:.2f}×", f"{at_least[field]:.2f}",
                     f"{at_least[field] / all_threads:.0%}"])
    yield from table(["", "1 thread, s", f"{a.threads} threads, s", "gain", "least, s", "of the limit"], rows)
    yield f"\nPeak memory: {max(line['rss_mb'] for line in runs[a.threads]):.0f} MiB."


def against_peers(a, name, model):
    """compare_peers's table."""
    b = argparse.Namespace(model=model, python=a.python, torch=a.torch, llama=a.llama, prompt=76, new=128, prefill=512,
                           threads=a.threads, iters=2, runs=a.runs)
    _, medians = peers.measure(b, ["fast"])
    yield f"\n## Beside other programs: {name}\n\nK 8, 76 + 128 tokens.\n"
    yield peers.table(medians)


def rollouts(a, name, model):
    """Sampling with few branches, which reads weights, and with many, which multiplies."""
    settings = {"8 branches, 76 + 64 tokens": (8, 1, 76, 64), "12 × 8 branches, 100 + 100 tokens": (8, 12, 100, 100)}
    yield f"\n## Sampling: {name}\n"
    rows = []
    for label, (k, prompts, prompt, new) in settings.items():
        options = ["-k", k, "--prompts-per-step", prompts, "--prompt", prompt, "--new", new]
        ours, theirs = [], []
        for _ in range(a.runs):
            ours += [line["rollout_tok_s"] for line in step(model, *options, "--rollout-only", "--threads", a.threads, iters=2)]
            if a.llama:
                counts = [k] if prompts == 1 else SEQUENCES
                found = [peers.lines([a.python, a.llama, "bench", model, "--k", n, "--prompt", prompt, "--new", 32, "--prefill",
                                      32, "--threads", a.threads])[-1] for n in counts]
                theirs.append(max(line["decode_tok_s"] for line in found))
        mine = statistics.median(ours)
        rows.append([label, f"{mine:.0f}"] + ([f"{statistics.median(theirs):.0f}", f"{mine / statistics.median(theirs):.2f}×"]
                                            if theirs else ["–", "–"]))
    yield from table(["", "latrod, tok/s", "llama.cpp, tok/s", "factor"], rows)
    yield "\nFor many branches, llama.cpp's figure is its best of " + ", ".join(map(str, SEQUENCES)) + " sequences."


def behind(a, name, model):
    """Decoding behind longer prompts: the time of many tokens less that of few."""
    few, many = 2, 66
    yield f"\n## Decoding behind longer prompts: {name}, K 8\n"
    best = {}
    for prompt in (p for _ in range(a.runs) for p in BEHIND):
        for new in (few, many):
            lines = step(model, "-k", 8, "--prompt", prompt, "--new", new, "--rollout-only", "--threads", a.threads)
            best.setdefault((prompt, new), []).extend(line["rollout_s"] for line in lines)
    rate = {p: 8 * (many - few) / (min(best[p, many]) - min(best[p, few])) for p in BEHIND}
    yield from table(["tokens before", *map(str, BEHIND)],
                     [["tok/s", *(f"{rate[p]:.0f}" for p in BEHIND)],
                      ["of the first", *(f"{rate[p] / rate[BEHIND[0]]:.0%}" for p in BEHIND)]])


def report(a):
    yield "# Speed and memory\n"
    yield f"Made by `benches/results.py`, which says how, on {a.threads} cores of: {machine()}; medians of {a.runs} round{'s' if a.runs > 1 else ''}."
    if a.torch or a.llama:
        packages = (["torch", "peft", "transformers"] if a.torch else []) + (["llama-cpp-python"] if a.llama else [])
        yield f"With {versions(a.python, *packages)}."
    yield ""
    yield from rates(a)
    yield from phases(a, "SmolLM2-135M-Instruct Q4_1", a.smollm2, ["-k", 8, "--prompt", 76, "--new", 128])
    yield from against_peers(a, "SmolLM2-135M-Instruct Q4_1", a.smollm2)
    yield from behind(a, "SmolLM2-135M-Instruct Q4_1", a.smollm2)
    yield from phases(a, "Qwen2.5-Coder-0.5B-Instruct Q4_K_M", a.qwen, ["-k", 8, "--prompt", 76, "--new", 64])
    yield from rollouts(a, "Qwen2.5-Coder-0.5B-Instruct Q4_K_M", a.qwen)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--smollm2", required=True, metavar="GGUF", help="SmolLM2-135M-Instruct, Q4_1")
    p.add_argument("--qwen", required=True, metavar="GGUF", help="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M")
    p.add_argument("--torch", help="the PyTorch reference")
    p.add_argument("--llama", help="the llama.cpp reference")
    p.add_argument("--python", default=sys.executable, help="the Python that runs them")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (%(default)s)")
    p.add_argument("--runs", type=int, default=2, help="rounds (%(default)s)")
    p.add_argument("--write", action="store_true", help="write benches/results.md")
    a = p.parse_args()
    if a.write and not (a.torch and a.llama):
        p.error("results.md needs the other programs: --torch and --llama")
    a.smollm2, a.qwen = os.path.abspath(a.smollm2), os.path.abspath(a.qwen)
    text = "".join(line + "\n" for line in report(a))
    if a.write:
        with open(REPORT, "w") as f:
            f.write(text)
    print(text, end="")


if __name__ == "__main__":
    main()
