# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP push: one request through one link's tunnel, without redirects or proxies, with an end in sight."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ..base.networks import address_of, host_port
from ..parts.peer_sync import CONFLICT, OK, SIGNATURE, Push
from ..parts.signing import check_answer
from ..records.model import LAST

CONNECT, TOTAL = 2.0, 4.0  # seconds
_ANSWER_LIMIT = 16 * 1024  # bytes
_AT_ONCE = 16  # pushes
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r\n)")


def send_all(pushes: Mapping[str, Push]) -> dict[str, dict[str, Any] | None]:
    """Send pushes side by side; return the answer to each as send does."""
    if not pushes:
        return {}
    with ThreadPoolExecutor(min(len(pushes), _AT_ONCE)) as pool:
        return dict(zip(pushes, pool.map(send, pushes.values())))


def send(push: Push) -> dict[str, Any] | None:
    """Send one push from the cell's own address by the link's device.

    Returns {status, generation, reason}, and ignored where it was not new; None where nobody was reached.
    """
    try:
        target = urlsplit(push.url)
        address = address_of(target.hostname or "")
        port = target.port or 80
        source = next(s for s in push.sources if address_of(s).version == address.version)
        if target.scheme != "http":
            return None
    except (ValueError, StopIteration):
        return None
    lines = [
        f"POST {target.path.rstrip('/')}{push.path} HTTP/1.1",
        f"Host: {host_port(address, port)}",
        "Content-Type: application/json",
        f"Content-Length: {len(push.body)}",
    ]
    lines += [f"{SIGNATURE}: {push.signature}"] if push.signature else []
    request = "\r\n".join([*lines, "Connection: close", "", ""]).encode() + push.body
    deadline = time.monotonic() + TOTAL
    try:
        with contextlib.closing(socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, push.device.encode())
            connection.bind((source, 0))
            connection.settimeout(CONNECT)
            connection.connect((str(address), port))
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            connection.sendall(request)
            return _read(_receive(connection, deadline), push)
    except OSError:
        return None


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """Read an answer to its end, or as far as size and time allow."""
    answer = b""
    while len(answer) < _ANSWER_LIMIT:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError  # a byte now and then would go on
        connection.settimeout(left)
        part = connection.recv(_ANSWER_LIMIT)
        if not part:
            break
        answer += part
    return answer


def _read(answer: bytes, push: Push) -> dict[str, Any] | None:
    """Read an answer; what is not the receiver's own has its status only.

    Where the link has a key, an answer that says something of the push is signed: anybody on the other cell could listen there while its receiver does not.
    """
    status = _STATUS.match(answer)
    if not status:
        return None
    code = int(status[1])
    head, _empty, said = answer.partition(b"\r\n\r\n")
    if code in (OK, CONFLICT) and check_answer(push.answer_key, push.body, code, said, _signature(head)) is False:
        return {"status": 502, "generation": 0, "reason": "the answer is not signed by the cell"}
    result = {"status": code, "generation": 0, "reason": f"HTTP status {code}"}
    try:
        body = json.loads(said)
    except (ValueError, RecursionError):
        return result if code != 200 else {**result, "status": 502, "reason": "the answer does not come from a cell"}
    if isinstance(body, dict):
        generation, reason = body.get("generation"), body.get("reason")
        if isinstance(generation, int) and not isinstance(generation, bool) and 0 <= generation <= LAST:
            result["generation"] = generation
        if body.get("applied") is False:
            result["ignored"] = True
        if isinstance(reason, str) and reason.isprintable():
            result["reason"] = reason[:200]
    return result


def _signature(head: bytes) -> str:
    """Return the signature in the head of an answer, an empty text where it has none."""
    name = SIGNATURE.lower().encode()
    found = (line.partition(b":")[2].strip() for line in head.split(b"\r\n") if line.partition(b":")[0].lower() == name)
    return next(found, b"").decode("ascii", "replace")
