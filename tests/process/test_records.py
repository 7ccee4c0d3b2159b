# SPDX-License-Identifier: MIT
"""What dutd has acknowledged is never forgotten, whatever happens to it and to its database."""

import contextlib
import glob
import json
import os
import shutil
import sqlite3
import threading
import time
import unittest

from tests.support import finished
from tests.support.harness import BUILD, Lab, await_true
from tests.support.smalldisk import SmallLab, enter_namespace

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SHORT = 'console_patterns: {session_end: Linux}\n'
SLOW = 'at 10ms send "begin\\r\\n"\nat 700ms send "the end\\r\\n"\n'
SLOW_JOB = 'console_patterns: {session_end: the end, job_success: begin}\n'
HELD_DISK = os.path.join(BUILD, 'tests', 'process', 'libheld-disk.so')
NAMES = ('dutd.db', 'dutd.db-wal')
DAY_US = 24 * 3600 * 1000000


def setUpModule():
    enter_namespace()


class Case(unittest.TestCase):
    @contextlib.contextmanager
    def lab(self, script=BOOT, limits=None, boards=1, **options):
        with Lab(**options) as lab:
            lab.configure({'limits': {'free_space': 0, **(limits or {})}})
            for number in range(1, boards + 1):
                lab.sim(f'b{number}', script)
            lab.start()
            yield lab

    def run_jobs(self, lab, count):
        for _ in range(count):
            job = lab.run_job(SHORT, 'b1')
            self.assertEqual(job['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')

    def copy_database(self, lab):
        """To its last commit: nothing writes at this moment."""
        for name in NAMES:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(os.path.join(lab.state, name), lab.path('copy-of-' + name))

    def put_back(self, lab):
        for name in NAMES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(lab.state, name))
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(lab.path('copy-of-' + name), os.path.join(lab.state, name))

    def jobs(self, lab, **members):
        """All of them, as somebody asks who knows nothing of what was."""
        return {int(job['id']): job for job in lab.get('/jobs?limit=1000')['jobs']}

    def rows(self, lab, question):
        """From the database of a dutd that does not run."""
        with contextlib.closing(sqlite3.connect(os.path.join(lab.state, 'dutd.db'))) as database:
            return database.execute(question).fetchall()


class Database(Case):
    """Lost, damaged, older or newer: the jobs' own files count."""

    def test_a_lost_one_is_made_anew(self):
        with self.lab() as lab:
            own = {'submission_id': 'f2b1c7a0-1d6e-4d52-9c0f-0c4f5f0f8a11'}
            lab.await_job(lab.submit_ok(SHORT, 'b1', **own))
            lab.await_board('b1', 'IDLE')
            self.run_jobs(lab, 2)
            before = self.jobs(lab)
            lab.stop()
            for path in glob.glob(os.path.join(lab.state, 'dutd.db*')):
                os.unlink(path)
            os.unlink(os.path.join(lab.state, 'next-id'))
            lab.start()
            self.assertIn('dutd.db was not there: a new one has the records of 3 jobs', lab.log)
            self.assertEqual(self.jobs(lab), before)
            self.assertEqual(lab.result(2)['status'], 'COMPLETE')
            repeat = lab.submit(SHORT, 'b1', **own)
            self.assertEqual((repeat.status, repeat.json['id']), (200, '1'), repeat)
            self.assertEqual(lab.submit_ok(SHORT, 'b1'), '4')
            lab.await_job(4)

    def test_a_damaged_one_is_kept_and_made_anew(self):
        with self.lab() as lab:
            self.run_jobs(lab, 2)
            before = self.jobs(lab)
            for number in (1, 2):
                lab.stop()
                damaged = os.urandom(3 * 4096)
                with open(os.path.join(lab.state, 'dutd.db'), 'wb') as file:
                    file.write(damaged)
                lab.start()
                self.assertIn(f'dutd.db cannot be used (the database: file is not a database): it '
                              f'is dutd.db.broken-{number} now, and a new one has the records of '
                              f'2 jobs', lab.log)
                self.assertEqual(self.jobs(lab), before)
                with open(os.path.join(lab.state, f'dutd.db.broken-{number}'), 'rb') as file:
                    self.assertEqual(file.read(), damaged)
            self.run_jobs(lab, 1)

    def test_one_that_is_damaged_behind_its_head(self):
        with self.lab() as lab:
            self.run_jobs(lab, 2)
            before = self.jobs(lab)
            lab.stop()
            path = os.path.join(lab.state, 'dutd.db')
            with open(path, 'r+b') as file:
                pages = os.path.getsize(path) // 4096
                # The tables' own descriptions stay.
                for page in range(1, pages):
                    file.seek(page * 4096)
                    file.write(os.urandom(4096))
            lab.start()
            self.assertIn('dutd.db.broken-1 now, and a new one has the records of 2 jobs', lab.log)
            self.assertEqual(self.jobs(lab), before)
            self.run_jobs(lab, 1)

    def test_no_id_comes_twice_when_the_job_was_removed(self):
        """The files of the youngest jobs are gone: the rows, or next-id, know how far it went."""
        for lost in (('next-id',), NAMES):
            with self.subTest(lost=lost), self.lab() as lab:
                self.run_jobs(lab, 3)
                lab.stop()
                for path in glob.glob(os.path.join(lab.state, 'jobs', '[23]*')):
                    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
                for name in lost:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(lab.state, name))
                lab.start()
                self.assertEqual(lab.submit_ok(SHORT, 'b1'), '4')
                lab.await_job(4)

    def test_that_of_a_newer_dutd_is_refused(self):
        with self.lab() as lab:
            self.run_jobs(lab, 1)
            lab.stop()
            path = os.path.join(lab.state, 'dutd.db')
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("INSERT INTO schema VALUES (1000, 0, '9.0')")
                database.commit()
            refused = lab.dutd()
            self.assertEqual(refused.rc, 74, refused)
            self.assertRegex(refused.err, r'dutd\.db has version 1000, and this dutd knows up to '
                                          r'\d+: it was made by a newer dutd')
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute('DELETE FROM schema WHERE version = 1000')
                database.commit()
            lab.start()
            self.assertEqual(list(self.jobs(lab)), [1])

    def test_an_older_copy_is_brought_up_to_date(self):
        with self.lab(leftovers_allowed=True) as lab:
            self.run_jobs(lab, 1)
            self.copy_database(lab)
            self.run_jobs(lab, 2)
            before = self.jobs(lab)
            lab.kill_daemon()
            self.put_back(lab)
            lab.start()
            self.assertEqual(self.jobs(lab), before)
            self.run_jobs(lab, 1)
            lab.stop()
            self.assertEqual(self.rows(lab, 'SELECT id, open FROM jobs ORDER BY id'),
                             [(1, 0), (2, 0), (3, 0), (4, 0)])


class Between(Case):
    """dutd is killed between a job's file and its row: the file decides, and nothing runs twice."""

    def boots(self, lab):
        return sum(entry['event'] == 'on' for entry in lab.record('b1'))

    def test_an_end_that_has_no_row(self):
        with self.lab(SLOW, leftovers_allowed=True) as lab:
            job = lab.submit_ok(SLOW_JOB, 'b1')
            lab.await_phase(job, 'running')
            self.copy_database(lab)
            ended = lab.await_job(job)
            lab.await_board('b1', 'IDLE')
            lab.kill_daemon()
            self.put_back(lab)
            boots = self.boots(lab)
            # A crash in the middle of a file leaves that, too.
            lab.write(f'state/jobs/.{job}.json.tmp', 'half of a rec')
            lab.start()
            self.assertFalse(os.path.exists(lab.path('state', 'jobs', f'.{job}.json.tmp')))
            self.assertEqual(lab.get(f'/jobs/{job}'), ended)
            self.assertEqual(ended['status'], 'PASS')
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')
            self.assertEqual(self.boots(lab), boots)

    def test_a_job_that_only_its_row_knows(self):
        """Its file was lost while it waited: it is written again, and the job runs."""
        with self.lab(SLOW, leftovers_allowed=True) as lab:
            first = lab.submit_ok(SLOW_JOB, 'b1')
            second = lab.submit_ok(SLOW_JOB, 'b1', wait='forever')
            lab.kill_daemon()
            os.unlink(os.path.join(lab.state, 'jobs', f'{second}.json'))
            lab.start()
            self.assertIn(f'job {second}: its record was lost: it is as it was in dutd.db', lab.log)
            self.assertEqual(lab.await_job(first)['status'], 'PASS')
            self.assertEqual(lab.await_job(second)['status'], 'PASS')
            self.assertTrue(os.path.exists(os.path.join(lab.state, 'jobs', f'{second}.json')))

    def test_forty_that_were_acknowledged(self):
        with self.lab(leftovers_allowed=True) as lab:
            lab.api('PATCH', '/dut/b1', {'is_retired': True})
            answers = []

            def submit():
                answers.append(lab.submit(SHORT, 'b1', wait='forever'))

            threads = [threading.Thread(target=submit) for _ in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            lab.kill_daemon()
            self.assertEqual({answer.status for answer in answers}, {201}, answers)
            ids = sorted(int(answer.json['id']) for answer in answers)
            self.assertEqual(ids, list(range(1, 41)))
            lab.start()
            found = self.jobs(lab)
            self.assertEqual(sorted(found), ids)
            self.assertEqual({job['state'] for job in found.values()}, {'WAITING'})
            for job in ids:
                self.assertEqual(lab.api('POST', f'/jobs/{job}/cancel').status, 200)


class Many(Case):
    """Thousands that have ended cost nothing but the place of their rows."""

    COUNT = 3000

    def memory_kib(self, lab):
        with open(f'/proc/{lab.daemon.pid}/status', encoding='ascii') as file:
            return next(int(line.split()[1]) for line in file if line.startswith('VmRSS'))

    def test_pages(self):
        with self.lab(boards=2) as lab:
            self.run_jobs(lab, 1)
            lab.stop()
            finished.multiply(lab.state, finished.template(lab, 1), range(2, self.COUNT + 1),
                              dut=lambda number: f'b{number % 2 + 1}',
                              owner=lambda number: 'alice' if number % 100 == 0 else 'bob',
                              name=lambda number: f'job {number}')
            lab.start()
            self.assertIn(f'{self.COUNT - 1} ended jobs had no row', lab.log)
            lab.stop()
            lab.start()
            before = self.memory_kib(lab)
            everything = [str(number) for number in range(1, self.COUNT + 1)]
            ran = lab.dut('jobs', '--all')
            self.assertEqual([line.split('\t')[0] for line in ran.out.splitlines()], everything)
            ran = lab.dut('jobs', '--state', 'ENDED', '--json')
            self.assertEqual([json.loads(line)['id'] for line in ran.out.splitlines()], everything)
            # What a sanitizer keeps of what was freed is not meant.
            if os.path.exists(HELD_DISK):
                self.assertLess(self.memory_kib(lab) - before, 8192)
            self.check_filters(lab)
            self.check_pages_while_jobs_end(lab)
            self.assertEqual(lab.get('/jobs/77')['name'], 'job 77')
            self.assertEqual(lab.api('GET', f'/jobs/{self.COUNT * 2}').status, 404)
            self.assertEqual(lab.api('POST', '/jobs/77/cancel').status, 409)
            self.assertEqual(lab.get('/status')['jobs_unfinished'], 0)

    def check_filters(self, lab):
        def ids(query):
            return [int(job['id']) for job in lab.get('/jobs?' + query)['jobs']]
        self.assertEqual(ids('limit=3'), [self.COUNT, self.COUNT - 1, self.COUNT - 2])
        self.assertEqual(ids('limit=3&dut=b2&before=100'), [99, 97, 95])
        self.assertEqual(ids('owner=alice&before=301'), [300, 200, 100])
        self.assertEqual(ids('owner=alice&dut=b1&after=100&limit=2'), [200, 300])
        self.assertEqual(ids('owner=alice&dut=b2'), [])
        self.assertEqual(ids('after=0&limit=2'), [1, 2])
        self.assertEqual(ids('state=RUNNING'), [])
        self.assertEqual(lab.api('GET', '/jobs?limit=1001').status, 400)
        self.assertEqual(lab.api('GET', '/jobs?after=x').status, 400)

    def check_pages_while_jobs_end(self, lab):
        seen, before = [], self.COUNT + 1
        while before > self.COUNT - 200:
            page = lab.get(f'/jobs?limit=100&before={before}')['jobs']
            seen += [int(job['id']) for job in page]
            before = seen[-1]
            lab.run_job(SHORT, 'b1')
            lab.await_board('b1', 'IDLE')
        self.assertEqual(seen, list(range(self.COUNT, self.COUNT - len(seen), -1)))


class Boards(Case):
    def test_many_begin_while_dutd_serves(self):
        """A job that comes before its board was looked at runs like any other."""
        with self.lab(boards=80) as lab:
            jobs = [lab.submit_ok(SHORT, board) for board in ('b80', 'b79', 'b1')]
            for job in jobs:
                self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')

            def are_known():
                return all(dut['state'] == 'IDLE' and dut['power']['state'] == 'OFF'
                           for dut in lab.get('/duts')['duts'].values())
            await_true(are_known, 'all boards to be looked at')
            self.assertEqual({dut['consoles'][0]['state']
                              for dut in lab.get('/duts')['duts'].values()}, {'idle'})


class Retention(Case):
    def kept(self, lab):
        return sorted(number for number, job in self.jobs(lab).items() if not job['pruned'])

    def test_by_age(self):
        with self.lab() as lab:
            self.run_jobs(lab, 1)
            lab.stop()
            now_us = int(time.time() * 1000000)
            finished.multiply(lab.state, finished.template(lab, 1), range(2, 102), log=b'old\n',
                              ended_us=now_us - 3 * DAY_US)
            finished.multiply(lab.state, finished.template(lab, 1), range(102, 105), log=b'new\n',
                              ended_us=now_us - DAY_US)
            lab.configure({'limits': {'kept_age': '2d'}})
            lab.start()
            await_true(lambda: self.kept(lab) == [1, 102, 103, 104], 'the old ones to go')
            self.assertEqual(lab.api('GET', '/jobs/103/log').body, b'new\n')
            self.assertEqual(lab.api('GET', '/jobs/50/log').status, 410)

            def files():
                return sorted(name for name in os.listdir(os.path.join(lab.state, 'jobs'))
                              if name.isdigit() or name.startswith('.'))
            await_true(lambda: files() == ['1', '102', '103', '104'], 'their files to go')

    def test_by_size(self):
        with self.lab() as lab:
            self.run_jobs(lab, 1)
            lab.stop()
            finished.multiply(lab.state, finished.template(lab, 1), range(2, 12),
                              log=bytes(100000))
            lab.configure({'limits': {'kept_size': '450KiB'}})
            lab.start()
            await_true(lambda: self.kept(lab) == [8, 9, 10, 11], 'the old ones to go')
            # What ends from here on counts as well.
            for _ in range(6):
                lab.run_job(SHORT, 'b1')
                lab.await_board('b1', 'IDLE')
            await_true(lambda: 8 not in self.kept(lab), 'the next one to go')
            lab.stop()
            lab.start()
            self.assertNotIn(8, self.kept(lab))
            self.assertIn(17, self.kept(lab))

    def test_rows_have_a_bound_of_their_own(self):
        with self.lab(limits={'kept_jobs': 2, 'kept_records': 3}) as lab:
            self.run_jobs(lab, 8)
            await_true(lambda: sorted(self.jobs(lab)) == [4, 5, 6, 7, 8], 'the oldest to go')
            self.assertEqual(self.kept(lab), [7, 8])
            self.assertEqual(lab.api('GET', '/jobs/3').status, 404)

    def test_files_that_somebody_has_removed(self):
        with self.lab() as lab:
            self.run_jobs(lab, 2)
            lab.stop()
            os.unlink(os.path.join(lab.state, 'jobs', '1.json'))
            shutil.rmtree(os.path.join(lab.state, 'jobs', '1'))
            lab.start()
            self.assertIn('the files of 1 ended jobs are gone: their records stay', lab.log)
            self.assertEqual(self.kept(lab), [2])


class Disk(Case):
    """Slow, or full: what is said is true all the same, and nobody else waits."""

    def test_one_that_does_not_answer(self):
        if not os.path.exists(HELD_DISK):
            self.skipTest('a program with a sanitizer takes no library before it')
        with Lab() as lab:
            held = lab.path('held')
            lab.daemon.environment.update(LD_PRELOAD=HELD_DISK, DUT_HELD_DISK=held)
            lab.configure({})
            for board in ('b1', 'b2'):
                lab.sim(board, SLOW)
            lab.start()
            running = lab.submit_ok(SLOW_JOB, 'b1')
            console = lab.console('b1')
            answers = []
            thread = threading.Thread(
                target=lambda: answers.append(lab.submit(SLOW_JOB, 'b2')))
            with open(held, 'w', encoding='ascii'):
                pass
            try:
                thread.start()
                # The loop goes on: the console, the power, what is in memory.
                console.read_until(b'the end')
                await_true(lambda: lab.board_state('b1')['power']['state'] == 'OFF', 'b1 off')
                self.assertEqual(lab.get(f'/jobs/{running}')['state'], 'RUNNING')
                self.assertEqual(answers, [])
            finally:
                os.unlink(held)
            thread.join()
            self.assertEqual(answers[0].status, 201, answers)
            self.assertEqual(lab.await_job(running)['status'], 'PASS')
            self.assertEqual(lab.await_job(answers[0].json['id'])['status'], 'PASS')

    def test_one_that_is_full_when_jobs_end(self):
        with SmallLab(leftovers_allowed=True) as lab:
            lab.configure({'limits': {'free_space': 0}})
            lab.sim('b1', SLOW)
            lab.start()
            self.assertEqual(lab.run_job(SLOW_JOB, 'b1')['status'], 'PASS')
            lab.await_board('b1', 'IDLE')
            job = lab.submit_ok(SLOW_JOB, 'b1')
            lab.await_phase(job, 'running')
            with open(os.path.join(lab.state, 'reserve'), 'w', encoding='ascii'):
                pass
            lab.fill()
            ended = lab.await_job(job)
            self.assertEqual(sorted(self.jobs(lab)), [1, 2])
            lab.kill_daemon()
            lab.make_room()
            lab.start()
            self.assertEqual(lab.get(f'/jobs/{job}')['status'], ended['status'])
            self.assertEqual(sorted(self.jobs(lab)), [1, 2])


if __name__ == '__main__':
    unittest.main()
