"""Every value that the disk may damage, one at a time: what decides about files is left out, what
is only shown is shown or left out.

At a push each kind of harm meets every eighth column; the root lane tries the others.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.models import CommitSummary
from syncd.ports import OwnedRow, RunRecord
from syncd.store import notification_queue
from syncd.store.actions import OperatorAction, Person
from syncd.store.database import Database
from syncd.store.facts import Staleness
from syncd.store.schema import HEARTBEAT, statements
from syncd.store.sqlite import driver_of, upsert
from syncd.store.store import SqliteStore
from tests.support.store_fixtures import (
    AT,
    CHANGES,
    FOLDERS,
    HEAD,
    INTENT,
    JOB,
    LEDGER,
    LISTING,
    SCOPE,
    STATE,
    fill,
    oid,
    report,
)


def flipped(value: Any) -> Any:
    """One bit of it is another."""
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "!"
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return 1 if value is None else value + 1 if isinstance(value, int) else value * 2


HARMS: dict[str, Callable[[Any], Any]] = {
    "one bit": flipped,
    "null": lambda _: None,
    "a vast number": lambda _: 2**62,
    "other bytes": lambda _: b"\xff\xfe\x00",
    "the same bytes as a blob": lambda value: value.encode() if isinstance(value, str) else b"x",
    "no text": lambda _: (b"\xff\xff",),  # the bytes, called text
}


def columns() -> list[tuple[str, str]]:
    """Every table's columns, but for Alembic's own."""
    with closing(sqlite3.connect(":memory:")) as new:
        for statement in statements():
            new.execute(statement)
        tables = [
            name
            for (name,) in new.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name != "
                "'alembic_version' ORDER BY name"
            ).fetchall()
        ]
        return [
            (table, row[1])
            for table in tables
            for row in new.execute(f"PRAGMA table_info('{table}')")
        ]


COLUMNS = columns()
ACTION = OperatorAction(JOB, "pause", AT, Person("octocat", "192.0.2.7"), "change freeze", AT)


EVERY, ELSEWHERE = 8, int(os.environ.get("SYNCD_SEALED_COLUMNS", "3"))  # 1: all the others
AT_A_PUSH = pytest.mark.parametrize(
    "pushed", [True, pytest.param(False, marks=pytest.mark.root)], ids=["at a push", "the others"]
)


def some(harm: str, pushed: bool) -> list[tuple[str, str]]:
    """The columns that meet this harm at a push, or a sample of the others."""
    first = list(HARMS).index(harm)
    at_push = COLUMNS[-first % EVERY :: EVERY]
    others = [column for column in COLUMNS if column not in at_push]
    return at_push if pushed else others[first % ELSEWHERE :: ELSEWHERE]


class Bench:
    """A filled store in memory whose tables take any value, as a damaged page may hold,
    and which can be made whole again.
    """

    def __init__(self) -> None:
        self.store = SqliteStore(Database(None))
        fill(self.store)
        self.store._database.write(
            lambda connection: notification_queue.put(
                connection,
                JOB,
                notification_queue.NewNotification("one", {"https://hooks.test/a": "{}"}, 0.0),
            )
        )
        one = self.store.notifications.claim(["https://hooks.test/a"], 10.0)
        assert one is not None
        self.store.notifications.mark_failed(
            one, notification_queue.FailedAttempt("hooks.test", "refused", 10.0, 20.0, False)
        )
        beat = {"name": "daemon", "started_at": AT.isoformat(), "beat_at": AT.isoformat()}
        self.store._database.write(lambda connection: upsert(connection, HEARTBEAT, [beat]))
        facts = [Staleness("repository_moved", JOB, "acme/new", AT, 1)]
        self.store.facts.save_staleness("repository_moved", facts)
        self.store.facts.save_reload_start("systemctl reload nginx", AT)
        self.store.add_action(ACTION)
        self.store.facts.save_commit_summary(oid(100), CommitSummary("Raise", "Ada"), AT)
        connection = self.store._database._connection
        assert connection is not None
        raw = driver_of(connection)
        self.raw, self.whole = raw, sqlite3.connect(":memory:")
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table' AND "
            "name != 'alembic_version'"
        )
        raw.execute("PRAGMA writable_schema = RESET")
        raw.backup(self.whole)

    def harm(self, table: str, column: str, harm: Callable[[Any], Any]) -> bool:
        """One value of the column is another.

        False where a database can't hold that even when damaged.
        """
        self.whole.backup(self.raw)
        (rowid, value), *_ = self.raw.execute(f'SELECT rowid, "{column}" FROM "{table}"').fetchall()
        worse = harm(value)
        how, value = ("CAST(? AS TEXT)", worse[0]) if isinstance(worse, tuple) else ("?", worse)
        try:
            self.raw.execute(
                f'UPDATE "{table}" SET "{column}" = {how} WHERE rowid = ?', (value, rowid)
            )
        except sqlite3.IntegrityError:
            return False  # a row id is always a whole number
        return True


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.store.close()
    made.whole.close()


@AT_A_PUSH
@pytest.mark.parametrize("harm", HARMS)
def test_no_damaged_value_is_believed_and_none_ends_in_a_traceback(
    bench: Bench, harm: str, pushed: bool
) -> None:
    for table, column in some(harm, pushed):
        if bench.harm(table, column, HARMS[harm]):
            look_at_everything(bench.store, f"{table}.{column}")


@AT_A_PUSH
@pytest.mark.parametrize("harm", ["one bit", "null", "the same bytes as a blob"])
def test_whatever_was_damaged_the_next_run_can_be_recorded_and_is_remembered(
    bench: Bench, harm: str, pushed: bool
) -> None:
    for table, column in some(harm, pushed):
        if bench.harm(table, column, HARMS[harm]) and table not in (
            "run",
            "change",
        ):  # a run id that is taken makes the store be begun anew
            result = RunRecord(
                report(103, changes=CHANGES),
                LEDGER,
                frozenset(),
                FOLDERS,
                (),
                replace(STATE, consistent=True),
                applied=True,
            )
            bench.store.begin_intent(INTENT, STATE)
            bench.store.record(JOB, result)
            bench.store.save_head(SCOPE, "acme/infra", "main", HEAD)
            where = f"{table}.{column}"
            assert (
                bench.store.load_ledger(JOB),
                bench.store.state(JOB).consistent,
                bench.store.intent(JOB),
            ) == (LEDGER, True, None), where
            assert (
                bench.store.folders(JOB) == frozenset(FOLDERS)
                and bench.store.head(SCOPE, "acme/infra", "main") == HEAD
            ), where
            assert bench.store.sets(JOB)[0].commit == oid(103) and bench.store.history(JOB)[
                0
            ].commit == oid(103), where


def look_at_everything(store: SqliteStore, where: str) -> None:
    assert all(one.since.tzinfo is not None for one in store.facts.staleness()), where
    for known in store.facts.commit_summaries([oid(100)]).values():
        assert isinstance(known.subject, str) and isinstance(known.author, str), where
    for action in store.actions_of(None, 10):
        assert action.at.tzinfo is not None and action.describe(), where
    began_at = store.facts.reload_start("systemctl reload nginx")
    assert began_at is None or began_at.tzinfo is not None, where
    recorded = store.load_ledger(JOB)
    assert recorded.items() <= LEDGER.items() and len(recorded) >= len(LEDGER) - 1, where
    owners = store.owners(LEDGER)
    rows = {path: OwnedRow(path, JOB, row) for path, row in LEDGER.items()}
    assert all(found == (rows[path],) for path, found in owners.items()), where
    assert owners.keys() <= recorded.keys() and len(owners) >= len(LEDGER) - 1, where
    assert store.folders(JOB) <= frozenset(FOLDERS), where
    assert store.intent(JOB) in (INTENT, None), where
    state = store.state(JOB)
    assert state == replace(STATE, consistent=False) or not state.consistent or state.files == 0, (
        where
    )
    for one in store.sets(JOB):
        assert one.commit in (oid(99), oid(100)) and one.files.keys() == LEDGER.keys() - {
            "/srv/dropped"
        }, where
    head = store.head(SCOPE, "acme/infra", "main")
    assert (
        head is None or replace(head, checked_at=None) == HEAD
    )  # the time decides nothing about files, where
    assert store.load_listing(oid(200)) in (LISTING, None), where
    assert len(store.history(JOB)) <= 3 and len(store.history(JOB, "/srv/old")) <= 3, where
    for run in [*store.history(), *store.history(path="/srv/one.conf")]:
        assert (
            isinstance(run.started_at[:19] + run.status + run.trigger, str)
            and f"{run.seconds:.1f}"
            and sorted(change.path for change in run.changes) is not None
        ), where
    store.changes_since(JOB, AT)
    facts = store.facts
    assert all(isinstance(row.identity, str) for row in facts.limits()), where
    assert len(facts.token_expiries()) <= 1 and len(facts.usage(AT)) <= 1, where
    assert len(facts.backoffs()) <= 1 and len(facts.installations("ops")) <= 1, where
    assert len(facts.unavailable_repositories("ops")) <= 1 and facts.webhook() is not None, where
    assert store.blobs_in_use() <= {oid(number) for number in range(1, 8)}, where
    assert all(isinstance(name, str) for name in store.jobs()), where
