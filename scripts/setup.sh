#!/usr/bin/env bash
# Makes sure that a Debian or Ubuntu machine with Rust has everything else needed to build and try latrod: a C
# compiler with headers, Python with pip, systemd's tools, and for the tests mosquitto with its clients and
# libfaketime. Says what it installs; does nothing if everything is there.
set -euo pipefail

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

command -v cargo > /dev/null || fail 'cargo is missing; install Rust as https://rustup.rs says, then run this again'

missing=()
printf '#include <stdlib.h>\n' | cc -E - > /dev/null 2>&1 || missing+=(gcc libc6-dev)
command -v python3 > /dev/null || missing+=(python3)
{ python3 -m pip --version || pip3 --version; } > /dev/null 2>&1 || missing+=(python3-pip)
if [ "$(uname)" = Linux ]; then
    command -v systemd-analyze > /dev/null || missing+=(systemd)
    PATH=$PATH:/usr/sbin command -v mosquitto > /dev/null || missing+=(mosquitto)
    command -v mosquitto_pub > /dev/null || missing+=(mosquitto-clients)
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' > /dev/null || missing+=(libfaketime)
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

command -v apt-get > /dev/null || fail "these are missing: ${missing[*]}; install them and run this again"
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif sudo -n true 2> /dev/null || { [ -t 0 ] && command -v sudo > /dev/null; }; then
    as_root=(sudo)
else
    fail "these are missing: sudo apt-get install ${missing[*]}"
fi
printf 'setup: installing %s\n' "${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
