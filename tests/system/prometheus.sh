#!/usr/bin/env bash
# Reads /metrics of `latrod demo` with promtool and with a Prometheus, which understand both of its formats or don't.
#
#   prometheus.sh [LATROD]   the program; default: the one in the target folder, built if it is missing
#
# Installs Debian's prometheus where it is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    printf 'prometheus: %s\n' "$1" >&2
    exit 1
}

latrod=${1:-${CARGO_TARGET_DIR:-target}/debug/latrod}
[ -x "$latrod" ] || cargo build --locked
if ! command -v promtool > /dev/null; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus curl >&2
fi

work=$(mktemp -d)
export TMPDIR=$work
coproc DEMO { exec "$latrod" demo --devices 5 2> "$work/log"; }
demo=$DEMO_PID
server=
stop() {
    kill "$demo" ${server:+"$server"} 2> /dev/null || true
    wait
    rm -rf "$work"
}
trap stop EXIT

read -r _ way_in <&"${DEMO[0]}" || fail "the demo does not start: $(cat "$work/log")"
page=${way_in%/login*} token=${way_in##*token=}
metrics() {
    curl -sf -H "Authorization: Bearer $token" "$page/metrics"
}
# until_so WHAT COMMAND…: waits until it succeeds.
until_so() {
    local what=$1
    shift
    for _ in $(seq 300); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.2
    done
    fail "$what; the page says: $(metrics)"
}
six_devices() {
    [ "$(metrics | grep -c '^latrod_device_online{')" = 6 ]
}

until_so 'the devices do not appear' six_devices
metrics > "$work/metrics"
promtool check metrics < "$work/metrics"
printf 'promtool: %s metrics are well-formed\n' "$(grep -c '^# TYPE' "$work/metrics")"

cat > "$work/prometheus.yml" << EOF
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: latrod
    authorization: {credentials: $token}
    static_configs: [{targets: ['${page#http://}']}]
EOF
# Prometheus has no way to say which port it was given.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address="127.0.0.1:$port" \
    2> "$work/prometheus.log" &
server=$!
# asked EXPRESSION VALUE: whether Prometheus knows it.
asked() {
    curl -sfG --data-urlencode "query=$1" "http://127.0.0.1:$port/api/v1/query" | grep -qF "\"$2\"]"
}
until_so "Prometheus cannot read the metrics: $(tail -n 3 "$work/prometheus.log")" asked 'up{job="latrod"}' 1
until_so 'Prometheus does not see the devices' asked 'count(latrod_device_online)' 6
until_so 'Prometheus does not see the counter' asked 'latrod_history_dropped_records_total' 0
printf 'Prometheus: reads the metrics of 6 devices\n'
