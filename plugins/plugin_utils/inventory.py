# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory states of cells, and of the links between them, as far as a run is about them.

Every host may be absent: outside --limit, cut away by a slice of AWX, or somebody else's. What is not visible is None, which the modules take for
"as the record has it"; nothing is ever removed because it is not visible.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.names import DIRECT, check_state_dir
from ansible_collections.pic.cells.plugins.module_utils.base.times import render_moment
from ansible_collections.pic.cells.plugins.module_utils.kernel.provided import read as read_provided
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR
from ansible_collections.pic.cells.plugins.plugin_utils import offers, schema
from ansible_collections.pic.cells.plugins.plugin_utils.registers import Registers, kept

try:
    import netaddr
except ImportError:
    HAS_NETADDR = False
else:
    HAS_NETADDR = True

GROUP = "cells"
LINK, ROTATE_KEY, ROUTE_PEER = "link", "rotate_key", "route_peer"
ADD_DEVICE, REMOVE_DEVICE, SHOW_DEVICE = "add_device", "remove_device", "show_device"
AUTO, TUNNEL = "auto", "tunnel"
FIXED, KNOWN = "__cell_stated", "__cell_known"  # registers
_OF_BOTH = ("state", "preshared_key")  # of a link, what one side states for both


class Stated(Registers):
    """All visible cells as they are stated. A host is an inventory name, a cell is a cell_name."""

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
        super().__init__(variables)
        self._template, self.preshared_key = template, preshared_key
        self._variables = variables
        self._hostvars = _Once(variables["hostvars"])
        # An extra var has a name of our own too, so it is never taken from an inventory.
        self.extra: Mapping[str, Any] = variables.get("extra", variables)
        self.job = job or {}
        self.all_play_hosts: list[str] = list(variables.get("ansible_play_hosts_all", ()))
        # A run is about one group, so its name is none of one host: an extra var, for the playbooks, or any variable where the role is used without them.
        # What was stated of the hosts of this batch when the role began, before any connection, and what follows for all cells.
        self._fixed: Mapping[str | None, Mapping[str, Any]] = self.register(self.own, FIXED).get("stated", {})
        self._known: Mapping[str, Mapping[str, Any]] = self.register(self.own, KNOWN).get("cells", {})
        asked = self.extra.get(schema.GROUP_VARIABLE)  # never filled in, as in the playbooks
        self.group = str(self._fixed.get(self.own, {}).get(schema.GROUP_VARIABLE) or asked or template(variables.get(schema.GROUP_VARIABLE)) or GROUP)
        names = self._known.get("names")
        visible = self._hostvars if names is None else names
        self.hosts: list[str] = [host for host in variables.get("groups", {}).get(self.group, ()) if host in visible]
        self.host_of = {names[host] if names else self.name(host): host for host in reversed(self.hosts)}

    @kept
    def var(self, host: str, key: str) -> Any:
        """Return a variable of a host, None where it is absent or an empty text; a text for a list is the list, of one or with commas."""
        return schema.normal(key, self.stated(host, key))

    def stated(self, host: str, key: str) -> Any:
        """Return a variable of a host as it is written; those of a role and its play, which are in no hostvars, as they were when the role began there."""
        fixed = self._fixed.get(host)
        if fixed is not None:
            return fixed.get(key)
        return self._template(self._variables[key]) if host == self.own and key in self._variables else self._hostvars[host].get(key)

    def variables(self, host: str) -> list[str]:
        """Return the names of all variables of a host."""
        return sorted({*self._hostvars[host], *self._fixed.get(host, ()), *(self._variables if host == self.own else ())})

    @kept
    def name(self, host: str) -> str:
        """Return the name of the cell on a host: cell_name, or the host's name up to its first dot."""
        return str(self._of_all("names", host) or self.var(host, "cell_name") or host.split(".", 1)[0])

    @kept
    def networks(self, host: str) -> list[str]:
        """Return the networks of a host's cell, without host bits."""
        known: list[str] | None = self._of_all("networks", host)
        return [str(netaddr.IPNetwork(n).cidr) for n in self.var(host, "cell_networks") or ()] if known is None else known

    @kept
    def addresses(self, host: str) -> list[str]:
        """Return the own addresses of a host's cell."""
        known: list[str] | None = self._of_all("addresses", host)
        return [str(netaddr.IPNetwork(n).ip) for n in self.var(host, "cell_networks") or ()] if known is None else known

    def cells(self) -> dict[str, dict[str, Any]]:
        """Return what each host of a run needs of all cells, so that it is worked out once."""
        of_hosts = {"names": self.name, "networks": self.networks, "addresses": self.addresses}
        return {**{kind: {host: read(host) for host in self.hosts} for kind, read in of_hosts.items()}, "linking": dict(self.linking)}

    def _of_all(self, kind: str, host: str) -> Any:
        return self._known.get(kind, {}).get(host)

    def state_dir(self, host: str) -> str:
        """Return the folder of the records on a host."""
        return check_state_dir(self.var(host, "cell_state_dir") or STATE_DIR)

    @kept
    def transport(self, host: str) -> str:
        """Return how a host's cell tells others: by Ansible (delegate), through the tunnel, or (auto) by what reaches them."""
        return str(self.var(host, "cell_sync_transport") or AUTO)

    def manages_packages(self, host: str) -> bool:
        """Tell whether the role installs packages on a host."""
        return self.var(host, "cell_manage_packages") is not False

    @kept
    def link_items(self, host: str) -> dict[str, dict[str, Any]]:
        """Return what is stated of a host's links, by the other cell's name; a link stated on the other side counts."""
        own = self.name(host)
        names = [*self.stated_links(host), *(self.name(other) for other in self.linking.get(own, ()) if other != host)]
        items = {name: self.link_item(host, name) for name in dict.fromkeys(names)}
        return {name: item for name, item in items.items() if item is not None}

    @functools.cached_property
    def linking(self) -> Mapping[str, Mapping[str, int]]:
        """Return by the name of a cell the hosts that state a link with it, each with the place of that link among its own."""
        if "linking" in self._known:
            return self._known["linking"]
        found: dict[str, dict[str, int]] = {}
        for host in self.hosts:
            for place, item in schema.items(self._written_links(host)):
                found.setdefault(str(item["name"]), {})[host] = place
        return found

    @kept
    def link_item(self, host: str, name: str) -> dict[str, Any] | None:
        """Return what is stated of a host's link with one other cell, on either side; None where neither states it."""
        item, other = self.stated_link(host, name), self.host_of.get(name)
        mirrored = None if other in (None, host) else self.stated_link(str(other), self.name(host))
        if mirrored is None:
            return item
        return {"name": name, **{key: mirrored.get(key) for key in _OF_BOTH}, **(item or {})}

    @kept
    def stated_link(self, host: str, name: str) -> dict[str, Any] | None:
        """Return what a host itself states of its link with a cell."""
        place = self.linking.get(name, {}).get(host)
        return None if place is None else offers.split_offer(schema.normal_item("cell_links", self._written_links(host)[place]))

    def stated_links(self, host: str) -> list[str]:
        """Return the cells that a host itself states a link with."""
        return list(dict.fromkeys(str(item["name"]) for _place, item in schema.items(self._written_links(host))))

    @kept
    def _written_links(self, host: str) -> Any:
        return self.stated(host, "cell_links")

    @functools.cached_property
    def _order(self) -> dict[str, int]:
        return {host: number for number, host in enumerate(self.hosts)}

    @functools.cached_property
    def playing(self) -> frozenset[str]:
        """Return the hosts of the play that it still has."""
        return frozenset(self.play_hosts)


class Inventory(Stated):
    """All visible cells as they are stated, as far as a run is about them."""

    @property
    def changes_links(self) -> bool:
        """Tell whether the run is a day-2 change; one that only looks at one host (restore, replay) is for all that concerns it."""
        return "job" in self.job

    def only_asker(self, host: str) -> str:
        """See Registers. A host of the play works on itself alone, but for a day-2 change; one that has left it is asked by others."""
        return host if host in self.playing and not self.changes_links else ""

    def concerned(self, host: str) -> list[str]:
        """Return a host of the play where the run is about it: an inventory can have a group of the name that the playbooks give to the one host of a job."""
        return [host] if host == self.job.get("host", host) else []

    def named(self) -> list[str]:
        """Return the other cells that a day-2 change names."""
        exits = self.provided(self.host_of[self.job["cell"]]) if self.job.get("via_cell") else {}
        return [name for name in (self.job.get("remote_cell"), *self.job.get("via_cell", ())) if name and name != DIRECT and name not in exits]

    def partners(self, host: str, states: tuple[str, ...] = ("present", "absent")) -> list[str]:
        """Return the visible hosts that a host's cell is linked with, as far as this run is about it."""
        chosen = [self.host_of.get(str(item["name"])) for item in self.chosen_links(host) if (item.get("state") or "present") in states]
        return [other for other in chosen if other]

    def invited(self) -> list[str]:
        """Return the cells that are in no inventory and that a link is made with: they are sent an invitation."""
        return [name for name in self.named() if self.job.get("invitation") and not self.job.get("pairing") and name not in self.host_of]

    def chosen_links(self, host: str) -> list[dict[str, Any]]:
        """Return what is stated of a host's links, as far as this run is about them."""
        return list(self.chosen(host).values())

    @kept
    def chosen(self, host: str) -> dict[str, dict[str, Any]]:
        """Return what is stated of a host's links, as far as this run is about them, by the other cell's name."""
        if not self.changes_links:
            return self.link_items(host)
        return {name: self.chosen_link(host, name) or {"name": name} for name in self._changed(host)}

    @kept
    def chosen_link(self, host: str, name: str) -> dict[str, Any] | None:
        """Return what is stated of one link as far as this run is about it, None where nothing is."""
        item = self.link_item(host, name)
        if not self.changes_links:
            return item
        if name not in self._changed(host):
            return None
        item = dict(item or {"name": name})
        if self.job["job"] != LINK:
            # Silence keeps: a day-2 change enforces nothing but itself.
            item = {key: value for key, value in item.items() if key not in ("share", *offers.RIGHTS, "state")}
        if self.name(host) == self.job["cell"]:
            item.update(self.job.get("change", {}))
        if self.job["job"] == "unlink":
            item["state"] = "absent"
        return item

    @kept
    def _changed(self, host: str) -> list[str]:
        """Return the cells whose links with a host's cell a day-2 change is about."""
        own = self.name(host)
        return [name for name in (self.named() if own == self.job["cell"] else [self.job["cell"]]) if name != own]

    @kept
    def provided(self, host: str) -> dict[str, dict[str, Any]]:
        """Return what is stated of a host's exits that are no cells, by name."""
        return {str(item["name"]): schema.normal_item("cell_exits", item) for _place, item in schema.items(self.stated(host, "cell_exits"))}

    def stated_routes(self, host: str) -> list[dict[str, Any]]:
        """Return the exits that are stated of a host's devices, as far as this run is about them."""
        if not self.changes_links:
            peers = [peer for peer in self.var(host, "cell_peers") or () if peer.get("state") != "absent"]
            # No playbook for a single change states exceptions, so one that the inventory states no more is gone.
            return [{"peer": peer["name"], "via_cell": peer.get("route_via"), "route_except": peer.get("route_except") or []} for peer in peers]
        if self.job.get("via_cell") and self.name(host) == self.job["cell"]:
            return [{"peer": self.job["peer"], "via_cell": self.job["via_cell"]}]
        return []

    def asked_device(self, host: str) -> list[dict[str, Any]]:
        """Return the device of a host's cell that a day-2 change adds or removes."""
        return [self.job["item"]] if self.job.get("item") and host == self.job["host"] else []

    def stated_offer(self, host: str, to: str) -> bool | None:
        """Return whether this run states that a host's cell offers another an exit, None where it states neither."""
        item = self.chosen_link(host, self.name(to)) or {}
        if item.get(offers.UNTIL) and not self.answered(host):
            return None  # its own clock tells, and until that is read its record: else the preflight would rehearse by another clock than the run goes by
        return False if self.has_ended(host, item) else item.get(offers.OFFER)

    def expects_offer(self, host: str, to: str) -> bool:
        """Tell whether this run states that a host's cell offers another an exit, though nobody may have read that cell."""
        item = self.chosen_link(host, self.name(to)) or {}
        return item.get(offers.OFFER) is True and not self.has_ended(host, item)

    def has_ended(self, host: str, item: Mapping[str, Any]) -> bool:
        """Tell whether an offer that is stated of a host's cell has ended, by the clock of that cell where it has been read, which is what ends it there."""
        return bool(item.get(offers.UNTIL)) and offers.has_ended(item, render_moment(self.answered(host).get("read_at") or time.time()))


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


def exits(cells: Inventory, host: str) -> list[dict[str, Any]] | None:
    """Return a host's exits that are no cells: all of them, as what is stated no more is gone; None in a day-2 change, which says nothing of them."""
    if cells.changes_links:
        return None
    return [
        {**only(item, "name", "config_file"), **(asdict(read_provided(item["config"], f"config of exit {name!r}")) if "config" in item else {})}
        for name, item in cells.provided(host).items()
    ]


def exits_of(route: Mapping[str, Any]) -> list[str]:
    """Return all that is named as an exit of a device, also by its exceptions; "direct" too."""
    return [*(route.get("via_cell") or ()), *(item["via"] for item in route.get("route_except") or ())]


def as_list(value: Any) -> list[Any]:
    """Return the items of a list, one value as a list of it, and nothing as an empty one."""
    if value in (None, ""):
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def only(item: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return some keys of an item, those that have a value."""
    return {key: item[key] for key in keys if item.get(key) is not None}
