# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of wg-quick: read, changed line by line, and written again with all that is somebody else's as it stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import errors
from ansible_collections.pic.cells.plugins.module_utils.kernel import wgconfig

FILE = """# by hand
[Interface]
PrivateKey = one # the old one
Address = 10.0.0.1/24, fd00:a::1/64
Address = 192.0.2.1/32
# PostUp = nothing

[Peer] # the phone
PublicKey = P
AllowedIPs = 10.0.0.2/32

# pic.cells: cell cellb
[Peer]
PublicKey = B
Endpoint = b.example.net:51821
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(FILE, id="a whole file"),
        pytest.param(FILE.replace("\n", "\r\n"), id="with lines of Windows"),
        pytest.param(FILE.rstrip("\n"), id="without a newline at its end"),
        pytest.param(FILE + "\n\n", id="with blank lines at its end"),
        pytest.param("", id="empty"),
        pytest.param("\n", id="a blank line"),
        pytest.param("# nothing but this", id="a comment"),
        pytest.param("[Interface]\n# a\u2028b\x0cc\n", id="with what other programs take for the end of a line"),
        pytest.param("# pic.cells: a\n[Peer]\n", id="a peer of ours alone"),
        pytest.param("[peer]\n\n\n# pic.cells: a\n[Peer]\n[Interface]\n", id="sections in any order"),
    ],
)
def test_a_file_is_rendered_as_it_was_read(text: str) -> None:
    assert wgconfig.parse(text).render() == text


def test_a_file_that_is_not_there_is_an_empty_one() -> None:
    assert wgconfig.parse(None) == wgconfig.parse("")


def test_a_file_is_read_by_sections() -> None:
    config = wgconfig.parse(FILE)
    assert [section.header for section in config.sections] == ["", "interface", "peer", "peer"]
    assert [section.lead for section in config.sections] == [[], [], [], ["", "# pic.cells: cell cellb"]]
    assert [section.get("PUBLICKEY") for section in config.of("peer")] == ["P", "B"]
    assert (config.eol, config.open_end) == ("", False)
    assert (wgconfig.parse("[Peer]\r\n").eol, wgconfig.parse("[Peer]").open_end) == ("\r", True)


@pytest.mark.parametrize(
    ("line", "header"),
    [("[Peer]", "peer"), (" [ PEER ] # phone", "peer"), ("[Interface", "interface"), ("Peer]", None), ("# [Peer]", None), ("A = [Peer]", None)],
)
def test_a_section_begins_with_its_header(line: str, header: str | None) -> None:
    assert [section.header for section in wgconfig.parse(line).sections] == ["", *([header] if header else [])]


@pytest.mark.parametrize(
    ("before", "lead", "left"),
    [
        pytest.param(["", "# pic.cells: a"], ["", "# pic.cells: a"], [], id="a blank line and ours"),
        pytest.param(["x", "# pic.cells: a"], ["# pic.cells: a"], ["x"], id="ours alone"),
        pytest.param(["# pic.cells: a"], ["# pic.cells: a"], [], id="ours at the beginning"),
        pytest.param(["", "# theirs"], [], ["", "# theirs"], id="somebody else's"),
        pytest.param(["# pic.cells: a", ""], [], ["# pic.cells: a", ""], id="ours with a blank line behind it"),
    ],
)
def test_what_we_have_put_before_a_peer_belongs_to_it(before: list[str], lead: list[str], left: list[str]) -> None:
    config = wgconfig.parse("\n".join([*before, "[Peer]", ""]))
    assert (config.sections[1].lead, config.sections[0].lines) == (lead, left)
    assert wgconfig.parse("\n".join([*before, "[Interface]", ""])).sections[1].lead == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("MTU = 1420", ("mtu", "1420")),
        ("  mtu=1420  # by hand", ("mtu", "1420")),
        ("PrivateKey = abc=", ("privatekey", "abc=")),
        ("# MTU = 1420", ("", "")),
        ("[Peer]", ("", "")),
        ("MTU", ("", "")),
        ("MTU =", ("mtu", "")),
        ("MTU # = 1420", ("", "")),
    ],
)
def test_a_line_is_a_setting_or_none(line: str, expected: tuple[str, str]) -> None:
    assert wgconfig.setting(line) == expected


@pytest.mark.parametrize(("key", "value"), [("MTU", "1400"), ("mtu", "1400"), ("DNS", None), ("Table", "off"), ("PublicKey", None)])
def test_of_several_settings_the_last_one_counts(key: str, value: str | None) -> None:
    assert wgconfig.parse("[Interface]\nMTU = 1300\nMTU = 1350\n[Peer]\nPublicKey = P\n[Interface]\nMTU = 1400\nTable = off\n").get(key) == value


def test_a_section_gives_the_last_and_all_values_of_a_setting() -> None:
    (section,) = wgconfig.parse(FILE).of("interface")
    assert (section.get("Address"), section.all("address")) == ("192.0.2.1/32", ["10.0.0.1/24, fd00:a::1/64", "192.0.2.1/32"])
    assert (section.get("MTU"), section.has_settings()) == (None, True)
    assert not wgconfig.Section("interface", ["[Interface]", "# A = B", ""]).has_settings()


def put(text: str, key: str, value: str) -> str:
    """Return a file whose interface has one setting more, or another value of it."""
    config = wgconfig.parse(text)
    config.put(config.of("interface"), key, value)
    return config.render()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["MTU = 1300"], ["MTU = 1400"], id="changed"),
        pytest.param(["MTU = 1400 # by hand"], ["MTU = 1400 # by hand"], id="as it is"),
        pytest.param(["  mtu=1300\t# by hand"], ["  mtu=1400\t# by hand"], id="changed, all else as it stands"),
        pytest.param(["MTU  =   1300  "], ["MTU  =   1400  "], id="changed, with its blanks"),
        pytest.param(["MTU ="], ["MTU = 1400"], id="without a value"),
        pytest.param(["MTU =# by hand"], ["MTU = 1400 # by hand"], id="without a value, with a comment"),
        pytest.param(["MTU = 1200", "MTU = 1300"], ["MTU = 1200", "MTU = 1400"], id="the one that counts"),
        pytest.param(["A = 1", "# end", ""], ["A = 1", "MTU = 1400", "# end", ""], id="added behind the last setting"),
        pytest.param(["# end"], ["MTU = 1400", "# end"], id="added behind the header"),
        pytest.param(["# MTU = 1300"], ["MTU = 1400", "# MTU = 1300"], id="one in a comment"),
    ],
)
def test_a_setting_gets_a_value(lines: list[str], expected: list[str]) -> None:
    assert put("\n".join(["[Interface]", *lines, ""]), "MTU", "1400") == "\n".join(["[Interface]", *expected, ""])


def test_a_setting_stays_in_the_section_where_it_is_and_is_added_to_the_first() -> None:
    two = "[Interface]\nA = 1\n[Interface]\nMTU = 1300\n"
    assert put(two, "MTU", "1400") == two.replace("1300", "1400")
    assert put(two, "DNS", "192.0.2.53") == "[Interface]\nA = 1\nDNS = 192.0.2.53\n[Interface]\nMTU = 1300\n"


@pytest.mark.parametrize(("before", "after"), [("MTU = 1300\r\n", "MTU = 1400\r\n"), ("MTU =\r\n", "MTU = 1400\r\n"), ("A = 1\r\n", "A = 1\r\nMTU = 1400\r\n")])
def test_a_setting_in_a_file_of_windows_ends_as_the_others(before: str, after: str) -> None:
    assert put(f"[Interface]\r\n{before}", "MTU", "1400") == f"[Interface]\r\n{after}"


def test_a_value_that_means_the_same_stays_as_it_is() -> None:
    config = wgconfig.parse("[Interface]\nPrivateKey = One\n")
    config.put(config.of("interface"), "PrivateKey", "one", lambda one, two: one.lower() == two.lower())
    assert config.render() == "[Interface]\nPrivateKey = One\n"


def put_list(lines: list[str], values: list[str]) -> list[str]:
    """Return the lines of an interface that has these addresses; any address in capitals is one to leave."""
    config = wgconfig.parse("\n".join(["[Interface]", *lines, ""]))
    config.put_list(config.of("interface"), "Address", values, lambda value: None if value.isupper() else value.lower())
    return config.render().split("\n")[1:-1]


@pytest.mark.parametrize(
    ("lines", "values", "expected"),
    [
        pytest.param(["Address = a, b"], ["b", "a"], ["Address = a, b"], id="in another order"),
        pytest.param(["Address = a", "address = b"], ["a", "b"], ["Address = a", "address = b"], id="in two lines"),
        pytest.param(["Address = a"], ["a", "b"], ["Address = a, b"], id="one added"),
        pytest.param(["Address = a", "Address = b # here"], ["a", "b", "c"], ["Address = a", "Address = b, c # here"], id="one added to the last line"),
        pytest.param(["Address = a, b"], ["a"], ["Address = a"], id="one removed"),
        pytest.param(["Address = a,b , c"], ["b"], ["Address = b"], id="two removed"),
        pytest.param(["Address = a"], ["b"], ["Address = b"], id="another"),
        pytest.param(["Address = a # here"], ["b"], ["Address = b", "# here"], id="another, and the comment stays"),
        pytest.param(["Address = a"], [], [], id="none left"),
        pytest.param(["Address = a # here"], [], ["# here"], id="none left, and the comment stays"),
        pytest.param(["Address ="], ["a"], ["Address = a"], id="a line without a value"),
        pytest.param(["Address = A, b"], ["a"], ["Address = A, a"], id="one of somebody else stays"),
        pytest.param([], ["a", "b"], ["Address = a, b"], id="the first ones"),
        pytest.param(["MTU = 1", "# end"], ["a"], ["MTU = 1", "Address = a", "# end"], id="the first one, behind the last setting"),
        pytest.param(["MTU = a, b"], [], ["MTU = a, b"], id="another setting"),
        pytest.param(["MTU = a"], ["a"], ["MTU = a", "Address = a"], id="another setting of the same value"),
    ],
)
def test_a_list_gets_these_values(lines: list[str], values: list[str], expected: list[str]) -> None:
    assert put_list(lines, values) == expected


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        pytest.param(lambda config, peer: config.drop(peer, "Endpoint"), ["[Peer]", "PublicKey = B"], id="dropped"),
        pytest.param(lambda config, peer: config.drop(peer, "MTU"), ["[Peer]", "PublicKey = B", "Endpoint = b.example.net:51821"], id="nothing to drop"),
    ],
)
def test_a_setting_goes(change: Callable[[wgconfig.Config, wgconfig.Section], None], lines: list[str]) -> None:
    config = wgconfig.parse(FILE)
    change(config, config.of("peer")[1])
    assert config.of("peer")[1].lines == lines


def test_the_comment_behind_a_setting_that_goes_stays() -> None:
    config = wgconfig.parse("[Interface]\nMTU = 1 # by hand\n")
    config.drop(config.sections[1], "MTU")
    assert config.render() == "[Interface]\n# by hand\n"


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_a_peer_is_added_behind_a_blank_line_and_its_name(eol: str) -> None:
    config = wgconfig.parse(f"[Interface]{eol}A = 1{eol}")
    config.add_peer(["PublicKey = B"], "cell cellb")
    assert config.render() == eol.join(["[Interface]", "A = 1", "", "# pic.cells: cell cellb", "[Peer]", "PublicKey = B", ""])
    assert wgconfig.parse(config.render()) == config


def test_a_peer_of_ours_is_renamed_and_one_of_others_is_not() -> None:
    config = wgconfig.parse(FILE)
    for section in config.of("peer"):
        config.relabel(section, "device tv")
    assert config.render() == FILE.replace("cell cellb", "device tv")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(1, FILE[: FILE.index("\n# pic.cells")], id="the last one, with what we have put before it"),
        pytest.param(0, FILE.replace("[Peer] # the phone\nPublicKey = P\nAllowedIPs = 10.0.0.2/32\n", "# the phone\n"), id="one of others, comments stay"),
    ],
)
def test_a_peer_is_removed(number: int, expected: str) -> None:
    config = wgconfig.parse(FILE)
    config.remove(config.of("peer")[number])
    assert config.render() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(FILE, "", id="nothing"),
        pytest.param("", "", id="nothing in nothing"),
        pytest.param("[Interface]\n[Peer]\nPublicKey = P\n", "", id="nothing in an interface without settings"),
        pytest.param("[interface] # one\nmtu = 1\n[ PEER ]\npublickey = P", "", id="nothing in another spelling"),
        pytest.param("MTU = 1\n", "line 1 ('MTU') is no setting there", id="a setting before all sections"),
        pytest.param("[Interface]\nPublicKey = P\n", "line 2 ('PublicKey') is no setting there", id="a peer's setting"),
        pytest.param("[Peer]\nPublicKey = P\nMTU = 1\n", "line 3 ('MTU') is no setting there", id="an interface's setting"),
        pytest.param("[Interface]\nsecret\n", "line 2 is no setting there", id="no setting"),
        pytest.param(f"[Interface]\n{'x' * 30} = 1\n", "line 2 is no setting there", id="a long name, which may be a key"),
        pytest.param("\ufeff[Interface]\n", "line 1 begins with a byte order mark", id="a byte order mark"),
        pytest.param("[Interface]\n\ufeffMTU = 1\n", "line 2 is no setting there", id="a mark elsewhere"),
        pytest.param("[Device]\n", "line 1 begins no section", id="an unknown section"),
        pytest.param("[Inter face]\n", "line 1 begins no section", id="blanks in a header"),
        pytest.param("[Interface]\n[Peer]\n", "the peer that begins in line 2 has no PublicKey", id="a peer without a key"),
        pytest.param("[Peer]\n[Peer]\nPublicKey = P\n", "the peer that begins in line 1 has no PublicKey", id="the first of two without a key"),
        pytest.param("[Peer]\nPublicKey = P\n[Interface]\n", "", id="a peer with a key before an interface"),
    ],
)
def test_what_keeps_wg_quick_from_starting_is_said(text: str, expected: str) -> None:
    assert wgconfig.fault(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1/24", "10.0.0.1/24"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("FD00::1/64", "fd00::1/64"),
        ("fe80::1/64", None),
        ("169.254.0.1/16", "169.254.0.1/16"),
        ("x", None),
    ],
)
def test_an_address_has_one_form(text: str, expected: str | None) -> None:
    assert wgconfig.plain_address(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("10.0.0.1/24", "10.0.0.0/24"), ("10.0.0.1", "10.0.0.1/32"), ("FD00::/64", "fd00::/64"), ("x", None)])
def test_a_network_has_one_form(text: str, expected: str | None) -> None:
    assert wgconfig.plain_network(text) == expected


def test_addresses_and_networks_are_read_once_each_and_what_is_none_is_left_out() -> None:
    text = "[Interface]\nAddress = 10.0.0.1/24, x,\nAddress = FD00::1/64, 10.0.0.1/24\n[Peer]\nAllowedIPs = 10.0.1.7/24, ,10.0.1.0/24\n"
    text += "AllowedIPs = y, fd00:b::/64\n"
    assert wgconfig.addresses_of(text) == ["10.0.0.1/24", "fd00::1/64"]
    assert wgconfig.addresses_of(None) == []
    assert wgconfig.networks_of(wgconfig.parse(text).of("peer")[0].all("allowedips")) == ["10.0.1.0/24", "fd00:b::/64"]


def test_values_that_may_be_listed_are_split() -> None:
    assert wgconfig.listed([" a, b ", "", "c,,d"]) == ["a", "b", "c", "d"]


def test_the_file_is_named_after_its_interface() -> None:
    assert wgconfig.config_path("pic-cellb") == "/etc/wireguard/pic-cellb.conf"


@pytest.mark.parametrize("value", ["1\nPostUp = touch /tmp/x", "1 # 2"])
def test_a_value_cannot_bring_a_line_or_a_comment_with_it(value: str) -> None:
    config = wgconfig.parse("[Interface]\nMTU = 1\n")
    with pytest.raises(errors.UnsafeText):
        config.put(config.of("interface"), "MTU", value)
    with pytest.raises(errors.UnsafeText):
        config.put_list(config.of("interface"), "MTU", [value], str)
    assert config.render() == "[Interface]\nMTU = 1\n"
