# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of wg-quick in the shape that people and their tools leave them in, each with the devices alice and bob."""

from __future__ import annotations

from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import device_key

OWN = made_key("an older key")
ALICE, BOB = device_key("alice"), device_key("bob")
SECRET = {name: made_key(f"{name}'s preshared key") for name in ("alice", "bob")}
PORT = 58213

PLAIN = f"""\
# somebody's own
[Interface] # at home
PrivateKey = {OWN}
\tListenPort\t=\t{PORT}   # forwarded by the router
address = 10.0.0.1/24
Address = fd00:a::1/64, fe80::1/64
DNS = 10.0.0.1
FwMark = 0x1234
PreUp = logger up # that much
PostUp = iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -j MASQUERADE; logger 'a b' # twice
PostDown = iptables -t nat -D POSTROUTING -s 10.0.0.0/24 -j MASQUERADE

# alice, who is often away
[Peer]
# her telephone
publickey={ALICE}
PresharedKey={SECRET["alice"]} # of May
allowedips=10.0.0.2/32 # IPv4

AllowedIPs = fd00:a::2/128\t# IPv6
# the end of alice

[Peer] # bob
PublicKey = {BOB}
AllowedIPs = 10.0.0.3
PersistentKeepalive = 25
# the last word"""

ANGRISTAN = f"""\
[Interface]
Address = 10.0.0.1/24,fd00:a::1/64
ListenPort = {PORT}
PrivateKey = {OWN}
PostUp = iptables -I INPUT -p udp --dport {PORT} -j ACCEPT
PostUp = iptables -I FORWARD -i wg0 -j ACCEPT
PostDown = iptables -D INPUT -p udp --dport {PORT} -j ACCEPT
PostDown = iptables -D FORWARD -i wg0 -j ACCEPT

### Client alice
[Peer]
PublicKey = {ALICE}
PresharedKey = {SECRET["alice"]}
AllowedIPs = 10.0.0.2/32,fd00:a::2/128

### Client bob
[Peer]
PublicKey = {BOB}
PresharedKey = {SECRET["bob"]}
AllowedIPs = 10.0.0.3/32,fd00:a::3/128
"""

NYR = f"""\
# Do not touch the lines that are commented out
# ENDPOINT vpn.example.net

[Interface]
Address = 10.0.0.1/24, fd00:a::1/64
PrivateKey = {OWN}
ListenPort = {PORT}

# BEGIN_PEER alice
[Peer]
PublicKey = {ALICE}
PresharedKey = {SECRET["alice"]}
AllowedIPs = 10.0.0.2/32, fd00:a::2/128
# END_PEER alice
# BEGIN_PEER bob
[Peer]
PublicKey = {BOB}
PresharedKey = {SECRET["bob"]}
AllowedIPs = 10.0.0.3/32, fd00:a::3/128
# END_PEER bob
"""

PIVPN = f"""\
[Interface]
PrivateKey = {OWN}
Address = 10.0.0.1/24,fd00:a::1/64
MTU = 1420
ListenPort = {PORT}
### begin alice ###
[Peer]
PublicKey = {ALICE}
PresharedKey = {SECRET["alice"]}
AllowedIPs = 10.0.0.2/32,fd00:a::2/128
### end alice ###
### begin bob ###
[Peer]
PublicKey = {BOB}
PresharedKey = {SECRET["bob"]}
AllowedIPs = 10.0.0.3/32,fd00:a::3/128
### end bob ###
"""

ALGO = f"""\
[Interface]
Address = 10.0.0.1/24,fd00:a::1/64
ListenPort = {PORT}
PrivateKey = {OWN}
SaveConfig = false

[Peer]
# alice
PublicKey = {ALICE}
PresharedKey = {SECRET["alice"]}
AllowedIPs = 10.0.0.2/32,fd00:a::2/128
[Peer]
# bob
PublicKey = {BOB}
PresharedKey = {SECRET["bob"]}
AllowedIPs = 10.0.0.3/32,fd00:a::3/128
"""

WG_EASY = f"""\

# Server, written by a program: changes are lost
[Interface]
PrivateKey = {OWN}
Address = 10.0.0.1/24, fd00:a::1/64
ListenPort = {PORT}
PreUp =
PostUp = iptables -A FORWARD -i wg0 -j ACCEPT; iptables -A FORWARD -o wg0 -j ACCEPT;
PreDown =
PostDown = iptables -D FORWARD -i wg0 -j ACCEPT; iptables -D FORWARD -o wg0 -j ACCEPT;


# Client: alice (6f9619ff)
[Peer]
PublicKey = {ALICE}
PresharedKey = {SECRET["alice"]}
AllowedIPs = 10.0.0.2/32, fd00:a::2/128


# Client: bob (d00a27bc)
[Peer]
PublicKey = {BOB}
PresharedKey = {SECRET["bob"]}
AllowedIPs = 10.0.0.3/32
"""

WIREGUARD_UI = f"""\
# Made by a program with a page; last saved in May

[Interface]
Address = 10.0.0.1/24,fd00:a::1/64
ListenPort = {PORT}
PrivateKey = {OWN}
MTU = 1450
PostUp =
PreDown =
PostDown =
Table = auto


# ID:           c4f7
# Name:         alice
# Update at:    2023-05-02 10:11:12 +0000 UTC

[Peer]
PublicKey = {ALICE}
PresharedKey = {SECRET["alice"]}
AllowedIPs = 10.0.0.2/32,fd00:a::2/128


# ID:           c4f8
# Name:         bob
[Peer]
PublicKey = {BOB}
PresharedKey = {SECRET["bob"]}
AllowedIPs = 10.0.0.3/32

"""

FILES = {
    "plain": PLAIN,
    "angristan": ANGRISTAN,
    "Nyr": NYR,
    "PiVPN": PIVPN,
    "Algo": ALGO,
    "wg-easy": WG_EASY,
    "wireguard-ui": WIREGUARD_UI,
}
FILES["made on Windows"] = PIVPN.replace("\n", "\r\n")
FILES["without the last newline"] = NYR.rstrip("\n")
FILES["other ends of lines in a comment"] = ANGRISTAN.replace("### Client bob", "# a\x0cb\u2028[Peer]\x85PublicKey = no\n### Client bob")
