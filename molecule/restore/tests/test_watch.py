# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell that hears what is taken away from it: all of it is back in about two seconds, and nothing is written where nothing is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from test_restore import DAMAGE, is_as_recorded, leaves_by_its_exit, state_of, wake

from cells import sh, watching, within

SOON = 6  # seconds: on a machine with two cores that carries the whole lab
HEARD = [name for name in DAMAGE if name != "a device"]  # what wg does the kernel tells nobody
RECORDS_REST = 11  # seconds after a change of the records in which a run is not disturbed


@pytest.fixture(scope="module", autouse=True)
def listening() -> Iterator[None]:
    """Lets cella hear, and its timer rest: what comes back does so because it was heard."""
    sh("cella", "systemctl stop pic-cell-restore.timer")
    with watching("cella"):
        sh("cella", "pic-cell restore")
        time.sleep(RECORDS_REST)
        yield
    sh("cella", "systemctl start pic-cell-restore.timer")


@pytest.mark.parametrize("what", HEARD)
def test_what_is_taken_away_is_back_at_once(what):
    before = state_of("cella")
    assert is_as_recorded("cella")
    sh("cella", DAMAGE[what])
    assert within(SOON, lambda: state_of("cella") == before)
    assert within(SOON, lambda: is_as_recorded("cella"))
    assert not sh("cella", "systemctl is-active pic-cell-restore.timer", check=False).startswith("active")


def test_all_of_a_rules_set_is_back_after_it_was_flushed():
    before = state_of("cella")
    sh("cella", "nft list ruleset >/run/kept; nft flush ruleset")
    try:
        assert within(SOON, lambda: state_of("cella") == before)
    finally:
        sh("cella", "systemctl stop pic-cell-watch; nft flush ruleset; nft -f /run/kept; systemctl start pic-cell-watch; pic-cell restore")
    wake("phone-a1")
    assert within(10, lambda: leaves_by_its_exit("phone-a1"))


def test_a_reload_of_nftables_brings_everything_back():
    before = state_of("cella")
    sh("cella", "nft list ruleset >/run/kept; systemctl stop pic-cell-watch; systemctl start nftables")  # also without the watcher
    try:
        assert within(SOON, lambda: state_of("cella") == before)
        sh("cella", "systemctl reload nftables")
        assert within(SOON, lambda: state_of("cella") == before)
        sh("cella", "systemctl start pic-cell-watch; systemctl reload nftables")
        assert within(SOON, lambda: state_of("cella") == before)
    finally:
        sh("cella", "systemctl stop pic-cell-watch nftables; nft flush ruleset; nft -f /run/kept; systemctl start pic-cell-watch; pic-cell restore")


def test_the_restart_of_an_interface_whose_file_puts_rules_first():
    """As the files of many tutorials do."""
    conf = "/etc/wireguard/wg0.conf"
    sh("cella", f"cp -p {conf} /root/wg0.conf; sed -i '/^\\[Interface\\]/a PostUp = iptables -I FORWARD -i wg0 -j ACCEPT' {conf}")
    first = "iptables -S FORWARD | sed -n 2p"
    try:
        for also in ("systemctl stop pic-cell-watch", "systemctl start pic-cell-watch"):
            # A restore that is running would count as the one that the restart asks for.
            sh("cella", f"{also}; systemctl start pic-cell-restore; iptables -D FORWARD -i wg0 -j ACCEPT 2>/dev/null; systemctl restart wg-quick@wg0")
            assert "-A FORWARD -i wg0 -j ACCEPT" in sh("cella", "iptables -S FORWARD")
            assert within(SOON, lambda: "PIC-FWD" in sh("cella", first))
    finally:
        sh("cella", f"cp -p /root/wg0.conf {conf}; iptables -D FORWARD -i wg0 -j ACCEPT; systemctl start pic-cell-watch; pic-cell restore", check=False)


def test_nothing_is_written_where_nothing_is_missing():
    """Somebody's own rules, interfaces and routes come and go."""
    time.sleep(3)
    before = sh("cella", "systemctl show -p ExecMainStartTimestampMonotonic pic-cell-restore")
    for _time in range(3):
        sh("cella", "ip link add pic_lab_v type veth peer name pic_lab_w; ip link set pic_lab_v up; ip link del pic_lab_v")
        sh("cella", "iptables -A FORWARD -s 192.0.2.77 -j ACCEPT; iptables -D FORWARD -s 192.0.2.77 -j ACCEPT")
        sh("cella", "ip rule add from 192.0.2.77 pref 30000; ip rule del pref 30000")
    time.sleep(3)
    assert sh("cella", "systemctl show -p ExecMainStartTimestampMonotonic pic-cell-restore") == before


def test_an_interface_is_restarted_by_hand_without_anybody_in_the_way():
    for _time in range(3):
        # The start of the unit brings restore, which is no affair of this test: it may find the other interface missing.
        sh("cella", "systemctl restart wg-quick@wg0; sleep 3; while systemctl is-active pic-cell-restore | grep -q activating; do sleep 0.2; done")
        sh("cella", "wg-quick down pic-cellb; wg-quick up pic-cellb")
    assert within(SOON, lambda: is_as_recorded("cella"))
    assert sh("cella", "systemctl is-failed wg-quick@wg0", check=False) == "active\n"
