# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate of an offered exit, measured: what a phone sends to the internet through cellb, and what it gets from there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_exit_relay import CELL

from cells import sh, within
from lab import INTERNET, inside
from packets import seen_address
from playbooks import play

PORT, SIZE = 9100, 8_000_000
RATE, MOST, LEAST, FAST = "20mbit", 26.0, 5.0, 40.0  # Mbit/s
WAYS = ("download", "upload")
FAMILIES = (4, 6)
SERVER = f"""
import socket, threading
def serve(client):
    with client:
        if client.recv(1) == b"d":
            client.sendall(bytes({SIZE}))
        else:
            while client.recv(65536):
                pass
            client.sendall(b"all")
with socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
# Until the last byte has come to the other end.
CLIENT = f"""
import socket, sys, time
with socket.create_connection((sys.argv[2], {PORT}), 5) as connection:
    connection.settimeout(60)
    begin, came = time.monotonic(), 0
    connection.sendall(sys.argv[1][:1].encode())
    if sys.argv[1] == "upload":
        connection.sendall(bytes({SIZE}))
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(3) == b"all"
    else:
        while came < {SIZE}:
            came += len(connection.recv(65536)) or sys.exit("cut off")
    print({SIZE} * 8 / 1e6 / (time.monotonic() - begin))
"""


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    inside("internet", "systemd-run", "-q", "--unit", "pic-lab-rate", "python3", "-c", SERVER)
    assert within(10, lambda: f":{PORT} " in sh("internet", "ss -ltn"))
    yield
    sh("internet", "systemctl stop pic-lab-rate")


@pytest.fixture(scope="module")
def limited() -> Iterator[None]:
    offer("true", rate=RATE)
    yield
    offer("true")


def offer(offered: str, **terms: str) -> None:
    outcome = play("offer_exit", cell="cellb", remote_cell="cella", offered=offered, **terms)
    assert outcome.rc == 0, outcome.message


def speed(phone: str, way: str, family: int) -> float:
    """Returns how fast a phone sends to the internet, or gets from there, in Mbit/s."""
    return float(inside(phone, "python3", "-c", CLIENT, way, INTERNET[FAMILIES.index(family)]).stdout)


def queues() -> str:
    """Returns what limits cellb's link with cella."""
    return sh(
        "cellb", "tc qdisc show dev pic-cella; tc filter show dev pic-cella parent ffff:; ip -o link show pif-cella; tc qdisc show dev pif-cella", check=False
    )


def works() -> bool:
    return seen_address("phone-a1", 4) == CELL["cellb"][4]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_without_a_rate_it_is_fast(way: str, family: int) -> None:
    assert speed("phone-a1", way, family) > FAST


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_each_direction_keeps_the_rate(limited: None, way: str, family: int) -> None:
    assert LEAST < speed("phone-a1", way, family) < MOST


@pytest.mark.parametrize("way", WAYS)
def test_another_exit_is_not_slowed_down(limited: None, way: str) -> None:
    # Its cell has been switched off by another module's test; an idle phone takes 15 s to see that its session is gone.
    assert within(30, lambda: seen_address("phone-a2", 4) == CELL["cellc"][4])
    assert speed("phone-a2", way, 4) > FAST


def test_a_second_run_changes_nothing(limited: None) -> None:
    outcome = play("offer_exit", cell="cellb", remote_cell="cella", offered="true", rate=RATE)
    assert (outcome.rc, any(outcome.changed.values())) == (0, False), outcome.message
    assert inside("cellb", "pic-cell", "check", check=False).returncode == 0


@pytest.mark.parametrize("device", ["pic-cella", "pif-cella"])
def test_it_comes_back_with_what_is_deleted(limited: None, device: str) -> None:
    before = queues()
    assert before.count("rate 20Mbit") == 2, before
    sh("cellb", f"ip link delete {device}; pic-cell restore")
    assert queues().count("rate 20Mbit") == 2
    assert within(30, works)
    for way in WAYS:
        assert LEAST < speed("phone-a1", way, 4) < MOST


def test_a_withdrawn_offer_leaves_nothing_of_it(limited: None) -> None:
    offer("false")
    try:
        assert not [word for word in ("tbf", "ingress", "mirred", "pif-cella:") if word in queues()], queues()
    finally:
        offer("true", rate=RATE)
    assert within(30, works)
    offer("true")
    assert "tbf" not in queues()
    assert within(30, works)
    for way in WAYS:
        assert speed("phone-a1", way, 4) > FAST
