# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot work is refused before anything has changed."""

from __future__ import annotations

import pytest

import lab
from lab import CELLS
from packets import reaches, snapshot
from playbooks import call, play


@pytest.fixture(autouse=True)
def nothing_changes():
    before = {cell.name: snapshot(cell.name) for cell in CELLS}
    yield
    assert {cell.name: snapshot(cell.name) for cell in CELLS} == before


def test_the_controller_refuses_overlaps_within_the_inventory():
    outcome = play("site", overlay={"cellb": {"cell_networks": ["10.0.0.129/25"], "cell_peers": []}})
    assert outcome.rc != 0
    assert "10.0.0.128/25 of cell 'cellb'" in outcome.message
    assert "10.0.0.0/24 of cell 'cella'" in outcome.message
    assert not any(outcome.changed.values())


@pytest.mark.parametrize(
    ("network", "interface"),
    [("192.168.77.0/25", "eth1"), ("172.17.0.0/24", "docker0"), ("192.0.2.128/26", "wgother")],
    ids=["lan", "docker", "other vpn"],
)
def test_the_preflight_refuses_overlaps_with_networks_of_the_host(network, interface):
    far = {"name": "far", "networks": [network], "allow_public_networks": True, "public_key": "5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo="}
    outcome = play("site", overlay={"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, far]}})
    assert outcome.rc != 0
    assert network in outcome.message
    assert f"interface {interface} of this host" in outcome.message
    assert not any(outcome.changed.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("networks=192.168.77.0/25", "192.168.77.0/25 of link 'far' overlaps 192.168.77.0/24 of interface eth1 of this host"),
        ("networks=10.0.1.0/25", "overlaps 10.0.1.0/24 of link 'cellb'"),
        ("networks=10.0.0.0/25", "10.0.0.0/25 of link 'far' overlaps"),
        ("networks=10.9.0.1/24", "has host bits set"),
        ("networks=0.0.0.0/0", "is the whole internet"),
        ("networks=10.9.0.0/24 endpoint=10.9.0.1:51821", "lies in the link's own network"),
    ],
)
def test_the_module_refuses_them_again(arguments, message):
    done = call("cella", "wg_cell_peer", f"name=far public_key=5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo= {arguments}")
    assert done.returncode != 0
    assert message in done.stdout


@pytest.mark.parametrize(
    ("job", "extra_vars", "message"),
    [
        ("route_peer", {"cell": "cellb", "peer": "phone-b1", "via_cell": "cellc"}, "has not offered 'cellb' an exit"),
        ("route_peer", {"cell": "cella", "peer": "nobody", "via_cell": "cellb"}, "has no peer 'nobody'"),
        ("share", {"cell": "cella", "remote_cell": "cellb", "services": "nope"}, "has no service 'nope'"),
        ("share", {"cell": "", "remote_cell": "cellb", "services": "files"}, "needs the variable 'cell'"),
    ],
)
def test_a_day_2_playbook_refuses_what_cannot_be(job, extra_vars, message):
    outcome = play(job, **extra_vars)
    assert outcome.rc != 0
    assert message in outcome.message
    assert not any(outcome.changed.values())


def test_a_cell_outside_limit_is_named_rather_than_skipped():
    outcome = play("share", "--limit", "cellb", cell="cella", remote_cell="cellb", services="files")
    assert outcome.rc != 0
    assert "--limit leaves out" in outcome.message


def test_a_state_directory_that_takes_nothing_ends_the_run_and_keeps_all():
    before = snapshot("cella")
    with lab.read_only("cella", "/var/lib/pic"):
        outcome = play("share", cell="cella", remote_cell="cellb", services="none")
        assert outcome.rc != 0
        assert "/var/lib/pic" in outcome.message
        assert "cannot be written: Read-only file system. Free some space, or make it writable, and run again." in outcome.message
        assert snapshot("cella") == before
        assert reaches("phone-b1", "10.0.0.1", 8443)
    assert not any(play("site").changed.values())


def test_two_hosts_that_are_one_machine_are_refused():
    outcome = play("site", overlay={"cellb": {"ansible_host": "198.51.100.11"}})
    assert outcome.rc != 0
    assert "are the same machine" in outcome.message
