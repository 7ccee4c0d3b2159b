#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bytes and words that no file of the project has."""

import fnmatch
import os
import re

import common

# Inputs of tests have to be exactly what they are: CR LF, no last newline, rubbish.
EXEMPT = ('tests/data/*', 'tests/*/data/*', 'tests/fuzz/corpus/*')

# Written so that this file does not find itself.
WORDS = (
    (re.compile(r'\b(TO' r'DO|FIX' r'ME|XX' r'X)\b'), 'is for an issue, not for a file'),
    (re.compile(r'\b(p' r'kill|kill' r'all)\b'), 'hits strangers: kill by pid'),
)
SLEEP = re.compile(r'(?<![\w.>])(sleep|usleep|nanosleep|clock_nanosleep)\s*\(|\btime\.sleep\(')
TABS_ALLOWED = ('.c', '.h', '.scd', 'Makefile', '.txt')


def problems_of(path, number, line):
    if line != line.rstrip(' \t'):
        yield 'space at the end of the line'
    if '\r' in line:
        yield 'CR at the end of the line'
    if '\t' in line and path.endswith(('.py', '.yaml', '.yml', 'meson.build', '.md')):
        yield 'tab'
    for pattern, why in WORDS:
        match = pattern.search(line)
        if match and path != 'CONTRIBUTING.md':
            yield f'{match[0]} {why}'
    if path.endswith(('.c', '.h', '.py')) and SLEEP.search(line):
        yield 'sleeping for luck: wait for an event, or arm a timer'
    if len(line.expandtabs(8)) > 100 and path.endswith(('.py', 'meson.build', 'dev')):
        yield 'longer than 100 columns'


def check(root):
    for path in common.files(root):
        if any(fnmatch.fnmatch(path, pattern) for pattern in EXEMPT):
            continue
        with open(os.path.join(root, path), 'rb') as file:
            data = file.read()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            yield f'{path}:1: not UTF-8'
            continue
        if not text or not text.endswith('\n') or text.endswith('\n\n'):
            yield f'{path}:{text.count(chr(10)) + 1}: has to end with exactly one newline'
        for number, line in enumerate(text.split('\n'), 1):
            for problem in problems_of(path, number, line):
                yield f'{path}:{number}: {problem}'


if __name__ == '__main__':
    common.main(check)
