# SPDX-License-Identifier: MIT
"""dut reserve, release and kick: what a person sees, and what a command has of a board."""

import json
import os
import pty
import select
import signal
import subprocess
import time
import unittest

from tests.support.harness import DUT, PATIENCE, Lab, await_true

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SHORT = 'console_patterns: {session_end: Linux version}\n'


def setUpModule():
    # A shell that runs tests in the background has it ignored, and a trap could not be set.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lab_of(*names, client='60s'):
    lab = Lab()
    lab.configure({'timeouts': {'client': client}})
    for name in names:
        lab.sim(name, BOOT, tags=['x'])
    return lab.start()


def reserved(lab, board):
    return lab.board_state(board)['reservation']


class ForATime(unittest.TestCase):
    def test_the_name_is_all_that_goes_to_stdout(self):
        with lab_of('b1', 'b2') as lab:
            self.assertEqual(tuple(lab.dut('reserve', 'b1', '--why', 'usb', '--for', '10m')),
                             (0, 'b1\n', ''))
            self.assertTrue(590 < reserved(lab, 'b1')['seconds_left'] <= 600)
            ran = lab.dut('reserve', '--tag', 'x', '--json')
            self.assertEqual((ran.rc, json.loads(ran.out)['dut']), (0, 'b2'))
            ran = lab.dut('list')
            self.assertIn('b1\tRESERVED\tx\t', ran.out)
            self.assertIn(' "usb"\t', ran.out)
            self.assertIn('  reserved     until ', lab.dut('show', 'b1').out)
            ran = lab.dut('reserve', '--tag', 'x')
            self.assertEqual((ran.rc, ran.out), (75, ''))
            self.assertRegex(ran.err, r'^dut: all 2 DUTs that fit are busy; b1 is reserved by ')
            self.assertEqual(tuple(lab.dut('power', 'on', 'b1')), (0, '', ''))
            ran = lab.dut('run', lab.write('job.yml', SHORT), '--dut', 'b1')
            self.assertEqual(ran.rc, 2, ran)
            lab.await_board('b1', 'RESERVED')
            self.assertEqual(tuple(lab.dut('release', env={'DUT_BOARD': 'b1'})), (0, '', ''))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(tuple(lab.dut('release', 'b1')),
                             (68, '', 'dut: b1 is not reserved\n'))

    def test_wrong_usage(self):
        with lab_of('b1') as lab:
            for arguments in (('reserve',), ('reserve', 'b1', 'b2'), ('reserve', 'b1', '--'),
                              ('reserve', 'b1', '--tag', 'x'), ('reserve', 'b1', '--for', 'x'),
                              ('reserve', 'b1', '--wait', 'x'), ('kick', 'b1', '--notice', 'x'),
                              ('kick', 'b1', '--notice', '1s', '--now'), ('release', 'a', 'b')):
                ran = lab.dut(*arguments)
                self.assertEqual((ran.rc, ran.out), (64, ''), arguments)
                self.assertEqual(ran.err.count('\n'), 1, ran)
            self.assertEqual(lab.dut('reserve', 'b9').rc, 68)
            self.assertEqual(lab.dut('reserve', 'b1', '--for', '2d').rc, 65)
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')

    def test_an_admin_goes_over_it_when_he_says_so(self):
        with lab_of('b1') as lab:
            lab.api('POST', '/dut/b1/reservation', {'owner': 'bob', 'why': 'usb'})
            ran = lab.dut('power', 'on', 'b1')
            self.assertEqual(ran.rc, 75)
            self.assertRegex(ran.err, r'^dut: b1 is reserved by bob \("usb"\) until ')
            self.assertEqual(lab.dut('power', 'on', 'b1', '--force').rc, 0)
            ran = lab.dut('release', 'b1')
            self.assertEqual(ran.rc, 75)
            self.assertIn("'dut kick' ends it", ran.err)
            self.assertEqual(tuple(lab.dut('kick', 'b1', '--why', 'health')), (0, '', ''))
            self.assertTrue(50 < reserved(lab, 'b1')['seconds_left'] <= 60)
            self.assertRegex(lab.dut('show', 'b1').out, r'reserved .*, ended by \S+: health\n')
            self.assertEqual(tuple(lab.dut('kick', 'b1', '--now')), (0, '', ''))
            lab.await_board('b1', 'IDLE')


class Waiting(unittest.TestCase):
    def test_it_is_said_who_has_it(self):
        with lab_of('b1') as lab:
            lab.api('POST', '/dut/b1/reservation', {'owner': 'bob', 'why': 'usb'})
            process = lab.spawn_dut('reserve', 'b1', '--wait', '10m', '--', 'echo', 'mine')
            self.assertRegex(process.stderr.readline().decode(),
                             r'^dut: b1 is reserved by bob \("usb"\) until .*; you are 1st; '
                             r'waiting up to 10m\n$')
            await_true(lambda: lab.api('POST', '/dut/b1/reservation', {}).json['place'] == 2,
                       'dut to wait')
            # It waits again when dutd is started again.
            lab.kill_daemon()
            lab.start()
            await_true(lambda: lab.api('POST', '/dut/b1/reservation', {}).json['place'] == 2,
                       'dut to wait')
            self.assertEqual(lab.dut('kick', 'b1', '--now').rc, 0)
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, out, err), (0, b'mine\n', b''))
            lab.await_board('b1', 'IDLE')

    def test_not_for_ever(self):
        with lab_of('b1') as lab:
            lab.api('POST', '/dut/b1/reservation', {'owner': 'bob'})
            ran = lab.dut('reserve', '--tag', 'x', '--wait', '500ms')
            self.assertEqual((ran.rc, ran.out), (124, ''))
            self.assertRegex(ran.err, r'waiting up to 500ms\ndut: .*; waited 500ms\n$')
            process = lab.spawn_dut('reserve', 'b1', '--wait', 'forever')
            self.assertRegex(process.stderr.readline().decode(), r'; waiting\n$')
            process.terminate()
            process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 130)


class WhileACommandRuns(unittest.TestCase):
    def run_reserve(self, lab, script, *options, **more):
        return lab.dut('reserve', 'b1', *options, '--', 'sh', '-c', script, **more)

    def start(self, lab, script, **options):
        """A command that has said `up`."""
        process = lab.spawn_dut('reserve', 'b1', '--', 'sh', '-c', script, **options)
        line = process.stdout.readline()
        if line != b'up\n':
            raise AssertionError((line, process.communicate()))
        return process

    def test_its_status_is_that_of_dut_and_the_board_is_free_after_it(self):
        with lab_of('b1') as lab:
            ran = self.run_reserve(lab, f'echo $DUT_BOARD; {DUT} power on; {DUT} power get;'
                                   ' cat; exit 5', stdin=b'typed\n', env={'DUT_BOARD': 'b9'})
            self.assertEqual(tuple(ran), (5, 'b1\nON\ntyped\n', ''))
            self.assertEqual(lab.await_board('b1', 'IDLE')['power']['state'], 'OFF')
            self.assertEqual(self.run_reserve(lab, 'kill -9 $$').rc, 137)
            lab.await_board('b1', 'IDLE')
            ran = lab.dut('reserve', '--tag', 'x', '--', 'no-such-program')
            self.assertEqual(tuple(ran), (127, '', 'dut: cannot start no-such-program: '
                                                   'No such file or directory\n'))
            lab.await_board('b1', 'IDLE')

    def test_it_has_the_files_that_dut_was_started_with_and_no_more(self):
        with lab_of('b1') as lab:
            fd = os.open('/dev/null', os.O_RDONLY)
            try:
                process = lab.spawn_dut('reserve', 'b1', '--', 'sh', '-c', 'ls /proc/self/fd',
                                        pass_fds=(fd,))
                out, _ = process.communicate(timeout=PATIENCE)
            finally:
                os.close(fd)
            # One more: ls has the folder open.
            found = set(map(int, out.split()))
            self.assertEqual(len(found), 5, out)
            self.assertTrue({0, 1, 2, fd} < found, out)

    def test_signals_go_to_it(self):
        with lab_of('b1') as lab:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                await_true(lambda: lab.board_state('b1')['state'] == 'IDLE', 'b1 to be idle')
                process = self.start(lab, 'trap "echo caught; exit 9" INT TERM HUP; echo up; '
                                     'while :; do sleep 0.05; done')
                process.send_signal(number)
                self.assertEqual(process.communicate(timeout=PATIENCE)[0], b'caught\n')
                self.assertEqual(process.returncode, 9)

    def test_a_kick_is_told_and_ends_it(self):
        with lab_of('b1') as lab:
            # The whole group, and not dut's own.
            process = self.start(lab, '(trap "echo inner" TERM; echo up; sleep 600 & wait; wait)')
            begin = time.monotonic()
            ran = lab.dut('kick', 'b1', '--notice', '1s', '--why', 'health check')
            self.assertEqual(ran.rc, 0, ran)
            out, err = process.communicate(timeout=PATIENCE)
            self.assertTrue(0.9 < time.monotonic() - begin < 9)
            self.assertEqual((process.returncode, out), (75, b'inner\n'))
            lines = err.decode().splitlines()
            self.assertRegex(lines[0],
                             r'^dut: b1: \S+ ends your reservation in 1s: health check$')
            self.assertRegex(lines[1],
                             r'^dut: b1: your reservation is ended by \S+: health check$')
            self.assertEqual(len(lines), 2, lines)
            lab.await_board('b1', 'IDLE')

    def test_its_time_may_be_limited(self):
        with lab_of('b1') as lab:
            ran = self.run_reserve(lab, 'sleep 600', '--for', '1s')
            self.assertEqual((ran.rc, ran.err),
                             (75, 'dut: b1: your reservation is over: its time has run out\n'))
            lab.await_board('b1', 'IDLE')

    def test_it_is_the_commands_alone_but_for_a_longer_one(self):
        with lab_of('b1') as lab:
            process = self.start(lab, 'echo up; read line; exit 3', stdin=subprocess.PIPE)
            ran = self.run_reserve(lab, 'echo never')
            self.assertEqual((ran.rc, ran.out), (75, ''))
            self.assertRegex(ran.err, r'^dut: b1 is reserved by ')
            process.stdin.write(b'\n')
            process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 3)
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.dut('reserve', 'b1', '--for', '10m').rc, 0)
            self.assertEqual(tuple(self.run_reserve(lab, 'echo now')), (0, 'now\n', ''))
            left = reserved(lab, 'b1')['seconds_left']
            self.assertTrue(500 < left <= 600, left)

    def test_a_dut_that_is_killed_leaves_the_board(self):
        with lab_of('b1', client='1s') as lab:
            process = self.start(lab, 'echo up; exec sleep 5')
            process.kill()
            begin = time.monotonic()
            lab.await_board('b1', 'IDLE')
            self.assertTrue(0.9 < time.monotonic() - begin < 4)

    def test_a_restart_of_dutd_does_not_matter(self):
        with lab_of('b1', client='2s') as lab:
            process = self.start(lab, 'echo up; read line; echo $line; exit 3',
                                 stdin=subprocess.PIPE)
            before = reserved(lab, 'b1')['id']
            lab.kill_daemon()
            lab.start()
            begin = time.monotonic()
            while time.monotonic() - begin < 3:
                self.assertEqual(reserved(lab, 'b1')['id'], before)
            process.stdin.write(b'hello\n')
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, out, err),
                             (3, b'hello\n',
                              b'dut: b1: the connection to the daemon is lost, trying again\n'))
            lab.await_board('b1', 'IDLE')

    def converse(self, command, environment, steps):
        """Runs a command on a terminal: when a text is seen, the next one is typed."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execvpe(command[0], command, environment)
        try:
            seen = b''
            for wanted, typed in steps:
                while wanted not in seen:
                    if not select.select([fd], [], [], PATIENCE)[0]:
                        self.fail(f'{wanted!r} not seen: {seen!r}')
                    seen += os.read(fd, 4096)
                seen = seen.partition(wanted)[2]
                os.write(fd, typed)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            pid = 0
            return status
        finally:
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            os.close(fd)

    def test_on_a_terminal_it_has_the_terminal(self):
        with lab_of('b1') as lab:
            # The terminal echoes what is typed.
            script = 'trap "echo caught" INT; echo up; read line; echo got $line'
            status = self.converse(
                [DUT, 'reserve', 'b1', '--', 'bash', '-c', script], lab.child_environment(),
                ((b'up', b'\x03'), (b'caught', b'hello\n'), (b'got hello', b'')))
            self.assertEqual(status, 0)
            lab.await_board('b1', 'IDLE')

    def test_it_stops_and_goes_on_as_a_shells_job(self):
        with lab_of('b1') as lab:
            line = f"{DUT} reserve b1 -- sh -c 'echo u\"\"p; read x; echo go\"\"t $x'\n"
            self.converse(
                ['bash', '--norc', '-i'], {**lab.child_environment(), 'PS1': '$ '},
                ((b'$ ', line.encode()), (b'up\r\n', b'\x1a'), (b'Stopped', b'fg\n'),
                 (b'fg', b''), (b"$x'\r\n", b'it\n'), (b'got it\r\n', b'echo st""atus $?; exit\n'),
                 (b'status 0', b'')))
            lab.await_board('b1', 'IDLE')


if __name__ == '__main__':
    unittest.main()
