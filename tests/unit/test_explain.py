# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What explain says of a device's packets, from the kernel as it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import Route
from ansible_collections.pic.cells.tests.unit.world import World, device_key, program


@pytest.fixture
def cell(linked: World) -> FakeHost:
    """Return a cell whose tunnels carry packets."""
    host = linked["cella"]
    for device in host.wg.values():
        for peer in device.peers.values():
            peer.handshake = int(host.now) - 7
    return host


def verdict(host: FakeHost, peer: str = "phone", address: str = "10.0.0.2") -> str:
    rc, out, err = program(host, "explain", peer, "--json")
    assert (rc, err, host.steps) == (0, "", [])
    return str(next(way["verdict"] for way in json.loads(out)["ways"] if way["address"] == address))


def test_the_whole_way_in_words(cell: FakeHost) -> None:
    assert program(cell, "explain", "phone")[1].splitlines() == [
        "peer phone: the records say via cellb",
        "10.0.0.2: leaves through cell cellb",
        "    device's tunnel: last handshake 7 s ago",
        "    rule 3999: main without defaults, to 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16",
        "    rule 4001: table 4200",
        "    rule 4002: unreachable",
        "    route: default unreachable in table 4200",
        "    route: default through pic-cellb in table 4200",
        "    the kernel sends 192.0.2.1 through pic-cellb by table 4200",
        "    firewall: the cell's chains are there",
        "    firewall: the device is blocked from the uplink",
        "    DNS: what it asks a resolver of this cell leaves by this cell's own connection",
        "    cell cellb: offers an exit; last handshake 7 s ago",
        "fd00:a::2: leaves through cell cellb",
        "    device's tunnel: last handshake 7 s ago",
        "    rule 3999: main without defaults, to fc00::/7, fe80::/10",
        "    rule 4001: table 4200",
        "    rule 4002: unreachable",
        "    route: default unreachable in table 4200",
        "    route: default through pic-cellb in table 4200",
        "    the kernel sends 2001:db8::1 through pic-cellb by table 4200",
        "    firewall: the cell's chains are there",
        "    firewall: the device is blocked from the uplink",
        "    DNS: what it asks a resolver of this cell leaves by this cell's own connection",
        "    cell cellb: offers an exit; last handshake 7 s ago",
    ]


def lose_policy(host: FakeHost) -> None:
    host.rules[4] = [rule for rule in host.rules[4] if rule.proto != 201]


def lose_everything(host: FakeHost) -> None:
    lose_policy(host)
    lose_filter(host)
    host.tables[host.default, 4]["mangle"].rules["FORWARD"].clear()


def lose_filter(host: FakeHost) -> None:
    host.tables[host.default, 4]["filter"].rules["FORWARD"].clear()


def lose_policy_and_filter(host: FakeHost) -> None:
    lose_policy(host)
    lose_filter(host)


def lose_exit_networks(host: FakeHost) -> None:
    for peer in host.wg["pic-cellb"].peers.values():
        peer.allowed = ["10.0.1.0/24"]


def silence(host: FakeHost) -> None:
    for peer in host.wg["pic-cellb"].peers.values():
        peer.handshake = int(host.now) - 3600


def withdraw(host: FakeHost) -> None:
    links = json.loads(host.files["/var/lib/pic/cell_links.json"][1])
    for link in links["links"]:
        link["remote_exit_offered"] = False
    host.files["/var/lib/pic/cell_links.json"] = (0o600, json.dumps(links))
    host.routes = [route for route in host.routes if (route.dev, route.table) != ("pic-cellb", 4200)]


def forget_phone(host: FakeHost) -> None:
    del host.wg["wg0"].peers[device_key("phone")]


def lose_link(host: FakeHost) -> None:
    host.drop_link("pic-cellb")


def forward_nothing(host: FakeHost) -> None:
    host.files["/proc/sys/net/ipv4/ip_forward"] = (0o644, "0\n")


def lose_default(host: FakeHost) -> None:
    host.routes = [route for route in host.routes if (route.dev, route.table) != ("pic-cellb", 4200)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose_policy, "dropped: the routing would let it out through eth0, but the firewall blocks it; 'pic-cell restore' repairs the routing"),
        (lose_policy_and_filter, "dropped: the routing would let it out through eth0, but the firewall blocks it; 'pic-cell restore' repairs the routing"),
        (lose_everything, "leaves through eth0, DIRECTLY, although it is routed via cellb: rules are missing; 'pic-cell restore' puts them back"),
        (lose_exit_networks, "dropped: WireGuard's allowed IPs for cell cellb do not contain this address; 'pic-cell restore' repairs that"),
        (silence, "dropped: the tunnel to cell cellb is silent; that cell is off, or cannot be reached"),
        (withdraw, "dropped: cell cellb offers no exit now"),
        (forget_phone, "dropped: interface wg0 has no peer with this device's key and address"),
        (lose_link, "dropped: the link's interface pic-cellb is missing; 'pic-cell restore' brings it back"),
        (forward_nothing, "dropped: this host does not forward IPv4 packets (net.ipv4.ip_forward is 0)"),
        (lose_default, "dropped: a rule or a route is missing; 'pic-cell restore' puts it back"),
    ],
)
def test_where_a_packet_is_dropped(cell: FakeHost, damage: Callable[[FakeHost], None], said: str) -> None:
    damage(cell)
    assert verdict(cell) == said


def test_the_table_that_our_chains_are_missing_in_is_named(cell: FakeHost) -> None:
    lose_filter(cell)
    out = program(cell, "explain", "phone", "--to", "192.0.2.1")[1]
    assert "firewall: the cell's chains, or the jump to them, are missing in filter\n" in out
    assert "firewall: the device is blocked from the uplink" in out


@pytest.mark.parametrize("network", ["192.0.2.0/24", "192.0.0.0/8", "192.0.2.1/32"])
def test_a_public_route_of_the_host_does_not_come_before_the_exit(cell: FakeHost, network: str) -> None:
    cell.routes.append(Route(4, network, "eth0"))
    assert verdict(cell) == "leaves through cell cellb"


def test_a_policy_rule_of_others_that_comes_before_the_exit_is_no_fault_that_restore_mends(cell: FakeHost) -> None:
    cell.by_hand("ip -4 route add 192.0.2.0/24 dev eth0 table 77")
    cell.by_hand("ip -4 rule add from 10.0.0.0/24 lookup 77 pref 100")
    assert (
        verdict(cell)
        == "dropped: a policy rule or route of this host sends 192.0.2.1 out through eth0, past the exit, but the firewall blocks it. Nothing is missing"
    )
    assert program(cell, "check")[0] == 0


def test_a_device_that_goes_direct(cell: FakeHost) -> None:
    assert verdict(cell, "laptop", "10.0.0.4") == "leaves through eth0, directly"
    cell.routes = [route for route in cell.routes if route.dst != "0.0.0.0/0" or route.table != 254]
    assert verdict(cell, "laptop", "10.0.0.4") == "dropped: the cell itself has no route to the internet"


def test_an_exit_without_a_family(cell: FakeHost) -> None:
    assert verdict(cell, "tablet", "10.0.0.3") == "leaves through cell cellc"
    assert verdict(cell, "tablet", "fd00:a::3") == "dropped: cell cellc cannot be an exit for IPv6"


def test_another_destination(cell: FakeHost) -> None:
    cell.routes.append(Route(4, "172.17.0.0/16", "docker0"))
    out = program(cell, "explain", "phone", "--to", "172.17.0.5")[1]
    assert "the kernel sends 172.17.0.5 through docker0" in out
    assert "10.0.0.2: stays in this cell's own networks, through docker0" in out
    assert "10.0.0.2: goes to cell cellb, which lets through only what it shares" in program(cell, "explain", "phone", "--to", "10.0.1.7")[1]
    assert "fd00:a::2" not in out


def test_what_cannot_be_explained(cell: FakeHost) -> None:
    assert program(cell, "explain", "fridge") == (1, "", "pic-cell: Cell 'cella' has no device 'fridge'. Its devices: laptop, phone, tablet.\n")
    rc, _out, err = program(cell, "explain", "phone", "--to", "home")
    assert rc == 1
    assert "--to" in err


@pytest.mark.parametrize(
    ("peer", "address", "rule", "why"),
    [
        ("laptop", "10.0.0.4", "-I FORWARD 1 -i wg0 -o eth0 -p tcp -m tcp --dport 443 -j DROP", "FORWARD -i wg0 -o eth0 -p tcp --dport 443 -j DROP drops it"),
        ("phone", "10.0.0.2", "-I FORWARD 1 -o pic-cellb -j REJECT", "FORWARD -o pic-cellb -j REJECT drops it"),
        ("laptop", "10.0.0.4", "-I FORWARD 1 -i wg0 -o eth0 -p udp -j DROP", None),
    ],
)
def test_a_rule_of_others_that_drops_it_is_named(cell: FakeHost, peer: str, address: str, rule: str, why: str | None) -> None:
    cell.iptables(4, "filter", rule)
    told = verdict(cell, peer, address)
    assert told == f"dropped: {why}" if why else told.startswith("leaves through eth0, directly")
