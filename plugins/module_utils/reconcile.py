# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a cell, each as one plan: records laid over with what was asked for, compared with the kernel.

A plan has three states of the records: as stored; before, which is stored laid over with what the caller says of parts
that other modules own; and wanted, which has this module's own part changed as well. Only that own part is written and
shown. Every plan writes it first, so that after a crash at any later step the next run knows what was meant.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from . import (
    access,
    adoption,
    advice,
    conntrack,
    exits,
    firewall,
    fitness,
    gaps,
    invitations,
    iptables,
    mtu,
    overlay,
    peer_sync,
    reach,
    records,
    remains,
    signing,
    sysctl,
    view,
    wgconfig,
    wireguard,
)
from .command import Draft, Host
from .errors import BadInput, StoreError
from .iptables import Ruleset
from .names import check_name
from .networks import EVERYWHERE, FAMILIES, host_networks, host_port
from .observed import Observed
from .packages import lacking
from .plan import Plan, Run, Step, Write, imagine, write_files
from .records import DIRECT, Leaving, Link, Peer, State, sorted_networks
from .routing import MAIN, batch, setting, unforwarded
from .store import Store
from .surveyed import Surveyed
from .transport import Push

Args = Mapping[str, Any]
NETWORKD = "/etc/systemd/networkd.conf.d/90-pic-cells.conf"
NETWORKD_TEXT = """\
# Kept by pic.cells: systemd-networkd would delete the policy rules and routes of others, also ours, whenever it starts.
[Network]
ManageForeignRoutingPolicyRules=no
ManageForeignRoutes=no
"""
NOWHERE = "(nowhere)"  # the way of a device that is closed in, and has none yet
DEFAULT_KEEPALIVE = 25  # seconds: keeps the mappings of common NATs and firewalls open (WireGuard quick start)


@dataclass(frozen=True)
class Identity:
    """The cell's key pair. private is None, and public says so, where a new one is not made: in a prediction, or without wg."""

    private: str | None
    public: str
    new: bool


class Cell:
    """One cell while it is read, planned and changed: its host, its records before and as wanted, its kernel."""

    def __init__(self, host: Host, store: Store, predict: bool = False, now: float | None = None) -> None:
        """host: the machine, a draft to predict. store: its records. predict: no plan will be applied. now: seconds since the epoch."""
        self.host = host
        self.store = store
        self.predict = predict
        self.now = time.time() if now is None else now
        self.observed = Observed(host)
        self._load()

    def _load(self) -> None:
        self.stored = self.store.load()
        self.before = self.stored.copy()
        self.wanted = self.stored.copy()
        self.leaving = self.stored.leaving

    def rehearse(self, cell: Args | None, run: Args, until: str | None = None) -> dict[str, tuple[Plan, dict[str, Any]]]:
        """Take for done what the modules of a run do before one step: in check mode nobody has done it. Returns plan and facts by step."""
        links = run["links"]
        plans: dict[str, Callable[[], tuple[Plan, dict[str, Any]]]] = {
            "identity": lambda: self.plan_cell(cell or {}, run["peers"], links),
            "tell": lambda: self.plan_messages(cell, links, run["routes"]),
            "hear": lambda: self.plan_receipt(cell, links, run["received"]),
            "note": lambda: self.plan_answers(cell, run["answers"]),
            "rules": lambda: self.plan_rules(cell, links),
            "links": lambda: self.plan_links(cell, links),
            "routes": lambda: self.plan_routes(cell, [{**link, "expected": True} for link in links], run["routes"]),
        }
        rehearsed: dict[str, tuple[Plan, dict[str, Any]]] = {}
        for step, make in itertools.takewhile(lambda item: item[0] != until, plans.items()):
            plan, facts = make()
            if plan or not rehearsed:  # the first finds a view that is of before
                self.add_view(plan)
            imagine(self.observed, plan)
            self._load()
            rehearsed[step] = (plan, facts)
        return rehearsed

    def due(self, cell: Args | None, run: Args) -> list[str]:
        """Return the steps of a run that would change something, or warn."""
        return self._due(self.rehearse(cell, run))

    def _due(self, rehearsed: Mapping[str, tuple[Plan, Mapping[str, Any]]]) -> list[str]:
        # What is odd about the host itself is said by whoever reads it.
        return [step for step, (plan, _facts) in rehearsed.items() if plan or set(plan.warnings) - set(self.observed.warnings)]

    @cached_property
    def identity(self) -> Identity:
        """Return the cell's key pair; make one where there is none, to be written by the plan."""
        if self._kept_identity:
            return self._kept_identity
        if self.predict or not self.host.has("wg"):
            return Identity(None, wireguard.GENERATED, True)
        private = self.host.run(["wg", "genkey"]).out.strip()
        return Identity(private, wireguard.public_key_of(self.host, private), True)

    @cached_property
    def _kept_identity(self) -> Identity | None:
        """Return the key pair that the cell has."""
        private = (self.host.read(self._identity_path) or "").strip()
        if private and not wireguard.is_key(private) and private != wireguard.GENERATED:
            raise StoreError(f"{self._identity_path} holds no key. Put it back from a backup, or remove it and run pic.cells.site.")
        private = private or self._adopted_key() or ""
        if private and not wireguard.is_key(private) and private != wireguard.GENERATED:
            raise BadInput(f"{wgconfig.config_path(self.wanted.cell.interface)}: its PrivateKey is no WireGuard key. Correct it.")
        return Identity(private, wireguard.public_key_of(self.host, private), False) if private else None

    def _know(self, cell: Args | None, links: Iterable[Args] = ()) -> None:
        """Lay what the caller says of parts that are not the module's own over both sides of the comparison."""
        for state in (self.before, self.wanted):
            overlay.lay_cell(state, cell)
            self._adopt_port(state, cell)
            for item in links:
                if item.get("state") != "absent":
                    overlay.lay_link(state, item)

    def plan_cell(self, cell: Args, peers: Iterable[Args], links: Iterable[Args]) -> tuple[Plan, dict[str, Any]]:
        """Plan the cell itself: identity, records, devices' interface, and a port for each link. Returns plan and facts."""
        overlay.lay_cell(self.wanted, cell)
        self._adopt_port(self.wanted, cell)
        if not self.wanted.cell.networks:
            raise BadInput(f"Cell {self.wanted.cell.name!r} has no networks. Give its own address with prefix, like 10.0.0.1/24, in cell_networks.")
        peers, links = list(peers), list(links)
        overlay.lay_peers(self.wanted, peers, self.stored)
        if self.stored.peers_lost:
            self._recover_ways()
        leaving = {item["name"] for item in links if item.get("state") == "absent"}
        for item in links:
            if item["name"] not in leaving:
                overlay.lay_link(self.wanted, {key: item.get(key) for key in ("name", "interface", "listen_port")})
        name = self.wanted.cell.interface
        if name in self.observed.links and name not in self.observed.wireguard:
            raise BadInput(f"Interface {name!r} is there but is not WireGuard. Set cell_interface to another name.")
        found = self.devices_interface()
        if not self._has_interface(self.wanted):
            adoption.check_owner(self.host, found, (self.host.read(self._identity_path) or "").strip() or None)
        for item in peers:
            if item["name"] in self.wanted.peers and item.get("networks") is None:
                self.wanted.peers[item["name"]].networks = adoption.kept_networks(self.wanted, self.stored, found, item["name"])
        identity = self.identity
        overlay.check_networks(self.wanted, self.observed.host_networks(self.wanted))
        adoption.check_others(self.wanted, self.stored, found)
        overlay.check_keys(self.wanted, None if identity.new else identity.public, self.observed.wireguard)
        self._allocate_ports(self.wanted)
        overlay.check_links(self.wanted, self.observed.wireguard, leaving)
        fitness.check_families(self.host, self.wanted.cell, [name], self.observed.wireguard)
        fitness.check_port(self.host, name, self.wanted.cell.listen_port, "cell_listen_port", self.observed.wireguard)
        plan = self._plan_adopted(found)
        plan.extend(self._plan_records(records.CELL_PART))
        plan.extend(self._plan_networkd())
        plan.extend(self._plan_identity(identity))
        plan.extend(self._plan_closing_in(peers))
        plan.extend(self._plan_devices(identity, {str(item["name"]): item.get("preshared_key") or None for item in peers}))
        plan.extend(access.plan_access(self.host, self.store.path, name))
        self._strike_out(plan, devices=[])
        facts = {
            "public_key": identity.public,
            "generated": identity.new,
            "links": {
                name: {"interface": link.interface, "listen_port": link.listen_port, "exit_offered": link.exit_offered, "share": link.shares}
                for name, link in sorted(self.wanted.links.items())
            },
        }
        return plan, facts

    def plan_links(self, cell: Args | None, items: Iterable[Args]) -> tuple[Plan, dict[str, Any]]:
        """Plan the tunnels to other cells: interface, peer, addresses, routes. Returns plan and what is pending."""
        self._know(cell)
        identity = self.identity
        items = list(items)
        for item in items:
            if item.get("state") == "absent":
                self.wanted.links.pop(item["name"], None)
        present = [item for item in items if item.get("state") != "absent"]
        for item in present:
            overlay.lay_link(self.wanted, item)
        remains.check_links(self.stored, self.wanted)
        overlay.check_keys(self.wanted, None if identity.new else identity.public, self.observed.wireguard)
        overlay.check_networks(self.wanted, self.observed.host_networks(self.wanted))
        adoption.check_others(self.wanted, self.stored, self.devices_interface())
        self._allocate_ports(self.wanted)
        overlay.check_links(self.wanted, self.observed.wireguard)
        reach.check_reach(self.host, self.wanted, self.stored, self.observed.wireguard)
        self._check_interfaces(present)
        self._check_fitness(present)
        self._check_shared_exits({item["name"] for item in present if item.get("exit")})
        pending = [item["name"] for item in present if self.wanted.links[item["name"]].pending]
        plan = self._plan_records(records.LINK_PART)
        plan.steps += self._plan_identity(identity).steps
        room = self._plan_room()
        by_interface: dict[str, list[Link]] = {}
        for item in present:
            link = self.wanted.links[item["name"]]
            if not link.pending:
                # Whether it is an exit is for the plan of the routes, which has its order, unless somebody says otherwise.
                exit_wanted = link.exit_relay_active if item.get("exit") is None else item["exit"]
                by_interface.setdefault(str(link.interface), []).append(replace(link, exit_relay_active=exit_wanted))
        if self._left_keys(self.wanted.cell.interface):
            by_interface.setdefault(self.wanted.cell.interface, [])
        given = {str(item["name"]): item.get("preshared_key") or None for item in present}
        tunnels, known = Plan(), self.preshared_keys()
        for interface, links in by_interface.items():
            tunnels.extend(self._plan_tunnels(interface, links, identity, given, known))
        # The files first: one that goes may be all that has the preshared key of a link that moves.
        plan.steps += [step for step in tunnels.steps if isinstance(step, Write)]
        tunnels.steps = [step for step in tunnels.steps if not isinstance(step, Write)]
        plan.extend(room)
        plan.extend(self._plan_walls(self.wanted.links[name] for name in pending))
        plan.extend(tunnels)
        gone = [str(item["name"]) for item in items if item.get("state") == "absent"]
        plan.extend(invitations.plan_used(self.host, self.store.path, [*gone, *(link.name for on in by_interface.values() for link in on)]))
        # Those of a link that stays end when its rules have changed.
        networks = {network for link in self.wanted.links.values() for network in link.networks}
        over = [flows for flows in self.leaving.flows if networks.isdisjoint(flows.split())]
        plan.steps += [conntrack.end(flows) for flows in over]
        self._strike_out(plan, links=[], flows=[flows for flows in self.leaving.flows if flows not in over])
        plan.warnings += [f"Link {name!r} is pending: its public key or its networks are not known yet." for name in pending]
        for key in (item["public_key"] for item in present if item.get("generated") and item.get("public_key")):
            plan.after = [line.replace(key, wireguard.GENERATED) for line in plan.after]
        made = {item["name"]: self.wanted.links[item["name"]] for item in present}
        ends = {name: {"interface": link.interface, "listen_port": link.listen_port} for name, link in sorted(made.items())}
        return plan, {"pending": sorted(pending), "public_key": identity.public, "links": ends}

    def plan_rules(self, cell: Args | None, items: Iterable[Args], partly: bool = False) -> tuple[Plan, dict[str, Any]]:
        """Plan all rules of the cell in both families, and the end of flows that are no longer allowed. Returns plan and shares.

        partly: plan for the tables that can be read, also where others cannot be.
        """
        items = list(items)
        self._know(cell, items)
        for item in items:
            if item.get("state") != "absent":
                overlay.lay_permissions(self.wanted, item)
            elif item["name"] in self.wanted.links:
                gone = self.wanted.links[item["name"]]
                gone.ruled, gone.exit_offered, gone.remote_exit_relay_active = False, False, False
                gone.permissions = {"inbound": {}, "outbound": gone.permissions["outbound"]}
        self._allocate_ports(self.wanted)
        plan = self._plan_records(records.RIGHTS_PART)
        state, looked_for = self._with_closed_in(self.wanted), list[Step]()
        if not partly:
            self._check_shown()
        for family in self.observed.families:
            wanted = firewall.build(state, family, self.observed.surroundings(self.wanted, family))
            changes = self._plan_iptables(family, wanted)
            plan.extend(changes)
            plan.extend(self._plan_other_iptables(family))
            looked_for += self._look_for_gap(state, family) if changes else []
        plan.steps += looked_for
        if self.leaving.flows and not plan:
            plan.describe(["flows of what is no longer allowed: alive"], [])
        plan.steps += [conntrack.end(flows) for flows in self.leaving.flows]
        self._strike_out(plan, flows=[])
        plan.warnings += self.observed.warnings
        shares = {name: link.shares for name, link in sorted(self.wanted.links.items())}
        return plan, {"shares": shares}

    def plan_routes(self, cell: Args | None, offers: Iterable[Args], routes: Iterable[Args], remember: bool = False) -> tuple[Plan, dict[str, Any]]:
        """Plan the ways of devices: exit tables, policy rules, the firewall's second layer. Returns plan and what is pending.

        remember: keep what is said of offers; in a run of the role that is for what the cells tell each other.
        """
        offers, routes = list(offers), list(routes)
        if self.stored.peers_lost and routes:
            raise StoreError(f"{' '.join(self.store.warnings)} Put it back from a backup, or run wg_cell with all devices (pic.cells.site) first.")
        self._know(cell, offers)
        overlay.lay_offers(self.wanted, offers)
        if not remember:
            overlay.lay_offers(self.before, offers)
        expected = {item["name"] for item in offers if item.get("expected")}
        for item in routes:
            overlay.lay_route(self.before, {**item, "via_cell": None})
            self._check_route(overlay.lay_route(self.wanted, item), expected)
        self._check_shared_exits()
        plan = self._settle_ways(part=records.WAYS_AND_OFFERS_PART if remember else records.WAYS_PART)
        waiting = {p.name: p.route_via for p in self.wanted.peers.values() if p.route_via and not self.wanted.exit_is_effective(p.route_via)}
        plan.warnings += [
            f"Peer {peer!r} is routed via {via!r}, which does not offer an exit now: its internet traffic is refused until it does."
            for peer, via in sorted(waiting.items())
        ]
        return plan, {"pending": sorted(waiting)}

    def plan_messages(self, cell: Args | None, items: Iterable[Args], routes: Iterable[Args]) -> tuple[Plan, dict[str, Any]]:
        """Plan what the other cells are to be told. Returns plan and payloads."""
        self._know(cell)
        asked = self._asked(items)
        for item in routes:
            overlay.lay_route(asked, item)
        payloads = {}
        lines = []
        for name, link in sorted(asked.links.items()):
            if link.pending:
                continue
            record = self.wanted.links.setdefault(name, Link(name))
            payloads[name] = peer_sync.payload(asked, name, self.identity.public)
            peer_sync.mint(record, payloads[name])
            if record != self.before.links.get(name):
                lines.append(f"cell {name} is to be told: {_payload_words(payloads[name])}")
        plan = self._plan_records(records.SYNC_PART)
        plan.describe([], lines)
        return plan, {"payloads": payloads}

    def plan_receipt(self, cell: Args | None, items: Iterable[Args], received: Iterable[Args]) -> tuple[Plan, dict[str, Any]]:
        """Plan to take over what other cells say. Returns plan and the answers to them."""
        self._know(cell)
        asked = self._asked(items)
        heard, warnings = [], []
        for message in received:
            try:
                heard.append((peer_sync.check_payload(dict(message)), peer_sync.Evidence("delegate")))
            except BadInput as error:  # what one cell says is no reason not to hear the others
                warnings.append(f"What cell {str(message.get('from_cell'))[:32]!r} says is not taken over. {error}")
        plan, facts = self._plan_received(asked, heard)
        plan.warnings += warnings
        return plan, facts

    def plan_deliveries(self, deliveries: Iterable[view.Delivery]) -> tuple[Plan, dict[str, Any]]:
        """Plan to take over what the receiver has handed over, judged anew. Returns plan and the answers."""
        keys, heard = self.preshared_keys(), []
        for delivery in deliveries:
            try:
                message = peer_sync.parse_push(delivery.body)
            except BadInput:
                continue
            link = self.stored.links.get(message["from_cell"])
            if link is not None:
                # By the key of the record: the one in the message can be any text.
                key = signing.push_key(keys.get(link.name), str(link.public_key), self.identity.public)
                mac_ok = signing.check_push(key, delivery.body, delivery.signature)
                heard.append((message, peer_sync.Evidence("tunnel", delivery.interface, delivery.source, mac_ok)))
        return self._plan_received(self.wanted, sorted(heard, key=lambda item: int(item[0]["generation"])))

    def _plan_received(self, asked: State, heard: Iterable[tuple[Args, peer_sync.Evidence]]) -> tuple[Plan, dict[str, Any]]:
        plan, answers = Plan(), {}
        for message, evidence in heard:
            name = message["from_cell"]
            verdict = peer_sync.judge(asked.links.get(name), message, evidence)
            if verdict.accepted:
                record = self.wanted.links.setdefault(name, Link(name))
                before = _view_words(record)
                peer_sync.take_over(record, message, verdict, self._timestamp())
                plan.describe(before, _view_words(record))
            generation = peer_sync.known(self.wanted.links[name]) if name in self.wanted.links else 0
            answers[name] = {"status": verdict.status, "applied": verdict.accepted, "generation": generation, "reason": verdict.reason}
            if verdict.status != peer_sync.OK:
                plan.warnings.append(f"A push of cell {name!r} was answered {verdict.status}: {verdict.reason}.")
        plan.extend(self._plan_records(records.SYNC_PART))
        return plan, {"answers": answers}

    def plan_answers(self, cell: Args | None, answers: Mapping[str, Args | None]) -> tuple[Plan, dict[str, Any]]:
        """Plan to note how pushes ended, by the name of the cell that was told."""
        self._know(cell)
        plan = Plan()
        for name, answer in sorted(answers.items()):
            if name in self.wanted.links:
                link = self.wanted.links[name]
                before = _push_words(link)
                peer_sync.acknowledge(link, peer_sync.check_answer(answer), self._timestamp())
                plan.describe(before, _push_words(link))
        plan.extend(self._plan_records(records.SYNC_PART))
        return plan, {}

    def pushes(self, payloads: Mapping[str, Args]) -> dict[str, Push]:
        """Return what is to be sent to the cells that are not told yet. payloads: as plan_messages returned them."""
        keys, found = self.preshared_keys(), {}
        for name, message in payloads.items():
            link = self.wanted.links[name]
            if link.pending_push and link.remote_api_url and link.interface:
                body = peer_sync.render_push(message)
                ends = keys.get(name), self.identity.public, str(link.public_key)
                key = signing.push_key(*ends)
                signature = signing.sign_push(key, body) if key else None
                found[name] = Push(link.remote_api_url, tuple(self.wanted.cell.own_addresses()), link.interface, body, signature, signing.answer_key(*ends))
        return found

    def preshared_keys(self) -> dict[str, str | None]:
        """Return the preshared key of each link that has one, by name."""
        names = [name.removesuffix(".conf") for name in self.host.list(wgconfig.CONFIG_DIR) if name.startswith("pic-") and name.endswith(".conf")]
        found = {interface: _preshared_keys(self.host, interface) for interface in {*names, self.stored.cell.interface}}
        anywhere = {key: secret for _interface, peers in sorted(found.items()) for key, secret in peers.items() if secret}
        links = sorted(self.stored.links.items())
        # A link that moves to another interface takes its key along.
        return {name: found.get(str(link.interface), {}).get(str(link.public_key)) or anywhere.get(str(link.public_key)) for name, link in links}

    def plan_invitation(self, name: str, endpoint_port: int | None = None) -> tuple[Plan, dict[str, Any]]:
        """Plan the preshared key of a link with a cell of another owner. Returns plan and invitation.

        endpoint_port: at which the other cell dials, where it is not the link's own.
        """
        check_name("Cell", name)
        cell, link, path = self.stored.cell, self.stored.links.get(name, Link(name)), self._invited_path(name)
        plan = Plan()
        if not self.preshared_keys().get(name) and not invitations.waiting(self.host, self.store.path, name, self.now):
            plan.extend(invitations.plan_new(self.store.path, name, self.made_keys([name])[name], self.now))
        port, host = endpoint_port or link.listen_port, cell.endpoint or ""
        address = cell.own_addresses()
        invitation = {
            "name": cell.name,
            "public_key": self.identity.public,
            "networks": cell.own_networks(),
            "address": address,
            "endpoint": host_port(host, port) if host and port else None,
            "api_url": overlay.api_url(address, cell.sync_port),
        }
        return plan, {"invitation": invitation, "key_file": path if plan or self.host.exists(path) else ""}

    def _invited_path(self, name: str) -> str:
        return invitations.key_path(self.store.path, name)

    def made_keys(self, names: Iterable[str]) -> dict[str, str]:
        """Return the preshared key of each of these links: its own, or a new one that nobody has yet."""
        keys = self.preshared_keys()
        return {name: keys.get(name) or (wireguard.PRESHARED_LATER if self.predict else self.host.run(["wg", "genpsk"]).out.strip()) for name in names}

    def plan_view(self) -> Plan:
        """Plan what the unprivileged receiver is let see."""
        return self._plan_view(self.stored, self.preshared_keys())

    def add_view(self, plan: Plan) -> None:
        """Let the receiver, where there is one, know with a module's plan what it has to judge by from then on."""
        if not self.host.exists(self._view_path):
            return
        draft = Draft(self.host)
        write_files(draft, plan)
        after = Cell(draft, Store(draft, self.store.path), self.predict, self.now)
        renewed = self._plan_view(after.stored, after.preshared_keys(), draft.exists(self._identity_path))
        if plan:  # what follows from a difference is none of its own
            renewed.before, renewed.after = [], []
        plan.extend(renewed)

    def _plan_view(self, state: State, preshared_keys: Mapping[str, str | None], keeps_key: bool = False) -> Plan:
        # A key that is made for nobody to keep is none.
        identity = self.identity if keeps_key else self._kept_identity
        plan, text = Plan(), view.render_view(state, identity.public if identity else wireguard.GENERATED, preshared_keys)
        plan.write(self._view_path, self.host.read(self._view_path), text, 0o644)
        return plan

    @property
    def _view_path(self) -> str:
        return f"{self.store.path}/{view.FOLDER}/{view.FILE}"

    def info(self, cell: Args | None, run: Args | None) -> dict[str, Any]:
        """Read back the cell; say what differs from the records, or with a run given what would be refused in it."""
        state, seen = self.stored, self.observed
        public = None if self.identity.new else self.identity.public
        keys = self.preshared_keys()
        tunnels = {key: peer for interface in seen.wireguard.values() for key, peer in interface.peers.items()}
        facts: dict[str, Any] = {
            "name": state.cell.name,
            "public_key": public,
            "networks": state.cell.networks,
            "links": {
                name: {**asdict(link), "preshared_key_id": wireguard.key_id(keys[name]), **_counters(tunnels.get(link.public_key or ""))}
                for name, link in sorted(state.links.items())
            },
            "peers": {
                name: {**asdict(peer), "exit_effective": state.exit_is_effective(peer.route_via), **_counters(tunnels.get(peer.public_key or ""))}
                for name, peer in sorted(state.peers.items())
            },
            "rules": {f"ipv{family}": {table: iptables.own_rules(saved) for table, saved in sorted(seen.iptables[family].items())} for family in FAMILIES},
            "policy_rules": {f"ipv{family}": sorted(rule.render() for rule in seen.routing[family].rules) for family in FAMILIES},
            "routes": {f"ipv{family}": sorted(route.render() for route in seen.routing[family].routes) for family in FAMILIES},
            **lacking(self.host),
            "advertised": self._advertised_uplinks(),
            "unforwarded": unforwarded(self.host),
            "drift": self._drift() if state.cell.name and run is None else [],
            "refusals": [],
            "due": [],
            "payloads": {},
        }
        if run:
            try:
                rehearsed = self.rehearse(cell, run)
            except (BadInput, StoreError) as error:
                facts["refusals"].append(str(error))
            else:
                facts["due"] = self._due(rehearsed)
                facts["payloads"] = rehearsed["tell"][1]["payloads"]
        facts["advice"] = self.advice(bool(run))
        return facts

    def advice(self, run: bool = False) -> list[str]:
        """Say what on this host may keep the cell from working. run: whether a run of the role asks, which sets what it finds missing."""
        return advice.advise(advice.Situation(self.stored, self.observed, Surveyed(self.host), run))

    def repairs(self, guard: bool = False) -> dict[str, Callable[[], Plan]]:
        """Return the plans that bring the whole cell back from its records alone, in an order that leaks nothing; one is made when those before it are done.

        guard: only what the kernel takes while the WireGuard interfaces are not there; with it no routed device goes direct.
        Raises StoreError where the records do not say what the cell is.
        """
        if not self.stored.cell.name:
            lost = " ".join(self.store.warnings) or f"This host is no cell: there is no record of it in {self.store.path}."
            raise StoreError(f"{lost} Put it back from a backup, or run pic.cells.site.")
        closed: dict[str, Callable[[], Plan]] = {
            # As far as tables can be read; then the ways, which do not need them; only then what is missing for it is an error.
            "rules": lambda: self.plan_rules(None, [], partly=True)[0],
            "closed ways": self._plan_closed_ways,
            "walls": self._plan_walls,
            "default deny": lambda: self._check_shown(iptables.check_denies),
        }
        if guard:
            return closed
        return {
            **closed,
            "cell": self._repair_cell,
            "links": self.repair_links,
            "ways": lambda: self.plan_routes(None, [], [])[0],
            "view": self.plan_view,
            "invitations": lambda: invitations.plan_expired(self.host, self.store.path, self.now),
            "settings": lambda: sysctl.plan_settings(self.host),
            "all rules": self._check_shown,
        }

    def take_for_done(self, plan: Plan) -> None:
        """Go on from a plan that was carried out, or is taken to be; the host is a draft."""
        if plan:
            imagine(self.observed, plan)
            self._load()

    def repair_links(self, *only: str) -> Plan:
        """Plan to bring the tunnels of all links back, or only those of some."""
        if self.stored.links_lost:
            return Plan()  # the kernel alone still knows of them
        self._check_identity()
        return self.plan_links(None, [{"name": name} for name in only or sorted(self.stored.links)])[0]

    def _repair_cell(self) -> Plan:
        self._check_identity()
        return self.plan_cell({}, [], [])[0]

    def _check_identity(self) -> None:
        if self.identity.new:
            raise StoreError(
                f"The cell's key {self._identity_path} is gone, and no interface has it. Put it back from a backup, or run pic.cells.site for a new one."
            )

    def _plan_closed_ways(self) -> Plan:
        """Plan the ways of devices as far as interfaces are there for them; the rest stays closed."""
        up = {name for name, interface in self.observed.wireguard.items() if interface.up}
        return self._settle_ways(up)

    def _plan_walls(self, links: Iterable[Link] | None = None) -> Plan:
        """Plan the routes that keep traffic to linked cells from the uplink while their tunnels are not there. links: None for all that are recorded."""
        links = list(self.stored.links.values() if links is None else links)
        plan = Plan()
        for family in self.observed.families:
            walls = [route for link in links for route in exits.link_routes(self.stored.cell, link) if not route.device and route.family == family]
            missing = [route for route in walls if route not in self.observed.routing[family].routes]
            plan.extend(batch(family, (("replace", route) for route in missing)))
            plan.describe((), (route.words() for route in missing))
        return plan

    def _drift(self) -> list[str]:
        lines = []
        for make in self.repairs().values():
            try:
                plan = make()
            except (BadInput, StoreError) as error:
                lines.append(f"refused: {error}")
                continue
            lines += plan.differences()
            self.take_for_done(plan)
        return list(dict.fromkeys(lines))

    def _advertised_uplinks(self) -> list[str]:
        """Return the devices whose IPv6 default route the kernel took from a router and will drop as soon as it forwards."""
        return [
            device
            for device in sorted(set(self.observed.routing[6].advertised))
            if setting(self.host, f"net/ipv6/conf/{device}/accept_ra") == "1"  # with slashes, as the device's name may hold a dot
        ]

    # Records

    def _plan_records(self, part: records.Part) -> Plan:
        """Plan the writing of a module's own part of the records, whatever else is laid over them for this run."""
        plan = Plan(warnings=list(self.store.warnings))
        wanted = records.replace_part(self.stored, self.wanted, part)
        # What the caller says of other modules' parts is theirs to write; alone it is no change here.
        if wanted != self.stored and wanted != records.replace_part(self.stored, self.before, part):
            self.leaving = wanted.leaving = self._noted(records.replace_part(self.before, self.wanted, part))
            plan.steps += [Write(path, text) for path, text in self.store.writes(self.stored, wanted)]
        plan.describe(part.words(self.before), part.words(self.wanted))
        return plan

    def _noted(self, after: State) -> Leaving:
        """Return the note of what has to go, with what these records forget."""
        new = replace(records.leaving(self.before, after), flows=conntrack.revoked(self.before, after))
        return Leaving(**{kind: sorted({*getattr(self.stored.leaving, kind), *entries}) for kind, entries in vars(new).items()})

    def _strike_out(self, plan: Plan, **kinds: list[str]) -> None:
        """Let a plan end with the note of what it has ended."""
        left = replace(self.leaving, **kinds)
        plan.steps += [Write(path, text) for path, text in self.store.writes(State(leaving=self.leaving), State(leaving=left))]
        self.leaving = left

    def _timestamp(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now))

    # Identity, devices and links

    @property
    def _identity_path(self) -> str:
        return f"{self.store.path}/identity.key"

    def _adopted_key(self) -> str | None:
        """Return the key that the devices' interface already has: a cell keeps its identity."""
        return self.devices_interface().key

    def devices_interface(self) -> adoption.Found:
        """Return the devices' interface as it is."""
        name = self.wanted.cell.interface
        return adoption.look(self.host, name, self.observed.wireguard.get(name))

    def _plan_adopted(self, found: adoption.Found) -> Plan:
        """Plan the keeping of an older interface's file as it was, for the day when the cell goes."""
        plan, path = Plan(), adoption.kept_path(self.store.path, found.name)
        if found.text and not self._has_interface(self.wanted) and not self.host.exists(path):
            plan.steps.append(Write(path, found.text))
            plan.describe([], [f"{path}: {wgconfig.config_path(found.name)} as it was"])
        return plan

    def _has_interface(self, state: State) -> bool:
        """Tell whether the cell has that devices' interface already, by its records."""
        return bool(self.stored.cell.name) and self.stored.cell.interface == state.cell.interface

    def _adopt_port(self, state: State, cell: Args | None) -> None:
        """Let a devices' interface that was there before the cell keep its port, where nobody states one."""
        if (cell or {}).get("listen_port") in (None, "") and not self._has_interface(state):
            name = state.cell.interface
            state.cell.listen_port = adoption.look(self.host, name, self.observed.wireguard.get(name)).port or state.cell.listen_port

    def _plan_identity(self, identity: Identity) -> Plan:
        plan = Plan()
        if (self.host.read(self._identity_path) or "").strip() == (identity.private or wireguard.GENERATED):
            return plan
        if identity.private is None:
            plan.steps.append(Run(("wg", "genkey")))  # ends a run without wg with the name of the missing package
        plan.steps.append(Write(self._identity_path, f"{identity.private or wireguard.GENERATED}\n"))
        plan.describe([], [f"identity: public key {wireguard.GENERATED if identity.new else identity.public}"])
        return plan

    def _plan_networkd(self) -> Plan:
        """Plan the setting that lets systemd-networkd leave our rules and routes alone; it reads it when it starts, which is when it matters."""
        plan = Plan()
        if self.host.exists("/run/systemd/system"):
            plan.write(NETWORKD, self.host.read(NETWORKD), NETWORKD_TEXT, 0o644)
        return plan

    def _plan_devices(self, identity: Identity, given: Mapping[str, str | None]) -> Plan:
        cell = self.wanted.cell
        written, observed = _preshared_keys(self.host, cell.interface), self.observed.wireguard.get(cell.interface)
        live = observed.peers if observed else {}
        peers, labels = {}, {}
        for name, peer in sorted(self.wanted.peers.items()):
            if not peer.public_key:
                continue
            key = peer.public_key
            if given.get(name):
                wireguard.check_preshared_key(f"peer {name!r}", given[name] or "")
            secret = given.get(name) or (written[key] if key in written else live.get(key, wireguard.Peer(key)).preshared_key)
            peers[key] = wireguard.Peer(key, sorted_networks([*host_networks(peer.addresses), *peer.networks]), preshared_key=secret)
            labels[key] = f"device {name}"
        removed = {*self.leaving.devices, *self.before.cell.networks} - set(peers)
        wanted = wireguard.Interface(cell.interface, identity.private, None, cell.listen_port, peers, self._device_addresses())
        plan = wireguard.plan_interface(self.host, wanted, observed, labels, removed, self.now)
        plan.extend(self._plan_ways_behind(bool(observed and observed.up)))
        return plan

    def _plan_ways_behind(self, up: bool) -> Plan:
        """Plan the routes to the networks behind devices. up: whether the devices' interface has been up, so that those that it had are still there."""
        plan, wanted, before = Plan(), exits.device_routes(self.wanted), exits.device_routes(self.before)
        for family in self.observed.families:
            routing = self.observed.routing[family]
            present = routing.routes if up else ()
            # wg-quick makes them too when it starts the interface.
            theirs = {network for device, network in routing.host_networks if device == self.wanted.cell.interface} if up else set()
            there = [route for route in (*before, *wanted) if route.family == family and (route in present or route.destination in theirs)]
            stale = [route for route in there if route in before and route not in wanted]
            missing = [route for route in wanted if route.family == family and route not in there]
            taken = [("replace", route) for route in stale if route not in present]  # only what is ours is deleted
            plan.extend(batch(family, [*taken, *(("del", route) for route in stale), *(("replace", route) for route in missing)]))
            plan.describe((route.words() for route in stale), (route.words() for route in missing))
        return plan

    def _plan_closing_in(self, items: Iterable[Args]) -> Plan:
        """Plan what keeps a device that is routed, or is going to be, from going direct when WireGuard lets it in with a new address."""
        devices = self.observed.wireguard.get(self.wanted.cell.interface, wireguard.Interface(""))
        let_in = {network for peer in devices.peers.values() for network in peer.allowed_ips}
        state = self._with_closed_in(self.wanted)
        for item in items:
            peer, via = state.peers.get(item["name"]), item.get("route_via")
            # One that goes direct now keeps its way until the plan of the routes has the new one.
            if peer and not peer.route_via and via not in (None, "", DIRECT) and not let_in.issuperset(host_networks(peer.addresses)):
                peer.route_via = NOWHERE
        plan = exits.close_in(state, let_in, {family: self.observed.routing[family] for family in self.observed.families})
        for family in self.observed.families:
            plan.extend(self._plan_layer(state, family))
        return plan

    def _with_closed_in(self, state: State) -> State:
        """Return a state in which a device counts as routed while the kernel closes it in: only the plan of the routes lets it out."""
        state = state.copy()
        closed = {rule.source for seen in self.observed.routing.values() for rule in seen.rules if rule.table is None}
        for peer in state.peers.values():
            if not peer.route_via and closed.intersection(peer.addresses):
                peer.route_via = NOWHERE
        return state

    def _device_addresses(self) -> list[str]:
        """Return the addresses of the devices' interface: the cell's, and what somebody else has put into its file."""
        cell = self.wanted.cell
        text = self.host.read(wgconfig.config_path(cell.interface))
        ours = {*cell.networks, *self.stored.cell.networks}
        return [*cell.networks, *(address for address in wgconfig.addresses_of(text) if address not in ours)]

    def _plan_tunnels(
        self, interface: str, links: Collection[Link], identity: Identity, given: Mapping[str, str | None], known: Mapping[str, str | None]
    ) -> Plan:
        """Plan one interface with the links on it, of which that of the devices can hold several. given, known: new and old preshared keys by name."""
        cell, observed = self.wanted.cell, self.observed.wireguard.get(interface)
        written = _preshared_keys(self.host, interface)
        if interface != cell.interface:  # without its preshared key the link would be weaker, and not understood
            wireguard.check_file_keys(wgconfig.config_path(interface), self.host.read(wgconfig.config_path(interface)) or "")
        wanted = wireguard.Interface(interface, identity.private, None, cell.listen_port, {}, self._device_addresses() if interface == cell.interface else [])
        removed = self._left_keys(interface)
        for link in links:
            key = _peer_key(link)
            if given.get(link.name):
                self._check_preshared_key(f"link {link.name!r}", given[link.name] or "")
            keepalive = DEFAULT_KEEPALIVE if link.keepalive is None else link.keepalive
            before = self.stored.links.get(link.name, link)
            secret = given.get(link.name) or written.get(key) or (known.get(link.name) if before.public_key == link.public_key else None)
            invited = None if secret else invitations.waiting(self.host, self.store.path, link.name, self.now)
            if invited:
                self._check_preshared_key(self._invited_path(link.name), invited)
            secret = secret or invited
            wanted.peers[key] = wireguard.Peer(str(link.public_key), _allowed_ips(link), link.endpoint or "", keepalive, secret)
            wanted.routes += [route for route in exits.link_routes(cell, link) if route.family in self.observed.families]
            if interface != cell.interface:
                wanted.listen_port, wanted.mtu = link.listen_port, link.mtu or self._fitting_mtu(link)
                # Without its last address an interface has no routes: none of the cell's being known is no reason to take it away.
                wanted.addresses = sorted_networks(host_networks(cell.own_addresses())) or (observed.addresses if observed else [])
                wanted.routes += exits.ways_out(cell, link) if link.exit_relay_active else []
                removed |= set(observed.peers if observed else ())
        labels = {_peer_key(link): f"cell {link.name}" for link in links}
        present = [route for family in self.observed.families for route in self.observed.routing[family].routes]
        return wireguard.plan_interface(self.host, wanted, observed, labels, removed, self.now, present)

    def _fitting_mtu(self, link: Link) -> int | None:
        carried = [family for family in self.observed.families if link.has_family(family)]
        return mtu.tunnel(self.observed, link.endpoint, carried, self.host.read(wgconfig.config_path(str(link.interface))))

    def _check_preshared_key(self, what: str, value: str) -> None:
        """Refuse a key that is none; in a prediction nobody knows yet the one that the run will make."""
        if not (self.predict and value == wireguard.PRESHARED_LATER):
            wireguard.check_preshared_key(what, value)

    def _left_keys(self, interface: str) -> set[str]:
        """Return the keys of links that have been on an interface and are not any more."""
        left = {key for name, key in (entry.split() for entry in self.leaving.links) if name == interface}
        return left - {link.public_key for link in self.wanted.links.values() if link.interface == interface} - self.wanted.device_keys()

    def _plan_room(self) -> Plan:
        """Plan the end of what links leave behind that are gone, renumbered, or on another interface; their ports are free then."""
        plan = Plan()
        standing = {route for link in self.wanted.links.values() for route in exits.link_routes(self.wanted.cell, link)}
        standing |= set(exits.device_routes(self.wanted))
        for family in self.observed.families:
            stale = [route for route in self.observed.routing[family].routes if route.table == MAIN and route not in standing]
            plan.extend(batch(family, (("del", route) for route in stale)))
            plan.describe((route.words() for route in stale), ())
        left = {entry.split()[0] for entry in self.leaving.links}
        for name in sorted(left - {link.interface for link in self.wanted.links.values()}):
            if name.startswith("pic-"):
                plan.extend(wireguard.plan_removal(self.host, name, self.observed.wireguard.get(name)))
        return plan

    def _allocate_ports(self, state: State) -> None:
        """Give each link a port; the same answer in check mode and in the run."""
        cell = state.cell
        used = {link.listen_port for link in state.links.values() if link.listen_port} | {cell.listen_port}
        for _name, link in sorted(state.links.items()):
            if link.interface == cell.interface:
                link.listen_port = cell.listen_port
            elif link.listen_port is None:
                port = cell.link_port_base
                while port in used or port in self.observed.used_ports():
                    port += 1
                link.listen_port = port
                used.add(port)

    def _check_interfaces(self, items: Iterable[Args]) -> None:
        for item in items:
            link = self.wanted.links[item["name"]]
            if link.interface in self.observed.links and link.interface not in self.observed.wireguard:
                raise BadInput(f"Interface {link.interface!r} of link {link.name!r} is there but is not WireGuard. Set the link's interface to another name.")

    def _check_fitness(self, items: Iterable[Args]) -> None:
        """Refuse links that this host has no family or port for."""
        links = [self.wanted.links[item["name"]] for item in items]
        made = [link for link in links if link.interface != self.wanted.cell.interface]
        fitness.check_families(self.host, self.wanted.cell, [str(link.interface) for link in made], self.observed.wireguard)
        for link in made:
            fitness.check_port(self.host, str(link.interface), link.listen_port, f"listen_port of link {link.name!r}", self.observed.wireguard)

    def _check_shared_exits(self, more: Collection[str] = ()) -> None:
        """Refuse an exit that the devices' interface cannot be. more: names of links that are exits though no device is routed there."""
        name = self.wanted.cell.interface
        used = {*more, *(peer.route_via for peer in self.wanted.peers.values())}
        links = [link for _name, link in sorted(self.wanted.links.items()) if link.name in used and link.interface == name]
        if not links:
            return
        # On one interface a prefix belongs to one peer: a second exit would silently steal the first's.
        others = [f"link {link.name!r}" for link in links[1:]]
        observed = self.observed.wireguard.get(name)
        ours = self._left_keys(name) | {link.public_key for link in self.wanted.links.values()}
        for key, peer in (observed.peers if observed else {}).items():
            if key not in ours and set(EVERYWHERE) & set(peer.allowed_ips):
                others.append(f"the peer {key}")
        if others:
            raise BadInput(
                f"Link {links[0].name!r} cannot be an exit on interface {name!r}: {others[0]} there has 0.0.0.0/0, which WireGuard gives to one peer only. "
                "Leave the link's interface out, so that it gets its own."
            )

    # Rules

    def _check_shown(self, check: Callable[[iptables.SavedRuleset], None] = iptables.check_shown) -> Plan:
        """Refuse tables that cannot be read, in both families. Raises BadInput."""
        for family in self.observed.families:
            check(self.observed.iptables[family])
        return Plan()

    def _plan_iptables(self, family: int, wanted: Ruleset, only: Collection[str] | None = None) -> Plan:
        ours = firewall.own_interfaces(self.wanted.cell)
        return iptables.plan_rules(wanted, self.observed.iptables[family], ours, self.observed.backends[family][0], only)

    def _look_for_gap(self, state: State, family: int) -> list[Step]:
        """Return the end of what was opened while rules that the records have called for were not there, or not first."""
        around, stored = self.observed.surroundings(self.stored, family), self._with_closed_in(self.stored)
        called_for = firewall.deny(firewall.build(stored, family, around))
        if not self.host.has("conntrack") or iptables.stands(called_for, self.observed.iptables[family], firewall.own_interfaces(stored.cell)):
            return []
        look = gaps.Allowed(state, family, self.observed.surroundings(self.wanted, family), self.observed.addresses()).lookup()
        # Nothing has gone through a link that is new.
        return [look] if look and (firewall.ruled(stored) or stored.routed_addresses(family)) else []

    def _plan_other_iptables(self, family: int) -> Plan:
        """Plan the end of our rules in the iptables variant that the host no longer uses: they would go on deciding."""
        other = self.observed.backends[family][1]
        return iptables.plan_rules({}, self.observed.other_iptables[family], (), other) if other else Plan()

    # Ways of devices

    def _recover_ways(self) -> None:
        """Give devices whose registry cannot be read the ways that the kernel still has for their addresses."""
        exit_cells = {link.exit_table: name for name, link in self.stored.links.items() if link.exit_table}
        ways = {rule.source: exit_cells[rule.table] for seen in self.observed.routing.values() for rule in seen.rules if rule.table in exit_cells}
        for peer in self.wanted.peers.values():
            peer.route_via = next((ways[address] for address in peer.addresses if address in ways), None)

    def _check_route(self, peer: Peer, expected: set[str]) -> None:
        """Refuse a way through a cell that never offered; one that is expected to, or was in use, waits fail-closed."""
        via, old = peer.route_via, self.stored.peers.get(peer.name)
        if via is None or (old is not None and old.route_via == via) or via in expected:
            return
        link = self.wanted.links.get(via)
        if link is None:
            raise BadInput(
                f"Peer {peer.name!r} cannot be routed via {via!r}: cell {self.wanted.cell.name!r} has no link with it. Its links: "
                f"{', '.join(sorted(self.wanted.links)) or 'none'}. Correct the name, link the cells first, or send the peer {DIRECT}."
            )
        if not link.remote_exit_offered:
            raise BadInput(
                f"Peer {peer.name!r} cannot be routed via {via!r}: that cell has not offered {self.wanted.cell.name!r} an exit. "
                f"Let it offer one (pic.cells.offer_exit), or send the peer {DIRECT}."
            )

    def _settle_ways(self, devices: Collection[str] | None = None, part: records.Part = records.WAYS_PART) -> Plan:
        """Give each exit in use its table, and plan all ways. devices: as for exits.plan_move. part: what is written of the records."""
        exits.allocate_tables(self.wanted, self.observed.routing.values())
        for name, link in self.wanted.links.items():
            link.exit_relay_active = self.wanted.exit_in_use(name)
        return self._plan_ways(devices, part)

    def _plan_ways(self, devices: Collection[str] | None, part: records.Part) -> Plan:
        """Order all changes: the new way is prepared whole, flows end while only 'unreachable' stands, the old way goes last."""
        seen = self.observed.routing
        priority = exits.base_priority(seen.values())
        moves = {family: exits.plan_move(self.wanted, seen[family], family, priority, devices) for family in self.observed.families}
        plan = self._plan_records(part)
        opened, closed = self._plan_exit_peers()
        plan.extend(opened)
        for family in self.observed.families:
            plan.extend(batch(family, moves[family].prepare))
        try:
            early, late = self._plan_second_layer()
        except BadInput:
            if devices is None:
                raise
            early, late = Plan(), Plan()  # the policy rules close the ways without it
        plan.extend(early)
        for family in self.observed.families:
            plan.steps += conntrack.end_begun_by(moves[family].flows)
        for family in self.observed.families:
            plan.extend(batch(family, moves[family].enter))
        for family in self.observed.families:
            plan.extend(batch(family, moves[family].leave))
            plan.describe(moves[family].before, moves[family].after)
        plan.extend(late)
        plan.extend(closed)
        self._strike_out(plan, exits=[])
        return plan

    def _plan_exit_peers(self) -> tuple[Plan, Plan]:
        """Plan the links' AllowedIPs: those that become exits first, those that are none any more last."""
        opened, closed = Plan(), Plan()
        changed: dict[str, list[Link]] = {}
        lines: dict[str, Plan] = {}
        for name, link in sorted(self.wanted.links.items()):
            before, used = self.before.links[name], link.exit_relay_active
            interface = self.observed.wireguard.get(str(link.interface))
            if link.pending or interface is None or not (used or name in self.leaving.exits):
                continue
            allowed = interface.peers.get(_peer_key(link), wireguard.Peer("")).allowed_ips
            if (before.exit_relay_active, before.exit_table, EVERYWHERE[0] in allowed) != (used, link.exit_table, used):
                changed.setdefault(interface.name, []).append(link)
                said = ([f"{link.interface}: cell {name} with {', '.join(n)}"] for n in (allowed, _allowed_ips(link)))
                lines.setdefault(interface.name, Plan()).describe(*said)
        known = self.preshared_keys() if changed else {}
        for name, links in changed.items():
            tunnel = self._plan_tunnels(name, links, self.identity, {}, known)
            # All else of a link is for its own plan, and said there.
            tunnel.before, tunnel.after = lines[name].before, lines[name].after
            (opened if any(link.exit_relay_active for link in links) else closed).extend(tunnel)
        return opened, closed

    def _plan_second_layer(self) -> tuple[Plan, Plan]:
        """Plan the chain that drops routed peers at the uplink: who becomes routed is in it early, who goes direct leaves it late."""
        early, late = Plan(), Plan()
        union = self.wanted.copy()
        for name, peer in self.before.peers.items():
            if peer.route_via and not (name in union.peers and union.peers[name].route_via):
                union.peers[name] = peer
        for family in self.observed.families:
            final = self._plan_layer(self.wanted, family)
            if union.routed_addresses(family) == self.wanted.routed_addresses(family):
                early.extend(final)
            else:
                if set(self.wanted.routed_addresses(family)) - set(self.before.routed_addresses(family)):
                    early.steps += self._plan_layer(union, family).steps
                late.extend(final)
        return early, late

    def _plan_layer(self, state: State, family: int) -> Plan:
        iptables.check_denies(self.observed.iptables[family])
        wanted, names = firewall.layer(state, family), set[str]()
        for name, table in wanted.items():
            present = self.observed.iptables[family].get(name, iptables.Saved()).rules
            routed = any(rules for chain, rules in table.chains.items() if chain != firewall.ANSWERS)
            if not routed and firewall.ANSWERS not in present:
                del table.chains[firewall.ANSWERS]  # nobody asks for it yet
            names |= {*table.chains, *filter(firewall.is_of_layer, present)}
            if routed:
                table.chains["PIC-HOME"] = firewall.home_chain(state.cell, family)
        return self._plan_iptables(family, wanted, names)

    # Peer-sync

    def _asked(self, items: Iterable[Args]) -> State:
        """Return the state that this run leads to, for judging and telling; what it lays over is written by other modules."""
        asked = self.wanted.copy()
        items = [item for item in items if item.get("state") != "absent"]
        for item in items:
            overlay.lay_link(asked, item)
            overlay.lay_permissions(asked, item)
        overlay.lay_offers(asked, items)
        return asked


def _peer_key(link: Link) -> str:
    """Return what tells a link's peer from others; keys that nobody has made yet look all the same."""
    return f"{link.public_key} {link.name}" if link.public_key == wireguard.GENERATED else str(link.public_key)


def _allowed_ips(link: Link) -> list[str]:
    return wireguard.sorted_networks([*link.networks, *(EVERYWHERE if link.exit_relay_active else ())])


def _preshared_keys(host: Host, interface: str) -> dict[str, str | None]:
    """Read the preshared keys that an interface's file already holds, by public key: silence keeps them."""
    peers = wireguard.config_peers(host.read(wgconfig.config_path(interface)) or "")
    # One that is none would be no key to sign with, and is not written on.
    return {peer.public_key: peer.preshared_key if peer.preshared_key and wireguard.is_key(peer.preshared_key) else None for peer in peers}


def _counters(peer: wireguard.Peer | None) -> dict[str, int]:
    """Return a tunnel's last handshake (seconds since the epoch) and bytes."""
    peer = peer or wireguard.Peer("")
    return {"last_handshake": peer.handshake, "received": peer.received, "sent": peer.sent}


def _payload_words(message: Mapping[str, Any]) -> str:
    shares = ", ".join(sorted(message["permissions"]["outbound"])) or "nothing"
    offer = "an exit is offered" if message["exit_offered"] else "no exit is offered"
    wish = "its exit is used" if message["use_as_exit_relay"] else "its exit is not used"
    return f"shared are {shares}; {offer}; {wish}"


def _push_words(link: Link) -> list[str]:
    return [f"cell {link.name}: {'not told yet' if link.pending_push else 'told'}"]


def _view_words(link: Link) -> list[str]:
    shares = ", ".join(sorted(name for name, allowed in link.permissions["outbound"].items() if allowed)) or "nothing"
    offer = ", offers an exit" if link.remote_exit_offered else ""
    relay = ", uses this cell as exit" if link.remote_exit_relay_active else ""
    return [f"cell {link.name}: shares {shares} with this cell{offer}{relay}"]
