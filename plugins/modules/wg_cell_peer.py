#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: wg_cell_peer
short_description: Link a cell with other cells over WireGuard
description:
  - Gives each linked cell an interface of its own (C(pic-<name>)) with one peer, the cell's own addresses as C(/32) and C(/128), routes to
    the other cell's networks, and an unreachable route behind each of them for when the link is down.
  - A link survives a reboot through the ordinary C(wg-quick@) unit. A change does not restart the interface nor drop its sessions, and no
    other peer or interface is touched.
  - A link whose other side is not known yet (no public key or no networks) is pending, which is no error.
  - Networks that overlap the cell's own, another link's or one of the host's, C(/0), host bits, and keys that are malformed, of low order,
    the cell's own or in use are refused before anything changes, naming both sides.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.run
  - pic.cells.cell.attributes
options:
  peers:
    description: The links, where one call is to serve several. One that is not named stays as it is.
    type: list
    elements: dict
    suboptions:
      name:
        description: The other cell's name.
        type: str
        required: true
      public_key:
        description: The other cell's WireGuard public key. Left out, the record's.
        type: str
      generated:
        description: Whether the other cell has made its key in this very run; the difference then shows V((generated\)) in its place, as check mode does.
        type: bool
        default: false
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
      interface:
        description:
          - The link's interface, beginning with C(pic-). Left out, the record's, or C(pic-<name>), hashed past 15 characters.
          - The devices' interface (O(cell.interface)) is possible for a remote that needs it; there only one link can be an exit.
        type: str
      listen_port:
        description: The link's own UDP port. Left out, the record's, or the next free one from O(cell.link_port_base).
        type: int
      endpoint:
        description:
          - C(host:port) that this cell dials, IPv6 in brackets. It reaches the kernel as well as the file; a live session that has roamed is
            left alone. Left out, the record's; where neither has one, the other side dials.
          - An address within the link's own networks is refused, and a name that does not resolve leaves the link waiting.
        type: str
      keepalive:
        description: Seconds between keepalives, up to 65535, V(0) for none. Left out, the record's, or 25.
        type: int
      mtu:
        description: The link's MTU in bytes, at least 1280 with IPv6 networks, 576 otherwise. Left out, the record's, or what fits the way (at most 1420).
        type: int
      preshared_key:
        description: The preshared key of the link. Left out, the one in the link's file stays.
        type: str
      api_url:
        description: URL of the other cell's peer-sync API inside the tunnel. Left out, built from its address and O(cell.sync_port).
        type: str
      sync_auth:
        description:
          - What tells the other cell's pushes from others'. V(hmac) is a signature by a key that comes from the preshared key.
          - V(address) lets its source address and public key do, where the link has no preshared key. Left out, the record's, or V(hmac).
        type: str
        choices: [hmac, address]
      exit:
        description:
          - Whether the link carries traffic to everywhere (C(0.0.0.0/0, ::/0) in AllowedIPs).
          - Left out, it stays as M(pic.cells.pic_policy_route) keeps it, which is so while a device is routed via this cell and the offer stands.
        type: bool
      state:
        description: V(absent) removes the link's interface, file, routes and record.
        type: str
        choices: [present, absent]
        default: present
  name:
    description: The other cell's name, where one call is to serve one link.
    type: str
  public_key:
    description: The other cell's WireGuard public key. Left out, the record's.
    type: str
  generated:
    description: Whether the other cell has made its key in this very run; the difference then shows V((generated\)) in its place, as check mode does.
    type: bool
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
  interface:
    description:
      - The link's interface, beginning with C(pic-). Left out, the record's, or C(pic-<name>), hashed past 15 characters.
      - The devices' interface (O(cell.interface)) is possible for a remote that needs it; there only one link can be an exit.
    type: str
  listen_port:
    description: The link's own UDP port. Left out, the record's, or the next free one from O(cell.link_port_base).
    type: int
  endpoint:
    description:
      - C(host:port) that this cell dials, IPv6 in brackets. It reaches the kernel as well as the file; a live session that has roamed is
        left alone. Left out, the record's; where neither has one, the other side dials.
      - An address within the link's own networks is refused, and a name that does not resolve leaves the link waiting.
    type: str
  keepalive:
    description: Seconds between keepalives, up to 65535, V(0) for none. Left out, the record's, or 25.
    type: int
  mtu:
    description: The link's MTU in bytes, at least 1280 with IPv6 networks, 576 otherwise. Left out, the record's, or what fits the way (at most 1420).
    type: int
  preshared_key:
    description: The preshared key of the link. Left out, the one in the link's file stays.
    type: str
  api_url:
    description: URL of the other cell's peer-sync API inside the tunnel. Left out, built from its address and O(cell.sync_port).
    type: str
  sync_auth:
    description:
      - What tells the other cell's pushes from others'. V(hmac) is a signature by a key that comes from the preshared key.
      - V(address) lets its source address and public key do, where the link has no preshared key. Left out, the record's, or V(hmac).
    type: str
    choices: [hmac, address]
  exit:
    description:
      - Whether the link carries traffic to everywhere (C(0.0.0.0/0, ::/0) in AllowedIPs).
      - Left out, it stays as M(pic.cells.pic_policy_route) keeps it, which is so while a device is routed via this cell and the offer stands.
    type: bool
  state:
    description: V(absent) removes the link's interface, file, routes and record. Left out, V(present).
    type: str
    choices: [present, absent]

seealso:
  - module: pic.cells.pic_cell_rules
  - module: pic.cells.pic_policy_route
"""

EXAMPLES = r"""
- name: Link this cell with bergen
  pic.cells.wg_cell_peer:
    name: bergen
    public_key: MOPR4gU9VOdsFgbIMAjmn4+4sjOwgg9uOS5OYAOSbF4=
    networks: [10.0.1.0/24, "fd00:b::/64"]
    address: [10.0.1.1, "fd00:b::1"]
    endpoint: 192.0.2.12:51821
  become: true

- name: Remove two links in one call
  pic.cells.wg_cell_peer:
    peers:
      - {name: bergen, state: absent}
      - {name: tromso, state: absent}
  become: true
"""

RETURN = r"""
pending:
  description: The links that wait for their other side to be known.
  returned: success
  type: list
  elements: str
  sample: [tromso]
public_key:
  description: This cell's own public key, for the other side; V((generated\)) in check mode where there is none yet.
  returned: success
  type: str
  sample: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
links:
  description: The interface and the UDP port of each link of the call, by the other cell's name. The other side dials that port.
  returned: success
  type: dict
  sample: {"bergen": {"interface": "pic-bergen", "listen_port": 51821}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.module import CELL_OPTIONS, RUN_OPTIONS, STATE, TUNNEL_OPTIONS, finish, items, one_item, opened, report

LINK = {
    **TUNNEL_OPTIONS,
    "generated": {"type": "bool", "default": False},
    "exit": {"type": "bool"},
    "state": STATE,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL_OPTIONS,
            **RUN_OPTIONS,
            "peers": {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}, **LINK}},
            "name": {"type": "str"},
            **one_item(LINK),
        },
        mutually_exclusive=[("peers", "name")],
        required_one_of=[("peers", "name")],
        supports_check_mode=True,
    )
    with opened(module, "links") as cell:
        plan, facts = cell.plan_links(module.params["cell"], items(module, "peers", LINK))
        finish(module, cell, plan)
        report(module, plan, **facts)


if __name__ == "__main__":
    main()
