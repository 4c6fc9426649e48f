# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate of an offered exit: the cell that offers it limits what the link sends and receives."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.rates import bits, parse_rate, render_rate
from ansible_collections.pic.cells.plugins.module_utils.kernel import tc
from ansible_collections.pic.cells.plugins.module_utils.program.events import Interest
from ansible_collections.pic.cells.plugins.module_utils.records import codec, soundness
from ansible_collections.pic.cells.plugins.plugin_utils import answers
from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.machine import Killed
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_offer_until import END, after, mended
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import run
from ansible_collections.pic.cells.tests.unit.test_statement import links, mesh
from ansible_collections.pic.cells.tests.unit.world import World, call, foreign, furnish, program, three_cells

LINK, DEVICE = "pic-cella", "pif-cella"
LIMITED = [
    f"tc {LINK} Bucket(handle='5043:', rate=20000000, burst=131072)",
    f"tc {LINK} receives through {DEVICE}",
    f"tc {DEVICE} Bucket(handle='5043:', rate=20000000, burst=131072)",
]
ONE_WAY = "has no devices of the type ifb, so the rate of an offer holds only for what pic-cella sends, and not for what it receives. Install the kernel's"


@prepared
def limited(linked: World) -> World:
    """Return three cells of which cellb offers cella an exit with a rate, as the inventory says; cella's phone leaves by it."""
    linked.inventory["cellb"]["cell_links"][0]["offer_exit"] = {"rate": "20mbit"}
    run(linked)
    linked.reset()
    return linked


def commands(host: FakeHost) -> list[str]:
    """Return what a host was asked that only a rate needs."""
    return [" ".join(argv) for argv in host.log if argv[0] == "tc" or "ifb" in argv]


def test_the_link_is_limited_in_both_directions(limited: World) -> None:
    assert limited["cellb"].shaped() == LIMITED
    assert limited["cellb"].links[DEVICE].up
    assert limited["cella"].shaped() == limited["cellc"].shaped() == []


def test_it_is_no_affair_of_the_other_cell(limited: World) -> None:
    assert "20mbit" not in limited["cella"].text() + json.dumps([limited.record("cella"), limited.record("cellc")])


def test_what_is_offered_without_a_rate_costs_no_command(linked: World) -> None:
    for host in linked.hosts.values():
        host.reset()
    linked.inventory["cellc"]["cell_links"][0]["offer_exit"] = {"until": END}
    run(linked)
    for name, host in linked.hosts.items():
        assert program(host, "restore")[0] == program(host, "check")[0] == 0
        assert commands(host) == [], name
        assert host.shaped() == [], name


def test_a_cell_that_is_as_it_should_be_is_only_read(limited: World) -> None:
    assert run(limited).changed == []
    host = limited["cellb"]
    host.reset()
    assert mended(limited, "cellb") == []
    assert host.steps == []
    assert commands(host) == ["tc -json qdisc show", f"tc filter show dev {LINK} parent ffff:"]


def test_the_first_run_of_a_cell_limits_its_links_too_and_nothing_of_others(tmp_path: Any) -> None:
    inventory = three_cells()
    inventory["cella"]["cell_links"][0]["offer_exit"] = {"rate": "20mbit"}
    world = World(tmp_path, inventory)
    host = world["cella"]
    furnish(host)
    before = foreign(host)
    predicted = world.site(check=True)
    done = world.site()
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    assert host.shaped() == [line.replace("cella", "cellb") for line in LIMITED]
    assert before == [line for line in foreign(host) if "pif-cellb" not in line]
    assert world.site().changed == []


def test_another_rate_takes_its_place_without_a_gap(limited: World) -> None:
    limited.inventory["cellb"]["cell_links"][0]["offer_exit"] = {"rate": "2gbit"}
    done = run(limited)
    assert [step for step in limited["cellb"].steps if step.startswith(("tc", "ip link"))] == [
        f"tc qdisc replace dev {name} root handle 5043: tbf rate 2gbit burst 2500000 latency 100ms" for name in (DEVICE, LINK)
    ]
    diff = next(diff for (host, task), diff in done.diffs().items() if host == "cellb" and f"{LINK}: sends at most" in str(diff))
    assert f"{LINK}: receives at most 20mbit\\n{LINK}: sends at most 20mbit" in json.dumps(diff)
    assert f"{LINK}: receives at most 2gbit\\n{LINK}: sends at most 2gbit" in json.dumps(diff)


@pytest.mark.parametrize("stated", [False, True, {"until": END}])
def test_an_offer_that_has_no_rate_any_more_and_one_that_is_withdrawn_leave_nothing(limited: World, stated: Any) -> None:
    limited.inventory["cella"]["cell_peers"][0]["route_via"] = "direct"
    limited.inventory["cellb"]["cell_links"][0]["offer_exit"] = stated
    run(limited)
    assert limited["cellb"].shaped() == []
    assert DEVICE not in limited["cellb"].links
    assert limited.link("cellb", "cella")["exit_offered_rate"] is None
    limited["cellb"].reset()
    assert mended(limited, "cellb") == []
    assert commands(limited["cellb"]) == []


def test_what_leads_to_a_device_ends_before_it(limited: World) -> None:
    run(limited, "offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert [step for step in limited["cellb"].steps if step.startswith(("tc", "ip link"))] == [
        f"tc qdisc del dev {LINK} ingress",
        f"tc qdisc del dev {LINK} root",
        f"ip link del dev {DEVICE}",
    ]


def test_it_ends_with_the_offer_that_ends_by_itself(limited: World) -> None:
    limited.inventory["cellb"]["cell_links"][0]["offer_exit"] = {"until": END, "rate": "20mbit"}
    run(limited)
    assert limited["cellb"].shaped() == LIMITED
    after(limited)
    repairs = mended(limited, "cellb")
    assert f"missing: link cella: shares nothing, offered an exit until {END}" in repairs
    assert f"surplus: {LINK}: sends at most 20mbit" in repairs
    assert limited["cellb"].shaped() == []


def test_silence_keeps_the_rate(limited: World) -> None:
    del limited.inventory["cellb"]["cell_links"][0]["offer_exit"]
    run(limited)
    assert limited["cellb"].shaped() == LIMITED


def test_a_link_that_is_removed_takes_its_device_along(limited: World) -> None:
    run(limited, "unlink", cell="cellb", remote_cell="cella")
    assert limited["cellb"].shaped() == []
    assert not {LINK, DEVICE} & set(limited["cellb"].links)


def test_a_link_on_another_interface_is_limited_there(limited: World) -> None:
    limited.inventory["cellb"]["cell_links"][0]["interface"] = "pic-other"
    run(limited)
    assert limited["cellb"].shaped() == sorted(line.replace("cella", "other") for line in LIMITED)
    assert DEVICE not in limited["cellb"].links


DAMAGES: dict[str, Callable[[FakeHost], object]] = {
    "the interface": lambda host: host.drop_link(LINK),
    "the device for what is received": lambda host: host.drop_link(DEVICE),
    "both": lambda host: (host.drop_link(DEVICE), host.drop_link(LINK)),
    "the device is down": lambda host: setattr(host.links[DEVICE], "up", False),
    "the bucket": lambda host: host.buckets.pop(LINK),
    "the device's bucket": lambda host: host.buckets.pop(DEVICE),
    "the rate": lambda host: setattr(host.buckets[DEVICE], "rate", 8000),
    "what receives": lambda host: host.ingress.pop(LINK),
    "the filter": lambda host: host.ingress.update({LINK: None}),
    "the filter leads elsewhere": lambda host: host.ingress.update({LINK: "eth0"}),
    "a reboot": lambda host: host.boot(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_repair_brings_it_back(limited: World, damage: str) -> None:
    host = limited["cellb"]
    before = host.text()
    DAMAGES[damage](host)
    damaged = host.text()
    assert program(host, "check")[0] != 0
    assert host.text() == damaged
    assert f"missing: {LINK}: " in "\n".join(mended(limited, "cellb"))
    assert host.text() == before
    assert mended(limited, "cellb") == []


def test_the_watcher_of_what_is_removed_hears_of_the_device() -> None:
    assert [Interest("wg0").is_ours(name) for name in (DEVICE, LINK, "wg0", "pifx", "")] == [True, True, True, False, False]


def test_a_run_brings_it_back_as_predicted(limited: World) -> None:
    for damage in DAMAGES.values():
        world = limited.fork()
        before = world["cellb"].text()
        damage(world["cellb"])
        predicted = world.site(check=True)
        done = world.site()
        assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
        assert world["cellb"].text() == before
        assert world.site().changed == []


@pytest.mark.parametrize(("begin", "end"), [(None, "20mbit"), ("20mbit", None), ("20mbit", "1gbit")])
def test_a_change_that_was_cut_at_any_step_is_completed(linked: World, begin: str | None, end: str | None) -> None:
    def offer(host: FakeHost, rate: str | None) -> dict[str, Any]:
        return call("pic_cell_rules", host, {"name": "cella", "offer_exit": rate is not None, **({"offer_rate": rate} if rate else {})})

    offer(linked["cellb"], begin)
    whole = linked["cellb"].fork()
    whole.reset()
    assert offer(whole, end)["changed"]
    for number in range(1, len(whole.steps) + 1):
        for kill in (False, True):
            host = linked["cellb"].fork()
            host.reset()
            host.fail_at, host.kill = number, kill
            with contextlib.suppress(Killed):
                offer(host, end)
            host.reset()
            offer(host, end)
            assert host.shaped() == whole.shaped(), number
            assert (DEVICE in host.links) is bool(end), number


def test_what_others_have_on_links_stays(linked: World) -> None:
    host = linked["cellb"]
    host.by_hand("tc -batch -", f"qdisc replace dev {LINK} root handle 7: tbf rate 5mbit burst 131072 latency 100ms\nqdisc add dev {LINK} ingress\n")
    before = host.shaped()
    host.reset()
    assert mended(linked, "cellb") == []
    assert host.shaped() == before
    assert not host.steps


def test_no_end_of_links_that_nobody_can_read(limited: World) -> None:
    limited["cellb"].files["/var/lib/pic/cell_links.json"] = (0o600, "{")
    program(limited["cellb"], "restore")
    assert limited["cellb"].shaped() == LIMITED


def test_a_kernel_without_ifb_limits_one_direction_and_says_so(linked: World) -> None:
    host = linked["cellb"]
    host.without.add("ifb")
    linked.inventory["cellb"]["cell_links"][0]["offer_exit"] = {"rate": "20mbit"}
    predicted = linked.site(check=True)
    assert any(ONE_WAY in text for text in predicted.warnings())
    done = linked.site()
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    assert host.shaped() == LIMITED[:1]
    again = linked.site()
    assert again.changed == []
    assert any(ONE_WAY in text for text in again.warnings())
    assert any(ONE_WAY in line for line in again.said["cellb"])
    assert ONE_WAY in program(host, "status")[1]
    assert any(ONE_WAY in text for text in call("pic_cell_rules", host, {"name": "cella", "offer_exit": True, "offer_rate": "1gbit"})["warnings"])
    linked.site()
    assert mended(linked, "cellb") == []
    host.without.clear()
    assert f"missing: {LINK}: receives at most 20mbit" in mended(linked, "cellb")
    assert host.shaped() == LIMITED


def test_a_host_without_tc_gets_its_package_and_nothing_is_begun_without_it(linked: World) -> None:
    host = linked["cellb"]
    assert call("pic_cell_info", host, {})["missing"] == []
    host.missing.add("tc")
    assert call("pic_cell_info", host, {})["missing"] == []
    host.files["/etc/os-release"] = (0o644, "ID=fedora\n")
    before = host.text()
    refused = call("pic_cell_rules", host, {"name": "cella", "offer_exit": True, "offer_rate": "20mbit"})
    assert refused["msg"] == "The program 'tc' is not installed on this host. Install the package 'iproute-tc'."
    assert host.text() == before
    run_of = {"links": [{"name": "cella", "offer_exit": True, "offer_rate": "20mbit"}]}
    assert call("pic_cell_info", host, {"run": run_of})["missing"] == ["iproute-tc"]
    host.missing.clear()
    call("pic_cell_rules", host, {"name": "cella", "offer_exit": True, "offer_rate": "20mbit"})
    host.missing.add("tc")
    assert call("pic_cell_info", host, {})["missing"] == ["iproute-tc"]


def test_the_end_of_a_cell_takes_it_along(limited: World) -> None:
    done = call("pic_cell_uninstall", limited["cellb"], {"name": "cellb"})
    assert done["changed"]
    assert not [name for name in limited["cellb"].links if name.startswith(("pic-", "pif-"))]
    assert limited["cellb"].shaped() == []


def test_the_day_2_playbook_takes_a_rate(linked: World) -> None:
    done = run(linked, "offer_exit", cell="cellb", remote_cell="cella", offered="yes", rate="20000kbit", until=END)
    assert f"changed on cellb: link cella: shares nothing, offers an exit until {END}, limited to 20mbit" in done.said["cellb"]
    assert f"shares nothing; offers it an exit until {END}, limited to 20mbit" in program(linked["cellb"], "status")[1]
    assert json.loads(program(linked["cellb"], "status", "--json")[1])["links"]["cella"]["exit_offered_rate"] == "20mbit"
    assert "next: The inventory states offer_exit: True for the link of 'cellb' with 'cella'; the next run of site puts that back." in done.said["cellb"]
    assert linked["cellb"].shaped() == LIMITED
    run(linked, "share", cell="cellb", remote_cell="cella", services="none")
    assert linked["cellb"].shaped() == LIMITED, "a change of something else puts back nothing"
    run(linked, "link", cell="cellb", remote_cell="cella", offered="yes")
    assert linked["cellb"].shaped() == []


def test_a_change_that_the_inventory_undoes_is_warned_of_with_its_rate(limited: World) -> None:
    done = limited.job("offer_exit", cell="cellb", remote_cell="cella", offered="yes", rate="1gbit", until=END)
    puts_back = "for the link of 'cellb' with 'cella'; the next run of site puts that back."
    assert f"next: The inventory states offer_exit: {{rate: 20mbit}} {puts_back}" in done.said["cellb"]


NO_RATE = "is not a rate. Give a whole number of kbit, mbit or gbit from 256kbit to 10gbit, like 20mbit."


@pytest.mark.parametrize(
    "value",
    ["20", "20 mbit", "20Mbit", "20mbps", "1.5mbit", "-1mbit", "0mbit", "020mbit", "255kbit", "11gbit", "9" * 40 + "gbit", "20mbit\n", "٢0mbit", 20, True],
)
def test_what_is_no_rate_is_refused_everywhere(linked: World, value: Any) -> None:
    before = linked.text()
    with pytest.raises(BadInput) as refused:
        parse_rate(value, "rate")
    assert str(refused.value) == f"rate: {str(value)!r} {NO_RATE}"
    with pytest.raises(BadInput, match=r"rate of offer_exit of link 'cellb' of host 'cella': .* is not a rate"):
        check_inventory(mesh(links(offer_exit={"rate": value})))
    if isinstance(value, str):
        with pytest.raises(BadInput, match=r"rate: .* is not a rate"):
            linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="yes", rate=value)
        assert NO_RATE in call("pic_cell_rules", linked["cellb"], {"name": "cella", "offer_exit": True, "offer_rate": value})["msg"]
    assert linked.text() == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rate": "20mbit", "offered": "no"}, "rate=20mbit is the rate of an offer, but offered=false. Give offered=true."),
        ({"rate": ["20mbit"], "offered": "yes"}, "is not text"),
    ],
)
def test_a_rate_without_an_offer_is_refused(linked: World, given: Any, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        linked.job("offer_exit", cell="cellb", remote_cell="cella", **given)
    assert words in str(refused.value)
    with pytest.raises(BadInput, match="rate=20mbit is the rate of an offer, but offered is not given"):
        linked.job("link", cell="cellb", remote_cell="cella", rate="20mbit")
    refused_by_module = call("pic_cell_rules", linked["cellb"], {"name": "cella", "offer_rate": "20mbit"})
    assert (
        "offer_rate of link 'cella' is the rate of an offer, but offer_exit is not true. Set it to true, or leave offer_rate out." in refused_by_module["msg"]
    )


def test_a_rate_is_refused_for_a_link_on_the_devices_interface(linked: World) -> None:
    linked.inventory["cellb"]["cell_links"][0].update(offer_exit={"rate": "20mbit"}, interface="wg0")
    before = linked.text()
    with pytest.raises(Exception, match="has the rate 20mbit, but its link is on interface 'wg0', where the rate would hold for the devices too"):
        linked.site()
    assert linked.text() == before


@pytest.mark.parametrize("text", ["256kbit", "20mbit", "1500kbit", "10gbit"])
def test_a_rate_is_read_back_as_it_was_written(text: str) -> None:
    assert render_rate(bits(text)) == parse_rate(text, "rate") == text


def test_records_of_before_have_no_rate_and_forged_ones_are_none(limited: World) -> None:
    records = limited.record("cellb")
    older = copy.deepcopy(records)
    del older["links"][0]["exit_offered_rate"]
    assert codec.load_links(older)["cella"].exit_offered_rate is None
    for forged in ("fast", "20000kbit", "1gbit; reboot", 7, True):
        with pytest.raises(ValueError):
            soundness.read(json.dumps({"links": [{**records["links"][0], "exit_offered_rate": forged}]}), soundness.links)


def test_what_a_cell_answers_of_a_rate_is_judged(limited: World) -> None:
    honest = call("pic_cell_info", limited["cellb"], {})
    assert not answers.judged("pic_cell_info", honest).get("failed")
    honest["links"]["cella"]["exit_offered_rate"] = "\x1b[2J"
    assert answers.judged("pic_cell_info", honest)["failed"]


def test_the_push_is_as_it_was(limited: World) -> None:
    sent = call("pic_cell_info", limited["cellb"], {"run": {}})["payloads"]
    assert "rate" not in json.dumps(sent)
    assert functools.reduce(lambda found, message: found | set(message), sent.values(), set[str]()) >= {"exit_offered"} or not sent


def test_names_of_others_are_no_devices_of_ours() -> None:
    ifb, others = {"flags": ["BROADCAST", "NOARP", "UP"]}, {"flags": ["POINTOPOINT", "NOARP", "UP"], "qdisc": "tbf"}
    links = {"pif-a b": ifb, "pif-x": ifb, "pif-z": others, "eth0": others, "ifb0": ifb, "pic-\n": others}
    assert tc.touched({**links, "pic-y": others}) == ["pic-x", "pic-y"]


def test_real_ansible_reads_it_from_yaml_and_from_an_extra_var(controller: Controller) -> None:
    controller.of("cellb")["cell_links"] = [{"name": "cella", "offer_exit": {"rate": "20mbit"}}]
    done = controller.play("site")
    assert done.rc == 0, done.text
    assert "changed on cellb: link cella: shares nothing, offers an exit, limited to 20mbit" in done.said["cellb"]
    assert controller.play("site", "--check").stats["cellb"]["changed"] == 0
    asked = controller.play("offer_exit", cell="cellb", remote_cell="cella", offered="true", rate="30mbit")
    assert asked.rc == 0, asked.text
    assert any("offers an exit, limited to 30mbit" in line for line in asked.said["cellb"])
    refused = controller.play("offer_exit", cell="cellb", remote_cell="cella", offered="true", rate="fast")
    assert refused.rc and "rate: 'fast' is not a rate" in refused.message
