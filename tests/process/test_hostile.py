# SPDX-License-Identifier: MIT
"""Executors that were taken over, and moments in which the machine or a person is in the way."""

import json
import os
import resource
import sys
import unittest

from tests.support import processes
from tests.support.harness import LIBEXEC, Lab, await_true

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SHORT = 'console_patterns: {session_end: Linux}\n'

# A dut-executor that does as it likes: it says hello, and then what ACT says.
EXECUTOR = '''#!{python}
import fcntl, json, os, random, socket, sys, time
if len(sys.argv) > 1:
    os.execv('{libexec}/dut-executor', ['dut-executor'] + sys.argv[1:])
for fd in range(3, 8):
    os.set_inheritable(fd, False)
job = json.load(open(os.open('job.json', os.O_RDONLY, dir_fd=6)))
listener = socket.socket(fileno=5)
listener.setblocking(True)
listener.listen(8)
os.write(7, b'R')
os.close(7)

def receive(connection):
    data, fds, _, _ = socket.recv_fds(connection, 65536, 4)
    return (json.loads(data) if data else None), fds

def send(connection, **packet):
    connection.send(json.dumps(packet).encode())

def greet():
    connection = listener.accept()[0]
    connection.setblocking(True)
    receive(connection)
    send(connection, t='hello', v=1, job=job['id'], attempt=job['attempt'], nonce=job['nonce'],
         phase='setup', boot=0, console=None, open=None)
    return connection

def await_packet(connection, kind):
    while True:
        packet, fds = receive(connection)
        if packet is None:
            sys.exit(9)
        if packet['t'] == kind:
            return packet, fds

{act}
'''


def make_libexec(lab, act):
    folder = lab.path('libexec')
    os.makedirs(folder)
    for name in os.listdir(LIBEXEC):
        if name != 'dut-executor':
            os.symlink(os.path.join(LIBEXEC, name), os.path.join(folder, name))
    text = EXECUTOR.replace('{python}', sys.executable).replace('{libexec}', LIBEXEC)
    os.chmod(lab.write('libexec/dut-executor', text.replace('{act}', act)), 0o755)
    lab.daemon.command += ['--libexec-dir', folder]


class TakenOver(unittest.TestCase):
    def test_it_cannot_have_files_of_another_job_deployed(self):
        act = '''
os.mkdir('artifacts', dir_fd=6)
connection = greet()
await_packet(connection, 'go')
answers = []
for number, path in enumerate(['artifacts/../../1.json', 'artifacts/../job.yml', '../1.json',
                               '/etc/passwd', 'bucket/x', 'artifacts'], 1):
    send(connection, t='on', n=number, boot=1, deploy={'kernel': path})
    answers.append([path, await_packet(connection, 'done')[0]])
with os.fdopen(os.open('answers', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=6), 'w') as file:
    json.dump(answers, file)
'''
        with Lab() as lab:
            make_libexec(lab, act)
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(SHORT, 'b1')
            lab.await_job(job)
            with open(lab.job_file(job, 'answers'), encoding='utf-8') as file:
                answers = json.load(file)
            self.assertEqual(len(answers), 6)
            for path, answer in answers:
                self.assertFalse(answer['ok'], (path, answer))
            lab.await_board('b1', 'IDLE')
            self.assertNotIn('on', [entry['event'] for entry in lab.record('b1')])

    def test_many_requests_do_not_keep_the_board_on(self):
        act = '''
connection = greet()
await_packet(connection, 'go')
for number in range(1, 60):
    send(connection, t='off', n=number)
send(connection, t='on', n=60, boot=1, deploy=None)
'''
        with Lab() as lab:
            make_libexec(lab, act)
            lab.sim('b1', 'delay off 30ms\n' + BOOT)
            lab.start()
            lab.await_job(lab.submit_ok(SHORT, 'b1'))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            self.assertNotIn('trying again', lab.log)

    def test_what_it_leaves_in_the_place_of_its_files_harms_nobody(self):
        act = '''
connection = greet()
await_packet(connection, 'go')
for name in ('console.log', 'console.idx', 'events.jsonl', 'result.json'):
    try:
        os.unlink(name, dir_fd=6)
    except FileNotFoundError:
        pass
LEAVE
os.close(os.open('started', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=6))
'''
        for leave in (
                "os.symlink('../../dutd.db', 'console.log', dir_fd=6)\n"
                "os.symlink('/etc/passwd', 'events.jsonl', dir_fd=6)\n"
                "os.link('../../epoch', 'result.json', src_dir_fd=6, dst_dir_fd=6)",
                "os.mkfifo('console.log', dir_fd=6)\n"
                "os.mkfifo('events.jsonl', dir_fd=6)\n"
                "os.mkfifo('result.json', dir_fd=6)",
                "for name in ('console.log', 'events.jsonl', 'result.json'):\n"
                "    os.mkdir(name, dir_fd=6)\n"
                "    os.mkfifo(name + '/fifo', dir_fd=6)",
                "fd = os.open('result.json', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=6)\n"
                "os.truncate(fd, 1 << 25)"):
            with self.subTest(leave=leave), Lab() as lab:
                make_libexec(lab, act.replace('LEAVE', leave))
                lab.sim('b1', BOOT)
                lab.start()
                job = lab.submit_ok(SHORT, 'b1')
                self.assertEqual(lab.await_job(job)['reason'], 'executor_killed')
                lab.await_board('b1', 'IDLE')
                for path in ('log', 'events'):
                    answer = lab.api('GET', f'/jobs/{job}/{path}')
                    self.assertNotIn(b'root:', answer.body)
                    self.assertNotIn(b'SQLite', answer.body)
                results = lab.results(job)
                self.assertEqual([name for name in results if results[name].strip(b'\0')], [])

    def test_it_cannot_make_dutd_wait_for_its_eventfd(self):
        # It wakes dutd and takes the count away before dutd can read it, on an fd that blocks.
        act = '''
connection = greet()
wake = await_packet(connection, 'lend')[1][3]
await_packet(connection, 'go')
fcntl.fcntl(wake, fcntl.F_SETFL, 0)
count = bytearray(8)

def answers():
    with socket.socket(socket.AF_UNIX) as dutd:
        dutd.settimeout(2)
        try:
            dutd.connect('SOCKET')
            dutd.sendall(b'GET /api/v1/status HTTP/1.0\\r\\n\\r\\n')
            return bool(dutd.recv(10))
        except OSError:
            return False

for _ in range(4000):
    os.write(wake, (1).to_bytes(8, 'little'))
    # Between dutd's wait for the event and its read lie some microseconds: not known, so tried.
    until = time.perf_counter() + random.random() * 80e-6
    while time.perf_counter() < until:
        pass
    try:
        os.preadv(wake, [count], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        pass
    # Another count would free it again.
    if not answers():
        connection.recv(1)
'''
        with Lab() as lab:
            make_libexec(lab, act.replace('SOCKET', lab.daemon.socket))
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(SHORT, 'b1')
            self.assertEqual(lab.await_job(job, 60)['reason'], 'executor_failed')
            lab.await_board('b1', 'IDLE')

    def test_a_result_that_contradicts_itself_is_none(self):
        act = '''
connection = greet()
await_packet(connection, 'go')
if job['name'] == 'started':
    os.close(os.open('started', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=6))
result = {'v': 1, 'id': job['id'], 'attempt': job['attempt'], 'nonce': job['nonce'],
          'console': None, 'console_base': None, 'status': 'PASS', 'reason': 'power',
          'verdict': None, 'message': 'all is well', 'boots': [], 'timeouts': {}, 'patterns': {},
          'faults': [], 'tests': [], 'files': []}
with os.fdopen(os.open('result.json', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=6), 'w') as file:
    json.dump(result, file)
send(connection, t='end', status='PASS', reason='power')
'''
        with Lab() as lab:
            make_libexec(lab, act)
            lab.sim('b1', BOOT)
            lab.start()
            for name, status, reason in (('started', 'INCOMPLETE', 'executor_killed'),
                                         ('not', 'SETUP_FAIL', 'executor_failed')):
                job = lab.await_job(lab.submit_ok(SHORT, 'b1', name=name))
                self.assertEqual((job['status'], job['reason'], job['verdict']),
                                 (status, reason, 'lab'))
                self.assertEqual(job['message'], 'result.json does not hold: status PASS does not '
                                                 "fit the reason 'power'")
                lab.await_board('b1', 'IDLE')

    def test_its_log_may_be_anything_the_console_comes_back(self):
        """Whatever lies in the place of console.log at the end, the next job has the console."""
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            for make in (os.mkdir, os.mkfifo, lambda path: os.symlink('/etc/hostname', path),
                         lambda path: None):
                job = lab.submit_ok('console_patterns: {session_end: never}', 'b1')
                lab.await_phase(job, 'running')
                path = lab.job_file(job, 'console.log')
                os.unlink(path)
                make(path)
                lab.kill_executor('b1')
                self.assertEqual(lab.await_job(job)['reason'], 'executor_killed')
                lab.await_board('b1', 'IDLE')
                self.assertEqual(lab.board_state('b1')['consoles'][0]['state'], 'idle')
                self.assertEqual(lab.run_job(SHORT, 'b1')['status'], 'COMPLETE')

    def test_one_that_never_says_hello_is_not_waited_for(self):
        act = '''
listener.accept()[0].close()
connection = listener.accept()[0]
while receive(connection)[0] is not None:
    pass
'''
        with Lab() as lab:
            make_libexec(lab, act)
            lab.sim('b1', BOOT)
            lab.start()
            answer = lab.submit(SHORT, 'b1')
            self.assertEqual(answer.status, 500, answer)
            self.assertIn('within 15 s', answer.json['error'])
            lab.await_board('b1', 'IDLE')


class Moments(unittest.TestCase):
    def test_a_result_that_cannot_be_read_now_is_read_later(self):
        """dutd has no file descriptor left at each step of a job's end: PASS is PASS."""
        script = BOOT + 'at 200ms send "test ok\\r\\n"\n'
        text = 'console_patterns: {session_end: "test ok", job_success: "test ok"}\n'
        with Lab() as lab:
            lab.sim('b1', script)
            lab.start()
            pid = lab.daemon.pid
            full = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            for step in range(8):
                job = lab.submit_ok(text, 'b1')
                lab.await_phase(job, 'running')
                executor = lab.executor_pid('b1')
                # The executor's own are free again then: the lock's, the folder's, the log's ...
                highest = max(int(name) for name in os.listdir(f'/proc/{pid}/fd'))
                before = lab.log.count('Too many open files')
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest - 6 + step, full[1]))
                self.assertTrue(processes.await_end(executor, 30))
                await_true(lambda: lab.log.count('Too many open files') > before or
                           self.ended(lab, job), 'what dutd makes of it')
                resource.prlimit(pid, resource.RLIMIT_NOFILE, full)
                self.assertEqual(lab.await_job(job)['status'], 'PASS', step)
                lab.await_board('b1', 'IDLE')
                self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    @staticmethod
    def ended(lab, job):
        """From its record: dutd may be unable to answer."""
        with open(lab.job_file(job) + '.json', encoding='utf-8') as file:
            return json.load(file)['state'] == 'ENDED'

    def test_a_job_does_not_begin_in_the_midst_of_a_cycle(self):
        with Lab() as lab:
            lab.sim('b1', 'delay off 200ms\ndelay on 200ms\n' + BOOT)
            lab.start()
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            cycle = lab.spawn_dut('power', 'cycle', 'b1')
            await_true(lambda: [entry for entry in lab.record('b1') if entry['event'] == 'off'],
                       'the first half')
            job = lab.run_job(SHORT, 'b1')
            cycle.communicate()
            self.assertEqual(cycle.returncode, 0)
            self.assertEqual(job['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')
            edges = [entry['event'] for entry in lab.record('b1')
                     if entry['event'] in ('on', 'off')]
            self.assertEqual(edges, ['on', 'off', 'on', 'off', 'on', 'off'])
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    def test_a_submission_that_waited_outlives_a_slow_start(self):
        """Waiting and starting take longer than a submission may wait: only the waiting counts."""
        act = '#!/bin/sh\n' \
              f'[ "$1" = --validate ] && exec {LIBEXEC}/dut-executor --validate\n' \
              'grep -q \'"name": "second"\' /proc/$$/fd/6/job.json && ' \
              f'{sys.executable} -c "import select; select.select([], [], [], 13)"\n' \
              f'exec {LIBEXEC}/dut-executor\n'
        with Lab() as lab:
            make_libexec(lab, '')
            os.chmod(lab.write('libexec/dut-executor', act), 0o755)
            lab.sim('b1', 'delay off 8s\n' + BOOT.replace('10ms', '1s'))
            lab.start()
            first = lab.submit_ok(SHORT, 'b1', name='first')
            lab.await_job(first)
            second = lab.submit(SHORT, 'b1', name='second')
            self.assertEqual(second.status, 201, second)
            self.assertEqual(lab.await_job(second.json['id'])['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')


if __name__ == '__main__':
    unittest.main()
