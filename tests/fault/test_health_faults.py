"""A machine that dies inside a health window: a sample of the faults of tests/fault/health.py.

SYNCD_HEALTH_FAULTS says how many points each test takes; docs/development/promises.md has the
figures of the full size.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator

import pytest

from tests.fault.health import (
    HealthScene,
    SwitchedHealthScene,
    Turn,
    cuts_in_the_window,
    kills_in_the_window,
)
from tests.fault.points import ask_child, ending, in_child, kill_self_at_line, lines_of
from tests.fault.power import missing
from tests.fault.scene import Workbench

pytestmark = pytest.mark.fuzz

SEED = 7


def points(sample: int) -> int:
    return int(os.environ.get("SYNCD_HEALTH_FAULTS", sample))


@pytest.mark.parametrize("scene", [HealthScene, SwitchedHealthScene])
def test_killed_in_the_window_no_bad_set_is_healthy_and_no_set_is_mixed(
    scene: type[HealthScene],
) -> None:
    tally = kills_in_the_window(points(6), SEED, scene)
    assert tally.violations == [] and tally.ends["in an open window"] > 0, tally


def test_killed_in_the_window_and_then_without_github_the_window_still_ends() -> None:
    tally = kills_in_the_window(points(4), SEED + 1, away=True)
    assert tally.violations == [], tally


@pytest.mark.skipif(missing() != "", reason=missing())
def test_after_a_power_cut_in_the_window_no_bad_set_is_healthy() -> None:
    tally = cuts_in_the_window("ext4", points(4), SEED)
    assert tally.violations == [], tally


@pytest.fixture
def bench() -> Iterator[Workbench]:
    with Workbench(scene=HealthScene) as made:
        yield made


@pytest.mark.parametrize("bad", [False, True])
def test_a_rollback_that_dies_in_the_window_makes_nothing_healthy(
    bench: Workbench, bad: bool
) -> None:
    scene, rng = bench.scene, random.Random(SEED)
    assert isinstance(scene, HealthScene)
    total = 0
    for _ in range(points(4) + 1):
        turn = Turn(scene, bad)
        scene.on_check = lambda: os.kill(os.getpid(), signal.SIGKILL)
        assert in_child(lambda: ending(scene)) == -signal.SIGKILL
        scene.on_check = lambda: None
        if total == 0:
            total = ask_child(lambda: lines_of(lambda: _rolled_back(scene)))
        k = rng.randint(1, total)
        in_child(lambda k=k: kill_self_at_line(k, lambda: _rolled_back(scene)))
        wrong = [] if scene.stored().held else turn.wrong_now()
        scene.resume()
        assert wrong + turn.heal() == [], f"line {k} of {total}"


def _rolled_back(scene: HealthScene) -> int:
    return 0 if scene.roll_back().error is None else 1


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("checks", [1, 2, 3])
def test_killed_in_the_check_itself(bench: Workbench, checks: int, bad: bool) -> None:
    """Some checks are done, and the next one dies; killed again there, and then not any more."""
    assert isinstance(bench.scene, HealthScene)
    turn, scene = Turn(bench.scene, bad), bench.scene

    def die() -> None:
        if len(scene.judged()) % checks == checks - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    for _ in (1, 2):
        scene.on_check = die
        in_child(lambda: ending(scene))
        assert turn.wrong_now() == []
        scene.hours += 1
    scene.on_check = lambda: None
    assert turn.heal() == []
