"""The check ahead of a full `sync`: either nothing is to be done, or it has no opinion.

Where it answers, the full run would have found every job unchanged, touched nothing and recorded the same. It compares what
the last run left in its snapshot (snapshot.py): the configuration's bytes, the store's write counter, lstat of every
destination, and GitHub's 304 for every ref, asked with the very requests of the full run. Where anything differs or can't be
read, it has no opinion, and GitHub's answers so far are given to the full run (github/replay.py).

Imports the standard library, and PyJWT and cryptography for an App: the packages of the full run take five times as long to
load (docs/decisions/0020).
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from syncd.cache_file import guess_state, made_for, read_cache, read_config, usual_config
from syncd.file_lock import acquire, release
from syncd.trusted_path import open_checked, secret_exposure
from syncd.unchanged import Seen, is_as_seen

NAME = "unchanged.json"
MAX_SECRET_BYTES = 64 << 10
MAX_BODY_BYTES = 64 << 10
TIMEOUT_SECONDS = 10.0  # of one exchange
DEADLINE_SECONDS = 30.0  # for all answers

Question = tuple[str, str, str | None, str | None, bytes | None]


class SyncArgs(NamedTuple):
    """What the user typed. `jobs` is empty for all."""

    config: str | None
    quiet: bool
    json: bool
    jobs: tuple[str, ...]


class Reply(NamedTuple):
    """GitHub's answer to one request, with header names in lower case."""

    question: Question
    identity: str
    installation: int | None
    status: int
    headers: Mapping[str, str]
    body: bytes


class UpToDate(NamedTuple):
    """Every job is unchanged, and that is recorded. `jobs`: (name, repo, ref, commit), in the configuration's order."""

    jobs: tuple[tuple[str, str, str | None, str], ...]
    requests: Mapping[str, int]
    seconds: float
    asked: SyncArgs


def request_key(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Question:
    """Return what makes two requests ask the same. An App's JWT, which differs each time, is not part of it."""
    token = None if method == "POST" else headers.get("Authorization")
    return method, url, headers.get("If-None-Match"), token, body


def check(
    arguments: Sequence[str], environ: Mapping[str, str], now: float
) -> UpToDate | list[Reply]:
    """Return `UpToDate`, or GitHub's answers on the way to no opinion. `now` is in seconds since 1970."""
    asked = parse_arguments(arguments, environ)
    proxied = any(
        name.lower().endswith("_proxy") and value and name.lower() != "no_proxy"
        for name, value in environ.items()
    )
    if asked is None or asked.config is None or proxied:
        return []
    try:
        snapshot = _read_snapshot(asked.config, environ, now)
        chosen = [
            snapshot["jobs"][name]
            for name in snapshot["all"]
            if not asked.jobs or name in asked.jobs
        ]
        if not set(asked.jobs) <= set(snapshot["all"]):
            return []
    except (OSError, ValueError, KeyError, TypeError):
        return []  # there is no snapshot, it is damaged, or it is for something else: the full run writes it anew
    return _check_jobs(asked, snapshot, chosen, environ, now)


def parse_arguments(arguments: Sequence[str], environ: Mapping[str, str]) -> SyncArgs | None:
    """Parse the plain forms of `sync`; None for every other command or option."""
    config, quiet, as_json, jobs = environ.get("SYNCD_CONFIG"), False, False, []
    left = list(arguments)
    while left and left[0].startswith("-"):
        option = left.pop(0)
        if option in ("-q", "--quiet"):
            quiet = True
        elif option in ("-c", "--config") and left:
            config = left.pop(0)
        else:
            return None
    if not left or left.pop(0) != "sync":
        return None
    for one in left:
        if one == "--json":
            as_json = True
        elif one.startswith("-") or not one:
            return None
        else:
            jobs.append(one)
    return SyncArgs(config or usual_config(environ), quiet, as_json, tuple(jobs))


def _read_snapshot(config: str, environ: Mapping[str, str], now: float) -> Any:
    """Return the snapshot of this configuration. Raises OSError or ValueError where it is not to be used."""
    content = read_config(config)
    state = guess_state(content, config, environ)
    snapshot = read_cache(f"{state}/{NAME}")
    if snapshot["made_for"] != made_for(config, content, environ, state):
        raise ValueError("the configuration is another one")
    if not snapshot["written_at"] <= now < snapshot["ends_at"]:
        raise ValueError("the snapshot is old")
    store = os.stat(snapshot["store"])
    if (
        snapshot["store_file"] != [store.st_dev, store.st_ino]
        or os.stat(state).st_uid != os.geteuid()
    ):
        raise ValueError("the store is another one")
    return snapshot


def _check_jobs(
    asked: SyncArgs, snapshot: Any, jobs: Sequence[Any], environ: Mapping[str, str], now: float
) -> UpToDate | list[Reply]:
    began, replies = time.monotonic(), list[Reply]()
    threads, todo = list[threading.Thread](), list[tuple[Any, str | None]]()
    connections: dict[str, Any] = {}  # the first thread goes on with that of the token
    heads = [snapshot["heads"][index] for index in sorted({job["head"] for job in jobs})]
    with (
        ExitStack() as held,
        suppress(OSError, ValueError, KeyError, TypeError),
    ):  # the full run meets the same, and reports it
        for job in jobs:
            held.callback(release, acquire(job["lock"], create=False))
        credentials = {
            index: snapshot["credentials"][index]
            for index in {head["credential"] for head in heads}
        }
        tokens = {
            index: _token(one, environ, now, connections, replies)
            for index, one in credentials.items()
        }
        todo += [(head, tokens[head["credential"]]) for head in reversed(heads)]
        for number, _ in enumerate(todo[: snapshot["requests_at_once"]]):
            kept = {} if number else connections
            threads.append(threading.Thread(target=_ask, args=(todo, kept, replies), daemon=True))
        for thread in threads:
            thread.start()
        same = all(is_as_seen(Seen(*job["seen"])) for job in jobs)
        from syncd.fastpath import record  # noqa: F401  (SQLite is loaded while GitHub answers)

        _wait(threads, todo)
        answered = [reply for reply in replies if reply.status == 304]
        if same and len(answered) == len(heads) and _record(snapshot, jobs, answered, now):
            found = tuple((job["name"], job["repo"], job["ref"], job["commit"]) for job in jobs)
            requests = {"total": len(replies), "not_modified": len(answered)}
            return UpToDate(found, requests, time.monotonic() - began, asked)
    _wait(threads, todo)
    for connection in connections.values():
        connection.close()
    return list(replies)


def _record(snapshot: Any, jobs: Sequence[Any], replies: Sequence[Reply], now: float) -> bool:
    """Record the runs and GitHub's limits. False, and nothing was recorded, where the store was written since the snapshot."""
    import sqlite3
    from datetime import UTC, datetime

    from syncd.fastpath.record import record_unchanged

    limits = {}
    for reply in replies:
        with suppress(KeyError, ValueError, OverflowError, OSError):
            headers = reply.headers
            reset_at = datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC).isoformat()
            if headers.get("x-ratelimit-resource", "core") == "core":
                limit = (
                    int(headers["x-ratelimit-limit"]),
                    int(headers["x-ratelimit-remaining"]),
                    reset_at,
                )
                limits[reply.identity, reply.installation or 0] = limit
    names, at = [job["name"] for job in jobs], datetime.fromtimestamp(now, UTC).isoformat()
    try:
        return record_unchanged(snapshot["store"], snapshot["counter"], names, limits, at)
    except sqlite3.Error:
        return False


def _wait(threads: Sequence[threading.Thread], todo: list[Any]) -> None:
    """Return when all answers have come or the time is up. Nothing is asked after this."""
    ends = time.monotonic() + DEADLINE_SECONDS
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    todo.clear()


def _ask(
    todo: list[tuple[Any, str | None]], connections: dict[str, Any], replies: list[Reply]
) -> None:
    """Ask about one ref after the other, on kept connections. What fails is left to the full run."""
    from http.client import HTTPException

    while todo:
        with suppress(OSError, ValueError, IndexError, HTTPException):
            head, token = todo.pop()
            replies.append(_send(connections, head, token))
    for connection in connections.values():
        connection.close()


def _send(connections: dict[str, Any], asked: Any, token: str | None) -> Reply:
    """Return the whole answer to one request. Raises OSError, ValueError or HTTPException."""
    from http.client import HTTPConnection, HTTPSConnection

    scheme, host, port, authorities = asked["to"]
    connection = connections.get(f"{scheme} {host} {port}")
    if connection is None:
        if scheme == "https":
            from syncd.tls import client_context

            context = client_context(*filter(None, [authorities]))
            connection = HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
        else:
            connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        connections[f"{scheme} {host} {port}"] = connection
    headers = {
        **asked["headers"],
        **({"Authorization": f"Bearer {token}"} if token is not None else {}),
    }
    body = asked["body"].encode() if asked["body"] is not None else None
    connection.request(asked["method"], asked["target"], body, headers)
    response = connection.getresponse()
    content = response.read(MAX_BODY_BYTES + 1)
    if not response.isclosed() or response.length:
        connection.close()
        raise ValueError("the answer is cut off, or longer than such an answer is")
    question = request_key(asked["method"], asked["url"], headers, body)
    found = {name.lower(): value for name, value in response.getheaders()}
    return Reply(
        question, asked["identity"], asked["installation"], response.status, found, content
    )


def _token(
    credential: Any,
    environ: Mapping[str, str],
    now: float,
    connections: dict[str, Any],
    replies: list[Reply],
) -> str | None:
    """Return the token to show, or None to go without. An App's is asked for; the answer joins `replies`.

    Raises OSError or ValueError where there is none.
    """
    if credential["secret"] is None:
        return None
    token: Any = read_secret(credential["secret"], environ)
    if credential["token_request"] is not None:
        from http.client import HTTPException

        from syncd.app_jwt import app_jwt
        from syncd.pem import normalise_key

        asked = credential["token_request"]
        try:
            replies.append(
                _send(connections, asked, app_jwt(asked["issuer"], normalise_key(token), now))
            )
        except HTTPException as error:
            raise ValueError("GitHub gave no token") from error
        token = json.loads(replies[-1].body)["token"] if replies[-1].status == 201 else None
    if not isinstance(token, str) or not all("!" <= letter <= "~" for letter in token):
        raise ValueError("no token looks like this")
    return token


def read_secret(source: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the secret's text. Raises OSError or ValueError where the full run would have something to report."""
    kind, value = source
    if kind == "env":
        text = environ.get(value, "")
    else:
        file = (
            value
            if kind == "file"
            else f"{environ.get('CREDENTIALS_DIRECTORY') or '/nowhere'}/{value}"
        )
        descriptor, doubts = open_checked(file, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as opened:
            found = os.fstat(opened.fileno())
            if (
                doubts
                or not stat.S_ISREG(found.st_mode)
                or (kind == "file" and secret_exposure(found) is not None)
            ):
                raise ValueError("others can write or read it")
            text = opened.read(MAX_SECRET_BYTES).decode("ascii")
    if not text.strip():
        raise ValueError("the secret is empty")
    return text.strip()
