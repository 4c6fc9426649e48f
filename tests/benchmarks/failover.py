# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a phone with two exits is without internet when the first one stops working, in each way that the lab knows.

For each way and round: the gap in a UDP stream and in a TCP stream (whose client opens a new connection after a second of silence), the time until a new
connection succeeds, and how many packets have left by the uplink of the phone's own cell. The times are those of this machine and its containers.
Run it as root in the lab that `make demo` leaves, with the collection and tests/lab on PYTHONPATH: python tests/benchmarks/failover.py [rounds]
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext

from ansible_collections.pic.cells.tests.benchmarks.measure import Comparison, parser, report
from cells import watching
from dead_exits import DEATHS, HOLD, NO_ROUTE
from lab import INTERNET, inside, run
from packets import Sniffer, Stream, seen_address
from playbooks import play

ROUNDS = 20
PHONE = "phone-a1"
EXITS = {"cellb": "198.51.100.12", "cellc": "198.51.100.13"}
UPLINK = f"(dst host {INTERNET[0]} or dst host {INTERNET[1]}) and (port 80 or port 9000) and not icmp and not icmp6"
PATIENCE = 15  # seconds
SAME = 0.6  # seconds between packets that are no gap yet


def connected(began: float) -> float | None:
    """Returns how long it took until a new connection succeeded, None where none did."""
    while time.monotonic() < began + PATIENCE:
        if inside(PHONE, "curl", "-s", "--max-time", "0.5", f"http://{INTERNET[0]}/", check=False).stdout.strip() == EXITS["cellc"]:
            return time.monotonic() - began
    return None


def gaps(flows: dict[str, Stream], began: float) -> dict[str, float]:
    """Returns the gap of each stream, in seconds."""
    found: dict[str, float] = {}
    last = {name: flow.last for name, flow in flows.items()}
    while len(found) < len(flows) and time.monotonic() < began + PATIENCE:
        for name, flow in flows.items():
            now = flow.last
            if now - last[name] > SAME:
                found.setdefault(name, now - last[name])
            last[name] = now
        time.sleep(0.01)
    return found


def returned() -> None:
    """Waits until the phone leaves by its first exit again."""
    deadline = time.monotonic() + PATIENCE
    while seen_address(PHONE, 4) != EXITS["cellb"]:
        assert time.monotonic() < deadline, "it has not returned"
    time.sleep(2)


def measure(death: str, rounds: int) -> list[Comparison]:
    """Returns what was measured of one way in which an exit dies."""
    breaking, mending = DEATHS[death]
    times: dict[str, list[float]] = {}
    leaked = 0
    for _round in range(rounds):
        with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            flows = {
                f"{kind} stream, IPv{family}": stack.enter_context(Stream(PHONE, INTERNET[family == 6], port, kind.lower()))
                for kind, port in (("UDP", 9000), ("TCP", 80))
                for family in (4, 6)
            }
            uplink = stack.enter_context(Sniffer("cella", "eth0", UPLINK))
            time.sleep(1)
            began = time.monotonic()
            run(breaking)
            another = pool.submit(connected, began)
            found = gaps(flows, began)
            found.update({"new connection": seconds} if (seconds := another.result()) else {})
            for name, seconds in found.items():
                times.setdefault(name, []).append(seconds)
        run(mending)
        returned()
        leaked += len(uplink.lines)
    missing = {f"{name}, not within {PATIENCE} s": [rounds - len(found)] for name, found in times.items() if len(found) < rounds}
    counts = {"packets by the uplink of the phone's own cell": [leaked], **missing}
    return [
        *(Comparison("Another exit", f"{death}: {name}", "s", "", None, {"": {"without internet": found}}) for name, found in sorted(times.items())),
        *(Comparison("Another exit, counted", f"{death}: {name}", "", "", None, {"": {"count": found}}) for name, found in counts.items()),
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("rounds", nargs="?", type=int, default=ROUNDS)
    given = options.parse_args()
    stated = {"cella": {"cell_exit_hold": HOLD, "cell_exit_hold_limit": HOLD}}
    assert play("site", overlay=stated).rc == play("route_peer", cell="cella", peer=PHONE, via_cell=",".join(EXITS)).rc == 0
    try:
        for death in DEATHS:
            # The lab's cells are without their watchers, so routes that come back would wait for the next minute. An interface would be back at once.
            with watching("cellb") if death == NO_ROUTE else nullcontext():
                report(given, measure(death, given.rounds))
    finally:
        play("site", overlay={"cella": {"cell_exit_hold": 60, "cell_exit_hold_limit": 600}})


if __name__ == "__main__":
    main()
