"""An agent's daemon: what it saves of the fleet's database for `syncd status`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.daemon.fleet_agent import FleetAgent
from tests.support.clock import FakeClock


def test_the_state_of_the_database_is_saved_when_it_changes() -> None:
    saved: list[list[tuple[str, str]]] = []
    clock = FakeClock()

    def save(_reason: str, facts: list[Any]) -> None:
        saved.append([(one.detail, one.since.isoformat()) for one in facts])

    agent = FleetAgent()
    store = SimpleNamespace(facts=SimpleNamespace(save_staleness=save))
    daemon: Any = SimpleNamespace(clock=clock, app=SimpleNamespace(store=store))
    agent._daemon = daemon
    away_at = clock.now().isoformat()
    for reason in (None, None, "refused", "refused", "another error", None):
        agent._note_database(reason)
        if reason is not None:
            clock.advance(60)
    assert saved == [[], [("refused", away_at)], []]
