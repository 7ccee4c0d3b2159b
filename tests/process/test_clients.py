# SPDX-License-Identifier: MIT
"""What ties a job to its client: repeats of a submission, the binding, coming back to dutd."""

import json
import os
import random
import signal
import threading
import time
import unittest

from tests.support.harness import LIBEXEC, PATIENCE, Lab, UnixConnection, await_true, form_of

BOOT = 'at 10ms send "U-Boot\\r\\n"\nat 20ms send "Linux version 6.1\\r\\n"\n'
QUICK = BOOT + 'at 30ms send "test ok\\r\\nall done\\r\\n"\n'
JOB = '''
timeouts: {overall: 5m}
console_patterns: {session_end: "all done", job_success: "test ok"}
'''


def open_submission(lab, text, target, **metadata):
    """Sends a submission, and does not wait for its answer: the connection."""
    metadata = {'version': 1, 'target': {'id': target}, **metadata}
    kind, body = form_of([('metadata', json.dumps(metadata).encode()), ('job', text.encode())])
    connection = UnixConnection(lab.socket, PATIENCE)
    lab.cleanup.callback(connection.close)
    connection.request('POST', '/api/v1/jobs', body, {'Content-Type': kind})
    return connection


class Repeats(unittest.TestCase):
    def test_a_repeat_is_the_first_job(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual(first.status, 201, first)
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual(again.status, 200, again)
            self.assertEqual(again.json['id'], first.json['id'])
            self.assertEqual(set(again.json), set(first.json))
            # Also under the next dutd, and when it has ended.
            lab.kill_daemon()
            lab.start()
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual((again.status, again.json['id']), (200, first.json['id']))
            lab.api('POST', f'/jobs/{first.json["id"]}/cancel')
            lab.await_job(first.json['id'])
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual((again.status, again.json['id'], again.json['state']),
                             (200, first.json['id'], 'ENDED'))
            self.assertEqual(len(lab.get('/jobs')['jobs']), 1)
            lab.stop()
            lab.start()
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual((again.status, again.json['id']), (200, first.json['id']))

    def test_twenty_at_once_are_one_job(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            sent = [open_submission(lab, JOB, 'b1', submission_id='b' * 32) for _ in range(20)]
            answers = [connection.getresponse() for connection in sent]
            self.assertEqual(sorted(answer.status for answer in answers), [200] * 19 + [201])
            self.assertEqual({json.loads(answer.read())['id'] for answer in answers}, {'1'})
            lab.api('POST', '/jobs/1/cancel')
            lab.await_job('1')

    def test_one_that_was_refused_is_tried_anew(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = lab.submit_ok(JOB, 'b1')
            refused = lab.submit(JOB, 'b1', submission_id='c' * 32)
            self.assertEqual(refused.status, 409)
            self.assertIn('is held by', refused.json['error'])
            lab.api('POST', f'/jobs/{first}/cancel')
            lab.await_board('b1', 'IDLE')
            second = lab.submit(JOB, 'b1', submission_id='c' * 32)
            self.assertEqual((second.status, second.json['id']), (201, '2'))
            lab.api('POST', '/jobs/2/cancel')
            lab.await_job('2')

    def test_the_id_of_something_else_is_refused(self):
        with Lab() as lab:
            lab.sim('b1', QUICK)
            lab.start()
            job = lab.submit_ok(JOB, 'b1', submission_id='d' * 32, name='one')
            lab.await_job(job)
            for what, options in (('job', {'text': JOB + '# other\n', 'name': 'one'}),
                                  ('metadata', {'name': 'two'}),
                                  ('bucket', {'name': 'one', 'bucket': {'a': 'b'}})):
                with self.subTest(what=what):
                    answer = lab.submit(options.pop('text', JOB), 'b1', submission_id='d' * 32,
                                        **options)
                    self.assertEqual(answer.status, 409)
                    self.assertIn('that of another submission', answer.json['error'])

    def test_a_submitter_who_left_finds_his_job_again(self):
        """The connection breaks while the job is being begun: that ends nothing."""
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            connection = open_submission(lab, JOB, 'b1', submission_id='e' * 32)
            await_true(lambda: lab.get('/jobs')['jobs'], 'a job')
            connection.close()
            answer = lab.submit(JOB, 'b1', submission_id='e' * 32)
            self.assertIn(answer.status, (200, 201))
            self.assertEqual(answer.json['id'], '1')
            self.assertIsNone(lab.get('/jobs/1')['cancel'])
            lab.api('POST', '/jobs/1/cancel')
            lab.await_job('1')

    def test_nobody_else_is_told_the_id(self):
        with Lab() as lab:
            lab.sim('b1', QUICK)
            lab.start()
            job = lab.submit_ok(JOB, 'b1', submission_id='f' * 32, on_disconnect='cancel')
            texts = [lab.api('GET', path).body.decode() for path in
                     ('/jobs', f'/jobs/{job}', '/duts')]
            lab.await_job(job)
            texts.append(json.dumps({name: data.decode(errors='replace')
                                     for name, data in lab.results(job).items()}))
            for folder, _, names in os.walk(lab.job_file(job)):
                for name in names:
                    with open(os.path.join(folder, name), 'rb') as file:
                        texts.append(file.read().decode(errors='replace'))
            self.assertNotIn('f' * 32, '\n'.join(texts) + lab.log)


class Bound(unittest.TestCase):
    LIMIT = {'timeouts': {'client': '1s'}}

    def bound(self, lab, token='a' * 32, board='b1'):
        return lab.submit_ok(JOB, board, submission_id=token, on_disconnect='cancel')

    def hold(self, lab, job, token='a' * 32):
        stream = lab.stream(f'/jobs/{job}/events', follow=1, bind=token)
        self.assertEqual(stream.status, 200)
        return stream

    def assert_lost(self, lab, job):
        ended = lab.await_job(job)
        self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'client_lost'))
        self.assertEqual(ended['cancel']['by'], 'dutd')
        self.assertIn('timeouts.client', ended['cancel']['why'])
        self.assertEqual(lab.result(job)['reason'], 'client_lost')

    def test_a_client_that_never_comes_is_lost(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.start()
            job = self.bound(lab)
            self.assertEqual(lab.get(f'/jobs/{job}')['on_disconnect'], 'cancel')
            self.assert_lost(lab, job)

    def test_a_stream_holds_the_job_until_it_is_gone(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            job, other = self.bound(lab), self.bound(lab, 'b' * 32, 'b2')
            first, second = self.hold(lab, job), self.hold(lab, job)
            first.close()
            # One that has nobody is lost meanwhile; this one has the second stream.
            self.assert_lost(lab, other)
            self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
            begun = time.monotonic()
            second.close()
            self.assert_lost(lab, job)
            self.assertGreater(time.monotonic() - begun, 0.9)

    def test_others_who_watch_do_not_hold_it(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.start()
            job = self.bound(lab)
            lab.stream(f'/jobs/{job}/events', follow=1)
            answer = lab.api('GET', f'/jobs/{job}/events?bind={"b" * 32}')
            self.assertEqual(answer.status, 403)
            self.assertIn('not the submission_id', answer.json['error'])
            self.assert_lost(lab, job)

    def test_a_job_that_is_not_bound_goes_on(self):
        with Lab() as lab:
            lab.configure({'timeouts': {'client': '100ms'}})
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.sim('b3', BOOT)
            lab.start()
            free = lab.submit_ok(JOB, 'b1', submission_id='a' * 32, on_disconnect='continue')
            plain = lab.submit_ok(JOB, 'b2')
            self.assert_lost(lab, self.bound(lab, 'b' * 32, 'b3'))
            for job in (free, plain):
                self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
                self.assertEqual(lab.get(f'/jobs/{job}')['on_disconnect'], 'continue')
                lab.api('POST', f'/jobs/{job}/cancel')
                lab.await_job(job)

    def test_what_was_unbound_stays_so(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            job, other = self.bound(lab), self.bound(lab, 'b' * 32, 'b2')
            stream = self.hold(lab, job)
            answer = lab.api('DELETE', f'/jobs/{job}/binding')
            self.assertEqual((answer.status, answer.json['on_disconnect']), (200, 'continue'))
            stream.close()
            lab.kill_daemon()
            lab.start()
            # The other one, whose client does not come back, is lost under the new dutd.
            self.assert_lost(lab, other)
            self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
            self.assertEqual(lab.api('DELETE', f'/jobs/{job}/binding').status, 200)
            lab.api('POST', f'/jobs/{job}/cancel')
            lab.await_job(job)
            answer = lab.api('DELETE', f'/jobs/{job}/binding')
            self.assertEqual(answer.status, 409)
            self.assertIn('has ended already', answer.json['error'])

    def test_a_job_that_waits_is_bound_as_well(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.start()
            first = lab.submit_ok(JOB, 'b1')
            held = self.submit_waiting(lab, 'a' * 32)
            lost = self.submit_waiting(lab, 'b' * 32)
            stream = self.hold(lab, held)
            ended = lab.await_job(lost)
            self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'client_lost'))
            self.assertEqual(lab.get(f'/jobs/{held}')['state'], 'WAITING')
            # Under the next dutd its client does not come back.
            stream.close()
            lab.kill_daemon()
            lab.start()
            ended = lab.await_job(held)
            self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'client_lost'))
            self.assertEqual(lab.get(f'/jobs/{first}')['state'], 'RUNNING')
            lab.api('POST', f'/jobs/{first}/cancel')
            lab.await_job(first)
            acts = [(entry['job'], entry['action'], entry['who'])
                    for entry in lab.get('/history')['history']]
            self.assertIn((held, 'cancel', 'dutd'), acts)

    def submit_waiting(self, lab, token):
        job = lab.submit_ok(JOB, 'b1', submission_id=token, on_disconnect='cancel', wait='forever')
        self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'WAITING')
        return job

    def test_time_without_dutd_does_not_count(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.start()
            job = self.bound(lab)
            self.hold(lab, job)
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            # Longer than the limit: nothing else can show that this time is not counted.
            threading.Event().wait(1.5)
            lab.start()
            stream = self.hold(lab, job)
            self.assertIn(lab.get(f'/jobs/{job}')['state'], ('STARTING', 'RUNNING'))
            self.assertIsNone(lab.get(f'/jobs/{job}')['cancel'])
            stream.close()
            self.assert_lost(lab, job)


def talker(lines, pause_ms):
    """A script that says the same lines at the same times in every run."""
    text = BOOT
    for number in range(lines):
        text += f'at {30 + number * pause_ms}ms send "line {number} of {lines}\\r\\n"\n'
    return text + f'at {40 + lines * pause_ms}ms send "test ok\\r\\nall done\\r\\n"\n'


class ComesBack(unittest.TestCase):
    """dutd is killed, and comes back: whoever looked on goes on where it broke off."""

    def write_job(self, lab, text=JOB):
        lab.write('job.yml', text)
        return 'job.yml'

    def kill_and_start(self, lab, chance, times):
        """At random moments; some of them just after the last start."""
        for _ in range(times):
            threading.Event().wait(chance.uniform(0.0, 0.4))
            lab.kill_daemon()
            threading.Event().wait(chance.choice((0.0, 0.0, 0.2)))
            lab.start()

    def test_a_run_does_not_notice(self):
        seed = random.SystemRandom().randrange(1 << 32)
        with self.subTest(seed=seed), Lab() as lab:
            chance = random.Random(seed)
            script = talker(200, 10)
            for board in ('b1', 'b2'):
                lab.sim(board, script, options={'sent': lab.path('boards', board, 'sent.bin')})
            lab.start()
            job = self.write_job(lab)
            undisturbed = lab.dut('run', job, '--dut', 'b1')
            self.assertEqual(undisturbed.rc, 0, undisturbed)
            plain = lab.spawn_dut('run', job, '--dut', 'b1')
            events = lab.spawn_dut('run', job, '--dut', 'b2', '--json')
            lab.await_board('b1', 'RUNNING')
            lab.await_board('b2', 'RUNNING')
            self.kill_and_start(lab, chance, 5)
            out, err = plain.communicate(timeout=PATIENCE)
            self.assertEqual(plain.returncode, 0, err)
            self.assertEqual(out, undisturbed.raw)
            with open(lab.path('boards', 'b1', 'sent.bin'), 'rb') as file:
                self.assertTrue(file.read().endswith(out))
            # Each event once, in order; then the job.
            out, err = events.communicate(timeout=PATIENCE)
            self.assertEqual(events.returncode, 0, err)
            lines = [json.loads(line) for line in out.splitlines()]
            self.assertEqual([line['seq'] for line in lines[:-1]], list(range(len(lines) - 1)))
            self.assertEqual(lines[-1]['status'], 'PASS')

    def test_a_run_exits_as_its_job_does(self):
        with Lab() as lab:
            lab.sim('b1', BOOT + 'at 1s send "all done\\r\\n"\n')
            lab.start()
            process = lab.spawn_dut('run', self.write_job(lab), '--dut', 'b1', '--output', 'out')
            lab.await_board('b1', 'RUNNING')
            lab.await_phase(1, 'running')
            lab.kill_daemon()
            # The job ends while nobody is there.
            await_true(lambda: os.path.exists(lab.job_file(1, 'result.json')), 'its result')
            lab.start()
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 3, err)
            self.assertTrue(out.endswith(b'all done\r\n'))
            self.assertIn(b'trying again for 600 s', err)
            self.assertIn(b'the daemon is back after', err)
            with open(lab.path('out', 'console.log'), 'rb') as file:
                self.assertEqual(file.read(), out)

    def test_a_submission_is_repeated_until_it_is_answered(self):
        with Lab() as lab:
            lab.sim('b1', QUICK)
            hold = hold_checks(lab)
            lab.start()
            process = lab.spawn_dut('run', self.write_job(lab), '--dut', 'b1')
            await_true(lambda: os.path.exists(hold + '.begun'), 'its job is being checked')
            lab.kill_daemon()
            os.unlink(hold)
            lab.start()
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 0, err)
            self.assertIn(b'all done', out)
            self.assertEqual(len(lab.get('/jobs')['jobs']), 1)

    def test_a_run_waits_no_longer_than_it_may(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            process = lab.spawn_dut('run', self.write_job(lab), '--dut', 'b1', '--reconnect',
                                    '300ms')
            lab.await_board('b1', 'RUNNING')
            lab.kill_daemon()
            _, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 69, err)
            self.assertIn(b'job 1 goes on without us', err)

    def test_a_run_that_waits_for_a_board_does_not_notice(self):
        with Lab() as lab:
            lab.sim('b1', talker(100, 10))
            lab.start()
            job = self.write_job(lab)
            first = lab.submit_ok(JOB.replace('all done', 'never said'), 'b1')
            lab.await_phase(first, 'running')
            process = lab.spawn_dut('run', job, '--dut', 'b1', '--wait', 'forever')
            await_true(lambda: len(lab.get('/jobs')['jobs']) == 2, 'the second job')
            for _ in range(2):
                lab.kill_daemon()
                lab.start()
            self.assertEqual(lab.get('/jobs/2')['state'], 'WAITING')
            lab.api('POST', f'/jobs/{first}/cancel')
            # Its log begins where that of the first job ended, which nobody knew before.
            seen = os.read(process.stdout.fileno(), 20)
            lab.kill_daemon()
            lab.start()
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 0, err)
            self.assertEqual(seen + out, lab.results('2')['console.log'])
            self.assertGreater(lab.get('/jobs/2')['console_base'], 0)

    def test_a_wait_does_not_notice(self):
        with Lab() as lab:
            lab.sim('b1', BOOT + 'at 1s send "test ok\\r\\nall done\\r\\n"\n')
            lab.sim('b2', BOOT + 'at 1s send "all done\\r\\n"\n')
            lab.start()
            jobs = [lab.submit_ok(JOB, board) for board in ('b1', 'b2')]
            process = lab.spawn_dut('wait', *jobs)
            single = lab.spawn_dut('wait', jobs[0])
            await_true(lambda: connections(lab) == 2 + 1, 'they wait')
            lab.kill_daemon()
            lab.start()
            self.assertEqual((process.wait(PATIENCE), single.wait(PATIENCE)), (3, 0))

    def test_a_log_and_a_console_do_not_notice(self):
        with Lab() as lab:
            lab.sim('b1', talker(100, 10))
            lab.start()
            console = lab.spawn_dut('console', '--read-only', 'b1')
            board = lab.spawn_dut('log', 'b1', '--follow')
            await_true(lambda: connections(lab) == 2, 'they watch')
            job = lab.submit_ok(JOB, 'b1')
            log = lab.spawn_dut('log', job, '--follow')
            self.assertEqual(os.read(log.stdout.fileno(), 6), b'U-Boot')
            for _ in range(2):
                lab.kill_daemon()
                lab.start()
            lab.await_job(job)
            whole = lab.results(job)['console.log']
            out, err = log.communicate(timeout=PATIENCE)
            self.assertEqual((log.returncode, b'U-Boot' + out), (0, whole), err)
            for process in (console, board):
                seen = b''
                while not seen.endswith(b'all done\r\n'):
                    piece = os.read(process.stdout.fileno(), 65536)
                    self.assertTrue(piece, process.poll())
                    seen += piece
                self.assertEqual(seen, whole)
            console.send_signal(signal.SIGINT)
            board.send_signal(signal.SIGTERM)
            self.assertEqual((console.wait(PATIENCE), board.wait(PATIENCE)), (0, 130))
            self.assertNotIn(b'missing', console.stderr.read())

    def test_a_console_says_how_much_is_missing(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            lab.api('PUT', '/dut/b1/power', {'state': 'on'})
            with lab.console('b1', offset=0) as stream:
                stream.read_until(b'Linux version 6.1\r\n')
            log = lab.spawn_dut('log', 'b1', '--follow')
            size = len(b'U-Boot\r\nLinux version 6.1\r\n')
            self.assertEqual(len(read_exactly(log.stdout.fileno(), size)), size)
            lab.kill_daemon()
            # What it has not seen yet is gone when dutd is back.
            folder = os.path.join(lab.state, 'duts', 'b1', 'console', 'main')
            last = max(int(name.removesuffix('.log')) for name in os.listdir(folder)
                       if name.endswith('.log'))
            for suffix in ('log', 'idx'):
                os.rename(os.path.join(folder, f'{last}.{suffix}'),
                          os.path.join(folder, f'{last + 1000}.{suffix}'))
            lab.start()
            line = log.stderr.readline()
            while b'missing' not in line:
                self.assertTrue(line)
                line = log.stderr.readline()
            self.assertIn(f'{1000 - size} bytes of the console are missing here'.encode(), line)
            log.terminate()
            self.assertEqual(log.wait(PATIENCE), 130)


class Leaves(unittest.TestCase):
    """Without a terminal a signal cancels; a client that dies is missed."""

    def start_job(self, lab, *options):
        lab.write('job.yml', JOB)
        process = lab.spawn_dut('run', 'job.yml', '--dut', 'b1', *options)
        lab.await_board('b1', 'RUNNING')
        return process

    def test_signals_cancel(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                process = self.start_job(lab)
                process.send_signal(number)
                _, err = process.communicate(timeout=PATIENCE)
                self.assertEqual(process.returncode, 7, err)
                lab.await_board('b1', 'IDLE')
            self.assertEqual({job['reason'] for job in lab.get('/jobs')['jobs']}, {'cancelled'})

    def test_a_signal_while_dutd_is_away_cancels_when_it_is_back(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            process = self.start_job(lab)
            lab.kill_daemon()
            self.assertIn(b'job 1 on b1', process.stderr.readline())
            self.assertIn(b'trying again for 600 s', self.line_with(process, b'trying again'))
            process.send_signal(signal.SIGTERM)
            lab.start()
            _, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 7, err)
            self.assertEqual(lab.get('/jobs/1')['cancel']['why'], 'dut run got SIGTERM')

    def line_with(self, process, text):
        for line in process.stderr:
            if text in line:
                return line
        raise AssertionError(f'{text!r} was not said')

    def test_one_that_is_killed_is_missed(self):
        with Lab() as lab:
            lab.configure({'timeouts': {'client': '500ms'}})
            lab.sim('b1', BOOT)
            lab.start()
            process = self.start_job(lab)
            self.assertEqual(lab.get('/jobs/1')['on_disconnect'], 'cancel')
            # It holds the job for as long as it lives.
            threading.Event().wait(0.7)
            self.assertIsNone(lab.get('/jobs/1')['cancel'])
            process.kill()
            ended = lab.await_job(1)
            self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'client_lost'))

    def test_one_that_is_detached_is_not(self):
        with Lab() as lab:
            lab.configure({'timeouts': {'client': '100ms'}})
            lab.sim('b1', BOOT + 'at 500ms send "test ok\\r\\nall done\\r\\n"\n')
            lab.start()
            lab.write('job.yml', JOB)
            ran = lab.dut('run', 'job.yml', '--dut', 'b1', '--detach')
            self.assertEqual(lab.await_job(ran.out.strip())['status'], 'PASS')


def read_exactly(fd, size):
    data = b''
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            break
        data += piece
    return data


def connections(lab):
    """How many connections to its socket dutd has accepted."""
    inodes = set()
    for name in os.listdir(f'/proc/{lab.daemon.pid}/fd'):
        try:
            target = os.readlink(f'/proc/{lab.daemon.pid}/fd/{name}')
        except FileNotFoundError:
            continue
        if target.startswith('socket:'):
            inodes.add(target[8:-1])
    count = 0
    with open('/proc/net/unix', encoding='utf-8') as table:
        for line in list(table)[1:]:
            # Num RefCount Protocol Flags Type St Inode Path; 03 is connected.
            fields = line.split()
            if fields[5] == '03' and fields[6] in inodes and fields[-1].endswith('/dutd.sock'):
                count += 1
    return count


def hold_checks(lab):
    """
    The check of a job file, a dut-executor, waits for as long as the file that is returned is
    there; one that has begun leaves a file of this name with `.begun` behind it.
    """
    folder = lab.path('libexec')
    hold = lab.write('hold', '')
    os.mkdir(folder)
    for name in os.listdir(LIBEXEC):
        if name != 'dut-executor':
            os.symlink(os.path.join(LIBEXEC, name), os.path.join(folder, name))
    script = lab.write('libexec/dut-executor', f'''#!/bin/sh
[ "$1" = --validate ] && : > {hold}.begun
while [ "$1" = --validate ] && [ -e {hold} ]; do /bin/sleep 0.05; done
exec {LIBEXEC}/dut-executor "$@"
''')
    os.chmod(script, 0o755)
    lab.daemon.command[lab.daemon.command.index('--libexec-dir') + 1] = folder
    return hold


if __name__ == '__main__':
    unittest.main()
