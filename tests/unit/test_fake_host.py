# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake host refuses what a real one would, and what nobody has told it of; else the other tests show nothing."""

from __future__ import annotations

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import CommandFailed
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.machine import Killed
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

ONE, TWO = made_key("one"), made_key("two")
RULE = "rule add from 10.0.0.2 lookup 4200 pref 4001 protocol 201"
ROUTE = "route replace 10.1.0.0/24 dev wg0 table 254 protocol 201"
CONFIG = f"[Interface]\nPrivateKey = {made_key('private')}\nListenPort = 51820\nAddress = 10.0.0.1/24, fd00:a::1/64\nPostUp = ip -4 {ROUTE}\n"
OWN = "*filter\n:PIC-A - [0:0]\n-A PIC-A -j ACCEPT\n-I FORWARD 1 -j PIC-A\nCOMMIT\n"


@pytest.fixture
def cell(host: FakeHost) -> FakeHost:
    """Return a host with a WireGuard interface, a policy rule and an own chain."""
    host.write("/etc/wireguard/wg0.conf", CONFIG)
    host.by_hand("systemctl restart wg-quick@wg0")
    host.by_hand("ip -4 -batch -", f"{RULE}\n")
    host.by_hand("wg addconf wg0 /dev/stdin", f"[Peer]\nPublicKey = {ONE}\nAllowedIPs = 10.0.0.2/32\n")
    host.by_hand("iptables-restore --noflush -w 10", OWN)
    host.reset()
    return host


@pytest.mark.parametrize(
    ("command", "stdin"),
    [
        ("ip -4 -batch -", RULE),
        ("ip -4 -batch -", RULE.replace(" protocol 201", "")),
        ("ip -6 -batch -", RULE),
        ("ip -4 -batch -", RULE.replace("add", "del").replace("4200", "4201")),
        ("ip -4 -batch -", ROUTE.replace("replace", "add")),
        ("ip -4 -batch -", ROUTE.replace("replace", "del").replace("254", "4200")),
        ("ip -4 -batch -", ROUTE.replace("wg0", "wg1")),
        ("ip -4 -batch -", ROUTE.replace("10.1.0.0", "10.1.0.1")),
        ("ip -batch -", "addr add 10.0.0.1/24 dev wg0"),
        ("ip -batch -", "addr del 10.0.0.9/24 dev wg0"),
        ("wg set wg1 listen-port 5", ""),
        ("wg addconf wg0 /dev/stdin", f"[Peer]\nPublicKey = {TWO}\nEndpoint = unheard-of.example.net:5\n"),
        ("wg-quick up wg0", ""),
        ("wg-quick down wg1", ""),
        ("iptables-restore --noflush -w 10", "*filter\n-D FORWARD -j ACCEPT\nCOMMIT\n"),
        ("iptables-restore --noflush -w 10", "*filter\n-A PIC-B -j ACCEPT\nCOMMIT\n"),
        ("iptables-restore --noflush -w 10", "*filter\n-A FORWARD -j PIC-B\nCOMMIT\n"),
        ("iptables-restore --noflush -w 10", "*filter\n-X PIC-A\nCOMMIT\n"),
        ("iptables-restore --noflush -w 10", "*filter\n-A FORWARD -j MASQUERADE\nCOMMIT\n"),
        ("iptables-restore --noflush -w 10", "*filter\n-A FORWARD --dport 5 -j DROP\nCOMMIT\n"),
        ("ip6tables-restore --noflush -w 10", "*filter\n-A FORWARD -s 10.0.0.0/8 -j DROP\nCOMMIT\n"),
        ("iptables-restore --noflush -w 10", f"*filter\n:{'A' * 29} - [0:0]\nCOMMIT\n"),
        ("conntrack -D -f ipv4 -s fd00::1", ""),
        ("getent ahosts unheard-of.example.net", ""),
    ],
)
def test_what_a_real_host_refuses_changes_nothing(cell: FakeHost, command: str, stdin: str) -> None:
    before = cell.text()
    with pytest.raises(CommandFailed):
        cell.run(command.split(), stdin)
    assert cell.text() == before


@pytest.mark.parametrize(
    ("command", "stdin"),
    [
        ("nft list ruleset", ""),
        ("iptables -F", ""),
        ("iptables-restore", OWN),
        ("ip rule show", ""),
        ("ip route flush table 4200", ""),
        ("wg syncconf wg0 /dev/stdin", ""),
        ("wg set wg0 peer " + TWO + " remove", ""),
        ("conntrack -F", ""),
        ("systemctl stop docker", ""),
        ("iptables-restore --noflush -w 10", "*filter\n-A FORWARD --match-set x -j DROP\nCOMMIT\n"),
    ],
)
def test_what_nobody_has_told_it_of_is_an_error_of_the_test(cell: FakeHost, command: str, stdin: str) -> None:
    with pytest.raises((AssertionError, CommandFailed, LookupError, ValueError)) as caught:
        cell.run(command.split(), stdin)
    assert not isinstance(caught.value, CommandFailed)


def test_a_batch_ends_at_the_first_error_and_keeps_what_came_before(cell: FakeHost) -> None:
    lines = [f"rule add from 10.0.0.{number} unreachable pref 4002 protocol 201" for number in (2, 2, 3)]
    with pytest.raises(CommandFailed, match="Command failed -:2"):
        cell.run(["ip", "-4", "-batch", "-"], "\n".join(lines))
    assert [rule.src for rule in cell.rules[4] if rule.priority == 4002] == ["10.0.0.2"]


def test_a_restore_is_whole_or_nothing_and_declares_with_care(cell: FakeHost) -> None:
    cell.by_hand("iptables-restore --noflush -w 10", "*filter\n:FORWARD DROP [0:0]\n:PIC-A - [0:0]\n-A PIC-A -j DROP\nCOMMIT\n")
    assert (cell.chain(4, "PIC-A"), cell.chain(4, "FORWARD")) == (["-j DROP"], ["-j PIC-A"])
    assert ":FORWARD DROP" in cell.by_hand("iptables-save")
    before = cell.text()
    with pytest.raises(CommandFailed, match="line 3 failed"):
        cell.run(["iptables-restore", "--noflush", "-w", "10"], "*filter\n:PIC-A - [0:0]\n-D FORWARD -j DROP\nCOMMIT\n")
    assert cell.text() == before


def test_the_last_address_takes_the_routes_along_and_so_does_the_link(cell: FakeHost) -> None:
    assert [route.dst for route in cell.routes if route.dev == "wg0"] == ["10.0.0.0/24", "fd00:a::/64", "10.1.0.0/24"]
    cell.by_hand("ip -batch -", "addr del 10.0.0.1/24 dev wg0\n")
    assert [route.dst for route in cell.routes if route.dev == "wg0"] == ["fd00:a::/64"]
    cell.by_hand("systemctl disable --now wg-quick@wg0")
    assert not [route for route in cell.routes if route.dev == "wg0"]


def test_a_prefix_belongs_to_the_peer_that_asked_last(cell: FakeHost) -> None:
    cell.by_hand("wg addconf wg0 /dev/stdin", f"[Peer]\nPublicKey = {TWO}\nAllowedIPs = 10.0.0.2/32\n")
    assert {key: peer.allowed for key, peer in cell.wg["wg0"].peers.items()} == {ONE: [], TWO: ["10.0.0.2/32"]}


def test_secrets_in_arguments_are_found(cell: FakeHost) -> None:
    key = cell.run(["wg", "genkey"]).out.strip()
    with pytest.raises(AssertionError, match="a secret in the arguments of wg"):
        cell.run(["wg", "set", "wg0", "private-key", key])


def test_the_kth_step_fails_or_is_the_end(cell: FakeHost) -> None:
    batch = ["ip", "-4", "-batch", "-"], "rule del from 10.0.0.2 lookup 4200 pref 4001 protocol 201\n" + ROUTE.replace("replace", "del") + "\n"
    cell.fail_at = 2
    with pytest.raises(CommandFailed, match="injected"):
        cell.run(*batch)
    assert ("lookup 4200" not in cell.text(), "10.1.0.0/24" in cell.text()) == (True, True)
    cell.reset()
    cell.fail_at, cell.kill = 1, True
    with pytest.raises(Killed):
        cell.write("/etc/x", "text")
    assert not cell.exists("/etc/x")


def test_a_boot_loses_the_kernel_and_starts_what_is_enabled(cell: FakeHost) -> None:
    cell.by_hand("systemctl enable wg-quick@wg0")
    cell.boot()
    assert ("wg0" in cell.wg, cell.wg["wg0"].peers, len(cell.rules[4]), cell.by_hand("iptables-save")) == (True, {}, 2, "")
