# SPDX-License-Identifier: MIT
"""Programs that read a console and write what it says into a file, in the same shape: ours, the
limit, and rivals."""

import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import threading
import tty

from tests.bench.measure import LeftOut, cpu_s, tree
from tests.support import processes
from tests.support.harness import await_true
from tests.support.jobhost import Console, JobHost

# As a job for a kernel test has them; all twenty are tried on every line until they match, and
# none does here. The start of a watchdog that is not running is what is tried of it.
WATCHDOGS = [
    r'^suite \d+ begin', r'\[drm\] GPU reset begin', r'igt_runner.*starting', r'LAVA_SIGNAL_START',
    r'^TAP version \d+', r'systemd\[1\]: Reached target .*Graphical', r'login: ?$',
    r'deqp-runner: running \d+ tests', r'Loading, please wait', r'^=> $', r'U-Boot SPL \d{4}\.\d\d',
    r'ttm_bo_.*timeout', r'amdgpu .* ring \w+ timeout', r'^piglit: suite=(\w+)',
]
JOB = {
    'version': 1,
    'timeouts': {'watchdogs': {f'w{i}': {'hours': 1} for i in range(len(WATCHDOGS))}},
    'console_patterns': {
        'session_end': {'regex': r'^\[[\d \.]{12}\] reboot: Power Down$'},
        'session_reboot': {'regex': r'rebooting in \d+ seconds'},
        'job_success': {'regex': r'^Test suite: (all \d+ tests )?PASS(ED)?\r$'},
        'job_warn': {'regex': r'(\*ERROR\*|WARNING: CPU: \d+ PID:) '},
        'job_fail': {'regex': r'^Test suite: FAIL'},
        'machine_unfit_for_service': {'regex': r'no bootable (device|medium)'},
        'watchdogs': {
            f'w{i}': {'start': {'regex': start}, 'reset': {'regex': f'w{i} reset'},
                      'stop': {'regex': f'w{i} stop'}}
            for i, start in enumerate(WATCHDOGS)
        },
    },
    'deployment': {},
}
TRIED = WATCHDOGS + [pattern['regex'] for pattern in JOB['console_patterns'].values()
                     if 'regex' in pattern]


class Logger:
    """
    Reads one console, a pty or one end of a socket pair, into self.path. The bench writes into
    self.board. `with` starts and ends it.
    """
    name = ''
    kinds = ('pty', 'unix')

    def __init__(self, bench, kind):
        self.bench = bench
        self.kind = kind
        self.cleanup = contextlib.ExitStack()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.cleanup.close()
            raise
        return self

    def __exit__(self, *_):
        self.cleanup.close()

    def start(self):
        raise NotImplementedError

    def pids(self):
        return tree(self.process.pid)

    def cpu_s(self):
        return cpu_s(*self.pids())

    def settle(self):
        """Returns when what it does with the last bytes of its log is over."""

    def has(self, mark):
        with open(self.path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            return mark in os.pread(file.fileno(), 4096, max(0, size - 4096))

    def await_mark(self, mark):
        await_true(lambda: self.has(mark), f'{self.name} to log the end')
        self.settle()

    # ---- for those that are not ours ----

    def open_console(self):
        folder = os.path.join(self.bench.folder, f'log-{self.name.split()[-1]}')
        os.makedirs(folder, exist_ok=True)
        self.cleanup.callback(shutil.rmtree, folder)
        self.path = os.path.join(folder, 'console.log')
        self.folder = folder
        if self.kind == 'pty':
            self.board, self.fd = pty.openpty()
            tty.setraw(self.fd)
            self.tty = os.ttyname(self.fd)
        else:
            a, b = socket.socketpair()
            self.board, self.fd = a.detach(), b.detach()
        self.cleanup.callback(os.close, self.board)
        self.cleanup.callback(os.close, self.fd)

    def run(self, *command, **options):
        if not shutil.which(command[0], path=os.environ['PATH'] + ':/usr/sbin'):
            raise LeftOut(f'{os.path.basename(command[0])} is not installed')
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True, **options)
        self.cleanup.callback(self.end_process)

    def end_process(self):
        for pid in tree(self.process.pid):
            processes.kill(pid, signal.SIGKILL)
        self.process.wait()

    def await_start(self):
        """Something that is said comes into the log. What a rival drops before is no matter."""
        def look():
            os.write(self.board, b'begin\r\n')
            return os.path.exists(self.path) and self.has(b'begin')
        await_true(look, f'{self.name} to log')


class Executor(Logger):
    name = 'dut-executor'

    def start(self):
        host = self.cleanup.enter_context(JobHost(JOB, folder=self.bench.folder))
        self.host = host
        console = Console(self.kind)
        host.begin(console=console)
        host.power_on()
        self.board, self.path = console.board, host.path('console.log')
        os.set_blocking(console.board, True)

    def pids(self):
        return [self.host.pid]

    def settle(self):
        # It answers when it is done with what it has read.
        status, state = self.host.get('/api/v1/state')
        assert status == 200 and state['phase'] in ('boot', 'running'), state


class Limit(Logger):
    name = 'limit: bare epoll loop'

    def arguments(self):
        return [self.path, self.path + '.idx']

    def start(self):
        self.open_console()
        self.process = subprocess.Popen([self.bench.program('limit-console'), *self.arguments()],
                                        stdin=self.fd, start_new_session=True)
        self.cleanup.callback(self.end_process)
        self.await_start()


class SearchingLimit(Limit):
    """The same, and the search for patterns that the product has: what is left is its path."""
    name = 'limit: that loop with our search'

    def arguments(self):
        path = os.path.join(self.folder, 'patterns')
        with open(path, 'w') as file:
            file.writelines(regex + '\n' for regex in TRIED)
        return [*super().arguments(), path]


class Socat(Logger):
    name = 'rival: socat'
    kinds = ('pty',)

    def start(self):
        self.open_console()
        self.run('socat', '-u', f'FILE:{self.tty},raw,echo=0', f'CREATE:{self.path}')
        self.await_start()


class Ser2net(Logger):
    name = 'rival: ser2net'
    kinds = ('pty',)

    def start(self):
        self.open_console()
        gate = os.path.join(self.folder, 'client')
        with open(os.path.join(self.folder, 'ser2net.yaml'), 'w') as file:
            file.write(f'connection: &console\n  accepter: unix,{gate}\n'
                       f'  connector: serialdev,{self.tty},115200n81,local\n  options:\n'
                       f'    dev-to-net-bufsize: 65536\n    trace-read: {self.path}\n')
        self.run('ser2net', '-n', '-c', file.name)
        # It reads the device for a client alone.
        await_true(lambda: os.path.exists(gate), f'{self.name} to listen')
        client = socket.socket(socket.AF_UNIX)
        self.cleanup.callback(client.close)
        client.connect(gate)
        reader = threading.Thread(target=self.drain, args=(client,), daemon=True)
        reader.start()
        self.await_start()

    @staticmethod
    def drain(client):
        with contextlib.suppress(OSError):
            while client.recv(65536):
                pass


class Conserver(Logger):
    name = 'rival: conserver'
    kinds = ('pty',)

    def start(self):
        self.open_console()
        with open(os.path.join(self.folder, 'passwd'), 'w') as passwords:
            pass
        with open(os.path.join(self.folder, 'conserver.cf'), 'w') as file:
            file.write('config * { defaultaccess trusted; daemonmode false; sslrequired no; }\n'
                       'default * { rw *; master localhost; }\n'
                       'access * { trusted 127.0.0.1; }\n'
                       f'console one {{ type device; device {self.tty}; baud 115200;\n'
                       f'parity none; logfile {self.path}; timestamp 1l; }}\n')
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        self.run('conserver', '-M', '127.0.0.1', '-p', str(port), '-b', '0', '-C', file.name,
                 '-P', passwords.name, '-U', '/dev/null', '-L', '/dev/null')
        self.await_start()


ALL = (Executor, Limit, SearchingLimit, Socat, Ser2net, Conserver)
