# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place on the controller where text from outside comes in: extra vars, surveys, invitations, and what a cell answers.

What is handed on is data: no template in it is ever filled in, and no control character of it reaches a terminal.
"""

from __future__ import annotations

import datetime
import functools
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from ansible import context
from ansible.utils.vars import load_extra_vars

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput

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

SECRET = "preshared_key"  # the one extra var that nothing may show
DEEPEST = 16
LARGEST = 4 * 1024 * 1024
_LONGEST_SHOWN, _LONGEST_LINE, _LONGEST_REFUSAL, _MOST_LINES = 200, 2000, 4000, 5000
_WIDEST = 63  # bits of a number
_LARGEST_ASKED = 65536
BOOLEAN = ("offered", "force", "split", "show_qr")
_TIME = ("until",)
_NUMBER = re.compile(r"[0-9]+(e[0-9]+)?|0o[0-7]+")
_UNSAFE = "!unsafe"  # AWX marks the answers of a survey so


def plain(value: Any, what: str, largest: int = LARGEST, deepest: int = DEEPEST) -> Any:
    """Return a value as plain texts, numbers, lists and dictionaries that no version of Ansible takes for templates.

    what: how a message names it. largest: characters and items that it may hold altogether. Raises BadInput for all that is neither.
    """
    return _Taken(what, largest).take(value, deepest)


def shown(value: object, longest: int = _LONGEST_SHOWN) -> str:
    """Return a text as one line that is safe to print: without control characters and escape sequences, and no longer than that."""
    text = str.__str__(value) if isinstance(value, str) else _said(value)
    if text.isprintable() and len(text) <= longest:
        return text
    cut = len(text) > longest
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text[:longest])
    return f"{line[:longest]}…" if cut or len(line) > longest else line


def refused(result: Mapping[str, Any], error: BadInput) -> dict[str, Any]:
    """Return the result of a task that has failed with this sentence."""
    return {**result, "failed": True, "msg": sentence(error)}


def sentence(error: BadInput) -> str:
    """Return what an error says, safe to print."""
    return shown(error, _LONGEST_REFUSAL)


def shown_lines(lines: Iterable[object]) -> list[str]:
    """Return lines that are safe to print, and not too many of them."""
    found = [shown(line, _LONGEST_LINE) for line, _number in zip(lines, range(_MOST_LINES + 1))]
    return [*found[:_MOST_LINES], "…"] if len(found) > _MOST_LINES else found


def asked(loader: Any, stated: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return what extra vars say of these names, as plain data; answers of a survey are extra vars.

    No other variable counts: inventories and facts have names like these for purposes of their own. loader: Ansible's, with the secrets of a vault.
    stated: variables of the play, which are those of import_playbook. Raises BadInput for what YAML has read as something else than a text.
    """
    extra_vars = load_extra_vars(loader=loader)
    found = {}
    for name in names:
        if name in extra_vars:
            found[name] = _taken(name, extra_vars[name], _written(loader, name))
        elif name in stated:
            found[name] = _taken(name, stated[name], None)
    return {name: value for name, value in found.items() if not (isinstance(value, str) and value == "")}


def secret(loader: Any) -> str | None:
    """Return what the extra var says that nothing may show, None where it is not given. loader: as for asked."""
    found: str | None = asked(loader, {}, [SECRET]).get(SECRET)
    return found


def read_file(path: Path, largest: int) -> bytes:
    """Read a regular file that is no larger than that; no pipe is waited for, and no device touched. Raises OSError."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        text = file.read(largest + 1)
    if len(text) > largest:
        raise OSError("too large")
    return text


def write_new(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, or leave none: half of one would be taken for the whole. Raises OSError and ValueError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        os.unlink(path)
        raise


@functools.cache
def is_misread(name: str) -> bool:
    """Tell whether YAML, of one version or the other, takes a name for a number, a date, a boolean or null where nobody has put it in quotes."""
    resolved = yaml.SafeLoader("").resolve(yaml.ScalarNode, name, (True, False))
    return resolved != "tag:yaml.org,2002:str" or _NUMBER.fullmatch(name) is not None


def _taken(name: str, value: Any, written: yaml.ScalarNode | None) -> Any:
    if isinstance(value, (str, Mapping, list, tuple, _Vaulted)) or (isinstance(value, bool) and name in BOOLEAN):
        return plain(value, name, _LARGEST_ASKED)
    if written is not None and (written.tag == _UNSAFE or (name in _TIME and _kind(value) == "date")):
        # ansible-core 2.19 reads numbers, dates and null out of an answer that was a text; an empty answer is null then.
        return plain(written.value, name, _LARGEST_ASKED)
    text = written.value if written is not None else {None: "null", True: "true", False: "false"}[value] if _kind(value) in ("null", "boolean") else value
    said = "" if name == SECRET else f"={shown(text)}"
    raise BadInput(f"{name}{said} is not text: YAML reads a {_kind(value)} there. Put it in quotes, or leave it out.")


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return "number" if isinstance(value, (int, float)) else "date" if isinstance(value, datetime.date) else "value that is not text"


def _written(loader: Any, name: str) -> yaml.ScalarNode | None:
    """Find how an extra var was written, where it is one scalar of a text or file of YAML; the last one counts."""
    if isinstance(load_extra_vars(loader=loader)[name], str):
        return None
    found = None
    for option in context.CLIARGS.get("extra_vars") or ():
        try:
            text = read_file(Path(loader.path_dwim(option[1:])), LARGEST) if option.startswith("@") else option if option[:1] == "{" else ""
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            continue
        for key, node in root.value if isinstance(root, yaml.MappingNode) else ():
            if key.value == name:
                found = node if isinstance(node, yaml.ScalarNode) else None
    return found


def _said(value: object) -> str:
    try:
        return str(value)
    except ValueError:
        return "a number with thousands of digits"  # Python writes none that are longer


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
        raise BadInput(f"{self.what} holds {shown(value)!r}, which is neither text, a number, a list nor a dictionary. Put a text in quotes.")

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise BadInput(f"{self.what} has a key {shown(key)!r} that is not text. Put it in quotes.")
        self._charge(len(key))
        text: str = _Text(str.__str__(key))
        return text

    def _charge(self, size: int) -> None:
        self.left -= size + 1
        if self.left < 0:
            raise BadInput(f"{self.what} is too large. Correct it.")
