# SPDX-License-Identifier: MIT
"""
dutd as a package installs it, under a systemd that is PID 1. Runs inside the machine of
tests/vm/main.py, as root, with nothing else beside it.
"""

import contextlib
import glob
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

from tests.process.test_kill import whole_console
from tests.support.harness import UBOOT, Lab, await_true

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\nevery 50ms send "tick\\r\\n"\n'
JOB = '''
timeouts: {overall: 5m}
console_patterns: {session_end: "all done", job_success: "test ok"}
'''
DROP_IN = '/etc/systemd/system/dutd.service.d/test.conf'


def run(*command, check=True):
    """Output of a program, which has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f'{command}: {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout.strip()


def show(unit, *names):
    """Properties of a unit."""
    text = run('systemctl', 'show', unit, *(f'--property={name}' for name in names))
    found = dict(line.split('=', 1) for line in text.splitlines())
    return [found[name] for name in names] if len(names) > 1 else found[names[0]]


def main_pid():
    return int(show('dutd.service', 'MainPID'))


def control_group(pid):
    with open(f'/proc/{pid}/cgroup', encoding='ascii') as file:
        return file.read().strip().removeprefix('0::')


def members(group):
    with open(f'/sys/fs/cgroup{group}/cgroup.procs', encoding='ascii') as file:
        return [int(line) for line in file]


def uid_of(pid):
    return os.stat(f'/proc/{pid}').st_uid


@contextlib.contextmanager
def drop_in(text):
    """Other settings of the service, for a while."""
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    with open(DROP_IN, 'w', encoding='ascii') as file:
        file.write('[Service]\n' + text)
    try:
        run('systemctl', 'daemon-reload')
        run('systemctl', 'restart', 'dutd')
        yield
    finally:
        os.unlink(DROP_IN)
        run('systemctl', 'daemon-reload')
        run('systemctl', 'restart', 'dutd')


class SystemLab(Lab):
    """The one lab of this machine, with the harness's way of asking the API."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.folder = '/var/lib/dutd/sim'
        self.state = '/var/lib/dutd'
        self.runtime = '/run/dutd'
        self.socket = '/run/dutd/dutd.sock'
        self.cleanup = contextlib.ExitStack()

    def sent(self, board):
        with open(self.path('boards', board, 'sent.bin'), 'rb') as file:
            return file.read()

    def set_up(self):
        boards = {name: BOOT + f'at {seconds}s send "test ok\\r\\nall done\\r\\n"\n'
                  for name, seconds in (('short', 3), ('long', 8), ('longer', 14), ('idle', 3600))}
        for name, script in boards.items():
            script = self.write(f'boards/{name}/script', script)
            keys = {'sim': {'script': script, 'sent': self.path('boards', name, 'sent.bin')}}
            with open(f'/etc/dutd/duts.d/{name}.yaml', 'w', encoding='utf-8') as file:
                json.dump({name: keys}, file)
        with open('/etc/dutd/duts.d/vm.yaml', 'w', encoding='utf-8') as file:
            json.dump({'vm': {'qemu': {'arch': 'i386', 'machine': 'pc', 'memory': '64M',
                                       'firmware': UBOOT}}}, file)
        with open('/etc/dutd/dutd.yaml', 'w', encoding='utf-8') as file:
            json.dump({'job_users': 'dut-job', 'api': {'socket': {'mode': '0660', 'group': 'dut'}},
                       'limits': {'job_memory': '300MiB', 'job_tasks': 40, 'free_space': '1MiB'}},
                      file)


LAB = SystemLab()


def setUpModule():
    LAB.set_up()
    run('systemctl', 'start', 'dutd.socket')


class Systemd(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        run('systemctl', 'start', 'dutd.socket')
        self.cursor = re.search(r'-- cursor: (\S+)',
                                run('journalctl', '--show-cursor', '-n', '1'))[1]

    def journal(self, warnings=False, manager=True):
        """What dutd has said since the test began, and systemd of its service."""
        # Filters of its own skip the first entry behind a cursor that they hide (252).
        found = []
        for line in run('journalctl', '--after-cursor', self.cursor, '-o', 'json').splitlines():
            entry = json.loads(line)
            own = entry.get('SYSLOG_IDENTIFIER') == 'dutd'
            if (own or (manager and entry.get('UNIT') == 'dutd.service')) and \
                    (not warnings or int(entry['PRIORITY']) <= 4):
                found.append(str(entry['MESSAGE']))
        return '\n'.join(found)

    def tearDown(self):
        print('\n'.join('    ' + line for line in self.journal().splitlines()),
              file=sys.stderr)

    def assert_quiet(self):
        """Neither dutd nor systemd has anything to complain about."""
        self.assertEqual(self.journal(warnings=True, manager=False), '')
        for text in ('remains running', 'left-over'):
            self.assertNotIn(text, self.journal())

    def begin(self, board):
        """A job that runs, in a scope of its own."""
        LAB.await_board(board, 'IDLE')
        job = LAB.submit_ok(JOB, board)
        LAB.await_phase(job, 'running')
        return job

    def scope(self, job):
        return f'dutd-job-{job}.scope'

    def assert_ends_well(self, board, job):
        ended = LAB.await_job(job)
        self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'), ended)
        LAB.await_board(board, 'IDLE')
        base = ended['console_base'] if 'console_base' in ended else LAB.result(job)['console_base']
        log, sent = LAB.results(job)['console.log'], LAB.sent(board)
        self.assertEqual(log, sent[base:base + len(log)])
        self.assertEqual(whole_console(self, LAB, board), sent)
        self.assertEqual(LAB.record(board)[-1]['dropped'], 0)
        await_true(lambda: show(self.scope(job), 'LoadState') == 'not-found', 'its scope is gone')

    def await_new(self, pid):
        """dutd is there again, as another process."""
        await_true(lambda: main_pid() not in (0, pid) and
                   show('dutd.service', 'ActiveState') == 'active', 'the next dutd')

    # ---- the installation ----

    def test_01_it_is_started_by_its_socket(self):
        self.assertEqual(show('dutd.service', 'ActiveState'), 'inactive')
        status = os.stat(LAB.socket)
        self.assertEqual(status.st_mode & 0o777, 0o660)
        table = run('dut', 'list')
        self.assertIn('short', table)
        self.assertEqual(show('dutd.service', 'ActiveState', 'SubState'), ['active', 'running'])
        self.assertEqual(os.stat(LAB.socket).st_ino, status.st_ino)
        status = run('systemctl', 'status', 'dutd', check=False)
        self.assertIn('Lab gateway', status)
        self.assert_quiet()

    def test_02_its_sandbox(self):
        run('dut', 'list')
        with open(f'/proc/{main_pid()}/status', encoding='ascii') as file:
            text = file.read()
        # CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID
        self.assertRegex(text, r'CapBnd:\s+00000000000000eb\n')
        self.assertRegex(text, r'NoNewPrivs:\s+1\n')
        self.assertRegex(text, r'Seccomp:\s+2\n')
        # It leaves jobs what they confine themselves with.
        self.assertEqual(LAB.get('/status')['protections_missing'], [])

    def test_03_a_job_has_a_user_and_a_scope(self):
        job = self.begin('short')
        pid = LAB.executor_pid('short')
        group = control_group(pid)
        self.assertEqual(group, f'/dut.slice/dut-jobs.slice/{self.scope(job)}')
        self.assertEqual(show(self.scope(job), 'MemoryMax', 'TasksMax', 'Description'),
                         [str(300 << 20), '40', f'Job {job} of dutd, on short'])
        users = [pwd.getpwuid(uid_of(one)).pw_name for one in members(group)]
        self.assertEqual(len(users), 2, users)  # dut-helper, too
        self.assertRegex(users[0], r'^dut-job-\d+$')
        self.assertEqual(users[0], users[1])
        # dutd is alone where it is.
        self.assertEqual(members(control_group(main_pid())), [main_pid()])
        self.assert_ends_well('short', job)
        self.assert_quiet()

    # ---- what a job survives ----

    def test_10_restart(self):
        job, pid = self.begin('long'), main_pid()
        executor = LAB.executor_pid('long')
        run('systemctl', 'restart', 'dutd')
        self.assertNotEqual(main_pid(), pid)
        self.assertEqual(LAB.executor_pid('long'), executor)
        self.assert_ends_well('long', job)
        self.assert_quiet()

    def test_11_kill(self):
        job, pid = self.begin('long'), main_pid()
        os.kill(pid, signal.SIGKILL)
        self.await_new(pid)
        self.assert_ends_well('long', job)
        self.assert_quiet()

    def test_12_stop_and_start(self):
        job = self.begin('long')
        run('systemctl', 'stop', 'dutd')
        self.assertEqual(show('dutd.service', 'ActiveState'), 'inactive')
        self.assertEqual(show(self.scope(job), 'ActiveState'), 'active')
        # By its socket.
        self.assert_ends_well('long', job)
        self.assert_quiet()

    def test_13_watchdog(self):
        with drop_in('WatchdogSec=3s\n'):
            job, pid = self.begin('longer'), main_pid()
            os.kill(pid, signal.SIGSTOP)
            self.await_new(pid)
            self.assertIn('Watchdog timeout', self.journal())
            self.assert_ends_well('longer', job)
            self.assert_quiet()

    def test_14_upgrade(self):
        job, pid = self.begin('longer'), main_pid()
        before = run('dutd', '--version')
        run('cp', '-a', '--remove-destination', '/opt/next/usr/.', '/usr/')
        run('systemctl', 'daemon-reload')
        run('systemctl', 'restart', 'dutd')
        self.assertNotEqual(main_pid(), pid)
        version = run('dutd', '--version')
        self.assertNotEqual(version, before)
        self.assertIn(version + ' serves', self.journal(manager=False))
        self.assert_ends_well('longer', job)
        job = self.begin('short')
        self.assert_ends_well('short', job)
        self.assert_quiet()

    def test_15_reload_of_the_manager(self):
        job, pid = self.begin('short'), main_pid()
        run('systemctl', 'daemon-reload')
        run('systemctl', 'reload', 'dutd')
        self.assertEqual(main_pid(), pid)
        self.assert_ends_well('short', job)

    def test_16_without_the_bus(self):
        """No scope can be had: a job runs, and survives, all the same."""
        run('systemctl', 'restart', 'dutd')
        LAB.await_board('long', 'IDLE')
        run('systemctl', 'stop', 'dbus.socket', 'dbus.service')
        try:
            job, pid = self.begin('long'), main_pid()
            self.assertIn('stays in the control group of dutd', self.journal(manager=False))
            os.kill(pid, signal.SIGKILL)
            self.await_new(pid)
            ended = LAB.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'), ended)
        finally:
            run('systemctl', 'start', 'dbus.socket', 'dbus.service')
        self.assert_ends_well('short', self.begin('short'))

    def test_16_a_bus_that_hangs(self):
        """A job waits for its scope no longer than 10 s, and dutd not at all."""
        LAB.await_board('short', 'IDLE')
        bus = int(show('dbus.service', 'MainPID'))
        os.kill(bus, signal.SIGSTOP)
        try:
            submission = threading.Thread(target=LAB.submit_ok, args=(JOB, 'short'))
            submission.start()
            await_true(lambda: LAB.board_state('short')['state'] == 'QUEUED', 'it starts')
            began = time.monotonic()
            LAB.get('/duts')
            self.assertLess(time.monotonic() - began, 3)
            submission.join()
            self.assertIn('the manager does not answer', self.journal(manager=False))
        finally:
            os.kill(bus, signal.SIGCONT)
        job = LAB.board_state('short')['job']['id']
        self.assert_ends_well('short', job)

    def test_17_as_another_user(self):
        """Without root: no scopes, no users of jobs, and everything else."""
        with drop_in('User=dutd\nGroup=dutd\n'):
            job, pid = self.begin('long'), main_pid()
            self.assertEqual({pwd.getpwuid(uid_of(one)).pw_name
                              for one in members(control_group(pid))}, {'dutd'})
            os.kill(pid, signal.SIGKILL)
            self.await_new(pid)
            ended = LAB.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'), ended)
        self.assert_ends_well('short', self.begin('short'))

    def test_18_qemu(self):
        """A virtual board survives what dutd does, and is nobody's who matters."""
        answer = LAB.api('PUT', '/dut/vm/power', {'state': 'on'})
        self.assertEqual(answer.status, 200, answer)
        with LAB.console('vm', offset=0) as stream:
            stream.read_until(b'U-Boot 20')
        group, = glob.glob('/sys/fs/cgroup/dut.slice/dut-boards.slice/dutd-board-vm-*.scope')
        pid, = members(group.removeprefix('/sys/fs/cgroup'))
        self.assertEqual(pwd.getpwuid(uid_of(pid)).pw_name, 'dut-board')
        for disturb in (lambda old: os.kill(old, signal.SIGKILL),
                        lambda _old: run('systemctl', 'restart', 'dutd'),
                        lambda _old: run('systemctl', 'stop', 'dutd')):
            disturb(main_pid())
            await_true(lambda: LAB.board_state('vm')['power']['state'] == 'ON', 'it is on')
            self.assertEqual(members(group.removeprefix('/sys/fs/cgroup')), [pid])
        self.assertEqual(LAB.api('PUT', '/dut/vm/power', {'state': 'off'}).status, 200)
        await_true(lambda: not os.path.exists(group), 'it is gone')
        self.assert_quiet()

    # ---- an idle board ----

    def test_20_an_idle_console_loses_nothing(self):
        self.assertEqual(LAB.api('PUT', '/dut/idle/power', {'state': 'on'}).status, 200)
        size = 0
        for _ in range(2):
            for disturb in (lambda pid: os.kill(pid, signal.SIGKILL),
                            lambda _pid: run('systemctl', 'restart', 'dutd')):
                pid = main_pid()
                disturb(pid)
                self.await_new(pid)
                await_true(lambda: len(LAB.sent('idle')) > size + 60, 'it goes on')
                size = len(LAB.sent('idle'))
        # Two for each board, but one for that which is off and has no console then.
        self.assertEqual(show('dutd.service', 'NFileDescriptorStore'), '9')
        self.assertEqual(LAB.api('PUT', '/dut/idle/power', {'state': 'off'}).status, 200)
        self.assertEqual(whole_console(self, LAB, 'idle'), LAB.sent('idle'))
        self.assertEqual(LAB.record('idle')[-1]['dropped'], 0)
        self.assert_quiet()

    # ---- the end ----

    def test_30_stopping_their_slice_ends_jobs(self):
        job = self.begin('longer')
        run('systemctl', 'stop', 'dut-jobs.slice')
        self.assertEqual(LAB.await_job(job)['status'], 'CANCELLED')
        LAB.await_board('longer', 'IDLE')

    def test_31_nothing_is_left(self):
        run('systemctl', 'stop', 'dutd.socket', 'dutd.service')
        await_true(lambda: 'dut-' not in run('ps', '-eo', 'comm'), 'all processes are gone')
        self.assertEqual(run('systemctl', 'list-units', '--all', '--plain', '--no-legend',
                             'dutd-*.scope'), '')


if __name__ == '__main__':
    unittest.main()
