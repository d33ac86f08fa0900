"""Answers of GitHub's with something changed in them, thousands of ways: what comes of it is the
truth, or an error with a name.

Never anything else.

Each round changes one route's answers, in their JSON, bytes, headers or status, once or for good,
and then resolves, lists and fetches as a run does. Seeded, so that a round that fails can be run
again: SYNCD_MUTATIONS=10000 for more of them, SYNCD_MUTATION_SEED=N for one alone.

Not tried: one true id in place of another. A head that names an older commit is what a server is
believed in.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import SyncdError
from syncd.git_objects import blob_id
from syncd.github.auth.app import AppCredentials
from syncd.github.auth.credentials import AuthTransport, StaticToken
from syncd.github.client import GitHubSource
from syncd.github.retry import RetryingTransport
from syncd.models import PathRule, TreeEntry
from syncd.ports import BlobRequest
from syncd.redaction import Secret
from syncd.simulator.faults import Answer
from syncd.simulator.github import GitHub
from syncd.simulator.repository import File, Link, Submodule
from tests.contract.doors import Memory, MemoryBlobs, MemoryTransport
from tests.support.clock import FakeClock
from tests.support.sync_env import app_with_known_key

API = "https://apps.test"
TOKEN = "ghp_" + "m" * 36
ROUNDS = int(os.environ.get("SYNCD_MUTATIONS", "300"))
ONE = os.environ.get("SYNCD_MUTATION_SEED")
ROUTES = ("token", "installation", "head", "contents", "tree", "blob", "tarball", "codeload")
FEW = {
    "nginx/nginx.conf": "one\n",
    "nginx/empty": "",
    "nginx/run.sh": File(b"#!/bin/sh\n", executable=True),
    "nginx/link": Link("nginx.conf"),
    "nginx/sites/a.conf": "a\n",
    "nginx/sites/deep/b.conf": "b\n",
    "nginx/sites/é.conf": "e\n",
    "nginx/data.json": '{"content": "aGk=", "encoding": "base64"}\n',
    "nginx/module": Submodule("ab" * 20),
    "flat/a": "a\n",
    "flat/b": "b\n",
    "alone": "alone\n",
    "other": "never\n",
}
MANY = {**FEW, **{f"nginx/many/f{number:03d}": f"{number}\n" for number in range(120)}}
RULES = (
    PathRule("nginx", "/srv/nginx", True),
    PathRule("flat", "/srv/flat", True),
    PathRule("alone", "/srv/alone", False),
)
Truth = dict[str, tuple[int, str]]


class Hub(GitHub):
    key: str


@cache
def hub(many: bool, plain: bool) -> Hub:
    github = Hub(now=lambda: FakeClock().now().timestamp())
    github.plain_json = plain
    github.primary_limit = (
        1 << 40
    )  # time stands still here: an hour's limit would be all that the later rounds meet
    repo = github.add_repo("acme/infra", MANY if many else FEW)
    repo.commit({"alone": "alone, later\n"})
    github.accounts.add_personal_token(TOKEN)
    github.key = app_with_known_key(github, 12345)
    github.accounts.install(12345, "acme", 42)
    return github


def brought(github: Hub, as_app: bool) -> Truth:
    """What a run would mirror: path -> mode and id, every blob of it here and checked.

    Raises as a run would.
    """
    clock = FakeClock()
    wire, deadline = MemoryTransport(github), Deadline(clock, 3600)
    identity = (
        AppCredentials(
            API,
            "12345",
            Secret(github.key),
            None,
            ["acme/infra"],
            RetryingTransport(wire, clock),
            clock,
        )
        if as_app
        else StaticToken(Secret(TOKEN))
    )
    source = GitHubSource(RetryingTransport(AuthTransport(wire, identity, clock), clock), API, 1)
    head, blobs = source.resolve("acme/infra", "main", None, deadline), MemoryBlobs()
    entries = source.listing("acme/infra", head.commit, RULES, Memory(), deadline).entries
    chosen: dict[str, TreeEntry] = {
        path: entry
        for path, entry in entries.items()
        if path.startswith(("nginx/", "flat/")) or path == "alone"
    }
    source.fetch(
        "acme/infra",
        head.commit,
        [BlobRequest(path, entry) for path, entry in chosen.items() if entry.mode != 0o160000],
        blobs,
        deadline,
    )
    assert all(blob_id(content) == identity for identity, content in blobs.content.items())
    assert all(entry.id in blobs.content for entry in chosen.values() if entry.mode != 0o160000)
    return {path: (entry.mode, entry.id) for path, entry in chosen.items()}


# --- changes --------------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1 << 70,
    1e308,
    "",
    " ",
    "x",
    "..",
    "/",
    "\x00",
    "é" * 300,
    "0" * 40,
    "z" * 40,
    [],
    {},
    [[]],
    {"sha": None},
]
ODD += ["100644", "040000", "tree", "base64", "none", "dir"]


def spots(value: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of everything inside."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        for key in (
            holder
            if isinstance(holder, dict)
            else range(len(holder))
            if isinstance(holder, list)
            else ()
        ):
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def bend(rng: random.Random, value: Any) -> Any:
    """The value, a little other."""
    if isinstance(value, str) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return rng.choice(
            [
                value[:at],
                value[at:],
                value[:at] + rng.choice("0aZ/.\n\x00é\\") + value[at + 1 :],
                value.upper(),
                value * 2,
                f" {value}",
                value[::-1],
                list(value),
            ]
        )
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([value + 1, -value, value * 10, str(value), float(value), 0])
    return rng.choice(ODD)


def bend_json(rng: random.Random, body: bytes) -> bytes:
    try:
        value = copy.deepcopy(json.loads(body))
    except ValueError:
        return bend_bytes(rng, body)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        places = spots(value)
        if not places or rng.random() < 0.05:
            value = bend(rng, value)
            continue
        holder, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(rng.choice(holder)))
            case 2 if isinstance(holder, list):
                rng.shuffle(holder)
            case 3 if isinstance(holder, dict):
                holder[
                    rng.choice(["sha", "type", "mode", "path", "name", "truncated", "content", "x"])
                ] = rng.choice(ODD)
            case 4:
                holder[key] = rng.choice(ODD)
            case _:
                holder[key] = bend(rng, holder[key])
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return rng.choice(
        [
            text,
            text,
            text,
            text + b"]",
            b"\xef\xbb\xbf" + text,
            b"[" * 3000 + text,
            text.replace(b'"', b"'"),
            text.replace(b":", b":NaN,", 1),
            text + text,
        ]
    )


def bend_bytes(rng: random.Random, body: bytes) -> bytes:
    raw = bytearray(body)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(6):
            case 0 if raw:
                raw[at % len(raw)] ^= 1 << rng.randrange(8)
            case 1:
                del raw[at : at + rng.randrange(1, 40)]
            case 2:
                raw[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 3:
                del raw[at:]
            case 4:
                raw[at:at] = raw[: rng.randrange(len(raw) + 1)]
            case _:
                raw = bytearray(
                    rng.choice(
                        [
                            b"",
                            b"<!DOCTYPE html><html>",
                            b"null",
                            b"[]",
                            b"{}",
                            b'""',
                            b"0" * 40,
                            b"\x1f\x8b\x08\x00",
                            bytes(raw) + b"\n",
                            bytes(raw).upper(),
                        ]
                    )
                )
    return bytes(raw)


HEADERS = {
    "content-type": [
        "application/json",
        "text/html",
        "application/vnd.github.raw+json",
        "application/octet-stream",
        "",
        "x" * 300,
    ],
    "etag": ['"' + "0" * 40 + '"', 'W/"x"', "", '"', "é"],
    "date": ["yesterday", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "-1"],
    "x-ratelimit-remaining": ["0", "-1", "many", "9" * 30],
    "x-ratelimit-reset": ["0", "-1", "soon", "9" * 30, "nan"],
    "retry-after": ["0", "-5", "soon", "9" * 30, "inf", "nan"],
    "location": ["/", "http://", "https://[::1", "file:///etc/passwd", "//evil.example/x"],
}
STATUSES = [
    100,
    199,
    201,
    202,
    204,
    205,
    206,
    301,
    302,
    304,
    307,
    400,
    401,
    403,
    404,
    405,
    406,
    408,
    409,
    410,
    413,
    418,
    422,
    429,
    451,
    499,
    500,
    502,
    503,
    504,
    599,
    999,
]


def bend_headers(rng: random.Random, headers: Any) -> dict[str, str]:
    made = dict(headers)
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(list(HEADERS))
        if rng.random() < 0.3:
            made.pop(name, None)
        else:
            made[name] = rng.choice(HEADERS[name])
    return made


def change(rng: random.Random) -> Callable[[Answer], Answer]:
    """One change, the same for every answer it is made to."""
    kind, seed = (
        rng.choice(["json"] * 5 + ["bytes"] * 3 + ["headers", "status", "all"]),
        rng.randrange(1 << 30),
    )

    def act(answer: Answer) -> Answer:
        inner = random.Random(seed)
        if kind in ("json", "all"):
            answer = replace(answer, body=bend_json(inner, answer.body))
        if kind == "bytes":
            answer = replace(answer, body=bend_bytes(inner, answer.body))
        if kind in ("headers", "all"):
            answer = replace(answer, headers=bend_headers(inner, answer.headers))
        if kind in ("status", "all"):
            status = inner.choice(STATUSES)
            answer = replace(
                answer,
                status=status,
                headers=answer.headers
                if status not in (301, 302, 307)
                else {**answer.headers, "location": inner.choice(HEADERS["location"])},
            )
        return answer

    return act


# --- rounds ---------------------------------------------------------------------------------------


def one_round(seed: int) -> str:
    """What came of it: `truth` or the error's kind.

    Raises AssertionError, or whatever nobody caught.
    """
    rng = random.Random(seed)
    route = rng.choice(ROUTES)
    many = route in ("tarball", "codeload")
    github = hub(many, route not in ("tarball", "codeload", "blob") and rng.random() < 0.3)
    as_app = route in ("token", "installation")
    github.faults.clear()
    github.forget_requests()
    github.add_fault(
        route, change(rng), times=rng.choice([1, 1, 10_000]), skip=rng.choice([0, 0, 1, 2])
    )
    try:
        found = brought(github, as_app)
    except SyncdError as error:
        assert error.message and error.message.isprintable() and len(error.message) < 1000, (
            seed,
            error,
        )
        return error.kind
    assert found == truth(many), f"round {seed}: something else was taken for the truth"
    return "truth"


@cache
def truth(many: bool) -> Truth:
    github = hub(many, False)
    repo = github.repos["acme/infra"]
    tree = repo.commits[repo.head()].tree
    return {
        path: (mode, identity)
        for path, mode, identity in repo.walk(tree)
        if mode != 0o040000 and (path.startswith(("nginx/", "flat/")) or path == "alone")
    }


@pytest.mark.parametrize("as_app", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_without_a_change_it_is_the_truth(as_app: bool, plain: bool) -> None:
    github = hub(False, plain)
    github.faults.clear()
    assert brought(github, as_app) == truth(False)


def test_what_is_changed_in_an_answer_is_noticed_or_without_effect() -> None:
    seeds = [int(ONE)] if ONE else range(ROUNDS)
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        try:
            outcomes[one_round(seed)] += 1
        except Exception as error:
            raise AssertionError(
                f"round {seed} (SYNCD_MUTATION_SEED={seed}): {type(error).__name__}: {error}"
            ) from error
    print(dict(outcomes))
    assert ONE or (len(outcomes) >= 4 and outcomes["rate_limited"] < len(seeds) / 10), (
        f"the changes do too little, or something else decides: {outcomes}"
    )
