# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell, a peer, an interface, a chain and a tag may be called."""

from __future__ import annotations

import hashlib
import re

from .errors import BadInput

RULE = "a name is 1 to 32 characters of a-z, 0-9 and '-', begins and ends with a letter or digit, and is not 'direct' or 'none'"
RESERVED = ("direct", "none")
GENERAL_TAG = "pic-cells"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_HASHED = "_"  # no name has it, so that no name is another one's hash
_FOLDER = re.compile(r"(/[A-Za-z0-9_.+-]+){1,16}", re.ASCII)
_INTERFACE_LENGTH = 15  # IFNAMSIZ less the terminating NUL
_CHAIN_LENGTH = 28  # XT_EXTENSION_MAXNAMELEN less the terminating NUL


def check_name(kind: str, value: object) -> str:
    """Return value if it may name a cell, peer or service; raise BadInput with the rule otherwise."""
    if isinstance(value, str) and _NAME.fullmatch(value) and value not in RESERVED:
        return value
    raise BadInput(f"{kind} {value!r} is no valid name: {RULE}. Choose another name.")


def check_interface(value: object) -> str:
    """Return value if it may name a network interface that iptables takes literally; raise BadInput otherwise."""
    if isinstance(value, str) and _INTERFACE.fullmatch(value):
        return value
    raise BadInput(f"Interface {value!r} is no valid name: 1 to 15 characters of letters, digits, '_', '.' and '-'. Choose another name.")


def is_interface(value: str) -> bool:
    """Tell whether a name of an interface, which others have given, can stand in a rule as it is; "eth+" would be all that begin so."""
    return _INTERFACE.fullmatch(value) is not None


def check_state_dir(value: object) -> str:
    """Return value if it may be the folder of the records; raise BadInput otherwise: it stands in unit files, where many characters mean something."""
    if isinstance(value, str) and _FOLDER.fullmatch(value) and not {".", ".."} & set(value.split("/")):
        return value
    raise BadInput(
        f"The folder of the records (cell_state_dir) {value!r} cannot be used: it begins with '/', and has only letters, digits, '_', '-', '.' and '+'. "
        "Choose another folder."
    )


def link_interface(cell: str) -> str:
    """Name the WireGuard interface of the link to a cell; a long name keeps the prefix and gets a hash."""
    return _fitting("pic-", cell, _INTERFACE_LENGTH)


def chain(kind: str, cell: str) -> str:
    """Name the chain of one kind (L, I, S) that belongs to a link."""
    return _fitting(f"PIC-{kind}-", cell, _CHAIN_LENGTH)


def tag(cell: str) -> str:
    """Return the comment that marks all rules of the link to a cell."""
    return f"pic-cell-{cell}"


def is_own_tag(comment: str) -> bool:
    """Tell whether a rule's comment says that the rule is ours (its first word is compared whole)."""
    word = comment.split(" ", 1)[0]
    return comment.isprintable() and (word == GENERAL_TAG or (word.startswith("pic-cell-") and _NAME.fullmatch(word[len("pic-cell-") :]) is not None))


def _fitting(prefix: str, name: str, length: int) -> str:
    if len(prefix) + len(name) <= length:
        return prefix + name
    return (prefix + _HASHED + hashlib.sha256(name.encode()).hexdigest())[:length]
