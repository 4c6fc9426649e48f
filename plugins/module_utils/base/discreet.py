# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What WireGuard's tools complain of, as far as it is known to hold no key. Pure.

wg prints a key that it cannot read, whole; wg-quick prints the hooks of a file before it runs them.
"""

from __future__ import annotations

import re

TOOLS = ("wg", "wg-quick")
_KEY = re.compile(r"[A-Za-z0-9+/]{40}")
_KNOWN = re.compile(
    r"RTNETLINK answers: [A-Za-z ]+|Error: [A-Za-z ]+\.|Cannot find device \"[\w.-]+\"|Command failed -:[0-9]+|Configuration parsing error"
    r"|Unable to (?:access|modify) interface(?: [\w.-]+)?: [A-Za-z ]+|wg-quick: `[\w.-]+' [A-Za-z ]+|\[#\] ip [\w ./:-]+"
    r"|[A-Za-z ]+: `[\w.-]+:[0-9]+'(?:\. Trying again in [0-9.]+ seconds\.\.\.)?|injected failure",
    re.ASCII,
)
# The complaint before the text that it is about, which can be a key.
_ABOUT = re.compile(r"([A-Za-z][A-Za-z ,-]+): [`'\"].*", re.DOTALL)


def said(tool: str, output: str) -> str:
    """Return what a command has printed; of WireGuard's tools only the lines that are known to hold no key."""
    if tool not in TOOLS:
        return output
    lines = [line for line in output.split("\n") if line.strip()]
    shown = [text for text in map(_shown, lines) if text]
    left = len(lines) - len(shown)
    return "\n".join([*shown, *([f"({left} lines that may hold a key are not shown)"] if left else [])])


def _shown(line: str) -> str:
    if _KEY.search(line):
        about = _ABOUT.fullmatch(line)
        return about[1] if about and not _KEY.search(about[1]) else ""
    if _KNOWN.fullmatch(line):
        return line
    about = _ABOUT.fullmatch(line)
    return about[1] if about else ""
