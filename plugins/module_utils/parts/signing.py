# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of pushes and of their answers, with keys that a link's preshared key leads to. Pure.

Each direction and each use has a key of its own: the unprivileged receiver holds those that check what the other cell
says and that sign its own answers, and none that would let it speak for its cell.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

_PUSH, _ANSWER, _CLAIM = b"pic.cells peer-sync v2 push", b"pic.cells peer-sync v2 answer", b"pic.cells peer-sync v2 claim"


def push_key(preshared_key: str | None, sender: str, receiver: str) -> str | None:
    """Derive the key that signs the pushes of one direction, in hexadecimal; it does not tell the preshared key. sender, receiver: public keys."""
    return _derived(preshared_key, _PUSH, sender, receiver)


def claim_key(preshared_key: str | None, sender: str, receiver: str) -> str | None:
    """Derive the key that signs what a cell claims of itself. The receiver does not have it: that is for root. sender, receiver: public keys."""
    return _derived(preshared_key, _CLAIM, sender, receiver)


def answer_key(preshared_key: str | None, sender: str, receiver: str) -> str | None:
    """Derive the key that signs the answers to pushes of one direction. sender, receiver: public keys of who pushes and who answers."""
    return _derived(preshared_key, _ANSWER, sender, receiver)


def sign_push(key: str, body: bytes) -> str:
    """Return the signature of a push, in hexadecimal."""
    return hmac.new(bytes.fromhex(key), body, hashlib.sha256).hexdigest()


def check_push(key: str | None, body: bytes, signature: str) -> bool | None:
    """Tell whether a push is signed with a link's key; None where the link has none."""
    return _same(sign_push(key, body), signature) if key else None


def sign_answer(key: str, push: bytes, status: int, answer: bytes) -> str:
    """Return the signature of an answer, which is good for one push and one status. push, answer: the bodies."""
    return hmac.new(bytes.fromhex(key), hashlib.sha256(push).digest() + f"{status}\n".encode() + answer, hashlib.sha256).hexdigest()


def check_answer(key: str | None, push: bytes, status: int, answer: bytes, signature: str) -> bool | None:
    """Tell whether an answer is signed with a link's key; None where the link has none."""
    return _same(sign_answer(key, push, status, answer), signature) if key else None


def _derived(preshared_key: str | None, use: bytes, sender: str, receiver: str) -> str | None:
    if not preshared_key:
        return None
    return hmac.new(base64.b64decode(preshared_key), b"\n".join((use, sender.encode(), receiver.encode())), hashlib.sha256).hexdigest()


def _same(wanted: str, given: str) -> bool:
    return hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace"))
