# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input to the modules: one clear sentence, and nothing has changed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.names import PAIRING
from ansible_collections.pic.cells.plugins.module_utils.kernel.routing import parse_routing
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key

KEY = made_key("far")
FAR = {"name": "far", "public_key": KEY, "networks": ["10.9.0.0/24"]}
NO_NAMES = [
    *("a b", "a;reboot", "$(x)", "a'b", 'a"b', "a\nb", "a\0b", "../x", "-j", "a-", "a+", "eth+", "A", "x" * 33, "x" * 300),
    *("\u0430bc", "cell\u200b", "ä", "a_b", "a.b"),
]


def refused(world: World, module: str, args: dict[str, Any], *words: str) -> str:
    """Call a module on cella; assert that it refuses in one sentence with these words, and changes nothing."""
    host = world["cella"]
    before = host.text()
    for check in (True, False):
        result = call(module, host, args, check=check)
        assert result.get("failed"), "it was not refused"
        assert "Traceback" not in result["msg"]
        assert all(word in result["msg"] for word in words), result["msg"]
        assert host.text() == before
        assert host.steps == []
    return str(result["msg"])


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("wg_cell", {"cell": {"name": "*"}}),
        ("wg_cell", {"cell": {"services": [{"name": "*", "address": ["10.0.0.1"], "port": 5}]}}),
        ("wg_cell", {"peers": [{"name": "*"}]}),
        ("wg_cell_peer", {"name": "*"}),
        ("wg_cell_peer", {"peers": [{"name": "*", "state": "present"}]}),
        ("pic_cell_rules", {"name": "*"}),
        ("pic_policy_route", {"peer": "*", "via_cell": "cellb"}),
        ("pic_policy_route", {"peer": "phone", "via_cell": "*"}),
    ],
    ids=["cell", "service", "peer", "link", "link in a list", "rules", "routed peer", "exit"],
)
def test_a_name_that_is_none_is_refused_with_the_rule(linked: World, module: str, args: dict[str, Any], name: str) -> None:
    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        return name if value == "*" else value

    refused(linked, module, fill(args), repr(name), "1 to 32 characters of a-z")


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (["10.0.0.128/25"], ("10.0.0.128/25 of link 'far'", "10.0.0.0/24 of this cell 'cella'")),
        (["fd00:a::/72"], ("fd00:a::/72 of link 'far'", "fd00:a::/64 of this cell 'cella'")),
        (["10.0.0.0/8"], ("10.0.0.0/8 of link 'far'", "of link 'cellb'")),
        (["10.0.1.128/25"], ("10.0.1.128/25 of link 'far'", "10.0.1.0/24 of link 'cellb'")),
        (["172.17.0.0/24"], ("172.17.0.0/24 of link 'far'", "172.17.0.0/16 of interface docker0")),
        (["203.0.113.0/25"], ("203.0.113.0/25 of link 'far'", "eth0")),
        (["10.55.3.0/24"], ("10.55.3.0/24 of link 'far'", "10.55.0.0/16")),
        (["10.77.0.0/25"], ("10.77.0.0/25 of link 'far'", "tun0")),
        (["0.0.0.0/0"], ("0.0.0.0/0", "whole internet", "route_via")),
        (["::/0"], ("::/0", "whole internet")),
        (["10.9.0.1/24"], ("10.9.0.1/24", "host bits", "10.9.0.0/24")),
        (["10.9.0.0/33"], ("10.9.0.0/33", "not a network")),
        (["10.9.0"], ("10.9.0", "not a network")),
    ],
)
def test_a_network_that_cannot_be_is_refused_and_both_are_named(linked: World, networks: list[str], words: tuple[str, ...]) -> None:
    host = linked["cella"]
    host.add_link("docker0", "172.17.0.1/16")
    host.add_link("tun0", "10.77.0.1/24")
    host.by_hand("ip -4 route add 10.55.0.0/16 via 203.0.113.1 dev eth0")
    host.reset()
    refused(linked, "wg_cell_peer", {**FAR, "networks": networks, "allow_public_networks": True}, *words)


def raw(*values: int) -> str:
    """Return a key of these first bytes."""
    return base64.b64encode(bytes(values).ljust(32, b"\0")).decode()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("own", ("this cell 'cella' itself",)),
        ("of cellb", ("link 'cellb'",)),
        (device_key("phone"), ("peer 'phone'",)),
        (KEY[:43], ("not a WireGuard key", "44 characters")),
        (KEY[:-2] + "!=", ("not a WireGuard key",)),
        (KEY.rstrip("=") + "==", ("not a WireGuard key",)),
        (" " + KEY, ("not a WireGuard key",)),
        (KEY[:-2] + "B=", ("not a WireGuard key",)),
        (raw(), ("low order",)),
        (raw(1), ("low order",)),
        (base64.b64encode(b"\xed" + b"\xff" * 30 + b"\x7f").decode(), ("low order",)),
        (base64.b64encode(b"\xec" + b"\xff" * 30 + b"\xff").decode(), ("low order",)),
        ("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157", ("not a WireGuard key",)),
    ],
)
def test_a_key_that_cannot_be_is_refused(linked: World, key: str, words: tuple[str, ...]) -> None:
    key = {"own": linked.public_key("cella"), "of cellb": linked.public_key("cellb")}.get(key, key)
    refused(linked, "wg_cell_peer", {**FAR, "public_key": key}, "public_key of link 'far'", key, *words)


def start_interface(host: FakeHost, name: str) -> None:
    """Start a WireGuard interface that is no link's; FAR is a peer of it."""
    host.write(
        f"/etc/wireguard/{name}.conf",
        f"[Interface]\nPrivateKey = {made_key('other')}\nListenPort = 5\nAddress = 10.77.0.1/24\n\n[Peer]\nPublicKey = {KEY}\n",
    )
    host.by_hand(f"systemctl restart wg-quick@{name}")
    host.reset()


def test_a_key_that_is_a_peer_of_somebody_elses_interface_is_refused(linked: World) -> None:
    start_interface(linked["cella"], "other")
    refused(linked, "wg_cell_peer", FAR, KEY, "interface 'other'", "link 'far'")


def test_the_tunnel_by_which_an_invitation_was_redeemed_is_in_nobodys_way(linked: World) -> None:
    """Without WireGuard in the kernel it is seen until the program in its place has ended, which can take a while."""
    start_interface(linked["cella"], PAIRING)
    assert call("pic_cell_info", linked["cella"], {})["taken_keys"] == []
    assert not call("wg_cell_peer", linked["cella"], FAR).get("failed")
    assert linked.link("cella", "far")["public_key"] == KEY


@pytest.mark.parametrize("value", ["short", base64.b64encode(bytes(32)).decode(), made_key("psk")[:-1], made_key("psk") + "\n[Peer]"])
def test_a_preshared_key_that_is_none_is_refused_without_being_shown(linked: World, value: str) -> None:
    message = refused(linked, "wg_cell_peer", {**FAR, "preshared_key": value}, "link 'far'", "wg genpsk")
    assert value not in message


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"endpoint": "b.example.net"}, ("'b.example.net'", "not host:port")),
        ({"endpoint": "b.example.net:0"}, ("not host:port",)),
        ({"endpoint": "b.example.net:70000"}, ("not host:port",)),
        ({"endpoint": "fd00::1:51820"}, ("not host:port",)),
        ({"endpoint": "a\nPostUp = reboot:5"}, ("not host:port",)),
        ({"endpoint": "10.9.0.1:51820"}, ("10.9.0.1:51820", "10.9.0.0/24", "loop")),
        ({"address": ["10.8.0.1"]}, ("10.8.0.1", "10.9.0.0/24")),
        ({"address": ["10.9.0.1/24"]}, ("10.9.0.1/24", "not an IP address")),
        ({"listen_port": 0}, ("listen_port of link 'far'", "1 to 65535")),
        ({"listen_port": 65536}, ("65536", "1 to 65535")),
        ({"listen_port": 51820}, ("51820", "link 'far'", "the devices' interface 'wg0'")),
        ({"listen_port": 51822}, ("51822", "link 'far'", "link 'cellc'")),
        ({"keepalive": -1}, ("keepalive of link 'far'", "-1", "0 to 65535 seconds")),
        ({"keepalive": 65536}, ("65536", "0 to 65535 seconds")),
        ({"mtu": 575}, ("mtu of link 'far'", "575", "576 to 65535 bytes")),
        ({"mtu": 1279, "networks": ["10.9.0.0/24", "fd00:9::/64"]}, ("1279", "1280 to 65535 bytes")),
        ({"interface": "eth0"}, ("'eth0'", "pic-")),
        ({"interface": "pic-a b"}, ("'pic-a b'", "1 to 15 characters")),
        ({"interface": "pic-longer-than-that"}, ("'pic-longer-than-that'", "1 to 15 characters")),
        ({"interface": "pic-+"}, ("'pic-+'", "1 to 15 characters")),
        ({"interface": "pic-cellb"}, ("'far'", "'cellb'", "'pic-cellb'")),
        ({"name": "cella"}, ("'cella'", "itself")),
        ({"name": "direct"}, ("'direct'", "1 to 32 characters")),
        ({"name": "none"}, ("'none'", "1 to 32 characters")),
    ],
)
def test_what_cannot_be_of_a_link_is_refused(linked: World, args: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(linked, "wg_cell_peer", {**FAR, **args}, *words)


def test_an_interface_that_is_somebody_elses_is_not_taken(linked: World) -> None:
    linked["cella"].add_link("pic-far")
    refused(linked, "wg_cell_peer", FAR, "'pic-far'", "'far'", "not a WireGuard interface")


def test_a_black_hole_is_neither_a_network_of_the_host_nor_an_uplink() -> None:
    shown = {"type": "6", "dev": "lo", "protocol": "3", "metric": 5, "flags": [], "pref": "medium"}
    seen = parse_routing(6, [], [{**shown, "dst": "fd00::/8"}, {**shown, "dst": "default"}])
    assert (seen.host_networks, seen.connected, seen.uplink) == ((), (), None)


def test_a_network_that_another_vpn_routes_in_a_table_of_its_own_is_refused(linked: World) -> None:
    host = linked["cella"]
    host.add_link("tailscale0", "100.100.1.1/32")
    host.by_hand("ip -4 route add 10.9.0.0/24 dev tailscale0 table 52")
    refused(linked, "wg_cell_peer", {**FAR, "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"]}, "10.9.0.0/24", "tailscale0", "link 'far'")


def test_a_second_exit_on_one_interface_is_refused(linked: World) -> None:
    """On one interface 0.0.0.0/0 belongs to one peer; the second would steal it from the first without a word."""
    host = linked["cella"]
    host.by_hand("wg addconf wg0 /dev/stdin", f"[Peer]\nPublicKey = {made_key('provider')}\nAllowedIPs = 0.0.0.0/0, ::/0\n")
    host.reset()
    refused(linked, "wg_cell_peer", {**FAR, "interface": "wg0", "exit": True}, "'far'", "'wg0'", made_key("provider"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"cell": {"networks": ["10.0.0.1"]}}, ("10.0.0.1", "prefix")),
        ({"cell": {"networks": ["10.0.0.0/24"]}}, ("10.0.0.0/24", "the network itself", "10.0.0.1/24")),
        ({"cell": {"networks": ["0.0.0.0/0"]}}, ("0.0.0.0/0",)),
        ({"cell": {"networks": ["10.0.0.1/24", "fd00:a::1/64", "10.0.1.1/24"]}}, ("10.0.1.0/24", "link 'cellb'")),
        ({"cell": {"interface": "wg 0"}}, ("'wg 0'", "1 to 15 characters")),
        ({"cell": {"interface": "eth0"}}, ("'eth0'", "not a WireGuard interface")),
        ({"cell": {"interface": "pic-home"}}, ("'pic-home'", "as interfaces of links do")),
        ({"cell": {"interface": "pairing0"}}, ("'pairing0'", "by which invitations are redeemed")),
        ({"cell": {"listen_port": 99999}}, ("listen_port", "99999")),
        ({"cell": {"listen_port": 51821}}, ("51821", "the devices' interface 'wg0'", "link 'cellb'")),
        ({"cell": {"admin_networks": ["192.0.2.1/24"]}}, ("admin_networks", "host bits")),
        ({"cell": {"services": [{"name": "web", "port": 80}]}}, ("'web'", "address")),
        ({"cell": {"services": [{"name": "web", "address": ["10.0.0.1"]}]}}, ("'web'", "port")),
        ({"cell": {"services": [{"name": "web", "address": ["web.local"], "port": 80}]}}, ("'web.local'", "not an IP address")),
        ({"peers": [{"name": "watch", "addresses": ["10.0.0.2"]}]}, ("10.0.0.2", "'watch'", "peer 'phone'")),
        ({"peers": [{"name": "watch", "addresses": ["10.0.0.1"]}]}, ("10.0.0.1", "'watch'", "cell 'cella' itself")),
        ({"peers": [{"name": "watch", "addresses": ["10.3.0.2"]}]}, ("10.3.0.2", "'watch'", "10.0.0.0/24")),
        ({"peers": [{"name": "watch", "public_key": device_key("phone")}]}, ("'watch'", "peer 'phone'")),
        ({"peers": [{"name": "watch", "public_key": device_key("watch"), "preshared_key": "x"}]}, ("'watch'", "wg genpsk")),
    ],
)
def test_what_cannot_be_of_a_cell_is_refused(linked: World, args: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(linked, "wg_cell", args, *words)


@pytest.mark.parametrize(
    ("module", "args", "words"),
    [
        ("pic_cell_rules", {"name": "cellb", "share": ["mail"]}, ("'mail'", "'cellb'", "files, voice")),
        ("pic_cell_rules", {"name": "cellb", "exit_relay": True, "offer_exit": False}, ("exit_relay", "'cellb'")),
        ("pic_policy_route", {"peer": "nobody", "via_cell": "cellb"}, ("'nobody'", "laptop, phone, tablet")),
        ("pic_policy_route", {"peer": "laptop", "via_cell": "cellz"}, ("'laptop'", "'cellz'", "no link")),
    ],
)
def test_what_cannot_be_allowed_routed_or_received_is_refused(linked: World, module: str, args: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(linked, module, args, *words)


def test_a_way_through_a_cell_that_has_not_offered_is_refused(linked: World) -> None:
    linked.inventory["cellc"]["cell_links"][0]["offer_exit"] = False
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    linked.site()
    linked.reset()
    refused(linked, "pic_policy_route", {"peer": "laptop", "via_cell": "cellc"}, "'laptop'", "'cellc'", "has not offered")


@pytest.mark.parametrize(
    ("tool", "package", "module", "args"),
    [
        ("conntrack", "conntrack", "pic_cell_rules", {"name": "cellb", "share": []}),
        ("conntrack", "conntrack", "pic_policy_route", {"peer": "phone", "via_cell": "direct"}),
        ("ip6tables", "iptables", "pic_cell_rules", {"name": "cellb", "share": []}),
        ("wg", "wireguard-tools", "wg_cell_peer", FAR),
        ("ip", "iproute2", "pic_policy_route", {"peer": "laptop", "via_cell": "cellb"}),
    ],
)
def test_a_missing_tool_is_named_with_its_package(linked: World, tool: str, package: str, module: str, args: dict[str, Any]) -> None:
    host = linked["cella"]
    host.missing.add(tool)
    before = host.text()
    result = call(module, host, args)
    assert result["failed"]
    assert (host.text(), host.steps) == (before, [])
    assert f"'{tool}" in result["msg"] and f"'{package}'" in result["msg"]
    host.missing.clear()
    assert not call(module, host, args).get("failed")


def test_whoever_is_not_root_is_told_so(host: FakeHost) -> None:
    result = call("wg_cell", host, {"cell": {"name": "cella", "networks": ["10.0.0.1/24"]}}, uid=1000)
    assert result["failed"] and "root" in result["msg"] and "become" in result["msg"]
    assert host.steps == []


def test_what_a_survey_leaves_empty_counts_as_not_given(linked: World) -> None:
    host = linked["cella"]
    empty = {"name": "cellb", "public_key": "", "networks": [""], "address": [], "endpoint": "", "interface": "", "preshared_key": ""}
    assert not call("wg_cell_peer", host, empty).get("changed")
    assert not call("pic_policy_route", host, {"peer": "phone", "via_cell": "", "addresses": [""]}).get("changed")
    assert not call("pic_cell_rules", host, {"name": "cellb", "share": ""}).get("changed")
    assert not call("pic_cell_rules", host, {"name": "cellb", "share": [""]}).get("changed")
    assert host.steps == []
