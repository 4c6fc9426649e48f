# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random changes of an inventory, for the fake hosts and for the lab."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Collection
from typing import Any

from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import device_key

Inventory = dict[str, dict[str, Any]]
OUTSIDE = ("cellx", "celly")
SERVICES = ("files", "voice", "web")
ENDS = ("2099-12-31T00:00:00Z", "2025-12-31T00:00:00Z")  # of offers: to come, and past
RATES = ("20mbit", "2gbit")  # of offers
DEVICES = ("phone", "tablet", "laptop", "pad", "tv")


def outside(name: str) -> dict[str, Any]:
    """Return what an inventory states of a cell that is not in it."""
    number = 20 + OUTSIDE.index(name)
    return {
        "public_key": made_key(name),
        "networks": [f"10.{number}.0.0/24"],
        "address": f"10.{number}.0.1",
        "endpoint": f"192.0.2.{number}:51820",
        "api_url": f"http://10.{number}.0.1:80{number}",
    }


def provider(name: str) -> str:
    """Return a provider's file."""
    number = len(name) + ord(name[-1])
    return (
        f"[Interface]\nPrivateKey = {made_key(f'customer of {name}')}\nAddress = 10.99.0.{number}/32, fc00:99::{number}/128\n"
        f"[Peer]\nPublicKey = {made_key(name)}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.{number}:51820\n"
    )


class Change:
    """One random change of an inventory, made of one or more edits; a cell's networks take its devices and services along."""

    def __init__(self, dice: random.Random, inventory: Inventory, without: Collection[str] = ()) -> None:
        """dice: what all that is random comes from. inventory: is changed. without: edits that are not made."""
        self.dice, self.inventory = dice, inventory
        self.words: list[str] = []
        edits = [edit for name, edit in sorted(vars(Change).items()) if name.startswith("edit_") and name not in without]
        for _number in range(dice.choice((1, 1, 1, 2, 3, 5))):
            self.host = dice.choice(sorted(inventory))
            self.cell = inventory[self.host]
            edit: Callable[[Change], str | None] = dice.choice(edits)
            said = edit(self)
            if said:
                self.words.append(f"{self.host}: {said}")

    def items(self, variable: str) -> list[dict[str, Any]]:
        """Return the list in a variable of the host."""
        items: list[dict[str, Any]] = self.cell.setdefault(f"cell_{variable}", [])
        return items

    def one(self, variable: str) -> dict[str, Any]:
        """Return one item of a list, an empty one where there is none."""
        return self.dice.choice(self.items(variable) or [{}])

    def address(self, network: str) -> str:
        """Return some address in a network of the cell."""
        return str(ipaddress.ip_interface(network).network[self.dice.randrange(2, 40)])

    def state(self, item: dict[str, Any], key: str, *values: Any) -> str:
        """State one of some values, or say nothing any more."""
        value = self.dice.choice((*values, None))
        if value is None:
            item.pop(key, None)
        else:
            item[key] = value
        return f"{item.get('name', '')} {key} {value}"

    # Services

    def edit_service(self) -> str:
        """Add a service, or move one."""
        name = self.dice.choice(SERVICES)
        networks = self.dice.sample(self.cell["cell_networks"], self.dice.randint(1, len(self.cell["cell_networks"])))
        addresses = [self.address(n) if self.dice.random() < 0.3 else n.split("/", maxsplit=1)[0] for n in networks]
        service = {"name": name, "address": addresses, "port": self.dice.randint(1, 9) * 100, "protocol": self.dice.choice(("tcp", "udp"))}
        self.cell["cell_services"] = [s for s in self.items("services") if s["name"] != name] + [service]
        return f"service {service}"

    def edit_service_gone(self) -> str:
        """Remove a service with its shares."""
        service = self.one("services")
        for link in self.items("links"):
            if service.get("name") in (link.get("share") or ()):
                link["share"] = [name for name in link["share"] if name != service["name"]]
        return self.state(service, "state", "absent")

    def edit_share(self) -> str:
        """Share other services, or say nothing of it."""
        return self.state(self.one("links"), "share", [], [s["name"] for s in self.items("services") if self.dice.random() < 0.5 and "state" not in s])

    # Devices

    def edit_device(self) -> str:
        """Add a device, or change its key and addresses."""
        name = self.dice.choice(DEVICES)
        networks = self.dice.sample(self.cell["cell_networks"], self.dice.randint(1, len(self.cell["cell_networks"])))
        device = next((d for d in self.items("peers") if d["name"] == name), {"name": name})
        device.update(public_key=device_key(f"{name} {self.host} {self.dice.randint(1, 2)}"), addresses=[self.address(n) for n in networks])
        self.cell["cell_peers"] = [d for d in self.items("peers") if d["name"] != name] + [device]
        return f"device {device}"

    def edit_device_gone(self) -> str:
        """Remove a device, or let it come back."""
        return self.state(self.one("peers"), "state", "absent", "present")

    def edit_device_key(self) -> str:
        """Give a device a preshared key, or say nothing of it."""
        return self.state(self.one("peers"), "preshared_key", made_key("a device's"), made_key("another"))

    def edit_device_networks(self) -> str:
        """Put networks behind a device, take them away, or say nothing of them any more."""
        return self.state(self.one("peers"), "networks", [], [f"192.168.{self.dice.randint(50, 53)}.0/24"], ["192.168.54.0/23", "fd77::/64"])

    def edit_route(self) -> str:
        """Send a device elsewhere, or say nothing of it."""
        others = [name for name in self.inventory if name != self.host]
        several = [self.dice.sample(others, len(others)), [*self.dice.sample(others, 1), "direct"]]
        return self.state(self.one("peers"), "route_via", "direct", *others, *others, *several)

    def edit_exceptions(self) -> str:
        """Let a device reach some networks another way."""
        ways = ["direct", *(name for name in self.inventory if name != self.host)]
        networks = (["203.0.113.0/24"], ["203.0.113.128/25", "2001:db8:5::/48"])
        exceptions = [[{"to": to, "via": self.dice.choice(ways)} for to in self.dice.sample(networks, number)] for number in (0, 1, 2)]
        return self.state(self.one("peers"), "route_except", *exceptions)

    def edit_device_dns(self) -> str:
        """Let others answer a device by DNS than its cell says, or those."""
        return self.state(self.one("peers"), "exit_dns", "own", "exit", ["9.9.9.9"], ["149.112.112.112", "2620:fe::9"])

    # Links

    def edit_link(self) -> str:
        """Link with another cell, also of somebody else, or one of which nothing is known."""
        name = self.dice.choice([name for name in (*self.inventory, *OUTSIDE, "nobody") if name != self.host])
        if any(link["name"] == name for link in self.items("links")):
            return ""
        self.items("links").append({"name": name, **(outside(name) if name in OUTSIDE else {})})
        return f"link {name}"

    def edit_link_gone(self) -> str:
        """Remove a link, or let it come back."""
        return self.state(self.one("links"), "state", "absent", "present")

    def edit_offer(self) -> str:
        """Offer an exit, for ever or until an end that will come or has come, with a rate or not, withdraw it, or say nothing of it."""
        return self.state(
            self.one("links"),
            "offer_exit",
            True,
            *({"until": end} for end in ENDS),
            *({"rate": rate} for rate in RATES),
            {"until": ENDS[0], "rate": RATES[0]},
            False,
        )

    def edit_link_interface(self) -> str:
        """Move a link to another interface."""
        link = self.one("links")
        return self.state(link, "interface", "wg0", "pic-other", f"pic-{self.dice.randint(1, 3)}")

    def edit_link_settings(self) -> str:
        """Change numbers and keys of a link."""
        settings = {
            "listen_port": [51821, 51822, 51999, 52000],
            "mtu": [1280, 1380],
            "keepalive": [0, 10],
            "preshared_key": [made_key("a link's"), made_key("another link's")],
        }
        key = self.dice.choice(sorted(settings))
        return self.state(self.one("links"), key, *settings[key])

    # The cell

    def edit_endpoint(self) -> str:
        """Let others dial another address, or none."""
        return self.state(self.cell, "cell_endpoint", f"{self.host}.example.net", "nowhere.example.net", f"198.51.100.{self.dice.randint(1, 9)}", "2001:db8::7")

    def edit_ports(self) -> str:
        """Change a port of the cell."""
        key = self.dice.choice(("cell_listen_port", "cell_link_port_base", "cell_sync_port"))
        return self.state(self.cell, key, self.dice.randint(50000, 50009))

    def edit_admin_networks(self) -> str:
        """Let other networks manage the cell."""
        return self.state(self.cell, "cell_admin_networks", ["10.0.0.0/24"], ["10.0.1.0/24", "fd00:a::/64"])

    def edit_exit_dns(self) -> str:
        """Let other resolvers answer devices that leave by another cell, or none."""
        return self.state(self.cell, "cell_exit_dns", "own", "exit", "exit", ["9.9.9.9"], ["149.112.112.112", "2620:fe::fe"])

    def edit_resolver(self) -> str:
        """State another resolver of the cell, or none."""
        return self.state(self.cell, "cell_resolver", [], [self.address(self.dice.choice(self.cell["cell_networks"]))])

    def edit_exit_probes(self) -> str:
        """Ask other targets through exits, or none."""
        return self.state(self.cell, "cell_exit_probes", [], ["tcp://192.0.2.1:443"], ["dns://9.9.9.9", "tcp://[2001:db8:9::1]:443"])

    def edit_exits(self) -> str:
        """Give the cell other exits that are no cells, or none; a device that has one may keep the name."""
        exits = self.dice.choice((["vpn"], ["vpn", "vps"], []))
        self.cell["cell_exits"] = [{"name": name, "config": provider(name)} for name in exits]
        if exits and self.items("peers"):
            self.one("peers")["route_via"] = self.dice.choice((["vpn"], ["vpn", "direct"]))
        return f"exits {exits}"

    def edit_whoami(self) -> str:
        """Ask others by which address exits leave, or nobody."""
        return self.state(self.cell, "cell_whoami", [], "http://192.0.2.1:443/", ["http://192.0.2.9/ip", "http://[2001:db8:9::1]:8080/"])

    def edit_networks(self) -> str:
        """Renumber the cell, or give it one family more or less; devices and services move along."""
        old = {ipaddress.ip_interface(n).version: ipaddress.ip_interface(n) for n in self.cell["cell_networks"]}
        number = self.dice.randint(0, 9)
        new = {4: f"10.0.{number}.1/24", 6: f"fd00:{number}::1/64"}
        chosen = self.dice.choice(((4,), (6,), (4, 6)))
        wanted = {family: ipaddress.ip_interface(new[family]) if family in chosen else old[family] for family in {*old, *chosen}}
        if len(wanted) == 2 and self.dice.random() < 0.3:
            wanted.pop(self.dice.choice((4, 6)))
        self.cell["cell_networks"] = [str(wanted[family]) for family in sorted(wanted)]

        def moved(addresses: Any) -> list[str]:
            found = []
            for address in map(ipaddress.ip_address, [addresses] if isinstance(addresses, str) else addresses):
                if address.version in wanted:
                    offset = int(address) - int(old[address.version].network.network_address)
                    found.append(str(wanted[address.version].network[offset]))
            return found or [self.address(str(next(iter(wanted.values()))))]

        if self.cell.get("cell_resolver"):
            self.cell["cell_resolver"] = moved(self.cell["cell_resolver"])
        for item in self.items("peers"):
            item["addresses"] = moved(item["addresses"])
        for item in self.items("services"):
            item["address"] = moved(item["address"])
        return f"networks {self.cell['cell_networks']}"

    def edit_silence(self) -> str:
        """State something no longer: one item, or all of a kind."""
        variable = self.dice.choice(("services", "peers", "links"))
        items = self.items(variable)
        gone = items[:] if self.dice.random() < 0.2 else [self.one(variable)]
        self.cell[f"cell_{variable}"] = [item for item in items if item not in gone]
        return f"silent of {variable} {[item.get('name') for item in gone]}"
