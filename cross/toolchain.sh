# shellcheck shell=bash disable=SC2034,SC2154
# Functions shared by the scripts in this folder and tests/system/arm.sh: what Debian calls a target, which compiler and
# linker build programs for it, and the pinned versions of tools. Meant to be sourced by a script that has set `program`,
# its name in messages.

readonly zigbuild_version=0.24.1 zig_version=0.15.2 auditable_version=0.7.7 cyclonedx_version=0.5.9 deb_version=3.8.0
readonly tools=${LATROD_TOOLS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/latrod/tools}

fail() {
    printf '%s: %s\n' "$program" "$1" >&2
    exit 1
}

# crate_version NAME: prints the version of a cargo tool in our folder; nothing if it is missing.
crate_version() {
    [ ! -f "$tools/.crates.toml" ] || sed -n "s/^\"$1 \([^ ]*\) .*/\1/p" "$tools/.crates.toml"
}

# Prints the version of zig in our folder; nothing if it is missing.
zig_version() {
    [ ! -x "$tools/python/ziglang/zig" ] || "$tools/python/ziglang/zig" version
}

# debian_names TARGET: sets `triplet` and `debian_arch`, the target's names in Debian's files and packages.
debian_names() {
    triplet=${1%%-*}-linux-gnu
    case $1 in
        aarch64-unknown-linux-gnu) debian_arch=arm64 ;;
        x86_64-unknown-linux-gnu) debian_arch=amd64 ;;
        *) fail "cannot build for $1; use aarch64-unknown-linux-gnu or x86_64-unknown-linux-gnu" ;;
    esac
}

# is_native TARGET: whether this machine runs the target's programs natively.
is_native() {
    [ "$(uname -s)-$(uname -m)" = "Linux-${1%%-*}" ]
}

# has_target RUSTC TARGET: whether this compiler has the target's standard library.
has_target() {
    command -v "$1" > /dev/null && compgen -G "$("$1" --print target-libdir --target "$2")/libcore-*" > /dev/null
}

# find_rustc TARGET: sets `rustc` to the compiler in use or else Debian's, whichever has the target.
find_rustc() {
    for rustc in "${RUSTC:-rustc}" /usr/bin/rustc; do
        if has_target "$rustc" "$1"; then return; fi
    done
    return 1
}

# find_linker TARGET: sets `linker`, and `linker_packages`, what Debian calls it. Needs debian_names.
find_linker() {
    if is_native "$1"; then
        linker=cc linker_packages='gcc libc6-dev'
    else
        linker=$triplet-gcc linker_packages="gcc-${triplet/_/-} libc6-dev-$debian_arch-cross"
    fi
    printf '#include <stdlib.h>\n' | "$linker" -E - > /dev/null 2>&1
}

# Prints the highest C library version that programs linked here can need, such as 2.36.
linker_glibc() {
    printf '#include <features.h>\nversion __GLIBC__ __GLIBC_MINOR__\n' | "$linker" -E -P - | tr -s ' \n' ' ' | sed -n 's/.*version \([0-9]*\) \([0-9]*\) $/\1.\2/p'
}

# needed_glibc PROGRAM: prints the highest C library version that the program requires.
needed_glibc() {
    readelf -W --dyn-syms "$1" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1 | sed 's/GLIBC_//'
}

# at_most A B: whether version A is at most version B.
at_most() {
    printf '%s\n%s\n' "$1" "$2" | sort -V -C
}
