# SPDX-License-Identifier: MIT
import os
import unittest


class Build(unittest.TestCase):
    def test_helpers_are_named_in_one_folder(self):
        names = sorted(os.listdir(os.environ['DUT_LIBEXEC_DIR']))
        self.assertEqual(names, ['dut-executor', 'dut-fetch', 'dut-helper', 'dut-sim'])


if __name__ == '__main__':
    unittest.main()
