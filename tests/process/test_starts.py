# SPDX-License-Identifier: MIT
"""Who gets a board, who is told that somebody else has it, and what an executor that fails says."""

import concurrent.futures
import os
import unittest

from tests.support.harness import LIBEXEC, Lab

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
WAITS = 'timeouts: {overall: 2m}\nconsole_patterns: {session_end: never}\n'
SHORT = 'console_patterns: {session_end: Linux}\n'


class Races(unittest.TestCase):
    def test_ten_submissions_for_one_board(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.write('job.yml', WAITS)
            with concurrent.futures.ThreadPoolExecutor(10) as pool:
                runs = list(pool.map(
                    lambda number: lab.dut('run', '--detach', '--dut', 'b1', '--name',
                                           f'racer-{number}', job), range(10)))
            winners = [run for run in runs if run.rc == 0]
            self.assertEqual(len(winners), 1, runs)
            for run in runs:
                if run.rc != 0:
                    self.assertEqual(run.rc, 75, run)
                    self.assertRegex(run.err, r'b1 is held by \S+ \(job \d+, "racer-\d"\) until')
            held = lab.board_state('b1')['job']
            self.assertEqual(held['id'], winners[0].out.strip())
            # And only one board was ever switched on, once.
            lab.await_phase(held['id'], 'running')
            self.assertEqual([entry['event'] for entry in lab.record('b1')].count('on'), 1)
            lab.dut('cancel', held['id'])
            lab.await_job(held['id'])
            lab.await_board('b1', 'IDLE')

    def test_tags_spread_over_boards(self):
        with Lab() as lab:
            for name in ('b1', 'b2', 'b3'):
                lab.sim(name, BOOT, tags=['shelf'])
            lab.start()
            text = WAITS + 'target: {tags: [shelf]}\n'
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: lab.submit(text), range(4)))
            self.assertEqual(sorted(answer.status for answer in answers), [201, 201, 201, 409])
            refused = next(answer for answer in answers if answer.status == 409)
            self.assertIn('all 3 DUTs that fit are busy', refused.json['error'])
            accepted = [answer.json for answer in answers if answer.status == 201]
            self.assertEqual({job['dut'] for job in accepted}, {'b1', 'b2', 'b3'})
            for job in accepted:
                lab.api('POST', f'/jobs/{job["id"]}/cancel', b'', {})
                lab.await_job(job['id'])
                lab.await_board(job['dut'], 'IDLE')

    def test_one_job_right_after_the_other(self):
        """The board is still being switched off: the next one waits for that."""
        with Lab() as lab:
            lab.sim('b1', 'delay off 200ms\n' + BOOT)
            lab.start()
            job = lab.write('job.yml', SHORT)
            for _ in range(3):
                self.assertEqual(lab.dut('run', '--dut', 'b1', job).rc, 2)

    def test_a_second_dutd_is_refused(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            second = lab.dutd('--state-dir', lab.path('other-state'),
                              '--runtime-dir', lab.runtime)
            self.assertEqual(second.rc, 75, second)
            self.assertIn('another dutd runs on', second.err)
            second = lab.dutd('--state-dir', lab.state, '--runtime-dir', lab.path('other-run'))
            self.assertEqual(second.rc, 75, second)
            # The first one is not disturbed.
            self.assertEqual(lab.run_job(SHORT, 'b1')['status'], 'COMPLETE')


class Executors(unittest.TestCase):
    """libexec folders in which dut-executor is not what it should be."""

    def make_libexec(self, lab, script):
        folder = lab.path('libexec')
        os.makedirs(folder)
        for name in ('dut-helper', 'dut-fetch', 'dut-sim'):
            os.symlink(os.path.join(LIBEXEC, name), os.path.join(folder, name))
        if script is not None:
            path = lab.write('libexec/dut-executor', script)
            os.chmod(path, 0o755)
        lab.daemon.command += ['--libexec-dir', folder]


    def refused(self, script, text, status=500):
        with Lab() as lab:
            self.make_libexec(lab, script)
            lab.sim('b1', BOOT)
            lab.start()
            answer = lab.submit(SHORT, 'b1')
            self.assertEqual(answer.status, status, answer)
            self.assertIn(text, answer.json['error'])
            lab.await_board('b1', 'IDLE')
            if 'id' in answer.json:
                ended = lab.await_job(answer.json['id'])
                self.assertEqual((ended['status'], ended['reason']),
                                 ('SETUP_FAIL', 'executor_failed'))
                self.assertIn(text, ended['message'])

    # The check of the job file is the real program's business, whatever the rest does.
    CHECK = f'#!/bin/sh\n[ "$1" = --validate ] && exec {LIBEXEC}/dut-executor --validate\n'

    def test_missing(self):
        with Lab() as lab:
            self.make_libexec(lab, None)
            lab.sim('b1', BOOT)
            lab.start()
            answer = lab.submit(SHORT, 'b1')
            self.assertGreaterEqual(answer.status, 400)
            self.assertIn('dut-executor: No such file or directory', answer.json['error'])
            lab.await_board('b1', 'IDLE')

    def test_exits_at_once(self):
        self.refused(self.CHECK + 'exit 3\n', 'the executor exited with status 3')

    def test_says_why_it_cannot_start(self):
        self.refused(self.CHECK + 'printf "no room for it" >&7\nexit 1\n', 'no room for it')

    def test_is_killed(self):
        self.refused(self.CHECK + 'kill -9 $$\n', 'the executor was killed by signal 9')

    def test_killed_between_jobs_the_number_is_not_used_again(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = int(lab.run_job(SHORT, 'b1')['id'])
            lab.await_board('b1', 'IDLE')
            lab.kill_daemon()
            os.unlink(os.path.join(lab.state, 'next-id'))
            lab.start()
            self.assertGreater(int(lab.run_job(SHORT, 'b1')['id']), first)


if __name__ == '__main__':
    unittest.main()
