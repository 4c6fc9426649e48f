# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for ansible-test's get-pip script where that cannot be downloaded: installs pip from the wheels beside this file."""

import sys
from pathlib import Path

wheels = Path(__file__).parent
options = [option for option in sys.argv[1:] if option not in ("--no-setuptools", "--no-wheel")]
version = next(option for option in options if option.startswith("pip=="))[len("pip==") :]
sys.path.insert(0, str(next(wheels.glob(f"pip-{version}-*.whl"))))

from pip._internal.cli.main import main

sys.exit(main(["install", "--no-index", "--find-links", str(wheels), *options]))
