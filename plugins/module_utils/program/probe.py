# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unprivileged watcher of exits: it asks each through its tunnel, once a second, and writes down which do not work.

A connection that is accepted or refused shows that the tunnel works. Where the other cell's receiver answers, it says whether
that cell has a route to the internet; an older one says nothing of it. Where targets are stated, they say whether there is internet.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from ..base.command import Host
from ..base.errors import WriteFailed
from ..base.targets import DNS, TCP, Target, known
from ..base.times import render_moment
from ..parts import verdicts
from ..parts.peer_sync import EXIT_PATH
from ..parts.verdicts import CHANGED, VERDICT, Limits, Watched, parse_watched, render_verdict
from ..records.model import Down
from .health import Health

PERIOD = 1.0  # seconds from one question to the next
PATIENCE = 0.9  # seconds for an answer
_DELAY = 0.2  # seconds that this program may lose to others on its host; beyond that silence says nothing of an exit
_ANSWER_LIMIT = 4096  # bytes
_FILLING = 4000  # bytes that take more than one packet of any tunnel, and fewer than a receiver reads
SMALL, LARGE = (f"GET {EXIT_PATH} HTTP/1.1\r\nConnection: close\r\n{more}\r\n".encode() for more in ("", f"X-Filling: {'.' * _FILLING}\r\n"))
_STATUS = re.compile(rb"HTTP/1\.[01] 200(?: |\r\n)")
_FAMILIES = ("ipv4", "ipv6")
# Why a connection by an interface cannot even begin; anything else is a fault of this host: it has no port left, or no memory.
_NO_WAY = (errno.ENODEV, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH)

# A question for the name servers of the root (RFC 1035, 4.1): a header with one question, an empty name, type NS, class IN.
_WHO_IS_THE_ROOT = bytes.fromhex("7069010000010000000000000000020001")

Answer = Optional[dict[str, bool]]  # whether the exit has internet, by family as it says it; None where its tunnel did not answer


@dataclass
class _Question:
    """A connection to an exit, or through it to a target on the internet."""

    exit: str
    request: bytes = b""
    answer: bytes = b""
    reached: bool = False
    target: Target | None = None
    socket: socket.socket = field(init=False)


def ask(exits: Iterable[Watched], patience: float = PATIENCE, request: bytes = SMALL) -> dict[str, Answer]:
    """Ask all exits at the same time, each at its first address, and at all of them once half of the time is over without a sign of it.

    patience: seconds for all of it. request: SMALL, or LARGE to see whether packets of full size arrive.
    Returns the answer of each, but not of one where it is this host that could not ask, or had no time to.
    """
    exits = list(exits)
    answers: dict[str, Answer] = {item.name: None for item in exits}
    reached: dict[str, set[int]] = {item.name: set() for item in exits}
    unasked: set[str] = set()
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for item in exits:
            unasked |= _begin(item, item.addresses[:1], request, answers, selector)
            unasked |= _begin_targets(item, reached, selector)
        _listen(answers, reached, selector, began + patience / 2)
        # A lost packet would be sent again by the kernel a second after the first: too late.
        for item in exits:
            if answers[item.name] is None:
                unasked |= _begin(item, item.addresses, request, answers, selector)
            unasked |= _begin_targets(item, reached, selector)
        _listen(answers, reached, selector, began + patience)
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    for item in exits:
        answers[item.name] = _with_targets(item, answers[item.name], reached[item.name])
    delayed = time.monotonic() - began > patience + _DELAY
    works = {item.name: why_down(item, answers[item.name]) is None for item in exits}
    return {name: answer for name, answer in answers.items() if works[name] or not (delayed or name in unasked)}


def _with_targets(item: Watched, answer: Answer, reached: set[int]) -> Answer:
    """Return what an exit has answered, with what its targets say instead of it. A target that was reached has come through the tunnel."""
    if not item.targets or (answer is None and not reached):
        return answer
    return {**(answer or {}), **{f"ipv{family}": family in reached for family in item.judged}}


def _begin(item: Watched, addresses: Iterable[str], request: bytes, answers: dict[str, Answer], selector: selectors.BaseSelector) -> set[str]:
    """Begin to ask an exit at some of its addresses. Returns it where this host cannot."""
    unasked = set()
    for address in addresses:
        code = _connect(item, Target(TCP, address, item.port), _Question(item.name, request), selector)
        if code == errno.ECONNREFUSED:  # at once, as on the loopback device
            answers[item.name] = {}
        elif code not in (0, *_NO_WAY):
            unasked.add(item.name)
    return unasked


def _begin_targets(item: Watched, reached: dict[str, set[int]], selector: selectors.BaseSelector) -> set[str]:
    """Begin to ask those targets of an exit that are of a family in which none was reached yet. Returns the exit where this host cannot."""
    asked = [target for target in map(known, item.targets) if target.family not in reached[item.name]]
    codes = {_connect(item, target, _Question(item.name, target=target), selector) for target in asked}
    return {item.name} if codes - {0, errno.ECONNREFUSED, *_NO_WAY} else set()


def _connect(item: Watched, target: Target, question: _Question, selector: selectors.BaseSelector) -> int:
    """Begin to connect by the exit's interface, whose address the kernel takes as the source. Returns why that cannot be done, an errno, or 0."""
    asks_dns, family = target.kind == DNS, socket.AF_INET6 if target.family == 6 else socket.AF_INET
    connection = None
    try:
        connection = question.socket = socket.socket(family, socket.SOCK_DGRAM if asks_dns else socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, item.interface.encode())
        code = connection.connect_ex((target.address, target.port))
        if asks_dns and not code:
            connection.send(_WHO_IS_THE_ROOT)
    except OSError as error:
        code = error.errno or errno.EIO
    if connection and code in (0, errno.EINPROGRESS):
        selector.register(connection, selectors.EVENT_READ if asks_dns else selectors.EVENT_WRITE, question)
        return 0
    if connection:
        connection.close()
    return code


def _listen(answers: dict[str, Answer], reached: dict[str, set[int]], selector: selectors.BaseSelector, until: float) -> None:
    """Take answers until all questions are at their end, or some time has come; what has come in by then counts, however late this program got to see it."""
    left = until - time.monotonic()
    while selector.get_map():
        for key, _events in selector.select(max(0.0, left)):
            question = key.data
            if question.target:
                if _has_answered(question):
                    reached[question.exit].add(question.target.family)
                selector.unregister(question.socket)
                question.socket.close()
                continue
            done = _go_on(question, selector)
            if question.reached and answers[question.exit] is None:
                answers[question.exit] = {}
            if done:
                if question.reached:
                    answers[question.exit] = _merged(answers[question.exit], question)
                selector.unregister(question.socket)
                question.socket.close()
        if left <= 0:
            return
        left = until - time.monotonic()


def _has_answered(question: _Question) -> bool:
    """Tell whether a target has taken the connection, or answered. Whoever refuses can be a firewall on the way."""
    try:
        if question.target and question.target.kind == DNS:
            return bool(question.socket.recv(_ANSWER_LIMIT))
        return question.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    except OSError:
        return False


def _go_on(question: _Question, selector: selectors.BaseSelector) -> bool:
    """Do what can be done, and tell whether the question is at its end."""
    try:
        if not question.reached:
            code = question.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            question.reached = code in (0, errno.ECONNREFUSED)
            if code:
                return True
            question.socket.send(question.request)
            selector.modify(question.socket, selectors.EVENT_READ, question)
            return False
        part = question.socket.recv(_ANSWER_LIMIT)
        question.answer += part
        return not part or len(question.answer) >= _ANSWER_LIMIT
    except BlockingIOError:
        return False
    except OSError:
        return True


def _merged(before: Answer, question: _Question) -> Answer:
    """Return what is known of an exit with one more answer: what it says by one address counts."""
    head, _empty, body = question.answer.partition(b"\r\n\r\n")
    said: dict[str, bool] = {}
    if _STATUS.match(head):
        with contextlib.suppress(ValueError, RecursionError, AttributeError, TypeError):
            said = {family: value for family, value in json.loads(body)["internet"].items() if family in _FAMILIES and isinstance(value, bool)}
    return {**(before or {}), **said}


def why_down(item: Watched, answer: Answer) -> str | None:
    """Return why an exit does not work, of names.DOWN; None where it does, or nobody can tell.

    That it lacks IPv6 says nothing: the devices' IPv6 is refused then, and their IPv4 works.
    """
    if answer is None:
        return "silent"
    return "offline" if any(answer.get(f"ipv{family}") is False for family in item.judged) else None


@dataclass
class Prober:
    """The watcher while it runs. view: the file that root renders. folder: where the verdict goes. say: is told what a person has to know."""

    host: Host
    view: str
    folder: str
    say: Callable[[str], None]
    limits: Limits = field(default_factory=Limits)
    exits: list[Watched] = field(default_factory=list)
    health: dict[str, Health] = field(default_factory=dict)
    _text: str | None = None
    _written: str | None = None
    _faults: set[str] = field(default_factory=set)  # of this step
    _before: set[str] = field(default_factory=set)  # of the step before

    def run(self) -> None:
        """Watch for ever."""
        self.resume()
        while True:
            began = time.monotonic()
            self.step()
            time.sleep(max(0.0, began + PERIOD - time.monotonic()))

    def resume(self) -> None:
        """Go on from what the process before this one has found."""
        down = verdicts.read(self.host, f"{self.folder}/{VERDICT}")
        self._written = render_verdict(down) if down else None
        self.health = {name: Health(found, time.monotonic()) for name, found in down.items()}

    def step(self) -> None:
        """Ask all exits once, and write down what has changed."""
        self._read_view()
        answers = ask(self.exits) if self.exits else {}
        moment = render_moment(time.time())
        for item in self.exits:
            if item.name not in answers:
                self._complain(f"{item.name} cannot be asked: this host is too busy, or has no connection left for it")
                continue
            health = self.health.setdefault(item.name, Health(now=time.monotonic()))
            if health.judge(why_down(item, answers.get(item.name)), self.limits, time.monotonic(), moment):
                self.say(self._words(item.name, health))
        self._write({name: health.down for name, health in sorted(self.health.items()) if health.down})
        self._before, self._faults = self._faults, set()

    def _read_view(self) -> None:
        """Read anew what root lets this program see; while it cannot be read the last one counts."""
        try:
            text = self.host.read(self.view)
            if text == self._text:
                return
            self._text = text
            self.limits, self.exits = parse_watched(text) if text else (Limits(), [])
        except (OSError, ValueError) as error:
            self._complain(f"{self.view} cannot be read: {error}")
            return
        names = {item.name for item in self.exits}
        self.health = {name: health for name, health in self.health.items() if name in names}

    def _complain(self, line: str) -> None:
        """Say what is wrong, once while it is."""
        if line not in self._before | self._faults:
            self.say(line)
        self._faults.add(line)

    def _words(self, name: str, health: Health) -> str:
        if health.down is None:
            return f"{name} works again; devices that prefer it leave by it"
        if health.down.answers:
            hold = health.hold(self.limits, time.monotonic())
            return f"{name} works again; it is used where no other exit works, and everywhere once it has worked for {hold:g} s"
        return f"{health.down.words(name)}; devices leave by another exit of theirs, or directly where that is stated"

    def _write(self, down: Mapping[str, Down]) -> None:
        """Write the verdict where it has changed, and then what makes root look at it."""
        text = render_verdict(down)
        if text == self._written:
            return
        try:
            self.host.write(f"{self.folder}/{VERDICT}", text, 0o600)
            if self._written is not None or down:
                self.host.write(f"{self.folder}/{CHANGED}", "", 0o600)
        except WriteFailed as error:
            self._complain(str(error))
            return
        self._written = text
