"""`syncd plan` always shows the plan: past a limit, on hold, of a rejected commit,
and beside a job that fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv, sync_env

MANY = 60
OLD = [f"nginx/archive/{number:02d}" for number in range(MANY)]
TMP = [f"nginx/tmp/deep/{number}" for number in range(3)]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    files = {name: f"{name}\n" for name in [*OLD, *TMP, "nginx/keep", "nginx/gone"]}
    with sync_env(tmp_path, files, as_app=False) as made:
        assert made.sync().code == 0
        yield made


def drop(hub: SyncEnv, *names: str) -> str:
    return hub.repo.commit(dict.fromkeys(names), message="Drop old files\n\nMore text")


def test_a_plan_past_the_delete_limit_counts_the_removals_by_folder(hub: SyncEnv) -> None:
    commit = drop(hub, *OLD, *TMP, "nginx/gone")
    done = hub.call("plan")
    assert done.code == 6
    dest, lines = str(hub.dest), done.out.splitlines()
    before = hub.repo.commits[commit].parents[0]
    assert lines[0] == (
        f"✕ nginx  acme/infra@main  {before[:7]} → {commit[:7]}  Ada: Drop old files"
    )
    assert lines[1:-1] == [
        (
            "    64 of 65 files would be removed, more than limits.delete: 50% allows; nothing was "
            "changed"
        ),
        "    → look at: syncd plan nginx; if that is right: syncd sync nginx --allow-delete 64",
        f"  - {dest}/  1 file",
        f"  - {dest}/archive/  60 files",
        f"  - {dest}/tmp/  3 files",
    ]
    assert lines[-1].startswith("Plan: 64 to remove. ")
    assert [
        line for line in hub.call("-v", "plan").out.splitlines() if line.startswith("  - ")
    ] == [
        f"  - {hub.dest}/{name.removeprefix('nginx/')}  dropped upstream"
        for name in sorted([*OLD, *TMP, "nginx/gone"])
    ]


def test_a_plan_past_the_delete_limit_lists_every_removal_as_json(hub: SyncEnv) -> None:
    drop(hub, *OLD, *TMP)
    done = hub.plan()
    assert (done.code, done.job["status"], done.job["error"]["id"]) == (
        6,
        "refused",
        "limit/too-many-removals",
    )
    assert [(one["action"], one["from"]) for one in done.job["changes"]] == [
        ("remove", name) for name in [*OLD, *TMP]
    ]
    assert done.job["commit_summary"]["subject"] == "Drop old files"


def test_plan_with_allow_delete_judges_as_sync_does_and_changes_nothing(hub: SyncEnv) -> None:
    drop(hub, *OLD)
    before = hub.tree()
    assert hub.plan("--allow-delete", "59").code == 6
    allowed = hub.plan("--allow-delete", "60")
    assert (allowed.code, allowed.job["status"], allowed.job["error"]) == (0, "changed", None)
    assert hub.tree() == before
    assert hub.sync().code == 6


@pytest.mark.parametrize(
    ("limits", "error_id"),
    [({"files": 5}, "limit/too-many-files"), ({"size": "10B"}, "limit/too-many-bytes")],
)
def test_a_plan_past_the_other_limits_is_shown(
    hub: SyncEnv, limits: dict[str, object], error_id: str
) -> None:
    hub.write_config(limits=limits)
    hub.repo.commit({"nginx/new": "new\n"})
    done = hub.plan()
    assert (done.code, done.job["status"], done.job["error"]["id"]) == (6, "refused", error_id)
    assert [(one["action"], one["from"]) for one in done.job["changes"]] == [("write", "nginx/new")]


def test_an_empty_commit_shows_what_it_would_remove(hub: SyncEnv) -> None:
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/", "include": ["nothing"]}])
    done = hub.plan()
    assert (done.job["error"]["id"], len(done.job["changes"])) == ("limit/empty-set", 65)


def test_a_job_on_hold_shows_its_plan_and_the_command_that_resumes_it(hub: SyncEnv) -> None:
    assert hub.call("pause", "nginx", "--reason", "change freeze").code == 0
    hub.repo.commit({"nginx/new": "new\n"})
    done = hub.call("plan")
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[1:3] == [
        "    paused: change freeze; syncd resume nginx",
        f"  + {hub.dest}/new  4 B  0644",
    ]
    assert lines[-1].startswith("Plan: nothing to do. ")
    as_object = hub.plan("--exit-code")
    assert (as_object.code, as_object.job["status"], len(as_object.job["changes"])) == (
        0,
        "skipped",
        1,
    )
    assert hub.sync().job["changes"] == []


def test_a_failing_job_hides_no_other_plan(hub: SyncEnv) -> None:
    hub.jobs["lost"] = hub.jobs["nginx"] | {
        "repo": "acme/lost",
        "paths": [{"from": "a/", "to": f"{hub.folder}/lost/"}],
    }
    hub.write()
    hub.repo.commit({"nginx/new": "new\n"})
    done = hub.call("plan")
    assert done.code == 3
    assert f"  + {hub.dest}/new  4 B  0644" in done.out.splitlines()
    assert "✕ lost   acme/lost@main" in done.out


def test_the_author_costs_one_request_of_a_commit_that_is_not_applied(hub: SyncEnv) -> None:
    hub.jobs["second"] = hub.jobs["nginx"] | {
        "paths": [{"from": "nginx/keep", "to": f"{hub.folder}/second"}]
    }
    hub.write()
    assert hub.sync().code == 0
    hub.github.forget_requests()
    assert "commit_summary" not in hub.plan().job
    assert asked(hub) == 0
    commit = hub.repo.commit({"nginx/keep": "two\n"}, message="Change\x1b[31m two")
    hub.github.forget_requests()
    assert [one["commit_summary"]["subject"] for one in hub.plan().json["jobs"]] == [
        "Change [31m two"
    ] * 2
    assert asked(hub) == 1 and commit


def asked(hub: SyncEnv) -> int:
    return sum("/git/commits/" in one.path for one in hub.github.requests)
