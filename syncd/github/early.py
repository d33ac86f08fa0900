"""Answers that came before the full run was loaded: the quick check has asked for heads, and nobody asks GitHub the same thing twice.

Only answers that are success are used; every one of them was an exchange of this command, and is counted as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from syncd.clock import Patience
from syncd.github.limits import Budget, Tally
from syncd.github.protocol import Known, Request, Response, Transport

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


class Early:
    """Each answer serves the request that it was given to, once."""

    def __init__(self, replies: Sequence[Reply], tally: Tally) -> None:
        self._replies = {reply.question: reply for reply in replies if reply.status in (200, 304)}
        for reply in replies:
            about = ABOUT.search(reply.question[0])
            tally.count(reply.identity, reply.status, about.group(1) if about else None)

    def before(self, inner: Transport, budget: Budget) -> Transport:
        return _Before(self._replies, inner, budget) if self._replies else inner


class _Before:
    def __init__(self, replies: dict[tuple[str, str, str | None], Reply], inner: Transport, budget: Budget) -> None:
        self._replies, self._inner, self._budget = replies, inner, budget

    def send(self, request: Request, patience: Patience) -> Response:
        reply = None
        if request.method == "GET" and "If-None-Match" in request.headers:
            reply = self._replies.pop((request.url, request.headers["If-None-Match"], request.headers.get("Authorization")), None)
        if reply is None:
            return self._inner.send(request, patience)
        self._budget.note(reply.headers)
        return Known(reply.status, reply.headers, request.url, reply.body)
