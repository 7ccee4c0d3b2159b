# SPDX-License-Identifier: MIT
"""The talk with dutd when things go wrong: lost connections, new consoles, sudden death."""

import os
import select
import signal
import socket
import subprocess
import tempfile
import unittest

from tests.support.jobhost import EPOCH, Console, JobHost, now, wait_readable

PATTERNS = {'session_end': {'regex': 'the end$'}, 'job_success': {'regex': 'result=0'}}


def job(**timeouts):
    return {'version': 1, 'console_patterns': PATTERNS, 'timeouts': timeouts}


class Case(unittest.TestCase):
    maxDiff = None

    def make(self, description=None, **config):
        dutd = JobHost(description or job(), **config)
        self.addCleanup(dutd.close)
        return dutd

    def assert_ended(self, result, status, reason, verdict):
        self.assertEqual((result['status'], result['reason'], result['verdict']),
                         (status, reason, verdict), result)

    def finish(self, dutd, console):
        console.say('result=0\nthe end\n')
        result = dutd.run()
        self.assert_ended(result, 'PASS', 'ok', None)
        return result

    def wait_log(self, dutd, console, size):
        """Waits on the eventfd until console.log has so many bytes."""
        end = now() + 20
        while not os.path.exists(dutd.path('console.log')) or len(dutd.log()) < size:
            self.assertTrue(wait_readable(console.wake, end - now()))
            os.read(console.wake, 8)


class Connections(Case):
    def test_an_open_request_is_told_and_repeated_to_the_next_dutd(self):
        dutd = self.make()
        console = dutd.begin()
        for kind in ('off', 'on'):
            with self.subTest(kind=kind):
                request = dutd.expect(kind)
                dutd.disconnect()
                hello, fds = dutd.connect(epoch=EPOCH + 1)
                self.assertEqual(hello['open'], request)
                self.assertEqual(dutd.expect(kind), request)
                for fd in fds:
                    os.close(fd)
                dutd.done(request)
        self.finish(dutd, console)

    def test_hello_says_where_the_job_is_and_lends_the_console(self):
        dutd = self.make()
        self.assertEqual(dutd.start(), 'R')
        hello, fds = dutd.connect()
        self.assertEqual(hello, {'t': 'hello', 'v': 1, 'job': '17', 'attempt': 1,
                                 'nonce': 'nonce-1', 'phase': 'setup', 'boot': 0,
                                 'console': None, 'open': None})
        self.assertEqual(fds, [])
        console = dutd.lend(gen=3, base=1000)
        dutd.send({'t': 'go'})
        dutd.power_on()
        console.say('hello\n')
        self.wait_log(dutd, console, 6)
        dutd.disconnect()
        hello, fds = dutd.connect()
        self.assertEqual((hello['phase'], hello['boot']), ('running', 1))
        self.assertEqual(hello['console'], {'name': 'main', 'gen': 3, 'base': 1000,
                                            'offset': 1006, 'codec': None})
        self.assertEqual(len(fds), 4)
        self.assertTrue(os.path.sameopenfile(fds[0], console.fd))
        for fd in fds:
            os.close(fd)
        result = self.finish(dutd, console)
        self.assertEqual(result['console_base'], 1000)
        self.assertEqual(result['boots'][0]['console_offset'], 1000)

    def test_boot_goes_on_without_dutd(self):
        dutd = self.make()
        console = dutd.begin()
        dutd.power_on()
        dutd.disconnect()
        console.say('result=0\nthe end\n')
        self.assert_ended(dutd.result(), 'PASS', 'ok', None)

    def test_daemon_lost_when_power_is_needed_and_nobody_comes(self):
        dutd = self.make(job(boot_cycle={'milliseconds': 100, 'retries': 1}),
                         assignment={'timeouts': {'daemon': 400_000}})
        dutd.begin()
        dutd.power_on()
        dutd.disconnect()
        result = dutd.result()
        self.assert_ended(result, 'INCOMPLETE', 'daemon_lost', 'lab')
        self.assertEqual(result['boots'][0]['reason'], 'timeout:boot_cycle')

    def test_a_stale_answer_means_nothing(self):
        dutd = self.make()
        console = dutd.begin()
        off = dutd.expect('off')
        dutd.done({**off, 'n': off['n'] + 7})
        dutd.done({**off, 'n': off['n'] - 1}, ok=False, error='old')
        dutd.done(off)
        on = dutd.expect('on')
        self.assertEqual(on['n'], off['n'] + 1)
        dutd.done(off, ok=False, error='old')
        dutd.done(on)
        self.finish(dutd, console)

    def test_an_older_dutd_another_job_and_strangers_are_refused(self):
        dutd = self.make()
        console = dutd.begin()
        dutd.power_on()
        for changes in ({'epoch': EPOCH - 1}, {'job': '18'}, {'attempt': 2}, {'nonce': 'other'},
                        {'t': 'go'}, {'v': 0}):
            with self.subTest(changes=changes):
                good, dutd.control = dutd.control, dutd.dial()
                dutd.send({'t': 'hello', 'v': 1, 'epoch': EPOCH, 'job': '17', 'attempt': 1,
                           'nonce': 'nonce-1', **changes})
                self.assertEqual(dutd.receive(), (None, []))
                dutd.control.close()
                dutd.control = good
        self.finish(dutd, console)  # over the good connection, which nobody disturbed

    def test_what_the_old_connection_said_comes_first(self):
        dutd = self.make()
        dutd.begin()
        off = dutd.expect('off')
        dutd.done(off)
        dutd.send({'t': 'cancel', 'by': 'bob', 'why': 'x'})
        hello, fds = dutd.connect()
        for fd in fds:
            os.close(fd)
        self.assertEqual((hello['phase'], hello['open']), ('teardown', None))
        self.assert_ended(dutd.run(), 'CANCELLED', 'cancelled', None)

    def test_unknown_packets_are_answered_and_unknown_keys_ignored(self):
        dutd = self.make()
        console = dutd.begin()
        dutd.send({'t': 'dance', 'x': 1})
        self.assertEqual(dutd.expect('unknown')['unknown'], 'dance')
        dutd.control.send(b'no json')
        dutd.control.send(b'[]')
        off = dutd.expect('off')
        dutd.send({'t': 'done', 'n': off['n'], 'ok': True, 'state': 'OFF', 'verified': True,
                   'future': [1]})
        dutd.done(dutd.expect('on'))
        dutd.send({'t': 'go'})  # a second one
        self.finish(dutd, console)
        self.assertEqual(len(dutd.events('job_state')), 2)


class Loans(Case):
    def test_a_new_console_takes_the_place_of_the_old_one(self):
        dutd = self.make()
        first = dutd.begin()
        dutd.power_on()
        first.say('from the first, which is read to its end\n')
        first.hang_up()
        second = dutd.lend(gen=2)
        second.say('from the second\n')
        self.finish(dutd, second)
        self.assertEqual(dutd.log(), b'from the first, which is read to its end\n'
                                     b'from the second\nresult=0\nthe end\n')
        self.assertEqual([(mark['event'], mark['gen']) for _, mark in dutd.marks('loan')],
                         [('lent', 1), ('lent', 2), ('returned', 2)])

    def test_an_older_loan_is_dropped_and_a_repeated_one_confirmed(self):
        dutd = self.make()
        dutd.start()
        dutd.connect()
        console = dutd.lend(gen=5)
        old = Console()
        dutd.consoles.insert(0, old)
        dutd.lend(old, gen=4, wait=False)
        dutd.lend(console, gen=5)
        self.assertEqual([p['gen'] for p in dutd.sent if p['t'] == 'lent'], [5, 5])
        dutd.send({'t': 'go'})
        dutd.power_on()
        self.finish(dutd, console)

    def test_a_console_may_come_while_power_is_asked_for(self):
        dutd = self.make()
        self.assertEqual(dutd.start(), 'R')
        dutd.connect()
        dutd.send({'t': 'go'})
        dutd.done(dutd.expect('off'))
        on = dutd.expect('on')
        console = dutd.lend(base=70)
        dutd.done(on)
        result = self.finish(dutd, console)
        self.assertEqual(result['console_base'], 70)

    def test_it_is_given_back_in_the_middle_and_taken_again(self):
        dutd = self.make()
        console = dutd.begin()
        dutd.power_on()
        console.say('half a ')
        self.wait_log(dutd, console, 7)
        dutd.send({'t': 'return', 'gen': 1})
        self.assertEqual(dutd.expect('returned'),
                         {'t': 'returned', 'gen': 1, 'offset': 7, 'codec': None})
        console.say('line, result=0\n')
        dutd.lend(console, gen=2)
        console.say('the end\n')
        self.assert_ended(dutd.run(), 'PASS', 'ok', None)
        self.assertEqual(dutd.log(), b'half a line, result=0\nthe end\n')

    def test_a_job_without_any_console_ends_by_its_timeouts(self):
        dutd = self.make(job(first_console_activity={'milliseconds': 200}))
        dutd.start()
        dutd.connect()
        dutd.send({'t': 'go'})
        result = dutd.run()
        self.assert_ended(result, 'INCOMPLETE', 'timeout:first_console_activity', 'test')
        self.assertEqual((result['console'], result['console_base']), (None, None))

    def test_a_board_that_hangs_up_is_left_to_the_silence_timers(self):
        dutd = self.make(job(console_activity={'milliseconds': 300}))
        console = dutd.begin()
        dutd.power_on()
        console.say('hello\n')
        console.hang_up()
        result = dutd.run()
        self.assert_ended(result, 'INCOMPLETE', 'timeout:console_activity', 'test')
        self.assertEqual(dutd.marks('plug')[0][1]['event'], 'hung_up')

    def test_a_hang_up_ends_the_last_second_early(self):
        dutd = self.make()
        console = dutd.begin()
        dutd.power_on()
        console.say('result=0\nthe end\n')
        console.hang_up()
        begun = now()
        self.assert_ended(dutd.run(), 'PASS', 'ok', None)
        self.assertLess(now() - begun, 0.9)

    def test_what_an_earlier_reader_left_in_the_pipe_is_read_first(self):
        dutd = self.make()
        self.assertEqual(dutd.start(), 'R')
        dutd.connect()
        console = Console()
        os.write(console.pipe_write, b'left over\n')
        dutd.lend(console)
        dutd.send({'t': 'go'})
        dutd.power_on()
        self.finish(dutd, console)
        self.assertEqual(dutd.log(), b'left over\nresult=0\nthe end\n')

    def test_an_idle_line_wakes_nobody(self):
        dutd = self.make()
        console = dutd.begin()
        dutd.power_on()
        console.say('hello\nunfinished')
        end = now() + 20
        while not any(p.get('phase') == 'running' for p in dutd.sent):
            dutd.receive(end - now())
        self.assertFalse(wait_readable(dutd.control.fileno(), 0.4))  # its timers are over then
        before = self.switches(dutd.pid)
        self.assertFalse(wait_readable(dutd.control.fileno(), 0.6))
        self.assertEqual(self.switches(dutd.pid), before)

    def switches(self, pid):
        with open(f'/proc/{pid}/status') as file:
            return [line for line in file if line.startswith('voluntary_ctxt')]


class Killed(Case):
    """kill -9 of the executor while a board sends at full speed: no byte is lost."""

    def flood(self, console):
        """A process that writes numbered bytes, and tells how many were taken."""
        tell_read, tell_write = os.pipe()
        pid = os.fork()
        if pid:
            os.close(tell_write)
            return pid, tell_read
        stop = [False]
        signal.signal(signal.SIGTERM, lambda *_: stop.__setitem__(0, True))
        total = 0
        os.set_blocking(console.board, False)
        pattern = bytes(i % 251 for i in range(251 * 40))
        try:
            while not stop[0]:
                if not select.select([], [console.board], [], 0.05)[1]:
                    continue
                at = total % 251
                try:
                    total += os.write(console.board, pattern[at:at + 3000])
                except BlockingIOError:
                    pass
            os.write(tell_write, str(total).encode())
        finally:
            os._exit(0)

    def drain(self, fd):
        data = b''
        os.set_blocking(fd, False)
        while True:
            try:
                part = os.read(fd, 65536)
            except BlockingIOError:
                return data
            if not part:
                return data
            data += part

    def once(self, kind, size):
        dutd = self.make(assignment={'limits': {'console_log': 1 << 40}})
        console = dutd.begin(kind=kind)
        dutd.power_on()
        pid, tell = self.flood(console)
        self.wait_log(dutd, console, size)
        self.assertEqual(dutd.kill(), -signal.SIGKILL)
        # Now only this process has the fds: the pipe first, then what the kernel still holds.
        got = dutd.log() + self.drain(console.pipe_read)
        os.kill(pid, signal.SIGTERM)
        got += self.drain(console.fd)
        os.waitpid(pid, 0)
        got += self.drain(console.fd)
        total = int(os.read(tell, 32))
        os.close(tell)
        self.assertEqual(len(got), total)
        self.assertEqual(got, (bytes(i % 251 for i in range(251)) * (total // 251 + 1))[:total])
        self.assertFalse(os.path.exists(dutd.path('result.json')))
        dutd.close()

    def test_every_byte_is_in_the_log_the_pipe_or_the_kernel(self):
        for i in range(20):
            with self.subTest(i=i):
                self.once('unix', 7000 * (i + 1))

    def test_on_a_tty_too(self):
        for i in range(5):
            with self.subTest(i=i):
                self.once('pty', 5000 * (i + 1))

    def test_a_helper_leaves_with_its_executor(self):
        dutd = self.make()
        dutd.begin()
        with open(f'/proc/{dutd.pid}/task/{dutd.pid}/children') as file:
            children = [os.pidfd_open(int(pid)) for pid in file.read().split()]
        self.assertTrue(children)
        dutd.kill()
        for pidfd in children:
            self.assertTrue(wait_readable(pidfd))
            os.close(pidfd)


class Disk(Case):
    def small_disk(self, size):
        folder = tempfile.mkdtemp(prefix='disk-')
        self.addCleanup(os.rmdir, folder)
        mount = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder],
                               capture_output=True, check=False)
        if mount.returncode:
            self.skipTest('may not mount a small disk')
        # A dut-helper leaves a moment after its executor, with the folder open.
        self.addCleanup(subprocess.run, ['umount', '-l', folder], check=True)
        return folder

    def test_a_full_disk_ends_the_job_with_its_result(self):
        dutd = self.make(folder=self.small_disk('2m'))
        console = dutd.begin()
        dutd.power_on()
        os.set_blocking(console.board, False)
        taken = 0
        while not wait_readable(dutd.control.fileno(), 0) or dutd.receive()[0]['t'] != 'end':
            try:
                taken += os.write(console.board, b'0123456789abcde\n' * 256)
            except BlockingIOError:
                select.select([dutd.control], [console.board], [], 20)
        result = dutd.result()
        self.assert_ended(result, 'INCOMPLETE', 'disk', 'lab')
        # What the disk does not hold waits in the pipe and in the kernel.
        got = dutd.log()
        for fd in (console.pipe_read, console.fd):
            os.set_blocking(fd, False)
            try:
                while part := os.read(fd, 65536):
                    got += part
            except BlockingIOError:
                pass
        self.assertEqual(len(got), taken)
        self.assertEqual(got, (b'0123456789abcde\n' * (taken // 16 + 1))[:taken])

    def test_no_space_for_the_result_is_told_at_the_start(self):
        dutd = self.make(folder=self.small_disk('256k'))
        self.assertIn('no space for result.json', dutd.start())
        self.assertNotEqual(dutd.wait(), 0)


class Strangers(Case):
    def test_a_connection_that_says_nothing_disturbs_nobody(self):
        dutd = self.make()
        self.assertEqual(dutd.start(), 'R')
        silent = [dutd.dial() for _ in range(4)]
        dutd.connect()
        console = dutd.lend()
        silent += [dutd.dial() for _ in range(4)]
        dutd.send({'t': 'go'})
        dutd.power_on()
        self.finish(dutd, console)
        for connection in silent:
            connection.close()

    def test_peers_of_the_socket_are_the_executor(self):
        dutd = self.make()
        self.assertEqual(dutd.start(), 'R')
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(os.path.join(dutd.dir, 'job.sock'))
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        connection.close()
        self.assertEqual(int.from_bytes(peer[:4], 'little'), dutd.pid)


if __name__ == '__main__':
    unittest.main()
