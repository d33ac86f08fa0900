"""Every released schema's store is brought to this version's, or stays what it was,
whatever statement the process dies at.

The statements that begin and end the transaction are always tried for the oldest and the newest
schema, and so many of each schema's others; SYNCD_MIGRATION_POINTS=1000 tries all.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.errors import StoreError
from syncd.store.migrate import APPLICATION_ID_BASE, stamp_of
from syncd.store.schema import VERSION
from syncd.store.store import FILE_NAME, SqliteStore
from tests.support.store_fixtures import (
    FOLDERS,
    HEAD,
    INTENT,
    JOB,
    LEDGER,
    LISTING,
    SCOPE,
    STATE,
    oid,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/store"
RELEASED = sorted(file.stem for file in FIXTURES.glob("*.sql"))


def old_store(state: Path, version: str) -> Path:
    """The store that the released version left in `state`."""
    state.mkdir(mode=0o700)
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        connection.executescript((FIXTURES / f"{version}.sql").read_text())
        connection.execute(
            f"PRAGMA application_id = {0 if version == '0001' else stamp_of(version)}"
        )
        connection.execute("PRAGMA journal_mode = WAL")
    return state


def schema_of(file: Path) -> list[tuple[str, list[tuple[object, ...]]]]:
    """Every table's columns, and the number it says, read without syncd."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
        ]
        columns = [
            (name, connection.execute(f"PRAGMA table_info('{name}')").fetchall()) for name in names
        ]
        number = (
            connection.execute("PRAGMA application_id").fetchall()
            + connection.execute("SELECT version_num FROM alembic_version").fetchall()
        )
        return [*columns, ("number", number)]


def objects_of(file: Path) -> dict[str, tuple[object, ...]]:
    """Every table's and index's columns, keys and references, however their SQL is worded."""
    with closing(sqlite3.connect(file)) as connection:
        found: dict[str, tuple[object, ...]] = {}
        for kind, name in connection.execute(
            "SELECT type, name FROM sqlite_master ORDER BY name"
        ).fetchall():
            asked = (
                ("table_info", "foreign_key_list", "index_list")
                if kind == "table"
                else ("index_info",)
            )
            found[f"{kind} {name}"] = tuple(
                tuple(
                    sorted(
                        row[1:] if one == "index_list" else row
                        for row in connection.execute(f"PRAGMA {one}('{name}')")
                    )
                )
                for one in asked
            )
        return found


RENAMED = {"directory": "folder", "rate_limit": "budget"}


def rows_of(file: Path) -> dict[str, int]:
    """How many rows each table has, by its present name."""
    with closing(sqlite3.connect(file)) as connection:
        there = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        names = (
            "file",
            "directory",
            "job",
            "intent",
            "applied_set",
            "run",
            "change",
            "listing",
            "rate_limit",
        )
        stored = {name: name if name in there else RENAMED[name] for name in names}
        return {
            name: connection.execute(f"SELECT count(*) FROM {old}").fetchone()[0]
            for name, old in stored.items()
        }


def test_every_schema_before_this_one_has_its_fixture() -> None:
    assert [f"{number:04d}" for number in range(1, int(VERSION))] == RELEASED


def test_a_new_store_has_the_schema_that_every_migration_together_comes_to(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path / "new").close()
    SqliteStore.open(old_store(tmp_path / "old", RELEASED[0])).close()
    new, old = tmp_path / "new" / FILE_NAME, tmp_path / "old" / FILE_NAME
    assert objects_of(new) == objects_of(old) and schema_of(new)[-1] == schema_of(old)[-1]


@pytest.mark.parametrize("version", RELEASED)
def test_a_released_store_is_migrated_with_everything_that_it_knew(
    tmp_path: Path, version: str
) -> None:
    store = SqliteStore.open(old_store(tmp_path / "state", version))
    assert store.notes == []
    assert (
        store.load_ledger(JOB) == LEDGER
        and store.folders(JOB) == frozenset(FOLDERS)
        and store.intent(JOB) == INTENT
    )
    assert store.state(JOB) == replace(STATE, consistent=False)
    assert [one.commit for one in store.sets(JOB)] == [oid(100), oid(99)] and store.load_listing(
        oid(200)
    ) == LISTING
    assert [run.commit for run in store.history(JOB)] == [oid(101), oid(100), oid(99)]
    assert store.head(SCOPE, "acme/infra", "main") in (None, HEAD), (
        "a head may be asked for again, and is never another one"
    )
    installation = (None, None) if version < "0004" else (42, "acme")
    assert [
        (row.identity, row.installation, row.account, row.remaining) for row in store.facts.limits()
    ] == [("ops", *installation, 4321)]
    store.close()
    SqliteStore.open(tmp_path / "new").close()
    assert schema_of(tmp_path / "state" / FILE_NAME) == schema_of(tmp_path / "new" / FILE_NAME)


@pytest.mark.parametrize("version", RELEASED)
def test_a_migration_removes_the_files_whose_facts_are_tables_now(
    tmp_path: Path, version: str
) -> None:
    state = old_store(tmp_path / "state", version)
    for name in ("spent.json", "expiries.json", "holds.json", "webhook.json", "quick.json"):
        (state / name).write_text("{}")
    (state / "config.json").write_text("kept")
    SqliteStore.open(state).close()
    assert sorted(path.name for path in state.glob("*.json")) == ["config.json"]


def statements(tmp_path: Path, version: str) -> int:
    """How many statements it takes to open the released store."""
    SqliteStore.open(
        tmp_path / f"first-{version}"
    ).close()  # what is asked once in a process has been asked
    seen: list[str] = []
    state = old_store(tmp_path / f"counted-{version}", version)
    with watched(seen.append):
        SqliteStore.open(state).close()
    return len(seen)


class Watched(sqlite3.Connection):
    """A connection whose every statement goes to `see` first."""

    see: Callable[[str], None]

    def cursor(self, *_: object) -> sqlite3.Cursor:  # type: ignore[override]
        return super().cursor(WatchedCursor)

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        return self.cursor().execute(*statement)


class WatchedCursor(sqlite3.Cursor):
    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        Watched.see(statement)
        return super().execute(statement, *values)


@contextmanager
def watched(see: Callable[[str], None]) -> Iterator[None]:
    """Every statement that the store sends while the block runs, Alembic's too,
    goes to `see` first.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watched, "see", staticmethod(see), raising=False)
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
        yield


def at(number: int, act: Callable[[], None]) -> Callable[[str], None]:
    """Act before the statement of that number, counted from 0."""
    count = iter(range(10_000))

    def see(_statement: str) -> None:
        if next(count) == number:
            act()

    return see


POINTS = int(os.environ.get("SYNCD_MIGRATION_POINTS", "2"))
# statements at either end: what is asked before the transaction, its beginning, the last changes,
# its commit and what follows
EDGE = 6


def some_of(count: int, version: str) -> list[int]:
    """Statements at which something happens: those at the edges,
    and a seeded sample of the others.
    """
    if version not in (RELEASED[0], RELEASED[-1]):  # the edges are the same code for each
        return sorted(random.Random(version).sample(range(count), min(2 * POINTS, count)))
    inner = range(EDGE, count - EDGE)
    return [
        *range(EDGE),
        *sorted(random.Random(version).sample(inner, min(POINTS, len(inner)))),
        *range(count - EDGE, count),
    ]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# the oldest and the newest schema at a push, those between them in the root lane
@pytest.fixture(
    params=[
        pytest.param(
            version, marks=[] if version in (RELEASED[0], RELEASED[-1]) else [pytest.mark.root]
        )
        for version in RELEASED
    ]
)
def points(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int]]:
    yield request.param, statements(tmp_path, request.param)


def test_killed_at_any_statement_the_store_is_the_old_or_the_new_one_and_the_next_open_finishes(
    points: tuple[str, int], tmp_path: Path
) -> None:
    version, count = points
    assert count >= 15
    old = old_store(tmp_path / "pristine", version)
    before, rows = schema_of(old / FILE_NAME), rows_of(old / FILE_NAME)
    SqliteStore.open(tmp_path / "new").close()
    after = schema_of(tmp_path / "new" / FILE_NAME)
    seen = []
    for number in some_of(count, version):
        state = tmp_path / f"state{number}"
        shutil.copytree(old, state)
        pid = os.fork()
        if pid == 0:
            try:
                with watched(at(number, die)):
                    SqliteStore.open(state)
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        stands = schema_of(state / FILE_NAME)
        assert stands in (before, after) and rows_of(state / FILE_NAME) == rows, number
        seen.append(stands == after)
        store = SqliteStore.open(state)
        assert store.notes == [] and store.load_ledger(JOB) == LEDGER
        store.close()
        assert schema_of(state / FILE_NAME) == after
    assert seen == sorted(seen), "once it is the new one it stays"


def test_an_error_at_any_statement_leaves_the_old_store_and_is_named(
    points: tuple[str, int], tmp_path: Path
) -> None:
    version, count = points
    state = old_store(tmp_path / "state", version)
    before = schema_of(state / FILE_NAME)

    def full() -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    for number in some_of(count, version):
        with watched(at(number, full)), pytest.raises(StoreError, match="disk is full") as error:
            SqliteStore.open(state)
        assert "free some space" in (error.value.hint or "")
        assert schema_of(state / FILE_NAME) == before, number
    SqliteStore.open(state).close()
    assert schema_of(state / FILE_NAME) != before
    assert not list(state.glob("*.broken-*"))


@pytest.mark.parametrize("peek", [False, True])
def test_a_newer_store_is_refused_with_what_to_do_and_not_one_byte_of_it_is_changed(
    tmp_path: Path, peek: bool
) -> None:
    SqliteStore.open(tmp_path / "state").close()
    file = tmp_path / "state" / FILE_NAME
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = DELETE; UPDATE alembic_version SET version_num = '0777'; "
            f"PRAGMA application_id = {APPLICATION_ID_BASE + 777}; ALTER TABLE file ADD COLUMN "
            "more;"
        )
    before = (
        file.read_bytes(),
        file.stat().st_ino,
        file.stat().st_mtime_ns,
        sorted(one.name for one in file.parent.iterdir()),
    )
    with pytest.raises(
        StoreError, match=f"schema 0777, this one knows {VERSION}.; it was not touched"
    ) as error:
        (SqliteStore.open_readonly if peek else SqliteStore.open)(tmp_path / "state")
    assert "install that version again" in (error.value.hint or "")
    left = sorted(one.name for one in file.parent.iterdir() if not one.name.endswith(".lock"))
    assert (file.read_bytes(), file.stat().st_ino, file.stat().st_mtime_ns, left) == (
        *before[:3],
        [name for name in before[3] if not name.endswith(".lock")],
    )


@pytest.mark.parametrize("version", RELEASED)
def test_alembic_finds_no_difference_between_a_migrated_store_and_the_metadata(
    tmp_path: Path, version: str
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from syncd.store.schema import METADATA
    from syncd.store.sqlite import disconnect, open_store

    SqliteStore.open(old_store(tmp_path / "state", version)).close()
    connection = open_store(str(tmp_path / "state" / FILE_NAME))
    try:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    finally:
        disconnect(connection)


def test_a_downgrade_says_what_to_do(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    from syncd.store.migrate import script_dir
    from syncd.store.sqlite import disconnect, open_store

    SqliteStore.open(tmp_path / "state").close()
    connection = open_store(str(tmp_path / "state" / FILE_NAME))
    config = Config()
    config.set_main_option("script_location", str(script_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        with pytest.raises(RuntimeError, match=r"move syncd\.db away, and start the older version"):
            command.downgrade(config, "0004")
    finally:
        disconnect(connection)


ROWS = int(os.environ.get("SYNCD_MIGRATED_ROWS", "5000"))


def test_a_large_store_is_migrated_in_bounded_memory(tmp_path: Path) -> None:
    """The memory that a thousand rows take, however many there are.

    SYNCD_MIGRATED_ROWS=100000 tries as many.
    """
    import tracemalloc

    state = old_store(tmp_path / "state", "0004")
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        (row,) = connection.execute("SELECT row FROM file WHERE path = '/srv/one.conf'").fetchone()
        paths = [f"/srv/many/{number:06d}" for number in range(ROWS)]
        connection.executemany(
            "INSERT INTO file (path, job, row, seal, real_path) VALUES (?, ?, ?, ?, ?)",
            ((path, JOB, row, old_seal(JOB, path, row), path) for path in paths),
        )
        connection.commit()
    tracemalloc.start()
    store = SqliteStore.open(state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(store.load_ledger(JOB)) == ROWS + len(LEDGER)
    store.close()
    assert peak < 32 << 20, f"{peak >> 20} MiB for {ROWS} rows"


def old_seal(*texts: str) -> str:
    """As versions before 0005 sealed a row."""
    import hashlib

    return hashlib.blake2b("\0".join((*texts, "")).encode(), digest_size=8).hexdigest()
