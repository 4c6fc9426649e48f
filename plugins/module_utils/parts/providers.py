# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exits that are no cells: the tunnel to a provider of internet access is a link that no cell is at the other end of.

It has a key of its own, which the provider knows, and the addresses that the provider has given. Devices leave through it in the name of these addresses.
"""

from __future__ import annotations

from ..base import names
from ..base.errors import BadInput, StoreError
from ..base.networks import FAMILIES, conflicts
from ..base.wgkeys import is_key
from ..kernel import wgconfig
from ..kernel.plan import Plan, Remove, Write
from ..records.model import Link, State
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
        if name == state.cell.name or (name in state.links and not state.links[name].provided):
            raise BadInput(f"The exit {name!r} has the name of a cell that this cell knows. Choose another name for the exit in cell_exits.")
        link = state.links.setdefault(name, Link(name))
        link.interface = link.interface or names.link_interface(name)
        link.public_key, link.endpoint, link.keepalive, link.mtu = given.public_key, given.endpoint, given.keepalive, given.mtu
        link.given_addresses, link.given_resolvers = given.addresses, given.resolvers


def check(state: State, host_networks: dict[str, list[str]]) -> None:
    """Refuse an exit whose addresses somebody near has, or that shares no family with this cell. host_networks: by who has them. Raises BadInput."""
    near = {f"this cell {state.cell.name!r}": state.cell.networks, **host_networks}
    near.update({f"link {name!r}": link.networks for name, link in state.links.items()})
    near.update({f"peer {name!r}": peer.networks for name, peer in state.peers.items()})
    for name, link in sorted(state.links.items()):
        if not link.provided:
            continue
        found = conflicts({f"exit {name!r}": [*link.given_addresses, *link.given_resolvers]}, near)
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


def plan_keys(context: Context) -> Plan:
    """Plan the files with the keys that were given, and the end of those that no exit has any more."""
    plan = Plan()
    for name, given in (context.inputs.provided or {}).items():
        path = key_path(context.store.path, name)
        found, text = context.host.read(path), "".join(f"{key}\n" for key in (given.private_key, given.preshared_key) if key)
        if found != text:
            plan.steps.append(Write(path, text))
            plan.describe([] if found is None else [f"{path}: other keys"], [f"{path}: the keys for exit {name}"])
    folder = f"{context.store.path}/providers"
    for path in (f"{folder}/{file}" for file in context.host.list(folder) if file.endswith(_KEY)):
        name = path.rpartition("/")[2].removesuffix(_KEY)
        if name not in context.wanted.links:
            plan.steps.append(Remove(path))
            plan.describe([f"{path}: there"], [])
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
    """Return the preshared key with a provider, as given or as kept."""
    given = (context.inputs.provided or {}).get(link.name)
    return given.preshared_key if given else next(iter(_kept(context, link)[1:]), None)


def _kept(context: Context, link: Link) -> list[str]:
    return (context.host.read(key_path(context.store.path, link.name)) or "").split()
