# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked


class ActionModule(Asked):
    """Execute the module of this name."""
