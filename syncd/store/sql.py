"""The few shapes of statement that more than one table needs. Names of tables and columns are ours; values are always bound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from sqlite3 import Connection
from typing import Any, TypeVar

T = TypeVar("T")

AT_ONCE = 500  # values in one statement; SQLite has refused more than 999 before 3.32


def put(connection: Connection, table: str, keys: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
    """These rows, all of the same columns, are in the table; each took the place of the one with the same keys."""
    values = list(rows)
    if not values:
        return
    columns = list(values[0])
    rest = ", ".join(f'"{column}" = excluded."{column}"' for column in columns if column not in keys)
    names, places = ", ".join(f'"{column}"' for column in columns), ", ".join(f":{column}" for column in columns)
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {rest}", values)


def marks(values: Iterable[object]) -> str:
    """A question mark for each of the values."""
    return ", ".join("?" for _ in values)


def in_parts(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, as many at once as a statement takes."""
    every = list(values)
    for start in range(0, len(every), AT_ONCE):
        yield every[start : start + AT_ONCE]
