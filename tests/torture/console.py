# SPDX-License-Identifier: MIT
"""Are the bytes in the logs those that the board got rid of, in this order, none twice?"""

import json
import os
import re
from dataclasses import dataclass

from tests.torture.world import Fault

# What a killed board may have sent without having noted it: one write to its console.
UNNOTED = 256 * 1024

# How many places are tried where bytes may be missing.
MAX_CUTS = 1000

HEADER = re.compile(r'dut-idx 1 (\d+) [0-9a-f-]{36} (\d+) (\d+)$')
TIME = re.compile(r't (\d+) (\d+)$')
MARK = re.compile(r'm (\d+) (\d+) (\{.*\})$')


@dataclass
class Piece:
    """What a board sent over one connection."""
    data: bytes
    killed: bool  # its process was: there may be a little more than it has noted


def last_end(board, time_us):
    """Where the life ended after which another one began then; some die before they note it."""
    sizes = [size for killed_us, size in board.ends if killed_us <= time_us]
    if not sizes:
        raise Fault(f'{board.name}: dut-sim was started again, and nobody killed it')
    board.ends = board.ends[len(sizes):]
    return sizes[-1]


def follow_record(world, board):
    """
    The pieces since the last round, by what the board has noted of itself; moves the board's marks
    to the present end.
    """
    length, entries = world.read_record_of_board(board)
    cuts, begin = [], board.sent if board.is_open else None
    for entry in entries:
        event, at = entry['event'], board.life + entry['total']
        if event == 'start':
            end = board.exited
            if board.lived and end is None:
                end = last_end(board, entry['time_us'])
                if begin is not None:
                    cuts.append((begin, end, True))
            board.life, board.exited, board.lived, begin = end or 0, None, True, None
            board.power = 'off'
        elif event == 'exit':
            board.exited = at
        elif event == 'connect':
            begin = at
        elif event == 'disconnect':
            cuts.append((begin, at, False))
            begin = None
        elif event in ('on', 'off'):
            board.power = event
    size = world.sent_size(board)
    board.is_open = begin is not None
    if begin is not None:
        cuts.append((begin, size, False))
    board.sent = size
    board.recorded += length
    with open(world.sent_path(board), 'rb') as file:
        data = file.read()
    return entries, [Piece(data[start:end], killed) for start, end, killed in cuts
                     if end > start or killed]


def logs_of_jobs(world, board):
    """(offset, path) of the logs of all attempts of all jobs on the board."""
    for name in os.listdir(os.path.join(world.lab.state, 'jobs')):
        record = world.read_record(name[:-5]) if name.endswith('.json') else None
        if not record or record['dut'] != board.name or record['id'] in world.spoiled:
            continue
        if record['console_base'] is not None:
            yield record['console_base'], world.job_path(name[:-5], 'console.log')
        for number, base in enumerate(record.get('earlier_bases', []), 1):
            if base is not None:
                yield base, world.job_path(name[:-5], f'console.{number}.log')


def segments(world, board):
    """(offset, size, path, gap) of all logs of the board's console that hold bytes, in order."""
    folder = os.path.join(world.lab.state, 'duts', board.name, 'console', 'main')
    found = [(int(name[:-4]), os.path.join(folder, name))
             for name in os.listdir(folder) if name.endswith('.log')]
    found += [entry for entry in logs_of_jobs(world, board) if os.path.exists(entry[1])]
    found = [(offset, os.stat(path).st_size, path, read_gap(path, offset))
             for offset, path in found]
    return sorted(entry for entry in found if entry[1] > 0 or entry[3] > 0)


def read_gap(path, offset):
    """How many bytes in front of this log were lost on a full disk, as its index says."""
    try:
        with open(path[:-4] + '.idx', encoding='utf-8', errors='replace') as file:
            for line in file:
                match = MARK.match(line.rstrip('\n'))
                mark = json.loads(match[3]) if match else {}
                if mark.get('kind') == 'gap' and mark['from'] + mark['length'] == offset:
                    return mark['length']
    except (OSError, ValueError):
        pass
    return 0


def new_bytes(world, board):
    """
    What came since the last round, and which of it is missing: the bytes, with zeros for what was
    lost, and (begin, end) of those. No log begins before the end of another one; a hole is told.
    """
    end, data, gaps = 0, b'', []
    for offset, size, path, lost in segments(world, board):
        if offset < board.floor:
            continue
        if offset <= board.checked:
            lost = 0  # it was told before, or there is none
        if end > board.checked or offset >= board.checked:
            begin = max(end, board.checked)
            if offset - lost != begin or offset < begin:
                raise Fault(f'{board.name}: {path} begins at {offset} behind a gap of {lost}, and '
                            f'the one before ends at {begin}')
            if lost:
                gaps.append((len(data), len(data) + lost))
                data += bytes(lost)
        elif offset < end:
            raise Fault(f'{board.name}: {path} begins at {offset}, and the one before ends at '
                        f'{end}')
        end = offset + size
        if end > board.checked:
            with open(path, 'rb') as file:
                file.seek(max(0, board.checked - offset))
                data += file.read()
    return data, gaps


def fits_with_gaps(data, gaps, pieces):
    """Whether data is what was sent, where it is not missing."""
    wanted = bytearray(b''.join(piece.data for piece in pieces))
    if len(wanted) != len(data):
        return False
    for begin, end in gaps:
        wanted[begin:end] = bytes(end - begin)
    return bytes(wanted) == data


def common_length(left, right):
    """How many bytes at the beginning are the same."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    low = 0
    while low < length:  # the first half that differs, again and again
        middle = (low + length + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            length = middle - 1
    return low


def fits(data, pieces, may_lose):
    """Whether data is the pieces one after the other; each may lack its end if may_lose."""
    if not pieces:
        return not data
    piece, rest = pieces[0], pieces[1:]
    length = common_length(data, piece.data)
    if length == len(piece.data):
        if fits(data[length:], rest, may_lose):
            return True
        # More than was noted, by a board that was killed.
        if piece.killed and any(fits(data[length + more:], rest, may_lose)
                                for more in candidates(data[length:], rest)):
            return True
    return may_lose and any(fits(data[kept:], rest, may_lose) for kept in cuts(data, length, rest))


def cuts(data, length, rest):
    """Where a piece may have ended of which length bytes could be its own; the likely one first."""
    yield length
    head = next((piece.data for piece in rest if piece.data), b'')[:1]
    at = length
    for _ in range(MAX_CUTS):
        at = data.rfind(head, 0, at) if head else -1
        if at < 0:
            return
        yield at


def candidates(data, rest):
    """Lengths of what was not noted: up to where the next piece begins, or all."""
    head = next((piece.data for piece in rest if piece.data), b'')[:16]
    if not head:
        yield min(len(data), UNNOTED)
        return
    at = data.find(head)
    while 0 <= at <= UNNOTED:
        yield at
        at = data.find(head, at + 1)


def describe_difference(data, pieces):
    """Where they part, for a person."""
    wanted = b''.join(piece.data for piece in pieces)
    at = common_length(data, wanted)
    return (f'{len(data)} bytes in the logs, {len(wanted)} sent in {len(pieces)} connections; '
            f'the same up to {at}: logs go on with {data[at:at + 60]!r}, '
            f'the board with {wanted[at:at + 60]!r}')


def check_bytes(world, board, may_lose):
    """Compares what came since the last round; returns what the board noted meanwhile."""
    entries, pieces = follow_record(world, board)
    data, gaps = new_bytes(world, board)
    if not gaps:
        good = fits(data, pieces, may_lose)
    else:
        # Two reasons for missing bytes at a time cannot be told apart.
        good = may_lose or any(piece.killed for piece in pieces) or \
            fits_with_gaps(data, gaps, pieces)
    if not good:
        raise Fault(f'{board.name}: {describe_difference(data, pieces)}; gaps: {gaps}')
    check_answer(world, board, data, gaps)
    board.checked += len(data)
    return entries


def skip_bytes(world, board):
    """The logs of a job were spoiled: what comes from here on is compared again."""
    entries, _ = follow_record(world, board)
    end = world.lab.board_state(board.name)['consoles'][0]['offset']
    if end < board.floor:
        raise Fault(f'{board.name}: the console was at {board.floor}, and is now at {end}')
    board.checked = board.floor = end
    return entries


def check_answer(world, board, data, gaps):
    """The API has the same bytes at the same offsets."""
    end = board.checked + len(data)
    shown = world.lab.board_state(board.name)['consoles'][0]['offset']
    if shown != end:
        raise Fault(f'{board.name}: the console is at {end}, and the API says {shown}')
    if not data or gaps:
        return
    with world.lab.console(board.name, offset=board.checked) as stream:
        if int(stream.headers['Console-Offset']) != board.checked:
            raise Fault(f'{board.name}: the console was asked for {board.checked} and begins at '
                        f'{stream.headers["Console-Offset"]}')
        while len(stream.data) < len(data) and stream.read_some():
            pass
        if stream.data != data:
            raise Fault(f'{board.name}: the API has other bytes than the logs from '
                        f'{board.checked} on')


def check_index(path, base, size):
    """console.idx can be read, and never goes back; its last line may be torn."""
    with open(path, 'rb') as file:
        text = file.read()
    *lines, torn = text.decode(errors='replace').split('\n')
    if not lines:
        return
    header = HEADER.match(lines[0])
    if not header or int(header[1]) != base:
        raise Fault(f'{path}: line 1: {lines[0]!r} instead of a header with base {base}')
    offset, time_us = base, int(header[2])
    for number, line in enumerate(lines[1:], 2):
        match = TIME.match(line) or MARK.match(line)
        if not match:
            raise Fault(f'{path}: line {number}: {line!r}')
        if match.lastindex == 3:
            try:
                kind = json.loads(match[3]).get('kind')
            except ValueError:
                kind = None
            if not kind:
                raise Fault(f'{path}: line {number}: no mark: {line!r}')
        if int(match[1]) < offset or int(match[2]) < time_us:
            raise Fault(f'{path}: line {number} goes back: {line!r} after {offset} {time_us}')
        offset, time_us = int(match[1]), int(match[2])
    if offset > base + size:
        raise Fault(f'{path}: offset {offset} lies behind the log, which ends at {base + size}')
