# SPDX-License-Identifier: MIT
"""What a byte of a console costs, from its fd into a log with a time index."""

import contextlib
import os
import random
import threading
import time

from tests.bench import loggers
from tests.bench.measure import Figure, LeftOut, Measure

MIB = 1 << 20
FLOOD_BYTES = 16 * MIB
LINE_RATE = 11520  # bytes a second: 115200 baud
PACED_S = 4.0
# How many bytes come together: a UART tells when its FIFO has so many, a USB adapter every 16 ms.
PORTS = {'uart': 16, 'usb': 184}
PORT_NAMES = {'uart': 'UART with FIFO', 'usb': 'USB adapter'}
OURS, LIMIT = loggers.Executor.name, loggers.Limit.name
# A socket gives as much as memory can be copied: there a loop that does not look at its bytes is
# no measure for one that tries patterns on them.
LIMITS = {'pty': LIMIT, 'unix': loggers.SearchingLimit.name}

WORDS = ('usb pci acpi initcall driver registered device bus detected using enabled interrupt port '
         'memory cache link speed power state module loaded probe failed retry timeout reset GPU '
         'firmware version BIOS reserved mem node cpu cpu0 clocksource tsc hpet rcu smp boot eth0 '
         'nvme0n1 ext4 filesystem mounted ordered data mode systemd target reached login').split()


def make_text(size, seed=1):
    """Lines as a kernel says them."""
    rnd = random.Random(seed)
    lines, length, clock = [], 0, 0.0
    while length < size:
        clock += rnd.expovariate(200)
        words = ' '.join(rnd.choices(WORDS, k=rnd.randint(3, 12)))
        place = f'{rnd.choice(WORDS)} {rnd.randrange(4)}-{rnd.randrange(9)}'
        line = f'[{clock:12.6f}] {place}: {words}\r\n'
        lines.append(line.encode())
        length += len(line)
    return b''.join(lines)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:65536]):]


class Flood(Figure):
    name = 'console'
    about = f'CPU of a byte, fd to log with time index and {len(loggers.TRIED)} patterns'

    def plan(self):
        return [
            Measure(f'console/flood/{kind}', f'{what} as fast as it goes: CPU', 'ns a byte', 1e9,
                    OURS, LIMITS[kind], 1.5)
            for kind, what in (('pty', 'tty'), ('unix', 'socket'))
        ]

    def __init__(self, bench):
        super().__init__(bench)
        self.text = make_text(FLOOD_BYTES)
        self.number = 0

    def contestants(self):
        return {f'{logger.name}': lambda logger=logger: self.measure(logger)
                for logger in loggers.ALL}

    def measure(self, kind_of_logger):
        for kind in kind_of_logger.kinds:
            with kind_of_logger(self.bench, kind) as logger:
                self.number += 1
                mark = b'the end of text %d\r\n' % self.number
                before = logger.cpu_s()
                write_all(logger.board, self.text)
                write_all(logger.board, mark)
                logger.await_mark(mark)
                used = logger.cpu_s() - before
                self.measures[f'console/flood/{kind}'].add(logger.name, used / len(self.text))


class Paced(Figure):
    name = 'baud'
    about = 'the same at 115200 baud'

    def plan(self):
        return [Measure(f'console/115200/{port}', f'{name} at 115200 baud: CPU', 'ns a byte', 1e9,
                        OURS, LIMIT, 1.5) for port, name in PORT_NAMES.items()]

    def rounds(self):
        return min(3, self.bench.rounds)

    def contestants(self):
        return {port: lambda port=port: self.measure(port) for port in PORTS}

    def measure(self, port):
        """All see the same at the same times."""
        with contextlib.ExitStack() as stack:
            running = []
            for kind in loggers.ALL:
                try:
                    running.append(stack.enter_context(kind(self.bench, 'pty')))
                except LeftOut as why:
                    self.bench.leave_out(f'{kind.name}: {why}')
            before = [logger.cpu_s() for logger in running]
            size = self.feed([logger.board for logger in running], PORTS[port])
            for logger in running:
                logger.await_mark(b'the end of it all\r\n')
            for logger, begun in zip(running, before):
                self.measures[f'console/115200/{port}'].add(logger.name,
                                                            (logger.cpu_s() - begun) / size)

    @staticmethod
    def feed(boards, step):
        text = make_text(int(LINE_RATE * PACED_S), 2)
        clock = threading.Event()
        due = time.monotonic()
        for at in range(0, len(text), step):
            for board in boards:
                write_all(board, text[at:at + step])
            due += step / LINE_RATE
            clock.wait(max(0, due - time.monotonic()))
        for board in boards:
            write_all(board, b'the end of it all\r\n')
        return len(text)
