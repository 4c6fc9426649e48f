# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read back of a cell, in words; for the playbook and for the on-cell program alike."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..base import destinations
from ..base.names import DIRECT, answered_in_words, offers_no_exit, why_not_better
from ..kernel.handshakes import SILENT, age, is_recent
from ..parts.claims import unagreed
from ..records.codec import as_list

DRIFT, QUIET, PENDING, EXPECTATION = "drift", "silent", "pending", "expectation"
CONDITIONS = (DRIFT, QUIET, PENDING, EXPECTATION)


def report(info: Mapping[str, Any], now: float | None = None) -> list[str]:
    """Return the lines of the report.

    info: what Cell.info returned. now: seconds since the epoch; None for when the cell was read.
    """
    now = read_at(info) if now is None else now
    if not info["name"]:
        return ["This host is not a cell yet."]
    lines = [f"cell {info['name']}: {', '.join(info['networks'])}"]
    for name, link in sorted(info["links"].items()):
        if link.get("given_addresses"):
            lines.append(f"exit {name}: {tunnel(link, now)}; this cell is {' and '.join(link['given_addresses'])} there")
            continue
        shares = ", ".join(sorted(service for service, allowed in link["permissions"].get("inbound", {}).items() if allowed)) or "nothing"
        notes = [
            tunnel(link, now),
            f"shares {shares}",
            _offer(link),
            "may use its exit" if link["remote_exit_offered"] else "",
            "relays its devices, whose traffic is among these bytes" if relays(link) else "",
            f"has not told it the latest state ({link['last_push_error']})" if link["pending_push"] else "",
            f"has not heard yet that this cell is dialled at {link['moved']}" if link.get("moved") else "",
            f"knows this cell as {', '.join(link['known_as'])}, and may not know its networks yet" if link.get("known_as") else "",
            f"asks to have the networks {', '.join(_asked(link))}, and you have not agreed" if _asked(link) else "",
            f"waits until {link['invited_until']} for its owner to redeem the invitation" if link.get("invited_until") else "",
        ]
        lines.append(f"link {name}: {'; '.join(note for note in notes if note)}")
    for name, peer in sorted(info["peers"].items()):
        lines.append(f"peer {name}: {tunnel(peer, now)}; internet {internet(peer, info)}")
    lines += [f"differs from the records: {line}" for line in info["drift"]]
    lines += _expectations(info)
    return [*lines, *(f"warning: {line}" for line in info.get("advice", ()))]


def failures(info: Mapping[str, Any], conditions: Collection[str], now: float | None = None) -> list[str]:
    """Return a sentence for each of these conditions that holds on the cell.

    info: what Cell.info returned. conditions: of CONDITIONS. now: as for report.
    """
    found = dict.fromkeys(conditions, "")
    for condition, what in holding(info, now):
        if condition in found:
            found[condition] += f"{'; ' if found[condition] else f'{condition}: '}{what}"
    return [f"{sentence}." for sentence in found.values() if sentence]


def read_at(info: Mapping[str, Any]) -> float:
    """Return when the cell was read, by its own clock, which its handshakes go by."""
    return float(info.get("read_at") or time.time())


def holding(info: Mapping[str, Any], now: float | None = None) -> Iterator[tuple[str, str]]:
    """Yield each condition that holds on the cell, and where. Parameters as for report."""
    now = read_at(info) if now is None else now
    if not info["name"]:
        yield PENDING, "this host is not a cell yet"
    for line in info["drift"]:
        yield DRIFT, line
    for name, link in sorted(info["links"].items()):
        yield from of_link(name, link, now)
    for name in sorted(info["peers"]):
        yield from of_device(name, info)
    for what in broken(info):
        yield EXPECTATION, what


def broken(info: Mapping[str, Any]) -> list[str]:
    """Say which expectations do not hold, and why."""
    return [f"'{one['line']}' does not hold: {one['why']}" for one in info.get("expectations", ()) if one["why"]]


def _expectations(info: Mapping[str, Any]) -> list[str]:
    """Say of expectations how many hold, and which do not; nothing where nothing is expected."""
    count, found = len(info.get("expectations", ())), broken(info)
    return [f"expectations: {count - len(found) if found else 'all'} of {count} hold", *(f"expectation {line}" for line in found)] if count else []


def of_link(name: str, link: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    """Yield each condition that holds for a link, and what it is."""
    if link.get("invited_until"):
        why = f" (refused: {link['judged_claim'][1]})" if link["judged_claim"] and link["judged_claim"][1] else ""
        yield PENDING, f"the owner of {name} can redeem the invitation until {link['invited_until']}, and has not yet{why}"
    elif not (link["public_key"] and (link["networks"] or link.get("given_addresses"))):
        yield PENDING, f"the link with {name} waits for its public key and its networks"
    elif link["keepalive"] != 0 and not is_recent(link["last_handshake"], now, SILENT):  # without keepalive a tunnel that nobody uses is silent
        yield QUIET, f"{'exit' if link.get('given_addresses') else 'link'} {name}: {tunnel(link, now)}"
    if link.get("moved"):
        yield PENDING, f"{name} has not heard yet that this cell is dialled at {link['moved']}"
    if link.get("known_as"):
        yield PENDING, f"{name} knows this cell as {', '.join(link['known_as'])}, and may not know its networks yet"
    if _asked(link):
        yield PENDING, f"{name} asks to have the networks {', '.join(_asked(link))}, and you have not agreed"
    if link["pending_push"]:
        yield PENDING, f"{name} has not been told the latest state ({link['last_push_error']})"


def _asked(link: Mapping[str, Any]) -> list[str]:
    """Return the networks that another cell asks to have, where its owner's agreement does not cover them."""
    asked: list[str] = link.get("asked_networks") or []
    moved = sorted(link.get("asked_address", ())) != sorted(link["address"])
    return asked if asked and unagreed(asked, link["networks"], link.get("accept_networks", ()), moved) else []


def of_device(name: str, info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each condition that holds for a device, and what it is. name: one of info["peers"]."""
    peer, silent, dead = info["peers"][name], down(info), down(info, answering=False)
    if peer["exit"] is not None and not peer["exit_effective"]:
        yield PENDING, f"no internet for {name}, since {offers_no_exit(_cells(peer))}"
    elif peer["exit"] is None and _cells(peer):
        yield QUIET, f"{name} leaves directly{why_not_better([*_cells(peer), DIRECT], DIRECT, silent)}"
    elif peer["exit"] in dead:
        yield QUIET, f"no internet for {name}, since {dead[peer['exit']]}"


def _offer(link: Mapping[str, Any]) -> str:
    """Say whether the other cell is offered an exit, until when and with which rate; empty where it never was, or the offer was withdrawn."""
    until, rate = (link.get(f"exit_offered_{term}") for term in ("until", "rate"))
    end = f" until {until}" if until else ""
    if link["exit_offered"]:
        return f"offers it an exit{end}{f', limited to {rate}' if rate else ''}"
    return f"offered it an exit{end}" if until else ""


def _cells(peer: Mapping[str, Any]) -> list[str]:
    """Return the cells among the exits of a device, best first."""
    return [name for name in as_list(peer["route_via"]) if name != DIRECT]


def down(info: Mapping[str, Any], answering: bool = True) -> dict[str, str]:
    """Return what is said of exits that do not work, by name. answering: also of those that work again, but not for long enough yet."""
    found = {name: exit_cell["down"] for name, exit_cell in info.get("exits", {}).items() if exit_cell["usable"] and exit_cell["down"]}
    return {name: said["words"] for name, said in found.items() if answering or not said["answers"]}


def relays(link: Mapping[str, Any]) -> bool:
    """Tell whether devices of the other cell leave through this one."""
    return bool(link["exit_offered"] and link["remote_exit_relay_active"])


def has_internet(peer: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Tell whether a device leaves directly, or by an exit that is offered and carries traffic as far as that is known. peer: one of info["peers"]."""
    return peer["exit"] is None or (peer["exit_effective"] and peer["exit"] not in down(info, answering=False))


def internet(peer: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """Say by which way a device reaches the internet now, with its exceptions, and where its DNS goes. peer: one of info["peers"]."""
    return "; ".join([_exit(peer, down(info)), *_exceptions(peer, info), *_dns(peer)])


def _exit(peer: Mapping[str, Any], silent: Mapping[str, str]) -> str:
    """Say by which exit a device leaves now, and where it is not the first, why. silent: what is said of exits that do not work, by name."""
    cells, used = _cells(peer), peer["exit"]
    if not cells:
        return DIRECT
    if used is None:
        return f"{DIRECT}{why_not_better([*cells, DIRECT], DIRECT, silent)}"
    if not peer["exit_effective"]:
        return f"blocked, since {offers_no_exit(cells)} now"
    return f"via {used}{f', though {silent[used]}' if used in silent else why_not_better(cells, used, silent)}"


def _exceptions(peer: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """Say which destinations a device reaches another way."""
    exceptions = peer.get("route_except", {})
    closed = sorted(name for name, exit_cell in info.get("exits", {}).items() if name in exceptions.values() and not exit_cell["usable"])
    return [*destinations.in_words(exceptions), *(f"{name} offers no exit now, so what goes via {name} is blocked" for name in closed)]


def _dns(peer: Mapping[str, Any]) -> list[str]:
    """Say who answers what a routed device asks by DNS where that is stated for it, and where its exit was to answer, and cannot."""
    stated, families = peer.get("exit_dns") if peer["exit"] else None, peer.get("dns_by_uplink")
    said = [f"its DNS is answered by {answered_in_words(stated)}"] if stated and not families else []
    return [*said, f"its DNS leaves by this cell's own connection ({' and '.join(families)})"] if families else said


def tunnel(peer: Mapping[str, Any], now: float) -> str:
    """Say how the tunnel of a link or a device is doing."""
    said = age(peer["last_handshake"], now)
    return f"{said}, {peer['received']} bytes in, {peer['sent']} bytes out" if peer["last_handshake"] else said
