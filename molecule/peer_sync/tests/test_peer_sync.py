# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cells tell each other through the tunnel: at once, after an outage, and from nobody else."""

from __future__ import annotations

import contextlib
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
import yaml

from cells import link_record, may_use, sh, switched_off, watching, within
from lab import INTERNET, inside
from packets import Sniffer, Stream, reaches, seen_address
from playbooks import INVENTORY, Outcome, play, run

PERIOD = 60  # seconds, of the timer
FILES = 8443


def answered(host: str) -> str:
    """Returns with which status cellb's receiver answers a host that says nothing, 000 where it does not."""
    return inside(host, "curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", "-d", "{}", "http://10.0.1.1:8088", check=False).stdout


def test_the_receiver_is_hardened_and_sees_nothing_but_its_view():
    exposure = inside("cella", "systemd-analyze", "security", "--no-pager", "pic-cell-serve.service").stdout.splitlines()[-1]
    assert float(exposure.rpartition(": ")[2].split()[0]) <= 1.5, exposure
    for unit in ("apply", "restore", "replay", "guard", "switch"):
        exposure = inside("cella", "systemd-analyze", "security", "--no-pager", f"pic-cell-{unit}.service").stdout.splitlines()[-1]
        assert float(exposure.rpartition(": ")[2].split()[0]) <= 4, exposure
    pid = inside("cella", "systemctl", "show", "-p", "MainPID", "--value", "pic-cell-serve").stdout.strip()
    assert "CapEff:\t0000000000000000" in inside("cella", "cat", f"/proc/{pid}/status").stdout
    assert "0.0.0.0:8088" not in inside("cella", "ss", "-ltn").stdout


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_but_the_other_cell_reaches_the_receiver(family):
    address = {4: "10.0.1.1", 6: "fd00:b::1"}[family]
    assert reaches("cella", address, 8088)
    assert not reaches("phone-a3", address, 8088), "a phone of that cell"
    assert not reaches("cellc", address, 8088), "a cell without a link"
    assert not reaches("lan-b", address, 8088), "the LAN"
    source, length, url = ("10.0.0.1", 32, f"http://{address}:8088") if family == 4 else ("fd00:a::1", 128, f"http://[{address}]:8088")
    sh("lan-b", f"ip address add {source}/{length} dev lo")
    try:
        assert inside("lan-b", "curl", "-s", "-g", "-m", "2", "--interface", source, "-d", "{}", url, check=False).returncode, (
            "the LAN with the tunnel's address"
        )
    finally:
        sh("lan-b", f"ip address del {source}/{length} dev lo")


def test_the_receiver_hears_nothing_but_links_even_where_the_firewall_lets_it_in():
    assert answered("cella") == "404", "the tunnel of the other cell"
    into = "INPUT -i wg0 -p tcp --dport 8088 -j ACCEPT"
    sh("cellb", f"systemctl stop pic-cell-watch; iptables -t mangle -I {into}; iptables -I {into}")
    try:
        assert answered("phone-b1") == "000"
        counted = sh("cellb", "iptables -nvxL INPUT 1").split()
        assert int(counted[0]) > 0, "no packet came as far as the firewall"
    finally:
        sh("cellb", f"iptables -t mangle -D {into}; iptables -D {into}; systemctl start pic-cell-watch")


def test_the_receiver_hears_an_interface_that_was_made_anew():
    inside("cellb", "systemctl", "restart", "wg-quick@pic-cella")
    assert within(15, lambda: answered("cella") == "404")


def test_a_preshared_key_is_handed_over_without_being_shown():
    inside("cellb", "sed", "-i", "/PresharedKey/d", "/etc/wireguard/pic-cella.conf")
    inside("cellb", "systemctl", "restart", "wg-quick@pic-cella")
    done = run("site", "-vvvv", "--diff")
    assert done.returncode == 0, done.stdout
    keys = [inside(cell, "wg", "show", link, "preshared-keys").stdout.split()[1] for cell, link in (("cella", "pic-cellb"), ("cellb", "pic-cella"))]
    assert keys[0] == keys[1] != "(none)"
    assert keys[0] not in done.stdout + done.stderr


def test_what_was_changed_while_the_other_cell_was_off_arrives_as_one(tmp_path):
    task = {"pic.cells.pic_cell_rules": {"name": "cellb", "share": ["{{ item }}"]}, "loop": ["voice", "files"] * 5}
    (tmp_path / "changes.yml").write_text(yaml.safe_dump([{"hosts": "cella", "gather_facts": False, "tasks": [task]}]))
    with switched_off("cellb"):
        changes = play(str(tmp_path / "changes.yml"))
        assert (changes.rc, sum(result.get("changed", False) for _host, _task, result in changes.results)) == (0, 10), changes.text
        outcome = play("offer_exit", cell="cella", remote_cell="cellb", offered="false", cell_sync_transport="tunnel")
        assert outcome.rc == 0, outcome.message
        assert "has not been told the latest state yet (not reached)" in outcome.text
        assert link_record("cella", "cellb")["pending_push"]
        rules = inside("cella", "sh", "-c", "iptables-save; iptables-legacy-save").stdout
        assert not [line for line in rules.splitlines() if "PIC-L-cellb" in line and "-o eth" in line and "ACCEPT" in line], "the relay stands"
    assert within(PERIOD + 15, lambda: may_use("cellb", "cella") == {"files"})
    assert within(5, lambda: not link_record("cellb", "cella")["exit_relay_active"]), "the routed device fails closed"
    assert within(5, lambda: not link_record("cella", "cellb")["pending_push"])


def owner(folder: Path, cell: str) -> Path:
    """Returns an inventory of one owner, who has one cell with one service."""
    inventory = yaml.safe_load(INVENTORY.read_text())
    host = inventory["cells"]["hosts"][cell]
    service = {"name": "files", "address": host["cell_networks"][0].partition("/")[0], "port": FILES, "protocol": "tcp"}
    inventory["cells"]["hosts"] = {cell: {**host, "cell_links": [], "cell_peers": [], "cell_services": [service]}}
    path = folder / f"{cell}.yml"
    path.write_text(yaml.safe_dump(inventory))
    return path


def test_two_owners_link_share_and_use_an_exit_with_one_command_each(tmp_path):
    ours, theirs = owner(tmp_path, "cellb"), owner(tmp_path, "cellc")

    def link(inventory: Path, cell: str, other: str, *options: str, **given: str) -> Outcome:
        return play("link", *options, inventory=inventory, cell=cell, remote_cell=other, **given)

    # A port that nobody has any more is told so by ICMP, with what came for it, which is WireGuard's.
    others = "ip host 198.51.100.13 and not udp port 51822 and not icmp"
    with Sniffer("cellb", "eth0", others) as uplink, Sniffer("cellb", "eth0", "udp port 51822") as tunnel:
        invited = link(ours, "cellb", "cellc", invitation="new", services="files")
        assert invited.rc == 0, invited.message
        made = next(result for _host, _task, result in invited.results if result.get("token"))
        key = tmp_path / "key.yml"
        key.write_text(f"preshared_key: {inside('cellb', 'cat', made['key_file']).stdout.strip()}\n")
        given = {"invitation": made["token"], "services": "files", "offered": "true"}
        accepted = link(theirs, "cellc", "cellb", "-e", f"@{key}", **given)
        assert accepted.rc == 0, accepted.message
        assert inside("cellc", "ip", "netns").stdout == "", "what it was redeemed in is gone"
    assert tunnel.lines != [], "the capture shows nothing, so it proves nothing"
    assert uplink.lines == []
    again = link(theirs, "cellc", "cellb", "-e", f"@{key}", **given)
    assert (again.rc, again.changed) == (0, {"cellc": 0}), again.text
    keys = [inside(cell, "wg", "show", device, "preshared-keys").stdout.split()[1] for cell, device in (("cellb", "pic-cellc"), ("cellc", "pic-cellb"))]
    assert keys[0] == keys[1]
    assert keys[0] not in ("(none)", yaml.safe_load(key.read_text())["preshared_key"])
    assert not any(secret in outcome.text for outcome in (invited, accepted, again) for secret in (*keys, yaml.safe_load(key.read_text())["preshared_key"]))
    third = owner(tmp_path, "cella")
    refused = link(third, "cella", "cellb", "-e", f"@{key}", **given)
    assert "is for cell 'cellc', but cell=cella" in refused.message
    assert within(PERIOD + 15, lambda: link_record("cellb", "cellc")["remote_exit_offered"])
    assert within(10, lambda: may_use("cellc", "cellb") == may_use("cellb", "cellc") == {"files"})
    assert reaches("cellc", "10.0.1.1", FILES)
    # cellb was switched off by another test: a phone notices 15 s after its next packet that its session is gone (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT).
    assert within(25, lambda: reaches("phone-b1", "10.0.2.1", FILES))
    assert not reaches("cellc", "10.0.1.1", FILES + 1), "what is not shared"
    assert not reaches("phone-b1", "10.0.2.1", FILES + 1), "what is not shared"
    outcome = play("route_peer", inventory=ours, cell="cellb", peer="phone-b1", via_cell="cellc")
    assert outcome.rc == 0, outcome.message
    assert within(5, lambda: link_record("cellc", "cellb")["remote_exit_relay_active"])
    assert within(20, lambda: seen_address("phone-b1", 4) == "198.51.100.13")
    assert_a_move_is_told(ours)
    assert_other_networks_are_told(ours, theirs)


def state(path: Path, cell: str, **variables: Any) -> None:
    """States something else of a cell in its owner's inventory."""
    inventory = yaml.safe_load(path.read_text())
    inventory["cells"]["hosts"][cell].update(variables)
    path.write_text(yaml.safe_dump(inventory))


def assert_a_move_is_told(ours: Path) -> None:
    """Gives cellb's link another port while its owner sees nothing of the other inventory, and that cell a stream from it."""
    state(ours, "cellb", cell_links=[{"name": "cellc", "listen_port": 51777}])
    # Behind a filter that lets nothing new in, as a NAT does, cellc has to know before it happens.
    port = inside("cellc", "wg", "show", "pic-cellb", "listen-port").stdout.strip()
    filtered = f"PREROUTING -i eth0 -p udp --dport {port} -m conntrack --ctstate NEW -j DROP"
    sh("cellc", f"iptables -t mangle -I {filtered}")
    try:
        with watching("cellc"), Stream("cellc", "10.0.1.1", FILES, "tcp") as flow:
            moved = play("site", inventory=ours)
            assert moved.rc == 0, moved.message
            assert within(35, lambda: flow.last_packet_age() < 0.5)
            assert flow.longest < 5
            print(f"longest gap {flow.longest:.1f} s, {flow.connections} connections")
        assert inside("cellc", "wg", "show", "pic-cellb", "endpoints").stdout.split()[1] == "198.51.100.12:51777"
    finally:
        sh("cellc", f"iptables -t mangle -D {filtered}")


def own_addresses(cell: str, interface: str) -> set[str]:
    """Returns the addresses that a cell has on an interface."""
    shown = inside(cell, "ip", "-o", "address", "show", "dev", interface, "scope", "global").stdout.splitlines()
    return {line.split()[3].partition("/")[0] for line in shown}


def assert_other_networks_are_told(ours: Path, theirs: Path) -> None:
    """Gives cellc other networks, and its own ones back, while what is not bound to these goes on: what it relays, and what goes to it in the other family."""
    old, new = ("10.0.2.1/24", "fd00:c::1/64"), ("10.9.2.1/24", "fd00:9c::1/64")
    link = {"name": "cellc", "listen_port": 51777}
    state(ours, "cellb", cell_links=[{**link, "accept_networks": [str(ip_interface(network).network) for network in (*old, *new)]}])
    assert play("site", inventory=ours).rc == 0
    for networks, streams in (
        (new, [("phone-b1", address, 9000, "udp") for address in INTERNET]),
        ((old[0], new[1]), [("cellb", "fd00:9c::1", FILES, "tcp")]),
        (old, [("cellb", "10.0.2.1", FILES, "tcp")]),
    ):
        addresses = [str(ip_interface(network).ip) for network in networks]
        wanted = [str(ip_interface(network).network) for network in networks]
        state(theirs, "cellc", cell_networks=list(networks), cell_services=[{"name": "files", "address": addresses, "port": FILES, "protocol": "tcp"}])
        with watching("cellb"), contextlib.ExitStack() as stack:
            flows = [stack.enter_context(Stream(*stream)) for stream in streams]
            done = play("site", inventory=theirs)
            assert done.rc == 0, done.message
            assert within(PERIOD + 15, lambda wanted=wanted: link_record("cellb", "cellc")["networks"] == wanted)
            assert within(35, lambda flows=flows: all(flow.last_packet_age() < 0.5 for flow in flows))
            print(f"longest gaps {[round(flow.longest, 1) for flow in flows]} s with the networks {wanted}")
            assert max(flow.longest for flow in flows) < 5
            assert all(flow.undisturbed() for flow in flows)
        assert within(PERIOD + 15, lambda: not link_record("cellc", "cellb").get("known_as"))
        # The record says so first.
        assert within(10, lambda addresses=addresses: own_addresses("cellc", "pic-cellb") == set(addresses))
        assert within(10, lambda addresses=addresses: all(reaches("cellb", address, FILES) for address in addresses))
        assert within(5, lambda: inside("cellb", "pic-cell", "check", check=False).returncode == 0)
    again = play("site", inventory=theirs)
    assert (again.rc, again.changed) == (0, {"cellc": 0}), again.text
    # What was not set aside waits for its owner, and can be taken back.
    state(ours, "cellb", cell_links=[{**link, "accept_networks": []}])
    assert play("site", inventory=ours).rc == 0
    state(theirs, "cellc", cell_networks=[new[0], old[1]], cell_services=[{"name": "files", "address": ["fd00:c::1"], "port": FILES, "protocol": "tcp"}])
    assert play("site", inventory=theirs).rc == 0
    assert within(5, lambda: "asks to have the networks 10.9.2.0/24" in inside("cellb", "pic-cell", "status").stdout)
    assert reaches("cellb", "fd00:c::1", FILES), "what both have goes on"
    assert not reaches("cellb", "10.0.2.1", FILES), "the old address is there for what the cells tell each other alone"
    state(theirs, "cellc", cell_networks=list(old), cell_services=[{"name": "files", "address": ["10.0.2.1", "fd00:c::1"], "port": FILES, "protocol": "tcp"}])
    assert play("site", inventory=theirs).rc == 0
    assert within(2 * PERIOD, lambda: not link_record("cellc", "cellb").get("known_as"))
    assert within(10, lambda: reaches("cellb", "10.0.2.1", FILES))
