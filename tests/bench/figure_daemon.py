# SPDX-License-Identifier: MIT
"""What it takes dutd to begin again: jobs that live, jobs that wait."""

from tests.bench.figure_memory import JOB, Lent
from tests.bench.measure import Measure, cpu_s
from tests.support.harness import await_true
from tests.support.jobhost import now

JOBS = 100
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
