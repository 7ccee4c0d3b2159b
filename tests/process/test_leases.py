# SPDX-License-Identifier: MIT
"""Some of the sequences of `./dev torture leases`, and that it can tell good from bad."""

import os
import subprocess
import sys
import unittest

from tests.support.harness import SOURCE
from tests.torture import leases


class Leases(unittest.TestCase):
    def test_some_sequences(self):
        # Sanitizers are slow, on machines that do other things as well.
        slow = 'ASAN_OPTIONS' in os.environ or 'UBSAN_OPTIONS' in os.environ
        ran = subprocess.run([sys.executable, '-m', 'tests.torture.leases', '40', '463'],
                             cwd=SOURCE, capture_output=True, text=True, check=False,
                             env={**os.environ, 'LEASES_SLACK': '5' if slow else '2'})
        self.assertEqual(ran.returncode, 0, ran.stdout[-20000:] + ran.stderr)
        self.assertTrue(ran.stdout.endswith('40 passed, 0 failed\n'), ran.stdout[-500:])

    def test_a_seed_gives_the_same_steps_and_all_of_them(self):
        self.assertEqual(leases.draw(1, 2), leases.draw(1, 2))
        self.assertNotEqual(leases.draw(1, 2), leases.draw(1, 3))
        plans = [leases.draw(1, number) for number in range(1, 126)]
        verbs = {step[0] for plan, _ in plans for steps in plan.values() for step in steps}
        self.assertEqual(verbs, {'reserve', 'abandon', 'extend', 'release', 'kick', 'drop', 'power',
                                 'pause', 'linger'})
        self.assertEqual({event[1] for _, events in plans for event in events},
                         {'kill', 'step', 'stop'})

    def test_what_is_certain(self):
        lease = leases.Lease('x', True)
        self.assertFalse(lease.is_held(5, 6))
        lease.acked, lease.earliest, lease.lost, lease.latest = 4, 10, 8, 11
        self.assertTrue(lease.is_held(5, 7))
        self.assertFalse(lease.is_held(3, 7))   # nobody was told yet
        self.assertFalse(lease.is_held(5, 9))   # its client may be lost
        self.assertEqual(lease.ends_by(), 11)
        lease.dropped = 7
        self.assertEqual(lease.ends_by(), 7 + leases.CLIENT_S)


if __name__ == '__main__':
    unittest.main()
