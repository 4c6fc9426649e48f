# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A link whose other cell has another address now, by the name that is dialled: it is noticed by its bytes, and dialled anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel.wireguard import read_transfers
from ansible_collections.pic.cells.plugins.module_utils.parts import units
from ansible_collections.pic.cells.plugins.module_utils.program.redial import AGAIN, SAMPLE, STRIKES, Silence, redial
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR, Store
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_watch import Watched
from ansible_collections.pic.cells.tests.unit.world import World, program

BEFORE, AFTER = "198.51.100.12", "203.0.113.77"
LINK = ("pic-cellb", "key")


def counted(*samples: tuple[int, int]) -> list[list[str]]:
    """Return what each count of received and sent bytes leads to."""
    silence = Silence()
    return [silence.heard({LINK: sample}) for sample in samples]


def test_a_link_that_sends_and_receives_nothing_is_silent_after_some_counts() -> None:
    found = counted(*((100, 100 + 148 * count) for count in range(STRIKES + 2 * AGAIN + 1)))
    assert [number for number, interfaces in enumerate(found) if interfaces] == [STRIKES, STRIKES + AGAIN, STRIKES + 2 * AGAIN]
    assert found[STRIKES] == ["pic-cellb"]


@pytest.mark.parametrize(
    "samples",
    [
        [(100, 100)] * 20,  # nothing is sent
        [(100, 100 + 32 * (count // 5)) for count in range(40)],  # a keepalive each 25 s, which nobody has to answer
        [(100 + 32 * (count // 2), 100 + 1400 * count) for count in range(40)],  # a stream in one direction: WireGuard answers within 10 s
        [(100, 100 + count) if count != 3 else (50, 0) for count in range(5)],  # an interface that was made anew
    ],
)
def test_a_link_that_is_used_or_idle_is_not(samples: list[tuple[int, int]]) -> None:
    assert not any(counted(*samples))


def test_several_peers_of_one_interface_are_one() -> None:
    silence = Silence()
    for count in range(STRIKES + 1):
        found = silence.heard({("wg0", "a"): (0, count), ("wg0", "b"): (0, count), ("pic-x", "c"): (count, count)})
    assert found == ["wg0"]


def test_what_is_counted_are_links_interfaces_alone_and_packets_that_were_not_sent_too(dialled: World) -> None:
    host = dialled["cella"]
    for device in host.wg.values():
        for peer in device.peers.values():
            peer.received, peer.sent = 1000, 2000
    (key,) = host.wg["pic-cellb"].peers
    assert host.wg["wg0"].peers
    assert read_transfers(host) == {("pic-cellb", key): (1000, 2000)}
    host.write(
        "/proc/net/dev",
        "Inter-| Receive\n face |bytes\n pic-cellb: 1 2 3 4 5 6 7 8 9 10 100 1000 13 14 15 16\n   wg0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
    )
    assert read_transfers(host) == {("pic-cellb", key): (1000, 3110)}


@prepared
def dialled(tmp_path: Path) -> World:
    """Two cells; cella dials the other by a name."""
    peers = [{"name": "phone", "public_key": "hK+bcYJKKsaTTJnFf6pyCvYmzPQLZvtjxCqXQbDTzGk=", "addresses": ["10.0.0.2"]}]
    world = World(
        tmp_path,
        {
            "cella": {"cell_networks": ["10.0.0.1/24"], "cell_links": [{"name": "cellb"}], "cell_peers": peers},
            "cellb": {"cell_networks": ["10.0.1.1/24"], "cell_links": [{"name": "cella"}], "cell_endpoint": "b.example.net"},
        },
    )
    world["cella"].dns["b.example.net"] = [BEFORE]
    world.site()
    assert endpoint(world["cella"]).rpartition(":")[0] == BEFORE
    return world


def endpoint(host: FakeHost) -> str:
    (peer,) = host.wg["pic-cellb"].peers.values()
    return str(peer.endpoint)


def test_it_is_dialled_where_its_name_leads_now_though_the_handshake_is_recent(dialled: World) -> None:
    host = dialled["cella"]
    for peer in host.wg["pic-cellb"].peers.values():
        peer.handshake = int(host.now)
    host.dns["b.example.net"] = [AFTER]
    host.reset()
    rc, out, err = program(host, "redial", "pic-cellb")
    assert (rc, err) == (0, "")
    assert endpoint(host).rpartition(":")[0] == AFTER
    assert out == f"pic-cellb: cell cellb is dialled at {endpoint(host)}; its endpoint is b.example.net:51821\n"
    assert [step.split()[:3] for step in host.steps] == [["wg", "set", "pic-cellb"]]
    host.reset()
    assert program(host, "redial", "pic-cellb") == (0, "", "")
    assert host.steps == []
    assert program(host, "check")[0] == 0


@pytest.mark.parametrize("why", ["the same address", "no answer", "no such name", "a literal address", "no endpoint", "another interface"])
def test_without_another_address_nothing_changes(dialled: World, why: str) -> None:
    host, interface = dialled["cella"], "pic-cellb"
    if why == "no answer":
        host.deaf = True
    elif why == "no such name":
        del host.dns["b.example.net"]
    elif why == "a literal address":
        dialled.inventory["cellb"]["cell_endpoint"] = BEFORE
        dialled.site()
        host.by_hand(f"wg set pic-cellb peer {next(iter(host.wg['pic-cellb'].peers))} endpoint {AFTER}:51821")
    elif why == "no endpoint":
        host, interface = dialled["cellb"], "pic-cella"
    elif why == "another interface":
        interface = "wg9"
    host.reset()
    assert program(host, "redial", interface)[0] == 0
    assert host.steps == []


@pytest.mark.parametrize("interface", ["../x", "-a", "", "a" * 16, "a b"])
def test_what_is_no_interface_is_refused(dialled: World, interface: str) -> None:
    rc, out, err = program(dialled["cella"], "redial", "--", interface)
    assert (rc, out) == (1, "") and "interface" in err.lower()


@pytest.fixture
def watched(dialled: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Watched, list[str]]]:
    """Return a watcher that has looked, and the units that it starts."""
    host = dialled["cella"]
    started: list[str] = []
    found = Watched(host, monkeypatch)
    run = host.run

    def running(argv: list[str], *more: object, **options: object) -> object:
        if list(argv[:3]) == ["systemctl", "start", "--no-block"]:
            started.append(argv[3])
            argv = ["systemctl", "show", "--property=ActiveState", "--value", units.RESTORE]
        return run(argv, *more, **options)

    monkeypatch.setattr(host, "run", running)
    found.after(0.2)
    host.reset()
    yield found, started


def test_the_watcher_has_a_silent_link_dialled_anew(watched: tuple[Watched, list[str]]) -> None:
    found, started = watched
    for _sample in range(STRIKES + 1):
        for peer in found.host.wg["pic-cellb"].peers.values():
            peer.sent += 148
        found.after(SAMPLE)
    assert started == ["pic-cell-redial@pic-cellb.service"]
    assert found.host.steps == [] and not [argv for argv in found.host.log if argv[0] == "getent"]


def test_a_silent_link_that_is_dialled_by_an_address_starts_nothing(watched: tuple[Watched, list[str]], dialled: World) -> None:
    found, started = watched
    dialled.inventory["cellb"]["cell_endpoint"] = BEFORE
    dialled.site()
    for _sample in range(STRIKES + AGAIN + 1):
        for peer in found.host.wg["pic-cellb"].peers.values():
            peer.sent += 148
        found.after(SAMPLE)
    assert started == []


def test_nobody_waits_for_the_resolver(dialled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever repairs something would."""
    host, held = dialled["cella"], []
    lock, lookup = Store.lock, host.lookup

    @contextlib.contextmanager
    def locked(store: Store, **options: bool) -> Iterator[None]:
        with lock(store, **options):
            held.append("lock")
            yield
            held.append("unlock")

    monkeypatch.setattr(Store, "lock", locked)
    monkeypatch.setattr(host, "lookup", lambda name: held.append("lookup") or lookup(name))
    host.dns["b.example.net"] = [AFTER]
    assert redial(host, STATE_DIR, "pic-cellb")
    assert held == ["lookup", "lock", "unlock"]


def test_the_watcher_of_a_quiet_host_counts_and_does_nothing_else(watched: tuple[Watched, list[str]]) -> None:
    found, started = watched
    found.after(60)
    assert started == []
    assert {tuple(argv) for argv in found.host.log} == {("wg", "show", "all", "transfer")}
    assert 60 / SAMPLE - 1 <= len(found.host.log) <= 60 / SAMPLE + 1


def test_without_systemd_the_watcher_dials_by_itself(dialled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = dialled["cella"]
    for path in [path for path in host.files if path.startswith("/run/systemd/system")]:
        host.remove(path)
    found = Watched(host, monkeypatch)
    found.after(0.2)
    host.dns["b.example.net"] = [AFTER]
    for _sample in range(STRIKES + 1):
        for peer in host.wg["pic-cellb"].peers.values():
            peer.sent += 148
        found.after(SAMPLE)
    assert endpoint(host).rpartition(":")[0] == AFTER
    assert any("is dialled at" in line for line in found.lines)


def test_the_unit_takes_the_interface_as_it_is(dialled: World) -> None:
    text = dialled["cella"].files["/etc/systemd/system/pic-cell-redial@.service"][1]
    assert "redial -- %i\n" in text.replace('"', "")


@pytest.mark.parametrize(("dials", "age", "advised"), [(BEFORE, 200, True), (BEFORE, 100, False), (BEFORE, 0, False), ("b.example.net", 200, False)])
def test_a_silent_link_that_is_dialled_by_an_address_needs_a_person(dialled: World, dials: str, age: int, advised: bool) -> None:
    dialled.inventory["cellb"]["cell_endpoint"] = dials
    dialled.site()
    host = dialled["cella"]
    for peer in host.wg["pic-cellb"].peers.values():
        peer.handshake = int(host.now) - age if age else 0
    found = [line for line in program(host, "check")[1].splitlines() if "is an address" in line]
    assert len(found) == advised
    assert all(f"{BEFORE}:51821" in line and "run pic.cells.site" in line for line in found)
