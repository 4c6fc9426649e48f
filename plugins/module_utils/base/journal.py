# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a unit has failed: systemctl itself says only that it has."""

from __future__ import annotations

import re

from .command import Host
from .errors import CellError, CommandFailed
from .texts import printable

_LINES = 12
_MOST = 1500  # characters
_KEY = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}")
_QUOTED = re.compile(r"((?:Key is not|Line unrecognized|[A-Za-z ]+nrecognized|Unable to parse)[^:]*:).*")  # wg prints what it cannot read, which can be a key
_HOOK = re.compile(r"\[#\].*(?:key|psk)", re.I)  # wg-quick prints a hook of a file before it runs it
_STARTS = {"restart", "start"}


def told(host: Host, error: CommandFailed) -> CommandFailed:
    """Return an error of systemctl as that of the units that have failed, with the last lines of the first, without keys; any other error as it is."""
    if error.argv[0] != "systemctl" or not _STARTS.intersection(error.argv):
        return error
    units = [word for word in error.argv[2:] if not word.startswith("-") and word not in _STARTS]
    failed = [unit for unit in units if f"{unit.removesuffix('.service')}.service" in error.output] or units[-1:]
    if len(failed) < len(units):
        error = CommandFailed([word for word in error.argv if word not in units or word in failed], error.rc, error.output, error.stdin)
    if not host.has("journalctl"):
        return error
    try:
        said = host.run(["journalctl", "-u", failed[0], "-n", str(_LINES), "-o", "cat", "--no-pager", "-q"], timeout=10).out
    except CellError:
        return error
    lines = [printable(_KEY.sub("(a key)", _QUOTED.sub(r"\1 (a key)", line))) for line in said.split("\n") if line.strip() and not _HOOK.search(line)]
    if not lines:
        return error
    text = "; ".join(lines)[-_MOST:]
    return CommandFailed(error.argv, error.rc, f"{error.output.strip()} Its last message: {text}", error.stdin)
