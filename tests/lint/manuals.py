#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A manual mentions every option, verb, key, route and reason that its program knows."""

import fnmatch
import os
import re

import common

STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def strings_of(pattern, text, group=1):
    """The string literals within each match of the pattern."""
    for match in re.finditer(pattern, text, re.DOTALL):
        for literal in STRING.finditer(match[group]):
            yield literal[1]


def getopt_options(text):
    for name in re.findall(r'\{\s*"([\w-]+)",\s*(?:no|required|optional)_argument', text):
        yield '--' + name


def dut_options(text):
    """Entries of cli/options.h; those that are refused as not yet there need no paragraph."""
    pattern = r'\{\s*"([\w-]+)",\s*(?:NULL|"[^"]*"),\s*OPTION_(?:FLAG|TEXT|LIST)\b'
    for name in re.findall(pattern, text):
        yield '--' + name


def dut_verbs(text):
    return re.findall(r'struct verb verb_\w+ = \{\s*\.name = "(\w+)"', text)


def known_keys(text):
    """The lists of keys that a mapping may have."""
    return strings_of(r'\b(?:known|\w*keys)\[\]\s*=\s*\{(.*?)\}', text)


def template_names(text):
    return strings_of(r'\bfixed_names\[\]\s*=\s*\{(.*?)\}', text)


def reasons(text):
    """The table of base/protocol.c; what ends in a colon or dot is followed by a name."""
    for name in re.findall(r'\{\s*"([^"]+)",\s*JOB_\w+,\s*JOB_\w+\s*\}', text):
        yield name.rstrip(':.')


def routes(text):
    return re.findall(r'"(/api/v1/[^"]*)"', text)


def methods(text):
    """Routes with their methods."""
    for method, path in re.findall(r'\.method = "(\w+)",\s*\.path = "([^"]+)"', text):
        yield f'{method} {path}'


def dut_states(text):
    return strings_of(r'\[DUT_STATES\]\s*=\s*\{(.*?)\};', text)


# Sources, what is taken from them, and the manual that has to mention it.
RULES = (
    ('dut/main.c', getopt_options, 'dut/dutd.8.scd'),
    ('dut/config*.c', known_keys, 'dut/dutd.yaml.5.scd'),
    ('hw/*.c', known_keys, 'dut/dutd.yaml.5.scd'),
    ('dut/state.c', dut_states, 'dut/dutd.8.scd'),
    ('dut/api*.c', routes, 'dut/dutd-api.7.scd'),
    ('dut/api.c', methods, 'dut/dutd-api.7.scd'),
    ('dut/submit.c', known_keys, 'dut/dutd-api.7.scd'),
    ('cli/*.c', dut_options, 'cli/dut.1.scd'),
    ('cli/*.h', dut_options, 'cli/dut.1.scd'),
    ('cli/*.c', dut_verbs, 'cli/dut.1.scd'),
    ('executor/main.c', getopt_options, 'executor/dut-executor.8.scd'),
    ('executor/jobsock.c', routes, 'executor/dut-executor.8.scd'),
    ('executor/description*.c', known_keys, 'executor/dut-job.5.scd'),
    ('executor/template-names.c', template_names, 'executor/dut-job.5.scd'),
    ('base/protocol.c', reasons, 'executor/dut-job.5.scd'),
)


def plain(manual):
    """Without scdoc's _underlining_ and its backslashes."""
    return re.sub(r'(?<![\w\\])_((?:\\_|[^_\n])+)_(?!\w)', r'\1', manual).replace('\\', '')


def mentions(manual, word):
    """As a word of its own: "port" is not mentioned by "report"."""
    return re.search(r'(?<![\w-])' + re.escape(word) + r'(?![\w-])', manual) is not None


def check(root):
    sources = common.files(root, '.c', '.h')
    missing = set()
    for pattern, extract, path in RULES:
        matching = [source for source in sources if fnmatch.fnmatch(source, pattern)]
        if not matching:
            continue
        if not os.path.exists(os.path.join(root, path)):
            if path not in missing:
                yield f'{path}:1: the manual of {pattern} is missing'
            missing.add(path)
            continue
        manual = plain(common.read(root, path))
        for source in matching:
            for word in sorted(set(extract(common.read(root, source)))):
                if not mentions(manual, word):
                    yield f'{path}:1: does not mention {word} ({source})'


if __name__ == '__main__':
    common.main(check)
