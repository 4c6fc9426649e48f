# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the owner of another cell has to know to link with this one. Owns no record; adds files with a secret to the host."""

from __future__ import annotations

from typing import Any

from ..base import tokens, wgkeys
from ..base.names import check_name, link_interface
from ..base.networks import host_port
from ..base.times import render_moment
from ..kernel.plan import Plan
from ..records.model import Link
from . import claims, invitations, keys, merge, tunnels
from .inputs import Inputs
from .part import Context


def own_side(context: Context, name: str, endpoint_port: int | None = None) -> dict[str, Any]:
    """Return what another cell has to know of this one. name: the other cell's. endpoint_port: at which it dials, where that is not the link's own."""
    cell, link = context.wanted.cell, context.wanted.links.get(name, Link(name))
    port, host = endpoint_port or link.listen_port, cell.endpoint or ""
    address = cell.own_addresses()
    return {
        "name": cell.name,
        "public_key": context.identity.public,
        "networks": cell.own_networks(),
        "address": address,
        "endpoint": host_port(host, port) if host and port else None,
        "api_url": merge.api_url(address, cell.sync_port),
    }


def plan_invitation(context: Context, name: str, endpoint_port: int | None = None) -> tuple[Plan, dict[str, Any], Inputs | None]:
    """Plan the secret of a link with a cell of another owner, and where that cell can dial this one, a token that it redeems through the tunnel.

    Returns plan, {invitation, key_file, token, token_file, code}, and what the modules for rules and links are to be told of the link, if anything.
    Raises BadInput for a name that is none.
    """
    check_name("Cell", name)
    host, folder, plan = context.host, context.store.path, Plan()
    link = context.wanted.links.setdefault(name, Link(name, interface=link_interface(name)))
    tunnels.allocate_ports(context)
    said, path = own_side(context, name, endpoint_port), invitations.key_path(folder, name)
    complete = not link.pending and not link.invited
    has_key = complete and bool(context.preshared_keys().get(name))
    secret = None if has_key else invitations.waiting(host, folder, name, context.now)
    ends = invitations.until(host, folder, name, context.now)
    if not secret and not has_key:
        secret, ends = keys.new_preshared_key(host, context.predict), int(context.now) + invitations.AGE
        plan.extend(invitations.plan_new(folder, name, secret, context.now))
    facts = {"invitation": said, "key_file": path if plan or host.exists(path) else "", "token": "", "token_file": "", "code": tokens.code(said)}
    if complete or not secret or not said["endpoint"]:
        return plan, facts, None
    source = next(iter(link.address if link.invited else ()), None)
    if source is None:
        taken = {address for other in context.wanted.links.values() if other.invited for address in other.address}
        source = claims.temporary_address(name, 6 if "[" in str(said["api_url"]) else 4, taken)
    key, until, whole = wgkeys.GENERATED, render_moment(ends), invitations.token_path(folder, name)
    text = wgkeys.PRESHARED_LATER
    if secret != wgkeys.PRESHARED_LATER:
        token = {**said, "for": name, "source": source, "until": until}
        token[tokens.MAC] = tokens.proof(token, secret)
        text = tokens.render_token(tokens.REDEEMED, {**token, tokens.SECRET: secret})
        facts.update(token=tokens.render_token(tokens.REDEEMED, token), token_file=whole, code=tokens.code(token))
        key = wgkeys.public_key_of(host, claims.one_time_key(secret))
    plan.write(whole, host.read(whole), f"{text}\n")
    item = {"name": name, "public_key": key, "networks": [source], "address": [source], "preshared_key": secret, "invited_until": until}
    return plan, facts, Inputs(links=[item])
