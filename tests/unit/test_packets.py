# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules make of a packet: ours compared with another evaluator, and those of others as far as they can be known."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.kernel.iptables import parse_save
from ansible_collections.pic.cells.plugins.module_utils.kernel.observed import Observed
from ansible_collections.pic.cells.plugins.module_utils.kernel.packets import HERE, Packet, redirected, verdict
from ansible_collections.pic.cells.tests.unit import netfilter
from ansible_collections.pic.cells.tests.unit.changes import Change
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, furnish, three_cells

PACKET = Packet("10.0.1.2", "10.0.0.1", 443, "tcp", "pic-cellb")


def saved(*rules: str, table: str = "filter", policy: str = "ACCEPT") -> dict[str, object]:
    chains = "".join(f":{rule.split()[1]} - [0:0]\n" for rule in dict.fromkeys(rules) if rule.split()[1] not in ("INPUT", "FORWARD", "PREROUTING"))
    hooks = "PREROUTING" if table == "nat" else "INPUT"
    lines = "\n".join(rules)
    return parse_save(f"*{table}\n:{hooks} {policy} [0:0]\n:FORWARD {policy} [0:0]\n{chains}{lines}\nCOMMIT\n")  # type: ignore[return-value]


def some_packet(dice: random.Random, host: FakeHost, world: World) -> Packet:
    """Return a packet between what there is, on ports that mean something, or none."""
    family = dice.choice((4, 6))
    networks = [ipaddress.ip_interface(n).network for cell in world.inventory.values() for n in cell["cell_networks"]]
    known = [network for network in networks if network.version == family] or [ipaddress.ip_network({4: "10.9.0.0/24", 6: "fd00:9::/64"}[family])]
    outside = {4: ["203.0.113.11", "198.51.100.7", "192.168.7.7"], 6: ["2001:db8:113::11", "2001:db8::7", "fd77::7"]}[family]

    def somebody() -> str:
        return str(dice.choice(known)[dice.randrange(1, 6)]) if dice.random() < 0.8 else dice.choice(outside)

    interfaces = sorted(host.links)
    names = [name for name in interfaces if name.startswith(("pic-", "wg"))]
    leaves = dice.choice((HERE, HERE, *interfaces))
    port = dice.choice((53, 80, 443, 5060, 8088, 51820, 51821, 900, 100))
    return Packet(somebody(), somebody(), port, dice.choice(("tcp", "udp")), dice.choice(names), leaves)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[] if seed < 4 else [pytest.mark.at_length]) for seed in range(20)])
def test_an_answer_is_that_of_another_evaluator(tmp_path: Path, seed: int) -> None:
    dice, world = random.Random(f"packets {seed}"), World(tmp_path, three_cells())
    furnish(world["cella"])
    world.site()
    for _number in range(2):
        before = {host: dict(variables) for host, variables in world.inventory.items()}
        Change(dice, world.inventory)
        try:
            world.site()
        except (BadInput, Refusal):
            world.inventory = before
    both = set()
    for name, host in world.hosts.items():
        seen = Observed(host)
        for _number in range(150):
            packet = some_packet(dice, host, world)
            told = verdict(seen.iptables[packet.family], packet, seen.addresses())
            other = netfilter.Packet(packet.source, packet.to, packet.came_by, packet.leaves_by, packet.protocol, packet.port)
            assert told.passes == (netfilter.verdict(host, other) == netfilter.PASSED), (seed, name, packet, told)
            both.add(told.passes)
    assert both == {True, False}


@pytest.mark.parametrize(
    ("rules", "passes", "rule"),
    [
        (["-A INPUT -p tcp -m tcp --dport 440:444 -j DROP"], False, "INPUT -p tcp --dport 440:444 -j DROP"),
        (["-A INPUT -p udp -m udp --dport 443 -j DROP"], True, ""),
        (["-A INPUT -p tcp -m multiport --dports 80,443 -j REJECT --reject-with tcp-reset"], False, "-j REJECT"),
        (["-A INPUT ! -i wg0 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"], False, "! -i wg0"),
        (["-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW -j DROP"], True, ""),
        (["-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j DROP"], True, ""),
        (["-A INPUT -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 443 -j DROP"], False, "--ctorigdst"),
        (["-A INPUT -m addrtype --dst-type LOCAL -j DROP"], False, "addrtype"),
        (["-A INPUT -s 10.0.0.0/255.255.0.0 -j one", "-A one -j DROP"], False, "one -j DROP"),
        (["-A INPUT -s 10.2.0.0/255.255.0.0 -j one", "-A one -j DROP"], True, ""),
        (["-A INPUT -i pic-+ -j one", "-A INPUT -j DROP", "-A one -g two", "-A one -j ACCEPT", "-A two -j RETURN"], False, "INPUT -j DROP"),
        (["-A INPUT -j LOG", "-A INPUT -p icmp -m icmp --icmp-type 8 -j DROP", "-A INPUT -j ACCEPT", "-A INPUT -j DROP"], True, "INPUT -j ACCEPT"),
    ],
)
def test_a_rule_of_others_is_read(rules: list[str], passes: bool, rule: str) -> None:
    found = verdict(saved(*rules), PACKET, frozenset({"10.0.0.1"}))  # type: ignore[arg-type]
    assert found.passes == passes and rule in found.rule and found.sure


@pytest.mark.parametrize(
    ("rules", "passes", "sure"),
    [
        (["-A INPUT -m mark --mark 0x1 -j ACCEPT", "-A INPUT -j DROP"], True, False),
        (["-A INPUT -m set --match-set bad src -j DROP"], True, True),
        (["-A INPUT -m mark --mark 0x1 -s 10.7.0.0/16 -j ACCEPT", "-A INPUT -j DROP"], False, True),
        (["-A INPUT -m limit --limit 3/min -j one", "-A INPUT -j DROP", "-A one -j ACCEPT"], True, False),
        (["-A INPUT -m limit --limit 3/min -j one", "-A INPUT -j ACCEPT", "-A one -j DROP"], True, True),
    ],
)
def test_what_nobody_knows_is_counted_where_a_rule_would_accept(rules: Sequence[str], passes: bool, sure: bool) -> None:
    found = verdict(saved(*rules), PACKET)  # type: ignore[arg-type]
    assert (found.passes, found.sure) == (passes, sure)


def test_a_policy_decides_where_no_rule_does() -> None:
    assert verdict(saved(policy="DROP"), PACKET) == (False, "the policy of INPUT, DROP,", True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("to", "address", "port"),
    [("172.17.0.2:80", "172.17.0.2", 80), ("172.17.0.2", "172.17.0.2", 443), (":8443", "10.0.0.1", 8443), ("172.17.0.2-172.17.0.9:80-90", "172.17.0.2", 80)],
)
def test_a_destination_that_is_changed(to: str, address: str, port: int) -> None:
    rules = saved("-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER", f"-A DOCKER -p tcp -m tcp --dport 443 -j DNAT --to-destination {to}", table="nat")
    found = redirected(rules, PACKET, frozenset({"10.0.0.1"}))  # type: ignore[arg-type]
    assert (found.to, found.port, found.asked) == (address, port, ("10.0.0.1", 443))
    assert redirected(rules, PACKET) is PACKET  # type: ignore[arg-type]


def test_a_destination_of_ipv6_that_is_changed() -> None:
    packet = Packet("fd00:b::2", "fd00:a::1", 53, "udp", "wg0")
    for to, port in (("fd00::53", 53), ("[fd00::53]:5353", 5353)):
        found = redirected(saved(f"-A PREROUTING -j DNAT --to-destination {to}", table="nat"), packet)  # type: ignore[arg-type]
        assert (found.to, found.port) == ("fd00::53", port)


@pytest.mark.parametrize("leave", ["-A X -m set --match-set good src -j RETURN", "-A X -m set --match-set good src -g Y"])
def test_what_may_have_left_a_chain_before_it_drops_is_not_taken_for_dropped(leave: str) -> None:
    rules = saved("-A INPUT -j X", leave, "-A X -j DROP", "-A Y -p udp -j DROP")
    found = verdict(rules, PACKET)  # type: ignore[arg-type]
    assert found.passes
    assert not verdict(saved("-A INPUT -j X", "-A X -j DROP"), PACKET).passes  # type: ignore[arg-type]
