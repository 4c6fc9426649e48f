# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers for Prometheus, as its own parser reads them, and the dashboard that shows them."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.pic.cells.plugins.module_utils.program.metrics import METRICS, metrics
from ansible_collections.pic.cells.plugins.module_utils.program.status import CONDITIONS, DRIFT, EXPECTATION, PENDING, QUIET, failures
from ansible_collections.pic.cells.tests.unit.test_status import NOW, info
from ansible_collections.pic.cells.tests.unit.world import World, program

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana.json"


def read(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Read the text as Prometheus does: the value of each metric and its labels' values."""
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation and family.type in ("gauge", "counter") for family in families)
    return {(sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples}


def test_the_program_prints_what_status_says_and_changes_nothing(linked: World) -> None:
    host = linked["cella"]
    rc, out, err = program(host, "status", "--prometheus")
    found = json.loads(program(host, "status", "--json")[1])
    values = read(out)
    assert (rc, err, host.steps) == (0, "", [])
    assert {name for name, _labels in values} == set(METRICS)
    assert values["pic_cell_info", ("cella",)] == 1
    assert values["pic_cell_read_timestamp_seconds", ()] == found["read_at"]
    for name, link in found["links"].items():
        assert values["pic_cell_link_handshake_timestamp_seconds", (name,)] == link["last_handshake"]
        assert values["pic_cell_link_receive_bytes_total", (name,)] == link["received"]
        assert values["pic_cell_link_shares", (name, "out")] == sum(link["permissions"]["inbound"].values())
        assert values["pic_cell_link_exit_offered", (name, "in")] == link["remote_exit_offered"]
    assert values["pic_cell_device_exit_place", ("phone", "cellb")] == 1
    assert values["pic_cell_device_exit_place", ("laptop", "direct")] == 0
    assert values["pic_cell_exit_up", ("cellb",)] == 1


def test_what_is_wrong_is_a_number_to_alarm_for(linked: World) -> None:
    host = linked["cella"]
    assert read(program(host, "status", "--prometheus")[1])["pic_cell_differences", ()] == 0
    host.by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    drift = json.loads(program(host, "check", "--json")[1])["drift"]
    assert read(program(host, "status", "--prometheus")[1])["pic_cell_differences", ()] == len(drift) > 0
    found = {**info(linked), "warnings": ["a file cannot be read"]}
    found["links"]["cellb"].update(pending_push=True)
    found["exits"]["cellb"] = {"usable": True, "down": {"words": "cellb has not answered", "answers": False}}
    values = read("\n".join(metrics(found)) + "\n")
    assert values["pic_cell_warnings", ()] == 1 + len(found["advice"])
    assert (values["pic_cell_link_pending", ("cellb",)], values["pic_cell_link_pending", ("cellc",)]) == (1, 0)
    assert (values["pic_cell_exit_up", ("cellb",)], values["pic_cell_device_internet", ("phone",)]) == (0, 0)
    assert values["pic_cell_device_internet", ("laptop",)] == 1
    assert values["pic_cell_link_handshake_timestamp_seconds", ("cellb",)] == NOW - 30


def test_large_numbers_keep_each_digit_and_texts_stay_within_their_quotes(linked: World) -> None:
    found = {**info(linked), "warnings": []}
    found["links"]["cellb"]["received"] = 2**50 + 1
    found["links"]['b"} 7\n\\'] = found["links"].pop("cellc")
    values = read("\n".join(metrics(found)) + "\n")
    assert values["pic_cell_link_receive_bytes_total", ("cellb",)] == 2**50 + 1
    assert ("pic_cell_link_pending", ('b"} 7\n\\',)) in values


def test_a_host_that_is_no_cell_says_so(world: World) -> None:
    rc, out, _err = program(world["cella"], "status", "--prometheus")
    assert (rc, read(out)["pic_cell_info", ("",)]) == (0, 0)


@pytest.mark.parametrize("words", [("status", "--json", "--prometheus"), ("check", "--prometheus")])
def test_one_form_at_a_time_and_only_where_there_are_numbers(linked: World, words: tuple[str, ...]) -> None:
    assert program(linked["cella"], *words)[0] == 2


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": lambda found: None,
    "a difference": lambda found: found["drift"].append("missing: x"),
    "a silent link": lambda found: found["links"]["cellb"].update(last_handshake=NOW - 181),
    "a silent link without keepalives": lambda found: found["links"]["cellb"].update(last_handshake=0, keepalive=0),
    "a link without a key": lambda found: found["links"]["cellb"].update(public_key=None, last_handshake=0),
    "a link without networks": lambda found: found["links"]["cellb"].update(networks=[]),
    "a silent provider": lambda found: found["links"]["cellb"].update(networks=[], given_addresses=["10.64.3.7"], last_handshake=0),
    "a cell that was not told": lambda found: found["links"]["cellb"].update(pending_push=True),
    "an exit that is not offered": lambda found: found["peers"]["phone"].update(exit_effective=False),
    "an exit that is down": lambda found: found["exits"].update(cellb={"usable": True, "down": {"words": "cellb has not answered", "answers": None}}),
    "a device that leaves directly in the end": lambda found: found["peers"]["phone"].update(route_via=["cellb", "direct"], exit=None),
    "an expectation that holds": lambda found: found.update(expectations=[{"line": "phone to lan is refused", "why": ""}]),
    "an expectation that does not": lambda found: found.update(expectations=[{"line": "phone to lan is refused", "why": "10.0.0.2 reaches it"}]),
    "no cell": lambda found: found.update(name="", links={}, peers={}, exits={}, drift=[]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_rule_alarms_exactly_where_its_word_of_fail_on_holds(linked: World, change: str) -> None:
    found = {**info(linked), "warnings": [], "read_at": NOW}
    CHANGES[change](found)
    values = read("\n".join(metrics(found)) + "\n")
    rules = re.findall(r"- alert: (\w+)\n\s+expr: (.+)", (DASHBOARD.parent / "monitoring.md").read_text())
    meant = {"CellDiffers": DRIFT, "CellSilent": QUIET, "CellPending": PENDING, "CellBroken": EXPECTATION}
    alarms = set()
    for alert, expression in rules:
        for comparison in expression.split(" or ") if alert in meant else ():
            metric, sign, number = comparison.split()
            compare = {"==": operator.eq, ">": operator.gt}[sign]
            alarms |= {meant[alert] for (name, _labels), value in values.items() if name == metric and compare(value, float(number))}
    assert alarms == {sentence.partition(":")[0] for sentence in failures(found, CONDITIONS)}
    assert meant.keys() < {alert for alert, _expression in rules}


def test_the_dashboard_asks_for_metrics_that_there_are_and_shows_each() -> None:
    asked = set(re.findall(r"pic_cell_\w+", " ".join(target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"])))
    assert asked <= set(METRICS)
    assert set(METRICS) - asked == {"pic_cell_read_timestamp_seconds"}
