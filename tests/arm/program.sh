#!/usr/bin/env bash
# Tests the whole program, built for 64-bit ARM, on an emulated processor: it must inspect and train the tiny model
# as the program for this machine does, and run as a daemon that speaks MQTT to a real broker.
#
#   tests/arm/program.sh ARM_PROGRAM HOST_PROGRAM [PROCESSOR]
#
# Needs qemu's user-mode emulation, mosquitto with its clients, and Python. Registers nothing with the kernel.
set -euo pipefail

fail() {
    printf 'arm program: %s\n' "$1" >&2
    exit 1
}

# Shows the logs of the daemon and the broker before they are deleted.
fail_with_logs() {
    tail -n 12 "$work"/*.log | cut -c 1-300 >&2
    fail "$1"
}

[ "$#" -ge 2 ] || fail 'give the program for ARM and the one for this machine'
emulated=$(realpath "$1") host=$(realpath "$2")
cd "$(dirname "$0")/../.."
emulator=$(command -v qemu-aarch64-static)
readonly fixtures=$PWD/tests/fixtures
# As in tests/system/arm.sh: one C library with its own loader.
[ "$(uname -m)" = aarch64 ] || export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu QEMU_SET_ENV=LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib
export QEMU_CPU=${3:-cortex-a76}
PATH=$PATH:/usr/sbin
for tool in mosquitto mosquitto_pub mosquitto_sub; do
    command -v "$tool" > /dev/null || fail "$tool is missing; scripts/setup.sh installs it"
done

work=$(mktemp -d)
processes=()
end() {
    # Bash says of each process that it was killed.
    exec 2> /dev/null
    [ "${#processes[@]}" -eq 0 ] || kill -KILL "${processes[@]}" || true
    wait
    rm -rf "$work"
}
trap end EXIT

arm() {
    "$emulator" "$emulated" "$@"
}

passed() {
    printf 'arm program: %s\n' "$1"
}

inspects() {
    [ "$(arm --version)" = "$("$host" --version)" ] || fail 'its version differs from that of the program for this machine'
    arm inspect --json "$fixtures/tiny.gguf" > "$work/arm.json"
    "$host" inspect --json "$fixtures/tiny.gguf" > "$work/host.json"
    # Free memory differs from run to run, and the memory of a program from program to program.
    python3 - "$work/arm.json" "$work/host.json" << 'PYTHON' || fail 'inspect shows a different model than on this machine'
import json, sys

arm, host = (json.load(open(path)) for path in sys.argv[1:])
if not arm["tensors"] or any(arm[k] != host[k] for k in host if "memory" not in k):
    sys.exit(1)
PYTHON
    passed 'inspects the tiny model as this machine does'
}

# Three steps in exact mode, on one thread, because emulated threads that wait for each other take far longer. The
# processors sum in different orders, so numbers agree only within rounding; the sampled tokens are the same.
trains() {
    local options=(--model "$fixtures/tiny.gguf" --tasks "$fixtures/tiny-train.jsonl" --eval-questions 0 --steps 3 -k 4
        --prompts-per-step 2 --max-new-tokens 24 --rank 4 --learning-rate 1e-3 --compute exact --threads 1)
    "$host" train "${options[@]}" --adapter "$work/host" > "$work/train.log" 2>&1 || fail_with_logs 'this machine does not train'
    arm train "${options[@]}" --adapter "$work/arm" > "$work/train.log" 2>&1 || fail_with_logs 'it does not train'
    python3 - "$work/arm/metrics.jsonl" "$work/host/metrics.jsonl" << 'PYTHON' || fail 'it trains differently than this machine'
import json, math, sys

arm, host = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
steps = [line["step"] for line in arm if line["kind"] == "step"]
if steps != [1, 2, 3] or len(host) != len(arm):
    sys.exit(f"arm program: expected steps 1 to 3, not {steps}")
worst = 0.0
for ours, theirs in zip(arm, host):
    if ours["rollout_tokens"] != theirs["rollout_tokens"]:
        sys.exit(f"arm program: step {ours['step']} sampled {ours['rollout_tokens']} tokens, here {theirs['rollout_tokens']}")
    for name in ["reward", "log_p_answer", "entropy", "grad_norm", "parameter_norm", "loss", "kl"]:
        # Differences near zero, such as the first step's KL, count against one nat.
        off = abs(ours[name] - theirs[name]) / max(1.0, abs(theirs[name]))
        worst = max(worst, off)
        if not math.isfinite(off) or off > 1e-4:
            sys.exit(f"arm program: step {ours['step']}: {name} is {ours[name]}, here {theirs[name]}")
print(f"arm program: trains as this machine does: rewards, norms and losses of 3 steps within {worst:.1e}")
PYTHON
}

# says KIND TEXT SECONDS: waits until the device has published a message of this kind with this text.
says() {
    local end=$((SECONDS + $3))
    until grep -q "^latro/v2/arm/emulated/$1 .*$2" "$work/heard.log"; do
        kill -0 "$daemon" 2> /dev/null || fail_with_logs 'the daemon has ended'
        [ "$SECONDS" -lt "$end" ] || fail_with_logs "the daemon has not published $1 with $2 within $3 s"
        sleep 0.2
    done
}

# A daemon on the loopback broker: birth, a command, tasks, a clean shutdown. It is paused, because a worker is started
# as /proc/self/exe, which under the emulator is a program that this machine cannot run.
serves() {
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    printf 'listener %s 127.0.0.1\nallow_anonymous true\nuser root\n' "$port" > "$work/mosquitto.conf"
    mosquitto -c "$work/mosquitto.conf" > "$work/mosquitto.log" 2>&1 &
    processes+=($!)
    until mosquitto_pub -p "$port" -t ready -n 2> /dev/null; do
        kill -0 "${processes[-1]}" || fail_with_logs 'mosquitto does not start'
        sleep 0.1
    done
    mosquitto_sub -p "$port" -v -t 'latro/v2/#' > "$work/heard.log" &
    processes+=($!)

    mkdir "$work/device" "$work/device/spool"
    configuration "$port" > "$work/device/latrod.toml"
    "$emulator" "$emulated" run --config "$work/device/latrod.toml" > "$work/daemon.log" 2>&1 &
    daemon=$!
    processes+=("$daemon")
    says birth '"version"' 120
    says status online 10
    timeout 60 "$emulator" "$emulated" status --socket "$work/device/socket" > /dev/null || fail_with_logs 'the daemon does not answer latrod status'
    timeout 120 "$emulator" "$emulated" command --broker "mqtt://127.0.0.1:$port" --fleet arm --device emulated --unsigned \
        --wait 60 pause > "$work/command.log" 2>&1 ||
        fail_with_logs 'the daemon does not accept a command'
    cp "$fixtures/tiny-train.jsonl" "$work/device/spool/part"
    mv "$work/device/spool/part" "$work/device/spool/sums.jsonl"
    says event tasks_taken 60
    kill -TERM "$daemon"
    timeout 60 tail --pid "$daemon" -f /dev/null || fail_with_logs 'the daemon does not shut down within 60 s'
    wait "$daemon" || fail_with_logs 'the daemon does not shut down cleanly'
    unset 'processes[-1]'
    # From here on, the broker is the process that must be alive.
    daemon=${processes[0]}
    says status offline 10
    passed 'announces its birth on the broker, reports its status, accepts a command and tasks, and shuts down cleanly'
}

# configuration PORT: a device that is always idle and trains for two short steps.
configuration() {
    cat << TOML
model = "$fixtures/tiny.gguf"
state_dir = "$work/device/state"
[device]
fleet = "arm"
name = "emulated"
[tasks]
folder = "$work/device/spool"
settle_s = 0
held_out_share = 0.25
[cycle]
min_new_tasks = 100
min_held_out = 50
max_held_out_questions = 50
[learn]
steps = 2
num_generations = 2
prompts_per_step = 1
max_new_tokens = 16
rank = 4
[compute]
threads = 1
[idle]
idle_after_s = 0
busy_after_s = 0
max_cpu_percent = 0.0
max_cpu_training_percent = 0.0
max_cpu_pressure_percent = 0.0
max_io_pressure_percent = 0.0
max_memory_pressure_percent = 0.0
max_gpu_percent = 0.0
max_celsius = 0.0
require_mains = false
min_battery_percent = 0.0
users = "ignore"
systemd_inhibitors = false
min_free_disk_mib = 1
min_free_disk_percent = 0.0
min_free_memory_mib = 1
[promotion]
max_kl_nats_per_token = 0.0
[mqtt]
broker = "mqtt://127.0.0.1:$1"
allow_unsigned = true
[status]
socket = "$work/device/socket"
TOML
}

inspects
trains
serves
