# SPDX-License-Identifier: MIT
"""A web server that misbehaves on demand, and dut-fetch and dut-helper at the ends of their fds."""

import array
import base64
import contextlib
import fcntl
import http.server
import json
import os
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import termios
import threading
import time

LIBEXEC = os.environ['DUT_LIBEXEC_DIR']

# How long what is expected may take on a busy machine with sanitizers.
PATIENCE = 30.0

BODY = bytes(range(256)) * 1024  # 256 KiB
LATER = bytes(reversed(range(256))) * 1024


class Turn:
    """How one request is answered: by status or, without one, as a server that knows ranges does;
    cut is the number of bytes after which the connection ends in one of the ways of `how`.
    """

    def __init__(self, status=None, cut=None, how='close', body=BODY, ranges=True, **headers):
        self.status, self.cut, self.how, self.body = status, cut, how, body
        self.ranges = ranges
        self.headers = {key.replace('_', '-'): value for key, value in headers.items()}

    def answer(self, handler):
        status, headers, body = self.status, {'Content-Length': str(len(self.body))}, self.body
        asked = handler.headers['Range']
        tag = handler.headers['If-Range']
        named = tag is None or tag in self.headers.values()
        if status is None and asked and self.ranges and named:
            status, first = 206, int(asked.removeprefix('bytes=').partition('-')[0])
            headers['Content-Range'] = f'bytes {first}-{len(body) - 1}/{len(body)}'
            body = body[first:]
            headers['Content-Length'] = str(len(body))
        handler.send_response_only(status or 200)
        for key, value in {'Date': handler.date_time_string(), **headers, **self.headers}.items():
            if value is not None:
                handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(body[:self.cut])
        if self.cut is not None:
            getattr(self, 'end_by_' + self.how)(handler)

    @staticmethod
    def end_by_close(handler):
        handler.close_connection = True

    @staticmethod
    def end_by_reset(handler):
        # What is on its way has arrived: a reset may overtake it.
        while handler.unsent() and not handler.server.web.over.wait(0.001):
            pass
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        os.close(handler.connection.detach())
        handler.close_connection = True

    @staticmethod
    def end_by_stall(handler):
        handler.server.web.over.wait(PATIENCE)
        handler.close_connection = True

    @staticmethod
    def end_by_drip(handler):
        """A byte now and then, so that the connection lives."""
        with contextlib.suppress(OSError):
            while not handler.server.web.over.wait(0.2):
                handler.wfile.write(b'x')
        handler.close_connection = True


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def do_GET(self):
        web = self.server.web
        name = self.path.partition('?')[0].strip('/').replace('-', '_')
        with web.lock:
            web.seen.append((self.path, dict(self.headers.items())))
            visit = web.visits[self.path] = web.visits.get(self.path, 0) + 1
            turns = web.turns.get(self.path)
        if turns:
            turns[min(visit, len(turns)) - 1].answer(self)
        else:
            getattr(self, 'get_' + name, self.get_missing)(visit)

    def unsent(self):
        return struct.unpack('i', fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4)))[0]

    def give(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header('Content-Length', str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(body)

    def give_half(self, body, **headers):
        self.give(body[:len(body) // 2], length=len(body), **headers)
        self.close_connection = True

    def give_range(self, body, **headers):
        first = int(self.headers['Range'].removeprefix('bytes=').partition('-')[0])
        self.give(body[first:], 206,
                  Content_Range=f'bytes {first}-{len(body) - 1}/{len(body)}', **headers)

    def get_missing(self, visit):
        self.give(b'no such thing', 404)

    def get_ok(self, visit):
        self.give(BODY)

    def get_moved(self, visit):
        self.give(b'', 302, Location='/ok')

    def get_boundless(self, visit):
        self.wfile.write(b'HTTP/1.1 200 OK\r\n')
        with contextlib.suppress(OSError):
            while not self.server.web.over.is_set():
                self.wfile.write(b'X-Nothing: ' + b'x' * 8000 + b'\r\n')
        self.close_connection = True

    def get_babble(self, visit):
        self.wfile.write(b'what do you want?\r\n')
        self.close_connection = True

    def get_loop(self, visit):
        self.give(b'', 302, Location='/loop')

    def get_to_file(self, visit):
        self.give(b'', 302, Location='file:///etc/passwd')

    def get_private(self, visit):
        wanted = 'Basic ' + base64.b64encode(b'alice:open sesame').decode()
        if self.headers['Authorization'] == wanted:
            self.give(BODY)
        else:
            self.give(b'', 401, WWW_Authenticate='Basic realm="x"')

    def get_endless(self, visit):
        self.send_response(200)
        self.send_header('Connection', 'close')
        self.end_headers()
        while True:
            self.wfile.write(BODY)

    def get_drip(self, visit):
        """The first half, 700 ms of nothing, then the second."""
        self.give(BODY[:len(BODY) // 2], length=len(BODY))
        self.server.web.over.wait(0.7)
        self.wfile.write(BODY[len(BODY) // 2:])

    def get_stall(self, visit):
        """Half of it, then nothing, until the client has gone."""
        web = self.server.web
        self.give(BODY[:len(BODY) // 2], length=len(BODY))
        web.stalled.release()
        with contextlib.suppress(ConnectionError):
            self.rfile.read(1)
        web.left.release()
        self.close_connection = True

    def get_resumable(self, visit):
        if visit < 3:
            self.give_half(BODY, ETag='"one"') if visit == 1 else self.close()
        else:
            self.give_range(BODY, ETag='"one"')

    def get_changing(self, visit):
        """Another file from the second request on, as If-Range tells."""
        if visit == 1:
            self.give_half(BODY, ETag='"one"')
        else:
            self.give(LATER, ETag='"two"')

    def get_rangeless(self, visit):
        """Does not know ranges and never says what its file is."""
        self.give_half(LATER) if visit == 1 else self.give(BODY)

    def get_gone(self, visit):
        """What was begun is shorter now."""
        if visit == 1:
            self.give_half(BODY, Last_Modified='Tue, 24 Nov 2026 08:00:00 GMT')
        elif self.headers['Range']:
            self.give(b'', 416)
        else:
            self.give(BODY)

    def get_hopeless(self, visit):
        self.give_half(BODY)

    def close(self):
        """Without one byte of an answer."""
        self.close_connection = True


class Authority:
    """A certificate authority of a lab, in a folder; made by openssl(1)."""

    EXTENSIONS = 'basicConstraints=critical,CA:{ca}\nsubjectAltName={names}\n'

    def __init__(self, folder):
        self.folder = folder
        self.file = self.at('ca.pem')
        self.openssl('req', '-x509', *self.new_key('ca'), '-subj', '/CN=a lab', '-days', '9',
                     '-out', self.file)

    def at(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *arguments):
        subprocess.run(['openssl', *arguments], check=True, capture_output=True)

    def new_key(self, name):
        return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                '-keyout', self.at(f'{name}.key')]

    def context(self, name='good', names='IP:127.0.0.1', days=9):
        """Of a server with a certificate for these names; of the past when days is negative."""
        with open(self.at('extensions'), 'w', encoding='utf-8') as file:
            file.write(self.EXTENSIONS.format(ca='FALSE', names=names))
        self.openssl('req', '-new', *self.new_key(name), '-subj', f'/CN={name}',
                     '-out', self.at(f'{name}.csr'))
        sign = ['x509', '-req', '-in', self.at(f'{name}.csr'), '-CA', self.file,
                '-CAkey', self.at('ca.key'), '-CAcreateserial',
                '-extfile', self.at('extensions'), '-out', self.at(f'{name}.pem')]
        try:
            self.openssl(*sign, '-days', str(days))
        except subprocess.CalledProcessError:
            # From OpenSSL 3.4 on days are not negative, but times may be any.
            self.openssl(*sign, '-not_before', '20200101000000Z', '-not_after', '20200102000000Z')
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.at(f'{name}.pem'), self.at(f'{name}.key'))
        return context


class Web:
    """A server on loopback. stalled and left are released at /stall. With an ssl context: https."""

    def __init__(self, tls=None):
        self.lock = threading.Lock()
        self.seen, self.visits, self.turns = [], {}, {}
        self.stalled, self.left = threading.Semaphore(0), threading.Semaphore(0)
        self.over = threading.Event()
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.web = self
        self.scheme = 'https' if tls else 'http'
        if tls:
            # The handshake is each connection's own business, in its thread.
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.address = '127.0.0.1:%d' % self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def url(self, path, userinfo=''):
        return f'{self.scheme}://{userinfo}{self.address}/{path}'

    def plan(self, path, *turns):
        """Answers requests for /path one after the other, and as the last one from then on."""
        self.turns['/' + path] = turns
        return self.url(path)

    def headers(self, path):
        with self.lock:
            return [headers for seen, headers in self.seen if seen == '/' + path]

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def spawn(program, arguments, fds, env=None):
    """Starts a program with exactly these {number: fd} besides stderr."""
    copies = {to: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for to, fd in fds.items()}
    environ = {key: value for key, value in os.environ.items() if 'proxy' not in key.lower()}
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in copies.items()]
        return os.posix_spawn(program, [program, *arguments], {**environ, **(env or {})},
                              file_actions=actions)
    finally:
        for fd in copies.values():
            os.close(fd)


def await_exit(pid, patience=PATIENCE):
    """The exit status of a child; negative for a signal."""
    pidfd = os.pidfd_open(pid)
    try:
        if not select.select([pidfd], [], [], patience)[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f'process {pid} did not end within {patience} s')
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)


class Fetch:
    """One dut-fetch. fds are {3: ..., 4: ...}."""

    def __init__(self, mode, request, fds, env=None):
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        read, write = os.pipe()
        self.output, theirs = os.pipe()
        self.pid = spawn(os.path.join(LIBEXEC, 'dut-fetch'), [mode],
                         {0: read, 1: theirs, **fds}, env)
        os.close(read)
        os.close(theirs)
        os.write(write, data)
        os.close(write)

    def finish(self):
        """Its lines, with whose last one the exit status agrees."""
        with os.fdopen(self.output, 'rb') as output:
            lines = [json.loads(line) for line in output]
        status = await_exit(self.pid)
        if not lines or status != (0 if 'ok' in lines[-1] else 1):
            raise AssertionError(f'dut-fetch ended with {status}: {lines}')
        return lines

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.output)
        return await_exit(self.pid)


class Helper:
    """A dut-helper, with this process in the executor's place."""

    def __init__(self, libexec=LIBEXEC):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.pid = spawn(os.path.join(libexec, 'dut-helper'), [], {3: theirs.fileno()})
        theirs.close()

    def send(self, packet, fds=()):
        data = packet if isinstance(packet, bytes) else json.dumps(packet).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        self.socket.sendmsg([data], rights)

    def receive(self):
        return json.loads(self.socket.recv(65536))

    def done(self):
        """The next packet that is no progress."""
        while (packet := self.receive())['t'] == 'progress':
            pass
        return packet

    def children(self):
        found = []
        for entry in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError):
                with open(f'/proc/{entry}/stat', 'rb') as file:
                    if int(file.read().rpartition(b') ')[2].split()[1]) == self.pid:
                        found.append(int(entry))
        return found

    def close(self):
        self.socket.close()
        return await_exit(self.pid)


class Box:
    """A folder of its own, removed at the end."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix='dut-fetch-')

    def at(self, *names):
        return os.path.join(self.path, *names)

    def write(self, name, data):
        with open(self.at(name), 'wb') as file:
            file.write(data)
        return self.at(name)

    def read(self, name):
        with open(self.at(name), 'rb') as file:
            return file.read()

    @contextlib.contextmanager
    def open(self, name, flags=os.O_RDWR | os.O_CREAT):
        fd = os.open(self.at(name), flags, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)

    def close(self):
        shutil.rmtree(self.path)


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)
