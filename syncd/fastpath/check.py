"""The check before a full `sync`: it finds that nothing is to be done, or it has no opinion.

Where it finds nothing to do, the full run would have found every job unchanged, touched nothing and
recorded the same. It compares what the last run saved in its snapshot (snapshot.py): the
configuration's bytes, the store's write counter, lstat of every destination, and GitHub's 304 for
every ref, in response to the requests of the full run. Where anything differs or cannot be read, it
has no opinion, and the full run gets GitHub's responses (github/replay.py). Where the snapshot
lacks the files, the full run is loaded while GitHub answers: about the refs, and where one has
moved, about the listed folders and their trees.

Imports the standard library, and PyJWT and cryptography for an App: the packages of the full run
take five times as long to load (docs/decisions/0020).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from syncd.cache_file import cache_key, find_default_config, guess_state, read_cache, read_config
from syncd.fastpath.early_requests import EarlyRequests, Reply
from syncd.file_lock import acquire, release
from syncd.unchanged import Seen, is_as_seen

NAME = "unchanged.json"
COLOURS = ("auto", "always", "never")  # of --color


class SyncArgs(NamedTuple):
    """The arguments of the user. `jobs` is empty for all."""

    config: str | None
    quiet: bool
    json: bool
    jobs: tuple[str, ...]
    colour: str | None = None


class UpToDate(NamedTuple):
    """Every job is unchanged, and that is recorded.

    `jobs` are (name, repo, ref, commit), in the configuration's order.
    """

    jobs: tuple[tuple[str, str, str | None, str], ...]
    requests: Mapping[str, int]
    seconds: float
    args: SyncArgs


def check(
    arguments: Sequence[str], environ: Mapping[str, str], now: float
) -> UpToDate | EarlyRequests:
    """Return `UpToDate`, or the requests so far where the check has no opinion.

    `now` is in Unix seconds.
    """
    args = parse_arguments(arguments, environ)
    proxied = any(
        name.lower().endswith("_proxy") and value and name.lower() != "no_proxy"
        for name, value in environ.items()
    )
    if args is None or args.config is None or proxied:
        return EarlyRequests(environ, now)
    try:
        snapshot = _read_snapshot(args.config, environ, now)
        chosen = [
            snapshot["jobs"][name] for name in snapshot["all"] if not args.jobs or name in args.jobs
        ]
        if not set(args.jobs) <= set(snapshot["all"]):
            return EarlyRequests(environ, now)
    except (OSError, ValueError, KeyError, TypeError):
        # no snapshot, a damaged one, or one for something else: the full run rewrites it
        return EarlyRequests(environ, now)
    return _check_jobs(args, snapshot, chosen, environ, now)


def parse_arguments(arguments: Sequence[str], environ: Mapping[str, str]) -> SyncArgs | None:
    """Parse the plain forms of `sync`; None for every other command, option or way to write one.

    The global options are read before and after the command; the last value wins.
    """
    config, colour, quiet, as_json = environ.get("SYNCD_CONFIG"), None, False, False
    words: list[str] = []  # the command and its jobs
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument in ("-q", "--quiet"):
            quiet = True
        elif argument in ("-c", "--config") and remaining:
            config = remaining.pop(0)
        elif argument == "--color" and remaining and remaining[0] in COLOURS:
            colour = remaining.pop(0)
        elif argument == "--json" and words:
            as_json = True
        elif argument.startswith("-") or not argument:
            return None
        else:
            words.append(argument)
    if words[:1] != ["sync"]:
        return None
    return SyncArgs(
        config or find_default_config(environ), quiet, as_json, tuple(words[1:]), colour
    )


def _read_snapshot(config: str, environ: Mapping[str, str], now: float) -> Any:
    """Return the snapshot of this configuration.

    Raises OSError or ValueError where it cannot be used.
    """
    content = read_config(config)
    state = guess_state(content, config, environ)
    snapshot = read_cache(f"{state}/{NAME}")
    if snapshot["made_for"] != cache_key(config, content, environ, state):
        raise ValueError("the snapshot was made for another configuration")
    if not snapshot["written_at"] <= now < snapshot["ends_at"]:
        raise ValueError("the snapshot is too old")
    store = os.stat(snapshot["store"])
    is_same_file = snapshot["store_file"] == [store.st_dev, store.st_ino]
    if not is_same_file or os.stat(state).st_uid != os.geteuid():
        raise ValueError("the snapshot was made for another store")
    return snapshot


def _check_jobs(
    args: SyncArgs, snapshot: Any, jobs: Sequence[Any], environ: Mapping[str, str], now: float
) -> UpToDate | EarlyRequests:
    """Compare refs and destinations of these jobs with the snapshot, holding the jobs' locks."""
    began, requests = time.monotonic(), EarlyRequests(environ, now)
    heads = [snapshot["heads"][index] for index in sorted({job["head"] for job in jobs})]
    # The full run meets the same errors, and reports them.
    with ExitStack() as locks, suppress(OSError, ValueError, KeyError, TypeError):
        for job in jobs:
            locks.callback(release, acquire(job["lock"], create=False))
        if any(job["seen"] is None for job in jobs):
            _add_listings(snapshot, jobs)
            requests.start(snapshot, heads)
            return requests  # they go on while the full run is loaded
        requests.start(snapshot, heads)
        is_unchanged = all(is_as_seen(Seen(*job["seen"])) for job in jobs)
        from syncd.fastpath import record  # noqa: F401  (SQLite is loaded while GitHub answers)

        requests.wait()
        not_modified = [reply for reply in requests.replies if reply.status == 304]
        is_up_to_date = is_unchanged and len(not_modified) == len(heads)
        if is_up_to_date and _record(snapshot, jobs, not_modified, now):
            found = tuple((job["name"], job["repo"], job["ref"], job["commit"]) for job in jobs)
            counts = {"total": len(requests.replies), "not_modified": len(not_modified)}
            return UpToDate(found, counts, time.monotonic() - began, args)
    return requests


def _add_listings(snapshot: Any, jobs: Sequence[Any]) -> None:
    """Add to each head the requests that follow a new one, each once."""
    for job in jobs:
        listings = snapshot["heads"][job["head"]].setdefault("listings", {})
        for request in job["listing"]:
            known = listings.setdefault(request["url"], request)
            known["folders"] = sorted({*known["folders"], *request["folders"]})


def _record(snapshot: Any, jobs: Sequence[Any], replies: Sequence[Reply], now: float) -> bool:
    """Record the runs and GitHub's rate limits.

    Returns False, having recorded nothing, where the store was written since the snapshot.
    """
    import sqlite3
    from datetime import UTC, datetime

    from syncd.fastpath.record import record_unchanged

    limits = {}
    for reply in replies:
        with suppress(KeyError, ValueError, OverflowError, OSError):
            if reply.headers.get("x-ratelimit-resource", "core") == "core":
                limits[reply.identity, reply.installation or 0] = _limit(reply.headers)
    names, at = [job["name"] for job in jobs], datetime.fromtimestamp(now, UTC).isoformat()
    try:
        return record_unchanged(snapshot["store"], snapshot["counter"], names, limits, at)
    except sqlite3.Error:
        return False


def _limit(headers: Mapping[str, str]) -> tuple[int, int, str]:
    """Return limit, remaining requests and time of the reset. Raises KeyError, ValueError."""
    from datetime import UTC, datetime

    reset_at = datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC).isoformat()
    limit, remaining = headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]
    return int(limit), int(remaining), reset_at
