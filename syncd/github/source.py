"""The verbs the engine needs of GitHub, for one identity: resolve a ref, list the paths of a commit, bring blobs.

Every read of a run names one commit. ETags that are git ids are a fast path and always checked: where a server sends none, or others,
everything still works and only costs more.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from syncd.clock import Patience
from syncd.engine.ports import Blobs, Head, ListingMemory, Wanted
from syncd.errors import BadResponseError, BrakeError, NotFoundError, RemoteError, RemoteUnavailableError, SyncdError
from syncd.github import archive
from syncd.github.listing import Lister
from syncd.github.protocol import RAW, SHA, Request, Response, TooLargeError, Transport, failure, get, quoted, read, refusal, repo_path
from syncd.models import Listing, PathRule, TreeEntry
from syncd.objects import LINK, is_object_id

MANY = 100  # past this many blobs one archive is cheaper than a request each (docs/decisions/0004)
BLOB_LIMIT = 100 << 20  # docs: neither Contents nor Blobs serve more
SHA_CAP = 4 << 20  # a JSON commit where text was asked for lists up to 300 files
ARCHIVE_CAP = 8 << 30


class SharedHeads:
    """One head request per (repository, ref) for all who ask while this object lives: a command, or one tick of the daemon."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._asked: dict[tuple[str, str | None], Future[Head]] = {}

    def once(self, repo: str, ref: str | None, ask: Callable[[], Head], patience: Patience) -> Head:
        with self._guard:
            found = self._asked.get((repo.lower(), ref))
            mine = found is None
            if found is None:
                found = self._asked[repo.lower(), ref] = Future()
        if mine:
            try:
                found.set_result(ask())
            except BaseException as error:
                found.set_exception(error)
                raise
        while not found.done():
            wait([found], timeout=0.5)
            patience.check()
        return found.result()


class GitHubSource:
    def __init__(self, transport: Transport, api: str, at_once: int, heads: SharedHeads | None = None) -> None:
        self._transport, self._api, self._at_once = transport, api, at_once
        self._heads = heads or SharedHeads()

    # --- resolve ------------------------------------------------------------------------------------------------------

    def resolve(self, repo: str, ref: str | None, known: Head | None, patience: Patience) -> Head:
        return self._heads.once(repo, ref, lambda: self._resolve(repo, ref, known, patience), patience)

    def _resolve(self, repo: str, ref: str | None, known: Head | None, patience: Patience) -> Head:
        spellings = forms(ref)
        if known is not None and known.form in spellings:
            spellings = [known.form, *(form for form in spellings if form != known.form)]
        missing: SyncdError | None = None
        for form in spellings:
            try:
                return self._ask(repo, ref, form, known, patience)
            except NotFoundError as error:
                if error.status == 409:
                    raise
                missing = error
        raise NotFoundError(
            f"there is no branch, tag or commit {ref or 'HEAD'!r} in {repo}", status=422, request_id=missing.request_id if missing else None,
            hint="correct ref:, or create it; the files stay as they are until then",
        )  # fmt: skip

    def _ask(self, repo: str, ref: str | None, form: str, known: Head | None, patience: Patience) -> Head:
        tags = [f'"{known.commit}"'] + ([known.etag] if known.etag and known.etag.strip('W/"') != known.commit else []) if known is not None else []
        request = get(self._api, f"{repo_path(repo)}/commits/{quoted(form)}", "head", f"{ref or 'the default branch'} of {repo}", repo, SHA, ", ".join(tags) or None, SHA_CAP)
        answer = self._transport.send(request, patience)
        if answer.status == 304 and known is not None:
            answer.close()
            return Head(known.commit, known.etag, form, unchanged=True)
        if answer.status != 200:
            raise failure(request, refusal(answer), patience.clock.now())
        commit = _commit_id(request, read(answer))
        if is_object_id(ref or "") and commit != ref:
            raise BadResponseError(f"asked for the commit {ref} of {repo}, got {commit}", status=200, hint="nothing was changed")
        return Head(commit, answer.headers.get("etag"), form, unchanged=known is not None and known.commit == commit)

    # --- listing ------------------------------------------------------------------------------------------------------

    def listing(self, repo: str, commit: str, rules: Sequence[PathRule], memory: ListingMemory, patience: Patience) -> Listing:
        return Listing(Lister(self._transport, self._api, repo, commit, memory, patience).list(rules))

    # --- blobs --------------------------------------------------------------------------------------------------------

    def fetch(self, repo: str, commit: str, wanted: Sequence[Wanted], blobs: Blobs, patience: Patience) -> int:
        missing = list({want.entry.id: want for want in wanted if not blobs.has(want.entry.id)}.values())
        for want in missing:
            if (want.entry.size or 0) > BLOB_LIMIT:
                raise BrakeError(f"{want.path} of {repo} has {want.entry.size} bytes; GitHub's API serves at most {BLOB_LIMIT}", hint="exclude it, or keep it elsewhere")
        got = 0
        if len(missing) > MANY:
            got += self._by_archive(repo, commit, missing, blobs, patience)
            missing = [want for want in missing if not blobs.has(want.entry.id)]
        return got + self._singly(repo, commit, missing, blobs, patience)

    def _by_archive(self, repo: str, commit: str, missing: Sequence[Wanted], blobs: Blobs, patience: Patience) -> int:
        """What the archive gives; its failure costs time only."""
        request = get(self._api, f"{repo_path(repo)}/tarball/{commit}", "tarball", f"the archive of {repo} at {commit[:7]}", repo, cap_bytes=ARCHIVE_CAP)
        request = Request(request.method, request.url, request.route, request.subject, repo, {**request.headers, "Accept-Encoding": "identity"}, None, ARCHIVE_CAP, True, True)
        try:
            answer = self._transport.send(request, patience)
            if answer.status != 200:
                answer.close()
                return 0
            return archive.unpack(answer.chunks(), {want.path: want.entry for want in missing}, blobs)
        except (RemoteUnavailableError, BadResponseError, NotFoundError):
            patience.check()
            return 0

    def _singly(self, repo: str, commit: str, missing: Sequence[Wanted], blobs: Blobs, patience: Patience) -> int:
        if not missing:
            return 0
        if len(missing) == 1:
            return self._one(repo, commit, missing[0], blobs, patience)
        with ThreadPoolExecutor(max_workers=min(self._at_once, len(missing)), thread_name_prefix="syncd-blob") as pool:
            futures = [pool.submit(self._one, repo, commit, want, blobs, patience) for want in missing]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                future.cancel()
        for future in done:
            future.result()
        return sum(future.result() for future in futures)

    def _one(self, repo: str, commit: str, want: Wanted, blobs: Blobs, patience: Patience) -> int:
        """One verified blob. By its path at the commit; by its id for links (the path would give the target's bytes) and when the path gave other bytes."""
        if want.entry.mode != LINK:
            try:
                return self._stream(self._contents(repo, commit, want), want.entry, blobs, patience)
            except (BadResponseError, TooLargeError):
                patience.check()
        return self._stream(self._blob(repo, want), want.entry, blobs, patience)

    def _contents(self, repo: str, commit: str, want: Wanted) -> Request:
        return get(self._api, f"{repo_path(repo)}/contents/{quoted(want.path)}?ref={commit}", "contents", f"{want.path} of {repo}", repo, RAW, cap_bytes=_cap(want.entry))

    def _blob(self, repo: str, want: Wanted) -> Request:
        return get(self._api, f"{repo_path(repo)}/git/blobs/{want.entry.id}", "blob", f"{want.path} of {repo}", repo, RAW, cap_bytes=_cap(want.entry))

    def _stream(self, request: Request, entry: TreeEntry, blobs: Blobs, patience: Patience) -> int:
        for attempt in range(3):
            answer = self._transport.send(request, patience)
            if answer.status != 200:
                raise failure(request, refusal(answer), patience.clock.now())
            try:
                chunks = _decoded(request, answer)
                return blobs.add(entry.id, chunks, None if chunks is not None and _is_json(answer) else entry.size)
            except RemoteUnavailableError:
                if attempt == 2:
                    raise
                patience.wait(0.2 * 2**attempt)
            except BadResponseError as error:
                raise BadResponseError(f"asked for {request.subject}, got {error.message}", status=200, hint=error.hint, request_id=answer.headers.get("x-github-request-id")) from error
            finally:
                answer.close()
        raise RemoteError(f"asked for {request.subject} in vain")


def forms(ref: str | None) -> list[str]:
    """The spellings under which GitHub may know a ref, in the order they are asked. A branch wins over a tag of the same name."""
    if ref is None:
        return ["HEAD"]
    if is_object_id(ref):
        return [ref]
    if ref.startswith("refs/"):
        return [ref.removeprefix("refs/")]
    return [f"heads/{ref}", f"tags/{ref}", ref]


def _commit_id(request: Request, body: bytes) -> str:
    text = body.strip()
    if text[:1] == b"{":
        try:
            found = json.loads(text)
            text = str(found.get("sha", "")).encode()
        except (ValueError, AttributeError, RecursionError):
            text = b""
    commit = text.decode("ascii", "replace")
    if not is_object_id(commit):
        what = "a web page (a proxy or a sign-in page?)" if text[:1] == b"<" else "something that is no commit id"
        raise BadResponseError(f"asked for {request.subject}, got {what}", status=200, hint="nothing was changed; the next run asks again")
    return commit


def _cap(entry: TreeEntry) -> int:
    """Base64 in JSON is 4/3 of the content and its line ends; the rest of the JSON is small."""
    return (entry.size * 3 // 2 if entry.size is not None else BLOB_LIMIT * 3 // 2) + (64 << 10)


def _is_json(answer: Response) -> bool:
    kind = answer.headers.get("content-type", "")
    return kind.startswith("application/json") or (".raw" not in kind and "+json" in kind)


def _decoded(request: Request, answer: Response) -> Iterable[bytes]:
    """The content of a file, also from servers that answer the JSON form where raw bytes were asked for."""
    return _from_json(request, answer) if _is_json(answer) else answer.chunks()


def _from_json(request: Request, answer: Response) -> Iterator[bytes]:
    body = read(answer)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        yield body  # the file itself is JSON, or not even that: its id decides
        return
    if isinstance(found, dict) and found.get("encoding") == "base64" and isinstance(found.get("content"), str):
        try:
            content = base64.b64decode(found["content"])
        except binascii.Error as error:
            raise BadResponseError("base64 that can't be read") from error
        yield content
        return
    if isinstance(found, dict) and found.get("encoding") == "none":
        raise TooLargeError(f"{request.subject} is too large for this answer", status=200)
    yield body



