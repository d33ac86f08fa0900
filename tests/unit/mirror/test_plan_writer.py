"""One batch of the writer: which folders it syncs, and who is told when a sync fails."""

from __future__ import annotations

import errno
import os
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.errors import ChangedUnderneathError
from syncd.git_objects import blob_id
from syncd.mirror import filesystem_sync, syscalls, temp_file, write
from syncd.mirror.scan import scan_entry
from syncd.mirror.temp_file import TempFile
from syncd.mirror.trash import Trash
from syncd.mirror.write import PlanWriter
from syncd.models import Action, ActionKind, Kind, LedgerRow, WantedFile
from syncd.store.blobs import BlobCache

CONTENT = b"one\n"
BLOB = blob_id(CONTENT)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "to"
        self.root.mkdir()
        self.cache = BlobCache(folder / "blobs")
        self.cache.add(BLOB, [CONTENT], len(CONTENT))
        self.trash = Trash(folder / "trash")

    def entry(self, root: str | None = None) -> WantedFile:
        return WantedFile(
            BLOB, 0o644, Kind.FILE, source="f", size=len(CONTENT), root=root or str(self.root)
        )

    def action(self, name: str) -> Action:
        return Action(ActionKind.WRITE, f"{self.root}/{name}", self.entry(), None, None, "new")

    def batch(self, *folders: str) -> PlanWriter:
        """`folders` did not stand when the plan was made."""
        return PlanWriter(
            "0" * 12,
            self.cache,
            self.trash,
            lambda: datetime.now(UTC),
            frozenset(),
            {f"{self.root}/{name}": self.entry() for name in folders},
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever these tests run on."""
    monkeypatch.setattr(filesystem_sync, "hides_write_errors", lambda _: False)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were synced, in turn."""
    real, told = write.sync_folder, list[str]()

    def sync(folder: int) -> None:
        told.append(os.readlink(f"/proc/self/fd/{folder}"))
        real(folder)

    monkeypatch.setattr(write, "sync_folder", sync)
    return told


def test_a_folder_in_which_many_are_made_is_synced_once_before_any_name_is_given(
    bench: Bench, synced: list[str]
) -> None:
    names = [f"a{number}" for number in range(12)]
    applied = bench.batch(*names).run([bench.action(f"{name}/f") for name in names])
    assert (
        not [outcome for outcome in applied.outcomes.values() if outcome.error]
        and len(applied.directories_created) == 12
    )
    assert synced.count(str(bench.root)) == 1 and synced[0] == str(bench.root)
    assert sorted(synced[1:]) == sorted(f"{bench.root}/{name}" for name in names)


def test_a_folder_that_another_run_has_just_made_is_not_trusted_to_be_on_disk(
    bench: Bench, synced: list[str]
) -> None:
    """Its maker may still be staging, and sync what it made only then."""
    (bench.root / "a").mkdir()
    bench.batch("a").run([bench.action("a/f")])
    assert synced == [str(bench.root), f"{bench.root}/a"]


def test_a_folder_that_stood_before_costs_no_sync_of_the_one_above(
    bench: Bench, synced: list[str]
) -> None:
    (bench.root / "a").mkdir()
    bench.batch().run([bench.action("a/f")])
    assert synced == [f"{bench.root}/a"]


def test_when_a_new_folder_directly_below_the_top_of_all_can_not_be_synced_what_is_in_it_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(folder: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(write, "sync_folder", failing)
    batch = bench.batch()
    batch.staged.append(
        TempFile(
            Action(ActionKind.WRITE, "/mirror/f", bench.entry("/"), None, None, "new"),
            ".syncd-0",
            0,
        )
    )
    batch.directories.unsynced["/"] = "/"
    batch._sync_new_directories()
    assert batch.outcomes["/mirror/f"].error is not None


def test_names_in_a_folder_that_gives_way_to_another_before_its_sync_are_no_success(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write.rename_noreplace

    def named(folder: int, old: str, new: str) -> None:
        real(folder, old, new)
        os.rename(bench.root / "a", bench.root / "moved")
        (bench.root / "a").mkdir()

    (bench.root / "a").mkdir()
    monkeypatch.setattr(write, "rename_noreplace", named)
    applied = bench.batch().run([bench.action("a/f")])
    assert isinstance(applied.outcomes[f"{bench.root}/a/f"].error, ChangedUnderneathError)


def test_a_folder_that_can_not_be_opened_for_its_names_keeps_that_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sync is not tried: what that would say is not what happened,
    and might be taken for a change underneath.
    """
    real, opened = write.opened_directory, list[str]()

    def refusing(root: str, path: str) -> AbstractContextManager[int]:
        opened.append(root)
        if len(opened) == 2:  # the first is to sync what is staged
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return real(root, path)

    (bench.root / "a").mkdir()
    monkeypatch.setattr(write, "opened_directory", refusing)
    error = bench.batch().run([bench.action("a/f")]).outcomes[f"{bench.root}/a/f"].error
    assert (
        error is not None
        and not isinstance(error, ChangedUnderneathError)
        and os.strerror(errno.EBUSY) in error.message
    )


MANY = [f"a{number}/f" for number in range(12)]


def test_a_lost_write_fails_all_on_its_file_system_though_the_next_sync_succeeds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does: it tells of it once."""
    real, told = filesystem_sync.syncfs, list[int]()

    def syncfs(folder: int) -> None:
        told.append(folder)
        if len(told) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(folder)

    monkeypatch.setattr(filesystem_sync, "syncfs", syncfs)
    applied = bench.batch().run([bench.action(name) for name in MANY])
    assert [path for path, outcome in applied.outcomes.items() if outcome.error is None] == []
    assert all(
        os.strerror(errno.EIO) in str(outcome.error) for outcome in applied.outcomes.values()
    )
    assert not [path for path in bench.root.rglob("*") if path.is_file()], "neither named nor left"


@pytest.mark.parametrize("count", [2, 12])
def test_what_is_synced_was_open_before_the_first_byte_was_written_or_ever_since(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """An error that another's sync was told of meanwhile is told to no descriptor that is opened
    afterwards, nor any of a file that memory lost.
    """
    write_new, syncfs, fsync = temp_file.write_new, filesystem_sync.syncfs, os.fsync
    open_then, made, synced = set[int](), set[int](), set[int]()

    def writing(*arguments: Any) -> int:
        if not open_then:
            open_then.update(int(name) for name in os.listdir("/proc/self/fd"))
        descriptor = write_new(*arguments)
        made.add(descriptor)
        return descriptor

    def syncing(folder: int) -> None:
        synced.add(folder)
        syncfs(folder)

    def syncing_one(file: int) -> None:
        if file in made:
            synced.add(file)
        fsync(file)

    monkeypatch.setattr(temp_file, "write_new", writing)
    monkeypatch.setattr(filesystem_sync, "syncfs", syncing)
    monkeypatch.setattr(os, "fsync", syncing_one)
    applied = bench.batch().run([bench.action(name) for name in MANY[:count]])
    assert not [outcome for outcome in applied.outcomes.values() if outcome.error]
    assert synced == made if count == 2 else synced <= open_then and synced


def test_of_few_files_too_one_that_was_lost_is_everybodys_who_can_not_be_proven_safe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, lost = os.fsync, list[int]()

    def failing(file: int) -> None:
        if not lost:
            lost.append(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    def syncfs(folder: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    monkeypatch.setattr(filesystem_sync, "syncfs", syncfs)
    batch = bench.batch()
    (bench.root / "a").mkdir()
    batch.run([bench.action(f"a/{number}") for number in range(3)])
    assert all(outcome.error is not None for outcome in batch.outcomes.values()) and not list(
        (bench.root / "a").iterdir()
    )


@pytest.mark.parametrize("lost", [False, True])
def test_without_a_reliable_syncfs_each_file_is_synced_and_one_lost_file_fails_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    write_new, fsync = temp_file.write_new, os.fsync
    made, synced = list[int](), list[int]()

    def writing(*arguments: Any) -> int:
        made.append(write_new(*arguments))
        return made[-1]

    def syncing(file: int) -> None:
        if made and file == made[-1]:
            synced.append(file)
            if lost and len(synced) == 3:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    monkeypatch.setattr(temp_file, "write_new", writing)
    monkeypatch.setattr(filesystem_sync, "hides_write_errors", lambda _: True)
    monkeypatch.setattr(os, "fsync", syncing)
    applied = bench.batch().run([bench.action(name) for name in MANY])
    assert len(synced) >= len(MANY)
    assert all((outcome.error is not None) == lost for outcome in applied.outcomes.values())
    assert bool([path for path in bench.root.rglob("*") if path.is_file()]) != lost


def test_a_file_system_that_can_not_say_what_it_is_may_tell_nothing(bench: Bench) -> None:
    folder = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert syscalls.hides_write_errors(folder), "it is none of those that are known to tell"
    finally:
        os.close(folder)
    assert syscalls.hides_write_errors(folder), "nor is what can't be asked"


def test_a_new_program_can_be_run_as_soon_as_it_has_its_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open for writing can't be: "Text file busy"."""
    real = write.rename_noreplace

    def named(folder: int, old: str, new: str) -> None:
        real(folder, old, new)
        writers = [
            name
            for name in os.listdir("/proc/self/fd")
            if os.path.realpath(f"/proc/self/fd/{name}") == f"{bench.root}/a/{new}"
        ]
        assert not writers

    (bench.root / "a").mkdir()
    monkeypatch.setattr(write, "rename_noreplace", named)
    for count in (3, 12):
        applied = bench.batch().run(
            [bench.action(f"a/{count}-{number}") for number in range(count)]
        )
        assert not [outcome for outcome in applied.outcomes.values() if outcome.error]


def test_a_mode_is_changed_on_a_file_system_that_is_held(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.root / "f").write_bytes(CONTENT)
    folder = os.open(bench.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = scan_entry(folder, "f", f"{bench.root}/f", None, time.time_ns)
    finally:
        os.close(folder)
    real, chmod, held = filesystem_sync.syncfs, os.chmod, set[int]()

    def changing(*arguments: Any, **named: Any) -> None:
        held.update(int(name) for name in os.listdir("/proc/self/fd"))
        chmod(*arguments, **named)

    def syncing(folder: int) -> None:
        assert folder in held
        real(folder)

    monkeypatch.setattr(os, "chmod", changing)
    monkeypatch.setattr(filesystem_sync, "syncfs", syncing)
    want = replace(bench.entry(), mode=0o600)
    applied = bench.batch().run(
        [Action(ActionKind.MODE, f"{bench.root}/f", want, None, found, "mode")]
    )
    assert (
        held
        and applied.outcomes[f"{bench.root}/f"].error is None
        and (bench.root / "f").stat().st_mode & 0o777 == 0o600
    )


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_open_whatever_becomes_of_a_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    if fails:
        monkeypatch.setattr(
            os,
            "dup",
            lambda _: (_ for _ in ()).throw(OSError(errno.EMFILE, os.strerror(errno.EMFILE))),
        )
    applied = bench.batch().run([bench.action(name) for name in MANY])
    assert all((outcome.error is not None) == fails for outcome in applied.outcomes.values())
    assert sorted(os.listdir("/proc/self/fd")) == before


def removal(bench: Bench, root: Path, name: str) -> Action:
    entry = bench.entry(str(root))
    return Action(
        ActionKind.REMOVE, f"{root}/{name}", None, LedgerRow(entry, None), None, "dropped"
    )


@pytest.mark.parametrize("written_now", [True, False], ids=["written by this run", "kept by it"])
def test_a_removal_leaves_a_file_that_the_set_has_under_another_spelling(
    bench: Bench, written_now: bool
) -> None:
    link = bench.root.parent / "link"
    link.symlink_to("to")
    batch = bench.batch()
    actions = [removal(bench, link, "f")]
    if written_now:
        actions.append(bench.action("f"))
    else:
        (bench.root / "f").write_bytes(CONTENT)
        found = (bench.root / "f").stat()
        batch.kept = {(found.st_dev, found.st_ino): f"{bench.root}/f"}
    applied = batch.run(actions)
    assert not [outcome for outcome in applied.outcomes.values() if outcome.error]
    assert (bench.root / "f").read_bytes() == CONTENT


def test_a_removal_takes_a_hard_link_of_a_kept_file_and_leaves_that(bench: Bench) -> None:
    (bench.root / "f").write_bytes(CONTENT)
    os.link(bench.root / "f", bench.root / "g")
    found = (bench.root / "f").stat()
    batch = bench.batch()
    batch.kept = {(found.st_dev, found.st_ino): f"{bench.root}/f"}
    batch.run([removal(bench, bench.root, "g")])
    assert os.listdir(bench.root) == ["f"]
