"""Blobs, brought by whichever way costs least and believed only when they hash to their id.

One by one over the Contents API at the pinned commit, side by side; past `ARCHIVE_THRESHOLD` by the tarball of the commit, where that is not a
whole big repository for a few files. A blob is asked for once, whatever number of paths hold it; what was verified stays, so an
interrupted fetch goes on where it ended.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import (
    BadResponseError,
    NotFoundError,
    RateLimitedError,
    RemoteUnavailableError,
    TimedOutError,
)
from syncd.git_objects import LINK, SUBMODULE, blob_id
from syncd.github import tarball
from syncd.github.bounds import FILE_BYTES, bound_of
from syncd.github.concurrency import KeyedLock, ThreadPool
from syncd.github.error_responses import TooLargeError
from syncd.github.protocol import RAW, Request, Response, Transport, get, quoted, repo_path
from syncd.github.rate_limit import MAX_RESERVED_REQUESTS
from syncd.github.request import ask, stream
from syncd.github.trees import parse_json
from syncd.ports import BlobRequest, Blobs
from syncd.text import in_quotes

ARCHIVE_THRESHOLD = 100
MAX_SIZE_QUERY_FILES = 800  # files that may come singly without meeting the 900 points a minute
MAX_BLOB_BYTES = FILE_BYTES
# A repository this many times larger than what is wanted is not downloaded whole for it: a tarball is a stream of one connection, and
# files come `at_once` side by side, each request costing about as much time as 64 KiB of stream does at 30 ms and 16 at once.
REQUEST_COST_BYTES = 64 << 10
UNKNOWN_SIZE_ALLOWANCE_BYTES = (
    64 << 20
)  # what a repository of unknown size may hold beside that before its tarball stops to pay
JSON_OVERHEAD_BYTES = 64 << 10


class TransportChoice(Struct, frozen=True):
    """How to fetch: by the archive or singly, and why."""

    archive: bool
    reason: str


def choose_transport(
    missing: int,
    missing_bytes: int,
    repository_bytes: int | None = None,
    remaining: int | None = None,
) -> TransportChoice:
    """Whether the tarball of the commit comes first.

    Up to `ARCHIVE_THRESHOLD` files a request each costs a few round trips, side by side, and moves nothing that is not wanted. Past that, requests
    are what is scarce (5,000 an hour, 900 a minute), and a tarball is two. But a tarball holds the whole repository: where its size
    is known and everything that is not wanted outweighs the requests saved, each taken as `REQUEST_COST_BYTES`, the files come singly;
    unless GitHub's hourly budget, of which `remaining` is left, would not last for that and for `MAX_RESERVED_REQUESTS` others.
    """
    if missing <= ARCHIVE_THRESHOLD:
        return TransportChoice(False, f"{missing} files, not more than {ARCHIVE_THRESHOLD}")
    if remaining is not None and missing + MAX_RESERVED_REQUESTS > remaining:
        return TransportChoice(
            True,
            f"{missing} files singly would use up the {remaining} requests that are left this hour",
        )
    if (
        repository_bytes is not None
        and repository_bytes - missing_bytes > missing * REQUEST_COST_BYTES
    ):
        return TransportChoice(
            False, f"{missing} files of {missing_bytes} bytes in a repository of {repository_bytes}"
        )
    return TransportChoice(True, f"{missing} files in two requests")


def should_query_size(missing: int) -> bool:
    """Whether to spend a request on the repository's size: where so many files are missing that a tarball may come, and so few that
    they could come singly within a minute. Past that a tarball is tried in any case, and given up where it turns out too large."""
    return ARCHIVE_THRESHOLD < missing <= MAX_SIZE_QUERY_FILES


class BlobFetcher:
    """Brings the blobs of one commit of one repository."""

    def __init__(
        self,
        transport: Transport,
        api: str,
        repo: str,
        commit: str,
        blobs: Blobs,
        deadline: Deadline,
        pool: ThreadPool,
        blob_locks: KeyedLock,
        remaining: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._transport, self._api, self._repo, self._commit = transport, api, repo, commit
        self._blobs, self._deadline, self._pool = blobs, deadline, pool
        self._blob_locks, self._remaining = blob_locks, remaining

    def fetch(self, wanted: Sequence[BlobRequest]) -> int:
        """Every wanted blob is in `blobs`; the content bytes that were brought.

        Raises:  TooLargeError (a file beyond what GitHub serves; nothing was asked then), BadResponseError (its bytes are not to be had
                 unaltered), and what asking raises. What was verified stays.
        """
        missing_paths = [
            want
            for want in wanted
            if want.entry.mode != SUBMODULE and not self._blobs.has(want.entry.id)
        ]
        missing = {want.entry.id: want for want in missing_paths}
        for want in missing.values():
            if (want.entry.size or 0) > MAX_BLOB_BYTES:
                raise too_large_error(want, self._repo)
        total = sum(want.entry.size or 0 for want in missing.values())
        brought = 0
        repository_bytes = self._repository_bytes() if should_query_size(len(missing)) else None
        if choose_transport(len(missing), total, repository_bytes, self._remaining()).archive:
            # beyond this the files cost less singly, so it also ends a bomb
            brought = self._fetch_archive(
                missing_paths,
                total + 4 * len(missing) * REQUEST_COST_BYTES + UNKNOWN_SIZE_ALLOWANCE_BYTES,
            )
        rest = [want for want in missing.values() if not self._blobs.has(want.entry.id)]
        return brought + sum(self._pool.map(self._fetch_one, rest, self._deadline))

    def _repository_bytes(self) -> int | None:
        """How large GitHub says the repository is; None where it does not say.

        Source: GitHub REST docs, "Get a repository": `size` in kilobytes, reckoned now and then, 0 for a new one. It is git's own
        storage, history included: a hint, like every size that no tree id vouches for.
        """
        request = get(
            self._api, repo_path(self._repo), "repo", f"the size of {self._repo}", self._repo
        )
        try:
            found = parse_json(
                ask(self._transport, request, self._deadline).body, request.subject, "repo"
            )
        except (BadResponseError, NotFoundError):
            return None
        size = found.get("size") if isinstance(found, dict) else None
        return (
            size << 10
            if isinstance(size, int) and not isinstance(size, bool) and size > 0
            else None
        )

    def _fetch_archive(self, missing_paths: Sequence[BlobRequest], max_bytes: int) -> int:
        """What the archive gives unaltered; its failure costs time only, unless it tells something about us or our limits."""
        subject = f"the archive of {self._repo} at {self._commit[:7]}"
        request = get(
            self._api,
            f"{repo_path(self._repo)}/tarball/{self._commit}",
            "tarball",
            subject,
            self._repo,
            cap_bytes=max_bytes,
        )
        # it is compressed already; a second layer would only hide how much it is
        request = replace(
            request,
            headers={**request.headers, "Accept-Encoding": "identity"},
            allow_other_host=True,
        )
        with self._blobs.bulk_writer() as into:
            extractor = tarball.TarExtractor(
                {want.path: want.entry for want in missing_paths},
                into,
                max_bytes,
                self._deadline.check,
            )

            def unpack(response: Response) -> int:
                return extractor.read(response.chunks())

            try:
                stream(self._transport, request, self._deadline, unpack, again=False)
            except (TimedOutError, RateLimitedError):
                raise
            except (RemoteUnavailableError, BadResponseError, NotFoundError):
                self._deadline.check()
        return extractor.kept_bytes

    def _fetch_one(self, want: BlobRequest) -> int:
        """One verified blob: by its path at the commit, else by its id.

        A link goes by its id at once: its path would give the target's bytes. So does a file that came other than it should be, once.
        """
        self._deadline.check()
        with self._blob_locks.locked(want.entry.id, self._deadline):
            return (
                0 if self._blobs.has(want.entry.id) else self._fetch_singly(want)
            )  # another job may have brought it meanwhile

    def _fetch_singly(self, want: BlobRequest) -> int:
        if want.entry.mode != LINK:
            try:
                return self._download(self._contents_request(want), want, want.entry.size)
            except (BadResponseError, TooLargeError, NotFoundError):
                self._deadline.check()
        try:
            # no tree id vouches for a size, and a wrong one from a damaged listing must not stick: here only the bytes count
            return self._download(self._blob_request(want), want, None)
        except TooLargeError as error:
            raise too_large_error(want, self._repo) from error

    def _contents_request(self, want: BlobRequest) -> Request:
        path = f"{repo_path(self._repo)}/contents/{quoted(want.path)}?ref={self._commit}"
        return get(
            self._api,
            path,
            "contents",
            self._subject(want),
            self._repo,
            RAW,
            cap_bytes=max_response_bytes(want.entry.size),
            kind="file",
        )

    def _blob_request(self, want: BlobRequest) -> Request:
        path = f"{repo_path(self._repo)}/git/blobs/{want.entry.id}"
        return get(
            self._api,
            path,
            "blob",
            self._subject(want),
            self._repo,
            RAW,
            cap_bytes=max_response_bytes(want.entry.size, trusted=False),
        )

    def _subject(self, want: BlobRequest) -> str:
        return f"{in_quotes(want.path)} of {self._repo} at {self._commit[:7]}"

    def _download(self, request: Request, want: BlobRequest, size: int | None) -> int:
        def keep(response: Response) -> int:
            try:
                return self._blobs.add(
                    want.entry.id, content_of(response, want.entry.id, request.subject), size
                )
            except BadResponseError as error:
                raise BadResponseError(
                    f"asked for {request.subject}, got {error.message}",
                    status=response.status,
                    request_id=response.headers.get("x-github-request-id"),
                    hint=error.hint or "nothing was changed; the next run asks again",
                ) from error

        return stream(self._transport, request, self._deadline, keep)


def too_large_error(want: BlobRequest, repo: str) -> TooLargeError:
    size = f" has {want.entry.size:,} bytes" if want.entry.size is not None else " is too large"
    return TooLargeError(
        f"{in_quotes(want.path)} of {repo}{size}; GitHub's API serves files up to {MAX_BLOB_BYTES >> 20} MB",
        hint="exclude it, or keep it elsewhere (a release, LFS)",
    )


def max_response_bytes(size: int | None, trusted: bool = True) -> int:
    """The most an answer may have: base64 in JSON is 4/3 of the content and its line ends; the rest of the JSON is small.

    A size that is not trusted may be wrong by one damaged digit, and still bounds what a bomb can make of the answer.
    """
    most = (
        MAX_BLOB_BYTES
        if size is None
        else min(MAX_BLOB_BYTES, size if trusted else 16 * size + (1 << 20))
    )
    return most * 3 // 2 + JSON_OVERHEAD_BYTES


def content_of(response: Response, blob: str, subject: str) -> Iterable[bytes]:
    """The file's bytes, also from servers that answer in the JSON form where raw bytes were asked for."""
    return _from_json(response, blob, subject) if is_json_answer(response) else response.chunks()


def is_json_answer(response: Response) -> bool:
    """Source: GitHub's raw answers say `application/vnd.github.v3.raw; charset=utf-8` or `...raw+json`, whatever the file holds."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return ".raw" not in kind and (kind == "application/json" or kind.endswith("+json"))


# How GitHub's JSON of a file begins, up to the first letters of its content.
JSON_CONTENT = re.compile(
    rb'\A\s*\{[^{}\[\]]{0,20000}?"content"\s*:\s*"(?=(?:[A-Za-z0-9+/=]|\\n){0,4000})'
)
NOT_BASE64 = bytes(
    byte
    for byte in range(256)
    if not (chr(byte).isascii() and chr(byte).isalnum()) and chr(byte) not in "+/="
)


def _from_json(response: Response, blob: str, subject: str) -> Iterator[bytes]:
    """The file in a JSON answer. A small one is read whole; a larger one is decoded as it arrives, so that memory holds little of it."""
    chunks, small = response.chunks(), bound_of("file_json").body_bytes
    begun = bytearray()
    for chunk in chunks:
        begun += chunk
        if len(begun) > small:
            yield from _decode_stream(bytes(begun), chunks)
            return
    yield _decode_whole(bytes(begun), blob, subject)


def _decode_whole(body: bytes, blob: str, subject: str) -> bytes:
    if blob_id(body) == blob:
        return body  # a JSON file, served under its own type
    found = parse_json(body, subject, "file_json")
    content = found.get("content") if isinstance(found, dict) else None
    if isinstance(found, dict) and found.get("encoding") == "none":
        raise TooLargeError(f"{subject} is too large for this answer", status=200)
    if not isinstance(content, str) or found.get("encoding") != "base64":
        raise BadResponseError("JSON that is neither the file nor holds it")
    try:
        return base64.b64decode(content)  # not validate=True: GitHub breaks the text into lines
    except (binascii.Error, ValueError) as error:
        raise BadResponseError("base64 that can't be read") from error


def _decode_stream(begun: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What a large JSON answer holds: the content after "content", else the answer as it is. The blob's id says whether that was right."""
    start = JSON_CONTENT.match(begun)
    if start is None:
        yield begun
        yield from chunks
        return
    left = b""
    for chunk in chain([begun[start.end() :]], chunks):
        text, quote, _ = chunk.partition(b'"')
        # the n of an escaped line end would be taken for a letter; an escape may be cut in two
        text = left + text
        cut = len(text) - 1 if text.endswith(b"\\") else len(text)
        letters = text[:cut].replace(b"\\n", b"").translate(None, NOT_BASE64)
        whole = len(letters) - len(letters) % 4 if not quote else len(letters)
        left = letters[whole:] + text[cut:]
        yield _decode_base64(letters[:whole])
        if quote:
            return
    raise BadResponseError("JSON that is neither the file nor holds it")


def _decode_base64(letters: bytes) -> bytes:
    try:
        return base64.b64decode(letters)
    except (binascii.Error, ValueError) as error:
        raise BadResponseError("base64 that can't be read") from error
