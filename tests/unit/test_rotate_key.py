# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another preshared key for one link, on both sides, and nothing else: whatever is lost on the way, the next run converges."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_keys import FAR
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, program

KEY = made_key("the next one")


def secrets(world: World) -> dict[str, str | None]:
    """Return the preshared key of each link, by where it is."""
    found = {}
    for host in world.hosts:
        for name, device in world[host].wg.items():
            found.update({f"{host} {name}": peer.psk for peer in device.peers.values() if name.startswith("pic-")})
    return found


def rotate(world: World, check: bool = False, **given: str) -> Any:
    return world.job("rotate_key", check, **{"cell": "cella", "remote_cell": "cellb", **given})


def test_a_link_gets_another_preshared_key_on_both_sides_and_nothing_else_is_touched(linked: World) -> None:
    before, keys = linked.fork(), secrets(linked)
    foreseen, done = (rotate(linked, check) for check in (True, False))
    after = secrets(linked)
    assert {at for at in after if after[at] != keys[at]} == {"cella pic-cellb", "cellb pic-cella"}
    assert after["cella pic-cellb"] == after["cellb pic-cella"]
    assert after["cella pic-cellb"] not in (None, keys["cella pic-cellb"])
    assert (foreseen.changed, foreseen.diffs()) == (done.changed, done.diffs())
    for host, interface, other in (("cella", "pic-cellb", "cellb"), ("cellb", "pic-cella", "cella")):
        key = linked.public_key(other)
        assert [step for step in linked[host].steps if not step.startswith("write ")] == [f"wg set {interface} peer {key} preshared-key /dev/stdin"]
        assert {step for step in linked[host].steps if step.startswith("write ")} == {
            f"write /etc/wireguard/{interface}.conf",
            "write /var/lib/pic/view/links.json",
        }
        assert linked[host].wg[interface].peers[key].allowed == before[host].wg[interface].peers[key].allowed
    assert linked.steps().keys() == {"cella", "cellb"}
    assert "changed on cella: link cellb: another preshared key" in done.said["cella"]
    assert "changed on cellb: link cella: another preshared key" in done.said["cella"]
    assert not [line for line in done.said["cella"] if line.startswith("pending")]


def test_afterwards_site_finds_nothing_to_do_and_cells_understand_each_other(linked: World) -> None:
    rotate(linked)
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})
    linked["cella"].boot()
    assert program(linked["cella"], "restore")[0] == 0
    assert secrets(linked)["cella pic-cellb"] == secrets(linked)["cellb pic-cella"]
    linked.inventory["cella"]["cell_sync_transport"] = "tunnel"
    linked.inventory["cella"]["cell_links"][0]["share"] = ["voice"]
    assert "cella told cellb the latest state through the tunnel" in linked.site("cella").said["cella"]


def test_each_run_makes_another_key(linked: World) -> None:
    rotate(linked)
    first = secrets(linked)["cella pic-cellb"]
    rotate(linked, cell="cellb", remote_cell="cella")
    assert first != secrets(linked)["cella pic-cellb"] == secrets(linked)["cellb pic-cella"]


@pytest.mark.parametrize("again", ["rotate_key", "site"])
@pytest.mark.parametrize("ill", ["cella", "cellb"])
def test_a_run_that_has_changed_one_side_alone_is_completed_by_the_next(linked: World, ill: str, again: str) -> None:
    keys = secrets(linked)
    linked.ill, linked[ill].fail_at, linked[ill].fails = {ill}, 1, 99
    linked.hostile["cellb"] = lambda _module, honest: honest  # so that the other side may fail
    rotate(linked)
    halves = secrets(linked)
    assert sum(halves[at] != keys[at] for at in ("cella pic-cellb", "cellb pic-cella")) == 1
    linked.ill, linked.dead, linked[ill].fail_at = set(), set(), None
    linked.hostile.clear()
    run = rotate(linked) if again == "rotate_key" else linked.site()
    assert run.changed and secrets(linked)["cella pic-cellb"] == secrets(linked)["cellb pic-cella"]
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})


@pytest.mark.parametrize("why", ["away", "refusing", "unlinked", "on its own"])
def test_a_key_that_only_one_side_could_get_is_refused_before_anything_has_changed(linked: World, why: str) -> None:
    if why == "away":
        linked.dead = {"cellb"}
    elif why == "on its own":
        linked.inventory["cella"]["cell_sync_transport"] = "tunnel"
    elif why == "refusing":
        linked.hostile["cellb"] = lambda _module, honest: {**honest, "refusals": ["Not today."]}
    else:
        assert call("wg_cell_peer", linked["cellb"], {"name": "cella", "state": "absent"})["changed"]
        linked.reset()
    away = "a preshared key has to change on both sides, and cell 'cellb' was not reached"
    alone = "works on cell 'cella' alone .cell_sync_transport: tunnel.*State preshared_key"
    words = {"away": away, "refusing": "Not today", "unlinked": "no link with 'cella'", "on its own": alone}
    with pytest.raises(Refusal, match=words[why]):
        rotate(linked)
    assert linked.steps() == {}


def test_a_key_that_the_inventory_states_is_changed_there(linked: World) -> None:
    linked.inventory["cellb"]["cell_links"][0]["preshared_key"] = KEY
    with pytest.raises(BadInput, match="The inventory states preshared_key for the link of 'cella' with 'cellb'") as error:
        rotate(linked)
    assert KEY not in str(error.value)
    linked.reset()
    linked.site()
    assert secrets(linked)["cella pic-cellb"] == secrets(linked)["cellb pic-cella"] == KEY
    key = linked.public_key("cellb")
    assert f"wg set pic-cellb peer {key} preshared-key /dev/stdin" in linked["cella"].steps


def test_with_another_owner_each_side_is_given_the_key(linked: World) -> None:
    call("wg_cell_peer", linked["cella"], {**FAR, "preshared_key": made_key("the first one")})
    call("pic_cell_rules", linked["cella"], {"name": "far"})
    linked.reset()
    with pytest.raises(BadInput, match=r"'far' is not in this inventory, so its owner has to install the same preshared key.*wg genpsk"):
        rotate(linked, remote_cell="far")
    foreseen, done = (rotate(linked, check, remote_cell="far", preshared_key=KEY) for check in (True, False))
    assert (foreseen.changed, foreseen.diffs()) == (done.changed, done.diffs())
    assert linked["cella"].wg["pic-far"].peers[FAR["public_key"]].psk == KEY
    assert f"wg set pic-far peer {FAR['public_key']} preshared-key /dev/stdin" in linked["cella"].steps
    assert [line for line in done.said["cella"] if line.startswith("next: let the owner of far install the same preshared key")], done.said["cella"]
    linked.reset()
    assert (rotate(linked, remote_cell="far", preshared_key=KEY).changed, linked.steps()) == ([], {})


def test_a_key_for_a_link_of_which_both_cells_are_here_is_not_given(linked: World) -> None:
    with pytest.raises(BadInput, match="Leave preshared_key out"):
        rotate(linked, preshared_key=KEY)


def test_one_thing_at_a_time(linked: World) -> None:
    with pytest.raises(BadInput, match="Give remote_cell for the preshared key of a link, or device for the key of a device"):
        rotate(linked, device="phone")


def test_a_key_that_site_puts_back_is_named(linked: World) -> None:
    old = linked.inventory["cella"]["cell_peers"][0]["public_key"]
    linked.inventory["cella"]["cell_peers"][0]["public_key"] = made_key("rotated")
    linked.site()
    linked.inventory["cella"]["cell_peers"][0]["public_key"] = old
    words = f"next: if {made_key('rotated')} is the newer key of phone (pic.cells.rotate_key), state it in cell_peers of host cella and run this again"
    for check in (True, False):
        assert words in linked.site(check=check).said["cella"]
    assert linked.site().said["cella"][-1] == "next: nothing is left to do"
