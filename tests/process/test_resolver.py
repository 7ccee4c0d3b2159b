# SPDX-License-Identifier: MIT
"""A job is ended while the name of a server is being looked up, and nobody answers."""

import os
import shutil
import unittest

from tests.support import processes
from tests.support.fetching import Web
from tests.support.harness import LIBEXEC, Lab
from tests.support.jobhost import WAIT, JobHost, now
from tests.support.resolver import Resolver

NAME = 'files.nowhere.example'


def job(**timeouts):
    return {'version': 1, 'console_patterns': {'session_end': {'regex': 'the end$'}},
            'deployment': {'start': {'kernel': {'url': f'http://{NAME}/kernel'}}},
            'timeouts': timeouts}


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.resolver = Resolver('files.lab')
        self.addCleanup(self.resolver.close)

    def begin(self, **timeouts):
        """An executor whose dut-fetch waits for a name, and the processes below it."""
        program = self.resolver.command(os.path.join(LIBEXEC, 'dut-executor'))
        dutd = JobHost(job(**timeouts), program=program)
        self.addCleanup(dutd.close)
        dutd.begin()
        self.assertIn(b'nowhere', self.resolver.await_question(WAIT))
        helper, = self.children(dutd.pid)
        fetch, = self.children(helper)
        self.assertIn('dut-fetch', processes.command_line(fetch))
        return dutd, (helper, fetch)

    @staticmethod
    def children(pid):
        return [int(word) for word in processes.read(pid, f'task/{pid}/children').split()]

    def assert_gone(self, pids):
        for pid in pids:
            self.assertTrue(processes.await_end(pid, 1), processes.command_line(pid))


class Lookup(Case):
    def test_a_cancel_ends_it_within_a_second(self):
        dutd, pids = self.begin()
        began = now()
        dutd.send({'t': 'cancel', 'reason': 'cancelled', 'by': 'bob', 'why': 'lunch'})
        result = dutd.run()
        self.assertLess(now() - began, 1)
        self.assertEqual((result['status'], result['reason']), ('CANCELLED', 'cancelled'))
        self.assert_gone(pids)

    def test_infra_setup_ends_it(self):
        dutd, pids = self.begin(infra_setup={'milliseconds': 1500})
        result = dutd.run()
        self.assertEqual((result['status'], result['reason']),
                         ('SETUP_FAIL', 'timeout:infra_setup'))
        self.assert_gone(pids)

    def test_a_name_of_etc_hosts_is_found_at_once(self):
        web = Web()
        self.addCleanup(web.close)
        url = f'http://files.lab:{web.server.server_port}/ok'
        artifact = {'url': url, 'sha256': '0' * 64}
        program = self.resolver.command(os.path.join(LIBEXEC, 'dut-executor'))
        description = {**job(), 'deployment': {'start': {'kernel': artifact}}}
        dutd = JobHost(description, program=program)
        self.addCleanup(dutd.close)
        dutd.begin()
        # Downloaded, and not what the job wanted.
        self.assertEqual(dutd.run()['reason'], 'checksum')
        self.assertEqual(len(web.headers('ok')), 1)

    def test_a_killed_executor_leaves_nobody(self):
        dutd, pids = self.begin()
        dutd.kill()
        self.assert_gone(pids)

    @unittest.skipUnless(shutil.which('qemu-system-x86_64'), 'qemu-system-x86 is not installed')
    def test_a_submitted_job_is_cancelled(self):
        text = f'version: 1\ndeployment: {{start: {{kernel: {{url: "http://{NAME}/kernel"}}}}}}\n' \
               'console_patterns: {session_end: the end}\n'
        with Lab() as lab:
            lab.board('b1', {'qemu': {'arch': 'amd64', 'memory': '64M'}})
            lab.daemon.command[:0] = self.resolver.command()
            lab.start()
            job_id = lab.submit_ok(text, 'b1')
            self.resolver.await_question(WAIT)
            began = now()
            self.assertLess(lab.api('POST', f'/jobs/{job_id}/cancel').status, 300)
            self.assertEqual(lab.await_job(job_id)['status'], 'CANCELLED')
            self.assertLess(now() - began, 2)
            lab.await_board('b1', 'IDLE')


if __name__ == '__main__':
    unittest.main()
