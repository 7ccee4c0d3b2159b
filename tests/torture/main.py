# SPDX-License-Identifier: MIT
"""
`./dev torture [ROUNDS] [SEED]`: jobs on simulated boards, and everything that can be done to them,
to dutd and its helpers, to its disk and its sockets. After each round all is checked from outside.

The seed is printed; with it, the same steps are done again in the same order. --round N does the
steps of round N alone. A fault is told with the steps that led to it, and the lab's folder is kept.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from tests.support import processes
from tests.support.daemon import NotReady
from tests.torture import checks
from tests.torture.disk import VARIABLE, Disk, run_on, why_not
from tests.torture.plan import draw
from tests.torture.round import Round
from tests.torture.world import World

DISK_BYTES = 256 << 20
DISK_BYTES_A_ROUND = 2 << 20


def say(text):
    print(text, flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(prog='dev torture', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('rounds', nargs='?', type=int, default=100, metavar='ROUNDS')
    parser.add_argument('seed', nargs='?', type=int, default=None, metavar='SEED')
    parser.add_argument('--round', type=int, metavar='N', help='do the steps of round N only, '
                        'ROUNDS times')
    parser.add_argument('--boards', type=int, default=4, metavar='N', help='boards of the lab (4); '
                        'another number draws other steps')
    parser.add_argument('--plan', action='store_true', help='print the steps, and do nothing')
    parser.add_argument('--keep-going', action='store_true',
                        help='after a fault go on with a new lab')
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)
    if options.rounds < 1 or options.boards < 1:
        parser.error('there has to be at least one round and one board')
    return options


def arguments(options):
    """The same again, with the seed that was found."""
    given = [str(options.rounds), str(options.seed), '--boards', str(options.boards)]
    if options.round:
        given += ['--round', str(options.round)]
    return given + ['--keep-going'] * options.keep_going


def get_disk(options):
    """The small disk, after the program was begun anew on it; None when there can be none."""
    folder = os.environ.get(VARIABLE)
    if folder:
        return Disk(folder)
    folder = tempfile.mkdtemp(prefix='dut-torture-disk-')
    size = DISK_BYTES + DISK_BYTES_A_ROUND * options.rounds
    problem = why_not(folder, size)
    if problem is None:
        run_on(folder, size, [sys.executable, '-m', 'tests.torture.main', *arguments(options)])
    os.rmdir(folder)
    say(f'left out: the disk is not filled, for there is none of our own: {problem}')
    return None


class Torture:
    def __init__(self, options, disk):
        self.options, self.disk = options, disk
        self.boards = [f'b{n}' for n in range(1, options.boards + 1)]
        self.world = None
        self.passed = self.failed = 0

    def begin_lab(self):
        self.world = World(self.options.boards, self.disk, say)
        self.world.start()
        checks.await_rest(self.world)
        checks.await_consoles(self.world)
        checks.check_daemon(self.world)

    def end_lab(self):
        """Ends everything; the folder is kept when something was wrong."""
        world, self.world = self.world, None
        faults = world.lab.close()
        if not faults and not self.failed:
            shutil.rmtree(world.lab.folder, ignore_errors=True)
        return faults

    def keep(self):
        """The disk goes with this process: what lies on it is copied into the lab's folder."""
        lab = self.world.lab
        if self.disk:
            subprocess.run(['cp', '-a', lab.state + '/.', lab.path('state')], check=False)
            shutil.rmtree(lab.state)
            os.makedirs(lab.state, mode=0o700)
        return lab.folder

    def numbers(self):
        if self.options.round:
            return [self.options.round] * self.options.rounds
        return range(1, self.options.rounds + 1)

    def replay(self, number):
        return (f'./dev torture 1 {self.options.seed} --round {number}' +
                (f' --boards {len(self.boards)}' if len(self.boards) != 4 else ''))

    def play(self, number):
        """True when the round passed."""
        play = Round(self.world, draw(self.options.seed, number, self.boards))
        begun = time.monotonic()
        try:
            play.run()
        except (AssertionError, NotReady, OSError, ValueError, KeyError) as error:
            say(f'FAILED: {play.describe()}\n{error}')
            if not isinstance(error, AssertionError):
                say(traceback.format_exc())
            self.failed += 1
            self.tell_fault(number)
            return False
        say(f'{play.describe()}\n  passed in {time.monotonic() - begun:.1f} s')
        self.passed += 1
        return True

    def end_processes(self):
        """All of the lab's at once, also those that are stopped."""
        lab = self.world.lab
        lab.daemon.kill()
        processes.end_all_of(lab.folder)
        lab.leftovers_allowed = True

    def interrupt(self):
        say(f'interrupted: {self.passed} passed, {self.failed} failed')
        if self.world:
            self.end_processes()
            self.end_lab()

    def tell_fault(self, number):
        lab = self.world.lab
        running = '\n'.join(f'  {pid} {line}' for pid, line in lab.processes().items())
        say(f'--- the last lines of dutd.log\n{lab.log[-6000:]}--- running\n{running}\n---')
        if self.disk:
            self.disk.free()
        self.end_processes()
        say(f'seed {self.options.seed}, round {number}; again: {self.replay(number)}\n'
            f'kept: {self.keep()}')

    def run(self):
        say(f'seed {self.options.seed}, {self.options.rounds} rounds')
        try:
            for number in self.numbers():
                if not self.world:
                    self.begin_lab()
                if not self.play(number):
                    self.end_lab()
                    if not self.options.keep_going:
                        break
        except (KeyboardInterrupt, SystemExit):
            # Whoever stops us does not want to find what we have started.
            self.interrupt()
            raise
        if self.world:
            faults = self.end_lab()
            if faults:
                self.failed += 1
                say('FAILED: the end: ' + '\n'.join(faults))
        say(f'{self.passed} passed, {self.failed} failed')
        return 1 if self.failed or not self.passed else 0


def main():
    options = parse_arguments()
    boards = [f'b{n}' for n in range(1, options.boards + 1)]
    if options.plan:
        for number in [options.round] if options.round else range(1, options.rounds + 1):
            say(str(draw(options.seed, number, boards)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return Torture(options, get_disk(options)).run()


if __name__ == '__main__':
    sys.exit(main())
