"""GitHub counts requests per installation: what one account used up stops no other account's
jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load_config
from syncd.engine.run import run_job
from syncd.models import Trigger
from syncd.simulator import faults
from syncd.simulator.github import GitHub
from syncd.wiring import AppContext, ConnectionOptions
from tests.support.fast_clock import PassingClock
from tests.support.metrics import samples
from tests.support.sync_env import SyncEnv, sync_env

ACME, BETA = 42, 43


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


def two_accounts(hub: SyncEnv) -> None:
    """One App identity without `installation_id`, installed on Acme and on Beta;
    two jobs on each.
    """
    hub.github.accounts.installations.clear()
    hub.github.accounts.install(12345, "Acme", ACME)
    hub.github.accounts.install(12345, "Beta", BETA)
    hub.identities["ops"].pop("installation_id")
    hub.extra["workers"] = "1"
    hub.jobs.clear()
    for owner in ("acme", "beta"):
        for number in range(2):
            name = f"{owner}{number}"
            hub.github.add_repo(f"{owner}/{name}", {"files/a": f"{name}\n"})
            paths = [{"from": "files/", "to": f"{hub.folder}/dest/{name}/"}]
            job = {"repo": f"{owner}/{name}", "ref": "main", "every": "5m", "paths": paths}
            hub.jobs[name] = {**job, "timeout": "10s"}
    hub.write()


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        two_accounts(made)
        yield made


@pytest.fixture
def today(tmp_path: Path) -> Iterator[SyncEnv]:
    """As `hub`, at the present time."""
    with sync_env(tmp_path) as made:
        two_accounts(made)
        yield made


def spend(github: GitHub, installation: int, requests: int) -> None:
    github._spent[f"installation:{installation}", int(github.now() // 3600)] = requests


def used_up(hub: SyncEnv) -> None:
    spend(hub.github, ACME, hub.github.primary_limit or 0)


def answers(route: str, headers: dict[str, str], message: str) -> Callable[[SyncEnv], None]:
    """Requests of Acme to this route are refused."""

    def happen(hub: SyncEnv) -> None:
        handle = hub.github.handle

        def answering(method: str, target: str, *rest: Any) -> Any:
            answer = handle(method, target, *rest)
            about_acme = "/acme/" in target or f"/installations/{ACME}/" in target
            kind = "token" if "access_tokens" in target else "head" if "/commits/" in target else ""
            broken = about_acme and kind == route
            return faults.status(403, message, headers)(answer) if broken else answer

        hub.github.handle = answering  # type: ignore[method-assign]

    return happen


SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)
LIMITS = {
    "the hour is used up": used_up,
    "a secondary limit": answers("head", {"retry-after": "600"}, SECONDARY),
    "a limit on its token": answers("token", {"retry-after": "600"}, SECONDARY),
}


def by_job(hub: SyncEnv) -> dict[str, str | None]:
    jobs = hub.sync().json["jobs"]
    return {job["job"]: job["error"]["kind"] if job["error"] else None for job in jobs}


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("the hour is used up", {"token": 1, "head": 1}),
        ("a secondary limit", {"token": 1, "head": 1}),
        ("a limit on its token", {"token": 1}),
    ],
)
def test_a_limit_of_one_account_does_not_stop_the_other_accounts_jobs(
    hub: SyncEnv, name: str, requests: dict[str, int]
) -> None:
    LIMITS[name](hub)
    expected = {"acme0": "rate_limited", "acme1": "rate_limited", "beta0": None, "beta1": None}
    assert by_job(hub) == expected
    about_acme = ("/acme/", f"/installations/{ACME}/")
    asked = [one for one in hub.github.requests if any(text in one.path for text in about_acme)]
    routes = Counter(one.route for one in asked if one.route != "installation")
    assert routes == requests, "one refusal holds for all jobs of the account"


def test_the_reserve_of_one_account_does_not_hold_the_other_accounts_timers(
    hub: SyncEnv, clock: PassingClock
) -> None:
    config = load_config(hub.config, {})
    app = AppContext.open(config, {}, clock=clock, options=ConnectionOptions(wait_for_limits=False))

    def timer(name: str) -> str | None:
        job = config.jobs[name]
        deadline = app.deadline(job, Trigger.SCHEDULE)
        error = run_job(job, app.run_context(job), deadline).error
        return error.kind if error is not None else None

    try:
        assert (timer("acme0"), timer("beta0")) == (None, None)
        spend(hub.github, ACME, (hub.github.primary_limit or 0) - 300)
        assert timer("acme1") == "rate_limited"  # its first answer told what is left
        assert timer("beta1") is None
    finally:
        app.close()


def test_status_and_metrics_name_each_installation(today: SyncEnv, tmp_path: Path) -> None:
    hub = today
    spend(hub.github, ACME, 4000)
    spend(hub.github, BETA, 100)
    metrics = tmp_path / "syncd.prom"
    assert hub.call("sync", "--metrics-file", str(metrics)).code == 0
    found = hub.call("status", "--json").json["identities"]
    limit = hub.github.primary_limit
    assert limit is not None
    keys = ("identity", "installation", "account", "limit", "reserve")
    assert [tuple(one[key] for key in keys) for one in found] == [
        ("ops", 42, "Acme", limit, min(500, limit // 10)),
        ("ops", 43, "Beta", limit, min(500, limit // 10)),
    ]
    left = [limit - 4000, limit - 100]
    assert all(full > one["remaining"] > full - 20 for one, full in zip(found, left, strict=True))
    repos = [[one["repo"] for one in entry["spent"]] for entry in found]
    assert [sorted(one) for one in repos] == [
        ["acme/acme0", "acme/acme1"],
        ["beta/beta0", "beta/beta1"],
    ]
    shown = samples(metrics.read_text())
    for one in found:
        labels = f'{{identity="ops",installation="{one["installation"]}"}}'
        assert shown[f"syncd_github_ratelimit_remaining{labels}"] == one["remaining"]
        assert shown[f"syncd_github_ratelimit_limit{labels}"] == limit
    page = hub.call("status").out
    assert "ops (Acme): " in page
    assert "ops (Beta): " in page


def test_the_limit_of_an_installation_that_was_replaced_is_forgotten(today: SyncEnv) -> None:
    hub = today
    hub.sync()
    hub.github.accounts.installations.pop(ACME)
    hub.github.accounts.install(12345, "Acme", 57)
    hub.sync()
    found = hub.call("status", "--json").json["identities"]
    assert [(one["installation"], one["account"]) for one in found] == [(57, "Acme"), (43, "Beta")]


def test_a_token_has_one_limit_without_installation(tmp_path: Path) -> None:
    with sync_env(tmp_path, as_app=False) as hub:
        for _ in range(2):
            hub.sync()
        found = hub.call("status", "--json").json["identities"]
    assert [(one["identity"], one["installation"], one["account"]) for one in found] == [
        ("ops", None, None)
    ]
    assert found[0]["limit"] == hub.github.primary_limit
