# SPDX-License-Identifier: MIT
"""
A lab for process tests: the real dutd with sim or QEMU boards, in a folder of its own.

    with Lab() as lab:                       # nothing runs yet: boards are described first
        lab.sim('b1', 'at 10ms send "hello\\r\\n"')
        lab.start()                          # returns when dutd is ready
        job = lab.run_job(JOB, target='b1')
        self.assertEqual(job['status'], 'PASS')

At the end dutd has to stop with exit status 0, leave no process behind and have nothing to say
to a sanitizer, or the test fails. Nothing is waited for by sleeping for luck: the API's own wait,
a console's next byte, a pidfd; await_true() is for what announces itself in no other way.
"""

import contextlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
from urllib.parse import urlencode

from tests.support import processes
from tests.support.daemon import Daemon

SOURCE = os.environ.get(
    'SOURCE', os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get('BUILD', os.path.join(SOURCE, 'build'))
LIBEXEC = os.environ.get('DUT_LIBEXEC_DIR', os.path.join(BUILD, 'libexec'))
DUTD = os.path.join(BUILD, 'dut', 'dutd')
DUT = os.path.join(BUILD, 'cli', 'dut')

# How long something may take that is expected to happen. Sanitizers and two busy cores are slow;
# a test that passes does not wait for this.
PATIENCE = 60.0

UBOOT = '/usr/lib/u-boot/qemu-x86/u-boot.rom'


def linux_artifacts():
    """The folder with vmlinuz and initramfs.gz of `./dev demo`; skips the test without them."""
    folder = os.environ.get('DUT_DEMO_DIR', os.path.join(SOURCE, '.dev-cache', 'demo'))
    if not os.path.exists(os.path.join(folder, 'initramfs.gz')):
        raise unittest.SkipTest('no kernel to boot; ./dev test fetches one')
    if shutil.which('qemu-system-x86_64') is None:
        raise unittest.SkipTest('qemu-system-x86_64 is not installed')
    return folder


def await_true(condition, what, seconds=PATIENCE):
    """Waits for what has no event of its own; returns the first true value."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f'{what}: not within {seconds:g} s')
        pause.wait(0.02)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__('localhost', timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        # A path of more than 107 bytes does not fit into an address; the folder's fd does.
        folder = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f'/proc/self/fd/{folder}/{os.path.basename(self.path)}')
        finally:
            os.close(folder)


class Answer:
    """Status, headers and body of one request; `json` is the decoded body."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f'{self.status} {self.body[:500]!r}'


class Stream:
    """A long answer (console, log, events) that is read as it comes."""

    def __init__(self, connection, response):
        self.connection = connection
        self.response = response
        self.status = response.status
        self.headers = response.headers
        self.data = b''

    def read_some(self):
        """The next bytes, b'' at the end."""
        chunk = self.response.read1(65536)
        self.data += chunk
        return chunk

    def read_until(self, wanted, seconds=PATIENCE):
        """Reads until the bytes are there; returns everything read so far."""
        deadline = time.monotonic() + seconds
        while wanted not in self.data:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f'{wanted!r} not seen; {self.data[-2000:]!r}')
            self.connection.sock.settimeout(left)
            try:
                if not self.read_some():
                    raise AssertionError(f'end before {wanted!r}; {self.data[-2000:]!r}')
            except TimeoutError:
                continue
        return self.data

    def read_all(self, seconds=PATIENCE):
        """Reads to the end of the stream."""
        deadline = time.monotonic() + seconds
        while True:
            self.connection.sock.settimeout(max(0.01, deadline - time.monotonic()))
            if not self.read_some():
                return self.data

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Ran:
    """How a program ended: rc, out and err as texts, raw as the bytes of stdout."""

    def __init__(self, rc, raw, err):
        self.rc = rc
        self.raw = raw
        self.out = raw.decode(errors='replace')
        self.err = err.decode(errors='replace')

    def __iter__(self):
        return iter((self.rc, self.out, self.err))

    def __repr__(self):
        return f'exit {self.rc}\nstdout: {self.out[-3000:]}\nstderr: {self.err[-3000:]}'


# What the leak checker says when the kernel does not let it read a thread's registers. It goes on
# without them and finds at worst too much; seen once in thousands of runs, at the exit of a process
# that nobody had signalled. Whatever else it says is a fault.
UNREAD_REGISTERS = re.compile(r'^==\d+==Unable to get registers from thread \d+\.\n', re.MULTILINE)


class Lab:
    def __init__(self, leftovers_allowed=False, state=None):
        """
        leftovers_allowed: the test stops or kills dutd while a job or a board lives on purpose.
        state: an own place for the state folder, which is left to its owner.
        """
        self.leftovers_allowed = leftovers_allowed
        self.folder = tempfile.mkdtemp(prefix='dut-test-')
        self.etc = os.path.join(self.folder, 'etc')
        self.sanitizer = os.path.join(self.folder, 'sanitizer')
        for path in (self.etc, os.path.join(self.etc, 'duts.d'), self.sanitizer):
            os.makedirs(path)
        self.configure({})
        log = f'log_path={self.sanitizer}/report'
        self.environment = {
            name: ':'.join(filter(None, (os.environ.get(name), log)))
            for name in ('ASAN_OPTIONS', 'UBSAN_OPTIONS')
        }
        self.daemon = Daemon(self.folder, DUTD, LIBEXEC, self.environment, state=state)
        self.state = self.daemon.state
        self.runtime = self.daemon.run
        self.socket = self.daemon.socket
        self.cleanup = contextlib.ExitStack()

    # ---- what the lab consists of ----

    def configure(self, values):
        """Writes dutd.yaml. Values are dicts and lists; JSON is YAML."""
        self.write('etc/dutd.yaml', json.dumps(values, indent=1) + '\n')

    def board(self, name, keys):
        """Writes duts.d/NAME.yaml."""
        self.write(f'etc/duts.d/{name}.yaml', json.dumps({name: keys}, indent=1) + '\n')

    def sim(self, name, script, options=None, **keys):
        """
        A sim board; script is the text of its script, options are further keys of `sim:`, see
        dutd.yaml(5).
        """
        path = self.write(f'boards/{name}/script', script.rstrip('\n') + '\n')
        self.board(name, {'sim': {'script': path, **(options or {})}, **keys})

    def uboot(self, name, options=None, **keys):
        """A QEMU board that runs Debian's U-Boot: a prompt in a fifth of a second."""
        if not os.path.exists(UBOOT) or shutil.which('qemu-system-i386') is None:
            raise unittest.SkipTest('u-boot-qemu or qemu-system-x86 is not installed')
        qemu = {'arch': 'i386', 'machine': 'pc', 'memory': '512M', 'firmware': UBOOT}
        self.board(name, {'qemu': {**qemu, **(options or {})}, **keys})

    def linux(self, name, options=None, **keys):
        """A QEMU board that boots what its job deploys; needs file_roots for linux_artifacts()."""
        linux_artifacts()
        self.board(name, {'qemu': {'arch': 'amd64', 'memory': '256M', **(options or {})}, **keys})

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data):
        """Writes a file of the lab and returns its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return path

    # ---- dutd ----

    def start(self, seconds=PATIENCE):
        self.daemon.start(seconds)
        return self

    def stop(self):
        """Stops dutd; AssertionError unless it was there and leaves with exit status 0."""
        process = self.daemon.process
        ended = process.poll() if process else None
        status = self.daemon.stop(PATIENCE)
        if ended is not None:
            raise AssertionError(f'dutd had ended by itself with {ended}')
        if status != 0:
            raise AssertionError('dutd ' + (f'ended with {status}' if status is not None else
                                            f'did not stop within {PATIENCE:g} s'))

    def kill_daemon(self):
        """kill -9 of dutd alone; executors and boards live on, until the lab ends."""
        self.leftovers_allowed = True
        self.daemon.kill()

    def dutd(self, *arguments, seconds=PATIENCE):
        """Runs a second dutd with the same folders to its end."""
        return self.execute([*self.daemon.command, *arguments], seconds=seconds)

    @property
    def log(self):
        return self.daemon.log

    # ---- programs ----

    def child_environment(self, extra=None):
        return {**self.daemon.environment, 'DUT_SOCKET': self.socket, **(extra or {})}

    def execute(self, command, stdin=b'', seconds=PATIENCE, env=None, cwd=None):
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds,
                              env=self.child_environment(env), cwd=cwd or self.folder)
        return Ran(done.returncode, done.stdout, done.stderr)

    def dut(self, *arguments, **options):
        """Runs the command line to its end."""
        return self.execute([DUT, *map(str, arguments)], **options)

    def spawn_dut(self, *arguments, env=None, **options):
        """Starts the command line; Popen with pipes. It is ended with the lab."""
        options = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE,
                   'stderr': subprocess.PIPE, 'cwd': self.folder, **options}
        process = subprocess.Popen([DUT, *map(str, arguments)],
                                   env=self.child_environment(env), **options)
        self.cleanup.callback(self.end_process, process)
        return process

    @staticmethod
    def end_process(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    # ---- the API ----

    def api(self, method, path, body=None, headers=None, seconds=PATIENCE):
        """One request; a dict or list as body is sent as JSON. The path stands below /api/v1."""
        connection = UnixConnection(self.socket, seconds)
        try:
            headers = dict(headers or {})
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                headers.setdefault('Content-Type', 'application/json')
            connection.request(method, '/api/v1' + path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, seconds=PATIENCE):
        """The JSON of a GET; AssertionError unless it succeeds."""
        answer = self.api('GET', path, seconds=seconds)
        if answer.status != 200:
            raise AssertionError(f'GET {path}: {answer}')
        return answer.json

    def stream(self, path, socket_path=None, seconds=PATIENCE, **query):
        """Opens a long answer."""
        connection = UnixConnection(socket_path or self.socket, seconds)
        try:
            connection.request('GET', '/api/v1' + path + ('?' + urlencode(query) if query else ''))
            stream = Stream(connection, connection.getresponse())
        except BaseException:
            connection.close()
            raise
        self.cleanup.callback(stream.close)
        return stream

    def console(self, board, **query):
        """The console of a board as a stream; offset=0 starts at the oldest byte kept."""
        return self.stream(f'/dut/{board}/console', **query)

    def board_state(self, board):
        return self.get(f'/dut/{board}')

    def await_board(self, board, *states, seconds=PATIENCE):
        """Waits for a DUT to be in one of the states and returns its object."""
        def look():
            dut = self.board_state(board)
            return dut if dut['state'] in states else None
        return await_true(look, f'{board} to be {" or ".join(states)}', seconds)

    # ---- jobs ----

    def submit(self, text, target=None, bucket=None, **metadata):
        """
        Submits a job file and returns the Answer. target: a DUT's name; bucket: a dict of path →
        bytes, or the bytes of a tar file.
        """
        if target is not None:
            metadata['target'] = {'id': target}
        parts = [('metadata', json.dumps({'version': 1, **metadata}).encode()),
                 ('job', text.encode() if isinstance(text, str) else text)]
        if bucket is not None:
            data = bucket if isinstance(bucket, bytes) else tar_of(bucket)
            parts.append(('job_bucket_initial_state_tarball_file', data))
        kind, body = form_of(parts)
        return self.api('POST', '/jobs', body, {'Content-Type': kind})

    def submit_ok(self, text, target=None, **options):
        """Submits a job that has to be accepted; returns its id."""
        answer = self.submit(text, target, **options)
        if answer.status != 201:
            raise AssertionError(f'submission refused: {answer}')
        return answer.json['id']

    def await_job(self, job, seconds=PATIENCE):
        """Waits for the end of a job and returns its object."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f'job {job} did not end within {seconds:g} s')
            found = self.get(f'/jobs/{job}?wait={int(left) + 1}', seconds=left + PATIENCE)
            if found['state'] == 'ENDED':
                return found

    def run_job(self, text, target=None, seconds=PATIENCE, **options):
        """Submits a job, waits for its end and returns its object."""
        return self.await_job(self.submit_ok(text, target, **options), seconds)

    def await_phase(self, job, *phases, seconds=PATIENCE):
        """Reads a job's events until it is in one of the phases; returns that event."""
        with self.stream(f'/jobs/{job}/events', follow=1, seconds=seconds) as stream:
            seen = 0
            while True:
                data = stream.read_until(b'\n', seconds)
                lines = data.split(b'\n')
                for line in lines[seen:-1]:
                    event = json.loads(line)
                    if event['type'] == 'phase' and event.get('phase') in phases:
                        return event
                seen = len(lines) - 1
                if not stream.read_some():
                    raise AssertionError(f'job {job} ended before {phases}: {data[-2000:]!r}')

    def events(self, job):
        """The events of a job that has ended, as dicts."""
        answer = self.api('GET', f'/jobs/{job}/events')
        return [json.loads(line) for line in answer.body.splitlines()]

    def results(self, job):
        """The files of a job's results: path → bytes."""
        answer = self.api('GET', f'/jobs/{job}/results')
        if answer.status != 200:
            raise AssertionError(f'results of job {job}: {answer}')
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            return {member.name.removeprefix('./'): tar.extractfile(member).read()
                    for member in tar.getmembers() if member.isfile()}

    def result(self, job):
        """result.json of a job."""
        return json.loads(self.results(job)['result.json'])

    def job_file(self, job, *names):
        """The path of a file in the job's folder, which is there whether or not dutd lives."""
        return os.path.join(self.state, 'jobs', str(job), *names)

    # ---- executors and boards ----

    def executor_pid(self, board):
        """The executor of a board's job, as its socket names it; None when nobody listens."""
        try:
            connection = UnixConnection(self.executor_socket(board), PATIENCE)
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            peer = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return struct.unpack('iII', peer)[0]
        finally:
            connection.close()

    def executor_socket(self, board):
        return os.path.join(self.runtime, 'duts', board, 'job.sock')

    def kill_executor(self, board, number=signal.SIGKILL):
        """Kills the executor of a board's job and returns its pid when it is gone."""
        pid = await_true(lambda: self.executor_pid(board), f'an executor of {board}')
        processes.kill(pid, number)
        if not processes.await_end(pid, PATIENCE):
            raise AssertionError(f'executor {pid} survived signal {number}')
        return pid

    def record(self, board):
        """What a sim board has noted of itself: a list of dicts."""
        try:
            with open(self.path('boards', board, 'record.jsonl'), encoding='utf-8') as file:
                text = file.read()
        except FileNotFoundError:
            return []
        # The board may be in the middle of its last line.
        return [json.loads(line) for line in text.split('\n')[:-1]]

    def processes(self):
        """pid → command line of every process of this lab."""
        return {pid: processes.command_line(pid) for pid in processes.of_folder(self.folder)}

    # ---- the end ----

    def close(self):
        """Ends everything; the faults that it found, as texts."""
        faults = []
        self.cleanup.close()
        try:
            self.stop()
        except AssertionError as error:
            faults.append(str(error))
        grace = 0.0 if self.leftovers_allowed else 10.0
        left = processes.end_all_of(self.folder, grace)
        if left and not self.leftovers_allowed:
            faults.append('still running after dutd had stopped: ' + '; '.join(left))
        for name in sorted(os.listdir(self.sanitizer)):
            with open(os.path.join(self.sanitizer, name), errors='replace') as file:
                text = UNREAD_REGISTERS.sub('', file.read())
            if text.strip():
                faults.append(f'sanitizer: {text}')
        return faults

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _traceback):
        faults = self.close()
        if kind is not None or faults:
            print(f'--- dutd.log\n{self.log[-20000:]}---', file=sys.stderr, flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        if faults:
            if kind is None:
                raise AssertionError('\n'.join(faults))
            print('\n'.join(faults), file=sys.stderr, flush=True)


def tar_of(files):
    """The bytes of a tar file with these regular files: path → bytes or text."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w') as tar:
        for name, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def form_of(parts):
    """multipart/form-data of (name, bytes): its content type and body."""
    boundary = 'dut-' + os.urandom(12).hex()
    body = b''
    for name, data in parts:
        file = '' if name == 'metadata' else f'; filename="{name}"'
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'
                 'Content-Type: application/octet-stream\r\n\r\n').encode()
        body += data + b'\r\n'
    return f'multipart/form-data; boundary={boundary}', body + f'--{boundary}--\r\n'.encode()
