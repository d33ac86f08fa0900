"""The contents of one commit of a job's repository, fetched into the blob cache when they are
needed.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.errors import MirrorError
from syncd.git_objects import FILE
from syncd.git_objects import LINK as GIT_LINK
from syncd.models import Job, Kind, TreeEntry, WantedFile
from syncd.ports import BlobRequest, Blobs, Pointer, Source


class CommitContents(Struct, frozen=True):
    """Fetches and reads the contents that a commit of the job's repository has."""

    job: Job
    commit: str
    source: Source
    blobs: Blobs
    deadline: Deadline

    def fetch(self, entries: Iterable[WantedFile]) -> int:
        """Fetch the contents of these entries into the cache; return the bytes downloaded."""
        requests = [
            BlobRequest(entry.source, TreeEntry(_git_mode(entry), entry.blob, entry.size))
            for entry in entries
        ]
        return self.source.fetch(self.job.repo, self.commit, requests, self.blobs, self.deadline)

    def fetch_lfs(self, pointers: Iterable[Pointer]) -> dict[Pointer, str]:
        """Fetch what Git LFS holds for these pointers; return pointer -> blob id of its content."""
        return self.source.fetch_lfs(self.job.repo, tuple(pointers), self.blobs, self.deadline)

    def is_cached(self, blob: str) -> bool:
        """Return whether the content is in the cache and whole.

        Content that the disk has damaged is found here, and not while files are being replaced.
        """
        if not self.blobs.has(blob):
            return False
        try:
            self.blobs.open(blob).close()
        except KeyError:
            return False
        return True

    def read(self, entry: WantedFile, max_bytes: int = -1) -> bytes:
        """Return the cached content of the entry, at most `max_bytes` of it. Raises MirrorError."""
        try:
            with self.blobs.open(entry.blob) as content:
                return content.read(max_bytes)
        except (KeyError, OSError) as error:
            raise MirrorError(
                f"the content of {entry.source} can't be read from the cache",
                path=entry.source,
                id="mirror/cache-unreadable",
                hint="run it again; it will be fetched anew",
            ) from error


def _git_mode(entry: WantedFile) -> int:
    return GIT_LINK if entry.kind is Kind.LINK else FILE


__all__ = ["CommitContents"]
