"""The hosts beside the API: Git LFS and its storage, and the archive host (codeload)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from syncd.simulator import archive, responses
from syncd.simulator.accounts import ApiError
from syncd.simulator.faults import Answer
from syncd.simulator.request import Route, SimRequest
from syncd.simulator.state import SimulatorState

LFS_TYPE = "application/vnd.git-lfs+json"


def route(state: SimulatorState, request: SimRequest, parts: Sequence[str]) -> Route | None:
    """Return the route of a request to one of these hosts, and what answers it."""
    match parts:
        case [owner, name, "info", "lfs", "objects", "batch"] if (
            name.endswith(".git") and request.method == "POST"
        ):
            full_name = f"{owner}/{name.removesuffix('.git')}"
            return "lfs", lambda: _lfs_batch(state, request, full_name)
        case ["lfs-storage", oid]:
            return "lfs_object", lambda: _lfs_object(state, request, oid)
        case ["codeload", *rest]:
            return "codeload", lambda: _codeload(state, request, rest)
    return None


def _lfs_batch(state: SimulatorState, request: SimRequest, full_name: str) -> Answer:
    """Say where LFS objects are. Source: git-lfs docs/api/batch.md.

    The storage is another host, and its requests carry a header of its own.
    """
    key = full_name.lower()
    repo = state.repos.get(key)
    if repo is None and key in state.renamed:
        new = state.find_renamed(key).full_name
        return responses.redirect(301, f"{request.origin}/{new}.git/info/lfs/objects/batch")
    if repo is None or not state.accounts.can_read(request.who, repo):
        raise ApiError(404, "Not Found")
    storage = f"{state.codeload_origin or request.origin}/lfs-storage"
    objects = [
        _lfs_object_info(one, storage, one["oid"] in repo.lfs_objects)
        for one in json.loads(request.body)["objects"]
    ]
    body = {"transfer": "basic", "objects": objects, "hash_algo": "sha256"}
    return Answer(200, {"content-type": LFS_TYPE}, json.dumps(body).encode())


def _lfs_object_info(asked: dict[str, Any], storage: str, exists: bool) -> dict[str, Any]:
    if not exists:
        error = {"code": 404, "message": "Object does not exist on the server"}
        return {**asked, "error": error}
    oid = asked["oid"]
    download = {
        "href": f"{storage}/{oid}",
        "header": {"X-Storage": f"key-{oid[:8]}"},
        "expires_in": 3600,
    }
    return {**asked, "actions": {"download": download}}


def _lfs_object(state: SimulatorState, request: SimRequest, oid: str) -> Answer:
    stores = (repo.lfs_objects for repo in state.repos.values())
    content = next((store[oid] for store in stores if oid in store), None)
    if content is None or request.headers.get("x-storage") != f"key-{oid[:8]}":
        return Answer(403, {"content-type": "text/plain"}, b"forbidden")
    if not state.lfs_ranges:
        return Answer(200, {"content-type": "application/octet-stream"}, content)
    return _whole_or_range(request, content, oid)


def _whole_or_range(request: SimRequest, content: bytes, etag: str) -> Answer:
    """Return all of the content, or the range that was asked for, as the storage of LFS answers.

    Source: RFC 9110, 13.1.5 and 14.
    """
    headers = {
        "content-type": "application/octet-stream",
        "accept-ranges": "bytes",
        "etag": etag,
    }
    start = request.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
    if not start.isdecimal() or request.headers.get("if-range", f'"{etag}"') != f'"{etag}"':
        return Answer(200, headers, content)
    if int(start) >= len(content):
        return Answer(416, {"content-range": f"bytes */{len(content)}"})
    headers |= {
        "etag": f'"{etag}"',
        "content-range": f"bytes {start}-{len(content) - 1}/{len(content)}",
    }
    return Answer(206, headers, content[int(start) :])


def _codeload(state: SimulatorState, request: SimRequest, rest: Sequence[str]) -> Answer:
    repo = state.repos.get("/".join(rest[:2]).lower()) if len(rest) == 4 else None
    commit = repo.commits.get(rest[3]) if repo is not None else None
    if repo is None or commit is None or request.query.get("token") != f"SIGNED{commit.id[:8]}":
        return Answer(404, {"content-type": "text/plain"}, b"404: Not Found")
    return Answer(200, {"content-type": "application/x-gzip"}, archive.tarball(repo, commit))
