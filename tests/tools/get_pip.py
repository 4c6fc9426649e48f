# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for ansible-test's get-pip script where that cannot be downloaded: installs pip from the wheels beside this file."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

wheels = Path(__file__).parent
options = [option for option in sys.argv[1:] if option not in ("--no-setuptools", "--no-wheel")]
version = next(option for option in options if option.startswith("pip=="))[len("pip==") :]
sys.path.insert(0, str(next(wheels.glob(f"pip-{version}-*.whl"))))
sys.argv[1:] = ["install", "--no-index", "--find-links", str(wheels), *options]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
