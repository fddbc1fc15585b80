#!/usr/bin/env python3
"""Counts the instructions of the hot paths and fails if one takes more than it used to.

    benches/instructions.py             compare with instructions.json; exit code 1 beyond +3 %
    benches/instructions.py --update    write what is counted now into instructions.json

No clock is involved, so the verdict doesn't depend on how busy the machine is. Needs valgrind, which knows
neither AVX-512 nor AMX and hides them from the program: the best set that it does know is counted, or the one
that the environment variable LATROD_ISA names. instructions.json keeps a list of counts for each set.

Work is done once and then so many times more; the difference counts. Whatever happens once (loading, looking
for the instruction set, first allocations) is in both and falls out.
"""
import argparse
import json
import os
import re
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
REFERENCE = os.path.join(FOLDER, "instructions.json")
MORE = 2  # times
VALGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]


def output(command, **options):
    """Standard output and error of a command that must succeed."""
    try:
        done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed")
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return done.stdout, done.stderr


def build():
    """The path of the bench program."""
    command = ["cargo", "bench", "--locked", "--quiet", "--bench", "instructions", "--no-run", "--message-format=json"]
    for line in output(command, cwd=FOLDER)[0].splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return message["executable"]
    sys.exit("cargo built no program called instructions")


def executed(program, name, times):
    """Instructions of a whole run."""
    log = output([*VALGRIND, program, name, str(times)])[1]
    total = re.search(r"Collected : (\d+)", log)
    if not total:
        sys.exit(f"callgrind counted nothing; it says:\n{log.strip()}")
    return int(total[1])


def count(program, name):
    """Instructions of the work of that name, done once."""
    return round((executed(program, name, 1 + MORE) - executed(program, name, 1)) / MORE)


def load():
    try:
        with open(REFERENCE) as f:
            return json.load(f)
    except FileNotFoundError:
        return {}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--update", action="store_true", help="write the counts into instructions.json")
    p.add_argument("--limit", type=float, default=3, help="how many percent more are too many (%(default)s)")
    p.add_argument("--program", help="the built bench program, instead of building it")
    a = p.parse_args()

    program = a.program or build()
    facts = json.loads(output([*VALGRIND, program])[0])
    isa, reference = facts["isa"], load()
    before = reference.get(isa, {})
    if not before and not a.update:
        known = ", ".join(reference) or "none"
        sys.exit(f"instructions.json has no counts for {isa}, only for: {known}; --update adds them")

    print(f"{'instructions, ' + isa:<40} {'before':>12} {'now':>12} {'change':>8}")
    counts, worse = {}, []
    for name in facts["names"]:
        now = counts[name] = count(program, name)
        if name in before:
            change = 100 * (now / before[name] - 1)
            print(f"{name:<40} {before[name]:>12} {now:>12} {change:>+7.2f}%", flush=True)
            if change > a.limit:
                worse.append(name)
        else:
            print(f"{name:<40} {'-':>12} {now:>12} {'new':>8}", flush=True)
            if not a.update:
                worse.append(name)

    if a.update:
        reference[isa] = counts
        with open(REFERENCE, "w") as f:
            f.write(json.dumps(dict(sorted(reference.items())), indent=2) + "\n")
    elif worse:
        sys.exit(f"more than {a.limit:g} % above instructions.json, or not in it: {'; '.join(worse)}")
    elif gone := before.keys() - counts.keys():
        sys.exit(f"in instructions.json, but no longer counted: {'; '.join(sorted(gone))}")


if __name__ == "__main__":
    main()
