# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unprivileged receiver and the watcher of exits are let see of the cell. Owns no record; adds a file for each to the host."""

from __future__ import annotations

from ..base import wgkeys
from ..base.command import Draft, Host
from ..kernel.plan import Plan, write_files
from . import keys, verdicts
from . import visible as view
from .part import Context, Part


def view_path(folder: str) -> str:
    """Return the file that the receiver reads. folder: the one with the records."""
    return f"{folder}/{view.FOLDER}/{view.FILE}"


def plan_view(context: Context) -> Plan:
    """Plan what the receiver and the watcher of exits are let see."""
    return _plan_files(context.host, context, context.kept_identity)


def add_view(context: Context, plan: Plan) -> None:
    """Let these, where there are such, know with a part's plan what they have to judge by from then on."""
    if not context.host.exists(view_path(context.store.path)):
        return
    draft = Draft(context.host)
    write_files(draft, plan.steps)
    after = context.on(draft)
    # A key that is made for nobody to keep is none.
    kept = draft.exists(keys.identity_path(context.store.path))
    renewed = _plan_files(draft, after, context.identity if kept else context.kept_identity, renew=True)
    if plan:  # what follows from a difference is none of its own
        renewed.changes = []
    plan.extend(renewed)


def _plan_files(host: Host, context: Context, identity: keys.Identity | None, renew: bool = False) -> Plan:
    """Plan the files for a cell's stored records. host: has the files as they are. renew: only those that are there."""
    plan = Plan()
    texts = {
        view_path(context.store.path): view.render_view(context.stored, identity.public if identity else wgkeys.GENERATED, context.preshared_keys()),
        f"{context.store.path}/{view.EXITS_FOLDER}/{view.EXITS_FILE}": verdicts.render_watched(context.stored),
    }
    for path, text in texts.items():
        found = host.read(path)
        if found is not None or not renew:
            plan.write(path, found, text, 0o644)
    return plan


VIEW = Part("view", lambda context: (plan_view(context), {}))
