"""Mode and owner of folders that syncd made: their drift is answered as a file's, a changed wish
reaches those that stand, and no other folder is touched.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.mirror import permissions as looks_module
from syncd.models import Action, ActionKind, Job, Kind, RunStatus, WantedFile
from syncd.policies import Drift
from syncd.store.store import SqliteStore
from tests.fault.scene import Scene
from tests.story.test_private_content import as_nobody
from tests.support.sync_env import CommandResult, SyncEnv, signatures


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def changes(done: CommandResult) -> list[tuple[str, str]]:
    return [(change["action"], Path(change["path"]).name) for change in done.job["changes"]]


def status(hub: SyncEnv) -> dict[str, Any]:
    found: dict[str, Any] = hub.call("status", "--json").json["jobs"][0]
    return found


@pytest.fixture
def deep(hub: SyncEnv) -> SyncEnv:
    """`made/` and everything in it is syncd's; `dest` stood before."""
    hub.repo.commit({"nginx/sub/deep/x": "x\n", "nginx/sub/y": "y\n"})
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/made/"}])
    assert hub.sync().code == 0
    return hub


def test_drift_of_a_folders_mode_is_planned_and_put_back_and_no_file_is_touched(
    deep: SyncEnv,
) -> None:
    folder = deep.dest / "made/sub"
    folder.chmod(0o700)
    files = {path: stat for path, stat in signatures(deep.dest).items() if not os.path.isdir(path)}
    planned = deep.plan().job
    assert (
        planned["changes"]
        == [
            {
                "action": "mode",
                "path": str(folder),
                "from": None,
                "before": None,
                "after": None,
                "trash": None,
            }
        ]
        and planned["status"] == "changed"
    )
    done = deep.sync()
    assert (done.code, done.job["status"], done.job["changes"], done.job["bytes"]) == (
        0,
        "changed",
        planned["changes"],
        0,
    )
    assert mode(folder) == 0o755 and mode(folder / "deep") == 0o755
    assert {
        path: stat for path, stat in signatures(deep.dest).items() if not os.path.isdir(path)
    } == files
    assert deep.sync().job["changes"] == [] and status(deep)["drifted"] == 0
    assert "mode" in deep.call("history", "--path", str(folder)).out


@pytest.mark.parametrize(
    ("policy", "state", "code", "drifted"), [("report", "drift", 3, 1), ("keep", "in_sync", 0, 0)]
)
def test_report_and_keep_leave_a_folders_mode_and_only_report_counts_it(
    deep: SyncEnv, policy: str, state: str, code: int, drifted: int
) -> None:
    deep.write_config(drift=policy)
    deep.sync()
    (deep.dest / "made/sub").chmod(0o700)
    for _ in range(2):
        done = deep.sync()
        assert (done.code, done.job["status"], changes(done)) == (0, "unchanged", [("keep", "sub")])
    assert mode(deep.dest / "made/sub") == 0o700
    assert (status(deep)["state"], status(deep)["drifted"], deep.call("status").code) == (
        state,
        drifted,
        code,
    )
    deep.repo.commit({"nginx/sub/y": "two\n"})
    assert changes(deep.sync()) == [("keep", "sub"), ("write", "y")], (
        "what changes in a folder is no wish about the folder"
    )
    (deep.dest / "made/sub").chmod(0o755)
    assert deep.sync().job["changes"] == [] and status(deep)["drifted"] == 0


@pytest.mark.parametrize("policy", ["report", "keep"])
def test_a_changed_dir_mode_reaches_every_folder_that_syncd_made_and_no_other(
    deep: SyncEnv, policy: str
) -> None:
    (deep.dest / "made/mine").mkdir(mode=0o711)
    (deep.dest / "made/mine").chmod(0o711)
    before = mode(deep.dest)
    deep.write_config(drift=policy, dir_mode="0750")
    done = deep.sync()
    assert (
        changes(done) == [("mode", "made"), ("mode", "sites"), ("mode", "sub"), ("mode", "deep")]
        and status(deep)["drifted"] == 0
    )
    assert [
        mode(deep.dest / name) for name in ("made", "made/sub", "made/sub/deep", "made/sites")
    ] == [0o750] * 4
    assert (mode(deep.dest), mode(deep.dest / "made/mine")) == (before, 0o711)
    assert deep.sync().job["status"] == "unchanged"
    deep.repo.commit({"nginx/new/z": "z\n"})
    deep.sync()
    assert mode(deep.dest / "made/new") == 0o750 and deep.sync().job["status"] == "unchanged"


def test_the_deepest_path_of_a_job_says_what_its_folders_are_like_whichever_file_comes_first(
    hub: SyncEnv,
) -> None:
    hub.repo.commit(
        {"nginx/a/secret/key": "k\n", "nginx/a/open": "o\n", "keys/0": "0\n", "motd": "m\n"}
    )
    hub.write_config(
        dir_mode="0755",
        paths=[
            {"from": "nginx/a/", "to": f"{hub.dest}/made/"},
            {"from": "keys/", "to": f"{hub.dest}/made/secret/", "dir_mode": "0700"},
            {"from": "motd", "to": f"{hub.folder}/outer/inner/motd", "dir_mode": "0711"},
        ],
    )
    assert hub.sync().code == 0
    found = [
        mode(place)
        for place in (
            hub.dest / "made",
            hub.dest / "made/secret",
            hub.folder / "outer",
            hub.folder / "outer/inner",
        )
    ]
    assert found == [0o755, 0o700, 0o711, 0o711] and hub.sync().job["status"] == "unchanged"
    (hub.folder / "outer").chmod(0o700)
    assert changes(hub.sync()) == [("mode", "outer")] and mode(hub.folder / "outer") == 0o711, (
        "also above to:, where syncd made it"
    )


def test_a_folder_that_stood_before_is_never_touched_whatever_its_mode(hub: SyncEnv) -> None:
    (hub.dest / "sites").mkdir()
    (hub.dest / "sites").chmod(0o770)
    hub.sync()
    hub.write_config(dir_mode="0700")
    hub.sync()
    assert mode(hub.dest / "sites") == 0o770 and hub.sync().job["status"] == "unchanged"
    lose_the_store(hub)
    hub.write_config(dir_mode="0711")
    assert hub.sync().code == 0 and mode(hub.dest / "sites") == 0o770


def test_after_the_store_is_lost_no_folder_is_known_as_ours(deep: SyncEnv) -> None:
    (deep.dest / "made/sub").chmod(0o700)
    lose_the_store(deep)
    assert deep.sync().job["changes"] == [] and mode(deep.dest / "made/sub") == 0o700


def lose_the_store(hub: SyncEnv) -> None:
    for file in hub.state.glob("syncd.db*"):
        file.unlink()


def test_setgid_of_a_parent_the_umask_and_a_sticky_bit_are_no_drift(hub: SyncEnv) -> None:
    hub.dest.chmod(0o2775)
    before = os.umask(0o077)
    try:
        hub.write_config(dir_mode="0775")
        hub.sync()
        assert mode(hub.dest / "sites") & 0o777 == 0o775
        for special in (0o2000, 0o1000, 0o3000):
            (hub.dest / "sites").chmod(special | 0o775)
            assert (
                hub.sync().job["status"] == "unchanged"
                and mode(hub.dest / "sites") == special | 0o775
            ), "a bit that dir_mode can't ask for is somebody's own"
        (hub.dest / "sites").chmod(0o3700)
        assert changes(hub.sync()) == [("mode", "sites")] and mode(hub.dest / "sites") == 0o3775, (
            "and stays when the mode is put back"
        )
    finally:
        os.umask(before)


@pytest.mark.parametrize("acls, expected", [(True, 0o2755), (False, 0o755)])
def test_where_a_unit_forbids_setgid_bits_one_stays_if_the_disk_has_acls(
    deep: SyncEnv, monkeypatch: pytest.MonkeyPatch, acls: bool, expected: int
) -> None:
    (deep.dest / "made/sub").chmod(0o2700)
    real = os.chmod

    def restricted(path: Any, wanted: int, **more: Any) -> None:
        if wanted & 0o6000:
            raise PermissionError(1, "Operation not permitted")  # what RestrictSUIDSGID= answers
        real(path, wanted, **more)

    def without_acls(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "chmod", restricted)
    if not acls:
        monkeypatch.setattr(os, "setxattr", without_acls)
    assert deep.sync().code == 0 and mode(deep.dest / "made/sub") == expected


def test_a_link_in_a_folders_place_is_refused_and_what_it_leads_to_keeps_its_mode(
    deep: SyncEnv,
) -> None:
    (deep.folder / "outside/deep").mkdir(parents=True)
    (deep.folder / "outside").chmod(0o700)
    (deep.dest / "made/sub").rename(deep.folder / "away")
    (deep.dest / "made/sub").symlink_to(deep.folder / "outside")
    deep.write_config(dir_mode="0750")
    done = deep.sync()
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror") and "is a link" in done.job[
        "error"
    ]["message"]
    assert mode(deep.folder / "outside") == 0o700 and mode(deep.dest / "made") == 0o755, (
        "nothing was changed"
    )


def test_a_folder_that_changes_between_plan_and_step_is_left_alone_and_planned_anew(
    deep: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    (deep.dest / "made/sub").chmod(0o700)
    real, met = looks_module.change_folder, []

    def meanwhile(*arguments: Any) -> Any:
        if not met:
            met.append(mode(deep.dest / "made/sub"))
            (deep.dest / "made/sub").chmod(0o711)
        return real(*arguments)

    monkeypatch.setattr("syncd.mirror.write.change_folder", meanwhile)
    assert deep.sync().code == 0 and met == [0o700] and mode(deep.dest / "made/sub") == 0o755


@pytest.mark.parametrize("policy", ["report", "keep"])
def test_a_wish_that_could_not_be_carried_out_is_no_drift_the_next_time(
    deep: SyncEnv, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    deep.write_config(drift=policy, dir_mode="0750")

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(looks_module, "set_mode_and_owner", refuse)
    done = deep.sync()
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror") and "belongs to uid" in done.job[
        "error"
    ]["hint"]
    assert deep.sync().code == 1
    monkeypatch.undo()
    done = deep.sync()
    assert (done.code, changes(done)) == (
        0,
        [("mode", "made"), ("mode", "sites"), ("mode", "sub"), ("mode", "deep")],
    )
    assert mode(deep.dest / "made/sub") == 0o750 and status(deep)["drifted"] == 0


def test_a_job_that_writes_into_another_jobs_folder_has_no_say_in_it(hub: SyncEnv) -> None:
    hub.write_config(paths=[{"from": "nginx/sites/", "to": f"{hub.dest}/shared/"}])
    hub.jobs["second"] = {
        **hub.jobs["nginx"],
        "dir_mode": "0700",
        "paths": [{"from": "nginx/nginx.conf", "to": f"{hub.dest}/shared/nginx.conf"}],
    }
    hub.write()
    hub.sync("nginx")
    assert hub.sync().code == 0 and mode(hub.dest / "shared") == 0o755
    assert [job["status"] for job in hub.sync().json["jobs"]] == ["unchanged", "unchanged"]
    (hub.dest / "shared").chmod(0o711)
    assert hub.sync("second").job["changes"] == [] and changes(hub.sync("nginx")) == [
        ("mode", "shared")
    ]


def test_folders_of_a_removed_job_go_over_with_its_files(deep: SyncEnv) -> None:
    deep.jobs = {"renamed": {**deep.jobs["nginx"], "dir_mode": "0750"}}
    deep.write()
    assert ("mode", "sub") in changes(deep.sync()) and mode(deep.dest / "made/sub") == 0o750
    (deep.dest / "made/sub").chmod(0o700)
    assert changes(deep.sync()) == [("mode", "sub")]
    deep.repo.commit({"nginx/sub/deep/x": None, "nginx/sub/y": None})
    deep.sync()
    assert not (deep.dest / "made/sub").exists(), "and they go when they become empty"


def test_a_rollback_brings_back_the_modes_of_the_folders_with_the_set(deep: SyncEnv) -> None:
    deep.write_config(dir_mode="0750", mode="0640")
    deep.repo.commit({"nginx/sub/y": "two\n"})
    deep.sync()
    done = deep.call("rollback", "nginx", "--json")
    assert (
        done.code == 0
        and mode(deep.dest / "made/sub") == 0o755
        and mode(deep.dest / "made/sub/y") == 0o644
    )
    deep.call("resume", "nginx")
    assert deep.sync().code == 0 and mode(deep.dest / "made/sub") == 0o750


def test_an_undo_brings_back_the_modes_that_stood_before_the_change(deep: SyncEnv) -> None:
    (deep.dest / "made/sub/deep").chmod(0o711)
    deep.write_config(
        drift="keep",
        on_change=["test", "!", "-e", f"{deep.dest}/made/new/bad"],
        undo_on_failure=True,
    )
    assert deep.sync().code == 0
    deep.write_config(dir_mode="0750")
    deep.repo.commit({"nginx/new/bad": "x\n", "nginx/sub/y": None})
    done = deep.sync()
    assert done.job["status"] == "refused" and not (deep.dest / "made/new").exists()
    assert [mode(deep.dest / name) for name in ("made", "made/sub", "made/sub/deep")] == [
        0o755,
        0o755,
        0o711,
    ]
    assert changes(deep.sync()) == [("keep", "deep")], "and that is what the set asks now"
    deep.repo.commit({"nginx/new/bad": None})
    assert deep.sync().code == 0 and [
        mode(deep.dest / name) for name in ("made", "made/sub", "made/sub/deep")
    ] == [0o750, 0o750, 0o711]


def test_verify_and_explain_say_what_is_wrong_with_a_folder(deep: SyncEnv) -> None:
    folder = deep.dest / "made/sub"
    assert (
        deep.call("verify").code == 0 and "now: as asked" in deep.call("explain", str(folder)).out
    )
    folder.chmod(0o700)
    found = deep.call("verify", "--json")
    assert found.code == 3 and found.json["jobs"][0]["findings"] == [
        {
            "path": str(folder),
            "problem": "mode",
            "expected": "0755",
            "found": "0700",
            "tolerated": False,
            "unseen": False,
        }
    ]
    said = deep.call("explain", str(folder))
    assert (
        said.code == 0
        and "its mode is 0700 and should be 0755" in said.out
        and "the next sync puts it right" in said.out
    )
    assert deep.call("explain", str(deep.dest)).code == 1, "no folder that syncd made"


@pytest.mark.parametrize(
    "step",
    [
        lambda hub: (hub.dest / "made/sub").chmod(0o700),
        lambda hub: (hub.folder / "above").chmod(0o700),
    ],
    ids=["below to", "above to"],
)
def test_the_nothing_to_do_check_looks_at_every_folder_that_syncd_made(
    tmp_path: Path, step: Callable[[SyncEnv], None]
) -> None:
    from syncd.fastpath.check import UpToDate, check
    from tests.support.sync_env import sync_env

    with sync_env(tmp_path, {"nginx/sub/y": "y\n"}, as_app=False) as hub:
        hub.write_config(
            paths=[
                {"from": "nginx/", "to": f"{hub.dest}/made/"},
                {"from": "nginx/sub/y", "to": f"{hub.folder}/above/inner/y"},
            ]
        )
        assert hub.sync().code == 0

        def quiet() -> bool:
            return isinstance(
                check(
                    ["-c", str(hub.config), "sync"],
                    os.environ,
                    (hub.state / "unchanged.json").stat().st_mtime + 1,
                ),
                UpToDate,
            )

        assert quiet()
        step(hub)
        assert (
            not quiet()
            and [change["action"] for change in hub.sync().job["changes"]] == ["mode"]
            and quiet()
        )


def test_a_mode_that_would_keep_syncd_out_of_its_own_folders_is_refused_before_anything_is_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Action(
        ActionKind.MODE,
        "/srv/x",
        WantedFile("", 0o500, Kind.DIRECTORY, dir_mode=0o500),
        None,
        None,
        "",
    )
    file = Action(
        ActionKind.WRITE, "/srv/x/y", WantedFile("1" * 40, 0o644, dir_mode=0o600), None, None, ""
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for actions, made in (([folder], ()), ([file], ("/srv/x",))):
        with pytest.raises(MirrorError, match="would keep syncd itself out") as caught:
            looks_module.refuse_lockout(actions, made)
        assert caught.value.hint is not None and '"0700"' in caught.value.hint
    looks_module.refuse_lockout([file], ("/srv/other",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    looks_module.refuse_lockout([folder, file], ("/srv/x",))


@pytest.mark.parametrize("policy", [Drift.RESTORE, Drift.KEEP])
def test_folders_that_somebody_has_shut_are_opened_before_the_rest_is_looked_at(
    policy: Drift,
) -> None:
    """Not as root, whom nothing keeps out; two levels, and a commit to bring meanwhile."""

    def work(place: Path) -> int:
        class OneFolder(Scene):
            @property
            def job(self) -> Job:
                return replace(super().job, paths=super().job.paths[:1], drift=policy)

        scene = OneFolder(
            place / "base",
            place / "state",
            (
                {"conf/a/b/x": b"x\n", "conf/y": b"y\n"},
                {"conf/a/b/x": b"two\n", "conf/a/z": b"z\n"},
            ),
        )
        assert scene.run().error is None
        inner = scene.path_of("conf/a/b")
        inner.chmod(0o200)
        inner.parent.chmod(0)
        scene.head = 1
        report = scene.run()
        if policy is Drift.KEEP:
            return (
                0 if report.error is not None and str(inner.parent) in report.error.message else 2
            )
        assert report.error is None and [
            (change.action.value, Path(change.path).name) for change in report.changes
        ] == [
            ("mode", "a"),
            ("mode", "b"),
            ("write", "x"),
            ("write", "z"),
            ("remove", "y"),
        ], report
        assert scene.shown()["conf/a/b/x"] == b"two\n" and (mode(inner), mode(inner.parent)) == (
            0o755,
            0o755,
        )
        return 0 if scene.run().status is RunStatus.UNCHANGED else 3

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        assert as_nobody(lambda: work(Path(folder) / "own")) == 0


@pytest.mark.root
def test_the_owner_of_folders_is_theirs_too_but_above_the_destination(hub: SyncEnv) -> None:
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/above/made/"}])
    hub.sync()
    hub.write_config(owner="nobody:nogroup")
    assert ("mode", "sites") in changes(hub.sync())
    place = hub.folder / "above"
    assert [found.stat().st_uid for found in (place, place / "made", place / "made/sites")] == [
        0,
        65534,
        65534,
    ]
    os.chown(place / "made/sites", 0, 0)
    assert (
        changes(hub.sync()) == [("mode", "sites")] and (place / "made/sites").stat().st_uid == 65534
    )
    hub.repo.commit({"nginx/new/z": "z\n"})
    hub.sync()
    assert (place / "made/new").stat().st_gid == (
        place / "made/sites"
    ).stat().st_gid != 0 and hub.sync().job["status"] == "unchanged"


@pytest.mark.root
def test_the_top_of_a_mount_in_a_folders_place_is_not_the_folder_that_syncd_made(
    deep: SyncEnv,
) -> None:
    place = deep.dest / "made/sites"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(place)], check=True)
    try:
        deep.write_config(dir_mode="0750")
        deep.sync()
        assert mode(place) == 0o1777
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert changes(deep.sync()) == [("mode", "sites")] and mode(place) == 0o750


def test_a_folder_without_anything_of_the_set_is_left_alone(deep: SyncEnv) -> None:
    (deep.dest / "made/sub/mine").write_text("mine\n")
    deep.repo.commit({"nginx/sub/y": None, "nginx/sub/deep/x": None})
    deep.sync()
    (deep.dest / "made/sub").chmod(0o700)
    assert deep.sync().job["changes"] == [] and mode(deep.dest / "made/sub") == 0o700
    store = SqliteStore.open(deep.state)
    assert str(deep.dest / "made/sub") in store.folders("nginx"), (
        "it is still ours, and goes when it becomes empty"
    )
    store.close()
