"""Defines the choices and limits that a job's configuration makes."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Prune(StrEnum):
    """`prune:`: whether files that upstream dropped are removed."""

    TRACKED = "tracked"
    OFF = "off"


class Drift(StrEnum):
    """`drift:`: what happens to files that were changed on this machine."""

    RESTORE = "restore"
    REPORT = "report"
    KEEP = "keep"


class Symlinks(StrEnum):
    """`symlinks:`: what happens to links in the repository."""

    KEEP = "keep"
    SKIP = "skip"
    REFUSE = "refuse"


class Submodules(StrEnum):
    """`submodules:`: what happens to submodules."""

    SKIP = "skip"
    REFUSE = "refuse"


class Lfs(StrEnum):
    """`lfs:`: what happens to files that Git LFS holds."""

    REFUSE = "refuse"
    FETCH = "fetch"
    POINTER = "pointer"


class Publish(StrEnum):
    """`publish:`: how a new set becomes visible."""

    FILES = "files"
    SYMLINK = "symlink"


class Limits(Struct, frozen=True):
    """Where a run stops and asks a person.

    Exactly one of `delete_share` (0..1, counts past 10 removals) and `delete_count` is set.
    """

    delete_share: float | None = 0.5
    delete_count: int | None = None
    files: int = 10_000
    size_bytes: int = 1 << 30
    empty: bool = False


class Require(Struct, frozen=True):
    """`require:`: conditions on a commit.

    `signed_by` is the file of allowed signers. `since` and the commits before it may be unsigned.
    """

    verified: bool = False
    fast_forward: bool = False
    signed_by: str | None = None
    since: str | None = None


class Report(Struct, frozen=True):
    """`report:`: whether a status is set on commits, under which context, and as whom."""

    status: bool = False
    context: str = "syncd/{host}/{job}"
    identity: str | None = None
