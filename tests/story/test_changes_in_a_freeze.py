"""docs/changes-in-a-freeze.md: what a bad change, an interruption and a fix do in a freeze, row by
row, with literal results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fast_clock import PassingClock
from tests.support.sync_env import CommandResult, SyncEnv, sync_env

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).parents[2] / "docs/changes-in-a-freeze.md").read_text()
PREVIOUS, NEW, FIX = "one", "BAD", "fix"  # what the page calls the content of the file
FREEZE = {"freeze": [{"from": "2000-01-01", "to": "2999-12-31", "reason": "for good"}]}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncEnv]:
    clock = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: clock)
    with sync_env(tmp_path, as_app=False) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        yield made


class Machine:
    """The job has the content `one`; a content with BAD fails `fails`, one of the three commands.

    `ran` are the commands that ran since, each with the content that it saw.
    """

    def __init__(self, hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
        self.hub, self.monkeypatch = hub, monkeypatch
        self.file, self.log = hub.dest / "nginx.conf", hub.folder / "ran"
        hub.write_config(
            undo_on_failure=False,
            validate=self._command("validate", "$SYNCD_STAGED", fails),
            on_change=self._command("on_change", "", fails),
            health={"command": self._command("health", "", fails), "for": "10s", "failures": 1},
        )
        self.last: CommandResult = hub.sync()
        assert self.last.code == 0
        self.log.unlink()

    def _command(self, name: str, below: str, fails: str) -> list[str]:
        script = self.hub.folder / name
        bad = f'! grep -q BAD "{below}{self.file}"' if name == fails else "true"
        text = f'echo {name} $(head -c 3 "{below}{self.file}") >> {self.log}; {bad}'
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        return [str(script)]

    def freeze(self) -> None:
        self.hub.write_config(apply=FREEZE)

    def thaw(self) -> None:
        self.hub.write_config(apply=None)

    def bad(self) -> None:
        self.bad_commit = self.hub.repo.commit({"nginx/nginx.conf": "BAD\n"})

    def back(self) -> None:
        """The branch is moved back to the bad commit."""
        self.hub.repo.refs["refs/heads/main"] = self.bad_commit

    def fix(self) -> None:
        self.hub.repo.commit({"nginx/nginx.conf": "fix\n"})

    def edit(self) -> None:
        self.file.write_text("edited\n")

    def mode(self) -> None:
        self.hub.write_config(mode="0600")

    def unhealthy(self) -> None:
        (self.hub.folder / "health").write_text("#!/bin/sh\nfalse\n")

    def undo(self) -> None:
        self.hub.write_config(undo_on_failure=True)

    def stopped(self) -> None:
        """A signal ends the run in its health window, before the first check."""
        with self.monkeypatch.context() as patch:
            patch.setattr(PassingClock, "wait", lambda *_: True)
            assert "stopped by a signal" in self.hub.sync().job["error"]["message"]

    def sync(self) -> None:
        self.last = self.hub.sync()

    def now(self) -> None:
        self.last = self.hub.sync("nginx", "--now")

    def ref(self) -> None:
        self.last = self.hub.sync("nginx", "--ref", self.hub.repo.head())

    def rollback(self) -> None:
        self.last = self.hub.call("rollback", "nginx", "--json")

    def happens(self, events: str) -> None:
        for event in events.split():
            step: Callable[[], None] = getattr(self, event)
            step()

    def seen(self) -> tuple[Any, ...]:
        """Return how the last command ended, what `syncd status` says, and what is live."""
        status, error = self.hub.call("status", "--json"), self.last.job["error"]
        return (
            self.last.code,
            self.last.job["status"],
            error and error["id"],
            status.job["state"],
            status.code,
            self.file.read_text().strip(),
        )

    def ran(self) -> str:
        return ", ".join(self.log.read_text().splitlines())


REJECTED = (1, "refused", "hook/commit-rejected", "failing", 3, PREVIOUS)
RELOAD_FAILED = (1, "failed", "hook/on-change-failed", "failing", 3, NEW)
WAITING = (0, "waiting", None, "waiting", 0, PREVIOUS)
FIXED = (0, "changed", None, "in_sync", 0, FIX)
BACK = "validate BAD, on_change BAD, health BAD, on_change one"
DONE = "validate fix, on_change fix, health fix, health fix"

# number on the page, the command that fails for BAD, events -> what is seen, the commands that ran
ROWS: tuple[tuple[int, str, str, tuple[Any, ...], str], ...] = (
    (1, "validate", "freeze bad sync", REJECTED, "validate BAD"),
    (2, "validate", "freeze bad sync now", REJECTED, "validate BAD"),
    (3, "validate", "freeze bad sync fix sync", WAITING, "validate BAD, validate fix"),
    (4, "validate", "freeze bad sync fix sync now", FIXED, f"validate BAD, validate fix, {DONE}"),
    (5, "-", "freeze fix sync sync thaw sync", FIXED, f"validate fix, {DONE}"),
    (6, "health", "bad stopped freeze sync", REJECTED, BACK),
    (7, "-", "fix stopped freeze sync", (0, "unchanged", None, "in_sync", 0, FIX), DONE),
    (
        8,
        "health",
        "bad stopped freeze fix sync",
        (1, "refused", "hook/not-healthy", "waiting", 0, PREVIOUS),
        f"{BACK}, validate fix",
    ),
    (9, "health", "bad sync freeze sync", REJECTED, BACK),
    (10, "health", "bad sync freeze now", REJECTED, BACK),
    (11, "health", "bad sync freeze ref", REJECTED, BACK),
    (12, "health", "bad sync freeze edit sync", REJECTED, f"{BACK}, validate one, on_change one"),
    (13, "health", "bad sync freeze fix sync", WAITING, f"{BACK}, validate fix"),
    (14, "health", "bad sync freeze fix sync now", FIXED, f"{BACK}, validate fix, {DONE}"),
    (
        15,
        "health",
        "freeze bad sync now",
        (1, "refused", "hook/not-healthy", "failing", 3, PREVIOUS),
        f"validate BAD, {BACK}",
    ),
    (
        16,
        "health",
        "freeze mode unhealthy sync",
        (1, "refused", "hook/not-healthy", "failing", 3, PREVIOUS),
        "validate one, on_change one, on_change one",
    ),
    (
        17,
        "on_change",
        "bad sync freeze sync",
        RELOAD_FAILED,
        "validate BAD, on_change BAD, on_change BAD",
    ),
    (
        18,
        "on_change",
        "bad sync freeze fix sync",
        RELOAD_FAILED,
        "validate BAD, on_change BAD, validate fix, on_change BAD",
    ),
    (
        19,
        "on_change",
        "bad sync freeze fix sync now",
        FIXED,
        f"validate BAD, on_change BAD, validate fix, on_change BAD, {DONE}",
    ),
    (
        20,
        "on_change",
        "undo bad sync freeze sync",
        REJECTED,
        "validate BAD, on_change BAD, on_change one",
    ),
    (
        21,
        "on_change",
        "undo bad sync freeze fix sync",
        WAITING,
        "validate BAD, on_change BAD, on_change one, validate fix",
    ),
    (
        22,
        "-",
        "fix sync freeze rollback",
        (0, "changed", None, "paused", 3, PREVIOUS),
        f"{DONE}, validate one, on_change one",
    ),
    (23, "health", "bad sync freeze fix sync back sync", REJECTED, f"{BACK}, validate fix"),
    (24, "health", "bad sync freeze fix sync back thaw sync", REJECTED, f"{BACK}, validate fix"),
)


@pytest.mark.parametrize(("number", "fails", "events", "expected", "ran"), ROWS)
def test_a_row_of_the_page(
    hub: SyncEnv,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    fails: str,
    events: str,
    expected: tuple[Any, ...],
    ran: str,
) -> None:
    machine = Machine(hub, monkeypatch, fails)
    machine.happens(events)
    assert (machine.seen(), machine.ran()) == (expected, ran)


def test_the_page_has_the_same_rows_with_the_same_results() -> None:
    files = {PREVIOUS: "previous", NEW: "new", FIX: "fix"}
    said = re.findall(r"^\| (\d+) \|.*\| (\d+), (\w+) \| `(\w+)` \| (\w+) \|$", PAGE, re.MULTILINE)
    assert said == [
        (str(number), str(seen[0]), seen[1], seen[3], files[seen[5]])
        for number, _, _, seen, _ in ROWS
    ]


def test_a_fix_that_waits_is_no_ref_that_went_back(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(hub, monkeypatch, "health")
    machine.happens("freeze bad now fix sync")
    assert machine.file.read_text() == "one\n"
    assert [note for note in machine.last.job.get("notes", []) if "went back" in note] == []
    said = hub.call("status", "--json").job["error"], hub.call("status").out
    assert said[0] is None and " waits until " in said[1]
    assert f"commit {machine.bad_commit[:7]} is not healthy, and commit" in said[1]


def test_a_change_that_was_taken_back_before_a_fix_waits_is_in_the_history(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(hub, monkeypatch, "health")
    machine.happens("bad stopped freeze fix sync")
    assert machine.last.job["commit"] == machine.bad_commit
    assert machine.last.job["waiting"]["commit"] == hub.repo.head()
    runs = hub.call("history", "--json").json["runs"]
    assert [run["status"] for run in runs[:2]] == ["waiting", "refused"]
    assert "is not healthy, and commit" in str(runs[1])


def test_a_run_that_takes_a_change_back_and_applies_the_fix_is_done_and_names_both(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(hub, monkeypatch, "health")
    machine.happens("bad stopped fix sync")
    assert machine.seen() == FIXED
    said = f"before it, commit {machine.bad_commit[:7]} is not healthy, and commit"
    assert said in " ".join(machine.last.job["notes"])
