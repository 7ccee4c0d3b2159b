# SPDX-License-Identifier: MIT
"""A console's log as a kernel test leaves it, and patterns as jobs have them."""

import random

DRIVERS = ('amdgpu i915 nouveau msm panfrost lima etnaviv vc4 v3d r8169 e1000e igb ixgbe mlx5_core '
           'nvme ahci xhci_hcd ehci-pci dwmmc sdhci').split()

# What ends a job, or decides it, in any lab.
GENERAL = [
    r'^\[[ 0-9.]{12}\] reboot: Power [Dd]own',
    r'suite finished, status: 0$',
    r'(GPU hang|\*ERROR\* ring [^ ]+ timeout|context is lost)',
    r'FATAL: no machine of that name.*$',
    r'suite: error: .*$',
    r'Kernel panic - not syncing: (.*)',
    r'BUG: (unable to handle|KASAN|sleeping function|soft lockup)',
    r'Unable to handle kernel [a-zA-Z ]+ at virtual address',
    r'-+\[ cut here \]-+',
    r'Oops( -|:) ',
    r'Internal error: Oops',
    r'INFO: possible (circular|recursive) locking',
    r'rcu_[a-z]+ (self-)?detected stall',
    r'WARNING: CPU: [0-9]+ PID: [0-9]+ at ',
    r'end Kernel panic',
    r'(login|Login incorrect):? ?$',
    r'root@[a-zA-Z0-9_-]+:[^#]*# $',
    r'Out of memory: Killed process [0-9]+',
    r'INFO: task [^ ]+ blocked for more than [0-9]+ seconds',
    r'EXT4-fs error \(device [a-z0-9]+\)',
]

# What a lab looks for in each driver.
OF_A_DRIVER = [
    r'{} .*: (failed|error|timeout)',
    r'\[drm:{}_[a-z_]+\] \*ERROR\*',
    r'{} [0-9a-f:.]+: .*reset (failed|succeeded)',
    r'{}: probe of [^ ]+ failed with error -[0-9]+',
]

PATTERNS = GENERAL + [form.format(driver) for form in OF_A_DRIVER for driver in DRIVERS]

EARLY = [
    'Linux version 6.1.0-lab (build@lab) (gcc 12.2.0, GNU ld 2.40) #1 SMP PREEMPT_DYNAMIC',
    'Command line: console=ttyS0,115200 root=/dev/nfs ip=dhcp loglevel=8',
    'BIOS-e820: [mem 0x{hex:016x}-0x{hex2:016x}] {use}',
    'ACPI: {table} 0x{hex:016X} {n:06d} (v{small:02d} BOARD  LAB      00000001 LAB  00000001)',
    'x86/fpu: Supporting XSAVE feature 0x{small:03x}: \'vector registers\'',
    'Zone {use}: [mem 0x{hex:016x}-0x{hex2:016x}]',
    'NR_IRQS: {n}, nr_irqs: {small}, preallocated irqs: 16',
]
LATER = [
    'pci 0000:{bus:02x}:{small:02x}.0: [{n:04x}:{small:04x}] type 00 class 0x{n:06x}',
    'pci 0000:{bus:02x}:{small:02x}.0: reg 0x{small:02x}: [mem 0x{hex:08x}-0x{hex2:08x} pref]',
    'pci_bus 0000:{bus:02x}: resource {small} [io  0x{n:04x}-0x{n:04x} window]',
    'usb {bus}-{small}: new high-speed USB device number {small} using xhci_hcd',
    'usb {bus}-{small}: New USB device strings: Mfr=1, Product=2, SerialNumber={small}',
    'usbcore: registered new interface driver {driver}',
    'input: Power Button as /devices/platform/input/input{small}',
    'thermal_sys: Registered thermal governor \'{use}\'',
    'clocksource: {use}: mask: 0xffffffff max_cycles: 0x{hex:08x}, max_idle_ns: {n} ns',
    '{driver} 0000:{bus:02x}:00.0: enabling device (0000 -> 0003)',
    '{driver} 0000:{bus:02x}:00.0: irq {n} for MSI/MSI-X, queue {small}',
    'scsi host{small}: {driver}',
    'sd {small}:0:0:0: [sda] {n} 512-byte logical blocks: ({small} GB/{small} GiB)',
    'EXT4-fs (sda{small}): mounted filesystem with ordered data mode. Quota mode: none.',
    'audit: type=1403 audit({n}.{small:03d}:2): auid=4294967295 ses=4294967295 lsm=selinux res=1',
    'random: crng init done',
    'NET: Registered PF_INET6 protocol family',
]
USERLAND = [
    '[  OK  ] Started {use}.service - a service of the {driver} test.',
    '[  OK  ] Reached target {use}.target - for unit {small}.',
    'ok {n} {driver}_test:{use}-{small} # {small}.{n:03d} s',
    'not ok {small} {driver}_test:{use} # SKIP not on this machine',
    '# subtest {use}: {n} of {n} checks, {small} ms',
    '',
]
LAST = [
    'lab-board login: ',
    'WARNING: CPU: 3 PID: 812 at drivers/gpu/drm/drm_vblank.c:1210 wait_one+0x1a0/0x1b0',
    '------------[ cut here ]------------',
    'amdgpu 0000:03:00.0: amdgpu: ring gfx timeout, but soft recovered',
    'nvme: probe of 0000:01:00.0 failed with error -12',
    'suite finished, status: 0',
]


def make_log(size, seed=1):
    """Lines of about so many bytes, which end as a serial console has them."""
    rnd = random.Random(seed)
    lines, length, clock = [], 0, 0.0
    while length < size:
        clock += rnd.expovariate(300)
        share = length / size
        forms = EARLY if share < 0.1 else LATER if share < 0.7 else USERLAND
        low = rnd.randrange(1 << 31)
        line = rnd.choice(forms).format(
            hex=low, hex2=low + 0xffff, n=rnd.randrange(1, 10000), small=rnd.randrange(1, 32),
            bus=rnd.randrange(8), driver=rnd.choice(DRIVERS), table=rnd.choice(('DSDT', 'APIC')),
            use=rnd.choice(('usable', 'reserved', 'power', 'timer', 'network', 'kms', 'step_wise')))
        if forms is not USERLAND:
            line = f'[{clock:12.6f}] {line}'
        lines.append(line)
        length += len(line) + 2
    lines += LAST + [f'[{clock:12.6f}] reboot: Power down', '']
    return '\r\n'.join(lines).encode()
