# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a day-2 playbook is asked for: the job that the role carries out. Raises BadInput, changes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.names import DIRECT, check_exits, check_name, check_source
from ansible_collections.pic.cells.plugins.module_utils.base.networks import check_not_managed_from
from ansible_collections.pic.cells.plugins.module_utils.base.times import render_moment
from ansible_collections.pic.cells.plugins.module_utils.program.status import CONDITIONS
from ansible_collections.pic.cells.plugins.plugin_utils import checks, devices, offers, schema
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import ADD_DEVICE, LINK, REMOVE_DEVICE, ROTATE_KEY, ROUTE_PEER, as_list
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import code_of, read_invitation, read_pairing
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import SITE, Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import BOOLEAN, plain, shown
from ansible_collections.pic.cells.plugins.plugin_utils.page_file import target

INPUTS = (
    *("cell", "remote_cell", "services", "offered", "until", "rate", "peer", "via_cell", "force", "invitation"),
    *("fail_on", "output", "report", "source", "dest", "backup_dest", "backup"),
    *devices.INPUTS,
)

NEEDED = {
    "link": ("cell", "remote_cell"),
    "unlink": ("cell", "remote_cell"),
    "share": ("cell", "remote_cell", "services"),
    "offer_exit": ("cell", "remote_cell", "offered"),
    "route_peer": ("cell", "peer", "via_cell"),
    **dict.fromkeys(devices.JOBS, ("cell", "device")),
    ROTATE_KEY: ("cell",),
    "rekey": ("cell",),
    "backup": ("cell",),
    "restore_backup": ("cell", "backup"),
    "uninstall": ("cell",),
}
# Playbooks for all cells, or for one that is named; they ask what is on the cells and not what the inventory states.
ON_THE_CELLS = ("replay", "restore", "status", "prove", "adopt")
# Playbooks that do something with one cell as a whole; it has to be named, so that none is meant by mistake.
OF_ONE_CELL = ("backup", "restore_backup", "uninstall")
BEGIN, JUDGE = "begin", "judge"  # what the role asks for
TABLE = "table"
OUTPUTS = (TABLE, "json")
JOBS = (SITE, *NEEDED, *ON_THE_CELLS, BEGIN, JUDGE)
_CELL_INPUTS = ("cell", "remote_cell")
_LISTS = ("services", "invitation", "fail_on", "addresses", "dns")  # which need not be texts


def read_job(mesh: Mesh, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Turn extra vars (texts, as a survey gives them) into the job that the role carries out, and warnings; no job is for all cells."""
    kind = given["job"]
    asked = {key: _given(key, given[key]) for key in INPUTS if given.get(key) not in (None, "")}
    if kind == SITE:
        return {}, []
    if kind in ON_THE_CELLS:
        return _on_the_cells(mesh, kind, asked), []
    for key in NEEDED[kind]:
        if key not in asked:
            raise BadInput(f"The playbook pic.cells.{kind} needs the variable {key!r}. Give it with -e {key}=…")
    for key in _CELL_INPUTS:
        if key in asked:
            check_name(f"{key}:", asked[key])
    host = _host(mesh, asked["cell"])
    if kind == "rekey" or (kind == ROTATE_KEY and not {"remote_cell", "device"} & asked.keys()):
        # Its key is known to all cells, so the run that follows is for all.
        return {"rekeys": host, "cell": asked["cell"]}, []
    if kind in OF_ONE_CELL:
        return {"job": kind, "host": host, "cell": asked["cell"], **{key: asked[key] for key in ("backup_dest", "backup") if key in asked}}, []
    via = parse_exits(asked["via_cell"]) if "via_cell" in asked else []
    for key, named, instead in (("remote_cell", [asked.get("remote_cell")], ""), ("via_cell", via, ", or direct")):
        if asked["cell"] in named:
            raise BadInput(f"{key}={asked['cell']} is the cell itself. Name another cell{instead}.")
    job: dict[str, Any] = {"job": kind, "host": host, "cell": asked["cell"], "change": {}}
    if kind == ROUTE_PEER:
        job.update(peer=check_name("peer:", asked["peer"]), via_cell=via, force=parse_boolean("force", asked.get("force", False)))
        return _warned(mesh, host, job)
    if kind == ROTATE_KEY and {"remote_cell", "device"} <= asked.keys():
        raise BadInput("Give remote_cell for the preshared key of a link, or device for the key of a device, and not both.")
    if kind in devices.JOBS or (kind == ROTATE_KEY and "device" in asked):
        name = check_name("device:", asked["device"])
        if kind == ADD_DEVICE and not via:  # else it would go direct until the next run of site
            via = devices.stated(mesh, host, name).get("route_via") or []
        read = {key: parse_boolean(key, value) if key in BOOLEAN else value for key, value in asked.items()}
        found, warnings = devices.read(mesh, kind, name, read, via)
        job, undone = _warned(mesh, host, {**job, "peer": name, "via_cell": via, **found})
        return job, [*warnings, *undone]
    job["remote_cell"] = asked["remote_cell"]
    if kind == ROTATE_KEY:
        _check_rotation(mesh, host, asked["cell"], asked["remote_cell"])
    if "services" in asked and kind in ("link", "share"):
        job["change"]["share"] = parse_services(asked["services"])
        for service in job["change"]["share"]:
            checks.check_service_known(mesh, host, service, f"services={asked['services']}")
    if "invitation" in asked and kind == LINK:
        job["invitation"] = True
        job["change"].update(read_invitation(asked["invitation"], asked["remote_cell"]))
        pairing = read_pairing(asked["invitation"], asked["cell"], mesh.preshared_key())
        if pairing is not None:
            job["pairing"] = pairing
        job["code"] = code_of(asked["invitation"], mesh.preshared_key())
        stated = mesh.link_items(host).get(asked["remote_cell"], {})
        checks.check_networks(f"networks of the invitation of {asked['remote_cell']!r}", job["change"].get("networks"), stated)
        admins = as_list(mesh.var(host, "cell_admin_networks"))
        check_not_managed_from(f"networks of the invitation of {asked['remote_cell']!r}", job["change"].get("networks", []), admins)
    if kind in (LINK, "offer_exit"):
        job["change"].update(parse_offer(asked))
    return _warned(mesh, host, job)


def _on_the_cells(mesh: Mesh, kind: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a playbook for all cells is asked for; each takes its own."""
    job: dict[str, Any] = {"host": _host(mesh, asked["cell"])} if "cell" in asked else {}
    if kind == "status" and "fail_on" in asked:
        job["fail_on"] = parse_conditions(asked["fail_on"])
    if kind == "status":
        job.update(parse_form(asked))
    if kind == "prove" and "peer" in asked:
        job["peer"] = check_name("peer:", asked["peer"])
        if "cell" not in asked:
            raise BadInput(f"peer={job['peer']} needs the variable 'cell', since devices of several cells can have one name. Give it with -e cell=…")
    if kind == "adopt":
        job.update({key: asked[key] for key in ("source", "dest") if key in asked})
        if "source" in job:
            check_source(job["source"])
        if "dest" in job and "cell" not in asked:
            raise BadInput(f"dest={shown(job['dest'])} needs the variable 'cell', since each cell needs a file of its own. Give it with -e cell=…")
    return job


def _given(key: str, value: Any) -> Any:
    """Return what was given for a variable; refuse what is not even a text, which would be taken for another name."""
    if isinstance(value, str) or key in _LISTS or (key in BOOLEAN and isinstance(value, bool)):
        return plain(value, key)
    raise BadInput(f"{key}={shown(value)} is not text. Put it in quotes.")


def _host(mesh: Mesh, cell: str) -> str:
    """Find the host of a cell; refuse one that no task of this run can reach."""
    host = mesh.host_of.get(cell)
    if host is None:
        known = ", ".join(sorted(mesh.host_of)) or "none"
        raise BadInput(f"cell={cell} is not a cell of this inventory. Its cells: {known}. Correct the name, or add the host to the group {mesh.group!r}.")
    if host not in mesh.play_hosts:
        raise BadInput(f"cell={cell} is host {host!r}, which --limit leaves out. Run without --limit, or include that host.")
    return host


def parse_services(value: Any) -> list[str]:
    """Read the complete set of services: a list, or text with commas or newlines; 'none' is the empty set."""
    parts = re.split(r"[,\n]", value) if isinstance(value, str) else as_list(value)
    for part in parts:
        if not isinstance(part, str):
            raise BadInput(f"services: {shown(part)!r} is not text. Put it in quotes.")
    names = [part.strip() for part in parts if part.strip()]
    return [] if names == ["none"] else [check_name("services:", name) for name in names]


def parse_exits(value: str) -> list[str]:
    """Read the exits of a device, best first, with commas or newlines between them; "direct" alone or at the end."""
    return check_exits("via_cell:", schema.listed(value)) or [DIRECT]


def parse_form(asked: Mapping[str, Any]) -> dict[str, str]:
    """Read how a report is to be shown, and which file is to have it as a page, if any."""
    if asked.get("output", TABLE) not in OUTPUTS:
        raise BadInput(f"output={shown(asked['output'])} is not a form of the report. Give one of {', '.join(OUTPUTS)}.")
    return {**({"output": asked["output"]} if "output" in asked else {}), **({"report": str(target(asked["report"]))} if "report" in asked else {})}


def parse_conditions(value: Any) -> list[str]:
    """Read what a report is to fail for: a list, or text with commas or newlines."""
    found = schema.listed(value)
    for word in found:
        if word not in CONDITIONS:
            raise BadInput(
                f"fail_on: {word!r} is not a condition that pic.cells.status can fail for. Give one or more of {', '.join(CONDITIONS)}, separated by commas."
            )
    return found


def parse_boolean(key: str, value: Any) -> bool:
    """Read a boolean as Ansible does."""
    try:
        return bool(boolean(value, strict=True))
    except TypeError:
        raise BadInput(f"{key}={shown(value)} is neither true nor false. Give {key}=true or {key}=false.") from None


def parse_offer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Read an offer and its terms as a link's options; nothing where none is given. An end that has come is no offer: nobody asks for that."""
    offered = parse_boolean("offered", asked["offered"]) if "offered" in asked else None
    for key, what in (("until", "end"), ("rate", "rate")):
        if key in asked and not offered:
            without = "offered is not given" if offered is None else "offered=false"
            raise BadInput(f"{key}={shown(asked[key])} is the {what} of an offer, but {without}. Give offered=true.")
    terms = {option: read(asked[key], key) if key in asked else None for key, (option, read) in offers.TERMS.items()}
    until, now = terms[offers.UNTIL], render_moment(time.time())
    if until and until <= now:
        raise BadInput(f"until={shown(asked['until'])} has passed: it is {now} now. Give a later time, or offered=false.")
    return {} if offered is None else {offers.OFFER: offered, **terms}


def _warned(mesh: Mesh, host: str, job: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the job and the warnings, which the run says once more at its end."""
    contradicts = _contradictions(mesh, host, job)
    return {**job, "contradicts": contradicts}, contradicts


def _check_rotation(mesh: Mesh, host: str, cell: str, remote: str) -> None:
    """Refuse another preshared key for a link where the inventory states one, and where it is not clear who makes it. Raises BadInput."""
    if (mesh.link_items(host).get(remote) or {}).get("preshared_key"):
        raise BadInput(
            f"The inventory states preshared_key for the link of {cell!r} with {remote!r}. Change it there and run pic.cells.site, which installs it; "
            "the owner of a cell that is in no inventory of yours does the same on their side."
        )
    given = bool(mesh.preshared_key())
    if remote in mesh.host_of and given:
        raise BadInput(f"Both cells, {cell!r} and {remote!r}, are in this inventory, so the run makes the preshared key itself. Leave preshared_key out.")
    if remote not in mesh.host_of and not given:
        raise BadInput(
            f"Cell {remote!r} is not in this inventory, so its owner has to install the same preshared key as you. Make one with 'wg genpsk', send it over a "
            "channel that nobody else can read, and give it on both sides as preshared_key (-e @file)."
        )


def _contradictions(mesh: Mesh, host: str, job: Mapping[str, Any]) -> list[str]:
    """Warn where the next site run would undo a change because the inventory states otherwise."""
    warnings = []
    stated = mesh.link_items(host).get(job.get("remote_cell", ""), {})
    changed = {**stated, **job["change"]}
    differing = [f"{key}: {stated[key]}" for key in job["change"] if key not in offers.RIGHTS and stated.get(key) not in (None, changed[key])]
    offer = offers.stated_words(stated)
    undone = offer not in (None, offers.stated_words(changed)) and (changed[offers.OFFER] or not mesh.has_ended(host, stated))
    for statement in [*differing, *([offer] if undone else [])]:
        warnings.append(f"The inventory states {statement} for the link of {job['cell']!r} with {job['remote_cell']!r}; the next run of site puts that back.")
    if job["job"] == "unlink" and stated and stated.get("state") != "absent":
        warnings.append(
            f"The inventory states a link of {job['cell']!r} with {job['remote_cell']!r}; the next run of site creates it again. Set state: absent there."
        )
    for peer in mesh.var(host, "cell_peers") or ():
        if peer.get("name") != job.get("peer") or peer.get("state") == "absent":
            continue
        if job["job"] == ROTATE_KEY and peer.get("public_key") not in (None, job["device"].get("public_key")):
            warnings.append(
                f"The inventory states the key that device {job['peer']!r} of {job['cell']!r} has had until now; the next run of site puts that back. "
                "State the new one in cell_peers."
            )
        elif job["job"] == REMOVE_DEVICE:
            warnings.append(
                f"The inventory states device {job['peer']!r} of {job['cell']!r}; the next run of site adds it again. Remove its lines in cell_peers."
            )
        elif job["via_cell"] and (peer.get("route_via") or job["via_cell"]) != job["via_cell"]:
            warnings.append(f"The inventory states route_via: {', '.join(peer['route_via'])} for {job['peer']!r}; the next run of site puts that back.")
    return warnings
