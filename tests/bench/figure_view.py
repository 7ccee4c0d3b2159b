# SPDX-License-Identifier: MIT
"""Consoles as those see them who look at a board: how late a byte comes, and whether all come."""

import os
import re
import subprocess
import threading
import time

from tests.bench.figure_memory import Lent
from tests.bench.measure import MS, Measure, cpu_s, reaped_s
from tests.support import harness

DAEMON = 'dutd'
STAMPS = 600  # a round; 180 a second
BOARDS = 100
BUSY = 2
BYTES = 115200  # of each board: ten seconds
TTY_BUFFER_S = 65536 / 11520  # what a tty holds when nobody reads it

STAMP = re.compile(rb'stamp (\d{20})\.')

JOB = '''
version: 1
timeouts: {overall: {hours: 1}}
console_patterns:
  session_end: {regex: '^the end$'}
  job_success: {regex: '^flood 00000000000000001[0-9]{3} '}
'''


def percentile(numbers, part):
    return sorted(numbers)[int((len(numbers) - 1) * part)]


def p99(numbers):
    return percentile(numbers, 0.99)


class Latency(Lent):
    name = 'latency'
    about = 'from the board to a viewer at 115200 baud'

    def plan(self):
        return [
            Measure(f'latency/{key}', what + ', p99', 'ms', 1 / MS, DAEMON, None, 20.0, pick=p99)
            for key, what in (('idle', "a free board's console"), ('job', "a job's log"))
        ]

    def __init__(self, bench):
        super().__init__(bench)
        # The helpers of the product, with a board of ours among them.
        libexec = self.lab.path('libexec')
        os.mkdir(libexec)
        for name in os.listdir(harness.LIBEXEC):
            if name != 'dut-sim':
                os.symlink(os.path.realpath(os.path.join(harness.LIBEXEC, name)),
                           os.path.join(libexec, name))
        os.symlink(os.path.join(os.path.dirname(__file__), 'stamping_board.py'),
                   os.path.join(libexec, 'dut-sim'))
        at = self.lab.daemon.command.index('--libexec-dir')
        self.lab.daemon.command[at + 1] = libexec
        self.lab.sim('b1', 'at 1h silent')
        self.lab.sim('b2', 'at 1h silent')
        self.lab.start()
        answer = self.lab.api('PUT', '/dut/b1/power', {'state': 'on'})
        if answer.status != 200:
            raise AssertionError(answer)
        self.job = self.lab.submit_ok(JOB, 'b2')
        self.lab.await_phase(self.job, 'running')

    def contestants(self):
        return {DAEMON: self.measure}

    def measure(self):
        with self.lab.console('b1') as idle, \
                self.lab.stream(f'/jobs/{self.job}/log', offset=0, follow=1) as log:
            threads = [threading.Thread(target=self.read, args=pair)
                       for pair in (('idle', idle), ('job', log))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def read(self, key, stream):
        """What was there before we looked is not late."""
        samples, rest, fresh = [], b'', False
        while len(samples) < STAMPS:
            chunk = stream.response.read1(65536)
            now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if not chunk:
                return
            rest += chunk
            found = list(STAMP.finditer(rest))
            if found:
                late = [(now - int(stamp[1])) / 1e9 for stamp in found]
                rest = rest[found[-1].end():]
                if fresh:
                    samples += late
                fresh = fresh or late[-1] < 0.1
        self.measures[f'latency/{key}'].add(DAEMON, *samples)


class Boards(Lent):
    name = 'boards'
    about = f'{BOARDS} jobs at 115200 baud beside {BUSY} busy loops'

    def plan(self):
        return [
            Measure('boards/lost', f'bytes lost of {BOARDS} times {BYTES}', 'bytes', 1, DAEMON,
                    None, 0, pick=max),
            Measure('boards/stall', 'longest time without a read, a tty holds 5.7', 's', 1, DAEMON,
                    None, TTY_BUFFER_S, pick=max),
            Measure('boards/cpu', 'CPU of dutd, starts and ends as well', 's'),
            Measure('boards/cpu/jobs', 'CPU of all executors, likewise', 's'),
        ]

    def rounds(self):
        return 1

    def contestants(self):
        return {DAEMON: self.measure}

    def measure(self):
        lab = self.lab
        for number in range(BOARDS):
            board = f'b{number}'
            lab.sim(board, 'at 1s flood 11520 for 10s\nat 11050ms send "\\r\\nthe end\\r\\n"',
                    {'sent': lab.path('boards', board, 'sent')})
        lab.start()
        loops = [subprocess.Popen(['/bin/sh', '-c', 'while :; do :; done'])
                 for _ in range(BUSY)]
        try:
            jobs = [lab.submit_ok(JOB, f'b{number}') for number in range(BOARDS)]
            ends = [lab.await_job(job, 180) for job in jobs]
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
        self.measures['boards/cpu'].add(DAEMON, cpu_s(lab.daemon.pid))
        self.measures['boards/cpu/jobs'].add('dut-executor', reaped_s(lab.daemon.pid))
        for number, (job, end) in enumerate(zip(jobs, ends)):
            if end['status'] != 'PASS':
                raise AssertionError(end)
            self.check(f'b{number}', job)

    def check(self, board, job):
        with open(self.lab.path('boards', board, 'sent'), 'rb') as file:
            sent = file.read()
        with open(self.lab.job_file(job, 'console.log'), 'rb') as file:
            log = file.read()
        dropped = max(entry['dropped'] for entry in self.lab.record(board))
        same = len(os.path.commonprefix([sent, log]))
        self.measures['boards/lost'].add(DAEMON, dropped + len(sent) - same)
        if len(sent) < BYTES * 0.95:
            raise AssertionError(f'{board} was too slow: {len(sent)} bytes')
        self.measures['boards/stall'].add(DAEMON, self.longest_gap(job))

    def longest_gap(self, job):
        """Between two time records, each at most 5 ms after what it tells of began to be read."""
        with open(self.lab.job_file(job, 'console.idx')) as file:
            times = [int(line.split()[2]) for line in file if line.startswith('t ')]
        return max(b - a for a, b in zip(times, times[1:])) / 1e6
