# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole cells, set up and changed by the role's own sequence of modules."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible import template
from ansible.parsing.dataloader import DataLoader

from ansible_collections.pic.cells.plugins.module_utils import wgconfig
from ansible_collections.pic.cells.plugins.module_utils.command import Result
from ansible_collections.pic.cells.plugins.module_utils.errors import CommandFailed
from ansible_collections.pic.cells.plugins.module_utils.restore import restore
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.tests.unit.fake_host import MAIN, FakeHost, Killed, clamped, made_key
from ansible_collections.pic.cells.tests.unit.world import (
    ANY_DUE,
    ROLE,
    WG0,
    Refusal,
    Run,
    Task,
    World,
    call,
    device_key,
    foreign,
    furnish,
    lose_key,
    program,
    registers,
    three_cells,
)

PSK = made_key("a preshared key")


def lifecycle(world: World) -> list[Callable[[], Run]]:
    """Return the jobs from the first link to the last."""
    return [
        world.site,
        lambda: world.job("route_peer", cell="cella", peer="laptop", via_cell="cellb"),
        lambda: world.job("route_peer", cell="cella", peer="laptop", via_cell="cellc"),
        lambda: world.job("route_peer", cell="cella", peer="laptop", via_cell="direct"),
        lambda: world.job("offer_exit", cell="cellb", remote_cell="cella", offered="no"),
        lambda: world.job("share", cell="cella", remote_cell="cellb", services="none"),
        lambda: world.job("unlink", cell="cella", remote_cell="cellb"),
        lambda: world.job("unlink", cell="cella", remote_cell="cellc"),
    ]


# The first run and the second


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


def test_two_devices_leave_by_two_exits_and_a_third_directly(linked: World) -> None:
    host = linked["cella"]
    tables = {link: linked.link("cella", link)["exit_table"] for link in ("cellb", "cellc")}
    assert {(rule.priority, rule.src, rule.table) for rule in host.rules[4] if rule.proto == 201} == {
        *((4000, "10.0.0.2", MAIN), (4001, "10.0.0.2", tables["cellb"]), (4002, "10.0.0.2", None)),
        *((4000, "10.0.0.3", MAIN), (4001, "10.0.0.3", tables["cellc"]), (4002, "10.0.0.3", None)),
    }
    assert {r.dev for r in host.routes if r.table == tables["cellb"]} == {"pic-cellb", None}
    assert [r.dev for r in host.routes if r.table == tables["cellc"] and r.family == 6] == [None], "an exit without IPv6 makes IPv6 fail at once"
    for link in tables:
        assert "0.0.0.0/0" in host.wg[f"pic-{link}"].peers[linked.public_key(link)].allowed


def test_the_exit_relays_only_for_the_cell_that_asked_and_was_offered(linked: World) -> None:
    assert "-o eth0 -j ACCEPT" in linked["cellb"].chain(4, "PIC-L-cella")
    assert "-s 10.0.0.0/24 -o eth0 -j MASQUERADE" in linked["cellb"].chain(4, "PIC-POST", "nat")
    assert "-o eth0 -j ACCEPT" not in linked["cella"].chain(4, "PIC-L-cellc")


def test_a_second_run_has_no_step(linked: World) -> None:
    before = linked.text()
    run = linked.site()
    assert (run.changed, linked.steps(), linked.text()) == ([], {}, before)


def test_check_mode_writes_nothing(world: World) -> None:
    before = world.text()
    world.site(check=True)
    assert (world.steps(), world.text()) == ({}, before)
    assert not world["cella"].exists("/var/lib/pic")


def test_check_mode_on_virgin_hosts_predicts_the_run(world: World) -> None:
    predicted, done = world.site(check=True), world.site()
    assert predicted.changed == done.changed
    assert predicted.diffs() == done.diffs()


def test_the_difference_never_shows_a_key_that_was_made(world: World) -> None:
    run = world.site()
    assert "identity: public key (generated)\n" in run.of("cella", "wg_cell")[0]["diff"]["after"]
    assert not any(world.public_key(name) in str(run.diffs()) for name in world.hosts)


# Changes

INVENTORY_CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a share revoked": lambda inv: inv["cella"]["cell_links"][0].update(share=["voice"]),
    "a service moved": lambda inv: inv["cella"]["cell_services"][0].update(port=8443),
    "a service removed": lambda inv: (inv["cella"]["cell_services"][1].update(state="absent"), inv["cella"]["cell_links"][0].update(share=["files"])),
    "a new device": lambda inv: inv["cellb"]["cell_peers"].append({"name": "tv", "public_key": device_key("tv"), "addresses": ["10.0.1.9"]}),
    "a device removed": lambda inv: inv["cella"]["cell_peers"][2].update(state="absent"),
    "a routed device removed": lambda inv: inv["cella"]["cell_peers"][0].update(state="absent"),
    "a new address of a routed device": lambda inv: inv["cella"]["cell_peers"][0].update(addresses=["10.0.0.9", "fd00:a::9"]),
    "a device to its first exit": lambda inv: inv["cella"]["cell_peers"][2].update(route_via="cellb"),
    "an offer withdrawn while in use": lambda inv: inv["cella"]["cell_links"][0].update(offer_exit=False) or inv["cellb"]["cell_peers"][0].pop("route_via"),
    "an endpoint with IPv6": lambda inv: inv["cellb"].update(cell_endpoint="2001:db8::7"),
    "another port of a link": lambda inv: inv["cellb"]["cell_links"][0].update(listen_port=51999),
    "another mtu and keepalive": lambda inv: inv["cella"]["cell_links"][0].update(mtu=1380, keepalive=10),
    "a preshared key for a link": lambda inv: inv["cella"]["cell_links"][0].update(preshared_key=PSK),
    "another network of a remote": lambda inv: inv["cellc"].update(cell_networks=["10.0.12.1/24"]),
    "IPv6 for a remote": lambda inv: inv["cellc"].update(cell_networks=["10.0.2.1/24", "fd00:c::1/64"]),
    "an admin network": lambda inv: inv["cellb"].update(cell_admin_networks=["10.0.0.0/24"]),
    "a link removed": lambda inv: (
        inv["cella"]["cell_links"][1].update(state="absent"),
        inv["cella"]["cell_peers"][1].update(route_via="direct"),
        inv["cellc"].pop("cell_links"),
    ),
    "a new link": lambda inv: inv["cellb"]["cell_links"].append({"name": "cellc"}),
    "a link with a cell of somebody else": lambda inv: inv["cellb"]["cell_links"].append(
        {"name": "cellx", "public_key": made_key("x"), "networks": ["10.9.0.0/24"], "address": "10.9.0.1", "endpoint": "192.0.2.99:51820", "preshared_key": PSK}
    ),
    "a link with a cell whose API has another port": lambda inv: inv["cellb"]["cell_links"].append(
        {"name": "cellx", "public_key": made_key("x"), "networks": ["10.9.0.0/24"], "address": "10.9.0.1", "api_url": "http://10.9.0.1:9000"}
    ),
    "IPv6 alone for a cell with an exit": lambda inv: (
        inv["cella"].update(cell_networks=["fd00:a::1/64"], cell_services=[]),
        [peer.update(addresses=peer["addresses"][1:]) for peer in inv["cella"]["cell_peers"]],
        [link.update(share=[]) for link in inv["cella"]["cell_links"]],
    ),
    "a pending link": lambda inv: inv["cellb"]["cell_links"].append({"name": "celly"}),
    "a link to the devices' interface": lambda inv: inv["cella"]["cell_links"][0].update(interface="wg0"),
    "a link to another interface": lambda inv: inv["cella"]["cell_links"][0].update(interface="pic-other"),
}


@pytest.mark.parametrize("name", INVENTORY_CHANGES)
def test_a_change_is_predicted_done_and_done_once(linked: World, name: str) -> None:
    INVENTORY_CHANGES[name](linked.inventory)
    predicted = linked.site(check=True)
    assert linked.steps() == {}
    done = linked.site()
    assert done.changed
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    linked.reset()
    again = linked.site()
    assert (again.changed, linked.steps()) == ([], {})


def test_two_keys_that_nobody_has_made_yet_are_two_peers(world: World) -> None:
    for link in world.inventory["cella"]["cell_links"]:
        link["interface"] = "wg0"
    world.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    predicted, done = world.site(check=True), world.site()
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    assert {world.public_key("cellb"), world.public_key("cellc")} < set(world["cella"].wg["wg0"].peers)


def test_what_somebody_has_damaged_is_predicted(linked: World) -> None:
    for _name, _modules, damage in damages(linked["cella"])[::7]:
        twin = linked.fork()
        damage(twin["cella"])
        predicted, done = twin.site(check=True), twin.site()
        assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("route_peer", {"cell": "cella", "peer": "laptop", "via_cell": "cellb"}),
        ("route_peer", {"cell": "cella", "peer": "phone", "via_cell": "cellc"}),
        ("route_peer", {"cell": "cella", "peer": "phone", "via_cell": "direct"}),
        ("share", {"cell": "cella", "remote_cell": "cellb", "services": "none"}),
        ("share", {"cell": "cella", "remote_cell": "cellc", "services": "files, voice"}),
        ("offer_exit", {"cell": "cella", "remote_cell": "cellc", "offered": "yes"}),
        ("offer_exit", {"cell": "cellb", "remote_cell": "cella", "offered": "no"}),
        ("link", {"cell": "cellb", "remote_cell": "cellc"}),
        ("unlink", {"cell": "cella", "remote_cell": "cellb"}),
    ],
)
def test_a_day_2_job_is_predicted_done_and_done_once(linked: World, kind: str, given: dict[str, str]) -> None:
    predicted = linked.job(kind, check=True, **given)
    assert linked.steps() == {}
    done = linked.job(kind, **given)
    assert done.changed
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    linked.reset()
    again = linked.job(kind, **given)
    assert (again.changed, linked.steps()) == ([], {})


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("route_peer", {"cell": "cella", "peer": "nobody", "via_cell": "cellb"}, "has no peer 'nobody'"),
        ("route_peer", {"cell": "cella", "peer": "phone", "via_cell": "mars"}, "knows no cell 'mars'"),
        ("route_peer", {"cell": "cellb", "peer": "pad", "via_cell": "cellc"}, "has not offered 'cellb' an exit"),
        ("share", {"cell": "cella", "remote_cell": "mars", "services": "files"}, "knows no cell 'mars'"),
        ("offer_exit", {"cell": "cella", "remote_cell": "mars", "offered": "true"}, "knows no cell 'mars'"),
    ],
)
def test_a_day_2_job_that_cannot_be_is_refused_before_anything_changes(linked: World, kind: str, given: dict[str, str], words: str) -> None:
    before = linked.text()
    with pytest.raises(Refusal, match=words):
        linked.job(kind, **given)
    assert linked.text() == before


REFUSED_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "the address of a device that only the record knows": (
        lambda inv: inv["cella"]["cell_peers"].append({**inv["cella"]["cell_peers"].pop(2), "name": "watch"}),
        "Address 10.0.0.4 of peer 'watch' is already that of peer 'laptop'",
    ),
    "networks without a device that only the record knows": (
        lambda inv: inv["cellb"].update(cell_networks=["10.0.7.1/24"], cell_peers=[]),
        "Address 10.0.1.2 of peer 'pad' is in none of the cell's networks 10.0.7.0/24",
    ),
    "a way through a cell that never offered": (
        lambda inv: (inv["cellb"]["cell_links"].append({"name": "cellc"}), inv["cellb"]["cell_peers"][0].update(route_via="cellc")),
        "'cellc': that cell has not offered 'cellb' an exit",
    ),
    "a way through somebody else's cell without a link": (lambda inv: inv["cellb"]["cell_peers"][0].update(route_via="cellx"), "'cellb' has no link with it"),
    "the port of another link": (lambda inv: inv["cella"]["cell_links"][0].update(listen_port=51822), "51822 of link 'cellc' is already that of link 'cellb'"),
    "the port of the devices": (lambda inv: inv["cella"]["cell_links"][0].update(listen_port=51820), "51820 of link 'cellb' is already that of the devices"),
    "ports that change places": (
        lambda inv: [link.update(listen_port=port) for link, port in zip(inv["cella"]["cell_links"], (51822, 51821))],
        "Port 51821 of interface 'pic-cellc' is still that of 'pic-cellb'",
    ),
    "two exits on one interface": (
        lambda inv: [link.update(interface="wg0") for link in inv["cella"]["cell_links"]],
        "link 'cellc' there has 0.0.0.0/0",
    ),
}


@pytest.mark.parametrize("name", REFUSED_CHANGES)
def test_a_change_that_cannot_be_is_refused_before_anything_changes(linked: World, name: str) -> None:
    change, words = REFUSED_CHANGES[name]
    change(linked.inventory)
    for check in (True, False):
        with pytest.raises(Refusal, match=words):
            linked.site(check=check)
        assert linked.steps() == {}


def test_a_device_moves_between_two_exits_on_the_devices_interface(world: World) -> None:
    host, cell = world["cella"], world.inventory["cella"]
    for peer in cell["cell_peers"]:
        peer.pop("route_via", None)
    for link in cell["cell_links"]:
        link["interface"] = "wg0"
    world.inventory["cellc"]["cell_links"][0]["offer_exit"] = True
    world.site()
    for via in ("cellb", "cellc", "cellb", "direct"):
        world.job("route_peer", cell="cella", peer="laptop", via_cell=via)
        sections = str(host.read("/etc/wireguard/wg0.conf")).split("[Peer]")
        for name in ("cellb", "cellc"):
            key = world.public_key(name)
            assert ("0.0.0.0/0" in host.wg["wg0"].peers[key].allowed, "0.0.0.0/0" in next(s for s in sections if key in s)) == (name == via, name == via)
        world.reset()
        assert (world.site().changed, world.steps()) == ([], {})


def test_the_inventorys_silence_keeps_what_a_day_2_job_did(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    before = linked.text()
    linked.site()
    assert linked.text() == before


@pytest.mark.parametrize(("stated", "left"), [(None, ["10.0.1.0/24"]), ([""], ["10.0.1.0/24"]), ([], [])])
def test_admin_networks_stay_in_silence_and_go_when_none_are_stated(linked: World, stated: list[str] | None, left: list[str]) -> None:
    linked.inventory["cella"]["cell_admin_networks"] = ["10.0.1.0/24"]
    linked.site()
    linked.inventory["cella"]["cell_admin_networks"] = stated
    linked.site()
    assert linked.record("cella", "cell.json")["admin_networks"] == left
    assert linked["cella"].chain(4, "PIC-I-cellb").count("-s 10.0.1.0/24 -j ACCEPT") == len(left)


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


def test_a_renumbered_cell_keeps_no_address_of_before(linked: World) -> None:
    linked.inventory["cellc"].update(cell_networks=["10.0.12.1/24"])
    linked.site()
    assert (linked["cellc"].links["wg0"].addresses, linked["cellc"].links["pic-cella"].addresses) == (["10.0.12.1/24"], ["10.0.12.1/32"])


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


# What is not ours


@pytest.mark.parametrize("family", [4, 6])
def test_a_table_and_priorities_of_somebody_else_are_left_to_them(world: World, family: int) -> None:
    network = "192.0.2.0/25" if family == 4 else "2001:db8::/64"
    host = world["cella"]
    host.by_hand(f"ip -{family} route add {network} dev eth0 table 4200")
    host.by_hand(f"ip -{family} rule add from {network} lookup 4200 pref 4001")
    before = foreign(host)
    world.site()
    assert world.link("cella", "cellb")["exit_table"] not in (None, 4200)
    assert {rule.priority for rule in host.rules[family] if rule.proto == 201} == {4010, 4011, 4012}
    assert foreign(host) == before


def test_the_whole_life_of_links_leaves_everything_foreign_as_it_was(world: World) -> None:
    furnish(world["cella"])
    before = foreign(world["cella"])
    for job in lifecycle(world):
        job()
        assert foreign(world["cella"]) == before


def test_an_existing_devices_interface_keeps_its_key_its_peers_and_its_settings(world: World) -> None:
    host = world["cella"]
    furnish(host)
    television = vars(host.wg["wg0"].peers[device_key("television")]).copy()
    world.site()
    assert vars(host.wg["wg0"].peers[device_key("television")]) == television
    assert host.wg["wg0"].private == clamped(made_key("an older key"))
    assert made_key("an older key") == (host.read("/var/lib/pic/identity.key") or "").strip()
    text = host.read("/etc/wireguard/wg0.conf") or ""
    assert "# the television" in text
    assert "# somebody's own" in text
    assert "wg-quick down wg0" not in host.steps


def test_an_address_that_somebody_gave_the_devices_interface_stays(world: World) -> None:
    host = world["cella"]
    furnish(host)
    host.write("/etc/wireguard/wg0.conf", WG0.replace("Address = 10.0.0.1/24,", "Address = 10.66.0.1/24, 10.0.0.1/24,"))
    host.by_hand("systemctl restart wg-quick@wg0")
    world.site()
    assert wgconfig.addresses_of(host.read("/etc/wireguard/wg0.conf")) == ["10.66.0.1/24", "10.0.0.1/24", "fd00:a::1/64"]
    world.inventory["cella"]["cell_networks"] = ["10.0.3.1/24", "fd00:a::1/64"]
    world.inventory["cella"].update(cell_peers=[], cell_services=[], cell_links=[{"name": "cellb"}, {"name": "cellc"}])
    world.inventory["cella"]["cell_peers"] = [{"name": name, "state": "absent"} for name in ("phone", "tablet", "laptop")]
    world.site()
    assert wgconfig.addresses_of(host.read("/etc/wireguard/wg0.conf")) == ["10.66.0.1/24", "fd00:a::1/64", "10.0.3.1/24"]


def test_a_comment_behind_a_header_hides_no_section(world: World) -> None:
    host = world["cella"]
    furnish(host)
    text = WG0.replace("[Interface]", "[Interface] # at home").replace("[Peer]", "[Peer] # in the living room")
    host.write("/etc/wireguard/wg0.conf", text + f"\n[Peer] # mine\nPublicKey = {device_key('phone')}\nAllowedIPs = 10.0.0.2/32\n")
    world.site()
    text = host.read("/etc/wireguard/wg0.conf") or ""
    assert [text.count(word) for word in ("[Interface] # at home", "[Interface]", "[Peer] # in the living room", device_key("phone"))] == [1, 1, 1, 1]


def test_an_exit_on_an_existing_devices_interface_does_not_take_the_host_along_at_the_next_boot(world: World) -> None:
    host = world["cella"]
    furnish(host)
    world.inventory["cella"]["cell_links"][0].update(interface="wg0")
    world.site()
    assert "0.0.0.0/0" in host.wg["wg0"].peers[world.public_key("cellb")].allowed
    assert (host.read("/etc/wireguard/wg0.conf") or "").count("Table = off") == 1
    host.boot()  # the fake refuses a default route without Table = off


def test_networkd_is_told_to_leave_our_rules_and_routes_alone(linked: World) -> None:
    host = linked["cella"]
    mode, text = host.files["/etc/systemd/networkd.conf.d/90-pic-cells.conf"]
    assert (mode, "ManageForeignRoutingPolicyRules=no" in text) == (0o644, True)
    host.remove("/etc/systemd/networkd.conf.d/90-pic-cells.conf")
    assert [(where, task.split()[1]) for where, task in linked.site().changed] == [("cella", "wg_cell")]


def test_link_use_unlink_leaves_the_host_as_before(linked: World) -> None:
    host = linked["cella"]
    for name in ("phone", "tablet"):
        linked.job("route_peer", cell="cella", peer=name, via_cell="direct")
    linked.job("route_peer", cell="cellb", peer="pad", via_cell="direct")
    linked.job("unlink", cell="cella", remote_cell="cellb")
    without = [line for line in host.text().splitlines() if not line.startswith("file /var/lib/pic")]
    linked.job("link", cell="cella", remote_cell="cellb", services="files", offered="yes")
    linked.job("route_peer", cell="cella", peer="phone", via_cell="cellb")
    assert "pic-cellb" in host.text()
    linked.job("route_peer", cell="cella", peer="phone", via_cell="direct")
    linked.job("unlink", cell="cella", remote_cell="cellb")
    assert [line for line in host.text().splitlines() if not line.startswith("file /var/lib/pic")] == without


def test_an_interface_that_somebody_has_brought_up_by_hand_goes_with_its_link(linked: World) -> None:
    linked["cella"].active.remove("wg-quick@pic-cellb")
    linked.job("unlink", cell="cella", remote_cell="cellb")
    assert "pic-cellb" not in linked["cella"].text()


def test_cell_a_goes_and_cell_ab_stays(tmp_path: Path) -> None:
    inventory = {
        "me": {"cell_networks": ["10.0.0.1/24"], "cell_services": [{"name": "files", "address": "10.0.0.1", "port": 443}], "cell_links": []},
        "a": {"cell_networks": ["10.0.1.1/24"]},
        "ab": {"cell_networks": ["10.0.2.1/24"]},
    }
    inventory["me"]["cell_links"] = [{"name": "a", "share": ["files"]}, {"name": "ab", "share": ["files"]}]
    world = World(tmp_path, inventory)
    world.site()
    before = [line for line in world["me"].text().splitlines() if re.search(r"pic-(cell-)?ab\b|PIC-.-ab\b", line)]
    world.job("unlink", cell="me", remote_cell="a")
    text = world["me"].text()
    assert not re.search(r"pic-(cell-)?a\b|PIC-.-a\b", text)
    after = [line for line in text.splitlines() if re.search(r"pic-(cell-)?ab\b|PIC-.-ab\b", line)]
    assert [re.sub(r" \d{3} ", " ", line) for line in after] == [re.sub(r" \d{3} ", " ", line) for line in before]


# Damage and repair


def test_after_a_boot_all_is_as_before(linked: World) -> None:
    before = linked["cella"].text()
    linked["cella"].boot()
    assert linked["cella"].text() != before
    linked.site("cella")
    assert linked["cella"].text() == before


def damages(host: FakeHost) -> list[tuple[str, list[str], Callable[[FakeHost], object]]]:
    """Return a damage for each thing of ours in the kernel, with the modules that repair it."""
    found: list[tuple[str, list[str], Callable[[FakeHost], object]]] = []
    for family, table in ((family, table) for family in (4, 6) for table in ("filter", "nat", "mangle")):
        for chain, rules in host.tables[host.default, family][table].rules.items():

            def of(twin: FakeHost, family: int = family, table: str = table, chain: str = chain) -> list[tuple[str, ...]]:
                return twin.tables[twin.default, family][table].rules[chain]

            kinds = {"without its last rule": lambda h, of=of: of(h).pop(), "with its first rule twice": lambda h, of=of: of(h).append(of(h)[0])}
            kinds["reordered"] = lambda h, of=of: of(h).reverse()
            for kind, damage in list(kinds.items())[: min(len(rules) + 1, 3) if rules else 0]:
                found.append((f"IPv{family} {table} {chain} {kind}", ["pic_cell_rules"], damage))
    found += [(f"{rule} gone", ["pic_policy_route"], lambda h, n=number: h.rules[4].pop(n)) for number, rule in enumerate(host.rules[4]) if rule.proto == 201]
    tunnels = ["wg_cell", "wg_cell_peer", "pic_policy_route"]
    found += [(f"{route} gone", tunnels[1:], lambda h, n=number: h.routes.pop(n)) for number, route in enumerate(host.routes) if route.proto == 201]
    for name in host.wg:
        found.append((f"{name} gone", tunnels, lambda h, n=name: h.drop_link(n)))
        found.append((f"{name} down", tunnels, lambda h, n=name: h.by_hand("ip -batch -", f"link set dev {n} down\n")))
        found.append((f"{name} on another port", tunnels, lambda h, n=name: setattr(h.wg[n], "port", 7)))
        found.append((f"{name} with another key", tunnels, lambda h, n=name: setattr(h.wg[n], "private", PSK)))
        found.append((f"{name} without peers", tunnels, lambda h, n=name: h.wg[n].peers.clear()))
    return found


def test_whatever_is_damaged_is_repaired(linked: World) -> None:
    host = linked["cella"]
    linked.every_step = True
    args = {module: args for name, module, args in linked.site().calls if name == "cella"}
    wanted = host.text()
    for name, modules, damage in damages(host):
        twin = host.fork()
        damage(twin)
        for module in modules:
            assert not call(module, twin, args[module]).get("failed"), name
        assert twin.text() == wanted, name


def test_a_jump_behind_a_foreign_rule_that_could_decide_goes_before_it(linked: World) -> None:
    linked["cella"].iptables(4, "filter", "-I FORWARD 1 -i wg0 -j DROP")
    linked.site("cella")
    assert linked["cella"].chain(4, "FORWARD") == ["-j PIC-FWD", "-i wg0 -j DROP"]


def test_drift_names_what_is_missing_and_nothing_else(linked: World) -> None:
    assert call("pic_cell_info", linked["cella"], {})["drift"] == []
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    assert [line[:40] for line in call("pic_cell_info", linked["cella"], {})["drift"]] == [
        "missing: IPv4 filter: PIC-S-cellb -j DRO",
        "missing: IPv4 filter: PIC-S-cellb -p tcp",
        "missing: IPv4 filter: PIC-S-cellb -p udp",
    ]
    assert linked.steps() == {}


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


VOICE = ["-D", "-f", "ipv4", "-p", "udp", "-s", "10.0.1.0/24", "--orig-dst", "10.0.0.3", "--orig-port-dst", "5060"]


@pytest.mark.parametrize("kill", [False, True], ids=["failing", "killed"])
def test_flows_of_a_revoked_share_end_at_whatever_step_a_run_has_ended(linked: World, kill: bool) -> None:
    args = {"name": "cellb", "share": ["files"]}
    done = linked["cella"].fork()
    call("pic_cell_rules", done, args)
    assert VOICE in done.ended
    for step in range(1, len(done.steps) + 1):
        host = linked["cella"].fork()
        host.fail_at, host.fails, host.kill = step, 99, kill
        with pytest.raises(Killed) if kill else contextlib.nullcontext():
            call("pic_cell_rules", host, args)
        host.fail_at = None
        call("pic_cell_rules", host, {"cells": []} if step > 2 else args)
        assert VOICE in host.ended, done.steps[step - 1]
        assert host.text() == done.text()


@pytest.mark.parametrize("change", [{"port": 5061}, {"address": "10.0.0.4"}, {"protocol": "tcp"}, {"state": "absent"}])
def test_flows_of_a_shared_service_that_moves_or_goes_end(linked: World, change: dict[str, Any]) -> None:
    linked.inventory["cella"]["cell_services"][1].update(change)
    if "state" in change:
        linked.inventory["cella"]["cell_links"][0]["share"] = ["files"]
    linked.site()
    assert VOICE in linked["cella"].ended
    guard = "-s 10.0.0.3 -p udp -m udp --sport 5060 -m conntrack --ctstate NEW -j DROP"
    assert guard in linked["cella"].chain(4, "PIC-GUARD"), "its server still sends from there"
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})


class Rival(FakeHost):
    """A host on which somebody puts back all rules of before, some times, just after they were changed."""

    def prepare(self, times: int) -> None:
        """Remember the rules as they are now."""
        self.times, self.kept = times, copy.deepcopy(self.tables)

    def run(self, argv: Sequence[str], *args: Any, **more: Any) -> Result:
        """Run a command, and undo it."""
        result = super().run(argv, *args, **more)
        if argv[0].endswith("-restore") and self.times:
            self.times -= 1
            self.tables = copy.deepcopy(self.kept)
        return result


@pytest.mark.parametrize(("times", "ends_well"), [(1, True), (2, True), (50, False)])
def test_rules_that_a_rival_takes_back_are_written_again_within_bounds(linked: World, times: int, ends_well: bool) -> None:
    host = linked["cella"]
    vars(twin := Rival(host.root)).update(vars(host.fork()))
    twin.prepare(times)
    result = call("pic_cell_rules", twin, {"name": "cellb", "share": ["voice"]})
    assert bool(result.get("failed")) != ends_well
    if ends_well:
        call("pic_cell_rules", host, {"name": "cellb", "share": ["voice"]})
        assert twin.text() == host.text()
    else:
        assert "something else undid it" in result["msg"]


def test_a_restore_that_a_rival_has_outrun_is_planned_anew(linked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = linked["cella"]
    host.iptables(4, "filter", "-I FORWARD 1 -j DROP")
    run = host.run

    def outrun(argv: Sequence[str], *args: Any, **more: Any) -> Result:
        if argv[0] == "iptables-restore":
            host.tables["-nft", 4]["filter"].rules["FORWARD"].clear()  # the jump that is to be moved is not there any more
        return run(argv, *args, **more)

    monkeypatch.setattr(host, "run", outrun)
    assert not call("pic_cell_rules", host, {"cells": []}).get("failed")
    assert host.chain(4, "FORWARD") == ["-j PIC-FWD"]


@pytest.mark.parametrize(("fails", "ends_well"), [(1, True), (3, True), (99, False)])
@pytest.mark.parametrize(
    ("code", "words"),
    [(4, "Another app is currently holding the xtables lock."), (124, "no end within 60 s"), (1, "iptables-restore: line 9 failed")],
    ids=["locked", "slow", "failing"],
)
def test_a_restore_that_fails_is_tried_again_within_bounds_and_then_shown(
    linked: World, monkeypatch: pytest.MonkeyPatch, code: int, words: str, fails: int, ends_well: bool
) -> None:
    host, tries = linked["cella"], []
    run = host.run

    def failing(argv: Sequence[str], stdin: str | None = None, **more: Any) -> Result:
        if argv[0] == "iptables-restore":
            assert argv[1:] == ("--noflush", "-w", "10"), "it does not wait for the lock, or for ever"
            tries.append(stdin)
            if len(tries) <= fails:
                raise CommandFailed(argv, code, words, stdin)
        return run(argv, stdin, **more)

    monkeypatch.setattr(host, "run", failing)
    result = call("pic_cell_rules", host, {"name": "cellb", "share": ["voice"]})
    assert bool(result.get("failed")) != ends_well
    assert len(tries) == min(fails + 1, 4)
    if not ends_well:
        assert f"exit code {code}: {words}" in result["msg"]
        assert (result["cmd"][0], result["rc"], result["stdin"]) == ("iptables-restore", code, tries[0])
        assert "*filter\n:PIC-S-cellb" in result["stdin"]


@pytest.mark.parametrize("module", ["pic_cell_rules", "pic_policy_route"])
def test_rules_that_cannot_be_read_are_not_taken_for_none(linked: World, module: str) -> None:
    host = linked["cella"]
    hidden = "".join(f"# Table `{table}' is incompatible, use 'nft' tool.\n" for table in ("filter", "mangle"))
    host.answers["iptables-save",] = Result(0, "", hidden)
    args = {"pic_cell_rules": {"name": "cellb", "share": []}, "pic_policy_route": {"peer": "laptop", "via_cell": "cellb"}}
    result = call(module, host, args[module])
    assert result["failed"]
    assert "iptables-save does not show" in result["msg"] and "nft list table ip filter" in result["msg"]
    assert host.steps == []


def test_a_corrupt_record_is_set_aside_and_closes_what_it_allowed(linked: World) -> None:
    host = linked["cella"]
    host.write("/var/lib/pic/cell_links.json", "{garbage")
    rules = call("pic_cell_rules", host, {"cells": []})
    assert "cell_links.json cannot be read" in rules["warnings"][0]
    assert [rule for rule in host.chain(4, "PIC-PATH") if "cellb" in rule] == []
    run = linked.site("cella")
    assert run.of("cella", "wg_cell")[0]["warnings"]
    assert host.read("/var/lib/pic/cell_links.json.corrupt") == "{garbage"
    assert {link["name"] for link in linked.record("cella")["links"]} == {"cellb", "cellc"}


# Fail closed


def test_a_device_that_moves_is_never_without_its_last_rule(linked: World) -> None:
    host, seen = linked["cella"], Counter[str]()

    def watch(step: str) -> None:
        sources = {rule.src for rule in host.rules[4] if rule.priority == 4002}
        ways = {rule.src: rule.table for rule in host.rules[4] if rule.priority == 4001}
        seen[step.split(maxsplit=1)[0]] += 1
        if "-s 10.0.0.4/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED") and "10.0.0.4" in ways:
            assert "10.0.0.4" in sources, step
        if step.startswith("conntrack") and "10.0.0.4" in step:
            assert "10.0.0.4" not in ways, "flows end while there is no way out"
            assert "10.0.0.4" in sources

    host.watch = watch
    for via in ("cellb", "cellc", "direct"):
        linked.job("route_peer", cell="cella", peer="laptop", via_cell=via)
    assert seen["conntrack"] >= 6


def test_the_exit_relays_before_the_device_is_sent_there(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="tablet", via_cell="direct")
    assert "-o eth0 -j ACCEPT" not in linked["cellc"].chain(4, "PIC-L-cella")
    relays: list[bool] = []
    linked["cella"].watch = lambda step: relays.append("-o eth0 -j ACCEPT" in linked["cellc"].chain(4, "PIC-L-cella")) if "rule add" in step else None
    linked.job("route_peer", cell="cella", peer="tablet", via_cell="cellc")
    assert relays
    assert all(relays)


def test_a_device_is_closed_in_even_if_its_exits_interface_is_not_there(linked: World) -> None:
    host = linked["cella"]
    for exit_cell in ("cellb", "cellc"):
        host.drop_link(f"pic-{exit_cell}")
    host.rules = {family: [rule for rule in host.rules[family] if rule.proto != 201] for family in (4, 6)}
    assert 'Cannot find device "pic-cellb"' in call("pic_policy_route", host, {"routes": []})["msg"]
    for family, sources in ((4, {"10.0.0.2", "10.0.0.3"}), (6, {"fd00:a::2", "fd00:a::3"})):
        for priority in (4000, 4002):
            assert {rule.src for rule in host.rules[family] if rule.priority == priority} == sources


def test_a_routed_devices_new_address_does_not_work_before_it_is_closed_in(linked: World) -> None:
    host, seen = linked["cella"], []

    def watch(_step: str) -> None:
        if any("10.0.0.9/32" in peer.allowed for peer in host.wg["wg0"].peers.values()):
            seen.append("-s 10.0.0.9/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED") and "-s fd00:a::9/128 -j PIC-HOME" in host.chain(6, "PIC-ROUTED"))

    host.watch = watch
    linked.inventory["cella"]["cell_peers"][0].update(addresses=["10.0.0.9", "fd00:a::9"])
    linked.site()
    assert seen
    assert all(seen)


@pytest.mark.parametrize("first_day", [False, True])
def test_a_new_device_that_is_to_be_routed_is_closed_in_before_it_is_let_in(world: World, first_day: bool) -> None:
    host, seen = world["cella"], []
    laptop = world.inventory["cella"]["cell_peers"].pop()
    if not first_day:
        world.site()
    world.inventory["cella"]["cell_peers"].append({**laptop, "route_via": "cellc"})

    def watch(_step: str) -> None:
        if "wg0" in host.wg and device_key("laptop") in host.wg["wg0"].peers:
            found = {address: {rule.priority for family in (4, 6) for rule in host.rules[family] if rule.src == address} for address in laptop["addresses"]}
            seen.append(all({4000, 4002} <= rules for rules in found.values()) and "-s 10.0.0.4/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED"))

    host.watch = watch
    world.site()
    assert seen
    assert all(seen)
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.4"} == {4000, 4001, 4002}


@pytest.mark.parametrize("legacy", [False, True])
def test_after_a_switch_of_the_iptables_variant_our_rules_are_in_the_new_one_alone(linked: World, legacy: bool) -> None:
    host = linked["cella"]
    if legacy:
        host.default = "-legacy"
        linked.site()
        host.default = "-nft"
    else:
        host.default = "-legacy"
    host.iptables(4, "filter", "-A INPUT -i lo -j ACCEPT")
    predicted, done = linked.site(check=True), linked.site()
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    for family in (4, 6):
        for variant, used in (("-nft", legacy), ("-legacy", not legacy)):
            chains = {chain for table in host.tables[variant, family].values() for chain in table.rules}
            assert any(chain.startswith("PIC-") for chain in chains) == used, (family, variant)
    assert linked.site().changed == []


def test_an_offer_stands_until_a_run_reaches_the_cell_that_makes_it(linked: World) -> None:
    """Else each run would close what the cell itself opens again, because its records say so."""
    linked.inventory["cellb"]["cell_links"][0]["offer_exit"] = False
    linked.inventory["cella"]["cell_peers"][0].pop("route_via")
    assert linked.site("cella").changed == []
    assert restore(linked["cella"], "/var/lib/pic").repairs == []
    linked.dead = {"cellb"}
    linked.site("cella", "cellb", "cellc")  # notes that cellb is not reached
    assert linked.link("cella", "cellb")["exit_relay_active"]
    assert linked.site("cella", "cellb", "cellc").changed == []
    linked.dead = set()
    linked.site()
    assert not linked.link("cella", "cellb")["exit_relay_active"]
    assert restore(linked["cella"], "/var/lib/pic").repairs == []


def test_a_link_keeps_its_addresses_while_the_cells_own_record_cannot_be_read(linked: World) -> None:
    host = linked["cella"]
    before = (host.links["pic-cellb"].addresses, host.routes)
    host.write("/var/lib/pic/cell.json", "{")
    result = call("wg_cell_peer", host, {"name": "cellb"})
    assert "cell.json cannot be read" in " ".join(result["warnings"])
    assert (host.links["pic-cellb"].addresses, host.routes) == before


def test_a_new_device_stays_closed_in_when_the_run_ends_before_its_way_is_there(world: World) -> None:
    host = world["cella"]
    laptop = {**world.inventory["cella"]["cell_peers"].pop(), "route_via": "cellc"}
    world.site()
    for _attempt in range(2):
        result = call("wg_cell", host, {"peers": [laptop]})
        assert "-s 10.0.0.4/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED"), result
        assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.4"} == {4000, 4002}
    assert not result["changed"]
    call("pic_policy_route", host, {"peer": "laptop", "via_cell": "direct"})
    assert [rule for rule in host.rules[4] if rule.src == "10.0.0.4"] == []


def test_a_device_that_goes_direct_now_is_not_closed_in_before_its_way_is_there(linked: World) -> None:
    host = linked["cella"]
    assert not call("wg_cell", host, {"peers": [{"name": "laptop", "route_via": "cellc"}]})["changed"]
    assert [rule for rule in host.rules[4] if rule.src == "10.0.0.4"] == []


def test_a_withdrawn_offer_leaves_only_unreachable(linked: World) -> None:
    run = linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="false")
    host = linked["cella"]
    table = linked.link("cella", "cellb")["exit_table"]
    assert {route.dev for route in host.routes if route.table == table} == {None}
    assert "0.0.0.0/0" not in host.wg["pic-cellb"].peers[linked.public_key("cellb")].allowed
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.2"} == {4000, 4001, 4002}
    assert "-o eth0 -j ACCEPT" not in linked["cellb"].chain(4, "PIC-L-cella")
    assert ["-D", "-f", "ipv4", "-s", "10.0.0.0/24", "-n"] in linked["cellb"].ended
    assert any("'phone' is routed via 'cellb', which does not offer an exit now" in text for text in run.warnings())


def test_an_exit_ends_the_flows_of_a_cell_that_has_stopped_using_it(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="phone", via_cell="direct")
    assert ["-D", "-f", "ipv4", "-s", "10.0.0.0/24", "-n"] in linked["cellb"].ended


def test_unlinking_an_exit_in_use_fails_closed(linked: World) -> None:
    linked.job("unlink", cell="cella", remote_cell="cellb")
    host = linked["cella"]
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.2"} == {4000, 4002}
    assert "-s 10.0.0.2/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED")
    assert not [route for route in host.routes if route.table == 4200]


@pytest.mark.parametrize("boot", [False, True])
def test_a_registry_of_devices_that_cannot_be_read_lets_none_leave_directly(linked: World, boot: bool) -> None:
    host = linked["cella"]
    host.write("/var/lib/pic/peer_registry.json", "{garbage")
    if boot:
        host.boot()
    rules = copy.deepcopy(host.rules)
    assert not call("pic_cell_rules", host, {"cells": []}).get("failed")
    assert not call("pic_policy_route", host, {"routes": []}).get("failed")
    assert host.rules == rules
    assert host.chain(4, "PIC-ROUTED") == ["-s 10.0.0.0/24 -j PIC-HOME"]
    assert "cannot be read" in call("pic_policy_route", host, {"peer": "phone", "addresses": ["10.0.0.2"], "via_cell": "direct"})["msg"]


def test_a_registry_that_cannot_be_read_is_made_anew_with_the_ways_that_the_kernel_has(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    wanted = linked.record("cella", "peer_registry.json"), linked["cella"].text(files=False)
    linked["cella"].write("/var/lib/pic/peer_registry.json", "{garbage")
    linked.site()
    assert (linked.record("cella", "peer_registry.json"), linked["cella"].text(files=False)) == wanted


def test_the_guard_stops_what_is_invalid_too(linked: World) -> None:
    assert linked["cella"].chain(4, "PIC-GUARD")[0] == "-p tcp -m conntrack --ctstate INVALID -j DROP"


def test_an_admin_network_reaches_the_cell_but_not_its_api(linked: World) -> None:
    linked.inventory["cella"]["cell_admin_networks"] = ["10.0.1.0/24"]
    linked.site()
    assert linked["cella"].chain(4, "PIC-I-cellb") == [
        "-s 10.0.1.1 -d 10.0.0.1 -p tcp -m tcp --dport 8088 -j ACCEPT",
        "-d 10.0.0.1 -p tcp -m tcp --dport 8088 -j DROP",
        "-s 10.0.1.0/24 -j ACCEPT",
        "-g PIC-S-cellb",
    ]
    assert linked["cella"].chain(4, "PIC-S-cellb")[-1] == "-j DROP"


def test_only_own_devices_reach_a_link_on_the_devices_interface(linked: World) -> None:
    linked.inventory["cella"]["cell_links"][0].update(interface="wg0")
    linked.site()
    path = linked["cella"].chain(4, "PIC-PATH")
    accepted = path.index("-i wg0 -o wg0 -d 10.0.1.0/24 -s 10.0.0.0/24 -j ACCEPT")
    assert path.index("-o wg0 -d 10.0.1.0/24 -j DROP") > accepted
    assert "-o pic-+ -j DROP" in path


def test_the_cell_hears_the_answers_to_what_it_asks_over_a_link_on_the_devices_interface(linked: World) -> None:
    linked.inventory["cella"]["cell_links"][0].update(interface="wg0")
    linked.site()
    rules = linked["cella"].chain(4, "PIC-IN")
    answers = rules.index("-i wg0 -s 10.0.1.0/24 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
    assert answers < rules.index("-i wg0 -s 10.0.1.0/24 -g PIC-I-cellb")


def test_over_the_devices_interface_a_linked_cell_cannot_send_in_the_name_of_others(world: World) -> None:
    """As its exit it has 0.0.0.0/0 there: WireGuard takes any address from it that no other peer has."""
    host = world["cella"]
    furnish(host)
    world.inventory["cella"]["cell_links"][0].update(interface="wg0")
    world.site()
    assert "0.0.0.0/0" in host.wg["wg0"].peers[world.public_key("cellb")].allowed
    others = sorted(network for key, peer in host.wg["wg0"].peers.items() if key != world.public_key("cellb") for network in peer.allowed if ":" not in network)
    assert len(others) > 1, "somebody else's peer is on it too"
    senders = host.chain(4, "PIC-SENDER")
    assert sorted(senders[:-1]) == sorted(f"-s {network} -j RETURN" for network in [*others, "10.0.1.0/24"])
    assert senders[-1] == "-g PIC-BACK"
    path, to_cell = host.chain(4, "PIC-PATH"), host.chain(4, "PIC-IN")
    assert path.index("-i wg0 -j PIC-SENDER") < path.index("-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
    assert to_cell.index("-i wg0 -j PIC-SENDER") < to_cell.index("-i wg0 -s 10.0.1.0/24 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
    world.inventory["cella"]["cell_links"][0]["interface"] = "pic-cellb"
    world.site()
    assert "PIC-SENDER" not in host.text()


def test_an_uplink_known_by_router_advertisements_is_named(linked: World) -> None:
    host = linked["cella"]
    next(route for route in host.routes if route.family == 6 and route.dst == "::/0" and route.dev == "eth0").proto = 9
    for value, named in (("0", []), ("1", ["eth0"]), ("2", [])):
        host.write("/proc/sys/net/ipv6/conf/eth0/accept_ra", f"{value}\n")
        assert call("pic_cell_info", host, {})["advertised"] == named


def test_forwarding_that_is_off_or_would_be_after_a_reboot_is_named(linked: World) -> None:
    host, both = linked["cella"], ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]
    host.remove("/etc/sysctl.d/90-pic-cells.conf")
    for name in both:
        host.write(f"/proc/sys/{name.replace('.', '/')}", "1\n")
    assert call("pic_cell_info", host, {})["unforwarded"] == both
    host.write("/etc/sysctl.d/90-pic-cells.conf", "net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding=1\n")
    assert call("pic_cell_info", host, {})["unforwarded"] == []
    host.write("/proc/sys/net/ipv4/ip_forward", "0\n")
    assert call("pic_cell_info", host, {})["unforwarded"] == both[:1]


def executed(run: Run) -> dict[str, list[str]]:
    """Return the modules that a run has executed after it has read the cells, by host."""
    return {host: [module for at, module, _args in run.calls if at == host and module != "pic_cell_info"] for host in ("cella", "cellb", "cellc")}


def test_a_run_that_changes_nothing_only_reads(linked: World) -> None:
    assert executed(linked.site()) == {"cella": [], "cellb": [], "cellc": []}
    job = linked.job("route_peer", cell="cella", peer="tablet", via_cell="cellc")
    assert [at for at, _module, _args in job.calls] == ["cella", "cellc"]
    assert {module for _at, module, _args in linked.site("cella").calls} == {"pic_cell_info"}, "cells outside the limit are handed what they know"


def test_what_two_variants_of_iptables_mean_is_said_without_taking_a_step_for_it(linked: World) -> None:
    linked["cella"].by_hand("iptables-legacy-restore --noflush -w 10", "*filter\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n")
    run = linked.site()
    assert ["beside those of" in warning for warning in run.warnings()] == [True]
    assert (run.due, executed(run)["cella"]) == ([], [])


def test_the_preflight_tells_what_anybody_has_to_do(linked: World) -> None:
    assert linked.site().due == []
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    assert linked.site().due == ["rules"]
    linked["cellb"].write("/proc/sys/net/ipv4/ip_forward", "0\n")
    assert linked.site().due == ["unforwarded"]
    assert linked.job("share", cell="cella", remote_cell="cellb", services="files,voice").due == ["unforwarded"]


def test_only_the_steps_that_have_something_to_do_are_taken(linked: World) -> None:
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    for check in (True, False):
        assert executed(linked.site(check=check)) == {"cella": ["pic_cell_rules"], "cellb": [], "cellc": []}
    linked.inventory["cella"]["cell_links"][0]["share"] = ["voice"]
    for check in (True, False):
        assert executed(linked.site(check=check)) == {
            "cella": ["pic_peer_sync", "pic_peer_sync", "pic_cell_rules", "pic_peer_sync"],
            "cellb": ["pic_peer_sync"],
            "cellc": [],
        }
    withdrawn = linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert executed(withdrawn) == {
        "cella": ["pic_peer_sync"] * 3 + ["pic_policy_route", "pic_peer_sync"],
        "cellb": ["pic_peer_sync"] * 3 + ["pic_cell_rules", "pic_peer_sync"],
        "cellc": [],
    }


def test_what_another_cell_says_in_the_run_reaches_the_cells_that_had_nothing_to_do(linked: World) -> None:
    linked.inventory["cellc"]["cell_endpoint"] = "192.0.2.99"
    run = linked.site()
    assert (executed(run)["cellb"], executed(run)["cella"][-2:]) == ([], ["wg_cell_peer", "pic_policy_route"])
    assert next(iter(linked["cella"].wg["pic-cellc"].peers.values())).endpoint.startswith("192.0.2.99:")


def test_a_new_key_reaches_a_cell_that_hears_nothing_in_the_run(linked: World, tmp_path: Path) -> None:
    linked.inventory["cella"]["cell_links"][0]["preshared_key"] = PSK
    linked.inventory["cellb"]["cell_sync_transport"] = "tunnel"
    linked.site()
    linked.hosts["cellb"] = FakeHost(tmp_path / "new", "cellb reinstalled")
    linked["cellb"].dns = linked["cella"].dns
    linked.site()
    assert list(linked["cella"].wg["pic-cellb"].peers) == [linked.public_key("cellb")]


def test_an_offer_that_nobody_states_is_taken_from_the_cell_that_makes_it(linked: World) -> None:
    del linked.inventory["cellc"]["cell_links"][0]["offer_exit"]
    older = linked.fork()["cella"]
    linked.job("offer_exit", cell="cellc", remote_cell="cella", offered="no")
    linked.hosts["cella"], there = older, linked.link("cellc", "cella")
    links = linked.record("cella")
    link = next(link for link in links["links"] if link["name"] == "cellc")
    link["remote_generation"], link["generation"] = there["generation"], there["remote_generation"]
    older.write("/var/lib/pic/cell_links.json", json.dumps(links))
    assert link["exit_relay_active"]
    linked.site()
    assert not linked.link("cella", "cellc")["exit_relay_active"]


def test_what_an_earlier_batch_has_read_of_its_own_cell_is_older_than_what_the_next_one_reads() -> None:
    hostvars = {
        "cella": {"__cell_read": {"results": [{"item": "cella", "name": "of before"}]}},
        "cellb": {"__cell_read": {"results": [{"item": "cellb"}]}, "__cell_others": {"results": [{"item": "cella", "name": "of now"}]}},
    }
    variables = {"hostvars": hostvars, "groups": {"cells": list(hostvars)}, "ansible_play_batch": ["cellb"], "ansible_play_hosts_all": list(hostvars)}
    assert Mesh(variables, lambda value: value).read("cella")["name"] == "of now"


def test_a_host_that_was_away_in_an_earlier_batch_is_away_until_it_answers() -> None:
    hostvars = {
        "cella": {"__cell_others": {"results": [{"item": "cellb", "unreachable": True}]}},
        "cellb": {"__cell_read": {"results": [{"item": "cellb", "name": "cellb"}]}},
        "cellc": {},
    }
    variables = {"hostvars": hostvars, "groups": {"cells": list(hostvars)}, "ansible_play_hosts_all": list(hostvars)}
    away = {batch: Mesh({**variables, "ansible_play_batch": [batch]}, lambda value: value).unreachable() for batch in ("cellb", "cellc")}
    assert away == {"cellb": set(), "cellc": {"cellb"}}


@pytest.mark.parametrize(
    ("due", "included"),
    [({"cella": [], "cellb": ["rules"]}, True), ({"cella": [], "cellb": []}, False), ({"cella": ["rules"]}, True), ({"cella": []}, False)],
)
def test_the_steps_are_taken_where_any_host_has_something_to_do(due: dict[str, list[str]], included: bool) -> None:
    """A host may have come to the steps without a preflight: where a condition of the user's leaves that out, or a rescue goes on."""
    variables = {"ansible_play_batch": ["cella", "cellb"], "hostvars": {host: {"__cell_due": due[host]} if host in due else {} for host in ("cella", "cellb")}}
    trusted = getattr(template, "trust_as_template", str)  # from ansible-core 2.19 on
    assert str(template.Templar(DataLoader(), variables=variables).template(trusted(f"{{{{ {ANY_DUE} }}}}"))) == str(included)


def test_a_devices_new_preshared_key_is_seen_by_the_preflight(linked: World) -> None:
    linked.inventory["cella"]["cell_peers"][0]["preshared_key"] = made_key("another preshared key")
    assert executed(linked.site())["cella"] == ["wg_cell"]
    assert made_key("another preshared key") in (linked["cella"].read("/etc/wireguard/wg0.conf") or "")


def test_a_cell_with_another_key_keeps_the_preshared_keys_of_its_links(linked: World) -> None:
    """Else the other ends would forget them, and no tunnel came up until the next run."""
    old = linked.public_key("cella")
    lose_key(linked["cella"])
    linked.site()
    assert linked.public_key("cella") != old
    for other in ("cellb", "cellc"):
        ((key, there),) = linked[other].wg["pic-cella"].peers.items()
        (here,) = linked["cella"].wg[f"pic-{other}"].peers.values()
        assert (key, there.psk) == (linked.public_key("cella"), here.psk)
        assert here.psk
    assert linked.site().changed == []


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


def test_an_offer_that_is_stated_by_a_cell_that_is_away_counts_as_the_record_has_it(linked: World) -> None:
    links = linked.record("cella")
    next(link for link in links["links"] if link["name"] == "cellb")["remote_exit_offered"] = False
    linked["cella"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    linked.dead = {"cellb"}
    run = linked.site()
    assert any("Peer 'phone' is routed via 'cellb', which does not offer an exit now" in warning for warning in run.warnings())
    assert not linked.link("cella", "cellb")["exit_relay_active"]


def test_what_an_earlier_play_of_the_same_call_has_read_is_not_taken_for_news(linked: World) -> None:
    linked.before = linked.site()
    for offered in ("no", "yes"):
        linked.before = linked.job("offer_exit", cell="cellb", remote_cell="cella", offered=offered)
        assert linked.link("cella", "cellb")["remote_exit_offered"] == linked.link("cella", "cellb")["exit_relay_active"] == (offered == "yes")
        assert linked.link("cellb", "cella")["remote_exit_relay_active"] == (offered == "yes")
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    linked.before = linked.site("cella")
    assert executed(linked.before)["cella"] == ["pic_cell_rules"]
    linked.before = None
    assert linked.site().changed == []


def test_what_an_earlier_play_of_the_same_call_has_done_is_neither_done_nor_news(linked: World) -> None:
    """From the day-2 play cella has what cellb said in it: that it had nothing left to do."""
    del linked.inventory["cella"]["cell_links"][0]["share"]
    linked.before = linked.job("share", cell="cella", remote_cell="cellb", services="files")
    assert [result["due"] for result in linked.before.registered["cella"]["__cell_taken"]["results"]] == [[]]
    assert linked.site().said["cella"] == ["nothing changed on cella", "next: nothing is left to do"]
    linked.inventory["cellb"]["cell_links"][0]["keepalive"] = 7
    assert executed(linked.site()) == {"cella": [], "cellb": ["wg_cell_peer"], "cellc": []}


def test_each_register_is_forgotten_by_the_next_play() -> None:
    role, playbooks = ROLE / "tasks", ROLE.parents[1] / "playbooks"
    used = {name for path in (*role.glob("*.yml"), *playbooks.glob("*.yml")) for name in re.findall(r"register: (__cell_\w+)", path.read_text())}
    assert registers() | {"__cell_checked", "__cell_rekeyed", "__cell_stated", "__cell_status", "__cell_uninstalled"} == used
    summing_up = [path for path in playbooks.glob("*.yml") if "'summary'" in path.read_text()]
    assert len(summing_up) == 2
    assert all("tasks_from: begin" in path.read_text().partition("'summary'")[0] for path in summing_up)


class Impatient(World):
    """Cells whose timer is due as soon as there is something to tell, before that is so."""

    def _task(self, run: Run, mesh: Mesh, task: Task, item: str, check: bool) -> dict[str, Any]:
        result = super()._task(run, mesh, task, item, check)
        if task.step == "hear":
            for name, host in self.hosts.items():
                program(host, "replay", send=functools.partial(self.carry, name))
        return result


def test_what_the_cells_own_timer_tells_in_the_middle_of_a_run_is_told_anew_at_its_end(tmp_path: Path) -> None:
    world = Impatient(tmp_path, three_cells())
    world.site()
    for offered in ("no", "yes"):
        world.job("offer_exit", cell="cellb", remote_cell="cella", offered=offered)
        assert world.link("cella", "cellb")["remote_exit_offered"] == (offered == "yes")


class Mortal(World):
    """Cells of which one dies when it has said who it is."""

    def _task(self, run: Run, mesh: Mesh, task: Task, item: str, check: bool) -> dict[str, Any]:
        result = super()._task(run, mesh, task, item, check)
        if (task.step, item) == ("tell", "cella"):
            self.dead.add(item)
        return result


def test_what_a_cell_has_said_before_it_died_counts_in_the_rest_of_the_run(tmp_path: Path) -> None:
    world = Mortal(tmp_path, three_cells())
    world.site()
    assert world.link("cellb", "cella")["public_key"] == world.public_key("cella")


def test_what_is_refused_for_its_key_is_not_taken_for_told(linked: World) -> None:
    linked.job("link", cell="cellc", remote_cell="cellb")
    links = linked.record("cellb")
    next(link for link in links["links"] if link["name"] == "cellc")["public_key"] = None
    linked["cellb"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    assert any("A push of cell 'cellc' was answered 403" in warning for warning in linked.site().warnings())
    assert linked.link("cellc", "cellb")["pending_push"]


def test_what_is_pending_or_warned_of_is_said_in_each_run(linked: World) -> None:
    linked.inventory["cella"]["cell_links"].append({"name": "far"})
    del linked.inventory["cellc"]["cell_links"][0]["offer_exit"]
    linked.job("offer_exit", cell="cellc", remote_cell="cella", offered="no")
    linked["cella"].active.remove("pic-cell-serve.service")
    linked["cella"].failing.add("pic-cell-serve.service")
    linked.site()
    again = linked.site()
    assert again.changed == []
    assert any("pic-cell-serve.service does not come up" in warning for warning in again.warnings())
    assert any("does not offer an exit now" in warning for warning in again.warnings())
    assert any("the link with far waits for its public key" in line for line in again.said["cella"])
    assert any("since cellc offers no exit" in line for line in again.said["cella"])


@pytest.mark.parametrize("lost", [{"remote_generation": 0}, {"pending_push": True}, {"generation": 0, "minted": None}])
def test_what_one_of_two_cells_has_forgotten_is_told_again(linked: World, lost: dict[str, Any]) -> None:
    links = linked.record("cellb")
    next(link for link in links["links"] if link["name"] == "cella").update(lost)
    linked["cellb"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    linked.site()
    one, other = linked.link("cella", "cellb"), linked.link("cellb", "cella")
    assert (one["generation"], other["generation"]) == (other["remote_generation"], one["remote_generation"])
    assert (one["pending_push"], other["pending_push"]) == (False, False)
    assert linked.site().changed == []


def test_a_cell_outside_the_limit_is_not_spoken_for(linked: World) -> None:
    links = linked.record("cella")
    next(link for link in links["links"] if link["name"] == "cellb")["remote_generation"] = 0
    linked["cella"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    assert linked.site("cella").of("cella", "pic_peer_sync") == []
    assert linked.link("cella", "cellb")["remote_generation"] == 0
    linked.site("cella", "cellb")
    assert linked.link("cella", "cellb")["remote_generation"] > 0


def test_a_cell_that_fails_before_it_could_tell_is_not_spoken_for(linked: World) -> None:
    linked.inventory["cellb"]["cell_services"] = [{"name": "wiki", "address": ["10.0.1.1"], "port": 80, "protocol": "tcp"}]
    linked.inventory["cellb"]["cell_links"][0]["share"] = ["wiki"]
    linked.ill, linked["cellb"].fail_at, linked["cellb"].fails = {"cellb"}, 1, 99
    linked.site()
    assert "wiki" not in linked.link("cella", "cellb")["permissions"]["outbound"]
    linked.ill, linked.dead, linked["cellb"].fail_at = set(), set(), None
    linked.site()
    assert linked.link("cella", "cellb")["permissions"]["outbound"]["wiki"]


# Hosts that are not there


@pytest.mark.parametrize("missing", ["cellb", "cellc"])
def test_a_cell_outside_the_limit_loses_nothing(linked: World, missing: str) -> None:
    before = linked.text()
    linked.site(*(name for name in linked.hosts if name != missing))
    assert linked.text() == before


def test_a_cell_outside_the_limit_is_told_once(linked: World) -> None:
    linked.inventory["cellb"]["cell_links"].append({"name": "cellc"})
    linked.site()
    linked.inventory["cella"]["cell_links"][0]["share"] = []
    linked.inventory["cellb"]["cell_links"].pop()
    linked.inventory["cellc"]["cell_links"][0]["offer_exit"] = True
    predicted, done = (linked.site("cella", "cellc", check=check) for check in (True, False))
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    assert len([call for call in done.calls if call[0] == "cellb" and call[1] == "pic_peer_sync"]) == 1
    assert linked.link("cellb", "cella")["permissions"]["outbound"] == {}


def test_an_unreachable_cell_loses_nothing_and_the_rest_converges(linked: World) -> None:
    linked.dead = {"cellb"}
    before = {name: linked[name].text() for name in ("cella", "cellb")}
    linked.inventory["cellc"]["cell_networks"] = ["10.0.2.1/24", "fd00:c::1/64"]
    linked.site()
    assert linked["cellb"].text() == before["cellb"]
    assert "fd00:c::/64" in linked["cella"].text()
    assert "pic-cellb" in linked["cella"].wg
    linked.dead = set()
    linked.site()
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})


def test_a_link_with_a_cell_that_was_never_seen_is_pending_and_completed_later(world: World) -> None:
    world.dead = {"cellc"}
    run = world.site()
    assert run.of("cella", "wg_cell_peer")[0]["pending"] == ["cellc"]
    assert run.of("cella", "pic_policy_route")[0]["pending"] == ["tablet"]
    assert {rule.priority for rule in world["cella"].rules[4] if rule.src == "10.0.0.3"} == {4000, 4001, 4002}, "expected, not here yet: closed"
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


def test_a_push_that_did_not_arrive_stays_pending_and_goes_out_later(linked: World) -> None:
    linked.dead = {"cellb"}
    linked.inventory["cella"]["cell_links"][0]["share"] = []
    linked.site("cella")
    assert (linked.link("cella", "cellb")["pending_push"], linked.link("cella", "cellb")["last_push_error"]) == (True, "not reached")
    linked.dead = set()
    linked.site("cella")
    assert (linked.link("cella", "cellb")["pending_push"], linked.link("cella", "cellb")["last_push_status"]) == (False, 200)
    assert linked.link("cellb", "cella")["permissions"]["outbound"] == {}


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


# Cost


def crowd(folder: Path, count: int) -> World:
    """Return a cell with many links and devices."""
    links = [
        {
            "name": f"x{number}",
            "public_key": made_key(f"x{number}"),
            "networks": [f"10.1.{number}.0/24"],
            "address": f"10.1.{number}.1",
            "endpoint": f"192.0.2.9:{number + 1}",
        }
        for number in range(count)
    ]
    peers = [{"name": f"p{number}", "public_key": made_key(f"p{number}"), "addresses": [f"10.0.0.{number + 2}"]} for number in range(count)]
    return World(folder, {"me": {"cell_networks": ["10.0.0.1/24"], "cell_links": links, "cell_peers": peers}})


def test_the_number_of_commands_does_not_grow_with_links_and_devices(tmp_path: Path) -> None:
    first, second = [], []
    for count in (1, 100):
        world = crowd(tmp_path / str(count), count)
        world.site()
        first.append(Counter(argv[0] for argv in world["me"].log if argv[0] != "systemctl"))
        assert len([argv for argv in world["me"].log if argv[0] == "systemctl"]) == 2 * (count + 1) + 10, (
            "enabling and starting a unit is done for each, and ten times for the agent"
        )
        world.reset()
        world.every_step = True
        assert world.site().changed == []
        second.append(Counter(argv[0] for argv in world["me"].log))
    assert first[0] == first[1]
    assert (first[0]["iptables-restore"], first[0]["ip6tables-restore"]) == (1, 1)
    assert second[0] == second[1]
    assert second[0]["iptables-restore"] == 0


def test_a_routed_packet_passes_a_bounded_number_of_rules(tmp_path: Path) -> None:
    inventory = three_cells()
    inventory["cella"]["cell_peers"] = [
        {"name": f"p{number}", "public_key": made_key(f"p{number}"), "addresses": [f"10.0.0.{number}"], "route_via": "cellb"} for number in range(2, 202)
    ]
    world = World(tmp_path, inventory)
    world.site()
    rules = world["cella"].tables["-nft", 4]["filter"].rules
    chains = [chain for chain in rules if chain.startswith("PIC-R")]
    assert max(len(rules[chain]) for chain in chains) <= 16
    leaves = [rule[1] for chain in chains for rule in rules[chain] if rule[-1] == "PIC-HOME"]
    assert sorted(leaves) == sorted(f"10.0.0.{number}/32" for number in range(2, 202))


# Secrets


def test_no_secret_reaches_an_argument_a_result_or_a_file_that_others_can_read(world: World) -> None:
    for host in world.hosts.values():
        host.secrets.add(PSK)
    world.inventory["cella"]["cell_links"][0]["preshared_key"] = PSK
    world.inventory["cella"]["cell_peers"][0]["preshared_key"] = PSK
    world.site()  # the fake host and the world look at every argument and every result
    assert world["cellb"].wg["pic-cella"].peers[world.public_key("cella")].psk == PSK
    files = re.findall(r"^file (/(?:etc/wireguard|var/lib/pic)\S+) (\d+) ", world["cella"].text(), re.MULTILINE)
    assert len(files) > 6
    # The folder of the records is root's alone; the receiver's unit has the view bound into its own file system.
    assert {mode for path, mode in files if path != "/var/lib/pic/view/links.json"} == {"0600"}
    assert PSK not in (world["cella"].read("/var/lib/pic/view/links.json") or PSK)


def test_site_check_and_restore_agree_on_a_link_that_waits(world: World) -> None:
    world.dead = {"cellb"}
    world.site()
    host = world["cella"]
    # Its networks are known: until there is a tunnel nothing that goes there leaves by the uplink.
    assert {route.dst for route in host.routes if route.dev is None and route.table == 254} >= {"10.0.1.0/24", "fd00:b::/64"}
    world.reset()
    assert (world.site().changed, program(host, "check"), program(host, "restore"), host.steps) == ([], (0, "", ""), (0, "", ""), [])
    world.dead = set()
    world.site()
    world.reset()
    assert (world.site().changed, program(host, "check")[0]) == ([], 0)
