# SPDX-License-Identifier: MIT
"""What a person has of a job through `dut run`: exit code, console, results; on sim and U-Boot."""

import contextlib
import datetime
import json
import os
import unittest

from tests.support.fetching import Web
from tests.support.harness import Lab

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
PANIC = BOOT + 'at 40ms send "Kernel panic - not syncing: no init\\r\\n"\n' \
    'at 80ms send "the end\\r\\n"\n'
END = 'session_end: "^the end$"'

# NAME: (script, job, status, reason, verdict, exit code, reasons of the boots)
CASES = {
    'panic-fails': (PANIC, 'kernel_fault: fail\nconsole_patterns: {session_end: never}',
                    'FAIL', 'pattern_fail', 'kernel', 3, ['pattern_fail']),
    'panic-warns': (PANIC, f'kernel_fault: warn\nconsole_patterns: {{{END}, job_success: end}}',
                    'WARN', 'warn', None, 1, ['warn']),
    'panic-passes': (PANIC, f'console_patterns: {{{END}, job_success: end}}',
                     'PASS', 'ok', None, 0, ['ok']),
    'panic-is-to-blame': (PANIC, f'console_patterns: {{{END}, job_success: login}}',
                          'FAIL', 'no_success', 'kernel', 3, ['no_success']),
    'unfit': (BOOT + 'at 40ms send "bad sector\\r\\n"\n',
              'console_patterns: {session_end: never, machine_unfit_for_service: bad sector}',
              'INCOMPLETE', 'unfit', 'lab', 4, ['unfit']),
    'flood': (BOOT + 'at 40ms flood max\n', 'console_patterns: {session_end: never}',
              'INCOMPLETE', 'console_flood', 'job', 4, ['console_flood']),
    'regex-limit': (BOOT + f'at 40ms send "{"a" * 90}!\\r\\n"\n',
                    'console_patterns: {session_end: never, job_success: "^(a|aa)+$"}',
                    'INCOMPLETE', 'regex_limit', 'job', 4, ['regex_limit']),
    # job_success was seen, but the session did not come to its end.
    'success-alone': (BOOT + 'at 40ms send "test ok\\r\\n"\n',
                      'timeouts: {console_activity: 300ms}\n'
                      'console_patterns: {session_end: never, job_success: test ok}',
                      'INCOMPLETE', 'timeout:console_activity', 'test', 4,
                      ['timeout:console_activity']),
    # A silent board whose power reads back ON is not the lab's fault.
    'silence': ('', 'timeouts: {first_console_activity: {for: 150ms, retries: 2}}\n'
                'console_patterns: {session_end: never}',
                'INCOMPLETE', 'timeout:first_console_activity', 'test', 4,
                ['timeout:first_console_activity'] * 3),
    'second-boot': ('boot 1\nat 10ms send "hangs\\r\\n"\nboot 2\nat 10ms send "the end\\r\\n"\n',
                    'timeouts: {boot_cycle: {for: 300ms, retries: 4}}\n'
                    f'console_patterns: {{{END}, job_success: "^the end"}}',
                    'PASS', 'ok', None, 0, ['timeout:boot_cycle', 'ok']),
    'reboots-too-often': (BOOT + 'at 40ms send "again\\r\\n"\n',
                          'timeouts: {boot_cycle: {for: 1m, retries: 2}}\n'
                          'console_patterns: {session_end: never, session_reboot: "^again$"}',
                          'INCOMPLETE', 'timeout:boot_cycle', 'test', 4,
                          ['session_reboot'] * 2 + ['timeout:boot_cycle']),
    'overall-in-a-reboot': ('boot 1\nat 10ms send "again\\r\\n"\nboot any\n',
                            'timeouts: {overall: 700ms, boot_cycle: {for: 1m, retries: 2}}\n'
                            'console_patterns: {session_end: never, session_reboot: again}',
                            'INCOMPLETE', 'timeout:overall', 'test', 4,
                            ['session_reboot', 'timeout:overall']),
    'reboots-by-itself': ('boot 1\nat 10ms send "one\\r\\n"\nat 50ms reboot\n'
                          'boot 2\nat 10ms send "the end\\r\\n"\n',
                          f'console_patterns: {{{END}}}', 'COMPLETE', 'ok', None, 2, ['ok']),
    'fails-late': (BOOT + 'at 40ms send "the end\\r\\nbad news\\r\\n"\n',
                   f'console_patterns: {{{END}, job_success: the end, job_fail: bad news}}',
                   'FAIL', 'pattern_fail', 'test', 3, ['pattern_fail']),
    'prompt-alone': ('at 10ms send "login: "\n',
                     'timeouts: {boot_cycle: 20s}\n'
                     'console_patterns: {session_end: "^login: $", job_success: "login"}',
                     'PASS', 'ok', None, 0, ['ok']),
}

RESULT_KEYS = {'v', 'id', 'attempt', 'nonce', 'console', 'console_base', 'name', 'dut', 'owner',
               'status', 'reason', 'verdict', 'message', 'submitted', 'started', 'ended', 'boots',
               'timeouts', 'patterns', 'faults', 'tests', 'files'}


def read_lines(folder, name):
    with open(os.path.join(folder, name), encoding='utf-8') as file:
        return file.read().splitlines()


def read_bytes(*path):
    with open(os.path.join(*path), 'rb') as file:
        return file.read()


class Files:
    """The results that `dut run --output` wrote, checked against each other."""

    def __init__(self, test, folder):
        self.test = test
        self.result = json.loads(read_bytes(folder, 'result.json'))
        self.events = [json.loads(line) for line in read_lines(folder, 'events.jsonl')]
        self.index = read_lines(folder, 'console.idx')
        self.log = read_bytes(folder, 'console.log')
        self.folder = folder

    def check(self):
        self.check_result()
        self.check_times()
        self.check_index()
        self.check_events()

    def check_result(self):
        test, result = self.test, self.result
        test.assertEqual(set(result) - {'dropped'}, RESULT_KEYS)
        test.assertEqual((result['v'], result['attempt'], result['console']), (1, 1, 'main'))
        test.assertRegex(result['nonce'], '^[0-9a-f]{32}$')
        test.assertTrue(result['message'])
        sizes = {file['path']: file['size'] for file in result['files']}
        test.assertEqual(sizes['console.log'], len(self.log))
        for name, size in sizes.items():
            # console.idx may get a mark more, when the console is given back.
            test.assertLessEqual(size, os.path.getsize(os.path.join(self.folder, name)), name)
        for found in [*sum(result['patterns'].values(), []), *result['faults']]:
            at = found['offset'] - result['console_base']
            test.assertTrue(self.log[at:].startswith(found['line'].encode()), found)
            boot = result['boots'][found['boot'] - 1]
            test.assertGreaterEqual(found['offset'], boot['console_offset'])
        for limit in result['timeouts'].values():
            test.assertLessEqual(limit['retried'], limit['retries'])

    def check_times(self):
        """Everything happened in this order, and none of it is missing."""
        result = self.result
        times = [result['submitted'], result['started']]
        for boot in result['boots']:
            times += filter(None, (boot['power_on'], boot['first_byte'], boot['end']))
            self.test.assertIsNotNone(boot['power_on'])
            self.test.assertIsNotNone(boot['end'])
        times.append(result['ended'])
        read = [datetime.datetime.fromisoformat(time.replace('Z', '+00:00')) for time in times]
        # Everything is of one clock; a board's first byte may be read before on is answered.
        for before, after in zip(read, read[1:]):
            self.test.assertLessEqual(before, after + datetime.timedelta(milliseconds=50), times)

    def check_index(self):
        test, base = self.test, self.result['console_base']
        head = self.index[0].split()
        test.assertEqual(head[:3], ['dut-idx', '1', str(base)])
        last_offset, last_time, kinds = base, int(head[4]), []
        for line in self.index[1:]:
            kind, offset, time, *more = line.split(' ', 3)
            test.assertGreaterEqual(int(offset), last_offset, line)
            test.assertGreaterEqual(int(time), last_time, line)
            last_offset, last_time = int(offset), int(time)
            if kind == 'm':
                kinds.append(json.loads(more[0])['kind'])
            else:
                # A time belongs to a byte that is there.
                test.assertLess(last_offset, base + len(self.log), line)
        test.assertLessEqual(last_offset, base + len(self.log))
        test.assertEqual(kinds.count('boot'), len(self.result['boots']))
        test.assertNotIn('gap', kinds)

    def check_events(self):
        test, result = self.test, self.result
        test.assertEqual([event['seq'] for event in self.events], list(range(len(self.events))))
        elapsed = [event['elapsed'] for event in self.events]
        test.assertEqual(elapsed, sorted(elapsed))
        for event in self.events:
            test.assertEqual((event['dut'], event['job']), (result['dut'], result['id']))
            test.assertTrue(event['text'])
        last = self.events[-1]
        for key in ('status', 'reason', 'verdict', 'message'):
            test.assertEqual(last[key], result[key])
        boots = [event for event in self.events if event['type'] == 'boot']
        test.assertEqual([boot['offset'] for boot in boots],
                         [boot['console_offset'] for boot in result['boots']])
        retried = [event for event in self.events
                   if event['type'] == 'timeout' and event['action'] == 'retry']
        test.assertEqual(len(retried),
                         sum(limit['retried'] for limit in result['timeouts'].values()))


class Run(unittest.TestCase):
    def check_case(self, lab, name, process):
        status, reason, verdict, code, boots = CASES[name][2:]
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, code, err)
        # The last word is the status, and why.
        self.assertIn(f'{name}: {status} ({reason}): ', err.decode().splitlines()[-1])
        files = Files(self, lab.path('out', name))
        result = files.result
        self.assertEqual((result['status'], result['reason'], result['verdict']),
                         (status, reason, verdict))
        self.assertEqual([boot['reason'] for boot in result['boots']], boots)
        files.check()
        self.assertEqual(out, files.log)
        job = lab.get(f'/jobs/{result["id"]}')
        for key in ('status', 'reason', 'verdict', 'message', 'name', 'owner', 'console_base'):
            self.assertEqual(job[key], result[key], key)
        # As many boots as were told, each with power of its own, and off at the end.
        lab.await_board(name, 'IDLE')
        self.assertEqual(lab.board_state(name)['power']['state'], 'OFF')
        edges = [entry['event'] for entry in lab.record(name) if entry['event'] in ('on', 'off')]
        self.assertEqual(edges, ['on', 'off'] * len(boots))
        # What the board got rid of is what was received, up to where the job was cut off.
        sent = read_bytes(lab.path('boards', name, 'sent'))
        if reason == 'console_flood':
            self.assertLess(len(files.log), len(sent))
            sent = sent[:len(files.log)]
        self.assertTrue(files.log == sent, f'{len(files.log)} bytes, {len(sent)} sent')

    def test_each_end_on_a_board_of_its_own(self):
        with Lab() as lab:
            lab.configure({'limits': {'console_log': '256KiB'}})
            for name, (script, *_) in CASES.items():
                lab.sim(name, script, options={'sent': lab.path('boards', name, 'sent')})
            lab.start()
            running = {}
            for name, (_, text, *_) in CASES.items():
                job = lab.write(f'jobs/{name}.yml', f'name: {name}\n{text}\n')
                running[name] = lab.spawn_dut('run', '--dut', name, '--output',
                                              lab.path('out', name), job)
            for name, process in running.items():
                with self.subTest(name):
                    self.check_case(lab, name, process)

    def test_cancelled(self):
        """By somebody else: exit 7, and results are there. By a signal: the same."""
        text = 'console_patterns: {session_end: never}\n'
        with Lab() as lab:
            for name in ('b1', 'b2'):
                lab.sim(name, BOOT)
            lab.start()
            path = lab.write('job.yml', text)
            runs = [lab.spawn_dut('run', '--dut', name, '--output', lab.path('out', name), path)
                    for name in ('b1', 'b2')]
            for run in runs:
                self.assertEqual(run.stdout.readline(), b'Linux version 6.1\r\n')
            self.assertEqual(lab.dut('cancel', 'b1').rc, 0)
            runs[1].terminate()
            for name, run in zip(('b1', 'b2'), runs):
                _, err = run.communicate(timeout=60)
                self.assertEqual(run.returncode, 7, err)
                files = Files(self, lab.path('out', name))
                self.assertEqual((files.result['status'], files.result['reason']),
                                 ('CANCELLED', 'cancelled'))
                self.assertIsNone(files.result['verdict'])
                files.check()
                lab.await_board(name, 'IDLE')

    def test_a_deadline_that_is_past(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            path = lab.write('job.yml', 'deadline: 2020-01-01T00:00:00Z\n'
                                        'console_patterns: {session_end: Linux}\n')
            run = lab.dut('run', '--dut', 'b1', path)
            self.assertEqual(run.rc, 65, run)
            self.assertIn('--ignore-deadline', run.err)
            self.assertEqual(lab.get('/jobs')['jobs'], [])


class UBoot(unittest.TestCase):
    """The same on a real boot loader."""

    KERNEL = 'deployment: {start: {kernel: {url: "URL"}}}\n'
    CASES = {
        'ub-pass': ('console_patterns: {session_end: Hit any key, job_success: "^U-Boot 20"}',
                    'PASS', 'ok', None, 0),
        'ub-fail': ('console_patterns: {session_end: Hit any key, job_success: Barebox}',
                    'FAIL', 'no_success', 'test', 3),
        'ub-time': ('timeouts: {console_activity: 500ms}\n'
                    'console_patterns: {session_end: never}',
                    'INCOMPLETE', 'timeout:console_activity', 'test', 4),
        'ub-setup': (KERNEL + 'console_patterns: {session_end: never}',
                     'SETUP_FAIL', 'download', 'job', 6),
        'ub-cancel': ('console_patterns: {session_end: never}',
                      'CANCELLED', 'cancelled', None, 7),
    }

    def test_each_exit_code(self):
        with Lab() as lab, contextlib.closing(Web()) as web:
            for name in self.CASES:
                lab.uboot(name)
            lab.start()
            running = {}
            for name, (text, *_) in self.CASES.items():
                job = lab.write(f'jobs/{name}.yml', text.replace('URL', web.url('/missing')) + '\n')
                running[name] = lab.spawn_dut('run', '--dut', name, '--output',
                                              lab.path('out', name), job)
            self.assertTrue(os.read(running['ub-cancel'].stdout.fileno(), 1))
            self.assertEqual(lab.dut('cancel', 'ub-cancel').rc, 0)
            for name, process in running.items():
                with self.subTest(name):
                    self.check_case(lab, name, process)

    def test_a_console_that_comes_with_the_power(self):
        """Its first boot begins where the job's log begins, in result, events and index."""
        text = 'console_patterns: {session_end: Hit any key}\n'
        with Lab() as lab:
            lab.uboot('ub')
            lab.start()
            path = lab.write('job.yml', text)
            for base_is_0 in (True, False):
                run = lab.dut('run', '--dut', 'ub', '--output', lab.path('out'), path)
                self.assertEqual(run.rc, 2, run)
                files = Files(self, lab.path('out'))
                files.check()
                base = files.result['console_base']
                self.assertEqual(base == 0, base_is_0)
                self.assertEqual(files.result['boots'][0]['console_offset'], base)
                marks = [json.loads(line.split(' ', 3)[3]) for line in files.index[1:]
                         if line.startswith('m ')]
                boot = next(mark for mark in marks if mark['kind'] == 'boot')
                self.assertEqual((boot['boot'], boot['deployment']), (1, 'start'))
                lab.await_board('ub', 'IDLE')

    def check_case(self, lab, name, process):
        status, reason, verdict, code = self.CASES[name][1:]
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, code, err)
        files = Files(self, lab.path('out', name))
        self.assertEqual((files.result['status'], files.result['reason'],
                          files.result['verdict']), (status, reason, verdict))
        files.check()
        boots = 0 if status == 'SETUP_FAIL' else 1
        self.assertEqual(len(files.result['boots']), boots)
        if status == 'CANCELLED':
            # The first byte was taken above.
            self.assertEqual(out, files.log[1:])
        else:
            self.assertEqual(out, files.log)
            self.assertEqual(b'U-Boot 20' in files.log, boots == 1)
        lab.await_board(name, 'IDLE')
        self.assertEqual(lab.board_state(name)['power']['state'], 'OFF')


class Bytes(unittest.TestCase):
    """stdout of `dut run`, console.log and what the board sent are the same bytes."""

    ENDS = {'lf': '\\n', 'cr-lf': '\\r\\n', 'cr-cr-lf': '\\r\\r\\n'}
    EVERY = ''.join(f'\\x{byte:02x}' for byte in range(256))

    def test_whatever_ends_a_line(self):
        with Lab() as lab:
            for name, end in self.ENDS.items():
                lab.sim(name, f'at 10ms send "{self.EVERY}{end}"\n'
                              f'at 40ms send "test: ok{end}"\nat 60ms send "{self.EVERY}"\n'
                              f'at 80ms send "{end}the end{end}last words without an end"\n',
                        options={'sent': lab.path('boards', name, 'sent')})
            lab.start()
            # However a person writes the end of a line, it matches what the board sends.
            patterns = ['test: ok$', 'test: ok\\r$', 'test: ok\\r?$', 'test: ok\\r\\n']
            job = lab.write('job.yml', 'console_patterns: {session_end: "^the end$", '
                                       'job_success: "' + patterns[0] + '"}\n')
            running = {name: lab.spawn_dut('run', '--dut', name, '--output',
                                           lab.path('out', name), job) for name in self.ENDS}
            for name, process in running.items():
                with self.subTest(name):
                    out, err = process.communicate(timeout=60)
                    self.assertEqual(process.returncode, 0, err)
                    files = Files(self, lab.path('out', name))
                    files.check()
                    sent = read_bytes(lab.path('boards', name, 'sent'))
                    self.assertEqual(out, sent)
                    self.assertEqual(files.log, sent)
                    self.assertTrue(sent.endswith(b'last words without an end'))
                    matched = files.result['patterns']['job_success'][0]
                    self.assertEqual(matched['line'], 'test: ok')
            for number, pattern in enumerate(patterns[1:]):
                text = json.dumps({'console_patterns': {'session_end': '^the end$',
                                                        'job_success': pattern}})
                jobs = {name: lab.submit_ok(text, name) for name in self.ENDS}
                for name, job in jobs.items():
                    with self.subTest(name, pattern=pattern, number=number):
                        self.assertEqual(lab.await_job(job)['status'], 'PASS')


if __name__ == '__main__':
    unittest.main()
