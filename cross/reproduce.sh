#!/usr/bin/env bash
# Builds the last commit twice, from clean clones in different folders with different target folders, and fails if the
# two programs differ in any byte. Takes the arguments of cross/build.sh and leaves the result in the same place;
# uncommitted changes are not built.
#
#   cross/reproduce.sh TARGET [--set device|full] [--features LIST] [--glibc VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."

readonly source=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The folders' names also differ in length, in case one of them ends up in the program after all.
for folder in first another/second; do
    mkdir -p "$work/$folder"
    git clone --quiet --no-hardlinks "$source" "$work/$folder/latrod"
    printf '== %s\n' "$folder"
    CARGO_TARGET_DIR=$work/$folder/objects "$work/$folder/latrod/cross/build.sh" "$@"
    rm -rf "$work/$folder/objects"
done

cd "$work/first/latrod/dist"
for file in */*; do
    if ! cmp "$file" "$work/another/second/latrod/dist/$file"; then
        printf 'reproduce: the two builds of %s differ; diffoscope shows where\n' "$file" >&2
        exit 1
    fi
    printf 'the same  %s  %s\n' "$(sha256sum "$file" | cut -d ' ' -f 1)" "$file"
done
mkdir -p "$source/dist"
cp -r . "$source/dist/"
