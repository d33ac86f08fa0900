"""The operator's commands: `validate` and `on_change`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


__all__ = ["HookCall", "HookResult", "Hooks", "StagedFile"]
