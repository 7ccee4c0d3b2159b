# SPDX-License-Identifier: MIT
"""A short torture, and that the torture itself can tell good from bad."""

import os
import re
import subprocess
import sys
import unittest

from tests.support.harness import SOURCE
from tests.torture import console, kinds, plan
from tests.torture.console import Piece

BOARDS = ['b1', 'b2', 'b3', 'b4']


def torture(*arguments):
    return subprocess.run([sys.executable, '-m', 'tests.torture.main', *map(str, arguments)],
                          cwd=SOURCE, capture_output=True, text=True, check=False)


class Torture(unittest.TestCase):
    def test_sixty_rounds(self):
        ran = torture(60, 463, '--boards', 20)
        self.assertEqual(ran.returncode, 0, ran.stdout[-20000:] + ran.stderr)
        self.assertTrue(ran.stdout.endswith('60 passed, 0 failed\n'), ran.stdout[-500:])

    def test_a_seed_gives_the_same_steps(self):
        first, again = torture(50, 4711, '--plan'), torture(50, 4711, '--plan')
        self.assertEqual(first.stdout, again.stdout)
        self.assertEqual(len(re.findall(r'^round ', first.stdout, re.M)), 50)
        self.assertIn(torture(1, 4711, '--plan', '--round', 33).stdout, first.stdout)
        self.assertNotEqual(first.stdout, torture(50, 4712, '--plan').stdout)

    def test_every_injury_and_every_board_is_drawn(self):
        verbs, seen = set(), set()
        for number in range(1, 1001):
            drawn = plan.draw(1, number, BOARDS)
            verbs |= {step.action for step in drawn.steps}
            seen |= {kind.name for kind in drawn.cast.values()}
        self.assertEqual(seen, set(kinds.KINDS))
        for action in (('kill', 'executor'), ('stop', 'executor'), ('kill', 'dutd'),
                       ('kill', 'both'), ('term', 'dutd'), ('stop', 'dutd'), ('kill', 'sim'),
                       ('kill', 'helper'), ('kill', 'fetch'), ('fill', 0), ('free', 'disk'),
                       ('unlink', 'job.sock'), ('unlink', 'control.sock'), ('unlink', 'dutd.sock'),
                       ('replace', 'job.sock', 'folder'), ('submit', 'race'),
                       ('submit', 'leave'), ('cancel', 'twice'), ('view', 'log', 'stuck'),
                       ('queue', 4), ('unqueue',), ('reserve', 1), ('extend',), ('release',),
                       ('reload', 'power'), ('reload', 'broken'), ('remove', 'it')):
            self.assertIn(action, verbs)


class Bytes(unittest.TestCase):
    """Whether what lies in the logs is what the board sent."""

    def fits(self, data, *pieces, may_lose=False):
        return console.fits(data, [Piece(*piece) for piece in pieces], may_lose)

    def test_all_in_order_and_nothing_else(self):
        whole = ((b'one ', False), (b'two', False))
        self.assertTrue(self.fits(b'one two', *whole))
        for wrong in (b'', b'one ', b'one tw', b'ne two', b'twoone ', b'one two ', b'one one two',
                      b'onetwo', b'one two two'):
            self.assertFalse(self.fits(wrong, *whole), wrong)
        self.assertTrue(self.fits(b''))
        self.assertFalse(self.fits(b'x'))

    def test_a_killed_board_may_have_sent_more_than_it_noted(self):
        self.assertTrue(self.fits(b'one more two', (b'one ', True), (b'two', False)))
        self.assertFalse(self.fits(b'one more two', (b'one ', False), (b'two', False)))
        self.assertFalse(self.fits(b'on two', (b'one ', True), (b'two', False)))
        self.assertTrue(self.fits(b'more', (b'', True)))

    def test_without_a_reader_the_end_of_a_connection_may_be_missing(self):
        whole = ((b'abcdef', False), (b'defghi', False))
        for good in (b'abcdefghi', b'abcdefdefghi', b'defghi', b'abc', b'', b'abcdefdef'):
            self.assertTrue(self.fits(good, *whole, may_lose=True), good)
        for wrong in (b'bcdefdefghi', b'abcdefefghi', b'abcx', b'defghiabcdef'):
            self.assertFalse(self.fits(wrong, *whole, may_lose=True), wrong)


if __name__ == '__main__':
    unittest.main()
