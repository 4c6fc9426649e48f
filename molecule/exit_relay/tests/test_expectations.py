# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random policies of a cell: what a run says beforehand of each expectation is what becomes of packets after it.

All 20: PIC_AT_LENGTH=1 pytest -v molecule/exit_relay/tests/test_expectations.py, in `make shell`, on the lab as the scenario begins with it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from test_exit_relay import CELL

from cells import sh
from packets import reaches, seen_address
from playbooks import INVENTORY, play

FAMILIES = (4, 6)
PHONES = ("phone-a1", "phone-a2", "phone-a3")
EXITS = ("cellb", "cellc", "direct")
SERVICES = ("files", "voice", "camera", "intercom")
CELL_A, PHONE_A3, LAN_A = (dict(zip(FAMILIES, pair)) for pair in (("10.0.0.1", "fd00:a::1"), ("10.0.0.4", "fd00:a::4"), ("192.168.77.10", "fd77::10")))
# What an owner may have on the host: a way from devices to the LAN.
LET_IN = "for tool in iptables ip6tables; do $tool {} FORWARD -i wg0 -o eth1 -j ACCEPT; done"
# Who asks what, as it is expected and as it is tried: of a linked cell its phone sends the packets.
ASKING = {"cellb": "phone-b1", "phone-a1": "phone-a1"}
ASKED = (
    *(("cellb", CELL_A, port, protocol) for port, protocol in ((8443, "tcp"), (9002, "udp"), (8444, "tcp"), (22, "tcp"))),
    *(("cellb", PHONE_A3, port, protocol) for port, protocol in ((8445, "tcp"), (9003, "udp"))),
    ("cellb", LAN_A, 80, "tcp"),
    *(("phone-a1", CELL_A, port, protocol) for port, protocol in ((22, "tcp"), (8443, "tcp"), (9002, "udp"))),
    ("phone-a1", PHONE_A3, 8445, "tcp"),
    ("phone-a1", LAN_A, 80, "tcp"),
)


def questions() -> dict[str, tuple[str, str, int, str]]:
    """Returns what is expected of ports, and who tries which."""
    found = {}
    for source, addresses, port, protocol in ASKED:
        for address in addresses.values():
            host = f"[{address}]" if ":" in address else address
            found[f"{source} to {protocol}://{host}:{port} is allowed"] = (ASKING[source], address, port, protocol)
    return found


def stated(line: str, holds: bool = True) -> dict[str, str]:
    """Returns a line as an inventory states it, or where it does not hold its contrary."""
    source, to, via = re.fullmatch(r"(\S+) to (\S+) is allowed(?: via (\S+))?", line).groups()
    return {"from": source, "to": to, "is": "allowed" if holds else "refused", **({"via": via} if via else {})}


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    yield
    sh("cella", LET_IN.format("-D"), check=False)
    outcome = play("site", overlay={"cella": {"cell_expect": []}})
    assert outcome.rc == 0, outcome.message


def some_policy(dice: random.Random) -> dict[str, Any]:
    """Returns variables of cella: who leaves by which exit, and what is shared with whom."""
    peers = yaml.safe_load(INVENTORY.read_text())["cells"]["hosts"]["cella"]["cell_peers"]
    shares = {cell: [name for name in SERVICES if dice.random() < 0.5] for cell in ("cellb", "cellc")}
    return {
        "cell_peers": [{**peer, "route_via": dice.choice(EXITS)} for peer in peers],
        "cell_links": [{"name": "cellb", "share": shares["cellb"], "offer_exit": True}, {"name": "cellc", "share": shares["cellc"]}],
        "cell_admin_networks": dice.choice(([], ["10.0.1.0/24", "fd00:b::/64"])),
    }


@pytest.mark.parametrize("number", [pytest.param(number, marks=[] if number < 2 else [pytest.mark.at_length]) for number in range(20)])
def test_what_a_run_says_of_a_random_policy_is_what_becomes_of_packets(number: int) -> None:
    dice = random.Random(f"policy {number}")
    sh("cella", LET_IN.format("-D"), check=False)
    if dice.random() < 0.5:
        sh("cella", LET_IN.format("-A"))
    policy, ports = some_policy(dice), questions()
    ways = [f"{phone} to internet is allowed via {via}" for phone in PHONES for via in EXITS]
    # Two lines about the same packets are refused, so the exits are asked for one after the other.
    broken: set[str] = set()
    for via in EXITS:
        lines = [*ports, *(line for line in ways if line.endswith(f" via {via}"))]
        asked = play("site", "--check", overlay={"cella": {**policy, "cell_expect": [stated(line) for line in lines]}})
        found = set(re.findall(r"cell_expect: '([^']+)' would not hold after this run", asked.message))
        assert found <= set(lines) and bool(found) == (asked.rc != 0), (policy, asked.message)
        assert not found or not any(asked.changed.values()), "refused before anything has changed"
        broken |= found
    told = {line: line not in broken for line in (*ports, *ways)}
    right = [stated(line, told[line]) for line in ports] + [stated(line) for line in ways if told[line]]
    done = play("site", overlay={"cella": {**policy, "cell_expect": right}})
    assert done.rc == 0, (policy, done.message)
    kernel = json.loads(sh("cella", "pic-cell check --json", check=False))["expectations"]
    assert [one for one in kernel if one["why"]] == [] and len(kernel) == len(right), policy
    with ThreadPoolExecutor(8) as pool:
        tried = dict(zip(ports, pool.map(lambda question: reaches(*question), ports.values())))
        seen = dict(zip(PHONES, pool.map(lambda phone: seen_address(phone, 4), PHONES)))
    for line in ways:
        phone, via = line.split()[0], line.split()[-1]
        tried[line] = seen[phone] == CELL["cella" if via == "direct" else via][4]
    assert tried == told, (policy, {line: (tried[line], told[line]) for line in told if tried[line] != told[line]})
    assert play("site", overlay={"cella": {**policy, "cell_expect": right}}).changed == {"cella": 0, "cellb": 0, "cellc": 0}
