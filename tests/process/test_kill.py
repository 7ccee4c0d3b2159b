# SPDX-License-Identifier: MIT
"""Executors and dutd killed at the worst moment: what board, log and records say then."""

import json
import os
import re
import select
import shutil
import signal
import socket
import time
import sys
import unittest

from tests.support import processes
from tests.support.harness import LIBEXEC, Lab, await_true

BOOT = '''
at 10ms send "U-Boot\\r\\n"
at 20ms send "Linux version 6.1\\r\\n"
'''

# A job that waits for what does not come.
WAITS = '''
version: 1
timeouts: {overall: 2m}
console_patterns: {session_end: "never comes"}
'''


def segments(lab, board, console='main'):
    """The bytes of a console, from idle segments and jobs' logs, as {offset: data}."""
    found = {}
    folder = os.path.join(lab.state, 'duts', board, 'console', console)
    for name in os.listdir(folder):
        if name.endswith('.log'):
            with open(os.path.join(folder, name), 'rb') as file:
                data = file.read()
            if data:
                found[int(name[:-4])] = data
    for name in os.listdir(os.path.join(lab.state, 'jobs')):
        if not name.endswith('.json'):
            continue
        with open(os.path.join(lab.state, 'jobs', name), encoding='utf-8') as file:
            record = json.load(file)
        if record['dut'] != board:
            continue
        logs = {'console.log': record['console_base']}
        for number, base in enumerate(record['earlier_bases'], 1):
            logs[f'console.{number}.log'] = base
        for log, base in logs.items():
            log = os.path.join(lab.state, 'jobs', name[:-5], log)
            if base is not None and os.path.exists(log):
                with open(log, 'rb') as file:
                    data = file.read()
                if data:
                    found[base] = data
    return found


def whole_console(test, lab, board):
    """The console's bytes; fails when segments overlap or leave a hole."""
    end, pieces = 0, []
    for offset, data in sorted(segments(lab, board).items()):
        test.assertEqual(offset, end, f'{board}: a segment begins where none ended')
        pieces.append(data)
        end = offset + len(data)
    return b''.join(pieces)


# Stands between an executor, at fd 3, and its dut-helper, which gets the job's folder as fd 4.
STALLED = '''#!{python}
import os, select, socket, subprocess, sys
executor = socket.socket(fileno=os.dup(3))
helper, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.dup2(other.fileno(), 3)
other.close()
subprocess.Popen(['{helper}', *sys.argv[1:]], pass_fds=(3, 4))
os.close(3)
while True:
    for source in select.select([executor, helper], [], [])[0]:
        data, fds, _, _ = socket.recv_fds(source, 65536, 4)
        if not data:
            sys.exit(0)
        if source is helper and b'"done"' in data and os.path.exists('{stall}'):
            open('{stall}.there', 'w').close()
            executor.recv(1)
            sys.exit(0)
        socket.send_fds(helper if source is executor else executor, [data], fds)
        for fd in fds:
            os.close(fd)
'''

class KilledExecutor(unittest.TestCase):
    def test_the_board_goes_off_and_is_idle_again(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            lab.kill_executor('b1')
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('INCOMPLETE', 'executor_killed'))
            self.assertEqual(ended['verdict'], 'lab')
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            # Its console is open again, for what it may say while it is idle.
            await_true(lambda: lab.record('b1')[-1]['event'] == 'connect', 'the idle console')
            self.assertIn('off', [entry['event'] for entry in lab.record('b1')])
            # And the next job runs.
            self.assertEqual(lab.run_job('console_patterns: {session_end: Linux}', 'b1')['status'],
                             'COMPLETE')

    def test_in_every_phase(self):
        """Killed in its first moment, while it boots, after its end: always one truthful end."""
        with Lab() as lab:
            lab.sim('slow-off', 'delay off 300ms\n' + BOOT)
            lab.sim('slow-on', 'delay on 300ms\n' + BOOT)
            lab.sim('silent', '')
            lab.start()
            for board, phase in (('slow-off', 'setup'), ('slow-off', 'power_off'),
                                 ('slow-on', 'power_on'), ('silent', 'boot')):
                with self.subTest(phase=phase):
                    lab.await_board(board, 'IDLE')
                    job = lab.submit_ok(WAITS, board)
                    lab.await_phase(job, phase)
                    lab.kill_executor(board)
                    ended = lab.await_job(job)
                    self.assertIn((ended['status'], ended['reason']),
                                  [('INCOMPLETE', 'executor_killed'),
                                   ('SETUP_FAIL', 'executor_failed')])
                    lab.await_board(board, 'IDLE')
                    self.assertEqual(lab.board_state(board)['power']['state'], 'OFF')

    def test_no_byte_is_lost_at_full_speed(self):
        """Twenty kills in a flood: the logs hold what the board wrote, and nothing else."""
        with Lab() as lab:
            sent = lab.path('boards', 'flood', 'sent.bin')
            lab.sim('flood', 'at 1ms flood max', options={'sent': sent})
            lab.start()
            for _ in range(20):
                job = lab.submit_ok(WAITS, 'flood')
                with lab.stream(f'/jobs/{job}/log', follow=1) as stream:
                    self.assertTrue(stream.read_some())
                lab.kill_executor('flood')
                self.assertEqual(lab.await_job(job)['reason'], 'executor_killed')
                lab.await_board('flood', 'IDLE')
            with open(sent, 'rb') as file:
                expected = file.read()
            self.assertGreater(len(expected), 1 << 20)
            got = await_true(
                lambda: (lambda data: data if len(data) >= len(expected) else None)(
                    whole_console(self, lab, 'flood')), 'the last bytes')
            self.assertTrue(got == expected, f'{len(got)} bytes in the logs, {len(expected)} sent')

    def test_with_uboot(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok(WAITS, 'ub')
            lab.await_phase(job, 'running')
            lab.kill_executor('ub')
            self.assertEqual(lab.await_job(job)['reason'], 'executor_killed')
            lab.await_board('ub', 'IDLE')
            self.assertEqual(lab.board_state('ub')['power']['state'], 'OFF')

    def test_killed_qemu_is_a_silent_board(self):
        """The board's process dies: the job's own timeouts decide."""
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok('timeouts: {console_activity: 500ms}\n'
                                'console_patterns: {session_end: never}', 'ub')
            lab.await_phase(job, 'running')
            qemus = [pid for pid, line in lab.processes().items() if 'qemu-system' in line]
            self.assertEqual(len(qemus), 1)
            processes.kill(qemus[0])
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']),
                             ('INCOMPLETE', 'timeout:console_activity'))
            lab.await_board('ub', 'IDLE')


class KilledBoard(unittest.TestCase):
    """A virtual board's process dies, and dutd learns it without being asked."""

    JOB = 'timeouts: {overall: 5m}\nconsole_patterns: {session_end: never}'

    @staticmethod
    def pid_of_board(lab, board):
        found = [pid for pid, line in lab.processes().items()
                 if 'qemu-system' in line or line.startswith(f'dut-sim {board} ')]
        if len(found) != 1:
            raise AssertionError(f'{len(found)} processes of {board}')
        return found[0]

    def await_power(self, lab, board, state):
        # Not /power, which would look for itself.
        power = await_true(lambda: (lambda found: found if found['state'] == state else None)(
            lab.board_state(board)['power']), f'{board} to be {state}')
        self.assertTrue(power['verified'])

    def test_while_it_is_idle(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            self.check_idle(lab, 'ub')
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.check_idle(lab, 'b1')

    def check_idle(self, lab, board):
        self.assertEqual(lab.api('PUT', f'/dut/{board}/power', {'state': 'on'}).status, 200)
        self.await_power(lab, board, 'ON')
        processes.kill(self.pid_of_board(lab, board))
        self.await_power(lab, board, 'OFF')
        self.assertIn('power: it was ON and is OFF, and nobody switched it', lab.log)
        # One that an earlier dutd has started, too.
        self.assertEqual(lab.api('PUT', f'/dut/{board}/power', {'state': 'on'}).status, 200)
        lab.daemon.kill()
        lab.start()
        self.await_power(lab, board, 'ON')
        processes.kill(self.pid_of_board(lab, board))
        self.await_power(lab, board, 'OFF')
        # And it can be had again, with its console.
        self.assertEqual(lab.api('PUT', f'/dut/{board}/power', {'state': 'on'}).status, 200)
        with lab.console(board, offset=0) as stream:
            stream.read_until(b'U-Boot')
        self.assertEqual(lab.board_state(board)['consoles'][0]['state'], 'idle')
        self.assertEqual(lab.api('PUT', f'/dut/{board}/power', {'state': 'off'}).status, 200)

    def test_in_a_job_its_console_is_lost(self):
        """Twice: one job waits for what never comes, and ends because nothing can come."""
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            self.check_job(lab, 'ub')
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.check_job(lab, 'b1')

    def check_job(self, lab, board):
        job = lab.submit_ok(self.JOB, board)
        lab.await_phase(job, 'running')
        processes.kill(self.pid_of_board(lab, board))
        self.await_power(lab, board, 'OFF')
        ended = lab.await_job(job)
        self.assertEqual((ended['status'], ended['reason'], ended['verdict']),
                         ('INCOMPLETE', 'console_lost', 'lab'))
        self.assertIn('has not come back for 10 s; the power is OFF', ended['message'])
        lab.await_board(board, 'IDLE')
        self.assertEqual(
            lab.run_job('console_patterns: {session_end: U-Boot}', board)['status'], 'COMPLETE')

    def test_a_console_that_comes_back_is_lent_again(self):
        """A board that is started by somebody else in the meantime, as an adapter is plugged in."""
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: it is back}', 'b1')
            lab.await_phase(job, 'running')
            processes.kill(self.pid_of_board(lab, 'b1'))
            self.await_power(lab, 'b1', 'OFF')
            with socket.socket(socket.AF_UNIX) as listener:
                path = os.path.join(lab.runtime, 'duts', 'b1', 'console.sock')
                os.unlink(path)
                listener.bind(path)
                listener.listen(1)
                listener.settimeout(30)
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b'it is back\r\n')
                    ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('COMPLETE', 'ok'))
            states = [event['state'] for event in lab.events(job) if event['type'] == 'console']
            self.assertEqual(states, ['lent', 'ended', 'lent'])


def record_state(lab, job):
    """What the next dutd would read, were this one killed now."""
    with open(os.path.join(lab.state, 'jobs', f'{job}.json'), encoding='utf-8') as file:
        record = json.load(file)
    return record['state'], record['status'], record['reason'], record['message']


class StoppedExecutor(unittest.TestCase):
    def test_one_that_hangs_is_ended_when_no_job_may_still_run(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.configure({'limits': {'overall': '2s'}, 'timeouts': {'infra_teardown': '1s'}})
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: "never comes"}', 'b1')
            lab.await_phase(job, 'running')
            os.kill(lab.executor_pid('b1'), signal.SIGSTOP)
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('INCOMPLETE', 'executor_killed'))
            self.assertIn('limits.overall', ended['message'])
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')


class KilledDaemon(unittest.TestCase):
    JOB = '''
timeouts: {overall: 1m}
console_patterns: {session_end: "all done", job_success: "test ok"}
'''
    SCRIPT = BOOT + 'at 700ms send "test ok\\r\\n"\nat 800ms send "all done\\r\\n"\n'

    def test_the_job_runs_on_to_its_end(self):
        with Lab() as lab:
            lab.sim('b1', self.SCRIPT)
            lab.start()
            job = lab.submit_ok(self.JOB, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            lab.kill_daemon()
            self.assertTrue(processes.await_end(pid, 30), 'the executor does not end')
            with open(lab.job_file(job, 'result.json'), encoding='utf-8') as file:
                result = json.load(file)
            self.assertEqual((result['status'], result['reason']), ('PASS', 'ok'))
            with open(lab.job_file(job, 'console.log'), 'rb') as file:
                self.assertIn(b'test ok\r\nall done\r\n', file.read())
            # The next dutd imports it, once, and switches off.
            lab.start()
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    def test_both_killed_the_next_dutd_cleans_up(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.uboot('ub')
            lab.start()
            jobs = [lab.submit_ok(WAITS, board) for board in ('b1', 'ub')]
            for job in jobs:
                lab.await_phase(job, 'running')
            pids = [lab.executor_pid(board) for board in ('b1', 'ub')]
            lab.kill_daemon()
            for pid in pids:
                processes.kill(pid, signal.SIGKILL)
                self.assertTrue(processes.await_end(pid, 30))
            lab.start()
            for job, board in zip(jobs, ('b1', 'ub')):
                ended = lab.await_job(job)
                self.assertEqual((ended['status'], ended['reason']),
                                 ('INCOMPLETE', 'executor_killed'))
                lab.await_board(board, 'IDLE')
                self.assertEqual(lab.board_state(board)['power']['state'], 'OFF')

    def test_an_attempt_that_did_not_start_is_begun_again(self):
        """
        Both are killed when the bucket has just been unpacked and the board, which is on, has
        talked: the second attempt has files of its own, and every byte has one offset.
        """
        with Lab() as lab:
            stall = self.stall_fetching(lab)
            sent = lab.path('boards', 'b1', 'sent.bin')
            lab.sim('b1', 'at 1ms flood 20000 for 3s\nat 2ms send "\\r\\nLinux\\r\\n"\n'
                    'at 3500ms send "quiet now"', options={'sent': sent})
            lab.start()
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'on'}).status, 200)
            job = lab.submit_ok('console_patterns: {session_end: Linux}', 'b1',
                                bucket={'folder/file': b'data'})
            await_true(lambda: os.path.exists(stall + '.there'), 'the unpacking')
            with lab.stream(f'/jobs/{job}/log', follow=1) as stream:
                first = stream.read_some()
            # What is in the pipe of both when both are killed is nobody's: let it be silent then.
            await_true(lambda: whole_console(self, lab, 'b1').endswith(b'quiet now'),
                       'all that the board had to say')
            self.assertGreater(os.path.getsize(sent), 59000)
            pid = lab.executor_pid('b1')
            lab.kill_daemon()
            processes.kill(pid, signal.SIGKILL)
            self.assertTrue(processes.await_end(pid, 30))
            os.unlink(stall)
            lab.start()
            ended = lab.await_job(job)
            self.assertEqual((ended['attempt'], ended['reason']), (2, 'ok'), ended)
            lab.await_board('b1', 'IDLE')
            with open(lab.job_file(job, 'console.1.log'), 'rb') as file:
                self.assertTrue(file.read().startswith(first))
            with open(lab.job_file(job, 'console.idx'), encoding='utf-8') as file:
                self.assertEqual(file.readline().split()[2], str(ended['console_base']))
            self.assertEqual([event['seq'] for event in lab.events(job)][0], 0)
            self.assertEqual(lab.result(job)['console_base'], ended['console_base'])
            with open(sent, 'rb') as file:
                expected = file.read()
            self.assertEqual(await_true(
                lambda: (lambda data: data if len(data) >= len(expected) else None)(
                    whole_console(self, lab, 'b1')), 'the last bytes'), expected)
            # As one console, also by way of the API and after a restart.
            for _ in range(2):
                with lab.console('b1', offset=0) as stream:
                    while len(stream.data) < len(expected):
                        self.assertTrue(stream.read_some())
                    self.assertEqual(stream.data, expected)
                lab.stop()
                lab.start()

    @staticmethod
    def stall_fetching(lab):
        """
        A dut-helper whose dut-fetch does its work, and that tells of it only when the returned
        file is gone; while it waits there is a second file, with ".there" at its end.
        """
        stall = lab.write('stall', '')
        folder = lab.path('libexec')
        os.makedirs(folder)
        for name in os.listdir(LIBEXEC):
            if name != 'dut-helper':
                os.symlink(os.path.join(LIBEXEC, name), os.path.join(folder, name))
        os.chmod(lab.write('libexec/dut-helper', STALLED.format(
            python=sys.executable, helper=os.path.join(LIBEXEC, 'dut-helper'), stall=stall)),
            0o755)
        lab.daemon.command += ['--libexec-dir', folder]
        return stall

    def test_an_end_is_on_disk_before_anybody_is_told(self):
        """Else the next dutd could begin a job again that was said to have failed."""
        boards = [f'b{number}' for number in range(4)]
        with Lab() as lab:
            for board in boards:
                lab.sim(board, BOOT)
            lab.start()
            for _ in range(5):
                jobs = [lab.submit_ok(WAITS, board) for board in boards]
                for board in boards:
                    lab.kill_executor(board)
                for job in jobs:
                    told = lab.await_job(job)
                    self.assertEqual(record_state(lab, job), tuple(
                        told[key] for key in ('state', 'status', 'reason', 'message')))
                for board in boards:
                    lab.await_board(board, 'IDLE')
            # One that cannot begin; its submitter knows the number.
            path = lab.executor_socket('b1')
            os.unlink(path)
            os.makedirs(os.path.join(path, 'folder'))
            answer = lab.submit(WAITS, 'b1')
            self.assertEqual(answer.status, 500)
            state, status, reason, _ = record_state(lab, answer.json['id'])
            self.assertEqual((state, status, reason), ('ENDED', 'SETUP_FAIL', 'executor_failed'))

    def test_a_job_whose_folder_is_gone_says_so(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            lab.kill_daemon()
            processes.kill(pid, signal.SIGKILL)
            self.assertTrue(processes.await_end(pid, 30))
            shutil.rmtree(lab.job_file(job))
            lab.start()
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason'], ended['message']),
                             ('SETUP_FAIL', 'executor_failed', 'the folder of the job is gone'))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    def test_offsets_go_on_over_a_restart(self):
        with Lab() as lab:
            lab.sim('b1', self.SCRIPT)
            lab.start()
            first = lab.run_job(self.JOB, 'b1')
            lab.await_board('b1', 'IDLE')
            before = lab.board_state('b1')['consoles'][0]['offset']
            self.assertGreater(before, 0)
            lab.kill_daemon()
            lab.start()
            self.assertEqual(lab.board_state('b1')['consoles'][0]['offset'], before)
            second = lab.run_job(self.JOB, 'b1')
            self.assertEqual(second['console_base'], before)
            self.assertGreater(int(second['id']), int(first['id']))
            lab.await_board('b1', 'IDLE')
            whole_console(self, lab, 'b1')


def switches(pid):
    """How often a process went to sleep of its own will: it was woken as often."""
    with open(f'/proc/{pid}/status', encoding='ascii') as file:
        return int(re.search(r'^voluntary_ctxt_switches:\s*(\d+)', file.read(), re.M).group(1))


class Idle(unittest.TestCase):
    def test_nothing_wakes_up_on_silent_lines(self):
        """Two seconds of a silent board with a viewer: no timer runs in dutd or in the executor."""
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            with lab.stream(f'/jobs/{job}/log', follow=1) as stream, lab.console('b2') as idle:
                stream.read_until(b'Linux version 6.1\r\n')
                pids = {'dutd': lab.daemon.pid, 'executor': lab.executor_pid('b1')}
                # What still runs has 300 ms: a partial line's timer is the longest.
                time_out(0.5)
                before = {name: switches(pid) for name, pid in pids.items()}
                time_out(2.0)
                after = {name: switches(pid) for name, pid in pids.items()}
                self.assertEqual(idle.response.status, 200)
            lab.api('POST', f'/jobs/{job}/cancel', b'', {})
            lab.await_board('b1', 'IDLE')
            for name in pids:
                self.assertLessEqual(after[name] - before[name], 1, name)


def time_out(seconds):
    """A span that is itself what is measured."""
    select.select([], [], [], seconds)


class Cancel(unittest.TestCase):
    """CANCELLED within a second in each phase; off follows."""

    def cancel(self, lab, job):
        before = time.monotonic()
        answer = lab.api('POST', f'/jobs/{job}/cancel', json.dumps({'why': 'enough'}).encode(),
                         {'Content-Type': 'application/json'})
        self.assertEqual(answer.status, 200, answer)
        ended = lab.await_job(job)
        took = time.monotonic() - before
        self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'cancelled'))
        self.assertIn('enough', ended['message'])
        # A second, and what two busy cores under sanitizers add.
        self.assertLess(took, 5.0)
        return ended

    def test_in_each_phase_of_a_board(self):
        # The boards that hang are on when dutd stops: they live on, as boards do.
        with Lab(leftovers_allowed=True) as lab:
            lab.sim('hangs-off', 'delay off 30s\n' + BOOT)
            lab.sim('hangs-on', 'delay on 30s\n' + BOOT)
            lab.sim('silent', '')
            lab.sim('runs', BOOT)
            lab.start()
            for board, phase in (('hangs-off', 'power_off'), ('hangs-on', 'power_on'),
                                 ('silent', 'boot'), ('runs', 'running')):
                with self.subTest(phase=phase):
                    job = lab.submit_ok(WAITS, board)
                    lab.await_phase(job, phase)
                    self.cancel(lab, job)
                    self.assertIn('result.json', lab.results(job))
            lab.await_board('runs', 'IDLE')
            lab.await_board('silent', 'IDLE')
            # The hanging ones are not off yet, and say so.
            lab.await_board('hangs-off', 'BORKED')
            self.assertIn('switched off', lab.board_state('hangs-off')['message'])
            self.assertEqual(lab.submit(WAITS, 'hangs-off').status, 409)

    def test_with_uboot(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok(WAITS, 'ub')
            lab.await_phase(job, 'running')
            self.cancel(lab, job)
            lab.await_board('ub', 'IDLE')
            self.assertIn(b'U-Boot', lab.results(job)['console.log'])

    def test_during_a_stalled_download(self):
        with Lab() as lab, socket.create_server(('127.0.0.1', 0)) as server:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok(f"""
console_patterns: {{session_end: never}}
deployment: {{start: {{kernel: {{url: "http://127.0.0.1:{server.getsockname()[1]}/kernel"}}}}}}
""", 'ub')
            connection, _ = server.accept()
            with connection:
                # The server has the request, and says nothing.
                self.assertIn(b'GET /kernel', connection.recv(4096))
                self.cancel(lab, job)
            lab.await_board('ub', 'IDLE')
            self.assertEqual([line for line in lab.processes().values() if 'dut-fetch' in line], [])

    def test_during_the_unpacking_of_a_bucket(self):
        """Twenty thousand files: they take long enough to be in the midst of it."""
        files = {f'folder/{number}': b'x' for number in range(20000)}
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1', bucket=files)
            bucket = lab.job_file(job, 'bucket')
            await_true(lambda: os.path.isdir(bucket) and os.listdir(bucket), 'the unpacking')
            self.cancel(lab, job)
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.result(job)['boots'], [])

    def test_a_stopped_executor_is_killed(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            processes.kill(lab.executor_pid('b1'), signal.SIGSTOP)
            lab.api('POST', f'/jobs/{job}/cancel', b'{}', {'Content-Type': 'application/json'})
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            lab.await_board('b1', 'IDLE')

    def test_twice_and_after_the_end(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            self.cancel(lab, job)
            answer = lab.api('POST', f'/jobs/{job}/cancel', b'', {})
            self.assertEqual(answer.status, 409)
            self.assertIn('has ended already', answer.json['error'])
            self.assertEqual(lab.api('POST', '/jobs/999/cancel', b'', {}).status, 404)


if __name__ == '__main__':
    unittest.main()
