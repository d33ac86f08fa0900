"""A simulator whose git database can be written to, for what commits to a scratch repository.

Source of the shapes: REST docs, "Git database" (trees, commits, references).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from syncd.simulator import responses
from syncd.simulator.faults import Answer
from syncd.simulator.repository import File, Link, Node, Repository, Submodule
from tests.support.secret_scan import SecretScan
from tests.support.sync_env import WatchedGitHub


class WritableGitHub(WatchedGitHub):
    """Answers POST to git/trees, git/commits, git/refs and statuses, and DELETE of a ref."""

    def __init__(self, canary: SecretScan, repo: str) -> None:
        super().__init__(canary)
        self.scratch = self.add_repo(repo, {"kept.txt": "kept\n"})
        self.refs_made: list[str] = []
        self.refs_removed: list[str] = []
        self._files: dict[str, dict[str, Node]] = {}  # tree id -> path -> node

    def handle(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        origin: str = "http://127.0.0.1",
    ) -> Answer:
        prefix = f"/repos/{self.scratch.full_name}/"
        if target.startswith(prefix) and method in ("POST", "DELETE"):
            return self._write(method, target.removeprefix(prefix), json.loads(body or b"{}"))
        return super().handle(method, target, headers, body, origin)

    def _write(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        repo = self.scratch
        if method == "DELETE":
            self.refs_removed.append(path.removeprefix("git/"))
            del repo.refs[path.removeprefix("git/")]
            return Answer(204)
        match path.split("/"):
            case ["git", "trees"]:
                return responses.as_json({"sha": self._tree(repo, body)}, 201)
            case ["git", "commits"]:
                made = repo.add_commit(body["tree"], tuple(body["parents"]), body["message"])
                return responses.as_json({"sha": made}, 201)
            case ["git", "refs"]:
                self.refs_made.append(body["ref"])
                repo.refs[body["ref"]] = body["sha"]
                return responses.as_json({"ref": body["ref"]}, 201)
        needed = {"x-accepted-github-permissions": "statuses=write"}
        return Answer(403, needed, b'{"message": "Resource not accessible by integration"}')

    def _tree(self, repo: Repository, body: dict[str, Any]) -> str:
        files = dict(self._files.get(body.get("base_tree", ""), {}))
        files |= {one["path"]: _node(one) for one in body["tree"]}
        made = repo.add_files(files)
        self._files[made] = files
        return made


def _node(entry: dict[str, Any]) -> Node:
    if entry["type"] == "commit":
        return Submodule(entry["sha"])
    if entry["mode"] == "120000":
        return Link(entry["content"])
    return File(entry["content"].encode())
