"""What runs cost GitHub, and what GitHub's limits cost runs: counts of requests over real sockets,
on simulated time where limits are met.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.simulator.faults import Answer
from syncd.store.read_ledgers import LedgerReader
from tests.support.sync_env import SyncEnv, sync_env

OTHERS_TOKEN = "ghp_others0000000000000000000000000000"


class LateClock:
    """Stands still unless somebody waits long; such a wait is over when `before_long_waits`
    returns, with its time passed on both sides.
    """

    def __init__(self, before_long_waits: Callable[[], None]) -> None:
        self.began, self.seconds, self.longest = (
            datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC),
            0.0,
            0.0,
        )
        self._before, self._guard = before_long_waits, threading.Lock()

    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        if seconds < 1:
            return stop.wait(
                0.001
            )  # for an answer that is on its way: real time, in which it comes
        ends = self.seconds + seconds
        self._before()
        with self._guard:
            self.longest = max(self.longest, seconds)
            self.seconds = max(self.seconds, ends)
        return stop.is_set()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        yield made


def job(
    hub: SyncEnv, name: str, repo: str, paths: list[str], identity: str = "ops", **more: Any
) -> None:
    where = hub.dest / name
    hub.jobs[name] = {
        "as": identity,
        "repo": repo,
        "ref": "main",
        "every": "5m",
        "paths": [{"from": path, "to": f"{where}/{path}"} for path in paths],
        **more,
    }


@contextmanager
def late(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, others: int) -> Iterator[LateClock]:
    """Simulated time, in which nobody's long wait is over before `others` files of the other
    identity are on disk.
    """
    arrived, there = set[str](), threading.Event()
    handle = hub.github.handle

    def watched(method: str, target: str, *rest: Any) -> Answer:
        answer = handle(method, target, *rest)
        if "/repos/other/" in target and "/contents/f" in target and answer.status == 200:
            arrived.add(target)
            if len(arrived) >= others:
                there.set()
        return answer

    def unhindered() -> None:
        assert there.wait(60), f"kept waiting: {len(arrived)} of {others}"

    clock = LateClock(unhindered)
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: clock)
    monkeypatch.setattr(hub.github, "handle", watched)
    monkeypatch.setattr(hub.github, "_real_now", lambda: clock.now().timestamp())
    yield clock


def with_others(hub: SyncEnv, count: int) -> None:
    """Another identity, whose jobs come last in the configuration."""
    hub.github.accounts.add_personal_token(OTHERS_TOKEN, "grace")  # limits are each user's own
    token = hub.folder / "others.token"
    token.write_text(OTHERS_TOKEN)
    token.chmod(0o600)
    hub.canary.spared.add(token)
    hub.identities["others"] = {"token": {"file": str(token)}, "api": hub.served.url}
    for number in range(count):
        hub.github.add_repo(f"other/r{number}", {"f.conf": f"other {number}\n"})
        job(hub, f"other{number}", f"other/r{number}", ["f.conf"], "others", timeout="1d")


def test_a_limit_of_a_hundred_an_hour_makes_work_late_and_whole_and_keeps_no_other_identity_waiting(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.jobs.clear()
    for number in range(40):
        hub.github.add_repo(
            f"acme/r{number}", {"d/a.conf": f"a {number}\n", "d/b.conf": f"b {number}\n"}
        )
        job(hub, f"own{number}", f"acme/r{number}", ["d/"], timeout="1d")
    with_others(hub, 12)
    hub.extra = {"workers": 4}
    hub.github.primary_limit = 100
    hub.write()
    with late(hub, monkeypatch, 12) as clock:
        result = hub.sync()
    assert result.code == 0, result.err
    assert hub.github.count(status=403) == hub.github.count(status=429) == 0, (
        "never a request over the limit"
    )
    assert clock.longest > 3000 and clock.now().hour >= 13, "it is late"
    assert {
        path.relative_to(hub.dest).as_posix(): path.read_text() for path in hub.dest.rglob("*.conf")
    } == {
        **{
            f"own{number}/d/{name}.conf": f"{name} {number}\n"
            for number in range(40)
            for name in "ab"
        },
        **{f"other{number}/f.conf": f"other {number}\n" for number in range(12)},
    }, "and whole"


@pytest.mark.root  # a thousand files, one by one; the rates are in tests/unit/github at a push
def test_no_minute_sees_more_than_900_requests_of_one_identity(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.jobs.clear()
    for number in range(3):
        repo = hub.github.add_repo(
            f"acme/r{number}", {f"d/f{index}.conf": f"{number} {index}\n" for index in range(320)}
        )
        repo.declared_kilobytes = 3 << 20  # so large that its files come singly
        job(hub, f"own{number}", f"acme/r{number}", ["d/"], timeout="1d")
    with_others(hub, 6)
    hub.extra = {"workers": 2}
    hub.github.secondary_points = 900
    hub.write()
    with late(hub, monkeypatch, 6) as clock:
        result = hub.sync()
    assert result.code == 0, result.err
    assert hub.github.count(status=403) == hub.github.count(status=429) == 0
    assert (
        hub.github.count("contents") > 960
        and hub.github.count("tarball") == 0
        and 60 <= clock.seconds < 200
    )
    assert sum(1 for _ in hub.dest.rglob("*.conf")) == 3 * 320 + 6


def test_jobs_of_one_repository_and_ref_cost_one_request_however_many_they_are(
    hub: SyncEnv,
) -> None:
    hub.jobs.clear()
    for number in range(60):
        name = f"acme/r{number % 6}"
        if number < 6:
            hub.github.add_repo(
                name, {f"f{index}.conf": f"{number} {index}\n" for index in range(10)}
            )
        job(hub, f"j{number}", name, [f"f{number // 6}.conf"])
    hub.write()
    assert hub.sync().code == 0
    assert hub.github.count("head") == 2 * 6, "each branch, and whether a tag has its name"
    again = hub.sync()
    assert again.json["requests"] == {"total": 6, "not_modified": 6} and {
        one["status"] for one in again.json["jobs"]
    } == {"unchanged"}


@pytest.mark.parametrize(
    ("wanted", "others", "kilobytes", "way"),
    [(60, 0, 3 << 20, "contents"), (150, 0, 3 << 20, "contents"), (600, 60, 1000, "tarball")],
)
def test_a_huge_repository_is_not_downloaded_for_a_few_files_and_most_of_one_is(
    hub: SyncEnv, wanted: int, others: int, kilobytes: int, way: str
) -> None:
    files = {f"d/f{index}.conf": f"{index}\n" for index in range(wanted)} | {
        f"other/f{index}": f"{index}\n" for index in range(others)
    }
    hub.github.add_repo("acme/big", files).declared_kilobytes = kilobytes
    hub.jobs.clear()
    job(hub, "big", "acme/big", ["d/"])
    hub.write()
    assert hub.sync().job["status"] == "changed"
    routes = hub.github.routes()
    assert routes.get("tarball", 0) == (way == "tarball")
    assert sum(routes.values()) <= (6 if way == "tarball" else wanted + 4), routes
    assert len(list(hub.dest.rglob("f*.conf"))) == wanted


def test_several_paths_under_one_folder_cost_one_listing_and_equal_files_come_once_for_all_jobs(
    hub: SyncEnv,
) -> None:
    same = {f"conf/{name}.conf": "the same everywhere\n" for name in "abcdef"}
    hub.jobs.clear()
    for number in range(3):
        hub.github.add_repo(
            f"acme/r{number}",
            {**same, "conf/x/y.conf": "the same everywhere\n", "conf/own.conf": f"{number}\n"},
        )
        job(
            hub,
            f"j{number}",
            f"acme/r{number}",
            [f"conf/{name}.conf" for name in "abcdef"] + ["conf/own.conf"],
        )
    hub.write()
    assert hub.sync().code == 0
    asked = Counter(
        "listing"
        if one.headers.get("accept", "").find("object") > 0 or one.route == "tree"
        else one.route
        for one in hub.github.requests
    )
    assert (
        asked == {"head": 6, "listing": 3 + hub.github.count("tree"), "contents": 4}
        and hub.github.count("tree") <= 1
    ), asked


def test_what_was_fetched_before_an_interruption_is_not_fetched_again(hub: SyncEnv) -> None:
    hub.github.add_repo("acme/many", {f"d/f{index}.conf": f"{index}\n" for index in range(40)})
    hub.jobs.clear()
    job(hub, "many", "acme/many", ["d/"])
    hub.extra = {"requests_at_once": 1}
    hub.write()
    hub.github.add_fault("contents", lambda answer: Answer(503, {}, b"{}"), times=1000, skip=1 + 25)
    hub.github.add_fault("blob", lambda answer: Answer(503, {}, b"{}"), times=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.0)
        assert hub.sync().code == 5
        hub.github.faults.clear()
        assert hub.sync().code == 0
    files = [one for one in hub.github.requests if "/contents/d/f" in one.path]
    assert len(files) == 40 - 25 and len(list(hub.dest.rglob("f*.conf"))) == 40


@pytest.mark.parametrize(
    ("etags", "routes"), [("git", {"head": 304}), ("hash", {"head": 304}), ("none", {"head": 200})]
)
def test_etags_of_another_kind_or_none_cost_at_most_the_head_and_change_nothing(
    hub: SyncEnv, etags: str, routes: dict[str, int]
) -> None:
    hub.github.etags = etags
    assert hub.sync().job["status"] == "changed"
    before = hub.tree()
    for _ in range(2):
        assert hub.sync().job["status"] == "unchanged"
        assert {one.route: one.status for one in hub.github.requests} == routes and len(
            hub.github.requests
        ) == 1
    hub.repo.commit({"nginx/nginx.conf": "two\n"}, "second")
    assert hub.sync().job["status"] == "changed" and hub.tree() != before
    assert hub.github.routes() == {"head": 1, "contents": 2, "tree": 1}


def test_status_says_what_is_left_what_is_kept_and_who_spent_it(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    charged = len([one for one in hub.github.requests if one.status != 304])
    answer = hub.call("status", "--json")
    (row,) = answer.json["identities"]
    assert (row["identity"], row["limit"], row["remaining"], row["reserve"]) == (
        "ops",
        5000,
        5000 - charged,
        500,
    )
    assert row["spent"] == [{"repo": "acme/infra", "requests": charged}]
    hub.sync()
    assert hub.call("status", "--json").json["identities"][0]["spent"] == row["spent"], (
        "a 304 is free"
    )
    text = hub.call("status")
    assert f"ops: {5000 - charged:,} of 5,000 requests left until " in text.out + text.err
    assert f"this hour spent: acme/infra {charged}" in text.out + text.err


def test_the_listing_is_requested_while_the_ledger_is_still_being_read(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that waits for the ledger of 5,000 files costs a run a tenth of its time."""
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
    hub.github.forget_requests()
    read, requested = LedgerReader.read, []

    def slow_read(self: LedgerReader, connection: Any, job: str) -> Any:
        asked = threading.Event()
        for _ in range(500):  # 5 s at most
            if any(one.route == "contents" for one in hub.github.requests):
                asked.set()
            if asked.wait(0.01):
                break
        requested.append(asked.is_set())
        return read(self, connection, job)

    monkeypatch.setattr(LedgerReader, "read", slow_read)
    assert hub.sync().code == 0
    assert requested[0]


def test_the_head_of_a_commit_that_lacks_a_listed_path_is_not_charged_again(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": None, "nginx/sites/a.conf": None}, "gone")
    assert hub.sync().job["error"]["kind"] == "not_found"
    hub.github.forget_requests()
    assert hub.sync().job["error"]["kind"] == "not_found"
    assert [one.status for one in hub.github.requests if one.route == "head"] == [304]
