#!/usr/bin/env bash
# Creates tests/fixtures/earlier/: what a latrod with checkpoint format 1 and ledger version 1 left on disk, namely a
# training run and the daemon's ledger. Only such a latrod can create it; the last commit with these formats is efbc222.
#
#   git worktree add ../earlier efbc222 && (cd ../earlier && cargo build --release)
#   scripts/make_earlier_state.sh ../earlier/target/release/latrod
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(realpath "${1:?the latrod of that commit}")
readonly program out=tests/fixtures/earlier
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

head -n 8 tests/fixtures/tiny-train.jsonl > "$work/tasks.jsonl"
"$program" train --model tests/fixtures/tiny.gguf --tasks "$work/tasks.jsonl" --adapter "$work/run" \
    --steps 1 -k 2 --prompts 1 --max-new-tokens 8 --rank 1 --target-modules q_proj > /dev/null

# The daemon imports the tasks into its ledger; they are too few to begin a cycle.
mkdir "$work/spool"
cat > "$work/latrod.toml" << EOF
model = "$PWD/tests/fixtures/tiny.gguf"
state_dir = "$work/state"
[tasks]
folder = "$work/spool"
settle_s = 0
held_out_share = 0.5
EOF
cp "$work/tasks.jsonl" "$work/spool/"
"$program" run --config "$work/latrod.toml" &
daemon=$!
for _ in {1..100}; do
    [ -e "$work/spool/tasks.jsonl" ] || break
    sleep 0.1
done
kill "$daemon"
wait "$daemon" || true

rm -rf "$out"
mkdir -p "$out/state/tasks"
cp -r "$work/run" "$out/run"
rm -f "$out/run/.lock" "$out/run/training/.lock"
cp "$work/state/tasks/"* "$out/state/tasks/"
# As text: a ledger's empty pages are 60 KiB.
python3 - "$work/state/ledger.db" > "$out/ledger.sql" << 'EOF'
import sqlite3, sys
ledger = sqlite3.connect(sys.argv[1])
for pragma in ("application_id", "user_version"):
    print(f"PRAGMA {pragma} = {ledger.execute(f'PRAGMA {pragma}').fetchone()[0]};")
print("\n".join(ledger.iterdump()))
EOF
