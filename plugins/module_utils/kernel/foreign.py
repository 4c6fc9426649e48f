# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a rule of others decides what becomes of packets that are ours to decide. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .ruleset import words_of

_NON_DECIDING = {"LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "TRACE", "CLASSIFY", "DSCP", "SET", "CT", "RETURN", "TTL", "HL", "TOS", "ECN", "CHECKSUM", "TEE"}


def could_decide(rule: str, hook: str, chains: Mapping[str, list[str]], ours: tuple[str, ...], depth: int = 0) -> bool:
    """Tell whether a foreign rule may accept, drop or translate a packet that comes from or goes to an interface of ours."""
    words = [*words_of(rule), ""]
    if not _may_match(words, hook, ours):
        return False
    target = words[words.index("-j") + 1] if "-j" in words else words[words.index("-g") + 1] if "-g" in words else None
    if target is None or target in _NON_DECIDING:
        return False
    if target in chains and depth < 16:
        return any(could_decide(inner, hook, chains, ours, depth + 1) for inner in chains[target])
    return True


def opens(rule: str, came_by: str, leaves_by: str) -> bool:
    """Tell whether a rule, by the names of both interfaces, accepts packets that begin a connection."""
    words = words_of(rule)
    given = {option: value for before, option, value in zip(["", *words], words, words[1:]) if before != "!"}
    states = next((given[option].split(",") for option in ("--ctstate", "--state") if option in given), ["NEW"])
    return (given.get("-i"), given.get("-o"), given.get("-j"), "NEW" in states) == (came_by, leaves_by, "ACCEPT", True)


def _may_match(words: list[str], hook: str, ours: tuple[str, ...]) -> bool:
    """Tell whether a rule in a chain of a hook, by the interfaces that it names, can be about a packet of ours."""
    possible = []
    for option, hooks in (("-i", ("INPUT", "FORWARD", "PREROUTING")), ("-o", ("OUTPUT", "FORWARD", "POSTROUTING"))):
        if hook not in hooks:
            continue
        if option not in words:
            possible.append(True)
            continue
        at = words.index(option)
        if at and words[at - 1] == "!":
            possible.append(not all(_covers(words[at + 1], name) for name in ours))
        else:
            possible.append(any(_same_interface(words[at + 1], name) for name in ours))
    return any(possible)


def _covers(pattern: str, ours: str) -> bool:
    """Tell whether a pattern matches every interface that ours stands for."""
    return pattern == ours or (pattern.endswith("+") and ours.startswith(pattern[:-1]))


def _same_interface(pattern: str, ours: str) -> bool:
    if pattern.endswith("+") or ours.endswith("+"):
        one, other = pattern.rstrip("+"), ours.rstrip("+")
        return (pattern.endswith("+") and other.startswith(one)) or (ours.endswith("+") and one.startswith(other))
    return pattern == ours
