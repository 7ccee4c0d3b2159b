# SPDX-License-Identifier: MIT
"""What people say of a DUT: retired, ready, comment, tags."""

import json
import os
import threading
import unittest

from tests.support.harness import Lab

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
NEVER = 'console_patterns: {session_end: never}\n'
FOR_TAG = NEVER + 'target: {tags: [jtag]}\n'


class Flags(unittest.TestCase):
    def test_a_retired_dut_takes_no_job_until_it_is_activated(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            ran = lab.dut('retire', 'b1', '--why', 'a broken fan')
            self.assertEqual((ran.rc, ran.out, ran.err), (0, '', ''))
            dut = lab.board_state('b1')
            self.assertEqual((dut['state'], dut['is_retired'], dut['retired']['why']),
                             ('RETIRED', True, 'a broken fan'))
            answer = lab.submit(NEVER, 'b1')
            self.assertEqual(answer.status, 409)
            self.assertIn('b1 is retired since ', answer.json['error'])
            self.assertIn(': a broken fan', answer.json['error'])
            # Its power is an administrator's, who this is.
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)
            self.assertIn('a broken fan', lab.dut('list').out)
            self.assertIn('a broken fan', lab.dut('show', 'b1').out)
            self.assertEqual(lab.dut('activate', 'b1').rc, 0)
            dut = lab.board_state('b1')
            self.assertEqual((dut['state'], dut['is_retired'], dut['retired']),
                             ('IDLE', False, None))
            job = lab.submit_ok(NEVER, 'b1')
            lab.api('POST', f'/jobs/{job}/cancel')
            lab.await_job(job)

    def test_a_dut_with_a_job_is_retired_after_it(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(NEVER, 'b1')
            lab.await_phase(job, 'running')
            ran = lab.dut('retire', 'b1')
            self.assertEqual(ran.rc, 0)
            self.assertIn(f'it is retired when job {job} has ended', ran.err)
            dut = lab.board_state('b1')
            self.assertEqual((dut['state'], dut['is_retired']), ('RUNNING', True))
            self.assertIn('when its job has ended', lab.dut('show', 'b1').out)
            lab.api('POST', f'/jobs/{job}/cancel')
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            lab.await_board('b1', 'RETIRED')
            self.assertEqual(lab.submit(NEVER, 'b1').status, 409)

    def test_who_waits_for_it_keeps_his_place(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            first = lab.submit_ok(NEVER, 'b1')
            second = lab.submit_ok(NEVER, 'b1', wait='forever')
            self.assertEqual(lab.get(f'/jobs/{second}')['state'], 'WAITING')
            self.assertEqual(lab.dut('retire', 'b1').rc, 0)
            lab.api('POST', f'/jobs/{first}/cancel')
            lab.await_job(first)
            lab.await_board('b1', 'RETIRED')
            lab.kill_daemon()
            lab.start()
            lab.await_board('b1', 'RETIRED')
            self.assertEqual(lab.get(f'/jobs/{second}')['state'], 'WAITING')
            self.assertEqual(lab.dut('activate', 'b1').rc, 0)
            lab.await_phase(second, 'running')
            lab.api('POST', f'/jobs/{second}/cancel')
            lab.await_job(second)

    def test_it_is_an_event(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            lab.await_board('b1', 'IDLE')
            with lab.stream('/events') as stream:
                self.assertEqual(lab.dut('retire', 'b1').rc, 0)
                stream.read_until(b'"state":"RETIRED"')
                self.assertEqual(lab.dut('activate', 'b1').rc, 0)
                stream.read_until(b'"state":"IDLE"')

    def test_what_was_acknowledged_outlives_a_kill(self):
        with Lab() as lab:
            lab.sim('b1', BOOT, tags=['own'])
            lab.start()
            ran = lab.dut('set', 'b1', 'comment=löse Klemme', 'manual_tags=jtag,own,jtag')
            self.assertEqual((ran.rc, ran.err), (0, ''))
            self.assertEqual(lab.dut('retire', 'b1').rc, 0)
            lab.kill_daemon()
            lab.start()
            dut = lab.board_state('b1')
            self.assertEqual(dut['state'], 'RETIRED')
            self.assertEqual(dut['comment'], 'löse Klemme')
            self.assertEqual(dut['manual_tags'], ['jtag', 'own'])
            self.assertEqual(dut['tags'], ['own', 'jtag'])
            self.assertEqual(lab.dut('set', 'b1', 'comment=', 'manual_tags=').rc, 0)
            dut = lab.board_state('b1')
            self.assertEqual((dut['comment'], dut['manual_tags'], dut['tags']),
                             (None, [], ['own']))

    def test_manual_tags_choose_a_dut(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.sim('b2', BOOT)
            lab.start()
            self.assertEqual(lab.submit(FOR_TAG).status, 406)
            self.assertEqual(lab.dut('set', 'b2', 'manual_tags=jtag').rc, 0)
            answer = lab.submit(FOR_TAG)
            self.assertEqual((answer.status, answer.json['dut']), (201, 'b2'))
            lab.api('POST', f'/jobs/{answer.json["id"]}/cancel')
            lab.await_job(answer.json['id'])

    def test_one_that_is_not_ready_takes_no_job(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.assertEqual(lab.dut('set', 'b1', 'ready_for_service=no').rc, 0)
            self.assertEqual(lab.board_state('b1')['state'], 'TRAINING')
            answer = lab.submit(NEVER, 'b1')
            self.assertEqual(answer.status, 409)
            self.assertIn('b1 is not ready for service', answer.json['error'])
            self.assertEqual(lab.dut('set', 'b1', 'ready_for_service=true').rc, 0)
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')

    def test_changes_at_once_do_not_undo_each_other(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            changes = [{'comment': 'c'}, {'is_retired': True}, {'manual_tags': ['t']},
                       {'ready_for_service': False}]
            threads = [threading.Thread(target=lab.api, args=('PATCH', '/dut/b1', change))
                       for change in changes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            dut = lab.board_state('b1')
            self.assertEqual((dut['comment'], dut['is_retired'], dut['manual_tags'],
                              dut['ready_for_service']), ('c', True, ['t'], False))

    def test_what_is_wrong_is_refused(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            for patch, text in (
                    ({}, 'the body must be an object'),
                    ([], 'the body must be an object'),
                    ({'tags': []}, "'tags' cannot be changed"),
                    ({'is_retired': 'yes'}, 'is_retired is neither true nor false'),
                    ({'ready_for_service': 1}, 'ready_for_service is neither'),
                    ({'comment': 'a\x1b[31mb'}, 'comment is no printable text'),
                    ({'comment': 'a' * 1025}, 'comment is no printable text'),
                    ({'why': 'because'}, 'why needs is_retired: true'),
                    ({'is_retired': True, 'why': 7}, 'why is no printable text'),
                    ({'manual_tags': ['']}, 'manual_tags is no array'),
                    ({'manual_tags': ['x'] * 65}, 'manual_tags is no array'),
                    ({'manual_tags': 'x'}, 'manual_tags is no array')):
                answer = lab.api('PATCH', '/dut/b1', patch)
                self.assertEqual(answer.status, 400, patch)
                self.assertIn(text, answer.json['error'])
            self.assertEqual(lab.api('PATCH', '/dut/none', {'comment': ''}).status, 404)
            self.assertEqual(lab.dut('retire', 'none').rc, 68)
            for words, text in ((('b1',), 'needs KEY=VALUE'),
                                (('b1', 'power=on'), 'is not comment'),
                                (('b1', 'ready_for_service=perhaps'), 'is true or false'),
                                (('comment=x',), 'DUT_BOARD'), (('b1', '=x'), 'is not comment')):
                ran = lab.dut('set', *words)
                self.assertEqual(ran.rc, 64, words)
                self.assertIn(text, ran.err)
            self.assertEqual(lab.dut('set', 'comment=x', env={'DUT_BOARD': 'b1'}).rc, 0)
            self.assertEqual(lab.board_state('b1')['comment'], 'x')

    def test_one_whose_flags_cannot_be_read_is_retired(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.assertEqual(lab.dut('retire', 'b1').rc, 0)
            lab.stop()
            path = os.path.join(lab.state, 'duts', 'b1', 'flags.json')
            with open(path, encoding='utf-8') as file:
                self.assertTrue(json.load(file)['is_retired'])
            for text in ('', '{"v": 2}', '[' * 100000):
                with open(path, 'w', encoding='utf-8') as file:
                    file.write(text)
                lab.start()
                dut = lab.board_state('b1')
                self.assertEqual(dut['state'], 'RETIRED')
                self.assertIn('flags.json', dut['message'])
                lab.stop()
            lab.start()
            self.assertEqual(lab.dut('activate', 'b1').rc, 0)
            self.assertEqual(lab.board_state('b1')['state'], 'IDLE')


if __name__ == '__main__':
    unittest.main()
