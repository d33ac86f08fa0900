"""Edits of equal size within one step of the file system's clock: lstat cannot tell them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncd.engine import run
from syncd.errors import MirrorError
from syncd.fastpath import check as fastpath
from syncd.mirror import disk_mirror, scan, symlink_publish, write
from syncd.mirror.scan import stat_of
from syncd.mirror.trash import Trash
from syncd.models import LedgerRow, WantedFile
from syncd.ports import Target
from syncd.store.store import SqliteStore
from tests.support.stamps import TICK_NS, stamped
from tests.support.sync_env import SyncEnv, sync_env

SECOND_NS = 1_000_000_000
# a second at a push, the other steps in the root lane
TICK = pytest.param(TICK_NS, id="a tick", marks=pytest.mark.root)
TWO_SECONDS = pytest.param(2 * SECOND_NS, id="2 s", marks=pytest.mark.root)
STEPS = pytest.mark.parametrize("step_ns", [TICK, pytest.param(SECOND_NS, id="1 s"), TWO_SECONDS])
COARSE = pytest.mark.parametrize("step_ns", [pytest.param(SECOND_NS, id="1 s"), TWO_SECONDS])


def edit(place: Path, text: str) -> None:
    """Other bytes of the same size, in place."""
    with open(place, "r+") as file:
        assert os.fstat(file.fileno()).st_size == len(text)
        file.write(text)


def rows(hub: SyncEnv) -> dict[str, LedgerRow]:
    store = SqliteStore.open(hub.state)
    try:
        return store.load_ledger("nginx")
    finally:
        store.close()


def trusted(hub: SyncEnv) -> set[str]:
    """Names whose recorded stat is what lstat says."""
    return {
        os.path.relpath(path, hub.dest)
        for path, row in rows(hub).items()
        if row.stat == stat_of(os.lstat(os.path.realpath(path)))
    }


def in_the_trash(hub: SyncEnv) -> set[str]:
    return {found.read_text() for found in hub.state.glob("trash/*/*") if found.suffix != ".json"}


def once(real: Callable[..., Any], then: Callable[[], None]) -> Callable[..., Any]:
    """`real`, and `then` after its first call."""
    left = [then]

    def called(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        while left:
            left.pop()()
        return result

    return called


@STEPS
@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_an_edit_of_equal_size_right_after_a_sync_is_noticed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int, publish: str
) -> None:
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/app/current/"}])
    stamped(monkeypatch, step_ns)
    place = hub.dest / "app/current/nginx.conf"
    assert hub.sync().code == 0
    edit(place, "ONE\n")
    done = hub.sync()
    assert [change["action"] for change in done.job["changes"]] == ["restore"]
    assert place.read_text() == "one\n"


@STEPS
def test_an_edit_in_the_step_of_the_publication_is_noticed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    """Before the run that publishes has ended, and so before it records anything."""
    stamped(monkeypatch, step_ns)
    place = hub.dest / "nginx.conf"
    with monkeypatch.context() as patched:
        then = once(write.PlanWriter._rename, lambda: edit(place, "ONE\n"))
        patched.setattr(write.PlanWriter, "_rename", lambda *arguments: then(*arguments))
        assert hub.sync().code == 0
    assert place.read_text() == "ONE\n"
    assert [change["action"] for change in hub.sync().job["changes"]] == ["restore"]
    assert place.read_text() == "one\n"


@STEPS
def test_an_edit_after_a_change_of_mode_is_noticed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    stamps = stamped(monkeypatch, step_ns)
    place = hub.dest / "nginx.conf"
    hub.sync()
    stamps.advance(5)
    place.chmod(0o600)
    assert [change["action"] for change in hub.sync().job["changes"]] == ["mode"]
    edit(place, "ONE\n")
    assert [change["action"] for change in hub.sync().job["changes"]] == ["restore"]


@STEPS
@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_an_edit_between_looking_and_replacing_is_not_lost(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int, publish: str
) -> None:
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/app/current/"}])
    stamps = stamped(monkeypatch, step_ns)
    place = hub.dest / "app/current/nginx.conf"
    hub.sync()
    stamps.advance(5)
    edit(place, "ed1\n")  # in the step in which the next run looks
    then = once(Trash.keep, lambda: edit(place, "ed2\n"))
    monkeypatch.setattr(Trash, "keep", lambda *arguments: then(*arguments))
    hub.sync()
    assert hub.sync().code == 0  # behind a link the first has failed, and switched nothing
    assert place.read_text() == "one\n"
    assert "ed2\n" in in_the_trash(hub)


@COARSE
@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_an_edit_while_a_file_that_was_just_written_is_replaced_is_not_lost(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int, publish: str
) -> None:
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/app/current/"}])
    stamped(monkeypatch, step_ns)
    place = hub.dest / "app/current/nginx.conf"
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    mirror = disk_mirror.DiskMirror if publish == "files" else symlink_publish.SymlinkMirror
    then = once(mirror.prepare, lambda: edit(place, "ed2\n"))
    monkeypatch.setattr(mirror, "prepare", lambda *arguments: then(*arguments))
    hub.sync()
    assert hub.sync().code == 0
    assert place.read_text() == "two\n"
    assert "ed2\n" in in_the_trash(hub)


@pytest.mark.parametrize("kind", ["edit", "remove"])
def test_a_removal_leaves_what_was_edited_since_it_was_looked_at(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hub.repo.commit({"nginx/new": "one\n"})
    stamped(monkeypatch, SECOND_NS)
    place = hub.dest / "new"
    hub.sync()
    hub.repo.commit({"nginx/new": None})
    if kind == "edit":
        then = once(disk_mirror.DiskMirror.prepare, lambda: edit(place, "ed2\n"))
        monkeypatch.setattr(disk_mirror.DiskMirror, "prepare", lambda *arguments: then(*arguments))
    hub.sync()
    assert place.exists() is (kind == "edit")


@STEPS
def test_an_edit_while_a_file_is_carried_into_a_new_tree_goes_with_it(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    """A file of the user's own: nothing knows its bytes, only the second pass can tell."""
    from syncd.mirror import tree_copy

    hub.write_config(
        publish="symlink", paths=[{"from": "nginx/", "to": f"{hub.dest}/app/current/"}]
    )
    stamped(monkeypatch, step_ns)
    place = hub.dest / "app/current/own"
    hub.sync()
    place.write_text("my1\n")
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    then = once(tree_copy.TreeCopy.copy_changes, lambda: edit(place, "my2\n"))
    monkeypatch.setattr(tree_copy.TreeCopy, "copy_changes", lambda *arguments: then(*arguments))
    assert hub.sync().code == 0
    assert place.read_text() == "my2\n"
    assert (hub.dest / "app/current/nginx.conf").read_text() == "two\n"


@COARSE
def test_a_stat_is_recorded_once_the_step_has_passed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    """Internally: no change is reported, no hook runs; and then nothing is read any more."""
    hub.write_config(on_change="/bin/false")
    stamps = stamped(monkeypatch, step_ns)
    hub.sync()
    hub.write_config(on_change=f"touch {hub.folder}/reloaded")
    hub.sync()
    assert trusted(hub) == set()
    os.unlink(hub.folder / "reloaded")
    stamps.advance(5)
    done = hub.sync()
    assert done.job["status"] == "unchanged" and done.job["changes"] == []
    assert trusted(hub) == {"nginx.conf", "sites/a.conf"}
    monkeypatch.setattr(scan, "hash_file", lambda *_: pytest.fail("a file was read"))
    assert hub.sync().job["status"] == "unchanged"
    assert not (hub.folder / "reloaded").exists() and stamps.slept == []


def test_on_a_fine_clock_all_is_recorded_at_once(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = stamped(monkeypatch, TICK_NS)
    hub.sync()
    place = hub.dest / "nginx.conf"
    assert stamps.slept == [] and trusted(hub) == {"nginx.conf", "sites/a.conf"}
    assert stamps.now_ns - os.lstat(place).st_mtime_ns >= 2 * TICK_NS
    before = stat_of(os.lstat(place))
    edit(place, "two\n")
    assert stat_of(os.lstat(place)) != before


@pytest.mark.parametrize("answer", ["refused", "ignored"])
def test_where_an_mtime_cannot_be_set_back_a_sync_waits_for_one_step(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    stamps = stamped(monkeypatch, TICK_NS)

    def utime(*_: Any, **__: Any) -> None:
        if answer == "refused":
            raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", utime)
    hub.sync()
    assert stamps.slept == [pytest.approx(0.02)]
    assert trusted(hub) == {"nginx.conf", "sites/a.conf"}
    hub.sync()
    assert len(stamps.slept) == 1


@COARSE
def test_the_nothing_to_do_check_has_no_opinion_before_the_step_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    with sync_env(tmp_path, as_app=False) as hub:
        _note_is_left_late(hub, monkeypatch, step_ns)


def _note_is_left_late(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    stamps = stamped(monkeypatch, step_ns)
    hub.sync()
    assert not (hub.state / fastpath.NAME).exists()
    hub.sync()
    assert not (hub.state / fastpath.NAME).exists()
    stamps.advance(5)
    hub.sync()
    assert (hub.state / fastpath.NAME).exists()


def test_a_mount_that_is_gone_is_told_from_files_that_are_gone_whose_stat_was_racy(
    tmp_path: Path,
) -> None:
    """The row names the mount point whatever its stat is: the bare mount point is not filled."""
    entry = WantedFile("0" * 40, 0o644, root=str(tmp_path))
    smudged = stat_of(os.stat("/proc")).smudged
    path = f"{tmp_path}/to/f"
    row = LedgerRow(entry, smudged, mount=f"{tmp_path}/to")
    targets = {path: Target(str(tmp_path), row)}
    with pytest.raises(MirrorError, match="the mount seems to be gone") as found:
        disk_mirror.check_mounts(targets, {path: None}, "nginx")
    assert f"mount {tmp_path}/to again" in (found.value.hint or "")
    assert "syncd sync nginx --forget nginx" in (found.value.hint or "")


@STEPS
def test_an_edit_of_a_carried_file_right_after_a_switch_is_noticed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    hub.write_config(
        publish="symlink", paths=[{"from": "nginx/", "to": f"{hub.dest}/app/current/"}]
    )
    stamps = stamped(monkeypatch, step_ns)
    hub.sync()
    stamps.advance(5)
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0
    edit(hub.dest / "app/current/sites/a.conf", "A\n")
    assert [change["action"] for change in hub.sync().job["changes"]] == ["restore"]


@STEPS
def test_an_edit_after_a_change_of_mode_of_a_file_just_written_is_noticed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    stamps = stamped(monkeypatch, step_ns)
    place = hub.dest / "nginx.conf"
    hub.sync()
    stamps.advance(5)
    edit(place, "one\n")  # the same bytes, in the step in which the next run looks
    place.chmod(0o600)
    assert [change["action"] for change in hub.sync().job["changes"]] == ["mode"]
    edit(place, "ONE\n")
    assert [change["action"] for change in hub.sync().job["changes"]] == ["restore"]


@STEPS
def test_an_edit_after_an_interrupted_run_was_concluded_is_noticed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    stamped(monkeypatch, step_ns)
    place = hub.dest / "nginx.conf"
    real = run.apply_result

    def interrupted(*arguments: Any) -> Any:
        real(*arguments)
        raise MirrorError("interrupted before anything was recorded")

    with monkeypatch.context() as patched:
        patched.setattr(run, "apply_result", interrupted)
        assert hub.sync().code == 1
    assert place.read_text() == "one\n"
    edit(place, "ONE\n")
    assert "restore" in [change["action"] for change in hub.sync().job["changes"]]
    assert place.read_text() == "one\n"


@STEPS
def test_an_edit_after_an_undo_is_noticed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    place = hub.dest / "nginx.conf"
    hub.write_config(on_change=f"grep -q one {place}", undo_on_failure=True)
    stamps = stamped(monkeypatch, step_ns)
    hub.sync()
    stamps.advance(5)
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    assert place.read_text() == "one\n"
    edit(place, "ONE\n")
    hub.sync()
    assert place.read_text() == "one\n"
