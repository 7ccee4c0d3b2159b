#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the unittest cases of one file and reports each as a line of TAP, for `meson test`.

stdout carries TAP and nothing else: whatever the cases and the programs under test print goes to
stderr, which meson keeps beside it.
"""

import importlib.util
import os
import sys
import traceback
import unittest


class TapResult(unittest.TestResult):
    def __init__(self, tap):
        super().__init__()
        self.tap = tap
        self.number = 0
        self.subtest_failed = False

    def line(self, good, test, directive='', detail=None):
        self.number += 1
        name = test.id().split('.', 1)[-1].replace('#', ' ')
        print(f'{"ok" if good else "not ok"} {self.number} - {name}{directive}', file=self.tap)
        for text in (detail or '').rstrip().split('\n') if detail else []:
            print('# ' + text, file=self.tap)
        self.tap.flush()

    def startTest(self, test):
        super().startTest(test)
        self.subtest_failed = False
        print(f'--- {test.id()}', file=sys.stderr, flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line(True, test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line(True, test, ' # SKIP ' + reason.replace('\n', ' '))

    def failed(self, test, error):
        detail = ''.join(traceback.format_exception(*error))
        print(detail, file=sys.stderr, flush=True)
        self.line(False, test, detail=detail)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.failed(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.failed(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.failed(subtest, error)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.line(True, test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.line(False, test, detail='succeeded, and was expected to fail')


def main():
    path = os.path.abspath(sys.argv[1])
    tap = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = unittest.TestLoader()
    try:
        spec.loader.exec_module(module)
        suite = loader.loadTestsFromModule(module)
    except unittest.SkipTest as skip:
        print(f'1..0 # SKIP {skip}', file=tap)
        return 0
    if len(sys.argv) > 2:
        suite = loader.loadTestsFromNames(sys.argv[2:], module)
    result = TapResult(tap)
    suite.run(result)
    print(f'1..{result.number}', file=tap)
    return 0 if result.wasSuccessful() else 1


if __name__ == '__main__':
    sys.exit(main())
