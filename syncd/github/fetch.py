"""Fetches blobs in the cheapest way, and accepts them only when they hash to their id.

Files are fetched one by one over the Contents API at the commit, several at a time. Past
`ARCHIVE_THRESHOLD` they come from the tarball of the commit, unless that is a whole large
repository for a few files. A blob is requested once, however many paths hold it. Verified blobs
stay, so an interrupted fetch continues where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from syncd.errors import (
    BadResponseError,
    NotFoundError,
    RateLimitedError,
    RemoteUnavailableError,
    TimedOutError,
)
from syncd.git_objects import LINK, SUBMODULE
from syncd.github import tarball
from syncd.github.concurrency import KeyedLock
from syncd.github.error_responses import TooLargeError
from syncd.github.file_content import MAX_BLOB_BYTES, content_of, max_response_bytes
from syncd.github.json_body import parse_json
from syncd.github.protocol import RAW, Request, Response, quote_path
from syncd.github.rate_limit import MAX_RESERVED_REQUESTS
from syncd.github.request import send_and_read, stream
from syncd.github.scope import RepositoryScope
from syncd.ports import SMALL_FILE_BYTES, BlobRequest, Blobs, BlobWriter
from syncd.progress import ProgressListener, Step
from syncd.text import in_quotes

ARCHIVE_THRESHOLD = 100  # files
# Files that can be fetched singly without reaching the limit of 900 points a minute.
MAX_SIZE_QUERY_FILES = 800
# A repository this many times larger than the wanted files is not downloaded whole for them: a
# tarball is a stream of one connection, and files come side by side. Each request costs about as
# much time as 64 KiB of stream does at 30 ms and 16 at once.
REQUEST_COST_BYTES = 64 << 10
# How much a repository of unknown size may hold beside that before its tarball costs more.
UNKNOWN_SIZE_ALLOWANCE_BYTES = 64 << 20


class FetchMethod(Struct, frozen=True):
    """How to fetch: by the archive or singly, and why."""

    use_tarball: bool
    reason: str


def choose_fetch_method(
    missing: int,
    missing_bytes: int,
    repository_bytes: int | None = None,
    remaining: int | None = None,
) -> FetchMethod:
    """Return whether to try the tarball of the commit first.

    Up to `ARCHIVE_THRESHOLD` files, a request for each costs a few round trips, side by side, and
    moves nothing that is not wanted. Past that, requests are scarce (5,000 an hour, 900 a minute),
    and a tarball is two. But a tarball holds the whole repository. Where its size is known and
    everything unwanted outweighs the requests saved, each taken as `REQUEST_COST_BYTES`, the files
    come singly; unless GitHub's hourly limit, of which `remaining` is left, would not last for
    that and for `MAX_RESERVED_REQUESTS` others.
    """
    if missing <= ARCHIVE_THRESHOLD:
        return FetchMethod(False, f"{missing} files, not more than {ARCHIVE_THRESHOLD}")
    if remaining is not None and missing + MAX_RESERVED_REQUESTS > remaining:
        return FetchMethod(
            True,
            f"{missing} files singly would use up the {remaining} requests that are left this hour",
        )
    saved_bytes = missing * REQUEST_COST_BYTES
    if repository_bytes is not None and repository_bytes - missing_bytes > saved_bytes:
        return FetchMethod(
            False, f"{missing} files of {missing_bytes} bytes in a repository of {repository_bytes}"
        )
    return FetchMethod(True, f"{missing} files in two requests")


def should_query_size(missing: int) -> bool:
    """Return whether to spend a request on the repository's size.

    It is worth it where a tarball may be chosen, and where the files could also come singly within
    a minute. Past that a tarball is tried in any case, and given up where it is too large.
    """
    return ARCHIVE_THRESHOLD < missing <= MAX_SIZE_QUERY_FILES


class ReportedWriter(Struct, frozen=True):
    """A BlobWriter that reports what it takes."""

    inner: BlobWriter
    progress: ProgressListener

    def has(self, blob: str) -> bool:
        """Return whether the content is here."""
        return self.inner.has(blob)

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        """Store the content as `BlobWriter.add` does, and report its bytes and the file."""
        if size is None or size > SMALL_FILE_BYTES:
            kept = self.inner.add(blob, counted(chunks, self.progress), size)
            self.progress.advance(files=1)
        else:  # one report, because there may be many such files
            kept = self.inner.add(blob, chunks, size)
            self.progress.advance(files=1, size_bytes=kept)
        return kept


class BlobFetcher:
    """Fetches the blobs of one commit of one repository."""

    def __init__(
        self,
        scope: RepositoryScope,
        commit: str,
        blobs: Blobs,
        blob_locks: KeyedLock,
        remaining: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._scope, self._commit, self._label = scope, commit, scope.at(commit)
        self._blobs, self._blob_locks, self._remaining = blobs, blob_locks, remaining
        self._deadline = scope.deadline

    def fetch(self, wanted: Sequence[BlobRequest]) -> int:
        """Fetch every wanted blob into `blobs`; return the content bytes that were fetched.

        Raises:
            TooLargeError: a file past what GitHub serves; then nothing was requested.
            BadResponseError: a blob's bytes are not available unaltered.

        It also raises what requests raise. Verified blobs stay.
        """
        missing_paths = [
            want
            for want in wanted
            if want.entry.mode != SUBMODULE and not self._blobs.has(want.entry.id)
        ]
        missing = {want.entry.id: want for want in missing_paths}
        for want in missing.values():
            if (want.entry.size or 0) > MAX_BLOB_BYTES:
                raise too_large_error(want, self._scope.repo)
        total = sum(want.entry.size or 0 for want in missing.values())
        fetched, progress = 0, self._deadline.progress
        if missing:
            progress.step(Step.FETCHING, files=len(missing), size_bytes=total)
        size = self._repository_bytes() if should_query_size(len(missing)) else None
        if choose_fetch_method(len(missing), total, size, self._remaining()).use_tarball:
            # past this the files cost less singly, so it also ends a bomb
            allowance = 4 * len(missing) * REQUEST_COST_BYTES + UNKNOWN_SIZE_ALLOWANCE_BYTES
            fetched = self._fetch_archive(missing_paths, total + allowance)
        rest = [want for want in missing.values() if not self._blobs.has(want.entry.id)]
        return fetched + sum(self._scope.pool.map(self._fetch_one, rest, self._deadline))

    def _repository_bytes(self) -> int | None:
        """Return the repository's size as GitHub reports it; None where it does not.

        Source: GitHub REST docs, "Get a repository": `size` in kilobytes, calculated now and then,
        0 for a new one. It is git's own storage, history included: a hint, like every size that no
        tree id verifies.
        """
        request = self._scope.get_request("", "repo", f"the size of {self._scope.repo}")
        try:
            body = send_and_read(self._scope.transport, request, self._deadline).body
            found = parse_json(body, request.subject, "repo")
        except (BadResponseError, NotFoundError):
            return None
        size = found.get("size") if isinstance(found, dict) else None
        if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
            return None
        return size << 10

    def _fetch_archive(self, wanted: Sequence[BlobRequest], max_bytes: int) -> int:
        """Fetch what the archive holds unaltered; return the bytes kept.

        A failure of the archive costs time only, unless it says something about this identity or
        its limits.
        """
        request = self._archive_request(max_bytes)
        entries = {want.path: want.entry for want in wanted}
        with self._blobs.bulk_writer() as into:
            reported = ReportedWriter(into, self._deadline.progress)
            extractor = tarball.TarExtractor(entries, reported, max_bytes, self._deadline.check)

            def extract(response: Response) -> int:
                return extractor.read(response.chunks())

            try:
                stream(self._scope.transport, request, self._deadline, extract, again=False)
            except (TimedOutError, RateLimitedError):
                raise
            except (RemoteUnavailableError, BadResponseError, NotFoundError):
                self._deadline.check()
        return extractor.kept_bytes

    def _archive_request(self, max_bytes: int) -> Request:
        subject = f"the archive of {self._label}"
        request = self._scope.get_request(f"/tarball/{self._commit}", "tarball", subject)
        # it is compressed already; a second layer would only hide how much it is
        headers = {**request.headers, "Accept-Encoding": "identity"}
        return replace(request, headers=headers, cap_bytes=max_bytes, allow_other_host=True)

    def _fetch_one(self, want: BlobRequest) -> int:
        """Fetch one blob and verify it; return the bytes fetched."""
        self._deadline.check()
        with self._blob_locks.locked(want.entry.id, self._deadline):
            # another job may have fetched it meanwhile
            size = 0 if self._blobs.has(want.entry.id) else self._fetch_singly(want)
        self._deadline.progress.advance(files=1)
        return size

    def _fetch_singly(self, want: BlobRequest) -> int:
        """Fetch a blob by its path at the commit, else by its id.

        A link is fetched by its id at once: its path would give the target's bytes. So is a file
        whose path gave other bytes, once.
        """
        if want.entry.mode != LINK:
            try:
                return self._download(self._contents_request(want), want, want.entry.size)
            except (BadResponseError, TooLargeError, NotFoundError):
                self._deadline.check()
        try:
            # no tree id verifies a size, and a wrong one from a damaged listing must not stick:
            # here only the bytes count
            return self._download(self._blob_request(want), want, None)
        except TooLargeError as error:
            raise too_large_error(want, self._scope.repo) from error

    def _contents_request(self, want: BlobRequest) -> Request:
        path = f"/contents/{quote_path(want.path)}?ref={self._commit}"
        request = self._scope.get_request(path, "contents", self._subject(want), RAW)
        return replace(request, cap_bytes=max_response_bytes(want.entry.size), kind="file")

    def _blob_request(self, want: BlobRequest) -> Request:
        path = f"/git/blobs/{want.entry.id}"
        request = self._scope.get_request(path, "blob", self._subject(want), RAW)
        return replace(request, cap_bytes=max_response_bytes(want.entry.size, trusted=False))

    def _subject(self, want: BlobRequest) -> str:
        return f"{in_quotes(want.path)} of {self._label}"

    def _download(self, request: Request, want: BlobRequest, size: int | None) -> int:
        blob = want.entry.id

        def store(response: Response) -> int:
            try:
                content = content_of(response, blob, request.subject)
                return self._blobs.add(blob, counted(content, self._deadline.progress), size)
            except BadResponseError as error:
                raise BadResponseError(
                    f"GitHub answered the request for {request.subject} with {error.message}",
                    id="bad_response/file-mismatch",
                    status=response.status,
                    request_id=response.headers.get("x-github-request-id"),
                    hint=error.hint or "nothing was changed; the next run asks again",
                ) from error

        return stream(self._scope.transport, request, self._deadline, store)


def counted(chunks: Iterable[bytes], progress: ProgressListener) -> Iterator[bytes]:
    """Yield the chunks, and report their bytes."""
    for chunk in chunks:
        progress.advance(size_bytes=len(chunk))
        yield chunk


def too_large_error(want: BlobRequest, repo: str) -> TooLargeError:
    """Return the error for a file that GitHub's API does not serve."""
    size = f" has {want.entry.size:,} bytes" if want.entry.size is not None else " is too large"
    limit = f"GitHub's API serves files up to {MAX_BLOB_BYTES >> 20} MB"
    return TooLargeError(
        f"{in_quotes(want.path)} of {repo}{size}; {limit}",
        id="bad_response/file-too-large",
        hint="exclude it, or keep it elsewhere (a release, LFS)",
    )
