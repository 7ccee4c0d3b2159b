# SPDX-License-Identifier: MIT
"""dut against a fake daemon: the verbs that show or fetch what grows."""

import os
import signal
import socket
import unittest

from tests.support.cli import BOARD, PATIENCE, CliCase, FakeJob, tar_of
from tests.support.fakedutd import Answer, Pieces


class Results(CliCase):
    def test_they_go_to_a_folder_of_the_jobs_name(self):
        FakeJob(self.fake).end()
        self.assert_said(self.dut('results', '17'), 0, 'results of job 17 are in job-17')
        self.assertEqual(self.read('job-17/console.log'), b'hello\r\n')

    def test_files_are_replaced_and_others_stay(self):
        FakeJob(self.fake).end()
        self.write('out/deep/console.log', 'old')
        self.write('out/deep/mine', 'mine')
        self.assertEqual(self.dut('results', '17', '--output', 'out/deep').rc, 0)
        self.assertEqual(self.read('out/deep/console.log'), b'hello\r\n')
        self.assertEqual(self.read('out/deep/mine'), b'mine')
        self.assertEqual(sorted(os.listdir(self.path('out/deep'))),
                         ['console.log', 'mine', 'result.json'])

    def test_a_hostile_tar_is_refused(self):
        job = FakeJob(self.fake)
        job.results = tar_of({'good': b'', '../evil': b''})
        job.end()
        ran = self.dut('results', '17')
        self.assertEqual(ran.rc, 70, ran)
        self.assertIn("results of job 17: entry '../evil' leaves the folder", ran.err)
        self.assertEqual(os.listdir(self.path('job-17')), [])
        self.assertFalse(os.path.exists(self.path('evil')))

    def test_a_job_that_is_not_there_leaves_no_folder(self):
        self.assert_said(self.dut('results', '18'), 68, 'there is no /jobs/18')
        self.assertFalse(os.path.exists(self.path('job-18')))

    def test_a_download_that_breaks_off_leaves_nothing(self):
        FakeJob(self.fake).end()
        half = Pieces(b'x' * 1000)
        half.break_off()
        self.fake.on('GET', '/jobs/17/results', Answer(half))
        self.assertEqual(self.dut('results', '17').rc, 69)
        self.assertEqual(os.listdir(self.path('job-17')), [])

    def test_a_folder_that_cannot_be(self):
        FakeJob(self.fake).end()
        ran = self.dut('results', '17', '--output', 'job.yml/x')
        self.assertEqual(ran.rc, 74, ran)
        self.assertIn("results folder 'job.yml/x'", ran.err)

    def test_wrong_inputs(self):
        self.assert_usage('results', text='too few arguments')
        self.assert_usage('results', 'bbb-1', text='is no id of a job')
        self.assert_usage('results', '17', '--output', text='--output needs DIR')
        self.assert_usage('results', '17', '--output=', text='--output is empty')
        self.assert_usage('results', '17', 'x', text='one argument too many')


class Log(CliCase):
    RAW = bytes(range(256))

    def test_a_job_raw(self):
        self.fake.on('GET', '/jobs/17/log', Answer(self.RAW))
        ran = self.dut('log', '17')
        self.assertEqual((ran.rc, ran.raw, ran.err), (0, self.RAW, ''))
        self.assertEqual(self.fake.requests[0].query, {})

    def test_following_a_job_shows_each_piece_at_once(self):
        pieces = Pieces()
        self.fake.on('GET', '/jobs/17/log', Answer(pieces))
        process = self.start('log', '17', '--follow')
        for piece in (b'a', self.RAW, b'\x1b[31m'):
            pieces.put(piece)
            self.assertEqual(process.stdout.read(len(piece)), piece)
        pieces.end()
        self.assertEqual(self.finish(process).rc, 0)
        self.assertEqual(self.fake.requests[0].query, {'follow': '1'})

    def test_a_board_to_where_it_is_now(self):
        self.fake.on('GET', '/dut/bbb-1', {'duts': {'bbb-1': BOARD}})
        live = Pieces(b'3456', b'789', b'01 what comes later')
        self.fake.on('GET', '/dut/bbb-1/console', Answer(live, headers={'Console-Offset': '3'}))
        ran = self.dut('log', 'bbb-1')
        self.assertEqual((ran.rc, ran.raw, ran.err), (0, b'345678901', ''))
        self.assertEqual(self.fake.requests[1].query, {'offset': '-65536'})
        live.end()

    def test_a_board_whose_past_is_gone_shows_nothing(self):
        live = Pieces()
        self.fake.on('GET', '/dut/bbb-1', {'duts': {'bbb-1': BOARD}})
        self.fake.on('GET', '/dut/bbb-1/console', Answer(live, headers={'Console-Offset': '12'}))
        self.assertEqual(self.dut('log', 'bbb-1').raw, b'')
        live.end()

    def test_a_board_that_never_said_a_word(self):
        silent = {**BOARD, 'consoles': [{'name': 'main', 'state': 'open', 'offset': 0}]}
        self.fake.on('GET', '/dut/bbb-1', {'duts': {'bbb-1': silent}})
        self.assertEqual(self.dut('log', 'bbb-1').raw, b'')

    def test_another_console(self):
        two = {**BOARD, 'consoles': BOARD['consoles'] + [{'name': 'bmc', 'offset': 2}]}
        self.fake.on('GET', '/dut/bbb-1', {'duts': {'bbb-1': two}})
        self.fake.on('GET', '/dut/bbb-1/console', Answer(b'abc', headers={'Console-Offset': '0'}))
        self.assertEqual(self.dut('log', 'bbb-1/bmc').raw, b'ab')
        self.assertEqual(self.fake.requests[1].query, {'offset': '-65536', 'name': 'bmc'})
        self.assert_said(self.dut('log', 'bbb-1/x'), 68, "bbb-1 has no console 'x'")

    def test_following_a_board_ends_with_a_signal(self):
        live = Pieces(b'here')
        self.fake.on('GET', '/dut/bbb-1/console', Answer(live, headers={'Console-Offset': '8'}))
        process = self.start('log', 'bbb-1', '--follow')
        self.assertEqual(process.stdout.read(4), b'here')
        process.send_signal(signal.SIGINT)
        self.assertEqual((self.finish(process).rc, len(self.fake.requests)), (130, 1))
        live.end()

    def test_a_reader_that_stops_does_not_stop_the_signal(self):
        flood = Pieces(*[b'x' * 65536] * 200)
        self.fake.on('GET', '/jobs/17/log', Answer(flood))
        process = self.start('log', '17', '--follow')
        self.assertEqual(process.stdout.read(10), b'x' * 10)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 130)
        flood.end()

    def test_a_slow_reader_gets_everything(self):
        data = os.urandom(3000000)
        self.fake.on('GET', '/jobs/17/log', Answer(data))
        process = self.start('log', '17')
        got = b''
        while chunk := process.stdout.read1(4096):
            got += chunk
        self.assertEqual(self.finish(process).rc, 0)
        self.assertEqual(got, data)

    def test_a_reader_that_leaves_is_no_failure(self):
        flood = Pieces(*[b'x' * 65536] * 200)
        self.fake.on('GET', '/jobs/17/log', Answer(flood))
        process = self.start('log', '17', '--follow')
        self.assertEqual(process.stdout.read(10), b'x' * 10)
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(process.stderr.read(), b'')
        flood.end()

    def test_a_file_and_a_socket_as_stdout(self):
        self.fake.on('GET', '/jobs/17/log', Answer(self.RAW * 10000))
        with open(self.path('out'), 'wb') as out:
            self.assertEqual(self.finish(self.start('log', '17', stdout=out)).rc, 0)
        self.assertEqual(self.read('out'), self.RAW * 10000)

        ours, theirs = socket.socketpair()
        process = self.start('log', '17', stdout=theirs)
        theirs.close()
        got = b''
        while chunk := ours.recv(100000):
            got += chunk
        ours.close()
        self.assertEqual(self.finish(process).rc, 0)
        self.assertEqual(got, self.RAW * 10000)

    def test_stdout_stays_blocking_for_others(self):
        self.fake.on('GET', '/jobs/17/log', Answer(b'x'))
        process = self.start('log', '17')
        os.set_blocking(process.stdout.fileno(), True)
        read, write = os.pipe()
        self.finish(self.start('log', '17', stdout=write))
        self.assertTrue(os.get_blocking(write))
        os.close(read)
        os.close(write)
        self.finish(process)

    def test_a_daemon_that_dies_in_the_middle(self):
        self.fake.on('GET', '/jobs/17/log', Answer(Pieces(b'half')))
        process = self.start('log', '17', '--follow', '--reconnect', '0')
        self.assertEqual(process.stdout.read(4), b'half')
        self.fake.die()
        ran = self.finish(process)
        self.assertEqual(ran.rc, 69, ran)
        self.assertIn(f'dut: lost the daemon at {self.socket}', ran.err)

    def test_wrong_inputs(self):
        self.assert_usage('log', text='which DUT?')
        self.assert_usage('log', '17', '18', text='one argument too many')
        self.assert_usage('log', 'bbb-1/', text="'bbb-1/' is not DUT or DUT/NAME")
        self.assert_usage('log', '/main', text="'/main' is not DUT or DUT/NAME")
        self.assert_usage('log', '17', '--json', text='there is no --json of it')
        self.assert_usage('log', '17', '--follow=yes', text='--follow takes no value')
        self.assert_said(self.dut('log', '18'), 68, 'there is no /jobs/18/log')


class Console(CliCase):
    def test_it_is_raw_and_live_until_a_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            live = Pieces()
            self.fake.on('GET', '/dut/bbb-1/console', lambda _: Answer(live))
            process = self.start('console', '--read-only', 'bbb-1')
            live.put(b'\x00\xff\x1b')
            self.assertEqual(process.stdout.read(3), b'\x00\xff\x1b')
            process.send_signal(number)
            ran = self.finish(process)
            self.assertEqual((ran.rc, ran.err), (0, ''), ran)
            live.end()
        self.assertEqual(self.fake.requests[0].query, {})

    def test_ctrl_c_at_a_terminal(self):
        live = Pieces(b'hello\r\n')
        self.fake.on('GET', '/dut/vm-1/console', Answer(live))
        terminal = self.terminal('console', 'vm-1/bmc', '--read-only')
        terminal.expect('hello')
        terminal.type('\x03')
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(self.fake.requests[0].query, {'name': 'bmc'})
        live.end()

    def test_the_board_of_the_environment(self):
        self.fake.on('GET', '/dut/vm-1/console', Answer(b'x'))
        ran = self.dut('console', '--read-only', env={'DUT_BOARD': 'vm-1'})
        self.assertEqual((ran.rc, ran.out), (69, 'x'))
        self.assertEqual(ran.err, 'dut: the daemon has ended the console\n')

    def test_a_signal_that_was_ignored_stays_ignored(self):
        live = Pieces(b'x')
        self.fake.on('GET', '/dut/bbb-1/console', Answer(live))
        process = self.start('console', '--read-only', 'bbb-1',
                             preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.assertEqual(process.stdout.read(1), b'x')
        process.send_signal(signal.SIGHUP)
        live.put(b'still here')
        self.assertEqual(process.stdout.read(10), b'still here')
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process).rc, 0)
        live.end()

    def test_wrong_inputs(self):
        self.assert_usage('console', '--read-only', text='which DUT?')
        self.assert_usage('console', '--read-only', 'a', 'b', text='one argument too many')
        self.assert_usage('console', '--read-only', 'a/b/c', text='is not DUT or DUT/NAME')
        self.assert_usage('console', '--read-only', 'a', '--json', text='there is no --json')
        self.assert_usage('console', '--readonly', 'a', text="did you mean '--read-only'?")
        self.assert_said(self.dut('console', '--read-only', 'a'), 68,
                         'there is no /dut/a/console')


if __name__ == '__main__':
    unittest.main()
