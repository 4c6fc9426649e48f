# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cell read back: what the records have, what the kernel has, and how they differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from . import cell
from .base import wgkeys
from .base.errors import BadInput, StoreError
from .base.networks import FAMILIES
from .base.packages import lacking
from .kernel import iptables
from .kernel.model import WgPeer
from .kernel.routing import setting, unforwarded
from .parts import advice, checks, devices, expectations, ground
from .parts.inputs import Inputs
from .parts.part import Context
from .parts.surveyed import Surveyed
from .records import codec
from .records.model import State


def info(context: Context, run: Inputs | None = None, steps: cell.Steps = cell.RUN) -> dict[str, Any]:
    """Return what pic_cell_info documents. run: what a run is going to say; then also what it would refuse and do, instead of what differs from the records."""
    state, seen = context.current, context.observed
    public = None if context.identity.new else context.identity.public
    secrets = context.preshared_keys()
    tunnels = {key: peer for interface in seen.wireguard.values() for key, peer in interface.peers.items()}
    facts: dict[str, Any] = {
        "name": state.cell.name,
        "public_key": public,
        "networks": state.cell.networks,
        "read_at": int(context.now),
        "links": {
            name: {**asdict(link), "preshared_key_id": wgkeys.key_id(secrets[name]), **_counters(tunnels.get(link.public_key or ""))}
            for name, link in sorted(state.links.items())
        },
        "peers": {
            name: {
                **codec.dump_peer(peer),
                "exit_dns": peer.exit_dns,
                "exit": state.exit_of(peer),
                "exit_effective": state.exit_is_effective(state.exit_of(peer)),
                "dns_by_uplink": [f"IPv{family}" for family in state.dns_by_uplink(peer)],
                **_counters(tunnels.get(peer.public_key or "")),
            }
            for name, peer in sorted(state.peers.items())
        },
        "exits": {name: _exit(state, name) for name in state.named_exits},
        "rules": {f"ipv{family}": {table: iptables.own_rules(saved) for table, saved in sorted(seen.iptables[family].items())} for family in FAMILIES},
        "policy_rules": {f"ipv{family}": sorted(rule.render() for rule in seen.routing[family].every_rule) for family in FAMILIES},
        "routes": {f"ipv{family}": sorted(route.render() for route in seen.routing[family].routes) for family in FAMILIES},
        **lacking(context.host, shaping=_shapes(state, run)),
        "taken_keys": sorted(checks.taken_keys(state, seen.wireguard)),
        "advertised": _advertised_uplinks(context),
        "unforwarded": unforwarded(context.host),
        # before the drift, which takes for repaired what it finds
        "expectations": [asdict(one) for one in expectations.judge(ground.observed(context, cell.CONTRIBUTIONS))] if run is None and state.cell.expect else [],
        "drift": cell.drift(context) if state.cell.name and run is None else [],
        "refusals": [],
        "due": [],
        "payloads": {},
    }
    if run is not None:
        try:
            if run.devices and run.exits is None:  # a change of one device; a whole run says something of exits, and states all devices
                devices.check_registry(context)
            rehearsed = cell.rehearse(context, run, steps)
        except (BadInput, StoreError) as error:
            facts["refusals"].append(str(error))
        else:
            facts["due"] = cell.due(context, rehearsed)
            if context.stored.cell.expect:
                facts["refusals"] += expectations.refusals(ground.planned(context, cell.CONTRIBUTIONS))
            facts["payloads"] = rehearsed["tell"][1]["payloads"]
    facts["advice"] = advise(context, run is not None)
    return facts


def advise(context: Context, run: bool = False) -> list[str]:
    """Say what on this host may keep the cell from working. run: whether a run of the role asks, which sets what it finds missing."""
    return advice.advise(advice.Situation(context.current, context.observed, Surveyed(context.host), run, context.now))


def _advertised_uplinks(context: Context) -> list[str]:
    """Return the devices whose IPv6 default route the kernel took from a router and will drop as soon as it forwards."""
    return [
        device
        for device in sorted(set(context.observed.routing[6].advertised))
        if setting(context.host, f"net/ipv6/conf/{device}/accept_ra") == "1"  # with slashes, as the device's name may hold a dot
    ]


def _shapes(state: State, run: Inputs | None) -> bool:
    """Tell whether an offer has a rate, or is to have one."""
    return any(link.rate for link in state.links.values()) or any(item.get("offer_rate") for item in (run.rights if run else ()))


def _exit(state: State, name: str) -> dict[str, Any]:
    """Return whether an exit can be used, and what was found of one that does not work."""
    down = state.down.get(name)
    found = {"since": down.since, "why": down.why, "answers": down.answers, "words": down.words(name)} if down else None
    return {"usable": state.exit_is_effective(name), "down": found}


def _counters(peer: WgPeer | None) -> dict[str, int]:
    """Return a tunnel's last handshake (seconds since the epoch) and bytes."""
    peer = peer or WgPeer("")
    return {"last_handshake": peer.handshake, "received": peer.received, "sent": peer.sent}
