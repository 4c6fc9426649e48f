# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No cell's name is what another one's is turned into."""

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import names
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, call, program

LONG = "office-of-the-family-in-oslo"
BEFORE = hashlib.sha256(LONG.encode()).hexdigest()[:12]  # as chains were named once


@pytest.mark.parametrize("kind", ["L", "I", "S"])
def test_no_cell_can_be_named_as_the_chain_of_another(kind: str) -> None:
    long = names.chain(kind, LONG)
    assert len(long) == 28 and names.chain(kind, LONG + "x") != long
    with pytest.raises(BadInput):
        names.check_name("Cell", long.removeprefix(f"PIC-{kind}-"))


def test_no_cell_can_be_named_as_the_interface_of_another() -> None:
    long = names.link_interface(LONG)
    assert len(long) == 15 and names.check_interface(long) == long and long.startswith("pic-")
    with pytest.raises(BadInput):
        names.check_name("Cell", long.removeprefix("pic-"))


def test_a_cell_named_as_the_hash_of_another_has_none_of_its_rights(linked: World) -> None:
    host = linked["cella"]
    for number, name in enumerate((LONG, BEFORE), 20):
        link = {"name": name, "public_key": made_key(name), "networks": [f"10.{number}.0.0/24"], "address": [f"10.{number}.0.1"]}
        assert not call("pic_cell_rules", host, {**link, "share": ["files"] if name == LONG else []}).get("failed")
        assert not call("wg_cell_peer", host, link).get("failed")
    shared = "-m conntrack --ctorigdst 10.0.0.1"
    chains = {line.split()[-1] for line in host.chain(4, "PIC-LINK") if "-s 10.21.0.0/24" in line and " PIC-L" in line}
    assert chains == {f"PIC-L-{BEFORE}"}
    assert not any(shared in line for line in host.chain(4, f"PIC-S-{BEFORE}"))
    assert any(shared in line for line in host.chain(4, names.chain("S", LONG)))


def test_chains_and_an_interface_of_before_are_taken_over(linked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface stays, as it is in the record; the chains are renamed by whatever plans rules next, also by restore alone."""
    host, link = linked["cella"], {"name": LONG, "public_key": made_key("far"), "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"]}
    with monkeypatch.context() as before:
        before.setattr(names, "_fitting", lambda prefix, name, length: prefix + (name if len(prefix + name) <= length else BEFORE[: length - len(prefix)]))
        assert not call("pic_cell_rules", host, {**link, "share": ["files"]}).get("failed")
        assert not call("wg_cell_peer", host, link).get("failed")
        assert not call("pic_cell_restore", host, {}).get("changed")
    assert f"PIC-S-{BEFORE}" in host.text()
    assert program(host, "restore")[0] == 0
    assert f"-{BEFORE} " not in host.text() and names.chain("S", LONG) in host.text()
    assert f"pic-{BEFORE[:11]}" in host.wg and f"-i pic-{BEFORE[:11]}" in host.text()
    assert program(host, "restore") == (0, "", "")
