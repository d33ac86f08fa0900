"""What happens to files that somebody else has touched: drift, first meetings, ownership,
paths that the configuration drops.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv


def actions(done: object) -> list[tuple[str, str]]:
    return [(change["action"], Path(change["path"]).name) for change in done.job["changes"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("policy", "expected", "content"),
    [("restore", "write", b"one\n"), ("report", "keep", b"theirs"), ("keep", "keep", b"theirs")],
)
def test_a_different_file_met_first_is_treated_as_drift_says(
    hub: SyncEnv, policy: str, expected: str, content: bytes
) -> None:
    (hub.dest / "nginx.conf").write_bytes(b"theirs")
    hub.write_config(drift=policy)
    done = hub.sync()
    assert done.code == 0 and (expected, "nginx.conf") in actions(done)
    assert hub.tree()["nginx.conf"] == content
    trashed = [file.read_bytes() for file in hub.state.glob("trash/*/*") if file.suffix != ".json"]
    assert trashed == ([b"theirs"] if policy == "restore" else [])
    assert hub.call("status", "--json").json["jobs"][0]["drifted"] == (
        1 if policy == "report" else 0
    )


def test_an_equal_file_met_first_is_adopted_without_a_write(hub: SyncEnv) -> None:
    (hub.dest / "nginx.conf").write_bytes(b"one\n")
    inode = (hub.dest / "nginx.conf").stat().st_ino
    done = hub.sync()
    assert actions(done) == [("write", "a.conf")]
    assert (hub.dest / "nginx.conf").stat().st_ino == inode
    hub.repo.commit({"nginx/nginx.conf": None})
    assert actions(hub.sync()) == [("remove", "nginx.conf")]


def test_report_leaves_an_edit_counts_it_and_replaces_it_when_upstream_changes(
    hub: SyncEnv,
) -> None:
    hub.write_config(drift="report")
    hub.sync()
    (hub.dest / "nginx.conf").write_bytes(b"edited")
    done = hub.sync()
    assert (done.code, done.job["status"], actions(done)) == (
        0,
        "unchanged",
        [("keep", "nginx.conf")],
    )
    assert (
        hub.call("status").code == 3
        and hub.call("status", "--json").json["jobs"][0]["state"] == "drift"
    )
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"edited"
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert actions(hub.sync()) == [("write", "nginx.conf")]
    assert hub.tree()["nginx.conf"] == b"two\n" and hub.call("status").code == 0


def test_drift_that_was_put_back_is_not_counted_any_more(hub: SyncEnv) -> None:
    hub.sync()
    (hub.dest / "nginx.conf").write_bytes(b"edited")
    assert actions(hub.sync()) == [("restore", "nginx.conf")]
    status = hub.call("status", "--json").json["jobs"][0]
    assert (status["drifted"], status["state"]) == (0, "in_sync")


def test_keep_leaves_an_edit_even_when_upstream_changes_and_calls_it_no_drift(hub: SyncEnv) -> None:
    hub.write_config(drift="keep")
    hub.sync()
    (hub.dest / "nginx.conf").write_bytes(b"edited")
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert actions(hub.sync()) == [("keep", "nginx.conf")]
    assert hub.tree()["nginx.conf"] == b"edited" and hub.call("status").code == 0


def test_a_file_dropped_upstream_that_holds_other_bytes_stays_and_is_named(hub: SyncEnv) -> None:
    hub.sync()
    (hub.dest / "sites/a.conf").write_bytes(b"mine now")
    hub.repo.commit({"nginx/sites/a.conf": None})
    assert actions(hub.sync()) == [("keep", "a.conf")]
    assert hub.tree()["sites/a.conf"] == b"mine now"
    assert hub.sync().job["changes"] == []


def test_prune_off_leaves_dropped_files_and_tracked_later_takes_them(hub: SyncEnv) -> None:
    hub.write_config(prune="off")
    hub.sync()
    hub.repo.commit({"nginx/sites/a.conf": None})
    done = hub.sync()
    assert done.job["status"] == "unchanged" and "sites/a.conf" in hub.tree()
    assert hub.sync().json["requests"]["total"] == 2
    hub.write_config(prune="tracked")
    assert actions(hub.sync()) == [("remove", "a.conf")]


@pytest.mark.parametrize("policy", ["restore", "report", "keep"])
def test_a_file_that_upstream_adds_again_is_written_where_it_was_removed_here(
    hub: SyncEnv, policy: str
) -> None:
    hub.write_config(drift=policy, prune="off")
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": None})
    hub.sync()
    (hub.dest / "nginx.conf").unlink()  # `prune: off` left it, and nothing lists it any more
    hub.repo.commit({"nginx/nginx.conf": "one\n"})
    assert actions(hub.sync()) == [("write", "nginx.conf")]
    assert hub.tree()["nginx.conf"] == b"one\n"
    assert hub.call("status", "--json").json["jobs"][0]["drifted"] == 0


def test_paths_that_the_configuration_drops_count_as_dropped(hub: SyncEnv) -> None:
    hub.sync()
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/", "exclude": ["sites/"]}])
    assert actions(hub.sync()) == [("remove", "a.conf")]
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/moved/"}])
    hub.sync()
    assert hub.tree() == {} and (hub.folder / "moved/nginx.conf").read_bytes() == b"one\n"


def test_a_listed_path_missing_upstream_fails_the_job_and_removes_nothing(hub: SyncEnv) -> None:
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": None, "nginx/sites/a.conf": None, "other": "x"})
    done = hub.sync("--allow-delete", "10")
    assert (done.code, done.job["error"]["kind"]) == (1, "not_found") and "nginx" in done.job[
        "error"
    ]["message"]
    assert len(hub.tree()) == 2


@pytest.mark.parametrize(
    ("configured", "meant"),
    [
        ("Nginx/", "nginx/"),
        ("nginx/Sites/", "nginx/sites/"),
        ("nginx/NGINX.conf", "nginx/nginx.conf"),
        ("ngnix/", "nginx/"),
    ],
)
def test_sync_and_plan_suggest_the_path_that_is_spelled_otherwise_upstream(
    hub: SyncEnv, configured: str, meant: str
) -> None:
    hub.write_config(
        paths=[{"from": configured, "to": f"{hub.dest}/{'' if meant.endswith('/') else 'x'}"}]
    )
    for done in (hub.sync(), hub.plan()):
        error = done.job["error"]
        assert (done.code, error["kind"]) == (1, "not_found") and error["hint"].startswith(
            f"did you mean {meant}? correct from:"
        )


def test_an_include_that_matches_nothing_is_refused(hub: SyncEnv) -> None:
    hub.sync()
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/", "include": ["*.yaml"]}])
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (6, "limit") and len(hub.tree()) == 2
    assert hub.sync("--allow-delete", "2").code == 0 and hub.tree() == {}


def test_two_jobs_that_want_one_file_are_named_and_the_owner_goes_on(hub: SyncEnv) -> None:
    hub.sync()
    hub.jobs["second"] = {
        **hub.jobs["nginx"],
        "paths": [{"from": "nginx/", "to": f"{hub.dest}/", "include": ["*.conf"]}],
    }
    hub.write()
    done = hub.sync()
    jobs = {job["job"]: job for job in done.json["jobs"]}
    assert jobs["nginx"]["status"] == "unchanged" and jobs["second"]["error"]["kind"] == "mirror"
    assert (
        "nginx" in jobs["second"]["error"]["message"]
        and "second" in jobs["second"]["error"]["message"]
    )


def test_a_job_takes_over_the_files_of_a_removed_job(hub: SyncEnv) -> None:
    hub.sync()
    hub.jobs = {"renamed": hub.jobs["nginx"]}
    hub.write()
    done = hub.sync()
    assert done.job["changes"] == [] and len(hub.tree()) == 2
    hub.repo.commit({"nginx/sites/a.conf": None})
    assert actions(hub.sync()) == [("remove", "a.conf")]


@pytest.mark.parametrize("limits", [{"files": "1"}, {"size": "3"}])
def test_limits_on_files_and_size_refuse_before_anything_is_fetched(
    hub: SyncEnv, limits: dict[str, str]
) -> None:
    hub.write_config(limits=limits)
    done = hub.sync()
    assert (done.code, done.job["status"], hub.tree()) == (6, "refused", {})


def test_a_destination_that_is_a_link_is_refused_and_the_real_folder_named(hub: SyncEnv) -> None:
    (hub.folder / "real").mkdir()
    (hub.folder / "through").symlink_to(hub.folder / "real")
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/through/"}])
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror")
    assert str(hub.folder / "real") in done.job["error"]["hint"]
    assert list((hub.folder / "real").iterdir()) == []


def test_parents_of_the_destination_may_be_links(hub: SyncEnv) -> None:
    (hub.folder / "real").mkdir()
    (hub.folder / "through").symlink_to(hub.folder / "real")
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/through/etc/"}])
    assert hub.sync().code == 0
    assert (hub.folder / "real/etc/nginx.conf").read_bytes() == b"one\n"


def test_a_planted_link_below_the_destination_is_never_written_through(hub: SyncEnv) -> None:
    (hub.folder / "outside").mkdir()
    (hub.dest / "sites").symlink_to(hub.folder / "outside")
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror")
    assert list((hub.folder / "outside").iterdir()) == []


def test_a_forgotten_job_adopts_its_files_again(hub: SyncEnv) -> None:
    hub.sync()
    done = hub.sync("--forget", "nginx", "nginx")
    assert (done.code, done.job["status"]) == (0, "unchanged")
    assert hub.call("status", "--json").json["jobs"][0]["files"] == 2
