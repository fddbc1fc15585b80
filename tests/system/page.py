"""The fleet's page in Chromium, as an operator uses it; see page.sh."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = '<img src=x onerror=alert(1)>'
PATIENCE = 180


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def toml(sections):
    """Settings as TOML: JSON's values are TOML's as well."""
    lines = []
    for name, keys in sections.items():
        if name:
            lines.append(f'[{name}]')
        lines += [f'{key} = {json.dumps(value)}' for key, value in keys.items()]
    return '\n'.join(lines) + '\n'


class Fleet:
    """A broker, a device with the tiny model, a dashboard."""

    def __init__(self, program):
        self.program = os.path.abspath(program)
        self.dir = Path(tempfile.mkdtemp(prefix='latrod-page-'))
        self.port = free_port()
        self.children = []

    def path(self, name):
        return str(self.dir / name)

    def start(self, name, *command, **options):
        log = open(self.dir / f'{name}.log', 'w')
        child = subprocess.Popen(command, stderr=log, **options)
        self.children.append(child)
        return child

    def latrod(self, *arguments):
        done = subprocess.run([self.program, *arguments], check=True, capture_output=True, text=True)
        return done.stdout

    def broker(self):
        config = f'listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n'
        Path(self.path('mosquitto.conf')).write_text(config)
        mosquitto = shutil.which('mosquitto', path=os.environ['PATH'] + ':/usr/sbin')
        self.start('mosquitto', mosquitto, '-c', self.path('mosquitto.conf'))
        end = time.time() + 30
        while time.time() < end:
            with socket.socket() as s:
                if s.connect_ex(('127.0.0.1', self.port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit('mosquitto does not listen')

    def device(self):
        """A device that is always idle and learns in seconds."""
        for folder in ('device', 'device/spool'):
            os.mkdir(self.path(folder))
        fixtures = ROOT / 'tests/fixtures'
        shutil.copy(fixtures / 'tiny.gguf', self.path('device/model.gguf'))
        shutil.copy(fixtures / 'tiny-train.jsonl', self.path('device/spool/sums.jsonl'))
        never = {name: 0.0 for name in (
            'max_cpu_percent', 'max_cpu_training_percent', 'max_cpu_pressure_percent', 'max_io_pressure_percent',
            'max_memory_pressure_percent', 'max_gpu_percent', 'max_celsius', 'min_battery_percent',
            'min_free_disk_percent')}
        settings = {
            '': {'model': self.path('device/model.gguf'), 'state_dir': self.path('device/state')},
            'device': {'fleet': 'press', 'name': 'jetson-3', 'tags': ['site=berlin', f'ring=canary']},
            'tasks': {'folder': self.path('device/spool'), 'settle_s': 0, 'held_out_share': 0.25},
            'cycle': {'min_new_tasks': 100},
            'learn': {'steps': 12, 'num_generations': 8, 'prompts_per_step': 4, 'max_new_tokens': 48,
                      'prompt_suffix': " Let's think step by step.", 'learning_rate': 1e-3},
            'idle': {'idle_after_s': 0, 'busy_after_s': 0, 'users': 'ignore', 'systemd_inhibitors': False,
                     'require_mains': False, 'min_free_memory_mib': 1, 'min_free_disk_mib': 1, **never},
            'promotion': {'max_kl_nats_per_token': 0.0},
            'status': {'socket': self.path('device/status.sock')},
            'mqtt': {'broker': f'mqtt://127.0.0.1:{self.port}', 'operator_keys': [self.path('operator.pem.pub')],
                     'state_every_s': 5},
        }
        Path(self.path('device/latrod.toml')).write_text(toml(settings))
        return self.start('device', self.program, 'run', '--config', self.path('device/latrod.toml'))

    def hostile_neighbor(self):
        """A device whose every word is an attack on the page."""
        head = {'v': 2, 'id': 'bad-1', 'connection': 1, 'seq': 1, 'time_ms': int(time.time() * 1000)}
        state = {**head, 'state': HOSTILE, 'reason': HOSTILE, 'overrides': {HOSTILE: HOSTILE},
                 'alarms': [{'alarm': HOSTILE, 'severity': 'error', 'sentence': HOSTILE, 'for_s': 1}]}
        birth = {**head, 'boot_id': 'bad', 'tags': {HOSTILE: HOSTILE}, 'device': {'host': HOSTILE}}
        for topic, message in (('state', state), ('birth', birth)):
            subprocess.run(['mosquitto_pub', '-h', '127.0.0.1', '-p', str(self.port), '-r', '-q', '1', '-t',
                            f'latro/v2/press/"{HOSTILE}/{topic}', '-m', json.dumps(message)], check=True)

    def dashboard(self):
        settings = {
            'page': {'listen': '127.0.0.1:0', 'operator_key': self.path('operator.pem')},
            'history': {'state_dir': str(self.dir)},
            'mqtt': {'broker': f'mqtt://127.0.0.1:{self.port}'},
        }
        Path(self.path('dashboard.toml')).write_text(toml(settings))
        child = self.start('dashboard', self.program, 'dashboard', '--config', self.path('dashboard.toml'),
                           stdout=subprocess.PIPE, text=True)
        return child.stdout.readline().strip().removeprefix('open ')

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()

    def logs(self):
        for log in sorted(self.dir.glob('*.log')):
            tail = log.read_text().splitlines()[-20:]
            print(f'-- {log.name}', *tail, sep='\n')


class Demo:
    """`latrod demo`: all of that in one process."""

    def __init__(self, program):
        self.dir = Path(tempfile.mkdtemp(prefix='latrod-page-'))
        command = [os.path.abspath(program), 'demo', '--devices', '12']
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                      env={**os.environ, 'TMPDIR': str(self.dir)})
        self.way_in = self.child.stdout.readline().strip().removeprefix('open ')

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        _, log = self.child.communicate(timeout=60)
        left = list(self.dir.iterdir())
        shutil.rmtree(self.dir)
        assert self.child.returncode == 0 and not left, (self.child.returncode, left, log)


class Page:
    """A browser, and what it should show."""

    def __init__(self, axe, shots):
        self.axe, self.shots = Path(axe).read_text(), shots
        options = webdriver.ChromeOptions()
        for argument in ('--headless=new', '--no-sandbox', '--disable-gpu', '--window-size=1280,900'):
            options.add_argument(argument)
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
        self.browser = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
        self.passed = 0

    def at(self, way_in):
        """Looks at the page that this way leads into."""
        self.way_in, self.base = way_in, way_in.split('/login')[0]
        return self

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector):
        """Clicks an element of a part that may be replaced at any time."""
        for _ in range(50):
            try:
                return self.find(selector).click()
            except (NoSuchElementException, StaleElementReferenceException):
                time.sleep(0.1)
        raise AssertionError(f'{selector} cannot be clicked')

    def text(self, selector='body'):
        return self.run('return document.querySelector(arguments[0])?.innerText ?? ""', selector)

    def open(self, path):
        self.browser.get(self.base + path)

    def check(self, what, holds):
        """Waits until something holds."""
        end = time.time() + PATIENCE
        while time.time() < end:
            try:
                if holds():
                    self.passed += 1
                    print(f'ok {what}')
                    return
            except Exception:  # the page is being replaced
                pass
            time.sleep(0.1)
        raise AssertionError(f'{what}\non {self.browser.current_url}:\n{self.text()}')

    def is_sound(self, name):
        """No message on the console, nothing that keeps anybody from using the page; pictures."""
        messages = [m for m in self.browser.get_log('browser') if m['level'] in ('SEVERE', 'WARNING')]
        assert not messages, messages
        for scheme in ('light', 'dark'):
            self.emulate(scheme)
            self.run(self.axe)
            found = self.browser.execute_async_script(
                'const done = arguments[0]; axe.run().then(r => done(r.violations.map('
                'v => [v.id, v.help, v.nodes.map(n => n.html)])))')
            assert not found, f'{name}, {scheme}: {json.dumps(found, indent=1)}'
            self.picture(f'{name}-{scheme}', 1280)
        self.picture(f'{name}-phone', 390)
        wide = self.at_width(390, lambda: self.run('return document.documentElement.scrollWidth'))
        assert wide <= 390, f'{name} scrolls sideways on a phone: {wide}'
        self.emulate('light')
        self.passed += 1
        print(f'ok {name} is sound')

    def emulate(self, scheme):
        media = {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]}
        self.browser.execute_cdp_cmd('Emulation.setEmulatedMedia', media)

    def at_width(self, width, act):
        metrics = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width < 500}
        self.browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
        time.sleep(0.4)
        result = act()
        self.browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        return result

    def picture(self, name, width):
        if self.shots is None:
            return

        def shoot():
            height = min(self.run('return document.documentElement.scrollHeight'), 4000)
            metrics = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 500}
            self.browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
            time.sleep(0.4)
            self.browser.save_screenshot(str(self.shots / f'{name}.png'))

        self.at_width(width, shoot)

    def first_screen(self, name):
        """A picture of what one sees without scrolling."""
        if self.shots is not None:
            self.at_width(1280, lambda: self.browser.save_screenshot(str(self.shots / f'{name}.png')))

    def keys(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()

    def tab_to(self, selector):
        """Goes to an element with the keyboard alone."""
        for _ in range(200):
            if self.run('return document.activeElement.matches(arguments[0])', selector):
                return
            self.keys(Keys.TAB)
        raise AssertionError(f'the keyboard does not reach {selector}')


def by_keyboard(page, commands):
    """Gives commands on a device's page with the keyboard alone, and waits for the device's answers."""
    for command, outcome in commands:
        page.run('document.activeElement.blur()')
        page.tab_to(f'form#act button[value={command}]')
        page.keys(Keys.ENTER)
        page.check(f'{command} is asked about', lambda: page.find('dialog[open]').is_displayed())
        page.tab_to('dialog[open] button[value=ok]')
        page.keys(Keys.ENTER)
        page.check(f'{command} is answered', lambda: 'done' in page.text('#orders tbody tr') and
                   command in page.text('#orders tbody tr'))
        if outcome:
            page.check(f'the device is {outcome}', lambda: outcome in page.text('#now'))
    page.check('the base model serves again', lambda: 'rolled back' in page.text('#versions'))


def in_stages(page, devices, command, outcome):
    """Gives a command in stages to the devices that an address lists."""
    page.open(devices)
    page.click('#devices [data-all]')
    page.find('form#act input[name=stages]').send_keys('50, 100')
    page.click(f'form#act button[value={command}]')
    page.click('dialog[open] button[value=ok]')
    page.check(f'a roll-out is {outcome}', lambda: outcome in page.text('#rollouts td[data-label=Progress]'))


def demo_tour(page):
    page.browser.get(page.way_in)
    page.check('the demo has neighbors', lambda: 'neighbor-00012' in page.text('#devices'))
    page.open('/devices/demo/this-machine')
    page.check('the demo learns', lambda: 'promoted adapter' in page.text('#events'))
    page.check('its curves are drawn', lambda: page.run(
        'return document.querySelectorAll("#curves figure svg path").length') > 3)
    page.first_screen('readme')
    page.is_sound('demo-device')
    page.open('/')
    page.check('its gain is listed', lambda: 'this-machine' in page.text('#devices'))
    page.is_sound('demo')
    page.open('/devices/demo/this-machine')
    by_keyboard(page, (('pause', 'paused'), ('resume', None), ('rollback', None)))
    # Those without an adapter cannot go back: they fail, and the second stage never comes.
    in_stages(page, '/?q=neighbor&adapter=base', 'rollback', 'stopped')


def tour(page, fleet):
    page.open('/')
    page.check('strangers are sent to the login', lambda: page.browser.current_url.endswith('/login'))
    page.is_sound('login')
    page.browser.get(page.way_in)
    page.check('an empty fleet says so', lambda: 'No device has been heard of' in page.text())
    page.is_sound('empty')

    fleet.hostile_neighbor()
    fleet.device()
    page.check('a device appears by itself', lambda: 'jetson-3' in page.text('#devices'))
    page.check('it trains', lambda: 'training' in page.text('#devices'))
    page.check('updates are live', lambda: page.text('#connection') == 'live')
    page.is_sound('devices')
    page.open('/?tag=site%3Dberlin')
    page.check('tags filter', lambda: HOSTILE not in page.text('#devices') and 'jetson-3' in page.text('#devices'))

    page.open('/devices/press/jetson-3')
    page.check('curves are drawn', lambda: page.run('return document.querySelectorAll("#curves figure svg path").length') > 3)
    page.check('it is promoted before our eyes', lambda: 'promoted adapter' in page.text('#events'))
    page.check('the version has its evidence', lambda: 'held-out questions' in page.text('#versions'))
    svg = page.find('#curves figure svg')
    page.run('arguments[0].scrollIntoView({block: "center"})', svg)
    ActionChains(page.browser).move_to_element(svg).perform()
    page.is_sound('device')

    by_keyboard(page, (('pause', 'paused'), ('resume', None), ('rollback', None)))

    page.open('/changes')
    page.check('what was lost is listed', lambda: 'jetson-3' in page.text('#lost'))
    page.is_sound('changes')
    page.open('/audit')
    page.check('who did what is listed', lambda: page.text('#deeds').count('press/jetson-3') >= 3)
    page.is_sound('audit')
    page.open('/alarms')
    page.check('hostile words are words', lambda: HOSTILE in page.text('#alarms'))
    page.check('and no image', lambda: page.run('return document.images.length') == 0)
    page.is_sound('alarms')
    page.click('#alarms form button')
    page.check('alarms are acknowledged', lambda: 'by operator' in page.text('#seen'))
    page.open('/devices/nobody/here')
    assert 'no such device' in page.text()
    page.browser.get_log('browser')  # the 404 is meant

    page.open('/')
    page.click('#devices [data-all]')
    page.click('form#act button[value=compare]')
    page.check('devices are compared', lambda: page.run('return document.querySelectorAll("#curves figure svg").length') > 3)
    page.is_sound('compare')

    in_stages(page, '/?q=jetson', 'pause', 'done')
    page.is_sound('rollouts')

    # Many at once: all that the list shows, confirmed by name.
    page.open('/?q=jetson')
    page.click('input[name=scope][value=filter]')
    page.click('form#act button[value=check]')
    page.check('a filter is confirmed by name', lambda: 'press/jetson-3' in page.text('main.confirm'))
    assert HOSTILE not in page.text('main.confirm')
    page.is_sound('confirm')


def main():
    program, axe, *rest = sys.argv[1:]
    shots = Path(rest[0]) if rest else None
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    page = Page(axe, shots)
    try:
        with_parts(page, program)
        demo = Demo(program)
        try:
            demo_tour(page.at(demo.way_in))
        finally:
            demo.stop()
    finally:
        page.browser.quit()
    print(f'test result: ok. {page.passed} passed; 0 failed')


def with_parts(page, program):
    fleet = Fleet(program)
    try:
        fleet.broker()
        fleet.latrod('command', '--new-key', fleet.path('operator.pem'))
        tour(page.at(fleet.dashboard()), fleet)
    except BaseException:
        fleet.logs()
        raise
    finally:
        fleet.stop()
        shutil.rmtree(fleet.dir, ignore_errors=True)


if __name__ == '__main__':
    main()
