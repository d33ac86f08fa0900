"""The verbs the engine needs of GitHub, for one identity: resolve a ref, list the paths of a commit, fetch blobs.

Every read of a run names one commit. ETags that are git ids are a fast path and always checked: where a server sends none, or others,
everything still works and only costs more. What is read, and how it is proven, is in heads, listing and fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.github import commits
from syncd.github.concurrency import KeyedLock, ThreadPool
from syncd.github.fetch import BlobFetcher
from syncd.github.lfs import LfsFetcher
from syncd.github.listing import MAX_ENTRIES, TreeLister
from syncd.github.protocol import Transport
from syncd.github.refs import resolve
from syncd.github.request_cache import NotFoundCache, SingleFlight
from syncd.models import Listing, PathRule
from syncd.ports import BlobRequest, Blobs, Head, ListingCache, Pointer


class GitHubSource:
    """One identity's view of GitHub; the `Source` of ports. Safe to use from many threads.

    `max_concurrent` bounds the requests in flight over all callers. Heads and listings are asked for once while `shared` lives: without one
    given, as long as this source does, which suits a command; a daemon takes a `ticking` view for each tick.
    """

    def __init__(
        self,
        transport: Transport,
        api: str,
        max_concurrent: int,
        shared: SingleFlight | None = None,
        max_entries: int = MAX_ENTRIES,
        remaining: Callable[[str], int | None] = lambda repo: None,
    ) -> None:
        self._transport, self._api, self._max_concurrent, self._max_entries, self._remaining = (
            transport,
            api,
            max_concurrent,
            max_entries,
            remaining,
        )
        self._shared = shared or SingleFlight()
        self._pool, self._blob_locks, self._not_found = (
            ThreadPool(max_concurrent),
            KeyedLock(),
            NotFoundCache(),
        )

    def with_cache(self, shared: SingleFlight) -> GitHubSource:
        """The same source, sharing answers within `shared` alone; requests in flight stay bounded together."""
        view = GitHubSource(
            self._transport,
            self._api,
            self._max_concurrent,
            shared,
            self._max_entries,
            self._remaining,
        )
        view._pool, view._blob_locks, view._not_found = (
            self._pool,
            self._blob_locks,
            self._not_found,
        )
        return view

    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        head = self._shared.get_or_fetch(
            ("head", repo.lower(), ref),
            lambda: resolve(self._transport, self._api, repo, ref, known, deadline),
            deadline,
        )
        return replace(head, unchanged=known is not None and known.commit == head.commit)

    def listing(
        self,
        repo: str,
        commit: str,
        rules: Sequence[PathRule],
        memory: ListingCache,
        deadline: Deadline,
        at_most: int | None = None,
    ) -> Listing:
        lister = TreeLister(
            self._transport,
            self._api,
            repo,
            commit,
            memory,
            deadline,
            self._pool,
            self._shared,
            self._not_found,
            min(at_most or self._max_entries, self._max_entries),
        )
        return Listing(lister.list(rules))

    def fetch(
        self,
        repo: str,
        commit: str,
        wanted: Sequence[BlobRequest],
        blobs: Blobs,
        deadline: Deadline,
    ) -> int:
        return BlobFetcher(
            self._transport,
            self._api,
            repo,
            commit,
            blobs,
            deadline,
            self._pool,
            self._blob_locks,
            lambda: self._remaining(repo),
        ).fetch(wanted)

    def verification(self, repo: str, commit: str, deadline: Deadline) -> tuple[bool, str]:
        return commits.verification(self._transport, self._api, repo, commit, deadline)

    def is_descendant(self, repo: str, before: str, commit: str, deadline: Deadline) -> bool:
        return commits.is_descendant(self._transport, self._api, repo, before, commit, deadline)

    def fetch_lfs(
        self, repo: str, pointers: Sequence[Pointer], blobs: Blobs, deadline: Deadline
    ) -> dict[Pointer, str]:
        return LfsFetcher(self._transport, self._api, repo, blobs, deadline, self._pool).fetch(
            pointers
        )

    def close(self) -> None:
        """The threads are gone. Nobody asks any more."""
        self._pool.close()


__all__ = ["GitHubSource"]
