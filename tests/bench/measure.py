# SPDX-License-Identifier: MIT
"""What the figures are made of: clocks, memory, samples.

CPU time is user and system time of a process with all its threads, by its own clock, which counts
nanoseconds (the ticks of /proc/PID/stat would be too coarse). Noise can only add to a time, so
that the least of several rounds says most; ratios are formed within one run alone.
"""

import os
import statistics
import time
from dataclasses import dataclass, field

MS, US = 1e-3, 1e-6


def cpu_s(*pids):
    """Seconds of CPU that these processes have used; what they have reaped is not in it."""
    # clock_getcpuclockid(3): the clock of a process is made of its id.
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids) / 1e9


def reaped_s(pid):
    """Seconds of CPU of the processes that this one has reaped, in ticks of 10 ms."""
    with open(f'/proc/{pid}/stat') as file:
        fields = file.read().rpartition(') ')[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf('SC_CLK_TCK')


def tree(pid):
    """The process and everything below it."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f'/proc/{parent}/task'):
                with open(f'/proc/{parent}/task/{task}/children') as file:
                    found += map(int, file.read().split())
        except FileNotFoundError:
            continue
    return found


def memory(pid):
    """KiB of a process: Pss shares what several have mapped, VmHWM is the most there was."""
    found = {}
    for name in ('smaps_rollup', 'status'):
        with open(f'/proc/{pid}/{name}') as file:
            for line in file:
                key, _, value = line.partition(':')
                if key in ('Rss', 'Pss', 'Pss_Anon', 'VmHWM'):
                    found[key] = int(value.split()[0])
    return found


@dataclass
class Measure:
    """
    One thing that is measured of several contestants. goal: at most this many times the value of
    the contestant `limit`, or without one at most this value of our own.
    """
    key: str  # what it is called in the results, for ever
    what: str
    unit: str
    scale: float = 1.0  # from the samples' unit (seconds, KiB, 1) to the one that is shown
    ours: str | None = None  # the contestant that has to reach the goal
    limit: str | None = None
    goal: float | None = None
    pick: object = min
    samples: dict = field(default_factory=dict)  # contestant → numbers

    def add(self, contestant, *numbers):
        self.samples.setdefault(contestant, []).extend(numbers)

    def value(self, contestant):
        return self.pick(self.samples[contestant])

    def median(self, contestant):
        return statistics.median(self.samples[contestant])

    def ratio(self, contestant):
        """Of a contestant to the limit."""
        if self.limit not in self.samples or contestant not in self.samples:
            return None
        return self.value(contestant) / max(self.value(self.limit), 1e-12)

    @property
    def score(self):
        """What is compared with the goal."""
        if self.ours not in self.samples:
            return None
        return self.ratio(self.ours) if self.limit else self.value(self.ours) * self.scale

    @property
    def passed(self):
        """None when there is no goal."""
        if self.goal is None:
            return None
        return self.score is not None and self.score <= self.goal


class LeftOut(Exception):
    """This contestant or figure cannot be measured here; says why."""


class Figure:
    """
    Contestants that are measured in turns: `contestants` gives their names and a function each,
    which measures once, and adds to self.measures[KEY].
    """
    name = ''
    about = ''

    def __init__(self, bench):
        self.bench = bench
        self.measures = {measure.key: measure for measure in self.plan()}

    def plan(self):
        raise NotImplementedError

    def contestants(self):
        raise NotImplementedError

    def rounds(self):
        return self.bench.rounds

    def close(self):
        pass
