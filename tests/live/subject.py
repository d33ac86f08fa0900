"""What the questions are asked about: one repository at one commit, and its kinds of entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from syncd.github.protocol import quote_path
from tests.live.api import Api, NotApplicable

READ_CONTENTS = {"contents": "read"}
MAX_PARENTS = 10  # commits that are searched for a symlink whose target changed
LARGE_BYTES = range((1 << 20) + 1, 100 << 20)
POINTER_BYTES = range(110, 200)  # docs/spec.md of git-lfs: a pointer has about 130 bytes
MAX_POINTER_CANDIDATES = 5
POINTER = re.compile(rb"version https://git-lfs[^\n]*\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")


class Subject:
    """The repository, the installation that reaches it, and what was found in it so far."""

    def __init__(self, api: Api) -> None:
        self.api, self.settings = api, api.settings
        self.path = f"/repos/{self.settings.repo}"

    @cached_property
    def installation(self) -> str:
        """Return the installation's id, from the environment or from GitHub."""
        if self.settings.installation_id is not None:
            return self.settings.installation_id
        reply = self.api.get(f"{self.path}/installation", self.api.jwt())
        if reply.status != 200:
            raise NotApplicable(
                f"the App has no installation for the repository: status {reply.status}"
            )
        return str(reply.json["id"])

    @cached_property
    def token(self) -> str:
        """Return the run's first token."""
        return self.accepted_token()

    @cached_property
    def other_token(self) -> str:
        """Return a second token of the same installation."""
        return self.accepted_token()

    def new_token(self, stateless: bool | None = None) -> str:
        """Return a new token for reading contents; in a run that writes, with all permissions."""
        body = {} if self.settings.write else {"permissions": READ_CONTENTS}
        return self.api.create_token(self.installation, body, stateless)

    def accepted_token(self, stateless: bool | None = None) -> str:
        """Return a new token that the server knows already: a fresh one may be refused at first."""
        token = self.new_token(stateless)
        self.api.statuses_until(self.path, token, 200)
        return token

    @cached_property
    def repository(self) -> Mapping[str, Any]:
        """Return the repository's own description."""
        return self._json(self.path)

    @cached_property
    def commit(self) -> Mapping[str, Any]:
        """Return the commit that the questions are asked at."""
        ref = self.settings.ref or self.repository["default_branch"]
        return self._json(f"{self.path}/commits/{ref}")

    @property
    def commit_id(self) -> str:
        """Return the id of that commit."""
        return str(self.commit["sha"])

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """Return every entry of the commit's tree."""
        return self._tree(self.commit_id)

    def entry(self, kind: str, sizes: range | None = None) -> dict[str, Any]:
        """Return the first entry of a git mode. Raises NotApplicable where there is none."""
        for one in self.entries:
            if one["mode"] == kind and (sizes is None or one.get("size", 0) in sizes):
                return one
        named = {
            "100644": "file",
            "040000": "directory",
            "120000": "symlink",
            "160000": "submodule",
        }
        size = f" of {sizes.start} to {sizes.stop} bytes" if sizes else ""
        raise NotApplicable(f"the commit has no {named[kind]}{size}")

    def contents(self, path: str, ref: str | None = None) -> str:
        """Return the API path of an entry's contents."""
        return f"{self.path}/contents/{quote_path(path)}?ref={ref or self.commit_id}"

    @cached_property
    def pointer(self) -> tuple[str, str, int]:
        """Return (path, oid, size in bytes) of a file in Git LFS."""
        candidates = [
            one
            for one in self.entries
            if one["type"] == "blob" and one.get("size", 0) in POINTER_BYTES
        ]
        for one in candidates[:MAX_POINTER_CANDIDATES]:
            raw = "application/vnd.github.raw+json"
            content = self.api.get(f"{self.path}/git/blobs/{one['sha']}", self.token, raw).body
            found = POINTER.match(content)
            if found is not None:
                return one["path"], found[1].decode(), int(found[2])
        raise NotApplicable("the commit has no file in Git LFS")

    @cached_property
    def changed_link(self) -> tuple[str, str, str]:
        """Return (path, older, newer commit): the same link, with another content of its target."""
        newer, commit = self._links(self.entries), self.commit
        if not newer:
            raise NotApplicable("the commit has no symlink to a file")
        for _ in range(MAX_PARENTS):
            if not commit["parents"]:
                break
            commit = self._json(f"{self.path}/commits/{commit['parents'][0]['sha']}")
            older = self._links(self._tree(commit["sha"]))
            for path, (link, target) in newer.items():
                if path in older and older[path][0] == link and older[path][1] != target:
                    return path, commit["sha"], self.commit_id
        raise NotApplicable(f"no symlink's target changed in the last {MAX_PARENTS} commits")

    def _links(self, entries: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
        """Return path -> (link's id, target's id) of links to a file beside them."""
        by_path = {one["path"]: one["sha"] for one in entries}
        found = {}
        for one in entries:
            if one["mode"] == "120000":
                above = one["path"].rpartition("/")[0]
                target = self._link_text(one["sha"])
                beside = f"{above}/{target}" if above else target
                if beside in by_path:
                    found[one["path"]] = (one["sha"], by_path[beside])
        return found

    def _link_text(self, blob: str) -> str:
        texts: dict[str, str] = self.__dict__.setdefault("_texts", {})
        if blob not in texts:
            raw = "application/vnd.github.raw+json"
            reply = self.api.get(f"{self.path}/git/blobs/{blob}", self.token, raw)
            texts[blob] = reply.body.decode(errors="replace")
        return texts[blob]

    def _tree(self, commit: str) -> list[dict[str, Any]]:
        found = self._json(f"{self.path}/git/trees/{commit}?recursive=1")
        return list(found["tree"])

    def _json(self, path: str) -> dict[str, Any]:
        reply = self.api.get(path, self.token)
        if reply.status != 200 or not isinstance(reply.json, dict):
            raise NotApplicable(f"{path.partition('?')[0]} answered {reply.status}")
        return reply.json
