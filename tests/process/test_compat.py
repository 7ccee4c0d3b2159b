# SPDX-License-Identifier: MIT
"""
Executors of an earlier version under the dutd of this one: an upgrade in the middle of jobs. The
rule is in dut-executor(8), VERSIONS.
"""

import os
import unittest

from tests.process.test_adopt import BOOT, REBOOTS, WAITS, sent_by
from tests.process.test_kill import whole_console
from tests.support import earlier, processes
from tests.support.harness import LIBEXEC, DUTD, Lab, SOURCE, await_true


def executed(pid):
    """The program of a process."""
    return os.readlink(f'/proc/{pid}/exe')


class Upgraded(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.earlier = earlier.programs(SOURCE)

    def use(self, lab, dutd, libexec):
        command = lab.daemon.command
        command[command.index('--config') - 1] = dutd
        command[command.index('--libexec-dir') + 1] = libexec

    def lab(self, script):
        """A lab of the earlier version, with one board."""
        lab = Lab()
        lab.sim('b1', script, options={'sent': lab.path('boards', 'b1', 'sent.bin')})
        self.use(lab, self.earlier.dutd, self.earlier.libexec)
        return lab

    def upgrade(self, lab, kill=True):
        """What has to be done is done between the two."""
        if kill:
            lab.kill_daemon()
        else:
            lab.leftovers_allowed = True
            lab.stop()
        self.use(lab, DUTD, LIBEXEC)

    def assert_taken_over(self, lab, job, pid):
        dut = lab.await_board('b1', 'RUNNING')
        self.assertEqual((dut['executor']['pid'], dut['job']['id']), (pid, str(job)))
        self.assertTrue(executed(pid).startswith(self.earlier.libexec.removesuffix('libexec')))
        self.assertIn(os.path.realpath(DUTD), executed(lab.daemon.pid))

    def test_a_job_goes_on_to_its_end(self):
        for kill in (True, False):
            with self.subTest(kill=kill), self.lab(
                    BOOT + 'at 20ms flood 20000\n'
                    'at 3s send "\\r\\ntest ok\\r\\nall done\\r\\n"\n') as lab:
                lab.start()
                job = lab.submit_ok(WAITS, 'b1')
                lab.await_phase(job, 'running')
                pid = lab.executor_pid('b1')
                self.upgrade(lab, kill)
                lab.start()
                self.assert_taken_over(lab, job, pid)
                with lab.stream(f'/jobs/{job}/log', follow=1) as stream:
                    self.assertIn(b'all done', stream.read_until(b'all done'))
                ended = lab.await_job(job)
                self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'))
                lab.await_board('b1', 'IDLE')
                self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
                self.assertEqual(whole_console(self, lab, 'b1'), sent_by(lab, 'b1'))
                self.assertEqual([entry['event'] for entry in lab.record('b1')].count('on'), 1)
                # Its files are read by this version's programs.
                self.assertEqual(lab.dut('results', job, '--output', lab.path('out')).rc, 0)
                self.assertEqual(lab.result(job)['status'], 'PASS')

    def test_it_gets_power(self):
        """It asks while there is no dutd, and asks this one again."""
        with self.lab(BOOT + 'at 500ms send "panic\\r\\n"\n') as lab:
            lab.start()
            job = lab.submit_ok(REBOOTS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            self.upgrade(lab)
            with open(lab.job_file(job, 'events.jsonl'), 'rb') as events:
                await_true(lambda: events.seek(0) == 0 and
                           events.read().count(b'"power_off"') == 2, 'it asks for power')
            lab.start()
            self.assert_taken_over(lab, job, pid)
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']),
                             ('INCOMPLETE', 'timeout:boot_cycle'))
            self.assertEqual(len(lab.result(job)['boots']), 3)
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    def test_a_cancel_reaches_it(self):
        with self.lab(BOOT) as lab:
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            self.upgrade(lab)
            lab.start()
            self.assert_taken_over(lab, job, pid)
            self.assertEqual(lab.dut('cancel', job).rc, 0)
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'cancelled'))
            lab.await_board('b1', 'IDLE')

    def test_one_that_an_earlier_dutd_starts(self):
        """The programs were replaced, and dutd was not started again yet."""
        with self.lab(BOOT + 'at 3s send "test ok\\r\\nall done\\r\\n"\n') as lab:
            self.use(lab, self.earlier.dutd, LIBEXEC)
            lab.start()
            self.assertEqual(lab.run_job(WAITS, 'b1')['status'], 'PASS')
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            self.assertIn(os.path.realpath(LIBEXEC).removesuffix('libexec'), executed(pid))
            self.upgrade(lab)
            lab.start()
            self.assertEqual(lab.await_board('b1', 'RUNNING')['executor']['pid'], pid)
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            lab.await_board('b1', 'IDLE')
            self.assertEqual(whole_console(self, lab, 'b1'), sent_by(lab, 'b1'))

    def test_one_that_ended_meanwhile(self):
        with self.lab(BOOT + 'at 500ms send "test ok\\r\\nall done\\r\\n"\n') as lab:
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            lab.await_phase(job, 'running')
            pid = lab.executor_pid('b1')
            self.upgrade(lab)
            self.assertTrue(processes.await_end(pid, 30))
            lab.start()
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            self.assertEqual(whole_console(self, lab, 'b1'), sent_by(lab, 'b1'))
            # The jobs of before are there, and no id is given twice.
            self.assertEqual(int(lab.submit_ok(WAITS, 'b1')), int(job) + 1)


if __name__ == '__main__':
    unittest.main()
