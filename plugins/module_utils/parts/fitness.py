# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host cannot be for a cell, found before anything changes: a family that its kernel does not have, a port that somebody else listens on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..base.command import Host
from ..base.errors import BadInput
from ..kernel.model import Interface
from ..kernel.routing import setting
from ..records.model import Cell

_LISTENS = {"udp": "07", "tcp": "0A"}  # the kernel's TCP_CLOSE, which is how it shows a UDP socket that is not connected, and TCP_LISTEN


def listening(host: Host, protocol: str) -> dict[int, set[str]]:
    """Return on which ports somebody listens, each with the addresses as the kernel shows them (hexadecimal)."""
    ports: dict[int, set[str]] = {}
    for path in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
        for line in (host.read(path) or "").splitlines()[1:]:
            words = line.split()
            if len(words) > 3 and words[3] == _LISTENS[protocol]:
                address, _colon, port = words[1].rpartition(":")
                ports.setdefault(int(port, 16), set()).add(address)
    return ports


def everywhere(addresses: Iterable[str]) -> bool:
    """Tell whether some of the addresses, as the kernel shows them, stand for all."""
    return any(not address.strip("0") for address in addresses)


def check_families(host: Host, cell: Cell, interfaces: Iterable[str], kernel: Mapping[str, Interface]) -> None:
    """Refuse IPv6 networks where the kernel gives no interface an IPv6 address. interfaces: ours that are to have one. Raises BadInput naming the setting."""
    networks = [network for network in cell.networks if ":" in network]
    if not networks:
        return
    said = f"Cell {cell.name!r} has IPv6 networks ({', '.join(networks)}), but"
    if not host.exists("/proc/sys/net/ipv6"):
        raise BadInput(
            f"{said} this host's kernel has no IPv6 (ipv6.disable=1 on its command line). Remove that and reboot, or leave IPv6 out of cell_networks."
        )
    for name in dict.fromkeys(interfaces):
        where = name if name in kernel else "default"
        if setting(host, f"net/ipv6/conf/{where}/disable_ipv6") == "1":
            raise BadInput(
                f"{said} net.ipv6.conf.{where}.disable_ipv6 is 1 on this host, so interface {name!r} cannot have an IPv6 address. Set it to 0 now and in "
                "the file below /etc/sysctl.d that it comes from ('sysctl --system' shows which), or leave IPv6 out of cell_networks."
            )


def check_port(host: Host, name: str, port: int | None, remedy: str, kernel: Mapping[str, Interface]) -> None:
    """Refuse a port of an interface that another program listens on. remedy: the setting that gives another one. Raises BadInput."""
    interface = kernel.get(name)
    if not port or (interface is not None and interface.listen_port == port) or any(other.listen_port == port for other in kernel.values()):
        return  # whose of several interfaces it is has been judged already
    if port in listening(host, "udp"):
        raise BadInput(
            f"Another program listens on UDP port {port}, which interface {name!r} needs. See which with \"ss -ulpn 'sport = :{port}'\", and end it, or "
            f"set {remedy} to another port."
        )
