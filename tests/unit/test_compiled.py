# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that runs on a cell takes the engine as the program there has it compiled, as far as that is of the same sources and for the same Python."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.compiled import PACKAGE, head
from ansible_collections.pic.cells.plugins.plugin_utils import arguments

ENGINE = Path(agent.__file__).parent
SENT = "ansible_collections.pic.cells.plugins.module_utils"
# What a module does: to import the engine, to read its sources for the program, and to show where an error is.
SCRIPT = f"""
import json, sys, traceback
sys.path.insert(0, sys.argv[1])
from {SENT}.compiled import take
take(sys.argv[2])
from {SENT} import agent
from {SENT}.base.names import check_name
try:
    check_name("Name", "-")
except Exception:
    shown = traceback.format_exc()
taken = [name[{len(SENT) + 1}:] for name, module in sys.modules.items() if type(getattr(module, "__loader__", None)).__name__ == "_Loader"]
print(json.dumps([taken, agent.is_built_of(agent.sources(), open(sys.argv[3], "rb").read().decode("utf-8", "surrogateescape")), shown]))
"""
SOURCES = agent.sources()


def executed(folder: Path, program: bytes) -> tuple[set[str], bool, str]:
    """Execute it with the engine as Ansible sends it; return which modules were taken from the program, whether the sources were read, and a traceback."""
    sent, there, whole = folder / "sent.zip", folder / "pic-cell.pyz", folder / "whole.pyz"
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_DEFLATED) as archive:
        packages = SENT.split(".")
        for number in range(1, len(packages) + 1):
            archive.writestr(f"{'/'.join(packages[:number])}/__init__.py", "")
        for name in SOURCES:
            archive.write(ENGINE / f"{name}.py", f"{SENT.replace('.', '/')}/{name}.py")
    there.write_bytes(program)
    whole.write_bytes(agent.build(SOURCES))
    done = subprocess.run([sys.executable, "-I", "-c", SCRIPT, sent, there, whole], capture_output=True, text=True, check=True)
    taken, read, shown = json.loads(done.stdout)
    return set(taken), read, shown


def test_what_is_compiled_is_taken(tmp_path: Path) -> None:
    taken, read, shown = executed(tmp_path, agent.build(SOURCES))
    assert {"agent", "cell", "base", "base.names", "parts.links", "kernel.plan"} <= taken
    assert "compiled" not in taken, "it takes the others"
    assert read and "in check_name" in shown


def test_another_source_is_compiled(tmp_path: Path) -> None:
    taken, read, _shown = executed(tmp_path, agent.build({**SOURCES, "base/names": b"raise SystemExit('of another version')"}))
    assert "cell" in taken and "base.names" not in taken and read


def without_a_checksum(program: bytes) -> bytes:
    """Return a program of which a bit of each compiled module is another one."""
    at = [found.end() + 500 for found in re.finditer(re.escape(head(SOURCES["base/names"])), program)]
    return bytes(byte ^ (number in at) for number, byte in enumerate(program))


def of_another_python(program: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(program)) as made, zipfile.ZipFile(out, "w") as other:
        for name in made.namelist():
            other.writestr(name, made.read(name).replace(head(b"")[:4], b"\0\0\r\n"))
    return out.getvalue()


@pytest.mark.parametrize(
    ("spoil", "whole"),
    [
        (without_a_checksum, True),
        (of_another_python, False),
        (lambda program: program[: len(program) // 2], False),
        (lambda _program: b"", False),
        (lambda program: program.replace(PACKAGE.encode(), b"x" * len(PACKAGE)), False),
    ],
)
def test_what_cannot_be_taken_is_compiled(tmp_path: Path, spoil: Callable[[bytes], bytes], whole: bool) -> None:
    taken, read, _shown = executed(tmp_path, spoil(agent.build(SOURCES)))
    assert read and "base.names" not in taken and bool(taken) is whole


def test_nothing_is_taken_but_where_ansible_has_sent_it() -> None:
    code = f"import sys; before = list(sys.meta_path); from {SENT} import compiled; compiled.take(sys.argv[1]); sys.exit(sys.meta_path != before)"
    assert subprocess.run([sys.executable, "-c", code, __file__], check=False).returncode == 0


def test_the_modules_of_the_roles_steps_take_it_before_they_import_anything_else() -> None:
    for module in {module for step, (module, _arguments) in arguments.STEPS.items() if step != "pair"}:
        text = (ENGINE.parent / "modules" / f"{module}.py").read_text()
        assert re.search(r"^from \.\.(.*)", text, re.MULTILINE)[0].startswith("from ..module_utils.compiled import"), module  # type: ignore[index]
        assert "\ntake()\n" in text
