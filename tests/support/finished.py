# SPDX-License-Identifier: MIT
"""Many jobs that have ended, as they lie on the disk, without running them."""

import json
import os


def template(lab, job):
    """The record of a job that has ended, to be multiplied."""
    with open(os.path.join(lab.state, 'jobs', f'{job}.json'), encoding='utf-8') as file:
        return json.load(file)


def multiply(state, record, ids, log=None, **members):
    """
    Writes records of these ids, each like the template with other members (or functions of the id
    that give them); log: what the console said, for those that are to have files.
    """
    jobs = os.open(os.path.join(state, 'jobs'), os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in ids:
            made = {name: value(number) if callable(value) else value
                    for name, value in members.items()}
            text = json.dumps({**record, 'id': number, **made})
            fd = os.open(f'{number}.json', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600,
                         dir_fd=jobs)
            os.write(fd, text.encode())
            os.close(fd)
            if log is None:
                continue
            os.mkdir(str(number), 0o700, dir_fd=jobs)
            fd = os.open(f'{number}/console.log', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=jobs)
            os.write(fd, log)
            os.close(fd)
    finally:
        os.close(jobs)
