# SPDX-License-Identifier: MIT
"""Clients that are somebody else; for root only."""

import contextlib
import json
import os

from tests.support.harness import PATIENCE, Lab, UnixConnection

NOBODY, OTHER, THIRD = 65534, 65533, 65532


@contextlib.contextmanager
def user(uid, *groups):
    """Connects and opens as that user."""
    old = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(old)


class PeersLab(Lab):
    """Whose folders let everybody pass: only the sockets themselves decide."""

    def start(self, seconds=PATIENCE):
        super().start(seconds)
        self.open_folders()
        return self

    def open_folders(self):
        os.chmod(self.folder, 0o711)
        for path, _, _ in os.walk(self.runtime):
            os.chmod(path, 0o755)

    def ask(self, uid, method, path, body=None, socket_path=None, groups=()):
        """Status and JSON of a request by that user; None when the socket does not let him in."""
        connection = UnixConnection(socket_path or self.socket, PATIENCE)
        try:
            with user(uid, *groups):
                connection.connect()
            connection.request(method, '/api/v1' + path, json.dumps(body) if body else None)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b'null')
        except PermissionError:
            return None, None
        finally:
            connection.close()
