# SPDX-License-Identifier: MIT
"""What dutd-api(7) says of answers that the other tests do not come by."""

import http.client
import json
import unittest

from tests.support.harness import Lab, await_true

IDLE_BOARD = 'at 10ms send "Linux version 6.1\\r\\n"\n'
JOB = 'console_patterns: {session_end: never}\n'


class Refusals(unittest.TestCase):
    def refused(self, answer, status, text):
        self.assertEqual(answer.status, status, answer)
        body = answer.json
        self.assertIn(text, body['error'])
        self.assertEqual(body['error_msg'], body['error'])
        self.assertTrue(body['error'].startswith(answer.headers['Dut-Error']))
        return body

    def test_of_submissions(self):
        with Lab() as lab:
            lab.sim('b1', IDLE_BOARD, tags=['sim'])
            lab.start()
            body = self.refused(lab.submit('console_patterns:\n  jobsuccess: x\n', 'b1'), 400,
                                "did you mean 'job_success'?")
            self.assertEqual((body['line'], body['column']), (2, 3))
            self.assertEqual(body['errors'][0]['key'], 'console_patterns.jobsuccess')
            self.refused(lab.submit(JOB, 'b2'), 404, "there is no DUT 'b2'")
            self.refused(lab.submit('target: {tags: [bbb]}\n' + JOB), 406, "the tag 'bbb'")
            for member, value, text in (
                    ('version', 2, 'version must be 1'),
                    ('colour', 'red', "unknown member 'colour'"),
                    ('priority', 101, 'priority is no whole number from -100 to 100'),
                    ('wait', -1, 'wait is neither a duration'),
                    ('environ', {'A': 1}, 'environ.A is no text'),
                    ('name', 'x' * 201, 'name is no printable text of at most 200 bytes'),
                    ('submission_id', 5, 'submission_id is no printable text of at most 200 bytes'),
                    ('on_disconnect', 'wait', 'on_disconnect is neither cancel nor continue'),
                    ('on_disconnect', 'cancel', 'cancel needs a submission_id')):
                with self.subTest(member):
                    self.refused(lab.submit(JOB, 'b1', **{member: value}), 400, text)
            self.refused(lab.api('POST', '/jobs', b'{}'), 415, 'multipart/form-data')
            self.assertEqual(lab.get('/jobs')['jobs'], [])

    def test_of_a_board_that_is_taken(self):
        with Lab() as lab:
            lab.sim('b1', IDLE_BOARD)
            lab.start()
            job = lab.submit_ok(JOB, 'b1', on_disconnect='continue', submission_id='x' * 32)
            body = self.refused(lab.submit(JOB, 'b1'), 409, f'(job {job}, ')
            self.assertEqual((body['dut'], body['job']['id']), ('b1', job))
            self.refused(lab.api('PUT', '/dut/b1/power', b'{"state": "on"}'), 409, f'job {job}')
            self.refused(lab.api('GET', f'/jobs/{job}/results'), 409, 'has not ended')
            for body in (b'why: enough', b'enough', b'["enough"]', b'{"why": 5}', b'{"why": "eno',
                         b'{"why": "a", "why": "b"}', b'\xff\xfe'):
                for path in ('/dut/b1/cancel_job', f'/jobs/{job}/cancel'):
                    self.refused(lab.api('POST', path, body), 400, 'must be {"why": TEXT}')
            self.assertIsNone(lab.get(f'/jobs/{job}')['cancel'])
            cancelled = lab.api('POST', '/dut/b1/cancel_job', b'{"why": "enough"}').json
            self.assertEqual((cancelled['id'], cancelled['cancel']['why']), (job, 'enough'))
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            self.refused(lab.api('POST', f'/jobs/{job}/cancel'), 409, 'has ended already')
            self.refused(lab.api('POST', '/dut/b1/cancel_job'), 409, 'has no job')

    def test_of_what_is_not_there(self):
        with Lab() as lab:
            lab.sim('b1', IDLE_BOARD)
            lab.start()
            for method, path, body, status, text in (
                    ('GET', '/nothing', None, 404, 'there is nothing at /api/v1/nothing'),
                    ('GET', '/dut/b2', None, 404, "there is no DUT 'b2'"),
                    ('GET', '/jobs/99', None, 404, "there is no job '99'"),
                    ('GET', '/jobs?limit=0', None, 400, 'is not a number'),
                    ('GET', '/dut/b1/console?name=bmc', None, 404, "no console 'bmc'"),
                    ('GET', '/dut/b1/console?offset=x', None, 400, 'offset: '),
                    ('GET', '/dut/b1/console?timestamps=1', None, 400, 'not yet: timestamps'),
                    ('PUT', '/dut/b1/power', b'{"state": "reset"}', 400, 'not yet: reset'),
                    ('PUT', '/dut/b1/power', b'{"state": "up"}', 400, 'on, off, cycle'),
                    ('PUT', '/dut/b1/power', b'x' * 70000, 413, ''),
                    ('DELETE', '/dut/b1', None, 405, 'GET, HEAD, PATCH')):
                with self.subTest(path=path, body=body):
                    answer = lab.api(method, path, body)
                    self.refused(answer, status, text)
                    if status == 405:
                        self.assertEqual(answer.headers['Allow'], 'GET, HEAD, PATCH')


class Answers(unittest.TestCase):
    def test_the_members_of_each(self):
        """A script may rely on all of them being there, whatever the board does."""
        with Lab() as lab:
            lab.sim('b1', IDLE_BOARD)
            lab.start()
            self.assertEqual(set(lab.get('/status')), {
                'version', 'pid', 'epoch', 'started', 'duts', 'jobs_unfinished',
                'protections_missing', 'you'})
            # It is read just after the start.
            dut = await_true(lambda: (lambda dut: dut if dut['power']['verified'] else None)(
                lab.get('/dut/b1')), 'the power is known')
            self.assertEqual(lab.get('/duts'), {'duts': {'b1': dut}})
            self.assertEqual(set(dut), {
                'id', 'state', 'ready_for_service', 'is_retired', 'tags', 'description', 'power',
                'consoles', 'job', 'holder', 'reservation', 'leaving', 'retired', 'comment',
                'manual_tags'})
            answer = lab.submit(JOB, 'b1')
            self.assertEqual(answer.json, {
                'version': 1, 'id': '1', 'dut': 'b1', 'state': 'RUNNING', 'place': None,
                'error_msg': None})
            self.assertEqual(set(lab.get('/jobs/1')), {
                'id', 'name', 'dut', 'owner', 'state', 'phase', 'attempt', 'status', 'reason',
                'verdict', 'message', 'console_base', 'submitted', 'started', 'ended', 'cancel',
                'on_disconnect', 'priority', 'effective_priority', 'wait', 'target', 'place',
                'cause', 'expected_end', 'pruned'})
            self.assertEqual(set(lab.get('/dut/b1')) - set(dut), {'executor'})
            for path, socket_path in (('/jobs/1/events', None),
                                      ('/events', lab.executor_socket('b1'))):
                with lab.stream(path, socket_path=socket_path) as stream:
                    self.assertEqual(stream.headers['Content-Type'], 'application/jsonl')
            lab.api('POST', '/jobs/1/cancel', json.dumps({'why': None}).encode())
            self.assertEqual(lab.await_job('1')['reason'], 'cancelled')
            self.assertEqual([job['id'] for job in lab.get('/jobs?state=ENDED&dut=b1')['jobs']],
                             ['1'])


class Results(unittest.TestCase):
    PACKED_AT_ONCE = 8

    def test_packing_is_bounded_and_a_client_that_does_not_read_makes_room(self):
        with Lab() as lab:
            lab.configure({'limits': {'console_log': '8MiB'}})
            lab.sim('b1', 'at 1ms flood max')
            lab.start()
            job = lab.run_job(JOB, 'b1')
            self.assertEqual(job['reason'], 'console_flood')
            path = f'/jobs/{job["id"]}/results'
            # More than sockets and pipes hold, so that each waits for its client.
            streams = [lab.stream(path) for _ in range(self.PACKED_AT_ONCE)]
            self.assertEqual({stream.status for stream in streams}, {200})
            refused = lab.api('GET', path)
            self.assertEqual(refused.status, 429)
            self.assertIn('8 results are being packed already', refused.json['error'])
            self.assertLessEqual(
                len([line for line in lab.processes().values() if 'dut-fetch pack' in line]),
                self.PACKED_AT_ONCE)
            # One that is read to its end makes room.
            size = len(streams.pop().read_all())
            self.assertGreater(size, 8 << 20)
            self.assertEqual(len(lab.api('GET', path).body), size)
            # So does the one that has not read for longest, for somebody who does.
            streams.append(lab.stream(path))
            answer = await_true(
                lambda: (lambda found: found if found.status == 200 else None)(
                    lab.api('GET', path)), 'room')
            self.assertEqual(len(answer.body), size)
            ends = [self.is_cut(stream) for stream in streams]
            self.assertEqual(sum(ends), 1, ends)

    @staticmethod
    def is_cut(stream):
        try:
            stream.response.read()
        except http.client.IncompleteRead:
            return True
        return False


if __name__ == '__main__':
    unittest.main()
