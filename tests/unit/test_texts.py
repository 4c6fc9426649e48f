# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others give as an address, a name or a URL never becomes a line of a rule, a batch, a file or a unit."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import networks, texts, wgkeys
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput, UnsafeText
from ansible_collections.pic.cells.plugins.module_utils.kernel import wgquick
from ansible_collections.pic.cells.plugins.module_utils.kernel.model import Interface, WgPeer
from ansible_collections.pic.cells.plugins.module_utils.kernel.plan import Run
from ansible_collections.pic.cells.plugins.module_utils.kernel.ruleset import Rule
from ansible_collections.pic.cells.plugins.module_utils.parts import units
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.program.transport import send
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import read_invitation
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key, program

PLUGINS = Path(__file__).parents[2] / "plugins"
KEY = made_key("far")
RULES = "1 -j ACCEPT\n-I FORWARD -j ACCEPT"
# Each is what an address becomes to a parser that takes a zone, or strips, or reads digits that are none.
HOSTILE = [
    f"fd00:c::1%{RULES}",
    f"fd00:c::1%{RULES}/64",
    *("fd00:c::1%eth0", "fe80::1%1", "fd00:c::1%", "fd00:c::%1/64", "10.9.0.1%1", "fd00:c::1%25eth0"),
    *("10.9.0.1\n-j ACCEPT", "10.9.0.1 -j ACCEPT", "10.9.0.1\0", "10.9.0.1;reboot", '10.9.0.1"', "10.9.0.1\x1b[2J", "10.9.0.\u0661", "10.9.0.0/\u0662\u0664"),
    *("-j", "", " ", "$(reboot)", "{{ 1 }}", "010.009.000.001/24", "1", "0x0a090001", "fd00:c::1\u2028", "\udcfc"),
]
PARSERS: list[Callable[[str], Any]] = [
    lambda text: networks.parse_address(text, "it"),
    lambda text: networks.parse_network(text, "it"),
    lambda text: networks.parse_interface(text, "it"),
    lambda text: networks.check_api_url("it", f"http://{text}:8088"),
    lambda text: networks.check_api_url("it", f"http://[{text}]:8088"),
    lambda text: wgkeys.check_endpoint("it", f"[{text}]:51820"),
    networks.address_of,
    networks.network_of,
    networks.interface_of,
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("parse", PARSERS)
def test_no_parser_of_addresses_takes_a_zone_or_more_than_an_address(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises((BadInput, ValueError)):
        parse(text)


def test_only_one_file_reads_addresses() -> None:
    """Python's own parser takes any character after '%': whoever asks it directly is not behind the wall."""
    direct = {path.name for path in PLUGINS.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())) if "ipaddress" in _imported(node)}
    assert direct == {"networks.py"}


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {name.name for name in node.names}
    return {str(node.module)} if isinstance(node, ast.ImportFrom) else set()


def test_a_push_goes_to_no_address_with_a_zone() -> None:
    assert send(Push("http://[fe80::1%25lo]:8088", ("fd00:a::1",), "lo", b"{}")) is None
    assert send(Push("http://[fd00::1]:8088", ("fd00:a::1%lo",), "lo", b"{}")) is None


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://10.9.0.1:99999999",
            "http://10.9.0.1:65536",
            "http://10.9.0.1:0",
            "http://10.9.0.1:\u0668\u0660",
            "http://10.9.0.1:+80",
            "http://10.9.0.1: 80",
        ),
        *(
            "https://10.9.0.1:80",
            "http://far.example.net:80",
            "http://user@10.9.0.1:80",
            "http://10.9.0.1:80/\r\nX: y",
            "http://10.9.0.1:80/?a",
            "http://fd00::1:80",
        ),
        *("http://10.9.0.1:8088{{ lookup('pipe', 'id') }}", "http://10.9.0:80", "ftp:", "http://10.9.0.1:80\n"),
    ],
)
def test_an_api_url_that_is_none_is_refused_on_the_controller_and_on_the_cell(linked: World, url: str) -> None:
    """L2: the port of a URL becomes that of a rule."""
    host = linked["cella"]
    far = {"name": "far", "public_key": KEY, "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"], "api_url": url}
    with pytest.raises(BadInput, match="api_url"):
        read_invitation(far, "far")
    for module in ("wg_cell_peer", "pic_cell_rules"):
        result = call(module, host, far)
        assert result.get("failed") and "api_url of link 'far'" in result["msg"]
    assert host.steps == []


@pytest.mark.parametrize("url", ["http://10.9.0.1:8088", "http://10.9.0.1", "http://[fd00:9::1]:1/", "http://10.9.0.1:65535/a/b"])
def test_an_api_url_that_is_one_is_taken(url: str) -> None:
    assert networks.check_api_url("it", url) == url


# Nothing hostile gets through any option of any module to a file or to another program

CELL = {
    "name": "cella",
    "networks": ["10.0.0.1/24", "fd00:a::1/64"],
    "endpoint": "cella.example.net",
    "interface": "wg0",
    "uplink": "eth0",
    "admin_networks": ["192.168.7.0/24"],
    "services": [{"name": "files", "address": ["10.0.0.1", "fd00:a::1"], "port": 5, "protocol": "tcp"}],
}
LINK = {
    "name": "far",
    "public_key": KEY,
    "networks": ["10.9.0.0/24", "fd00:9::/64"],
    "address": ["10.9.0.1", "fd00:9::1"],
    "endpoint": "192.0.2.9:51821",
    "interface": "pic-far",
    "preshared_key": made_key("psk"),
    "api_url": "http://10.9.0.1:8088",
}
RIGHTS = {key: LINK[key] for key in ("name", "public_key", "networks", "address", "interface", "api_url")}
PEER = {
    "name": "watch",
    "public_key": device_key("watch"),
    "preshared_key": made_key("watch psk"),
    "addresses": ["10.0.0.9", "fd00:a::9"],
    "route_via": "cellb",
}
CALLS: dict[str, dict[str, Any]] = {
    "wg_cell": {"cell": CELL, "peers": [PEER], "links": [{"name": "far", "interface": "pic-far"}]},
    "wg_cell_peer": {"cell": CELL, "peers": [LINK]},
    "pic_cell_rules": {"cell": CELL, "cells": [{**RIGHTS, "share": ["files"]}]},
    "pic_policy_route": {"cell": CELL, "routes": [{"peer": "phone", "via_cell": "cellb", "addresses": ["10.0.0.2", "fd00:a::2"]}]},
    "pic_peer_sync": {"cell": CELL, "cells": [{key: LINK[key] for key in ("name", "public_key", "networks", "address", "interface")}]},
    "pic_cell_info": {"cell": CELL, "run": {"peers": [PEER], "links": [LINK], "routes": [{"peer": "phone", "via_cell": "cellb"}]}},
}
INJECTED = "XYZZY"
BREAKING = [
    f"%1 -j {INJECTED}\n-I FORWARD -j {INJECTED}",
    f"\n[Peer]\n{INJECTED}",
    f' {INJECTED}"',
    f"\n{INJECTED}",
    f"; {INJECTED}",
    f"' {INJECTED}",
    f"\u2028{INJECTED}",
]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each text within a value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from [(*path, key)] if isinstance(item, str) else leaves(item, (*path, key))


@pytest.mark.parametrize(("module", "path"), [(module, path) for module, args in CALLS.items() for path in leaves(args)])
def test_no_text_of_an_option_becomes_a_line_for_another_program(linked: World, module: str, path: tuple[Any, ...]) -> None:
    host = linked["cella"]
    listened = Listener(host)
    for breaking in BREAKING:
        for put in (lambda text, it: it, lambda text, it: f"{text}{it}", lambda text, it: text.replace("/", f"{it}/", 1)):
            args = copy.deepcopy(CALLS[module])
            holder: Any = args
            for key in path[:-1]:
                holder = holder[key]
            good = holder[path[-1]]
            holder[path[-1]] = put(good, breaking)
            if holder[path[-1]] == good:
                continue  # no network, which a zone would be within
            result = call(module, host, args)
            assert result.get("failed") or result["refusals"], (path, breaking)
            message = str(result.get("msg") or result["refusals"])
            assert "Traceback" not in message and "bug in pic.cells" not in message, message
    assert host.steps == [] and INJECTED not in "".join(listened.texts)


class Listener:
    """What a host is asked to write, or gives to other programs."""

    def __init__(self, host: FakeHost) -> None:
        self.texts: list[str] = []
        run = host.run

        def heard(argv: Any, stdin: Any = None, ok: Any = (0,), timeout: float = 60) -> Any:
            self.texts += [*argv, stdin or ""]
            return run(argv, stdin, ok, timeout)

        host.run = heard  # type: ignore[method-assign]


# The second wall


@pytest.mark.parametrize(
    "text",
    [
        f"-s fd00:c::1%{RULES}/128 -j DROP",
        *("-s 10.0.0.1 -j ACCEPT -j DROP", "-s 10.0.0.1 -s 0.0.0.0/0 -j DROP", "-s 10.0.0.1\n-j DROP", "-s 10.0.0.1", '-m comment --comment "x" -j DROP'),
        *("-s 10.0.0.1  -j DROP", "-i \u00fc0 -j DROP", "-i a#b -j DROP", ""),
    ],
)
def test_a_rule_that_says_more_than_one_thing_is_never_made(text: str) -> None:
    with pytest.raises(UnsafeText, match="Nothing was written"):
        Rule(text)


@pytest.mark.parametrize(
    ("argv", "stdin"),
    [
        (("iptables-restore", "--noflush"), "*filter\n-A PIC-FWD -j ACCEPT\n-F\nCOMMIT\n"),
        (("iptables-restore", "--noflush"), '*filter\n-A PIC-FWD -s 10.0.0.1 -m comment --comment "pic-cells 0123456789" -j X -j Y\nCOMMIT\n'),
        (("ip6tables-restore", "--noflush"), "*filter\n:PIC-X - [0:0]\n-A PIC-X -s fd00::1%a -j DROP\nCOMMIT\n"),
        (("ip6tables-nft-restore", "--noflush"), "*filter\n-P INPUT ACCEPT\nCOMMIT\n"),
        (("iptables-restore", "--noflush"), '*filter\n-D FORWARD -m comment --comment "pic-cells \x1b" -j X\nCOMMIT\n'),
        (("iptables-restore", "--noflush"), "*filter"),
        (("ip", "-6", "-batch", "-"), "route replace fd00::1%x dev pic-a\n"),
        (("ip", "-4", "-batch", "-"), "route replace 10.9.0.0/24 dev pic-a # x\n"),
        (("wg", "addconf", "pic-a", "/dev/stdin"), "[Peer]\nEndpoint = x:1\nPostUp = reboot\n"),
        (("wg", "addconf", "pic-a", "/dev/stdin"), "[Interface]\n"),
        (("conntrack", "-D", "-s", "10.0.0.1\n"), None),
        (("systemctl", "enable", ""), None),
    ],
)
def test_a_command_whose_input_says_more_than_ours_do_is_never_made(argv: tuple[str, ...], stdin: str | None) -> None:
    with pytest.raises(UnsafeText, match="Nothing was written"):
        Run(argv, stdin)


@pytest.mark.parametrize("peer", [{"endpoint": "a\nPostUp = x:1"}, {"allowed_ips": ["fd00::1%\nPostUp=reboot"]}, {"preshared_key": "x\n[Interface]"}])
def test_a_setting_that_would_be_two_is_never_written(peer: dict[str, Any]) -> None:
    wanted = Interface("pic-a", made_key("a"), peers={KEY: WgPeer(KEY, **peer)})
    for render in (lambda labels: wgquick.merge_config(None, wanted, labels, ()), lambda labels: wgquick.render_link(wanted, labels)):
        with pytest.raises(UnsafeText) as error:
            render({KEY: "cell far"})
        assert "[Interface]" not in str(error.value)
    wanted.peers[KEY] = WgPeer(KEY)
    with pytest.raises(UnsafeText):
        wgquick.render_link(wanted, {KEY: "cell far\nPostUp = x"})


@pytest.mark.parametrize("path", ['/var/lib/pic"\n[Service]\nExecStartPre=+reboot', "/var/lib/p%h", "/a\\x20b", "/a$b", "relative", "/a:/b"])
def test_a_path_that_a_unit_would_read_otherwise_is_never_written(path: str) -> None:
    with pytest.raises((UnsafeText, BadInput)):
        units.files("/usr/local/bin/pic-cell", "/state", path, "/exits", "/var/lib/spool", 8088, 2)
    with pytest.raises((UnsafeText, BadInput)):
        units.files("/usr/local/bin/pic-cell", path, "/view", "/exits", "/var/lib/spool", 8088, 2)


@pytest.mark.parametrize(
    ("text", "shown"), [("B\udcfcro", "B\\xfcro"), ("a\x1b[2Jb", "a\\x1b[2Jb"), ("a\nb\u202e", "a\nb\\u202e"), ("\U000e0041", "\\U000e0041"), ("Büro", "Büro")]
)
def test_what_cannot_be_seen_is_shown_by_its_number(text: str, shown: str) -> None:
    assert texts.printable(text) == shown


def test_explain_takes_no_zone(linked: World) -> None:
    rc, _out, err = program(linked["cella"], "explain", "phone", "--to", f"fd00::1%{RULES}")
    assert rc == 1 and "not an IP address" in err
