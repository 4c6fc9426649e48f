# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an owner expects of a cell, as it is stated and as the records keep it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.expectations import MOST, Expectation, listed, parse, read

LINES = {
    "phone to files@cellb is allowed": {"from": "phone", "to": "files@cellb"},
    "guest to internet is allowed via cellc": {"from": "guest", "to": "internet", "via": "cellc", "is": "allowed"},
    "guest to internet is allowed via direct": {"from": "guest", "to": "internet", "via": "direct"},
    "cellb to lan is refused": {"from": "cellb", "to": "lan", "is": "refused", "via": None},
    "cellb to cellc is refused": {"from": "cellb", "to": "cellc", "is": "refused"},
    "phone to tcp://[2001:db8::1]:443 is allowed via cellb": {"from": "phone", "to": "tcp://[2001:DB8:0::1]:443", "via": "cellb"},
    "phone to udp://192.168.1.2:53 is allowed": {"from": "phone", "to": "udp://192.168.1.2:53", "via": ""},
}


@pytest.mark.parametrize("line", LINES)
def test_what_is_stated_is_kept_as_a_line_that_is_read_again(line: str) -> None:
    (found,) = read([LINES[line]], "cell_expect")
    assert found.render() == line
    assert parse(line) == found
    assert read(listed([found]), "cell_expect") == [found]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("phone", "'phone' is no expectation. Give a list of items like"),
        ({"from": "phone"}, "is no expectation"),
        ({"from": "phone", "to": "internet", "by": "cellb"}, "is no expectation"),
        ({"from": ["phone"], "to": "internet"}, "from .* is not a valid name"),
        ({"from": "Phone", "to": "internet"}, "from 'Phone' is not a valid name"),
        ({"from": "phone", "to": 7}, "to 7 is not a valid name"),
        ({"from": "phone", "to": "@cellb"}, "service of to '' is not a valid name"),
        ({"from": "phone", "to": "files@"}, "cell of to '' is not a valid name"),
        ({"from": "phone", "to": "tcp://10.0.1.1"}, "is not a port at an address. Give one like"),
        ({"from": "phone", "to": "tcp://10.0.1.1:70000"}, "is not a port at an address"),
        ({"from": "phone", "to": "tcp://10.0.1.300:7"}, "is not a port at an address"),
        ({"from": "phone", "to": "lan", "is": "maybe"}, "'maybe' is neither allowed nor refused"),
        ({"from": "phone", "to": "lan", "is": False}, "is: False is neither allowed nor refused"),
        ({"from": "phone", "to": "internet", "is": "refused", "via": "cellb"}, "names an exit for what is to leave by none. Leave via out"),
        ({"from": "phone", "to": "lan", "via": "cellb"}, "by which only what goes to the internet leaves"),
        ({"from": "phone", "to": "tcp://10.0.1.1:7", "via": "cellb"}, "by which only what goes to the internet leaves"),
        ({"from": "phone", "to": "internet", "via": "Cellb"}, "via 'Cellb' is not a valid name"),
        ({"from": "phone", "to": "phone"}, "to itself"),
    ],
)
def test_what_cannot_be_expected_is_refused(item: Any, words: str) -> None:
    with pytest.raises(BadInput, match=f"^cell_expect: .*{words}"):
        read([item], "cell_expect")


@pytest.mark.parametrize("items", ["phone", {"from": "phone", "to": "internet"}, 7, True])
def test_what_is_no_list_is_refused(items: Any) -> None:
    with pytest.raises(BadInput, match=r"^cell_expect: .* is not a list\. Give a list of items like \{from: phone, to: internet, is: allowed, via: cellb\}\.$"):
        read(items, "cell_expect")


def test_what_says_two_things_of_the_same_packets_is_refused() -> None:
    twice = [{"from": "phone", "to": "internet"}, {"from": "phone", "to": "internet", "is": "refused"}]
    with pytest.raises(BadInput, match=r"'phone to internet is allowed' and 'phone to internet is refused' are about the same packets\. Leave one of them out"):
        read(twice, "cell_expect")
    with pytest.raises(BadInput, match="are about the same packets"):
        read(twice[:1] * 2, "cell_expect")


def test_there_are_not_too_many() -> None:
    lines = [{"from": f"phone{number}", "to": "internet"} for number in range(MOST + 1)]
    assert len(read(lines[:-1], "cell_expect")) == MOST
    with pytest.raises(BadInput, match=f"{MOST + 1} lines are too many"):
        read(lines, "cell_expect")


def test_what_it_is_about_is_known() -> None:
    assert Expectation("phone", "files@cellb").service == ("files", "cellb")
    server = parse("phone to tcp://[fd00::1]:443 is refused").server
    assert server is not None and (server.protocol, server.address, server.port) == ("tcp", "fd00::1", 443)
    assert (Expectation("phone", "lan").service, Expectation("phone", "lan").server) == (None, None)


@pytest.mark.parametrize(
    "text", ["", "phone to internet", "phone to internet is allowed via", "phone to internet is never", "a to b is allowed\nc to d is allowed"]
)
def test_a_line_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text)
