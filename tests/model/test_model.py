# SPDX-License-Identifier: MIT
"""job.pml holds, every one of its rules is needed, and the functions that it mirrors are there."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

FOLDER = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(FOLDER, 'job.pml')
SOURCE = os.path.dirname(os.path.dirname(FOLDER))

# Each is searched to its end: what may happen beside submissions, and how often.
WHOLE = {
    'kills': {},
    'cancelled only': {'ENDLESS': 1, 'DUTD_KILLS': 1},
    'a second dutd': {'SECOND_DUTD': 1, 'DUTD_KILLS': 1, 'CANCELS': 0},
    'an adapter is pulled': {'PULLS': 1, 'DUTD_KILLS': 1, 'CANCELS': 0},
    'an executor is stopped': {'STOPS': 1, 'DUTD_KILLS': 1, 'CANCELS': 0},
    'a reservation': {'RESERVATIONS': 1, 'DUTD_KILLS': 1, 'CANCELS': 0},
    'a reload': {'RELOADS': 1, 'DUTD_KILLS': 1},
}

# What a rule is needed for, when kills and a cancel alone do not show it.
NEEDED_FOR = {
    'CANCEL_IS_COMMITTED': {'ENDLESS': 1},
    'CONSOLE_AT_ANY_TIME': {'PULLS': 1, 'EXECUTOR_KILLS': 0, 'CANCELS': 0},
    'DEAD_WHEN_UNLOCKED': {'STOPS': 1},
    'LEAVING_STAYS': {'RELOADS': 1},
    'ONE_DUTD': {'SECOND_DUTD': 1},
    'RESERVATION_IS_COMMITTED': {'RESERVATIONS': 1},
    'RESERVED_WAITS': {'RESERVATIONS': 1, 'DUTD_KILLS': 0, 'EXECUTOR_KILLS': 0},
}

MEMORY_MIB = 4000


def text_of_model():
    with open(MODEL, encoding='utf-8') as file:
        return file.read()


def rules():
    """The names of the rules: what is defined before "how much happens"."""
    return re.findall(r'^#define ([A-Z_]+) 1 /\*', text_of_model().split('how much happens')[0],
                      re.MULTILINE)


def search(settings):
    """What spin's checker says of the model with these settings."""
    with tempfile.TemporaryDirectory(prefix='dut-model-') as folder:
        def run(*command):
            return subprocess.run(command, cwd=folder, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True,
                                  timeout=600).stdout

        shutil.copy(MODEL, folder)
        run('spin', *(f'-D{name}={value}' for name, value in settings.items()), '-a', 'job.pml')
        run('gcc', '-O2', '-w', '-DSAFETY', '-DCOLLAPSE', '-DVECTORSZ=2048',
            f'-DMEMLIM={MEMORY_MIB}', '-o', 'pan', 'pan.c')
        # A violation is no failure of the program that finds it.
        return run('./pan', '-m200000')


def errors(report):
    found = re.search(r'errors: (\d+)', report)
    return int(found.group(1)) if found else None


@unittest.skipUnless(shutil.which('spin'), 'there is no spin')
class Model(unittest.TestCase):
    def test_it_holds(self):
        for name, settings in WHOLE.items():
            with self.subTest(name):
                report = search(settings)
                self.assertEqual(errors(report), 0, report)
                self.assertNotRegex(report, 'not completed|too small|out of memory')

    def test_every_rule_is_needed(self):
        self.assertGreater(len(rules()), 10)
        for rule in rules():
            with self.subTest(rule):
                report = search({rule: 0, **NEEDED_FOR.get(rule, {})})
                self.assertEqual(errors(report), 1, report)
                self.assertIn('assertion violated', report)


class Mirror(unittest.TestCase):
    def test_what_it_mirrors_is_there(self):
        """A function that is renamed or gone takes the model with it."""
        sources = ''
        for folder in ('dut', 'executor', 'base'):
            for path in glob.glob(os.path.join(SOURCE, folder, '*.c')):
                with open(path, encoding='utf-8') as file:
                    sources += file.read()
        text = text_of_model()
        names = set()
        for part in re.findall(r'mirrors: ((?:\w+, )*\w+)', text):
            names.update(part.split(', '))
        self.assertGreater(len(names), 10)
        missing = [name for name in sorted(names)
                   if not re.search(rf'^[a-z].*\b{name}\(', sources, re.MULTILINE)]
        self.assertEqual(missing, [])


if __name__ == '__main__':
    unittest.main()
