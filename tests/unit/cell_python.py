# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell's Python, as real Ansible meets it: it runs a module on a fake host, or says what a hostile root would have it say.

What Ansible starts is CLIENT. It hands its arguments and its standard streams to a process that has imported everything already, which forks for each
module: most of what a module took was the imports.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import call

ARGUMENTS = "ANSIBLE_MODULE_ARGS"
CLIENT = """\
#!{python} -IS
import json, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [json.dumps([{folder!r}, {name!r}, sys.argv[-1]]).encode()], [0, 1, 2])
    sys.exit(server.recv(1)[0])
"""


@contextlib.contextmanager
def serving(address: Path) -> Iterator[None]:
    """Have a server for clients. address: of the socket that it makes."""
    argv = [sys.executable, "-c", f"from {__name__} import serve; serve({str(address)!r})"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout
        assert server.stdout.readline(), "the server of the cells' Python has not begun"
        yield
        server.stdin.close()


def serve(address: str) -> None:
    """Serve clients, each in a process of its own, until the standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("listening", flush=True)
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            client = server.accept()[0]
            if os.fork() == 0:
                os._exit(_serve_one(client))
            client.close()


def _serve_one(client: socket.socket) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    given, streams, _flags, _address = socket.recv_fds(client, 1 << 16, 3)
    for stream, number in zip(streams, (0, 1, 2)):
        os.dup2(stream, number)
    rc = 0
    try:
        main(*json.loads(given))
    except BaseException:
        traceback.print_exc()
        rc = 1
    sys.stdout.flush()
    sys.stderr.flush()
    client.send(bytes([rc]))
    return rc


def main(folder: str, name: str, file: str) -> None:
    """Answer Ansible as the cell called name does. folder: that of the controller; <name>.py there defines what a hostile one answers. file: the module."""
    program = Path(file)
    module, arguments = program.stem.removeprefix("AnsiballZ_"), _arguments(program)
    script = Path(folder, f"{name}.py")
    log = Path(folder, f"{name}.log")
    with log.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps([module, arguments]) + "\n")
        file.flush()
        answer: Any = _honest(Path(folder, f"{name}.pickle"), module, arguments)
    if script.exists():
        scope: dict[str, Callable[..., Any]] = {}
        exec(compile(script.read_text(), str(script), "exec"), scope)
        answer = scope["answer"](module, arguments, answer)
    print(answer if isinstance(answer, str) else json.dumps(answer))


def _arguments(program: Path) -> dict[str, Any]:
    """Find the arguments in what Ansible sends; each of its versions wraps them otherwise, but all of them as one text."""
    for node in ast.walk(ast.parse(program.read_bytes())):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and ARGUMENTS in str(node.value)[:40]:
            found: dict[str, Any] = json.loads(node.value)[ARGUMENTS]
            return found
    raise AssertionError(f"{program} holds no arguments")


def _honest(state: Path, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if not module.startswith(("pic_", "wg_")):
        return {"changed": False}
    host: FakeHost = pickle.loads(state.read_bytes())
    own = {key: value for key, value in arguments.items() if not key.startswith("_ansible_")}
    answer = call(module, host, own, check=arguments["_ansible_check_mode"])
    state.write_bytes(pickle.dumps(host))
    return answer
