# SPDX-License-Identifier: MIT
"""A dutd of one's own in one folder: started, known to be ready, stopped again."""

import os
import signal
import socket
import subprocess
import time


class NotReady(Exception):
    pass


class Daemon:
    """
    The folder holds everything: etc/dutd.yaml (written by the caller), state/, run/, dutd.log.
    Every process below dutd carries the folder's name in its environment, see processes.py.
    """

    def __init__(self, folder, program, libexec, environment=None, wrapper=(), state=None):
        self.folder = folder
        self.state = state or os.path.join(folder, 'state')
        self.run = os.path.join(folder, 'run')
        self.socket = os.path.join(self.run, 'dutd.sock')
        self.log_path = os.path.join(folder, 'dutd.log')
        self.environment = dict(os.environ, **(environment or {}))
        self.environment['DUT_LAB_FOLDER'] = folder
        self.environment.pop('NOTIFY_SOCKET', None)
        self.command = [
            *wrapper,
            program,
            '--config', os.path.join(folder, 'etc', 'dutd.yaml'),
            '--state-dir', self.state,
            '--runtime-dir', self.run,
            '--libexec-dir', libexec,
        ]
        self.process = None
        for path in (self.state, self.run):
            os.makedirs(path, mode=0o700, exist_ok=True)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        try:
            with open(self.log_path, encoding='utf-8', errors='replace') as file:
                return file.read()
        except FileNotFoundError:
            return ''

    def start(self, seconds=30):
        """
        Starts dutd in a session of its own, so that Ctrl-C on the terminal does not reach it, and
        returns when it has said READY=1.
        """
        path = os.path.join(self.folder, 'notify')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            if os.path.exists(path):
                os.unlink(path)
            notify.bind(path)
            with open(self.log_path, 'ab') as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=dict(self.environment, NOTIFY_SOCKET=path), start_new_session=True)
            try:
                self.await_ready(notify, time.monotonic() + seconds)
            except BaseException:
                self.kill()
                raise

    def await_ready(self, notify, deadline):
        # A dutd that ends before it is ready closes nothing here: look at it between datagrams.
        notify.settimeout(0.1)
        while time.monotonic() < deadline:
            try:
                message = notify.recv(4096)
            except TimeoutError:
                if self.process.poll() is not None:
                    break
                continue
            if b'READY=1' in message.split(b'\n'):
                return
        raise NotReady(f'dutd did not get ready (exit status {self.process.poll()})')

    def stop(self, seconds=30):
        """Ends dutd politely and returns its exit status; None when it had to be killed."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def kill(self):
        """kill -9, and dutd alone: what it has started lives on."""
        if self.process is not None:
            process, self.process = self.process, None
            process.kill()
            process.wait()
