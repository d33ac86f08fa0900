"""Many rows in one statement.

`executemany` of psycopg uses a pipeline, and PostgreSQL 15 does not end a session that stays idle
in its transaction after one: a controller that is frozen there would hold its locks for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, Column, FromClause, bindparam, func


def rows_of(columns: Sequence[Column[Any]], rows: Sequence[Sequence[Any]]) -> FromClause:
    """Return rows as a table whose columns have the names and types of these."""
    arrays = [
        bindparam(None, [row[number] for row in rows], type_=ARRAY(column.type))
        for number, column in enumerate(columns)
    ]
    named = [Column(column.name, column.type) for column in columns]
    return func.unnest(*arrays).table_valued(*named, name="given").render_derived()


__all__ = ["rows_of"]
