"""The limits of every kind of answer in one table, and the checks that need no network.

Each request takes its limits from `BOUNDS` by its route or `kind`, so one without a row can't be
sent. Bytes are counted twice, as they arrive and as they are decoded. JSON is checked by a scan of
its bytes before anything is built from it. Imports no HTTP library, so that the limits stay when
the transport is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Final

from msgspec import Struct

ERROR_TEXT: Final = 300  # characters of one text of an error answer that are kept
ERROR_BYTES: Final = 64 << 10  # of an error answer's body that are read
FILE_BYTES: Final = (
    100 << 20
)  # docs, "Get repository content" and "Get a blob": neither serves more
TREE_ENTRIES: Final = 1_000_000
PAX_BYTES: Final = (
    64 << 10
)  # of one extended header of an archive, which holds a path and a link target
PAX_HEADERS: Final = 8  # extended headers before one member; git archive writes one
INTERIM_ANSWERS: Final = 8  # 1xx answers before the final one
HEAD_BYTES: Final = (
    256 << 10
)  # of all heads, interim answers, chunk sizes and trailers of one exchange together
CONNECT_SECONDS: Final = 20.0  # for all addresses of a name together
ADDRESSES_TRIED: Final = 8  # of one name
WINDOW: Final = (
    32 << 10
)  # of JSON that is scanned at once; its pieces take some 20 times as much for a moment


class Bound(Struct, frozen=True):
    """The limits of one kind of answer.

    `body_bytes` counts decoded bytes; `items` and `depth` are those of JSON; 0: it is never read as
    JSON. `seconds` is the time for the whole exchange; None: the run's own deadline alone.
    """

    body_bytes: int
    items: int
    depth: int
    seconds: float | None
    what: str

    def wire_bytes(self, body_bytes: int) -> int:
        """Return how many bytes may arrive for a body of at most `body_bytes`, framing included."""
        return body_bytes + body_bytes // 4 + HEAD_BYTES


DEPTH: Final = 32  # GitHub's own answers nest 6 levels
BOUNDS: Final = {
    "app": Bound(
        4 << 20, 100_000, DEPTH, 60, "the App itself, a page of its installations or deliveries"
    ),
    "blob": Bound(
        FILE_BYTES * 3 // 2 + (64 << 10),
        0,
        0,
        None,
        "one file by its id; the size its tree gives bounds it first",
    ),
    "commit": Bound(4 << 20, 10_000, DEPTH, 60, "one commit and its signature"),
    "commits": Bound(32 << 20, 500_000, DEPTH, 60, "100 commits and their signatures"),
    "compare": Bound(32 << 20, 500_000, DEPTH, 60, "how one commit follows another"),
    "contents": Bound(16 << 20, 200_000, DEPTH, 60, "a folder's first 1,000 entries"),
    "delivery": Bound(
        25 << 20, 4_000_000, DEPTH, None, "a webhook's body; a push may list millions of names"
    ),
    "error": Bound(ERROR_BYTES, 5_000, DEPTH, 60, "any answer that is not success"),
    "file": Bound(
        FILE_BYTES * 3 // 2 + (64 << 10),
        0,
        0,
        None,
        "one file by its path; the size its tree gives bounds it first",
    ),
    "file_json": Bound(
        1 << 20, 10_000, DEPTH, None, "a small file in JSON; a larger one is decoded as it arrives"
    ),
    "graphql": Bound(1 << 20, 20_000, DEPTH, 30, "the heads of 100 repositories, about 30 KB"),
    "head": Bound(
        16 << 20,
        200_000,
        DEPTH,
        60,
        "the commit that a ref names; as JSON it lists 300 files with their patches",
    ),
    "installation": Bound(1 << 20, 20_000, DEPTH, 60, "one installation"),
    "lfs": Bound(4 << 20, 20_000, DEPTH, 60, "where 100 LFS objects are"),
    "lfs_object": Bound(1 << 50, 0, 0, None, "one LFS object; the size in its pointer bounds it"),
    "login": Bound(64 << 10, 1_000, DEPTH, 60, "a code to log in with, and tokens"),
    "refs": Bound(1 << 20, 20_000, DEPTH, 60, "100 branches or tags that begin alike"),
    "repo": Bound(1 << 20, 20_000, DEPTH, 60, "one repository"),
    "repositories": Bound(8 << 20, 200_000, DEPTH, 60, "a page of an installation's repositories"),
    "revoke": Bound(64 << 10, 1_000, DEPTH, 60, "the end of a token"),
    "status": Bound(1 << 20, 20_000, DEPTH, 60, "the status of a commit"),
    "tag": Bound(4 << 20, 10_000, DEPTH, 60, "a tag and its signature"),
    "tarball": Bound(
        1 << 40, 0, 0, None, "the archive of a commit; what is wanted of it bounds it first"
    ),
    "token": Bound(
        8 << 20, 200_000, DEPTH, 60, "an installation token, with up to 500 repositories"
    ),
    "tree": Bound(64 << 20, 2_000_000, DEPTH, 300, "a tree of up to 100,000 entries, about 30 MB"),
    "user": Bound(8 << 20, 200_000, DEPTH, 60, "a user, and a page of what the user reaches"),
}


class BeyondBoundError(ValueError):
    """An answer has more of something than its kind may have; the text says of what."""


def bound_of(kind: str) -> Bound:
    """Return the limits of a kind of answer. Raises KeyError for a kind without limits."""
    return BOUNDS[kind]


def load_json(
    body: bytes, kind: str, hook: Callable[[dict[str, Any]], Any] | None = None, pairs: Any = None
) -> Any:
    """Return the JSON value of `body`, which is UTF-8 and within the limits of `kind`.

    Raises ValueError: BeyondBoundError past a limit, else for what is no JSON. RecursionError can't
    happen below the depth.
    """
    check_json(body, bound_of(kind))
    return json.loads(body.decode("utf-8-sig"), object_hook=hook, object_pairs_hook=pairs)


def check_json(body: bytes, bound: Bound) -> None:
    """Raise BeyondBoundError for JSON with too many items or levels, or too long.

    The check is linear, and builds nothing.
    """
    if len(body) > bound.body_bytes:
        raise BeyondBoundError(f"{len(body)} bytes, more than {bound.body_bytes}")
    openers = body.count(b"[") + body.count(b"{")
    if openers <= bound.depth and openers + body.count(b",") <= bound.items:
        return  # as most answers: what is inside strings only makes these counts larger
    items = depth = 0
    for outside in _outside_strings(body):
        marks = outside.translate(_DEPTHS, _NO_MARKS)
        items += outside.count(b",") + marks.count(1)
        if items > bound.items:
            raise BeyondBoundError(f"more than {bound.items} values")
        levels = list(accumulate(map(_STEP.__getitem__, marks), initial=depth))
        if max(levels) > bound.depth:
            raise BeyondBoundError(f"more than {bound.depth} levels")
        depth = levels[-1]


_OPEN, _CLOSE = b"[{", b"]}"
_DEPTHS = bytes(1 if byte in _OPEN else 2 if byte in _CLOSE else 0 for byte in range(256))
_NO_MARKS = bytes(byte for byte in range(256) if byte not in _OPEN + _CLOSE)
_STEP = (0, 1, -1)


def _outside_strings(body: bytes) -> Any:
    """Return what is outside of JSON's strings, window by window.

    A window never ends within an escape.
    """
    position, inside = 0, False
    while position < len(body):
        end = min(position + WINDOW, len(body))
        while end < len(body) and body[end - 1] == 0x5C:
            end += 1
        window, position = body[position:end], end
        if b"\\" in window:
            window = window.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = window.split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) & 1 == 1


def short_repr(value: object) -> str:
    """Return a server's value for a message: printable, and short."""
    if isinstance(value, str):
        return (
            ascii(value[:80] + "…" if len(value) > 80 else value)
            if not value[:81].isprintable()
            else repr(value[:80] + "…" if len(value) > 80 else value)
        )
    if value is None or isinstance(value, (bool, int, float)):
        return (
            repr(value)[:40]
            if not isinstance(value, int) or abs(value) < 10**40
            else "a huge number"
        )
    return f"a {type(value).__name__}"


__all__ = [
    "BOUNDS",
    "BeyondBoundError",
    "Bound",
    "bound_of",
    "check_json",
    "load_json",
    "short_repr",
]
