# SPDX-License-Identifier: MIT
"""dut-sim, driven by hand: what a sim board does with its outlet, its console and its record."""

import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import unittest

from tests.support import processes
from tests.support.harness import LIBEXEC, PATIENCE, await_true


class Sim:
    """A board as dutd starts it: two listening sockets and a held lock, nothing else."""

    def __init__(self, script, files=None):
        self.folder = tempfile.mkdtemp(prefix='dut-sim-')
        for name, data in {'script': script, **(files or {})}.items():
            with open(self.path(name), 'wb') as file:
                file.write(data if isinstance(data, bytes) else data.encode())
        listeners = {3: self.listen('sim.sock', socket.SOCK_SEQPACKET),
                     4: self.listen('console.sock', socket.SOCK_STREAM)}
        lock = os.open(self.path('sim.lock'), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        inherited = {**{to: s.fileno() for to, s in listeners.items()}, 5: lock}
        # First out of the way of each other, then to where they belong.
        high = {to: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for to, fd in inherited.items()}
        self.pid = os.posix_spawn(
            os.path.join(LIBEXEC, 'dut-sim'),
            ['dut-sim', 'b1', self.path('script'), self.path('sent')], os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in high.items()],
            setsid=True)
        for fd in [*high.values(), lock]:
            os.close(fd)
        for listener in listeners.values():
            listener.close()
        self.status = None
        self.open = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def listen(self, name, kind):
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(self.path(name))
        listener.listen(8)
        return listener

    def connect(self, name, kind):
        connection = socket.socket(socket.AF_UNIX, kind)
        connection.settimeout(PATIENCE)
        connection.connect(self.path(name))
        self.open.append(connection)
        return connection

    def outlet(self):
        return Outlet(self.connect('sim.sock', socket.SOCK_SEQPACKET))

    def console(self):
        return self.connect('console.sock', socket.SOCK_STREAM)

    def records(self, event=None):
        if not os.path.exists(self.path('record.jsonl')):
            return []
        with open(self.path('record.jsonl'), encoding='ascii') as file:
            found = [json.loads(line) for line in file]
        return [one for one in found if event in (None, one['event'])]

    def await_record(self, event, count=1):
        return await_true(lambda: len(self.records(event)) >= count and self.records(event),
                          f'record "{event}"')

    def sent(self):
        with open(self.path('sent'), 'rb') as file:
            return file.read()

    def wait(self):
        """The exit status, after the board ended."""
        if self.status is None:
            if not processes.await_end(self.pid, PATIENCE):
                raise AssertionError('dut-sim does not end')
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def lock_is_free(self):
        with open(self.path('sim.lock'), 'r+b') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _traceback):
        if self.status is None:
            os.kill(self.pid, signal.SIGCONT)
            if kind is None:
                # In order, so that a sanitizer has its say.
                outlet = self.outlet()
                outlet.ask('off')
                outlet.send('exit')
                status = self.wait()
            else:
                os.kill(self.pid, signal.SIGKILL)
                status = self.wait()
            if kind is None and status != 0:
                raise AssertionError(f'dut-sim has ended with {status}')
        for connection in self.open:
            connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Outlet:
    def __init__(self, connection):
        self.connection = connection

    def send(self, verb):
        self.connection.send(json.dumps({'t': verb}).encode())

    def answer(self):
        packet = json.loads(self.connection.recv(65536))
        if packet.get('error', True) is None:
            del packet['error']
        return packet

    def ask(self, verb):
        self.send(verb)
        return self.answer()

    def was_heard(self):
        unread = fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))
        return not int.from_bytes(unread, sys.byteorder)

    def is_silent(self):
        return not select.select([self.connection], [], [], 0)[0]


def read_exactly(connection, count):
    data = b''
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise AssertionError(f'the end after {data!r}')
        data += chunk
    return data


def read_until(connection, wanted):
    data = b''
    while wanted not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise AssertionError(f'the end after {data[-500:]!r}')
        data += chunk
    return data


def read_all(connection):
    data = b''
    while chunk := connection.recv(65536):
        data += chunk
    return data


class OutletTest(unittest.TestCase):
    def test_it_switches_and_reads_back(self):
        with Sim('') as sim:
            outlet = sim.outlet()
            for verb, state in (('read', 'OFF'), ('on', 'ON'), ('read', 'ON'), ('on', 'ON'),
                                ('off', 'OFF'), ('off', 'OFF'), ('read', 'OFF')):
                self.assertEqual(outlet.ask(verb), {'t': 'done', 'ok': True, 'state': state})
            events = [one['event'] for one in sim.records()]
            self.assertEqual(events, ['start', 'on', 'on-already', 'drained', 'off', 'off-already'])

    def test_it_ignores_off_as_often_as_told(self):
        with Sim('ignore off 2') as sim:
            outlet = sim.outlet()
            outlet.ask('on')
            states = [outlet.ask('off')['state'] for _ in range(3)]
            self.assertEqual(states, ['ON', 'ON', 'OFF'])
            self.assertEqual(len(sim.records('off-ignored')), 2)

    def test_it_lies(self):
        with Sim('lie on') as sim:
            outlet = sim.outlet()
            self.assertEqual(outlet.ask('read')['state'], 'ON')
            self.assertEqual(outlet.ask('on')['state'], 'ON')
            self.assertEqual(outlet.ask('off')['state'], 'ON')
            self.assertEqual(len(sim.records('off')), 1)

    def test_what_fails_does_not_happen(self):
        with Sim('fail on "no current"') as sim:
            outlet = sim.outlet()
            self.assertEqual(outlet.ask('on'), {'t': 'done', 'ok': False, 'state': 'OFF',
                                                'error': 'no current'})
            self.assertEqual(sim.records('on'), [])
        with Sim('fail off "stuck"\nat 0s send "hello"') as sim:
            outlet, console = sim.outlet(), sim.console()
            self.assertTrue(outlet.ask('on')['ok'])
            self.assertEqual(outlet.ask('off'), {'t': 'done', 'ok': False, 'state': 'ON',
                                                 'error': 'stuck'})
            self.assertEqual(read_exactly(console, 5), b'hello')
            os.kill(sim.pid, signal.SIGKILL)
            sim.wait()

    def test_it_answers_late_and_only_to_who_asked(self):
        with Sim('delay read 400ms') as sim:
            first = sim.outlet()
            begun = time.monotonic()
            self.assertEqual(first.ask('read')['state'], 'OFF')
            self.assertGreaterEqual(time.monotonic() - begun, 0.4)
            first.send('read')
            # A new dutd: the old one's answer is not for it.
            second = sim.outlet()
            self.assertEqual(second.ask('on'), {'t': 'done', 'ok': True, 'state': 'ON'})
            self.assertEqual(second.ask('read')['state'], 'ON')
            self.assertTrue(second.is_silent())
            self.assertEqual(first.connection.recv(10), b'')

    def test_rubbish_on_its_socket_does_not_hurt(self):
        with Sim('') as sim:
            outlet = sim.outlet()
            for rubbish in (b'{', b'[]', b'{"t": 1}', b'\0' * 100, b'{"t": "on", "t": "on"}'):
                outlet.connection.send(rubbish)
            self.assertEqual(outlet.ask('read')['state'], 'OFF')

    def test_it_holds_the_lock_exactly_while_it_lives(self):
        with Sim('') as sim:
            outlet = sim.outlet()
            self.assertEqual(outlet.ask('on')['state'], 'ON')
            self.assertFalse(sim.lock_is_free())
            outlet.send('exit')  # not while it is on
            self.assertEqual(outlet.ask('read')['state'], 'ON')
            self.assertEqual(outlet.ask('off')['state'], 'OFF')
            outlet.send('exit')
            self.assertEqual(sim.wait(), 0)
            self.assertTrue(sim.lock_is_free())
            self.assertEqual(sim.records()[-1]['event'], 'exit')

    def test_a_fault_in_the_script_ends_it_with_its_place(self):
        faults = ('at 2s explode', f'on "{"x" * 129}" crash', 'every 0s send "x"')
        with tempfile.TemporaryDirectory(prefix='dut-sim-') as folder:
            path = os.path.join(folder, 'script')
            for fault in faults:
                with open(path, 'w', encoding='ascii') as file:
                    file.write(f'at 1s send "x"\n{fault}\n')
                ran = subprocess.run([os.path.join(LIBEXEC, 'dut-sim'), 'b1', path], check=False,
                                     capture_output=True, text=True, timeout=PATIENCE)
                self.assertEqual(ran.returncode, 1)
                self.assertIn(f'dut-sim: b1: {path}:2: ', ran.stderr)


class ConsoleTest(unittest.TestCase):
    EVERY_BYTE = bytes(range(256))

    def test_every_byte_value_arrives_and_is_noted(self):
        text = ''.join(f'\\x{byte:02x}' for byte in self.EVERY_BYTE)
        with Sim(f'at 0s send "{text}"\nat 0s print blob\nat 0s send "end"',
                 {'blob': self.EVERY_BYTE * 300}) as sim:
            outlet, console = sim.outlet(), sim.console()
            outlet.ask('on')
            got = read_exactly(console, 256 * 301 + 3)
            self.assertEqual(got, self.EVERY_BYTE * 301 + b'end')
            outlet.ask('off')
            self.assertEqual(read_all(console), b'')
            self.assertEqual(sim.sent(), got)
            self.assertEqual(sim.records('off')[-1]['total'], len(got))

    def test_lines_that_are_late_together_keep_their_order(self):
        script = ''.join(f'at {number * 10}ms send "{number} "\n' for number in range(40))
        script += 'at 390ms send "same "\nat 390ms send "time"\n'
        with Sim(script) as sim:
            outlet, console = sim.outlet(), sim.console()
            sim.await_record('connect')
            outlet.ask('on')
            os.kill(sim.pid, signal.SIGSTOP)
            begun = time.monotonic()
            await_true(lambda: time.monotonic() > begun + 0.5, 'half a second')
            os.kill(sim.pid, signal.SIGCONT)
            expected = ''.join(f'{number} ' for number in range(40)) + 'same time'
            self.assertEqual(read_until(console, b'time').decode(), expected)

    def test_what_nobody_is_there_to_read_is_dropped(self):
        with Sim('boot 1\nat 0s send "lost"\nat 0s reboot\nboot 2\non "x" send "kept"') as sim:
            outlet = sim.outlet()
            outlet.ask('on')
            sim.await_record('reboot')
            console = sim.console()
            console.sendall(b'x')
            self.assertEqual(read_exactly(console, 4), b'kept')
            outlet.ask('off')
            last = sim.records('off')[-1]
            self.assertEqual((last['total'], last['dropped']), (4, 4))
            self.assertEqual(sim.sent(), b'kept')

    def test_a_reader_that_comes_before_power_reads_the_first_byte(self):
        with Sim('at 0s send "first"\nevery 10ms send "."') as sim:
            outlet = sim.outlet()
            for _ in range(3):
                console = sim.console()
                outlet.ask('on')
                self.assertEqual(read_exactly(console, 7), b'first..')
                self.assertEqual(outlet.ask('off')['state'], 'OFF')
                self.assertEqual(read_all(console).strip(b'.'), b'')
            self.assertEqual([one['boot'] for one in sim.records('on')], [0, 1, 2])

    def test_off_lets_the_reader_drain_and_then_hangs_up(self):
        with Sim('at 0s flood max') as sim:
            outlet, console = sim.outlet(), sim.console()
            outlet.ask('on')
            got = read_exactly(console, 1 << 20)
            outlet.send('off')
            got += read_all(console)
            self.assertEqual(outlet.answer()['state'], 'OFF')
            self.assertEqual(got, sim.sent())
            self.assertEqual(len(sim.records('drained')), 1)
            self.assertEqual(sim.records('off')[-1]['total'], len(got))

    def test_off_waits_a_second_for_a_reader_that_does_not_read(self):
        with Sim('at 0s flood max') as sim:
            outlet, console = sim.outlet(), sim.console()
            outlet.ask('on')
            read_exactly(console, 1)
            begun = time.monotonic()
            self.assertEqual(outlet.ask('off')['state'], 'OFF')
            self.assertGreaterEqual(time.monotonic() - begun, 0.9)
            self.assertEqual(len(sim.records('undrained')), 1)
            # What was written is there all the same.
            self.assertEqual(1 + len(read_all(console)), len(sim.sent()))

    def test_on_while_an_off_still_drains_is_a_new_boot(self):
        with Sim('boot 1\nat 0s flood max\nboot 2\nat 0s send "again"') as sim:
            dead, console = sim.outlet(), sim.console()
            dead.ask('on')
            read_exactly(console, 1)
            dead.send('off')
            # Another connection ends this one; first the board has to read what it said.
            await_true(dead.was_heard, 'the off is read')
            self.assertTrue(dead.is_silent())
            fresh, second = sim.outlet(), sim.console()
            self.assertEqual(fresh.ask('on')['state'], 'ON')
            self.assertEqual(len(sim.records('off')), 1)
            self.assertTrue(read_all(console))
            # The second reader may have come after the text.
            sim.await_record('connect', 2)
            self.assertEqual(fresh.ask('off')['state'], 'OFF')
            self.assertIn(read_all(second), (b'again', b''))

    def test_a_flood_of_a_rate_and_a_time(self):
        with Sim('at 0s flood 64000 for 500ms') as sim:
            outlet, console = sim.outlet(), sim.console()
            outlet.ask('on')
            lines = read_until(console, b'\r\n' + b'flood 00000000000000000400').split(b'\r\n')
            for number, line in enumerate(lines[:400]):
                self.assertEqual(len(line), 62)
                self.assertTrue(line.startswith(b'flood %020d ' % number), line)
            outlet.ask('off')
            self.assertLessEqual(len(sim.sent()), 32000 + 64)

    def test_a_flood_goes_on_for_the_next_reader(self):
        for rate in ('max', '100000'):
            with Sim(f'at 0s flood {rate}') as sim:
                outlet, console = sim.outlet(), sim.console()
                outlet.ask('on')
                read_exactly(console, 1000)
                console.close()
                sim.await_record('disconnect')
                console = sim.console()
                self.assertTrue(re.search(rb'flood \d{20} ', read_exactly(console, 10000)))
                outlet.send('off')
                read_all(console)
                self.assertEqual(outlet.answer()['state'], 'OFF')

    def test_one_reader_at_a_time(self):
        with Sim('every 10ms send "tick"') as sim:
            outlet, first = sim.outlet(), sim.console()
            outlet.ask('on')
            read_exactly(first, 4)
            second = sim.console()
            read_exactly(first, 8)
            self.assertFalse(select.select([second], [], [], 0)[0])
            first.close()
            self.assertEqual(read_exactly(second, 4), b'tick')


class ScriptTest(unittest.TestCase):
    def test_it_answers_to_what_it_receives(self):
        with Sim('at 0s send "login: "\non "root\\r" send "# "\n'
                 f'on "{"y" * 128}" send "long"\non "reboot" reboot') as sim:
            outlet, console = sim.outlet(), sim.console()
            outlet.ask('on')
            self.assertEqual(read_exactly(console, 7), b'login: ')
            console.sendall(b'nobody\rro')
            console.sendall(b'ot\r')
            self.assertEqual(read_exactly(console, 2), b'# ')
            console.sendall(b'x' * 1000 + b'y' * 128)
            self.assertEqual(read_exactly(console, 4), b'long')
            console.sendall(b'x' * 1000 + b'reboot')
            self.assertEqual(read_exactly(console, 7), b'login: ')
            self.assertEqual(sim.records('reboot')[0]['boot'], 1)
            outlet.ask('off')
            self.assertEqual(sim.records('off')[0]['boot'], 2)

    def test_boots_differ(self):
        with Sim('at 0s send "[boot]"\nboot 2\nat 0s send "[two]"\nboot any\n'
                 'at 10ms send "[all]"') as sim:
            outlet = sim.outlet()
            for expected in (b'[boot][all]', b'[boot][two][all]', b'[boot][all]'):
                console = sim.console()
                outlet.ask('on')
                self.assertEqual(read_exactly(console, len(expected)), expected)
                outlet.ask('off')
                self.assertEqual(read_all(console), b'')

    def test_dead_with_power(self):
        for action in ('crash', 'poweroff'):
            with Sim(f'at 0s send "torn li"\nat 0s {action}\nat 0s send "ne"\n'
                     'every 10ms send "."\non "x" send "alive"') as sim:
                outlet, console = sim.outlet(), sim.console()
                outlet.ask('on')
                self.assertEqual(read_exactly(console, 7), b'torn li')
                sim.await_record(action)
                console.sendall(b'x')
                self.assertEqual(outlet.ask('read')['state'], 'ON')
                outlet.ask('off')
                self.assertEqual(read_all(console), b'')
                # Power brings it back.
                console = sim.console()
                outlet.ask('on')
                self.assertEqual(read_exactly(console, 7), b'torn li')

    def test_silent_still_listens(self):
        with Sim('at 0s send "a"\nat 0s silent\non "talk" send "no"\non "go" reboot') as sim:
            outlet, console = sim.outlet(), sim.console()
            outlet.ask('on')
            self.assertEqual(read_exactly(console, 1), b'a')
            console.sendall(b'talkgo')
            self.assertEqual(read_exactly(console, 1), b'a')
            outlet.ask('off')
            self.assertEqual(read_all(console), b'')

    def test_a_board_that_is_off_does_nothing(self):
        with Sim('at 0s send "x"\non "a" send "b"') as sim:
            outlet, console = sim.outlet(), sim.console()
            sim.await_record('connect')
            console.sendall(b'aaaa')
            self.assertEqual(outlet.ask('read')['state'], 'OFF')
            outlet.ask('on')
            self.assertEqual(read_exactly(console, 1), b'x')


if __name__ == '__main__':
    unittest.main()
