"""A daemon as a real process, seen from outside: its log lines as they come, its signals,
its end.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.secret_scan import overheard
from tests.support.sync_env import SyncEnv

DEADLINE_SECONDS = 60.0  # for whatever has to come; a machine may be slow


class Running:
    """`lines` are the log lines so far, as JSON."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._news: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            overheard("a daemon's log", text)
            try:
                self._news.put(json.loads(text))
            except ValueError:
                self._news.put({"message": text.rstrip("\n"), "level": "raw"})
        self._news.put(None)

    def says(
        self, text: str, more: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The next line with this text in it."""
        while True:
            try:
                line = self._news.get(timeout=DEADLINE_SECONDS)
            except queue.Empty:
                raise AssertionError(f"it never said {text!r}, but {self.lines}") from None
            assert line is not None, f"it ended without saying {text!r}, but {self.lines}"
            self.lines.append(line)
            if text in line["message"] and more(line):
                return line

    def said(self) -> list[str]:
        """Every message so far."""
        with suppress(queue.Empty):
            while (line := self._news.get_nowait()) is not None:
                self.lines.append(line)
        return [line["message"] for line in self.lines]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self, number: int | None = signal.SIGTERM) -> int:
        """Its exit code, after this signal."""
        if number is not None:
            self.send(number)
        code = self.process.wait(DEADLINE_SECONDS)
        while (line := self._news.get(timeout=DEADLINE_SECONDS)) is not None:
            self.lines.append(line)
        self._news.put(None)  # for whoever reads on
        return code


@contextmanager
def daemon(
    hub: SyncEnv,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    ready: bool = True,
    forked: bool = True,
    inside: str | None = None,
) -> Iterator[Running]:
    """`syncd run` on the stand's configuration; ready when the block begins, gone after it.

    `forked`: by the fork server, which only UTF-8 locales can have. Its children have all of syncd
    in memory, so a test of memory starts Python. `inside` names a network namespace to start it in.
    """
    popen = ForkedSyncd if forked and inside is None else subprocess.Popen
    command = [*MODULE, "-c", str(hub.config), *arguments, "run"]
    if inside is not None:
        command = ["nsenter", f"--net=/run/netns/{inside}", *command]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(hub.folder),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **(environ or {}),
    }
    with popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env
    ) as process:
        try:
            running = Running(process)
            if ready:
                running.says("ready: ")
            yield running
        finally:
            process.kill()


__all__ = ["DEADLINE_SECONDS", "Running", "daemon"]
