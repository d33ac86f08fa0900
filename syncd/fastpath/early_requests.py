"""The requests of the nothing-to-do check (check.py), in the words of the full run.

Threads send them while the caller does something else. The full run takes the responses
(github/replay.py) and repeats what failed. Imports the standard library, and PyJWT and cryptography
for an App.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from syncd.trusted_path import open_checked, secret_exposure

MAX_SECRET_BYTES = 64 << 10
MAX_BODY_BYTES = 16 << 20  # of one response, unpacked; the full run repeats what is larger
CONNECT_SECONDS = 1.0  # a host that takes longer is left to the full run, which says so
TIMEOUT_SECONDS = 10.0  # of one exchange
DEADLINE_SECONDS = 30.0  # for all answers
POLL_SECONDS = 0.25  # between two looks at a run's deadline, while its request is under way
MAX_ROWS = 1000  # GitHub lists no more of a folder (docs, "Get repository content")

RequestKey = tuple[str, str, str | None, str | None, bytes | None]


class Reply(NamedTuple):
    """GitHub's response to one request, with header names in lower case."""

    key: RequestKey
    identity: str
    installation: int | None
    status: int
    headers: Mapping[str, str]
    body: bytes


def request_key(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> RequestKey:
    """Return what makes two requests the same.

    An App's JWT is no part of it, because it differs each time.
    """
    token = None if method == "POST" else headers.get("Authorization")
    return method, url, headers.get("If-None-Match"), token, body


class EarlyRequests:
    """Requests that threads send while the caller does something else: about the refs, and what
    follows a new one.
    """

    def __init__(self, environ: Mapping[str, str], now: float) -> None:
        self.replies: list[Reply] = []
        self._environ, self._now = environ, now
        self._threads: list[threading.Thread] = []
        self._todo: list[Any] = []  # requests with their headers; the last one is next
        self._is_over = False
        # Of the token requests; the first thread continues with them.
        self._connections: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._pending: set[RequestKey] = set()  # in `_todo`, or under way
        self._taken: set[int] = set()  # places in `replies`
        self._on_reply: Callable[[Reply], None] = lambda reply: None

    def start(self, snapshot: Any, heads: Sequence[Any]) -> None:
        """Request the tokens that the heads need, and start the requests.

        Raises OSError, ValueError.
        """
        used = {head["credential"] for head in heads}
        tokens = {index: self._token(snapshot["credentials"][index]) for index in used}
        for head in reversed(heads):
            self._add(_authorized(head, tokens[head["credential"]]))
        for number, _ in enumerate(self._todo[: snapshot["requests_at_once"]]):
            arguments = ({} if number else self._connections, snapshot["store"])
            self._threads.append(
                threading.Thread(target=self._send_all, args=arguments, daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until all responses have come or the time is up. No request begins after this."""
        ends = time.monotonic() + DEADLINE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        self._is_over = True
        if not self._threads:  # else a thread closes them, when it needs them no more
            _close(self._connections)

    def on_reply(self, record: Callable[[Reply], None]) -> None:
        """Call `record` with each response, those that have come included."""
        with self._changed:
            self._on_reply = record
            for reply in self.replies:
                record(reply)

    def take(
        self, identity: str, key: RequestKey, check_deadline: Callable[[], None]
    ) -> Reply | None:
        """Return the response to this request, once; None where there is none.

        A request that is under way is waited for. Raises what `check_deadline` raises.
        """
        with self._changed:
            while key in self._pending and not self._is_over:
                check_deadline()
                self._changed.wait(POLL_SECONDS)
            for place, reply in enumerate(self.replies):
                if (reply.identity, reply.key) == (identity, key) and place not in self._taken:
                    self._taken.add(place)
                    return reply
        return None

    def _send_all(self, connections: dict[str, Any], store: str) -> None:
        """Send one request after the other, on kept connections. The full run repeats what
        fails.
        """
        from http.client import HTTPException

        while not self._is_over:
            with self._changed:
                request = self._todo.pop() if self._todo else None
            if request is None:
                break
            with suppress(OSError, ValueError, KeyError, TypeError, HTTPException):
                reply = _send(connections, request)
                self._keep(reply)
                if reply.status == 200:
                    for follower in _followers(request, reply, store):
                        self._add(follower)
            with self._changed:
                self._pending.discard(_key(request))
                self._changed.notify_all()
        _close(connections)

    def _add(self, request: Any) -> None:
        with self._changed:
            self._pending.add(_key(request))
            self._todo.append(request)

    def _keep(self, reply: Reply) -> None:
        with self._changed:
            self.replies.append(reply)
            self._on_reply(reply)

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
            self._keep(_send(self._connections, _authorized(request, jwt)))
        except HTTPException as error:
            raise ValueError("GitHub returned no token") from error
        reply = self.replies[-1]
        try:
            return json.loads(reply.body)["token"] if reply.status == 201 else None
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


def _authorized(request: Any, token: str | None) -> Any:
    """Return the request with all headers that are sent."""
    authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
    return {**request, "headers": {**request["headers"], **authorization}}


def _key(request: Any) -> RequestKey:
    body = request["body"].encode() if request["body"] is not None else None
    return request_key(request["method"], request["url"], request["headers"], body)


def _followers(request: Any, reply: Reply, store: str) -> list[Any]:
    """Return the requests that the full run sends after this response: the listings of a new
    commit, and the trees of a listing.

    Raises ValueError, KeyError or TypeError for a response that makes no sense.
    """
    if "listings" in request:
        commit = reply.body.decode("ascii")
        return [_at(listing, request, commit) for listing in request["listings"].values()]
    folders = request.get("folders")
    if not folders:
        return []
    try:
        answer = json.loads(reply.body)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    trees = [tree for folder in folders if (tree := _tree_to_read(answer, folder)) is not None]
    return [_at(request["tree"], request, tree) for tree in _without_stored(trees, store)]


def _at(template: Any, before: Any, name: str) -> Any:
    """Return a request for the object that GitHub has named. Raises ValueError."""
    if not name.isalnum():
        raise ValueError("that is no object's id")
    headers = {**template["headers"]}
    if "Authorization" in before["headers"]:
        headers["Authorization"] = before["headers"]["Authorization"]
    places = {part: template[part] + name + template["suffix"] for part in ("url", "target")}
    return {**template, **places, "headers": headers, "installation": before["installation"]}


def _tree_to_read(answer: Any, folder: str) -> str | None:
    """Return the tree that the full run has to request for a listed folder; None for none.

    `answer` is about the folder where `folder` is empty, else about the one above it.
    """
    rows = answer["entries"]
    if folder:
        ids = (row["sha"] for row in rows if row["type"] == "dir" and row["name"] == folder)
        return next(ids, None)
    is_whole = len(rows) < MAX_ROWS and all(row["type"] != "dir" for row in rows)
    return None if is_whole else answer["sha"]


def _without_stored(trees: Sequence[str], store: str) -> list[str]:
    """Return the trees whose listing the store lacks; none where it can't be asked."""
    import sqlite3
    from contextlib import closing
    from urllib.parse import quote

    where = f"file:{quote(store)}?mode=ro"
    try:
        with closing(sqlite3.connect(where, uri=True)) as connection:
            found = "SELECT 1 FROM listing WHERE tree_sha = ?"
            return [tree for tree in trees if not connection.execute(found, (tree,)).fetchone()]
    except sqlite3.Error:
        return []


def _send(connections: dict[str, Any], request: Any) -> Reply:
    """Return the complete response to one request. Raises OSError, ValueError or HTTPException."""
    connection = _connection(connections, request["to"])
    body = request["body"].encode() if request["body"] is not None else None
    is_new = connection.sock is None
    if is_new:
        connection.connect()
        connection.sock.settimeout(TIMEOUT_SECONDS)
    headers = {**request["headers"], "Accept-Encoding": "gzip"}
    connection.request(request["method"], request["target"], body, headers)
    response = connection.getresponse()
    content = response.read(MAX_BODY_BYTES + 1)
    if not response.isclosed() or response.length:
        connection.close()
        raise ValueError("the response is cut off, or longer than expected")
    found = {name.lower(): value for name, value in response.getheaders()}
    content = _decoded(content, found.pop("content-encoding", "identity"))
    where = request["identity"], request["installation"]
    return Reply(_key(request), *where, response.status, found, content)


def _decoded(content: bytes, encoding: str) -> bytes:
    """Return the unpacked body. Raises ValueError where it is cut, or larger than expected."""
    if encoding == "identity":
        return content
    import zlib

    unpacking = zlib.decompressobj(wbits=31)
    try:
        body = unpacking.decompress(content, MAX_BODY_BYTES)
    except zlib.error as error:
        raise ValueError("the compression is damaged") from error
    if encoding != "gzip" or not unpacking.eof or unpacking.unused_data:
        raise ValueError("the compression is cut, too large or unknown")
    return body


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
