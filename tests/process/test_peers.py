# SPDX-License-Identifier: MIT
"""Somebody else at each socket: who gets in, and how far."""

import contextlib
import json
import os
import pwd
import socket
import stat
import time
import unittest

from tests.support.harness import PATIENCE, Lab, UnixConnection, await_true
from tests.support.peers import NOBODY, OTHER, THIRD, PeersLab, user

BOOT = 'at 10ms send "Linux version 6.1\\r\\n"\n'
NEVER = 'console_patterns: {session_end: never}\n'
GROUP = 54321


def setUpModule():
    if os.geteuid() != 0:
        raise unittest.SkipTest('only root can be somebody else')


def name_of(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f'uid:{uid}'


class Dutd(unittest.TestCase):
    def test_the_mode_of_the_socket_decides(self):
        with PeersLab() as lab:
            lab.configure({'api': {'socket': {'mode': '0600'}}})
            lab.sim('b1', BOOT)
            lab.start()
            self.assertEqual(lab.ask(NOBODY, 'GET', '/status')[0], None)
            lab.stop()
            lab.configure({'api': {'socket': {'mode': '0660'}}})
            lab.start()
            os.chown(lab.socket, -1, GROUP)
            self.assertEqual(lab.ask(NOBODY, 'GET', '/status')[0], None)
            self.assertEqual(lab.ask(NOBODY, 'GET', '/status', groups=(GROUP,))[0], 200)
            lab.stop()
            lab.configure({'api': {'socket': {'mode': '0666'}}})
            lab.start()
            self.assertEqual(lab.ask(NOBODY, 'GET', '/status')[0], 200)

    def test_a_user_has_his_own_jobs_only(self):
        with PeersLab() as lab:
            lab.configure({'api': {'socket': {'mode': '0666'}, 'admins': [name_of(OTHER)]}})
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(NEVER, 'b1')
            for path in (f'/jobs/{job}/cancel', '/dut/b1/cancel_job'):
                status, body = lab.ask(NOBODY, 'POST', path)
                self.assertEqual(status, 403, body)
                self.assertIn('belongs to root', body['error'])
            status, body = lab.ask(NOBODY, 'PUT', '/dut/b1/power', {'state': 'off'})
            self.assertEqual(status, 409, body)
            self.assertEqual(lab.get(f'/jobs/{job}')['state'], 'RUNNING')
            # One by the name that admins has may.
            status, body = lab.ask(OTHER, 'POST', f'/jobs/{job}/cancel')
            self.assertEqual(status, 200, body)
            self.assertEqual(lab.await_job(job)['cancel']['by'], name_of(OTHER))
            lab.await_board('b1', 'IDLE')
            self.assertEqual(lab.ask(NOBODY, 'PUT', '/dut/b1/power', {'state': 'off'})[0], 200)


class Executor(unittest.TestCase):
    def test_job_sock_may_be_read_where_its_mode_lets_in_and_no_more(self):
        with PeersLab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            job = lab.submit_ok(NEVER, 'b1')
            lab.await_phase(job, 'running')
            path = lab.executor_socket('b1')
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode) & 0o007, 0)
            self.assertEqual(lab.ask(NOBODY, 'GET', '/state', socket_path=path)[0], None)
            os.chmod(path, 0o666)
            status, body = lab.ask(NOBODY, 'GET', '/state', socket_path=path)
            self.assertEqual((status, body['phase']), (200, 'running'))
            for body in (None, {'why': 'because'}):
                status, answer = lab.ask(NOBODY, 'POST', '/job/cancel', body, path)
                self.assertEqual(status, 403, answer)
            self.assertEqual(lab.get(f'/jobs/{job}')['phase'], 'running')
            self.assertEqual(lab.ask(0, 'POST', '/job/cancel', None, path)[0], 200)
            self.assertEqual(lab.await_job(job)['status'], 'CANCELLED')
            lab.await_board('b1', 'IDLE')

    def test_control_sock_is_for_dutd_alone(self):
        with PeersLab() as lab:
            lab.sim('b1', BOOT + 'at 3s send "the end\\r\\n"\n')
            lab.start()
            job = lab.submit_ok('console_patterns: {session_end: the end}\n', 'b1')
            lab.await_phase(job, 'running')
            path = os.path.join(lab.runtime, 'duts', 'b1', 'control.sock')
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            with user(NOBODY), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
                self.assertRaises(PermissionError, peer.connect, path)
            # Were its mode wrong: the executor looks who it is, whatever is said.
            os.chmod(path, 0o666)
            with open(lab.job_file(job, 'job.json'), encoding='utf-8') as file:
                known = json.load(file)
            hello = {'t': 'hello', 'v': 1, 'epoch': 99, 'job': known['id'],
                     'attempt': known['attempt'], 'nonce': known['nonce']}
            for _ in range(40):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
                    peer.settimeout(PATIENCE)
                    with user(NOBODY):
                        peer.connect(path)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        peer.send(json.dumps(hello).encode())
                        peer.send(b'{"t": "cancel", "reason": "cancelled"}')
                    with contextlib.suppress(ConnectionResetError):
                        self.assertEqual(peer.recv(65536), b'')
            self.assertEqual(lab.await_job(job)['status'], 'COMPLETE')
            lab.await_board('b1', 'IDLE')
            # Nor does it fill the log.
            self.assertEqual(lab.log.count('uid 65534 is not dutd'), 20)
            self.assertIn('more of them are not told', lab.log)


class Boards(unittest.TestCase):
    def assert_closed(self, lab, board, names):
        folder = os.path.join(lab.runtime, 'duts', board)
        found = sorted(name for name in os.listdir(folder) if name.endswith('.sock'))
        self.assertEqual(found, names)
        for name in found:
            with user(NOBODY, *os.getgroups()), socket.socket(socket.AF_UNIX) as peer:
                with self.assertRaises(PermissionError, msg=name):
                    peer.connect(os.path.join(folder, name))

    def test_sockets_of_a_sim_board(self):
        with PeersLab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            lab.open_folders()
            self.assert_closed(lab, 'b1', ['console.sock', 'sim.sock'])
            self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)

    def test_sockets_of_a_qemu_board(self):
        with PeersLab() as lab:
            lab.uboot('b1')
            lab.start()
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            lab.open_folders()
            self.assert_closed(lab, 'b1', ['console.sock', 'qmp.sock'])
            self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)

    def test_folders_of_the_runtime_let_nobody_in(self):
        with Lab() as lab:
            lab.sim('b1', BOOT)
            lab.start()
            for path in (os.path.join(lab.runtime, 'duts', 'b1'), os.path.join(lab.state, 'jobs'),
                         os.path.join(lab.state, 'duts', 'b1')):
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode) & 0o007, 0, path)


class Shares(unittest.TestCase):
    """What one user takes is not another one's loss."""

    def stream(self, lab, uid):
        sock = UnixConnection(lab.socket, PATIENCE)
        with user(uid):
            sock.connect()
        sock.sock.sendall(b'GET /api/v1/dut/b1/console HTTP/1.1\r\nHost: lab\r\n\r\n')
        return sock.sock

    def test_of_connections(self):
        with PeersLab() as lab:
            lab.configure({'api': {'socket': {'mode': '0666'}}, 'limits': {'connections': 40}})
            lab.sim('b1', BOOT)
            lab.start()
            held = [self.stream(lab, NOBODY) for _ in range(20)]
            for sock in held:
                self.assertTrue(sock.recv(100).startswith(b'HTTP/1.1 200'))
            status, body = lab.ask(NOBODY, 'GET', '/status')
            self.assertEqual(status, 429, body)
            self.assertIn('the user with uid 65534 has 20 connections', body['error'])
            self.assertEqual(lab.ask(OTHER, 'GET', '/status')[0], 200)
            # Two of them take all: another one is told so, root still gets in.
            held += [self.stream(lab, OTHER) for _ in range(20)]
            for sock in held[20:]:
                self.assertTrue(sock.recv(100).startswith(b'HTTP/1.1 200'))
            status, body = lab.ask(THIRD, 'GET', '/status')
            self.assertEqual(status, 503, body)
            self.assertIn('40 connections are open', body['error'])
            begun = time.monotonic()
            self.assertEqual(lab.dut('power', 'on', 'b1').rc, 0)
            self.assertEqual(lab.dut('power', 'off', 'b1').rc, 0)
            self.assertLess(time.monotonic() - begun, 10)
            for sock in held:
                sock.close()
            await_true(lambda: lab.ask(THIRD, 'GET', '/status')[0] == 200, 'room again')

    def test_idle_connections_of_one_user_do_not_end_those_of_another(self):
        with PeersLab() as lab:
            lab.configure({'api': {'socket': {'mode': '0666'}}, 'limits': {'connections': 40}})
            lab.sim('b1', BOOT)
            lab.start()
            mine = UnixConnection(lab.socket, PATIENCE)
            mine.connect()
            idle = []
            for _ in range(200):
                sock = UnixConnection(lab.socket, PATIENCE)
                with user(NOBODY):
                    sock.connect()
                idle.append(sock)
            mine.request('GET', '/api/v1/status')
            self.assertEqual(mine.getresponse().status, 200)
            mine.close()
            for sock in idle:
                sock.close()


if __name__ == '__main__':
    unittest.main()
