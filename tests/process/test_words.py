# SPDX-License-Identifier: MIT
"""What the processes of a job say is in dutd's log under their own name, whatever they say."""

import os
import unittest

from tests.support.harness import LIBEXEC, Lab, await_true
from tests.support.manager import ManagedDaemon

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
JOB = 'console_patterns: {session_end: "all done"}\n'

# Says things, and goes on as the real one.
TALKER = '''#!/bin/bash
if [[ $1 == --validate ]]; then
  printf '<3>b1: job 1: forged by a check\\n' >&2
else
  printf '<3>b2: job 99: forged\\n<0>b1: job 1: an emergency\\nno level\\n' >&2
  printf 'on standard output\\n\\e[31m\\0red\\n'
  printf '%0500d\\n' 7
  for ((i = 0; i < 500; i++)); do echo "<6>line $i" >&2; done
fi
exec {executor} "$@"
'''


class Words(unittest.TestCase):
    def talker(self, lab):
        folder = lab.path('libexec')
        os.mkdir(folder)
        for name in os.listdir(LIBEXEC):
            if name != 'dut-executor':
                os.symlink(os.path.realpath(os.path.join(LIBEXEC, name)),
                           os.path.join(folder, name))
        executor = os.path.realpath(os.path.join(LIBEXEC, 'dut-executor'))
        path = lab.write('libexec/dut-executor', TALKER.replace('{executor}', executor))
        os.chmod(path, 0o755)
        lab.daemon.command[lab.daemon.command.index('--libexec-dir') + 1] = folder

    def test_they_cannot_be_taken_for_others(self):
        with Lab() as lab:
            lab.sim('b1', BOOT + 'at 20ms send "all done\\r\\n"\n')
            self.talker(lab)
            lab.start()
            self.assertEqual(lab.run_job(JOB, 'b1')['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')
            lab.stop()
            lines = lab.log.splitlines()
            said = '{}b1: job 1: dut-executor: {}'.format
            for line in (said('<3>', 'b2: job 99: forged'), said('<3>', 'an emergency'),
                         said('<4>', 'no level'), said('<4>', 'on standard output'),
                         said('<4>', '\\x1b[31m red'), said('<4>', '0' * 400),
                         said('<4>', '0' * 99 + '7'), said('<6>', 'line 0'),
                         '<3>the check of a job file: b1: job 1: forged by a check'):
                self.assertIn(line, lines)
            for line in lines:
                self.assertNotRegex(line, r'^<\d>b2: |^<[0-2]>|^<\d>b1: job 1: forged')
            # Seven came before.
            self.assertEqual(sum('dut-executor: line ' in line for line in lines), 60 - 7)
            self.assertTrue(any('dut-executor: 447 more lines are not shown' in line
                                for line in lines), lines[-20:])

    def test_the_next_dutd_hears_them(self):
        with Lab(leftovers_allowed=True) as lab:
            lab.sim('b1', BOOT + 'at 2s send "all done\\r\\n"\n')
            lab.daemon = ManagedDaemon(lab.daemon)
            self.addCleanup(lab.daemon.close)
            lab.start()
            job = lab.submit_ok(JOB, 'b1')
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            lab.start()
            await_true(lambda: '<5>b1: job 1: dut-executor: dutd is gone; the job goes on'
                       in lab.log, 'it says so')
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            await_true(lambda: lab.daemon.kept('words', 'b1', str(job)) is None, 'it is let go')


if __name__ == '__main__':
    unittest.main()
