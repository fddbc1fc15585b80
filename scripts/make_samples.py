#!/usr/bin/env python3
"""Makes the sample tasks in samples/: sums such as "What is 17 + 88 - 6?".

Written into --out:
    sums-train.jsonl    tasks to train on
    sums-dev.jsonl      tasks to evaluate on; none of their sums is in the other file, in any order of terms

Every sum has two or three terms, either below 10 or below 100. Needs only Python's standard library;
the same seed gives the same files.
"""
import argparse
import json
import random
from pathlib import Path


def draw(rng):
    """The terms of a sum; the first is never negative."""
    highest = rng.choice((9, 99))
    count = rng.choice((2, 3))
    first = rng.randint(1, highest)
    return [first] + [rng.choice((1, -1)) * rng.randint(1, highest) for _ in range(count - 1)]


def task(terms):
    words = [str(terms[0])] + [f"{'+' if term > 0 else '-'} {abs(term)}" for term in terms[1:]]
    return {"question": f"What is {' '.join(words)}?", "answer": str(sum(terms))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "samples")
    parser.add_argument("--train", type=int, default=800, help="tasks to learn from")
    parser.add_argument("--dev", type=int, default=200, help="tasks to judge by")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)

    seen, sums = set(), []
    while len(sums) < args.train + args.dev:
        terms = draw(rng)
        # 3 + 5 and 5 + 3 are one sum, so that no dev question is a train question with its terms swapped.
        key = tuple(sorted(terms))
        if key not in seen:
            seen.add(key)
            sums.append(terms)

    args.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("sums-dev", sums[: args.dev]), ("sums-train", sums[args.dev :])):
        path = args.out / f"{name}.jsonl"
        path.write_text("".join(json.dumps(task(terms)) + "\n" for terms in part), encoding="ascii")
        print(f"{path}: {len(part)} tasks")


if __name__ == "__main__":
    main()
