"""Who spent an identity's hourly limit: requests that were charged, by repository, kept beside the store for `syncd status`.

One small file that every process of this state adds to under its lock. Nothing is decided by it: damaged or lost, it begins anew.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from syncd.store.access import share

NAME = "spent.json"
LARGEST_BYTES = 16 << 20
REPOSITORIES_KEPT = 1000  # of an identity; the rest is added up under REST
REST = "others"


def hour_of(now: datetime, reset_at: datetime | None) -> datetime:
    """When the hour that is counted ends: GitHub's, where it says so and that is to come; else the clock's own."""
    if reset_at is not None and reset_at > now:
        return reset_at
    return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


def key_of(identity: str, installation: int | None) -> str:
    """What the file calls a limit: an identity's, or that of one of its installations."""
    return identity if installation is None else f"{identity}#{installation}"


def add(state_dir: Path, key: str, ends_at: datetime, requests: Mapping[str, int]) -> None:
    """So many more requests about these repositories were charged in the hour that ends then. Raises OSError."""
    descriptor = os.open(state_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = _parsed(file.read(LARGEST_BYTES))
        ends, before = known.get(key, ("", {}))
        sums = dict(before) if ends == ends_at.isoformat() else {}
        for repo, count in requests.items():
            sums[repo] = sums.get(repo, 0) + count
        known[key] = (ends_at.isoformat(), _bounded(sums))
        body = json.dumps({name: {"ends_at": when, "requests": sums} for name, (when, sums) in known.items()}, separators=(",", ":")).encode()
        file.seek(0)
        file.write(body)
        file.truncate()
    share(state_dir / NAME, state_dir)


def look(state_dir: Path, now: datetime) -> dict[str, dict[str, int]]:
    """`key_of` -> repository -> requests that were charged in the hour that `now` is in, the most first. Empty where nothing is known."""
    try:
        with open(os.open(state_dir / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            known = _parsed(file.read(LARGEST_BYTES))
    except OSError:
        return {}
    return {name: _bounded(sums) for name, (ends, sums) in known.items() if datetime.fromisoformat(ends) > now}


def _bounded(sums: Mapping[str, int]) -> dict[str, int]:
    ordered = sorted((one for one in sums.items() if one[0] != REST), key=lambda one: (-one[1], one[0]))
    found = dict(ordered[:REPOSITORIES_KEPT])
    rest = sums.get(REST, 0) + sum(count for _, count in ordered[REPOSITORIES_KEPT:])
    return found | ({REST: rest} if rest else {})


def _parsed(body: bytes) -> dict[str, tuple[str, dict[str, int]]]:
    """What the file says, as far as it makes sense."""
    try:
        value: Any = json.loads(body or b"{}")
        found = {}
        for name, one in value.items():
            if datetime.fromisoformat(one["ends_at"]).tzinfo is None:
                raise ValueError("a time without a zone")
            found[str(name)] = (str(one["ends_at"]), {str(repo): int(count) for repo, count in one["requests"].items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return {}
    return found


__all__ = ["add", "hour_of", "key_of", "look"]
