#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every file says its licence in one of its first three lines."""

import fnmatch
import os

import common

# The licence itself, prose, and inputs of tests that have to be exactly what they are.
EXEMPT = ('LICENSE', '*.md', 'tests/data/*', 'tests/*/data/*', 'tests/fuzz/corpus/*')

LINE = 'SPDX-License-Identifier: MIT'


def check(root):
    for path in common.files(root):
        if any(fnmatch.fnmatch(path, pattern) for pattern in EXEMPT):
            continue
        with open(os.path.join(root, path), 'rb') as file:
            head = b'\n'.join(file.read(1000).split(b'\n')[:3])
        if LINE.encode() not in head:
            yield f'{path}:1: no "{LINE}" in the first three lines'


if __name__ == '__main__':
    common.main(check)
