# SPDX-License-Identifier: MIT
"""
A lab whose state lies on a disk of a few MiB, so that it can be full. The test process gets a mount
namespace of its own: with root, or with a user namespace where ordinary users may have one.
"""

import ctypes
import os
import subprocess
import unittest

from tests.support.harness import Lab

CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = (1 << 14) | (1 << 18)
MIB = 1 << 20


def enter_namespace():
    """For setUpModule(). Skips the module's tests where there is no way to mount something."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    kinds = CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER
    if libc.unshare(kinds) != 0:
        raise unittest.SkipTest('needs a mount namespace: ' + os.strerror(ctypes.get_errno()))
    if kinds & CLONE_NEWUSER:
        for name, text in (('setgroups', 'deny'), ('uid_map', f'0 {uid} 1'),
                           ('gid_map', f'0 {gid} 1')):
            with open(f'/proc/self/{name}', 'w', encoding='ascii') as file:
                file.write(text)
    if libc.mount(None, b'/', None, MS_REC_PRIVATE, None) != 0:
        raise unittest.SkipTest('needs mounts of its own: ' + os.strerror(ctypes.get_errno()))


class SmallLab(Lab):
    def __init__(self, size_mib=32, **options):
        super().__init__(**options)
        mount = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={size_mib}m,mode=0700', 'tmpfs', self.state],
            capture_output=True, text=True)
        if mount.returncode != 0:
            self.__exit__(None, None, None)
            raise unittest.SkipTest('may not mount a small disk: ' + mount.stderr.strip())

    def close(self):
        faults = super().close()
        subprocess.run(['umount', '-l', self.state], check=True)
        return faults

    def room(self):
        """Bytes that are free."""
        status = os.statvfs(self.state)
        return status.f_bavail * status.f_frsize

    def fill(self, leave=0):
        """Fills the disk up to so many bytes; others may be writing meanwhile."""
        with open(os.path.join(self.state, 'filler'), 'ab') as file:
            step = self.room()
            while step > 0:
                more = min(self.room() - leave, step)
                if more <= 0:
                    break
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), more)
                    file.seek(0, os.SEEK_END)
                except OSError:
                    step = more // 2

    def make_room(self):
        os.unlink(os.path.join(self.state, 'filler'))
