# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver over real sockets on the loopback device: whatever comes, an honest push is answered."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.parts import claims, peer_sync, signing
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import Delivery, parse_delivery, parse_view, render_delivery, render_view
from ansible_collections.pic.cells.plugins.module_utils.program import receiver, requests
from ansible_collections.pic.cells.plugins.module_utils.program.receiver import Server
from ansible_collections.pic.cells.plugins.module_utils.program.transport import send
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Link, State

PSK = base64.b64encode(b"p" * 32).decode()
KEY = signing.push_key(PSK, "KEYB", "KEYA") or ""
ANSWER_KEY = signing.answer_key(PSK, "KEYB", "KEYA") or ""
MESSAGE = {
    "from_cell": "cellb",
    "from_public_key": "KEYB",
    "generation": 5,
    "permissions": {"outbound": {"mail": True}},
    "exit_offered": True,
    "use_as_exit_relay": False,
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Bench:
    """A receiver in a thread, with a link by the loopback device, and one more."""

    def __init__(self, folder: Path) -> None:
        self.host = Host(str(folder))
        self.port = free_port()
        self.log: list[str] = []
        self.link = Link("cellb", "KEYB", ["127.0.0.0/24"], ["127.0.0.2", "::1"], interface="lo", remote_generation=4)
        self.render()
        self.server = Server(self.host, "/view/links.json", "/spool", self.log.append)
        self.ended = False
        self.thread = threading.Thread(target=self.server.run, args=(lambda: self.ended,), daemon=True)
        self.thread.start()
        for _attempt in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(self.log)

    def render(self, **changes: Any) -> None:
        self.link = replace(self.link, **changes)
        links = {"cellb": self.link, "cellz": Link("cellz", "KEYZ", ["127.0.26.0/24"], ["127.0.26.2"], interface="lo")}
        state = State(Cell("cella", ["127.0.0.1/8", "::1/128"], sync_port=self.port), links)
        self.host.write("/view/links.json", render_view(state, "KEYA", {"cellb": PSK, "cellz": PSK}), 0o644)

    def spooled(self) -> list[Delivery]:
        return [parse_delivery(self.host.read(f"/spool/{name}") or "") for name in self.host.list("/spool")]

    def talk(self, data: bytes, source: str = "127.0.0.2") -> tuple[int, dict[str, Any]]:
        family, to = (socket.AF_INET6, "::1") if ":" in source else (socket.AF_INET, "127.0.0.1")
        with socket.socket(family) as connection:
            connection.settimeout(8)
            connection.bind((source, 0))
            connection.connect((to, self.port))
            try:
                connection.sendall(data)
            except ConnectionError:
                pass
            answer = b""
            while True:
                try:
                    part = connection.recv(65536)
                except ConnectionError:
                    break
                if not part:
                    break
                answer += part
        head, _empty, body = answer.partition(b"\r\n\r\n")
        return (int(head.split()[1]), json.loads(body)) if head else (0, {})

    def push(self, source: str = "127.0.0.2", sign: bool = True, **changes: Any) -> tuple[int, dict[str, Any]]:
        body = peer_sync.render_push({**MESSAGE, **changes})
        signature = signing.sign_push(KEY, body) if sign else None
        return self.talk(request(body, **({"X-Pic-Cells-Signature": signature} if signature else {})), source)

    def push_of_another(self) -> int:
        body = peer_sync.render_push({**MESSAGE, "from_cell": "cellz", "from_public_key": "KEYZ"})
        signature = signing.sign_push(signing.push_key(PSK, "KEYZ", "KEYA") or "", body)
        return self.talk(request(body, **{"X-Pic-Cells-Signature": signature}), "127.0.26.2")[0]


def request(body: bytes, **headers: str) -> bytes:
    lines = {"Host": "a", "Content-Length": str(len(body)), **headers}
    return "\r\n".join([f"POST {peer_sync.PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]).encode() + body


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.ended = True
    bench.thread.join(3)
    assert not bench.thread.is_alive()


@pytest.mark.parametrize("source", ["127.0.0.2", "::1"])
def test_an_honest_push_is_handed_over_as_it_came(bench: Bench, source: str) -> None:
    assert bench.push(source) == (200, {"applied": True, "generation": 5, "reason": "taken over"})
    (delivery,) = bench.spooled()
    assert (delivery.interface, delivery.source, json.loads(delivery.body)) == ("lo", source, MESSAGE)
    assert signing.check_push(KEY, delivery.body, delivery.signature)


def test_a_replay_and_an_overtaken_push_are_answered_and_ignored(bench: Bench) -> None:
    assert bench.push(generation=9)[1]["applied"]
    assert bench.push(generation=9) == (200, {"applied": False, "generation": 9, "reason": "not newer than the known generation"})
    assert bench.push(generation=8)[1] == {"applied": False, "generation": 9, "reason": "not newer than the known generation"}
    assert len(bench.spooled()) == 1


def carried(bench: Bench, key: str | None = ANSWER_KEY, port: int = 0, **changes: Any) -> dict[str, Any] | None:
    """Send a push as a cell does, and return what it takes the answer for."""
    body = peer_sync.render_push({**MESSAGE, **changes})
    return send(Push(f"http://127.0.0.1:{port or bench.port}", ("127.0.0.2",), "lo", body, signing.sign_push(KEY, body), key))


def test_the_sender_believes_the_answers_of_the_receiver(bench: Bench) -> None:
    assert carried(bench) == {"status": 200, "generation": 5, "reason": "taken over"}
    assert carried(bench) == {"status": 200, "generation": 5, "reason": "not newer than the known generation", "ignored": True}
    refused = carried(bench, generation=6, use_as_exit_relay=True)
    assert refused is not None
    assert (refused["status"], refused["generation"]) == (409, 6)


@pytest.mark.parametrize("status", [200, 409])
def test_somebody_else_who_listens_on_the_other_cell_cannot_acknowledge_a_push(bench: Bench, status: int) -> None:
    """A local user there listens before the receiver does, and has seen an honest answer to another push."""
    body = json.dumps({"applied": True, "generation": 2**40, "reason": "taken over"}).encode()
    seen = signing.sign_answer(ANSWER_KEY, b"another push", status, body)
    for signature in ("", seen, "\xe9" * 64):
        head = f"HTTP/1.1 {status} OK\r\n" + (f"{peer_sync.SIGNATURE}: {signature}\r\n" if signature else "") + "\r\n"
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=answer_once, args=(server, head.encode() + body), daemon=True).start()
            answer = carried(bench, port=int(server.getsockname()[1]))
        assert answer == {"status": 502, "generation": 0, "reason": "the answer is not signed by the cell"}
        link = Link("cellb", generation=4, pending_push=True, remote_exit_offered=True)
        peer_sync.acknowledge(link, answer, "now")
        assert (link.pending_push, link.generation, link.remote_exit_offered) == (True, 4, True)


def answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _address = server.accept()
    with connection:
        connection.recv(100_000)
        connection.sendall(answer)


def test_a_link_without_a_key_is_answered_without_a_signature(bench: Bench) -> None:
    bench.render(sync_auth="address")
    bench.host.write("/view/links.json", (bench.host.read("/view/links.json") or "").replace(f'"{KEY}"', "null").replace(f'"{ANSWER_KEY}"', "null"), 0o644)
    assert carried(bench, None) == {"status": 200, "generation": 5, "reason": "taken over"}


def test_one_cell_is_heard_so_often_and_not_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [bench.push(generation=generation)[0] for generation in range(10, 60)]
    assert answers == [200] * receiver.BURST + [429] * (50 - receiver.BURST)
    assert bench.push_of_another() == 200, "one cell's noise keeps no other from being heard"
    assert sorted(json.loads(delivery.body)["generation"] for delivery in bench.spooled()) == [MESSAGE["generation"], 9 + receiver.BURST]
    assert bench.push(generation=10)[0] == 200, "what is not new costs nothing, and is answered"
    monkeypatch.setattr(receiver, "REFILL", 0.1)
    time.sleep(0.2)
    assert bench.push(generation=70)[0] == 200, "a push that was refused was not taken for known"


def test_only_the_newest_push_waits_in_the_spool(bench: Bench) -> None:
    for generation in range(5, 5 + receiver.BURST):
        assert bench.push(generation=generation)[1]["applied"]
    assert [json.loads(delivery.body)["generation"] for delivery in bench.spooled()] == [4 + receiver.BURST]


def test_a_wish_without_an_offer_is_told_and_the_rest_is_handed_over(bench: Bench) -> None:
    status, answer = bench.push(use_as_exit_relay=True)
    assert (status, answer["applied"], answer["generation"], len(bench.spooled())) == (409, True, 5, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "127.0.0.3"},
        {"sign": False},
        {"from_public_key": "OTHER"},
        {"from_cell": "cellc"},
    ],
    ids=["a phone", "unsigned", "another key", "not linked"],
)
def test_what_is_not_the_linked_cell_is_refused_and_learns_nothing(bench: Bench, changes: dict[str, Any]) -> None:
    assert bench.push(**changes) == (403, {"error": "Forbidden"})
    assert bench.spooled() == []


BODY = peer_sync.render_push(MESSAGE)
WIDER = json.dumps({**MESSAGE, "permissions": {"outbound": {}, "inbound": {"files": True}}}).encode()
MALFORMED = {
    "nothing of HTTP": (b"\x16\x03\x01\x02\x00\x01" * 10 + b"\r\n\r\n", 400),
    "another path": (b"POST /../etc/passwd HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
    "reading": (f"GET {peer_sync.PATH} HTTP/1.1\r\n\r\n".encode(), 405),
    "no length": (f"POST {peer_sync.PATH} HTTP/1.1\r\n\r\n".encode() + BODY, 411),
    "chunked": (request(b"", **{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", 411),
    "oversize": (request(b"x" * (64 * 1024 + 1)), 413),
    "oversize announced": (request(b"", **{"Content-Length": "999999999"}), 413),
    "a negative length": (request(b"", **{"Content-Length": "-1"}), 400),
    "a length in digits of elsewhere": (f"POST {peer_sync.PATH} HTTP/1.1\r\nContent-Length: ".encode() + "٣".encode() + b"\r\n\r\nabc", 400),
    "two lengths": (request(BODY).replace(b"Host: a", b"Content-Length: 3"), 400),
    "more than announced": (request(BODY, **{"Content-Length": str(len(BODY) - 1)}), 400),
    "a head without end": (f"POST {peer_sync.PATH} HTTP/1.1\r\n".encode() + b"X-A: b\r\n" * 5000, 431),
    "a folded header": (request(BODY).replace(b"Host: a", b" Host: a"), 400),
    "deep JSON": (request(b"[" * 60000), 400),
    "a long number": (request(b"1" * 60000), 400),
    "no object": (request(b"[]"), 400),
    "unknown fields": (request(json.dumps({**MESSAGE, "shares": ["files"]}).encode()), 400),
    "our own shares": (request(WIDER), 400),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_push_is_refused_with_a_constant_text_and_nobody_dies(bench: Bench, case: str) -> None:
    data, status = MALFORMED[case]
    answer = bench.talk(data)
    assert answer == (status, {"error": requests.TEXTS[status]})
    assert bench.spooled() == []
    assert bench.push()[0] == 200


def test_less_than_announced_is_dropped_after_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "PATIENCE", 0.3)
    assert bench.talk(request(BODY, **{"Content-Length": "60000"})) == (0, {})
    assert bench.spooled() == []


def test_an_honest_push_is_answered_among_idle_connections_and_garbage(bench: Bench) -> None:
    idle = [socket.create_connection(("127.0.0.1", bench.port)) for _number in range(300)]
    ended = False

    def scatter() -> None:
        while not ended:
            try:
                with socket.create_connection(("127.0.0.1", bench.port)) as connection:
                    connection.sendall(os.urandom(30000))
            except OSError:
                pass
            time.sleep(0.005)

    noise = threading.Thread(target=scatter)
    noise.start()
    try:
        for generation in range(10, 15):
            began = time.monotonic()
            assert bench.push(generation=generation)[1]["applied"]
            assert time.monotonic() - began < 1
    finally:
        ended = True
        noise.join()
        for connection in idle:
            connection.close()
    assert len(bench.server._connections) <= receiver.CONNECTIONS


def test_a_change_of_the_view_counts_at_once(bench: Bench) -> None:
    bench.render(exit_offered=True)
    assert bench.push(use_as_exit_relay=True)[0] == 200
    bench.render(exit_offered=False)
    assert bench.push(use_as_exit_relay=True, generation=6)[0] == 409
    bench.render(public_key="NEW")
    assert bench.push(generation=7)[0] == 403


def test_without_a_view_nobody_is_believed(bench: Bench) -> None:
    bench.host.write("/view/links.json", "{", 0o644)
    with pytest.raises(OSError):
        for _attempt in range(20):
            assert bench.push()[0] in (0, 403)
            time.sleep(0.1)
    bench.render()
    for _attempt in range(20):
        try:
            assert bench.push()[0] == 200
            break
        except OSError:
            time.sleep(0.1)
    assert len(bench.spooled()) == 1


def test_a_view_that_cannot_be_read_leaves_what_was_read_before(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_path: str) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(bench.server.host, "read", read)
    time.sleep(2 * receiver._LOOK_AGAIN)
    assert bench.push()[0] == 200


def test_a_full_disk_is_no_acknowledgement(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.host.write("/spool", "no folder")
    assert bench.push() == (503, {"error": "Service Unavailable"})


def test_the_view_holds_no_preshared_key_and_is_read_as_it_was_written(bench: Bench) -> None:
    text = bench.host.read("/view/links.json") or ""
    assert PSK not in text
    view = parse_view(text)
    assert (view.public_key, view.port, view.addresses, view.push_keys, view.answer_keys) == (
        "KEYA",
        bench.port,
        ["127.0.0.1", "::1"],
        {"cellb": KEY, "cellz": signing.push_key(PSK, "KEYZ", "KEYA")},
        {"cellb": ANSWER_KEY, "cellz": signing.answer_key(PSK, "KEYZ", "KEYA")},
    )
    assert replace(view.links["cellb"], networks=bench.link.networks) == bench.link


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"interface": 1, "source": "", "signature": "", "body": ""}', "[" * 50000])
def test_what_is_handed_over_is_read_or_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_delivery(text)
    delivery = Delivery("pic-b", "10.0.1.1", "ab", b"\xff\x00")
    assert parse_delivery(render_delivery(delivery)) == delivery


def test_an_announcement_of_networks_waits_beside_one_of_an_endpoint(bench: Bench) -> None:
    """Root looks when it can: neither may take the other's place."""
    said = {"name": "cellb", "count": 3}
    for more in ({"endpoint": "192.0.2.1:51821"}, {"networks": ["10.9.0.0/24"], "address": ["10.9.0.1"], "api_url": "http://10.9.0.1:8088"}):
        body = json.dumps({**said, **more}).encode()
        assert bench.talk(request(body).replace(peer_sync.PATH.encode(), claims.PATH.encode()))[0] == 200
    assert bench.host.list("/spool") == ["cellb.claim.json", "cellb.networks.json"]


def test_it_listens_at_an_address_by_which_a_link_still_knows_the_cell(bench: Bench) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.9", bench.port)).close()
            return True
        return False

    for wanted in (True, False):
        bench.render(known_as=["127.0.0.9"] if wanted else [])
        end = time.monotonic() + 5
        while listens() != wanted and time.monotonic() < end:
            time.sleep(0.02)
        assert listens() == wanted


def test_it_needs_little_memory(bench: Bench) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connections = [socket.create_connection(("127.0.0.1", bench.port)) for _number in range(250)]
    for connection in connections:
        connection.sendall(request(b"x" * 60000, **{"Content-Length": "65536"})[:60000])
    assert bench.push()[0] == 200
    for connection in connections:
        connection.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024, "KiB"
    assert sys.getsizeof(bench.server._connections) < 64 * 1024
