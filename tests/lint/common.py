# SPDX-License-Identifier: MIT
"""
What the lints share. Each lint is a program: LINT ROOT prints "file:line: problem" for each
problem and ends with 1 if there was one, 77 if it cannot work here; and a function
check(root) that yields the same, for test_lints.py.
"""

import os
import sys

SKIPPED_FOLDERS = {'__pycache__', 'subprojects'}


class Skip(Exception):
    pass


def files(root, *extensions):
    """Paths below root, relative and sorted, that belong to the project."""
    found = []
    for folder, folders, names in os.walk(root):
        top = folder == root
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS
                      and not (name.startswith('.') and name != '.ci')
                      and not (top and name.startswith('build'))]
        for name in names:
            path = os.path.join(folder, name)
            if os.path.islink(path) or (extensions and not name.endswith(extensions)):
                continue
            found.append(os.path.relpath(path, root))
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as file:
        return file.read()


def lines(root, path):
    """(number, line) of a file, from 1."""
    return enumerate(read(root, path).split('\n'), 1)


def main(check):
    """The body of a lint that is run as a program."""
    count = 0
    try:
        for problem in check(*sys.argv[1:]):
            print(problem)
            count += 1
    except Skip as skip:
        print(skip)
        sys.exit(77)
    sys.exit(1 if count else 0)
