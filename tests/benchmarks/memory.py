# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the programs on a cell take: those that always run, some seconds after their start, and those that come and go, at their most.

The cell is a sandbox. Without WireGuard in the kernel each of its interfaces is a process, so that there are only few links.
Run it as root with the collection on PYTHONPATH (wireguard-tools, iptables, conntrack): python tests/benchmarks/memory.py
"""

from __future__ import annotations

import base64
import contextlib
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.tests.benchmarks.measure import Comparison, parser, report
from ansible_collections.pic.cells.tests.benchmarks.namespaces import run, running, sandbox
from ansible_collections.pic.cells.tests.benchmarks.restore import EACH, files

SIZES = (10, 100) if Path("/sys/module/wireguard").exists() else (2, 10)
STANDING = {"the watcher of the cell": ["watch"], "the receiver": ["serve"], "the watcher of exits": ["probe"]}
PASSING = {"restore, where nothing is there": ["restore"], "restore, where all is right": ["restore"], "status": ["status"]}
SETTLED = 5  # seconds
MOST = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
UPLINK = """
mkdir -p /run/lock; ip link add eth0 type veth peer name uplink; ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up; ip link set uplink up; ip route add default via 192.0.2.1
"""


def install(within: Callable[..., list[str]], links: int) -> None:
    """Put records, key and program in a sandbox, and an uplink."""
    for path, text in files(links).items():
        script = 'mkdir -p "$(dirname "$1")"; umask 077; base64 -d >"$1"; chmod 755 /usr/local/lib/pic-cells 2>/dev/null || true'
        run(*within("sh", "-ec", script, "sh", path), text=base64.b64encode(text.encode("latin-1")).decode())
    run(*within("sh", "-ec", UPLINK))


def resident(pid: int) -> float:
    """Return how many MiB of a process are in memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found, "it has ended"
    return int(found[1]) / 1024


def measured(links: int) -> dict[str, float]:
    """Return MiB of each program on a cell with so many links."""
    found = {}
    with sandbox() as within, contextlib.ExitStack() as stack:
        install(within, links)
        for what, words in PASSING.items():
            found[what] = int(run(*within(sys.executable, "-c", MOST, sys.executable, agent.PROGRAM, *words)).split()[-1]) / 1024
        processes = {what: stack.enter_context(running(within(sys.executable, agent.PROGRAM, *words))) for what, words in STANDING.items()}
        time.sleep(SETTLED)
        return {**{what: resident(process.pid) for what, process in processes.items()}, **found}


def main() -> None:
    """Print the table; one round, since memory does not vary as times do."""
    given = parser(__doc__).parse_args()
    for links in SIZES[: 1 if given.short else None]:
        found = measured(links)
        along = f"links with {EACH} shares each"
        report(given, [Comparison("Memory", what, "MiB", along, None, {str(links): {"memory": [figure]}}) for what, figure in found.items()])


if __name__ == "__main__":
    main()
