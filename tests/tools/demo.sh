#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Says what the demo needs and what it installs, before anything of that happens. Refuses to begin without root.
set -euo pipefail

missing=$(tests/tools/packages.sh --list)
cat <<END
The demo makes three cells, four phones and a small internet in containers on this machine. The containers reach nothing outside of it.
It needs:     Debian 12 or 13, root, the right to run containers (a container has to be privileged for that), 3 GB of disk, and the internet for what it installs.
It installs:  Debian packages: ${missing:-none, all are there}
              below .build: Python packages from PyPI
              in podman: an image made of Debian packages, and containers and networks with names that begin with pic-lab-
To remove it: make demo-down (containers and networks), make clean (.build)
END
if [ "$(id -u)" -ne 0 ]; then
    echo "The demo needs root, and this is $(id -un). Become root, or put sudo before the command." >&2
    exit 1
fi
