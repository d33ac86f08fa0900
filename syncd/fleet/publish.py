"""Publishes a revision in one transaction, which the epoch of the lease guards.

Contents come first: the job's row is locked for the last statements only, so that a controller
that is frozen in between holds nothing that another one needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ARRAY, Connection, Text, any_, bindparam, func, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.postgresql import insert

from syncd.errors import LockedError
from syncd.fleet.leases import NOW, Lease
from syncd.fleet.manifest import ManifestEntry, Revision
from syncd.fleet.schema import BLOB, CHANNEL, JOB, MANIFEST, REVISION
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
    for rows in _manifest_rows(revision_id, publication.entries):
        connection.execute(plain_insert(MANIFEST), rows)
    connection.execute(select(func.pg_notify(CHANNEL, lease.job)))
    return replace(revision, id=revision_id)


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


def _manifest_rows(
    revision_id: int, entries: Sequence[ManifestEntry]
) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(entries), BATCH_ROWS):
        yield [
            {
                "revision_id": revision_id,
                "path": one.path,
                "mode": one.mode,
                "blob_id": one.blob,
                "sha256": one.sha256,
                "size": one.size,
            }
            for one in entries[start : start + BATCH_ROWS]
        ]


__all__ = ["Publication", "StoredBlob", "publish", "stored_blobs"]
