# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two services with one address, port and protocol: whoever may reach one reaches both, and that is said wherever it matters."""

from __future__ import annotations

from ansible_collections.pic.cells.plugins.module_utils.parts.services import along
from ansible_collections.pic.cells.plugins.module_utils.program.status import report
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Service
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.world import World, call, program

TOO = "Sharing files with cellb opens wiki too, because they have the same address, port and protocol."


@prepared
def hosted(linked: World) -> World:
    """Return cells of which the first has a second service at the first one's place, for nobody."""
    linked.inventory["cella"]["cell_services"].append({"name": "wiki", "address": "10.0.0.1", "port": 443, "protocol": "tcp"})
    linked.site()
    return linked


def test_it_is_said_in_each_run_in_status_and_in_check(hosted: World) -> None:
    run = hosted.site()
    assert run.changed == []
    assert [warning for warning in run.warnings() if warning.startswith(TOO)], run.warnings()
    assert [line for line in run.said["cella"] if TOO in line and line.startswith("next: on cella")]
    assert not [line for line in run.said["cellb"] if "wiki" in line]
    assert [line for line in report(call("pic_cell_info", hosted["cella"], {})) if line.startswith(f"warning: {TOO}")]
    rc, out, _err = program(hosted["cella"], "check")
    assert (rc, f"warning: {TOO}" in out) == (0, True)


def test_sharing_says_it_and_revoking_ends_it(hosted: World) -> None:
    del hosted.inventory["cella"]["cell_links"][0]["share"]
    assert not [w for w in hosted.job("share", cell="cella", remote_cell="cellb", services="voice").warnings() if "with cellb" in w]
    assert [w for w in hosted.job("share", cell="cella", remote_cell="cellb", services="files", check=True).warnings() if w.startswith(TOO)]
    assert [w for w in hosted.job("share", cell="cella", remote_cell="cellb", services="files").warnings() if w.startswith(TOO)]
    assert not [w for w in hosted.job("share", cell="cella", remote_cell="cellb", services="files,wiki").warnings() if "with cellb" in w]


def test_only_what_is_reached_alike_counts() -> None:
    services = [
        Service("files", ["10.0.0.1", "fd00::1"], 443),
        Service("wiki", ["fd00::1"], 443),
        Service("quic", ["10.0.0.1"], 443, "udp"),
        Service("admin", ["10.0.0.1"], 8443),
        Service("nas", ["10.0.0.9"], 443),
    ]
    cell = Cell("a", services={service.name: service for service in services})
    assert list(along(cell, ["files"])) == [("files", ["wiki"])]
    assert list(along(cell, ["wiki"])) == [("wiki", ["files"])]
    assert list(along(cell, ["files", "wiki"])) == list(along(cell, ["quic", "admin", "nas"])) == list(along(cell, ["gone"])) == []
