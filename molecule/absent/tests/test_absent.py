# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells that a run does not reach, or does not even know of: nothing shrinks, the rest converges, and the next run completes it."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import yaml

import lab
from cells import link_record, sh, switched_off, watching, within
from lab import CELLS, INTERNET, inside
from packets import Sniffer, reaches, seen_address, snapshot
from playbooks import INVENTORY, Outcome, play

EXIT = {"cella": "198.51.100.11", "cellb": "198.51.100.12"}
FILES, VOICE = 8443, 9002


def play_with_one_off(name: str, **more: Any) -> Outcome:
    """Runs a playbook that does not wait long for a cell that is off."""
    return play(name, ansible_ssh_retries="0", ansible_ssh_timeout="3", **more)


def times_not_reached(outcome: Outcome) -> int:
    """Returns how often a run has waited for a cell that is off."""
    return sum(bool(result.get("unreachable")) for _host, _task, result in outcome.results)


def state() -> dict[str, dict[str, str]]:
    """Returns the state of all cells."""
    return {cell.name: snapshot(cell.name) for cell in CELLS}


def test_a_limit_shrinks_nothing():
    before = state()
    outcome = play("site", "--limit", "cella")
    assert (outcome.rc, outcome.changed) == (0, {"cella": 0})
    assert state() == before


def test_a_slice_of_the_inventory_shrinks_nothing(tmp_path):
    inventory = yaml.safe_load(INVENTORY.read_text())
    sliced = copy.deepcopy(inventory)
    del sliced["cells"]["hosts"]["cellb"]
    (tmp_path / "sliced.yml").write_text(yaml.safe_dump(sliced))
    before = state()
    outcome = play("site", inventory=tmp_path / "sliced.yml")
    assert (outcome.rc, outcome.changed) == (0, {"cella": 0, "cellc": 0}), outcome.message
    assert state() == before


def test_one_cell_at_a_time_shrinks_nothing(tmp_path):
    (tmp_path / "serial.yml").write_text("- hosts: cells\n  serial: 1\n  gather_facts: false\n  roles: [pic.cells.cell]\n")
    before = state()
    outcome = play(str(tmp_path / "serial.yml"))
    assert (outcome.rc, outcome.changed) == (0, {"cella": 0, "cellb": 0, "cellc": 0}), outcome.message
    assert state() == before


def endpoint() -> str:
    """Returns where cella sends what is for cellb."""
    return inside("cella", "wg", "show", "pic-cellb", "endpoints").stdout.split()[1]


def test_an_endpoint_that_does_not_resolve_is_named_and_the_link_goes_on():
    before = endpoint()
    outcome = play("site", overlay={"cellb": {"cell_endpoint": "nowhere.invalid"}})
    assert outcome.rc == 0, outcome.message
    assert "'nowhere.invalid:51821' of cell cellb does not resolve" in outcome.text
    assert endpoint() == before
    assert reaches("phone-b1", "10.0.0.1", FILES)


def test_another_endpoint_in_the_inventory_reaches_the_kernel_and_one_that_has_roamed_is_left_alone():
    address, port = endpoint().split(":")
    other = {"cellb": {"cell_endpoint": lab.NETWORKS["inet"].addresses(lab.HOSTS["cellb"].at["inet"])[1]}}
    assert play("site", overlay=other).rc == 0
    assert endpoint() == f"[{other['cellb']['cell_endpoint']}]:{port}"
    roamed = ["endpoint", f"{address}:{port}"]
    inside("cella", "wg", "set", "pic-cellb", "peer", str(link_record("cella", "cellb")["public_key"]), *roamed)
    assert reaches("phone-b1", "10.0.0.1", FILES)
    again = play("site", overlay=other)
    assert (again.rc, again.changed["cella"]) == (0, 0), again.message
    assert endpoint() == f"{address}:{port}"
    assert play("site").rc == 0


# How cellb gets another public address.
BEFORE, AFTER, ANOTHER = "198.51.100.12", "198.51.100.112", "198.51.100.113"
MOVES = "sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1; ip address add {new}/24 dev eth0; ip address del {old}/24 dev eth0; "
MOVES += f"ip route replace default via {lab.GATEWAY[0]}"
# A phone follows its cell where that sends from. Back at the old address the cell does not know where the phone is until that finds it.
RECONNECTS = "systemctl restart wg-quick@wg0"


def test_a_cell_with_another_address_is_heard_from_there_within_30_s():
    """The cells dial each other, so each sends something every 10 s, whoever has moved. The address is none of those below: conntrack remembers it."""
    assert within(10, lambda: seen_address("phone-a1", 4) == BEFORE)
    try:
        sh("cellb", MOVES.format(new=ANOTHER, old=BEFORE))
        began = time.monotonic()
        assert within(30, lambda: seen_address("phone-a1", 4) == ANOTHER), "it is dialled"
        print(f"heard again after {time.monotonic() - began:.1f} s")
    finally:
        sh("cellb", MOVES.format(new=BEFORE, old=ANOTHER))
        sh("phone-b1", RECONNECTS)
    assert within(5, lambda: reaches("cellb", "10.0.0.1", FILES)), "it dials"
    assert within(5, lambda: seen_address("phone-a1", 4) == BEFORE)


def test_a_cell_whose_name_leads_elsewhere_is_found_again_within_30_s():
    """Behind a filter that lets nothing new in, as a NAT does, only cella can find the other one."""
    before, after, name = BEFORE, AFTER, "moving.example"
    named = f"grep -v {name} /etc/hosts >/run/hosts; echo %s {name} >>/run/hosts; cat /run/hosts >/etc/hosts"  # a mount, so nothing can take its place
    port = inside("cella", "wg", "show", "pic-cellb", "listen-port").stdout.strip()
    filtered = f"PREROUTING -i eth0 -p udp --dport {port} -m conntrack --ctstate NEW -j DROP"
    sh("cella", f"{named % before}; iptables -t mangle -I {filtered}")
    try:
        assert play("site", overlay={"cellb": {"cell_endpoint": name}}).rc == 0
        with watching("cella"):
            assert within(10, lambda: seen_address("phone-a1", 4) == before)
            sh("cella", named % after)
            sh("cellb", MOVES.format(new=after, old=before))
            began = time.monotonic()
            assert within(30, lambda: seen_address("phone-a1", 4) == after), sh("cella", "journalctl -u pic-cell-watch -u 'pic-cell-redial@*' --no-pager")
            print(f"found again after {time.monotonic() - began:.1f} s")
        assert endpoint().split(":")[0] == after
        assert f"is dialled at {after}:" in sh("cella", "journalctl -u pic-cell-redial@pic-cellb --no-pager")
    finally:
        sh("cellb", MOVES.format(new=before, old=after))
        sh("phone-b1", RECONNECTS)
        sh("cella", f"iptables -t mangle -D {filtered}; {named % before}")
    assert play("site").rc == 0
    assert within(25, lambda: reaches("phone-b1", "10.0.0.1", FILES))


def test_with_a_cell_switched_off_the_others_converge_and_the_next_run_completes_it():
    with Sniffer("cella", "eth0", f"dst host {INTERNET[0]} or dst host {INTERNET[1]}", seconds=240) as uplink, switched_off("cellb"):
        outcome = play_with_one_off("site", overlay={"cella": {"cell_links": [{"name": "cellb", "share": ["voice"]}, {"name": "cellc"}]}})
        assert outcome.stats["cellb"]["unreachable"] == 1
        for cell in ("cella", "cellc"):
            assert (outcome.stats[cell]["failures"], outcome.stats[cell]["unreachable"]) == (0, 0), outcome.message
        assert outcome.changed["cella"] > 0
        assert times_not_reached(outcome) == 1
        assert link_record("cella", "cellb")["pending_push"] is True
        assert seen_address("phone-a1", 4) is None
        assert seen_address("phone-a1", 6) is None
        assert seen_address("phone-a2", 4) == "198.51.100.13"
        again = play_with_one_off("site", overlay={"cella": {"cell_links": [{"name": "cellb", "share": ["voice"]}, {"name": "cellc"}]}})
        assert again.changed["cella"] == 0
        day2 = play_with_one_off("share", cell="cella", remote_cell="cellb", services="files,voice")
        assert day2.rc == 0, day2.message
        assert times_not_reached(day2) == 1
        assert link_record("cella", "cellb")["pending_push"] is True
    assert uplink.lines == []
    outcome = play("site")
    assert outcome.rc == 0, outcome.message
    assert link_record("cella", "cellb")["pending_push"] is False
    lab.phones()
    assert [seen_address("phone-a1", family) for family in (4, 6)] == ["198.51.100.12", "2001:db8:113::12"]
    # a phone notices after 15 seconds that its cell has begun anew (WireGuard: KEEPALIVE_TIMEOUT + REKEY_TIMEOUT)
    assert within(25, lambda: reaches("phone-b1", "10.0.0.1", FILES))
    assert not any(play("site").changed.values())


def test_a_cell_that_was_installed_anew_is_linked_again_by_its_new_key():
    old = link_record("cella", "cellb")["public_key"]
    lab.renew("cellb")
    outcome = play("site")
    assert outcome.rc == 0, outcome.message
    assert link_record("cella", "cellb")["public_key"] != old
    lab.phones()
    assert [seen_address("phone-a1", family) for family in (4, 6)] == ["198.51.100.12", "2001:db8:113::12"]
    assert reaches("phone-b1", "10.0.0.1", FILES)
    assert not any(play("site").changed.values())


def test_a_cell_that_is_off_on_the_very_first_day_is_linked_by_a_later_run():
    lab.reset(lab.RELEASES[0], lab.BACKENDS[0])
    with switched_off("cellb"):
        outcome = play_with_one_off("site")
        for cell in ("cella", "cellc"):
            assert (outcome.stats[cell]["failures"], outcome.stats[cell]["unreachable"]) == (0, 0), outcome.message
        assert "pic-cellb" not in inside("cella", "wg", "show", "interfaces").stdout
        # A link that waits is no difference from the records, for the program on the cell as for a run.
        for command in ("check", "restore"):
            assert inside("cella", "pic-cell", command).stdout == ""
        assert play_with_one_off("site").changed["cella"] == 0
        with pytest.raises(lab.LabError):
            lab.phones()  # cellb has no wg0 yet; those of cella are connected
        assert seen_address("phone-a1", 4) is None, "it leaks"
        assert seen_address("phone-a2", 4) == "198.51.100.13"
        assert seen_address("phone-a3", 4) == EXIT["cella"]
    outcome = play("site")
    assert outcome.rc == 0, outcome.message
    lab.phones()
    assert [seen_address("phone-a1", family) for family in (4, 6)] == ["198.51.100.12", "2001:db8:113::12"]
    assert not any(play("site").changed.values())
