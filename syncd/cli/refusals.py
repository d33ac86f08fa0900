"""Builds the exact command for the user who may run it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence

from syncd.cache_file import find_default_config

SYSTEM = "/etc/syncd/config.yaml"
CONFIG_OPTIONS = ("-c", "--config")


def command_as(owner: str, arguments: Sequence[str] | None, environ: Mapping[str, str]) -> str:
    """Return the command line as it was typed, for `owner` to run: `sudo -u OWNER syncd ...`.

    sudo gives the command another environment and another home. A configuration that was found
    through these is named with -c.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if not _names_config(typed):
        found = environ.get("SYNCD_CONFIG") or find_default_config(environ)
        typed = typed if found in (None, SYSTEM) else ["-c", str(found), *typed]
    return shlex.join(["sudo", "-u", owner, "syncd", *typed])


def _names_config(typed: Sequence[str]) -> bool:
    attached = (
        (len(one) > 2 and one.startswith("-c")) or one.startswith("--config=") for one in typed
    )
    return any(one in CONFIG_OPTIONS for one in typed) or any(attached)
