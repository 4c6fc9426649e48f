# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider's WireGuard file: what is taken from it, and what is refused without a key in the sentence."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.kernel.provided import read, render
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key, public_key

PRIVATE, PUBLIC, PRESHARED = made_key("customer"), public_key(made_key("provider")), made_key("preshared")
FILE = f"""\
[Interface]
PrivateKey = {PRIVATE}
Address = 10.64.3.7/32, fc00:bbbb::7/128
DNS = 10.64.0.1, provider.example, fc00:bbbb::1
MTU = 1380

[Peer]
# Zürich
PublicKey = {PUBLIC}
PresharedKey = {PRESHARED}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 198.51.100.7:51820
PersistentKeepalive = 25
"""


def without(name: str) -> str:
    return "".join(line for line in FILE.splitlines(keepends=True) if not line.startswith(name))


def test_what_is_taken():
    found = read(FILE, "config of exit 'vpn'")
    assert (found.private_key, found.public_key, found.preshared_key) == (PRIVATE, PUBLIC, PRESHARED)
    assert (found.addresses, found.resolvers) == (["10.64.3.7", "fc00:bbbb::7"], ["10.64.0.1", "fc00:bbbb::1"])
    assert (found.endpoint, found.keepalive, found.mtu) == ("198.51.100.7:51820", 25, 1380)
    assert PRIVATE not in repr(found) and PRESHARED not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        FILE.replace("\n", "\r\n"),
        "\ufeff" + FILE,
        FILE.replace("MTU", "Table = 1234\nFwMark = 51820\nListenPort = 51820\nSaveConfig = true\nMTU"),
        FILE.replace("0.0.0.0/0", "0.0.0.0/1, 128.0.0.0/1"),
        FILE.replace("10.64.3.7/32", "10.64.3.7/24"),
    ],
)
def test_what_makes_no_difference(text):
    assert read(text, "x") == read(FILE, "x")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "fe80::1", "224.0.0.1"])
def test_a_resolver_that_is_no_host_is_none(address):
    assert address not in read(FILE.replace("10.64.0.1", address), "x").resolvers


def test_a_family_counts_where_it_has_an_address_and_everything_goes_there():
    assert read(FILE.replace(", fc00:bbbb::7/128", ""), "x").addresses == ["10.64.3.7"]
    assert read(FILE.replace("0.0.0.0/0, ", "192.168.0.0/16, "), "x").addresses == ["fc00:bbbb::7"]


@pytest.mark.parametrize("hook", ["PreUp", "PostUp", "PreDown", "PostDown", "postup "])
def test_no_command_is_taken(hook):
    with pytest.raises(BadInput, match=rf"line 3 \({hook.strip()}\) is a command.* Remove the line"):
        read(FILE.replace("Address", f"{hook}= rm -rf /\nAddress", 1), "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no \\[Interface\\] section"),
        (None, "not the text of a WireGuard file"),
        (FILE + "#" * 70_000, "not the text of a WireGuard file"),
        (f"{FILE}\n[Peer]\nPublicKey = {PUBLIC}\n", "2 \\[Peer\\] sections"),
        (FILE.partition("[Peer]")[0], "no \\[Peer\\] section"),
        (without("PrivateKey"), "PrivateKey is missing"),
        (FILE.replace(PRIVATE, f"{PRIVATE[:-2]}$="), "PrivateKey is missing, or not a WireGuard key"),
        (FILE.replace(PRIVATE, "A" * 43 + "="), "PrivateKey is missing, or not a WireGuard key"),
        (FILE.replace(PRESHARED, PRESHARED[:-3]), "preshared key is not 32 bytes"),
        (without("PublicKey"), "no PublicKey"),
        (without("Endpoint"), "not host:port"),
        (FILE.replace("198.51.100.7:51820", "198.51.100.7"), "not host:port"),
        (without("Address"), "cannot be an exit"),
        (without("AllowedIPs"), "cannot be an exit"),
        (FILE.replace("0.0.0.0/0, ::/0", "0.0.0.0/1"), "cannot be an exit"),
        (FILE.replace("10.64.3.7/32", "10.64.3.7/32$(id)"), "is not an IP address"),
        (FILE.replace("10.64.3.7", "127.0.0.1"), "cannot be the address of a host"),
        (FILE.replace("1380", "1200"), "MTU is not a number from 1280"),
        (FILE.replace("1380", "9" * 40), "is not a number"),
        (FILE.replace("= 25", "= -1"), "PersistentKeepalive is not a number"),
        (FILE.replace("MTU", "Jc = 4\nMTU"), "line 5 \\('Jc'\\) is no setting there"),
        (FILE.replace("[Peer]", "[Peers]"), "begins no section"),
        (FILE.replace(f"PrivateKey = {PRIVATE}", f"PrivateKey =\n{PRIVATE}"), "line 3 is no setting"),
        (FILE.replace("PrivateKey =", "PrivateKey:"), "line 2 is no setting"),
        (FILE.replace("Address = ", f"Address = {PRIVATE}, "), "not an IP address"),
        (FILE.replace("198.51.100.7:51820", PRIVATE), "not host:port"),
        (FILE.replace(PUBLIC, f"{PRIVATE}x"), "PublicKey is not a WireGuard key"),
        (FILE.replace("1380", PRIVATE), "MTU is not a number"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(BadInput, match=said) as refusal:
        read(text, "config of exit 'vpn'")
    assert str(refusal.value).startswith("config of exit 'vpn'")
    assert PRIVATE[:8] not in str(refusal.value) and PRESHARED[:8] not in str(refusal.value)


def test_the_fields_say_what_the_file_says():
    found = read(FILE, "x")
    assert read(render(asdict(found)), "x") == found
    only_ipv6 = read(FILE.replace("0.0.0.0/0, ", ""), "x")
    assert read(render(asdict(only_ipv6)), "x") == only_ipv6


@pytest.mark.parametrize("field", ["endpoint", "public_key", "private_key", "preshared_key"])
def test_no_field_becomes_a_line(field):
    fields = asdict(read(FILE, "x"))
    with pytest.raises(BadInput, match="is a command"):
        read(render({**fields, field: f"{fields[field]}\nPostUp = id"}), "x")
