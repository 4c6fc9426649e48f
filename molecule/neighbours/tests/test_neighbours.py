# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other software on the cells: docker with a published container on A, ufw and a masquerade on B, firewalld's rules and a second iptables on C.

(That all of it is unchanged at the end of every scenario, conftest sees to.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import lab
import neighbours
from lab import CELLS, INTERNET, inside, kind_of
from packets import Sniffer, Stream, address_seen_by, reaches, seen_address, snapshot
from playbooks import call, play, run

EXITS = {"phone-a1": "cellb", "phone-a2": "cellc", "phone-a3": "cella", "phone-b1": "cella"}
PUBLISHED, UNSHARED = 8446, 8447  # by docker on cella
NETWORK = "/run/systemd/network/10-pic-lab.network"
ROUTING = ("rules", "rules6", "routes", "routes6")


def all_phones_leave_by_their_exits() -> bool:
    addresses = {cell.name: lab.NETWORKS["inet"].addresses(cell.at["inet"]) for cell in CELLS}
    return all((seen_address(phone, 4), seen_address(phone, 6)) == addresses[cell] for phone, cell in EXITS.items())


@contextmanager
def by_hand(cell: str, begin: str, end: str) -> Iterator[None]:
    """Changes something on a cell, and takes it back."""
    inside(cell, "sh", "-c", begin)
    try:
        yield
    finally:
        inside(cell, "sh", "-c", end)


def test_the_neighbours_are_there():
    assert "-A FORWARD -j DOCKER-USER" in inside("cella", "iptables", "-S").stdout
    assert "Status: active" in inside("cellb", "ufw", "status").stdout
    assert "ufw-reject-forward" in inside("cellb", "iptables", "-S", "FORWARD").stdout
    assert "--reject-with icmp-host-prohibited" in inside("cellc", "iptables", "-S", "FORWARD").stdout


def test_every_phone_leaves_by_its_exit_and_handshakes_arrive():
    assert all_phones_leave_by_their_exits()
    for cell, other in (("cella", "cellb"), ("cellb", "cella"), ("cella", "cellc"), ("cellc", "cella")):
        assert not inside(cell, "wg", "show", f"pic-{other}", "latest-handshakes").stdout.endswith("\t0\n")


def test_a_service_that_docker_publishes_is_shared_by_its_public_port_alone_and_revoked():
    assert reaches("lan-a", "192.168.77.1", PUBLISHED), "docker's container is not there"
    assert not reaches("phone-b1", "10.0.0.1", PUBLISHED), "reachable before it is shared"
    assert play("share", cell="cella", remote_cell="cellb", services="files,web").rc == 0
    assert reaches("phone-b1", "10.0.0.1", PUBLISHED)
    assert not reaches("phone-b1", "10.0.0.1", UNSHARED)
    assert not reaches("phone-b1", "172.17.0.2", 80)
    with Stream("phone-b1", "10.0.0.1", PUBLISHED) as revoked, Stream("phone-b1", "10.0.0.1", 8443) as kept:
        assert play("share", cell="cella", remote_cell="cellb", services="files").rc == 0
        ended = time.monotonic()
        time.sleep(2)
        assert revoked.last < ended + 1
        assert kept.undisturbed()
    assert not reaches("phone-b1", "10.0.0.1", PUBLISHED)
    assert reaches("lan-a", "192.168.77.1", PUBLISHED), "docker's own way is not ours to close"


def test_a_foreign_accept_before_our_jump_opens_nothing():
    """As docker's stand for a while when a network of it is made."""
    assert play("share", cell="cella", remote_cell="cellb", services="files,web").rc == 0
    with by_hand("cella", "iptables -I FORWARD -o docker0 -j ACCEPT", "iptables -D FORWARD -o docker0 -j ACCEPT"):
        assert reaches("phone-b1", "10.0.0.1", PUBLISHED)
        assert not reaches("phone-b1", "10.0.0.1", UNSHARED)
    assert play("share", cell="cella", remote_cell="cellb", services="files").rc == 0


def test_what_was_opened_while_our_rules_were_away_ends_with_the_repair_and_a_share_goes_on():
    begin = "iptables -I FORWARD -i pic-cellb -j ACCEPT; iptables -t mangle -F FORWARD"
    with by_hand("cella", begin, "iptables -D FORWARD -i pic-cellb -j ACCEPT"):
        with Stream("phone-b1", "10.0.0.1", UNSHARED) as opened, Stream("phone-b1", "10.0.0.1", 8443) as kept:
            assert "CHANGED" in call("cella", "pic_cell_rules", "").stdout
            ended = time.monotonic()
            time.sleep(2)
            assert opened.last < ended + 1
            assert kept.undisturbed()
        assert not reaches("phone-b1", "10.0.0.1", UNSHARED)


@pytest.mark.parametrize(("own", "server"), [("10.0.1.2", "10.0.0.1:8443"), ("fd00:b::2", "[fd00:a::1]:8443")])
def test_a_foreign_masquerade_does_not_change_a_phones_address_on_a_link(own, server):
    assert address_seen_by(server, "phone-b1") == own
    address = server.rpartition(":")[0].strip("[]")
    server = "systemd-run --quiet --collect --unit=pic-lab-api python3 /usr/local/lib/pic-lab/echo_server.py serve tcp:8088"
    with by_hand("cella", f"systemctl stop pic-cell-serve; {server}", "systemctl stop pic-lab-api; systemctl start pic-cell-serve"):
        assert not reaches("phone-b1", address, 8088), "the peer-sync port is the cell's alone"


@pytest.mark.parametrize("family", [4, 6])
def test_a_foreign_drop_behind_our_jump_still_decides_what_is_not_ours(family):
    tool, cell, host = ("iptables", "192.168.77.1", "192.168.77.10") if family == 4 else ("ip6tables", "fd77::1", "fd77::10")
    rules = [f"INPUT -s {host} -p udp --dport 9002 -j {target}" for target in ("ACCEPT", "DROP")]
    behind = f"$({tool} -S INPUT | grep -n PIC-IN | cut -d: -f1)"  # -S begins with the policy: this is the place after it
    accept, drop = ((f"{tool} -I {rule.replace('INPUT', f'INPUT {behind}')}", f"{tool} -D {rule}") for rule in rules)
    with by_hand("cella", *accept), Stream("lan-a", cell, 9002, "udp"), by_hand("cella", *drop):
        time.sleep(1)
        counted = inside("cella", tool, "-vnxL", "INPUT").stdout
    packets = next(int(line.split()[0]) for line in counted.splitlines() if "DROP" in line and "dpt:9002" in line)
    assert packets > 10, "an established flow got past a foreign DROP"


@pytest.mark.parametrize(
    ("family", "target", "gateway", "icmp"), [("-4", "10.0.1.2", "198.51.100.11", "icmp"), ("-6", "fd00:b::2", "2001:db8:113::11", "icmp6")]
)
def test_a_stranger_on_the_uplinks_network_gets_no_packet_into_a_link(family, target, gateway, icmp):
    packets = f"{icmp} and dst host {target}"
    routed = by_hand("internet", f"ip {family} route add {target} via {gateway}", f"ip {family} route del {target}")
    with routed, Sniffer("cella", "eth0", packets) as uplink, Sniffer("cella", "pic-cellb", packets) as link:
        inside("internet", "ping", "-c", "3", "-i", "0.2", "-W", "1", target, check=False)
    assert uplink.lines, "the stranger's packets did not arrive, so the test proves nothing"
    assert link.lines == []


@pytest.fixture
def networkd() -> Iterator[str]:
    """What runs systemd-networkd on cella for some seconds, with a link of its own to configure: that is when it deletes what it does not know.

    Its unit asks for more than a container gives.
    """
    network = "[Match]\nName=netd0\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    begin = f"ip link add netd0 type veth peer name netd1; mkdir -p /run/systemd/netif/links /run/systemd/network; printf '{network}' >{NETWORK}"
    with by_hand("cella", f"{begin}; chown -R systemd-network /run/systemd/netif", f"ip link del netd0; rm {NETWORK}"):
        yield (
            "timeout 3 setpriv --reuid systemd-network --regid systemd-network --clear-groups --inh-caps +net_admin,+net_raw "
            "--ambient-caps +net_admin,+net_raw /lib/systemd/systemd-networkd 2>&1; true"
        )


def test_networkd_leaves_policy_rules_and_routes_alone(networkd):
    before = snapshot("cella")
    assert "netd0: Configuring with" in inside("cella", "sh", "-c", networkd).stdout
    after = snapshot("cella")
    assert {part: after[part] for part in ROUTING} == {part: before[part] for part in ROUTING}


def test_nothing_leaks_when_networkd_deletes_all_policy_rules_after_all_and_site_brings_them_back(networkd):
    drop_in = "/etc/systemd/networkd.conf.d/90-pic-cells.conf"
    inside("cella", "rm", drop_in)
    with Stream("phone-a1", INTERNET[0], 9000, "udp"), Sniffer("cella", "eth0", f"dst host {INTERNET[0]} and udp") as uplink:
        inside("cella", "sh", "-c", networkd)
        if kind_of("cella")[0] == "bookworm":  # systemd 252 does not delete them here
            theirs = neighbours.POLICY_RULES.replace(" add ", " del ")
            inside("cella", "sh", "-c", f"ip rule flush protocol 201; ip -6 rule flush protocol 201\n{theirs}")
        assert "proto 201" not in snapshot("cella")["rules"]
        time.sleep(1)
    assert uplink.lines == []
    inside("cella", "sh", "-c", neighbours.POLICY_RULES)
    assert play("site").rc == 0
    assert all_phones_leave_by_their_exits()
    assert not inside("cella", "test", "-e", drop_in, check=False).returncode


@pytest.mark.parametrize(
    "damage",
    [
        "iptables -F PIC-FWD",
        "ip6tables -F PIC-L-cellb",
        "iptables -t nat -F PIC-POST",
        "iptables -D PIC-PATH 3",
        "iptables -A PIC-PATH -j ACCEPT -m comment --comment 'pic-cells 0123456789'",
        "rule=$(iptables -S PIC-GUARD | tail -n 1); eval iptables $rule",
        "rule=$(iptables -S PIC-PATH | tail -n 1); eval iptables -D ${rule#-A}; eval iptables -I ${rule#-A}",
        "eval iptables -D $(iptables -S FORWARD | grep PIC-FWD | cut -c4-)",
        "rule=$(ip6tables -S INPUT | grep PIC-IN); eval ip6tables -D ${rule#-A}; eval ip6tables $rule",
        "iptables -I FORWARD -j ACCEPT -m comment --comment 'pic-cell-ghost 0123456789'",
        "iptables -N PIC-L-ghost; iptables -A PIC-L-ghost -j DROP -m comment --comment 'pic-cell-ghost 0123456789'",
    ],
)
def test_what_somebody_has_done_to_our_rules_is_undone_by_the_next_run(damage):
    before = snapshot("cella")
    inside("cella", "sh", "-ec", damage)
    assert snapshot("cella") != before
    assert "CHANGED" in call("cella", "pic_cell_rules", "").stdout
    assert snapshot("cella") == before
    assert "SUCCESS" in call("cella", "pic_cell_rules", "").stdout


def test_forward_that_somebody_has_flushed_gets_our_jump_back():
    with by_hand("cella", "iptables-save -t filter >/run/pic-lab-filter; iptables -F FORWARD", "iptables-restore -T filter </run/pic-lab-filter"):
        assert "CHANGED" in call("cella", "pic_cell_rules", "").stdout
        assert "-j PIC-FWD" in inside("cella", "iptables", "-S", "FORWARD").stdout
        assert all_phones_leave_by_their_exits()


def test_rules_that_a_rival_saves_and_restores_are_in_place_in_the_end():
    loop = "while :; do iptables-save >/run/rival; sleep 0.1; iptables-restore </run/rival; done"
    assert play("site").rc == 0
    before = snapshot("cella")["iptables"]
    with by_hand("cella", f"systemd-run --quiet --unit=pic-lab-rival sh -c '{loop}'", "systemctl stop pic-lab-rival"):
        assert play("share", cell="cella", remote_cell="cellb", services="voice").rc == 0
    assert play("site").rc == 0
    assert snapshot("cella")["iptables"] == before
    assert not any(play("site").changed.values())


def test_the_other_iptables_is_named_and_left_alone():
    version = inside("cellc", "iptables", "-V").stdout
    used, other = ("-legacy", "-nft") if "legacy" in version else ("-nft", "-legacy")
    done = run("site", "--limit", "cellc")
    printed = done.stdout + done.stderr
    assert f"iptables{other} holds 1 rules in addition to those of iptables{used}, which the cell uses" in " ".join(printed.split())
    assert "pic-cell" in inside("cellc", f"iptables{used}-save").stdout
    assert "pic-cell" not in inside("cellc", f"iptables{other}-save").stdout


def test_a_table_and_priorities_that_somebody_else_takes_are_left_to_them():
    before = snapshot("cella")
    table = inside("cella", "sh", "-c", "ip rule show pref 4001 from 10.0.0.2").stdout.split("lookup ")[1].split()[0]
    taken = (f"route {{}} 192.0.2.0/24 dev eth0 table {table}", "rule {} from 192.0.2.1 lookup 7 pref 4001")
    begin, end = (" && ".join(f"ip {command.format(verb)}" for command in taken) for verb in ("add", "del"))
    with by_hand("cella", begin, end):
        assert play("site", "--limit", "cella").changed == {"cella": 1}
        assert inside("cella", "ip", "route", "show", "table", table).stdout.split() == ["192.0.2.0/24", "dev", "eth0", "scope", "link"]
        assert inside("cella", "ip", "rule", "show", "pref", "4001").stdout.split() == ["4001:", "from", "192.0.2.1", "lookup", "7"]
        assert all_phones_leave_by_their_exits()
    assert not any(play("site").changed.values())
    assert neighbours.foreign(snapshot("cella")) == neighbours.foreign(before)


def test_reloading_ufw_ends_no_flow_and_takes_nothing_of_ours_away():
    with Stream("phone-a1", INTERNET[0], 9000, "udp") as relayed, Stream("phone-b1", "10.0.0.1", 8443) as share:
        inside("cellb", "ufw", "reload")
        time.sleep(1)
        assert relayed.undisturbed()
        assert share.undisturbed()
    assert not any(play("site").changed.values())
