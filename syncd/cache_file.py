"""JSON files beside the store that save a command the time to work something out again.

A file says which configuration, version and environment it was made for, and is used for no other.
Losing one costs time. The checksum protects against damage, not against a user who may write the
state folder. Standard library only, because the nothing-to-do check (fastpath/check.py) starts with
nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from syncd import __version__
from syncd.private_file import replace_private_file
from syncd.trusted_path import open_checked

FORMAT = 3
MAX_BYTES = 64 << 20
CONFIG_VARIABLES = ("SYNCD_CONFIG", "STATE_DIRECTORY", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME")


def read_cache(file: str) -> Any:
    """Return what `write_cache` saved. Raises OSError or ValueError where that is not certain."""
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
        found = os.fstat(opened.fileno())
        is_private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
        if not is_private or found.st_size > MAX_BYTES:
            raise ValueError("another user may have written the cache file")
        checksum, _, body = opened.read().partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise ValueError("the cache file is damaged")
    value = json.loads(body)
    if value["written_by"] != _written_by():
        raise ValueError("another version wrote the cache file")
    return value


def write_cache(file: str, value: Mapping[str, Any]) -> None:
    """Replace the file. Where the disk is full, there is no file afterwards.

    It is not synced: a file that a crash has truncated has a wrong checksum.
    """
    body = json.dumps({"written_by": _written_by(), **value}, separators=(",", ":")).encode("ascii")
    content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    try:
        replace_private_file(file, content, sync=False)
    except OSError:
        remove_cache(file)


def remove_cache(file: str) -> None:
    """Remove the file, if it is there."""
    with suppress(OSError):
        os.unlink(file)


def find_default_config(environ: Mapping[str, str]) -> str | None:
    """Return the first of the usual configuration files that exists; None also where that cannot be
    determined.
    """
    for place in (
        "/etc/syncd/config.yaml",
        f"{_home(environ, 'XDG_CONFIG_HOME', '.config')}/syncd/config.yaml",
    ):
        try:
            os.stat(place)
        except PermissionError:
            return None
        except OSError:
            continue
        return place
    return None


def read_config(file: str) -> bytes:
    """Return the bytes of a configuration file.

    Raises OSError, and ValueError where another user may write it.
    """
    descriptor, doubts = open_checked(file)
    with open(descriptor, "rb") as opened:
        if doubts:
            raise ValueError("another user may write the configuration")
        return opened.read(MAX_BYTES)


def cache_key(
    config: str, content: bytes, environ: Mapping[str, str], state: str
) -> dict[str, Any]:
    """Return what identifies a configuration, its state folder and its environment in a cache
    file.
    """
    return {
        "config": [
            os.path.abspath(config),
            os.path.realpath(config),
            hashlib.sha256(content).hexdigest(),
        ],
        "environment": [environ.get(name) for name in CONFIG_VARIABLES],
        "state": [state, os.path.realpath(state)],
    }


def config_digest(file: str, content: bytes) -> str:
    """Return the digest of a configuration of one file, as config/load.py has it."""
    return hashlib.sha256(os.fsencode(file) + b"\0" + content + b"\0").hexdigest()


def guess_state(content: bytes, config: str, environ: Mapping[str, str]) -> str:
    """Return the state folder that a plain `state:` line names, or the usual one.

    A guess: a cache file found there says which state folder it was made for.
    """
    for line in content.splitlines():
        if line.startswith(b"state:"):
            return line[6:].partition(b" #")[0].strip().strip(b"\"'").decode()
    if environ.get("STATE_DIRECTORY"):
        return environ["STATE_DIRECTORY"].split(":")[0]
    if os.path.realpath(config).startswith("/etc/"):
        return "/var/lib/syncd"
    return f"{_home(environ, 'XDG_STATE_HOME', '.local/state')}/syncd"


def _home(environ: Mapping[str, str], variable: str, below: str) -> str:
    return environ.get(variable) or f"{environ.get('HOME', '')}/{below}"


def _written_by() -> list[Any]:
    return [FORMAT, __version__, sys.version]
