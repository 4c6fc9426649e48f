# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the kernel says what changes: netlink sockets, and the lock of the iptables that says nothing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator

LEGACY_LOCK = "/run/xtables.lock"
_ROUTE, _NETFILTER = 0, 12  # NETLINK_ROUTE, NETLINK_NETFILTER
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
# Of rtnetlink: links, addresses, routes, rules and settings of both families; of nfnetlink: nftables.
_GROUPS = {_ROUTE: (1, 5, 7, 8, 9, 11, 19, 24, 25), _NETFILTER: (7,)}
_RCVBUFFORCE = 33
_BUFFER = 1 << 20  # bytes
_AT_ONCE = 512  # messages that are read before somebody looks at the clock again
_CLOSED, _GONE = 0x08 | 0x10, 0x400 | 0x8000  # IN_CLOSE_WRITE, IN_CLOSE_NOWRITE; IN_DELETE_SELF, IN_IGNORED


class Listener:
    """All that can be heard on this host.

    deaf: what cannot be, a sentence each.
    """

    def __init__(self) -> None:
        """Begin to listen."""
        self.deaf: list[str] = []
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.poll()
        for protocol, groups in _GROUPS.items():
            try:
                sock = _listening(protocol, groups)
            except OSError as error:
                what = "rules of iptables" if protocol == _NETFILTER else "routes and interfaces"
                self.deaf.append(f"Changes of {what} cannot be watched: {error.strerror}. The cell looks for them every 60 seconds instead.")
                continue
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock, select.POLLIN)
        self._lock = _Lock()

    def hear(self, seconds: float | None) -> Iterator[bytes | None]:
        """Give what comes within a time, a netlink datagram each; None where something was missed. seconds: None for ever."""
        for handle, _event in self._poll.poll(None if seconds is None else max(0, int(seconds * 1000) + 1)):
            if handle == self._lock.handle:
                continue
            for _time in range(_AT_ONCE):
                try:
                    yield self._sockets[handle].recv(1 << 16)
                except BlockingIOError:
                    break
                except OSError as error:
                    yield None
                    if error.errno != errno.ENOBUFS:  # with it there is more to read: more had happened than there was room for
                        break

    def hear_legacy(self) -> bool:
        """Tell whether an iptables-legacy has ended since."""
        return self._lock.taken()

    def listen_to_legacy(self) -> None:
        """Hear iptables-legacy from now on, unless that is done already."""
        if self._lock.open():
            self._poll.register(self._lock.handle, select.POLLIN)

    def drop(self) -> None:
        """Forget what was to be heard until now."""
        for _datagram in self.hear(0):
            pass
        self._lock.taken()


def _listening(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError:
        sock.close()
        raise
    return sock


class _Lock:
    """The lock of iptables-legacy, which each of its calls opens and closes; the kernel tells nobody of its rules.

    Python has no inotify of its own: this is the C library's, by ctypes.
    """

    def __init__(self) -> None:
        self.handle = -1
        self._watched = False
        self._tried = False

    def open(self) -> bool:
        """Begin to listen, as soon as the lock is there. Returns whether there is a new handle."""
        if self._watched or (self._tried and self.handle < 0):
            return False
        new = not self._tried
        try:
            library = ctypes.CDLL(None, use_errno=True)
            if new:
                self._tried = True
                self.handle = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self.handle >= 0:
                self._watched = library.inotify_add_watch(self.handle, os.fsencode(LEGACY_LOCK), _CLOSED | 0x400) >= 0
        except (AttributeError, MemoryError, OSError):  # no such library, or a sandbox that forbids what ctypes does
            self._tried = True
        return new and self.handle >= 0

    def taken(self) -> bool:
        """Tell whether somebody has had it since."""
        heard = False
        while self.handle >= 0:
            try:
                data = os.read(self.handle, 4096)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    return True
                break
            while len(data) >= 16:
                _watch, mask, _cookie, length = struct.unpack_from("=iIII", data)
                heard = True
                if mask & _GONE:
                    self._watched = False
                data = data[16 + length :]
        return heard
