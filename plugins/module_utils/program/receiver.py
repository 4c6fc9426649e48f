# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unprivileged receiver of pushes: it judges by the view that root renders, writes one file to a spool, and answers.

One thread and non-blocking sockets: what a connection can hold is bounded, and none keeps another waiting.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Union

from ..base.command import Host
from ..base.errors import BadInput, WriteFailed
from ..base.networks import address_of
from ..base.texts import printable
from ..base.times import render_moment
from ..parts import claims
from ..parts.peer_sync import BODY_LIMIT, CONFLICT, EXIT_PATH, FORBIDDEN, OK, SIGNATURE, Evidence, judge, known, parse_push
from ..parts.signing import check_push, sign_answer
from ..parts.visible import Delivery, View, parse_view, render_delivery
from ..records.model import Link
from . import spool
from .requests import HEAD_LIMIT, TEXTS, Head, Refused, parse_head
from .uplink import internet

PATIENCE = 5.0  # seconds for a whole request and its answer
CONNECTIONS = 256  # at once; the oldest gives way, of whoever has most
BURST, REFILL = 8, 6.0  # pushes of one cell that are taken at once, and seconds for each further one: root has work with each
_LOOK_AGAIN = 0.5  # seconds between looks at the view and the interfaces
_BACKLOG = 64
_SIOCGIFINDEX = 0x8933  # linux/sockios.h


def receive(view: View, delivery: Delivery) -> tuple[str, int, dict[str, Any]]:
    """Judge a push by the view. Returns the sender's name, status and answer; what was applied is to be handed over. Raises Refused."""
    try:
        message = parse_push(delivery.body)
    except BadInput:
        raise Refused(400) from None
    name = message["from_cell"]
    link = view.links.get(name)
    mac_ok = link is not None and check_push(view.push_keys[name], delivery.body, delivery.signature)
    verdict = judge(link, message, Evidence("tunnel", delivery.interface, delivery.source, mac_ok))
    if link is None or verdict.status == FORBIDDEN:
        raise Refused(FORBIDDEN)
    generation = max(known(link), message["generation"]) if verdict.accepted else known(link)
    return name, verdict.status, {"applied": verdict.accepted, "generation": generation, "reason": verdict.reason}


def receive_claim(view: View, delivery: Delivery, now: str) -> tuple[str, int, dict[str, Any]]:
    """Judge what a cell claims of itself. Returns as receive does; whether it counts, and whose it is, is for root, who says so. Raises Refused."""
    link = next((one for one in view.links.values() if claims.comes_by(one, delivery, now)), None)
    if link is None:
        raise Refused(FORBIDDEN)
    try:
        said = claims.said(link, delivery.body)
    except BadInput as error:
        return link.name, CONFLICT, {"applied": False, "generation": 0, "reason": printable(str(error))[: claims.LONGEST]}
    later = claims.known_count(link, said, claims.fingerprint(delivery.body))
    if later:
        return link.name, CONFLICT, {"applied": False, "generation": later, "reason": claims.OUTDATED}
    why = claims.judged(link, delivery.body)
    reason = claims.HANDED_OVER if why is None else why or claims.TAKEN_OVER
    # What was refused is judged again: what it collided with may be gone.
    return link.name, CONFLICT if why else OK, {"applied": why != "", "generation": 0, "reason": reason}


def asker(view: View, interface: str, source: str) -> Link | None:
    """Return the link of the cell that asks by this interface from this address; None for its devices and for everybody else."""
    return next((link for link in view.links.values() if link.interface == interface and source in link.address), None)


@dataclass
class Pace:
    """How much one cell may still say at once: BURST pushes, and one more every REFILL seconds."""

    left: float = BURST
    seen: float = 0.0

    def allows(self, now: float) -> bool:
        """Tell whether one more is taken, and count it. now: seconds on a clock that only goes on."""
        self.left = min(BURST, self.left + (now - self.seen) / REFILL)
        self.seen = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class _Connection:
    """One connection: when it began, by which interface and from where it came, what was read, what is left to say."""

    socket: socket.socket
    began: float
    interface: str
    source: str
    data: bytearray = field(default_factory=bytearray)
    head: Head | None = None
    answer: bytes = b""


@dataclass
class _Listener:
    """A listening socket on one address of one interface; index tells an interface from a later one of the same name."""

    socket: socket.socket
    interface: str
    index: int


_Endpoint = Union[_Connection, _Listener]


class Server:
    """The receiver while it runs."""

    def __init__(self, host: Host, view: str, folder: str, log: Callable[[str], None] = lambda _line: None) -> None:
        """host: whose files it reads and writes. view: the file that root renders. folder: the spool, which root empties. log: is told what is odd."""
        self.host = host
        self.view_path, self.spool = view, folder
        self.log = log
        self.view = View()
        self._text: str | None = None
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        self._listeners: dict[tuple[str, str, int], _Listener] = {}
        self._looked = 0.0
        self._spooled: dict[str, int] = {}
        self._pace: dict[tuple[str, bool], Pace] = {}  # a claim is not signed for this program: it may use up nothing of pushes
        self._complaints: set[str] = set()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Serve for ever, or until somebody says so."""
        try:
            while not until():
                self.step()
        finally:
            self.close()

    def close(self) -> None:
        """Close all sockets."""
        for endpoint in (*self._connections, *(listener.socket for listener in self._listeners.values())):
            endpoint.close()
        self._selector.close()

    def step(self, wait: float = _LOOK_AGAIN) -> None:
        """Do what there is to do, or wait for something."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_AGAIN:
            self._looked = now
            self._read_view()
            self._listen()
            for connection in [c for c in self._connections.values() if now - c.began > PATIENCE]:
                self._drop(connection)
        for key, _events in self._selector.select(wait):
            endpoint: _Endpoint = key.data
            if isinstance(endpoint, _Listener):
                self._accept(endpoint)
            elif endpoint.socket in self._connections:
                self._serve(endpoint)

    def _read_view(self) -> None:
        """Read the view anew where it has changed; without one, or with one that is none, nobody is believed. While it cannot be read the last one counts."""
        try:
            text = self.host.read(self.view_path)
        except OSError as error:
            self._complain(f"{self.view_path} cannot be read: {error.strerror}; the version read before stays in use")
            return
        if text == self._text:
            return
        self._text = text
        try:
            self.view = parse_view(text) if text else View()
        except ValueError as error:
            self.view = View()
            self._complain(f"{self.view_path}: {error}")
        for name, link in self.view.links.items():
            waiting = self._spooled.get(name, 0)  # what is in the spool is known, though root has not taken it over yet
            if waiting > link.remote_generation and self.host.exists(spool.path(self.spool, name, waiting)):
                link.remote_generation = waiting

    def _listen(self) -> None:
        """Listen on each of the cell's addresses, and of those by which a link knows it, by that interface; one that was made anew gets a new socket."""
        links = self.view.links.values()
        wanted = {(str(link.interface), address, self.view.port) for link in links for address in (*self.view.addresses, *link.known_as)}
        indices = {interface: _index_of(interface) for interface in {str(link.interface) for link in self.view.links.values()}}
        for key, listener in list(self._listeners.items()):
            if key not in wanted or indices[listener.interface] != listener.index:
                self._selector.unregister(listener.socket)
                listener.socket.close()
                del self._listeners[key]
        for key in sorted(wanted - set(self._listeners)):
            interface, address, port = key
            index = indices[interface]
            if index:
                try:
                    self._listeners[key] = _Listener(_listening(interface, address, port), interface, index)
                except OSError as error:  # the interface has no address yet, or is gone again
                    self._complain(f"cannot listen on {address} port {port} through {interface}: {error.strerror}")
                    continue
                self._selector.register(self._listeners[key].socket, selectors.EVENT_READ, self._listeners[key])

    def _accept(self, listener: _Listener) -> None:
        try:
            accepted, address = listener.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._connections:
                self._drop(_least_wanted(self._connections.values()))  # or the same connection would be offered again and again
            return
        accepted.setblocking(False)
        if len(self._connections) >= CONNECTIONS:
            self._drop(_least_wanted(self._connections.values()))
        connection = _Connection(accepted, time.monotonic(), listener.interface, str(address_of(address[0].partition("%")[0])))
        self._connections[accepted] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _drop(self, connection: _Connection) -> None:
        self._connections.pop(connection.socket, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _serve(self, connection: _Connection) -> None:
        """Read on, and answer as soon as the request is whole or wrong."""
        try:
            if not connection.answer:
                self._read(connection)
            if connection.answer:
                sent = connection.socket.send(connection.answer)
                connection.answer = connection.answer[sent:]
                if connection.answer:
                    self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
                else:
                    self._end(connection)
        except BlockingIOError:
            return
        except (OSError, EOFError):
            self._drop(connection)

    def _end(self, connection: _Connection) -> None:
        """Close so that the answer arrives even where the sender has said more than was read."""
        connection.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(BlockingIOError):
            for _time in range(16):
                if not connection.socket.recv(BODY_LIMIT):
                    break
        self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        part = connection.socket.recv(HEAD_LIMIT)
        if not part:
            raise EOFError
        connection.data += part
        try:
            if connection.head is None:
                end = connection.data.find(b"\r\n\r\n")
                if end > HEAD_LIMIT or (end < 0 and len(connection.data) > HEAD_LIMIT):
                    raise Refused(431)
                if end < 0:
                    return
                connection.head = parse_head(bytes(connection.data[:end]))
                del connection.data[: end + 4]
            if len(connection.data) > connection.head.length:
                raise Refused(400)
            if connection.head.path == EXIT_PATH:
                connection.answer = self._say_internet(connection)
            elif len(connection.data) == connection.head.length:
                delivery = Delivery(connection.interface, connection.source, connection.head.signature, bytes(connection.data))
                connection.answer = self._receive(delivery, connection.head.path)
        except Refused as error:
            connection.answer = _answer(error.status, _body({"error": str(error)}))

    def _say_internet(self, connection: _Connection) -> bytes:
        self._read_view()
        link = asker(self.view, connection.interface, connection.source)
        if link is None:
            raise Refused(FORBIDDEN)
        # Who is offered no exit has none here, whatever it has heard yet, and learns nothing else.
        return _answer(
            200, _body({"internet": {f"ipv{family}": there and link.exit_offered for family, there in internet(self.host, self.view.uplink).items()}})
        )

    def _receive(self, delivery: Delivery, path: str) -> bytes:
        """Judge what is said, hand it over where it is accepted, and return the answer. A push that was handed over is known: a replay finds nothing to do."""
        self._read_view()  # root may just have withdrawn an offer, or ended a link
        claimed = path == claims.PATH
        name, status, answer = receive_claim(self.view, delivery, render_moment(time.time())) if claimed else receive(self.view, delivery)
        if answer["applied"]:
            if not self._pace.setdefault((name, claimed), Pace()).allows(time.monotonic()):
                raise Refused(429)
            self._hand_over(
                spool.claim_path(self.spool, name, claims.is_about_networks(delivery.body)) if claimed else spool.path(self.spool, name, answer["generation"]),
                delivery,
            )
            if not claimed:
                # Root reads what it finds and removes what it has read: a later push is never in a file of the same name.
                with contextlib.suppress(WriteFailed):
                    self.host.remove(spool.path(self.spool, name, self._spooled.get(name, 0)))
                self._spooled[name] = self.view.links[name].remote_generation = answer["generation"]
        body, key = _body(answer), self.view.answer_keys[name]
        return _answer(status, body, sign_answer(key, delivery.body, status, body) if key else None)

    def _hand_over(self, path: str, delivery: Delivery) -> None:
        try:
            self.host.write(path, render_delivery(delivery))
        except WriteFailed as error:
            self._complain(str(error))
            raise Refused(503) from None

    def _complain(self, line: str) -> None:
        if line not in self._complaints and len(self._complaints) < 1000:
            self._complaints.add(line)
            self.log(line)


def _index_of(interface: str) -> int | None:
    """Return the number of an interface, which is another one once it was made anew; None where it is not there."""
    # socket.if_nametoindex would open a socket of a family that the unit does not allow.
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as any_socket:
        try:
            found = fcntl.ioctl(any_socket, _SIOCGIFINDEX, struct.pack("16si12x", interface.encode(), 0))
        except OSError:
            return None
    return int(struct.unpack("16si12x", found)[1])


def _least_wanted(connections: Collection[_Connection]) -> _Connection:
    """Return the connection that gives way: the oldest of whoever has most. A cell has an interface, or an address on one that it has not alone."""
    ((interface, _count),) = Counter(one.interface for one in connections).most_common(1)
    ((source, _count),) = Counter(one.source for one in connections if one.interface == interface).most_common(1)
    return next(one for one in connections if (one.interface, one.source) == (interface, source))


def _listening(interface: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Needs no privilege while the socket is bound to no device yet (Linux 5.7).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _body(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _answer(status: int, body: bytes, signature: str | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} {TEXTS[status]}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{SIGNATURE}: {signature}"] if signature else []
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body
