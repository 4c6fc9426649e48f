# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a link: nothing of it stays, and nothing of others has changed. (conftest compares what others have on every cell.)"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack

import neighbours
from lab import INTERNET, inside
from packets import Sniffer, Stream, reaches, seen_address, snapshot
from playbooks import play

FAR = {"far": "fmIu6M0TSBWqGpm5u5ndM3qkpDsGRGBrVdpBYp3tbCM=", "farther": "5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo="}
CELL_A = ("10.0.0.1", "fd00:a::1")
FLOWS = ((80, "tcp"), (9000, "udp"))
# silence keeps: the phones stay routed, and have no way out
UNSTATED = {"cella": {"cell_links": [{"name": "cellc"}], "cell_peers": []}, "cellb": {"cell_links": [], "cell_peers": []}}


def test_a_link_in_use_is_removed_on_both_sides_and_its_flows_end():
    assert reaches("phone-b1", "10.0.0.1", 8443)
    assert seen_address("phone-a1", 4) == "198.51.100.12"
    with ExitStack() as stack:
        ending = [stack.enter_context(Stream("phone-b1", address, *flow)) for address in CELL_A for flow in ((8443, "tcp"), (9002, "udp"))]
        ending += [stack.enter_context(Stream("phone-a1", address, *flow)) for address in INTERNET for flow in FLOWS]
        others = [stack.enter_context(Stream("phone-a2", address, *flow)) for address in INTERNET for flow in FLOWS]
        uplink = stack.enter_context(Sniffer("cella", "eth0", f"dst host {INTERNET[0]} or dst host {INTERNET[1]}"))
        outcome = play("unlink", cell="cella", remote_cell="cellb", overlay=UNSTATED)
        ended = time.monotonic()
        assert outcome.rc == 0, outcome.message
        time.sleep(2)
        assert all(flow.last < ended + 1 for flow in ending), "the last packet passed later than one second after the task"
        assert all(flow.undisturbed() for flow in others)
    assert uplink.lines == [], "the phone leaked when its exit's cell was unlinked"
    assert not reaches("phone-b1", "10.0.0.1", 8443)
    assert seen_address("phone-a1", 4) is None
    assert seen_address("phone-a1", 6) is None
    for cell, other in (("cella", "cellb"), ("cellb", "cella")):
        left = "".join(text for text in snapshot(cell).values())
        assert f"pic-{other}" not in left.replace("pic-cell-cellb_not_ours", "")
        assert f"PIC-L-{other}" not in left
        assert inside(cell, "ls", "/etc/wireguard").stdout.count(f"pic-{other}") == 0


def test_the_other_link_is_not_disturbed():
    assert seen_address("phone-a2", 4) == "198.51.100.13"
    assert seen_address("phone-a2", 6) == "2001:db8:113::13"


def test_unlinking_again_changes_nothing():
    assert not any(play("unlink", cell="cella", remote_cell="cellb", overlay=UNSTATED).changed.values())


def test_the_neighbours_are_byte_identical():
    for cell in ("cella", "cellb", "cellc"):
        planted = neighbours.foreign_before(cell)
        assert any("pic-peer-tablet" in line for line in planted["iptables"]), "nothing was planted"
        assert neighbours.foreign(snapshot(cell)) == planted


def test_a_cell_whose_name_begins_anothers_goes_alone():
    far = {name: {"public_key": key, "networks": [f"10.9.{number}.0/24"], "address": f"10.9.{number}.1"} for number, (name, key) in enumerate(FAR.items())}
    links = [{"name": "cellc"}, *({"name": name, "share": ["files"], **facts} for name, facts in far.items())]
    overlay = {**UNSTATED, "cella": {"cell_links": links, "cell_peers": []}}
    assert play("site", "--limit", "cella", overlay=overlay).rc == 0
    before = snapshot("cella")
    assert all(f"PIC-L-{name} " in before["iptables"] and f"wg pic-{name}" in before for name in FAR)
    outcome = play("unlink", cell="cella", remote_cell="far", overlay=overlay)
    assert outcome.rc == 0, outcome.message
    after = snapshot("cella")

    def of(name: str, state: dict[str, str]) -> list[str]:
        whose = re.compile(rf"\b(pic(-cell)?-|PIC-[A-Z]-){name}(?![\w-])|{far[name]['networks'][0]}")
        return [line for text in state.values() for line in text.splitlines() if whose.search(line)]

    assert of("far", before) != []
    assert of("far", after) == []
    assert of("farther", after) == of("farther", before) != []
    assert play("unlink", cell="cella", remote_cell="farther", overlay=overlay).rc == 0
    assert "farther" not in str(snapshot("cella"))


def test_linking_again_by_playbook_brings_it_back():
    outcome = play("link", cell="cella", remote_cell="cellb")
    assert outcome.rc == 0, outcome.message
    assert reaches("phone-b1", "10.0.0.1", 8443)
    assert seen_address("phone-a1", 4) == "198.51.100.12"
