# SPDX-License-Identifier: MIT
"""What ./dev test prints last has to be true, whatever a test program does."""

import unittest

from tests.support.tally import Tally


class TallyTest(unittest.TestCase):
    def last_line(self, *tests):
        tally = Tally()
        for result, output in tests:
            tally.add_test({'name': 'dutd:unit / x', 'result': result, 'stdout': output})
        return list(tally.lines())

    def test_cases_are_counted_and_not_programs(self):
        lines = self.last_line(('OK', '1..2\nok 1 - a\nok 2 - b\n# ok - tests\n'), ('OK', ''))
        self.assertEqual(lines, ['3 passed, 0 failed'])

    def test_a_failed_case_is_named(self):
        lines = self.last_line(('FAIL', 'ok 1 - a\nnot ok 2 - b\n1..2\n'))
        self.assertEqual(lines, ['FAILED: unit / x / b', '1 passed, 1 failed'])

    def test_a_program_that_dies_after_its_cases(self):
        lines = self.last_line(('ERROR', '1..3\nok 1 - a\n'), ('TIMEOUT', ''))
        self.assertEqual(lines, ['FAILED: unit / x (error)', 'FAILED: unit / x (timeout)',
                                 '1 passed, 2 failed'])

    def test_skips_are_not_passes(self):
        lines = self.last_line(('OK', 'ok 1 - a # SKIP no kernel\nok 2 - b\n'),
                               ('SKIP', '1..0 # SKIP no qemu\n'), ('SKIP', 'no clang-format\n'))
        self.assertEqual(lines, ['skipped: unit / x / a: no kernel',
                                 'skipped: unit / x: no clang-format', 'skipped: unit / x: no qemu',
                                 '1 passed, 0 failed, 3 skipped'])


if __name__ == '__main__':
    unittest.main()
