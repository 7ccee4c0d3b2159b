# SPDX-License-Identifier: MIT
"""Each lint finds the fault that it is there for, and leaves good files alone."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# pylint: disable=wrong-import-position
import common
import errors
import format as format_lint
import headers
import layers
import manuals
import spdx
import tables
import text
import units

SPDX = '/* SPDX-License-Identifier: MIT */\n'
HEADER = SPDX + '#pragma once\n'
STYLE = '# SPDX-License-Identifier: MIT\nBasedOnStyle: LLVM\nUseTab: Always\nIndentWidth: 8\n'


class LintTest(unittest.TestCase):
    def check(self, lint, files):
        """The problems of a tree with these files."""
        with tempfile.TemporaryDirectory(prefix='dut-lint-') as root:
            for path, content in files.items():
                path = os.path.join(root, path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, 'wb') as file:
                    file.write(content if isinstance(content, bytes) else content.encode())
            return list(lint.check(root))

    def assert_one(self, lint, files, wanted):
        problems = self.check(lint, files)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(wanted, problems[0])

    def assert_none(self, lint, files):
        self.assertEqual(self.check(lint, files), [])


class Layers(LintTest):
    def test_a_folder_below_may_not_include_one_above(self):
        self.assert_one(layers, {'executor/a.c': '#include "hw/power.h"\n', 'hw/power.h': ''},
                        'executor/a.c:1: executor/ may not include hw/')

    def test_an_include_names_its_folder(self):
        self.assert_one(layers, {'base/a.c': '\n#include "text.h"\n', 'base/text.h': ''},
                        'base/a.c:2: "text.h" needs to name its folder')

    def test_an_include_exists(self):
        self.assert_one(layers, {'base/a.c': '#include "base/gone.h"\n'}, 'does not exist')

    def test_a_foreign_library_has_one_wrapper(self):
        self.assert_one(layers, {'dut/api.c': '# include <microhttpd.h>\n'},
                        '<microhttpd.h> belongs into base/http*.c alone')
        self.assert_one(layers, {'executor/main.c': '#include <curl/curl.h>\n'}, 'curl.h> belongs')
        self.assert_one(layers, {'base/file.c': '#include <nettle/sha2.h>\n'}, 'sha2.h> belongs')

    def test_what_is_allowed(self):
        self.assert_none(layers, {
            'base/yaml.c': '#include "base/yaml.h"\n#include <yaml.h>\n',
            'base/yaml.h': '',
            'cli/client.c': '#include <curl/curl.h>\n#include <jansson.h>\n',
            'tests/unit/a.c': '#include "hw/power.h"\n#include <archive.h>\n',
            'hw/power.h': '#include "base/yaml.h"\n',
        })


class Headers(LintTest):
    def test_a_header_brings_what_it_needs(self):
        self.assert_one(headers, {'base/a.h': HEADER + 'int a(size_t n);\n'},
                        'base/a.h:1: does not compile alone')

    def test_a_header_is_read_once(self):
        self.assert_one(headers, {'base/a.h': SPDX + 'int a(void);\n'}, '#pragma once is missing')

    def test_a_good_header(self):
        self.assert_none(headers, {'base/a.h': HEADER + '#include <stddef.h>\nint a(size_t n);\n'})


class Format(LintTest):
    def setUp(self):
        try:
            format_lint.find()
        except common.Skip as skip:
            self.skipTest(str(skip))

    def test_another_layout(self):
        self.assert_one(format_lint, {'.clang-format': STYLE, 'a.c': 'int  a;\nint  b;\n'},
                        'a.c:1: not as clang-format 14 has it')

    def test_the_layout(self):
        self.assert_none(format_lint, {'.clang-format': STYLE, 'a.c': 'int a;\n'})


class Spdx(LintTest):
    def test_a_file_without_licence(self):
        self.assert_one(spdx, {'udev/a.rules': 'KERNEL=="tty*"\n', 'a.c': SPDX, 'a.md': 'text\n'},
                        'udev/a.rules:1:')

    def test_too_late_is_not_at_all(self):
        self.assert_one(spdx, {'a.c': '\n\n\n' + SPDX}, 'a.c:1:')


class Errors(LintTest):
    TEMPLATE = SPDX + ('static int helper(int n)\n{\n\treturn -EINVAL;\n}\n\n'
                       'int f(int a,\n      struct error *err)\n{\n\tif (a)\n\t\tRETURN\n'
                       '\treturn error_set(err, -EINVAL, "bad");\n}\n')

    def test_a_bare_code_beside_err(self):
        for code in ('return -EINVAL;', 'return -errno;', 'return a ? 0 : -EIO;'):
            with self.subTest(code):
                self.assert_one(errors, {'base/a.c': self.TEMPLATE.replace('RETURN', code)},
                                'base/a.c:11: err is not filled: ' + code)

    def test_codes_with_words_and_codes_without_err(self):
        for code in ('return error_set(err, a ? -EIO : -EINVAL, "x");', 'return r;',
                     '/* return -EINVAL; */ return error_oom(err);'):
            with self.subTest(code):
                self.assert_none(errors, {'base/a.c': self.TEMPLATE.replace('RETURN', code)})


class Text(LintTest):
    def test_each_fault(self):
        for name, content, wanted in (
                ('a.c', 'int a; \n', 'a.c:1: space at the end'),
                ('a.c', 'int a;\r\n', 'a.c:1: CR at the end'),
                ('a.py', '\tpass\n', 'a.py:1: tab'),
                ('a.c', 'int a;', 'a.c:1: has to end with exactly one newline'),
                ('a.c', 'int a;\n\n', 'a.c:3: has to end with exactly one newline'),
                ('a.c', b'\xff\n', 'a.c:1: not UTF-8'),
                ('a.c', '/* TO' + 'DO: later */\n', 'is for an issue'),
                ('a.c', 'x = sleep' + '(1);\n', 'sleeping for luck'),
                ('a.py', 'time.sleep' + '(1)\n', 'sleeping for luck'),
                ('a.sh', 'p' + 'kill qemu\n', 'hits strangers'),
                ('a.py', '#' + 100 * 'x' + '\n', 'longer than 100 columns')):
            with self.subTest(wanted):
                self.assertIn(wanted, '\n'.join(self.check(text, {name: content})))

    def test_a_good_file(self):
        self.assert_none(text, {'a.c': '\tboard_sleep(1);\n', 'tests/unit/data/a.yaml': b'\r\xff'})


class Tables(LintTest):
    PROTOCOL = ('names *const status_names[JOB_STATUSES] = {\n[JOB_PASS] = "PASS",\n'
                '[JOB_WARN] = "WARN",\n};\n{ "ok", JOB_PASS, JOB_PASS },\n'
                '{ "power", JOB_INCOMPLETE, JOB_SETUP_FAIL },\n{ "step:", JOB_FAIL, JOB_FAIL },\n')
    RESULT = 'lab[] = {\n"power", NULL,\n};\njob[] = { NULL };\n'
    MANUAL = ('# STATUS\n\n|[ *PASS*\n:< 0\n:< good\n|  *WARN*\n:  1\n:  nearly\n\n'
              'Words.\n\n'
              '# REASONS\n\n|[ *ok*\n:< PASS, COMPLETE\n:< it ended\n|  *power*\n'
              ':  INCOMPLETE\n'
              ':  broken; before the\n   first power-on SETUP\\_FAIL\n'
              '|  *step:N*\n:  FAIL\n:  x\n\n'
              '# VERDICT\n\n*lab*\n\tThe reason is *power*;\n\tor so.\n\n'
              '*job*\n\tNothing.\n\n')

    def files(self, old='', new=''):
        manual = self.MANUAL.replace(old, new)
        return {'executor/dut-job.5.scd': manual, 'base/protocol.c': self.PROTOCOL,
                'executor/result.c': self.RESULT}

    def test_good_tables(self):
        self.assert_none(tables, self.files())
        self.assert_none(tables, {'base/a.c': ''})

    def test_each_difference(self):
        for old, new, wanted in (
                (':  1\n', ':  2\n', "STATUS has [('PASS', '0'), ('WARN', '2')]"),
                ('*power*\n:', '*powr*\n:', 'differ in power'),
                (':  FAIL\n', ':  PASS\n', 'step:N is FAIL, not PASS'),
                ('SETUP\\_FAIL\n', 'FAIL\n', 'power is SETUP_FAIL before the first power-on'),
                ('reason is *power*', 'reason is *ok*', 'differ in power of lab'),
                ('Nothing.', '*power*', 'differ in power of job')):
            with self.subTest(wanted):
                self.assertIn(wanted, '\n'.join(self.check(tables, self.files(old, new))))


class Units(LintTest):
    def test_a_service_without_a_sandbox(self):
        with tempfile.NamedTemporaryFile('w', suffix='.service') as file:
            file.write('[Service]\nExecStart=/bin/true\n')
            file.flush()
            try:
                problems = list(units.check('.', file.name))
            except common.Skip as skip:
                self.skipTest(str(skip))
        self.assertEqual(len(problems), 1, problems)
        self.assertIn('systemd/dutd.service.in: more than 3.0: ', problems[0])


class Manuals(LintTest):
    def test_each_kind_of_word(self):
        for source, content, manual, word in (
                ('dut/main.c', '{ "state-dir", required_argument, NULL, 1 }', 'dut/dutd.8.scd',
                 '--state-dir'),
                ('dut/config.c', 'static const char *const known[] = { "file_roots", NULL };',
                 'dut/dutd.yaml.5.scd', 'file_roots'),
                ('hw/power-sim.c', 'const char *const known[] = {\n"script",\nNULL };',
                 'dut/dutd.yaml.5.scd', 'script'),
                ('dut/api.c', '{ "GET", "/api/v1/dut/{id}", f }', 'dut/dutd-api.7.scd',
                 '/api/v1/dut/{id}'),
                ('dut/api.c', '{ .method = "PUT", .path = "/x" }', 'dut/dutd-api.7.scd', 'PUT /x'),
                ('dut/submit.c', 'known[] = { "on_disconnect", NULL };', 'dut/dutd-api.7.scd',
                 'on_disconnect'),
                ('dut/state.c', 'names[DUT_STATES] = {\n[DUT_IDLE] = "IDLE",\n};',
                 'dut/dutd.8.scd', 'IDLE'),
                ('executor/jobsock.c', '.path = "/api/v1/state"', 'executor/dut-executor.8.scd',
                 '/api/v1/state'),
                ('executor/template-names.c', 'const fixed_names[] = { "dut.tty" };',
                 'executor/dut-job.5.scd', 'dut.tty'),
                ('base/protocol.c', '{ "timeout:overall", JOB_FAIL, JOB_FAIL },',
                 'executor/dut-job.5.scd', 'timeout:overall'),
                ('cli/run.c', '{ "bucket", "DIR|TAR", OPTION_TEXT, &b, "files" }',
                 'cli/dut.1.scd', '--bucket'),
                ('cli/run.c', 'const struct verb verb_run = {\n\t.name = "run",', 'cli/dut.1.scd',
                 'run')):
            with self.subTest(word):
                self.assert_one(manuals, {source: content, manual: word + 'ning\n'},
                                f'does not mention {word} ({source})')
                escaped = word.replace('_', '\\_')
                self.assert_none(manuals, {source: content, manual: f'*{escaped}* is\n'})
                self.assert_none(manuals, {source: content, manual: f'a _{escaped}_, or\n'})
                self.assert_one(manuals, {source: content}, 'is missing')

    def test_what_is_not_there_yet_needs_no_words(self):
        self.assert_none(manuals, {
            'cli/run.c': '{ "priority", "N", OPTION_NOT_YET_VALUE, NULL, NULL }',
            'cli/dut.1.scd': '',
        })


if __name__ == '__main__':
    unittest.main()
