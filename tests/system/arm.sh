#!/usr/bin/env bash
# Builds the kernels and their tests for 64-bit ARM (tests/arm is a crate of just these) and runs them on emulated
# processors: one with all extensions, a Cortex-A76 (Raspberry Pi 5; a Jetson Orin's A78 has the same ones) and a
# Cortex-A72 (Raspberry Pi 4). It also lints the code that is compiled only for ARM. Emulation says nothing about
# speed.
#
#   --program    also build the whole program for ARM and run it there (tests/arm/program.sh)
#
# Needs qemu's user-mode emulation, a cross-linker, and the target's standard library from rustup or, failing that,
# from Debian. As root, it installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/../arm"

readonly program=arm target=aarch64-unknown-linux-gnu
# shellcheck source=cross/toolchain.sh
. ../../cross/toolchain.sh

# Problems that are not the kernels' fault and cannot be fixed here must not fail the checks.
skip() {
    printf 'skipped: %s\n' "$1"
    exit 0
}

# install PACKAGE…: from Debian's or Ubuntu's archive.
install() {
    command -v apt-get > /dev/null || skip "the ARM tests need the Debian packages $*, and this system has no apt-get"
    [ "$(id -u)" -eq 0 ] || fail "these are missing: sudo apt-get install $*"
    printf 'arm: installing %s\n' "$*" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } > /dev/null 2>&1 \
        || skip "the ARM tests need $*, which apt-get cannot install here"
}

# Tests the whole program, in the profile of the other tests, against the one for this machine, which is the one that
# the other tests run: `cargo build` alone would choose other features for many dependencies and compile them again.
test_program() {
    cd ../..
    cross/build.sh "$target" --profile dev
    export RUSTC=$own_rustc
    messages=$(cargo test --locked --no-run --test commands --message-format json-render-diagnostics)
    tests/arm/program.sh "dist/$target-full-dev/latrod" "$(sed -n 's/.*"executable":"\([^"]*\/latrod\)".*/\1/p' <<< "$messages")"
}

whole=false
for option in "$@"; do
    [ "$option" = --program ] || fail "there is no option $option; the only option is --program"
    whole=true
done

command -v qemu-aarch64-static > /dev/null || install qemu-user-static
debian_names "$target"
emulator=(qemu-aarch64-static)
# On ARM itself, the emulator finds the C library where it belongs. Elsewhere, the loader would use the one from Debian's
# arm64 packages, if installed; if its version differs from the loader's own, programs hang.
is_native "$target" || emulator+=(-L "/usr/$triplet" -E "LD_LIBRARY_PATH=/usr/$triplet/lib")
if ! find_linker "$target"; then
    read -ra packages <<< "$linker_packages"
    install "${packages[@]}"
fi
if ! find_rustc "$target" && ! { rustup target add "$target" > /dev/null 2>&1 && find_rustc "$target"; }; then
    [ "$(id -u)" -ne 0 ] || dpkg --add-architecture arm64 2> /dev/null || true
    install rustc-web libstd-rust-web-dev:arm64
    find_rustc "$target" || fail "Debian's compiler has no standard library for $target either; install Rust as https://rustup.rs says"
fi
own_rustc=${RUSTC:-rustc}
export RUSTC=$rustc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$linker

# Debian's compiler has no clippy; the lints are those of the whole crate.
if cargo clippy --version > /dev/null 2>&1 && [ "$rustc" != /usr/bin/rustc ]; then
    mapfile -t lints < <(awk '/^\[/ { on = $0 == "[lints.clippy]" } on && $3 == "\"warn\"" { print "-Wclippy::" $1 }' ../../Cargo.toml)
    cargo clippy --locked --quiet --all-targets --target "$target" -- -D warnings "${lints[@]}"
fi

messages=$(cargo test --locked --no-run --lib --target "$target" --message-format json-render-diagnostics)
tests=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<< "$messages")
[ -n "$tests" ] || fail 'cargo built no tests'
for processor in max cortex-a76 cortex-a72; do
    printf '== %s\n' "$processor"
    "${emulator[@]}" -cpu "$processor" "$tests" --quiet
done
if $whole; then test_program; fi
