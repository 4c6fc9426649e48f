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
    step = host._step

    def watched(name: str, action: Any) -> None:
        step(name, action)
        seen.append((name, verdict(host, ASKED), verdict(host, RUNNING), *(verdict(host, packet) for packet in CLOSED)))

    assert [verdict(host, packet) for packet in (ASKED, RUNNING, *CLOSED)] == [PASSED, PASSED, "DROP", "DROP"]
    host._step = watched  # type: ignore[method-assign]
    try:
        taken_over(old, inventory)
    finally:
        del host._step  # type: ignore[method-assign]
    assert len(seen) > 10
    assert {moment[1:] for moment in seen} == {(PASSED, PASSED, "DROP", "DROP")}, [moment for moment in seen if moment[1:] != (PASSED, PASSED, "DROP", "DROP")]
    assert [rule for rule in host.chain(4, "FORWARD") if "pic-cell" in rule] == []
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
