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
from syncd.simulator.accounts import Accounts, Credential, Refused
from syncd.simulator.faults import Answer, Fault, Wrong
from syncd.simulator.repository import Commit, Repository

CONTENTS_LIMIT = 1000
INLINE_LIMIT = 1 << 20
BLOB_LIMIT = 100 << 20
TREE_BYTES = (
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
        self.oauth = oauth.Oauth(self.accounts)
        self.api_versions: tuple[str, ...] | None = None  # an older server knows only these
        self.repos: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.asked: list[RecordedRequest] = []
        self.troubles: list[Fault] = []
        self.before: list[
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
        self.large_ranges = True  # does the storage of LFS continue a download?
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

    def landing(self, full: str) -> Repository:
        """What a former name leads to now."""
        while full in self.renamed:
            full = self.renamed[full]
        return self.repos[full]

    def trouble(self, route: str, act: Wrong, times: int = 1, skip: int = 0) -> Fault:
        made = Fault(route, act, times, skip)
        self.troubles.append(made)
        return made

    def at(self, route: str, nth: int, action: Callable[[], None]) -> None:
        """Do something just before the nth request (from 1) of the route is answered."""
        self.before.append((route, nth, action))

    def now(self) -> float:
        return self._real_now() + self.clock_offset

    # --- counting -----------------------------------------------------------------------------------------------------

    def count(self, route: str | None = None, status: int | None = None) -> int:
        return sum(
            (route is None or one.route == route) and (status is None or one.status == status)
            for one in self.asked
        )

    def routes(self) -> dict[str, int]:
        return dict(Counter(one.route for one in self.asked))

    def forget_requests(self) -> None:
        with self._guard:
            self.asked.clear()

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
        ask = SimRequest(
            method, path, dict(parse_qsl(query, keep_blank_values=True)), lower, body, origin
        )
        if path.startswith("/api/v3"):
            ask.path, ask.prefix = path.removeprefix("/api/v3"), "/api/v3"
        with self._guard:
            parts = [
                unquote(part, errors="surrogateescape") for part in ask.path.strip("/").split("/")
            ]
            route, act = self._route(ask, parts)
            self._happen(route)
            answer = self._finish(ask, self._answer(ask, route, act))
            for one in self.troubles:
                if one.hits(route):
                    answer = one.act(answer)
            key = ask.headers.get("authorization", "").partition(" ")[2] or None
            self.asked.append(RecordedRequest(route, method, target, answer.status, key, lower))
            return answer

    def _happen(self, route: str) -> None:
        seen = self.count(route) + 1
        for wanted in [one for one in self.before if one[0] == route and one[1] == seen]:
            self.before.remove(wanted)
            wanted[2]()

    def _answer(self, ask: SimRequest, route: str, act: Callable[[], Answer]) -> Answer:
        try:
            if not ask.headers.get("user-agent"):
                raise Refused(
                    403,
                    "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
                )
            version = ask.headers.get("x-github-api-version")
            if (
                self.api_versions is not None
                and version is not None
                and version not in self.api_versions
            ):
                raise Refused(400, f"The API version {version} is not supported")
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
                ask.who = self.accounts.credential(ask.headers.get("authorization"), self.now())
                self._charge(ask)
            answer = act()
        except Refused as error:
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
        if answer.status == 200 and ask.method == "GET":
            return self._condition(ask, answer)
        return answer

    def _charge(self, ask: SimRequest) -> None:
        """Primary and secondary limits. Source: docs "Rate limits for the REST API"."""
        key = ask.who.key if ask.who else "anonymous"
        now = self.now()
        if self.secondary_points is not None:
            minute = self._minute.setdefault(key, [])
            minute[:] = [at for at in minute if at > now - 60]
            if len(minute) >= self.secondary_points:
                raise Refused(
                    403,
                    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
                    {"retry-after": "60"},
                )
            minute.append(now)
        limit = self._limit(key)
        if limit is not None and self._spent[key, int(now // 3600)] >= limit:
            raise Refused(403, "API rate limit exceeded for installation ID 1.")
        self._spent[key, int(now // 3600)] += 1

    def _limit(self, key: str) -> int | None:
        return self.primary_limit if key != "anonymous" or self.primary_limit is None else 60

    def _condition(self, ask: SimRequest, answer: Answer) -> Answer:
        etag = answer.headers.get("etag")
        if self.etags == "none":
            return replace(
                answer,
                headers={name: value for name, value in answer.headers.items() if name != "etag"},
            )
        if etag is None or self.etags == "hash":
            seed = "".join(
                f"{ask.headers[name]}:"
                for name in ("accept", "authorization", "cookie")
                if name in ask.headers
            ).encode()
            etag = hashlib.sha256(seed + answer.body).hexdigest()
        given = [
            one.strip().removeprefix("W/").strip('"')
            for one in ask.headers.get("if-none-match", "").split(",")
        ]
        headers = {**answer.headers, "etag": f'"{etag}"'}
        if etag in given:
            if ask.who is not None:
                self._spent[ask.who.key, int(self.now() // 3600)] -= 1
            return replace(answer, status=304, body=b"", headers=headers)
        return replace(answer, headers=headers)

    def _finish(self, ask: SimRequest, answer: Answer) -> Answer:
        self._serial += 1
        headers = {
            "date": formatdate(self.now(), usegmt=True),
            "x-github-request-id": f"{self._serial:04X}:SIM",
            **answer.headers,
        }
        key = ask.who.key if ask.who else "anonymous"
        if ask.who is not None and ask.who.kind == "personal" and ask.who.expires != float("inf"):
            headers["github-authentication-token-expiration"] = datetime.fromtimestamp(
                int(ask.who.expires), UTC
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

    def _route(self, ask: SimRequest, parts: Sequence[str]) -> tuple[str, Callable[[], Answer]]:
        identity = apps.routed(self, ask, parts) or oauth.routed(self, ask, parts)
        if identity is not None:
            return identity
        match parts:
            case ["rate_limit"]:
                return "rate_limit", lambda: responses.as_json(
                    {"resources": {"core": {"limit": self.primary_limit}}}
                )
            case [owner, name, "info", "lfs", "objects", "batch"] if (
                name.endswith(".git") and ask.method == "POST"
            ):
                return "lfs", lambda: self._lfs(ask, f"{owner}/{name.removesuffix('.git')}")
            case ["lfs-storage", oid]:
                return "lfs_object", lambda: self._lfs_object(ask, oid)
            case ["codeload", *rest]:
                return "codeload", lambda: self._codeload(ask, rest)
            case ["repositories", number, *rest]:
                return self._repo_route(
                    ask,
                    next((repo for repo in self.repos.values() if str(repo.id) == number), None),
                    "",
                    rest,
                )
            case ["repos", owner, name, *rest]:
                full = f"{owner}/{name}".lower()
                return self._repo_route(ask, self.repos.get(full), full, rest)
        return "unknown", lambda: responses.refuse(404, "Not Found")

    def _repo_route(
        self, ask: SimRequest, repo: Repository | None, full: str, rest: Sequence[str]
    ) -> tuple[str, Callable[[], Answer]]:
        name, act = self._repo_action(ask, rest)

        def guarded() -> Answer:
            if repo is None and full in self.renamed:
                new = self.landing(full)
                tail = ask.path.split("/", 4)[4] if ask.path.count("/") > 3 else ""
                query = "&".join(f"{key}={quote(value)}" for key, value in ask.query.items())
                return Answer(
                    301,
                    {
                        "location": f"{ask.origin}{ask.prefix}/repositories/{new.id}/{tail}"
                        + (f"?{query}" if query else "")
                    },
                )
            if repo is None or not self.accounts.may_read(ask.who, repo):
                raise Refused(404, "Not Found")
            return act(repo)

        return name, guarded

    def _repo_action(
        self, ask: SimRequest, rest: Sequence[str]
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
                return "head", lambda repo: self._commit(ask, repo, "/".join(ref))
            case ["contents", *path]:
                return "contents", lambda repo: self._contents(ask, repo, "/".join(path))
            case ["git", "trees", *name]:
                return "tree", lambda repo: self._tree(ask, repo, "/".join(name))
            case ["git", "blobs", identity]:
                return "blob", lambda repo: self._blob(ask, repo, identity)
            case ["git", "commits", identity]:
                return "commit", lambda repo: responses.as_json(
                    responses.git_commit(responses.found(repo.commits.get(identity)))
                )
            case ["compare", *span]:
                return "compare", lambda repo: self._compare(repo, "/".join(span))
            case ["tarball", *ref]:
                return "tarball", lambda repo: self._tarball(ask, repo, "/".join(ref))
        return "unknown", lambda repo: responses.refuse(404, "Not Found")

    # --- repositories -------------------------------------------------------------------------------------------------

    def _commit(self, ask: SimRequest, repo: Repository, ref: str) -> Answer:
        commit = responses.commit_of(repo, ref, 422, f"No commit found for SHA: {ref}")
        if ask.media() == "sha" and not self.plain_json:
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

    def _contents(self, ask: SimRequest, repo: Repository, path: str) -> Answer:
        if path.endswith("/") and path.strip("/"):
            query = f"?ref={quote(ask.query['ref'])}" if "ref" in ask.query else ""
            return Answer(
                302,
                {
                    "location": f"{ask.origin}{ask.prefix}/repositories/{repo.id}/contents/{quote(path.rstrip('/'))}{query}"
                },
            )
        ref = ask.query.get("ref") or repo.default_branch
        commit = responses.commit_of(repo, ref, 404, f"No commit found for the ref {ref}")
        at = repo.entry(commit.tree, path.strip("/"))
        if at is None:
            raise Refused(404, "Not Found")
        mode, identity = at
        if mode == TREE:
            return self._folder(ask, repo, path.strip("/"), identity, commit)
        return self._file(ask, repo, path, mode, identity, commit)

    def _folder(
        self, ask: SimRequest, repo: Repository, path: str, tree: str, commit: Commit
    ) -> Answer:
        entries: list[dict[str, Any]] = [
            {
                "name": name,
                "path": f"{path}/{name}".lstrip("/"),
                "sha": identity,
                "size": 0 if mode in (TREE, SUBMODULE) else repo.size_of(identity),
                "type": responses.listed_type(ask, mode),
            }
            for name, mode, identity in list(repo.walk(tree, recursive=False))[:CONTENTS_LIMIT]
        ]
        if ask.media() == "object" and not self.plain_json:
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
        self, ask: SimRequest, repo: Repository, path: str, mode: int, identity: str, commit: Commit
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
                if ask.media() == "raw" and not self.plain_json:
                    return Answer(200, responses.raw_headers(identity), target.encode())
                return responses.as_json(
                    {**shape, "size": len(target), "target": target}, etag=identity
                )
            served, shape["type"] = landing[1], "file"
        size = repo.size_of(served)
        if size > BLOB_LIMIT or (
            size > INLINE_LIMIT and self.too_large_403 and ask.media() is None
        ):
            raise Refused(
                403,
                "This API returns blobs up to 100 MB in size.",
                errors=[{"resource": "Blob", "field": "data", "code": "too_large"}],
            )
        if ask.media() == "raw" and not self.plain_json:
            return Answer(200, responses.raw_headers(identity), repo.blobs[served])
        inline = size <= INLINE_LIMIT or self.plain_json
        return responses.as_json(
            {
                **shape,
                "size": size,
                "content": responses.wrapped_base64(repo.blobs[served]) if inline else "",
                "encoding": "base64" if inline else "none",
            },
            etag=identity,
        )

    def _tree(self, ask: SimRequest, repo: Repository, name: str) -> Answer:
        shown, tree = name, name
        if name not in repo.trees:
            commit = responses.commit_of(repo, name, 404, "Not Found")
            shown, tree = commit.id, commit.tree
        found: list[dict[str, Any]] = []
        truncated, recursive, room = False, "recursive" in ask.query, TREE_BYTES
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

    def _blob(self, ask: SimRequest, repo: Repository, identity: str) -> Answer:
        content = repo.blobs.get(identity)
        if content is None:
            raise Refused(404, "Not Found")
        if ask.media() == "raw" and not self.plain_json:
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
            responses.commit_of(repo, base, 404, "Not Found"),
            responses.commit_of(repo, head, 404, "Not Found"),
        )
        ours, theirs = responses.ancestry(repo, one), responses.ancestry(repo, other)
        ahead, behind = len(theirs - ours), len(ours - theirs)
        if not ours & theirs:
            raise Refused(404, "No common ancestor between the two commits.")
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

    def _tarball(self, ask: SimRequest, repo: Repository, ref: str) -> Answer:
        commit = responses.commit_of(repo, ref, 404, "Not Found")
        origin = self.codeload_origin or ask.origin
        return Answer(
            302,
            {
                "location": f"{origin}/codeload/{repo.full_name}/legacy.tar.gz/{commit.id}?token=SIGNED{commit.id[:8]}",
                "content-type": "text/html",
            },
        )

    def _lfs(self, ask: SimRequest, full: str) -> Answer:
        """Source: git-lfs docs/api/batch.md. The storage is another host, with a header of its own."""
        repo = self.repos.get(full.lower())
        if repo is None and full.lower() in self.renamed:
            return Answer(
                301,
                {
                    "location": f"{ask.origin}/{self.landing(full.lower()).full_name}.git/info/lfs/objects/batch"
                },
            )
        if repo is None or not self.accounts.may_read(ask.who, repo):
            raise Refused(404, "Not Found")
        objects = []
        for one in json.loads(ask.body)["objects"]:
            if one["oid"] in repo.large:
                href = f"{self.codeload_origin or ask.origin}/lfs-storage/{one['oid']}"
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

    def _lfs_object(self, ask: SimRequest, oid: str) -> Answer:
        content = next((repo.large[oid] for repo in self.repos.values() if oid in repo.large), None)
        if content is None or ask.headers.get("x-storage") != f"key-{oid[:8]}":
            return Answer(403, {"content-type": "text/plain"}, b"forbidden")
        return self._part(ask, content, oid)

    def _part(self, ask: SimRequest, content: bytes, etag: str) -> Answer:
        """All of it, or the rest that was asked for. Source: RFC 9110, 13.1.5 and 14; as the storage of LFS answers."""
        headers = {"content-type": "application/octet-stream"}
        if not self.large_ranges:
            return Answer(200, headers, content)
        headers |= {"accept-ranges": "bytes", "etag": etag}
        start = ask.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
        if not start.isdecimal() or ask.headers.get("if-range", f'"{etag}"') != f'"{etag}"':
            return Answer(200, headers, content)
        if int(start) >= len(content):
            return Answer(416, {"content-range": f"bytes */{len(content)}"})
        headers |= {
            "etag": f'"{etag}"',
            "content-range": f"bytes {start}-{len(content) - 1}/{len(content)}",
        }
        return Answer(206, headers, content[int(start) :])

    def _codeload(self, ask: SimRequest, rest: Sequence[str]) -> Answer:
        repo = self.repos.get("/".join(rest[:2]).lower()) if len(rest) == 4 else None
        commit = repo.commits.get(rest[3]) if repo is not None else None
        if repo is None or commit is None or ask.query.get("token") != f"SIGNED{commit.id[:8]}":
            return Answer(404, {"content-type": "text/plain"}, b"404: Not Found")
        return Answer(200, {"content-type": "application/x-gzip"}, archive.tarball(repo, commit))
