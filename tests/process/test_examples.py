# SPDX-License-Identifier: MIT
"""The examples of dut-job(5) and of examples/ are jobs that dutd would take."""

import glob
import json
import os
import re
import unittest

from tests.support.harness import LIBEXEC, SOURCE, Lab

# What dutd would ask with: the boards that the examples name, and the variables of a lab.
BOARDS = [
    {'id': 'vm-1', 'tags': ['arch:arm64', 'arch:armhf'], 'deploy': 'qemu', 'tty': 'ttyS0'},
    {'id': 'bbb-1', 'tags': ['bbb'], 'deploy': 'qemu', 'tty': 'ttyS0', 'mac': '02:00:00:00:00:01'},
    {'id': 'demo', 'tags': [], 'deploy': 'qemu', 'tty': 'ttyS0'},
]
FACTS = {
    'v': 1,
    'duts': [{'aliases': [], 'variables': {}, 'mac': None, **board} for board in BOARDS],
    'environ': {'BRANCH': 'main'},
    'variables': {'mirror': 'http://files.example', 'log_options': ['quiet'], 'demo_dir': '/srv'},
    'timeouts': {'overall': 6 * 3600 * 10 ** 6},
    'limits': {'overall': 24 * 3600 * 10 ** 6},
    'file_roots': ['/srv'],
}


def manual_blocks():
    """The literal blocks of dut-job(5), as scdoc shows them."""
    with open(os.path.join(SOURCE, 'executor', 'dut-job.5.scd'), encoding='utf-8') as file:
        text = file.read()
    for block in re.findall(r'^```\n(.*?)^```$', text, re.DOTALL | re.MULTILINE):
        yield re.sub(r'\\(.)', r'\1', block)


class Examples(unittest.TestCase):
    def validate(self, lab, text):
        question = json.dumps({**FACTS, 'job': text}).encode()
        done = lab.execute([os.path.join(LIBEXEC, 'dut-executor'), '--validate'], question)
        self.assertEqual((done.rc, done.err), (0, ''))
        return json.loads(done.out)

    def check(self, lab, text):
        answer = self.validate(lab, text)
        self.assertEqual(answer['errors'], [], text)
        self.assertTrue(answer['duts'])
        return answer

    def test_those_of_the_manual(self):
        with Lab() as lab:
            jobs = [block for block in manual_blocks() if 'console_patterns:' in block]
            self.assertGreaterEqual(len(jobs), 7)
            for text in jobs:
                with self.subTest(text):
                    self.check(lab, text)

    def test_what_the_manual_says_of_them(self):
        with Lab() as lab:
            named = {block.split()[1]: block for block in manual_blocks()
                     if block.startswith('# ')}
            self.assertEqual(set(named), {'kernel.yml', 'update.yml', 'suite.yml'})
            answer = self.check(lab, named['kernel.yml'])
            self.assertEqual(answer['duts'], ['vm-1'])
            self.assertEqual(answer['needs']['bucket'], ['kernel', 'initrd'])
            self.assertEqual(self.check(lab, named['update.yml'])['name'], 'update')
            self.assertEqual(self.check(lab, named['suite.yml'])['target']['tags'], ['arch:arm64'])

    def test_the_files(self):
        with Lab() as lab:
            paths = glob.glob(os.path.join(SOURCE, 'examples', '*.yml'))
            self.assertTrue(paths)
            for path in paths:
                with self.subTest(os.path.basename(path)), open(path, encoding='utf-8') as file:
                    self.check(lab, file.read())

    def test_a_fault_in_one_is_found(self):
        with Lab() as lab:
            text = next(block for block in manual_blocks() if block.startswith('# update.yml'))
            answer = self.validate(lab, text.replace('continue:', 'continued:'))
            self.assertEqual([error['key'] for error in answer['errors']],
                             ['deployment.continued'])


class Outcomes(unittest.TestCase):
    """The examples of sessions end on boards as the manual says."""

    def run_example(self, name, script, board):
        text = next(block for block in manual_blocks() if block.startswith(f'# {name}'))
        with Lab() as lab:
            lab.sim('b1', script, tags=board)
            lab.start()
            # A sim board cannot deploy: the session is what the example is about.
            return lab.run_job(re.split(r'^deployment:', text, flags=re.MULTILINE)[0], 'b1')

    def test_an_update(self):
        script = ('boot 1\nat 10ms send "update: installed, please reboot\\r\\n"\n'
                  'boot 2\nat 10ms send "update: {}\\r\\n"\n')
        job = self.run_example('update.yml', script.format('good'), ['bbb'])
        self.assertEqual((job['status'], job['reason']), ('PASS', 'ok'))
        job = self.run_example('update.yml', script.format('bad'), ['bbb'])
        self.assertEqual((job['status'], job['reason']), ('FAIL', 'no_success'))

    def test_an_update_that_loops(self):
        script = 'at 10ms send "update: installed, please reboot\\r\\n"\n'
        job = self.run_example('update.yml', script, ['bbb'])
        self.assertEqual((job['status'], job['reason']), ('INCOMPLETE', 'timeout:boot_cycle'))

    def test_a_suite_with_something_skipped(self):
        lines = ('suite: begin', 'ok 1', 'not ok 2', 'suite: end', 'suite: 3 skipped',
                 'suite: 0 failed')
        script = ''.join(f'at {10 * n}ms send "{line}\\r\\n"\n' for n, line in enumerate(lines, 1))
        job = self.run_example('suite.yml', script, ['arch:arm64'])
        self.assertEqual((job['status'], job['reason']), ('WARN', 'warn'))


if __name__ == '__main__':
    unittest.main()
