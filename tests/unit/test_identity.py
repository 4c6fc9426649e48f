# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a cell: its key, its own interface with the devices, its addresses."""

from __future__ import annotations

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import wgconfig
from ansible_collections.pic.cells.tests.unit.fake.wg import clamped, made_key
from ansible_collections.pic.cells.tests.unit.runs import executed
from ansible_collections.pic.cells.tests.unit.world import WG0, World, call, device_key, furnish, lose_key


@pytest.mark.parametrize(("stated", "left"), [(None, ["10.0.1.0/24"]), ([""], ["10.0.1.0/24"]), ([], [])])
def test_admin_networks_stay_in_silence_and_go_when_none_are_stated(linked: World, stated: list[str] | None, left: list[str]) -> None:
    linked.inventory["cella"]["cell_admin_networks"] = ["10.0.1.0/24"]
    linked.site()
    linked.inventory["cella"]["cell_admin_networks"] = stated
    linked.site()
    assert linked.record("cella", "cell.json")["admin_networks"] == left
    assert linked["cella"].chain(4, "PIC-I-cellb").count("-s 10.0.1.0/24 -j ACCEPT") == len(left)


def test_a_renumbered_cell_keeps_no_address_of_before(linked: World) -> None:
    linked.inventory["cellc"].update(cell_networks=["10.0.12.1/24"])
    linked.site()
    assert (linked["cellc"].links["wg0"].addresses, linked["cellc"].links["pic-cella"].addresses) == (["10.0.12.1/24"], ["10.0.12.1/32"])


def test_an_existing_devices_interface_keeps_its_key_its_peers_and_its_settings(world: World) -> None:
    host = world["cella"]
    furnish(host)
    television = vars(host.wg["wg0"].peers[device_key("television")]).copy()
    world.site()
    assert vars(host.wg["wg0"].peers[device_key("television")]) == television
    assert host.wg["wg0"].private == clamped(made_key("an older key"))
    assert made_key("an older key") == (host.read("/var/lib/pic/identity.key") or "").strip()
    text = host.read("/etc/wireguard/wg0.conf") or ""
    assert "# the television" in text
    assert "# somebody's own" in text
    assert "wg-quick down wg0" not in host.steps


def test_an_address_that_somebody_gave_the_devices_interface_stays(world: World) -> None:
    host = world["cella"]
    furnish(host)
    host.write("/etc/wireguard/wg0.conf", WG0.replace("Address = 10.0.0.1/24,", "Address = 10.66.0.1/24, 10.0.0.1/24,"))
    host.by_hand("systemctl restart wg-quick@wg0")
    world.site()
    assert wgconfig.addresses_of(host.read("/etc/wireguard/wg0.conf")) == ["10.66.0.1/24", "10.0.0.1/24", "fd00:a::1/64"]
    world.inventory["cella"]["cell_networks"] = ["10.0.3.1/24", "fd00:a::1/64"]
    world.inventory["cella"].update(cell_peers=[], cell_services=[], cell_links=[{"name": "cellb"}, {"name": "cellc"}])
    world.inventory["cella"]["cell_peers"] = [{"name": name, "state": "absent"} for name in ("phone", "tablet", "laptop")]
    world.site()
    assert wgconfig.addresses_of(host.read("/etc/wireguard/wg0.conf")) == ["10.66.0.1/24", "fd00:a::1/64", "10.0.3.1/24"]


def test_a_comment_behind_a_header_hides_no_section(world: World) -> None:
    host = world["cella"]
    furnish(host)
    text = WG0.replace("[Interface]", "[Interface] # at home").replace("[Peer]", "[Peer] # in the living room")
    host.write("/etc/wireguard/wg0.conf", text + f"\n[Peer] # mine\nPublicKey = {device_key('phone')}\nAllowedIPs = 10.0.0.2/32\n")
    world.site()
    text = host.read("/etc/wireguard/wg0.conf") or ""
    assert [text.count(word) for word in ("[Interface] # at home", "[Interface]", "[Peer] # in the living room", device_key("phone"))] == [1, 1, 1, 1]


def test_networkd_is_told_to_leave_our_rules_and_routes_alone(linked: World) -> None:
    host = linked["cella"]
    mode, text = host.files["/etc/systemd/networkd.conf.d/90-pic-cells.conf"]
    assert (mode, "ManageForeignRoutingPolicyRules=no" in text) == (0o644, True)
    host.remove("/etc/systemd/networkd.conf.d/90-pic-cells.conf")
    assert [(where, task.split()[1]) for where, task in linked.site().changed] == [("cella", "wg_cell")]


def test_a_link_keeps_its_addresses_while_the_cells_own_record_cannot_be_read(linked: World) -> None:
    host = linked["cella"]
    before = (host.links["pic-cellb"].addresses, host.routes)
    host.write("/var/lib/pic/cell.json", "{")
    result = call("wg_cell_peer", host, {"name": "cellb"})
    assert "cell.json cannot be read" in " ".join(result["warnings"])
    assert (host.links["pic-cellb"].addresses, host.routes) == before


def test_an_uplink_known_by_router_advertisements_is_named(linked: World) -> None:
    host = linked["cella"]
    next(route for route in host.routes if route.family == 6 and route.dst == "::/0" and route.dev == "eth0").proto = 9
    for value, named in (("0", []), ("1", ["eth0"]), ("2", [])):
        host.write("/proc/sys/net/ipv6/conf/eth0/accept_ra", f"{value}\n")
        assert call("pic_cell_info", host, {})["advertised"] == named


def test_forwarding_that_is_off_or_would_be_after_a_reboot_is_named(linked: World) -> None:
    host, both = linked["cella"], ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]
    host.remove("/etc/sysctl.d/90-pic-cells.conf")
    for name in both:
        host.write(f"/proc/sys/{name.replace('.', '/')}", "1\n")
    assert call("pic_cell_info", host, {})["unforwarded"] == both
    host.write("/etc/sysctl.d/90-pic-cells.conf", "net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding=1\n")
    assert call("pic_cell_info", host, {})["unforwarded"] == []
    host.write("/proc/sys/net/ipv4/ip_forward", "0\n")
    assert call("pic_cell_info", host, {})["unforwarded"] == both[:1]


def test_a_devices_new_preshared_key_is_seen_by_the_preflight(linked: World) -> None:
    linked.inventory["cella"]["cell_peers"][0]["preshared_key"] = made_key("another preshared key")
    assert executed(linked.site())["cella"] == ["wg_cell"]
    assert made_key("another preshared key") in (linked["cella"].read("/etc/wireguard/wg0.conf") or "")


def test_a_cell_with_another_key_keeps_the_preshared_keys_of_its_links(linked: World) -> None:
    """Else the other ends would forget them, and no tunnel came up until the next run."""
    old = linked.public_key("cella")
    lose_key(linked["cella"])
    linked.site()
    assert linked.public_key("cella") != old
    for other in ("cellb", "cellc"):
        ((key, there),) = linked[other].wg["pic-cella"].peers.items()
        (here,) = linked["cella"].wg[f"pic-{other}"].peers.values()
        assert (key, there.psk) == (linked.public_key("cella"), here.psk)
        assert here.psk
    assert linked.site().changed == []
