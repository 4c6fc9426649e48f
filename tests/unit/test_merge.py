# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call says is merged into the records: each option given, empty, absent, and with a value that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import errors
from ansible_collections.pic.cells.plugins.module_utils.parts import inputs, merge
from ansible_collections.pic.cells.plugins.module_utils.records import model as records
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

P, B, X = made_key("p"), made_key("b"), made_key("x")


def stored() -> records.State:
    """Return the records of a cell in which nothing has its default."""
    cell = records.Cell(
        "cella",
        ["10.0.0.1/24", "fd00:a::1/64"],
        "a.example.net",
        "wg1",
        51810,
        51830,
        {"files": records.Service("files", ["10.0.0.1"], 443), "voice": records.Service("voice", ["10.0.0.3"], 5060, "udp")},
        "eth1",
        ["10.9.0.0/24"],
        9000,
    )
    link = records.Link(
        "cellb",
        B,
        ["10.0.1.0/24"],
        ["10.0.1.1"],
        "b.example.net:51821",
        "pic-b",
        51821,
        20,
        1400,
        permissions={"inbound": {"files": True}, "outbound": {"mail": True}},
        exit_offered=True,
        remote_exit_offered=True,
        remote_api_url="http://10.0.1.1:9000",
    )
    return records.State(cell, {"cellb": link}, {"phone": records.Peer("phone", P, ["10.0.0.2"], ["cellb"], ["10.5.0.0/24"])})


MERGES: dict[str, tuple[Callable[[records.State, inputs.Inputs], None], Callable[[dict[str, Any]], inputs.Inputs], str]] = {
    "cell": (merge.merge_cell, lambda given: inputs.Inputs(cell=given), "cell"),
    "service": (merge.merge_cell, lambda given: inputs.Inputs(cell={"services": [{"name": "voice", **given}]}), "services"),
    "device": (merge.merge_devices, lambda given: inputs.Inputs(devices=[{"name": "phone", **given}]), "peers"),
    "link": (merge.merge_links, lambda given: inputs.Inputs(links=[{"name": "cellb", **given}]), "links"),
    "right": (merge.merge_rights, lambda given: inputs.Inputs(rights=[{"name": "cellb", **given}]), "links"),
    "offer": (merge.merge_offers, lambda given: inputs.Inputs(offers=[{"name": "cellb", **given}]), "links"),
    "route": (merge.merge_routes, lambda given: inputs.Inputs(routes=[{"peer": "phone", **given}]), "peers"),
}


def item(state: records.State, kind: str) -> dict[str, Any]:
    """Return what the records hold of the one thing that a call is about."""
    found = {
        "cell": state.cell,
        "services": state.cell.services.get("voice"),
        "peers": state.peers.get("phone"),
        "links": state.links.get("cellb"),
    }[MERGES[kind][2]]
    return dict(vars(found)) if found else {}


def merged(kind: str, given: dict[str, Any]) -> records.State:
    """Merge one thing into the records, twice, which is as once."""
    state = stored()
    do, as_inputs, _where = MERGES[kind]
    do(state, as_inputs(given))
    once = state.copy()
    do(state, as_inputs(given))
    assert state == once
    return state


# kind, option, a value, and what the records hold of it afterwards
GIVEN: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("cell", "name", "cellz", {"name": "cellz"}),
    ("cell", "networks", ["10.7.0.1/24", "FD00:7::1/64"], {"networks": ["10.7.0.1/24", "fd00:7::1/64"]}),
    ("cell", "interface", "wg2", {"interface": "wg2"}),
    ("cell", "uplink", "eth2", {"uplink": "eth2"}),
    ("cell", "listen_port", "65535", {"listen_port": 65535}),
    ("cell", "link_port_base", 1, {"link_port_base": 1}),
    ("cell", "sync_port", 8088, {"sync_port": 8088}),
    ("cell", "exit_failures", "5", {"exit_failures": 5}),
    ("cell", "exit_hold", 1, {"exit_hold": 1}),
    ("cell", "exit_switches", 60, {"exit_switches": 60}),
    ("cell", "exit_hold_limit", 86400, {"exit_hold_limit": 86400}),
    ("cell", "whoami", ["http://[2001:DB8::1]"], {"whoami": ["http://[2001:db8::1]:80/"]}),
    ("cell", "expect", [{"from": "phone", "to": "lan", "is": "refused", "via": None}], {"expect": ["phone to lan is refused"]}),
    ("cell", "endpoint", "203.0.113.1", {"endpoint": "203.0.113.1"}),
    ("cell", "admin_networks", ["10.8.0.0/24"], {"admin_networks": ["10.8.0.0/24"]}),
    ("service", "address", ["10.0.0.4", ""], {"addresses": ["10.0.0.4"]}),
    ("service", "port", 5061, {"port": 5061}),
    ("service", "protocol", "tcp", {"protocol": "tcp"}),
    ("device", "public_key", X, {"public_key": X}),
    ("device", "addresses", ["10.0.0.8", " fd00:a::8 "], {"addresses": ["10.0.0.8", "fd00:a::8"]}),
    ("device", "networks", ["10.6.0.0/24"], {"networks": ["10.6.0.0/24"]}),
    ("device", "route_via", "cellz", {}),
    ("device", "route_via", "direct", {}),
    ("link", "public_key", X, {"public_key": X}),
    ("link", "public_key", "(generated)", {"public_key": "(generated)"}),
    ("link", "allow_public_networks", True, {"allow_public_networks": True}),
    ("link", "networks", ["10.0.0.0/8"], {"networks": ["10.0.0.0/8"]}),
    ("link", "networks", ["10.7.0.0/24"], {"networks": ["10.7.0.0/24"], "address": [], "remote_api_url": None}),
    ("link", "address", ["10.0.1.9"], {"address": ["10.0.1.9"], "remote_api_url": "http://10.0.1.9:9000"}),
    ("link", "endpoint", "[2001:db8::7]:51821", {"endpoint": "[2001:db8::7]:51821"}),
    ("link", "keepalive", 0, {"keepalive": 0}),
    ("link", "keepalive", 65535, {"keepalive": 65535}),
    ("link", "mtu", 576, {"mtu": 576}),
    ("link", "mtu", 65535, {"mtu": 65535}),
    ("link", "api_url", "http://10.0.1.1:7000", {"remote_api_url": "http://10.0.1.1:7000"}),
    ("link", "sync_auth", "address", {"sync_auth": "address"}),
    ("link", "interface", "pic-other", {"interface": "pic-other"}),
    ("link", "interface", "wg1", {"interface": "wg1"}),
    ("link", "listen_port", 51899, {"listen_port": 51899}),
    ("right", "share", ["voice"], {"permissions": {"inbound": {"files": False, "voice": True}, "outbound": {"mail": True}}}),
    ("right", "share", [], {"permissions": {"inbound": {"files": False}, "outbound": {"mail": True}}}),
    ("right", "offer_exit", False, {"exit_offered": False}),
    ("right", "exit_relay", True, {"remote_exit_relay_active": True}),
    ("right", "exit_relay", False, {}),
    ("offer", "offered", False, {"remote_exit_offered": False}),
    ("offer", "offered", True, {}),
    ("route", "addresses", ["10.0.0.8"], {"addresses": ["10.0.0.8"]}),
    ("route", "via_cell", "cellc", {"route_via": ["cellc"]}),
    ("route", "via_cell", "direct", {"route_via": []}),
]
OPTIONS = sorted({(kind, option) for kind, option, _value, _after in GIVEN})
EMPTIED = {("cell", "admin_networks"): {"admin_networks": []}, ("device", "networks"): {"networks": []}}


@pytest.mark.parametrize(("kind", "option", "value", "after"), [pytest.param(*row, id=f"{row[0]} {row[1]}: {row[2]}"[:60]) for row in GIVEN])
def test_what_is_given_is_in_the_records_and_nothing_else_changes(kind: str, option: str, value: Any, after: dict[str, Any]) -> None:
    state, before = merged(kind, {option: value}), stored()
    assert item(state, kind) == {**item(before, kind), **after, **({"services": state.cell.services} if kind == "cell" else {})}
    others = [name for name in ("links", "peers") if name != MERGES[kind][2]]
    assert [getattr(state, name) for name in others] == [getattr(before, name) for name in others]
    if kind not in ("cell", "service"):
        assert state.cell == before.cell


@pytest.mark.parametrize("nothing", [None, "", [""]], ids=["absent", "empty", "a list of nothing"])
@pytest.mark.parametrize(("kind", "option"), OPTIONS, ids=lambda value: value)
def test_what_is_not_given_stays(kind: str, option: str, nothing: Any) -> None:
    if (kind, option) == ("device", "networks") and nothing is not None:
        assert merged(kind, {option: nothing}).peers["phone"].networks == []
    else:
        assert merged(kind, {option: nothing}) == stored()


@pytest.mark.parametrize(("kind", "option"), OPTIONS, ids=lambda value: value)
def test_an_empty_list_takes_away_only_where_it_says_so(kind: str, option: str) -> None:
    if (kind, option) == ("right", "share"):
        return  # a row of its own above
    assert item(merged(kind, {option: []}), kind) == {**item(stored(), kind), **EMPTIED.get((kind, option), {})}


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("cell", {"name": "Cell A"}, "Cell 'Cell A' is not a valid name"),
        ("cell", {"networks": ["10.0.0.0/24"]}, "networks of cell 'cella': '10.0.0.0/24' is the network itself"),
        ("cell", {"interface": "pic-x"}, "interface 'pic-x' of cell 'cella' begins with 'pic-'"),
        ("cell", {"uplink": "pic-x"}, "uplink 'pic-x' of cell 'cella' begins with 'pic-'"),
        ("cell", {"uplink": "eth0 -j ACCEPT"}, "Interface 'eth0 -j ACCEPT' is not a valid name"),
        ("cell", {"listen_port": 0}, "listen_port of cell 'cella': 0 is not a port"),
        ("cell", {"link_port_base": 65536}, "link_port_base of cell 'cella': 65536 is not a port"),
        ("cell", {"exit_failures": 61}, "exit_failures of cell 'cella': 61 is out of range. Give 1 to 60 failures"),
        ("cell", {"exit_hold": 0}, "exit_hold of cell 'cella': 0 is out of range. Give 1 to 86400 seconds"),
        ("cell", {"exit_switches": 0}, "exit_switches of cell 'cella': 0 is out of range. Give 1 to 60 switches"),
        ("cell", {"exit_hold_limit": 86401}, "exit_hold_limit of cell 'cella': 86401 is out of range. Give 1 to 86400 seconds"),
        ("cell", {"sync_port": -1}, "sync_port of cell 'cella': -1 is not a port"),
        ("cell", {"endpoint": "a.example.net:51820"}, "endpoint of cell 'cella': 'a.example.net:51820' is not a plain host name"),
        ("cell", {"admin_networks": ["10.0.0.1/24"]}, "admin_networks of cell 'cella': '10.0.0.1/24' has host bits set"),
        ("cell", {"services": [{"name": "mail"}]}, "Service 'mail' lacks an address or a port"),
        ("cell", {"services": [{"name": "mail", "port": 25}]}, "Service 'mail' lacks an address or a port"),
        ("cell", {"services": [{"name": "mail", "address": ["10.0.0.1"]}]}, "Service 'mail' lacks an address or a port"),
        ("cell", {"services": [{"name": "none"}]}, "Service 'none' is not a valid name"),
        ("service", {"address": ["10.0.0.256"]}, "address of service 'voice': '10.0.0.256' is not an IP address"),
        ("service", {"port": 70000}, "port of service 'voice': 70000 is not a port"),
        ("device", {"name": "Phone"}, "Peer 'Phone' is not a valid name"),
        ("device", {"public_key": "key"}, "public_key of peer 'phone': 'key' is not a WireGuard key"),
        ("device", {"addresses": ["phone"]}, "addresses of peer 'phone': 'phone' is not an IP address"),
        ("device", {"addresses": ["10.0.0.1"]}, "Address 10.0.0.1 of peer 'phone' already belongs to the cell 'cella' itself"),
        ("device", {"addresses": ["10.0.9.2"]}, "Address 10.0.9.2 of peer 'phone' is in none of the cell's networks 10.0.0.0/24, fd00:a::/64"),
        ("device", {"networks": ["0.0.0.0/0"]}, "networks of peer 'phone': '0.0.0.0/0' is the whole internet"),
        ("device", {"route_via": "Cell B"}, "route_via of peer 'phone': 'Cell B' is not a valid name"),
        ("link", {"name": "cella"}, "Cell 'cella' cannot be linked with itself"),
        ("link", {"name": None}, "Cell None is not a valid name"),
        ("link", {"public_key": "key"}, "public_key of link 'cellb': 'key' is not a WireGuard key"),
        ("link", {"networks": ["10.0.1.1/24"]}, "networks of link 'cellb': '10.0.1.1/24' has host bits set"),
        ("link", {"networks": ["8.8.8.0/24"]}, "networks of link 'cellb': '8.8.8.0/24' is neither private"),
        ("link", {"address": ["10.0.2.1"]}, "address 10.0.2.1 of link 'cellb' is in none of its networks 10.0.1.0/24"),
        ("link", {"endpoint": "b.example.net"}, "link 'cellb': endpoint 'b.example.net' is not host:port"),
        ("link", {"endpoint": "10.0.1.9:51821"}, "endpoint '10.0.1.9:51821' of link 'cellb' lies in the link's own network 10.0.1.0/24"),
        ("link", {"keepalive": -1}, "keepalive of link 'cellb': -1 is out of range. Give 0 to 65535 seconds"),
        ("link", {"keepalive": 65536}, "keepalive of link 'cellb': 65536 is out of range"),
        ("link", {"mtu": 575}, "mtu of link 'cellb': 575 is out of range. Give 576 to 65535 bytes"),
        ("link", {"mtu": 1279, "networks": ["10.0.1.0/24", "fd00:b::/64"]}, "mtu of link 'cellb': 1279 is out of range. Give 1280 to 65535 bytes"),
        ("link", {"mtu": 65536}, "mtu of link 'cellb': 65536 is out of range"),
        ("link", {"api_url": "https://10.0.1.1"}, "api_url of link 'cellb': 'https://10.0.1.1' is not a URL like"),
        ("link", {"interface": "eth0"}, "interface 'eth0' of link 'cellb' is not the devices' interface 'wg1' and does not begin with 'pic-'"),
        ("link", {"listen_port": 0}, "listen_port of link 'cellb': 0 is not a port"),
        ("right", {"share": ["mail"]}, "Cell 'cella' has no service 'mail' to share with 'cellb'. Its services: files, voice"),
        ("right", {"exit_relay": True, "offer_exit": False}, "exit_relay of link 'cellb' is on while offer_exit is off"),
        ("offer", {"name": "cella", "offered": True}, "Cell 'cella' cannot be linked with itself"),
        ("route", {"peer": "tv"}, "Cell 'cella' has no peer 'tv'. Its peers: phone"),
        ("route", {"peer": "TV"}, "Peer 'TV' is not a valid name"),
        ("route", {"via_cell": "Cell B"}, "via_cell of peer 'phone': 'Cell B' is not a valid name"),
        ("route", {"addresses": ["x"]}, "addresses of peer 'phone': 'x' is not an IP address"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else value if value in MERGES else "",
)
def test_what_cannot_be_is_refused_by_name(kind: str, given: dict[str, Any], words: str) -> None:
    do, as_inputs, _where = MERGES[kind]
    with pytest.raises(errors.BadInput) as found:
        do(stored(), as_inputs(given))
    assert str(found.value).startswith(words)


# What belongs together


@pytest.mark.parametrize(
    ("services", "retired"),
    [
        pytest.param([{"name": "voice", "port": 5061}], ["10.0.0.3 5060"], id="another port"),
        pytest.param([{"name": "voice", "address": ["10.0.0.4"]}], ["10.0.0.3 5060"], id="another address"),
        pytest.param([{"name": "voice", "protocol": "tcp"}], ["10.0.0.3 5060"], id="another protocol"),
        pytest.param([{"name": "voice", "state": "absent"}], ["10.0.0.3 5060"], id="removed"),
        pytest.param([{"name": "gone", "state": "absent"}], [], id="one removed that is not there"),
        pytest.param([{"name": "files", "port": 444}], [], id="one by TCP"),
    ],
)
def test_where_a_udp_service_was_is_remembered_until_it_is_back(services: list[dict[str, Any]], retired: list[str]) -> None:
    state = stored()
    merge.merge_cell(state, inputs.Inputs(cell={"services": services}))
    assert state.cell.retired == retired
    merge.merge_cell(state, inputs.Inputs(cell={"services": [{"name": "voice", "address": ["10.0.0.3"], "port": 5060, "protocol": "udp"}]}))
    assert "10.0.0.3 5060" not in state.cell.retired


def test_nothing_said_of_a_cell_changes_nothing() -> None:
    state = stored()
    for do in (merge.merge_cell, merge.merge_devices, merge.merge_links, merge.merge_ports, merge.merge_rights, merge.merge_offers, merge.merge_routes):
        do(state, inputs.Inputs())
    assert state == stored()


def test_a_device_comes_and_goes() -> None:
    state = stored()
    merge.merge_devices(state, inputs.Inputs(devices=[{"name": "tv", "public_key": X, "addresses": ["10.0.0.9"]}, {"name": "phone", "state": "absent"}]))
    assert state.peers == {"tv": records.Peer("tv", X, ["10.0.0.9"])}


def test_two_devices_cannot_have_the_same_address() -> None:
    with pytest.raises(errors.BadInput, match=r"Address 10\.0\.0\.9 of peer 'radio' already belongs to peer 'tv'"):
        merge.merge_devices(stored(), inputs.Inputs(devices=[{"name": name, "addresses": ["10.0.0.9"]} for name in ("tv", "radio")]))


def test_a_new_link_has_an_interface_and_the_url_of_its_api() -> None:
    state = stored()
    merge.merge_links(state, inputs.Inputs(links=[{"name": "cellc", "networks": ["10.0.2.0/24"], "address": ["10.0.2.1"]}]))
    link = state.links["cellc"]
    assert (link.interface, link.remote_api_url, link.mtu, link.listen_port) == ("pic-cellc", "http://10.0.2.1:9000", None, None)


@pytest.mark.parametrize(("addresses", "url"), [([], None), (["fd00:b::1", "10.0.1.1"], "http://[fd00:b::1]:8088"), (["10.0.1.1"], "http://10.0.1.1:8088")])
def test_the_url_of_an_api_follows_from_the_first_address(addresses: list[str], url: str | None) -> None:
    assert merge.api_url(addresses, 8088) == url


def test_a_url_that_somebody_has_given_stays_when_the_address_changes() -> None:
    state = stored()
    state.links["cellb"].remote_api_url = "http://10.0.1.1:7000"
    merge.merge_links(state, inputs.Inputs(links=[{"name": "cellb", "address": ["10.0.1.9"]}]))
    assert state.links["cellb"].remote_api_url == "http://10.0.1.1:7000"


def test_a_link_that_leaves_the_devices_interface_leaves_its_port_there() -> None:
    state = stored()
    state.links["cellb"].interface, state.links["cellb"].listen_port = "wg1", 51810
    for interface, port in (("wg1", 51810), ("pic-b", None)):
        merge.merge_links(state, inputs.Inputs(links=[{"name": "cellb", "interface": interface}]))
        assert (state.links["cellb"].interface, state.links["cellb"].listen_port) == (interface, port)


def test_public_networks_need_leave() -> None:
    state = stored()
    merge.merge_links(state, inputs.Inputs(links=[{"name": "cellb", "networks": ["8.8.8.0/24"], "allow_public_networks": True}]))
    assert state.links["cellb"].networks == ["8.8.8.0/24"]
    with pytest.raises(errors.BadInput, match="neither private"):
        merge.merge_links(state, inputs.Inputs(links=[{"name": "cellb", "allow_public_networks": False}]))


def test_of_ports_only_interface_and_port_are_merged_and_a_link_that_goes_is_left() -> None:
    state = stored()
    given = {"name": "cellb", "interface": "pic-other", "listen_port": 51899, "mtu": 1300}
    merge.merge_ports(state, inputs.Inputs(links=[given, {"name": "cellc", "state": "absent"}]))
    link = state.links["cellb"]
    assert (link.interface, link.listen_port, link.mtu, set(state.links)) == ("pic-other", 51899, 1400, {"cellb"})


@pytest.mark.parametrize(("count", "good"), [(256, True), (257, False)])
def test_no_more_services_are_shared_than_a_message_holds(count: int, good: bool) -> None:
    state = stored()
    state.cell.services = {f"s{number}": records.Service(f"s{number}", ["10.0.0.1"], 80) for number in range(count)}
    given = inputs.Inputs(rights=[{"name": "cellb", "share": [*state.cell.services, "s0"]}])
    if good:
        merge.merge_rights(state, given)
        assert len(state.links["cellb"].shares) == count
    else:
        with pytest.raises(errors.BadInput, match="257 services would be shared with 'cellb', but 256 is the limit"):
            merge.merge_rights(state, given)


def test_without_services_the_refusal_says_so() -> None:
    state = stored()
    state.cell.services = {}
    with pytest.raises(errors.BadInput, match="Its services: none"):
        merge.merge_rights(state, inputs.Inputs(rights=[{"name": "cellb", "share": ["files"]}]))
    state.peers = {}
    with pytest.raises(errors.BadInput, match="Its peers: none"):
        merge.merge_routes(state, inputs.Inputs(routes=[{"peer": "phone"}]))


def test_rights_of_a_link_make_it_one_with_rules_and_a_relay_is_an_offer() -> None:
    state = stored()
    state.links["cellb"].ruled = state.links["cellb"].exit_offered = False
    merge.merge_rights(state, inputs.Inputs(rights=[{"name": "cellb", "exit_relay": True}, {"name": "cellc", "state": "absent"}]))
    link = state.links["cellb"]
    assert (link.ruled, link.exit_offered, link.remote_exit_relay_active) == (True, True, True)


def test_an_offer_of_a_cell_that_is_not_linked_yet_makes_its_record() -> None:
    state = stored()
    merge.merge_offers(state, inputs.Inputs(offers=[{"name": "cellc", "offered": True}, {"name": "celld", "state": "absent"}]))
    assert (state.links["cellc"].remote_exit_offered, set(state.links)) == (True, {"cellb", "cellc"})


def test_a_device_that_is_routed_alone_needs_an_address() -> None:
    state = stored()
    merge.merge_routes(state, inputs.Inputs(routes=[{"peer": "tv", "addresses": ["10.0.0.9"], "via_cell": "cellb"}]))
    assert state.peers["tv"] == records.Peer("tv", None, ["10.0.0.9"], ["cellb"])
