"""What GitHub answers: routing, the REST shapes, ETags, limits. Source of every shape and rule: the REST documentation and recorded answers."""

from __future__ import annotations

import hashlib
import json
import posixpath
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.git_objects import FILE, LINK, SUBMODULE, TREE
from syncd.simulator import apps, archive, oauth, responses
from syncd.simulator.accounts import Accounts, ApiError, Credential
from syncd.simulator.faults import Answer, Fault, FaultEffect
from syncd.simulator.repository import Commit, Repository

MAX_CONTENTS_ENTRIES = 1000
MAX_INLINE_BYTES = 1 << 20
MAX_BLOB_BYTES = 100 << 20
MAX_TREE_PATH_BYTES = (
    7 << 20
)  # docs "Get a tree": of a recursive listing, beside the number of entries; measured in what, they don't say: paths here


class RecordedRequest(Struct, frozen=True):
    """One request as it was counted."""

    route: str
    method: str
    path: str
    status: int
    credential: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


class SimRequest(Struct):
    """One request on its way to an answer."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str
    prefix: str = ""
    who: Credential | None = None

    def media(self) -> str | None:
        """`raw`, `object` or `sha` when the Accept header asks for it."""
        accept = self.headers.get("accept", "")
        return next(
            (
                kind
                for kind in ("raw", "object", "sha")
                if f"vnd.github.{kind}" in accept or f"vnd.github.v3.{kind}" in accept
            ),
            None,
        )


class GitHub:
    """The whole stand-in. Its attributes are its switches; `trouble` scripts what goes wrong."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.accounts = Accounts()
        self.oauth = oauth.OAuthServer(self.accounts)
        self.api_versions: tuple[str, ...] | None = None  # an older server knows only these
        self.repos: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.requests: list[RecordedRequest] = []
        self.faults: list[Fault] = []
        self.callbacks: list[
            tuple[str, int, Callable[[], None]]
        ] = []  # (route, nth, action): something happens just before the nth request
        self.etags = "git"  # git | hash | none
        self.plain_json = False  # a server that knows no media types but JSON
        self.tree_limit = 100_000
        self.primary_limit: int | None = 5000
        self.limit_headers = True
        self.secondary_points: int | None = None
        self.too_large_403 = False
        self.clock_offset = 0.0
        self.codeload_origin: str | None = None
        self.lfs_ranges = True  # does the storage of LFS continue a download?
        self.archive_style = "whole"
        self._real_now = now
        self._spent: Counter[tuple[str, int]] = Counter()
        self._minute: dict[str, list[float]] = {}
        self._guard = threading.RLock()
        self._serial = 0

    # --- making -------------------------------------------------------------------------------------------------------

    def add_repo(
        self,
        full_name: str,
        files: Mapping[str, Any] | None = None,
        private: bool = True,
        default_branch: str = "main",
    ) -> Repository:
        repo = Repository(full_name, 1000 + len(self.repos), private, default_branch)
        self.repos[full_name.lower()] = repo
        if files is not None:
            repo.commit(files, "first")
        return repo

    def rename(self, old: str, new: str) -> None:
        repo = self.repos.pop(old.lower())
        repo.full_name = new
        self.repos[new.lower()] = repo
        self.renamed[old.lower()] = new.lower()
        self.renamed.pop(new.lower(), None)

    def find_renamed(self, full: str) -> Repository:
        """What a former name leads to now."""
        while full in self.renamed:
            full = self.renamed[full]
        return self.repos[full]

    def add_fault(self, route: str, effect: FaultEffect, times: int = 1, skip: int = 0) -> Fault:
        made = Fault(route, effect, times, skip)
        self.faults.append(made)
        return made

    def call_before(self, route: str, nth: int, action: Callable[[], None]) -> None:
        """Do something just before the nth request (from 1) of the route is answered."""
        self.callbacks.append((route, nth, action))

    def now(self) -> float:
        return self._real_now() + self.clock_offset

    # --- counting -----------------------------------------------------------------------------------------------------

    def count(self, route: str | None = None, status: int | None = None) -> int:
        return sum(
            (route is None or one.route == route) and (status is None or one.status == status)
            for one in self.requests
        )

    def routes(self) -> dict[str, int]:
        return dict(Counter(one.route for one in self.requests))

    def forget_requests(self) -> None:
        with self._guard:
            self.requests.clear()

    # --- answering ----------------------------------------------------------------------------------------------------

    def handle(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        origin: str = "http://127.0.0.1",
    ) -> Answer:
        """The answer to one request; `target` is path and query."""
        path, _, query = target.partition("?")
        lower = {name.lower(): value for name, value in headers.items()}
        request = SimRequest(
            method, path, dict(parse_qsl(query, keep_blank_values=True)), lower, body, origin
        )
        if path.startswith("/api/v3"):
            request.path, request.prefix = path.removeprefix("/api/v3"), "/api/v3"
        with self._guard:
            parts = [
                unquote(part, errors="surrogateescape")
                for part in request.path.strip("/").split("/")
            ]
            route, act = self._route(request, parts)
            self._happen(route)
            answer = self._finish(request, self._answer(request, route, act))
            for one in self.faults:
                if one.matches(route):
                    answer = one.effect(answer)
            key = request.headers.get("authorization", "").partition(" ")[2] or None
            self.requests.append(RecordedRequest(route, method, target, answer.status, key, lower))
            return answer

    def _happen(self, route: str) -> None:
        seen = self.count(route) + 1
        for wanted in [one for one in self.callbacks if one[0] == route and one[1] == seen]:
            self.callbacks.remove(wanted)
            wanted[2]()

    def _answer(self, request: SimRequest, route: str, act: Callable[[], Answer]) -> Answer:
        try:
            if not request.headers.get("user-agent"):
                raise ApiError(
                    403,
                    "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
                )
            version = request.headers.get("x-github-api-version")
            if (
                self.api_versions is not None
                and version is not None
                and version not in self.api_versions
            ):
                raise ApiError(400, f"The API version {version} is not supported")
            if route not in (
                "codeload",
                "lfs_object",
                "token",
                "app",
                "installation",
                "device",
                "poll",
                "refresh",
                "end",
            ):
                request.who = self.accounts.credential(
                    request.headers.get("authorization"), self.now()
                )
                self._charge(request)
            answer = act()
        except ApiError as error:
            body: dict[str, Any] = {
                "message": error.message,
                "documentation_url": "https://docs.github.com/rest",
                "status": str(error.status),
                **error.more,
            }
            if error.errors:
                body["errors"] = error.errors
            return Answer(
                error.status,
                {"content-type": responses.JSON_TYPE, **error.headers},
                json.dumps(body).encode(),
            )
        if answer.status == 200 and request.method == "GET":
            return self._condition(request, answer)
        return answer

    def _charge(self, request: SimRequest) -> None:
        """Primary and secondary limits. Source: docs "Rate limits for the REST API"."""
        key = request.who.key if request.who else "anonymous"
        now = self.now()
        if self.secondary_points is not None:
            minute = self._minute.setdefault(key, [])
            minute[:] = [at for at in minute if at > now - 60]
            if len(minute) >= self.secondary_points:
                raise ApiError(
                    403,
                    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
                    {"retry-after": "60"},
                )
            minute.append(now)
        limit = self._limit(key)
        if limit is not None and self._spent[key, int(now // 3600)] >= limit:
            raise ApiError(403, "API rate limit exceeded for installation ID 1.")
        self._spent[key, int(now // 3600)] += 1

    def _limit(self, key: str) -> int | None:
        return self.primary_limit if key != "anonymous" or self.primary_limit is None else 60

    def _condition(self, request: SimRequest, answer: Answer) -> Answer:
        etag = answer.headers.get("etag")
        if self.etags == "none":
            return replace(
                answer,
                headers={name: value for name, value in answer.headers.items() if name != "etag"},
            )
        if etag is None or self.etags == "hash":
            seed = "".join(
                f"{request.headers[name]}:"
                for name in ("accept", "authorization", "cookie")
                if name in request.headers
            ).encode()
            etag = hashlib.sha256(seed + answer.body).hexdigest()
        given = [
            one.strip().removeprefix("W/").strip('"')
            for one in request.headers.get("if-none-match", "").split(",")
        ]
        headers = {**answer.headers, "etag": f'"{etag}"'}
        if etag in given:
            if request.who is not None:
                self._spent[request.who.key, int(self.now() // 3600)] -= 1
            return replace(answer, status=304, body=b"", headers=headers)
        return replace(answer, headers=headers)

    def _finish(self, request: SimRequest, answer: Answer) -> Answer:
        self._serial += 1
        headers = {
            "date": formatdate(self.now(), usegmt=True),
            "x-github-request-id": f"{self._serial:04X}:SIM",
            **answer.headers,
        }
        key = request.who.key if request.who else "anonymous"
        if (
            request.who is not None
            and request.who.kind == "personal"
            and request.who.expires != float("inf")
        ):
            headers["github-authentication-token-expiration"] = datetime.fromtimestamp(
                int(request.who.expires), UTC
            ).strftime("%Y-%m-%d %H:%M:%S UTC")
        limit = self._limit(key)
        if limit is not None and self.limit_headers:
            hour = int(self.now() // 3600)
            spent = self._spent[key, hour]
            headers |= {
                "x-ratelimit-limit": str(limit),
                "x-ratelimit-remaining": str(max(0, limit - spent)),
                "x-ratelimit-used": str(spent),
                "x-ratelimit-reset": str((hour + 1) * 3600),
                "x-ratelimit-resource": "core",
            }
        return replace(answer, headers=headers)

    # --- routes -------------------------------------------------------------------------------------------------------

    def _route(self, request: SimRequest, parts: Sequence[str]) -> tuple[str, Callable[[], Answer]]:
        identity = apps.routed(self, request, parts) or oauth.routed(self, request, parts)
        if identity is not None:
            return identity
        match parts:
            case ["rate_limit"]:
                return "rate_limit", lambda: responses.as_json(
                    {"resources": {"core": {"limit": self.primary_limit}}}
                )
            case [owner, name, "info", "lfs", "objects", "batch"] if (
                name.endswith(".git") and request.method == "POST"
            ):
                return "lfs", lambda: self._lfs(request, f"{owner}/{name.removesuffix('.git')}")
            case ["lfs-storage", oid]:
                return "lfs_object", lambda: self._lfs_object(request, oid)
            case ["codeload", *rest]:
                return "codeload", lambda: self._codeload(request, rest)
            case ["repositories", number, *rest]:
                return self._repo_route(
                    request,
                    next((repo for repo in self.repos.values() if str(repo.id) == number), None),
                    "",
                    rest,
                )
            case ["repos", owner, name, *rest]:
                full = f"{owner}/{name}".lower()
                return self._repo_route(request, self.repos.get(full), full, rest)
        return "unknown", lambda: responses.raise_error(404, "Not Found")

    def _repo_route(
        self, request: SimRequest, repo: Repository | None, full: str, rest: Sequence[str]
    ) -> tuple[str, Callable[[], Answer]]:
        name, act = self._repo_action(request, rest)

        def guarded() -> Answer:
            if repo is None and full in self.renamed:
                new = self.find_renamed(full)
                tail = request.path.split("/", 4)[4] if request.path.count("/") > 3 else ""
                query = "&".join(f"{key}={quote(value)}" for key, value in request.query.items())
                return Answer(
                    301,
                    {
                        "location": f"{request.origin}{request.prefix}/repositories/{new.id}/{tail}"
                        + (f"?{query}" if query else "")
                    },
                )
            if repo is None or not self.accounts.can_read(request.who, repo):
                raise ApiError(404, "Not Found")
            return act(repo)

        return name, guarded

    def _repo_action(
        self, request: SimRequest, rest: Sequence[str]
    ) -> tuple[str, Callable[[Repository], Answer]]:
        match rest:
            case []:
                return "repo", lambda repo: responses.as_json(
                    {
                        "id": repo.id,
                        "full_name": repo.full_name,
                        "private": repo.private,
                        "default_branch": repo.default_branch,
                        "size": repo.declared_kilobytes,
                    }
                )
            case ["commits", *ref]:
                return "head", lambda repo: self._commit(request, repo, "/".join(ref))
            case ["contents", *path]:
                return "contents", lambda repo: self._contents(request, repo, "/".join(path))
            case ["git", "trees", *name]:
                return "tree", lambda repo: self._tree(request, repo, "/".join(name))
            case ["git", "blobs", identity]:
                return "blob", lambda repo: self._blob(request, repo, identity)
            case ["git", "commits", identity]:
                return "commit", lambda repo: responses.as_json(
                    responses.git_commit(responses.or_not_found(repo.commits.get(identity)))
                )
            case ["compare", *span]:
                return "compare", lambda repo: self._compare(repo, "/".join(span))
            case ["tarball", *ref]:
                return "tarball", lambda repo: self._tarball(request, repo, "/".join(ref))
        return "unknown", lambda repo: responses.raise_error(404, "Not Found")

    # --- repositories -------------------------------------------------------------------------------------------------

    def _commit(self, request: SimRequest, repo: Repository, ref: str) -> Answer:
        commit = responses.resolve_commit(repo, ref, 422, f"No commit found for SHA: {ref}")
        if request.media() == "sha" and not self.plain_json:
            return Answer(
                200,
                {"content-type": "application/vnd.github.sha; charset=utf-8", "etag": commit.id},
                commit.id.encode(),
            )
        shape = {
            "sha": commit.id,
            "commit": responses.git_commit(commit),
            "parents": [{"sha": parent} for parent in commit.parents],
        }
        return responses.as_json(shape)

    def _contents(self, request: SimRequest, repo: Repository, path: str) -> Answer:
        if path.endswith("/") and path.strip("/"):
            query = f"?ref={quote(request.query['ref'])}" if "ref" in request.query else ""
            return Answer(
                302,
                {
                    "location": f"{request.origin}{request.prefix}/repositories/{repo.id}/contents/{quote(path.rstrip('/'))}{query}"
                },
            )
        ref = request.query.get("ref") or repo.default_branch
        commit = responses.resolve_commit(repo, ref, 404, f"No commit found for the ref {ref}")
        at = repo.entry(commit.tree, path.strip("/"))
        if at is None:
            raise ApiError(404, "Not Found")
        mode, identity = at
        if mode == TREE:
            return self._folder(request, repo, path.strip("/"), identity, commit)
        return self._file(request, repo, path, mode, identity, commit)

    def _folder(
        self, request: SimRequest, repo: Repository, path: str, tree: str, commit: Commit
    ) -> Answer:
        entries: list[dict[str, Any]] = [
            {
                "name": name,
                "path": f"{path}/{name}".lstrip("/"),
                "sha": identity,
                "size": 0 if mode in (TREE, SUBMODULE) else repo.size_of(identity),
                "type": responses.listed_type(request, mode),
            }
            for name, mode, identity in list(repo.walk(tree, recursive=False))[
                :MAX_CONTENTS_ENTRIES
            ]
        ]
        if request.media() == "object" and not self.plain_json:
            return responses.as_json(
                {
                    "type": "dir",
                    "name": posixpath.basename(path),
                    "path": path,
                    "sha": tree,
                    "size": 0,
                    "entries": entries,
                },
                etag=commit.tree,
            )
        return responses.as_json(entries, etag=commit.tree)

    def _file(
        self,
        request: SimRequest,
        repo: Repository,
        path: str,
        mode: int,
        identity: str,
        commit: Commit,
    ) -> Answer:
        shape: dict[str, Any] = {
            "name": posixpath.basename(path),
            "path": path,
            "sha": identity,
            "type": responses.TYPES.get(mode, "file"),
        }
        if mode == SUBMODULE:
            return responses.as_json(
                {**shape, "size": 0, "submodule_git_url": repo.submodules.get(path, "")},
                etag=identity,
            )
        served = identity
        if mode == LINK:
            target = repo.blobs[identity].decode()
            landing = (
                repo.entry(
                    commit.tree, posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
                )
                if not target.startswith("/")
                else None
            )
            if landing is None or landing[0] not in (FILE, 0o100755):
                if request.media() == "raw" and not self.plain_json:
                    return Answer(200, responses.raw_headers(identity), target.encode())
                return responses.as_json(
                    {**shape, "size": len(target), "target": target}, etag=identity
                )
            served, shape["type"] = landing[1], "file"
        size = repo.size_of(served)
        if size > MAX_BLOB_BYTES or (
            size > MAX_INLINE_BYTES and self.too_large_403 and request.media() is None
        ):
            raise ApiError(
                403,
                "This API returns blobs up to 100 MB in size.",
                errors=[{"resource": "Blob", "field": "data", "code": "too_large"}],
            )
        if request.media() == "raw" and not self.plain_json:
            return Answer(200, responses.raw_headers(identity), repo.blobs[served])
        inline = size <= MAX_INLINE_BYTES or self.plain_json
        return responses.as_json(
            {
                **shape,
                "size": size,
                "content": responses.wrapped_base64(repo.blobs[served]) if inline else "",
                "encoding": "base64" if inline else "none",
            },
            etag=identity,
        )

    def _tree(self, request: SimRequest, repo: Repository, name: str) -> Answer:
        shown, tree = name, name
        if name not in repo.trees:
            commit = responses.resolve_commit(repo, name, 404, "Not Found")
            shown, tree = commit.id, commit.tree
        found: list[dict[str, Any]] = []
        truncated, recursive, room = False, "recursive" in request.query, MAX_TREE_PATH_BYTES
        for path, mode, identity in repo.walk(tree, recursive=recursive):
            room -= len(path)
            if len(found) >= self.tree_limit or (recursive and room < 0):
                truncated = True
                break
            kind = "tree" if mode == TREE else "commit" if mode == SUBMODULE else "blob"
            found.append(
                {
                    "path": path,
                    "mode": f"{mode:06o}",
                    "type": kind,
                    "sha": identity,
                    **({"size": repo.size_of(identity)} if kind == "blob" else {}),
                }
            )
        return responses.as_json({"sha": shown, "tree": found, "truncated": truncated})

    def _blob(self, request: SimRequest, repo: Repository, identity: str) -> Answer:
        content = repo.blobs.get(identity)
        if content is None:
            raise ApiError(404, "Not Found")
        if request.media() == "raw" and not self.plain_json:
            return Answer(
                200, {"content-type": "application/vnd.github.v3.raw; charset=utf-8"}, content
            )
        return responses.as_json(
            {
                "sha": identity,
                "size": len(content),
                "content": responses.wrapped_base64(content),
                "encoding": "base64",
            }
        )

    def _compare(self, repo: Repository, span: str) -> Answer:
        base, _, head = span.partition("...")
        one, other = (
            responses.resolve_commit(repo, base, 404, "Not Found"),
            responses.resolve_commit(repo, head, 404, "Not Found"),
        )
        ours, theirs = responses.ancestry(repo, one), responses.ancestry(repo, other)
        ahead, behind = len(theirs - ours), len(ours - theirs)
        if not ours & theirs:
            raise ApiError(404, "No common ancestor between the two commits.")
        status = (
            "identical"
            if not ahead and not behind
            else "ahead"
            if not behind
            else "behind"
            if not ahead
            else "diverged"
        )
        return responses.as_json(
            {
                "status": status,
                "ahead_by": ahead,
                "behind_by": behind,
                "total_commits": ahead,
                "files": [],
            }
        )

    def _tarball(self, request: SimRequest, repo: Repository, ref: str) -> Answer:
        commit = responses.resolve_commit(repo, ref, 404, "Not Found")
        origin = self.codeload_origin or request.origin
        return Answer(
            302,
            {
                "location": f"{origin}/codeload/{repo.full_name}/legacy.tar.gz/{commit.id}?token=SIGNED{commit.id[:8]}",
                "content-type": "text/html",
            },
        )

    def _lfs(self, request: SimRequest, full: str) -> Answer:
        """Source: git-lfs docs/api/batch.md. The storage is another host, with a header of its own."""
        repo = self.repos.get(full.lower())
        if repo is None and full.lower() in self.renamed:
            return Answer(
                301,
                {
                    "location": f"{request.origin}/{self.find_renamed(full.lower()).full_name}.git/info/lfs/objects/batch"
                },
            )
        if repo is None or not self.accounts.can_read(request.who, repo):
            raise ApiError(404, "Not Found")
        objects = []
        for one in json.loads(request.body)["objects"]:
            if one["oid"] in repo.lfs_objects:
                href = f"{self.codeload_origin or request.origin}/lfs-storage/{one['oid']}"
                objects.append(
                    {
                        **one,
                        "actions": {
                            "download": {
                                "href": href,
                                "header": {"X-Storage": f"key-{one['oid'][:8]}"},
                                "expires_in": 3600,
                            }
                        },
                    }
                )
            else:
                objects.append(
                    {
                        **one,
                        "error": {"code": 404, "message": "Object does not exist on the server"},
                    }
                )
        return Answer(
            200,
            {"content-type": "application/vnd.git-lfs+json"},
            json.dumps({"transfer": "basic", "objects": objects, "hash_algo": "sha256"}).encode(),
        )

    def _lfs_object(self, request: SimRequest, oid: str) -> Answer:
        content = next(
            (repo.lfs_objects[oid] for repo in self.repos.values() if oid in repo.lfs_objects), None
        )
        if content is None or request.headers.get("x-storage") != f"key-{oid[:8]}":
            return Answer(403, {"content-type": "text/plain"}, b"forbidden")
        return self._part(request, content, oid)

    def _part(self, request: SimRequest, content: bytes, etag: str) -> Answer:
        """All of it, or the rest that was asked for. Source: RFC 9110, 13.1.5 and 14; as the storage of LFS answers."""
        headers = {"content-type": "application/octet-stream"}
        if not self.lfs_ranges:
            return Answer(200, headers, content)
        headers |= {"accept-ranges": "bytes", "etag": etag}
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

    def _codeload(self, request: SimRequest, rest: Sequence[str]) -> Answer:
        repo = self.repos.get("/".join(rest[:2]).lower()) if len(rest) == 4 else None
        commit = repo.commits.get(rest[3]) if repo is not None else None
        if repo is None or commit is None or request.query.get("token") != f"SIGNED{commit.id[:8]}":
            return Answer(404, {"content-type": "text/plain"}, b"404: Not Found")
        return Answer(200, {"content-type": "application/x-gzip"}, archive.tarball(repo, commit))
