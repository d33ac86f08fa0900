"""What applying a plan results in: ledger rows, changes and errors,
by the outcome of each action.
"""

from __future__ import annotations

import pytest

from syncd.engine.apply import ApplyResult, apply_result
from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.models import Action, ActionKind, Kind, LedgerRow, LocalFile, Plan, Stat, WantedFile
from syncd.ports import ActionOutcome, ApplyOutcome

ONE, TWO = "1" * 40, "2" * 40
BEFORE, AFTER = Stat(1, 2, 3, 4, 5), Stat(1, 7, 3, 8, 9)


def local(blob: str, stat: Stat = BEFORE) -> LocalFile:
    return LocalFile(Kind.FILE, blob, 0o644, 0, 0, stat)


def row(blob: str) -> LedgerRow:
    return LedgerRow(WantedFile(blob, 0o644), BEFORE)


def write(path: str) -> Action:
    return Action(
        ActionKind.WRITE, path, WantedFile(TWO, 0o644), row(ONE), local(ONE), "changed upstream"
    )


def remove(path: str) -> Action:
    return Action(ActionKind.REMOVE, path, None, row(ONE), local(ONE), "dropped upstream")


def applied(plan: Plan, answer: ApplyOutcome) -> ApplyResult:
    recorded = {action.path: row(ONE) for action in plan.actions}
    remote = {action.path: action.wanted for action in plan.actions if action.wanted is not None}
    return apply_result(plan, recorded, remote, answer)


def test_a_failed_action_leaves_its_row_and_is_no_change() -> None:
    plan = Plan((write("/a"), write("/b"), remove("/c"), remove("/d")))
    failed = MirrorError("no", path="/b")
    outcomes = {
        "/a": ActionOutcome(local(TWO, AFTER)),
        "/b": ActionOutcome(local(ONE), failed),
        "/c": ActionOutcome(None),
        "/d": ActionOutcome(local(ONE), MirrorError("neither", path="/d")),
    }
    result = applied(plan, ApplyOutcome(outcomes))
    assert result.upserts == {"/a": LedgerRow(WantedFile(TWO, 0o644), AFTER)}
    assert result.removals == {"/c"}
    assert [(change.action, change.path) for change in result.changes] == [
        (ActionKind.WRITE, "/a"),
        (ActionKind.REMOVE, "/c"),
    ]
    assert result.error is not None
    assert (result.error.message, result.error.path) == ("no (and 1 more)", "/b")


def test_trouble_beside_the_actions_is_an_error_of_the_run() -> None:
    trouble = MirrorError("an empty folder can't be removed", path="/folder")
    plan = Plan((write("/a"),))
    result = applied(
        plan, ApplyOutcome({"/a": ActionOutcome(local(TWO, AFTER))}, other_errors=(trouble,))
    )
    assert result.error is trouble
    assert list(result.upserts) == ["/a"]


@pytest.mark.parametrize(
    ("errors", "only"),
    [
        ((), False),
        ((ChangedUnderneathError("edited", path="/a"),), True),
        ((ChangedUnderneathError("edited", path="/a"), MirrorError("no", path="/b")), False),
    ],
)
def test_a_run_plans_anew_only_for_files_that_were_changed_meanwhile(
    errors: tuple[MirrorError, ...], only: bool
) -> None:
    assert ApplyResult(errors=errors).only_changed_underneath is only
