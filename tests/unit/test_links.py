# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of a cell: tunnels, their peers, addresses, routes and preshared keys, from the first to the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.machine import Killed
from ansible_collections.pic.cells.tests.unit.runs import executed
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key


def test_both_sides_of_each_link_meet(linked: World) -> None:
    for here, there in (("cella", "cellb"), ("cella", "cellc")):
        for one, other in ((here, there), (there, here)):
            device, peers = linked[one].wg[f"pic-{other}"], linked[one].wg[f"pic-{other}"].peers
            assert list(peers) == [linked.public_key(other)]
            endpoint = peers[linked.public_key(other)].endpoint
            assert endpoint is None or endpoint.rpartition(":")[2] == str(linked[other].wg[f"pic-{one}"].port)
            assert device.port == linked.link(one, other)["listen_port"]
    assert linked["cella"].wg["pic-cellc"].peers[linked.public_key("cellc")].endpoint is None, "a cell without an endpoint dials by itself"


def test_each_link_carries_the_own_address_and_routes_with_an_unreachable_one_behind(linked: World) -> None:
    host = linked["cella"]
    assert host.links["pic-cellb"].addresses == ["10.0.0.1/32", "fd00:a::1/128"]
    for network in ("10.0.1.0/24", "fd00:b::/64"):
        routes = {(route.dev, route.metric) for route in host.routes if route.dst == network and route.proto == 201}
        assert routes == {("pic-cellb", 1024 if ":" in network else 0), (None, 4294967295)}


def test_a_cell_without_ipv6_has_no_ipv6_route_into_a_link(linked: World) -> None:
    routes = [route for route in linked["cellc"].routes if route.proto == 201 and route.family == 6]
    assert {(route.dst, route.dev) for route in routes} == {("fd00:a::/64", None)}
    assert "-6 route replace fd00:a::/64 dev" not in (linked["cellc"].read("/etc/wireguard/pic-cella.conf") or "")


def test_a_change_of_a_link_neither_restarts_an_interface_nor_touches_another_peer(linked: World) -> None:
    phone = vars(linked["cella"].wg["wg0"].peers[device_key("phone")]).copy()
    linked.inventory["cellb"].update(cell_endpoint="198.51.100.7")
    linked.inventory["cella"]["cell_links"][0].update(share=[], keepalive=7, mtu=1300)
    linked.site()
    assert not [step for step in linked["cella"].steps if "wg-quick" in step or "addr" in step]
    assert vars(linked["cella"].wg["wg0"].peers[device_key("phone")]) == phone
    peer = linked["cella"].wg["pic-cellb"].peers[linked.public_key("cellb")]
    assert (peer.endpoint, peer.keepalive, linked["cella"].links["pic-cellb"].mtu) == ("198.51.100.7:51821", 7, 1300)


def test_a_link_that_leaves_the_devices_interface_gets_a_port_of_its_own(linked: World) -> None:
    link = linked.inventory["cella"]["cell_links"][0]
    for interface, port in (("wg0", 51820), ("pic-b", 51821)):
        link["interface"] = interface
        linked.site()
        assert (linked.link("cella", "cellb")["listen_port"], linked["cella"].wg[interface].port) == (port, port)
        assert linked["cellb"].wg["pic-cella"].peers[linked.public_key("cella")].endpoint == f"192.0.2.11:{port}"


@pytest.mark.parametrize(("age", "kept"), [(10, True), (134, True), (136, False)])
def test_a_peer_that_has_roamed_is_left_where_its_live_session_is(linked: World, age: int, kept: bool) -> None:
    host = linked["cella"]
    peer = host.wg["pic-cellb"].peers[linked.public_key("cellb")]
    peer.endpoint, peer.handshake = "192.0.2.99:4444", int(host.now) - age
    linked.site()
    assert (peer.endpoint, bool(host.steps)) == (("192.0.2.99:4444", False) if kept else ("192.0.2.12:51821", True))


def test_a_name_that_does_not_resolve_keeps_no_link_from_starting(world: World) -> None:
    known = world["cella"].dns.pop("cellb.example.net")
    run = world.site()
    peer = world["cella"].wg["pic-cellb"].peers[world.public_key("cellb")]
    assert peer.endpoint is None
    assert "The endpoint 'cellb.example.net:51821' of cell cellb does not resolve; it is not used until it does." in run.warnings()
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})
    world["cella"].dns["cellb.example.net"] = known
    world.site()
    assert peer.endpoint == "192.0.2.12:51821"
    world.inventory["cellb"]["cell_endpoint"] = "nowhere.example.net"
    world.site()
    assert peer.endpoint == "192.0.2.12:51821", "a link keeps what it has"
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})


def test_an_interface_that_somebody_has_brought_up_by_hand_goes_with_its_link(linked: World) -> None:
    linked["cella"].active.remove("wg-quick@pic-cellb")
    linked.job("unlink", cell="cella", remote_cell="cellb")
    assert "pic-cellb" not in linked["cella"].text()


@pytest.mark.parametrize("interface", [None, "pic-other", "wg0"])
def test_an_unlink_that_dies_at_any_step_is_completed_by_the_next(linked: World, interface: str | None) -> None:
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = "direct"
    linked.inventory["cella"]["cell_links"][0].update({"interface": interface} if interface else {})
    linked.site()
    host, number = linked["cella"], 0
    calls = [given for given in linked.fork().job("unlink", cell="cella", remote_cell="cellb").calls if given[0] == "cella"]
    for _host, module, args in calls:
        host.reset()
        done = host.fork()
        assert not call(module, done, args).get("failed")
        for step in range(1, len(done.steps) + 1):
            number += 1
            twin = host.fork()
            twin.fail_at, twin.kill = step, True
            with pytest.raises(Killed):
                call(module, twin, args)
            twin.fail_at = None
            assert not call(module, twin, args).get("failed")
            assert twin.text() == done.text(), f"{module}, step {step}: {done.steps[step - 1]}"
            assert {str(flows) for flows in twin.ended} == {str(flows) for flows in done.ended}
        host = done
    assert number > 10


def test_a_link_without_a_preshared_key_gets_one_on_both_sides(linked: World) -> None:
    ends = [("cella", "pic-cellb"), ("cellb", "pic-cella")]
    for cell, interface in ends:
        path = f"/etc/wireguard/{interface}.conf"
        linked[cell].write(path, "".join(line for line in (linked[cell].read(path) or "").splitlines(True) if "PresharedKey" not in line))
        for peer in linked[cell].wg[interface].peers.values():
            peer.psk = None
    linked.site()
    keys = {peer.psk for cell, interface in ends for peer in linked[cell].wg[interface].peers.values()}
    assert len(keys) == 1
    assert None not in keys
    assert executed(linked.site()) == {"cella": [], "cellb": [], "cellc": []}


def test_a_link_with_a_cell_that_was_never_seen_is_pending_and_completed_later(world: World) -> None:
    world.dead = {"cellc"}
    run = world.site()
    assert run.of("cella", "wg_cell_peer")[0]["pending"] == ["cellc"]
    assert run.of("cella", "pic_policy_route")[0]["pending"] == ["tablet"]
    assert {rule.priority for rule in world["cella"].rules[4] if rule.src == "10.0.0.3"} == {4001, 4002}, "expected, not here yet: closed"
    world.dead = set()
    assert world.site().of("cella", "pic_policy_route")[0]["pending"] == []
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})


def test_an_endpoint_that_does_not_resolve_keeps_its_link_waiting_and_ends_no_run(world: World) -> None:
    names, world["cella"].dns = world["cella"].dns, {}
    run = world.site()
    assert any("The endpoint 'cellb.example.net:51821' of cell cellb does not resolve" in text for text in run.warnings())
    assert world["cella"].wg["pic-cellb"].peers[world.public_key("cellb")].endpoint is None
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})
    world["cella"].boot()
    world.site("cella")
    assert "pic-cellb" in world["cella"].wg
    world["cella"].dns = names
    world.site()
    assert world["cella"].wg["pic-cellb"].peers[world.public_key("cellb")].endpoint == "192.0.2.12:51821"
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})


def test_a_reinstalled_cell_is_linked_again_by_its_new_key(linked: World, tmp_path: Path) -> None:
    old = linked.public_key("cellb")
    linked.hosts["cellb"] = FakeHost(tmp_path / "new", "cellb reinstalled")
    linked["cellb"].dns = linked["cella"].dns
    linked.site()
    assert linked.public_key("cellb") != old
    assert list(linked["cella"].wg["pic-cellb"].peers) == [linked.public_key("cellb")]
    for _again in range(2):
        linked.site()
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})
    assert linked.link("cella", "cellb")["remote_exit_offered"]
