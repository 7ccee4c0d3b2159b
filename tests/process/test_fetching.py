# SPDX-License-Identifier: MIT
"""Jobs that fetch files and unpack buckets, through dutd."""

import bz2
import os
import shutil
import unittest

from tests.support.fetching import Authority, Web
from tests.support.harness import Lab
from tests.support.tars import END, entry, header


def job(url):
    """The file is not what the job wants: it gets no further than the download."""
    artifact = f'{{url: "{url}", sha256: "{"0" * 64}"}}'
    return f'version: 1\ndeployment: {{start: {{kernel: {artifact}}}}}\n' \
           'console_patterns: {session_end: the end}\n'


@unittest.skipUnless(shutil.which('openssl'), 'openssl is not installed')
class Trust(unittest.TestCase):
    def run_job(self, environment):
        with Lab() as lab:
            authority = Authority(lab.folder)
            web = Web(authority.context())
            lab.cleanup.callback(web.close)
            # The board is never switched on.
            lab.board('b1', {'qemu': {'arch': 'amd64', 'memory': '64M'}})
            lab.daemon.environment.update(environment(authority))
            lab.start()
            result = lab.run_job(job(web.url('ok')), 'b1')
            lab.await_board('b1', 'IDLE')
            return result

    def test_what_dutd_trusts_its_jobs_trust(self):
        result = self.run_job(lambda authority: {'SSL_CERT_FILE': authority.file})
        self.assertEqual((result['status'], result['reason']), ('SETUP_FAIL', 'checksum'))

    def test_an_unknown_certificate_ends_the_job_and_says_why(self):
        result = self.run_job(lambda authority: {})
        self.assertEqual((result['status'], result['reason']), ('SETUP_FAIL', 'download'))
        self.assertIn("this gateway does not trust the server's certificate", result['message'])


class Bucket(unittest.TestCase):
    TEXT = 'console_patterns: {session_end: the end}\n'

    def test_hostile_buckets_end_their_job_alone(self):
        many = b''.join(entry(b'%d' % number) for number in range(200)) + END
        start = header(b'zeros', size=10 << 30)
        with Lab() as lab:
            lab.configure({'limits': {'bucket': '4MiB', 'bucket_files': 100}})
            for board in ('b1', 'b2'):
                lab.sim(board, 'at 10ms send "the end\\r\\n"\n')
            lab.start()
            for bucket, text in (
                    (entry(b'../../x') + END, "entry '../../x' leaves the folder"),
                    (entry(b'\x1b]0;x', b'2', b'/etc') + END, "entry '\\e]0;x' is a link out"),
                    (many, "entry '100': the archive holds more than 100 files and folders "
                           '(limits.bucket_files)'),
                    (bz2.compress(start) + bz2.compress(bytes(1 << 20)) * 10240,
                     "entry 'zeros': the archive unpacks to more than 4194304 bytes "
                     '(limits.bucket)')):
                with self.subTest(text=text):
                    job_id = lab.submit_ok(self.TEXT, 'b1', bucket=bucket)
                    self.assertEqual(lab.run_job(self.TEXT, 'b2')['status'], 'COMPLETE')
                    result = lab.await_job(job_id)
                    self.assertEqual((result['status'], result['reason']),
                                     ('SETUP_FAIL', 'bucket'))
                    self.assertEqual(result['message'].partition(text)[1], text)
                    self.assertEqual(os.listdir(lab.job_file(job_id, 'bucket')), [])
            lab.await_board('b1', 'IDLE')
            self.assertNotIn('on', [event['event'] for event in lab.record('b1')])
            self.assertFalse(os.path.exists(os.path.join(lab.state, 'x')))


if __name__ == '__main__':
    unittest.main()
