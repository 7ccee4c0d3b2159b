# SPDX-License-Identifier: MIT
"""Submissions that are small and become large: one clear refusal, and nobody else waits."""

import concurrent.futures
import os
import threading
import time
import unittest

from tests.process.test_hostile import make_libexec
from tests.support.harness import LIBEXEC, PATIENCE, Lab, UnixConnection, form_of
from tests.support.peers import NOBODY, PeersLab, user
from tests.support.processes import has_sanitizer, resident

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SHORT = 'console_patterns: {session_end: Linux}\n'
BOUND = 5.0  # seconds in which another client has its answer, on two busy cores


def laughs(levels, width):
    """Anchors that refer to one another: width ** levels nodes when they are expanded."""
    lines = ['a0: &a0 [x]']
    for i in range(1, levels):
        lines.append(f'a{i}: &a{i} [' + ', '.join([f'*a{i - 1}'] * width) + ']')
    return '\n'.join(lines) + '\n' + SHORT


def merges(levels):
    """The same with merge keys, which have to be resolved."""
    lines = ['a0: &a0 {x: 1}']
    for i in range(1, levels):
        lines.append(f'a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}')
    return '\n'.join(lines) + '\n' + SHORT


MANY = (1 << 20) - 4096
YAML = {
    'a billion laughs': laughs(30, 9),
    'merges of merges': merges(1000),
    'an alias of itself': 'a: &a [*a]\n' + SHORT,
    'ten thousand lists': '[' * 10000 + ']' * 10000,
    'half a million lists': '[' * (MANY // 2) + ']' * (MANY // 2),
    'ten thousand mappings': '{a: ' * 10000 + '1' + '}' * 10000,
    'ten thousand levels of blanks': '\n'.join(' ' * i + 'a:' for i in range(1400)),
    'many keys': ''.join(f'k{i}: 1\n' for i in range(MANY // 11)),
    'one key many times': 'a: 1\n' * (MANY // 5),
    'many items': 'x:\n' + '- \n' * (MANY // 3),
    'many documents': '--- \n' * (MANY // 5),
    'many anchors': ''.join(f'k{i}: &a{i} 1\n' for i in range(MANY // 18)),
    'many comments': '#\n' * (MANY // 2),
    'a scalar of a mebibyte': 'name: ' + 'x' * MANY,
    'a key of a mebibyte': 'x' * MANY + ': 1',
    'a block of a mebibyte': 'name: |\n' + '  x\n' * (MANY // 4),
    'a tag of a mebibyte': 'name: !<' + 'x' * MANY + '> y',
    'a number of a mebibyte': 'version: ' + '9' * MANY,
    'templates': 'variables: {a: "' + '{{ a }}' * (MANY // 8) + '"}\n' + SHORT,
    'a pattern of a mebibyte': 'console_patterns: {session_end: "' + '(' * MANY + '"}',
    'nested quantifiers': 'console_patterns: {session_end: "' + '(' * 2000 + 'a' + '+)' * 2000 +
                          '"}',
    'a large quantifier': 'console_patterns: {session_end: "((a{1,60000}){1,60000}){1,60000}"}',
    'directives': '%YAML 9.9\n---\n' + SHORT,
    'nothing': '',
    'a byte order mark of UTF-16': '\ufeff' + SHORT * 0 + '[',
}


def environ_of(text):
    return '{"version": 1, "environ": ' + text + '}'


NARROW = (256 << 10) - 4096
JSON = {
    'depth': '[' * NARROW,
    'depth of objects': '{"a":' * (NARROW // 5),
    'depth within': environ_of('{"a": ' + '[' * 1000 + ']' * 1000 + '}'),
    'many unknown members': '{"version": 1' + ''.join(f', "k{i}": 1' for i in range(20000)) + '}',
    'the same member twice': '{"version": 1, "version": 1}',
    'many times': '{"version": 1' + ', "name": "x"' * 15000 + '}',
    'a number without end': '{"version": ' + '9' * NARROW + '}',
    'a large exponent': '{"version": 1e999999999}',
    'a small exponent': '{"version": 1e-999999999}',
    'NaN': '{"version": NaN}',
    'a text of 250 KiB': '{"version": 1, "name": "' + 'x' * NARROW + '"}',
    'escapes': '{"version": 1, "name": "' + '\\u00e9' * (NARROW // 6) + '"}',
    'variables that are no texts': environ_of('{' + ', '.join(f'"k{i}": {i}'
                                                              for i in range(9000)) + '}'),
    'a list': '[1]',
    'nothing': '',
    'behind its end': '{"version": 1} {}',
}


class Watch:
    """Another client, which asks for the state of the lab all the while."""

    def __init__(self, lab):
        self.lab = lab
        self.slowest = 0.0
        self.faults = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.wait(0.02):
            begun = time.monotonic()
            try:
                self.lab.get('/dut/b1')
            except (OSError, AssertionError) as fault:
                self.faults.append(fault)
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


class Bombs(unittest.TestCase):
    def refused(self, answer, *statuses):
        self.assertIn(answer.status, statuses or (400,), answer)
        error = answer.json['error']
        self.assertTrue(error)
        self.assertLess(len(error), 1200, 'one clear error')
        self.assertNotIn('signal', error)

    def run_all(self, cases, submit):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            pid, before = lab.daemon.pid, resident(lab.daemon.pid)
            with Watch(lab) as watch:
                for name, text in cases.items():
                    with self.subTest(name):
                        begun = time.monotonic()
                        self.refused(submit(lab, text))
                        self.assertLess(time.monotonic() - begun, 20)
            self.assertFalse(watch.faults)
            self.assertLess(watch.slowest, BOUND)
            self.assertEqual(lab.get('/status')['pid'], pid)
            if not has_sanitizer(pid):
                self.assertLess(resident(pid) - before, 24 << 20)
            self.assertEqual(lab.run_job(SHORT, 'b1')['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')

    def test_in_the_job_file(self):
        # Comments alone are an empty job; most are refused by a limit on nodes, depth or length.
        self.run_all(YAML, lambda lab, text: lab.submit(text, 'b1'))

    def test_in_the_metadata(self):
        def submit(lab, text):
            kind, form = form_of([('metadata', text.encode()), ('job', SHORT.encode())])
            return lab.api('POST', '/jobs', form, {'Content-Type': kind})
        self.run_all(JSON, submit)

    def test_that_are_too_large(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            before = resident(lab.daemon.pid)
            with Watch(lab) as watch:
                for text in ('name: ' + 'x' * 100_000_000,
                             ''.join(f'k{i}: 1\n' for i in range(1_000_000))):
                    try:
                        self.refused(lab.submit(text, 'b1'), 413)
                    except (BrokenPipeError, ConnectionResetError):
                        pass  # more than 64 MiB are not read to their end
                self.refused(lab.submit(SHORT, 'b1',
                                        environ={f'k{i}': 'x' for i in range(1_000_000)}), 413)
            self.assertFalse(watch.faults)
            self.assertLess(watch.slowest, BOUND)
            if not has_sanitizer(lab.daemon.pid):
                self.assertLess(resident(lab.daemon.pid) - before, 24 << 20)

    def test_many_at_once(self):
        bombs = [YAML['a billion laughs'], YAML['many keys'], YAML['half a million lists'],
                 YAML['many items']] * 10
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            with Watch(lab) as watch, concurrent.futures.ThreadPoolExecutor(40) as pool:
                for answer in pool.map(lambda text: lab.submit(text, 'b1'), bombs):
                    self.refused(answer)
            self.assertFalse(watch.faults)
            self.assertLess(watch.slowest, BOUND)


class Shares(unittest.TestCase):
    def test_slow_checks_of_one_user_leave_room_for_others(self):
        if os.geteuid() != 0:
            self.skipTest('only root can be somebody else')
        act = '#!/bin/sh\n' \
              'if [ "$1" = --validate ]; then\n' \
              '  text=$(cat)\n' \
              '  case "$text" in *slow*) exec sleep 1000;; esac\n' \
              f'  printf "%s" "$text" | exec {LIBEXEC}/dut-executor --validate\n' \
              '  exit\n' \
              'fi\n' \
              f'exec {LIBEXEC}/dut-executor\n'
        kind, form = form_of([('metadata', b'{"version": 1}'), ('job', SHORT.encode())])
        with PeersLab() as lab:
            lab.configure({'api': {'socket': {'mode': '0666'}}})
            make_libexec(lab, '')
            os.chmod(lab.write('libexec/dut-executor', act), 0o755)
            lab.sim('b1', BOOT)
            lab.start()
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                slow = [pool.submit(lab.submit, 'name: slow\n' + SHORT, 'b1') for _ in range(5)]
                connection = UnixConnection(lab.socket, PATIENCE)
                time_of = {}
                # Theirs take 5 s each, two at a time: ours does not wait for them.
                done = concurrent.futures.wait(slow, timeout=1).done
                self.assertFalse(done)
                with user(NOBODY):
                    connection.connect()
                begun = time.monotonic()
                connection.request('POST', '/api/v1/jobs', form, {'Content-Type': kind})
                response = connection.getresponse()
                time_of['ours'] = time.monotonic() - begun
                self.assertEqual(response.status, 201, response.read())
                self.assertLess(time_of['ours'], BOUND)
                connection.close()
                for answer in slow:
                    self.assertIn('takes longer than 5 s', answer.result().json['error'])
            lab.await_board('b1', 'IDLE')


if __name__ == '__main__':
    unittest.main()
