# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one cell shares with another: granted, used, revoked."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from lab import INTERNET
from packets import Stream, reaches
from playbooks import play

CELL_A = {4: "10.0.0.1", 6: "fd00:a::1"}
CELL_B = {4: "10.0.1.1", 6: "fd00:b::1"}
LAN_A = {4: "192.168.77.10", 6: "fd77::10"}
PHONE_A = {4: "10.0.0.4", 6: "fd00:a::4"}
FILES, VOICE, CAMERA, INTERCOM = 8443, 9002, 8445, 9003


def share(services: str) -> None:
    outcome = play("share", cell="cella", remote_cell="cellb", services=services)
    assert outcome.rc == 0, outcome.message


@pytest.mark.parametrize("family", [4, 6])
def test_a_device_of_the_other_cell_reaches_what_is_shared_and_nothing_else(family):
    assert reaches("phone-b1", CELL_A[family], FILES)
    assert reaches("phone-b1", CELL_A[family], VOICE, "udp")
    there = [("cella", CELL_A, 8444), ("phone-a3", CELL_A, 22), ("cella", LAN_A, 80)]
    assert all(reaches(host, address[family], port) for host, address, port in there), "what must not be reached is not there"
    assert not reaches("phone-b1", CELL_A[family], 8444), "another port"
    assert not reaches("phone-b1", CELL_A[family], 22), "SSH"
    assert not reaches("phone-b1", CELL_A[family], 8088), "the peer-sync port"
    assert not reaches("phone-b1", LAN_A[family], 80), "the LAN behind A"


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_shared_one_way_is_not_shared_the_other_way(family):
    assert not reaches("phone-a3", CELL_B[family], FILES)
    assert not reaches("phone-a3", CELL_B[family], 22)


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_shared_with_one_cell_is_not_shared_with_another(family):
    assert not reaches("cellc", CELL_A[family], FILES)


def test_a_revoked_service_is_refused_and_its_live_flows_are_cut_while_the_others_go_on():
    share("files,voice,camera,intercom")
    with ExitStack() as stack:

        def flows(address: dict[int, str], port: int, proto: str = "tcp") -> list[Stream]:
            return [stack.enter_context(Stream("phone-b1", address[family], port, proto)) for family in (4, 6)]

        revoked = flows(CELL_A, FILES) + flows(PHONE_A, INTERCOM, "udp")
        kept = flows(CELL_A, VOICE, "udp") + flows(PHONE_A, CAMERA)
        exits = [stack.enter_context(Stream("phone-b1", address, 9000, "udp")) for address in INTERNET]
        share("voice,camera")
        ended = time.monotonic()
        time.sleep(2)
        assert all(flow.last < ended + 1 for flow in revoked), "the last packet passed later than one second after the task"
        assert all(flow.undisturbed() for flow in kept + exits)
        share("none")
        ended = time.monotonic()
        time.sleep(2)
        assert all(flow.last < ended + 1 for flow in revoked + kept)
        assert all(flow.undisturbed() for flow in exits)
    share("files\nvoice")
    assert all(reaches("phone-b1", CELL_A[family], FILES) for family in (4, 6))
    assert not any(reaches("phone-b1", PHONE_A[family], CAMERA) for family in (4, 6))


def test_silence_keeps_what_a_day_2_playbook_has_done():
    share("voice")
    overlay = {"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}]}}
    assert not any(play("site", overlay=overlay).changed.values())
    assert not reaches("phone-b1", CELL_A[4], FILES)
    assert play("site").changed["cella"] > 0, "what the inventory states is put back"
    assert reaches("phone-b1", CELL_A[4], FILES)
