# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole cell, set up, changed, damaged and taken away by the role's own sequence of modules."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.faults import damages
from ansible_collections.pic.cells.tests.unit.runs import PSK
from ansible_collections.pic.cells.tests.unit.world import Refusal, Run, World, call, device_key, foreign, furnish, program


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
        ("route_peer", {"cell": "cella", "peer": "phone", "via_cell": "mars"}, "does not know cell 'mars'"),
        ("route_peer", {"cell": "cellb", "peer": "pad", "via_cell": "cellc"}, "has not offered 'cellb' an exit"),
        ("share", {"cell": "cella", "remote_cell": "mars", "services": "files"}, "does not know cell 'mars'"),
        ("offer_exit", {"cell": "cella", "remote_cell": "mars", "offered": "true"}, "does not know cell 'mars'"),
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
        "Address 10.0.0.4 of peer 'watch' already belongs to peer 'laptop'",
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
    "the port of another link": (lambda inv: inv["cella"]["cell_links"][0].update(listen_port=51822), "51822 of link 'cellc' already belongs to link 'cellb'"),
    "the port of the devices": (lambda inv: inv["cella"]["cell_links"][0].update(listen_port=51820), "51820 of link 'cellb' already belongs to the devices"),
    "ports that change places": (
        lambda inv: [link.update(listen_port=port) for link, port in zip(inv["cella"]["cell_links"], (51822, 51821))],
        "Port 51821 of interface 'pic-cellc' still belongs to 'pic-cellb'",
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


def test_the_inventorys_silence_keeps_what_a_day_2_job_did(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    before = linked.text()
    linked.site()
    assert linked.text() == before


def test_the_whole_life_of_links_leaves_everything_foreign_as_it_was(world: World) -> None:
    furnish(world["cella"])
    before = foreign(world["cella"])
    for job in lifecycle(world):
        job()
        assert foreign(world["cella"]) == before


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


def test_after_a_boot_all_is_as_before(linked: World) -> None:
    before = linked["cella"].text()
    linked["cella"].boot()
    assert linked["cella"].text() != before
    linked.site("cella")
    assert linked["cella"].text() == before


def test_whatever_is_damaged_is_repaired(linked: World) -> None:
    host = linked["cella"]
    linked.every_step = True
    args = {module: args for name, module, args in linked.site().calls if name == "cella"}
    links = [{key: value for key, value in link.items() if key not in ("share", "offer_exit", "offered")} for link in args["pic_cell_apply"]["run"]["links"]]
    args.update({"pic_cell_rules": {}, "wg_cell_peer": {"peers": links}, "pic_policy_route": {}})
    wanted = host.text()
    for name, modules, damage in damages(host):
        for by in (modules, [*(["wg_cell"] if "wg_cell" in modules else []), "pic_cell_apply"]):
            twin = host.fork()
            damage(twin)
            for module in by:
                assert not call(module, twin, args[module]).get("failed"), (name, by)
            assert twin.text() == wanted, (name, by)


def test_drift_names_what_is_missing_and_nothing_else(linked: World) -> None:
    assert call("pic_cell_info", linked["cella"], {})["drift"] == []
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    assert [line[:40] for line in call("pic_cell_info", linked["cella"], {})["drift"]] == [
        "missing: IPv4 filter: PIC-S-cellb -j DRO",
        "missing: IPv4 filter: PIC-S-cellb -p tcp",
        "missing: IPv4 filter: PIC-S-cellb -p udp",
    ]
    assert linked.steps() == {}


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
        assert len([argv for argv in world["me"].log if argv[0] == "systemctl"]) == 2 * (1 + math.ceil(count / 50)) + 12, (
            "enabled and started are the devices' interface, and up to 50 links at once; the rest is the agent's"
        )
        world.reset()
        world.every_step = True
        assert world.site().changed == []
        second.append(Counter(argv[0] for argv in world["me"].log))
    assert first[0] == first[1]
    assert (first[0]["iptables-restore"], first[0]["ip6tables-restore"]) == (1, 1)
    assert second[0] == second[1]
    assert second[0]["iptables-restore"] == 0


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
    assert {mode for path, mode in files if path not in ("/var/lib/pic/view/links.json", "/var/lib/pic/exits/exits.json")} == {"0600"}
    assert all(PSK not in (world["cella"].read(f"/var/lib/pic/{seen}") or PSK) for seen in ("view/links.json", "exits/exits.json"))


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
