"""Answers to what was asked before the full run was loaded: the quick check has asked for heads, and nobody asks GitHub the same thing twice.

Only answers that are success are used; every one of them was an exchange of this command, and is counted as one. Nothing else is asked
before they are there, so that what is under way together stays within `requests_at_once`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from syncd.clock import Patience
from syncd.github.limits import Budget, Tally
from syncd.github.protocol import Known, Request, Response, Transport
from syncd.github.tokens import LOOK_UP_SECONDS

ABOUT = re.compile(r"/repos/([^/]+/[^/]+)/")


class Reply(Protocol):
    """One whole answer, header names in lower case; `question` is (url, If-None-Match, Authorization)."""

    @property
    def question(self) -> tuple[str, str, str | None]: ...
    @property
    def identity(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


class Replies(Protocol):
    """Answers that come or have come."""

    @property
    def replies(self) -> Sequence[Reply]: ...

    def ended(self, seconds: float) -> bool:
        """Whether no more will come, within so many seconds."""
        ...


class Early:
    """Each answer serves the request that it was given to, once."""

    def __init__(self, coming: Replies | None, tally: Tally) -> None:
        self._coming, self._tally, self._asked = coming, tally, coming is not None
        self._guard = threading.Lock()
        self._replies: dict[tuple[str, str, str | None], Reply] = {}

    def before(self, inner: Transport, budget: Budget) -> Transport:
        return _Before(self, inner, budget) if self._asked else inner

    def reply_to(self, question: tuple[str, str, str | None], patience: Patience) -> Reply | None:
        """The answer that came to this. Raises as `Patience.check` does."""
        while not self._all_there():
            patience.check()
        return self._replies.pop(question, None)

    def _all_there(self) -> bool:
        with self._guard:
            if self._coming is None:
                return True
            if not self._coming.ended(LOOK_UP_SECONDS):
                return False
            for reply in self._coming.replies:
                about = ABOUT.search(reply.question[0])
                self._tally.count(reply.identity, reply.status, about.group(1) if about else None)
                if reply.status in (200, 304):
                    self._replies[reply.question] = reply
            self._coming = None
            return True


class _Before:
    def __init__(self, early: Early, inner: Transport, budget: Budget) -> None:
        self._early, self._inner, self._budget = early, inner, budget

    def send(self, request: Request, patience: Patience) -> Response:
        reply = self._early.reply_to((request.url, request.headers.get("If-None-Match", ""), request.headers.get("Authorization")), patience)
        if reply is None:
            return self._inner.send(request, patience)
        self._budget.note(reply.headers)
        return Known(reply.status, reply.headers, request.url, reply.body)
