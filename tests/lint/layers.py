#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which folder may include which, and which file may include a foreign library."""

import fnmatch
import os
import re

import common

ALLOWED = {
    'base': {'base'},
    'hw': {'base', 'hw'},
    'executor': {'base', 'executor'},
    'dut': {'base', 'hw', 'dut'},
    'cli': {'base', 'cli'},
    'bridge': {'base', 'bridge'},
}

# Each foreign library has one wrapper, which turns its conventions into ours.
WRAPPERS = {
    'microhttpd.h': ('base/http*.c',),
    'yaml.h': ('base/yaml*.c',),
    'archive.h': ('base/archive*.c',),
    'archive_entry.h': ('base/archive*.c',),
    'pcre2.h': ('base/pattern*.c',),
    'curl/curl.h': ('executor/download.c', 'cli/client*.c', 'cli/client-internal.h'),
    'nettle/*': ('executor/sink.[ch]', 'base/digest.c'),
    'sqlite3.h': ('dut/database.c',),
    'gpiod.h': ('hw/power-gpio*.c',),
    'libserialport.h': ('hw/console-serial*.c',),
}

INCLUDE = re.compile(r'\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def check_own(root, path, ours):
    """A problem with an include of ours, or None."""
    folder = path.split('/')[0]
    if '/' not in ours:
        return f'"{ours}" needs to name its folder'
    if not os.path.exists(os.path.join(root, ours)):
        return f'"{ours}" does not exist'
    target = ours.split('/')[0]
    if folder in ALLOWED and target not in ALLOWED[folder]:
        return f'{folder}/ may not include {target}/ ("{ours}")'
    return None


def check_foreign(path, foreign):
    wrappers = next((files for name, files in WRAPPERS.items() if fnmatch.fnmatch(foreign, name)),
                    None)
    if path.startswith('tests/') or wrappers is None:
        return None
    if any(fnmatch.fnmatch(path, wrapper) for wrapper in wrappers):
        return None
    return f'<{foreign}> belongs into {" or ".join(wrappers)} alone'


def check(root):
    for path in common.files(root, '.c', '.h'):
        for number, line in common.lines(root, path):
            match = INCLUDE.match(line)
            if not match:
                continue
            ours, foreign = match.groups()
            problem = check_own(root, path, ours) if ours else check_foreign(path, foreign)
            if problem:
                yield f'{path}:{number}: {problem}'


if __name__ == '__main__':
    common.main(check)
