"""The JSON of the status is the same as if it were made anew, and its parts are not made again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.ports import Pause
from syncd.redaction import redact_json
from syncd.status import StatusSnapshot, status_json
from syncd.web import status_text
from syncd.web.status_text import KEEP_SECONDS, StatusText
from tests.support.page_boards import NOW, LookBoard, worst


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs whose part was made."""
    names: list[str] = []
    real = status_text.job_json

    def noted(one: Any, now: Any) -> dict[str, Any]:
        names.append(one.job.name)
        return real(one, now)

    monkeypatch.setattr(status_text, "job_json", noted)
    return names


def as_made_anew(snapshot: StatusSnapshot) -> str:
    return redact_json(status_json(snapshot))


@pytest.mark.parametrize("board", [worst(), LookBoard([])])
def test_the_text_is_that_of_the_whole_object(board: LookBoard) -> None:
    snapshot = board.status_snapshot()
    assert StatusText().of(snapshot) == as_made_anew(snapshot)


def test_only_jobs_that_changed_are_made_again(made: list[str]) -> None:
    texts, clock = worst().status_snapshot(), Clock()
    maker = StatusText(clock)
    maker.of(texts)
    assert len(made) == len(texts.jobs) == 8
    made.clear()
    maker.of(replace(texts, at=NOW + timedelta(seconds=5)))
    assert made == []
    jobs = tuple(
        replace(one, running=True, next_run=NOW) if one.job.name == "sshd" else one
        for one in texts.jobs
    )
    changed = replace(texts, jobs=jobs[1:])
    assert maker.of(changed) == as_made_anew(changed) and made == ["sshd"]
    clock.seconds = KEEP_SECONDS + 1
    made.clear()
    maker.of(changed)
    assert len(made) == 7, "a secret may be known now that was not before"


def test_a_pause_that_ends_by_itself_changes_the_part_of_its_job(made: list[str]) -> None:
    snapshot = worst().status_snapshot()
    ends = NOW + timedelta(minutes=1)
    jobs = tuple(
        replace(one, state=replace(one.state, pause=Pause("moving", ends)))
        if one.job.name == "legacy"
        else one
        for one in snapshot.jobs
    )
    maker = StatusText()
    maker.of(replace(snapshot, jobs=jobs))
    made.clear()
    later = replace(snapshot, jobs=jobs, at=ends + timedelta(seconds=1))
    assert maker.of(later) == as_made_anew(later) and "legacy" in made
