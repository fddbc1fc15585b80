#!/usr/bin/env bash
# Tests what cross/build.sh says when something is missing: one sentence that names the package to install. Each case
# has a PATH with some programs but not others; nothing is built. Also tests cross/release-notes.sh on a made-up release.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The target that this machine cannot run, and its names in Debian's packages.
target=aarch64-unknown-linux-gnu linker=aarch64-linux-gnu-gcc gcc=gcc-aarch64-linux-gnu libc=libc6-dev-arm64-cross
if [ "$(uname -m)" = aarch64 ]; then
    target=x86_64-unknown-linux-gnu linker=x86_64-linux-gnu-gcc gcc=gcc-x86-64-linux-gnu libc=libc6-dev-amd64-cross
fi

fail() {
    printf 'cross: %s\n' "$1" >&2
    exit 1
}

# path FOLDER PROGRAM…: creates a folder for PATH with what the script itself uses, and with dummy programs.
path() {
    local folder=$work/$1 name
    shift
    mkdir -p "$folder"
    for name in bash dirname uname sed sort tr cat env realpath git; do ln -s "$(command -v "$name")" "$folder/"; done
    for name in "$@"; do
        printf '#!/bin/sh\nexit 0\n' > "$folder/$name"
        chmod +x "$folder/$name"
    done
}

# compiler NAME FILE: creates a compiler whose target folder contains this file.
compiler() {
    mkdir -p "$work/$1-lib"
    touch "$work/$1-lib/$2"
    printf '#!/bin/sh\ncase $1 in --print) echo "%s" ;; *) echo rustc 1.95.0 ;; esac\n' "$work/$1-lib" > "$work/$1"
    chmod +x "$work/$1"
}

# refused CODE SENTENCE FOLDER COMPILER ARGUMENT…: checks that the build exits with the code and prints only the sentence.
refused() {
    local code=$1 sentence=$2 folder=$3 rustc=$4 ended=0
    shift 4
    PATH=$work/$folder RUSTC=$work/$rustc LATROD_TOOLS=$work/tools cross/build.sh "$@" > "$work/out" 2> "$work/err" || ended=$?
    [ "$ended" -eq "$code" ] || fail "build.sh $* exits with $ended instead of $code: $(cat "$work/err")"
    grep -qF -- "$sentence" "$work/err" || fail "build.sh $* does not say \"$sentence\": $(cat "$work/err")"
    [ "$code" -ne 1 ] || [ "$(wc -l < "$work/err")" -eq 1 ] || fail "build.sh $* prints more than one sentence: $(cat "$work/err")"
}

compiler with libcore-0.rlib
compiler without libother-0.rlib
path no-cargo readelf
path no-readelf cargo
path no-linker cargo readelf
path no-zig cargo readelf cargo-zigbuild
path no-cuda cargo readelf
printf '#!/bin/sh\ncat > /dev/null\necho version 2 36\n' > "$work/no-cuda/$linker"
chmod +x "$work/no-cuda/$linker"

refused 64 'there is no option --size' no-linker with "$target" --size small
refused 64 '--set is device or full, not small' no-linker with "$target" --set small
refused 64 '--glibc takes a version such as 2.31, not 2' no-linker with "$target" --glibc 2
refused 64 '--features needs a value' no-linker with "$target" --features
refused 64 '--cuda takes a compute capability such as 87, not sm_87' no-linker with "$target" --cuda sm_87
refused 64 'the feature cuda takes a compute capability: --cuda 87' no-linker with "$target" --features candle,cuda
refused 64 'the feature metal is for Macs' no-linker with "$target" --features metal
refused 1 'cannot build for riscv64gc-unknown-linux-gnu' no-linker with riscv64gc-unknown-linux-gnu
refused 1 'cargo is missing: sudo apt-get install cargo-web' no-cargo with "$target"
refused 1 'readelf is missing: sudo apt-get install binutils' no-readelf with "$target"
refused 1 "the linker for $target is missing: sudo apt-get install $gcc $libc" no-linker with "$target"
refused 1 'cargo install --locked cargo-zigbuild' no-linker with "$target" --glibc 2.31
refused 1 'pip install ziglang' no-zig with "$target" --glibc 2.31
refused 1 "NVIDIA's CUDA toolkit for $target is missing: run cross/cuda-toolkit.sh --target $target" no-cuda with "$target" --cuda 87
refused 1 'CUDA'"'"'s compiler does not work with zig' no-cuda with "$target" --cuda 87 --glibc 2.31
path nvcc nvcc
mkdir -p "$work/tools/cuda/$target/cuda"
mv "$work/nvcc" "$work/tools/cuda/$target/cuda/bin"
refused 1 "which the CUDA compiler needs, is missing: sudo apt-get install ${gcc/gcc/g++}" no-cuda with "$target" --cuda 87
if compgen -G "$([ ! -x /usr/bin/rustc ] || /usr/bin/rustc --print target-libdir --target "$target")/libcore-*" > /dev/null; then
    printf "cross: skipped: a compiler without the target, since Debian's has it here\n"
else
    refused 1 "rustup target add $target, or sudo apt-get install rustc-web libstd-rust-web-dev:" no-linker without "$target"
fi

mkdir -p "$work/release/cross"
cp cross/release-notes.sh "$work/release/cross/"
printf '# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-01-02\n\n### Added\n\n- One.\n\n## [0.1.0]\n\n- Two.\n' > "$work/release/CHANGELOG.md"
[ "$("$work/release/cross/release-notes.sh" v0.2.0)" = "$(printf '### Added\n\n- One.')" ] || fail 'the notes of a release are not its section of the changelog'
for version in Unreleased 0.2 0.3.0; do
    if "$work/release/cross/release-notes.sh" "$version" > /dev/null 2>&1; then fail "there are notes for $version"; fi
done
printf 'cross: every message about what is missing is right\n'
