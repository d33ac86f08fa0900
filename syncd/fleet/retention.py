"""What the fleet's database forgets: old revisions, contents that none names, sessions long gone.

Any controller does this now and then, one at a time.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, delete, exists, func, select

from syncd.fleet.leases import NOW
from syncd.fleet.schema import BLOB, MANIFEST, PRESENCE, REVISION

KEPT_REVISIONS = 5  # of each job, as the sets that one machine keeps for a rollback
KEEP_CONTENTS = timedelta(hours=24)  # a controller that publishes now may count on one
KEEP_SESSIONS = timedelta(days=7)
LOCK = 0x73796E64  # of the advisory lock


def forget_old(connection: Connection) -> tuple[int, int]:
    """Remove what is not needed any more; return how many revisions and contents that were.

    Nothing is done where another controller is at it.
    """
    if not connection.execute(select(func.pg_try_advisory_xact_lock(LOCK))).scalar():
        return 0, 0
    age = func.row_number().over(
        partition_by=REVISION.c.job_id, order_by=REVISION.c.sequence.desc()
    )
    ranked = select(REVISION.c.id, age.label("age")).subquery()
    released = select(func.max(REVISION.c.id)).where(REVISION.c.released_at.is_not(None))
    last = released.group_by(REVISION.c.job_id)  # what most agents have, however old it is
    old = select(ranked.c.id).where(ranked.c.age > KEPT_REVISIONS, ranked.c.id.not_in(last))
    revisions = connection.execute(delete(REVISION).where(REVISION.c.id.in_(old))).rowcount
    named = exists().where(MANIFEST.c.blob_id == BLOB.c.id)
    unused = delete(BLOB).where(BLOB.c.created_at < NOW - KEEP_CONTENTS, ~named)
    contents = connection.execute(unused).rowcount
    connection.execute(delete(PRESENCE).where(PRESENCE.c.seen_at < NOW - KEEP_SESSIONS))
    return revisions, contents


__all__ = ["forget_old"]
