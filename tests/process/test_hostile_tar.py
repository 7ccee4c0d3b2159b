# SPDX-License-Identifier: MIT
"""Archives that want to get out, to stay, or to fill: each is refused as a whole, with one line."""

import bz2
import gzip
import lzma
import os
import stat
import unittest
import zlib

from tests.support.fetching import LIBEXEC, Box, Fetch, now
from tests.support.tars import END, entry, header, pax, pad

GOOD = entry(b'good', data=b'x')
MIB = 1 << 20
# What a bomb may take on a busy machine with sanitizers.
SOON = 30


def sparse(size, content=b''):
    """A GNU sparse file (format 1.0) of this size, with content at its beginning."""
    table = pad(b'1\n0\n%d\n' % len(content) if content else b'0\n')
    return pax((b'GNU.sparse.major', b'1'), (b'GNU.sparse.minor', b'0'),
               (b'GNU.sparse.name', b'sparse'), (b'GNU.sparse.realsize', b'%d' % size)) + \
        entry(b'x', data=table + content)


def is_sanitized():
    with open(os.path.join(LIBEXEC, 'dut-fetch'), 'rb') as file:
        return b'__asan_init' in file.read()


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.close)
        self.box.write('outside', b'mine')
        os.mkdir(self.box.at('dir'))

    def unpack(self, data, **request):
        self.box.write('tar', data)
        before = sorted(os.listdir(self.box.path))
        request = {'max_bytes': 64 * MIB, 'max_files': 1000, **request}
        with self.box.open('tar') as tar, self.box.open('dir', os.O_RDONLY) as folder:
            answer, = Fetch('unpack', request, {3: tar, 4: folder}).finish()
        self.assertEqual(sorted(os.listdir(self.box.path)), before)
        self.assertEqual(self.box.read('outside'), b'mine')
        return answer

    def assert_refused(self, data, text, **request):
        answer = self.unpack(data, **request)
        self.assertEqual(answer.get('reason'), 'bucket', answer)
        self.assertIn(text, answer['error'])
        self.assertTrue(answer['error'].isascii() and answer['error'].isprintable(), answer)
        self.assertEqual(os.listdir(self.box.at('dir')), [])

    def assert_taken(self, data, **request):
        answer = self.unpack(data, **request)
        self.assertEqual(answer.get('ok'), True, answer)

    def names(self):
        return sorted(os.listdir(self.box.at('dir')))


class Out(Case):
    def test_names_and_links_that_lead_out(self):
        for bad, text in (
                (entry(b'../x'), "entry '../x' leaves the folder"),
                (entry(b'a/../../x'), "entry 'a/../../x' leaves the folder"),
                (entry(b'/tmp/x'), "entry '/tmp/x' is an absolute path"),
                (pax((b'path', b'/tmp/x')) + entry(b'x'), "entry '/tmp/x' is an absolute path"),
                (pax((b'path', b'\x1b[31m/../x')) + entry(b'x'),
                 "entry '\\e[31m/../x' leaves the folder"),
                (entry(b'l', b'2', b'../outside'), "entry 'l' is a link out of the folder"),
                (entry(b'l', b'2', b'/etc/passwd'), "entry 'l' is a link out of the folder"),
                (entry(b'l', b'1', b'../outside'), "entry 'l' is a link out of the folder"),
                (entry(b'l', b'1', b'/etc/passwd'), "entry 'l' is a link out of the folder"),
                (pax((b'linkpath', b'/etc')) + entry(b'l', b'2', b'good'),
                 "entry 'l' is a link out of the folder")):
            with self.subTest(text=text):
                self.assert_refused(GOOD + bad + END, text)

    def test_what_was_written_before_goes_again(self):
        """A large archive is checked as it is written."""
        noise = entry(b'noise', data=os.urandom(3 * MIB)) + entry(b'folder/file', data=b'x')
        for bad, text in ((entry(b'../x'), "entry '../x' leaves the folder"),
                          (entry(b'folder/big', data=bytes(70 * MIB)), 'limits.bucket'),
                          (b'junk' * 128, "after entry 'folder/file'")):
            self.assert_refused(gzip.compress(noise + bad + END, 1), text)
        self.assert_taken(gzip.compress(noise + END, 1))
        self.assertEqual(self.names(), ['folder', 'noise'])

    def test_steps_of_which_each_looks_harmless(self):
        folder = entry(b'd', b'5')
        for name, steps, text in (
                ('through a link to a folder',
                 folder + entry(b'l', b'2', b'd') + entry(b'l/x'), "'l' is no folder"),
                ('up behind a link',
                 folder + entry(b'd/e', b'5') + entry(b'l', b'2', b'd/e') +
                 entry(b'm', b'2', b'l/../../..'), "entry 'm' is a link out of the folder"),
                ('a hard link to a link',
                 entry(b'd/e/f', data=b'x') + entry(b'd/e/l', b'2', b'../../good') +
                 entry(b'm', b'1', b'd/e/l'), "a hard link to 'd/e/l', which is no file"),
                ('a hard link through a link',
                 folder + entry(b'l', b'2', b'd') + entry(b'm', b'1', b'l/x'),
                 "'l' is no folder"),
                ('a hard link to what was there before',
                 entry(b'm', b'1', b'tar'), "No such file"),
                ('a folder that becomes a link',
                 entry(b'd/x') + entry(b'd', b'2', b'good') + entry(b'd/y'), "entry 'd'"),
                ('a link that becomes a folder',
                 folder + entry(b'l', b'2', b'd') + entry(b'l', b'5'), "'l' is no folder")):
            with self.subTest(name=name):
                self.assert_refused(GOOD + steps + END, text)

    def test_a_file_never_goes_through_a_link_of_its_name(self):
        self.assert_taken(entry(b'a', data=b'1') + entry(b'l', b'2', b'a') +
                          entry(b'l', data=b'2') + END)
        self.assertEqual((self.box.read('dir/a'), self.box.read('dir/l')), (b'1', b'2'))
        self.assertFalse(os.path.islink(self.box.at('dir/l')))

    def test_what_is_neither_file_nor_folder_nor_link(self):
        for kind, text in ((b'3', 'is a device'), (b'4', 'is a device'), (b'6', 'is a fifo')):
            self.assert_refused(GOOD + entry(b'x', kind) + END, f"entry 'x' {text}")


class Kept(Case):
    def test_nothing_is_kept_of_a_file_but_its_bytes_and_time(self):
        more = pax((b'SCHILY.xattr.user.x', b'1'), (b'LIBARCHIVE.xattr.user.y', b'MQ=='),
                   (b'SCHILY.acl.access', b'user::rwx,group::rwx,other::rwx'), (b'uid', b'99'))
        self.assert_taken(more + entry(b'a', data=b'x', mode=0o7777, owner=99) +
                          more + entry(b'd', b'5', mode=0o7777, owner=99) + END)
        for name in ('a', 'd'):
            path = self.box.at('dir', name)
            found = os.stat(path)
            self.assertEqual(stat.S_IMODE(found.st_mode) & ~0o755, 0)
            self.assertEqual((found.st_uid, found.st_gid), (os.getuid(), os.getgid()))
            self.assertEqual(os.listxattr(path), [])
        self.assertEqual(os.stat(self.box.at('dir/a')).st_mtime, 1000000000)

    def test_the_last_of_a_name_counts_and_case_is_a_difference(self):
        self.assert_taken(entry(b'a', data=b'1') + entry(b'A', data=b'2') +
                          entry(b'./a', data=b'3') + END)
        self.assertEqual((self.box.read('dir/a'), self.box.read('dir/A')), (b'3', b'2'))

    def test_archives_behind_each_other_are_one(self):
        one, two = GOOD + END, entry(b'two') + END + bytes(9 * 1024)
        for data in (one + two, gzip.compress(one) + gzip.compress(two), lzma.compress(one + two)):
            self.assert_taken(data)
            self.assertEqual(self.names(), ['good', 'two'])
            for name in self.names():
                os.unlink(self.box.at('dir', name))

    def test_an_archive_in_an_archive_is_a_file(self):
        self.assert_taken(entry(b'in.tar', data=entry(b'../x') + END) + END)
        self.assertEqual(self.names(), ['in.tar'])

    def test_an_archive_of_nothing(self):
        for data in (END, bytes(10240), gzip.compress(END)):
            self.assert_taken(data)
        self.assertEqual(self.names(), [])


class Broken(Case):
    def test_an_archive_that_is_cut(self):
        whole = GOOD + entry(b'big', data=b'x' * 5000)
        for length, text in ((100, 'archive'), (512, 'after entry'), (800, "after entry 'good'"),
                             (1024, 'its end is missing'), (1300, "after entry 'good'"),
                             (1536, "after entry 'big'"), (4000, "after entry 'big'"),
                             (len(whole), "after entry 'big': the archive is cut")):
            with self.subTest(length=length):
                self.assert_refused(whole[:length], text)
        packed = gzip.compress(whole + END)
        self.assert_refused(packed[:len(packed) // 2], 'archive')

    def test_headers_that_make_no_sense(self):
        after = "after entry 'good': the archive cannot be read"
        for name, bad, text in (
                ('garbage', bytes(range(256)) * 2, after),
                ('behind the end', END + b'x' * 512, after),
                ('checksum', header(b'a')[:-1] + b'x' + END, after),
                ('negative', header(b'a', size=b'\xff' * 12), after),
                ('enormous', header(b'a', size=b'\x80' + b'\xff' * 11), after),
                ('pax negative', pax((b'size', b'-5')) + entry(b'a'), after),
                ('pax enormous', pax((b'size', b'9' * 30)) + entry(b'a'), after),
                ('pax length', pax(b'99999 a=b\n') + entry(b'a'), after),
                ('pax no length', pax(b'a=b\n') + entry(b'a'), after),
                ('pax cut', pax(b'99 a=b') + entry(b'a'), after),
                ('pax large', pax((b'comment', b'x' * 2 * MIB)) + entry(b'a'), after),
                ('pax upon pax', pax((b'comment', b'x')) * 100000 + entry(b'a'), after),
                ('sparse', sparse(-1), "entry 'sparse' has no valid size")):
            with self.subTest(name=name):
                self.assert_refused(GOOD + bad + END, text)

    def test_numbers_that_are_no_times_harm_nobody(self):
        for value in (b'abc', b'9' * 40, b'-' + b'9' * 40, b'1.' + b'9' * 40, b''):
            self.assert_taken(pax((b'mtime', value)) + entry(b'a') + END)
            os.unlink(self.box.at('dir/a'))

    def test_names_without_measure(self):
        for name, text in ((b'a/' * 100000 + b'b', "is too deep"), (b'n' * 5000, 'is too long'),
                           (b'a/' + b'n' * 256, 'is too long')):
            self.assert_refused(pax((b'path', name)) + entry(b'a') + END, text)
        self.assert_refused(pax((b'linkpath', b'n/' * 100000)) + entry(b'a', b'2', b'x') + END,
                            "entry 'a' is a link out of the folder")

    def test_what_is_no_archive(self):
        for data in (b'', b'x', b'x' * 5000, gzip.compress(b''), b'PK\3\4' + bytes(5000),
                     b'#mtree\n./a type=file content=/etc/passwd\n'):
            self.assert_refused(data, 'the archive cannot be read')


class Bomb(Case):
    def soon(self, data, text, **request):
        began = now()
        self.assert_refused(data, text, **request)
        self.assertLess(now() - began, SOON)

    def test_ten_gibibytes_of_zeros(self):
        start = header(b'zeros', size=10 << 30)
        limit = "entry 'zeros': the archive unpacks to more than 67108864 bytes (limits.bucket)"
        packed = {}
        for kind, compress in (('gz', gzip.compress), ('bz2', bz2.compress),
                               ('xz', lzma.compress)):
            packed[kind] = compress(start) + compress(bytes(MIB)) * 10240
            self.soon(packed[kind], limit)
        self.assertLess(len(packed['bz2']), MIB)
        # Twice over: a few KiB.
        self.soon(gzip.compress(packed['bz2']), 'the archive is compressed more than once')

    def test_a_sparse_monster(self):
        self.soon(sparse(10 << 40) + END, "entry 'sparse': the archive unpacks to more than")
        self.assert_taken(sparse(32 * MIB, b'x') + END)
        self.assertLess(os.stat(self.box.at('dir/sparse')).st_blocks, 1024)

    def test_the_sum_of_all_files_counts(self):
        part = entry(b'a', data=bytes(MIB))
        self.soon(gzip.compress(part * 65 + END, 1), 'limits.bucket)')

    def test_a_million_files(self):
        thousand = b''.join(entry(b'%d' % number) for number in range(1000))
        data = gzip.compress(thousand, 1) * 1000 + gzip.compress(END)
        self.soon(data, "entry '0': the archive holds more than 100000 files and folders "
                  "(limits.bucket_files)", max_files=100000)

    def test_zeros_behind_the_end_take_their_time_and_no_more(self):
        data = bz2.compress(END) + bz2.compress(bytes(100 * MIB)) * 1000
        self.soon(data, 'the archive takes more than 1 s of processor time to unpack', cpu_s=1)

    def test_memory_that_a_few_bytes_ask_for(self):
        # xz: a block's header says how large its dictionary is; the largest is 4 GiB.
        data = bytearray(lzma.compress(END))
        size = 4 * (data[12] + 1)
        self.assertEqual(data[14:16], b'\x21\x01')
        data[16] = 40
        data[12 + size - 4:12 + size] = zlib.crc32(data[12:12 + size - 4]).to_bytes(4, 'little')
        if is_sanitized():
            self.skipTest('AddressSanitizer needs more addresses than any limit has')
        self.soon(bytes(data), 'Cannot allocate memory')


if __name__ == '__main__':
    unittest.main()
