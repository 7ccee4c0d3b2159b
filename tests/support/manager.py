# SPDX-License-Identifier: MIT
"""
What systemd does for dutd, as far as tests need it without one: it listens on sockets in its place,
and keeps fds while no dutd runs (see sd_listen_fds(3) and sd_pid_notify_with_fds(3)).
"""

import fcntl
import os
import socket
import subprocess
import threading
import time

from tests.support.daemon import Daemon

FIRST = 3  # SD_LISTEN_FDS_START
HIGH = 200


class ManagedDaemon(Daemon):
    """store: name → fd, as dutd wants it kept; sockets: name → socket, handed in at its start."""

    def __init__(self, other):
        super().__init__(other.folder, '', '', state=other.state)
        self.command = other.command
        self.environment = other.environment
        self.store = {}
        self.sockets = []
        self.messages = []
        self.ready = threading.Event()
        self.ends = threading.Event()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.notify.bind(os.path.join(self.folder, 'manager'))
        self.notify.settimeout(0.1)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while not self.ends.is_set():
            try:
                data, fds, _flags, _address = socket.recv_fds(self.notify, 4096, 4)
            except TimeoutError:
                continue
            message = dict(line.split('=', 1) for line in data.decode().split('\n') if line)
            self.messages.append(message)
            if message.get('FDSTORE') == '1':
                assert len(fds) == 1 and message['FDPOLL'] == '0', message
                self.store[message['FDNAME']] = fds[0]
            if message.get('FDSTOREREMOVE') == '1':
                os.close(self.store.pop(message['FDNAME']))
            if message.get('READY') == '1':
                self.ready.set()

    def kept(self, kind, dut, name='main'):
        """The one fd of that kind, or None."""
        start = f'{kind}/{dut}/{name}/'
        found = [fd for key, fd in list(self.store.items()) if key.startswith(start)]
        assert len(found) < 2, self.store
        return found[0] if found else None

    def start(self, seconds=30):
        handed = [*self.sockets, *self.store.items()]
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH) for _name, fd in handed]
        moves = ' '.join(f'{FIRST + i}<&{fd} {fd}<&-' for i, fd in enumerate(copies))
        environment = dict(self.environment, FDSTORE='100',
                           NOTIFY_SOCKET=os.path.join(self.folder, 'manager'))
        script = 'exec "$@"'
        if handed:
            environment.update(LISTEN_FDS=str(len(handed)),
                               LISTEN_FDNAMES=':'.join(name for name, _fd in handed))
            script = f'exec {moves}; export LISTEN_PID=$$; exec "$@"'
        self.ready.clear()
        with open(self.log_path, 'ab') as log:
            self.process = subprocess.Popen(
                ['bash', '-c', script, 'bash', *self.command], pass_fds=copies,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True)
        for fd in copies:
            os.close(fd)
        deadline = time.monotonic() + seconds
        while not self.ready.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f'dutd did not get ready ({self.process.poll()})')

    def close(self):
        self.ends.set()
        self.thread.join()
        self.notify.close()
        for fd in self.store.values():
            os.close(fd)
        self.store.clear()
