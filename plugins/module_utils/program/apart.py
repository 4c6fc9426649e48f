# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A WireGuard tunnel apart from this host: its interface is in a network namespace of its own, so whatever comes by it reaches nothing here."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ..base.command import Host
from ..base.errors import CellError, CommandFailed
from ..base.names import PAIRING
from ..kernel.model import WgPeer
from ..parts.peer_sync import Push
from .transport import send

_MTU = 1280  # bytes: what each way has that carries IPv6 (RFC 8200, section 5)
_NEWNET = 0x40000000  # CLONE_NEWNET, linux/sched.h
_LOOKS, _PAUSE = 50, 0.1  # and seconds between two of them
_THERE, _GONE = 0, 1  # exit codes of wg show
_AGAIN = (0, 1, 2, 255)  # exit codes of ip where there is nothing to take away
Found = TypeVar("Found")


class Tunnel:
    """The tunnel while it stands; leaving the block takes it away."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __enter__(self) -> Tunnel:
        """Make the interface where WireGuard's own packets leave as all do, and move it. Raises CellError."""
        self._take_away()  # what a run has left that was killed
        for number in (signal.SIGTERM, signal.SIGHUP):  # as when Ansible gives up: the tunnel would go on dialling
            with contextlib.suppress(ValueError):  # in another thread than the main one
                signal.signal(number, _end)
        try:
            self.host.run(["ip", "netns", "add", PAIRING])
        except CommandFailed as error:
            raise CellError(
                f"An invitation is redeemed in a network namespace, and this host cannot make one: {error.output.strip() or 'no reason given'}. "
                "Let the other cell redeem an invitation of this one."
            ) from None
        try:
            if self.host.run(["ip", "link", "add", "dev", PAIRING, "type", "wireguard"], ok=_AGAIN).rc:
                self._begin_without_the_kernel()
            self.host.run(["ip", "link", "set", "dev", PAIRING, "netns", PAIRING])
        except BaseException:
            self._take_away()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._take_away()

    def be(self, private_key: str, source: str, peer: WgPeer) -> None:
        """Be who has this key, with this address, for a peer that is dialled anew. peer: its endpoint is an address."""
        lines = ["[Interface]", f"PrivateKey = {private_key}", "[Peer]", f"PublicKey = {peer.public_key}", f"PresharedKey = {peer.preshared_key}"]
        lines += [f"AllowedIPs = {', '.join(peer.allowed_ips)}", f"Endpoint = {peer.endpoint}", f"PersistentKeepalive = {peer.keepalive}"]
        self._inside("wg", "setconf", PAIRING, "/dev/stdin", stdin="".join(f"{line}\n" for line in lines))
        ways = [f"address replace {source} dev {PAIRING}", f"link set dev {PAIRING} mtu {_MTU} up"]
        ways += [f"route replace {network} dev {PAIRING}" for network in peer.allowed_ips]
        self.host.run(["ip", "-n", PAIRING, "-batch", "-"], stdin="".join(f"{line}\n" for line in ways))

    def is_up(self) -> bool:
        """Tell whether the peer has answered."""
        return any(not line.endswith("\t0") for line in self._inside("wg", "show", PAIRING, "latest-handshakes").out.splitlines())

    def send(self, push: Push) -> dict[str, Any] | None:
        """Send something through the tunnel; return the answer as transport.send does."""
        return _within(f"/run/netns/{PAIRING}", lambda: send(push))

    def _begin_without_the_kernel(self) -> None:
        """Make the interface as wg-quick does for a kernel without WireGuard; the program is in the background before it takes settings."""
        self.host.run(["wireguard-go", PAIRING])
        self._wait_for(_THERE)

    def _wait_for(self, rc: int) -> None:
        """Wait until wg finds the interface, or no longer does."""
        for _look in range(_LOOKS):
            if self.host.run(["wg", "show", PAIRING], ok=(_THERE, _GONE)).rc == rc:
                return
            time.sleep(_PAUSE)

    def _inside(self, *argv: str, stdin: str | None = None) -> Any:
        return self.host.run(["ip", "netns", "exec", PAIRING, *argv], stdin=stdin)

    def _take_away(self) -> None:
        # The kernel clears a namespace some time after its name is gone. Until then the tunnel would dial with the key that the link's own has by now.
        self.host.run(["ip", "-n", PAIRING, "link", "delete", "dev", PAIRING], ok=_AGAIN)
        self.host.run(["ip", "netns", "delete", PAIRING], ok=_AGAIN)
        self.host.run(["ip", "link", "delete", "dev", PAIRING], ok=_AGAIN)
        self._wait_for(_GONE)  # the program in the kernel's place notices by itself


def _end(*_signal: object) -> None:
    raise SystemExit(1)


def _within(namespace: str, work: Callable[[], Found]) -> Found | None:
    """Do something in a thread that is in a network namespace. Returns None where it cannot be entered."""
    found: list[Found] = []

    def enter() -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                entered = ctypes.CDLL(None).setns(descriptor, _NEWNET) == 0
            finally:
                os.close(descriptor)
            if entered:  # the thread alone is there, and ends with it
                found.append(work())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0] if found else None
