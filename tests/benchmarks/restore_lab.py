# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same as restore.py with a real kernel: how long pic-cell restore takes for a large cell, and how many commands it executes.

Its host is a container of the lab's image that no network leads to. The program's own time is processor time, that of the commands is
what it waits for them.
Without WireGuard in the kernel each interface takes one of fs.inotify.max_user_instances, which all containers share: 128 are not enough beside the lab.
Run it as root with the collection and tests/lab on PYTHONPATH: python tests/benchmarks/restore_lab.py
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import lab
from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.records.model import State
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR, Store
from ansible_collections.pic.cells.tests.benchmarks.restore import EACH, LINKS, PEERS, large
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

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


def files(links: int) -> dict[str, str]:
    """Return the program, and the records of a cell with so many links, by path."""
    state = large(links)
    with tempfile.TemporaryDirectory() as folder:
        records = dict(Store(FakeHost(Path(folder))).writes(State(), state))
    return {**records, f"{STATE_DIR}/identity.key": made_key("me") + "\n", agent.PROGRAM: agent.build(agent.sources()).decode("latin-1")}


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


def measured(links: int) -> list[Any]:
    """Restore a cell in each case; return seconds of its own, seconds of the commands, their number, and the errors."""
    argv = ["podman", "run", "--rm", "-i", "--network", "none", "--label", f"{lab.LABEL}=benchmark", "--name", f"{lab.PREFIX}benchmark"]
    argv += ["--cap-add", "NET_ADMIN,NET_RAW", "--device", "/dev/net/tun", "--security-opt", "unmask=/proc/sys", f"{lab.IMAGE}:{lab.RELEASES[0]}"]
    argv += ["sh", "-c", 'tar -x -C / && python3 -c "$@"', "sh", HARNESS, json.dumps(list(CASES.values()))]
    done = subprocess.run(argv, input=archive(files(links)), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"[")]


def main() -> None:
    """Print the table."""
    lab.build_image(lab.RELEASES[0])
    sizes = (LINKS // 10, LINKS)
    row = "{:<30}{:>34}{:>34}".format
    print(row("links / shares / devices", *(f"{links} / {links * EACH} / {links * PEERS // LINKS}" for links in sizes)))
    for case, *results in zip(CASES, *map(measured, sizes)):
        assert not any(errors for *_figures, errors in results), results
        print(row(case, *(f"{own:.2f} s + {spent:.2f} s in {count} commands" for own, spent, count, _errors in results)))


if __name__ == "__main__":
    main()
