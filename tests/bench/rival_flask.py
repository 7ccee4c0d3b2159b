#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A job's process as one would write it in Python: Flask on the listening socket that is fd 3, and
a byte on fd 7 when it is there. With the argument `gunicorn` that program serves `app`."""

import os
import socket
import sys
import time

from flask import Flask, jsonify

app = Flask(__name__)
began = time.monotonic()


@app.get('/api/v1/state')
def state():
    return jsonify(state='RUNNING', job={'id': '17', 'name': 'bisect'}, phase='running', boot=1,
                   elapsed=time.monotonic() - began)


def listen():
    with socket.socket(fileno=os.dup(3)) as listener:
        listener.listen(64)


def say_ready():
    os.write(7, b'R')
    os.close(7)


def become_gunicorn():
    # Whoever asks before it is there waits in the socket's queue.
    listen()
    say_ready()
    os.set_inheritable(3, True)
    os.execvp('gunicorn', ['gunicorn', '--log-level', 'error', '--workers', '1', '--bind', 'fd://3',
                           '--chdir', os.path.dirname(os.path.abspath(__file__)),
                           'rival_flask:app'])


def main():
    from werkzeug.serving import WSGIRequestHandler, make_server
    WSGIRequestHandler.log_request = lambda *_: None
    WSGIRequestHandler.address_string = lambda *_: 'bench'
    server = make_server('unix://3', 0, app, threaded=True, fd=3)
    listen()
    say_ready()
    server.serve_forever()


if __name__ == '__main__':
    become_gunicorn() if sys.argv[1:] == ['gunicorn'] else main()
