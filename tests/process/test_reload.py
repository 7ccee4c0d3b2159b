# SPDX-License-Identifier: MIT
"""The configuration is read again: what changes, what waits, and what nobody notices."""

import json
import os
import random
import signal
import socket
import threading
import unittest

from tests.process.test_kill import whole_console
from tests.support import processes
from tests.support.harness import Lab, await_true

BOOT = '''
at 10ms send "U-Boot\\r\\n"
at 20ms send "Linux version 6.1\\r\\n"
'''

WAITS = '''
timeouts: {overall: 5m}
console_patterns: {session_end: "all done", job_success: "test ok"}
'''

ENDS = BOOT + 'at 30ms send "test ok\\r\\nall done\\r\\n"\n'


def reload(lab):
    """The changes, as (what, text)."""
    answer = lab.api('POST', '/reload')
    if answer.status != 200:
        raise AssertionError(f'reload: {answer}')
    return [(change.get('dut') or change['setting'], change['text'])
            for change in answer.json['changes']]


def remove(lab, board):
    os.unlink(lab.path('etc', 'duts.d', f'{board}.yaml'))


def await_gone(lab, board):
    await_true(lambda: lab.api('GET', f'/dut/{board}').status == 404, f'{board} to be gone')


class Base(unittest.TestCase):
    def lab(self, *boards, script=BOOT):
        lab = Lab()
        for board in boards:
            lab.sim(board, script)
        return lab

    def run_until_running(self, lab, board):
        job = lab.submit_ok(WAITS, board)
        lab.await_phase(job, 'running')
        return job

    def cancel(self, lab, job):
        lab.api('POST', f'/jobs/{job}/cancel', {})
        self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')


class Changes(Base):
    def test_nothing_changes(self):
        with self.lab('b1') as lab:
            lab.start()
            ran = lab.dut('reload')
            self.assertEqual((ran.rc, ran.out), (0, 'nothing has changed\n'))
            # Another order, another file, a key from a type, and comments are no change.
            keys = json.dumps({'script': lab.path('boards', 'b1', 'script')})
            lab.write('etc/types.d/t.yaml', f't: {{tags: [x], sim: {keys}}}\n')
            lab.board('b1', {'tags': ['x'], 'sim': json.loads(keys), 'description': None})
            self.assertEqual(reload(lab), [('b1', 'applied: tags')])
            lab.write('etc/duts.d/b1.yaml', '')
            lab.write('etc/duts.d/other.yaml', '# moved\n\nb1:\n  type: t\n')
            self.assertEqual(reload(lab), [])
            self.assertEqual(lab.dut('reload', '--json').out, '')

    def test_words_apply_at_once(self):
        with self.lab('b1', 'b2') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            script = lab.path('boards', 'b1', 'script')
            lab.board('b1', {'sim': {'script': script}, 'description': 'on the shelf',
                             'tags': ['arm'], 'aliases': ['one'], 'variables': {'a': '1'}})
            ran = lab.dut('reload')
            self.assertEqual((ran.rc, ran.err), (0, ''))
            self.assertEqual(ran.out, 'b1: applied: description, tags, aliases, variables\n')
            dut = lab.board_state('one')
            self.assertEqual((dut['id'], dut['description'], dut['tags'], dut['job']['id']),
                             ('b1', 'on the shelf', ['arm'], job))
            self.assertEqual(reload(lab), [])
            lab.board('b1', {'sim': {'script': script}, 'aliases': ['uno']})
            lab.sim('b2', BOOT, aliases=['one'])
            self.assertEqual(reload(lab), [
                ('b1', 'applied: aliases, description, tags, variables'),
                ('b2', 'applied: aliases')])
            self.assertEqual(lab.board_state('one')['id'], 'b2')
            self.assertEqual(lab.board_state('uno')['id'], 'b1')
            self.cancel(lab, job)

    def test_a_new_one_and_one_that_goes(self):
        with self.lab('b1', 'b2') as lab:
            lab.start()
            lab.sim('b0', ENDS, tags=['new'])
            remove(lab, 'b2')
            with lab.console('b2') as viewer:
                self.assertEqual(reload(lab), [('b2', 'applied: it is ended, and is gone then'),
                                               ('b0', 'applied: it is new')])
                self.assertEqual(viewer.read_all(), b'')
            await_gone(lab, 'b2')
            self.assertEqual(list(lab.get('/duts')['duts']), ['b0', 'b1'])
            self.assertEqual(lab.get('/status')['duts'], 2)
            lab.await_board('b0', 'IDLE')
            self.assertEqual(lab.run_job(WAITS, 'b0')['status'], 'PASS')
            self.assertIn('it is gone', lab.log)
            # Its process is gone, too, and was waited for.
            self.assertEqual([line for line in lab.processes().values() if ' b2 ' in line], [])
            with open(f'/proc/{lab.daemon.pid}/task/{lab.daemon.pid}/children',
                      encoding='ascii') as file:
                children = file.read().split()
            await_true(lambda: not any(processes.command_line(pid) == '' and
                                       processes.read(pid, 'stat') for pid in children),
                       'no zombies')
            lab.sim('b2', ENDS)
            self.assertEqual(reload(lab), [('b2', 'applied: it is new')])
            self.assertEqual(lab.run_job(WAITS, 'b2')['status'], 'PASS')

    def test_settings(self):
        with self.lab('b1', script=ENDS) as lab:
            lab.start()
            lab.configure({'limits': {'job_file': '100', 'connections': 50, 'idle_log': '2MiB'},
                           'api': {'socket': {'mode': '0600'}}, 'variables': {'x': '1'}})
            self.assertEqual(sorted(reload(lab)), [
                ('api.socket', 'needs a restart of dutd'),
                ('limits.connections', 'needs a restart of dutd'),
                ('limits.idle_log', 'applied'),
                ('limits.job_file', 'applied'),
                ('variables.x', 'applied')])
            answer = lab.submit(WAITS + '# ' + 'x' * 100, 'b1')
            self.assertEqual(answer.status, 413)
            self.assertIn('limits.job_file', answer.json['error'])
            # What needs a restart is said again; what was applied is not.
            self.assertEqual(sorted(reload(lab)), [
                ('api.socket', 'needs a restart of dutd'),
                ('limits.connections', 'needs a restart of dutd')])
            lab.configure({'variables': {'x': '1'}})
            self.assertEqual(sorted(reload(lab)), [('limits.idle_log', 'applied'),
                                                   ('limits.job_file', 'applied')])
            self.assertEqual(lab.run_job(WAITS + '# ' + 'x' * 100, 'b1')['status'], 'PASS')


class Refused(Base):
    def test_a_broken_file_is_refused_as_a_whole(self):
        with self.lab('b1') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            lab.sim('b2', BOOT)
            broken = lab.write('etc/duts.d/x.yaml', 'x1:\n  tagz: [a]\n  type: none\n')
            main = lab.write('etc/dutd.yaml', 'limits: {bucket: much}\n')
            ran = lab.dut('reload')
            self.assertEqual((ran.rc, ran.out), (65, ''))
            lines = ran.err.splitlines()
            self.assertTrue(lines[0].startswith(f'{main}:1:18: '), ran.err)
            self.assertEqual(lines[1], f"{broken}:2:3: unknown key 'tagz', did you mean 'tags'?")
            self.assertTrue(lines[2].startswith(f'{broken}:3:9: '), ran.err)
            self.assertIn('stays as it was', lines[3])
            self.assertIn('3 problems', lines[3])
            self.assertEqual(len(lines), 4)
            self.assertIn(lines[1], lab.log)
            self.assertEqual(list(lab.get('/duts')['duts']), ['b1'])
            self.assertEqual(lab.board_state('b1')['job']['id'], job)
            os.unlink(main)
            ran = lab.dut('reload')
            self.assertEqual(ran.rc, 65)
            self.assertIn('No such file', ran.err)
            self.cancel(lab, job)
            lab.configure({})

    def test_what_cannot_be_opened(self):
        with self.lab('b1') as lab:
            lab.start()
            # A file where its folder has to be.
            lab.write('state/duts/b2', '')
            lab.sim('b2', BOOT, tags=['x'])
            lab.sim('b3', BOOT)
            ran = lab.dut('reload')
            self.assertEqual(ran.rc, 74)
            self.assertIn("b2: refused: DUT 'b2': ", ran.out)
            self.assertIn('b3: applied: it is new\n', ran.out)
            self.assertIn('1 of 2 changes are refused', ran.err)
            self.assertEqual(lab.api('GET', '/dut/b2').status, 404)
            os.unlink(lab.path('state', 'duts', 'b2'))
            self.assertEqual(reload(lab), [('b2', 'applied: it is new')])


class Waits(Base):
    def test_the_holders_jobs_get_it_as_it_is(self):
        with Lab() as lab:
            script = lab.write('boards/b1/script', ENDS)
            lab.board('b1', {'power': {'driver': 'sim', 'script': script},
                             'consoles': {'old': {'driver': 'sim', 'dut_tty': 'ttyS7'}}})
            lab.start()
            self.assertEqual(lab.api('POST', '/dut/b1/reservation', {'seconds': 600}).status, 201)
            lab.board('b1', {'power': {'driver': 'sim', 'script': script},
                             'consoles': {'new': {'driver': 'sim', 'dut_tty': 'ttyS8'}}})
            self.assertRegex(reload(lab)[0][1], '^waits: b1 is reserved by .*: consoles$')
            job = lab.submit_ok(WAITS, 'b1')
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            self.assertEqual(lab.result(job)['console'], 'old')
            lab.api('DELETE', '/dut/b1/reservation')
            await_true(lambda: reload(lab) == [], 'the new console')
            job = lab.submit_ok(WAITS, 'b1')
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            self.assertEqual(lab.result(job)['console'], 'new')

    def test_power_waits_for_the_job(self):
        with self.lab('b1') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            other = lab.write('boards/b1/other', ENDS)
            lab.board('b1', {'sim': {'script': other}, 'tags': ['x']})
            self.assertEqual(reload(lab), [('b1', 'applied: tags'),
                                           ('b1', f'waits for job {job}: sim')])
            # It is said again, for as long as it waits.
            self.assertEqual(reload(lab), [
                ('b1', f'waits for job {job}: other power or consoles')])
            with lab.console('b1') as viewer:
                self.cancel(lab, job)
                # The next one gets the board as it is configured by now.
                lab.await_board('b1', 'IDLE')
                self.assertEqual(lab.run_job(WAITS, 'b1')['status'], 'PASS')
                self.assertIn(b'all done', viewer.read_until(b'all done'))
            self.assertEqual(reload(lab), [])

    def test_changed_back_in_time(self):
        with self.lab('b1') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            other = lab.write('boards/b1/other', ENDS)
            lab.board('b1', {'sim': {'script': other}})
            self.assertEqual(reload(lab), [('b1', f'waits for job {job}: sim')])
            lab.sim('b1', BOOT)
            self.assertEqual(reload(lab), [('b1', 'applied: sim')])
            self.assertEqual(reload(lab), [])
            self.cancel(lab, job)
            lab.await_board('b1', 'IDLE')

    def test_one_with_a_job_leaves_after_it(self):
        script = BOOT + 'at 1s send "test ok\\r\\nall done\\r\\n"\n'
        with self.lab('b1', 'b2', script=script) as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            remove(lab, 'b1')
            self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves')])
            dut = lab.board_state('b1')
            self.assertEqual((dut['state'], dut['leaving']), ('RUNNING', True))
            self.assertIn('leaving', lab.dut('list').out)
            self.assertIn('leaving', lab.dut('show', 'b1').out)
            self.assertEqual(lab.submit(WAITS, 'b1').status, 409)
            self.assertEqual(list(lab.get('/duts')['duts']), ['b2', 'b1'])
            self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves')])
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            await_gone(lab, 'b1')
            # Off before it went, and its log can be read.
            events = [entry['event'] for entry in lab.record('b1')]
            self.assertEqual((events.count('off'), events[-1]), (1, 'exit'))
            self.assertIn(b'all done', lab.api('GET', f'/jobs/{job}/log').body)
            self.assertEqual(lab.dut('results', job).rc, 0)

    def test_one_for_which_a_job_waits(self):
        script = BOOT + 'at 700ms send "test ok\\r\\nall done\\r\\n"\n'
        with self.lab('b1', script=script) as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            waiting = lab.submit_ok(WAITS, 'b1', wait='forever')
            remove(lab, 'b1')
            self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves')])
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            await_gone(lab, 'b1')
            found = lab.get(f'/jobs/{waiting}')
            self.assertEqual(found['state'], 'WAITING')
            self.assertIn('not configured any more', found['cause'])
            lab.sim('b1', script)
            self.assertEqual(reload(lab), [('b1', 'applied: it is new')])
            self.assertEqual(lab.await_job(waiting)['status'], 'PASS')

    def test_it_comes_back_while_it_leaves(self):
        with self.lab('b1') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            remove(lab, 'b1')
            reload(lab)
            lab.sim('b1', BOOT, tags=['x'])
            self.assertEqual(reload(lab), [('b1', 'applied: it stays after all, with other tags')])
            dut = lab.board_state('b1')
            self.assertEqual((dut['leaving'], dut['tags']), (False, ['x']))
            self.cancel(lab, job)
            lab.await_board('b1', 'IDLE')

    def test_renamed(self):
        """The old name is the new one's alias, as soon as the job that has it is over."""
        with self.lab('b1') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            remove(lab, 'b1')
            lab.sim('b9', ENDS, aliases=['b1'])
            self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves'),
                                           ('b9', 'applied: it is new')])
            self.assertEqual(lab.board_state('b1')['id'], 'b1')
            self.assertEqual(lab.dut('cancel', 'b1').rc, 0)
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            await_true(lambda: lab.board_state('b1')['id'] == 'b9', 'b1 to be b9')
            self.assertEqual(lab.run_job(WAITS, 'b1')['dut'], 'b9')
            lab.stop()
            lab.start()
            # b1's bytes are not b9's.
            self.assertEqual(whole_console(self, lab, 'b9').count(b'all done'), 1)

    def test_one_that_somebody_holds(self):
        with self.lab('b1', 'b2', script=ENDS) as lab:
            lab.start()
            for board in ('b1', 'b2'):
                answer = lab.api('POST', f'/dut/{board}/reservation', {'seconds': 600})
                self.assertIn(answer.status, (200, 201), answer)
            remove(lab, 'b1')
            other = lab.write('boards/b2/other', ENDS)
            lab.board('b2', {'sim': {'script': other}})
            changes = reload(lab)
            self.assertRegex(changes[0][1], '^waits: b1 is reserved by .*, then it leaves$')
            self.assertRegex(changes[1][1], '^waits: b2 is reserved by .*: sim$')
            self.assertEqual(lab.board_state('b1')['leaving'], True)
            self.assertEqual(lab.run_job(WAITS, 'b1')['status'], 'PASS')
            self.assertEqual(lab.board_state('b1')['state'], 'RESERVED')
            for board in ('b1', 'b2'):
                lab.api('DELETE', f'/dut/{board}/reservation')
            await_gone(lab, 'b1')
            lab.await_board('b2', 'IDLE')
            await_true(lambda: reload(lab) == [], 'b2 to be the other')
            self.assertEqual(lab.run_job(WAITS, 'b2')['status'], 'PASS')

    def test_a_retired_one(self):
        with self.lab('b1', 'b2') as lab:
            lab.start()
            for board in ('b1', 'b2'):
                self.assertEqual(lab.dut('retire', board).rc, 0)
            remove(lab, 'b1')
            lab.board('b2', {'sim': {'script': lab.write('boards/b2/other', ENDS)}})
            self.assertEqual(reload(lab)[1], ('b2', 'applied: sim'))
            await_gone(lab, 'b1')
            self.assertEqual(lab.board_state('b2')['state'], 'RETIRED')
            lab.sim('b1', BOOT)
            reload(lab)
            self.assertEqual(lab.board_state('b1')['state'], 'RETIRED')

    def test_a_board_that_starts_and_one_that_goes_off(self):
        with Lab() as lab:
            lab.sim('b1', 'delay off 700ms\n' + ENDS)
            lab.start()
            job = lab.submit_ok(WAITS, 'b1')
            remove(lab, 'b1')
            self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves')])
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves')])
            await_gone(lab, 'b1')

    def test_one_whose_power_is_just_being_read(self):
        with self.lab('b1', script='delay read 500ms\n' + BOOT) as lab:
            lab.start()
            # The first look, at the start, is under way.
            remove(lab, 'b1')
            reload(lab)
            await_gone(lab, 'b1')

    def test_one_that_was_switched_on_by_hand(self):
        with self.lab('b1', 'b2', script=BOOT + 'at 30ms flood 2000\n') as lab:
            lab.start()
            for board in ('b1', 'b2'):
                self.assertEqual(lab.dut('power', 'on', board).rc, 0)
            remove(lab, 'b1')
            other = lab.write('boards/b2/other', ENDS)
            lab.board('b2', {'sim': {'script': other}})
            reload(lab)
            await_gone(lab, 'b1')
            # A job that comes just then waits for the board to be the new one.
            self.assertEqual(lab.run_job(WAITS, 'b2')['status'], 'PASS')
            self.assertEqual(lab.record('b1')[-1]['event'], 'exit')

    def test_consoles_change_places(self):
        with Lab() as lab:
            for board in ('b1', 'b2'):
                lab.write(f'boards/{board}/script', ENDS.replace('U-Boot', board))
            def configure(first, second):
                for board, script in (('b1', first), ('b2', second)):
                    lab.board(board, {'power': {'driver': 'sim', 'script':
                                                lab.path('boards', script, 'script')},
                                      'consoles': {f'of-{script}': {'driver': 'sim'}}})
            configure('b1', 'b2')
            lab.start()
            self.assertEqual(lab.run_job(WAITS, 'b1')['status'], 'PASS')
            configure('b2', 'b1')
            self.assertEqual([name for name, _ in reload(lab)], ['b1', 'b2'])
            job = lab.submit_ok(WAITS, 'b1')
            self.assertEqual(lab.await_job(job)['status'], 'PASS')
            self.assertIn(b'b2', lab.api('GET', f'/jobs/{job}/log').body)
            self.assertEqual([line['name'] for line in lab.board_state('b1')['consoles']],
                             ['of-b2'])

    def test_each_value_is_shown_with_its_place(self):
        with Lab() as lab:
            script = lab.write('boards/script', BOOT)
            types = lab.write('etc/types.d/t.yaml',
                              f't:\n  tags: [a, b]\n  sim:\n    script: {script}\n')
            own = lab.write('etc/duts.d/b1.yaml', 'b1:\n  type: t\n  variables: {x: "1"}\n')
            lab.start()
            out = lab.dut('show', 'b1').out
            for line in (f'tags: a, b ({types}:2)', f'sim.script: {script} ({types}:4)',
                         f'type: t ({own}:2)', f'variables.x: 1 ({own}:3)'):
                self.assertIn(f'    {line}\n', out)
            # The places of what was read last, although nothing has changed.
            moved = lab.write('etc/duts.d/b2.yaml', '\n\nb1:\n  variables: {x: "1"}\n  type: t\n')
            os.unlink(own)
            self.assertEqual(reload(lab), [])
            self.assertIn(f'    variables.x: 1 ({moved}:4)\n', lab.dut('show', 'b1').out)
            values = {entry['key']: entry for entry in lab.get('/dut/b1?config=1')['config']}
            self.assertEqual(values['tags'], {'key': 'tags', 'value': ['a', 'b'], 'file': types,
                                              'line': 2})
            self.assertNotIn('config', lab.get('/dut/b1'))

    def test_a_type_that_many_use(self):
        with Lab() as lab:
            script = lab.write('boards/script', BOOT)
            lab.write('etc/types.d/t.yaml', json.dumps({'t': {'tags': ['old'],
                                                              'sim': {'script': script}}}))
            lab.write('etc/duts.d/all.yaml',
                      json.dumps({f'b{n}': {'type': 't'} for n in range(30)}))
            lab.start()
            lab.write('etc/types.d/t.yaml', json.dumps({'t': {'tags': ['new'],
                                                              'sim': {'script': script}}}))
            self.assertEqual(reload(lab), [(f'b{n}', 'applied: tags') for n in range(30)])
            self.assertTrue(all(dut['tags'] == ['new']
                                for dut in lab.get('/duts')['duts'].values()))

    def test_a_virtual_machine(self):
        with Lab() as lab:
            lab.uboot('ub')
            lab.uboot('gone')
            lab.start()
            for board in ('ub', 'gone'):
                self.assertEqual(lab.dut('power', 'on', board).rc, 0)
            remove(lab, 'gone')
            lab.uboot('ub', {'memory': '384M'})
            reload(lab)
            await_gone(lab, 'gone')
            await_true(lambda: lab.board_state('ub')['power']['state'] == 'OFF', 'it is off')
            self.assertEqual([line for line in lab.processes().values() if 'qemu' in line], [])
            await_true(lambda: not reload(lab), 'the new machine')
            self.assertEqual(lab.dut('power', 'on', 'ub').rc, 0)
            lines = [line for line in lab.processes().values() if 'qemu' in line]
            self.assertEqual(len(lines), 1)
            self.assertIn('384', lines[0])
            self.assertEqual(lab.dut('power', 'off', 'ub').rc, 0)


class Restarted(Base):
    """dutd is killed, and the next one finds other files than the job of a board was begun with."""
    END = BOOT + 'at 20ms flood 20000\nat 3s send "\\r\\ntest ok\\r\\nall done\\r\\n"\n'

    def lab(self, *boards, script=END):
        lab = Lab()
        for board in boards:
            lab.sim(board, script, options={'sent': lab.path('boards', board, 'sent.bin')})
        return lab

    def assert_all_there(self, lab, board, job):
        ended = lab.await_job(job)
        self.assertEqual((ended['status'], ended['reason']), ('PASS', 'ok'))
        with open(lab.path('boards', board, 'sent.bin'), 'rb') as file:
            self.assertEqual(whole_console(self, lab, board), file.read())

    def test_one_that_leaves(self):
        for told in (True, False):
            with self.subTest(told=told), self.lab('b1', 'b2') as lab:
                lab.start()
                job = self.run_until_running(lab, 'b1')
                remove(lab, 'b1')
                if told:
                    self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves')])
                lab.kill_daemon()
                lab.start()
                dut = lab.await_board('b1', 'RUNNING')
                self.assertEqual((dut['leaving'], dut['job']['id']), (True, job))
                self.assertEqual(reload(lab), [('b1', f'waits for job {job}, then it leaves')])
                self.assert_all_there(lab, 'b1', job)
                await_gone(lab, 'b1')
                self.assertEqual(lab.record('b1')[-1]['event'], 'exit')

    def test_one_that_is_another_now(self):
        with self.lab('b1') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            lab.kill_daemon()
            lab.board('b1', {'sim': {'script': lab.write('boards/b1/other', ENDS)}, 'tags': ['x']})
            lab.start()
            dut = lab.await_board('b1', 'RUNNING')
            self.assertEqual((dut['tags'], dut['job']['id']), (['x'], job))
            self.assertEqual(reload(lab), [
                ('b1', f'waits for job {job}: other power or consoles')])
            self.assert_all_there(lab, 'b1', job)
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.run_job(WAITS, 'b1')['status'], 'PASS')

    def test_one_of_which_nothing_is_known(self):
        """A record of an earlier version, or a script that is gone."""
        with self.lab('b1', 'b2') as lab:
            lab.start()
            jobs = [self.run_until_running(lab, board) for board in ('b1', 'b2')]
            lab.kill_daemon()
            path = os.path.join(lab.state, 'jobs', f'{jobs[0]}.json')
            with open(path, encoding='utf-8') as file:
                record = json.load(file)
            del record['dut_config']
            with open(path, 'w', encoding='utf-8') as file:
                json.dump(record, file)
            os.unlink(lab.path('boards', 'b2', 'script'))
            for board in ('b1', 'b2'):
                remove(lab, board)
            lab.start()
            for job in jobs:
                self.assertEqual(lab.await_job(job)['status'], 'PASS')
            for board in ('b1', 'b2'):
                await_gone(lab, board)
            self.assertIn('cannot be as it was', lab.log)

    def test_its_executor_has_died_as_well(self):
        with self.lab('b1', script=BOOT) as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            remove(lab, 'b1')
            lab.kill_daemon()
            lab.kill_executor('b1')
            lab.start()
            ended = lab.await_job(job)
            self.assertEqual((ended['status'], ended['reason']), ('INCOMPLETE', 'executor_killed'))
            await_gone(lab, 'b1')
            self.assertIn('off', [entry['event'] for entry in lab.record('b1')])


class Asked(Base):
    def test_signals_and_requests_at_once(self):
        with self.lab('b1', script=BOOT + 'at 30ms flood 20000\n') as lab:
            lab.start()
            job = self.run_until_running(lab, 'b1')
            answers = []

            def ask():
                answers.append(lab.api('POST', '/reload').status)
            threads = [threading.Thread(target=ask) for _ in range(20)]
            for thread in threads:
                lab.daemon.process.send_signal(signal.SIGHUP)
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(answers, [200] * 20)
            # Each answer is of files that were read after the question.
            for n in range(20):
                lab.sim('b1', BOOT + 'at 30ms flood 20000\n', description=f'number {n}')
                lab.daemon.process.send_signal(signal.SIGHUP)
                lab.api('POST', '/reload')
                self.assertEqual(lab.board_state('b1')['description'], f'number {n}')
            self.cancel(lab, job)

    def test_a_signal_alone(self):
        with self.lab('b1') as lab:
            lab.start()
            lab.sim('b2', BOOT)
            with lab.stream('/events') as events:
                lab.daemon.process.send_signal(signal.SIGHUP)
                await_true(lambda: lab.api('GET', '/dut/b2').status == 200, 'b2')
                told = events.read_until(b'it is new')
                self.assertIn(b'"type":"config"', told)
            lab.write('etc/duts.d/x.yaml', 'b3: 7\n')
            lab.daemon.process.send_signal(signal.SIGHUP)
            await_true(lambda: 'x.yaml:1:5: ' in lab.log, 'the problem in the log')
            self.assertIn('reload by dutd (signal): 1 change', lab.log)

    def test_the_service_manager_is_told(self):
        with self.lab('b1') as lab:
            path = lab.path('notify')
            lab.start()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                if os.path.exists(path):
                    os.unlink(path)
                notify.bind(path)
                notify.settimeout(30)
                lab.daemon.process.send_signal(signal.SIGHUP)
                begin = notify.recv(4096).split(b'\n')
                self.assertEqual(begin[0], b'RELOADING=1')
                self.assertRegex(begin[1], rb'^MONOTONIC_USEC=\d+$')
                self.assertEqual(notify.recv(4096), b'READY=1')

    def test_stopped_while_it_reads(self):
        for _ in range(3):
            with self.lab('b1') as lab:
                lab.start()
                lab.sim('b2', BOOT)
                lab.daemon.process.send_signal(signal.SIGHUP)
                lab.daemon.process.send_signal(signal.SIGHUP)
                lab.stop()
                lab.start()
                lab.await_board('b2', 'IDLE')


class UnderLoad(Base):
    """
    DUT_RELOADS and DUT_RELOAD_JOBS make it as large as one likes: 1000 and 50, once before a
    release.
    """
    RELOADS = int(os.environ.get('DUT_RELOADS', 100))
    JOBS = int(os.environ.get('DUT_RELOAD_JOBS', 10))
    FLOOD = BOOT + 'at 20ms flood 20000\n'

    def write_board(self, lab, board, present=True, **keys):
        if not present:
            lab.write(f'etc/duts.d/{board}.yaml', '')
            return
        script = keys.pop('script', 'script')
        lab.board(board, {'type': 'flood', 'sim': {
            'script': lab.path('boards', board, script),
            'sent': lab.path('boards', board, 'sent.bin')}, **keys})

    def change_something(self, lab, choose, count):
        """What one may do to the files of a lab at work."""
        busy = f'b{choose.randrange(self.JOBS)}'
        idle = f'idle{choose.randrange(4)}'
        what = choose.randrange(7)
        if what == 0:
            self.write_board(lab, busy, description=f'change {count}')
        elif what == 1:
            self.write_board(lab, busy, tags=[f't{count}'], aliases=[f'a{count}'])
        elif what == 2:
            self.write_board(lab, busy, script=choose.choice(['script', 'other']))
        elif what == 3:
            self.write_board(lab, busy, present=choose.random() < 0.5)
        elif what == 4:
            self.write_board(lab, idle, present=choose.random() < 0.5,
                             script=choose.choice(['script', 'other']))
        elif what == 5:
            lab.write('etc/types.d/flood.yaml', json.dumps({'flood': {'tags': [f'c{count}']}}))
        else:
            lab.configure({'limits': {'idle_log': f'{choose.randrange(1, 9)}MiB'}})
        return what

    def test_no_byte_is_lost(self):
        seed = int(os.environ.get('DUT_RELOAD_SEED', random.randrange(1 << 32)))
        choose = random.Random(seed)
        boards = [f'b{n}' for n in range(self.JOBS)]
        with self.subTest(seed=seed), Lab() as lab:
            lab.write('etc/types.d/flood.yaml', '{flood: {}}')
            for board in [*boards, *(f'idle{n}' for n in range(4))]:
                for script in ('script', 'other'):
                    lab.write(f'boards/{board}/{script}', self.FLOOD)
                self.write_board(lab, board)
            lab.start()
            jobs = {board: self.run_until_running(lab, board) for board in boards}
            pids = {board: lab.executor_pid(board) for board in boards}
            log = lab.stream(f'/jobs/{jobs["b0"]}/log', follow=1, offset=0)
            early = 0
            for count in range(self.RELOADS):
                if count % 2:
                    self.change_something(lab, choose, count)
                changes = reload(lab)
                if not count % 2:
                    # What waits, or ends, is said each time.
                    self.assertEqual([text for _, text in changes
                                      if 'waits' not in text and 'is ended' not in text], [])
                if count == self.RELOADS // 4:
                    early = processes.resident(lab.daemon.pid)
            late = processes.resident(lab.daemon.pid)
            self.assertEqual({board: lab.executor_pid(board) for board in boards}, pids)
            for job in jobs.values():
                self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
                lab.api('POST', f'/jobs/{job}/cancel', {})
            for job in jobs.values():
                self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            with open(lab.job_file(jobs['b0'], 'console.log'), 'rb') as file:
                self.assertEqual(log.read_all(), file.read())
            if not processes.has_sanitizer(lab.daemon.pid):
                self.assertLess(late - early, 4 << 20, 'dutd has grown')
            await_true(lambda: reload(lab) == [], 'all changes')
            for board in boards:
                with open(lab.path('boards', board, 'sent.bin'), 'rb') as file:
                    sent = file.read()
                self.assertEqual(whole_console(self, lab, board), sent)


if __name__ == '__main__':
    unittest.main()
