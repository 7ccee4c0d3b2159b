# SPDX-License-Identifier: MIT
"""What a request for a state costs: the executor's own, and that of a DUT at dutd."""

import json
import os
import shutil
import subprocess
import sys

from tests.bench.figure_start import JOB, flask_program
from tests.bench.measure import US, Figure, LeftOut, Measure, cpu_s, tree
from tests.support.harness import Lab
from tests.support.jobhost import JobHost

STATE = '/api/v1/state'
DUT = '/api/v1/dut/b1'
EXECUTOR, DAEMON = 'dut-executor', 'dutd'
FLASK, GUNICORN = 'rival: python3-flask', 'rival: gunicorn with flask'
LIMITS = {EXECUTOR: 'limit: bare libmicrohttpd', DAEMON: "limit: with dutd's length"}
RIVALS = (FLASK, GUNICORN)

# (connections, how they are used)
WAYS = [(1, 'keep'), (1, 'new'), (16, 'keep'), (16, 'new')]
WORDS = {'keep': 'kept', 'new': 'new'}
REQUESTS = {'ours': 8000, 'rival': 500}


# Client and server share a processor. On two, what is measured with one connection is where the
# scheduler puts them, and whether a processor sleeps between two requests: a factor of three.
ONE_PROCESSOR = {min(os.sched_getaffinity(0))}


def pin(pid):
    for task in os.listdir(f'/proc/{pid}/task'):
        os.sched_setaffinity(int(task), ONE_PROCESSOR)


class Http(Figure):
    name = 'http'
    about = 'CPU of a request for a state'

    def plan(self):
        measures = []
        for ours, limit in LIMITS.items():
            for count, how in WAYS:
                what = f'{ours}: CPU a request, {count} {WORDS[how]} connection{"s"[:count - 1]}'
                measures.append(Measure(f'http/{ours}/{how}/{count}', what, 'us', 1 / US, ours,
                                        limit, 1.5))
        return measures

    def __init__(self, bench):
        super().__init__(bench)
        self.hosts = []
        self.lab = None
        self.servers = {}  # contestant → (pid, socket, target, key's owner)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        host = self.host(None)
        host.begin()
        host.power_on()
        self.servers[EXECUTOR] = (host.pid, host.path('..', 'job.sock'), STATE, EXECUTOR)
        length = len(json.dumps(host.get(STATE)[1], separators=(',', ':')))
        self.start_limit(EXECUTOR, length)

        self.lab = Lab()
        self.lab.sim('b1', 'at 0s send "hello\\r\\n"')
        self.lab.start()
        self.servers[DAEMON] = (self.lab.daemon.pid, self.lab.socket, DUT, DAEMON)
        self.start_limit(DAEMON, len(self.lab.api('GET', '/dut/b1').body))

    def host(self, program):
        host = JobHost(JOB, program=program, folder=self.bench.folder)
        self.hosts.append(host)
        return host

    def start_limit(self, ours, length):
        host = self.host([self.bench.program('limit-http'), str(length)])
        host.start()
        self.servers[LIMITS[ours]] = (host.pid, host.path('..', 'job.sock'), STATE, ours)

    def start_rival(self, name):
        if name == GUNICORN and not shutil.which('gunicorn'):
            raise LeftOut('gunicorn is not installed')
        host = self.host(flask_program() + (['gunicorn'] if name == GUNICORN else []))
        host.start()
        self.servers[name] = (host.pid, host.path('..', 'job.sock'), STATE, EXECUTOR)

    def contestants(self):
        return {name: (lambda name=name: self.measure(name))
                for name in [EXECUTOR, LIMITS[EXECUTOR], *RIVALS, DAEMON, LIMITS[DAEMON]]}

    def measure(self, name):
        if name not in self.servers:
            self.start_rival(name)
        pid, path, target, ours = self.servers[name]
        count = REQUESTS['rival' if name in RIVALS else 'ours']
        pids = tree(pid)
        for each in pids:
            pin(each)
        self.load(path, target, 1, 'keep', 50)
        for connections, how in WAYS:
            before = cpu_s(*pids)
            done = self.load(path, target, connections, how, count)
            used = cpu_s(*pids) - before
            self.measures[f'http/{ours}/{how}/{connections}'].add(name, used / done['requests'])

    def load(self, path, target, connections, how, count):
        command = [self.bench.program('load'), path, target, str(connections), how, str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            pin(client.pid)
            done = json.loads(client.stdout.read())
        if done['bad']:
            raise AssertionError(f'{done["bad"]} answers of {path} were refusals')
        return done

    def close(self):
        for host in self.hosts:
            host.close()
        if self.lab:
            for fault in self.lab.close():
                print(fault, file=sys.stderr)
            shutil.rmtree(self.lab.folder, ignore_errors=True)
