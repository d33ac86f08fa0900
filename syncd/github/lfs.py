"""Git LFS: from a pointer in the repository to the content that it stands for, checked against the pointer's own sha256 and size.

The batch API on the repository's host says where the content is; the storage host gets the headers that the batch answer names for
it and never our token. Source: git-lfs docs/spec.md (pointers), docs/api/batch.md, docs/api/server-discovery.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from syncd.deadline import Deadline
from syncd.errors import BadResponseError, NotFoundError
from syncd.github.concurrency import ThreadPool
from syncd.github.protocol import USER_AGENT, Request, Transport, one_line, read_json
from syncd.github.request import stream
from syncd.github.resumable import download_resumable
from syncd.github.urls import check_redirect, same_origin, web_of
from syncd.ports import Blobs, Pointer

MEDIA_TYPE = "application/vnd.git-lfs+json"
BATCH_SIZE = 100  # objects a batch: what git-lfs itself asks for
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")

# Headers that say how a request travels, where to, or which part of a content it asks for: no answer chooses them. RFC 9110, 7.6.1.
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


class LfsFetcher:
    """Brings the contents of pointers of one repository."""

    def __init__(
        self,
        transport: Transport,
        api: str,
        repo: str,
        blobs: Blobs,
        deadline: Deadline,
        pool: ThreadPool,
    ) -> None:
        owner, _, name = repo.partition("/")
        self._url = f"{web_of(api)}/{quote(owner, safe='')}/{quote(name, safe='')}.git/info/lfs/objects/batch"
        self._transport, self._repo, self._blobs, self._deadline, self._pool = (
            transport,
            repo,
            blobs,
            deadline,
            pool,
        )

    def fetch(self, pointers: Iterable[Pointer]) -> dict[Pointer, str]:
        """Pointer -> git id of its content, which is in `blobs`, each with the sha256 and size that its pointer says.

        Raises NotFoundError for content that the host does not have, BadResponseError for other bytes or an answer that makes no sense.
        """
        wanted = list(dict.fromkeys(pointers))
        found: dict[Pointer, str] = {}
        for start in range(0, len(wanted), BATCH_SIZE):
            some = wanted[start : start + BATCH_SIZE]
            found.update(
                zip(
                    some,
                    self._pool.map(self._download, self._batch(some), self._deadline),
                    strict=True,
                )
            )
        return found

    def _batch(self, pointers: Sequence[Pointer]) -> list[tuple[Pointer, Mapping[str, Any]]]:
        """Each pointer with the answer's word on where its content is."""
        body = {
            "operation": "download",
            "transfers": ["basic"],
            "hash_algo": "sha256",
            "objects": [{"oid": one.oid, "size": one.size} for one in pointers],
        }
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, "User-Agent": USER_AGENT}
        subject = f"{len(pointers)} LFS object{'s' if len(pointers) > 1 else ''} of {self._repo}"
        request = Request(
            "POST",
            self._url,
            "lfs",
            subject,
            self._repo,
            headers,
            json.dumps(body).encode(),
            basic_auth=True,
            is_read_only=True,
        )
        answer = stream(
            self._transport, request, self._deadline, lambda response: read_json(request, response)
        )
        objects = answer.get("objects") if isinstance(answer, dict) else None
        if not isinstance(objects, list):
            raise BadResponseError(f"asked for {subject}: the answer names none", hint="check api:")
        found = {
            one["oid"]: one
            for one in objects
            if isinstance(one, dict) and isinstance(one.get("oid"), str)
        }
        return [
            (pointer, self._action(pointer, found.get(pointer.oid), subject))
            for pointer in pointers
        ]

    def _action(
        self, pointer: Pointer, answered: Mapping[str, Any] | None, subject: str
    ) -> Mapping[str, Any]:
        error = answered.get("error") if answered is not None else None
        if isinstance(error, dict):
            text = f"{pointer.path} of {self._repo}: its LFS content ({pointer.oid[:12]}) is not to be had: {one_line(error.get('message'))[:200]} ({one_line(str(error.get('code')))[:20]})"
            raise NotFoundError(
                text, hint="was it pushed with git lfs push? exclude the file, or set lfs: pointer"
            )
        action = (
            answered.get("actions", {}).get("download")
            if answered is not None and isinstance(answered.get("actions"), dict)
            else None
        )
        if not isinstance(action, dict) or not isinstance(action.get("href"), str):
            raise BadResponseError(
                f"asked for {subject}: the answer says no place for {pointer.path}",
                hint="nothing was changed; the next run asks again",
            )
        return action

    def _download(self, told: tuple[Pointer, Mapping[str, Any]]) -> str:
        pointer, action = told
        href, subject = action["href"], f"the LFS content of {pointer.path} of {self._repo}"
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
        with self._blobs.partial_download(pointer.oid, pointer.size) as download:
            return download_resumable(
                self._transport, request, self._deadline, download, pointer.size
            )


def _storage_headers(headers: Mapping[Any, Any], subject: str) -> dict[str, str]:
    """The headers that the storage host wants, as far as they can be headers at all."""
    for name, value in headers.items():
        if (
            not isinstance(name, str)
            or not HEADER_NAME.match(name)
            or not isinstance(value, str)
            or not value.isprintable()
        ):
            raise BadResponseError(
                f"asked for {subject}: the answer wants a header that can't be sent",
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
