"""A destination is a file on disk: its spelling, its job and the job's name may change,
and the file stays where it is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.store.store import SqliteStore
from tests.support.sync_env import SyncEnv, signatures, sync_env, tree_of

SET = {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[SyncEnv]:
    """`D/var` is a link to `D/run`, and the job writes `D/var/x/`."""
    with sync_env(tmp_path) as hub:
        (tmp_path / "D/run").mkdir(parents=True)
        (tmp_path / "D/var").symlink_to("run")
        write_to(hub, "D/var/x/")
        assert hub.sync().code == 0
        yield hub


def write_to(hub: SyncEnv, to: str, **job: Any) -> None:
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/{to}"}], **job)


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Path -> (inode, mtime) of every file below."""
    found = {path: path.lstat() for path in folder.rglob("*") if not path.is_dir()}
    return {str(path): (one.st_ino, one.st_mtime_ns) for path, one in found.items()}


def on_change(hub: SyncEnv, name: str = "reload") -> list[str]:
    """A command that appends to `NAME.log`, and lists there what it finds missing."""
    file = hub.folder / f"{name}.sh"
    file.write_text(f"#!/bin/sh\necho ran >> {hub.folder}/{name}.log\n")
    file.chmod(0o755)
    return [str(file)]


def runs_of(hub: SyncEnv, name: str = "reload") -> int:
    file = hub.folder / f"{name}.log"
    return len(file.read_text().splitlines()) if file.exists() else 0


# --- one file under two spellings -----------------------------------------------------------------


@pytest.mark.parametrize("drift", ["restore", "report", "keep"])
@pytest.mark.parametrize("link_stays", [True, False], ids=["link stays", "link gone"])
def test_another_spelling_of_a_destination_touches_no_file(
    linked: SyncEnv, drift: str, link_stays: bool
) -> None:
    before = files_of(linked.folder / "D/run")
    if not link_stays:
        (linked.folder / "D/var").unlink()
    write_to(linked, "D/run/x/", drift=drift, on_change=on_change(linked))
    planned, done = linked.plan().job, linked.sync()
    assert (planned["status"], planned["changes"]) == ("unchanged", [])
    assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", [])
    assert files_of(linked.folder / "D/run") == before and runs_of(linked) == 0
    assert tree_of(linked.folder / "D/run/x") == SET
    assert linked.call("status", "--json").json["jobs"][0]["files"] == 2


def test_a_destination_may_be_spelled_through_a_link_that_came_later(hub: SyncEnv) -> None:
    write_to(hub, "D/run/x/")
    assert hub.sync().code == 0
    (hub.folder / "D/var").symlink_to("run")
    before = files_of(hub.folder / "D/run")
    write_to(hub, "D/var/x/")
    assert hub.sync().job["changes"] == [] and files_of(hub.folder / "D/run") == before
    write_to(hub, "D/run/x/")
    assert hub.sync().job["changes"] == [] and files_of(hub.folder / "D/run") == before


def test_upstream_changes_reach_a_respelled_destination_under_every_policy(linked: SyncEnv) -> None:
    for number, drift in enumerate(("restore", "report", "keep")):
        spelling = ("D/run/x/", "D/var/x/")[number % 2]
        write_to(linked, spelling, drift=drift)
        linked.repo.commit({"nginx/nginx.conf": f"{drift}\n", "nginx/sites/a.conf": f"{number}"})
        done = linked.sync().job
        changed = {change["path"]: change["action"] for change in done["changes"]}
        folder = f"{linked.folder}/{spelling}"
        assert changed == {f"{folder}nginx.conf": "write", f"{folder}sites/a.conf": "write"}
        assert (linked.folder / "D/run/x/nginx.conf").read_text() == f"{drift}\n"


def test_a_file_dropped_while_its_destination_is_respelled_is_removed_with_its_folder(
    linked: SyncEnv,
) -> None:
    linked.repo.commit({"nginx/sites/a.conf": None})
    write_to(linked, "D/run/x/")
    changes = linked.sync().job["changes"]
    assert [change["action"] for change in changes] == ["remove"]
    assert tree_of(linked.folder / "D/run/x") == {"nginx.conf": b"one\n"}
    assert not (linked.folder / "D/run/x/sites").exists()


def test_a_folder_made_under_one_spelling_is_removed_when_it_is_empty_under_another(
    linked: SyncEnv,
) -> None:
    write_to(linked, "D/run/x/")
    assert linked.sync().code == 0
    linked.repo.commit({"nginx/sites/a.conf": None})
    assert linked.sync().code == 0
    assert not (linked.folder / "D/run/x/sites").exists()


def test_a_destination_folder_that_was_moved_and_linked_keeps_its_files(hub: SyncEnv) -> None:
    write_to(hub, "D/old/")
    assert hub.sync().code == 0
    (hub.folder / "D/old").rename(hub.folder / "D/new")
    (hub.folder / "D/old").symlink_to("new")
    before = files_of(hub.folder / "D/new")
    write_to(hub, "D/new/")
    done = hub.sync()
    assert (done.code, done.job["changes"]) == (0, []) and files_of(hub.folder / "D/new") == before


def test_files_behind_a_link_that_leads_elsewhere_now_are_left_where_they_are(
    linked: SyncEnv,
) -> None:
    """The operator changed the link: what was written through it is not the job's to remove."""
    (linked.folder / "D/other").mkdir()
    (linked.folder / "D/var").unlink()
    (linked.folder / "D/var").symlink_to("other")
    assert linked.sync().code == 0
    assert tree_of(linked.folder / "D/other/x") == SET == tree_of(linked.folder / "D/run/x")
    write_to(linked, "D/other/x/")
    assert linked.sync().job["changes"] == []


def test_a_file_removed_by_hand_stays_removed_under_another_spelling(linked: SyncEnv) -> None:
    """`drift: keep` goes on for the file, although nothing on disk shows that it is the same."""
    (linked.folder / "D/run/x/nginx.conf").unlink()
    (linked.folder / "D/var").unlink()
    write_to(linked, "D/run/x/", drift="keep")
    assert [change["action"] for change in linked.sync().job["changes"]] == ["keep"]
    assert tree_of(linked.folder / "D/run/x") == {"sites/a.conf": b"a\n"}


def test_a_respelled_file_that_could_not_be_written_is_still_the_jobs(linked: SyncEnv) -> None:
    linked.repo.commit({"nginx/nginx.conf": "two\n"})
    place = linked.folder / "D/run/x/nginx.conf"
    place.unlink()
    (place / "of another").mkdir(parents=True)
    write_to(linked, "D/run/x/")
    assert linked.sync().code == 1
    shutil.rmtree(place)
    write_to(linked, "D/run/x/", drift="keep")
    assert [change["action"] for change in linked.sync().job["changes"]] == ["keep"]


def test_what_an_interrupted_run_wrote_is_known_by_its_real_path(
    linked: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked.repo.commit({"nginx/nginx.conf": "two\n"})
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "record", lambda *_: 1 / 0)  # after the files, before the ledger
        assert linked.sync().code == 70
    linked.write_config(ref="gone")
    assert linked.sync().job["error"]["kind"] == "not_found"
    (linked.folder / "D/var").unlink()
    explained = linked.call("explain", f"{linked.folder}/D/run/x/nginx.conf")
    assert explained.code == 0 and "by the job nginx" in explained.out


def test_a_respelled_file_is_still_the_jobs_after_an_undo(linked: SyncEnv) -> None:
    place = linked.folder / "D/run/x/nginx.conf"
    check = {"shell": f"! grep -q BAD {place}"}
    linked.repo.commit({"nginx/nginx.conf": "BAD\n"})
    write_to(linked, "D/run/x/", on_change=check, undo_on_failure=True)
    assert linked.sync().code == 1 and place.read_text() == "one\n"
    linked.repo.commit({"nginx/nginx.conf": None})
    assert [change["action"] for change in linked.sync().job["changes"]] == ["remove"]
    assert tree_of(linked.folder / "D/run/x") == {"sites/a.conf": b"a\n"}


def test_a_destination_that_moved_with_its_link_is_known_by_its_new_place(linked: SyncEnv) -> None:
    (linked.folder / "D/run").rename(linked.folder / "D/new")
    (linked.folder / "D/var").unlink()
    (linked.folder / "D/var").symlink_to("new")
    before = files_of(linked.folder / "D/new")
    assert linked.sync().job["changes"] == [] and files_of(linked.folder / "D/new") == before
    (linked.folder / "D/var").unlink()
    explained = linked.call("explain", f"{linked.folder}/D/new/x/nginx.conf")
    assert explained.code == 0 and "by the job nginx" in explained.out


def test_a_copy_behind_a_link_that_leads_elsewhere_is_not_removed(linked: SyncEnv) -> None:
    shutil.copytree(linked.folder / "D/run", linked.folder / "D/copy")
    (linked.folder / "D/var").unlink()
    (linked.folder / "D/var").symlink_to("copy")
    linked.repo.commit({"nginx/sites/a.conf": None})
    done = linked.sync()
    assert (done.code, done.job["changes"]) == (0, [])
    assert tree_of(linked.folder / "D/copy/x") == SET == tree_of(linked.folder / "D/run/x")


def test_a_file_dropped_while_its_folder_moves_with_its_link_is_removed(linked: SyncEnv) -> None:
    (linked.folder / "D/run").rename(linked.folder / "D/new")
    (linked.folder / "D/var").unlink()
    (linked.folder / "D/var").symlink_to("new")
    linked.repo.commit({"nginx/sites/a.conf": None})
    assert [change["action"] for change in linked.sync().job["changes"]] == ["remove"]
    assert tree_of(linked.folder / "D/new/x") == {"nginx.conf": b"one\n"}


def test_a_symlink_published_destination_may_be_respelled(hub: SyncEnv) -> None:
    (hub.folder / "D/run").mkdir(parents=True)
    (hub.folder / "D/var").symlink_to("run")
    write_to(hub, "D/var/app/current/", publish="symlink")
    assert hub.sync().code == 0
    before = files_of(hub.folder / "D/run")
    write_to(hub, "D/run/app/current/", publish="symlink")
    done = hub.sync()
    assert (done.code, done.job["changes"]) == (0, []) and files_of(hub.folder / "D/run") == before
    hub.repo.commit({"nginx/sites/a.conf": None})
    assert [change["action"] for change in hub.sync().job["changes"]] == ["remove"]
    assert tree_of(hub.folder / "D/run/app/current") == {"nginx.conf": b"one\n"}


def test_a_hard_link_beside_a_kept_file_is_removed_and_the_kept_file_stays(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/twin.conf": "one\n"})
    assert hub.sync().code == 0
    (hub.dest / "twin.conf").unlink()
    os.link(hub.dest / "nginx.conf", hub.dest / "twin.conf")
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/twin.conf": None})
    assert hub.sync().code == 0 and tree_of(hub.dest) == SET


def test_one_job_that_lists_a_file_under_two_spellings_is_refused(linked: SyncEnv) -> None:
    folders = ("D/var/x/", "D/run/x/")
    linked.write_config(
        paths=[{"from": "nginx/", "to": f"{linked.folder}/{folder}"} for folder in folders]
    )
    checked = linked.call("check")
    assert checked.code == 2
    assert "is written by jobs.nginx.paths[0] too (as " in checked.err
    assert tree_of(linked.folder / "D/run/x") == SET


def test_a_job_whose_two_paths_become_one_file_by_a_link_made_later_is_refused(
    linked: SyncEnv,
) -> None:
    folders = ("D/run/x/", "D/run/new/x/")
    paths = [{"from": "nginx/", "to": f"{linked.folder}/{folder}"} for folder in folders]
    linked.write_config(paths=paths)
    assert linked.sync().code == 0
    shutil.rmtree(linked.folder / "D/run/new")
    (linked.folder / "D/run/new").symlink_to(".")
    error = linked.sync().job["error"]
    assert error["kind"] == "mirror" and "are one file" in error["message"]
    assert tree_of(linked.folder / "D/run/x") == SET


@pytest.mark.parametrize("publish", [True, False], ids=["in a published folder", "one file"])
def test_check_finds_two_jobs_of_one_place_through_a_link(linked: SyncEnv, publish: bool) -> None:
    to = ("D/run/app/current/", "D/var/app/other/") if publish else ("D/run/one", "D/var/one")
    source = "nginx/" if publish else "nginx/nginx.conf"
    linked.write_config(paths=[{"from": source, "to": f"{linked.folder}/{to[0]}"}])
    if publish:
        linked.write_config(publish="symlink")
    linked.jobs["other"] = {
        "repo": "acme/infra",
        "every": "5m",
        "paths": [{"from": source, "to": f"{linked.folder}/{to[1]}"}],
    }
    linked.write()
    checked = linked.call("check")
    expected = "the own folder of jobs.nginx" if publish else "is written by jobs.nginx.paths[0]"
    assert checked.code == 2 and expected in checked.err


def test_explain_and_history_know_a_file_by_every_spelling(linked: SyncEnv) -> None:
    for spelling in ("D/var/x/nginx.conf", "D/run/x/nginx.conf"):
        path = f"{linked.folder}/{spelling}"
        explained = linked.call("explain", path)
        assert explained.code == 0 and "nginx/nginx.conf of acme/infra" in explained.out
        assert "write" in explained.out
        runs = linked.call("history", "--path", path, "--json").json["runs"]
        assert [len(run["changes"]) for run in runs] == [1]
    assert linked.call("explain", f"{linked.folder}/D/run/x/sites").code == 0


def test_verify_reads_a_respelled_destination_before_and_after_the_next_sync(
    linked: SyncEnv,
) -> None:
    write_to(linked, "D/run/x/")
    assert linked.call("verify").code == 0
    assert linked.sync().code == 0 and linked.call("verify").code == 0
    (linked.folder / "D/run/x/nginx.conf").write_text("rotten")
    assert linked.call("verify").code == 3


# --- from one living job to another ---------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Iterator[SyncEnv]:
    """Jobs `a` and `b` of one repository, each with a folder of its own and a command of its
    own.
    """
    files = {"a/one": "1\n", "a/two": "2\n", "b/three": "3\n"}
    with sync_env(tmp_path, files) as hub:
        hub.jobs.clear()
        for name in ("a", "b"):
            hub.jobs[name] = {
                "repo": "acme/infra",
                "ref": "main",
                "every": "5m",
                "on_change": on_change(hub, name),
            }
        list_paths(hub, a=[("a/", "A/")], b=[("b/", "B/")])
        assert hub.sync().code == 0
        yield hub


def list_paths(hub: SyncEnv, **jobs: list[tuple[str, str]]) -> None:
    for name, pairs in jobs.items():
        hub.jobs[name]["paths"] = [{"from": one, "to": f"{hub.dest}/{to}"} for one, to in pairs]
    hub.write()


def job_of(hub: SyncEnv, name: str, *arguments: str) -> dict[str, Any]:
    return next(iter(hub.sync(name, *arguments).json["jobs"]))


# the first at a push, the other in the root lane
ORDERS = [("a", "b"), pytest.param(("b", "a"), marks=pytest.mark.root)]


@pytest.mark.parametrize("order", ORDERS)
def test_a_path_that_moves_to_another_job_is_handed_over_untouched(
    two: SyncEnv, order: tuple[str, str]
) -> None:
    before = signatures(two.dest)
    list_paths(
        two,
        a=[("a/two", "A/two")],
        b=[("b/", "B/"), ("a/one", "A/one")],
    )
    notes = []
    for name in order:
        planned = two.plan(name).job
        assert (planned["status"], planned["changes"]) == ("unchanged", [])
        result = two.call("sync", name)
        notes.append(result.out)
        assert result.code == 0 and signatures(two.dest) == before, name
    assert runs_of(two, "a") == runs_of(two, "b") == 1
    said = "A/one now belongs to the job b" if order[0] == "a" else "took over 1 file of a"
    assert said in notes[0]
    two.repo.commit({"a/one": "new\n"})
    assert two.sync("a").job["changes"] == []
    assert [change["action"] for change in job_of(two, "b")["changes"]] == ["write"]
    two.repo.commit({"a/one": None, "b/four": "4\n"})
    list_paths(two, b=[("b/", "B/")])
    assert two.sync().code == 0
    assert tree_of(two.dest) == {"A/two": b"2\n", "B/three": b"3\n", "B/four": b"4\n"}


@pytest.mark.parametrize("order", [*ORDERS, ("a", "b", "together")])
def test_two_jobs_that_swap_their_destinations_end_with_each_others_files(
    two: SyncEnv, order: tuple[str, ...]
) -> None:
    two.repo.commit({"b/one": "from b\n"})
    assert two.sync().code == 0
    list_paths(two, a=[("a/", "B/")], b=[("b/", "A/")])
    if "together" in order:
        assert two.sync().code == 0
    else:
        assert [two.sync(name).code for name in order] == [0, 0]
    expected = {"B/one": b"1\n", "B/two": b"2\n", "A/three": b"3\n", "A/one": b"from b\n"}
    assert two.sync().code == 0 and tree_of(two.dest) == expected
    assert [job["changes"] for job in two.sync().json["jobs"]] == [[], []]


def test_a_swap_that_is_taken_back_after_one_job_ran_removes_nothing(two: SyncEnv) -> None:
    two.repo.commit({"b/one": "1\n", "b/two": "2\n", "b/three": None})
    assert two.sync().code == 0
    before = signatures(two.dest)
    list_paths(two, a=[("a/", "B/")], b=[("b/", "A/")])
    assert two.sync("a").job["changes"] == []
    list_paths(two, a=[("a/", "A/")], b=[("b/", "B/")])
    assert [two.sync(name).job["changes"] for name in ("a", "b", "a")] == [[], [], []]
    assert signatures(two.dest) == before


@pytest.mark.parametrize("order", ORDERS)
def test_a_file_that_moves_upstream_between_two_jobs_of_one_folder_is_handed_over(
    two: SyncEnv, order: tuple[str, str]
) -> None:
    list_paths(two, a=[("a/", "C/")], b=[("b/", "C/")])
    assert two.sync().code == 0
    stat = (two.dest / "C/one").stat()
    two.repo.commit({"a/one": None, "b/one": "1\n"})
    for name in order:
        assert two.sync(name).code == 0
        assert (two.dest / "C/one").stat().st_ino == stat.st_ino
    assert two.sync().code == 0
    two.repo.commit({"b/one": None})
    assert two.sync().code == 0 and not (two.dest / "C/one").exists()


def test_a_file_that_another_job_could_list_and_does_not_is_removed(two: SyncEnv) -> None:
    list_paths(two, a=[("a/", "C/")], b=[("b/", "C/")])
    assert two.sync().code == 0
    two.repo.commit({"a/one": None})
    assert [change["action"] for change in job_of(two, "a")["changes"]] == ["remove"]
    assert not (two.dest / "C/one").exists()


def test_a_file_that_another_job_may_list_stays_while_that_job_cannot_be_asked(
    two: SyncEnv,
) -> None:
    list_paths(two, a=[("a/", "C/")], b=[("b/", "C/")])
    assert two.sync().code == 0
    two.jobs["b"]["ref"] = "gone"
    two.write()
    two.repo.commit({"a/one": None})
    result = two.call("sync", "a")
    assert result.code == 0 and (two.dest / "C/one").exists()
    assert "C/one stays: the job b may list it and could not be asked" in result.out
    two.jobs["b"]["ref"] = "main"
    two.write()
    assert [change["action"] for change in job_of(two, "a")["changes"]] == ["remove"]


@pytest.mark.parametrize("order", ORDERS)
def test_the_folder_of_a_file_handed_over_is_removed_with_it(
    two: SyncEnv, order: tuple[str, str]
) -> None:
    list_paths(two, a=[("a/one", "D/one"), ("a/two", "E/two")])
    assert two.sync().code == 0
    list_paths(two, a=[("a/two", "E/two")], b=[("b/", "B/"), ("a/one", "D/one")])
    assert [two.sync(name).code for name in order] == [0, 0]
    (two.dest / "D").chmod(0o700)
    assert two.sync().code == 0
    assert (two.dest / "D").stat().st_mode & 0o777 == 0o755, "its new job looks after its mode"
    list_paths(two, b=[("b/", "B/")])
    assert two.sync().code == 0 and not (two.dest / "D").exists()


@pytest.mark.parametrize("order", ORDERS)
def test_a_folder_that_two_jobs_used_is_removed_by_the_last_one(
    two: SyncEnv, order: tuple[str, str]
) -> None:
    two.jobs["a"]["dir_mode"] = "0700"
    list_paths(two, a=[("a/one", "D/one"), ("a/two", "D/two"), ("b/three", "F/three")])
    assert two.sync().code == 0
    list_paths(
        two,
        a=[("a/two", "D/two"), ("b/three", "F/three")],
        b=[("b/", "B/"), ("a/one", "D/one")],
    )
    assert [two.sync(name).code for name in order] == [0, 0]
    assert (two.dest / "D").stat().st_mode & 0o777 == 0o700, "it is still the first job's"
    list_paths(two, a=[("b/three", "F/three")])
    assert two.sync().code == 0 and tree_of(two.dest / "D") == {"one": b"1\n"}
    list_paths(two, b=[("b/", "B/")])
    assert two.sync().code == 0 and not (two.dest / "D").exists()


def test_two_jobs_that_want_one_file_fail_by_name_and_its_owner_goes_on(two: SyncEnv) -> None:
    list_paths(two, a=[("a/", "C/")], b=[("b/", "C/")])
    assert two.sync().code == 0
    two.repo.commit({"b/one": "mine\n", "a/one": "still a's\n"})
    done = two.sync()
    by_name = {job["job"]: job for job in done.json["jobs"]}
    assert by_name["b"]["error"]["kind"] == "mirror"
    assert "wanted by the jobs b and a" in by_name["b"]["error"]["message"]
    assert by_name["a"]["error"] is None
    assert (two.dest / "C/one").read_text() == "still a's\n"


@pytest.mark.parametrize("order", ORDERS)
def test_a_path_handed_over_through_another_spelling_is_the_same_file(
    two: SyncEnv, order: tuple[str, str]
) -> None:
    (two.dest / "link").symlink_to("A")
    before = files_of(two.dest)
    list_paths(two, a=[("a/two", "A/two")], b=[("b/", "B/"), ("a/one", "link/one")])
    for name in order:
        assert two.sync(name).code == 0 and files_of(two.dest) == before
    assert runs_of(two, "a") == runs_of(two, "b") == 1


def test_the_report_names_the_job_whose_files_were_taken_over(two: SyncEnv) -> None:
    list_paths(two, a=[("a/two", "A/two")], b=[("b/", "B/"), ("a/one", "A/one")])
    assert job_of(two, "b")["took_over_from"] == ["a"]
    assert "took_over_from" not in job_of(two, "b") and "took_over_from" not in job_of(two, "a")


# --- a job under a new name -----------------------------------------------------------------------


def rename(hub: SyncEnv, old: str, *new: str, **changes: Any) -> None:
    """The configuration has `old` under the first new name, and a copy under each further one."""
    job = hub.jobs.pop(old)
    for name in new:
        hub.jobs[name] = {**json.loads(json.dumps(job)), **changes}
    hub.write()


def state_of(hub: SyncEnv, name: str) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = hub.call("status", "--json").json["jobs"]
    return next(job for job in jobs if job["job"] == name)


def test_a_renamed_job_touches_no_file_and_the_report_names_the_former_one(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    before = signatures(hub.dest)
    rename(hub, "nginx", "web")
    assert hub.plan().job["changes"] == [] and hub.plan().job["took_over_from"] == ["nginx"]
    done = hub.sync()
    assert (done.code, done.job["changes"], done.job["took_over_from"]) == (0, [], ["nginx"])
    assert done.json["requests"] == {"total": 2, "not_modified": 1}, "nothing is listed anew"
    assert signatures(hub.dest) == before and "took_over_from" not in hub.sync().job
    assert len(hub.call("history", "web", "--json").json["runs"]) == 1


def test_a_renamed_job_owes_the_reload_that_failed_under_its_former_name(hub: SyncEnv) -> None:
    hub.write_config(on_change="false")
    assert hub.sync().code == 1
    rename(hub, "nginx", "web", on_change=on_change(hub))
    assert state_of(hub, "web")["reload_pending"] is True
    assert hub.sync().code == 0 and runs_of(hub) == 1
    assert state_of(hub, "web")["reload_pending"] is False


@pytest.mark.parametrize("pause_as", ["nginx", "web"])
def test_a_renamed_job_stays_paused(hub: SyncEnv, pause_as: str) -> None:
    assert hub.sync().code == 0
    if pause_as == "nginx":
        assert hub.call("pause", "nginx", "--reason", "maintenance").code == 0
    rename(hub, "nginx", "web")
    if pause_as == "web":
        assert hub.call("pause", "web", "--reason", "maintenance").code == 0
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert state_of(hub, "web")["state"] == "paused"
    assert hub.sync().job["status"] == "skipped" and hub.tree() == SET
    assert hub.call("resume", "web").code == 0
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"two\n"


def test_a_renamed_job_stays_held_and_can_go_back_to_its_former_sets(hub: SyncEnv) -> None:
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "three\n"})
    hub.sync()
    assert hub.call("rollback", "nginx").code == 0 and hub.tree()["nginx.conf"] == b"two\n"
    rename(hub, "nginx", "web")
    assert hub.sync().job["status"] == "skipped" and hub.tree()["nginx.conf"] == b"two\n"
    assert hub.call("rollback", "web").code == 0 and hub.tree() == SET


def test_a_renamed_job_does_not_try_a_rejected_commit_again(hub: SyncEnv) -> None:
    tries = hub.folder / "tries"
    check = f'echo x >> {tries}; ! grep -q BAD "$SYNCD_STAGED{hub.dest}/nginx.conf"'
    hub.write_config(validate={"shell": check})
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    assert hub.sync().code == 1
    before = tries.read_text()
    rename(hub, "nginx", "web")
    assert hub.sync().job["status"] == "refused" and tries.read_text() == before


def test_a_job_that_two_new_ones_could_be_gives_each_its_files_and_a_pending_reload(
    tmp_path: Path,
) -> None:
    with sync_env(tmp_path, {"a/one": "1\n", "b/two": "2\n"}) as hub:
        paths = [{"from": f"{name}/", "to": f"{hub.dest}/{name}/"} for name in ("a", "b")]
        hub.write_config(paths=paths, on_change="false")
        assert hub.sync().code == 1
        assert hub.call("pause", "nginx").code == 0
        before = signatures(hub.dest)
        job = hub.jobs.pop("nginx")
        for number, name in enumerate(("a", "b")):
            hub.jobs[name] = {**job, "paths": [paths[number]], "on_change": on_change(hub, name)}
        hub.write()
        done = hub.sync()
        assert done.code == 0 and signatures(hub.dest) == before
        assert [one["took_over_from"] for one in done.json["jobs"]] == [["nginx"], ["nginx"]]
        assert runs_of(hub, "a") == runs_of(hub, "b") == 1


def test_a_renamed_job_that_lists_fewer_paths_inherits_files_but_no_pause(hub: SyncEnv) -> None:
    assert hub.sync().code == 0 and hub.call("pause", "nginx").code == 0
    rename(hub, "nginx", "web")
    hub.jobs["web"]["paths"] = [{"from": "nginx/nginx.conf", "to": f"{hub.dest}/nginx.conf"}]
    hub.write()
    done = hub.sync()
    assert (done.code, done.job["took_over_from"], done.job["changes"]) == (0, ["nginx"], [])
    assert hub.tree() == SET, "files of a removed job that no job lists stay"


def test_a_job_is_not_renamed_while_its_former_name_is_at_work(hub: SyncEnv) -> None:
    from syncd.store.lock import job_lock

    assert hub.sync().code == 0 and hub.call("pause", "nginx").code == 0
    rename(hub, "nginx", "web")
    with job_lock(hub.state, "nginx"):
        assert hub.sync().code == 11
    assert hub.sync().job["status"] == "skipped"


def test_a_job_renamed_and_respelled_at_once_touches_no_file(linked: SyncEnv) -> None:
    assert linked.call("pause", "nginx").code == 0
    before = files_of(linked.folder / "D/run")
    write_to(linked, "D/run/x/")
    rename(linked, "nginx", "web")
    assert linked.sync().job["status"] == "skipped"
    assert linked.call("resume", "web").code == 0
    assert linked.sync().job["changes"] == [] and files_of(linked.folder / "D/run") == before


def test_a_job_whose_destination_cannot_be_resolved_keeps_its_pause_for_later(hub: SyncEnv) -> None:
    """A link that leads to itself: the job fails by name,
    and is still the renamed one afterwards.
    """
    (hub.folder / "D/run").mkdir(parents=True)
    (hub.folder / "D/var").symlink_to("run")
    write_to(hub, "D/var/x/")
    assert hub.sync().code == 0 and hub.call("pause", "nginx").code == 0
    (hub.folder / "D/var").unlink()
    (hub.folder / "D/var").symlink_to("var")
    rename(hub, "nginx", "web")
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror")
    assert "can't resolve" in done.job["error"]["message"]
    (hub.folder / "D/var").unlink()
    (hub.folder / "D/var").symlink_to("run")
    assert hub.sync().job["status"] == "skipped"
