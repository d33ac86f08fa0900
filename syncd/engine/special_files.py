"""Devices, sockets and FIFOs at a destination, which hold no bytes that could be put back.

Pure: no I/O.
"""

from __future__ import annotations

import shlex

from syncd.errors import MirrorError
from syncd.models import ActionKind, Kind, Plan


def refuse_special_files(plan: Plan) -> None:
    """Raise MirrorError when the plan would replace a device, socket or FIFO.

    Nothing of it could go to the trash, and a program may be using it.
    """
    for action in plan.of(ActionKind.WRITE, ActionKind.RESTORE):
        if action.expected is not None and action.expected.kind is Kind.OTHER:
            raise MirrorError(
                f"a device, socket or FIFO is at {action.path}, where a file belongs; "
                "nothing was changed",
                path=action.path,
                id="mirror/special-file",
                hint=f"look at it: ls -l {shlex.quote(action.path)}; then remove it, "
                "or leave the path out with exclude:",
            )
