"""One poll of one job by a controller: ask GitHub, and publish what is new.

`require` is judged here, as a run on one machine judges it, before anything of the commit is read.
Contents that the fleet's database has are not fetched from GitHub again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping

from msgspec import to_builtins

from syncd.deadline import Deadline
from syncd.engine.commit_policy import check_required
from syncd.engine.context import Options, RunContext, RunState
from syncd.engine.desired import max_listed, selected
from syncd.engine.signature_policy import signed_tree
from syncd.errors import LimitError
from syncd.fleet.database import FleetDatabase
from syncd.fleet.leases import Lease
from syncd.fleet.manifest import ManifestEntry, Revision, manifest_digest, roots_of
from syncd.fleet.publish import Publication, StoredBlob, publish, stored_blobs
from syncd.fleet.signing import Signer
from syncd.models import Job, TreeEntry, Trigger
from syncd.ports import BlobRequest, Blobs, Head, JobState

LOG = logging.getLogger("syncd.fleet")


class Poll:
    """One poll of one job, whose lease this controller holds."""

    def __init__(
        self, job: Job, lease: Lease, ctx: RunContext, deadline: Deadline, worker: str
    ) -> None:
        self._job, self._lease, self._ctx = job, lease, ctx
        self._deadline, self._worker = deadline, worker

    def resolve(self) -> Head:
        """Return the commit that the ref names; one request, answered 304 where it is known."""
        job = self._job
        return self._ctx.source.resolve(job.repo, job.ref, self._lease.head, self._deadline)

    def is_published(self, head: Head, lists_anew: bool) -> bool:
        """Return whether the last revision is of this commit.

        With `lists_anew` it must also be of this controller's settings. Otherwise those of another
        controller are good too: two that differ would replace each other's listing at every poll.
        """
        return is_published(self._job, self._lease, head, lists_anew)

    def publish(self, head: Head, database: FleetDatabase, signer: Signer) -> Revision:
        """Publish the commit; return its revision.

        Raises LockedError where another controller has claimed the job meanwhile.
        """
        entries = self._listed(head)
        with database.begin() as connection:
            stored = stored_blobs(connection, {entry.id for entry in entries.values()})
        self._fetch(head, entries, stored)
        publication = self._publication(head, entries, stored)
        with database.begin() as connection:
            return publish(connection, self._lease, publication, signer)

    def _listed(self, head: Head) -> dict[str, TreeEntry]:
        """Return repository path -> entry of everything that the job publishes.

        Raises what a run would that may not apply the commit.
        """
        job, ctx = self._job, self._ctx
        state = JobState(applied_commit=self._lease.published)
        options = Options(trigger=Trigger.SCHEDULE)
        run = RunState(job, ctx, self._deadline, options, state)
        check_required(run, head.commit)
        tree = signed_tree(run, head)
        listing = ctx.source.listing(
            job.repo, head.commit, job.paths, ctx.store, self._deadline, max_listed(job), tree
        )
        return {
            path: entry
            for rule in job.paths
            for path, entry in selected(job, rule, listing.entries)
        }

    def _fetch(
        self, head: Head, entries: Mapping[str, TreeEntry], stored: Mapping[str, StoredBlob]
    ) -> None:
        missing = [
            BlobRequest(path, entry) for path, entry in entries.items() if entry.id not in stored
        ]
        self._deadline.check()
        self._ctx.source.fetch(
            self._job.repo, head.commit, missing, self._ctx.blobs, self._deadline
        )

    def _publication(
        self, head: Head, entries: Mapping[str, TreeEntry], stored: Mapping[str, StoredBlob]
    ) -> Publication:
        job, blobs = self._job, self._ctx.blobs
        known = dict(stored)
        for entry in entries.values():
            if entry.id not in known:
                known[entry.id] = _measured(blobs, entry.id)
        manifest = [
            ManifestEntry(path, one.mode, one.id, known[one.id].sha256, known[one.id].size)
            for path, one in sorted(entries.items())
        ]
        _check_size(job, manifest)
        roots = roots_of(job.paths)
        digest = manifest_digest(roots, manifest)
        revision = Revision(job.name, job.repo, job.ref, head.commit, 0, roots, digest)
        new = {one.blob: one for one in manifest if one.blob not in stored}
        contents = [(one, _reader(blobs, one.blob)) for one in new.values()]
        settings = settings_of(job)
        return Publication(revision, manifest, contents, settings, self._worker, job.rollout)


def is_published(job: Job, lease: Lease, head: Head, lists_anew: bool) -> bool:
    """Return whether the last revision of the job is of this commit; see `Poll.is_published`."""
    if head.commit != lease.published or lease.settings is None:
        return False
    return not lists_anew or settings_of(job) == lease.settings


def settings_of(job: Job) -> str:
    """Return a digest of what decides, beside the commit, which files a job publishes."""
    rules = [(one.source, one.directory, one.include, one.exclude) for one in job.paths]
    kept = [rules, job.submodules.value, job.symlinks.value, to_builtins(job.require)]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _measured(blobs: Blobs, blob: str) -> StoredBlob:
    digest, size = hashlib.sha256(), 0
    with blobs.open(blob) as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return StoredBlob(digest.hexdigest(), size)


def _reader(blobs: Blobs, blob: str) -> Callable[[], bytes]:
    def read() -> bytes:
        with blobs.open(blob) as content:
            return content.read()

    return read


def _check_size(job: Job, manifest: list[ManifestEntry]) -> None:
    total = sum(one.size for one in manifest)
    if total > job.limits.size_bytes:
        raise LimitError(
            f"the job lists {total} bytes, more than limits.size: {job.limits.size_bytes}; "
            "nothing was published",
            id="limit/too-many-bytes",
            hint=f"if that is right, set limits: {{size: {total}}} or more",
        )


__all__ = ["Poll", "is_published", "settings_of"]
