# SPDX-License-Identifier: MIT
"""A disk with a floor of free space, and one that is full to the last byte."""

import gzip
import http.client
import json
import os
import socket
import unittest

from tests.support.harness import Lab, await_true, form_of, tar_of
from tests.support.smalldisk import MIB, SmallLab, enter_namespace

FLOOR = {'limits': {'free_space': '8MiB'}}
NO_FLOOR = {'limits': {'free_space': 0}}
BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SHORT = 'console_patterns: {session_end: Linux}\n'
SLOW = 'at 10ms send "begin\\r\\n"\nevery 100ms send "tick\\r\\n"\nat 3s send "the end\\r\\n"\n'
SLOW_JOB = 'console_patterns: {session_end: the end, job_success: tick}\n'


def setUpModule():
    enter_namespace()


def index_of(lab, board, name='main'):
    """(base, marks) of each idle segment, in their order."""
    folder = os.path.join(lab.state, 'duts', board, 'console', name)
    found = []
    for file in os.listdir(folder):
        if file.endswith('.idx'):
            with open(os.path.join(folder, file), encoding='utf-8') as index:
                marks = [json.loads(line.split(' ', 3)[3]) for line in index
                         if line.startswith('m ')]
            found.append((int(file[:-4]), marks))
    return sorted(found)


def gaps_of(lab, board):
    return [mark for _, marks in index_of(lab, board) for mark in marks if mark['kind'] == 'gap']


class Floor(unittest.TestCase):
    def assert_works(self, lab, board):
        """A job, from end to end."""
        self.assertEqual(lab.run_job(SHORT, board)['status'], 'COMPLETE')
        lab.await_board(board, 'IDLE')

    def test_submissions_are_refused_and_power_works(self):
        with SmallLab() as lab:
            lab.configure(FLOOR)
            lab.sim('b1', BOOT)
            lab.start()
            lab.fill(leave=4 * MIB)
            lab.stop()
            lab.start()
            self.assertIn('no job is taken: less than limits.free_space', lab.log)
            refused = lab.submit(SHORT, 'b1')
            self.assertEqual(refused.status, 507, refused)
            self.assertIn('less than limits.free_space (8 MiB) is left', refused.json['error'])
            self.assertEqual(lab.dut('run', lab.write('job.yml', SHORT), '--dut', 'b1').rc, 74)
            for verb in ('on', 'off'):
                self.assertEqual(lab.dut('power', verb, 'b1').rc, 0)
            lab.make_room()
            self.assert_works(lab, 'b1')

    def test_uploads_end_at_it(self):
        kind, form = form_of([('metadata', b'{"version": 1}'), ('job', SHORT.encode()),
                              ('job_bucket_initial_state_tarball_file', b'x')])
        head, tail = form.rsplit(b'x\r\n', 1)
        with SmallLab() as lab:
            lab.configure(FLOOR)
            lab.sim('b1', BOOT)
            lab.start()
            # One that says how long it is is refused at once; one that does not, on the way.
            refused = lab.submit(SHORT, 'b1', bucket=bytes(28 * MIB))
            self.assertEqual(refused.status, 507, refused)
            self.assertIn('would leave less than limits.free_space', refused.json['error'])

            def pieces():
                yield head
                for _ in range(28):
                    yield bytes(MIB)
                yield b'\r\n' + tail
            answer = lab.api('POST', '/jobs', pieces(),
                             {'Content-Type': kind})
            self.assertEqual(answer.status, 507, answer)
            self.assertIn('cannot store the bucket: less than limits.free_space',
                          answer.json['error'])
            await_true(lambda: lab.room() > 28 * MIB, 'the upload to go')
            self.assert_works(lab, 'b1')

    def test_a_bucket_that_unpacks_to_too_much(self):
        bomb = gzip.compress(tar_of({'zeros': bytes(40 * MIB)}))
        with SmallLab() as lab:
            lab.configure(FLOOR)
            for board in ('b1', 'b2'):
                lab.sim(board, SLOW if board == 'b2' else BOOT)
            lab.start()
            other = lab.submit_ok(SLOW_JOB, 'b2')
            job = lab.run_job(SHORT, 'b1', bucket=bomb)
            self.assertEqual((job['status'], job['reason']), ('SETUP_FAIL', 'disk'), job)
            self.assertIn('limits.free_space', job['message'])
            self.assertEqual(lab.await_job(other)['status'], 'PASS')
            self.assertGreater(lab.room(), 16 * MIB)
            lab.await_board('b1', 'IDLE')

    def test_a_download_that_is_too_much(self):
        with SmallLab() as lab:
            image = lab.write('images/large', b'')
            os.truncate(image, 100 * MIB)
            lab.configure({**FLOOR, 'api': {'file_roots': [lab.path('images')]}})
            # What deploys is a QEMU board; this one is never switched on.
            lab.board('b1', {'qemu': {'arch': 'i386', 'machine': 'pc'}})
            lab.sim('b2', SLOW)
            lab.start()
            other = lab.submit_ok(SLOW_JOB, 'b2')
            job = lab.run_job(f'deployment: {{start: {{kernel: {{url: "file://{image}"}}}}}}\n' +
                              SHORT, 'b1')
            self.assertEqual((job['status'], job['reason']), ('SETUP_FAIL', 'disk'), job)
            self.assertIn('limits.free_space', job['message'])
            self.assertEqual(lab.await_job(other)['status'], 'PASS')
            self.assertGreater(lab.room(), 16 * MIB)
            lab.await_board('b1', 'IDLE')

    def test_a_board_that_floods_ends_its_job_and_no_other(self):
        with SmallLab() as lab:
            lab.configure(FLOOR)
            lab.sim('b1', 'at 10ms flood max')
            lab.sim('b2', SLOW)
            lab.start()
            other = lab.submit_ok(SLOW_JOB, 'b2')
            job = lab.run_job('console_patterns: {session_end: never}\n', 'b1')
            self.assertEqual((job['status'], job['reason']), ('INCOMPLETE', 'disk'), job)
            self.assertEqual(job['verdict'], 'lab')
            self.assertIn('limits.free_space (8 MiB)', job['message'])
            self.assertEqual(lab.await_job(other)['status'], 'PASS')
            # What is kept for all was not used up.
            self.assertGreater(lab.room(), 2 * MIB)
            lab.await_board('b1', 'IDLE')
            with open(lab.job_file(job['id']) + '.json', encoding='utf-8') as file:
                self.assertEqual(json.load(file)['reason'], 'disk')


class Gaps(unittest.TestCase):
    """An idle console on a disk without room: what is lost is counted and marked."""

    def flood_over(self, lab, fill, text):
        lab.sim('b1', 'at 10ms flood 400000 for 4s\nat 5s send "at last\\r\\n"')
        lab.start()
        self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
        stream = lab.console('b1', offset=0)
        await_true(lambda: len(stream.data) > 100000 or stream.read_some() and False,
                   'the flood')
        fill()
        await_true(lambda: text in lab.log, 'the gap to begin')
        before = lab.board_state('b1')['consoles'][0]['offset']
        await_true(lambda: lab.board_state('b1')['consoles'][0]['offset'] > before + 200000,
                   'the gap to grow')
        lab.make_room()
        await_true(lambda: gaps_of(lab, 'b1'), 'the mark of the gap')
        gap, = gaps_of(lab, 'b1')
        self.assertEqual(gap['cause'], 'disk')
        # Every byte of the board is in a log or in the gap; offsets go on behind it.
        with self.assertRaises(http.client.IncompleteRead):
            stream.read_until(b'at last\r\n')
        self.assertEqual(len(stream.data), gap['from'])
        with lab.console('b1', offset=gap['from']) as behind:
            self.assertEqual(int(behind.headers['Console-Offset']), gap['from'] + gap['length'])
            behind.read_until(b'at last\r\n')
            sent = gap['from'] + gap['length'] + len(behind.data)
        self.assertEqual(lab.board_state('b1')['consoles'][0]['offset'], sent)
        self.assertEqual(lab.log.count('lost until there is room'), 1)
        self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)
        off = [entry for entry in lab.record('b1') if entry['event'] == 'off'][-1]
        self.assertEqual((off['total'], off['dropped']), (sent, 0))

    def test_below_the_floor(self):
        with SmallLab() as lab:
            lab.configure(FLOOR)
            self.flood_over(lab, lambda: lab.fill(leave=7 * MIB), 'limits.free_space (8 MiB)')

    def test_without_a_byte(self):
        with SmallLab() as lab:
            lab.configure(NO_FLOOR)
            self.flood_over(lab, lab.fill, 'No space left on device')

    def test_a_job_that_begins_in_a_gap_has_its_own_offsets(self):
        script = 'at 10ms flood 100000\non "x" silent\n'
        with SmallLab() as lab:
            lab.configure(FLOOR)
            lab.sim('b1', script + 'boot 2\nat 10ms send "Linux\\r\\n"\n')
            lab.start()
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            lab.fill(leave=7 * MIB)
            await_true(lambda: 'lost until there is room' in lab.log, 'the gap')
            before = lab.board_state('b1')['consoles'][0]['offset']
            await_true(lambda: lab.board_state('b1')['consoles'][0]['offset'] > before + 50000,
                       'the gap to grow')
            self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)
            end = lab.board_state('b1')['consoles'][0]['offset']
            lab.make_room()
            job = lab.run_job('console_patterns: {session_end: Linux}\n', 'b1')
            self.assertEqual(job['console_base'], end)
            gap, = gaps_of(lab, 'b1')
            self.assertEqual(gap['from'] + gap['length'], end)
            lab.await_board('b1', 'IDLE')


class Full(unittest.TestCase):
    """Not a byte is left, at each step of a job's way."""

    def test_at_the_commit_of_a_submission(self):
        with SmallLab() as lab:
            lab.configure(NO_FLOOR)
            lab.sim('b1', BOOT)
            lab.start()
            lab.fill()
            refused = lab.submit(SHORT, 'b1')
            self.assertEqual(refused.status, 507, refused)
            lab.await_board('b1', 'IDLE')
            lab.make_room()
            self.assertEqual(lab.run_job(SHORT, 'b1')['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')
            self.assertEqual([job['state'] for job in lab.get('/jobs')['jobs']],
                             ['ENDED'] * len(lab.get('/jobs')['jobs']))

    def test_a_dut_is_retired_all_the_same(self):
        """Its flags are a record, and have the reserve; what was refused has not happened."""
        with SmallLab() as lab:
            lab.configure(NO_FLOOR)
            lab.sim('b1', BOOT)
            lab.start()
            lab.await_board('b1', 'IDLE')
            lab.fill()
            self.assertEqual(lab.api('PATCH', '/dut/b1', {'is_retired': True}).status, 200)
            os.truncate(os.path.join(lab.state, 'reserve'), 0)
            lab.fill()
            refused = lab.api('PATCH', '/dut/b1', {'is_retired': False})
            self.assertEqual(refused.status, 507, refused)
            self.assertIn('b1: the change is not on disk', refused.json['error'])
            self.assertEqual(lab.board_state('b1')['state'], 'RETIRED')
            lab.kill_daemon()
            lab.make_room()
            lab.start()
            self.assertEqual(lab.board_state('b1')['state'], 'RETIRED')
            self.assertEqual(lab.api('PATCH', '/dut/b1', {'is_retired': False}).status, 200)
            lab.await_board('b1', 'IDLE')

    def test_while_a_job_runs(self):
        """Log, index and events cannot grow; the end can, and is on disk when there is room."""
        with SmallLab() as lab:
            lab.configure(NO_FLOOR)
            lab.sim('b1', 'at 10ms send "begin\\r\\n"\nevery 50ms send "tick tick tick\\r\\n"')
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: never}\n', 'b1')
            lab.await_phase(job, 'running')
            lab.fill()
            self.assertEqual(lab.room(), 0)
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason'], ended['verdict']),
                             ('INCOMPLETE', 'disk', 'lab'), ended)
            # The reserve holds more than one record.
            self.assertGreater(os.path.getsize(os.path.join(lab.state, 'reserve')), MIB // 2)
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            self.assertEqual(lab.result(job)['reason'], 'disk')
            lab.make_room()
            await_true(lambda: self.record(lab, job)['state'] == 'ENDED', 'the record')
            self.assertEqual(lab.run_job('console_patterns: {session_end: tick}\n', 'b1')['status'],
                             'COMPLETE')
            lab.await_board('b1', 'IDLE')
            # What could not be done was said once, not every second.
            self.assertLess(lab.log.count('\n'), 40)

    @staticmethod
    def record(lab, job):
        with open(lab.job_file(job) + '.json', encoding='utf-8') as file:
            return json.load(file)

    def test_a_cancel_comes_through(self):
        with SmallLab() as lab:
            lab.configure(NO_FLOOR)
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: never}\n', 'b1')
            lab.await_phase(job, 'running')
            lab.fill()
            lab.api('POST', f'/jobs/{job}/cancel', {'why': 'the disk is full'})
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            lab.make_room()
            await_true(lambda: self.record(lab, job)['state'] == 'ENDED', 'the record')

    def test_dutd_starts_and_takes_over_what_was_left(self):
        with SmallLab(leftovers_allowed=True) as lab:
            lab.configure(NO_FLOOR)
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: never}\n', 'b1')
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            pid = lab.executor_pid('b1')
            lab.fill()
            lab.start()
            lab.kill_executor('b1')
            self.assertIsNotNone(pid)
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('INCOMPLETE', 'executor_killed'))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            lab.make_room()
            await_true(lambda: self.record(lab, job)['state'] == 'ENDED', 'the record')


if __name__ == '__main__':
    unittest.main()
