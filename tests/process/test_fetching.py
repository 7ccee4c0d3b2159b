# SPDX-License-Identifier: MIT
"""Jobs that fetch files, through dutd: what reaches dut-fetch, and what comes back."""

import shutil
import unittest

from tests.support.fetching import Authority, Web
from tests.support.harness import Lab


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


if __name__ == '__main__':
    unittest.main()
