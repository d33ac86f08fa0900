"""Parts of responses: commits, listings, JSON and headers, and error responses."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from syncd.git_objects import FILE, LINK, SUBMODULE, TREE
from syncd.simulator.accounts import ApiError
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Commit, Repository, Tag
from syncd.simulator.request import SimRequest

JSON_TYPE = "application/json; charset=utf-8"
RAW_TYPE = "application/vnd.github.v3.raw; charset=utf-8"
DOCUMENTATION_URL = "https://docs.github.com/rest"
TYPES = {FILE: "file", 0o100755: "file", LINK: "symlink", TREE: "dir", SUBMODULE: "submodule"}


def resolve_commit(repo: Repository, ref: str, status: int, message: str) -> Commit:
    """Return the commit that `ref` names.

    Raises ApiError with `status` and `message` if there is none.
    """
    if not repo.refs:
        raise ApiError(409, "Git Repository is empty.")
    found = repo.resolve(ref)
    if found is None:
        raise ApiError(status, message)
    return found


def require_commit(commit: Commit | None) -> Commit:
    """Return the commit. Raises ApiError (404) for None."""
    if commit is None:
        raise ApiError(404, "Not Found")
    return commit


def ancestry(repo: Repository, commit: Commit) -> set[str]:
    """Return the ids of the commit and all its ancestors."""
    seen: set[str] = set()
    waiting = [commit.id]
    while waiting:
        identity = waiting.pop()
        if identity not in seen:
            seen.add(identity)
            waiting += repo.commits[identity].parents
    return seen


def git_commit(commit: Commit) -> dict[str, Any]:
    """Return the JSON form of a commit object. Times are in UTC, whatever the offset was."""
    name, email = commit.person
    person = {"name": name, "email": email, "date": github_time(commit.at)}
    return {
        "sha": commit.id,
        "tree": {"sha": commit.tree},
        "parents": [{"sha": parent} for parent in commit.parents],
        "message": commit.message,
        "author": person,
        "committer": person,
        "verification": {
            "verified": commit.verification == "valid",
            "reason": commit.verification,
            "signature": commit.signature,
            "payload": commit.payload,
        },
    }


def git_tag(identity: str, tag: Tag) -> dict[str, Any]:
    """Return the JSON form of an annotated tag."""
    signed = tag.signature is not None
    return {
        "sha": identity,
        "tag": tag.name,
        "object": {"sha": tag.commit, "type": "commit"},
        "verification": {
            "verified": False,
            "reason": "unknown_key" if signed else "unsigned",
            "signature": tag.signature,
            "payload": tag.payload if signed else None,
        },
    }


def listed_type(request: SimRequest, mode: int) -> str:
    """Return the type that the Contents API lists for a git mode.

    Until API version 2026-03-10 a submodule is listed as a file (docs, "Breaking changes").
    """
    version = request.headers.get("x-github-api-version", "2022-11-28")
    if mode == SUBMODULE and version < "2026-03-10":
        return "file"
    return TYPES.get(mode, "file")


def raise_error(status: int, message: str) -> Answer:
    """Raise ApiError; for use in a lambda."""
    raise ApiError(status, message)


def error_answer(error: ApiError) -> Answer:
    """Return the response that tells a client about an error.

    GraphQL reports one with status 200, and nothing but the errors.
    """
    if error.status == 200:
        return as_json({"errors": error.errors})
    body: dict[str, Any] = {
        "message": error.message,
        "documentation_url": DOCUMENTATION_URL,
        "status": str(error.status),
        **error.more,
    }
    if error.errors:
        body["errors"] = error.errors
    headers = {"content-type": JSON_TYPE, **error.headers}
    return Answer(error.status, headers, json.dumps(body).encode())


def as_json(value: object, status: int = 200, etag: str | None = None) -> Answer:
    """Return a JSON response."""
    headers = {"content-type": JSON_TYPE} | ({"etag": etag} if etag else {})
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Answer(status, headers, text.encode("utf-8", "surrogatepass"))


def redirect(status: int, location: str) -> Answer:
    """Return a redirect."""
    return Answer(status, {"location": location})


def raw_headers(etag: str) -> dict[str, str]:
    """Return the headers of a file in the raw media type."""
    return {"content-type": RAW_TYPE, "etag": etag}


def wrapped_base64(content: bytes) -> str:
    """Return the content in base64, in lines of 60 characters as GitHub sends it."""
    text = base64.b64encode(content).decode()
    return "".join(text[start : start + 60] + "\n" for start in range(0, len(text), 60))


def github_time(at: float) -> str:
    """Return epoch seconds as GitHub writes a time."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
