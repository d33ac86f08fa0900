"""What a run with SYNCD_LIVE_WRITE=1 commits to the scratch repository, and removes again.

Two commits on a branch of its own hold one entry of each kind that the questions need; a tag has
the branch's name and names the older commit. Both refs are deleted at the end. The default branch
is not touched; the commits without a ref are GitHub's to remove.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from tests.live.api import Api, NotApplicable, Reply
from tests.live.settings import Settings
from tests.live.subject import LARGE_BYTES, Subject

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    f"oid sha256:{'5' * 64}\n"
    "size 12345\n"
)  # no such content is stored: the batch API answers 200 and says so for this object


@contextmanager
def scratch(api: Api) -> Iterator[Settings]:
    """Return the settings to ask about the scratch commits; the refs are gone afterwards.

    Raises NotApplicable when the commits can't be made.
    """
    writer = _Writer(Subject(api))
    name = f"syncd-live-{secrets.token_hex(4)}"
    try:
        older = writer.commit(_entries(), [])
        newer = writer.commit([_file("nested/target.txt", "two\n")], [older])
        writer.ref(f"refs/heads/{name}", newer)
        writer.ref(f"refs/tags/{name}", older)
        yield replace(api.settings, ref=f"heads/{name}", same_name=name)
    finally:
        writer.remove_refs()


def _entries() -> list[dict[str, str]]:
    return [
        _file("README.md", "Made by syncd's `make live`; safe to delete.\n"),
        _file("nested/target.txt", "one\n"),
        _file("nested/link", "target.txt", "120000"),
        _file("large.txt", "0123456789abcde\n" * (LARGE_BYTES.start // 16 + 1)),
        _file("stored.bin", POINTER),
        {"path": "module", "mode": "160000", "type": "commit", "sha": "1" * 40},
    ]


def _file(path: str, content: str, mode: str = "100644") -> dict[str, str]:
    return {"path": path, "mode": mode, "type": "blob", "content": content}


class _Writer:
    """Makes git objects and refs through the API. Source: REST docs, "Git database"."""

    def __init__(self, subject: Subject) -> None:
        self._subject, self._refs, self._tree = subject, list[str](), ""

    def commit(self, entries: list[dict[str, str]], parents: list[str]) -> str:
        """Return the id of a new commit: the entries, over the tree of the one before."""
        base = {"base_tree": self._tree} if self._tree else {}
        self._tree = self._made("trees", {"tree": entries, **base})["sha"]
        body = {"message": "syncd make live", "tree": self._tree, "parents": parents}
        return str(self._made("commits", body)["sha"])

    def ref(self, name: str, commit: str) -> None:
        """Make a ref; it is removed by `remove_refs`."""
        self._refs.append(name)
        self._made("refs", {"ref": name, "sha": commit})

    def remove_refs(self) -> None:
        """Delete the refs that were made."""
        for name in self._refs:
            path = f"{self._subject.path}/git/{name}"
            self._subject.api.delete(path, self._subject.token)

    def _made(self, kind: str, body: object) -> Any:
        subject = self._subject
        reply: Reply = subject.api.post(f"{subject.path}/git/{kind}", subject.token, body)
        if reply.status != 201:
            raise NotApplicable(f"git/{kind} of the scratch repository answered {reply.status}")
        return reply.json
