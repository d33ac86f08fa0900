"""The network: requests on their way and back, through the library `requests` (sessions.py).

Our credential goes to the host it was made for and to no other. Nothing of the environment
(netrc, proxies, authorities) and no cookie has an influence. A body is bounded in bytes and time.
Every failure of the library becomes a RemoteUnavailableError or BadResponseError here, before it
can be taken for a full disk (some of them are OSErrors).

Small transports of one shape wrap each other: AuthTransport(RetryingTransport(Network)). What
asks for a token is outside of RetryingTransport: a token that can't be had is retried by its own
request alone.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace
from requests import Session
from urllib3.response import HTTPResponse

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import BadResponseError, ConfigError
from syncd.github.attempts import Attempts
from syncd.github.connections import Watch
from syncd.github.error_responses import parse_error, rate_limit_error
from syncd.github.exchange import Exchange, StreamedResponse
from syncd.github.network_errors import translate_network_error
from syncd.github.protocol import Request, Response, buffered, date_of, expiry_of
from syncd.github.proxies import Proxies, split_login
from syncd.github.rate_limit import ConcurrencyLimit, RateLimit, RateLimits, RequestMetrics
from syncd.github.sessions import Route, open_session, send
from syncd.github.tls_context import TlsContext
from syncd.github.urls import (
    address_kind,
    check_peer,
    check_redirect,
    hosts_of,
    may_send_credential,
    redirect_url,
    same_origin,
)
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

MAX_SESSIONS = 8  # an API, its archives, and hosts of storage
MAX_REDIRECTS = 5
UNREACHABLE_AFTER_SECONDS = 1.5  # without a connection: then the run says so
REDIRECT_STATUSES = (301, 302, 303, 307, 308)
NUMBERED = re.compile(r"/repositories/(\d{1,18})(?:/|\Z)")  # where a renamed repository is found
INVALID_HEADER_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, 5.5
# The headers that any host may see.
SAFE_HEADERS = frozenset(
    (
        "Accept",
        "Accept-Encoding",
        "Content-Type",
        "If-None-Match",
        "If-Range",
        "Range",
        "User-Agent",
        "X-GitHub-Api-Version",
    )
)
# The headers of their answers, if any, describe another limit than the installation's.
GRAPHQL = "graphql"  # the route whose limit is another one than that of all other routes
UNCOUNTED_ROUTES = ("token", "installation", "app", "revoke", "login", "codeload", "lfs")


class Network:
    """One identity's connections to its host.

    Every exchange is counted, also each redirect. `api` is where the identity's API is: no
    credential goes to an origin that may not have it (urls.py). `ca_file` alone decides which
    certificates its hosts may have; for every other host it adds to the usual authorities.
    Nine parameters, because each collaborator is shared by a different set of identities.

    Raises ConfigError for a `ca_file` that does not exist.
    """

    def __init__(
        self,
        identity: str,
        clock: Clock,
        metrics: RequestMetrics,
        rate_limits: RateLimits,
        concurrency_limit: ConcurrencyLimit,
        proxies: Proxies,
        ca_file: str | None = None,
        api: str | None = None,
        owner: int | None = None,
    ) -> None:
        if ca_file is not None and not os.path.isfile(ca_file):
            raise ConfigError(
                f"ca_file: {ca_file} is no file that can be read",
                id="config/ca-file",
                hint="correct ca_file: of the identity",
            )
        self._identity, self._clock, self._metrics = identity, clock, metrics
        self._rate_limits, self._concurrency_limit = rate_limits, concurrency_limit
        self._proxies = proxies
        for password in proxies.passwords():
            add_secret(Secret(password))
            add_secret(Secret(unquote(password)))  # the form in which it is sent
        self._tls = self._tls_of_others = TlsContext(ca_file, owner=owner)
        if ca_file is not None:
            self._tls_of_others = TlsContext(ca_file, add_default=True, owner=owner)
        self._api, self._own_hosts = api, hosts_of(api) if api is not None else frozenset[str]()
        self._own_kinds: set[str] = set()  # of the addresses from which the API itself has answered
        self._lock = threading.Lock()
        # by origin, proxy, own host
        self._sessions: dict[
            tuple[str, str | None, bool], tuple[Session, ssl.SSLContext | None]
        ] = {}
        self.notices: list[str] = []

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the answer after following redirects. Raises as `Transport.send` does."""
        sent, credential = request, request.headers.get("Authorization")
        deadline.progress.asking(request.subject)
        self._check_credential(request, credential)
        self._rate_limit_of(request).raise_if_blocked(_bucket(request), request.subject)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._exchange(sent, credential, self._is_foreign(request, sent), deadline)
            if answer.status not in REDIRECT_STATUSES or "location" not in answer.headers:
                self._note_name(request, sent, answer.status)
                return self._noted(request, sent, answer)
            answer.close()
            found = redirect_url(sent.url, answer.headers["location"], request.subject)
            if not same_origin(found, sent.url):
                check_redirect(sent.url, found, request.subject, request.allow_other_host)
                # The credential does not come back, wherever the next redirect leads; nor does
                # what a storage host wanted as a header of its own.
                credential, sent = None, _with_safe_headers(sent)
            self._check_method(request, sent, answer.status)
            self._note_rename(request, answer.status, found)
            sent = replace(sent, url=found)
        raise BadResponseError(
            f"the request for {request.subject} was redirected more than {MAX_REDIRECTS} times",
            id="bad_response/too-many-redirects",
            hint="check api:",
        )

    def _is_foreign(self, request: Request, sent: Request) -> bool:
        """Return whether a server's answer named the host, and not the configuration."""
        own = self._own_hosts or {urlsplit(request.url).hostname}
        if urlsplit(sent.url).hostname not in own:
            return True
        return self._api is None and request.route == "lfs_object"

    @staticmethod
    def _check_method(request: Request, sent: Request, status: int) -> None:
        if sent.method != "GET" and status not in (307, 308) and not request.is_read_only:
            raise BadResponseError(
                f"GitHub redirected the request for {request.subject} ({status}) in a way that a "
                f"{sent.method} can't follow",
                id="bad_response/redirected-write",
                hint="check api: and repo:",
            )

    def _note_name(self, request: Request, sent: Request, status: int) -> None:
        """Note a repository that was found by its name, without a redirect."""
        if status not in (200, 304) or sent is not request or not request.repo:
            return
        if f"/repos/{request.repo}/".lower() in f"{urlsplit(request.url).path}/".lower():
            self._metrics.record_found(self._identity, request.repo)

    def _note_rename(self, request: Request, status: int, found: str) -> None:
        if status != 301 or not request.repo:
            return
        number = NUMBERED.search(urlsplit(found).path)
        if number is not None:
            self._metrics.record_renamed(self._identity, request.repo, int(number.group(1)))
        self._notice(
            f"{request.repo} was renamed or moved; syncd follows, but write its new name into repo:"
        )

    def _check_credential(self, request: Request, credential: str | None) -> None:
        """Raise BadResponseError for a credential that would go to an origin that may not have it.

        What a storage host of LFS receives is its own credential, from the answer that named the
        host, and none of ours.
        """
        holds_one = request.route == "login" or (
            credential is not None and request.route != "lfs_object"
        )
        if not holds_one or self._api is None or may_send_credential(self._api, request.url):
            return
        parts = urlsplit(request.url)
        raise BadResponseError(
            f"the request for {request.subject} was not sent: its credential may not go to "
            f"{parts.scheme}://{parts.hostname}, which does not belong to api: {self._api}",
            id="bad_response/credential-not-sent",
            hint="check api: of the identity",
        )

    def close(self) -> None:
        """Close all connections. The object can be used again afterwards."""
        with self._lock:
            sessions, self._sessions = self._sessions, {}
        for session, _ in sessions.values():
            session.close()

    def _noted(self, request: Request, sent: Request, answer: Response) -> Response:
        """Return the answer; one that names a limit blocks all other requests until it is over."""
        if answer.status not in (403, 429) or not same_origin(sent.url, request.url):
            return answer
        answer = buffered(answer)
        error = rate_limit_error(request, parse_error(answer), self._clock.now())
        if error is not None:
            self._rate_limit_of(request).block_until(_bucket(request), error)
            if not error.primary:  # it asks to slow down, whatever is asked for
                self._rate_limits.get(request.installation).block_until(_bucket(request), error)
        return answer

    def _rate_limit_of(self, request: Request) -> RateLimit:
        if request.route == GRAPHQL:
            return self._rate_limits.graphql(request.installation)
        return self._rate_limits.get(request.installation)

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)
            log.warning("%s", text)

    def _exchange(
        self, request: Request, credential: str | None, is_foreign: bool, deadline: Deadline
    ) -> StreamedResponse:
        """Send one request, without redirects, when the limits allow it; return its answer."""
        deadline.check()
        is_charged = request.route not in UNCOUNTED_ROUTES
        # docs "Best practices": a 304 is free where a token asks
        may_be_free = "If-None-Match" in request.headers and credential is not None
        rate_limit = self._rate_limit_of(request)
        rate_limit.acquire(deadline, request.subject, is_charged, may_be_free)
        try:
            self._concurrency_limit.acquire(deadline)
            began = deadline.clock.monotonic()
            exchange = self._started(request, credential, is_foreign, deadline)
            answer = StreamedResponse(
                request, self._head(exchange, request, deadline), exchange, deadline
            )
            deadline.request_count += 1
            seconds = deadline.clock.monotonic() - began
            self._log(request, answer, seconds, is_charged)
            if request.route in (GRAPHQL, "head"):
                rate_limit.record_answer(seconds, _not_modified(request, answer))
            self._record(request, answer, is_charged, credential is not None)
            if answer.status != 401 and is_charged:
                rate_limit.update_from_headers(answer.headers, refused=answer.status in (403, 429))
        finally:
            if is_charged:
                rate_limit.release()
        return answer

    @staticmethod
    def _log(request: Request, answer: StreamedResponse, seconds: float, is_charged: bool) -> None:
        """Log the request, without its query, which may hold a token."""
        if not log.isEnabledFor(logging.DEBUG):
            return
        parts = urlsplit(request.url)
        cost = int(is_charged and answer.status != 304)
        log.debug(
            "%s %s%s %d, %d ms, cost %d",
            *(request.method, parts.netloc, parts.path, answer.status, seconds * 1000, cost),
        )

    def _record(
        self, request: Request, answer: StreamedResponse, is_charged: bool, has_credential: bool
    ) -> None:
        repo = request.repo if is_charged and request.route != GRAPHQL else None
        self._metrics.record(self._identity, answer.status, repo, request.installation)
        if answer.status < 400 and is_charged and has_credential:
            self._metrics.record_token_expiry(self._identity, expiry_of(answer.headers))
        server = date_of(answer.headers)
        if server is not None:
            self._metrics.skew_seconds = (server - self._clock.now()).total_seconds()

    def _started(
        self, request: Request, credential: str | None, is_foreign: bool, deadline: Deadline
    ) -> Exchange:
        """Start the exchange in the place that the concurrency limit has given it."""
        bound, host = request.bound, urlsplit(request.url).hostname or ""

        def on_connected(peer: str) -> None:
            if is_foreign:
                check_peer(peer, self._own_kinds, host, request.subject)
            else:
                self._own_kinds.add(address_kind(peer))

        ends_at = deadline.clock.monotonic() + bound.seconds if bound.seconds is not None else None
        watch = Watch(bound.wire_bytes(request.max_body_bytes), request.subject, on_connected)
        try:
            return Exchange(
                lambda: self._sent(request, credential),
                watch,
                self._concurrency_limit.release,
                request.subject,
                ends_at,
            )
        except BaseException:  # no thread could be started
            self._concurrency_limit.release()
            raise

    def _sent(self, request: Request, credential: str | None) -> HTTPResponse:
        """Send on the exchange's thread; the waiting thread translates whatever this raises."""
        headers = {
            name: value for name, value in request.headers.items() if name != "Authorization"
        }
        headers.setdefault("Accept-Encoding", "gzip")
        if credential is not None:
            headers["Authorization"] = credential
        if any(INVALID_HEADER_CHARACTER.search(value) for value in headers.values()):
            # http.client lets a folded line through
            raise ValueError("a character that no header may have")
        session = self._session(request.url, self._proxies.for_url(request.url))
        return send(session, request.method, request.url, request.body, headers)

    def _session(self, url: str, proxy: str | None) -> Session:
        """Return the session for the URL's origin; it is made anew for another TLS context.

        Raises OSError for authorities that can't be read.
        """
        parts = urlsplit(url)
        is_own, is_tls = parts.hostname in self._own_hosts, parts.scheme == "https"
        address, login = split_login(proxy) if proxy is not None else ("", None)
        of_others = None
        if urlsplit(address).scheme == "https" or (is_tls and not is_own):
            of_others = self._tls_of_others.context()
        context = self._tls.context() if is_tls and is_own else of_others
        key = (f"{parts.scheme}://{parts.netloc}", proxy, is_own)
        with self._lock:
            session, made_with = self._sessions.pop(key, (None, None))
            if session is None or made_with is not context:
                if session is not None:
                    session.close()
                session = open_session(Route(context, address, login, of_others))
            self._sessions[key] = session, context  # the one used last is the last
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))[0].close()
            return session

    def _head(self, exchange: Exchange, request: Request, deadline: Deadline) -> HTTPResponse:
        begun, clock = deadline.clock.monotonic(), deadline.clock

        def report_silence() -> None:
            if not exchange.is_sent and clock.monotonic() - begun > UNREACHABLE_AFTER_SECONDS:
                until = (request.attempts or Attempts()).last_ends_at(deadline)
                host = urlsplit(request.url).netloc
                deadline.progress.unreachable(host, "no connection yet", until)

        try:
            found = exchange.next(deadline, report_silence)
        except BaseException:
            exchange.cancel()
            raise
        if isinstance(found, Exception):
            raise translate_network_error(request, found) from found
        if not isinstance(found, HTTPResponse):
            raise TypeError("an answer without a head")
        return found


def _not_modified(request: Request, answer: StreamedResponse) -> bool | None:
    """Return whether a conditional request was free; None for an answer that does not say."""
    if "If-None-Match" not in request.headers or answer.status not in (200, 304):
        return None
    return answer.status == 304


def _with_safe_headers(request: Request) -> Request:
    safe = {name: value for name, value in request.headers.items() if name in SAFE_HEADERS}
    return replace(request, headers=safe)


def _bucket(request: Request) -> str:
    """Return whose limit a request spends.

    It is one for the API as the identity, others for what goes without its token.
    """
    return request.route if request.route in UNCOUNTED_ROUTES else "api"


__all__ = ["Network"]
