# SPDX-License-Identifier: MIT
"""What a job cannot do, whatever it contains: tried from inside of its executor."""

import contextlib
import json
import os
import shutil
import signal
import stat
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

from tests.support import processes
from tests.support.harness import BUILD, LIBEXEC, Lab, await_true

ATTACKER = os.path.join(BUILD, 'tests', 'process', 'attacker')
SANITIZED = 'asan' in os.path.basename(BUILD)

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SILENT = 'silent\n'
SHORT = 'console_patterns: {session_end: Linux}\n'

# A dut-executor that leaves a process behind, with the lock and the console.
LEAVER = '''#!{python}
import os, sys
if sys.argv[1:2] == ['--user']:
    uid, gid = map(int, sys.argv[2].split(':'))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.fork() == 0:
        os.setsid()
        os.write(7, b'left')
        os.close(7)
        os.execv('/bin/sleep', ['sleep', '600'])
    sys.exit(1)
os.execv(os.path.dirname(sys.argv[0]) + '/real-executor', sys.argv)
'''

# One whose way out is disturbed by what it is to end: stopped first, then killed.
DISTURBED = '''#!{python}
import os, signal, sys
if sys.argv[1:2] == ['--end-user']:
    with open(os.path.dirname(sys.argv[0]) + '/disturbed', 'a+') as file:
        file.write('x')
        file.seek(0)
        count = len(file.read())
    if count <= 2:
        os.kill(os.getpid(), (signal.SIGSTOP, signal.SIGKILL)[count - 1])
os.execv(os.path.dirname(sys.argv[0]) + '/real-executor', sys.argv)
'''

# One that does not begin, as long as it is to hang.
HANGING = '''#!{python}
import os, sys
folder = os.path.dirname(sys.argv[0])
if len(sys.argv) == 1 and os.path.exists(folder + '/hang'):
    with open(folder + '/hang.tmp', 'w') as file:
        file.write(str(os.getpid()))
    os.rename(folder + '/hang.tmp', folder + '/hang.there')
    os.execv('/bin/sleep', ['sleep', '600'])
os.execv(folder + '/real-executor', sys.argv)
'''


def users(count):
    """A range of numbers that no other test has at the same time, nor any user."""
    first = 100_000_000 + 8 * os.getpid()
    return f'{first}-{first + count - 1}', range(first, first + count)


def status_of(pid):
    lines = processes.read(pid, 'status').decode().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(':') for line in lines)}


def read_file(path):
    with open(path, 'rb') as file:
        return file.read()


class Guarded:
    """A lab whose programs any user may run; executor: what is there in its place, as a path or
    as the text of a script. The real one lies beside it."""

    def __init__(self, executor=None, count=0, duts=('b1', 'b2'), script=BOOT):
        self.lab = lab = Lab()
        os.chmod(lab.folder, 0o755)
        libexec = lab.path('libexec')
        os.makedirs(libexec)
        for name in os.listdir(LIBEXEC):
            shutil.copy(os.path.join(LIBEXEC, name), os.path.join(libexec, name))
        if executor:
            os.rename(os.path.join(libexec, 'dut-executor'),
                      os.path.join(libexec, 'real-executor'))
            if executor.startswith('#!'):
                lab.write('libexec/dut-executor', executor.replace('{python}', sys.executable))
            else:
                shutil.copy(executor, os.path.join(libexec, 'dut-executor'))
            os.chmod(os.path.join(libexec, 'dut-executor'), 0o755)
        lab.daemon.command[lab.daemon.command.index('--libexec-dir') + 1] = libexec
        lab.daemon.environment['DUT_LIBEXEC_DIR'] = libexec
        self.config = {}
        if count:
            self.config['job_users'], self.uids = users(count)
        for name in duts:
            lab.sim(name, script)

    def __enter__(self):
        self.lab.__enter__()
        return self

    def __exit__(self, *problem):
        return self.lab.__exit__(*problem)

    def start(self):
        self.lab.configure(self.config)
        self.lab.start()
        return self.lab


def need_root():
    if os.geteuid() != 0:
        raise unittest.SkipTest('only root can give jobs users of their own')


class Attacks(unittest.TestCase):
    def attack(self, count=0, confined=True):
        """Runs the attacker as the executor of a job; returns {attack: result}."""
        with Guarded(ATTACKER, count) as guarded:
            # An attack has to come to its end.
            guarded.lab.daemon.environment.pop('DUT_SANDBOX', None)
            secret = guarded.lab.write('etc/secrets/rack1', 'community\n')
            # Of another job, which has ended, and of another DUT.
            lab = guarded.lab
            lines = {
                'secret': secret,
                'config': lab.path('etc', 'dutd.yaml'),
                'next_id': lab.path('state', 'next-id'),
                'other_record': lab.path('state', 'jobs', '1.json'),
                'other_folder': lab.path('state', 'jobs', '1'),
                'other_job': lab.path('state', 'jobs', '1', 'job.yml'),
                'own_record': lab.path('state', 'jobs', '2.json'),
                'other_lock': lab.path('state', 'duts', 'b2', 'lock'),
                'dutd_socket': lab.path('run', 'dutd.sock'),
                'other_control': lab.path('run', 'duts', 'b2', 'control.sock'),
                'other_job_socket': lab.path('run', 'duts', 'b2', 'job.sock'),
                'daemon_lock': lab.path('state', 'daemon.lock'),
            }
            guarded.start()
            for name in ('environ', 'status', 'mem', 'maps', 'fd'):
                lines[f'dutd_{name}'] = f'/proc/{lab.daemon.pid}/{name}'
            lines['dutd'] = str(lab.daemon.pid)
            if not confined:
                lines['open'] = 'yes'
            lab.write('libexec/targets', ''.join(f'{k} {v}\n' for k, v in lines.items()))
            os.chmod(lab.path('libexec', 'targets'), 0o644)
            for number in (1, 2):
                # It leaves without a result: the job did not start.
                self.assertEqual(lab.submit(SHORT, target='b1').status, 500)
                await_true(lambda: lab.get('/dut/b1')['state'] == 'IDLE', 'idle')
            with open(lab.path('state', 'jobs', '2', 'attacks'), encoding='utf-8') as file:
                return {line['attack']: line['result'] for line in map(json.loads, file)}

    def assert_held(self, attacks, but=()):
        done = [attack for attack, result in attacks.items() if result == 'done']
        allowed = [attack for attack in attacks if attack.startswith('allowed: ')]
        self.assertEqual([attack for attack in done if attack not in but], allowed)
        self.assertGreater(len(attacks), 90)

    def expected_holes(self):
        # AddressSanitizer itself takes terabytes of addresses.
        return ('2 GiB of memory',) if SANITIZED else ()

    def test_with_a_user_of_its_own_nothing_is_in_reach(self):
        need_root()
        self.assert_held(self.attack(count=4), self.expected_holes())

    def test_with_the_user_of_dutd_the_sandbox_holds(self):
        # The job's folder is all its own then.
        self.assert_held(self.attack(), ('replace job.json', 'become root')
                         + self.expected_holes())

    def test_without_the_sandbox_the_attacks_are_real(self):
        attacks = self.attack(confined=False)
        for attack in ('read secret', 'read config', 'append to next_id', 'read other_job',
                       'append to own_record', 'read dutd_environ', 'a unix socket',
                       'leave the folder', 'link out of the folder', 'append to other_lock'):
            self.assertEqual(attacks[attack], 'done', attack)


class Leftovers(unittest.TestCase):
    def test_a_pipe_that_somebody_fills_keeps_nobody(self):
        """The console's pipe is in the hands of a process that outlives the job."""
        with Guarded(ATTACKER, duts=('b1',), script='at 10ms send "after"\n') as guarded:
            lab = guarded.lab
            targets = lab.write('libexec/targets', 'pipe yes\n')
            lab.start()
            lab.submit(SHORT, target='b1')
            self.assertEqual(lab.await_job('1')['status'], 'SETUP_FAIL')
            lab.await_board('b1', 'IDLE')
            # What comes in later goes another way.
            os.unlink(targets)
            end = lab.get('/dut/b1')['consoles'][0]['offset']
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'on'}).status, 200)
            with lab.console('b1', offset=end) as console:
                self.assertNotIn(b'forged', console.read_until(b'after'))
            # It has nobody any more who reads.
            await_true(lambda: not [pid for pid in processes.of_folder(lab.folder)
                                    if b'dut-executor' in processes.read(pid, 'cmdline')],
                       'the writer ends')
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'off'}).status, 200)

    def test_a_former_attempt_does_not_say_what_the_next_may(self):
        """Without a user of its own a job can write its job.json."""
        with Guarded(HANGING, duts=('b1',)) as guarded:
            lab = guarded.lab
            guarded.config['api'] = {'file_roots': [lab.path('images')]}
            hang = lab.write('libexec/hang', '')
            guarded.start()
            path = lab.write('job.yml', SHORT)
            lab.spawn_dut('run', '--dut', 'b1', path)
            await_true(lambda: os.path.exists(hang + '.there'), 'the executor')
            lab.kill_daemon()
            with open(hang + '.there', encoding='utf-8') as file:
                processes.kill(int(file.read()), signal.SIGKILL)
            os.unlink(hang)
            given = lab.path('state', 'jobs', '1', 'job.json')
            facts = json.loads(read_file(given))
            with open(given, 'w', encoding='utf-8') as file:
                json.dump({**facts, 'file_roots': ['/'], 'socket_uid': 12345,
                           'limits': {**facts['limits'], 'bucket': 2**62}}, file)
            lab.start()
            self.assertEqual(lab.await_job('1')['status'], 'COMPLETE')
            self.assertEqual({**json.loads(read_file(given)), **{
                key: facts[key] for key in ('attempt', 'nonce', 'epoch')}}, facts)

    def test_who_talks_nonsense_does_not_fill_the_log(self):
        with Guarded(ATTACKER, duts=('b1',)) as guarded:
            lab = guarded.lab
            lab.write('libexec/targets', 'chatter yes\n')
            lab.start()
            lab.submit(SHORT, target='b1')
            self.assertEqual(lab.await_job('1')['status'], 'INCOMPLETE')
            self.assertIn('what came is no control packet', lab.log)
            self.assertLess(len(lab.log.splitlines()), 20)

    def test_a_console_that_an_executor_gives_is_not_kept(self):
        """A dutd that was started anew gets the console from the executor: or what that says."""
        with Guarded(ATTACKER, duts=('b1',), script='at 10ms send "after"\n') as guarded:
            lab = guarded.lab
            lab.write('libexec/targets', 'console yes\n')
            lab.start()
            job = lab.submit_ok(SHORT, target='b1')
            await_true(lambda: os.path.exists(lab.path('state', 'jobs', job, 'started')), 'lent')
            lab.kill_daemon()
            lab.start()
            self.assertEqual(lab.await_job(job)['status'], 'INCOMPLETE')
            lab.await_board('b1', 'IDLE')
            end = lab.get('/dut/b1')['consoles'][0]['offset']
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'on'}).status, 200)
            with lab.console('b1', offset=end) as console:
                self.assertNotIn(b'forged', console.read_until(b'after'))
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'off'}).status, 200)


class Users(unittest.TestCase):
    def setUp(self):
        need_root()

    def test_each_running_job_has_its_own(self):
        with Guarded(count=2, duts=('b1', 'b2', 'b3'), script=BOOT) as guarded:
            lab = guarded.start()
            jobs = [lab.submit('console_patterns: {session_end: never}\n', target=dut)
                    for dut in ('b1', 'b2')]
            executors = [lab.get(f'/dut/{dut}')['executor']['pid'] for dut in ('b1', 'b2')]
            seen = set()
            for pid in executors:
                status = status_of(pid)
                uid = int(status['Uid'].split()[0])
                seen.add(uid)
                self.assertEqual(status['Uid'].split(), [str(uid)] * 4)
                self.assertEqual(status['Gid'].split(), [str(uid)] * 4)
                self.assertEqual(status['Groups'], '')
                self.assertEqual(status['NoNewPrivs'], '1')
                self.assertEqual(status['Seccomp'], '2')
                for kind in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
                    self.assertEqual(int(status[kind], 16), 0, kind)
            self.assertEqual(seen, set(guarded.uids))

            refused = lab.submit(SHORT, target='b3')
            self.assertEqual(refused.status, 429)
            self.assertIn('all 2 users of job_users have a job', refused.json['error'])

            for job in jobs:
                lab.api('POST', f'/jobs/{job.json["id"]}/cancel', {'why': 'enough'})
            for job in jobs:
                lab.await_job(job.json['id'])
            # The numbers are free again, once nothing of the jobs is left.
            third = await_true(lambda: self.accepted(lab.submit(SHORT, target='b3')),
                               'a user for the third job')
            self.assertEqual(lab.await_job(third)['status'], 'COMPLETE')

    @staticmethod
    def accepted(answer):
        return answer.json['id'] if answer.status == 201 else None

    def test_the_folder_is_taken_back_before_the_number_is_used_again(self):
        with Guarded(count=1, duts=('b1',)) as guarded:
            lab = guarded.start()
            for _ in range(3):
                job = await_true(lambda: self.accepted(lab.submit(SHORT, target='b1')), 'a job')
                self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            record = lab.path('state', 'jobs', f'{job}.json')
            await_true(lambda: b'"user"' not in read_file(record), 'the user is free')
            for name in ('1', '2', '3'):
                status = os.stat(lab.path('state', 'jobs', name))
                self.assertEqual((status.st_uid, status.st_gid), (0, 0))
                self.assertEqual(stat.S_IMODE(status.st_mode), 0o700)
            # Its results are there all the same.
            self.assertEqual(lab.api('GET', f'/jobs/{job}/results').status, 200)

    def test_nothing_outlives_its_job(self):
        with Guarded(LEAVER, count=1, duts=('b1',)) as guarded:
            lab = guarded.start()
            self.assertEqual(lab.submit(SHORT, target='b1').status, 500)
            # What it left had the lock: without its end the board would never be free.
            await_true(lambda: lab.get('/dut/b1')['state'] == 'IDLE', 'the board is idle')
            left = [pid for pid in processes.of_folder(lab.folder)
                    if status_of(pid).get('Uid', '').split()[:1] == [str(guarded.uids[0])]]
            self.assertEqual(left, [])

    def test_what_is_to_end_cannot_end_or_stop_its_ender(self):
        with Guarded(DISTURBED, count=1, duts=('b1',)) as guarded:
            lab = guarded.start()
            for _ in range(2):
                job = await_true(lambda: self.accepted(lab.submit(SHORT, target='b1')), 'a job')
                self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            self.assertGreaterEqual(os.path.getsize(lab.path('libexec', 'disturbed')), 3)

    def test_a_killed_dutd_takes_them_back_later(self):
        with Guarded(count=1, duts=('b1',)) as guarded:
            lab = guarded.start()
            job = lab.submit('console_patterns: {session_end: never}\n', target='b1').json['id']
            executor = lab.get('/dut/b1')['executor']['pid']
            lab.await_phase(job, 'boot', 'running')
            lab.kill_daemon()
            os.kill(executor, 9)
            lab.start()
            self.assertEqual(lab.await_job(job)['reason'], 'executor_killed')
            job = await_true(lambda: self.accepted(lab.submit(SHORT, target='b1')), 'a job')
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')

    def test_one_that_is_left_goes_to_one_job(self):
        duts = [f'b{number}' for number in range(4)]
        with Guarded(count=1, duts=duts) as guarded:
            lab = guarded.start()
            with ThreadPoolExecutor(len(duts)) as pool:
                statuses = sorted(pool.map(
                    lambda dut: lab.submit('console_patterns: {session_end: never}\n',
                                           target=dut).status, duts))
            self.assertEqual(statuses, [201, 429, 429, 429])
            jobs = lab.get('/jobs')['jobs']
            self.assertEqual(len(jobs), 1)
            lab.api('POST', f'/jobs/{jobs[0]["id"]}/cancel', {'why': 'enough'})
            lab.await_job(jobs[0]['id'])

    def test_a_job_that_waits_gets_one_when_one_is_free(self):
        """Of a dutd that was killed before it could be begun."""
        with Guarded(count=1, duts=('b1', 'b2')) as guarded:
            lab = guarded.start()
            first = lab.submit_ok('console_patterns: {session_end: never}\n', target='b1')
            lab.await_phase(first, 'boot', 'running')
            lab.kill_daemon()
            jobs = lab.path('state', 'jobs')
            record = json.loads(read_file(os.path.join(jobs, f'{first}.json')))
            record.pop('user')
            record.update({'id': 2, 'dut': 'b2', 'state': 'WAITING', 'attempt': 0, 'nonce': '',
                           'off_pending': False, 'console_base': None, 'started_us': 0})
            os.mkdir(os.path.join(jobs, '2'), 0o750)
            for name, text in (('2/job.yml', SHORT), ('2.json', json.dumps(record)), (
                    '2/job.json', read_file(os.path.join(jobs, first, 'job.json')).decode())):
                lab.write(os.path.join(jobs, name), text)
            lab.start()
            lab.await_board('b1', 'RUNNING')
            self.assertEqual(lab.get('/jobs/2')['state'], 'WAITING')
            lab.api('POST', f'/jobs/{first}/cancel', {'why': 'enough'})
            self.assertEqual(lab.await_job('2')['status'], 'COMPLETE')

    def test_a_record_that_is_too_old_ends_nobody_elses_processes(self):
        """A full disk kept the record of a job that has ended, whose user then got another one."""
        with Guarded(count=1, duts=('b1',)) as guarded:
            lab = guarded.start()
            first = lab.submit_ok(SHORT, target='b1')
            record = lab.path('state', 'jobs', f'{first}.json')
            await_true(lambda: b'"user"' in read_file(record), 'it has a user')
            lab.await_job(first)
            await_true(lambda: b'"user"' not in read_file(record), 'the user is free')
            second = await_true(
                lambda: self.accepted(lab.submit('console_patterns: {session_end: never}\n',
                                                 target='b1')), 'a job')
            executor = lab.get('/dut/b1')['executor']['pid']
            lab.await_phase(second, 'boot', 'running')
            lab.kill_daemon()
            uid = guarded.uids[0]
            old = {**json.loads(read_file(record)), 'user': {'uid': uid, 'gid': uid}}
            with open(record, 'w', encoding='utf-8') as file:
                json.dump(old, file)
            # A row follows its record: it knows no more.
            for name in ('dutd.db', 'dutd.db-wal', 'dutd.db-shm'):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(lab.path('state', name))
            lab.start()
            await_true(lambda: b'"user"' not in read_file(record), 'it is not its user any more')
            lab.await_board('b1', 'RUNNING')
            self.assertEqual(status_of(executor)['Uid'].split()[0], str(uid))
            lab.api('POST', f'/jobs/{second}/cancel', {'why': 'enough'})
            self.assertEqual(lab.await_job(second)['status'], 'CANCELLED')


class RealJobs(unittest.TestCase):
    def test_its_files_are_its_own(self):
        with Guarded(count=1 if os.geteuid() == 0 else 0, duts=('b1',)) as guarded:
            guarded.config['api'] = {'file_roots': [guarded.lab.path('images')]}
            guarded.lab.write('images/kernel', 'x' * 1000)
            os.symlink(guarded.lab.path('state', 'next-id'), guarded.lab.path('images', 'link'))
            lab = guarded.start()
            for path in ('/etc/shadow', lab.path('state', 'next-id'),
                         lab.path('state', 'jobs', '1.json'), '/proc/self/environ',
                         lab.path('images', '..', 'state', 'next-id'),
                         lab.path('images', 'link')):
                job = f'deployment: {{start: {{kernel: {{url: "file://{path}"}}}}}}\n' + SHORT
                answer = lab.submit(job, target='b1')
                if answer.status == 201:
                    ended = lab.await_job(answer.json['id'])
                    self.assertEqual((ended['status'], ended['reason']),
                                     ('SETUP_FAIL', 'download'), path)
                    await_true(lambda: lab.get('/dut/b1')['state'] == 'IDLE', 'idle')
                else:
                    self.assertEqual(answer.status, 400, (path, answer))

    def test_dutd_says_once_what_it_lacks(self):
        with Guarded(duts=('b1',)) as guarded:
            lab = guarded.start()
            self.assertEqual(lab.log.count('jobs run with the uid of dutd'), 1)
        need_root()
        with Guarded(count=1, duts=('b1',)) as guarded:
            lab = guarded.start()
            self.assertNotIn('jobs run with the uid of dutd', lab.log)


if __name__ == '__main__':
    unittest.main()
