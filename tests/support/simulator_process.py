"""The simulator in a process of its own, so that what the product keeps in memory can be told from
what the simulator keeps.

Asked by one thread, in turns: each question carries the time it is asked at, so the simulator has
the clock of whoever asks.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syncd.simulator import faults
from syncd.simulator.github import GitHub


class SimulatorProcess:
    """As much of `GitHub` as days of a daemon need.

    What goes wrong is named: a function of `simulator.faults` and its arguments.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.simulator_process"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _ask(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((self._now(), name, arguments), self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def handle(self, *arguments: Any) -> Any:
        return self._ask("handle", *arguments)

    def allow(self, token: str) -> None:
        self._ask("allow", token)

    def add_repo(self, full_name: str, files: Mapping[str, str]) -> None:
        self._ask("add_repo", full_name, files)

    def commit(self, full_name: str, files: Mapping[str, str]) -> None:
        self._ask("commit", full_name, files)

    def spoil(self, what: str, arguments: tuple[Any, ...], times: int) -> None:
        """The next answers go wrong."""
        self._ask("spoil", what, arguments, times)

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self._ask("calm")

    def forget_requests(self) -> None:
        self._ask("forget_requests")

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _serve() -> None:
    at = [0.0]
    github = GitHub(now=lambda: at[0])
    acts: dict[str, Callable[..., Any]] = {
        "handle": github.handle,
        "allow": github.accounts.add_personal_token,
        "add_repo": github.add_repo,
        "commit": lambda name, files: github.repos[name].commit(files),
        "spoil": lambda what, arguments, times: github.add_fault(
            "*", getattr(faults, what)(*arguments), times=times
        ),
        "calm": github.faults.clear,
        "forget_requests": github.forget_requests,
    }
    while True:
        try:
            at[0], name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = acts[name](*arguments)
        pickle.dump(answer if name == "handle" else None, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
