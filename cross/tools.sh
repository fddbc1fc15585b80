#!/usr/bin/env bash
# Installs the optional tools of build.sh, in pinned versions, into latrod's own tools folder (~/.cache/latrod/tools);
# nothing else on the machine is touched.
#
#   cross/tools.sh zig      cargo-zigbuild and zig, for a C library older than this system's (build.sh --glibc)
#   cross/tools.sh audit    cargo-auditable: the list of all dependencies inside the program
#   cross/tools.sh sbom     cargo-cyclonedx: the same list beside it, as CycloneDX JSON
#   cross/tools.sh deb      cargo-deb: Debian packages (deb.sh)
#   cross/tools.sh all      all of them
#
# Needs cargo, and for zig also Python with pip.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cross/toolchain.sh
. cross/toolchain.sh

# crate NAME VERSION: builds a program from crates.io unless this version is already there.
crate() {
    if [ "$(crate_version "$1")" != "$2" ]; then
        printf 'tools: building %s %s\n' "$1" "$2" >&2
        CARGO_TARGET_DIR=$work cargo install --locked --quiet --root "$tools" --version "$2" --force "$1" ||
            fail "cargo could not install $1 $2; check the network and that Rust is recent enough"
    fi
}

zig() {
    crate cargo-zigbuild "$zigbuild_version"
    [ "$(zig_version)" = "$zig_version" ] && return
    printf 'tools: installing zig %s from PyPI\n' "$zig_version" >&2
    python3 -m pip --version > /dev/null 2>&1 || fail 'pip is missing; on Debian or Ubuntu: sudo apt-get install python3-pip'
    rm -rf "$tools/python"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir \
        --target "$tools/python" "ziglang==$zig_version" ||
        fail "pip could not install ziglang $zig_version; check the network and try again"
}

readonly program=tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case ${1:-} in
    zig) zig ;;
    audit) crate cargo-auditable "$auditable_version" ;;
    sbom) crate cargo-cyclonedx "$cyclonedx_version" ;;
    deb) crate cargo-deb "$deb_version" ;;
    all)
        zig
        crate cargo-auditable "$auditable_version"
        crate cargo-cyclonedx "$cyclonedx_version"
        crate cargo-deb "$deb_version"
        ;;
    *)
        sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
        exit 64
        ;;
esac
