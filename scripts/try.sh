#!/usr/bin/env bash
# The first thing to run: fetches a real model, builds latrod and trains on the sample sums, with an evaluation on
# held-out sums before and after. Stop it at any time; run it again to resume.
#
#   scripts/try.sh [STEPS]    training steps in all, 20 if not given
set -euo pipefail
cd "$(dirname "$0")/.."

readonly steps=${1:-20}
case $steps in
    '' | *[!0-9]* | 0)
        printf 'try: %s is not a number of steps; give a whole number above 0, or nothing\n' "$steps" >&2
        exit 64
        ;;
esac
# A run keeps the number of steps that it began with, so each number has its own folder.
readonly adapter=sums-adapter/$steps-steps

scripts/setup.sh
model=$(scripts/fetch-model.sh)
cargo build --release --locked
latrod() {
    cargo run --release --locked --quiet -- "$@"
}
latrod train --model "$model" --tasks samples/sums-train.jsonl --eval-tasks samples/sums-dev.jsonl \
    --eval-questions 50 --steps "$steps" --prompts-per-step 4 --max-new-tokens 64 --adapter "$adapter"

echo
echo 'Is it more than chance? Fifty held-out sums, untouched and with the adapter:'
latrod eval --model "$model" --tasks samples/sums-dev.jsonl --limit 50 --max-new-tokens 64 --adapter "$adapter"

cat << EOF

The adapter is in $adapter. Next steps:
    cargo run --release -- ask --model $model --adapter $adapter 'What is 17 + 8 - 6?'
    cargo run --release -- plot $adapter/metrics.jsonl --out $adapter/curve.svg
    cargo run --release -- train --help
EOF
