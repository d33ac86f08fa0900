"""What the set asks of directories, and what the plan does about one that is otherwise."""

from __future__ import annotations

import re
from itertools import permutations

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


# What the plan does about a directory, by the mode that the ledger has, that the set asks for and
# that is on disk. `-`: nothing. A change by syncd or upstream is no drift.
MODE_TABLE = """
ledger  wanted  on disk  restore     report      keep
none    755     755      -           -           -
none    755     750      mode        keep drift  keep
none    755     700      mode        keep drift  keep
none    750     755      mode        keep drift  keep
none    750     750      -           -           -
none    750     700      mode        keep drift  keep
none    700     755      mode        keep drift  keep
none    700     750      mode        keep drift  keep
none    700     700      -           -           -
755     755     755      -           -           -
755     755     750      mode drift  keep drift  keep
755     755     700      mode drift  keep drift  keep
755     750     755      mode        mode        mode
755     750     750      -           -           -
755     750     700      mode        mode        keep
755     700     755      mode        mode        mode
755     700     750      mode        mode        keep
755     700     700      -           -           -
750     755     755      -           -           -
750     755     750      mode        mode        mode
750     755     700      mode        mode        keep
750     750     755      mode drift  keep drift  keep
750     750     750      -           -           -
750     750     700      mode drift  keep drift  keep
750     700     755      mode        mode        keep
750     700     750      mode        mode        mode
750     700     700      -           -           -
700     755     755      -           -           -
700     755     750      mode        mode        keep
700     755     700      mode        mode        mode
700     750     755      mode        mode        keep
700     750     750      -           -           -
700     750     700      mode        mode        mode
700     700     755      mode drift  keep drift  keep
700     700     750      mode drift  keep drift  keep
700     700     700      -           -           -
"""


def mode_rows() -> list[tuple[str, str, str, Drift, str]]:
    """Return (ledger, wanted, on disk, drift policy, expected) for each cell of the table."""
    head, *lines = (re.split(r"  +", line) for line in MODE_TABLE.strip().splitlines())
    return [
        (line[0], line[1], line[2], Drift(policy), expected)
        for line in lines
        for policy, expected in zip(head[3:], line[3:], strict=True)
    ]


def test_the_table_of_modes_has_every_case_once() -> None:
    cases = [row[:4] for row in mode_rows()]
    assert len(cases) == len(set(cases)) == 4 * 3 * 3 * len(Drift)


@pytest.mark.parametrize(("before", "want", "have", "drift", "expected"), mode_rows())
def test_the_plan_for_a_directorys_mode_is_as_the_table_says(
    before: str, want: str, have: str, drift: Drift, expected: str
) -> None:
    remote = {FILE: entry(int(want, 8))}
    recorded = {FILE: LedgerRow(entry(int(before, 8)), STAT)} if before != "none" else {}
    local = {
        FILE: LocalFile(Kind.FILE, ONE, 0o644, 0, 0, STAT),
        FOLDER: folder(int(have, 8)),
    }
    folders = OwnedDirectories.of(remote, recorded, {FOLDER}, JobState())
    plan = make_plan(job(drift), remote, recorded, local, folders)
    found = [step for step in plan.actions if step.path == FOLDER]
    shown = [step.kind.value + (" drift" if step.is_drift else "") for step in found]
    assert shown == ([] if expected == "-" else [expected])


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
