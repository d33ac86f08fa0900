"""The `Source` of ports over the fleet's database: what an agent reads of one job.

Nothing that the database says is believed before it is checked: the signature of the revision, the
digest of its manifest, and the SHA-256 and git id of each content. A revision that is older than
the last one is refused, also where it is signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Row, Text, case, cast, func, select

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import (
    BadResponseError,
    ConfigError,
    LimitError,
    NotFoundError,
    RemoteUnavailableError,
)
from syncd.fleet.contents import fetch_blobs
from syncd.fleet.link import Link
from syncd.fleet.manifest import ManifestEntry, Revision, manifest_digest, uncovered
from syncd.fleet.migrate import login_of
from syncd.fleet.schema import JOB, MANIFEST, REVISION
from syncd.fleet.signing import TrustedKeys
from syncd.git_objects import EXECUTABLE, FILE, LINK, is_object_id
from syncd.models import CommitSummary, Job, Listing, PathRule, TreeEntry
from syncd.ports import BlobRequest, Blobs, Head, ListingCache, Pointer
from syncd.progress import Step
from syncd.ref_names import is_check_due
from syncd.tree_names import is_too_long, unsafe_name_error, unsafe_path_reason

MODES = frozenset((FILE, EXECUTABLE, LINK))
KEYS_HINT = "compare fleet.trust with the public halves of the controllers' keys (fleet.sign)"
SOURCE_HINT = "compare repo: and ref: with the controllers'; else look at who writes the database"
ETAG = re.compile(r'"fleet-(\d{1,18})(?:-([0-9a-f]{64}))?"')  # in the place of GitHub's
SHA256 = re.compile(r"[0-9a-f]{64}")  # a space in it would move the borders of what is signed

# The server measures a row before it is read: the database's owner may not fill an agent's memory.
MAX_MANIFEST_BYTES = 128 << 20  # a million files
MAX_ROOTS_BYTES, MAX_TEXT = 1 << 20, 1000
ENTRY_BYTES = 40 + sum(map(func.octet_length, MANIFEST.c["path", "blob_id", "sha256"]))
MANIFEST_BYTES = func.coalesce(func.sum(ENTRY_BYTES), 0)
ROOTS = case((func.octet_length(cast(REVISION.c.roots, Text)) <= MAX_ROOTS_BYTES, REVISION.c.roots))
TEXTS = [
    func.left(one, MAX_TEXT).label(one.name)
    for one in REVISION.c["repo", "ref", "commit_sha", "manifest_sha256"]
]
SIGNATURE = func.substr(REVISION.c.signature, 1, MAX_TEXT)


class FleetSource:
    """What the fleet has published of one job, as its `Source`. Safe to use from many threads.

    While the database is away, `resolve` returns the known head where `goes_on` is set: a daemon
    repairs drift meanwhile.
    """

    def __init__(
        self, job: Job, link: Link, trusted: TrustedKeys, clock: Clock, goes_on: bool = False
    ) -> None:
        self._job, self._link, self._trusted = job, link, trusted
        self._clock, self._goes_on = clock, goes_on
        self._resolved: Revision | None = None
        self._manifests: dict[str, Mapping[str, ManifestEntry]] = {}  # by digest

    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        """Return the commit of the job's last revision.

        Raises BadResponseError for a revision that is not signed, or older than the known one.
        """
        if ref != self._job.ref:
            raise ConfigError(
                f"{self._job.name}: an agent mirrors what controllers publish, and no other ref",
                id="config/fleet-ref",
                hint="change ref: in the controllers' configuration",
            )
        try:
            revision = self._revision()
        except RemoteUnavailableError:
            if known is None or not self._goes_on:
                raise
            return Head(known.commit, known.etag, known.form, True, known.checked_at)
        self._check_newer(revision, known)
        self._resolved = revision
        self._link.resolved[self._job.name] = revision.sequence
        return self._head(revision, known)

    def _head(self, revision: Revision, known: Head | None) -> Head:
        now = self._clock.now().timestamp()
        checked_at = None if known is None else known.checked_at
        if is_check_due(self._job.ref, checked_at, now):
            checked_at = now
        unchanged = known is not None and known.commit == revision.commit
        etag = f'"fleet-{revision.sequence}-{revision.manifest_sha256}"'
        return Head(revision.commit, etag, None, unchanged, checked_at)

    def _check_newer(self, revision: Revision, known: Head | None) -> None:
        """Check that the revision is not older than the known one.

        Nor may it be another one with the same number. Raises BadResponseError.
        """
        before = sequence_of(known)
        if known is None or before is None or revision.sequence > before:
            return
        if revision.sequence == before and revision.commit == known.commit:
            return
        raise BadResponseError(
            f"{self._job.name}: the fleet's database went back, to revision {revision.sequence} "
            f"(commit {revision.commit[:7]}) from {before} (commit {known.commit[:7]}); the job "
            "stays as it is",
            id="bad_response/fleet-older",
            hint="after a restore or a failover the next revision is newer; else look at who "
            "writes the database",
        )

    def listing_version(self, head: Head) -> str | None:
        """Return the digest of the manifest: controllers may list a commit in another way."""
        found = ETAG.fullmatch(head.etag or "")
        return None if found is None else found.group(2)

    # --- revisions --------------------------------------------------------------------------------

    def _revision(self, commit: str | None = None) -> Revision:
        """Return the job's last revision, of one commit where it is given; checked."""
        query = (
            select(JOB.c.name, *REVISION.c["id", "sequence"], *TEXTS)
            .add_columns(ROOTS.label("roots"), SIGNATURE.label("signature"))
            .select_from(REVISION)
            .join(JOB)
            .where(JOB.c.name == self._job.name)
            .order_by(REVISION.c.sequence.desc())
            .limit(1)
        )
        if commit is not None:
            query = query.where(REVISION.c.commit_sha == commit)
        with self._link.begin() as connection:
            row = connection.execute(query).first()
            if row is None:
                raise self._missing(connection)
        return self._checked(row)

    def _revision_of(self, commit: str) -> Revision:
        """Return the revision that was resolved, or else the commit's last one: a newer listing of
        the same commit waits for the next run.
        """
        resolved = self._resolved
        if resolved is not None and resolved.commit == commit:
            return resolved
        return self._revision(commit)

    def _missing(self, connection: Connection) -> NotFoundError:
        name = self._job.name
        known = connection.execute(select(JOB.c.id).where(JOB.c.name == name)).first()
        if known is not None:
            return NotFoundError(
                f"{name}: no controller has published the job yet",
                id="not_found/fleet-unpublished",
                hint="look at `syncd fleet status` on a controller",
            )
        return NotFoundError(
            f"{name}: the fleet has no job of this name for this agent",
            id="not_found/fleet-job",
            hint=f"on a controller: syncd fleet grant {login_of(connection)} {name}",
        )

    def _checked(self, row: Row[tuple[object, ...]]) -> Revision:
        """Return the revision of a row. Raises BadResponseError for one that is not genuine."""
        try:
            revision = Revision(
                row.name,
                row.repo,
                row.ref,
                row.commit_sha,
                row.sequence,
                tuple(map(str, row.roots)),
                row.manifest_sha256,
                bytes(row.signature),
                row.id,
            )
            signed = self._trusted.signed(revision.signed_text, revision.signature)
        except (TypeError, UnicodeError) as error:
            raise self._not_genuine("it is no revision") from error
        if not signed:
            raise self._not_genuine("no key of fleet.trust signed it", KEYS_HINT)
        if not is_object_id(revision.commit):
            raise self._not_genuine("its commit is no git id")
        other_repo = revision.repo.lower() != self._job.repo.lower()
        if other_repo or self._job.ref not in (None, revision.ref):
            raise self._not_genuine(
                f"it is of {revision.repo} {revision.ref or '(default branch)'}, and the job is of "
                f"{self._job.repo} {self._job.ref or ''}".rstrip()
            )
        return revision

    def _not_genuine(self, reason: str, hint: str = SOURCE_HINT) -> BadResponseError:
        return BadResponseError(
            f"{self._job.name}: the revision in the fleet's database is refused: {reason}",
            id="bad_response/fleet-revision",
            hint=hint,
        )

    # --- listing ----------------------------------------------------------------------------------

    def listing(
        self,
        repo: str,
        commit: str,
        rules: Sequence[PathRule],
        memory: ListingCache,
        deadline: Deadline,
        at_most: int | None = None,
        tree: str | None = None,
    ) -> Listing:
        """Return every path that the rules list, of the manifest that the revision signs.

        The parameters are those of the `Source` protocol.
        """
        deadline.progress.step(Step.LISTING)
        revision = self._revision_of(commit)
        entries = self._manifest(revision)  # first: it is what the roots are signed with
        missing = uncovered(rules, revision.roots)
        if missing is not None:
            raise self._not_published(missing, revision)
        chosen = {path: one for path, one in entries.items() if _is_listed(path, rules)}
        if at_most is not None and len(chosen) > at_most:
            raise LimitError(
                f"{self._job.name}: the revision has {len(chosen)} files, more than {at_most}; "
                "nothing was changed",
                id="limit/too-many-files",
                hint=f"if that is right, set limits: {{files: {len(chosen)}}} or more",
            )
        for rule in rules:
            if not rule.directory and rule.source not in chosen:
                raise self._not_published(rule.source, revision)
        return Listing(
            {path: TreeEntry(one.mode, one.blob, one.size) for path, one in chosen.items()}
        )

    def _not_published(self, path: str, revision: Revision) -> NotFoundError:
        return NotFoundError(
            f"{self._job.name}: {path} is not in the revision of commit {revision.commit[:7]}",
            path=path,
            id="not_found/fleet-path",
            hint="list it in the controllers' job, which publishes: "
            + (", ".join(revision.roots[:5]) or "nothing"),
        )

    def _manifest(self, revision: Revision) -> Mapping[str, ManifestEntry]:
        """Return path -> entry of the revision. Raises BadResponseError for any other manifest."""
        known = self._manifests.get(revision.manifest_sha256)
        if known is not None:
            return known
        of_revision = MANIFEST.c.revision_id == revision.id
        columns = MANIFEST.c["path", "mode", "blob_id", "sha256", "size"]
        with self._link.begin() as connection:
            size = connection.execute(select(MANIFEST_BYTES).where(of_revision)).scalar_one()
            if size > MAX_MANIFEST_BYTES:
                raise self._not_genuine("its manifest is too large")
            rows = list(connection.execute(select(*columns).where(of_revision)))
        entries = [ManifestEntry(*row) for row in rows]
        if manifest_digest(revision.roots, entries) != revision.manifest_sha256:
            raise self._not_genuine("its manifest is not the one that was signed")
        for one in entries:
            _check_entry(one)
        found = {one.path: one for one in entries}
        self._manifests[revision.manifest_sha256] = found
        return found

    # --- contents ---------------------------------------------------------------------------------

    def fetch(
        self,
        repo: str,
        commit: str,
        wanted: Sequence[BlobRequest],
        blobs: Blobs,
        deadline: Deadline,
    ) -> int:
        """Fetch every wanted blob into `blobs`; return the bytes downloaded."""
        missing = {one.entry.id for one in wanted if not blobs.has(one.entry.id)}
        if not missing:
            return 0
        manifest = self._manifest(self._revision_of(commit))
        entries = {one.blob: one for one in manifest.values() if one.blob in missing}
        absent = missing - entries.keys()
        if absent:
            raise self._not_genuine(f"it does not name the content {min(absent)}")
        return fetch_blobs(self._link, list(entries.values()), blobs, deadline)

    # --- what only controllers answer -------------------------------------------------------------

    def verification(self, repo: str, commit: str, deadline: Deadline) -> tuple[bool, str]:
        """Raise NotFoundError: controllers check `require:` before they publish."""
        raise self._only_controllers("whether GitHub verified a commit")

    def commit_summary(self, repo: str, commit: str, deadline: Deadline) -> CommitSummary:
        """Raise NotFoundError: the database has no messages of commits."""
        raise self._only_controllers("who made a commit")

    def commit_object(self, repo: str, commit: str, deadline: Deadline) -> bytes | None:
        """Raise NotFoundError: controllers check `require:` before they publish."""
        raise self._only_controllers("the commit itself")

    def tag_object(self, repo: str, name: str, deadline: Deadline) -> bytes | None:
        """Raise NotFoundError: controllers check `require:` before they publish."""
        raise self._only_controllers("the tag itself")

    def history(self, repo: str, commit: str, deadline: Deadline) -> Mapping[str, bytes]:
        """Raise NotFoundError: controllers check `require:` before they publish."""
        raise self._only_controllers("the commits before one")

    def is_descendant(self, repo: str, before: str, commit: str, deadline: Deadline) -> bool:
        """Raise NotFoundError: controllers check `require:` before they publish."""
        raise self._only_controllers("whether a commit follows another")

    def fetch_lfs(
        self, repo: str, pointers: Sequence[Pointer], blobs: Blobs, deadline: Deadline
    ) -> dict[Pointer, str]:
        """Raise NotFoundError: contents of Git LFS are not published."""
        raise self._only_controllers("contents of Git LFS")

    def _only_controllers(self, what: str) -> NotFoundError:
        return NotFoundError(
            f"{self._job.name}: the fleet's database does not say {what}",
            id="not_found/fleet-detail",
            hint="ask for it in the controllers' configuration",
        )


def sequence_of(head: Head | None) -> int | None:
    """Return the revision's number that a stored head was made from; None for GitHub's own."""
    found = ETAG.fullmatch(head.etag or "") if head is not None else None
    return None if found is None else int(found.group(1))


def _is_listed(path: str, rules: Sequence[PathRule]) -> bool:
    for rule in rules:
        if path == rule.source and not rule.directory:
            return True
        if rule.directory and (not rule.source or path.startswith(f"{rule.source}/")):
            return True
    return False


def _check_entry(entry: ManifestEntry) -> None:
    """Check one entry, as those of GitHub are checked. Raises UnsafePathError, BadResponseError."""
    if is_too_long(entry.path):
        raise unsafe_name_error(entry.path[:255], "is longer than a path can be")
    reason = unsafe_path_reason(entry.path)
    if reason is not None:
        raise unsafe_name_error(entry.path, reason)
    ids = is_object_id(entry.blob) and SHA256.fullmatch(entry.sha256)
    if entry.mode not in MODES or not ids or entry.size < 0:
        raise BadResponseError(
            f"the manifest's entry of {entry.path[:200]} is none of a file or link",
            id="bad_response/fleet-entry",
        )


__all__ = ["FleetSource", "sequence_of"]
