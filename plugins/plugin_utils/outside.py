# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place on the controller where text from outside comes in: extra vars, surveys, invitations, and what a cell answers.

What is handed on is data: no template in it is ever filled in, and no control character of it reaches a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.errors import BadInput

try:
    from ansible.template import trust_as_template as _trusting
except ImportError:
    # Up to ansible-core 2.18 every text is a template but those of this type; since 2.19 none is but those that are marked as trusted.
    from ansible.parsing.yaml.objects import AnsibleVaultEncryptedUnicode as _Vaulted
    from ansible.utils.unsafe_proxy import AnsibleUnsafeText as _Text
else:
    from ansible.parsing.vault import EncryptedString as _Vaulted

    _Text = str
    del _trusting

DEEPEST = 16
LARGEST = 4 * 1024 * 1024
_LONGEST_SHOWN = 200
_WIDEST = 63  # bits of a number


def plain(value: Any, what: str, largest: int = LARGEST, deepest: int = DEEPEST) -> Any:
    """Return a value as plain texts, numbers, lists and dictionaries that no version of Ansible takes for templates.

    what: how a message names it. largest: characters and items that it may hold altogether. Raises BadInput for all that is neither.
    """
    return _Taken(what, largest).take(value, deepest)


def shown(value: object, longest: int = _LONGEST_SHOWN) -> str:
    """Return a text as one line that is safe to print: without control characters and escape sequences, and no longer than that."""
    text = str.__str__(value) if isinstance(value, str) else _said(value)
    cut = len(text) > longest
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text[:longest])
    return f"{line[:longest]}…" if cut or len(line) > longest else line


def _said(value: object) -> str:
    try:
        return str(value)
    except ValueError:
        return "a number of thousands of digits"  # Python writes none that are longer


class _Taken:
    """What is left of the room for one value."""

    def __init__(self, what: str, largest: int) -> None:
        self.what, self.left = what, largest

    def take(self, value: Any, deepest: int) -> Any:
        """Return the value plainly; raise BadInput for what is too large, too deep, or of another type."""
        if isinstance(value, _Vaulted):
            value = str(value)
        self._charge(len(value) if isinstance(value, (str, Mapping, list, tuple)) else 1)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _Text(str.__str__(value))
        if isinstance(value, int):
            if abs(value) >> _WIDEST:
                raise BadInput(f"{self.what} holds a number that is too large. Correct it.")
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, (Mapping, list, tuple)):
            if not deepest:
                raise BadInput(f"{self.what} is nested too deeply. Correct it.")
            if isinstance(value, Mapping):
                return {self._key(key): self.take(item, deepest - 1) for key, item in value.items()}
            return [self.take(item, deepest - 1) for item in value]
        raise BadInput(f"{self.what} holds {shown(value)!r}, which is neither text nor number, list nor dictionary. Put a text in quotes.")

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise BadInput(f"{self.what} has a key {shown(key)!r} that is no text. Put it in quotes.")
        self._charge(len(key))
        text: str = _Text(str.__str__(key))
        return text

    def _charge(self, size: int) -> None:
        self.left -= size + 1
        if self.left < 0:
            raise BadInput(f"{self.what} is too large. Correct it.")
