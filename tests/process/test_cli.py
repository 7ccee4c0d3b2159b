# SPDX-License-Identifier: MIT
"""dut against a fake daemon: the verbs that ask and are answered."""

import json
import os
import signal
import subprocess
import unittest

from tests.support.cli import BOARD, DUT, PATIENCE, CliCase, FakeJob
from tests.support.fakedutd import Answer, FakeDutd, Pieces

STATUSES = {'PASS': 0, 'WARN': 1, 'COMPLETE': 2, 'FAIL': 3, 'INCOMPLETE': 4, 'UNKNOWN': 5,
            'SETUP_FAIL': 6, 'CANCELLED': 7}

HTTP = {400: 65, 401: 77, 403: 77, 404: 68, 405: 65, 406: 68, 409: 75, 411: 65, 413: 65, 415: 65,
        429: 75, 431: 65, 500: 70, 501: 70, 502: 74, 503: 74, 504: 74, 507: 74}

VERBS = ['list', 'show', 'run', 'validate', 'jobs', 'job', 'wait', 'cancel', 'results', 'log',
         'power', 'reserve', 'release', 'kick', 'console', 'reload', 'retire', 'activate', 'set',
         'history', 'token', 'proxy', 'version']

NOT_YET = ['press', 'send', 'expect', 'boots', 'train', 'check', 'pdus', 'add',
           'identify', 'export', 'completion']

BUSY = {**BOARD, 'id': 'vm-1', 'state': 'RUNNING', 'tags': [], 'description': None,
        'job': {'id': '17', 'name': 'bisect usb', 'owner': 'alice', 'since': 'x'}}


class Words(CliCase):
    def test_every_verb_has_a_help(self):
        for verb in VERBS:
            for option in ('--help', '-h'):
                ran = self.dut(verb, option)
                self.assertEqual((ran.rc, ran.err), (0, ''), ran)
                self.assertTrue(ran.out.startswith(f'Usage: dut {verb}'), ran)
                self.assertIn('--socket PATH', ran.out)
        self.assertEqual(self.fake.requests, [])

    def test_the_help_lists_the_verbs(self):
        ran = self.dut('--help')
        self.assertEqual((ran.rc, ran.err), (0, ''))
        for verb in VERBS:
            self.assertRegex(ran.out, rf'\n  {verb} ')

    def test_without_a_verb_there_is_only_the_usage(self):
        ran = self.dut()
        self.assertEqual((ran.rc, ran.out), (64, ''))
        self.assertIn('Usage: dut', ran.err)

    def test_verbs_that_are_not_there_yet_are_refused_by_name(self):
        for verb in NOT_YET:
            self.assert_said(self.dut(verb, 'bbb-1'), 64, f'not yet: {verb}')

    def test_options_that_are_not_there_yet_are_refused_by_name(self):
        for arguments, name in (
                (('log', '17', '--boot', '-1'), '--boot'),
                (('log', '17', '--since', '10m'), '--since'),
                (('log', '17', '--timestamps'), '--timestamps'),
                (('console', 'bbb-1', '--raw'), '--raw'),
                (('console', 'bbb-1', '--read-only', '--force'), '--force'),
                (('console', 'bbb-1'), 'console without --read-only'),
                (('power', 'reset', 'bbb-1'), 'power reset')):
            self.assert_said(self.dut(*arguments), 64, f'not yet: {name}')
        self.assertEqual(self.fake.requests, [])

    def test_a_typo_is_answered_with_the_nearest_word(self):
        self.assert_said(self.dut('lst'), 64, "unknown verb 'lst'; did you mean 'list'?")
        self.assert_said(self.dut('xyzzy'), 64, "unknown verb 'xyzzy'; see 'dut --help'")
        self.assert_usage('jobs', '--al', text="unknown option '--al'; did you mean '--all'?")

    def test_hostile_words_do_not_reach_the_terminal(self):
        ran = self.dut('\x1b]0;owned\x07')
        self.assertEqual(ran.err, "dut: unknown verb '\\e]0;owned\\x07'; see 'dut --help'\n")

    def test_version(self):
        ran = self.dut('version')
        self.assertRegex(ran.out, r'\Adut \d+\.\d+\.\d+\n\Z')
        version = json.loads(self.dut('version', '--json').out)['version']
        self.assertEqual(ran.out, f'dut {version}\n')

    def test_a_closed_stdout_ends_quietly(self):
        self.fake.on('GET', '/duts', {'duts': {'bbb-1': BOARD}})
        read, write = os.pipe()
        os.close(read)
        process = self.start('list', stdout=write)
        os.close(write)
        self.assertEqual((self.finish(process).rc, process.returncode), (0, 0))

    def test_a_full_disk_is_said(self):
        if not os.path.exists('/dev/full'):
            self.skipTest('no /dev/full')
        self.fake.on('GET', '/duts', {'duts': {'bbb-1': BOARD}})
        with open('/dev/full', 'wb') as full:
            ran = self.finish(self.start('list', stdout=full))
        self.assertEqual(ran.rc, 74, ran)
        self.assertEqual(ran.err, 'dut: cannot write to stdout: No space left on device\n')


class Daemon(CliCase):
    """How the daemon is found, and what it says when it does not want."""

    def test_no_socket(self):
        self.fake.die()
        os.unlink(self.socket)
        ran = self.dut('list')
        self.assert_said(ran, 69, f'no daemon at {self.socket}; start dutd, or name its socket '
                                  'with --socket or DUT_SOCKET')

    def test_a_socket_that_nobody_listens_at(self):
        self.fake.die()
        ran = self.dut('list')
        self.assert_said(ran, 69, f"no daemon listens at {self.socket} (try 'systemctl status "
                                  "dutd'): Connection refused")

    def test_the_socket_option_goes_before_the_environment(self):
        self.fake.on('GET', '/duts', {'duts': {}})
        wrong = {'DUT_SOCKET': '/nowhere'}
        self.assertEqual(self.dut('list', env=wrong).rc, 69)
        self.assertEqual(self.dut('list', '--socket', self.socket, env=wrong).rc, 0)
        self.assertEqual(self.dut('--socket=' + self.socket, 'list', env=wrong).rc, 0)
        # The host is for those who have no socket.
        self.assertEqual(self.dut('list', env={'DUT_HOST': 'http://x'}).rc, 0)

    def test_the_path_of_a_socket_may_be_long(self):
        folder = self.path('x' * 120)
        os.mkdir(folder)
        fake = FakeDutd(os.path.join(folder, 'dutd.sock'))
        self.addCleanup(fake.die)
        fake.on('GET', '/duts', {'duts': {}})
        self.assertEqual(self.dut('list', '--socket', fake.path).rc, 0)

    def test_every_http_status_has_its_exit_code(self):
        for status, rc in HTTP.items():
            self.fake.on('GET', '/dut/bbb-1', Answer({'error': f'no, {status}'}, status))
            self.assert_said(self.dut('show', 'bbb-1'), rc, f'no, {status}')

    def test_an_error_without_words_is_said_by_its_number(self):
        self.fake.on('GET', '/duts', Answer(b'<html>', 502))
        self.assert_said(self.dut('list'), 74, 'the daemon refuses with HTTP status 502')
        self.fake.on('GET', '/duts', Answer(b'', 503, {'Dut-Error': 'it is too late'}))
        self.assert_said(self.dut('list'), 74, 'it is too late')

    def test_hostile_errors_do_not_reach_the_terminal(self):
        self.fake.on('GET', '/duts', Answer({'error': 'a\x1b[2Jb\nc\u009b1m'}, 500))
        self.assert_said(self.dut('list'), 70, r'a\e[2Jb\nc\xc2\x9b1m')

    def test_what_is_no_json_is_not_believed(self):
        for body in (b'', b'{', b'[]', b'"x"', b'\xff\xfe', b'{"duts": {}, "duts": {}}', b'{}',
                     b'{"duts": []}'):
            self.fake.on('GET', '/duts', Answer(body))
            self.assert_said(self.dut('list'), 70,
                             "the daemon's answer is not what it should be")

    def test_a_daemon_that_hangs_up_before_it_answers(self):
        def hang_up(_):
            raise ConnectionAbortedError
        self.fake.on('GET', '/duts', hang_up)
        ran = self.dut('list')
        self.assertEqual(ran.rc, 69, ran)
        self.assertTrue(ran.err.startswith(f'dut: lost the daemon at {self.socket} ('), ran)

    def test_a_signal_ends_a_question(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            never = Pieces()
            self.fake.requests.clear()
            self.fake.on('GET', '/duts', lambda _: Answer(never))
            process = self.start('list')
            self.fake.await_request('GET', '/duts')
            process.send_signal(number)
            ran = self.finish(process)
            self.assertEqual((ran.rc, ran.err), (130, ''), ran)
            never.end()

    def test_a_proxy_of_the_environment_is_not_asked(self):
        self.fake.on('GET', '/duts', {'duts': {}})
        ran = self.dut('list', env={'http_proxy': 'http://127.0.0.1:1', 'ALL_PROXY': 'x://'})
        self.assertEqual(ran.rc, 0, ran)


class List(CliCase):
    def test_a_pipe_gets_tabs_and_no_header(self):
        self.fake.on('GET', '/duts', {'duts': {'bbb-1': BOARD, 'vm-1': BUSY}})
        ran = self.dut('list')
        self.assertEqual((ran.rc, ran.err), (0, ''))
        self.assertEqual(ran.out, 'bbb-1\tIDLE\tbbb arch:armhf\t\tBeagleBone, shelf 2\t\n'
                                  'vm-1\tRUNNING\t\t17 alice "bisect usb"\t\t\n')

    def test_a_terminal_gets_a_table(self):
        self.fake.on('GET', '/duts', {'duts': {'bbb-1': BOARD, 'vm-1': BUSY}})
        terminal = self.terminal('list')
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(terminal.text.replace('\r', ''), '\n'.join((
            'DUT    STATE    TAGS            JOB/HOLDER             DESCRIPTION          MESSAGE',
            'bbb-1  IDLE     bbb arch:armhf                         BeagleBone, shelf 2',
            'vm-1   RUNNING                  17 alice "bisect usb"', '')))

    def test_hostile_names_stay_in_their_cell(self):
        board = {**BOARD, 'tags': [], 'description': 'a\tb\n\x1b[31mc',
                 'message': 'power: \u009b', 'holder': {'owner': 'e\rve'}}
        self.fake.on('GET', '/duts', {'duts': {'bbb-1': board}})
        self.assertEqual(self.dut('list').out,
                         'bbb-1\tIDLE\t\te\\rve\ta\\tb\\n\\e[31mc\tpower: \\xc2\\x9b\n')

    def test_words_of_other_languages_stay_as_they_are(self):
        self.fake.on('GET', '/duts', {'duts': {'k': {**BOARD, 'description': 'Küche 厨房'}}})
        self.assertIn('Küche 厨房', self.dut('list').out)

    def test_json_is_one_object_a_line(self):
        self.fake.on('GET', '/duts', {'duts': {'bbb-1': BOARD, 'vm-1': BUSY}})
        for arguments in (('list', '--json'), ('--json', 'list')):
            lines = self.dut(*arguments).out.splitlines()
            self.assertEqual([json.loads(line) for line in lines], [BOARD, BUSY])

    def test_json_has_no_control_characters(self):
        self.fake.on('GET', '/duts', {'duts': {'k': {**BOARD, 'description': 'a\x1b\u009bü'}}})
        ran = self.dut('list', '--json')
        self.assertRegex(ran.raw, rb'\A[ -~]*\n\Z')
        self.assertEqual(json.loads(ran.out)['description'], 'a\x1b\u009bü')

    def test_no_duts_are_no_lines(self):
        self.fake.on('GET', '/duts', {'duts': {}})
        self.assertEqual(self.dut('list').out, '')

    def test_wrong_inputs(self):
        self.assert_usage('list', 'bbb-1', text="list: 'bbb-1' is one argument too many")
        self.assert_usage('list', '--jsn', text="did you mean '--json'?")
        self.assert_usage('list', '--json=1', text='--json takes no value')
        self.assert_usage('list', '--socket', text='--socket needs PATH')
        self.assert_usage('list', '-j', text="unknown option '-j'")
        self.assert_usage('list', '--socket=', text='--socket is empty')


class Show(CliCase):
    def test_it_is_readable(self):
        self.fake.on('GET', '/dut/bbb-1', {'duts': {'bbb-1': BOARD}})
        ran = self.dut('show', 'bbb-1')
        self.assertEqual((ran.rc, ran.err), (0, ''))
        self.assertEqual(ran.out, '\n'.join((
            'bbb-1: IDLE',
            '  description  BeagleBone, shelf 2',
            '  tags         bbb',
            '               arch:armhf',
            '  power        OFF since 2026-01-01T00:00:00Z',
            '  console      main: open, 12 bytes so far', '')))

    def test_what_is_wrong_is_shown(self):
        board = {**BUSY, 'state': 'BORKED', 'message': 'off failed\x1b', 'is_retired': True,
                 'ready_for_service': False,
                 'power': {'state': 'UNKNOWN', 'verified': False, 'error': 'no answer'}}
        self.fake.on('GET', '/dut/vm-1', board)
        out = self.dut('show', 'vm-1').out
        for line in ('vm-1: BORKED', '  message      off failed\\e',
                     '  job          17 alice "bisect usb"',
                     '  retired      when its job has ended',
                     '  ready        no', '  power        UNKNOWN, not verified',
                     '  power error  no answer'):
            self.assertIn(line + '\n', out)

    def test_the_board_of_the_environment(self):
        self.fake.on('GET', '/dut/vm-1', {'duts': {'vm-1': BUSY}})
        ran = self.dut('show', '--json', env={'DUT_BOARD': 'vm-1'})
        self.assertEqual(json.loads(ran.out), BUSY)

    def test_names_are_escaped_in_the_request(self):
        self.dut('show', 'de:ad/../?x=1 %2e#')
        self.assertEqual(self.fake.requests[0].target,
                         '/api/v1/dut/de%3Aad%2F..%2F%3Fx%3D1%20%252e%23?config=1')
        self.dut('show', '..')
        self.assertEqual(self.fake.requests[1].target, '/api/v1/dut/..?config=1')

    def test_wrong_inputs(self):
        self.assert_usage('show', text='which DUT? Name one, or set DUT_BOARD')
        self.assert_usage('show', 'a', 'b', text="'b' is one argument too many")
        self.assert_usage('show', '', text="'' is no name of a DUT")
        self.assert_usage('show', 'x' * 300, text='is no name of a DUT')
        self.assert_usage('show', '--dut', 'a', text="unknown option '--dut'")
        self.assert_said(self.dut('show', 'a'), 68, 'there is no /dut/a')


class Jobs(CliCase):
    @staticmethod
    def job(number, state='RUNNING', **members):
        return {'id': str(number), 'name': f'job {number}', 'dut': 'bbb-1', 'owner': 'alice',
                'state': state, 'status': None, 'reason': None, **members}

    def by_state(self, **jobs):
        def page(request):
            found = jobs.get(request.query.get('state', 'ALL'), [])
            after = int(request.query.get('after', 0))
            return {'jobs': [] if 'before' in request.query else
                    [job for job in found if int(job['id']) > after]}
        self.fake.on('GET', '/jobs', page)

    def test_those_that_have_not_ended(self):
        self.by_state(RUNNING=[self.job(3)], WAITING=[self.job(12, 'WAITING', dut=None)],
                      ENDED=[self.job(1, 'ENDED')])
        ran = self.dut('jobs')
        self.assertEqual((ran.rc, ran.err), (0, ''))
        self.assertEqual(ran.out, '3\tRUNNING\tbbb-1\talice\t\t\tjob 3\n'
                                  '12\tWAITING\t\talice\t\t\tjob 12\n')

    def test_who_waits_has_a_place(self):
        self.by_state(RUNNING=[self.job(3)],
                      WAITING=[self.job(12, 'WAITING', dut=None, place=1)])
        self.assertEqual(self.dut('jobs').out, '3\tRUNNING\tbbb-1\talice\t\t\tjob 3\t\n'
                                               '12\tWAITING\t\talice\t\t\tjob 12\t1\n')

    def test_a_job_that_moves_on_meanwhile_is_listed_once(self):
        self.by_state(STARTING=[self.job(3, 'STARTING')], RUNNING=[self.job(3)])
        self.assertEqual(len(self.dut('jobs').out.splitlines()), 1)

    def test_all_and_by_state(self):
        ended = self.job(1, 'ENDED', status='FAIL', reason='pattern_fail')
        self.by_state(ALL=[ended, self.job(3)], ENDED=[ended])
        self.assertEqual(self.dut('jobs', '--all').out,
                         '1\tENDED\tbbb-1\talice\tFAIL\tpattern_fail\tjob 1\n'
                         '3\tRUNNING\tbbb-1\talice\t\t\tjob 3\n')
        ran = self.dut('jobs', '--state', 'ENDED', '--json')
        self.assertEqual(json.loads(ran.out), ended)

    def test_pages(self):
        def page(request):
            after = int(request.query['after'])
            limit = int(request.query['limit'])
            return {'jobs': [self.job(n) for n in range(after + 1, 1201)][:limit]}
        self.fake.on('GET', '/jobs', page)
        lines = self.dut('jobs', '--all').out.splitlines()
        self.assertEqual([line.split('\t')[0] for line in lines],
                         [str(n) for n in range(1, 1201)])

    def test_a_daemon_that_knows_no_pages_is_asked_twice(self):
        self.fake.on('GET', '/jobs', {'jobs': [self.job(1)]})
        self.assertEqual(len(self.dut('jobs', '--all').out.splitlines()), 1)
        self.assertEqual(len(self.fake.requests), 2)

    def test_wrong_inputs(self):
        self.assert_usage('jobs', '17', text="'17' is one argument too many")
        self.assert_usage('jobs', '--state', text='--state needs STATE')
        self.assert_usage('jobs', '--state', 'DONE', text="--state 'DONE' is not WAITING")
        self.assert_usage('jobs', '--all', '--state', 'ENDED', text='--all or --state, not both')
        self.assert_usage('jobs', '--state=ENDED', '--state=RUNNING', text='given twice')


class Job(CliCase):
    def test_it_is_readable(self):
        self.fake.on('GET', '/jobs/17', {
            'id': 17, 'name': 'a\x1bb', 'dut': 'bbb-1', 'owner': 'alice', 'state': 'ENDED',
            'status': 'FAIL', 'reason': 'pattern_fail', 'verdict': 'test', 'message': 'no\nluck'})
        ran = self.dut('job', '0017')
        self.assertEqual((ran.rc, ran.err), (0, ''))
        self.assertEqual(ran.out, '\n'.join((
            'job 17 "a\\eb": ENDED', '  dut          bbb-1', '  owner        alice',
            '  status       FAIL', '  reason       pattern_fail', '  verdict      test',
            '  message      no\\nluck', '')))

    def test_json(self):
        FakeJob(self.fake)
        self.assertEqual(json.loads(self.dut('job', '17', '--json').out)['dut'], 'bbb-1')

    def test_wrong_inputs(self):
        self.assert_usage('job', text='too few arguments, it needs ID')
        self.assert_usage('job', 'bbb-1', text="'bbb-1' is no id of a job")
        self.assert_usage('job', '0', text="'0' is no id of a job")
        self.assert_usage('job', '-1', text="unknown option '-1'")
        self.assert_usage('job', '99999999999999999999', text='is no id of a job')
        self.assert_usage('job', '17', '18', text="'18' is one argument too many")
        self.assert_said(self.dut('job', '18'), 68, 'there is no /jobs/18')


class Wait(CliCase):
    def test_it_exits_as_run_would(self):
        for status, rc in STATUSES.items():
            job = FakeJob(self.fake)
            job.end(status, 'ok', 'x\x1by' if rc else None)
            line = f'job 17 on bbb-1: {status} (ok)' + ('' if rc == 0 else r': x\ey')
            self.assert_said(self.dut('wait', '17'), rc, line)
            self.assertEqual(self.dut('wait', '17', '--ok', 'WARN,' + status).rc, 0)

    def test_a_status_that_is_not_known_here_is_unknown(self):
        FakeJob(self.fake).end('SPLENDID', 'ok')
        self.assertEqual(self.dut('wait', '17').rc, 5)

    def test_it_waits_for_the_end(self):
        job = FakeJob(self.fake)
        process = self.start('wait', '17', '--json')
        self.fake.await_request('GET', '/jobs/17')
        job.end('FAIL', 'no_success')
        ran = self.finish(process)
        self.assertEqual((ran.rc, ran.err), (3, 'dut: job 17 on bbb-1: FAIL (no_success)\n'))
        self.assertEqual(json.loads(ran.out), job.state)
        self.assertEqual(self.fake.requests[1].query, {'wait': '60'})

    def test_it_asks_again_when_the_daemon_gives_up(self):
        job = FakeJob(self.fake)
        answers = [job.state, job.state, job.state]

        def get(_):
            if not answers:
                job.end()
            return answers.pop() if answers else job.state
        self.fake.on('GET', '/jobs/17', get)
        self.assertEqual(self.dut('wait', '17').rc, 0)

    def test_it_gives_up_after_a_timeout(self):
        job = FakeJob(self.fake)
        self.assert_said(self.dut('wait', '17', '--timeout', '200ms'), 124,
                         'job 17 has not ended after 200ms')
        job.end()
        self.assertEqual(self.dut('wait', '17', '--timeout', '0').rc, 0)

    def test_a_daemon_that_goes_away(self):
        FakeJob(self.fake)
        process = self.start('wait', '17', '--reconnect', '100ms')
        with self.fake.changed:
            self.fake.changed.wait_for(lambda: len(self.fake.requests) >= 2, PATIENCE)
        self.fake.die()
        self.assertEqual(self.finish(process).rc, 69)

    def test_wrong_inputs(self):
        self.assert_usage('wait', text='too few arguments, it needs ID')
        self.assert_usage('wait', 'x', text="'x' is no id of a job")
        self.assert_usage('wait', '17', '--timeout', 'soon', text="'soon' is not a duration")
        self.assert_usage('wait', '17', '--ok', 'GOOD', text="'GOOD' is no status")
        self.assert_usage('wait', '17', '--ok', 'PASS,', text="'' is no status")
        self.assert_said(self.dut('wait', '18'), 68, 'there is no /jobs/18')


class Cancel(CliCase):
    def test_a_job(self):
        job = FakeJob(self.fake)
        ran = self.dut('cancel', '17', '--why', 'lunch')
        self.assertEqual((ran.rc, ran.out, ran.err), (0, '', ''))
        self.assertEqual(self.fake.asked('POST', '/jobs/17/cancel')[0].json(), {'why': 'lunch'})
        self.assertEqual(job.state['status'], 'CANCELLED')

    def test_the_job_of_a_board(self):
        FakeJob(self.fake)
        self.fake.on('GET', '/dut/vm-1', {'duts': {'vm-1': BUSY}})
        self.assertEqual(self.dut('cancel', 'vm-1').rc, 0)
        self.assertEqual(self.fake.asked('POST', '/jobs/17/cancel')[0].json(), {})

    def test_a_board_without_a_job(self):
        self.fake.on('GET', '/dut/bbb-1', {'duts': {'bbb-1': BOARD}})
        self.assert_said(self.dut('cancel', 'bbb-1'), 68, 'bbb-1 has no job')

    def test_somebody_elses(self):
        self.fake.on('POST', '/jobs/17/cancel', Answer({'error': 'job 17 is of alice'}, 403))
        self.assert_said(self.dut('cancel', '17'), 77, 'job 17 is of alice')

    def test_wrong_inputs(self):
        self.assert_usage('cancel', text='which DUT?')
        self.assert_usage('cancel', '17', '18', text='one argument too many')
        self.assert_usage('cancel', '17', '--why', text='--why needs TEXT')
        self.assert_usage('cancel', '17', '--why', '', text='--why is empty')
        self.assert_usage('cancel', '17', '--why', 'a', '--why', 'b', text='given twice')


class Power(CliCase):
    def test_switching_is_quiet(self):
        for word, state in (('on', 'ON'), ('off', 'OFF'), ('cycle', 'ON')):
            self.fake.on('PUT', '/dut/bbb-1/power', {'state': state, 'verified': True})
            ran = self.dut('power', word, 'bbb-1')
            self.assertEqual((ran.rc, ran.out, ran.err), (0, '', ''), ran)
            self.assertEqual(self.fake.requests[-1].json(), {'state': word})

    def test_another_state_than_the_wanted_is_a_fault(self):
        self.fake.on('PUT', '/dut/bbb-1/power', {'state': 'ON', 'error': 'stuck'})
        self.assert_said(self.dut('power', 'off', 'bbb-1'), 74,
                         'the power of bbb-1 is ON after that, not OFF: stuck')

    def test_get_is_one_word(self):
        for state in ('ON', 'OFF'):
            self.fake.on('GET', '/dut/bbb-1/power', {'state': state})
            ran = self.dut('power', 'get', env={'DUT_BOARD': 'bbb-1'})
            self.assertEqual((ran.rc, ran.out, ran.err), (0, state + '\n', ''))

    def test_unknown_is_a_fault(self):
        self.fake.on('GET', '/dut/bbb-1/power', {'state': 'UNKNOWN', 'error': 'no answer'})
        self.assert_said(self.dut('power', 'get', 'bbb-1'), 74,
                         'the power state of bbb-1 is unknown: no answer', out='UNKNOWN\n')
        self.fake.on('GET', '/dut/bbb-1/power', {'state': 'PURPLE\x1b'})
        self.assertEqual(self.dut('power', 'get', 'bbb-1').out, 'UNKNOWN\n')

    def test_json(self):
        self.fake.on('GET', '/dut/bbb-1/power', {'state': 'ON', 'verified': True})
        self.assertEqual(json.loads(self.dut('power', 'get', 'bbb-1', '--json').out),
                         {'state': 'ON', 'verified': True})

    def test_a_holder(self):
        self.fake.on('PUT', '/dut/bbb-1/power', Answer({'error': 'bbb-1 is held by alice'}, 409))
        self.assert_said(self.dut('power', 'on', 'bbb-1'), 75, 'bbb-1 is held by alice')

    def test_wrong_inputs(self):
        self.assert_usage('power', text='too few arguments')
        self.assert_usage('power', 'bbb-1', text="'bbb-1' is not on, off, cycle or get")
        self.assert_usage('power', 'ON', 'bbb-1', text="'ON' is not on, off, cycle or get")
        self.assert_usage('power', 'on', text='which DUT?')
        self.assert_usage('power', 'on', 'bbb-1', 'bbb-2', text='one argument too many')


class Alone(CliCase):
    def test_a_terminal_that_is_not_needed_is_not_touched(self):
        done = subprocess.run([DUT, 'version'], stdin=subprocess.DEVNULL, capture_output=True,
                              env={}, start_new_session=True, timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, 0)


if __name__ == '__main__':
    unittest.main()
