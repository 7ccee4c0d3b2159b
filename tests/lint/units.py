#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dutd.service exposes no more of the machine than it has to: units.py ROOT DUTD.SERVICE."""

import shutil
import subprocess

import common

LIMIT = 3.0  # of `systemd-analyze security`, where 10 is a service without any sandbox


def check(_root, service=None):
    if service is None:
        return
    if shutil.which('systemd-analyze') is None:
        raise common.Skip('systemd-analyze is not installed')
    command = ['systemd-analyze', 'security', '--no-pager', '--offline=true',
               f'--threshold={LIMIT * 10:.0f}', service]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if 'unrecognized option' in done.stderr:
        raise common.Skip('systemd-analyze is older than 250')
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().split('\n')[-1]
        yield f'systemd/dutd.service.in: more than {LIMIT}: {last}'


if __name__ == '__main__':
    common.main(check)
