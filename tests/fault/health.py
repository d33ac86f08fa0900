"""Faults inside a health window: a run dies at a line of it, or the power goes.

The check is one of ours that knows whether the set of this turn is good, and writes down which set
it judged. Whatever dies, a bad set is never called healthy, a good one only after its checks, and
no check and no reload ever sees half a set. One more run ends with the set that has to be there.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.context import Options, RunContext
from syncd.engine.health_check import finish_window, watch, window_report
from syncd.engine.reload import JobRun, run_job_and_reload, run_reload
from syncd.engine.rollback import rollback_target
from syncd.engine.run import run_job
from syncd.errors import SyncdError
from syncd.models import Health, Hook, Job, RunReport, RunStatus, Trigger
from syncd.ports import HookCall, HookResult, JobState
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from tests.fault.mounts import privately
from tests.fault.points import (
    Tally,
    ask_child,
    at_each_line,
    ending,
    in_child,
    kill_self_at_line,
)
from tests.fault.power import _run_and_cut, devices
from tests.fault.scene import JOB, MemorySource, Scene, Workbench, sets
from tests.fault.switched import SwitchedScene
from tests.fault.test_hook_faults import Gone, HookScene, WrittenDown
from tests.support.clock import FakeClock

CHECK = Health(Hook("healthy", ("healthy",)), 30.0, 5.0, 5.0, 2)
CHECKS = 6  # of a window; a gap stands for two intervals
BEGIN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class CheckedHooks(WrittenDown):
    """`on_check` is called before each check is done."""

    on_check: Callable[[], None] = lambda: None

    def run(self, call: HookCall, deadline: Deadline) -> HookResult:
        scene = self.scene
        if call.hook != CHECK.command or not isinstance(scene, HealthScene):
            return super().run(call, deadline)
        self.on_check()
        stands = scene.which()
        with open(scene.checks, "a") as log:
            log.write(stands + "\n")
        is_bad = scene.bad and stands == "AB"[scene.head]
        return HookResult(status=1 if is_bad else 0)


@dataclass
class HealthScene(HookScene):
    """`bad`: the set of this turn is not healthy. `hours` have passed since the first run."""

    bad: bool = False
    hours: int = 0
    on_check: Callable[[], None] = lambda: None

    @property
    def notes(self) -> Path:
        """Where the hooks write down what they saw."""
        return self.base.parent

    @property
    def log(self) -> Path:
        return self.notes / "log"

    @property
    def checks(self) -> Path:
        return self.notes / "checks"

    def judged(self) -> list[str]:
        return self.checks.read_text().split() if self.checks.exists() else []

    @property
    def job(self) -> Job:
        return replace(super().job, health=CHECK)

    def run(self, head: int | None = None) -> RunReport:
        """One whole run as a one-shot does it: an open window first, then the run and its own."""
        with self._context(self.head if head is None else head) as (ctx, deadline):
            before = window_report(self.job, ctx.store.state(JOB), self.trigger)
            finish_window(JobRun(self.job, ctx, before), deadline)
            report = run_job(self.job, ctx, deadline, Options(trigger=self.trigger))
            member = JobRun(self.job, ctx, report)
            (done,) = watch([member], run_reload([member], deadline), deadline)
            return done

    def roll_back(self) -> RunReport:
        """What `syncd rollback` does."""
        with self._context(self.head) as (ctx, deadline):
            back = rollback_target(self.job, ctx.store.sets(JOB), ctx.store.state(JOB), None)
            options = Options(trigger=Trigger.ROLLBACK, rollback_set=back)
            return run_job_and_reload(self.job, ctx, deadline, options)

    @contextmanager
    def _context(self, head: int) -> Iterator[tuple[RunContext, Deadline]]:
        source = (Gone if self.away else MemorySource)(self.trees)
        source.head = head
        clock = FakeClock(BEGIN + timedelta(hours=self.hours))
        store = SqliteStore.open(self.state)
        try:
            ctx = RunContext(
                source,
                store,
                self.disk(clock),
                BlobCache(self.state / "blobs"),
                clock,
                lambda _: (None, None),
                "scope",
                frozenset({JOB}),
                CheckedHooks(self, self.dies, self.on_check),
            )
            yield ctx, Deadline(clock, 600.0)
        finally:
            store.close()

    def files(self, head: int) -> dict[str, object]:
        return {path: node for path, node in self.expected(head).items() if not path.endswith("/")}

    def which(self) -> str:
        """`A`, `B`, `mixed`: the set that is in place."""
        shown = {path: node for path, node in self.shown().items() if not path.endswith("/")}
        return next((name for name in "AB" if shown == self.files("AB".index(name))), "mixed")

    def stored(self) -> JobState:
        store = SqliteStore.open(self.state)
        try:
            return store.state(JOB)
        finally:
            store.close()

    def forget_rejection(self) -> None:
        """As another configuration of the hooks does."""
        self._change(
            lambda state: replace(state.after_success(self.now), rejection=None, condition=None)
        )

    def resume(self) -> None:
        """What `syncd resume` does."""
        self._change(lambda state: replace(state, held=False))

    def _change(self, change: Callable[[JobState], JobState]) -> None:
        store = SqliteStore.open(self.state)
        try:
            store.change_state(JOB, change)
        finally:
            store.close()

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(hours=self.hours)


class SwitchedHealthScene(HealthScene, SwitchedScene):
    """The same with `publish: symlink`."""


class CutHealthScene(HealthScene):
    """The same on a device whose power goes: what the hooks saw is on another one."""

    @property
    def notes(self) -> Path:
        return self.base.parents[1]

    def which(self) -> str:
        """As above; raises OSError where the power has gone, since names are missing then."""
        found = super().which()
        os.close(os.open(self.base, os.O_RDONLY | os.O_DIRECTORY))
        return found


class Turn:
    """One change of a scene: to the other set, which is good or bad, and was never rejected."""

    def __init__(self, scene: HealthScene, bad: bool) -> None:
        self.scene, self.before = scene, scene.which()
        scene.head, scene.bad = 1 - "AB".index(self.before), bad
        scene.hours += 24
        scene.log.unlink(missing_ok=True)
        scene.checks.unlink(missing_ok=True)
        scene.forget_rejection()

    @property
    def target(self) -> str:
        return "AB"[self.scene.head]

    @property
    def final(self) -> str:
        return self.before if self.scene.bad else self.target

    def wrong_now(self) -> list[str]:
        """What must never be so right after a fault."""
        scene, wrong = self.scene, self.scene.shown_wrong()
        wrong += [f"half a set: {name}" for name in scene.judged() + scene.ran() if name == "mixed"]
        stored = scene.stored()
        is_well = stored.condition_at(scene.now) == "in_sync"
        if is_well and scene.which() != self.before and not self._was_checked():
            wrong.append(f"healthy: {scene.which()} after {scene.judged()}")
        return wrong

    def _was_checked(self) -> bool:
        return not self.scene.bad and self.scene.judged().count(self.target) >= CHECKS - 1

    def heal(self) -> list[str]:
        """What is wrong after one more run."""
        scene = self.scene
        scene.hours += 1
        try:
            report = scene.run()
        except SyncdError as error:
            return [f"needs a person: {error}"]
        except Exception as error:
            return [f"traceback: {error!r}"]
        wrong = self.wrong_now() + scene.leftovers() + scene.foreign_touched()
        good = (RunStatus.CHANGED, RunStatus.UNCHANGED)
        if (report.status in good) is scene.bad:
            wrong.append(f"ends otherwise: {report.status} {report.error}")
        if scene.which() != self.final:
            wrong.append(f"does not converge: {scene.which()} and not {self.final}")
        stored, commit = scene.stored(), f"{'AB'.index(self.final) + 1:040x}"
        if (stored.pending_health, stored.undo, stored.applied_commit) != (None, None, commit):
            wrong.append(f"state: {stored}")
        if scene.ran() and scene.ran()[-1] != self.final:
            wrong.append(f"reload: {scene.ran()}")
        if scene.bad and scene.judged().count(self.target) < CHECK.failures:
            wrong.append(f"rejected too early: {scene.judged()}")
        return wrong


def _lines(scene: HealthScene) -> tuple[int, int]:
    """How many lines of ours one run passes, and how many before its first check.

    The run is made, in a child.
    """

    def work() -> tuple[int, int]:
        passed, first = [0], [0]
        scene.on_check = lambda: first.__setitem__(0, first[0] or passed[0])
        at_each_line(lambda: passed.__setitem__(0, passed[0] + 1), lambda: ending(scene))
        assert first[0] > 0, "no check was done"
        return passed[0], first[0]

    return ask_child(work)


def kills_in_the_window(
    points: int, seed: int, scene: type[HealthScene] = HealthScene, away: bool = False
) -> Tally:
    """SIGKILL at so many lines of health windows, of good sets and of bad ones.

    `away`: GitHub can't be reached by the first run after each, which still ends the window.
    """
    tally, rng, began = Tally("SIGKILL in a health window"), random.Random(seed), time.monotonic()
    with Workbench(scene=scene, trees=sets()) as bench:
        lines: dict[tuple[int, bool], tuple[int, int]] = {}
        for bad in (True, False) * 2:
            turn = Turn(_scene(bench), bad)
            lines[turn.scene.head, bad] = _lines(turn.scene)
        tally.of = sum(total - first for total, first in lines.values())
        while tally.points < points:
            bad = rng.random() < 0.5
            turn = Turn(_scene(bench), bad)
            total, first = lines[turn.scene.head, bad]
            k = rng.randint(first, total)
            end = in_child(lambda k=k, turn=turn: kill_self_at_line(k, lambda: ending(turn.scene)))
            tally.points += 1
            tally.ends[_ended(turn, end != -signal.SIGKILL)] += 1
            wrong = turn.wrong_now()
            if away:
                wrong += _without_github(turn)
            wrong += turn.heal()
            where = f"line {k} of {total} towards {turn.target}, {'bad' if bad else 'good'}"
            tally.violations += [f"{where}: {one}" for one in wrong]
            if wrong:
                bench.renew()
    tally.seconds = time.monotonic() - began
    return tally


def _without_github(turn: Turn) -> list[str]:
    scene = turn.scene
    scene.away, scene.hours = True, scene.hours + 1
    was_open = scene.stored().checking
    scene.run()
    scene.away = False
    wrong = turn.wrong_now()
    if was_open and scene.which() != turn.final:
        wrong.append(f"waits for GitHub: {scene.which()}")
    return wrong


def cuts_in_the_window(kind: str, points: int, seed: int) -> Tally:
    """So many power cuts at random moments of runs with a health window, and a little past them."""
    return privately(lambda: _cuts(kind, points, seed))


def _cuts(kind: str, points: int, seed: int) -> Tally:
    tally, rng = Tally(f"power cuts in a health window, {kind}"), random.Random(seed)
    with (
        devices(kind, False) as disks,
        Workbench(
            scene=CutHealthScene,
            trees=sets(),
            base=disks[0].place / "base",
            state=disks[0].place / "state",
        ) as bench,
    ):
        began = time.monotonic()
        first, last = _moments(bench)
        while tally.points < points:
            turn = Turn(_scene(bench), rng.random() < 0.5)
            gc.collect()  # an error of the turn before may hold an open file
            for disk in disks:
                disk.sync()
            told = _run_and_cut(bench.scene, disks, rng, rng.uniform(first, last))
            tally.points += 1
            tally.ends[_ended(turn, told)] += 1
            wrong = turn.wrong_now()
            if told and turn.scene.which() != turn.target:
                wrong.append("lost after success")
            wrong += turn.heal()
            tally.violations += [f"cut {tally.points} to {turn.target}: {one}" for one in wrong]
            if wrong:
                bench.renew()
        tally.seconds = time.monotonic() - began
    return tally


def _moments(bench: Workbench) -> tuple[float, float]:
    """How many seconds after the begin of a run its first check is, and its end at the latest."""
    firsts, lasts = [], []
    for bad in (True, False) * 2:
        scene, checked = Turn(_scene(bench), bad).scene, list[float]()
        scene.on_check = lambda checked=checked: checked.append(time.monotonic())
        began = time.monotonic()
        scene.run()
        lasts.append(time.monotonic() - began)
        firsts.append(checked[0] - began)
        scene.on_check = lambda: None
    return min(firsts), max(lasts)


def _ended(turn: Turn, told: bool) -> str:
    """What a fault found: a window that was open, one that was not, or a run that was done."""
    if told:
        return "after success"
    return "in an open window" if turn.scene.stored().pending_health else "outside a window"


def _scene(bench: Workbench) -> HealthScene:
    scene: Scene = bench.scene
    assert isinstance(scene, HealthScene)
    return scene
