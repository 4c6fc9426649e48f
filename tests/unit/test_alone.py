# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules without the role, in anybody's playbook."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_options import documented
from ansible_collections.pic.cells.tests.unit.world import FORWARDING, World, call, program

LIST_OF = {"wg_cell_peer": "peers", "pic_cell_rules": "cells", "pic_policy_route": "routes"}
FAR = {
    "name": "bergen",
    "public_key": made_key("bergen"),
    "networks": ["10.0.1.0/24", "fd00:b::/64"],
    "address": ["10.0.1.1", "fd00:b::1"],
    "endpoint": "192.0.2.12:51821",
}


@pytest.fixture
def oslo(tmp_path: Path) -> FakeHost:
    """Return a host that is no cell yet."""
    return World(tmp_path, {"oslo": {}})["oslo"]


def examples(module: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that a module's documentation shows."""
    documented = importlib.import_module(f"ansible_collections.pic.cells.plugins.modules.{module}").EXAMPLES
    return [(module, task[f"pic.cells.{module}"] or {}) for task in yaml.safe_load(documented) if f"pic.cells.{module}" in task]


def first(module: str) -> tuple[str, dict[str, Any]]:
    return examples(module)[0]


@pytest.mark.parametrize(
    ("module", "args", "stray", "remedy"),
    [
        ("wg_cell_peer", {"peers": [{"name": "bergen"}], "state": "absent"}, "state", "peers"),
        ("wg_cell_peer", {"peers": [{"name": "bergen"}], "preshared_key": made_key("psk")}, "preshared_key", "peers"),
        ("wg_cell_peer", {"peers": [], "keepalive": 0, "exit": False}, "keepalive, exit", "peers"),
        ("pic_cell_rules", {"cells": [{"name": "bergen"}], "share": []}, "share", "cells"),
        ("pic_cell_rules", {"share": []}, "share", "name"),
        ("pic_cell_rules", {"state": "absent"}, "state", "name"),
        ("pic_cell_rules", {"name": "", "offer_exit": False}, "offer_exit", "name"),
        ("pic_policy_route", {"via_cell": "bergen"}, "via_cell", "peer"),
        ("pic_policy_route", {"addresses": ["10.0.0.2"]}, "addresses", "peer"),
        ("pic_policy_route", {"routes": [{"peer": "phone"}], "via_cell": "bergen"}, "via_cell", "routes"),
    ],
)
def test_an_option_that_says_nothing_is_refused(oslo: FakeHost, module: str, args: dict[str, Any], stray: str, remedy: str) -> None:
    result = call(module, oslo, args)
    assert result["failed"]
    assert result["msg"].startswith(stray)
    assert remedy in result["msg"]
    assert made_key("psk") not in result["msg"]
    assert oslo.steps == []


def test_every_option_of_an_item_is_one_or_the_other(oslo: FakeHost) -> None:
    for module, items in LIST_OF.items():
        options = documented(module)
        assert set(options[items]["suboptions"]) <= set(options), module
        assert not [name for name in options[items]["suboptions"] if "default" in options[name]], "a default could not be told from what is given"
    assert call("pic_cell_rules", oslo, {"name": "bergen", "share": []})["changed"]


DENY_FIRST = ("pic_cell_rules", {"cells": []})


@pytest.mark.parametrize("before", [[DENY_FIRST], []], ids=["default deny first", "tunnel first"])
def test_the_examples_one_after_the_other_make_a_cell_that_closes_and_comes_back(oslo: FakeHost, before: list[Any]) -> None:
    oslo.files.update({path: (0o644, text) for path, text in FORWARDING.items()})
    assert DENY_FIRST in examples("pic_cell_rules")
    calls = [first("wg_cell"), *before, *map(first, ("wg_cell_peer", "pic_cell_rules", "pic_policy_route", "pic_cell_agent"))]
    said = {}
    for module, args in calls:
        predicted = call(module, oslo, args, check=True)
        result = call(module, oslo, args)
        assert not result.get("failed"), result
        assert (predicted["changed"], predicted["diff"], predicted["warnings"]) == (result["changed"], result["diff"], result["warnings"])
        said[module] = result["warnings"]
        assert not call(module, oslo, args)["changed"], module
    assert program(oslo, "check")[:2] == (0, ""), "what the modules have made is what the records say"
    assert ["pic_cell_rules" in " ".join(said[module]) for module in ("wg_cell_peer", "pic_cell_rules")] == [True, False]
    assert all("pic_cell_agent" in " ".join(said[module]) for module in LIST_OF)
    closed = {rule.src for rules in oslo.rules.values() for rule in rules if rule.table is None}
    assert closed == {"10.0.0.2", "fd00:a::2"}, "fail closed"
    for module, args in calls[:-1]:
        assert call(module, oslo, args)["warnings"] == [], "nothing is missing any more"


def test_an_offer_that_somebody_states_is_known_to_the_next_call(oslo: FakeHost) -> None:
    for module, args in (first("wg_cell"), first("pic_cell_rules"), ("wg_cell_peer", FAR)):
        call(module, oslo, args)
    stated = {"peer": "phone", "via_cell": "bergen", "cells": [{"name": "bergen", "offered": True}]}
    predicted = call("pic_policy_route", oslo, stated, check=True)
    assert "cell bergen: offers an exit" in predicted["diff"]["after"]
    assert call("pic_policy_route", oslo, stated)["diff"] == predicted["diff"]
    before = oslo.text()
    assert not call("pic_policy_route", oslo, {})["changed"]
    assert (oslo.text(), call("pic_policy_route", oslo, {})["pending"]) == (before, [])
    assert call("pic_policy_route", oslo, {"cells": [{"name": "bergen", "offered": False}]})["changed"]
    assert call("pic_policy_route", oslo, {})["pending"] == ["phone"]


def test_a_tunnel_alone_is_said_to_have_no_rules(oslo: FakeHost) -> None:
    oslo.files.update({path: (0o644, text) for path, text in FORWARDING.items()})
    warned = " ".join(call("wg_cell_peer", oslo, FAR)["warnings"])
    assert "wg_cell first" in warned
    call(*first("wg_cell")[:1], oslo, first("wg_cell")[1])
    for check in (True, False):
        warned = " ".join(call("wg_cell_peer", oslo, FAR, check=check)["warnings"])
        assert "Call pic_cell_rules" in warned
        assert "Call pic_cell_agent" in warned
    call("pic_cell_rules", oslo, {"name": "bergen"})
    assert "pic_cell_rules" not in " ".join(call("wg_cell_peer", oslo, FAR)["warnings"])


@pytest.mark.parametrize("off", ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"])
def test_forwarding_that_is_off_is_said(oslo: FakeHost, off: str) -> None:
    oslo.files.update({path: (0o644, text) for path, text in FORWARDING.items()})
    oslo.files[off] = (0o644, "0\n")
    call(*first("wg_cell")[:1], oslo, first("wg_cell")[1])
    assert off.removeprefix("/proc/sys/").replace("/", ".") in " ".join(call("pic_cell_rules", oslo, {"cells": []})["warnings"])


def test_what_the_other_side_needs_is_returned(oslo: FakeHost) -> None:
    call(*first("wg_cell")[:1], oslo, first("wg_cell")[1])
    result = call("wg_cell_peer", oslo, FAR)
    assert result["public_key"] == call(*first("wg_cell")[:1], oslo, first("wg_cell")[1])["public_key"]
    assert result["links"] == {"bergen": {"interface": "pic-bergen", "listen_port": 51821}}
