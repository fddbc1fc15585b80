#!/usr/bin/env bash
# Checks everything: formatting, lints, documentation, sample data, tests. Needs the network only to fetch crates.
#
#   --model   also run the tests on the real model, which is fetched (98 MB)
#   --arm     also build for ARM, and run the kernels' tests and the program on emulated processors (tests/system/arm.sh)
#   --package also install the Debian package in a disposable root, and start its service under a real systemd
#   --page    also use the fleet's page in a real browser (tests/system/page.sh)
#   --deny    also check the licenses and sources of all dependencies; builds cargo-deny once
#
# Everything uses the dev profile, whose dependencies are compiled once for the tests and checked once for the lints.
# Set CARGO_TARGET_DIR to a folder that keeps them between runs.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly deny_version=0.20.2
readonly tools=${XDG_CACHE_HOME:-${HOME:?}/.cache}/latrod/tools

model=false deny=false arm=false package=false page=false
for option in "$@"; do
    case $option in
        --model) model=true ;;
        --deny) deny=true ;;
        --arm) arm=true ;;
        --package) package=true ;;
        --page) page=true ;;
        *)
            sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
            exit 64
            ;;
    esac
done

# step NAME COMMAND…: runs a command and prints how long it took.
step() {
    local name=$1 start=$SECONDS
    shift
    printf '== %s\n' "$name"
    "$@"
    printf '== %s: %s s\n\n' "$name" "$((SECONDS - start))"
}

components() {
    local component
    for component in fmt clippy; do
        cargo "$component" --version > /dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}"
    done
}

format() {
    cargo fmt --check
    cargo fmt --check --manifest-path fuzz/Cargo.toml
    cargo fmt --check --manifest-path tests/arm/Cargo.toml
}

# With the default features, without the features that a device does not need, and the program with other devices,
# whose module the tests always include.
lints() {
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --all-targets --no-default-features -- -D warnings
    cargo clippy --locked --features candle -- -D warnings
}

documentation() {
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet
}

# Checks that the committed sample tasks are what their script generates.
samples() {
    local made=$work/samples
    python3 scripts/make_samples.py --out "$made" > /dev/null
    diff -r samples "$made"
}

dependencies() {
    if ! "$tools/bin/cargo-deny" --version 2> /dev/null | grep -qF "$deny_version"; then
        CARGO_TARGET_DIR="$work/deny" cargo install --locked --quiet --root "$tools" --version "$deny_version" cargo-deny
    fi
    "$tools/bin/cargo-deny" --log-level warn check licenses bans sources
}

tests() {
    cargo test --locked 2>&1 | tee "$work/tests"
}

page_tests() {
    LATROD_BIN=${CARGO_TARGET_DIR:-target}/debug/latrod tests/system/page.sh 2>&1 | tee "$work/page-tests"
}

arm_tests() {
    tests/system/arm.sh --program 2>&1 | tee "$work/arm-tests"
}

model_tests() {
    local path
    path=$(scripts/fetch-model.sh)
    LATROD_TEST_MODEL=$path cargo test --locked --lib -- --ignored arch:: 2>&1 | tee "$work/model-tests"
}

# Adds up the closing lines of all test programs: passed, failed.
count() {
    cat "$work"/*tests | awk '/^test result:/ { passed += $4; failed += $6 } END { printf "tests: %d passed, %d failed\n", passed, failed }'
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step setup scripts/setup.sh
step components components
step format format
step samples samples
step lints lints
step documentation documentation
if $deny; then step dependencies dependencies; fi
step tests tests
step 'systemd units' tests/system/systemd.sh
step 'cross builds' tests/system/cross.sh
if $package; then
    step 'installed package' tests/system/package.sh
    step 'booted service' tests/system/boot.sh
fi
if $page; then
    step 'page in a browser' page_tests
    step 'metrics for Prometheus' tests/system/prometheus.sh
fi
if $arm; then step 'tests on ARM' arm_tests; fi
if $model; then step 'tests on the real model' model_tests; fi
printf 'all checks: %s s\n' "$SECONDS"
count
