# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unprivileged receiver is let see of a cell, and what it hands over to root. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.wgkeys import PRESHARED_LATER
from ..records.model import Link, State
from .signing import answer_key, push_key

# In the folder of the records, which is root's alone; the unit of the receiver, and of the watcher of exits, has just the one folder bound into its view.
FOLDER, FILE = "view", "links.json"
EXITS_FOLDER, EXITS_FILE = "exits", "exits.json"
FOLDERS = (FOLDER, EXITS_FOLDER)
_FIELDS = ("name", "public_key", "address", "interface", "exit_offered", "remote_generation", "sync_auth")
_OF_ANNOUNCEMENTS = ("known_as", "heard", "judged_place")
_OF_CLAIMS = ("invited_until", "judged_claim", "refused_claim", "allow_public_networks", *_OF_ANNOUNCEMENTS)


@dataclass
class View:
    """What the receiver knows: where to listen, and of each link what it takes to judge a push."""

    public_key: str = ""
    port: int = 0
    addresses: list[str] = field(default_factory=list)
    uplink: str | None = None  # as the owner has named it
    links: dict[str, Link] = field(default_factory=dict)
    push_keys: dict[str, str | None] = field(default_factory=dict)  # check what a link's cell says
    answer_keys: dict[str, str | None] = field(default_factory=dict)  # sign what it is answered


@dataclass(frozen=True)
class Delivery:
    """A push as it came, for root to judge again."""

    interface: str
    source: str
    signature: str
    body: bytes


def render_view(state: State, public_key: str, preshared_keys: Mapping[str, str | None]) -> str:
    """Return the view of a cell. preshared_keys: by link; only what is derived from them is in it."""
    links = [
        {**{name: getattr(link, name) for name in _FIELDS}, **_claims(link), **_keys(preshared_keys.get(link.name), str(link.public_key), public_key)}
        for _name, link in sorted(state.links.items())
        if link.address and not link.pending
    ]
    view: dict[str, Any] = {"public_key": public_key, "port": state.cell.sync_port, "addresses": state.cell.own_addresses(), "links": links}
    if state.cell.uplink:  # as every version before wrote it otherwise: an upgrade changes nothing else
        view["uplink"] = state.cell.uplink
    return json.dumps(view, indent=1, sort_keys=True) + "\n"


def _claims(link: Link) -> dict[str, Any]:
    """Return what else it takes to judge claims; where there is nothing of it, the view is as every version before had it."""
    judged = link.invited or link.judged_claim
    return {name: getattr(link, name) for name in _OF_CLAIMS if getattr(link, name) and (judged or name in _OF_ANNOUNCEMENTS)}


def _keys(preshared_key: str | None, sender: str, receiver: str) -> dict[str, str | None]:
    if preshared_key == PRESHARED_LATER:
        return {"push_key": PRESHARED_LATER, "answer_key": PRESHARED_LATER}
    return {"push_key": push_key(preshared_key, sender, receiver), "answer_key": answer_key(preshared_key, sender, receiver)}


def parse_view(text: str) -> View:
    """Read a view (inverse of render_view); raise ValueError for what is none."""
    try:
        data = json.loads(text)
        links = {item["name"]: Link(**{name: item[name] for name in (*_FIELDS, *(key for key in _OF_CLAIMS if key in item))}) for item in data["links"]}
        keys = ({item["name"]: item[use] for item in data["links"]} for use in ("push_key", "answer_key"))
        return View(data["public_key"], int(data["port"]), list(data["addresses"]), data.get("uplink"), links, *keys)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no view of a cell: {error}") from None


def render_delivery(delivery: Delivery) -> str:
    """Turn a push into what is handed over."""
    return json.dumps({**vars(delivery), "body": base64.b64encode(delivery.body).decode()}) + "\n"


def parse_delivery(text: str) -> Delivery:
    """Read what was handed over (inverse of render_delivery); raise ValueError for what is none."""
    try:
        data: dict[str, Any] = json.loads(text)
        texts = [data[name] for name in ("interface", "source", "signature")]
        if not all(isinstance(value, str) for value in texts):
            raise ValueError("no delivery")
        return Delivery(data["interface"], data["source"], data["signature"], base64.b64decode(data["body"], validate=True))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no delivery: {error}") from None
