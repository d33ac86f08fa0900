"""Publishes a revision in one transaction, which the epoch of the lease guards.

Contents come first: the job's row is locked for the last statements only, so that a controller
that is frozen in between holds nothing that another one needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple, replace
from sqlalchemy import ARRAY, Connection, Row, Text, any_, bindparam, func, literal, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.postgresql import insert

from syncd.apply_rules import Rollout
from syncd.errors import ConfigError, LockedError
from syncd.fleet import waves
from syncd.fleet.bulk import rows_of
from syncd.fleet.leases import NOW, Lease
from syncd.fleet.manifest import ManifestEntry, Revision, manifest_digest
from syncd.fleet.schema import BLOB, JOB, MANIFEST, REVISION
from syncd.fleet.signing import Signer

BATCH_ROWS = 1000


class StoredBlob(Struct, frozen=True):
    """What the database knows of a content that it has."""

    sha256: str
    size: int


class Publication(Struct, frozen=True):
    """What a controller publishes: an unsigned revision, its entries, and the contents that the
    database may lack, read when they are sent.
    """

    revision: Revision
    entries: Sequence[ManifestEntry]
    contents: Iterable[tuple[ManifestEntry, Callable[[], bytes]]]
    settings: str
    worker: str
    rollout: Rollout | None = None


def stored_blobs(connection: Connection, blobs: Iterable[str]) -> dict[str, StoredBlob]:
    """Return those of the contents that the database has."""
    wanted = bindparam("wanted", list(blobs), type_=ARRAY(Text))
    query = select(*BLOB.c["id", "sha256", "size"]).where(BLOB.c.id == any_(wanted))
    return {row.id: StoredBlob(row.sha256, row.size) for row in connection.execute(query)}


def publish(
    connection: Connection, lease: Lease, publication: Publication, signer: Signer
) -> Revision:
    """Publish in the caller's transaction; return the signed revision.

    Raises LockedError where another controller has claimed the job since: the caller's transaction
    must be rolled back, and nothing is published.
    """
    for entry, read in publication.contents:
        row = {"id": entry.blob, "sha256": entry.sha256, "size": entry.size, "data": read()}
        connection.execute(insert(BLOB).values(row).on_conflict_do_nothing())
    sequence = _next_sequence(connection, lease, publication)
    unsigned = replace(publication.revision, sequence=sequence)
    revision = replace(unsigned, signature=signer.sign(unsigned.signed_text))
    revision_id = _insert_revision(connection, lease, publication, revision)
    for start in range(0, len(publication.entries), BATCH_ROWS):
        _insert_manifest(connection, revision_id, publication.entries[start : start + BATCH_ROWS])
    if publication.rollout is not None:
        waves.begin(connection, lease.job_id, revision_id, publication.rollout)
    waves.notify(connection, lease.job)
    return replace(revision, id=revision_id)


def republish(
    connection: Connection, job: Row[Any], commit: str | None, worker: str, signer: Signer
) -> Revision:
    """Publish an earlier revision of a job again, for every agent, as the newest one.

    `job` is its locked row. Without `commit` it is the one before the commit that agents have.
    Raises ConfigError where the database has no such revision any more.
    """
    old = _earlier(connection, job, commit)
    lease = Lease(job.id, job.name, job.epoch + 1, job.next_at)
    # another epoch: what a controller is about to publish of this job is refused
    connection.execute(update(JOB).where(JOB.c.id == job.id).values(epoch=lease.epoch))
    query = select(*MANIFEST.c["path", "mode", "blob_id", "sha256", "size"])
    rows = connection.execute(query.where(MANIFEST.c.revision_id == old.id))
    entries = [ManifestEntry(*row) for row in rows]
    roots = tuple(old.roots)
    digest = manifest_digest(roots, entries)
    revision = Revision(job.name, old.repo, old.ref, old.commit_sha, 0, roots, digest)
    publication = Publication(revision, entries, (), job.settings or "", worker)
    return publish(connection, lease, publication, signer)


def _earlier(connection: Connection, job: Row[Any], commit: str | None) -> Row[Any]:
    of_job = select(REVISION).where(REVISION.c.job_id == job.id)
    newest_first = list(connection.execute(of_job.order_by(REVISION.c.sequence.desc())))
    current = newest_first[0].commit_sha if newest_first else None
    for row in newest_first:
        if commit is None and row.commit_sha != current and row.released_at is not None:
            return row
        if commit is not None and row.commit_sha.startswith(commit):
            return row
    known = dict.fromkeys(row.commit_sha[:7] for row in newest_first)
    raise ConfigError(
        f"{job.name}: the fleet's database has no earlier revision"
        + (f" of {commit[:40]}" if commit is not None else ""),
        id="config/fleet-no-revision",
        hint="it has " + (", ".join(known) or "none"),
    )


def _next_sequence(connection: Connection, lease: Lease, publication: Publication) -> int:
    """Return the sequence number of the new revision, and lock the job's row.

    It is the server's time in milliseconds, and never below the last one: after a failover that
    lost revisions, the next one is newer than what the agents have.
    """
    milliseconds = func.floor(func.extract("epoch", NOW) * 1000)
    sequence = func.greatest(JOB.c.sequence + 1, milliseconds)
    guarded = (
        update(JOB)
        .where(JOB.c.id == lease.job_id, JOB.c.epoch == lease.epoch)
        .values(sequence=sequence, settings=publication.settings)
        .returning(JOB.c.sequence)
    )
    found = connection.execute(guarded).scalar_one_or_none()
    if found is None:
        raise LockedError(
            f"{lease.job}: another controller has claimed the job; nothing was published",
            id="locked/fleet-lease",
            hint="it publishes the job now",
        )
    return int(found)


def _insert_revision(
    connection: Connection, lease: Lease, publication: Publication, revision: Revision
) -> int:
    row = {
        "job_id": lease.job_id,
        "sequence": revision.sequence,
        "repo": revision.repo,
        "ref": revision.ref,
        "commit_sha": revision.commit,
        "roots": list(revision.roots),
        "manifest_sha256": revision.manifest_sha256,
        "signature": revision.signature,
        "epoch": lease.epoch,
        "worker": publication.worker,
        "released_at": NOW,
    }
    query = plain_insert(REVISION).values(row).returning(REVISION.c.id)
    return int(connection.execute(query).scalar_one())


def _insert_manifest(
    connection: Connection, revision_id: int, entries: Sequence[ManifestEntry]
) -> None:
    columns = MANIFEST.c["path", "mode", "blob_id", "sha256", "size"]
    given = rows_of(list(columns), [astuple(one) for one in entries])
    rows = select(literal(revision_id), *given.c)
    names = ["revision_id", *(column.name for column in columns)]
    connection.execute(plain_insert(MANIFEST).from_select(names, rows))


__all__ = ["Publication", "StoredBlob", "publish", "republish", "stored_blobs"]
