# SPDX-License-Identifier: MIT
"""GET /events: what happens in the lab, as it happens, and again for those who come back."""

import json
import unittest

from tests.support.harness import PATIENCE, Lab, UnixConnection, Stream

BOOT = 'at 10ms send "U-Boot\\r\\n"\nat 30ms send "test ok\\r\\nall done\\r\\n"\n'
JOB = '''
timeouts: {overall: 5m}
console_patterns: {session_end: "all done", job_success: "test ok"}
'''


class Feed:
    """The events of a lab: dicts with their `id`, in the order in which they come."""

    def __init__(self, lab, last=None, **query):
        if last is None:
            self.stream = lab.stream('/events', **query)
        else:
            connection = UnixConnection(lab.socket, PATIENCE)
            connection.request('GET', '/api/v1/events', headers={'Last-Event-ID': last})
            self.stream = Stream(connection, connection.getresponse())
            lab.cleanup.callback(self.stream.close)
        self.taken = 0
        self.seen = []
        # By now the daemon has noted us.
        self.stream.read_until(b'retry: ')

    def parse(self):
        parts = self.stream.data.split(b'\n\n')
        for part in parts[self.taken:-1]:
            fields = dict(line.split(': ', 1) for line in part.decode().split('\n')
                          if not line.startswith(':'))
            if 'data' in fields:
                self.seen.append(dict(json.loads(fields['data']), id=fields['id']))
        self.taken = len(parts) - 1

    def until(self, **wanted):
        """Reads until an event with these members has come; returns it."""
        known = 0
        while True:
            self.parse()
            for event in self.seen[known:]:
                if all(event.get(key) == value for key, value in wanted.items()):
                    return event
            known = len(self.seen)
            if not self.stream.read_some():
                raise AssertionError(f'end before {wanted}: {self.seen}')

    def of(self, kind, key=None, **wanted):
        return [event[key] if key else event for event in self.seen if event['type'] == kind and
                all(event.get(name) == value for name, value in wanted.items())]


class Told(unittest.TestCase):
    def test_a_job_from_its_start_to_the_idle_board(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            feed = Feed(lab)
            self.assertEqual(feed.stream.headers['Content-Type'], 'text/event-stream')
            self.assertEqual(feed.stream.headers['Cache-Control'], 'no-cache')
            job = lab.submit_ok(JOB, 'b1', name='bisect')
            feed.until(type='job_state', state='ENDED')
            feed.until(type='dut_state', state='IDLE')
            states = feed.of('job_state', 'state', job=job, dut='b1', name='bisect')
            self.assertEqual(states[-3:], ['STARTING', 'RUNNING', 'ENDED'])
            ended = feed.of('job_state')[-1]
            self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'))
            # Each DUT state goes on from the one before: none was missed.
            duts = [(event['before'], event['state']) for event in feed.of('dut_state', dut='b1')]
            self.assertEqual(duts[0], ('IDLE', 'QUEUED'))
            self.assertIn(('QUEUED', 'RUNNING'), duts)
            for before, after in zip(duts, duts[1:]):
                self.assertEqual(before[1], after[0])
            powers = feed.of('power', 'state', dut='b1')
            self.assertEqual(powers[-1], 'OFF')
            self.assertIn('ON', powers)
            self.assertIn('running', feed.of('phase', 'phase', job=job))
            seqs = [event['seq'] for event in feed.seen]
            self.assertEqual(seqs, list(range(seqs[0], seqs[0] + len(seqs))))
            elapsed = [event['elapsed'] for event in feed.seen]
            self.assertEqual(elapsed, sorted(elapsed))

    def test_a_job_that_waits(self):
        with Lab() as lab:
            lab.sim('b1', BOOT.replace('30ms', '500ms'))
            lab.start()
            feed = Feed(lab, job=2)
            lab.submit_ok(JOB, 'b1')
            lab.submit_ok(JOB, 'b1', wait='forever')
            feed.until(type='job_state', state='ENDED')
            self.assertEqual(feed.of('job_state', 'state'),
                             ['WAITING', 'STARTING', 'RUNNING', 'ENDED'])

    def test_only_what_was_asked_for(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, aliases=['shelf one'])
            lab.sim('b2', BOOT)
            lab.start()
            of_dut = Feed(lab, dut='shelf one')
            of_job = Feed(lab, job=2)
            lab.run_job(JOB, 'b1')
            lab.run_job(JOB, 'b2')
            lab.run_job(JOB, 'b1')
            of_dut.until(type='job_state', state='ENDED', job='3')
            of_job.until(type='job_state', state='ENDED')
            self.assertEqual({event['dut'] for event in of_dut.seen}, {'b1'})
            self.assertEqual({event['job'] for event in of_job.seen}, {'2'})

    def test_who_comes_back_misses_nothing(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            feed = Feed(lab)
            lab.run_job(JOB, 'b1')
            last = feed.until(type='job_state', state='ENDED')
            feed.stream.close()
            seen = len(feed.seen)
            lab.run_job(JOB, 'b1')
            again = Feed(lab, last=feed.seen[seen // 2]['id'])
            again.until(type='job_state', state='ENDED', job='2')
            # From the very next on; what it had seen already is the same again.
            before = feed.seen[seen // 2 + 1:]
            self.assertEqual(again.seen[:len(before)], before)
            self.assertIn(last, again.seen)
            self.assertEqual(again.of('missed'), [])

    def test_a_restart_is_told_with_the_states_of_all_duts(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            feed = Feed(lab)
            lab.run_job(JOB, 'b1')
            last = feed.until(type='job_state', state='ENDED')
            lab.stop()
            lab.start()
            again = Feed(lab, last=last['id'])
            again.until(type='dut_state', dut='b2', state='IDLE')
            self.assertEqual(again.seen[0]['type'], 'missed')
            self.assertIsNone(again.seen[0]['count'])
            self.assertEqual({event['dut'] for event in again.of('dut_state')}, {'b1', 'b2'})
            self.assertTrue(all(event['id'].startswith('2-') for event in again.seen))

    def test_who_was_away_for_too_long_is_told_how_much_it_missed(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = Feed(lab, last='1-0')
            lab.api('PUT', '/dut/b1/power', {'state': 'on'})
            first.until(type='power', state='ON')
            # Two events each; 4096 are kept.
            for _ in range(2100):
                lab.api('PUT', '/dut/b1/power', {'state': 'cycle'})
            last = Feed(lab)
            lab.api('PUT', '/dut/b1/power', {'state': 'off'})
            youngest = last.until(type='power')
            again = Feed(lab, last='1-0')
            again.until(type='power', seq=youngest['seq'])
            self.assertEqual(again.seen[0]['type'], 'missed')
            self.assertEqual(again.seen[0]['count'], again.seen[0]['seq'])
            self.assertEqual(again.seen[1]['seq'], again.seen[0]['seq'] + 1)
            self.assertEqual(len(again.seen), 4097)

    def test_what_is_wrong_is_refused(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            for path, headers, status, text in (
                    ('/events?dut=b9', {}, 404, "there is no DUT 'b9'"),
                    ('/events?job=x', {}, 400, 'job: '),
                    ('/events', {'Last-Event-ID': 'x'}, 400, 'Last-Event-ID is no id of ours'),
                    ('/events', {'Last-Event-ID': '1-x'}, 400, 'Last-Event-ID is no id of ours')):
                with self.subTest(path=path, headers=headers):
                    answer = lab.api('GET', path, headers=headers)
                    self.assertEqual(answer.status, status)
                    self.assertIn(text, answer.json['error'])

    def test_one_user_has_half_of_the_places(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.configure({'limits': {'connections': 400}})
            lab.start()
            feeds = [Feed(lab) for _ in range(50)]
            answer = lab.api('GET', '/events')
            self.assertEqual(answer.status, 429)
            self.assertIn('the limit for one user', answer.json['error'])
            # One that does not read holds nobody up.
            lab.run_job(JOB, 'b1')
            feeds[0].until(type='job_state', state='ENDED')


if __name__ == '__main__':
    unittest.main()
