# shellcheck shell=bash disable=SC2154
# A disposable Debian for the tests of the installed package: a root of this system's own release, created once with
# mmdebstrap and kept in ~/.cache/latrod/roots, below a layer in memory that disappears with the script. Meant to be
# sourced by a script that has set `program`, its name in messages. As root, it installs what is missing.

readonly roots=${XDG_CACHE_HOME:-${HOME:?}/.cache}/latrod/roots
# What the tests need besides the base system; changing it creates a new root.
readonly packages=systemd,systemd-sysv,dbus,man-db,procps,zsh,fish

fail() {
    printf '%s: %s\n' "$program" "$1" >&2
    exit 1
}

# Problems that are not the package's fault and cannot be fixed here must not fail the checks.
skip() {
    printf 'skipped: %s\n' "$1"
    exit 0
}

# Restarts the calling script with its own mounts, which end with it: own_mounts "$@"
own_mounts() {
    [ "$(id -u)" -eq 0 ] || skip 'the tests of the installed package need root, to create a system to install it in'
    [ -z "${LATROD_OWN_MOUNTS:-}" ] || return 0
    unshare --mount true 2> /dev/null || skip 'this system does not allow separate mounts, which the tests of the installed package need'
    LATROD_OWN_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
}

# install PROGRAM[:PACKAGE]…: makes sure that these programs exist; installs the Debian packages if necessary.
install() {
    local item missing=()
    for item in "$@"; do command -v "${item%:*}" > /dev/null || missing+=("${item#*:}"); done
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get > /dev/null || skip "these tests need the Debian packages ${missing[*]}, and this system has no apt-get"
    printf '%s: installing %s\n' "$program" "${missing[*]}" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } > /dev/null 2>&1 ||
        skip "these tests need ${missing[*]}, which apt-get cannot install here"
}

# The tools that creating a root needs on any machine.
install_tools() {
    install mmdebstrap systemd-nspawn:systemd-container
}

# make_root DIR: mounts a fresh Debian at DIR/root, and sets `spawn` for it.
make_root() {
    local release base
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [ -n "$release" ] || skip 'these tests need Debian or Ubuntu, from whose archive they create a system to install the package in'
    is_own || is_emulated ||
        skip "$deb is for $arch, and this machine is $(dpkg --print-architecture); Debian's qemu-user-static and binfmt-support could run it"
    is_own || install arch-test
    base=$roots/$release-$arch-$(printf '%s' "$packages" | sha256sum | cut -c 1-8)
    if [ ! -d "$base" ]; then
        printf '%s: creating a root of %s for %s\n' "$program" "$release" "$arch" >&2
        mkdir -p "$roots"
        rm -rf "$base.part"
        mmdebstrap --quiet --variant=minbase --architectures="$arch" --include="$packages" --aptopt='Acquire::Retries "3"' "$release" "$base.part" > "$1/mmdebstrap" 2>&1 ||
            skip "mmdebstrap cannot create a root of $release here: $(tail -n 1 "$1/mmdebstrap")"
        mv "$base.part" "$base"
    fi
    # Without a running systemd, /run may be on a disk, but systemd-nspawn needs its part of it in memory.
    [ -d /run/systemd/system ] || { mkdir -p /run/systemd && mount -t tmpfs -o mode=755 tmpfs /run/systemd; }
    mkdir "$1/layer" "$1/root"
    mount -t tmpfs -o mode=755 tmpfs "$1/layer"
    mkdir "$1/layer/upper" "$1/layer/work"
    mount -t overlay -o "lowerdir=$base,upperdir=$1/layer/upper,workdir=$1/layer/work" overlay "$1/root" ||
        skip 'this system has no overlay file system, which keeps the root unchanged'
    find_nspawn "$1/root"
}

# find_nspawn ROOT: sets `spawn`, the command that starts a container, even without a running systemd to register it.
find_nspawn() {
    spawn=(systemd-nspawn --directory="$1" --quiet --private-network --link-journal=no --resolv-conf=off --timezone=off)
    [ -d /run/systemd/system ] || spawn+=(--register=no --keep-unit)
}

# Without a running systemd, nothing else removes the control groups that containers leave behind.
remove_groups() {
    [ ! -d /run/systemd/system ] || return 0
    find /sys/fs/cgroup -depth -type d \( -path '*/payload*' -o -name supervisor \) -exec rmdir {} + 2> /dev/null || true
}

# package_of DEB FIELD
package_of() {
    dpkg-deb --field "$1" "$2"
}

# find_package DIR [DEB]: sets `deb` to DEB, or to a package created now from the program in the target folder, and
# `arch` to its architecture.
find_package() {
    deb=${2:-}
    if [ -z "$deb" ]; then
        pack "$1"
    fi
    [ -f "$deb" ] || fail "there is no package $deb"
    arch=$(package_of "$deb" Architecture)
}

# Whether the package is for this machine's own processor.
is_own() {
    [ "$arch" = "$(dpkg --print-architecture)" ]
}

# Whether the kernel runs programs for the package's processor with qemu.
is_emulated() {
    [ "$arch" = arm64 ] && grep -qsx enabled /proc/sys/fs/binfmt_misc/qemu-aarch64
}

# pack DIR [VERSION]: sets `deb` to a package of the program that the tests use.
pack() {
    local binary=${CARGO_TARGET_DIR:-target}/debug/latrod
    [ -x "$binary" ] || cargo build --locked
    strip -o "$1/latrod" "$binary"
    deb=$(cross/deb.sh "$(uname -m)-unknown-linux-gnu" --binary "$1/latrod" --out "$1" ${2:+--version "$2"})
}

# newer DEB DIR VERSION: prints the path of the same package with another version, for an upgrade.
newer() {
    rm -rf "$2/newer"
    dpkg-deb --raw-extract "$1" "$2/newer"
    sed -i "s/^Version: .*/Version: $3/" "$2/newer/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$2/newer" "$2/newer_$3.deb" > /dev/null
    rm -rf "$2/newer"
    printf '%s\n' "$2/newer_$3.deb"
}
