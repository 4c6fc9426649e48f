# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwarding that something else turns off: now, or at the next boot."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import sysctl
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_advice import said_in_a_run, told
from ansible_collections.pic.cells.tests.unit.world import World, program

NOW = {"net.ipv4.ip_forward": "/proc/sys/net/ipv4/ip_forward", "net.ipv6.conf.all.forwarding": "/proc/sys/net/ipv6/conf/all/forwarding"}


@pytest.mark.parametrize("name", NOW)
def test_forwarding_that_was_turned_off_is_named_and_put_back(linked: World, name: str) -> None:
    host = linked["cella"]
    host.files[NOW[name]] = (0o644, "0\n")
    rc, out, _err = program(host, "check")
    assert (rc, out, host.steps) == (3, f"missing: {name}: 1\nsurplus: {name}: 0\n", [])
    assert f"differs from the records: missing: {name}: 1" in program(host, "status")[1]
    rc, out, err = program(host, "restore")
    assert (rc, out, err, host.steps) == (0, f"missing: {name}: 1\nsurplus: {name}: 0\n", "", [f"sysctl {name}=1"])
    assert program(host, "restore") == (0, "", "")


def test_what_cannot_be_put_back_is_an_error_and_keeps_nothing_else_from_it(linked: World) -> None:
    host = linked["cella"]
    host.without.add("read-only sysctl")
    host.files[NOW["net.ipv4.ip_forward"]] = (0o644, "0\n")
    host.by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    rc, out, err = program(host, "restore")
    assert (rc, "10.0.0.2" in out, "net.ipv4.ip_forward" in err, "Read-only" in err) == (1, True, True, True)


def test_forwarding_that_the_role_does_not_keep_is_said_and_left_alone(linked: World) -> None:
    host = linked["cella"]
    host.files["/etc/sysctl.d/90-pic-cells.conf"] = (0o644, "net.ipv6.conf.all.forwarding=1\n")
    host.files[NOW["net.ipv4.ip_forward"]] = (0o644, "0\n")
    (sentence,) = told(host)
    assert sentence.startswith("This host does not forward IPv4 packets (net.ipv4.ip_forward is 0).")


def test_the_settings_for_router_advertisements_come_back_with_forwarding(linked: World) -> None:
    host = linked["cella"]
    host.files["/etc/sysctl.d/90-pic-cells.conf"] = (0o644, "net/ipv6/conf/eth0.7/accept_ra=2\nnet.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\nvm.x=1\n")
    host.files["/proc/sys/net/ipv6/conf/eth0.7/accept_ra"] = (0o644, "1\n")
    host.files[NOW["net.ipv6.conf.all.forwarding"]] = (0o644, "0\n")
    assert program(host, "restore")[0] == 0
    assert host.steps == ["sysctl net/ipv6/conf/eth0.7/accept_ra=2", "sysctl net.ipv6.conf.all.forwarding=1"]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"/etc/sysctl.d/99-x.conf": "net.ipv4.ip_forward = 0"}, "/etc/sysctl.d/99-x.conf"),
        ({"/usr/lib/sysctl.d/99-x.conf": "-net/ipv4/ip_forward=0"}, "/usr/lib/sysctl.d/99-x.conf"),
        ({"/run/sysctl.d/91-x.conf": "net.ipv4.conf.all.forwarding=0"}, "/run/sysctl.d/91-x.conf"),
        ({"/etc/sysctl.d/99-sysctl.conf": "# net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=0"}, "/etc/sysctl.d/99-sysctl.conf"),
        ({"/etc/ufw/ufw.conf": "ENABLED=yes", "/etc/ufw/sysctl.conf": "net/ipv4/ip_forward=0"}, "/etc/ufw/sysctl.conf"),
        ({"/etc/ufw/ufw.conf": "ENABLED=no", "/etc/ufw/sysctl.conf": "net/ipv4/ip_forward=0"}, None),
        ({"/etc/sysctl.d/10-x.conf": "net.ipv4.ip_forward=0"}, None),  # read before ours
        ({"/etc/sysctl.d/99-x.conf": "#net.ipv4.ip_forward=0\n;net.ipv4.ip_forward=0"}, None),
        ({"/etc/sysctl.d/99-x.conf": "", "/usr/lib/sysctl.d/99-x.conf": "net.ipv4.ip_forward=0"}, None),  # the same name: that in /etc counts
        ({"/etc/sysctl.d/99-x.conf": "net.ipv4.ip_forward=0", "/etc/sysctl.d/99-y.conf": "net.ipv4.ip_forward=1"}, None),
        ({"/etc/sysctl.d/99-x": "net.ipv4.ip_forward=0"}, None),
        ({"/etc/sysctl.conf": "net.ipv4.ip_forward=0"}, None),  # systemd does not read it
    ],
)
def test_a_file_that_turns_forwarding_off_at_the_next_boot_is_named(linked: World, files: dict[str, str], named: str | None) -> None:
    host = linked["cella"]
    host.files.update({path: (0o644, text + "\n") for path, text in files.items()})
    sentences = told(host)
    assert [f"File {named} sets net.ipv" in sentence for sentence in sentences] == ([True] if named else [])
    assert said_in_a_run(linked, "cella") == sentences


def test_without_systemd_the_last_file_is_sysctl_conf(host: FakeHost) -> None:
    del host.files["/run/systemd/system/x"]
    host.files["/etc/sysctl.conf"] = (0o644, "net.ipv4.ip_forward=0\n")
    assert [path for path, _name, _value in sysctl.unkept(host)] == ["/etc/sysctl.conf"]


def test_what_check_says_in_json(linked: World) -> None:
    linked["cella"].files[NOW["net.ipv4.ip_forward"]] = (0o644, "0\n")
    rc, out, _err = program(linked["cella"], "check", "--json")
    assert (rc, json.loads(out)["drift"]) == (3, ["missing: net.ipv4.ip_forward: 1", "surplus: net.ipv4.ip_forward: 0"])


@pytest.mark.parametrize(("device", "said"), [("wg0", True), ("eth0", True), ("pic-cellb", True), ("docker0", False)])
def test_an_interface_that_forwards_nothing_is_said(linked: World, device: str, said: bool) -> None:
    """As systemd-networkd sets it (IPForward=no, IPv4Forwarding=no in a .network file), or a line of a sysctl file."""
    host = linked["cella"]
    host.files[f"/proc/sys/net/ipv4/conf/{device}/forwarding"] = (0o644, "0\n")
    sentences = told(host)
    assert [f"net/ipv4/conf/{device}/forwarding is 0" in line and f"sysctl -w net/ipv4/conf/{device}/forwarding=1" in line for line in sentences] == [
        True
    ] * said
    assert said_in_a_run(linked, "cella") == sentences
    out = program(host, "explain", "laptop")[1]
    assert ("10.0.0.4: dropped: this host does not forward IPv4 packets that come in by wg0" in out) == (device == "wg0")
    host.files[NOW["net.ipv4.ip_forward"]] = (0o644, "0\n")  # with that one all of them come back
    assert json.loads(program(host, "check", "--json")[1])["advice"] == []
    assert program(host, "restore")[0] == 0
    host.reset()
    assert told(host) == []


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"/etc/systemd/networkd.conf.d/99-x.conf": "[Network]\nManageForeignRoutes=yes"}, "/etc/systemd/networkd.conf.d/99-x.conf"),
        ({"/run/systemd/networkd.conf.d/99-x.conf": "[Network]\nManageForeignRoutingPolicyRules = true"}, "/run/systemd/networkd.conf.d/99-x.conf"),
        ({"/etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=yes"}, None),  # read before all folders
        ({"/etc/systemd/networkd.conf.d/10-x.conf": "[Network]\nManageForeignRoutes=yes"}, None),
        ({"/etc/systemd/networkd.conf.d/99-x.conf": "[Network]\nManageForeignRoutes=no\nSpeedMeter=yes"}, None),
    ],
)
def test_a_file_that_lets_networkd_delete_our_rules_is_named(linked: World, files: dict[str, str], named: str | None) -> None:
    host = linked["cella"]
    host.files.update({path: (0o644, text + "\n") for path, text in files.items()})
    sentences = told(host)
    assert [f"File {named} sets ManageForeign" in sentence for sentence in sentences] == ([True] if named else [])
    assert said_in_a_run(linked, "cella") == sentences
