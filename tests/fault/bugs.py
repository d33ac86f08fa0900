"""Calibration: mistakes seeded into the writing and recording code while a test runs,
and the lanes that have to find each.

The switch is here and not in the product: a bug is a handful of replaced functions, put back when
the block ends. A lane that lets one pass says nothing when it finds nothing.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

import syncd.engine.recovery as settle_module
import syncd.engine.run as run_module
import syncd.engine.run_result as result_module
import syncd.mirror.change_mode as change_mode
import syncd.mirror.cleanup as leftovers
import syncd.mirror.dirfd as folders
import syncd.mirror.disk_mirror as disk
import syncd.mirror.file_ops as files
import syncd.mirror.filesystem_sync as systems
import syncd.mirror.scan as scan_module
import syncd.mirror.temp_file as temp_file
import syncd.mirror.trash as trash_module
import syncd.mirror.write as write
import syncd.safe_open as safe_open
import syncd.store.database as database
from syncd.errors import MirrorError
from syncd.mirror.temp_file import TempFile
from syncd.mirror.trash import KeptContent, Trash
from syncd.mirror.write import PlanWriter
from syncd.models import ActionKind, LedgerRow, RunReport, RunStatus
from syncd.ports import ActionOutcome, Intent, JobState, RunRecord
from syncd.store.store import SqliteStore
from tests.fault.folders import FolderScene
from tests.fault.mounts import privately
from tests.fault.order import order_wrong
from tests.fault.places import OPERATIONS, SMALL, vanished, yard
from tests.fault.points import Tally, fail_at_calls, kill_at_lines
from tests.fault.power import power_cuts
from tests.fault.race import BELOW, race
from tests.fault.reasons import unexplained
from tests.fault.room import no_room
from tests.fault.scene import Workbench, sets

Lane = Callable[[], list[str]]
Patches = list[tuple[object, str, Any]]
MANY = 12


# --- lanes: what each finds, as text; nothing found is an empty list ------------------------------


def by_order() -> list[str]:
    found: list[str] = []
    for trees in (SMALL, sets(), sets(MANY)):
        with Workbench(trees=trees) as bench:
            bench.turn()
            found += order_wrong(bench.scene)
    return found


def by_lines() -> list[str]:
    with Workbench() as bench:
        return kill_at_lines(bench, 300, 4, stop_at_first=True, spare_first=0.3).violations


def by_calls() -> list[str]:
    with Workbench() as bench:
        tally = fail_at_calls(bench, 300, 4, stop_at_first=True)
        return tally.violations + unexplained(tally)


def by_failing_syncs() -> list[str]:
    with Workbench(trees=SMALL) as bench:
        tally = fail_at_calls(bench, 60, 4, stop_at_first=True, only="fsync")
        return tally.violations + unexplained(tally)


def by_refused_modes() -> list[str]:
    with Workbench(scene=FolderScene) as bench:
        return fail_at_calls(bench, 60, 4, stop_at_first=True, only="chmod").violations


def by_folders_of_others() -> list[str]:
    with Workbench(scene=FolderScene) as bench:
        bench.turn()
        return bench.scene.heal()


def by_dying_disk() -> list[str]:
    with Workbench() as bench:
        return fail_at_calls(bench, 100, 4, stop_at_first=True, lasting=True).violations


def by_places(*names: str) -> Lane:
    def find() -> list[str]:
        with (
            tempfile.TemporaryDirectory(
                dir="/dev/shm" if os.path.isdir("/dev/shm") else None
            ) as folder,
            yard(Path(folder) / "yard") as one,
        ):
            return [
                f"{name}, {operation}: {what}"
                for name in names
                for operation in OPERATIONS
                for what in one.case(name, operation)[0]
            ]

    find.__name__ = "by_places"
    return find


def by_race() -> list[str]:
    return race(500, kinds=BELOW, stop_at_first=True).violations


def by_race_above() -> list[str]:
    return race(2000, kinds=("parents",), stop_at_first=True).violations


def by_full_disk() -> list[str]:
    return no_room(60, 4).violations


def by_vanished_mount() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return privately(lambda: vanished(Path(folder) / "one", False, True))


def by_power() -> list[str]:
    return [
        one
        for kind in ("xfs", "ext4")
        for one in power_cuts(kind, True, 100, 4, stop_at_first=True).violations
    ]


@dataclass(frozen=True)
class Bug:
    """What is replaced, and the lanes that may find it, the quickest first."""

    patches: Callable[[], Patches]
    lanes: tuple[Lane, ...]

    @property
    def needs_root(self) -> bool:
        return self.lanes[0] in (by_race, by_race_above, by_full_disk, by_vanished_mount, by_power)

    @property
    def is_quick(self) -> bool:
        return (self.lanes[0] is by_order and len(self.lanes) == 1) or by_power in self.lanes[1:]


@contextmanager
def seeded(bug: Bug) -> Iterator[None]:
    with ExitStack() as stack:
        for place, name, value in bug.patches():
            stack.enter_context(patch.object(place, name, value))
        yield


def caught(bug: Bug) -> str:
    """The lane that found it, and what it said; empty when none did.

    A scene that can't even be set any more is found too.
    """
    with seeded(bug):
        for lane in bug.lanes:
            try:
                found = lane()
            except AssertionError as error:
                found = [f"nothing works any more: {error}"]
            if found:
                return f"{lane.__name__.replace('_', ' ')}: {found[0]}"
    return ""


# --- the mistakes ---------------------------------------------------------------------------------


class _Os:
    """The os module with some of its calls replaced, for one module of ours."""

    def __init__(self, **calls: Any) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return self._calls.get(name) or getattr(os, name)


def _in_place(self: PlanWriter, folder: int, staged: Any, action: Any) -> None:
    """The bytes go straight into the file that readers have open."""
    name = posixpath.basename(action.path)
    if action.wanted.kind is not write.Kind.FILE:
        return _rename(self, folder, staged, action)
    with open(os.open(staged.temporary, os.O_RDONLY, dir_fd=folder), "rb") as source:
        content = source.read()
    target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
    for at in range(
        0, len(content), 3
    ):  # a write that takes its time: whether a kill falls into it must not be luck
        os.write(target, content[at : at + 3])
    os.close(target)
    os.unlink(staged.temporary, dir_fd=folder)
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    self.outcomes[action.path] = ActionOutcome(
        scan_module.LocalFile(
            action.wanted.kind,
            action.wanted.blob,
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            write.stat_of(found),
        )
    )
    return None


_rename = PlanWriter._rename
_intend, _record = SqliteStore.begin_intent, SqliteStore.record
_apply_result, _settle_one, _copy = (
    run_module.apply_result,
    settle_module._conclude,
    files.write_new,
)
_open_store, _look, _publish, _run = (
    database.open_store,
    scan_module.scan_entry,
    PlanWriter._publish,
    PlanWriter.run,
)


def _mode_after_name(self: PlanWriter, folder: int, staged: Any, action: Any) -> None:
    _rename(self, folder, staged, action)
    if action.wanted.kind is write.Kind.FILE:
        os.chmod(posixpath.basename(action.path), action.wanted.mode, dir_fd=folder)


def _copy_without_mode(folder: int, temporary: str, read: Any, want: Any, size: int) -> int:
    return _copy(folder, temporary, read, replace(want, mode=0o600), size)


def _rows_first(self: SqliteStore, intent: Intent, state: JobState) -> None:
    """The ledger is told what is about to be done."""
    _intend(self, intent, state)
    upserts = {
        action.path: LedgerRow(action.wanted, None)
        for action in intent.actions
        if action.wanted is not None
    }
    removals = frozenset(
        action.path for action in intent.actions if action.kind is ActionKind.REMOVE
    )
    report = RunReport(
        intent.job, RunStatus.UNCHANGED, "", None, None, None, started_at=intent.started_at
    )
    _record(self, intent.job, RunRecord(report, upserts, removals, state=state))


def _intent_after(*arguments: Any) -> Any:
    result = _apply_result(*arguments)
    for store, intent, state in _WAITING:
        _intend(store, intent, state)
    _WAITING.clear()
    return result


_WAITING: list[tuple[SqliteStore, Intent, JobState]] = []


def _believe_the_intent(
    job: Any, intent: Intent, state: JobState, store: Any, mirror: Any
) -> JobState:
    mirror.remove_temp_files(
        intent.id,
        {
            (settle_module._entry_root(action), posixpath.dirname(action.path))
            for action in intent.actions
        },
    )
    upserts = {
        action.path: LedgerRow(action.wanted, None)
        for action in intent.actions
        if action.wanted is not None
    }
    removals = frozenset(
        action.path for action in intent.actions if action.kind is ActionKind.REMOVE
    )
    report = RunReport(
        job.name,
        RunStatus.FAILED,
        job.repo,
        job.ref,
        intent.commit,
        state.applied_commit,
        started_at=intent.started_at,
    )
    store.record(
        job.name,
        RunRecord(
            report,
            upserts,
            removals,
            directories_created=intent.folders,
            state=replace(state, consistent=False),
        ),
    )
    return replace(state, consistent=False)


def _forget_the_intent(
    job: Any, intent: Intent, state: JobState, store: Any, _mirror: Any
) -> JobState:
    report = RunReport(
        job.name,
        RunStatus.FAILED,
        job.repo,
        job.ref,
        intent.commit,
        state.applied_commit,
        started_at=intent.started_at,
    )
    store.record(job.name, RunRecord(report, state=replace(state, consistent=False)))
    return replace(state, consistent=False)


def _sweep_everything(_intent: str, places: Any) -> int:
    for _root, path in places:
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(path):
                if name.startswith(".syncd-"):
                    os.unlink(os.path.join(path, name))
    return 0


def _sweep_what_can_be_reached(intent: str, places: Any) -> int:
    for pair in places:
        with suppress(OSError, MirrorError):
            leftovers.remove_temp_files(intent, [pair])
    return 0


def _unlink_unseen(self: PlanWriter, folder: int, _kept: Any, action: Any) -> None:
    with suppress(FileNotFoundError):
        os.unlink(posixpath.basename(action.path), dir_fd=folder)
    self.outcomes[action.path] = ActionOutcome(None)


def _expect_anything(folder: int, name: str, *_: Any) -> bool:
    return files.stat_at(folder, name) is not None


def _swallow(self: PlanWriter, action: Any, act: Any) -> None:
    try:
        act(action)
    except (MirrorError, OSError, write.DirectoryMissingError):
        self.outcomes[action.path] = ActionOutcome(action.expected)


def _only_ours(self: PlanWriter, action: Any, act: Any) -> None:
    try:
        act(action)
    except MirrorError as error:
        self.outcomes[action.path] = ActionOutcome(action.expected, error)


def _sync_if_possible(self: TempFile, action: Any) -> None:
    with suppress(OSError):
        _sync(self, action)
    self.synced = True


_sync = TempFile.sync


def _forget_made(self: PlanWriter, actions: Any) -> Any:
    return replace(_run(self, actions), directories_created=())


def _trees_go(places: Any) -> tuple[str, ...]:
    gone = []
    for _root, path in places:
        shutil.rmtree(path, ignore_errors=True)
        gone.append(path)
    return tuple(gone)


def _drop_trees(self: PlanWriter, removals: Any) -> None:
    parents = {posixpath.dirname(action.path) for action in removals}
    for path in {
        path for parent in parents for path in write.with_parents(parent)
    } & self.owned_dirs:
        shutil.rmtree(path, ignore_errors=True)
        self.removed_dirs.append(path)


def _clear_the_way(self: PlanWriter, folder: int, name: str, action: Any) -> None:
    if action.expected is not None and action.expected.kind is write.Kind.DIRECTORY:
        shutil.rmtree(name, dir_fd=folder, ignore_errors=True)


def _believe_the_ledger(
    folder: int, name: str, path: str, recorded: Any, now_ns: Any, *more: Any
) -> Any:
    if recorded is not None and recorded.stat is not None:
        entry = recorded.entry
        return scan_module.LocalFile(
            entry.kind, entry.blob, entry.mode, os.geteuid(), os.getegid(), recorded.stat
        )
    return _look(folder, name, path, recorded, now_ns, *more)


def _by_its_name(folder: int, name: str, path: str, want: Any, expect: Any) -> Any:
    os.chmod(name, want.mode, dir_fd=folder)
    return expect


def _every_folder(self: SqliteStore, job: str) -> frozenset[str]:
    return frozenset(
        parent
        for path in self.load_ledger(job)
        for parent in write.with_parents(posixpath.dirname(path))
        if "/one" in parent or "/two" in parent
    )


def _no_sync(name: str) -> Any:
    connection = _open_store(name)
    connection.exec_driver_sql("PRAGMA synchronous=OFF")
    return connection


def _nothing(*_: Any) -> None:
    return None


BUGS: dict[str, Bug] = {
    "files are written in place": Bug(
        lambda: [(PlanWriter, "_rename", _in_place)], (by_order, by_lines)
    ),
    "files are named before they are synced": Bug(
        lambda: [(PlanWriter, "_sync_staged", _nothing)], (by_order, by_power)
    ),
    "folders are not synced": Bug(lambda: [(write, "sync_folder", _nothing)], (by_order, by_power)),
    "folders are not synced after a removal": Bug(
        lambda: [(PlanWriter, "_remove", _remove_unsynced)], (by_order, by_power)
    ),
    "new folders are not synced": Bug(
        lambda: [(PlanWriter, "_sync_new_directories", _nothing)], (by_order, by_power)
    ),
    "the mode comes after the name": Bug(
        lambda: [
            (temp_file, "write_new", _copy_without_mode),
            (PlanWriter, "_rename", _mode_after_name),
        ],
        (by_order,),
    ),
    "modes are not synced": Bug(
        lambda: [(PlanWriter, "_change_modes", _looks_unsynced)], (by_order, by_power)
    ),
    "the intent is noted when the work is done": Bug(
        lambda: [
            (SqliteStore, "begin_intent", lambda *arguments: _WAITING.append(arguments)),
            (run_module, "apply_result", _intent_after),
        ],
        (by_order, by_lines),
    ),
    "no intent is noted": Bug(
        lambda: [(SqliteStore, "begin_intent", _nothing)], (by_order, by_lines)
    ),
    "the ledger is told first": Bug(
        lambda: [(SqliteStore, "begin_intent", _rows_first)], (by_order, by_lines)
    ),
    "an interrupted intent is believed": Bug(
        lambda: [(settle_module, "_conclude", _believe_the_intent)], (by_lines,)
    ),
    "an interrupted intent is forgotten": Bug(
        lambda: [(settle_module, "_conclude", _forget_the_intent)], (by_lines,)
    ),
    "nothing is swept": Bug(lambda: [(disk, "remove_temp_files", lambda *_: 0)], (by_lines,)),
    "everybody's temporary files are swept": Bug(
        lambda: [(disk, "remove_temp_files", _sweep_everything)], (by_lines,)
    ),
    "what a disk can't show now is not swept later": Bug(
        lambda: [(disk, "remove_temp_files", _sweep_what_can_be_reached)], (by_dying_disk,)
    ),
    "a file is removed unseen": Bug(
        lambda: [(PlanWriter, "_unlink", _unlink_unseen)], (by_places("edited while running"),)
    ),
    "a file is replaced unseen": Bug(
        lambda: [
            (place, "check_expected", _expect_anything) for place in (change_mode, trash_module)
        ],
        (by_places("edited while running"),),
    ),
    "links are followed": Bug(
        lambda: [(folders, "OPEN_DIR_NOFOLLOW", folders.OPEN_DIR)],
        (by_places("a link to outside in its folder's place"),),
    ),
    "links are followed, and only a race shows it": Bug(
        lambda: [(folders, "OPEN_DIR_NOFOLLOW", folders.OPEN_DIR)], (by_race,)
    ),
    "links above the destination are followed": Bug(
        lambda: [(safe_open, "OPEN_DIR_AS_PATH", safe_open.OPEN_DIR_AS_PATH & ~os.O_NOFOLLOW)],
        (by_race_above,),
    ),
    "nothing goes to the trash": Bug(
        lambda: [(Trash, "keep", lambda *_: KeptContent())], (by_places("other bytes"),)
    ),
    "a folder in the way is cleared": Bug(
        lambda: [
            (PlanWriter, "_remove_directory_in_the_way", _clear_the_way),
            (disk, "check_replaceable_directories", _nothing),
        ],
        (by_places("a folder with a file of others"),),
    ),
    "the ledger is believed": Bug(
        lambda: [(scan_module, "scan_entry", _believe_the_ledger)],
        (by_places("deleted while running", "other bytes"),),
    ),
    "errors of one file are swallowed": Bug(
        lambda: [(PlanWriter, "_attempt", _swallow)], (by_calls,)
    ),
    "errors of the kernel have no name": Bug(
        lambda: [(PlanWriter, "_attempt", _only_ours), (disk, "translated_errors", _untranslated)],
        (by_calls,),
    ),
    "a failed sync is passed over": Bug(
        lambda: [(TempFile, "sync", _sync_if_possible)], (by_failing_syncs,)
    ),
    "folders made are not remembered": Bug(
        lambda: [(PlanWriter, "run", _forget_made)], (by_lines,)
    ),
    "folders go with what is in them": Bug(
        lambda: [
            (PlanWriter, "_remove_empty_directories", _drop_trees),
            (disk, "remove_empty_directories", _trees_go),
        ],
        (by_lines,),
    ),
    "everything is removed last": Bug(
        lambda: [(write, "split_removals", lambda removals, _writes: ([], list(removals)))],
        (by_lines,),
    ),
    "a folder's mode that could not be set is forgotten": Bug(
        lambda: [
            (module, "directories_to_fix", lambda *_: ()) for module in (run_module, result_module)
        ],
        (by_refused_modes,),
    ),
    "every folder counts as ours": Bug(
        lambda: [(SqliteStore, "folders", _every_folder)], (by_folders_of_others,)
    ),
    "a folder's mode is changed by its name": Bug(
        lambda: [(write, "change_folder", _by_its_name)], (by_race,)
    ),
    "free space is not asked for": Bug(
        lambda: [(disk, "check_free_space", _nothing)], (by_full_disk,)
    ),
    "a mount that is gone is not noticed": Bug(
        lambda: [(disk, "check_mounts", _nothing)], (by_vanished_mount,)
    ),
    "the store is not synced": Bug(
        lambda: [(database, "open_store", _no_sync), (database, "unsynced", nullcontext)],
        (by_power,),
    ),
}


def _remove_unsynced(self: PlanWriter, actions: Any) -> None:
    with patch.object(write, "sync_folder", _nothing):
        _remove(self, actions)


def _looks_unsynced(self: PlanWriter, actions: Any) -> None:
    with patch.object(systems, "syncfs", _nothing):
        _change_modes(self, actions)


_remove, _change_modes = PlanWriter._remove, PlanWriter._change_modes


@contextmanager
def _untranslated(_what: str) -> Iterator[None]:
    yield


def calibration(only: Callable[[Bug], bool] = lambda _: True) -> Tally:
    """Each seeded bug against its lanes; one that none finds is a violation."""
    tally = Tally("seeded bugs")
    for name, bug in BUGS.items():
        if only(bug):
            how = caught(bug)
            tally.points += 1
            tally.ends[how.partition(":")[0] or "not caught"] += 1
            tally.violations += [] if how else [f"{name}: not caught"]
    return tally
