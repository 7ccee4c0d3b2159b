# SPDX-License-Identifier: MIT
"""What lies in memory: idle executors with their helpers, dutd with many boards, an upload."""

import json
import os
import shutil
import sys

from tests.bench.figure_start import flask_program
from tests.bench.measure import Figure, Measure, memory
from tests.support.harness import Lab, UnixConnection, await_true
from tests.support.jobhost import JobHost

JOBS = 20
DUTS = 100
GIB = 1 << 30
KIB_TO_MIB = 1 / 1024
EXECUTOR, HELPER, DAEMON = 'dut-executor', 'dut-helper', 'dutd'
LIMIT, FLASK = 'limit: bare libmicrohttpd', 'rival: python3-flask'

JOB = '''
version: 1
timeouts: {overall: {hours: 1}}
console_patterns:
  session_end: {regex: 'the end$'}
'''


def close_lab(lab):
    for fault in lab.close():
        print(fault, file=sys.stderr)
    shutil.rmtree(lab.folder, ignore_errors=True)


class Lent(Figure):
    """A figure with a lab of its own."""

    def __init__(self, bench, state=None):
        super().__init__(bench)
        # Its jobs and boards may live on until it is closed.
        self.lab = Lab(leftovers_allowed=True, state=state)

    def close(self):
        close_lab(self.lab)


class Idle(Lent):
    name = 'idle'
    about = f'memory of a job that waits, with {JOBS} running'

    def plan(self):
        return [
            Measure('idle/pss', f'PSS of each of {JOBS}', 'MiB', KIB_TO_MIB, EXECUTOR, None, 1.0),
            Measure('idle/pss/helper', f'PSS of the helper of each of {JOBS}', 'MiB', KIB_TO_MIB),
        ]

    def __init__(self, bench):
        super().__init__(bench)
        for number in range(JOBS):
            self.lab.sim(f'b{number}', 'at 10ms send "hello\\r\\n"')
        self.lab.start()
        for number in range(JOBS):
            self.lab.submit_ok(JOB, f'b{number}')
        for number in range(JOBS):
            self.lab.await_phase(number + 1, 'running')

    def rounds(self):
        return 1

    def contestants(self):
        return {
            EXECUTOR: self.ours,
            LIMIT: lambda: self.others(LIMIT, [self.bench.program('limit-http')]),
            FLASK: lambda: self.others(FLASK, flask_program()),
        }

    def ours(self):
        for pid, line in self.lab.processes().items():
            name = os.path.basename(line.split()[0])
            if name == EXECUTOR:
                self.measures['idle/pss'].add(name, memory(pid)['Pss'])
            elif name == HELPER:
                self.measures['idle/pss/helper'].add(name, memory(pid)['Pss'])
        for key in self.measures:
            assert len(next(iter(self.measures[key].samples.values()))) == JOBS, 'some are missing'

    def others(self, name, program):
        hosts = [JobHost({}, program=program, folder=self.bench.folder) for _ in range(JOBS)]
        try:
            for host in hosts:
                host.start()
            self.measures['idle/pss'].add(name, *(memory(host.pid)['Pss'] for host in hosts))
        finally:
            for host in hosts:
                host.close()


class Duts(Lent):
    name = 'duts'
    about = f'memory of dutd with {DUTS} idle boards'

    def plan(self):
        return [
            Measure('duts/pss', f'PSS with {DUTS} idle sim boards', 'MiB', KIB_TO_MIB, DAEMON,
                    None, 8.0),
            # With the pages of libraries that all programs share.
            Measure('duts/rss', f'RSS with {DUTS} idle sim boards', 'MiB', KIB_TO_MIB),
        ]

    def __init__(self, bench):
        super().__init__(bench)
        for number in range(DUTS):
            self.lab.sim(f'b{number}', 'at 10ms send "hello\\r\\n"')
        self.lab.start()
        await_true(self.are_idle, 'the boards to be idle')

    def are_idle(self):
        return all(dut['state'] == 'IDLE' for dut in self.lab.get('/duts')['duts'].values())

    def rounds(self):
        return 1

    def contestants(self):
        return {DAEMON: self.measure}

    def measure(self):
        found = memory(self.lab.daemon.pid)
        self.measures['duts/pss'].add(DAEMON, found['Pss'])
        self.measures['duts/rss'].add(DAEMON, found['Rss'])


class Upload(Lent):
    name = 'upload'
    about = 'memory of dutd while 1 GiB is uploaded'

    def plan(self):
        return [Measure('upload/hwm', 'growth of the most that it ever had', 'MiB', KIB_TO_MIB,
                        DAEMON, None, 2.0, pick=max)]

    def __init__(self, bench):
        super().__init__(bench)
        for board in ('b1', 'b2'):
            self.lab.sim(board, 'at 10ms send "the end\\r\\n"')
        self.lab.start()

    def rounds(self):
        return 1

    def contestants(self):
        return {DAEMON: self.measure}

    def measure(self):
        # What the first request ever needs is no growth.
        self.upload('b1', 1 << 20)
        before = memory(self.lab.daemon.pid)['VmHWM']
        self.upload('b2', GIB)
        self.measures['upload/hwm'].add(DAEMON, memory(self.lab.daemon.pid)['VmHWM'] - before)

    def upload(self, board, size):
        """A job with a bucket of nothing but zeros, which is an empty tar."""
        metadata = json.dumps({'version': 1, 'target': {'id': board}})
        boundary = 'bench-boundary'
        head = ''.join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{text}'
            for name, file, text in (
                ('metadata', '', metadata + '\r\n'),
                ('job', '; filename="job"', JOB + '\r\n'),
                ('job_bucket_initial_state_tarball_file', '; filename="tar"', ''))).encode()
        tail = f'\r\n--{boundary}--\r\n'.encode()
        connection = UnixConnection(self.lab.socket, 120)
        try:
            connection.putrequest('POST', '/api/v1/jobs')
            connection.putheader('Content-Type', f'multipart/form-data; boundary={boundary}')
            connection.putheader('Content-Length', str(len(head) + size + len(tail)))
            connection.endheaders(head)
            block = bytes(1 << 20)
            for _ in range(size // len(block)):
                connection.send(block)
            connection.send(tail)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 201:
            raise AssertionError(f'{answer.status} {body[:300]!r}')
        job = self.lab.await_job(json.loads(body)['id'])
        if job['status'] != 'COMPLETE':
            raise AssertionError(job)
