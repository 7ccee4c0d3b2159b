# SPDX-License-Identifier: MIT
"""Who waits for a DUT: in which order, for how long, what is shown of it, and through crashes."""

import concurrent.futures
import datetime
import os
import random
import signal
import time
import unittest

from tests.process import test_access, test_kill
from tests.support import processes
from tests.support.harness import Lab, await_true

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
QUICK = {'settle': 0}
NEVER = 'timeouts: {overall: 1h}\nconsole_patterns: {session_end: never}\n'
SHORT = 'console_patterns: {session_end: Linux}\n'
# It ends without the second that the console of others is listened to.
FAST = 'timeouts: {overall: 100ms}\nconsole_patterns: {session_end: never}\n'
TAG = 'target: {{tags: [{}]}}\n'


class Waiting(unittest.TestCase):
    def cancel(self, lab, *jobs):
        for job in jobs:
            answer = lab.api('POST', f'/jobs/{job}/cancel')
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')

    def waiting(self, lab, job):
        found = lab.get(f'/jobs/{job}')
        self.assertEqual(found['state'], 'WAITING', found)
        return found


class Order(Waiting):
    def test_what_is_said_of_those_who_wait(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1', name='bisect usb')
            first = lab.submit(SHORT, 'b1', wait='forever')
            self.assertEqual(first.status, 201, first)
            self.assertEqual((first.json['dut'], first.json['state'], first.json['place']),
                             ('b1', 'WAITING', 1))
            second = lab.submit_ok(SHORT, 'b1', wait=1800, priority=-3)
            found = self.waiting(lab, second)
            self.assertEqual((found['place'], found['wait'], found['priority']), (2, 1800, -3))
            self.assertEqual(found['effective_priority'], -3)
            self.assertEqual(found['target'], {'id': 'b1', 'tags': []})
            holder = rf'b1 is held by \S+ \(job {held}, "bisect usb"\) until ' \
                r'(\d{4}-\d\d-\d\d )?\d\d:\d\d'
            self.assertRegex(found['cause'], rf'^{holder}$')
            self.assertEqual(found['expected_end'], lab.get(f'/jobs/{held}')['expected_end'])
            began, ends = (datetime.datetime.fromisoformat(lab.get(f'/jobs/{held}')[key][:-1])
                           for key in ('started', 'expected_end'))
            self.assertEqual((ends - began).total_seconds(), 3600)
            refused = lab.submit(SHORT, 'b1')
            self.assertEqual(refused.status, 409, refused)
            self.assertRegex(refused.json['error'], rf'^{holder}; you are 2nd$')
            self.assertEqual((refused.json['dut'], refused.json['place']), ('b1', 2))
            self.cancel(lab, held)
            self.assertEqual(lab.await_job(first.json['id'])['status'], 'COMPLETE')
            self.assertEqual(lab.await_job(second)['status'], 'COMPLETE')

    def test_priority_then_submission(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1')
            jobs = {priority: lab.submit_ok(SHORT, 'b1', wait='10m', priority=priority)
                    for priority in (0, -100, 7, 100)}
            again = lab.submit_ok(SHORT, 'b1', wait='10m', priority=7)
            expected = [jobs[100], jobs[7], again, jobs[0], jobs[-100]]
            self.assertEqual([self.waiting(lab, job)['place'] for job in expected],
                             [1, 2, 3, 4, 5])
            self.cancel(lab, held)
            ended = [lab.await_job(job) for job in expected]
            self.assertEqual([job['status'] for job in ended], ['COMPLETE'] * 5)
            self.assertEqual(sorted(ended, key=lambda job: job['started']), ended)

    def test_tags_are_in_nobodys_way(self):
        with Lab() as lab:
            lab.sim('a1', BOOT, QUICK, tags=['a'])
            lab.sim('b1', BOOT, QUICK, tags=['b'])
            lab.sim('b2', BOOT, QUICK, tags=['b'])
            lab.start()
            held = [lab.submit_ok(NEVER, name) for name in ('a1', 'b1', 'b2')]
            tag_a = lab.submit_ok(SHORT + TAG.format('a'), wait='forever', priority=100)
            tag_b = lab.submit_ok(SHORT + TAG.format('b'), wait='forever')
            one = lab.submit_ok(SHORT, 'b2', wait='forever')
            found = self.waiting(lab, tag_b)
            self.assertEqual((found['place'], found['dut']), (1, None))
            self.assertRegex(found['cause'], r'^all 2 DUTs that fit are busy; b[12] is held by')
            self.assertEqual(self.waiting(lab, one)['place'], 2)
            self.assertIn(tag_b, [job['id'] for job in lab.get('/jobs?dut=b1')['jobs']])
            self.cancel(lab, held[2])
            self.assertEqual(lab.await_job(tag_b)['dut'], 'b2')
            self.assertEqual(lab.await_job(one)['dut'], 'b2')
            self.assertEqual(self.waiting(lab, tag_a)['place'], 1)
            self.cancel(lab, held[0], held[1])
            self.assertEqual(lab.await_job(tag_a)['dut'], 'a1')

    def test_facts_of_the_dut_that_it_got(self):
        """What a template says is what is so for the DUT that it runs on in the end."""
        text = 'version: 1\nname: "on {{ dut.id }}"\nconsole_patterns: ' \
            '{session_end: "I am {{ dut.id }}"}\n'
        with Lab() as lab:
            for name in ('b1', 'b2'):
                lab.sim(name, f'at 10ms send "I am {name}\\r\\n"\n', QUICK, tags=['b'])
            lab.start()
            held = [lab.submit_ok(NEVER, name) for name in ('b1', 'b2')]
            job = lab.submit_ok(text + TAG.format('b'), wait='1h')
            self.cancel(lab, held[1])
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['dut']), ('COMPLETE', 'b2'))
            self.cancel(lab, held[0])

    def test_forty_for_one_board(self):
        """One at a time, in order, and all of them end; whatever may run at once."""
        with Lab() as lab:
            lab.configure({'limits': {'waiting_jobs': 40}})
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            with concurrent.futures.ThreadPoolExecutor(40) as pool:
                jobs = list(pool.map(lambda _: lab.submit_ok(FAST, 'b1', wait='forever'),
                                     range(40)))
            ended = [lab.await_job(job) for job in sorted(jobs, key=int)]
            self.assertEqual([job['reason'] for job in ended], ['timeout:overall'] * 40)
            for earlier, later in zip(ended, ended[1:]):
                self.assertLess(earlier['ended'], later['started'])
            lab.await_board('b1', 'IDLE')
            edges = [entry['event'] for entry in lab.record('b1')
                     if entry['event'] in ('on', 'off')]
            self.assertEqual(edges, ['on', 'off'] * (len(edges) // 2))


class Run(Waiting):
    """`dut run` of a job that waits."""

    def test_it_says_what_it_waits_for(self):
        with Lab() as lab:
            for name in ('b1', 'b2'):
                lab.sim(name, BOOT, QUICK, tags=['b'])
            lab.start()
            job = lab.write('job.yml', SHORT + TAG.format('b'))
            held = [lab.submit_ok(NEVER, name) for name in ('b1', 'b2')]
            first = lab.submit_ok(SHORT, 'b2', wait='forever')
            refused = lab.dut('run', job)
            self.assertEqual(refused.rc, 75)
            self.assertRegex(refused.err, r'^dut: all 2 DUTs that fit are busy; b[12] is held by '
                             r'.*; you are 2nd\. Wait with --wait 30m\.\n$')
            run = lab.spawn_dut('run', '--wait', '1h', job, text=True)
            number = run.stderr.readline().split()[2]
            for place in ('2nd', '1st'):
                self.assertRegex(run.stderr.readline(), rf'^dut: job {number} waits: all 2 DUTs '
                                 rf'that fit are busy; b[12] is held by .* until .*; you are '
                                 rf'{place}$')
                if place == '2nd':
                    listed = lab.dut('jobs').out.splitlines()
                    self.assertEqual([line.split('\t')[-1] for line in listed], ['', '', '1', '2'])
                    shown = lab.dut('job', number).out
                    self.assertRegex(shown, r'\n  tags +b\n(.*\n)*  place +2nd\n'
                                     r'  priority +0, by waiting 0\n  waits for +all 2 DUTs')
                    self.cancel(lab, first)
            self.cancel(lab, held[0])
            out, err = run.communicate(timeout=60)
            self.assertIn(f'dut: job {number} begins on b1\n', err)
            self.assertEqual((run.returncode, out), (2, 'Linux version 6.1\n'), err)
            self.cancel(lab, held[1])

    def test_it_is_cancelled_by_a_signal(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            job = lab.write('job.yml', SHORT)
            held = lab.submit_ok(NEVER, 'b1')
            run = lab.spawn_dut('run', '--wait', 'forever', '--dut', 'b1', job, text=True)
            run.stderr.readline()
            run.stderr.readline()
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 7, err)
            self.assertIn('CANCELLED', err)
            self.cancel(lab, held)

    def test_its_wait_runs_out(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            job = lab.write('job.yml', SHORT)
            held = lab.submit_ok(NEVER, 'b1')
            run = lab.dut('run', '--wait', '200ms', '--dut', 'b1', '--output', lab.path('out'),
                          job)
            self.assertEqual(run.rc, 124, run)
            self.assertIn('SETUP_FAIL (queue_timeout): no DUT was free within 200ms; b1 is held',
                          run.err)
            self.cancel(lab, held)


class Ends(Waiting):
    def test_the_wait_is_over(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1')
            started = time.monotonic()
            job = lab.await_job(lab.submit_ok(SHORT, 'b1', wait='300ms'))
            self.assertGreaterEqual(time.monotonic() - started, 0.3)
            self.assertEqual((job['status'], job['reason'], job['verdict']),
                             ('SETUP_FAIL', 'queue_timeout', 'lab'))
            self.assertRegex(job['message'], rf'^no DUT was free within 300ms; b1 is held by .*'
                             rf'\(job {held}, ')
            self.assertIsNone(job['started'])
            self.cancel(lab, held)

    def test_the_deadline_is_past(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1')
            date = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() + 2))
            job = lab.await_job(lab.submit_ok(f'deadline: "{date}Z"\n{SHORT}', 'b1',
                                              wait='forever'))
            self.assertEqual((job['status'], job['reason'], job['verdict']),
                             ('SETUP_FAIL', 'deadline', 'job'))
            self.assertIn(f'before its deadline, {date}', job['message'])
            self.assertGreaterEqual(job['ended'], date)
            self.cancel(lab, held)

    def test_cancel(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1')
            first = lab.submit_ok(SHORT, 'b1', wait='forever')
            second = lab.submit_ok(SHORT, 'b1', wait='forever')
            run = lab.dut('cancel', first, '--why', 'not today')
            self.assertEqual(run.rc, 0, run)
            # It was on disk before the answer: no later dutd knows better.
            lab.kill_daemon()
            lab.start()
            job = lab.get(f'/jobs/{first}')
            self.assertEqual((job['state'], job['status'], job['message']),
                             ('ENDED', 'CANCELLED', 'not today'))
            self.assertEqual(self.waiting(lab, second)['place'], 1)
            self.cancel(lab, second, held)

    def test_limits(self):
        with Lab() as lab:
            lab.configure({'limits': {'waiting_jobs': 2}})
            lab.sim('b1', BOOT, QUICK)
            lab.sim('b2', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1')
            jobs = [lab.submit_ok(SHORT, 'b1', wait='forever') for _ in range(2)]
            answer = lab.submit(SHORT, 'b1', wait='forever')
            self.assertEqual(answer.status, 429, answer)
            self.assertEqual(answer.json['error'],
                             '2 jobs wait already, which is limits.waiting_jobs (2)')
            # That is nothing to who does not have to wait.
            self.assertEqual(lab.await_job(lab.submit_ok(SHORT, 'b2', wait='1h'))['status'],
                             'COMPLETE')
            self.cancel(lab, held, *jobs)

    def test_one_user_has_half_of_it_and_no_priority(self):
        with test_access.TcpLab() as lab:
            lab.listen({'limits': {'waiting_jobs': 3}})
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1')
            refused = lab.tcp_submit(SHORT, 'b1', wait='1h', priority=1)
            self.assertEqual(refused.status, 403, refused)
            self.assertIn('a priority above 0 needs the role admin; you are token:useer with the '
                          'role use', refused.json['error'])
            jobs = [lab.tcp_submit(SHORT, 'b1', wait='1h', priority=-number).json['id']
                    for number in range(2)]
            refused = lab.tcp_submit(SHORT, 'b1', wait='1h')
            self.assertEqual(refused.status, 429, refused)
            self.assertEqual(refused.json['error'],
                             '2 jobs of token:useer wait already, which is the limit for one user, '
                             'half of limits.waiting_jobs (3)')
            jobs.append(lab.tcp_submit(SHORT, 'b1', test_access.SECRETS['admin'], wait='1h',
                                       priority=100).json['id'])
            self.assertEqual([self.waiting(lab, job)['place'] for job in jobs], [2, 3, 1])
            self.cancel(lab, held, *jobs)

    def test_bad_metadata(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            for metadata, text in (
                    ({'wait': '5 parsecs'}, 'metadata: wait: '),
                    ({'wait': -1}, 'metadata: wait is neither a duration, nor seconds'),
                    ({'wait': 1e300}, 'metadata: wait is neither a duration, nor seconds'),
                    ({'wait': True}, 'metadata: wait is neither a duration, nor seconds'),
                    ({'wait': ['1h']}, 'metadata: wait is neither a duration, nor seconds'),
                    ({'priority': 101}, 'priority is no whole number from -100 to 100'),
                    ({'priority': -101}, 'priority is no whole number from -100 to 100'),
                    ({'priority': 1.5}, 'priority is no whole number from -100 to 100'),
                    ({'priority': '1'}, 'priority is no whole number from -100 to 100')):
                answer = lab.submit(SHORT, 'b1', **metadata)
                self.assertEqual(answer.status, 400, answer)
                self.assertIn(text, answer.json['error'])
            for metadata in ({'wait': None}, {'wait': 0}, {'wait': '0'}, {'wait': 0.5},
                             {'priority': None}, {'wait': False}):
                self.assertEqual(lab.run_job(SHORT, 'b1', **metadata)['status'], 'COMPLETE')
                lab.await_board('b1', 'IDLE')


class Crashes(Waiting):
    def test_all_keep_their_places(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK, tags=['b'])
            lab.sim('b2', BOOT, QUICK, tags=['b'])
            lab.start()
            held = [lab.submit_ok(NEVER, name) for name in ('b1', 'b2')]
            jobs = [lab.submit_ok(SHORT, 'b1', wait='forever'),
                    lab.submit_ok(SHORT + TAG.format('b'), wait='1h', priority=3),
                    lab.submit_ok(SHORT, 'b2', wait='forever', priority=-1)]
            before = [self.waiting(lab, job) for job in jobs]
            self.assertEqual([job['place'] for job in before], [2, 1, 2])
            lab.kill_daemon()
            lab.start()
            after = [self.waiting(lab, job) for job in jobs]
            for job in before + after:
                del job['cause']
            self.assertEqual(before, after)
            self.cancel(lab, *held)
            ended = [lab.await_job(job) for job in jobs]
            self.assertEqual([job['status'] for job in ended], ['COMPLETE'] * 3)

    def test_nothing_is_lost_however_often_dutd_is_killed(self):
        """
        Jobs that wait for three boards, alone or for any, while some are cancelled and dutd is
        killed in between: each ends once, as it was told, and no board has two at a time.
        """
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        with self.subTest(seed=seed), Lab() as lab:
            boards = ('b1', 'b2', 'b3')
            for name in boards:
                lab.sim(name, BOOT, QUICK, tags=['b'])
            lab.start()
            jobs, cancelled = [], set()
            for _ in range(5):
                for _ in range(6):
                    board = rng.choice((*boards, None))
                    text = FAST if board else FAST + TAG.format('b')
                    jobs.append(lab.submit_ok(text, board, wait='forever',
                                              priority=rng.randrange(-9, 9)))
                job = rng.choice(jobs)
                answer = lab.api('POST', f'/jobs/{job}/cancel')
                # One that runs may be faster.
                if answer.status == 200 and answer.json['state'] == 'ENDED':
                    cancelled.add(job)
                moment = time.monotonic() + rng.random() / 2
                await_true(lambda moment=moment: time.monotonic() > moment, 'the moment')
                lab.kill_daemon()
                lab.start()
            ended = [lab.await_job(job) for job in jobs]
            for job in ended:
                expected = {'cancelled'} if job['cancel'] else set()
                if job['id'] not in cancelled:
                    expected.add('timeout:overall')
                self.assertIn(job['reason'], expected, job)
            for board in boards:
                lab.await_board(board, 'IDLE')
                ran = sorted((job['started'], job['ended']) for job in ended
                             if job['dut'] == board and job['started'])
                for earlier, later in zip(ran, ran[1:]):
                    self.assertLess(earlier[1], later[0])
                edges = [entry['event'] for entry in lab.record(board)
                         if entry['event'] in ('on', 'off')]
                self.assertEqual(edges, ['on', 'off'] * (len(edges) // 2))

    def test_an_attempt_without_a_trace_goes_back_to_its_place(self):
        with Lab() as lab:
            stall = test_kill.KilledDaemon.stall_fetching(lab)
            lab.sim('b1', BOOT, QUICK, tags=['b'])
            lab.start()
            job = lab.submit_ok(SHORT, 'b1', bucket={'file': b'data'}, priority=9, wait='1ms')
            await_true(lambda: os.path.exists(stall + '.there'), 'the unpacking')
            higher = lab.submit_ok(SHORT, 'b1', wait='forever', priority=10)
            lower = lab.submit_ok(SHORT, 'b1', wait='forever', priority=8)
            pid = lab.executor_pid('b1')
            lab.kill_daemon()
            processes.kill(pid, signal.SIGKILL)
            self.assertTrue(processes.await_end(pid, 30))
            os.unlink(stall)
            lab.start()
            # Its wait of 1 ms was over when it was begun for the first time.
            ended = [lab.await_job(one) for one in (higher, job, lower)]
            self.assertEqual([one['attempt'] for one in ended], [1, 2, 1])
            self.assertEqual([one['status'] for one in ended], ['COMPLETE'] * 3)
            for earlier, later in zip(ended, ended[1:]):
                self.assertLess(earlier['ended'], later['started'])
    def test_who_did_not_want_to_wait_begins_under_the_next_dutd(self):
        """Its board was free: that dutd has not looked at it yet is no reason to give up."""
        with Lab() as lab, concurrent.futures.ThreadPoolExecutor(1) as pool:
            lab.sim('b1', 'delay read 300ms\n' + BOOT, QUICK)
            lab.start()
            for number in range(1, 5):
                answer = pool.submit(lab.submit, SHORT, 'b1')
                record = os.path.join(lab.state, 'jobs', f'{number}.json')
                await_true(lambda: os.path.exists(record), 'the record')
                lab.kill_daemon()
                self.assertIsNotNone(answer.exception())
                lab.start()
                self.assertEqual(lab.await_job(number)['status'], 'COMPLETE')
                lab.await_board('b1', 'IDLE')

    def test_a_wait_goes_on_while_dutd_is_down(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b1')
            job = lab.submit_ok(SHORT, 'b1', wait='500ms')
            submitted = time.monotonic()
            lab.kill_daemon()
            await_true(lambda: time.monotonic() - submitted > 0.6, 'the wait to be over')
            lab.start()
            self.assertEqual(lab.await_job(job)['reason'], 'queue_timeout')
            self.cancel(lab, held)

    def test_a_dut_that_is_not_configured_any_more(self):
        """It may come back: those who wait for it go on, and can be cancelled."""
        with Lab() as lab:
            lab.sim('b1', BOOT, QUICK)
            lab.sim('b2', BOOT, QUICK)
            lab.start()
            held = lab.submit_ok(NEVER, 'b2')
            job, limited, doomed = (lab.submit_ok(SHORT, 'b2', wait=wait)
                                    for wait in ('forever', '4s', 'forever'))
            lab.kill_daemon()
            lab.kill_executor('b2')
            os.rename(lab.path('etc', 'duts.d', 'b2.yaml'), lab.path('b2.yaml'))
            lab.start()
            # First what an earlier dutd has left of its job comes to an end.
            await_true(lambda: self.waiting(lab, job)['cause'] == 'b2 is not configured any more',
                       'the cause')
            self.cancel(lab, doomed)
            self.assertRegex(lab.await_job(limited)['message'],
                             '^no DUT was free within 4s; b2 is ')
            lab.stop()
            os.rename(lab.path('b2.yaml'), lab.path('etc', 'duts.d', 'b2.yaml'))
            lab.start()
            self.assertEqual(lab.await_job(held)['reason'], 'executor_killed')
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')


if __name__ == '__main__':
    unittest.main()
