# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An offer of an exit that ends by itself: from then on it counts as withdrawn, on the cell and for the other one."""

from __future__ import annotations

import copy
import datetime
import functools
import json
from typing import Any
from unittest import mock

import pytest
import yaml

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.times import parse_moment
from ansible_collections.pic.cells.plugins.module_utils.records import codec, soundness
from ansible_collections.pic.cells.plugins.plugin_utils import answers, job
from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import exit_of, is_open, run
from ansible_collections.pic.cells.tests.unit.test_statement import links, mesh
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, program

BEGIN = 1_800_000_000  # the clock of the fake hosts: 2027-01-15T08:00:00Z
END, LATER = "2027-01-15T09:00:00Z", "2027-01-16T09:00:00Z"
HOUR = 3600


@prepared
def lent(linked: World) -> World:
    """Return three cells of which cellb offers cella an exit for an hour more, as the inventory says; cella's phone leaves by it."""
    linked.inventory["cellb"]["cell_links"][0]["offer_exit"] = {"until": END}
    run(linked)
    linked.reset()
    return linked


def after(world: World, seconds: float = HOUR) -> None:
    """Let time pass on all hosts."""
    for host in world.hosts.values():
        host.now = BEGIN + seconds


def relays(world: World) -> bool:
    """Tell whether cellb's rules let cella's devices out to the internet."""
    return any("-o eth0" in rule for rule in world["cellb"].chain(4, "PIC-L-cella"))


def mended(world: World, host: str) -> list[str]:
    """Carry out what the timer does once a minute; return what it says of it."""
    rc, out, _err = program(world[host], "restore", "--json")
    assert rc == 0
    repairs: list[str] = json.loads(out)["repairs"]
    return repairs


def told(world: World, host: str) -> tuple[int, str, str]:
    """Carry out what the other timer does: tell the linked cells what they do not know."""
    return program(world[host], "replay", "--json", send=functools.partial(world.carry, host))


def test_it_stands_until_its_end(lent: World) -> None:
    assert (lent.link("cellb", "cella")["exit_offered"], lent.link("cellb", "cella")["exit_offered_until"]) == (True, END)
    after(lent, HOUR - 1)
    assert mended(lent, "cellb") == []
    assert (relays(lent), is_open(lent, "cellb")) == (True, True)


def test_at_its_end_the_cell_withdraws_it_by_itself(lent: World) -> None:
    after(lent)
    assert f"missing: link cella: shares nothing, offered an exit until {END}" in mended(lent, "cellb")
    assert not relays(lent)
    record = lent.link("cellb", "cella")
    assert (record["exit_offered"], record["exit_offered_until"]) == (False, END)
    lent.reset()
    assert mended(lent, "cellb") == []
    assert lent["cellb"].steps == []


def test_its_flows_end_as_with_a_withdrawal(lent: World) -> None:
    withdrawn = lent.fork()
    withdrawn.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    after(lent)
    mended(lent, "cellb")
    assert lent["cellb"].ended == withdrawn["cellb"].ended != []


def test_the_other_cell_is_told_by_the_usual_push_whichever_timer_comes_first(lent: World) -> None:
    for first in ("restore", "replay"):
        world = lent.fork()
        after(world)
        if first == "restore":
            mended(world, "cellb")
        assert world.link("cella", "cellb")["remote_exit_offered"]
        told(world, "cellb")
        assert not world.link("cella", "cellb")["remote_exit_offered"]
        assert (exit_of(world), is_open(world, "cellb")) == ("cellb", False), "the phone has no internet, and does not go direct"
        assert "dropped: cell cellb offers no exit now" in program(world["cella"], "explain", "phone")[1]
        mended(world, "cellb")
        assert not relays(world)
        world.reset()
        assert json.loads(told(world, "cellb")[1]) == {"answers": {}}
        assert world["cellb"].steps == []


def test_a_wish_that_comes_after_the_end_is_refused_before_any_timer(lent: World) -> None:
    after(lent)
    record = lent.record("cella")
    record["links"][0].update(minted=None, generation=7)
    lent["cella"].files["/var/lib/pic/cell_links.json"] = (0o600, json.dumps(record))
    told(lent, "cella")
    assert lent.link("cellb", "cella")["remote_generation"] >= 7, "it was heard"
    assert not lent.link("cellb", "cella")["remote_exit_relay_active"]
    assert not relays(lent)


def test_a_cell_that_was_off_at_the_end_comes_back_without_the_offer(lent: World) -> None:
    after(lent, 30 * HOUR)
    lent["cellb"].boot()
    program(lent["cellb"], "restore", "--guard")
    assert not relays(lent)
    assert mended(lent, "cellb") is not None and not relays(lent)


def test_a_clock_that_is_set_back_does_not_bring_it_back(lent: World) -> None:
    after(lent)
    mended(lent, "cellb")
    after(lent, -HOUR)
    assert mended(lent, "cellb") == []
    assert not relays(lent)


def test_site_before_the_end_changes_nothing(lent: World) -> None:
    assert run(lent).changed == []


@pytest.mark.parametrize("timers", [(), ("restore",), ("restore", "replay")])
def test_site_after_the_end_is_predicted_and_warns_and_then_changes_nothing(lent: World, timers: tuple[str, ...]) -> None:
    """Whatever the cell has done by itself until then."""
    after(lent)
    for timer in timers:
        program(lent["cellb"], timer, send=functools.partial(lent.carry, "cellb"))
    done = run(lent)
    assert (timers == ("restore", "replay")) <= (("cellb", "rules") not in {(host, task.rpartition("_")[2]) for host, task in done.changed})
    assert not lent.link("cella", "cellb")["remote_exit_offered"]
    assert not relays(lent)
    again = lent.site()
    assert again.changed == []
    (warning,) = set(again.warnings()) - {text for text in again.warnings() if text.startswith("Peer ")}
    assert warning == f"The offer of an exit to cell 'cella' ended at {END}, so it is not offered one. State a later end, or offer_exit: false."
    assert f"next: the offer of an exit by cellb to cella ended at {END}: state a later end there, or offer_exit: false" in again.said["cellb"]


def test_a_later_end_brings_it_back(lent: World) -> None:
    after(lent)
    mended(lent, "cellb")
    lent.inventory["cellb"]["cell_links"][0]["offer_exit"] = {"until": LATER}
    run(lent)
    assert (relays(lent), is_open(lent, "cellb")) == (True, True)


def test_an_offer_without_an_end_takes_an_earlier_end_away(lent: World) -> None:
    lent.inventory["cellb"]["cell_links"][0]["offer_exit"] = True
    run(lent)
    assert lent.link("cellb", "cella")["exit_offered_until"] is None
    after(lent)
    assert mended(lent, "cellb") == []
    assert relays(lent)


def test_silence_keeps_the_end(lent: World) -> None:
    del lent.inventory["cellb"]["cell_links"][0]["offer_exit"]
    run(lent)
    assert lent.link("cellb", "cella")["exit_offered_until"] == END


def test_the_day_2_playbook_takes_an_end(linked: World) -> None:
    done = run(linked, "offer_exit", cell="cellb", remote_cell="cella", offered="yes", until=END)
    assert f"changed on cellb: link cella: shares nothing, offers an exit until {END}" in done.said["cellb"]
    assert f"link cella: no handshake yet; shares nothing; offers it an exit until {END}" in program(linked["cellb"], "status")[1]
    found = json.loads(program(linked["cellb"], "status", "--json")[1])["links"]["cella"]
    assert (found["exit_offered"], found["exit_offered_until"]) == (True, END)
    after(linked)
    found = json.loads(program(linked["cellb"], "status", "--json")[1])["links"]["cella"]
    assert (found["exit_offered"], found["exit_offered_until"]) == (False, END), "before any timer too"
    assert f"offered it an exit until {END}" in program(linked["cellb"], "status")[1]
    assert any("offered an exit until" in line for line in program(linked["cellb"], "check")[1].splitlines()), "its rules still stand"


def test_the_end_goes_with_the_offer(lent: World) -> None:
    gone = lent.fork()
    run(lent, "offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert lent.link("cellb", "cella")["exit_offered_until"] is None
    call("pic_cell_rules", gone["cellb"], {"name": "cella", "state": "absent"})
    assert gone.link("cellb", "cella")["exit_offered_until"] is None


def test_an_end_in_another_time_zone_is_the_same_moment(linked: World) -> None:
    run(linked, "offer_exit", cell="cellb", remote_cell="cella", offered="yes", until="2027-01-15T11:00:00+02:00")
    assert linked.link("cellb", "cella")["exit_offered_until"] == END


def test_a_link_can_be_made_with_an_end_and_one_that_is_stated_for_it_gives_way(lent: World) -> None:
    run(lent, "link", cell="cellb", remote_cell="cella", offered="yes", until=LATER)
    assert lent.link("cellb", "cella")["exit_offered_until"] == LATER
    run(lent, "link", cell="cellb", remote_cell="cella", offered="yes")
    assert lent.link("cellb", "cella")["exit_offered_until"] is None
    run(lent, "share", cell="cella", remote_cell="cellb", services="none")
    assert lent.link("cellb", "cella")["exit_offered_until"] is None, "a change of something else puts back nothing"


def test_a_cell_that_is_away_is_expected_to_offer_what_is_stated_while_that_can_be(linked: World) -> None:
    linked.inventory["cellc"]["cell_links"][0]["offer_exit"] = False
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    run(linked)
    linked.dead.add("cellc")
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "cellc"
    linked.inventory["cellc"]["cell_links"][0]["offer_exit"] = {"until": "2025-12-31T00:00:00Z"}
    with pytest.raises(Refusal, match="has not offered 'cella' an exit"):
        linked.site()
    linked.inventory["cellc"]["cell_links"][0]["offer_exit"] = {"until": "2999-12-31T00:00:00Z"}
    assert any("no internet for tablet" in line for line in linked.site().said["cella"]), "it waits, closed"


def test_a_relay_that_a_module_asks_for_is_an_offer_without_an_end_where_there_is_none_now(lent: World) -> None:
    asked = {"name": "cella", "exit_relay": True}
    call("pic_cell_rules", lent["cellb"], asked)
    assert lent.link("cellb", "cella")["exit_offered_until"] == END, "one that stands keeps its end"
    after(lent)
    mended(lent, "cellb")
    call("pic_cell_rules", lent["cellb"], asked)
    assert relays(lent)
    assert lent.link("cellb", "cella")["exit_offered_until"] is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"until": "2026-01-15T08:00:00Z"}, r"until=2026-01-15T08:00:00Z has passed: it is 2027-01-15T08:00:00Z now. Give a later time, or offered=false"),
        ({"until": "2027-01-15T08:00:00Z"}, "has passed"),
        ({"until": "2027-01-16T08:00:00"}, "until: '2027-01-16T08:00:00' has no time zone. Give the time in UTC, like 2026-12-31T00:00:00Z"),
        ({"until": "tomorrow"}, "until: 'tomorrow' is not a time. Give one in UTC"),
        ({"until": "2027-02-30T08:00:00Z"}, "is not a time"),
        ({"until": END, "offered": "no"}, f"until={END} is the end of an offer, but offered=false. Give offered=true"),
        ({"until": ["2027-01-16T08:00:00Z"]}, "is not text"),
    ],
)
def test_what_is_no_end_is_refused_where_it_is_asked_for(linked: World, given: Any, words: str) -> None:
    before = linked.text()
    with mock.patch.object(job.time, "time", lambda: BEGIN), pytest.raises(BadInput) as refused:
        linked.job("offer_exit", **{"cell": "cellb", "remote_cell": "cella", "offered": "yes", **given})
    assert words in str(refused.value)
    assert linked.text() == before


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"until": "2027-01-16T08:00:00"}, "until of offer_exit of link 'cellb' of host 'cella': '2027-01-16T08:00:00' has no time zone"),
        ({"until": datetime.datetime(2027, 1, 16, 8)}, "has no time zone"),
        ({"until": datetime.date(2027, 1, 16)}, "'2027-01-16' is not a time"),
        ({"until": "soon"}, "until of offer_exit of link 'cellb' of host 'cella': 'soon' is not a time. Give one in UTC, like 2026-12-31T00:00:00Z"),
        ({"until": 7}, "'7' is not a time"),
        ({"until": ""}, "offer_exit of link 'cellb' of host 'cella' has no until"),
        ({}, "has no until"),
        ({"until": END, "size": "20mbit"}, "offer_exit of link 'cellb' of host 'cella' has an unknown key 'size'. Its keys: until, rate"),
        (
            [END],
            "offer_exit of link 'cellb' of host 'cella': ['2027-01-15T09:00:00Z'] is not an offer. Give true or false, or {until: ",
        ),
        ("perhaps", "'perhaps' is not an offer"),
        (END, "is not an offer"),
    ],
)
def test_what_is_no_offer_is_refused_in_an_inventory(stated: Any, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_inventory(mesh(links(offer_exit=stated)))
    assert words in str(refused.value)
    assert str(refused.value).count(". ") == 1


@pytest.mark.parametrize("text", ["2027-01-15T09:00:00Z", "2027-01-15 09:00:00+00:00", "2027-01-15T11:00:00+02:00", "2027-01-15t09:00:00z"])
def test_an_end_as_yaml_reads_it_is_that_as_a_text(text: str) -> None:
    assert parse_moment(text, "until") == END
    assert parse_moment(yaml.safe_load(f"until: {text}")["until"], "until") == END


def test_a_module_on_its_own_takes_an_end_too(linked: World) -> None:
    asked = {"name": "cella", "offer_exit": True, "offer_until": END}
    assert call("pic_cell_rules", linked["cellb"], asked, check=True)["changed"]
    assert call("pic_cell_rules", linked["cellb"], asked)["changed"]
    assert not call("pic_cell_rules", linked["cellb"], asked)["changed"]
    after(linked)
    done = call("pic_cell_rules", linked["cellb"], asked)
    assert done["changed"] and any("ended at" in text for text in done["warnings"])
    assert not call("pic_cell_rules", linked["cellb"], asked)["changed"]
    for bad, words in (
        ({**asked, "offer_until": "noon"}, "offer_until of link 'cella': 'noon' is not a time"),
        ({**asked, "offer_exit": False}, "offer_exit is not true"),
    ):
        refused = call("pic_cell_rules", linked["cellb"], bad)
        assert refused["failed"] and words in refused["msg"]


def test_records_of_before_have_no_end_and_those_of_now_are_read_by_programs_of_before(lent: World) -> None:
    records = lent.record("cellb")
    older = copy.deepcopy(records)
    del older["links"][0]["exit_offered_until"]
    assert codec.load_links(older)["cella"].exit_offered_until is None
    assert codec.load_links({"links": [{**records["links"][0], "a_field_to_come": 1}]})["cella"].exit_offered, "what is not known is skipped"
    for forged in ("soon", "2027-01-15T09:00:00", "2027-01-15 09:00:00Z", 7, True):
        with pytest.raises(ValueError):
            soundness.read(json.dumps({"links": [{**records["links"][0], "exit_offered_until": forged}]}), soundness.links)


def test_what_a_cell_answers_of_an_end_is_judged(lent: World) -> None:
    honest = call("pic_cell_info", lent["cellb"], {})
    assert not answers.judged("pic_cell_info", honest).get("failed")
    honest["links"]["cella"]["exit_offered_until"] = "\x1b[2J"
    assert answers.judged("pic_cell_info", honest)["failed"]


def test_a_change_that_the_inventory_undoes_is_warned_of_with_its_end(lent: World) -> None:
    done = lent.job("offer_exit", cell="cellb", remote_cell="cella", offered="yes", until=LATER)
    puts_back = "for the link of 'cellb' with 'cella'; the next run of site puts that back."
    assert f"next: The inventory states offer_exit: {{until: {END}}} {puts_back}" in done.said["cellb"]
    done = lent.job("offer_exit", cell="cellb", remote_cell="cella", offered="yes", until=END)
    assert not [line for line in done.said["cellb"] if "puts that back" in line]
    after(lent)
    with mock.patch.object(job.time, "time", lambda: BEGIN + HOUR):
        done = lent.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert not [line for line in done.said["cellb"] if "puts that back" in line], "site will not offer it either"


def test_a_way_by_an_offer_that_has_ended_is_refused_where_it_is_new(lent: World) -> None:
    after(lent)
    with pytest.raises(Exception, match="has not offered 'cella' an exit"):
        lent.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    lent.inventory["cella"]["cell_peers"][2]["route_via"] = "cellb"
    with pytest.raises(Refusal, match="'laptop' cannot be routed via 'cellb': that cell has not offered 'cella' an exit"):
        lent.site()


def test_a_cell_that_offers_no_exit_any_more_needs_no_way_out_for_others(lent: World) -> None:
    lent["cellb"].routes = [route for route in lent["cellb"].routes if route.dev != "eth0"]
    assert "offers cella an exit but has no default route" in program(lent["cellb"], "explain", "pad")[1]
    after(lent)
    assert "has no default route" not in program(lent["cellb"], "explain", "pad")[1]


def test_real_ansible_reads_it_from_yaml_without_quotes(controller: Controller) -> None:
    moment = datetime.datetime(2999, 12, 31, tzinfo=datetime.timezone.utc)
    controller.of("cellb")["cell_links"] = [{"name": "cella", "offer_exit": {"until": moment}}]
    done = controller.play("site")
    assert done.rc == 0, done.text
    assert "changed on cellb: link cella: shares nothing, offers an exit until 2999-12-31T00:00:00Z" in done.said["cellb"]
    assert controller.play("site", "--check").stats["cellb"]["changed"] == 0
    asked = controller.play("offer_exit", "-e", "{until: 2998-12-31T00:00:00Z}", cell="cellb", remote_cell="cella", offered="true")
    assert asked.rc == 0, asked.text
    assert any("offers an exit until 2998-12-31T00:00:00Z" in line for line in asked.said["cellb"])
    refused = controller.play("offer_exit", cell="cellb", remote_cell="cella", offered="true", until="2020-01-01T00:00:00Z")
    assert refused.rc and "until=2020-01-01T00:00:00Z has passed" in refused.message
