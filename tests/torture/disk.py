# SPDX-License-Identifier: MIT
"""A small disk of one's own: a tmpfs that exists in this process's mount namespace only."""

import errno
import os
import subprocess
import sys

VARIABLE = 'DUT_TORTURE_DISK'

# $0: where. As root one namespace is enough; others are root in one that belongs to them, and
# themselves again in the next.
MOUNT = 'mount -t tmpfs -o "size=$1,mode=755" torture "$0" && shift && exec "$@"'


def namespace_command(folder, size):
    if os.geteuid() == 0:
        return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', MOUNT, folder,
                str(size)]
    return ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', MOUNT, folder,
            str(size), 'unshare', '--user', f'--map-user={os.getuid()}',
            f'--map-group={os.getgid()}']


def run_on(folder, size, command):
    """Replaces this process by command, which finds a disk of size bytes at folder."""
    environment = dict(os.environ, **{VARIABLE: folder})
    arguments = namespace_command(folder, size) + command
    sys.stdout.flush()
    os.execvpe(arguments[0], arguments, environment)


def why_not(folder, size):
    """Why there can be no such disk; None when there can."""
    try:
        done = subprocess.run([*namespace_command(folder, size), 'true'], capture_output=True,
                              text=True, check=False)
    except OSError as error:
        return f'unshare: {error.strerror}'
    if done.returncode == 0:
        return None
    return (done.stderr.strip().split('\n')[-1] or f'unshare ended with {done.returncode}')


class Disk:
    """The mounted one. It is filled by a file of its own, beside dutd's state folder."""

    def __init__(self, folder):
        self.folder = folder
        self.state = os.path.join(folder, 'state')
        self.ballast = os.path.join(folder, 'ballast')
        os.makedirs(self.state, mode=0o700, exist_ok=True)

    def fill(self, left):
        """Leaves at most that many bytes free."""
        fd = os.open(self.ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Others write meanwhile: what does not fit any more is tried again.
            while True:
                status = os.statvfs(self.folder)
                size = status.f_bavail * status.f_frsize - left
                if size <= 0:
                    return
                try:
                    os.posix_fallocate(fd, os.fstat(fd).st_size, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        finally:
            os.close(fd)

    def free(self):
        if os.path.exists(self.ballast):
            os.unlink(self.ballast)
