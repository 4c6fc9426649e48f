# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An invitation arrives as it was sent, however it was copied; and nothing else on the controller is read out as one."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import LARGEST, parse_invitation, read_invitation, render_invitation
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

SAID = {
    "name": "cellx",
    "public_key": made_key("x"),
    "networks": ["10.9.0.0/24", "fd00:9::/64"],
    "address": ["10.9.0.1", "fd00:9::1"],
    "endpoint": "192.0.2.9:51821",
    "api_url": "http://10.9.0.1:8088",
}
TAKEN = {key: value for key, value in SAID.items() if key != "name"}
TOKEN = render_invitation(SAID)
TEXT = json.dumps(SAID)
NONE = "invitation: the given value is not an invitation."


def wrapped(text: str, width: int = 60, between: str = "\n") -> str:
    """Return a text as a terminal breaks it."""
    return between.join(text[at : at + width] for at in range(0, len(text), width))


def line(text: str) -> str:
    """Return the line that Ansible prints of it."""
    return f"        {json.dumps(f'The invitation for the owner of cella: {text}')},"


@pytest.mark.parametrize("host", ["192.0.2.9", "x.example.net"])
def test_a_token_is_one_word_that_nothing_has_to_quote(host: str) -> None:
    token = render_invitation({**SAID, "endpoint": f"{host}:51821"})
    assert re.fullmatch(r"pic0-[A-Za-z0-9_-]+", token)
    assert parse_invitation(token) == {**SAID, "endpoint": f"{host}:51821"}
    assert "endpoint" not in parse_invitation(render_invitation({**SAID, "endpoint": None}))


@pytest.mark.parametrize(
    "copied",
    [
        TOKEN,
        f"  {TOKEN}\n",
        f"'{TOKEN}'",
        f'"{TOKEN}",',
        wrapped(TOKEN),
        wrapped(TOKEN, 40, "\r\n    "),
        f"{wrapped(TOKEN)}\n",
        line(TOKEN),
        wrapped(line(TOKEN), 80),
        f"{TOKEN} regards, X",
        f'ok: [cella] => {{\n    "msg": [\n{line(TOKEN)}\n        "The preshared key is in /var/lib/pic/invitations/cella.psk on this cell"\n    ]\n}}',
        json.dumps({"msg": [f"The invitation for the owner of cella: {TOKEN}"]}),
        TEXT,
        json.dumps(SAID, indent=2),
        wrapped(TEXT, 80),
        line(TEXT),
        wrapped(line(TEXT), 80),
        json.dumps(TEXT),
        json.dumps(TEXT)[1:-1],
        json.dumps(json.dumps(TEXT)),
        json.dumps(TEXT)[1:-1].replace("\\", "\\\\\\"),
    ],
)
def test_an_invitation_is_taken_however_it_was_copied(copied: str, tmp_path: Path) -> None:
    assert read_invitation(copied, "cellx") == TAKEN
    (tmp_path / "cellx.txt").write_text(copied)
    assert read_invitation(str(tmp_path / "cellx.txt"), "cellx") == TAKEN


def test_a_cell_may_be_called_like_a_token() -> None:
    said = {**SAID, "name": "pic0-x"}
    assert read_invitation(json.dumps(said), "pic0-x") == read_invitation(render_invitation(said), "pic0-x") == TAKEN


@pytest.mark.parametrize(
    "damaged",
    [
        TOKEN[:-1],
        TOKEN[:-8],
        TOKEN[:40] + TOKEN[41:],
        TOKEN.replace("a", "b", 1),
        TOKEN + "A",
        "pic0-",
        "pic0-AAAAAAAA",
        TOKEN.swapcase().replace("PIC", "pic"),
    ],
)
def test_a_token_that_is_not_whole_is_said_to_be_so(damaged: str) -> None:
    with pytest.raises(BadInput, match="incomplete, or was changed"):
        read_invitation(damaged, "cellx")


def test_a_token_of_a_later_version_is_named() -> None:
    with pytest.raises(BadInput, match=r"pic2-, which this version of pic\.cells does not know"):
        read_invitation("pic2-abc", "cellx")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"name": "x y"}, "The name in the invitation: 'x y'"),
        ({"name": 7}, "The name in the invitation: 7"),
        ({"name": ["cellx"]}, "The name in the invitation"),
        ({"name": "celly"}, "comes from cell 'celly', but remote_cell=cellx"),
        ({"public_key": None}, "lacks the public key or the networks"),
        ({"public_key": 7}, "not a WireGuard key"),
        ({"networks": {"10.9.0.0/24": 1}}, "networks of the invitation"),
        ({"networks": [["10.9.0.0/24"]]}, "networks of the invitation"),
        ({"address": ["fd00:9::1%eth0"]}, "address of the invitation"),
        ({"endpoint": {"x": 1}}, "is not host:port"),
        ({"api_url": "http://10.9.0.1:99999999"}, "is not a URL"),
        ({"api_url": "http://10.9.0.1:٨٠٨٨"}, "is not a URL"),
        ({"api_url": ["http://10.9.0.1:8088"]}, "is not a URL"),
        ({"api_url": "http://10.0.0.2:80"}, "in none of its networks"),  # a device of whoever takes the invitation
        ({"api_url": "http://[::ffff:10.9.0.1]:80"}, "in none of its networks"),
    ],
)
def test_what_an_invitation_says_is_judged_in_every_form(said: dict[str, Any], sentence: str) -> None:
    for form in (render_invitation({**SAID, **said}), json.dumps({**SAID, **said}), {**SAID, **said}):
        with pytest.raises(BadInput, match=re.escape(sentence)):
            read_invitation(form, "cellx")


@pytest.mark.parametrize(
    "value", ["x" * (LARGEST + 1), "{" * 60000, '{"name": "cellx", "x": ' + "[" * 9000, '{"name": 1' + "0" * 5000 + "}", "{}", "[]", 7, [], True, "\0"]
)
def test_what_is_no_invitation_is_told_in_one_sentence(value: object) -> None:
    with pytest.raises(BadInput) as error:
        read_invitation(value, "cellx")
    assert str(error.value).startswith(NONE)


FILES: dict[str, Callable[[Path], object]] = {
    "nothing there": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a pipe behind a link": lambda path: (os.mkfifo(f"{path}.pipe"), path.symlink_to(f"{path}.pipe")),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a secret": lambda path: path.write_text("root:secret"),
    "JSON with a name": lambda path: path.write_text('{"name": "secret"}'),
    "JSON of another kind": lambda path: path.write_text('{"name": "secret", "public_key": "secret", "networks": ["secret"], "address": "secret"}'),
    "bytes": lambda path: path.write_bytes(b'\xff{"name": "secret"}'),
    "a damaged token": lambda path: path.write_text(TOKEN[:-4]),
    "something large": lambda path: path.write_text(TEXT + " " * LARGEST),
    "a loop of links": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("what", FILES)
def test_a_path_tells_nothing_of_the_controllers_files(what: str, tmp_path: Path) -> None:
    FILES[what](tmp_path / "x")
    with pytest.raises(BadInput) as error:
        read_invitation(str(tmp_path / "x"), "cellx")
    assert (
        str(error.value)
        == f"{NONE} Give the text that the other owner's run of pic.cells.link printed, or a regular file that contains it, or 'new' if there is none yet."
    )


def test_a_file_that_is_an_invitation_of_another_cell_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(TOKEN)
    with pytest.raises(BadInput, match="comes from cell 'cellx', but remote_cell=celly"):
        read_invitation(str(tmp_path / "x"), "celly")


@pytest.mark.parametrize("text", ["{" + " " * 60_000 + "}", "{" + "\t" * 60_000 + "a}", "{" + " \n" * 30_000, "pic0-" * 13_000, "{" + "\\" * 60_000 + "}"])
def test_no_text_takes_long_to_read(text: str) -> None:
    began = time.process_time()
    with pytest.raises(BadInput):
        read_invitation(text, "cellx")
    assert time.process_time() - began < 3, "it took minutes, for whoever waits for the job"
