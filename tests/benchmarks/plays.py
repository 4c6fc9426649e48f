# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a playbook takes on the lab's three cells, beside a play of as many ping tasks on each cell as it has executed modules there.

pic.cells.site has nothing to do; pic.cells.share and pic.cells.route_peer change something in each run.
Run it as root in the lab that `make demo` leaves, with the collection and tests/lab on PYTHONPATH: python tests/benchmarks/plays.py
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, Comparison, alternately, parser, report
from lab import CELLS
from playbooks import Outcome, play

# By playbook: what it is given in turns.
ASKED: dict[str, tuple[dict[str, str], ...]] = {
    "site": ({},),
    "share": tuple({"cell": "cella", "remote_cell": "cellb", "services": services} for services in ("files", "files,voice")),
    "route_peer": tuple({"cell": "cella", "peer": "phone-a1", "via_cell": exit} for exit in ("cellc", "cellb")),
}
PINGS, OURS = "pings", "the playbook"


def pings(executed: Mapping[str, int]) -> list[dict[str, object]]:
    """Return a playbook with as many ping tasks on each host, in as few plays as that takes."""
    found: list[dict[str, object]] = []
    done = 0
    for count in sorted({*executed.values()} - {0}):
        hosts = [host for host, number in executed.items() if number >= count]
        found.append({"hosts": hosts, "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}] * (count - done)})
        done = count
    return found


def timed(run: Callable[[], Outcome]) -> float:
    """Return how long a run took, in seconds."""
    began = time.monotonic()
    assert run().rc == 0
    return time.monotonic() - began


def measure(name: str, rounds: int, folder: Path) -> Comparison:
    """Measure a playbook; what it is given last is what it is given before the first round, so that each round changes something."""
    asked = itertools.cycle(ASKED[name])
    outcomes = [play(name, **given) for given in ASKED[name]]
    executed = {cell.name: len(outcomes[-1].executed(cell.name)) for cell in CELLS}
    beside = folder / f"{name}.yml"
    beside.write_text(yaml.safe_dump(pings(executed)))
    ways = {PINGS: lambda: timed(lambda: play(str(beside))), OURS: lambda: timed(lambda: play(name, **next(asked)))}
    title = f"pic.cells.{name}{', nothing to do' if len(ASKED[name]) == 1 else ''}"
    return Comparison("Playbooks on three cells", title, "s", "executions", PINGS, {str(sum(executed.values())): alternately(ways, rounds)})


def main() -> None:
    """Print the table."""
    given = parser(__doc__).parse_args()
    assert play("site").rc == 0
    with tempfile.TemporaryDirectory() as folder:
        report(given, [measure(name, 1 if given.short else ROUNDS, Path(folder)) for name in ASKED])


if __name__ == "__main__":
    main()
