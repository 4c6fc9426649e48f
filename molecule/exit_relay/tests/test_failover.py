# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phone with several exits, when the one that it uses stops working: it leaves by the next one, returns, and nothing leaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from test_exit_relay import CELL, FLOWS, TO_INTERNET, UNMASKED, await_all, route

import lab
from cells import sh, switched_off, watching, within
from dead_exits import CUT_FURTHER_OUT, DEATHS, HOLD, NO_ROUTE, cut
from lab import INTERNET
from packets import Sniffer, Stream, seen_address
from playbooks import play

FLOWS_OF_THE_PHONE = "for phone in 10.0.0.2 fd00:a::2; do conntrack -L -p udp -s $phone --dport 9000 -o id 2>/dev/null | grep -o 'id=[0-9]*'; done"
SOON = 20  # seconds, on a busy machine; tests/benchmarks/failover.py measures it


@pytest.fixture(scope="module", autouse=True)
def quick_to_return() -> Iterator[None]:
    """An exit that was down is used again after a few seconds."""
    assert play("site", overlay={"cella": {"cell_exit_hold": HOLD, "cell_exit_hold_limit": HOLD}}).rc == 0
    yield
    assert play("site", overlay={"cella": {"cell_exit_hold": 60, "cell_exit_hold_limit": 600}}).rc == 0


def leaves_by(cell: str, phone: str = "phone-a1") -> bool:
    return all(seen_address(phone, family) == CELL[cell][family] for family in (4, 6))


@contextmanager
def sniffed() -> Iterator[None]:
    """Sees that nothing of the streams leaves by the uplink of the phone's own cell."""
    with Sniffer("cella", "eth0", f"({TO_INTERNET}) and (port 80 or port 9000)") as uplink:
        yield
    assert uplink.lines == []


# To who watches, a paused exit and one without its interface are as silent as one that is cut off.
@pytest.mark.parametrize("death", [pytest.param(death, marks=[pytest.mark.at_length] if death in ("paused", "interface deleted") else []) for death in DEATHS])
def test_a_phone_leaves_by_the_next_exit_and_returns(death: str) -> None:
    breaking, mending = DEATHS[death]
    route("phone-a1", "cellb,cellc")
    with ExitStack() as stack:
        if death == NO_ROUTE:  # the look of a minute may find it so, and without a watcher the next one is a minute away
            stack.enter_context(watching("cellb"))
        others = [stack.enter_context(Stream("phone-a2", address, 9000, "udp")) for address in INTERNET]
        own = [stack.enter_context(Stream("phone-a1", address, *flow)) for address in INTERNET for flow in FLOWS]
        stack.enter_context(sniffed())
        lab.run(breaking)
        try:
            assert within(SOON, lambda: leaves_by("cellc"))
            assert await_all(own, 15), "a flow hangs"
            assert "since cellb has " in sh("cella", "pic-cell explain phone-a1")
            if death == "cut off":  # where Ansible still reaches it, and it has nothing to mend itself
                for options in (("--check",), ()):
                    assert not any(play("site", *options, overlay={"cella": {"cell_peers": None}}).changed.values())
        finally:
            lab.run(mending)
        assert within(HOLD + SOON, lambda: leaves_by("cellb"))
        assert await_all(own, 15), "a flow hangs on its way back"
        assert all(flow.undisturbed() for flow in others)


def test_an_exit_whose_internet_is_cut_further_out_is_left_where_targets_are_stated() -> None:
    route("phone-a1", "cellb,cellc")
    targets = [f"tcp://{INTERNET[0]}:80", f"dns://[{INTERNET[1]}]:9000"]
    assert play("site", overlay={"cella": {"cell_exit_probes": targets, "cell_peers": None}}).rc == 0
    try:
        assert "through cell cellb the stated targets answer for IPv4 and IPv6" in sh("cella", "pic-cell prove phone-a1")
        own = [Stream("phone-a1", address, 9000, "udp") for address in INTERNET]
        with ExitStack() as stack:
            for stream in own:
                stack.enter_context(stream)
            stack.enter_context(sniffed())
            lab.run(CUT_FURTHER_OUT[0])
            try:
                assert within(SOON, lambda: leaves_by("cellc"))
                assert await_all(own, 15), "a flow hangs"
                proven = sh("cella", "pic-cell prove phone-a1 || true")
                assert "wrong: through cell cellb none of the stated targets answers for IPv4 and IPv6" in proven
                assert not any(play("site", overlay={"cella": {"cell_exit_probes": targets, "cell_peers": None}}).changed.values())
            finally:
                lab.run(CUT_FURTHER_OUT[1])
            assert within(HOLD + SOON, lambda: leaves_by("cellb"))
    finally:
        assert play("site", overlay={"cella": {"cell_exit_probes": [], "cell_peers": None}}).rc == 0
    assert "oif pic-" not in sh("cella", "ip rule; ip -6 rule")


def test_while_all_exits_are_dead_it_is_closed_and_its_connections_live_on() -> None:
    route("phone-a1", "cellb,cellc")
    with ExitStack() as stack:
        stack.enter_context(cut("cellb"))
        assert within(SOON, lambda: leaves_by("cellc"))
        own = [stack.enter_context(Stream("phone-a1", address, 9000, "udp")) for address in INTERNET]
        flows = sh("cella", FLOWS_OF_THE_PHONE)
        assert len(flows.split()) == 2
        with sniffed(), cut("cellc"):
            assert within(SOON, lambda: "though cellc has not answered" in sh("cella", "pic-cell status"))
            assert seen_address("phone-a1", 4) is None
        assert await_all(own, SOON)
        assert sh("cella", FLOWS_OF_THE_PHONE) == flows, "a flow was ended"
        stack.enter_context(cut("cellc"))
        assert within(SOON, lambda: "though cellc has not answered" in sh("cella", "pic-cell status"))
        stack.enter_context(sniffed())
        lab.run(DEATHS["cut off"][1])
        assert within(SOON, lambda: leaves_by("cellb")), "it waits although no other exit works"
        lab.run(DEATHS["cut off"][0])


def test_it_goes_direct_only_while_no_exit_works_and_where_that_is_stated() -> None:
    route("phone-a1", "cellb,direct")
    with Sniffer("cella", "eth0", UNMASKED) as unmasked, Stream("phone-a1", INTERNET[0], 9000, "udp"):
        with cut("cellb"):
            assert within(SOON, lambda: leaves_by("cella"))
        assert within(HOLD + SOON, lambda: leaves_by("cellb"))
    assert unmasked.lines == [], "packets left with the phone's own address"


def test_a_boot_of_its_cell_while_its_first_exit_is_dead() -> None:
    route("phone-a1", "cellb,cellc")
    with cut("cellb"):
        assert within(SOON, lambda: leaves_by("cellc"))
        with sniffed_again(), switched_off("cella"):
            pass
        assert within(40, lambda: leaves_by("cellc"))
    assert within(HOLD + SOON, lambda: leaves_by("cellb"))
    route("phone-a1", "cellb")


@contextmanager
def sniffed_again() -> Iterator[None]:
    """Sees at the internet's end that nothing comes from the phone's own cell: its own interfaces end with it."""
    sources = " or ".join(f"src host {address}" for address in CELL["cella"].values())
    with Sniffer("internet", "eth0", f"({sources}) and (dst port 80 or dst port 9000)") as arrived, Stream("phone-a1", INTERNET[0], 9000, "udp"):
        yield
    assert arrived.lines == []


def test_the_watcher_is_hardened_and_nobody_else_forges_its_verdict() -> None:
    exposure = sh("cella", "systemd-analyze security --no-pager pic-cell-probe.service").splitlines()[-1]
    assert float(exposure.rpartition(": ")[2].split()[0]) <= 1.5, exposure
    pid = sh("cella", "systemctl show -p MainPID --value pic-cell-probe").strip()
    assert "CapEff:\t0000000000000000" in sh("cella", f"cat /proc/{pid}/status")
    for folder in ("/run/pic-cell-probe", "/run/private/pic-cell-probe"):
        assert not sh("cella", f"setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'touch {folder}/changed && echo touched'", check=False)
