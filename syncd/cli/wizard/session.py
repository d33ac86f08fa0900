"""What the questions share: the answers, GitHub, and whether GitHub can be asked at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from msgspec import Struct

from syncd.cli.wizard import terminal
from syncd.cli.wizard.answers import Answers
from syncd.cli.wizard.lookup import TIMEOUT_SECONDS, Lookup
from syncd.cli.wizard.terminal import Choice, Mistake
from syncd.config.secrets import inspect_authority
from syncd.errors import (
    AuthError,
    ConfigError,
    NotFoundError,
    RateLimitedError,
    RemoteUnavailableError,
    SyncdError,
    TimedOutError,
)
from syncd.github.installations import AppInfo, InstallationInfo
from syncd.github.urls import display_host, web_origin
from syncd.output import echo

T = TypeVar("T")

SLOW_SECONDS = 1.0
CERTIFICATE_IDS = ("unavailable/untrusted-certificate", "unavailable/ca-file")
NEXT_RUN = "; the next run tries again"
NETWORK_CHOICES = (
    Choice("again", "ask GitHub again"),
    Choice("skip", "go on; what GitHub would confirm is written as you type it"),
)


class Session(Struct):
    """One run of the wizard. `online`: GitHub is asked; `unasked`: the user agreed to do without.

    `app` and `installation` are what GitHub said of an App, `default_branch` and `commit` of the
    repository.
    """

    answers: Answers
    lookup: Lookup
    environ: Mapping[str, str]
    online: bool = True
    app: AppInfo | None = None
    installation: InstallationInfo | None = None
    default_branch: str = ""
    commit: str = ""

    @property
    def web(self) -> str:
        """Return the address of GitHub's pages."""
        return web_origin(self.answers.api)

    @property
    def host(self) -> str:
        """Return the host of GitHub's pages, for messages."""
        return display_host(self.web)

    def github(self, question: Callable[[Lookup], T]) -> T | None:
        """Return GitHub's answer; None where the user agreed to go on without it.

        Raises Mistake where GitHub refuses what was answered.
        """
        while self.online:
            try:
                with self._slow_notice():
                    self.lookup.use(self.answers)
                    return question(self.lookup)
            except (AuthError, NotFoundError, ConfigError) as error:
                self.lookup.close()
                raise Mistake.of(error, f"github.{self.answers.identity_name}") from error
            except SyncdError as error:
                self.lookup.close()
                self._tell(error)
                if error.id in CERTIFICATE_IDS:
                    self._ask_ca_file()
                else:
                    self.online = terminal.choose("Now", NETWORK_CHOICES, "again") == "again"
        return None

    def _tell(self, error: SyncdError) -> None:
        what = f"{self.host} can't be used"
        if isinstance(error, TimedOutError):
            hint = "check the network, DNS and any proxy"
            terminal.bad(f"GitHub cannot be reached: no answer in {TIMEOUT_SECONDS:g} s", hint)
            return
        if isinstance(error, RateLimitedError):
            what = "GitHub's limit of requests is used up"
        elif isinstance(error, RemoteUnavailableError):
            what = "GitHub cannot be reached"
        hint = (error.hint or "").removesuffix(NEXT_RUN)
        terminal.bad(f"{what}: {error.message}", hint)

    def _ask_ca_file(self) -> None:
        """Ask for the authority of a private host; Enter goes on without GitHub."""

        def judge(text: str) -> str:
            """Return the path. Raises Mistake."""
            problem = inspect_authority(text) if text != "none" else None
            if problem is not None:
                raise Mistake(problem)
            return "" if text == "none" else text

        question = f"File with the certificate authority of {self.host}, or 'none' to go on without"
        self.answers.ca_file = terminal.ask(question, judge, "none")
        self.online = bool(self.answers.ca_file)

    @contextmanager
    def _slow_notice(self) -> Iterator[None]:
        """Say who is asked when the answer takes more than a second."""
        timer = threading.Timer(SLOW_SECONDS, lambda: echo(f"  asking {self.host} ...", err=True))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
