"""Who abuses a daemon: a hostile repository, a hostile server, hostile clients of the listener and
a hostile user of the machine.

Each runs until it is stopped, draws what it does from the seed, and counts what it did. Nothing
here judges anything.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from syncd.git_objects import FILE, LINK, SUBMODULE, TREE
from syncd.simulator.github import GitHub
from syncd.simulator.repository import Repository
from tests.support.bombs import gzip_of_zeros
from tests.support.push import headers_of, push_event

Done = Counter[str]
OPERATOR = "192.0.2.10"  # the address that a proxy would name for those who mean well


def every(stop: threading.Event, seconds: float, act: Callable[[], None]) -> None:
    """`act` again and again, with a pause between, until it is stopped;
    what fails inside is the victim's answer.
    """
    while not stop.wait(seconds):
        with suppress(OSError, http.client.HTTPException):
            act()


# --- repositories ---------------------------------------------------------------------------------


def _put(repo: Repository, tree: str, message: str = "change") -> None:
    head = repo.refs.get("refs/heads/main")
    made = repo.add_commit(tree, (head,) if head else (), message)
    repo.files_of[made] = {}
    repo.refs["refs/heads/main"] = made


def _below(repo: Repository, tree: str) -> str:
    """The root tree whose folder `files` is this one."""
    return repo.add_tree([(TREE, b"files", tree)])


def deep(repo: Repository, draw: random.Random) -> None:
    tree = repo.add_tree([(FILE, b"bottom", repo.add_blob(b"x"))])
    for _ in range(draw.choice((50, 300, 1100))):
        tree = repo.add_tree([(TREE, b"d", tree)])
    _put(repo, _below(repo, tree))


def names(repo: Repository, draw: random.Random) -> None:
    hostile = [
        b"..",
        b".git",
        b"a\nb",
        b"\x1b]0;x\x07",
        b"\xff\xfe",
        b"x" * 300,
        b"README",
        b"readme",
        b"-rf",
        b"a\\b",
        b"con",
    ]
    chosen = draw.sample(hostile, draw.randint(1, len(hostile)))
    _put(repo, _below(repo, repo.add_tree((FILE, name, repo.add_blob(name)) for name in chosen)))


def many(repo: Repository, draw: random.Random) -> None:
    blobs = [repo.add_blob(f"{draw.random()}") for _ in range(20)]
    tree = repo.add_tree(
        (FILE, f"{number:05}".encode(), draw.choice(blobs))
        for number in range(draw.choice((10, 2000)))
    )
    _put(repo, _below(repo, tree))


def large(repo: Repository, draw: random.Random) -> None:
    content = bytes([draw.randrange(256)]) * draw.choice((10, 3 << 20, 20 << 20))
    _put(repo, _below(repo, repo.add_tree([(FILE, b"large", repo.add_blob(content))])))
    repo.blobs = {
        one: data for one, data in repo.blobs.items() if len(data) < 1 << 20 or data is content
    }


def modes(repo: Repository, draw: random.Random) -> None:
    blob, link = (
        repo.add_blob(b"x"),
        repo.add_blob(draw.choice((b"/etc/passwd", b"../../..", b"a", b"x" * 5000))),
    )
    kinds = [
        (0o100666, b"a", blob),
        (0o104755, b"b", blob),
        (LINK, b"c", link),
        (SUBMODULE, b"d", "a" * 40),
        (0o020644, b"e", blob),
        (0, b"f", blob),
    ]
    _put(repo, _below(repo, repo.add_tree(draw.sample(kinds, 3))))


def text(repo: Repository, draw: random.Random) -> None:
    """Content and messages that are slow to redact or to compare."""
    lines = [f"{draw.choice('ab')}{draw.choice('ab')}" for _ in range(9_000)]
    content = draw.choice(
        (
            "-eyJ" * draw.choice((6_000, 60_000, 60_001)),
            "\n".join(lines),
            "\n".join(lines),
            "\x1b[2J<script>" * 1000,
        )
    )
    tree = repo.add_tree([(FILE, b"text", repo.add_blob(content))])
    _put(repo, _below(repo, tree), draw.choice(("-eyJ" * 10_000, "\x1b]0;x\x07", "x" * 100_000)))


REPOSITORIES: dict[str, Callable[[Repository, random.Random], None]] = {
    "deep": deep,
    "names": names,
    "many": many,
    "large": large,
    "modes": modes,
    "text": text,
}


def change(github: GitHub, kinds: list[str], draw: random.Random, done: Done) -> None:
    """One of the repositories has another tree."""
    kind = draw.choice(kinds)
    with github._guard:
        REPOSITORIES[kind](github.repos[f"acme/{kind}"], draw)
        github.requests.clear()
    done[f"repository: {kind}"] += 1


# --- a server -------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def _after(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _bomb() -> bytes:
    body = gzip_of_zeros(50)
    return OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


BOMB = _bomb()
SERVERS: dict[str, tuple[float, Callable[[], Iterator[bytes]]]] = {  # seconds between two pieces
    "dripping head": (0.1, lambda: _after(b"HTTP/1.1 200 OK\r\nX: ", _endless(b"x"))),
    "100 Continue": (0.005, lambda: _endless(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "endless body": (0.005, lambda: _after(OK + b"\r\n", _endless(b"x" * 65536))),
    "dripping body": (0.1, lambda: _after(OK + b"Content-Length: 1000000\r\n\r\n", _endless(b" "))),
    "endless chunks": (
        0.005,
        lambda: _after(
            OK + b"Transfer-Encoding: chunked\r\n\r\n",
            _endless(b"1000\r\n" + b" " * 4096 + b"\r\n"),
        ),
    ),
    "short": (0, lambda: iter([OK + b"Content-Length: 1000\r\n\r\n{}"])),
    "negative": (0, lambda: iter([OK + b"Content-Length: -1\r\n\r\n{}"])),
    "nonsense": (0, lambda: iter([os.urandom(100_000)])),
    "nested": (0, lambda: iter([OK + b"Content-Length: 2000000\r\n\r\n" + b"[" * 2_000_000])),
    "bomb": (0, lambda: iter([BOMB])),
    "error text": (
        0.001,
        lambda: iter(
            [b"HTTP/1.1 500 X\r\nContent-Length: 20000000\r\n\r\n", *[b"-eyJ" * 250_000] * 20]
        ),
    ),
    "redirects": (
        0,
        lambda: iter([b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"]),
    ),
    "silence": (1.0, lambda: _endless(b"")),
}


@contextmanager
def hostile_server(
    stop: threading.Event, kinds: list[str], draw: random.Random, done: Done
) -> Iterator[str]:
    """The URL of a server that answers each connection in another wrong way."""

    def answer(one: socket.socket) -> None:
        kind = draw.choice(kinds)
        done[f"server: {kind}"] += 1
        pause, pieces = SERVERS[kind]
        with one, suppress(OSError):
            one.settimeout(10)
            one.recv(65536)
            for piece in pieces():
                one.sendall(piece)
                if stop.wait(pause):
                    return

    def accept() -> None:
        while not stop.is_set():
            with suppress(OSError):
                one, _ = listening.accept()
                threading.Thread(target=answer, args=(one,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        listening.settimeout(0.2)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


# --- clients of the listener ----------------------------------------------------------------------


class Clients:
    """Hostile ones. `password` is for those who have it and ask too much."""

    def __init__(self, port: int, password: str, draw: random.Random, done: Done) -> None:
        self._port, self._password, self._draw, self._done = port, password, draw, done
        self._held: dict[str, list[socket.socket]] = {"half": [], "unread": []}

    def _connect(self, receive_bytes: int = 65536) -> socket.socket:
        one = socket.socket()
        one.settimeout(5)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            one.connect(("127.0.0.1", self._port))
        except OSError:
            one.close()
            raise
        return one

    def _hold(self, kind: str, most: int, one: socket.socket) -> None:
        held = self._held[kind]
        held.append(one)
        while len(held) > most:
            held.pop(0).close()

    def half(self) -> None:
        """A request that does not end."""
        one = self._connect()
        self._hold("half", 40, one)
        one.sendall(
            self._draw.choice(
                (
                    b"GET / HTTP/1.1\r\nX: ",
                    b"",
                    b"\r\n\r\n",
                    b"POST /github HTTP/1.1\r\nContent-Length: 25000000\r\n\r\nx",
                )
            )
        )
        self._done["client: half a request"] += 1

    def unread(self) -> None:
        """Many requests on one connection, and no answer read."""
        one = self._connect(4096)
        self._hold("unread", 20, one)
        path = self._draw.choice(("/", "/metrics", "/api/v1/status", "/static/syncd.css"))
        one.sendall(
            (
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(self._password)}\r\n\r\n"
            ).encode()
            * 80
        )
        self._done["client: unread answers"] += 1

    def guess(self) -> None:
        """A wrong password, from one address or from many."""
        client = (
            f"203.0.{self._draw.randrange(256)}.{self._draw.randrange(256)}"
            if self._draw.random() < 0.5
            else "203.0.113.5"
        )
        status, _ = ask(self._port, "/", f"guess {self._draw.random()}", client)
        self._done[f"client: a guess, answered {status}"] += 1

    def forge(self) -> None:
        """A delivery with a wrong signature, small or large."""
        body = b"x" * self._draw.choice((10, 10, 10, 1000, 3_000_000))
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with suppress(OSError, http.client.HTTPException):
            connection.request(
                "POST",
                "/github",
                body,
                {**headers_of(body, secret="not the secret"), "X-Forwarded-For": "203.0.113.7"},
            )
            self._done[f"client: a forged delivery, answered {status_of(connection)}"] += 1
        connection.close()

    def flood(self) -> None:
        """A connection, and nothing."""
        self._connect().close()
        self._done["client: a connection"] += 1

    def view(self) -> None:
        """A view of the store, by someone who may."""
        path = self._draw.choice(("/", "/metrics", "/api/v1/status", "/readyz"))
        status, _ = ask(self._port, path, self._password, "192.0.2.77")
        self._done[f"client: a view, answered {status}"] += 1

    def close(self) -> None:
        for one in [*self._held["half"], *self._held["unread"]]:
            one.close()


def status_of(connection: http.client.HTTPConnection) -> int:
    """The status of the answer, which is read to its end."""
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"x:{password}".encode()).decode()


def ask(port: int, path: str, password: str, client: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "GET", path, headers={"Authorization": basic(password), "X-Forwarded-For": client}
        )
        with connection.getresponse() as answer:
            return answer.status, answer.read()
    finally:
        connection.close()


def signed_push(port: int, number: int) -> int:
    """The status of a good delivery, of a repository that no job follows."""
    body = json.dumps(push_event("acme/unknown", hashlib.sha1(b"%d" % number).hexdigest())).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "POST", "/github", body, {**headers_of(body), "X-Forwarded-For": OPERATOR}
        )
        return status_of(connection)
    finally:
        connection.close()


# --- a user of this machine -----------------------------------------------------------------------

NOBODY = 65534
USER = """
import json, os, random, signal, sys, time
# here, where the interpreter is loaded: it may be in a folder of root's
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sticky, home, victim = sys.argv[1:4]
kinds, seed = sys.argv[4].split(","), int(sys.argv[5])
draw, mine = random.Random(seed), os.path.join(sticky, "swapped")
def away(path):
    try: os.rename(path, os.path.join(sticky, f".away{draw.random()}"))
    except OSError: pass
done, over = dict.fromkeys(kinds, 0), []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
while not over:
    kind = draw.choice(kinds)
    name = os.path.join(home, "files", draw.choice(("a", "b")))
    try:
        if kind == "links":
            away(mine)
            if draw.random() < 0.7: os.symlink(victim, mine)
            else: os.makedirs(os.path.join(mine, "files"))
        elif kind == "pipes":
            os.path.lexists(name) and os.unlink(name)
            os.mkfifo(name)
        elif kind == "sparse":
            os.path.lexists(name) and os.unlink(name)
            with open(name, "w") as file: file.truncate(8 << 40)
        elif kind == "hard links":
            os.path.lexists(name) and os.unlink(name)
            os.link(os.path.join(victim, "readable"), name)
        done[kind] += 1
    except OSError: pass
    time.sleep(0.01)
print(json.dumps(done))
"""


@contextmanager
def local_user(
    sticky: Path, home: Path, victim: Path, kinds: list[str], seed: int, done: Done
) -> Iterator[None]:
    """One process of `nobody`, until the block ends."""
    arguments: list[Any] = [
        sys.executable,
        "-I",
        "-c",
        USER,
        sticky,
        home,
        victim,
        ",".join(kinds),
        str(seed),
    ]
    environ: Mapping[str, str] = {"PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        arguments, cwd="/", env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            out, _ = process.communicate(timeout=60)
            done.update({f"user: {kind}": count for kind, count in json.loads(out).items()})
