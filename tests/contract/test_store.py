"""What the engine asks of a memory, held against every implementation: on disk,
and in memory for commands that only look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from syncd.apply_rules import WaitingCommit
from syncd.errors import MirrorError
from syncd.models import ActionKind, Change, Kind, LedgerRow, Ownership, RunStatus, Stat, WantedFile
from syncd.ports import (
    AcceptedCommit,
    CheckResult,
    Condition,
    Head,
    JobState,
    LastError,
    OwnedRow,
    Pause,
    PendingHealth,
    PendingReload,
    Rejection,
    RunRecord,
    UndoInfo,
)
from syncd.store.applied_sets import SETS_KEPT
from syncd.store.checksum import checksum
from syncd.store.database import Database
from syncd.store.job_states import STATE as STATE_COLUMNS
from syncd.store.job_states import UNCHECKED, state_from_row, state_row
from syncd.store.listings import LISTINGS_KEPT
from syncd.store.serialization import ledger_rows, ledger_values
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
    entry,
    fill,
    oid,
    report,
)

Open = Callable[[], SqliteStore]


@pytest.fixture(params=["disk", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    store = (
        SqliteStore.open(tmp_path / "state")
        if request.param == "disk"
        else SqliteStore(Database(None))
    )
    yield store
    store.close()


def test_everything_recorded_is_given_back_as_it_was(opened: SqliteStore) -> None:
    fill(opened)
    assert opened.load_ledger(JOB) == LEDGER
    assert opened.folders(JOB) == frozenset(FOLDERS)
    assert opened.intent(JOB) == INTENT
    assert opened.state(JOB) == replace(STATE, consistent=False)
    assert opened.head(SCOPE, "acme/infra", "main") == HEAD
    assert opened.head(SCOPE, "acme/infra", None) == Head(oid(55))
    assert opened.load_listing(oid(200)) == LISTING
    assert [
        (row.identity, row.installation, row.account, row.remaining)
        for row in opened.facts.limits()
    ] == [("ops", 42, "acme", 4321)]
    assert opened.jobs() == [JOB]


def test_a_store_that_knows_nothing_says_so_and_not_more(opened: SqliteStore) -> None:
    assert opened.state("nobody") == JobState()
    assert (
        opened.load_ledger("nobody") == {}
        and opened.folders("nobody") == frozenset()
        and opened.intent("nobody") is None
    )
    assert (
        opened.sets("nobody") == []
        and opened.history("nobody") == []
        and opened.owners(["/srv/x"]) == {}
        and opened.owners([]) == {}
    )
    assert (
        opened.head(SCOPE, "acme/infra", "main") is None
        and opened.load_listing(oid(1)) is None
        and opened.facts.limits() == []
        and opened.jobs() == []
    )


def test_what_was_recorded_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "state")
    fill(store)
    store.close()
    again = SqliteStore.open(tmp_path / "state")
    assert (
        again.load_ledger(JOB) == LEDGER
        and again.intent(JOB) == INTENT
        and len(again.sets(JOB)) == 2
    )
    again.close()


def test_recording_ends_the_intent_and_changes_rows_in_one_step(opened: SqliteStore) -> None:
    fill(opened)
    moved = {"/srv/one.conf": LedgerRow(entry(8), None, real="/srv/one.conf")}
    opened.record(
        JOB,
        RunRecord(
            report(102),
            moved,
            frozenset({"/srv/link", "/srv/met"}),
            ("/srv/new",),
            ("/srv/deep",),
            replace(STATE, consistent=True),
        ),
    )
    assert opened.intent(JOB) is None and opened.state(JOB).consistent
    assert opened.load_ledger(JOB) == {
        path: row for path, row in (LEDGER | moved).items() if path not in ("/srv/link", "/srv/met")
    }
    assert opened.folders(JOB) == {"/srv/two", "/srv/new"}


def test_an_intent_marks_the_job_unsettled_and_owes_its_reload(opened: SqliteStore) -> None:
    opened.begin_intent(replace(INTENT, reload_after=True), JobState())
    assert opened.state(JOB) == JobState(consistent=False, pending_reload=PendingReload())


def test_whether_a_job_is_paused_is_not_the_runs_to_say(opened: SqliteStore) -> None:
    pause = Pause("by hand", AT)
    opened.change_state(JOB, lambda state: replace(state, pause=pause))
    opened.begin_intent(INTENT, JobState())
    assert opened.state(JOB).pause == pause
    opened.record(JOB, RunRecord(report(1), state=JobState()))
    assert opened.state(JOB).pause == pause and not opened.state(JOB).held
    opened.record(JOB, RunRecord(report(1), state=JobState(held=True)))
    assert opened.state(JOB).held


def test_a_file_has_one_owner_the_last_that_recorded_it(opened: SqliteStore) -> None:
    opened.record(
        "a",
        RunRecord(
            report(1), {"/srv/x": LedgerRow(entry(1), None), "/srv/y": LedgerRow(entry(2), None)}
        ),
    )
    opened.record("b", RunRecord(report(1), {"/srv/x": LedgerRow(entry(3), None)}))
    assert owners(opened, "/srv/x", "/srv/y", "/srv/z") == {"/srv/x": ["b"], "/srv/y": ["a"]}
    assert set(opened.load_ledger("a")) == {"/srv/y"}
    opened.record("a", RunRecord(report(2), removals=frozenset({"/srv/x"})))
    assert owners(opened, "/srv/x") == {"/srv/x": ["b"]}, "a job drops its own rows alone"


def owners(store: SqliteStore, *reals: str) -> dict[str, list[str]]:
    return {real: [row.job for row in rows] for real, rows in store.owners(reals).items()}


def test_the_rows_of_a_file_are_found_by_its_real_path_whatever_it_was_written_as(
    opened: SqliteStore,
) -> None:
    row = LedgerRow(entry(1), None, real="/srv/run/x")
    opened.record("a", RunRecord(report(1), {"/srv/var/x": row}))
    found = OwnedRow("/srv/var/x", "a", row)
    assert opened.owners(["/srv/run/x"]) == {"/srv/run/x": (found,)}
    assert opened.owners(["/srv/var/x"]) == {}


def test_a_superseded_row_goes_and_a_row_that_is_handed_over_changes_its_job(
    opened: SqliteStore,
) -> None:
    names = ("/srv/a", "/srv/b", "/srv/d/c")
    rows = {path: LedgerRow(entry(1), None, real=path) for path in names}
    opened.record("a", RunRecord(report(1), rows, directories_created=("/srv/d", "/srv/e")))
    given = {"/srv/d": "b", "/srv/e": None}
    result = RunRecord(
        report(2),
        {"/srv/run/a": LedgerRow(entry(1), None, real="/srv/run/a")},
        superseded={"/srv/a": "a"},
        handed_over={"/srv/d/c": "b"},
        directories_reassigned=given,
    )
    opened.record("a", result)
    assert (set(opened.load_ledger("a")), opened.folders("a")) == ({"/srv/run/a", "/srv/b"}, set())
    assert opened.load_ledger("b") == {"/srv/d/c": rows["/srv/d/c"]}
    assert opened.folders("b") == {"/srv/d"}


def test_a_renamed_job_is_read_under_its_new_name_before_and_after_its_rows_are(
    opened: SqliteStore,
) -> None:
    fill(opened)
    known = everything(opened, JOB)
    opened.follow_renames({"web": JOB}, lambda _job, _old, state: state)
    assert everything(opened, "web") == known and opened.jobs() == [JOB]
    opened.rename("web")
    assert everything(opened, "web") == known and opened.jobs() == ["web"]
    assert everything(opened, JOB) == everything(opened, "unknown")


def everything(store: SqliteStore, job: str) -> tuple[object, ...]:
    """What is stored of a job, without its name."""
    intent = store.intent(job)
    sets = [replace(one, job="") for one in store.sets(job)]
    runs = [replace(run, job="") for run in store.history(job)]
    named = None if intent is None else replace(intent, job="")
    return store.state(job), store.load_ledger(job), store.folders(job), named, sets, runs


def test_thousands_of_rows_go_in_come_back_and_go_out(opened: SqliteStore) -> None:
    ledger = {
        f"/srv/{number}": LedgerRow(entry(number), None, real=f"/srv/{number}")
        for number in range(1700)
    }
    opened.record(JOB, RunRecord(report(1), ledger))
    assert opened.load_ledger(JOB) == ledger and len(opened.owners(ledger)) == 1700
    opened.record(JOB, RunRecord(report(2), removals=frozenset(list(ledger)[:1600])))
    assert len(opened.load_ledger(JOB)) == 100


def test_the_last_sets_that_stood_whole_are_kept_newest_first(opened: SqliteStore) -> None:
    for number in range(1, 9):
        opened.record(
            JOB,
            RunRecord(
                report(number),
                {"/srv/x": LedgerRow(entry(number), None)},
                state=JobState(applied_config_digest="d", last_run_at=AT),
                applied=True,
            ),
        )
    opened.record(
        JOB, RunRecord(report(9, RunStatus.FAILED), {"/srv/x": LedgerRow(entry(9), None)})
    )
    sets = opened.sets(JOB)
    assert [one.commit for one in sets] == [oid(number) for number in range(8, 8 - SETS_KEPT, -1)]
    assert (
        sets[0].files == {"/srv/x": entry(8)} and sets[0].digest == "d" and sets[0].applied_at == AT
    )


def test_a_set_holds_what_the_repository_has_and_not_what_it_dropped(opened: SqliteStore) -> None:
    fill(opened)
    assert opened.sets(JOB)[0].files == {
        path: row.upstream
        for path, row in LEDGER.items()
        if row.ownership is not Ownership.UNLISTED
    }


def test_one_commit_brought_again_is_one_set(opened: SqliteStore) -> None:
    for content in (1, 2):
        opened.record(
            JOB, RunRecord(report(7), {"/srv/x": LedgerRow(entry(content), None)}, applied=True)
        )
    (only,) = opened.sets(JOB)
    assert only.files == {"/srv/x": entry(2)}


def test_the_newest_five_sets_are_kept_with_their_blobs(opened: SqliteStore) -> None:
    for number in range(1, 12):
        opened.record(
            JOB, RunRecord(report(number), {"/srv/x": LedgerRow(entry(number), None)}, applied=True)
        )
    assert [one.commit for one in opened.sets(JOB)] == [oid(number) for number in range(11, 6, -1)]
    assert oid(7) in opened.blobs_in_use() and oid(6) not in opened.blobs_in_use()


def test_blobs_in_use_are_those_of_every_jobs_rows_and_sets(opened: SqliteStore) -> None:
    fill(opened)
    opened.record("other", RunRecord(report(1), {"/etc/x": LedgerRow(entry(40), None)}))
    assert opened.blobs_in_use() == {oid(number) for number in (1, 2, 3, 4, 5, 6, 7, 40)}


def test_forgetting_a_job_leaves_the_others(opened: SqliteStore) -> None:
    fill(opened)
    opened.record("other", RunRecord(report(1), {"/etc/x": LedgerRow(entry(40), None)}))
    assert opened.forget(JOB) == len(LEDGER)
    assert (
        opened.load_ledger(JOB) == {}
        and opened.state(JOB) == JobState()
        and opened.intent(JOB) is None
        and opened.sets(JOB) == []
        and opened.folders(JOB) == frozenset()
    )
    assert set(opened.load_ledger("other")) == {"/etc/x"} and opened.jobs() == ["other"]


def test_history_is_newest_first_bounded_and_can_be_asked_for_one_path(opened: SqliteStore) -> None:
    fill(opened)
    runs = opened.history(JOB)
    assert [(run.status, run.commit) for run in runs] == [
        ("failed", oid(101)),
        ("changed", oid(100)),
        ("changed", oid(99)),
    ]
    assert (runs[0].error_kind, runs[0].error, runs[1].trigger, runs[1].bytes, runs[1].seconds) == (
        "mirror",
        "a disk",
        "push",
        1234,
        0.5,
    )
    assert [
        (change.action, change.path, change.source, change.before, change.after)
        for change in runs[1].changes
    ] == [
        ("write", "/srv/one.conf", "nginx/1", None, oid(1)),
        ("remove", "/srv/old", "nginx/old", oid(30), None),
    ]
    assert [run.commit for run in opened.history(JOB, limit=1)] == [oid(101)]
    only = opened.history(path="/srv/old")
    assert [run.commit for run in only] == [oid(100), oid(99)] and {
        change.path for run in only for change in run.changes
    } == {"/srv/old"}


def test_history_forgets_the_oldest_runs_with_their_changes(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.store.history.RUNS_KEPT", 3)
    monkeypatch.setattr("syncd.store.history.CHANGES_KEPT_PER_RUN", 2)
    many = tuple(
        Change(ActionKind.WRITE, f"/srv/{number}", None, None, oid(number)) for number in range(5)
    )
    for number in range(6):
        opened.record(JOB, RunRecord(report(number, changes=many)))
    assert [run.commit for run in opened.history(JOB)] == [oid(5), oid(4), oid(3)]
    assert all(len(run.changes) == 2 for run in opened.history(JOB))
    assert (
        len(
            opened._database.read(
                lambda connection: connection.exec_driver_sql("SELECT * FROM change").fetchall()
            )
        )
        == 6
    )


def test_the_changes_of_a_job_are_bounded_and_the_newest_runs_keep_theirs(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.store.history.CHANGES_KEPT", 12)
    for number in range(6):
        opened.record(
            JOB,
            RunRecord(
                report(
                    number,
                    changes=tuple(
                        Change(ActionKind.WRITE, f"/srv/{one}", None, None, oid(number))
                        for one in range(5)
                    ),
                )
            ),
        )
    opened.record("other", RunRecord(replace(report(7, changes=CHANGES), job="other")))
    assert [len(run.changes) for run in opened.history(JOB)] == [5, 5, 0, 0, 0, 0] and len(
        opened.history("other")[0].changes
    ) == 2
    opened.record(
        JOB,
        RunRecord(
            report(
                8,
                changes=tuple(
                    Change(ActionKind.WRITE, f"/srv/{one}", None, None, oid(8)) for one in range(30)
                ),
            )
        ),
    )
    assert [len(run.changes) for run in opened.history(JOB)][:2] == [30, 0]


def test_a_run_that_did_nothing_leaves_no_row_and_a_failure_that_lasts_leaves_one(
    opened: SqliteStore,
) -> None:
    opened.record(JOB, RunRecord(report(1, RunStatus.UNCHANGED)))
    opened.record(JOB, RunRecord(report(1, RunStatus.SKIPPED)))
    for _ in range(4):
        opened.record(JOB, RunRecord(report(1, RunStatus.FAILED, error=MirrorError("a disk"))))
    opened.record(JOB, RunRecord(report(1, RunStatus.FAILED, error=MirrorError("another disk"))))
    assert [run.error for run in opened.history(JOB)] == ["another disk", "a disk"]


def test_what_runs_since_a_moment_did_is_told_in_order(opened: SqliteStore) -> None:
    fill(opened)
    assert [change.path for change in opened.changes_since(JOB, AT)] == [
        "/srv/one.conf",
        "/srv/old",
    ] * 2
    assert [
        (change.action, change.after)
        for change in opened.changes_since(JOB, AT + timedelta(minutes=100))
    ] == [(ActionKind.WRITE, oid(1)), (ActionKind.REMOVE, None)]
    assert opened.changes_since(JOB, AT + timedelta(days=1)) == () and len(CHANGES) == 2


def test_a_head_is_kept_per_host_identity_repository_and_ref_and_replaced_by_the_next(
    opened: SqliteStore,
) -> None:
    opened.save_head("a", "acme/infra", "main", Head(oid(1), '"1"', "heads/main"))
    opened.save_head("b", "acme/infra", "main", Head(oid(2), '"2"', "heads/main"))
    opened.save_head("a", "acme/infra", "main", Head(oid(3), None, "heads/main"))
    assert opened.head("a", "acme/infra", "main") == Head(oid(3), None, "heads/main")
    assert opened.head("b", "acme/infra", "main") == Head(oid(2), '"2"', "heads/main")
    assert opened.head("a", "acme/infra", "other") is None


def test_listings_are_bounded_and_the_latest_stay(opened: SqliteStore) -> None:
    for number in range(LISTINGS_KEPT + 5):
        opened.save_listing(oid(number), LISTING)
    opened.save_listing(oid(5), {})
    assert (
        opened.load_listing(oid(4)) is None
        and opened.load_listing(oid(5)) == {}
        and opened.load_listing(oid(LISTINGS_KEPT + 4)) == LISTING
    )
    assert opened.load_listing(oid(6)) == LISTING, "keeping one again makes no room for it"


def test_large_listings_are_bounded_by_their_bytes_and_the_latest_stays_however_large(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.store.listings.LISTINGS_BYTES_KEPT", 10)
    for number in range(3):
        opened.save_listing(oid(number), LISTING)
    assert [opened.load_listing(oid(number)) for number in range(3)] == [None, None, LISTING]


def test_the_counter_moves_with_every_write_and_with_no_read(opened: SqliteStore) -> None:
    before = opened.counter()
    opened.load_ledger(JOB)
    opened.state(JOB)
    assert opened.counter() == before
    opened.change_state(JOB, lambda state: state)
    assert opened.counter() not in (before, 0)


times = st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
texts = st.none() | st.text(max_size=20)
entries = st.builds(
    WantedFile,
    blob=st.integers(0, 2**160 - 1).map(oid),
    mode=st.integers(0, 0o777),
    kind=st.sampled_from([Kind.FILE, Kind.LINK]),
    uid=st.none() | st.integers(0, 2**32 - 1),
    gid=st.none() | st.integers(0, 2**32 - 1),
    source=st.text(max_size=30),
    size=st.none() | st.integers(0, 2**63 - 1),
    root=st.text(max_size=9),
    dir_mode=st.integers(0, 0o777),
    pointer=st.none() | st.integers(0, 2**160 - 1).map(oid),
)
identities, numbers = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
stats = st.builds(Stat, identities, identities, numbers, numbers, numbers)
rows = st.builds(
    LedgerRow,
    entries,
    st.none() | stats,
    st.sampled_from(Ownership),
    st.none() | entries,
    st.just("/srv/x"),
)


@given(rows)
def test_any_ledger_row_survives_the_way_to_columns_and_back(row: LedgerRow) -> None:
    values = ledger_values("/srv/x", row)
    assert ledger_rows("web", [(*values, checksum("web", *values))]) == {"/srv/x": row}
    assert all(
        value is None or isinstance(value, str) or -(2**63) <= value < 2**63 for value in values
    )


@pytest.mark.parametrize("time", [2**63, -(2**63) - 1])
def test_a_stat_whose_time_needs_more_than_64_bits_is_not_kept(time: int) -> None:
    row = LedgerRow(WantedFile(oid(1), 0o644), Stat(1, 2, 3, time, 5), real="/srv/x")
    values = ledger_values("/srv/x", row)
    assert ledger_rows("web", [(*values, checksum("web", *values))]) == {
        "/srv/x": replace(row, stat=None)
    }


by_type = {
    "bool": st.booleans(),
    "int": st.integers(0, 2**40),
    "float": st.floats(0, 1e6),
    "CheckResult | None": st.none() | st.sampled_from(CheckResult),
    "str": st.text(max_size=20),
    "str | None": texts,
    "datetime": st.datetimes(timezones=st.just(UTC)),
    "datetime | None": times,
    "tuple[str, ...]": st.lists(texts.filter(bool), max_size=3).map(tuple),
}


def any_of(struct: type[Struct]) -> st.SearchStrategy[Any]:
    """Any value of the struct."""
    fields = {name: by_type[kind] for name, kind in struct.__annotations__.items()}
    return st.builds(struct, **fields)


parts = (
    AcceptedCommit,
    Condition,
    LastError,
    Pause,
    PendingHealth,
    PendingReload,
    Rejection,
    UndoInfo,
    WaitingCommit,
)
by_type |= {f"{part.__name__} | None": st.none() | any_of(part) for part in parts}


@given(any_of(JobState))
def test_any_state_survives_the_way_to_columns_and_back(state: JobState) -> None:
    row = state_row("web", state)
    order = ["name", *(column.name for column in STATE_COLUMNS), "checksum", *UNCHECKED]
    assert state_from_row([row[name] for name in order]) == state
    assert sorted(order) == sorted(row)
