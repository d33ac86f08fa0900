"""What makes changes come late though no run fails is known within two intervals, in each place
that an operator looks at.

Each row: what happened, and what status, its JSON, the page and the metrics say then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.github.webhook import Push
from syncd.status import StatusSnapshot, read_status, status_json
from syncd.store.store import SqliteStore
from syncd.web import status_page
from syncd.web.metrics import exposition
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import SyncEnv, sync_env

EVERY_SECONDS = 300.0
SECRET = "a-secret-of-the-hook"
MISSED = "no delivery announced commit {commit}; a scheduled run found it"
MISSED_HINT = "look at Recent Deliveries of the webhook at GitHub, and at what is in front of syncd"
UNMATCHED_HINT = "if a job should have started, compare its repo:, ref: and on_push:"
MOVED = "acme/infra was renamed or moved at GitHub"
MOVED_HINT = "write its present name into repo:, which syncd doctor says"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    """A daemon with a webhook and one job, which has run once and then at its interval."""
    (tmp_path / "hook").write_text(SECRET)
    (tmp_path / "hook").chmod(0o600)
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.guard_seconds = 10.0
        made.web = {
            "listen": "127.0.0.1:0",
            "webhook": {"path": "/github", "secret": {"file": str(tmp_path / "hook")}},
        }
        made.github.add_repo("acme/infra", {"files/a": "one\n"})
        made.add("nginx", "acme/infra", every="5m")
        made.begin(lambda: 0.5)
        made.run(2 * EVERY_SECONDS)
        yield made


def commit(board: SimulatedDaemon) -> str:
    """Push a change, which GitHub does not announce."""
    repo = board.github.repos["acme/infra"]
    repo.commit({"files/a": f"{board.clock.monotonic()}\n"})
    return repo.head()


def deliver(board: SimulatedDaemon, repo: str, ref: str, commit: str | None = None) -> None:
    board.daemon.push_trigger.push_received(Push(repo, ref, commit), None, f"push of {ref}")


def nothing(board: SimulatedDaemon) -> str:
    return ""


def unannounced(board: SimulatedDaemon) -> str:
    return commit(board)


def announced_late(board: SimulatedDaemon) -> str:
    found = commit(board)
    board.run(EVERY_SECONDS)
    deliver(board, "acme/infra", "refs/heads/main", found)
    return found


def announced(board: SimulatedDaemon) -> str:
    found = commit(board)
    deliver(board, "acme/infra", "refs/heads/main", found)
    return found


def announced_again(board: SimulatedDaemon) -> str:
    commit(board)
    board.run(2 * EVERY_SECONDS)
    return announced(board)


def of_no_job(board: SimulatedDaemon) -> str:
    deliver(board, "acme/web", "refs/heads/main")
    deliver(board, "acme/web", "refs/heads/next")
    return ""


def of_no_job_at_first(board: SimulatedDaemon) -> str:
    deliver(board, "acme/infra", "refs/heads/next")
    return announced(board)


def deletion(board: SimulatedDaemon) -> str:
    board.daemon.push_trigger.push_received(
        Push("acme/web", "refs/heads/main", deleted=True), None, "a deletion"
    )
    return ""


NO_WARNING = 'syncd_job_warning{job="nginx",reason="delivery_missed"} 0.0'
A_WARNING = 'syncd_job_warning{job="nginx",reason="delivery_missed"} 1.0'
UNMATCHED_0 = 'syncd_webhook_deliveries_total{outcome="unmatched"} 0.0'
UNMATCHED_1 = 'syncd_webhook_deliveries_total{outcome="unmatched"} 1.0'
UNMATCHED_2 = 'syncd_webhook_deliveries_total{outcome="unmatched"} 2.0'


@pytest.mark.parametrize(
    ("happens", "warning", "unmatched", "metrics"),
    [
        (nothing, None, [], (NO_WARNING, UNMATCHED_0)),
        (unannounced, MISSED, [], (A_WARNING, UNMATCHED_0)),
        (announced, None, [], (NO_WARNING, UNMATCHED_0)),
        (announced_late, None, [], (NO_WARNING, UNMATCHED_0)),
        (announced_again, None, [], (NO_WARNING, UNMATCHED_0)),
        (of_no_job, None, [("acme/web", "refs/heads/next", 2)], (NO_WARNING, UNMATCHED_2)),
        (of_no_job_at_first, None, [], (NO_WARNING, UNMATCHED_1)),
        (deletion, None, [], (NO_WARNING, UNMATCHED_0)),
    ],
)
def test_deliveries_that_miss_are_known_within_two_intervals(
    board: SimulatedDaemon,
    happens: Callable[[SimulatedDaemon], str],
    warning: str | None,
    unmatched: list[tuple[str, str, int]],
    metrics: tuple[str, ...],
) -> None:
    found = happens(board)
    board.run(2 * EVERY_SECONDS)
    expected = [] if warning is None else [warning.format(commit=found[:7])]
    hints = [] if warning is None else [MISSED_HINT]
    in_daemon = board.daemon.status_snapshot()
    for snapshot in (in_daemon, beside(board)):
        value = status_json(snapshot)
        assert [one["text"] for one in value["jobs"][0]["warnings"]] == expected
        assert [one["hint"] for one in value["jobs"][0]["warnings"]] == hints
        rows = value["webhook"]["unmatched"]
        assert [(row["repo"], row["ref"], row["pushes"]) for row in rows] == unmatched
        assert value["jobs"][0]["state"] == "in_sync"
    page = status_page.view(in_daemon, (), status_page.Filter())
    told = [f"! {text} → {hint}" for text, hint in zip(expected, hints, strict=True)]
    assert list(page.rows[0].reasons) == told
    assert ("matched no job" in (page.webhook or "")) == bool(unmatched)
    assert set(metrics) <= set(exposition(in_daemon).splitlines())


def beside(board: SimulatedDaemon) -> StatusSnapshot:
    """The status that a command beside the daemon reads from the store."""
    store = SqliteStore.open_readonly(board.config.state)
    try:
        return read_status(board.config, store, board.clock.now())
    finally:
        store.close()


def test_a_new_daemon_knows_what_the_last_one_missed(board: SimulatedDaemon) -> None:
    found = commit(board)
    board.run(2 * EVERY_SECONDS)
    board.daemon.app.close()
    board.begin(lambda: 0.5)
    (warning,) = board.daemon.status_snapshot().jobs[0].warnings
    assert warning.text == MISSED.format(commit=found[:7])


# --- what the store of a one-shot says too --------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        made.write_config()
        assert made.sync().code == 0
        yield made


def renamed(hub: SyncEnv) -> None:
    hub.github.rename("acme/infra", "acme/machines")


def renamed_and_back(hub: SyncEnv) -> None:
    renamed(hub)
    assert hub.sync().code == 0
    hub.github.rename("acme/machines", "acme/infra")


def installed_anew(hub: SyncEnv) -> None:
    hub.github.accounts.installations.clear()
    hub.github.accounts.install(12345, "acme", 57)


GONE = (
    "installation 42 is gone: the App is installed anew for acme/infra, as 57",
    "write installation_id: 57 into the identity, or leave it out",
)


@pytest.mark.parametrize(
    ("happens", "code", "state", "warning", "error"),
    [
        (lambda hub: None, 0, "in_sync", None, None),
        (renamed, 0, "in_sync", (MOVED, MOVED_HINT), None),
        (renamed_and_back, 0, "in_sync", None, None),
        (installed_anew, 4, "failing", None, GONE),
    ],
    ids=["nothing", "renamed", "renamed and back", "installed anew"],
)
def test_what_moved_at_github_is_known_after_the_next_run(
    hub: SyncEnv,
    happens: Callable[[SyncEnv], None],
    code: int,
    state: str,
    warning: tuple[str, str] | None,
    error: tuple[str, str] | None,
) -> None:
    happens(hub)
    assert hub.sync().code == code
    job = hub.call("status", "--json").json["jobs"][0]
    assert job["state"] == state
    texts = [(one["text"], one["hint"]) for one in job["warnings"]]
    assert texts == ([] if warning is None else [warning])
    told = None if job["error"] is None else (job["error"]["message"], job["hint"])
    assert told == error
    lines = [line.strip() for line in hub.call("status").out.splitlines()]
    if warning is not None:
        assert f"! {warning[0]}" in lines and f"→ {warning[1]}" in lines
    metrics = hub.folder / "metrics"
    hub.sync("--metrics-file", str(metrics))
    moved = f'syncd_job_warning{{job="nginx",reason="repository_moved"}} {float(bool(warning))}'
    assert moved in metrics.read_text().splitlines()


def test_a_name_that_was_corrected_is_no_warning(hub: SyncEnv) -> None:
    renamed(hub)
    assert hub.sync().code == 0
    hub.write_config(repo="acme/machines")
    assert hub.sync().code == 0
    assert hub.call("status", "--json").json["jobs"][0]["warnings"] == []
