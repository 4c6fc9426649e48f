# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each own chain holds: who may reach what, in which order, in each family."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import networks
from ansible_collections.pic.cells.plugins.module_utils.kernel import ruleset
from ansible_collections.pic.cells.plugins.module_utils.parts import chains, firewall, hostfacts, stages
from ansible_collections.pic.cells.plugins.module_utils.records import model as records

NETWORKS = ["10.0.0.1/24", "fd00:a::1/64"]
SERVICES = {
    "voice": {"addresses": ["10.0.0.3", "fd00:a::3"], "port": 5060, "protocol": "udp"},
    "files": {"addresses": ["10.0.0.1"], "port": 443},
}
CELLB = {
    "public_key": "KEY",
    "networks": ["10.0.1.0/24", "fd00:b::/64"],
    "address": ["10.0.1.1", "fd00:b::1"],
    "interface": "pic-cellb",
    "listen_port": 51821,
    "permissions": {"inbound": {"voice": True, "files": True, "old": True}, "outbound": {}},
}
ON_WG0 = {"interface": "wg0", "listen_port": 51820}
PHONE = {"addresses": ["10.0.0.2", "fd00:a::2"], "route_via": "cellb"}
UPLINK = {"uplink": "eth0", "connected": ("192.0.2.0/24", "192.168.1.0/24")}

# What a cell is, by what is special about it: the cell's own fields, its links, its devices, the host.
CELLS: dict[str, dict[str, Any]] = {
    "empty": {},
    "without links": {"cell": {"networks": NETWORKS, "services": SERVICES}, "around": UPLINK},
    "with an uplink nobody knows": {"cell": {"networks": NETWORKS}, "links": {"cellb": CELLB}},
    "linked": {"cell": {"networks": NETWORKS, "services": SERVICES}, "links": {"cellb": CELLB}, "around": UPLINK},
    "linked through the devices' interface": {
        "cell": {"networks": NETWORKS, "services": SERVICES},
        "links": {"cellb": {**CELLB, **ON_WG0}},
        "around": {**UPLINK, "senders": ("10.0.0.2/32",)},
    },
    "an exit": {
        "cell": {"networks": NETWORKS},
        "links": {"cellb": {**CELLB, "exit_offered": True, "remote_exit_relay_active": True}},
        "around": UPLINK,
    },
    "an exit with an uplink nobody knows": {
        "cell": {"networks": NETWORKS},
        "links": {"cellb": {**CELLB, "exit_offered": True, "remote_exit_relay_active": True}},
    },
    "with a routed device": {
        "cell": {"networks": NETWORKS},
        "links": {"cellb": CELLB},
        "devices": {"phone": {**PHONE, "networks": ["10.5.0.0/24"]}, "tv": {"addresses": ["10.0.0.9"], "networks": ["10.6.0.0/24"]}},
    },
    "with an exit that no device uses": {"cell": {"networks": NETWORKS}, "links": {"cellb": {**CELLB, "exit_relay_active": True}}},
    "with devices that nobody knows": {"cell": {"networks": NETWORKS}, "links": {"cellb": {**CELLB, "exit_relay_active": True}}, "peers_lost": True},
    "with two exits": {
        "cell": {"networks": NETWORKS},
        "links": {"cellb": CELLB, "cellc": {**CELLB, "networks": ["10.0.2.0/24"], "interface": "pic-cellc"}},
        "devices": {"phone": PHONE, "tablet": {"addresses": ["10.0.0.4"], "route_via": "cellc"}},
    },
    "with admins": {"cell": {"networks": NETWORKS, "admin_networks": ["10.0.1.7/32", "fd00:b::7/128"], "sync_port": 9000}, "links": {"cellb": CELLB}},
    "with an API elsewhere": {"cell": {"networks": NETWORKS}, "links": {"cellb": {**CELLB, "remote_api_url": "http://10.0.1.1:9000/"}}},
    "with an API on port 80": {"cell": {"networks": NETWORKS}, "links": {"cellb": {**CELLB, "remote_api_url": "http://10.0.1.1/"}}},
    "with a UDP service that is gone": {"cell": {"networks": NETWORKS, "retired": ["10.0.0.8 53"]}},
    "without IPv6": {"cell": {"networks": NETWORKS[:1]}, "links": {"cellb": CELLB}, "around": UPLINK},
    "with several links": {
        "cell": {"networks": NETWORKS, "listen_port": 51819},
        "links": {
            "cellb": {**CELLB, "permissions": {"inbound": {}, "outbound": {}}},
            "cellc": {**CELLB, "networks": ["10.0.2.0/24"], "address": [], "interface": "pic-cellc", "listen_port": 51824},
            "celld": {**CELLB, "networks": ["10.0.3.0/24"], "address": [], "interface": "pic-celld", "listen_port": None},
            "pending": {"interface": "pic-pending", "listen_port": 51825},
            "unruled": {**CELLB, "ruled": False},
            "nowhere": {**CELLB, "interface": None},
        },
        "around": UPLINK,
    },
}


def state(case: str) -> records.State:
    """Return the records of one of the cells."""
    told = CELLS[case]
    own = {"name": "cella", **told.get("cell", {})}
    own["services"] = {name: records.Service(name, **service) for name, service in own.get("services", {}).items()}
    return records.State(
        records.Cell(**own),
        {name: records.Link(name, **link) for name, link in told.get("links", {}).items()},
        {
            name: records.Peer(name, **{**device, "route_via": [device["route_via"]] if device.get("route_via") else []})
            for name, device in told.get("devices", {}).items()
        },
        peers_lost=told.get("peers_lost", False),
    )


def built(case: str, family: int) -> ruleset.Ruleset:
    """Return all rules of one of the cells in one family."""
    around = {key: value if key == "uplink" else tuple(networks.of_family(family, value)) for key, value in CELLS[case].get("around", {}).items()}
    return firewall.build(state(case), family, hostfacts.HostFacts(**around))


def shown(rules: list[ruleset.Rule]) -> list[str]:
    """Return rules as they stand in a chain, each behind the cell that it is for."""
    return [("" if rule.tag == "pic-cells" else f"{rule.tag.removeprefix('pic-cell-')}: ") + rule.text for rule in rules]


# cell, family, table and chain, and its rules
HELD: list[tuple[str, int, str, list[str]]] = [
    (
        "linked",
        4,
        "filter PIC-FWD",
        [
            "-i pic-+ -g PIC-PATH",
            "-o pic-+ -g PIC-PATH",
            "-i wg0 -g PIC-PATH",
            "-o wg0 -g PIC-PATH",
        ],
    ),
    (
        "without links",
        4,
        "filter PIC-FWD",
        [
            "-i pic-+ -g PIC-PATH",
            "-o pic-+ -g PIC-PATH",
            "-i wg0 -g PIC-PATH",
            "-o wg0 -g PIC-PATH",
        ],
    ),
    (
        "linked",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT",
            "-o pic-+ -j DROP",
            "-i wg0 -o eth0 -s 10.0.0.0/24 -j ACCEPT",
            "-i eth0 -o wg0 -m conntrack ! --ctstate DNAT -j DROP",
        ],
    ),
    (
        "linked",
        6,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s fd00:a::/64 -j ACCEPT",
            "-o pic-+ -j DROP",
            "-i wg0 -o eth0 -s fd00:a::/64 -j ACCEPT",
            "-i eth0 -o wg0 -m conntrack ! --ctstate DNAT -j DROP",
        ],
    ),
    (
        "empty",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-o pic-+ -j DROP",
        ],
    ),
    (
        "without links",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT",
            "-o pic-+ -j DROP",
            "-i wg0 -o eth0 -s 10.0.0.0/24 -j ACCEPT",
            "-i eth0 -o wg0 -m conntrack ! --ctstate DNAT -j DROP",
        ],
    ),
    (
        "with an uplink nobody knows",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT",
            "-o pic-+ -j DROP",
        ],
    ),
    (
        "linked through the devices' interface",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-i wg0 -j PIC-SENDER",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "cellb: -i wg0 -s 10.0.1.0/24 -g PIC-L-cellb",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "cellb: -o wg0 -d 10.0.1.0/24 -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o wg0 -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT",
            "cellb: -i wg0 -o wg0 -d 10.0.1.0/24 -s 10.0.0.0/24 -j ACCEPT",
            "-o pic-+ -j DROP",
            "cellb: -o wg0 -d 10.0.1.0/24 -j DROP",
            "-i wg0 -o eth0 -s 10.0.0.0/24 -j ACCEPT",
            "-i eth0 -o wg0 -m conntrack ! --ctstate DNAT -j DROP",
        ],
    ),
    (
        "with several links",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT",
            "-o pic-+ -j DROP",
            "-i wg0 -o eth0 -s 10.0.0.0/24 -j ACCEPT",
            "-i eth0 -o wg0 -m conntrack ! --ctstate DNAT -j DROP",
        ],
    ),
    (
        "with an API elsewhere",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT",
            "-o pic-+ -j DROP",
        ],
    ),
    (
        "with an API on port 80",
        4,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT",
            "-o pic-+ -j DROP",
        ],
    ),
    (
        "without IPv6",
        6,
        "filter PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -j PIC-GUARD",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-o pic-+ -j DROP",
            "-i eth0 -o wg0 -m conntrack ! --ctstate DNAT -j DROP",
        ],
    ),
    (
        "with a routed device",
        4,
        "filter PIC-ROUTED",
        [
            "-s 10.0.0.2/32 -j PIC-HOME",
            "-s 10.5.0.0/24 -j PIC-HOME",
        ],
    ),
    ("with a routed device", 6, "filter PIC-ROUTED", ["-s fd00:a::2/128 -j PIC-HOME"]),
    ("linked", 4, "filter PIC-ROUTED", []),
    ("with devices that nobody knows", 4, "filter PIC-ROUTED", ["-s 10.0.0.0/24 -j PIC-HOME"]),
    (
        "linked",
        4,
        "filter PIC-HOME",
        [
            "-o wg0 -j RETURN",
            "-d 10.0.0.0/8 -j RETURN",
            "-d 100.64.0.0/10 -j RETURN",
            "-d 172.16.0.0/12 -j RETURN",
            "-d 192.168.0.0/16 -j RETURN",
            "-j DROP",
        ],
    ),
    (
        "linked",
        6,
        "filter PIC-HOME",
        [
            "-o wg0 -j RETURN",
            "-d fc00::/7 -j RETURN",
            "-d fe80::/10 -j RETURN",
            "-j DROP",
        ],
    ),
    ("linked", 4, "filter PIC-BACK", ["-j DROP"]),
    (
        "with a routed device",
        4,
        "filter PIC-BACK",
        [
            "cellb: -i pic-cellb -o wg0 -d 10.0.0.2/32 -m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY -j RETURN",
            "-g PIC-TOOBIG",
        ],
    ),
    (
        "with a routed device",
        4,
        "filter PIC-TOOBIG",
        [
            "cellb: -i pic-cellb -p icmp --icmp-type fragmentation-needed -m conntrack --ctstate RELATED --ctorigsrc 10.0.1.0/24 -j RETURN",
            "cellb: -i pic-cellb -p icmp --icmp-type fragmentation-needed -m conntrack --ctstate RELATED --ctorigdst 10.0.1.0/24 -j RETURN",
            "-j DROP",
        ],
    ),
    (
        "with a routed device",
        6,
        "filter PIC-TOOBIG",
        [
            "cellb: -i pic-cellb -p ipv6-icmp --icmpv6-type packet-too-big -m conntrack --ctstate RELATED --ctorigsrc fd00:b::/64 -j RETURN",
            "cellb: -i pic-cellb -p ipv6-icmp --icmpv6-type packet-too-big -m conntrack --ctstate RELATED --ctorigdst fd00:b::/64 -j RETURN",
            "-j DROP",
        ],
    ),
    ("with an exit that no device uses", 4, "filter PIC-BACK", ["-g PIC-TOOBIG"]),
    (
        "with an exit that no device uses",
        4,
        "filter PIC-TOOBIG",
        [
            "cellb: -i pic-cellb -p icmp --icmp-type fragmentation-needed -m conntrack --ctstate RELATED --ctorigsrc 10.0.1.0/24 -j RETURN",
            "cellb: -i pic-cellb -p icmp --icmp-type fragmentation-needed -m conntrack --ctstate RELATED --ctorigdst 10.0.1.0/24 -j RETURN",
            "-j DROP",
        ],
    ),
    (
        "with devices that nobody knows",
        4,
        "filter PIC-BACK",
        [
            "cellb: -i pic-cellb -o wg0 -d 10.0.0.0/24 -m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY -j RETURN",
            "-g PIC-TOOBIG",
        ],
    ),
    (
        "with devices that nobody knows",
        6,
        "filter PIC-BACK",
        [
            "cellb: -i pic-cellb -o wg0 -d fd00:a::/64 -m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY -j RETURN",
            "-g PIC-TOOBIG",
        ],
    ),
    (
        "linked",
        4,
        "filter PIC-GUARD",
        [
            "-p tcp -m conntrack --ctstate INVALID -j DROP",
            "-p tcp ! --syn -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset",
            "-s 10.0.0.3 -p udp --sport 5060 -m conntrack --ctstate NEW -j DROP",
        ],
    ),
    (
        "linked",
        6,
        "filter PIC-GUARD",
        [
            "-p tcp -m conntrack --ctstate INVALID -j DROP",
            "-p tcp ! --syn -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset",
            "-s fd00:a::3 -p udp --sport 5060 -m conntrack --ctstate NEW -j DROP",
        ],
    ),
    (
        "with a UDP service that is gone",
        4,
        "filter PIC-GUARD",
        [
            "-p tcp -m conntrack --ctstate INVALID -j DROP",
            "-p tcp ! --syn -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset",
            "-s 10.0.0.8 -p udp --sport 53 -m conntrack --ctstate NEW -j DROP",
        ],
    ),
    (
        "with a UDP service that is gone",
        6,
        "filter PIC-GUARD",
        [
            "-p tcp -m conntrack --ctstate INVALID -j DROP",
            "-p tcp ! --syn -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset",
        ],
    ),
    (
        "linked",
        4,
        "filter PIC-IN",
        [
            "-p udp --dport 51820:51821 -j ACCEPT",
            "-i pic-+ -j PIC-SOURCE",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-CELL",
            "! -i lo -d 10.0.0.1 -p tcp --dport 8088 -j DROP",
        ],
    ),
    (
        "empty",
        4,
        "filter PIC-IN",
        [
            "-p udp --dport 51820 -j ACCEPT",
            "-i pic-+ -j PIC-SOURCE",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-CELL",
        ],
    ),
    (
        "linked through the devices' interface",
        4,
        "filter PIC-IN",
        [
            "-p udp --dport 51820 -j ACCEPT",
            "-i pic-+ -j PIC-SOURCE",
            "-i wg0 -j PIC-SENDER",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "cellb: -i wg0 -s 10.0.1.0/24 -m conntrack --ctstate INVALID -j DROP",
            "cellb: -i wg0 -s 10.0.1.0/24 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "cellb: -i wg0 -s 10.0.1.0/24 -g PIC-I-cellb",
            "-i pic-+ -g PIC-CELL",
            "! -i lo -d 10.0.0.1 -p tcp --dport 8088 -j DROP",
        ],
    ),
    (
        "with several links",
        4,
        "filter PIC-IN",
        [
            "-p udp --dport 51819 -j ACCEPT",
            "-p udp --dport 51821 -j ACCEPT",
            "-p udp --dport 51824 -j ACCEPT",
            "-i pic-+ -j PIC-SOURCE",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-CELL",
            "! -i lo -d 10.0.0.1 -p tcp --dport 8088 -j DROP",
        ],
    ),
    (
        "with admins",
        6,
        "filter PIC-IN",
        [
            "-p udp --dport 51820:51821 -j ACCEPT",
            "-i pic-+ -j PIC-SOURCE",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i pic-+ -g PIC-CELL",
            "! -i lo -d fd00:a::1 -p tcp --dport 9000 -j DROP",
        ],
    ),
    ("linked", 4, "filter PIC-LINK", ["cellb: -i pic-cellb -s 10.0.1.0/24 -g PIC-L-cellb", "-j DROP"]),
    ("linked", 6, "filter PIC-LINK", ["cellb: -i pic-cellb -s fd00:b::/64 -g PIC-L-cellb", "-j DROP"]),
    ("linked", 4, "mangle PIC-LINK", ["cellb: -i pic-cellb -s 10.0.1.0/24 -g PIC-L-cellb", "-j DROP"]),
    ("linked", 4, "filter PIC-CELL", ["cellb: -i pic-cellb -s 10.0.1.0/24 -g PIC-I-cellb", "-j DROP"]),
    ("linked", 4, "mangle PIC-CELL", ["cellb: -i pic-cellb -s 10.0.1.0/24 -g PIC-I-cellb", "-j DROP"]),
    ("empty", 4, "filter PIC-LINK", ["-j DROP"]),
    ("empty", 4, "filter PIC-CELL", ["-j DROP"]),
    ("linked through the devices' interface", 4, "filter PIC-LINK", ["-j DROP"]),
    ("linked through the devices' interface", 4, "filter PIC-CELL", ["-j DROP"]),
    (
        "with several links",
        4,
        "filter PIC-LINK",
        [
            "cellb: -i pic-cellb -s 10.0.1.0/24 -g PIC-L-cellb",
            "cellc: -i pic-cellc -s 10.0.2.0/24 -g PIC-L-cellc",
            "celld: -i pic-celld -s 10.0.3.0/24 -g PIC-L-celld",
            "-j DROP",
        ],
    ),
    ("linked", 4, "filter PIC-API", ["cellb: -o pic-cellb -d 10.0.1.1 -p tcp --dport 8088 -j DROP"]),
    ("linked", 6, "filter PIC-API", ["cellb: -o pic-cellb -d fd00:b::1 -p tcp --dport 8088 -j DROP"]),
    ("linked", 4, "mangle PIC-API", ["cellb: -o pic-cellb -d 10.0.1.1 -p tcp --dport 8088 -j DROP"]),
    ("linked through the devices' interface", 4, "filter PIC-API", ["cellb: -o wg0 -d 10.0.1.1 -p tcp --dport 8088 -j DROP"]),
    ("with an API elsewhere", 4, "filter PIC-API", ["cellb: -o pic-cellb -d 10.0.1.1 -p tcp --dport 9000 -j DROP"]),
    ("with an API on port 80", 4, "filter PIC-API", ["cellb: -o pic-cellb -d 10.0.1.1 -p tcp --dport 80 -j DROP"]),
    ("empty", 4, "filter PIC-API", []),
    ("linked", 4, "nat PIC-MASQ", ["-s 10.0.0.0/24 -j MASQUERADE"]),
    ("an exit", 4, "nat PIC-MASQ", ["-s 10.0.0.0/24 -j MASQUERADE", "cellb: -s 10.0.1.0/24 -j MASQUERADE"]),
    ("an exit", 6, "nat PIC-MASQ", ["-s fd00:a::/64 -j MASQUERADE", "cellb: -s fd00:b::/64 -j MASQUERADE"]),
    ("linked", 4, "filter PIC-OUT", ["-o pic-+ -j PIC-GUARD"]),
    (
        "linked through the devices' interface",
        4,
        "filter PIC-OUT",
        [
            "-o pic-+ -j PIC-GUARD",
            "cellb: -o wg0 -d 10.0.1.0/24 -j PIC-GUARD",
        ],
    ),
    (
        "linked through the devices' interface",
        6,
        "filter PIC-OUT",
        [
            "-o pic-+ -j PIC-GUARD",
            "cellb: -o wg0 -d fd00:b::/64 -j PIC-GUARD",
        ],
    ),
    (
        "linked",
        4,
        "filter PIC-SOURCE",
        [
            "cellb: -i pic-cellb -s 10.0.1.0/24 -j RETURN",
            "-g PIC-BACK",
        ],
    ),
    ("linked through the devices' interface", 4, "filter PIC-SOURCE", ["-g PIC-BACK"]),
    (
        "with several links",
        4,
        "filter PIC-SOURCE",
        [
            "cellb: -i pic-cellb -s 10.0.1.0/24 -j RETURN",
            "cellc: -i pic-cellc -s 10.0.2.0/24 -j RETURN",
            "celld: -i pic-celld -s 10.0.3.0/24 -j RETURN",
            "-g PIC-BACK",
        ],
    ),
    (
        "linked through the devices' interface",
        4,
        "filter PIC-SENDER",
        [
            "-s 10.0.0.2/32 -j RETURN",
            "-s 10.0.1.0/24 -j RETURN",
            "-g PIC-BACK",
        ],
    ),
    (
        "linked through the devices' interface",
        6,
        "filter PIC-SENDER",
        [
            "-s fd00:b::/64 -j RETURN",
            "-g PIC-BACK",
        ],
    ),
    ("linked", 4, "filter PIC-L-cellb", ["cellb: -g PIC-S-cellb"]),
    (
        "an exit",
        4,
        "filter PIC-L-cellb",
        [
            "cellb: -d 0.0.0.0/8 -g PIC-S-cellb",
            "cellb: -d 10.0.0.0/8 -g PIC-S-cellb",
            "cellb: -d 100.64.0.0/10 -g PIC-S-cellb",
            "cellb: -d 127.0.0.0/8 -g PIC-S-cellb",
            "cellb: -d 169.254.0.0/16 -g PIC-S-cellb",
            "cellb: -d 172.16.0.0/12 -g PIC-S-cellb",
            "cellb: -d 192.0.0.0/24 -g PIC-S-cellb",
            "cellb: -d 192.168.0.0/16 -g PIC-S-cellb",
            "cellb: -d 198.18.0.0/15 -g PIC-S-cellb",
            "cellb: -d 224.0.0.0/3 -g PIC-S-cellb",
            "cellb: -d 192.0.2.0/24 -g PIC-S-cellb",
            "cellb: -o eth0 -j ACCEPT",
            "cellb: -g PIC-S-cellb",
        ],
    ),
    (
        "an exit",
        6,
        "filter PIC-L-cellb",
        [
            "cellb: -d ::/8 -g PIC-S-cellb",
            "cellb: -d 64:ff9b::/96 -g PIC-S-cellb",
            "cellb: -d 64:ff9b:1::/48 -g PIC-S-cellb",
            "cellb: -d 2002::/16 -g PIC-S-cellb",
            "cellb: -d fc00::/7 -g PIC-S-cellb",
            "cellb: -d fe80::/10 -g PIC-S-cellb",
            "cellb: -d fec0::/10 -g PIC-S-cellb",
            "cellb: -d ff00::/8 -g PIC-S-cellb",
            "cellb: -o eth0 -j ACCEPT",
            "cellb: -g PIC-S-cellb",
        ],
    ),
    ("an exit with an uplink nobody knows", 4, "filter PIC-L-cellb", ["cellb: -g PIC-S-cellb"]),
    (
        "linked",
        4,
        "filter PIC-I-cellb",
        [
            "cellb: -s 10.0.1.1 -d 10.0.0.1 -p tcp --dport 8088 -j ACCEPT",
            "cellb: -d 10.0.0.1 -p tcp --dport 8088 -j DROP",
            "cellb: -g PIC-S-cellb",
        ],
    ),
    (
        "linked",
        6,
        "filter PIC-I-cellb",
        [
            "cellb: -s fd00:b::1 -d fd00:a::1 -p tcp --dport 8088 -j ACCEPT",
            "cellb: -d fd00:a::1 -p tcp --dport 8088 -j DROP",
            "cellb: -g PIC-S-cellb",
        ],
    ),
    (
        "with admins",
        4,
        "filter PIC-I-cellb",
        [
            "cellb: -s 10.0.1.1 -d 10.0.0.1 -p tcp --dport 9000 -j ACCEPT",
            "cellb: -d 10.0.0.1 -p tcp --dport 9000 -j DROP",
            "cellb: -s 10.0.1.7/32 -j ACCEPT",
            "cellb: -g PIC-S-cellb",
        ],
    ),
    (
        "linked",
        4,
        "filter PIC-S-cellb",
        [
            "cellb: -p tcp -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 443 -j ACCEPT",
            "cellb: -p udp -m conntrack --ctorigdst 10.0.0.3 --ctorigdstport 5060 -j ACCEPT",
            "cellb: -j DROP",
        ],
    ),
    (
        "linked",
        6,
        "filter PIC-S-cellb",
        [
            "cellb: -p udp -m conntrack --ctorigdst fd00:a::3 --ctorigdstport 5060 -j ACCEPT",
            "cellb: -j DROP",
        ],
    ),
    ("with several links", 4, "filter PIC-S-cellb", ["cellb: -j DROP"]),
    (
        "linked",
        4,
        "nat PIC-POST",
        [
            "-o pic-+ -j ACCEPT",
            "-o eth0 -j PIC-MASQ",
        ],
    ),
    (
        "an exit",
        4,
        "nat PIC-POST",
        [
            "-o pic-+ -j ACCEPT",
            "-o eth0 -j PIC-MASQ",
        ],
    ),
    (
        "an exit",
        6,
        "nat PIC-POST",
        [
            "-o pic-+ -j ACCEPT",
            "-o eth0 -j PIC-MASQ",
        ],
    ),
    (
        "linked through the devices' interface",
        4,
        "nat PIC-POST",
        [
            "-o pic-+ -j ACCEPT",
            "cellb: -o wg0 -d 10.0.1.0/24 -j ACCEPT",
            "-o eth0 -j PIC-MASQ",
        ],
    ),
    ("with an uplink nobody knows", 4, "nat PIC-POST", ["-o pic-+ -j ACCEPT"]),
    (
        "linked",
        4,
        "mangle PIC-FWD",
        [
            "-j PIC-MSS",
            "-i pic-+ -g PIC-PATH",
            "-o pic-+ -g PIC-PATH",
            "-i wg0 -g PIC-PATH",
            "-o wg0 -g PIC-PATH",
        ],
    ),
    (
        "linked",
        4,
        "mangle PIC-MSS",
        [
            "-o pic-+ -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            "-i pic-+ -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        ],
    ),
    (
        "linked through the devices' interface",
        4,
        "mangle PIC-MSS",
        [
            "-o pic-+ -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            "-i pic-+ -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            "-o wg0 -d 10.0.1.0/24 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            "-i wg0 -s 10.0.1.0/24 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        ],
    ),
    (
        "linked",
        4,
        "mangle PIC-PATH",
        [
            "-i wg0 ! -o pic-+ -j PIC-ROUTED",
            "-i pic-+ -j PIC-SOURCE",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
            "-i pic-+ -g PIC-LINK",
            "-o pic-+ -p tcp ! --syn -m conntrack --ctstate NEW -j RETURN",
            "-i wg0 -o pic-+ -p tcp -j PIC-API",
            "-i wg0 -o pic-+ -s 10.0.0.0/24 -j RETURN",
            "-o pic-+ -j DROP",
            "-i wg0 -o eth0 -s 10.0.0.0/24 -j RETURN",
            "-i eth0 -o wg0 -m conntrack ! --ctstate DNAT -j DROP",
        ],
    ),
    (
        "linked",
        4,
        "mangle PIC-IN",
        [
            "-i pic-+ -p udp --dport 51820:51821 -j RETURN",
            "-i pic-+ -j PIC-SOURCE",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
            "-i pic-+ -g PIC-CELL",
            "! -i lo -d 10.0.0.1 -p tcp --dport 8088 -j DROP",
        ],
    ),
    (
        "with several links",
        4,
        "mangle PIC-IN",
        [
            "-i pic-+ -p udp --dport 51819 -j RETURN",
            "-i pic-+ -p udp --dport 51821 -j RETURN",
            "-i pic-+ -p udp --dport 51824 -j RETURN",
            "-i pic-+ -j PIC-SOURCE",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
            "-i pic-+ -g PIC-CELL",
            "! -i lo -d 10.0.0.1 -p tcp --dport 8088 -j DROP",
        ],
    ),
    (
        "linked",
        4,
        "mangle PIC-S-cellb",
        [
            "cellb: -p tcp -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 443 -j RETURN",
            "cellb: -p udp -m conntrack --ctorigdst 10.0.0.3 --ctorigdstport 5060 -j RETURN",
            "cellb: -j DROP",
        ],
    ),
    (
        "empty",
        4,
        "mangle PIC-IN",
        [
            "-i pic-+ -p udp --dport 51820 -j RETURN",
            "-i pic-+ -j PIC-SOURCE",
            "-i pic-+ -m conntrack --ctstate INVALID -j DROP",
            "-i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
            "-i pic-+ -g PIC-CELL",
        ],
    ),
]


@pytest.mark.parametrize(("case", "family", "chain", "rules"), [pytest.param(*row, id=f"{row[2]}, IPv{row[1]}, {row[0]}") for row in HELD])
def test_a_chain_holds_these_rules_in_this_order(case: str, family: int, chain: str, rules: list[str]) -> None:
    table, name = chain.split()
    assert shown(built(case, family)[table].chains[name]) == rules


OWN = ["PIC-API", "PIC-BACK", "PIC-CELL", "PIC-FWD", "PIC-GUARD", "PIC-HOME", "PIC-IN", "PIC-LINK", "PIC-OUT", "PIC-PATH", "PIC-ROUTED", "PIC-SOURCE"]
OF_CELLB = ["PIC-I-cellb", "PIC-L-cellb", "PIC-S-cellb"]


@pytest.mark.parametrize(
    ("case", "more"),
    [
        ("empty", []),
        ("without links", []),
        ("linked", OF_CELLB),
        ("linked through the devices' interface", [*OF_CELLB, "PIC-SENDER"]),
        ("with an exit that no device uses", [*OF_CELLB, "PIC-TOOBIG"]),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_a_cell_has_these_chains_and_no_other(case: str, family: int, more: list[str]) -> None:
    rules = built(case, family)
    assert sorted(rules["filter"].chains) == sorted([*OWN, *more])
    assert set(rules["nat"].chains) - {"PIC-MASQ"} == {"PIC-POST"}
    assert sorted(rules["mangle"].chains) == sorted([*{*OWN, *more, "PIC-MSS"} - {"PIC-GUARD", "PIC-OUT"}])


@pytest.mark.parametrize("case", CELLS)
def test_the_same_built_in_chains_lead_to_ours_whatever_the_cell_is(case: str) -> None:
    assert {name: table.jumps for name, table in built(case, 4).items()} == {
        "filter": {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN", "OUTPUT": "PIC-OUT"},
        "nat": {"POSTROUTING": "PIC-POST"},
        "mangle": {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN"},
    }


def test_a_cell_without_a_family_asks_for_no_nat_in_it() -> None:
    assert set(built("without IPv6", 6)) == {"filter", "mangle"}


@pytest.mark.parametrize("case", CELLS)
def test_every_chain_that_a_rule_leads_to_is_there(case: str) -> None:
    for table in built(case, 4).values():
        targets = {rule.text.split()[-1] for rules in table.chains.values() for rule in rules if rule.text.split()[-1].startswith("PIC-")}
        assert {*targets, *table.jumps.values()} <= {*table.chains}


def test_while_the_rules_are_not_complete_those_that_refuse_are_there_alone() -> None:
    all_rules = built("linked", 4)
    refusing = firewall.deny(all_rules)
    assert {name: table.jumps for name, table in refusing.items()} == {
        "filter": {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN"},
        "mangle": {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN"},
    }
    for name, apart in (("filter", {"PIC-GUARD", "PIC-OUT"}), ("mangle", {"PIC-MSS"})):
        assert refusing[name].chains == {chain: rules for chain, rules in all_rules[name].chains.items() if chain not in apart}


def test_the_kill_switch_of_devices_is_the_same_alone_as_among_all_rules() -> None:
    layer, all_rules = firewall.layer(state("with a routed device"), 4, "eth0"), built("with a routed device", 4)
    for table in ("filter", "mangle"):
        assert sorted(layer[table].chains) == ["PIC-BACK", "PIC-ROUTED", "PIC-TOOBIG"]
        assert layer[table].jumps == {}
        assert layer[table].chains == {chain: all_rules[table].chains[chain] for chain in layer[table].chains}


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("PIC-ROUTED", True),
        ("PIC-BACK", True),
        ("PIC-TOOBIG", True),
        ("PIC-R-0", True),
        ("PIC-B-a-1", True),
        ("PIC-Q-0", True),
        ("PIC-V-0", True),
        ("PIC-HOME", False),
        ("PIC-S-cellb", False),
        ("PIC-N-0", False),
    ],
)
def test_the_chains_of_the_kill_switch_are_known_by_their_names(chain: str, expected: bool) -> None:
    assert firewall.is_of_layer(chain, records.State(records.Cell("cella", exit_dns=["9.9.9.9"]))) == expected


def test_chains_for_questions_are_left_to_the_plan_of_all_rules_once_no_resolver_is_stated() -> None:
    assert not any(firewall.is_of_layer(chain, records.State(records.Cell("cella"))) for chain in ("PIC-Q-0", "PIC-V-0"))


def test_links_are_taken_by_name_and_only_those_that_have_rules() -> None:
    assert [link.name for link in stages.ruled(state("with several links"))] == ["cellb", "cellc", "celld"]


def test_the_answers_of_an_exit_reach_the_devices_that_leave_by_it() -> None:
    answers = "-m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY -j RETURN"
    assert shown(built("with two exits", 4)["filter"].chains["PIC-BACK"]) == [
        f"cellb: -i pic-cellb -o wg0 -d 10.0.0.2/32 {answers}",
        f"cellc: -i pic-cellc -o wg0 -d 10.0.0.4/32 {answers}",
        "-g PIC-TOOBIG",
    ]


@pytest.mark.parametrize(
    ("chain", "branch", "side"),
    [
        pytest.param("PIC-ROUTED", "PIC-R", "-s", id="devices that are routed"),
        pytest.param("PIC-BACK", "PIC-B", "-d", id="the answers to them"),
        pytest.param("PIC-SOURCE", "PIC-N", "-s", id="networks of linked cells"),
        pytest.param("PIC-SENDER", "PIC-D", "-s", id="senders on the devices' interface"),
    ],
)
def test_a_long_list_has_branches_with_names_of_their_own(chain: str, branch: str, side: str) -> None:
    far = [f"10.{number}.0.0/24" for number in range(1, 18)]
    many = records.State(
        records.Cell("cella", ["10.0.0.1/24"]),
        {name: records.Link(name, "KEY", far, interface=interface) for name, interface in (("cellb", "pic-cellb"), ("cellc", "wg0"))},
        {f"d{number}": records.Peer(f"d{number}", addresses=[f"10.0.0.{number}"], route_via=["cellb"]) for number in range(17)},
    )
    found = firewall.build(many, 4, hostfacts.HostFacts())["filter"].chains
    assert f"{branch}-0" in found
    assert next(text for text in shown(found[chain]) if text.endswith(f" -g {branch}-0")).startswith(f"{side} 10.")


# A list of networks as a tree


def decided(tables: chains.Chains, chain: str, address: str) -> list[str]:
    """Return the rules that a packet from an address meets, in the order in which it meets them."""
    met = []
    for rule in tables[chain]:
        side, network, *rest = rule.text.split()
        if side != "-s":
            met.append(rule.text)
        elif networks.address_of(address) in networks.network_of(network):
            if rest[0] == "-g":
                return [*met, *decided(tables, rest[1], address)]
            met.append(rule.text)
    return met


def leaves(*values: str) -> dict[str, list[ruleset.Rule]]:
    """Return a rule for each network."""
    return {value: [ruleset.Rule(f"-s {value} -j RETURN")] for value in values}


MANY = [f"10.{one}.{two}.0/24" for one in range(8) for two in range(0, 256, 8)]


def test_a_short_list_stays_a_list_in_numeric_order() -> None:
    found = chains.tree("TOP", "BRANCH", "-s", leaves("10.0.10.0/24", "10.0.9.0/24"), [ruleset.Rule("-j DROP")])
    assert {name: shown(rules) for name, rules in found.items()} == {"TOP": ["-s 10.0.9.0/24 -j RETURN", "-s 10.0.10.0/24 -j RETURN", "-j DROP"]}


@pytest.mark.parametrize(("count", "made"), [(16, 1), (17, 10)])
def test_a_list_of_more_than_sixteen_gets_branches(count: int, made: int) -> None:
    assert len(chains.tree("TOP", "BRANCH", "-s", leaves(*(f"10.0.0.{number}/32" for number in range(count))))) == made


def test_branches_are_named_after_where_they_stand() -> None:
    found = chains.tree("TOP", "BRANCH", "-s", leaves(*MANY), [ruleset.Rule("-j DROP")])
    assert [name for name in found if name.count("-") == 1] == [f"BRANCH-{number:x}" for number in range(16)]
    assert shown(found["TOP"])[-2:] == ["-s 10.7.128.0/17 -g BRANCH-f", "-j DROP"]


@pytest.mark.parametrize(
    ("address", "met"),
    [
        pytest.param("10.3.16.9", ["-s 10.3.16.0/24 -j RETURN", "-s 10.0.0.0/8 -j RETURN", "-j DROP"], id="in a network of the tree"),
        pytest.param("10.3.17.9", ["-s 10.0.0.0/8 -j RETURN", "-j DROP"], id="between networks"),
        pytest.param("10.99.0.1", ["-s 10.0.0.0/8 -j RETURN", "-j DROP"], id="in the wide one alone"),
        pytest.param("192.0.2.1", ["-j DROP"], id="in none"),
    ],
)
def test_a_packet_finds_its_network_what_spans_branches_and_what_decides_at_the_end(address: str, met: list[str]) -> None:
    found = chains.tree("TOP", "BRANCH", "-s", leaves(*MANY, "10.0.0.0/8"), [ruleset.Rule("-j DROP")])
    assert decided(found, "TOP", address) == met


def test_no_chain_of_a_tree_is_long() -> None:
    found = chains.tree("TOP", "BRANCH", "-s", leaves(*(f"10.0.{number // 256}.{number % 256}/32" for number in range(2048))), [ruleset.Rule("-j DROP")])
    assert max(map(len, found.values())) == 17
    assert sum(rule.text.endswith("RETURN") for rules in found.values() for rule in rules) == 2048


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-i wg0 -j ACCEPT", "-i wg0 -j RETURN"),
        ("-o pic-+ -j PIC-GUARD", "-o pic-+ -p tcp ! --syn -m conntrack --ctstate NEW -j RETURN"),
        ("-i wg0 -j DROP", "-i wg0 -j DROP"),
        ("-i wg0 -g PIC-PATH", "-i wg0 -g PIC-PATH"),
    ],
)
def test_mangle_refuses_the_same_and_leaves_all_else_to_others(given: str, expected: str) -> None:
    assert chains.again({"PIC-X": [ruleset.Rule(given, "pic-cell-cellb")]}) == {"PIC-X": [ruleset.Rule(expected, "pic-cell-cellb")]}


@pytest.mark.parametrize("chain", ["PIC-OUT", "PIC-GUARD"])
def test_what_mangle_cannot_do_is_not_in_it(chain: str) -> None:
    assert chains.again({chain: [ruleset.Rule("-j DROP")]}) == {}
