# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and endpoints as WireGuard takes them: checks before they reach a file, the kernel or a record. Pure but for the derivation of a key."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Collection

from .command import Host
from .errors import BadInput
from .networks import is_host

GENERATED = "(generated)"  # a key that the run will make; in check mode nobody knows it yet
# The same for a preshared key. No text of ours has it in it: Ansible blots out a secret wherever it is.
PRESHARED_LATER = "(a preshared key that the run will make)"

_ENDPOINT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+:[0-9A-Fa-f:.]*)\]|(?P<host>[^\[\]:/\s]+)):(?P<port>[0-9]{1,5})")
_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")
NO_KEY = base64.b64encode(bytes(32)).decode()
_P = 2**255 - 19
# Points of small order: a peer with such a key shares its secret with everybody (list: cr.yp.to/ecdh.html#validate).
_LOW_ORDER = {
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    _P - 1,
}


def check_public_key(what: str, value: object) -> str:
    """Return a well-formed public key; raise BadInput for what is none or lets everybody in."""
    try:
        raw = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != value:
        raise BadInput(
            f"{what}: {value!r} is not a WireGuard key (32 bytes in base64, 44 characters). Copy it from 'wg show <interface> public-key' of the other side."
        )
    if (int.from_bytes(raw, "little") & (2**255 - 1)) % _P in _LOW_ORDER:
        raise BadInput(f"{what}: {value!r} is a key of low order, which protects nothing. Use a key made by 'wg genkey'.")
    return str(value)


def check_preshared_key(what: str, value: str) -> str:
    """Return a well-formed preshared key; raise BadInput, without the key in the text, otherwise."""
    if not is_key(value) or value == NO_KEY:
        raise BadInput(f"{what}: the preshared key is not 32 bytes in base64 or is all zero. Make one with 'wg genpsk'.")
    return value


def is_key(value: str) -> bool:
    """Tell whether a text is a key as wg takes it: a last character of another key can decode to the same bytes, and wg prints what it refuses."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == 32 and base64.b64encode(raw).decode() == value


def unnamed(text: str, keys: Collection[str]) -> str:
    """Return a text in which some public keys count as not known yet."""
    return _KEY.sub(lambda found: GENERATED if found[0] in keys else found[0], text)


def key_id(preshared_key: str | None) -> str | None:
    """Return what tells a preshared key from another one without telling it; None for none."""
    return hmac.new(base64.b64decode(preshared_key), b"pic.cells preshared key id", "sha256").hexdigest()[:16] if preshared_key else None


def check_endpoint(what: str, value: object) -> str:
    """Return host:port (IPv6 in brackets); raise BadInput for anything else."""
    match = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if not match or not is_host(match["six"] or match["host"]) or not 0 < int(match["port"]) < 65536:
        raise BadInput(f"{what}: endpoint {value!r} is not host:port. Give one like b.example.net:51821 or [2001:db8::1]:51821.")
    return str(value)


def clamped(private_key: str) -> str:
    """Return a private key as the kernel keeps and shows it; one that `wg genkey` made is the same (RFC 7748, section 5, decodeScalar25519)."""
    key = bytearray(base64.b64decode(private_key))
    key[0], key[31] = key[0] & 0xF8, key[31] & 0x7F | 0x40
    return base64.b64encode(key).decode()


def public_key_of(host: Host, private_key: str) -> str:
    """Derive the public key; the private one travels by stdin."""
    return host.run(["wg", "pubkey"], stdin=private_key + "\n").out.strip()
