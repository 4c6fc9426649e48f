# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each tool's comments call a peer, and which peers are commented out."""

from __future__ import annotations

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel.wgconfig import parse
from ansible_collections.pic.cells.plugins.module_utils.kernel.wglabels import commented_out, endpoint_of, labelled
from ansible_collections.pic.cells.tests.unit.adopted import ALICE, BOB, FILES, PIVPN
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

HEAD = "[Interface]\nPrivateKey = x\n\n"
PEER = f"PublicKey = {ALICE}\nAllowedIPs = 10.0.0.2/32\n"


def label(text: str) -> str:
    """Return what the last peer of a file is called."""
    return labelled(parse(text))[-1].label


@pytest.mark.parametrize("name", FILES)
def test_the_names_that_each_tool_writes_are_found(name: str) -> None:
    found = labelled(parse(FILES[name]))
    assert [peer.section.get("publickey") for peer in found] == [ALICE, BOB]
    assert [FILES[name].split("\n")[peer.line - 1].startswith("[Peer]") for peer in found] == [True, True]
    assert [peer.label for peer in found] == ["alice, who is often away" if name == "plain" else "alice", "bob"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# pic.cells: device phone\n[Peer]\n", "phone"),
        ("# pic.cells: cell oslo\n[Peer]\n", "oslo"),
        ("### Client my-phone_2\n[Peer]\n", "my-phone_2"),
        ("# BEGIN_PEER my_phone\n[Peer]\n", "my_phone"),
        ("### begin my.phone@home ###\n[Peer]\n", "my.phone@home"),
        ("# Client: Anna's phone (721f6ac2-ab4f-4fb2-a1b4-2c94203e6099)\n[Peer]\n", "Anna's phone"),
        ("# Client: phone (2) (7)\n[Peer]\n", "phone (2)"),
        ("# ID:           cn1\n# Name:         Anna\n# Email:        anna@example.org\n# Created at:   2023-05-02\n[Peer]\n", "Anna"),
        ("# ID:           cn1\n# Name:         \n# Email:        anna@example.org\n# Update at:   2023-05-02\n\n[Peer]\n", "anna@example.org"),
        ("[Peer]\n# phone\n", "phone"),
        ("[Peer]\n\n# phone\n# of Anna\n", "phone"),
        ("[Peer]\n# Name = phone\n", "phone"),
        ("[Peer]\n# friendly_name = phone\n", "phone"),
        ("[Peer] # phone\n", "phone"),
        ("# one\n# two\n[Peer]\n", "two"),
        ("# far above\n\n[Peer]\n", ""),
        ("#\n[Peer]\n#\n", ""),
        ("[Peer]\n", ""),
        ("# END_PEER bob\n[Peer]\n", ""),
        ("### end bob ###\n[Peer]\n", ""),
        ("# Endpoint = 192.0.2.1:1\n[Peer]\n# PersistentKeepalive = 25\n", ""),
        (f"# {made_key('a secret')}\n[Peer]\n", ""),
        (f"# PrivateKey: {made_key('a secret')}\n[Peer]\n", ""),
        (f"### Client {made_key('a secret')}\n[Peer]\n# phone\n", "phone"),
    ],
)
def test_a_name_is_taken_from_the_comment_that_is_one(text: str, said: str) -> None:
    assert label(f"{HEAD}{text}{PEER}") == said


def test_a_name_belongs_to_the_peer_below_it_and_to_no_other() -> None:
    text = f"{HEAD}### Client alice\n[Peer]\n{PEER}# a remark\n\n[Peer]\nPublicKey = {BOB}\n"
    assert [peer.label for peer in labelled(parse(text))] == ["alice", ""]


def test_a_peer_that_is_commented_out_is_named() -> None:
    begin, end = PIVPN.index("### begin alice"), PIVPN.index("### begin bob")
    disabled = "".join(f"#[disabled] {line}\n" for line in PIVPN[begin:end].splitlines())
    config = parse(PIVPN[:begin] + disabled + PIVPN[end:])
    assert [peer.label for peer in labelled(config)] == ["bob"]
    assert commented_out(config) == [(7, "alice")]
    assert commented_out(parse(f"{HEAD}# phone\n# [Peer]\n#PublicKey = x\n")) == [(5, "")]
    assert commented_out(parse(PIVPN)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [(FILES["Nyr"], "vpn.example.net"), (FILES["PiVPN"], None), ("# ENDPOINT two words\n", None), ("# ENDPOINT \n", None)],
)
def test_the_endpoint_that_nyrs_script_notes_is_found(text: str, said: str | None) -> None:
    assert endpoint_of(parse(text)) == said
