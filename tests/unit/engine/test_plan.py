"""The planner. `plan_table.txt` has the expected answer to each of its 720 cases.

The other tests are about what a table for one file cannot show.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.engine.apply import apply_result
from syncd.engine.delete_limits import delete_limit_error
from syncd.engine.plan import make_plan
from syncd.models import (
    Action,
    ActionKind,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    PathRule,
    Plan,
    Stat,
    WantedFile,
)
from syncd.policies import Drift, Limits, Prune
from syncd.ports import ActionOutcome, ApplyOutcome

TABLE = Path(__file__).with_name("plan_table.txt")
ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
PATH = "/srv/x/file"
STAT = Stat(1, 2, 3, 4, 5)
WRITTEN = Stat(1, 7, 3, 8, 9)  # of a file that an action has written


def job(drift: Drift = Drift.RESTORE, prune: Prune = Prune.TRACKED, **limits: object) -> Job:
    return Job(
        "j",
        "i",
        "o/r",
        None,
        (PathRule("x", "/srv/x", True),),
        drift=drift,
        prune=prune,
        limits=Limits(**{"empty": True, "delete_share": 1.0, **limits}),  # type: ignore[arg-type]
    )


def entry(blob: str, mode: int = 0o644) -> WantedFile:
    return WantedFile(blob, mode, source="x/file", executable=False)


def local(
    blob: str | None, mode: int = 0o644, kind: Kind = Kind.FILE, stat: Stat = STAT
) -> LocalFile:
    return LocalFile(kind, blob, mode, 0, 0, stat)


REMOTE = {"-": None, "one": entry(ONE), "two": entry(TWO), "one 0755": entry(ONE, 0o755)}
LEDGER = {
    "-": None,
    "ours": LedgerRow(entry(ONE), STAT),
    "met": LedgerRow(entry(ONE), None, Ownership.FOREIGN),
    "dropped": LedgerRow(entry(ONE), STAT, Ownership.UNLISTED),
    "behind": LedgerRow(entry(ONE), STAT, wanted=entry(TWO)),
}
DISK = {
    "-": None,
    "one": local(ONE),
    "two": local(TWO),
    "three": local(THREE),
    "one 0755": local(ONE, 0o755),
    "link": local(THREE, 0o777, Kind.LINK),
    "folder": local(None, 0o755, Kind.DIRECTORY),
    "fifo": local(None, 0o644, Kind.OTHER),
}


@dataclass(frozen=True)
class Case:
    """One cell of the table: the situation, the policies, and the name of the expected outcome."""

    remote: str
    ledger: str
    disk: str
    drift: str
    prune: str
    outcome: str

    @property
    def situation(self) -> tuple[str, ...]:
        return self.remote, self.ledger, self.disk, self.drift, self.prune


def section(title: str) -> list[list[str]]:
    """The rows below `[title]`, each a list of its cells: two spaces or more are between cells."""
    text = TABLE.read_text().split(f"[{title}]\n")[1].split("\n[")[0]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def cases(title: str, prune: Prune) -> list[Case]:
    header, *rows = section(title)
    return [
        Case(remote, ledger, disk, drift, prune.value, outcome)
        for remote, ledger, disk, *outcomes in rows
        for drift, outcome in zip(header[3:], outcomes, strict=True)
    ]


CASES = cases("prune: tracked", Prune.TRACKED) + cases("prune: off", Prune.OFF)
BEHIND = cases("behind", Prune.TRACKED)
OUTCOMES = {name: tuple(rest) for name, *rest in section("outcomes")[1:]}


class InstantMirror:
    """A mirror on which every action goes well."""

    def apply(self, steps: list[Action]) -> ApplyOutcome:
        return ApplyOutcome({step.path: ActionOutcome(self._after(step)) for step in steps})

    def _after(self, step: Action) -> LocalFile | None:
        if step.wanted is None:
            return None
        return LocalFile(step.wanted.kind, step.wanted.blob, step.wanted.mode, 0, 0, WRITTEN)


def shown(plan: Plan) -> tuple[str, str, str, str]:
    """What a plan for one file says, in the words of the table."""
    if not plan.actions:
        return "none", "-", "-", "-"
    (action,) = plan.actions
    drift, trash = "drift" if action.is_drift else "-", "trash" if action.replaces_foreign else "-"
    return action.kind.value, drift, trash, action.reason


def name_of(known: WantedFile) -> str:
    return next(name for name, one in REMOTE.items() if one == known)


def ledger_after(plan: Plan, row: LedgerRow | None, want: WantedFile | None) -> str:
    """The ledger row once the plan has been applied, in the words of the table."""
    remote, recorded = {PATH: want} if want else {}, {PATH: row} if row else {}
    actions = [action for action in plan.actions if action.kind.touches_disk]
    result = apply_result(plan, recorded, remote, InstantMirror().apply(actions))
    assert result.error is None
    if PATH in result.removals:
        return "none"
    if PATH not in result.upserts:
        return "as it was"
    after = result.upserts[PATH]
    beside = f" for {name_of(after.wanted)}" if after.wanted else ""
    return f"{after.ownership.value} {name_of(after.entry)}{beside}"


@pytest.mark.parametrize("case", CASES + BEHIND, ids=lambda case: "/".join(case.situation))
def test_the_plan_for_one_file_is_as_the_table_says(case: Case) -> None:
    want, row, have = REMOTE[case.remote], LEDGER[case.ledger], DISK[case.disk]
    policies = job(Drift(case.drift), Prune(case.prune))
    remote, recorded = {PATH: want} if want else {}, {PATH: row} if row else {}
    plan = make_plan(policies, remote, recorded, {PATH: have})
    *action, after = OUTCOMES[case.outcome]
    assert shown(plan) == tuple(action)
    assert ledger_after(plan, row, want) == after.replace("R", case.remote)
    for step in plan.actions:
        assert (step.path, step.wanted, step.recorded, step.expected) == (PATH, want, row, have)


def test_the_table_has_each_case_once_and_uses_each_outcome() -> None:
    domain = {
        (remote, ledger, disk, drift.value, prune.value)
        for remote, ledger, disk, drift, prune in product(REMOTE, LEDGER, DISK, Drift, Prune)
        if (remote, ledger) != ("-", "-") and ledger != "behind"
    }
    assert len(CASES) == len(domain) == 720
    assert {case.situation for case in CASES} == domain
    assert {case.outcome for case in CASES} == set(OUTCOMES)


def adopted(row: LedgerRow, have: LocalFile) -> list[str]:
    plan = make_plan(job(), {PATH: entry(ONE)}, {PATH: row}, {PATH: have})
    return [action.kind.value for action in plan.actions]


@pytest.mark.parametrize(
    ("row", "have", "verbs"),
    [
        (LedgerRow(entry(ONE), STAT), local(ONE), []),
        (LedgerRow(entry(ONE), STAT), local(ONE, stat=WRITTEN), ["adopt"]),  # another inode
        (LedgerRow(entry(ONE), None), local(ONE), ["adopt"]),  # the ledger never saw its stat
        (LedgerRow(entry(ONE), STAT, wanted=entry(TWO)), local(ONE), ["adopt"]),
        (LedgerRow(replace(entry(ONE), source="y/file"), STAT), local(ONE), ["adopt"]),
        (LedgerRow(replace(entry(ONE), size=7), STAT), local(ONE), ["adopt"]),
    ],
)
def test_an_equal_file_is_adopted_where_the_ledger_says_anything_else(
    row: LedgerRow, have: LocalFile, verbs: list[str]
) -> None:
    assert adopted(row, have) == verbs


@pytest.mark.parametrize(
    ("was", "want", "drift", "shown_as"),
    [
        # the owner was changed here: the file belongs to 0:0, as local() says
        ({"uid": 7}, {"uid": 7}, Drift.RESTORE, ("mode", "drift", "-", "mode or owner")),
        (
            {"uid": 7},
            {"uid": 7},
            Drift.REPORT,
            ("keep", "drift", "-", "mode or owner changed here"),
        ),
        ({"gid": 7}, {"gid": 7}, Drift.RESTORE, ("mode", "drift", "-", "mode or owner")),
        ({"gid": 7}, {"gid": 7}, Drift.KEEP, ("keep", "-", "-", "mode or owner changed here")),
        # the configuration asks for another owner
        ({"uid": 0}, {"uid": 7}, Drift.REPORT, ("mode", "-", "-", "mode or owner")),
        ({"gid": 0}, {"gid": 7}, Drift.KEEP, ("mode", "-", "-", "mode or owner")),
        # both
        ({"uid": 5}, {"uid": 7}, Drift.REPORT, ("mode", "-", "-", "mode or owner")),
        ({"gid": 5}, {"gid": 7}, Drift.KEEP, ("keep", "-", "-", "mode or owner changed here")),
    ],
)
def test_an_owner_is_judged_as_a_mode_is(
    was: dict[str, int], want: dict[str, int], drift: Drift, shown_as: tuple[str, ...]
) -> None:
    before, asked = replace(entry(ONE), **was), replace(entry(ONE), **want)
    recorded = {PATH: LedgerRow(before, STAT)}
    assert shown(make_plan(job(drift), {PATH: asked}, recorded, {PATH: local(ONE)})) == shown_as


@pytest.mark.parametrize("drift", Drift)
def test_a_folder_of_the_job_becomes_a_file_under_every_policy(drift: Drift) -> None:
    inner = f"{PATH}/deep/inner"
    there = {PATH: local(None, 0o755, Kind.DIRECTORY), inner: local(ONE)}
    plan = make_plan(job(drift), {PATH: entry(TWO)}, {inner: LedgerRow(entry(ONE), STAT)}, there)
    assert [
        (one.path, one.kind.value, one.replaces_foreign, one.is_drift) for one in plan.actions
    ] == [
        (PATH, "write", False, False),
        (inner, "remove", False, False),
    ]


def test_a_folder_that_only_holds_files_of_others_does_not_become_a_file_under_report() -> None:
    inner = f"{PATH}/inner"
    there = {PATH: local(None, 0o755, Kind.DIRECTORY), inner: local(ONE)}
    met = {inner: LedgerRow(entry(ONE), None, Ownership.FOREIGN)}
    plan = make_plan(job(Drift.REPORT), {PATH: entry(TWO)}, met, there)
    assert [(one.path, one.kind.value) for one in plan.actions] == [
        (PATH, "keep"),
        (inner, "forget"),
    ]


@pytest.mark.parametrize(
    ("before", "want", "verb"),
    [
        (
            WantedFile(ONE, 0o644, executable=False),
            WantedFile(ONE, 0o755, executable=True),
            ActionKind.WRITE,
        ),  # upstream made it executable
        (
            WantedFile(ONE, 0o755, executable=True),
            WantedFile(ONE, 0o644, executable=False),
            ActionKind.WRITE,
        ),  # and not so any more
        (
            WantedFile(ONE, 0o640, executable=False),
            WantedFile(ONE, 0o640, executable=True),
            ActionKind.KEEP,
        ),  # `mode` is given: nothing changes here
        (
            WantedFile(ONE, 0o644, executable=False),
            WantedFile(ONE, 0o640, executable=False),
            ActionKind.KEEP,
        ),  # only the configuration has another `mode`
        (
            WantedFile(ONE, 0o644, executable=True),
            WantedFile(ONE, 0o755, executable=True),
            ActionKind.KEEP,
        ),  # and here it has none any more
        (
            WantedFile(ONE, 0o644),
            WantedFile(ONE, 0o755, executable=True),
            ActionKind.KEEP,
        ),  # a ledger that does not know what git said
        (
            WantedFile(ONE, 0o755, executable=True),
            WantedFile(ONE, 0o644),
            ActionKind.KEEP,
        ),  # and a set of such a ledger that is gone back to
    ],
)
def test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit(
    before: WantedFile, want: WantedFile, verb: ActionKind
) -> None:
    (step,) = make_plan(
        job(Drift.REPORT), {PATH: want}, {PATH: LedgerRow(before, STAT)}, {PATH: local(TWO)}
    ).actions
    assert (step.kind, step.replaces_foreign) == (verb, verb is ActionKind.WRITE)


def test_actions_come_in_path_order_and_a_path_only_the_disk_has_does_not_appear() -> None:
    remote = {f"/srv/x/{name}": entry(ONE) for name in "cab"}
    plan = make_plan(job(), remote, {}, {"/srv/x/z": local(TWO)})
    assert [action.path for action in plan.actions] == ["/srv/x/a", "/srv/x/b", "/srv/x/c"]


@pytest.mark.parametrize(
    ("recorded", "removed", "limits", "allow", "braked"),
    [
        (40, 20, {"delete_share": 0.5}, None, False),
        (40, 21, {"delete_share": 0.5}, None, True),
        (12, 10, {"delete_share": 0.5}, None, False),
        (12, 11, {"delete_share": 0.5}, None, True),
        (40, 5, {"delete_share": None, "delete_count": 5}, None, False),
        (40, 6, {"delete_share": None, "delete_count": 5}, None, True),
        (40, 28, {"delete_share": 0.5}, 27, True),
        (40, 28, {"delete_share": 0.5}, 28, False),
        (3, 3, {"delete_share": 1.0, "empty": False}, None, True),
        (3, 3, {"delete_share": 1.0, "empty": False}, 3, False),
        (3, 3, {"delete_share": 1.0, "empty": True}, None, False),
    ],
)
def test_limits_on_removals(
    recorded: int, removed: int, limits: dict[str, object], allow: int | None, braked: bool
) -> None:
    paths = [f"/srv/x/{number:03d}" for number in range(recorded)]
    rows = {path: LedgerRow(entry(ONE), STAT) for path in paths}
    remote = {path: entry(ONE) for path in paths[removed:]}
    there = {path: local(ONE) for path in paths}
    plan = make_plan(job(**limits), remote, rows, there)
    assert len(plan.of(ActionKind.REMOVE)) == removed
    error = delete_limit_error(job(**limits), plan, remote, rows, allow)
    assert (error is not None) is braked
    if error is not None:
        assert f"--allow-delete {removed}" in (error.hint or "")
