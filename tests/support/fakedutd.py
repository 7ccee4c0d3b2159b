# SPDX-License-Identifier: MIT
"""A daemon for the tests of the command line: it says what a test tells it to say.

Routes are functions of a Request that return an Answer; a body that is a generator is streamed,
each piece as soon as it is there. What was asked is kept in `requests`.
"""

import json
import os
import queue
import re
import socket
import socketserver
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

PREFIX = '/api/v1'


class Request:
    def __init__(self, method, target, headers, body):
        parts = urllib.parse.urlsplit(target)
        self.method = method
        self.target = target
        self.path = parts.path.removeprefix(PREFIX)
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.headers = headers
        self.body = body

    def json(self):
        return json.loads(self.body)

    def form(self):
        """The parts of a multipart body, by name."""
        boundary = re.search('boundary=(.*)', self.headers['Content-Type'])[1].encode()
        parts = {}
        for part in self.body.split(b'--' + boundary)[1:-1]:
            head, _, data = part.partition(b'\r\n\r\n')
            name = re.search(rb'name="([^"]*)"', head)[1].decode()
            parts[name] = data[:-2]
        return parts

    def __repr__(self):
        return f'{self.method} {self.target}'


class Answer:
    def __init__(self, body=b'', status=200, headers=None):
        self.headers = headers or {}
        self.status = status
        self.body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body


class Pieces:
    """A body that a test feeds: put() bytes, end(), or break_off() without an end."""

    def __init__(self, *pieces):
        self.queue = queue.Queue()
        for piece in pieces:
            self.put(piece)

    def put(self, piece):
        self.queue.put(piece)

    def end(self):
        self.queue.put(None)

    def break_off(self):
        self.queue.put(ConnectionAbortedError)

    def __iter__(self):
        while (piece := self.queue.get()) is not None:
            if piece is ConnectionAbortedError:
                raise ConnectionAbortedError
            yield piece


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def answer(self):
        length = int(self.headers.get('Content-Length', 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        request = Request(self.command, self.path, self.headers, body)
        try:
            answer = self.server.fake.answer(request)
            self.send(answer)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            # Now, not when the last reference to the socket is gone.
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def send(self, answer):
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if isinstance(answer.body, bytes):
            self.send_header('Content-Length', str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        self.wfile.flush()
        for piece in answer.body:
            self.wfile.write(b'%x\r\n%s\r\n' % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b'0\r\n\r\n')

    def address_string(self):
        return 'dut'

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def get_request(self):
        connection, _ = super().get_request()
        with self.fake.changed:
            self.fake.connections.append(connection)
            self.fake.changed.notify_all()
        return connection, ('dut', 0)

    def handle_error(self, *_):
        pass


class FakeDutd:
    def __init__(self, path):
        self.path = path
        self.routes = []
        self.requests = []
        self.connections = []
        self.changed = threading.Condition()
        folder = os.open(os.path.dirname(path), os.O_PATH)
        try:
            # Through the folder, as dutd does it: the path may be long.
            self.server = Server(f'/proc/self/fd/{folder}/{os.path.basename(path)}', Handler)
        finally:
            os.close(folder)
        self.server.fake = self
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def on(self, method, path, answer):
        """Answers this path (a regular expression) from now on: an Answer, a body, or a function
        of the Request that returns one of them."""
        self.routes.insert(0, (method, re.compile(path + r'\Z'), answer))

    def answer(self, request):
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
        for method, path, answer in self.routes:
            if method == request.method and path.match(request.path):
                if callable(answer):
                    answer = answer(request)
                return answer if isinstance(answer, Answer) else Answer(answer)
        return Answer({'error': f'there is no {request.path}'}, 404)

    def asked(self, method, path):
        return [r for r in self.requests if r.method == method and r.path == path]

    def await_request(self, method, path, seconds=30):
        """Waits until somebody has asked this, and returns the first such request."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.asked(method, path), seconds):
                raise AssertionError(f'nobody asked {method} {path}; {self.requests}')
            return self.asked(method, path)[0]

    def die(self):
        """Leaves at once, and all its connections with it."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        with self.changed:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.connections.clear()
