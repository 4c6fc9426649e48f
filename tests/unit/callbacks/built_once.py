# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let all calls of ansible-playbook share what Ansible has built of modules.

It packs each module with all that this imports once in a call, which takes most of the time of a short one.
"""

from __future__ import annotations

import os

from ansible import constants
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Put a folder in place of the one that Ansible would make and remove."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "built_once"

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Act before the first task."""
        os.symlink(os.environ["PIC_CELLS_BUILT"], os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache"))
