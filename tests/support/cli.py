# SPDX-License-Identifier: MIT
"""What the tests of the command line share: a folder, a fake daemon, and ways to run dut."""

import fcntl
import io
import json
import os
import pty
import select
import shutil
import subprocess
import tarfile
import tempfile
import termios
import time
import unittest

from tests.support.fakedutd import Answer, FakeDutd, Pieces

DUT = os.path.join(os.environ['BUILD'], 'cli', 'dut')
PATIENCE = 60

JOB = 'version: 1\n'

BOARD = {
    'id': 'bbb-1', 'state': 'IDLE', 'ready_for_service': True, 'is_retired': False,
    'description': 'BeagleBone, shelf 2', 'tags': ['bbb', 'arch:armhf'],
    'power': {'state': 'OFF', 'verified': True, 'since': '2026-01-01T00:00:00Z'},
    'consoles': [{'name': 'main', 'state': 'open', 'offset': 12}], 'job': None, 'holder': None,
    'message': None,
}


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Ran:
    def __init__(self, rc, raw, err):
        self.rc = rc
        self.raw = raw
        self.out = raw.decode(errors='replace')
        self.err = err.decode(errors='replace')

    def __repr__(self):
        return f'exit {self.rc}\nstdout: {self.out[-3000:]}\nstderr: {self.err[-3000:]}'


class Terminal:
    """dut at a terminal of its own; text is everything that was on the screen."""

    def __init__(self, command, environment, folder):
        self.master, slave = pty.openpty()
        self.text = ''
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=folder,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.text += data.decode(errors='replace')
        return bool(data)

    def expect(self, wanted, seconds=PATIENCE):
        deadline = time.monotonic() + seconds
        while wanted not in self.text:
            if time.monotonic() > deadline or not self.read(1):
                raise AssertionError(f'{wanted!r} is not in {self.text!r}')

    def type(self, keys):
        os.write(self.master, keys.encode())

    def wait(self, seconds=PATIENCE):
        deadline = time.monotonic() + seconds
        while self.read(1):
            if time.monotonic() > deadline:
                raise AssertionError(f'still there; {self.text!r}')
        return self.process.wait(seconds)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


class CliCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='dut-cli-')
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.socket = os.path.join(self.folder, 'dutd.sock')
        self.fake = FakeDutd(self.socket)
        self.addCleanup(self.fake.die)
        # Without a validator unless a test puts one there.
        self.environment = {'PATH': os.environ['PATH'], 'HOME': self.folder,
                            'DUT_SOCKET': self.socket, 'DUT_LIBEXEC_DIR': self.folder,
                            'TMPDIR': self.folder}
        for name in ('ASAN_OPTIONS', 'UBSAN_OPTIONS', 'LD_LIBRARY_PATH'):
            if name in os.environ:
                self.environment[name] = os.environ[name]
        self.write('job.yml', JOB)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data, mode=0o644):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), 'wb') as out:
            out.write(data.encode() if isinstance(data, str) else data)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def read(self, *names):
        with open(self.path(*names), 'rb') as data:
            return data.read()

    def dut(self, *arguments, stdin=b'', env=None, **options):
        done = subprocess.run([DUT, *arguments], input=stdin, capture_output=True,
                              timeout=PATIENCE, env=self.environment | (env or {}),
                              cwd=self.folder, **options)
        ran = Ran(done.returncode, done.stdout, done.stderr)
        self.assertNotIn(ran.rc, (99, -6, -11), ran)
        return ran

    def start(self, *arguments, **options):
        options = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE,
                   'stderr': subprocess.PIPE, **options}
        process = subprocess.Popen([DUT, *arguments], env=self.environment, cwd=self.folder,
                                   **options)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()

    def finish(self, process):
        out, err = process.communicate(timeout=PATIENCE)
        return Ran(process.returncode, out or b'', err or b'')

    def terminal(self, *arguments):
        terminal = Terminal([DUT, *arguments], self.environment, self.folder)
        self.addCleanup(terminal.close)
        return terminal

    def assert_said(self, ran, rc, text, out=''):
        """Exit code, exactly this line on stderr, and stdout."""
        self.assertEqual((ran.rc, ran.err, ran.out), (rc, f'dut: {text}\n', out), ran)

    def assert_usage(self, *arguments, text, **options):
        """A wrong input: exit 64, one line with this text, and nothing was asked."""
        ran = self.dut(*arguments, **options)
        self.assertEqual(ran.rc, 64, ran)
        self.assertEqual(ran.out, '')
        self.assertEqual(ran.err.count('\n'), 1, ran)
        self.assertIn(text, ran.err)
        self.assertEqual(self.fake.requests, [])


class FakeJob:
    """A job that the fake daemon runs: 201, a log, events, and an end, when the test says so."""

    def __init__(self, fake, number='17', dut='bbb-1', **job):
        self.fake = fake
        self.number = number
        self.log = Pieces()
        self.events = Pieces()
        self.seq = 0
        self.state = {'id': number, 'name': None, 'dut': dut, 'owner': 'root',
                      'state': 'RUNNING', 'phase': 'running', 'status': None, 'reason': None,
                      'verdict': None, 'message': None, **job}
        self.over = Pieces()
        self.results = tar_of({'result.json': b'{}', 'console.log': b'hello\r\n'})
        fake.on('POST', '/jobs', Answer({'version': 1, 'id': number, 'dut': dut,
                                         'state': 'STARTING', 'place': 0, 'error_msg': None}, 201))
        fake.on('GET', f'/jobs/{number}/log', lambda _: Answer(self.log))
        fake.on('GET', f'/jobs/{number}/events', lambda _: Answer(self.events))
        fake.on('GET', f'/jobs/{number}', self.get)
        fake.on('GET', f'/jobs/{number}/results', lambda _: self.results)
        fake.on('POST', f'/jobs/{number}/cancel', self.cancel)
        fake.on('DELETE', f'/jobs/{number}/binding', lambda _: self.state)

    def get(self, request):
        if 'wait' in request.query:
            for _ in self.over:
                pass
        return self.state

    def event(self, text, elapsed=1.5, kind='phase', **members):
        self.events.put(json.dumps({'seq': self.seq, 'time': '2026-01-01T00:00:00Z',
                                    'elapsed': elapsed, 'type': kind, 'text': text,
                                    **members}).encode() + b'\n')
        self.seq += 1

    def end(self, status='PASS', reason='ok', message=None, **members):
        self.state = {**self.state, 'state': 'ENDED', 'status': status, 'reason': reason,
                      'message': message, **members}
        self.log.end()
        self.events.end()
        self.over.end()

    def cancel(self, request):
        self.end('CANCELLED', 'cancelled', request.json().get('why'))
        return self.state
