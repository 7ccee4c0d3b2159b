# SPDX-License-Identifier: MIT
"""Whole jobs on a real dutd: every status and reason, and what the person gets of them."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import socket
import threading
import unittest

from tests.support.harness import Lab, linux_artifacts

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
TEST = BOOT + 'at 60ms send "test: start\\r\\n"\nat 100ms send "test: {}\\r\\n"\n' \
    'at 140ms send "[    1.5] reboot: Power Down\\r\\n"\n'

# NAME: (script, job, status, reason, exit code)
CASES = {
    'pass': (TEST.format('ok'),
             'console_patterns: {job_success: "test: ok$"}', 'PASS', 'ok', 0),
    'warn': (TEST.format('ok'),
             'console_patterns: {job_success: "test: ok$", job_warn: {regex: "test: start"}}',
             'WARN', 'warn', 1),
    'complete': (TEST.format('ok'), 'console_patterns: {}', 'COMPLETE', 'ok', 2),
    'no-success': (TEST.format('broken'),
                   'console_patterns: {job_success: "test: ok$"}', 'FAIL', 'no_success', 3),
    'job-fail': (TEST.format('broken'),
                 'console_patterns: {job_success: "test: ok", job_fail: "test: broken"}',
                 'FAIL', 'pattern_fail', 3),
    'overall': (BOOT, 'timeouts: {overall: 400ms}\nconsole_patterns: {}',
                'INCOMPLETE', 'timeout:overall', 4),
    'boot-cycle': (BOOT, 'timeouts: {boot_cycle: {milliseconds: 150, retries: 1}}\n'
                   'console_patterns: {}', 'INCOMPLETE', 'timeout:boot_cycle', 4),
    'first-activity': ('at 30s send "late"\n',
                       'timeouts: {first_console_activity: {for: 200ms, retries: 2}}\n'
                       'console_patterns: {}',
                       'INCOMPLETE', 'timeout:first_console_activity', 4),
    'activity': (BOOT + 'at 50ms send "last words\\r\\n"\nat 60ms silent\n',
                 'timeouts: {console_activity: 300ms}\nconsole_patterns: {}',
                 'INCOMPLETE', 'timeout:console_activity', 4),
    'crash': (BOOT + 'at 50ms send "half a li"\nat 60ms crash\n',
              'timeouts: {console_activity: 300ms}\nconsole_patterns: {}',
              'INCOMPLETE', 'timeout:console_activity', 4),
    'poweroff': (BOOT + 'at 50ms poweroff\n',
                 'timeouts: {console_activity: 300ms}\nconsole_patterns: {}',
                 'INCOMPLETE', 'timeout:console_activity', 4),
    'watchdog': (BOOT + 'at 50ms send "suite begin\\r\\n"\nat 90ms send "test 1 ok\\r\\n"\n',
                 'timeouts: {watchdogs: {suite: {milliseconds: 200}}}\n'
                 'console_patterns: {watchdogs: {suite: {start: {regex: "suite begin"}, '
                 'reset: {regex: "test [0-9]+ ok"}, stop: {regex: "suite end"}}}}',
                 'INCOMPLETE', 'timeout:watchdogs.suite', 4),
    'unfit': (BOOT + 'at 50ms send "wrong board\\r\\n"\n',
              'console_patterns: {machine_unfit_for_service: "wrong board"}',
              'INCOMPLETE', 'unfit', 4),
    'bare-cr-lf': (TEST.format('ok').replace('\\r\\n', '\\r\\r\\n'),
                   'console_patterns: {job_success: "test: ok\\r$"}', 'PASS', 'ok', 0),
    'bare-lf': (TEST.format('ok').replace('\\r\\n', '\\n'),
                'console_patterns: {job_success: "^test: ok\\r?$"}', 'PASS', 'ok', 0),
    'prompt': (BOOT + 'at 50ms send "login: "\n',
               'console_patterns: {session_end: "login: ", job_success: "login: "}',
               'PASS', 'ok', 0),
}


class Statuses(unittest.TestCase):
    def test_each_on_a_sim_board(self):
        """All at once, each on a board of its own, through `dut run`."""
        with Lab() as lab:
            for name, (script, *_) in CASES.items():
                lab.sim(name, script)
            lab.start()
            running = {}
            for name, (_, text, *_) in CASES.items():
                job = lab.write(f'jobs/{name}.yml', 'version: 1\n' + text + '\n')
                running[name] = lab.spawn_dut('run', '--dut', name, '--output',
                                              lab.path('out', name), job)
            for name, process in running.items():
                _, err = process.communicate(timeout=60)
                with self.subTest(name):
                    _, _, status, reason, code = CASES[name]
                    self.assertEqual(process.returncode, code, err)
                    with open(lab.path('out', name, 'result.json'), encoding='utf-8') as file:
                        result = json.load(file)
                    self.assertEqual((result['status'], result['reason']), (status, reason))
                    self.check_files(lab.path('out', name), result)
                    self.check_board(lab, name)

    def check_files(self, folder, result):
        """Offsets of result, events and index agree with the log."""
        with open(os.path.join(folder, 'console.log'), 'rb') as file:
            log = file.read()
        with open(os.path.join(folder, 'events.jsonl'), encoding='utf-8') as file:
            events = [json.loads(line) for line in file]
        with open(os.path.join(folder, 'console.idx'), encoding='ascii') as file:
            index = file.read().splitlines()
        base = result['console_base']
        self.assertEqual([event['seq'] for event in events], list(range(len(events))))
        self.assertEqual(events[-1]['type'], 'job_state')
        self.assertEqual(events[-1]['status'], result['status'])
        for name, matches in result['patterns'].items():
            for match in matches:
                at = match['offset'] - base
                self.assertTrue(log[at:].startswith(match['line'].encode()), (name, match))
        self.assertTrue(index[0].startswith(f'dut-idx 1 {base} '), index[0])
        for line in index[1:]:
            kind, offset, *_ = line.split(' ', 3)
            self.assertIn(kind, 'tm')
            self.assertLessEqual(base, int(offset))
            self.assertLessEqual(int(offset), base + len(log))
        self.assertEqual(len(result['boots']),
                         [event['type'] for event in events].count('boot'))

    def check_board(self, lab, name):
        """Switched on once for each boot, and off at the end."""
        lab.await_board(name, 'IDLE')
        self.assertEqual(lab.board_state(name)['power']['state'], 'OFF')
        edges = [entry['event'] for entry in lab.record(name) if entry['event'] in ('on', 'off')]
        self.assertEqual(edges, ['on', 'off'] * (len(edges) // 2))
        boots = {'boot-cycle': 2, 'first-activity': 3}.get(name, 1)
        self.assertEqual(edges.count('on'), boots)

    def test_reboot_with_another_deployment(self):
        """session_reboot takes `continue`, and spends the retries of boot_cycle."""
        script = ('boot 1\nat 10ms send "please reboot\\r\\n"\n'
                  'boot 2\nat 10ms send "all done\\r\\n"\n')
        text = ('timeouts: {boot_cycle: {for: 20s, retries: 1}}\n'
                'console_patterns: {session_reboot: "please reboot", session_end: "all done"}\n')
        with Lab() as lab:
            lab.sim('b1', script)
            lab.start()
            job = lab.run_job(text, 'b1')
            self.assertEqual((job['status'], job['reason']), ('COMPLETE', 'ok'))
            result = lab.result(job['id'])
            self.assertEqual(result['submitted'], job['submitted'])
            self.assertEqual(result['timeouts']['boot_cycle']['retried'], 1)
            self.assertEqual([boot['n'] for boot in result['boots']], [1, 2])
            deployments = [event['deployment'] for event in lab.events(job['id'])
                           if event['type'] == 'boot']
            self.assertEqual(deployments, ['start', 'continue'])

    def test_every_byte_value_reaches_everybody(self):
        script = 'at 10ms send "{}"\nat 50ms send "\\r\\nthe end\\r\\n"\n'.format(
            ''.join(f'\\x{byte:02x}' for byte in range(256)))
        with Lab() as lab:
            sent = lab.path('sent.bin')
            lab.sim('b1', script, options={'sent': sent})
            lab.start()
            job = lab.write('job.yml', 'console_patterns: {session_end: "the end"}\n')
            run = lab.dut('run', '--dut', 'b1', '--output', lab.path('out'), job)
            self.assertEqual(run.rc, 2, run)
            with open(sent, 'rb') as file:
                expected = file.read()
            self.assertIn(bytes(range(256)), expected)
            self.assertEqual(run.raw, expected)
            with open(lab.path('out', 'console.log'), 'rb') as file:
                self.assertEqual(file.read(), expected)


class SetupFails(unittest.TestCase):
    """On a QEMU board: it has a deploy driver. It is never switched on."""

    def check(self, text, reason, bucket=None, status='SETUP_FAIL'):
        with Lab() as lab, Files() as files:
            lab.uboot('ub')
            lab.start()
            job = lab.run_job(text.replace('@', files.url), 'ub', bucket=bucket)
            self.assertEqual((job['status'], job['reason']), (status, reason), job['message'])
            self.assertTrue(job['message'])
            self.assertEqual(lab.result(job['id'])['boots'], [])
            lab.await_board('ub', 'IDLE')
            return job

    @staticmethod
    def kernel(url, more='', head=''):
        return (f'{head}\nconsole_patterns: {{}}\n'
                f'deployment: {{start: {{kernel: {{url: "{url}"{more}}}}}}}\n')

    def test_not_found(self):
        job = self.check(self.kernel('@/missing'), 'download')
        self.assertIn('404', job['message'])
        self.assertEqual(job['verdict'], 'job')

    def test_nobody_listens(self):
        self.check(self.kernel('http://127.0.0.1:1/kernel'), 'download')

    def test_checksum(self):
        self.check(self.kernel('@/kernel', f', sha256: "{"0" * 64}"'), 'checksum')

    def test_missing_in_the_bucket(self):
        job = self.check(self.kernel('bucket:kernel'), 'bucket', bucket={'other': b'x'})
        self.assertIn('kernel', job['message'])

    def test_no_archive(self):
        self.check('console_patterns: {}', 'bucket', bucket=b'this is no archive' * 100)

    def test_archive_that_leaves_its_folder(self):
        self.check('console_patterns: {}', 'bucket', bucket={'../escape': b'x'})

    def test_infra_setup(self):
        self.check(self.kernel('@/stall', head='timeouts: {infra_setup: 300ms}'),
                   'timeout:infra_setup')

    def test_overall_before_power(self):
        self.check(self.kernel('@/stall', head='timeouts: {overall: 300ms}'), 'timeout:overall')


class Files:
    """A web server: /kernel is there, /stall never answers, the rest is not found."""

    def __enter__(self):
        release = self.release = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == '/stall':
                    release.wait(60)
                    return
                if self.path != '/kernel':
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header('Content-Length', '6')
                self.end_headers()
                self.wfile.write(b'kernel')

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        return self

    def __exit__(self, *_):
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class PowerThatCannotBeTrusted(unittest.TestCase):
    JOB = 'console_patterns: {session_end: Linux}\n'

    def test_an_off_that_is_ignored_once(self):
        """The job's end stands; the board is BORKED until the next try is read back."""
        with Lab(leftovers_allowed=True) as lab:
            lab.sim('b1', 'ignore off 1\n' + BOOT)
            lab.start()
            job = lab.run_job(self.JOB, 'b1')
            self.assertEqual((job['status'], job['reason']), ('COMPLETE', 'ok'))
            found = lab.await_board('b1', 'BORKED')
            self.assertIn('reads back ON', lab.board_state('b1')['message'])
            self.assertIn(f'job {job["id"]}', lab.board_state('b1')['message'])
            self.assertEqual(lab.submit(self.JOB, 'b1').status, 409)
            self.assertEqual(lab.dut('power', 'get', 'b1').out.strip(), 'ON')
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')
            self.assertTrue(found)

    def test_a_unit_that_fails(self):
        with Lab(leftovers_allowed=True) as lab:
            lab.sim('b1', 'fail off "the fuse is blown"\n' + BOOT)
            lab.sim('b2', 'fail on "no current"\n' + BOOT)
            lab.start()
            job = lab.run_job(self.JOB, 'b2')
            self.assertEqual((job['status'], job['reason'], job['verdict']),
                             ('INCOMPLETE', 'power', 'lab'))
            self.assertIn('no current', job['message'])
            job = lab.run_job(self.JOB, 'b1')
            self.assertEqual((job['status'], job['reason']), ('SETUP_FAIL', 'power'))
            self.assertIn('the fuse is blown', job['message'])
            lab.await_board('b1', 'BORKED')
            self.assertIn('the fuse is blown', lab.dut('show', 'b1').out)
            run = lab.dut('power', 'off', 'b1')
            self.assertEqual(run.rc, 74, run)
            self.assertIn('the fuse is blown', run.err)

    def test_a_fault_that_is_cut_inside_a_character(self):
        """The text is longer than an error may be; whatever carries it still does."""
        with Lab() as lab:
            for n in range(2):
                lab.sim(f'b{n}', f'fail on "{"x" * n}{"ä" * 200}"\n' + BOOT)
            lab.start()
            for n in range(2):
                answer = lab.api('PUT', f'/dut/b{n}/power', {'state': 'on'})
                self.assertEqual(answer.status, 502)
                self.assertIn('ää', answer.json['error'])
                self.assertNotIn('\ufffd', answer.json['error'])
                self.assertIn('ää', lab.board_state(f'b{n}')['power']['error'])
                job = lab.run_job(self.JOB, f'b{n}')
                self.assertEqual(job['reason'], 'power')
                self.assertIn('ää', job['message'])
                self.assertIn('ää', lab.result(job['id'])['message'])
                faults = [event['error'] for event in lab.events(job['id'])
                          if event['type'] == 'power' and 'error' in event]
                self.assertEqual(len(faults), 1)
                self.assertIn('ää', faults[0])

    def test_a_unit_that_lies(self):
        with Lab(leftovers_allowed=True) as lab:
            lab.sim('b1', 'lie off\n' + BOOT)
            lab.start()
            job = lab.run_job(self.JOB, 'b1')
            self.assertEqual((job['status'], job['reason']), ('INCOMPLETE', 'power'))
            self.assertIn('reads back OFF', job['message'])


# What ends a job, for boards that print FIRST early and do not end by themselves: the same on each
# kind. NAME: (job, status, reason)
ENDS = {
    'pass': ('console_patterns: {session_end: "FIRST", job_success: "FIRST"}', 'PASS', 'ok'),
    'warn': ('console_patterns: {session_end: "FIRST", job_success: "FIRST", job_warn: "FIRST"}',
             'WARN', 'warn'),
    'complete': ('console_patterns: {session_end: "FIRST"}', 'COMPLETE', 'ok'),
    'fail': ('console_patterns: {session_end: "FIRST", job_success: "never"}',
             'FAIL', 'no_success'),
    'job-fail': ('console_patterns: {job_fail: "FIRST"}', 'FAIL', 'pattern_fail'),
    'overall': ('timeouts: {overall: 2s}\nconsole_patterns: {session_end: never}',
                'INCOMPLETE', 'timeout:overall'),
    'boot-cycle': ('timeouts: {boot_cycle: {seconds: 1, retries: 1}}\n'
                   'console_patterns: {session_end: never}',
                   'INCOMPLETE', 'timeout:boot_cycle'),
    'first-activity': ('timeouts: {first_console_activity: {milliseconds: 500}}\n'
                       'console_patterns: {session_end: never}',
                       'INCOMPLETE', 'timeout:first_console_activity'),
    'activity': ('timeouts: {console_activity: {milliseconds: 1}}\n'
                 'console_patterns: {session_end: never}',
                 'INCOMPLETE', 'timeout:console_activity'),
    'watchdog': ('timeouts: {watchdogs: {suite: {milliseconds: 100}}}\n'
                 'console_patterns: {session_end: never, watchdogs: {suite: '
                 '{start: "FIRST", reset: "never", stop: "never"}}}',
                 'INCOMPLETE', 'timeout:watchdogs.suite'),
    'cancelled': ('console_patterns: {session_end: never}', 'CANCELLED', 'cancelled'),
    'setup-fail': ('console_patterns: {session_end: never}\n', 'SETUP_FAIL', 'bucket'),
}


class Boards(unittest.TestCase):
    def ends(self, lab, boards, first, deployment=''):
        """Every end on these boards, which share the work."""
        queue = list(ENDS.items())
        with concurrent.futures.ThreadPoolExecutor(len(boards)) as pool:
            list(pool.map(lambda board: [self.end(lab, board, *queue.pop(), first, deployment)
                                         for _ in range(len(ENDS) // len(boards))], boards))
        self.assertEqual(queue, [])

    def end(self, lab, board, name, case, first, deployment):
        text, status, reason = case
        if name == 'first-activity':
            # A board that stays silent.
            board, deployment = 'silent', deployment.replace('ttyS0', 'ttyS1')
        bucket = b'no archive' * 100 if name == 'setup-fail' else None
        job = lab.submit_ok(text.replace('FIRST', first) + '\n' + deployment, board,
                            bucket=bucket)
        if name == 'cancelled':
            lab.await_phase(job, 'running')
            lab.api('POST', f'/jobs/{job}/cancel', b'', {})
        ended = lab.await_job(job, 150)
        self.assertEqual((ended['status'], ended['reason']), (status, reason), (name, ended))
        lab.await_board(board, 'IDLE')
        self.assertEqual(lab.board_state(board)['power']['state'], 'OFF')

    def test_every_end_on_uboot(self):
        with Lab() as lab:
            for board in ('ub1', 'ub2'):
                lab.uboot(board)
            lab.uboot('silent', {'firmware': lab.write('zeros.rom', bytes(65536))})
            lab.start()
            self.ends(lab, ('ub1', 'ub2'), '^U-Boot 20')

    def test_every_end_on_linux(self):
        artifacts = linux_artifacts()
        deployment = f'''
deployment:
  start:
    kernel: {{url: "file://{artifacts}/vmlinuz", cmdline: "console=ttyS0"}}
    initramfs: {{url: "file://{artifacts}/initramfs.gz"}}
'''
        with Lab() as lab:
            lab.configure({'api': {'file_roots': [artifacts]}})
            for board in ('vm1', 'vm2', 'silent'):
                lab.linux(board)
            lab.start()
            self.ends(lab, ('vm1', 'vm2'), 'Linux version', deployment)

    def test_uboot(self):
        cases = {
            'ub-pass': ('console_patterns: {session_end: "Hit any key", job_success: "^U-Boot 20"}',
                        'PASS', 'ok'),
            'ub-fail': ('console_patterns: {session_end: "Hit any key", job_success: "Barebox"}',
                        'FAIL', 'no_success'),
            'ub-time': ('timeouts: {boot_cycle: {for: 2s, retries: 1}}\n'
                        'console_patterns: {session_end: never}',
                        'INCOMPLETE', 'timeout:boot_cycle'),
        }
        with Lab() as lab:
            for name in cases:
                lab.uboot(name)
            lab.start()
            jobs = {name: lab.submit_ok(text, name) for name, (text, *_) in cases.items()}
            for name, job in jobs.items():
                ended = lab.await_job(job)
                self.assertEqual((ended['status'], ended['reason']), cases[name][1:])
                self.assertIn(b'U-Boot', lab.results(job)['console.log'])
            self.assertEqual(len(lab.result(jobs['ub-time'])['boots']), 2)

    def test_linux(self):
        artifacts = linux_artifacts()
        text = f'''
timeouts: {{overall: 2m}}
console_patterns:
  session_end: 'reboot: Power down$'
  job_success: '^demo: the test has passed$'
deployment:
  start:
    kernel:
      url: "file://{artifacts}/vmlinuz"
      cmdline: ["console={{{{ dut.tty }}}}", "demo.expect=42"]
    initramfs: {{url: "bucket:initramfs.gz"}}
'''
        with open(os.path.join(artifacts, 'initramfs.gz'), 'rb') as file:
            bucket = {'initramfs.gz': file.read()}
        with Lab() as lab:
            lab.configure({'api': {'file_roots': [artifacts]}})
            lab.linux('vm')
            lab.start()
            job = lab.run_job(text, 'vm', seconds=150, bucket=bucket)
            self.assertEqual((job['status'], job['reason']), ('PASS', 'ok'), job['message'])
            self.assertIn(b'Linux version', lab.results(job['id'])['console.log'])
            failing = lab.run_job(text.replace('=42', '=43'), 'vm', seconds=150, bucket=bucket)
            self.assertEqual((failing['status'], failing['reason'], failing['verdict']),
                             ('FAIL', 'no_success', 'test'))


class Viewers(unittest.TestCase):
    def test_events_of_the_setup_are_told_at_once(self):
        """Also of a board that has no console to lend before its power, and so no eventfd."""
        with Lab() as lab, socket.create_server(('127.0.0.1', 0)) as server:
            lab.uboot('ub')
            lab.start()
            url = f'http://127.0.0.1:{server.getsockname()[1]}'
            job = lab.submit_ok(f"""
console_patterns: {{session_end: never}}
deployment: {{start: {{kernel: {{url: "{url}/kernel"}}, initramfs: {{url: "{url}/initramfs"}}}}}}
""", 'ub')
            with lab.stream(f'/jobs/{job}/events', follow=1) as stream, \
                    contextlib.ExitStack() as connections:
                stream.read_until(b'"phase":"setup"')
                answered = False
                while not answered:
                    connection = connections.enter_context(server.accept()[0])
                    if b'GET /kernel' in connection.recv(4096):
                        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc')
                        answered = True
                # The other one stalls: nothing else happens.
                stream.read_until(b'"artifact"')
                self.assertEqual(lab.api('POST', f'/jobs/{job}/cancel').status, 200)
                lab.await_job(job)

    def test_a_client_that_dies_and_one_that_does_not_read(self):
        """A flood: the one who reads gets every byte, whatever the others do."""
        with Lab() as lab:
            sent = lab.path('sent.bin')
            lab.sim('b1', 'at 50ms flood 4000000 for 1s\nat 1500ms send "\\r\\nthe end\\r\\n"\n',
                    options={'sent': sent})
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: "the end"}', 'b1')
            with lab.stream(f'/jobs/{job}/log', follow=1) as stuck, \
                    lab.stream(f'/jobs/{job}/log', follow=1, offset=0) as reader:
                self.assertTrue(stuck.read_some())
                dying = lab.spawn_dut('log', job, '--follow')
                self.assertTrue(dying.stdout.read(1))
                dying.kill()
                dying.communicate()
                got = reader.read_all()
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            with open(sent, 'rb') as file:
                self.assertEqual(got, file.read())


if __name__ == '__main__':
    unittest.main()
