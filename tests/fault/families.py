"""The families of faults by name: how many points a sample and the full count take, what each
needs, and how it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.fault.bugs import calibration
from tests.fault.folders import FolderScene, SwitchedFolderScene
from tests.fault.health import SwitchedHealthScene, cuts_in_the_window, kills_in_the_window
from tests.fault.mounts import no_root, privately
from tests.fault.order import order_wrong
from tests.fault.places import SMALL, all_places
from tests.fault.points import ERRORS, Tally, fail_at_calls, kill_at_lines
from tests.fault.power import missing as no_loop
from tests.fault.power import power_cuts
from tests.fault.race import race
from tests.fault.room import no_room
from tests.fault.scene import Scene, Workbench, sets
from tests.fault.switched import SwitchedScene
from tests.fault.syscalls import KILL, at_syscalls
from tests.fault.syscalls import missing as no_strace

# points of a sample under strace, and of power cuts: half a second and more each
STRACED, CUT = 140, 140
# files and folders beyond the scene's own; past eight the writer syncs file systems beside them
MANY = 12


def nothing() -> str:
    return ""


@dataclass(frozen=True)
class Family:
    make: Callable[[int, int], Tally]  # points, seed
    sample: int
    full: int
    missing: Callable[[], str] = nothing  # what this machine lacks for it; empty: it can be run
    explains: bool = False  # points that end in success have to have a reason


def lines(extra: int, scene: type[Scene] = Scene) -> Callable[[int, int], Tally]:
    def make(points: int, seed: int) -> Tally:
        with Workbench(extra, scene=scene) as bench:
            return kill_at_lines(bench, points, seed)

    return make


def calls(
    extra: int, scene: type[Scene] = Scene, lasting: bool = False
) -> Callable[[int, int], Tally]:
    def make(points: int, seed: int) -> Tally:
        with Workbench(extra, scene=scene) as bench:
            return fail_at_calls(bench, points, seed, lasting=lasting)

    return make


def syscalls(
    errors: tuple[str, ...], extra: int = 0, scene: type[Scene] = Scene
) -> Callable[[int, int], Tally]:
    """`errors` of `KILL` means SIGKILL instead."""

    def make(points: int, seed: int) -> Tally:
        with Workbench(extra, scene=scene) as bench:
            return at_syscalls(bench, points, seed, errors)

    return make


def power(
    kind: str, apart: bool, scene: type[Scene] = Scene, extra: int = 0
) -> Callable[[int, int], Tally]:
    return lambda points, seed: power_cuts(kind, apart, points, seed, extra=extra, scene=scene)


def places(_points: int, _seed: int) -> Tally:
    """Every thing in a file's place against every operation; those that need root where we are."""
    rooted = no_root() == ""
    return privately(lambda: all_places(rooted)) if rooted else all_places(rooted)


def order(_points: int, _seed: int) -> Tally:
    tally = Tally("order of syncs, names and records")
    for trees, scene in (
        (SMALL, Scene),
        (sets(), Scene),
        (sets(MANY), Scene),
        (sets(), FolderScene),
    ):
        with Workbench(trees=trees, scene=scene) as bench:
            for _ in (0, 1):
                bench.turn()
                tally.points += 1
                tally.violations += [
                    f"towards {'AB'[bench.scene.head]}: {one}" for one in order_wrong(bench.scene)
                ]
    return tally


FAMILIES: dict[str, Family] = {
    "order": Family(order, 8, 8),
    "lines": Family(lines(0), 500, 5200),
    "lines-many": Family(lines(MANY), 200, 1500),
    "calls": Family(calls(0), 500, 2500, explains=True),
    "calls-many": Family(calls(MANY), 200, 1000, explains=True),
    "gone-for-a-while": Family(calls(0, lasting=True), 300, 3000, explains=True),
    **{
        f"power-{kind}{'-apart' if apart else ''}": Family(power(kind, apart), CUT, 10_000, no_loop)
        for kind in ("xfs", "ext4")
        for apart in (False, True)
    },
    "power-xfs-many": Family(power("xfs", False, extra=MANY), CUT, 10_000, no_loop),
    "power-ext4-many": Family(power("ext4", True, extra=MANY), CUT, 10_000, no_loop),
    "no-room": Family(no_room, 300, 3000, no_root),
    "race": Family(race, 1200, 60_000, no_root),
    "places": Family(places, 1, 1),
    "bugs": Family(lambda _points, _seed: calibration(), 1, 1, no_loop),
    "syscalls-kill": Family(syscalls(KILL), STRACED, 2500, no_strace),
    "syscalls-errno": Family(syscalls(ERRORS), STRACED, 3000, no_strace, explains=True),
    "folders-lines": Family(lines(0, FolderScene), 200, 2000),
    "folders-calls": Family(calls(0, FolderScene), 200, 2000, explains=True),
    "folders-power-xfs": Family(power("xfs", False, FolderScene), 300, 2000, no_loop),
    "folders-power-ext4": Family(power("ext4", True, FolderScene), 300, 2000, no_loop),
    "publish-folders-lines": Family(lines(0, SwitchedFolderScene), 200, 1000),
    "publish-folders-calls": Family(calls(0, SwitchedFolderScene), 200, 1000, explains=True),
    "publish-lines": Family(lines(0, SwitchedScene), 300, 3000),
    "publish-calls": Family(calls(0, SwitchedScene), 300, 2500, explains=True),
    "publish-kill": Family(syscalls(KILL, scene=SwitchedScene), 300, 1500, no_strace),
    "publish-errno": Family(syscalls(ERRORS, scene=SwitchedScene), 300, 2000, no_strace),
    "publish-power-xfs": Family(power("xfs", False, SwitchedScene), 300, 2000, no_loop),
    "health-lines": Family(kills_in_the_window, 60, 200),
    "health-publish-lines": Family(
        lambda points, seed: kills_in_the_window(points, seed, SwitchedHealthScene), 60, 200
    ),
    "health-away": Family(
        lambda points, seed: kills_in_the_window(points, seed, away=True), 60, 200
    ),
    **{
        f"health-power-{kind}": Family(partial(cuts_in_the_window, kind), 20, 50, no_loop)
        for kind in ("xfs", "ext4")
    },
    "publish-power-ext4": Family(power("ext4", True, SwitchedScene), 300, 2000, no_loop),
}
