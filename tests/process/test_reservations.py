# SPDX-License-Identifier: MIT
"""A person holds a board: who may do what with it meanwhile, and how it ends."""

import json
import os
import struct
import time
import unittest

from tests.process.test_access import TcpLab, line_of
from tests.support.harness import (
    BUILD, DUT, PATIENCE, Answer, Lab, UnixConnection, await_true)
from tests.support.peers import NOBODY, OTHER, PeersLab

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
NEVER = 'console_patterns: {session_end: never}\n'
SHORT = 'console_patterns: {session_end: Linux version}\n'
CLOCK = os.path.join(BUILD, 'tests', 'process', 'libstepped-clock.so')


def record_path(lab, board):
    return os.path.join(lab.state, 'duts', board, 'reservation.json')


def reserve(lab, board, **body):
    answer = lab.api('POST', f'/dut/{board}/reservation', body)
    if answer.status not in (200, 201):
        raise AssertionError(f'reservation refused: {answer}')
    return answer.json


def release(lab, board, **body):
    answer = lab.api('DELETE', f'/dut/{board}/reservation', body)
    if answer.status != 200:
        raise AssertionError(f'release refused: {answer}')


def powers(lab, board):
    """What was done to its power."""
    return [line['event'] for line in lab.record(board) if line['event'] in ('on', 'off')]


class Taking(unittest.TestCase):
    def test_it_is_shown_until_it_is_released(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.assertIsNone(lab.board_state('b1')['reservation'])
            self.assertEqual(lab.api('GET', '/dut/b1/reservation').status, 404)
            taken = reserve(lab, 'b1', why='bisect', seconds=3600)
            self.assertEqual((taken['dut'], taken['why'], taken['bound'], taken['kick']),
                             ('b1', 'bisect', False, None))
            self.assertTrue(3590 < taken['seconds_left'] <= 3600, taken)
            dut = lab.board_state('b1')
            self.assertEqual(dut['state'], 'RESERVED')
            self.assertEqual(dut['reservation']['id'], taken['id'])
            self.assertEqual((dut['holder']['owner'], dut['holder']['why']),
                             (taken['owner'], 'bisect'))
            self.assertEqual(lab.get('/dut/b1/reservation')['id'], taken['id'])
            self.assertTrue(os.path.exists(record_path(lab, 'b1')))
            release(lab, 'b1')
            dut = lab.await_board('b1', 'IDLE')
            self.assertEqual((dut['reservation'], dut['holder']), (None, None))
            self.assertFalse(os.path.exists(record_path(lab, 'b1')))
            self.assertEqual(lab.api('DELETE', '/dut/b1/reservation').status, 404)

    def test_what_is_asked_is_checked(self):
        with Lab() as lab:
            lab.configure({'limits': {'reservation': '10m'}})
            lab.sim('b1', BOOT)
            lab.start()
            rows = (
                ({'seconds': 601}, 'seconds: more than limits.reservation (10m)'),
                ({'seconds': 0}, 'seconds: more than 0 is needed'),
                ({'seconds': -1}, 'seconds: a number of seconds is needed'),
                ({'seconds': '1h'}, 'seconds: a number of seconds is needed'),
                ({'why': 'a\nb'}, 'why: a printable text of at most 200 bytes is needed'),
                ({'why': 'x' * 201}, 'why: a printable text of at most 200 bytes is needed'),
                ({'why': ''}, 'why: a printable text of at most 200 bytes is needed'),
                ({'id': 7}, 'id: a printable text of at most 200 bytes is needed'),
                ({'bound': 1}, 'bound: true or false is needed'),
                ({'until': 1}, "unknown key 'until'"),
                ([], 'the body must be a JSON object'),
            )
            for body, text in rows:
                answer = lab.api('POST', '/dut/b1/reservation', body)
                self.assertEqual((answer.status, answer.json['error']), (400, text), body)
            for target in (None, {}, {'tags': []}, {'tags': [1]}, {'id': 'b1', 'tags': ['x']}):
                answer = lab.api('POST', '/reservations', {'target': target})
                self.assertEqual(answer.status, 400, target)
            self.assertEqual(lab.api('POST', '/dut/b9/reservation', {}).status, 404)
            self.assertEqual(lab.api('POST', '/reservations', {'target': {'id': 'b9'}}).status, 404)
            self.assertEqual(lab.api('PATCH', '/dut/b1/reservation', {'seconds': 9}).status, 404)
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')
            # Without a time it is 2 h, or as much as there may be.
            self.assertTrue(590 < reserve(lab, 'b1')['seconds_left'] <= 600)
            for body in ({}, {'seconds': 0}, {'seconds': 601}, {'why': 'x'}):
                answer = lab.api('PATCH', '/dut/b1/reservation', body)
                self.assertEqual(answer.status, 400, body)

    def test_by_tags_the_first_free_one(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, tags=['x'])
            lab.sim('b2', BOOT, tags=['x', 'y'])
            lab.start()
            target = {'target': {'tags': ['x']}, 'why': 'mine'}
            self.assertEqual(lab.api('POST', '/reservations', target).json['dut'], 'b1')
            self.assertEqual(lab.api('POST', '/reservations', target).json['dut'], 'b2')
            answer = lab.api('POST', '/reservations', target)
            self.assertEqual(answer.status, 409)
            self.assertRegex(answer.json['error'],
                             r'^all 2 DUTs that fit are busy; b1 is reserved by \S+ \("mine"\) '
                             r'until ')
            self.assertEqual(answer.json['reservation']['dut'], 'b1')
            answer = lab.api('POST', '/reservations', {'target': {'tags': ['z']}})
            self.assertEqual(answer.status, 406)

    def test_a_repeat_is_the_same_and_the_holder_gets_more_time(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = reserve(lab, 'b1', id='mine', seconds=100, why='a')
            self.assertEqual(first['id'], 'mine')
            again = reserve(lab, 'b1', id='mine', seconds=1000)
            self.assertEqual(again['until'][:16], first['until'][:16])
            more = reserve(lab, 'b1', seconds=1000, why='b')
            self.assertTrue(990 < more['seconds_left'] <= 1000)
            self.assertEqual((more['id'], more['why']), ('mine', 'a'))
            # Never less by that; PATCH sets it.
            self.assertTrue(reserve(lab, 'b1', seconds=5)['seconds_left'] > 990)
            answer = lab.api('PATCH', '/dut/b1/reservation?id=mine', {'seconds': 50})
            self.assertTrue(40 < answer.json['seconds_left'] <= 50, answer)
            for method in ('GET', 'PATCH', 'DELETE'):
                answer = lab.api(method, '/dut/b1/reservation?id=other', {'seconds': 50})
                self.assertEqual(answer.status, 404)
                self.assertIn('that reservation of b1 is over', answer.json['error'])
            with open(record_path(lab, 'b1'), encoding='utf-8') as file:
                self.assertEqual(json.load(file)['until']['span_us'], 50000000)

    def test_what_cannot_be_written_is_not_acknowledged(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            os.mkdir(record_path(lab, 'b1'))
            answer = lab.api('POST', '/dut/b1/reservation', {})
            self.assertEqual(answer.status, 500)
            self.assertIn('the reservation is not on disk', answer.json['error'])
            # Nobody gets it as long as it is not certain what the disk says.
            self.assertEqual(lab.board_state('b1')['state'], 'RESERVED')
            os.rmdir(record_path(lab, 'b1'))
            lab.await_board('b1', 'IDLE')
            self.assertIn('its reservation is not on disk, trying again', lab.log)


class Others(unittest.TestCase):
    """Somebody else has it; dutd's own user is an administrator and reserves for bob."""

    def test_they_get_nothing_but_an_answer(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.assertEqual(reserve(lab, 'b1', owner='bob', why='usb', seconds=60)['owner'], 'bob')
            held = r'b1 is reserved by bob \("usb"\) until (\d{4}-\d\d-\d\d )?\d\d:\d\d \S+'
            for answer in (lab.submit(SHORT, 'b1'),
                           lab.api('POST', '/dut/b1/reservation', {}),
                           lab.api('PUT', '/dut/b1/power', {'state': 'on'}),
                           lab.api('PUT', '/dut/b1/power', {'state': 'off'})):
                self.assertEqual(answer.status, 409, answer)
                self.assertRegex(answer.json['error'], held)
            ran = lab.dut('run', lab.write('job.yml', SHORT), '--dut', 'b1')
            self.assertEqual(ran.rc, 75, ran)
            self.assertRegex(ran.err, held)
            self.assertEqual(powers(lab, 'b1'), [])
            # An admin may, when he says so; and has to say that he ends what is not his.
            answer = lab.api('PUT', '/dut/b1/power', {'state': 'on', 'force': True})
            self.assertEqual((answer.status, answer.json['state']), (200, 'ON'))
            answer = lab.api('DELETE', '/dut/b1/reservation')
            self.assertEqual(answer.status, 409)
            self.assertIn("reserved by bob, and not by you; 'dut kick' ends it",
                          answer.json['error'])
            answer = lab.api('DELETE', '/dut/b1/reservation', {'notice': 0, 'why': 'sorry'})
            self.assertEqual(answer.status, 200)
            self.assertEqual(lab.await_board('b1', 'IDLE')['power']['state'], 'OFF')
            self.assertIn('the reservation of bob is ended by ', lab.log)

    def test_a_kick_gives_notice(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            reserve(lab, 'b1', seconds=3600)
            with lab.stream('/dut/b1/reservation', hold=1) as stream:
                stream.read_until(b'"held"')
                answer = lab.api('DELETE', '/dut/b1/reservation', {'notice': 1, 'why': 'health'})
                self.assertEqual(answer.json['kick']['why'], 'health')
                self.assertTrue(0 < answer.json['seconds_left'] <= 1, answer)
                refused = lab.api('PATCH', '/dut/b1/reservation', {'seconds': 60})
                self.assertEqual(refused.status, 409)
                self.assertIn('is being ended by ', refused.json['error'])
                self.assertEqual(lab.api('POST', '/dut/b1/reservation', {}).status, 409)
                lines = [json.loads(line) for line in stream.read_all().splitlines() if line]
            self.assertEqual([line['type'] for line in lines], ['held', 'kick', 'ended'])
            self.assertEqual(lines[2]['why'], 'health')
            self.assertEqual(lines[1]['reservation']['kick']['by'], lines[2]['by'])
            lab.await_board('b1', 'IDLE')

    def test_the_role_is_named(self):
        if os.geteuid() != 0:
            self.skipTest('only root can be somebody else')
        with PeersLab() as lab:
            lab.configure({'api': {'socket': {'mode': '0666'}}})
            lab.sim('b1', BOOT)
            lab.start()
            path = '/dut/b1/reservation'
            status, body = lab.ask(NOBODY, 'POST', path, {'owner': 'bob'})
            self.assertEqual(status, 403, body)
            self.assertIn('to reserve for bob needs the role admin', body['error'])
            status, taken = lab.ask(NOBODY, 'POST', path, {'why': 'mine'})
            self.assertEqual(status, 201, taken)
            for method, body in (('PATCH', {'seconds': 9}), ('DELETE', None),
                                 ('DELETE', {'notice': 0})):
                status, answer = lab.ask(OTHER, method, path, body)
                self.assertEqual(status, 403, answer)
                self.assertIn('needs the role admin', answer['error'])
            status, answer = lab.ask(OTHER, 'GET', path + '?hold=1')
            self.assertEqual(status, 403, answer)
            status, answer = lab.ask(OTHER, 'PUT', '/dut/b1/power', {'state': 'on', 'force': True})
            self.assertEqual(status, 403, answer)
            self.assertEqual(lab.ask(OTHER, 'PUT', '/dut/b1/power', {'state': 'on'})[0], 409)
            self.assertEqual(lab.ask(OTHER, 'GET', path)[0], 200)
            self.assertEqual(lab.ask(NOBODY, 'PUT', '/dut/b1/power', {'state': 'on'})[0], 200)
            self.assertEqual(lab.ask(NOBODY, 'PATCH', path, {'seconds': 99})[0], 200)
            self.assertEqual(lab.ask(NOBODY, 'DELETE', path)[0], 200)
            lab.await_board('b1', 'IDLE')


class Tokens(unittest.TestCase):
    def test_two_tokens_are_two_people(self):
        with TcpLab() as lab:
            lab.sim('b1', BOOT)
            lab.listen({'timeouts': {'client': '1s'}})
            lab.write('etc/tokens', line_of('a', 'use', 'as') + line_of('b', 'use', 'bs'))
            lab.start()
            path = '/dut/b1/reservation'
            answer = lab.tcp('POST', path, {'seconds': 600}, 'as')
            self.assertEqual((answer.status, answer.json['owner']), (201, 'token:a'))
            for method, body, status in (('POST', {}, 409), ('PATCH', {'seconds': 9}, 403),
                                         ('DELETE', {}, 403), ('DELETE', {'notice': 0}, 403)):
                self.assertEqual(lab.tcp(method, path, body, 'bs').status, status, method)
            self.assertEqual(lab.tcp_submit(SHORT, 'b1', 'bs').status, 409)
            job = lab.tcp_submit(SHORT, 'b1', 'as')
            self.assertEqual(lab.await_job(job.json['id'])['status'], 'COMPLETE')
            # They are the same people to the next dutd.
            lab.await_board('b1', 'RESERVED')
            lab.kill_daemon()
            lab.start()
            self.assertEqual(lab.tcp('DELETE', path, {}, 'bs').status, 403)
            self.assertEqual(lab.tcp('DELETE', path, {}, 'as').status, 200)
            lab.await_board('b1', 'IDLE')
            # A command holds a board from elsewhere, too, and no longer than it lives.
            env = {'DUT_SOCKET': '', 'DUT_HOST': f'http://127.0.0.1:{lab.port}', 'DUT_TOKEN': 'as'}
            ran = lab.dut('reserve', 'b1', '--', DUT, 'power', 'on', env=env)
            self.assertEqual(tuple(ran), (0, '', ''))
            self.assertEqual(lab.await_board('b1', 'IDLE')['power']['state'], 'OFF')
            process = lab.spawn_dut('reserve', 'b1', '--', 'sh', '-c', 'echo up; exec sleep 3',
                                    env=env)
            self.assertEqual(process.stdout.readline(), b'up\n')
            process.kill()
            # It is seen that it has gone, and not only that it does not read.
            lab.await_board('b1', 'IDLE', seconds=10)


class Jobs(unittest.TestCase):
    def test_the_holders_run_at_once_and_on_his_board(self):
        with Lab() as lab:
            for name in ('b1', 'b2', 'b3'):
                lab.sim(name, BOOT, tags=['x'])
            lab.start()
            reserve(lab, 'b2', seconds=600)
            job = lab.run_job(SHORT, target='b2')
            self.assertEqual((job['status'], job['dut']), ('COMPLETE', 'b2'))
            self.assertEqual(lab.await_board('b2', 'RESERVED')['reservation']['state'], 'held')
            # Of several that fit, the one that he has reserved.
            self.assertEqual(lab.run_job('target: {tags: [x]}\n' + SHORT)['dut'], 'b2')
            lab.await_board('b2', 'RESERVED')
            reserve(lab, 'b1', owner='bob')
            self.assertEqual(lab.run_job('target: {tags: [x]}\n' + SHORT)['dut'], 'b2')
            lab.await_board('b2', 'RESERVED')
            release(lab, 'b2')
            lab.await_board('b2', 'IDLE')
            self.assertNotEqual(lab.run_job('target: {tags: [x]}\n' + SHORT)['dut'], 'b1')

    def test_one_that_runs_at_the_end_of_it_goes_on(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            reserve(lab, 'b1', seconds=600)
            job = lab.submit_ok(NEVER, 'b1')
            lab.await_phase(job, 'running')
            release(lab, 'b1')
            dut = await_true(lambda: (lambda d: d if not d['reservation'] else None)(
                lab.board_state('b1')), 'the end of the reservation')
            self.assertEqual((dut['state'], dut['job']['id']), ('RUNNING', job))
            self.assertEqual(dut['power']['state'], 'ON')
            self.assertFalse(os.path.exists(record_path(lab, 'b1')))
            self.assertEqual(lab.api('POST', f'/jobs/{job}/cancel').status, 200)
            lab.await_board('b1', 'IDLE')


class Queue(unittest.TestCase):
    def waiting(self, lab, path, body):
        """A request that waits for its turn; read() of it gives the answer."""
        connection = UnixConnection(lab.socket, PATIENCE)
        lab.cleanup.callback(connection.close)
        connection.request('POST', '/api/v1' + path, json.dumps(body),
                           {'Content-Type': 'application/json'})
        return connection

    def answer(self, connection):
        return Answer(connection.getresponse())

    def test_whoever_waits_gets_it_in_turn(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, tags=['x'])
            lab.start()
            reserve(lab, 'b1', owner='bob')
            refused = lab.api('POST', '/dut/b1/reservation', {})
            self.assertRegex(refused.json['error'], '; you are 1st$')
            first = self.waiting(lab, '/dut/b1/reservation', {'wait': 'forever', 'why': 'first'})
            await_true(lambda: lab.api('POST', '/dut/b1/reservation', {}).json['place'] == 2,
                       'the first one to wait')
            job = lab.submit_ok(SHORT, 'b1', wait='10m')
            self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'WAITING')
            last = self.waiting(lab, '/reservations', {'wait': 30, 'target': {'tags': ['x']}})
            await_true(lambda: lab.api('POST', '/dut/b1/reservation', {}).json['place'] == 4,
                       'all of them to wait')
            self.assertIn('is reserved by bob', lab.get(f'/jobs/{job}')['cause'])
            self.assertEqual(lab.api('DELETE', '/dut/b1/reservation', {'notice': 0}).status, 200)
            answer = self.answer(first)
            self.assertEqual((answer.status, answer.json['why']), (201, 'first'))
            begin = time.monotonic()
            # Jobs of the holder run on it, those that waited and others, and others wait.
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            self.assertTrue(time.monotonic() - begin < 15)
            lab.await_board('b1', 'RESERVED')
            self.assertEqual(lab.run_job(SHORT, 'b1')['status'], 'COMPLETE')
            self.assertEqual(lab.await_board('b1', 'RESERVED')['reservation']['why'], 'first')
            release(lab, 'b1')
            answer = self.answer(last)
            self.assertEqual((answer.status, answer.json['dut']), (201, 'b1'))
            release(lab, 'b1')
            lab.await_board('b1', 'IDLE')

    def test_a_wait_has_its_end_and_a_client_that_leaves_gives_up(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(NEVER, 'b1')
            begin = time.monotonic()
            answer = lab.api('POST', '/dut/b1/reservation', {'wait': 0.5})
            self.assertTrue(0.4 < time.monotonic() - begin < 5)
            self.assertEqual((answer.status, answer.json['waited']), (409, True))
            self.assertIn(f'(job {job}, ', answer.json['error'])
            self.waiting(lab, '/dut/b1/reservation', {'wait': 60}).close()
            await_true(lambda: lab.api('POST', '/dut/b1/reservation', {}).json['place'] == 1,
                       'the client to be gone')
            for wait in (-1, 'soon', [], 1e12):
                answer = lab.api('POST', '/dut/b1/reservation', {'wait': wait})
                self.assertEqual((answer.status, answer.json['error'][:4]), (400, 'wait'), wait)
            self.assertEqual(lab.api('POST', f'/jobs/{job}/cancel').status, 200)
            lab.await_job(job)
            # It is just being switched off: for that one waits anyway.
            reserve(lab, 'b1')
            release(lab, 'b1')
            reserve(lab, 'b1')
            release(lab, 'b1')
            lab.await_board('b1', 'IDLE')


class Ends(unittest.TestCase):
    def test_the_board_goes_off_unless_it_is_to_be_left(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            path = lab.write('boards/b2/script', BOOT)
            lab.board('b2', {'power': {'driver': 'sim', 'script': path, 'after_job': 'leave'},
                             'console': {'driver': 'sim'}})
            lab.start()
            for name in ('b1', 'b2'):
                reserve(lab, name)
                answer = lab.api('PUT', f'/dut/{name}/power', {'state': 'on'})
                self.assertEqual(answer.status, 200, answer)
                release(lab, name)
            self.assertEqual(lab.await_board('b1', 'IDLE')['power']['state'], 'OFF')
            self.assertEqual(lab.await_board('b2', 'IDLE')['power']['state'], 'ON')
            self.assertEqual(lab.api('PUT', '/dut/b2/power', {'state': 'off'}).status, 200)

    def test_the_off_is_the_next_dutds_when_this_one_dies(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            reserve(lab, 'b1')
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'on'}).status, 200)
            with open(record_path(lab, 'b1'), encoding='utf-8') as file:
                record = json.load(file)
            lab.kill_daemon()
            lab.write(record_path(lab, 'b1'), json.dumps({**record, 'ended': True}))
            lab.start()
            self.assertEqual(lab.await_board('b1', 'IDLE')['power']['state'], 'OFF')
            self.assertFalse(os.path.exists(record_path(lab, 'b1')))

    def test_a_board_that_cannot_be_switched_off_is_nobodys(self):
        with Lab(leftovers_allowed=True) as lab:
            lab.sim('b1', BOOT + 'ignore off\n')
            lab.start()
            reserve(lab, 'b1', why='a')
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'on'}).status, 200)
            release(lab, 'b1')
            dut = lab.await_board('b1', 'BORKED')
            self.assertIn('is being switched off after the reservation of', dut['message'])
            self.assertEqual(lab.api('POST', '/dut/b1/reservation', {}).status, 409)
            lab.kill_daemon()
            lab.start()
            lab.await_board('b1', 'BORKED')

    def test_its_time_is_that_of_the_boot_whatever_the_wall_clock_says(self):
        if not os.path.exists(CLOCK):
            self.skipTest('a program with a sanitizer takes no library before it')
        with Lab() as lab:
            clock = lab.write('clock', struct.pack('=q', 0))
            lab.daemon.environment.update(LD_PRELOAD=CLOCK, DUT_STEPPED_CLOCK=clock)
            lab.sim('b1', BOOT)
            lab.start()

            def step(seconds):
                with open(clock, 'r+b') as file:
                    file.write(struct.pack('=q', seconds))
            begin = time.clock_gettime(time.CLOCK_BOOTTIME)
            reserve(lab, 'b1', seconds=3)
            step(86400)
            self.assertTrue(lab.get('/dut/b1/reservation')['seconds_left'] > 1)
            lab.kill_daemon()
            lab.start()
            self.assertTrue(lab.get('/dut/b1/reservation')['seconds_left'] > 0)
            step(-86400)
            self.assertTrue(lab.get('/dut/b1/reservation')['seconds_left'] > 0)
            lab.await_board('b1', 'IDLE')
            self.assertTrue(3 <= time.clock_gettime(time.CLOCK_BOOTTIME) - begin < 5)

    def test_after_a_reboot_the_wall_clock_counts(self):
        with Lab() as lab:
            for name in ('b1', 'b2'):
                lab.sim(name, BOOT)
            lab.start()
            for name in ('b1', 'b2'):
                reserve(lab, name, seconds=600)
            lab.stop()
            for name, ago in (('b1', 590), ('b2', 601)):
                with open(record_path(lab, name), encoding='utf-8') as file:
                    record = json.load(file)
                record['until']['from']['boot_id'] = 'an earlier boot'
                record['until']['from']['realtime_us'] -= ago * 1000000
                lab.write(record_path(lab, name), json.dumps(record))
            lab.start()
            lab.await_board('b2', 'IDLE')
            self.assertTrue(0 < lab.get('/dut/b1/reservation')['seconds_left'] <= 10)

    def test_a_restart_does_not_touch_the_board(self):
        with Lab() as lab:
            path = lab.write('boards/b1/script', BOOT)
            lab.board('b1', {'power': {'driver': 'sim', 'script': path, 'at_start': 'off'},
                             'console': {'driver': 'sim'}})
            lab.start()
            await_true(lambda: lab.board_state('b1')['power']['verified'], 'the off at the start')
            taken = reserve(lab, 'b1', why='long', seconds=600)
            self.assertEqual(lab.api('PUT', '/dut/b1/power', {'state': 'on'}).status, 200)
            before = powers(lab, 'b1')
            for end in (lab.stop, lab.kill_daemon):
                end()
                # Whatever happened to the rest.
                for name in os.listdir(lab.state):
                    if name.startswith('dutd.db'):
                        os.unlink(os.path.join(lab.state, name))
                lab.start()
                dut = lab.board_state('b1')
                self.assertEqual(dut['state'], 'RESERVED')
                self.assertEqual(dut['reservation']['id'], taken['id'])
                self.assertEqual((dut['reservation']['why'], dut['reservation']['owner']),
                                 ('long', taken['owner']))
            await_true(lambda: lab.board_state('b1')['power']['state'] == 'ON', 'a look at it')
            self.assertEqual(powers(lab, 'b1'), before)
            release(lab, 'b1')
            self.assertEqual(lab.await_board('b1', 'IDLE')['power']['state'], 'OFF')

    def test_a_record_that_is_none_is_left_alone(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            bad = ('', '[]', '{"v": 2}', '{"v": 1, "id": "x", "owner": "y"}', 'x' * 20000)
            for text in bad:
                lab.write(record_path(lab, 'b1'), text)
                lab.start()
                self.assertEqual(lab.board_state('b1')['state'], 'IDLE', text)
                lab.stop()
            self.assertEqual(lab.log.count('its reservation.json is left alone'), len(bad))


class Bound(unittest.TestCase):
    def lab(self, client='1s'):
        lab = Lab()
        lab.configure({'timeouts': {'client': client}})
        lab.sim('b1', BOOT)
        lab.start()
        return lab

    def test_it_lives_as_long_as_its_client(self):
        with self.lab() as lab:
            taken = reserve(lab, 'b1', bound=True)
            self.assertTrue(taken['bound'])
            # As long as there may be, because a command may run long.
            self.assertTrue(taken['seconds_left'] > 86000)
            with lab.stream('/dut/b1/reservation', hold=taken['id']) as stream:
                stream.read_until(b'"held"')
                begin = time.monotonic()
                while time.monotonic() - begin < 1.5:
                    self.assertEqual(lab.board_state('b1')['reservation']['id'], taken['id'])
                # The same user's next command waits like everybody's.
                for body in ({'bound': True}, {}):
                    answer = lab.api('POST', '/dut/b1/reservation', body)
                    self.assertEqual(answer.status, 409, answer)
            gone = time.monotonic()
            lab.await_board('b1', 'IDLE')
            self.assertTrue(0.9 < time.monotonic() - gone < 3)
            self.assertIn('is over: its client is gone', lab.log)

    def test_one_that_never_comes_holds_nothing(self):
        with self.lab() as lab:
            reserve(lab, 'b1', bound=True)
            # Who only looks does not hold it.
            with lab.stream('/dut/b1/reservation', hold=1) as stream:
                lab.await_board('b1', 'IDLE')
                self.assertIn(b'"ended"', stream.read_all())

    def test_time_without_dutd_does_not_count(self):
        with self.lab('2s') as lab:
            taken = reserve(lab, 'b1', bound=True)
            with lab.stream('/dut/b1/reservation', hold=taken['id']) as stream:
                stream.read_until(b'"held"')
                lab.kill_daemon()
            gone = time.monotonic()
            await_true(lambda: time.monotonic() - gone > 2.5, 'the clock')
            lab.start()
            with lab.stream('/dut/b1/reservation', hold=taken['id']) as stream:
                stream.read_until(b'"held"')
                self.assertEqual(lab.board_state('b1')['state'], 'RESERVED')
            release(lab, 'b1')
            lab.await_board('b1', 'IDLE')


if __name__ == '__main__':
    unittest.main()
