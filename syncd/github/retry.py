"""The transport that sends a request again where that makes sense."""

from __future__ import annotations

import random
from collections.abc import Callable
from urllib.parse import urlsplit

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import (
    RateLimitedError,
    RemoteUnavailableError,
    TimedOutError,
    UnreachableError,
)
from syncd.github.attempts import Attempts
from syncd.github.error_responses import parse_error, rate_limit_error
from syncd.github.network_errors import PermanentNetworkError
from syncd.github.protocol import Request, Response, Transport, buffered
from syncd.github.rate_limit import RateLimitPendingError
from syncd.progress import Wait

RETRIED_STATUSES = {408, 500, 502, 503, 504}
MAX_RATE_LIMIT_WAITS = 2  # of one request; a third refusal is limited by something else


class RetryingTransport:
    """Send again: lost connections and 5xx with growing random pauses, limits after their wait.

    A limit is waited for when the wait fits into the run. What does not fit is returned or raised
    at once, as it is: the reason says more than a used-up time.
    """

    def __init__(
        self,
        inner: Transport,
        clock: Clock,
        waits_out_limits: bool = True,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._inner, self._clock = inner, clock
        self._waits_out_limits, self._random_fraction = waits_out_limits, random_fraction

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the answer of the first attempt that is not to be repeated."""
        attempts = request.attempts or Attempts(random_fraction=self._random_fraction)
        rate_limit_waits = 0
        while True:
            try:
                answer = self._inner.send(request, deadline)
            except (TimedOutError, PermanentNetworkError):
                raise
            except RateLimitPendingError as error:
                if not self._waited(error, 1, deadline):
                    raise
                continue
            except RemoteUnavailableError as error:
                delay = attempts.next_delay_seconds(deadline, answered=False)
                if delay is None:
                    raise
                _report(request, error, attempts, deadline)
            else:
                if answer.status in (403, 429):
                    answer = buffered(answer)
                    if not self._waited_out(request, answer, rate_limit_waits, deadline):
                        return answer
                    rate_limit_waits += 1
                    continue
                delay = self._delay_after(answer, attempts, deadline)
                if delay is None:
                    return answer
                answer.close()
            deadline.wait(delay)

    @staticmethod
    def _delay_after(answer: Response, attempts: Attempts, deadline: Deadline) -> float | None:
        if answer.status not in RETRIED_STATUSES:
            return None
        return attempts.next_delay_seconds(deadline, answered=True)

    def _waited_out(
        self, request: Request, answer: Response, waits: int, deadline: Deadline
    ) -> bool:
        """Wait for the limit that the answer names; return whether there was one and it fitted."""
        error = rate_limit_error(request, parse_error(answer), self._clock.now())
        if error is None or waits >= MAX_RATE_LIMIT_WAITS:
            return False
        return self._waited(error, 1 if error.primary else 2**waits, deadline)

    def _waited(self, error: RateLimitedError, times: int, deadline: Deadline) -> bool:
        wait = max(0.0, (error.retry_at - self._clock.now()).total_seconds()) * times
        wait += self._random_fraction()
        if not self._waits_out_limits or wait >= deadline.remaining_seconds():
            return False
        deadline.wait_for_rate_limit(wait, Wait.GITHUB_LIMIT)
        return True


def _report(
    request: Request, error: RemoteUnavailableError, attempts: Attempts, deadline: Deadline
) -> None:
    """Tell the run's listener where no connection could be made."""
    if isinstance(error, UnreachableError):
        host, until = urlsplit(request.url).netloc, attempts.last_ends_at(deadline)
        deadline.progress.unreachable(host, error.reason, until)


__all__ = ["RetryingTransport"]
