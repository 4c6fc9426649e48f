# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As which addresses the internet sees exits: asked through each of them of somebody whom the cell's owner has named."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from ..base import targets
from ..base.networks import address_of, host_port
from ..records.model import Link, State

_HEAD_LIMIT, _LIMIT = 4096, 64  # bytes of an answer
_STATUS = re.compile(rb"HTTP/1\.[01] 200(?:\s|$)")


class Question(NamedTuple):
    """Whom to ask through an exit. text: a URL (base.targets)."""

    exit: str
    interface: str
    text: str


def family_of(question: Question) -> int:
    """Return the family, 4 or 6, of the address that is asked for."""
    return targets.parse_url(question.text).target.family


def questions(state: State, names: Iterable[str]) -> list[Question]:
    """Return whom to ask through some exits; nobody through one that the cell's own packets do not pass."""
    links = [state.links[name] for name in names]
    return [
        Question(link.name, str(link.interface), text)
        for link in links
        if (link.exit_relay_active or link.provided) and link.interface != state.cell.interface
        for text in state.cell.whoami
        if _carries(state, link, targets.parse_url(text).target.family)
    ]


def ask(asked: Iterable[Question], patience: float) -> dict[str, dict[str, str]]:
    """Ask all questions at the same time. Returns the addresses that were answered, by exit and family. patience: seconds for all of it."""
    asked, until = list(asked), time.monotonic() + patience
    found: dict[str, dict[str, str]] = {question.exit: {} for question in asked}

    def answer(question: Question) -> None:
        address = _address(_answer(question, until))
        if address:
            found[question.exit][f"ipv{family_of(question)}"] = address

    threads = [threading.Thread(target=answer, args=(question,), daemon=True) for question in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()) + 1)
    return {name: dict(addresses) for name, addresses in found.items()}  # whoever is late adds nothing


def _carries(state: State, link: Link, family: int) -> bool:
    return state.cell.has_family(family) and link.has_family(family)


def _answer(question: Question, until: float) -> bytes:
    """Ask, and return what was answered after the head, no more than is read of it; nothing where that is no answer."""
    url, said = targets.parse_url(question.text), b""
    target = url.target
    request = (
        f"GET {url.path} HTTP/1.0\r\nHost: {host_port(target.address, target.port)}\r\nConnection: close\r\n\r\n"  # 1.0: so that no length stands in the text
    )
    try:
        with socket.socket(socket.AF_INET6 if target.family == 6 else socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, question.interface.encode())
            connection.settimeout(_left(until))
            connection.connect((target.address, target.port))
            connection.sendall(request.encode())
            while True:
                head, end, body = said.partition(b"\r\n\r\n")
                if len(body) >= _LIMIT or (not end and len(said) >= _HEAD_LIMIT):
                    break
                connection.settimeout(_left(until))
                part = connection.recv(_LIMIT if end else _HEAD_LIMIT)
                if not part:
                    break
                said += part
            return body[:_LIMIT] if end and _STATUS.match(head) else b""
    except OSError:
        return b""


def _left(until: float) -> float:
    """Return the seconds that are left. Raises TimeoutError where none are."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _address(answer: bytes) -> str | None:
    """Return the address that an answer consists of; None where it is something else."""
    try:
        address = address_of(answer.decode("ascii").strip())
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
