"""How the daemon gets from its beginning to its first beat."""

from __future__ import annotations

import signal
import threading
from typing import Any

from syncd.cli.run import serve


class Nudged:
    """Signals that nobody sends: the one nudge is heard,
    and whoever gave it is held up until the daemon has begun.
    """

    def __init__(self) -> None:
        self.begun, self.listened, self._given, self.waits = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
            0,
        )

    def wake(self) -> None:
        self._given.set()
        assert self.begun.wait(60), "it was told, and waited for something else"

    def wait(self, seconds: float) -> set[int]:
        self.waits += 1
        self.listened.set()
        if self.begun.is_set():
            return {signal.SIGTERM}
        assert self.waits == 1, "it waited again although everything was prepared"
        self._given.wait(60)
        return set()


class Prepared:
    def __init__(self, signals: Nudged) -> None:
        self._signals = signals

    def prepare(self, config: Any) -> None:
        assert self._signals.listened.wait(60)

    def begin(self) -> None:
        self._signals.begun.set()

    def heartbeat(self) -> None:
        pass

    def stop(self, keep_listening: Any) -> bool:
        return True


def test_it_begins_as_soon_as_it_is_prepared_and_not_with_the_next_beat() -> None:
    signals: Any = Nudged()
    daemon: Any = Prepared(signals)
    config: Any = None
    assert serve(daemon, config, signals) == 0 and signals.waits == 2
