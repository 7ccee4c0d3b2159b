# SPDX-License-Identifier: MIT
"""Whole jobs of the real dut-executor: each status, timeout, watchdog and pattern."""

import os
import socket
import threading
import time
import unittest

from tests.support.harness import await_true
from tests.support.jobhost import JobHost, now

END = {'session_end': {'regex': 'the end$'}}
SUCCESS = {**END, 'job_success': {'regex': r'result=0\r?$'}}


def job(patterns=None, timeouts=None, **more):
    return {'version': 1, 'console_patterns': SUCCESS if patterns is None else patterns,
            'timeouts': timeouts or {}, **more}


def peak_memory(pid):
    """KiB that a process has had at most."""
    with open(f'/proc/{pid}/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmHWM:'))


class Case(unittest.TestCase):
    maxDiff = None

    def play(self, text, description=None, hang_up=False, **config):
        """Runs a job whose board says text at each power-on (and hangs up, which spares the last
        second); returns dutd and the result."""
        dutd = JobHost(description or job(), **config)
        self.addCleanup(dutd.close)
        dutd.begin()

        def board(console, on):
            words = text(on) if callable(text) else text
            if words:
                console.say(words)
            if hang_up:
                console.hang_up()

        return dutd, dutd.run(board)

    def assert_ended(self, result, status, reason, verdict):
        self.assertEqual((result['status'], result['reason'], result['verdict']),
                         (status, reason, verdict), result)
        self.assertTrue(result['message'])


class Deadline(Case):
    def test_one_that_has_passed_ends_the_job_before_power(self):
        dutd, result = self.play('', job(deadline='2001-02-03'))
        self.assert_ended(result, 'SETUP_FAIL', 'deadline', 'job')
        self.assertEqual(result['boots'], [])
        self.assertIn('2001-02-03T00:00:00.000000Z', result['message'])
        self.assertEqual(dutd.power, [])

    def test_it_may_be_ignored_and_one_to_come_is_no_matter(self):
        for deadline, ignore in (('2001-02-03', True), ('2096-02-29', False)):
            _, result = self.play('result=0\nthe end\n', job(deadline=deadline), hang_up=True,
                                  assignment={'ignore_deadline': ignore})
            self.assert_ended(result, 'PASS', 'ok', None)


class Statuses(Case):
    def test_pass(self):
        dutd, result = self.play('hello\nresult=0\nthe end\n')
        self.assert_ended(result, 'PASS', 'ok', None)
        self.assertEqual(result['v'], 1)
        self.assertEqual((result['id'], result['attempt'], result['nonce']), ('17', 1, 'nonce-1'))
        self.assertEqual((result['dut'], result['name'], result['owner']),
                         ('bbb-1', 'bisect', 'alice'))
        self.assertEqual((result['console'], result['console_base']), ('main', 0))
        self.assertEqual([boot['n'] for boot in result['boots']], [1])
        self.assertEqual(result['boots'][0]['reason'], 'ok')
        self.assertTrue(result['boots'][0]['power_on'] <= result['boots'][0]['end'])
        self.assertTrue(result['started'] <= result['boots'][0]['first_byte'] <= result['ended'])
        success = result['patterns']['job_success']
        self.assertEqual(success, [{'boot': 1, 'offset': 6, 'line': 'result=0'}])
        self.assertEqual(result['faults'], [])
        self.assertEqual(dutd.log(), b'hello\nresult=0\nthe end\n')
        self.assertEqual([p[0] for p in dutd.power], ['off', 'on'])
        self.assertEqual([p['t'] for p in dutd.sent][-2:], ['end', 'returned'])
        self.assertEqual(dutd.sent[-1]['offset'], len(dutd.log()))

    def test_pass_on_every_kind_of_line_end(self):
        for end in ('\n', '\r\n', '\r\r\n'):
            for regex in ('result=0$', r'result=0\r$', 'result=0\r$', r'result=0\r?$',
                          r'result=0\r\n', r'result=0\n'):
                with self.subTest(end=end, regex=regex):
                    description = job({**END, 'job_success': {'regex': regex}})
                    _, result = self.play(f'result=0{end}the end{end}', description, True)
                    self.assert_ended(result, 'PASS', 'ok', None)

    def test_success_after_the_end_counts_within_its_second(self):
        dutd, result = self.play('the end\nresult=0\n')
        self.assert_ended(result, 'PASS', 'ok', None)

    def test_warn(self):
        description = job({**SUCCESS, 'job_warn': {'regex': 'odd'}})
        _, result = self.play('odd\nresult=0\nthe end\n', description)
        self.assert_ended(result, 'WARN', 'warn', None)

    def test_complete_when_there_is_no_job_success(self):
        _, result = self.play('the end\n', job(END))
        self.assert_ended(result, 'COMPLETE', 'ok', None)

    def test_fail_without_success(self):
        _, result = self.play('result=1\nthe end\n')
        self.assert_ended(result, 'FAIL', 'no_success', 'test')

    def test_job_fail_ends_at_once(self):
        description = job({**SUCCESS, 'job_fail': {'regex': 'cannot mount'}})
        dutd, result = self.play('result=0\ncannot mount /\n', description)
        self.assert_ended(result, 'FAIL', 'pattern_fail', 'test')
        self.assertEqual(result['patterns']['job_fail'][0]['line'], 'cannot mount /')

    def test_unfit(self):
        description = job({**SUCCESS, 'machine_unfit_for_service': {'regex': 'no GPU'}})
        _, result = self.play('no GPU here\n', description)
        self.assert_ended(result, 'INCOMPLETE', 'unfit', 'lab')

    def test_default_session_end(self):
        _, result = self.play('[   12.345678] reboot: Power Down\r\n',
                              job({'job_success': {'regex': 'x'}}))
        self.assert_ended(result, 'FAIL', 'no_success', 'test')

    def test_regex_limit(self):
        description = job({**END, 'job_warn': {'regex': '(a+)+$'}})
        _, result = self.play('a' * 60 + 'b\nthe end\n', description)
        if result['reason'] == 'ok':  # a library that sees through the pattern
            self.skipTest('pcre2 optimises this pattern')
        self.assert_ended(result, 'INCOMPLETE', 'regex_limit', 'job')
        self.assertIn('job_warn', result['message'])

    def test_costly_lines_do_not_hold_it_up(self):
        """Each of them is below the limit of a line; all together take half a minute."""
        description = job({**END, 'job_warn': {'regex': '(.*)(.*)(.*)[xy]'}})
        since = time.monotonic()
        _, result = self.play(('a' * 140 + '\r\n') * 400 + 'the end\n', description)
        self.assertLess(time.monotonic() - since, 15)
        if result['reason'] == 'ok':  # a library that sees through the pattern
            self.skipTest('pcre2 optimises this pattern')
        self.assert_ended(result, 'INCOMPLETE', 'regex_limit', 'job')
        self.assertIn('job_warn', result['message'])

    def test_console_flood(self):
        dutd, result = self.play(lambda on: 'x' * 130000,
                                 assignment={'limits': {'console_log': 100000}})
        self.assert_ended(result, 'INCOMPLETE', 'console_flood', 'job')
        self.assertGreater(len(dutd.log()), 100000)
        self.assertLess(len(dutd.log()), 100000 + 2 * 65536)

    def test_a_line_of_a_megabyte_is_matched_in_pieces(self):
        _, result = self.play('y' * 1000000 + '\nresult=0\nthe end\n')
        self.assert_ended(result, 'PASS', 'ok', None)


class KernelFaults(Case):
    PANIC = '[    1.0] Kernel panic - not syncing: no init\n'

    def test_ignored_they_are_told_and_name_the_kernel(self):
        dutd, result = self.play(self.PANIC + 'the end\n')
        self.assert_ended(result, 'FAIL', 'no_success', 'kernel')
        self.assertEqual(result['faults'][0]['kind'], 'panic')
        self.assertEqual(dutd.events('fault')[0]['offset'], 0)

    def test_warn(self):
        description = job({**SUCCESS, 'kernel_fault': 'warn'})
        _, result = self.play('WARNING: CPU: 0 PID: 1 at kernel/x.c:1 x+0x1\nresult=0\nthe end\n',
                              description)
        self.assert_ended(result, 'WARN', 'warn', None)

    def test_fail(self):
        description = job({**SUCCESS, 'kernel_fault': 'fail'})
        _, result = self.play(self.PANIC, description)
        self.assert_ended(result, 'FAIL', 'pattern_fail', 'kernel')


class Timeouts(Case):
    def test_overall(self):
        _, result = self.play('hello\n', job(timeouts={'overall': {'milliseconds': 300}}))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:overall', 'test')

    def test_boot_cycle_with_retries_boots_again(self):
        limits = {'boot_cycle': {'milliseconds': 200, 'retries': 2}}
        dutd, result = self.play('hello\n', job(timeouts=limits))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:boot_cycle', 'test')
        self.assertEqual([boot['n'] for boot in result['boots']], [1, 2, 3])
        self.assertEqual({boot['reason'] for boot in result['boots']}, {'timeout:boot_cycle'})
        self.assertEqual(result['timeouts']['boot_cycle'],
                         {'limit': 0.2, 'retries': 2, 'retried': 2})
        self.assertEqual([p[0] for p in dutd.power], ['off', 'on'] * 3)
        self.assertEqual([event['action'] for event in dutd.events('timeout')],
                         ['retry', 'retry', 'abort'])

    def test_first_console_activity_waits_for_a_line_end(self):
        limits = {'first_console_activity': {'milliseconds': 300}}
        _, result = self.play('junk without an end', job(timeouts=limits))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:first_console_activity', 'test')

    def test_silence_of_a_board_whose_power_is_not_proven_is_the_labs(self):
        limits = {'first_console_activity': {'milliseconds': 200}}
        dutd = JobHost(job(timeouts=limits))
        self.addCleanup(dutd.close)
        dutd.begin()
        dutd.done(dutd.expect('off'))
        dutd.done(dutd.expect('on'), verified=False)
        self.assert_ended(dutd.run(), 'INCOMPLETE', 'timeout:first_console_activity', 'lab')

    def test_console_activity(self):
        limits = {'console_activity': {'milliseconds': 300, 'retries': 1},
                  'first_console_activity': {'seconds': 10}}
        dutd, result = self.play('hello\n', job(timeouts=limits))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:console_activity', 'test')
        self.assertEqual(len(result['boots']), 2)

    def test_console_activity_starts_with_the_first_line_only(self):
        limits = {'console_activity': {'milliseconds': 100},
                  'boot_cycle': {'milliseconds': 500}}
        _, result = self.play('', job(timeouts=limits))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:boot_cycle', 'test')

    def test_watchdog_by_name(self):
        patterns = {**SUCCESS, 'watchdogs': {'suite': {
            'start': {'regex': 'begin'}, 'reset': {'regex': 'ok'}, 'stop': {'regex': 'done'}}}}
        limits = {'watchdogs': {'suite': {'milliseconds': 300}}}
        _, result = self.play('begin\nok\n', job(patterns, limits))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:watchdogs.suite', 'test')
        self.assertIn('watchdogs.suite', result['timeouts'])

    def test_watchdog_that_is_stopped_is_silent(self):
        patterns = {**SUCCESS, 'watchdogs': {'suite': {
            'start': {'regex': 'begin'}, 'reset': {'regex': 'ok'}, 'stop': {'regex': 'done'}}}}
        limits = {'watchdogs': {'suite': {'milliseconds': 200}},
                  'boot_cycle': {'milliseconds': 700}}
        _, result = self.play('begin\ndone\n', job(patterns, limits))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:boot_cycle', 'test')

    def test_boot_timers_stand_still_while_dutd_switches(self):
        limits = {'boot_cycle': {'milliseconds': 150}, 'overall': {'seconds': 1}}
        dutd = JobHost(job(timeouts=limits))
        self.addCleanup(dutd.close)
        console = dutd.begin()
        dutd.done(dutd.expect('off'))
        on = dutd.expect('on')
        console.say('hello\n')
        # No answer: only overall runs, and ends the job.
        result = dutd.run()
        self.assert_ended(result, 'INCOMPLETE', 'timeout:overall', 'test')
        self.assertEqual(on['boot'], 1)


class Reboots(Case):
    PATTERNS = {**SUCCESS, 'session_reboot': {'regex': 'please reboot'}}

    def test_session_reboot_spends_boot_cycle_retries_and_continues(self):
        deployment = {'start': {'kernel': {'cmdline': 'phase=1'}},
                      'continue': {'kernel': {'cmdline': 'phase=2'}}}
        limits = {'boot_cycle': {'seconds': 30, 'retries': 1}}
        dutd, result = self.play(
            lambda on: 'please reboot\n' if on['boot'] == 1 else 'result=0\nthe end\n',
            job(self.PATTERNS, limits, deployment=deployment))
        self.assert_ended(result, 'PASS', 'ok', None)
        ons = [p for p in dutd.power if p[0] == 'on']
        self.assertEqual([on[3] for on in ons], [{'cmdline': 'phase=1'}, {'cmdline': 'phase=2'}])
        self.assertEqual([boot['reason'] for boot in result['boots']], ['session_reboot', 'ok'])
        self.assertEqual(result['timeouts']['boot_cycle']['retried'], 1)
        self.assertEqual([event['deployment'] for event in dutd.events('boot')],
                         ['start', 'continue'])
        boots = dutd.marks('boot')
        self.assertEqual([(offset, mark['boot']) for offset, mark in boots],
                         [(0, 1), (len('please reboot\n'), 2)])

    def test_session_reboot_without_retries(self):
        _, result = self.play('please reboot\n', job(self.PATTERNS))
        self.assert_ended(result, 'INCOMPLETE', 'timeout:boot_cycle', 'test')
        self.assertIn('reboot', result['message'])

    def test_success_of_an_earlier_boot_counts(self):
        limits = {'boot_cycle': {'seconds': 30, 'retries': 1}}
        _, result = self.play(
            lambda on: 'result=0\nplease reboot\n' if on['boot'] == 1 else 'the end\n',
            job(self.PATTERNS, limits))
        self.assert_ended(result, 'PASS', 'ok', None)

    def test_words_before_on_is_answered_belong_to_that_boot(self):
        limits = {'boot_cycle': {'seconds': 30, 'retries': 1}}
        dutd = JobHost(job(self.PATTERNS, limits))
        self.addCleanup(dutd.close)
        console = dutd.begin()
        console.say('the end\n')  # of whoever had the board before: not this job's
        dutd.done(dutd.expect('off'))
        on = dutd.expect('on')
        console.say('please reboot\n')
        dutd.done(on)
        on = dutd.power_on()
        self.assertEqual(on['boot'], 2)
        console.say('result=0\nthe end\n')
        result = dutd.run()
        self.assert_ended(result, 'PASS', 'ok', None)
        self.assertEqual(result['patterns']['session_reboot'][0]['boot'], 1)


class Lines(Case):
    def test_a_line_of_10_MiB_takes_no_memory(self):
        """It comes in pieces of 64 KiB, and a pattern is found in the one that holds its text."""
        description = job({**END, 'job_success': {'regex': '^x+$'},
                           'job_warn': {'regex': '[xy]{3}z'}})
        dutd = JobHost(description)
        self.addCleanup(dutd.close)
        console = dutd.begin()
        dutd.power_on()
        before = peak_memory(dutd.pid)
        for _ in range(160):
            console.say('x' * 65536)
        console.say(' the end\n')
        await_true(lambda: dutd.events('pattern')[1:], 'the patterns to match')
        grown = peak_memory(dutd.pid) - before
        result = dutd.run()
        self.assert_ended(result, 'PASS', 'ok', None)
        # Two buffers of a line, what PCRE2 needs to search it, and nothing that grows with it.
        self.assertLess(grown, 4 << 10)

    def test_a_prompt_without_an_end_is_matched_after_silence(self):
        description = job({'session_end': {'regex': 'login: $'}})
        _, result = self.play('\nDebian 12\n\nhost login: ', description)
        self.assert_ended(result, 'COMPLETE', 'ok', None)

    def test_what_matched_an_unfinished_line_is_not_told_twice(self):
        description = job({**SUCCESS, 'job_warn': {'regex': 'odd'}})
        dutd = JobHost(description)
        self.addCleanup(dutd.close)
        console = dutd.begin()
        dutd.power_on()
        console.say('something odd')
        while not dutd.events('pattern'):
            os.read(console.wake, 8) if self.poll(console.wake) else None
        console.say(' and more\nresult=0\nthe end\n')
        result = dutd.run()
        self.assert_ended(result, 'WARN', 'warn', None)
        self.assertEqual(len(result['patterns']['job_warn']), 1)
        self.assertEqual(result['patterns']['job_warn'][0]['line'], 'something odd')

    def poll(self, fd):
        from tests.support.jobhost import wait_readable
        self.assertTrue(wait_readable(fd))
        return True

    def test_every_byte_value_reaches_the_log(self):
        for kind in ('unix', 'pty'):
            with self.subTest(kind=kind):
                data = bytes(range(256)) * 64
                dutd = JobHost(job())
                self.addCleanup(dutd.close)
                console = dutd.begin(kind=kind)
                dutd.power_on()
                console.say(data + b'\nresult=0\nthe end\n')
                result = dutd.run()
                self.assert_ended(result, 'PASS', 'ok', None)
                self.assertEqual(dutd.log(), data + b'\nresult=0\nthe end\n')


class Power(Case):
    def failing(self, number, **how):
        dutd = JobHost(job(timeouts={'boot_cycle': {'milliseconds': 100, 'retries': 5}}))
        self.addCleanup(dutd.close)
        dutd.begin()
        for _ in range(number):
            dutd.done(dutd.expect('off', 'on'))
        dutd.done(dutd.expect('off', 'on'), ok=False, error='outlet 4 does not read back')
        return dutd, dutd.run()

    def test_that_fails_before_the_first_on_is_a_setup_failure(self):
        dutd, result = self.failing(0)
        self.assert_ended(result, 'SETUP_FAIL', 'power', 'lab')
        self.assertIn('outlet 4 does not read back', result['message'])
        self.assertEqual(dutd.events('power')[0]['error'], 'outlet 4 does not read back')

    def test_that_fails_at_on_or_later_is_incomplete(self):
        for number in (1, 2):
            with self.subTest(number=number):
                _, result = self.failing(number)
                self.assert_ended(result, 'INCOMPLETE', 'power', 'lab')

    def test_the_started_file_is_there_before_the_first_request(self):
        dutd = JobHost(job())
        self.addCleanup(dutd.close)
        self.assertEqual(dutd.start(), 'R')
        dutd.connect()
        dutd.lend()
        self.assertFalse(os.path.exists(dutd.path('started')))
        dutd.send({'t': 'go'})
        dutd.expect('off')
        self.assertTrue(os.path.exists(dutd.path('started')))


class Events(Case):
    def test_tell_the_whole_job_in_order(self):
        dutd, result = self.play('result=0\nthe end\n')
        events = dutd.events()
        self.assertEqual([event['seq'] for event in events], list(range(len(events))))
        self.assertEqual({(event['dut'], event['job']) for event in events}, {('bbb-1', '17')})
        self.assertTrue(all(event['text'] and event['time'].endswith('Z') for event in events))
        elapsed = [event['elapsed'] for event in events]
        self.assertEqual(elapsed, sorted(elapsed))
        phases = [event['phase'] for event in dutd.events('phase')]
        self.assertEqual(list(dict.fromkeys(phases)),
                         ['setup', 'power_off', 'power_on', 'boot', 'running', 'teardown'])
        self.assertEqual([(e['state'], e['verified']) for e in dutd.events('power')],
                         [('OFF', True), ('ON', True)])
        last = events[-1]
        self.assertEqual((last['type'], last['state'], last['status'], last['reason']),
                         ('job_state', 'ENDED', 'PASS', 'ok'))
        self.assertEqual(last['message'], result['message'])

    def test_secrets_do_not_show(self):
        description = job({**SUCCESS, 'job_warn': {'regex': 'token'}})
        dutd, result = self.play('token is hunter2\nresult=0\nthe end\n', description,
                                 assignment={'environ': {'CI_TOKEN': 'hunter2'}})
        self.assertEqual(result['patterns']['job_warn'][0]['line'], 'token is ***')
        with open(dutd.path('events.jsonl')) as file:
            self.assertNotIn('hunter2', file.read())
        self.assertIn(b'hunter2', dutd.log())

    def test_every_append_wakes_dutd(self):
        dutd = JobHost(job())
        self.addCleanup(dutd.close)
        console = dutd.begin()
        dutd.power_on()
        self.assertTrue(Lines.poll(self, console.wake))
        os.read(console.wake, 8)
        console.say('hello\n')
        self.assertTrue(Lines.poll(self, console.wake))


class OwnSocket(Case):
    def test_state(self):
        dutd = JobHost(job(timeouts={'boot_cycle': {'seconds': 30, 'retries': 2}}))
        self.addCleanup(dutd.close)
        self.assertEqual(dutd.start(), 'R')
        status, state = dutd.get('/api/v1/state')
        self.assertEqual((status, state['state'], state['job']),
                         (200, 'QUEUED', {'id': '17', 'name': 'bisect'}))
        dutd.connect()
        dutd.lend()
        dutd.send({'t': 'go'})
        dutd.power_on()
        dutd.consoles[0].say('hello\n')
        dutd.expect('phase')
        while dutd.sent[-1] != {'t': 'phase', 'phase': 'running', 'boot': 1}:
            dutd.expect('phase')
        _, state = dutd.get('/api/v1/state')
        self.assertEqual((state['state'], state['phase'], state['boot']), ('RUNNING', 'running', 1))
        self.assertEqual(state['timeouts']['boot_cycle']['retries'], 2)
        self.assertLessEqual(state['timeouts']['boot_cycle']['remaining'], 30)
        self.assertTrue(state['last_console'])

    def test_cancel(self):
        dutd = JobHost(job())
        self.addCleanup(dutd.close)
        dutd.begin()
        dutd.power_on()
        begun = now()
        self.assertEqual(dutd.post('/api/v1/job/cancel', {'why': 'wrong kernel'}) // 100, 2)
        result = dutd.run()
        self.assertLess(now() - begun, 1)
        self.assert_ended(result, 'CANCELLED', 'cancelled', None)
        self.assertIn('wrong kernel', result['message'])

    def test_viewers_get_everything_and_a_stuck_one_delays_nobody(self):
        dutd = JobHost(job())
        self.addCleanup(dutd.close)
        console = dutd.begin()
        dutd.power_on()
        viewers = {}
        for path in ('console?offset=0', 'events', 'console?offset=0&stuck'):
            viewer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.addCleanup(viewer.close)
            viewer.settimeout(20)
            viewer.connect(os.path.join(dutd.dir, 'job.sock'))
            viewer.sendall(f'GET /api/v1/{path} HTTP/1.1\r\nHost: x\r\n\r\n'.encode())
            viewers[path.split('?')[0] if 'stuck' not in path else 'stuck'] = viewer
        text = 'x' * 1000000 + '\nresult=0\nthe end\n'
        reader = threading.Thread(target=self.read_all, args=(viewers['console'],))
        reader.start()
        console.say(text)
        begun = now()
        result = dutd.run()
        self.assertLess(now() - begun, 3)
        self.assert_ended(result, 'PASS', 'ok', None)
        reader.join()
        self.assertIn(text.encode(), self.unchunk(self.read))
        self.read_all(viewers['events'])
        self.assertIn(b'"ENDED"', self.unchunk(self.read))

    def read_all(self, viewer):
        self.read = b''
        while True:
            try:
                part = viewer.recv(65536)
            except ConnectionResetError:
                part = b''
            if not part:
                return
            self.read += part

    def unchunk(self, data):
        head, _, body = data.partition(b'\r\n\r\n')
        if b'chunked' not in head.lower():
            return body
        content = b''
        while body:
            size, _, body = body.partition(b'\r\n')
            if int(size, 16) == 0:
                break
            content += body[:int(size, 16)]
            body = body[int(size, 16) + 2:]
        return content


if __name__ == '__main__':
    unittest.main()
