# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What exits answer when a fake host asks them through its tunnels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.pic.cells.plugins.module_utils.parts.verdicts import Watched
from ansible_collections.pic.cells.plugins.module_utils.program.probe import LARGE, SMALL, Answer
from ansible_collections.pic.cells.plugins.module_utils.program.whoami import Question
from ansible_collections.pic.cells.tests.unit.fake.ip import Ip

BOTH: Answer = {"ipv4": True, "ipv6": True}


class Exits(Ip):
    """The exits behind a host's tunnels.

    exits: what each answers, by name; that it has internet where nothing is said of it. narrow: those that lose packets of full size.
    unasked: those that this host cannot ask. questions: the exits that were asked, each time.
    seen_as: the addresses that somebody on the internet says, by exit. asked_who: whom he was asked through.
    """

    exits: dict[str, Answer]
    narrow: set[str]
    unasked: set[str]
    questions: list[list[str]]
    seen_as: dict[str, dict[str, str]]
    asked_who: list[tuple[str, str, str]]

    def ask_whoami(self, asked: Iterable[Question], _patience: float) -> dict[str, dict[str, str]]:
        """Answer as whoami.ask does."""
        self.asked_who += [tuple(item) for item in asked]
        return {name: self.seen_as.get(name, {}) for name in dict.fromkeys(name for name, _interface, _text in asked)}

    def ask_exits(self, exits: Iterable[Watched], _patience: float = 0.9, request: bytes = SMALL) -> Mapping[str, Answer]:
        """Answer as probe.ask does."""
        asked = [item for item in exits if item.name not in self.unasked]
        self.questions += [sorted(item.name for item in asked)] if asked else []
        silent = {item.name for item in asked if item.interface not in self.links or not self.links[item.interface].up}
        silent |= self.narrow if request == LARGE else set()
        return {item.name: None if item.name in silent else self.exits.get(item.name, BOTH) for item in asked}
