# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device's internet traffic through another cell: proof that it goes there, and that nothing leaks when it cannot."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import lab
from dead_exits import DEATHS
from lab import CELLS, HOSTS, INTERNET, NETWORKS, inside
from packets import Sniffer, Stream, reaches, seen_address, snapshot
from playbooks import call, play

CELL = {
    "cella": {4: "198.51.100.11", 6: "2001:db8:113::11"},
    "cellb": {4: "198.51.100.12", 6: "2001:db8:113::12"},
    "cellc": {4: "198.51.100.13", 6: "2001:db8:113::13"},
}
# What leaves; that the cell itself turns strays away is no leak: a server goes on sending to where a phone was before.
TO_INTERNET = f"(dst host {INTERNET[0]} or dst host {INTERNET[1]}) and not (icmp and icmp[icmptype] == icmp-unreach) and not (icmp6 and ip6[40] == 1)"
UNMASKED = "net 10.0.0.0/24 or net fd00:a::/64"
LINK = "pic-cellb"

GATEWAYS = NETWORKS["inet"].addresses(HOSTS["internet"].at["inet"])

# as other VPNs do, and as somebody pins a way to one network
HALVES = "ip route {0} 0.0.0.0/1 via {1}; ip route {0} 128.0.0.0/1 via {1}; ip -6 route {0} 2000::/3 via {2}"
STATIC = "ip route {0} 203.0.113.0/24 via {1}; ip -6 route {0} 2001:db8:ffff::/64 via {2}"

# how the way to an exit can be broken on the phone's own cell: what breaks it, what has to be mended by hand, whether the other phone's exit stays
FAULTS = {
    "link down": (f"ip link set {LINK} down", "", True),
    "interface deleted": (f"ip link del {LINK}", "", True),
    "table flushed": ("ip route flush table {table}; ip -6 route flush table {table}", "", True),
    "policy rules deleted": ("ip rule flush protocol 201; ip -6 rule flush protocol 201", "", False),
    "link down, static route by the uplink": (f"ip link set {LINK} down; {STATIC.format('add', *GATEWAYS)}", STATIC.format("del", *GATEWAYS), True),
}
# how the exit itself can be away, and how it comes back
ABSENCES = {name: DEATHS[name] for name in ("paused", "cut off")}
FLOWS = ((80, "tcp"), (9000, "udp"))


def try_hard(phone: str) -> bool:
    """Tries TCP, UDP and ICMP to the internet for a few seconds, over both families, and tells whether anything came back."""

    def ping(address: str) -> bool:
        return inside(phone, "ping", "-c", "10", "-i", "0.2", "-W", "1", address, check=False).returncode == 0

    attempts = [(attempt, address) for address in INTERNET for attempt in (ping, lambda to: reaches(phone, to, 80), lambda to: reaches(phone, to, 9000, "udp"))]
    with ThreadPoolExecutor(len(attempts)) as pool:
        return any(pool.map(lambda pair: pair[0](pair[1]), attempts))


def await_all(flows: list[Stream], seconds: float) -> bool:
    """Waits until new packets of all flows have come, and tells whether they did in time."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        if all(flow.last > begin for flow in flows):
            return True
        time.sleep(0.05)
    return False


def table_of(cell: str) -> str:
    return inside("cella", "sh", "-c", "ip rule show from 10.0.0.2").stdout.split("lookup ")[1].split()[0]


def route(peer: str, via: str, cell: str = "cella") -> None:
    outcome = play("route_peer", cell=cell, peer=peer, via_cell=via)
    assert outcome.rc == 0, outcome.message


@pytest.mark.parametrize("family", [4, 6])
def test_nothing_of_a_routed_phone_is_on_its_own_cells_uplink(family):
    with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
        assert seen_address("phone-a1", family) == CELL["cellb"][family]
        assert seen_address("phone-a2", family) == CELL["cellc"][family]
    assert uplink.lines == []
    with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
        assert seen_address("phone-a3", family) == CELL["cella"][family]
    assert uplink.lines != [], "the capture shows nothing, so it proves nothing"


@pytest.mark.parametrize("server", [INTERNET[0], f"[{INTERNET[1]}]"])
def test_a_large_download_comes_through_both_tunnels(server):
    """With the strict rp_filter that the lab's cells have on every interface."""
    done = inside("phone-a1", "curl", "-s", "-g", "--max-time", "30", "-o", "/dev/null", "-w", "%{size_download}", f"http://{server}/large")
    assert int(done.stdout) == 5_000_000


@pytest.mark.parametrize(
    ("witness", "address", "port"),
    [("cellb", "192.168.78.10", 80), ("cellb", "fd78::10", 80), ("phone-b1", "10.0.1.1", 22), ("phone-b1", "fd00:b::1", 22)],
)
def test_a_routed_phone_reaches_the_internet_but_no_network_of_its_exit(witness, address, port):
    assert reaches(witness, address, port), "what must not be reached is not there"
    assert not reaches("phone-a1", address, port)


def test_a_routed_phone_does_not_reach_public_neighbours_of_its_own_cells_uplink():
    neighbours = NETWORKS["inet"].addresses(HOSTS["internet"].at["inet"])
    inside("phone-a1", "sh", "-c", "; ".join(f"ip route add {address} dev wg0" for address in neighbours))
    try:
        with Sniffer("cella", "eth0", f"tcp and (host {neighbours[0]} or host {neighbours[1]})") as uplink:
            assert not any(reaches("phone-a1", address, 80) for address in neighbours)
        assert uplink.lines == []
    finally:
        inside("phone-a1", "sh", "-c", "; ".join(f"ip route del {address} dev wg0" for address in neighbours))


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_leaks_while_the_exit_is_gone_and_the_other_phone_is_not_disturbed(fault):
    breaking, mending, others_stay = FAULTS[fault]
    with ExitStack() as stack:
        others = [stack.enter_context(Stream("phone-a2", address, 9000, "udp")) for address in INTERNET]
        for address in INTERNET:
            stack.enter_context(Stream("phone-a1", address, 9000, "udp"))
        with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
            inside("cella", "sh", "-c", breaking.format(table=table_of("cellb")))
            assert not try_hard("phone-a1")
            assert not others_stay or all(flow.undisturbed() for flow in others)
    assert uplink.lines == []
    if mending:
        inside("cella", "sh", "-c", mending)
    if fault == "link down":  # a run mends it as the cell itself does: unit tests try every damage with both
        outcome = play("site")
        assert (outcome.rc, outcome.changed["cellb"], outcome.changed["cellc"]) == (0, 0, 0), outcome.message
    else:
        inside("cella", "pic-cell", "restore")
    for family in (4, 6):
        assert seen_address("phone-a1", family) == CELL["cellb"][family]


@pytest.mark.parametrize("absence", [pytest.param("paused", marks=pytest.mark.at_length), "cut off"])
def test_nothing_leaks_while_the_exit_cell_is_away_and_it_flows_again_by_itself(absence):
    away, back = ABSENCES[absence]
    with ExitStack() as stack:
        others = [stack.enter_context(Stream("phone-a2", address, 9000, "udp")) for address in INTERNET]
        own = [stack.enter_context(Stream("phone-a1", address, 9000, "udp")) for address in INTERNET]
        with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
            lab.run(away)
            try:
                assert not try_hard("phone-a1")
            finally:
                lab.run(back)
            assert all(flow.undisturbed() for flow in others)
            assert await_all(own, 30), "it does not flow again"
    assert uplink.lines == []
    assert seen_address("phone-a1", 4) == CELL["cellb"][4]


@pytest.mark.parametrize("routes", [HALVES, STATIC], ids=["halves of everything", "one network"])
def test_a_route_of_others_by_the_uplink_changes_nothing_for_a_routed_phone(routes: str):
    inside("cella", "sh", "-c", routes.format("add", *GATEWAYS))
    try:
        with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
            for family in (4, 6):
                assert seen_address("phone-a1", family) == CELL["cellb"][family]
                assert seen_address("phone-a2", family) == CELL["cellc"][family]
        assert uplink.lines == []
    finally:
        inside("cella", "sh", "-c", routes.format("del", *GATEWAYS))


def test_an_exit_without_ipv6_makes_ipv6_fail_at_once_and_nothing_leaks():
    overlay = {"cellc": {"cell_networks": ["10.0.2.1/24"]}}
    assert play("site", overlay=overlay).rc == 0
    with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
        begin = time.monotonic()
        assert not reaches("phone-a2", INTERNET[1], 80)
        assert time.monotonic() - begin < 1, "it hangs"
        assert seen_address("phone-a2", 4) == CELL["cellc"][4]
    assert uplink.lines == []
    assert play("site").rc == 0
    assert seen_address("phone-a2", 6) == CELL["cellc"][6]


def test_a_live_phone_moves_many_times_and_nothing_leaks_hangs_or_disturbs_others():
    route("phone-a3", "cellb")  # so that both exits relay all the time, and a move is a matter of the phone's own cell
    directed: list[tuple[float, float]] = []
    with ExitStack() as stack:
        plain = [stack.enter_context(Sniffer(cell, "eth0", UNMASKED, seconds=600)) for cell in CELL]
        uplink = stack.enter_context(Sniffer("cella", "eth0", TO_INTERNET, limit=100_000, seconds=600))
        others = [stack.enter_context(Stream("phone-a2", address, *flow)) for address in INTERNET for flow in FLOWS]
        own = [stack.enter_context(Stream("phone-a1", address, *flow)) for address in INTERNET for flow in FLOWS]
        for via in ["direct", "cellb", "cellc"] * lab.ROUNDS:
            done = call("cella", "pic_policy_route", f"peer=phone-a1 via_cell={via}")
            assert "CHANGED" in done.stdout, done.stdout
            moved = time.time()
            assert await_all(own, 5), f"a flow hangs on its way {via}"
            assert all(flow.undisturbed() for flow in others)
            if via != "direct":
                directed.append((moved, time.time()))
    assert [sniffer.lines for sniffer in plain] == [[], [], []], "packets left with the phone's own address"
    times = [float(line.split()[0]) for line in uplink.lines]
    assert times, "the capture shows nothing, so it proves nothing"
    assert not [when for when in times if any(start < when < end for start, end in directed)], "a routed phone's packets left by its own cell"
    route("phone-a3", "direct")
    route("phone-a1", "cellb")


def test_back_to_direct_and_out_through_another_cell_again():
    with Stream("phone-a2", INTERNET[0], 9000, "udp") as other:
        route("phone-a1", "direct")
        assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL["cella"][family] for family in (4, 6)]
        with Sniffer("cella", "eth0", UNMASKED) as unmasked, Stream("phone-a1", INTERNET[0], 9000, "udp"):
            route("phone-a1", "cellc")
        assert unmasked.lines == [], "packets left with the phone's own address"
        assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL["cellc"][family] for family in (4, 6)]
        route("phone-a1", "cellb")
        assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL["cellb"][family] for family in (4, 6)]
        assert other.undisturbed()


def test_a_way_that_is_there_already_changes_nothing():
    assert not any(play("route_peer", cell="cella", peer="phone-a1", via_cell="cellb").changed.values())


def test_a_cell_that_has_not_offered_is_refused_and_nothing_changes():
    before = {cell.name: snapshot(cell.name) for cell in CELLS}
    outcome = play("route_peer", cell="cellb", peer="phone-b1", via_cell="cellc")
    assert outcome.rc != 0
    assert "has not offered 'cellb' an exit" in outcome.message
    assert {cell.name: snapshot(cell.name) for cell in CELLS} == before


def test_a_withdrawn_offer_cuts_the_flow_at_once_and_the_phone_fails_closed():
    with ExitStack() as stack:
        ending = [stack.enter_context(Stream("phone-a1", address, *flow)) for address in INTERNET for flow in FLOWS]
        others = [stack.enter_context(Stream("phone-b1", address, *flow)) for address in INTERNET for flow in ((81, "tcp"), (9001, "udp"))]
        others += [stack.enter_context(Stream("phone-a2", INTERNET[0], *flow)) for flow in FLOWS]
        others += [stack.enter_context(Stream("phone-b1", "10.0.0.1", 8443))]
        uplink = stack.enter_context(Sniffer("cella", "eth0", f"({TO_INTERNET}) and (port 80 or port 9000)"))
        outcome = play("offer_exit", cell="cellb", remote_cell="cella", offered="false")
        ended = time.monotonic()
        assert outcome.rc == 0, outcome.message
        time.sleep(2)
        assert all(flow.last < ended + 1 for flow in ending), "the last packet passed later than one second after the task"
        assert all(flow.undisturbed() for flow in others)
        assert not try_hard("phone-a1")
    assert uplink.lines == []
    assert seen_address("phone-a1", 4) is None
    assert seen_address("phone-a1", 6) is None
    assert seen_address("phone-a2", 4) == CELL["cellc"][4]
    outcome = play("offer_exit", cell="cellb", remote_cell="cella", offered="true")
    assert outcome.rc == 0, outcome.message
    assert seen_address("phone-a1", 4) == CELL["cellb"][4]
    assert seen_address("phone-a1", 6) == CELL["cellb"][6]


def offer(value: str) -> None:
    outcome = play("offer_exit", cell="cellb", remote_cell="cella", offered=value)
    assert outcome.rc == 0, outcome.message


def test_a_phone_with_two_exits_moves_with_the_offers_and_nothing_leaks():
    route("phone-a1", "cellb,cellc")
    with ExitStack() as stack:
        others = [stack.enter_context(Stream("phone-a2", address, 9000, "udp")) for address in INTERNET]
        own = [stack.enter_context(Stream("phone-a1", address, *flow)) for address in INTERNET for flow in FLOWS]
        uplink = stack.enter_context(Sniffer("cella", "eth0", f"({TO_INTERNET}) and (port 80 or port 9000)"))
        for value, via in (("false", "cellc"), ("true", "cellb")):
            offer(value)
            assert await_all(own, 5), f"a flow hangs on its way {via}"
            assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL[via][family] for family in (4, 6)]
        assert all(flow.undisturbed() for flow in others)
    assert uplink.lines == []
    assert not any(play("site", overlay={"cella": {"cell_peers": None}}).changed.values())


def test_a_phone_goes_direct_only_while_none_of_its_exits_offers_and_where_that_is_stated():
    route("phone-a1", "cellb,direct")
    with Sniffer("cella", "eth0", UNMASKED) as unmasked, Stream("phone-a1", INTERNET[0], 9000, "udp"):
        for value, via in (("false", "cella"), ("true", "cellb")):
            offer(value)
            assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL[via][family] for family in (4, 6)]
    assert unmasked.lines == [], "packets left with the phone's own address"
    with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
        assert seen_address("phone-a1", 4) == CELL["cellb"][4]
    assert uplink.lines == []
    route("phone-a1", "cellb")
