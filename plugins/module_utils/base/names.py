# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell, a peer, an interface, a chain and a tag may be called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from .errors import BadInput

RULE = "a name is 1 to 32 characters of a-z, 0-9 and '-', begins and ends with a letter or digit, and is not 'direct' or 'none'"
DIRECT = "direct"  # instead of an exit: the own uplink
RESERVED = (DIRECT, "none")
GENERAL_TAG = "pic-cells"
LINK_PREFIX = "pic-"  # of the interfaces of links
PAIRING = "pairing0"  # the interface by which this cell redeems an invitation, which is no link's, and its network namespace
BUCKET_PREFIX = "pif-"  # of the devices that limit what links receive; no rule takes one for a link
DNS_PORT, DNS_PROTOCOLS = 53, ("tcp", "udp")
OWN, EXIT = "own", "exit"  # who answers routed devices: whom they ask, by this cell's own connection; the resolver of their exit
DOWN = {"silent": "has not answered through its tunnel", "offline": "has had no internet itself"}  # why an exit does not work

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
    raise BadInput(f"{kind} {value!r} is not a valid name: {RULE}. Choose another name.")


def check_exits(kind: str, value: str | Sequence[object]) -> list[str]:
    """Return the exits of a device, best first, none for a device that goes direct; raise BadInput for what is no such list.

    kind: what a refusal begins with. "direct" at the end lets the device go direct while none of the cells before it can be its exit.
    """
    if not value:
        raise BadInput(f"{kind} it names no exit. Give one cell or several, best first, or {DIRECT}.")
    exits = [DIRECT if name == DIRECT else check_name(kind, name) for name in ([value] if isinstance(value, str) else value)]
    if DIRECT in exits[:-1]:
        raise BadInput(f"{kind} {DIRECT} stands before {exits[-1]!r}, which would never be used. It can only be the last.")
    if len(set(exits)) < len(exits):
        raise BadInput(f"{kind} {', '.join(exits)} names an exit twice. Name each once.")
    return [] if exits == [DIRECT] else exits


def exits_in_words(exits: Sequence[str]) -> str:
    """Return the exits of a device as a person reads them."""
    return f"via {', else '.join(exits)}" if exits else DIRECT


def offers_no_exit(cells: Sequence[str]) -> str:
    """Say that cells offer no exit."""
    return f"{cells[0]} offers no exit" if len(cells) == 1 else f"none of {', '.join(cells)} offers an exit"


def why_not_better(cells: Sequence[str], used: str, down: Mapping[str, str]) -> str:
    """Return why a device does not leave by a cell that it has before the one it uses, as the end of a sentence; empty where there is none before it.

    down: what is said of exits that do not work, by name.
    """
    better = cells[: cells.index(used)] if used in cells else ()
    reasons = [down[name] for name in better if name in down]
    closed = [name for name in better if name not in down]
    reasons += [f"{offers_no_exit(closed)} now"] if closed else []
    return f", since {' and '.join(reasons)}" if reasons else ""


def check_interface(value: object) -> str:
    """Return value if it may name a network interface that iptables takes literally; raise BadInput otherwise."""
    if isinstance(value, str) and _INTERFACE.fullmatch(value):
        return value
    raise BadInput(f"Interface {value!r} is not a valid name: 1 to 15 characters of letters, digits, '_', '.' and '-'. Choose another name.")


def is_interface(value: str) -> bool:
    """Tell whether a name of an interface, which others have given, can stand in a rule as it is; "eth+" would be all that begin so."""
    return _INTERFACE.fullmatch(value) is not None


def check_state_dir(value: object) -> str:
    """Return value if it may be the folder of the records; raise BadInput otherwise: it stands in unit files, where many characters mean something."""
    if isinstance(value, str) and _FOLDER.fullmatch(value) and not {".", ".."} & set(value.split("/")):
        return value
    raise BadInput(
        f"The folder of the records (cell_state_dir) {value!r} cannot be used: it has to begin with '/', and to have only letters, digits, '_', "
        "'-', '.' and '+'. "
        "Choose another folder."
    )


def link_interface(cell: str) -> str:
    """Name the WireGuard interface of the link to a cell; a long name keeps the prefix and gets a hash."""
    return _fitting(LINK_PREFIX, cell, _INTERFACE_LENGTH)


def chain(kind: str, cell: str) -> str:
    """Name the chain of one kind (L, I, S, A) that belongs to a link."""
    return _fitting(f"PIC-{kind}-", cell, _CHAIN_LENGTH)


def resolver_chain(address: str) -> str:
    """Name the chain of a resolver that is stated for devices; no cell's name begins so."""
    return _fitting("PIC-A-", _HASHED + address.replace(".", "-").replace(":", "-"), _CHAIN_LENGTH)


def answered_in_words(stated: Sequence[str]) -> str:
    """Return who answers a device, as a person reads it."""
    return {OWN: "whom it asks", EXIT: "the resolver of its exit"}.get(stated[0], ", ".join(stated))


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


def check_source(path: str) -> str:
    """Return the path of something to be read on a cell. Raises BadInput."""
    if not path.startswith("/") or not path.isprintable():
        raise BadInput(f"source {path!r} is not an absolute path. Give that of a file or folder on the cell.")
    return path
