# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's view of all cells: what the inventory states, and what this run has read so far.

Every host may be absent: outside --limit, cut away by a slice of AWX, unreachable, or somebody else's. What is not
visible is None, which the modules take for "as the record has it"; nothing is ever removed because it is not visible.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from ansible_collections.pic.cells.plugins.module_utils import peer_sync
from ansible_collections.pic.cells.plugins.module_utils.names import check_state_dir
from ansible_collections.pic.cells.plugins.module_utils.networks import host_port
from ansible_collections.pic.cells.plugins.module_utils.records import DIRECT
from ansible_collections.pic.cells.plugins.module_utils.store import STATE_DIR
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints, schema, standing

try:
    import netaddr
except ImportError:
    HAS_NETADDR = False
else:
    HAS_NETADDR = True

GROUP = "cells"
SITE = "site"
LINK = "link"
AUTO, TUNNEL = "auto", "tunnel"
FIXED, CHECKED = "__cell_stated", "__cell_checked"  # registers
# The steps of the role that are taken by those who have something to do in them, in its order; and what its other tasks do, as the preflight reads it.
STEPS = ("identity", "keys", "tell", "hear", "hand", "note", "rules", "links", "routes", "agent", "push")
# What the lookup pic.cells.side is asked for besides hosts, so no host can be called so.
WORDS = (
    *STEPS,
    *("job", "state_dir", "own", "sides", "others", "due", "missing", "advertised", "unforwarded", "invited", "alone", "refusals", "invitations"),
    *("left out", "ending", "summary"),
)
BASE = ("missing", "advertised", "unforwarded")

_ANSWERED = ("status", "generation", "reason")

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _kept(method: _Method) -> _Method:
    """Keep what a method of Mesh has found: each pair of hosts asks for it, and templating costs milliseconds a value."""

    @functools.wraps(method)
    def found(mesh: Mesh, *words: str) -> Any:
        key = (method.__name__, *words)
        if key not in mesh.found:
            mesh.found[key] = method(mesh, *words)
        return mesh.found[key]

    return cast(_Method, found)


class Mesh:
    """All visible cells. A host is an inventory name, a cell is a cell_name."""

    def __init__(
        self,
        variables: Mapping[str, Any],
        template: Callable[[Any], Any],
        job: Mapping[str, Any] | None = None,
        preshared_key: Callable[[], str | None] = lambda: None,
    ) -> None:
        """variables: as known.py returns them. template: what fills them in. job: the day-2 change, none for the whole site.

        preshared_key: what the extra var of that name says, asked for late, since it is a secret.
        """
        self._template, self._preshared_key = template, preshared_key
        self._variables = variables
        self._hostvars = _Once(variables["hostvars"])
        # Names of our own are never taken from an inventory: a register is one, an extra var another.
        self._registers: Mapping[str | None, Any] = variables.get("registers", variables["hostvars"])
        self._extra: Mapping[str, Any] = variables.get("extra", variables)
        self.own = variables.get("inventory_hostname")
        self.found: dict[tuple[str, ...], Any] = {}
        self.job = job or {}
        self.play_hosts: list[str] = list(variables.get("ansible_play_batch", ()))
        # A run is about one group, so its name is none of one host: an extra var, for the playbooks, or any variable where the role is used without them.
        fixed = self._fixed(self.own) if self.own else None
        self.group = str((fixed or {}).get(schema.GROUP_VARIABLE) or template({**self._extra, **variables}.get(schema.GROUP_VARIABLE)) or GROUP)
        self.hosts: list[str] = [host for host in variables.get("groups", {}).get(self.group, ()) if host in self._hostvars]
        self.host_of = {self.name(host): host for host in reversed(self.hosts)}

    # What the inventory states

    @_kept
    def var(self, host: str, key: str) -> Any:
        """Return a variable of a host, None where it is absent or an empty text; a text for a list is the list, of one or with commas."""
        return schema.normal(key, self.stated(host, key))

    def stated(self, host: str, key: str) -> Any:
        """Return a variable of a host as it is written; those of a role and its play, which are in no hostvars, as they were when the role began there."""
        fixed = self._fixed(host)
        if fixed is not None:
            return fixed.get(key)
        return self._template(self._variables[key]) if host == self.own and key in self._variables else self._hostvars[host].get(key)

    def variables(self, host: str) -> list[str]:
        """Return the names of all variables of a host."""
        return sorted({*self._hostvars[host], *(self._fixed(host) or ()), *(self._variables if host == self.own else ())})

    @_kept
    def _fixed(self, host: str) -> Mapping[str, Any] | None:
        """Return what was stated of a host of this batch when the role began there, before any connection; None where it has not."""
        found = self._register(host, FIXED) if host in self.batch else {}
        return cast(Mapping[str, Any], found["stated"]) if found.get("stated") is not None else None

    def _register(self, host: str | None, name: str) -> Any:
        return (self._registers.get(host) or {}).get(name) or {}

    @_kept
    def name(self, host: str) -> str:
        """Return the name of the cell on a host: cell_name, or the host's name up to its first dot."""
        return str(self.var(host, "cell_name") or host.split(".", 1)[0])

    @_kept
    def link_items(self, host: str) -> dict[str, dict[str, Any]]:
        """Return what is stated of a host's links, by the other cell's name; a link stated on the other side counts."""
        own = self.name(host)
        items = {str(item["name"]): dict(item) for item in self.var(host, "cell_links") or ()}
        for other in self.hosts:
            for item in self.var(other, "cell_links") or ():
                if other != host and item.get("name") == own:
                    mirrored = items.setdefault(self.name(other), {"name": self.name(other)})
                    mirrored.setdefault("state", item.get("state"))
                    mirrored.setdefault("preshared_key", item.get("preshared_key"))
        return items

    @_kept
    def networks(self, host: str) -> list[str]:
        """Return the networks of a host's cell, without host bits."""
        return [str(netaddr.IPNetwork(n).cidr) for n in self.var(host, "cell_networks") or ()]

    @_kept
    def addresses(self, host: str) -> list[str]:
        """Return the own addresses of a host's cell."""
        return [str(netaddr.IPNetwork(n).ip) for n in self.var(host, "cell_networks") or ()]

    def state_dir(self, host: str) -> str:
        """Return the folder of the records on a host."""
        return check_state_dir(self.var(host, "cell_state_dir") or STATE_DIR)

    # What this run has read

    def fact(self, host: str, name: str) -> Any:
        """Return what this run has noted or registered of a host, None where it has not."""
        return (self._registers.get(host) or {}).get(name)

    @property
    def checked(self) -> dict[str, Any]:
        """Return the day-2 change that the playbook has checked, empty for the whole site."""
        return dict(self._register(self.own, CHECKED).get("job") or {})

    def results(self, register: str, host: str) -> dict[str, Any]:
        """Return what a registered, delegated task said first for a host, whichever host of the play asked; empty where nothing did."""
        return next(self.reported(register, host), {})

    def reported(self, register: str, host: str) -> Iterator[dict[str, Any]]:
        """Yield all that a registered, delegated task said for a host; an item of its loop is the host, or begins with it."""
        for result in self.registered(register):
            item = result.get("item")
            if host == (item[0] if isinstance(item, list) else item) and not any(result.get(k) for k in ("unreachable", "failed", "skipped")):
                yield dict(result)

    @_kept
    def unreachable(self) -> set[str]:
        """Return the hosts that this run has found unreachable, in an earlier batch too, or whose answers count for nothing."""
        askers = dict.fromkeys((*self.batch, *self._variables.get("ansible_play_hosts_all", ())))
        results = [result for register in standing.READS for result in self._said_to(askers, register)]
        away = {result["item"] for result in results if result.get("unreachable") and not self.read(result["item"])}
        return away | set(self.silenced)

    @_kept
    def registered(self, register: str) -> list[dict[str, Any]]:
        """Return all results of a registered task, of all hosts of this batch."""
        return self._said_to(self.batch, register)

    def _said_to(self, askers: Iterable[str], register: str) -> list[dict[str, Any]]:
        return [result for asker in askers for result in self._register(asker, register).get("results", ())]

    @functools.cached_property
    def batch(self) -> list[str]:
        """Return the hosts of this batch of the play, with those that have died."""
        # As it began: who has died since has said something too. Hosts outside of it may have older registers, of another play.
        return list(self._register(self.own, "__cell_batch") or self.play_hosts)

    @_kept
    def answered(self, host: str) -> dict[str, Any]:
        """Return what a host has answered to the preflight."""
        return self.results("__cell_read", host) or self.results("__cell_others", host)

    @_kept
    def read(self, host: str) -> dict[str, Any]:
        """Return what the preflight has read on a host, as far as it counts."""
        return {} if host in self.silenced else self.answered(host)

    @_kept
    def said(self, host: str) -> dict[str, Any]:
        """Return what a cell has said of itself in this run: its identity phase, or else what was read."""
        found = self.results("__cell_identity", host) or self.read(host)
        return {} if standing.false_owner(self, host, found.get("public_key")) else found

    # Who takes part

    @_kept
    def others(self, host: str) -> list[str]:
        """Return the hosts of linked cells that are visible and no host of this batch of the play: they are asked by delegation."""
        wanted = {self.host_of[name] for name in self.link_items(host) if name in self.host_of}
        if self.changes_links:
            wanted = {self.host_of[name] for name in self._partners() if name in self.host_of}
            peers = self.results("__cell_read", host).get("peers", {})
            before = peers.get(self.job.get("peer"), {}).get("route_via")
            wanted |= {self.host_of[before]} if before in self.host_of else set()
        if self.transport(host) == TUNNEL or not self.concerned(host):
            return []
        return sorted(wanted - set(self.play_hosts) - self.unreachable() - {host})

    @_kept
    def transport(self, host: str) -> str:
        """Return how a host's cell tells others: by Ansible (delegate), through the tunnel, or (auto) by what reaches them."""
        return str(self.var(host, "cell_sync_transport") or AUTO)

    def sides(self, host: str) -> list[str]:
        """Return the hosts that a host of the play works on: in a day-2 job the other cells too, exits first."""
        return [*(self.others(host) if self.changes_links else ()), *self.concerned(host)]

    @property
    def changes_links(self) -> bool:
        """Tell whether the run is a day-2 change; one that only looks at one host (restore, replay) is for all that concerns it."""
        return "job" in self.job

    def concerned(self, host: str) -> list[str]:
        """Return a host of the play where the run is about it: an inventory can have a group of the name that the playbooks give to the one host of a job."""
        return [host] if host == self.job.get("host", host) else []

    @functools.cached_property
    def _worked_on(self) -> set[str]:
        return {side for own in self.play_hosts for side in self.sides(own)}

    def told(self, host: str) -> list[str]:
        """Return the hosts outside the play that a host hands what the play's cells say; each is told once, by the first that is linked with it."""
        outside = set(self.others(host)) - set(self.sides(host))
        return sorted(other for other in outside if host == next(own for own in self.play_hosts if other in self.others(own)))

    def invited(self) -> list[str]:
        """Return the cells that are in no inventory and that a link is made with: they are sent an invitation."""
        return [name for name in self._partners() if self.job.get("invitation") and name not in self.host_of]

    def partners(self, host: str, states: tuple[str, ...] = ("present", "absent")) -> list[str]:
        """Return the visible hosts that a host's cell is linked with, as far as this run is about it."""
        chosen = [self.host_of.get(str(item["name"])) for item in self.chosen_links(host) if (item.get("state") or "present") in states]
        return [other for other in chosen if other]

    def _partners(self) -> list[str]:
        return [name for name in (self.job.get("remote_cell"), self.job.get("via_cell")) if name and name != DIRECT]

    # Who takes which step: none that the preflight, or what the run has shown since, says would change nothing

    def due(self, host: str) -> list[str]:
        """Return what a host of the play has to do by what the preflight has found. Where no host has anything, nothing comes up later either."""
        base = [key for key in BASE if any(self.lacking(side) if key == "missing" else self.read(side).get(key) for side in self.sides(host))]
        invited = ["invited"] if self.invited() else []
        return [*base, *invited, *(step for step in STEPS if self.taking(host, step))]

    def lacking(self, host: str) -> list[str]:
        """Return the packages that the role installs on a host."""
        return list(self.read(host).get("missing", ())) if self.manages_packages(host) else []

    def manages_packages(self, host: str) -> bool:
        """Tell whether the role installs packages on a host."""
        return self.var(host, "cell_manage_packages") is not False

    def installing(self, host: str) -> list[list[Any]]:
        """Return what the role installs on the hosts that a host of the play works on: host, packages, and whether lists of packages are to be fetched."""
        return [[side, self.lacking(side), bool(self.read(side).get("unlisted"))] for side in self.sides(host) if self.lacking(side)]

    def taking(self, host: str, step: str) -> list[str]:
        """Return the hosts, of those that a host of the play works on, that have something to do in a step."""
        if step == "hand":
            return [other for other in self.told(host) if other not in self.lost and self._unheard(other)]
        return [side for side in self.sides(host) if side not in self.lost and self._has_to(side, step)]

    def _has_to(self, host: str, step: str) -> bool:
        """Tell whether a host's cell has something to do in a step, by what this run knows until then."""
        if step == "keys":
            return bool(self._keyless(host))
        if step == "hear":
            return bool(self._unheard(host))
        if step in ("note", "push"):
            # A push too where the others have answered: since then the cell's own timer may have told them what was before.
            return bool(self._untold(host))
        if self._extra.get("__cell_every_step"):
            return True
        # The preflight was given all that a cell does for itself, but not what others say in the run.
        due, heard = step in self.read(host).get("due", (step,)), self.results("__cell_taken", host)
        if step in ("identity", "agent"):
            return due
        if heard and step != "tell":
            return step in heard.get("due", ())
        return due or not self._foreseen(host)

    @_kept
    def _foreseen(self, host: str) -> bool:
        """Tell whether the other cells of a host's links have said in this run what its record had of them when the preflight rehearsed the run."""
        records = self.read(host).get("links", {})
        for item in self.chosen_links(host):
            link, other = self._link(host, item), self.host_of.get(str(item["name"]))
            if other is None or link["state"] == "absent":
                continue
            record = records.get(link["name"], {})
            # What is stated of an offer was rehearsed, but counts no longer once the cell has turned out to be away.
            said = [(link.get(key), record.get(key)) for key in ("public_key", "endpoint")]
            said += [(offer, record.get("remote_exit_offered")) for offer in (link.get("offered"), self._stated_offer(other, host))]
            if self._giver(host, other, item) or any(one not in (None, known) for one, known in said):
                return False
        return True

    # What each module is given

    def side(self, host: str) -> dict[str, Any]:
        """Return the arguments of all modules for the cell on a host."""
        links = [self._link(host, item) for item in self.chosen_links(host)]
        peers = [] if self.changes_links else self.var(host, "cell_peers") or []
        devices = [_only(peer, "name", "public_key", "preshared_key", "addresses", "networks", "route_via", "state") for peer in peers]
        routes, received, answers = self.routes(host), self._received(host), self._answers(host)
        return {
            "state_dir": self.state_dir(host),
            "transport": self.transport(host),
            "keyless": self._keyless(host),
            "cell": {
                "name": self.name(host),
                **{
                    key: self.var(host, f"cell_{key}")
                    for key in ("networks", "endpoint", "interface", "listen_port", "link_port_base", "uplink", "admin_networks", "sync_port")
                },
                "services": [{**service, "address": _as_list(service.get("address"))} for service in self.var(host, "cell_services") or ()],
            },
            "devices": devices,
            "reserve": [_only(link, "name", "interface", "listen_port", "state") for link in links],
            "links": [
                _only(
                    link,
                    *("name", "public_key", "generated", "networks", "allow_public_networks", "address", "endpoint", "interface", "listen_port"),
                    *("keepalive", "mtu", "preshared_key", "api_url", "sync_auth", "state"),
                )
                for link in links
            ],
            "rules": [
                _only(
                    link,
                    "name",
                    "public_key",
                    "networks",
                    "allow_public_networks",
                    "address",
                    "interface",
                    "listen_port",
                    "api_url",
                    "share",
                    "offer_exit",
                    "state",
                )
                for link in links
            ],
            "sync": [
                _only(
                    link,
                    "name",
                    "public_key",
                    "networks",
                    "allow_public_networks",
                    "address",
                    "interface",
                    "listen_port",
                    "share",
                    "offer_exit",
                    "offered",
                    "state",
                )
                for link in links
            ],
            "offers": [_only(link, "name", "offered", "expected") for link in links if link.get("state") != "absent"],
            "routes": routes,
            "received": received,
            "answers": answers,
            # What all of them are given: the preflight looks for what they would refuse, and check mode takes for done what comes before a module.
            "run": {
                "peers": devices,
                "links": [
                    _only(
                        link,
                        *(
                            "name",
                            "public_key",
                            "networks",
                            "allow_public_networks",
                            "address",
                            "endpoint",
                            "interface",
                            "listen_port",
                            "keepalive",
                            "mtu",
                            "preshared_key",
                            "api_url",
                            "sync_auth",
                        ),
                        *("share", "offer_exit", "offered", "state"),
                    )
                    for link in links
                ],
                "routes": routes,
                "received": received,
                "answers": answers,
            },
        }

    def refusals(self) -> list[str]:
        """Return what the read-only preflight found that forbids the run of this host."""
        return standing.refusals(self)

    @functools.cached_property
    def silenced(self) -> dict[str, str]:
        """Return the hosts whose answers count for nothing in this run, and why."""
        return standing.silenced(self)

    @functools.cached_property
    def lost(self) -> dict[str, str]:
        """Return the hosts on which a step of this run has failed, and why."""
        return standing.lost(self)

    def alone(self, host: str) -> bool:
        """Tell whether a host goes on where another of its run fails: always for the whole site, else where it takes something away."""
        return not self.changes_links or standing.takes_away(self, host)

    def unfit(self, host: str) -> list[str]:
        """Return why a day-2 change cannot be: it names what neither inventory nor records know."""
        read, own = self.results("__cell_read", host), self.name(host)
        items = self.link_items(host)
        found = [
            f"Cell {own!r} knows no cell {name!r}: neither the inventory nor its record has one. Correct the name, or link the cells first."
            for name in self._partners()
            if name not in self.host_of and name not in items and name not in read.get("links", {}) and not self.job.get("invitation")
        ]
        peer = self.job.get("peer")
        peers = {item["name"] for item in self.var(host, "cell_peers") or ()} | set(read.get("peers", {}))
        if peer and peer not in peers:
            found.append(f"Cell {own!r} has no peer {peer!r}. Its peers: {', '.join(sorted(peers)) or 'none'}. Correct the name, or add it to cell_peers.")
        return found

    def unfit_routes(self, host: str) -> list[str]:
        """Return which ways of devices cannot be: new ones through a cell that is not linked, or that neither inventory nor records know to offer."""
        read, own, found = self.results("__cell_read", host), self.name(host), []
        links = {item["name"]: self._link(host, item) for item in self.chosen_links(host)}
        for route in self.routes(host) if read else ():
            peer, via = route["peer"], route["via_cell"]
            if not via or via == DIRECT or read.get("peers", {}).get(peer, {}).get("route_via") == via:
                continue
            link = {**read.get("links", {}).get(via, {}), **links.get(via, {})}
            begin = f"Peer {peer!r} cannot be routed via {via!r}: "
            if any(sentence.startswith(begin) for sentence in read.get("refusals", ())):
                continue  # said already
            if not link or link.get("state") == "absent":
                found.append(f"{begin}cell {own!r} has no link with it. Link the cells first, or send the peer direct.")
            elif not (link.get("expected") or (link.get("remote_exit_offered") if link.get("offered") is None else link["offered"])):
                found.append(f"{begin}that cell has not offered {own!r} an exit. Let it offer one (pic.cells.offer_exit), or send the peer direct.")
        return found

    @_kept
    def chosen_links(self, host: str) -> list[dict[str, Any]]:
        """Return what is stated of a host's links, as far as this run is about them."""
        items = self.link_items(host)
        if not self.changes_links:
            return list(items.values())
        own = self.name(host)
        wanted = [name for name in (self._partners() if own == self.job["cell"] else [self.job["cell"]]) if name != own]
        chosen = []
        for name in wanted:
            item = items.get(name, {"name": name})
            if self.job["job"] != LINK:
                # Silence keeps: a day-2 change enforces nothing but itself.
                item = {key: value for key, value in item.items() if key not in ("share", "offer_exit", "state")}
            if own == self.job["cell"]:
                item = {**item, **self.job.get("change", {})}
            if self.job["job"] == "unlink":
                item["state"] = "absent"
            chosen.append(item)
        return chosen

    def _link(self, host: str, item: Mapping[str, Any]) -> dict[str, Any]:
        """Complete what is stated of a link with what the other cell's inventory and this run say."""
        link = {"state": "present", **{key: value for key, value in item.items() if value not in (None, "")}}
        link["address"] = _as_list(link.get("address")) or None
        other = self.host_of.get(str(link["name"]))
        if other is None:
            # Not a part of the job, which a verbose run prints.
            secret = self._preshared_key() if self.job.get("job") == LINK else None
            if secret:
                link["preshared_key"] = secret
            return link
        made = self._given_key(host, other, item)
        if made:
            link.setdefault("preshared_key", made)
        said = self.said(other)
        told = (said.get("links") or {}).get(self.name(host), {})
        if link.setdefault("public_key", said.get("public_key")) == said.get("public_key"):
            link["generated"] = said.get("generated")
        link.setdefault("networks", self.networks(other) or None)
        link["address"] = link["address"] or self.addresses(other) or None
        endpoint, port = self.var(other, "cell_endpoint"), endpoints.port_of(self, other, self.name(host)) or told.get("listen_port")
        if endpoint and port:
            link.setdefault("endpoint", host_port(endpoint, port))
        # What this run states; a day-2 change leaves all other offers as the other cell's record has them.
        stated = self._stated_offer(other, host)
        link["expected"] = stated is True
        # A cell that is not part of the run goes on offering what it does, whatever is stated: its record counts.
        takes_part = self.changes_links or (other in self.play_hosts and other not in self.unreachable())
        link["offered"] = stated if takes_part and stated is not None else told.get("exit_offered")
        return link

    def _stated_offer(self, host: str, to: str) -> bool | None:
        """Return whether this run states that a host's cell offers another an exit, None where it states neither."""
        return next((item.get("offer_exit") for item in self.chosen_links(host) if item.get("name") == self.name(to)), None)

    # Preshared keys between cells of the inventory: given out by one cell, installed on both in one run

    def _keyless(self, host: str) -> list[str]:
        """Return the links whose preshared key a host's cell gives out in this run: those whose ends do not have the same one."""
        others = [(str(item["name"]), self.host_of.get(str(item["name"])), item) for item in self.chosen_links(host)]
        return sorted(name for name, other, item in others if other and self._giver(host, other, item) == host)

    def _giver(self, host: str, other: str, item: Mapping[str, Any]) -> str | None:
        """Return the host that gives out a link's preshared key: the cell with the lower name, or the only one that has a key.

        None where both ends have the same key and keep it, where one of them is not worked on in this run, and where somebody states it.
        """
        if item.get("preshared_key") or item.get("state") == "absent" or not {host, other} <= self._worked_on or not (self.read(host) and self.read(other)):
            return None
        low, high = sorted((host, other), key=self.name)
        of_high, of_low = (self.read(one).get("links", {}).get(self.name(two), {}) for one, two in ((low, high), (high, low)))
        has_low, has_high = of_high.get("preshared_key_id"), of_low.get("preshared_key_id")
        # A cell forgets the preshared key of a cell that has another public key.
        kept = all(record.get("public_key") == self.said(one).get("public_key") for one, record in ((low, of_low), (high, of_high)))
        if has_low and has_low == has_high and kept:
            return None
        return high if has_high and not has_low else low

    def _given_key(self, host: str, other: str, item: Mapping[str, Any]) -> str | None:
        giver = self._giver(host, other, item)
        if giver is None:
            return None
        key = self.results("__cell_keys", giver).get("preshared_keys", {}).get(self.name(other if giver == host else host))
        return None if key is None else str(key)

    def routes(self, host: str) -> list[dict[str, Any]]:
        """Return the ways of a host's devices, as far as this run is about them."""
        if not self.changes_links:
            return [{"peer": peer["name"], "via_cell": peer.get("route_via")} for peer in self.var(host, "cell_peers") or () if peer.get("state") != "absent"]
        if self.job.get("peer") and self.name(host) == self.job["cell"]:
            return [{"peer": self.job["peer"], "via_cell": self.job["via_cell"]}]
        return []

    @_kept
    def _payloads(self, host: str) -> dict[str, dict[str, Any]]:
        """Return what a host's cell tells the others in this run, by their names: as it has built it, or as the preflight read it where that is the same."""
        built = self.results("__cell_built", host).get("payloads", {})
        if not built and host in self._worked_on and not self._has_to(host, "tell"):
            built = self.read(host).get("payloads", {})
        return standing.messages(self, host, built)

    @_kept
    def forgotten(self, host: str) -> list[str]:
        """Return the cells that a host's record has a link with, of which the inventory says nothing, and that have none with it any more."""
        stated = {str(item["name"]) for item in self.chosen_links(host)}
        others = {name: self.read(self.host_of[name]) for name in self.read(host).get("links", {}) if name in self.host_of and name not in stated}
        return [name for name, read in others.items() if read and self.name(host) not in read.get("links", {})]

    def garbled(self, host: str, to: str) -> bool:
        """Tell whether a host's cell has something for another that is no message of it."""
        name = self.name(to)
        said = {**self.read(host).get("payloads", {}), **self.results("__cell_built", host).get("payloads", {})}
        return name in said and name not in standing.messages(self, host, said)

    def _received(self, host: str) -> list[dict[str, Any]]:
        own = self.name(host)
        others = [other for other in self.hosts if other != host and self.transport(other) != TUNNEL and own not in self.forgotten(other)]
        messages = (self._payloads(other).get(own) for other in others)
        return [message for message in messages if message]

    def _unheard(self, host: str) -> list[dict[str, Any]]:
        """Return the messages of others that are news to a host's cell."""
        return [message for message in self._received(host) if not self._settled(self.host_of[message["from_cell"]], self.name(host), message)]

    def _untold(self, host: str) -> dict[str, dict[str, Any]]:
        """Return the messages of a host's cell that are news to others, by their names."""
        return {name: message for name, message in self._payloads(host).items() if not self._settled(host, name, message)}

    def _settled(self, host: str, told: str, payload: Mapping[str, Any]) -> bool:
        """Tell whether what a host's cell says to another one is known there already, by what the preflight has read on both, or on the one it has read."""
        link, other = self.read(host).get("links", {}).get(told, {}), self.host_of.get(told)
        if told in self.forgotten(host):
            return True  # there it would be refused in every run
        if link.get("pending_push") is not False or link.get("generation") != payload["generation"]:
            return False
        if other is None or self.transport(host) == TUNNEL or not self.read(other):
            return True
        known = self.read(other).get("links", {}).get(self.name(host), {})
        return (known.get("public_key"), known.get("remote_generation")) == (payload["from_public_key"], payload["generation"])

    def _answers(self, host: str) -> dict[str, Any]:
        """Return the answers of the cells that were to be told in this run, empty for one that was not reached."""
        own = self.name(host)
        answers: dict[str, Any] = {}
        partners = {*self.play_hosts, *self.others(host), *self.unreachable()}
        for name in self._untold(host):
            other = self.host_of.get(name)
            if other in partners and self.transport(host) != TUNNEL:
                # A cell of an earlier batch answers each later one anew.
                heard = [result.get("answers") or {} for register in ("__cell_taken", "__cell_handed") for result in self.reported(register, other)]
                answers[name] = peer_sync.check_answer(next((_only(answer[own], *_ANSWERED) for answer in heard if own in answer), None)) or {}
        return answers


class _Once(dict[str, Any]):
    """The variables of hosts, each put together once: hostvars does it at every access, for a millisecond or more."""

    def __init__(self, hostvars: Mapping[str, Any]) -> None:
        super().__init__()
        self._source = hostvars

    def __missing__(self, host: str) -> Any:
        self[host] = self._source[host]
        return self[host]

    def __contains__(self, host: object) -> bool:
        return host in self._source


def _as_list(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _only(item: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: item[key] for key in keys if item.get(key) is not None}
