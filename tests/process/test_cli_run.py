# SPDX-License-Identifier: MIT
"""dut run and dut validate against a fake daemon and a fake validator."""

import io
import json
import os
import signal
import tarfile
import threading
import unittest

from tests.support.cli import JOB, PATIENCE, CliCase, FakeJob, tar_of
from tests.support.fakedutd import Answer, Pieces

STATUSES = {'PASS': 0, 'WARN': 1, 'COMPLETE': 2, 'FAIL': 3, 'INCOMPLETE': 4, 'UNKNOWN': 5,
            'SETUP_FAIL': 6, 'CANCELLED': 7}


class RunCase(CliCase):
    def validator(self, script=None, **answer):
        """Puts a dut-executor into the folder that gives this answer, or runs this script."""
        answer = {'v': 1, 'target': {'id': None, 'tags': []}, 'name': None, 'deadline': None,
                  'duts': [], 'notes': [], 'needs': {'bucket': []}, 'errors': [], **answer}
        self.write('answer.json', json.dumps(answer))
        script = script or f'cat >{self.folder}/question.json; cat {self.folder}/answer.json'
        self.write('dut-executor', f'#!/bin/sh\necho "$@" >{self.folder}/arguments\n{script}\n',
                   0o755)

    def question(self):
        self.assertEqual(self.read('arguments'), b'--validate\n')
        return json.loads(self.read('question.json'))

    def metadata(self):
        return json.loads(self.fake.asked('POST', '/jobs')[0].form()['metadata'])

    def bucket(self):
        tar = self.fake.asked('POST', '/jobs')[0].form()['job_bucket_initial_state_tarball_file']
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            return {entry.name: archive.extractfile(entry).read() if entry.isreg() else None
                    for entry in archive}


class Follow(RunCase):
    def test_console_on_stdout_messages_on_stderr_status_as_exit_code(self):
        job = FakeJob(self.fake)
        process = self.start('run', 'job.yml')
        job.log.put(b'\x00\xff U-Boot')
        self.assertEqual(process.stdout.read(9), b'\x00\xff U-Boot')
        self.assertEqual(process.stderr.readline(), b'dut: job 17 on bbb-1\n')
        job.event('power is on', 12.3456)
        self.assertEqual(process.stderr.readline(), b'+12.346s: power is on\n')
        job.log.put(b'\x1b[31mred')
        self.assertEqual(process.stdout.read(8), b'\x1b[31mred')
        job.end('FAIL', 'pattern_fail', 'saw "Oops"')
        ran = self.finish(process)
        self.assertEqual((ran.rc, ran.out), (3, ''))
        self.assertEqual(ran.err, 'dut: job 17 on bbb-1: FAIL (pattern_fail): saw "Oops"\n')

    def test_every_status_has_its_exit_code(self):
        for status, rc in STATUSES.items():
            FakeJob(self.fake).end(status, 'ok')
            ran = self.dut('run', 'job.yml')
            self.assertEqual(ran.rc, rc, ran)
            self.assertTrue(ran.err.endswith(f'\ndut: job 17 on bbb-1: {status} (ok)\n'), ran)

    def test_ok_turns_statuses_into_0(self):
        for status, rc in STATUSES.items():
            FakeJob(self.fake).end(status, 'ok')
            expected = 0 if status in ('WARN', 'COMPLETE') else rc
            self.assertEqual(self.dut('run', 'job.yml', '--ok', 'WARN,COMPLETE').rc, expected)

    def test_hostile_texts_do_not_reach_the_terminal(self):
        job = FakeJob(self.fake, dut='b\x1b[2J')
        job.event('a\x1b]0;x\x07\nb\u0085', -0.5)
        job.event('', None)
        job.events.put(b'no json\n[]\n{"type": "boot\\u001b", "elapsed": "x"}\n')
        job.end('FAIL', 'step:\x1b[H', '\r\x7f')
        self.assertEqual(self.dut('run', 'job.yml').err.splitlines(), [
            r'dut: job 17 on b\e[2J',
            r'-0.500s: a\e]0;x\x07\nb\xc2\x85',
            '',
            'dut: the daemon sent an event that cannot be read',
            'dut: the daemon sent an event that cannot be read',
            r'boot\e',
            r'dut: job 17 on b\e[2J: FAIL (step:\e[H): \r\x7f',
        ])

    def test_events_may_come_in_pieces(self):
        job = FakeJob(self.fake)
        for byte in b'{"elapsed": 1, "type": "boot", "text": "boot 1 begins"}\n':
            job.events.put(bytes((byte,)))
        job.end()
        self.assertIn('\n+1.000s: boot 1 begins\n', self.dut('run', 'job.yml').err)

    def test_an_event_without_an_end_is_bounded(self):
        job = FakeJob(self.fake)
        for _ in range(40):
            job.events.put(b'x' * 65536)
        job.events.put(b'\n')
        job.event('after that')
        job.end()
        ran = self.dut('run', 'job.yml')
        self.assertEqual(ran.rc, 0)
        self.assertIn('after that\n', ran.err)
        self.assertLess(len(ran.err), 1000)

    def test_the_end_is_waited_for_when_the_streams_are_over(self):
        job = FakeJob(self.fake)
        process = self.start('run', 'job.yml')
        job.log.end()
        job.events.end()
        self.fake.await_request('GET', '/jobs/17')
        job.end('WARN', 'warn')
        self.assertEqual(self.finish(process).rc, 1)

    def test_a_log_that_cannot_be_had_does_not_change_the_end(self):
        job = FakeJob(self.fake)
        self.fake.on('GET', '/jobs/17/log', Answer({'error': 'no'}, 429, {'Dut-Error': 'no'}))
        job.end('FAIL', 'no_success')
        ran = self.dut('run', 'job.yml')
        self.assertEqual(ran.rc, 3)
        self.assertIn('dut: no log of job 17: HTTP status 429: no\n', ran.err)

    def test_json_is_events_and_then_the_job(self):
        job = FakeJob(self.fake)
        job.event('a\x1bü', 1.5, 'power', state='ON')
        job.log.put(b'not here')
        job.end('FAIL', 'no_success')
        ran = self.dut('run', 'job.yml', '--json')
        event, end = (json.loads(line) for line in ran.out.splitlines())
        self.assertEqual((event['type'], event['text'], event['state']), ('power', 'a\x1bü', 'ON'))
        self.assertEqual(end, job.state)
        self.assertRegex(ran.raw, rb'\A[ -~\n]*\Z')
        self.assertEqual(ran.rc, 3)
        self.assertEqual(self.fake.asked('GET', '/jobs/17/log'), [])

    def test_results_go_to_the_output_and_nowhere_else(self):
        FakeJob(self.fake).end()
        before = sorted(os.listdir(self.folder))
        self.assertEqual(self.dut('run', 'job.yml').rc, 0)
        self.assertEqual(sorted(os.listdir(self.folder)), before)
        self.write('out/console.log', 'old')
        self.write('out/mine', 'mine')
        FakeJob(self.fake).end()
        ran = self.dut('run', 'job.yml', '--output', 'out')
        self.assertEqual(ran.rc, 0, ran)
        self.assertEqual(self.read('out/console.log'), b'hello\r\n')
        self.assertEqual(self.read('out/mine'), b'mine')

    def test_results_that_cannot_be_had_are_a_failure_of_their_own(self):
        for status, rc in (('PASS', 74), ('FAIL', 3)):
            FakeJob(self.fake).end(status)
            ran = self.dut('run', 'job.yml', '--output', 'job.yml/x')
            self.assertEqual(ran.rc, rc, ran)
            self.assertIn("results folder 'job.yml/x'", ran.err)
            self.assertTrue(ran.err.endswith(f'dut: job 17 on bbb-1: {status} (ok)\n'), ran)

    def test_detach_prints_the_id_and_leaves(self):
        FakeJob(self.fake)
        ran = self.dut('run', 'job.yml', '--detach')
        self.assertEqual((ran.rc, ran.out, ran.err), (0, '17\n', ''))
        self.assertEqual(self.metadata()['on_disconnect'], 'continue')
        self.assertEqual(self.dut('run', 'job.yml', '--detach', '--json').out, '{"id":"17"}\n')

    def test_a_reader_of_stdout_that_leaves_does_not_change_the_end(self):
        job = FakeJob(self.fake)
        process = self.start('run', 'job.yml')
        job.log.put(b'login:')
        self.assertEqual(process.stdout.read(6), b'login:')
        process.stdout.close()
        for _ in range(100):
            job.log.put(b'x' * 65536)
        job.end('WARN', 'warn')
        self.assertEqual(process.wait(PATIENCE), 1)
        self.assertEqual(process.stderr.read(),
                         b'dut: job 17 on bbb-1\ndut: job 17 on bbb-1: WARN (warn)\n')

    def test_a_full_disk_under_stdout_is_said(self):
        if not os.path.exists('/dev/full'):
            self.skipTest('no /dev/full')
        job = FakeJob(self.fake)
        job.log.put(b'x')
        job.end()
        with open('/dev/full', 'wb') as full:
            ran = self.finish(self.start('run', 'job.yml', stdout=full))
        self.assertEqual(ran.rc, 74, ran)
        self.assertIn('dut: cannot write to stdout: No space left on device\n', ran.err)


class Submission(RunCase):
    def test_the_job_goes_as_it_is(self):
        text = 'version: 1\r\n# \u00e4 {{ environ.X }}\n...'
        self.write('other.yml', text)
        FakeJob(self.fake).end()
        self.assertEqual(self.dut('run', 'other.yml').rc, 0)
        form = self.fake.asked('POST', '/jobs')[0].form()
        self.assertEqual(form['job'].decode(), text)
        self.assertEqual(set(form), {'metadata', 'job'})

    def test_metadata(self):
        FakeJob(self.fake).end()
        self.assertEqual(self.dut('run', 'job.yml').rc, 0)
        metadata = self.metadata()
        self.assertRegex(metadata.pop('submission_id'), r'\A[0-9a-f]{32}\Z')
        self.assertEqual(metadata, {'version': 1, 'name': None, 'target': None, 'environ': {},
                                    'on_disconnect': 'cancel'})

    def test_what_the_options_say(self):
        FakeJob(self.fake).end()
        self.assertEqual(self.dut('run', 'job.yml', '--tag', 'bbb', '--tag=arch:armhf',
                                  '--var', 'A=b=c', '--var', '_x1=', '--name', 'bisect "usb"',
                                  '--ignore-deadline').rc, 0)
        metadata = self.metadata()
        self.assertEqual(metadata['target'], {'id': None, 'tags': ['bbb', 'arch:armhf']})
        self.assertEqual(metadata['environ'], {'A': 'b=c', '_x1': ''})
        self.assertEqual(metadata['name'], 'bisect "usb"')
        self.assertIs(metadata['ignore_deadline'], True)

    def test_two_submissions_have_two_ids(self):
        FakeJob(self.fake).end()
        self.dut('run', 'job.yml', '--detach')
        self.dut('run', 'job.yml', '--detach')
        ids = {json.loads(r.form()['metadata'])['submission_id']
               for r in self.fake.asked('POST', '/jobs')}
        self.assertEqual(len(ids), 2)

    def test_a_folder_as_bucket_with_files(self):
        FakeJob(self.fake).end()
        self.write('b/tests/run.sh', 'echo', 0o755)
        self.write('b/x', 'x')
        os.symlink('x', self.path('b/link'))
        self.write('vmlinuz', b'\x00kernel')
        ran = self.dut('run', 'job.yml', '--bucket', 'b', '--file', 'boot/kernel=vmlinuz')
        self.assertEqual(ran.rc, 0, ran)
        self.assertEqual(self.bucket(), {'tests': None, 'tests/run.sh': b'echo', 'x': b'x',
                                         'link': None, 'boot/kernel': b'\x00kernel'})

    def test_files_alone(self):
        FakeJob(self.fake).end()
        self.write('k', b'k' * 300000)
        self.assertEqual(self.dut('run', 'job.yml', '--file', 'k=k').rc, 0)
        self.assertEqual(self.bucket(), {'k': b'k' * 300000})

    def test_a_tar_goes_as_it_is(self):
        FakeJob(self.fake).end()
        tar = tar_of({'a': os.urandom(1000000)})
        self.write('b.tar', tar)
        self.assertEqual(self.dut('run', 'job.yml', '--bucket', 'b.tar').rc, 0)
        form = self.fake.asked('POST', '/jobs')[0].form()
        self.assertEqual(form['job_bucket_initial_state_tarball_file'], tar)

    def test_no_temporary_file_stays(self):
        FakeJob(self.fake).end()
        os.mkdir(self.path('tmp'))
        self.environment['TMPDIR'] = self.path('tmp')
        self.assertEqual(self.dut('run', 'job.yml', '--file', 'x=job.yml').rc, 0)
        self.assertEqual(os.listdir(self.path('tmp')), [])

    def test_a_busy_board(self):
        text = 'bbb-1 is held by alice (job 17, "bisect usb") until 14:32'
        for status in (409, 429):
            self.fake.on('POST', '/jobs', Answer({'error': text}, status))
            self.assert_said(self.dut('run', 'job.yml'), 75, text)

    def test_a_busy_board_that_could_be_waited_for(self):
        text = 'bbb-1 is held by alice (job 17, "bisect usb") until 14:32; you are 2nd'
        self.fake.on('POST', '/jobs', Answer({'error': text, 'dut': 'bbb-1', 'place': 2}, 409))
        self.assert_said(self.dut('run', 'job.yml'), 75, f'{text}. Wait with --wait 30m.')

    def test_what_is_sent_of_the_queue(self):
        for arguments, expected in (
                ((), {}), (('--wait', '30m'), {'wait': '30m'}),
                (('--wait=forever',), {'wait': 'forever'}),
                (('--priority', '-100'), {'priority': -100}), (('--priority=0',), {}),
                (('--priority', '7', '--wait', '0'), {'priority': 7, 'wait': '0'})):
            FakeJob(self.fake).end()
            self.fake.requests.clear()
            self.assertEqual(self.dut('run', 'job.yml', *arguments).rc, 0)
            metadata = self.metadata()
            self.assertEqual({key: metadata[key] for key in ('wait', 'priority')
                              if key in metadata}, expected)

    def test_what_a_job_waits_for(self):
        """A line for it, another one when that changes, and one when it begins."""
        job = FakeJob(self.fake, dut=None, state='WAITING', place=2, cause='b1 is held by bob')
        self.fake.on('POST', '/jobs', Answer({'id': '17', 'dut': None, 'state': 'WAITING',
                                              'place': 2}, 201))
        asked = []

        def get(request):
            asked.append(request.query)
            if 'place' not in request.query and 'wait' in request.query:
                return job.get(request)
            if asked[:-1]:
                job.state.update({'place': 1} if len(asked) == 3 else
                                 {'dut': 'b1', 'state': 'RUNNING'} if len(asked) == 4 else {})
            return dict(job.state)
        self.fake.on('GET', '/jobs/17', get)
        process = self.start('run', 'job.yml', '--wait', '1h')
        for line in (b'dut: job 17\n', b'dut: job 17 waits: b1 is held by bob; you are 2nd\n',
                     b'dut: job 17 waits: b1 is held by bob; you are 1st\n',
                     b'dut: job 17 begins on b1\n'):
            self.assertEqual(process.stderr.readline(), line)
        job.end()
        self.assertEqual(self.finish(process).rc, 0)
        self.assertEqual(asked[:4], [{}] + [{'wait': '60', 'place': place}
                                            for place in ('2', '2', '1')])

    def test_the_wait_that_ran_out(self):
        """It is a status like others, but what scripts ask for is the --wait."""
        for arguments, rc in ((('run', 'job.yml', '--wait', '1s'), 124),
                              (('run', 'job.yml', '--wait', '1s', '--ok', 'SETUP_FAIL'), 0),
                              (('wait', '17'), 124)):
            FakeJob(self.fake).end('SETUP_FAIL', 'queue_timeout')
            self.assertEqual(self.dut(*arguments).rc, rc)

    def test_the_daemons_errors_in_the_job_have_their_places(self):
        self.fake.on('POST', '/jobs', Answer({'error': 'bad job', 'errors': [
            {'line': 3, 'column': 7, 'text': "unknown key 'x\x1b'", 'key': 'x'},
            {'line': 0, 'column': 0, 'text': 'no target', 'key': None},
            {'line': 9, 'column': 0, 'text': 'odd'}]}, 400))
        ran = self.dut('run', 'job.yml')
        self.assertEqual((ran.rc, ran.out), (65, ''))
        self.assertEqual(ran.err, "job.yml:3:7: unknown key 'x\\e'\njob.yml: no target\n"
                                  'job.yml:9: odd\n')

    def test_other_refusals(self):
        self.fake.on('POST', '/jobs', Answer({'error': 'it is over limits.bucket'}, 413))
        self.write('big', b'x' * 8000000)
        self.assert_said(self.dut('run', 'job.yml', '--file', 'x=big'), 65,
                         'it is over limits.bucket')
        self.fake.on('POST', '/jobs', Answer({'error': 'disk'}, 507))
        self.assert_said(self.dut('run', 'job.yml'), 74, 'disk')
        self.fake.on('POST', '/jobs', Answer({'version': 1}, 201))
        self.assert_said(self.dut('run', 'job.yml'), 70,
                         "the daemon's answer is not what it should be")

    def test_wrong_inputs(self):
        self.write('f', 'f')
        self.write('b/f', 'f')
        self.write('b.tar', tar_of({}))
        for arguments, text in (
                ((), 'too few arguments, it needs JOB.yml'),
                (('job.yml', 'x.yml'), "'x.yml' is one argument too many"),
                (('job.yml', '--dut', 'a', '--tag', 'b'), '--dut or --tag, not both'),
                (('job.yml', '--dut', 'a', '--dut', 'b'), '--dut is given twice'),
                (('job.yml', '--dut', 'a\x1b'), "--dut 'a\\e' is no name"),
                (('job.yml', '--wait', 'soon'), '--wait: '),
                (('job.yml', '--priority', '101'), "--priority '101' is no number from -100"),
                (('job.yml', '--priority=-101'), "--priority '-101' is no number from -100"),
                (('job.yml', '--priority', '--1'), "--priority '--1' is no number from -100"),
                (('job.yml', '--priority', 'high'), "--priority 'high' is no number from -100"),
                (('job.yml', '--tag', 'a\nb'), "--tag 'a\\nb' is no tag"),
                (('job.yml', '--var', 'x'), "--var 'x' is not K=V"),
                (('job.yml', '--var', '=x'), "--var '=' is not K=V"),
                (('job.yml', '--var', '1x=y'), "--var '1x=' is not K=V"),
                (('job.yml', '--var', 'a.b=y'), "--var 'a.b=' is not K=V"),
                (('job.yml', '--var', 'a=1', '--var', 'a=2'), '--var a is given twice'),
                (('job.yml', '--var', b'a=\xff'), '--var a: the value is not valid UTF-8'),
                (('job.yml', '--ok', 'good'), "'good' is no status"),
                (('job.yml', '--ok', 'WARN,,PASS'), "'' is no status"),
                (('job.yml', '--name', 'a\x07'), '--name is no printable text'),
                (('job.yml', '--file', 'x'), "--file 'x' is not NAME=PATH"),
                (('job.yml', '--file', 'x='), "--file 'x=' is not NAME=PATH"),
                (('job.yml', '--file', '=f'), "--file '=f' is not NAME=PATH"),
                (('job.yml', '--file', '/x=f'), "--file '/x=f' is not NAME=PATH"),
                (('job.yml', '--file', 'a/../x=f'), "--file 'a/../x=f' is not NAME=PATH"),
                (('job.yml', '--file', 'a/=f'), "--file 'a/=f' is not NAME=PATH"),
                (('job.yml', '--file', 'a=f', '--file', 'a=f'), '--file a is given twice'),
                (('job.yml', '--file', 'f=f', '--bucket', 'b'), 'the bucket has a file of that'),
                (('job.yml', '--file', 'x=f', '--bucket', 'b.tar'), 'not with a tar'),
                (('job.yml', '--detach', '--output', 'x'), '--detach does not wait for --output')):
            self.assert_usage('run', *arguments, text=text)

    def test_files_that_cannot_be_read(self):
        os.mkfifo(self.path('fifo'))
        for arguments, text in (
                (('no.yml',), "cannot read 'no.yml': No such file or directory"),
                (('.',), "cannot read '.': "),
                (('job.yml', '--bucket', 'none'), "cannot read the bucket 'none': No such file"),
                (('job.yml', '--bucket', 'fifo'), "the bucket 'fifo' is neither a folder nor"),
                (('job.yml', '--file', 'a=none'), "cannot read 'none': No such file"),
                (('job.yml', '--file', 'a=.'), "'.' is no regular file"),
                (('job.yml', '--file', 'a=fifo'), "'fifo' is no regular file")):
            ran = self.dut('run', *arguments)
            self.assertEqual((ran.rc, ran.out), (65, ''), ran)
            self.assertIn('dut: ' + text, ran.err)
        self.assertEqual(self.fake.requests, [])

    def test_a_job_that_is_no_text(self):
        for data, place in ((b'a: b\n  \xff', '2:3'), (b'a\0', '1:2'), (b'\xed\xa0\x80', '1:1')):
            self.write('bad.yml', data)
            ran = self.dut('run', 'bad.yml')
            self.assertEqual(ran.rc, 65)
            self.assertTrue(ran.err.startswith(f'bad.yml:{place}: not valid UTF-8 (byte 0x'), ran)
        self.write('big.yml', b'#' * 17000000)
        self.assert_said(self.dut('run', 'big.yml'), 65,
                         "'big.yml' is over 16 MiB: is it a job file?")


class LookAhead(RunCase):
    """What dut run asks the validator before it uploads."""

    def test_what_the_validator_is_asked(self):
        self.validator()
        FakeJob(self.fake).end()
        self.assertEqual(self.dut('run', 'job.yml', '--dut', 'vm-1', '--var', 'A=b').rc, 0)
        self.assertEqual(self.question(), {
            'v': 1, 'job': JOB, 'target': {'id': 'vm-1', 'tags': []}, 'duts': [],
            'environ': {'A': 'b'}, 'without_daemon': True, 'ignore_deadline': False})

    def test_errors_end_it_before_the_upload(self):
        self.validator(errors=[{'line': 1, 'column': 10, 'text': 'version 1 is meant', 'key': ''}])
        ran = self.dut('run', 'job.yml')
        self.assertEqual((ran.rc, ran.err), (65, 'job.yml:1:10: version 1 is meant\n'))
        self.assertEqual(self.fake.requests, [])

    def test_paths_that_are_not_in_the_bucket(self):
        self.validator(needs={'bucket': ['boot/kernel', 'dtb']})
        self.write('b/boot/kernel', 'k')
        self.write('k', 'k')
        self.write('b.tar', tar_of({'boot/kernel': b''}))
        missing = 'job.yml wants bucket:dtb, which is not in the bucket; see --bucket and --file'
        for arguments in (('--bucket', 'b'), ('--file', 'boot/kernel=k'), ('--bucket', 'b.tar')):
            self.assert_said(self.dut('run', 'job.yml', *arguments), 65, missing)
        self.assertEqual(self.dut('run', 'job.yml').err.count('which is not in the bucket'), 2)
        self.assertEqual(self.fake.requests, [])

    def test_paths_that_are_in_the_bucket(self):
        self.validator(needs={'bucket': ['boot/kernel', 'dtb']})
        FakeJob(self.fake).end()
        self.write('b/boot/kernel', 'k')
        self.write('b.tar', tar_of({'./boot/kernel': b'', 'dtb': b''}))
        for arguments in (('--bucket', 'b', '--file', 'dtb=job.yml'), ('--bucket', 'b.tar'),
                          ('--file', 'boot/kernel=job.yml', '--file', 'dtb=job.yml')):
            self.assertEqual(self.dut('run', 'job.yml', '--detach', *arguments).rc, 0)

    def test_a_bucket_that_is_no_tar(self):
        self.validator(needs={'bucket': ['x']})
        ran = self.dut('run', 'job.yml', '--bucket', 'job.yml')
        self.assertEqual(ran.rc, 65)
        self.assertIn("dut: the bucket 'job.yml': the archive cannot be read", ran.err)

    def test_the_board_of_the_environment_is_for_jobs_without_a_target(self):
        board = {'DUT_BOARD': 'vm-1'}
        for target, arguments, expected in (
                ({'id': None, 'tags': []}, (), {'id': 'vm-1', 'tags': []}),
                ({'id': 'bbb-1', 'tags': []}, (), None),
                ({'id': None, 'tags': ['t']}, (), None),
                ({'id': None, 'tags': []}, ('--dut', 'x'), {'id': 'x', 'tags': []}),
                ({'id': None, 'tags': []}, ('--tag', 'x'), {'id': None, 'tags': ['x']})):
            self.validator(target=target)
            FakeJob(self.fake).end()
            self.fake.requests.clear()
            self.assertEqual(self.dut('run', 'job.yml', *arguments, env=board).rc, 0)
            self.assertEqual(self.metadata()['target'], expected)

    def test_a_validator_that_fails_leaves_it_to_the_daemon(self):
        for script, text in (('exit 3', 'it exited with 3'),
                             ('kill -9 $$', 'it was killed by signal 9'),
                             ('echo no', 'its answer is not JSON'),
                             ('yes', 'its answer is too long')):
            FakeJob(self.fake).end()
            self.validator(script)
            ran = self.dut('run', 'job.yml')
            self.assertEqual(ran.rc, 0, ran)
            self.assertIn(f'dut: {self.folder}/dut-executor --validate: {text}; the daemon will '
                          'check the job\n', ran.err)


class Signals(RunCase):
    def test_without_a_terminal_each_cancels_and_waits_for_the_end(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            job = FakeJob(self.fake)
            process = self.start('run', 'job.yml')
            job.log.put(b'x')
            self.assertEqual(process.stdout.read(1), b'x')
            process.send_signal(number)
            ran = self.finish(process)
            self.assertEqual(ran.rc, 7, ran)
            why = f'dut run got {number.name}'
            self.assertEqual(self.fake.asked('POST', '/jobs/17/cancel')[-1].json(), {'why': why})
            self.assertTrue(ran.err.endswith(f'CANCELLED (cancelled): {why}\n'), ran)

    def test_results_of_a_cancelled_job_are_there(self):
        job = FakeJob(self.fake)
        process = self.start('run', 'job.yml', '--output', 'out')
        job.log.put(b'x')
        self.assertEqual(process.stdout.read(1), b'x')
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process).rc, 7)
        self.assertEqual(self.read('out/console.log'), b'hello\r\n')

    def test_a_job_that_ends_by_itself_meanwhile_keeps_its_status(self):
        job = FakeJob(self.fake)
        def late(_):
            job.end('PASS', 'ok')
            return Answer({'error': 'job 17 has ended'}, 409)
        self.fake.on('POST', '/jobs/17/cancel', late)
        process = self.start('run', 'job.yml')
        self.fake.await_request('GET', '/jobs/17/events')
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process).rc, 0)

    def test_stdout_and_stderr_that_nobody_reads_do_not_stop_the_cancel(self):
        job = FakeJob(self.fake)
        process = self.start('run', 'job.yml')
        for _ in range(200):
            job.log.put(b'x' * 65536)
            job.event('y' * 10000)
        self.assertEqual(process.stdout.read(1), b'x')
        self.fake.await_request('GET', '/jobs/17/events')
        process.send_signal(signal.SIGTERM)
        self.fake.await_request('POST', '/jobs/17/cancel')
        self.assertEqual(process.wait(PATIENCE), 7)

    def test_output_that_nobody_reads_does_not_stop_the_cancel_when_it_is_one_pipe(self):
        job = FakeJob(self.fake)
        read, write = os.pipe()
        process = self.start('run', 'job.yml', stdout=write, stderr=write)
        os.close(write)
        for _ in range(200):
            job.log.put(b'x' * 65536)
        self.assertTrue(os.read(read, 1))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE), 7)
        os.close(read)

    def test_who_does_not_want_to_wait_for_the_end_asks_three_times(self):
        job = FakeJob(self.fake)
        self.fake.on('POST', '/jobs/17/cancel', lambda _: job.state)
        process = self.start('run', 'job.yml')
        self.fake.await_request('GET', '/jobs/17/events')
        process.send_signal(signal.SIGTERM)
        self.fake.await_request('POST', '/jobs/17/cancel')
        self.assertEqual(process.stderr.readline(), b'dut: job 17 on bbb-1\n')
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.stderr.readline(),
                         b'dut: job 17 is being cancelled; once more leaves without waiting for '
                         b'it\n')
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process).rc, 130)
        job.end()

    def test_a_signal_during_the_upload_stops_it(self):
        # Nobody reads: the upload fills the socket and stays there.
        held = threading.Event()
        self.addCleanup(held.set)
        self.fake.server.process_request = lambda *_: held.wait(PATIENCE)
        self.write('big', b'x' * 20000000)
        process = self.start('run', 'job.yml', '--file', 'x=big')
        with self.fake.changed:
            self.fake.changed.wait_for(lambda: self.fake.connections, PATIENCE)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process).rc, 130)
        held.set()

    def test_a_signal_while_the_daemon_thinks_cancels_the_job(self):
        job = FakeJob(self.fake)
        thinking = Pieces()

        def submit(_):
            for _ in thinking:
                pass
            return Answer({'version': 1, 'id': 17, 'dut': None}, 201)
        self.fake.on('POST', '/jobs', submit)
        process = self.start('run', 'job.yml', '--detach')
        self.fake.await_request('POST', '/jobs')
        process.send_signal(signal.SIGTERM)
        # The second is too much; the first is the one that counts.
        thinking.end()
        ran = self.finish(process)
        self.assertEqual(ran.rc, 7, ran)
        self.assertEqual(job.state['status'], 'CANCELLED')


class AtATerminal(RunCase):
    def begin(self, *arguments):
        self.job = FakeJob(self.fake)
        terminal = self.terminal('run', 'job.yml', *arguments)
        self.job.log.put(b'booting')
        terminal.expect('booting')
        return terminal

    def test_ctrl_c_asks_and_goes_on_after_enter(self):
        terminal = self.begin()
        terminal.type('\x03')
        terminal.expect('dut: job 17 on bbb-1 goes on. Cancel it (c), leave it alone (l), or go '
                        'on watching (Enter)? ')
        self.job.log.put(b'said meanwhile')
        terminal.type('\n')
        terminal.expect('said meanwhile')
        self.job.end()
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(self.fake.asked('POST', '/jobs/17/cancel'), [])

    def test_ctrl_c_and_c_cancels(self):
        terminal = self.begin()
        terminal.type('\x03')
        terminal.expect('(Enter)? ')
        terminal.type('c\n')
        self.assertEqual(terminal.wait(), 7)
        self.assertEqual(self.fake.asked('POST', '/jobs/17/cancel')[0].json(), {'why': 'Ctrl-C'})

    def test_ctrl_c_and_l_leaves_it(self):
        terminal = self.begin()
        terminal.type('\x03')
        terminal.expect('(Enter)? ')
        terminal.type(' L\n')
        self.assertEqual(terminal.wait(), 130)
        self.assertIn("dut: job 17 goes on; 'dut wait 17' follows it", terminal.text)
        self.assertEqual(self.fake.asked('POST', '/jobs/17/cancel'), [])
        self.assertEqual(len(self.fake.asked('DELETE', '/jobs/17/binding')), 1)
        self.job.end()

    def test_a_second_ctrl_c_cancels(self):
        terminal = self.begin()
        terminal.type('\x03')
        terminal.expect('(Enter)? ')
        terminal.type('\x03')
        self.assertEqual(terminal.wait(), 7)

    def test_a_job_that_ends_takes_the_question_back(self):
        terminal = self.begin()
        terminal.type('\x03')
        terminal.expect('(Enter)? ')
        self.job.end('FAIL', 'no_success')
        # Its end is asked for when the streams are over, which they are although nobody sees it.
        self.assertEqual(terminal.wait(), 3)

    def test_term_does_not_ask(self):
        terminal = self.begin()
        terminal.process.send_signal(signal.SIGTERM)
        self.assertEqual(terminal.wait(), 7)

    def test_a_terminal_that_goes_away_cancels(self):
        terminal = self.begin()
        os.close(terminal.master)
        self.assertEqual(terminal.process.wait(PATIENCE), 7)
        terminal.master = os.open(os.devnull, os.O_RDONLY)


class DaemonGoesAway(RunCase):
    def test_in_the_middle_of_a_job(self):
        job = FakeJob(self.fake)
        process = self.start('run', 'job.yml', '--output', 'out', '--reconnect', '0')
        job.log.put(b'x')
        self.assertEqual(process.stdout.read(1), b'x')
        self.fake.await_request('GET', '/jobs/17/events')
        self.fake.die()
        ran = self.finish(process)
        self.assertEqual(ran.rc, 69, ran)
        self.assertEqual(ran.err.count(f'dut: lost the daemon at {self.socket}'), 1)
        self.assertIn("dut: job 17 goes on without us, and is cancelled when it was bound to us "
                      "and dutd has missed us for timeouts.client; 'dut wait 17' follows it to "
                      "its end, 'dut log 17' shows it\n", ran.err)
        self.assertFalse(os.path.exists(self.path('out')))

    def test_after_the_streams_have_ended(self):
        job = FakeJob(self.fake)
        process = self.start('run', 'job.yml', '--reconnect', '0')
        job.log.end()
        job.events.end()
        self.fake.await_request('GET', '/jobs/17')
        self.fake.die()
        ran = self.finish(process)
        self.assertEqual(ran.rc, 69, ran)
        self.assertIn("'dut wait 17'", ran.err)

    def test_before_it_answers_the_submission(self):
        def hang_up(_):
            raise ConnectionAbortedError
        self.fake.on('POST', '/jobs', hang_up)
        ran = self.dut('run', 'job.yml', '--reconnect', '300ms')
        self.assertEqual(ran.rc, 69, ran)
        # It was one submission all the time.
        metadata = [json.loads(request.form()['metadata'])
                    for request in self.fake.asked('POST', '/jobs')]
        self.assertGreater(len(metadata), 1)
        self.assertTrue(all(again == metadata[0] for again in metadata))
        self.assertIn("dut: the daemon may have taken the job before that; see 'dut jobs'\n",
                      ran.err)

    def test_it_is_not_there(self):
        self.fake.die()
        ran = self.dut('run', 'job.yml')
        self.assertEqual(ran.rc, 69, ran)
        self.assertIn(f'no daemon listens at {self.socket}', ran.err)
        self.assertEqual(ran.err.count('\n'), 1)


class Validate(RunCase):
    def test_a_good_job(self):
        self.validator(notes=['environ.X may be\x1b anything'])
        self.fake.die()
        ran = self.dut('validate', 'job.yml')
        self.assertEqual((ran.rc, ran.out), (0, 'job.yml: ok\n'))
        self.assertEqual(ran.err, 'job.yml: note: environ.X may be\\e anything\n')

    def test_what_the_validator_is_asked(self):
        self.validator()
        self.dut('validate', 'job.yml', '--tag', 'a', '--tag', 'b', '--var', 'X=1',
                 '--ignore-deadline')
        self.assertEqual(self.question(), {
            'v': 1, 'job': JOB, 'target': {'id': None, 'tags': ['a', 'b']}, 'duts': [],
            'environ': {'X': '1'}, 'without_daemon': True, 'ignore_deadline': True})
        self.dut('validate', 'job.yml')
        self.assertIsNone(self.question()['target'])

    def test_every_error_with_its_place(self):
        errors = [{'line': n, 'column': 2, 'text': f'error {n}', 'key': 'k'} for n in (1, 2, 3)]
        self.validator(errors=errors)
        ran = self.dut('validate', 'job.yml')
        self.assertEqual((ran.rc, ran.out), (65, ''))
        self.assertEqual(ran.err, ''.join(f'job.yml:{n}:2: error {n}\n' for n in (1, 2, 3)))

    def test_json(self):
        self.validator(errors=[{'line': 1, 'column': 2, 'text': 'x', 'key': None}])
        ran = self.dut('validate', 'job.yml', '--json')
        self.assertEqual(ran.rc, 65)
        self.assertEqual(json.loads(ran.out)['errors'][0]['text'], 'x')

    def test_a_job_larger_than_a_pipe(self):
        self.validator('cat >/dev/null; cat answer.json',
                       errors=[{'line': 1, 'column': 1, 'text': 'x' * 300000, 'key': None}])
        self.write('large.yml', '#' * 1000000)
        ran = self.dut('validate', 'large.yml')
        self.assertEqual((ran.rc, len(ran.err)), (65, 300000 + len('large.yml:1:1: \n')))

    def test_where_the_validator_is(self):
        ran = self.dut('validate', 'job.yml')
        self.assertEqual(ran.rc, 70)
        self.assertIn(f'{self.folder}/dut-executor: No such file or directory; name its folder '
                      'with --libexec-dir or DUT_LIBEXEC_DIR\n', ran.err)
        self.validator()
        self.environment['DUT_LIBEXEC_DIR'] = '/nowhere'
        self.assertEqual(self.dut('validate', 'job.yml', '--libexec-dir', self.folder).rc, 0)

    def test_a_validator_that_fails(self):
        self.validator('exit 9')
        self.assert_said(self.dut('validate', 'job.yml'), 70,
                         f'{self.folder}/dut-executor --validate: it exited with 9')

    def test_wrong_inputs(self):
        self.assert_usage('validate', text='too few arguments')
        self.assert_usage('validate', 'a', 'b', text='one argument too many')
        self.assert_usage('validate', 'job.yml', '--bucket', 'x', text='unknown option')
        self.assert_usage('validate', 'job.yml', '--var', 'x', text='is not K=V')
        self.assert_usage('validate', 'job.yml', '--dut', 'a', '--tag', 'b', text='not both')
        self.assert_said(self.dut('validate', 'no.yml'), 65,
                         "cannot read 'no.yml': No such file or directory")


if __name__ == '__main__':
    unittest.main()
