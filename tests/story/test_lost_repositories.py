"""One token for all repositories of an installation, also while some of them are lost."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load_config
from syncd.engine.run import run_job
from syncd.wiring import AppContext
from tests.support.fast_clock import PassingClock
from tests.support.sync_env import SyncEnv, sync_env

THIRTY = tuple(f"r{number:02}" for number in range(30))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        made.jobs.clear()
        for name in THIRTY:
            made.github.add_repo(f"acme/{name}", {"files/a": f"{name}\n"})
            paths = [{"from": "files/", "to": f"{tmp_path}/dest/{name}/"}]
            made.jobs[name] = {"repo": f"acme/{name}", "ref": "main", "every": "5m", "paths": paths}
        made.write()
        yield made


def lose(hub: SyncEnv, *lost: str) -> None:
    """The installation covers every repository but these."""
    names = [name for name in THIRTY if name not in lost]
    hub.github.accounts.installations[42].repositories = names


def change(hub: SyncEnv, statement: str) -> None:
    with closing(sqlite3.connect(hub.state / "syncd.db", isolation_level=None)) as connection:
        connection.execute(statement)


def rows(hub: SyncEnv) -> list[tuple[object, ...]]:
    """What is remembered of repositories that a token can't be had for;
    nothing where there is no store yet.
    """
    if not (hub.state / "syncd.db").exists():
        return []
    with closing(sqlite3.connect(f"file:{hub.state}/syncd.db?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT * FROM unavailable_repository").fetchall()


def run(hub: SyncEnv) -> tuple[int, set[str]]:
    """How many token requests a `sync` makes, and which jobs fail."""
    result = hub.sync()
    failed = {job["job"] for job in result.json["jobs"] if job["error"] is not None}
    return hub.github.count("token"), failed


@pytest.mark.parametrize(
    ("lost", "at_first", "afterwards"),
    [
        (("r03", "r26"), 17, 3),  # at a push; the others in the root lane
        pytest.param(("r00",), 10, 2, marks=pytest.mark.root),
        pytest.param(THIRTY, 59, 30, marks=pytest.mark.root),
        pytest.param(("r15",), 10, 2, marks=pytest.mark.root),
        pytest.param(("r29",), 10, 2, marks=pytest.mark.root),
        pytest.param(("r03", "r04"), 11, 3, marks=pytest.mark.root),
        pytest.param(THIRTY[:15], 31, 16, marks=pytest.mark.root),
    ],
    ids=["two apart", "first", "all", "middle", "last", "two neighbours", "half"],
)
def test_lost_repositories_leave_the_others_one_token(
    hub: SyncEnv, lost: tuple[str, ...], at_first: int, afterwards: int
) -> None:
    assert run(hub) == (1, set())
    lose(hub, *lost)
    requests, failed = run(hub)
    print(f"{len(lost)} lost: {requests} token requests")
    assert failed == set(lost)
    assert requests <= at_first
    assert run(hub) == (afterwards, set(lost))


def test_a_mended_repository_joins_the_others_again(hub: SyncEnv) -> None:
    lose(hub, "r07")
    run(hub)
    lose(hub)
    assert run(hub)[1] == set()
    assert run(hub) == (1, set())


def test_a_damaged_memory_costs_requests_alone(hub: SyncEnv) -> None:
    lose(hub, "r07")
    run(hub)
    change(hub, "UPDATE unavailable_repository SET repo = x'ff'")
    requests, failed = run(hub)
    assert failed == {"r07"} and requests <= 12


def test_a_renamed_repository_is_no_reason_to_split_the_others(hub: SyncEnv) -> None:
    hub.github.rename("acme/r07", "acme/seven")
    assert run(hub)[1] == set()
    requests, failed = run(hub)
    assert (failed, requests) == (set(), 3), "the others, the old name, the number"


def test_a_look_writes_nothing(hub: SyncEnv) -> None:
    lose(hub, "r07")
    hub.plan()
    assert rows(hub) == []


def test_a_search_that_meets_trouble_is_not_remembered(hub: SyncEnv) -> None:
    from syncd.simulator import faults

    lose(hub, "r07")
    hub.github.faults.append(faults.Fault("token", faults.status(500), times=4, skip=3))
    requests, failed = run(hub)
    assert failed == set(THIRTY) and requests == 7
    assert rows(hub) == []
    assert run(hub)[1] == {"r07"}


# --- an App that was installed anew ---------------------------------------------------------------


def reinstall(hub: SyncEnv) -> None:
    hub.github.accounts.installations.clear()
    hub.github.accounts.install(12345, "acme", 57)


def test_an_app_installed_anew_is_looked_up_in_the_same_run(
    hub: SyncEnv, clock: PassingClock
) -> None:
    hub.identities["ops"].pop("installation_id")
    hub.write()
    config = load_config(hub.config, {})
    app = AppContext.open(config, {}, clock=clock)

    def once() -> Any:
        app._sources.clear()  # a new tick
        job = config.jobs["r00"]
        return run_job(job, app.run_context(job), app.deadline(job)).error

    try:
        assert once() is None
        for credential in hub.github.accounts.credentials.values():
            credential.revoked = True
        reinstall(hub)
        clock.advance(3600)
        hub.github.forget_requests()
        assert once() is None
        assert (hub.github.count("installation"), hub.github.count("token")) == (1, 2)
    finally:
        app.close()


def test_an_installation_id_of_the_configuration_that_is_gone_is_answered_with_the_new_one(
    hub: SyncEnv,
) -> None:
    reinstall(hub)
    error = hub.sync().job["error"]
    text = r"installation 42 is gone: the App is installed anew for acme/r\d\d, as 57"
    assert re.fullmatch(text, error["message"])
    assert error["hint"] == "write installation_id: 57 into the identity, or leave it out"
