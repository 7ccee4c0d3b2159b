# SPDX-License-Identifier: MIT
"""What must hold after each round, seen from outside: API, files, processes, power."""

import collections
import datetime
import json
import os
import re
import time

from tests.support import processes
from tests.torture import console
from tests.torture.world import Fault, await_fact, scan

PATIENCE = 60.0

SETUP_ONLY = {'deadline', 'queue_timeout', 'download', 'checksum', 'bucket', 'timeout:infra_setup',
              'executor_failed'}
EITHER = {'disk', 'power', 'timeout:overall'}
STATUSES = {
    'ok': {'PASS', 'COMPLETE'}, 'warn': {'WARN'},
    'no_success': {'FAIL'}, 'pattern_fail': {'FAIL'},
    'cancelled': {'CANCELLED'}, 'client_lost': {'CANCELLED'},
    **{reason: {'SETUP_FAIL'} for reason in SETUP_ONLY},
    **{reason: {'SETUP_FAIL', 'INCOMPLETE'} for reason in EITHER},
    **{reason: {'INCOMPLETE'} for reason in (
        'timeout:boot_cycle', 'timeout:first_console_activity', 'timeout:console_activity',
        'console_flood', 'regex_limit', 'unfit', 'console_lost', 'executor_killed', 'daemon_lost',
        'gateway_reboot')},
}
PREFIXES = {'step:': {'FAIL', 'INCOMPLETE'}, 'command:': {'FAIL'},
            'timeout:watchdogs.': {'INCOMPLETE'}}

# Ends that dutd writes down itself, when there is no result.json to read.
WITHOUT_RESULT = {'executor_killed', 'executor_failed', 'gateway_reboot', 'cancelled', 'disk',
                  'queue_timeout', 'deadline'}

RESULT_KEYS = {'v', 'id', 'attempt', 'nonce', 'console', 'console_base', 'name', 'dut', 'owner',
               'status', 'reason', 'verdict', 'message', 'submitted', 'started', 'ended', 'boots',
               'timeouts', 'patterns', 'faults', 'tests', 'files'}

MAY_GROW = 4 << 20        # bytes of memory of one dutd, over its life
MAY_GROW_A_JOB = 16 << 10  # and for each job: its records stay in memory
MAY_GROW_A_CLIENT = 40 << 10  # and for each that was there at a time: malloc(3) keeps their room
BUSY = 0.5                # of a processor, by a dutd that has nothing to do


def statuses_of(reason):
    for prefix, statuses in PREFIXES.items():
        if reason.startswith(prefix):
            return statuses
    return STATUSES.get(reason, set())


# ---- rest ----

def what_is_awaited(world, by_hand, killed):
    """What still has to happen before all is at rest; '' when it is."""
    for job in world.lab.get('/jobs?limit=1000')['jobs']:
        if job['state'] != 'ENDED':
            return f'job {job["id"]} is {job["state"]}'
    duts = world.lab.get('/duts')['duts']
    for name, dut in sorted(duts.items()):
        if dut['state'] == 'BORKED' and not dut.get('message'):
            raise Fault(f'{name} is BORKED, and does not say why')
        if dut['state'] != 'IDLE':
            return f'{name} is {dut["state"]}: {dut.get("message", "")}'
        # What was killed while it was idle is looked at when somebody wants it.
        if dut['power']['state'] not in ('OFF', 'UNKNOWN' if name in killed else 'OFF') and \
                name not in by_hand:
            return f'the power of {name} is {dut["power"]}'
    for process in scan():
        if process.name != 'dut-sim' and belongs(world, process.pid):
            return f'{process.name} {process.pid} ({process.state}) runs'
    return ''


def belongs(world, pid):
    mark = world.lab.folder.encode()
    return mark in processes.read(pid, 'environ') or mark in processes.read(pid, 'cmdline')


def await_rest(world, by_hand=(), killed=()):
    """All jobs ended, all boards idle and off, no process left that is not needed."""
    last = ''

    def look():
        nonlocal last
        world.check_daemon()
        world.look_for_twins()
        last = what_is_awaited(world, by_hand, killed)
        return not last

    if not await_fact(look, PATIENCE, 0.03):
        raise Fault(f'after {PATIENCE:g} s still: {last}')


def await_consoles(world):
    """A board whose process was killed gets it, and its console, with the next off."""
    for name in world.boards:
        dut = world.lab.board_state(name)
        if dut['consoles'][0]['state'] == 'idle' and world.sim_pid(name) and \
                dut['power']['state'] == 'OFF' and 'error' not in dut['power']:
            continue
        answer = world.lab.api('PUT', f'/dut/{name}/power', {'state': 'off'})
        if answer.status != 200:
            raise Fault(f'{name} cannot be switched off: {answer}')

    def look():
        return all(dut['consoles'][0]['state'] == 'idle' and dut['state'] == 'IDLE'
                   for dut in world.lab.get('/duts')['duts'].values())

    if not await_fact(look, PATIENCE, 0.02):
        raise Fault(f'consoles stay closed: {world.lab.get("/duts")["duts"]}')


# ---- jobs ----

def end_of(job):
    return {key: job[key] for key in ('status', 'reason', 'verdict', 'message', 'ended', 'dut')}


def check_jobs(world):
    """Every job has one end, which is in the list, and keeps it. Returns them by their number."""
    jobs, before = {}, ''
    while True:
        page = world.lab.get(f'/jobs?limit=1000{before}')['jobs']
        jobs.update({int(job['id']): job for job in page})
        if len(page) < 1000:
            break
        before = f'&before={page[-1]["id"]}'
    for number in world.acknowledged:
        if number not in jobs:
            raise Fault(f'job {number} was acknowledged, and is not there any more')
    for number, job in jobs.items():
        if job['status'] not in statuses_of(job['reason'] or ''):
            raise Fault(f'job {number} ended {job["status"]} ({job["reason"]})')
        known = world.ended.setdefault(number, end_of(job))
        if known != end_of(job):
            raise Fault(f'the end of job {number} was {known} and is {end_of(job)}')
        if not job['message'] and job['status'] == 'SETUP_FAIL':
            raise Fault(f'job {number} failed in its setup and does not say why')
    return jobs


def check_end(job, kind, disturbed):
    allowed = kind.ends | disturbed
    if (job['status'], job['reason']) not in allowed:
        raise Fault(f'job {job["id"]} ({kind.name}) ended {job["status"]} ({job["reason"]}: '
                    f'{job["message"]}), and not one of {sorted(allowed)}')


def read_events(path, torn):
    """events.jsonl: seq counts without a hole. torn: its last line may be."""
    with open(path, 'rb') as file:
        *lines, last = file.read().split(b'\n')
    if last and not torn:
        raise Fault(f'{path}: the last line is torn: {last!r}')
    events = []
    for number, line in enumerate(lines):
        try:
            event = json.loads(line)
        except ValueError:
            raise Fault(f'{path}: line {number + 1}: {line!r}') from None
        if event['seq'] != number:
            raise Fault(f'{path}: line {number + 1} has seq {event["seq"]}')
        events.append(event)
    return events


def check_files(world, job, torn):
    """The files of one job that has ended."""
    number = int(job['id'])
    record = world.read_record(number)
    path = world.job_path(number, 'result.json')
    result = None
    if os.path.exists(path):
        with open(path, encoding='utf-8') as file:
            result = json.load(file)
        check_result(path, job, record, result)
    elif job['reason'] not in WITHOUT_RESULT:
        raise Fault(f'job {number} ended {job["reason"]} without result.json')
    path = world.job_path(number, 'events.jsonl')
    if os.path.exists(path):
        events = read_events(path, torn or result is None)
        last = events[-1] if events else {}
        if result and not torn and (last.get('state'), last.get('status')) != \
                ('ENDED', job['status']):
            raise Fault(f'{path}: the last event is {last}')
    log = world.job_path(number, 'console.log')
    index = world.job_path(number, 'console.idx')
    if os.path.exists(index):
        console.check_index(index, job['console_base'], os.path.getsize(log))
    return result


def check_result(path, job, record, result):
    missing = RESULT_KEYS - set(result)
    if missing:
        raise Fault(f'{path}: {sorted(missing)} are missing')
    if result['attempt'] != record['attempt'] or result['nonce'] != record['nonce']:
        return  # of an attempt that does not count
    for key in ('status', 'reason', 'verdict', 'message', 'dut', 'console_base', 'id'):
        if result[key] != job[key]:
            raise Fault(f'{path}: {key} is {result[key]!r}, and the API says {job[key]!r}')
    offsets = [boot['console_offset'] for boot in result['boots']]
    if offsets != sorted(offsets):
        raise Fault(f'{path}: boots go back: {offsets}')


def check_archive(world, job, result):
    """GET results gives the very files."""
    if result is None:
        return
    files = world.lab.results(job['id'])
    if json.loads(files['result.json']) != result:
        raise Fault(f'the results of job {job["id"]} have another result.json')
    with open(world.job_path(job['id'], 'console.log'), 'rb') as file:
        if file.read() != files['console.log']:
            raise Fault(f'the results of job {job["id"]} have another console.log')


# ---- power ----

def boottime_us(iso, shift_us):
    moment = datetime.datetime.fromisoformat(iso.replace('Z', '+00:00'))
    return int(moment.timestamp() * 1e6) - shift_us


def check_power(board, entries, jobs):
    """Off at the end, and never on but for a job. jobs: those of the board in this round."""
    if board.power != 'off':
        raise Fault(f'{board.name} is at rest, and its own record says that it is on')
    shift_us = (time.clock_gettime_ns(time.CLOCK_REALTIME) -
                time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1000
    spans = [(boottime_us(job['submitted'], shift_us), boottime_us(job['ended'], shift_us))
             for job in jobs]
    for entry in entries:
        if entry['event'] != 'on':
            continue
        slack = 20000  # the clocks are read one after the other
        if not any(begin - slack <= entry['time_us'] <= end + slack for begin, end in spans):
            raise Fault(f'{board.name} was switched on at {entry["time_us"]}, when no job had it: '
                        f'{spans}')


# ---- dutd itself ----

def what_it_is(target):
    """The kind of file behind an fd, without what is another one each time."""
    if target.startswith(('socket:', 'pipe:')):
        return target.partition(':')[0]
    return re.sub(r'^\d+(?=\.)', 'N', os.path.basename(target))


def open_files(pid):
    """What the fds of a process are, counted."""
    counts = collections.Counter()
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            counts[what_it_is(os.readlink(f'/proc/{pid}/fd/{fd}'))] += 1
        except FileNotFoundError:
            continue
    # A dutd watches the boards that it has started itself, and not those that it found.
    del counts['anon_inode:[pidfd]']
    return counts


def settled_files(pid):
    """What stays open: a connection of ours may just be being closed."""
    counts, looks = None, 0

    def look():
        nonlocal counts, looks
        present = open_files(pid)
        looks = looks + 1 if present == counts else 0
        counts = present
        return looks == 20

    await_fact(look, 20, 0.02)
    return counts


def memory_bytes(pid):
    found = re.search(rb'^RssAnon:\s*(\d+) kB', processes.read(pid, 'status'), re.M)
    return int(found[1]) << 10


def has_sanitizer(pid):
    return b'/libasan' in processes.read(pid, 'maps')


def processor_ns(pid):
    total = 0
    for task in os.listdir(f'/proc/{pid}/task'):
        total += int(processes.read(pid, f'task/{task}/schedstat').split()[0])
    return total


def check_daemon(world):
    """
    At rest it has the same files open as the first dutd had at its beginning, and has not grown
    since its own first rest.
    """
    pid = world.daemon_pid
    # The thread that reads the configuration is begun when it is needed, and stays.
    answer = world.lab.api('POST', '/reload')
    if answer.status != 200:
        raise Fault(f'the configuration is not read again: {answer}')
    files = world.files
    if not files:
        files.update(settled_files(pid))
    if world.baseline is None:
        world.baseline = (memory_bytes(pid), len(world.ended))
    memory, jobs = world.baseline
    if not await_fact(lambda: open_files(pid) == files, 20, 0.02):
        raise Fault(f'dutd had {sum(files.values())} files open and has '
                    f'{sum(open_files(pid).values())}: {open_files(pid) - files} more, '
                    f'{files - open_files(pid)} less')
    grown = memory_bytes(pid) - memory
    if not has_sanitizer(pid) and \
            grown > MAY_GROW + MAY_GROW_A_JOB * (len(world.ended) - jobs) + \
            MAY_GROW_A_CLIENT * world.most_clients:
        raise Fault(f'dutd has grown by {grown >> 10} KiB in {len(world.ended) - jobs} jobs')


def is_busy(pid, seconds):
    begun, before = time.monotonic(), processor_ns(pid)
    await_fact(lambda: False, seconds, seconds)
    return processor_ns(pid) - before > BUSY * (time.monotonic() - begun) * 1e9


def check_idleness(world):
    """A dutd that spins is found by its processor time; a second look excludes an accident."""
    if is_busy(world.daemon_pid, 0.03) and is_busy(world.daemon_pid, 0.5):
        raise Fault('dutd is at rest, and busy')


def check_sanitizers(world):
    for name in sorted(os.listdir(world.lab.sanitizer)):
        with open(os.path.join(world.lab.sanitizer, name), errors='replace') as file:
            text = file.read()
        if text.strip():
            raise Fault(f'sanitizer, {name}: {text[:4000]}')
