"""Recording a run uses the ledger that the run has read,
unless a row may have been written since.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from syncd.models import LedgerRow, RunReport, RunStatus, WantedFile
from syncd.ports import JobState, RunRecord
from syncd.store import ledger
from syncd.store.store import SqliteStore

ROW = LedgerRow(WantedFile("ab" * 20, 0o644, root="/srv"), None)


def record(
    store: SqliteStore,
    commit: str,
    upserts: str = "",
    removals: str = "",
    job: str = "nginx",
    superseded: str = "",
    held: Mapping[str, LedgerRow] = {},
) -> None:
    """Record a run of the job that wrote and removed `/srv/X` for each letter."""
    store.record(
        job,
        RunRecord(
            RunReport(job, RunStatus.CHANGED, "acme/conf", "main", commit * 40, None),
            {f"/srv/{name}": ROW for name in upserts},
            frozenset(f"/srv/{name}" for name in removals),
            state=JobState(applied_commit=commit * 40, applied_config_digest="d"),
            applied=True,
            superseded={f"/srv/{name}": job for name in superseded},
            ledger=held,
        ),
    )


def names(store: SqliteStore) -> tuple[str, str]:
    """The letters in the newest kept set, and those in the ledger."""
    kept, rows = store.sets("nginx")[0].files, store.load_ledger("nginx")
    return "".join(sorted(path[-1] for path in kept)), "".join(sorted(path[-1] for path in rows))


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    opened = SqliteStore.open(tmp_path)
    record(opened, "1", "abc")
    return opened


def test_the_rows_that_a_run_holds_are_not_read_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = store.load_ledger("nginx")
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "of_job", lambda *_: pytest.fail("the rows were read again"))
        record(store, "2", upserts="dc", removals="a", superseded="b", held=held)
    assert names(store) == ("cd", "cd")
    assert sorted(held) == ["/srv/a", "/srv/b", "/srv/c"]


def test_rows_that_another_process_wrote_meanwhile_are_in_the_kept_set(
    store: SqliteStore, tmp_path: Path
) -> None:
    held = store.load_ledger("nginx")
    other = SqliteStore.open(tmp_path)
    record(other, "2", upserts="x")
    record(store, "3", upserts="d", held=held)
    assert names(store) == ("abcdx", "abcdx") and len(held) == 3


@pytest.mark.parametrize("change", ["record", "other job", "forget", "require_rehash"])
def test_rows_that_this_process_wrote_meanwhile_are_in_the_kept_set(
    store: SqliteStore, change: str
) -> None:
    held = store.load_ledger("nginx")
    if change == "record":
        record(store, "2", upserts="x")
    elif change == "other job":
        record(store, "2", upserts="c", job="other")
    elif change == "forget":
        store.forget("nginx")
    else:
        store.require_rehash("nginx", ["/srv/a"])
    record(store, "3", upserts="d", held=held)
    assert names(store)[0] == names(store)[1] and len(held) == 3


def test_rows_that_were_read_for_another_job_are_not_used(store: SqliteStore) -> None:
    record(store, "2", upserts="x", held=store.load_ledger("other"))
    assert names(store) == ("abcx", "abcx")
