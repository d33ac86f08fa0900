"""The check before a full `sync`: it finds that nothing is to be done, or it has no opinion.

Where it finds nothing to do, the full run would have found every job unchanged, touched nothing and
recorded the same. It compares what the last run saved in its snapshot (snapshot.py): the
configuration's bytes, the store's write counter, lstat of every destination, and GitHub's 304 for
every ref, in response to the requests of the full run. Where anything differs or cannot be read, it
has no opinion, and the full run gets GitHub's responses so far (github/replay.py). Where the
snapshot lacks the files, the full run is loaded while GitHub answers.

Imports the standard library, and PyJWT and cryptography for an App: the packages of the full run
take five times as long to load (docs/decisions/0020).
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

from syncd.cache_file import cache_key, find_default_config, guess_state, read_cache, read_config
from syncd.file_lock import acquire, release
from syncd.trusted_path import open_checked, secret_exposure
from syncd.unchanged import Seen, is_as_seen

NAME = "unchanged.json"
COLOURS = ("auto", "always", "never")  # of --color
MAX_SECRET_BYTES = 64 << 10
MAX_BODY_BYTES = 1 << 20
CONNECT_SECONDS = 1.0  # a host that takes longer is left to the full run, which says so
TIMEOUT_SECONDS = 10.0  # of one exchange
DEADLINE_SECONDS = 30.0  # for all answers

RequestKey = tuple[str, str, str | None, str | None, bytes | None]


class SyncArgs(NamedTuple):
    """The arguments of the user. `jobs` is empty for all."""

    config: str | None
    quiet: bool
    json: bool
    jobs: tuple[str, ...]
    colour: str | None = None


class Reply(NamedTuple):
    """GitHub's response to one request, with header names in lower case."""

    key: RequestKey
    identity: str
    installation: int | None
    status: int
    headers: Mapping[str, str]
    body: bytes


class UpToDate(NamedTuple):
    """Every job is unchanged, and that is recorded.

    `jobs` are (name, repo, ref, commit), in the configuration's order.
    """

    jobs: tuple[tuple[str, str, str | None, str], ...]
    requests: Mapping[str, int]
    seconds: float
    args: SyncArgs


def request_key(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> RequestKey:
    """Return what makes two requests the same.

    An App's JWT is no part of it, because it differs each time.
    """
    token = None if method == "POST" else headers.get("Authorization")
    return method, url, headers.get("If-None-Match"), token, body


def check(
    arguments: Sequence[str], environ: Mapping[str, str], now: float
) -> UpToDate | HeadRequests:
    """Return `UpToDate`, or the requests so far where the check has no opinion.

    `now` is in Unix seconds.
    """
    args = parse_arguments(arguments, environ)
    proxied = any(
        name.lower().endswith("_proxy") and value and name.lower() != "no_proxy"
        for name, value in environ.items()
    )
    if args is None or args.config is None or proxied:
        return HeadRequests(environ, now)
    try:
        snapshot = _read_snapshot(args.config, environ, now)
        chosen = [
            snapshot["jobs"][name] for name in snapshot["all"] if not args.jobs or name in args.jobs
        ]
        if not set(args.jobs) <= set(snapshot["all"]):
            return HeadRequests(environ, now)
    except (OSError, ValueError, KeyError, TypeError):
        # no snapshot, a damaged one, or one for something else: the full run rewrites it
        return HeadRequests(environ, now)
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
) -> UpToDate | HeadRequests:
    """Compare refs and destinations of these jobs with the snapshot, holding the jobs' locks."""
    began, requests = time.monotonic(), HeadRequests(environ, now)
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
        listings.update((request["url"], request) for request in job["listing"])


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


class HeadRequests:
    """The requests about the refs, sent by threads while the caller reads the destinations."""

    def __init__(self, environ: Mapping[str, str], now: float) -> None:
        self.replies: list[Reply] = []
        self._environ, self._now = environ, now
        self._threads: list[threading.Thread] = []
        self._todo: list[tuple[Any, str | None]] = []
        self._is_over = False
        # Of the token requests; the first thread continues with them.
        self._connections: dict[str, Any] = {}

    def start(self, snapshot: Any, heads: Sequence[Any]) -> None:
        """Request the tokens that the heads need, and start the requests.

        Raises OSError, ValueError.
        """
        used = {head["credential"] for head in heads}
        tokens = {index: self._token(snapshot["credentials"][index]) for index in used}
        self._todo += [(head, tokens[head["credential"]]) for head in reversed(heads)]
        for number, _ in enumerate(self._todo[: snapshot["requests_at_once"]]):
            connections = {} if number else self._connections
            thread = threading.Thread(target=self._send_heads, args=(connections,), daemon=True)
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until all responses have come or the time is up. No request begins after this."""
        ends = time.monotonic() + DEADLINE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        self._is_over = True

    def finish(self) -> list[Reply]:
        """Wait, close the connections and return the responses."""
        self.wait()
        if not self._threads:  # else a thread closes them, when it needs them no more
            _close(self._connections)
        return list(self.replies)

    def _send_heads(self, connections: dict[str, Any]) -> None:
        """Send one request after the other, on kept connections. The full run repeats what
        fails.
        """
        from http.client import HTTPException

        while self._todo and not self._is_over:
            with suppress(OSError, ValueError, IndexError, HTTPException):
                request, token = self._todo.pop()
                reply = _send(connections, request, token)
                self.replies.append(reply)
                listings = request.get("listings", {}).values() if reply.status == 200 else ()
                self._todo += [(_at(one, request, reply), token) for one in listings]
        _close(connections)

    def _token(self, credential: Any) -> str | None:
        """Return the token to send; None to send none.

        Raises OSError or ValueError where there is no usable one.
        """
        if credential["secret"] is None:
            return None
        token: Any = read_secret(credential["secret"], self._environ)
        if credential["token_request"] is not None:
            token = self._app_token(credential["token_request"], token)
        if not isinstance(token, str) or not all("!" <= letter <= "~" for letter in token):
            raise ValueError("the token is empty, or has letters that no token has")
        return token

    def _app_token(self, request: Any, key: str) -> Any:
        """Request an App's token; return what GitHub's response holds.

        The response is one of `replies`.
        """
        from http.client import HTTPException

        from syncd.app_jwt import app_jwt
        from syncd.pem import normalise_key

        jwt = app_jwt(request["issuer"], normalise_key(key), self._now)
        try:
            self.replies.append(_send(self._connections, request, jwt))
        except HTTPException as error:
            raise ValueError("GitHub returned no token") from error
        reply = self.replies[-1]
        try:
            return json.loads(reply.body)["token"] if reply.status == 201 else None
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


def _at(listing: Any, head: Any, reply: Reply) -> Any:
    """Return the listing's request for the commit that GitHub has named. Raises ValueError."""
    commit = reply.body.decode("ascii")
    if not commit.isalnum():
        raise ValueError("that is no commit")
    urls = {name: listing[name] + commit for name in ("url", "target")}
    return {**listing, **urls, "installation": head["installation"]}


def _send(connections: dict[str, Any], request: Any, token: str | None) -> Reply:
    """Return the complete response to one request. Raises OSError, ValueError or HTTPException."""
    connection = _connection(connections, request["to"])
    headers = dict(request["headers"])
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = request["body"].encode() if request["body"] is not None else None
    is_new = connection.sock is None
    if is_new:
        connection.connect()
        connection.sock.settimeout(TIMEOUT_SECONDS)
    connection.request(request["method"], request["target"], body, headers)
    response = connection.getresponse()
    content = response.read(MAX_BODY_BYTES + 1)
    if not response.isclosed() or response.length:
        connection.close()
        raise ValueError("the response is cut off, or longer than expected")
    key = request_key(request["method"], request["url"], headers, body)
    found = {name.lower(): value for name, value in response.getheaders()}
    return Reply(key, request["identity"], request["installation"], response.status, found, content)


def _close(connections: Mapping[str, Any]) -> None:
    for connection in connections.values():
        connection.close()


def _connection(connections: dict[str, Any], address: Sequence[Any]) -> Any:
    """Return the connection to the address, kept in `connections`."""
    from http.client import HTTPConnection, HTTPSConnection

    scheme, host, port, authorities = address
    key = f"{scheme} {host} {port}"
    if key not in connections:
        if scheme == "https":
            from syncd.tls import client_context

            context = client_context(*filter(None, [authorities]))
            connections[key] = HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=context)
        else:
            connections[key] = HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    return connections[key]


def read_secret(source: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the secret. Raises OSError or ValueError where the full run has something to
    report.
    """
    kind, value = source
    if kind == "env":
        text = environ.get(value, "")
    elif kind == "file":
        text = _read_secret_file(value, is_private=True)
    else:
        directory = environ.get("CREDENTIALS_DIRECTORY") or "/nowhere"
        text = _read_secret_file(f"{directory}/{value}", is_private=False)
    if not text.strip():
        raise ValueError("the secret is empty")
    return text.strip()


def _read_secret_file(file: str, is_private: bool) -> str:
    """Return the text of the file. Raises OSError; ValueError where other users can write it.

    With `is_private`, also where they can read it.
    """
    descriptor, doubts = open_checked(file, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as opened:
        found = os.fstat(opened.fileno())
        is_exposed = is_private and secret_exposure(found) is not None
        if doubts or not stat.S_ISREG(found.st_mode) or is_exposed:
            raise ValueError("other users can write or read the secret")
        return opened.read(MAX_SECRET_BYTES).decode("ascii")
