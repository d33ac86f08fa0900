"""What the set asks of folders, and what is done about one that is otherwise: over the whole small domain, by the rules for a file's mode."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from syncd.engine.directories import OwnedDirectories, unlocking_actions, wanted_directories
from syncd.engine.plan import make_plan
from syncd.models import (
    ActionKind,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    PathRule,
    Stat,
    WantedFile,
)
from syncd.policies import Drift, Limits, Publish
from syncd.ports import JobState

ONE = "1" * 40
FOLDER, FILE = "/srv/x/folder", "/srv/x/folder/file"
STAT = Stat(1, 2, 3, 4, 5)
MODES = (0o755, 0o750, 0o700)


def job(drift: Drift, publish: Publish = Publish.FILES) -> Job:
    return Job(
        "j",
        "i",
        "o/r",
        None,
        (PathRule("x", "/srv/x", True),),
        drift=drift,
        limits=Limits(empty=True),
        publish=publish,
    )


def entry(dir_mode: int, root: str = "/srv", uid: int | None = None) -> WantedFile:
    return WantedFile(ONE, 0o644, dir_mode=dir_mode, root=root, uid=uid)


def folder(mode: int, problem: str | None = None) -> LocalFile:
    return LocalFile(Kind.DIRECTORY, None, mode, 0, 0, STAT, problem)


@pytest.mark.parametrize(
    ("drift", "before", "want", "have"), list(product(Drift, (None, *MODES), MODES, MODES))
)
def test_a_folders_mode_is_answered_as_a_files_mode_is(
    drift: Drift, before: int | None, want: int, have: int
) -> None:
    file = make_plan(
        job(drift),
        {FILE: WantedFile(ONE, want)},
        {FILE: LedgerRow(WantedFile(ONE, before), STAT)} if before else {},
        {FILE: LocalFile(Kind.FILE, ONE, have, 0, 0, STAT)},
    )
    expected = [
        (step.kind, step.is_drift) for step in file.actions if step.kind is not ActionKind.ADOPT
    ]
    recorded = {FILE: LedgerRow(entry(before), STAT)} if before else {}
    local, folders = (
        {FILE: LocalFile(Kind.FILE, ONE, 0o644, 0, 0, STAT), FOLDER: folder(have)},
        OwnedDirectories.of({FILE: entry(want)}, recorded, {FOLDER}, JobState()),
    )
    plan = make_plan(job(drift), {FILE: entry(want)}, recorded, local, folders)
    assert [(step.kind, step.is_drift) for step in plan.actions if step.path == FOLDER] == expected


@pytest.mark.parametrize("drift", Drift)
def test_what_a_run_left_half_done_is_finished_and_is_nobodys_drift(drift: Drift) -> None:
    recorded, remote = {FILE: LedgerRow(entry(0o755), STAT)}, {FILE: entry(0o755)}
    folders = OwnedDirectories.of(
        remote, recorded, {FOLDER}, JobState(directories_to_fix=(FOLDER,))
    )
    (step,) = make_plan(
        job(drift),
        remote,
        recorded,
        {FILE: LocalFile(Kind.FILE, ONE, 0o644, 0, 0, STAT), FOLDER: folder(0o700)},
        folders,
    ).actions
    assert (step.kind, step.is_drift, step.is_directory) == (ActionKind.MODE, False, True)


def test_a_folder_is_asked_by_the_deepest_path_above_it_in_whatever_order_the_files_come() -> None:
    entries = {
        "/srv/x/a": entry(0o755),
        "/srv/x/in/b": entry(0o700, "/srv/x", uid=7),
        "/srv/x/in/deep/c": entry(0o755),
        "/srv/x/alone/motd": entry(0o711, "/srv/x/alone"),
        "/opt/new/site/d": entry(0o750, "/opt/new", uid=7),
    }
    made = {
        "/srv/x",
        "/srv/x/in",
        "/srv/x/in/deep",
        "/srv/x/alone",
        "/opt/new",
        "/opt/new/site",
        "/srv/x/elsewhere",
    }
    for order in permutations(entries):
        found = {
            path: (one.mode, one.uid, one.root)
            for path, one in wanted_directories(
                {path: entries[path] for path in order}, made
            ).items()
        }
        assert found == {
            "/srv/x": (0o755, None, "/srv"),
            "/srv/x/in": (0o700, 7, "/srv/x"),
            "/srv/x/in/deep": (0o755, None, "/srv"),
            "/srv/x/alone": (
                0o711,
                None,
                "/srv/x",
            ),  # above the one path that reaches here: never another owner
            "/opt/new": (0o750, None, "/opt"),
            "/opt/new/site": (0o750, 7, "/opt/new"),
        }, order


def test_a_file_or_what_prune_off_left_asks_nothing_of_a_folder() -> None:
    gone = {FILE: LedgerRow(entry(0o700), STAT, Ownership.UNLISTED)}
    assert OwnedDirectories.of({}, gone, {FOLDER}, JobState()).wanted == {}
    was_file = {FOLDER: LedgerRow(WantedFile(ONE, 0o644), STAT)}
    assert OwnedDirectories.of({FILE: entry(0o755)}, was_file, {FOLDER}, JobState()).wanted == {}, (
        "it is the file that the ledger knows, until it is gone"
    )


@pytest.mark.parametrize(
    ("drift", "publish", "mode", "opened"),
    [
        (Drift.RESTORE, Publish.FILES, 0o000, True),
        (Drift.RESTORE, Publish.FILES, 0o400, True),
        (Drift.RESTORE, Publish.FILES, 0o500, False),
        (Drift.REPORT, Publish.FILES, 0o000, False),
        (Drift.KEEP, Publish.FILES, 0o000, False),
        (Drift.RESTORE, Publish.SYMLINK, 0o000, False),
    ],
)
def test_only_a_folder_that_hides_something_and_that_a_policy_puts_right_is_opened_first(
    drift: Drift, publish: Publish, mode: int, opened: bool
) -> None:
    recorded, remote = {FILE: LedgerRow(entry(0o755), STAT)}, {FILE: entry(0o755)}
    folders = OwnedDirectories.of(remote, recorded, {FOLDER}, JobState())
    local = {FILE: LocalFile(Kind.OTHER, None, 0, 0, 0, STAT, "can't look"), FOLDER: folder(mode)}
    assert [step.path for step in unlocking_actions(job(drift, publish), folders, local)] == (
        [FOLDER] if opened else []
    )
    assert unlocking_actions(job(drift), folders, {**local, FILE: None}) == ()
