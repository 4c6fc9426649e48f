# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The push over real sockets on the loopback device."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.program import transport
from ansible_collections.pic.cells.plugins.module_utils.program.transport import send, send_all

TAKEN = b'HTTP/1.1 200 OK\r\nContent-Length: 57\r\n\r\n{"applied": true, "generation": 7, "reason": "taken over"}'


@contextmanager
def server(answer: bytes = TAKEN, pause: float = 0, family: int = 4) -> Iterator[tuple[str, list[bytes]]]:
    """Run somebody who answers one connection, byte by byte where there is a pause; return where, and what was said."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0) if family == 4 else ("::1", 0), family=socket.AF_INET if family == 4 else socket.AF_INET6)

    def run() -> None:
        connection, _address = listener.accept()
        with connection:
            heard.append(connection.recv(100_000))
            try:
                for part in [answer] if not pause else [answer[n : n + 1] for n in range(len(answer))]:
                    connection.sendall(part)
                    time.sleep(pause)
            except OSError:
                pass

    threading.Thread(target=run, daemon=True).start()
    port = listener.getsockname()[1]
    with listener:
        yield (f"http://127.0.0.1:{port}" if family == 4 else f"http://[::1]:{port}"), heard


def push(url: str, device: str = "lo") -> Push:
    return Push(url, ("127.0.0.2", "::1"), device, b'{"a": 1}', "abc")


@pytest.mark.parametrize("family", [4, 6])
def test_a_push_says_what_it_has_to_and_brings_the_answer(family: int) -> None:
    with server(family=family) as (url, heard):
        assert send(push(url)) == {"status": 200, "generation": 7, "reason": "taken over"}
    head, _empty, body = heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/cells/peer-sync/permissions HTTP/1.1\r\n")
    assert b"\r\nX-Pic-Cells-Signature: abc" in head
    assert b"\r\nContent-Length: 8" in head
    assert body == b'{"a": 1}'


def test_a_redirect_is_not_followed() -> None:
    with server() as (elsewhere, heard):
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\n\r\n".encode()
        with server(redirect) as (url, _heard):
            answer = send(push(url))
    assert answer is not None
    assert (answer["status"], answer["generation"], heard) == (302, 0, [])


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as (url, heard), server(b"") as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        assert send(push(url))
    assert (len(heard), asked) == (1, [])


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 500 Oh\r\n\r\nno", 500),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", 502),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 15000, 502),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, 502),
        (b"SSH-2.0-x\r\n", None),
        (b"", None),
    ],
)
def test_whatever_answers_is_no_acknowledgement(answer: bytes, status: int | None) -> None:
    with server(answer) as (url, _heard):
        result = send(push(url))
    assert (result["status"] if result else None) == status


def test_an_answer_without_end_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TOTAL", 0.4)
    began = time.monotonic()
    with server(TAKEN, pause=0.05) as (url, _heard):
        assert send(push(url)) is None
    assert time.monotonic() - began < 1


def test_an_answer_in_drops_is_not_waited_for_beyond_the_deadline() -> None:
    """Something is always there to be read: one packet at a time."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for _number in range(20):
            theirs.send(b"H")
        with pytest.raises(OSError):
            transport._receive(ours, time.monotonic())
        assert ours.recv(1) == b"H", "all that was there has been read"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://example.net:1", "http://[::1", "ftp://127.0.0.1", "", "http://127.0.0.1:99999"]
)
def test_where_nobody_is_there_is_no_answer(url: str) -> None:
    assert send(push(url)) is None


def test_a_push_leaves_by_the_links_device_alone() -> None:
    with server() as (url, heard):
        assert send(push(url, device="pic-none")) is None
    assert heard == []


def test_pushes_are_sent_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TOTAL", 0.5)
    with server(TAKEN, pause=1) as (slow, _h1), server(TAKEN, pause=1) as (slower, _h2), server() as (url, _h3):
        began = time.monotonic()
        answers = send_all({"one": push(slow), "two": push(slower), "three": push(url)})
    assert [name for name, answer in answers.items() if answer] == ["three"]
    assert time.monotonic() - began < 0.9
