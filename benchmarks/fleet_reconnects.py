"""How agents come back after their database was killed with -9 and started again.

Each agent is the listening thread of a real one: its own connection, the real clock, full jitter.
`python -m benchmarks.fleet_reconnects [AGENTS] [SECONDS AWAY]`
"""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

from syncd.clock import SystemClock
from syncd.daemon.fleet_agent import FleetAgent
from syncd.fleet.link import Link
from syncd.fleet.notices import Notices
from tests.support.fleet import Fleet, made_fleet
from tests.support.postgresql import cluster


class TimedAgent:
    """A listening thread, and the moments at which it had a new connection."""

    def __init__(self, fleet: Fleet) -> None:
        self.database, self.times = fleet.database("c1", connections=1), list[float]()
        link = Link(self.database, SystemClock())
        self.agent = FleetAgent()
        self.agent._fleet = SimpleNamespace(link=link)  # type: ignore[assignment]
        self.agent._notices = Notices(link, SystemClock(), self._on_notice)
        threading.Thread(target=self.agent._listen_loop, daemon=True).start()

    def _on_notice(self, _job: str | None) -> None:
        self.times.append(time.monotonic())

    def end(self) -> None:
        self.agent._stop.set()


def measured(agents: int, away_seconds: float) -> list[float]:
    """When each agent was connected again, in seconds after the server answered."""
    with cluster() as server:
        fleet = made_fleet(server, "syncd")
        made = [TimedAgent(fleet) for _ in range(agents)]
        _wait_until(lambda: all(one.agent._notices.works for one in made), 120)
        server.kill()
        time.sleep(away_seconds)
        server.start()
        back = time.monotonic()
        _wait_until(lambda: all(one.times for one in made), 120)
        for one in made:
            one.end()
        return sorted(one.times[0] - back for one in made)


def _wait_until(is_so, seconds: float) -> None:  # type: ignore[no-untyped-def]
    ends_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends_at, "it took too long"
        time.sleep(0.05)


def main() -> None:
    """Print the spread of the reconnects."""
    agents, away = int((sys.argv[1:2] or ["50"])[0]), float((sys.argv[2:3] or ["90"])[0])
    times = measured(agents, away)
    tenths = [sum(1 for one in times if part * 6 <= one < part * 6 + 6) for part in range(10)]
    most = max(sum(1 for one in times if at <= one < at + 1) for at in times)
    quarter, half, three = (times[len(times) * part // 4] for part in (1, 2, 3))
    print(
        f"{agents} agents, {away:g} s away: first {times[0]:.1f} s, quartiles {quarter:.1f} ",
        end="",
    )
    print(f"{half:.1f} {three:.1f} s, last {times[-1]:.1f} s; most within one second {most}")
    print(f"in each 6 s: {tenths}")


if __name__ == "__main__":
    main()
