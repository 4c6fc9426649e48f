# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the receiver: what their head may say, and how each can fail. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..parts.claims import PATH as CLAIM_PATH
from ..parts.peer_sync import BODY_LIMIT, EXIT_PATH, PATH, SIGNATURE

HEAD_LIMIT = 8 * 1024  # bytes
_SAID = (PATH.encode(), CLAIM_PATH.encode())

# One text for each way to fail; nothing that a sender says comes back to it.
TEXTS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    200: "OK",
}


class Refused(Exception):
    """A request that is not taken; carries the status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(TEXTS[status])


@dataclass(frozen=True)
class Head:
    """What the head of a request says that matters here. path: what is asked for; EXIT_PATH asks, the others say something."""

    path: str
    length: int = 0
    signature: str = ""


def parse_head(data: bytes) -> Head:
    """Read the head of a request, without the empty line at its end; raise Refused for all but what this cell is asked, or told within bounds."""
    first, *lines = data.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Refused(400)
    if words[:2] == [b"GET", EXIT_PATH.encode()]:
        return Head(EXIT_PATH)
    if words[1] not in _SAID:
        raise Refused(404)
    if words[0] != b"POST":
        raise Refused(405)
    lengths, signatures = [], []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.strip() != name:
            raise Refused(400)
        if name.lower() == b"transfer-encoding":
            raise Refused(411)
        if name.lower() == b"content-length":
            lengths.append(value.strip())
        if name.lower() == SIGNATURE.lower().encode():
            signatures.append(value.strip())
    if not lengths:
        raise Refused(411)
    if len(lengths) > 1 or len(signatures) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 9:
        raise Refused(400)
    if int(lengths[0]) > BODY_LIMIT:
        raise Refused(413)
    return Head(words[1].decode("ascii"), int(lengths[0]), signatures[0].decode("ascii", "replace") if signatures else "")
