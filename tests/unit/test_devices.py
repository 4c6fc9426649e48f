# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device needs of its cell: a free address, and what its own WireGuard file says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts.device_file import PUBLIC_RESOLVERS, Entry, dns_of, free_addresses, render
from ansible_collections.pic.cells.plugins.plugin_utils.devices import choose, item_of
from ansible_collections.pic.cells.plugins.plugin_utils.job import read_job
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_statement import mesh
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, ask, call, device_key, furnish, program

NETWORKS = ["10.0.0.1/24", "fd00:a::1/64"]
CELL = Entry("cella", made_key("cella"), "a.example.net", 51820, NETWORKS, ["10.0.0.0/24", "10.0.1.0/24", "fd00:a::/64"], [], [], [])


@pytest.mark.parametrize(
    ("networks", "taken", "free"),
    [
        (NETWORKS, [], ["10.0.0.2", "fd00:a::2"]),
        (NETWORKS, ["10.0.0.2", "10.0.0.4", "fd00:a::2", "fd00:a::3/128"], ["10.0.0.3", "fd00:a::4"]),
        (["10.0.0.1/24"], ["10.0.0.0/25"], ["10.0.0.128"]),
        (["10.0.0.1/24"], ["10.0.0.0/24", "0.0.0.0/0", "10.0.0.0/8", "fd00::/8"], ["10.0.0.2"]),
        (["10.0.0.9/29"], ["10.0.0.10/31", "10.0.0.12/31"], ["10.0.0.14"]),
        (["10.0.0.9/29", "10.1.0.1/30"], ["10.0.0.10/31", "10.0.0.12/31", "10.0.0.14"], ["10.1.0.2"]),
        (["10.0.0.254/24"], [f"10.0.0.{n}" for n in range(1, 200)], ["10.0.0.200"]),
        (["10.0.0.0/31"], [], ["10.0.0.1"]),
        (["fd00:a::/127"], [], ["fd00:a::1"]),
    ],
)
def test_the_lowest_address_that_nobody_has_is_the_next(networks: list[str], taken: list[str], free: list[str]) -> None:
    assert free_addresses(networks, taken, "cella") == free


@pytest.mark.parametrize("networks", [["10.0.0.1/30"], ["10.0.0.1/32"], ["fd00:a::1/64", "10.0.0.1/30"]])
def test_a_cell_that_is_full_is_named_with_its_networks(networks: list[str]) -> None:
    with pytest.raises(BadInput, match=r"Cell 'cella' has no free address in 10\.0\.0\.[01]/3[02]\. Remove a device, give addresses"):
        free_addresses(networks, ["10.0.0.2"], "cella")


@pytest.mark.parametrize(
    ("known", "addresses", "split", "dns"),
    [
        ({}, ["10.0.0.2", "fd00:a::2"], False, list(PUBLIC_RESOLVERS)),
        ({}, ["10.0.0.2"], False, [PUBLIC_RESOLVERS[0]]),
        ({}, ["10.0.0.2"], True, []),
        ({"resolvers": ["10.0.0.1", "fd00:a::1"]}, ["10.0.0.2"], False, ["10.0.0.1"]),
        ({"resolvers": ["10.0.0.1"]}, ["10.0.0.2", "fd00:a::2"], True, ["10.0.0.1"]),
        ({"resolvers": ["fd00:a::1"]}, ["10.0.0.2"], False, [PUBLIC_RESOLVERS[0]]),
        ({"exit_dns": ["192.0.2.53"]}, ["10.0.0.2", "fd00:a::2"], False, ["192.0.2.53"]),
    ],
)
def test_who_answers_a_device(known: dict[str, list[str]], addresses: list[str], split: bool, dns: list[str]) -> None:
    assert dns_of(replace(CELL, **known), addresses, split) == dns


def test_the_file_of_a_device() -> None:
    key = made_key("private")
    text = render(CELL, "phone", ["10.0.0.2", "fd00:a::2"], ["10.0.0.1"], False, key)
    assert text.splitlines() == [
        "[Interface]",
        "# phone, a device of cella",
        "Address = 10.0.0.2/32, fd00:a::2/128",
        f"PrivateKey = {key}",
        "DNS = 10.0.0.1",
        "",
        "[Peer]",
        f"PublicKey = {made_key('cella')}",
        "Endpoint = a.example.net:51820",
        "AllowedIPs = 0.0.0.0/0, ::/0",
        "PersistentKeepalive = 25",
    ]
    split = render(replace(CELL, endpoint="2001:db8::1"), "phone", ["10.0.0.2"], [], True)
    assert "AllowedIPs = 10.0.0.0/24, 10.0.1.0/24, fd00:a::/64\n" in split
    assert "Endpoint = [2001:db8::1]:51820\n" in split
    assert "DNS" not in split and "# PrivateKey: only the device has it\n" in split


@pytest.mark.parametrize(("lacking", "remedy"), [("endpoint", "State cell_endpoint: .*51820/udp"), ("public_key", r"Run pic\.cells\.site first")])
def test_a_cell_that_nobody_can_dial_is_named_with_the_variable_to_state(lacking: str, remedy: str) -> None:
    with pytest.raises(BadInput, match=remedy):
        render(replace(CELL, **{lacking: None}), "phone", ["10.0.0.2"], [], False)


def test_the_cell_says_what_its_devices_need(linked: World) -> None:
    said = ask("pic_cell_device", linked["cella"], {"peer": "phone"})
    assert {key: said[key] for key in ("changed", "cell", "public_key", "endpoint", "listen_port", "networks", "resolvers", "exit_dns")} == {
        "changed": False,
        "cell": "cella",
        "public_key": linked.public_key("cella"),
        "endpoint": "cella.example.net",
        "listen_port": 51820,
        "networks": ["10.0.0.1/24", "fd00:a::1/64"],
        "resolvers": [],
        "exit_dns": [],
    }
    assert said["reachable"] == ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "fd00:a::/64", "fd00:b::/64"]
    device = {"public_key": device_key("phone"), "addresses": ["10.0.0.2", "fd00:a::2"], "route_via": ["cellb"], "preshared": False}
    assert said["device"] == device
    assert {"10.0.0.1/32", "10.0.0.2/32", "10.0.0.4/32", "fd00:a::3/128"} <= set(said["taken"])
    assert not [text for text in said["taken"] if text.startswith(("10.0.1", "fd00:b", "0.0.0.0"))]
    assert ask("pic_cell_device", linked["cella"], {"peer": "watch"})["device"] is None


def test_what_somebody_else_has_on_the_interface_is_taken(world: World) -> None:
    furnish(world["cella"])
    world.site()
    assert "10.0.0.77/32" in ask("pic_cell_device", world["cella"], {"peer": "watch"})["taken"]


def test_a_service_that_can_only_be_a_resolver_answers_and_a_stated_one_comes_first(linked: World) -> None:
    cell = linked.inventory["cella"]
    cell["cell_services"] += [{"name": "dns", "address": ["10.0.0.1", "fd00:a::1"], "port": 53, "protocol": "udp"}]
    linked.site()
    assert ask("pic_cell_device", linked["cella"], {"peer": "watch"})["resolvers"] == ["10.0.0.1", "fd00:a::1"]
    cell["cell_resolver"] = ["10.0.0.53"]
    linked.site()
    said = ask("pic_cell_device", linked["cella"], {"peer": "watch"})
    assert said["resolvers"] == ["10.0.0.53"] and "10.0.0.53/32" in said["taken"]


def test_the_cell_prints_the_file_without_the_key(linked: World) -> None:
    before = linked.text()
    rc, out, err = program(linked["cella"], "config", "phone")
    assert (rc, err) == (0, "")
    assert f"PublicKey = {linked.public_key('cella')}\n" in out and "AllowedIPs = 0.0.0.0/0, ::/0\n" in out
    assert "# PrivateKey: only the device has it\n" in out and "DNS = 9.9.9.9, 2620:fe::fe\n" in out
    rc, out, _err = program(linked["cella"], "config", "phone", "--split", "--json")
    assert json.loads(out)["peer"] == "phone"
    assert "AllowedIPs = 10.0.0.0/24, 10.0.1.0/24" in json.loads(out)["config"] and "DNS" not in out
    assert linked.text() == before
    rc, _out, err = program(linked["cella"], "config", "watch")
    assert rc == 1 and "Cell 'cella' has no device 'watch'. Its devices: laptop, phone, tablet." in err
    rc, _out, err = program(linked["cellc"], "config", "watch")
    assert rc == 1 and "no device 'watch'" in err


@pytest.mark.parametrize("lost", [False, True])
def test_a_preshared_key_is_named_where_the_file_is_shown_without_it(linked: World, lost: bool) -> None:
    line = "# PresharedKey: the device has it"
    assert line not in program(linked["cella"], "config", "phone")[1]
    linked.inventory["cella"]["cell_peers"][0]["preshared_key"] = made_key("preshared")
    asked = read_job(mesh_of(linked), {"job": "show_device", "cell": "cella", "device": "phone"})[0]

    def shown() -> str:
        return choose(mesh_of(linked), asked, ask("pic_cell_device", linked["cella"], {"peer": "phone"}), None).text()

    assert line in shown()  # the inventory states it
    linked.site()
    del linked.inventory["cella"]["cell_peers"][0]["preshared_key"]
    if lost:
        del linked["cella"].files["/etc/wireguard/wg0.conf"]
    assert ask("pic_cell_device", linked["cella"], {"peer": "phone"})["device"]["preshared"] is True
    for text in (shown(), program(linked["cella"], "config", "phone")[1]):
        assert f"[Peer]\nPublicKey = {linked.public_key('cella')}\n{line}\n" in text and made_key("preshared") not in text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"device": ""}, "needs the variable 'device'"),
        ({"device": "my watch"}, "1 to 32 characters"),
        ({"device": "007"}, "a name that YAML reads as a number"),
        ({"public_key": made_key("own"), "config_dest": "x.conf"}, "with public_key the device has made its own. Leave out one of them."),
        ({"public_key": "x"}, "public_key: 'x' is not a WireGuard key"),
        ({"addresses": "10.0.0"}, "'10.0.0'"),
        ({"dns": "home.arpa"}, "dns (addresses, or none)"),
        ({"split": "perhaps"}, "Give split=true or split=false."),
        ({"show_qr": "perhaps"}, "Give show_qr=true or show_qr=false."),
        ({"via_cell": "cella"}, "Name another cell, or direct."),
        ({"cell": "cellz"}, "cell=cellz is not a cell of this inventory"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(given: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        read_job(mesh({}), {"job": "add_device", "cell": "cella", "device": "watch", **given})


def test_a_split_tunnel_makes_an_exit_useless_which_is_said() -> None:
    asked = {"job": "add_device", "cell": "cella", "device": "watch", "via_cell": "cellb", "split": "true"}
    (warning,) = read_job(mesh({}), asked)[1]
    assert "Device 'watch' is routed via cellb, but with a split tunnel its internet traffic never comes to its cell." in warning
    assert read_job(mesh({}), {**asked, "via_cell": "direct"})[1] == read_job(mesh({}), {**asked, "split": ""})[1] == []
    assert read_job(mesh({}), {"job": "remove_device", "cell": "cella", "device": "watch"})[1] == []


def job(world: World, **given: str) -> dict[str, Any]:
    """Return the job that adds a device, with what is decided of it."""
    seen = mesh_of(world)
    asked = read_job(seen, {"job": "add_device", "cell": "cella", **given})[0]
    answer = ask("pic_cell_device", world["cella"], {"peer": asked["peer"]})
    return {**asked, "item": item_of(asked, choose(seen, asked, answer, None))}


def mesh_of(world: World) -> Mesh:
    """Return the controller's view of a world."""
    hosts = list(world.inventory)
    return Mesh({"hostvars": world.inventory, "groups": {"cells": hosts}, "inventory_hostname": "cella", "ansible_play_batch": hosts}, lambda value: value)


def test_a_device_is_added_by_what_site_does(linked: World) -> None:
    stated = linked.fork()
    key = made_key("watch")
    added = job(linked, device="watch", public_key=key, via_cell="cellb")
    assert added["item"] == {"name": "watch", "public_key": key, "addresses": ["10.0.0.5", "fd00:a::5"], "route_via": ["cellb"]}
    foreseen = linked.site("cella", job=added, check=True)
    run = linked.site("cella", job=added)
    assert {key: foreseen.diffs()[key] for key in foreseen.changed} == {key: run.diffs()[key] for key in run.changed}
    assert linked.site("cella", job=added).changed == []
    stated.inventory["cella"]["cell_peers"].append(added["item"])
    stated.site()
    assert linked["cella"].read("/etc/wireguard/wg0.conf") == stated["cella"].read("/etc/wireguard/wg0.conf")
    assert linked.record("cella", "peer_registry.json") == stated.record("cella", "peer_registry.json")
    linked.inventory = stated.inventory
    assert linked.site().changed == []


def test_the_address_that_only_the_inventory_gives_to_somebody_is_taken(linked: World) -> None:
    linked.inventory["cella"]["cell_peers"].append({"name": "fridge", "public_key": device_key("fridge"), "addresses": "10.0.0.5"})
    assert job(linked, device="watch", public_key=made_key("watch"))["item"]["addresses"] == ["10.0.0.6", "fd00:a::5"]
    assert job(linked, device="fridge")["item"]["addresses"] == ["10.0.0.5"]


def test_the_exit_that_the_inventory_states_of_a_device_counts_from_the_beginning(linked: World) -> None:
    peers = linked.inventory["cella"]["cell_peers"]
    peers.append({"name": "watch", "public_key": device_key("watch"), "addresses": ["10.0.0.9"], "route_via": ["cellb"]})
    added = job(linked, device="watch")
    assert (added["via_cell"], added["item"]["route_via"]) == (["cellb"], ["cellb"])
    assert job(linked, device="watch", via_cell="direct")["via_cell"] == ["direct"]
    stated = read_job(mesh_of(linked), {"job": "add_device", "cell": "cella", "device": "watch", "split": "true"})[1]
    assert "Device 'watch' is routed via cellb, but with a split tunnel" in stated[0]
    linked.site("cella", job=added)
    assert [rule for rule in linked["cella"].rules[4] if rule.src == "10.0.0.9"]
    assert linked.site().changed == []
    peers[-1]["route_via"] = "direct"
    assert job(linked, device="watch")["via_cell"] == ["direct"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("preshared_key", made_key("preshared")),
        ("route_except", [{"to": ["192.0.2.0/24"], "via": "cellc"}]),
        ("exit_dns", ["192.0.2.53"]),
        ("networks", ["10.9.0.0/24"]),
    ],
)
def test_what_the_playbook_does_not_set_of_a_stated_device_is_refused(linked: World, key: str, value: Any) -> None:
    item = {"name": "watch", "public_key": device_key("watch"), "addresses": ["10.0.0.9"], "route_via": ["cellb"], key: value}
    linked.inventory["cella"]["cell_peers"].append(item)
    with pytest.raises(BadInput, match=rf"states {key} for device 'watch' .*Run pic\.cells\.site, which sets all of it") as refused:
        job(linked, device="watch")
    assert made_key("preshared") not in str(refused.value)
    linked.site()
    assert job(linked, device="watch")["item"]["name"] == "watch"  # the cell has it, and keeps what nobody says anything of


def test_what_the_inventory_states_anew_counts(linked: World) -> None:
    linked.inventory["cella"].update(cell_endpoint="new.example.net", cell_listen_port=4711, cell_resolver="10.0.0.1")
    asked = read_job(mesh_of(linked), {"job": "add_device", "cell": "cella", "device": "watch"})[0]
    device = choose(mesh_of(linked), asked, ask("pic_cell_device", linked["cella"], {"peer": "watch"}), None)
    assert "Endpoint = new.example.net:4711\n" in device.text() and "DNS = 10.0.0.1\n" in device.text()


@pytest.mark.parametrize("name", ["phone", "laptop"])
def test_a_removed_device_is_cut_off_at_once(linked: World, name: str) -> None:
    cell = linked["cella"]
    addresses = next(peer["addresses"] for peer in linked.inventory["cella"]["cell_peers"] if peer["name"] == name)
    cell.flows = set(addresses)
    foreseen = linked.job("remove_device", cell="cella", device=name, check=True)
    run = linked.job("remove_device", cell="cella", device=name)
    assert f"next: delete {name}.conf, {name}.svg and {name}.png wherever they still are: they hold the private key of {name}" in run.said["cella"]
    assert foreseen.changed == run.changed != []
    assert device_key(name) not in cell.text()
    for address in addresses:
        family = "ipv6" if ":" in address else "ipv4"
        assert {(words[2], words[4]) for words in cell.ended if words[-1] == address} == {(family, address)}
        assert {words[3] for words in cell.ended if words[-1] == address} == {"--orig-src", "--orig-dst"}
    assert not [line for line in cell.text().splitlines() if any(re.search(rf"{re.escape(address)}(?![0-9a-f])", line) for address in addresses)]
    again = linked.job("remove_device", cell="cella", device=name)
    assert again.changed == [] and not [line for line in (*foreseen.said["cella"], *again.said["cella"]) if "delete" in line]


def test_a_device_that_gets_the_addresses_of_another_one_gets_no_answers_of_it(linked: World) -> None:
    cell, peers = linked["cella"], linked.inventory["cella"]["cell_peers"]
    laptop = next(peer for peer in peers if peer["name"] == "laptop")
    peers.append({"name": "heir", "public_key": device_key("heir"), "addresses": laptop["addresses"]})
    laptop["state"] = "absent"
    cell.flows = set(laptop["addresses"])
    foreseen, run = linked.site(check=True), linked.site()
    assert foreseen.changed == run.changed != []
    ended = {(words[3], words[-1]) for words in cell.ended}
    assert ended == {(side, address) for side in ("--orig-src", "--orig-dst") for address in laptop["addresses"]}
    cell.reset()
    assert (linked.site().changed, cell.steps) == ([], [])


def test_a_device_that_is_called_otherwise_keeps_its_connections(linked: World) -> None:
    cell, peers = linked["cella"], linked.inventory["cella"]["cell_peers"]
    laptop = next(peer for peer in peers if peer["name"] == "laptop")
    peers.append({**laptop, "name": "notebook"})
    laptop["state"] = "absent"
    cell.flows = set(laptop["addresses"])
    linked.site()
    assert cell.ended == []


def test_no_other_cell_keeps_a_device_from_being_removed(linked: World) -> None:
    away, refusing = linked.fork(), linked.fork()
    away.dead = {"cellb", "cellc"}
    refusing.hostile["cellb"] = lambda module, answer: {**answer, "refusals": ["No."]} if module == "pic_cell_info" else answer
    for world in (away, refusing):
        world.job("remove_device", cell="cella", device="phone")
        assert device_key("phone") not in world["cella"].text()


def test_a_device_that_is_not_there_is_removed_with_a_word(linked: World) -> None:
    run = linked.job("remove_device", cell="cella", device="phnoe")
    assert run.changed == []
    assert "cella has no device 'phnoe'; its devices: laptop, phone, tablet" in run.said["cella"]


@pytest.mark.parametrize("kind", ["add_device", "remove_device"])
def test_no_device_is_added_or_removed_where_nobody_knows_who_else_is_let_in(linked: World, kind: str) -> None:
    cell = linked["cella"]
    cell.write("/var/lib/pic/peer_registry.json", "{garbage")
    before = cell.text()
    told = call("pic_cell_device", cell, {"peer": "watch"})
    assert told["failed"] and "/var/lib/pic/peer_registry.json cannot be read" in told["msg"] and "run pic.cells.site with all devices" in told["msg"]
    rc, _out, err = program(cell, "config", "phone")
    assert rc == 1 and "peer_registry.json cannot be read" in err
    change = {"name": "phone", "state": "absent"} if kind == "remove_device" else {"name": "watch", "public_key": made_key("watch"), "addresses": ["10.0.0.9"]}
    asked = {"job": kind, "host": "cella", "cell": "cella", "peer": change["name"], "via_cell": [], "change": {}, "item": change, "contradicts": []}
    with pytest.raises(Refusal, match=r"peer_registry\.json cannot be read .*run pic\.cells\.site with all devices"):
        linked.site("cella", job=asked)
    assert cell.text() == before
    linked.site()
    assert {"phone", "tablet"} <= {peer["name"] for peer in linked.record("cella", "peer_registry.json")["peers"]}
