#!/usr/bin/env python3
"""The dashboard before a fleet of made-up devices: what it shows, how soon, and at what cost.

Starts a mosquitto with many messages per client, a dashboard and `latrod simulate` on this machine, and compares what
the dashboard says of each device with the simulator's own report. A probe changes its state once a second and asks
for the list until it says so. With --restart the broker is killed and started anew at the end, and all devices connect again. Needs a
release build, mosquitto with its clients, and Linux.

    benches/fleet.py [--devices 10000] [--seconds 120] [--speed 10] [--restart] [--program target/release/latrod]

Prints one JSON object.
"""

import argparse
import http.cookiejar
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def usage(pid):
    """Seconds of processor time and MiB of memory of a process, now and at most."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(') ', 1)[1].split()
    status = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    mib = lambda name: int(status[name].split()[0]) / 1024
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'), mib('VmRSS'), mib('VmHWM')


class Dashboard:
    def __init__(self, program, folder, port):
        settings = Path(folder, 'dashboard.toml')
        settings.write_text(f'[page]\nlisten = "127.0.0.1:0"\n[history]\nstate_dir = "{folder}"\n'
                            f'[mqtt]\nbroker = "mqtt://127.0.0.1:{port}"\n')
        self.child = subprocess.Popen([program, 'dashboard', '--config', settings], stdout=subprocess.PIPE,
                                      stderr=open(f'{folder}/dashboard.log', 'w'), text=True)
        way_in = self.child.stdout.readline().strip().removeprefix('open ')
        self.base = way_in.split('/login')[0]
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies)
        self.opener.open(way_in).read()

    def get(self, path):
        """A page, and how long it took in seconds."""
        start = time.perf_counter()
        body = self.opener.open(self.base + path, timeout=60).read()
        return body, time.perf_counter() - start


class Probe:
    """A device that changes its state, and how long the page takes to say so."""

    def __init__(self, dashboard, port):
        self.dashboard, self.number, self.lags = dashboard, 0, []
        self.publisher = subprocess.Popen(['mosquitto_pub', '-h', '127.0.0.1', '-p', str(port), '-l', '-q', '1', '-t',
                                           'latro/v2/bench/probe/state'], stdin=subprocess.PIPE, text=True)

    def change(self):
        self.number += 1
        reason = f'probe {self.number}.'
        message = {'v': 2, 'id': f'probe-{self.number}', 'connection': 1, 'seq': self.number,
                   'time_ms': int(time.time() * 1000), 'state': 'waiting_for_idle', 'reason': reason}
        start = time.perf_counter()
        self.publisher.stdin.write(json.dumps(message) + '\n')
        self.publisher.stdin.flush()
        while reason.encode() not in self.dashboard.get('/devices.json?q=probe')[0]:
            if time.perf_counter() > start + 60:
                break
            time.sleep(0.02)
        self.lags.append(time.perf_counter() - start)

    def result(self):
        self.publisher.kill()
        self.publisher.wait()
        ordered = sorted(self.lags)
        return {'median': round(statistics.median(ordered), 3), 'p95': round(ordered[int(len(ordered) * 0.95)], 3),
                'most': round(ordered[-1], 3), 'changes': len(ordered)}


def online(dashboard):
    return len(json.loads(dashboard.get('/devices.json?status=online')[0]))


def sent(report):
    return sum(sum(d['sent'].values()) for d in json.loads(report.read_text())['devices'].values())


def dropped(dashboard):
    """Records that the history could not take."""
    lines = dashboard.get('/metrics')[0].decode().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith('latrod_history_dropped_records_total ')))


def restart(broker, start_broker, dashboard, devices):
    """Seconds from the end of the broker until all devices are shown as online again."""
    broker.kill()
    broker.wait()
    start = time.time()
    broker = start_broker()
    while time.time() < start + 600:
        time.sleep(1)
        # Those that the page has not noticed to be away are not back yet.
        heard = [d['heard_ms'] for d in json.loads(dashboard.get('/devices.json?status=online')[0])]
        if sum(ms > start * 1000 for ms in heard) >= devices:
            break
    return broker, round(time.time() - start, 1)


def compare(dashboard, truth):
    """Devices that the dashboard shows otherwise than they are, and why."""
    shown = {f'{d["fleet"]}/{d["device"]}': d for d in json.loads(dashboard.get('/devices.json')[0])}
    wrong = {}
    for name, device in truth['devices'].items():
        page = shown.get(name)
        if page is None:
            wrong[name] = 'not shown'
            continue
        pairs = [('status', device['presence'], page['status']), ('state', device['state'], page['state']),
                 ('adapter', device['adapter'], page['adapter'])]
        pairs += [(alarm, True, alarm in page['alarms']) for alarm in device['alarms']]
        found = [f'{what}: is {true}, shown {seen}' for what, true, seen in pairs if true != seen]
        if found:
            wrong[name] = '; '.join(found)
    return wrong, len(shown)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--devices', type=int, default=10_000)
    parser.add_argument('--seconds', type=int, default=120, help='how long the devices live once all are there')
    parser.add_argument('--speed', type=float, default=10)
    parser.add_argument('--restart', action='store_true', help='restart the broker at the end')
    parser.add_argument('--program', default='target/release/latrod')
    args = parser.parse_args()
    folder, port = tempfile.mkdtemp(prefix='latrod-fleet-'), free_port()
    config = Path(folder, 'mosquitto.conf')
    config.write_text(f'listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n')
    mosquitto = shutil.which('mosquitto', path=os.environ['PATH'] + ':/usr/sbin')
    start_broker = lambda: subprocess.Popen([mosquitto, '-c', config], stderr=subprocess.DEVNULL)
    children = [start_broker()]
    try:
        time.sleep(1)
        dashboard = Dashboard(args.program, folder, port)
        children.append(dashboard.child)
        report = Path(folder, 'truth.json')
        crowd = subprocess.Popen(
            [args.program, 'simulate', '--broker', f'mqtt://127.0.0.1:{port}', '--devices', str(args.devices),
             '--speed', str(args.speed), '--report', report], stdout=subprocess.DEVNULL)
        children.append(crowd)
        start = time.time()
        while online(dashboard) < args.devices:
            if time.time() > start + 600:
                break
            time.sleep(1)
        all_there_s = time.time() - start
        probe = Probe(dashboard, port)
        children.append(probe.publisher)
        sent_before, pages, before = sent(report), [], usage(dashboard.child.pid)
        begin = time.time()
        while time.time() < begin + args.seconds:
            pages.append(dashboard.get('/')[1])
            pages.append(dashboard.get('/?sort=-gain&state=training')[1])
            probe.change()
            time.sleep(1)
        after, took = usage(dashboard.child.pid), time.time() - begin
        rate = (sent(report) - sent_before) / took
        lags = probe.result()
        back_s = None
        if args.restart:
            children[0], back_s = restart(children[0], start_broker, dashboard, args.devices)
        crowd.send_signal(signal.SIGTERM)
        crowd.wait(120)
        truth, start = json.loads(report.read_text()), time.time()
        while True:
            wrong, shown = compare(dashboard, truth)
            settled_s = time.time() - start
            if not wrong or settled_s > 60:
                break
            time.sleep(1)
        name = next(iter(truth['devices']))
        print(json.dumps({
            'devices': args.devices, 'shown': shown, 'wrong': len(wrong), 'settled_s': round(settled_s, 1),
            'all_there_s': round(all_there_s, 1),
            'messages_per_s': round(rate), 'change_shown_s': lags, 'back_after_restart_s': back_s,
            'page_s': {'median': round(statistics.median(pages), 3), 'most': round(max(pages), 3)},
            'device_page_s': round(dashboard.get(f'/devices/{name}')[1], 3),
            'curves_s': round(dashboard.get(f'/devices/{name}/curves')[1], 3),
            'dashboard': {'cores': round((after[0] - before[0]) / took, 2),
                          'mib': round(after[1]), 'most_mib': round(after[2])},
            'broker_mib': round(usage(children[0].pid)[1]),
            'history_dropped': dropped(dashboard),
            'history_mib': round(sum(f.stat().st_size for f in Path(folder).glob('history*')) / 2**20, 1),
            'examples': dict(list(wrong.items())[:5]),
        }, indent=1))
    finally:
        for child in reversed(children):
            child.kill()
        for child in children:
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()
