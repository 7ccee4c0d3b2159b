# SPDX-License-Identifier: MIT
"""dutd killed or stopped in the middle of jobs: the next takes them over, and nobody notices."""

import json
import os
import signal
import time
import unittest

from tests.process.test_kill import whole_console
from tests.support import processes
from tests.support.harness import Lab, await_true

BOOT = '''
at 10ms send "U-Boot\\r\\n"
at 20ms send "Linux version 6.1\\r\\n"
'''

# Tells when it is to end: by a line on its console.
WAITS = '''
timeouts: {overall: 5m}
console_patterns: {session_end: "all done", job_success: "test ok"}
'''

REBOOTS = '''
timeouts: {overall: 5m, boot_cycle: {minutes: 5, retries: 2}}
console_patterns: {session_end: "all done", session_reboot: "panic", job_success: "test ok"}
'''

TALKS = BOOT + 'at 30ms flood 2000\n'


def sent_by(lab, board):
    with open(lab.path('boards', board, 'sent.bin'), 'rb') as file:
        return file.read()


class TakenOver(unittest.TestCase):
    def await_running(self, lab, board):
        return lab.await_board(board, 'RUNNING')

    def test_a_job_goes_on_under_the_next_dutd(self):
        with Lab() as lab:
            script = BOOT + 'at 20ms flood 20000\nat 4s send "\\r\\ntest ok\\r\\nall done\\r\\n"\n'
            lab.sim('b1', script, options={'sent': lab.path('boards', 'b1', 'sent.bin')})
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            for _ in range(3):
                lab.kill_daemon()
                lab.start()
                dut = self.await_running(lab, 'b1')
                self.assertEqual(dut['executor']['pid'], pid)
                self.assertEqual(dut['job']['id'], str(job))
                self.assertEqual(dut['job']['phase'], 'running')
                await_true(lambda: lab.board_state('b1')['power']['state'] == 'ON', 'it is on')
            # Whoever looks on sees what is new at once.
            with lab.stream(f'/jobs/{job}/log', follow=1) as stream:
                self.assertIn(b'all done', stream.read_until(b'all done'))
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            self.assertEqual(whole_console(self, lab, 'b1'), sent_by(lab, 'b1'))
            # The board was switched on once, and off after the job alone.
            events = [entry['event'] for entry in lab.record('b1')]
            self.assertEqual(events.count('on'), 1)
            self.assertEqual(lab.run_job(WAITS, 'b1')['status'], 'PASS')

    def test_it_gets_power_from_the_next_dutd(self):
        """Each reboot asks for power while there is no dutd."""
        with Lab() as lab:
            lab.sim('b1', BOOT + 'at 500ms send "panic\\r\\n"\n')
            lab.start()
            job = lab.submit_ok(REBOOTS, 'b1')
            lab.await_phase(job, 'running')
            for boot in (1, 2):
                lab.kill_daemon()
                await_true(lambda: self.asks_for_power(lab, job, boot + 1), 'it asks for power')
                lab.start()
                await_true(lambda: self.runs(lab, job, boot + 1), f'boot {boot + 1}')
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']),
                             ('INCOMPLETE', 'timeout:boot_cycle'))
            self.assertEqual(len(lab.result(job)['boots']), 3)
            lab.await_board('b1', 'IDLE')

    def own_events(self, lab, job):
        """What the executor has written, whether or not a dutd lives."""
        with open(lab.job_file(job, 'events.jsonl'), 'rb') as file:
            return [json.loads(line) for line in file.read().split(b'\n')[:-1]]

    def asks_for_power(self, lab, job, boot):
        phases = [event for event in self.own_events(lab, job) if event['type'] == 'phase']
        return phases[-1]['phase'] == 'power_off' and \
            sum(event['phase'] == 'power_off' for event in phases) == boot

    def runs(self, lab, job, boot):
        return any(event['type'] == 'phase' and event['phase'] == 'running'
                   and event['boot'] == boot for event in self.own_events(lab, job))

    def test_in_every_phase(self):
        with Lab() as lab:
            end = 'at 1500ms send "test ok\\r\\nall done\\r\\n"\n'
            lab.sim('slow-off', 'delay off 500ms\n' + BOOT + end)
            lab.sim('slow-on', 'delay on 500ms\n' + BOOT + end)
            lab.sim('late', 'at 700ms send "Linux version 6.1\\r\\n"\n' + end)
            lab.start()
            for board, phase in (('slow-off', 'setup'), ('slow-off', 'power_off'),
                                 ('slow-on', 'power_on'), ('late', 'boot'),
                                 ('slow-off', 'running')):
                with self.subTest(phase=phase):
                    lab.await_board(board, 'IDLE')
                    job = lab.submit_ok(WAITS, board)
                    lab.await_phase(job, phase)
                    lab.kill_daemon()
                    lab.start()
                    ended = lab.await_job(job)
                    self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'))
                    lab.await_board(board, 'IDLE')
                    self.assertEqual(lab.board_state(board)['power']['state'], 'OFF')

    def test_many_at_once(self):
        with Lab() as lab:
            boards = [f'b{n}' for n in range(8)]
            for board in boards:
                lab.sim(board, TALKS + 'at 3s send "\\r\\ntest ok\\r\\nall done\\r\\n"\n',
                        options={'sent': lab.path('boards', board, 'sent.bin')})
            lab.start()
            jobs = {board: lab.submit_ok(WAITS, board) for board in boards}
            lab.await_phase(jobs['b7'], 'running')
            lab.kill_daemon()
            lab.start()
            for board, job in jobs.items():
                self.assertEqual(lab.await_job(job)['status'], 'PASS')
                lab.await_board(board, 'IDLE')
                self.assertEqual(whole_console(self, lab, board), sent_by(lab, board))

    def test_a_cancel_reaches_it(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            lab.start()
            self.await_running(lab, 'b1')
            lab.api('POST', f'/jobs/{job}/cancel', {'why': 'enough'})
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'cancelled'))
            lab.await_board('b1', 'IDLE')

    def test_its_death_is_seen(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            lab.start()
            self.await_running(lab, 'b1')
            lab.kill_executor('b1')
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('INCOMPLETE', 'executor_killed'))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    def test_a_virtual_machine_is_not_cycled(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            job = lab.submit_ok('timeouts: {overall: 2m}\n'
                                'console_patterns: {session_end: "never comes"}\n', 'ub')
            with lab.stream(f'/jobs/{job}/log', follow=1) as stream:
                stream.read_until(b'U-Boot')
            qemu = [pid for pid in processes.of_folder(lab.folder)
                    if 'qemu-system' in processes.command_line(pid)]
            lab.kill_daemon()
            lab.start()
            self.await_running(lab, 'ub')
            await_true(lambda: lab.board_state('ub')['power']['state'] == 'ON', 'it is on')
            self.assertTrue(all(processes.is_alive(pid) for pid in qemu))
            lab.api('POST', f'/jobs/{job}/cancel', {})
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            lab.await_board('ub', 'IDLE')

    def test_nothing_changes_for_who_stops_it_politely(self):
        with Lab(leftovers_allowed=True) as lab:
            lab.sim('b1', BOOT + 'at 2s send "test ok\\r\\nall done\\r\\n"\n')
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            lab.stop()
            lab.start()
            self.await_running(lab, 'b1')
            self.assertEqual(lab.await_job(job)['status'], 'PASS')


class Silent(unittest.TestCase):
    def test_one_that_is_stopped_is_waited_for(self):
        with Lab() as lab:
            lab.sim('b1', BOOT + 'at 1s send "test ok\\r\\nall done\\r\\n"\n')
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            os.kill(pid, signal.SIGSTOP)
            lab.kill_daemon()
            lab.start()
            self.assertEqual(lab.board_state('b1')['executor']['pid'], pid)
            self.assertEqual(lab.submit(WAITS, 'b1').status, 409)
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            lab.await_board('b1', 'IDLE')

    def test_one_that_stays_silent_is_ended(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.configure({'timeouts': {'executor': '2s'}})
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            os.kill(pid, signal.SIGSTOP)
            lab.kill_daemon()
            lab.start()
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('INCOMPLETE', 'executor_killed'))
            self.assertIn('timeouts.executor', ended['message'])
            self.assertFalse(processes.is_alive(pid))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    def test_after_15_seconds_the_board_says_so(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            os.kill(pid, signal.SIGSTOP)
            lab.kill_daemon()
            lab.start()
            started = time.monotonic()
            dut = lab.await_board('b1', 'BORKED')
            self.assertGreater(time.monotonic() - started, 10)
            self.assertIn(f'pid {pid}, which does not answer', dut['message'])
            # Anybody may cut it; nobody may switch it on.
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'off'}).status, 200)
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'on'}).status, 409)
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(lab.await_job(job)['reason'], 'executor_killed')
            lab.await_board('b1', 'IDLE')


if __name__ == '__main__':
    unittest.main()
