# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What neither a linked cell nor whoever holds an invitation gets: another one's way in, a say in what the owner takes back, the place of other cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts import claims, signing
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import Delivery, render_delivery
from ansible_collections.pic.cells.plugins.module_utils.program import exchange, spool
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key, public_key
from ansible_collections.pic.cells.tests.unit.netfilter import Packet, verdict
from ansible_collections.pic.cells.tests.unit.test_announced import announce
from ansible_collections.pic.cells.tests.unit.test_moves import STATE
from ansible_collections.pic.cells.tests.unit.test_pairing import invite, mine, theirs, wire
from ansible_collections.pic.cells.tests.unit.test_receiver import bench
from ansible_collections.pic.cells.tests.unit.test_renumbered import OLD, _owners, accept, owners
from ansible_collections.pic.cells.tests.unit.world import World, device_key

__all__ = ["_owners", "bench", "mine", "owners", "theirs", "wire"]
FILES = [{"name": "files", "address": "10.2.0.1", "port": 443, "protocol": "tcp"}]
DEVICES = {name: device_key(name) for name in ("phone", "pad")}


def devices(prefix: str) -> list[dict[str, Any]]:
    return [{"name": name, "public_key": key, "addresses": [f"{prefix}.{number}"]} for number, (name, key) in enumerate(DEVICES.items(), 2)]


def claim_as(mine: World, secret: str, **said: Any) -> None:
    """Have the inviting cell's root find a claim of whoever holds the invitation."""
    link = mine.link("cella", "far")
    body = claims.render_claim({"name": "far", "public_key": made_key("theirs"), "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"], **said}, made_key("p"))
    key = signing.claim_key(secret, public_key(claims.one_time_key(secret)), mine.public_key("cella")) or ""
    found = Delivery(link["interface"], link["invitation"]["address"][0], signing.sign_push(key, body), body)
    mine["cella"].files[spool.claim_path(exchange.SPOOL, "far")] = (0o600, render_delivery(found))
    exchange.take_in(mine["cella"], STATE)


def test_who_holds_an_invitation_is_no_admin(tmp_path: Path) -> None:
    cell = {"cell_endpoint": "cella.example.net", "cell_networks": ["fd00:a::1/64", "10.0.0.1/24"], "cell_admin_networks": ["fd00::/8"]}
    world = World(tmp_path, {"cella": cell})
    world.site()
    invite(world)
    (source,) = world.link("cella", "far")["invitation"]["address"]
    assert verdict(world["cella"], Packet(source, "fd00:a::1", "pic-far", port=22)) == "DROP"


TAKEN_BACK = {
    "share": {"kind": "share", "services": "none"},
    "offer": {"kind": "offer_exit", "offered": "false"},
    "device": {"kind": "remove_device", "device": "pad"},
}


@pytest.mark.parametrize("job", [*TAKEN_BACK, "site"])
@pytest.mark.parametrize(
    "said", [{"api_url": "http://10.9.0.1:9"}, {"networks": ["fd00:9::/64"], "address": ["fd00:9::1"]}], ids=["the port that is tried", "no IPv4"]
)
def test_nothing_that_a_claim_says_ends_what_an_owner_takes_back(mine: World, said: dict[str, Any], job: str) -> None:
    mine.inventory["cella"]["cell_peers"] = devices("10.0.0")
    mine.site()
    _token, secret, _whole = invite(mine, services="files", offered="true")
    mine.inventory["cella"]["cell_expect"] = [{"from": "phone", "to": "far"}]
    mine.site()
    claim_as(mine, secret, **said)
    if job == "site":
        mine.inventory["cella"]["cell_links"] = [{"name": "far", "share": []}]
        mine.site()
    else:
        given = dict(TAKEN_BACK[job])
        mine.job(given.pop("kind"), cell="cella", **({} if job == "device" else {"remote_cell": "far"}), **given)


@pytest.mark.parametrize("job", [*TAKEN_BACK, "site"])
def test_nothing_that_a_cell_announces_ends_what_an_owner_takes_back(owners: tuple[World, World], job: str) -> None:
    near, far = owners
    far.inventory["far"].update(cell_services=FILES, cell_peers=devices("10.2.0"), cell_expect=[{"from": "phone", "to": "near"}])
    accept(far, "10.1.0.0/16", share=["files"], offer_exit=True)
    announce(near, far, networks=OLD, address=["10.1.0.1"], api_url="http://10.1.0.1:9")
    if job == "site":
        far.inventory["far"]["cell_links"][0]["share"] = []
        far.site()
    else:
        given = dict(TAKEN_BACK[job])
        far.job(given.pop("kind"), cell="far", **({} if job == "device" else {"remote_cell": "near"}), **given)
