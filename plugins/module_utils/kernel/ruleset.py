# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of iptables as texts: those that we want, and the words and comments of those that were saved. Pure."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field

from ..base import texts
from ..base.names import GENERAL_TAG


@dataclass(frozen=True)
class Rule:
    """One rule of ours: its matches and target as iptables takes them, and whose it is."""

    text: str
    tag: str = GENERAL_TAG

    def __post_init__(self) -> None:
        texts.rule(self.text)
        texts.word(self.tag)

    def comment(self, chain: str) -> str:
        """Return the comment by which the rule is known in a chain."""
        return f"{self.tag} {hashlib.sha256(f'{chain} {self.text}'.encode()).hexdigest()[:10]}"

    def render(self, chain: str) -> str:
        """Return the rule as restore text without the leading command, e.g. 'PIC-FWD -i wg0 … -j PIC-PATH'."""
        how = max(self.text.rfind("-j "), self.text.rfind("-g "))
        matches, target = self.text[:how], self.text[how:]
        return f'{chain} {matches}-m comment --comment "{self.comment(chain)}" {target}'


@dataclass
class Table:
    """What we want in one table: own chains whole, and one jump to an own chain in each of some built-in chains."""

    chains: dict[str, list[Rule]] = field(default_factory=dict)
    jumps: dict[str, str] = field(default_factory=dict)


Ruleset = dict[str, Table]  # by table name


# A text in quotes has any character, also a line feed, and a quote or backslash behind a backslash. A name of an interface has no quotes, but may hold one.
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|[^ ]+', re.DOTALL)
_TEXTS = {"--comment", "--log-prefix", "--nflog-prefix", "--string", "--hex-string"}  # whose value may look like an option


@functools.lru_cache(maxsize=1 << 16)
def _words(rule: str) -> tuple[str, ...]:
    """Return the words of a rule as saved, without quotes; whatever others have written there, it is never an error."""
    return tuple(match[0] if match[1] is None else re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL) for match in _WORD.finditer(rule))


def comment_of(rule: str) -> str:
    """Return the comment of a rule as saved, or an empty string."""
    plain, _quote, rest = rule.partition('"')
    text, quote, _rest = rest.partition('"')
    if quote and "\\" not in text and plain.endswith(" comment --comment ") and plain.count("--comment") == 1:
        return text  # as all of ours are, for which the words need not be told apart
    words = _words(rule)
    at = next((number for number, word in enumerate(words) if word == "--comment" and words[number - 1] == "comment"), len(words))
    return words[at + 1] if at + 1 < len(words) else ""


def words_of(rule: str) -> list[str]:
    """Return the words of a rule as saved, but for texts, which may look like options."""
    words = _words(rule)
    return [word for number, word in enumerate(words) if number == 0 or words[number - 1] not in _TEXTS]
