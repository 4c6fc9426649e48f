# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has changed, what waits for something, and what to do next, in lines for a person; out of what its tasks reported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.names import offers_no_exit
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import OK
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints, trust
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import REMOVE_DEVICE, as_list
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import LARGEST, render_invitation
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.offers import UNTIL
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown

# What each register of the role is about. That of the keys is left out: it holds secrets.
_STEPS = {
    "__cell_packages": "packages",
    "__cell_advertised": "forwarding",
    "__cell_forwarding": "forwarding",
    "__cell_identity": "the devices' interface",
    "__cell_paired": "invitations",
    "__cell_built": "peer-sync",
    "__cell_handed": "peer-sync",
    "__cell_pushed": "peer-sync",
    "__cell_applied": "",  # several parts, each with a difference of its own
    "__cell_invited": "invitations",
    "__cell_restored": "what was missing",
}
_PARTS = {"hear": "peer-sync", "rules": "rules", "links": "tunnels", "routes": "routes", "agent": "pic-cell"}
# What each host has a result of where a file of the role was taken, also one that had nothing to do in it.
_TAKEN = {
    "identity": ("__cell_identity",),
    "sync": ("__cell_built", "__cell_handed"),
    "apply": ("__cell_applied",),
    "push": ("__cell_pushed",),
}
# The lines of a difference that speak of cells and devices; those of what the kernel and the disk get for it are counted.
_WORDS = re.compile(r"(?P<what>(?:cell|link|exit|peer|service) [a-z0-9-]+|identity|admin network [^ ]+|expectation .+(?=: stated$))(?:: | is to be told: )")
# What is true of each new link until the next step, and what "told" says anew.
_PASSING = re.compile(r".* (not known yet|is to be told: .*|no rules)$")
_EXIT = "used as an exit"
_SHOWN = 30


def summary(mesh: Mesh, own: str, check: bool = False) -> list[str]:
    """Return the lines for the cells that a host of the play has worked on, its own first."""
    verb = "would change" if check else "changed"
    sides = mesh.sides(own)[::-1]
    if not sides:
        return [f"this run does not concern {mesh.name(own)}"]
    remedies: list[str] = []
    lines = [f"{verb} on {mesh.name(host)}: {line}" for host in (*sides, *mesh.told(own)) for line in _changes(mesh, host)]
    if not lines:
        lines.append(f"nothing {verb} on {' and '.join(map(mesh.name, sides))}")
        lines += _unknown(mesh, own)
    elif check:
        remedies.append("run it without --check to make these changes")
    for host in sides:
        lines += [f"{mesh.name(host)} told {name} the latest state through the tunnel" for name, answer in _pushed(mesh, host) if answer.get("status") == OK]
        for waits, remedy in _waiting(mesh, host):
            lines.append(f"pending on {mesh.name(host)}: {waits}")
            remedies.append(remedy)
        remedies += [f"on {mesh.name(host)}: {sentence}" for sentence in mesh.read(host).get("advice", ())]
        remedies += _ended(mesh, host)
        remedies += _put_back(mesh, host)
    complete = [name for host in sides for name in mesh.invited() if name not in _pending(mesh, host, "links")]
    remedies += [f"give the invitation above to the owner of {name}, unless they have linked this cell already" for name in complete]
    if mesh.job.get("code"):
        lines.append(f"code of the invitation: {mesh.job['code']}")
        remedies.append(f"compare this code with the owner of {mesh.job['remote_cell']}, whose run has printed it too; unlink the cells if it differs")
    if mesh.rotates_link and mesh.job["remote_cell"] not in mesh.host_of:
        other = mesh.job["remote_cell"]
        remedies.append(f"let the owner of {other} install the same preshared key within 2 minutes, or the tunnel ends until they have")
    remedies += mesh.job.get("contradicts", ())
    remedies += [] if check else _files_left(mesh, own)
    return [*lines, *(f"next: {remedy}" for remedy in dict.fromkeys(filter(None, remedies)) or ["nothing is left to do"])]


def _files_left(mesh: Mesh, own: str) -> list[str]:
    """Say what is left of a device that was removed: a file from which it would get its old key again."""
    name = mesh.job.get("peer")
    if mesh.job.get("job") != REMOVE_DEVICE or name not in mesh.read(own).get("peers", {}):
        return []
    return [f"delete {name}.conf, {name}.svg and {name}.png wherever they still are: they hold the private key of {name}"]


def _unknown(mesh: Mesh, own: str) -> list[str]:
    """Say of a device that was to be removed that there is none of this name, which may be a slip."""
    peers = mesh.read(own).get("peers", {})
    if mesh.job.get("job") != REMOVE_DEVICE or mesh.job["peer"] in peers:
        return []
    return [f"{mesh.name(own)} has no device {mesh.job['peer']!r}; its devices: {', '.join(sorted(peers)) or 'none'}"]


def _ended(mesh: Mesh, host: str) -> Iterator[str]:
    """Yield what to do of offers that are stated with an end that has come."""
    for item in mesh.chosen_links(host):
        if mesh.has_ended(host, item):
            name = item["name"]
            yield f"the offer of an exit by {mesh.name(host)} to {name} ended at {item[UNTIL]}: state a later end there, or offer_exit: false"


def _put_back(mesh: Mesh, host: str) -> Iterator[str]:
    """Yield what to do where the inventory states another key of a device than it had: an older one is let in again."""
    known = mesh.read(host).get("peers", {})
    for peer in () if mesh.changes_links else mesh.var(host, "cell_peers") or ():
        key = known.get(peer["name"], {}).get("public_key")
        if key and peer.get("state") != "absent" and peer.get("public_key") not in (None, key):
            yield f"if {key} is the newer key of {peer['name']} (pic.cells.rotate_key), state it in cell_peers of host {host} and run this again"


def left_out(mesh: Mesh, own: str) -> list[str]:
    """Return a sentence where a host's run did not look at its cell, or did not take its steps: then nothing can be said of either."""
    if not mesh.concerned(own):
        return []
    if mesh.read(own) and mesh.judged and all(mesh.register(own, register) for file in mesh.role_files() for register in _TAKEN.get(file, ())):
        return []
    sentence = f"The result for {mesh.name(own)} is unknown, because parts of this run were left out (--start-at-task, --step, --tags or --skip-tags)."
    return [f"{sentence} Run it as a whole. To do less, use --limit, a day-2 playbook or --check."]


def invitations(mesh: Mesh, own: str) -> list[str]:
    """Return the lines that give a host's owner what the owner of another cell has to get."""
    lines = []
    for result in mesh.reported("__cell_invited", own):
        token = result["token"] or render_invitation(plain(result["invitation"], "The invitation"))
        lines.append(f"The invitation for the owner of {result['item'][1]}: {shown(token, LARGEST)}")
        if result["token"]:
            key_file, token_file, code = (shown(result[key]) for key in ("key_file", "token_file", "code"))
            lines.append(f"Its secret is in {key_file} on this cell; send it to that owner over a channel that nobody else can read.")
            lines.append(f"Or send only what is in {token_file}, which is both in one, and compare the code {code} with what their run prints.")
            lines.append("Whoever has both links a cell of that name with this one, once, within a day.")
        elif result["key_file"]:
            lines.append(f"Its code, if you compare: {shown(result['code'])}")
            lines.append(f"The preshared key is in {shown(result['key_file'])} on this cell; send it to that owner over a channel that nobody else can read.")
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
            for part, before, after in _differences(result):
                said = [line for line in sorted(after - before) if _WORDS.match(line)]
                gone = _gone(sorted(before - after), said)
                rest[_PARTS.get(part, about)] += len([line for line in after ^ before if not _WORDS.match(line)]) or not (said or gone)
                lost = set(map(_subject, gone))
                words = [line for line in words if _subject(line) not in lost] + said + gone
    words = [line for line in dict.fromkeys(words) if not _PASSING.match(line)]
    if len(words) > _SHOWN:
        rest["cells and devices"] = len(words) - _SHOWN
    counts = [f"{about} {count}" for about, count in rest.items() if count]
    return [*words[:_SHOWN], *([f"details (--diff shows them): {', '.join(counts)}"] if counts else [])]


def _differences(result: dict[str, Any]) -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield what a task has changed: the part of the cell where it has said several, and the lines of before and after."""
    diff = result.get("diff")
    for one in diff if isinstance(diff, list) else [diff if isinstance(diff, dict) else {}]:
        yield one.get("after_header", ""), *({*str(one.get(side, "")).splitlines()} for side in ("before", "after"))


def _subject(line: str) -> str:
    found = _WORDS.match(line)
    return found["what"] if found else line


def _gone(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Say what of the lines that are no longer there has none in their place."""
    kept = {_subject(line) for line in after}
    lost = [line for line in before if _WORDS.match(line) and _subject(line) not in kept]
    return [f"{_subject(line)}: {f'no longer {_EXIT}' if line.endswith(_EXIT) else 'removed'}" for line in lost]


def _pushed(mesh: Mesh, host: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield which cells were told through the tunnel, and what they answered."""
    for result in mesh.reported("__cell_pushed", host):
        yield from (result.get("answers") or {}).items()


def _waiting(mesh: Mesh, host: str) -> Iterator[tuple[str, str]]:
    """Yield what waits for something, and what can be done for it; nothing where it goes by itself."""
    name = mesh.name(host)
    asked = [other for other in trust.asked(mesh) if other != host] if mesh.changes_links and host == mesh.own else []
    for partner in dict.fromkeys((*mesh.partners(host), *asked)):
        other = mesh.name(partner)
        why = mesh.silenced.get(partner) or (partner != mesh.own and f"failed in this run ({mesh.lost(partner)})" if mesh.lost(partner) else None)
        if why:
            yield f"{other} {why}", f"check {other}, and run this again"
        elif partner in mesh.unreachable():
            yield f"{other} was not reached", f"run this again when {other} is back"
        elif mesh.garbled(partner, host):
            yield f"the answer of {other} is not a valid message from it and was ignored", f"check {other}, and run this again"
    outside = [partner for partner in mesh.partners(host, ("present",)) if partner not in (*mesh.play_hosts, *mesh.sides(host))]
    unmade = [mesh.name(partner) for partner in outside if name not in mesh.read(partner).get("links", (name,))]
    for other in unmade:
        yield f"{other} has not made this link yet", f"run pic.cells.site with {other} included"
    for other in mesh.forgotten(host):
        yield f"{other} has no link with {name}", f"link {name} and {other} again (pic.cells.link), or unlink them (pic.cells.unlink)"
    for other in _pending(mesh, host, "links"):
        if other not in unmade and mesh.host_of.get(other) not in mesh.unreachable():
            yield _completing(mesh, other)
    for other, link in sorted(mesh.read(host).get("links", {}).items()):
        if link.get("known_as") and other not in mesh.host_of:
            waits = f"{other} knows this cell as {', '.join(link['known_as'])}, and may not know its networks yet"
            yield waits, f"ask the owner of {other} to agree, which pic-cell status there says how, unless this ends by itself"
    for other in endpoints.undialled(mesh, host, mesh.links(host).values()):
        yield f"nobody can dial the link with {other}, as neither end has an endpoint", f"give {name} or {other} a cell_endpoint that the other can reach"
    unlinked = [mesh.name(partner) for partner in mesh.partners(host, ("absent",))]
    yield from mesh.held(host).values()
    for exits, peers in _refused(mesh, host).items():
        via = exits[0]
        if via not in unmade:
            if via in unlinked:
                remedy = f"link {via} again (pic.cells.link)"
            elif _is_a_cell(mesh, host, via):
                remedy = f"let {via} offer an exit (pic.cells.offer_exit)"
            else:
                remedy = f"state {via} in cell_exits again (pic.cells.site)"
            yield f"no internet for {', '.join(peers)}, since {offers_no_exit(exits)}", f"{remedy}, or send {', '.join(peers)} elsewhere (pic.cells.route_peer)"
    for other, answer in _pushed(mesh, host):
        if answer.get("status") != OK:
            yield f"{other} has not been told the latest state ({answer.get('reason') or 'not reached'}); {name} tries again by itself", ""


def _is_a_cell(mesh: Mesh, host: str, via: str) -> bool:
    """Tell whether an exit is a cell of the inventory, or one that a host's cell is linked with. A provider that is taken away is known to nobody."""
    link = mesh.read(host).get("links", {}).get(via, mesh.links(host).get(via))
    return via in mesh.host_of or (link is not None and not link.get("given_addresses"))


def _refused(mesh: Mesh, host: str) -> dict[tuple[str, ...], list[str]]:
    """Return the devices none of whose exits offers itself now, by these exits."""
    pending = _pending(mesh, host, "routes")
    if not pending:
        return {}
    exits = {peer: as_list(item.get("route_via")) for peer, item in mesh.read(host).get("peers", {}).items()}
    exits.update({route["peer"]: route["via_cell"] for route in mesh.routes(host) if route["via_cell"]})
    found: dict[tuple[str, ...], list[str]] = {}
    for peer in pending:
        found.setdefault(tuple(exits.get(peer) or ("the exit",)), []).append(peer)
    return found


def _pending(mesh: Mesh, host: str, part: str) -> list[str]:
    """Return the links or the devices of a host's cell that wait for something, as one part of it has said in this run."""
    return list(next((said["pending"] for said in mesh.applied(host, part)), ()))


def _completing(mesh: Mesh, other: str) -> tuple[str, str]:
    """Say what a link waits for, and what can be done for it."""
    lacks = f"the link with {other} waits for its public key and its networks"
    if other in mesh.invited() and any(result["token"] for result in mesh.reported("__cell_invited", str(mesh.own))):
        waits = f"the link with {other} waits for its owner to redeem the invitation"
        return waits, f"give the invitation above to the owner of {other}: their run of pic.cells.link completes the link"
    if other in mesh.invited():
        return lacks, f"give the invitation above to the owner of {other}, and run this again with theirs (invitation=…)"
    return lacks, f"run pic.cells.site when {other} is reachable, or take its owner's invitation (pic.cells.link)"
