"""No room: the destinations, the state or both lie on a file system that has so many pages or
inodes left, before a run or in the middle of it.

The room left is drawn between nothing and more than a run needs. Then it is given back, and the
next run must bring the whole set.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from syncd.mirror.disk_mirror import DiskMirror
from syncd.models import Action, WantedFile
from syncd.ports import NO_INODES, ApplyOutcome, Blobs, Inodes, Mirror
from tests.fault.mounts import no_root as missing
from tests.fault.mounts import privately, shell
from tests.fault.points import FAILED, Tally, ending, in_child, judge
from tests.fault.scene import Scene, Workbench
from tests.support.clock import FakeClock

__all__ = ["missing", "no_room"]

WHERE = ("mirror", "state", "both")
AMPLE = "size=64m,nr_inodes=20000"
PAGES, INODES = 60, 30  # about what a run of the scene needs, and some more


@dataclass
class TightScene(Scene):
    squeeze: Callable[[], None] | None = (
        None  # called when everything was asked and prepared, before the first byte is written
    )

    def disk(self, clock: FakeClock) -> Mirror:
        return _Tight(self.state / "trash", clock, self.squeeze)


class _Tight(DiskMirror):
    def __init__(self, trash: Path, clock: FakeClock, squeeze: Callable[[], None] | None) -> None:
        super().__init__(trash, clock)
        self._squeeze = squeeze

    def apply(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        folders: frozenset[str],
        looks: Mapping[str, WantedFile],
        kept: Inodes = NO_INODES,
    ) -> ApplyOutcome:
        if self._squeeze is not None:
            self._squeeze()
        return super().apply(intent, actions, blobs, folders, looks, kept)


def no_room(points: int | None, seed: int, seconds: float | None = None) -> Tally:
    return privately(lambda: _no_room(points, seed, seconds))


def _no_room(points: int | None, seed: int, seconds: float | None) -> Tally:
    tally, rng, began = Tally("no room, then room again"), random.Random(seed), time.monotonic()
    folder = Path("/mnt")
    shell("mount", "-t", "tmpfs", "tmpfs", folder)
    for name in WHERE:
        (folder / name).mkdir()
        shell("mount", "-t", "tmpfs", "-o", AMPLE, "tmpfs", folder / name)
    benches = {
        "mirror": Workbench(
            0, scene=TightScene, base=folder / "mirror/base", state=folder / "ample/state"
        ),
        "state": Workbench(
            0, scene=TightScene, base=folder / "ample/base", state=folder / "state/state"
        ),
        "both": Workbench(
            0, scene=TightScene, base=folder / "both/base", state=folder / "both/state"
        ),
    }
    while (points is None or tally.points < points) and (
        seconds is None or time.monotonic() - began < seconds
    ):
        name = WHERE[tally.points % len(WHERE)]
        _one(tally, benches[name], folder / name, name, rng)
    for bench in benches.values():
        bench.close()
    tally.seconds = time.monotonic() - began
    return tally


def _one(tally: Tally, bench: Workbench, mount: Path, name: str, rng: random.Random) -> None:
    bench.turn()
    kind, late = rng.choice(("pages", "inodes")), rng.random() < 0.4
    left = rng.randrange(PAGES if kind == "pages" else INODES)
    scene = bench.scene
    before = scene.shown()

    def squeeze() -> None:
        free = os.statvfs(mount)
        option = (
            f"size={(free.f_blocks - free.f_bfree + left) * free.f_frsize}"
            if kind == "pages"
            else f"nr_inodes={free.f_files - free.f_ffree + left}"
        )
        shell("mount", "-o", f"remount,{option}", mount)

    if isinstance(scene, TightScene):
        scene.squeeze = squeeze if late else None
    if not late:
        squeeze()
    end = in_child(lambda: ending(scene))
    shell("mount", "-o", f"remount,{AMPLE}", mount)
    if isinstance(scene, TightScene):
        scene.squeeze = None
    where = (
        f"{left} {kind} left in {name}, "
        f"{'found out while writing' if late else 'from the start'}, towards {'AB'[scene.head]}"
    )
    if name == "mirror" and not late and end == FAILED and scene.shown() != before:
        tally.violations.append(
            f"{where}: old set: not intact, though the lack could be known before the first byte"
        )
    judge(tally, bench, end, where)
