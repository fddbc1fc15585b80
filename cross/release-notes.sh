#!/usr/bin/env bash
# Prints the notes of a release: its section of CHANGELOG.md, without the heading.
#
#   cross/release-notes.sh VERSION    such as 0.2.0, v0.2.0, or Unreleased
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'release-notes: %s\n' "$1" >&2
    exit 64
}

[ "$#" -eq 1 ] || fail 'give one version, such as 0.2.0'
readonly version=${1#v}
notes=$(awk -v heading="## [$version]" '
    /^## / { on = index($0, heading) == 1; next }
    on && (/[^ ]/ || text) { text = text $0 "\n" }
    END { sub(/\n+$/, "", text); print text }
' CHANGELOG.md)
[ -n "$notes" ] || fail "CHANGELOG.md has no section for $version; rename its section Unreleased first"
printf '%s\n' "$notes"
