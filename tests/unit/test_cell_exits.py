# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exits that are no cells: a provider's WireGuard file becomes a tunnel that devices leave through, and nothing else does."""

from __future__ import annotations

import json
import time

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts import passage
from ansible_collections.pic.cells.plugins.module_utils.program import prove
from ansible_collections.pic.cells.plugins.module_utils.program.restore import drafted, restore
from ansible_collections.pic.cells.plugins.module_utils.records import soundness
from ansible_collections.pic.cells.tests.unit.fake.iptables import render
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key, public_key
from ansible_collections.pic.cells.tests.unit.netfilter import Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_advice import said_in_a_run, told
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import run
from ansible_collections.pic.cells.tests.unit.test_provided import FILE, PRESHARED, PRIVATE, PUBLIC
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, program

KEY = "/var/lib/pic/providers/vpn.key"
CONFIG = "/etc/wireguard/pic-vpn.conf"


@prepared
def provided(linked: World) -> World:
    """Return three cells in which cella's phone leaves by a provider, else by cellb."""
    linked.inventory["cella"]["cell_exits"] = [{"name": "vpn", "config": FILE}]
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = ["vpn", "cellb"]
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    run(linked)
    linked["cella"].wg["pic-vpn"].peers[PUBLIC].handshake = int(linked["cella"].now)
    return linked


def phone(world: World) -> str:
    return world.inventory["cella"]["cell_peers"][0]["name"]


def rules(world: World, family: int, table: str, chain: str) -> list[str]:
    return [render(rule) for name, held in world["cella"].tables["-nft", family][table].rules.items() if name.startswith(chain) for rule in held]


def test_the_tunnel_has_the_keys_and_addresses_that_the_provider_gave(provided: World) -> None:
    host = provided["cella"]
    text = host.files[CONFIG][1]
    assert f"PrivateKey = {PRIVATE}\n" in text and f"PresharedKey = {PRESHARED}\n" in text and "Table = off\n" in text
    assert "Address = 10.64.3.7/32\nAddress = fc00:bbbb::7/128\nMTU = 1380\n" in text
    assert "AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 198.51.100.7:51820\nPersistentKeepalive = 25\n" in text
    assert host.files[KEY] == (0o600, f"{PRIVATE}\n{PRESHARED}\n")
    assert set(host.wg["pic-vpn"].peers) == {PUBLIC}
    assert program(host, "check")[0] == 0


def test_the_device_leaves_there_and_a_second_run_changes_nothing(provided: World) -> None:
    link = provided.link("cella", "vpn")
    assert len([route for route in provided["cella"].routes if route.dev == "pic-vpn" and route.table == link["exit_table"]]) == 2
    assert f"peer {phone(provided)}:" in program(provided["cella"], "status")[1]
    assert not provided.site().changed
    assert not provided.site(check=True).changed


def test_what_leaves_there_gets_the_providers_address_before_anything_keeps_its_own(provided: World) -> None:
    for family in (4, 6):
        post = rules(provided, family, "nat", "PIC-POST")
        [at] = [number for number, rule in enumerate(post) if "-o pic-vpn" in rule and "-j MASQUERADE" in rule]
        assert at < next(number for number, rule in enumerate(post) if "-o pic-+" in rule)


def test_nobody_is_told_anything_and_nothing_is_shared(provided: World) -> None:
    link = provided.link("cella", "vpn")
    assert (link["pending_push"], link["generation"], link["last_push_at"]) == (False, 0, None)
    assert "vpn" not in json.dumps(json.loads(provided["cella"].files["/var/lib/pic/view/links.json"][1]))
    assert not [rule for family in (4, 6) for chain in "LIS" for rule in rules(provided, family, "filter", f"PIC-{chain}-vpn")]


def test_the_key_is_nowhere_else(provided: World) -> None:
    host = provided["cella"]
    for path, (_mode, text) in host.files.items():
        assert path in (KEY, CONFIG) or (PRIVATE not in text and PRESHARED not in text), path
    assert not [argv for argv in host.log if PRIVATE in " ".join(argv)]
    provided.inventory["cella"]["cell_exits"][0]["name"] = "other"
    provided.inventory["cella"]["cell_peers"][0]["route_via"] = "other"
    said = repr(vars(provided.site()))
    assert "exit other" in said and "PIC-" in said
    assert not [secret for secret in (PRIVATE, PRESHARED) if secret in said.replace(repr(secret), "")]


def test_a_lost_interface_and_a_lost_file_come_back_from_the_records(provided: World) -> None:
    host = provided["cella"]
    before = host.files[CONFIG]
    del host.files[CONFIG]
    host.drop_link("pic-vpn")
    restore(host, "/var/lib/pic")
    assert host.files[CONFIG] == before
    assert host.wg["pic-vpn"].peers[PUBLIC].psk == PRESHARED


def test_an_exit_that_is_stated_no_more_is_gone_and_its_device_stays_closed(provided: World) -> None:
    provided.inventory["cella"]["cell_exits"] = []
    provided.inventory["cella"]["cell_peers"][0]["route_via"] = ["cellb"]
    run(provided)
    host = provided["cella"]
    assert "pic-vpn" not in host.wg and CONFIG not in host.files and KEY not in host.files
    assert "vpn" not in {link["name"] for link in provided.record("cella")["links"]}
    assert not [rule for family in (4, 6) for table in ("filter", "mangle", "nat") for rule in rules(provided, family, table, "PIC-") if "vpn" in rule]
    assert not provided.site().changed


def test_nobody_is_told_to_let_a_provider_offer_an_exit(provided: World) -> None:
    peer = provided.inventory["cella"]["cell_peers"][0]
    peer["route_via"] = "vpn"
    run(provided)
    provided.inventory["cella"]["cell_exits"] = []
    del peer["route_via"]
    for _time in range(2):  # the second run knows no more that it was one
        done = provided.site()
        said = [line for line in done.said["cella"] if line.startswith("next:")]
        assert said == ["next: state vpn in cell_exits again (pic.cells.site), or send phone elsewhere (pic.cells.route_peer)"]


def test_a_day_2_change_names_it_like_a_cell(provided: World) -> None:
    name = phone(provided)
    provided.job("route_peer", cell="cella", peer=name, via_cell="cellb")
    assert provided["cella"].files[CONFIG]
    provided.job("route_peer", cell="cella", peer=name, via_cell="vpn")
    assert {peer["name"]: peer["route_via"] for peer in provided.record("cella", "peer_registry.json")["peers"]}[name] == "vpn"


def test_a_day_2_change_knows_an_exit_by_the_record_too(provided: World) -> None:
    del provided.inventory["cella"]["cell_exits"]
    before = provided["cella"].files[CONFIG]
    name = phone(provided)
    run(provided, "route_peer", cell="cella", peer=name, via_cell="cellb")
    run(provided, "route_peer", cell="cella", peer=name, via_cell="vpn,cellb")
    assert provided["cella"].files[CONFIG] == before
    assert "via vpn" in program(provided["cella"], "status")[1]


def test_the_file_can_be_on_the_cell(linked: World) -> None:
    linked["cella"].files["/root/vpn.conf"] = (0o600, FILE)
    linked.inventory["cella"]["cell_exits"] = [{"name": "vpn", "config_file": "/root/vpn.conf"}]
    run(linked)
    assert linked.link("cella", "vpn")["given_addresses"] == ["10.64.3.7", "fc00:bbbb::7"]


@pytest.mark.parametrize(
    ("exits", "said"),
    [
        ([{"name": "cellb", "config": FILE}], "has the name of a cell"),
        ([{"name": "vpn"}], "needs either config or config_file"),
        ([{"name": "vpn", "config": FILE, "config_file": "/root/x"}], "needs either config or config_file"),
        ([{"name": "vpn", "config_file": "x"}], "not an absolute path"),
        ([{"name": "vpn", "config_file": "/root/none.conf"}], "no plain file of at most"),
        ([{"name": "vpn", "config": FILE}, {"name": "vpn", "config": FILE}], "given twice"),
        ([{"name": "vpn", "config": FILE.replace("DNS", "PostUp = rm -rf /\nDNS")}], "no command of a provider's file is ever run"),
        ([{"name": "vpn", "config": FILE.replace("10.64.3.7/32", "10.0.0.99/32")}], "out of reach without it"),
        ([{"name": "vpn", "config": FILE.replace("10.64.0.1", "10.0.1.53")}], "out of reach without it"),
    ],
)
def test_what_is_refused_before_anything_has_changed(linked: World, exits: list, said: str) -> None:
    linked.inventory["cella"]["cell_exits"] = exits
    before = linked.text()
    with pytest.raises((Refusal, BadInput), match=said):
        linked.site()
    assert linked.text() == before


def test_it_is_said_that_nobody_notices_when_it_is_dead(provided: World) -> None:
    provided.reset()
    [sentence] = told(provided["cella"])
    assert sentence.startswith(f"The exit 'vpn' of {phone(provided)} is no cell that could be asked") and "cell_exit_probes" in sentence
    assert said_in_a_run(provided, "cella") == [sentence]
    provided.inventory["cella"]["cell_exit_probes"] = ["tcp://192.0.2.1:443"]
    provided.site()
    provided.reset()
    assert told(provided["cella"]) == []


def test_targets_are_asked_through_it_and_their_answers_come_to_its_own_address(provided: World) -> None:
    provided.inventory["cella"]["cell_exit_probes"] = ["tcp://192.0.2.1:443", "tcp://[2001:db8:9::1]:443"]
    run(provided)
    host = provided["cella"]
    watched = {item["name"]: item for item in json.loads(host.files["/var/lib/pic/exits/exits.json"][1])["exits"]}
    assert (watched["vpn"]["addresses"], watched["vpn"]["interface"]) == ([], "pic-vpn")
    assert watched["vpn"]["targets"] == watched["cellb"]["targets"] == provided.inventory["cella"]["cell_exit_probes"]
    for family, own, other in ((4, "10.64.3.7", "10.0.0.1"), (6, "fc00:bbbb::7", "fd00:a::1")):
        answered = [rule for rule in rules(provided, family, "filter", "PIC-B") if "-i pic-vpn" in rule and "--sport 443" in rule]
        assert len(answered) == 1 and f"-d {own}/" in answered[0] and f"-d {other}/" not in answered[0]
        assert [rule for rule in rules(provided, family, "filter", "PIC-OUT") if f"-s {own}/" in rule and "! -o pic-+" in rule]


def test_its_own_resolver_answers_where_the_exit_is_to(provided: World) -> None:
    provided.inventory["cella"]["cell_exit_dns"] = "exit"
    run(provided)
    for family, resolver in ((4, "10.64.0.1"), (6, "fc00:bbbb::1")):
        redirected = rules(provided, family, "nat", "PIC-A-vpn")
        assert redirected and all(f"--to-destination {resolver}" in rule for rule in redirected if "DNAT" in rule)
    assert "answered by 10.64.0.1, the resolver of vpn" in program(provided["cella"], "explain", phone(provided))[1]


def test_alone_its_answers_come_in(linked: World) -> None:
    linked.inventory["cella"]["cell_exits"] = [{"name": "vpn", "config": FILE}]
    for peer, via in zip(linked.inventory["cella"]["cell_peers"], ("vpn", "direct", "direct")):
        peer["route_via"] = via
    run(linked)
    for family, address in ((4, "10.0.0.2/32"), (6, "fd00:a::2/128")):
        for table in ("filter", "mangle"):
            [rule] = [rule for rule in rules(linked, family, table, "PIC-BACK") if "-i pic-vpn" in rule]
            assert f"-d {address}" in rule and "RETURN" in rule


def test_a_cell_with_exits_can_be_uninstalled_and_its_keys_are_kept(provided: World) -> None:
    done = call("pic_cell_uninstall", provided["cella"], {"name": "cella"})
    assert done.get("changed"), done
    assert [path for path, (mode, text) in provided["cella"].files.items() if path.endswith("/providers/vpn.key") and (mode, PRIVATE in text) == (0o600, True)]
    assert CONFIG not in provided["cella"].files


def test_a_lost_key_file_comes_back_with_the_preshared_key(provided: World) -> None:
    host = provided["cella"]
    before = host.files.pop(KEY)
    restore(host, "/var/lib/pic")
    assert host.files[KEY] == before and f"PresharedKey = {PRESHARED}" in host.files[CONFIG][1]
    assert host.wg["pic-vpn"].peers[PUBLIC].psk == PRESHARED


def test_an_exit_that_is_silent_is_no_way_to_move_a_device_to(provided: World) -> None:
    name, host = phone(provided), provided["cella"]
    provided.job("route_peer", cell="cella", peer=name, via_cell="cellb")
    host.wg["pic-vpn"].peers[PUBLIC].handshake = 0
    with pytest.raises(Refusal, match="exit vpn is silent: no handshake yet"):
        provided.job("route_peer", cell="cella", peer=name, via_cell="vpn")
    provided.job("route_peer", cell="cella", peer=name, via_cell="vpn", force="true")


def test_from_outside_only_the_providers_answers_come_to_its_port(provided: World) -> None:
    host = provided["cella"]
    ports = {name: provided.link("cella", name)["listen_port"] for name in ("vpn", "cellb")}
    for table in ("filter", "mangle"):
        host.tables["-nft", 4][table].policies["INPUT"] = "DROP" if table == "filter" else "ACCEPT"
    for name, state, wanted in (("vpn", "NEW", "DROP"), ("vpn", "ESTABLISHED", "ACCEPT"), ("cellb", "NEW", "ACCEPT")):
        assert verdict(host, Packet("198.51.100.7", "198.51.100.11", "eth0", "", "udp", ports[name], state), "filter") == wanted
    for source, inward in (("10.0.1.1", "pic-cellb"), ("10.64.3.1", "pic-vpn")):
        assert verdict(host, Packet(source, "10.0.0.1", inward, "", "udp", ports["vpn"]), "mangle") == "DROP"


def test_nobody_is_told_to_open_the_port_to_a_provider_whose_answers_come_in(provided: World) -> None:
    state = drafted(provided["cella"], "/var/lib/pic").stored
    states = {need.words: need.packet.state for need in passage.needs(state, {4: "eth0", 6: None}) if need.words.startswith("UDP to port")}
    ports = {name: state.links[name].listen_port for name in ("vpn", "cellb")}
    assert [states[f"UDP to port {ports[name]}"] for name in ("vpn", "cellb")] == ["established", "new"]


PROBES = ["tcp://192.0.2.1:443", "tcp://[2001:db8:9::1]:443"]


@prepared
def unused(provided: World) -> World:
    """Return cells of which cella has an exit that no device uses, and states targets."""
    provided.inventory["cella"]["cell_peers"][0]["route_via"] = "cellb"
    run(provided)
    provided.inventory["cella"]["cell_exit_probes"] = PROBES
    run(provided)
    provided["cella"].wg["pic-vpn"].peers[PUBLIC].handshake = int(provided["cella"].now)
    return provided


@pytest.mark.parametrize("gone", ["cell_exit_probes", "cell_exits"])
def test_targets_can_be_asked_through_it_before_any_device_uses_it(unused: World, gone: str) -> None:
    host, table = unused["cella"], unused.link("cella", "vpn")["exit_table"]
    for family, own in ((4, "10.64.3.7"), (6, "fc00:bbbb::7")):
        assert [rule.table for rule in host.rules[family] if rule.oif == "pic-vpn"] == [table]
        assert {route.dev for route in host.routes if route.table == table and route.family == family} == {"pic-vpn", None}
        answered = [rule for rule in rules(unused, family, "filter", "PIC-B") if "-i pic-vpn" in rule]
        assert len(answered) == 1 and f"-d {own}/" in answered[0] and "--sport 443" in answered[0]
    assert not unused.site().changed
    assert (program(host, "check")[0], restore(host, "/var/lib/pic").repairs) == (0, [])
    host.drop_link("pic-vpn")
    restore(host, "/var/lib/pic")
    assert {route.dev for route in host.routes if route.table == table} == {"pic-vpn", None}
    unused.inventory["cella"][gone] = []
    run(unused)
    assert not [rule for family in (4, 6) for rule in host.rules[family] if rule.oif == "pic-vpn"]
    assert not [route for route in host.routes if route.table == table]


def test_a_device_moves_there_only_if_a_target_answers(unused: World) -> None:
    name, host = phone(unused), unused["cella"]
    host.exits["vpn"] = None
    with pytest.raises(Refusal, match="exit vpn lets nothing through: none of the stated targets answers"):
        unused.job("route_peer", cell="cella", peer=name, via_cell="vpn")
    del host.exits["vpn"]
    unused.job("route_peer", cell="cella", peer=name, via_cell="vpn")


@pytest.mark.parametrize("table", [True, False])
def test_until_its_own_way_stands_its_handshake_is_all_there_is(unused: World, table: bool) -> None:
    """Until the first run after an upgrade the record of an exit that no device uses names no table."""
    host = unused["cella"]
    host.rules[4] = [rule for rule in host.rules[4] if rule.oif != "pic-vpn"]
    if not table:
        mode, text = host.files["/var/lib/pic/cell_links.json"]
        number = unused.link("cella", "vpn")["exit_table"]
        host.files["/var/lib/pic/cell_links.json"] = (mode, text.replace(f'"exit_table": {number}', '"exit_table": null'))
        assert unused.link("cella", "vpn")["exit_table"] is None
    host.wg["pic-vpn"].peers[PUBLIC].handshake = int(time.time())
    exits, items = prove.look_at(drafted(host, "/var/lib/pic"), ["vpn"])
    assert items == []
    assert exits["vpn"].found[0].startswith("nobody can tell whether exit vpn carries traffic, as its own way for questions is missing (pic-cell restore)")


def test_it_is_watched_only_where_there_is_somebody_to_ask(provided: World) -> None:
    provided.inventory["cella"]["cell_networks"] = ["10.0.0.1/24"]
    for peer in provided.inventory["cella"]["cell_peers"]:
        peer["addresses"] = peer["addresses"][:1]
    provided.inventory["cella"]["cell_services"] = []
    provided.inventory["cella"]["cell_links"] = [{"name": "cellb", "share": []}, {"name": "cellc", "share": []}]
    provided.inventory["cella"]["cell_exit_probes"] = ["tcp://[2001:db8:9::1]:443"]
    provided.site()
    assert "vpn" not in {item["name"] for item in json.loads(provided["cella"].files["/var/lib/pic/exits/exits.json"][1])["exits"]}


def test_a_network_nearby_that_comes_later_ends_no_repair(provided: World) -> None:
    host = provided["cella"]
    host.add_link("docker0", "10.64.0.254/16")
    host.drop_link("pic-cellb")
    restored = restore(host, "/var/lib/pic")
    assert "pic-cellb" in host.wg and not restored.errors


@pytest.mark.parametrize("address", ["cellb.example.net", "192.0.2.53", "192.0.2.1"])
def test_its_address_is_nobody_that_the_cell_reaches_outside(linked: World, address: str) -> None:
    host = linked["cella"]
    host.files["/etc/resolv.conf"] = (0o644, "nameserver 192.0.2.53\n")
    host.dns["cellb.example.net"] = "192.0.2.44"
    linked.inventory["cella"]["cell_exit_probes"] = ["tcp://192.0.2.1:443"]
    linked.inventory["cella"]["cell_exits"] = [
        {"name": "vpn", "config": FILE.replace("10.64.3.7", "192.0.2.44" if "." in address and address[0] == "c" else address)}
    ]
    if address[0] == "c":
        host.wg["pic-cellb"].peers[linked.public_key("cellb")].endpoint = "192.0.2.44:51821"
    with pytest.raises(Refusal, match="This cell would then take it for its own"):
        linked.site()


@pytest.mark.parametrize("kind", ["unlink", "link"])
def test_nothing_else_is_done_with_it(provided: World, kind: str) -> None:
    before = provided.text()
    with pytest.raises(Refusal, match="is an exit of cell 'cella' that is no cell"):
        provided.job(kind, cell="cella", remote_cell="vpn")
    assert provided.text() == before


@pytest.mark.parametrize(
    "more", [{"networks": ["10.9.0.0/24"]}, {"address": ["10.9.0.1"]}, {"interface": "wg0"}, {"given_addresses": ["10.64.3.7", "10.64.3.8"]}]
)
def test_a_record_of_a_provider_and_a_cell_at_once_is_none(provided: World, more: dict) -> None:
    records = provided.record("cella")
    [link] = [link for link in records["links"] if link["name"] == "vpn"]
    link.update(more)
    with pytest.raises(ValueError, match="at once"):
        soundness.links(records)


def test_what_an_older_program_has_left_of_it_is_taken_over(provided: World) -> None:
    path = "/var/lib/pic/cell_links.json"
    records = provided.record("cella")
    for link in records["links"]:
        link.pop("given_addresses", None)
        link.pop("given_resolvers", None)
    provided["cella"].files[path] = (0o600, json.dumps(records))
    provided.site()
    assert provided.link("cella", "vpn")["given_addresses"]


def test_no_other_cell_keeps_an_exit_from_being_taken_away(provided: World) -> None:
    spare = FILE.replace(PUBLIC, public_key(made_key("another provider"))).replace("10.64.3.7", "10.65.3.7").replace("fc00:bbbb::7", "fc00:cccc::7")
    provided.inventory["cella"]["cell_exits"].append({"name": "spare", "config": spare})
    run(provided)
    del provided.inventory["cella"]["cell_exits"][1]
    provided.hostile["cellb"] = lambda _module, result: {**result, "refusals": ["No."]} if "refusals" in result else result
    provided.site()
    assert "/etc/wireguard/pic-spare.conf" not in provided["cella"].files and CONFIG in provided["cella"].files
