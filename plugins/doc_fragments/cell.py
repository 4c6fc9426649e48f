# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules' documentation shares. Each option has its text in plugin_utils/documented.py."""

from __future__ import annotations

from ansible_collections.pic.cells.plugins.plugin_utils.documented import (
    ADDRESSES,
    DEVICE,
    DEVICE_NAME,
    DEVICE_STATE,
    ENDPOINT_PORT,
    LINK,
    NAME,
    OF_A_TUNNEL,
    OF_A_TUNNEL_IN_A_LIST,
    OFFERED,
    PERMISSIONS,
    PERMISSIONS_STATE,
    PORT,
    RIGHTS,
    ROUTE,
    TUNNEL,
    TUNNEL_STATE,
    WHOLE_RUN,
    fragment,
    state,
)


class ModuleDocFragment:
    """Options and attributes of every module that works on a cell."""

    DOCUMENTATION = r"""
options:
  cell:
    description:
      - What this cell is. What is left out, or is an empty text, comes from the cell's record.
      - The role C(pic.cells.cell) gives it to every module.
    type: dict
    suboptions:
      name:
        description: The cell's name; 1 to 32 characters of C(a-z), C(0-9) and C(-), a letter or digit at both ends, not V(direct) or V(none).
        type: str
      networks:
        description:
          - Own address and prefix of each network, for example V(10.0.0.1/24). One that overlaps a link's or one of the host's is refused.
        type: list
        elements: str
      endpoint:
        description: The name or address that other cells dial, without a port.
        type: str
      interface:
        description: The devices' WireGuard interface. V(wg0) where neither the option nor the record says otherwise.
        type: str
      listen_port:
        description: The UDP port of the devices' interface. Where neither the option nor the record says otherwise, the interface's own, or V(51820).
        type: int
      link_port_base:
        description: The UDP port from which links get theirs. V(51821) where neither the option nor the record says otherwise.
        type: int
      services:
        description: The services that can be shared. One that is not named stays as the record has it.
        type: list
        elements: dict
        suboptions:
          name:
            description: The service's name; the rule for cell names applies.
            type: str
            required: true
          address:
            description: The address or addresses (IPv4 and IPv6) that it is reached at, before any DNAT.
            type: list
            elements: str
          port:
            description: Its port, 1 to 65535.
            type: int
          protocol:
            description: Its protocol. V(tcp) where neither the option nor the record says otherwise.
            type: str
            choices: [tcp, udp]
          state:
            description: V(absent) removes the service, and with it every share of it.
            type: str
            choices: [present, absent]
            default: present
      uplink:
        description: The interface by which internet traffic leaves. Derived from the routing table of each family where not given.
        type: str
      admin_networks:
        description: Networks that may reach the cell itself over a link; an empty list lets none in any more.
        type: list
        elements: str
      endpoint_ports: {description: "By the other cell's name the UDP port that a router forwards to the link's own. Left out, as it was.", type: dict}
      in_run: {description: "The linked cells that the same run tells by Ansible where this one is dialled.", type: list, elements: str}
      sync_port:
        description: The TCP port of the peer-sync API inside the tunnel. V(8088) where neither the option nor the record says otherwise.
        type: int
      exit_failures:
        description: Failures in a row, one a second, after which an exit counts as down, 1 to 60. The default is the record's, or V(3).
        type: int
      exit_hold:
        description: Seconds that an exit has to work until it is used again, 1 to 86400. The default is the record's, or V(60).
        type: int
      exit_switches:
        description: Times to go down in 10 minutes that double O(cell.exit_hold), 1 to 60. The default is the record's, or V(3).
        type: int
      exit_hold_limit:
        description: Seconds up to which O(cell.exit_hold) is doubled, 1 to 86400. The default is the record's, or V(600).
        type: int
      exit_probes:
        description: Targets that are asked through each exit, 8 at most, like V(tcp://192.0.2.1:443) or V(dns://192.0.2.1). An empty list asks none.
        type: list
        elements: str
      whoami:
        description: URLs like V(http://192.0.2.1/) that say by which address exits leave, one of each family at most. An empty list asks nobody.
        type: list
        elements: str
      expect:
        description:
          - What the cell is expected to let through and to refuse, as C(cell_expect) of the role. M(pic.cells.pic_cell_info) judges it by C(run), or by the
            kernel; the other modules keep it in the record. An empty list expects nothing.
        type: list
        elements: dict
        suboptions:
          from:
            description: A device of the cell, or a linked cell with its devices.
            type: str
            required: true
          to:
            description:
              - V(internet), V(lan), a service like V(files@cellb), a linked cell, or a port at an address like V(tcp://192.168.1.2:443).
            type: str
            required: true
          is:
            description: Whether this cell is to let its packets through. The default is V(allowed).
            type: str
            choices: [allowed, refused]
          via:
            description: The exit by which they are to leave, V(direct) for the cell's own uplink. The default is any.
            type: str
      exit_dns:
        description:
          - Resolvers that answer what routed devices ask private addresses, one public address of each family at most; V(own) alone for none.
          - V(exit) alone for the resolver that the exit in use has named, if it has.
        type: list
        elements: str
      resolver:
        description: The resolver of this cell, one address of each family at most, within O(cell.networks). It is open to linked cells that use the exit.
        type: list
        elements: str
requirements:
  - Python 3.9 or later, C(wg), C(wg-quick), C(ip), C(iptables), C(ip6tables) and C(conntrack) on the cell
notes:
  - One execution serves any number of items; it reads the kernel once and writes in one batch.
  - A missing record, interface, key or program means "not there yet" in check mode, so that C(--check) works before the first run.
"""

    STATE_DIR = r"""
options:
  state_dir:
    description: The folder of the cell's records (C(cell.json), C(cell_links.json), C(peer_registry.json), C(leaving.json)) and of its key.
    type: path
    default: /var/lib/pic
"""

    # Each of these lists is described by its module, and has its suboptions here.
    # The annotations are for ansible-test: its yamllint reads a plain assignment here as a literal text, and ends with a traceback where it is none.
    DEVICES: str = fragment({"peers": {"suboptions": {**DEVICE, **state(DEVICE_STATE, default="present")}}})
    PORTS: str = fragment({"links": {"suboptions": {**NAME, **PORT, **state("V(absent) gives this link no port.", default="present")}}})
    TUNNELS: str = fragment(
        {
            "peers": {"suboptions": {**NAME, **TUNNEL, **OF_A_TUNNEL_IN_A_LIST, **state(TUNNEL_STATE, default="present")}},
            **TUNNEL,
            **OF_A_TUNNEL,
            **state(TUNNEL_STATE),
        }
    )
    RULES: str = fragment(
        {
            "cells": {"suboptions": {**NAME, **PERMISSIONS, **state(PERMISSIONS_STATE, default="present")}},
            **PERMISSIONS,
            **state(PERMISSIONS_STATE),
        }
    )
    MESSAGES: str = fragment(
        {
            "cells": {"suboptions": {**NAME, **LINK, **RIGHTS, **OFFERED, **state("V(absent) tells that cell nothing.", default="present")}},
            "routes": {"suboptions": {**DEVICE_NAME, **ROUTE}},
        }
    )
    ROUTES: str = fragment({"routes": {"suboptions": {**DEVICE_NAME, **ADDRESSES, **ROUTE}}, **ADDRESSES, **ROUTE})

    RUN: str = fragment({"run": WHOLE_RUN})

    ENDPOINT_PORT: str = fragment(ENDPOINT_PORT)

    ATTRIBUTES = r"""
attributes:
  check_mode:
    support: full
    description: Can predict what it would change without changing it.
  diff_mode:
    support: full
    description: Returns what differs between before and after, in words and without secrets.
  idempotent:
    support: full
    description: A second run changes nothing and issues no writing command.
  platform:
    support: full
    platforms: linux
    description: The systems that it works on.
"""

    INFO_ATTRIBUTES = r"""
attributes:
  check_mode:
    support: full
    description: Only reads, in check mode as well.
  diff_mode:
    support: N/A
    description: Changes nothing, so there is nothing to show.
  platform:
    support: full
    platforms: linux
    description: The systems that it works on.
"""
