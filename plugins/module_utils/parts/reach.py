# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this cell reaches outside of every link: no network that a link gets may hold it, or the cell would lose it in the tunnel.

Another cell says itself which networks it has. Only those that a link does not have yet are judged: somebody may well use a
resolver in a linked cell afterwards, or manage a cell through its link.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from ..base.command import Host
from ..base.errors import BadInput
from ..base.names import EXIT, OWN
from ..base.networks import FAMILIES, Overlaps, address_of, host_of, interface_of, network_of
from ..kernel import wireguard
from ..kernel.model import Interface
from ..records.model import State

# That of systemd-resolved is the one that is used where the first one names its stub.
_RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_GENERATIONS = 32  # of processes, from the module up to the SSH server


def check_reach(host: Host, wanted: State, stored: State, kernel: Mapping[str, Interface]) -> None:
    """Refuse new networks of links that hold an endpoint of a link, a resolver in use, or the address that the run came from. Raises BadInput."""
    new, names = Overlaps(), set[str]()
    for name, link in sorted(wanted.links.items()):
        before = [*stored.links[name].networks, *stored.links[name].given_addresses] if name in stored.links else []
        for network in (*link.networks, *link.given_addresses):
            if network not in before:
                new.add(interface_of(network).network, (name, network))
                names.add(name)
    if not names:
        return
    for peer in wanted.peers.values():
        for excepted in peer.route_except:
            for _network, (name, network) in new.of(network_of(excepted)):
                raise BadInput(
                    f"The network {network} of link {name!r} overlaps {excepted}, an exception of peer {peer.name!r} (route_except). "
                    "Give the link the other cell's own networks, or take the exception away first."
                )
    for what, address in (*_endpoints(host, wanted, names, kernel), *_resolvers(host, wanted), *_origin(host)):
        for _network, (name, network) in new.of(network_of(address)):
            if wanted.links[name].provided:
                raise BadInput(f"The Address {network} of exit {name!r} is {address}, {what}. This cell would then take it for its own. Use another file.")
            raise BadInput(
                f"The network {network} of link {name!r} contains {address}, {what}. This cell would then reach that address only through the tunnel. "
                "Give the link the other cell's own networks."
            )


def _endpoints(host: Host, wanted: State, new: set[str], kernel: Mapping[str, Interface]) -> Iterable[tuple[str, str]]:
    names = {link.public_key: name for name, link in wanted.links.items() if link.public_key}
    for name, link in sorted(wanted.links.items()):
        # Names cost time, and the kernel knows where the other links go.
        found = _address_in(link.endpoint) or (name in new and link.endpoint and _address_in(wireguard.resolve(host, link.endpoint)))
        if found:
            yield f"the endpoint of link {name!r}", found
    for interface in kernel.values():
        for key, peer in interface.peers.items():
            found = _address_in(peer.endpoint)
            if found and key in names:
                yield f"the endpoint of link {names[key]!r}", found


def _address_in(endpoint: str | None) -> str | None:
    """Return the address in an endpoint, None where it has a name."""
    return _address(host_of(endpoint or ""))


def _resolvers(host: Host, wanted: State) -> Iterable[tuple[str, str]]:
    for target in (target for family in FAMILIES for target in wanted.cell.asked_through_exits(family)):
        yield "whom this cell asks through exits (exit_probes, whoami)", target.address
    devices = (address for peer in wanted.peers.values() for address in peer.exit_dns if address not in (EXIT, OWN))
    for address in dict.fromkeys([*wanted.cell.exit_dns, *devices]):
        yield "a resolver of this cell's devices (exit_dns)", address
    for path in _RESOLVERS:
        for line in _read(host, path).split("\n"):
            words = line.split()
            found = _address(words[1]) if len(words) > 1 and words[0] == "nameserver" else None
            if found:
                yield f"a name server that this cell uses ({path})", found


def _origin(host: Host) -> Iterable[tuple[str, str]]:
    """Find the address that an SSH session came from: sudo drops it from the environment, so the processes above are asked."""
    process = "self"
    for _generation in range(_GENERATIONS):
        for entry in _read(host, f"/proc/{process}/environ").split("\0"):
            name, _equals, value = entry.partition("=")
            found = _address(value.partition(" ")[0]) if name in ("SSH_CONNECTION", "SSH_CLIENT") else None
            if found:
                yield "the address that this run comes from", found
                return
        # The command's name, in parentheses, can hold anything.
        after = _read(host, f"/proc/{process}/stat").rpartition(")")[2].split()
        process = after[1] if len(after) > 1 else "0"
        if not process.isdecimal() or int(process) < 2:
            return


def _read(host: Host, path: str) -> str:
    with contextlib.suppress(OSError):  # the process has ended, or is none of ours
        return host.read(path) or ""
    return ""


def _address(text: str) -> str | None:
    try:
        return str(address_of(text.partition("%")[0]))
    except ValueError:
        return None
