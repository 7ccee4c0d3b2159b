# SPDX-License-Identifier: MIT
"""Tar archives made by hand, so that they can hold what no honest program writes."""

END = bytes(1024)


def pad(data):
    return data + bytes(-len(data) % 512)


def header(name=b'', kind=b'0', size=0, link=b'', mode=0o644, owner=0):
    """A header of POSIX.1-1988; size may be the bytes of its field."""
    block = bytearray(512)

    def put(at, text):
        block[at:at + len(text)] = text

    put(0, name)
    put(100, b'%07o' % mode)
    put(108, b'%07o' % owner)
    put(116, b'%07o' % owner)
    put(124, size if isinstance(size, bytes) else b'%011o' % size)
    put(136, b'%011o' % 1000000000)
    put(148, b' ' * 8)
    put(156, kind)
    put(157, link)
    put(257, b'ustar\x0000')
    put(148, b'%06o' % sum(block))
    block[154] = 0
    return bytes(block)


def entry(name, kind=b'0', link=b'', data=b'', **more):
    return header(name, kind, len(data), link, **more) + pad(data)


def record(key, value):
    """A record of a pax header, whose length counts itself."""
    length = len(key) + len(value) + 3
    while len(b'%d' % length) + len(key) + len(value) + 3 != length:
        length += 1
    return b'%d %s=%s\n' % (length, key, value)


def pax(*records, kind=b'x'):
    """A pax header for the next entry; records are (key, value) or the bytes of one."""
    data = b''.join(r if isinstance(r, bytes) else record(*r) for r in records)
    return entry(b'pax', kind, data=data)
