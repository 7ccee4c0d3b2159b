# SPDX-License-Identifier: MIT
"""
`./dev torture leases [SEQUENCES] [SEED]`: people reserve boards, extend, release, are kicked, their
clients die, dutd is killed, the wall clock steps. Each client notes what it was told, and a sampler
what the boards say; so it is seen from outside that a board never has two holders, that whoever was
told that he has it has it, and that every reservation ends in time.

Eight boards run a sequence each at a time, under one dutd. The seed is printed; with it, and with
--round N, the same steps are done again.
"""

import argparse
import http.client
import json
import os
import random
import struct
import sys
import threading
import time
import traceback

from tests.support.harness import BUILD, Lab, Stream, UnixConnection, await_true

BOARDS = [f'b{number}' for number in range(1, 9)]
CLIENT_S = 2.0   # timeouts.client
SLACK_S = float(os.environ.get('LEASES_SLACK', '1.0'))  # of an end, and of a busy machine
CLOCK = os.path.join(BUILD, 'tests', 'process', 'libstepped-clock.so')
NEVER = float('inf')
BROKEN = (OSError, http.client.HTTPException, ValueError)


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fault(Exception):
    pass


# ---- the steps ----

def draw_sequence(rng):
    """What happens around one board."""
    steps = []
    for _ in range(rng.randint(5, 9)):
        who = rng.choice('ABC')
        steps.append(rng.choice((
            ('reserve', who, rng.choice((0.4, 0.8, 1.5, 30)), rng.random() < 0.5,
             rng.choice((0, 0, 0.5, 3))),
            ('reserve', who, rng.choice((0.4, 0.8, 1.5, 30)), rng.random() < 0.5, 0),
            ('abandon', who, rng.choice((0.4, 30))),
            ('extend', who, rng.choice((0.2, 1.0, 2.0))),
            ('release', who),
            ('kick', rng.choice((0, 0.3, 1.0))),
            ('drop', who),
            ('power', rng.choice(('on', 'cycle'))),
            ('pause', rng.uniform(0.05, 0.6)),
        )))
    if rng.random() < 0.3:
        steps += [('kick', 0), ('reserve', 'A', 30, True, 0), ('drop', 'A'), ('linger',)]
    elif rng.random() < 0.3:
        steps.append(('linger',))
    return steps


def draw(seed, number):
    rng = random.Random(f'{seed} {number}')
    plan = {board: draw_sequence(rng) for board in BOARDS}
    return plan, [(rng.uniform(0.2, 1.2), rng.choice(('kill', 'kill', 'step', 'step', 'stop')),
                   rng.choice((-86400, -30, 45, 7200))) for _ in range(rng.randint(0, 3))]


# ---- what a client knows ----

class Lease:
    """
    earliest, latest: between these it ends, by all that was asked and told so far of its time. It
    was told to somebody at acked, or never. A bound one may end from `lost` on, for want of a
    stream.
    """

    def __init__(self, name, bound):
        self.name, self.bound = name, bound
        self.acked = None
        self.earliest, self.latest = NEVER, NEVER
        self.lost = NEVER
        self.dropped = None     # the client has gone
        self.kicked = False
        self.opened = threading.Event()
        self.stream = None
        self.watch = None

    def is_held(self, begin, end):
        """Whether it is certain that it was there all that time."""
        return self.acked is not None and self.acked < begin and \
            end < min(self.earliest, self.lost)

    def ends_by(self):
        return self.latest if self.dropped is None else min(self.latest, self.dropped + CLIENT_S)

    def __repr__(self):
        return (f'{self.name}{" bound" * self.bound}: told {self.acked}, ends from {self.earliest} '
                f'or {self.lost} to {self.ends_by()}')


class Board:
    def __init__(self, round_, name):
        self.round, self.lab, self.name = round_, round_.lab, name
        self.lock = threading.Lock()
        self.leases = []
        self.present = {}       # client → its last lease
        self.counter = 0
        self.waiters = []

    def ask(self, method, suffix, body):
        """
        The answer, after as many tries as it takes; and whether an earlier try may have been
        heard.
        """
        heard = False
        while True:
            self.round.up.wait()
            try:
                answer = self.lab.api(method, f'/dut/{self.name}/{suffix}', body, seconds=30)
                if answer.status != 503:    # it is being stopped
                    return answer, heard
            except (FileNotFoundError, ConnectionRefusedError):
                continue
            except BROKEN:
                heard = True

    def new_lease(self, who, bound):
        with self.lock:
            self.counter += 1
            lease = Lease(f'{self.round.number}-{self.name}-{who}{self.counter}', bound)
            self.leases.append(lease)
            return lease

    # ---- steps ----

    def reserve(self, who, seconds, bound, wait):
        thread = threading.Thread(target=self.round.guard,
                                  args=(self.take, who, seconds, bound, wait))
        thread.start()
        if wait:
            self.waiters.append(thread)
        else:
            thread.join()

    def take(self, who, seconds, bound, wait):
        lease = self.new_lease(who, bound)
        sent = now()
        answer, _ = self.ask('POST', 'reservation',
                             {'id': lease.name, 'owner': f'client-{who}', 'seconds': seconds,
                              'bound': bound, **({'wait': wait} if wait else {})})
        told = now()
        if answer.status == 409:
            with self.lock:
                lease.latest = 0
            return
        if answer.status != 201:
            raise Fault(f'{self.name}: {lease}: {answer}')
        with self.lock:
            # When dutd began to count is not known to anybody who waited.
            # A kick may have come before the answer.
            lease.acked = told
            lease.earliest = min(lease.earliest, sent + seconds)
            lease.latest = min(lease.latest, told + seconds)
            if bound:
                lease.lost = sent + CLIENT_S
            for other in self.leases:
                if other is not lease and other.is_held(told, told) and told < lease.earliest:
                    raise Fault(f'{self.name}: two holders at {told}: {other} and {lease}')
            self.present[who] = lease
        if bound:
            lease.watch = threading.Thread(target=self.round.guard, args=(self.keep, lease))
            lease.watch.start()
            lease.opened.wait(30)

    def keep(self, lease):
        """A client that comes back whenever its stream breaks."""
        path = f'/dut/{self.name}/reservation?id={lease.name}&hold={lease.name}'
        while lease.dropped is None:
            self.round.up.wait()
            try:
                connection = UnixConnection(self.lab.socket, 30)
                connection.request('GET', '/api/v1' + path)
                stream = Stream(connection, connection.getresponse())
                if stream.status != 200:
                    stream.read_all(30)
                    lease.opened.set()
                    end = now()
                    if stream.status != 404 or lease.is_held(end, end):
                        raise Fault(f'{self.name}: {lease} cannot be held: {stream.status} '
                                    f'{stream.data!r}')
                    return
                lease.stream = stream
                stream.read_until(b'"held"', 30)
                with self.lock:
                    if lease.dropped is None:
                        lease.lost = NEVER
                lease.opened.set()
                connection.sock.settimeout(60)
                while stream.read_some():
                    if b'"ended"' in stream.data:
                        return
            except (*BROKEN, AssertionError):
                continue
        lease.opened.set()

    def mine(self, who):
        with self.lock:
            return self.present.get(who)

    def abandon(self, who, seconds):
        """A client that dies when it has just asked."""
        lease = self.new_lease(who, True)
        self.round.up.wait()
        try:
            connection = UnixConnection(self.lab.socket, 30)
            connection.request('POST', f'/api/v1/dut/{self.name}/reservation', json.dumps(
                {'id': lease.name, 'owner': f'client-{who}', 'seconds': seconds, 'bound': True}))
            connection.close()
        except BROKEN:
            pass
        with self.lock:
            lease.dropped = now()
            lease.latest = now() + seconds

    def extend(self, who, seconds):
        lease = self.mine(who)
        if lease is None:
            return
        sent = now()
        with self.lock:
            before, old_latest = lease.earliest, lease.latest
            lease.earliest = min(lease.earliest, sent + seconds)
            lease.latest = max(lease.latest, sent + 60)
        answer, _ = self.ask('PATCH', f'reservation?id={lease.name}', {'seconds': seconds})
        told = now()
        with self.lock:
            if answer.status == 200:
                lease.earliest, lease.latest = sent + seconds, told + seconds
            elif answer.status in (404, 409):
                lease.latest = old_latest
                if told < min(before, lease.lost) and not lease.kicked:
                    raise Fault(f'{self.name}: {lease} is held and not extended: {answer}')
            else:
                raise Fault(f'{self.name}: {lease} is not extended: {answer}')

    def release(self, who):
        lease = self.mine(who)
        if lease is not None:
            self.end(f'reservation?id={lease.name}', [lease], 0)

    def kick(self, notice):
        with self.lock:
            leases = list(self.leases)
        self.end('reservation', leases, notice)

    def end(self, suffix, leases, notice):
        sent = now()
        with self.lock:
            before = {lease: min(lease.earliest, lease.lost) for lease in leases}
            for lease in leases:
                lease.earliest = min(lease.earliest, sent + notice)
                lease.kicked = True
        answer, heard = self.ask('DELETE', suffix, {'notice': notice, 'why': 'torture'})
        told = now()
        if answer.status == 404:
            with self.lock:
                for lease in leases:
                    if lease.acked and lease.acked < sent and told < before[lease] and not heard:
                        raise Fault(f'{self.name}: {lease} is not there: {answer}')
            return
        if answer.status != 200:
            raise Fault(f'{self.name}: cannot be ended: {answer}')
        with self.lock:
            for lease in leases:
                if lease.name == answer.json['id']:
                    lease.latest = min(lease.latest, told + notice)

    def drop(self, who):
        lease = self.mine(who)
        if lease is None or not lease.bound or lease.stream is None or lease.dropped is not None:
            return
        with self.lock:
            lease.lost = now() + CLIENT_S
            lease.dropped = now()
        lease.stream.connection.sock.shutdown(2)
        with self.lock:
            lease.dropped = now()

    def power(self, state):
        with self.lock:
            held = any(lease.is_held(now(), now() + 1) for lease in self.leases)
        if not held:
            return      # nobody would switch it off again
        answer, _ = self.ask('PUT', 'power', {'state': state, 'force': True})
        if answer.status not in (200, 409, 502):
            raise Fault(f'{self.name}: power: {answer}')

    @staticmethod
    def pause(seconds):
        threading.Event().wait(seconds)

    def linger(self):
        """Lets those end by themselves that do soon; the sampler sees whether they do."""
        with self.lock:
            ends = [lease.ends_by() for lease in self.leases]
        soon = [end for end in ends if now() - SLACK_S < end < now() + CLIENT_S + 1]
        if soon:
            self.pause(max(soon) + SLACK_S + 0.1 - now())

    # ---- the end ----

    def finish(self):
        for thread in self.waiters:
            thread.join()
        self.kick(0)
        with self.lock:
            for lease in self.leases:
                lease.dropped = lease.dropped or now()
                if lease.stream is not None:
                    try:
                        lease.stream.connection.sock.shutdown(2)
                    except OSError:
                        pass
        for lease in self.leases:
            if lease.watch is not None:
                lease.watch.join()

        def is_free():
            dut = self.lab.board_state(self.name)
            return dut if dut['state'] == 'IDLE' and dut['power']['state'] == 'OFF' else None
        try:
            await_true(is_free, f'{self.name} to be free and off', 30)
        except AssertionError as error:
            raise Fault(f'{error}: {self.lab.board_state(self.name)}') from error
        if os.path.exists(os.path.join(self.lab.state, 'duts', self.name, 'reservation.json')):
            raise Fault(f'{self.name}: a record is left')


# ---- a round ----

class Round:
    def __init__(self, lab, seed, number, clock):
        self.lab, self.number, self.clock = lab, number, clock
        self.plan, self.events = draw(seed, number)
        self.up = threading.Event()
        self.up.set()
        self.ready = now()      # when dutd last became ready
        self.over = threading.Event()
        self.faults = []
        self.boards = [Board(self, name) for name in BOARDS]

    def guard(self, function, *arguments):
        """In a thread: what goes wrong there is a fault of the round."""
        try:
            function(*arguments)
        except Fault as fault:
            self.faults.append(str(fault))
        except Exception:  # pylint: disable=broad-except
            self.faults.append(traceback.format_exc())

    def run_board(self, board):
        for verb, *arguments in self.plan[board.name]:
            getattr(board, verb)(*arguments)

    def disturb(self):
        for pause, verb, seconds in self.events:
            threading.Event().wait(pause)
            if verb == 'step':
                self.step_clock(seconds)
                continue
            self.up.clear()
            begin = now()
            if verb == 'kill':
                self.lab.daemon.kill()
            else:
                self.lab.stop()
            self.lab.daemon.start(60)
            self.ready = now()
            for board in self.boards:
                with board.lock:
                    for lease in board.leases:
                        # Clients that are there have to come back; those that are gone have
                        # their time once more.
                        if lease.dropped is None:
                            lease.lost = begin + CLIENT_S if lease.bound else NEVER
                        elif lease.ends_by() > begin - 1:
                            lease.dropped = max(lease.dropped, self.ready)
            self.up.set()

    def step_clock(self, seconds):
        if self.clock is not None:
            with open(self.clock, 'r+b') as file:
                file.write(struct.pack('=q', seconds))

    def sample(self):
        """What the boards say, against what the clients know."""
        while not self.over.is_set():
            self.up.wait()
            ready, before = self.ready, now()
            try:
                duts = self.lab.get('/duts', seconds=30)['duts']
            except (*BROKEN, AssertionError):
                continue
            after = now()
            for board in self.boards:
                self.check(board, duts[board.name], ready, before, after)
            threading.Event().wait(0.02)

    def check(self, board, dut, ready, before, after):
        held = dut['reservation']
        name = held['id'] if held and held['state'] == 'held' else None
        with board.lock:
            for lease in board.leases:
                # Who was told of it before, and whose end nobody can have asked for yet.
                if lease.is_held(before, after) and name != lease.name:
                    raise Fault(f'{board.name}: {lease} at {after}, but it is {held}')
                late = max(lease.ends_by(), ready) + SLACK_S
                if name == lease.name and before > late:
                    raise Fault(f'{board.name}: {lease} goes on at {before}: {held}')

    def run(self):
        threads = [threading.Thread(target=self.guard, args=(self.run_board, board))
                   for board in self.boards]
        others = [threading.Thread(target=self.guard, args=(work,))
                  for work in (self.disturb, self.sample)]
        for thread in threads + others:
            thread.start()
        for thread in threads:
            thread.join()
        others[0].join()
        for board in self.boards:
            self.guard(board.finish)
        self.over.set()
        others[1].join()
        return self.faults


# ---- all of it ----

def parse_arguments():
    parser = argparse.ArgumentParser(prog='dev torture leases', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sequences', nargs='?', type=int, default=1000, metavar='SEQUENCES')
    parser.add_argument('seed', nargs='?', type=int, default=None, metavar='SEED')
    parser.add_argument('--round', type=int, metavar='N', help='do the steps of round N only')
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)
    return options


def main():
    options = parse_arguments()
    rounds = [options.round] * (-(-options.sequences // len(BOARDS))) if options.round else \
        range(1, -(-options.sequences // len(BOARDS)) + 1)
    print(f'leases: seed {options.seed}', flush=True)
    passed = 0
    with Lab(leftovers_allowed=True) as lab:
        clock = None
        if os.path.exists(CLOCK):
            clock = lab.write('clock', struct.pack('=q', 0))
            lab.daemon.environment.update(LD_PRELOAD=CLOCK, DUT_STEPPED_CLOCK=clock)
        else:
            print('left out: the wall clock does not step: a sanitizer takes no library before it')
        lab.configure({'timeouts': {'client': CLIENT_S}})
        for board in BOARDS:
            lab.sim(board, 'at 10ms send "Linux version 6.1\\r\\n"\n')
        lab.start()
        for number in rounds:
            faults = Round(lab, options.seed, number, clock).run()
            if faults:
                plan, events = draw(options.seed, number)
                for fault in faults:
                    print(f'FAULT in round {number}: {fault}')
                for board, steps in plan.items():
                    if any(board in fault for fault in faults):
                        print(f'  {board}: {steps}')
                print(f'  all: {events}')
                print(f'again: ./dev torture leases {len(BOARDS)} {options.seed} --round {number}')
                print(lab.log[-8000:])
                print(f'{passed} passed, {len(BOARDS)} failed', flush=True)
                return 1
            passed += len(BOARDS)
    print(f'{passed} passed, 0 failed', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
