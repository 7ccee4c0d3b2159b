# SPDX-License-Identifier: MIT
"""Texts of strangers: none moves a cursor, forges a line, or reorders what is read."""

import json
import unittest

from tests.process.test_hostile import make_libexec
from tests.support.harness import LIBEXEC, Lab, form_of

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SHORT = 'console_patterns: {session_end: Linux}\n'
NEVER = 'console_patterns: {session_end: never}\n'

EVIL = {
    'an escape': 'a\x1b[2J\x1b[31mb',
    'a line end': 'a\nb1: job 1: ended PASS (ok)',
    'a return': 'a\rb',
    'a bell': 'a\x07b',
    'DEL': 'a\x7fb',
    'C1': 'a\x9b31mb',
    'a line separator': 'a\u2028b',
    'an override': 'a\u202eb',
    'an isolate': 'a\u2066b',
    'an Arabic mark': 'a\u061cb',
}
MOVES = {chr(code) for code in (*range(0x20), *range(0x7f, 0xa0), 0x61c, 0x200e, 0x200f,
                                *range(0x2028, 0x202f), *range(0x2066, 0x206a))}


class Clean(unittest.TestCase):
    def assert_clean(self, data, allowed='\n'):
        """What may go to a terminal."""
        text = data.decode('utf-8') if isinstance(data, bytes) else data
        bad = set(text) & (MOVES - set(allowed))
        self.assertFalse(bad, text[:2000])

    def assert_log_clean(self, lab):
        with open(lab.daemon.log_path, 'rb') as file:
            self.assert_clean(file.read())

    def assert_shown_clean(self, lab, *command, rc=None):
        ran = lab.dut(*command)
        self.assert_clean(ran.raw, '\n\t')
        self.assert_clean(ran.err, '\n')
        if rc is not None:
            self.assertEqual(ran.rc, rc, ran)
        return ran


class Submissions(Clean):
    def refused(self, answer, status=400):
        self.assertEqual(answer.status, status, answer)
        for name, value in answer.headers.items():
            self.assertTrue(value.isascii() and value.isprintable(), (name, value))
        self.assertLessEqual(len(answer.headers['Dut-Error']), 200)
        self.assert_clean(answer.json['error'])

    def test_names_and_reasons_are_printable(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(NEVER, 'b1')
            for what, text in EVIL.items():
                with self.subTest(what):
                    self.refused(lab.submit(SHORT, 'b1', name=text))
                    self.refused(lab.submit(SHORT, 'b1', submission_id=text))
                    self.refused(lab.submit('name: ' + json.dumps(text) + '\n' + SHORT, 'b1'))
                    self.refused(lab.submit(SHORT, text), 404)
                    self.refused(lab.submit(SHORT, 'b1', **{text: 1}))
                    self.refused(lab.submit(SHORT, 'b1', environ={text: 1}))
                    self.refused(lab.submit(f'{json.dumps(text)}: 1\n' + SHORT, 'b1'))
                    self.refused(lab.api('POST', f'/jobs/{job}/cancel', {'why': text}))
            for text in ('x' * (1 << 20), 'x' * 201):
                self.refused(lab.submit(SHORT, 'b1', name=text), 413 if len(text) > 300 else 400)
                self.refused(lab.submit(f'name: {text[:500000]}\n' + SHORT, 'b1'))
            # A name that is unusual, but moves nothing, is fine.
            lab.api('POST', f'/jobs/{job}/cancel', {'why': 'größer als 你好'})
            self.assertEqual(lab.await_job(job)['cancel']['why'], 'größer als 你好')
            lab.await_board('b1', 'IDLE')
            self.assert_log_clean(lab)

    def test_what_is_no_utf8(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            for metadata, job in ((b'{"version": 1, "name": "a\xff"}', SHORT.encode()),
                                  (b'{"version": 1, "a\xc3": 1}', SHORT.encode()),
                                  (b'{"version": 1, "name": "\\ud800"}', SHORT.encode()),
                                  (b'{"version": 1, "name": "a\\u0000b"}', SHORT.encode()),
                                  (b'{"version": 1}', b'name: "a\xff"\n' + SHORT.encode()),
                                  (b'{"version": 1}', b'\xff\xfe\x00\x00'),
                                  (b'{"version": 1}', b'name: a\x00b\n')):
                kind, form = form_of([('metadata', metadata), ('job', job)])
                self.refused(lab.api('POST', '/jobs', form, {'Content-Type': kind}))
            self.assert_log_clean(lab)
            self.assertEqual(lab.get('/jobs')['jobs'], [])

    def test_the_command_line(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            path = lab.write('job.yml', SHORT)
            for what, text in EVIL.items():
                with self.subTest(what):
                    for command in (('run', path, '--dut', text), ('run', path, '--name', text),
                                    ('show', text), ('job', text), ('log', text),
                                    ('power', 'off', text), ('cancel', text), ('wait', text),
                                    (text,), ('list', '--' + text), ('run', path + text)):
                        ran = self.assert_shown_clean(lab, *command)
                        self.assertNotEqual(ran.rc, 0, command)


class Executors(Clean):
    """One that was taken over says what it likes: in its result, and why it did not start."""

    RESULT = '''
connection = greet()
await_packet(connection, 'go')
evil = {evil!r}
for packet in ({{'t': evil}}, {{'t': 'phase', 'phase': evil}}, {{'t': 'off', 'n': evil}},
               {{'t': 'end', 'status': evil, 'reason': evil}}):
    send(connection, **packet)
result = {{'v': 1, 'id': job['id'], 'attempt': job['attempt'], 'nonce': job['nonce'],
          'status': 'FAIL', 'reason': 'pattern_fail', 'verdict': 'test', 'message': evil,
          'name': evil, 'owner': evil, 'dut': evil, 'console': evil, 'console_base': None,
          'boots': [], 'timeouts': {{}}, 'patterns': {{}}, 'faults': [], 'tests': [], 'files': [],
          'submitted': None, 'started': None, 'ended': None}}
with os.fdopen(os.open('result.json', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=6), 'w') as file:
    json.dump(result, file)
event = {{'seq': 0, 'time': '2026-11-24T10:52:51.223888Z', 'elapsed': 0.1, 'type': 'phase',
         'dut': evil, 'job': evil, 'text': evil, 'phase': evil, 'boot': 1}}
with os.fdopen(os.open('events.jsonl', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=6), 'w') as file:
    file.write(json.dumps(event) + '\\n')
'''

    def test_that_ends_with_a_result(self):
        for what, text in EVIL.items():
            with self.subTest(what), Lab() as lab:
                make_libexec(lab, self.RESULT.format(evil=text))
                lab.sim('b1', BOOT)
                lab.start()
                path = lab.write('job.yml', SHORT)
                ran = self.assert_shown_clean(lab, 'run', path, '--dut', 'b1', '--output',
                                              lab.path('out'))
                self.assertEqual(ran.rc, 3, ran)
                self.assertEqual(lab.get('/jobs/1')['message'], text)
                for command in (('list',), ('jobs',), ('job', '1'), ('show', 'b1'),
                                ('wait', '1'), ('jobs', '--json'), ('job', '1', '--json')):
                    self.assert_shown_clean(lab, *command)
                for path in ('/jobs', '/jobs/1', '/dut/b1', '/duts'):
                    # JSON carries what is no control character as it is.
                    self.assert_clean(lab.api('GET', path).body,
                                      MOVES - set(map(chr, range(32))) | {'\n'})
                lab.await_board('b1', 'IDLE')
                self.assert_log_clean(lab)

    def test_that_does_not_start(self):
        for what, text in EVIL.items():
            with self.subTest(what), Lab() as lab:
                make_libexec(lab, '')
                lab.write('libexec/dut-executor',
                          f'#!/bin/sh\n[ "$1" = --validate ] && exec {LIBEXEC}/dut-executor $1\n'
                          f'cat {lab.write("reason", text * 20)} >&7\n')
                lab.sim('b1', BOOT)
                lab.start()
                answer = lab.submit(SHORT, 'b1')
                self.assertEqual(answer.status, 500, answer)
                self.assertTrue(answer.headers['Dut-Error'].isascii())
                self.assertTrue(answer.headers['Dut-Error'].isprintable())
                self.assert_shown_clean(lab, 'run', lab.write('job.yml', SHORT), '--dut', 'b1')
                self.assert_shown_clean(lab, 'job', '1')
                lab.await_board('b1', 'IDLE')
                self.assert_log_clean(lab)


class Boards(Clean):
    def test_a_line_that_is_told_is_shown_escaped(self):
        line = '\\e[2J\\e[31mLinux version 6\\x9b31m\\xff \\xe2\\x80\\xae evil'
        job = 'console_patterns: {session_end: {regex: "Linux version"}}\n'
        with Lab() as lab:
            lab.sim('b1', f'at 10ms send "{line}\\r\\n"\n')
            lab.start()
            ran = lab.dut('run', lab.write('job.yml', job), '--dut', 'b1', '--output',
                          lab.path('out'))
            self.assertEqual(ran.rc, 2, ran)
            # stdout are the board's bytes; what we say of them is ours.
            self.assert_clean(ran.err)
            for command in (('job', '1'), ('jobs',), ('log', '1', '--json')):
                self.assert_clean(lab.dut(*command).err)
            lab.await_board('b1', 'IDLE')
            self.assert_log_clean(lab)


if __name__ == '__main__':
    unittest.main()
