# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same as restore.py with a real kernel: how long pic-cell restore takes for a large cell, and how many commands it executes.

Its host is a container of the lab's image, with systemd, that no network leads to. The program's own time is processor time, that of the commands is
what it waits for them.
Without WireGuard in the kernel each interface takes one of fs.inotify.max_user_instances, which all containers share: 128 are not enough beside the lab.
Run it as root with the collection and tests/lab on PYTHONPATH: python tests/benchmarks/restore_lab.py
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import lab
from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR
from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, Comparison, parser, report
from ansible_collections.pic.cells.tests.benchmarks.restore import ALONG, LINKS, files

Inside = Callable[..., str]

SIZES = (LINKS // 10, LINKS)
NAME = f"{lab.PREFIX}benchmark"
# What is done to the cell before each run of restore.
CASES = {
    "nothing is there": "true",
    "all is right": "true",
    "rules and policy rules lost": "ip rule flush protocol 201; ip -6 rule flush protocol 201;"
    'for t in filter nat mangle; do for i in iptables ip6tables; do echo "*$t\nCOMMIT" | $i-restore; done; done',
}
HARNESS = f"""
import json, subprocess, sys, time
sys.path.insert(0, {agent.PROGRAM!r})
from pic_cells.base import command
from pic_cells.program import restore
class Timed(command.Host):
    def run(self, argv, *more, **options):
        begin = time.perf_counter()
        try:
            return super().run(argv, *more, **options)
        finally:
            self.spent += time.perf_counter() - begin
            self.count += 1
for damage in json.loads(sys.argv[1]):
    subprocess.run(damage, shell=True, check=True)
    host = Timed()
    host.spent, host.count, begin = 0.0, 0, time.process_time()
    done = restore.restore(host, {STATE_DIR!r})
    print(json.dumps([time.process_time() - begin, host.spent, host.count, done.errors]), flush=True)
"""


def archive(contents: dict[str, str]) -> bytes:
    """Return files as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, text in contents.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            data = text.encode("latin-1")
            entry.size, entry.mode = len(data), 0o600
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@contextlib.contextmanager
def host(*options: str) -> Iterator[Inside]:
    """Lend a container with systemd that no network leads to: a function that runs a command in it, with an input. options: of podman."""
    argv = ["run", "-d", "--name", NAME, "--label", f"{lab.LABEL}=benchmark", "--systemd=always", "--network", "none", "--device", "/dev/net/tun"]
    argv += ["--cap-add", "NET_ADMIN,NET_RAW", "--security-opt", "unmask=/proc/sys", *options, f"{lab.IMAGE}:{lab.RELEASES[0]}", "/sbin/init"]

    def inside(*argv: str, data: bytes = b"") -> str:
        done = subprocess.run(["podman", "exec", "-i", NAME, *argv], input=data, capture_output=True, check=False)
        assert done.returncode == 0, (argv, done.stderr.decode())
        return done.stdout.decode()

    lab.podman("rm", "-f", "-t", "0", "--ignore", NAME)
    lab.podman(*argv)
    try:
        inside("sh", "-c", "until systemctl is-system-running | grep -Eqx 'running|degraded'; do sleep 0.2; done")
        yield inside
    finally:
        lab.podman("rm", "-f", "-t", "0", NAME)


def measured(links: int) -> list[Any]:
    """Restore a cell in each case; return seconds of its own, seconds of the commands, their number, and the errors."""
    with host() as inside:
        inside("tar", "-x", "-C", "/", data=archive(files(links)))
        return [json.loads(line) for line in inside("python3", "-c", HARNESS, json.dumps(list(CASES.values()))).splitlines() if line.startswith("[")]


def main() -> None:
    """Print the tables."""
    given = parser(__doc__).parse_args()
    lab.build_image(lab.RELEASES[0])
    times = {case: Comparison("Restore with a real kernel", case, "s", ALONG, None) for case in CASES}
    counts = {case: Comparison("Restore with a real kernel, commands", case, "", ALONG, None) for case in CASES}
    for links in SIZES[: 1 if given.short else None]:
        rounds = [measured(links) for _round in range(1 if given.short else ROUNDS)]
        for case, *figures in zip(CASES, *rounds):
            assert not any(errors for *_figures, errors in figures), figures
            times[case].points[str(links)] = {"itself": [own for own, *_rest in figures], "its commands": [spent for _own, spent, *_rest in figures]}
            counts[case].points[str(links)] = {"commands": [count for *_figures, count, _errors in figures]}
    report(given, [*times.values(), *counts.values()])


if __name__ == "__main__":
    main()
