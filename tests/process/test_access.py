# SPDX-License-Identifier: MIT
"""Who may do what, by the unix socket and by TCP."""

import contextlib
import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import threading
import unittest

from tests.support import processes
from tests.support.fetching import Authority
from tests.support.harness import DUT, PATIENCE, SOURCE, Answer, Lab, await_true, form_of
from tests.support.peers import NOBODY, OTHER, PeersLab

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
NEVER = 'console_patterns: {session_end: never}\n'
SECRETS = {'view': 'viewer-secret', 'use': 'user-secret', 'admin': 'admin-secret'}


def line_of(name, role, secret):
    return f'{name} {role} {hashlib.sha256(secret.encode()).hexdigest()}\n'


def name_of(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f'uid:{uid}'


def free_port(host='127.0.0.1'):
    """A port that nobody has now."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family) as found:
        found.bind((host, 0))
        return found.getsockname()[1]


class TcpLab(Lab):
    """A lab that listens on a loopback port; there is a token of each role."""

    def listen(self, lab_class_keys=None, **keys):
        self.port = free_port()
        self.tokens = self.write('etc/tokens', ''.join(
            line_of(f'{role}er', role, secret) for role, secret in SECRETS.items()))
        self.configure({'api': {'listen': [f'127.0.0.1:{self.port}'],
                                'tokens_file': self.tokens, **keys}, **(lab_class_keys or {})})
        return self

    def tcp(self, method, path, body=None, secret=SECRETS['admin'], headers=None):
        """An Answer by TCP; a secret of None: no token."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=PATIENCE)
        headers = dict(headers or {})
        if secret is not None:
            headers.setdefault('Authorization', f'Bearer {secret}')
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        try:
            connection.request(method, '/api/v1' + path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def tcp_submit(self, text, target, secret=SECRETS['use'], **metadata):
        kind, body = form_of([
            ('metadata', json.dumps({'version': 1, 'target': {'id': target},
                                     **metadata}).encode()),
            ('job', text.encode())])
        return self.tcp('POST', '/jobs', body, secret, {'Content-Type': kind})


class Tcp(unittest.TestCase):
    def test_nobody_comes_without_a_token(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT)
            lab.listen().start()
            answers = []
            for headers in ({}, {'Authorization': 'Bearer wrong'}, {'Authorization': 'Bearer '},
                            {'Authorization': 'Bearer'}, {'Authorization': ''},
                            {'Authorization': f'Basic {SECRETS["admin"]}'},
                            {'Authorization': f'Bearer {SECRETS["admin"]}x'},
                            {'Authorization': f'Bearer x{SECRETS["admin"]}'},
                            {'Authorization': 'Bearer ' + 'x' * 5000}):
                for path in ('/status', '/duts', '/nothing'):
                    answers.append(lab.tcp('GET', path, secret=None, headers=headers))
            for answer in answers:
                self.assertEqual(answer.status, 401)
                self.assertEqual(answer.body, answers[0].body)
                self.assertEqual(answer.headers['WWW-Authenticate'], 'Bearer')
            self.assertIn('needs a token', answers[0].json['error'])
            # The hash itself is no secret.
            digest = hashlib.sha256(SECRETS['admin'].encode()).hexdigest()
            self.assertEqual(lab.tcp('GET', '/status', secret=digest).status, 401)
            self.assertIn('a request from 127.0.0.1 without a token', lab.log)
            self.assertEqual(lab.log.count('without a token that is known'), 1)
            for secret in SECRETS.values():
                self.assertNotIn(secret, lab.log)

    def test_who_comes_is_the_token(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT)
            lab.listen().start()
            for role, secret in SECRETS.items():
                for scheme in ('Bearer', 'bearer', 'BEARER '):
                    answer = lab.tcp('GET', '/status', secret=None,
                                     headers={'Authorization': f'{scheme} {secret}'})
                    self.assertEqual(answer.json['you'], {
                        'name': f'token:{role}er', 'role': role, 'from': 'tcp 127.0.0.1'})
            self.assertEqual(lab.get('/status')['you']['from'], 'unix')

    def test_a_job_by_tcp(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT)
            lab.listen().start()
            answer = lab.tcp_submit(NEVER, 'b1')
            self.assertEqual(answer.status, 201)
            job = answer.json['id']
            self.assertEqual(lab.get(f'/jobs/{job}')['owner'], 'token:useer')
            # Its owner may cancel it, also after a restart; another token may not.
            answer = lab.tcp('POST', f'/jobs/{job}/cancel', secret=SECRETS['view'])
            self.assertEqual(answer.status, 403)
            lab.kill_daemon()
            lab.start()
            answer = lab.tcp('POST', f'/jobs/{job}/cancel', secret=SECRETS['use'])
            self.assertEqual(answer.status, 200)
            self.assertEqual(lab.await_job(job)['cancel']['by'], 'token:useer')

    def test_tokens_do_not_have_each_others_jobs(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT)
            lab.listen()
            lab.write('etc/tokens', line_of('a', 'use', 'a-secret') + line_of('b', 'use', 'bs') +
                      line_of('boss', 'admin', 'boss-secret'))
            lab.start()
            job = lab.tcp_submit(NEVER, 'b1', 'a-secret').json['id']
            answer = lab.tcp('POST', f'/jobs/{job}/cancel', secret='bs')
            self.assertEqual(answer.status, 403)
            self.assertEqual(
                answer.json['error'], f'job {job} belongs to token:a: to cancel it needs the role '
                'admin; you are token:b with the role use (from tcp 127.0.0.1)')
            self.assertEqual(lab.tcp('POST', f'/jobs/{job}/cancel', {'why': 'because'},
                                     secret='boss-secret').status, 200)
            self.assertEqual(lab.await_job(job)['cancel']['by'], 'token:boss')

    def test_file_urls_are_not_for_tcp(self):
        job = ('deployment: {start: {kernel: {url: "file:///srv/images/vmlinuz"}}}\n' + NEVER)
        with TcpLab() as lab:
            lab.board('v1', {'qemu': {'arch': 'amd64', 'memory': '64M'}})
            lab.listen(file_roots=['/srv/images']).start()
            answer = lab.tcp_submit(job, 'v1', SECRETS['admin'])
            self.assertEqual(answer.status, 400, answer)
            self.assertIn('file: URLs are not for jobs that come by TCP', answer.json['error'])
            self.assertEqual(answer.json['line'], 1)

    def test_requests_of_web_pages_are_refused(self):
        with TcpLab() as lab:
            lab.listen(host_names=['gateway.example.org']).start()
            port = lab.port
            for host in (f'127.0.0.1:{port}', f'localhost:{port}', 'LOCALHOST', f'[::1]:{port}',
                         f'gateway.example.org:{port}', 'Gateway.Example.Org',
                         socket.gethostname()):
                self.assertEqual(lab.tcp('GET', '/status', headers={'Host': host}).status, 200,
                                 host)
            for host in ('evil.example', f'127.0.0.1.evil.example:{port}', '', ':', '[', 'a\tb',
                         'gateway.example.org.evil.example', 'x' * 300):
                answer = lab.tcp('GET', '/status', headers={'Host': host})
                self.assertEqual(answer.status, 403, host)
                self.assertIn('is no name of this host', answer.json['error'])
            for origin in ('http://evil.example', 'null', f'https://evil.example:{port}', '://'):
                answer = lab.tcp('GET', '/status', headers={'Origin': origin})
                self.assertEqual(answer.status, 403, origin)
                self.assertIn('are not served', answer.json['error'])
            own = {'Origin': f'http://127.0.0.1:{port}'}
            answer = lab.tcp('GET', '/status', headers=own)
            self.assertEqual(answer.status, 200)
            self.assertNotIn('Access-Control-Allow-Origin', answer.headers)
            self.assertEqual(lab.tcp('OPTIONS', '/status', headers=own).status, 405)

    def test_an_address_that_is_taken_ends_the_start(self):
        with TcpLab() as lab, socket.socket() as other:
            lab.listen()
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(('127.0.0.1', lab.port))
            other.listen()
            ran = lab.dutd()
            self.assertEqual(ran.rc, 74)
            self.assertIn(f'api.listen: 127.0.0.1:{lab.port}: Address already in use', ran.err)
            lab.configure({'api': {'listen': ['192.0.2.77:80'], 'tokens_file': lab.tokens}})
            ran = lab.dutd()
            self.assertEqual(ran.rc, 74)
            self.assertIn('192.0.2.77:80: Cannot assign requested address', ran.err)
            lab.configure({})
            lab.start()

    def test_two_addresses(self):
        with TcpLab() as lab:
            lab.listen()
            try:
                second = free_port('::1')
            except OSError as error:
                raise unittest.SkipTest(f'no IPv6 here: {error}') from error
            lab.configure({'api': {'listen': [f'127.0.0.1:{lab.port}', f'[::1]:{second}'],
                                   'tokens_file': lab.tokens}})
            lab.start()
            self.assertEqual(lab.tcp('GET', '/status').status, 200)
            connection = http.client.HTTPConnection('::1', second, timeout=PATIENCE)
            connection.request('GET', '/api/v1/status',
                               headers={'Authorization': f'Bearer {SECRETS["view"]}'})
            answer = Answer(connection.getresponse())
            connection.close()
            self.assertEqual(answer.json['you']['from'], 'tcp ::1')


class TokensFile(unittest.TestCase):
    def await_log(self, lab, text, count=1):
        await_true(lambda: lab.log.count(text) >= count, f'{text!r} in the log')

    def test_it_is_read_again_when_it_changes(self):
        with TcpLab() as lab:
            lab.listen().start()
            path = lab.tokens
            self.assertEqual(lab.tcp('GET', '/status').status, 200)
            # As an editor does it: a new file in its place.
            lab.write('etc/tokens.new', line_of('new', 'view', 'new-secret'))
            os.rename(path + '.new', path)
            self.await_log(lab, 'were read again: 1')
            self.assertEqual(lab.tcp('GET', '/status').status, 401)
            self.assertEqual(lab.tcp('GET', '/status', secret='new-secret').status, 200)
            # In its place.
            with open(path, 'a', encoding='utf-8') as file:
                file.write(line_of('more', 'use', 'more-secret'))
            self.await_log(lab, 'were read again: 2')
            self.assertEqual(lab.tcp('GET', '/status', secret='more-secret').status, 200)
            # A fault is said with its place, and nothing changes.
            with open(path, 'a', encoding='utf-8') as file:
                file.write('third\n')
            self.await_log(lab, f'{path}:3:1: a line is NAME ROLE SHA256, not 1 words')
            self.assertEqual(lab.tcp('GET', '/status', secret='more-secret').status, 200)
            # So is a file that others may write to.
            lab.write('etc/tokens.new', line_of('evil', 'admin', 'evil-secret'))
            os.chmod(path + '.new', 0o666)
            os.rename(path + '.new', path)
            self.await_log(lab, 'tokens can be written by others (its mode is 0666)')
            self.assertEqual(lab.tcp('GET', '/status', secret='evil-secret').status, 401)
            self.assertEqual(lab.tcp('GET', '/status', secret='more-secret').status, 200)
            # What is gone lets nobody in.
            os.unlink(path)
            self.await_log(lab, 'were read again: 0')
            self.assertEqual(lab.tcp('GET', '/status', secret='more-secret').status, 401)

    def test_another_file_holds_after_a_reload(self):
        with TcpLab() as lab:
            lab.listen().start()
            other = lab.write('etc/other', line_of('new', 'admin', 'new-secret'))
            lab.configure({'api': {'listen': [f'127.0.0.1:{lab.port}'], 'tokens_file': other,
                                   'host_names': ['gateway']}})
            self.assertEqual(lab.dut('reload').rc, 0)
            self.assertEqual(lab.tcp('GET', '/status').status, 401)
            answer = lab.tcp('GET', '/status', secret='new-secret', headers={'Host': 'gateway'})
            self.assertEqual(answer.status, 200)
            # It is the new one that is watched.
            with open(other, 'a', encoding='utf-8') as file:
                file.write(line_of('more', 'view', 'more-secret'))
            self.await_log(lab, f'{other} were read again: 2')
            self.assertEqual(lab.tcp('GET', '/status', secret='more-secret').status, 200)
            # A faulty one is refused with all the rest.
            lab.write('etc/other', 'x\n')
            ran = lab.dut('reload')
            self.assertEqual(ran.rc, 65)
            self.assertIn(f'{other}:1:1: a line is NAME ROLE SHA256', ran.err)
            self.assertEqual(lab.tcp('GET', '/status', secret='more-secret').status, 200)
            # Without one nobody comes, though it listens until the next start.
            lab.configure({})
            self.assertEqual(lab.dut('reload').rc, 0)
            self.assertEqual(lab.tcp('GET', '/status', secret='more-secret').status, 401)

    def test_its_faults_are_found_by_check_and_end_the_start(self):
        with TcpLab() as lab:
            lab.listen()
            lab.write('etc/tokens', 'ci use\n\n# c\nci root ' + 'a' * 64 + '\nc\x1bi use 7\n')
            for arguments in (['--check'], []):
                ran = lab.dutd(*arguments)
                self.assertEqual(ran.rc, 65)
                self.assertIn(f'{lab.tokens}:1:1: a line is NAME ROLE SHA256', ran.err)
                self.assertIn(f"{lab.tokens}:4:4: 'root' is no role", ran.err)
                self.assertIn(f"{lab.tokens}:5:1: 'c\\ei' is no name", ran.err)
            lab.listen()
            os.chmod(lab.tokens, 0o664)
            ran = lab.dutd('--check')
            self.assertEqual(ran.rc, 65)
            self.assertRegex(ran.err, r'dutd\.yaml:\d+:\d+: tokens_file: .*written by others')
            if os.geteuid() == 0:
                os.chmod(lab.tokens, 0o644)
                os.chown(lab.tokens, NOBODY, -1)
                ran = lab.dutd('--check')
                self.assertEqual(ran.rc, 65)
                self.assertIn('who is neither root nor', ran.err)
                os.chown(lab.tokens, 0, -1)
            os.chmod(lab.tokens, 0o644)
            self.assertEqual(lab.dutd('--check').rc, 0)
            lab.start()

    def test_dut_token_makes_lines_for_it(self):
        with TcpLab() as lab:
            lab.listen()
            secrets = []
            for role in SECRETS:
                ran = lab.dut('token', 'new', f'made-{role}', role)
                self.assertEqual(ran.rc, 0)
                secret, line = ran.out.splitlines()
                self.assertRegex(secret, '^dut_[a-z2-7]{32}$')
                self.assertEqual(line + '\n', line_of(f'made-{role}', role, secret))
                with open(lab.tokens, 'a', encoding='utf-8') as file:
                    file.write(line + '\n')
                secrets.append((role, secret))
            lab.start()
            for role, secret in secrets:
                you = lab.tcp('GET', '/status', secret=secret).json['you']
                self.assertEqual((you['name'], you['role']), (f'token:made-{role}', role))
            for words, text in ((('new', 'a b', 'use'), 'is no name'),
                                (('new', 'x\x1b', 'use'), "'x\\e' is no name"),
                                (('new', 'ci', 'root'), 'is no role'),
                                (('old', 'ci', 'use'), 'is not new'), (('new', 'ci'), 'too few')):
                ran = lab.dut('token', *words)
                self.assertEqual((ran.rc, ran.out), (64, ''), words)
                self.assertIn(text, ran.err)


# What each route needs; {id} is filled with a DUT or a job that is not there, or a board's name.
ROLES = ['view', 'use', 'admin']
ROUTES = {
    ('GET', '/status'): 'view',
    ('GET', '/events'): 'view',
    ('GET', '/duts'): 'view',
    ('GET', '/dut/{id}'): 'view',
    ('PATCH', '/dut/{id}'): 'admin',
    ('GET', '/dut/{id}/power'): 'view',
    ('PUT', '/dut/{id}/power'): 'use',
    ('GET', '/dut/{id}/console'): 'view',
    ('GET', '/dut/{id}/history'): 'view',
    ('GET', '/history'): 'view',
    ('POST', '/dut/{id}/cancel_job'): 'use',
    ('GET', '/dut/{id}/reservation'): 'view',
    ('POST', '/dut/{id}/reservation'): 'use',
    ('PATCH', '/dut/{id}/reservation'): 'use',
    ('DELETE', '/dut/{id}/reservation'): 'use',
    ('POST', '/reservations'): 'use',
    ('GET', '/jobs'): 'view',
    ('POST', '/jobs'): 'use',
    ('GET', '/jobs/{id}'): 'view',
    ('GET', '/jobs/{id}/log'): 'view',
    ('GET', '/jobs/{id}/events'): 'view',
    ('GET', '/jobs/{id}/results'): 'view',
    ('POST', '/jobs/{id}/cancel'): 'use',
    ('DELETE', '/jobs/{id}/binding'): 'use',
    ('POST', '/reload'): 'admin',
}
# Answers without an end.
ENDLESS = {('GET', '/events')}


def routes_of_dutd():
    """The routes in the table of dut/api.c."""
    with open(os.path.join(SOURCE, 'dut', 'api.c'), encoding='utf-8') as file:
        table = file.read().split('struct http_route routes[] = {')[1].split('{ .path = NULL }')[0]
    return set(re.findall(r'\.method = "(\w+)",\s*\.path = "/api/v1([^"]*)"', table))


class Roles(unittest.TestCase):
    def test_the_table_has_every_route(self):
        self.assertEqual(set(ROUTES), routes_of_dutd())

    def test_each_role_at_each_route(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT)
            lab.listen().start()
            for (method, path), needed in ROUTES.items():
                target = path.replace('{id}', 'nobody' if '/dut/' in path else '999999')
                for role in ROLES:
                    allowed = ROLES.index(role) >= ROLES.index(needed)
                    if allowed and (method, path) in ENDLESS:
                        continue
                    with self.subTest(method=method, path=path, role=role):
                        answer = lab.tcp(method, target, secret=SECRETS[role])
                        if allowed:
                            self.assertNotIn(answer.status, (401, 403))
                            continue
                        self.assertEqual(answer.status, 403)
                        self.assertEqual(
                            answer.json['error'], f'{method} /api/v1{target} needs the role '
                            f'{needed}; you are token:{role}er with the role {role} (from tcp '
                            '127.0.0.1)')
                with self.subTest(method=method, path=path, role=None):
                    self.assertEqual(lab.tcp(method, target, secret=None).status, 401)
            # What was refused has not happened.
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')
            self.assertNotIn('nobody', {entry['who'] for entry in lab.get('/history')['history']})

    def test_a_user_of_the_socket_who_is_no_administrator(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest('only root can be somebody else')
        with PeersLab() as lab:
            lab.configure({'api': {'socket': {'mode': '0666'}, 'admins': [name_of(OTHER)]}})
            lab.sim('b1', BOOT)
            lab.start()
            status, body = lab.ask(NOBODY, 'GET', '/status')
            self.assertEqual(body['you'], {'name': name_of(NOBODY), 'role': 'use', 'from': 'unix'})
            for uid, role in ((0, 'admin'), (OTHER, 'admin'), (NOBODY, 'use')):
                for (method, path), needed in ROUTES.items():
                    if (method, path) in ENDLESS or method == 'GET':
                        continue
                    target = path.replace('{id}', 'nobody' if '/dut/' in path else '999999')
                    status, body = lab.ask(uid, method, target)
                    if ROLES.index(role) >= ROLES.index(needed):
                        self.assertNotEqual(status, 403, (uid, method, path))
                        continue
                    self.assertEqual(status, 403, (uid, method, path))
                    self.assertEqual(
                        body['error'], f'{method} /api/v1{target} needs the role {needed}; you are '
                        f'{name_of(NOBODY)} with the role use (from the unix socket)')
            # The power of a DUT out of service is an administrator's alone.
            self.assertEqual(lab.ask(OTHER, 'PATCH', '/dut/b1', {'is_retired': True})[0], 200)
            status, body = lab.ask(NOBODY, 'PUT', '/dut/b1/power', {'state': 'on'})
            self.assertEqual(status, 403)
            self.assertIn('b1 is retired: to switch its power needs the role admin', body['error'])
            self.assertEqual(lab.board_state('b1')['retired']['by'], name_of(OTHER))


class History(unittest.TestCase):
    def test_who_did_what(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT, aliases=['de:ad'])
            lab.sim('b2', BOOT)
            lab.listen().start()
            me = name_of(os.geteuid())
            job = lab.tcp_submit(NEVER, 'b1').json['id']
            lab.api('POST', f'/jobs/{job}/cancel', {'why': 'enough'})
            lab.await_job(job)
            lab.await_board('b1', 'IDLE')
            lab.tcp('PUT', '/dut/b2/power', {'state': 'off'}, SECRETS['use'])
            lab.dut('retire', 'b1', '--why', 'a fan')
            lab.dut('activate', 'b1')
            lab.dut('set', 'b1', 'comment=x')
            # What was refused is no change.
            lab.tcp('PATCH', '/dut/b1', {'comment': 'y'}, SECRETS['use'])
            wanted = [('token:useer', 'use', 'tcp 127.0.0.1', 'b1', job, 'submit', 'untitled'),
                      (me, 'admin', 'unix', 'b1', job, 'cancel', 'enough'),
                      ('token:useer', 'use', 'tcp 127.0.0.1', 'b2', None, 'power', 'off'),
                      (me, 'admin', 'unix', 'b1', None, 'retire', 'a fan'),
                      (me, 'admin', 'unix', 'b1', None, 'activate', None),
                      (me, 'admin', 'unix', 'b1', None, 'set', '{"comment":"x"}')]
            keys = ('who', 'role', 'from', 'dut', 'job', 'action', 'detail')

            def entries(path):
                return [tuple(entry[key] for key in keys)
                        for entry in reversed(lab.get(path)['history'])]
            of_b1 = [entry for entry in wanted if entry[3] == 'b1']
            self.assertEqual(entries('/history'), wanted)
            self.assertEqual(entries('/dut/b1/history'), of_b1)
            self.assertEqual(entries('/dut/de:ad/history'), of_b1)
            self.assertEqual(entries('/history?dut=b2'), wanted[2:3])
            self.assertEqual(entries('/history?dut=none'), [])
            self.assertEqual(entries('/history?limit=1'), wanted[-1:])
            # Page by page, and over a kill.
            lab.kill_daemon()
            lab.start()
            before, found = 2 ** 62, []
            while page := lab.get(f'/history?limit=2&before={before}')['history']:
                found += page
                before = page[-1]['id']
            self.assertEqual([entry['action'] for entry in reversed(found)],
                             [entry[5] for entry in wanted])
            for query in ('limit=0', 'limit=1001', 'before=x', 'limit='):
                self.assertEqual(lab.api('GET', f'/history?{query}').status, 400, query)

            ran = lab.dut('history', 'b1')
            self.assertEqual([tuple(line.split('\t')[1:]) for line in ran.out.splitlines()],
                             [tuple(cell or '' for cell in entry) for entry in of_b1])
            ran = lab.dut('history', '--limit', '1', '--json')
            self.assertEqual(json.loads(ran.out)['action'], 'set')
            self.assertEqual(len(lab.dut('history', '--all').out.splitlines()), len(wanted))
            self.assertEqual(lab.dut('history', '--all', '--limit', '3').rc, 64)
            self.assertEqual(lab.dut('history', '--limit', 'x').rc, 64)


class Limits(unittest.TestCase):
    """Clients by TCP do not take from each other, nor from those of the socket."""

    def connect(self, lab, data=b''):
        connection = socket.create_connection(('127.0.0.1', lab.port), PATIENCE)
        connection.sendall(data)
        return connection

    def test_silent_and_slow_clients_hold_nobody_up(self):
        with TcpLab() as lab, contextlib.ExitStack() as stack:
            lab.listen({'limits': {'connections': 10}}).start()
            # None, half a head, a body that does not come.
            head = f'POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n'
            for data in [b''] * 8 + [b'GET /'] * 8 + [head.encode() + b'\r\n'] * 4:
                stack.enter_context(self.connect(lab, data))
            for _ in range(10):
                self.assertEqual(lab.tcp('GET', '/status').status, 200)
                self.assertEqual(lab.api('GET', '/status').status, 200)

    def test_a_stranger_does_not_get_to_upload(self):
        with TcpLab() as lab:
            lab.listen().start()
            head = ('POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n'
                    'Content-Type: multipart/form-data; boundary=x\r\n\r\n')
            with self.connect(lab, head.encode()) as connection:
                answer = connection.recv(65536)
                self.assertTrue(answer.startswith(b'HTTP/1.1 401 '), answer)
                # The rest is not waited for.
                while connection.recv(65536):
                    pass

    def test_a_token_has_half_of_the_connections(self):
        with TcpLab() as lab, contextlib.ExitStack() as stack:
            lab.sim('b1', BOOT)
            lab.listen({'limits': {'connections': 8}}).start()
            watch = ('GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n'
                     'Authorization: Bearer {}\r\n\r\n')
            for _ in range(4):
                connection = stack.enter_context(
                    self.connect(lab, watch.format(SECRETS['view']).encode()))
                self.assertTrue(connection.recv(65536).startswith(b'HTTP/1.1 200 '))
            answer = lab.tcp('GET', '/status', secret=SECRETS['view'])
            self.assertEqual(answer.status, 429)
            self.assertIn('token:viewer has 4 connections, none of them idle',
                          answer.json['error'])
            self.assertEqual(lab.tcp('GET', '/status', secret=SECRETS['use']).status, 200)
            self.assertEqual(lab.api('GET', '/status').status, 200)


class CommandLine(unittest.TestCase):
    """`dut` with a daemon elsewhere."""

    def elsewhere(self, lab, *arguments, host=None, **env):
        """Runs dut without DUT_SOCKET."""
        env = {'DUT_SOCKET': '', 'DUT_HOST': host or f'http://127.0.0.1:{lab.port}', **env}
        return lab.dut(*arguments, env=env)

    def test_a_host_and_a_token(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT)
            lab.listen().start()
            ran = self.elsewhere(lab, 'list', '--json', DUT_TOKEN=SECRETS['view'])
            self.assertEqual(ran.rc, 0, ran)
            self.assertEqual(json.loads(ran.out)['id'], 'b1')
            ran = self.elsewhere(lab, 'power', 'on', 'b1', DUT_TOKEN=SECRETS['use'])
            self.assertEqual(ran.rc, 0, ran)
            ran = self.elsewhere(lab, 'power', 'off', 'b1', DUT_TOKEN=SECRETS['use'])
            self.assertEqual(ran.rc, 0, ran)
            ran = self.elsewhere(lab, 'retire', 'b1', DUT_TOKEN=SECRETS['use'])
            self.assertEqual(ran.rc, 77)
            self.assertEqual(ran.err, 'dut: PATCH /api/v1/dut/b1 needs the role admin; you are '
                             'token:useer with the role use (from tcp 127.0.0.1)\n')
            path = lab.write('my token', SECRETS['admin'] + '\n')
            ran = self.elsewhere(lab, 'retire', 'b1', DUT_TOKEN_FILE=path)
            self.assertEqual((ran.rc, ran.err), (0, ''))
            # An option counts more than the environment, and DUT_SOCKET more than DUT_HOST.
            ran = lab.dut('--host', f'http://127.0.0.1:{lab.port}/', 'show', 'b1', '--json',
                          env={'DUT_TOKEN': SECRETS['view']})
            self.assertEqual(json.loads(ran.out)['state'], 'RETIRED')
            self.assertEqual(lab.dut('list', env={'DUT_HOST': 'http://127.0.0.1:1'}).rc, 0)
            self.assertEqual(lab.dut('list', '--host', 'http://127.0.0.1:1').rc, 69)

    def test_a_job_runs_through_it(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT + 'at 20ms send "done\\r\\n"\n')
            lab.listen().start()
            job = lab.write('job.yml', 'target: {id: b1}\nconsole_patterns: '
                            '{session_end: done, job_success: done}\n')
            ran = self.elsewhere(lab, 'run', job, '--output', lab.path('out'),
                                 DUT_TOKEN=SECRETS['use'])
            self.assertEqual(ran.rc, 0, ran)
            self.assertIn('Linux version 6.1', ran.out)
            self.assertEqual(lab.get('/jobs/1')['owner'], 'token:useer')

    def test_what_is_wrong_is_said(self):
        with TcpLab() as lab:
            lab.listen().start()
            url = f'http://127.0.0.1:{lab.port}'
            for env, code, text in (
                    ({}, 77, f'{url} needs a token: set DUT_TOKEN'),
                    ({'DUT_TOKEN': 'wrong'}, 77, f'is not known at {url}'),
                    ({'DUT_TOKEN': 'a b'}, 64, 'there is no token in DUT_TOKEN'),
                    ({'DUT_TOKEN': 'x\ny'}, 64, 'there is no token in DUT_TOKEN'),
                    ({'DUT_TOKEN_FILE': lab.path('none')}, 64, 'No such file'),
                    ({'DUT_TOKEN_FILE': lab.folder}, 64, 'DUT_TOKEN_FILE'),
                    ({'DUT_TOKEN_FILE': '/dev/null'}, 64, 'there is no token in /dev/null')):
                ran = self.elsewhere(lab, 'list', **env)
                self.assertEqual(ran.rc, code, ran)
                self.assertIn(text, ran.err)
                self.assertNotIn('wrong', ran.err)
            port = free_port()
            ran = self.elsewhere(lab, 'list', host=f'http://127.0.0.1:{port}')
            self.assertEqual(ran.rc, 69)
            self.assertEqual(ran.err, f'dut: nobody listens at http://127.0.0.1:{port} (see '
                             'api.listen in dutd.yaml there)\n')
            ran = self.elsewhere(lab, 'list', host='http://no-such-host.invalid')
            self.assertEqual(ran.rc, 69)
            self.assertIn('cannot reach http://no-such-host.invalid:8600', ran.err)
            for host in ('gateway', 'ftp://x', 'http://', 'http://u@x', 'http://x/path',
                         'http://x:0', 'http://x:99999', 'http://x:', 'ssh://-oProxyCommand=x',
                         'ssh://u@-x', 'ssh://-u@x', 'ssh://u x@y', 'ssh://', 'http://[::1',
                         'ssh://a;b', 'http://x?y', 'ssh://a@b@c'):
                ran = self.elsewhere(lab, 'list', host=host)
                self.assertEqual(ran.rc, 64, host)
                self.assertIn('is no host: http://HOST[:PORT]', ran.err)
            ran = lab.dut('list', '--host', url, '--socket', lab.socket)
            self.assertEqual(ran.rc, 64)
            self.assertIn('--socket or --host, not both', ran.err)


class TlsProxy:
    """Speaks TLS on loopback, and passes on what it gets; one connection after the other."""

    def __init__(self, context, port):
        self.context, self.target = context, port
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), client:
                with self.context.wrap_socket(client, server_side=True) as inside, \
                        socket.create_connection(('127.0.0.1', self.target), PATIENCE) as outside:
                    head = inside.recv(65536)
                    # So that the end of the answer is that of the connection.
                    outside.sendall(head.replace(b'\r\n\r\n', b'\r\nConnection: close\r\n\r\n'))
                    while data := outside.recv(65536):
                        inside.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(PATIENCE)


@unittest.skipUnless(shutil.which('openssl'), 'openssl is not installed')
class Tls(unittest.TestCase):
    def test_a_proxy_that_speaks_tls(self):
        with TcpLab() as lab:
            lab.listen().start()
            os.mkdir(lab.path('ca'))
            authority = Authority(lab.path('ca'))
            env = {'DUT_SOCKET': '', 'DUT_TOKEN': SECRETS['view']}
            with TlsProxy(authority.context(), lab.port) as proxy:
                url = f'https://127.0.0.1:{proxy.port}'
                ran = lab.dut('list', '--host', url, env={**env, 'SSL_CERT_FILE': authority.file})
                self.assertEqual((ran.rc, ran.err), (0, ''))
                # Whom nobody vouches for gets no token.
                ran = lab.dut('list', '--host', url, env=env)
                self.assertEqual(ran.rc, 69, ran)
                self.assertIn(f'cannot reach {url}: SSL certificate problem', ran.err)
            ran = lab.dut('list', '--host', f'https://127.0.0.1:{lab.port}', env=env)
            self.assertEqual(ran.rc, 69, ran)
            self.assertIn(f'cannot reach https://127.0.0.1:{lab.port}: ', ran.err)


class Ssh(unittest.TestCase):
    """Through `ssh USER@GATEWAY dut proxy`; the ssh of these tests runs it here."""

    def ssh(self, lab, script=None):
        """A program ssh, and a PATH that has it and dut; it notes its arguments."""
        bin_folder = lab.path('bin')
        text = script or f'exec env DUT_SOCKET={lab.socket} "$2" "$3"'
        path = lab.write('bin/ssh', f'#!/bin/sh\necho "$@" >> {lab.path("ssh.log")}\n{text}\n')
        os.chmod(path, 0o755)
        if not os.path.exists(os.path.join(bin_folder, 'dut')):
            os.symlink(DUT, os.path.join(bin_folder, 'dut'))
        return bin_folder + ':' + os.environ['PATH']

    def elsewhere(self, lab, *arguments, host='ssh://alice@gateway', path=None):
        return lab.dut(*arguments, env={'DUT_SOCKET': '', 'DUT_HOST': host,
                                        'PATH': path or self.ssh(lab)})

    def test_verbs_and_a_job(self):
        with Lab() as lab:
            lab.sim('b1', BOOT + 'at 20ms send "done\\r\\n"\n')
            lab.start()
            ran = self.elsewhere(lab, 'list', '--json')
            self.assertEqual(ran.rc, 0, ran)
            self.assertEqual(json.loads(ran.out)['id'], 'b1')
            with open(lab.path('ssh.log'), encoding='utf-8') as file:
                self.assertEqual(file.read(), 'alice@gateway dut proxy\n')
            job = lab.write('job.yml', 'target: {id: b1}\nconsole_patterns: '
                            '{session_end: done, job_success: done}\n')
            bucket = lab.write('bucket/big', os.urandom(3 << 20))
            ran = self.elsewhere(lab, 'run', job, '--output', lab.path('out'), '--bucket',
                                 os.path.dirname(bucket))
            self.assertEqual(ran.rc, 0, ran)
            self.assertIn('Linux version 6.1', ran.out)
            with open(lab.path('out', 'console.log'), 'rb') as file:
                self.assertIn(b'done', file.read())
            # It is who ssh has logged in as that asks.
            self.assertEqual(lab.get('/jobs/1')['owner'], name_of(os.geteuid()))

    def test_runs_from_elsewhere_outlive_dutd(self):
        script = BOOT + 'at 2500ms send "done\\r\\n"\n'
        with TcpLab() as lab:
            lab.sim('b1', script)
            lab.sim('b2', script)
            lab.listen().start()
            runs = []
            for board, env in (
                    ('b1', {'DUT_HOST': f'http://127.0.0.1:{lab.port}',
                            'DUT_TOKEN': SECRETS['use']}),
                    ('b2', {'DUT_HOST': 'ssh://gateway', 'PATH': self.ssh(lab)})):
                job = lab.write(f'{board}.yml', f'target: {{id: {board}}}\nconsole_patterns: '
                                '{session_end: done, job_success: done}\n')
                runs.append(lab.spawn_dut('run', job, env={'DUT_SOCKET': '', **env}))
            for run in runs:
                self.assertIn(b'Linux', run.stdout.read(5))
            lab.daemon.kill()
            lab.start()
            for run in runs:
                out, err = run.communicate(timeout=PATIENCE)
                self.assertEqual(run.returncode, 0, err)
                self.assertEqual(out.count(b'done'), 1)

    def test_a_port(self):
        with Lab() as lab:
            lab.start()
            path = self.ssh(lab, f'exec env DUT_SOCKET={lab.socket} "$4" "$5"')
            ran = self.elsewhere(lab, 'list', host='ssh://gateway.example:2222/', path=path)
            self.assertEqual(ran.rc, 0, ran)
            with open(lab.path('ssh.log'), encoding='utf-8') as file:
                self.assertEqual(file.read(), '-p 2222 gateway.example dut proxy\n')

    def test_why_it_cannot_be_reached(self):
        with Lab() as lab:
            for script, code, text in (
                    ('echo "Could not resolve hostname" >&2; exit 255', 69,
                     'ssh cannot reach ssh://alice@gateway (its status is 255)'),
                    ('exit 127', 69, 'there is no program dut (status 127 of'),
                    ('exit 77', 77, "'dut proxy' may not talk to the daemon there"),
                    ('exit 3', 69, "'ssh alice@gateway dut proxy' has ended with status 3"),
                    ('exit 0', 69, 'lost the daemon at ssh://alice@gateway'),
                    ('echo "Welcome to gateway"', 69, 'lost the daemon at'),
                    (None, 69, "'ssh alice@gateway dut proxy' has ended with status 69")):
                ran = self.elsewhere(lab, 'list', path=self.ssh(lab, script))
                self.assertEqual(ran.rc, code, (script, ran))
                self.assertIn(text, ran.err)
            ran = self.elsewhere(lab, 'list', path=lab.path('etc'))
            self.assertEqual(ran.rc, 69)
            self.assertIn('there is no program ssh in PATH', ran.err)
            lab.start()

    def test_it_leaves_with_its_client(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            path = self.ssh(lab, f'echo $$ >> {lab.path("pids")}\n'
                            f'exec env DUT_SOCKET={lab.socket} "$2" "$3"')
            follower = lab.spawn_dut('log', '--follow', 'b1',
                                     env={'DUT_SOCKET': '', 'DUT_HOST': 'ssh://gateway',
                                          'PATH': path})
            lab.api('PUT', '/dut/b1/power', {'state': 'on'})
            self.assertIn(b'Linux', follower.stdout.read(5))
            follower.kill()
            follower.communicate()
            lab.api('PUT', '/dut/b1/power', {'state': 'off'})
            with open(lab.path('pids'), encoding='utf-8') as file:
                pids = file.read().split()
            for pid in pids:
                self.assertTrue(processes.await_end(int(pid), PATIENCE))

    def test_the_proxy_takes_the_end_of_stdin(self):
        with Lab() as lab:
            lab.start()
            ran = lab.dut('proxy', stdin=b'GET /api/v1/status HTTP/1.1\r\nHost: x\r\n'
                          b'Connection: close\r\n\r\n')
            self.assertEqual(ran.rc, 0, ran)
            self.assertTrue(ran.raw.startswith(b'HTTP/1.1 200 OK'))
            self.assertIn(b'"version"', ran.raw)
            ran = lab.dut('proxy', '--socket', lab.path('none.sock'))
            self.assertEqual(ran.rc, 69)
            self.assertIn('cannot reach the daemon', ran.err)


if __name__ == '__main__':
    unittest.main()
