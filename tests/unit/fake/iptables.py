# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of iptables, of both backends, and what nft shows of them."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.pic.cells.tests.unit.fake.ip import FAMILIES, Ip
from ansible_collections.pic.cells.tests.unit.fake.machine import Refused

TABLES = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}
# Each target with the table that it belongs to, if it belongs to one.
TARGETS = {**dict.fromkeys(("ACCEPT", "DROP", "RETURN", "LOG")), **dict.fromkeys(("MASQUERADE", "DNAT"), "nat"), "REJECT": "filter", "TCPMSS": "mangle"}
MATCHES = ("comment", "conntrack", "addrtype", "tcp", "udp", "icmp", "icmp6")
# Each option with the number of its values; what is not here is a mistake of the engine or of a test.
OPTIONS = {
    **dict.fromkeys(("-s", "-d", "-i", "-o", "-p", "-m", "-j", "-g", "--comment", "--ctstate", "--ctorigdst", "--ctorigdstport"), 1),
    **dict.fromkeys(("--ctdir", "--ctorigsrc", "--icmp-type", "--icmpv6-type"), 1),
    **dict.fromkeys(("--sport", "--dport", "--reject-with", "--to-destination", "--dst-type"), 1),
    **dict.fromkeys(("!", "--syn", "--clamp-mss-to-pmtu"), 0),
    "--tcp-flags": 2,
}


@dataclass
class Table:
    """One table of iptables: policy ('-' for a user chain) and rules of each chain."""

    policies: dict[str, str]
    rules: dict[str, list[tuple[str, ...]]]

    def copy(self) -> Table:
        """Return a copy that goes its own way."""
        return Table(dict(self.policies), {chain: list(rules) for chain, rules in self.rules.items()})


class Iptables(Ip):
    """A host with iptables, ip6tables and nft.

    default: the backend that the commands without one in their name have. native: tables, chains and rules of nftables' own, as nft -j prints them.
    """

    default: str

    def boot(self) -> None:
        self.tables: dict[tuple[str, int], dict[str, Table]] = {(variant, family): {} for variant in ("-nft", "-legacy") for family in FAMILIES}
        self.native: list[dict[str, Any]] = []
        super().boot()

    def iptables(self, family: int, table: str, *rules: str, chains: Iterable[str] = ()) -> None:
        """Load somebody else's rules, given with their command, e.g. '-A FORWARD -j DROP'."""
        declared = "".join(f":{chain}\n" for chain in chains)
        self.by_hand(f"{command(family)}-restore --noflush -w 10", f"*{table}\n{declared}" + "".join(f"{rule}\n" for rule in rules) + "COMMIT\n")

    def chain(self, family: int, chain: str, table: str = "filter") -> list[str]:
        """Return the rules of a chain without their comments."""
        rules = self.tables[self.default, family][table].rules[chain]
        return [re.sub(r"-m comment --comment (\"[^\"]*\"|\S+) ", "", render(rule)) for rule in rules]

    def _iptables(self, match: re.Match[str], words: list[str], stdin: str) -> str:
        family, variant = 6 if match[1] else 4, match[2] or self.default
        tables = self.tables[variant, family]
        if family == 6 and not self.has_ipv6():
            raise Refused(3, f"{match[0]}: can't initialize ip6tables table `filter': Address family not supported by protocol")
        if match[3] is None and words == ["-V"]:
            return f"{match[0]} v1.8.9 ({'legacy' if variant == '-legacy' else 'nf_tables'})\n"
        if match[3] == "-save" and not words:
            return self._save(family, tables) if variant == "-nft" else "".join(_save_table(name, table) for name, table in tables.items())
        assert match[3] == "-restore" and words[:2] == ["--noflush", "-w"] and len(words) == 3, f"the fake host does not know: {match[0]} {words}"
        name, table = "", Table({}, {})
        for number, line in enumerate(stdin.split("\n"), 1):
            try:
                if not line:
                    continue
                if line.startswith("*"):
                    name = line[1:]
                    if f"{family} {name}" in self.without:
                        raise Refused(1, f"can't initialize table `{name}': Table does not exist (do you need to insmod?)")
                    fresh = Table(dict.fromkeys(TABLES[name], "ACCEPT"), {chain: [] for chain in TABLES[name]})
                    table = tables.get(name, fresh).copy()
                elif line == "COMMIT":
                    self._step(f"{match[0]} {name}", lambda name=name, table=table: tables.update({name: table}))
                    name = ""
                else:
                    _restore_line(family, name, table, line)
            except Refused as refusal:
                raise Refused(refusal.rc, f"{match[0]}: line {number} failed: {refusal.message}") from None
        assert not name, "COMMIT expected"
        if variant == "-legacy":
            self.files[f"/proc/net/ip{match[1]}_tables_names"] = (0o444, "".join(f"{name}\n" for name in tables))
        return ""

    def _save(self, family: int, tables: dict[str, Table]) -> str:
        """Print all tables as iptables-nft does, which cannot show what is nftables' own."""
        mine = [item for item in self.native for what in item.values() if what["family"] == ("ip6" if family == 6 else "ip")]
        beside = {item["chain"]["table"] for item in mine if "hook" in item.get("chain", ()) and item["chain"]["name"] not in (*TABLES["nat"], "FORWARD")}
        within = {item["rule"]["table"] for item in mine if item.get("rule", {}).get("chain") in (*TABLES["nat"], "FORWARD")}
        text = ""
        for name, chains in TABLES.items():
            fresh = Table(dict.fromkeys(chains, "ACCEPT"), {chain: [] for chain in chains})
            if name in within:
                text += f"# Table `{name}' is incompatible, use 'nft' tool.\n"
            elif name in beside:
                text += f"# Table `{name}' contains incompatible base-chains, use 'nft' tool to list them.\n{_save_table(name, tables.get(name, fresh))}"
            elif name in tables:
                text += _save_table(name, tables[name])
        return text

    def _nft(self, words: list[str], stdin: str) -> str:
        assert words in (["-j", "list", "chains"], ["-j", "list", "ruleset"]), f"the fake host does not know: nft {words}"
        shown: list[dict[str, Any]] = [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}]
        for (variant, family), tables in self.tables.items():
            for name, table in tables.items() if variant == "-nft" else ():
                for chain, policy in table.policies.items():
                    where = {"family": "ip6" if family == 6 else "ip", "table": name}
                    hook = {} if policy == "-" else {"type": "filter", "hook": chain.lower(), "prio": 0, "policy": policy.lower()}
                    shown.append({"chain": {**where, "name": chain, "handle": 1, **hook}})
                    shown += [{"rule": {**where, "chain": chain, "handle": 1, "expr": [{"xt": None}]}} for _rule in table.rules[chain]]
        return json.dumps({"nftables": [item for item in [*shown, *self.native] if words[2] == "ruleset" or not {"chain", "metainfo"}.isdisjoint(item)]})


def command(family: int) -> str:
    """Return the name of the command for a family."""
    return "ip6tables" if family == 6 else "iptables"


def _save_table(name: str, table: Table) -> str:
    order = [*TABLES[name], *sorted(chain for chain in table.rules if chain not in TABLES[name])]
    lines = [f"# Generated by iptables-save v1.8.9\n*{name}", *(f":{chain} {table.policies[chain]} [12:3456]" for chain in order)]
    lines += [f"-A {chain} {render(rule)}" for chain in order for rule in table.rules[chain]]
    return "\n".join([*lines, "COMMIT\n# Completed\n"])


@functools.lru_cache(maxsize=10000)
def render(rule: tuple[str, ...]) -> str:
    """Return a rule as iptables-save prints it."""
    texts = ("--comment", "--log-prefix")
    quoted = ('"' + re.sub(r"([\"'\\])", r"\\\1", word) + '"' for word in rule)
    pairs = zip(rule, ("", *rule), quoted)
    return " ".join(text if before in texts and re.search(r"[^A-Za-z0-9_-]", word) else word for word, before, text in pairs)


@functools.lru_cache(maxsize=10000)
def _split(line: str) -> tuple[str, ...]:
    return tuple(shlex.split(line))


def _restore_line(family: int, name: str, table: Table, line: str) -> None:
    if line.startswith(":"):
        chain, *policy = line[1:].split()
        if len(chain) > 28:
            raise Refused(2, f"chain name `{chain}' too long (must be under 29 chars)")
        if chain in TABLES[name]:
            table.policies[chain] = policy[0] if policy[0] != "-" else table.policies[chain]
        else:
            table.policies[chain], table.rules[chain] = "-", []
        return
    command, chain, *words = _split(line)
    if chain not in table.rules:
        raise Refused(1, "No chain/target/match by that name.")
    rules = table.rules[chain]
    if command == "-X":
        if rules or any(_target(rule) == chain for others in table.rules.values() for rule in others):
            raise Refused(4, f"CHAIN_DEL failed (Device or resource busy): chain {chain}")
        del table.rules[chain], table.policies[chain]
        return
    position = int(words.pop(0)) if command == "-I" else len(rules) + 1
    rule = _checked_rule(family, name, table, words)
    if command == "-D":
        if rule not in rules:
            raise Refused(1, "Bad rule (does a matching rule exist in that chain?).")
        rules.remove(rule)
    elif command in ("-A", "-I") and position <= len(rules) + 1:
        rules.insert(position - 1, rule)
    else:
        raise AssertionError(f"the fake host does not know: {line}")


def _target(rule: Sequence[str]) -> str | None:
    return next((value for option, value in zip(rule, rule[1:]) if option in ("-j", "-g")), None)


def _checked_rule(family: int, name: str, table: Table, words: list[str]) -> tuple[str, ...]:
    given: dict[str, str] = {}
    left = list(words)
    while left:
        option = left.pop(0)
        assert option in OPTIONS, f"the fake host does not know: {option} in {words}"
        given[option] = " ".join(left.pop(0) for _number in range(OPTIONS[option]))
        assert option != "-m" or given[option] in MATCHES, words
    for option in ("-s", "-d", "--ctorigdst", "--ctorigsrc"):
        if option in given and (":" in given[option]) != (family == 6):
            raise Refused(2, f"host/network `{given[option]}' not found")
    for option in ("-i", "-o"):
        if len(given.get(option, "")) > 16 - (not given.get(option, "").endswith("+")):
            raise Refused(2, f"interface name `{given[option]}' must be shorter than 16 characters")
    ported = {"--sport", "--dport", "--syn", "--tcp-flags"} & set(given)
    if (ported and given.get("-p") not in ("tcp", "udp")) or len(given.get("--comment", "")) > 255:
        raise Refused(2, f"unknown option {sorted(ported)}, or a comment too long")
    for option, protocol, owner in (("--icmp-type", "icmp", 4), ("--icmpv6-type", "ipv6-icmp", 6)):
        if option in given and (given.get("-p"), family) != (protocol, owner):
            raise Refused(2, f"unknown option {option}")
    target = _target(words)
    if target is not None and target not in table.rules and TARGETS.get(target, "no such target") not in (None, name):
        raise Refused(2, f"Chain '{target}' does not exist")
    if "-g" in given and target not in table.rules:
        raise Refused(2, f"Chain '{target}' does not exist")
    if ported and given.get("-m") != given["-p"] and f"-m {given['-p']}" not in " ".join(words):  # it prints what it adds by itself
        at = words.index("-p") + 2
        words = [*words[:at], "-m", given["-p"], *words[at:]]
    return tuple(words)
