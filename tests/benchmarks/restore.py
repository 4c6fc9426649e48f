# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long pic-cell restore takes for cells of several sizes, and how many commands it executes; how much longer for how many more links.

The host is a fake one that answers at once, but what it takes to answer is not counted: the time is the program's own, as the processor has it.
Run it with the collection on PYTHONPATH: python tests/benchmarks/restore.py
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.base.command import Result
from ansible_collections.pic.cells.plugins.module_utils.program.unchanged import restore_changed
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Link, Peer, Service, State
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR, Store
from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, Comparison, parser, report
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

LINKS, EACH, PEERS = 100, 10, 250  # links, shares of each, devices
SIZES = (10, 100, 500)  # links; with more than 100 no more devices
ALONG = f"links with {EACH} shares each"
CASES = ("all is right", "rules and policy rules lost", "rebooted, interfaces up", "nothing is there", "a device has roamed", "a link is heard again")


class Timed(FakeHost):
    """A fake host that knows how long it was asked. spent: seconds."""

    spent = 0.0

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        """Run one command on the fake."""
        begin = time.process_time()
        try:
            return super().run(argv, stdin, ok, timeout)
        finally:
            self.spent += time.process_time() - begin


def large(links: int = LINKS, peers: int | None = None, each: int = EACH) -> State:
    """Return the records of a large cell: every link has IPv4 and IPv6, and every device leaves by one of them.

    peers: devices; None for as many as SIZES says. each: shares of a link.
    """
    peers = min(links, LINKS) * PEERS // LINKS if peers is None else peers
    services = {f"s{n}": Service(f"s{n}", ["10.0.0.1", "fd00:a::1"], 1000 + n, "tcp" if n % 2 else "udp") for n in range(each)}
    state = State(Cell("me", ["10.0.0.1/16", "fd00:a::1/64"], services=services))
    for n in range(links):
        near = f"10.{1 + n // 256}.{n % 256}"
        state.links[f"x{n}"] = Link(
            f"x{n}",
            made_key(f"x{n}"),
            [f"{near}.0/24", f"fd00:b:{n + 1:x}::/64"],
            [f"{near}.1", f"fd00:b:{n + 1:x}::1"],
            f"192.0.2.9:{n + 1}",
            f"pic-x{n}",
            51821 + n,
            permissions={"inbound": dict.fromkeys(services, True), "outbound": {}},
            exit_offered=True,
            remote_exit_offered=True,
            exit_relay_active=n < peers,
            remote_exit_relay_active=n % 2 == 0,
            exit_table=4200 + n,
        )
    for n in range(peers):
        address = f"{1 + n // 250}.{2 + n % 250}"
        state.peers[f"p{n}"] = Peer(f"p{n}", made_key(f"p{n}"), [f"10.0.{address}", f"fd00:a::{n + 2:x}"], [f"x{n % links}"])
    return state


def files(links: int) -> dict[str, str]:
    """Return the program, and the records of a cell with so many links, by path."""
    state = large(links)
    with tempfile.TemporaryDirectory() as folder:
        records = dict(Store(FakeHost(Path(folder))).writes(State(), state))
    return {**records, f"{STATE_DIR}/identity.key": made_key("me") + "\n", agent.PROGRAM: agent.build(agent.sources()).decode("latin-1")}


def made(folder: Path, links: int = LINKS, peers: int | None = None, each: int = EACH) -> Timed:
    """Return a host with such records, restored."""
    host = Timed(folder)
    for path, text in Store(host).writes(State(), large(links, peers, each)):
        host.write(path, text)
    host.write(f"{STATE_DIR}/identity.key", made_key("me") + "\n")
    for _time in range(2):  # the second one finds nothing to do, and keeps what it has asked
        done = restore_changed(host, STATE_DIR, lambda _line: None)
        assert done is None or done.errors == [], done
    host.reset()
    return host


def damaged(host: Timed, case: str) -> Timed:
    """Return a host as a case calls for."""
    twin: Any = host.fork()
    if case == CASES[1]:
        twin.tables[twin.default, 4], twin.tables[twin.default, 6] = {}, {}
        for family in (4, 6):
            twin.rules[family] = [rule for rule in twin.rules[family] if rule.proto != 201]
    elif case == CASES[2]:
        twin.boot()
    elif case == CASES[3]:
        twin.files = {path: file for path, file in twin.files.items() if not path.startswith(("/etc/wireguard/", "/etc/systemd/"))}
        twin.boot()
    elif case == CASES[4]:
        next(iter(twin.wg["wg0"].peers.values())).endpoint = "203.0.113.9:1024"
    elif case == CASES[5]:
        next(iter(twin.wg["pic-x0"].peers.values())).handshake = int(time.time())
    twin.reset()
    return twin


def measured(host: Timed, case: str) -> tuple[float, Counter[str]]:
    """Restore a host; return the seconds of its own, and the executed commands."""
    twin = damaged(host, case)
    twin.spent, begin = 0.0, time.process_time()
    done = restore_changed(twin, STATE_DIR, lambda _line: None)
    own = time.process_time() - begin - twin.spent
    assert done is None or done.errors == [], done
    return own, Counter(argv[0] for argv in twin.log)


def profiled(host: Timed) -> None:
    """Print where the time goes."""
    for case in CASES:
        twin = damaged(host, case)
        with cProfile.Profile() as profile:
            restore_changed(twin, STATE_DIR, lambda _line: None)
        print(case)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)


def main() -> None:
    """Print the tables; with --profile, where the time goes."""
    options = parser(__doc__)
    options.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of links")
    options.add_argument("--profile", action="store_true", help="where the time goes in the largest one")
    given = options.parse_args()
    times, counts = (
        {case: Comparison(table, case, unit, ALONG, None) for case in CASES} for table, unit in (("Restore, its own time", "s"), ("Restore, commands", ""))
    )
    with tempfile.TemporaryDirectory() as folder:
        for links in given.sizes[: 1 if given.short else None]:
            host = made(Path(folder) / str(links), links)
            for case in CASES:
                figures = [measured(host, case) for _round in range(1 if given.short else ROUNDS)]
                times[case].points[str(links)] = {"restore": [own for own, _commands in figures]}
                counts[case].points[str(links)] = {"commands": [sum(figures[0][1].values())]}
        if given.profile:
            profiled(host)
    report(given, [*times.values(), *counts.values()])


if __name__ == "__main__":
    main()
