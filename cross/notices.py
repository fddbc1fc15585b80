#!/usr/bin/env python3
"""Prints the licenses and notices of all crates that the program for a target contains.

    cross/notices.py TARGET > NOTICES

The licenses of most crates require this wherever the program is distributed. Reads what `cargo metadata` lists and
the license files in the sources of the crates, including those of bundled libraries; identical texts are printed
once, below the crates they belong to.
"""

import json
import pathlib
import re
import subprocess
import sys

NAMES = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)


def crates(target: str) -> list[dict]:
    """Packages that are linked into the program: no dependencies of tests or of build scripts."""
    out = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target],
        check=True,
        stdout=subprocess.PIPE,
    )
    metadata = json.loads(out.stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, waiting = {root}, [root]
    while waiting:
        for dep in nodes[waiting.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dep["dep_kinds"])
            if is_linked and dep["pkg"] not in seen:
                seen.add(dep["pkg"])
                waiting.append(dep["pkg"])
    return sorted((packages[key] for key in seen - {root}), key=lambda p: (p["name"], p["version"]))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    texts: dict[str, list[str]] = {}
    print("latrod contains these crates, each with its version and its license:\n")
    for package in crates(sys.argv[1]):
        name = f"{package['name']} {package['version']}"
        print(f"  {name}: {package['license'] or 'see below'}")
        folder = pathlib.Path(package["manifest_path"]).parent
        for path in sorted(folder.rglob("*")):
            if path.is_file() and NAMES.match(path.name):
                text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip()
                texts.setdefault(text, []).append(name)
    for text, names in sorted(texts.items(), key=lambda item: item[1]):
        print(f"\n{'-' * 100}\n{', '.join(dict.fromkeys(names))}:\n\n{text}")


if __name__ == "__main__":
    main()
