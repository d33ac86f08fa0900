"""Statements over the listings: what a git tree holds, by tree id.

The newest are kept, up to a number and a size.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from sqlalchemy import Connection, delete, select, text

from syncd.models import TreeEntry
from syncd.store import serialization
from syncd.store.checksum import checksum, matches
from syncd.store.schema import LISTING

LISTINGS_KEPT = 200
LISTINGS_BYTES_KEPT = 64 << 20
DELETE_OLD = text(
    "DELETE FROM listing WHERE rowid NOT IN (SELECT rowid FROM ("
    " SELECT rowid, row_number() OVER latest AS place,"
    " sum(length(entries)) OVER latest - length(entries) AS newer"
    " FROM listing WINDOW latest AS (ORDER BY rowid DESC)) WHERE place <= :count AND newer < :size)"
)


def load(connection: Connection, tree: str) -> Mapping[str, TreeEntry] | None:
    """Return what the tree holds; None where it is not stored, or the row is damaged."""
    query = select(*LISTING.c["entries", "checksum"]).where(LISTING.c.tree_sha == tree)
    for body, stored_checksum in connection.execute(query).all():
        try:
            if matches(stored_checksum, tree, body=body):
                return serialization.listing_from_bytes(body)
        except (ValueError, TypeError, zlib.error):
            return None
    return None


def save(connection: Connection, tree: str, entries: Mapping[str, TreeEntry]) -> None:
    """Store what the tree holds, as the newest listing."""
    body = serialization.listing_to_bytes(entries)
    row = {"tree_sha": tree, "entries": body, "checksum": checksum(tree, body=body)}
    connection.execute(delete(LISTING).where(LISTING.c.tree_sha == tree))
    connection.execute(LISTING.insert().values(row))
    connection.execute(DELETE_OLD, {"count": LISTINGS_KEPT, "size": LISTINGS_BYTES_KEPT})
