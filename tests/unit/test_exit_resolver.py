# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolver of a cell that is an exit: open to the cells that use it, told to them, and asked by their devices."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.netfilter import Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_gaps import entry
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import PHONE, run
from ansible_collections.pic.cells.tests.unit.world import World, program, three_cells

RESOLVERS = ["10.0.1.53", "fd00:b::53"]  # in cellb's networks
PHONE_6 = "fd00:a::2"


@prepared
def opened(linked: World) -> World:
    """Return three cells in which cella's phone leaves by cellb, which has a resolver, and nobody else by another cell."""
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    linked.inventory["cellb"]["cell_resolver"] = RESOLVERS
    run(linked)
    return linked


def asks(source: str, resolver: str, protocol: str = "udp", leaves_by: str = "wg0", port: int = 53) -> Packet:
    """Return a question of cella's as it comes to cellb."""
    return Packet(source, resolver, "pic-cella", leaves_by, protocol, port)


# The owner's side


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_resolver_is_open_to_a_cell_that_uses_the_exit_and_to_no_other(opened: World, protocol: str) -> None:
    host = opened["cellb"]
    for table in ("filter", "mangle"):
        for source, resolver in ((PHONE, RESOLVERS[0]), (PHONE_6, RESOLVERS[1])):
            assert verdict(host, asks(source, resolver, protocol), table) == "ACCEPT"
            assert verdict(host, asks(source, resolver, protocol, port=54), table) == "DROP"
        assert verdict(host, asks(PHONE, "10.0.1.54", protocol), table) == "DROP"
        assert verdict(host, asks("10.0.2.2", RESOLVERS[0], protocol), table) == "DROP"
    opened.inventory["cellb"]["cell_resolver"] = ["10.0.1.1"]
    run(opened)
    assert verdict(host, asks(PHONE, "10.0.1.1", protocol, leaves_by="")) == "ACCEPT"
    assert verdict(host, asks(PHONE, RESOLVERS[0], protocol)) == "DROP"


@pytest.mark.parametrize("end", ["the offer", "the use", "the resolver"])
def test_with_the_exit_the_resolver_is_closed_and_what_was_asked_ends(opened: World, end: str) -> None:
    host = opened["cellb"]
    others = [entry("10.0.1.2", RESOLVERS[0], 53, "udp")]
    host.entries = [entry(PHONE, RESOLVERS[0], 53, "udp"), entry(PHONE, RESOLVERS[0], 53), *others]
    if end == "the offer":
        run(opened, "offer_exit", cell="cellb", remote_cell="cella", offered="no")
    elif end == "the use":
        run(opened, "route_peer", cell="cella", peer="phone", via_cell="direct")
    else:
        opened.inventory["cellb"]["cell_resolver"] = []
        run(opened)
    assert verdict(host, asks(PHONE, RESOLVERS[0])) == "DROP"
    assert host.entries == others


def test_a_resolver_that_is_shared_too_stays_open_as_a_share(opened: World) -> None:
    opened.inventory["cellb"]["cell_services"] = [{"name": "dns", "address": RESOLVERS[0], "port": 53, "protocol": "udp"}]
    opened.inventory["cellb"]["cell_links"][0]["share"] = ["dns"]
    run(opened)
    rules = opened["cellb"].chain(4, "PIC-S-cella")
    assert len([rule for rule in rules if "-p udp" in rule]) == 1
    run(opened, "offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert verdict(opened["cellb"], asks(PHONE, RESOLVERS[0])) == "ACCEPT"
    assert verdict(opened["cellb"], asks(PHONE, RESOLVERS[0], "tcp")) == "DROP"


def test_a_question_to_a_resolver_that_was_open_only_while_rules_were_missing_ends(opened: World) -> None:
    host = opened["cellb"]
    host.tables["-nft", 4]["filter"].rules["PIC-S-cella"].clear()
    allowed = entry(PHONE, RESOLVERS[0], 53, "udp")
    host.entries = [allowed, entry(PHONE, "10.0.1.54", 53, "udp")]
    assert program(host, "restore")[0] == 0
    assert host.entries == [allowed]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (["10.0.0.53"], "10.0.0.53 is in none of the cell's networks 10.0.1.0/24, fd00:b::/64. Linked cells reach no other: give an address in these."),
        (["9.9.9.9"], "9.9.9.9 is in none of the cell's networks"),
        (["10.0.1.53", "10.0.1.54"], "10.0.1.53, 10.0.1.54 are too many. Give one IPv4 and one IPv6 address at most."),
        ("dns.example.net", "'dns.example.net' is not an IP address"),
        ("10.0.1.53 -j ACCEPT", "is not an IP address"),
        ("::ffff:10.0.1.53", "is in none of the cell's networks"),
    ],
)
def test_a_resolver_that_nobody_could_reach_is_refused(linked: World, stated: Any, said: str) -> None:
    linked.inventory["cellb"]["cell_resolver"] = stated
    before = linked.text()
    with pytest.raises(Exception, match=f"resolver of cell 'cellb': .*{re.escape(said)}"):
        linked.site()
    assert linked.text() == before


@pytest.mark.parametrize("forged", ["10.0.1.53 -j ACCEPT", "fd00:b::1%eth0", "10.0.1.0/24", ""])
def test_a_forged_record_of_a_resolver_is_no_record(linked: World, forged: str) -> None:
    record = {**linked.record("cellb", "cell.json"), "resolver": [forged]}
    linked["cellb"].write("/var/lib/pic/cell.json", json.dumps(record))
    assert program(linked["cellb"], "restore")[0] != 0


def test_a_cell_that_moves_to_other_networks_takes_its_resolver_along(opened: World) -> None:
    opened.inventory["cellb"].update(cell_networks=["10.0.9.1/24"], cell_peers=[])
    del opened.inventory["cellb"]["cell_resolver"]
    with pytest.raises(Exception, match=r"resolver of cell 'cellb': 10\.0\.1\.53 is in none"):
        opened.site("cellb")


# What is told


class Older(World):
    """Cells of which some have a program of before there were resolvers in messages."""

    old: frozenset[str] = frozenset()
    fields = ("from_cell", "from_public_key", "generation", "permissions", "exit_offered", "use_as_exit_relay")

    def _arrive(self, push: Push, origin: FakeHost | None) -> dict[str, Any] | None:
        to = {"10.0.0.1": "cella", "10.0.1.1": "cellb", "10.0.2.1": "cellc"}[str(urlsplit(push.url).hostname)]
        if to in self.old and set(json.loads(push.body)) != set(self.fields):  # as check_payload was
            return {"status": 400, "generation": 0, "reason": "HTTP status 400"}
        return super()._arrive(push, origin)


@prepared
def mixed(tmp_path: Path) -> Older:
    """Return cells as in opened, but cella's program is older, and cellb tells it all through the tunnel."""
    world = Older(tmp_path, three_cells())
    world.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    world.inventory["cellb"]["cell_services"] = [{"name": "files", "address": "10.0.1.1", "port": 443}]
    world.inventory["cellb"]["cell_links"][0]["share"] = ["files"]
    world.site()
    world.old = frozenset({"cella"})
    world.inventory["cellb"].update(cell_resolver=RESOLVERS, cell_sync_transport="tunnel")
    return world


def pending(world: World) -> tuple[bool, str | None]:
    """Return whether cellb has something to tell cella, and why it is not told."""
    link = world.link("cellb", "cella")
    return link["pending_push"], link["last_push_error"]


def test_a_cell_is_told_the_resolver_of_its_exit(opened: World) -> None:
    assert opened.link("cella", "cellb")["remote_resolvers"] == RESOLVERS
    assert opened.link("cellc", "cella")["remote_resolvers"] == []
    done = run(opened, "offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert not any("resolver" in line for line in done.said["cellb"])
    assert opened.link("cella", "cellb")["remote_resolvers"] == RESOLVERS


def test_what_an_older_program_does_not_know_holds_up_no_revocation(mixed: Older) -> None:
    done = mixed.site("cellb")
    older = "its program is older and knows no resolvers of exits; it was told all else"
    assert f"pending on cellb: cella has not been told the latest state ({older}); cellb tries again by itself" in done.said["cellb"]
    assert pending(mixed) == (True, older)
    assert mixed.site("cellb").changed == []
    program(mixed["cellb"], "replay", send=functools.partial(mixed.carry, "cellb"))
    assert pending(mixed) == (True, older)
    mixed.inventory["cellb"]["cell_links"][0]["share"] = []
    mixed.site("cellb")
    assert mixed.link("cella", "cellb")["permissions"]["outbound"] == {}
    mixed.job("offer_exit", play=("cellb",), cell="cellb", remote_cell="cella", offered="no")
    assert not mixed.link("cella", "cellb")["remote_exit_offered"]
    assert pending(mixed) == (False, None)


@pytest.mark.parametrize("by", ["the timer", "a run"])
def test_a_program_that_is_renewed_is_told_what_it_did_not_know(mixed: Older, by: str) -> None:
    mixed.site("cellb")
    mixed.old = frozenset()
    if by == "a run":
        del mixed.inventory["cellb"]["cell_sync_transport"]
        mixed.site()
    else:
        program(mixed["cellb"], "replay", send=functools.partial(mixed.carry, "cellb"))
    assert mixed.link("cella", "cellb")["remote_resolvers"] == RESOLVERS
    assert pending(mixed) == (False, None)
    assert mixed.site().changed == []


def test_a_resolver_that_a_record_has_been_given_by_others_is_no_record(opened: World) -> None:
    links = opened.record("cella")
    next(link for link in links["links"] if link["name"] == "cellb")["remote_resolvers"] = ["10.0.1.53 -j ACCEPT"]
    opened["cella"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    rc, _out, err = program(opened["cella"], "restore")
    assert rc != 0 or "cell_links.json cannot be read" in err
