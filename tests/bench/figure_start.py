# SPDX-License-Identifier: MIT
"""How long a job's process takes from its exec until it says that it is ready."""

import os
import signal
import subprocess

from tests.bench.measure import MS, Figure, LeftOut, Measure
from tests.support.jobhost import JobHost, now

# What a job usually has.
JOB = {
    'version': 1,
    'timeouts': {'overall': {'hours': 1}, 'boot_cycle': {'minutes': 5, 'retries': 2}},
    'console_patterns': {
        'session_end': {'regex': 'demo: finished$'},
        'session_reboot': {'regex': 'demo: please reboot'},
        'job_success': {'regex': 'demo: exit=0$'},
    },
    'deployment': {'start': {'kernel': {'cmdline': 'console={{ dut.tty }},115200'}}},
}

EXECUTOR, LIMIT, FLASK = 'dut-executor', 'limit: bare libmicrohttpd', 'rival: python3-flask'
STARTS = 10  # a round
MANY = 100


def flask_program():
    """With Debian's own Python, which has Debian's packages."""
    program = ['/usr/bin/python3', os.path.join(os.path.dirname(__file__), 'rival_flask.py')]
    if subprocess.run([program[0], '-c', 'import flask'], stderr=subprocess.DEVNULL).returncode:
        raise LeftOut('python3-flask is not installed')
    return program


def end(host):
    """Ends it, and the CPU seconds that it has used."""
    if host.ready is not None:
        raise AssertionError('it was not waited for')
    signal.pidfd_send_signal(host.pidfd, signal.SIGKILL)
    _, status, usage = os.wait4(host.pid, 0)
    host.status = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


class Start(Figure):
    name = 'start'
    about = 'exec to ready'

    def plan(self):
        return [
            Measure('start/wall', 'exec to ready', 'ms', 1 / MS, EXECUTOR, LIMIT, 2.0),
            Measure('start/cpu', 'CPU until ready', 'ms', 1 / MS, EXECUTOR, LIMIT),
        ]

    def contestants(self):
        return {
            EXECUTOR: lambda: self.start(EXECUTOR, None, STARTS),
            LIMIT: lambda: self.start(LIMIT, [self.bench.program('limit-http')], STARTS),
            FLASK: lambda: self.start(FLASK, flask_program(), 1),
        }

    def start(self, contestant, program, count):
        for _ in range(count):
            with JobHost(JOB, program=program, folder=self.bench.folder) as host:
                host.spawn()
                word = host.await_ready()
                took = now() - host.began
                if word != 'R':
                    raise AssertionError(f'{contestant}: {word}')
                self.measures['start/wall'].add(contestant, took)
                self.measures['start/cpu'].add(contestant, end(host))


class Many(Figure):
    name = 'many'
    about = f'{MANY} at once'

    def plan(self):
        return [Measure('many/wall', f'{MANY} started, until all are ready', 's', 1, EXECUTOR,
                        None, 0.4)]

    def contestants(self):
        return {
            EXECUTOR: lambda: self.start(EXECUTOR, None),
            LIMIT: lambda: self.start(LIMIT, [self.bench.program('limit-http')]),
        }

    def start(self, contestant, program):
        hosts = [JobHost(JOB, program=program, folder=self.bench.folder) for _ in range(MANY)]
        try:
            for host in hosts:
                host.spawn()
            words = {host.await_ready() for host in hosts}
            took = now() - hosts[0].began
            if words != {'R'}:
                raise AssertionError(f'{contestant}: {words}')
            self.measures['many/wall'].add(contestant, took)
        finally:
            for host in hosts:
                host.close()
