# SPDX-License-Identifier: MIT
"""What ties a job to its client: repeats of a submission, the binding, coming back to dutd."""

import json
import os
import threading
import time
import unittest

from tests.support.harness import PATIENCE, Lab, UnixConnection, await_true, form_of

BOOT = 'at 10ms send "U-Boot\\r\\n"\nat 20ms send "Linux version 6.1\\r\\n"\n'
QUICK = BOOT + 'at 30ms send "test ok\\r\\nall done\\r\\n"\n'
JOB = '''
timeouts: {overall: 5m}
console_patterns: {session_end: "all done", job_success: "test ok"}
'''


def open_submission(lab, text, target, **metadata):
    """Sends a submission, and does not wait for its answer: the connection."""
    metadata = {'version': 1, 'target': {'id': target}, **metadata}
    kind, body = form_of([('metadata', json.dumps(metadata).encode()), ('job', text.encode())])
    connection = UnixConnection(lab.socket, PATIENCE)
    lab.cleanup.callback(connection.close)
    connection.request('POST', '/api/v1/jobs', body, {'Content-Type': kind})
    return connection


class Repeats(unittest.TestCase):
    def test_a_repeat_is_the_first_job(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual(first.status, 201, first)
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual(again.status, 200, again)
            self.assertEqual(again.json['id'], first.json['id'])
            self.assertEqual(set(again.json), set(first.json))
            # Also under the next dutd, and when it has ended.
            lab.kill_daemon()
            lab.start()
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual((again.status, again.json['id']), (200, first.json['id']))
            lab.api('POST', f'/jobs/{first.json["id"]}/cancel')
            lab.await_job(first.json['id'])
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual((again.status, again.json['id'], again.json['state']),
                             (200, first.json['id'], 'ENDED'))
            self.assertEqual(len(lab.get('/jobs')['jobs']), 1)
            lab.stop()
            lab.start()
            again = lab.submit(JOB, 'b1', submission_id='a' * 32)
            self.assertEqual((again.status, again.json['id']), (200, first.json['id']))

    def test_twenty_at_once_are_one_job(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            sent = [open_submission(lab, JOB, 'b1', submission_id='b' * 32) for _ in range(20)]
            answers = [connection.getresponse() for connection in sent]
            self.assertEqual(sorted(answer.status for answer in answers), [200] * 19 + [201])
            self.assertEqual({json.loads(answer.read())['id'] for answer in answers}, {'1'})
            lab.api('POST', '/jobs/1/cancel')
            lab.await_job('1')

    def test_one_that_was_refused_is_tried_anew(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = lab.submit_ok(JOB, 'b1')
            refused = lab.submit(JOB, 'b1', submission_id='c' * 32)
            self.assertEqual(refused.status, 409)
            self.assertIn('is held by', refused.json['error'])
            lab.api('POST', f'/jobs/{first}/cancel')
            lab.await_board('b1', 'IDLE')
            second = lab.submit(JOB, 'b1', submission_id='c' * 32)
            self.assertEqual((second.status, second.json['id']), (201, '2'))
            lab.api('POST', '/jobs/2/cancel')
            lab.await_job('2')

    def test_the_id_of_something_else_is_refused(self):
        with Lab() as lab:
            lab.sim('b1', QUICK)
            lab.start()
            job = lab.submit_ok(JOB, 'b1', submission_id='d' * 32, name='one')
            lab.await_job(job)
            for what, options in (('job', {'text': JOB + '# other\n', 'name': 'one'}),
                                  ('metadata', {'name': 'two'}),
                                  ('bucket', {'name': 'one', 'bucket': {'a': 'b'}})):
                with self.subTest(what=what):
                    answer = lab.submit(options.pop('text', JOB), 'b1', submission_id='d' * 32,
                                        **options)
                    self.assertEqual(answer.status, 409)
                    self.assertIn('that of another submission', answer.json['error'])

    def test_a_submitter_who_left_finds_his_job_again(self):
        """The connection breaks while the job is being begun: that ends nothing."""
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            connection = open_submission(lab, JOB, 'b1', submission_id='e' * 32)
            await_true(lambda: lab.get('/jobs')['jobs'], 'a job')
            connection.close()
            answer = lab.submit(JOB, 'b1', submission_id='e' * 32)
            self.assertIn(answer.status, (200, 201))
            self.assertEqual(answer.json['id'], '1')
            self.assertIsNone(lab.get('/jobs/1')['cancel'])
            lab.api('POST', '/jobs/1/cancel')
            lab.await_job('1')

    def test_nobody_else_is_told_the_id(self):
        with Lab() as lab:
            lab.sim('b1', QUICK)
            lab.start()
            job = lab.submit_ok(JOB, 'b1', submission_id='f' * 32, on_disconnect='cancel')
            texts = [lab.api('GET', path).body.decode() for path in
                     ('/jobs', f'/jobs/{job}', '/duts')]
            lab.await_job(job)
            texts.append(json.dumps({name: data.decode(errors='replace')
                                     for name, data in lab.results(job).items()}))
            for folder, _, names in os.walk(lab.job_file(job)):
                for name in names:
                    with open(os.path.join(folder, name), 'rb') as file:
                        texts.append(file.read().decode(errors='replace'))
            self.assertNotIn('f' * 32, '\n'.join(texts) + lab.log)


class Bound(unittest.TestCase):
    LIMIT = {'timeouts': {'client': '1s'}}

    def bound(self, lab, token='a' * 32, board='b1'):
        return lab.submit_ok(JOB, board, submission_id=token, on_disconnect='cancel')

    def hold(self, lab, job, token='a' * 32):
        stream = lab.stream(f'/jobs/{job}/events', follow=1, bind=token)
        self.assertEqual(stream.status, 200)
        return stream

    def assert_lost(self, lab, job):
        ended = lab.await_job(job)
        self.assertEqual((ended['status'], ended['reason']), ('CANCELLED', 'client_lost'))
        self.assertEqual(ended['cancel']['by'], 'dutd')
        self.assertIn('timeouts.client', ended['cancel']['why'])
        self.assertEqual(lab.result(job)['reason'], 'client_lost')

    def test_a_client_that_never_comes_is_lost(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.start()
            job = self.bound(lab)
            self.assertEqual(lab.get(f'/jobs/{job}')['on_disconnect'], 'cancel')
            self.assert_lost(lab, job)

    def test_a_stream_holds_the_job_until_it_is_gone(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            job, other = self.bound(lab), self.bound(lab, 'b' * 32, 'b2')
            first, second = self.hold(lab, job), self.hold(lab, job)
            first.close()
            # One that has nobody is lost meanwhile; this one has the second stream.
            self.assert_lost(lab, other)
            self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
            begun = time.monotonic()
            second.close()
            self.assert_lost(lab, job)
            self.assertGreater(time.monotonic() - begun, 0.9)

    def test_others_who_watch_do_not_hold_it(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.start()
            job = self.bound(lab)
            lab.stream(f'/jobs/{job}/events', follow=1)
            answer = lab.api('GET', f'/jobs/{job}/events?bind={"b" * 32}')
            self.assertEqual(answer.status, 403)
            self.assertIn('not the submission_id', answer.json['error'])
            self.assert_lost(lab, job)

    def test_a_job_that_is_not_bound_goes_on(self):
        with Lab() as lab:
            lab.configure({'timeouts': {'client': '100ms'}})
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.sim('b3', BOOT)
            lab.start()
            free = lab.submit_ok(JOB, 'b1', submission_id='a' * 32, on_disconnect='continue')
            plain = lab.submit_ok(JOB, 'b2')
            self.assert_lost(lab, self.bound(lab, 'b' * 32, 'b3'))
            for job in (free, plain):
                self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
                self.assertEqual(lab.get(f'/jobs/{job}')['on_disconnect'], 'continue')
                lab.api('POST', f'/jobs/{job}/cancel')
                lab.await_job(job)

    def test_what_was_unbound_stays_so(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            job, other = self.bound(lab), self.bound(lab, 'b' * 32, 'b2')
            stream = self.hold(lab, job)
            answer = lab.api('DELETE', f'/jobs/{job}/binding')
            self.assertEqual((answer.status, answer.json['on_disconnect']), (200, 'continue'))
            stream.close()
            lab.kill_daemon()
            lab.start()
            # The other one, whose client does not come back, is lost under the new dutd.
            self.assert_lost(lab, other)
            self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
            self.assertEqual(lab.api('DELETE', f'/jobs/{job}/binding').status, 200)
            lab.api('POST', f'/jobs/{job}/cancel')
            lab.await_job(job)
            answer = lab.api('DELETE', f'/jobs/{job}/binding')
            self.assertEqual(answer.status, 409)
            self.assertIn('has ended already', answer.json['error'])

    def test_time_without_dutd_does_not_count(self):
        with Lab() as lab:
            lab.configure(self.LIMIT)
            lab.sim('b1', BOOT)
            lab.start()
            job = self.bound(lab)
            self.hold(lab, job)
            lab.await_phase(job, 'running')
            lab.kill_daemon()
            # Longer than the limit: nothing else can show that this time is not counted.
            threading.Event().wait(1.5)
            lab.start()
            stream = self.hold(lab, job)
            self.assertIn(lab.get(f'/jobs/{job}')['state'], ('STARTING', 'RUNNING'))
            self.assertIsNone(lab.get(f'/jobs/{job}')['cancel'])
            stream.close()
            self.assert_lost(lab, job)


if __name__ == '__main__':
    unittest.main()
