# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell's owner sends to another one: printed as one token, and read back from the token, from JSON, or from a file with either."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.pic.cells.plugins.module_utils.base import tokens
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.names import check_name
from ansible_collections.pic.cells.plugins.module_utils.base.networks import address_of, check_api_url, network_of, parse_address, parse_network
from ansible_collections.pic.cells.plugins.module_utils.base.times import parse_moment, render_moment
from ansible_collections.pic.cells.plugins.module_utils.base.wgkeys import check_endpoint, check_preshared_key, check_public_key
from ansible_collections.pic.cells.plugins.plugin_utils.outside import SECRET, asked, plain, read_file, secret, shown

NEW = "new"
LARGEST = 65536
_KEYS = ("public_key", "networks", "address", "endpoint", "api_url")
_NEEDED = ("for", "source", "until")  # of one that is redeemed, beside what every invitation says
INVITATION = "invitation"
# A path may hold such letters too, so nothing of a path stands before it.
_TOKEN = re.compile(r"(?<![\w./-])(?P<version>pic[0-9]+)-(?P<rest>[\w-]*)", re.ASCII)
_WHOLE = "Give the text that the other owner's run of pic.cells.link printed, or a regular file that contains it, or 'new' if there is none yet."
_NONE = f"invitation: the given value is not an invitation. {_WHOLE}"
_DAMAGED = f"invitation: the text is incomplete, or was changed on its way. {_WHOLE}"


def render_invitation(said: Mapping[str, Any]) -> str:
    """Return what two owners tell each other as one word."""
    return tokens.render_token(tokens.TOLD, said)


def parse_invitation(text: str) -> dict[str, Any]:
    """Read an invitation: a token, or JSON. What a terminal, Ansible or AWX puts around it or into it is forgiven. Raises BadInput."""
    if len(text) > LARGEST:
        raise BadInput(_NONE)
    for form in _forms(text) if "{" in text else ():
        try:
            said = json.loads(form)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict) and "name" in said:
            return dict(plain(said, "The invitation", LARGEST))
    found = _TOKEN.search(text)
    if found is None:
        raise BadInput(_NONE)
    return _of_token(found, text)


def read_invitation(value: Any, remote: str) -> dict[str, Any]:
    """Return what an invitation says of the cell called remote, judged; nothing for 'new'. value: its text, a dictionary, or a file's path. Raises BadInput."""
    return {} if value == NEW else _judged(_said(value), remote)


def read_pairing(value: Any, cell: str, given: str | None) -> dict[str, str] | None:
    """Return what it takes to redeem an invitation: the address to do it from; None for one that two owners tell each other.

    cell: the one that it has to be for. given: the extra var with the secret. Raises BadInput.
    """
    said = {} if value == NEW else _said(value)
    if tokens.MAC not in said:
        return None
    where = f"The invitation of {shown(said.get('name'))!r}"
    if any(not isinstance(said.get(key), str) for key in (*_NEEDED, "endpoint", "api_url")):
        raise BadInput(_DAMAGED)
    if said["for"] != cell:
        raise BadInput(f"{where} is for cell {shown(said['for'])!r}, but cell={cell}. Ask for one for {cell}.")
    if parse_moment(said["until"], f"until of {where}") <= render_moment(time.time()):
        raise BadInput(f"{where} was good until {shown(said['until'])}. Ask its owner for a new one.")
    parse_address(said["source"], f"source of {where}")
    key = given or said.get(tokens.SECRET)
    if not key:
        raise BadInput(f"{where} needs its secret. Give it as preshared_key, best in a file: -e @key.yml.")
    check_preshared_key(f"{SECRET} for the invitation", key if isinstance(key, str) else "")
    if not tokens.is_proven(said, key):
        raise BadInput(f"{where} and {SECRET} do not belong together, or the invitation was changed on its way. Ask its owner for both again.")
    return {"source": said["source"]}


def link_secret(loader: Any) -> str | None:
    """Return the preshared key that the extra vars give a link, or the secret in their invitation. loader: as for outside.asked."""
    given = secret(loader)
    value = None if given else asked(loader, {}, [INVITATION]).get(INVITATION)
    return given or (None if value in (None, NEW) else secret_of(value))


def secret_of(value: Any) -> str | None:
    """Return the secret that an invitation has in it, None where it has none. value: as for read_invitation. Raises BadInput."""
    held = _said(value).get(tokens.SECRET)
    return held if isinstance(held, str) else None


def code_of(value: Any, given: str | None) -> str:
    """Return the code of an invitation that nothing but its way to here proves; empty for 'new', and with a secret that came another way.

    given: the extra var with the secret. Raises BadInput.
    """
    return "" if value == NEW or given else tokens.code(_said(value))


def _said(value: Any) -> dict[str, Any]:
    """Return what an invitation says. Raises BadInput."""
    said = _read(value)
    if tokens.SECRET in said and tokens.MAC not in said:  # no run of ours makes one: its code would be compared with nothing
        raise BadInput(_DAMAGED)
    return said


def _read(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, str):
        raise BadInput(_NONE)
    if _TOKEN.search(value) or "{" in value:
        return parse_invitation(value)
    try:
        said = parse_invitation(read_file(Path(value.strip()).expanduser(), LARGEST).decode("utf-8"))
        _judged(said, said.get("name"))
    except (OSError, ValueError, RuntimeError, BadInput):
        # Whoever may give a path may not have the controller's files read out: neither which there are, nor what is in them.
        raise BadInput(_NONE) from None
    return said


def _of_token(found: re.Match[str], text: str) -> dict[str, Any]:
    if found["version"] not in (tokens.TOLD, tokens.REDEEMED):
        raise BadInput(
            f"invitation: it begins with {found['version']}-, which this version of pic.cells does not know. Update pic.cells, or ask for another invitation."
        )
    # Where a terminal has broken it, the rest follows; else other words may.
    joined = _TOKEN.search("".join(text[found.start() :].split()))
    for rest in dict.fromkeys((found["rest"], joined["rest"] if joined else "")):
        said = tokens.parse_token(rest)
        if said is not None and (found["version"] == tokens.REDEEMED) == (tokens.MAC in said):
            return dict(plain(said, "The invitation", LARGEST))
    raise BadInput(_DAMAGED)


def _forms(text: str) -> Iterator[str]:
    """Yield what a copied text may have been: as it is, without line breaks, and with the quotes that a text within JSON has."""
    text = text[text.find("{") : text.rfind("}") + 1]
    first, *rest = re.split(r"[\r\n]", text)  # a pattern with spaces around it would take minutes for a text of spaces
    for form in (text, "".join([first.rstrip(), *(line.strip() for line in rest)])):
        yield form
        for _level in range(2):
            form = re.sub(r"\\(.)", r"\1", form)
            yield form


def _judged(said: Mapping[str, Any], remote: object) -> dict[str, Any]:
    """Return what is taken over from an invitation of the cell called remote. Raises BadInput."""
    said = plain(said, "The invitation", LARGEST)
    given = {key: said[key] for key in _KEYS if said.get(key) not in (None, "", [])}
    name = check_name("The name in the invitation:", said.get("name"))
    where = f"the invitation of {name!r}"
    if "public_key" not in given or "networks" not in given:
        raise BadInput(
            f"The invitation of {name!r} lacks the public key or the networks. Its owner has to link their cell first, and send what that run prints."
        )
    check_public_key(f"public_key of {where}", given["public_key"])
    for key, check in (("networks", parse_network), ("address", parse_address)):
        if key in given:
            values = given[key] if isinstance(given[key], list) else [given[key]]
            given[key] = [str(check(value if isinstance(value, str) else shown(value), f"{key} of {where}")) for value in values]
    if "endpoint" in given:
        check_endpoint(where, given["endpoint"])
    if "api_url" in given:
        check_api_url(f"api_url of {where}", given["api_url"])
        address = address_of(str(urlsplit(given["api_url"]).hostname))
        if not any(address in network_of(network) for network in given["networks"]):
            raise BadInput(f"api_url of {where}: {given['api_url']} is in none of its networks {', '.join(given['networks'])}. Ask for another invitation.")
    if name != remote:
        raise BadInput(f"The invitation comes from cell {name!r}, but remote_cell={shown(remote)}. Set remote_cell to the cell that sent it.")
    return plain(given, "The invitation", LARGEST)  # type: ignore[no-any-return]
