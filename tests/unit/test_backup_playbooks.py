# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks that back a cell up and put it back, with real Ansible: the file is its owner's alone, and its contents are shown nowhere."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_add_device import changed, shown
from ansible_collections.pic.cells.tests.unit.world import FORWARDING


def secrets(host: FakeHost) -> set[str]:
    return {host.read("/var/lib/pic/identity.key") or "", *(str(peer.psk) for device in host.wg.values() for peer in device.peers.values() if peer.psk)}


def loses_all(controller: Controller, name: str = "cella") -> FakeHost:
    """Put a new machine in the place of a cell's. Returns the old one."""
    before = controller[name]
    host = FakeHost(controller.folder / "new", f"new {name}")
    host.dns.update(before.dns)
    host.files.update({path: (0o644, text) for path, text in FORWARDING.items()})
    controller[name] = host
    return before


def test_a_cell_is_backed_up_and_put_back_on_a_new_host(controller: Controller, tmp_path: Path) -> None:
    path = tmp_path / f"cella-{time.strftime('%Y-%m-%d')}.backup"
    foreseen = controller.play("backup", "--check", "--diff", cell="cella")
    assert (foreseen.rc, changed(foreseen), path.exists()) == (0, 1, False), foreseen.text
    assert f"the backup of cella would be {path}, not encrypted" in foreseen.text
    done = controller.play("backup", "--diff", "-vvvv", cell="cella")
    assert (done.rc, changed(done), stat.S_IMODE(path.stat().st_mode)) == (0, 1, 0o600), done.text
    assert f"the backup of cella is {path}, not encrypted, as this run has no vault password: keep it to yourself" in done.text
    assert not [secret for secret in secrets(controller["cella"]) if secret.strip() in done.text]
    assert "identity.key" in path.read_text() and "aWRlbnRpdHkua2V5" not in done.text
    again = controller.play("backup", cell="cella")
    assert again.rc != 0 and f"{path} is there already, and no backup is ever overwritten. Give backup_dest" in again.message

    before = loses_all(controller)
    put = {"cell": "cella", "backup": str(path)}
    foreseen = controller.play("restore_backup", "--check", "--diff", **put)
    assert (foreseen.rc, changed(foreseen)) == (0, 1), foreseen.text
    assert (
        "only the files of the backup are predicted: what pic.cells.site would change after them follows from records that are not there yet" in foreseen.text
    )
    assert "would be written on cella: /var/lib/pic/identity.key" in foreseen.text and not controller["cella"].exists("/var/lib/pic/identity.key")
    done = controller.play("restore_backup", "--diff", "-vvvv", **put)
    assert done.rc == 0, done.text
    assert not [secret for secret in secrets(before) if secret.strip() in done.text]
    assert "next: take away anew what was taken away since the backup" in done.text
    after = controller["cella"]
    assert {name: vars(device) for name, device in after.wg.items()} == {name: vars(before.wg[name]) for name in after.wg}
    assert [line for line in done.said["cellb"] if line.startswith("changed on cellb: link")] == []
    again = controller.play("restore_backup", **put)
    assert (again.rc, changed(again)) == (0, 0) and "cella has all of it already" in again.text, again.text


def test_with_a_vault_password_the_file_is_encrypted(controller: Controller, tmp_path: Path) -> None:
    for name in ("ours", "another"):
        (tmp_path / name).write_text(name)
    folder = tmp_path / "backups"
    folder.mkdir()
    ours, another = (("--vault-password-file", str(tmp_path / name)) for name in ("ours", "another"))
    done = controller.play("backup", *ours, "-vvvv", cell="cellb", backup_dest=f"{folder}/", awx_job_id="7")
    assert done.rc == 0 and "encrypted with the vault password of this run" in done.text, done.text
    (path,) = folder.iterdir()
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n") and path.name.startswith("cellb-")
    put = {"cell": "cellb", "backup": str(path)}
    for options in ((), another):
        refused = controller.play("restore_backup", *options, "--check", **put)
        assert refused.rc != 0 and "is encrypted, and no vault password of this run opens it" in refused.message, refused.text
    done = controller.play("restore_backup", *ours, "--check", **put)
    assert (done.rc, changed(done)) == (0, 0) and "cellb has all of it already" in done.text, done.text
    assert "next: run pic.cells.site --check to see what it would change" in done.text


@pytest.mark.parametrize(
    ("playbook", "given", "words"),
    [
        ("backup", {"awx_job_id": "7"}, "The files of this job end with it, so a backup would be lost. Give backup_dest"),
        ("backup", {"backup_dest": "none/"}, "No file can be made in"),
        ("backup", {"backup_dest": "inventory.yml"}, "no backup is ever overwritten"),
        ("backup", {"backup_dest": "{{ 1 + 1 }}/"}, "{{ 1 + 1 }}"),
        ("restore_backup", {"backup": "nothing"}, "nothing cannot be read"),
        ("restore_backup", {"backup": "inventory.yml"}, "This is no backup of a cell. Give a file that pic.cells.backup has written."),
        ("restore_backup", {"backup": "/dev/zero"}, "cannot be read"),
        ("restore_backup", {}, "needs the variable 'backup'"),
    ],
)
def test_what_cannot_be_is_one_sentence(controller: Controller, playbook: str, given: dict[str, str], words: str) -> None:
    before = controller["cella"].text()
    done = controller.play(playbook, cell="cella", **given)
    assert done.rc != 0 and words in done.message and changed(done) == 0, done.text
    assert controller["cella"].text() == before and not shown(done)
    assert {module for module, _given in controller.asked("cella")} <= {"pic_cell_restore_backup"}


def test_a_backup_is_not_made_where_ansible_reads_it_as_an_inventory(controller: Controller, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "more.yml").write_text("all: {}\n")
    done = controller.play("backup", "-i", str(folder), cell="cella", backup_dest=str(folder))
    assert done.rc != 0 and "which Ansible reads as an inventory. Give backup_dest, a path elsewhere." in done.message, done.text
    assert [path.name for path in folder.iterdir()] == ["more.yml"]
