"""The remote side: GitHub as the engine sees it, and the cache that contents are fetched into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.models import CommitSummary, Listing, PathRule, TreeEntry


class Head(Struct, frozen=True):
    """What a ref names now.

    `form` is the spelling that GitHub answered to (`heads/main`, `tags/v1`, a commit id, `HEAD`);
    `etag` is verbatim, with quotes. `unchanged` is True when `commit` is the one that was known
    before. `checked_at` is when a short name was last found to be a branch or a tag and not both,
    in seconds since 1970.
    """

    commit: str
    etag: str | None = None
    form: str | None = None
    unchanged: bool = False
    checked_at: float | None = None


class BlobRequest(Struct, frozen=True):
    """One blob to fetch: any repository path that holds it, and what git says of it."""

    path: str
    entry: TreeEntry


class Pointer(Struct, frozen=True):
    """The content that a Git LFS pointer file names: its sha256, and its size in bytes.

    `path` in the repository names it in messages; two pointers to one content are equal.
    """

    oid: str
    size: int
    path: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pointer) and (other.oid, other.size) == (self.oid, self.size)

    def __hash__(self) -> int:
        return hash((self.oid, self.size))


class ListingCache(Protocol):
    """Listings by tree id.

    A tree id never changes its meaning, so a stored listing is never stale; it is verified when it
    is loaded.
    """

    def load_listing(self, tree: str) -> Mapping[str, TreeEntry] | None:
        """Return every non-tree path below the tree (relative) -> entry, or None."""

    def save_listing(self, tree: str, entries: Mapping[str, TreeEntry]) -> None:
        """Store what `load_listing` returns from now on."""


class BlobWriter(Protocol):
    """Takes contents by git id, and verifies each of them."""

    def has(self, blob: str) -> bool:
        """Return whether the content is here."""

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        """Store the content from a stream; return its number of bytes.

        Raises BadResponseError when it does not hash to `blob`; nothing is stored then.
        """


class PartialDownload(Protocol):
    """A download that can be continued.

    `received_bytes` are here, of the content that the server calls `etag`; that is empty where
    nothing can be continued.
    """

    @property
    def etag(self) -> str:
        """The server's strong ETag of the content, or empty."""

    @property
    def received_bytes(self) -> int:
        """How many bytes of the content are here."""

    def restart(self, etag: str) -> None:
        """Drop what was received: the content comes from its start, under this strong ETag or
        none.
        """

    def complete(self, chunks: Iterable[bytes]) -> str:
        """Append the rest; return the git id of the content.

        Raises BadResponseError when it is other content; nothing is stored then.
        """


class BlobReader(Protocol):
    """Contents by git id, verified when they are read."""

    def open(self, blob: str) -> BinaryIO:
        """Open the content at its start.

        Raises KeyError when it is not here, or turned out to be damaged: then it is gone now.
        """

    def open_unverified(self, blob: str) -> BinaryIO:
        """Open the content without verifying it.

        The caller verifies it while reading, and calls `discard` when it is other content.
        """

    def discard(self, blob: str) -> None:
        """Remove the content."""


class Blobs(BlobReader, BlobWriter, Protocol):
    """Contents by git id, verified when they are added and when they are read."""

    def bulk_writer(self) -> AbstractContextManager[BlobWriter]:
        """Return a writer for one thread that adds many contents one after another.

        Each content is here as soon as it was added.
        """

    def partial_download(self, sha256: str, size: int) -> AbstractContextManager[PartialDownload]:
        """Return the download of content with this sha256, which an earlier run may have begun."""

    def sync(self, blobs: Iterable[str]) -> None:
        """Let these contents survive a power cut, which the others need not. Raises StoreError."""


class Source(Protocol):
    """One identity's view of GitHub. Safe to use from many threads."""

    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        """Return the commit that `ref` names now.

        One request, answered 304 when `known` still holds; one more for a short name that is due
        for a check. Callers of one (repo, ref) share it. Raises ConfigError for a short name that
        is both a branch and a tag.
        """

    def listing_version(self, head: Head) -> str | None:
        """Return what changes with the listing of the head's commit; None where it never does."""

    def listing(
        self,
        repo: str,
        commit: str,
        rules: Sequence[PathRule],
        memory: ListingCache,
        deadline: Deadline,
        at_most: int | None = None,
        tree: str | None = None,
    ) -> Listing:
        """Return every path that the rules list, complete and verified.

        With `tree`, the commit's tree as a signed object names it, everything is verified up to
        that one. Raises NotFoundError, which names the listed path that is missing, and LimitError
        as soon as there are more than `at_most` files and directories. Seven parameters: five say
        what to list, two what the run may spend on it.
        """

    def fetch(
        self,
        repo: str,
        commit: str,
        wanted: Sequence[BlobRequest],
        blobs: Blobs,
        deadline: Deadline,
    ) -> int:
        """Fetch every wanted blob into `blobs`; return the bytes downloaded.

        What was verified stays, whatever fails after it.
        """

    def verification(self, repo: str, commit: str, deadline: Deadline) -> tuple[bool, str]:
        """Return whether GitHub marks the commit as verified, and its reason."""

    def commit_summary(self, repo: str, commit: str, deadline: Deadline) -> CommitSummary:
        """Return the author and the first line of the message of a commit.

        One request; callers of one commit share it.
        """

    def commit_object(self, repo: str, commit: str, deadline: Deadline) -> bytes | None:
        """Return the commit as git stores it, checked by its id.

        None for a commit that GitHub calls unsigned and whose object it does not give. Raises
        BadResponseError where the answer is about another object.
        """

    def tag_object(self, repo: str, name: str, deadline: Deadline) -> bytes | None:
        """Return the annotated tag as git stores it, checked by its id.

        None where the tag is not annotated or has no signature.
        """

    def history(self, repo: str, commit: str, deadline: Deadline) -> Mapping[str, bytes]:
        """Return id -> object of the commit and of commits before it, each checked by its id.

        It is as long as GitHub's listing allows, and may lack some.
        """

    def is_descendant(self, repo: str, before: str, commit: str, deadline: Deadline) -> bool:
        """Return whether `commit` is `before` or follows it."""

    def fetch_lfs(
        self, repo: str, pointers: Sequence[Pointer], blobs: Blobs, deadline: Deadline
    ) -> dict[Pointer, str]:
        """Fetch what the pointers name into `blobs`; return pointer -> git id of its content."""


__all__ = [
    "BlobReader",
    "BlobRequest",
    "BlobWriter",
    "Blobs",
    "Head",
    "ListingCache",
    "PartialDownload",
    "Pointer",
    "Source",
]
