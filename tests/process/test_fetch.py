# SPDX-License-Identifier: MIT
"""dut-fetch: one download or one archive, by its fds."""

import hashlib
import io
import os
import resource
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import unittest
from email.utils import formatdate

from tests.support.fetching import (BODY, LATER, PATIENCE, Authority, Box, Fetch, Turn, Web,
                                    now)

SHA256 = hashlib.sha256(BODY).hexdigest()


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.close)

    def serve(self, tls=None):
        web = Web(tls)
        self.addCleanup(web.close)
        return web

    def start(self, url, env=None, **more):
        with self.box.open('out') as out:
            return Fetch('download', {'url': url, 'max_bytes': 1 << 20, **more}, {3: out}, env)

    def download(self, url, **more):
        return self.start(url, **{'retry_ms': 10, **more}).finish()[-1]

    def assert_downloaded(self, answer, body=BODY):
        self.assertEqual(answer.get('ok'), True, answer)
        self.assertEqual(answer['size'], len(body))
        self.assertEqual(self.box.read('out'), body)

    def assert_failed(self, answer, reason, *texts):
        self.assertEqual(answer.get('reason'), reason, answer)
        for text in texts:
            self.assertIn(text, answer['error'])


class Download(Case):
    def test_a_file_arrives_whole(self):
        web = self.serve()
        answer = self.download(web.url('ok'))
        self.assert_downloaded(answer)
        self.assertGreater(answer['seconds'], 0)
        self.assertTrue(web.headers('ok')[0]['User-Agent'].startswith('dutd/'))

    def test_what_was_in_the_file_is_replaced(self):
        self.box.write('out', BODY + BODY)
        self.assert_downloaded(self.download(self.serve().url('ok')))

    def test_a_checksum_is_verified(self):
        web = self.serve()
        self.assert_downloaded(self.download(web.url('ok'), sha256=SHA256.upper()))
        wrong = 'f' * 64
        self.assert_failed(self.download(web.url('ok'), sha256=wrong), 'checksum',
                           f'its sha256 is {SHA256} and not {wrong}')

    def test_redirects_are_followed_within_http(self):
        web = self.serve()
        self.assert_downloaded(self.download(web.url('moved')))
        self.assert_failed(self.download(web.url('to-file')), 'download',
                           f'http://{web.address}/to-file: ', 'other than http and https')
        self.assertEqual(self.box.read('out'), b'')
        self.assert_failed(self.download(web.url('loop')), 'download', 'more than 10 redirects')
        self.assertEqual(len(web.headers('loop')), 11)

    def test_a_status_is_told(self):
        web = self.serve()
        self.assert_failed(self.download(web.url('nowhere')), 'download',
                           f'http://{web.address}/nowhere: the server answered 404')
        self.assertEqual(self.box.read('out'), b'')

    def test_nobody_listening_is_told_at_once(self):
        with socket.socket() as unused:
            unused.bind(('127.0.0.1', 0))
            port = unused.getsockname()[1]
            self.assert_failed(self.download(f'http://127.0.0.1:{port}/x'), 'download',
                               'onnect')

    def test_other_schemes_and_nonsense_are_refused(self):
        for url in ('ftp://127.0.0.1/x', 'gopher://127.0.0.1/x', 'scp://127.0.0.1/x'):
            self.assert_failed(self.download(url), 'download', url, 'http and https')
        for url in ('', 'kernel', 'http://', 'http://[::1/x', 'http://h:99999/'):
            self.assert_failed(self.download(url), 'download')

    def test_a_limit_holds_with_and_without_a_length(self):
        web = self.serve()
        limit = len(BODY) - 1
        self.assert_failed(self.download(web.url('ok'), max_bytes=limit), 'download',
                           f'more than {limit} bytes (limits.bucket)')
        self.assert_failed(self.download(web.url('endless'), max_bytes=1 << 20), 'download',
                           'more than 1048576 bytes (limits.bucket)')
        self.assertLessEqual(len(self.box.read('out')), 1 << 20)
        self.assert_downloaded(self.download(web.url('ok'), max_bytes=len(BODY)))

    def test_progress_is_told(self):
        *progress, answer = self.start(self.serve().url('drip')).finish()
        self.assert_downloaded(answer)
        self.assertEqual([sorted(line) for line in progress], [['progress']] * len(progress))
        self.assertTrue(any(len(BODY) // 2 < line['progress'] <= len(BODY) for line in progress),
                        progress)

    def test_a_full_disk_is_told(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            fetch = self.start(self.serve().url('ok'))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assert_failed(fetch.finish()[-1], 'disk', 'cannot write: File too large')

    def test_a_proxy_of_the_environment_is_used(self):
        web = self.serve()
        fetch = self.start('http://board.invalid/ok', {'http_proxy': f'http://{web.address}'})
        answer = fetch.finish()[-1]
        self.assert_failed(answer, 'download', 'http://board.invalid/ok: the server answered 404')
        self.assertEqual(web.seen[0][0], 'http://board.invalid/ok')

    def test_secrets_of_a_url_work_and_are_never_told(self):
        web = self.serve()
        self.assert_downloaded(
            self.download(web.url('private?key=hidden', 'alice:open%20sesame@')))
        for url in (web.url('private?key=hidden#x', 'alice:s3cret@'),
                    'http://alice:s3cret@no-such-host.invalid/?key=hidden',
                    'http://alice:s3cret@127.0.0.1:1/?key=hidden',
                    'ftp://alice:s3cret@127.0.0.1/?key=hidden',
                    'http://alice:s3cret@[bad/?key=hidden'):
            answer = self.download(url)
            self.assert_failed(answer, 'download')
            for secret in ('alice', 's3cret', 'hidden', 'open'):
                self.assertNotIn(secret, str(answer))

    def test_secrets_are_not_on_the_command_line(self):
        web = self.serve()
        fetch = self.start(web.url('stall', 'alice:s3cret@'))
        self.assertTrue(web.stalled.acquire(timeout=PATIENCE))
        with open(f'/proc/{fetch.pid}/cmdline', 'rb') as file:
            self.assertNotIn(b's3cret', file.read())
        fetch.kill()

    def test_it_can_be_killed_while_a_server_stalls(self):
        web = self.serve()
        fetch = self.start(web.url('stall'))
        self.assertTrue(web.stalled.acquire(timeout=PATIENCE))
        began = now()
        self.assertEqual(fetch.kill(), -signal.SIGKILL)
        self.assertLess(now() - began, 1)
        self.assertTrue(web.left.acquire(timeout=PATIENCE))


class Resume(Case):
    def test_a_transfer_that_broke_goes_on_where_it_stopped(self):
        web = self.serve()
        self.assert_downloaded(self.download(web.url('resumable'), sha256=SHA256))
        first, second, third = web.headers('resumable')
        self.assertNotIn('Range', first)
        for later in (second, third):
            self.assertEqual(later['Range'], f'bytes={len(BODY) // 2}-')
            self.assertEqual(later['If-Range'], '"one"')

    def test_a_file_that_changed_meanwhile_is_never_mixed(self):
        web = self.serve()
        self.assert_downloaded(self.download(web.url('changing')), LATER)
        self.assertEqual([headers.get('If-Range') for headers in web.headers('changing')],
                         [None, '"one"', None])

    def test_without_a_validator_it_begins_again(self):
        web = self.serve()
        self.assert_downloaded(self.download(web.url('rangeless')))
        self.assertNotIn('Range', web.headers('rangeless')[1])

    def test_a_range_that_is_not_there_any_more_begins_again(self):
        web = self.serve()
        self.assert_downloaded(self.download(web.url('gone')))
        self.assertEqual(['Range' in headers for headers in web.headers('gone')],
                         [False, True, False])

    def test_there_are_three_retries(self):
        web = self.serve()
        self.assert_failed(self.download(web.url('hopeless')), 'download',
                           f'http://{web.address}/hopeless: ')
        self.assertEqual(len(web.headers('hopeless')), 4)

    def ranges(self, path):
        return [headers.get('Range') for headers in self.web.headers(path)]

    def plan(self, path, *turns):
        self.web = getattr(self, 'web', None) or self.serve()
        return self.web.plan(path, *turns)

    def test_a_cut_at_any_byte_in_any_way_is_mended(self):
        for how in ('close', 'reset'):
            for cut in (0, 1, 16384, len(BODY) - 1):
                path = f'{how}-{cut}'
                with self.subTest(path=path):
                    url = self.plan(path, Turn(cut=cut, how=how, ETag='"1"'), Turn(ETag='"1"'))
                    self.assert_downloaded(self.download(url, sha256=SHA256))
                    self.assertEqual(self.ranges(path),
                                     [None, f'bytes={cut}-' if cut else None])

    def test_a_stall_is_mended(self):
        url = self.plan('stalls', Turn(cut=70000, how='stall', ETag='"1"'), Turn(ETag='"1"'))
        self.assert_downloaded(self.download(url, sha256=SHA256, stall_s=1))
        self.assertEqual(self.ranges('stalls'), [None, 'bytes=70000-'])

    def test_a_byte_now_and_then_is_a_stall(self):
        url = self.plan('drips', Turn(cut=70000, how='drip', ETag='"1"'),
                        Turn(status=404))
        self.assert_failed(self.download(url, stall_s=1), 'download', 'answered 404')
        first = int(self.ranges('drips')[1].removeprefix('bytes=').rstrip('-'))
        self.assertTrue(70000 < first < 70100, first)

    def test_a_line_that_breaks_all_the_time_gets_there(self):
        url = self.plan('often', *[Turn(cut=12000, ETag='"1"')] * 21, Turn(ETag='"1"'))
        self.assert_downloaded(self.download(url, sha256=SHA256))
        self.assertEqual(len(self.ranges('often')), 22)
        # Not for ever: the server may do it on purpose.
        url = self.plan('atoms', Turn(cut=1, ETag='"1"'))
        self.assert_failed(self.download(url), 'download')
        self.assertEqual(len(self.ranges('atoms')), 31)

    def test_a_server_that_says_later_is_asked_again(self):
        for status in (408, 429, 500, 502, 503, 504):
            path = f'later-{status}'
            url = self.plan(path, Turn(status=status, body=b'oops'), Turn(cut=5, ETag='"1"'),
                            Turn(status=status), Turn(ETag='"1"'))
            self.assert_downloaded(self.download(url, sha256=SHA256))
            self.assertEqual(self.ranges(path), [None, None, 'bytes=5-', 'bytes=5-'])
        url = self.plan('never', Turn(status=503))
        self.assert_failed(self.download(url), 'download', 'the server answered 503')
        self.assertEqual(len(self.ranges('never')), 4)
        url = self.plan('no', Turn(status=501))
        self.assert_failed(self.download(url), 'download', 'the server answered 501')
        self.assertEqual(len(self.ranges('no')), 1)

    def test_a_server_says_when_to_come_back(self):
        url = self.plan('busy', Turn(status=503, Retry_After='1'), Turn())
        began = now()
        self.assert_downloaded(self.download(url))
        self.assertGreaterEqual(now() - began, 1)

    def test_a_range_of_something_else_is_never_taken(self):
        part = BODY[5:]
        for name, turn in (
                ('place', Turn(206, body=part, ETag='"1"', Content_Range='bytes 0-9/262144')),
                ('empty', Turn(206, body=b'', ETag='"1"', Content_Range='bytes 0-9/262144')),
                ('tag', Turn(206, body=part, ETag='"2"', Content_Range='bytes 5-9/262144')),
                ('total', Turn(206, body=part, ETag='"1"', Content_Range='bytes 5-9/262145')),
                ('words', Turn(206, body=part, ETag='"1"', Content_Range='bytes five-9/x')),
                ('range', Turn(206, body=part, ETag='"1"')),
                ('whole', Turn(200, body=LATER, ETag='"1"'))):
            with self.subTest(name=name):
                url = self.plan(name, Turn(cut=5, ETag='"1"'), turn, Turn(body=LATER))
                self.assert_downloaded(self.download(url), LATER)
                self.assertEqual(self.ranges(name), [None, 'bytes=5-', None])

    def test_a_range_may_be_shorter_than_asked_for(self):
        some = Turn(206, body=BODY[5:99], ETag='"1"', Content_Range=f'bytes 5-98/{len(BODY)}')
        url = self.plan('some', Turn(cut=5, ETag='"1"'), some, Turn(ETag='"1"'))
        self.assert_downloaded(self.download(url, sha256=SHA256))
        self.assertEqual(self.ranges('some'), [None, 'bytes=5-', 'bytes=99-'])

    def test_a_weak_validator_is_none(self):
        now_text, before = formatdate(time.time() + 5, usegmt=True), formatdate(0, usegmt=True)
        for name, headers, used in (('weak', {'ETag': 'W/"1"'}, None),
                                    ('young', {'Last_Modified': now_text}, None),
                                    ('undated', {'Last_Modified': before, 'Date': None}, None),
                                    ('old', {'Last_Modified': before}, before),
                                    ('both', {'ETag': 'W/"1"', 'Last_Modified': before}, before)):
            with self.subTest(name=name):
                url = self.plan(name, Turn(cut=5, **headers), Turn(**headers))
                self.assert_downloaded(self.download(url, sha256=SHA256))
                self.assertEqual(self.web.headers(name)[1].get('If-Range'), used)

    def test_a_redirect_is_followed_again(self):
        self.plan('target', Turn(cut=5, ETag='"1"'), Turn(ETag='"1"'))
        url = self.plan('link', Turn(302, body=b'elsewhere', Location='/target'))
        self.assert_downloaded(self.download(url, sha256=SHA256))
        self.assertEqual((len(self.ranges('link')), self.ranges('target')),
                         (2, [None, 'bytes=5-']))

    def test_answers_that_are_no_file_are_refused(self):
        for status in (201, 204, 206, 300, 304):
            body = b'' if status == 204 else b'x'
            url = self.plan(f'odd-{status}', Turn(status=status, body=body))
            self.assert_failed(self.download(url), 'download', f'the server answered {status}')
            self.assertEqual(self.box.read('out'), b'')

    def test_headers_without_end_are_refused(self):
        web = self.serve()
        self.assert_failed(self.download(web.url('boundless')), 'download',
                           'more than 1048576 bytes of headers')
        self.assert_failed(self.download(web.url('babble')), 'download', 'HTTP/0.9')


@unittest.skipUnless(shutil.which('openssl'), 'openssl is not installed')
class Tls(Case):
    def setUp(self):
        super().setUp()
        self.lab = Authority(self.box.path)
        self.trust = {'SSL_CERT_FILE': self.lab.file, 'SSL_CERT_DIR': '/nowhere'}

    def get(self, url, env, **more):
        return self.start(url, env, retry_ms=10, **more).finish()[-1]

    def test_a_certificate_of_the_lab_is_taken_where_the_gateway_trusts_it(self):
        web = self.serve(self.lab.context())
        self.assert_downloaded(self.get(web.url('ok'), self.trust, sha256=SHA256))
        plain = self.serve()
        url = plain.plan('over', Turn(302, Location=web.url('ok')))
        self.assert_downloaded(self.get(url, self.trust))

    def test_a_transfer_that_broke_goes_on(self):
        web = self.serve(self.lab.context())
        url = web.plan('cut', Turn(cut=70000, ETag='"1"'), Turn(ETag='"1"'))
        self.assert_downloaded(self.get(url, self.trust, sha256=SHA256))
        self.assertEqual(web.headers('cut')[1]['Range'], 'bytes=70000-')

    def test_a_certificate_that_nobody_vouches_for_is_refused(self):
        web = self.serve(self.lab.context())
        self.box.write('.curlrc', b'insecure\n')
        os.mkdir(self.box.at('rival'))
        rival = Authority(self.box.at('rival'))
        for env in ({}, {'HOME': self.box.path, 'CURL_HOME': self.box.path},
                    {'SSL_CERT_FILE': rival.file, 'SSL_CERT_DIR': '/nowhere'}):
            self.assert_failed(self.get(web.url('ok'), env), 'download',
                               f'https://{web.address}/ok: this gateway does not trust the '
                               "server's certificate: ", 'certificate')
            self.assertEqual(self.box.read('out'), b'')
        self.assertEqual(web.seen, [])

    def test_a_certificate_for_another_server_or_time_is_refused(self):
        for name, context, text in (
                ('other', self.lab.context('other', 'DNS:files.example'), 'subject name'),
                ('old', self.lab.context('old', days=-1), 'expired')):
            web = self.serve(context)
            self.assert_failed(self.get(web.url('ok'), self.trust), 'download',
                               "does not trust the server's certificate", text)
            self.assertEqual(web.seen, [], name)

    def test_a_trust_store_that_is_not_there_is_named(self):
        web = self.serve(self.lab.context())
        missing = self.box.at('missing.pem')
        self.assert_failed(self.get(web.url('ok'), {'SSL_CERT_FILE': missing}), 'download',
                           missing)

    def test_what_is_no_tls_is_told(self):
        web = self.serve()
        self.assert_failed(self.get(f'https://{web.address}/ok', self.trust), 'download', 'SSL')


class File(Case):
    def setUp(self):
        super().setUp()
        os.mkdir(self.box.at('root'))
        os.mkdir(self.box.at('root', 'sub'))
        self.box.write('root/file', BODY)
        self.box.write('root/sub/na me%', BODY)
        self.box.write('outside', LATER)
        self.root = self.box.at('root')

    def get(self, path, roots=None, **more):
        roots = [self.root] if roots is None else roots
        return self.download('file://' + path, file_roots=roots, **more)

    def test_files_beneath_a_root_are_copied(self):
        self.assert_downloaded(self.get(self.root + '/file', sha256=SHA256))
        self.assert_downloaded(self.get(self.root + '//sub/./na%20me%25'))
        self.assert_downloaded(self.get('localhost' + self.root + '/file'))
        self.assert_downloaded(self.get(self.root + '/sub/../file', ['/nowhere', self.root + '/']))

    def test_what_leads_out_of_the_roots_is_refused(self):
        os.symlink('../outside', self.root + '/out')
        os.symlink('..', self.root + '/up')
        os.symlink(self.root + '/file', self.root + '/absolute')
        for path in (self.box.at('outside'), self.root + '/../outside', self.root + '/out',
                     self.root + '/up/outside', self.root + '/absolute', self.root + 'x',
                     '/etc/passwd', '/proc/self/environ'):
            self.assert_failed(self.get(path), 'download', 'lies outside of api.file_roots')
        self.assert_failed(self.get(self.root + '/file', []), 'download', 'file_roots')
        self.assertEqual(self.box.read('out'), b'')

    def test_a_link_within_a_root_is_followed(self):
        os.symlink('../file', self.root + '/sub/link')
        self.assert_downloaded(self.get(self.root + '/sub/link'))

    def test_only_regular_files_are_read(self):
        os.mkfifo(self.root + '/fifo')
        self.assert_failed(self.get(self.root + '/fifo'), 'download', 'is no regular file')
        self.assert_failed(self.get(self.root + '/sub'), 'download', 'is no regular file')
        self.assert_failed(self.get(self.root + '/missing'), 'download', 'No such file')
        self.assert_failed(self.get(self.root + '/file', max_bytes=10), 'download',
                           'more than 10 bytes')

    def test_what_is_no_local_path_is_refused(self):
        for rest in ('host/etc/passwd', '', 'localhost', '/a%00b', '/a%4', '/a%zz'):
            self.assert_failed(self.get(rest), 'download', 'is no URL of the form file:///PATH')

    def test_without_roots_every_readable_file_is_read(self):
        answer = self.download('file://' + self.box.at('outside'))
        self.assert_downloaded(answer, LATER)

    def test_an_open_file_is_copied(self):
        with self.box.open('out') as out, self.box.open('root/file', os.O_RDONLY) as source:
            answer = Fetch('download', {'sha256': SHA256}, {3: out, 4: source}).finish()[-1]
        self.assert_downloaded(answer)


def make_tar(*members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w') as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


class Archive(Case):
    def setUp(self):
        super().setUp()
        os.mkdir(self.box.at('dir'))

    def unpack(self, data, **limits):
        self.box.write('tar', data)
        request = {'max_bytes': 1 << 20, 'max_files': 100, **limits}
        with self.box.open('tar') as tar, self.box.open('dir', os.O_RDONLY) as folder:
            return Fetch('unpack', request, {3: tar, 4: folder}).finish()[-1]

    def test_a_bucket_is_unpacked(self):
        answer = self.unpack(make_tar(('a', b'1'), ('b/c', b'22')))
        self.assertEqual((answer['ok'], answer['size']), (True, 3))
        self.assertEqual(self.box.read('dir/b/c'), b'22')

    def test_a_bad_one_is_refused_as_a_whole(self):
        good = ('good', b'x')
        for data, text in ((make_tar(good, ('../x', b'')), "entry '../x' leaves the folder"),
                           (make_tar(good)[:700], 'the archive cannot be read'),
                           (b'no tar', 'Unrecognized archive format'),
                           (make_tar(good, ('big', bytes(1 << 20))), 'more than 1048576 bytes')):
            self.assert_failed(self.unpack(data), 'bucket', text)
            self.assertEqual(os.listdir(self.box.at('dir')), [])

    def test_a_full_disk_is_told_and_leaves_nothing(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        data = make_tar(('a', b'1'), ('b', bytes(100000)))
        self.box.write('tar', data)
        with self.box.open('tar') as tar, self.box.open('dir', os.O_RDONLY) as folder:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
            try:
                fetch = Fetch('unpack', {}, {3: tar, 4: folder})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assert_failed(fetch.finish()[-1], 'disk', "entry 'b': cannot write: File too large")
        self.assertEqual(os.listdir(self.box.at('dir')), [])

    def test_named_files_are_packed_into_a_pipe(self):
        self.box.write('dir/result.json', b'{}')
        self.box.write('dir/secret', b'x')
        os.mkdir(self.box.at('dir', 'bucket'))
        self.box.write('dir/bucket/big', BODY)
        read, write = os.pipe()
        with self.box.open('dir', os.O_RDONLY) as folder:
            fetch = Fetch('pack', {'files': ['result.json', 'missing'], 'folders': ['bucket']},
                          {3: write, 4: folder})
        os.close(write)
        with os.fdopen(read, 'rb') as stream, tarfile.open(fileobj=stream, mode='r|') as tar:
            found = {info.name: info.isfile() and tar.extractfile(info).read() for info in tar}
        self.assertEqual(fetch.finish()[-1]['ok'], True)
        self.assertEqual(found, {'result.json': b'{}', 'bucket': False, 'bucket/big': BODY})

    def test_what_a_job_left_in_the_place_of_its_results_is_left_out(self):
        self.box.write('secret', b'secret')
        self.box.write('dir/good', b'good')
        os.symlink('../secret', self.box.at('dir', 'symlink'))
        os.link(self.box.at('secret'), self.box.at('dir', 'hardlink'))
        os.mkfifo(self.box.at('dir', 'fifo'))
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(self.box.at('dir', 'socket'))
        os.mkdir(self.box.at('dir', 'folder'))
        os.mkfifo(self.box.at('dir', 'folder', 'fifo'))
        os.symlink('/etc/passwd', self.box.at('dir', 'folder', 'link'))
        os.mkdir(self.box.at('dir', 'other'))
        files = ['symlink', 'hardlink', 'fifo', 'socket', 'other', 'good', 'missing']
        request = {'files': files, 'folders': ['folder', 'good', 'symlink', 'missing']}
        with self.box.open('tar') as tar, self.box.open('dir', os.O_RDONLY) as folder:
            answer = Fetch('pack', request, {3: tar, 4: folder}).finish()[-1]
        self.assertEqual(answer.get('ok'), True, answer)
        with tarfile.open(self.box.at('tar')) as tar:
            self.assertEqual([member.name for member in tar], ['folder', 'folder/link', 'good'])
        self.assertNotIn(b'secret', self.box.read('tar'))

    def test_a_folder_without_bottom_is_no_result(self):
        path = self.box.at('dir')
        fd = os.open(path, os.O_RDONLY)
        for name in ('bucket', *['d'] * 10000):
            os.mkdir(name, dir_fd=fd)
            lower = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = lower
        os.close(fd)
        self.addCleanup(subprocess.run, ['rm', '-rf', path], check=True)
        with self.box.open('tar') as tar, self.box.open('dir', os.O_RDONLY) as folder:
            answer = Fetch('pack', {'folders': ['bucket']}, {3: tar, 4: folder}).finish()[-1]
        self.assert_failed(answer, 'disk', "cannot read the folder 'bucket/d/d")

    def test_what_is_no_name_of_the_folder_is_refused(self):
        for name in ('', '.', '..', '../x', '/etc', 'a/b', 1, None):
            for key in ('files', 'folders'):
                with self.box.open('tar') as tar, self.box.open('dir', os.O_RDONLY) as folder:
                    answer = Fetch('pack', {key: [name]}, {3: tar, 4: folder}).finish()[-1]
                self.assert_failed(answer, 'disk', 'a name to pack')

    def test_half_an_archive_never_looks_whole(self):
        self.box.write('dir/first', b'1')
        with self.box.open('tar') as tar, self.box.open('dir', os.O_RDONLY) as folder:
            fetch = Fetch('pack', {'files': ['first', '../tar']}, {3: tar, 4: folder})
        self.assert_failed(fetch.finish()[-1], 'disk', 'a name to pack')
        with self.assertRaises(tarfile.ReadError):
            with tarfile.open(self.box.at('tar')) as tar:
                tar.getmembers()


class Misuse(Case):
    def test_a_request_that_is_none_gets_an_answer(self):
        for request in (b'', b'[]', b'{', b'{"url": 1', b'x' * 70000):
            with self.box.open('out') as out:
                answer = Fetch('download', request, {3: out}).finish()[-1]
            self.assert_failed(answer, 'executor_failed')

    def test_a_mode_that_is_none_is_a_usage_error(self):
        with self.box.open('out') as out, self.assertRaisesRegex(AssertionError, 'with 64'):
            Fetch('--help', {}, {3: out}).finish()


if __name__ == '__main__':
    unittest.main()
