# SPDX-License-Identifier: MIT
"""One round: its steps, the end of everything that was done, and the checks."""

import os
import shutil
import signal
import time

from tests.support import processes
from tests.torture import checks, console, kinds
from tests.torture.injuries import GONE, NO_POWER, WAITED, Injuries
from tests.torture.moments import Moments
from tests.torture.world import Fault, await_fact


# Within this dutd answers, on a machine that has other things to do; in seconds.
PROMPT = 10


class Round:
    def __init__(self, world, plan):
        self.world, self.plan = world, plan
        self.first = world.last_job() + 1
        self.moments = Moments(world, self.first)
        self.injuries = Injuries(world, plan, self.moments)
        self.outcomes = []  # of the steps so far

    def describe(self):
        """The steps with what came of them."""
        lines = str(self.plan).split('\n')
        for number, outcome in enumerate(self.outcomes, 1):
            lines[number] += f'  [{outcome}]'
        return '\n'.join(lines)

    def run(self):
        """Raises Fault, or another AssertionError of the harness."""
        for name, kind in self.plan.cast.items():
            self.world.replace_script(self.world.boards[name], kind)
        for step in self.plan.steps:
            come = self.moments.wait(step.board, step.moment)
            self.outcomes.append(come)
            self.outcomes[-1] = f'{come}, {self.injuries.do(step)}'
            self.world.check_daemon()
            self.check_promptness()
        self.heal()
        self.check()

    def check_promptness(self):
        """Nothing that is done to it keeps dutd from answering others."""
        injuries, world = self.injuries, self.world
        if not world.daemon_answers() or injuries.limits or not injuries.is_reachable():
            return
        begun = time.monotonic()
        world.lab.get('/status', seconds=PROMPT)
        took = time.monotonic() - begun
        if took > PROMPT:
            raise Fault(f'dutd took {took:.1f} s to answer')

    # ---- afterwards ----

    def heal(self):
        """Takes away every cause, so that all has to become well by itself."""
        injuries, world = self.injuries, self.world
        if world.daemon_stopped:
            injuries.signal_dutd('', 'continue')
        if world.disk:
            world.disk.free()
        injuries.continue_all()
        injuries.feed('', 'dutd')
        for impostor in injuries.impostors:
            impostor.remove()
        for connection in injuries.open:
            connection.close()
        if injuries.start('', 'dutd').startswith('it does not'):
            raise Fault('dutd does not start')
        self.await_answers()
        self.end_orphans()
        self.injuries.end_reservations()
        self.cure_boards()

    def await_answers(self):
        """Whoever submitted has an answer, or knows that there will be none."""
        for board, submissions in self.injuries.submissions.items():
            for submission in submissions:
                submission.join(checks.PATIENCE)
                if submission.is_alive():
                    raise Fault(f'{board}: a submission was not answered')
                if submission.job:
                    self.world.acknowledged[int(submission.job)] = board
                elif submission.status not in self.injuries.refusals:
                    raise Fault(f'{board}: a submission was answered {submission.status} '
                                f'{submission.json}')
        for thread in self.injuries.readers + self.injuries.extra:
            thread.join(checks.PATIENCE)
            if thread.is_alive():
                raise Fault('a client still waits for the end of its answer')
        for extra in self.injuries.extra:
            if extra.job:
                self.world.acknowledged[int(extra.job)] = extra.board

    def end_orphans(self):
        """What only a cancel ends, and no dutd can cancel any more."""
        for board, kind in self.plan.cast.items():
            pid = self.world.lock_holder(board)
            dut = self.world.lab.board_state(board)
            if pid and board in self.injuries.hidden and dut['state'] == 'BORKED':
                self.injuries.ends[board] |= {('CANCELLED', 'cancelled')}
                processes.kill(pid, signal.SIGTERM)
            elif not kind.ends and dut['job'] and dut['job']['state'] != 'ENDED' and \
                    self.was_disturbed(board):
                # Its own cancel came when it could not be kept, or met another job.
                self.injuries.ends[board] |= {('CANCELLED', 'cancelled')}
                self.world.lab.api('POST', f'/jobs/{dut["job"]["id"]}/cancel', {'why': 'the end'})
            if not kind.ends and board in self.injuries.queued:
                self.injuries.end_queue(board)

    def was_disturbed(self, board):
        return self.injuries.cut_off or bool(self.injuries.ends[board])

    def cure_boards(self):
        """A board that lies is replaced; one that cannot be reached is switched off and on."""
        for name, kind in self.plan.cast.items():
            board = self.world.boards[name]
            if not kind.cured and name not in self.injuries.sims_to_kill:
                continue
            self.await_end(name)
            if kind.cured:
                # Jobs that wait meet the board that it becomes, or lose the one that it was.
                if name in self.injuries.queued:
                    self.injuries.ends[name] |= {('PASS', 'ok')} | WAITED | NO_POWER | GONE
                self.world.set_script(board, kinds.KINDS['passes'])
            self.world.kill_sim(board)
            if self.plan.number % 2:
                # The other rounds wait for dutd to try again.
                self.world.lab.api('PUT', f'/dut/{name}/power', {'state': 'off'})

    def await_end(self, board):
        if not await_fact(lambda: self.moments.job_of(board) is None or
                          self.moments.is_over(board), checks.PATIENCE, 0.02):
            raise Fault(f'{board}: its job does not end')

    # ---- what must hold ----

    def check(self):
        world, injuries = self.world, self.injuries
        checks.await_rest(world, injuries.by_hand,
                          injuries.late_power | injuries.sims_to_kill)
        jobs = checks.check_jobs(world)
        mine = {number: job for number, job in jobs.items() if number >= self.first}
        for number, job in mine.items():
            board = self.moments.board_of(number)
            if board not in self.plan.cast or job['dut'] not in (board, None):
                raise Fault(f'job {number} is on {board}, which nobody asked for')
            checks.check_end(job, self.plan.cast[board], injuries.ends[board])
            if board in injuries.spoiled:
                world.lab.api('GET', f'/jobs/{number}/results')
                world.lab.api('GET', f'/jobs/{number}/log')
                world.lab.api('GET', f'/jobs/{number}/events')
                continue
            result = checks.check_files(world, job, injuries.torn)
            checks.check_archive(world, job, result)
        for submissions in injuries.submissions.values():
            self.check_submissions(submissions)
        checks.await_consoles(world)
        for board in world.boards.values():
            if board.name in injuries.spoiled or self.floods_by_hand(board):
                entries = console.skip_bytes(world, board)
            else:
                entries = console.check_bytes(world, board, board.name in injuries.may_lose)
            if board.name not in injuries.by_hand and board.name not in injuries.late_power:
                checks.check_power(board, entries,
                                   [job for number, job in mine.items()
                                    if self.moments.board_of(number) == board.name])
            self.check_idle_index(board)
        self.check_readers()
        checks.check_daemon(world)
        checks.check_idleness(world)
        checks.check_sanitizers(world)
        if world.faults:
            raise Fault('; '.join(world.faults))
        self.tidy(mine)

    def floods_by_hand(self, board):
        """It may have said more, without a job, than is kept: nobody could switch it off."""
        injuries = self.injuries
        return board.name in injuries.by_hand | injuries.sims_to_kill and \
            board.kind.name == 'floods'

    def check_submissions(self, submissions):
        """Of several on an idle board at least one is taken, when nothing came between."""
        if not submissions or self.was_disturbed(submissions[0].board):
            return
        if not any(submission.job for submission in submissions):
            raise Fault(f'nobody got {submissions[0].board}: ' +
                        str([(one.status, one.json, one.error) for one in submissions]))

    def check_idle_index(self, board):
        folder = os.path.join(self.world.lab.state, 'duts', board.name, 'console', 'main')
        for name in os.listdir(folder):
            if name.endswith('.idx'):
                path = os.path.join(folder, name)
                console.check_index(path, int(name[:-4]), os.path.getsize(path[:-4] + '.log'))

    def check_readers(self):
        """A viewer that got its end got every byte, another one the beginning."""
        for reader in self.injuries.readers:
            if reader.status != 200 or self.moments.boards_of.get(reader.job) in \
                    self.injuries.spoiled:
                continue
            record = self.world.read_record(reader.job)
            with open(self.world.job_path(reader.job, 'console.log'), 'rb') as file:
                log = file.read()
            if reader.offset != record['console_base'] or not log.startswith(reader.data) or \
                    (reader.whole and reader.data != log):
                raise Fault(f'a viewer of job {reader.job} has read {len(reader.data)} bytes from '
                            f'{reader.offset} on, and its log has {len(log)} from '
                            f'{record["console_base"]} on (whole: {reader.whole})')

    def tidy(self, jobs):
        """The files of buckets would fill the disk by themselves."""
        for number in jobs:
            path = self.world.job_path(number, 'bucket')
            if os.path.isdir(path):  # and not a pipe, which a step may have put there
                shutil.rmtree(path, ignore_errors=True)
            path = self.world.job_path(number, 'bucket.tar')
            if os.path.exists(path):
                os.unlink(path)
