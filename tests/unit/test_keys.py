# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""M5 and M6: a key is what wg takes, it is printed nowhere, and one of an invitation is used once."""

from __future__ import annotations

import string

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import wgkeys
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput, CommandFailed
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_bad_input import refused
from ansible_collections.pic.cells.tests.unit.world import World, call, program

KEY = made_key("any")
# The last character holds two bits that belong to no byte: three other ones decode to the same key, and wg takes none of them.
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
TWIN = KEY[:-2] + ALPHABET[ALPHABET.index(KEY[-2]) ^ 1] + "="
FAR = {"name": "far", "public_key": made_key("far"), "networks": ["10.9.0.0/24"]}
INVITED = "/var/lib/pic/invitations/far.psk"


def test_a_preshared_key_with_a_mistyped_last_character_is_refused_and_not_shown(linked: World) -> None:
    message = refused(linked, "wg_cell_peer", {**FAR, "preshared_key": TWIN}, "link 'far'", "wg genpsk")
    assert TWIN[:10] not in message
    refused(linked, "wg_cell_peer", {**FAR, "public_key": TWIN}, "public_key of link 'far'")
    for check in (wgkeys.check_preshared_key, wgkeys.check_public_key):
        assert check("it", KEY) == KEY
        with pytest.raises(BadInput):
            check("it", TWIN)


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("wg", f"Key is not the correct length or format: `{TWIN}'\nConfiguration parsing error"),
        ("wg", f"Line unrecognized: `PresharedKy={KEY}'"),
        ("wg", f"Line unrecognized: `PresharedKy={KEY[:30]}!{KEY[30:]}'"),
        ("wg-quick", f"[#] wg set pic-a peer x preshared-key <(echo {KEY})"),
        ("wg-quick", f"[#] echo {KEY[:20]} {KEY[20:]}"),
        ("wg", f"interface: a\n  private key: {KEY}"),
    ],
)
def test_what_wireguard_complains_of_reaches_no_message_with_a_key(tool: str, said: str) -> None:
    error = CommandFailed([tool, "x"], 1, said)
    assert KEY[20:30] not in f"{error} {error.output}" and KEY[:10] not in f"{error} {error.output}"


@pytest.mark.parametrize(
    "said", ["RTNETLINK answers: Operation not supported", "Unable to modify interface: No such device", "wg-quick: `pic-a' already exists"]
)
def test_what_holds_no_key_is_said(said: str) -> None:
    assert said in str(CommandFailed(["wg-quick", "up"], 1, said))


@pytest.mark.parametrize("garbage", [TWIN, "x", "\x1b[2J", KEY + "\n" + KEY, "\udcfc"])
def test_an_identity_that_is_none_is_named_and_never_given_to_wg(linked: World, garbage: str) -> None:
    host = linked["cella"]
    host.files["/var/lib/pic/identity.key"] = (0o600, garbage)
    host.reset()
    result = call("wg_cell_peer", host, FAR)
    assert result["failed"] and "identity.key holds no key" in result["msg"] and garbage[:40] not in result["msg"].replace("x", "") + " "
    assert ["wg", "pubkey"] not in host.log and host.steps == []
    rc, _out, err = program(host, "restore")
    assert rc == 1 and "identity.key holds no key" in err


@pytest.mark.parametrize("name", ["pic-cellb", "wg0"])
def test_a_file_with_a_key_that_is_none_is_not_started(linked: World, name: str) -> None:
    """In the devices' file it can be somebody else's."""
    host = linked["cella"]
    path, other = f"/etc/wireguard/{name}.conf", made_key("somebody's device")
    text = f"{host.read(path)}\n[Peer]\nPublicKey = {other}\nPresharedKey = {KEY[:-2]}!=\nAllowedIPs = 10.0.0.77/32\n"
    host.files[path] = (0o600, text)
    host.drop_link(name)
    host.reset()
    rc, _out, err = program(host, "restore")
    assert rc == 1 and path in err and "PresharedKey" in err and KEY[:20] not in err
    assert not any(f"wg-quick@{name}" in step for step in host.steps) and "pic-cellc" in host.wg


# The key of an invitation


def invited(world: World) -> str:
    """Make an invitation for another owner; return its key."""
    assert not call("pic_link_invitation", world["cella"], {"name": "far"}).get("failed")
    return (world["cella"].read(INVITED) or "").strip()


def test_the_key_of_an_invitation_is_used_once(linked: World) -> None:
    host, key = linked["cella"], invited(linked)
    assert call("wg_cell_peer", host, FAR)["changed"]
    assert host.wg["pic-far"].peers[FAR["public_key"]].psk == key
    assert not host.exists(INVITED) and not host.list("/var/lib/pic/invitations")
    assert not call("wg_cell_peer", host, FAR)["changed"]


def test_the_key_of_an_invitation_goes_with_the_link(linked: World) -> None:
    host, key = linked["cella"], invited(linked)
    call("wg_cell_peer", host, {"name": "far", "state": "absent"})
    assert not host.list("/var/lib/pic/invitations")
    call("wg_cell_peer", host, {**FAR, "public_key": made_key("somebody else")})
    assert host.wg["pic-far"].peers[made_key("somebody else")].psk != key


@pytest.mark.parametrize("age", [24 * 3600 + 1, -3600])
def test_the_key_of_an_invitation_is_good_for_a_day(linked: World, age: int) -> None:
    host, key = linked["cella"], invited(linked)
    assert invited(linked) == key
    host.now += age
    fork = linked.fork()
    call("wg_cell_peer", fork["cella"], FAR)
    assert fork["cella"].wg["pic-far"].peers[FAR["public_key"]].psk != key
    assert program(host, "restore")[0] == 0 and not host.list("/var/lib/pic/invitations")
    assert invited(linked) != key


def test_a_key_of_before_begins_its_day_with_the_next_restore(linked: World) -> None:
    host = linked["cella"]
    host.files[INVITED] = (0o600, f"{KEY}\n")
    assert program(host, "restore")[0] == 0 and host.exists(INVITED)
    host.reset()
    assert program(host, "restore")[0] == 0 and host.steps == []
    host.now += 24 * 3600 + 1
    assert program(host, "restore")[0] == 0 and not host.list("/var/lib/pic/invitations")
