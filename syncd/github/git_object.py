"""Rebuilds commits and annotated tags as git stores them, from what the REST API says of them.

The API gives an object in parts: a signature and what it was made over, or the fields of an
unsigned commit. What is put together is used only where its id is the one that was asked for, so
every byte of it is git's, whatever the server says. Pure: no I/O.

Source: REST docs, "Get a commit object", "List commits" and "Get a tag"; gitformat-signature(5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import product
from typing import Any

from syncd.git_objects import object_id

# The API gives times in UTC; the object has the author's and the committer's own offset.
OFFSETS = (
    *(f"{hours:+03d}00" for hours in range(-12, 15)),
    *("-0000", "-0930", "-0330", "-0230", "+0330", "+0430", "+0530", "+0545", "+0630"),
    *("+0845", "+0930", "+1030", "+1245"),
)
MAX_HEADERS = 64


def rebuild_commit(identity: str, answer: Mapping[str, Any]) -> bytes | None:
    """Return the commit object with this id; None where the answer does not lead to it.

    `answer` is GitHub's commit object: `tree`, `parents`, `author`, `committer`, `message` and
    `verification`.
    """
    for candidate in (*_signed_commits(answer), *_unsigned_commits(answer)):
        if object_id("commit", candidate) == identity:
            return candidate
    return None


def rebuild_tag(identity: str, answer: Mapping[str, Any]) -> bytes | None:
    """Return the signed annotated tag with this id; None where the answer does not lead to it."""
    payload, signature = _verification(answer)
    if payload is None or signature is None:
        return None
    for ending in ("", "\n"):
        candidate = _encoded(payload + signature + ending)
        if object_id("tag", candidate) == identity:
            return candidate
    return None


def is_said_unsigned(answer: Mapping[str, Any]) -> bool:
    """Return whether GitHub says that the object has no signature."""
    found = answer.get("verification")
    return isinstance(found, dict) and found.get("reason") == "unsigned"


def _verification(answer: Mapping[str, Any]) -> tuple[str | None, str | None]:
    found = answer.get("verification")
    found = found if isinstance(found, dict) else {}
    payload, signature = found.get("payload"), found.get("signature")
    return (
        payload if isinstance(payload, str) else None,
        signature if isinstance(signature, str) else None,
    )


def _signed_commits(answer: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the payload with the signature's header in each place, the last one first.

    git adds it after all other headers; other programs may not. GitHub's own signatures end with
    an empty line.
    """
    payload, signature = _verification(answer)
    if payload is None or signature is None:
        return
    head, blank, body = payload.partition("\n\n")
    lines = head.split("\n")
    if len(lines) > MAX_HEADERS:
        return
    for ending in ("", "\n", "\n\n"):
        header = "gpgsig " + (signature.rstrip("\n") + ending).replace("\n", "\n ")
        for place in range(len(lines), 0, -1):
            if place < len(lines) and lines[place].startswith(" "):
                continue  # inside a header of several lines
            whole = "\n".join([*lines[:place], header, *lines[place:]])
            yield _encoded(whole + blank + body)


def _unsigned_commits(answer: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the commit that the fields describe, in each pair of offsets.

    Those where author and committer are in one offset come first: nearly all commits are like
    that.
    """
    try:
        head = [f"tree {answer['tree']['sha']}"]
        head += [f"parent {parent['sha']}" for parent in answer["parents"]]
        author, committer = _person(answer["author"]), _person(answer["committer"])
        message = answer["message"]
        start = "\n".join(head)
    except (KeyError, TypeError, ValueError):
        return
    if not isinstance(message, str):
        return
    same = [(offset, offset) for offset in OFFSETS]
    pairs = same + [pair for pair in product(OFFSETS, OFFSETS) if pair[0] != pair[1]]
    for one, other in pairs:
        people = f"{start}\nauthor {author} {one}\ncommitter {committer} {other}\n\n{message}"
        yield _encoded(people + "\n")
        yield _encoded(people)


def _person(answer: Mapping[str, Any]) -> str:
    at = datetime.fromisoformat(answer["date"])
    return f"{answer['name']} <{answer['email']}> {int(at.timestamp())}"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
