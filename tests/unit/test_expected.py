# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether cells do what is expected of them: judged before a run, and on the kernel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.expectations import parse
from ansible_collections.pic.cells.plugins.module_utils.program.status import failures, report
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, device_key, furnish, program

EXPECTED = (
    "phone to internet is allowed via cellb",
    "tablet to internet is allowed via cellc",
    "laptop to internet is allowed via direct",
    "laptop to tcp://198.51.100.7:25 is allowed via direct",
    "phone to files@cella is allowed",
    "phone to cellc is allowed",
    "laptop to udp://10.0.0.3:5060 is allowed",
    "cellb to files@cella is allowed",
    "cellb to voice@cella is allowed",
    "cellb to internet is allowed",
    "cellb to lan is refused",
    "cellb to tcp://10.0.0.1:22 is refused",
    "cellb to cellc is refused",
    "cellc to files@cella is allowed",
    "cellc to voice@cella is refused",
    "cellc to internet is refused",
)


def expect(world: World, *lines: str, host: str = "cella") -> None:
    """State what is expected of a cell."""
    items = [parse(line) for line in lines]
    world.inventory[host]["cell_expect"] = [{"from": one.source, "to": one.to, "is": "allowed" if one.allowed else "refused", "via": one.via} for one in items]


def broken(world: World, host: str = "cella") -> dict[str, str]:
    """Return what does not hold on a cell's kernel, and why."""
    return {one["line"]: one["why"] for one in call("pic_cell_info", world[host], {})["expectations"] if one["why"]}


def refused(world: World, *lines: str, **job: str) -> str:
    """State expectations, and return why a run is refused, empty where it is not; then nothing has changed."""
    expect(world, *lines)
    before = world.text()
    try:
        world.job(**job, check=True) if job else world.site(check=True)  # type: ignore[arg-type]
    except Refusal as error:
        assert world.text() == before
        return str(error)
    return ""


def test_what_is_expected_holds_from_the_first_run_on(world: World) -> None:
    expect(world, *EXPECTED)
    said = world.site().said["cella"]
    assert "changed on cella: expectation phone to internet is allowed via cellb: stated" in said
    assert world.record("cella", "cell.json")["expect"] == list(EXPECTED)
    assert broken(world) == {}
    world.reset()
    assert world.site().changed == []
    assert world.steps() == {}


@pytest.mark.parametrize("line", EXPECTED)
def test_the_contrary_is_refused_before_anything_has_changed(world: World, line: str) -> None:
    one = parse(line)
    contrary = f"{one.source} to {one.to} is {'refused' if one.allowed else 'allowed'}"
    said = refused(world, contrary)
    assert f"cell_expect: '{contrary}' would not hold after this run: " in said
    assert "Change what the run states, or correct this line, or take it out." in said


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "cellb to files@cella is refused",
            "10.0.1.1 reaches 10.0.0.1: PIC-S-cellb -p tcp -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 443 -j ACCEPT lets it pass",
        ),
        ("cellb to lan is allowed", "10.0.1.1 does not reach 203.0.113.1: PIC-S-cellb -j DROP drops it"),
        (
            "phone to internet is allowed via cellc",
            "10.0.0.2 leaves by cellb instead (PIC-PATH -i wg0 -o pic-+ -s 10.0.0.0/24 -j ACCEPT lets it pass, policy rule 4001",
        ),
        ("phone to internet is allowed via direct", "10.0.0.2 leaves by cellb instead"),
        ("laptop to internet is allowed via cellb", "10.0.0.4 leaves by this cell's own uplink instead"),
        ("laptop to internet is refused", "10.0.0.4 reaches 192.0.2.1 through eth0: PIC-PATH -i wg0 -o eth0 -s 10.0.0.0/24 -j ACCEPT lets it pass"),
        ("laptop to lan is refused", "10.0.0.4 reaches 203.0.113.1 through eth0"),
        ("phone to tcp://198.51.100.7:25 is allowed via direct", "10.0.0.2 leaves by cellb instead"),
        ("phone to lan is allowed", "10.0.0.2 does not reach 203.0.113.1 there, but is sent through pic-cellb"),
        (
            "guest to internet is allowed",
            "cell 'cella' has no device and no linked cell 'guest'. Its devices: laptop, phone, tablet. Its linked cells: cellb, cellc",
        ),
        ("cella to internet is allowed", "cell 'cella' has no device and no linked cell 'cella'"),
        ("phone to nothing@cella is allowed", "cell 'cella' has no service 'nothing'. Its services: files, voice"),
        ("phone to files@celld is allowed", "'files@celld' is not internet, lan, a linked cell, or a service of one or of this cell, like files@cella"),
        ("phone to celld is refused", "'celld' is not internet, lan, a linked cell"),
    ],
)
def test_a_refusal_names_the_rule_or_what_is_not_known(world: World, line: str, why: str) -> None:
    assert f"cell_expect: '{line}' would not hold after this run: {why}" in refused(world, line)


CHANGES: dict[str, tuple[str, dict[str, str], str]] = {
    "another exit": (
        "phone to internet is allowed via cellb",
        {"kind": "route_peer", "cell": "cella", "peer": "phone", "via_cell": "cellc"},
        "by cellc instead",
    ),
    "no exit": ("phone to internet is allowed via cellb", {"kind": "route_peer", "cell": "cella", "peer": "phone", "via_cell": "direct"}, "own uplink instead"),
    "a share": ("cellc to voice@cella is refused", {"kind": "share", "cell": "cella", "remote_cell": "cellc", "services": "files,voice"}, "PIC-S-cellc"),
    "a share that ends": ("cellb to voice@cella is allowed", {"kind": "share", "cell": "cella", "remote_cell": "cellb", "services": "files"}, "DROP drops it"),
    "an offer": ("cellc to internet is refused", {"kind": "offer_exit", "cell": "cella", "remote_cell": "cellc", "offered": "yes"}, "through eth0"),
    "an offer that ends": ("cellb to internet is allowed", {"kind": "offer_exit", "cell": "cella", "remote_cell": "cellb", "offered": "no"}, "DROP drops it"),
    "a link that goes": ("cellb to cellc is refused", {"kind": "unlink", "cell": "cella", "remote_cell": "cellb"}, "no linked cell 'cellb'. Its devices"),
    "the exit's link": (
        "phone to internet is allowed via cellb",
        {"kind": "unlink", "cell": "cella", "remote_cell": "cellb"},
        "policy rule 4002 leads nowhere",
    ),
    "a device that goes": ("phone to lan is refused", {"kind": "remove_device", "cell": "cella", "device": "phone"}, "no device and no linked cell 'phone'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_would_break_what_is_expected_is_refused(linked: World, change: str) -> None:
    line, job, why = CHANGES[change]
    expect(linked, line)
    linked.site()
    assert broken(linked) == {}
    said = refused(linked, line, **job)
    assert f"'{line}' would not hold after this run" in said and why in said
    expect(linked)  # as its owner does who means it
    linked.job(**job)  # type: ignore[arg-type]
    assert "expect" not in linked.record("cella", "cell.json")


def test_what_was_broken_before_and_is_right_after_the_run_is_no_reason(linked: World) -> None:
    line = "phone to internet is allowed via cellc"
    assert "by cellb instead" in refused(linked, line)
    assert refused(linked, line, kind="route_peer", cell="cella", peer="phone", via_cell="cellc") == ""


def test_what_is_broken_already_ends_a_run_that_does_not_concern_it(linked: World) -> None:
    said = refused(linked, "laptop to internet is refused", kind="share", cell="cella", remote_cell="cellc", services="none")
    assert "'laptop to internet is refused' would not hold after this run" in said


def test_an_exit_that_is_silent_or_not_offered_now_ends_no_run(linked: World) -> None:
    """What another cell does is no change of this one; status says it."""
    expect(linked, "phone to internet is allowed via cellb")
    linked.site()
    linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    del linked.inventory["cellb"]["cell_links"][0]["offer_exit"]
    assert broken(linked) == {"phone to internet is allowed via cellb": "10.0.0.2 does not reach 192.0.2.1: the kernel has no route for it"}
    assert refused(linked, "phone to internet is allowed via cellb", kind="share", cell="cella", remote_cell="cellc", services="none") == ""


def test_a_link_of_which_nothing_is_known_yet_waits(linked: World) -> None:
    linked.inventory["cella"]["cell_links"].append({"name": "celld"})
    expect(linked, "celld to files@cella is refused", "phone to celld is allowed", "phone to internet is allowed via cellb")
    linked.site()
    assert broken(linked) == {}


def test_another_cells_expectation_ends_no_unlink_and_any_gift(linked: World) -> None:
    """What a cell takes back depends on nobody; what it gives waits until all are ready."""
    expect(linked, "pad to internet is allowed via cella", host="cellb")
    linked.site()
    linked.inventory["cellb"]["cell_expect"].append({"from": "pad", "to": "cella", "is": "refused"})
    with pytest.raises(Refusal, match="cellb: cell_expect: 'pad to cella is refused' would not hold"):
        linked.job("share", cell="cella", remote_cell="cellb", services="files,voice")
    linked.job("unlink", cell="cella", remote_cell="cellb")
    assert [link["name"] for link in linked.record("cella")["links"]] == ["cellc"]
    assert [link["name"] for link in linked.record("cellb")["links"]] == ["cella"]


def test_what_a_linked_cell_shares_counts_for_status(linked: World) -> None:
    expect(linked, "phone to web@cellb is allowed")
    linked.site()
    assert broken(linked) == {"phone to web@cellb is allowed": "cell cellb has not said that it shares web with this cell"}
    linked.inventory["cellb"]["cell_services"] = [{"name": "web", "address": "10.0.1.1", "port": 80}]
    linked.inventory["cellb"]["cell_links"] = [{"name": "cella", "offer_exit": True, "share": ["web"]}]
    linked.site()
    assert broken(linked) == {}


def test_an_admin_network_within_a_link_is_a_way_too(linked: World) -> None:
    linked.inventory["cella"]["cell_admin_networks"] = ["10.0.1.64/26"]
    said = refused(linked, "cellb to tcp://10.0.0.1:22 is refused")
    assert "10.0.1.64 reaches 10.0.0.1: PIC-I-cellb -s 10.0.1.64/26 -j ACCEPT lets it pass" in said


def test_an_exception_is_a_way_to_the_internet_too(linked: World) -> None:
    linked.inventory["cella"]["cell_peers"][0]["route_except"] = [{"to": ["198.51.100.0/24"], "via": "direct"}]
    expect(linked, "phone to internet is allowed via cellb", "phone to tcp://198.51.100.7:25 is allowed via direct")
    linked.site()
    assert broken(linked) == {}
    assert "10.0.0.2 reaches" in refused(linked, "phone to internet is refused")


def test_what_others_have_on_the_host_counts(world: World) -> None:
    host = world["cella"]
    furnish(host)
    host.iptables(4, "filter", "-I FORWARD 1 -o docker0 -j DROP")
    expect(world, "laptop to tcp://172.17.0.2:80 is refused", "cellb to tcp://172.17.0.2:80 is refused")
    world.site()
    assert broken(world) == {}
    said = refused(world, "laptop to tcp://172.17.0.2:80 is allowed")
    assert "10.0.0.4 does not reach 172.17.0.2: FORWARD -o docker0 -j DROP drops it" in said


def lose_share(host: FakeHost) -> None:
    host.by_hand("iptables-restore --noflush -w 10", "*filter\n:PIC-S-cellb - [0:0]\nCOMMIT\n")


DAMAGE = {
    "an interface": (lambda host: host.drop_link("pic-cellb"), "cellb to files@cella is allowed", "interface pic-cellb is missing"),
    "the devices' interface": (lambda host: host.drop_link("wg0"), "phone to internet is allowed via cellb", "interface wg0 is missing"),
    "policy rules": (
        lambda host: host.by_hand("ip -4 rule del from 10.0.0.2 lookup 4200 pref 4001 protocol 201"),
        "phone to internet is allowed via cellb",
        "the kernel has no route for it",
    ),
    "a chain": (
        lambda host: host.tables[host.default, 4]["filter"].rules["PIC-S-cellb"].clear(),
        "cellb to voice@cella is allowed",
        "the policy of FORWARD, DROP, drops it",
    ),
    "forwarding": (
        lambda host: host.files.update({"/proc/sys/net/ipv4/ip_forward": (0o644, "0\n")}),
        "laptop to internet is allowed via direct",
        "this host does not forward IPv4 packets (net.ipv4.ip_forward is 0)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_status_and_check_say_what_does_not_hold_on_the_kernel(linked: World, damage: str) -> None:
    do, line, why = DAMAGE[damage]
    host = linked["cella"]
    host.tables[host.default, 4]["filter"].policies["FORWARD"] = "DROP"
    expect(linked, line, "cellc to internet is refused")
    linked.site()
    assert broken(linked) == {}
    do(host)
    found = call("pic_cell_info", host, {})
    assert why in broken(linked)[line]
    assert ["expectations: 1 of 2 hold", f"expectation '{line}' does not hold: {broken(linked)[line]}"] == report(found)[-2:]
    assert failures(found, ["expectation"]) == [f"expectation: '{line}' does not hold: {broken(linked)[line]}."]
    rc, out, _err = program(host, "check")
    assert rc == 3 and f"expectation '{line}' does not hold: " in out
    assert [one["line"] for one in json.loads(program(host, "check", "--json")[1])["expectations"] if one["why"]] == [line]


def test_what_is_not_stated_any_more_is_kept_and_an_empty_list_takes_it_away(linked: World) -> None:
    expect(linked, "phone to internet is allowed")
    linked.site()
    del linked.inventory["cella"]["cell_expect"]
    linked.site()
    assert linked.record("cella", "cell.json")["expect"] == ["phone to internet is allowed"]
    linked.inventory["cella"]["cell_expect"] = []
    assert linked.site().said["cella"][0] == "changed on cella: expectation phone to internet is allowed: removed"
    assert "expect" not in linked.record("cella", "cell.json")
    assert call("pic_cell_info", linked["cella"], {})["expectations"] == []
    assert not any("expectations" in line for line in report(call("pic_cell_info", linked["cella"], {})))


@pytest.mark.parametrize("item", ["phone", {"from": "phone"}, {"from": "phone", "to": "lan", "via": "cellb"}])
def test_the_inventory_is_judged_before_a_cell_is_reached(linked: World, item: Any) -> None:
    linked.inventory["cella"]["cell_expect"] = [item]
    with pytest.raises(Exception, match=r"^cell_expect of host 'cella': "):
        linked.site()


def test_a_device_that_is_new_is_judged_in_the_run_that_adds_it(linked: World) -> None:
    line = "guest to internet is allowed via cellc"
    linked.inventory["cella"]["cell_peers"].append({"name": "guest", "public_key": device_key("guest"), "addresses": ["10.0.0.9"], "route_via": "cellb"})
    assert "10.0.0.9 leaves by cellb instead" in refused(linked, line)
    linked.inventory["cella"]["cell_peers"][-1]["route_via"] = "cellc"
    assert refused(linked, line) == ""


def test_a_run_of_ansible_is_refused_and_its_report_fails(controller: Controller) -> None:
    controller.of("cella")["cell_expect"] = [
        {"from": "laptop", "to": "internet", "via": "direct", "is": ""},
        {"from": "cellb", "to": "files@cella", "is": "refused"},
    ]
    done = controller.play("site")
    assert done.rc != 0 and not any(stat["changed"] for stat in done.stats.values())
    assert "cella: cell_expect: 'cellb to files@cella is refused' would not hold after this run: 10.0.1.1 reaches 10.0.0.1: " in done.message
    controller.of("cella")["cell_expect"] = [{"from": "cellb", "to": "files@cella"}]
    assert controller.play("site").rc == 0
    host = controller["cella"]
    for table in ("filter", "mangle"):
        host.tables[host.default, 4][table].rules["PIC-S-cellb"] = [("-j", "DROP")]
    controller["cella"] = host
    done = controller.play("status", cell="cella", fail_on="expectation")
    assert (
        done.rc == 2
        and "expectation: 'cellb to files@cella is allowed' does not hold: 10.0.1.1 does not reach 10.0.0.1: PIC-S-cellb -j DROP drops it." in done.message
    )
