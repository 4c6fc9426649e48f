# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exits that are no cells: the tunnel to a provider of internet access is a link that no cell is at the other end of.

It has a key of its own, which the provider knows, and the addresses that the provider has given. Devices leave through it in the name of these addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..base import names
from ..base.errors import BadInput, StoreError
from ..base.networks import FAMILIES, conflicts
from ..base.wgkeys import is_key
from ..kernel import wgconfig
from ..kernel.plan import Plan, Remove, Write
from ..records.model import Link, State
from . import keys
from .inputs import Inputs
from .part import Context

_KEY = ".key"


def key_path(folder: str, name: str) -> str:
    """Return the file with this cell's private key for a provider, and the preshared key behind it. folder: the one with the records."""
    return f"{folder}/providers/{name}{_KEY}"


def merge_exits(state: State, inputs: Inputs) -> None:
    """Merge the exits that are no cells. A call that says anything of them names them all."""
    if inputs.provided is None:
        return
    for name in [name for name, link in state.links.items() if link.provided and name not in inputs.provided]:
        del state.links[name]
    for name, given in inputs.provided.items():
        known = state.links.get(name)
        # An older program, in between, has left of a provider a link without networks.
        is_cell = known is not None and not known.provided and bool(known.networks or known.address or known.public_key != given.public_key)
        if name == state.cell.name or is_cell:
            raise BadInput(f"The exit {name!r} has the name of a cell that this cell knows. Choose another name for the exit in cell_exits.")
        link = state.links.setdefault(name, Link(name))
        link.interface = link.interface or names.link_interface(name)
        link.public_key, link.endpoint, link.keepalive, link.mtu = given.public_key, given.endpoint, given.keepalive, given.mtu
        link.given_addresses, link.given_resolvers = given.addresses, given.resolvers


def check(state: State, before: State, host_networks: Mapping[str, Iterable[str]]) -> None:
    """Refuse an exit whose addresses somebody near has, or that shares no family with this cell. Raises BadInput.

    before: the records as they are. host_networks: by who has them; one that comes later ends no repair.
    """
    near: dict[str, Iterable[str]] = {f"this cell {state.cell.name!r}": state.cell.networks}
    near.update({f"link {name!r}": link.networks for name, link in state.links.items()})
    near.update({f"peer {name!r}": peer.networks for name, peer in state.peers.items()})
    for name, link in sorted(state.links.items()):
        if not link.provided:
            continue
        told = [*link.given_addresses, *link.given_resolvers]
        known = before.links.get(name, Link(name))
        is_new = told != [*known.given_addresses, *known.given_resolvers]
        found = conflicts({f"exit {name!r}": told}, {**near, **(host_networks if is_new else {})})
        if found:
            raise BadInput(
                f"{'; '.join(f'The {sentence}' for sentence in found)}. An exit's Address and DNS have to be out of reach without it. "
                "Ask the provider for other addresses, or remove the DNS line."
            )
        if not any(state.cell.has_family(family) and link.has_family(family) for family in FAMILIES):
            raise BadInput(
                f"The exit {name!r} has only {', '.join(link.given_addresses)}, and cell {state.cell.name!r} no network of that family. "
                "Add one to cell_networks, or use another file of the provider."
            )


def plan_keys(context: Context, names: Iterable[str]) -> Plan:
    """Plan the files with the keys of some links as far as they are to providers, and the end of those that no exit has any more."""
    plan = Plan()
    for link in (context.wanted.links[name] for name in names):
        if not link.provided:
            continue
        path = key_path(context.store.path, link.name)
        kept, text = context.host.read(path), "".join(f"{key}\n" for key in (private_key(context, link), preshared_key(context, link)) if key)
        if kept != text:
            plan.steps.append(Write(path, text))
            plan.describe([] if kept is None else [f"{path}: other keys"], [f"{path}: the keys for exit {link.name}"])
    folder = f"{context.store.path}/providers"
    for file in context.host.list(folder):
        if file.removesuffix(_KEY) not in context.wanted.links and not context.stored.links_lost:
            plan.steps.append(Remove(f"{folder}/{file}"))
            plan.describe([f"{folder}/{file}: there"], [])
    return plan


def private_key(context: Context, link: Link) -> str:
    """Return this cell's private key for a provider: as given, as kept, or as the interface has it. Raises StoreError where it is lost."""
    given = (context.inputs.provided or {}).get(link.name)
    interface = context.observed.wireguard.get(str(link.interface))
    candidates = (
        given.private_key if given else None,
        *_kept(context, link)[:1],
        wgconfig.parse(context.host.read(wgconfig.config_path(str(link.interface)))).get("privatekey"),
        interface.private_key if interface else None,
    )
    found = next((key for key in candidates if key and is_key(key)), None)
    if found is None:
        raise StoreError(f"The private key for the exit {link.name!r} is lost: {key_path(context.store.path, link.name)} does not hold it. Run pic.cells.site.")
    return found


def preshared_key(context: Context, link: Link) -> str | None:
    """Return the preshared key with a provider: as given, as kept, or as the interface has it."""
    given, kept = (context.inputs.provided or {}).get(link.name), _kept(context, link)
    if given or kept:
        return given.preshared_key if given else next(iter(kept[1:]), None)
    return keys.kept(context.observed, str(link.interface), str(link.public_key), keys.written(context.host, str(link.interface)))


def _kept(context: Context, link: Link) -> list[str]:
    return (context.host.read(key_path(context.store.path, link.name)) or "").split()
