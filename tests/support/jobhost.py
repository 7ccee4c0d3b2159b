# SPDX-License-Identifier: MIT
"""A dutd that a test plays by hand: it starts the real dut-executor with its fixed fds, talks
control packets with it, lends it a console and switches a board that is a few lines of Python.

Every wait has an end, and nothing here sleeps: a wait is a select() on what must come.
"""

import array
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time

WAIT = 20.0  # seconds that anything may take before the test fails

EPOCH = 5
NONCE = 'nonce-1'


def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def wait_readable(fd, timeout=WAIT):
    return bool(select.select([fd], [], [], max(0, timeout))[0])


class Console:
    """The board's side of a console, and the fds that are lent."""

    def __init__(self, kind='unix'):
        if kind == 'pty':
            import pty
            import tty
            self.board, self.fd = pty.openpty()
            tty.setraw(self.fd)
        else:
            a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            self.board, self.fd = a.detach(), b.detach()
        os.set_blocking(self.fd, False)
        self.pipe_read, self.pipe_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fds(self):
        return [self.fd, self.pipe_read, self.pipe_write, self.wake]

    def say(self, data):
        if isinstance(data, str):
            data = data.encode()
        view = memoryview(data)
        while view:
            _, writable, _ = select.select([], [self.board], [], WAIT)
            if not writable:
                raise AssertionError('nobody reads the console')
            view = view[os.write(self.board, view[:4096]):]

    def hang_up(self):
        if self.board >= 0:
            os.close(self.board)
            self.board = -1

    def close(self):
        self.hang_up()
        for fd in self.fds():
            os.close(fd)


class JobHost:
    def __init__(self, job, *, assignment=None, tarball=None, env=None, job_text=None,
                 folder=None, program=None):
        """program: another one that takes the same fds, to compare it with dut-executor."""
        self.dir = tempfile.mkdtemp(prefix='jh-', dir=folder)
        self.job_dir = os.path.join(self.dir, 'job')
        os.mkdir(self.job_dir)
        self.assignment = {
            'v': 1, 'id': '17', 'name': 'bisect', 'owner': 'alice', 'attempt': 1,
            'nonce': NONCE, 'epoch': EPOCH,
            'dut': {'id': 'bbb-1', 'tags': ['bbb'], 'mac': None, 'tty': 'ttyS0', 'variables': {},
                    'console': 'main', 'deploy': 'qemu'},
            'environ': {}, 'variables': {}, 'deploy': 'qemu',
            'timeouts': {'overall': 60_000_000, 'infra_teardown': 10_000_000,
                         'daemon': 30_000_000},
            'limits': {'console_log': 1 << 30, 'bucket': 1 << 30, 'bucket_files': 1000,
                       'overall': 3600_000_000},
            'file_roots': [self.dir], 'socket_uid': os.getuid(),
        }
        for key, value in (assignment or {}).items():
            if isinstance(value, dict):
                self.assignment[key] = {**self.assignment[key], **value}
            else:
                self.assignment[key] = value
        self.write('job.json', json.dumps(self.assignment))
        # JSON is YAML enough, and Python writes it.
        self.write('job.yml', job_text if job_text is not None else json.dumps(job, indent=1))
        self.tarball = tarball
        self.program = program or [os.path.join(os.environ['DUT_LIBEXEC_DIR'], 'dut-executor')]
        self.env = {**os.environ, **(env or {})}
        self.pid = self.pidfd = self.ready = None
        self.control = None
        self.status = None
        self.consoles = []
        self.sent = []  # packets of the executor, in order
        self.power = []  # ('off', n) ('on', n, boot, deploy)

    def write(self, name, text):
        with open(os.path.join(self.job_dir, name), 'w') as file:
            file.write(text)

    def path(self, *names):
        return os.path.join(self.job_dir, *names)

    # ---- the process ----

    def bind(self, name, kind):
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(os.path.join(self.dir, name))
        return listener

    def start(self):
        """Starts it and returns what it wrote into the ready pipe."""
        self.spawn()
        return self.await_ready()

    def spawn(self):
        lock = os.open(os.path.join(self.dir, 'lock'), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        job_socket = self.bind('job.sock', socket.SOCK_STREAM)
        control_socket = self.bind('control.sock', socket.SOCK_SEQPACKET)
        folder = os.open(self.job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.ready, ready_write = os.pipe2(os.O_CLOEXEC)
        fixed = [job_socket.fileno(), lock, control_socket.fileno(), folder, ready_write]
        tar = None
        if self.tarball is not None:
            tar = os.open(self.tarball, os.O_RDONLY | os.O_CLOEXEC)
            fixed.append(tar)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fixed]
        actions = [(os.POSIX_SPAWN_DUP2, fd, 3 + i) for i, fd in enumerate(high)]
        if tar is None:
            actions.append((os.POSIX_SPAWN_OPEN, 9, '/dev/null', os.O_RDONLY, 0))
            actions.append((os.POSIX_SPAWN_CLOSE, 9))
        self.began = now()
        self.pid = os.posix_spawn(self.program[0], self.program, self.env, file_actions=actions,
                                  setsid=True,
                                  setsigmask=[], setsigdef=[signal.SIGPIPE])
        self.pidfd = os.pidfd_open(self.pid)
        for fd in high:
            os.close(fd)
        for fd in (lock, folder, ready_write) + ((tar,) if tar is not None else ()):
            os.close(fd)
        job_socket.close()
        control_socket.close()

    def await_ready(self):
        word = b''
        while True:
            if not wait_readable(self.ready):
                raise AssertionError('the executor says nothing')
            part = os.read(self.ready, 4096)
            if not part:
                break
            word += part
        os.close(self.ready)
        self.ready = None
        return word.decode()

    def wait(self, timeout=WAIT):
        """Its exit status (negative: the signal)."""
        if self.status is None:
            if not wait_readable(self.pidfd, timeout):
                raise AssertionError('the executor does not leave')
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def kill(self):
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        return self.wait()

    def close(self):
        if self.pid is not None and self.status is None:
            self.kill()
        for fd in (self.pidfd, self.ready):
            if fd is not None:
                os.close(fd)
        self.pidfd = self.ready = None
        if self.control:
            self.control.close()
            self.control = None
        while self.consoles:
            self.consoles.pop().close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- control packets ----

    def dial(self):
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.connect(os.path.join(self.dir, 'control.sock'))
        return control

    def connect(self, **changes):
        """A (new) connection with a hello; returns the executor's hello and its fds."""
        old, self.control = self.control, self.dial()
        self.send({'t': 'hello', 'v': 1, 'epoch': EPOCH, 'job': '17', 'attempt': 1,
                   'nonce': NONCE, **changes})
        hello, fds = self.receive()
        if old:
            old.close()
        return hello, fds

    def disconnect(self):
        self.control.close()
        self.control = None

    def send(self, packet, fds=()):
        data = [json.dumps(packet).encode()]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        self.control.sendmsg(data, ancillary)

    def receive(self, timeout=WAIT):
        """The next packet with its fds, or (None, []) when the executor closed the connection."""
        if not wait_readable(self.control.fileno(), timeout):
            raise AssertionError('the executor sends no packet')
        try:
            data, ancillary, _, _ = self.control.recvmsg(65536, socket.CMSG_SPACE(16 * 4),
                                                         socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None, []
        fds = array.array('i')
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
        if not data:
            return None, []
        packet = json.loads(data)
        self.sent.append(packet)
        return packet, list(fds)

    def expect(self, *kinds, timeout=WAIT):
        """Reads until a packet of one of these kinds comes; others are kept in self.sent."""
        end = now() + timeout
        while True:
            packet, _ = self.receive(end - now())
            if packet is None:
                raise AssertionError(f'the connection ended before {kinds}; came: {self.sent}')
            if packet['t'] in kinds:
                return packet

    def lend(self, console=None, gen=1, base=0, kind='unix', wait=True):
        if console is None:
            console = Console(kind)
        if console not in self.consoles:
            self.consoles.append(console)
        self.send({'t': 'lend', 'name': 'main', 'gen': gen, 'base': base, 'codec': None},
                  console.fds())
        if wait:
            lent = self.expect('lent')
            assert lent['gen'] == gen, lent
        return console

    def done(self, request, ok=True, verified=True, error=None):
        state = request['t'].upper() if ok else 'UNKNOWN'
        packet = {'t': 'done', 'n': request['n'], 'ok': ok, 'state': state, 'verified': verified}
        if error:
            packet['error'] = error
        self.send(packet)

    def begin(self, **how):
        """Starts, connects, lends a console and says go."""
        word = self.start()
        assert word == 'R', word
        self.connect()
        console = self.lend(**how)
        self.send({'t': 'go'})
        return console

    def power_on(self):
        """Serves the next off and on; returns the `on`."""
        off = self.expect('off', 'end')
        assert off['t'] == 'off', off
        self.power.append(('off', off['n']))
        self.done(off)
        on = self.expect('on')
        self.power.append(('on', on['n'], on['boot'], on['deploy']))
        self.done(on)
        return on

    def run(self, board=None, timeout=WAIT):
        """Plays dutd until the end: board(console, on) says what the board says after each on."""
        end = now() + timeout
        while True:
            packet, _ = self.receive(end - now())
            if packet is None:
                break
            if packet['t'] == 'off':
                self.power.append(('off', packet['n']))
                self.done(packet)
            elif packet['t'] == 'on':
                self.power.append(('on', packet['n'], packet['boot'], packet['deploy']))
                self.done(packet)
                if board:
                    board(self.consoles[-1], packet)
        return self.result()

    def result(self):
        """result.json, after the executor has left well."""
        status = self.wait()
        assert status == 0, f'exit status {status}'
        with open(self.path('result.json')) as file:
            return json.load(file)

    # ---- files ----

    def log(self):
        with open(self.path('console.log'), 'rb') as file:
            return file.read()

    def events(self, kind=None):
        with open(self.path('events.jsonl')) as file:
            events = [json.loads(line) for line in file]
        return [event for event in events if kind in (None, event['type'])]

    def index(self):
        with open(self.path('console.idx')) as file:
            return [line.split(' ', 3) for line in file.read().splitlines()]

    def marks(self, kind):
        marks = [(int(line[1]), json.loads(line[3])) for line in self.index() if line[0] == 'm']
        return [(offset, mark) for offset, mark in marks if mark['kind'] == kind]

    # ---- the executor's own socket ----

    def http(self, request, timeout=WAIT):
        """One request; returns status, headers and body of an answer with a length or an end."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(os.path.join(self.dir, 'job.sock'))
        connection.sendall(request)
        data = b''
        while True:
            part = connection.recv(65536)
            if not part:
                break
            data += part
        connection.close()
        head, _, body = data.partition(b'\r\n\r\n')
        lines = head.decode().split('\r\n')
        headers = dict(line.split(': ', 1) for line in lines[1:])
        return int(lines[0].split()[1]), headers, body

    def get(self, path):
        status, _, body = self.http(
            f'GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'.encode())
        return status, json.loads(body)

    def post(self, path, body):
        data = json.dumps(body).encode()
        status, _, _ = self.http(
            (f'POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n'
             f'Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n').encode()
            + data)
        return status


def record_lock_owner(path):
    """The pid that holds byte 1 of a lock file, by F_GETLK."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 1, 1, 0)
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, request)
        kind, _, _, _, pid = struct.unpack('hhqqi4x', answer)
        return None if kind == fcntl.F_UNLCK else pid
    finally:
        os.close(fd)


def is_locked(path):
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return True
    finally:
        os.close(fd)
