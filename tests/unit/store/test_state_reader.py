"""The states of all jobs are read once while nobody writes, whoever writes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.ports import JobState
from syncd.store import job_states
from syncd.store.store import SqliteStore
from tests.support.store_fixtures import AT, JOB, STATE, fill


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def noted(name: str, real: Any) -> Any:
        def read(connection: Any) -> Any:
            names.append(name)
            return real(connection)

        return read

    for name in ("read_states", "file_counts"):
        monkeypatch.setattr(job_states, name, noted(name, getattr(job_states, name)))
    return names


def test_states_and_counts_are_read_again_after_a_write_of_this_process_or_another(
    tmp_path: Path, reads: list[str]
) -> None:
    ours, theirs = SqliteStore.open(tmp_path), SqliteStore.open(tmp_path)
    fill(ours)
    expected = replace(STATE, consistent=False)
    for _ in range(3):
        assert ours.states([JOB]) == {JOB: expected} and ours.file_counts()[JOB] == 6
    assert sorted(reads) == ["file_counts", "read_states"]
    for store in (ours, theirs):
        reads.clear()
        store.change_state(JOB, lambda state: replace(state, failures=state.failures + 1))
        expected = replace(expected, failures=expected.failures + 1)
        assert ours.states([JOB]) == {JOB: expected} and reads == ["read_states"]
    now = AT + timedelta(days=1)
    theirs.mark_checked({JOB: (expected, now)})
    assert ours.states([JOB])[JOB].last_run_at == now
    assert theirs.forget(JOB) == 6
    assert ours.states([JOB]) == {} and ours.file_counts() == {}
    ours.close()
    theirs.close()


def test_who_gets_the_counts_may_change_them() -> None:
    store = SqliteStore.in_memory()
    store.change_state("web", lambda _: JobState())
    store.file_counts()["web"] = 7
    store.states(["web"]).clear()
    assert store.file_counts() == {} and list(store.states(["web"])) == ["web"]
