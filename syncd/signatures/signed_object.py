"""Takes git's commit and tag objects apart: what was signed, the signature, and what they name.

The object is checked by its id before it comes here, so its bytes are git's. Anything unusual, such
as a header that is there twice, is refused: it may mean one thing here and another to git. Pure: no
I/O.

Source: gitformat-signature(5), and the format of commit and tag objects in "Git Internals".
"""

from __future__ import annotations

import re

from msgspec import Struct

from syncd.git_objects import is_object_id

SIGNATURE_HEADER = b"gpgsig"
TAG_SIGNATURE = re.compile(
    rb"^-----BEGIN (?:SSH SIGNATURE|PGP SIGNATURE|SIGNED MESSAGE)-----$", re.M
)
SIGNED_AT = re.compile(rb"> (\d{1,12}) [+-]\d{4}\Z")
ONCE = (b"tree", b"author", b"committer", b"object", b"type", b"tag", b"tagger")


class ObjectError(ValueError):
    """The object is not one that git makes."""


class SignedObject(Struct, frozen=True):
    """A commit or tag. `signature` is None where it has none.

    `names` are its headers; `signed_at` is the committer's or tagger's time in Unix seconds.
    """

    payload: bytes
    signature: str | None
    names: dict[str, str]
    signed_at: int


def parse_commit(raw: bytes) -> SignedObject:
    """Return the parts of a commit object. Raises ObjectError."""
    head, blank, body = raw.partition(b"\n\n")
    headers = _headers(head)
    names = _names(headers)
    if headers[0][0] != b"tree" or not is_object_id(names.get("tree", "")) or not blank:
        raise ObjectError("the commit does not begin with its tree")
    signatures = [value for name, value, _ in headers if name == SIGNATURE_HEADER]
    if any(name == b"gpgsig-sha256" for name, _, _ in headers) or len(signatures) > 1:
        raise ObjectError("the commit has several signatures")
    signed = b"\n".join(line for name, _, line in headers if name != SIGNATURE_HEADER)
    return SignedObject(
        signed + blank + body,
        signatures[0].decode("ascii", "replace") if signatures else None,
        names,
        _time_of(headers, b"committer"),
    )


def parse_tag(raw: bytes) -> SignedObject:
    """Return the parts of an annotated tag. Raises ObjectError."""
    begins = [found.start() for found in TAG_SIGNATURE.finditer(raw)]
    end = begins[-1] if begins else len(raw)  # as in git, the last one counts
    headers = _headers(raw[:end].partition(b"\n\n")[0])
    names = _names(headers)
    if [name for name, _, _ in headers[:3]] != [b"object", b"type", b"tag"]:
        raise ObjectError("the tag does not begin with what it names")
    signature = raw[end:].decode("ascii", "replace") if begins else None
    return SignedObject(raw[:end], signature, names, _time_of(headers, b"tagger"))


def parents_of(raw: bytes) -> tuple[str, ...]:
    """Return the parents of a commit object."""
    headers = _headers(raw.partition(b"\n\n")[0])
    return tuple(
        value.decode("ascii", "replace") for name, value, _ in headers if name == b"parent"
    )


def _headers(head: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return (name, value without folding, the header as it is) of each header."""
    found: list[tuple[bytes, bytes, bytes]] = []
    for line in head.split(b"\n"):
        if line.startswith(b" ") and found:
            name, value, whole = found.pop()
            found.append((name, value + b"\n" + line[1:], whole + b"\n" + line))
        else:
            name, _, value = line.partition(b" ")
            found.append((name, value, line))
    return found


def _names(headers: list[tuple[bytes, bytes, bytes]]) -> dict[str, str]:
    """Return the headers that may be there once. Raises ObjectError if one is there twice."""
    found: dict[str, str] = {}
    for name, value, _ in headers:
        if name not in ONCE:
            continue
        if name.decode() in found:
            raise ObjectError(f"the header {name.decode()} is there twice")
        found[name.decode()] = value.decode("utf-8", "replace")
    return found


def _time_of(headers: list[tuple[bytes, bytes, bytes]], header: bytes) -> int:
    for name, value, _ in headers:
        if name == header and (found := SIGNED_AT.search(value)) is not None:
            return int(found[1])
    raise ObjectError(f"the header {header.decode()} has no time")
