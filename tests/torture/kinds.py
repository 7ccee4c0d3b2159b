# SPDX-License-Identifier: MIT
"""What a board does and what is asked of it: scripts of dut-sim, job files, and how they end."""

import functools
import io
import random
import tarfile
from dataclasses import dataclass, field

# More than any job needs here, and less than a person would wait for.
OVERALL = '90s'
SILENCE = '3s'

LINUX = 'at 10ms send "U-Boot\\r\\n"\nat 20ms send "Linux version 6.1\\r\\n"\n'
WORKS = LINUX + 'at 60ms send "test ok\\r\\n"\nat 90ms send "all done\\r\\n"\n'

# What silence ends a job with.
SILENT_ENDS = {('INCOMPLETE', 'timeout:' + name) for name in
               ('first_console_activity', 'console_activity', 'boot_cycle', 'overall')}

PHASES = ('setup', 'power_off', 'power_on', 'boot', 'teardown')
ALL_PHASES = (*PHASES, 'running')


@dataclass(frozen=True)
class Kind:
    """
    ends: (status, reason) of an undisturbed job, empty when only a cancel ends it. reaches: phases
    that it comes to. cured: the board's power lies until its script is replaced.
    """
    name: str
    weight: int
    script: str
    ends: frozenset
    patterns: str = '{session_end: "all done", job_success: "test ok"}'
    timeouts: dict = field(default_factory=dict)
    more: str = ''
    reaches: tuple = ALL_PHASES
    talks: int = 0  # bytes of console that it has at least
    bucket: str = ''
    cured: bool = False

    @property
    def job(self):
        limits = {'overall': OVERALL, 'infra_setup': '20s', 'first_console_activity': SILENCE,
                  'console_activity': SILENCE, **self.timeouts}
        text = ', '.join(f'{name}: {value}' for name, value in limits.items() if value)
        return (f'version: 1\nname: {self.name}\ntimeouts: {{{text}}}\n'
                f'console_patterns: {self.patterns}\n{self.more}')


def one(status, reason):
    return frozenset({(status, reason)})


# A board that dies or falls silent: the clocks say which of them it was.
def silent(*names):
    return frozenset(('INCOMPLETE', 'timeout:' + name) for name in names)


NO_CLOCKS = {'first_console_activity': '', 'console_activity': ''}

KINDS = {kind.name: kind for kind in (
    Kind('passes', 12, WORKS, one('PASS', 'ok'), talks=20),
    Kind('warns', 2, WORKS + 'at 50ms send "hot\\r\\n"\n', one('WARN', 'warn'), talks=20,
         patterns='{session_end: "all done", job_success: "test ok", job_warn: hot}'),
    Kind('completes', 3, WORKS, one('COMPLETE', 'ok'), patterns='{session_end: "all done"}',
         talks=20),
    Kind('fails', 3, WORKS.replace('test ok', 'test bad'), one('FAIL', 'no_success'), talks=20),
    Kind('fails-at-once', 3, WORKS.replace('test ok', 'Kernel panic'), one('FAIL', 'pattern_fail'),
         patterns='{session_end: "all done", job_fail: "Kernel panic"}', talks=20),
    Kind('unfit', 1, WORKS, one('INCOMPLETE', 'unfit'), talks=20,
         patterns='{machine_unfit_for_service: "test ok"}'),
    Kind('hangs', 6, LINUX, silent('console_activity'), timeouts={'console_activity': '500ms'},
         talks=20),
    Kind('endless', 10, LINUX + 'every 40ms send "still here\\r\\n"\n', frozenset(),
         timeouts=NO_CLOCKS, talks=200),
    Kind('quiet', 4, LINUX, frozenset(), timeouts=NO_CLOCKS, talks=20),
    Kind('silent', 4, '', silent('first_console_activity'),
         timeouts={'first_console_activity': '500ms'}, reaches=PHASES),
    Kind('floods', 8, 'at 1ms flood max\n', one('INCOMPLETE', 'console_flood'), talks=2000000),
    Kind('flows', 8, 'at 5ms flood 400000 for 700ms\nat 900ms send "\\r\\ntest ok\\r\\n"\n'
         'at 910ms send "all done\\r\\n"\n', one('PASS', 'ok'), talks=100000),
    Kind('binary', 4, 'at 5ms print blob\nat 300ms send "\\r\\ntest ok\\r\\nall done\\r\\n"\n',
         one('PASS', 'ok'), talks=100000),
    Kind('one-line', 2, 'at 5ms print line\nat 300ms send "\\r\\ntest ok\\r\\nall done\\r\\n"\n',
         one('PASS', 'ok'), talks=100000),
    Kind('bomb', 2, LINUX + 'at 40ms send "' + 'a' * 200 + '!\\r\\n"\n',
         one('INCOMPLETE', 'regex_limit'), patterns='{session_end: "(a|aa)+$"}', talks=20),
    Kind('asks-for-reboots', 6, LINUX + 'at 30ms send "please reboot\\r\\n"\n',
         silent('boot_cycle'), patterns='{session_end: never, session_reboot: "please reboot"}',
         timeouts={'boot_cycle': '{retries: 2}'}, talks=100),
    Kind('reboots-itself', 4, LINUX + 'at 50ms reboot\n', silent('boot_cycle'),
         patterns='{session_end: never}', timeouts={'boot_cycle': '900ms'}, talks=100),
    Kind('crashes', 4, LINUX + 'at 50ms crash\n', silent('console_activity'),
         timeouts={'console_activity': '{for: 400ms, retries: 1}'}, talks=50),
    Kind('switches-itself-off', 2, LINUX + 'at 50ms poweroff\n', silent('console_activity'),
         timeouts={'console_activity': '400ms'}, talks=20),
    Kind('slow-power', 8, 'delay on 250ms\ndelay off 250ms\ndelay read 100ms\n' + WORKS,
         one('PASS', 'ok'), talks=20),
    Kind('refuses-on', 2, 'fail on "no current"\n' + WORKS, one('INCOMPLETE', 'power'),
         reaches=('setup', 'power_off', 'power_on', 'teardown')),
    Kind('fails-to-read', 2, 'fail read "no answer"\n' + WORKS, one('PASS', 'ok'), talks=20),
    Kind('lies', 1, 'lie on\n' + WORKS, one('SETUP_FAIL', 'power'), cured=True,
         reaches=('setup', 'power_off', 'teardown')),
    Kind('stays-on', 1, 'ignore off\n' + WORKS, one('PASS', 'ok'), cured=True, talks=20),
    Kind('unpacks', 8, WORKS, one('PASS', 'ok'), bucket='many', talks=20),
    Kind('unpacks-rubbish', 2, WORKS, one('SETUP_FAIL', 'bucket'), bucket='rubbish',
         reaches=('setup', 'teardown')),
)}

# The same bytes in every run.
BLOB = random.Random('blob').randbytes(200000) + bytes(range(256))
LINE = b'0123456789abcdef' * 20000


@functools.cache
def bucket(name):
    """An archive: small files that take their time, or no archive at all."""
    if not name:
        return None
    if name == 'rubbish':
        return b'this is no archive' * 1000
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w') as tar:
        for number in range(1200):
            member = tarfile.TarInfo(f'folder/{number}')
            content = b'%d\n' % number * 50
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo('large')
        member.size = 2 << 20
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    return data.getvalue()
