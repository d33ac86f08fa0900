"""The check ahead of a full `sync`: nothing to do, or no opinion.

Promises: where it answers, the full run would have found every asked job unchanged, touched nothing and remembered the same. For that
it compares what the last quiet run left in the note (note.py): the configuration's bytes, the store's count of writes, lstat of every
destination, and GitHub's 304 for every head, asked with the very requests that the full run would send. Whatever differs, can't be
read or is not plain ends in no opinion, and what GitHub has said by then is handed to the full run, which does not ask again.

Imports the standard library only and decides nothing else: it is here because importing the full run takes five times as long.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from syncd import __version__
from syncd.trusted_path import exposure, open_judged

FORMAT = 2
NAME = "quick.json"
LARGEST_NOTE = 64 << 20
LARGEST_SECRET = 64 << 10
LARGEST_ANSWER = 64 << 10
A_DAY = 86_400.0  # a full run at least once a day, for what only it does
TIMEOUT_SECONDS = 10.0
TOGETHER_SECONDS = 30.0

Places = Sequence[tuple[str, Sequence[str]]]


class Asked(NamedTuple):
    """What a user typed, as far as the check understands it. `jobs` is empty for all."""

    config: str | None
    quiet: bool
    json: bool
    jobs: tuple[str, ...]


class Reply(NamedTuple):
    """GitHub's answer to one head request; header names in lower case. `question` is what was asked, credential included."""

    question: tuple[str, str, str | None]
    identity: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class InStep(NamedTuple):
    """Every asked job is unchanged, and that is remembered. `jobs`: (name, repo, ref, commit), in the configuration's order."""

    jobs: tuple[tuple[str, str, str | None, str], ...]
    requests: int
    seconds: float
    asked: Asked


def check(arguments: Sequence[str], environ: Mapping[str, str], now: float) -> InStep | list[Reply]:
    """`InStep`, or what GitHub has said on the way to no opinion. `now` is seconds since 1970."""
    asked = understood(arguments, environ)
    if asked is None or asked.config is None or any(name.lower().endswith("_proxy") and value and name.lower() != "no_proxy" for name, value in environ.items()):
        return []
    try:
        note = _note(asked.config, environ, now)
    except (OSError, ValueError, KeyError, TypeError):
        return []  # no note, a damaged one, or one for something else: the full run writes it anew
    jobs = asked.jobs or tuple(note["all"])
    if not set(jobs) <= note["jobs"].keys():
        return []
    return _Check(asked, note, [name for name in note["all"] if name in set(jobs)], environ, now).run()


def understood(arguments: Sequence[str], environ: Mapping[str, str]) -> Asked | None:
    """The plain forms of `sync`; None for every other command or option."""
    config, quiet, as_object, names = environ.get("SYNCD_CONFIG"), False, False, []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        one = rest.pop(0)
        if one in ("-q", "--quiet"):
            quiet = True
        elif one in ("-c", "--config") and rest:
            config = rest.pop(0)
        else:
            return None
    if not rest or rest.pop(0) != "sync":
        return None
    for one in rest:
        if one == "--json":
            as_object = True
        elif one.startswith("-") or not one:
            return None
        else:
            names.append(one)
    return Asked(config or usual_config(environ), quiet, as_object, tuple(names))


def usual_config(environ: Mapping[str, str]) -> str | None:
    """The first of the usual places that stands; the note says again whether it was the one."""
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    for place in ("/etc/syncd/config.yaml", f"{home}/syncd/config.yaml"):
        try:
            os.stat(place)
        except PermissionError:
            return None  # nobody can say whether it is there
        except OSError:
            continue
        return place
    return None


# --- the note ---------------------------------------------------------------------------------------------------------


def _note(config: str, environ: Mapping[str, str], now: float) -> Any:
    """The note for this configuration. Raises ValueError when it is not to be used."""
    content = read_judged(config, LARGEST_NOTE)
    state = state_of(content, config, environ)
    note = read(f"{state}/{NAME}")
    expected = {**configuration(config, content), "environment": environment(environ)}
    if note["configuration"] != expected or note["state"] != [state, os.path.realpath(state)]:
        raise ValueError("the configuration is another one")
    if not note["written_at"] <= now < note["ends_at"]:
        raise ValueError("the note is old")
    found = os.stat(note["store"])
    if note["store_file"] != [found.st_dev, found.st_ino] or os.stat(state).st_uid != os.geteuid():
        raise ValueError("the store is another one")
    return note


def read_judged(file: str, at_most: int) -> bytes:
    """What is in a file that may be obeyed. Raises OSError, or ValueError where another user may write it: the full run says so."""
    descriptor, doubts = open_judged(file)
    with open(descriptor, "rb") as opened:
        if doubts:
            raise ValueError("another user may write it")
        return opened.read(at_most)


def read(file: str, shared: bool = False) -> Any:
    """What the note at `file` holds, whole and written by this version. Raises ValueError or OSError.

    `shared`: root, and the group that the folder's owner lets read it, may read it too; nobody else may have written it.
    """
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
        found = os.fstat(opened.fileno())
        owner, others = (os.stat(os.path.dirname(file)).st_uid, 0o027) if shared else (os.geteuid(), 0o077)
        if found.st_uid != owner or stat.S_IMODE(found.st_mode) & others or found.st_size > LARGEST_NOTE:
            raise ValueError("the note is not ours alone")
        mark, _, body = opened.read().partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != mark:
        raise ValueError("the note is damaged")
    note = json.loads(body)
    if note["written_by"] != written_by():
        raise ValueError("another version wrote the note")
    return note


def write(file: str, value: Mapping[str, Any]) -> None:
    """`read` gives `value` back. Replaced whole; not synced, because what a crash tears does not match its seal. No file where the disk is full."""
    body = json.dumps(value, separators=(",", ":")).encode("ascii")
    temporary = f"{file}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as opened:
            opened.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        os.replace(temporary, file)
    except OSError:
        remove(temporary)
        remove(file)


def remove(file: str) -> None:
    with suppress(OSError):
        os.unlink(file)


def content_digest(file: str, content: bytes) -> str:
    """As config/load.py reckons it over a configuration of one file."""
    return hashlib.sha256(os.fsencode(file) + b"\0" + content + b"\0").hexdigest()


def written_by() -> list[Any]:
    return [FORMAT, __version__, sys.version]


def configuration(path: str, content: bytes) -> dict[str, str]:
    """What makes a configuration file the one that was judged."""
    return {"path": os.path.abspath(path), "real": os.path.realpath(path), "sha256": hashlib.sha256(content).hexdigest()}


def environment(environ: Mapping[str, str]) -> list[str | None]:
    """The variables that decide where the configuration and the state are."""
    return [environ.get(name) for name in ("SYNCD_CONFIG", "STATE_DIRECTORY", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME")]


def state_of(content: bytes, config: str, environ: Mapping[str, str]) -> str:
    """Where the note may be: a guess from a plain `state:` line or the usual places, which the note itself confirms."""
    for line in content.splitlines():
        if line.startswith(b"state:"):
            return line[6:].partition(b" #")[0].strip().strip(b"\"'").decode()
    if environ.get("STATE_DIRECTORY"):
        return environ["STATE_DIRECTORY"].split(":")[0]
    if os.path.realpath(config).startswith("/etc/"):
        return "/var/lib/syncd"
    return (environ.get("XDG_STATE_HOME") or f"{environ.get('HOME', '')}/.local/state") + "/syncd"


def standing(places: Places) -> str:
    """One value for all that lstat says of these folders and of the named files in them. Raises OSError where one is not there."""
    hasher, lstat = hashlib.blake2b(digest_size=16), os.lstat
    for folder, names in places:
        if folder:
            found = lstat(folder)
            hasher.update(b"%d %d %o %d %d\n" % (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid))
        for name in names:
            one = lstat(f"{folder}/{name}" if folder else name)
            hasher.update(b"%d %d %o %d %d %d %d %d\n" % (one.st_dev, one.st_ino, one.st_mode, one.st_uid, one.st_gid, one.st_size, one.st_mtime_ns, one.st_ctime_ns))
    return hasher.hexdigest()


def numbered_as(owners: Mapping[str, Sequence[int | None]]) -> bool:
    """Whether these owners still have these ids. Raises KeyError for a name that does not exist any more."""
    if not owners:
        return True
    from syncd.owners import ids_of

    return all(ids_of(owner) == tuple(ids) for owner, ids in owners.items())


# --- asking -----------------------------------------------------------------------------------------------------------


class Heads:
    """Asks head requests side by side, on kept connections; `replies` has what was answered whole."""

    def __init__(self, heads: Sequence[Mapping[str, Any]], tokens: Sequence[str | None], at_once: int) -> None:
        self._todo = list(zip(heads, tokens, strict=True))[::-1]
        self.replies: list[Reply] = []
        self._guard = threading.Lock()
        self._given_up = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(len(heads), at_once))]
        for thread in self._threads:
            thread.start()

    def wait(self) -> list[Reply]:
        """The replies, when all are there or the time is up. No more is asked after this."""
        ends = time.monotonic() + TOGETHER_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        self._given_up = True
        return list(self.replies)

    def _work(self) -> None:
        line = Line()
        try:
            while not self._given_up:
                with self._guard:
                    if not self._todo:
                        return
                    head, token = self._todo.pop()
                try:
                    self.replies.append(line.ask(head, token))
                except line.trouble():
                    line.hang_up()  # the full run asks again, and says what is wrong if it still is
        finally:
            line.hang_up()


class Line:
    """One connection, kept while the next question is for the same host."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._to: tuple[Any, ...] | None = None

    @staticmethod
    def trouble() -> tuple[type[Exception], ...]:
        from http.client import HTTPException

        return (OSError, ValueError, HTTPException)

    def ask(self, head: Mapping[str, Any], token: str | None) -> Reply:
        """The answer to one head request. Raises what `trouble` lists."""
        scheme, host, port = head["to"]
        kept = self._to == (scheme, host, port)
        if not kept:
            self._call(scheme, host, port, head["trust"])
        headers = {**head["headers"], **({"Authorization": f"Bearer {token}"} if token is not None else {})}
        lines = [f"GET {head['target']} HTTP/1.1", f"Host: {head['host']}", "Accept-Encoding: identity", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        text = "\r\n".join(lines).encode("latin-1")
        try:
            return self._answer(head, headers, text)
        except OSError:
            if not kept:
                raise
            self._call(scheme, host, port, head["trust"])  # it had been closed since
            return self._answer(head, headers, text)

    def _answer(self, head: Mapping[str, Any], headers: Mapping[str, str], text: bytes) -> Reply:
        if self._socket is None:
            raise ValueError("nobody is called")
        self._socket.sendall(text)
        from http.client import HTTPResponse  # loaded while the answer is on its way: it is half of all this costs

        answer = HTTPResponse(self._socket, method="GET")
        try:
            answer.begin()
            body = answer.read(LARGEST_ANSWER + 1)
            if len(body) > LARGEST_ANSWER or not answer.isclosed():
                raise ValueError("a head is shorter")
            if answer.will_close:
                self.hang_up()
            found = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            answer.close()
        return Reply((head["url"], headers["If-None-Match"], headers.get("Authorization")), head["identity"], answer.status, found, body)

    def _call(self, scheme: str, host: str, port: int, trust: str | None) -> None:
        self.hang_up()
        self._socket = socket.create_connection((host, port), TIMEOUT_SECONDS)
        self._to = (scheme, host, port)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if scheme == "https":
            from syncd.tls import client_context

            self._socket = client_context(*filter(None, [trust])).wrap_socket(self._socket, server_hostname=host)

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._to = None, None


# --- the check --------------------------------------------------------------------------------------------------------


class _Check:
    def __init__(self, asked: Asked, note: Any, jobs: list[str], environ: Mapping[str, str], now: float) -> None:
        self._asked, self._note, self._names, self._environ, self._now = asked, note, jobs, environ, now
        self._jobs = [note["jobs"][name] for name in jobs]
        self._began = time.monotonic()

    def run(self) -> InStep | list[Reply]:
        wanted = sorted({job["head"] for job in self._jobs})
        heads = [self._note["heads"][index] for index in wanted]
        locks: list[int] = []
        asking = None
        try:
            tokens = [token_of(head["token"], self._environ) for head in heads]
            locks = [lock(job["lock"]) for job in self._jobs]
            asking = Heads(heads, tokens, self._note["requests_at_once"])
            same = all(standing(job["places"]) == job["standing"] and numbered_as(job["owners"]) for job in self._jobs)
            replies = asking.wait()
            if same and len(replies) == len(heads) and all(reply.status == 304 for reply in replies) and self._remembered(replies):
                jobs = tuple((name, job["repo"], job["ref"], job["commit"]) for name, job in zip(self._names, self._jobs, strict=True))
                return InStep(jobs, len(replies), time.monotonic() - self._began, self._asked)
            return replies
        except (OSError, ValueError, KeyError, TypeError):
            return asking.wait() if asking is not None else []  # no opinion; the full run meets the same trouble and has words for it
        finally:
            for descriptor in locks:
                os.close(descriptor)

    def _remembered(self, replies: Sequence[Reply]) -> bool:
        import sqlite3
        from datetime import UTC, datetime

        from syncd.store.unchanged_runs import record_unchanged

        budgets = {}
        for reply in replies:
            with suppress(KeyError, ValueError, OverflowError, OSError):
                found = reply.headers
                reset = datetime.fromtimestamp(int(found["x-ratelimit-reset"]), UTC)
                if found.get("x-ratelimit-resource", "core") == "core":
                    budgets[reply.identity] = (int(found["x-ratelimit-limit"]), int(found["x-ratelimit-remaining"]), reset.isoformat())
        try:
            return record_unchanged(self._note["store"], self._note["counter"], self._names, budgets, datetime.fromtimestamp(self._now, UTC).isoformat())
        except sqlite3.Error:
            return False


def token_of(source: Sequence[str] | None, environ: Mapping[str, str]) -> str | None:
    """The credential to ask with; None to go without. Raises OSError or ValueError where the full run would have something to say."""
    if source is None:
        return None
    kind, value = source
    if kind == "env":
        text = environ.get(value, "").strip()
    else:
        file = value if kind == "file" else f"{environ.get('CREDENTIALS_DIRECTORY') or '/nowhere'}/{value}"
        descriptor, doubts = open_judged(file)
        with open(descriptor, "rb") as opened:
            found = os.fstat(opened.fileno())
            if doubts or (kind == "file" and stat.S_ISREG(found.st_mode) and exposure(found) is not None):
                raise ValueError("others can write or read it")
            text = opened.read(LARGEST_SECRET).decode("ascii").strip()
    if not text or not all("!" <= letter <= "~" for letter in text):
        raise ValueError("no token looks like this")
    return text


def lock(file: str) -> int:
    """The job's lock, held while the descriptor is open. Raises OSError when another syncd has it."""
    import fcntl

    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
