# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook pic.cells.adopt on real ansible-core: what it prints and writes is an inventory, whatever a host answers."""

from __future__ import annotations

import resource
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.adopted import place
from ansible_collections.pic.cells.plugins.plugin_utils.answers import judged
from ansible_collections.pic.cells.plugins.plugin_utils.job import read_job
from ansible_collections.pic.cells.tests.unit.adopted import ALICE, BOB, FILES, OWN, SECRET
from ansible_collections.pic.cells.tests.unit.controller import Controller, Outcome
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_adoption import furnished
from ansible_collections.pic.cells.tests.unit.test_statement import mesh

PEERS = [
    {"name": "alice", "public_key": ALICE, "addresses": ["10.0.0.2", "fd00:a::2"]},
    {"name": "bob", "public_key": BOB, "addresses": ["10.0.0.3", "fd00:a::3"]},
]
STATED = {"cells": {"hosts": {"cella": {"cell_networks": ["10.0.0.1/24", "fd00:a::1/64"], "cell_peers": PEERS}}}}


@pytest.fixture
def fresh(controller: Controller, tmp_path: Path) -> Controller:
    """Return a machine with an inventory that states nothing of cella, and a PiVPN there."""
    host = FakeHost(tmp_path / "fresh", "cella")
    for path in ("/etc/os-release", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding", "/etc/sysctl.d/90-pic-cells.conf"):
        host.files[path] = controller["cella"].files[path]
    controller["cella"] = furnished(host, FILES["PiVPN"])
    kept = {key: value for key, value in controller.of("cella").items() if key.startswith("ansible_")}
    controller.inventory = {"all": {"children": {"cells": {"hosts": {"cella": kept}}}}}
    return controller


def printed(done: Outcome) -> list[str]:
    """Return the lines that a run has shown."""
    (lines,) = (result["msg"] for _host, task, result in done.results if task == "Show the inventory that describes it" and "msg" in result)
    return list(lines)


def test_the_inventory_is_printed_and_nothing_changes(fresh: Controller) -> None:
    before = fresh["cella"].text()
    done, again, foreseen = (fresh.play("adopt", *options) for options in ((), (), ("--check",)))
    assert [run.rc for run in (done, again, foreseen)] == [0, 0, 0], done.text
    assert printed(done) == printed(again) == printed(foreseen)
    assert yaml.safe_load("\n".join(printed(done))) == STATED
    assert "# /etc/wireguard/wg0.conf line 4: MTU stays as it is." in printed(done)
    assert [run.stats["cella"]["changed"] for run in (done, again, foreseen)] == [0, 0, 0]
    assert fresh["cella"].text() == before
    assert not any(secret in done.text for secret in (OWN, *SECRET.values()))


def test_site_takes_the_file_that_is_written_as_an_inventory(fresh: Controller, tmp_path: Path) -> None:
    dest = tmp_path / "adopted.yml"
    foreseen = fresh.play("adopt", "--check", cell="cella", dest=str(dest))
    assert (foreseen.rc, foreseen.stats["cella"]["changed"], dest.exists()) == (0, 1, False), foreseen.text
    done = fresh.play("adopt", cell="cella", dest=str(dest))
    assert (done.rc, done.stats["cella"]["changed"]) == (0, 1), done.text
    assert yaml.safe_load(dest.read_text()) == STATED
    assert dest.read_text().splitlines() == printed(done) == printed(foreseen)
    assert stat.S_IMODE(dest.stat().st_mode) == 0o600
    assert fresh.play("adopt", cell="cella", dest=str(dest)).stats["cella"]["changed"] == 0
    host = fresh["cella"]
    text, peers = host.read("/etc/wireguard/wg0.conf"), host.wg["wg0"].peers
    site = fresh.play("site", "-i", str(dest))
    assert site.rc == 0, site.text
    host = fresh["cella"]
    assert (host.read("/etc/wireguard/wg0.conf"), host.wg["wg0"].peers) == (text, peers)
    assert fresh.play("site", "-i", str(dest)).stats["cella"]["changed"] == 0
    # By then the inventory has the name that the record has, so none is stated anew.
    assert yaml.safe_load("\n".join(printed(fresh.play("adopt", "-i", str(dest))))) == STATED


@pytest.mark.parametrize("write", [False, True])
def test_no_file_is_written_over(tmp_path: Path, write: bool) -> None:
    dest = tmp_path / "adopted.yml"
    dest.write_text("somebody's own\n")
    with pytest.raises(BadInput, match=r"adopted\.yml' is there already, and holds something else\. Give"):
        place(str(dest), "x\n", write)
    assert (dest.read_text(), place(str(dest), "somebody's own\n", write)) == ("somebody's own\n", False)
    link = tmp_path / "link.yml"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is there already"):
        place(str(link), "x\n", write)
    assert not (tmp_path / "elsewhere").exists()
    for path in (str(tmp_path / "none" / "adopted.yml"), f"{tmp_path}/\0", str(tmp_path), f"{tmp_path}/{'x' * 300}", f"{dest}/x"):
        with pytest.raises(BadInput, match=r"cannot be written|holds something else"):
            place(path, "x\n", write)


def test_a_disk_that_is_full_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    dest, (soft, hard) = tmp_path / "adopted.yml", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(BadInput, match=r"adopted\.yml' cannot be written"):
            place(str(dest), "x" * 100, True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not dest.exists()
    assert place(str(dest), "x" * 100, True) and dest.read_text() == "x" * 100


TRAP = "{{ lookup('pipe', 'touch trap') }}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"cell_peers": [{"name": TRAP}]},
        {"cell_peers": [{"name": "a", "public_key": TRAP}]},
        {"cell_peers": [{"name": "a", "route_except": [{"to": [TRAP], "via": "direct"}]}]},
        {"cell_peers": [{"name": "a", "exit_dns": [TRAP]}]},
        {"cell_peers": [{"name": "a", "exit_dns": ["9.9.9.9"] * 3}]},
        {"cell_networks": [TRAP]},
        {"cell_networks": "10.0.0.1/24"},
        {"cell_endpoint": TRAP},
        {"cell_services": [{"name": "a", "address": ["10.0.0.1\n{% x %}"]}]},
        {"cell_links": [{"name": "a", "preshared_key": TRAP}]},
        {"cell_links": [{"name": "a", "offer_exit": {"until": TRAP}}]},
        {"ansible_host": "evil"},
        {TRAP: 1},
        [],
    ],
)
def test_what_is_no_inventory_makes_none(wrong: Any) -> None:
    said = {"changed": False, "inventory": wrong, "notes": []}
    assert judged("pic_cell_adopt", said)["msg"].startswith("The cell's answer is not a valid result of pic_cell_adopt: ")


def test_what_a_hostile_host_answers_is_no_inventory(fresh: Controller, tmp_path: Path) -> None:
    trap = f"{{{{ lookup('pipe', 'touch {tmp_path}/trap') }}}}"
    answer = {"changed": False, "inventory": {"cell_peers": [{"name": trap}]}, "notes": []}
    fresh.hostile("cella", f"def answer(module, arguments, honest):\n    return {answer!r}\n")
    done = fresh.play("adopt", cell="cella", dest=str(tmp_path / "adopted.yml"))
    assert done.rc != 0 and "not a valid result of pic_cell_adopt" in done.message, done.text
    answer = {"changed": False, "inventory": {"cell_networks": ["10.0.0.1/24"]}, "notes": [f"{trap}\nall: {{}}\x1b[2J\u2028x: 1"]}
    fresh.hostile("cella", f"def answer(module, arguments, honest):\n    return {answer!r}\n")
    done = fresh.play("adopt", cell="cella", dest=str(tmp_path / "adopted.yml"))
    assert done.rc == 0, done.text
    assert yaml.safe_load((tmp_path / "adopted.yml").read_text()) == {"cells": {"hosts": {"cella": {"cell_networks": ["10.0.0.1/24"]}}}}
    assert "\x1b" not in done.text and not (tmp_path / "trap").exists()


def test_of_a_link_with_a_cell_of_the_inventory_only_what_its_side_decides_is_stated(controller: Controller) -> None:
    done = controller.play("adopt", cell="cella")
    assert done.rc == 0, done.text
    stated = yaml.safe_load("\n".join(printed(done)))["cells"]["hosts"]["cella"]
    assert "cell_name" not in stated
    assert stated["cell_links"] == [
        {"name": "cellb", "share": ["files", "voice"], "offer_exit": True},
        {"name": "cellc", "share": ["files"], "offer_exit": False},
    ]


def test_what_adopt_is_asked_for() -> None:
    asked = {"job": "adopt", "cell": "cellb", "source": "/srv", "dest": "x.yml"}
    assert read_job(mesh({}), asked) == ({"host": "cellb", "source": "/srv", "dest": "x.yml"}, [])
    with pytest.raises(BadInput, match=r"dest=x\.yml needs the variable 'cell'"):
        read_job(mesh({}), {**asked, "cell": ""})
    with pytest.raises(BadInput, match="source 'srv' is not an absolute path"):
        read_job(mesh({}), {**asked, "source": "srv"})


def test_the_interface_of_the_inventory_is_read(fresh: Controller) -> None:
    host = fresh["cella"]
    host.files["/etc/wireguard/wg7.conf"] = host.files.pop("/etc/wireguard/wg0.conf")
    host.drop_link("wg0")
    fresh["cella"] = host
    fresh.of("cella")["cell_interface"] = "wg7"
    done = fresh.play("adopt")
    assert yaml.safe_load("\n".join(printed(done)))["cells"]["hosts"]["cella"]["cell_interface"] == "wg7", done.text
