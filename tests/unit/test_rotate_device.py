# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another key for a device, and for a cell, with real Ansible: all else of it stays, its ways are closed as before, and the old key is out."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_add_device import changed, lines, private_key, public_key, sent, shown
from ansible_collections.pic.cells.tests.unit.world import device_key

PHONE = {"cell": "cella", "device": "phone"}


def without(host: FakeHost, *keys: str) -> list[str]:
    """Return the state of a host without its files, with one word for these keys."""
    return sorted(re.sub("|".join(map(re.escape, keys)), "THE KEY", host.text(files=False)).splitlines())


def test_a_device_gets_another_key_and_nothing_else_changes(controller: Controller, tmp_path: Path) -> None:
    before = controller["cella"]
    foreseen = controller.play("rotate_key", "--check", "--diff", **PHONE)
    assert foreseen.rc == 0, foreseen.text
    assert not (tmp_path / "phone.conf").exists()
    assert "would change on cella: peer phone: 10.0.0.2, fd00:a::2 with key (generated)" in foreseen.text
    assert f"the key of phone would be made in {tmp_path}/phone.conf" in lines(foreseen)

    done = controller.play("rotate_key", "--diff", "-vvvv", **PHONE)
    assert done.rc == 0, done.text
    private = private_key(tmp_path, "phone")
    public = public_key(private)
    after = controller["cella"]
    assert {stat.S_IMODE((tmp_path / f"phone.{kind}").stat().st_mode) for kind in ("conf", "svg", "png")} == {0o600}
    assert private not in done.text and private not in sent(controller) and private not in after.text()
    assert without(after, public) == without(before, device_key("phone"))
    assert device_key("phone") not in (after.read("/var/lib/pic/peer_registry.json") or "")
    assert [step for step in after.steps if step.startswith("wg ")] == [f"wg set wg0 peer {device_key('phone')} remove", f"wg addconf wg0 {public}"]
    assert lines(done)[:2] == ["state this key for phone in cell_peers of host cella:", f"  public_key: {public}"]
    words = "The inventory states the key that device 'phone' of 'cella' has had until now; the next run of site puts that back."
    assert words in shown(done) and [line for line in done.said["cella"] if line.startswith(f"next: {words}")]

    again = controller.play("rotate_key", **PHONE)
    assert again.rc != 0 and f"{tmp_path}/phone.conf is there already, with a key of before, and is never overwritten." in again.message
    assert changed(again) == 0
    other = controller.play("rotate_key", config_dest=str(tmp_path / "other.conf"), **PHONE)
    assert other.rc == 0 and public_key(private_key(tmp_path, "other")) in controller["cella"].text()

    controller.of("cella")["cell_peers"][0]["public_key"] = public_key(private_key(tmp_path, "other"))
    site = controller.play("site")
    assert (site.rc, changed(site)) == (0, 0), site.text


def test_a_device_that_has_made_its_key_is_given_the_rest(controller: Controller, tmp_path: Path) -> None:
    own = {"public_key": made_key("own"), **PHONE}
    done = controller.play("rotate_key", awx_job_id="7", **own)
    assert done.rc == 0, done.text
    assert made_key("own") in controller["cella"].wg["wg0"].peers and device_key("phone") not in controller["cella"].wg["wg0"].peers
    assert "# PrivateKey: only the device has it" in lines(done) and not list(tmp_path.glob("phone.*"))
    again = controller.play("rotate_key", **own)
    assert (again.rc, changed(again)) == (0, 0), again.text


def test_what_cannot_be_is_one_sentence_and_makes_no_key(controller: Controller, tmp_path: Path) -> None:
    for given, words in (
        ({"device": "radio"}, "Cell 'cella' has no device 'radio' whose key could be changed. Add it (pic.cells.add_device), or correct the name."),
        ({"device": "phone", "awx_job_id": "7"}, "give its public half as public_key. Or give config_dest"),
        ({"device": "phone", "public_key": device_key("tablet")}, "belongs to"),
        ({"device": "phone", "remote_cell": "cellb"}, "and not both"),
        ({"remote_cell": "nobody"}, "'nobody' is not in this inventory"),
        ({"remote_cell": "nobody", "preshared_key": "x"}, "preshared_key: the preshared key is not 32 bytes in base64"),
        ({"remote_cell": "nobody", "preshared_key": made_key("given")}, "Cell 'cella' does not know cell 'nobody'"),
    ):
        done = controller.play("rotate_key", cell="cella", **given)
        assert done.rc != 0 and words in done.message, done.text
        assert changed(done) == 0 and not list(tmp_path.glob("phone.*"))
    controller.of("cella")["cell_peers"][0]["preshared_key"] = made_key("a preshared key")
    done = controller.play("rotate_key", **PHONE)
    assert done.rc != 0 and "Make both keys yourself, state public_key and preshared_key in cell_peers" in done.message, done.text
    assert made_key("a preshared key") not in done.text


def test_a_link_gets_its_key_and_shows_it_nowhere(controller: Controller) -> None:
    before = controller["cella"].wg["pic-cellb"].peers
    done = controller.play("rotate_key", "--diff", "-vvvv", cell="cella", remote_cell="cellb")
    assert done.rc == 0, done.text
    (new,) = (peer.psk for peer in controller["cella"].wg["pic-cellb"].peers.values())
    assert new not in (None, *(peer.psk for peer in before.values()))
    assert str(new) not in done.text and str(new) in controller["cellb"].text()
    assert "changed on cella: link cellb: another preshared key" in done.said["cella"]


def test_the_cell_itself_gets_another_key_and_all_cells_hear_it(controller: Controller) -> None:
    done = controller.play("rotate_key", cell="cella")
    assert done.rc == 0, done.text
    assert json.dumps(done.said).count("cella: public key") == 2
    assert [name for name in ("cellb", "cellc") if f"The public key of cella is now {next(iter(controller[name].wg['pic-cella'].peers))}" in done.text] == [
        "cellb",
        "cellc",
    ]


def test_a_cell_that_is_away_hears_of_the_key_later_and_keeps_nobody(controller: Controller) -> None:
    controller.of("cellc").update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1)
    done = controller.play("rotate_key", cell="cella")
    assert done.rc == 4 and list(done.said) == ["cella", "cellb"], done.text
    (key,) = controller["cellb"].wg["pic-cella"].peers
    assert f"The public key of cella is now {key}" in done.text and key not in controller["cellc"].wg["pic-cella"].peers
    assert "pending on cella: cellc was not reached" in done.said["cella"]
    done = controller.play("rotate_key", cell="cella", remote_cell="cellc")
    assert done.rc != 0 and "a preshared key has to change on both sides, and cell 'cellc' was not reached. Run this again" in done.message, done.text
    assert changed(done) == 0
