# SPDX-License-Identifier: MIT
"""dut-helper, with the test in the executor's place."""

import contextlib
import gzip
import io
import os
import re
import shutil
import signal
import tarfile
import unittest

from tests.support import processes
from tests.support.fetching import BODY, LIBEXEC, PATIENCE, Box, Helper, Web, now


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.close)
        self.web = Web()
        self.addCleanup(self.web.close)

    def make(self, **config):
        helper = Helper(**config)
        self.addCleanup(helper.close)
        return helper

    def alone(self, content=None):
        """A dut-helper without, or with another, dut-fetch beside it."""
        folder = self.box.at('libexec')
        os.mkdir(folder)
        shutil.copy(os.path.realpath(os.path.join(LIBEXEC, 'dut-helper')), folder)
        if content:
            os.chmod(self.box.write('libexec/dut-fetch', content), 0o755)
        return self.make(libexec=folder)

    def ask(self, helper, number, path='ok', **more):
        with self.box.open(f'out-{number}') as out:
            helper.send({'t': 'download', 'id': number, 'url': self.web.url(path),
                         'max_bytes': 1 << 20, **more}, [out])

    def await_stall(self, count=1):
        for _ in range(count):
            self.assertTrue(self.web.stalled.acquire(timeout=PATIENCE))

    def await_leave(self, count=1):
        """The connections of stalled downloads are closed within a second."""
        began = now()
        for _ in range(count):
            self.assertTrue(self.web.left.acquire(timeout=PATIENCE))
        self.assertLess(now() - began, 1)


class Work(Case):
    def test_a_download_is_done(self):
        helper = self.make()
        self.ask(helper, 7)
        done = helper.done()
        self.assertEqual((done['t'], done['id'], done['ok'], done['size']),
                         ('done', 7, True, len(BODY)))
        self.assertEqual(self.box.read('out-7'), BODY)

    def test_several_run_at_once_and_each_has_its_answer(self):
        helper = self.make()
        self.ask(helper, 1, 'stall')
        self.ask(helper, 2, 'missing')
        self.ask(helper, 3, sha256='0' * 64)
        self.ask(helper, 4)
        answers = {packet['id']: packet for packet in (helper.done() for _ in range(3))}
        self.assertEqual({id: answer.get('reason') for id, answer in answers.items()},
                         {2: 'download', 3: 'checksum', 4: None})
        helper.send({'t': 'cancel'})

    def test_no_more_than_sixteen_run_at_once(self):
        helper = self.make()
        for number in range(16):
            self.ask(helper, number, 'stall')
        self.await_stall(16)
        self.ask(helper, 16)
        done = helper.done()
        self.assertEqual((done['id'], done['reason']), (16, 'executor_failed'))
        self.assertIn('more than 16 downloads at once', done['error'])
        helper.send({'t': 'cancel'})
        self.await_leave(16)

    def test_progress_is_passed_on(self):
        helper = self.make()
        self.ask(helper, 5, 'drip')
        packet = helper.receive()
        self.assertEqual((packet['t'], packet['id']), ('progress', 5))
        self.assertGreater(packet['progress'], len(BODY) // 2)
        self.assertTrue(helper.done()['ok'])

    def test_an_open_file_is_copied_and_a_bucket_unpacked(self):
        helper = self.make()
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode='w:gz') as file:
            info = tarfile.TarInfo('a/b')
            info.size = len(BODY)
            file.addfile(info, io.BytesIO(BODY))
        self.box.write('tar', tar.getvalue())
        os.mkdir(self.box.at('dir'))
        with self.box.open('tar') as source, self.box.open('dir', os.O_RDONLY) as folder:
            helper.send({'t': 'unpack', 'id': 1, 'max_bytes': 1 << 20, 'max_files': 9},
                        [source, folder])
        self.assertEqual(helper.done()['size'], len(BODY))
        with self.box.open('dir/a/b') as source, self.box.open('out') as out:
            helper.send({'t': 'download', 'id': 2, 'max_bytes': 1 << 20}, [out, source])
        self.assertTrue(helper.done()['ok'])
        self.assertEqual(self.box.read('out'), BODY)

    def test_children_get_no_fd_but_theirs(self):
        helper = self.alone(b'#!/bin/sh\nexec ls -l /proc/$$/fd >&3\n')
        self.ask(helper, 1)
        self.assertIn('no answer', helper.done()['error'])
        listing = self.box.read('out-1').decode()
        self.assertIn(self.box.at('out-1'), listing)
        self.assertNotIn('socket:', listing)
        links = re.findall(r' (\d+) -> (.*)', listing)
        self.assertEqual([number for number, link in links if not link.startswith('/proc/')],
                         ['0', '1', '2', '3'])

    def test_children_get_no_new_privileges(self):
        helper = self.make()
        self.ask(helper, 1, 'stall')
        self.await_stall()
        for pid in (*helper.children(), helper.pid):
            with open(f'/proc/{pid}/status') as file:
                self.assertIn('NoNewPrivs:\t1\n', file.read())


class End(Case):
    def test_cancel_ends_all_within_a_second_and_is_silent(self):
        helper = self.make()
        for number in range(3):
            self.ask(helper, number, 'stall')
        self.await_stall(3)
        helper.send({'t': 'cancel'})
        self.await_leave(3)
        self.ask(helper, 9)
        self.assertEqual(helper.done()['id'], 9)

    def test_cancel_ends_an_unpacking(self):
        helper = self.make()
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode='w') as file:
            for number in range(20000):
                file.addfile(tarfile.TarInfo(f'{number % 100}/{number}'))
        self.box.write('tar', gzip.compress(tar.getvalue(), 1))
        os.mkdir(self.box.at('dir'))
        with self.box.open('tar') as source, self.box.open('dir', os.O_RDONLY) as folder:
            helper.send({'t': 'unpack', 'id': 1, 'max_bytes': 1 << 20, 'max_files': 30000},
                        [source, folder])
        helper.send({'t': 'cancel'})
        began = now()
        self.ask(helper, 2)
        self.assertEqual(helper.done()['id'], 2)
        self.assertLess(now() - began, PATIENCE)
        for pid in helper.children():
            self.assertTrue(processes.await_end(pid, PATIENCE))
        self.assertLess(sum(len(names) for _, _, names in os.walk(self.box.at('dir'))), 20000)

    def test_with_the_executor_everything_ends(self):
        helper = Helper()
        self.ask(helper, 1, 'stall')
        self.await_stall()
        self.assertEqual(helper.close(), 0)
        self.await_leave()

    def test_a_killed_helper_takes_its_children_along(self):
        helper = Helper()
        self.ask(helper, 1, 'stall')
        self.await_stall()
        os.kill(helper.pid, signal.SIGKILL)
        self.await_leave()
        self.assertEqual(helper.close(), -signal.SIGKILL)

    def test_a_child_that_dies_is_reported(self):
        helper = self.make()
        self.ask(helper, 1, 'stall')
        self.await_stall()
        pid, = helper.children()
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(helper.done(), {'t': 'done', 'id': 1, 'reason': 'executor_failed',
                                         'error': 'dut-fetch was killed by signal 9'})


class Misuse(Case):
    def test_a_missing_dut_fetch_is_named(self):
        helper = self.alone()
        self.ask(helper, 1)
        done = helper.done()
        self.assertEqual((done['id'], done['reason']), (1, 'executor_failed'))
        self.assertIn('libexec/dut-fetch: No such file or directory', done['error'])

    def test_one_that_says_nothing_or_nonsense_is_reported(self):
        helper = self.alone(b'#!/bin/sh\necho nonsense; echo "[1]"; exit 3\n')
        self.ask(helper, 1)
        self.assertEqual(helper.done()['error'], 'dut-fetch ended with status 3 and no answer')

    def test_one_that_talks_without_end_is_killed(self):
        helper = self.alone(b'#!/bin/sh\nexec cat /dev/zero\n')
        self.ask(helper, 1)
        self.assertEqual(helper.done()['error'], 'dut-fetch was killed by signal 9')

    def test_more_than_sixteen_are_refused(self):
        helper = self.make()
        for number in range(17):
            self.ask(helper, number, 'stall')
        done = helper.done()
        self.assertEqual((done['id'], done['error']), (16, 'more than 16 downloads at once'))
        helper.send({'t': 'cancel'})

    def test_requests_without_their_files_are_refused(self):
        helper = self.make()
        helper.send({'t': 'download', 'id': 1, 'url': self.web.url('ok')})
        with self.box.open('out') as out:
            helper.send({'t': 'unpack', 'id': 2}, [out])
            helper.send({'t': 'download', 'id': 3}, [out])
        for number in (1, 2, 3):
            done = helper.done()
            self.assertEqual((done['id'], done['error']),
                             (number, 'a request came without its files'))

    def test_what_is_not_known_is_said_and_what_is_no_packet_is_dropped(self):
        helper = self.make()
        for packet in (b'x', b'{}', b'[]', b'{"t": 1}'):
            helper.send(packet)
        helper.send({'t': 'dance'})
        self.assertEqual(helper.receive(), {'t': 'unknown', 'unknown': 'dance'})

    def test_an_executor_that_does_not_read_loses_no_answer(self):
        helper = self.make()
        helper.socket.settimeout(0.2)
        sent = 0
        # Until it stops reading in turn: nothing piles up in it.
        with contextlib.suppress(TimeoutError):
            while sent < 20000:
                helper.send({'t': 'unpack', 'id': sent})
                sent += 1
        helper.socket.settimeout(PATIENCE)
        self.assertLess(sent, 20000)
        self.assertEqual([helper.done()['id'] for _ in range(sent)], list(range(sent)))

    def test_it_is_not_started_by_hand(self):
        path = os.path.join(LIBEXEC, 'dut-helper')
        with self.box.open('out') as out:
            pid = os.posix_spawn(path, [path, '--help'], os.environ,
                                 file_actions=[(os.POSIX_SPAWN_DUP2, out, 2)])
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 64)
        self.assertEqual(self.box.read('out'), b'dut-helper is started by dut-executor\n')


if __name__ == '__main__':
    unittest.main()
