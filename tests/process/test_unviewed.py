# SPDX-License-Identifier: MIT
"""A console that nobody views costs dutd nothing, and whoever comes later sees it live."""

import threading
import time
import unittest

from tests.support import processes
from tests.support.harness import Lab

JOB = 'console_patterns: {session_end: "all done"}\n'
TALKS = 'at 10ms send "hello\\r\\n"\n'
TALKS += ''.join(f'at {50 + 20 * i}ms send "line {i}\\r\\n"\n' for i in range(400))


def turns(pid):
    """How often it went to sleep."""
    status = processes.read(pid, 'status').decode()
    return int(status.partition('\nvoluntary_ctxt_switches:')[2].split()[0])


class Unviewed(unittest.TestCase):
    def test_a_console_without_viewers_does_not_wake_dutd(self):
        with Lab() as lab:
            lab.sim('b1', TALKS)
            lab.start()
            job = lab.submit_ok(JOB, 'b1')
            lab.await_phase(job, 'running')
            lines = self.logged(lab, job)
            before = turns(lab.daemon.pid)
            threading.Event().wait(1.5)
            turned = turns(lab.daemon.pid) - before
            self.assertGreater(self.logged(lab, job) - lines, 20)
            self.assertLess(turned, 20)

            # Those who come now see what comes from now on.
            with lab.stream(f'/jobs/{job}/log', follow=1) as log, lab.console('b1') as console:
                begun = time.monotonic()
                for stream in (log, console):
                    stream.read_until(b'line 1')
                    seen = stream.data.count(b'\n')
                    while stream.data.count(b'\n') < seen + 10:
                        self.assertTrue(stream.read_some())
                self.assertLess(time.monotonic() - begun, 5)
            # And those who come after it was quiet again.
            threading.Event().wait(0.5)
            with lab.stream(f'/jobs/{job}/events', follow=1) as events:
                events.read_until(b'"running"')
                self.assertEqual(lab.api('POST', f'/jobs/{job}/cancel').status, 200)
                events.read_all()
            lab.await_board('b1', 'IDLE')

    @staticmethod
    def logged(lab, job):
        return lab.api('GET', f'/jobs/{job}/log').body.count(b'\n')


if __name__ == '__main__':
    unittest.main()
