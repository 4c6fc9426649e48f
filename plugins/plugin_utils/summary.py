# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has changed, what waits for something, and what to do next, in lines for a person; out of what its tasks reported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.peer_sync import OK
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import render_invitation
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown

# What each register of the role is about. That of the keys is left out: it holds secrets.
_STEPS = {
    "__cell_packages": "packages",
    "__cell_advertised": "forwarding",
    "__cell_forwarding": "forwarding",
    "__cell_identity": "the devices' interface",
    "__cell_built": "peer-sync",
    "__cell_taken": "peer-sync",
    "__cell_handed": "peer-sync",
    "__cell_noted": "peer-sync",
    "__cell_rules": "rules",
    "__cell_links": "tunnels",
    "__cell_routes": "routes",
    "__cell_agent": "pic-cell",
    "__cell_invited": "invitations",
    "__cell_restored": "what was missing",
}
# What each host has a result of where the steps were taken, also one that had nothing to do in them.
_TAKEN = ("__cell_identity", "__cell_built", "__cell_taken", "__cell_handed", "__cell_noted", "__cell_rules", "__cell_links", "__cell_routes", "__cell_agent")
# The lines of a difference that speak of cells and devices; those of what the kernel and the disk get for it are counted.
_WORDS = re.compile(r"(?P<what>(?:cell|link|peer|service) [a-z0-9-]+|identity|admin network [^ ]+)(?:: | is to be told: )")
# What is true of each new link until the next step, and what "told" says anew.
_PASSING = re.compile(r".* (not known yet|is to be told: .*|no rules)$")
_EXIT = "used as exit"
_SHOWN = 30


def summary(mesh: Mesh, own: str, check: bool = False) -> list[str]:
    """Return the lines for the cells that a host of the play has worked on, its own first."""
    verb = "would change" if check else "changed"
    sides = mesh.sides(own)[::-1]
    if not sides:
        return [f"this run is not about {mesh.name(own)}"]
    remedies: list[str] = []
    lines = [f"{verb} on {mesh.name(host)}: {line}" for host in (*sides, *mesh.told(own)) for line in _changes(mesh, host)]
    if not lines:
        lines.append(f"nothing {verb} on {' and '.join(map(mesh.name, sides))}")
    elif check:
        remedies.append("run it without --check to make these changes")
    for host in sides:
        lines += [f"told by {mesh.name(host)} through the tunnel: {name}" for name, answer in _pushed(mesh, host) if answer.get("status") == OK]
        for waits, remedy in _waiting(mesh, host):
            lines.append(f"pending on {mesh.name(host)}: {waits}")
            remedies.append(remedy)
        remedies += [f"on {mesh.name(host)}: {sentence}" for sentence in mesh.read(host).get("advice", ())]
    complete = [name for host in sides for name in mesh.invited() if name not in mesh.results("__cell_links", host).get("pending", ())]
    remedies += [f"give the invitation above to the owner of {name}, unless they have linked this cell already" for name in complete]
    remedies += mesh.job.get("contradicts", ())
    return [*lines, *(f"next: {remedy}" for remedy in dict.fromkeys(filter(None, remedies)) or ["nothing is left to do"])]


def left_out(mesh: Mesh, own: str) -> list[str]:
    """Return a sentence where a host's run did not look at its cell, or did not take its steps: then nothing can be said of either."""
    if not mesh.concerned(own):
        return []
    due = mesh.fact(own, "__cell_due")
    steps = any(mesh.fact(host, "__cell_due") for host in mesh.play_hosts)
    if mesh.read(own) and due is not None and not (steps and any(not mesh.fact(own, register) for register in _TAKEN)):
        return []
    sentence = f"Nothing can be said of {mesh.name(own)}: parts of this run were left out (--start-at-task, --step, --tags or --skip-tags)."
    return [f"{sentence} Run it whole; --limit, the day-2 playbooks and --check are the ways to do less."]


def invitations(mesh: Mesh, own: str) -> list[str]:
    """Return the lines that give a host's owner what the owner of another cell has to get."""
    lines = []
    for result in mesh.reported("__cell_invited", own):
        lines.append(f"The invitation for the owner of {result['item'][1]}: {render_invitation(plain(result['invitation'], 'The invitation'))}")
        if result["key_file"]:
            lines.append(f"The preshared key is in {shown(result['key_file'])} on this cell; give it to that owner by a way that nobody else reads.")
    return lines


def _changes(mesh: Mesh, host: str) -> list[str]:
    """Say what has changed on a host: in words where it is about cells and devices, else how much it is."""
    words: list[str] = []
    rest: Counter[str] = Counter()
    for register, about in _STEPS.items():
        for result in mesh.reported(register, host):
            if not result.get("changed"):
                continue
            if "repairs" in result:
                words += result["repairs"]
                continue
            before, after = _lines(result, "before"), _lines(result, "after")
            said = [line for line in sorted(after - before) if _WORDS.match(line)]
            gone = _gone(sorted(before - after), said)
            rest[about] += len([line for line in after ^ before if not _WORDS.match(line)]) or not (said or gone)
            words = [line for line in words if _subject(line) not in map(_subject, gone)] + said + gone
    words = [line for line in dict.fromkeys(words) if not _PASSING.match(line)]
    if len(words) > _SHOWN:
        rest["cells and devices"] = len(words) - _SHOWN
    counts = [f"{about} {count}" for about, count in rest.items() if count]
    return [*words[:_SHOWN], *([f"details (--diff shows them): {', '.join(counts)}"] if counts else [])]


def _lines(result: dict[str, Any], side: str) -> set[str]:
    diff = result.get("diff")
    return {*str(diff.get(side, "")).splitlines()} if isinstance(diff, dict) else set()


def _subject(line: str) -> str:
    found = _WORDS.match(line)
    return found["what"] if found else line


def _gone(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Say what of the lines that are no longer there has none in their place."""
    kept = {_subject(line) for line in after}
    lost = [line for line in before if _WORDS.match(line) and _subject(line) not in kept]
    return [f"{_subject(line)}: no longer {_EXIT if line.endswith(_EXIT) else 'there'}" for line in lost]


def _pushed(mesh: Mesh, host: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield which cells were told through the tunnel, and what they answered."""
    for result in mesh.reported("__cell_pushed", host):
        yield from (result.get("answers") or {}).items()


def _waiting(mesh: Mesh, host: str) -> Iterator[tuple[str, str]]:
    """Yield what waits for something, and what can be done for it; nothing where it goes by itself."""
    name = mesh.name(host)
    for partner in mesh.partners(host):
        other = mesh.name(partner)
        why = mesh.silenced.get(partner) or (partner != mesh.own and f"failed in this run ({mesh.lost[partner]})" if partner in mesh.lost else None)
        if why:
            yield f"{other} {why}", f"see to {other}, and run this again"
        elif partner in mesh.unreachable():
            yield f"{other} was not reached", f"run this again when {other} is back"
        elif mesh.garbled(partner, host):
            yield f"what {other} says is no message of it, and was left out", f"see to {other}, and run this again"
    outside = [partner for partner in mesh.partners(host, ("present",)) if partner not in (*mesh.play_hosts, *mesh.sides(host))]
    unmade = [mesh.name(partner) for partner in outside if name not in mesh.read(partner).get("links", (name,))]
    for other in unmade:
        yield f"{other} has not made this link yet", f"run pic.cells.site with {other} too"
    for other in mesh.forgotten(host):
        yield f"{other} has no link with {name}", f"link {name} and {other} again (pic.cells.link), or unlink them (pic.cells.unlink)"
    for other in mesh.results("__cell_links", host).get("pending", ()):
        if other not in unmade and mesh.host_of.get(other) not in mesh.unreachable():
            yield f"the link with {other} waits for its public key and its networks", _completing(mesh, other)
    for other in endpoints.undialled(mesh, host):
        yield f"nobody can dial the link with {other}, as neither end has an endpoint", f"give {name} or {other} a cell_endpoint that the other can reach"
    unlinked = [mesh.name(partner) for partner in mesh.partners(host, ("absent",))]
    for via, peers in _refused(mesh, host).items():
        if via not in unmade:
            remedy = f"link {via} again (pic.cells.link)" if via in unlinked else f"let {via} offer an exit (pic.cells.offer_exit)"
            yield f"no internet for {', '.join(peers)}, since {via} offers no exit", f"{remedy}, or send {', '.join(peers)} elsewhere (pic.cells.route_peer)"
    for other, answer in _pushed(mesh, host):
        if answer.get("status") != OK:
            yield f"{other} is not told the latest ({answer.get('reason') or 'not reached'}); {name} tells it again by itself", ""


def _refused(mesh: Mesh, host: str) -> dict[str, list[str]]:
    """Return the devices whose exit offers itself to nobody now, by that exit."""
    pending = mesh.results("__cell_routes", host).get("pending")
    if not pending:
        return {}
    ways = {peer: item.get("route_via") for peer, item in mesh.read(host).get("peers", {}).items()}
    ways.update({route["peer"]: route["via_cell"] for route in mesh.side(host)["routes"] if route["via_cell"]})
    found: dict[str, list[str]] = {}
    for peer in pending:
        found.setdefault(ways.get(peer) or "the exit", []).append(peer)
    return found


def _completing(mesh: Mesh, other: str) -> str:
    if other in mesh.invited():
        return f"give the invitation above to the owner of {other}, and run this again with theirs (invitation=…)"
    return f"run pic.cells.site when {other} is reachable, or take its owner's invitation (pic.cells.link)"
