# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A2: what others have written is bytes. It survives as it is, and nothing of ours depends on being able to read it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.base.errors import CommandFailed
from ansible_collections.pic.cells.plugins.module_utils.base.names import is_own_tag
from ansible_collections.pic.cells.plugins.module_utils.kernel import wgconfig
from ansible_collections.pic.cells.plugins.module_utils.kernel.foreign import could_decide
from ansible_collections.pic.cells.plugins.module_utils.kernel.iptables import own_rules, parse_save
from ansible_collections.pic.cells.plugins.module_utils.kernel.ruleset import comment_of
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import World, call, program

# What others put into a comment: bytes of another encoding, quotes, lines like rules, ends of lines that only Python sees.
COMMENTS = [
    *("B\udcfcro", 'say "a', "it's", "back\\slash\\", "-j", "-i", "--comment", "two\n-A PIC-FWD -j ACCEPT\nlines", "*filter\nCOMMIT", "a\u2028b\x0bc\x85d\re"),
    *("", "\x1b[2J", "\U0001f512 \udcff\udcfe", "pic-cells\n0123456789", "pic-cells \x1b"),
]


def laid(host: FakeHost, comment: str, target: str = "ACCEPT", chain: str = "INPUT") -> tuple[str, ...]:
    """Put a rule of somebody else's at the end of a chain, in both families."""
    rule = ("-p", "tcp", "--dport", "22", "-m", "comment", "--comment", comment, "-j", target)
    for family in (4, 6):
        host.tables["-nft", family]["filter"].rules[chain].append(rule)
    return rule


@pytest.mark.parametrize("comment", COMMENTS)
def test_a_comment_of_whatever_bytes_keeps_nothing_from_working(linked: World, comment: str) -> None:
    host = linked["cella"]
    rules = [laid(host, comment, chain=chain) for chain in ("INPUT", "FORWARD")]
    host.reset()
    for words in (("check",), ("restore",), ("restore", "--guard"), ("status",), ("explain", "phone"), ("check", "--json"), ("status", "--json")):
        assert program(host, *words)[0] == 0, words
    assert host.steps == []
    assert not linked.site().changed
    # A boot: everything of ours is made anew beside it.
    host.boot()
    host.iptables(4, "filter")
    host.iptables(6, "filter")
    for chain in ("INPUT", "FORWARD"):
        laid(host, comment, chain=chain)
    assert program(host, "restore", "--guard")[0] == 0
    assert program(host, "restore")[0] == 0
    for family in (4, 6):
        tables = host.tables["-nft", family]["filter"].rules
        assert [tables[chain].count(rule) for chain, rule in zip(("INPUT", "FORWARD"), rules)] == [1, 1]
        assert "-j PIC-FWD" in host.chain(family, "FORWARD")[0]
    assert "wg0" in host.wg and "pic-cellb" in host.wg
    linked.site(check=True)
    assert not linked.site().changed


def test_names_and_files_of_others_are_bytes_too(linked: World) -> None:
    host = linked["cella"]
    for name in ("b\udcfcro", 'q"t', "'", "eth+", "a\x01b"):
        host.add_link(name)
    host.files["/etc/wireguard/wg0.conf"] = (0o600, f"# B\udcfcro \u2028PostUp = reboot\n{host.read('/etc/wireguard/wg0.conf')}")
    host.files["/etc/sysctl.d/90-pic-cells.conf"] = (0o644, (host.read("/etc/sysctl.d/90-pic-cells.conf") or "") + "# \udcfc\n")
    host.reset()
    for words in (("check",), ("restore",), ("status",), ("status", "--json")):
        assert program(host, *words)[0] == 0, words
    assert host.steps == []
    linked.inventory["cella"]["cell_peers"][2]["addresses"] = ["10.0.0.44"]
    linked.site()
    assert (host.read("/etc/wireguard/wg0.conf") or "").startswith("# B\udcfcro \u2028PostUp = reboot\n")


def test_what_is_said_of_others_can_be_printed_by_everybody(linked: World) -> None:
    host = linked["cella"]
    host.add_link("b\udcfcro", "10.9.0.1/24")
    result = call("wg_cell_peer", host, {"name": "far", "networks": ["10.9.0.0/24"]})
    assert "b\\xfcro" in result["msg"] and result["msg"].isprintable()
    text = json.dumps(call("pic_cell_info", host, {}), ensure_ascii=False)
    assert text.encode()


@pytest.mark.parametrize("name", ["b\udcfcro", 'q"t', "eth+"])
def test_an_uplink_whose_name_no_rule_can_hold_lets_nobody_out_and_stops_nothing_else(linked: World, name: str) -> None:
    host = linked["cella"]
    host.links[name] = host.links.pop("eth0")
    for route in host.routes:
        route.dev = name if route.dev == "eth0" else route.dev
    result = call("pic_cell_rules", host, {"name": "cellb"})
    assert not result.get("failed") and any("a name that cannot be used in a rule" in warning and warning.isprintable() for warning in result["warnings"])
    assert not any(name in line for line in host.chain(4, "PIC-PATH"))
    assert any("-s 10.0.1.0/24" in line for line in host.chain(4, "PIC-LINK"))


def test_what_a_command_is_given_and_says_is_bytes(real: Host) -> None:
    odd = "B\udcfcro\r\n\u2028\x0b\n"
    assert real.run(["cat"], stdin=odd).out == odd
    with pytest.raises(CommandFailed) as error:
        real.run(["sh", "-c", "printf 'B\\374ro' >&2; exit 1"])
    assert "B\udcfcro" in error.value.output
    assert real.run_json(["printf", '[{"ifname": "b\\374\\001"}]']) == [{"ifname": "b\udcfc\x01"}]
    assert real.run_json(["true"]) is None
    for said in ("{", "[" * 100_000):
        with pytest.raises(CommandFailed, match="not JSON"):
            real.run_json(["printf", "%s", said])


@pytest.mark.parametrize(
    ("rule", "decides"),
    [
        ('-i e"t -j DROP', False),
        ("-i wg0 -m comment --comment -j -j DROP", True),
        ("-i wg0 -m comment --comment -j -j LOG", False),
        ('-m comment --comment "-i" -i eth0 -j DROP', False),
        ('-j LOG --log-prefix "it\\\'s \\" -j DROP"', False),
        ('-m comment --comment "a" -j', True),
        ('"', False),
        ("-i", False),
    ],
)
def test_a_rule_that_nobody_can_read_is_no_error(rule: str, decides: bool) -> None:
    assert could_decide(rule, "INPUT", {}, ("wg0",)) is decides


def test_a_text_elsewhere_in_a_rule_is_no_comment_of_ours() -> None:
    assert comment_of('-j LOG --log-prefix "--comment pic-cells 0123456789"') == ""
    assert comment_of('-m comment --comment "a \\"b\\" \\\\"') == 'a "b" \\'
    assert not is_own_tag("pic-cells\n0123456789") and not is_own_tag("pic-cells \x1b[2J") and is_own_tag("pic-cells 0123456789")


@pytest.mark.parametrize(
    "text", ["", "*", ":", ":A", "-A", "-A ", '-A X "', '*filter\n-A X -m comment --comment "\n:Y - [0:0]\n', "\udcff\n\0", "[1:2] -A X -j Y"]
)
def test_a_listing_that_nobody_knows_is_read_as_far_as_it_goes(text: str) -> None:
    for table in parse_save(text).values():
        own_rules(table)


def test_a_file_of_others_is_read_and_written_again_whatever_bytes_it_has(real: Host, tmp_path: Path) -> None:
    odd = b"# B\xfcro\r\n\xff\x00\x85\r"
    (tmp_path / "wg0.conf").write_bytes(odd)
    real.write("/copy", real.read("/wg0.conf") or "")
    assert (tmp_path / "copy").read_bytes() == odd


@pytest.mark.parametrize(
    "text", ["[Interface]\r\nAddress = 10.0.0.1/24\r\n[Peer]\r\nPublicKey = x\r\n", "# a\u2028PostUp = x\n[Interface]\n", "[Interface]\n\n\n", "x", "\n", ""]
)
def test_a_file_of_others_is_put_together_as_it_was(text: str) -> None:
    assert wgconfig.parse(text).render() == text


SCRIPT = r"""
iptables -A INPUT -p tcp --dport 22 -m comment --comment "$(printf 'B\374ro')" -j ACCEPT
iptables -A FORWARD -m comment --comment "$(printf 'a\n-A FORWARD -j DROP\nb "q" it\047s \\ x')" -j ACCEPT
iptables -A FORWARD -m comment --comment -j -j RETURN
iptables -A FORWARD -i 'e"t' -j DROP
iptables -A FORWARD -j LOG --log-prefix "it's \" -j"
iptables -N "$(printf 'F\374o')"
iptables -A FORWARD -m comment --comment "$(printf 'x\342\200\250y\v\rz')" -j RETURN
exec iptables-save
"""


@pytest.mark.skipif(not shutil.which("iptables") or not shutil.which("unshare"), reason="needs iptables, and a network namespace of its own")
def test_what_the_real_iptables_prints_is_read_whole(tmp_path: Path) -> None:
    done = subprocess.run(["unshare", "-n", "sh", "-ec", SCRIPT], capture_output=True, cwd=tmp_path, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"no network namespace or no iptables in it: {done.stderr!r}")
    rules = parse_save(done.stdout.decode("utf-8", "surrogateescape"))["filter"].rules
    assert [comment_of(rule) for rule in rules["INPUT"]] == ["B\udcfcro"]
    assert [comment_of(rule) for rule in rules["FORWARD"]] == ['a\n-A FORWARD -j DROP\nb "q" it\'s \\ x', "-j", "", "", "x\u2028y\x0b\rz"]
    assert "F\udcfco" in rules
