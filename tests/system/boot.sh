#!/usr/bin/env bash
# Tests the service under a real systemd: a disposable Debian boots in a container with systemd as its first process;
# the package is installed; the service starts on a tiny model, trains, is reloaded and upgraded, hangs, and is stopped.
# This shows what tests/system/systemd.sh cannot: that the daemon and its worker work within the unit's namespaces and
# limits.
#
#   tests/system/boot.sh [DEB]   default: a package of the program in the target folder
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly program=boot
# shellcheck source=tests/system/root.sh
. tests/system/root.sh
own_mounts "$@"
install_tools
command -v python3 > /dev/null || fail 'python3 is missing: sudo apt-get install python3'

work=$(mktemp -d)
container=''
end() {
    # Ending the container's first process ends everything in it.
    [ -z "$container" ] || { kill "$container" && wait "$container"; } 2> /dev/null || true
    umount "$work/root" "$work/layer" 2> /dev/null || true
    remove_groups
    rm -rf "$work"
}
trap end EXIT
find_package "$work" "${1:-}"
# The daemon starts its worker as /proc/self/exe, which under qemu is qemu.
is_own || skip "$deb is for $arch, and this machine is $(dpkg --print-architecture)"
make_root "$work"
readonly root=$work/root config=/etc/latrod/latrod.toml dropins=/etc/systemd/system/latrod.service.d

# inside COMMAND…: in the namespaces of the container's first process.
inside() {
    nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup --root --wd env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

# Sets `leader`, the host's number of the container's first process, once systemd has finished booting.
boot() {
    # Kernels and sandboxes differ in what they allow; that is not the package's fault.
    "${spawn[@]}" --boot --console=pipe < /dev/null > "$work/console" 2>&1 &
    container=$!
    local state=''
    for _ in $(seq 300); do
        [ -e "/proc/$container" ] || skip "systemd-nspawn cannot boot a system here: $(tail -n 1 "$work/console")"
        leader=$(cat "/proc/$container/task/$container/children" 2> /dev/null || true)
        leader=${leader%% *}
        if [ -n "$leader" ]; then
            state=$(inside systemctl is-system-running 2> /dev/null || true)
            case $state in
                running | degraded) return ;;
            esac
        fi
        sleep 0.2
    done
    skip "a system does not finish booting here within a minute (its state is ${state:-unknown})"
}

# Shows what the unit and its journal say, for whoever debugs this.
show_unit() {
    {
        inside systemctl status latrod --no-pager --full
        inside journalctl -u latrod --no-pager -o short-precise -n 60
    } >&2 || true
}

wrong() {
    show_unit
    fail "$1"
}

# property NAME: of the unit.
property() {
    inside systemctl show latrod --property "$1" --value
}

# until_so SECONDS WHAT COMMAND…: waits until the command succeeds.
until_so() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || wrong "$what"
        sleep 0.3
    done
}

# status KEY VALUE: whether `latrod status` currently shows this value; KEY may contain dots.
status() {
    inside latrod status --json | python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[key]
sys.exit(str(value) != sys.argv[2])' "$@"
}

# event NAME FIELD…: whether the journal has an event with these fields, none of them empty.
event() {
    local name=$1
    shift
    inside journalctl -o json --no-pager SYSLOG_IDENTIFIER=latrod "EVENT=$name" | python3 -c '
import json, sys
entries = [json.loads(line) for line in sys.stdin]
def whole(entry):
    return entry["_SYSTEMD_UNIT"] == "latrod.service" and entry["MESSAGE"] and all(entry.get(f) for f in sys.argv[1:])
sys.exit(not any(whole(entry) for entry in entries))' "$@"
}

# A configuration with which the device counts as idle immediately, however busy this machine is.
configure() {
    cp tests/fixtures/tiny.gguf "$root/var/lib/latrod/models/model.gguf"
    cat > "$root$config" << 'END'
model = "/var/lib/latrod/models/model.gguf"
[device]
name = "boot"
[tasks]
settle_s = 0
held_out_share = 0.25
[cycle]
min_new_tasks = 30
max_held_out_questions = 10
min_held_out = 10
[promotion]
min_questions = 10
max_kl_nats_per_token = 0.0
[learn]
steps = 2
num_generations = 2
prompts_per_step = 2
max_new_tokens = 16
rank = 4
[compute]
threads = 1
[idle]
idle_after_s = 0
max_cpu_percent = 0.0
max_cpu_training_percent = 0.0
max_cpu_pressure_percent = 0.0
max_io_pressure_percent = 0.0
max_memory_pressure_percent = 0.0
max_celsius = 0.0
min_free_disk_mib = 1
END
}

installed() {
    cp "$deb" "$root/package.deb"
    inside dpkg -i /package.deb > "$work/output" 2>&1 || wrong "dpkg -i: $(cat "$work/output")"
    [ "$(property ActiveState)" = inactive ] || wrong 'installing starts the service, which has no model yet'
    [ "$(inside systemctl is-enabled latrod || true)" = disabled ] || wrong 'installing enables the service'
}

started() {
    configure
    inside systemctl enable --quiet --now latrod || wrong 'the service does not start'
    # With Type=notify a unit is active only after READY=1.
    [ "$(property Type) $(property ActiveState) $(property SubState)" = 'notify active running' ] || wrong 'the service is not ready'
    [ -n "$(property StatusText)" ] || wrong 'the daemon does not report its status to systemd'
    [ "$(property WatchdogUSec)" = 2min ] || wrong "the watchdog waits $(property WatchdogUSec) instead of 2min"
    until_so 20 'latrod status gets no answer' inside latrod status
}

# Checks what the kernel says about the daemon: user, privileges, system call filter, namespaces.
confined() {
    local pid about
    pid=$(property MainPID)
    about=$(inside cat "/proc/$pid/status")
    for line in 'CapEff:.0000000000000000' 'CapBnd:.0000000000000000' 'NoNewPrivs:.1' 'Seccomp:.2'; do
        grep -q "^$line$" <<< "$about" || wrong "the daemon lacks $line: $(grep "^${line%%:*}:" <<< "$about")"
    done
    [ "$(inside stat -c %U "/proc/$pid")" = latrod ] || wrong 'the daemon does not run as latrod'
    for namespace in mnt ipc user; do
        [ "$(inside readlink "/proc/$pid/ns/$namespace")" != "$(inside readlink "/proc/1/ns/$namespace")" ] ||
            wrong "the daemon has no $namespace namespace of its own"
    done
    if inside nsenter --target "$pid" --mount --setuid "$(inside id -u latrod)" touch /etc/latrod/x 2> /dev/null; then wrong 'the daemon may write to /etc'; fi
    inside nsenter --target "$pid" --mount ls /home > "$work/home" 2>&1 || true
    [ ! -s "$work/home" ] || wrong "the daemon sees /home: $(cat "$work/home")"
}

# A training cycle in the worker, from the spool folder to a decision in the journal.
learned() {
    inside sh -c 'umask 027; cat > /var/spool/latrod/sums.tmp; chgrp latrod /var/spool/latrod/sums.tmp; mv /var/spool/latrod/sums.tmp /var/spool/latrod/sums.jsonl' < <(head -n 80 tests/fixtures/tiny-train.jsonl)
    until_so 60 'no worker with SCHED_IDLE appears' idle_worker
    until_so 240 'no training cycle ends' decided
    event step STEP REWARD || wrong 'the journal has no step with fields of its own'
    event state STATE REASON || wrong 'the journal has no state with fields of its own'
}

idle_worker() {
    local worker
    worker=$(inside pgrep -f '^latrod worker')
    inside chrt -p "$worker" | grep -q SCHED_IDLE
}

decided() {
    event rejected REASON || event promoted VERSION
}

reloaded() {
    local pid
    pid=$(property MainPID)
    inside systemctl reload latrod || wrong 'the configuration is not reloaded'
    printf 'modle = "x"\n' >> "$root$config"
    if inside systemctl reload latrod 2> /dev/null; then wrong 'an invalid configuration is not refused'; fi
    [ "$(property ActiveState) $(property MainPID)" = "active $pid" ] || wrong 'a refused configuration ends the daemon'
}

# The configuration is still invalid, so the old version keeps running; once it is fixed, the next upgrade restarts the service.
upgraded() {
    local pid
    pid=$(property MainPID)
    cp "$(newer "$deb" "$work" 98.0)" "$(newer "$deb" "$work" 99.0)" "$root/"
    inside dpkg -i /newer_98.0.deb > "$work/output" 2>&1 < /dev/null || wrong "dpkg -i: $(cat "$work/output")"
    grep -q 'the old version keeps running' "$work/output" || wrong "the upgrade does not say that the configuration is refused: $(cat "$work/output")"
    [ "$(property ActiveState) $(property MainPID)" = "active $pid" ] || wrong 'an upgrade that refuses the configuration ends the daemon'
    configure
    inside dpkg -i /newer_99.0.deb > "$work/output" 2>&1 < /dev/null || wrong "dpkg -i: $(cat "$work/output")"
    [ "$(property ActiveState)" = active ] || wrong 'the daemon does not run after an upgrade'
    [ "$(property MainPID)" != "$pid" ] || wrong 'the upgrade leaves the old daemon running'
}

# A daemon that hangs is killed and restarted, within a few seconds instead of the unit's two minutes.
hung() {
    local pid
    mkdir -p "$root$dropins"
    printf '[Service]\nWatchdogSec=3s\nRestartSec=1s\n' > "$root$dropins/test.conf"
    inside systemctl daemon-reload
    inside systemctl restart latrod || wrong 'the service does not restart'
    pid=$(property MainPID)
    sleep 5
    [ "$(property MainPID) $(property NRestarts)" = "$pid 0" ] || wrong 'the watchdog kills a healthy daemon'
    inside kill -STOP "$pid"
    until_so 30 'a daemon that hangs is not restarted' restarted
    [ "$(property MainPID)" != "$pid" ] || wrong 'the daemon that hung is still running'
    inside journalctl -u latrod --no-pager | grep -q 'Watchdog timeout' || wrong 'it was not the watchdog that ended the daemon'
    until_so 20 'the daemon does not answer after the restart' inside latrod status
}

restarted() {
    [ "$(property NRestarts) $(property ActiveState)" = '1 active' ]
}

stopped() {
    local since
    since=$(inside date '+%F %T')
    inside systemctl stop latrod || wrong 'systemctl stop fails'
    [ "$(property ActiveState) $(property Result)" = 'inactive success' ] || wrong 'the service does not stop cleanly'
    # CLD_EXITED and 0: it ended on its own.
    [ "$(property ExecMainCode) $(property ExecMainStatus)" = '1 0' ] || wrong "the daemon ended with code $(property ExecMainCode), status $(property ExecMainStatus)"
    if inside journalctl -u latrod --since "$since" --no-pager | grep -iE 'kill|timed out'; then wrong 'something had to be killed'; fi
    if inside pgrep -u latrod; then wrong 'processes are left behind'; fi
}

removed() {
    inside systemctl start latrod || wrong 'the service does not start'
    inside dpkg -P latrod > "$work/output" 2>&1 || wrong "dpkg -P: $(cat "$work/output")"
    if inside pgrep -u latrod; then wrong 'purging leaves processes behind'; fi
    [ "$(property LoadState) $(property ActiveState)" = 'not-found inactive' ] || wrong "purging leaves the unit $(property LoadState), $(property ActiveState)"
    [ ! -e "$root/var/lib/latrod" ] || wrong 'purging leaves /var/lib/latrod behind'
}

boot
printf 'booted: %s, %s\n' "$(inside systemctl --version | head -n 1)" "$(stat -f -c %T /sys/fs/cgroup)"
for check in installed started confined learned reloaded upgraded hung stopped removed; do
    "$check"
    printf '%s: ok\n' "$check"
done
