# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a cell: what is ours goes, what belongs to others stays, and no routed device is let out in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..base.command import Host
from ..base.errors import BadInput, StoreError
from ..kernel import iptables, systemd, tc, wgconfig, wgquick, wireguard
from ..kernel.model import Interface, RoutingChange, WgPeer
from ..kernel.plan import Plan, Remove, Run, Write
from ..kernel.routing import KEPT, NETWORKD, batch
from ..parts import adoption, exits, pairing, units
from ..parts.part import Context
from ..parts.visible import FOLDERS
from ..records.store import INVITATIONS, LOCK
from . import redial, unchanged
from .exchange import SPOOL

PROGRAMS = ("/usr/local/bin/pic-cell", "/usr/local/lib/pic-cells", "/run/pic-cells")  # the last is FOLDERS of the module cell_step
_OURS = "# Written by pic.cells."  # the first line of a file that we have made
_INNER = (INVITATIONS, "providers")  # folders of files that belong to the records


def kept_folder(path: str) -> str:
    """Return where the records of a cell that is gone are kept. path: the folder with the records."""
    return f"{path}.removed"


def plan_uninstall(context: Context, name: str, purge: bool = False) -> Plan:
    """Plan the end of a cell; nothing where it is gone already. name: the cell's, so that none is meant by mistake. purge: keep no copy of key and records.

    What would put it back ends first, then what lets devices in, then what keeps them from the uplink. The records go last: what ends in between is completed.
    """
    state, host, plan = context.stored, context.host, Plan()
    if not state.cell.name:
        if context.store.warnings:
            raise StoreError(f"{' '.join(context.store.warnings)} Put it back from a backup, so that pic.cells knows what belongs to the cell.")
        return plan
    if name != state.cell.name:
        raise BadInput(f"This host is the cell {state.cell.name!r}, not {name!r}. Nothing was changed. Name the cell that you want to remove.")
    if state.peers_lost or state.links_lost:
        raise StoreError(f"{' '.join(context.store.warnings)} Put it back from a backup, so that pic.cells knows what belongs to the cell.")
    plan.warnings += [
        f"Cell {link!r} still has its link with {name!r}, unless somebody has removed it there (pic.cells.unlink, before this)."
        for link in sorted(state.links)
        if not state.links[link].provided
    ]
    found = context.devices_interface()
    plan.extend(_plan_units(host, [found.name, *state.link_interface_names()]))
    plan.extend(_plan_devices(context, found))
    for interface in _link_interfaces(context):
        plan.extend(wireguard.plan_removal(host, interface, context.observed.wireguard.get(interface)))
    plan.extend(tc.plan_removal(context.observed.links))
    plan.extend(_plan_kernel(context, found))
    plan.extend(pairing.plan_left(context)[0])
    for path in (NETWORKD, KEPT, unchanged.PATH, redial.NOTES):
        if host.exists(path):
            plan.steps.append(Remove(path, tree=path == redial.NOTES))
            plan.describe([f"{path}: there"], [])
    plan.extend(_plan_files(context, found, purge))
    return plan


def _plan_units(host: Host, interfaces: Iterable[str]) -> Plan:
    """Plan the end of what would put the cell back. The guard ends when no interface requires it any more, or these would end along with it."""
    plan = Plan()
    # A folder with settings of somebody's own for one of them (systemctl edit) is theirs.
    names = [name for name in host.list(systemd.SYSTEM) if name.startswith("pic-cell-") and not name.endswith(".d")]
    paths = [f"{systemd.SYSTEM}/{name}" for name in names]
    enabled = [unit for unit in units.ENABLED if unit in names]
    others = [name.replace("@.", "@*.") for name in names if name not in (*units.ENABLED, units.GUARD)]  # a template has instances
    running = enabled and host.exists("/run/systemd/system")
    if running:
        plan.steps += [Run(("systemctl", "disable", "--now", *enabled)), *([Run(("systemctl", "stop", *others))] if others else [])]
    for path in filter(host.exists, map(systemd.drop_in_path, interfaces)):
        folder, _slash, name = path.rpartition("/")
        plan.steps.append(Remove(folder, tree=True) if host.list(folder) == [name] else Remove(path))
    if running:
        plan.steps += [Run(("systemctl", "daemon-reload")), Run(("systemctl", "stop", units.GUARD))]
    plan.steps += [Remove(path) for path in paths]
    if running:
        plan.steps.append(Run(("systemctl", "daemon-reload")))
    plan.describe([f"{path}: there" for path in paths], [])
    return plan


def _plan_devices(context: Context, found: adoption.Found) -> Plan:
    """Plan the end of the devices' interface, or where somebody had it before the cell, of what the cell has put there."""
    host, state, observed = context.host, context.stored, context.observed.wireguard.get(found.name)
    if found.text is None and observed is None:
        return Plan()
    if (found.text or "").startswith(_OURS):
        plan = wireguard.plan_removal(host, found.name, observed)
        others = adoption.foreign_keys(state, found)
        plan.warnings += (
            [f"Interface {found.name!r} was made by the cell and is removed, together with peers that are not its own: {', '.join(others)}."] if others else []
        )
        return plan
    before = adoption.look_kept(host, context.store.path, found.name)
    theirs = {peer.public_key: peer for peer in wgquick.config_peers(before.text or "")}
    added = {link.public_key or "" for link in state.links.values()} | (
        state.device_keys() - set(theirs) if before.text else _labelled(found, state.device_keys())
    )
    kept = {key: WgPeer(key, theirs[key].allowed_ips, None, None, theirs[key].preshared_key) for key in sorted(state.device_keys() & set(theirs))}
    gone = {address for address in state.cell.networks if before.text and address not in before.addresses}
    addresses = [address for address in found.addresses if address not in gone]
    wanted = Interface(found.name, found.key, None, found.port or state.cell.listen_port, kept, addresses)
    plan = Plan()
    text = wgquick.merge_config(found.text, wanted, dict.fromkeys(kept, "device kept"), {*added, *gone})
    if before.text and not before.config.get("table"):
        config = wgconfig.parse(text)
        for section in config.of(wgconfig.INTERFACE):
            config.drop(section, "Table")
        text = config.render()
    plan.write(wgconfig.config_path(found.name), found.text, text, None)
    if observed:
        peers = {key: replace(peer, allowed_ips=kept.get(key, peer).allowed_ips) for key, peer in observed.peers.items() if key not in added}
        final = replace(observed, peers=peers, addresses=[address for address in observed.addresses if address not in gone], routes=[])
        live = wireguard.plan_live(observed, final, ())
        plan.extend(live)
        plan.describe([f"{found.name}: peer {key}" for key in sorted(added & set(observed.peers))], [])
    routed = sorted(name for name, device in state.peers.items() if device.exits and device.public_key not in added)
    plan.warnings += [
        f"Peer {name!r} was on {found.name!r} before the cell and stays: nothing keeps it from reaching the internet directly any more, if this host lets it."
        for name in routed
    ]
    return plan


def _labelled(found: adoption.Found, keys: set[str]) -> set[str]:
    """Return those peers that a comment of ours says we have added."""
    return {key for section in found.config.of(wgconfig.PEER) for key in [section.get("publickey") or ""] if section.lead and key in keys}


def _link_interfaces(context: Context) -> list[str]:
    """Return the interfaces of links, also of one that a run had begun to remove."""
    files = [name.removesuffix(".conf") for name in context.host.list(wgconfig.CONFIG_DIR) if name.startswith("pic-") and name.endswith(".conf")]
    ours = [name for name in files if (context.host.read(wgconfig.config_path(name)) or "").startswith(_OURS)]
    return sorted({*ours, *(name for name in context.stored.link_interface_names() if name.startswith("pic-"))})


def _plan_kernel(context: Context, found: adoption.Found) -> Plan:
    """Plan the end of our routes, policy rules and rules. Routes go with their interface; who is closed in stays so until nothing lets them in."""
    plan, seen = Plan(), context.observed
    stays = found.name if not (found.text or "").startswith(_OURS) else None
    kept = {network for peer in adoption.look_kept(context.host, context.store.path, found.name).peers for network in peer.allowed_ips}
    behind = [route for route in exits.device_routes(context.stored) if route.device == stays and route.destination not in kept]
    for family in seen.families:
        routing = seen.routing[family]
        routes = [route for route in routing.routes if route.device in (None, stays)]
        rules = sorted(routing.rules, key=lambda rule: -rule.priority)
        # wg-quick has made some of them, for peers that are ours; only what is ours is deleted.
        taken = [route for route in behind if (route.device, route.destination) in routing.host_networks and route.family == family and route not in routes]
        routes += taken
        changes: list[RoutingChange] = [("del", skip) for skip in routing.skips]
        changes += [*(("del", rule) for rule in rules), *(("replace", route) for route in taken), *(("del", route) for route in routes)]
        plan.extend(batch(family, changes))
        plan.describe([*(rule.render() for rule in routing.every_rule), *(route.words() for route in routes)], [])
    for family in seen.families:
        used, other = seen.backends[family]
        plan.extend(iptables.plan_rules({}, seen.iptables[family], (), used))
        if other:
            plan.extend(iptables.plan_rules({}, seen.other_iptables[family], (), other, observed_as="other_iptables"))
    return plan


def _plan_files(context: Context, found: adoption.Found, purge: bool) -> Plan:
    """Plan the end of the program, and of key and records, which are kept beside unless told otherwise."""
    plan, path = Plan(), context.store.path
    private = f"/var/lib/private/{SPOOL.rpartition('/')[2]}"
    for other in (*PROGRAMS, private, SPOOL):
        if context.host.exists(other):
            plan.steps.append(Remove(other, tree=True))
    plan.describe([f"{path}: the records of {context.stored.cell.name}"], [] if purge else [f"{kept_folder(path)}: the records of {context.stored.cell.name}"])
    if not purge:
        for file in _files(context.host, path):
            plan.steps.append(Write(f"{kept_folder(path)}{file.removeprefix(path)}", context.host.read(file) or ""))
        plan.steps.append(Write(f"{kept_folder(path)}/{found.name}.conf", found.text or ""))
    # What says whose the cell is goes last: without it the next run would find nothing to complete.
    plan.steps += [Remove(f"{path}/{name}", tree=True) for name in context.host.list(path) if name not in (LOCK, "cell.json")]
    plan.steps += [Remove(f"{path}/cell.json"), Remove(path, tree=True)]
    return plan


def _files(host: Host, folder: str) -> list[str]:
    """Return the records and what belongs to them, without the receiver's view, which follows from them."""
    inner = [f"{folder}/{within}/{name}" for within in _INNER for name in host.list(f"{folder}/{within}")]
    return [*(f"{folder}/{name}" for name in host.list(folder) if name not in (LOCK, pairing.LOCK, *FOLDERS, *_INNER)), *inner]
