"""What people did with a job, as the store keeps it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from syncd.store import actions
from syncd.store.actions import OperatorAction, Person
from syncd.store.store import SqliteStore
from tests.support.store_fixtures import AT

OCTOCAT = Person("octocat", "192.0.2.7")
PAUSED = OperatorAction("nginx", "pause", AT, OCTOCAT, "change freeze", AT + timedelta(hours=2))
TEXTS = [
    (
        PAUSED,
        "paused until 2026-11-23T14:00:00Z by octocat from 192.0.2.7: change freeze",
    ),
    (replace(PAUSED, until=None), "paused by octocat from 192.0.2.7: change freeze"),
    (
        OperatorAction("nginx", "sync", AT, Person(None, "this machine")),
        "sync now, by web.password from this machine",
    ),
    (OperatorAction("nginx", "resume", AT, OCTOCAT), "resumed by octocat from 192.0.2.7"),
]


@pytest.mark.parametrize(("action", "text"), TEXTS)
def test_an_action_in_words(action: OperatorAction, text: str) -> None:
    assert action.describe() == text


def test_actions_are_given_back_as_they_were_and_those_of_each_job_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actions, "ACTIONS_KEPT", 3)
    store = SqliteStore.in_memory()
    other = replace(PAUSED, job="motd", at=AT - timedelta(days=1))
    store.add_action(other)
    mine = [replace(PAUSED, at=AT + timedelta(minutes=number)) for number in range(5)]
    for one in mine:
        store.change_state("nginx", lambda state: state, one)
    assert store.actions_of("nginx", 10) == [mine[4], mine[3], mine[2]]
    assert store.actions_of(None, 10) == [mine[4], mine[3], mine[2], other]
    assert store.actions_of(None, 1) == [mine[4]]
