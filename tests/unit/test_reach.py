# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H1: no other cell draws this cell's own traffic into its tunnel by the networks that it claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.networks import check_link_networks
from ansible_collections.pic.cells.plugins.module_utils.parts.reach import _origin
from ansible_collections.pic.cells.plugins.module_utils.records.store import Store
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_bad_input import refused
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, program

FAR = {"name": "far", "public_key": made_key("far")}
PUBLIC = ["8.8.8.0/24", "192.0.2.0/24", "172.32.0.0/16", "100.128.0.0/16", "198.18.0.0/15"]
PUBLIC_6 = ["2001:db8::/32", "2606:4700::/32", "2002:808::/32"]
NEVER = ["169.254.0.0/16", "127.0.0.0/8", "239.0.0.0/16", "fe80::/64", "ff00::/32", "::/32", "64:ff9b::/96"]
WIDE = ["64.0.0.0/2", "8.0.0.0/7", "10.0.0.0/7", "2600::/8", "fc00::/7", "fd00::/31"]


@pytest.mark.parametrize("network", [*PUBLIC, *PUBLIC_6])
def test_networks_of_the_internet_are_refused_unless_the_link_allows_them(linked: World, network: str) -> None:
    for module in ("wg_cell_peer", "pic_cell_rules"):
        refused(linked, module, {**FAR, "networks": [network]}, network, "link 'far'", "allow_public_networks: true")
    refused(linked, "wg_cell_peer", {**FAR, "networks": ["10.9.0.0/24", network], "allow_public_networks": False}, network)


@pytest.mark.parametrize("network", NEVER)
@pytest.mark.parametrize("allowed", [True, False])
def test_networks_that_are_no_other_hosts_are_refused_in_any_case(linked: World, network: str, allowed: bool) -> None:
    refused(linked, "wg_cell_peer", {**FAR, "networks": [network], "allow_public_networks": allowed}, network, "link 'far'", "no other host's")


@pytest.mark.parametrize("network", WIDE)
@pytest.mark.parametrize("allowed", [True, False])
def test_a_network_that_is_too_wide_for_a_cell_is_refused_in_any_case(linked: World, network: str, allowed: bool) -> None:
    wide = network if "10.0.0.0" not in network else "10.0.0.0/7"
    refused(linked, "wg_cell_peer", {**FAR, "networks": [wide], "allow_public_networks": allowed}, wide, "wider than /")


@pytest.mark.parametrize(
    "network", ["10.0.0.0/8", "172.16.0.0/12", "192.168.1.0/24", "100.64.0.0/10", "fd00:9::/32", "fc00::/32", "fdab:cdef:1234:1::/64", "10.9.0.1/32"]
)
def test_networks_of_cells_are_taken(network: str) -> None:
    check_link_networks("it", [network])


def test_what_is_allowed_is_kept_and_can_be_taken_back(linked: World) -> None:
    host, public = linked["cella"], {**FAR, "networks": ["8.8.8.0/24", "2606:4700::/32"]}
    assert call("wg_cell_peer", host, {**public, "allow_public_networks": True})["changed"]
    assert Store(host).load().links["far"].allow_public_networks is True
    assert not call("wg_cell_peer", host, public)["changed"]
    assert program(host, "restore")[0] == 0
    host.reset()
    assert program(host, "restore")[0] == 0 and host.steps == []
    refused(linked, "wg_cell_peer", {"name": "far", "allow_public_networks": False}, "8.8.8.0/24")


def test_a_link_of_before_is_restored_and_refused_when_it_is_stated_anew(linked: World) -> None:
    host, public = linked["cella"], {**FAR, "networks": ["8.8.8.0/24"]}
    call("wg_cell_peer", host, {**public, "allow_public_networks": True})
    path = "/var/lib/pic/cell_links.json"
    host.files[path] = (
        0o600,
        json.dumps({"links": [{k: v for k, v in link.items() if k != "allow_public_networks"} for link in json.loads(host.read(path) or "")["links"]]}),
    )
    host.drop_link("pic-far")
    assert program(host, "restore")[0] == 0 and "pic-far" in host.wg
    host.reset()
    refused(linked, "wg_cell_peer", public, "8.8.8.0/24", "allow_public_networks")


def test_an_invitation_is_judged_on_the_controller(linked: World) -> None:
    invitation = json.dumps({"name": "far", "public_key": made_key("far"), "networks": ["8.8.8.0/24"], "address": ["8.8.8.8"]})
    job = {"cell": "cella", "remote_cell": "far", "invitation": invitation}
    with pytest.raises((BadInput, Refusal), match=r"invitation of 'far'.*8\.8\.8\.0/24.*allow_public_networks"):
        linked.job("link", **job)
    linked.inventory["cella"]["cell_links"].append({"name": "far", "allow_public_networks": True})
    linked.job("link", **job)
    assert Store(linked["cella"]).load().links["far"].networks == ["8.8.8.0/24"]
    linked.job("link", **job)  # takes the preshared key that was made for the invitation
    assert not linked.job("link", **job).diffs()


@pytest.mark.parametrize("item", [{"networks": ["64.0.0.0/2"]}, {"networks": "8.8.8.0/24"}])
def test_what_the_inventory_states_of_a_link_is_judged_on_the_controller(linked: World, item: dict[str, Any]) -> None:
    linked.inventory["cella"]["cell_links"].append({"name": "far", **item})
    with pytest.raises((BadInput, Refusal), match="networks of link 'far' of host 'cella'"):
        linked.site()


def test_two_cells_with_networks_of_the_internet_need_the_word_of_the_link(linked: World) -> None:
    linked.inventory["cellc"]["cell_networks"] = ["192.0.2.129/26"]
    with pytest.raises((BadInput, Refusal), match=r"link 'cellc' of host 'cella'.*192\.0\.2\.128/26"):
        linked.site()
    linked.inventory["cella"]["cell_links"][1]["allow_public_networks"] = True
    linked.site()
    assert Store(linked["cella"]).load().links["cellc"].networks == ["192.0.2.128/26"]
    assert not linked.site().changed


# What this cell reaches outside of the links


@pytest.mark.parametrize(
    ("files", "network", "words"),
    [
        ({"/etc/resolv.conf": "# x\nnameserver 10.9.0.53\n"}, "10.9.0.0/24", ("10.9.0.53", "name server", "/etc/resolv.conf")),
        ({"/etc/resolv.conf": "options edns0\nnameserver\tfd00:9::53 \n"}, "fd00:9::/64", ("fd00:9::53", "name server")),
        (
            {"/etc/resolv.conf": "nameserver 127.0.0.53\n", "/run/systemd/resolve/resolv.conf": "nameserver 10.9.0.1\n"},
            "10.9.0.0/24",
            ("10.9.0.1", "/run/systemd/resolve/resolv.conf"),
        ),
        ({"/proc/self/environ": "A=b\0SSH_CONNECTION=10.9.0.7 50000 203.0.113.11 22\0"}, "10.9.0.0/24", ("10.9.0.7", "this run comes from")),
        (
            {
                "/proc/self/stat": "900 (python3) S 800 900",
                "/proc/800/environ": "SUDO_USER=x\0",
                "/proc/800/stat": "800 (su) do)) S 700 1",
                "/proc/700/environ": "SSH_CLIENT=fd00:9::7 50000 22\0",
            },
            "fd00:9::/64",
            ("fd00:9::7", "this run comes from"),
        ),
    ],
)
def test_a_network_that_holds_what_the_cell_needs_outside_of_it_is_refused(linked: World, files: dict[str, str], network: str, words: tuple[str, ...]) -> None:
    host = linked["cella"]
    for path, text in files.items():
        host.files[path] = (0o644, text)
    refused(linked, "wg_cell_peer", {**FAR, "networks": [network]}, network, "link 'far'", *words)
    # A run finds it before anything changes on any cell.
    linked.inventory["cella"]["cell_links"].append({**FAR, "networks": [network]})
    linked.reset()
    with pytest.raises(Refusal, match=words[0]):
        linked.site()
    assert not any(cell.steps for cell in linked.hosts.values())


@pytest.mark.parametrize(
    ("endpoint", "network"),
    [("10.9.0.1:51820", "10.9.0.0/24"), ("[fd00:9::1]:51820", "fd00:9::/64"), ("far.example.net:51820", "10.9.0.0/24")],
)
def test_a_network_that_holds_an_endpoint_is_refused_whichever_link_it_is_of(linked: World, endpoint: str, network: str) -> None:
    host = linked["cella"]
    host.dns["far.example.net"] = ["10.9.0.1"]
    refused(linked, "wg_cell_peer", {**FAR, "networks": [network], "endpoint": endpoint}, "link 'far'")
    other = {"name": "other", "public_key": made_key("other"), "networks": ["10.8.0.0/24"], "endpoint": endpoint}
    assert call("wg_cell_peer", host, other)["changed"]
    host.reset()
    refused(linked, "wg_cell_peer", {**FAR, "networks": [network]}, network, "link 'far'", "the endpoint of link 'other'")


def test_where_the_other_side_dials_from_counts_as_its_endpoint(linked: World) -> None:
    host = linked["cella"]
    host.wg["pic-cellc"].peers[linked.public_key("cellc")].endpoint = "10.9.0.4:40000"
    refused(linked, "wg_cell_peer", {**FAR, "networks": ["10.9.0.0/24"]}, "10.9.0.4", "the endpoint of link 'cellc'")


def test_what_a_link_has_already_may_hold_a_resolver_or_whoever_manages_the_cell(linked: World) -> None:
    """Somebody uses the resolver of a linked cell, or comes through its link: the next run is no reason to refuse that."""
    host = linked["cella"]
    host.files["/etc/resolv.conf"] = (0o644, "nameserver 10.0.1.1\n")
    host.files["/proc/self/environ"] = (0o400, "SSH_CONNECTION=10.0.1.7 5 10.0.0.1 22\0")
    assert not linked.site().changed


def test_no_process_is_needed_to_find_where_a_run_comes_from(real: Host, tmp_path: Path) -> None:
    assert list(_origin(real)) == []
    (tmp_path / "proc/self/environ").mkdir(parents=True)  # what cannot be read says nothing
    assert list(_origin(real)) == []
