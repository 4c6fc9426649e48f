#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_info
short_description: Read back a cell
description:
  - Returns what a cell is and does; its identity, links with handshakes and counters, devices, rules, policy routing and records, and where the kernel
    differs from the records (drift). Returns no private and no preshared key.
  - With O(run), says instead what the modules of that run would refuse, so that it can be ended before any of them changes anything, and which of them
    would have something to do, so that the others need not be executed.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.state_dir
  - pic.cells.cell.run
  - pic.cells.cell.info_attributes
options:
  prove:
    description:
      - Whether to ask the exits that devices get in O(run), where these are not those that they have, if they carry traffic, as M(pic.cells.pic_cell_prove)
        does. An exit that is not offered yet, or that nobody can judge, is no reason for anything.
      - With V(refuse), it is one of RV(refusals) where none of a device's exits does, and a warning for each that does not where others do or V(direct) is the
        last. With V(warn), it is a warning for each. Left out, nobody is asked.
    type: str
    choices: [refuse, warn]
"""

EXAMPLES = r"""
- name: Read the cell
  pic.cells.pic_cell_info:
  become: true
  register: cell

- name: Show what differs from the records
  ansible.builtin.debug:
    var: cell.drift
"""

RETURN = r"""
name:
  description: The cell's name in its record, empty where it has none.
  returned: success
  type: str
  sample: oslo
public_key:
  description: The cell's public key, V(none) where it has none.
  returned: success
  type: str
  sample: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
networks:
  description: Own address and prefix of each of the cell's networks.
  returned: success
  type: list
  elements: str
  sample: [10.0.0.1/24, "fd00:a::1/64"]
read_at:
  description: When the cell was read, in seconds since the epoch by its own clock, which handshakes go by.
  returned: success
  type: int
  sample: 1768464030
links:
  description: The links, each under the other cell's name. What is not set is V(none).
  returned: success
  type: dict
  contains:
    other_cell:
      description: A link; the key is the other cell's name.
      type: dict
      contains:
        name: {description: "The other cell's name.", type: str}
        public_key: {description: "The other cell's public key.", type: str}
        networks:
          description: The other cell's networks.
          type: list
          elements: str
        allow_public_networks:
          description: Whether these may be others than private and unique local ones.
          type: bool
        address:
          description: The other cell's own addresses inside the tunnel.
          type: list
          elements: str
        interface: {description: "The link's interface.", type: str}
        listen_port: {description: "The link's own UDP port.", type: int}
        endpoint:
          description: C(host:port) that this cell dials.
          type: str
        keepalive:
          description: Seconds between keepalives; V(none) stands for 10, for a provider 25.
          type: int
        mtu:
          description: The stated MTU; V(none) stands for what fits the way.
          type: int
        last_handshake: {description: "Seconds since the epoch, 0 for never.", type: int}
        received: {description: Bytes received since the interface was started., type: int}
        sent: {description: Bytes sent since then., type: int}
        permissions:
          description: C(inbound), what this cell shares with the other, C(outbound), what the other says it shares; services by name, each V(true) or V(false).
          type: dict
        exit_offered: {description: "Whether this cell offers the other one an exit now.", type: bool}
        exit_offered_until:
          description: When that offer ends, or has ended by itself, in UTC; null where no end was stated.
          type: str
        exit_offered_rate:
          description: The most that the link sends, and receives, while it stands, like V(20mbit); null where no rate was stated.
          type: str
        remote_exit_offered: {description: "Whether the other cell offers this one an exit.", type: bool}
        remote_resolvers:
          description: The resolver that it has said to have for devices that use this exit, by its last offer.
          type: list
          elements: str
        exit_relay_active:
          description: Whether devices of this cell leave by the other one.
          type: bool
        remote_exit_relay_active:
          description: Whether the other cell wants to use this one as exit.
          type: bool
        exit_table:
          description: The routing table of this exit.
          type: int
        given_addresses:
          description: This cell's addresses in the tunnel of a provider (C(cell_exits)), else empty.
          type: list
          elements: str
        given_resolvers:
          description: The resolvers that a provider has there.
          type: list
          elements: str
        invited_until: {description: "Until when the other owner can redeem the invitation; null where they have, or where there is none.", type: str}
        forwarded: {description: "The port that it dials where a router forwards another one to the link's own, else null.", type: int}
        moved: {description: "Where the other cell has to dial this one, and does not know yet; else null.", type: str}
        known_as: {description: "This cell's addresses by which it may still know it, as it has not taken over others yet.", type: list, elements: str}
        told: {description: "The count of what this cell has announced of itself to it; 0 for nothing yet.", type: int}
        accept_networks: {description: "Networks that are set aside for it to take by itself.", type: list, elements: str}
        asked_networks: {description: "Networks that it asks to have, and this cell's owner has not agreed to.", type: list, elements: str}
        asked_address: {description: "Its own addresses in these.", type: list, elements: str}
        heard: {description: "The count and a hash of the last C(endpoint) and the last C(networks) that it has announced.", type: dict}
        judged_place: {description: "The same as C(judged_claim), of the last networks that it has announced.", type: list, elements: str}
        judged_claim:
          description: What was last judged of what the other cell claims of itself, and why it was refused; an empty text where it was taken over.
          type: list
          elements: str
        refused_claim: {description: "What was refused after that had been taken over, and why; else empty.", type: list, elements: str}
        pending_push:
          description: Whether the other cell has not been told the latest.
          type: bool
        last_push_at: {description: "When it was told last, in UTC.", type: str}
        last_push_status:
          description: How that was answered, as in HTTP; 200 for taken over.
          type: int
        last_push_error:
          description: Why it has not been told the latest.
          type: str
        last_remote_update_at:
          description: When the other cell was heard last, in UTC.
          type: str
        generation: {description: The number of the last message to the other cell., type: int}
        remote_generation: {description: The number of the last message from it., type: int}
        minted: {description: A hash of the last message to the other cell., type: str}
        remote_api_url:
          description: Where the other cell is told, inside the tunnel.
          type: str
        sync_auth:
          description: How messages are known to be the other cell's, V(hmac) or V(address).
          type: str
        preshared_key_id:
          description: A fingerprint of the preshared key, which is the same on both cells.
          type: str
        ruled:
          description: Whether the link has rules; V(false) for the moments of an unlink.
          type: bool
  sample:
    bergen:
      name: bergen
      endpoint: 192.0.2.12:51821
      networks: [10.0.1.0/24, "fd00:b::/64"]
      permissions: {"inbound": {"files": true}, "outbound": {}}
      remote_exit_offered: true
peers:
  description: The devices, each under its name.
  returned: success
  type: dict
  contains:
    device:
      description: A device; the key is its name.
      type: dict
      contains:
        name:
          description: The device's name.
          type: str
        public_key:
          description: The device's public key.
          type: str
        addresses:
          description: Its own addresses.
          type: list
          elements: str
        networks:
          description: The networks behind it.
          type: list
          elements: str
        route_via:
          description: The exit that is recorded for it, a list (best first) where it has several, V(none) for direct.
          type: raw
        route_except:
          description: The networks that it reaches another way, and for each V(direct) or the cell by which it does.
          type: dict
        exit_dns:
          description: Who answers what it asks private addresses while it leaves by another cell; empty where that is as for all devices of the cell.
          type: list
          elements: str
        exit:
          description: The cell among them by which it leaves now, V(none) for directly. Where none offers an exit, the first, which is closed.
          type: str
        exit_effective:
          description: Whether that cell offers its exit now, so that the device has internet through it.
          type: bool
        dns_by_uplink:
          description: V(IPv4) and V(IPv6), as far as its DNS leaves by this cell's own connection since the exit, which is stated to answer, has no resolver.
          type: list
          elements: str
        last_handshake: {description: "Seconds since the epoch, 0 for never.", type: int}
        received: {description: Bytes received since the interface was started., type: int}
        sent: {description: Bytes sent since then., type: int}
  sample:
    phone:
      name: phone
      public_key: MOPR4gU9VOdsFgbIMAjmn4+4sjOwgg9uOS5OYAOSbF4=
      addresses: [10.0.0.2, "fd00:a::2"]
      route_via: bergen
      exit: bergen
      exit_effective: true
      last_handshake: 1768464000
exits:
  description: The cells that devices have as exits.
  returned: success
  type: dict
  contains:
    exit_cell:
      description: One of them; the key is the cell's name.
      type: dict
      contains:
        usable:
          description: Whether it is linked and offers its exit now.
          type: bool
        down:
          description:
            - What was found of an exit that does not work, V(none) where it works. Only exits of devices with several are watched. C(words) is a sentence.
            - C(since) and C(answers), since when it works again, are times in UTC. C(why) is V(silent) for the tunnel, V(offline) for a cell without internet.
          type: dict
  sample:
    bergen: {usable: true, down: {since: "2026-11-29T12:03:11Z", why: silent, answers: null, words: bergen has not answered through its tunnel since …}}
rules:
  description: Our rules as iptables prints them, a list for each table, in C(ipv4) and C(ipv6).
  returned: success
  type: dict
  sample: {"ipv4": {"filter": ["PIC-IN -p udp -m udp --dport 51820 -m comment --comment \"pic-cells 583b5fbbbd\" -j ACCEPT"]}, "ipv6": {}}
policy_rules:
  description: Our policy rules as ip takes them, in C(ipv4) and C(ipv6).
  returned: success
  type: dict
  sample: {"ipv4": ["from 10.0.0.2 lookup 4200 pref 4001 protocol 201"], "ipv6": []}
routes:
  description: Our routes as ip takes them, in C(ipv4) and C(ipv6).
  returned: success
  type: dict
  sample: {"ipv4": ["default dev pic-bergen table 4200 protocol 201"], "ipv6": []}
drift:
  description: What the next run would change because the kernel differs from the records, a line each. Empty where all is right, or where O(run) is given.
  returned: success
  type: list
  elements: str
  sample: ["missing: pic-bergen: up, port 51821"]
expectations:
  description: What O(cell.expect) states, and whether it holds on the kernel. Empty where nothing is expected, or where O(run) is given.
  returned: success
  type: list
  elements: dict
  contains:
    line: {description: "What is expected, in words.", type: str}
    why: {description: Why it does not hold; empty where it does., type: str, sample: ""}
refusals:
  description: What the modules of O(run) would refuse, and what O(cell.expect) states and would not hold after it, in sentences; empty where nothing.
  returned: success
  type: list
  elements: str
  sample: []
advice:
  description:
    - What on this host may keep the cell from working though all that is its own is as it should be, in sentences that name the thing and what to do.
    - Each of them is also a warning. Empty where nothing is known, and where the host is no cell.
  returned: success
  type: list
  elements: str
  sample: []
due:
  description:
    - The steps of O(run) that would change something, or warn; C(identity) (M(pic.cells.wg_cell)), C(tell), C(hear) and C(note)
      (M(pic.cells.pic_peer_sync)), C(rules), C(links), C(routes), C(agent). Empty where O(run) is not given or refused.
    - What another cell says only in the run itself is not known yet, and taken for what the record has.
  returned: success
  type: list
  elements: str
  sample: []
payloads:
  description: What each linked cell is to be told in O(run), by its name, as RV(pic.cells.pic_peer_sync#module:payloads). Empty without O(run).
  returned: success
  type: dict
  sample: {}
taken_keys:
  description: The public keys of peers of WireGuard interfaces that are not the cell's; no link and no device can have one of them.
  returned: success
  type: list
  elements: str
  sample: []
advertised:
  description: The devices whose IPv6 default route comes from router advertisements that the kernel ignores once it forwards (C(accept_ra) is 1).
  returned: success
  type: list
  elements: str
  sample: [eth0]
unforwarded:
  description: The kernel settings for forwarding (C(sysctl)) that are not 1, or that C(/etc/sysctl.d/90-pic-cells.conf) does not keep.
  returned: success
  type: list
  elements: str
  sample: [net.ipv4.ip_forward]
missing:
  description: The packages of the programs that are not installed, by the names of the host's system.
  returned: success
  type: list
  elements: str
  sample: [conntrack]
missing_programs:
  description: The programs that are not installed.
  returned: success
  type: list
  elements: str
  sample: [conntrack]
unpackaged:
  description: Those of them whose package is not known for the host's system.
  returned: success
  type: list
  elements: str
  sample: []
unlisted:
  description: Whether a program is missing and the package manager has no list of packages yet, and fetches none by itself (apt, pacman, apk).
  returned: success
  type: bool
  sample: false
system:
  description: What the host's system calls itself.
  returned: success
  type: str
  sample: Debian GNU/Linux 12 (bookworm)
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.compiled import take

take()

from ..module_utils.steps.read import ARGUMENTS, run


def main() -> None:
    run(AnsibleModule(**ARGUMENTS))


if __name__ == "__main__":
    main()
