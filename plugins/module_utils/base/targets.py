# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked on the internet through exits, as a text. Pure.

Whether an exit works says tcp://192.0.2.1:443 or dns://192.0.2.1; by which address it leaves, http://192.0.2.1/ or another path there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import BadInput
from .names import DNS_PORT
from .networks import address_of, host_port, is_private, network_of

MOST = 8
TCP, DNS = "tcp", "dns"
_HTTP_PORT = 80
_TARGET = re.compile(r"(tcp|dns)://(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?")

_URL = re.compile(r"http://(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?(/[A-Za-z0-9_.~/?=&%+-]*)?")
_NAMED = re.compile(r"https?://[A-Za-z0-9_.-]*[A-Za-z_-][A-Za-z0-9_.-]*(:[0-9]+)?(/.*)?", re.DOTALL)


class Target(NamedTuple):
    """A server: a TCP port that takes connections, or a resolver."""

    kind: str
    address: str
    port: int

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def protocol(self) -> str:
        """Return the protocol of its packets."""
        return "udp" if self.kind == DNS else "tcp"

    def render(self) -> str:
        """Return the target as text (inverse of parse)."""
        return f"{self.kind}://{host_port(self.address, self.port)}"


@functools.lru_cache(maxsize=64)
def known(text: str) -> Target:
    """Return a target that has been judged before. The same few are looked at each second, once for each exit."""
    return parse(text)


def of_family(texts: Iterable[str], family: int) -> list[Target]:
    """Return those targets that are of family 4 or 6, in their order."""
    return [target for target in map(known, texts) if target.family == family]


def parse(text: object, what: str = "exit_probes") -> Target:
    """Read a target. what: names it. Raises BadInput."""
    match = _TARGET.fullmatch(text) if isinstance(text, str) else None
    try:
        address = address_of((match[2] or match[3]) if match else "")
    except ValueError:
        match = None
    port = int(match[4] or (DNS_PORT if match[1] == DNS else 0)) if match else 0
    if match is None or not 0 < port < 65536:
        raise BadInput(f"{what}: {text!r} is not a target. Give one like tcp://192.0.2.1:443, tcp://[2001:db8::1]:443 or dns://192.0.2.1.")
    if is_private(network_of(str(address))):
        raise BadInput(f"{what}: {text!r} is not an address of the internet, so no exit leads to it. Give one that is.")
    return Target(match[1], str(address), port)


class Url(NamedTuple):
    """Where somebody says by which address he was asked."""

    target: Target
    path: str

    def render(self) -> str:
        """Return the URL as text (inverse of parse_url)."""
        return f"http://{host_port(self.target.address, self.target.port)}{self.path}"


def parse_url(text: object, what: str = "whoami") -> Url:
    """Read a URL. what: names it. Raises BadInput."""
    match = _URL.fullmatch(text) if isinstance(text, str) else None
    try:
        address = address_of((match[1] or match[2]) if match else "")
    except ValueError:
        match = None
    port = int(match[3] or _HTTP_PORT) if match else 0
    if match is None and isinstance(text, str) and _NAMED.fullmatch(text):
        raise BadInput(
            f"{what}: {text!r} has a name for its host, and the cell would have to ask for its address first. Give the address, as in http://192.0.2.1/."
        )
    if match is None or not 0 < port < 65536:
        raise BadInput(f"{what}: {text!r} is not a URL like http://192.0.2.1/ or http://[2001:db8::1]:8080/ip. Give one like these.")
    if is_private(network_of(str(address))):
        raise BadInput(f"{what}: {text!r} is not an address of the internet, so no exit leads to it. Give one that is.")
    return Url(Target(TCP, str(address), port), match[4] or "/")


def read(texts: list[str], what: str) -> list[str]:
    """Read what is asked through exits, each once. Raises BadInput."""
    found = list(dict.fromkeys(parse(text, what).render() for text in texts))
    if len(found) > MOST:
        raise BadInput(f"{what}: {len(found)} targets are too many, as each is asked through each exit once a second. Give {MOST} at most.")
    return found


def read_urls(texts: list[str], what: str) -> list[str]:
    """Read who says by which address exits leave: one of each family. Raises BadInput."""
    found = [parse_url(text, what) for text in texts]
    if len({url.target.family for url in found}) < len(found):
        raise BadInput(f"{what}: {', '.join(texts)} are too many. Give one with an IPv4 and one with an IPv6 address at most.")
    return [url.render() for url in found]
