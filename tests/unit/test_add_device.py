# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks that add, remove and show a device, with real Ansible: its key is in its file, and nowhere else."""

from __future__ import annotations

import base64
import json
import re
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from ansible_collections.pic.cells.plugins.module_utils.parts.device_file import render
from ansible_collections.pic.cells.plugins.plugin_utils import device_files
from ansible_collections.pic.cells.tests.unit.controller import Controller, Outcome
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_devices import CELL
from ansible_collections.pic.cells.tests.unit.world import device_key


def private_key(folder: Path, name: str = "watch") -> str:
    """Return the private key in a device's file."""
    (found,) = re.findall(r"^PrivateKey = (.+)$", (folder / f"{name}.conf").read_text(), re.MULTILINE)
    return str(found)


def public_key(private: str) -> str:
    """Return what belongs to a private key; the fake hosts have keys of their own sort."""
    key = x25519.X25519PrivateKey.from_private_bytes(base64.b64decode(private)).public_key()
    return base64.b64encode(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)).decode()


def lines(done: Outcome) -> list[str]:
    """Return the last lines that a playbook has shown."""
    return [result["msg"] for _host, task, result in done.results if task.startswith("Show the ") and "msg" in result][-1]


def changed(done: Outcome) -> int:
    """Return how many tasks have changed something."""
    return sum(stats["changed"] for stats in done.stats.values())


def shown(done: Outcome) -> str:
    """Return the warnings of a run."""
    return "\n".join(warning for _host, _task, result in done.results for warning in result.get("warnings", ()))


def sent(controller: Controller) -> str:
    """Return all that has travelled to cells."""
    return json.dumps([controller.asked(host) for host in ("cella", "cellb", "cellc")])


def test_a_device_is_added_with_its_file_and_a_second_run_changes_nothing(controller: Controller, tmp_path: Path) -> None:
    add = {"cell": "cella", "device": "watch", "via_cell": "cellb"}
    foreseen = controller.play("add_device", "--check", "--diff", **add)
    assert foreseen.rc == 0, foreseen.text
    assert not (tmp_path / "watch.conf").exists() and device_key("watch") not in foreseen.text
    assert "would change on cella: peer watch: 10.0.0.5, fd00:a::5 with key (generated)" in foreseen.text
    assert "would change on cella: peer watch: internet via cellb" in foreseen.text

    done = controller.play("add_device", "--diff", "-vvvv", **add)
    assert done.rc == 0, done.text
    private = private_key(tmp_path)
    public = public_key(private)
    assert stat.S_IMODE((tmp_path / "watch.conf").stat().st_mode) == 0o600
    assert {stat.S_IMODE((tmp_path / f"watch.{kind}").stat().st_mode) for kind in ("svg", "png")} == {0o600}
    assert private not in done.text and private not in sent(controller)
    assert private not in controller["cella"].text()
    assert "DNS = 9.9.9.9, 2620:fe::fe\n" in (tmp_path / "watch.conf").read_text()
    assert f"wg wg0 peer {public}" in controller["cella"].text()
    assert [line for line in lines(done) if line.startswith(("-", "  "))] == [
        "- name: watch",
        f"  public_key: {public}",
        "  addresses: [10.0.0.5, 'fd00:a::5']",
        "  route_via: [cellb]",
    ]
    before = {path: path.read_bytes() for path in tmp_path.glob("watch.*")}
    again = controller.play("add_device", **add)
    assert (again.rc, changed(again)) == (0, 0), again.text
    assert lines(again) == lines(done)

    controller.of("cella")["cell_peers"].append({"name": "watch", "public_key": public, "addresses": ["10.0.0.5", "fd00:a::5"], "route_via": ["cellb"]})
    site = controller.play("site")
    assert (site.rc, changed(site)) == (0, 0), site.text
    again = controller.play("add_device", **add)
    assert changed(again) == 0 and lines(again)[0] == "cell_peers of host cella has watch already"
    other = controller.play("show_device", cell="cella", device="watch", show_qr="true", awx_job_id="7")
    assert "holds its private key and is not shown, since what this job prints is kept" in other.text and private not in other.text
    other = controller.play("add_device", **{**add, "split": "true", "show_qr": "true"})
    assert (other.rc, changed(other)) == (0, 0), other.text
    assert "watch.conf is there already and is never overwritten" in other.text
    assert f"since the output of this run is no terminal. See {tmp_path}/watch.png" in other.text
    assert {path: path.read_bytes() for path in tmp_path.glob("watch.*")} == before


def test_a_folder_with_the_file_that_is_read_as_an_inventory_shows_nothing_of_the_key(controller: Controller, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "hosts.yml").write_text("all: {hosts: {cella: {}}}\n")
    device_files.make(str(folder / "watch.conf"), lambda private: render(CELL, "watch", ["10.0.0.5"], [], False, private))
    device_files.make_images(str(folder / "watch.conf"))
    program = controller.program.parent / "ansible-inventory"
    read = subprocess.run([program, "-i", folder, "--list", "-vvvv"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "watch.conf" in read.stdout + read.stderr and "cella" in read.stdout, read.stderr
    assert private_key(folder)[:20] not in read.stdout + read.stderr


def test_the_file_is_not_made_where_ansible_reads_it_as_an_inventory(controller: Controller, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "more.yml").write_text("all: {}\n")
    for dest in (folder, folder / "deeper" / "my.conf"):
        done = controller.play("add_device", "-i", str(folder), cell="cella", device="watch", config_dest=str(dest))
        assert done.rc != 0 and f"is in {folder}, which Ansible reads as an inventory. Give config_dest, a path elsewhere." in done.message, done.text
    assert [path.name for path in folder.iterdir()] == ["more.yml"]


def test_a_removed_device_is_cut_off_and_a_second_run_changes_nothing(controller: Controller) -> None:
    done = controller.play("remove_device", cell="cella", device="phone")
    assert done.rc == 0, done.text
    cell = controller["cella"]
    assert device_key("phone") not in cell.text()
    assert "10.0.0.2" not in cell.read("/var/lib/pic/peer_registry.json")
    assert "next: The inventory states device 'phone' of 'cella'; the next run of site adds it again. Remove its lines in cell_peers." in done.said["cella"]
    controller.of("cella")["cell_peers"].pop(0)
    again = controller.play("remove_device", cell="cella", device="phone")
    assert (again.rc, changed(again)) == (0, 0), again.text


def test_a_device_that_comes_back_is_not_given_its_old_key_without_a_word(controller: Controller, tmp_path: Path) -> None:
    words = f"The file {tmp_path}/watch.conf is there already, and device 'watch' gets the key that is in it."
    done = controller.play("add_device", cell="cella", device="watch")
    again = controller.play("add_device", cell="cella", device="watch")
    assert (done.rc, again.rc) == (0, 0) and not [run for run in (done, again) if words in shown(run)]
    assert controller.play("remove_device", cell="cella", device="watch").rc == 0
    back = controller.play("add_device", "--check", cell="cella", device="watch")
    assert back.rc == 0 and f"{words} If that file is of a device that was lost or removed" in shown(back), back.text
    assert "delete the file and its pictures, and add it again" in shown(back)


def test_a_device_whose_file_no_qr_code_can_hold_gets_it_without(controller: Controller, tmp_path: Path) -> None:
    networks = [f"10.{n}.{m}.0/24" for n in range(50, 53) for m in range(100)]
    controller.of("cella")["cell_peers"][0]["networks"] = networks
    assert controller.play("site").rc == 0
    add = {"cell": "cella", "device": "watch", "split": "true", "show_qr": "true"}
    for check in ("--check", "--diff"):
        done = controller.play("add_device", check, **add)
        assert done.rc == 0 and "The file of device 'watch' is too large for a QR code" in shown(done), done.text
    assert [path.name for path in tmp_path.glob("watch.*")] == ["watch.conf"] and not [line for line in lines(done) if "QR" in line]
    assert changed(controller.play("add_device", **add)) == 0


def test_a_run_that_is_refused_has_made_no_key(controller: Controller, tmp_path: Path) -> None:
    done = controller.play("add_device", cell="cellc", device="watch")
    assert done.rc != 0 and "State cell_endpoint: the name or address at which port 51820/udp of the cell is reached." in done.message
    done = controller.play("add_device", cell="cella", device="watch", addresses="10.0.0.2")
    assert done.rc != 0 and "already belongs to" in done.message, done.message
    assert not list(tmp_path.glob("watch.*")) and changed(done) == 0


def test_the_key_that_a_failed_run_has_made_is_used_by_the_next(controller: Controller, tmp_path: Path) -> None:
    controller.hostile("cella", "def answer(module, arguments, honest):\n    return {'failed': True, 'msg': 'no'} if module == 'wg_cell' else honest\n")
    done = controller.play("add_device", cell="cella", device="watch")
    assert done.rc != 0
    private = private_key(tmp_path)
    (tmp_path / "cella.py").unlink()
    (tmp_path / "watch.png").unlink()
    done = controller.play("add_device", cell="cella", device="watch")
    assert done.rc == 0, done.text
    assert private_key(tmp_path) == private and (tmp_path / "watch.png").exists()
    assert f"wg wg0 peer {public_key(private)}" in controller["cella"].text()


def test_another_key_than_the_device_has_is_named(controller: Controller, tmp_path: Path) -> None:
    done = controller.play("add_device", cell="cella", device="phone", public_key=made_key("another"))
    assert done.rc != 0
    assert f"Device 'phone' has two public keys: {made_key('another')} in public_key, and {device_key('phone')} in the record of cell 'cella'." in done.message
    done = controller.play("add_device", cell="cella", device="phone")
    assert (done.rc, changed(done)) == (0, 0), done.text
    assert lines(done)[-1] == f"phone has its private key already; it is not in {tmp_path}/phone.conf"
    assert not (tmp_path / "phone.conf").exists()


def test_a_device_with_a_key_of_its_own_is_shown_the_rest(controller: Controller, tmp_path: Path) -> None:
    done = controller.play("add_device", cell="cella", device="watch", public_key=made_key("own"), addresses="10.0.0.9", dns="10.0.0.1", split="true")
    assert done.rc == 0, done.text
    assert f"wg wg0 peer {made_key('own')}" in controller["cella"].text()
    assert "DNS = 10.0.0.1" in lines(done) and "# PrivateKey: only the device has it" in lines(done)
    assert not list(tmp_path.glob("watch.*"))
    shown = controller.play("show_device", cell="cella", device="watch")
    assert (shown.rc, changed(shown)) == (0, 0), shown.text
    assert "Address = 10.0.0.9/32" in lines(shown) and "AllowedIPs = 0.0.0.0/0, ::/0" in lines(shown)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"awx_job_id": "7"}, "give its public half as public_key. Or give config_dest"),
        ({"config_dest": "inventory.yml"}, "holds no private key, so it is not a device's. Move it away"),
        ({"config_dest": "{{ 1 + 1 }}/"}, "No file can be made in"),
    ],
)
def test_what_cannot_be_is_one_sentence(controller: Controller, tmp_path: Path, given: dict[str, str], words: str) -> None:
    done = controller.play("add_device", **{"cell": "cella", "device": "watch", **given})
    assert done.rc != 0 and words in done.message, done.text
    assert changed(done) == 0 and not list(tmp_path.glob("watch.*"))


def test_a_cell_that_has_lost_its_registry_of_devices_lets_nobody_in_and_forgets_nobody(controller: Controller, tmp_path: Path) -> None:
    cell = controller["cella"]
    cell.write("/var/lib/pic/peer_registry.json", "{garbage")
    controller["cella"] = cell
    before = cell.text()
    for playbook, device in (("add_device", "watch"), ("remove_device", "phone")):
        done = controller.play(playbook, cell="cella", device=device)
        assert done.rc != 0 and "peer_registry.json cannot be read" in done.message and "run pic.cells.site with all devices" in done.message, done.text
    assert controller["cella"].text() == before and not list(tmp_path.glob("watch.*"))
