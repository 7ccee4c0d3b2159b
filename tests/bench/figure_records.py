# SPDX-License-Identifier: MIT
"""What it costs to forget nothing: a start with many records, and submissions on a real disk."""

import concurrent.futures
import json
import os
import shutil
import tempfile

from tests.bench.figure_memory import KIB_TO_MIB, Lent
from tests.bench.measure import Measure, cpu_s, memory, reaped_s
from tests.support import finished
from tests.support.jobhost import now

DUTS, JOBS = 1000, 100000
SUBMISSIONS, CLIENTS = 1000, 32
SYNCS = 500
RATE = 200  # submissions a second, or as many as the disk can sync
PATIENCE_S = 300
DAEMON, DISK = 'dutd', 'limit: append and fdatasync'

JOB = 'console_patterns: {session_end: hello}\n'


class Ended(Lent):
    name = 'ended'
    about = f'start of dutd with {DUTS} DUTs and {JOBS} jobs that have ended'

    def plan(self):
        return [
            Measure('ended/ready', 'exec to READY', 's', 1, DAEMON, None, 1.0),
            Measure('ended/cpu', 'CPU until then', 's'),
            Measure('ended/rss', 'RSS then', 'MiB', KIB_TO_MIB),
            Measure('ended/lost', 'exec to READY when the database was lost', 's'),
            Measure('ended/all', 'dut jobs --all', 's'),
            Measure('ended/hwm', 'growth of the most memory by that', 'MiB', KIB_TO_MIB, DAEMON,
                    None, 8.0, pick=max),
        ]

    def __init__(self, bench):
        super().__init__(bench, state=tempfile.mkdtemp(dir=bench.folder))
        self.lab.configure({'limits': {'kept_jobs': 2 * JOBS}})
        script = self.lab.write('script', 'at 10ms send "hello\\r\\n"\n')
        self.lab.write('etc/duts.d/all.yaml', json.dumps(
            {f'b{number}': {'sim': {'script': script}} for number in range(DUTS)}))
        self.lab.start(PATIENCE_S)
        self.lab.run_job(JOB, 'b1')
        self.lab.await_board('b1', 'IDLE')
        self.lab.stop()
        finished.multiply(self.lab.state, finished.template(self.lab, 1), range(2, JOBS + 1),
                          log=b'hello\r\n', dut=lambda number: f'b{number % DUTS}',
                          console_base=lambda number: number // DUTS * 7)
        for name in ('dutd.db', 'dutd.db-wal'):
            if os.path.exists(os.path.join(self.lab.state, name)):
                os.unlink(os.path.join(self.lab.state, name))
        began = now()
        self.lab.start(PATIENCE_S)
        self.measures['ended/lost'].add(DAEMON, now() - began)

    def contestants(self):
        return {DAEMON: self.measure}

    def measure(self):
        self.lab.stop()
        began = now()
        self.lab.start(PATIENCE_S)
        self.measures['ended/ready'].add(DAEMON, now() - began)
        self.measures['ended/cpu'].add(DAEMON, cpu_s(self.lab.daemon.pid))
        before = memory(self.lab.daemon.pid)
        self.measures['ended/rss'].add(DAEMON, before['Rss'])
        began = now()
        ran = self.lab.dut('jobs', '--all')
        self.measures['ended/all'].add(DAEMON, now() - began)
        assert ran.out.count('\n') == JOBS, ran
        self.measures['ended/hwm'].add(
            DAEMON, memory(self.lab.daemon.pid)['VmHWM'] - before['VmHWM'])


class Records(Lent):
    name = 'records'
    about = f'submissions of {CLIENTS} clients with records on the disk of the build'

    def plan(self):
        return [
            Measure('records/submit', 'time for each', 'ms', 1000, DAEMON, None, 1000 / RATE),
            Measure('records/rate', 'a second', '', 1, pick=max),
            Measure('records/cpu', 'CPU of dutd for each', 'ms', 1000),
            Measure('records/check', 'CPU of the process that checks its job file', 'ms', 1000),
        ]

    def __init__(self, bench):
        # Memory would say nothing of it.
        self.disk = tempfile.mkdtemp(prefix='bench-records-', dir=bench.build)
        super().__init__(bench, state=self.disk)
        self.lab.configure({'limits': {'waiting_jobs': 1000000, 'free_space': 0}})
        self.lab.sim('b1', 'at 10ms send "hello\\r\\n"')
        self.lab.start()
        self.lab.api('PATCH', '/dut/b1', {'is_retired': True})

    def close(self):
        super().close()
        shutil.rmtree(self.disk, ignore_errors=True)

    def contestants(self):
        return {DAEMON: self.measure, DISK: self.sync}

    def sync(self):
        with open(os.path.join(self.disk, 'probe'), 'ab', buffering=0) as file:
            began = now()
            for _ in range(SYNCS):
                file.write(bytes(4096))
                os.fdatasync(file.fileno())
            took = (now() - began) / SYNCS
        self.measures['records/submit'].add(DISK, took)
        self.measures['records/rate'].add(DISK, 1 / took)
        # A slow disk is no fault of ours.
        slow = self.measures['records/submit'].value(DISK) * 1000
        self.measures['records/submit'].goal = max(1000 / RATE, slow)

    def submit(self, number):
        return self.lab.submit_ok(JOB, 'b1', wait='forever', name=f'job {number}')

    def measure(self):
        pid = self.lab.daemon.pid
        began, cpu, reaped = now(), cpu_s(pid), reaped_s(pid)
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self.submit, range(SUBMISSIONS)))
        took = (now() - began) / SUBMISSIONS
        self.measures['records/submit'].add(DAEMON, took)
        self.measures['records/rate'].add(DAEMON, 1 / took)
        self.measures['records/cpu'].add(DAEMON, (cpu_s(pid) - cpu) / SUBMISSIONS)
        self.measures['records/check'].add(DAEMON, (reaped_s(pid) - reaped) / SUBMISSIONS)
