# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each option of the modules as the documentation has it, for the items of a list, for the one item of a call, and for the run of the role."""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

Options = dict[str, Any]


def _table(text: str) -> Options:
    """Return options that stand as YAML."""
    options: Options = yaml_load(text)
    return options


def state(description: str, **more: str) -> Options:
    """Return the option state. more: its default, which one that stands beside a list of items has not."""
    return {"state": {"description": description, "type": "str", "choices": ["present", "absent"], **more}}


def _several(options: Options, **more: Any) -> Options:
    """Return a list of items that have these options; the module itself describes the list, or more does."""
    return {"type": "list", "elements": "dict", "suboptions": options, **more}


def fragment(options: Options) -> str:
    """Return the text of a fragment. JSON is YAML."""
    return json.dumps({"options": options})


NAME = _table(r"""
name:
  description: The other cell's name.
  type: str
  required: true
""")

PORT = _table(r"""
interface:
  description:
    - The link's interface, beginning with C(pic-). Left out, the record's, or C(pic-<name>), hashed past 15 characters.
    - The devices' interface (O(cell.interface)) is possible for a remote that needs it; there only one link can be an exit.
  type: str
listen_port:
  description: The link's own UDP port. Left out, the record's, or the next free one from O(cell.link_port_base).
  type: int
""")

LINK = {
    **_table(r"""
public_key:
  description: The other cell's WireGuard public key. Left out, the record's.
  type: str
networks:
  description: The other cell's networks. Left out, the record's.
  type: list
  elements: str
allow_public_networks:
  description:
    - Whether the other cell's networks may be others than private (RFC 1918, 100.64.0.0/10) and unique local ones (fc00::/7).
    - All traffic to them goes into the tunnel, so none may be wider than /8 (IPv6 /32) in any case. Left out, the record's, or V(false).
  type: bool
address:
  description: The other cell's own addresses inside the tunnel. Left out, the record's.
  type: list
  elements: str
"""),
    **PORT,
}

API_URL = _table(r"""
api_url:
  description:
    - URL of the other cell's peer-sync API inside the tunnel, whose port devices do not reach.
    - Left out, the record's, or built from the other cell's address and O(cell.sync_port).
  type: str
""")

TUNNEL = {
    **LINK,
    **_table(r"""
endpoint:
  description:
    - C(host:port) that this cell dials, IPv6 in brackets. It reaches the kernel as well as the file; a live session that has roamed is
      left alone. Left out, the record's; where neither has one, the other side dials.
    - An address within the link's own networks is refused, and a name that does not resolve leaves the link waiting.
  type: str
keepalive:
  description: Seconds between keepalives, up to 65535, V(0) for none. Left out, the record's, or 10.
  type: int
mtu:
  description: The link's MTU in bytes, at least 1280 with IPv6 networks, 576 otherwise. Left out, the record's, or what fits the way (at most 1420).
  type: int
preshared_key:
  description: The preshared key of the link. Left out, the one in the link's file stays.
  type: str
accept_networks:
  description:
    - Networks that are set aside for the other cell. If it announces other networks through the tunnel, those within these are taken over at once, and all
      others wait until they are stated here.
    - They are judged as networks of the link. None may be wider than /16 (IPv6 /48), or public without C(allow_public_networks), or overlap the cell's admin
      networks.
    - Left out, the record's; an empty list sets none aside.
  type: list
  elements: str
sync_auth:
  description:
    - What tells the other cell's pushes from others'. V(hmac) is a signature by a key that comes from the preshared key.
    - V(address) lets its source address and public key do, where the link has no preshared key. Left out, the record's, or V(hmac).
  type: str
  choices: [hmac, address]
"""),
    **API_URL,
}

RIGHTS = _table(r"""
share:
  description:
    - The complete set of services that the other cell's devices may reach. An empty list revokes all; left out, all stays as it is.
    - A service that the cell does not have is refused.
  type: list
  elements: str
offer_exit:
  description: Whether the other cell may use this one as its exit. Left out, the record's.
  type: bool
offer_until:
  description: When an offer ends, with time zone, like V(2026-12-31T00:00:00Z). Left out, it has no end. It then counts as withdrawn, by the cell's clock.
  type: str
offer_rate:
  description: The most that the link sends, and receives, with an offer; a number of kbit, mbit or gbit, like V(20mbit). Left out, there is no limit.
  type: str
""")

OFFERED = _table(r"""
offered:
  description: Whether the other cell offers this one an exit. Left out, the record's.
  type: bool
""")

EXCEPTIONS: Options = {
    "route_except": _several(
        _table(r"""
to:
  description: Networks of the internet. One that overlaps private addresses or a network of a cell, a link or a device is refused; 64 are the most.
  type: list
  elements: str
  required: true
via:
  description: V(direct), or the name of a linked cell that offers an exit. While it offers none, and where this cell has no route, they are blocked.
  type: str
  required: true
"""),
        description=[
            "Destinations that the device reaches another way than the rest of the internet, and in this way alone. The longest prefix decides.",
            "Left out, they stay as they are; an empty list takes them away.",
        ],
    )
}

DEVICE = {
    **_table(r"""
name:
  description: The device's name; the rule for cell names applies.
  type: str
  required: true
public_key:
  description: The device's WireGuard public key.
  type: str
preshared_key:
  description: The preshared key with this device. Left out, the one in the interface's file stays.
  type: str
addresses:
  description: The device's own addresses, in the cell's networks.
  type: list
  elements: str
networks:
  description:
    - Networks behind the device, as of a router at another place. They are let in and routed to the device; shares, links and exits are not for them.
    - What is behind a device that is routed through an exit reaches the internet in the device's name (masqueraded there), or not at all.
    - Left out, the record's, or those that the devices' interface has for a device that is new to the record. An empty list takes them away.
  type: list
  elements: str
route_via:
  description:
    - The exits that M(pic.cells.pic_policy_route) is going to send the device through, as O(pic.cells.pic_policy_route#module:routes[].via_cell) there.
    - That module makes and records the way.
    - A device that WireGuard does not let in yet is closed in (it reaches no internet) before it does, so that it never goes direct in between.
  type: list
  elements: str
exit_dns:
  description:
    - Who answers what this device asks private addresses while it leaves by another cell, as O(pic.cells.wg_cell#module:cell.exit_dns) for all of them.
    - Left out, the record's; with an empty list it is as for all of them.
  type: list
  elements: str
"""),
    **EXCEPTIONS,
}

DEVICE_NAME = _table(r"""
peer:
  description: The device's name.
  type: str
  required: true
""")

ADDRESSES = _table(r"""
addresses:
  description: The device's addresses. Left out, the record's.
  type: list
  elements: str
""")

ROUTE = {
    **_table(r"""
via_cell:
  description:
    - The exit cell, or several, best first. The device leaves by the first that is linked, offers an exit and works. While none does, it has no internet.
    - V(direct) alone sends it through the own uplink. At the end of a list it does so while none of the cells before it offers an exit that works.
    - Left out, the way stays as it is.
  type: list
  elements: str
"""),
    **EXCEPTIONS,
}

NAME_OF_EXIT = _table(r"""
name:
  description: What devices name it by in O(run.routes[].via_cell). Exits and linked cells share one space of names.
  type: str
  required: true
""")

EXIT = _table(r"""
private_key:
  description: This cell's private key in the provider's tunnel.
  type: str
addresses:
  description: This cell's addresses there, at most one of each family.
  type: list
  elements: str
resolvers:
  description: The provider's resolvers, at most one of each family.
  type: list
  elements: str
mtu:
  description: The MTU of the tunnel in bytes. Left out, what fits the way.
  type: int
public_key:
  description: The provider's public key.
  type: str
preshared_key:
  description: The preshared key with the provider, if there is one.
  type: str
endpoint:
  description: C(host:port) of the provider's server.
  type: str
keepalive:
  description: Seconds between keepalives. Left out, 25.
  type: int
config_file:
  description: The path of the provider's WireGuard file on the cell, instead of all these.
  type: str
""")

OF_A_TUNNEL = _table(r"""
generated:
  description: Whether the other cell has made its key in this very run; the difference then shows V((generated\)) in its place, as check mode does.
  type: bool
exit:
  description:
    - Whether the link carries traffic to everywhere (C(0.0.0.0/0, ::/0) in AllowedIPs).
    - Left out, it stays as M(pic.cells.pic_policy_route) keeps it, which is so while a device is routed via this cell and the offer stands.
  type: bool
""")

OF_PERMISSIONS = _table(r"""
exit_relay:
  description:
    - Whether the other cell's devices leave by this cell's uplink now, which implies the offer.
    - Left out, they do while the exit is offered and the other cell has asked for it.
  type: bool
""")

ENDPOINT_PORT = _table(r"""
endpoint_port:
  description: The UDP port at this cell's endpoint that the other cell dials, where a router forwards another one to the link's own.
  type: int
""")

DEVICE_STATE = "V(absent) removes the device from the interface and the record."
TUNNEL_STATE = "V(absent) removes the link's interface, file, routes and record. Left out, V(present)."
PERMISSIONS_STATE = "V(absent) removes all rules of this link, its shares and its offer; every other rule stays as it is, to the byte. Left out, V(present)."

GENERATED: Options = {"generated": {**OF_A_TUNNEL["generated"], "default": False}}
OF_A_TUNNEL_IN_A_LIST = {**OF_A_TUNNEL, **GENERATED}
PERMISSIONS = {**LINK, **API_URL, **RIGHTS, **OF_PERMISSIONS}

WHOLE_RUN: Options = {
    **_table(r"""
description:
  - B(Internal, leave it out.) The role C(pic.cells.cell) tells each module with it what all modules of the run are given, so that check mode can predict
    the whole run. In a playbook of your own check mode predicts each module as if it ran alone.
  - In check mode a module counts as done what those before it would do. Their order is M(pic.cells.wg_cell), M(pic.cells.pic_peer_sync),
    M(pic.cells.pic_cell_rules), M(pic.cells.wg_cell_peer), M(pic.cells.pic_policy_route). Outside of check mode only M(pic.cells.pic_cell_info) and
    M(pic.cells.pic_cell_apply) read it.
type: dict
"""),
    "suboptions": {
        "peers": _several({**DEVICE, **state(DEVICE_STATE, default="present")}, description="The devices, as O(pic.cells.wg_cell#module:peers).", default=[]),
        "links": _several(
            {**NAME, **GENERATED, **TUNNEL, **RIGHTS, **OFFERED, **state("V(absent) removes the link.", default="present")},
            description="All that is given of the links.",
            default=[],
        ),
        "exits": _several({**NAME_OF_EXIT, **EXIT}, description="The exits that are no cells. Left out, they stay as they are; an empty list removes them."),
        "routes": _several({**DEVICE_NAME, **ROUTE}, description="The devices' ways, as O(pic.cells.pic_policy_route#module:routes).", default=[]),
        "received": {
            "description": "The payloads of other cells, as O(pic.cells.pic_peer_sync#module:received).",
            "type": "list",
            "elements": "dict",
            "default": [],
        },
        "answers": {"description": "The answers to this cell's own payloads, as O(pic.cells.pic_peer_sync#module:answers).", "type": "dict", "default": {}},
    },
}
