# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces for a benchmark, and processes in them: nothing of the machine's own network is touched, and nothing is left."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence

WRITTEN = ("/etc", "/usr/local", "/var/lib", "/root")  # folders that a cell or Ansible writes to

_NUMBERS = itertools.count()


def run(*argv: str, text: str = "") -> str:
    """Run a command; return what it printed. What fails is an error with what it said."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)[:200]}: exit code {done.returncode}: {(done.stderr or done.stdout)[-1000:]}")
    return done.stdout


def inside(name: str, *argv: str) -> list[str]:
    """Return the command that runs another one in a namespace."""
    return ["ip", "netns", "exec", name, *argv]


@contextlib.contextmanager
def namespace(role: str) -> Iterator[str]:
    """Make a namespace, and at the end remove it with the processes in it; yield its name, which no other run has."""
    name = f"pic-benchmark-{os.getpid()}-{next(_NUMBERS)}-{role}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        for pid in run("ip", "netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "del", name)


@contextlib.contextmanager
def running(argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Keep a process running meanwhile."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def join(one: str, its: str, other: str, others: str) -> None:
    """Connect two namespaces by an interface in each."""
    run("ip", "link", "add", its, "netns", one, "type", "veth", "peer", "name", others, "netns", other)
    for name, interface in ((one, its), (other, others)):
        run("ip", "-n", name, "link", "set", interface, "up")


@contextlib.contextmanager
def sandbox() -> Iterator[Callable[..., list[str]]]:
    """Make a namespace whose processes see the machine's files and may write any of them, but leave them as they are; systemd is not seen there.

    Yield what makes a command one that runs in it. Processes of one sandbox share what they write.
    """
    with tempfile.TemporaryDirectory(prefix="pic-benchmark-") as folder, namespace("sandbox") as name:
        # What is mounted here is seen by this command alone, as ip gives it file systems of its own.
        mounts = [f"mkdir -p {folder}/run; mount --bind {folder}/run /run"]
        for path in WRITTEN:
            upper = f"{folder}{path}"
            mounts.append(f"mkdir -p {upper}/up {upper}/work; mount -t overlay -o lowerdir={path},upperdir={upper}/up,workdir={upper}/work overlay {path}")
        yield lambda *argv: inside(name, "sh", "-ec", f'{"; ".join(mounts)}; exec "$@"', "sh", *argv)
