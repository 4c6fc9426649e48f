# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules' documentation shares."""

from __future__ import annotations


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
        description:
          - The cell's name; 1 to 32 characters of C(a-z), C(0-9) and C(-), beginning and ending with a letter or digit,
            not V(direct) or V(none).
        type: str
      networks:
        description:
          - Own address and prefix of each network of the cell, for example V(10.0.0.1/24) and V(fd00:a::1/64).
          - A network that overlaps a link's or one of the host's is refused before anything changes.
        type: list
        elements: str
      endpoint:
        description:
          - The name or address that other cells dial, without a port.
        type: str
      interface:
        description:
          - The devices' WireGuard interface. V(wg0) where neither the option nor the record says otherwise.
        type: str
      listen_port:
        description:
          - The UDP port of the devices' interface. Where neither the option nor the record says otherwise, the one that the interface has, or V(51820).
        type: int
      link_port_base:
        description:
          - The UDP port from which links get theirs. V(51821) where neither the option nor the record says otherwise.
        type: int
      services:
        description:
          - The services that can be shared. One that is not named stays as the record has it.
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
        description:
          - The interface by which internet traffic leaves. Derived from the routing table of each family where not given.
        type: str
      admin_networks:
        description:
          - Networks that may reach the cell itself over a link; an empty list lets none in any more.
        type: list
        elements: str
      sync_port:
        description:
          - The TCP port of the peer-sync API inside the tunnel. V(8088) where neither the option nor the record says otherwise.
        type: int
  state_dir:
    description:
      - The folder of the cell's records (C(cell.json), C(cell_links.json), C(peer_registry.json), C(leaving.json)) and of its key.
    type: path
    default: /var/lib/pic
requirements:
  - Python 3.9 or later, C(wg), C(wg-quick), C(ip), C(iptables), C(ip6tables) and C(conntrack) on the cell
notes:
  - One execution serves any number of items; it reads the kernel once and writes in one batch.
  - A missing record, interface, key or program means "not there yet" in check mode, so that C(--check) works before the first run.
"""

    STATE_DIR = r"""
options:
  state_dir:
    description: The folder of the cell's records.
    type: path
    default: /var/lib/pic
"""

    RUN = r"""
options:
  run:
    description:
      - What the modules of a run are given, in which this one has its place. Their order is M(pic.cells.wg_cell), M(pic.cells.pic_peer_sync) (which tells,
        hears and notes), M(pic.cells.pic_cell_rules), M(pic.cells.wg_cell_peer), M(pic.cells.pic_policy_route).
      - Check mode takes for done what the modules before this one do with it, since none of them has done it then, and so predicts what is left to be
        done here. Outside of check mode only M(pic.cells.pic_cell_info) looks at it.
      - The role C(pic.cells.cell) gives it to every module. Without it check mode predicts a module that runs alone.
    type: dict
    suboptions:
      peers:
        description: The devices, as O(pic.cells.wg_cell#module:peers).
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The device's name.
            type: str
            required: true
          public_key:
            description: The device's WireGuard public key.
            type: str
          preshared_key:
            description: The device's preshared key.
            type: str
          addresses:
            description: The device's own addresses.
            type: list
            elements: str
          networks:
            description: The networks behind the device.
            type: list
            elements: str
          route_via:
            description: The exit cell, or V(direct).
            type: str
          state:
            description: Whether the device is there.
            type: str
            choices: [present, absent]
            default: present
      links:
        description: All that is given of the links.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The other cell's name.
            type: str
            required: true
          public_key:
            description: The other cell's WireGuard public key.
            type: str
          networks:
            description: The other cell's networks.
            type: list
            elements: str
          allow_public_networks:
            description: Whether its networks may be others than private and unique local ones.
            type: bool
          address:
            description: The other cell's own addresses inside the tunnel.
            type: list
            elements: str
          interface:
            description: The link's interface.
            type: str
          listen_port:
            description: The link's UDP port.
            type: int
          endpoint:
            description: C(host:port) that this cell dials.
            type: str
          keepalive:
            description: Seconds between keepalives.
            type: int
          mtu:
            description: The link's MTU in bytes.
            type: int
          preshared_key:
            description: The preshared key of the link.
            type: str
          api_url:
            description: URL of the other cell's peer-sync API.
            type: str
          sync_auth:
            description: What tells the other cell's pushes from others'.
            type: str
            choices: [hmac, address]
          share:
            description: The services that the other cell's devices may reach.
            type: list
            elements: str
          offer_exit:
            description: Whether the other cell may use this one as its exit.
            type: bool
          offered:
            description: Whether the other cell offers this one an exit.
            type: bool
          state:
            description: Whether the link is there.
            type: str
            choices: [present, absent]
            default: present
      routes:
        description: The devices' ways, as O(pic.cells.pic_policy_route#module:routes).
        type: list
        elements: dict
        default: []
        suboptions:
          peer:
            description: The device's name.
            type: str
            required: true
          via_cell:
            description: The exit cell, or V(direct).
            type: str
      received:
        description: The payloads of other cells, as O(pic.cells.pic_peer_sync#module:received).
        type: list
        elements: dict
        default: []
      answers:
        description: The answers to this cell's own payloads, as O(pic.cells.pic_peer_sync#module:answers).
        type: dict
        default: {}
"""

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
