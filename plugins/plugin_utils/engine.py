# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the module cell_step is given it.

Ansible reads and compiles all files that a module imports, anew in each run, to find what these import in turn. The engine's files take it a second, which is
a quarter of a run that has nothing to do. An argument costs no more than reading them.
"""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from pathlib import Path

from ansible_collections.pic.cells.plugins.module_utils import compiled

ROOT = Path(compiled.__file__).parent


def packed() -> str:
    """Return all files of the engine in the package pic_cells: a zip file, compressed as a whole, since they are much alike, in base64."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        # ZipInfo has no time of now: what is sent is the same as long as the files are.
        archive.writestr(zipfile.ZipInfo(f"{compiled.PACKAGE}/__init__.py"), "")
        for path in sorted(ROOT.rglob("*.py")):
            archive.writestr(zipfile.ZipInfo(f"{compiled.PACKAGE}/{path.relative_to(ROOT)}"), path.read_bytes())
    return base64.b64encode(zlib.compress(out.getvalue())).decode()
