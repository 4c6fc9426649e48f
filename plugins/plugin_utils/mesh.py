# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's view of all cells: who has to do what in a run, and what cells tell each other in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.parts import peer_sync
from ansible_collections.pic.cells.plugins.plugin_utils import standing, trust
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import TUNNEL, only
from ansible_collections.pic.cells.plugins.plugin_utils.offers import OFFER
from ansible_collections.pic.cells.plugins.plugin_utils.pairs import Pairs
from ansible_collections.pic.cells.plugins.plugin_utils.registers import believed, kept

SITE = "site"
# The steps of the role that are taken by those who have something to do in them, in its order; and what its other tasks do, as the preflight reads it.
STEPS = ("identity", "keys", "pair", "tell", "hand", "apply", "push")
APPLY, APPLIED = "apply", ("rules", "links", "routes", "agent")  # what of a run the cell itself knows to be due in that step
# What the lookup pic.cells.side is asked for besides hosts, so no host can be called so.
WORDS = (
    *STEPS,
    *("job", "state_dir", "interface", "own", "sides", "others", "missing", "advertised", "unforwarded", "invited", "refusals", "invitations"),
    *("role files", "left out", "ending", "summary"),
)
BASE = ("missing", "advertised", "unforwarded")
# Each file of the role after the preflight, in order, with the findings that make it necessary. Files without any are included as soon as any host has
# something to do, because what one cell says can be news for another.
FILES: dict[str, tuple[str, ...]] = {
    "base": BASE,
    "identity": ("identity",),
    "keys": ("keys", "identity"),  # there a cell may have another key than it was read with
    "pair": ("pair",),
    "sync": (),
    "apply": (),
    "push": (),
    "invite": ("invited",),
}
REFUSE = "refuse"

_ANSWERED = ("status", "generation", "reason")


class Mesh(Pairs):
    """All visible cells in a run."""

    def refusals(self) -> list[str]:
        """Return what the read-only preflight found that forbids the run of this host."""
        known = self.judged.get("refusals")
        return standing.refusals(self, self._objections()) if known is None else list(known.get(self.own, ()))

    @believed
    def _objections(self) -> list[tuple[str, str]]:
        return list(standing.objections(self))

    @believed
    def held(self, host: str) -> dict[str, tuple[str, str]]:
        """Return the devices that keep the exit they have, since the one that is stated cannot be, while the run takes something else away.

        A device that is new has none to keep: its route is made, and is closed until there is an exit.
        """
        known = self.results("__cell_read", host).get("peers", {})
        return {peer: why for peer, why in self.unfit_routes(host).items() if peer in known} if standing.takes_away(self, host) else {}

    def routes(self, host: str) -> list[dict[str, Any]]:
        """Return the exits that a host's devices get in this run."""
        return [route for route in self.stated_routes(host) if route["peer"] not in self.held(host)]

    def any_due(self) -> list[str]:
        """Return what the hosts of the play have to do by what the preflight has found. Where none has anything, nothing comes up later either."""
        due: Mapping[str, list[str]] = self.judged.get("due", {})
        return list(dict.fromkeys([step for host, steps in due.items() if host in self.playing for step in steps]))

    def role_files(self) -> list[str]:
        """Return the files of the role that this run includes: the same for each host, because Ansible would otherwise run them in different orders."""
        due = set(self.any_due())
        refused = [REFUSE] if any(self.judged.get("refusals", {}).values()) else []
        return [*refused, *(file for file, found in FILES.items() if due and (not found or due.intersection(found)))]

    def due(self, host: str) -> list[str]:
        """Return what a host of the play has to do by what the preflight has found."""
        base = [key for key in BASE if any(self.lacking(side) if key == "missing" else self.read(side).get(key) for side in self.sides(host))]
        invited = ["invited"] if self.invited() else []
        return [*base, *invited, *(step for step in STEPS if self.taking(host, step))]

    def taking(self, host: str, step: str) -> list[str]:
        """Return the hosts, of those that a host of the play works on, that have something to do in a step."""
        if step == "hand":
            return [other for other in self.told(host) if not self.lost(other) and self._unheard(other)]
        sides = [side for side in self.sides(host) if not self.lost(side) and self._has_to(side, step)]
        # A device moves when its exit is ready, and before it ends.
        return sides[::-1] if step == APPLY and self.job.get("change", {}).get(OFFER) else sides

    def _has_to(self, host: str, step: str) -> bool:
        """Tell whether a host's cell has something to do in a step, by what this run knows until then."""
        if step == "keys":
            return bool(self.keyless(host))
        if step == "pair":
            return bool(self.job.get("pairing")) and host == self.job["host"]
        if step == "push":
            # Also where the others have answered: since then the cell's own timer may have told them what was before.
            return bool(self._untold(host))
        if self.extra.get("__cell_every_step"):
            return True
        # The preflight was given all that a cell does for itself, but not what others say in the run.
        parts = APPLIED if step == APPLY else (step,)
        if any(part in self.read(host).get("due", parts) for part in parts):
            return True
        return step != "identity" and (not self._foreseen(host) or (step == APPLY and bool(self._unheard(host))))

    @believed
    def _foreseen(self, host: str) -> bool:
        """Tell whether the other cells of a host's links have said in this run what its record had of them when the preflight rehearsed the run."""
        records = self.read(host).get("links", {})
        for name, item in self.chosen(host).items():
            link, other = self.links(host)[name], self.host_of.get(name)
            if other is None or link["state"] == "absent":
                continue
            record = records.get(link["name"], {})
            # What is stated of an offer was rehearsed, but counts no longer once the cell has turned out to be away.
            said = [(link.get(key), record.get(key)) for key in ("public_key", "endpoint")]
            said += [(offer, record.get("remote_exit_offered")) for offer in (link.get("offered"), self.stated_offer(other, host))]
            if self.giver(host, other, item) or any(one not in (None, known) for one, known in said):
                return False
        return True

    def _payloads(self, host: str) -> dict[str, dict[str, Any]]:
        """Return what a host's cell tells the others in this run, by their names."""
        messages = {name: self._message(host, name) for name in self._said_payloads(host)}
        return {name: message for name, message in messages.items() if message is not None}

    @believed
    def _said_payloads(self, host: str) -> Mapping[str, Any]:
        """Return what a host's cell has said for others: as it has built it, or as the preflight read it where that is the same."""
        built = self.results("__cell_built", host).get("payloads", {})
        if not built and host in self.worked_on and not self._has_to_tell(host):
            built = self.read(host).get("payloads", {})
        return built if isinstance(built, dict) else {}

    @believed
    def _message(self, host: str, name: str) -> dict[str, Any] | None:
        """Return what a host's cell tells another one, as far as it is a message of that cell."""
        return trust.message(self, host, self._said_payloads(host).get(name))

    def _has_to_tell(self, host: str) -> bool:
        """Tell whether a host's cell has something to build for others; once that is done, by whether it was asked."""
        if self.register(self.own, "__cell_built") and not self.lost(host):
            return host in self._asked("__cell_built", self.only_asker(host))
        return self._has_to(host, "tell")

    @kept
    def _asked(self, register: str, asker: str) -> set[str]:
        """Return the hosts that a registered task was for, whatever became of it there."""
        return {trust.worked_on(result) for result in self.registered(register, asker)}

    def forgotten(self, host: str) -> list[str]:
        """Return the cells that a host's record has a link with, of which the inventory says nothing, and that have none with it any more."""
        return [name for name in self.read(host).get("links", {}) if self._has_forgotten(host, name)]

    def _has_forgotten(self, host: str, name: str) -> bool:
        """Tell whether another cell is one of those."""
        other = self.host_of.get(name)
        if other is None or name not in self.read(host).get("links", {}) or self.chosen_link(host, name) is not None:
            return False
        read = self.read(other)
        return bool(read) and self.name(host) not in read.get("links", {})

    def garbled(self, host: str, to: str) -> bool:
        """Tell whether a host's cell has something for another that is no message of it."""
        name = self.name(to)
        said = {**self.read(host).get("payloads", {}), **self.results("__cell_built", host).get("payloads", {})}
        return name in said and trust.message(self, host, said[name]) is None

    @believed
    def received(self, host: str) -> list[dict[str, Any]]:
        """Return the messages of other cells that this run brings to a host's."""
        messages = (self._message(other, self.name(host)) for other in self._speakers(host))
        return [message for message in messages if message]

    def _speakers(self, host: str) -> Iterator[str]:
        """Yield the hosts whose cells' messages this run brings to a host."""
        own = self.name(host)
        return (other for other in self._may_speak(host) if other != host and self.transport(other) != TUNNEL and not self._has_forgotten(other, own))

    def _may_speak(self, host: str) -> Iterable[str]:
        """Return the hosts whose cells can have a message for a host's: those that it is linked with by what either side states or had when it was read."""
        if not self.register(self.own, "__cell_read"):
            return ()
        if not self.judged:
            return self.hosts
        linked = (self.host_of.get(name) for name in (*self.link_items(host), *self.chosen(host)))
        return sorted({*filter(None, linked), *self.judged["told"].get(self.name(host), ())}, key=self._order.__getitem__)

    def _unheard(self, host: str) -> list[dict[str, Any]]:
        """Return the messages of others that are news to a host's cell."""
        own, found = self.name(host), []
        for other in self._speakers(host):
            # Whether what was read still holds takes a look at all links of the other cell, so what is known here already is left out first.
            read = trust.message(self, other, self.read(other).get("payloads", {}).get(own))
            if self.results("__cell_built", other) or (read and not self._settled(other, own, read)):
                message = self._message(other, own)
                found += [message] if message and not self._settled(other, own, message) else []
        return found

    def _untold(self, host: str) -> dict[str, dict[str, Any]]:
        """Return the messages of a host's cell that are news to others, by their names."""
        return {name: message for name, message in self._payloads(host).items() if not self._settled(host, name, message)}

    def _settled(self, host: str, told: str, payload: Mapping[str, Any]) -> bool:
        """Tell whether what a host's cell says to another one is known there already, by what the preflight has read on both, or on the one it has read."""
        link, other = self.read(host).get("links", {}).get(told, {}), self.host_of.get(told)
        if self._has_forgotten(host, told):
            return True  # there it would be refused in every run
        if link.get("pending_push") is not False or link.get("generation") != payload["generation"]:
            return False
        if other is None or self.transport(host) == TUNNEL or not self.read(other):
            return True
        known = self.read(other).get("links", {}).get(self.name(host), {})
        return (known.get("public_key"), known.get("remote_generation")) == (payload["from_public_key"], payload["generation"])

    @believed
    def answers(self, host: str) -> dict[str, Any]:
        """Return the answers of the cells that were to be told in this run, empty for one that was not reached."""
        own = self.name(host)
        answers: dict[str, Any] = {}
        partners = {*self.play_hosts, *self.others(host), *self.unreachable()}
        for name in self._untold(host):
            other = self.host_of.get(name)
            if other in partners and self.transport(host) != TUNNEL:
                # A cell of an earlier batch answers each later one anew.
                heard = [result.get("answers") or {} for result in (*self.applied(other, "hear"), *self.reported("__cell_handed", other))]
                answers[name] = peer_sync.check_answer(next((only(answer[own], *_ANSWERED) for answer in heard if own in answer), None)) or {}
        return answers
