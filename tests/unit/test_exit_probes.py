# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets on the internet that are asked through exits: their way there and back, and what their silence means."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import targets
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts.verdicts import Watched, parse_watched
from ansible_collections.pic.cells.plugins.module_utils.program import probe
from ansible_collections.pic.cells.plugins.module_utils.program.probe import ask, why_down
from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import run
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, program

HERE = "127.0.0.1"
TARGETS = ["tcp://192.0.2.1:443", "dns://9.9.9.9", "tcp://[2001:db8:9::1]:443"]


def rp_filter(device: str) -> str:
    return f"/proc/sys/net/ipv4/conf/{device}/rp_filter"


def strict(host: FakeHost, *devices: str) -> None:
    """Lets the kernel compare each packet's way with the way back to its source."""
    for device in ("all", "default", *devices):
        host.files[rp_filter(device)] = (0o644, "1\n")


@prepared
def probing(linked: World) -> World:
    """Return three cells in which cella's phone leaves by cellb, else by cellc, and cella asks targets through them."""
    strict(linked["cella"], "pic-cellb", "pic-cellc")
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = ["cellb", "cellc"]
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    linked.inventory["cella"]["cell_exit_probes"] = TARGETS
    run(linked)
    return linked


def probe_rules(host: FakeHost, family: int) -> list[tuple[str | None, int | None]]:
    return [(rule.oif, rule.table) for rule in host.rules[family] if rule.oif]


def test_what_the_cell_itself_sends_by_an_exit_takes_the_exits_table(probing: World) -> None:
    tables = [(f"pic-{name}", probing.link("cella", name)["exit_table"]) for name in ("cellb", "cellc")]
    for family in (4, 6):
        assert probe_rules(probing["cella"], family) == tables
        assert {rule.priority for rule in probing["cella"].rules[family] if rule.oif} == {3731}
    assert (program(probing["cella"], "check")[0], restore(probing["cella"], "/var/lib/pic").repairs) == (0, [])


def test_the_answers_come_in_and_nothing_else_does(probing: World) -> None:
    host = probing["cella"]

    def judged(source: str, port: int, protocol: str = "tcp", answers: bool = True) -> str:
        state = "ESTABLISHED" if answers else "NEW"
        return verdict(host, Packet(source, "10.0.0.1", "pic-cellb", "", protocol, from_port=port, state=state, reply=answers), "mangle")

    assert judged("192.0.2.1", 443) == PASSED
    assert judged("9.9.9.9", 53, "udp") == PASSED
    assert judged("192.0.2.1", 443, "udp") == "DROP"
    assert judged("192.0.2.1", 80) == "DROP"
    assert judged("192.0.2.2", 443) == "DROP"
    assert judged("192.0.2.1", 443, answers=False) == "DROP"
    assert host.chain(4, "PIC-OUT")[:2] == [
        "-s 10.0.0.1/32 -d 192.0.2.1 ! -o pic-+ -p tcp -m tcp --dport 443 -j DROP",
        "-s 10.0.0.1/32 -d 9.9.9.9 ! -o pic-+ -p udp -m udp --dport 53 -j DROP",
    ]
    assert verdict(host, Packet("192.0.2.1", "10.0.0.3", "pic-cellb", "wg0", state="ESTABLISHED", reply=True), "filter") == "DROP"


def test_the_way_back_is_not_compared_there_and_is_again_afterwards(probing: World) -> None:
    host = probing["cella"]
    assert [host.read(rp_filter(device)) for device in ("pic-cellb", "pic-cellc", "all")] == ["2\n", "2\n", "1\n"]
    host.files[rp_filter("pic-cellb")] = (0o644, "1\n")
    assert "missing: net/ipv4/conf/pic-cellb/rp_filter: 2" in program(host, "check")[1]
    assert program(host, "restore")[0] == 0
    assert host.read(rp_filter("pic-cellb")) == "2\n"
    probing.inventory["cella"]["cell_exit_probes"] = []
    run(probing)
    assert [host.read(rp_filter(device)) for device in ("pic-cellb", "pic-cellc")] == ["1\n", "1\n"]
    assert probe_rules(host, 4) == probe_rules(host, 6) == []


def test_at_boot_nothing_waits_for_interfaces_that_are_still_to_come(probing: World) -> None:
    host = probing["cella"]
    host.boot()
    for name in ("pic-cellb", "pic-cellc"):
        host.drop_link(name)
    assert program(host, "restore", "--guard")[::2] == (0, "")
    assert program(host, "restore")[::2] == (0, "")
    assert [host.read(rp_filter(device)) for device in ("pic-cellb", "pic-cellc")] == ["2\n", "2\n"]
    assert program(host, "check")[0] == 0


def test_an_interface_that_is_made_anew_gets_it_again(probing: World) -> None:
    host = probing["cella"]
    host.drop_link("pic-cellb")
    assert program(host, "restore", "--exits")[0] == 0
    assert program(host, "restore")[::2] == (0, "")
    assert host.read(rp_filter("pic-cellb")) == "2\n"


def test_the_first_run_of_all_makes_it_so(world: World) -> None:
    strict(world["cella"])
    world.inventory["cella"]["cell_peers"][0]["route_via"] = ["cellb", "cellc"]
    world.inventory["cella"]["cell_exit_probes"] = TARGETS
    run(world)
    assert world["cella"].read(rp_filter("pic-cellb")) == "2\n"


def test_a_host_that_does_not_compare_keeps_its_settings(linked: World) -> None:
    host = linked["cella"]
    host.files.update({rp_filter(device): (0o644, value) for device, value in (("all", "0\n"), ("default", "2\n"), ("pic-cellb", "0\n"), ("pic-cellc", "2\n"))})
    linked.inventory["cella"]["cell_exit_probes"] = TARGETS
    run(linked)
    assert [host.read(rp_filter(device)) for device in ("pic-cellb", "pic-cellc")] == ["0\n", "2\n"]


def test_an_exit_that_is_withdrawn_is_asked_no_more(probing: World) -> None:
    run(probing, "offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert probe_rules(probing["cella"], 4) == [("pic-cellc", probing.link("cella", "cellc")["exit_table"])]
    run(probing, "route_peer", cell="cella", peer="phone", via_cell="direct")
    assert probe_rules(probing["cella"], 4) == []


def test_the_watcher_is_let_see_the_targets(probing: World) -> None:
    view = next(text for path, (_mode, text) in probing["cella"].files.items() if path.endswith("/exits.json"))
    exits = parse_watched(view)[1]
    assert [(item.name, item.targets) for item in exits] == [(name, [*TARGETS[:1], "dns://9.9.9.9:53", TARGETS[2]]) for name in ("cellb", "cellc")]
    assert exits[0].judged == {4, 6}
    broken = json.loads(view)
    broken["exits"][0]["targets"] = ["file:///etc/shadow"]
    with pytest.raises(ValueError, match="is not a target"):
        parse_watched(json.dumps(broken))


@contextmanager
def server(kind: int, answers: bool = True) -> Iterator[int]:
    """Returns the port of a server on the loopback device, which takes connections, or answers datagrams."""
    with socket.socket(socket.AF_INET, kind) as listening:
        listening.bind((HERE, 0))
        if kind == socket.SOCK_STREAM:
            listening.listen()
        else:
            listening.settimeout(2)

            def answer() -> None:
                try:
                    question, asker = listening.recvfrom(512)
                    if answers:
                        listening.sendto(question[:2] + b"\x81\x80" + question[4:], asker)
                except OSError:
                    pass

            threading.Thread(target=answer, daemon=True).start()
        yield listening.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as one:
        one.bind((HERE, 0))
        return int(one.getsockname()[1])


def asked(monkeypatch: pytest.MonkeyPatch, *texts: str, receiver: bool = True) -> tuple[probe.Answer, str | None]:
    """Returns what an exit is found to answer with such targets, and why it is down. receiver: whether the other cell answers."""
    monkeypatch.setattr(targets, "is_private", lambda _network: False)  # the loopback device is all that there is here
    item = Watched("cellb", "lo", [HERE], closed_port() if receiver else 1, targets=list(texts))
    item = item if receiver else Watched("cellb", "lo", ["192.0.2.1"], 1, targets=list(texts))
    answer = ask([item], 0.4)["cellb"]
    return answer, why_down(item, answer)


def test_a_target_that_takes_a_connection_is_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(socket.SOCK_STREAM) as port:
        assert asked(monkeypatch, f"tcp://{HERE}:{port}") == ({"ipv4": True}, None)
        assert asked(monkeypatch, f"tcp://{HERE}:{closed_port()}", f"tcp://{HERE}:{port}") == ({"ipv4": True}, None)
        assert asked(monkeypatch, f"tcp://{HERE}:{port}", receiver=False) == ({"ipv4": True}, None)


def test_a_resolver_that_answers_is_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(socket.SOCK_DGRAM) as port:
        assert asked(monkeypatch, f"dns://{HERE}:{port}") == ({"ipv4": True}, None)
    with server(socket.SOCK_DGRAM, answers=False) as port:
        assert asked(monkeypatch, f"dns://{HERE}:{port}") == ({"ipv4": False}, "offline")


def test_a_refusal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (f"tcp://{HERE}:{closed_port()}", f"dns://{HERE}:{closed_port()}"):
        assert asked(monkeypatch, text) == ({"ipv4": False}, "offline")
        assert asked(monkeypatch, text, receiver=False) == (None, "silent")


def test_each_family_with_a_target_has_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(socket.SOCK_STREAM) as port:
        assert asked(monkeypatch, f"tcp://{HERE}:{port}", "tcp://[2001:db8:9::1]:443") == ({"ipv4": True, "ipv6": False}, "offline")


def test_a_host_that_had_no_time_to_ask_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "is_private", lambda _network: False)
    monkeypatch.setattr(probe, "_DELAY", -1.0)
    item = Watched("cellb", "lo", [HERE], closed_port(), targets=[f"tcp://{HERE}:{closed_port()}"])
    assert ask([item], 0.2) == {}


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("192.0.2.1", "'192.0.2.1' is not a target. Give one like tcp://192.0.2.1:443, tcp://[2001:db8::1]:443 or dns://192.0.2.1."),
        ("tcp://192.0.2.1", "'tcp://192.0.2.1' is not a target"),
        ("tcp://www.example.net:443", "is not a target"),
        ("https://192.0.2.1/", "is not a target"),
        ("tcp://192.0.2.1:0", "is not a target"),
        ("tcp://192.0.2.1:70000", "is not a target"),
        ("tcp://2001:db8::1:443", "is not a target"),
        ("tcp://[fe80::1%eth0]:443", "is not a target"),
        ("dns://10.0.0.53", "'dns://10.0.0.53' is not an address of the internet"),
        ("tcp://[fd00::1]:80", "is not an address of the internet"),
        ([f"tcp://192.0.2.{number}:80" for number in range(9)], "9 targets are too many, as each is asked through each exit once a second. Give 8 at most."),
    ],
)
def test_one_that_cannot_be_asked_is_refused(linked: World, stated: Any, said: str) -> None:
    linked.inventory["cella"]["cell_exit_probes"] = stated
    before = linked.text()
    with pytest.raises((BadInput, Refusal), match=f"exit_probes of cell 'cella': .*{re.escape(said)}"):
        linked.site()
    assert linked.text() == before
