"""A change has to pass its health check: taken back when it fails, accepted only when its window
has ended, with one-shots whose waits are over at once.

tests/story/test_daemon_health.py has the same in the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from syncd.config.load import load_config
from syncd.git_objects import blob_id
from syncd.ports import Intent, JobState
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from tests.support.fast_clock import PassingClock
from tests.support.sync_env import SyncEnv, sync_env, tree_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    """The first set is in place, and it is healthy."""
    with sync_env(tmp_path, as_app=False) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        yield made


def script(hub: SyncEnv, name: str, text: str) -> list[str]:
    file = hub.folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return [str(file)]


def log(hub: SyncEnv, name: str) -> list[str]:
    file = hub.folder / name
    return file.read_text().split() if file.exists() else []


def healthy(hub: SyncEnv, below: str = "", **more: Any) -> dict[str, Any]:
    """A check that fails while a file says BAD, and writes down the set that it saw."""
    place = hub.dest / below
    text = f"cat {place}/nginx.conf >> {hub.folder}/checked; ! grep -rq BAD {place}/"
    return {"command": script(hub, "healthy", text), "for": "30s", **more}


def reloading(hub: SyncEnv, below: str = "") -> list[str]:
    text = f"cat {hub.dest / below}/nginx.conf >> {hub.folder}/reloaded"
    return script(hub, "reload", text)


def begin(hub: SyncEnv, **job: Any) -> str:
    """The first set is in place and healthy; return its commit."""
    if "health" not in job:
        job["health"] = healthy(hub)
    if "on_change" not in job:
        job["on_change"] = reloading(hub)
    hub.write_config(**job)
    assert hub.sync().code == 0
    for name in ("checked", "reloaded"):
        (hub.folder / name).unlink(missing_ok=True)
    return hub.repo.head()


def status(hub: SyncEnv) -> Any:
    return hub.call("status", "--json").json["jobs"][0]


def state(hub: SyncEnv, job: str = "nginx") -> JobState:
    store = SqliteStore.open(hub.state)
    try:
        return store.state(job)
    finally:
        store.close()


def test_a_good_change_is_done_when_its_window_has_ended(hub: SyncEnv, clock: PassingClock) -> None:
    begin(hub)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    began = clock.monotonic()
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]) == (0, "changed", None)
    assert log(hub, "reloaded") == ["two"] and log(hub, "checked") == ["two"] * 6
    assert clock.monotonic() - began == 30.0, "six checks, five seconds apart"
    assert "healthy: 6 checks passed in 30 s" in done.job["notes"]
    assert (status(hub)["state"], status(hub)["commit"]) == ("in_sync", hub.repo.head())
    assert state(hub).pending_health is None and state(hub).undo is None


def test_a_bad_change_is_taken_back_and_its_commit_is_rejected(
    hub: SyncEnv, clock: PassingClock
) -> None:
    good = begin(hub)
    before = hub.tree()
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/new": "new\n", "nginx/sites/a.conf": None})
    bad, began = hub.repo.head(), clock.monotonic()
    done = hub.sync()
    error = done.job["error"]
    assert (done.code, done.job["status"], error["kind"], error["id"]) == (
        1,
        "refused",
        "hook",
        "hook/not-healthy",
    )
    assert (done.job["commit"], done.job["previous"]) == (bad, good)
    command = hub.folder / "healthy"
    assert error["message"] == (
        f"commit {bad[:7]} is not healthy, and commit {good[:7]} was put back: "
        f"`{command}` exited 1 (2 in a row)"
    )
    assert clock.monotonic() - began == 10.0 and log(hub, "checked") == ["BAD", "BAD"]
    assert log(hub, "reloaded") == ["BAD", "one"] and hub.tree() == before
    assert (status(hub)["state"], status(hub)["commit"]) == ("failing", good)
    assert f"commit {good[:7]} was put back" in status(hub)["error"]["message"]
    past = hub.call("history", "nginx", "--json").json["runs"]
    assert any(
        run["status"] == "refused" and error["message"].splitlines()[0] in str(run) for run in past
    )
    assert f"commit {good[:7]} was put back" in hub.call("status").out


def test_a_rejected_change_is_not_tried_again_and_the_next_one_is(hub: SyncEnv) -> None:
    begin(hub)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    hub.sync()
    again = hub.sync()
    assert (again.code, again.job["status"], again.job["changes"]) == (1, "refused", [])
    assert log(hub, "checked") == ["BAD", "BAD"] and hub.tree()["nginx.conf"] == b"one\n"
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"two\n"
    assert status(hub)["state"] == "in_sync"


def test_without_on_change_a_change_is_checked_too(hub: SyncEnv) -> None:
    begin(hub, on_change=None)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    assert hub.sync().job["status"] == "refused" and hub.tree()["nginx.conf"] == b"one\n"
    assert state(hub).pending_reload is None and state(hub).consistent
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0 and log(hub, "checked") == ["BAD"] * 2 + ["two"] * 6


def test_a_run_that_changes_nothing_and_a_repair_are_not_checked(hub: SyncEnv) -> None:
    begin(hub)
    assert hub.sync().job["status"] == "unchanged"
    (hub.dest / "sites/a.conf").write_text("edited")
    assert hub.sync().job["changes"][0]["action"] == "restore"
    hub.repo.commit({"other": "x"})
    assert hub.sync().job["status"] == "unchanged"
    assert log(hub, "checked") == []


def test_a_first_set_that_is_not_healthy_is_taken_away_again(hub: SyncEnv) -> None:
    (hub.dest / "nginx.conf").write_text("theirs\n")
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    hub.write_config(health=healthy(hub), on_change=reloading(hub))
    done = hub.sync()
    assert done.job["status"] == "refused" and hub.tree() == {"nginx.conf": b"theirs\n"}
    assert "and what was there before it is back" in done.job["error"]["message"]
    assert status(hub)["commit"] is None


def test_a_link_that_was_switched_is_switched_back(hub: SyncEnv) -> None:
    link = hub.dest / "current"
    begin(
        hub,
        publish="symlink",
        paths=[{"from": "nginx/", "to": f"{link}/"}],
        health=healthy(hub, "current"),
        on_change=reloading(hub, "current"),
    )
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/sites/a.conf": None})
    assert hub.sync().job["status"] == "refused"
    assert tree_of(link.resolve()) == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0 and tree_of(link.resolve()) == {"nginx.conf": b"two\n"}


def test_of_jobs_that_share_a_reload_the_one_that_changed_goes_back(hub: SyncEnv) -> None:
    second = hub.github.add_repo("acme/other", {"files/a": "one\n"})
    reload = script(hub, "reload", f"echo ran >> {hub.folder}/reloaded")
    hub.jobs["other"] = {
        **hub.jobs["nginx"],
        "repo": "acme/other",
        "paths": [{"from": "files/", "to": f"{hub.folder}/other/"}],
        "on_change": reload,
        "health": {"command": ["true"], "for": "30s"},
    }
    begin(hub, on_change=reload)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    second.commit({"files/a": "two\n"})
    done = hub.sync()
    assert [job["status"] for job in done.json["jobs"]] == ["refused", "changed"]
    assert hub.tree()["nginx.conf"] == b"one\n"
    assert (hub.folder / "other/a").read_bytes() == b"two\n"
    assert log(hub, "reloaded") == ["ran", "ran"], "together, and for the set that came back"
    assert state(hub, "other").pending_health is None


def test_an_undo_of_a_failed_reload_leaves_no_check(hub: SyncEnv) -> None:
    failing = script(hub, "reload", f"! grep -q BAD {hub.dest}/nginx.conf")
    begin(hub, on_change=failing, undo_on_failure=True)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    done = hub.sync()
    assert done.job["error"]["id"] == "hook/change-undone" and log(hub, "checked") == []
    assert state(hub).pending_health is None and hub.tree()["nginx.conf"] == b"one\n"


def test_a_change_whose_reload_failed_is_checked_once_it_has_succeeded(hub: SyncEnv) -> None:
    works = hub.folder / "works"
    begin(hub, on_change=script(hub, "reload", f"test -e {works} || ! grep -q BAD {hub.dest}/*f"))
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    assert hub.sync().job["error"]["id"] == "hook/on-change-failed" and log(hub, "checked") == []
    assert status(hub)["state"] == "failing"
    works.touch()
    assert hub.sync().job["error"]["id"] == "hook/not-healthy"
    assert hub.tree()["nginx.conf"] == b"one\n"


@pytest.mark.parametrize(
    ("command", "rule", "after", "said"),
    [
        ("sleep 300", {"timeout": "1s"}, 10.0, "took longer than its timeout"),
        ("no-such-command", {}, 30.0, "could not be run: there is no command"),
        ("false", {"failures": "100"}, 30.0, "exited 1 (no check has passed in 30 s)"),
        ("false", {"failures": "1"}, 5.0, "exited 1 (1 in a row)"),
    ],
)
def test_what_counts_as_not_healthy(
    hub: SyncEnv, clock: PassingClock, command: str, rule: Any, after: float, said: str
) -> None:
    begin(hub)
    hub.write_config(health={"command": command, "for": "30s", **rule})
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    began = clock.monotonic()
    done = hub.sync()
    assert said in done.job["error"]["message"] and clock.monotonic() - began == after
    assert hub.tree()["nginx.conf"] == b"one\n"


def test_a_slow_check_is_ended_after_its_own_timeout(hub: SyncEnv) -> None:
    begin(hub)
    slow = script(hub, "slow", f"sleep 1.5; echo late >> {hub.folder}/late")
    hub.write_config(health={"command": slow, "for": "30s", "timeout": "1s", "failures": "1"})
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().job["status"] == "refused" and log(hub, "late") == []


def test_the_way_back_is_on_the_disk_before_the_change_is_intended(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(hub)
    done: list[str] = []
    real_sync, real_intent = BlobCache.sync, SqliteStore.begin_intent

    def sync(self: BlobCache, blobs: Iterable[str]) -> None:
        found = list(blobs)
        assert blob_id(b"one\n") in found and all(self.has(blob) for blob in found)
        done.append("sync")
        real_sync(self, found)

    def intend(self: SqliteStore, intent: Intent, state: JobState) -> None:
        done.append("intent")
        real_intent(self, intent, state)

    monkeypatch.setattr(BlobCache, "sync", sync)
    monkeypatch.setattr(SqliteStore, "begin_intent", intend)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    hub.sync()
    assert done == ["sync", "intent", "intent"], "the second is of the way back"


def test_one_failure_between_passes_is_forgiven(hub: SyncEnv) -> None:
    begin(hub)
    text = f"echo x >> {hub.folder}/ran; test $(wc -l < {hub.folder}/ran) -ne {{n}}"
    for number in ("1", "3", "6"):  # the first, one in the middle, the last
        (hub.folder / "ran").unlink(missing_ok=True)
        command = script(hub, "healthy", text.replace("{n}", number))
        hub.write_config(health={"command": command, "for": "30s"})
        hub.repo.commit({"nginx/nginx.conf": f"{number}\n"})
        assert hub.sync().code == 0
        assert len(log(hub, "ran")) == (7 if number == "6" else 6), "the last check has to pass"


def test_the_command_knows_the_change_and_no_secret(hub: SyncEnv) -> None:
    good = begin(hub)
    command = script(hub, "healthy", f"env > {hub.folder}/env")
    hub.write_config(health={"command": command, "for": "5s"})
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0
    found = dict(line.split("=", 1) for line in (hub.folder / "env").read_text().splitlines())
    assert found["SYNCD_JOB"] == "nginx" and found["SYNCD_REPO"] == "acme/infra"
    assert (found["SYNCD_COMMIT"], found["SYNCD_PREVIOUS"]) == (hub.repo.head(), good)
    assert found["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert not any("ghp_" in value for value in found.values())


# --- interrupted ----------------------------------------------------------------------------------


def interrupted(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, checks: int) -> None:
    """Run until so many checks are done; the run then stops as a signal stops it."""
    real, waits = PassingClock.wait, [0]

    def wait(self: PassingClock, stop: Any, seconds: float) -> bool:
        waits[0] += 1
        return True if waits[0] > checks else real(self, stop, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(PassingClock, "wait", wait)
        done = hub.sync()
    assert done.code != 0 and "stopped by a signal" in done.job["error"]["message"]


def test_an_interrupted_window_goes_on_with_the_next_run(
    hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(hub)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    interrupted(hub, monkeypatch, 2)
    assert log(hub, "checked") == ["two"] * 2
    assert (status(hub)["state"], status(hub)["error"]) == ("checking", None)
    shown = hub.call("status")
    assert shown.code == 3 and "2 passed in 10 of 30 s" in shown.out
    clock.advance(3600.0)  # while it was not running, nothing was watched
    assert hub.sync().job["status"] == "unchanged"
    assert log(hub, "checked") == ["two"] * 5, "a late check stands for two intervals at most"
    assert log(hub, "reloaded") == ["two"] and status(hub)["state"] == "in_sync"


def test_an_interrupted_window_ends_in_the_way_back(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(hub)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    interrupted(hub, monkeypatch, 1)
    assert hub.tree()["nginx.conf"] == b"BAD\n" and state(hub).pending_health is not None
    done = hub.sync()
    assert done.job["status"] == "refused" and hub.tree()["nginx.conf"] == b"one\n"
    assert log(hub, "checked") == ["BAD", "BAD"] and log(hub, "reloaded") == ["BAD", "one"]
    assert status(hub)["commit"] == good


def test_nothing_says_unchanged_while_a_check_is_pending(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(hub)
    hub.sync()
    hub.sync()
    assert (hub.state / "unchanged.json").exists()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    interrupted(hub, monkeypatch, 1)
    assert not (hub.state / "unchanged.json").exists()
    hub.sync()
    assert len(log(hub, "checked")) == 6


def test_a_newer_commit_waits_for_the_end_of_the_window(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(hub)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    interrupted(hub, monkeypatch, 1)
    hub.repo.commit({"nginx/nginx.conf": "three\n"})
    assert hub.sync().code == 0
    assert log(hub, "checked") == ["two"] * 6 + ["three"] * 6
    assert log(hub, "reloaded") == ["two", "three"]


def in_window(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, content: str = "BAD\n") -> str:
    """The first set is followed by another one whose window is open; return the first commit."""
    good = begin(hub)
    hub.repo.commit({"nginx/nginx.conf": content})
    interrupted(hub, monkeypatch, 1)
    return good


def test_a_rollback_ends_the_window_and_holds_the_job(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = in_window(hub, monkeypatch)
    assert hub.call("rollback", "nginx").code == 0
    assert (status(hub)["state"], status(hub)["commit"]) == ("paused", good)
    assert hub.tree()["nginx.conf"] == b"one\n"
    assert state(hub).pending_health is None and state(hub).undo is None
    assert log(hub, "checked") == ["BAD"] and log(hub, "reloaded") == ["BAD", "one"]


def test_a_pause_stops_the_checks_and_resume_lets_them_go_on(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_window(hub, monkeypatch)
    hub.call("pause", "nginx")
    assert hub.sync().job["status"] == "skipped" and log(hub, "checked") == ["BAD"]
    assert status(hub)["state"] == "paused"
    hub.call("resume", "nginx")
    assert status(hub)["state"] == "checking"
    assert hub.sync().job["status"] == "refused" and hub.tree()["nginx.conf"] == b"one\n"


def test_a_renamed_job_goes_on_with_the_window(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_window(hub, monkeypatch)
    hub.jobs["web"] = hub.jobs.pop("nginx")
    hub.write()
    done = hub.sync()
    assert done.job["status"] == "refused" and hub.tree()["nginx.conf"] == b"one\n"
    assert log(hub, "checked") == ["BAD", "BAD"]
    assert hub.sync().job["changes"] == [], "the commit is rejected under the new name too"


def test_forgetting_a_job_forgets_its_check(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    in_window(hub, monkeypatch)
    assert hub.sync("--forget", "nginx", "nginx").code == 0
    assert log(hub, "checked") == ["BAD"] and hub.tree()["nginx.conf"] == b"BAD\n"


def test_without_health_in_the_configuration_the_change_counts_like_any_other(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_window(hub, monkeypatch)
    hub.write_config(health=None)
    assert hub.sync().job["status"] == "unchanged" and hub.tree()["nginx.conf"] == b"BAD\n"
    assert state(hub).pending_health is None and state(hub).undo is None


def test_another_health_command_begins_the_window_again(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_window(hub, monkeypatch)
    other = script(hub, "other", f"echo ran >> {hub.folder}/others")
    hub.write_config(health={"command": other, "for": "30s"})
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"BAD\n"
    assert status(hub)["state"] == "in_sync" and log(hub, "others") == ["ran"] * 6


def test_a_commit_is_tried_again_under_another_configuration_of_the_set(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_window(hub, monkeypatch)
    hub.write_config(mode="0600")
    assert hub.sync().job["error"]["id"] == "hook/not-healthy"
    assert log(hub, "reloaded") == ["BAD", "one"] * 2
    assert hub.sync().job["error"]["id"] == "hook/commit-rejected"
    assert log(hub, "reloaded") == ["BAD", "one"] * 2


def test_a_lost_way_back_rejects_the_commit_and_says_that_it_stays(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_window(hub, monkeypatch)
    store = SqliteStore.open(hub.state)
    store.change_state("nginx", lambda now: replace(now, undo=None))
    store.close()
    done = hub.sync()
    assert done.job["status"] == "refused" and hub.tree()["nginx.conf"] == b"BAD\n"
    assert "it stays, because what was there before it is not in the cache" in str(done.job)


def test_edits_and_files_of_others_come_back(hub: SyncEnv) -> None:
    begin(hub, drift="report")
    (hub.dest / "sites/a.conf").write_text("edited\n")
    (hub.dest / "new").write_text("theirs\n")
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/sites/a.conf": "b\n"})
    hub.write_config(drift="restore")
    hub.repo.commit({"nginx/new": "ours\n"})
    assert hub.sync().job["status"] == "refused"
    assert hub.tree() == {
        "nginx.conf": b"one\n",
        "sites/a.conf": b"edited\n",
        "new": b"theirs\n",
    }


def test_plan_shows_the_check_and_an_open_window(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(hub, on_change="true", health={"command": "true", "for": "30s"})
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert "hooks: on_change `true`, then health `true` for 30s" in hub.call("plan").out
    interrupted(hub, monkeypatch, 1)
    assert "hooks: health `true` for 30s (being checked)" in hub.call("plan").out


@pytest.mark.docs
def test_the_example_of_the_page_loads_and_has_the_defaults(hub: SyncEnv) -> None:
    page = (Path(__file__).parents[2] / "docs/health.md").read_text()
    [text] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    hub.write_config(**yaml.safe_load(text))
    shown = load_config(hub.config, {}).jobs["nginx"].health
    hub.write_config(health={"command": list(shown.command.argv) if shown else ""})
    assert load_config(hub.config, {}).jobs["nginx"].health == shown


# --- the configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ({"for": "2m"}, "command"),
        ({"command": "true", "for": "5s", "every": "10s"}, "'every' is longer than 'for' (5 s)"),
        ({"command": "true", "for": "5s", "timeout": "1m"}, "'timeout' is longer than 'for' (5 s)"),
        ({"command": "true", "failures": "0"}, "is not a whole number from 1 to 1000"),
        ({"command": {"check": ["json"]}}, "built-in checks are for validate only"),
        ({"command": "true && false"}, "mean something to a shell alone"),
        ({"command": "true", "interval": "5s"}, "unknown key 'interval'"),
    ],
)
def test_a_mistake_in_health_is_named_with_its_place(hub: SyncEnv, health: Any, said: str) -> None:
    hub.write_config(health=health)
    found = hub.call("check")
    assert found.code == 2 and said in (found.out + found.err).replace("means", "mean")
    assert "jobs.nginx.health" in found.out + found.err


def test_check_warns_of_a_health_command_that_is_not_there(hub: SyncEnv) -> None:
    hub.write_config(health={"command": "no-such-command"})
    found = hub.call("check")
    assert found.code == 0 and "jobs.nginx.health: warning: there is no command" in found.err


def test_a_commit_that_the_operator_applies_by_hand_does_not_end_a_rejection(hub: SyncEnv) -> None:
    good = begin(hub)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    assert hub.sync().job["status"] == "refused"
    older = hub.repo.commit({"nginx/nginx.conf": "older\n"}, branch="aside", parents=[good])
    assert hub.sync("nginx", "--ref", older).code == 0 and hub.tree()["nginx.conf"] == b"older\n"
    again = hub.sync()
    assert (again.job["status"], again.job["error"]["id"]) == ("refused", "hook/commit-rejected")
    assert hub.tree()["nginx.conf"] == b"older\n"
    assert hub.call("rollback", "nginx").code == 0 and hub.call("resume", "nginx").code == 0
    assert hub.sync().job["error"]["id"] == "hook/commit-rejected"
    assert log(hub, "checked").count("BAD") == 2


def test_what_is_put_back_after_a_change_of_the_configuration_is_named_so(hub: SyncEnv) -> None:
    good = begin(hub)
    hub.write_config(mode="0600", health={"command": ["false"], "for": "30s", "failures": 1})
    message = hub.sync().job["error"]["message"]
    assert message == (
        f"commit {good[:7]} is not healthy with the changed configuration of the job, and the "
        "files of the configuration before it were put back: `false` exited 1 (1 in a row)"
    )
    assert (hub.dest / "nginx.conf").stat().st_mode & 0o777 == 0o644
    assert hub.sync().job["error"]["message"] == message
