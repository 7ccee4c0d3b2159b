# SPDX-License-Identifier: MIT
"""What happens before a board is touched: start, downloads, bucket; and cancel in every phase."""

import hashlib
import io
import os
import signal
import socket
import tarfile
import unittest

from tests.support import tars
from tests.support.harness import await_true
from tests.support.jobhost import JobHost, is_locked, now, record_lock_owner

PATTERNS = {'session_end': {'regex': 'the end$'}}


def job(**deployment):
    more = {'deployment': {'start': deployment}} if deployment else {}
    timeouts = deployment.pop('timeouts', {})
    return {'version': 1, 'console_patterns': PATTERNS, 'timeouts': timeouts, **more}


class Case(unittest.TestCase):
    maxDiff = None

    def make(self, description, **config):
        dutd = JobHost(description, **config)
        self.addCleanup(dutd.close)
        return dutd

    def file(self, dutd, name, data):
        path = os.path.join(dutd.dir, name)
        with open(path, 'wb') as file:
            file.write(data)
        return path

    def tar(self, **files):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode='w') as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name.replace('__', '/'))
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return data.getvalue()

    def with_bucket(self, description, data):
        dutd = self.make(description)
        dutd.tarball = self.file(dutd, 'bucket.tar', data)
        return dutd

    def assert_ended(self, result, status, reason, verdict):
        self.assertEqual((result['status'], result['reason'], result['verdict']),
                         (status, reason, verdict), result)
        self.assertTrue(result['message'])

    def assert_setup_fails(self, dutd, reason, verdict='job'):
        dutd.begin()
        result = dutd.run()
        self.assert_ended(result, 'SETUP_FAIL', reason, verdict)
        self.assertEqual((dutd.power, result['boots']), ([], []))
        self.assertFalse(os.path.exists(dutd.path('started')))
        return result


class Start(Case):
    def test_it_proves_who_it_is(self):
        dutd = self.make(job())
        self.assertEqual(dutd.start(), 'R')
        lock = os.path.join(dutd.dir, 'lock')
        self.assertTrue(is_locked(lock))
        self.assertEqual(record_lock_owner(lock), dutd.pid)
        connection = dutd.dial()
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        connection.close()
        self.assertEqual(int.from_bytes(peer[:4], 'little'), dutd.pid)
        dutd.kill()
        self.assertFalse(is_locked(lock))

    def test_it_says_why_it_cannot_start(self):
        dutd = self.make(None, job_text='version: 1\nconsole_patterns: {}\nnonsense: 1\n')
        word = dutd.start()
        self.assertIn('job.yml:3:', word)
        self.assertIn('nonsense', word)
        self.assertNotEqual(dutd.wait(), 0)

        dutd = self.make(job())
        dutd.write('job.json', '{"v": 1}')
        self.assertIn('job.json', dutd.start())
        self.assertNotEqual(dutd.wait(), 0)

        dutd = self.make(job())
        os.unlink(dutd.path('job.yml'))
        self.assertIn('job.yml', dutd.start())
        self.assertNotEqual(dutd.wait(), 0)

        dutd = self.make(job(), env={'DUT_LIBEXEC_DIR': '/nowhere'})
        self.assertIn('dut-helper', dutd.start())
        self.assertNotEqual(dutd.wait(), 0)

    def test_nothing_begins_before_go(self):
        dutd = self.make(job(), assignment={'timeouts': {'daemon': 300_000}})
        self.assertEqual(dutd.start(), 'R')
        dutd.connect()
        dutd.lend()
        result = dutd.run()  # the wait for go is bounded
        self.assert_ended(result, 'INCOMPLETE', 'daemon_lost', 'lab')
        self.assertEqual(dutd.power, [])
        self.assertIsNone(result['started'])


class Files(Case):
    def test_files_are_fetched_and_named_in_on(self):
        kernel, initramfs = b'kernel' * 1000, b'initramfs' * 1000
        digest = hashlib.sha256(initramfs).hexdigest()
        dutd = self.make(None, job_text='')
        self.file(dutd, 'my kernel', kernel)
        dutd.tarball = self.file(dutd, 'bucket.tar', self.tar(sub__initramfs=initramfs))
        url = f'file://{dutd.dir}/my%20kernel'
        dutd.write('job.yml', f'''
version: 1
console_patterns: {{session_end: {{regex: "the end$"}}}}
timeouts: {{boot_cycle: {{minutes: 1, retries: 1}}}}
deployment:
  start:
    kernel: {{url: "{url}", cmdline: [a, b]}}
    initramfs: {{url: "bucket:sub/initramfs", sha256: {digest}}}
  continue:
    initramfs: {{url: "bucket:sub/initramfs"}}
''')
        console = dutd.begin()
        on = dutd.power_on()
        self.assertEqual(set(on['deploy']), {'kernel', 'initramfs', 'cmdline'})
        self.assertEqual(on['deploy']['cmdline'], 'a b')
        for key, data in (('kernel', kernel), ('initramfs', initramfs)):
            with open(dutd.path(on['deploy'][key]), 'rb') as file:
                self.assertEqual(file.read(), data)
        console.say('the end\n')
        self.assert_ended(dutd.run(), 'COMPLETE', 'ok', None)
        self.assertEqual({event['artifact'] for event in dutd.events('phase')
                          if 'artifact' in event} - {'bucket'},
                         {'start-kernel', 'start-initramfs'})

    def test_a_file_of_the_bucket_is_used_where_it_lies(self):
        dutd = self.with_bucket(job(kernel={'url': 'bucket:Image'}), self.tar(Image=b'x' * 10))
        dutd.begin()
        self.assertEqual(dutd.power_on()['deploy'], {'kernel': 'bucket/Image'})

    def test_checksum(self):
        dutd = self.make(None, job_text='')
        self.file(dutd, 'kernel', b'kernel')
        dutd.write('job.yml', str(job(kernel={'url': f'file://{dutd.dir}/kernel',
                                              'sha256': '0' * 64})))
        self.assert_setup_fails(dutd, 'checksum')

    def test_download_of_what_is_not_there(self):
        dutd = self.make(None, job_text='')
        dutd.write('job.yml', str(job(kernel={'url': f'file://{dutd.dir}/kernel'})))
        result = self.assert_setup_fails(dutd, 'download')
        self.assertIn('start-kernel', result['message'])

    def test_files_outside_of_the_roots(self):
        dutd = self.make(job(kernel={'url': 'file:///etc/hostname'}))
        result = self.assert_setup_fails(dutd, 'download')
        self.assertIn('file_roots', result['message'])

    def test_a_path_that_the_bucket_lacks(self):
        dutd = self.with_bucket(job(kernel={'url': 'bucket:Image'}), self.tar(other=b'x'))
        result = self.assert_setup_fails(dutd, 'bucket')
        self.assertIn('Image', result['message'])

    def test_a_bucket_that_is_no_tarball_or_leaves_its_folder(self):
        self.assert_setup_fails(self.with_bucket(job(), b'no tarball at all' * 100), 'bucket')
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode='w') as tar:
            tar.addfile(tarfile.TarInfo('../escaped'), io.BytesIO())
        dutd = self.with_bucket(job(), data.getvalue())
        self.assert_setup_fails(dutd, 'bucket')
        self.assertFalse(os.path.exists(dutd.path('escaped')))


class Stalled:
    """A server that accepts a download and sends nothing."""

    def __init__(self):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.url = f'http://127.0.0.1:{self.listener.getsockname()[1]}/kernel'

    def close(self):
        self.listener.close()


class StalledCase(Case):
    def setUp(self):
        self.server = Stalled()
        self.addCleanup(self.server.close)

    def begin_stalled(self, **timeouts):
        dutd = self.make(job(kernel={'url': self.server.url}, timeouts=timeouts))
        dutd.begin()
        self.server.listener.settimeout(20)
        connection, _ = self.server.listener.accept()
        self.addCleanup(connection.close)
        return dutd


class InfraSetup(StalledCase):
    def test_infra_setup_bounds_a_stalled_download(self):
        dutd = self.begin_stalled(infra_setup={'milliseconds': 300})
        self.assert_ended(dutd.run(), 'SETUP_FAIL', 'timeout:infra_setup', 'test')

    def test_overall_before_the_first_on_is_a_setup_failure(self):
        dutd = self.begin_stalled(overall={'milliseconds': 300})
        self.assert_ended(dutd.run(), 'SETUP_FAIL', 'timeout:overall', 'test')

    def test_a_helper_that_dies_while_it_is_needed(self):
        dutd = self.begin_stalled()
        helper = self.child(dutd.pid, 'dut-helper')
        os.kill(helper, signal.SIGKILL)
        self.assert_ended(dutd.run(), 'SETUP_FAIL', 'executor_failed', 'lab')

    def test_who_downloads_is_confined(self):
        dutd = self.begin_stalled()
        helper = self.child(dutd.pid, 'dut-helper')
        for pid in (helper, self.child(helper, 'dut-fetch')):
            with open(f'/proc/{pid}/status') as file:
                status = dict(line.split(':\t', 1) for line in file)
            self.assertEqual(status['NoNewPrivs'], '1\n')
            self.assertEqual(status['Seccomp'], '2\n')
            for kind in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb'):
                self.assertEqual(int(status[kind], 16), 0, kind)

    def test_half_a_bucket_is_removed(self):
        many = b''.join(tars.entry(b'%d/%d' % (n % 100, n)) for n in range(50000)) + tars.END
        dutd = self.make(job(), assignment={'limits': {'bucket_files': 100000}})
        dutd.tarball = self.file(dutd, 'bucket.tar', many)
        dutd.begin()
        await_true(lambda: os.path.exists(dutd.path('bucket', '0')), 'the first file')
        os.kill(self.child(self.child(dutd.pid, 'dut-helper'), 'dut-fetch'), signal.SIGKILL)
        result = dutd.run()
        self.assert_ended(result, 'SETUP_FAIL', 'executor_failed', 'lab')
        self.assertEqual(os.listdir(dutd.path('bucket')), [])

    def child(self, pid, name):
        with open(f'/proc/{pid}/task/{pid}/children') as file:
            for child in file.read().split():
                with open(f'/proc/{child}/comm') as comm:
                    if comm.read().strip() == name:
                        return int(child)
        raise AssertionError('no ' + name)


class Cancel(StalledCase):
    """In every phase: CANCELLED within a second, with who and why."""

    def cancelled(self, dutd, reason='cancelled', **packet):
        begun = now()
        dutd.send({'t': 'cancel', 'reason': reason, 'by': 'bob', 'why': 'lunch', **packet})
        result = dutd.run()
        self.assertLess(now() - begun, 1)
        self.assert_ended(result, 'CANCELLED', reason, None)
        self.assertIn('by bob: lunch', result['message'])
        kinds = [p['t'] for p in dutd.sent]
        self.assertLess(kinds.index('cancelling'), kinds.index('end'))
        self.assertEqual(kinds[-1], 'returned')
        return result

    def test_before_go(self):
        dutd = self.make(job())
        dutd.start()
        dutd.connect()
        dutd.lend()
        self.cancelled(dutd)

    def test_during_a_stalled_download(self):
        self.cancelled(self.begin_stalled())

    def test_while_off_is_not_answered(self):
        dutd = self.make(job())
        dutd.begin()
        dutd.expect('off')
        self.cancelled(dutd)

    def test_while_on_is_not_answered(self):
        dutd = self.make(job())
        dutd.begin()
        dutd.done(dutd.expect('off'))
        dutd.expect('on')
        result = self.cancelled(dutd)
        self.assertEqual(len(result['boots']), 1)

    def test_while_booting_and_running(self):
        for words in ('', 'hello\n'):
            with self.subTest(words=words):
                dutd = self.make(job())
                console = dutd.begin()
                dutd.power_on()
                console.say(words)
                result = self.cancelled(dutd, 'client_lost')
                self.assertEqual(dutd.log(), words.encode())
                self.assertEqual(result['boots'][0]['reason'], 'client_lost')

    def test_while_a_board_floods(self):
        dutd = self.make(job())
        console = dutd.begin()
        dutd.power_on()
        writer = os.fork()
        if writer == 0:
            try:
                while True:
                    os.write(console.board, b'the quick brown fox\n' * 200)
            finally:
                os._exit(0)
        try:
            while len(dutd.log()) < 200000:
                dutd.send({'t': 'hum'})
                dutd.expect('unknown')
            self.cancelled(dutd)
        finally:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)

    def test_in_the_last_second_of_a_session(self):
        dutd = self.make(job())
        console = dutd.begin()
        dutd.power_on()
        console.say('the end\n')
        while dutd.sent[-1].get('phase') != 'teardown':
            dutd.expect('phase')
        self.cancelled(dutd)

    def test_by_sigterm(self):
        dutd = self.make(job())
        dutd.begin()
        dutd.power_on()
        signal.pidfd_send_signal(dutd.pidfd, signal.SIGTERM)
        result = dutd.run()
        self.assert_ended(result, 'CANCELLED', 'cancelled', None)
        self.assertIn('told to stop', result['message'])

    def test_a_reason_that_only_dutd_knows_is_taken(self):
        dutd = self.make(job())
        dutd.begin()
        dutd.power_on()
        dutd.send({'t': 'cancel', 'reason': 'console_lost', 'why': 'the adapter is gone'})
        self.assert_ended(dutd.run(), 'INCOMPLETE', 'console_lost', 'lab')

    def test_nobody_makes_a_job_pass(self):
        for reason in ('ok', 'warn', 'command:0', 'lunch'):
            with self.subTest(reason):
                dutd = self.make(job())
                dutd.begin()
                dutd.power_on()
                dutd.send({'t': 'cancel', 'reason': reason})
                self.assert_ended(dutd.run(), 'CANCELLED', 'cancelled', None)


if __name__ == '__main__':
    unittest.main()
