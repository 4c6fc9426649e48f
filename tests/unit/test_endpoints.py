# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where cells are dialled: endpoints that cannot be, two cells at one address, other ports that a router forwards, links that nobody can begin."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.wgkeys import check_endpoint
from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_statement import FAR, mesh
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call

HOME = "home.example.net"


@pytest.mark.parametrize(
    ("endpoint", "remedy"),
    [
        ("a.example.net:51820", "Give a.example.net; each link has a port of its own."),
        ("203.0.113.11:51820", "Give 203.0.113.11;"),
        ("[2001:db8::1]", "Give 2001:db8::1;"),
        ("[2001:db8::1]:51820", "Give 2001:db8::1;"),
        ("https://a.example.net", "Give a.example.net;"),
        ("https://a.example.net:8443/wg", "Give a.example.net;"),
        ("a.example.net/", "Give a.example.net;"),
        ("300.1.1.1", "without a port"),
        ("203.0.113", "without a port"),
        ("fe80::1%eth0", "without a port"),
        ("2001:db8::1:51820:0:0:0:0:0", "without a port"),
        ("a b", "without a port"),
        ("-a.example.net", "without a port"),
        ("a.example.net\nPostUp = reboot", "without a port"),
    ],
)
def test_an_endpoint_is_judged_on_the_controller_by_what_was_written(endpoint: str, remedy: str) -> None:
    with pytest.raises(BadInput) as error:
        check_inventory(mesh({"cellb": {"cell_endpoint": endpoint}}, "cella"))
    assert repr(endpoint) in str(error.value) and "cell_endpoint of host 'cellb'" in str(error.value) and remedy in str(error.value), str(error.value)


@pytest.mark.parametrize("endpoint", ["a.example.net", "a", "my_host.dyn.example.net", "203.0.113.11", "2001:db8::1", "a.example.net.", "1and1.net"])
def test_a_name_or_address_alone_is_an_endpoint(endpoint: str) -> None:
    check_inventory(mesh({"cellb": {"cell_endpoint": endpoint}}))
    check_endpoint("link", f"[{endpoint}]:51820" if ":" in endpoint else f"{endpoint}:51820")


@pytest.mark.parametrize("endpoint", ["300.1.1.1:51820", "[203.0.113.1]x:51820", "[fe80::1%eth0]:51820", "https://a.net:51820", "a.net:5:1"])
def test_what_no_resolver_takes_is_no_endpoint_of_a_link_either(endpoint: str) -> None:
    with pytest.raises(BadInput, match="not host:port"):
        check_endpoint("link", endpoint)


def test_a_module_refuses_such_an_endpoint_too(linked: World) -> None:
    linked.reset()
    result = call("wg_cell", linked["cella"], {"cell": {"endpoint": "203.0.113.11:51820"}})
    assert result["failed"] and "Give 203.0.113.11;" in result["msg"]
    assert linked["cella"].steps == []


def neighbours(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return cella and cellb behind one router, both linked with cellc."""
    inventory: dict[str, dict[str, Any]] = {
        "cella": {"cell_endpoint": HOME, "cell_links": [{"name": "cellc"}], "cell_peers": []},
        "cellb": {"cell_endpoint": HOME, "cell_listen_port": 51920, "cell_links": [{"name": "cellc"}], "cell_peers": []},
        "cellc": {"cell_links": []},
    }
    for host, variables in changes.items():
        inventory[host].update(variables)
    return inventory


def test_two_cells_behind_one_router_need_ports_of_their_own() -> None:
    with pytest.raises(BadInput) as error:
        check_inventory(mesh(neighbours()))
    assert all(word in str(error.value) for word in (HOME, "51821", "cell 'cella'", "cell 'cellb'", "cell_link_port_base", "endpoint_port")), str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"cellb": {"cell_link_port_base": 51921}},
        {"cellb": {"cell_links": [{"name": "cellc", "listen_port": 51921}]}},
        {"cellb": {"cell_links": [{"name": "cellc", "endpoint_port": 443}]}},
        {"cellb": {"cell_links": [{"name": "cellc", "interface": "wg0"}]}},
        {"cellb": {"cell_endpoint": "other.example.net"}},
    ],
)
def test_ports_that_differ_are_accepted(changes: dict[str, dict[str, Any]]) -> None:
    check_inventory(mesh(neighbours(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"cellb": {"cell_links": [{"name": "cellc", "endpoint_port": 51821}]}},
        {"cella": {"cell_endpoint": "HOME.example.net."}},
        {"cella": {"cell_link_port_base": 51820, "cell_links": [{"name": "cellc"}, FAR]}},
        {"cella": {"cell_links": [{"name": "cellc", "interface": "wg0", "endpoint_port": 51821}]}},
    ],
)
def test_ports_that_meet_are_refused_however_they_are_stated(changes: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(BadInput, match="both cells have the same cell_endpoint"):
        check_inventory(mesh(neighbours(**changes)))


@pytest.mark.parametrize("port", [0, 65536, "70000"])
def test_a_port_that_is_none_is_refused_on_the_controller(port: Any) -> None:
    with pytest.raises(BadInput, match="endpoint_port of link 'cellc' of host 'cellb'"):
        check_inventory(mesh(neighbours(cellb={"cell_links": [{"name": "cellc", "endpoint_port": port}]})))


def test_ports_that_the_records_have_kept_are_compared_too(linked: World) -> None:
    """Both cells have given their first link the same port when they were at two addresses; where it is stated otherwise now, it moves."""
    assert linked.link("cella", "cellb")["listen_port"] == linked.link("cellb", "cella")["listen_port"] == 51821
    linked.inventory["cella"]["cell_endpoint"] = linked.inventory["cellb"]["cell_endpoint"] = HOME
    linked.inventory["cellb"].update(cell_listen_port=51920, cell_link_port_base=51931)
    linked.reset()
    with pytest.raises(Refusal) as error:
        linked.site()
    assert all(word in str(error.value) for word in (HOME, "51821", "link 'cellb' of cell 'cella'", "link 'cella' of cell 'cellb'", "listen_port"))
    assert linked.steps() == {}
    linked.inventory["cellb"]["cell_links"][0]["endpoint_port"] = 51931
    linked.site()
    assert linked.link("cella", "cellb")["endpoint"] == f"{HOME}:51931"
    assert linked.link("cellb", "cella")["endpoint"] == f"{HOME}:51821"
    assert linked.site().changed == []


def test_the_port_that_a_router_forwards_is_dialled_and_told(linked: World) -> None:
    linked.inventory["cella"]["cell_links"] = [{"name": "cellb", "share": ["files", "voice"], "endpoint_port": 443}, {"name": "cellc"}]
    linked.inventory["cella"]["cell_links"].append({**FAR, "endpoint_port": 8443})
    linked.site()
    assert linked.link("cellb", "cella")["endpoint"] == "cella.example.net:443"
    assert linked.link("cella", "cellb")["listen_port"] == 51821
    assert linked.site().changed == []
    run = linked.job("link", cell="cella", remote_cell="far", invitation="new")
    (told,) = run.of("cella", "pic_link_invitation")
    assert told["invitation"]["endpoint"] == "cella.example.net:8443"


def test_a_link_that_nobody_can_begin_is_said_in_check_and_summary(world: World) -> None:
    del world.inventory["cella"]["cell_endpoint"]
    warnings = check_inventory(mesh({"cella": {"cell_endpoint": ""}}))
    assert [("'cella'" in warning and "'cellc'" in warning and "cell_endpoint" in warning) for warning in warnings] == [True]
    said = world.site().said
    for cell, other in (("cella", "cellc"), ("cellc", "cella")):
        assert f"pending on {cell}: nobody can dial the link with {other}, as neither end has an endpoint" in said[cell]
        assert f"next: give {cell} or {other} a cell_endpoint that the other can reach" in said[cell]
    assert said["cellb"][-1] == "next: nothing is left to do"
    world.inventory["cellc"]["cell_endpoint"] = "cellc.example.net"
    world.site()
    assert world.site().said["cella"][-1] == "next: nothing is left to do"


def test_a_link_with_another_owner_that_nobody_can_begin_is_said_too() -> None:
    far = {"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, FAR]}}
    assert check_inventory(mesh(far)) == []
    (cellc, other) = check_inventory(mesh({"cella": {**far["cella"], "cell_endpoint": ""}}))
    assert "'cellc'" in cellc and "'far'" in other and "or the link an endpoint" in other
    far["cella"]["cell_links"][-1] = {**FAR, "endpoint": "far.example.net:1", "preshared_key": made_key("psk")}
    assert len(check_inventory(mesh({"cella": {**far["cella"], "cell_endpoint": ""}}))) == 1
