# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What explain says of a device's packets, from the kernel as it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ansible_collections.pic.cells.tests.unit.fake_host import FakeHost, Route
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
        "10.0.0.2: leaves by cell cellb",
        "    device's tunnel: last handshake 7 s ago",
        "    rule 4000: main without defaults",
        "    rule 4001: table 4200",
        "    rule 4002: unreachable",
        "    route: default unreachable in table 4200",
        "    route: default through pic-cellb in table 4200",
        "    the kernel sends 192.0.2.1 through pic-cellb by table 4200",
        "    firewall: our chains are there",
        "    firewall: the device is kept from the uplink",
        "    cell cellb: offers an exit; last handshake 7 s ago",
        "fd00:a::2: leaves by cell cellb",
        "    device's tunnel: last handshake 7 s ago",
        "    rule 4000: main without defaults",
        "    rule 4001: table 4200",
        "    rule 4002: unreachable",
        "    route: default unreachable in table 4200",
        "    route: default through pic-cellb in table 4200",
        "    the kernel sends 2001:db8::1 through pic-cellb by table 4200",
        "    firewall: our chains are there",
        "    firewall: the device is kept from the uplink",
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
        (lose_policy, "dropped: the routing would let it out by eth0, the firewall does not; 'pic-cell restore' mends the routing"),
        (lose_policy_and_filter, "dropped: the routing would let it out by eth0, the firewall does not; 'pic-cell restore' mends the routing"),
        (lose_everything, "leaves by eth0, DIRECTLY, although it is routed via cellb: rules are missing; 'pic-cell restore' puts them back"),
        (lose_exit_networks, "dropped: WireGuard does not send cell cellb what goes there; 'pic-cell restore' mends it"),
        (silence, "dropped: the tunnel to cell cellb is silent; it is off, or cannot be reached"),
        (withdraw, "dropped: cell cellb offers no exit now"),
        (forget_phone, "dropped: wg0 does not know the device with this address"),
        (lose_link, "dropped: the link's interface pic-cellb is not there; 'pic-cell restore' brings it back"),
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
    assert "firewall: our chains, or the jump to them, are missing in filter\n" in out
    assert "firewall: the device is kept from the uplink" in out


def test_a_route_of_the_host_that_comes_before_the_exit_is_no_fault_that_restore_mends(cell: FakeHost) -> None:
    cell.routes.append(Route(4, "192.0.2.0/24", "eth0"))
    assert (
        verdict(cell)
        == "dropped: a route of this host sends 192.0.2.1 out by eth0, past the exit; the firewall does not let it. Nothing of pic.cells is missing"
    )
    assert program(cell, "check")[0] == 0


def test_a_device_that_goes_direct(cell: FakeHost) -> None:
    assert verdict(cell, "laptop", "10.0.0.4") == "leaves by eth0, directly"
    cell.routes = [route for route in cell.routes if route.dst != "0.0.0.0/0" or route.table != 254]
    assert verdict(cell, "laptop", "10.0.0.4") == "dropped: the cell itself has no way to the internet"


def test_an_exit_without_a_family(cell: FakeHost) -> None:
    assert verdict(cell, "tablet", "10.0.0.3") == "leaves by cell cellc"
    assert verdict(cell, "tablet", "fd00:a::3") == "dropped: cell cellc is no exit for IPv6"


def test_another_destination(cell: FakeHost) -> None:
    cell.routes.append(Route(4, "172.17.0.0/16", "docker0"))
    out = program(cell, "explain", "phone", "--to", "172.17.0.5")[1]
    assert "the kernel sends 172.17.0.5 through docker0" in out
    assert "10.0.0.2: stays in this cell's own networks, by docker0" in out
    assert "10.0.0.2: goes to cell cellb, which decides what it shares" in program(cell, "explain", "phone", "--to", "10.0.1.7")[1]
    assert "fd00:a::2" not in out


def test_what_cannot_be_explained(cell: FakeHost) -> None:
    assert program(cell, "explain", "fridge") == (1, "", "pic-cell: Cell 'cella' knows no device 'fridge'. It knows laptop, phone, tablet.\n")
    rc, _out, err = program(cell, "explain", "phone", "--to", "home")
    assert rc == 1
    assert "--to" in err
