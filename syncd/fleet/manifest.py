"""What a revision says, and the text that its signature covers. Pure.

A revision is one commit's files of one job: path, mode, git id, SHA-256 and size of each. Two
programs that read the same rows get the same digest, and so the same signed text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from msgspec import Struct

from syncd.models import PathRule

FORMAT = "syncd fleet revision 1"


class ManifestEntry(Struct, frozen=True):
    """One file or link of a revision. `mode` is git's, `size` is in bytes."""

    path: str
    mode: int
    blob: str
    sha256: str
    size: int


class Revision(Struct, frozen=True):
    """One revision of a job, as the database has it.

    `sequence` grows with each revision of the job. `roots` are the paths that its controller
    lists, a folder with a slash at its end. `id` is the database's own, and not signed.
    """

    job: str
    repo: str
    ref: str | None
    commit: str
    sequence: int
    roots: tuple[str, ...]
    manifest_sha256: str
    signature: bytes = b""
    id: int = 0

    @property
    def signed_text(self) -> bytes:
        """Return the bytes that the signature covers. Each field has a line of its own."""
        lines = [
            FORMAT,
            f"job {self.job}",
            f"repo {self.repo.lower()}",
            f"ref {self.ref or ''}",
            f"commit {self.commit}",
            f"sequence {self.sequence}",
            f"manifest {self.manifest_sha256}",
        ]
        return "\n".join(lines).encode() + b"\n"


def manifest_digest(roots: Sequence[str], entries: Iterable[ManifestEntry]) -> str:
    """Return the SHA-256 of the listed paths and the entries, in whatever order they come.

    A NUL ends each record, because it is the one byte that no path has.
    """
    digest = hashlib.sha256()
    for root in sorted(roots):
        digest.update(f"root {root}\0".encode())
    for one in sorted(entries, key=lambda entry: entry.path):
        facts = f"{one.mode:o} {one.blob} {one.sha256} {one.size} {one.path}\0"
        digest.update(facts.encode())
    return digest.hexdigest()


def roots_of(rules: Iterable[PathRule]) -> tuple[str, ...]:
    """Return the paths that rules list, in order: a folder has a slash at its end."""
    return tuple(sorted({_root(rule) for rule in rules}))


def _root(rule: PathRule) -> str:
    return f"{rule.source}/" if rule.directory else rule.source


def uncovered(rules: Iterable[PathRule], roots: Sequence[str]) -> str | None:
    """Return the first listed path that is in none of the roots; None where all are.

    A folder that the revision has in part must not look like a folder with deleted files.
    """
    folders = [root for root in roots if root.endswith("/")]
    for rule in rules:
        wanted = _root(rule)
        if wanted in roots or any(root == "/" or wanted.startswith(root) for root in folders):
            continue
        return wanted
    return None


__all__ = ["ManifestEntry", "Revision", "manifest_digest", "roots_of", "uncovered"]
