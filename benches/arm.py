#!/usr/bin/env python3
"""Judges the ARM kernels without a board: how many cycles llvm-mca gives the instructions that they execute.

    benches/arm.py                          print the report
    benches/arm.py --llama DIR              beside the products of llama.cpp, whose source is DIR
    benches/arm.py --llama DIR --write      write it to benches/arm.md

A product runs on an emulated processor, which logs every block of instructions that is executed. The instructions of
the kernels, without branches, go to llvm-mca in the order in which they ran: nested loops, prologues and remainders
count as often as they happen. Neither caches nor branch prediction are modeled, so this is the time of the arithmetic
alone, with all data in the L1 cache.

llvm-mca uses the model of Cortex-A57 for `cortex-a76` and `cortex-a78`, which have twice its vector units. Neoverse N1
is the server variant of Cortex-A76 and has a model of its own; Cortex-A78 has the same two vector units, so it stands
for both. Cortex-A55, the little core beside them, has its own model as well.

Needs qemu-user-static, gcc and g++ for aarch64-linux-gnu, and llvm-mca, llvm-mc of LLVM 19 or later (Debian:
qemu-user-static gcc-aarch64-linux-gnu g++-aarch64-linux-gnu llvm-19).
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = "aarch64-unknown-linux-gnu"
CROSS = "aarch64-linux-gnu-"
COLUMNS, BLOCK, TILE = 1024, 32, 16
BIG, LITTLE = "neoverse-n1", "cortex-a55"
FEATURES = "-mattr=+v8.2a,+dotprod,+fullfp16"
# Branches go: llvm-mca knows no control flow.
BRANCH = re.compile(r"\s*(b|bl|br|blr|ret|b\..*|bc\..*|cbz|cbnz|tbz|tbnz)\s")
KERNELS = re.compile(r"kernels::isa::(neon|vector)::(?!.*quantize)")
# The products that llama.cpp chooses on a processor with dotprod and without i8mm: for one row, for several.
LLAMA = {
    "Q4_0": ("gemv_q4_0_4x4", "gemm_q4_0_4x4"),
    "Q4_1": ("vec_dot_q4_1", "vec_dot_q4_1"),
    "Q5_0": ("vec_dot_q5_0", "vec_dot_q5_0"),
    "Q5_1": ("vec_dot_q5_1", "vec_dot_q5_1"),
    "Q8_0": ("gemv_q8_0_4x4", "gemm_q8_0_4x4"),
    "Q4_K": ("gemv_q4_K_8x4", "gemm_q4_K_8x4"),
    "Q5_K": ("gemv_q5_K_8x4", "gemm_q5_K_8x4"),
    "Q6_K": ("gemv_q6_K_8x4", "gemm_q6_K_8x4"),
}


def output(command, text=None, **options):
    """Standard output of a command that must succeed."""
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, **options)
    except FileNotFoundError:
        sys.exit(f"arm: {command[0]} is missing; this needs the packages named in --help")
    if done.returncode:
        sys.exit(f"arm: {' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def llvm(name):
    """The newest tool of that name, at least that of LLVM 19."""
    for version in range(30, 18, -1):
        path = f"/usr/bin/{name}-{version}"
        if os.path.exists(path):
            return path
    sys.exit(f"arm: {name} of LLVM 19 or later is missing; install llvm-19")


def build():
    """The program that does one of our products."""
    options = "-C relocation-model=static -C target-feature=+crt-static"
    environment = {**os.environ, "RUSTFLAGS": options}
    environment[f"CARGO_TARGET_{TARGET.upper().replace('-', '_')}_LINKER"] = CROSS + "gcc"
    command = ["cargo", "build", "--locked", "--quiet", "--release", "--target", TARGET, "--example", "product"]
    lines = output([*command, "--message-format=json"], cwd=f"{ROOT}/tests/arm", env=environment)
    for line in lines.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            return message["executable"]
    sys.exit("arm: cargo built no program")


def build_llama(source, folder):
    """The program that does one of llama.cpp's products. Only two of its files are compiled."""
    for candidate in (source, f"{source}/vendor/llama.cpp"):
        ggml = f"{candidate}/ggml"
        if os.path.exists(f"{ggml}/src/ggml-cpu/arch/arm/repack.cpp"):
            break
    else:
        sys.exit(f"arm: {source} is not the source of llama.cpp")
    objects = []
    for name, compiler in (("quants.c", "gcc"), ("repack.cpp", "g++")):
        objects.append(f"{folder}/{name}.o")
        flags = ["-O3", "-mcpu=cortex-a76", "-ffunction-sections", "-DNDEBUG"]
        flags += [flag for part in ("include", "src", "src/ggml-cpu") for flag in ("-I", f"{ggml}/{part}")]
        file = f"{ggml}/src/ggml-cpu/arch/arm/{name}"
        output([CROSS + compiler, *flags, "-c", file, "-o", objects[-1]])
    program = f"{folder}/llama"
    driver = f"{ROOT}/benches/arm-llama.cpp"
    link = ["-static", "-no-pie", "-Wl,--gc-sections", "-Wl,--unresolved-symbols=ignore-all"]
    output([CROSS + "g++", "-O2", driver, *objects, *link, "-o", program])
    return program


def ranges(program, wanted):
    """Where the functions lie whose name has what is wanted."""
    found = []
    for line in output([CROSS + "nm", "-C", "-S", "--defined-only", program]).splitlines():
        part = line.split(maxsplit=3)
        if len(part) == 4 and part[2] in "tTwW" and wanted.search(part[3]):
            start = int(part[0], 16)
            found.append(range(start, start + int(part[1], 16)))
    return found


def trace(command, wanted, folder):
    """The instructions of the wanted functions that are executed, in order, as numbers."""
    log = f"{folder}/log"
    where = ranges(command[0], wanted)
    if not where:
        sys.exit(f"arm: {command[0]} has no function like {wanted.pattern}")
    only = ",".join(f"{r.start:#x}..{r.stop - 1:#x}" for r in where)
    emulator = ["qemu-aarch64-static", "-cpu", "cortex-a76", "-dfilter", only]
    output([*emulator, "-d", "in_asm,exec,nochain", "-D", log, *command])
    blocks, executed, block = {}, [], None
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("IN:"):
                block = []
            elif block is not None and line.startswith("0x"):
                address, code = line.split()[:2]
                if not block:
                    blocks[int(address.rstrip(":"), 16)] = block
                block.append(int(code, 16))
            elif line.startswith("Trace"):
                executed += blocks.get(int(line.split("/")[1], 16), [])
    if not executed:
        sys.exit(f"arm: {' '.join(command)} executed nothing of what is to be judged")
    return executed


def assembly(codes):
    """The text of instructions, without branches."""
    distinct = list(dict.fromkeys(codes))
    octets = "\n".join(" ".join(f"{b:#x}" for b in code.to_bytes(4, "little")) for code in distinct)
    text = output([llvm("llvm-mc"), "--disassemble", "-triple=aarch64", FEATURES], octets)
    lines = [line for line in text.splitlines() if line.strip() and ".text" not in line]
    if len(lines) != len(distinct):
        sys.exit("arm: llvm-mc does not know an instruction")
    names = dict(zip(distinct, lines))
    return [names[code] for code in codes if not BRANCH.match(names[code] + " ")]


def cycles(lines, processor):
    """What llvm-mca says of instructions that run once: cycles, and what holds them up."""
    command = [llvm("llvm-mca"), "-mtriple=aarch64", FEATURES, f"-mcpu={processor}", "-iterations=1"]
    text = output([*command, "-bottleneck-analysis", "-instruction-info=0"], "\n".join(lines) + "\n")
    total = int(re.search(r"Total Cycles: +(\d+)", text)[1])
    pressure = re.search(r"Resource Pressure +\[ ([\d.]+)% \]\n((?:  - .*\n)*)", text)
    units = re.findall(r"- (\S+) +\[ ([\d.]+)% \]", pressure[2]) if pressure else []
    depends = re.search(r"Data Dependencies: +\[ ([\d.]+)% \]", text)
    if pressure and depends and float(depends[1]) > float(pressure[1]):
        return total, "waiting for results"
    if not units:
        return total, "none"
    most = max(units, key=lambda unit: float(unit[1]))[0]
    return total, {"N1UnitV": "vector units", "N1UnitV0": "vector unit 0", "N1UnitV1": "vector unit 1",
                   "N1UnitL": "loads and stores", "N1UnitD": "loads and stores"}.get(most, most)


def peak(processor, instruction):
    """Cycles of an instruction of 16 bytes if nothing else runs."""
    count = 960
    lines = [instruction.format(to=i % 24) for i in range(count)]
    return cycles(lines, processor)[0] / count


def judge(command, wanted, products, folder):
    """Of one product: instructions and cycles for 32 multiplications, and the bottleneck of the big core."""
    executed = trace(command, wanted, folder)
    lines = assembly(executed)
    total, bottleneck = cycles(lines, BIG)
    blocks = products / BLOCK
    return len(executed) / blocks, total / blocks, bottleneck, cycles(lines, LITTLE)[0] / blocks


def report(program, llama, folder):
    """The report's tables."""
    sdot = {p: 2 * peak(p, "sdot v{to}.4s, v30.16b, v31.16b") for p in (BIG, LITTLE)}
    fmla = 8 * peak(BIG, "fmla v{to}.4s, v30.4s, v31.4s")
    yield "## int8 products (`fast`)\n"
    yield f"At best, 32 multiplications take {sdot[BIG]:.2f} cycles of `sdot` on the big core, {sdot[LITTLE]:.2f} on the little one.\n"
    yield "| type | rows | cycles | of the peak | held up by | instructions | little core | of its peak | llama.cpp: cycles | instructions | little core | its product |"
    yield "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---|"
    for name, theirs in LLAMA.items():
        for rows in (1, 8, 16, 64):
            command = [program, "fast", name, str(rows), "1"]
            count, big, bottleneck, little = judge(command, KERNELS, rows * TILE * COLUMNS, folder)
            line = f"| {name} | {rows} | {big:.2f} | {sdot[BIG] / big:.0%} | {bottleneck} | {count:.2f} | {little:.2f} | {sdot[LITTLE] / little:.0%}"
            line += " | – | – | – | – |" if not llama else against(llama, theirs[rows > 1], rows, folder)
            yield line
    yield "\n## f32 products\n"
    yield f"At best, 32 multiplications take {fmla:.2f} cycles of `fmla` on the big core.\n"
    yield "| product | type | rows | cycles | of the peak | held up by | instructions |"
    yield "|---|---|---:|---:|---:|---|---:|"
    for kind, rows in (("exact", 1), ("exact", 8), ("exact", 64), ("transposed", 64)):
        for name in ("Q4_0", "Q8_0", "Q4_K"):
            command = [program, kind, name, str(rows), "2"]
            products = rows * 2 * TILE * COLUMNS
            count, big, bottleneck, _ = judge(command, KERNELS, products, folder)
            yield f"| {kind} | {name} | {rows} | {big:.2f} | {fmla / big:.0%} | {bottleneck} | {count:.2f} |"


def versions():
    """Of the tools that figures depend on."""
    yield "LLVM " + re.search(r"LLVM version (\S+)", output([llvm("llvm-mca"), "--version"]))[1]
    yield output(["rustc", "--version"]).strip()
    yield "gcc " + output([CROSS + "gcc", "-dumpfullversion"]).strip()


def against(llama, name, rows, folder):
    """The columns of llama.cpp's product."""
    wanted = re.compile(rf"ggml_{name}(_|\b)")
    count, big, _, little = judge([llama, name, str(rows), str(TILE)], wanted, rows * TILE * COLUMNS, folder)
    return f" | {big:.2f} | {count:.2f} | {little:.2f} | `{name}` |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", metavar="DIR", help="the source of llama.cpp or of llama-cpp-python")
    parser.add_argument("--write", action="store_true", help="write benches/arm.md")
    arguments = parser.parse_args()
    if arguments.write and not arguments.llama:
        sys.exit("arm: --write needs --llama: without it, the report would lose llama.cpp's figures")
    with tempfile.TemporaryDirectory() as folder:
        llama = build_llama(arguments.llama, folder) if arguments.llama else None
        lines = []
        for line in report(build(), llama, folder):
            lines.append(line)
            print(line, flush=True)
    if arguments.write:
        head = "# The ARM kernels by llvm-mca\n\nMade by `benches/arm.py`, which says how. All figures are for 32 multiplications; instructions include branches.\n"
        head += f"With {', '.join(versions())}.\n\n"
        with open(f"{ROOT}/benches/arm.md", "w", encoding="utf-8") as file:
            file.write(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
