# SPDX-License-Identifier: MIT
"""
What must be true whatever happens, on boards that are QEMU with U-Boot: one executor for each, an
end and an off after each kill, nobody delayed by a flood or a viewer, cancel within a second,
nothing that a job contains reaches its neighbour, and no timeout that asks the wall clock. The same
on sim boards is in test_kill, test_starts, test_jobs and test_hostile, with more moments.
"""

import concurrent.futures
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import time
import unittest

from tests.support import processes
from tests.support.harness import BUILD, LIBEXEC, Lab, await_true, tar_of

WAITS = 'timeouts: {overall: 5m}\nconsole_patterns: {session_end: "never comes"}\n'
GOOD = 'console_patterns: {session_end: "^U-Boot 20", job_success: "^U-Boot 20"}\n'

# A ROM that does nothing but write lines of 64 bytes to the first serial port, as fast as the UART
# takes them: 115,200 baud by the divisor latch, then for ever 62 times 'a', CR, LF. At its end the
# reset vector jumps to its beginning.
FLOOD_CODE = bytes.fromhex(
    'bafb03 b083 ee baf803 b001 ee baf903 b000 ee bafb03 b003 ee'  # 3fb: 83, 3f8: 1, 3f9: 0, 3fb: 3
    'b93e00 b361 e80e00 e2f9 b30d e80700 b30a e80200 ebea'  # the loop, which calls
    'bafd03 ec a820 74fb baf803 88d8 ee c3')  # wait for 20h in 3fdh, send BL
FLOOD_LINE = b'a' * 62 + b'\r\n'
FLOOD_ROM = FLOOD_CODE.ljust(0xfff0, b'\0') + bytes.fromhex('ea000000f0').ljust(16, b'\0')
SILENT_ROM = bytes(65536)

# A second, and what two busy cores under sanitizers add.
CANCEL_LIMIT = 5.0


def qemus(lab):
    return [pid for pid, line in lab.processes().items() if 'qemu-system' in line]


def executors(lab):
    return [pid for pid, line in lab.processes().items()
            if line.split()[0].endswith('dut-executor')]


def lock_is_free(lab, board):
    """Whether the board has no process: its lock is what is read back."""
    with open(os.path.join(lab.state, 'duts', board, 'qemu.lock'), 'r+b') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


class Case(unittest.TestCase):
    def assert_off(self, lab, board):
        """It is idle, dutd says OFF, and there is no process that could be on."""
        lab.await_board(board, 'IDLE')
        power = lab.get(f'/dut/{board}/power')
        self.assertEqual((power['state'], power['verified']), ('OFF', True), power)
        self.assertTrue(lock_is_free(lab, board))

    def assert_end(self, job, *expected):
        self.assertEqual((job['status'], job['reason']), expected, job['message'])


class OneExecutor(Case):
    """Invariant 1."""

    def test_ten_submissions_and_a_second_dutd(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            with concurrent.futures.ThreadPoolExecutor(10) as pool:
                answers = list(pool.map(lambda _: lab.submit(WAITS, 'ub'), range(10)))
            self.assertEqual(sorted(answer.status for answer in answers), [201] + 9 * [409])
            job = next(answer.json['id'] for answer in answers if answer.status == 201)
            lab.await_phase(job, 'running')
            self.assertEqual((len(executors(lab)), len(qemus(lab))), (1, 1))
            second = lab.dutd()
            self.assertEqual(second.rc, 75, second)
            self.assertEqual((len(executors(lab)), len(qemus(lab))), (1, 1))
            # A dutd that is started while the executor lives does not start another one.
            lab.daemon.kill()
            lab.start()
            self.assertEqual(lab.submit(WAITS, 'ub').status, 409)
            self.assertEqual((len(executors(lab)), len(qemus(lab))), (1, 1))
            lab.kill_executor('ub')
            self.assert_end(lab.await_job(job), 'INCOMPLETE', 'executor_killed')
            self.assert_off(lab, 'ub')


class Killed(Case):
    """Invariant 4, and 7: the off that follows is read back."""

    def test_the_executor_in_each_phase(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.uboot('silent', {'firmware': lab.write('silent.rom', SILENT_ROM)})
            lab.start()
            for board, phase in (('ub', 'setup'), ('ub', 'power_on'), ('silent', 'boot'),
                                 ('ub', 'running')):
                with self.subTest(phase=phase):
                    lab.await_board(board, 'IDLE')
                    job = lab.submit_ok(WAITS, board)
                    lab.await_phase(job, phase)
                    lab.kill_executor(board)
                    ended = lab.await_job(job)
                    self.assertIn((ended['status'], ended['reason']),
                                  [('INCOMPLETE', 'executor_killed'),
                                   ('SETUP_FAIL', 'executor_failed')])
                    self.assert_off(lab, board)
            self.assert_end(lab.run_job(GOOD, 'ub'), 'PASS', 'ok')
            self.assert_off(lab, 'ub')

    def test_both_and_the_next_dutd_cleans_up(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok(WAITS, 'ub')
            lab.await_phase(job, 'running')
            lab.daemon.kill()
            lab.kill_executor('ub')
            self.assertEqual(len(qemus(lab)), 1)
            lab.start()
            self.assert_end(lab.await_job(job), 'INCOMPLETE', 'executor_killed')
            self.assert_off(lab, 'ub')

    def test_a_hung_qemu_is_switched_off_all_the_same(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok(WAITS, 'ub')
            lab.await_phase(job, 'running')
            processes.kill(qemus(lab)[0], signal.SIGSTOP)
            lab.kill_executor('ub')
            self.assert_end(lab.await_job(job), 'INCOMPLETE', 'executor_killed')
            self.assert_off(lab, 'ub')


class Off(Case):
    """Invariant 7."""

    def test_what_does_not_read_back_is_tried_for_ever(self):
        """Something else keeps the lock that says ON: no job gets the board before it is gone."""
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok(WAITS, 'ub')
            lab.await_phase(job, 'running')
            lock = self.borrow_lock(lab, 'ub')
            try:
                self.assertEqual(lab.api('POST', f'/jobs/{job}/cancel').status, 200)
                # The job's end does not depend on it.
                self.assert_end(lab.await_job(job), 'CANCELLED', 'cancelled')
                board = lab.await_board('ub', 'BORKED')
                self.assertIn('something still holds qemu.lock', board['message'])
                self.assertEqual(board['power']['state'], 'ON')
                self.assertEqual(lab.submit(GOOD, 'ub').status, 409)
                self.assertIn('cannot be switched off, trying again', lab.log)
            finally:
                os.close(lock)
            lab.await_board('ub', 'IDLE')
            self.assertIn('is off at last', lab.log)
            self.assert_off(lab, 'ub')
            self.assert_end(lab.run_job(GOOD, 'ub'), 'PASS', 'ok')

    def borrow_lock(self, lab, board):
        """The very open file by which QEMU holds its lock."""
        pid = qemus(lab)[0]
        wanted = os.stat(os.path.join(lab.state, 'duts', board, 'qemu.lock'))
        for name in os.listdir(f'/proc/{pid}/fd'):
            found = os.stat(f'/proc/{pid}/fd/{name}')
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                break
        else:
            self.fail('QEMU does not have its lock')
        pidfd = os.pidfd_open(pid)
        pidfd_getfd = 438
        lock = ctypes.CDLL(None, use_errno=True).syscall(pidfd_getfd, pidfd, int(name), 0)
        os.close(pidfd)
        if lock < 0:
            self.skipTest(f'pidfd_getfd: {os.strerror(ctypes.get_errno())}')
        return lock


class Undisturbed(Case):
    """Invariant 6."""

    def test_by_a_flood_and_by_viewers_who_do_not_read(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.uboot('flood', {'firmware': lab.write('flood.rom', FLOOD_ROM)})
            lab.start()
            flood = lab.submit_ok(WAITS, 'flood')
            lab.await_phase(flood, 'running')
            stuck = [lab.stream(f'/jobs/{flood}/log', follow=1) for _ in range(5)]
            self.assertEqual({stream.status for stream in stuck}, {200})
            with lab.stream(f'/jobs/{flood}/log', follow=1) as reader:
                for _ in range(3):
                    job = lab.submit_ok(GOOD, 'ub')
                    idle = lab.console('ub')
                    self.assert_end(lab.await_job(job, 30), 'PASS', 'ok')
                    self.assert_off(lab, 'ub')
                    self.assertEqual(idle.read_until(b'U-Boot 20').count(b'U-Boot 20'), 1)
                # Whoever reads gets every byte.
                while len(reader.data) < 1 << 16:
                    self.assertTrue(reader.read_some())
                lines = reader.data.split(b'\n')[1:-1]
                self.assertEqual({line + b'\n' for line in lines}, {FLOOD_LINE})
            began = time.monotonic()
            self.assertEqual(lab.api('POST', f'/jobs/{flood}/cancel').status, 200)
            self.assert_end(lab.await_job(flood), 'CANCELLED', 'cancelled')
            self.assertLess(time.monotonic() - began, CANCEL_LIMIT)
            self.assert_off(lab, 'flood')

    def test_a_flood_ends_at_its_limit_with_the_log_up_to_there(self):
        with Lab() as lab:
            lab.configure({'limits': {'console_log': '60kB'}})
            lab.uboot('flood', {'firmware': lab.write('flood.rom', FLOOD_ROM)})
            lab.start()
            job = lab.run_job(WAITS, 'flood')
            self.assert_end(job, 'INCOMPLETE', 'console_flood')
            log = lab.results(job['id'])['console.log']
            self.assertGreaterEqual(len(log), 60000)
            self.assertEqual({line + b'\n' for line in log.split(b'\n')[:-1]}, {FLOOD_LINE})
            self.assert_off(lab, 'flood')


class Cancel(Case):
    """Invariant 8."""

    def cancel(self, lab, job):
        began = time.monotonic()
        answer = lab.api('POST', f'/jobs/{job}/cancel', {'why': 'enough'})
        self.assertEqual(answer.status, 200, answer)
        ended = lab.await_job(job)
        self.assertLess(time.monotonic() - began, CANCEL_LIMIT)
        self.assert_end(ended, 'CANCELLED', 'cancelled')
        self.assertEqual(lab.result(job)['status'], 'CANCELLED')

    def test_in_each_phase(self):
        with Lab() as lab, socket.create_server(('127.0.0.1', 0)) as server:
            lab.uboot('ub')
            lab.uboot('silent', {'firmware': lab.write('silent.rom', SILENT_ROM)})
            lab.start()
            stalled = (f'{WAITS}deployment: {{start: {{kernel: {{url: '
                       f'"http://127.0.0.1:{server.getsockname()[1]}/kernel"}}}}}}\n')
            for board, phase, text in (('ub', 'setup', stalled), ('ub', 'power_on', WAITS),
                                       ('silent', 'boot', WAITS), ('ub', 'running', WAITS)):
                with self.subTest(phase=phase):
                    lab.await_board(board, 'IDLE')
                    job = lab.submit_ok(text, board)
                    lab.await_phase(job, phase)
                    self.cancel(lab, job)
                    self.assert_off(lab, board)

    def test_an_executor_that_does_not_leave_is_killed(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok(WAITS, 'ub')
            lab.await_phase(job, 'running')
            processes.kill(lab.executor_pid('ub'), signal.SIGSTOP)
            self.assertEqual(lab.api('POST', f'/jobs/{job}/cancel').status, 200)
            self.assert_end(lab.await_job(job), 'CANCELLED', 'cancelled')
            self.assert_off(lab, 'ub')


class Hostile(Case):
    """Invariant 9: while one job after the other tries, the neighbour's jobs pass."""

    @staticmethod
    def bombs():
        aliases = 'a0: &a0 [x, x, x, x, x, x, x, x, x]\n' + ''.join(
            f'a{n}: &a{n} [{", ".join(9 * [f"*a{n - 1}"])}]\n' for n in range(1, 9))
        return {'aliases': aliases + WAITS,
                'depth': 'x: ' + '[' * 10000 + ']' * 10000 + '\n' + WAITS,
                'scalar': 'name: ' + 'x' * (2 << 20) + '\n' + WAITS}

    def attack(self, lab):
        for name, text in self.bombs().items():
            with self.subTest(yaml=name):
                answer = lab.submit(text, 'bad')
                self.assertIn(answer.status, (400, 413), answer)
        with self.subTest('regex'):
            # No literal that a search could begin with: each way through a line is tried.
            ended = lab.run_job('console_patterns: {session_end: never, '
                                "job_success: '^(.|..)+[\\x01-\\x08]$'}", 'bad')
            self.assert_end(ended, 'INCOMPLETE', 'regex_limit')
            self.assert_off(lab, 'bad')
        for name in ('../outside', '/tmp/dut-outside', 'a/../../outside'):
            with self.subTest(tar=name):
                job = lab.submit_ok(WAITS, 'bad', bucket=tar_of({'good': b'', name: b'evil'}))
                self.assert_end(lab.await_job(job), 'SETUP_FAIL', 'bucket')
                self.assertFalse(os.path.exists(lab.job_file(job, 'started')))
                lab.await_board('bad', 'IDLE')
        self.assertFalse(os.path.exists(lab.path('state', 'jobs', 'outside')))

    def test_beside_a_good_job(self):
        with Lab() as lab:
            lab.uboot('good')
            lab.uboot('bad')
            lab.start()
            pid = lab.daemon.pid
            long_one = lab.submit_ok(WAITS, 'good')
            lab.await_phase(long_one, 'running')
            self.attack(lab)
            # The one that ran all the time, and one that begins now, know nothing of it.
            self.assertEqual(lab.get(f'/jobs/{long_one}')['phase'], 'running')
            self.assertEqual(lab.api('POST', f'/jobs/{long_one}/cancel').status, 200)
            self.assert_end(lab.await_job(long_one), 'CANCELLED', 'cancelled')
            self.assert_off(lab, 'good')
            self.assert_end(lab.run_job(GOOD, 'good'), 'PASS', 'ok')
            self.assertEqual(lab.daemon.pid, pid)


class Clock(Case):
    """Invariant 10. Nothing steps the machine's clock here: dutd and the executor see another."""

    DAY = 86400
    LIMIT = 3.0

    def test_a_step_changes_no_timeout(self):
        library = os.path.join(BUILD, 'tests', 'process', 'libstepped-clock.so')
        if not os.path.exists(library):
            self.skipTest('a build with sanitizers cannot be given another clock')
        with Lab() as lab:
            step = lab.write('step', struct.pack('q', 0))
            preload = {'LD_PRELOAD': library, 'DUT_STEPPED_CLOCK': step}
            lab.daemon.environment.update(preload)
            self.preload_executor(lab, preload)
            lab.uboot('ub')
            lab.start()
            for days in (400, -400):
                with self.subTest(days=days):
                    self.set_step(step, 0)
                    job = lab.submit_ok(f'timeouts: {{overall: 5m, boot_cycle: {self.LIMIT:g}s}}\n'
                                        'console_patterns: {session_end: never}', 'ub')
                    lab.await_phase(job, 'running')
                    self.set_step(step, days * self.DAY)
                    self.assert_end(lab.await_job(job), 'INCOMPLETE', 'timeout:boot_cycle')
                    self.assert_off(lab, 'ub')
                    self.check_times(lab, job, days)

    def check_times(self, lab, job, days):
        events = lab.events(job)
        timeout = next(event for event in events if event['type'] == 'timeout')
        on = next(event for event in events if event['type'] == 'boot')
        self.assertGreaterEqual(timeout['elapsed'] - on['elapsed'], self.LIMIT - 0.5)
        self.assertLess(timeout['elapsed'] - on['elapsed'], self.LIMIT + 20)
        # They did see the step.
        years = {event['time'][:4] for event in (on, timeout)}
        self.assertEqual(len(years), 2, years)
        self.assertEqual(timeout['time'] > on['time'], days > 0)

    @staticmethod
    def set_step(path, seconds):
        with open(path, 'r+b') as file:
            file.write(struct.pack('q', seconds))

    @staticmethod
    def preload_executor(lab, variables):
        """dutd hands no LD_PRELOAD on: a script in the place of the program does."""
        folder = lab.path('libexec')
        os.makedirs(folder)
        for name in os.listdir(LIBEXEC):
            if name != 'dut-executor':
                os.symlink(os.path.join(LIBEXEC, name), os.path.join(folder, name))
        setting = ' '.join(f'{name}={json.dumps(value)}' for name, value in variables.items())
        path = lab.write('libexec/dut-executor',
                         f'#!/bin/sh\n{setting} exec {LIBEXEC}/dut-executor "$@"\n')
        os.chmod(path, 0o755)
        lab.daemon.command += ['--libexec-dir', folder]


if __name__ == '__main__':
    unittest.main()
