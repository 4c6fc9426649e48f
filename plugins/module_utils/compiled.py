# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take what Ansible sends of the engine as it lies compiled in the program on the cell.

Python compiles anew what it reads of the zip file that Ansible sends, which takes half of the time of an execution. The program holds the same sources
compiled, each with a hash of its source; where that is another one, or Python is, or there is no program, the source that was sent is compiled as before.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import marshal
import sys
import types
import zipfile
import zipimport
from collections.abc import Sequence
from typing import Any

PROGRAM = "/usr/local/lib/pic-cells/pic-cell.pyz"
PACKAGE = "pic_cells"  # what the engine is called there


def take(program: str = PROGRAM) -> None:
    """Let everything that is imported from here on be taken from the program, if this runs from a zip file, as only what Ansible sends does."""
    loader = __spec__.loader if __spec__ else None
    if isinstance(loader, zipimport.zipimporter):
        try:
            archive = zipfile.ZipFile(program)
        except (OSError, ValueError, zipfile.BadZipFile):
            return
        sys.meta_path.insert(0, _Finder(str(__package__), archive))


def head(source: bytes) -> bytes:
    """Return what a compiled module begins with: this Python's mark, that Python is to take it unread, and of which source it is (PEP 552)."""
    return importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)


class _Finder:
    """Finds the engine's modules. Python's own finder of zip files compiles each module already to tell where it lies."""

    def __init__(self, package: str, archive: zipfile.ZipFile) -> None:
        self.package, self.archive = package, archive
        self.folders: dict[str, zipimport.zipimporter] = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, _target: object = None) -> importlib.machinery.ModuleSpec | None:
        if not path or not name.startswith(f"{self.package}."):
            return None
        folder = self.folders.get(path[0]) or self.folders.setdefault(path[0], zipimport.zipimporter(path[0]))
        inside, whole = name[len(self.package) + 1 :].replace(".", "/"), f"{path[0]}/{name.rpartition('.')[2]}"
        for file, package in (("", False), ("/__init__", True)):
            code = self._code(f"{PACKAGE}/{inside}{file}.pyc", f"{whole}{file}.py", folder)
            if code is not None:
                loader: Any = _Loader(folder, code)
                spec = importlib.machinery.ModuleSpec(name, loader, origin=f"{whole}{file}.py", is_package=package)
                spec.submodule_search_locations = [whole] if package else None
                spec.has_location = True
                return spec
        return None

    def _code(self, there: str, sent: str, folder: zipimport.zipimporter) -> types.CodeType | None:
        """Return what is compiled of a module, None where it is of another source. there: its path in the program. sent: in what Ansible has sent."""
        try:
            data = self.archive.read(there)  # judges its checksum
            wanted = head(folder.get_data(sent))
            code: types.CodeType | None = marshal.loads(data[len(wanted) :]) if data.startswith(wanted) else None
        except Exception:  # not there; or whatever may lie there, as a zip file can be damaged in many ways
            return None
        return code


class _Loader:
    """A module's own loader, which the engine asks for its source, but for what is compiled already."""

    def __init__(self, sent: zipimport.zipimporter, code: types.CodeType) -> None:
        self.sent, self.code = sent, code

    def create_module(self, _spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        exec(self.code, vars(module))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sent, name)
