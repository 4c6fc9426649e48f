# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher of exits: what it asks over real sockets on the loopback device, what it makes of the answers, and what it writes down."""

from __future__ import annotations

import errno
import json
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.parts.verdicts import Limits, Watched, parse_verdict
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import render_view
from ansible_collections.pic.cells.plugins.module_utils.program import probe
from ansible_collections.pic.cells.plugins.module_utils.program.health import Health
from ansible_collections.pic.cells.plugins.module_utils.program.probe import PATIENCE, Prober, ask, why_down
from ansible_collections.pic.cells.plugins.module_utils.program.receiver import Server
from ansible_collections.pic.cells.plugins.module_utils.program.uplink import internet
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Link, State

HERE = "127.0.0.1"
HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
WAY_4 = HEAD + "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
NEAR_4 = HEAD + "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
ZERO = "0" * 32
WAY_6 = f"{ZERO} 00 {ZERO} 00 fe80000000000000000000000000000a 00000400 00000001 00000000 00450003     eth0\n"
REJECT_6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
LINK_6 = f"{ZERO} 00 {ZERO} 00 {ZERO} 00000400 00000001 00000000 00000001 pic-cellb\n"
HALF_6 = f"{ZERO} 01 {ZERO} 00 {ZERO} 00000400 00000001 00000000 00000001     eth0\n"


# What counts


def history(answers: str) -> str:
    """Give a watcher one answer a second: "." for one that works, "x" for none. Returns what it finds after each: up, down, or answering again."""
    health, found = Health(), ""
    for number, answer in enumerate(answers):
        health.judge("silent" if answer == "x" else None, Limits(3, 60, 3, 600), number, f"2026-11-29T12:00:{number % 60:02}Z")
        found += "u" if health.down is None else "a" if health.down.answers else "d"
    return found


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ("....", "uuuu"),
        ("xx.xx.", "uuuuuu"),
        (".xxx", "uuud"),
        (".xxx..", "uuuddd"),
        (".xxx...", "uuuddda"),
        (".xxx...x..", "uuudddaaaa"),
        (".xxx...xxx", "uuudddaaad"),
        (".xxx" + 59 * "." + ".", "uuudd" + "d" + 57 * "a" + "u"),
        (".xxx" + 58 * "." + "x" + 59 * "." + ".", "uuuddd" + 116 * "a" + "u"),
        ("xx.." * 5, "u" * 20),
        (".xxx" + "..xxx" * 4, "uuu" + "d" * 21),
        pytest.param("xxxxx..x...xxx...", "uudddddddduuuddda", id="one that has not worked since the boot has not to hold, once"),
    ],
)
def test_an_exit_goes_down_and_comes_up_again(answers: str, wanted: str) -> None:
    assert history(answers) == wanted


def test_one_that_flaps_holds_longer_each_time() -> None:
    limits, health, now, seen = Limits(1, 10, 3, 50), Health(), 0.0, []
    health.judge(None, limits, now, "2026-11-29T12:00:00Z")
    for _time in range(6):
        health.judge("silent", limits, now, "2026-11-29T12:00:00Z")
        down_at = now
        while health.down:
            now += 1
            health.judge(None, limits, now, "2026-11-29T12:00:00Z")
        seen.append(now - down_at)
    assert seen == [10, 10, 20, 40, 50, 50]
    now += 700
    health.judge("silent", limits, now, "2026-11-29T12:00:00Z")
    assert health.hold(limits, now) == 10, "what is long ago counts no more"


@pytest.mark.parametrize("up", [1, 2, 3, 5, 10, 30])
@pytest.mark.parametrize("down", [1, 2, 3, 5, 10])
def test_one_that_flaps_in_any_rhythm_keeps_root_idle(up: int, down: int) -> None:
    """Each change of the verdict starts a program as root."""
    health, changes = Health(), 0
    for second in range(3600):
        works = second % (up + down) < up
        changes += health.judge(None if works else "silent", Limits(), second, f"2026-11-29T12:{second // 60:02}:{second % 60:02}Z")
    assert changes <= 120, "more than two a minute"


def test_a_hold_beyond_the_limit_is_kept() -> None:
    assert Health().hold(Limits(3, 900, 3, 600), 0.0) == 900


# What is asked


class Bench:
    """The receiver of another cell in a thread; what it may see of its network are files."""

    def __init__(self, folder: Path) -> None:
        self.host = Host(str(folder))
        with socket.create_server((HERE, 0)) as server:
            self.port = int(server.getsockname()[1])
        self.route(WAY_4, WAY_6)
        self.render(Link("cella", "KEYA", ["127.0.0.0/24"], [HERE], interface="lo", exit_offered=True))
        self.server = Server(self.host, "/view/links.json", "/spool")
        self.ended = False
        self.thread = threading.Thread(target=self.server.run, args=(lambda: self.ended,), daemon=True)
        self.thread.start()
        self.exit = Watched("cellb", "lo", [HERE], self.port)
        deadline = time.monotonic() + 5
        while ask([self.exit]) != {"cellb": {"ipv4": True, "ipv6": True}}:
            assert time.monotonic() < deadline

    def render(self, link: Link) -> None:
        self.host.write("/view/links.json", render_view(State(Cell("cellb", ["127.0.0.1/8"], sync_port=self.port), {"cella": link}), "KEYB", {}), 0o644)

    def route(self, way_4: str, way_6: str) -> None:
        self.host.write("/proc/self/net/route", way_4)
        self.host.write("/proc/self/net/ipv6_route", way_6)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    found.ended = True
    found.thread.join()


def test_an_exit_says_whether_it_has_internet(bench: Bench) -> None:
    bench.route(NEAR_4, WAY_6)
    assert ask([bench.exit]) == {"cellb": {"ipv4": False, "ipv6": True}}
    assert why_down(bench.exit, {"ipv4": False, "ipv6": True}) == "offline"
    bench.route(WAY_4, "")
    assert why_down(bench.exit, ask([bench.exit])["cellb"]) is None, "IPv6 alone moves nobody"


def test_who_is_offered_no_exit_has_no_internet_here(bench: Bench) -> None:
    bench.render(Link("cella", "KEYA", ["127.0.0.0/24"], [HERE], interface="lo"))
    assert ask([bench.exit]) == {"cellb": {"ipv4": False, "ipv6": False}}
    bench.route("", "")
    assert ask([bench.exit]) == {"cellb": {"ipv4": False, "ipv6": False}}, "it learns nothing of the uplink"


def test_who_is_no_linked_cell_is_told_nothing(bench: Bench) -> None:
    bench.render(Link("cella", "KEYA", ["127.0.0.0/24"], ["127.0.0.9"], interface="lo", exit_offered=True))
    assert ask([bench.exit]) == {"cellb": {}}, "its tunnel works all the same"
    with socket.create_connection((HERE, bench.port), 5) as connection:
        connection.sendall(b"GET /api/cells/peer-sync/exit HTTP/1.1\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 403 ")


def answering(said: bytes | None, pause: float = 0.0) -> Iterator[int]:
    """Serve one answer to whoever comes, or none; yields the port."""
    with socket.create_server((HERE, 0)) as server:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _address = server.accept()
                except OSError:
                    return
                kept.append(connection)
                try:
                    for number in range(len(said or b"")):
                        if pause or not number:
                            connection.sendall((said or b"")[number : number + 1] if pause else said or b"")
                            time.sleep(pause)
                    if said is not None:
                        connection.close()
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


OK = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "pause", "wanted"),
    [
        pytest.param(b'HTTP/1.1 404 Not Found\r\n\r\n{"error": "Not Found"}', 0.0, {}, id="an older receiver"),
        pytest.param(b'HTTP/1.1 403 Forbidden\r\n\r\n{"internet": {"ipv4": false}}', 0.0, {}, id="another status"),
        pytest.param(OK + b'{"internet": {"ipv4": "no", "ipv6": 0, "ipv9": false}}', 0.0, {}, id="no truth"),
        pytest.param(OK + b'{"internet": ["ipv4"]}', 0.0, {}, id="a list"),
        pytest.param(OK + b"[" * 3000, 0.0, {}, id="deep"),
        pytest.param(OK + b"\xff" * 100_000, 0.0, {}, id="endless"),
        pytest.param(b"", 0.0, {}, id="nothing"),
        pytest.param(OK + b'{"internet": {"ipv4": false}}', 0.2, {}, id="slow"),
        pytest.param(None, 0.0, {}, id="silent once it has accepted"),
    ],
)
def test_whatever_an_exit_answers_its_tunnel_works(said: bytes | None, pause: float, wanted: dict[str, bool]) -> None:
    for port in answering(said, pause):
        began = time.monotonic()
        assert ask([Watched("cellb", "lo", [HERE], port)], 0.4) == {"cellb": wanted}
        assert time.monotonic() - began < PATIENCE


def test_a_refused_connection_has_come_through_the_tunnel() -> None:
    with socket.create_server((HERE, 0)) as server:
        port = int(server.getsockname()[1])
    assert ask([Watched("cellb", "lo", [HERE], port)]) == {"cellb": {}}


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(Watched("cellb", "no-such-device", [HERE], 1), id="no interface"),
        pytest.param(Watched("cellb", "lo", ["192.0.2.1"], 1), id="nobody there"),
        pytest.param(Watched("cellb", "lo", [], 1), id="no address"),
    ],
)
def test_a_tunnel_that_does_not_answer(item: Watched) -> None:
    assert ask([item], 0.3) == {"cellb": None}
    assert why_down(item, None) == "silent"


class WithoutSockets(socket.socket):
    """A socket that this host has no room for, or of a family that its kernel does not have."""

    refused: tuple[int, int] = (0, 0)

    def __init__(self, family: int = -1, *more: int) -> None:
        if family == self.refused[0]:
            raise OSError(self.refused[1], "refused")
        super().__init__(family, *more)


@pytest.mark.parametrize(
    ("refused", "addresses", "wanted"),
    [
        ((socket.AF_INET6, errno.EAFNOSUPPORT), ["::1", HERE], {"cellb": {"ipv4": True, "ipv6": True}}),
        ((socket.AF_INET, errno.EMFILE), [HERE], {}),
        ((socket.AF_INET, errno.ENETUNREACH), [HERE], {"cellb": None}),
    ],
)
def test_what_this_host_cannot_ask_is_no_fault_of_the_exit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, refused: tuple[int, int], addresses: list[str], wanted: dict[str, dict[str, bool]]
) -> None:
    monkeypatch.setattr(WithoutSockets, "refused", refused)
    monkeypatch.setattr(probe, "socket", SimpleNamespace(**{**vars(socket), "socket": WithoutSockets}))
    assert ask([Watched("cellb", "lo", addresses, bench.port)], 0.4) == wanted


def test_a_lost_packet_is_no_failure() -> None:
    """The first connection of each question is not answered, as nobody takes it: the queue of who listens is full."""
    with socket.socket() as listening:
        listening.bind((HERE, 0))
        listening.listen(0)
        port = int(listening.getsockname()[1])
        with socket.create_connection((HERE, port)):
            taking = threading.Timer(0.3, listening.accept)
            taking.start()
            assert ask([Watched("cellb", "lo", [HERE], port)], 0.9) == {"cellb": {}}
            taking.join()


class Late(selectors.DefaultSelector):
    """A selector of a program that gets no time of the processor for a while."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        time.sleep(0.6)
        return super().select(timeout)


def test_what_has_come_in_while_this_program_had_to_wait_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that nothing came in says nothing then: the question may have left late."""
    monkeypatch.setattr(probe, "selectors", SimpleNamespace(**{**vars(selectors), "DefaultSelector": Late}))
    silent = Watched("cellc", "lo", ["192.0.2.1"], 1)
    assert list(ask([bench.exit, silent], 0.4)) == ["cellb"]


def test_all_are_asked_at_the_same_time_and_one_address_is_enough(bench: Bench) -> None:
    silent = [Watched(f"cell{number}", "lo", ["192.0.2.1"], 1) for number in range(20)]
    began = time.monotonic()
    answers = ask([*silent, Watched("cellb", "lo", ["192.0.2.1", HERE], bench.port)], 0.4)
    assert time.monotonic() - began < 0.8
    assert [name for name, answer in answers.items() if answer is not None] == ["cellb"]


# What is written down


@pytest.fixture
def prober(bench: Bench) -> Prober:
    bench.host.write(
        "/exits/exits.json",
        json.dumps({"failures": 2, "hold": 60, "switches": 3, "hold_limit": 600, "exits": [vars(bench.exit), vars(Watched("cellc", "lo", ["192.0.2.1"], 1))]}),
    )
    return Prober(bench.host, "/exits/exits.json", "/verdict", [].append)


def verdict(bench: Bench) -> dict[str, str]:
    return {name: down.why for name, down in parse_verdict(bench.host.read("/verdict/verdict.json") or "").items()}


def test_what_it_finds_is_written_down_and_root_is_told_once(bench: Bench, prober: Prober) -> None:
    said: list[str] = []
    prober.say = said.append
    prober.step()
    assert (verdict(bench), bench.host.exists("/verdict/changed")) == ({}, False)
    prober.step()
    assert (verdict(bench), bench.host.exists("/verdict/changed")) == ({"cellc": "silent"}, True)
    bench.host.remove("/verdict/changed")
    prober.step()
    assert not bench.host.exists("/verdict/changed")
    bench.route("", "")
    prober.step()
    prober.step()
    assert verdict(bench) == {"cellb": "offline", "cellc": "silent"}
    assert [line.partition(" since")[0] for line in said] == ["cellc has not answered through its tunnel", "cellb has had no internet itself"]


def test_a_new_process_goes_on_from_the_verdict(bench: Bench, prober: Prober) -> None:
    prober.step()
    prober.step()
    again = Prober(bench.host, "/exits/exits.json", "/verdict", [].append)
    again.resume()
    again.step()
    assert verdict(bench) == {"cellc": "silent"}


def test_a_new_process_that_finds_no_exit_down_tells_root(bench: Bench, prober: Prober) -> None:
    prober.step()
    prober.step()
    bench.host.remove("/verdict/changed")
    bench.host.write("/exits/exits.json", json.dumps({"exits": [vars(bench.exit)]}))
    again = Prober(bench.host, "/exits/exits.json", "/verdict", [].append)
    again.resume()
    again.step()
    assert (verdict(bench), bench.host.exists("/verdict/changed")) == ({}, True)


def test_an_exit_that_is_watched_no_more_is_forgotten(bench: Bench, prober: Prober) -> None:
    prober.step()
    prober.step()
    bench.host.write("/exits/exits.json", json.dumps({"exits": [vars(bench.exit)]}))
    prober.step()
    assert verdict(bench) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"exits": [5]}', '{"exits": [{"name": "x", "interface": "lo", "addresses": ["nowhere"]}]}'])
def test_a_view_that_is_none_ends_nothing(bench: Bench, prober: Prober, text: str) -> None:
    said: list[str] = []
    prober.say = said.append
    prober.step()
    bench.host.write("/exits/exits.json", text)
    prober.step()
    prober.step()
    assert verdict(bench) == {"cellc": "silent"}, "the last one counts"
    assert len([line for line in said if line.startswith("/exits/exits.json cannot be read")]) == 1
    bench.host.write("/exits/exits.json", json.dumps({"exits": []}))
    prober.step()
    bench.host.write("/exits/exits.json", text)
    prober.step()
    assert len([line for line in said if line.startswith("/exits/exits.json cannot be read")]) == 2, "what comes back is said again"


# Whether a cell has internet itself


@pytest.mark.parametrize(
    ("way_4", "way_6", "wanted"),
    [
        (WAY_4, WAY_6, (True, True)),
        (NEAR_4, REJECT_6, (False, False)),
        ("", "", (False, False)),
        (WAY_4.replace("0003", "0203"), WAY_6.replace("00450003", "00200200"), (False, False)),
        (WAY_4.replace("eth0", "pic-cellb"), LINK_6, (False, False)),
        (WAY_4.replace("eth0", "eth9"), WAY_6.replace("eth0", "eth9"), (False, False)),
        (HEAD, HALF_6, (False, False)),
        (NEAR_4 + WAY_4, REJECT_6 + WAY_6, (True, True)),
        ("garbage\n\n", "garbage 00\n", (False, False)),
    ],
)
def test_whether_there_is_internet(tmp_path: Path, way_4: str, way_6: str, wanted: tuple[bool, bool]) -> None:
    host = Host(str(tmp_path))
    host.write("/proc/self/net/route", way_4)
    host.write("/proc/self/net/ipv6_route", way_6)
    host.write("/sys/class/net/eth9/operstate", "lowerlayerdown\n")
    assert internet(host) == dict(zip((4, 6), wanted))


def test_an_uplink_that_the_owner_has_named_may_have_its_route_elsewhere(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    assert internet(host, "eth1") == {4: False, 6: False}, "there is no such device"
    host.write("/proc/self/net/route", WAY_4)
    assert internet(host, "eth1") == {4: False, 6: False}, "by another one nothing is relayed"
    host.write("/sys/class/net/eth1/operstate", "unknown\n")
    assert internet(host, "eth1") == {4: True, 6: True}
    host.write("/sys/class/net/eth1/operstate", "down\n")
    assert internet(host, "eth1") == {4: False, 6: False}
