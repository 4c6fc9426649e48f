# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that has imported everything already, and forks for each who asks: most of what a short program takes is its imports."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [json.dumps({arguments}).encode()], [0, 1, 2])
    sys.exit(server.recv(1)[0])
"""


def write_client(path: Path, address: Path, arguments: str) -> None:
    """Write a program that has a server do its work. arguments: what it gets, as Python."""
    path.write_text(_CLIENT.format(python=sys.executable, address=str(address), arguments=arguments))
    path.chmod(0o755)


@contextlib.contextmanager
def serving(address: Path, serve: str, python: str = sys.executable, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """Have a server for clients. address: of the socket that it makes. serve: the module that serves there. env: its environment."""
    argv = [python, "-c", f"from {serve} import serve; serve({str(address)!r})"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as server:
        assert server.stdin and server.stdout
        assert server.stdout.readline(), f"the server of {serve} has not begun"
        yield
        server.stdin.close()


def serve(address: str, main: Callable[..., object]) -> None:
    """Serve clients, each in a process of its own, until the standard input ends. main: what they get, with the arguments that they send."""
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("listening", flush=True)
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            client = server.accept()[0]
            if os.fork() == 0:
                os._exit(_serve_one(client, main))
            client.close()


def _reap(_signal: int, _frame: object) -> None:
    """Let what clients have taken of the processor count as the server's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _serve_one(client: socket.socket, main: Callable[..., object]) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    given, streams, _flags, _address = socket.recv_fds(client, 1 << 16, 3)
    for stream, number in zip(streams, (0, 1, 2)):
        os.dup2(stream, number)
    rc = 0
    try:
        main(*json.loads(given))
    except SystemExit as end:
        rc = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        rc = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    client.send(bytes([rc]))
    return rc


def asked(address: Path, timeout: float, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Have a server call its main with arguments, and return what that printed. timeout: seconds."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open(os.memfd_create(name), "w+")) for name in ("stdout", "stderr")]
        nothing = stack.enter_context(open(os.devnull))
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(timeout)
        client.connect(str(address))
        socket.send_fds(client, [json.dumps(arguments).encode()], [nothing.fileno(), *(stream.fileno() for stream in streams)])
        rc = client.recv(1)
        for stream in streams:
            stream.seek(0)
        return subprocess.CompletedProcess([], rc[0] if rc else -1, *(stream.read() for stream in streams))
