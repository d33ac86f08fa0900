"""Webhook endpoint: checks the signature of each delivery and passes pushes on.

A delivery without a right signature is refused before anything of it is read. Each delivery is
answered at once, whatever follows from it. A repeated delivery starts nothing. Refusals are logged
once a minute at most. No answer says what is wrong on this machine.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import BinaryIO

from syncd.errors import ConfigError
from syncd.github.webhook import (
    OtherEvent,
    Push,
    PushOutcome,
    Rejection,
    check_signature,
    parse_delivery,
)
from syncd.redaction import Secret
from syncd.text import in_quotes
from syncd.web.clients import LOCAL, Proxies
from syncd.web.failed_attempts import FailureLimits
from syncd.web.ports import PushReceiver

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 << 10
GITHUB_USER_AGENT = (
    "GitHub-Hookshot/"  # docs "Webhook events and payloads": the User-Agent of every delivery
)
SMALL_BYTES = 64 << 10  # to see that the signature is wrong costs no more than to refuse it
MAX_DELIVERY_ID_CHARACTERS = 64  # GitHub's have 36 characters
LOG_INTERVAL_SECONDS = 60.0  # between two lines of one kind in the log


class WebhookEndpoint:
    """Answers deliveries. `secret` reads the webhook's secret as it is now. Safe to use from many
    threads.
    """

    def __init__(
        self,
        path: str,
        secret: Callable[[], Secret],
        receiver: PushReceiver,
        monotonic: Callable[[], float] = time.monotonic,
        proxies: Proxies | None = None,
    ) -> None:
        self.path, self.proxies = path, proxies or Proxies()
        self.failures = FailureLimits(monotonic)
        self._secret, self._receiver, self._monotonic = secret, receiver, monotonic
        self._guard = Lock()
        self._said: dict[
            str, tuple[float, int]
        ] = {}  # what was refused -> when that was said last, and how often it happened since

    def refuses(self, client: str, length: int) -> bool:
        """Return whether to refuse a delivery of this length before its body is read.

        The reason is the client's wrong signatures. Without a client, as behind a web server that
        passes none on, only large deliveries are refused, because all clients share the count.
        """
        return (client != LOCAL or length > SMALL_BYTES) and self.failures.refuses(client)

    def answer(
        self, client: str, header: Callable[[str], str | None], body: BinaryIO
    ) -> tuple[int, str, int]:
        """Return status and text for one delivery, and the seconds to wait (0 unless 429).

        `header` returns one of its headers; `body` can be read twice. Failures of other clients do
        not refuse a small delivery: GitHub sends from many addresses, and sends it once.
        """
        is_small = body.seek(0, os.SEEK_END) <= SMALL_BYTES
        seconds = self.failures.take(client, alone=is_small)
        if seconds and client != LOCAL:
            return 429, "", seconds
        status, text = self._answered(client, header, body)
        return status, text, 0

    def _answered(
        self, client: str, header: Callable[[str], str | None], body: BinaryIO
    ) -> tuple[int, str]:
        given = header("X-Hub-Signature-256")
        try:
            refusal = check_signature(_chunks(body), given, self._secret())
        except ConfigError as error:
            self._say(f"{error.message}{f' → {error.hint}' if error.hint else ''}")
            return 503, "the secret can't be read; syncd's own log says why"
        if refusal is not None:
            return self._refuse(refusal, header("User-Agent"))
        self.failures.succeeded(client)
        body.seek(0)
        found = parse_delivery(header("X-GitHub-Event"), header("Content-Type"), body.read())
        if isinstance(found, Rejection):
            return self._refuse(found, header("User-Agent"))
        return (
            self._other(found)
            if isinstance(found, OtherEvent)
            else self._push(found, header("X-GitHub-Delivery"), given or "")
        )

    def _push(self, push: Push, delivery: str | None, signature: str) -> tuple[int, str]:
        """Pass a push on.

        A delivery is recognized by GitHub's id together with its signature: the id alone is a
        header that is not signed.
        """
        what = f"push of {in_quotes(push.ref)[1:-1]} in {push.repo}"
        outcome = self._receiver.push_received(
            push,
            None if delivery is None else f"{delivery[:MAX_DELIVERY_ID_CHARACTERS]} {signature}",
            what,
        )
        if outcome is None:
            return 202, "this delivery came before; nothing was started"
        follows = _outcome_text(push, outcome)
        log.debug("webhook: %s: %s", what, follows)
        return 202, follows if outcome.started else f"{what}: {follows}"

    def _other(self, other: OtherEvent) -> tuple[int, str]:
        self._receiver.ignored(other.event)
        return (
            (200, "pong")
            if other.event == "ping"
            else (202, f"nothing here waits for the event {other.event}")
        )

    def _refuse(self, refusal: Rejection, agent: str | None) -> tuple[int, str]:
        """Refuse a delivery, and log it as a warning only if it names itself GitHub's.

        Scanners of the whole network are refused too, and are no news.
        """
        theirs = (agent or "").startswith(GITHUB_USER_AGENT)
        self._receiver.rejected(refusal.text if theirs else None)
        self._say(refusal.text, logging.WARNING if theirs else logging.DEBUG)
        return refusal.status, f"refused: {refusal.text}"

    def _say(self, why: str, level: int = logging.WARNING) -> None:
        if not log.isEnabledFor(level):
            return
        now = self._monotonic()
        with self._guard:
            last, untold = self._said.get(why, (None, 0))
            if last is not None and now - last < LOG_INTERVAL_SECONDS:
                self._said[why] = (last, untold + 1)
                return
            self._said[why] = (now, 0)
        log.log(
            level,
            "a delivery to the webhook was refused%s: %s",
            f", as {untold} before it" if untold else "",
            why,
        )


def _outcome_text(push: Push, outcome: PushOutcome) -> str:
    """Return what follows from a push."""
    started, paused = outcome.started, outcome.paused
    if started:
        text = f"{started} job{'s ask' if started > 1 else ' asks'} GitHub now"
        return f"{text}; {_paused_text(paused)}" if paused else text
    if paused:
        return f"nothing was started; {_paused_text(paused)}"
    return "a deletion starts nothing" if push.deleted else "no job follows that"


def _paused_text(paused: int) -> str:
    return f"{paused} job{'s are' if paused > 1 else ' is'} paused and skipped"


def _chunks(body: BinaryIO) -> Iterator[bytes]:
    """Yield the body in pieces, so that it is judged before it is in memory as a whole."""
    body.seek(0)
    while chunk := body.read(CHUNK_BYTES):
        yield chunk


__all__ = ["WebhookEndpoint"]
