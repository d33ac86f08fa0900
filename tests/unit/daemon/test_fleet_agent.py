"""The agent of a fleet as a service of the daemon."""

from __future__ import annotations

import threading

import pytest

from syncd.daemon import fleet_agent
from syncd.daemon.fleet_agent import FleetAgent


def test_a_stop_waits_for_no_room_among_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database hangs, nobody takes a report from the queue."""
    monkeypatch.setattr(fleet_agent, "MAX_REPORTS", 1)
    agent = FleetAgent()
    agent._reports.put_nowait(None)
    stopped = threading.Thread(target=agent.stop, daemon=True)
    stopped.start()
    stopped.join(10)
    assert not stopped.is_alive()
