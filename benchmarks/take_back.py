#!/usr/bin/env python3
"""How fast a change that fails its health check is taken back.

The time goes from the end of the deciding check to the start of the reload for the previous set.
The whole run is in this process, over a stand-in for GitHub; time between checks passes at once.

python benchmarks/take_back.py [--files 500] [--changes 10]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from tests.support.sync_env import SyncEnv


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=500, help="files of the change")
    parser.add_argument("--changes", type=int, default=10, help="bad changes to measure")
    options = parser.parse_args()
    from tests.support.sync_env import sync_env

    names = [f"nginx/d{number % 10}/{number}.conf" for number in range(options.files)]
    times = Times()
    with tempfile.TemporaryDirectory() as folder, sync_env(Path(folder), as_app=False) as env:
        times.watch(env)
        env.repo.commit(content(names, "good", 0))
        set_up(env)
        must(env.sync().code == 0, "the first sync failed")
        for number in range(1, options.changes + 1):
            env.repo.commit(content(names, "BAD", number))
            must(env.sync().job["status"] == "refused", "a bad change was not taken back")
            env.repo.commit(content(names, "good", number))
            must(env.sync().code == 0, "a good change failed")
    wall, processor = times.seconds, times.processor_seconds
    print(
        f"{options.files} files, {len(wall)} changes: {statistics.median(wall):.3f} s "
        f"({min(wall):.3f} to {max(wall):.3f}), processor {statistics.median(processor):.3f} s"
    )
    return 0


def content(names: list[str], word: str, number: int) -> dict[str, Any]:
    return {name: f"{word} {number} {name}\n" * 40 for name in names}


def set_up(env: SyncEnv) -> None:
    """Give the job a health check that fails for a bad file, and a reload."""

    def script(name: str, text: str) -> list[str]:
        file = env.folder / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return [str(file)]

    healthy = script("healthy", f"! grep -q BAD {env.dest}/d0/0.conf")
    env.write_config(
        health={"command": healthy, "for": "30s"}, on_change=script("reload", "exit 0")
    )


def must(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(otherwise)


class Times:
    """The seconds from each decision to the reload after it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []
        self._began: tuple[float, float] | None = None

    def watch(self, env: SyncEnv) -> None:
        """Look at the two moments from now on, and let the time between checks pass at once."""
        import syncd.wiring.app_context as wiring
        from syncd.engine import health_check
        from syncd.hooks import runner
        from tests.support.fast_clock import PassingClock

        clock = PassingClock()
        env.github._real_now = lambda: clock.now().timestamp()
        take_back, run = health_check._Window._take_back, runner.HookRunner.run

        def decided(window: Any, pending: Any) -> Any:
            self._began = time.perf_counter(), time.process_time()
            return take_back(window, pending)

        def started(hooks: Any, call: Any, deadline: Any) -> Any:
            if self._began is not None:
                self.seconds.append(time.perf_counter() - self._began[0])
                self.processor_seconds.append(time.process_time() - self._began[1])
                self._began = None
            return run(hooks, call, deadline)

        parts: list[tuple[object, str, object]] = [
            (wiring, "SystemClock", lambda: clock),
            (health_check._Window, "_take_back", decided),
            (runner.HookRunner, "run", started),
        ]
        for holder, name, part in parts:
            setattr(holder, name, part)


if __name__ == "__main__":
    sys.exit(main())
