#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The output of clang-format 14 is the style; another version has another opinion."""

import os
import re
import shutil
import subprocess

import common

VERSION = '14'


def find():
    for name in (f'clang-format-{VERSION}', 'clang-format'):
        path = shutil.which(name)
        if path is None:
            continue
        said = subprocess.run([path, '--version'], capture_output=True, text=True, check=True)
        if re.search(rf'version {VERSION}\.', said.stdout):
            return path
    raise common.Skip(f'clang-format {VERSION} is not installed')


def check(root):
    program = find()
    sources = common.files(root, '.c', '.h')
    if not sources:
        return
    done = subprocess.run([program, '--dry-run', '-Werror', '--style=file', *sources], cwd=root,
                          capture_output=True, text=True, check=False,
                          env=dict(os.environ, LC_ALL='C'))
    seen = set()
    for line in done.stderr.split('\n'):
        match = re.match(r'(\S+?):(\d+):\d+: error:', line)
        if match and match[1] not in seen:
            seen.add(match[1])
            yield f'{match[1]}:{match[2]}: not as clang-format {VERSION} has it'
    if done.returncode != 0 and not seen:
        yield f'clang-format: {done.stderr.strip()}'


if __name__ == '__main__':
    common.main(check)
