"""The `Source` of ports: what the engine asks of GitHub, for one identity.

Every read of a run names one commit. ETags that are git ids save requests and are always checked:
where a server sends none, or others, everything still works and only costs more. What is read, and
how it is verified, is in refs, listing and fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import SyncdError
from syncd.github import commits
from syncd.github.concurrency import KeyedLock, ThreadPool
from syncd.github.fetch import BlobFetcher
from syncd.github.graphql_heads import (
    HeadQuestion,
    MissingQuestion,
    confirm_heads,
    still_missing,
)
from syncd.github.lfs import LfsFetcher
from syncd.github.listing import MAX_ENTRIES, TreeLister
from syncd.github.protocol import Transport
from syncd.github.refs import resolve
from syncd.github.request_cache import NotFoundCache, RequestCaches, SingleFlight
from syncd.github.scope import RepositoryScope
from syncd.models import CommitSummary, Listing, PathRule
from syncd.ports import BlobRequest, Blobs, Head, ListingCache, Pointer
from syncd.ref_names import is_check_due

Q = TypeVar("Q")
A = TypeVar("A")


class GitHubSource:
    """One identity's view of GitHub. Safe to use from many threads.

    `max_concurrent` limits the requests in flight over all callers. Heads and listings are
    requested once while `shared` lives; without one, as long as this source does, which suits a
    command. A daemon takes a view `with_cache` for each round. `remaining` returns how many
    requests of a repository's hourly limit are left. There are six parameters, because wiring sets
    each of them and tests set few.
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
        self._transport, self._api, self._max_concurrent = transport, api, max_concurrent
        self._max_entries, self._remaining = max_entries, remaining
        self._pool, self._blob_locks = ThreadPool(max_concurrent), KeyedLock()
        self._caches = RequestCaches(shared or SingleFlight(), NotFoundCache())

    def with_cache(self, shared: SingleFlight) -> GitHubSource:
        """Return the same source with another cache of answers.

        Requests in flight stay limited together.
        """
        view = GitHubSource(
            self._transport,
            self._api,
            self._max_concurrent,
            shared,
            self._max_entries,
            self._remaining,
        )
        view._pool, view._blob_locks = self._pool, self._blob_locks
        view._caches = RequestCaches(shared, self._caches.not_found)
        return view

    def _scope(self, repo: str, deadline: Deadline) -> RepositoryScope:
        return RepositoryScope(self._transport, self._api, repo, deadline, self._pool)

    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        """Return the commit that `ref` names now."""
        missing = self._caches.shared.missing_heads.get((repo.lower(), ref))
        if missing is not None and not deadline.interactive:
            raise missing.with_traceback(None)
        if known is not None and self._is_confirmed(repo, ref, known, deadline):
            return replace(known, unchanged=True)
        head = self._caches.shared.get_or_fetch(
            ("head", repo.lower(), ref),
            lambda: resolve(self._scope(repo, deadline), ref, known),
            deadline,
        )
        return replace(head, unchanged=known is not None and known.commit == head.commit)

    def listing_version(self, head: Head) -> str | None:
        """Return None: what a commit holds never changes."""
        return None

    def _is_confirmed(self, repo: str, ref: str | None, known: Head, deadline: Deadline) -> bool:
        """Return whether `confirm_heads` has just found the known head to be the present one."""
        found = self._caches.shared.unchanged_heads.get((repo.lower(), ref))
        if found is None or (found.commit, found.form) != (known.commit, known.form):
            return False
        return not is_check_due(ref, known.checked_at, deadline.clock.now().timestamp())

    def confirm_heads(
        self, batches: Sequence[Sequence[HeadQuestion]], deadline: Deadline
    ) -> tuple[list[HeadQuestion], SyncdError | None]:
        """Return the questions whose head is as it was known, and the last error.

        Each batch is one query with one token. One that fails leaves the others.
        """
        found, error = self._in_batches(confirm_heads, batches, deadline)
        return [one for batch in found if batch is not None for one in batch], error

    def still_missing(
        self, batches: Sequence[Sequence[MissingQuestion]], deadline: Deadline
    ) -> tuple[dict[MissingQuestion, bool | None], SyncdError | None]:
        """Return of each question whether it is missing, None for unclear, and the last error."""
        found, error = self._in_batches(still_missing, batches, deadline)
        answers: dict[MissingQuestion, bool | None] = {}
        for batch, known in zip(batches, found, strict=True):
            answers |= dict(zip(batch, known or [None] * len(batch), strict=True))
        return answers, error

    def _in_batches(
        self,
        ask: Callable[[Transport, str, Sequence[Q], Deadline], list[A]],
        batches: Sequence[Sequence[Q]],
        deadline: Deadline,
    ) -> tuple[list[list[A] | None], SyncdError | None]:
        """Return the answer to each batch, None for one that failed, and its error."""
        errors: list[SyncdError] = []

        def answer(batch: Sequence[Q]) -> list[A] | None:
            try:
                return ask(self._transport, self._api, batch, deadline)
            except SyncdError as error:
                errors.append(error)
                return None

        return self._pool.map(answer, batches, deadline), errors[-1] if errors else None

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

        The parameters are those of the `Source` protocol.
        """
        max_entries = min(at_most or self._max_entries, self._max_entries)
        scope = self._scope(repo, deadline)
        lister = TreeLister(scope, commit, memory, self._caches, max_entries, tree)
        return Listing(lister.list(rules))

    def fetch(
        self,
        repo: str,
        commit: str,
        wanted: Sequence[BlobRequest],
        blobs: Blobs,
        deadline: Deadline,
    ) -> int:
        """Fetch every wanted blob into `blobs`; return the bytes downloaded."""
        scope = self._scope(repo, deadline)
        fetcher = BlobFetcher(scope, commit, blobs, self._blob_locks, lambda: self._remaining(repo))
        return fetcher.fetch(wanted)

    def verification(self, repo: str, commit: str, deadline: Deadline) -> tuple[bool, str]:
        """Return whether GitHub marks the commit verified, and its reason."""
        return commits.verification(self._scope(repo, deadline), commit)

    def commit_summary(self, repo: str, commit: str, deadline: Deadline) -> CommitSummary:
        """Return the author and the first line of the message of a commit."""
        return self._caches.shared.get_or_fetch(
            ("commit", repo.lower(), commit),
            lambda: commits.commit_summary(self._scope(repo, deadline), commit),
            deadline,
        )

    def commit_object(self, repo: str, commit: str, deadline: Deadline) -> bytes | None:
        """Return the commit as git stores it; None for an unsigned one that can't be rebuilt."""
        return commits.commit_object(self._scope(repo, deadline), commit)

    def tag_object(self, repo: str, name: str, deadline: Deadline) -> bytes | None:
        """Return the annotated tag as git stores it; None where it has no signature."""
        return commits.tag_object(self._scope(repo, deadline), name)

    def history(self, repo: str, commit: str, deadline: Deadline) -> Mapping[str, bytes]:
        """Return id -> object of the commit and of those before it."""
        return commits.history(self._scope(repo, deadline), commit)

    def is_descendant(self, repo: str, before: str, commit: str, deadline: Deadline) -> bool:
        """Return whether `commit` is `before` or follows it."""
        return commits.is_descendant(self._scope(repo, deadline), before, commit)

    def fetch_lfs(
        self, repo: str, pointers: Sequence[Pointer], blobs: Blobs, deadline: Deadline
    ) -> dict[Pointer, str]:
        """Fetch the contents of LFS pointers into `blobs`; return pointer -> git id."""
        return LfsFetcher(self._scope(repo, deadline), blobs).fetch(pointers)

    def close(self) -> None:
        """End the threads; no request may follow."""
        self._pool.close()


__all__ = ["GitHubSource"]
