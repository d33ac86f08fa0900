"""The main job, told from outside: what a user's command leaves on disk, says, and costs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from sqlalchemy import Connection

from syncd.models import LedgerRow
from syncd.simulator.repository import File, Link
from syncd.store import ledger
from tests.support.sync_env import SyncEnv, signatures, sync_env


def test_the_first_sync_brings_every_listed_file_and_says_what_it_wrote(hub: SyncEnv) -> None:
    done = hub.sync()
    assert done.code == 0
    assert hub.tree() == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
    assert done.json["schema"] == "syncd.sync/1" and next(iter(done.json)) == "schema"
    assert (
        done.job["status"] == "changed"
        and done.job["commit"] == hub.repo.head()
        and done.job["previous"] is None
    )
    assert [
        (change["action"], Path(change["path"]).name, change["from"], change["before"])
        for change in done.job["changes"]
    ] == [
        ("write", "nginx.conf", "nginx/nginx.conf", None),
        ("write", "a.conf", "nginx/sites/a.conf", None),
    ]


def test_an_unchanged_repository_costs_a_token_and_one_304_and_touches_nothing(
    hub: SyncEnv,
) -> None:
    hub.sync()
    before = signatures(hub.dest)
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", [])
    assert done.json["requests"] == {"total": 2, "not_modified": 1}
    assert hub.github.routes() == {"token": 1, "head": 1}
    assert signatures(hub.dest) == before


def test_ten_jobs_on_one_repository_and_ref_share_one_head_request(hub: SyncEnv) -> None:
    for number in range(10):
        hub.jobs[f"job{number}"] = {
            **hub.jobs["nginx"],
            "paths": [{"from": "nginx/", "to": f"{hub.folder}/dest{number}/"}],
        }
    hub.write()
    assert hub.sync().code == 0
    done = hub.sync()
    assert hub.github.routes() == {"token": 1, "head": 1}
    assert hub.github.count("head", 304) == 1
    assert all(job["status"] == "unchanged" for job in done.json["jobs"])


def test_a_commit_elsewhere_costs_three_requests(hub: SyncEnv) -> None:
    hub.sync()
    hub.repo.commit({"elsewhere/file": "x"})
    done = hub.sync()
    assert done.job["status"] == "unchanged" and done.job["commit"] == hub.repo.head()
    assert done.json["requests"]["total"] == 3, hub.github.routes()


@pytest.mark.parametrize("listed", ["nginx/nginx.conf", "motd"])
def test_a_commit_elsewhere_costs_three_requests_for_a_single_file_too(
    hub: SyncEnv, listed: str
) -> None:
    hub.repo.commit({"motd": "hello\n"})
    hub.write_config(paths=[{"from": listed, "to": f"{hub.dest}/one"}])
    assert hub.sync().code == 0
    hub.repo.commit({"elsewhere/file": "x"})
    done = hub.sync()
    assert done.job["status"] == "unchanged"
    assert done.json["requests"]["total"] == 3, hub.github.routes()


@pytest.mark.root  # tests/contract/test_source.py counts the same requests at a push
def test_five_changed_of_five_thousand_cost_nine_requests_and_a_first_sync_twelve_at_most(
    tmp_path: Path,
) -> None:
    files = {f"nginx/g{number // 100:02d}/h{number:04d}": f"{number}\n" for number in range(5000)}
    with sync_env(tmp_path, files) as hub:
        first = hub.sync()
        assert first.code == 0 and len(first.job["changes"]) == 5000
        assert first.json["requests"]["total"] <= 12, hub.github.routes()
        hub.repo.commit(
            {f"nginx/g{number:02d}/h{number * 100:04d}": "changed\n" for number in range(5)}
        )
        done = hub.sync()
        assert len(done.job["changes"]) == 5
        assert done.json["requests"]["total"] <= 9, hub.github.routes()


def test_a_run_reads_its_ledger_once(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.sync()
    read: list[str] = []

    def counted(connection: Connection, job: str) -> dict[str, LedgerRow]:
        read.append(job)
        return of_job(connection, job)

    of_job = ledger.of_job
    monkeypatch.setattr(ledger, "of_job", counted)
    monkeypatch.setattr("syncd.cli.sync.write_snapshot", lambda *_: None)  # it reads on its own
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/new": "new\n"})
    done = hub.sync()
    assert len(done.job["changes"]) == 2
    assert read == ["nginx"]


def test_a_removed_file_goes_and_its_empty_folder_with_it_but_a_users_own_file_stays(
    hub: SyncEnv,
) -> None:
    hub.sync()
    (hub.dest / "mine").write_text("mine")
    hub.repo.commit({"nginx/sites/a.conf": None})
    done = hub.sync()
    assert [change["action"] for change in done.job["changes"]] == ["remove"]
    assert hub.tree() == {"nginx.conf": b"one\n", "mine": b"mine"}
    assert not (hub.dest / "sites").exists()


def test_a_local_edit_is_put_back_without_asking_for_the_bytes_again(hub: SyncEnv) -> None:
    hub.sync()
    (hub.dest / "nginx.conf").write_text("edited")
    done = hub.sync()
    assert [(change["action"], Path(change["path"]).name) for change in done.job["changes"]] == [
        ("restore", "nginx.conf")
    ]
    assert hub.tree()["nginx.conf"] == b"one\n"
    assert hub.github.routes() == {"token": 1, "head": 1}


def test_links_and_executables_are_as_git_has_them(hub: SyncEnv) -> None:
    hub.repo.commit(
        {
            "nginx/run": File(b"#!/bin/sh\n", executable=True),
            "nginx/current": Link("sites/a.conf"),
            "nginx/all": Link("sites"),
        }
    )
    assert hub.sync().code == 0
    assert hub.tree()["run"] == ("exec", b"#!/bin/sh\n")
    assert hub.tree()["current"] == ("link", "sites/a.conf")
    assert hub.tree()["all"] == ("link", "sites")
    hub.repo.commit({"nginx/run": b"#!/bin/sh\n"})
    done = hub.sync()
    assert [change["action"] for change in done.job["changes"]] == ["mode"]
    assert hub.tree()["run"] == b"#!/bin/sh\n"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "missing", ".."])
def test_a_link_that_leads_out_fails_the_job_before_anything_is_written(
    hub: SyncEnv, target: str
) -> None:
    hub.repo.commit({"nginx/out": Link(target), "nginx/new": "new"})
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"]) == (1, "failed", "mirror")
    assert "nginx/out" in done.job["error"]["message"]
    assert hub.tree() == {}


def test_plan_and_sync_name_the_same_changes(hub: SyncEnv) -> None:
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/new": "n", "nginx/sites/a.conf": None})
    (hub.dest / "new").write_text("in the way")
    planned, done = hub.plan(), hub.sync()
    assert planned.json["schema"] == "syncd.plan/1" and planned.job["status"] == "changed"
    assert planned.job["changes"] == done.job["changes"] and len(done.job["changes"]) == 3
    assert hub.call("plan", "--exit-code").code == 0
    hub.repo.commit({"nginx/new": "n2"})
    assert hub.call("plan", "--exit-code").code == 10


def test_many_removals_are_refused_and_named_with_the_way_to_agree(tmp_path: Path) -> None:
    with sync_env(tmp_path, {f"nginx/f{number:02d}": f"{number}" for number in range(40)}) as hub:
        hub.sync()
        (hub.dest / "own").write_text("a user's own")
        hub.repo.commit({f"nginx/f{number:02d}": None for number in range(28)})
        done = hub.sync()
        assert (done.code, done.job["status"], done.job["error"]["kind"]) == (6, "refused", "limit")
        assert (
            "28 of 40" in done.job["error"]["message"]
            and "--allow-delete 28" in done.job["error"]["hint"]
        )
        assert len(hub.tree()) == 41
        assert hub.sync("--allow-delete", "27").code == 6
        agreed = hub.sync("--allow-delete", "28")
        assert agreed.code == 0 and len(agreed.job["changes"]) == 28
        assert len(hub.tree()) == 13 and hub.tree()["own"] == b"a user's own"


def test_one_failing_job_never_stops_the_others(hub: SyncEnv) -> None:
    hub.jobs["broken"] = {
        **hub.jobs["nginx"],
        "ref": "nowhere",
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/other/"}],
    }
    hub.write()
    done = hub.sync()
    assert done.code == 3
    assert {job["job"]: job["status"] for job in done.json["jobs"]} == {
        "nginx": "changed",
        "broken": "failed",
    }
    assert (
        next(job for job in done.json["jobs"] if job["job"] == "broken")["error"]["kind"]
        == "not_found"
    )


def test_status_and_history_tell_what_happened(hub: SyncEnv) -> None:
    assert hub.call("status").code == 3
    hub.sync()
    status = hub.call("status", "--json")
    assert status.code == 0 and status.json["schema"] == "syncd.status/1"
    job = status.json["jobs"][0]
    assert (
        job["state"],
        job["commit"],
        job["files"],
        job["drifted"],
        job["reload_pending"],
        job["paused"],
        job["error"],
    ) == ("in_sync", hub.repo.head(), 2, 0, False, None, None)
    assert job["last_success"].endswith("Z") and status.json["identities"][0]["limit"] == 5000
    history = hub.call("history", "--json")
    assert [run["status"] for run in history.json["runs"]] == ["changed"]
    assert len(history.json["runs"][0]["changes"]) == 2


def test_a_lost_store_costs_time_and_no_file(hub: SyncEnv) -> None:
    hub.sync()
    before = signatures(hub.dest)
    for file in hub.state.glob("syncd.db*"):
        file.unlink()
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", [])
    assert signatures(hub.dest) == before
    hub.repo.commit({"nginx/sites/a.conf": None})
    assert hub.sync().code == 0
    assert set(hub.tree()) == {"nginx.conf"}


def test_the_ref_may_be_a_tag_a_commit_the_default_branch_or_given_once(hub: SyncEnv) -> None:
    first = hub.repo.head()
    hub.repo.tag("v1", first, annotated=True)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    for ref, content in (
        ("v1", b"one\n"),
        (None, b"two\n"),
        (first, b"one\n"),
        ("refs/heads/main", b"two\n"),
        ("refs/tags/v1", b"one\n"),
    ):
        hub.write_config(ref=ref)
        assert hub.sync().code == 0, ref
        assert hub.tree()["nginx.conf"] == content, ref
    hub.write_config(ref="main")
    hub.sync()
    assert hub.sync("nginx", "--ref", "v1").code == 0
    assert hub.tree()["nginx.conf"] == b"one\n"
    assert hub.sync().code == 0
    assert hub.tree()["nginx.conf"] == b"two\n"


def test_modes_given_apply_exactly(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/run": File(b"x", executable=True)})
    hub.write_config(mode="0640", dir_mode="0750")
    hub.sync()
    assert {oct((hub.dest / name).stat().st_mode & 0o7777) for name in ("run", "nginx.conf")} == {
        "0o640"
    }
    assert oct((hub.dest / "sites").stat().st_mode & 0o7777) == "0o750"
    os.chmod(hub.dest / "run", 0o666)
    done = hub.sync()
    assert [change["action"] for change in done.job["changes"]] == ["mode"]
    assert oct((hub.dest / "run").stat().st_mode & 0o7777) == "0o640"


def test_a_file_that_becomes_a_folder_and_back(hub: SyncEnv) -> None:
    hub.sync()
    hub.repo.commit({"nginx/sites/a.conf": None, "nginx/sites": "now a file\n"})
    assert hub.sync().code == 0
    assert hub.tree() == {"nginx.conf": b"one\n", "sites": b"now a file\n"}
    hub.repo.commit({"nginx/sites": None, "nginx/sites/b/c.conf": "deep\n"})
    assert hub.sync().code == 0
    assert hub.tree() == {"nginx.conf": b"one\n", "sites/b/c.conf": b"deep\n"}


@pytest.mark.parametrize(
    ("publish", "name"), [("files", "above"), ("files", "sites"), ("symlink", "above")]
)
def test_a_folder_that_another_makes_at_the_same_moment_is_no_failure(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, publish: str, name: str
) -> None:
    """Two jobs of one folder begin together; who comes second finds it there."""
    real, came = os.mkdir, list[str]()

    def mkdir(path: str, *arguments: int, **more: int) -> None:
        if Path(path).name == name and not came:
            came.append(path)
            real(path, *arguments, **more)
        real(path, *arguments, **more)

    to = hub.folder / "above" / "it"
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{to}/"}])
    monkeypatch.setattr(os, "mkdir", mkdir)
    done = hub.sync()
    assert came and done.code == 0, done.err
    assert (to / "sites/a.conf").read_text() == "a\n"


def test_a_file_that_comes_where_a_folder_is_being_made_is_named(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, to = os.mkdir, hub.folder / "above"

    def mkdir(path: str, *arguments: int, **more: int) -> None:
        if Path(path).name == "above":
            to.write_text("somebody's\n")
        real(path, *arguments, **more)

    hub.write_config(paths=[{"from": "nginx/", "to": f"{to}/"}])
    monkeypatch.setattr(os, "mkdir", mkdir)
    done = hub.sync()
    assert done.code == 1 and str(to) in done.job["error"]["message"]
    assert to.read_text() == "somebody's\n"


# --- what one run remembers for the next ----------------------------------------------------------


def test_an_installation_that_was_looked_up_is_remembered_for_the_next_run(hub: SyncEnv) -> None:
    del hub.identities["ops"]["installation_id"]
    hub.write()
    assert hub.sync().code == 0
    assert hub.github.count("installation") == 1
    hub.github.forget_requests()
    assert hub.sync().code == 0
    assert hub.github.routes() == {"token": 1, "head": 1}


def test_an_app_that_was_installed_anew_is_looked_up_again(hub: SyncEnv) -> None:
    del hub.identities["ops"]["installation_id"]
    hub.write()
    assert hub.sync().code == 0
    hub.github.accounts.installations.clear()
    hub.github.accounts.install(12345, "acme", 43)
    hub.github.forget_requests()
    assert hub.sync().code == 0
    assert hub.github.count("installation") == 1
    hub.github.forget_requests()
    assert hub.sync().code == 0
    assert hub.github.routes() == {"token": 1, "head": 1}


def test_a_look_remembers_no_installation(hub: SyncEnv) -> None:
    del hub.identities["ops"]["installation_id"]
    hub.write()
    assert hub.plan().code in (0, 10)
    hub.github.forget_requests()
    assert hub.sync().code == 0
    assert hub.github.count("installation") == 1


# --- the lines of a job ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("pause", "nginx", "--reason", "change freeze"), "paused: change freeze"),
        (("rollback", "nginx"), "held after a rollback"),
    ],
)
def test_sync_says_why_a_job_is_skipped_and_how_to_resume_it(
    hub: SyncEnv, command: tuple[str, ...], reason: str
) -> None:
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    assert hub.call(*command).code == 0
    done = hub.sync()
    assert (done.code, done.job["status"]) == (0, "skipped")
    assert done.job["notes"] == [f"{reason}; syncd resume nginx"]
    assert hub.github.requests == []
    first, last = hub.call("sync").out.splitlines()
    assert re.fullmatch(
        rf"‖ nginx  [0-9a-f]{{7}} +skipped, {reason}; syncd resume nginx  \d\.\d s", first
    )
    assert last == "0 in sync, 1 skipped.  0 requests (0 answered 304)."


@pytest.mark.parametrize("hook", ["validate", "on_change"])
def test_each_line_of_a_hooks_output_is_a_line_of_its_own(hub: SyncEnv, hook: str) -> None:
    hub.write_config(**{hook: {"shell": "echo first; printf last >&2; exit 3"}})
    lines = hub.call("sync").out.splitlines()
    assert re.fullmatch(r"✕ nginx  .*exited 3  \d\.\d s", lines[0])
    assert lines[1:3] == ["    | first", "    | last"]
    assert lines[3].startswith("    → ")
