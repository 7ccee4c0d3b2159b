# SPDX-License-Identifier: MIT
"""The lab that is tortured: dutd and its boards, and what can be seen of them from outside."""

import collections
import fcntl
import json
import os
import signal
import struct
import threading
import time

from tests.support import processes
from tests.support.daemon import NotReady
from tests.support.harness import Lab, UnixConnection
from tests.torture import kinds

# For the daemon_lost that a dead dutd means for a job that needs power; yet a busy machine must
# not be taken for a dead dutd.
CONFIGURATION = {
    'timeouts': {'daemon': '8s', 'infra_teardown': '20s'},
    'limits': {'console_log': '4MiB', 'free_space': '1MiB', 'idle_log': '8MiB'},
}

PROGRAMS = ('dut-executor', 'dut-helper', 'dut-fetch', 'dut-sim')
LOCK_BYTE = 1


class Fault(AssertionError):
    """Something that must not be."""


class Process:
    def __init__(self, pid):
        self.pid = pid
        fields = processes.read(pid, 'stat').rpartition(b') ')[2].split()
        self.state = fields[0].decode() if fields else 'X'
        self.parent = int(fields[1]) if fields else 0
        self.name = processes.read(pid, 'comm').strip().decode(errors='replace')

    def is_alive(self):
        return self.state not in 'ZX'


def scan():
    """All living processes that could be ours, by name; cheap enough to be done often."""
    found = []
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            name = processes.read(entry, 'comm').strip().decode(errors='replace')
            if name in PROGRAMS:
                found.append(Process(int(entry)))
    return [process for process in found if process.is_alive()]


class Board:
    """What is known of a board between rounds."""

    def __init__(self, name):
        self.name = name
        self.kind = None
        self.checked = 0       # console offset up to which bytes were compared
        self.floor = 0         # before it the logs may have holes
        self.sent = 0          # the same place in what the board says that it has sent
        self.recorded = 0      # bytes of its record that were read
        self.life = 0          # where in `sent` the present life of its process began
        self.is_open = False   # somebody has its console
        self.power = 'off'     # by its own record
        self.lived = False
        self.ends = []         # (CLOCK_BOOTTIME, size of `sent`) when a process of its was killed
        self.exited = None     # the same, where one ended by itself


class World:
    def __init__(self, n_boards, disk, say):
        self.disk = disk
        self.say = say
        self.lab = Lab(state=disk.state if disk else None)
        self.lab.configure(CONFIGURATION)
        self.boards = {f'b{n}': Board(f'b{n}') for n in range(1, n_boards + 1)}
        for board in self.boards.values():
            self.set_script(board, kinds.KINDS['passes'])
            self.lab.write(f'boards/{board.name}/blob', kinds.BLOB)
            self.lab.write(f'boards/{board.name}/line', kinds.LINE)
            self.configure_board(board)
        self.daemon_pid = None
        self.daemon_stopped = False
        self.files = collections.Counter()  # what dutd has open at rest
        self.baseline = None    # memory of the present dutd at rest, and how many jobs there were
        self.most_clients = 0   # that the present dutd has had at a time
        self.spoiled = set()    # jobs whose files are not to be read any more
        self.acknowledged = {}  # job → board
        self.ended = {}        # job → what the API first said of its end
        self.faults = []       # found while looking for something else

    # ---- boards ----

    def sim_keys(self, board):
        return {'script': self.lab.path('boards', board.name, 'script'),
                'sent': self.sent_path(board)}

    def configure_board(self, board):
        self.lab.board(board.name, {'sim': self.sim_keys(board), 'tags': ['torture']})

    def sent_path(self, board):
        return self.lab.path('boards', board.name, 'sent.bin')

    def sent_size(self, board):
        try:
            return os.stat(self.sent_path(board)).st_size
        except FileNotFoundError:
            return 0

    def set_script(self, board, kind):
        board.kind = kind
        self.lab.write(f'boards/{board.name}/script', kind.script + '\n')

    def sim_pid(self, name):
        for process in scan():
            if process.name == 'dut-sim':
                words = processes.read(process.pid, 'cmdline').split(b'\0')
                if words[1:2] == [name.encode()] and self.lab.folder.encode() in words[2]:
                    return process.pid
        return None

    def kill_sim(self, board):
        """The board's process dies; what it had sent by then is noted. False when there is none."""
        pid = self.sim_pid(board.name)
        if pid is None:
            return False
        now_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        processes.kill(pid)
        if not processes.await_end(pid, 30):
            raise Fault(f'dut-sim {pid} of {board.name} survived SIGKILL')
        board.ends.append((now_us, self.sent_size(board)))
        return True

    def replace_script(self, board, kind):
        """The board becomes another one: its process reads a script only once."""
        if board.kind.script == kind.script:
            board.kind = kind
            return
        self.set_script(board, kind)
        self.kill_sim(board)

    # ---- executors ----

    def lock_holder(self, name):
        """The executor of a board, by its record lock; None when there is none."""
        path = os.path.join(self.lab.state, 'duts', name, 'lock')
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, LOCK_BYTE, 1, 0)
            lock = fcntl.fcntl(fd, fcntl.F_GETLK, lock)
        finally:
            os.close(fd)
        kind, _, _, _, pid = struct.unpack('hhqqi4x', lock)
        return pid if kind != fcntl.F_UNLCK else None

    def helper_pid(self, name):
        executor = self.lock_holder(name)
        return self.child_of(executor, 'dut-helper') if executor else None

    def fetch_pid(self, name):
        helper = self.helper_pid(name)
        return self.child_of(helper, 'dut-fetch') if helper else None

    def validator_pid(self):
        """The check of a submission: dutd's child, with another command line than an executor."""
        return next((process.pid for process in scan()
                     if process.parent == self.daemon_pid and process.name == 'dut-executor' and
                     b'--validate' in processes.read(process.pid, 'cmdline')), None)

    @staticmethod
    def child_of(parent, name):
        return next((process.pid for process in scan()
                     if process.parent == parent and process.name == name), None)

    def look_for_twins(self):
        """Never two executors of one board."""
        holders = {}
        for process in scan():
            if process.name != 'dut-executor':
                continue
            try:
                lock = os.readlink(f'/proc/{process.pid}/fd/4')
            except OSError:
                continue
            if lock.startswith(os.path.join(self.lab.state, 'duts', '')):
                holders.setdefault(lock, []).append(process)
        for lock, found in holders.items():
            pids = {process.pid for process in found}
            # One that is about to become dut-helper still looks like its parent.
            if len([process for process in found if process.parent not in pids]) > 1:
                self.faults.append(f'executors {sorted(pids)} hold {lock} together')

    # ---- dutd ----

    def start(self):
        self.lab.start()
        self.daemon_pid = self.lab.daemon.pid
        self.daemon_stopped = False
        self.baseline = None
        self.most_clients = 0

    def try_start(self):
        """Starts dutd unless it runs; what came of it."""
        if self.lab.daemon.process is not None:
            return 'it runs already'
        try:
            self.start()
        except NotReady as error:
            return f'it does not start: {error}'
        return 'done'

    def daemon_answers(self):
        return self.lab.daemon.process is not None and not self.daemon_stopped

    def check_daemon(self):
        """It is there as long as nobody ended it."""
        process = self.lab.daemon.process
        if process is not None and process.poll() is not None:
            raise Fault(f'dutd ended by itself with {process.poll()}')

    def kill_daemon(self):
        if self.lab.daemon.process is None:
            return 'nobody is there'
        self.check_daemon()
        self.lab.kill_daemon()
        self.daemon_stopped = False
        return 'done'

    def stop_daemon(self):
        if self.lab.daemon.process is None:
            return 'nobody is there'
        if self.daemon_stopped:
            self.continue_daemon()
        self.lab.stop()
        return 'done'

    def pause_daemon(self):
        if not self.daemon_answers():
            return 'nobody is there'
        processes.kill(self.daemon_pid, signal.SIGSTOP)
        self.daemon_stopped = True
        return 'done'

    def continue_daemon(self):
        if self.daemon_stopped:
            processes.kill(self.daemon_pid, signal.SIGCONT)
        self.daemon_stopped = False
        return 'done'

    # ---- jobs ----

    def job_path(self, job, *names):
        return os.path.join(self.lab.state, 'jobs', str(job), *names)

    def last_job(self):
        """The highest number in jobs/; a folder may have been taken away."""
        try:
            names = os.listdir(os.path.join(self.lab.state, 'jobs'))
        except FileNotFoundError:
            return 0
        numbers = (name.removesuffix('.json') for name in names)
        return max((int(name) for name in numbers if name.isdigit()), default=0)

    def read_record(self, job):
        try:
            with open(os.path.join(self.lab.state, 'jobs', f'{job}.json'), 'rb') as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def read_record_of_board(self, board):
        """What the board has noted since the last round: the bytes of whole lines, and as dicts."""
        path = self.lab.path('boards', board.name, 'record.jsonl')
        try:
            with open(path, 'rb') as file:
                file.seek(board.recorded)
                data = file.read()
        except FileNotFoundError:
            return 0, []
        data = data[:data.rfind(b'\n') + 1]
        return len(data), [json.loads(line) for line in data.splitlines()]

    def connect(self, path=None, seconds=20):
        """A connection to a socket, dutd's unless said otherwise."""
        connection = UnixConnection(path or self.lab.socket, seconds)
        connection.connect()
        return connection


def await_fact(condition, seconds, pause=0.002):
    """Waits for what a file or process shows; returns its value, or None when time is over."""
    deadline = time.monotonic() + seconds
    never = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            return None
        never.wait(pause)
