# SPDX-License-Identifier: MIT
"""Those who talk to dutd in a round: submitters, viewers, and people who behave badly."""

import json
import os
import socket
import stat
import threading

from tests.support.harness import UnixConnection, form_of
from tests.torture import kinds

ROUTES = {'log': '/api/v1/jobs/{job}/log?follow=1', 'events': '/api/v1/jobs/{job}/events?follow=1',
          'console': '/api/v1/dut/{board}/console?offset=0'}


def submission_of(kind, board, wait=None):
    """The body of a submission, and its headers; wait: seconds in the queue."""
    metadata = {'version': 1, 'target': {'id': board}}
    if wait:
        metadata['wait'] = wait
    parts = [('metadata', json.dumps(metadata).encode()), ('job', kind.job.encode())]
    data = kinds.bucket(kind.bucket)
    if data:
        parts.append(('job_bucket_initial_state_tarball_file', data))
    return form_of(parts)


class Submission(threading.Thread):
    """Submits a job and waits for the answer: status and JSON, or the error that came instead."""

    def __init__(self, path, kind, board, seconds, wait=None):
        super().__init__(daemon=True)
        self.path, self.kind, self.board, self.seconds = path, kind, board, seconds
        self.wait = wait
        self.status = self.json = self.error = None
        self.start()

    def run(self):
        connection = UnixConnection(self.path, self.seconds)
        try:
            form, body = submission_of(self.kind, self.board, self.wait)
            connection.request('POST', '/api/v1/jobs', body, {'Content-Type': form})
            response = connection.getresponse()
            self.json = json.loads(response.read())
            self.status = response.status
        except (OSError, ValueError, EOFError) as error:
            self.error = error
        except Exception as error:  # http.client has its own kinds, all of them an end
            self.error = error
        finally:
            connection.close()

    @property
    def job(self):
        """The id of the job that was acknowledged."""
        return self.json['id'] if self.status == 201 else None


def raw_submission(path, kind, board, share=1.0):
    """Sends that share of a submission and returns the connection."""
    form, body = submission_of(kind, board)
    head = (f'POST /api/v1/jobs HTTP/1.1\r\nHost: lab\r\nContent-Type: {form}\r\n'
            f'Content-Length: {len(body)}\r\n\r\n').encode()
    connection = UnixConnection(path, 20)
    connection.connect()
    # A dutd that refuses early closes before it has read all.
    try:
        connection.sock.sendall((head + body)[:int(len(head + body) * share)])
    except OSError:
        pass
    return connection


def ask_raw(path, route):
    """A request whose answer nobody reads, by a client with little room for it."""
    connection = UnixConnection(path, 20)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sock.sendall(f'GET {route} HTTP/1.1\r\nHost: lab\r\n\r\n'.encode())
    return connection


class Reader(threading.Thread):
    """Reads a job's log to its end; whole is False when the stream broke."""

    def __init__(self, path, job):
        super().__init__(daemon=True)
        self.job, self.path = job, path
        self.data, self.status, self.offset, self.whole = b'', None, None, False
        self.start()

    def run(self):
        connection = UnixConnection(self.path, 120)
        try:
            connection.request('GET', ROUTES['log'].format(job=self.job))
            response = connection.getresponse()
            self.status = response.status
            self.offset = int(response.headers.get('Console-Offset', -1))
            while chunk := response.read1(65536):
                self.data += chunk
            self.whole = True
        except Exception:  # whatever broke it: the bytes that came are checked
            self.whole = False
        finally:
            connection.close()


def crowd(path, count):
    """Connections that say nothing, or half a request."""
    found = []
    for number in range(count):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        try:
            connection.connect(path)
            if number % 3 == 0:
                connection.sendall(b'GET /api/v1/duts HTTP/1.1\r\nHost: la')
            elif number % 3 == 1:
                connection.sendall(b'POST /api/v1/jobs HTTP/1.1\r\nHost: lab\r\n'
                                   b'Content-Length: 1000000\r\n\r\nabc')
        except OSError:
            connection.close()
            break
        found.append(connection)
    return found


class Impostor:
    """Something that is not what dutd put there, at the place of one of its sockets."""

    def __init__(self, path, how):
        self.path, self.listener = path, None
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)
        if how == 'file':
            with open(path, 'wb'):
                pass
        elif how == 'folder':
            os.mkdir(path)
        elif how == 'link':
            os.symlink('nowhere', path)
        else:
            kind = (socket.SOCK_SEQPACKET if os.path.basename(path) in ('control.sock', 'sim.sock')
                    else socket.SOCK_STREAM)
            self.listener = socket.socket(socket.AF_UNIX, kind)
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
            try:
                self.listener.bind(f'/proc/self/fd/{folder}/{os.path.basename(path)}')
            finally:
                os.close(folder)
            self.listener.listen(8)
        self.identity = self.identify()

    def identify(self):
        """A number of a file may be given again at once, to another one."""
        status = os.lstat(self.path)
        return status.st_ino, stat.S_IFMT(status.st_mode), status.st_mtime_ns

    def remove(self):
        if self.listener:
            self.listener.close()
        try:
            if self.identify() != self.identity:
                return
            if os.path.isdir(self.path) and not os.path.islink(self.path):
                os.rmdir(self.path)
            else:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
