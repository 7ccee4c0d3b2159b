# SPDX-License-Identifier: MIT
"""./dev demo and its three examples, on a real kernel; and that it leaves nothing behind."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from tests.support import processes
from tests.support.harness import BUILD, DUT, DUTD, LIBEXEC, PATIENCE, SOURCE, linux_artifacts

DEMO = os.path.join(SOURCE, 'tests', 'support', 'demo.py')


def example(name):
    return os.path.join(SOURCE, 'examples', name)


class Examples(unittest.TestCase):
    def test_are_valid_without_a_daemon(self):
        for name in ('boot.yml', 'fail.yml', 'hang.yml'):
            with self.subTest(name):
                done = subprocess.run([DUT, 'validate', example(name)], capture_output=True,
                                      check=False, timeout=PATIENCE,
                                      env=dict(os.environ, DUT_LIBEXEC_DIR=LIBEXEC))
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_configuration_is_valid(self):
        done = subprocess.run([DUTD, '--config', example('dutd.yaml'), '--check'],
                              capture_output=True, check=False, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)


class Demo(unittest.TestCase):
    def setUp(self):
        artifacts = linux_artifacts()
        # Everything of the demo lies below a folder of this test, so that leftovers are found.
        self.folder = tempfile.mkdtemp(prefix='dut-test-demo-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(processes.end_all_of, self.folder)
        self.results = os.path.join(self.folder, 'results')
        self.environment = dict(os.environ, SOURCE=SOURCE, BUILD=BUILD, DUT_DEMO_DIR=artifacts,
                                TMPDIR=self.folder)

    def command(self, name, *options):
        return [sys.executable, DEMO, example(name), '--output', self.results, *options]

    def start(self, name):
        return subprocess.Popen(self.command(name), env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def finish(self, process, seconds=2 * PATIENCE):
        """Exit status, console and words; nothing may be left but the results."""
        out, err = process.communicate(timeout=seconds)
        self.assert_nothing_left()
        return process.returncode, out.decode(errors='replace'), err.decode(errors='replace')

    def assert_nothing_left(self):
        self.assertEqual({pid: processes.command_line(pid)
                          for pid in processes.of_folder(self.folder)}, {})
        self.assertEqual([name for name in os.listdir(self.folder) if name != 'results'], [])

    def result(self):
        with open(os.path.join(self.results, 'result.json'), encoding='utf-8') as file:
            return json.load(file)

    def test_boot_passes(self):
        rc, out, err = self.finish(self.start('boot.yml'))
        self.assertEqual(rc, 0, err)
        self.assertIn('Linux version 6.', out)
        self.assertIn('demo: the test has passed\r\n', out)
        self.assertEqual(self.result()['status'], 'PASS')
        with open(os.path.join(self.results, 'console.log'), encoding='utf-8') as file:
            self.assertIn('demo: the test has passed', file.read())
        self.assertIn('PASS', err)

    def test_fail_fails(self):
        rc, out, err = self.finish(self.start('fail.yml'))
        self.assertEqual(rc, 3, err)
        self.assertIn('demo: 6 * 7 is 42, expected is 43', out)
        self.assertEqual((self.result()['status'], self.result()['reason']), ('FAIL', 'no_success'))

    def test_hang_times_out_and_says_which_timeout(self):
        rc, out, err = self.finish(self.start('hang.yml'))
        self.assertEqual(rc, 4, err)
        self.assertEqual(out.count('demo: hanging'), 2)
        self.assertIn('console_activity', err)
        self.assertEqual(self.result()['reason'], 'timeout:console_activity')

    def test_term_ends_all_of_it(self):
        process = self.start('hang.yml')
        self.read_until(process.stdout.fileno(), b'demo: userspace is up')
        process.send_signal(signal.SIGTERM)
        rc, _, err = self.finish(process)
        self.assertEqual(rc, 7, err)

    def test_ctrl_c_twice_ends_all_of_it(self):
        command = self.command('hang.yml')
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(command[0], command, self.environment)
        try:
            self.read_until(terminal, b'demo: userspace is up')
            os.write(terminal, b'\x03')
            self.read_until(terminal, b'?')
            os.write(terminal, b'\x03')
            self.read_until(terminal, None)
        finally:
            _, status = os.waitpid(pid, 0)
            os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(status), 7)
        self.assert_nothing_left()

    def read_until(self, fd, wanted):
        """Reads until the bytes, or with None the end, have come."""
        seen = b''
        deadline = time.monotonic() + PATIENCE
        while wanted is None or wanted not in seen:
            ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
            self.assertTrue(ready, f'{wanted} not seen in {seen[-3000:]}')
            try:
                chunk = os.read(fd, 65536)
            except OSError:  # EIO: the other side of a terminal is closed
                chunk = b''
            if not chunk:
                self.assertIsNone(wanted, f'end of {seen[-3000:]}')
                return
            seen += chunk


if __name__ == '__main__':
    unittest.main()
