#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
./dev vm: the tests that need a systemd as PID 1, inside QEMU. An installation of the build, as a
package would have it, is started in a machine of its own; tests/vm/guest.py runs there as root, and
its lines of TAP come back over a serial port.

    DUT_VM_ACCEL   tcg (the default), kvm
    DUT_VM_LIMIT   seconds until the machine is given up (900)

Arguments are names of cases, such as Systemd.test_10_restart; without one all are run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from tests.vm import image

SOURCE = os.environ['SOURCE']
BUILDS = {'dutd': os.environ['BUILD'], 'next': os.environ['BUILD_NEXT']}
KERNEL = os.path.join(os.environ['DUT_DEMO_DIR'], 'vmlinuz')
ACCEL = os.environ.get('DUT_VM_ACCEL', 'tcg')
LOG = os.environ['DUT_VM_LOG']
LIMIT = float(os.environ.get('DUT_VM_LIMIT', 900))
CMDLINE = ('console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check '
           'random.trust_cpu=on audit=0 rdinit=/usr/lib/systemd/systemd systemd.unit=dut-vm.target '
           'systemd.show_status=0 systemd.journald.forward_to_console=0')
QEMU = ('/usr/bin/qemu-system-i386', '/usr/libexec/qemu-system-i386',
        '/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-i386.so',
        '/usr/lib/u-boot/qemu-x86/u-boot.rom')
UNITS = {
    'dut-vm.target': '[Unit]\nRequires=basic.target dbus.service\n'
                     'Wants=dut-vm.service\nAfter=basic.target\nAllowIsolate=yes\n',
    'dut-vm.service': '[Unit]\nAfter=basic.target dbus.service\n[Service]\nType=oneshot\n'
                      'TimeoutStartSec=infinity\nEnvironment=PYTHONPATH=/opt/dut-test '
                      'PYTHONDONTWRITEBYTECODE=1 SOURCE=/opt/dut-test\n'
                      'ExecStart=/bin/sh -c "exec python3 -u /opt/dut-test/tests/support/run.py '
                      '/opt/dut-test/tests/vm/guest.py {cases} >/dev/ttyS1 2>/dev/ttyS0"\n'
                      'ExecStopPost=/bin/systemctl poweroff --force --force\n',
}
# What would only cost time there.
MASKED = ('apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer',
          'fstrim.timer', 'ldconfig.service', 'man-db.timer', 'systemd-hwdb-update.service',
          'systemd-random-seed.service', 'systemd-update-utmp.service', 'systemd-pstore.service',
          'systemd-binfmt.service', 'systemd-modules-load.service', 'systemd-timesyncd.service',
          'systemd-udevd.service', 'systemd-udev-trigger.service', 'motd-news.timer')


def install(build, folder):
    subprocess.run(['meson', 'install', '-C', build, '--no-rebuild', '--quiet',
                    '--destdir', folder], check=True, stdout=subprocess.DEVNULL)


def make_overlay(path, folder, cases):
    """What is tested, and who tests it."""
    with open(path, 'wb') as file:
        archive = image.Archive(file)
        programs = []
        for name, build in BUILDS.items():
            root = os.path.join(folder, name)
            install(build, root)
            archive.tree(root, '' if name == 'dutd' else 'opt/' + name)
            libexec = os.path.join(root, 'usr', 'libexec', 'dutd')
            programs += [os.path.join(root, 'usr', 'bin', 'dutd'),
                         os.path.join(root, 'usr', 'bin', 'dut'),
                         *(os.path.join(libexec, one) for one in os.listdir(libexec))]
        # A virtual board in a virtual machine.
        for path in QEMU:
            if os.path.exists(path):
                archive.copy(path, path[1:])
                programs.append(path)
            else:
                print(f'# {path} is not there: no QEMU board is tested')
        image.add_libraries(archive, programs)
        for part in ('tests/support', 'tests/vm', 'tests/process'):
            archive.tree(os.path.join(SOURCE, part), os.path.join('opt/dut-test', part))
        for name, text in UNITS.items():
            archive.text('etc/systemd/system/' + name,
                         text.format(cases=' '.join(cases)))
        for name in MASKED:
            archive.link('etc/systemd/system/' + name, '/dev/null')
        archive.close()


def qemu_command(initrd):
    return ['qemu-system-x86_64', '-accel', ACCEL, '-machine', 'q35,hpet=off', '-cpu', 'max',
            '-smp', '1', '-m', '2048', '-nodefaults', '-no-user-config', '-display', 'none',
            '-no-reboot', '-monitor', 'none',
            '-serial', 'file:' + LOG,
            '-chardev', 'stdio,id=tap,signal=off', '-serial', 'chardev:tap',
            '-kernel', KERNEL, '-initrd', initrd, '-append', CMDLINE]


def run_machine(initrd):
    """Prints the lines of TAP as they come; returns them."""
    lines = []
    process = subprocess.Popen(qemu_command(initrd), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE)
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    try:
        for raw in process.stdout:
            line = raw.decode(errors='replace').rstrip('\r\n')
            lines.append(line)
            print(line, flush=True)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    return lines


def print_log():
    """What the machine has said besides: what the tests print, and the kernel."""
    with open(LOG, encoding='utf-8', errors='replace') as file:
        text = file.read()
    print(f'--- {LOG}\n{text[-30000:]}---', file=sys.stderr)


def main(cases):
    began = time.monotonic()
    os.makedirs(os.path.dirname(LOG), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='dut-vm-') as folder:
        initrd, overlay = os.path.join(folder, 'initrd'), os.path.join(folder, 'overlay')
        image.make_base(initrd)
        make_overlay(overlay, folder, cases)
        with open(initrd, 'ab') as file, open(overlay, 'rb') as more:
            shutil.copyfileobj(more, file)
        lines = run_machine(initrd)
    passed = sum(line.startswith('ok ') for line in lines)
    failed = sum(line.startswith('not ok ') for line in lines)
    # The plan is the last line: without it the machine has died, or was given up.
    if not any(line.startswith('1..') for line in lines):
        failed += 1
        print(f'the machine did not come to the end of the tests within {LIMIT:.0f} s')
    if failed:
        print_log()
    print(f'dev: the VM took {time.monotonic() - began:.0f} s', file=sys.stderr)
    print(f'{passed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
