# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links with all that both sides state and say of them: offers, preshared keys, and the exits of devices that hang on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.names import DIRECT
from ansible_collections.pic.cells.plugins.module_utils.base.networks import host_port
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import LINK, ROTATE_KEY, TUNNEL, as_list, exits_of
from ansible_collections.pic.cells.plugins.plugin_utils.participants import Participants
from ansible_collections.pic.cells.plugins.plugin_utils.registers import believed


class Pairs(Participants):
    """The links of this run."""

    @believed
    def links(self, host: str) -> dict[str, dict[str, Any]]:
        """Return the links that this run is about, with all that the other cells' inventory and this run say of them; by the other cell's name."""
        return {name: self._link(host, item) for name, item in self.chosen(host).items()}

    def _link(self, host: str, item: Mapping[str, Any]) -> dict[str, Any]:
        """Complete what is stated of a link with what the other cell's inventory and this run say."""
        link = {"state": "present", **{key: value for key, value in item.items() if value not in (None, "")}}
        link["address"] = as_list(link.get("address")) or None
        other = self.host_of.get(str(link["name"]))
        if other is None:
            # Not a part of the job, which a verbose run prints.
            # That of an invitation leads to the link's own.
            secret = self.preshared_key() if self.job.get("job") in (LINK, ROTATE_KEY) and not self.job.get("pairing") else None
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
        link["expected"] = self.expects_offer(other, host)
        link["offered"] = self._offered(other, host, said)
        return link

    def _offered(self, host: str, to: str, said: Mapping[str, Any]) -> bool | None:
        """Return whether a host's cell offers another an exit in this run, by what it has said; None where nobody knows."""
        # What this run states; a day-2 change leaves all other offers as the other cell's record has them.
        stated = self.stated_offer(host, to)
        # A cell that is not part of the run goes on offering what it does, whatever is stated: its record counts.
        takes_part = self.changes_links or (host in self.play_hosts and host not in self.unreachable())
        if takes_part and stated is not None:
            return stated
        told: bool | None = (said.get("links") or {}).get(self.name(to), {}).get("exit_offered")
        return told

    @property
    def rotates_link(self) -> bool:
        """Tell whether the run is for another preshared key of one link."""
        return self.job.get("job") == ROTATE_KEY and "remote_cell" in self.job

    def keyless(self, host: str) -> list[str]:
        """Return the links whose preshared key a host's cell gives out in this run: those whose ends do not have the same one."""
        others = [(name, self.host_of.get(name), item) for name, item in self.chosen(host).items()]
        return sorted(name for name, other, item in others if other and self.giver(host, other, item) == host)

    def giver(self, host: str, other: str, item: Mapping[str, Any]) -> str | None:
        """Return the host that gives out a link's preshared key: the cell with the lower name, or the only one that has a key.

        None where both ends have the same key and keep it, where one of them is not worked on in this run, and where somebody states it.
        """
        if item.get("preshared_key") or item.get("state") == "absent" or not {host, other} <= self.worked_on or not (self.read(host) and self.read(other)):
            return None
        if self.rotates_link:
            return str(self.job["host"])
        low, high = sorted((host, other), key=self.name)
        of_high, of_low = (self.read(one).get("links", {}).get(self.name(two), {}) for one, two in ((low, high), (high, low)))
        has_low, has_high = of_high.get("preshared_key_id"), of_low.get("preshared_key_id")
        # A cell forgets the preshared key of a cell that has another public key.
        kept = all(record.get("public_key") == self.said(one).get("public_key") for one, record in ((low, of_low), (high, of_high)))
        if has_low and has_low == has_high and kept:
            return None
        return high if has_high and not has_low else low

    def _given_key(self, host: str, other: str, item: Mapping[str, Any]) -> str | None:
        giver = self.giver(host, other, item)
        if giver is None:
            return None
        key = self.results("__cell_keys", giver).get("preshared_keys", {}).get(self.name(other if giver == host else host))
        return None if key is None else str(key)

    def unfit(self, host: str) -> list[str]:
        """Return why a day-2 change cannot be: it names what neither inventory nor records know."""
        read, own = self.results("__cell_read", host), self.name(host)
        items = self.link_items(host)
        found = [
            f"Cell {own!r} does not know cell {name!r}: neither the inventory nor its records contain it. Correct the name, or link the cells first."
            for name in self.named()
            if name not in self.host_of and name not in items and name not in read.get("links", {}) and not self.job.get("invitation")
        ]
        remote = self.job.get("remote_cell")
        if remote and (remote in self.provided(host) or read.get("links", {}).get(remote, {}).get("given_addresses")):
            found.append(f"{remote!r} is an exit of cell {own!r} that is no cell (cell_exits), so nothing can be done with it but to route devices via it.")
        if self.rotates_link and not found:
            found += self._unfit_rotation(host, str(remote))
        peer = self.job.get("peer")
        peers = {item["name"] for item in self.var(host, "cell_peers") or ()} | set(read.get("peers", {}))
        if peer and peer not in peers and not self.job.get("item"):
            found.append(f"Cell {own!r} has no peer {peer!r}. Its peers: {', '.join(sorted(peers)) or 'none'}. Correct the name, or add it to cell_peers.")
        return found

    def _unfit_rotation(self, host: str, remote: str) -> list[str]:
        """Return why a link cannot get another preshared key: both sides need it, or the tunnel ends with the next handshake."""
        other = self.host_of.get(remote)
        if other and self.transport(host) == TUNNEL:
            why = (
                f"This run works on cell {self.name(host)!r} alone (cell_sync_transport: tunnel), and a preshared key has to change on both sides. State "
                f"preshared_key for its link with {remote!r} in the inventory, and run pic.cells.site."
            )
            return [why]
        for one, two in ((host, remote), *([(other, self.name(host))] if other else ())):
            if not self.read(one):
                return [f"For this link a preshared key has to change on both sides, and cell {remote!r} was not reached. Run this again when it is back."]
            if not self.read(one).get("links", {}).get(two, {}).get("public_key"):
                return [f"Cell {self.name(one)!r} has no link with {two!r} yet, so there is no key to change. Link the cells first (pic.cells.site)."]
        return []

    @believed
    def unfit_routes(self, host: str) -> dict[str, tuple[str, str]]:
        """Return which exits of devices cannot be, why, and what to do: new ones, through a cell that is not linked, or not known to offer.

        What the preflight has read counts, whatever a cell says later in the run.
        """
        read, found = self.results("__cell_read", host), {}
        for route in self.stated_routes(host) if read else ():
            peer = route["peer"]
            before = read.get("peers", {}).get(peer, {})
            known = {DIRECT, *as_list(before.get("route_via")), *before.get("route_except", {}).values()}
            unfit = (self._unfit_exit(host, peer, via) for via in exits_of(route) if via not in known and not self._is_provided(host, via))
            why = next(filter(None, unfit), None)
            if why:
                found[peer] = why
        return found

    def _is_provided(self, host: str, via: str) -> bool:
        """Tell whether an exit is one that is no cell, as the inventory states; not where the cell itself still knows a cell of that name."""
        link = self.results("__cell_read", host).get("links", {}).get(via)
        return via in self.provided(host) and (link is None or bool(link.get("given_addresses")))

    def _unfit_exit(self, host: str, peer: str, via: str) -> tuple[str, str] | None:
        """Return why a cell cannot become an exit of a device, and what to do; None where it can, or the cell itself has said it already."""
        read, own, other = self.results("__cell_read", host), self.name(host), self.host_of.get(via)
        link = {**read.get("links", {}).get(via, {}), **self.links(host).get(via, {})}
        offered = self._offered(other, host, self.read(other)) if other else None
        begin = f"Peer {peer!r} cannot be routed via {via!r}: "
        if any(sentence.startswith(begin) for sentence in read.get("refusals", ())):
            return None
        if link.get("given_addresses"):
            return None
        if not link or link.get("state") == "absent":
            return f"{begin}cell {own!r} has no link with it", "Link the cells first, or send the peer direct."
        if not (link.get("expected") or (link.get("remote_exit_offered") if offered is None else offered)):
            return f"{begin}that cell has not offered {own!r} an exit", "Let it offer one (pic.cells.offer_exit), or send the peer direct."
        return None
