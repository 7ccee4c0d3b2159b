# SPDX-License-Identifier: MIT
"""
When something is done: when it can be seen, in files and processes, that a job or its board has
come to a certain point. No moment needs dutd, which may be dead.
"""

import json
import os

from tests.torture.world import await_fact

# What does not come is not waited for longer; the step is done all the same.
LIMIT = 8.0


class Moments:
    """Of the boards of one round; first is the number of the first job that can be one of it."""

    def __init__(self, world, first):
        self.world = world
        self.first = first
        self.boards_of = {}  # job → board
        self.submissions = {}  # board → those who submit a job for it

    def board_of(self, job):
        """The board that a job has or waits for; None when its record cannot be read."""
        if job not in self.boards_of:
            record = self.world.read_record(job)
            if record is None:
                return None
            self.boards_of[job] = record['dut'] or record['duts'][0]
        return self.boards_of[job]

    def jobs_of(self, board):
        """The jobs of this round for the board and their records, the youngest first."""
        for job in range(self.world.last_job(), self.first - 1, -1):
            if self.board_of(job) == board:
                record = self.world.read_record(job)
                if record:
                    yield job, record

    def job_of(self, board):
        """The youngest job that has come to the board, or the next one that waits, or None."""
        waiting = None
        for job, record in self.jobs_of(board):
            if record['state'] != 'WAITING':
                return job
            waiting = job
        return waiting

    def waiting_job_of(self, board):
        """The youngest job that waits for the board, or None."""
        return next((job for job, record in self.jobs_of(board) if record['state'] == 'WAITING'),
                    None)

    def is_over(self, board):
        """Its job has its end, or nobody is left who would bring it any further."""
        job = self.job_of(board)
        record = job and self.world.read_record(job)
        if not record:
            # None will come of a submission that was refused, or cut off.
            submissions = self.submissions.get(board)
            return bool(submissions) and not any(one.is_alive() for one in submissions)
        if record['state'] == 'ENDED':
            return True
        return not self.world.daemon_answers() and self.world.lock_holder(board) is None

    # ---- one method for each verb: true when it has come ----

    def now(self, _board):
        return True

    def over(self, board):
        return self.is_over(board)

    def state(self, board, name):
        """By dutd's record of the job; one that is further has been there."""
        job = self.job_of(board)
        record = job and self.world.read_record(job)
        order = ['WAITING', 'STARTING', 'RUNNING', 'ENDED']
        return record and order.index(record['state']) >= order.index(name)

    def phase(self, board, name):
        job = self.job_of(board)
        if job is None:
            return False
        try:
            with open(os.open(self.world.job_path(job, 'events.jsonl'),
                              os.O_RDONLY | os.O_NONBLOCK), 'rb') as file:
                lines = file.read().split(b'\n')[:-1]
        except OSError:
            return False
        wanted = b'"phase":' + json.dumps(name).encode()
        return any(wanted in line.replace(b': ', b':') for line in lines)

    def file(self, board, name):
        job = self.job_of(board)
        if job is None:
            return False
        path = self.world.job_path(job, name)
        if name == 'bucket':
            return os.path.isdir(path) and bool(os.listdir(path))
        return os.path.exists(path)

    def bytes(self, board, count):
        job = self.job_of(board)
        try:
            return job and os.stat(self.world.job_path(job, 'console.log')).st_size >= count
        except OSError:
            return False

    def record(self, board, event):
        _, entries = self.world.read_record_of_board(self.world.boards[board])
        return any(entry['event'] == event for entry in entries)

    def process(self, board, name):
        find = {'executor': self.world.lock_holder, 'helper': self.world.helper_pid,
                'fetch': self.world.fetch_pid}
        return find[name](board)

    # ---- waiting ----

    def wait(self, board, moment):
        """Waits for it: 'come', 'missed' when the job was over before, 'late' at the limit."""
        verb, *arguments = moment
        test = getattr(self, verb)
        looks = 0

        def look():
            nonlocal looks
            looks += 1
            if looks % 16 == 0:
                self.world.look_for_twins()
            if test(board, *arguments):
                return 'come'
            if looks % 4 == 0 and self.is_over(board):
                return 'come' if test(board, *arguments) else 'missed'
            return None

        return await_fact(look, LIMIT) or 'late'
