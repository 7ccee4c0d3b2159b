#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A function that takes `struct error *err` fills it on every failure: no bare return -E…;"""

import re

import common

BARE = re.compile(r'\breturn\s+(?:-(?:E[A-Z0-9]+|errno)\s*;|[^()]*[?:]\s*-E[A-Z0-9]+\b)')
TAKES_ERR = re.compile(r'struct error \*err\b')
COMMENT = re.compile(r'/\*.*?\*/', re.DOTALL)


def without_comments(text):
    return COMMENT.sub(lambda match: '\n' * match[0].count('\n'), text)


def check(root):
    """Relies on the layout: a function's braces, and nothing else, stand in column 0."""
    for path in common.files(root, '.c'):
        head, inside, takes_err = '', False, False
        for number, line in enumerate(without_comments(common.read(root, path)).split('\n'), 1):
            if not inside and line == '{':
                inside, takes_err = True, bool(TAKES_ERR.search(head))
            elif line.startswith('}'):
                inside, head = False, ''
            elif inside:
                if takes_err and BARE.search(line):
                    yield f'{path}:{number}: err is not filled: {line.strip()}'
            else:
                head = '' if line.rstrip().endswith(';') else head + line + '\n'


if __name__ == '__main__':
    common.main(check)
