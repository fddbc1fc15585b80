#!/usr/bin/env bash
# Opens the fleet's page in a real browser: a broker, a device that learns, hostile neighbors, then `latrod demo`, and
# Chromium without a window (page.py). Checks it with axe-core as well. The README's docs/page.png is
# FOLDER/readme.png.
#
#   page.sh [FOLDER]   where screenshots of every page go, in light, dark and at a phone's width; none otherwise
#
# Installs Debian's chromium and chromium-driver, selenium from PyPI and axe-core from npm where they are missing.
# LATROD_BIN names a program to test; without it one is built.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly selenium=4.38.0 axe=4.14.1
readonly tools=${XDG_CACHE_HOME:-${HOME:?}/.cache}/latrod/tools/page

missing=()
command -v chromium > /dev/null || missing+=(chromium)
command -v chromedriver > /dev/null || missing+=(chromium-driver)
command -v npm > /dev/null || [ -e "$tools/axe-$axe.js" ] || missing+=(npm)
python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
    printf 'page: installing %s\n' "${missing[*]}" >&2
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

mkdir -p "$tools"
if ! [ -x "$tools/selenium-$selenium/bin/python" ]; then
    python3 -m venv "$tools/selenium-$selenium"
    "$tools/selenium-$selenium/bin/pip" install --quiet "selenium==$selenium"
fi
if ! [ -e "$tools/axe-$axe.js" ]; then
    unpacked=$(mktemp -d)
    (cd "$unpacked" && npm pack --silent "axe-core@$axe" > /dev/null && tar -xzf "axe-core-$axe.tgz")
    mv "$unpacked/package/axe.min.js" "$tools/axe-$axe.js"
    rm -r "$unpacked"
fi

if [ -z "${LATROD_BIN:-}" ]; then
    cargo build --locked
    LATROD_BIN=${CARGO_TARGET_DIR:-target}/debug/latrod
fi
"$tools/selenium-$selenium/bin/python" tests/system/page.py "$LATROD_BIN" "$tools/axe-$axe.js" "$@"
