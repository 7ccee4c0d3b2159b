# SPDX-License-Identifier: MIT
"""
The programs of an earlier commit, for tests of what one version owes to the other.

They are built once, without optimisation and sanitizers, in .dev-cache/earlier (or a temporary
folder where that cannot be written), and stay there: all test runs of a checkout share them.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import unittest

# dutd 0.1.0 in the making: the first whose executors can be taken over by the next dutd. At a
# release the pin becomes the release before it.
PIN = '5b7bb0b16e6f481dbf50d4aedf77d90a580e2f68'

PROGRAMS = ['dut/dutd', 'executor/dut-executor', 'executor/dut-helper', 'executor/dut-fetch',
            'hw/dut-sim']


class Earlier:
    """dutd: the path of the program; libexec: the folder of the others."""

    def __init__(self, build):
        self.dutd = os.path.join(build, 'dut', 'dutd')
        self.libexec = os.path.join(build, 'libexec')


def run(*command, env=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
                          check=False)
    if done.returncode != 0:
        raise AssertionError(f'{" ".join(command)}: {done.stdout.decode(errors="replace")[-5000:]}')


def has_commit(source, commit):
    return subprocess.run(['git', '-C', source, 'cat-file', '-e', commit + '^{commit}'],
                          stderr=subprocess.DEVNULL, check=False).returncode == 0


def build(source, commit, folder):
    """Builds the programs in folder/build; what was begun and not ended is begun again."""
    tree, done = os.path.join(folder, 'tree'), os.path.join(folder, 'built')
    if os.path.exists(done):
        return
    for name in ('tree', 'build'):
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    os.makedirs(tree)
    archive = os.path.join(folder, 'tree.tar')
    run('git', '-C', source, 'archive', '-o', archive, commit)
    run('tar', '-x', '-f', archive, '-C', tree)
    os.unlink(archive)
    # The compiler, its flags and the sanitizers of the present build are not for it.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CC', 'CFLAGS', 'LDFLAGS', 'ASAN_OPTIONS', 'UBSAN_OPTIONS')}
    result = os.path.join(folder, 'build')
    run('meson', 'setup', result, tree, '-Dtests=false', '-Dman=disabled', '-Dbuildtype=plain',
        '-Dwerror=false', env=environment)
    run('ninja', '-C', result, *PROGRAMS, env=environment)
    with open(done, 'w', encoding='ascii'):
        pass


def programs(source, commit=PIN):
    """The Earlier of a commit; skips the test where there is nothing to build it from."""
    for program in ('git', 'meson', 'ninja', 'tar'):
        if shutil.which(program) is None:
            raise unittest.SkipTest(f'{program} is not installed')
    if not has_commit(source, commit):
        raise unittest.SkipTest(f'commit {commit[:12]} is not there: no git history, or too little')
    cache = os.path.join(source, '.dev-cache', 'earlier', commit[:12])
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError:
        cache = tempfile.mkdtemp(prefix='dut-earlier-')
        unittest.addModuleCleanup(shutil.rmtree, cache, True)
    # Suites of several builds may run side by side.
    with open(os.path.join(cache, 'lock'), 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build(source, commit, cache)
    return Earlier(os.path.join(cache, 'build'))
