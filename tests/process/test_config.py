# SPDX-License-Identifier: MIT
"""dutd --check, and the examples of dutd.yaml(5)."""

import os
import re
import unittest

from tests.support.harness import SOURCE, Lab


def manual_examples():
    """The files of dutd.yaml(5): literal blocks that begin with a comment that names the file."""
    with open(os.path.join(SOURCE, 'dut', 'dutd.yaml.5.scd'), encoding='utf-8') as file:
        text = file.read()
    for block in re.findall(r'^```\n(.*?)^```$', text, re.DOTALL | re.MULTILINE):
        name = re.match(r'# ([\w./-]+)\n', block)
        if name:
            yield name[1], re.sub(r'\\(.)', r'\1', block)  # as scdoc shows it


class Config(unittest.TestCase):
    def check(self, lab):
        done = lab.dutd('--check')
        return done.rc, done.err.replace(lab.path('etc') + '/', '')

    def test_the_examples_of_the_manual_are_a_configuration(self):
        with Lab() as lab:
            names = []
            for name, text in manual_examples():
                names.append(name)
                lab.write(f'etc/{name}', text)
            self.assertIn('dutd.yaml', names)
            self.assertIn('duts.d/sim-1.script', names)
            self.assertEqual(self.check(lab), (0, ''))

    def test_every_fault_is_one_line_with_its_place(self):
        with Lab() as lab:
            lab.write('etc/dutd.yaml', 'api: {sockt: {}}\n')
            lab.write('etc/duts.d/a.yaml', 'a: {qemu: {}, tags: x}\n')
            lab.write('etc/duts.d/b.yml', '')
            lab.write('etc/duts.d/c.yaml', 'c: {power: {driver: gpio, line: 4}}\n'
                                           'd: {power: {driver: qmu}}\n'
                                           'e: {sim: {script: c.script, settel: 1s}}\n')
            lab.write('etc/duts.d/c.script', '\nat noon crash\n')
            self.assertEqual(self.check(lab), (65, (
                "dutd.yaml:1:7: unknown key 'sockt', did you mean 'socket'?\n"
                'duts.d/a.yaml:1:21: tags: needs a list, such as [a, b]\n'
                'duts.d/b.yml:0:0: rename to .yaml\n'
                "duts.d/c.yaml:1:21: not yet: driver 'gpio'\n"
                "duts.d/c.yaml:2:21: there is no power driver 'qmu'; did you mean 'qemu'?\n"
                "duts.d/c.yaml:3:19: duts.d/c.script:2: 'noon' is not a duration such as 500ms, "
                '30s, 10m, 2h, 1d or a number of seconds\n'
                "duts.d/c.yaml:3:29: unknown key 'settel', did you mean 'settle'?\n")))

    def test_the_example_for_an_installation_is_a_configuration(self):
        with Lab() as lab:
            with open(os.path.join(SOURCE, 'examples', 'dutd.yaml'), encoding='utf-8') as file:
                lab.write('etc/dutd.yaml', file.read())
            self.assertEqual(self.check(lab), (0, ''))


if __name__ == '__main__':
    unittest.main()
