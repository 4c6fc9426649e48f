# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which address exits leave, as somebody on the internet says it: who is asked, how, and what counts as an answer."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import targets
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.program import whoami
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_exit_probes import HERE, probe_rules, rp_filter, strict
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import ordered, run
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, program

__all__ = ["ordered"]  # a fixture
URLS = ["http://192.0.2.1/ip", "http://[2001:db8:9::1]:8080"]


@prepared
def asking(ordered: World) -> World:
    """Return three cells in which cella's phone leaves by cellb, else by cellc, and cella asks somebody by which address."""
    strict(ordered["cella"], "pic-cellb", "pic-cellc")
    ordered.inventory["cella"]["cell_whoami"] = URLS
    run(ordered)
    return ordered


def test_the_question_goes_by_the_exit_and_its_answer_comes_in(asking: World) -> None:
    host = asking["cella"]
    for family in (4, 6):
        assert probe_rules(host, family) == [(f"pic-{name}", asking.link("cella", name)["exit_table"]) for name in ("cellb", "cellc")]
    assert host.read(rp_filter("pic-cellb")) == "2\n"
    answer = Packet("192.0.2.1", "10.0.0.1", "pic-cellb", "", "tcp", from_port=80, state="ESTABLISHED", reply=True)
    assert verdict(host, answer, "mangle") == PASSED
    assert host.chain(4, "PIC-OUT")[0] == "-s 10.0.0.1/32 -d 192.0.2.1 ! -o pic-+ -p tcp -m tcp --dport 80 -j DROP"
    assert host.chain(6, "PIC-OUT")[0] == "-s fd00:a::1/128 -d 2001:db8:9::1 ! -o pic-+ -p tcp -m tcp --dport 8080 -j DROP"
    asking.inventory["cella"]["cell_whoami"] = []
    run(asking)
    assert (probe_rules(host, 4), probe_rules(host, 6), host.read(rp_filter("pic-cellb"))) == ([], [], "1\n")


def test_who_is_a_target_as_well_has_one_rule(asking: World) -> None:
    asking.inventory["cella"]["cell_exit_probes"] = ["tcp://192.0.2.1:80"]
    run(asking)
    assert sum("-d 192.0.2.1 " in rule for rule in asking["cella"].chain(4, "PIC-OUT")) == 1
    view = next(text for path, (_mode, text) in asking["cella"].files.items() if path.endswith("/exits.json"))
    assert "8080" not in view, "the watcher does not ask"


def test_prove_shows_the_addresses(asking: World) -> None:
    host = asking["cella"]
    host.seen_as = {"cellb": {"ipv4": "198.51.100.12", "ipv6": "2001:db8:51::12"}, "cellc": {}}
    rc, out, _err = program(host, "prove", "phone")
    assert rc == 0
    assert "    the internet sees cellb as 198.51.100.12 and 2001:db8:51::12\n" in out
    assert "    nobody says as which IPv4 address the internet sees cellc\n" in out
    exits = json.loads(program(host, "prove", "--json")[1])["peers"][0]["exits"]
    assert [item["addresses"] for item in exits] == [host.seen_as["cellb"], {}]
    assert call("pic_cell_prove", host, {"peer": "phone"})["lines"] == out.splitlines()


def test_only_those_are_asked_through_whom_something_answers(asking: World) -> None:
    host = asking["cella"]
    host.exits["cellb"] = None
    out = program(host, "prove", "phone")[1]
    assert host.asked_who == [("cellc", "pic-cellc", "http://192.0.2.1:80/ip")], "cellc has no IPv6"
    assert "sees cellb" not in out


def test_nobody_is_asked_where_nobody_is_stated(ordered: World) -> None:
    assert "internet sees" not in program(ordered["cella"], "prove")[1]
    assert ordered["cella"].asked_who == []


@contextmanager
def server(*parts: bytes, pause: float = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Returns the port of a server that says something in parts, whatever it is asked, and where the questions will be."""
    asked: list[bytes] = []
    with socket.create_server((HERE, 0)) as listening:
        listening.settimeout(3)

        def answer() -> None:
            try:
                connection, _asker = listening.accept()
                with connection:
                    asked.append(connection.recv(4096))
                    for part in parts:
                        connection.sendall(part)
                        time.sleep(pause)
            except OSError:
                pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1], asked
        thread.join()


def said(monkeypatch: pytest.MonkeyPatch, port: int, patience: float = 1) -> dict[str, dict[str, str]]:
    monkeypatch.setattr(targets, "is_private", lambda _network: False)  # the loopback device is all that there is here
    return whoami.ask([whoami.Question("cellb", "lo", f"http://{HERE}:{port}/my/ip?x=1")], patience)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "address"),
    [
        pytest.param([HEAD + b"198.51.100.12\n"], "198.51.100.12", id="IPv4"),
        pytest.param([HEAD, b"2001:DB8::", b"12\r\n"], "2001:db8::12", id="IPv6, in parts"),
        pytest.param([HEAD + b"::ffff:198.51.100.12"], "198.51.100.12", id="IPv4 as a socket of IPv6 has it"),
        pytest.param([b"HTTP/1.0 200\r\n\r\n 198.51.100.12 "], "198.51.100.12", id="blanks, an older server"),
        pytest.param([HEAD + b"198.51.100.12" + b" " * 100 + b"x"], "198.51.100.12", id="more than is read"),
        pytest.param([HEAD + b"<html>198.51.100.12</html>"], None, id="a page"),
        pytest.param([HEAD + b"\x1b]0;owned\x07"], None, id="for a terminal"),
        pytest.param([HEAD + b"\xff\xfe"], None, id="any bytes"),
        pytest.param([HEAD + b"fe80::1%eth0"], None, id="a zone"),
        pytest.param([HEAD + b"198.51.100.0/24"], None, id="a network"),
        pytest.param([HEAD], None, id="nothing"),
        pytest.param([b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n198.51.100.12"], None, id="elsewhere"),
        pytest.param([b"198.51.100.12\n"], None, id="no HTTP"),
        pytest.param([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 2000 + b"\r\n198.51.100.12"], None, id="an endless head"),
    ],
)
def test_an_answer_counts_if_it_is_an_address(monkeypatch: pytest.MonkeyPatch, parts: list[bytes], address: str | None) -> None:
    with server(*parts) as (port, asked):
        assert said(monkeypatch, port) == {"cellb": {"ipv4": address} if address else {}}
    assert asked == [f"GET /my/ip?x=1 HTTP/1.0\r\nHost: {HERE}:{port}\r\nConnection: close\r\n\r\n".encode()]


def test_who_takes_too_long_has_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with server(HEAD, *[b" "] * 20, b"198.51.100.12", pause=0.1) as (port, _asked):
        assert said(monkeypatch, port, 0.4) == {"cellb": {}}
        assert time.monotonic() - began < 1.5
    assert said(monkeypatch, port) == {"cellb": {}}, "the server is gone"


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (
            "http://ifconfig.example.net/",
            "has a name for its host, and the cell would have to ask for its address first. Give the address, as in http://192.0.2.1/",
        ),
        ("https://192.0.2.1/", "is not a URL like http://192.0.2.1/ or http://[2001:db8::1]:8080/ip"),
        ("192.0.2.1", "is not a URL like"),
        ("http://192.0.2.1:0/", "is not a URL like"),
        ("http://192.0.2.1:70000/", "is not a URL like"),
        ("http://2001:db8::1/", "is not a URL like"),
        ("http://[fe80::1%eth0]/", "is not a URL like"),
        ("http://user@192.0.2.1/", "is not a URL like"),
        ("http://192.0.2.1/a b", "is not a URL like"),
        ("http://192.0.2.1/\r\nX: y", "is not a URL like"),
        ("http://10.0.0.53/", "is not an address of the internet"),
        ("http://[fd00::1]/", "is not an address of the internet"),
        (["http://192.0.2.1/", "http://192.0.2.2/"], "are too many. Give one with an IPv4 and one with an IPv6 address at most."),
    ],
)
def test_one_that_cannot_be_asked_is_refused(linked: World, stated: Any, words: str) -> None:
    linked.inventory["cella"]["cell_whoami"] = stated
    before = linked.text()
    with pytest.raises((BadInput, Refusal), match=f"whoami of cell 'cella': .*{re.escape(words)}"):
        linked.site()
    assert linked.text() == before


def test_a_record_that_holds_another_text_is_none(asking: World) -> None:
    host = asking["cella"]
    path = "/var/lib/pic/cell.json"
    host.write(path, (host.read(path) or "").replace("http://192.0.2.1:80/ip", "file:///etc/shadow"))
    assert "cannot be read" in program(host, "prove")[2]
