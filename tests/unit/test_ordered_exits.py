# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device with several exits: it leaves by the first that is linked and offers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts import units, verdicts
from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.plugins.module_utils.program.status import failures, report
from ansible_collections.pic.cells.plugins.module_utils.records.model import Down
from ansible_collections.pic.cells.plugins.module_utils.records.store import Store
from ansible_collections.pic.cells.plugins.plugin_utils import answers
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_advice import said_in_a_run, told
from ansible_collections.pic.cells.tests.unit.world import World, call, program

PHONE = "10.0.0.2"


@prepared
def ordered(linked: World) -> World:
    """Return three cells in which cella's phone leaves by cellb, else by cellc, and nobody else by either."""
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = ["cellb", "cellc"]
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    run(linked)
    return linked


def run(world: World, *job: str, **given: str) -> Any:
    """Carry out site or a job as check mode has predicted it, and see that a second run has nothing to do."""

    def once(check: bool) -> Any:
        return world.job(job[0], check=check, **given) if job else world.site(check=check)

    predicted, done = once(True), once(False)
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    assert once(False).changed == []
    return done


def exit_of(world: World) -> str:
    """Return by which cell the phone leaves by the kernel's policy rules: P+1 names the table of an exit, P+2 alone is closed, none is direct."""
    rules = [rule for rule in world["cella"].rules[4] if rule.src == PHONE]
    tables = {world.link("cella", name)["exit_table"]: name for name in ("cellb", "cellc")}
    found = [tables[rule.table] for rule in rules if rule.table in tables]
    return found[0] if found else "closed" if rules else "direct"


def is_open(world: World, name: str) -> bool:
    """Tell whether the tunnel of an exit takes packets to everywhere, and its table leads there."""
    host, table = world["cella"], world.link("cella", name)["exit_table"]
    allowed = "0.0.0.0/0" in host.wg[f"pic-{name}"].peers[world.public_key(name)].allowed
    assert allowed == (f"pic-{name}" in {route.dev for route in host.routes if route.table == table})
    return allowed


def offered(world: World, by: str, value: str) -> Any:
    """Let a cell offer cella an exit, or withdraw that."""
    return run(world, "offer_exit", cell=by, remote_cell="cella", offered=value)


def found(world: World, **down: Down) -> list[str]:
    """Let the watcher of exits find which do not work, and root look at that. Returns what restore has done, and sees that it was all."""
    host = world["cella"]
    host.files[verdicts.FOUND] = (0o600, verdicts.render_verdict(down))
    rc, out, err = program(host, "restore", "--exits")
    assert (rc, err, restore(host, "/var/lib/pic").repairs) == (0, "", [])
    return out.splitlines()


def at(second: int, answers_since: int | None = None, why: str = "silent", held: bool = False) -> Down:
    """Return an exit that went down at a second of a minute, and perhaps works again."""
    return Down(f"2026-11-29T12:03:{second:02}Z", why, answers_since and f"2026-11-29T12:03:{answers_since:02}Z", held)


def test_it_leaves_by_the_first_and_the_next_one_is_ready(ordered: World) -> None:
    assert next(peer for peer in ordered.record("cella", "peer_registry.json")["peers"] if peer["name"] == "phone")["route_via"] == ["cellb", "cellc"]
    assert exit_of(ordered) == "cellb"
    assert is_open(ordered, "cellb")
    assert is_open(ordered, "cellc")
    assert ordered.link("cellc", "cella")["remote_exit_relay_active"], "the next exit relays before it is needed"


def test_it_moves_when_its_exit_is_withdrawn_and_returns_when_that_is_offered_again(ordered: World) -> None:
    ordered.reset()
    offered(ordered, "cellb", "no")
    assert (exit_of(ordered), is_open(ordered, "cellb")) == ("cellc", False)
    assert any(PHONE in words for words in ordered["cella"].ended)
    assert f"-s {PHONE}/32 -j PIC-HOME" in ordered["cella"].chain(4, "PIC-ROUTED")
    assert any("internet via cellc, since cellb offers no exit now" in line for line in program(ordered["cella"], "status")[1].splitlines())
    assert "the records say via cellb, else cellc" in program(ordered["cella"], "explain", "phone")[1]
    assert (program(ordered["cella"], "check")[0], restore(ordered["cella"], "/var/lib/pic").repairs) == (0, [])
    offered(ordered, "cellb", "yes")
    assert exit_of(ordered) == "cellb"


def test_it_has_no_internet_while_none_of_its_exits_offers(ordered: World) -> None:
    offered(ordered, "cellb", "no")
    done = offered(ordered, "cellc", "no")
    assert exit_of(ordered) == "cellb"
    assert not is_open(ordered, "cellb")
    assert not is_open(ordered, "cellc")
    assert any("none of which offers an exit now" in text for text in done.warnings())
    assert "blocked, since none of cellb, cellc offers an exit now" in program(ordered["cella"], "status")[1]
    assert any("no internet for phone, since none of cellb, cellc offers an exit" in line for line in done.said["cellc"])


def test_it_goes_direct_in_the_end_where_that_is_stated_and_only_then(linked: World) -> None:
    run(linked, "route_peer", cell="cella", peer="phone", via_cell="cellb, cellc\ndirect")
    assert exit_of(linked) == "cellb"
    offered(linked, "cellb", "no")
    assert exit_of(linked) == "cellc"
    offered(linked, "cellc", "no")
    assert exit_of(linked) == "direct"
    assert f"-s {PHONE}/32 -j PIC-HOME" not in linked["cella"].chain(4, "PIC-ROUTED")
    assert "internet direct, since none of cellb, cellc offers an exit now" in program(linked["cella"], "status")[1]
    offered(linked, "cellc", "yes")
    assert exit_of(linked) == "cellc"
    assert f"-s {PHONE}/32 -j PIC-HOME" in linked["cella"].chain(4, "PIC-ROUTED")


def test_on_its_way_to_direct_the_kill_switch_goes_last(linked: World) -> None:
    """No record of the device changes with the offer, so it is the kernel that tells that it was routed."""
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = ["cellb", "direct"]
    run(linked)
    linked.reset()
    linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    steps = linked["cella"].steps
    first, last = (next(n for n, step in enumerate(steps) if "rule del" in step and f"from {PHONE} " in step and pref in step) for pref in ("4001", "4002"))
    assert not [step for step in steps[first:last] if "tables-restore" in step]
    assert any("tables-restore" in step for step in steps[last:])


def test_it_moves_when_its_exit_is_unlinked(ordered: World) -> None:
    run(ordered, "unlink", cell="cella", remote_cell="cellb")
    rules = [rule for rule in ordered["cella"].rules[4] if rule.src == PHONE]
    assert {rule.table for rule in rules} == {None, ordered.link("cella", "cellc")["exit_table"]}


def test_after_a_boot_it_leaves_by_the_first_that_offers(ordered: World) -> None:
    offered(ordered, "cellb", "no")
    host = ordered["cella"]
    before = host.text()
    host.boot()
    assert restore(host, "/var/lib/pic").errors == []
    assert (exit_of(ordered), host.text() == before) == ("cellc", True)


def test_another_exit_behind_takes_nothing_from_anybody(linked: World) -> None:
    host = linked["cella"]
    host.reset()
    run(linked, "route_peer", cell="cella", peer="phone", via_cell="cellb,cellc")
    assert exit_of(linked) == "cellb"
    assert not any(PHONE in words for words in host.ended), "it has not moved, and keeps its flows"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("direct,cellb", "direct stands before 'cellb'"),
        ("cellb,cellc,cellb", "names an exit twice"),
        (" , ", "names no exit"),
        ("cellb,cella", "is the cell itself"),
        ("cellb,Cell C", "'Cell C' is not a valid name"),
        ("cellb,celld", "does not know cell 'celld'"),
    ],
)
def test_a_list_that_cannot_be_is_refused(linked: World, value: str, why: str) -> None:
    before = linked.text()
    with pytest.raises(Exception, match=why):
        linked.job("route_peer", cell="cella", peer="phone", via_cell=value)
    assert linked.text() == before


@pytest.mark.parametrize("value", [["direct", "cellb"], ["cellb", "cellb"], ["cellb", "cella"]])
def test_a_list_that_cannot_be_is_refused_in_an_inventory_too(linked: World, value: list[str]) -> None:
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = value
    with pytest.raises(BadInput, match="route_via of peer 'phone'"):
        linked.site()


@pytest.mark.parametrize(
    "said",
    [
        {"route_via": ["direct", "cellb"]},
        {"route_via": []},
        {"route_via": ["cellb", "\x1b[2J"]},
        {"route_via": ["cellb", ["cellc"]]},
        {"route_via": [f"cell{number}" for number in range(2000)]},
        {"route_via": {"cellb": 1}},
        {"exit": "\x1b[2J"},
        {"exit": ["cellb"]},
    ],
)
def test_what_a_cell_answers_of_exits_is_judged(ordered: World, said: dict[str, Any]) -> None:
    honest = call("pic_cell_info", ordered["cella"], {})
    assert not answers.judged("pic_cell_info", honest).get("failed")
    honest["peers"]["phone"].update(said)
    assert answers.judged("pic_cell_info", honest)["failed"]


def test_an_exit_that_is_none_of_the_list_ends_no_report(ordered: World) -> None:
    honest = call("pic_cell_info", ordered["cella"], {})
    honest["peers"]["phone"]["exit"] = "celld"
    assert any("internet via celld" in line for line in report(answers.judged("pic_cell_info", honest)))


# An exit that does not work


def test_it_moves_while_its_exit_does_not_work_and_returns(ordered: World) -> None:
    host = ordered["cella"]
    host.reset()
    assert found(ordered, cellb=at(11)) != []
    assert exit_of(ordered) == "cellc"
    assert any(PHONE in words for words in host.ended)
    assert f"-s {PHONE}/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED")
    assert is_open(ordered, "cellb"), "it is ready for the way back"
    assert ordered.link("cellb", "cella")["remote_exit_relay_active"], "nobody is told of it"
    assert ordered.site(check=True).changed == ordered.site().changed == []
    host.reset()
    (sentence,) = told(host)
    assert sentence.startswith("Exit cellb has not answered through its tunnel since 2026-11-29T12:03:11Z. ")
    assert said_in_a_run(ordered, "cella") == [sentence]
    since = "since cellb has not answered through its tunnel since 2026-11-29T12:03:11Z"
    assert f"internet via cellc, {since}" in program(host, "status")[1]
    found(ordered)
    assert exit_of(ordered) == "cellb"


def test_the_order_of_a_move_is_closed_in_between(ordered: World) -> None:
    host = ordered["cella"]
    host.reset()
    found(ordered, cellb=at(11, why="offline"))
    table = {name: str(ordered.link("cella", name)["exit_table"]) for name in ("cellb", "cellc")}
    left, entered = (
        next(n for n, step in enumerate(host.steps) if f"rule {verb} " in step and PHONE in step and t in step)
        for verb, t in [("del", table["cellb"]), ("add", table["cellc"])]
    )
    flows = [n for n, step in enumerate(host.steps) if "conntrack" in step and PHONE in step]
    assert left < min(flows) <= max(flows) < entered
    assert not any("pref 4002" in step and "del" in step for step in host.steps)
    assert "cellb has had no internet itself since" in program(host, "status")[1]


@pytest.mark.parametrize(
    ("down", "wanted"),
    [
        pytest.param({"cellc": at(1)}, "cellb", id="one that is not in use"),
        pytest.param({"cellb": at(1)}, "cellc", id="the first"),
        pytest.param({"cellb": at(1), "cellc": at(5)}, "cellc", id="then the other: it stays where it is"),
        pytest.param({"cellb": at(1), "cellc": at(1)}, "cellb", id="both at once, as where the own uplink is gone: it stays"),
        pytest.param({"cellb": at(5, held=True), "cellc": at(5)}, "cellc", id="both at once, but the first was not in use yet: it stays"),
        pytest.param({"cellb": at(1, 9), "cellc": at(5)}, "cellb", id="both, and one works again: no waiting"),
        pytest.param({"cellb": at(1, 9), "cellc": at(5, 8)}, "cellc", id="both work again: the one that has for longer"),
        pytest.param({"cellb": at(1, 9)}, "cellc", id="it works again, but the other has all the time"),
        pytest.param({"celld": at(1), "\x1b[2J": at(1), "cella": at(1)}, "cellb", id="others"),
    ],
)
def test_which_exit_is_in_use(ordered: World, down: dict[str, Down], wanted: str) -> None:
    found(ordered, **down)
    assert exit_of(ordered) == wanted


def test_a_switch_waits_for_no_name_and_no_interface(ordered: World) -> None:
    host = ordered["cella"]
    host.by_hand("ip link del dev pic-cellb")
    host.files[verdicts.FOUND] = (0o600, verdicts.render_verdict({"cellb": at(1)}))
    host.reset()
    rc, out, _err = program(host, "restore", "--exits")
    assert (rc, exit_of(ordered)) == (0, "cellc")
    assert PHONE in out
    assert not [argv for argv in host.log if argv[0] in ("getent", "systemctl", "wg-quick")]
    assert "pic-cellb" not in host.links
    assert restore(host, "/var/lib/pic").errors == []
    assert "pic-cellb" in host.links


def test_no_flow_ends_while_all_are_down(ordered: World) -> None:
    found(ordered, cellb=at(1))
    ordered.reset()
    assert found(ordered, cellb=at(1), cellc=at(5)) == []
    assert ordered["cella"].ended == []
    assert "internet via cellc, though cellc has not answered through its tunnel since 2026-11-29T12:03:05Z" in program(ordered["cella"], "status")[1]
    read = answers.judged("pic_cell_info", call("pic_cell_info", ordered["cella"], {}))
    assert "no internet for phone, since cellc has not answered through its tunnel since 2026-11-29T12:03:05Z" in failures(read, ["silent"])[0]
    found(ordered, cellb=at(1, 9), cellc=at(5))
    assert "no internet" not in str(failures(answers.judged("pic_cell_info", call("pic_cell_info", ordered["cella"], {})), ["silent"]))


def test_direct_is_taken_while_none_works_where_that_is_stated(linked: World) -> None:
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = ["cellb", "direct"]
    run(linked)
    found(linked, cellb=at(1))
    assert exit_of(linked) == "direct"
    assert "internet direct, since cellb has not answered through its tunnel since 2026-11-29T12:03:01Z" in program(linked["cella"], "status")[1]
    assert linked.site(check=True).changed == linked.site().changed == []
    read = answers.judged("pic_cell_info", call("pic_cell_info", linked["cella"], {}))
    assert "phone leaves directly, since cellb has not answered through its tunnel since" in failures(read, ["silent"])[0]
    found(linked, cellb=at(1, 9))
    assert exit_of(linked) == "direct", "it has to hold first"
    found(linked)
    assert exit_of(linked) == "cellb"


def test_a_device_with_one_exit_stays_there(linked: World) -> None:
    assert exit_of(linked) == "cellb"
    assert found(linked, cellb=at(1)) == []
    assert exit_of(linked) == "cellb"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"down": 5}',
        '{"down": [5]}',
        '{"down": [{"exit": "cellb"}]}',
        '{"down": [{"exit": "cellb", "since": "now", "why": "silent", "answers": null, "held": false}]}',
        '{"down": [{"exit": "cellb", "since": "2026-11-29T12:03:11Z\\n", "why": "silent", "answers": null, "held": false}]}',
        '{"down": [{"exit": "cellb", "since": "2026-11-29T12:03:11Z", "why": "\\u001b[2J", "answers": null, "held": false}]}',
        '{"down": [{"exit": "cellb", "since": "2026-11-29T12:03:11Z", "why": ["silent"], "answers": null, "held": false}]}',
        '{"down": [{"exit": "cellb", "since": "2026-11-29T12:03:11Z", "why": "silent", "answers": true, "held": false}]}',
        '{"down": [{"exit": ["cellb"], "since": "2026-11-29T12:03:11Z", "why": "silent", "answers": null, "held": false}]}',
        "[" * 100_000,
        '{"down": []}' + " " * 2_000_000,
        "\udcff",
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_verdict_moves_nobody(ordered: World, text: str) -> None:
    ordered["cella"].files[verdicts.FOUND] = (0o600, text)
    assert restore(ordered["cella"], "/var/lib/pic").repairs == []
    assert exit_of(ordered) == "cellb"


def test_only_exits_that_have_an_alternative_are_watched(linked: World) -> None:
    def names() -> list[str]:
        return [item.name for item in verdicts.parse_watched(linked["cella"].read("/var/lib/pic/exits/exits.json") or "")[1]]

    assert names() == []
    run(linked, "route_peer", cell="cella", peer="phone", via_cell="cellb,cellc")
    assert names() == ["cellb", "cellc"]
    offered(linked, "cellc", "no")
    assert names() == ["cellb"]
    run(linked, "route_peer", cell="cella", peer="phone", via_cell="cellb")
    assert names() == []


def test_an_exit_without_an_address_to_ask_is_not_taken_for_dead(ordered: World) -> None:
    state = Store(ordered["cella"], "/var/lib/pic").load()
    assert state.watched_exits == ["cellb", "cellc"]
    state.links["cellb"].address = []
    assert state.watched_exits == ["cellc"]


def test_what_is_stated_of_watching_reaches_the_watcher(ordered: World) -> None:
    ordered.inventory["cella"].update(cell_exit_failures=5, cell_exit_hold="7", cell_exit_switches=2, cell_exit_hold_limit=70)
    run(ordered)
    limits, exits = verdicts.parse_watched(ordered["cella"].read("/var/lib/pic/exits/exits.json") or "")
    assert limits == verdicts.Limits(5, 7, 2, 70)
    assert [(item.interface, item.port, item.family) for item in exits] == [("pic-cellb", 8088, 4), ("pic-cellc", 8088, 4)]
    assert exits[0].addresses == ordered.link("cella", "cellb")["address"]


@pytest.mark.parametrize("value", ["soon", 0, -1, 3.5, [3], True, "1e3", 10**30])
def test_a_limit_that_is_none_is_refused(ordered: World, value: Any) -> None:
    ordered.inventory["cella"]["cell_exit_hold"] = value
    before = ordered.text()
    with pytest.raises(Exception, match="exit_hold"):
        ordered.site()
    assert ordered.text() == before


def test_a_cell_of_before_the_watcher_gets_its_program_and_units_and_nothing_else(linked: World) -> None:
    host = linked["cella"]
    for name in ("cell.json", "cell_links.json"):
        path = f"/var/lib/pic/{name}"
        text = re.sub(
            r'^ *"(exit_(failures|hold|switches|hold_limit)|exit_offered_until|exit_offered_rate)": .*\n', "", host.files[path][1], flags=re.MULTILINE
        )
        assert text != host.files[path][1]
        host.files[path] = (0o600, text)
    new = [path for path in host.files if "pic-cell-probe" in path or "pic-cell-switch" in path or path.startswith("/var/lib/pic/exits/")]
    for path in (*new, agent.PROGRAM):
        del host.files[path]
    assert set(json.loads(host.files["/var/lib/pic/view/links.json"][1])) == {"public_key", "port", "addresses", "links"}, "as it was"
    host.active -= {units.PROBE, units.SWITCH_PATH}
    host.reset()
    assert [task.partition(" ")[2] for _host, task in linked.site().changed] == ["pic_cell_agent"]
    assert not [step for step in host.steps if not step.startswith("systemctl ") and step.removeprefix("write ") not in (*new, agent.PROGRAM)]
