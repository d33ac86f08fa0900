"""SIGKILL at lines of runs with hooks: a reload runs at least once per applied change, never for a
set that is not whole, and an undo is finished.

The hook is one of ours that writes down which set stands when it is called; how real processes end
is in tests/unit/hooks/test_runner.py. SYNCD_HOOK_FAULTS says how many points (`all` for every
line); the default is a sample that costs seconds.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.context import Options, RunContext
from syncd.engine.reload import run_job_and_reload
from syncd.errors import RemoteUnavailableError
from syncd.mirror.disk_mirror import DiskMirror
from syncd.models import Hook, Job, RunReport, RunStatus, Trigger
from syncd.ports import Head, HookCall, HookResult, StagedFile
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from tests.fault.points import _die_at, count_lines, in_child
from tests.fault.scene import JOB, MemorySource, Node, Scene, look
from tests.support.clock import FakeClock

THEIRS = b"it was here before us\n"


@dataclass
class WrittenDown:
    """Hooks that only note what stands; `fails` says for which sets;
    `dies` kills the process when it has run so often.
    """

    scene: HookScene
    dies: int | None = None

    def validate(
        self, call: HookCall, files: Sequence[StagedFile], deadline: Deadline
    ) -> HookResult:
        return HookResult(status=0)

    def run(self, call: HookCall, deadline: Deadline) -> HookResult:
        stands = self.scene.which()
        with open(self.scene.log, "a") as log:
            log.write(stands + "\n")
        if self.dies is not None and len(self.scene.ran()) >= self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return HookResult(
            status=1 if stands in self.scene.fails else 0,
            output="reload: bad set\n" if stands in self.scene.fails else "",
        )


class Gone(MemorySource):
    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        raise RemoteUnavailableError("nobody there")


@dataclass
class HookScene(Scene):
    """The scene of every fault test, with a reload."""

    fails: tuple[str, ...] = ()
    undo: bool = False
    away: bool = False
    dies: int | None = None
    trigger: Trigger = Trigger.OPERATOR
    theirs: dict[str, Node] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.base.parent / "log"

    def ran(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    @property
    def job(self) -> Job:
        return replace(
            super().job, on_change=Hook("reload", ("reload",)), undo_on_failure=self.undo
        )

    def run(self, head: int | None = None) -> RunReport:
        source = (Gone if self.away else MemorySource)(self.trees)
        source.head = self.head if head is None else head
        clock, store = FakeClock(), SqliteStore.open(self.state)
        try:
            ctx = RunContext(
                source,
                store,
                DiskMirror(self.state / "trash", clock),
                BlobCache(self.state / "blobs"),
                clock,
                lambda _: (None, None),
                "scope",
                frozenset({JOB}),
                WrittenDown(self, self.dies),
            )
            return run_job_and_reload(
                self.job, ctx, Deadline(clock, 600.0), Options(trigger=self.trigger)
            )
        finally:
            store.close()

    def which(self) -> str:
        """`A`, `B`, or `mixed`: the set that stands. Files of others are what they are."""
        shown = {path: node for path, node in self.shown().items() if not path.endswith("/")}
        for name, tree in zip("AB", self.trees, strict=True):
            if shown == ({**tree, **self.theirs} if name == "A" else dict(tree)):
                return name
        return "mixed"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = (
        Path("/dev/shm") / f"syncd-hooks-{os.getpid()}-{tmp_path.name}"
        if os.path.isdir("/dev/shm")
        else tmp_path / "scene"
    )
    yield place
    shutil.rmtree(place, ignore_errors=True)


def fresh(folder: Path, **how: object) -> HookScene:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    scene = HookScene(folder / "base", folder / "state")
    scene.begin()
    for name, value in how.items():
        setattr(scene, name, value)
    for path, node in scene.theirs.items():
        assert isinstance(node, bytes)
        scene.path_of(path).write_bytes(node)
    return scene


def lines_of(total: int, sample: int) -> list[int]:
    asked = os.environ.get("SYNCD_HOOK_FAULTS", str(sample))
    every = range(1, total + 1)
    return (
        list(every)
        if asked == "all"
        else sorted(random.Random(5).sample(every, min(int(asked), total)))
    )


def each_line(
    folder: Path,
    make: Callable[[], HookScene],
    sample: int,
    judge: Callable[[HookScene, str], None],
) -> int:
    """The scene is killed at line after line, each time from its beginning;
    how many points there were.
    """
    counted = make()
    counted.head = 1
    total = count_lines(counted)
    chosen = lines_of(total, sample)
    for number in chosen:
        scene = make()
        scene.log.unlink(missing_ok=True)
        scene.head = 1
        end = in_child(lambda scene=scene, number=number: _die_at(scene, number))
        assert end in (-signal.SIGKILL, 0, 10), f"line {number}: ended with {end}"
        judge(scene, f"line {number} of {total}")
    return len(chosen)


def test_killed_anywhere_the_reload_runs_at_least_once_for_the_new_set_and_never_for_half_of_one(
    folder: Path,
) -> None:
    def judge(scene: HookScene, where: str) -> None:
        assert "mixed" not in scene.ran() and scene.shown_wrong() == [], where
        healed = scene.run()
        assert healed.status in (RunStatus.CHANGED, RunStatus.UNCHANGED), f"{where}: {healed.error}"
        assert scene.which() == "B" and scene.leftovers() == [], where
        assert scene.ran() in (["B"], ["B", "B"]), f"{where}: {scene.ran()}"
        before = len(scene.ran())
        assert scene.run().status is RunStatus.UNCHANGED and len(scene.ran()) == before, (
            f"{where}: paid twice"
        )

    assert each_line(folder, lambda: fresh(folder), 12, judge) > 0


def test_killed_anywhere_and_then_without_github_no_reload_is_for_half_a_set_and_none_is_lost(
    folder: Path,
) -> None:
    def judge(scene: HookScene, where: str) -> None:
        scene.away = True
        assert scene.run().status is RunStatus.FAILED, where
        assert "mixed" not in scene.ran() and "A" not in scene.ran(), f"{where}: {scene.ran()}"
        if scene.which() == "B":
            assert "B" in scene.ran(), f"{where}: the set stands and its reload is not paid"
        scene.away = False
        scene.run()
        assert scene.which() == "B" and "B" in scene.ran(), where

    each_line(folder, lambda: fresh(folder), 8, judge)


def test_killed_anywhere_on_the_way_there_and_back_an_undo_ends_with_what_stood_before(
    folder: Path,
) -> None:
    def judge(scene: HookScene, where: str) -> None:
        assert "mixed" not in scene.ran(), f"{where}: {scene.ran()}"
        healed = scene.run()
        assert healed.status is RunStatus.REFUSED, f"{where}: {healed.status} {healed.error}"
        assert scene.which() == "A" and scene.leftovers() == [] and scene.foreign_touched() == [], (
            f"{where}: {scene.which()}"
        )
        assert scene.ran()[-1] == "A" and "mixed" not in scene.ran(), f"{where}: {scene.ran()}"
        before = len(scene.ran())
        again = scene.run()
        assert (
            again.status is RunStatus.REFUSED
            and scene.which() == "A"
            and len(scene.ran()) == before
        ), f"{where}: not at rest"
        assert look(str(scene.path_of("conf/add"))) == THEIRS, where

    each_line(
        folder,
        lambda: fresh(folder, fails=("B",), undo=True, theirs={"conf/add": THEIRS}),
        16,
        judge,
    )


@pytest.mark.parametrize("deaths", [1, 2])
def test_killed_in_the_hook_itself_it_runs_again(folder: Path, deaths: int) -> None:
    scene = fresh(folder)
    scene.log.unlink()
    scene.head, scene.dies = 1, 1
    for _ in range(deaths):
        assert in_child(lambda: 0 if scene.run().error is None else 1) == -signal.SIGKILL
    scene.dies = None
    assert scene.run().status is RunStatus.UNCHANGED
    assert scene.ran() == ["B"] * (deaths + 1)
    assert scene.run().status is RunStatus.UNCHANGED and len(scene.ran()) == deaths + 1


def test_killed_in_the_second_reload_of_an_undo_it_runs_again_for_the_previous_set(
    folder: Path,
) -> None:
    scene = fresh(folder, fails=("B",), undo=True)
    scene.log.unlink()
    scene.head, scene.dies = 1, 2
    assert in_child(lambda: 0 if scene.run().error is None else 1) == -signal.SIGKILL
    scene.dies = None
    assert scene.run().status is RunStatus.REFUSED
    assert scene.ran() == ["B", "A", "A"] and scene.which() == "A"
