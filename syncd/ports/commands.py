"""The operator's commands: `validate` and `on_change`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Protocol

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.models import Hook, Kind


class StagedFile(Struct, frozen=True):
    """One destination as it will be.

    `open` returns its bytes, or a link's text; it may raise MirrorError.
    """

    path: str
    kind: Kind
    mode: int
    open: Callable[[], BinaryIO]


class HookCall(Struct, frozen=True):
    """One command to run, once, for these jobs.

    `facts` are the SYNCD_ names of its environment, `changes` is the JSON of SYNCD_CHANGES.
    """

    hook: Hook
    jobs: tuple[str, ...]
    facts: Mapping[str, str]
    changes: str
    timeout_seconds: float
    user: str | None = None


class HookResult(Struct, frozen=True):
    """How a command ended: with `status`, by `signal`, or at its time limit.

    `problem` says why it could not be run at all, and `hint` what to do. `output` is the end of
    what it printed, at most 64 KiB, redacted.
    """

    status: int | None = None
    signal: int | None = None
    timed_out: bool = False
    problem: str | None = None
    hint: str | None = None
    output: str = ""


class Hooks(Protocol):
    """Runs commands, limited in time and output. Never two of one job at once.

    A command is ended with everything that it started.
    """

    def validate(
        self, call: HookCall, files: Sequence[StagedFile], deadline: Deadline
    ) -> HookResult:
        """Run the command on the complete set, laid out like `/` below `{staged}`.

        Raises StoppedError, StoreError, MirrorError.
        """

    def run(self, call: HookCall, deadline: Deadline) -> HookResult:
        """Run the command after the files are in place: `{staged}` is `/`. Raises StoppedError,
        StoreError.
        """


class ReloadTurns(Protocol):
    """Whose turn it is to run a command of `on_change`, over all processes of a state folder.

    `command` is a digest of the command.
    """

    def turn(self, command: str) -> AbstractContextManager[bool]:
        """Hold the command's turn during the block; it yields False where it is running elsewhere.

        Raises StoreError.
        """

    def last_start(self, command: str) -> datetime | None:
        """Return when the command last began; None where that is not known. Raises StoreError."""

    def note_start(self, command: str, at: datetime) -> None:
        """Store that the command begins now. Raises StoreError."""


__all__ = ["HookCall", "HookResult", "Hooks", "ReloadTurns", "StagedFile"]
