# SPDX-License-Identifier: MIT
"""Steps of people: jobs that wait for a board, reservations, and a configuration that changes."""

import json
import os
import random

from tests.torture import clients
from tests.torture.world import Fault, await_fact

PATIENCE = 60.0
RESERVED_S = 600  # longer than any round: it ends by its release alone
QUEUED_S = 120

NOT_KEPT = {500, 503, 507}  # a disk that is full, or no file that can be opened


class People:
    """What Injuries needs for them; each step returns a word for what came of it."""

    def __init__(self):
        self.queued = set()         # boards for which more than one job was submitted
        self.reservations = {}      # board → ids that were asked for, in this order
        self.acknowledged = set()   # ids of reservations that must be there
        self.released = set()       # ids whose end was asked for

    # ---- the queue ----

    def queue(self, board, count):
        """Further jobs, which wait for the board."""
        if not self.world.daemon_answers():
            return 'no dutd'
        self.queued.add(board)
        for _ in range(count):
            self.submissions[board].append(
                clients.Submission(self.world.lab.socket, self.plan.cast[board], board, 90,
                                   wait=QUEUED_S))
        return 'done'

    def unqueue(self, board):
        """Cancels a job that waits."""
        job = self.moments.waiting_job_of(board)
        if job is None:
            return 'no job'
        self.ends[board] |= {('CANCELLED', 'cancelled')}
        return self.ask('POST', f'/jobs/{job}/cancel', '{"why": "it waits"}',
                        {200, 409} | (NOT_KEPT if self.torn or self.limits else set()))

    def end_queue(self, board):
        """Cancels all jobs of a board, those that wait first."""
        def unfinished():
            return [job for job in self.world.lab.get('/jobs?limit=1000')['jobs']
                    if job['state'] != 'ENDED' and
                    self.moments.board_of(int(job['id'])) == board]

        self.ends[board] |= {('CANCELLED', 'cancelled')}
        for job in sorted(unfinished(), key=lambda job: -int(job['id'])):
            self.world.lab.api('POST', f'/jobs/{job["id"]}/cancel', {'why': 'the end'})
        if not await_fact(lambda: not unfinished(), PATIENCE, 0.02):
            raise Fault(f'{board}: these jobs do not end: {unfinished()}')

    # ---- reservations ----

    def reserve(self, board, number):
        """The same person whose jobs these are: they run all the same."""
        name = f'{self.plan.number}-{number}'
        self.reservations.setdefault(board, []).append(name)
        body = {'id': name, 'why': 'torture', 'seconds': RESERVED_S}
        word = self.ask('POST', f'/dut/{board}/reservation', json.dumps(body),
                        {200, 201, 409} | NOT_KEPT)
        if word == '201':
            self.acknowledged.add(name)
        return word

    def extend(self, board):
        return self.ask('PATCH', f'/dut/{board}/reservation',
                        json.dumps({'seconds': RESERVED_S}), {200, 404, 409} | NOT_KEPT)

    def release(self, board):
        for name in self.reservations.get(board, []):
            self.released.add(name)
        return self.ask('DELETE', f'/dut/{board}/reservation', '', {200, 204, 404, 409} | NOT_KEPT)

    def end_reservations(self):
        """One that was acknowledged and not released is there; then it is released."""
        for board, names in self.reservations.items():
            answer = self.world.lab.api('GET', f'/dut/{board}/reservation')
            present = json.loads(answer.body)['id'] if answer.status == 200 else None
            lost = self.acknowledged & set(names) - self.released - {present}
            if lost:
                raise Fault(f'{board}: the reservation {lost} is lost: {answer}')
            if present is None:
                continue
            answer = self.world.lab.api('DELETE', f'/dut/{board}/reservation?id={present}')
            if answer.status not in (200, 204, 404):
                raise Fault(f'{board}: the reservation is not released: {answer}')

    # ---- the configuration ----

    def reload(self, board, what):
        """Changes the configuration of a board, and has it read again."""
        lab = self.world.lab
        rng = random.Random(f'{self.plan.seed}/{self.plan.number}/{what}')
        sim, keys = self.world.sim_keys(self.world.boards[board]), {'tags': ['torture']}
        if what == 'text':
            keys['description'] = f'round {self.plan.number}, {rng.random()}'
        elif what == 'tags':
            keys['tags'].append(f'round-{self.plan.number}')
        elif what == 'power':
            sim['settle'] = f'{rng.randint(1, 20)}ms'
        path = lab.path('etc', 'duts.d', f'{board}.yaml')
        if what == 'broken':
            lab.write(path + '.new', f'{board}: {{sim: [}}\n')
        else:
            lab.write(path + '.new', json.dumps({board: {'sim': sim, **keys}}, indent=1) + '\n')
        os.replace(path + '.new', path)
        word = self.ask('POST', '/reload', '', {400} if what == 'broken' else
                        {200} | (NOT_KEPT | {400} if self.limits else set()))
        if what == 'broken':
            self.world.configure_board(self.world.boards[board])
        return word

    def remove(self, board, _what):
        """A board that goes from the configuration while it plays, and comes back."""
        lab = self.world.lab
        path = lab.path('etc', 'duts.d', f'{board}.yaml')
        accepted = {200} | (NOT_KEPT | {400} if self.limits else set())
        os.replace(path, path + '.away')
        word = self.ask('POST', '/reload', '', accepted)
        os.replace(path + '.away', path)
        return f'{word}, {self.ask("POST", "/reload", "", accepted)}'
