# SPDX-License-Identifier: MIT
"""
What a round does, drawn from the seed and the round's number alone: which board plays what, and
what is done to whom at which moment, in this order. The same seed gives the same steps, whatever
comes of them.
"""

import random
from dataclasses import dataclass

from tests.torture import kinds

EVERYWHERE = ''  # a step that concerns no single board


@dataclass(frozen=True)
class Step:
    """moment and action are a verb and its arguments, see moments.py and injuries.py."""
    board: str
    moment: tuple
    action: tuple

    def __str__(self):
        where = f'{self.board}: ' if self.board else ''
        return f'{where}at {" ".join(map(str, self.moment))}: {" ".join(map(str, self.action))}'


@dataclass(frozen=True)
class Plan:
    seed: int
    number: int
    cast: dict  # board → Kind
    steps: tuple

    def __str__(self):
        cast = ', '.join(f'{board} {kind.name}' for board, kind in self.cast.items())
        return '\n'.join([f'round {self.number}: {cast}',
                          *(f'  {n}. {step}' for n, step in enumerate(self.steps, 1))])


def weighted(rng, table):
    """table: name → weight."""
    return rng.choices(list(table), list(table.values()))[0]


# ---- when ----

def any_moment(rng, kind):
    """A moment of a job that comes, as long as nothing else came between."""
    choices = [('phase', phase) for phase in kind.reaches if kind.ends or phase != 'teardown']
    choices += [('file', name) for name in ('job.json', 'events.jsonl')]
    choices += [('process', 'executor'), ('process', 'helper')]
    choices += [('state', state) for state in ('STARTING', 'RUNNING')]
    if kind.ends:
        choices += [('file', 'result.json'), ('state', 'ENDED')]
    if 'power_off' in kind.reaches:
        choices += [('file', 'started')]
    if 'boot' in kind.reaches:
        choices += [('record', 'on')]
    if kind.talks:
        choices += [('bytes', 1), ('bytes', kind.talks // 2), ('bytes', kind.talks)]
    if kind.bucket == 'many':
        choices += [('file', 'bucket'), ('process', 'fetch')]
    return rng.choice(choices)


def talking_moment(rng, kind):
    if kind.talks:
        return rng.choice([('bytes', 1), ('bytes', kind.talks), ('phase', 'running')])
    return any_moment(rng, kind)


def setup_moment(rng, kind):
    if kind.bucket == 'many':
        return rng.choice([('process', 'fetch'), ('file', 'bucket'), ('process', 'helper')])
    return rng.choice([('process', 'helper'), ('phase', 'setup')])


# ---- what ----

def kill_executor(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('kill', 'executor'))]


def end_executor(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('term', 'executor'))]


def stop_executor(rng, board, kind):
    """Left so, it is ended by a cancel."""
    goes_on = rng.random() < 0.5
    return [Step(board, any_moment(rng, kind), ('stop', 'executor')),
            Step(board, ('now',), ('continue', 'executor') if goes_on else ('cancel', 'job'))]


def hurt_helper(rng, board, kind):
    steps = [Step(board, setup_moment(rng, kind), (rng.choice(['kill', 'stop']), 'helper'))]
    if steps[0].action[0] == 'stop':
        steps += [Step(board, ('now',), rng.choice([('continue', 'helper'), ('cancel', 'job')]))]
    return steps


def hurt_fetch(rng, board, kind):
    if kind.bucket != 'many':
        return hurt_helper(rng, board, kind)
    steps = [Step(board, ('process', 'fetch'), (rng.choice(['kill', 'stop']), 'fetch'))]
    if steps[0].action[0] == 'stop':
        steps += [Step(board, ('now',), rng.choice([('continue', 'fetch'), ('cancel', 'job')]))]
    return steps


def kill_sim(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('kill', 'sim'))]


def stop_sim(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('stop', 'sim')),
            Step(board, ('now',), ('continue', 'sim'))]


def cancel(rng, board, kind):
    how = rng.choice(['job', 'job', 'board', 'socket', 'twice'])
    return [Step(board, any_moment(rng, kind), ('cancel', how))]


def hide_socket(rng, board, kind):
    name = weighted(rng, {'job.sock': 4, 'control.sock': 4, 'sim.sock': 1, 'console.sock': 1})
    how = weighted(rng, {'unlink': 4, 'file': 1, 'listener': 1, 'link': 1, 'folder': 1})
    action = ('unlink', name) if how == 'unlink' else ('replace', name, how)
    # Before dutd and its executor have met, which costs 15 s, only now and then.
    moment = rng.choice([('process', 'executor'), *[('phase', 'setup')] * 3, ('phase', 'teardown')])
    return [Step(board, moment, action)]


def stuck_viewer(rng, board, kind):
    what = rng.choice(['log', 'events', 'console', 'socket'])
    return [Step(board, talking_moment(rng, kind), ('view', what, 'stuck'))]


def broken_viewer(rng, board, kind):
    what = rng.choice(['log', 'events', 'console', 'socket'])
    return [Step(board, talking_moment(rng, kind), ('view', what, 'leave'))]


def good_viewer(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('view', 'log', 'read'))]


def switch_by_hand(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('power', rng.choice(['on', 'off', 'cycle'])))]


def kill_daemon(rng, board, kind):
    steps = [Step(board, any_moment(rng, kind), ('kill', 'dutd'))]
    if rng.random() < 0.3:
        steps += kill_executor(rng, board, kind)
    return steps + [Step(EVERYWHERE, ('now',), ('start', 'dutd'))]


def kill_daemon_again_and_again(rng, board, kind):
    steps = []
    for _ in range(rng.randint(2, 4)):
        steps += [Step(board, any_moment(rng, kind), ('kill', 'dutd')),
                  Step(EVERYWHERE, ('now',), ('start', 'dutd'))]
    return steps


def hurt_validator(rng, board, _kind):
    """Of a further submission, which is refused at last."""
    return [Step(board, ('now',), ('validator', rng.choice(['kill', 'stop'])))]


def spoil_files(rng, board, kind):
    name = rng.choice(['console.log', 'console.idx', 'events.jsonl', 'result.json', 'started',
                       'bucket', 'artifacts', 'job.json', '.'])
    how = 'unlink' if name == '.' else rng.choice(['unlink', 'pipe', 'link', 'folder'])
    steps = [Step(board, any_moment(rng, kind), ('spoil', name, how))]
    follow = weighted(rng, {'nothing': 3, 'kill': 1, 'restart': 1})
    if follow == 'kill':
        steps += kill_executor(rng, board, kind)
    elif follow == 'restart':
        steps += restart_daemon(rng, board, kind)
    return steps


def starve(rng, board, kind):
    """dutd may open no more files than a few, while others want connections."""
    steps = [Step(board, any_moment(rng, kind), ('starve', rng.choice([0, 1, 3, 10])))]
    if rng.random() < 0.5:
        steps += [Step(board, ('now',), ('crowd', 20))]
    over = ('over',) if kind.ends else ('now',)
    return steps + [Step(board, rng.choice([over, any_moment(rng, kind)]), ('feed', 'dutd'))]


def kill_daemon_and_executor(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('kill', 'both')),
            Step(EVERYWHERE, ('now',), ('start', 'dutd'))]


def restart_daemon(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('term', 'dutd')),
            Step(EVERYWHERE, ('now',), ('start', 'dutd'))]


def stop_daemon(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('stop', 'dutd')),
            Step(board, rng.choice([('now',), any_moment(rng, kind)]), ('continue', 'dutd'))]


def second_daemon(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('second', 'dutd'))]


def fill_disk(rng, board, kind):
    left = rng.choice([0, 4096, 65536, 262144, 3 << 19])
    steps = [Step(board, any_moment(rng, kind), ('fill', left))]
    follow = weighted(rng, {'nothing': 5, 'restart': 1, 'kill': 2, 'cancel': 2})
    if follow == 'restart':
        steps += [Step(board, any_moment(rng, kind), ('kill', 'dutd')),
                  Step(EVERYWHERE, ('now',), ('start', 'dutd'))]
    elif follow == 'kill':
        steps += kill_executor(rng, board, kind)
    elif follow == 'cancel':
        steps += cancel(rng, board, kind)
    over = ('over',) if kind.ends or follow == 'kill' else ('now',)
    free = rng.choice([over, over, any_moment(rng, kind), ('now',)])
    return steps + [Step(board, free, ('free', 'disk'))]


def crowd(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('crowd', rng.choice([50, 300])))]


def hide_daemon_socket(rng, board, kind):
    how = weighted(rng, {'unlink': 3, 'file': 1, 'listener': 1, 'link': 1})
    action = ('unlink', 'dutd.sock') if how == 'unlink' else ('replace', 'dutd.sock', how)
    return [Step(board, any_moment(rng, kind), action),
            Step(EVERYWHERE, ('now',), ('term', 'dutd')),
            Step(EVERYWHERE, ('now',), ('start', 'dutd'))]


def leave_upload(rng, board, kind):
    return [Step(board, any_moment(rng, kind), ('upload', rng.choice([0.1, 0.5, 0.99])))]


def queue_up(rng, board, kind):
    """Jobs that wait behind the first, while something happens to dutd or to one of them."""
    steps = [Step(board, ('now',), ('queue', rng.choice([1, 2, 4])))]
    follow = weighted(rng, {'nothing': 3, 'unqueue': 2, 'cancel': 1, 'restart': 3, 'kill': 3})
    if follow == 'unqueue':
        steps += [Step(board, any_moment(rng, kind), ('unqueue',))]
    elif follow == 'cancel':
        steps += cancel(rng, board, kind)
    elif follow == 'restart':
        steps += rng.choice([restart_daemon, kill_daemon, stop_daemon])(rng, board, kind)
    elif follow == 'kill':
        steps += rng.choice([kill_executor, kill_daemon_and_executor])(rng, board, kind)
    return steps


def reserve(rng, board, kind):
    """In front of the job, or behind it; with and without a release of one's own."""
    steps = [Step(board, rng.choice([('now',), ('over',) if kind.ends else ('now',)]),
                  ('reserve', 1))]
    follow = weighted(rng, {'nothing': 2, 'twice': 1, 'extend': 1, 'restart': 4, 'kill': 1})
    if follow == 'twice':
        steps += [Step(board, any_moment(rng, kind), ('reserve', 2))]
    elif follow == 'extend':
        steps += [Step(board, any_moment(rng, kind), ('extend',))]
    elif follow == 'restart':
        steps += rng.choice([restart_daemon, kill_daemon])(rng, board, kind)
    elif follow == 'kill':
        steps += kill_executor(rng, board, kind)
    if rng.random() < 0.5:
        steps += [Step(board, any_moment(rng, kind), ('release',))]
    return steps


def reload(rng, board, kind):
    steps = []
    for _ in range(rng.choice([1, 1, 2, 5])):
        action = weighted(rng, {'text': 3, 'tags': 2, 'power': 3, 'nothing': 1, 'broken': 1,
                                'remove': 3})
        steps += [Step(board, any_moment(rng, kind), ('remove', 'it') if action == 'remove'
                       else ('reload', action))]
    if rng.random() < 0.3:
        steps += rng.choice([restart_daemon, kill_daemon])(rng, board, kind)
    return steps


INJURIES = {
    kill_executor: 14, end_executor: 3, stop_executor: 6, hurt_helper: 4, hurt_fetch: 6,
    kill_sim: 6, stop_sim: 3, cancel: 10, hide_socket: 5, stuck_viewer: 4, broken_viewer: 3,
    good_viewer: 4, switch_by_hand: 3, kill_daemon: 6, kill_daemon_and_executor: 4,
    restart_daemon: 4, stop_daemon: 3, second_daemon: 2, fill_disk: 7, crowd: 2,
    hide_daemon_socket: 2, leave_upload: 2, kill_daemon_again_and_again: 2, hurt_validator: 2,
    spoil_files: 4, starve: 3, queue_up: 10, reserve: 8, reload: 8,
}

SUBMISSIONS = {'wait': 20, 'race': 2, 'leave': 2}


def draw(seed, number, boards):
    """The plan of a round on some of the boards."""
    rng = random.Random(f'{seed}/{number}')
    chosen = rng.sample(boards, min(len(boards), rng.choices([1, 2, 3], [50, 35, 15])[0]))
    weights = {name: kind.weight for name, kind in kinds.KINDS.items()}
    cast = {board: kinds.KINDS[weighted(rng, weights)] for board in sorted(chosen)}
    steps = [Step(board, ('now',), ('submit', weighted(rng, SUBMISSIONS))) for board in cast]
    for _ in range(rng.choices([1, 2, 3], [50, 35, 15])[0]):
        board = rng.choice(list(cast))
        steps += weighted(rng, INJURIES)(rng, board, cast[board])
    for board, kind in cast.items():
        if not kind.ends:
            moment = rng.choice([('phase', 'running'), ('bytes', kind.talks)])
            steps.append(Step(board, moment, ('cancel', 'job')))
    return Plan(seed, number, cast, tuple(steps))
