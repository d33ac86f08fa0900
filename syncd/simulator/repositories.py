"""The REST API of one repository: commits, contents, trees, blobs, comparisons and archives.

Source of every shape and rule: the REST documentation and recorded responses.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from syncd.git_objects import FILE, LINK, SUBMODULE, TREE
from syncd.simulator import responses
from syncd.simulator.accounts import ApiError
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Commit, Repository
from syncd.simulator.request import Route, SimRequest
from syncd.simulator.state import SimulatorState

MAX_CONTENTS_ENTRIES = 1000
MAX_REFERENCES = 100
STATUS_STATES = ("pending", "success", "failure", "error")
MAX_INLINE_BYTES = 1 << 20
MAX_BLOB_BYTES = 100 << 20
# The docs ("Get a tree") limit a recursive listing to 7 MB beside the number of entries, and do not
# say of what; the simulator measures the paths.
MAX_TREE_PATH_BYTES = 7 << 20

Handler = Callable[[Repository], Answer]


def route(state: SimulatorState, request: SimRequest, parts: Sequence[str]) -> Route | None:
    """Return the route of a request about a repository, and what answers it."""
    match parts:
        case ["repositories", number, *rest]:
            return _guarded(state, request, state.repo_by_id(number), "", rest)
        case ["repos", owner, name, *rest]:
            full_name = f"{owner}/{name}".lower()
            return _guarded(state, request, state.repos.get(full_name), full_name, rest)
    return None


def _guarded(
    state: SimulatorState,
    request: SimRequest,
    repo: Repository | None,
    full_name: str,
    rest: Sequence[str],
) -> Route:
    """Return the route, which redirects a former name and hides what the caller may not read."""
    name, handler = _Endpoints(state, request).route(rest)

    def answer() -> Answer:
        if repo is None and full_name in state.renamed:
            return _moved(request, state.find_renamed(full_name))
        needs = "statuses" if name == "status" else "contents"
        if repo is None or not state.accounts.can_read(request.who, repo, needs):
            raise ApiError(404, "Not Found")
        return handler(repo)

    return name, answer


def _moved(request: SimRequest, repo: Repository) -> Answer:
    tail = request.path.split("/", 4)[4] if request.path.count("/") > 3 else ""
    query = "&".join(f"{key}={quote(value)}" for key, value in request.query.items())
    address = request.url(f"/repositories/{repo.id}/{tail}")
    return responses.redirect(301, f"{address}?{query}" if query else address)


class _File(Struct, frozen=True):
    """A file at a commit: its path, git mode and blob id."""

    path: str
    mode: int
    id: str
    commit: Commit


class _Endpoints:
    """The endpoints below `/repos/OWNER/NAME`, for one request."""

    def __init__(self, state: SimulatorState, request: SimRequest) -> None:
        self._state, self._request = state, request

    def route(self, rest: Sequence[str]) -> tuple[str, Handler]:
        """Return the name of the route and its handler."""
        match rest:
            case []:
                return "repo", self._repo
            case ["commits"]:
                return "commits", self._commits
            case ["commits", *ref]:
                return "head", lambda repo: self._commit(repo, "/".join(ref))
            case ["contents", *path]:
                return "contents", lambda repo: self._contents(repo, "/".join(path))
            case ["git", "trees", *name]:
                return "tree", lambda repo: self._tree(repo, "/".join(name))
            case ["git", "blobs", identity]:
                return "blob", lambda repo: self._blob(repo, identity)
            case ["git", "commits", identity]:
                return "commit", lambda repo: _git_commit(repo, identity)
            case ["git", "ref", *name]:
                return "tag", lambda repo: _reference(repo, "/".join(name))
            case ["git", "matching-refs", *prefix]:
                return "refs", lambda repo: _matching_references(repo, "/".join(prefix))
            case ["git", "tags", identity]:
                return "tag", lambda repo: _tag(repo, identity)
            case ["statuses", commit] if self._request.method == "POST":
                return "status", lambda repo: self._set_status(repo, commit)
            case ["compare", *span]:
                return "compare", lambda repo: _compare(repo, "/".join(span))
            case ["tarball", *ref]:
                return "tarball", lambda repo: self._tarball(repo, "/".join(ref))
        return "unknown", lambda repo: responses.raise_error(404, "Not Found")

    def _wants(self, media: str) -> bool:
        return self._request.media() == media and not self._state.plain_json

    @staticmethod
    def _repo(repo: Repository) -> Answer:
        return responses.as_json(
            {
                "id": repo.id,
                "full_name": repo.full_name,
                "private": repo.private,
                "default_branch": repo.default_branch,
                "size": repo.declared_kilobytes,
            }
        )

    def _commit(self, repo: Repository, ref: str) -> Answer:
        commit = responses.resolve_commit(repo, ref, 422, f"No commit found for SHA: {ref}")
        if self._wants("sha"):
            headers = {
                "content-type": "application/vnd.github.sha; charset=utf-8",
                "etag": commit.id,
            }
            return Answer(200, headers, commit.id.encode())
        return responses.as_json(
            {
                "sha": commit.id,
                "commit": responses.git_commit(commit),
                "parents": [{"sha": parent} for parent in commit.parents],
            }
        )

    def _set_status(self, repo: Repository, commit: str) -> Answer:
        """Set a status. Source: REST docs, "Create a commit status"."""
        who = self._request.who
        if who is None or not who.allows("statuses", "write"):
            headers = {"x-accepted-github-permissions": "statuses=write"}
            raise ApiError(403, "Resource not accessible by integration", headers)
        self._state.count_write(who.key)
        given = json.loads(self._request.body)
        if commit not in repo.commits:
            raise ApiError(422, f"No commit found for SHA: {commit}")
        if given.get("state") not in STATUS_STATES or len(given.get("description") or "") > 140:
            raise ApiError(422, "Validation Failed")
        repo.statuses.setdefault(commit, []).append(given)
        return responses.as_json({"id": 1, **given}, 201)

    def _commits(self, repo: Repository) -> Answer:
        """Return a page of the commits that lead to one, the newest first."""
        query = self._request.query
        start = responses.resolve_commit(repo, query.get("sha", "HEAD"), 404, "Not Found")
        found = [repo.commits[identity] for identity in responses.ancestry(repo, start)]
        found.sort(key=lambda commit: commit.at, reverse=True)
        count, page = int(query.get("per_page", 30)), int(query.get("page", 1))
        return responses.as_json(
            [
                {
                    "sha": commit.id,
                    "commit": responses.git_commit(commit),
                    "parents": [{"sha": parent} for parent in commit.parents],
                }
                for commit in found[(page - 1) * count : page * count]
            ]
        )

    def _contents(self, repo: Repository, path: str) -> Answer:
        query = self._request.query
        if path.endswith("/") and path.strip("/"):
            tail = f"?ref={quote(query['ref'])}" if "ref" in query else ""
            address = f"/repositories/{repo.id}/contents/{quote(path.rstrip('/'))}{tail}"
            return responses.redirect(302, self._request.url(address))
        ref = query.get("ref") or repo.default_branch
        commit = responses.resolve_commit(repo, ref, 404, f"No commit found for the ref {ref}")
        found = repo.entry(commit.tree, path.strip("/"))
        if found is None:
            raise ApiError(404, "Not Found")
        mode, identity = found
        if mode == TREE:
            return self._directory(repo, path.strip("/"), identity, commit)
        return self._file(repo, _File(path, mode, identity, commit))

    def _directory(self, repo: Repository, path: str, tree: str, commit: Commit) -> Answer:
        listed = list(repo.walk(tree, recursive=False))[:MAX_CONTENTS_ENTRIES]
        entries: list[dict[str, Any]] = [
            {
                "name": name,
                "path": f"{path}/{name}".lstrip("/"),
                "sha": identity,
                "size": 0 if mode in (TREE, SUBMODULE) else repo.size_of(identity),
                "type": responses.listed_type(self._request, mode),
            }
            for name, mode, identity in listed
        ]
        if not self._wants("object"):
            return responses.as_json(entries, etag=commit.tree)
        shape = {
            "type": "dir",
            "name": posixpath.basename(path),
            "path": path,
            "sha": tree,
            "size": 0,
            "entries": entries,
        }
        return responses.as_json(shape, etag=commit.tree)

    def _file(self, repo: Repository, file: _File) -> Answer:
        shape: dict[str, Any] = {
            "name": posixpath.basename(file.path),
            "path": file.path,
            "sha": file.id,
            "type": responses.TYPES.get(file.mode, "file"),
        }
        if file.mode == SUBMODULE:
            url = repo.submodules.get(file.path, "")
            shape |= {"size": 0, "submodule_git_url": url}
            return responses.as_json(shape, etag=file.id)
        if file.mode != LINK:
            return self._content(repo, file.id, shape, file.id)
        target = repo.blobs[file.id].decode()
        landing = _link_target(repo, file, target)
        if landing is not None:
            return self._content(repo, landing, {**shape, "type": "file"}, file.id)
        if self._wants("raw"):
            return Answer(200, responses.raw_headers(file.id), target.encode())
        return responses.as_json({**shape, "size": len(target), "target": target}, etag=file.id)

    def _content(self, repo: Repository, blob: str, shape: dict[str, Any], etag: str) -> Answer:
        """Return a file's content; of a link to a file, the content of the file it leads to."""
        size = repo.size_of(blob)
        is_json = self._request.media() is None
        if size > MAX_BLOB_BYTES or (
            size > MAX_INLINE_BYTES and self._state.too_large_403 and is_json
        ):
            raise ApiError(
                403,
                "This API returns blobs up to 100 MB in size.",
                errors=[{"resource": "Blob", "field": "data", "code": "too_large"}],
            )
        if self._wants("raw"):
            return Answer(200, responses.raw_headers(etag), repo.blobs[blob])
        inline = size <= MAX_INLINE_BYTES or self._state.plain_json
        content = {
            "size": size,
            "content": responses.wrapped_base64(repo.blobs[blob]) if inline else "",
            "encoding": "base64" if inline else "none",
        }
        return responses.as_json({**shape, **content}, etag=etag)

    def _tree(self, repo: Repository, name: str) -> Answer:
        shown, tree = name, name
        if name not in repo.trees:
            commit = responses.resolve_commit(repo, name, 404, "Not Found")
            shown, tree = commit.id, commit.tree
        found: list[dict[str, Any]] = []
        truncated, recursive = False, "recursive" in self._request.query
        bytes_left = MAX_TREE_PATH_BYTES
        for path, mode, identity in repo.walk(tree, recursive=recursive):
            bytes_left -= len(path)
            if len(found) >= self._state.tree_limit or (recursive and bytes_left < 0):
                truncated = True
                break
            found.append(_tree_row(repo, path, mode, identity))
        return responses.as_json({"sha": shown, "tree": found, "truncated": truncated})

    def _blob(self, repo: Repository, identity: str) -> Answer:
        content = repo.blobs.get(identity)
        if content is None:
            raise ApiError(404, "Not Found")
        if self._wants("raw"):
            return Answer(200, {"content-type": responses.RAW_TYPE}, content)
        return responses.as_json(
            {
                "sha": identity,
                "size": len(content),
                "content": responses.wrapped_base64(content),
                "encoding": "base64",
            }
        )

    def _tarball(self, repo: Repository, ref: str) -> Answer:
        commit = responses.resolve_commit(repo, ref, 404, "Not Found")
        origin = self._state.codeload_origin or self._request.origin
        path = f"/codeload/{repo.full_name}/legacy.tar.gz/{commit.id}"
        location = f"{origin}{path}?token=SIGNED{commit.id[:8]}"
        return Answer(302, {"location": location, "content-type": "text/html"})


def _link_target(repo: Repository, file: _File, target: str) -> str | None:
    """Return the blob id of the file in the repository that a link leads to, or None."""
    if target.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), target))
    found = repo.entry(file.commit.tree, path)
    return found[1] if found is not None and found[0] in (FILE, 0o100755) else None


def _tree_row(repo: Repository, path: str, mode: int, identity: str) -> dict[str, Any]:
    kind = {TREE: "tree", SUBMODULE: "commit"}.get(mode, "blob")
    row: dict[str, Any] = {
        "path": path,
        "mode": f"{mode:06o}",
        "type": kind,
        "sha": identity,
    }
    return {**row, "size": repo.size_of(identity)} if kind == "blob" else row


def _git_commit(repo: Repository, identity: str) -> Answer:
    commit = responses.require_commit(repo.commits.get(identity))
    return responses.as_json(responses.git_commit(commit))


def _reference(repo: Repository, name: str) -> Answer:
    if f"refs/{name}" not in repo.refs:
        raise ApiError(404, "Not Found")
    return responses.as_json(_reference_row(repo, f"refs/{name}"))


def _matching_references(repo: Repository, prefix: str) -> Answer:
    """Answer the first 100 refs that begin so; an empty list where none does."""
    names = sorted(name for name in repo.refs if name.startswith(f"refs/{prefix}"))
    return responses.as_json([_reference_row(repo, name) for name in names[:MAX_REFERENCES]])


def _reference_row(repo: Repository, name: str) -> dict[str, Any]:
    target = repo.refs[name]
    kind = "tag" if target in repo.tags else "commit"
    return {"ref": name, "object": {"sha": target, "type": kind}}


def _tag(repo: Repository, identity: str) -> Answer:
    if identity not in repo.tags:
        raise ApiError(404, "Not Found")
    return responses.as_json(responses.git_tag(identity, repo.tags[identity]))


def _compare(repo: Repository, span: str) -> Answer:
    base, _, head = span.partition("...")
    one = responses.resolve_commit(repo, base, 404, "Not Found")
    other = responses.resolve_commit(repo, head, 404, "Not Found")
    ours, theirs = responses.ancestry(repo, one), responses.ancestry(repo, other)
    if not ours & theirs:
        raise ApiError(404, "No common ancestor between the two commits.")
    ahead, behind = len(theirs - ours), len(ours - theirs)
    status = {
        (False, False): "identical",
        (True, False): "ahead",
        (False, True): "behind",
        (True, True): "diverged",
    }[ahead > 0, behind > 0]
    return responses.as_json(
        {
            "status": status,
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
            "files": [],
        }
    )
