# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as people have them: kernels and settings without IPv6, ports that are taken, units that fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import journal
from ansible_collections.pic.cells.plugins.module_utils.base.errors import CommandFailed
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import Route
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_advice import said_in_a_run, told
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, program

NO_IPV6 = "/proc/sys/net/ipv6/conf/{}/disable_ipv6"
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def socket(port: int, state: str = "07", address: str = "00000000") -> str:
    """Return a line of /proc/net/udp or tcp."""
    return f"  12: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n"


def without_ipv6(host: FakeHost) -> None:
    """Boot a host with ipv6.disable=1."""
    for path in [path for path in host.files if path.startswith("/proc/sys/net/ipv6")]:
        del host.files[path]
    for link in host.links.values():
        link.addresses = [address for address in link.addresses if ":" not in address]
    host.routes = [route for route in host.routes if route.family == 4]
    host.rules[6] = []


@pytest.mark.parametrize("family", ["default"])
def test_ipv6_networks_where_interfaces_take_no_ipv6_are_refused_naming_the_setting(world: World, family: str) -> None:
    world["cellb"].files[NO_IPV6.format(family)] = (0o644, "1\n")
    with pytest.raises(
        Refusal, match=r"^cellb: Cell 'cellb' has IPv6 networks \(fd00:b::1/64\), but net\.ipv6\.conf\.default\.disable_ipv6 is 1 .* leave IPv6 out"
    ):
        world.site()
    assert world.steps() == {}
    # A cell without IPv6 does not mind.
    world["cellb"].files[NO_IPV6.format(family)] = (0o644, "0\n")
    world["cellc"].files[NO_IPV6.format(family)] = (0o644, "1\n")
    world.site()
    world.reset()
    assert world.site().changed == []


def test_an_interface_that_takes_no_ipv6_any_more_is_named(linked: World) -> None:
    host = linked["cella"]
    host.files[NO_IPV6.format("pic-cellb")] = (0o644, "1\n")
    assert "net.ipv6.conf.pic-cellb.disable_ipv6 is 1 on this host, so interface 'pic-cellb' cannot have an IPv6 address" in program(host, "check")[1]
    rc, _out, err = program(host, "restore")
    assert (rc, "net.ipv6.conf.pic-cellb.disable_ipv6" in err, host.steps) == (1, True, [])


def test_an_ipv6_cell_on_a_kernel_without_ipv6_is_refused(world: World) -> None:
    without_ipv6(world["cellb"])
    with pytest.raises(Refusal, match=r"^cellb: Cell 'cellb' has IPv6 networks .* this host's kernel has no IPv6 \(ipv6.disable=1"):
        world.site()
    assert world.steps() == {}


def test_a_kernel_without_ipv6_is_enough_for_a_cell_without(world: World) -> None:
    host = world["cellc"]
    without_ipv6(host)
    world["cellc"].files["/etc/sysctl.d/90-pic-cells.conf"] = (0o644, "net.ipv4.ip_forward=1\n")
    assert call("pic_cell_info", host, {})["unforwarded"] == []
    world.site()
    assert "pic-cella" in host.wg and host.chain(4, "PIC-PATH") != []
    world.reset()
    assert (world.site().changed, program(host, "check"), program(host, "restore"), world.steps()) == ([], (0, "", ""), (0, "", ""), {})
    host.drop_link("pic-cella")
    host.active.discard("wg-quick@pic-cella")
    assert program(host, "restore")[0] == 0
    assert [argv for argv in host.log if "-6" in argv or argv[0].startswith("ip6tables")] == []
    assert "-6" not in str(host.read("/etc/wireguard/pic-cella.conf"))


def test_a_kernel_without_nat_for_ipv6_is_enough_for_a_cell_without_ipv6(world: World) -> None:
    world["cellc"].without.add("6 nat")
    world.site()
    world.reset()
    assert (world.site().changed, program(world["cellc"], "check")) == ([], (0, "", ""))


@pytest.mark.parametrize("path", ["/proc/net/udp", "/proc/net/udp6"])
def test_a_port_that_somebody_else_listens_on_is_refused_before_anything_changes(world: World, path: str) -> None:
    address = "0" * (32 if path.endswith("6") else 8)
    world["cellb"].files[path] = (0o444, HEAD + socket(53) + socket(51820, address=address))
    with pytest.raises(Refusal, match=r"^cellb: Another program listens on UDP port 51820, which interface 'wg0' needs\. .*ss -ulpn.*cell_listen_port"):
        world.site()
    assert world.steps() == {}
    world.inventory["cellb"]["cell_listen_port"] = 51900
    world.site()
    world.reset()
    assert world.site().changed == []


def test_a_links_stated_port_that_somebody_else_listens_on_is_refused(world: World) -> None:
    world["cellb"].files["/proc/net/udp"] = (0o444, HEAD + socket(51999))
    world.inventory["cellb"]["cell_links"][0]["listen_port"] = 51999
    with pytest.raises(Refusal, match=r"^cellb: Another program listens on UDP port 51999, which interface 'pic-cella' needs\. .*listen_port of link 'cella'"):
        world.site()
    assert world.steps() == {}


def test_our_own_ports_and_those_of_clients_are_no_others(linked: World) -> None:
    ports = "".join(socket(device.port) for device in linked["cella"].wg.values())
    linked["cella"].files["/proc/net/udp"] = (0o444, HEAD + ports)
    assert (linked.site().changed, told(linked["cella"])) == ([], [])


def test_one_links_taken_port_keeps_no_other_link_from_coming_back(linked: World) -> None:
    host = linked["cella"]
    taken = host.wg["pic-cellb"].port
    host.drop_link("pic-cellb")
    host.drop_link("pic-cellc")
    host.active -= {"wg-quick@pic-cellb", "wg-quick@pic-cellc"}
    host.files["/proc/net/udp"] = (0o444, HEAD + socket(taken))
    rc, _out, err = program(host, "restore")
    assert (rc, "pic-cellc" in host.wg, "pic-cellb" in host.wg) == (1, True, False)
    assert f"Another program listens on UDP port {taken}, which interface 'pic-cellb' needs" in err


def test_another_program_on_the_port_of_peer_sync_is_said(linked: World) -> None:
    host = linked["cella"]
    host.files["/proc/net/tcp"] = (0o444, HEAD + socket(8088, "0A", "0100000A") + socket(22, "0A"))
    assert told(host) == []
    host.files["/proc/net/tcp6"] = (0o444, HEAD + socket(8088, "0A", "0" * 32))
    (sentence,) = told(host)
    assert "Another program listens on TCP port 8088" in sentence and "cell_sync_port" in sentence
    assert said_in_a_run(linked, "cella") == [sentence]


def test_a_unit_that_fails_is_named_with_what_it_has_said_and_without_keys(world: World, tmp_path: Path) -> None:
    host, key = world["cellc"], made_key("a secret")
    host.journal["wg-quick@wg0"] = (
        f"[#] wg set wg0 peer x preshared-key <(echo {key[:20]} {key[20:]})\n[#] ip link add wg0 type wireguard\n"
        f"Key is not the correct length or format: `{key[:20]}'\nsome {key}\nRTNETLINK\x1b answers: No\n"
    )
    host.watch = lambda step: host.files.update({"/proc/net/udp": (0o444, socket(51820))}) if step.startswith("systemctl enable") else None
    result = call("wg_cell", host, {"cell": {"name": "cellc", "networks": ["10.0.2.1/24"]}, "peers": []})
    assert result["failed"]
    assert re.search(r"wg-quick@wg0.*exit code \d+: .*Its last message: \[#\] ip link add wg0 type wireguard; Key is not", result["msg"])
    assert key[:20] not in result["msg"] and "\x1b" not in result["msg"]


def test_an_error_stays_what_it_is_where_nothing_is_known_of_a_unit(host: FakeHost) -> None:
    error = CommandFailed(["systemctl", "restart", "wg-quick@wg0"], 1, "Job failed")
    assert journal.told(host, error) is error
    host.journal["wg-quick@wg0"] = "why"
    assert "why" in str(journal.told(host, error))
    host.missing.add("journalctl")
    assert journal.told(host, error) is error
    several = CommandFailed(["systemctl", "restart", "wg-quick@a", "wg-quick@wg0", "wg-quick@b"], 1, "Job for wg-quick@wg0.service failed.")
    assert journal.told(host, several).argv == ["systemctl", "restart", "wg-quick@wg0"]
    other = CommandFailed(["ip", "-batch", "-"], 1, "odd")
    assert journal.told(host, other) is other


@pytest.mark.parametrize(("uplink", "tunnel"), [(1500, 1420), (9001, 1420), (1492, 1412), (1370, 1290)])
def test_a_tunnel_takes_no_more_than_fits_the_way_to_its_endpoint(world: World, uplink: int, tunnel: int) -> None:
    for host in world.hosts.values():
        host.links["eth0"].mtu = uplink
    predicted = world.site(check=True).diffs()
    assert f"MTU = {tunnel}\n" not in str(predicted)  # files are not shown
    world.site()
    for name, host in world.hosts.items():
        assert {link.mtu for device, link in host.links.items() if device.startswith("pic-")} == {tunnel}, name
        assert f"MTU = {tunnel}\n" in str(host.read("/etc/wireguard/pic-cella.conf" if name != "cella" else "/etc/wireguard/pic-cellb.conf"))
    world.reset()
    assert (world.site().changed, program(world["cella"], "check")[0]) == ([], 0)


def test_an_endpoint_on_a_network_of_the_host_is_reached_by_that_interface(linked: World) -> None:
    host = linked["cella"]
    host.add_link("eth9", "198.51.100.1/24")
    host.links["eth9"].mtu = 1400
    far = {"name": "far", "public_key": made_key("far"), "networks": ["10.9.0.0/24"], "endpoint": "198.51.100.9:51820"}
    assert not call("wg_cell_peer", host, far).get("failed")
    assert (host.links["pic-far"].mtu, host.links["pic-cellb"].mtu) == (1320, 1420)


def test_a_way_that_comes_up_late_is_looked_at_again(linked: World) -> None:
    host = linked["cella"]
    host.drop_link("eth0")
    assert program(host, "restore")[0] == 0
    assert "MTU = 1420\n" in str(host.read("/etc/wireguard/pic-cellb.conf"))
    host.add_link("ppp0", "203.0.113.11/32")
    host.links["ppp0"].mtu = 1492
    host.routes.append(Route(4, "0.0.0.0/0", "ppp0"))
    rc, out, _err = program(host, "restore")
    assert (rc, "missing: pic-cellb: mtu 1412" in out, host.links["pic-cellb"].mtu) == (0, True, 1412)
    assert "MTU = 1412\n" in str(host.read("/etc/wireguard/pic-cellb.conf"))
    assert program(host, "restore") == (0, "", "")


def test_a_stated_mtu_is_kept_whatever_the_way_is(linked: World) -> None:
    linked.inventory["cella"]["cell_links"][0]["mtu"] = 1300
    linked.site()
    linked["cella"].links["eth0"].mtu = 1400
    assert program(linked["cella"], "restore")[0] == 0
    assert (linked["cella"].links["pic-cellb"].mtu, linked["cella"].links["pic-cellc"].mtu) == (1300, 1320)


def test_the_way_is_the_one_to_the_endpoint(linked: World) -> None:
    host = linked["cella"]
    host.add_link("eth1", "192.168.9.1/24")
    host.links["eth1"].mtu = 1400
    linked.inventory["cella"]["cell_links"][0]["endpoint"] = "192.168.9.7:51821"
    linked.site()
    assert (host.links["pic-cellb"].mtu, host.links["pic-cellc"].mtu) == (1320, 1420)


def test_a_devices_interface_that_takes_too_much_is_said_and_left_alone(linked: World) -> None:
    host = linked["cella"]
    host.links["eth0"].mtu, host.links["wg0"].mtu = 9001, 8921
    (sentence,) = told(host)
    assert "Interface 'wg0' has MTU 8921" in sentence and "'MTU = 1420'" in sentence
    assert said_in_a_run(linked, "cella") == [sentence]
    assert host.links["wg0"].mtu == 8921


def test_a_clock_that_was_set_back_keeps_no_wrong_endpoint_alive(linked: World) -> None:
    host = linked["cella"]
    peer = host.wg["pic-cellb"].peers[linked.public_key("cellb")]
    wanted, peer.endpoint = peer.endpoint, "198.51.100.99:9"
    peer.handshake = int(host.now) - 10
    assert program(host, "restore") == (0, "", "")  # it has roamed
    peer.handshake = int(host.now) + 86_400
    assert program(host, "restore")[0] == 0
    assert host.wg["pic-cellb"].peers[linked.public_key("cellb")].endpoint == wanted
    peer.handshake = int(host.now) + 86_400
    assert "10.0.0.2: dropped: the tunnel to cell cellb is silent" in program(host, "explain", "phone")[1]
