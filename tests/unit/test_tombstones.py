# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to go: as the file has it, as it is read again, and as conntrack is told of it."""

from __future__ import annotations

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import conntrack
from ansible_collections.pic.cells.plugins.module_utils.records import soundness
from ansible_collections.pic.cells.plugins.module_utils.records.codec import dump_leaving, load_leaving
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Link, Service, State
from ansible_collections.pic.cells.plugins.module_utils.records.tombstones import Flows, Leaving, Tunnel

# Each form that an earlier version has written.
WRITTEN = {
    "-f ipv4 -s 10.0.1.0/24": Flows(4, source="10.0.1.0/24"),
    "-f ipv6 -d fd00:b::/64": Flows(6, target="fd00:b::/64"),
    "-f ipv4 -s 10.0.1.0/24 -n": Flows(4, source="10.0.1.0/24", translated=True),
    "-f ipv6 -p udp -s fd00:b::/64 --orig-dst fd00:a::1 --orig-port-dst 53": Flows(6, "udp", "fd00:b::/64", asked="fd00:a::1", port="53"),
    "-f ipv4 --orig-src 10.0.0.2": Flows(4, asker="10.0.0.2"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_flows_are_read_as_they_were_written(text: str) -> None:
    assert Flows.parse(text) == WRITTEN[text]
    assert WRITTEN[text].render() == text
    assert conntrack.end(WRITTEN[text]).argv == ("conntrack", "-D", *text.split())


@pytest.mark.parametrize(
    "text",
    ["", "-f", "-f ipv4 -s", "-f ipx -s 10.0.1.0/24", "-s 10.0.1.0/24", "-f ipv4 -U 10.0.1.0/24", "-f ipv4 -n -s 10.0.1.0/24", "-f ipv4  -s 10.0.1.0/24"],
)
def test_what_no_version_writes_is_no_flow(text: str) -> None:
    with pytest.raises(ValueError, match="no flows"):
        Flows.parse(text)


@pytest.mark.parametrize("text", ["-f ipv4 -s all", "-f ipv4 -p --orig-dst -s 10.0.1.0/24", "-f ipv4 --orig-src 10.0.0.2 --orig-port-dst 70000"])
def test_flows_of_a_forged_file_are_judged(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        soundness.leaving({"flows": [text]})


def test_the_file_keeps_its_keys_and_its_text() -> None:
    key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
    data = {"devices": [key], "links": [f"pic-cellb {key}"], "exits": ["cellb"], "flows": list(WRITTEN)}
    found = load_leaving(data)
    assert found.links == [Tunnel("pic-cellb", key)]
    assert dump_leaving(found) == data
    assert load_leaving({}) == Leaving()


def test_what_is_revoked_is_in_the_order_of_its_text() -> None:
    link = Link("b", "key", ["10.0.1.0/24"], interface="pic-b", permissions={"inbound": {"dns": True}, "outbound": {}})
    before = State(Cell(services={"dns": Service("dns", ["10.0.0.1"], 53, "udp")}), {"b": link})
    ended = [flows.render() for flows in conntrack.revoked(before, State())]
    assert ended == ["-f ipv4 -d 10.0.1.0/24", "-f ipv4 -s 10.0.1.0/24"]
