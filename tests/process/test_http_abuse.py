# SPDX-License-Identifier: MIT
"""Clients that are broken or mean, on raw sockets: others do not notice, dutd does not grow."""

import concurrent.futures
import contextlib
import os
import resource
import select
import socket
import threading
import time
import unittest

from tests.support.harness import PATIENCE, Lab, UnixConnection, form_of
from tests.support.processes import has_sanitizer, resident

BOARD = 'at 10ms send "hello\\r\\n"'
GET = b'GET /api/v1/status HTTP/1.1\r\nHost: lab\r\n'
PUT = b'PUT /api/v1/dut/b1/power HTTP/1.1\r\nHost: lab\r\n'
POST = b'POST /api/v1/jobs HTTP/1.1\r\nHost: lab\r\n'
BODY = b'{"state": "on"}'

# What is no request at all: libmicrohttpd before 1.0 answers it, later it ends the connection.
ANY_REFUSAL = (400, None)

# What is sent, and the status that comes; None: the connection ends without an answer.
CASES = {
    'HTTP/0.9': (b'GET /api/v1/status\r\n\r\n', 400),
    'HTTP/2 preface': (b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505),
    'all byte values': (bytes(range(256)) * 16 + b'\r\n\r\n', ANY_REFUSAL),
    'TLS': (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(64) + b'\r\n\r\n', None),
    'no target': (b'GET HTTP/1.1\r\n\r\n', 400),
    'a header without a colon': (GET + b'nonsense\r\n\r\n', 400),
    'a target of 64 KiB': (b'GET /' + b'a' * 65536 + b' HTTP/1.1\r\nHost: lab\r\n\r\n', 414),
    'a query of 64 KiB': (b'GET /api/v1/jobs?' + b'a=b&' * 16384 + b' HTTP/1.1\r\n\r\n', 414),
    'many arguments': (b'GET /api/v1/jobs?' + b'a=b&' * 100 + b' HTTP/1.1\r\n\r\n', 400),
    'a header of 64 KiB': (GET + b'X: ' + b'x' * 65536 + b'\r\n\r\n', 431),
    '8,000 headers': (GET + b'A: b\r\n' * 8000 + b'\r\n', 431),
    'a method of 5,000 letters': (b'G' * 5000 + b' /api/v1/status HTTP/1.1\r\nHost: lab\r\n\r\n',
                                  405),
    'NUL in the path': (b'GET /api/v1/dut/%00 HTTP/1.1\r\nHost: lab\r\n\r\n', 400),
    'an escaped slash': (b'GET /api/v1/dut/..%2f..%2fetc HTTP/1.1\r\nHost: lab\r\n\r\n', 400),
    'a bad escape': (b'GET /api/v1/dut/%zz HTTP/1.1\r\nHost: lab\r\n\r\n', 400),
    'dots in the path': (b'GET /api/v1/../../etc/passwd HTTP/1.1\r\nHost: lab\r\n\r\n', 404),
    'escaped dots': (b'GET /api/v1/jobs/%2e%2e/log HTTP/1.1\r\nHost: lab\r\n\r\n', 404),
    'many segments': (b'GET ' + b'/a' * 200 + b' HTTP/1.1\r\nHost: lab\r\n\r\n', 400),
    'a number too large': (b'GET /api/v1/jobs/99999999999999999999/log HTTP/1.1\r\n'
                           b'Host: lab\r\n\r\n', 404),
    'a negative offset of a log': (b'GET /api/v1/jobs/-1/log HTTP/1.1\r\nHost: lab\r\n\r\n', 404),
    'OPTIONS *': (b'OPTIONS * HTTP/1.1\r\nHost: lab\r\n\r\n', 400),
    'TRACE': (b'TRACE /api/v1/status HTTP/1.1\r\nHost: lab\r\n\r\n', 405),
    'CONNECT': (b'CONNECT lab:22 HTTP/1.1\r\nHost: lab\r\n\r\n', 400),
    'DELETE': (b'DELETE /api/v1/jobs/1 HTTP/1.1\r\nHost: lab\r\n\r\n', 405),
    'HEAD': (b'HEAD /api/v1/status HTTP/1.1\r\nHost: lab\r\n\r\n', 200),
    'ranges': (GET + b'Range: bytes=9-1,-5,zz,0-18446744073709551616\r\n\r\n', 200),
    'an upgrade to nothing': (GET + b'Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n', 200),
    'an upgrade with a mode': (b'GET /api/v1/dut/b1/console?mode=force HTTP/1.1\r\nHost: lab\r\n'
                               b'Connection: Upgrade\r\nUpgrade: dut-console\r\n\r\n', 400),
    'a negative length': (PUT + b'Content-Length: -1\r\n\r\n', 400),
    'a signed length': (PUT + b'Content-Length: +15\r\n\r\n' + BODY, 400),
    'a hexadecimal length': (PUT + b'Content-Length: 0xf\r\n\r\n' + BODY, 400),
    'two numbers in a length': (PUT + b'Content-Length: 15 3\r\n\r\n' + BODY, 400),
    'a length beyond 64 bits': (PUT + b'Content-Length: 99999999999999999999\r\n\r\n', 413),
    'a length of 8 EiB': (PUT + b'Content-Length: 9223372036854775807\r\n\r\n', 413),
    'a form of 8 EiB': (POST + b'Content-Type: multipart/form-data; boundary=x\r\n'
                        b'Content-Length: 9223372036854775807\r\n\r\n--x', 413),
    'two lengths': (PUT + b'Content-Length: 15\r\nContent-Length: 3\r\n\r\n' + BODY, 400),
    'the same length twice': (PUT + b'Content-Length: 15\r\n' * 2 + b'\r\n' + BODY, 400),
    'a length beside chunks': (PUT + b'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n'
                               b'f\r\n' + BODY + b'\r\n0\r\n\r\n', 400),
    'an unknown encoding': (PUT + b'Transfer-Encoding: gzip\r\n\r\n' + BODY, 400),
    'chunks by another name': (PUT + b'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n', 400),
    'chunks without a size': (PUT + b'Transfer-Encoding: chunked\r\n\r\nxyz\r\n', 400),
    'a negative chunk': (PUT + b'Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n', 400),
    'a chunk beyond 64 bits': (PUT + b'Transfer-Encoding: chunked\r\n\r\n' + b'f' * 20 + b'\r\n',
                               413),
    'a body beyond its limit': (PUT + b'Content-Length: 70000\r\n\r\n' + b'x' * 70000, 413),
    'a body for a GET': (GET + b'Content-Length: 70000\r\n\r\n' + b'x' * 70000, 413),
    'no form': (POST + b'Content-Length: 2\r\n\r\n{}', 415),
    'a form without a boundary': (POST + b'Content-Type: multipart/form-data\r\n'
                                  b'Content-Length: 2\r\n\r\n{}', 400),
    'a form that is none': (POST + b'Content-Type: multipart/form-data; boundary=x\r\n'
                            b'Content-Length: 2\r\n\r\n{}', 400),
    'a waiting expectation': (PUT + b'Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n', 413),
}


def connect(path):
    connection = UnixConnection(path, PATIENCE)
    connection.connect()
    return connection.sock


def ask(path, data):
    """Sends bytes and returns what comes until the first body is there or the connection ends."""
    with connect(path) as sock:
        try:
            sock.sendall(data)
        except BrokenPipeError:
            pass  # refused while it was still sending: the answer is there
        got = b''
        while b'\r\n\r\n' not in got:
            try:
                part = sock.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            got += part
        return got


def status_of(answer):
    return int(answer.split()[1]) if answer.startswith(b'HTTP/1.') else None


def allow_many_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 5000:
        raise unittest.SkipTest(f'only {hard} files may be open')


class Answers(unittest.TestCase):
    """Each of these is answered, and then dutd answers others as ever."""

    def test_of_dutd(self):
        with Lab() as lab:
            lab.sim('b1', BOARD)
            lab.start()
            for name, (data, wanted) in CASES.items():
                with self.subTest(name):
                    answer = ask(lab.socket, data)
                    self.assertIn(status_of(answer),
                                  wanted if isinstance(wanted, tuple) else (wanted,), answer[:500])
                    begun = time.monotonic()
                    lab.get('/status')
                    self.assertLess(time.monotonic() - begun, 5)
            # None of the bodies has reached the board.
            self.assertNotIn('on', [entry['event'] for entry in lab.record('b1')])

    def test_of_an_executor(self):
        with Lab() as lab:
            lab.sim('b1', BOARD)
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: never}\n', 'b1')
            lab.await_phase(job, 'running')
            path = lab.executor_socket('b1')
            for name, (data, wanted) in CASES.items():
                with self.subTest(name):
                    answer = ask(path, data.replace(b'/api/v1/status', b'/api/v1/state'))
                    if wanted is not ANY_REFUSAL:
                        self.assertEqual(answer.startswith(b'HTTP/1.1 '), wanted is not None)
            self.assertEqual(status_of(ask(path, GET.replace(b'status', b'state') + b'\r\n')), 200)
            lab.api('POST', f'/jobs/{job}/cancel')
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            lab.await_board('b1', 'IDLE')

    def test_a_thousand_in_one_write(self):
        with Lab() as lab:
            lab.sim('b1', BOARD)
            lab.start()
            with connect(lab.socket) as sock:
                sender = threading.Thread(target=sock.sendall, args=((GET + b'\r\n') * 1000,))
                sender.start()
                got = b''
                while got.count(b'HTTP/1.1 200 OK\r\n') < 1000:
                    part = sock.recv(1 << 20)
                    self.assertTrue(part)
                    got += part
                sender.join()


class Endless(unittest.TestCase):
    def send_for_ever(self, lab, head, piece):
        """Sends until the connection ends; the answer and the number of bytes that were taken."""
        with connect(lab.socket) as sock:
            sock.sendall(head)
            sent = 0
            try:
                while sent < 1 << 30:
                    sock.sendall(piece)
                    sent += len(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                return sock.recv(65536), sent
            except ConnectionResetError:
                return b'', sent

    def test_bodies_end_with_a_refusal(self):
        kind, form = form_of([('metadata', b'{"version": 1}'), ('job', b'x' * 1000)])
        chunk = b'10000\r\n' + b'x' * 65536 + b'\r\n'
        begin = form[:form.index(b'x' * 1000)]
        with Lab() as lab:
            lab.sim('b1', BOARD)
            lab.start()
            before = resident(lab.daemon.pid)
            for head in (
                    PUT + b'Transfer-Encoding: chunked\r\n\r\n',
                    POST + f'Content-Type: {kind}\r\n'.encode() +
                    b'Transfer-Encoding: chunked\r\n\r\n' +
                    f'{len(begin):x}\r\n'.encode() + begin + b'\r\n'):
                answer, sent = self.send_for_ever(lab, head, chunk)
                self.assertEqual(status_of(answer), 413, answer)
                self.assertLess(sent, 80 << 20)
            if not has_sanitizer(lab.daemon.pid):
                self.assertLess(resident(lab.daemon.pid) - before, 16 << 20)
            self.assertEqual(os.listdir(os.path.join(lab.state, 'jobs')), [])


class Slow(unittest.TestCase):
    def test_heads_and_bodies_that_drip_in_are_cut_off(self):
        """A byte a second is activity for ever; the time that counts is that of the whole head."""
        heads = {'head': GET + b'X: ', 'body': PUT + b'Content-Length: 60000\r\n\r\n',
                 'nothing': b''}
        with Lab() as lab:
            lab.sim('b1', BOARD)
            lab.start()
            begun = time.monotonic()
            clients = {}
            for name, head in heads.items():
                for _ in range(40):
                    sock = connect(lab.socket)
                    sock.sendall(head)
                    clients[sock] = name
            answers = {name: [] for name in heads}
            slowest = 0.0
            while clients and time.monotonic() - begun < 50:
                asked = time.monotonic()
                lab.get('/status')
                slowest = max(slowest, time.monotonic() - asked)
                readable = select.select(list(clients), [], [], 1)[0]
                for sock in readable:
                    answers[clients.pop(sock)].append(sock.recv(65536))
                    sock.close()
                for sock, name in clients.items():
                    if name != 'nothing':
                        with contextlib.suppress(BrokenPipeError):  # cut off just now
                            sock.send(b'x')
            self.assertEqual(len(clients), 0, 'held for ever')
            self.assertGreater(time.monotonic() - begun, 25)
            self.assertLess(slowest, 5)
            self.assertEqual({status_of(answer) for answer in answers['head']}, {408})
            self.assertIn(b'took longer than 30 s', answers['head'][0])
            self.assertEqual({status_of(answer) for answer in answers['body']}, {408})
            self.assertEqual(set(answers['nothing']), {b''})


class Crowds(unittest.TestCase):
    def test_two_thousand_idle_ones_keep_nobody_out(self):
        allow_many_files()
        with Lab() as lab:
            lab.configure({'limits': {'connections': 2000}})
            lab.sim('b1', BOARD)
            lab.start()
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            before = resident(lab.daemon.pid)
            idle = [connect(lab.socket) for _ in range(2100)]
            try:
                begun = time.monotonic()
                self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)
                self.assertLess(time.monotonic() - begun, 10)
                self.assertEqual(lab.get('/dut/b1')['power']['state'], 'OFF')
                # The youngest are still there, and are served.
                idle[-1].sendall(GET + b'\r\n')
                self.assertEqual(status_of(idle[-1].recv(65536)), 200)
                self.assertEqual(idle[0].recv(1), b'')
                if not has_sanitizer(lab.daemon.pid):
                    self.assertLess(resident(lab.daemon.pid) - before, 48 << 20)
            finally:
                for sock in idle:
                    sock.close()

    def test_who_finds_no_place_is_told_so(self):
        with Lab() as lab:
            lab.configure({'limits': {'connections': 8}})
            lab.sim('b1', BOARD)
            lab.start()
            # We are dutd's own user: 16 more.
            streams = [lab.console('b1', offset=0) for _ in range(4 + 16)]
            answer = lab.api('GET', '/status')
            self.assertEqual(answer.status, 429, answer)
            self.assertIn('limits.connections is 8', answer.json['error'])
            refused = lab.dut('list')
            self.assertEqual(refused.rc, 75, refused)
            self.assertIn('limits.connections', refused.err)
            streams[0].close()
            self.assertEqual(lab.dut('list').rc, 0)

    def test_submissions_at_once_have_a_limit_for_one_user(self):
        allow_many_files()
        kind, form = form_of([('metadata', b'{"version": 1}'), ('job', b'x' * 20000)])
        head = POST + f'Content-Type: {kind}\r\nContent-Length: {len(form)}\r\n\r\n'.encode()
        with Lab() as lab:
            lab.sim('b1', BOARD)
            lab.start()
            half = [connect(lab.socket) for _ in range(100)]
            for sock in half:
                sock.sendall(head + form[:-100])
            answer = lab.submit('console_patterns: {session_end: hello}\n', 'b1')
            self.assertEqual(answer.status, 429, answer)
            self.assertIn('100 requests to /api/v1/jobs', answer.json['error'])
            for sock in half:
                sock.close()
            job = lab.run_job('console_patterns: {session_end: hello}\n', 'b1')
            self.assertEqual(job['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')

    def test_many_that_do_not_read_cost_no_memory(self):
        with Lab() as lab:
            lab.sim('b1', BOARD)
            lab.start()
            for _ in range(3):
                lab.run_job('console_patterns: {session_end: hello}\n', 'b1')
                lab.await_board('b1', 'IDLE')
            before = resident(lab.daemon.pid)
            ask_list = b'GET /api/v1/jobs HTTP/1.1\r\nHost: lab\r\n\r\n'
            stuck = [connect(lab.socket) for _ in range(200)]
            for sock in stuck:
                sock.setblocking(False)
                try:
                    while sock.send(ask_list * 100):
                        pass
                except BlockingIOError:
                    pass
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                for state in pool.map(lambda _: lab.get('/status')['duts'], range(20)):
                    self.assertEqual(state, 1)
            if not has_sanitizer(lab.daemon.pid):
                self.assertLess(resident(lab.daemon.pid) - before, 32 << 20)
            for sock in stuck:
                sock.close()


if __name__ == '__main__':
    unittest.main()
