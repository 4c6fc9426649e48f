# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/variables.md: all variables as one page that can be read before anything is installed.

It is made of the role's argument specification, the documentation of pic_cells_check, the surveys, and the settings in playbooks/awx.yml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.pic.cells.plugins.modules import pic_cells_check

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "variables.md"
PLAYBOOKS = PROJECT / "playbooks"

# What no survey asks for: AWX keeps what a job prints, and none of its files.
AT_A_WORKSTATION = dict.fromkeys(("pic.cells.add_device", "pic.cells.rotate_key", "pic.cells.show_device"), ("config_dest", "show_qr"))
TYPES = {"str": "text", "path": "path", "int": "whole number", "bool": "true or false", "list": "list"}
HEAD = """\
<!-- Written by tests/tools/variables.py (make reference). Change the argument specification, a survey or the comments in playbooks/awx.yml instead. -->

# All variables

Everything that an inventory can state and that a playbook takes. [Inventory reference](inventory.md) explains how the variables work together, and
[two servers of your own](two-servers.md) begins with a small example.

- [Variables of a cell](#variables-of-a-cell): in the inventory, for each host of the group `cells`
- [Extra vars of the playbooks](#extra-vars-of-the-playbooks): with `-e`, or in a survey of AWX
- [Settings for AWX](#settings-for-awx): of the playbook `pic.cells.awx`

"""
EXTRA = """\
Give them with `-e name=value`. Each of these playbooks also takes `cell_group`, the name of the inventory group that holds the cells, if it is not `cells`.

| playbook | required | optional |
|---|---|---|
"""
AWX = """\
Give them with `-e`, or as `vars` if your own playbook imports `pic.cells.awx`. An empty text means "not given". [From AWX](awx.md) shows how they are used.

"""


def plain(text: str) -> str:
    """Return a text of Ansible's documentation without its own markup."""
    return re.sub(r"\b(?:V|C|O|M|RV)\(((?:\\.|[^)\\])*)\)", lambda found: "`" + re.sub(r"\\(.)", r"\1", found[1]) + "`", text)


def described(option: Mapping[str, Any]) -> str:
    said = option["description"]
    return plain(" ".join([said] if isinstance(said, str) else said))


def kind(option: Mapping[str, Any]) -> str:
    """Say of which type a value is, whether it has to be given, and what holds where it is not."""
    words = [TYPES[option["type"]]] if option["type"] in TYPES else []
    if choices := [choice for choice in option.get("choices", ()) if choice]:
        words = ["one of " + ", ".join(f"`{choice}`" for choice in choices)]
    if option.get("required"):
        words.append("required")
    if "default" in option:
        words.append(f"default {value(option['default'])}")
    return ", ".join(words)


def value(given: Any) -> str:
    if isinstance(given, list) and all(isinstance(item, dict) for item in given):
        return " and ".join(f"`{item['name']}`" for item in given)
    return f"`{str(given).lower() if isinstance(given, bool) else given}`"


def of_a_cell(options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, option in options.items():
        yield f"### {name}\n\n"
        said = kind(option)
        yield f"*{said[0].upper()}{said[1:]}.* {described(option)}\n\n" if said else f"{described(option)}\n\n"
        for key, suboption in option.get("options", {}).items():
            said = kind(suboption)
            yield f"- **{key}**{f' ({said})' if said else ''}: {described(suboption)}\n"
        if "options" in option:
            yield "\n"


def of_the_playbooks(templates: Iterable[Mapping[str, Any]], documented: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    asked: dict[str, str] = {}
    for template in templates:
        questions = template.get("survey", {}).get("spec", [])
        also = AT_A_WORKSTATION.get(template["name"], ())
        given = {needed: [question["variable"] for question in questions if question["required"] is needed] for needed in (True, False)}
        names = {needed: ", ".join(f"`{name}`" for name in (*variables, *(() if needed else also))) for needed, variables in given.items()}
        yield f"| `{template['name']}` | {names[True]} | {names[False]} |\n"
        asked.update((question["variable"], question["question_description"]) for question in questions)
        asked.update(dict.fromkeys(also, ""))
    yield "\n"
    for name, question in asked.items():
        yield f"- **{name}**: {described(documented[name]) if name in documented else question}\n"
    yield "\n"


def settings(source: str, defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each comment among the vars of a play, with the variables that it is about."""
    comment: list[str] = []
    about: list[str] = []
    for line in [*source.splitlines(), "    # "]:
        if text := re.fullmatch(r" {4}# ?(.*)", line):
            if about:
                yield f"- {', '.join(about)}: {' '.join(comment)}\n"
                comment, about = [], []
            comment.append(text[1])
        elif (name := re.match(r" {4}(\w+):", line)) and name[1] in defaults:
            given = defaults[name[1]]
            about.append(f"**{name[1]}**" + ("" if given == "" else f" (default {value(given)})"))


def page() -> str:
    specification = yaml.safe_load((PROJECT / "roles" / "cell" / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    surveys = yaml.safe_load((PLAYBOOKS / "vars" / "awx.yml").read_text(encoding="utf-8"))
    source = (PLAYBOOKS / "awx.yml").read_text(encoding="utf-8")
    main = specification["argument_specs"]["main"]
    text = [HEAD, "## Variables of a cell\n\n", *(f"- {plain(line)}\n" for line in main["description"]), "\n", *of_a_cell(main["options"])]
    text += ["## Extra vars of the playbooks\n\n", EXTRA]
    text += of_the_playbooks(surveys["__pic_cells_awx_templates"], yaml.safe_load(pic_cells_check.DOCUMENTATION)["options"])
    text += ["## Settings for AWX\n\n", AWX, *settings(source.partition("\n  vars:\n")[2].partition("\n  vars_files:")[0], yaml.safe_load(source)[0]["vars"])]
    return "".join(text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
