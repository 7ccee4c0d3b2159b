# SPDX-License-Identifier: MIT
"""What packing and unpacking an archive costs."""

import json
import os
import random
import shutil
import subprocess
import sys

from tests.bench.figure_console import make_text
from tests.bench.measure import Figure, LeftOut, Measure
from tests.support import harness

OURS, LIMIT = 'dut-fetch', 'limit: bare libarchive'
TAR, PYTHON = 'rival: GNU tar', 'rival: Python tarfile'
SMALL_FILES = 4000
BIG_BYTES = 256 << 20
KINDS = {'small': f'{SMALL_FILES} small files', 'big': 'one file of 256 MiB'}
COMPRESSED = {'small.gz': 'the small files, gzip', 'big.zst': 'the big file, zstd'}
COMPRESSORS = {'.gz': ['gzip', '-1'], '.zst': ['zstd', '-q', '-1']}

TARFILE = {
    'pack': 'import sys, tarfile\nwith tarfile.open(sys.argv[1], "w") as t: t.add(".", ".")\n',
    'unpack': 'import sys, tarfile\nwith tarfile.open(sys.argv[1]) as t: t.extractall(".")\n',
}


class Bucket(Figure):
    name = 'bucket'
    about = 'CPU of an archive, in memory'

    def plan(self):
        pack = [(f'pack/{kind}', f'pack {what}') for kind, what in KINDS.items()]
        unpack = [(f'unpack/{kind}', f'unpack {what}')
                  for kind, what in {**KINDS, **COMPRESSED}.items()]
        return [Measure(f'bucket/{key}', what, 'ms', 1e3, OURS, LIMIT, 1.1)
                for key, what in pack + unpack]

    def __init__(self, bench):
        super().__init__(bench)
        self.folder = os.path.join(bench.folder, 'bucket')
        self.size = {}
        os.makedirs(self.folder)
        try:
            self.make_small()
            self.make_big()
            self.make_archives()
        except BaseException:
            self.close()
            raise

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def make_small(self):
        """Logs, as results mostly are."""
        rnd = random.Random(1)
        text = make_text(1 << 20)
        for number in range(SMALL_FILES):
            folder = self.path('small', 'logs', f'd{number // 100}')
            os.makedirs(folder, exist_ok=True)
            size = int(min(16384, 200 + rnd.expovariate(1 / 3000)))
            at = rnd.randrange(len(text) - size)
            with open(os.path.join(folder, f'f{number}.log'), 'wb') as file:
                file.write(text[at:at + size])

    def make_big(self):
        """Half of it cannot be compressed."""
        rnd = random.Random(2)
        text = make_text(1 << 20)
        os.makedirs(self.path('big'))
        with open(self.path('big', 'big.bin'), 'wb') as file:
            for number in range(BIG_BYTES >> 20):
                file.write(rnd.randbytes(1 << 20) if number % 2 else text[:1 << 20])

    def make_archives(self):
        for kind in KINDS:
            subprocess.run(['tar', '-C', self.path(kind), '-cf', self.path(f'{kind}.tar'), '.'],
                           check=True)
        for kind in COMPRESSED:
            base, suffix = os.path.splitext(kind)
            if not shutil.which(COMPRESSORS[suffix][0]):
                continue
            with open(self.path(f'{base}.tar'), 'rb') as tar, open(self.path(kind), 'wb') as file:
                subprocess.run(COMPRESSORS[suffix], stdin=tar, stdout=file, check=True)

    def contestants(self):
        return {
            OURS: lambda: self.all(OURS, self.ours),
            LIMIT: lambda: self.all(LIMIT, self.limit),
            TAR: lambda: self.all(TAR, self.tar),
            PYTHON: lambda: self.all(PYTHON, self.tarfile),
        }

    def all(self, name, run):
        for key, measure in self.measures.items():
            _, mode, kind = key.split('/')
            rival = name not in (OURS, LIMIT)
            if rival and kind in COMPRESSED:
                continue
            if mode == 'pack':
                archive, folder = self.path('packed.tar'), self.path(kind)
            else:
                archive = self.path(f'{kind}.tar' if kind in KINDS else kind)
                folder = self.path('unpacked')
                if not os.path.exists(archive):
                    self.bench.leave_out(f'{kind}: {COMPRESSORS["." + kind.split(".")[1]][0]} is '
                                         'not installed')
                    continue
                os.makedirs(folder)
            try:
                measure.add(name, run(mode, archive, folder))
                self.check(mode, archive, folder, kind)
            finally:
                shutil.rmtree(self.path('unpacked'), ignore_errors=True)

    def check(self, mode, archive, folder, kind):
        if mode == 'pack':
            packed, whole = os.path.getsize(archive), os.path.getsize(self.path(f'{kind}.tar'))
            assert packed > whole * 0.95, f'{kind}: {packed} bytes packed, not {whole}'
            os.unlink(archive)
            return
        found = sum(len(files) for _, _, files in os.walk(folder))
        assert found == (SMALL_FILES if kind.startswith('small') else 1), f'{kind}: {found} files'

    @staticmethod
    def what_is_in(folder):
        names = sorted(os.listdir(folder))
        folders = [name for name in names if os.path.isdir(os.path.join(folder, name))]
        return {'folders': folders, 'files': sorted(set(names) - set(folders))}

    @staticmethod
    def run(command, **options):
        """CPU seconds of a command."""
        process = subprocess.Popen(command, **options)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise AssertionError(f'{command}: exit status {process.returncode}')
        return usage.ru_utime + usage.ru_stime

    def ours(self, mode, archive, folder):
        request, answer = self.path('request'), self.path('answer')
        with open(request, 'w') as file:
            json.dump(self.what_is_in(folder) if mode == 'pack' else
                      {'max_bytes': 1 << 40, 'max_files': 1 << 30}, file)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if mode == 'pack' else os.O_RDONLY
        program = os.path.join(harness.LIBEXEC, 'dut-fetch')
        # A shell would do; but it would be measured as well.
        pid = os.posix_spawn(program, [program, mode], os.environ, file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, request, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, answer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_OPEN, 3, archive, flags, 0o640),
            (os.POSIX_SPAWN_OPEN, 4, folder, os.O_RDONLY | os.O_DIRECTORY, 0)])
        _, status, usage = os.wait4(pid, 0)
        with open(answer) as file:
            text = file.read()
        if status or '"ok":true' not in text:
            raise AssertionError(f'dut-fetch {mode}: {status} {text}')
        return usage.ru_utime + usage.ru_stime

    def limit(self, mode, archive, folder):
        return self.run([self.bench.program('limit-archive'), mode, archive, folder])

    def tar(self, mode, archive, folder):
        if not shutil.which('tar'):
            raise LeftOut('tar is not installed')
        return self.run(['tar', '-C', folder, '-cf' if mode == 'pack' else '-xf', archive,
                         *(['.'] if mode == 'pack' else [])])

    def tarfile(self, mode, archive, folder):
        return self.run([sys.executable, '-c', TARFILE[mode], archive], cwd=folder)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
