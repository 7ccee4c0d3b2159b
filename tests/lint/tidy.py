#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
clang-tidy 14 over the programs: tidy.py ROOT BUILD. BUILD is a folder that was configured with
clang. Too slow for every `meson test`; ./dev test runs it.
"""

import concurrent.futures
import json
import os
import subprocess

import common

FOLDERS = ('base/', 'hw/', 'dut/', 'executor/', 'cli/', 'bridge/')


def sources(root, build):
    with open(os.path.join(build, 'compile_commands.json'), encoding='utf-8') as file:
        commands = json.load(file)
    paths = {os.path.relpath(os.path.join(command['directory'], command['file']), root)
             for command in commands}
    return sorted(path for path in paths if path.startswith(FOLDERS))


def check_one(root, build, path):
    done = subprocess.run(['clang-tidy-14', '-p', build, '--quiet', os.path.join(root, path)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    # stderr counts suppressed warnings; it matters only when there was no check at all.
    text = done.stdout if done.stdout.strip() or done.returncode == 0 else done.stderr
    return text.replace(f'{build}/../', '').replace(f'{root}/', '').rstrip()


def check(root, build):
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        checks = [pool.submit(check_one, root, build, path) for path in sources(root, build)]
        for done in checks:
            if done.result():
                yield done.result()


if __name__ == '__main__':
    common.main(check)
