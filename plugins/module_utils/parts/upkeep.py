# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repair does besides the parts of a run: invitations that nobody has used, the kernel's settings. Owns no record."""

from __future__ import annotations

from ..base.command import missing_tool
from ..kernel import sysctl
from ..kernel.plan import Plan
from . import invitations
from .part import Context, Part, Planned


def _plan_settings(context: Context) -> Planned:
    return sysctl.plan_settings(context.host), {}


def _plan_expired(context: Context) -> Planned:
    return invitations.plan_expired(context.host, context.store.path, context.now), {}


def _check_conntrack(context: Context) -> Planned:
    """Refuse to call a cell whole that cannot end a flow. Raises ToolMissing."""
    if not context.ends_flows:
        raise missing_tool("conntrack", context.host)
    return Plan(), {}


INVITATIONS = Part("invitations", _plan_expired)
SETTINGS = Part("settings", _plan_settings)
CHECK_FLOWS = Part("flows", _check_conntrack)
