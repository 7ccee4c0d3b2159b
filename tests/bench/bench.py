#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures the product beside bare limit programs and rivals, all in one run: bench.py --help.

Every figure prints a table; what a figure has a goal for passes or fails, and the last line counts
that. The samples go to a file as JSON lines, so that runs can be compared.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback

from tests.bench.figure_bucket import Bucket
from tests.bench.figure_console import Flood, Paced
from tests.bench.figure_daemon import Adopt, Waiting
from tests.bench.figure_http import Http
from tests.bench.figure_memory import Duts, Idle, Upload
from tests.bench.figure_pattern import Pattern
from tests.bench.figure_records import Ended, Records
from tests.bench.figure_start import Many, Start
from tests.bench.figure_view import Boards, Latency
from tests.bench.measure import LeftOut
from tests.support import harness

FIGURES = [Start, Many, Http, Flood, Paced, Pattern, Latency, Boards, Bucket, Idle, Duts,
           Upload, Adopt, Waiting, Ended, Records]


class Bench:
    def __init__(self, arguments):
        self.rounds = arguments.rounds
        self.build = harness.BUILD
        self.programs = os.path.join(self.build, 'tests', 'bench')
        self.folder = None  # for files; in memory, where there is such a place
        self.out = open(arguments.output, 'a', encoding='utf-8')
        self.left_out = set()

    def program(self, name):
        return os.path.join(self.programs, name)

    def note(self, **line):
        self.out.write(json.dumps(line) + '\n')
        self.out.flush()

    def leave_out(self, what):
        if what not in self.left_out:
            self.left_out.add(what)
            say(f'  left out: {what}')


def say(text=''):
    print(text, flush=True)


def describe(bench):
    def ask(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True,
                                  cwd=harness.SOURCE).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    bench.note(run=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
               commit=ask('git', 'describe', '--always', '--dirty'), kernel=platform.release(),
               cpus=os.cpu_count(), load=os.getloadavg()[0], rounds=bench.rounds)


# ---- running ----

def measure_once(bench, figure, function, number):
    before = {(key, name): len(samples) for key, measure in figure.measures.items()
              for name, samples in measure.samples.items()}
    function()
    for key, measure in figure.measures.items():
        for name, samples in measure.samples.items():
            added = samples[before.get((key, name), 0):]
            if added:
                bench.note(figure=figure.name, measure=key, contestant=name, round=number,
                           samples=[float(f'{sample:.6g}') for sample in added])


def run_figure(bench, figure):
    absent = set()
    contestants = figure.contestants()
    for number in range(figure.rounds()):
        for name, function in contestants.items():
            if name in absent:
                continue
            try:
                measure_once(bench, figure, function, number)
            except LeftOut as why:
                absent.add(name)
                bench.leave_out(f'{name}: {why}')


def run(bench, kind):
    """The measures of one figure that have a goal: (passed, text) of each."""
    say(f'\n{kind.name}: {kind.about}')
    try:
        figure = kind(bench)
        try:
            run_figure(bench, figure)
        finally:
            figure.close()
    except LeftOut as why:
        bench.leave_out(f'{kind.name}: {why}')
        return []
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return [(False, f'{kind.name} broke off')]
    verdicts = []
    for measure in figure.measures.values():
        verdicts += report(measure)
        if measure.score is not None:
            bench.note(figure=figure.name, measure=measure.key, score=measure.score,
                       goal=measure.goal, passed=measure.passed)
    return verdicts


# ---- tables ----

def number_text(number):
    if number >= 1000:
        return f'{number:.0f}'
    return f'{number:.3g}' if number < 10 else f'{number:.1f}'


def goal_text(measure, contestant):
    if contestant != measure.ours or measure.goal is None:
        return ''
    verdict = 'PASS' if measure.passed else 'FAIL'
    return f'<= {measure.goal:g}  {verdict}'


def report(measure):
    if not measure.samples:
        return []
    what = f'{measure.what}, {measure.unit}'
    say(f'  {what:<56}{"best":>10}{"median":>10}{"ratio":>8}  goal')
    for contestant in measure.samples:
        ratio = measure.ratio(contestant) if contestant != measure.limit else None
        best = number_text(measure.value(contestant) * measure.scale)
        median = number_text(measure.median(contestant) * measure.scale)
        ratio = '' if ratio is None else f'{ratio:.2f}'
        say(f'    {contestant:<54}{best:>10}{median:>10}{ratio:>8}  '
            f'{goal_text(measure, contestant)}'.rstrip())
    if measure.goal is None:
        return []
    score = '-' if measure.score is None else number_text(measure.score)
    unit = 'times the limit' if measure.limit else measure.unit
    return [(measure.passed, f'{measure.what}: {score} {unit}, goal {measure.goal:g}')]


def compare(path, old_path):
    """The scores of two files side by side."""
    def scores(name):
        with open(name, encoding='utf-8') as file:
            lines = [json.loads(line) for line in file]
        return {line['measure']: line['score'] for line in lines if 'score' in line}

    new, old = scores(path), scores(old_path)
    say(f'\n{"against " + os.path.basename(old_path):<48}{"then":>10}{"now":>10}')
    for key in new:
        if key in old:
            say(f'  {key:<46}{number_text(old[key]):>10}{number_text(new[key]):>10}')


# ---- the program ----

class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(64, f'{self.prog}: {message}\n')


def parse(arguments):
    parser = Parser(
        prog='./dev bench', description='Measures the product beside limit programs and rivals.',
        epilog='figures: ' + '; '.join(f'{kind.name} ({kind.about})' for kind in FIGURES))
    parser.add_argument('figures', nargs='*', metavar='FIGURE', help='only these')
    parser.add_argument('--rounds', type=int, default=5, help='how often (%(default)s)')
    parser.add_argument('--output', metavar='FILE', help='where the samples go, as JSON lines')
    parser.add_argument('--compare', metavar='FILE', help="an earlier run's samples")
    options = parser.parse_args(arguments)
    unknown = set(options.figures) - {kind.name for kind in FIGURES}
    if unknown:
        parser.error(f'no such figure: {", ".join(sorted(unknown))}')
    if options.output is None:
        folder = os.path.join(harness.SOURCE, '.dev-cache', 'bench')
        os.makedirs(folder, exist_ok=True)
        options.output = os.path.join(folder, time.strftime('%Y%m%d-%H%M%S.jsonl', time.gmtime()))
    return options


def is_sanitized():
    with open(harness.DUTD, 'rb') as file:
        return b'__asan_init' in file.read()


def main(arguments):
    options = parse(arguments)
    if is_sanitized():
        say('a build with sanitizers is slow on purpose: nothing is measured')
        return 77
    os.environ['DUT_LIBEXEC_DIR'] = harness.LIBEXEC
    bench = Bench(options)
    describe(bench)
    verdicts = []
    memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix='dut-bench-', dir=memory) as bench.folder:
        for kind in FIGURES:
            if not options.figures or kind.name in options.figures:
                verdicts += run(bench, kind)
    if options.compare:
        compare(options.output, options.compare)
    say(f'\nsamples: {options.output}')
    for passed, text in verdicts:
        if not passed:
            say(f'FAILED: {text}')
    failed = sum(not passed for passed, _ in verdicts)
    say(f'{len(verdicts) - failed} passed, {failed} failed')
    return 1 if failed or not verdicts else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
