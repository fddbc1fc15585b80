#!/usr/bin/env bash
# Creates a Debian package of latrod and prints its path:
#
#   cross/deb.sh TARGET [--version VERSION] [--out DIR] [--binary FILE] [OPTION…]
#
#   TARGET     aarch64-unknown-linux-gnu (arm64) or x86_64-unknown-linux-gnu (amd64)
#   --version  the package's version; default: that of Cargo.toml
#   --out      the folder for the package; default: dist
#   --binary   the program to package; otherwise cross/build.sh builds it and gets the remaining options
#
# LATROD_MAINTAINER, "Name <address>", is the package's maintainer. Needs dpkg, readelf and Python. Builds cargo-deb
# once, into latrod's own tools folder.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly program=deb
# shellcheck source=cross/toolchain.sh
. cross/toolchain.sh

usage() {
    printf 'deb: %s\n\n' "$1" >&2
    sed -n '4,9s/^# \{0,1\}//p' cross/deb.sh >&2
    exit 64
}

# Sets `glibc` to the C library version that the program needs. dpkg-shlibdeps assumes that programs are linked against
# this system's library, and would require a newer one than programs for older systems need.
check_libraries() {
    local library
    for library in $(readelf -d "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p'); do
        case $library in
            # All of libc6, and libgcc-s1.
            libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux*.so.* | libgcc_s.so.1) ;;
            *) fail "$binary needs $library, which the package does not declare: add its Debian package to depends in Cargo.toml, and the library to cross/deb.sh" ;;
        esac
    done
    glibc=$(needed_glibc "$binary")
    [ -n "$glibc" ] || fail "$binary is not linked against Debian's C library"
}

[ "$#" -gt 0 ] || usage 'name a target'
target=$1 version='' out=dist binary='' options=()
shift
while [ "$#" -gt 0 ]; do
    [ "$#" -gt 1 ] || usage "$1 needs a value"
    case $1 in
        --version) version=$2 ;;
        --out) out=$2 ;;
        --binary) binary=$2 ;;
        --cuda) fail "a package for CUDA would depend on NVIDIA's libraries, which Debian's archive does not have: install what cross/build.sh builds by hand" ;;
        *) options+=("$1" "$2") ;;
    esac
    shift 2
done
debian_names "$target"
machine=AArch64
[ "$debian_arch" = arm64 ] || machine=X86-64

for tool in dpkg-deb readelf python3; do
    command -v "$tool" > /dev/null || fail "$tool is missing: sudo apt-get install dpkg binutils python3"
done
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cross/tools.sh deb
if [ -z "$binary" ]; then
    cross/build.sh "$target" "${options[@]}" | tee "$stage/built" >&2
    binary=$(awk '$1 == "program" { print $2 }' "$stage/built")
elif [ "${#options[@]}" -gt 0 ]; then
    usage "there is no option ${options[0]} besides --binary"
fi
[ -f "$binary" ] || fail "there is no program $binary"
readelf -h "$binary" | grep -q "Machine:.*$machine" || fail "$binary is not a program for $target"

check_libraries

# All files get the date of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || printf 0)}
export SOURCE_DATE_EPOCH
version=${version:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
maintainer=${LATROD_MAINTAINER:-$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)}

# cargo-deb looks for the program where cargo would have put it; other generated files go beside it.
built=$stage/$target/release
install -D -m 755 "$binary" "$built/latrod"
cross/notices.py "$target" | gzip -9n > "$built/NOTICES.gz"
gzip -9n > "$built/changelog.gz" << END
latrod ($version) stable; urgency=medium

  * See CHANGELOG.md beside this file.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
mkdir -p "$out"
CARGO_TARGET_DIR=$stage "$tools/bin/cargo-deb" --locked --no-build --quiet --target "$target" --output "$stage" \
    --deb-version "$version" --maintainer "$maintainer" > "$stage/made"
made=$(cat "$stage/made")
dpkg-deb --raw-extract "$made" "$stage/tree"
sed -i "s/^Depends: libc6,/Depends: libc6 (>= $glibc),/" "$stage/tree/DEBIAN/control"
dpkg-deb --root-owner-group --build "$stage/tree" "$out/$(basename "$made")" > /dev/null
printf '%s\n' "$out/$(basename "$made")"
