# SPDX-License-Identifier: MIT
"""What it costs to try patterns on a console's lines."""

import json
import os
import subprocess

from tests.bench import bootlog
from tests.bench.measure import Figure, Measure

LOG_BYTES = 256 << 10
FED_MB = 50
OURS, LIMIT = 'ours', 'limit: each pattern with PCRE2 JIT'
NAMES = {'pattern': OURS, 'pattern-each': LIMIT}
GOAL_NS = 4  # 250 MB in a second


class Pattern(Figure):
    name = 'pattern'
    about = 'CPU of a byte, patterns alone'
    counts = (5, 20, 100)

    def plan(self):
        return [Measure(f'pattern/{count}', f'{count} patterns on a boot log: CPU', 'ns a byte',
                        1e9, OURS, goal=GOAL_NS) for count in self.counts]

    def __init__(self, bench):
        super().__init__(bench)
        self.log = os.path.join(bench.folder, 'boot.log')
        self.patterns = os.path.join(bench.folder, 'patterns')
        with open(self.log, 'wb') as file:
            file.write(bootlog.make_log(LOG_BYTES))
        with open(self.patterns, 'w') as file:
            file.writelines(pattern + '\n' for pattern in bootlog.PATTERNS)

    def contestants(self):
        return {f'{count}': lambda count=count: self.measure(count) for count in self.counts}

    def measure(self, count):
        """Both ways in one run; they must find the same."""
        run = subprocess.run(
            [self.bench.program('bench-pattern'), self.log, self.patterns, str(count), str(FED_MB)],
            stdout=subprocess.PIPE, text=True, check=True)
        samples = [json.loads(line) for line in run.stdout.splitlines()]
        assert len({sample['hits'] for sample in samples}) == 1, samples
        for sample in samples:
            self.measures[f'pattern/{count}'].add(NAMES[sample['name']],
                                                  1e-6 / sample['mb_per_cpu_s'])
