# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages by the names of each system, lists of packages that are not there yet, and what has to be installed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.base.packages import FAMILIES, PROGRAMS, System, refusal, system, unlisted
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call

ROLE = Path(__file__).parents[2] / "roles" / "cell"
RELEASES = {
    "debian": ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n', ["conntrack", "iproute2", "iptables", "wireguard-tools"]),
    "raspbian": ("ID=raspbian\nID_LIKE=debian\n", ["conntrack", "iproute2", "iptables", "wireguard-tools"]),
    "mint": ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', ["conntrack", "iproute2", "iptables", "wireguard-tools"]),
    "rhel": ('ID="rhel"\nID_LIKE="fedora"\n', ["conntrack-tools", "iproute", "iptables-nft", "wireguard-tools"]),
    "rocky": ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', ["conntrack-tools", "iproute", "iptables-nft", "wireguard-tools"]),
    "fedora": ("ID=fedora\n", ["conntrack-tools", "iproute", "iptables-nft", "wireguard-tools"]),
    "leap": ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', ["conntrack-tools", "iproute2", "iptables", "wireguard-tools"]),
    "manjaro": ("ID=manjaro\nID_LIKE=arch\n", ["conntrack-tools", "iproute2", "iptables", "wireguard-tools"]),
    "alpine": ("ID=alpine\n", ["conntrack-tools", "iproute2", "iptables", "wireguard-tools"]),
}


@pytest.fixture
def fresh(world: World) -> World:
    """Return cells of which the first has none of the programs yet."""
    world["cella"].missing |= {"wg", "wg-quick", "ip", "iptables", "ip6tables", "conntrack"}
    return world


@pytest.mark.parametrize("name", RELEASES)
def test_packages_have_the_names_of_the_system(fresh: World, name: str) -> None:
    text, names = RELEASES[name]
    fresh["cella"].files["/etc/os-release"] = (0o644, text)
    facts = call("pic_cell_info", fresh["cella"], {})
    assert (facts["missing"], facts["unpackaged"]) == (names, [])
    assert facts["missing_programs"] == list(PROGRAMS)


@pytest.mark.parametrize("text", ["", "ID=void\n", 'ID="openwrt"\nID_LIKE="lede openwrt"\nPRETTY_NAME="OpenWrt 24.10"\n', "no release", 'ID="broken\n'])
def test_an_unknown_system_is_refused_by_name_with_the_way_to_go_on(fresh: World, text: str) -> None:
    fresh["cella"].files["/etc/os-release"] = (0o644, text)
    with pytest.raises(Refusal) as error:
        fresh.site()
    said = str(error.value)
    assert all(program in said for program in ("cella: ", "wg", "iptables", "conntrack", "cell_manage_packages: false")), said
    assert fresh.steps() == {}
    assert "OpenWrt 24.10" in said or "OpenWrt" not in text
    fresh["cella"].missing.clear()
    fresh.site()
    assert fresh.site().changed == []


def test_a_host_whose_packages_are_its_owners_affair_is_told_what_it_lacks(fresh: World) -> None:
    fresh.inventory["cella"]["cell_manage_packages"] = "no"
    with pytest.raises(Refusal, match=r"cell_manage_packages is false: wg, .*conntrack.*packages: conntrack, iproute2, iptables, wireguard-tools"):
        fresh.site(check=True)
    assert fresh.steps() == {}


def test_a_kernel_without_wireguard_needs_its_stand_in_where_there_is_a_package() -> None:
    assert System("x", "debian").packages(["wireguard-go"]) == ["wireguard-go"]
    assert System("x", "redhat").unknown(["wireguard-go", "wg"]) == ["wireguard-go"]
    said = refusal({"missing_programs": ["wireguard-go"], "missing": [], "unpackaged": ["wireguard-go"], "system": "Rocky Linux 8"}, managed=True)
    assert said is not None and "Rocky Linux 8" in said and "or a kernel with WireGuard" in said
    assert refusal({"missing_programs": ["wg"], "missing": ["wireguard-tools"], "unpackaged": [], "system": "x"}, managed=True) is None
    assert refusal({}, managed=False) is None


def test_every_family_knows_every_program() -> None:
    assert all(set(PROGRAMS) <= set(names) for names in FAMILIES.values())


@pytest.mark.parametrize(
    ("family", "path", "listed"),
    [
        ("debian", "var/lib/apt/lists/deb.example.net_debian_dists_bookworm_main_binary-amd64_Packages", True),
        ("debian", "var/lib/apt/lists/deb.example.net_debian_dists_bookworm_main_binary-amd64_Packages.lz4", True),
        ("debian", "var/lib/apt/lists/lock", False),
        ("debian", "var/lib/apt/lists/partial/x_Packages", False),
        ("debian", "elsewhere", False),
        ("arch", "var/lib/pacman/sync/core.db", True),
        ("arch", "elsewhere", False),
        ("alpine", "var/cache/apk/APKINDEX.0.tar.gz", True),
        ("alpine", "elsewhere", False),
        ("redhat", "elsewhere", True),
        ("suse", "elsewhere", True),
    ],
)
def test_a_host_without_lists_of_packages_is_told_from_one_that_fetches_them(tmp_path: Path, family: str, path: str, listed: bool) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("")
    assert unlisted(Host(str(tmp_path)), family) is not listed
    assert not unlisted(Host(str(tmp_path)), None)


def test_lists_are_looked_for_only_where_a_program_is_missing(fresh: World) -> None:
    assert call("pic_cell_info", fresh["cella"], {})["unlisted"] is True
    fresh["cella"].files["/var/lib/apt/lists/x_Packages"] = (0o644, "")
    assert call("pic_cell_info", fresh["cella"], {})["unlisted"] is False
    assert call("pic_cell_info", fresh["cellb"], {})["unlisted"] is False


def test_the_role_fetches_lists_only_then_and_check_mode_needs_none() -> None:
    (task, *_rest) = yaml.safe_load((ROLE / "tasks" / "base.yml").read_text())
    assert task["pic.cells.cell_base"]["arguments"]["update_cache"] == "{{ true if item.2 else omit }}"
    assert task["failed_when"] == "__cell_packages is failed and not __cell_unknown"
    assert task["changed_when"] == "__cell_packages is changed or __cell_unknown"


def test_busyboxs_ip_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no -json."""
    (tmp_path / "busybox").write_text("#!/bin/sh\n")
    (tmp_path / "busybox").chmod(0o755)
    for name in ("ip", "wg"):
        (tmp_path / name).symlink_to("busybox")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (Host().has("ip"), Host().has("wg")) == (False, True)
    said = refusal({"missing_programs": ["ip"], "missing": [], "unpackaged": ["ip"], "system": "x"}, managed=True)
    assert said is not None and "of iproute2" in said


def test_a_system_is_read_from_either_place(tmp_path: Path) -> None:
    assert system(Host(str(tmp_path))) == System("a system without /etc/os-release", None)
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("# of a package\nID=arch\nPRETTY_NAME='Arch Linux'\n")
    assert system(Host(str(tmp_path))) == System("Arch Linux", "arch")
