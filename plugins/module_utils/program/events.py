# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of its rules, routes and interfaces when they change, and which of it concerns a cell. Pure."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..base.names import BUCKET_PREFIX, GENERAL_TAG, LINK_PREFIX, is_own_tag
from ..base.networks import address_from, interface_of
from ..kernel.iptables import CHAIN_PREFIX
from ..kernel.model import MAIN, PROTOCOL, SavedRuleset
from ..kernel.routing import TABLES
from ..kernel.ruleset import comment_of, words_of

if TYPE_CHECKING:
    from ..parts.part import Context

NETFILTER = {2: 4, 10: 6}  # AF_INET, AF_INET6: the family of a table

_TAGS = (b"pic-cell-", GENERAL_TAG.encode())
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_KIND = 0x3FFF  # NLA_TYPE_MASK
_APPENDED = 0x800  # NLM_F_APPEND
_ERRORS = (2, 4)  # NLMSG_ERROR, NLMSG_OVERRUN

# linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h, netconf.h
_LINKS, _ADDRESSES, _ROUTES, _RULES, _NETCONF = (16, 17), (20, 21), (24, 25), (32, 33), 80
_IFNAME = 3
_RTA_DST, _RTA_TABLE = 1, 15
_BY_KERNEL, _UNICAST, _CLONED = 2, 1, 0x200
_FRA_PROTOCOL = 21
_NETCONF_IFINDEX, _NETCONF_FORWARDING, _EVERYWHERE = 1, 2, struct.pack("=i", -1)
# linux/netfilter/nf_tables.h; the number of the subsystem (10) is the upper byte of a message's type
_NFT = 10 << 8
_DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = (_NFT | number for number in (2, 3, 5, 6, 8))
_NFTA_TABLE, _NFTA_RULE_CHAIN, _NFTA_CHAIN_NAME, _NFTA_CHAIN_HOOK = 1, 2, 3, 4


class Heard(enum.IntEnum):
    """What an event means for a cell."""

    NOTHING = 0
    FORWARDING = 1  # the host forwards no more, or again
    DOUBTFUL = 2  # something of ours may be missing, or come too late
    INTERFACE = 3  # an interface of ours: what is lost with it has no event of its own, and whoever restarts it is not done yet
    LOSS = 4  # something of ours is gone


@dataclass(frozen=True)
class Interest:
    """What concerns a cell.

    interface: the devices'; those of links begin with pic-, or with pif- for what they receive. networks: those of linked cells.
    tables: those that hold something of ours.
    chains: by family and table the chains of others in which a rule may come before ours.
    """

    interface: str = ""
    networks: frozenset[str] = frozenset()
    tables: frozenset[tuple[int, str]] = frozenset()
    chains: frozenset[tuple[int, str, str]] = frozenset()

    def is_ours(self, interface: str) -> bool:
        """Tell whether an interface is the cell's."""
        return bool(interface) and (interface == self.interface or interface.startswith((LINK_PREFIX, BUCKET_PREFIX)))


def interest_of(context: Context) -> Interest:
    """Return what concerns a cell as it is in its records and in the kernel."""
    networks = {str(interface_of(network).network) for link in context.stored.links.values() for network in link.networks}
    tables, chains = set(), set()
    for family, saved in context.observed.iptables.items():
        tables |= {(family, table) for table, chain, _rules in own_part(saved)}
        chains |= {(family, table, chain) for table, chain, _rules in own_part(saved) if not chain.startswith(CHAIN_PREFIX)}
    return Interest(context.stored.cell.interface, frozenset(networks), frozenset(tables), frozenset(chains))


def own_part(saved: SavedRuleset) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return by table and chain the rules that decide what ours decide: our own chains, those with our jump up to it, and what stands before it leads to."""
    part = []
    for name, table in saved.items():
        ahead: set[str] = set()
        for chain, rules in table.rules.items():
            if chain.startswith(CHAIN_PREFIX):
                part.append((name, chain, tuple(rules)))
                continue
            jump = next((number for number, rule in enumerate(rules) if is_own_tag(comment_of(rule))), None)
            if jump is not None:
                part.append((name, chain, tuple(rules[: jump + 1])))
                _reach(ahead, rules[:jump], table.rules)
        part += [(name, chain, tuple(table.rules[chain])) for chain in sorted(ahead)]
    return part


def _reach(found: set[str], rules: list[str], chains: Mapping[str, list[str]]) -> None:
    """Add the chains that rules lead to."""
    for rule in rules:
        words = words_of(rule)
        for chain in {words[number + 1] for number, word in enumerate(words[:-1]) if word in ("-j", "-g")} & set(chains) - found:
            if not chain.startswith(CHAIN_PREFIX):
                found.add(chain)
                _reach(found, chains[chain], chains)


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Split what a netlink socket gave into messages: type, flags, body. One that is cut off is an error's."""
    while data:
        if len(data) < _HEADER.size:
            yield _ERRORS[0], 0, b""
            return
        length, kind, flags, _sequence, _port = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            yield _ERRORS[0], 0, b""
            return
        yield kind, flags, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attributes(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(body) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body)
        if not _ATTRIBUTE.size <= length <= len(body):
            break
        found.setdefault(kind & _KIND, body[_ATTRIBUTE.size : length])
        body = body[(length + 3) & ~3 :]
    return found


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "replace")


def judge(data: bytes, interest: Interest, name_of: Callable[[int], str]) -> Heard:
    """Return the worst that what a netlink socket gave means. name_of: gives the name of an interface by its number, an empty one where it is gone."""
    return max((_judge(kind, flags, body, interest, name_of) for kind, flags, body in messages(data)), default=Heard.NOTHING)


def _judge(kind: int, flags: int, body: bytes, interest: Interest, name_of: Callable[[int], str]) -> Heard:
    try:
        if kind >= _NFT:
            return _of_nftables(kind, flags, body, interest)
        if kind in _LINKS:
            return _of_link(body, interest)
        if kind in _ADDRESSES:
            return Heard.INTERFACE if interest.is_ours(name_of(struct.unpack_from("=I", body, 4)[0])) else Heard.NOTHING
        if kind in _ROUTES:
            return _of_route(kind == _ROUTES[1], body, interest)
        if kind in _RULES:
            return _of_policy_rule(kind == _RULES[1], body)
        if kind == _NETCONF:
            found = _attributes(body[4:])
            return Heard.FORWARDING if _NETCONF_FORWARDING in found and found.get(_NETCONF_IFINDEX) == _EVERYWHERE else Heard.NOTHING
    except (struct.error, IndexError, ValueError):
        return Heard.DOUBTFUL
    return Heard.DOUBTFUL if kind in _ERRORS else Heard.NOTHING


def _of_link(body: bytes, interest: Interest) -> Heard:
    family = body[0]
    ours = interest.is_ours(_text(_attributes(body[16:]).get(_IFNAME)))
    return Heard.INTERFACE if ours and not family else Heard.NOTHING  # of a bridge's ports there is a second one, with a family


def _of_route(gone: bool, body: bytes, interest: Interest) -> Heard:
    family, length, _source, _tos, table, protocol, _scope, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    found = _attributes(body[12:])
    table = int.from_bytes(found[_RTA_TABLE], "little" if struct.pack("=H", 1)[0] else "big") if _RTA_TABLE in found else table
    if protocol == PROTOCOL or table in TABLES:
        return Heard.LOSS if gone and protocol == PROTOCOL else Heard.DOUBTFUL
    if (table != MAIN and length) or kind != _UNICAST or flags & _CLONED or family not in NETFILTER:
        return Heard.NOTHING
    address = address_from(found.get(_RTA_DST, bytes(4 if family == 2 else 16)))
    if not gone and f"{address}/{length}" in interest.networks:
        return Heard.LOSS  # whoever replaces a route of ours deletes it without saying so
    # The rules name the uplink, and the networks that the host is itself in.
    uplink_or_network = not length or (protocol == _BY_KERNEL and not address.is_link_local and not address.is_multicast)
    return Heard.DOUBTFUL if uplink_or_network else Heard.NOTHING


def _of_policy_rule(gone: bool, body: bytes) -> Heard:
    # One of others may come before ours, or lead to another uplink.
    ours = _attributes(body[12:]).get(_FRA_PROTOCOL, b"")[:1] == bytes([PROTOCOL])
    return Heard.LOSS if gone and ours else Heard.DOUBTFUL


def _of_nftables(kind: int, flags: int, body: bytes, interest: Interest) -> Heard:
    """Judge a change of iptables-nft's tables; of one by nft all the same, since the tables are the same."""
    family = NETFILTER.get(body[0])
    if family is None:
        return Heard.NOTHING
    if kind in (_NEWRULE, _DELRULE):
        found = _attributes(body[4:])
        chain = _text(found.get(_NFTA_RULE_CHAIN))
        ours = chain.startswith(CHAIN_PREFIX) or any(tag in body for tag in _TAGS)
        if kind == _DELRULE:
            return Heard.LOSS if ours else Heard.NOTHING
        # What is appended comes after ours.
        before = not flags & _APPENDED or chain not in _HOOKS
        return Heard.DOUBTFUL if ours or (before and (family, _text(found.get(_NFTA_TABLE)), chain) in interest.chains) else Heard.NOTHING
    if kind in (_NEWCHAIN, _DELCHAIN):
        found = _attributes(body[4:])
        chain = _text(found.get(_NFTA_CHAIN_NAME))
        if chain.startswith(CHAIN_PREFIX):
            return Heard.LOSS if kind == _DELCHAIN else Heard.DOUBTFUL
        known = (family, _text(found.get(_NFTA_TABLE)), chain) in interest.chains
        return Heard.DOUBTFUL if known and (kind == _DELCHAIN or _NFTA_CHAIN_HOOK in found) else Heard.NOTHING
    if kind == _DELTABLE:
        return Heard.LOSS if (family, _text(_attributes(body[4:]).get(_NFTA_TABLE))) in interest.tables else Heard.NOTHING
    return Heard.NOTHING


_HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
