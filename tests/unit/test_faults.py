# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that ends at any step, on random cells: the next one makes it good, and no routed device leaks in between."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.parts import placement
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.faults import leaks
from ansible_collections.pic.cells.tests.unit.world import Run, World, call, device_key, foreign, furnish

NETWORKS = {"cella": ["10.0.0.1/24", "fd00:a::1/64"], "cellb": ["10.0.1.1/24", "fd00:b::1/64"], "cellc": ["10.0.2.1/24"]}
LISTS = ("cell_services", "cell_peers", "cell_links")
TESTS = Path(__file__).resolve().parents[1]


def drawn(chance: Random) -> dict[str, dict[str, Any]]:
    """Return a random inventory of the three cells."""
    inventory: dict[str, dict[str, Any]] = {name: {"cell_networks": networks, "cell_links": []} for name, networks in NETWORKS.items()}
    for name, cell in inventory.items():
        own = cell["cell_networks"][0].rpartition(".")[0]
        if chance.random() < 0.7:
            cell["cell_endpoint"] = chance.choice([f"{name}.example.net", f"198.51.100.{own.rpartition('.')[2]}"])
        services = [
            {"name": "files", "address": f"{own}.1", "port": chance.choice([443, 8443]), "protocol": "tcp"},
            {"name": "voice", "address": f"{own}.1", "port": 5060, "protocol": "udp"},
        ]
        cell["cell_services"] = [service for service in services if chance.random() < 0.8]
    for pair in itertools.combinations(inventory, 2):
        if chance.random() < 0.8:
            for here, there in (pair, pair[::-1]):
                share = [service["name"] for service in inventory[here]["cell_services"] if chance.random() < 0.6]
                interface = chance.choice([f"pic-{there}", f"pic-{there}", f"pic-my-{there}", "wg0"])
                link = {"name": there, "share": share, "interface": interface, "mtu": chance.choice([1380, 1420]), "keepalive": chance.choice([10, 25])}
                inventory[here]["cell_links"].append({**link, "offer_exit": chance.random() < 0.7})
    for name, cell in inventory.items():
        offers = {other for other, their in inventory.items() for link in their["cell_links"] if link["name"] == name and link["offer_exit"]}
        ways = ["direct", *(link["name"] for link in cell["cell_links"] if link["name"] in offers and link["interface"] != "wg0")]
        exits = chance.sample(ways[1:], len(ways) - 1)
        several = [exits, [*exits, "direct"]] if exits else []
        cell["cell_peers"] = []
        for number, device in enumerate(("phone", "tablet", "laptop"), 2):
            if chance.random() < 0.8:
                last = number + chance.choice([0, 0, 0, 40])
                addresses = [network.rpartition("1/")[0] + str(last) for network in cell["cell_networks"]]
                key = device_key(f"{device} of {name}") if chance.random() < 0.8 else made_key(f"new {device} of {name}")
                cell["cell_peers"].append(
                    {
                        "name": device,
                        "public_key": key,
                        "addresses": addresses,
                        "route_via": chance.choice([*ways, *several]),
                    }
                )
    return inventory


def changed(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the second inventory with everything that only the first one has stated to be absent."""
    for host, variable in itertools.product(after, LISTS):
        there = {item["name"] for item in after[host][variable]}
        after[host][variable] += [{"name": item["name"], "state": "absent"} for item in before[host][variable] if item["name"] not in there]
    return after


def changes(chance: Random, world: World) -> Iterator[Callable[[], Run]]:
    """Yield sometimes the first run on virgin cells, then one with another inventory, and some day-2 jobs."""
    if chance.random() < 0.4:
        yield world.site
    world.site()
    world.inventory = changed(world.inventory, drawn(chance))
    yield world.site
    jobs = []
    for name, cell in world.inventory.items():
        for link in (link for link in cell["cell_links"] if link.get("state") != "absent"):
            pair = {"cell": name, "remote_cell": link["name"]}
            jobs += [("offer_exit", {**pair, "offered": "no"}), ("share", {**pair, "services": "none"}), ("unlink", pair)]
        jobs += [("route_peer", {"cell": name, "peer": peer["name"], "via_cell": "direct"}) for peer in cell["cell_peers"] if peer.get("route_via")]
    for kind, given in chance.sample(jobs, min(3, len(jobs))):
        yield lambda kind=kind, given=given: world.job(kind, **given)


@pytest.fixture
def form(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the policy rules of two devices be a tree already, with every other seed."""
    if seed % 2 == 0:
        monkeypatch.setattr(placement, "FEW", 1)
        monkeypatch.setattr(placement, "_LEAF", 1)


def carried_out(host: FakeHost, module: str, args: dict[str, Any]) -> tuple[FakeHost, list[FakeHost]]:
    """Carry out a module; return the host as it is then, and as it was before each step, which is how a kill leaves it."""
    done, left = host.fork(), []
    done.watch = lambda _step: left.append(done.fork())
    assert not call(module, done, args).get("failed")
    done.watch = None
    return done, left


def failed(host: FakeHost, module: str, args: dict[str, Any], step: int, late: bool) -> FakeHost:
    """Return the host as it is when a step fails, and each further try."""
    twin = host.fork()
    twin.fail_at, twin.fails, twin.late = step, 99, late
    assert call(module, twin, args).get("failed") or late
    twin.fail_at = None
    return twin


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.at_length) for seed in (1, 2, 3))])
def test_an_end_at_any_step_is_made_good_by_the_next_run(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    world = World(tmp_path, drawn(chance))
    furnish(world["cella"])
    others = {name: foreign(host) for name, host in world.hosts.items()}
    for change in changes(chance, world):
        world.reset()
        before = world.fork().hosts
        hosts = dict(before)
        for name, module, args in change().calls:
            host = hosts[name]
            done, left = carried_out(host, module, args)
            left += [failed(host, module, args, step, seed % 2 == 1) for step in range(1, len(left) + 1)]
            good = set()
            for twin in left:
                case = f"{module} on {name} has ended after {twin.steps}"
                state = (twin.text(), str(twin.ended))
                if state in good:
                    continue
                good.add(state)
                assert foreign(twin) == others[name], case
                assert leaks(twin, before[name], world[name]) == [], case
                twin.made = host.made
                result = call(module, twin, args)
                assert not result.get("failed"), f"{case}: {result['msg']}"
                assert twin.text() == done.text(), case
                assert [flows for flows in done.ended if flows not in twin.ended] == [], case
            done.reset()
            again = done.fork()
            assert not call(module, again, args)["changed"] and again.steps == []
            hosts[name] = done
        assert {name: host.text() for name, host in hosts.items()} == world.text()


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("seed", range(4))
def test_a_host_that_fails_or_falls_while_the_others_go_on_is_made_good_by_the_next_run(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    world = World(tmp_path, drawn(chance))
    world.site()
    world.reset()
    world.inventory = changed(world.inventory, drawn(chance))
    done = world.fork()
    done.site()
    ends = [(name, step) for name, host in done.hosts.items() for step in range(1, len(host.steps) + 1)]
    for (name, step), power_cut in itertools.product(chance.sample(ends, 2), (False, True)):
        good, twin = done.fork(), world.fork()
        twin.ill = {name}
        twin[name].fail_at, twin[name].fails, twin[name].late = step, 99, chance.random() < 0.5
        twin.site()
        case = f"{name} has ended after {twin[name].steps}"
        twin.ill, twin.dead, twin[name].fail_at = set(), set(), None
        for cell, host in twin.hosts.items():
            host.made = world[cell].made  # a preshared key that only one end would have got was thrown away: the next is to be the same
        if power_cut:
            for one in (twin, good):
                one[name].boot()
            good.site()
        twin.site()
        assert twin.text() == good.text(), case
        twin.reset()
        assert (twin.site().changed, twin.steps()) == ([], {}), case


class OnDisk(FakeHost):
    """A fake host with real files."""

    read, exists, list, write, remove = Host.read, Host.exists, Host.list, Host.write, Host.remove


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a state directory on a small disk of its own."""
    folder = tmp_path / "host/var/lib/pic"
    folder.mkdir(parents=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "pic.cells", folder], check=False).returncode != 0:
        pytest.skip("needs root, and leave to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.fixture
def cell(world: World, disk: Path) -> OnDisk:
    """Return a cell that is set up, with its records on the small disk."""
    (disk.parents[2] / "proc/sys/net/ipv6").mkdir(parents=True)
    world.hosts["cella"] = host = OnDisk(disk.parents[2], "cella", systemd=False)
    host.dns = world["cellb"].dns
    world.site()
    host.reset()
    return host


@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        (fill, lambda folder: (folder / "filler").unlink(), r"/var/lib/pic/\w+\.json cannot be written: No space left on device\."),
        (
            lambda folder: subprocess.run(["mount", "-o", "remount,ro", folder], check=True),
            lambda folder: subprocess.run(["mount", "-o", "remount,rw", folder], check=True),
            r"/var/lib/pic/lock cannot be written: Read-only file system\.",
        ),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing_ends_the_run_before_anything_changes(
    cell: OnDisk, disk: Path, spoil: Callable[[Path], object], mend: Callable[[Path], object], words: str
) -> None:
    spoil(disk)
    before = {path.name: path.read_bytes() for path in disk.glob("*.json")}, sorted(disk.iterdir()), cell.text()
    result = call("pic_cell_rules", cell, {"name": "cellb", "share": []})
    assert result["failed"]
    assert re.fullmatch(words + " Free some space, or make it writable, and run again.", result["msg"])
    assert ({path.name: path.read_bytes() for path in disk.glob("*.json")}, sorted(disk.iterdir()), cell.text()) == before
    assert (cell.steps, cell.ended) == ([], [])
    mend(disk)
    assert call("pic_cell_rules", cell, {"name": "cellb", "share": []})["shares"]["cellb"] == []


def test_a_full_disk_keeps_nobody_from_repairing_the_rules(cell: OnDisk, disk: Path) -> None:
    before = cell.text()
    fill(disk)
    cell.tables["-nft", 4]["filter"].rules["FORWARD"].clear()
    assert call("pic_cell_rules", cell, {"cells": []})["changed"]
    assert cell.text() == before


def test_each_row_of_the_matrix_names_tests_that_are_there() -> None:
    rows = [line for line in (TESTS / "FAULTS.md").read_text().splitlines() if re.match(r"\| [A-Z]?\d* \|", line)]
    assert len(rows) > 50
    for row in rows:
        assert "`test_" in row or "/test_" in row or "(open)" in row, row
        assert not named_and_gone(row), row


def test_the_page_on_security_names_tests_that_are_there() -> None:
    page = (TESTS.parent / "docs" / "security.md").read_text()
    assert len(re.findall(r"^\| cannot .* \| .*`test_|\| cannot .* \| .*::test_", page, re.M)) > 12, "what somebody cannot do is shown"
    assert not named_and_gone(page)


def named_and_gone(text: str) -> list[str]:
    """Return the tests, and the files of tests, that a text names and that are not there."""
    sources = [*TESTS.rglob("test_*.py"), *(TESTS.parent / "molecule").rglob("test_*.py")]
    there = {name for path in sources for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}
    gone = [name for name, cut in re.findall(r"::(test_\w+)(…?)", text) if not (any(test.startswith(name) for test in there) if cut else name in there)]
    return gone + [name for name in re.findall(r"\btest_\w+\.py", text) if name not in {path.name for path in sources}]
