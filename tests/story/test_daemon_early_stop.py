"""A daemon that is told to stop before it has begun closes what it had opened by then."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from syncd.cli import run
from syncd.cli.common import Settings
from syncd.config.load import load_config
from syncd.daemon.daemon import Daemon
from syncd.errors import ConfigError
from tests.support.sync_env import SyncEnv


class Left(BaseException):
    """The process would have ended here."""


class Companion:
    """Begins to open something, during which the daemon is told to stop."""

    def __init__(self, begun: threading.Event, waits_for: threading.Event) -> None:
        self._begun, self._waits_for = begun, waits_for

    def start(self, daemon: Any) -> None:
        self._begun.set()
        assert self._waits_for.wait(60)

    def reload(self, config: Any) -> None: ...
    def stop(self) -> None: ...
    def stall_reason(self) -> None: ...


class Signals:
    """One SIGTERM, when `comes` is set."""

    def __init__(self, comes: threading.Event) -> None:
        self._comes = comes

    def wake(self) -> None: ...

    def wait(self, seconds: float) -> set[int]:
        assert self._comes.wait(60)
        return {signal.SIGTERM}


@pytest.fixture
def socket_file(hub: SyncEnv) -> Path:
    hub.extra["web"] = {"listen": f"unix:{hub.folder}/web.sock"}
    hub.write()
    return hub.folder / "web.sock"


@pytest.mark.parametrize("web_is_first", [True, False])
def test_sigterm_before_the_first_run_leaves_no_socket(
    hub: SyncEnv, socket_file: Path, monkeypatch: pytest.MonkeyPatch, web_is_first: bool
) -> None:
    begun, stopping = threading.Event(), threading.Event()
    settings = Settings(config=str(hub.config), environ=dict(os.environ))
    web, late = run.WebService(settings, run.FleetService()), Companion(begun, stopping)
    companions: list[Any] = [web, late] if web_is_first else [late, web]
    config = load_config(hub.config, os.environ)
    daemon = Daemon(lambda: config, os.environ, companions)
    was_there: list[bool] = []

    def leave(code: int) -> None:
        raise Left

    def abandon() -> None:
        was_there.append(socket_file.exists())
        stopping.set()
        Daemon.abandon(daemon)

    monkeypatch.setattr(run, "_exit_now", leave)
    monkeypatch.setattr(daemon, "abandon", abandon)
    with pytest.raises(Left):
        run.serve(daemon, config, Signals(begun))  # type: ignore[arg-type]
    for thread in threading.enumerate():
        if thread.name == "syncd-start":
            thread.join(60)
    assert was_there == [web_is_first] and not list(hub.folder.glob("web.sock*"))


def test_a_start_that_fails_leaves_no_socket(hub: SyncEnv, socket_file: Path) -> None:
    class Broken(Companion):
        def start(self, daemon: Any) -> None:
            assert socket_file.exists()
            raise ConfigError("it can't be opened")

    settings = Settings(config=str(hub.config), environ=dict(os.environ))
    broken = Broken(threading.Event(), threading.Event())
    config = load_config(hub.config, os.environ)
    daemon = Daemon(
        lambda: config, os.environ, [run.WebService(settings, run.FleetService()), broken]
    )
    never = threading.Event()

    class Nudged(Signals):
        def wake(self) -> None:
            never.set()

        def wait(self, seconds: float) -> set[int]:
            never.wait(60)
            return set()

    with pytest.raises(ConfigError, match="can't be opened"):
        run.serve(daemon, config, Nudged(never))  # type: ignore[arg-type]
    assert not list(hub.folder.glob("web.sock*"))
