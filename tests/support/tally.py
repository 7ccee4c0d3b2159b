#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Adds up what `meson test` has logged: tally.py [--passed NAME | --failed NAME]... [TESTLOG.json]...
Each case of a TAP test counts, any other test counts once. Names what failed and why others were
skipped; the last line is "N passed, N failed", with ", N skipped" behind it if there were any.
"""

import collections
import json
import re
import sys

CASE = re.compile(r'^(not )?ok\b(?:\s+\d+)?(?:\s*-)?\s*(.*?)\s*(?:#\s*(SKIP)\b\s*(.*))?$',
                  re.IGNORECASE | re.MULTILINE)
NOTHING = re.compile(r'^1\.\.0\s*#\s*SKIP\S*\s*(.*)$', re.IGNORECASE | re.MULTILINE)
GOOD = ('OK', 'EXPECTEDFAIL')


class Tally:
    def __init__(self):
        self.counts = collections.Counter()
        self.failed = []
        self.skipped = collections.Counter()

    def add(self, kind, name, why=''):
        self.counts[kind] += 1
        if kind == 'failed':
            self.failed.append(name)
        elif kind == 'skipped':
            self.skipped[f'{name}: {why or "no reason given"}'] += 1

    def add_test(self, test):
        """One line of testlog.json."""
        name = test['name'].split(':', 1)[-1]
        output = test.get('stdout', '')
        nothing = NOTHING.search(output)
        cases = list(CASE.finditer(output))
        if test['result'] == 'SKIP' and not cases:
            lines = (nothing[1] if nothing else output).strip().split('\n')
            self.add('skipped', name, lines[-1])
            return
        bad = 0
        for case in cases:
            if case[3]:
                self.add('skipped', f'{name} / {case[2]}', case[4])
            else:
                self.add('failed' if case[1] else 'passed', f'{name} / {case[2]}')
                bad += bool(case[1])
        # A program may also die after, or without, its last case.
        if test['result'] not in GOOD and test['result'] != 'SKIP' and not bad:
            self.add('failed', f'{name} ({test["result"].lower()})')
        elif not cases:
            self.add('passed', name)

    def add_log(self, path):
        try:
            with open(path, encoding='utf-8', errors='replace') as file:
                for line in file:
                    self.add_test(json.loads(line))
        except OSError as error:
            self.add('failed', f'{path}: {error.strerror}')

    def lines(self):
        for text, count in sorted(self.skipped.items()):
            yield f'skipped: {text}' + (f' ({count} times)' if count > 1 else '')
        for name in self.failed:
            yield f'FAILED: {name}'
        line = f'{self.counts["passed"]} passed, {self.counts["failed"]} failed'
        if self.counts['skipped']:
            line += f', {self.counts["skipped"]} skipped'
        yield line


def main(arguments):
    tally = Tally()
    arguments = iter(arguments)
    for argument in arguments:
        if argument in ('--passed', '--failed'):
            tally.add(argument[2:], next(arguments))
        else:
            tally.add_log(argument)
    for line in tally.lines():
        print(line)
    return 1 if tally.counts['failed'] or not tally.counts['passed'] else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
