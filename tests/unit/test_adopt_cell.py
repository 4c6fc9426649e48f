# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pic.cells.adopt on a cell of an older version: its records of any shape, and its flat rules, which site takes over under a running flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key, public_key
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict
from ansible_collections.pic.cells.tests.unit.test_adopt import NETWORKS, WG0, adopt, taken_over
from ansible_collections.pic.cells.tests.unit.test_adoption import furnished
from ansible_collections.pic.cells.tests.unit.test_shared_rules import way
from ansible_collections.pic.cells.tests.unit.world import World, device_key

OWN = made_key("a cell of before")
CELLB = public_key(made_key("cellb"))
CONFIG = f"""\
[Interface]
PrivateKey = {OWN}
Address = 10.0.0.1/24
ListenPort = 51820

[Peer]
# phone
PublicKey = {device_key("phone")}
AllowedIPs = 10.0.0.2/32

[Peer]
# cell-cellb
PublicKey = {CELLB}
AllowedIPs = 10.0.1.0/24
Endpoint = 192.0.2.12:51820
PersistentKeepalive = 25
"""
# What the original had in FORWARD itself: a line for each service that a cell may reach, and one that closes the rest.
FLAT = [
    "-A FORWARD -s 10.0.1.0/24 -d 10.0.0.1/32 -p tcp -m tcp --dport 443 -m comment --comment pic-cell-cellb -j ACCEPT",
    "-A FORWARD -s 10.0.1.0/24 -m comment --comment pic-cell-cellb -j DROP",
]
LINK = {
    "cell_name": "cellb",
    "public_key": CELLB,
    "vpn_subnet": "10.0.1.0/24",
    "endpoint": "192.0.2.12:51820",
    "permissions": {"inbound": {"files": True, "mail": False}, "outbound": {"files": False}},
}
STATED = {"name": "cellb", "public_key": CELLB, "networks": ["10.0.1.0/24"], "endpoint": "192.0.2.12:51820", "interface": "wg0"}
PHONE = {"name": "phone", "public_key": device_key("phone"), "addresses": ["10.0.0.2"]}
PEER = {"public_key": device_key("phone"), "ip": "10.0.0.2", "internet_access": True}
FILES = {"name": "files", "address": ["10.0.0.1"], "port": 443, "protocol": "tcp"}


@pytest.fixture
def old(tmp_path: Path) -> World:
    """Return a host with a cell of the original: its interface, with the link's peer on it, and its flat rules."""
    world = World(tmp_path, {"cella": {}})
    host = furnished(world["cella"], CONFIG)
    host.dns["192.0.2.12"] = ["192.0.2.12"]
    host.iptables(4, "filter", ":FORWARD DROP [0:0]", "-A FORWARD -i wg0 -o eth0 -j ACCEPT", *FLAT)
    host.iptables(4, "filter", "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    return world


def remembered(host: FakeHost, folder: str = "/var/lib/pic", **files: Any) -> None:
    """Let a host have record files."""
    for name, content in files.items():
        host.files[f"{folder}/{name}.json"] = (0o600, json.dumps(content))


SHAPES = {
    "a list": [LINK],
    "by name": {"cellb": {key: value for key, value in LINK.items() if key != "cell_name"}},
    "of today": {
        "links": [{**{key: value for key, value in LINK.items() if key not in ("cell_name", "vpn_subnet")}, "name": "cellb", "networks": ["10.0.1.0/24"]}]
    },
}
REGISTRIES = {
    "a list": [{"name": "phone", **PEER}],
    "a list of peers": [{"peer": "phone", **PEER}],
    "by name": {"phone": PEER},
    "of today": {"peers": [{"name": "phone", "public_key": device_key("phone"), "addresses": ["10.0.0.2"], "route_via": None}]},
}


@pytest.mark.parametrize("links", SHAPES)
@pytest.mark.parametrize("peers", REGISTRIES)
def test_records_of_each_shape_are_described(old: World, links: str, peers: str) -> None:
    host = old["cella"]
    remembered(host, cell_links=SHAPES[links], peer_registry=REGISTRIES[peers])
    found = adopt(host)
    assert found["inventory"] == {
        "cell_networks": NETWORKS[:1],
        "cell_services": [FILES],
        "cell_peers": [PHONE],
        "cell_links": [{**STATED, "share": ["files"], "offer_exit": False}],
    }
    assert any(note.startswith("service files: its address and port are those of the rules for cellb.") for note in found["notes"])


def test_records_elsewhere_are_read_where_they_are_named(old: World) -> None:
    host = old["cella"]
    remembered(host, "/opt/pic/data", cell_links=[LINK], peers=[{"peer": "Anna's phone", **PEER}])
    found = adopt(host, source="/opt/pic/data")
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == ["anna-s-phone"]
    assert [item["name"] for item in found["inventory"]["cell_links"]] == ["cellb"]
    taken_over(old, found["inventory"])


ASKED = Packet("10.0.1.2", "10.0.0.1", "wg0", "eth1", port=443)
RUNNING = Packet("10.0.1.2", "10.0.0.1", "wg0", "eth1", port=443, state="ESTABLISHED", syn=False)
CLOSED = [Packet("10.0.1.2", "10.0.0.1", "wg0", "eth1", port=port) for port in (22, 8443)]


def test_the_flat_rules_are_taken_over_without_a_moment_of_less_or_more(old: World) -> None:
    """After each step that writes anything, what was open is open, and what was closed is closed."""
    host = old["cella"]
    remembered(host, cell_links=[LINK], peer_registry=[{"name": "phone", **PEER}])
    inventory = adopt(host)["inventory"]
    seen: list[tuple[str, ...]] = []
    host.watch = lambda name: seen.append((name, verdict(host, ASKED), verdict(host, RUNNING), *(verdict(host, packet) for packet in CLOSED)))
    assert [verdict(host, packet) for packet in (ASKED, RUNNING, *CLOSED)] == [PASSED, PASSED, "DROP", "DROP"]
    taken_over(old, inventory)
    assert len(seen) > 10
    assert {moment[1:] for moment in seen} == {(PASSED, PASSED, "DROP", "DROP")}, [moment for moment in seen if moment[1:] != (PASSED, PASSED, "DROP", "DROP")]
    assert [verdict(host, packet) for packet in (ASKED, RUNNING, *CLOSED)] == [PASSED, PASSED, "DROP", "DROP"]
    assert not any(flat.removeprefix("-A FORWARD ") in host.chain(4, "FORWARD") for flat in FLAT)
    assert CELLB in host.wg["wg0"].peers and host.wg["wg0"].peers[CELLB].allowed == ["10.0.1.0/24"]


def test_a_service_that_no_rule_tells_is_said_and_not_shared(old: World) -> None:
    host = old["cella"]
    remembered(host, cell_links=[{**LINK, "permissions": {"inbound": {"files": True, "mail": True}}}])
    found = adopt(host)
    assert "cell_services" not in found["inventory"] and "share" not in found["inventory"]["cell_links"][0]
    assert (
        "service files: cellb may reach it, but no record says where it is. Open to them by rules: tcp 10.0.0.1 port 443. "
        "Describe it in cell_services and share it there before you run site, or site closes it."
    ) in found["notes"]


def test_a_cell_of_this_version_is_described_as_it_is(linked: World) -> None:
    host = linked["cella"]
    inventory = adopt(host)["inventory"]
    assert {item["name"]: item.get("route_via") for item in inventory["cell_peers"]} == {"phone": ["cellb"], "tablet": ["cellc"], "laptop": None}
    assert [(item["name"], item["share"], item["offer_exit"]) for item in inventory["cell_links"]] == [
        ("cellb", ["files", "voice"], True),
        ("cellc", ["files"], False),
    ]
    linked.inventory["cella"] = inventory
    assert (linked.site().changed, linked.steps()) == ([], {})


@pytest.mark.parametrize("answerers", [["9.9.9.9"], ["9.9.9.9", "2620:fe::fe"], ["exit"], ["own"]])
def test_who_answers_a_device_stays(linked: World, answerers: list[str]) -> None:
    phone = linked.inventory["cella"]["cell_peers"][0]
    phone["exit_dns"] = answerers
    linked.site()
    inventory = adopt(linked["cella"])["inventory"]
    assert {item["name"]: item.get("exit_dns") for item in inventory["cell_peers"]} == {phone["name"]: answerers, "tablet": None, "laptop": None}
    linked.inventory["cella"] = inventory
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})


@pytest.mark.parametrize("answerers", [["10.0.1.9"], ["9.9.9.9", "9.9.9.10"], ["nobody"], ["exit", "own"]])
def test_who_cannot_answer_a_device_is_said(old: World, answerers: list[str]) -> None:
    host = old["cella"]
    remembered(host, peer_registry=[{"name": "phone", **PEER, "exit_dns": answerers}])
    found = adopt(host)
    assert found["inventory"]["cell_peers"] == [PHONE]
    assert any(note.startswith("exit_dns of peer 'phone'") and answerers[0] in note and note.endswith("It is left out.") for note in found["notes"])


def test_one_link_that_is_none_costs_no_other_one(old: World) -> None:
    host = old["cella"]
    remembered(
        host, cell_links=[LINK, {**LINK, "cell_name": "Cell B"}, {**LINK, "cell_name": "cellc", "vpn_subnet": "198.51.100.0/24", "public_key": device_key("c")}]
    )
    found = adopt(host)
    assert [item["name"] for item in found["inventory"]["cell_links"]] == ["cellb"]
    assert any("the link 'Cell B' is left out" in note for note in found["notes"])
    assert any("link 'cellc' is left out" in note and "allow_public_networks" in note for note in found["notes"])


def test_a_file_that_site_would_set_aside_is_named(old: World) -> None:
    host = old["cella"]
    host.files["/var/lib/pic/peer_registry.json"] = (0o600, "[1, 2")
    assert any(note.startswith("/var/lib/pic/peer_registry.json cannot be read") for note in adopt(host)["notes"])
    assert WG0 in host.files


def test_a_phone_that_leaves_by_another_cell_goes_on_doing_so(old: World) -> None:
    """The original had all on wg0: the exit's peer there lets everything in, a policy table sends the phone to it, and a hook forwards for wg0."""
    host = old["cella"]
    hook = "PostUp = iptables -A FORWARD -i %i -j ACCEPT"
    furnished(host, CONFIG.replace("AllowedIPs = 10.0.1.0/24", "AllowedIPs = 10.0.1.0/24, 0.0.0.0/0").replace("ListenPort", f"{hook}\nTable = off\nListenPort"))
    host.by_hand("ip -4 route add 10.0.1.0/24 dev wg0")
    host.by_hand("ip -4 route add default dev wg0 table 100")
    host.by_hand("ip -4 rule add from 10.0.0.2 lookup 100 pref 1000")
    host.iptables(4, "filter", "-A FORWARD -i wg0 -j ACCEPT")
    remembered(
        host,
        cell_links=[{**LINK, "remote_exit_offered": True, "exit_relay_active": True}],
        peer_registry=[{"name": "phone", **PEER, "route_via": "cellb"}],
    )
    found = adopt(host)
    assert found["inventory"]["cell_peers"] == [{**PHONE, "route_via": ["cellb"]}]
    assert not any("refuses" in note for note in found["notes"])
    away = [Packet("10.0.0.2", "198.51.100.9", "wg0", "wg0", state=state, syn=state == "NEW") for state in ("NEW", "ESTABLISHED")]
    seen: set[tuple[str | None, ...]] = set()
    host.watch = lambda _step: seen.add((way(host, "198.51.100.9"), *(verdict(host, packet) for packet in away)))
    old.inventory["cella"] = found["inventory"]
    old.site()
    assert seen == {("wg0", PASSED, PASSED)}
    assert [verdict(host, packet) for packet in away] == [PASSED, PASSED]
    assert {"0.0.0.0/0", "10.0.1.0/24"} <= set(host.wg["wg0"].peers[CELLB].allowed)
    assert verdict(host, Packet("10.0.0.2", "198.51.100.9", "wg0", "eth0")) == "DROP", "the own uplink is closed to it"
    host.by_hand("ip -4 rule del from 10.0.0.2 lookup 100 pref 1000")
    assert way(host, "198.51.100.9") == "wg0", "by the cell's own rules"
    assert old.site().changed == []


def test_the_way_into_a_vpn_that_no_record_knows_is_still_refused(old: World) -> None:
    host = old["cella"]
    furnished(host, CONFIG.replace("AllowedIPs = 10.0.1.0/24", "AllowedIPs = 0.0.0.0/0").replace("ListenPort", "Table = off\nListenPort"))
    assert any("leads into somebody else's VPN" in note for note in adopt(host)["notes"])
