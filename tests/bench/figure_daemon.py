# SPDX-License-Identifier: MIT
"""What it takes dutd to begin again, with jobs that live and with jobs that wait."""

import concurrent.futures
import tempfile

from tests.bench.figure_memory import JOB, KIB_TO_MIB, Lent
from tests.bench.measure import Measure, cpu_s, memory
from tests.support.harness import await_true
from tests.support.jobhost import now

JOBS = 100
WAITING = 10000
CLIENTS = 4  # who submit them: as many as dutd checks job files at once
PATIENCE_S = 120
DAEMON = 'dutd'


class Adopt(Lent):
    name = 'adopt'
    about = f'start of dutd while {JOBS} jobs run'

    def plan(self):
        return [
            Measure('adopt/ready', f'exec to READY with {JOBS} executors', 's', 1, DAEMON, None,
                    2.0),
            Measure('adopt/all', f'exec until all {JOBS} are taken over', 's', 1, DAEMON, None,
                    2.0),
            Measure('adopt/cpu', 'CPU until then', 's'),
        ]

    def __init__(self, bench):
        super().__init__(bench)
        for number in range(JOBS):
            self.lab.sim(f'b{number}', 'at 10ms send "hello\\r\\n"')
        self.lab.start()
        for number in range(JOBS):
            self.lab.submit_ok(JOB, f'b{number}')
        self.await_jobs()

    def close(self):
        self.lab.kill_daemon()
        super().close()

    def await_jobs(self):
        """Every board is on, and its executor has said where its job stands."""
        def all_run():
            duts = self.lab.get('/duts')['duts'].values()
            return all(dut['state'] == 'RUNNING' and dut['power']['state'] == 'ON' and
                       dut['job']['phase'] == 'running' for dut in duts)
        await_true(all_run, f'{JOBS} jobs to run', PATIENCE_S)

    def contestants(self):
        return {DAEMON: self.measure}

    def measure(self):
        self.lab.kill_daemon()
        began = now()
        self.lab.start(PATIENCE_S)
        self.measures['adopt/ready'].add(DAEMON, now() - began)
        self.await_jobs()
        self.measures['adopt/all'].add(DAEMON, now() - began)
        self.measures['adopt/cpu'].add(DAEMON, cpu_s(self.lab.daemon.pid))


class Waiting(Lent):
    name = 'waiting'
    about = f'memory of dutd with {WAITING} jobs that wait'

    def plan(self):
        return [
            Measure('waiting/submit', 'a submission, records in memory', 'ms', 1000),
            Measure('waiting/rss', f'RSS with {WAITING} jobs that wait', 'MiB', KIB_TO_MIB, DAEMON,
                    None, 40.0),
            Measure('waiting/ready', 'exec to READY with them', 's'),
            Measure('waiting/again', 'RSS after that', 'MiB', KIB_TO_MIB, DAEMON, None, 40.0),
        ]

    def __init__(self, bench):
        # The records lie in memory: what it takes a disk to keep them is no matter here.
        super().__init__(bench, state=tempfile.mkdtemp(dir=bench.folder))
        # One user gets half of them.
        self.lab.configure({'limits': {'waiting_jobs': 2 * WAITING}})
        self.lab.sim('b1', 'at 10ms send "hello\\r\\n"')
        self.lab.start()
        self.lab.submit_ok(JOB, 'b1')

    def rounds(self):
        return 1

    def contestants(self):
        return {DAEMON: self.measure}

    def submit(self, number):
        return self.lab.submit_ok(JOB, 'b1', wait='forever', name=f'job {number}')

    def measure(self):
        began = now()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            jobs = list(pool.map(self.submit, range(WAITING)))
        self.measures['waiting/submit'].add(DAEMON, (now() - began) / WAITING)
        self.measures['waiting/rss'].add(DAEMON, memory(self.lab.daemon.pid)['Rss'])
        self.lab.kill_daemon()
        began = now()
        self.lab.start(PATIENCE_S)
        self.measures['waiting/ready'].add(DAEMON, now() - began)
        assert self.lab.get(f'/jobs/{jobs[-1]}')['place'] == WAITING
        self.measures['waiting/again'].add(DAEMON, memory(self.lab.daemon.pid)['Rss'])
