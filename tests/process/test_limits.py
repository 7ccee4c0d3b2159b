# SPDX-License-Identifier: MIT
"""What one client, job or board may take, and what it is told when that is all."""

import http.client
import json
import os
import select
import signal
import unittest

from tests.support.harness import Answer, Lab, UnixConnection, await_true

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
SHORT = 'console_patterns: {session_end: Linux}\n'
NEVER = 'console_patterns: {session_end: never}\n'


class Refusals(unittest.TestCase):
    def refused(self, answer, status, text):
        self.assertEqual(answer.status, status, answer)
        self.assertIn(text, answer.json['error'])
        self.assertIn(text[:100], answer.headers['Dut-Error'])

    def test_each_names_its_limit(self):
        with Lab() as lab:
            lab.configure({'limits': {'job_file': '2KiB', 'bucket': '1MiB', 'waiting_jobs': 1}})
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            self.refused(lab.submit(SHORT + '#' * 3000, 'b1'), 413,
                         'the job file is larger than limits.job_file (2 KiB)')
            self.refused(lab.submit(SHORT, 'b1', bucket=bytes((1 << 20) + 1)), 413,
                         'the bucket is larger than limits.bucket (1 MiB)')
            self.refused(lab.submit(SHORT, 'b1', bucket=bytes(3 << 20)), 413,
                         'bytes is larger than limits.bucket (1 MiB)')
            self.refused(lab.submit(SHORT, 'b1', environ={'A': 'x' * 300000}), 413,
                         'metadata is larger than the fixed limit (256 KiB)')
            job = lab.submit_ok(NEVER, 'b1')
            waits = lab.submit_ok(NEVER, 'b1', wait='forever')
            self.refused(lab.submit(SHORT, 'b1', wait='1h'), 429, 'limits.waiting_jobs (1)')
            lab.api('POST', f'/jobs/{waits}/cancel')
            lab.await_job(waits)
            self.refused(lab.api('POST', f'/jobs/{job}/cancel', {'why': 'x' * 2000}), 400,
                         'at most 1024 bytes')
            lab.api('POST', f'/jobs/{job}/cancel')
            lab.await_job(job)
            lab.await_board('b1', 'IDLE')

    def test_power_operations_that_wait(self):
        """Whoever fills the queue does not keep the board from going off."""
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'off'}).status, 200)
            board, = (pid for pid, line in lab.processes().items() if line.startswith('dut-sim '))

            def ask(state, number, refused, why):
                """So many at once, of which so many are refused; the others, which wait."""
                waiting = []
                for _ in range(number):
                    connection = UnixConnection(lab.socket, 60)
                    connection.request('PUT', '/api/v1/dut/b1/power', json.dumps({'state': state}))
                    waiting.append(connection)
                for _ in range(refused):
                    answered = select.select([each.sock for each in waiting], [], [], 60)[0]
                    connection = next(each for each in waiting if each.sock in answered)
                    waiting.remove(connection)
                    self.refused(Answer(connection.getresponse()), 429, why)
                    connection.close()
                return waiting
            # One is under way, eight wait behind it.
            os.kill(board, signal.SIGSTOP)
            begun = ask('on', 1, 0, '')
            for _ in range(2):  # it is begun from the loop, and that has gone around then
                self.assertEqual(lab.api('GET', '/dut/b1/power').status, 200)
            begun += ask('on', 10, 2, 'b1: 8 power operations wait already')
            begun += ask('off', 5, 1, 'b1: 12 power operations wait already')
            # What is known is told at once.
            self.assertEqual(lab.api('GET', '/dut/b1/power').status, 200)
            os.kill(board, signal.SIGCONT)
            for connection in begun:
                self.assertEqual(connection.getresponse().status, 200)
                connection.close()
            self.assertEqual(lab.board_state('b1')['power']['state'], 'OFF')

    def test_viewers_of_one_user(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            streams = [lab.console('b1') for _ in range(50)]
            refused = lab.api('GET', '/dut/b1/console')
            self.refused(refused, 429, '50 viewers already, which is the limit for one user')
            streams[0].close()
            await_true(lambda: lab.stream('/dut/b1/console').status == 200, 'room for one more')

    def test_waiting_requests_of_one_user(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(NEVER, 'b1')
            waiting = []
            for _ in range(500):
                connection = UnixConnection(lab.socket, 60)
                connection.request('GET', f'/api/v1/jobs/{job}?wait=600')
                waiting.append(connection)
            # They are taken in the order of their coming.
            self.refused(lab.api('GET', f'/jobs/{job}?wait=600'), 429,
                         '500 requests of the user')
            lab.api('POST', f'/jobs/{job}/cancel')
            for connection in waiting:
                self.assertEqual(connection.getresponse().status, 200)
                connection.close()
            lab.await_board('b1', 'IDLE')


class Executors(unittest.TestCase):
    def test_clients_of_a_jobs_own_socket(self):
        with Lab() as lab:
            lab.sim('b1', BOOT + 'at 3s send "at last\\r\\n"\n')
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: at last}\n', 'b1')
            lab.await_phase(job, 'running')
            path = lab.executor_socket('b1')
            # Half of 64, and 4 more, because we are its own user.
            streams = [lab.stream('/console', path, offset=0) for _ in range(36)]
            refused = lab.stream('/console', path, offset=0)
            self.assertEqual(refused.status, 429)
            self.assertIn(b'of this socket', refused.response.read())
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            for stream in streams:
                self.assertIn(b'at last', stream.read_all())
            lab.await_board('b1', 'IDLE')


class Boards(unittest.TestCase):
    def test_one_that_floods_ends_its_job_with_the_log_whole(self):
        with Lab() as lab:
            lab.configure({'limits': {'console_log': '4MiB'}})
            lab.sim('b1', 'at 10ms flood max')
            lab.start()
            job = lab.run_job(NEVER, 'b1')
            self.assertEqual((job['status'], job['reason'], job['verdict']),
                             ('INCOMPLETE', 'console_flood', 'job'), job)
            self.assertIn('limits.console_log (4 MiB)', job['message'])
            log = lab.results(job['id'])['console.log']
            self.assertGreaterEqual(len(log), 4 << 20)
            self.assertLess(len(log), 6 << 20)
            lines = log.split(b'\r\n')[:-1]
            numbers = [int(line.split()[1]) for line in lines]
            self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
            lab.await_board('b1', 'IDLE')
            # What came behind it goes on at the next offset.
            console = lab.console('b1', offset=job['console_base'])
            self.assertEqual(console.read_until(log[:1000])[:1000], log[:1000])

    def test_an_idle_one_keeps_its_last_bytes(self):
        with Lab() as lab:
            lab.configure({'limits': {'idle_log': '1MiB'}})
            lab.sim('b1', 'at 10ms flood max for 1s\nat 2s send "at last\\r\\n"')
            lab.start()
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            await_true(lambda: self.ends(lab, b'at last\r\n'), 'the end of the flood')
            self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)
            sent = lab.record('b1')[-1]['total']
            self.assertEqual(lab.board_state('b1')['consoles'][0]['offset'], sent)
            folder = os.path.join(lab.state, 'duts', 'b1', 'console', 'main')
            kept = sum(os.path.getsize(os.path.join(folder, name))
                       for name in os.listdir(folder) if name.endswith('.log'))
            self.assertGreater(sent, 4 << 20)
            self.assertLess(kept, 1280 << 10)
            # Who asks for what is gone gets the oldest that there is.
            console = lab.console('b1', offset=0)
            first = int(console.headers['Console-Offset'])
            console.read_until(b'at last\r\n')
            self.assertEqual(first + len(console.data), sent)
            numbers = [int(line.split()[1]) for line in console.data.split(b'\r\n')[1:-2]]
            self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
            # After a restart, too.
            lab.stop()
            lab.start()
            self.assertEqual(lab.board_state('b1')['consoles'][0]['offset'], sent)

    @staticmethod
    def ends(lab, text):
        with lab.console('b1', offset=-len(text)) as tail:
            return tail.read_some() == text

    def test_who_lags_behind_what_is_kept_is_cut_off(self):
        """A silent jump would make a client count wrong for ever."""
        with Lab() as lab:
            lab.configure({'limits': {'idle_log': '1MiB'}})
            lab.sim('b1', 'at 10ms flood max for 500ms\nat 1s send "at last\\r\\n"')
            lab.start()
            slow = lab.console('b1', offset=0)
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            await_true(lambda: self.ends(lab, b'at last\r\n'), 'the end of the flood')
            with self.assertRaises(http.client.IncompleteRead):
                slow.read_until(b'at last\r\n')
            got = len(slow.data)
            with lab.console('b1', offset=got) as again:
                again.read_until(b'at last\r\n')
                first = int(again.headers['Console-Offset'])
                self.assertGreater(first, got)
                self.assertEqual(first + len(again.data),
                                 lab.board_state('b1')['consoles'][0]['offset'])
            self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)


class Kept(unittest.TestCase):
    """The files of the oldest jobs go, as a whole, and take nothing else with them."""

    def run_jobs(self, lab, count):
        for _ in range(count):
            job = lab.run_job(SHORT, 'b1')
            self.assertEqual(job['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')
        return int(job['id'])

    def kept(self, lab):
        return [int(job['id']) for job in lab.get('/jobs')['jobs'] if not job['pruned']]

    def files(self, lab):
        return sorted(os.listdir(os.path.join(lab.state, 'jobs')))

    def test_the_oldest_jobs_go(self):
        with Lab() as lab:
            lab.configure({'limits': {'kept_jobs': 2}})
            lab.sim('b1', BOOT)
            lab.start()
            self.assertEqual(self.run_jobs(lab, 5), 5)
            await_true(lambda: self.kept(lab) == [5, 4], 'the oldest to go')
            await_true(lambda: self.files(lab) == ['4', '4.json', '5', '5.json'],
                       'their files to go')
            job = lab.get('/jobs/3')
            self.assertEqual((job['state'], job['status']), ('ENDED', 'COMPLETE'))
            for path in ('log', 'events', 'results'):
                answer = lab.api('GET', f'/jobs/3/{path}')
                self.assertEqual(answer.status, 410, answer)
                self.assertEqual(answer.json['error'],
                                 f'the files of job 3 were removed on {job["pruned"]}')
            self.assertEqual(lab.dut('results', '3').rc, 68)
            self.assertIn('b1: job 3: its files are removed', lab.log)
            self.assertEqual(lab.result(5)['status'], 'COMPLETE')
            # The console begins with what is left, and its offsets go on.
            base = lab.get('/jobs/4')['console_base']
            with lab.console('b1', offset=base) as console:
                console.read_until(b'Linux version 6.1\r\n' * 2)
            end = lab.board_state('b1')['consoles'][0]['offset']
            lab.stop()
            # What an earlier dutd had begun to remove goes as well; no number comes twice.
            lab.write('state/jobs/.removed-3/bucket/file', 'x')
            lab.start()
            await_true(lambda: self.files(lab) == ['4', '4.json', '5', '5.json'],
                       'what was left over to go')
            self.assertEqual(lab.board_state('b1')['consoles'][0]['offset'], end)
            self.assertEqual(self.run_jobs(lab, 1), 6)
            await_true(lambda: self.kept(lab) == [6, 5], 'the next one to go')

    def test_one_that_is_read_stays(self):
        with Lab() as lab:
            lab.configure({'limits': {'kept_jobs': 1}})
            lab.sim('b1', 'at 10ms send "Linux\\r\\n"\nat 20ms flood 2000000 for 1s\n'
                          'at 2s send "at last\\r\\n"')
            lab.start()
            job = lab.run_job('console_patterns: {session_end: at last}\n', 'b1')
            lab.await_board('b1', 'IDLE')
            reader = lab.stream(f'/jobs/{job["id"]}/log')
            self.run_jobs(lab, 2)
            await_true(lambda: 2 not in self.kept(lab), 'another one to go')
            self.assertIn(int(job['id']), self.kept(lab))
            self.assertGreater(len(reader.read_all()), 1000000)
            reader.close()
            self.run_jobs(lab, 1)
            await_true(lambda: self.kept(lab) == [4], 'it to go')


if __name__ == '__main__':
    unittest.main()
