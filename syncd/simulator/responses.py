"""The pieces of GitHub's answers: commits, listings, JSON and headers, and what is refused with which words."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from syncd.git_objects import FILE, LINK, SUBMODULE, TREE
from syncd.simulator.accounts import ApiError
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Commit, Repository

if TYPE_CHECKING:
    from syncd.simulator.github import SimRequest

JSON_TYPE = "application/json; charset=utf-8"
TYPES = {FILE: "file", 0o100755: "file", LINK: "symlink", TREE: "dir", SUBMODULE: "submodule"}


def resolve_commit(repo: Repository, ref: str, status: int, message: str) -> Commit:
    if not repo.refs:
        raise ApiError(409, "Git Repository is empty.")
    found = repo.resolve(ref)
    if found is None:
        raise ApiError(status, message)
    return found


def or_not_found(commit: Commit | None) -> Commit:
    if commit is None:
        raise ApiError(404, "Not Found")
    return commit


def ancestry(repo: Repository, commit: Commit) -> set[str]:
    seen: set[str] = set()
    waiting = [commit.id]
    while waiting:
        identity = waiting.pop()
        if identity not in seen:
            seen.add(identity)
            waiting += repo.commits[identity].parents
    return seen


def git_commit(commit: Commit) -> dict[str, Any]:
    verified = commit.verification == "valid"
    return {
        "sha": commit.id,
        "tree": {"sha": commit.tree},
        "message": commit.message,
        "author": {"name": "Ada", "date": iso(commit.at)},
        "verification": {
            "verified": verified,
            "reason": commit.verification,
            "signature": None,
            "payload": None,
        },
    }


def listed_type(request: SimRequest, mode: int) -> str:
    """Until API version 2026-03-10 a submodule is listed as a file (docs, "Breaking changes")."""
    if (
        mode == SUBMODULE
        and request.headers.get("x-github-api-version", "2022-11-28") < "2026-03-10"
    ):
        return "file"
    return TYPES.get(mode, "file")


def raise_error(status: int, message: str) -> Answer:
    raise ApiError(status, message)


def as_json(value: object, status: int = 200, etag: str | None = None) -> Answer:
    headers = {"content-type": JSON_TYPE} | ({"etag": etag} if etag else {})
    return Answer(
        status,
        headers,
        json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        ),
    )


def raw_headers(etag: str) -> dict[str, str]:
    return {"content-type": "application/vnd.github.v3.raw; charset=utf-8", "etag": etag}


def wrapped_base64(content: bytes) -> str:
    text = base64.b64encode(content).decode()
    return "".join(text[start : start + 60] + "\n" for start in range(0, len(text), 60))


def iso(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
