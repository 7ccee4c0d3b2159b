#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A board in the place of dut-sim: while it has power it says at 115200 baud what time it is, so
that whoever reads it knows how old each line is.

fd 3 is the outlet (packets of JSON), fd 4 the console, as dut-sim has them.
"""

import json
import socket
import threading
import time

RATE = 11520  # bytes a second
LINE = 64


class Board:
    def __init__(self):
        self.power = threading.Event()
        self.reader = None

    def serve_outlet(self, listener):
        while True:
            connection, _ = listener.accept()
            with connection:
                while packet := connection.recv(65536):
                    self.switch(connection, json.loads(packet)['t'])

    def switch(self, connection, what):
        if what == 'exit':
            return
        if what in ('on', 'off'):
            (self.power.set if what == 'on' else self.power.clear)()
        state = 'ON' if self.power.is_set() else 'OFF'
        connection.send(json.dumps({'t': 'done', 'ok': True, 'state': state}).encode())

    def serve_console(self, listener):
        while True:
            reader, _ = listener.accept()
            with reader:
                self.talk(reader)

    def talk(self, reader):
        pace = threading.Event()
        due = time.monotonic()
        while True:
            if not self.power.is_set():
                self.power.wait()
                due = time.monotonic()
            due += LINE / RATE
            pace.wait(max(0, due - time.monotonic()))
            stamp = b'stamp %020d' % time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            try:
                reader.send(stamp.ljust(LINE - 2, b'.') + b'\r\n')
            except OSError:
                return


def main():
    board = Board()
    threading.Thread(target=board.serve_outlet, args=(socket.socket(fileno=3),)).start()
    board.serve_console(socket.socket(fileno=4))


if __name__ == '__main__':
    main()
