# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invitations as one word: what it says, a checksum against slips, and what its secret proves. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

TOLD, REDEEMED = "pic0", "pic1"  # versions: one that two owners tell each other, and one that its secret redeems through the tunnel
MAC, SECRET = "mac", "secret"  # what of a token is no part of what it proves
_CHECKED = 4  # bytes of the checksum
_MAC = b"pic.cells invitation"
_CODE = 12  # letters, of 5 bits each


def render_token(version: str, said: Mapping[str, Any]) -> str:
    """Return an invitation as one word of letters, digits, - and _: nothing that a shell, a terminal or JSON changes."""
    text = _text({key: value for key, value in said.items() if value is not None})
    return f"{version}-{base64.urlsafe_b64encode(_checksum(text) + text).decode('ascii').rstrip('=')}"


def parse_token(rest: str) -> dict[str, Any] | None:
    """Read what follows the version of a token (inverse of render_token); None where it is not whole, or was changed."""
    try:
        raw = base64.b64decode(rest + "=" * (-len(rest) % 4), altchars=b"-_", validate=True)
        said = json.loads(raw[_CHECKED:])
    except (binascii.Error, ValueError, RecursionError):
        return None
    return said if raw[:_CHECKED] == _checksum(raw[_CHECKED:]) and isinstance(said, dict) else None


def proof(said: Mapping[str, Any], secret: str) -> str:
    """Return what proves that nobody without the secret has changed a token, in hexadecimal. secret: 32 bytes in base64."""
    return hmac.new(base64.b64decode(secret), _MAC + b"\n" + _proven(said), hashlib.sha256).hexdigest()[:32]


def is_proven(said: Mapping[str, Any], secret: str) -> bool:
    """Tell whether a token is as the holder of its secret has made it."""
    return hmac.compare_digest(proof(said, secret).encode(), str(said.get(MAC)).encode("utf-8", "replace"))


def code(said: Mapping[str, Any]) -> str:
    """Return a short text that is another one for each other token: two people compare it where nothing else proves that it is the same."""
    text = base64.b32encode(hashlib.sha256(_proven(said)).digest()).decode("ascii").lower()[:_CODE]
    return "-".join(text[at : at + 4] for at in range(0, _CODE, 4))


def _proven(said: Mapping[str, Any]) -> bytes:
    return _text({key: value for key, value in said.items() if key not in (MAC, SECRET) and value is not None})


def _text(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":"), sort_keys=True).encode()


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_CHECKED]
