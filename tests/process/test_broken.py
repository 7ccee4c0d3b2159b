# SPDX-License-Identifier: MIT
"""Executors that are not what they should be: the submitter reads why, the board is free again."""

import os
import shlex
import unittest

from tests.support.harness import LIBEXEC, Lab, await_true

JOB = 'console_patterns: {session_end: Linux}\n'

# What the executor of each board does; $1 is the lab's folder.
EXECUTORS = {
    'exits': 'exit 3',
    'says-why': 'printf "no room for it" >&7; exit 1',
    'is-killed': 'kill -9 $$',
    # Ready, it says, but it is not.
    'pretends': 'printf R >&7; exit 0',
    # Something that it has started keeps its lock.
    'leaves-a-child': 'cat $1/release >/dev/null 2>&1 & exit 5',
    'hangs': 'exec cat $1/never',
    'no-helper': 'DUT_LIBEXEC_DIR=$1/nowhere exec $2/dut-executor',
}

REASONS = {
    'exits': 'the executor exited with status 3',
    'says-why': 'no room for it',
    'is-killed': 'the executor was killed by signal 9',
    'pretends': 'the executor exited with status 0',
    'leaves-a-child': 'the executor exited with status 5',
    'hangs': 'it did not become ready within 15 s',
    'no-helper': 'dut-helper',
}


def make_libexec(lab, executor):
    """A folder like libexec, with another dut-executor (None: without one)."""
    folder = lab.path('libexec')
    os.makedirs(folder)
    for name in os.listdir(LIBEXEC):
        if name != 'dut-executor':
            os.symlink(os.path.join(LIBEXEC, name), os.path.join(folder, name))
    if executor is not None:
        os.chmod(lab.write('libexec/dut-executor', executor), 0o755)
    lab.daemon.command += ['--libexec-dir', folder]


def script(lab):
    """One program for all boards: it looks into job.json whose it is."""
    text = '#!/bin/sh\n' \
           f'[ "$1" = --validate ] && exec {shlex.quote(LIBEXEC)}/dut-executor --validate\n' \
           f'set -- {shlex.quote(lab.folder)} {shlex.quote(LIBEXEC)}\n' \
           'is() { grep -q "\\"id\\": \\"$1\\"" /proc/$$/fd/6/job.json; }\n'
    for name, action in EXECUTORS.items():
        text += f'if is {name}; then {action}; fi\n'
    return text


class Executors(unittest.TestCase):
    def test_each_says_why_it_did_not_start(self):
        with Lab() as lab:
            for name in ('release', 'never'):
                os.mkfifo(lab.path(name))
            make_libexec(lab, script(lab))
            for name in EXECUTORS:
                lab.sim(name, 'at 10ms send "Linux\\r\\n"\n')
            lab.start()
            path = lab.write('job.yml', JOB)
            running = {name: lab.spawn_dut('run', '--dut', name, path) for name in EXECUTORS}
            for name, process in running.items():
                with self.subTest(name):
                    out, err = process.communicate(timeout=60)
                    self.assertEqual(process.returncode, 70, err)
                    self.assertEqual(out, b'')
                    self.assertIn(REASONS[name], err.decode())
                    if name == 'leaves-a-child':
                        # Told at once; the board is free when its lock is.
                        board = lab.board_state(name)
                        self.assertEqual(board['state'], 'BORKED')
                        self.assertIn('left behind', board['message'])
                        self.assertEqual(lab.submit(JOB, name).status, 409)
                        with open(lab.path('release'), 'wb'):
                            pass
                    lab.await_board(name, 'IDLE')
            jobs = {job['dut']: job for job in lab.get('/jobs')['jobs']}
            for name in EXECUTORS:
                with self.subTest(name):
                    self.assertEqual((jobs[name]['state'], jobs[name]['status'],
                                      jobs[name]['reason'], jobs[name]['verdict']),
                                     ('ENDED', 'SETUP_FAIL', 'executor_failed', 'lab'))
                    self.assertIn(REASONS[name], jobs[name]['message'])
                    self.assertNotIn('on', [entry['event'] for entry in lab.record(name)])

    def test_what_it_leaves_behind_does_not_keep_the_power_on(self):
        """Something has the lock, and may have it for ever: the board goes off all the same."""
        with Lab() as lab:
            os.mkfifo(lab.path('release'))
            make_libexec(lab, script(lab))
            lab.sim('leaves-a-child', 'at 10ms send "Linux\\r\\n"\n')
            lab.start()
            on = lab.api('PUT', '/dut/leaves-a-child/power', {'state': 'on'})
            self.assertEqual((on.status, on.json['state']), (200, 'ON'))
            self.assertEqual(lab.submit(JOB, 'leaves-a-child').status, 500)
            board = lab.board_state('leaves-a-child')
            self.assertIn('left behind', board['message'])
            await_true(lambda: lab.board_state('leaves-a-child')['power']['state'] == 'OFF', 'off')
            self.assertEqual(lab.board_state('leaves-a-child')['state'], 'BORKED')
            with open(lab.path('release'), 'wb'):
                pass
            lab.await_board('leaves-a-child', 'IDLE')

    def test_a_new_one_is_used_at_once(self):
        """A package that was half installed: the next job runs without a restart of dutd."""
        with Lab() as lab:
            make_libexec(lab, None)
            lab.sim('b1', 'at 10ms send "Linux\\r\\n"\n')
            lab.start()
            path = lab.write('job.yml', JOB)
            run = lab.dut('run', '--dut', 'b1', path)
            self.assertNotEqual(run.rc, 0)
            self.assertIn('dut-executor: No such file or directory', run.err)
            self.assertEqual(lab.get('/jobs')['jobs'], [])
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')
            os.symlink(os.path.join(LIBEXEC, 'dut-executor'), lab.path('libexec', 'dut-executor'))
            self.assertEqual(lab.dut('run', '--dut', 'b1', path).rc, 2)


class Checks(unittest.TestCase):
    """What should check the job file, and does not."""

    def refused(self, script, text, code):
        with Lab() as lab:
            make_libexec(lab, '#!/bin/sh\n' + script)
            lab.sim('b1', 'at 10ms send "Linux\\r\\n"\n')
            lab.start()
            os.mkfifo(lab.path('never'))
            # Not the check that `dut run` makes itself, but the daemon's.
            run = lab.dut('run', '--dut', 'b1', lab.write('job.yml', JOB),
                          env={'DUT_LIBEXEC_DIR': lab.path('nowhere')})
            self.assertEqual(run.rc, code, run)
            self.assertIn(text, run.err)
            self.assertEqual(lab.get('/jobs')['jobs'], [])
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')

    def test_says_nothing(self):
        self.refused('exit 0\n', 'dut-executor exited with status 0', 74)

    def test_says_nonsense(self):
        self.refused('echo "[1, 2"\n', 'dut-executor exited with status 0', 74)

    def test_is_killed(self):
        self.refused('kill -9 $$\n', 'dut-executor was killed by signal 9', 65)

    def test_never_ends(self):
        self.refused('exec cat "$DUT_LAB_FOLDER/never"\n', 'takes longer than 5 s', 65)

    def test_never_stops_talking(self):
        self.refused('exec cat /dev/zero\n', 'too much to say', 65)


if __name__ == '__main__':
    unittest.main()
