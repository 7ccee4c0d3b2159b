#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The second half of `./dev demo`: a dutd of one's own with one QEMU board, a job on it, and nothing
left behind but the results. demo.py JOB.yml [OPTION OF dut run...], with SOURCE, BUILD and
DUT_DEMO_DIR in the environment; ends with the job's exit status.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SOURCE = os.environ['SOURCE']
BUILD = os.environ['BUILD']
DEMO_DIR = os.environ['DUT_DEMO_DIR']
sys.path.insert(0, SOURCE)

# pylint: disable=wrong-import-position
from tests.support import processes
from tests.support.daemon import Daemon, NotReady

DUT = os.path.join(BUILD, 'cli', 'dut')
PROBE_SECONDS = 6
STOP_SECONDS = 20
EXIT_FAULT = 70
EXIT_USAGE = 64


def say(text):
    print(f'demo: {text}', file=sys.stderr, flush=True)


def kvm_boots():
    """
    Whether a guest really runs with KVM: /dev/kvm may be there, and open, and its guests hang.
    So the demo's kernel has to boot to its end with it within a few seconds.
    """
    command = ['qemu-system-x86_64', '-accel', 'kvm', '-nodefaults', '-no-user-config',
               '-display', 'none', '-no-reboot', '-m', '256', '-serial', 'stdio',
               '-kernel', os.path.join(DEMO_DIR, 'vmlinuz'),
               '-initrd', os.path.join(DEMO_DIR, 'initramfs.gz'),
               '-append', 'console=ttyS0 quiet panic=-1 demo.expect=42']
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=PROBE_SECONDS, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return False
    return b'demo: the test has passed' in done.stdout


def accelerator():
    """kvm or tcg; what a probe has found holds until the machine is booted again."""
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return 'tcg'
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
        boot = file.read().strip()
    path = os.path.join(DEMO_DIR, 'accel')
    try:
        with open(path, encoding='ascii') as file:
            known = file.read().split()
        if len(known) == 2 and known[0] == boot:
            return known[1]
    except FileNotFoundError:
        pass
    found = 'kvm' if kvm_boots() else 'tcg'
    with open(path, 'w', encoding='ascii') as file:
        file.write(f'{boot} {found}\n')
    return found


def write_configuration(folder, accel):
    with open(os.path.join(SOURCE, 'examples', 'demo', 'dutd.yaml.in'), encoding='utf-8') as file:
        text = file.read()
    text = text.replace('@DEMO_DIR@', DEMO_DIR)
    text = text.replace('@ARGS@', '"-accel", "kvm"' if accel == 'kvm' else '')
    path = os.path.join(folder, 'etc', 'dutd.yaml')
    os.makedirs(os.path.dirname(path))
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)


def output_of(options):
    """The folder that the person wants the results in, or None."""
    for i, option in enumerate(options):
        name, equals, value = option.partition('=')
        if name == '--output':
            return value if equals else options[i + 1] if i + 1 < len(options) else ''
    return None


class Demo:
    def __init__(self, job, options):
        self.job = job
        self.options = options
        self.running = None  # the `dut` that the person looks at
        self.interrupted = None
        self.results = output_of(options)
        if self.results is None:
            name = os.path.splitext(os.path.basename(job))[0]
            self.results = os.path.join(os.path.dirname(DEMO_DIR), 'results', name)
            self.options = [*options, '--output', self.results]

    def on_signal(self, number, _frame):
        """
        `dut` decides what an interrupted job does. A terminal's Ctrl-C has reached it already.
        """
        self.interrupted = number
        if self.running and (number != signal.SIGINT or not os.isatty(0)):
            self.running.send_signal(number)

    def watch_signals(self):
        # Handlers, not SIG_IGN, which programs would inherit.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)

    def run_job(self, daemon):
        environment = dict(os.environ, DUT_SOCKET=daemon.socket,
                           DUT_LIBEXEC_DIR=os.path.join(BUILD, 'libexec'))
        say(f'dut run {os.path.relpath(self.job)}')
        with subprocess.Popen([DUT, 'run', self.job, *self.options], env=environment) as process:
            self.running = process
            if self.interrupted:
                process.send_signal(self.interrupted)
            status = process.wait()
            self.running = None
        if status < 0:
            status = 128 - status
        if status > 7:
            self.cancel(environment)
        return status

    @staticmethod
    def cancel(environment):
        """The job may live on without its `dut run`; the demo's daemon does not."""
        subprocess.run([DUT, 'cancel', 'demo'], env=environment, check=False, timeout=STOP_SECONDS,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def result_identity(self):
        """Differs once this job has brought a result: the folder may hold an older one."""
        try:
            found = os.stat(os.path.join(self.results, 'result.json'))
            return found.st_ino, found.st_mtime_ns
        except OSError:
            return None

    def tell(self, status, seconds, before):
        try:
            if self.result_identity() == before:
                raise ValueError('no result of this job')
            with open(os.path.join(self.results, 'result.json'), encoding='utf-8') as file:
                result = json.load(file)
        except (OSError, ValueError):
            say(f'exit status {status} after {seconds:.1f} s')
            return
        boots = len(result.get('boots', []))
        say(f'{result["status"]} ({result["reason"]}), {boots} boot{"s"[:boots != 1]}, '
            f'exit status {status} after {seconds:.1f} s')
        say(f'results in {os.path.relpath(self.results)}: '
            + ' '.join(sorted(os.listdir(self.results))))

    def main(self, folder):
        self.watch_signals()
        accel = accelerator()
        write_configuration(folder, accel)
        daemon = Daemon(folder, os.path.join(BUILD, 'dut', 'dutd'), os.path.join(BUILD, 'libexec'))
        before = self.result_identity()
        started = time.monotonic()
        say(f'dutd with the board "demo" (QEMU, {accel}) in {folder}')
        try:
            daemon.start()
            status = self.run_job(daemon)
            self.tell(status, time.monotonic() - started, before)
            return status
        except NotReady as error:
            say(str(error))
            sys.stderr.write(daemon.log)
            return EXIT_FAULT
        finally:
            stopped = daemon.stop(STOP_SECONDS)
            left = processes.end_all_of(folder, 0 if self.interrupted else 5)
            if stopped != 0 or (left and not self.interrupted):
                say(f'dutd did not end cleanly ({stopped}); killed: {left}')
                sys.stderr.write(daemon.log)


def main():
    if any(option.split('=')[0] == '--detach' for option in sys.argv[2:]):
        say('--detach: the demo ends with its job')
        return EXIT_USAGE
    if not os.path.isfile(sys.argv[1]):
        say(f'{sys.argv[1]}: there is no such file')
        return EXIT_USAGE
    folder = tempfile.mkdtemp(prefix='dut-demo-')
    try:
        return Demo(sys.argv[1], sys.argv[2:]).main(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    sys.exit(main())
