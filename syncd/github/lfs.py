"""Fetches the contents of Git LFS pointers, verified against each pointer's own sha256 and size.

The batch API on the repository's host says where the content is. The storage host gets the headers
that the batch answer names for it and never our token. Source: git-lfs docs/spec.md (pointers),
docs/api/batch.md, docs/api/server-discovery.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from syncd.errors import BadResponseError, NotFoundError
from syncd.github.protocol import USER_AGENT, Request, read_json, server_text
from syncd.github.request import stream
from syncd.github.resumable import download_resumable
from syncd.github.scope import RepositoryScope
from syncd.github.urls import check_redirect, same_origin, web_origin
from syncd.ports import Blobs, Pointer
from syncd.progress import Step

MEDIA_TYPE = "application/vnd.git-lfs+json"
BATCH_SIZE = 100  # objects a batch: what git-lfs itself asks for
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")

# Headers that say how a request travels, where to, or which part of a content it asks for: no
# answer may set them. Source: RFC 9110, 7.6.1.
RESERVED_HEADERS = frozenset(
    [
        "Accept-Encoding",
        "Connection",
        "Content-Length",
        "Cookie",
        "Expect",
        "Host",
        "If-Range",
        "Keep-Alive",
        "Range",
        "Te",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "User-Agent",
    ]
)

Action = Mapping[str, Any]  # where one content is, and the headers to send


class LfsFetcher:
    """Fetches the contents of LFS pointers of one repository."""

    def __init__(self, scope: RepositoryScope, blobs: Blobs) -> None:
        owner, _, name = scope.repo.partition("/")
        repository = f"{web_origin(scope.api)}/{quote(owner, safe='')}/{quote(name, safe='')}.git"
        self._url = f"{repository}/info/lfs/objects/batch"
        self._scope, self._blobs = scope, blobs

    def fetch(self, pointers: Iterable[Pointer]) -> dict[Pointer, str]:
        """Fetch the contents into `blobs`; return pointer -> git id of its content.

        Raises:
            NotFoundError: the host does not have a content.
            BadResponseError: other bytes than the pointer says, or an unusable answer.
        """
        wanted = list(dict.fromkeys(pointers))
        found: dict[Pointer, str] = {}
        total = sum(pointer.size for pointer in wanted)
        self._scope.deadline.progress.step(Step.FETCHING, files=len(wanted), size_bytes=total)
        for start in range(0, len(wanted), BATCH_SIZE):
            batch = wanted[start : start + BATCH_SIZE]
            actions = self._request_actions(batch)
            ids = self._scope.pool.map(self._download, actions, self._scope.deadline)
            found.update(zip(batch, ids, strict=True))
        return found

    def _request_actions(self, pointers: Sequence[Pointer]) -> list[tuple[Pointer, Action]]:
        """Return each pointer with what the batch API says of where its content is."""
        request = self._batch_request(pointers)
        answer = stream(
            self._scope.transport,
            request,
            self._scope.deadline,
            lambda response: read_json(request, response),
        )
        objects = answer.get("objects") if isinstance(answer, dict) else None
        if not isinstance(objects, list):
            raise BadResponseError(
                f"the answer for {request.subject} names none",
                id="bad_response/no-lfs-objects",
                hint="check api:",
            )
        found = {
            one["oid"]: one
            for one in objects
            if isinstance(one, dict) and isinstance(one.get("oid"), str)
        }
        return [
            (pointer, self._action(pointer, found.get(pointer.oid, {}), request.subject))
            for pointer in pointers
        ]

    def _batch_request(self, pointers: Sequence[Pointer]) -> Request:
        body = {
            "operation": "download",
            "transfers": ["basic"],
            "hash_algo": "sha256",
            "objects": [{"oid": one.oid, "size": one.size} for one in pointers],
        }
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, "User-Agent": USER_AGENT}
        plural = "s" if len(pointers) > 1 else ""
        return Request(
            "POST",
            self._url,
            "lfs",
            f"{len(pointers)} LFS object{plural} of {self._scope.repo}",
            self._scope.repo,
            headers,
            json.dumps(body).encode(),
            basic_auth=True,
            is_read_only=True,
        )

    def _action(self, pointer: Pointer, answered: Mapping[str, Any], subject: str) -> Action:
        error, actions = answered.get("error"), answered.get("actions")
        if isinstance(error, dict):
            said = server_text(error.get("message"))[:200]
            code = server_text(str(error.get("code")))[:20]
            raise NotFoundError(
                f"{pointer.path} of {self._scope.repo}: its LFS content ({pointer.oid[:12]}) "
                f"is not available: {said} ({code})",
                id="not_found/lfs-content-missing",
                hint="was it pushed with git lfs push? exclude the file, or set lfs: pointer",
            )
        action = actions.get("download") if isinstance(actions, dict) else None
        if not isinstance(action, dict) or not isinstance(action.get("href"), str):
            raise BadResponseError(
                f"the answer for {subject} names no address for {pointer.path}",
                id="bad_response/no-lfs-download",
                hint="nothing was changed; the next run asks again",
            )
        return action

    def _download(self, place: tuple[Pointer, Action]) -> str:
        pointer, action = place
        href, subject = action["href"], f"the LFS content of {pointer.path} of {self._scope.repo}"
        if not same_origin(self._url, href):
            check_redirect(self._url, href, subject, allowed=True)
        given = action.get("header")
        headers = {
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            **_storage_headers(given if isinstance(given, dict) else {}, subject),
        }
        request = Request(
            "GET",
            href,
            "lfs_object",
            subject,
            None,
            headers,
            cap_bytes=pointer.size,
            authorised=False,
            allow_other_host=True,
        )
        transport, deadline = self._scope.transport, self._scope.deadline
        with self._blobs.partial_download(pointer.oid, pointer.size) as download:
            content = download_resumable(transport, request, deadline, download, pointer.size)
        deadline.progress.advance(files=1, size_bytes=pointer.size)
        return content


def _storage_headers(headers: Mapping[Any, Any], subject: str) -> dict[str, str]:
    """Return the headers that the storage host wants, without those that no answer may set.

    Raises BadResponseError for one that can't be a header.
    """
    if not all(_is_header(name, value) for name, value in headers.items()):
        raise BadResponseError(
            f"the answer for {subject} wants a header that can't be sent",
            id="bad_response/bad-lfs-header",
            hint="check api:",
        )
    # one spelling each: the transport knows ours by theirs
    spelled = {
        "-".join(word.capitalize() for word in name.split("-")): value
        for name, value in headers.items()
    }
    return {
        name: value
        for name, value in spelled.items()
        if name not in RESERVED_HEADERS and not name.startswith("Proxy-")
    }


def _is_header(name: object, value: object) -> bool:
    is_name = isinstance(name, str) and HEADER_NAME.match(name) is not None
    return is_name and isinstance(value, str) and value.isprintable()
