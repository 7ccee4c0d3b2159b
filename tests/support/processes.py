# SPDX-License-Identifier: MIT
"""Finding and ending processes by their id, without ever hitting a stranger.

A process belongs to a folder when its environment, its command line or its working folder names
it; the folders of tests and of the demo have random names, so that nothing else does.
"""

import os
import select
import signal
import time


def read(pid, name):
    try:
        with open(f'/proc/{pid}/{name}', 'rb') as file:
            return file.read()
    except OSError:
        return b''


def command_line(pid):
    return read(pid, 'cmdline').rstrip(b'\0').replace(b'\0', b' ').decode(errors='replace')


def is_alive(pid):
    """Neither gone nor a zombie, which nobody may come to reap."""
    fields = read(pid, 'stat').rpartition(b') ')[2].split()
    return bool(fields) and fields[0] not in (b'Z', b'X')


def of_folder(folder):
    """The ids of all living processes that belong to the folder, this one excepted."""
    mark = os.fsencode(folder)
    found = []
    for entry in os.listdir('/proc'):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            cwd = os.readlink(f'/proc/{entry}/cwd')
        except OSError:
            cwd = ''
        named = mark in read(entry, 'environ') or mark in read(entry, 'cmdline')
        if (named or (cwd + '/').startswith(folder + '/')) and is_alive(int(entry)):
            found.append(int(entry))
    return sorted(found)


def await_end(pid, seconds):
    """True when the process is gone (or a zombie) within that time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(max(0, seconds) * 1000))
    finally:
        os.close(pidfd)


def kill(pid, number=signal.SIGKILL):
    """Signals by pidfd; False when there is no such process any more."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)


def end_all_of(folder, grace=0.0):
    """
    Leaves no process of the folder alive. Those that did not go by themselves within the grace
    are killed, and their command lines returned.
    """
    killed = []
    deadline = time.monotonic() + grace
    for _ in range(100):  # what is killed may just have started another one
        pids = of_folder(folder)
        if not pids:
            break
        for pid in pids:
            if await_end(pid, deadline - time.monotonic()):
                continue
            line = command_line(pid)
            if kill(pid):
                killed.append(f'{pid} {line}')
            await_end(pid, 5)
    return killed


def resident(pid):
    """Bytes of memory that a process has at present."""
    with open(f'/proc/{pid}/status', encoding='ascii') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmRSS')) * 1024


def has_sanitizer(pid):
    """Whether its memory is AddressSanitizer's, and means nothing."""
    with open(f'/proc/{pid}/maps', encoding='utf-8', errors='replace') as file:
        return 'asan' in file.read()
