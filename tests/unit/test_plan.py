"""The planner over its whole small domain: every want, record and disk state, every policy, against rules written down again."""

from __future__ import annotations

from itertools import product

import pytest

from syncd.engine.plan import make_plan
from syncd.errors import BrakeError
from syncd.models import Drift, Entry, Job, Kind, Limits, Local, PathRule, Prune, Recorded, Standing, Stat, Verb

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
PATH = "/srv/x/file"
STAT = Stat(1, 2, 3, 4, 5)
OTHER = Stat(1, 2, 3, 4, 6)


def job(drift: Drift = Drift.RESTORE, prune: Prune = Prune.TRACKED, **limits: object) -> Job:
    return Job("j", "i", "o/r", None, (PathRule("x", "/srv/x", True),), drift=drift, prune=prune, limits=Limits(**{"empty": True, "delete_share": 1.0, **limits}))  # type: ignore[arg-type]


def entry(blob: str, mode: int = 0o644) -> Entry:
    return Entry(blob, mode, source="x/file")


def local(blob: str | None, mode: int = 0o644, kind: Kind = Kind.FILE, stat: Stat = STAT) -> Local:
    return Local(kind, blob, mode, 0, 0, stat)


WANTS = {"absent": None, "one": entry(ONE), "two": entry(TWO), "one-exec": entry(ONE, 0o755)}
HADS = {"none": None, "one": Recorded(entry(ONE), STAT), "met-one": Recorded(entry(ONE), None, Standing.MET), "dropped-one": Recorded(entry(ONE), STAT, Standing.DROPPED)}
HAVES = {
    "absent": None, "one": local(ONE), "two": local(TWO), "three": local(THREE), "one-exec": local(ONE, 0o755),
    "link": local(THREE, 0o777, Kind.LINK), "folder": local(None, 0o755, Kind.DIRECTORY), "fifo": local(None, 0o644, Kind.OTHER),
}  # fmt: skip
DOMAIN = [
    (want, had, have, drift, prune)
    for want, had, have, drift, prune in product(WANTS, HADS, HAVES, Drift, Prune)
    if not (want == "absent" and had == "none")
]


@pytest.mark.parametrize(("want", "had", "have", "drift", "prune"), DOMAIN, ids=["/".join(case) for case in DOMAIN])
def test_every_case_keeps_the_promises(want: str, had: str, have: str, drift: Drift, prune: Prune) -> None:
    wanted, row, there = WANTS[want], HADS[had], HAVES[have]
    remote = {PATH: wanted} if wanted else {}
    recorded = {PATH: row} if row else {}
    plan = make_plan(job(drift, prune), remote, recorded, {PATH: there})
    action = plan.actions[0] if plan.actions else None
    verb = action.verb if action else None
    ours = row is not None and row.standing is not Standing.MET
    our_bytes = ours and row is not None and row.entry.same_content(there)

    if verb is Verb.REMOVE:
        assert wanted is None and our_bytes and prune is Prune.TRACKED, "only our own unchanged bytes are ever removed"
    if wanted is None and our_bytes and prune is Prune.TRACKED:
        assert verb is Verb.REMOVE
    if there is not None and not our_bytes and verb in (Verb.WRITE, Verb.RESTORE) and wanted and not wanted.same_content(there):
        assert action is not None and action.takes_over, "foreign bytes that are replaced go to the trash"
        assert drift is not Drift.KEEP, "keep never replaces what somebody else put there"
    if wanted is not None and drift is Drift.RESTORE:
        settled = wanted.same_content(there) and wanted.same_looks(there) if there else False
        assert verb in ((Verb.ADOPT, None) if settled else (Verb.WRITE, Verb.RESTORE, Verb.MODE)), "restore always ends with what upstream has"
    if verb is Verb.KEEP and action is not None and action.want is not None:
        assert drift is not Drift.RESTORE and action.drifted == (drift is Drift.REPORT)
    if action is not None:
        assert action.expect == there, "what was seen is checked again at the moment of acting"


@pytest.mark.parametrize(
    ("before", "want", "verb"),
    [
        (Entry(ONE, 0o644, executable=False), Entry(ONE, 0o755, executable=True), Verb.WRITE),  # upstream made it executable
        (Entry(ONE, 0o755, executable=True), Entry(ONE, 0o644, executable=False), Verb.WRITE),  # and not so any more
        (Entry(ONE, 0o640, executable=False), Entry(ONE, 0o640, executable=True), Verb.KEEP),  # `mode` is given: nothing changes here
        (Entry(ONE, 0o644, executable=False), Entry(ONE, 0o640, executable=False), Verb.KEEP),  # only the configuration has another `mode`
        (Entry(ONE, 0o644, executable=True), Entry(ONE, 0o755, executable=True), Verb.KEEP),  # and here it has none any more
        (Entry(ONE, 0o644), Entry(ONE, 0o755, executable=True), Verb.KEEP),  # a ledger that does not know what git said
        (Entry(ONE, 0o755, executable=True), Entry(ONE, 0o644), Verb.KEEP),  # and a set of such a ledger that is gone back to
    ],
)
def test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit(before: Entry, want: Entry, verb: Verb) -> None:
    (step,) = make_plan(job(Drift.REPORT), {PATH: want}, {PATH: Recorded(before, STAT)}, {PATH: local(TWO)}).actions
    assert (step.verb, step.takes_over) == (verb, verb is Verb.WRITE)


def test_an_equal_file_with_an_equal_record_is_no_action_at_all() -> None:
    assert make_plan(job(), {PATH: entry(ONE)}, {PATH: Recorded(entry(ONE), STAT)}, {PATH: local(ONE)}).actions == ()


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
def test_limits_on_removals(recorded: int, removed: int, limits: dict[str, object], allow: int | None, braked: bool) -> None:
    paths = [f"/srv/x/{number:03d}" for number in range(recorded)]
    rows = {path: Recorded(entry(ONE), STAT) for path in paths}
    remote = {path: entry(ONE) for path in paths[removed:]}
    there = {path: local(ONE) for path in paths}
    if braked:
        with pytest.raises(BrakeError) as caught:
            make_plan(job(**limits), remote, rows, there, allow)
        assert "--allow-delete" in (caught.value.hint or "")
    else:
        assert len(make_plan(job(**limits), remote, rows, there, allow).of(Verb.REMOVE)) == removed
