# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup of a cell holds, and what of one a host takes back: known files with sound contents, and nothing that says otherwise than what is there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_keys import invited
from ansible_collections.pic.cells.tests.unit.world import FORWARDING, WG0, World, call, device_key, furnish, program

FOLDER = "/var/lib/pic"


def backup(world: World, name: str = "cella") -> dict[str, Any]:
    """Return a backup of a cell, as its file has it."""
    done = call("pic_cell_backup", world[name], {"name": name})
    assert not done.get("failed"), done
    found: dict[str, Any] = json.loads(base64.b64decode(done["backup"]))
    return found


def restore(host: FakeHost, document: Any, name: str = "cella", check: bool = False) -> dict[str, Any]:
    text = document if isinstance(document, str) else json.dumps(document)
    done = call("pic_cell_restore_backup", host, {"name": name, "backup": base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()}, check)
    shown = json.dumps({key: value for key, value in done.items() if key != "invocation"})
    assert not any(secret in shown for secret in host.secrets) and made_key("an older key") not in shown
    return done


def new_host(world: World, folder: Path, name: str = "cella") -> FakeHost:
    """Put another machine in the place of a cell's."""
    host = world.hosts[name] = FakeHost(folder / "new", f"new {name}")
    host.dns.update(world["cellb"].dns)
    host.files.update({path: (0o644, text) for path, text in FORWARDING.items()})
    host.reset()
    return host


def kernel(host: FakeHost) -> list[str]:
    return [line for line in host.text(files=False).splitlines() if not line.startswith("unit ")]


def test_a_backup_holds_all_of_a_cell_that_is_not_in_the_inventory(linked: World) -> None:
    key = invited(linked)
    found = backup(linked)
    assert (found["cell"], found["format"], found["version"]) == ("cella", "pic.cells backup", 1)
    records = {"cell.json", "cell_links.json", "peer_registry.json", "identity.key"}
    wireguard = (f"wireguard/{name}.conf" for name in ("wg0", "pic-cellb", "pic-cellc", "pic-far"))
    assert set(found["files"]) == {*records, *wireguard, "invitations/far.psk"}
    linked["cella"].files[f"{FOLDER}/invitations/nobody.psk"] = (0o600, f"{made_key('nobody')}\n")
    assert made_key("nobody") not in json.dumps(backup(linked)), "of a link that is not recorded"
    linked["cella"].files[f"{FOLDER}/invitations/cellb.psk"] = (0o600, f"{key}\n")
    assert backup(linked)["files"]["invitations/cellb.psk"] == f"{key}\n"
    linked.reset()
    foreseen = call("pic_cell_backup", linked["cella"], {"name": "cella"}, check=True)
    assert (foreseen["backup"], sorted(foreseen["files"]), foreseen["changed"]) == ("", sorted(backup(linked)["files"]), True)
    assert linked.steps() == {}


def test_a_host_that_is_not_that_cell_or_has_lost_a_record_is_not_backed_up(linked: World, host: FakeHost) -> None:
    assert "This host is the cell 'cella', not 'cellb'" in call("pic_cell_backup", linked["cella"], {"name": "cellb"})["msg"]
    assert "This host is not a cell" in call("pic_cell_backup", host, {"name": "cella"})["msg"]
    linked["cella"].files[f"{FOLDER}/peer_registry.json"] = (0o600, "{")
    assert "peer_registry.json cannot be read" in call("pic_cell_backup", linked["cella"], {"name": "cella"})["msg"]
    assert host.steps == []


@pytest.mark.parametrize("older", [False, True])
def test_a_new_host_becomes_the_cell_as_it_was(world: World, tmp_path: Path, older: bool) -> None:
    if older:
        furnish(world["cella"])
    world.inventory["cella"]["cell_peers"][0]["preshared_key"] = made_key("of the phone")
    world.site()
    del world.inventory["cella"]["cell_peers"][0]["preshared_key"]
    document, before = backup(world), world["cella"].fork()
    others = {name: kernel(world[name]) for name in ("cellb", "cellc")}
    host = new_host(world, tmp_path)
    host.missing = {"wg", "iptables", "conntrack"}  # as on a server that was just rented
    foreseen = restore(host, document, check=True)
    assert host.steps == []
    done = restore(host, document)
    assert (foreseen["changed"], foreseen["diff"], foreseen["files"]) == (done["changed"], done["diff"], done["files"]) and done["changed"]
    assert set(host.steps) == {f"write {path}" for path in done["files"]}
    assert all(mode == 0o600 for path, (mode, _text) in host.files.items() if path in done["files"])
    host.reset()
    assert (restore(host, document)["changed"], host.steps) == (False, [])
    host.missing = set()
    world.site()
    assert {name: kernel(world[name]) for name in others} == others
    assert {name: vars(device) for name, device in host.wg.items()} == {name: vars(before.wg[name]) for name in host.wg}
    assert host.wg["wg0"].peers[device_key("phone")].psk == made_key("of the phone")
    if older:
        assert host.read(f"{FOLDER}/adopted-wg0.conf") == WG0
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})
    assert program(host, "check")[0] == 0


def test_what_a_linked_cell_has_heard_since_the_backup_is_told_anew(linked: World, tmp_path: Path) -> None:
    document = backup(linked)
    for services in ("files", "voice", "files,voice"):
        linked.job("share", cell="cella", remote_cell="cellb", services=services)
    linked.job("share", cell="cella", remote_cell="cellb", services="none")
    assert linked.link("cellb", "cella")["permissions"]["outbound"] == {}
    host = new_host(linked, tmp_path)
    restore(host, document)
    linked.inventory["cella"]["cell_sync_transport"] = "tunnel"
    linked.site()
    for _push in range(3):
        program(host, "replay", send=lambda pushes: linked.carry("cella", pushes))
    assert linked.link("cellb", "cella")["permissions"]["outbound"] == {"files": True, "voice": True}


def test_only_what_is_lost_comes_back(linked: World) -> None:
    host, document = linked["cella"], backup(linked)
    before = host.text()
    for lost in ("{garbage", None):
        for name in ("peer_registry.json", "cell_links.json", "cell.json", "identity.key"):
            twin = host.fork()
            if lost is None:
                del twin.files[f"{FOLDER}/{name}"]
            else:
                twin.files[f"{FOLDER}/{name}"] = (0o600, lost)
            twin.reset()
            done = restore(twin, document)
            assert not done.get("failed"), done
            assert [path for path in done["files"] if not path.endswith(".corrupt")] == [f"{FOLDER}/{name}"]
            if name != "cell_links.json":  # which tells anew
                assert [line for line in twin.text().splitlines() if ".corrupt" not in line] == before.splitlines()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda world: world["cella"].files.update(world["cellb"].files), "This host is the cell 'cellb', not 'cella'"),
        (lambda world: call("pic_cell_rekey", world["cella"], {}), "has another key"),
        (lambda world: world.job("share", cell="cella", remote_cell="cellb", services="none"), "cell_links.json"),
        (lambda world: world.job("route_peer", cell="cella", peer="phone", via_cell="direct"), "peer_registry.json"),
        (lambda world: world["cella"].files.update({"/etc/wireguard/wg0.conf": (0o600, f"[Interface]\nPrivateKey = {made_key('x')}\n")}), "wg0.conf"),
    ],
)
def test_a_host_that_says_otherwise_is_left_as_it_is(linked: World, change: Callable[[World], Any], words: str) -> None:
    document = backup(linked)
    change(linked)
    linked.reset()
    before = linked["cella"].text()
    for check in (True, False):
        done = restore(linked["cella"], document, check=check)
        assert done["failed"] and words in done["msg"] and "Nothing was changed." in done["msg"], done
    assert (linked["cella"].text(), linked["cella"].steps) == (before, [])


def test_what_linked_cells_have_said_since_is_no_difference(linked: World) -> None:
    document = backup(linked)
    linked.inventory["cellb"]["cell_links"][0]["share"] = []
    linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="false")
    linked.reset()
    assert (restore(linked["cella"], document)["changed"], linked.steps()) == (False, {})


def test_a_run_that_ends_in_the_middle_is_completed_by_the_next(linked: World, tmp_path: Path) -> None:
    document = backup(linked)
    number = 0
    while True:
        number += 1
        host = new_host(linked, tmp_path / str(number))
        host.fail_at = number
        done = restore(host, document)
        if not done.get("failed"):
            break
        assert host.exists(f"{FOLDER}/identity.key") or not host.exists(f"{FOLDER}/cell.json"), "site would make another key"
        host.reset()
        assert restore(host, document)["changed"]
        assert host.read(f"{FOLDER}/peer_registry.json") == document["files"]["peer_registry.json"]
    assert number > 5


def renamed(document: dict[str, Any], old: str, new: str) -> None:
    document["files"][new] = document["files"].pop(old)


def in_record(document: dict[str, Any], name: str, change: Callable[[Any], Any]) -> None:
    record = json.loads(document["files"][name])
    change(record)
    document["files"][name] = json.dumps(record)


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another cell's": (lambda d: d.update(cell="cellb"), "of cell 'cellb', not of 'cella'"),
    "another record": (lambda d: in_record(d, "cell.json", lambda r: r.update(name="cellb")), "'cellb'"),
    "another format": (lambda d: d.update(format="tar"), "no backup"),
    "a later version": (lambda d: d.update(version=2), "version 2"),
    "more": (lambda d: d.update(more=1), "no backup"),
    "no files": (lambda d: d.update(files=[]), "no backup"),
    "a file that is no text": (lambda d: d["files"].update({"cell.json": {}}), "no backup"),
    "a path upwards": (lambda d: renamed(d, "wireguard/wg0.conf", "wireguard/../../root/x.conf"), "belongs to no file"),
    "an absolute path": (lambda d: d["files"].update({"/etc/passwd": "x"}), "belongs to no file"),
    "somebody else's interface": (lambda d: renamed(d, "wireguard/wg0.conf", "wireguard/wg1.conf"), "belongs to no file"),
    "a link on any interface": (lambda d: in_record(d, "cell_links.json", lambda r: r["links"][0].update(interface="eth0")), "'eth0'"),
    "an interface that is a path": (lambda d: in_record(d, "cell.json", lambda r: r.update(interface="../x")), "cell.json"),
    "no key": (lambda d: d["files"].pop("identity.key"), "identity.key"),
    "a key that is none": (lambda d: d["files"].update({"identity.key": "x"}), "identity.key"),
    "no record": (lambda d: d["files"].pop("cell.json"), "cell.json"),
    "a record that is none": (lambda d: d["files"].update({"cell_links.json": "["}), "cell_links.json"),
    "a deep record": (lambda d: d["files"].update({"cell_links.json": "[" * 100_000}), "cell_links.json"),
    "a setting that is none": (lambda d: d["files"].update({"wireguard/wg0.conf": "[Interface]\nExec = x\n"}), "wg0.conf"),
    "a preshared key that is none": (lambda d: d["files"].update({"invitations/cellb.psk": "x"}), "cellb.psk"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_backup_that_is_not_sound_is_one_sentence_and_changes_nothing(linked: World, tmp_path: Path, bad: str) -> None:
    document = backup(linked)
    change, words = BAD[bad]
    change(document)
    host = new_host(linked, tmp_path)
    done = restore(host, document)
    assert done.get("failed") and words in done["msg"] and "Nothing was changed." in done["msg"], done
    assert len(done["msg"]) < 1000 and host.steps == []
    assert not (tmp_path / "new" / "var").exists(), "not even the folder for the lock"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "5", '"\\ud800"', "\udcff", "{}"])
def test_what_is_no_backup_at_all_is_said(host: FakeHost, text: str) -> None:
    done = restore(host, text)
    assert done.get("failed") and "is no backup of a cell" in done["msg"], done
    assert host.steps == []
    assert "base64" in call("pic_cell_restore_backup", host, {"name": "cella", "backup": "/path"})["msg"]


def test_no_command_of_a_backup_comes_back(linked: World, tmp_path: Path) -> None:
    document = backup(linked)
    evil = "touch /root/owned"
    for name in ("wg0", "pic-cellb"):
        text = document["files"][f"wireguard/{name}.conf"]
        document["files"][f"wireguard/{name}.conf"] = text.replace("[Interface]\n", f"[Interface]\npostUP={evil}\n PreDown = {evil} \n")
    host = new_host(linked, tmp_path)
    done = restore(host, document)
    assert done["changed"] and not [path for path, (_mode, text) in host.files.items() if evil in text]
    (warning,) = done["warnings"]
    assert "wg0.conf" in warning and "postup, predown" in warning and "by hand" in warning and evil not in warning
