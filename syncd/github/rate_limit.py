"""What GitHub lets us do: the hourly budget as its headers tell it, and our own bounds on requests a minute and at once.

GitHub counts per installation of an App, and per user for a token, and so does this. A limit that one request met holds for all that
spend the same: until its time has come nothing is sent, whichever job asks.
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
from syncd.github.protocol import MAX_WAIT_SECONDS, date_of

POLL_INTERVAL_SECONDS = 0.05  # how soon to look again whether an answer has told what is left
MAX_RESERVED_REQUESTS = 500  # requests of an hour that timers leave to pushes and hands, at most
MAX_RESERVED_SHARE = 0.1  # of a small hourly limit
POINTS_PER_MINUTE = 900  # docs "Rate limits for the REST API": secondary limit per endpoint; kept over all endpoints together


def reserved_requests(limit: int | None) -> int:
    """How much of an hourly limit timers leave to pushes and hands."""
    return 0 if limit is None else min(MAX_RESERVED_REQUESTS, int(limit * MAX_RESERVED_SHARE))


class RateLimitPendingError(RateLimitedError):
    """Nothing was sent: another request has met the limit already."""


class RateLimitStatus(Struct, frozen=True):
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
        """For a reader: the identity, with the account where there is one."""
        where = self.account or self.installation
        return self.identity if where is None else f"{self.identity} ({where})"


class RateLimit:
    """One installation's, or one token's: fed from every answer's headers, asked before every request. Safe from many threads.

    Never a request too many, as far as its own answers tell: what is on its way counts as spent until its answer says what is left.
    """

    def __init__(self, clock: Clock, points_a_minute: int = POINTS_PER_MINUTE) -> None:
        self._clock = clock
        self._points = points_a_minute
        self._guard = threading.Lock()
        self._in_flight = 0
        self._resets = (
            0.0  # on the monotonic clock: a wall clock that is off must not make a wait of it
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
        """Return when one more request may go out, this minute and this hour; what is `charged` has to `land`.

        A timer's request leaves `reserved_requests` the hour to pushes and hands, unless it is `may_be_free`: asked on a condition that costs
        nothing where nothing has changed, so that what is in sync is known to be, whatever is left.
        Raises HeldBackError when nothing is left of this hour for such a request.
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
                deadline.wait_for_rate_limit(wait)
            else:
                deadline.wait(POLL_INTERVAL_SECONDS)

    def _held_back(self, subject: str, seconds: float, kept: int) -> RateLimitPendingError:
        retry_at = self._clock.now() + timedelta(seconds=seconds)
        why = (
            f"what is left of the hourly limit, {kept} requests at most, is kept for pushes and hands"
            if kept
            else "the hourly limit is used up"
        )
        text = f"{subject} was not asked for: {why}; it makes sense again at {retry_at:%Y-%m-%dT%H:%M:%SZ}"
        return RateLimitPendingError(
            text,
            retry_at=retry_at,
            primary=True,
            hint="syncd waits by itself; see `syncd status` for the budget",
        )

    def release(self) -> None:
        """A charged request has its answer, or none: it is not on its way any more."""
        with self._guard:
            self._in_flight -= 1

    def block_until(self, bucket: str, error: RateLimitedError) -> None:
        """Nothing of this bucket goes out before the limit's `retry_at`."""
        until = self._clock.monotonic() + (error.retry_at - self._clock.now()).total_seconds()
        with self._guard:
            if until > self._closed.get(bucket, (0.0, error))[0]:
                self._closed[bucket] = (until, error)

    def raise_if_blocked(self, bucket: str, subject: str) -> None:
        """Raises HeldBackError while a limit is known to last."""
        with self._guard:
            until, error = self._closed.get(bucket, (0.0, None))
            if error is not None and self._clock.monotonic() >= until:
                del self._closed[bucket]
                error = None
        if error is not None:
            raise RateLimitPendingError(
                f"{subject} was not asked for: GitHub has set a limit; it makes sense again at {error.retry_at:%Y-%m-%dT%H:%M:%SZ}",
                retry_at=error.retry_at,
                primary=error.primary,
                hint=error.hint,  # status and request id are of another's exchange
            )

    def update_from_headers(self, headers: Mapping[str, str], refused: bool = False) -> None:
        """What an answer tells of the hour is known. One that was `refused` binds nobody by that: what it asks for is `close`d for its own time."""
        try:
            limit, remaining, reset = (
                int(headers["x-ratelimit-limit"]),
                int(headers["x-ratelimit-remaining"]),
                int(headers["x-ratelimit-reset"]),
            )
            view = RateLimitStatus(limit, remaining, datetime.fromtimestamp(reset, UTC))
        except (KeyError, ValueError, OverflowError, OSError):
            return  # Enterprise Server with limits off says nothing
        if headers.get("x-ratelimit-resource", "core") != "core":
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

    def status(self) -> RateLimitStatus:
        with self._guard:
            return self._status


class RateLimits:
    """The rate_limits of one identity: one for each installation of an App, one for a token."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._guard = clock, threading.Lock()
        self._rate_limits: dict[int | None, RateLimit] = {}
        self._accounts: dict[int, str] = {}

    def get(self, installation: int | None = None) -> RateLimit:
        """The budget that requests with this installation's token spend; None: with a token."""
        with self._guard:
            return self._rate_limits.setdefault(installation, RateLimit(self._clock))

    def set_account(self, installation: int, account: str) -> None:
        """GitHub gave a token of this account's installation; another one of the account is over."""
        with self._guard:
            for other, name in list(self._accounts.items()):
                if other != installation and name.lower() == account.lower():
                    del self._accounts[other]
                    self._rate_limits.pop(other, None)
            self._accounts[installation] = account

    def snapshot(self, identity: str) -> tuple[SavedRateLimit, ...]:
        """The limits that GitHub has told, by installation."""
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
    """At most `at_once` requests in flight over all identities; waiting for a place ends with the run's deadline."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._free = threading.Semaphore(at_once)
        self._guard, self._too_many = threading.Lock(), 0

    def resize(self, at_once: int) -> None:
        """So many from now on; those in flight are not disturbed."""
        with self._guard:
            more, self.at_once = at_once - self.at_once, at_once
            for _ in range(more):
                if self._too_many:
                    self._too_many -= 1
                else:
                    self._free.release()
            for _ in range(-more):
                self._too_many += not self._free.acquire(blocking=False)

    def acquire(self, deadline: Deadline) -> None:
        while not self._free.acquire(timeout=0.5):
            deadline.check()

    def release(self) -> None:
        with self._guard:
            if self._too_many:  # the place goes with its request
                self._too_many -= 1
                return
        self._free.release()


class RequestMetrics:
    """How many exchanges were made, for the report and the metrics: redirects and token requests included."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._codes: Counter[tuple[str, int]] = Counter()
        self._spent: Counter[tuple[str, int | None, str]] = Counter()
        self.skew_seconds: float | None = None
        self._expiries: dict[str, datetime | None] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def record_renamed(self, identity: str, repo: str, number: int) -> None:
        """The repository was found by its number: it has another name than this one now."""
        with self._guard:
            self._numbers[identity, repo.lower()] = number

    def renamed_repositories(self) -> dict[tuple[str, str], int]:
        """(identity, repository in small letters) -> GitHub's number, of those that have another name now."""
        with self._guard:
            return dict(self._numbers)

    def record_token_expiry(self, identity: str, expires_at: datetime | None) -> None:
        """GitHub took the identity's token, and said when it will end, or nothing of the kind."""
        with self._guard:
            self._expiries[identity] = expires_at

    def token_expiries(self) -> dict[str, datetime | None]:
        """Identity -> when its token ends, None for one that does not say; of those that were used."""
        with self._guard:
            return dict(self._expiries)

    def record(
        self, identity: str, status: int, repo: str | None = None, installation: int | None = None
    ) -> None:
        """One exchange; about `repo` where the hourly limit of the installation, or of the token, paid for it (a 304 is free)."""
        with self._guard:
            self._codes[identity, status] += 1
            if repo is not None and status != 304:
                self._spent[identity, installation, repo] += 1

    def charged_requests(self) -> dict[tuple[str, int | None], dict[str, int]]:
        """(identity, installation) -> repository -> requests that were charged."""
        with self._guard:
            found: dict[tuple[str, int | None], dict[str, int]] = {}
            for (identity, installation, repo), count in self._spent.items():
                found.setdefault((identity, installation), {})[repo] = count
            return found

    def totals(self) -> dict[str, int]:
        with self._guard:
            return {
                "total": sum(self._codes.values()),
                "not_modified": sum(
                    count for (_, status), count in self._codes.items() if status == 304
                ),
            }

    def by_code(self) -> dict[tuple[str, int], int]:
        with self._guard:
            return dict(self._codes)
