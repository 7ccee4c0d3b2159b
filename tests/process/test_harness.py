# SPDX-License-Identifier: MIT
"""The harness itself has to be able to fail; a script stands for dutd here."""

import os
import sys
import unittest

from tests.support.harness import LIBEXEC, Lab, await_true
from tests.support.daemon import NotReady

READY = """
import os, signal, socket, subprocess, sys
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
CODE
notify.connect(os.environ['NOTIFY_SOCKET'])
notify.send(b'STATUS=up\\nREADY=1')
signal.sigwait([signal.SIGTERM])
sys.exit(STATUS)
"""


def lab_with(code='', status=0, **options):
    lab = Lab(**options)
    script = READY.replace('CODE', code).replace('STATUS)', f'{status})')
    lab.daemon.command[:1] = [sys.executable, lab.write('fake.py', script)]
    return lab


class Harness(unittest.TestCase):
    def test_helpers_lie_in_one_folder(self):
        names = sorted(os.listdir(LIBEXEC))
        self.assertEqual(names, ['dut-executor', 'dut-fetch', 'dut-helper', 'dut-sim'])

    def test_a_clean_daemon_leaves_nothing(self):
        with lab_with() as lab:
            lab.start()
            self.assertEqual(list(lab.processes()), [lab.daemon.pid])
        self.assertFalse(os.path.exists(lab.folder))

    def test_a_daemon_that_ends_before_it_is_ready(self):
        with lab_with('sys.exit("no")') as lab:
            with self.assertRaisesRegex(NotReady, 'exit status 1'):
                lab.start()
            self.assertIn('no', lab.log)

    def test_an_exit_status_fails_the_test(self):
        with self.assertRaisesRegex(AssertionError, 'dutd ended with 3'):
            with lab_with(status=3) as lab:
                lab.start()

    def test_an_end_that_nobody_asked_for_fails_the_test(self):
        with self.assertRaisesRegex(AssertionError, 'had ended by itself with 0'):
            with lab_with() as lab:
                lab.start()
                lab.daemon.process.terminate()
                lab.daemon.process.wait(60)

    def test_a_sanitizer_report_fails_the_test(self):
        with self.assertRaisesRegex(AssertionError, 'sanitizer: heap-use-after-free'):
            with lab_with('log = os.environ["ASAN_OPTIONS"].split("log_path=")[1]\n'
                          'open(log + ".1", "w").write("heap-use-after-free")') as lab:
                lab.start()

    def test_what_outlives_the_daemon_is_found_and_killed(self):
        code = 'subprocess.Popen(["sleep", "1000"], start_new_session=True)'
        with lab_with(code, leftovers_allowed=True) as lab:
            lab.start()
            await_true(lambda: len(lab.processes()) == 2, 'the sleeper')
            lab.kill_daemon()
            self.assertEqual(list(lab.processes().values()), ['sleep 1000'])
        self.assertEqual(lab.processes(), {})


if __name__ == '__main__':
    unittest.main()
