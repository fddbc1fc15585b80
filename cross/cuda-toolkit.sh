#!/usr/bin/env bash
# Assembles a CUDA toolkit from PyPI packages, sufficient to build latrod with --features cuda on a machine without a
# GPU, a driver or NVIDIA's installer. Takes about 2 GB.
#
#   cross/cuda-toolkit.sh [DIR] [--target TRIPLE]
#
#   DIR        where the toolkit goes; default: where build.sh looks for it; existing parts are kept
#   --target   x86_64-unknown-linux-gnu (default) or aarch64-unknown-linux-gnu; the compiler always runs on x86-64
#
# Prints a file to source before a build without cross/build.sh. See cross/CUDA.md.
set -euo pipefail
readonly program=cuda-toolkit
# shellcheck source=cross/toolchain.sh
. "$(dirname "$0")/toolchain.sh"

# The release, as the version of the PyPI package cuda-toolkit, which lists its parts. It is the first of CUDA 13: a
# driver translates kernels of its own release and older ones, and lacks the functions of newer ones.
readonly release=13.0.2
readonly version=13000 # as cudarc writes 13.0

need() {
    command -v "$1" > /dev/null || fail "$1 is missing; install $2"
}

# fetch FOLDER PIP-OPTION…: installs packages into a folder.
fetch() {
    local folder=$1
    shift
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-compile \
        --target "$folder" "$@" || fail "pip could not install the CUDA packages; see its message above"
}

# The compiler with its headers, and the libraries for x86-64. All parts are named, because a part's own dependencies may
# come from another release, which gives a compiler whose halves are incompatible.
host_packages() {
    if [[ ! -x $host/nvidia/cu13/bin/nvcc ]]; then
        fetch "$host" "cuda-toolkit[nvcc,nvvm,crt,cccl,cudart,cublas,curand,nvrtc]==$release"
    fi
}

# The same libraries for another processor, in the host's versions.
target_packages() {
    local requirements=$work/requirements
    mkdir -p "$work"
    python3 -m pip list --path "$host" --format freeze --disable-pip-version-check |
        grep -E '^nvidia[-_](cublas|curand|cuda[-_]nvrtc|cuda[-_]runtime)==' > "$requirements"
    fetch "$work/$release" --no-deps --only-binary :all: --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --platform any \
        --requirement "$requirements"
}

# A folder laid out as by NVIDIA's installer, made of links.
root() {
    local library name
    rm -rf "$root"
    mkdir -p "$root/lib64"
    ln -s "$host/nvidia/cu13/bin" "$host/nvidia/cu13/nvvm" "$host/nvidia/cu13/include" "$root/"
    for library in "$libraries"/*; do
        name=${library##*/}
        ln -s "$library" "$root/lib64/$name"
        # The linker looks for libX.so.
        if [[ $name == *.so.* ]]; then ln -s "$library" "$root/lib64/${name%%.so.*}.so"; fi
    done
    ln -s lib64 "$root/lib"
}

# Replaces the driver's library while linking: an empty function for every name in its header. Programs cannot run with
# it.
driver_stub() {
    mkdir -p "$root/stubs"
    {
        grep -ohE '\bcu[A-Z][A-Za-z0-9_]*' "$root/include/cuda.h" | sort -u | sed 's/.*/void &(void) {}/'
    } > "$root/stubs/cuda.c"
    "$cc" -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$root/stubs/libcuda.so" "$root/stubs/cuda.c"
}

environment() {
    local compiler=''
    if [[ $target == aarch64-* ]]; then compiler="export NVCC_CCBIN=aarch64-linux-gnu-g++"; fi
    cat > "$root/env" << END
export CUDA_PATH='$root' CUDA_HOME='$root' CUDA_ROOT='$root' CUDARC_CUDA_VERSION=$version
export PATH='$root/bin':"\$PATH"
export RUSTFLAGS="-L native=$root/lib64 -L native=$root/stubs\${RUSTFLAGS:+ \$RUSTFLAGS}"
$compiler
END
    printf '%s\n' "$root/env"
}

dir=$tools/cuda target=x86_64-unknown-linux-gnu
while (($#)); do
    case $1 in
        --target)
            target=${2:?--target needs a value}
            shift
            ;;
        -*) fail "there is no option $1; see the top of this script" ;;
        *) dir=$1 ;;
    esac
    shift
done
[[ $(uname -m) == x86_64 ]] || fail "the compiler's packages are for x86-64, and this machine is $(uname -m)"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
host=$dir/$release work=$dir/$target root=$dir/$target/cuda

need python3 python3
python3 -m pip --version > /dev/null 2>&1 || fail 'pip is missing; install python3-pip'
case $target in
    x86_64-unknown-linux-gnu)
        cc=gcc
        need gcc gcc
        need g++ g++
        libraries=$host/nvidia/cu13/lib
        ;;
    aarch64-unknown-linux-gnu)
        cc=aarch64-linux-gnu-gcc
        need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
        need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
        libraries=$work/$release/nvidia/cu13/lib
        ;;
    *) fail "there is no toolkit for $target; use x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu" ;;
esac
host_packages
if [[ $target == aarch64-* && ! -d $libraries ]]; then target_packages; fi
root
driver_stub
environment
