# SPDX-License-Identifier: MIT
"""A name server that never answers, for programs in a mount namespace of their own (needs root)."""

import os
import random
import select
import shutil
import socket
import subprocess
import tempfile
import unittest

# What a program runs in: the rest of its command line comes behind.
ENTER = 'for name in resolv.conf nsswitch.conf hosts; do ' \
        'mount --bind "$0/$name" "/etc/$name" || exit 99; done; exec "$@"'


class Resolver:
    """Names of `hosts` lead to 127.0.0.1; every other one is asked for on a silent socket."""

    def __init__(self, *hosts):
        if os.geteuid() != 0:
            raise unittest.SkipTest('needs root: a mount namespace, and port 53')
        self.folder = tempfile.mkdtemp(prefix='dut-resolver-')
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = self.bind()
        for name, text in (('resolv.conf', f'nameserver {self.address}\noptions timeout:30\n'),
                           ('nsswitch.conf', 'hosts: files dns\n'),
                           ('hosts', '127.0.0.1 localhost ' + ' '.join(hosts) + '\n')):
            with open(os.path.join(self.folder, name), 'w', encoding='utf-8') as file:
                file.write(text)
        if subprocess.run(self.command('true'), stderr=subprocess.DEVNULL).returncode != 0:
            self.close()
            raise unittest.SkipTest('needs mount namespaces')

    def bind(self):
        """All of 127.0.0.0/8 is loopback: several tests have a port 53 each."""
        for _ in range(20):
            address = '127.%d.%d.%d' % tuple(random.randrange(1, 255) for _ in range(3))
            try:
                self.socket.bind((address, 53))
                return address
            except OSError:
                continue
        self.socket.close()
        raise unittest.SkipTest('needs a port 53 on loopback')

    def command(self, *argv):
        return ['/usr/bin/unshare', '--mount', 'sh', '-c', ENTER, self.folder, *argv]

    def await_question(self, patience):
        """Until somebody has asked, and waits."""
        if not select.select([self.socket], [], [], patience)[0]:
            raise AssertionError('nobody asked for a name')
        return self.socket.recv(512)

    def close(self):
        self.socket.close()
        shutil.rmtree(self.folder)
