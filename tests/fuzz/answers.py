"""Fuzzing of tree and contents answers: python -m tests.fuzz.answers -max_total_time=60

The input is what a server says instead of the truth, answer by answer (pieces between empty lines;
an empty piece is the truth). Whatever it is: the listing is that of the commit, or an error with a
name. Nothing else is ever taken for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from msgspec.structs import replace

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.github", "json"):
    from syncd.deadline import Deadline
    from syncd.errors import SyncdError
    from syncd.github.client import GitHubSource
    from syncd.models import PathRule, TreeEntry

from syncd.simulator.faults import Answer
from syncd.simulator.github import GitHub
from syncd.simulator.repository import File, Link, Submodule
from tests.contract.doors import TOKEN, Memory, MemoryTransport
from tests.support.clock import FakeClock

API, BETWEEN = "https://api.test", b"\n\n"
FILES = {
    "nginx/a.conf": "a\n",
    "nginx/run.sh": File(b"#!/bin/sh\n", executable=True),
    "nginx/link": Link("a.conf"),
    "nginx/sites/b.conf": "b\n",
    "nginx/sites/deep/é": "c\n",
    "nginx/module": Submodule("ab" * 20),
    "alone": "alone\n",
}
RULES = (PathRule("nginx", "/srv/nginx", True), PathRule("alone", "/srv/alone", False))


class Scripted(GitHub):
    """Says the pieces in turn, as the bodies of what it would say."""

    def __init__(self) -> None:
        super().__init__(now=lambda: FakeClock().now().timestamp())
        self.primary_limit, self.said, self.pieces = None, list[bytes](), list[bytes]()
        self.add_repo("acme/infra", FILES)
        self.accounts.add_personal_token(TOKEN)

    def handle(self, *arguments: object, **more: object) -> Answer:
        answer = super().handle(*arguments, **more)  # type: ignore[arg-type]
        self.requests.clear()
        self.said.append(answer.body)
        piece = self.pieces.pop(0) if self.pieces else b""
        return replace(answer, body=piece) if piece else answer


HUB = Scripted()
REPO = HUB.repos["acme/infra"]
COMMIT = REPO.head()
KNOWN = {COMMIT, *REPO.trees}


def listed(pieces: list[bytes], plain: bool) -> dict[str, TreeEntry]:
    HUB.pieces, HUB.said, HUB.plain_json = pieces, [], plain
    source = GitHubSource(MemoryTransport(HUB), API, 1)
    try:
        return dict(
            source.listing(
                "acme/infra", COMMIT, RULES, Memory(), Deadline(FakeClock(), 3600)
            ).entries
        )
    finally:
        source.close()


TRUTH = listed([], False)


def _another_root(piece: bytes) -> bool:
    """Whether the answer names a tree of its own, as a server that lies with care would: which tree
    a commit has is GitHub's word.

    A hash is not guessed, but this fuzzer sees what is compared and writes it into its inputs.
    """
    try:
        told = json.loads(piece)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("sha") not in KNOWN


def one(data: bytes) -> None:
    plain, pieces = data[:1] == b"p", data[1:].split(BETWEEN)
    try:
        found = listed(list(pieces), plain)
    except SyncdError as error:
        if error.kind == "internal" or not error.message.isprintable() or len(error.message) > 2000:
            raise AssertionError(f"a poor message: {error.message!r}") from error
        return
    if any(_another_root(piece) for piece in pieces):
        return
    if {path: (entry.mode, entry.id) for path, entry in found.items()} != {
        path: (entry.mode, entry.id) for path, entry in TRUTH.items()
    }:
        raise AssertionError("something else was taken for the truth")


def seeds() -> Iterator[bytes]:
    for plain in (False, True):
        listed([], plain)
        said = HUB.said[:]
        yield (b"p" if plain else b"o") + BETWEEN.join(said)
        for number in range(len(said)):
            yield (b"p" if plain else b"o") + BETWEEN * number + said[number]
    yield b"o" + b'{"sha":"' + b"a" * 40 + b'","truncated":true,"tree":[]}'


WORDS = [
    "sha",
    "tree",
    "path",
    "mode",
    "type",
    "blob",
    "commit",
    "100644",
    "100755",
    "120000",
    "040000",
    "160000",
    "truncated",
    "entries",
    "dir",
    "file",
    "symlink",
    "submodule",
    "null",
    "size",
    "..",
]

if __name__ == "__main__":
    fuzz(one, seeds(), WORDS)
