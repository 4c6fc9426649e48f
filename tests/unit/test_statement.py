# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller refuses before any cell is asked, and what it warns of."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import arguments, schema
from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
from ansible_collections.pic.cells.plugins.plugin_utils.job import parse_services, read_job
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import STEPS, WORDS, Mesh
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import device_key, three_cells

PROJECT = Path(__file__).parents[2]
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
        ({"10.1.2.3": {"cell_networks": ["10.3.0.1/24"]}}, ("'10.1.2.3'", "address", "cell_name")),
        ({"2001:db8::1": {"cell_networks": ["10.3.0.1/24"]}}, ("'2001:db8::1'", "address", "cell_name")),
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
        (links(public_key="x"), ("'x'", "link 'cellb' of host 'cella'", "not a WireGuard key")),
        (links(preshared_key="x"), ("link 'cellb' of host 'cella'", "wg genpsk")),
        (links(endpoint="b.example.net"), ("'b.example.net'", "link 'cellb' of host 'cella'", "host:port")),
        (links(public_key=device_key("phone")), ("peer 'phone' on host 'cella'", "link 'cellb'", "a key of its own")),
        ({"cella": {"cell_links": [{"name": "cella"}]}}, ("link 'cella' of host 'cella'", "itself")),
        ({"cella": {"cell_links": [{"name": "cell b"}]}}, ("'cell b'", "cell_links of host 'cella'")),
        ({"cella": {"cell_links": [{}]}}, ("None", "cell_links of host 'cella'")),
        ({"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, {"name": "cellb"}]}}, ("'cellb'", "cell_links of host 'cella'", "twice")),
        ({"cella": {"cell_peers": {"phone": {}}}}, ("cell_peers of host 'cella'", "not a list")),
        ({"cella": {"cell_services": ["files"]}}, ("cell_services of host 'cella'", "not a list")),
        (links(interface="pic-cellc"), ("'pic-cellc'", "link 'cellb' of host 'cella'", "link 'cellc' of host 'cella'")),
        (links(state="absent"), ("'cellb'", "present on one side and absent on the other")),
        (peer(name="my phone"), ("'my phone'", "cell_peers of host 'cella'")),
        (peer(addresses=["10.0.0"]), ("'10.0.0'", "'phone'", "not an IP address")),
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (links(ofer_exit=True), ("link 'cellb' of host 'cella'", "'ofer_exit'", "Did you mean 'offer_exit'?")),
        (links(colour="red"), ("link 'cellb' of host 'cella'", "'colour'", "Its keys: name, share")),
        (peer(via_cell="cellb"), ("peer 'phone' of host 'cella'", "'via_cell'", "Its keys: name, public_key")),
        ({"cellb": {"cell_services": [{"name": "files", "addresses": "10.0.1.1", "port": 1}]}}, ("service 'files' of host 'cellb'", "Did you mean 'address'?")),
        (links(offer_exit="perhaps"), ("offer_exit of link 'cellb' of host 'cella'", "'perhaps'", "true or false")),
        (links(keepalive="often"), ("keepalive of link 'cellb' of host 'cella'", "'often'", "whole number")),
        (links(mtu=True), ("mtu of link 'cellb' of host 'cella'", "True", "whole number")),
        (links(state="absend"), ("state of link 'cellb' of host 'cella'", "'absend'", "Did you mean 'absent'?")),
        (links(name=7), ("name of link 7 of host 'cella'", "not text", "quotes")),
        (links(share={"files": True}), ("share of link 'cellb' of host 'cella'", "not a list")),
        ({"cellc": {"cell_listen_port": "5182o"}}, ("cell_listen_port of host 'cellc'", "'5182o'", "whole number")),
        ({"cellc": {"cell_name": 12}}, ("cell_name of host 'cellc'", "12", "quotes")),
        ({"cellc": {"cell_sync_transport": "tunel"}}, ("cell_sync_transport of host 'cellc'", "Did you mean 'tunnel'?")),
        ({"cellc": {"cell_manage_packages": "maybe"}}, ("cell_manage_packages of host 'cellc'", "'maybe'", "true or false")),
    ],
)
def test_keys_and_types_are_judged_for_all_hosts_before_anything(changes: Mapping[str, Mapping[str, Any]], words: tuple[str, ...]) -> None:
    """Ansible's own check of a role's arguments refuses one host alone, names no link, and lets the other hosts go on."""
    with pytest.raises(BadInput) as error:
        check_inventory(mesh(changes, "cellb"))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_one_refusal_names_every_wrong_key_of_the_inventory() -> None:
    wrong = {**links(ofer_exit=True), "cellb": {"cell_peers": [{"name": "pad", "adresses": ["10.0.1.2"]}]}, "cellc": {"cell_sync_port": "x"}}
    with pytest.raises(BadInput) as error:
        check_inventory(mesh(wrong))
    assert all(word in str(error.value) for word in ("'ofer_exit'", "'adresses'", "cell_sync_port of host 'cellc'")), str(error.value)
    many = {f"k{number}": 1 for number in range(40)}
    with pytest.raises(BadInput, match=r"And 28 more\.$"):
        check_inventory(mesh(links(**many)))


def test_a_secret_of_a_wrong_type_is_not_shown() -> None:
    with pytest.raises(BadInput) as error:
        check_inventory(mesh(links(preshared_key=4711)))
    assert "4711" not in str(error.value) and "preshared_key of link 'cellb' of host 'cella'" in str(error.value)


def test_the_roles_own_specification_is_the_source_of_what_is_known() -> None:
    """What Ansible would refuse an empty text for is raw there, and has a default that says what it is."""
    for name, option in schema.options().items():
        assert option["type"] not in ("int", "bool"), name
        assert option["type"] != "raw" or option.get("default") is not None, name
        assert option.get("elements") != "dict", name
        assert "choices" not in option or "" in option["choices"], name


EMPTY = {name: "" for name in schema.options() if name != "cell_networks"}


def test_an_empty_text_is_not_given_everywhere() -> None:
    empty_link = dict.fromkeys(schema.options()["cell_links"]["options"], "")
    empty_peer = dict.fromkeys(schema.options()["cell_peers"]["options"], "")
    empty_service = dict.fromkeys(schema.options()["cell_services"]["options"], "")
    given = {
        "cella": EMPTY,
        "cellb": {
            "cell_links": [{**empty_link, "name": "cellc"}],
            "cell_peers": [{**empty_peer, "name": "pad"}],
            "cell_services": [{**empty_service, "name": "files"}],
        },
    }
    seen = mesh(given)
    assert not [warning for warning in check_inventory(seen) if "endpoint" not in warning]
    assert [seen.var("cella", name) for name in EMPTY] == [None] * len(EMPTY)
    assert seen.var("cellb", "cell_links") == [{"name": "cellc"}]
    assert seen.var("cellb", "cell_peers") == [{"name": "pad"}]
    assert seen.var("cellb", "cell_services") == [{"name": "files"}]


def test_ansible_itself_refuses_no_empty_text() -> None:
    """The role's own check of its arguments comes first where the role is used without the playbooks."""
    spec = yaml.safe_load(schema.SPECIFICATION.read_text())["argument_specs"]["main"]["options"]
    given = {**EMPTY, "cell_networks": "10.0.0.1/24"}
    assert ArgumentSpecValidator(spec).validate(given).error_messages == []
    items = {"cell_links": [{"name": "cellb", "offer_exit": "", "state": "", "mtu": ""}], "cell_services": [{"name": "web", "port": "", "protocol": ""}]}
    assert ArgumentSpecValidator(spec).validate({**given, **items}).error_messages == []


def test_a_text_is_taken_for_a_list_of_one() -> None:
    seen = mesh(
        {
            "cella": {
                "cell_networks": "10.0.0.1/24",
                "cell_admin_networks": "192.0.2.0/24, 198.51.100.0/24",
                "cell_peers": [{"name": "phone", "public_key": device_key("phone"), "addresses": "10.0.0.2", "route_via": "cellb"}],
                "cell_links": [{"name": "cellb", "share": "files"}, {"name": "cellc", "share": "files,\nvoice"}, {**FAR, "networks": "10.9.0.0/24"}],
            }
        }
    )
    check_inventory(seen)
    side = arguments.side(seen, "cella")
    assert side["cell"]["networks"] == ["10.0.0.1/24"]
    assert side["cell"]["admin_networks"] == ["192.0.2.0/24", "198.51.100.0/24"]
    assert side["devices"][0]["addresses"] == ["10.0.0.2"]
    assert [link.get("share") for link in side["rules"]] == [["files"], ["files", "voice"], None]
    assert side["links"][2]["networks"] == ["10.9.0.0/24"]


def test_a_host_that_is_called_by_its_address_has_the_name_that_it_is_given() -> None:
    check_inventory(mesh({"10.1.2.3": {"cell_networks": ["10.3.0.1/24"], "cell_name": "attic"}}))


def test_an_empty_list_says_nothing_is_allowed_and_an_empty_text_says_nothing() -> None:
    assert arguments.side(mesh(links(share=[])), "cella")["rules"][0]["share"] == []
    assert "share" not in arguments.side(mesh(links(share=[""])), "cella")["rules"][0]
    assert mesh({"cella": {"cell_admin_networks": []}}).var("cella", "cell_admin_networks") == []


class FromVault:
    """A value from a vault as ansible-core 2.17 and 2.18 hand it over: no text, but it becomes one."""

    __ENCRYPTED__ = True

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def test_a_value_from_a_vault_within_a_list_is_read() -> None:
    key, other = made_key("psk"), made_key("other psk")
    changes = {
        "cella": {
            "cell_peers": [{"name": "phone", "public_key": device_key("phone"), "addresses": ["10.0.0.2"], "preshared_key": FromVault(key)}],
            "cell_links": [{"name": "cellb"}, {"name": "cellc"}, {**FAR, "preshared_key": FromVault(other), "networks": FromVault("10.9.0.0/24")}],
            "cell_endpoint": FromVault("a.example.net"),
        }
    }
    seen = mesh(changes)
    check_inventory(seen)
    side = arguments.side(seen, "cella")
    assert side["devices"][0]["preshared_key"] == key
    assert side["devices"][0]["preshared_key"].__class__ is str
    assert side["links"][2]["preshared_key"] == other and side["links"][2]["networks"] == ["10.9.0.0/24"]
    assert side["cell"]["endpoint"] == "a.example.net"


def test_a_variable_that_the_role_does_not_know_is_said_with_the_likely_name() -> None:
    warnings = check_inventory(mesh({"cella": {"cell_link": []}, "cellb": {"cell_link": [], "cell_colour": "red"}, "cellc": {"cell_group": "cells"}}))
    assert len(warnings) == 2, warnings
    assert all(word in warnings[0] for word in ("cell_link ", "'cella', 'cellb'", "Did you mean cell_links?")), warnings
    assert "cell_colour" in warnings[1] and "'cellb'" in warnings[1]


def test_a_service_outside_the_cells_networks_is_said() -> None:
    inside = {"name": "dns", "address": ["10.0.0.53", "fd00:a::53"], "port": 53}
    assert check_inventory(mesh({"cella": {"cell_services": [inside, {"name": "files"}, {"name": "voice"}]}})) == []
    (warning,) = check_inventory(mesh({"cella": {"cell_services": [{**inside, "address": ["8.8.8.8", "10.0.0.53"]}, {"name": "files"}, {"name": "voice"}]}}))
    assert all(word in warning for word in ("'dns'", "8.8.8.8,", "'cella'", "10.0.0.0/24")) and "10.0.0.53" not in warning
    gone = {**inside, "address": "8.8.8.8", "state": "absent"}
    assert check_inventory(mesh({"cella": {"cell_services": [gone, {"name": "files"}, {"name": "voice"}]}})) == []


def test_a_host_outside_the_group_is_told_so_instead_of_pending_for_ever() -> None:
    """Where the role is used without the playbooks, its hosts can be in any group."""
    variables = {"hostvars": three_cells(), "groups": {"cells": ["cella"], "home": ["cellb", "cellc"]}, "ansible_play_batch": ["cellb", "cellc"]}
    with pytest.raises(BadInput, match=r"Host 'cellb', 'cellc' is not in the group 'cells'.*cell_group"):
        check_inventory(Mesh(variables, lambda value: value))
    seen = Mesh({**variables, "cell_group": "home"}, lambda value: value)
    assert seen.hosts == ["cellb", "cellc"]
    with pytest.raises(BadInput, match="add the host to the group 'home'"):
        read_job(seen, {"job": "status", "cell": "cella"})


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
        ({"job": "share", "cell": "cella", "remote_cell": "cellb", "services": False}, ("services: 'False'", "quotes")),
        ({"job": "share", "cell": True, "remote_cell": "cellb", "services": "files"}, ("cell=True", "quotes")),
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


@pytest.mark.parametrize("value", [7, 10, True, datetime.date(2024, 1, 1), 1e3, ["cella"]])
@pytest.mark.parametrize("key", ["cell", "peer", "via_cell"])
def test_what_is_no_text_is_taken_for_no_name(key: str, value: object) -> None:
    given = {"job": "route_peer", "cell": "cella", "peer": "phone", "via_cell": "cellb", key: value}
    with pytest.raises(BadInput) as error:
        read_job(mesh({"cella": {"cell_links": [{"name": "10"}]}}), given)
    assert f"{key}={value} is not text" in str(error.value)


@pytest.mark.parametrize(
    ("value", "services"),
    [
        ("files", ["files"]),
        ("files,voice", ["files", "voice"]),
        (" files ,\nvoice\n", ["files", "voice"]),
        (["files", "voice"], ["files", "voice"]),
        ("none", []),
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
    assert [word in warning and "the next run of site" in warning for warning in warnings] == [True]


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


@pytest.mark.parametrize("kind", ["replay", "restore", "status", "prove", "adopt"])
def test_a_playbook_for_all_cells_takes_one_by_name(kind: str) -> None:
    assert read_job(mesh({}), {"job": kind, "cell": ""}) == ({}, [])
    assert read_job(mesh({"b.example.net": {"cell_name": "far"}}), {"job": kind, "cell": "far"}) == ({"host": "b.example.net"}, [])
    with pytest.raises(BadInput, match=r"cell=oslo is not a cell of this inventory. Its cells: cella, cellb, cellc\."):
        read_job(mesh({}), {"job": kind, "cell": "oslo"})
    with pytest.raises(BadInput, match="cell=cellb is host 'cellb', which --limit leaves out"):
        read_job(mesh({}, "cella"), {"job": kind, "cell": "cellb"})


MISREAD = ["7", "007", "0x10", "1e3", "0o17", "no", "on", "null", "true", "2024-01-01"]


@pytest.mark.parametrize("name", MISREAD)
def test_a_name_that_yaml_reads_as_something_else_is_refused_where_it_is_stated(name: str) -> None:
    """In an answer of AWX, ansible-core 2.19 makes another name of it; and whoever states it without quotes does."""
    item = {"name": name, "public_key": made_key("x"), "networks": ["10.9.0.0/24"]}
    stated = {
        f"cell_name of host 'cellb': '{name}'": {"cell_name": name},
        f"cell_peers of host 'cellb': '{name}'": {"cell_peers": [{"name": name}]},
        f"cell_services of host 'cellb': '{name}'": {"cell_services": [{"name": name, "address": "10.0.1.1", "port": 1, "protocol": "tcp"}]},
        f"cell_links of host 'cellb': '{name}'": {"cell_links": [item]},
    }
    for where, variables in stated.items():
        with pytest.raises(BadInput) as error:
            check_inventory(mesh({"cellb": variables}))
        assert str(error.value).startswith(where) and "Choose another name" in str(error.value)


@pytest.mark.parametrize("name", ["a7", "7a", "no1", "oslo", "e3", "nope"])
def test_other_names_are_taken(name: str) -> None:
    check_inventory(mesh({"cellb": {"cell_services": [{"name": name, "address": "10.0.1.1", "port": 1, "protocol": "tcp"}]}}))


@pytest.mark.parametrize("value", [False, 7, 1.5, datetime.date(2024, 1, 1)])
def test_a_name_that_is_no_text_is_quoted_with_host_and_item(value: object) -> None:
    for variable in ("cell_peers", "cell_links", "cell_services"):
        with pytest.raises(BadInput) as error:
            check_inventory(mesh({"cellb": {variable: [{"name": value}]}}))
        assert f"{value!r}" in str(error.value) and "of host 'cellb'" in str(error.value), str(error.value)
    with pytest.raises(BadInput) as error:
        check_inventory(mesh({"cellb": {"cell_name": value}}))
    assert f"cell_name of host 'cellb': {value!r}" in str(error.value)


@pytest.mark.parametrize("url", ["http://10.9.0.1:99999999", "http://10.9.0.1:٨٠٨٨", "https://x"])
def test_a_url_of_the_inventory_is_judged_on_the_controller(url: str) -> None:
    with pytest.raises(BadInput, match="api_url of link 'far' of host 'cella'"):
        check_inventory(mesh({"cella": {"cell_links": [{**FAR, "api_url": url}]}}))


@pytest.mark.parametrize("host", WORDS)
def test_a_host_called_by_a_word_of_the_role_is_refused(host: str) -> None:
    with pytest.raises(BadInput, match=f"Host '{host}' has an inventory name that the role reserves"):
        check_inventory(mesh({host: {"cell_name": "celld", "cell_networks": ["10.0.3.1/24"]}}))


def test_the_lookup_knows_no_other_word() -> None:
    text = (PROJECT / "plugins" / "lookup" / "side.py").read_text()
    assert {*re.findall(r'^            "([a-z_ ]+)": ', text, re.MULTILINE), *STEPS} == set(WORDS)
