"""GitHub's rate limits, from its headers, and our own limits on requests a minute and in flight.

GitHub counts per installation of an App, and per user for a token, and so does this. A limit that
one request reached holds for all that spend the same one: until its time has come nothing is sent,
whichever job asks.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import RateLimitedError
from syncd.github.poll_choice import GRAPHQL_POINTS_PER_MINUTE, Points
from syncd.github.protocol import MAX_WAIT_SECONDS, date_of
from syncd.progress import Wait

POLL_INTERVAL_SECONDS = 0.05  # how soon to check again whether an answer shows what is left
MAX_RESERVED_REQUESTS = (
    500  # of an hour that scheduled runs leave to pushes and manual runs, at most
)
MAX_RESERVED_SHARE = 0.1  # of a small hourly limit
# docs "Rate limits for the REST API": secondary limit per endpoint; kept over all endpoints
# together
POINTS_PER_MINUTE = 900
AVERAGED_ANSWERS = 100  # about so many of the last ones count in an average


def reserved_requests(limit: int | None) -> int:
    """Return how much of an hourly limit scheduled runs leave to pushes and manual runs."""
    return 0 if limit is None else min(MAX_RESERVED_REQUESTS, int(limit * MAX_RESERVED_SHARE))


class RateLimitPendingError(RateLimitedError):
    """Nothing was sent: another request has reached the limit already."""


class RateLimitStatus(Struct, frozen=True):
    """One hourly limit as GitHub's headers show it; None for what GitHub has not said."""

    limit: int | None
    remaining: int | None
    reset_at: datetime | None


class SavedRateLimit(Struct, frozen=True):
    """One hourly limit. `installation` and `account` are None for a token."""

    identity: str
    installation: int | None
    account: str | None
    view: RateLimitStatus

    @property
    def name(self) -> str:
        """Return the name for a reader: the identity, with the account where there is one."""
        where = self.account or self.installation
        return self.identity if where is None else f"{self.identity} ({where})"


class RateLimit:
    """The rate limit of one installation or one token. Safe from many threads.

    It is updated from every answer's headers and checked before every request. As far as its own
    answers show, no request goes past the limit: what is in flight counts as spent until its
    answer shows what is left. `resource` is what GitHub calls it: GraphQL has a limit of its own.
    """

    def __init__(
        self, clock: Clock, points_a_minute: int = POINTS_PER_MINUTE, resource: str = "core"
    ) -> None:
        self._clock, self._resource = clock, resource
        self._points = points_a_minute
        self._not_modified, self._seconds = 1.0, 0.0
        self._guard = threading.Lock()
        self._in_flight = 0
        self._resets = (
            0.0  # on the monotonic clock: a wall clock that is wrong must not cause a wait
        )
        self._sent: deque[float] = deque()
        self._closed: dict[str, tuple[float, RateLimitedError]] = {}
        self._status = RateLimitStatus(None, None, None)

    def acquire(
        self,
        deadline: Deadline,
        subject: str = "this",
        charged: bool = True,
        may_be_free: bool = False,
    ) -> None:
        """Return when one more request may be sent, this minute and this hour.

        What is `charged` has to be released. A scheduled run's request leaves `reserved_requests`
        of the hour to pushes and manual runs, unless it `may_be_free`: a conditional request costs
        nothing where nothing has changed, so that an up-to-date job is known to be so, whatever is
        left. Raises RateLimitPendingError when nothing is left of this hour for such a request.
        """
        while True:
            with self._guard:
                now = self._clock.monotonic()
                while self._sent and self._sent[0] <= now - 60:
                    self._sent.popleft()
                kept = (
                    0
                    if deadline.interactive or may_be_free
                    else reserved_requests(self._status.limit)
                )
                left = (
                    self._status.remaining - kept
                    if charged and self._status.remaining is not None and now < self._resets
                    else None
                )
                if len(self._sent) < self._points and (left is None or left > self._in_flight):
                    self._sent.append(now)
                    self._in_flight += charged
                    return
                wait = (
                    self._sent[0] + 60 - now
                    if len(self._sent) >= self._points
                    else POLL_INTERVAL_SECONDS
                )
                resets = self._resets - now
            if left is not None and left <= 0:
                raise self._held_back(subject, resets, kept)
            if wait > POLL_INTERVAL_SECONDS:
                deadline.wait_for_rate_limit(wait, Wait.OWN_LIMIT)
            else:
                deadline.wait(POLL_INTERVAL_SECONDS)

    def _held_back(self, subject: str, seconds: float, kept: int) -> RateLimitPendingError:
        retry_at = self._clock.now() + timedelta(seconds=seconds)
        why = (
            f"what is left of the hourly limit, {kept} requests at most, is kept for pushes and "
            "manual runs"
            if kept
            else "the hourly limit is used up"
        )
        text = (
            f"the request for {subject} was not sent: {why}; "
            f"try again at {retry_at:%Y-%m-%dT%H:%M:%SZ}"
        )
        return RateLimitPendingError(
            text,
            retry_at=retry_at,
            id="rate_limited/hourly-limit",
            primary=True,
            hint="syncd waits by itself; see `syncd status` for the budget",
        )

    def release(self) -> None:
        """Note that a charged request is not in flight any more, whether it was answered or not."""
        with self._guard:
            self._in_flight -= 1

    def block_until(self, bucket: str, error: RateLimitedError) -> None:
        """Send nothing of this bucket before the limit's `retry_at`."""
        until = self._clock.monotonic() + (error.retry_at - self._clock.now()).total_seconds()
        with self._guard:
            if until > self._closed.get(bucket, (0.0, error))[0]:
                self._closed[bucket] = (until, error)

    def raise_if_blocked(self, bucket: str, subject: str) -> None:
        """Raise RateLimitPendingError while a limit is known to last."""
        with self._guard:
            until, error = self._closed.get(bucket, (0.0, None))
            if error is not None and self._clock.monotonic() >= until:
                del self._closed[bucket]
                error = None
        if error is not None:
            raise RateLimitPendingError(
                f"the request for {subject} was not sent: GitHub has set a limit; "
                f"try again at {error.retry_at:%Y-%m-%dT%H:%M:%SZ}",
                retry_at=error.retry_at,
                id=error.id,
                primary=error.primary,
                hint=error.hint,  # status and request id are of another's exchange
            )

    def update_from_headers(self, headers: Mapping[str, str], refused: bool = False) -> None:
        """Update the hourly limit from an answer's headers.

        A `refused` answer does not start a wait here: `block_until` does, with its own time.
        """
        try:
            limit, remaining, reset = (
                int(headers["x-ratelimit-limit"]),
                int(headers["x-ratelimit-remaining"]),
                int(headers["x-ratelimit-reset"]),
            )
            view = RateLimitStatus(limit, remaining, datetime.fromtimestamp(reset, UTC))
        except (KeyError, ValueError, OverflowError, OSError):
            return  # Enterprise Server with limits off says nothing
        if headers.get("x-ratelimit-resource", "core") != self._resource:
            return
        lasts = reset - (date_of(headers) or self._clock.now()).timestamp() + 1
        with self._guard:
            if view.reset_at == self._status.reset_at and self._status.remaining is not None:
                view = replace(
                    view, remaining=min(remaining, self._status.remaining)
                )  # answers overtake each other
            self._status = view
            if not refused:
                self._resets = self._clock.monotonic() + min(lasts, MAX_WAIT_SECONDS)

    def record_answer(self, seconds: float, not_modified: bool | None = None) -> None:
        """Note how long an answer took, and of a conditional one whether it was 304."""
        with self._guard:
            self._seconds += (seconds - self._seconds) / AVERAGED_ANSWERS
            if not_modified is not None:
                self._not_modified += (not_modified - self._not_modified) / AVERAGED_ANSWERS

    def averages(self) -> tuple[float, float]:
        """Return the seconds of an answer, and the share of 304 of the conditional ones."""
        with self._guard:
            return self._seconds, self._not_modified

    def points(self) -> Points:
        """Return what scheduled runs may spend of this minute and this hour."""
        with self._guard:
            now, status = self._clock.monotonic(), self._status
            sent = sum(at > now - 60 for at in self._sent)
            if status.remaining is None or now >= self._resets:
                hour = None if status.limit is None else status.limit
                return Points(sent, self._without_reserve(hour))
            return Points(sent, self._without_reserve(status.remaining), self._resets - now)

    def _without_reserve(self, hour: int | None) -> int | None:
        return None if hour is None else hour - reserved_requests(self._status.limit)

    def status(self) -> RateLimitStatus:
        """Return the limit as the answers so far show it."""
        with self._guard:
            return self._status


class RateLimits:
    """The rate_limits of one identity: one for each installation of an App, one for a token."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._guard = clock, threading.Lock()
        self._rate_limits: dict[int | None, RateLimit] = {}
        self._graphql: dict[int | None, RateLimit] = {}
        self._accounts: dict[int, str] = {}

    def get(self, installation: int | None = None) -> RateLimit:
        """Return the limit of this installation's token; None: of a token without installation."""
        with self._guard:
            return self._rate_limits.setdefault(installation, RateLimit(self._clock))

    def graphql(self, installation: int | None = None) -> RateLimit:
        """Return the GraphQL limit of this installation's token, or of a token without one."""
        with self._guard:
            made = RateLimit(self._clock, GRAPHQL_POINTS_PER_MINUTE, "graphql")
            return self._graphql.setdefault(installation, made)

    def set_account(self, installation: int, account: str) -> None:
        """Note the account of an installation; another installation of the account is gone."""
        with self._guard:
            for other, name in list(self._accounts.items()):
                if other != installation and name.lower() == account.lower():
                    del self._accounts[other]
                    self._rate_limits.pop(other, None)
                    self._graphql.pop(other, None)
            self._accounts[installation] = account

    def snapshot(self, identity: str) -> tuple[SavedRateLimit, ...]:
        """Return the limits that GitHub has sent, by installation."""
        with self._guard:
            rate_limits, accounts = dict(self._rate_limits), dict(self._accounts)
        found = []
        for installation in sorted(rate_limits, key=lambda one: one or 0):
            account = accounts.get(installation) if installation is not None else None
            view = rate_limits[installation].status()
            if view.limit is not None:
                found.append(SavedRateLimit(identity, installation, account, view))
        return tuple(found)


class ConcurrencyLimit:
    """At most `limit` requests in flight over all identities.

    Waiting for a place ends with the run's deadline.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = threading.Semaphore(limit)
        self._guard, self._too_many = threading.Lock(), 0

    def resize(self, limit: int) -> None:
        """Change the limit; requests in flight are not disturbed."""
        with self._guard:
            more, self.limit = limit - self.limit, limit
            for _ in range(more):
                if self._too_many:
                    self._too_many -= 1
                else:
                    self._free.release()
            for _ in range(-more):
                self._too_many += not self._free.acquire(blocking=False)

    def acquire(self, deadline: Deadline) -> None:
        """Wait for a place. Raises as `Deadline.check` does."""
        while not self._free.acquire(timeout=0.5):
            deadline.check()

    def release(self) -> None:
        """Give a place back."""
        with self._guard:
            if self._too_many:  # the place goes with its request
                self._too_many -= 1
                return
        self._free.release()


class RequestMetrics:
    """The number of requests, for the report and the metrics, with redirects and token requests."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._codes: Counter[tuple[str, int]] = Counter()
        self._spent: Counter[tuple[str, int | None, str]] = Counter()
        self.skew_seconds: float | None = None
        self._expiries: dict[str, datetime | None] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._found_by_name: set[tuple[str, str]] = set()

    def record_renamed(self, identity: str, repo: str, number: int) -> None:
        """Note that the repository was found by its number: it has another name now."""
        with self._guard:
            self._numbers[identity, repo.lower()] = number
            self._found_by_name.discard((identity, repo.lower()))

    def record_found(self, identity: str, repo: str) -> None:
        """Note that the repository was found by the name that was asked for."""
        with self._guard:
            self._numbers.pop((identity, repo.lower()), None)
            self._found_by_name.add((identity, repo.lower()))

    def found_by_name(self) -> frozenset[tuple[str, str]]:
        """Return the repositories that were found by their name, with the identity."""
        with self._guard:
            return frozenset(self._found_by_name)

    def renamed_repositories(self) -> dict[tuple[str, str], int]:
        """Return GitHub's number of each renamed repository, by identity and lower-case name."""
        with self._guard:
            return dict(self._numbers)

    def record_token_expiry(self, identity: str, expires_at: datetime | None) -> None:
        """Note when an accepted token of the identity ends; None where GitHub does not say."""
        with self._guard:
            self._expiries[identity] = expires_at

    def token_expiries(self) -> dict[str, datetime | None]:
        """Return when the token of each identity in use ends; None where GitHub does not say."""
        with self._guard:
            return dict(self._expiries)

    def record(
        self, identity: str, status: int, repo: str | None = None, installation: int | None = None
    ) -> None:
        """Count one request.

        `repo` is given where the hourly limit of the installation, or of the token, was charged (a
        304 is free).
        """
        with self._guard:
            self._codes[identity, status] += 1
            if repo is not None and status != 304:
                self._spent[identity, installation, repo] += 1

    def charged_requests(self) -> dict[tuple[str, int | None], dict[str, int]]:
        """Return the charged requests per repository, by identity and installation."""
        with self._guard:
            found: dict[tuple[str, int | None], dict[str, int]] = {}
            for (identity, installation, repo), count in self._spent.items():
                found.setdefault((identity, installation), {})[repo] = count
            return found

    def totals(self) -> dict[str, int]:
        """Return the number of all requests, and of those answered with 304."""
        with self._guard:
            return {
                "total": sum(self._codes.values()),
                "not_modified": sum(
                    count for (_, status), count in self._codes.items() if status == 304
                ),
            }

    def by_code(self) -> dict[tuple[str, int], int]:
        """Return the number of requests by identity and status."""
        with self._guard:
            return dict(self._codes)
