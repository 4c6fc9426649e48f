# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others have on a cell keeps nothing of ours from coming back: neither at once, with the timer at rest, nor after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from test_restore import LEAK, busy, is_as_recorded, leaves_by_its_exit, restart, state_of, wake
from test_watch import SOON, listening

from cells import sh, within
from lab import kind_of
from packets import Sniffer, Stream, reaches
from playbooks import play

__all__ = ["listening"]  # a fixture

CONF = "/etc/wireguard/wg0.conf"
SHARED, UNSHARED = 8443, 8444
# So that what is not shared is open, and all policy rules are gone.
OPENED = "iptables -t mangle -F INPUT; iptables -I INPUT -i pic-cellb -j ACCEPT; ip rule flush protocol 201; ip -6 rule flush protocol 201"
LATIN_1 = """-p tcp --dport 22 -m comment --comment "$(printf 'B\\374ro')" -j ACCEPT"""
NATIVE = "add chain ip nat pic_lab { type nat hook postrouting priority srcnat; }; add rule ip nat pic_lab oifname eth0 masquerade"
LINK_LOCAL = f"sed -i 's|^Address = .*|&, fe80::1/64|' {CONF}; ip link del wg0; systemctl restart wg-quick@wg0"
NO_NATIVE = "nft 'flush chain ip nat pic_lab; delete chain ip nat pic_lab'"
NO_LINK_LOCAL = f"cp -p /root/wg0.conf {CONF}; ip -6 addr del fe80::1/64 dev wg0"
# How each comes, and how it goes.
OTHERS = {
    "a comment in Latin-1": (f"iptables -A INPUT {LATIN_1}", f"iptables -D INPUT {LATIN_1}"),
    "a chain of nftables' own": (f"nft 'add table ip nat; {NATIVE}'", NO_NATIVE),
    "a link-local address": (f"cp -p {CONF} /root/wg0.conf; {LINK_LOCAL}", NO_LINK_LOCAL),
}
HIDDEN = "add chain ip filter pic_lab; add rule ip filter pic_lab numgen inc mod 2 0 counter"
FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
LATER = "/etc/sysctl.d/99-pic-lab.conf"
UNIT = "/etc/systemd/system/pic-lab-others.service"
# As netfilter-persistent and Debian's nftables.service load what they have kept.
LOADED = """[Unit]
DefaultDependencies=no
After=pic-lab-setup.service
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
ExecStart=/bin/sh /root/pic-lab-others.sh
[Install]
WantedBy=multi-user.target
"""


@contextmanager
def by_hand(begin: str, end: str) -> Iterator[None]:
    """Changes something on cella, and takes it back."""
    sh("cella", begin)
    try:
        yield
    finally:
        sh("cella", end)


def said_by_check() -> str:
    return sh("cella", "pic-cell check 2>&1", check=False)


@pytest.mark.parametrize("what", OTHERS)
def test_what_somebody_has_opened_is_shut_at_once_whatever_others_have_there(what):
    with by_hand(*OTHERS[what]):
        assert within(SOON, lambda: is_as_recorded("cella")), said_by_check()
        before = state_of("cella")
        sh("cella", "systemctl kill --signal=STOP pic-cell-watch")
        with by_hand(OPENED, "iptables -D INPUT -i pic-cellb -j ACCEPT"), Stream("phone-b1", "10.0.0.1", UNSHARED) as opened:
            sh("cella", "systemctl kill --signal=CONT pic-cell-watch")
            assert within(SOON, lambda: is_as_recorded("cella")), said_by_check()
            shut = time.monotonic()
            time.sleep(1)
            assert opened.last < shut + 0.5
            assert not reaches("phone-b1", "10.0.0.1", UNSHARED)
            assert reaches("phone-b1", "10.0.0.1", SHARED)
        assert state_of("cella") == before
    assert within(SOON, lambda: is_as_recorded("cella")), said_by_check()


def test_a_run_changes_nothing_whatever_others_have_there():
    begin, end = zip(*OTHERS.values())
    with by_hand("; ".join(["systemctl start pic-cell-restore.timer", *begin]), "; ".join([*end, "systemctl stop pic-cell-restore.timer"])):
        done = play("site", "--limit", "cella")
        assert (done.rc, done.changed) == (0, {"cella": 0}), done.text


@pytest.fixture
def connected() -> None:
    """Waits until a phone has noticed that its cell's interface was made anew (WireGuard: KEEPALIVE_TIMEOUT + REKEY_TIMEOUT)."""
    assert within(25, lambda: leaves_by_its_exit("phone-a1"))


@pytest.mark.usefixtures("connected")
def test_where_iptables_cannot_show_a_table_the_policy_rules_come_back():
    if kind_of("cella")[1] != "nft":
        pytest.skip("iptables-legacy shows all that it has")
    ours = "{ ip rule; ip -6 rule; } | grep 'proto 201'"
    before = sh("cella", ours)
    with (
        Sniffer("internet", "eth0", LEAK) as uplink,
        busy("phone-a1"),
        by_hand(f"nft '{HIDDEN}'", "nft 'flush chain ip filter pic_lab; delete chain ip filter pic_lab'"),
    ):
        sh("cella", "ip rule flush protocol 201; ip -6 rule flush protocol 201")
        assert within(SOON, lambda: sh("cella", ours, check=False) == before)
        assert "nft list table ip filter" in said_by_check()
        assert leaves_by_its_exit("phone-a1")
    assert uplink.lines == []
    assert within(SOON, lambda: is_as_recorded("cella")), said_by_check()


@pytest.mark.usefixtures("connected")
def test_forwarding_that_somebody_turns_off_is_back_at_once():
    with Sniffer("internet", "eth0", LEAK) as uplink, busy("phone-a1"):
        sh("cella", "sysctl -qw " + " ".join(f"{name}=0" for name in FORWARDING))
        assert within(SOON, lambda: sh("cella", f"sysctl -n {' '.join(FORWARDING)}") == "1\n1\n")
        assert within(SOON, lambda: is_as_recorded("cella")), said_by_check()
        assert leaves_by_its_exit("phone-a1")
    assert uplink.lines == []


def test_after_a_restart_with_all_of_it_and_a_name_that_no_resolver_answers_the_cell_is_back():
    """Also rules of others at boot, a file that turns forwarding off, and a resolver that is dead."""
    before = state_of("cella")
    link = "/etc/wireguard/pic-cellb.conf /var/lib/pic/cell_links.json"
    begin = f"cp -p {CONF} /root/wg0.conf; tar -cf /root/link.tar -P {link}; cat /etc/resolv.conf >/root/resolv.conf; {LINK_LOCAL}"
    begin += f"; sed -i 's/198.51.100.12:/b.example.net:/' {link}; echo net.ipv4.ip_forward=0 >{LATER}"
    begin += "; echo 'nameserver 192.0.2.53' >/etc/resolv.conf; systemctl enable -q pic-lab-others"
    end = f"systemctl disable -q pic-lab-others; rm {UNIT} {LATER}; tar -xf /root/link.tar -P; cat /root/resolv.conf >/etc/resolv.conf"
    end += f"; iptables -D INPUT {LATIN_1}; {NO_NATIVE}; {NO_LINK_LOCAL}; pic-cell restore"
    script = f"iptables -A INPUT {LATIN_1}\nnft 'add table ip nat; {NATIVE}'\n"
    sh("cella", f"cat >/root/pic-lab-others.sh <<'END'\n{script}END\ncat >{UNIT} <<'END'\n{LOADED}END")
    with Sniffer("internet", "eth0", LEAK) as uplink, busy("phone-a1"), by_hand(begin, end):
        restart("cella")
        for phone in ("phone-a2", "phone-b1"):
            wake(phone)
        assert within(10, lambda: leaves_by_its_exit("phone-a2")), "a device with another exit waits for the name"
        assert within(60, lambda: reaches("phone-b1", "10.0.0.1", SHARED)), "the link that has waited is not back"
        assert not reaches("phone-b1", "10.0.0.1", UNSHARED), "more than is shared"
        assert within(30, lambda: is_as_recorded("cella")), said_by_check()
        assert sh("cella", f"sysctl -n {' '.join(FORWARDING)}") == "1\n1\n"
        assert f"File {LATER} sets net.ipv4.ip_forward" in sh("cella", "pic-cell status", check=False)
        assert "b.example.net" in sh("cella", "journalctl -b -u wg-quick@pic-cellb --no-pager"), "no name was asked for"
        found = sh("cella", "iptables -S INPUT; nft list table ip nat; ip -6 addr show dev wg0")
        assert all(word in found for word in ("--dport 22", 'oifname "eth0" masquerade', "fe80::1/64")), found
    assert uplink.lines == []
    wake("phone-a1")
    assert within(25, lambda: leaves_by_its_exit("phone-a1"))
    assert within(SOON, lambda: is_as_recorded("cella")), said_by_check()
    assert state_of("cella") == before
