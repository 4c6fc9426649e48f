# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller refuses before any cell is asked, and what it warns of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.statement import check_inventory, parse_services, read_job
from ansible_collections.pic.cells.tests.unit.fake_host import made_key
from ansible_collections.pic.cells.tests.unit.world import device_key, three_cells

FAR = {"name": "far", "public_key": made_key("far"), "networks": ["10.9.0.0/24"]}


def mesh(changes: Mapping[str, Mapping[str, Any]], *play: str) -> Mesh:
    """Return three cells with some of their variables changed."""
    inventory = three_cells()
    for host, variables in changes.items():
        inventory.setdefault(host, {}).update(variables)
    hosts = list(play or inventory)
    return Mesh({"hostvars": inventory, "groups": {"cells": list(inventory)}, "inventory_hostname": hosts[0], "ansible_play_batch": hosts}, lambda value: value)


def links(**more: Any) -> dict[str, Any]:
    """Return cella's links, one of them with something more."""
    return {"cella": {"cell_links": [{"name": "cellb", **more}, {"name": "cellc"}]}}


def peer(**more: Any) -> dict[str, Any]:
    """Return a device of cella."""
    return {"cella": {"cell_peers": [{"name": "phone", "public_key": device_key("phone"), "addresses": ["10.0.0.2"], **more}]}}


def test_an_inventory_that_can_work_is_accepted() -> None:
    check_inventory(mesh({}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cella": {"cell_name": "Cell A"}}, ("'Cell A'", "host 'cella'", "1 to 32 characters")),
        ({"cellc": {"cell_name": "cella"}}, ("'cella'", "'cellc'", "both have the cell name")),
        ({"cella": {"cell_networks": []}}, ("'cella'", "no cell_networks", "10.0.0.1/24")),
        ({"cella": {"cell_networks": ["10.0.0.1"]}}, ("'10.0.0.1'", "'cella'", "prefix")),
        ({"cellc": {"cell_networks": ["10.0.1.129/25"]}}, ("10.0.1.128/25 of cell 'cellc'", "10.0.1.0/24 of cell 'cellb'")),
        (
            {"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, {**FAR, "networks": ["10.0.2.0/24"]}]}},
            ("10.0.2.0/24 of link 'far'", "cell 'cellc'"),
        ),
        ({"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, {**FAR, "networks": ["10.9.0.1/24"]}]}}, ("'10.9.0.1/24'", "'far'", "host bits")),
        ({"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, {**FAR, "networks": ["::/0"]}]}}, ("'::/0'", "'far'", "whole internet")),
        ({"cella": {"cell_services": [{"name": "files", "address": "nas", "port": 443}]}}, ("'nas'", "service 'files'", "host 'cella'")),
        ({"cella": {"cell_services": [{"name": "the files"}]}}, ("'the files'", "cell_services of host 'cella'")),
        (links(share=["mail"]), ("'mail'", "link 'cellb' of host 'cella'", "files, voice")),
        (links(public_key="x"), ("'x'", "link 'cellb' of host 'cella'", "no WireGuard key")),
        (links(preshared_key="x"), ("link 'cellb' of host 'cella'", "wg genpsk")),
        (links(endpoint="b.example.net"), ("'b.example.net'", "link 'cellb' of host 'cella'", "host:port")),
        (links(public_key=device_key("phone")), ("peer 'phone' on host 'cella'", "link 'cellb'", "a key of its own")),
        ({"cella": {"cell_links": [{"name": "cella"}]}}, ("link 'cella' of host 'cella'", "itself")),
        ({"cella": {"cell_links": [{"name": "cell b"}]}}, ("'cell b'", "cell_links of host 'cella'")),
        ({"cella": {"cell_links": [{}]}}, ("None", "cell_links of host 'cella'")),
        ({"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, {"name": "cellb"}]}}, ("'cellb'", "cell_links of host 'cella'", "twice")),
        ({"cella": {"cell_peers": {"phone": {}}}}, ("cell_peers of host 'cella'", "no list")),
        ({"cella": {"cell_services": ["files"]}}, ("cell_services of host 'cella'", "no list")),
        (links(interface="pic-cellc"), ("'pic-cellc'", "link 'cellb' of host 'cella'", "link 'cellc' of host 'cella'")),
        (links(state="absent"), ("'cellb'", "present on one side and absent on the other")),
        (peer(name="my phone"), ("'my phone'", "cell_peers of host 'cella'")),
        (peer(addresses=["10.0.0"]), ("'10.0.0'", "'phone'", "no IP address")),
        (peer(addresses=["10.0.1.2"]), ("10.0.1.2", "'phone'", "10.0.0.0/24")),
        (peer(public_key=device_key("pad")), (device_key("pad"), "peer 'phone' on host 'cella'", "peer 'pad' on host 'cellb'")),
        (peer(preshared_key="x"), ("'phone'", "wg genpsk")),
        (peer(route_via="cella"), ("'phone'", "'cella'", "own cell")),
        (peer(route_via="cell b"), ("'cell b'", "'phone'", "1 to 32 characters")),
        (
            {"cellb": {"cell_peers": [{"name": "pad", "addresses": ["10.0.1.2"], "route_via": "cellc"}]}},
            ("'pad'", "cell 'cellb' has no link with 'cellc'", "cell_links"),
        ),
        ({"cellb": {"cell_links": [{"name": "cella", "offer_exit": False}]}}, ("'phone'", "'cellb'", "offer_exit: false", "direct")),
        ({"cellb": {"cell_endpoint": "cella.example.net"}}, ("cella.example.net:51820", "cell 'cella'", "cell 'cellb'")),
        (
            {"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, {**FAR, "endpoint": "f.net:1"}, {"name": "farther", "endpoint": "f.net:1"}]}},
            ("'f.net:1'", "'far'", "'farther'"),
        ),
    ],
)
def test_an_inventory_that_cannot_work_is_refused(changes: Mapping[str, Mapping[str, Any]], words: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as error:
        check_inventory(mesh(changes))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_preshared_key_that_is_none_is_not_shown() -> None:
    with pytest.raises(BadInput) as error:
        check_inventory(mesh(links(preshared_key="my secret")))
    assert "my secret" not in str(error.value)


def test_what_is_removed_may_share_its_place_with_what_comes() -> None:
    check_inventory(mesh({"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, {**FAR, "networks": ["10.0.2.0/24"], "state": "absent"}]}}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"job": "share", "cell": "", "remote_cell": "cellb", "services": "files"}, ("pic.cells.share", "'cell'")),
        ({"job": "share", "cell": "cella", "remote_cell": "cellb", "services": ""}, ("pic.cells.share", "'services'")),
        ({"job": "link", "cell": "cella", "remote_cell": None}, ("pic.cells.link", "'remote_cell'")),
        ({"job": "route_peer", "cell": "cella", "peer": "phone", "via_cell": ""}, ("pic.cells.route_peer", "'via_cell'")),
        ({"job": "offer_exit", "cell": "cella", "remote_cell": "cellb", "offered": "perhaps"}, ("offered=perhaps", "offered=true")),
        ({"job": "share", "cell": "cellz", "remote_cell": "cellb", "services": "files"}, ("cell=cellz", "cella, cellb, cellc")),
        ({"job": "share", "cell": "cell a", "remote_cell": "cellb", "services": "files"}, ("'cell a'", "1 to 32 characters")),
        ({"job": "share", "cell": "cella", "remote_cell": "cella", "services": "files"}, ("remote_cell=cella", "the cell itself")),
        ({"job": "share", "cell": "cella", "remote_cell": "cellb", "services": "files,mail"}, ("'mail'", "files, voice")),
        ({"job": "share", "cell": "cella", "remote_cell": "cellb", "services": False}, ("False", "1 to 32 characters")),
        ({"job": "share", "cell": True, "remote_cell": "cellb", "services": "files"}, ("True", "1 to 32 characters")),
        ({"job": "route_peer", "cell": "cella", "peer": "my phone", "via_cell": "cellb"}, ("'my phone'", "1 to 32 characters")),
        ({"job": "route_peer", "cell": "cella", "peer": "phone", "via_cell": "cella"}, ("via_cell=cella", "direct")),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(given: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as error:
        read_job(mesh({}), given)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_cell_outside_the_limit_is_named_rather_than_skipped() -> None:
    with pytest.raises(BadInput, match="cell=cella is host 'cella', which --limit leaves out"):
        read_job(mesh({}, "cellb"), {"job": "offer_exit", "cell": "cella", "remote_cell": "cellb", "offered": "true"})


def test_an_answer_that_looks_like_a_number_is_a_name() -> None:
    """AWX marks answers as unsafe, and YAML of Ansible 2.19 reads numbers, booleans and null out of such texts."""
    far = {"cell_links": [{"name": "10"}]}
    job, _warnings = read_job(mesh({"cella": far}), {"job": "route_peer", "cell": "cella", "peer": 1, "via_cell": 10})
    assert (job["peer"], job["via_cell"]) == ("1", "10")
    job, _warnings = read_job(mesh({}), {"job": "link", "cell": "cella", "remote_cell": 10, "services": None, "offered": True, "invitation": None})
    assert (job["remote_cell"], job["change"]) == ("10", {"offer_exit": True})


@pytest.mark.parametrize(
    ("value", "services"),
    [
        ("files", ["files"]),
        ("files,voice", ["files", "voice"]),
        (" files ,\nvoice\n", ["files", "voice"]),
        (["files", "voice"], ["files", "voice"]),
        ("none", []),
        (8443, ["8443"]),
        ([8443, "files"], ["8443", "files"]),
    ],
)
def test_services_are_read_as_a_survey_or_a_file_gives_them(value: Any, services: list[str]) -> None:
    assert parse_services(value) == services


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"job": "share", "cell": "cella", "remote_cell": "cellb", "services": "voice"}, "share"),
        ({"job": "offer_exit", "cell": "cellb", "remote_cell": "cella", "offered": "no"}, "offer_exit"),
        ({"job": "route_peer", "cell": "cella", "peer": "phone", "via_cell": "direct"}, "route_via"),
        ({"job": "unlink", "cell": "cella", "remote_cell": "cellb"}, "link"),
    ],
)
def test_what_the_next_site_run_would_undo_is_said(given: dict[str, Any], word: str) -> None:
    warnings = read_job(mesh({}), given)[1]
    assert [word in warning and "the next site run" in warning for warning in warnings] == [True]


@pytest.mark.parametrize(
    "given",
    [
        {"job": "share", "cell": "cella", "remote_cell": "cellb", "services": "files,voice"},
        {"job": "route_peer", "cell": "cella", "peer": "laptop", "via_cell": "cellb"},
        {"job": "offer_exit", "cell": "cella", "remote_cell": "cellc", "offered": "yes"},
        {"job": "link", "cell": "cella", "remote_cell": "cellb", "services": "", "offered": ""},
    ],
)
def test_what_the_inventory_states_alike_or_not_at_all_needs_no_warning(given: dict[str, Any]) -> None:
    assert read_job(mesh({}), given)[1] == []


@pytest.mark.parametrize("kind", ["replay", "restore", "status"])
def test_a_playbook_for_all_cells_takes_one_by_name(kind: str) -> None:
    assert read_job(mesh({}), {"job": kind, "cell": ""}) == ({}, [])
    assert read_job(mesh({"b.example.net": {"cell_name": "far"}}), {"job": kind, "cell": "far"}) == ({"host": "b.example.net"}, [])
    with pytest.raises(BadInput, match=r"cell=oslo is no cell of this inventory. Its cells: cella, cellb, cellc\."):
        read_job(mesh({}), {"job": kind, "cell": "oslo"})
    with pytest.raises(BadInput, match="cell=cellb is host 'cellb', which --limit leaves out"):
        read_job(mesh({}, "cella"), {"job": kind, "cell": "cellb"})
