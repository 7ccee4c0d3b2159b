#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every header compiles alone, and says #pragma once: headers.py ROOT COMPILER [FLAG...]."""

import os
import subprocess

import common

FLAGS = ['-std=c17', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-fsyntax-only', '-xc', '-']


def check(root, *compiler):
    for path in common.files(root, '.h'):
        if '#pragma once' not in common.read(root, path):
            yield f'{path}:1: #pragma once is missing'
        done = subprocess.run([*(compiler or ('cc',)), '-I' + root, *FLAGS], check=False,
                              input=f'#include "{path}"\n', text=True, capture_output=True,
                              env=dict(os.environ, LC_ALL='C'))
        if done.returncode != 0:
            yield f'{path}:1: does not compile alone\n{done.stderr.rstrip()}'


if __name__ == '__main__':
    common.main(check)
