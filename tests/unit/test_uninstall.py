# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a cell, and another key for one: what belongs to others is afterwards as it was."""

from __future__ import annotations

import re

import pytest

from ansible_collections.pic.cells.plugins.module_utils.program import redial, unchanged
from ansible_collections.pic.cells.tests.unit.adopted import ALICE, BOB, FILES, OWN, PORT, SECRET
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.machine import Killed
from ansible_collections.pic.cells.tests.unit.fake.wg import clamped, public_key
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key, furnish, program

WG0 = "/etc/wireguard/wg0.conf"
KEPT = re.compile(r"/var/lib/pic\.removed|sysctl\.d|/proc/")


def lines(host: FakeHost) -> list[str]:
    """Return all that is on a host but what stays on purpose, in its order."""
    return [line for line in host.text().splitlines() if not KEPT.search(line)]


def uninstall(host: FakeHost, name: str = "cella", **args: bool) -> list[str]:
    """Remove the cell; check that it is foreseen and done once. Returns the warnings."""
    foreseen = call("pic_cell_uninstall", host, {"name": name, **args}, check=True)
    host.reset()
    done = call("pic_cell_uninstall", host, {"name": name, **args})
    assert not done.get("failed"), done
    assert (foreseen["changed"], foreseen["diff"], foreseen["warnings"]) == (True, done["diff"], done["warnings"])
    host.reset()
    assert (call("pic_cell_uninstall", host, {"name": name})["changed"], host.steps) == (False, [])
    return list(done["warnings"])


def test_afterwards_the_host_is_as_it_was(world: World) -> None:
    host = world["cella"]
    furnish(host)
    before = lines(host)
    world.inventory["cella"]["cell_links"][0]["interface"] = "wg0"
    world.site()
    warnings = uninstall(host)
    assert lines(host) == before
    assert sorted(warnings) == [
        f"Cell {name!r} still has its link with 'cella', unless somebody has removed it there (pic.cells.unlink, before this)." for name in ("cellb", "cellc")
    ]
    assert host.exists("/var/lib/pic.removed/identity.key")
    host.boot()
    assert "pic-" not in re.sub(r"pic-peer-phone|/var/lib/pic.*", "", "".join(lines(host)))


def test_what_the_cell_has_made_goes(world: World) -> None:
    host = world["cella"]
    before = lines(host)
    world.site()
    rc, out, err = program(host, "uninstall", "cella", "--purge")
    assert (rc, "PIC-FWD" in out, "still has its link with 'cella'" in err) == (0, True, True)
    assert lines(host) == before
    assert not any(path.startswith("/var/lib/pic") for path in host.files)
    assert program(host, "uninstall", "cella")[:2] == (0, "there is no cell left to remove\n")


def test_settings_of_somebodys_own_for_our_units_stay(linked: World) -> None:
    host = linked["cella"]
    mine = "/etc/systemd/system/pic-cell-watch.service.d/override.conf"
    host.files[mine] = (0o644, "[Service]\nNice=5\n")
    host.reset()
    assert call("pic_cell_uninstall", host, {"name": "cella"})["changed"]
    assert not [argv for argv in host.log if "pic-cell-watch.service.d" in argv], "a folder is no unit, and systemctl would fail"
    assert host.read(mine) == "[Service]\nNice=5\n"
    assert not [path for path in host.files if "pic-cell" in path and path.startswith("/etc") and path != mine]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_an_older_interface_is_as_it_was_byte_for_byte(host: FakeHost, text: str, restarted: bool) -> None:
    host.files[WG0] = (0o640, text)
    host.by_hand("systemctl enable wg-quick@wg0")
    host.by_hand("systemctl restart wg-quick@wg0")
    before = lines(host)
    cell = {"name": "cella", "networks": ["10.0.0.1/24", "fd00:a::1/64", "10.0.7.1/24"]}
    peers = [
        {"name": "alice", "public_key": ALICE, "addresses": ["10.0.0.2", "10.0.7.2"]},
        {"name": "phone", "public_key": device_key("phone"), "addresses": ["10.0.7.9"], "networks": ["192.168.8.0/24"]},
    ]
    call("wg_cell", host, {"cell": cell, "peers": peers})
    call("pic_cell_agent", host, {"cell": cell})
    assert "10.0.7.2" in (host.read(WG0) or "")
    if restarted:
        host.by_hand("systemctl restart wg-quick@wg0")  # which makes routes of its own
    assert uninstall(host) == []
    after = lines(host)
    assert (host.read(WG0) or "").split("\n")[:3] == text.split("\n")[:3]
    assert sorted(" ".join(sorted(re.findall(r"[\w.:/+=]+", line))) for line in after if "wg0.conf" not in line) == sorted(
        " ".join(sorted(re.findall(r"[\w.:/+=]+", line))) for line in before if "wg0.conf" not in line
    )
    allowed = [line for line in text.split("\n") if "allowedips" in line.lower()]
    assert [line for line in text.split("\n") if line not in (host.read(WG0) or "").split("\n") and line not in allowed] == []
    assert host.files[WG0][0] == 0o640


def test_no_routed_device_goes_direct_on_the_way(linked: World) -> None:
    host = linked["cella"]

    def watch(step: str) -> None:
        for name in ("phone", "tablet"):
            let_in = "wg0" in host.wg and device_key(name) in host.wg["wg0"].peers
            address = {"phone": "10.0.0.2", "tablet": "10.0.0.3"}[name]
            assert not let_in or any(rule.src == address and rule.table is None for rule in host.rules[4]), f"{name} is open before {step}"

    host.watch = watch
    call("pic_cell_uninstall", host, {"name": "cella"})
    assert not host.exists("/var/lib/pic")


def test_a_routed_device_that_stays_is_named(world: World) -> None:
    host = world["cella"]
    host.files[WG0] = (0o600, FILES["PiVPN"])
    host.by_hand("systemctl restart wg-quick@wg0")
    world.inventory["cella"]["cell_peers"] = [{"name": "alice", "public_key": ALICE, "addresses": ["10.0.0.2", "fd00:a::2"], "route_via": "cellb"}]
    world.inventory["cella"]["cell_services"] = []
    world.inventory["cella"]["cell_links"] = [{"name": "cellb"}, {"name": "cellc"}]
    world.inventory["cellb"]["cell_peers"] = []
    world.site()
    assert [warning for warning in uninstall(host) if "'alice'" in warning and "internet directly" in warning]
    assert (host.read(WG0), list(host.wg["wg0"].peers)) == (FILES["PiVPN"], [ALICE, BOB])


@pytest.mark.parametrize("older", [False, True])
def test_what_ends_in_the_middle_is_completed_by_the_next(world: World, older: bool) -> None:
    if older:
        furnish(world["cella"])
    before = lines(world["cella"])
    world.site()
    number = 0
    while True:
        number += 3
        host = world["cella"].fork()
        host.reset()
        host.fail_at, host.kill = number, True
        try:
            call("pic_cell_uninstall", host, {"name": "cella"})
        except Killed:
            host.reset()
            assert not call("pic_cell_uninstall", host, {"name": "cella"}).get("failed")
            assert lines(host) == before, number
        else:
            break


def test_what_the_cell_has_noted_until_the_next_boot_goes_too(linked: World) -> None:
    host = linked["cella"]
    assert program(host, "restore") == (0, "", "")
    host.files[f"{redial.NOTES}/pic-cellb.json"] = (0o600, "{}")
    assert unchanged.PATH in host.files
    assert not call("pic_cell_uninstall", host, {"name": "cella"}).get("failed")
    assert not [path for path in host.files if path.startswith((unchanged.PATH, redial.NOTES))]


def test_another_cell_is_not_removed_by_mistake(linked: World) -> None:
    host = linked["cella"]
    before = host.text()
    assert "is the cell 'cella', not 'cellb'" in call("pic_cell_uninstall", host, {"name": "cellb"})["msg"]
    assert "is the cell 'cella', not 'cellb'" in program(host, "uninstall", "cellb")[2]
    host.files["/var/lib/pic/peer_registry.json"] = (0o600, "{")
    assert "Put it back from a backup" in call("pic_cell_uninstall", host, {"name": "cella"})["msg"]
    del host.files["/var/lib/pic/peer_registry.json"]
    host.files["/var/lib/pic/cell.json"] = (0o600, "{")
    assert "Put it back from a backup" in call("pic_cell_uninstall", host, {"name": "cella"})["msg"]
    assert [line for line in host.text().splitlines() if "/var/lib/pic/" not in line] == [line for line in before.splitlines() if "/var/lib/pic/" not in line]


# Another key


def test_another_key_keeps_what_is_others_and_every_preshared_key(world: World) -> None:
    host = world["cella"]
    host.files[WG0] = (0o600, FILES["Nyr"])
    host.by_hand("systemctl restart wg-quick@wg0")
    world.inventory["cella"]["cell_peers"] = [{"name": "alice", "public_key": ALICE, "addresses": ["10.0.0.2", "fd00:a::2"]}]
    world.inventory["cella"]["cell_services"] = []
    world.inventory["cella"]["cell_links"] = [{"name": "cellb"}, {"name": "cellc", "interface": "wg0"}]
    world.inventory["cellb"]["cell_peers"] = []
    world.site()
    old, before = world.public_key("cella"), host.wg["wg0"].peers[BOB]
    keys = {name: host.wg[name].peers[world.public_key(cell)].psk for name, cell in (("pic-cellb", "cellb"), ("wg0", "cellc"))}
    assert call("pic_cell_rekey", host, {}, check=True)["public_key"] == "(generated)"
    assert world.public_key("cella") == old
    made = call("pic_cell_rekey", host, {})
    world.site()
    assert (world.public_key("cella"), made["public_key"] != old) == (made["public_key"], True)
    assert {clamped((host.read("/var/lib/pic/identity.key") or "").strip())} == {device.private for device in host.wg.values()}
    assert (host.wg["wg0"].peers[BOB], host.wg["wg0"].peers[ALICE].psk, host.wg["wg0"].port) == (before, SECRET["alice"], PORT)
    assert keys == {name: host.wg[name].peers[world.public_key(cell)].psk for name, cell in (("pic-cellb", "cellb"), ("wg0", "cellc"))}
    for cell in ("cellb", "cellc"):
        assert list(world[cell].wg["pic-cella"].peers) == [made["public_key"]]
    assert (host.read(WG0) or "").replace((host.read("/var/lib/pic/identity.key") or "").strip(), OWN).startswith(FILES["Nyr"])
    assert world.site().changed == []


def test_a_host_that_is_no_cell_gets_no_key(host: FakeHost) -> None:
    assert "not a cell" in call("pic_cell_rekey", host, {})["msg"]
    assert host.steps == []


# The playbooks


def test_the_playbook_for_another_key_tells_it_to_all(controller: Controller) -> None:
    done = controller.play("rekey", "-e", "cell=cella")
    assert done.rc == 0, done.text
    key = public_key((controller["cella"].read("/var/lib/pic/identity.key") or "").strip())
    assert f"The public key of cella is now {key}" in done.text
    assert key in controller["cellb"].wg["pic-cella"].peers


def test_the_playbook_removes_the_cell_that_is_named_and_no_other(controller: Controller) -> None:
    for playbook in ("rekey", "uninstall"):
        done = controller.play(playbook)
        assert done.rc != 0 and f"The playbook pic.cells.{playbook} needs the variable 'cell'" in done.text
    done = controller.play("uninstall", "-e", "cell=cella")
    assert done.rc == 0, done.text
    assert [controller[name].exists("/var/lib/pic/cell.json") for name in ("cella", "cellb")] == [False, True]
    done = controller.play("uninstall", "-e", "cell=cella")
    assert (done.rc, "there is no cell left to remove" in done.text) == (0, True)
