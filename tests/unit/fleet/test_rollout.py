"""When a rollout goes on, waits, is released or stops."""

from __future__ import annotations

import pytest

from syncd.apply_rules import Rollout
from syncd.fleet.rollout import Step, StepKind, WaveReport, first_agents, in_order, next_step

TWO = Rollout((0.05, 0.5), 300.0)
ONE = Rollout((0.05,), 0.0, ("validate",))
GOOD = WaveReport("web01", "changed", True, True)
WAIT, NEXT, RELEASE, STOP = StepKind.WAIT, StepKind.NEXT_WAVE, StepKind.RELEASE, StepKind.STOP

STEPS = {
    "nothing reported": (TWO, 1, 999.0, [], WAIT, "1 of 1 have not reported healthy"),
    "healthy, in the pause": (TWO, 1, 299.0, [GOOD], WAIT, "pause of 300 s"),
    "healthy, after the pause": (TWO, 1, 300.0, [GOOD], NEXT, ""),
    "healthy in the last wave": (TWO, 2, 300.0, [GOOD], RELEASE, ""),
    "one wave without a pause": (ONE, 1, 0.0, [GOOD], RELEASE, ""),
    "another commit": (
        *(TWO, 1, 999.0, [WaveReport("web01", "unchanged", False, True)]),
        *(WAIT, "1 of 1 have not reported healthy"),
    ),
    "a health check goes on": (
        *(TWO, 1, 999.0, [WaveReport("web01", "changed", True, False)]),
        *(WAIT, "1 of 1 have not reported healthy"),
    ),
    "paused on the agent": (
        *(TWO, 1, 999.0, [WaveReport("web01", "skipped", True, True)]),
        *(WAIT, "1 of 1 have not reported healthy"),
    ),
    "validate failed": (
        *(TWO, 1, 0.0, [WaveReport("web01", "refused", False, True, 0, "hook/commit-rejected")]),
        *(STOP, "web01: validate (hook/commit-rejected)"),
    ),
    "on_change failed": (
        *(TWO, 1, 0.0, [WaveReport("web01", "failed", True, False, 0, "hook/on-change-failed")]),
        *(STOP, "web01: hook (hook/on-change-failed)"),
    ),
    "not healthy": (
        *(TWO, 2, 0.0, [GOOD, WaveReport("web02", "failed", True, True, 0, "hook/not-healthy")]),
        *(STOP, "web02: health (hook/not-healthy)"),
    ),
    "drift": (
        *(TWO, 1, 0.0, [WaveReport("web01", "changed", True, True, 2)]),
        *(STOP, "web01: drift (2 files)"),
    ),
    "what does not halt": (
        *(ONE, 1, 0.0, [WaveReport("web01", "failed", True, True, 0, "hook/not-healthy")]),
        *(WAIT, "1 of 1 have not reported healthy"),
    ),
    "a full disk waits for an operator": (
        *(TWO, 1, 999.0, [WaveReport("web01", "failed", False, True, 0, "mirror/no-space")]),
        *(WAIT, "1 of 1 have not reported healthy"),
    ),
}


@pytest.mark.parametrize(
    ("rollout", "wave", "seconds", "reports", "kind", "reason"), STEPS.values(), ids=STEPS
)
def test_the_next_step_of_a_rollout(
    rollout: Rollout,
    wave: int,
    seconds: float,
    reports: list[WaveReport],
    kind: StepKind,
    reason: str,
) -> None:
    assert next_step(rollout, wave, seconds, ["web01"], reports) == Step(kind, reason)


@pytest.mark.parametrize(
    ("share", "agents", "expected"),
    [(0.05, 1, 1), (0.05, 3, 1), (0.05, 20, 1), (0.05, 21, 2), (0.5, 3, 2), (1.0, 7, 7)],
)
def test_a_wave_has_its_share_of_the_agents_and_one_at_least(
    share: float, agents: int, expected: int
) -> None:
    names = [f"web{number:02}" for number in range(agents)]
    assert len(first_agents(share, "nginx", names)) == expected


def test_the_order_of_agents_is_the_same_each_time_and_differs_between_jobs() -> None:
    names = [f"web{number:02}" for number in range(20)]
    assert in_order("nginx", names) == in_order("nginx", reversed(names))
    assert in_order("nginx", names) != in_order("sshd", names)


def test_a_wave_holds_the_one_before() -> None:
    names = [f"web{number:02}" for number in range(20)]
    assert set(first_agents(0.05, "nginx", names)) < set(first_agents(0.5, "nginx", names))
