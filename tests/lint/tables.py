#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tables of statuses, reasons and verdicts in dut-job(5) are those of the sources."""

import os
import re

import common

MANUAL = 'executor/dut-job.5.scd'
BEFORE_ON = 'before the first power-on SETUP_FAIL'


def section(manual, name):
    match = re.search(rf'^# {name}\n(.*?)(?=^# |\Z)', manual, re.DOTALL | re.MULTILINE)
    return match[1] if match else ''


def rows(text):
    """The rows of a scdoc table: each the plain texts of its cells."""
    for row in re.split(r'^\|(?:\[|\]|-)?', text, flags=re.MULTILINE)[1:]:
        row = row.split('\n\n')[0]
        cells = re.split(r'^:[<\-> ]?', row, flags=re.MULTILINE)
        yield [re.sub(r'\\(.)', r'\1', ' '.join(cell.split()).replace('*', '')) for cell in cells]


def statuses(text):
    """In the order of the enumeration, which is that of the exit codes."""
    table = re.search(r'status_names\[JOB_STATUSES\] = \{(.*?)\};', text, re.DOTALL)
    return re.findall(r'"(\w+)"', table[1]) if table else []


def reasons(text):
    """Name, status and status before the first power-on; a name for N stands behind : and . ."""
    found = {}
    for name, status, before in re.findall(
            r'\{\s*"([^"]+)",\s*JOB_(\w+),\s*JOB_(\w+)\s*\}', text):
        found[name + ('N' if name[-1] in ':.' else '')] = (status, before)
    return found


def verdict_reasons(text, name):
    table = re.search(rf'\b{name}\[\] = \{{(.*?)\}};', text, re.DOTALL)
    return set(re.findall(r'"(\w+)"', table[1])) if table else set()


def check_statuses(manual, source):
    wanted = [(name, str(code)) for code, name in enumerate(statuses(source))]
    told = [(row[0], row[1]) for row in rows(section(manual, 'STATUS')) if len(row) >= 2]
    if told != wanted:
        yield f'{MANUAL}:1: STATUS has {told}, base/protocol.c {wanted}'


def check_reasons(manual, source):
    wanted = reasons(source)
    told = {row[0]: row[1:] for row in rows(section(manual, 'REASONS')) if len(row) == 3}
    for name in sorted(set(wanted) ^ set(told)):
        yield f'{MANUAL}:1: REASONS and base/protocol.c differ in {name}'
    for name in sorted(set(wanted) & set(told)):
        status, before = wanted[name]
        # Without job_success an ok is COMPLETE, which no table of reasons can tell.
        if told[name][0].replace(', COMPLETE', '') != status:
            yield f'{MANUAL}:1: {name} is {status}, not {told[name][0]}'
        if (before != status) != told[name][1].endswith(BEFORE_ON):
            yield f'{MANUAL}:1: {name} is {before} before the first power-on'


def check_verdicts(manual, source, names):
    text = section(manual, 'VERDICT').replace('\\', '')
    for verdict in ('lab', 'job'):
        wanted = verdict_reasons(source, verdict)
        match = re.search(rf'^\*{verdict}\*\n\t(.*?)(?=\n\n)', text, re.DOTALL | re.MULTILINE)
        told = set(re.findall(r'\*([\w:.]+)\*', match[1])) & names if match else set()
        for name in sorted(wanted ^ told):
            yield f'{MANUAL}:1: VERDICT and executor/result.c differ in {name} of {verdict}'


def check(root):
    if not os.path.exists(os.path.join(root, MANUAL)):
        return
    manual = common.read(root, MANUAL)
    protocol = common.read(root, 'base/protocol.c')
    yield from check_statuses(manual, protocol)
    yield from check_reasons(manual, protocol)
    yield from check_verdicts(manual, common.read(root, 'executor/result.c'),
                              set(reasons(protocol)))


if __name__ == '__main__':
    common.main(check)
