"""The simulated GitHub: routing, conditional requests, limits and faults; it records every request.

Source of every rule: the REST documentation and recorded responses.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote

from msgspec.structs import replace

from syncd.simulator import apps, graphql, oauth_routes, repositories, responses, storage
from syncd.simulator.accounts import ApiError
from syncd.simulator.faults import Answer, Fault, FaultEffect
from syncd.simulator.request import RecordedRequest, Route, SimRequest
from syncd.simulator.state import SimulatorState

# Routes that check a credential of their own, and that no rate limit counts.
UNMETERED_ROUTES = frozenset(
    (
        "codeload",
        "lfs_object",
        "token",
        "app",
        "deliveries",
        "installation",
        "device",
        "poll",
        "refresh",
        "end",
    )
)
ANONYMOUS_LIMIT = 60
GRAPHQL = "graphql"  # a route, and what GitHub calls its limit
SECONDARY_LIMIT_TEXT = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)
NO_USER_AGENT_TEXT = (
    "Request forbidden by administrative rules. "
    "Please make sure your request has a User-Agent header"
)
EXPIRY_HEADER = "github-authentication-token-expiration"


class GitHub(SimulatorState):
    """The whole simulator. Its attributes are its switches; `add_fault` says what goes wrong."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        super().__init__(now)
        self.requests: list[RecordedRequest] = []
        self.faults: list[Fault] = []
        # (route, n, action): the action is called just before the nth request is answered
        self.callbacks: list[tuple[str, int, Callable[[], None]]] = []
        self._spent: Counter[tuple[str, int]] = Counter()
        self._minute: dict[str, list[float]] = {}
        self._guard = threading.RLock()
        self._serial = 0

    def add_fault(self, route: str, effect: FaultEffect, times: int = 1, skip: int = 0) -> Fault:
        """Spoil the next `times` responses of a route (`*`: of any), after the first `skip`."""
        made = Fault(route, effect, times, skip)
        self.faults.append(made)
        return made

    def call_before(self, route: str, nth: int, action: Callable[[], None]) -> None:
        """Call `action` just before the nth request (from 1) of the route is answered."""
        self.callbacks.append((route, nth, action))

    # --- counting ---------------------------------------------------------------------------------

    def count(self, route: str | None = None, status: int | None = None) -> int:
        """Return how many requests were recorded, of one route or status where given."""
        return sum(
            (route is None or one.route == route) and (status is None or one.status == status)
            for one in self.requests
        )

    def routes(self) -> dict[str, int]:
        """Return the number of recorded requests by route."""
        return dict(Counter(one.route for one in self.requests))

    def forget_requests(self) -> None:
        """Forget the recorded requests; limits keep counting."""
        with self._guard:
            self.requests.clear()

    # --- answering --------------------------------------------------------------------------------

    def handle(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        origin: str = "http://127.0.0.1",
    ) -> Answer:
        """Answer one request; `target` is path and query."""
        request = _parsed(method, target, headers, body, origin)
        with self._guard:
            parts = [
                unquote(part, errors="surrogateescape")
                for part in request.path.strip("/").split("/")
            ]
            route, handler = self._route(request, parts)
            self._call_callbacks(route)
            answer = self._with_headers(request, route, self._answer(request, route, handler))
            for fault in self.faults:
                if fault.matches(route):
                    answer = fault.effect(answer)
            key = request.authorization.partition(" ")[2] or None
            self.requests.append(
                RecordedRequest(route, method, target, answer.status, key, request.headers)
            )
            return answer

    def _route(self, request: SimRequest, parts: Sequence[str]) -> Route:
        for routes in (apps.route, oauth_routes.route, storage.route, repositories.route):
            found = routes(self, request, parts)
            if found is not None:
                return found
        if parts in (["graphql"], ["api", "graphql"]) and request.method == "POST":
            return GRAPHQL, lambda: graphql.answer(self, request)
        if parts == ["rate_limit"]:
            limits = {"resources": {"core": {"limit": self.primary_limit}}}
            return "rate_limit", lambda: responses.as_json(limits)
        return "unknown", lambda: responses.raise_error(404, "Not Found")

    def _call_callbacks(self, route: str) -> None:
        number = self.count(route) + 1
        for due in [one for one in self.callbacks if one[:2] == (route, number)]:
            self.callbacks.remove(due)
            due[2]()

    def _answer(self, request: SimRequest, route: str, handler: Callable[[], Answer]) -> Answer:
        try:
            self._check_headers(request)
            if route not in UNMETERED_ROUTES:
                authorization = request.headers.get("authorization")
                request.who = self.accounts.credential(authorization, self.now())
                self._count_against_limits(request, route)
            answer = handler()
        except ApiError as error:
            return responses.error_answer(error)
        if answer.status == 200 and request.method == "GET":
            return self._conditional(request, answer)
        return answer

    def _check_headers(self, request: SimRequest) -> None:
        if not request.headers.get("user-agent"):
            raise ApiError(403, NO_USER_AGENT_TEXT)
        version = request.headers.get("x-github-api-version")
        if self.api_versions is None or version is None or version in self.api_versions:
            return
        raise ApiError(400, f"The API version {version} is not supported")

    def _count_against_limits(self, request: SimRequest, route: str) -> None:
        """Count a request. Raises ApiError past a primary or secondary limit.

        GraphQL has limits of its own, and says with status 200 that one is used up. Source: docs
        "Rate limits for the REST API", "Rate limits and query limits for the GraphQL API".
        """
        is_graphql = route == GRAPHQL
        key, now = _limit_key(request, route), self.now()
        points = self.graphql_points if is_graphql else self.secondary_points
        if points is not None:
            minute = self._minute.setdefault(key, [])
            minute[:] = [at for at in minute if at > now - 60]
            if len(minute) >= points:
                raise ApiError(403, SECONDARY_LIMIT_TEXT, {"retry-after": "60"})
            minute.append(now)
        limit = self._limit(key)
        if limit is not None and self._spent[key, int(now // 3600)] >= limit:
            text = "API rate limit exceeded for installation ID 1."
            errors = [{"type": "RATE_LIMITED", "message": text}] if is_graphql else None
            raise ApiError(200 if is_graphql else 403, text, errors=errors)
        self._spent[key, int(now // 3600)] += 1

    def _limit(self, key: str) -> int | None:
        if key == "anonymous" and self.primary_limit is not None:
            return ANONYMOUS_LIMIT
        return self.primary_limit

    def _conditional(self, request: SimRequest, answer: Answer) -> Answer:
        """Return the response with its ETag, or 304 (which no limit counts) where it matches."""
        etag = answer.headers.get("etag")
        if self.etags == "none":
            kept = {name: value for name, value in answer.headers.items() if name != "etag"}
            return replace(answer, headers=kept)
        if etag is None or self.etags == "hash":
            etag = _hashed_etag(request, answer)
        given = [
            one.strip().removeprefix("W/").strip('"')
            for one in request.headers.get("if-none-match", "").split(",")
        ]
        headers = {**answer.headers, "etag": f'"{etag}"'}
        if etag not in given:
            return replace(answer, headers=headers)
        if request.who is not None:
            self._spent[request.who.key, int(self.now() // 3600)] -= 1
        return replace(answer, status=304, body=b"", headers=headers)

    def _with_headers(self, request: SimRequest, route: str, answer: Answer) -> Answer:
        self._serial += 1
        headers = {
            "date": formatdate(self.now(), usegmt=True),
            "x-github-request-id": f"{self._serial:04X}:SIM",
            **answer.headers,
        }
        who = request.who
        if who is not None and who.kind == "personal" and who.expires != float("inf"):
            expires = datetime.fromtimestamp(int(who.expires), UTC)
            headers[EXPIRY_HEADER] = expires.strftime("%Y-%m-%d %H:%M:%S UTC")
        headers |= self._limit_headers(_limit_key(request, route), route)
        return replace(answer, headers=headers)

    def _limit_headers(self, key: str, route: str) -> dict[str, str]:
        limit = self._limit(key)
        if limit is None or not self.limit_headers:
            return {}
        hour = int(self.now() // 3600)
        spent = self._spent[key, hour]
        return {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(max(0, limit - spent)),
            "x-ratelimit-used": str(spent),
            "x-ratelimit-reset": str((hour + 1) * 3600),
            "x-ratelimit-resource": GRAPHQL if route == GRAPHQL else "core",
        }


def _parsed(
    method: str, target: str, headers: Mapping[str, str], body: bytes, origin: str
) -> SimRequest:
    path, _, query = target.partition("?")
    lower = {name.lower(): value for name, value in headers.items()}
    prefix = "/api/v3" if path.startswith("/api/v3") else ""
    return SimRequest(
        method,
        path.removeprefix(prefix),
        dict(parse_qsl(query, keep_blank_values=True)),
        lower,
        body,
        origin,
        prefix,
    )


def _limit_key(request: SimRequest, route: str) -> str:
    key = request.who.key if request.who else "anonymous"
    return f"{key} {GRAPHQL}" if route == GRAPHQL else key


def _hashed_etag(request: SimRequest, answer: Answer) -> str:
    seed = "".join(
        f"{request.headers[name]}:"
        for name in ("accept", "authorization", "cookie")
        if name in request.headers
    )
    return hashlib.sha256(seed.encode() + answer.body).hexdigest()
