# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and networks are read strictly, and those that overlap are found without comparing each with each."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import errors, networks
from ansible_collections.pic.cells.plugins.module_utils.base.networks import Network, Overlaps, conflicts, network_of


def some_network(chance: random.Random) -> Network:
    """Return a network out of a small space, so that many overlap."""
    if chance.random() < 0.5:
        prefix = chance.randint(0, 32)
        return network_of(f"10.{chance.randint(0, 3)}.{chance.randint(0, 3)}.{chance.randint(0, 255)}/32").supernet(new_prefix=prefix)
    return network_of(f"fd00:{chance.randint(0, 3):x}::{chance.randint(0, 3):x}/128").supernet(new_prefix=chance.randint(0, 128))


@pytest.mark.parametrize("seed", range(20))
def test_what_overlaps_is_found_as_by_comparing_all(seed: int) -> None:
    chance, known, all_of_them = random.Random(seed), Overlaps(), []
    for number in range(60):
        network = some_network(chance)
        expected = [(other, who) for other, who in all_of_them if other.version == network.version and other.overlaps(network)]
        assert known.of(network) == expected
        known.add(network, str(number))
        all_of_them.append((network, str(number)))


def test_networks_of_one_owner_may_overlap_each_other() -> None:
    assert conflicts({"link cellb": ["10.0.0.0/8", "10.0.1.0/24"]}, {}) == []
    assert conflicts({"link cellb": ["10.0.0.0/8"], "link cellc": ["10.0.1.9/24"]}, {"docker0": ["10.1.0.1/16"]}) == [
        "network 10.0.0.0/8 of link cellb overlaps 10.1.0.0/16 of docker0",
        "network 10.0.1.0/24 of link cellc overlaps 10.0.0.0/8 of link cellb",
    ]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("10.0.0.1", True),
        ("2001:db8::1", True),
        ("a.example.net", True),
        ("a.example.net.", True),
        ("a_b-c", True),
        ("a" * 63, True),
        ("a" * 64, False),
        (".".join(["a" * 62] * 4), True),
        (f"a.{'.'.join(['a' * 62] * 4)}", True),
        (f"aa.{'.'.join(['a' * 62] * 4)}", False),
        ("10.0.0.256", False),
        ("a.1", False),
        ("1.a", True),
        ("-a.example.net", False),
        ("a-.example.net", False),
        ("a..b", False),
        ("", False),
        ("a b", False),
        ("a\n", False),
        ("ä.example.net", False),
        ("fe80::1%eth0", False),
    ],
)
def test_a_host_is_an_address_or_a_name(text: str, good: bool) -> None:
    assert networks.is_host(text) == good


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("a.example.net:51820", "Give a.example.net;"),
        ("http://a.example.net/x", "Give a.example.net;"),
        ("203.0.113.1:1", "Give 203.0.113.1;"),
        ("[2001:db8::1]:51820", "Give 2001:db8::1;"),
        ("[2001:db8::1]", "Give 2001:db8::1;"),
        ("two words", "Give one like a.example.net, 203.0.113.11 or 2001:db8::1, without a port"),
        ("10.0.0.256", "Give one like"),
        (5, "Give one like"),
    ],
)
def test_what_is_no_host_is_refused_with_what_it_could_be(value: object, remedy: str) -> None:
    with pytest.raises(errors.BadInput) as found:
        networks.check_host(value, "endpoint")
    assert str(found.value).startswith(f"endpoint: {str(value)!r} is not a plain host name or address. {remedy}")


def test_a_host_is_returned_as_it_is() -> None:
    assert networks.check_host("a.example.net", "endpoint") == "a.example.net"


READ: list[tuple[Callable[[object, str], object], object, str | None, str]] = [
    (networks.parse_address, "10.0.0.2", "10.0.0.2", ""),
    (networks.parse_address, " fd00::2\n", "fd00::2", ""),
    (networks.parse_address, "10.0.0.2/32", None, "is not an IP address"),
    (networks.parse_address, "fe80::2%eth0", None, "is not an IP address"),
    (networks.parse_address, "\u0661.0.0.2", None, "is not an IP address"),
    (networks.parse_network, "10.0.1.0/24", "10.0.1.0/24", ""),
    (networks.parse_network, " 10.0.1.7 ", "10.0.1.7/32", ""),
    (networks.parse_network, "10.0.1.0/x", None, "is not a network"),
    (networks.parse_network, "::/0", None, "is the whole internet, not the network of a cell"),
    (networks.parse_network, "0.0.0.0/1", "0.0.0.0/1", ""),
    (networks.parse_network, "10.0.1.1/24", None, "has host bits set. Did you mean 10.0.1.0/24?"),
    (networks.parse_interface, "10.0.0.1/24", "10.0.0.1/24", ""),
    (networks.parse_interface, "\t10.0.0.1/24 ", "10.0.0.1/24", ""),
    (networks.parse_interface, "10.0.0.1/32", "10.0.0.1/32", ""),
    (networks.parse_interface, "10.0.0.0/31", "10.0.0.0/31", ""),
    (networks.parse_interface, "10.0.0.1", None, "lacks a usable prefix length"),
    (networks.parse_interface, "10.0.0.1/0", None, "lacks a usable prefix length"),
    (networks.parse_interface, "10.0.0.0/24", None, "is the network itself. Give the cell's own address in it, like 10.0.0.1/24."),
    (networks.parse_interface, "10.0.0.0/30", None, "is the network itself. Give the cell's own address in it, like 10.0.0.1/30."),
    (networks.parse_interface, "10.0.0", None, "is not an address with a prefix"),
]


@pytest.mark.parametrize(("read", "value", "expected", "words"), [pytest.param(*row, id=f"{row[0].__name__} {row[1]!r}") for row in READ])
def test_addresses_and_networks_are_read_strictly(read: Callable[[object, str], object], value: object, expected: str | None, words: str) -> None:
    if expected is not None:
        assert str(read(value, "networks")) == expected
    else:
        with pytest.raises(errors.BadInput) as found:
            read(value, "networks")
        assert str(found.value).startswith(f"networks: {value!r} {words}")


@pytest.mark.parametrize(
    ("value", "public", "words"),
    [
        ("10.0.0.0/8", False, None),
        ("100.64.0.0/10", False, None),
        ("172.16.0.0/12", False, None),
        ("192.168.0.0/16", False, None),
        ("fd00::/32", False, None),
        ("8.0.0.0/8", True, None),
        ("2001::/32", True, None),
        ("10.0.0.0/7", True, "is wider than /8"),
        ("fc00::/31", False, "is wider than /32"),
        ("192.0.2.0/24", False, "is neither private"),
        ("2001:db8::/32", False, "is neither private"),
        ("fe80::/64", False, "holds addresses that are no other host's"),
        ("169.254.169.254/32", True, "holds addresses that are no other host's"),
        ("224.0.0.0/16", True, "holds addresses that are no other host's"),
        ("172.0.0.0/8", False, "is neither private"),
    ],
)
def test_a_link_claims_no_network_that_no_cell_should_have(value: str, public: bool, words: str | None) -> None:
    if words is None:
        networks.check_link_networks("networks", ["10.0.1.0/24", value], public)
    else:
        with pytest.raises(errors.BadInput) as found:
            networks.check_link_networks("networks", ["10.0.1.0/24", value], public)
        assert str(found.value).startswith(f"networks: {value!r} {words}")


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://10.0.1.1", True),
        ("http://10.0.1.1:1/path-x_y.z/", True),
        ("http://[fd00:b::1]:65535", True),
        ("http://10.0.1.1:0", False),
        ("http://10.0.1.1:65536", False),
        ("http://10.0.1.256", False),
        ("http://[10.0.1.1]", True),
        ("http://fd00:b::1", False),
        ("https://10.0.1.1", False),
        ("http://b.example.net", False),
        ("http://10.0.1.1/?x", False),
        ("http://10.0.1.1\n", False),
        (None, False),
    ],
)
def test_the_url_of_an_api_has_an_address_in_digits(url: object, good: bool) -> None:
    if good:
        assert networks.check_api_url("api_url", url) == url
    else:
        with pytest.raises(errors.BadInput, match=r"api_url: .* is not a URL like"):
            networks.check_api_url("api_url", url)


def test_families_are_told_apart_in_their_order() -> None:
    values = ["fd00::1", "10.0.0.2", "::/0", "10.0.0.0/8"]
    assert networks.of_family(4, values) == ["10.0.0.2", "10.0.0.0/8"]
    assert networks.of_family(6, values) == ["fd00::1", "::/0"]


def test_networks_are_sorted_by_family_address_and_prefix() -> None:
    expected = ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.2", "10.0.0.10", "::1", "fd00::/8"]
    assert sorted(sorted(expected), key=networks.sort_key) == expected


def test_an_ipv6_address_with_a_port_has_brackets() -> None:
    assert (networks.host_port("10.0.0.1", 1), networks.host_port("fd00::1", "2"), networks.host_port("a", 3)) == ("10.0.0.1:1", "[fd00::1]:2", "a:3")


def test_addresses_are_networks_of_their_own() -> None:
    assert networks.host_networks(["10.0.0.2", "fd00::2"]) == ["10.0.0.2/32", "fd00::2/128"]


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("10.0.0.0/8", True),
        ("10.1.0.0/16", True),
        ("8.0.0.0/7", False),
        ("192.0.2.0/24", False),
        ("224.0.0.0/4", True),
        ("fd00::/8", True),
        ("2001:db8::/32", False),
        ("64:ff9b::/96", True),
    ],
)
def test_an_exit_forwards_to_no_private_network(text: str, private: bool) -> None:
    assert networks.is_private(networks.network_of(text)) == private


def test_the_address_of_the_kernel_is_read() -> None:
    assert [str(networks.address_from(data)) for data in (b"\x0a\0\0\1", b"\xfd" + bytes(14) + b"\1")] == ["10.0.0.1", "fd00::1"]


def test_a_conflict_is_told_once_and_not_within_one_owner() -> None:
    wanted = {"link cellb": ["10.0.1.0/24", "10.0.1.7"], "link cellc": ["fd00::/64"]}
    assert networks.conflicts(wanted, {"eth0": ["10.0.1.9/24", "10.0.1.9/24"]}) == [
        "network 10.0.1.0/24 of link cellb overlaps 10.0.1.0/24 of eth0",
        "network 10.0.1.7/32 of link cellb overlaps 10.0.1.0/24 of eth0",
    ]
