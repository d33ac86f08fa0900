"""What syncd replaces without having written it: kept once, only where it is replaced,
within limits.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from syncd.clock import SystemClock
from syncd.git_objects import blob_id
from syncd.mirror import age
from tests.fault.points import in_child
from tests.support.sync_env import SyncEnv

DAY_SECONDS = 86400.0


def contents(hub: SyncEnv) -> list[str]:
    """What is kept, sorted."""
    files = hub.state.glob("trash/*/*")
    return sorted(one.read_text() for one in files if one.suffix != ".json")


def entries(hub: SyncEnv) -> list[dict[str, Any]]:
    """The index, by path."""
    found = [json.loads(one.read_text()) for one in hub.state.glob("trash/entries/*.json")]
    return sorted(found, key=lambda entry: entry["path"])


def edit(hub: SyncEnv, text: str, name: str = "nginx.conf") -> None:
    (hub.dest / name).write_text(text)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Renames to this name are refused, as of an immutable file."""
    real = os.rename

    def refuse(refused: str) -> None:
        def rename(source: Any, target: Any, **folders: Any) -> None:
            if target == refused:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), target)
            real(source, target, **folders)

        monkeypatch.setattr(os, "rename", rename)

    yield refuse


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """So many seconds pass, by the clock that nobody can set."""
    real, passed = time.monotonic, [0.0]
    monkeypatch.setattr(SystemClock, "monotonic", lambda _: real() + passed[0])

    def pass_seconds(seconds: float) -> None:
        passed[0] += seconds

    return pass_seconds


def test_six_failed_attempts_leave_no_copy(hub: SyncEnv, refusing: Callable[[str], None]) -> None:
    edit(hub, "theirs")
    refusing("nginx.conf")
    assert [hub.sync().code for _ in range(6)] == [1] * 6
    assert (contents(hub), entries(hub)) == ([], [])
    assert hub.tree()["nginx.conf"] == b"theirs"


def test_a_switch_that_fails_leaves_no_copy(hub: SyncEnv, refusing: Callable[[str], None]) -> None:
    to = f"{hub.dest}/app/current/"
    hub.write_config(publish="symlink", paths=[{"from": "nginx/", "to": to}])
    assert hub.sync().code == 0
    edit(hub, "theirs", "app/current/nginx.conf")
    refusing("current")
    assert [hub.sync().code for _ in range(3)] == [1] * 3
    assert (contents(hub), entries(hub)) == ([], [])


def test_a_failed_attempt_leaves_what_was_kept_before(
    hub: SyncEnv, refusing: Callable[[str], None]
) -> None:
    edit(hub, "theirs")
    hub.sync()
    before = entries(hub)
    edit(hub, "theirs")
    refusing("nginx.conf")
    assert hub.sync().code == 1
    assert (contents(hub), entries(hub)) == (["theirs"], before)


def test_the_same_edit_is_kept_once_and_its_entry_is_refreshed(hub: SyncEnv) -> None:
    for _ in range(3):
        edit(hub, "theirs")
        assert hub.sync().code == 0
    (entry,) = entries(hub)
    first = entry["at"], entry["kept_at_seconds"]
    edit(hub, "theirs")
    hub.sync()
    (again,) = entries(hub)
    assert (again["at"], again["kept_at_seconds"]) > first and again["id"] == entry["id"]
    assert contents(hub) == ["theirs"]


def test_one_content_of_two_files_is_kept_once_with_an_entry_each(hub: SyncEnv) -> None:
    (hub.dest / "sites").mkdir()
    edit(hub, "theirs")
    edit(hub, "theirs", "sites/a.conf")
    assert hub.sync().code == 0
    assert contents(hub) == ["theirs"]
    assert [entry["path"] for entry in entries(hub)] == [
        f"{hub.dest}/nginx.conf",
        f"{hub.dest}/sites/a.conf",
    ]


def test_an_entry_says_what_stood_where_for_which_job(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    (hub.dest / "nginx.conf").chmod(0o640)
    hub.sync()
    (entry,) = entries(hub)
    assert datetime.now(UTC) - datetime.fromisoformat(entry.pop("at")) < timedelta(minutes=5)
    assert entry.pop("kept_at_seconds") >= 0
    assert len(entry.pop("id")) == 12
    assert entry == {
        "path": f"{hub.dest}/nginx.conf",
        "job": "nginx",
        "content": blob_id(b"theirs"),
        "kind": "file",
        "mode": 0o640,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "size": 6,
        "reason": "takes over",
    }


def test_a_link_is_kept_as_its_text(hub: SyncEnv) -> None:
    hub.sync()
    (hub.dest / "nginx.conf").unlink()
    (hub.dest / "nginx.conf").symlink_to("sites/a.conf")
    assert hub.sync().code == 0
    assert contents(hub) == ["sites/a.conf"]
    assert [entry["kind"] for entry in entries(hub)] == ["link"]


@pytest.mark.parametrize("years", [14, -14])
def test_a_clock_that_jumps_by_years_deletes_nothing(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    edit(hub, "theirs")
    hub.sync()
    real, offset = time.time, years * 365 * DAY_SECONDS
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.fromtimestamp(time.time(), UTC))
    for text in ("two\n", "three\n"):
        hub.repo.commit({"nginx/nginx.conf": text})
        hub.sync()
    assert contents(hub) == ["theirs"]


def test_what_was_kept_for_the_whole_time_goes(
    hub: SyncEnv, passing: Callable[[float], None]
) -> None:
    edit(hub, "old")
    hub.sync()
    passing(4 * DAY_SECONDS)
    edit(hub, "new")
    hub.sync()
    passing(3.5 * DAY_SECONDS)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    assert contents(hub) == ["new"]


def test_time_before_the_first_look_after_a_boot_does_not_count(
    hub: SyncEnv, passing: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(hub, "theirs")
    hub.sync()
    for boot in ("second", "third"):
        monkeypatch.setattr(age, "boot_id", lambda boot=boot: boot)
        passing(30 * DAY_SECONDS)
        hub.repo.commit({"nginx/nginx.conf": f"{boot}\n"})
        hub.sync()
    assert contents(hub) == ["theirs"]
    passing(8 * DAY_SECONDS)
    hub.repo.commit({"nginx/nginx.conf": "last\n"})
    hub.sync()
    assert contents(hub) == []


def test_an_edit_that_is_kept_again_begins_anew(
    hub: SyncEnv, passing: Callable[[float], None]
) -> None:
    for _ in range(3):
        edit(hub, "theirs")
        hub.sync()
        passing(5 * DAY_SECONDS)
    assert contents(hub) == ["theirs"]


def test_keep_and_size_are_the_configuration_s(
    hub: SyncEnv, passing: Callable[[float], None]
) -> None:
    hub.extra["trash"] = {"keep": "1h", "size": "20"}
    hub.write()
    for text in ("first, of 18 bytes", "second", "third"):
        edit(hub, text)
        assert hub.sync().code == 0
    assert contents(hub) == ["second", "third"]
    assert sorted(entry["size"] for entry in entries(hub)) == [5, 6]
    passing(3700)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    assert contents(hub) == []


@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_what_is_larger_than_the_trash_is_not_replaced_and_nothing_else_is(
    hub: SyncEnv, publish: str
) -> None:
    hub.extra["trash"] = {"size": "20"}
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/a/current/"}])
    assert hub.sync().code == 0
    edit(hub, "x" * 21, "a/current/nginx.conf")
    hub.repo.commit({"nginx/sites/a.conf": "changed\n"})
    done = hub.sync()
    place = f"{hub.dest}/a/current/nginx.conf"
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror")
    assert done.job["error"]["message"] == (
        f"{place} is not syncd's, and can't be kept before it is replaced (21 bytes): "
        "trash: has room for 20 bytes; nothing was replaced"
    )
    assert done.job["error"]["hint"] == (
        f"raise size: of trash:, move {place} away, or write drift: report or keep for the job"
    )
    assert (hub.dest / "a/current/nginx.conf").read_text() == "x" * 21
    assert (hub.dest / "a/current/sites/a.conf").read_text() == "a\n"


def test_what_does_not_fit_on_the_disk_of_the_state_is_not_replaced(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(hub, "x" * (3 << 20))
    real = os.statvfs

    def statvfs(place: Any) -> os.statvfs_result:
        found = list(real(place))
        if str(place).startswith(str(hub.state)):
            found[4] = (3 << 20) // found[1]  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)
    done = hub.sync()
    assert done.code == 1 and "can't be kept before it is replaced" in done.job["error"]["message"]
    assert f"are free at {hub.state}/trash" in done.job["error"]["message"]
    assert hub.tree() == {"nginx.conf": b"x" * (3 << 20)} and contents(hub) == []


def test_a_crash_between_the_copy_and_the_rename_leaves_one_copy(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(hub, "theirs")
    real = os.rename

    def dying(source: Any, target: Any, **folders: Any) -> None:
        if target == "nginx.conf":
            os._exit(9)
        real(source, target, **folders)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", dying)
        for _ in range(3):
            in_child(lambda: hub.sync().code)
    assert contents(hub) == ["theirs"] and hub.tree()["nginx.conf"] == b"theirs"
    assert hub.sync().code == 0
    assert contents(hub) == ["theirs"] and hub.tree()["nginx.conf"] == b"one\n"


def test_a_damaged_copy_is_not_taken_for_the_content(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    hub.sync()
    (hub.state / "trash/contents" / blob_id(b"theirs")).write_text("rotten")
    edit(hub, "theirs")
    hub.sync()
    assert contents(hub) == ["theirs"]


def test_a_damaged_index_entry_deletes_nothing(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    hub.sync()
    for file in (*hub.state.glob("trash/entries/*.json"), hub.state / "trash/counted"):
        file.write_text("{")
    edit(hub, "other")
    assert hub.sync().code == 0
    assert contents(hub)[:2] == ["other", "theirs"]


@pytest.mark.root
def test_an_immutable_file_leaves_no_copy_however_often_it_is_tried(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    subprocess.run(["chattr", "+i", hub.dest / "nginx.conf"], check=True)
    try:
        assert [hub.sync().code for _ in range(6)] == [1] * 6
        assert (contents(hub), entries(hub)) == ([], [])
    finally:
        subprocess.run(["chattr", "-i", hub.dest / "nginx.conf"], check=True)
    assert hub.sync().code == 0 and contents(hub) == ["theirs"]


def test_a_change_names_the_entry_of_what_it_replaced(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    first = hub.sync()
    (entry,) = entries(hub)
    assert [(one["action"], one["trash"]) for one in first.job["changes"]] == [
        ("write", entry["id"]),
        ("write", None),
    ]
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/sites/a.conf": None})
    assert [one["trash"] for one in hub.sync().job["changes"]] == [None, None]
