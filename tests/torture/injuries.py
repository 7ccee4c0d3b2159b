# SPDX-License-Identifier: MIT
"""The steps of a round: what is done to dutd, its helpers, boards, files and clients."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time

from tests.support import processes
from tests.torture import checks, clients, kinds
from tests.torture.people import People
from tests.torture.world import Fault, await_fact

# A job does not notice that dutd is away for so long: its successor takes it over, in seconds.
PATIENCE_OF_JOBS = 4

KILLED = {('INCOMPLETE', 'executor_killed'), ('SETUP_FAIL', 'executor_failed')}
CANCELLED = {('CANCELLED', 'cancelled')}
LOST = {('INCOMPLETE', 'daemon_lost')}
FULL = {('SETUP_FAIL', 'disk'), ('INCOMPLETE', 'disk'), ('SETUP_FAIL', 'executor_failed')}
SETUP = {('SETUP_FAIL', 'executor_failed'), ('SETUP_FAIL', 'bucket'),
         ('SETUP_FAIL', 'timeout:infra_setup')}
NO_POWER = {('INCOMPLETE', 'power'), ('SETUP_FAIL', 'power')}
GONE = {('INCOMPLETE', 'console_lost')}
WAITED = kinds.SILENT_ENDS | {('SETUP_FAIL', 'timeout:overall'),
                              ('SETUP_FAIL', 'timeout:infra_setup')}

SIGNALS = {'kill': signal.SIGKILL, 'term': signal.SIGTERM, 'stop': signal.SIGSTOP,
           'continue': signal.SIGCONT}


class Injuries(People):
    """
    Each step returns a word for what came of it. ends: board → the (status, reason) that its job
    may have because of that, besides its own.
    """

    def __init__(self, world, plan, moments):
        super().__init__()
        self.world, self.plan, self.moments = world, plan, moments
        self.submissions = moments.submissions = {board: [] for board in plan.cast}
        self.ends = {board: set() for board in plan.cast}
        self.may_lose = set()    # boards whose console may have had no reader
        self.away_since = None   # since when there is no dutd that answers
        self.cut_off = False     # whether requests may have had no answer
        self.holders = {}        # the executors that there were then
        self.hidden = set()      # boards whose executor no other dutd finds
        self.by_hand = set()     # boards that a person may have switched on
        self.late_power = set()  # boards whose outlet was not free to answer
        self.sims_to_kill = set()  # boards whose process cannot be reached any more
        self.stopped = []        # pids
        self.open = []           # connections that are closed at the end
        self.readers = []
        self.refusals = {None, 409, 500, 503, 507}  # what a submitter may be answered
        self.extra = []          # submissions that may be answered as they like
        self.spoiled = set()     # boards whose job's files are not to be read any more
        self.limits = None       # of dutd's open files, before it was starved
        self.impostors = []
        self.torn = False        # a write may have found no room

    def is_reachable(self):
        """Whether dutd's socket is where it belongs."""
        return os.path.exists(self.world.lab.socket) and \
            not any(one.path == self.world.lab.socket for one in self.impostors)

    def everywhere(self, ends):
        for board in self.ends:
            self.ends[board] |= ends

    def do(self, step):
        verb, *arguments = step.action
        if verb in SIGNALS:
            return getattr(self, 'signal_' + arguments[0])(step.board, verb)
        return getattr(self, verb)(step.board, *arguments)

    # ---- processes ----

    def send(self, pid, verb):
        if pid is None or not processes.kill(pid, SIGNALS[verb]):
            return 'nobody is there'
        if verb == 'stop':
            self.stopped.append(pid)
        if verb == 'kill' and not processes.await_end(pid, 30):
            raise Fault(f'process {pid} survived SIGKILL')
        return 'done'

    def continue_all(self):
        for pid in self.stopped:
            processes.kill(pid, signal.SIGCONT)
        self.stopped = []

    def signal_executor(self, board, verb):
        self.ends[board] |= {'kill': KILLED, 'term': CANCELLED | KILLED, 'stop': KILLED | LOST |
                             WAITED, 'continue': set()}[verb]
        if verb == 'continue':
            self.continue_all()
            return 'done'
        return self.send(self.world.lock_holder(board), verb)

    def signal_helper(self, board, verb):
        self.ends[board] |= SETUP
        if verb == 'continue':
            self.continue_all()
            return 'done'
        return self.send(self.world.helper_pid(board), verb)

    def signal_fetch(self, board, verb):
        self.ends[board] |= SETUP
        if verb == 'continue':
            self.continue_all()
            return 'done'
        return self.send(self.world.fetch_pid(board), verb)

    def signal_sim(self, board, verb):
        self.ends[board] |= WAITED | NO_POWER | LOST | GONE
        self.late_power.add(board)
        if verb == 'kill':
            killed = self.world.kill_sim(self.world.boards[board])
            return 'done' if killed else 'nobody is there'
        if verb == 'continue':
            self.continue_all()
            return 'done'
        return self.send(self.world.sim_pid(board), verb)

    def signal_dutd(self, _board, verb):
        if verb == 'stop':
            # The check of a job file has 5 s, which may be over when dutd looks again.
            self.refusals.add(400)
            self.lose_daemon()
            return self.world.pause_daemon()
        if verb == 'continue':
            self.daemon_is_back(True)
            return self.world.continue_daemon()
        self.lose_daemon()
        return self.world.stop_daemon() if verb == 'term' else self.world.kill_daemon()

    def validator(self, board, verb):
        """A submission whose check is killed or stopped is refused, and makes no job."""
        if not self.world.daemon_answers():
            return 'no dutd'
        extra = clients.Submission(self.world.lab.socket, self.plan.cast[board], board, 90)
        self.extra.append(extra)
        # Of those that come at once any may be the one that is checked first.
        self.everywhere(CANCELLED)
        self.refusals.add(400)
        pid = await_fact(self.world.validator_pid, 0.5, 0)
        if pid is None or not processes.kill(pid, SIGNALS[verb]):
            return 'nobody is there'
        if verb == 'stop':
            self.stopped.append(pid)
        return 'done'

    def lose_daemon(self):
        """It goes: what was there is compared when one is back."""
        self.cut_off = True
        if self.away_since is None:
            self.away_since = time.monotonic()
            self.holders = {board: self.world.lock_holder(board) for board in self.plan.cast}

    def daemon_is_back(self, good):
        """Jobs may have missed it; consoles whose executor is another one had no reader."""
        if self.away_since is None:
            return
        if not good or self.torn or time.monotonic() - self.away_since > PATIENCE_OF_JOBS:
            self.everywhere(LOST)
        for board, pid in self.holders.items():
            if pid is None or self.world.lock_holder(board) != pid:
                self.may_lose.add(board)
        if good:
            self.away_since = None

    def signal_both(self, board, _verb):
        executor = self.world.lock_holder(board)
        self.lose_daemon()
        self.ends[board] |= KILLED
        self.may_lose.add(board)
        # The executor first, while dutd cannot see it: its successor finds both gone.
        if self.world.daemon_answers():
            processes.kill(self.world.daemon_pid, signal.SIGSTOP)
        self.send(executor, 'kill')
        return self.world.kill_daemon()

    def start(self, _board, _what):
        word = self.world.try_start()
        self.daemon_is_back(word == 'done')
        if word == 'done':
            # It has put its own socket there.
            self.impostors = [one for one in self.impostors if one.path != self.world.lab.socket]
        return word

    def second(self, _board, _what):
        if not self.world.daemon_answers():
            return 'nobody is there'
        try:
            ran = self.world.lab.dutd(seconds=60)
        except subprocess.TimeoutExpired:
            raise Fault('a second dutd runs beside the first') from None
        if ran.rc == 0 or 'another dutd runs' not in self.world.lab.log + ran.err:
            raise Fault(f'a second dutd: {ran}')
        return 'done'

    # ---- clients ----

    def submit(self, board, how):
        path, kind = self.world.lab.socket, self.plan.cast[board]
        if not self.world.daemon_answers():
            return 'no dutd'
        if how == 'leave':
            connection = clients.raw_submission(path, kind, board)
            self.ends[board] |= CANCELLED
            # It leaves when the job is being made, which may be after the next steps.
            self.moments.wait(board, ('file', 'job.json'))
            connection.close()
            return 'done'
        for _ in range(2 if how == 'race' else 1):
            self.submissions[board].append(clients.Submission(path, kind, board, 90))
        if how == 'race':
            # The loser waits for the board when it is only being switched off.
            self.ends[board] |= CANCELLED
        return 'done'

    def upload(self, board, share):
        if not self.world.daemon_answers():
            return 'no dutd'
        clients.raw_submission(self.world.lab.socket, kinds.KINDS['unpacks'], board, share).close()
        return 'done'

    def view(self, board, what, how):
        job = self.moments.job_of(board)
        path = self.world.lab.socket
        if what == 'socket':
            path, route = self.world.lab.executor_socket(board), '/api/v1/console'
        elif not self.world.daemon_answers() or job is None:
            return 'no dutd'
        else:
            route = clients.ROUTES[what].format(job=job, board=board)
        if how == 'read':
            self.readers.append(clients.Reader(path, job))
            return 'done'
        try:
            connection = clients.ask_raw(path, route)
        except OSError as error:
            return f'not there: {error.strerror or error}'
        if how == 'leave':
            # Behind its first bytes, with others on their way.
            try:
                connection.sock.recv(100)
            except OSError:
                pass
            connection.close()
        else:
            self.open.append(connection)
        return 'done'

    def crowd(self, _board, count):
        if not self.world.daemon_answers():
            return 'no dutd'
        self.world.most_clients = max(self.world.most_clients, count)
        self.open += clients.crowd(self.world.lab.socket, count)
        return 'done'

    def ask(self, method, path, body, accepted):
        """An API request that dutd may refuse as it should, and answers in any case."""
        if not self.world.daemon_answers():
            return 'no dutd'
        try:
            answer = self.world.lab.api(method, path, body,
                                        {'Content-Type': 'application/json'}, seconds=60)
        except OSError as error:
            if self.is_reachable() and not self.limits:
                raise Fault(f'{method} {path}: {error}') from error
            return f'not there: {error.strerror or error}'
        if answer.status not in accepted:
            raise Fault(f'{method} {path}: {answer}')
        return str(answer.status)

    def cancel(self, board, how):
        job = self.moments.job_of(board)
        if job is None:
            return 'no job'
        self.ends[board] |= CANCELLED
        body = json.dumps({'why': f'step of round {self.plan.number}'})
        # On a full disk a cancel cannot be kept, and says so.
        accepted = {200, 409, 507, 500} if self.torn or self.limits else {200, 409}
        if how == 'socket':
            return self.cancel_at_socket(board, body)
        if how == 'board':
            return self.ask('POST', f'/dut/{board}/cancel_job', body, accepted)
        word = self.ask('POST', f'/jobs/{job}/cancel', body, accepted)
        if how == 'twice':
            word = self.ask('POST', f'/jobs/{job}/cancel', body, accepted)
        return word

    def cancel_at_socket(self, board, body):
        try:
            connection = self.world.connect(self.world.lab.executor_socket(board))
        except OSError as error:
            return f'not there: {error.strerror or error}'
        # A stopped one answers later, or never.
        connection.sock.sendall(b'POST /api/v1/job/cancel HTTP/1.1\r\nHost: lab\r\n'
                                b'Content-Type: application/json\r\n'
                                b'Content-Length: %d\r\n\r\n%s' % (len(body), body.encode()))
        self.open.append(connection)
        return 'done'

    def power(self, board, state):
        self.by_hand.add(board)
        return self.ask('PUT', f'/dut/{board}/power', json.dumps({'state': state}),
                        {200, 409, 429, 502, 503})

    # ---- files ----

    def socket_path(self, board, name):
        if name == 'dutd.sock':
            return self.world.lab.socket
        return os.path.join(self.world.lab.runtime, 'duts', board, name)

    def hide(self, board, name):
        if name == 'control.sock':
            # They do not find each other: whose patience ends first is a matter of its limits.
            self.ends[board] |= KILLED | LOST
            self.hidden.add(board)
        if name in ('sim.sock', 'console.sock'):
            self.sims_to_kill.add(board)
            self.ends[board] |= WAITED | NO_POWER | GONE

    def unlink(self, board, name):
        self.hide(board, name)
        try:
            os.unlink(self.socket_path(board, name))
        except OSError as error:
            return f'not there: {error.strerror}'
        return 'done'

    def replace(self, board, name, how):
        self.hide(board, name)
        path = self.socket_path(board, name)
        if not os.path.isdir(os.path.dirname(path)):
            return 'not there'
        self.ends[board if board in self.ends else min(self.ends)] |= KILLED
        self.impostors.append(clients.Impostor(path, how))
        return 'done'

    def spoil(self, board, name, how):
        """What an executor could do to its own files; dutd has to live with it."""
        job = self.moments.job_of(board)
        if job is None:
            return 'no job'
        self.spoiled.add(board)
        self.world.spoiled.add(job)
        self.may_lose.add(board)
        self.ends[board] |= FULL | KILLED | LOST | NO_POWER | {('SETUP_FAIL', 'bucket')}
        path = os.path.normpath(self.world.job_path(job, name))
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            os.unlink(path)
        try:
            if how == 'pipe':
                os.mkfifo(path)
            elif how == 'link':
                os.symlink('/etc/hostname', path)
            elif how == 'folder':
                os.makedirs(os.path.join(path, 'folder'))
        except OSError as error:
            return error.strerror  # it is there again
        return 'done'

    def starve(self, _board, more):
        if not self.world.daemon_answers():
            return 'no dutd'
        pid = self.world.daemon_pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        self.limits = self.limits or (pid, limits)
        highest = max(int(fd) for fd in os.listdir(f'/proc/{pid}/fd'))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + more, limits[1]))
        self.everywhere(KILLED | LOST | NO_POWER | FULL | WAITED)
        return 'done'

    def feed(self, _board, _what):
        if self.limits is None:
            return 'nobody is there'
        (pid, limits), self.limits = self.limits, None
        if pid != self.world.daemon_pid or not self.world.daemon_answers():
            return 'no dutd'
        busy = checks.is_busy(pid, 0.3)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        if busy:
            raise Fault('dutd is busy while it may open no files')
        return 'done'

    def fill(self, _board, left):
        if not self.world.disk:
            return 'left out: no disk of our own'
        self.world.disk.fill(left)
        self.torn = True
        self.everywhere(FULL | KILLED | {('SETUP_FAIL', 'bucket')})
        return 'done'

    def free(self, _board, _what):
        if self.world.disk:
            self.world.disk.free()
        return 'done'
