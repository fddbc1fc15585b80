#!/usr/bin/env bash
# Builds latrod as it ships, for this machine's architecture or the other one:
#
#   cross/build.sh TARGET [--set device|full] [--features LIST] [--cuda CAPABILITY] [--glibc VERSION] [--profile NAME]
#
#   TARGET      aarch64-unknown-linux-gnu (Jetson, Raspberry Pi 4 and 5) or x86_64-unknown-linux-gnu
#   --set       device: what a device needs; full (the default): also `demo`, `plot`, `command`, `dashboard`, `simulate`
#               and `debug`
#   --features  further features of Cargo.toml, separated by commas
#   --cuda      also for GPUs of this compute capability: 87 is a Jetson Orin, 90 an H100 (cross/CUDA.md)
#   --glibc     the oldest C library to support, such as 2.31 (JetPack 5, Ubuntu 20.04)
#   --profile   a profile of Cargo.toml; default: dist
#
# The program is written to dist/TARGET[.GLIBC]-SET[-FEATURES][-cudaNN][-PROFILE]/latrod, with its bill of materials
# beside it. Installs nothing: it uses the compiler, linker and tools that it finds, says which, and names the package
# that is missing. Two builds of one commit should be byte-identical in any folder (cross/reproduce.sh checks that);
# RUSTFLAGS and CFLAGS from the environment would break this and are ignored.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly program=build
# shellcheck source=cross/toolchain.sh
. cross/toolchain.sh

usage() {
    printf 'build: %s\n\n' "$1" >&2
    sed -n '4,11s/^# \{0,1\}//p' cross/build.sh >&2
    exit 64
}

# Sets `rustc`.
choose_compiler() {
    find_rustc "$target" ||
        fail "no Rust compiler here has the standard library for $target: rustup target add $target, or sudo apt-get install rustc-web libstd-rust-web-dev:$debian_arch"
    export RUSTC=$rustc
    printf 'compiler  %s (%s)\n' "$("$rustc" --version)" "$(command -v "$rustc")"
}

# Sets `build`, the cargo command that builds, and the variables that tell cargo and C compilers which linker to use.
choose_linker() {
    local name=${target//-/_} found=true
    find_linker "$target" || found=false
    if [ -n "$glibc" ] && ! { $found && at_most "$(linker_glibc)" "$glibc"; }; then
        choose_zig
        return
    fi
    $found || fail "the linker for $target is missing: sudo apt-get install $linker_packages"
    build=(build --target "$target")
    export "CARGO_TARGET_${name^^}_LINKER=$linker" "CC_$name=$linker"
    printf 'linker    %s, with C library %s\n' "$linker" "$(linker_glibc)"
}

choose_zig() {
    [ -z "$cuda" ] || fail "C library $glibc is older than the linker's, and CUDA's compiler does not work with zig: build with --cuda on a system of that age"
    command -v cargo-zigbuild > /dev/null ||
        fail "C library $glibc is older than the linker's, which requires cargo-zigbuild: run cross/tools.sh zig, or cargo install --locked cargo-zigbuild"
    if [ -x "$tools/python/ziglang/zig" ]; then
        export CARGO_ZIGBUILD_ZIG_PATH=$tools/python/ziglang/zig
    elif command -v zig > /dev/null; then
        CARGO_ZIGBUILD_ZIG_PATH=$(command -v zig)
        export CARGO_ZIGBUILD_ZIG_PATH
    else
        fail "C library $glibc is older than the linker's, which requires zig: run cross/tools.sh zig, or pip install ziglang"
    fi
    build=(zigbuild --target "$target.$glibc")
    # Objects from different C compilers must not be mixed.
    folder=$folder/zig-$glibc
    printf 'linker    zig %s, with C library %s\n' "$("$CARGO_ZIGBUILD_ZIG_PATH" version)" "$glibc"
}

# Finds NVIDIA's toolkit: the installed one, or else the one that cuda-toolkit.sh assembles. Sets `toolkit` and the
# variables that the CUDA crates read.
choose_cuda() {
    local name=${target//-/_} compiler=${linker/%cc/++} package=g++
    toolkit=$tools/cuda/$target/cuda
    if is_native "$target"; then
        if [ -x "${CUDA_PATH:-}/bin/nvcc" ]; then
            toolkit=$CUDA_PATH
        elif command -v nvcc > /dev/null; then
            toolkit=$(realpath "$(command -v nvcc)")
            toolkit=${toolkit%/bin/nvcc}
        elif [ -x /usr/local/cuda/bin/nvcc ]; then
            toolkit=/usr/local/cuda
        fi
        compiler=c++
    else
        package=g++-${triplet/_/-}
    fi
    if [ ! -x "$toolkit/bin/nvcc" ]; then
        [ "$(uname -m)" = x86_64 ] || fail "NVIDIA's CUDA toolkit for $target is missing: install it (on a Jetson: sudo apt-get install nvidia-jetpack) and put nvcc on the path"
        fail "NVIDIA's CUDA toolkit for $target is missing: run cross/cuda-toolkit.sh --target $target"
    fi
    command -v "$compiler" > /dev/null || fail "$compiler, which the CUDA compiler needs, is missing: sudo apt-get install $package"
    # shellcheck source=/dev/null
    [ ! -f "$toolkit/env" ] || . "$toolkit/env"
    # /usr may contain a different cargo than the one in use.
    [ "$toolkit" = /usr ] || PATH=$toolkit/bin:$PATH
    export PATH CUDA_PATH=$toolkit CUDA_HOME=$toolkit CUDA_ROOT=$toolkit CUDA_COMPUTE_CAP=$cuda \
        NVCC_CCBIN=$compiler "CXX_$name=$compiler"
    printf 'cuda      %s, for compute capability %s\n' "$toolkit" "$cuda"
}

# Removes this machine's folders from the build: sources, crates, the standard library, generated code.
forget_places() {
    local name=${target//-/_} home=${CARGO_HOME:-${HOME:?}/.cargo} flags=() c_flags=() crates pair
    local -a pairs=("$(pwd -P)=latrod" "$folder=target" "$("$rustc" --print sysroot)/lib/rustlib/src/rust=rustc")
    cargo fetch --locked --quiet --target "$target" || fail 'the crates of Cargo.lock cannot be fetched; check the network'
    for crates in "$home"/registry/src/*; do pairs+=("$crates=crates"); done
    for pair in "${pairs[@]}"; do
        flags+=("--remap-path-prefix=$pair")
        c_flags+=("$(printf '%q' "-ffile-prefix-map=$pair")")
    done
    if [ -n "$cuda" ]; then flags+=(-L "native=$toolkit/lib64" -L "native=$toolkit/stubs" -L "native=$toolkit/lib64/stubs"); fi
    unset RUSTFLAGS CFLAGS TARGET_CFLAGS
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${flags[*]}")
    export CARGO_ENCODED_RUSTFLAGS CC_SHELL_ESCAPED_FLAGS=1 "CFLAGS_$name=${c_flags[*]}"
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || printf 0)}
    export SOURCE_DATE_EPOCH
}

# Embeds the list of all crates in the program, if the tool for it exists.
choose_audit() {
    if command -v cargo-auditable > /dev/null; then
        cargo=(cargo auditable)
        printf 'audit     cargo-auditable %s\n' "$(crate_version cargo-auditable)"
    else
        printf 'audit     none: cross/tools.sh audit installs cargo-auditable\n'
    fi
}

bill_of_materials() {
    local text
    if ! command -v cargo-cyclonedx > /dev/null; then
        printf 'sbom      none: cross/tools.sh sbom installs cargo-cyclonedx\n'
        return
    fi
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --override-filename latrod.cdx "${selection[@]}"
    # The names of this machine's folders are private, and differ from build to build.
    text=$(< latrod.cdx.json)
    printf '%s\n' "${text//"file://$(pwd -P)"/file:///latrod}" > "$out/latrod.cdx.json"
    rm latrod.cdx.json
    printf 'sbom      %s\n' "$out/latrod.cdx.json"
}

[ "$#" -gt 0 ] || usage 'name a target'
target=$1 set=full features='' cuda='' toolkit='' glibc='' profile=dist
shift
debian_names "$target"
while [ "$#" -gt 0 ]; do
    [ "$#" -gt 1 ] || usage "$1 needs a value"
    case $1 in
        --set) set=$2 ;;
        --features) features=$2 ;;
        --cuda) cuda=$2 ;;
        --glibc) glibc=$2 ;;
        --profile) profile=$2 ;;
        *) usage "there is no option $1" ;;
    esac
    shift 2
done
case $set in
    device) selection=(--no-default-features) ;;
    full) selection=() ;;
    *) usage "--set is device or full, not $set" ;;
esac
[[ $cuda =~ ^[0-9]*$ ]] || usage "--cuda takes a compute capability such as 87, not $cuda"
[ -n "$cuda" ] || [[ ,$features, != *,cuda,* ]] || usage 'the feature cuda takes a compute capability: --cuda 87'
[[ ,$features, != *,metal,* ]] || usage 'the feature metal is for Macs: cargo build --release --features metal'
[ -z "$cuda" ] || selection+=(--features cuda)
[ -z "$features" ] || selection+=(--features "$features")
[[ $glibc =~ ^(2\.[0-9]+)?$ ]] || usage "--glibc takes a version such as 2.31, not $glibc"

PATH=$tools/bin:$PATH
for tool in cargo readelf; do
    package=binutils
    [ "$tool" = readelf ] || package='cargo-web, or install Rust as https://rustup.rs says'
    command -v "$tool" > /dev/null || fail "$tool is missing: sudo apt-get install $package"
done
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo=(cargo)
choose_compiler
choose_linker
[ -z "$cuda" ] || choose_cuda
choose_audit
forget_places
export CARGO_TARGET_DIR=$folder
"${cargo[@]}" "${build[@]}" --locked --profile "$profile" --bin latrod "${selection[@]}"

out=dist/$target${glibc:+.$glibc}-$set${features:+-${features//,/-}}${cuda:+-cuda$cuda}
[ "$profile" = dist ] || out=$out-$profile
where=$profile
[ "$profile" != dev ] || where=debug
mkdir -p "$out"
install -m 755 "$folder/$target/$where/latrod" "$out/latrod"
needed=$(needed_glibc "$out/latrod")
bill_of_materials
printf 'program   %s\nbytes     %s\nglibc     %s\nsha256    %s\n' "$out/latrod" "$(stat -c %s "$out/latrod")" "$needed" \
    "$(sha256sum "$out/latrod" | cut -d ' ' -f 1)"
[ -z "$glibc" ] || at_most "$needed" "$glibc" ||
    fail "the program needs C library $needed, which is newer than $glibc; this is a bug in the selected toolchain"
