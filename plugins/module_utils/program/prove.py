# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the exits of a device carry its traffic, and whether the cell's own uplink is closed for it: asked of the exits and of the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..base.command import Host
from ..base.errors import StoreError
from ..kernel.handshakes import SILENT, age, is_recent
from ..kernel.model import WgPeer
from ..parts import probes
from ..parts.part import Context
from ..parts.verdicts import Watched, watched_link
from ..records.model import Link, Peer
from ..records.store import Store
from . import explain, whoami
from .probe import LARGE, SMALL, Answer, ask
from .restore import drafted
from .whoami import ask as ask_whoami

PATIENCE = 3.0  # seconds for all exits together: a person waits
NOBODY = "no device leaves through another cell"


@dataclass
class Exit:
    """What was found of one exit.

    asked: whether it could be. tunnel: whether something answers through it. internet: whether the other cell has a route, by family as it says it.
    addresses: as which the internet sees it, by family, where somebody is stated who says so.
    full_size: whether packets as large as the tunnel lets through arrive there; None where nobody could tell. mtu: that size, in bytes.
    """

    name: str
    asked: bool = False
    tunnel: bool = False
    internet: dict[str, bool] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    full_size: bool | None = None
    mtu: int | None = None
    found: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def fails(self) -> bool:
        """Tell whether it is known to carry no traffic; of one that could not be asked nobody knows."""
        return self.asked and bool(self.wrong)


@dataclass
class Device:
    """What was found of a device: its exits, best first, the one that is in use, and whether the own uplink is closed for it."""

    name: str
    exit: str | None
    exits: list[Exit]
    found: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def is_proven(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.wrong and not any(item.wrong for item in self.exits)


def prove(host: Host, path: str, name: str | None = None) -> list[Device]:
    """Look at a device of the cell, None for all that leave through another one, and ask their exits.

    path: the folder with the records. Raises BadInput for a device that is not known, and StoreError where the records do not say what there is.
    """
    with Store(host, path).lock(create=False):
        context = drafted(host, path)
        if context.store.warnings or not context.stored.cell.name:
            raise StoreError(" ".join(context.store.warnings) or f"This host is not a cell: there is no record of it in {path}.")
        routed = [peer for _name, peer in sorted(context.stored.peers.items()) if peer.exits]
        devices, items = look(context, [explain.device(context, name)] if name else routed)
        exits = {found.name: found for device in devices for found in device.exits}
        asked = whoami.questions(context.stored, [item.name for item in items])
    question(exits.values(), items)  # no run has to wait while a silent exit is waited for
    _ask_for_addresses(exits, asked)
    return devices


def look(context: Context, peers: Sequence[Peer]) -> tuple[list[Device], list[Watched]]:
    """Look at some devices by records and kernel. Returns them, and how their exits are to be asked, which takes time."""
    exits, items = look_at(context, [name for peer in peers for name in peer.exits])
    return [_device(context, peer, [exits[name] for name in peer.exits]) for peer in peers], items


def look_at(context: Context, names: Iterable[str]) -> tuple[dict[str, Exit], list[Watched]]:
    """Look at some exits by records and kernel. Returns them by their names, and how those that can be exits are to be asked."""
    state = context.stored
    exits = {name: _of_records(context, name) for name in names}
    items = [_watched(context, state.links[name]) for name, found in exits.items() if not found.wrong]
    return exits, [item for item in items if item.addresses or item.targets]


def question(exits: Iterable[Exit], items: Sequence[Watched]) -> None:
    """Ask exits at the same time, and put down what they answer."""
    named = {found.name: found for found in exits}
    answers = ask(items, PATIENCE, SMALL)
    large = ask([item for item in items if item.addresses and answers.get(item.name)], PATIENCE, LARGE)
    for item in items:
        _judge(named[item.name], item, answers, large)


def _ask_for_addresses(exits: Mapping[str, Exit], asked: Iterable[whoami.Question]) -> None:
    """Ask through exits that answer as which addresses the internet sees them, and put that down. That nobody says it is no fault of an exit."""
    asked = [item for item in asked if exits[item.exit].tunnel]
    for name, addresses in ask_whoami(asked, PATIENCE).items() if asked else ():
        exits[name].addresses = addresses
        silent = [family for family in dict.fromkeys(f"ipv{whoami.family_of(item)}" for item in asked if item.exit == name) if family not in addresses]
        if addresses:
            exits[name].found.append(f"the internet sees {name} as {' and '.join(addresses[family] for family in sorted(addresses))}")
        exits[name].found += [f"nobody says as which IPv{family[-1]} address the internet sees {name}" for family in silent]


def is_proven(devices: Iterable[Device]) -> bool:
    """Tell whether nothing is wrong with any device."""
    return all(device.is_proven() for device in devices)


def facts(devices: Iterable[Device]) -> dict[str, Any]:
    """Return what was found for a program to read."""
    found = list(devices)
    return {"proven": is_proven(found), "peers": [asdict(device) for device in found]}


def report(devices: Iterable[Device]) -> list[str]:
    """Return what was found as lines."""
    return [line for device in devices for line in words(device)] or [NOBODY]


def failures(peers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what is wrong with which devices, a line each. peers: as facts returns them."""
    reasons: dict[str, list[str]] = {}
    for peer in peers:
        for line in (*(line for item in peer["exits"] for line in item["wrong"]), *peer["wrong"]):
            reasons.setdefault(line, []).append(peer["name"])
    return [f"peer{'s' if len(names) > 1 else ''} {', '.join(names)}: {line}" for line, names in reasons.items()]


def words(device: Device) -> list[str]:
    """Return what was found of a device as lines."""
    lines = [f"peer {device.name}: leaves through {device.exit}" if device.exit else f"peer {device.name}: goes direct"]
    for item in device.exits:
        lines += [*(f"    {line}" for line in item.found), *(f"    wrong: {line}" for line in item.wrong)]
    return [*lines, *(f"    {line}" for line in device.found), *(f"    wrong: {line}" for line in device.wrong)]


def _of_records(context: Context, name: str) -> Exit:
    """Return an exit with what keeps it from being asked, by the records and by its interface."""
    why, link = explain.why_unusable(context, name), context.stored.links.get(name)
    interface = context.observed.wireguard.get(str(link.interface)) if link else None
    found = Exit(name, mtu=interface.mtu if interface else None, wrong=[why] if why else [])
    if link and interface and not why and link.provided and not _watched(context, link).targets:
        handshake = interface.peers.get(str(link.public_key), WgPeer("")).handshake
        missing = "its own way for questions is missing (pic-cell restore)"
        why = f"as {missing if watched_link(context.stored.cell, link).targets else 'no target is stated (cell_exit_probes)'}"
        if link.keepalive == 0 or is_recent(handshake, context.now, SILENT):
            found.found.append(f"nobody can tell whether exit {name} carries traffic, {why}; {age(handshake, context.now)}")
        else:
            found.asked, found.wrong = True, [f"exit {name} is silent: {age(handshake, context.now)}"]
    return found


def _watched(context: Context, link: Link) -> Watched:
    """Return how an exit is asked; a provider that no device uses is asked nothing before a run has made the way for it, as none has after an upgrade."""
    item = watched_link(context.stored.cell, link)
    stands = link.exit_relay_active or not link.provided or probes.way_stands(context.stored, link, context.observed.routing)
    return item if stands else replace(item, targets=[])


def _judge(found: Exit, item: Watched, answers: Mapping[str, Answer], large: Mapping[str, Answer]) -> None:
    """Put down what one exit has answered."""
    cell = f"{'cell' if item.addresses else 'exit'} {item.name}"
    if item.name not in answers:
        found.wrong.append(f"{cell} could not be asked: this host is too busy, or has no connection left")
        return
    answer, found.asked = answers[item.name], True
    if answer is None:
        silent = "does not answer through its tunnel" if item.addresses else "lets nothing through: none of the stated targets answers"
        found.wrong.append(f"{cell} {silent}")
        return
    found.tunnel, found.internet = True, dict(answer)
    found.found += [f"{cell} answers through its tunnel"] if item.addresses else []
    if not answer:
        found.found.append(f"{cell} does not say whether it has internet: its program is older, or its firewall refuses the question")
        return
    has, lacks = ([f"IPv{family}" for family in (4, 6) if answer.get(f"ipv{family}") is wanted] for wanted in (True, False))
    if item.targets:
        found.found += [f"through {cell} the stated targets answer for {' and '.join(has)}"] if has else []
        found.wrong += [f"through {cell} none of the stated targets answers for {' and '.join(lacks)}"] if lacks else []
        has = lacks = []
    if has:
        found.found.append(f"{cell} says that it has a route to the internet for {' and '.join(has)}")
    if lacks:  # without IPv6 alone a device's IPv6 is refused, and its IPv4 works
        (found.found if f"IPv{item.family}" in has else found.wrong).append(f"{cell} says that it has no route to the internet for {' and '.join(lacks)}")
    if not item.addresses:
        return
    if item.name not in large:
        found.found.append(f"{cell} could not be asked for packets of {found.mtu} bytes: this host is too busy, or has no connection left")
        return
    found.full_size = bool(large[item.name])
    if found.full_size:
        found.found.append(f"{cell} gets packets of {found.mtu} bytes")
    else:
        found.wrong.append(f"{cell} gets small packets, but none of {found.mtu} bytes (set a smaller mtu for the link on both cells)")


def _device(context: Context, peer: Peer, exits: list[Exit]) -> Device:
    via = context.stored.exit_of(peer)
    device = Device(peer.name, via, exits)
    if via is None:
        return device
    for address in peer.addresses:
        family = 6 if ":" in address else 4
        rules = context.observed.routing[family].rules
        closing = {"policy rule": any(rule.source == address and rule.table is None and rule.destination is None for rule in rules)}
        closing.update({f"chains of {table}": all(explain.layer(context, family, table, address)) for table in explain.TABLES})
        lacking = [name for name, there in closing.items() if not there]
        if lacking:
            rest = "what is left keeps it closed" if any(closing.values()) else "it could go out directly"
            device.wrong.append(f"the own uplink is not closed for {address} by {' and '.join(lacking)}; {rest}. Put it back: pic-cell restore")
        else:
            device.found.append(f"the own uplink is closed for {address} by a policy rule, filter and mangle")
        device.found.append(f"DNS of {address}: {explain.who_answers(context.stored, peer, family)}")
    return device
