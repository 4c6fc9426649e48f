# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phone that leaves through a provider: a plain WireGuard server on the internet that knows nothing of cells, alone and in a list with a cell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from test_exit_relay import FLOWS, UNMASKED, await_all, route, try_hard
from test_failover import SOON, leaves_by, sniffed

from cells import sh, within
from dead_exits import HOLD
from lab import HOSTS, INTERNET, NETWORKS
from packets import Sniffer, Stream, seen_address
from playbooks import Outcome, play

CUSTOMER = {4: "10.64.3.7", 6: "fc00:bbbb::7"}
SERVER = NETWORKS["inet"].addresses(HOSTS["internet"].at["inet"])[0]
PORT = 51999
TARGETS = [f"tcp://{INTERNET[0]}:80", f"tcp://[{INTERNET[1]}]:80"]
CUT = f"add table inet cut; add chain inet cut in {{ type filter hook prerouting priority -400; }}; add rule inet cut in udp dport {PORT} drop"
SERVE = f"""
umask 077
cd /run
for name in customer server; do wg genkey >$name.key; wg pubkey <$name.key >$name.pub; done
wg genpsk >both.psk
cat >/etc/wireguard/vpn.conf <<END
[Interface]
PrivateKey = $(cat server.key)
Address = 10.64.0.1/16, fc00:bbbb::1/64
ListenPort = {PORT}
[Peer]
PublicKey = $(cat customer.pub)
PresharedKey = $(cat both.psk)
AllowedIPs = {CUSTOMER[4]}/32, {CUSTOMER[6]}/128
END
wg-quick up vpn 2>&1
"""


@pytest.fixture(scope="module")
def config() -> Iterator[str]:
    """Starts the provider's server, and returns the file that its customer gets."""
    sh("internet", SERVE)
    private, public, preshared = (sh("internet", f"cat /run/{name}").strip() for name in ("customer.key", "server.pub", "both.psk"))
    yield f"""\
[Interface]
PrivateKey = {private}
Address = {CUSTOMER[4]}/32, {CUSTOMER[6]}/128
DNS = 10.64.0.1

[Peer]
PublicKey = {public}
PresharedKey = {preshared}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = {SERVER}:{PORT}
"""
    sh("internet", "wg-quick down vpn; rm -f /etc/wireguard/vpn.conf /run/*.key /run/*.psk")


def site(config: str | None, *options: str, **more: Any) -> Outcome:
    exits = [{"name": "vpn", "config": config}] if config else []
    outcome = play("site", *options, overlay={"cella": {"cell_exits": exits, "cell_exit_hold": HOLD, "cell_exit_hold_limit": HOLD, "cell_peers": None, **more}})
    assert outcome.rc == 0, outcome.message
    return outcome


@pytest.fixture(scope="module", autouse=True)
def provider(config: str) -> Iterator[Outcome]:
    """Gives cella the provider as an exit, and takes it away again. No phone leaves by a cell but where a test says so."""
    route("phone-a2", "direct")
    yield site(config, "--diff", "-vvv")
    route("phone-a1", "cellb")
    route("phone-a2", "cellc")
    assert play("site").rc == 0
    assert "vpn" not in sh("cella", "ls /etc/wireguard /var/lib/pic/providers; iptables-save; ip6tables-save; ip rule; ip link")


@contextmanager
def cut_off() -> Iterator[None]:
    """Lets no packet of the tunnel reach the provider while the block runs."""
    sh("internet", f"nft '{CUT}'")
    try:
        yield
    finally:
        sh("internet", "nft delete table inet cut")


def leaves_by_the_provider(phone: str = "phone-a1") -> bool:
    return all(seen_address(phone, family) == CUSTOMER[family] for family in (4, 6))


def test_the_phone_leaves_by_it_and_nothing_else_does(config: str, provider: Outcome) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(Stream("phone-a2", address, 9000, "udp")) for address in INTERNET]
        route("phone-a1", "vpn")
        assert all(flow.undisturbed() for flow in others)
    with ExitStack() as stack:  # phone-a2 goes direct, so its stream would be seen at the uplink
        stack.enter_context(sniffed())
        unmasked = stack.enter_context(Sniffer("internet", "vpn", UNMASKED))
        assert within(SOON, leaves_by_the_provider)
        own = [stack.enter_context(Stream("phone-a1", address, *flow)) for address in INTERNET for flow in FLOWS]
        assert await_all(own, 10)
    assert unmasked.lines == []
    for options in (("--check",), ()):
        assert not any(site(config, *options).changed.values())
    assert "exit vpn: last handshake" in sh("cella", "pic-cell status")
    assert "leaves through exit vpn" in sh("cella", "pic-cell explain phone-a1")
    assert "nobody can tell whether exit vpn carries traffic" in sh("cella", "pic-cell prove phone-a1")


def test_its_keys_are_in_no_output_and_no_journal(config: str, provider: Outcome) -> None:
    said = provider.text + sh("cella", "journalctl --no-pager; pic-cell status --json; pic-cell explain phone-a1; cat /var/lib/pic/*.json")
    for line in config.splitlines():
        if line.startswith(("PrivateKey", "PresharedKey")):
            assert line.partition(" = ")[2] not in said
    assert sh("cella", "stat -c %a /var/lib/pic/providers/vpn.key /etc/wireguard/pic-vpn.conf").split() == ["600", "600"]


def test_nothing_comes_in_by_it() -> None:
    sh("internet", "ip route replace 10.0.0.0/24 dev vpn; ip -6 route replace fd00:a::/64 dev vpn")
    try:
        for address in ("10.0.0.1", "fd00:a::1", "10.0.0.2", "fd00:a::2", *CUSTOMER.values()):
            assert sh("internet", f"ping -c 1 -W 1 {address} >/dev/null 2>&1 || echo silent").strip() == "silent", address
    finally:
        sh("internet", "ip route del 10.0.0.0/24 dev vpn; ip -6 route del fd00:a::/64 dev vpn")


@pytest.mark.parametrize(
    "breaking",
    [
        pytest.param("true", id="cut off"),
        pytest.param("ip link set pic-vpn down", id="link down", marks=pytest.mark.at_length),
        pytest.param("ip link del pic-vpn", id="interface deleted"),
        pytest.param("ip rule flush protocol 201; ip -6 rule flush protocol 201", id="policy rules deleted", marks=pytest.mark.at_length),
    ],
)
def test_alone_and_gone_it_leaks_nothing_and_comes_back(breaking: str) -> None:
    with ExitStack() as stack:
        own = [stack.enter_context(Stream("phone-a1", address, 9000, "udp")) for address in INTERNET]
        with sniffed():
            with cut_off():
                sh("cella", breaking)
                assert not try_hard("phone-a1")
            sh("cella", "pic-cell restore")
            assert within(SOON, leaves_by_the_provider)
            assert await_all(own, 30), "a flow hangs"


def test_in_a_list_a_cell_takes_over_and_gives_back(config: str) -> None:
    site(config, cell_exit_probes=TARGETS)
    route("phone-a1", "vpn,cellb")
    try:
        assert "through exit vpn the stated targets answer for IPv4 and IPv6" in sh("cella", "pic-cell prove phone-a1")
        with ExitStack() as stack:
            own = [stack.enter_context(Stream("phone-a1", address, 9000, "udp")) for address in INTERNET]
            with sniffed():
                with cut_off():
                    assert within(SOON, lambda: leaves_by("cellb"))
                    assert await_all(own, 15), "a flow hangs"
                    assert not any(site(config, cell_exit_probes=TARGETS).changed.values())
                assert within(HOLD + SOON, leaves_by_the_provider)
                assert await_all(own, 15), "a flow hangs on its way back"
    finally:
        route("phone-a1", "vpn")
        site(config, cell_exit_probes=[])
