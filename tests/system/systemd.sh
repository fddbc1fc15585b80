#!/usr/bin/env bash
# Checks the units in systemd/ without a running systemd: that they are well-formed, how exposed they are,
# what sysusers and tmpfiles create from their files, and that the program works under the unit's system call
# filter. It cannot check namespaces, device lists and weights, which need a real systemd.
#
#   tests/system/systemd.sh [LATROD]   the program; default: the one in the target folder, built if it is missing
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    printf 'systemd: %s\n' "$1" >&2
    exit 1
}

for tool in systemd-analyze systemd-sysusers systemd-tmpfiles python3; do
    command -v "$tool" > /dev/null || fail "$tool is missing: apt-get install systemd python3"
done
latrod=${1:-${CARGO_TARGET_DIR:-target}/debug/latrod}
[ -x "$latrod" ] || cargo build --locked

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
units=$root/usr/lib/systemd/system
mkdir -p "$units" "$root"/{bin,etc,usr/bin,usr/lib/sysusers.d,usr/lib/tmpfiles.d}
cp systemd/latrod.service systemd/latrod-dashboard.service "$units"
cp "$latrod" "$root/usr/bin/latrod"
# The unit refers to these; their contents do not matter.
cp "$(type -P true)" "$root/bin/kill"
for unit in sysinit.target basic.target shutdown.target multi-user.target network.target nvidia-persistenced.service; do
    printf '[Unit]\nDescription=%s\n' "$unit" > "$units/$unit"
done
printf '[Service]\nExecStart=/bin/kill\n' >> "$units/nvidia-persistenced.service"

# check NAME UNIT LIMIT [DROP-IN]: the unit has no faults, and its exposure is at most LIMIT tenths.
check() {
    local name=$1 unit=$2 limit=$3 dropins=$root/etc/systemd/system/$2.d faults exposure
    rm -rf "$dropins"
    mkdir -p "$dropins"
    [ $# -lt 4 ] || cp "$4" "$dropins"
    # Unknown keys only cause a message, so any output is a fault.
    faults=$(systemd-analyze --root="$root" --man=no verify "$unit" 2>&1) || fail "$name: $faults"
    [ -z "$faults" ] || fail "$name: $faults"
    exposure=$(systemd-analyze security --root="$root" --offline=true --no-pager "$unit" | grep -F 'Overall exposure')
    systemd-analyze security --root="$root" --offline=true --threshold="$limit" "$unit" > /dev/null \
        || fail "$name: ${exposure#*→ }, which is above $limit tenths"
    printf '%s: %s\n' "$name" "${exposure#*→ }"
}

check 'the unit' latrod.service 15
check 'with a Jetson' latrod.service 20 systemd/latrod.service.d/jetson.conf
check 'with a discrete GPU' latrod.service 20 systemd/latrod.service.d/nvidia.conf
check "the dashboard's unit" latrod-dashboard.service 15

cp systemd/sysusers.d/latrod.conf "$root/usr/lib/sysusers.d"
cp systemd/tmpfiles.d/latrod.conf "$root/usr/lib/tmpfiles.d"
if [ "$(id -u)" -eq 0 ]; then
    systemd-sysusers --root="$root" latrod.conf
    systemd-tmpfiles --root="$root" --create latrod.conf
    grep -q '^latrod:.*:/var/lib/latrod:/usr/sbin/nologin$' "$root/etc/passwd" || fail "sysusers does not create the user latrod: $(cat "$root/etc/passwd")"
    user=$(awk -F: '$1 == "latrod" { print $3 ":" $4 }' "$root/etc/passwd")
    made=$(stat -c '%a %u:%g' "$root/var/spool/latrod")
    [ "$made" = "2770 $user" ] || fail "tmpfiles creates the spool folder as $made instead of 2770 $user"
    printf 'sysusers and tmpfiles: user latrod (%s), spool folder %s\n' "$user" "$made"
else
    printf 'sysusers and tmpfiles: not tested, which needs root\n'
fi

# The program under the unit's filter: the daemon's check, a step of training, and a page.
unit=systemd/latrod.service
filtered() {
    python3 tests/system/seccomp.py "$unit" "$@"
}
# The filter forbids choosing processors, which anyone may do without it.
processors=$(taskset -p $$ | sed 's/.* //')
taskset "$processors" true
if filtered taskset "$processors" true 2> /dev/null; then
    fail 'the filter forbids nothing; is it loaded?'
fi
filtered "$latrod" validate --config configs/x86-server.toml > /dev/null
head -n 20 tests/fixtures/tiny-train.jsonl > "$root/tasks.jsonl"
filtered "$latrod" train --model tests/fixtures/tiny.gguf --tasks "$root/tasks.jsonl" --adapter "$root/adapter" \
    --steps 1 -k 2 --max-new-tokens 8 --eval-questions 0 > "$root/log" 2>&1 || fail "training under the filter: $(cat "$root/log")"
# The worker's priorities: nice 19, SCHED_IDLE (policy 5), idle I/O.
filtered sh -c '[ "$(nice -n 19 nice)" = 19 ] && chrt --idle 0 true && ionice -c 3 true' || fail 'the filter keeps the worker from lowering its priorities'
printf 'system calls: validate, train and the idle classes work under the filter\n'
unit=systemd/latrod-dashboard.service
if "$latrod" dashboard --help > /dev/null 2>&1; then
    # No broker is there: the page is served all the same.
    printf '[page]\nlisten = "127.0.0.1:0"\n[history]\nstate_dir = "%s/history"\n[mqtt]\nbroker = "mqtt://127.0.0.1:1"\n' \
        "$root" > "$root/dashboard.toml"
    coproc DASHBOARD { exec python3 tests/system/seccomp.py "$unit" "$latrod" dashboard --config "$root/dashboard.toml" 2> "$root/log"; }
    read -r _ page <&"${DASHBOARD[0]}" || fail "the dashboard under the filter: $(cat "$root/log")"
    python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).status)' "${page%/login*}/health" \
        > "$root/answer" || fail "the page under the filter: $(cat "$root/log")"
    kill "$DASHBOARD_PID"
    printf "the dashboard's page under its filter: %s\n" "$(cat "$root/answer")"
fi
