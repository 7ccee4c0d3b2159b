# SPDX-License-Identifier: MIT
"""What a service manager holds for dutd: its socket, and the consoles while no dutd runs."""

import os
import socket
import unittest

from tests.process.test_kill import whole_console
from tests.support import processes
from tests.support.harness import Lab, await_true
from tests.support.manager import ManagedDaemon

TICKS = 'every 30ms send "tick\\r\\n"\n'
JOB = 'console_patterns: {session_end: "all done"}\n'


class Kept(unittest.TestCase):
    def lab(self, script=TICKS):
        lab = Lab(leftovers_allowed=True)
        lab.sim('b1', script, options={'sent': lab.path('sent.bin')})
        lab.daemon = ManagedDaemon(lab.daemon)
        self.addCleanup(lab.daemon.close)
        return lab

    def sent(self, lab):
        with open(lab.path('sent.bin'), 'rb') as file:
            return file.read()

    def await_more(self, lab, count=5):
        size = len(self.sent(lab))
        await_true(lambda: len(self.sent(lab)) >= size + count * len(b'tick\r\n'), 'it says more')

    def power(self, lab, state):
        self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': state}).status, 200)

    def await_log(self, lab, wanted):
        with lab.console('b1', offset=0) as stream:
            return stream.read_until(wanted)

    def assert_nothing_lost(self, lab):
        """Compares what the board has said with what was logged, when all of it is read."""
        self.power(lab, 'off')
        self.assertEqual(whole_console(self, lab, 'b1'), self.sent(lab))
        events = [entry['event'] for entry in lab.record('b1')]
        self.assertEqual((events.count('on'), events.count('off')), (1, 1))
        self.assertEqual(lab.record('b1')[-1]['dropped'], 0)

    def test_an_idle_console_loses_nothing_while_no_dutd_runs(self):
        for end in ('kill_daemon', 'stop'):
            with self.subTest(end), self.lab() as lab:
                lab.start()
                self.power(lab, 'on')
                self.await_log(lab, b'tick')
                for _ in range(3):
                    getattr(lab, end)()
                    self.await_more(lab)
                    lab.start()
                self.assertEqual(len(lab.daemon.store), 2, lab.daemon.store)
                self.assert_nothing_lost(lab)

    def test_what_its_reader_had_in_its_hands_is_not_lost(self):
        """dutd is killed between the two steps of a splice."""
        with self.lab('at 10ms send "hello\\r\\n"\n') as lab:
            lab.start()
            self.power(lab, 'on')
            self.await_log(lab, b'hello\r\n')
            lab.kill_daemon()
            with open(f'/proc/self/fd/{lab.daemon.kept("pipe", "b1")}', 'wb') as pipe:
                pipe.write(b'in its hands\r\n')
            lab.start()
            data = self.await_log(lab, b'hands\r\n')
            self.assertEqual(data, b'hello\r\nin its hands\r\n')

    def test_last_words(self):
        """The board is gone, with words that nobody has read."""
        with self.lab() as lab:
            lab.start()
            self.power(lab, 'on')
            self.await_log(lab, b'tick')
            lab.kill_daemon()
            self.await_more(lab)
            board = [pid for pid, line in lab.processes().items() if 'dut-sim' in line]
            processes.kill(board[0])
            self.assertTrue(processes.await_end(board[0], 30))
            lab.start()
            await_true(lambda: whole_console(self, lab, 'b1') == self.sent(lab), 'all is read')
            self.power(lab, 'on')
            self.power(lab, 'off')
            self.assertEqual(whole_console(self, lab, 'b1'), self.sent(lab))

    def test_both_readers_of_a_job_are_killed(self):
        with self.lab(TICKS) as lab:
            lab.start()
            job = lab.submit_ok(JOB, 'b1')
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            lab.kill_executor('b1')
            with open(f'/proc/self/fd/{lab.daemon.kept("pipe", "b1")}', 'wb') as pipe:
                pipe.write(b'in its hands\r\n')
            lab.start()
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('INCOMPLETE', 'executor_killed'))
            lab.await_board('b1', 'IDLE')
            self.assertTrue(lab.results(job)['console.log'].endswith(b'in its hands\r\n'))
            self.assertEqual(whole_console(self, lab, 'b1').replace(b'in its hands\r\n', b''),
                             self.sent(lab))

    def test_a_job_goes_on_and_its_console_is_never_opened_anew(self):
        with self.lab(TICKS + 'at 2s send "all done\\r\\n"\n') as lab:
            lab.start()
            job = lab.submit_ok(JOB, 'b1')
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            self.await_more(lab)
            lab.start()
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')
            self.assertEqual(whole_console(self, lab, 'b1'), self.sent(lab))
            # Once by dutd at first, and once after the off, with which it hangs up.
            lab.stop()
            events = [entry['event'] for entry in lab.record('b1')]
            self.assertEqual(events[:events.index('off')].count('connect'), 1, events)

    def test_what_belongs_to_no_board_is_let_go(self):
        with self.lab() as lab, open('/dev/null', 'rb') as null:
            lab.daemon.store = {'console/gone/main/7': os.dup(null.fileno()),
                                'stored': os.dup(null.fileno())}
            lab.start()
            self.assertNotIn('console/gone/main/7', lab.daemon.store)
            self.assertNotIn('stored', lab.daemon.store)
            self.assertIn("kept 'console/gone/main/7', which belongs to no board", lab.log)
            # A number is never given twice.
            self.assertTrue(all(int(name.rsplit('/', 1)[1]) > 7 for name in lab.daemon.store))

    def test_without_a_store_nothing_is_sent(self):
        with self.lab() as lab:
            lab.daemon.environment = dict(lab.daemon.environment)
            lab.daemon.command = ['env', 'FDSTORE=0', *lab.daemon.command]
            lab.start()
            self.assertEqual(lab.daemon.store, {})


class Sockets(unittest.TestCase):
    def lab(self, *sockets):
        lab = Lab()
        lab.sim('b1', TICKS)
        lab.daemon = ManagedDaemon(lab.daemon)
        self.addCleanup(lab.daemon.close)
        for number, (name, kind, listens) in enumerate(sockets):
            made = socket.socket(socket.AF_UNIX, kind)
            self.addCleanup(made.close)
            made.bind(lab.socket if number == 0 else lab.path(f'socket-{number}'))
            if listens:
                made.listen()
            lab.daemon.sockets.append((name, made.fileno()))
        return lab

    def test_one_that_the_manager_listens_on(self):
        for name in ('dutd.socket', 'unknown'):
            with self.subTest(name), self.lab((name, socket.SOCK_STREAM, True)) as lab:
                before = os.stat(lab.socket)
                lab.start()
                self.assertEqual(lab.get('/dut/b1')['id'], 'b1')
                lab.stop()
                lab.start()
                self.assertEqual(lab.get('/dut/b1')['id'], 'b1')
                self.assertEqual(os.stat(lab.socket).st_ino, before.st_ino)

    def refused(self, text, *sockets):
        with self.lab(*sockets) as lab:
            with self.assertRaises(AssertionError):
                lab.start()
            self.assertEqual(lab.daemon.process.wait(30), 74)
            lab.daemon.process = None
            self.assertIn(text, lab.log)

    def test_others_are_refused(self):
        self.refused("hands in 'dutd.socket', which is no listening unix stream socket",
                     ('dutd.socket', socket.SOCK_DGRAM, False))
        self.refused("hands in 'unknown', which is no listening unix stream socket",
                     ('unknown', socket.SOCK_STREAM, False))
        self.refused("hands in more than one socket: 'dutd.socket' and 'other.socket'",
                     ('dutd.socket', socket.SOCK_STREAM, True),
                     ('other.socket', socket.SOCK_STREAM, True))


if __name__ == '__main__':
    unittest.main()
