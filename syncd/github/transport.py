"""The network: requests on their way and back, through the library `requests` (its sessions and adapter: sessions.py).

Promises: our credential goes to the host it was made for and to no other; nothing of the environment (netrc, proxies, authorities) and no
cookie has a say; a body is bounded in bytes and time; every failure of the library is a RemoteUnavailableError or BadResponseError here,
before anybody can take it for a full disk (some of them are OSErrors).
Small transports of one shape wrap each other: Authorised(RetryingTransport(Network)). What asks for a token is outside of RetryingTransport: a token that
can't be had is retried by its own request alone.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import re
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace
from requests import Session
from urllib3.response import HTTPResponse

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import (
    BadResponseError,
    ConfigError,
    RateLimitedError,
    RemoteUnavailableError,
    TimedOutError,
)
from syncd.github.attempts import Attempts
from syncd.github.connections import Watch
from syncd.github.error_responses import parse_error, rate_limit_error
from syncd.github.network_errors import PermanentNetworkError, reason_of, translated
from syncd.github.protocol import Request, Response, Transport, buffered, date_of, expiry_of
from syncd.github.proxies import Proxies, split_login
from syncd.github.rate_limit import (
    ConcurrencyLimit,
    RateLimitPendingError,
    RateLimits,
    RequestMetrics,
)
from syncd.github.sessions import Route, open_session, send
from syncd.github.tls_context import TlsContext
from syncd.github.urls import (
    check_peer,
    check_redirect,
    hosts_of,
    kind_of,
    may_send_credential,
    same_origin,
    target,
)
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_SECONDS = 0.2  # for the end of an answer that nobody reads: one without a body is there at once, and its connection serves again
MAX_SESSIONS = 8  # an API, its archives, and hosts of storage
POLL_SECONDS = 0.5  # how soon a read notices a signal
CHUNK = 128 << 10
MAX_REDIRECTS = 5
RETRIED_STATUSES = {408, 500, 502, 503, 504}
MAX_RATE_LIMIT_WAITS = 2  # of one request; who is limited a third time is limited by something else
NUMBERED = re.compile(r"/repositories/(\d{1,18})(?:/|\Z)")  # where a renamed repository is found
INVALID_HEADER_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, 5.5
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
)  # what any host may see
UNCOUNTED_ROUTES = (
    "token",
    "installation",
    "app",
    "revoke",
    "login",
    "codeload",
    "lfs",
)  # their headers, if any, tell of another bucket than the installation's


class _Exchange:
    """One request on a thread of its own, so that a signal or the deadline ends the wait for it whatever the server does.

    The thread puts the head, then the body's pieces as they come, then the end or the error into a short queue. Given up, its socket
    is shut down, which ends whatever it is doing there. `leave` gives its place among the requests back when the thread has ended.
    """

    def __init__(
        self,
        send: Callable[[], HTTPResponse],
        watch: Watch,
        leave: Callable[[], None],
        subject: str,
        ends_at: float | None,
    ) -> None:
        self._send, self._watch, self._leave, self._subject, self._ends_at = (
            send,
            watch,
            leave,
            subject,
            ends_at,
        )
        self._queue: queue.Queue[HTTPResponse | bytes | Exception | None] = queue.Queue(maxsize=8)
        self._given_up, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._work, name="syncd-request", daemon=True).start()

    def _work(self) -> None:
        raw: HTTPResponse | None = None
        try:
            self._watch.begin()
            raw = self._send()
            self._put(raw)
            while chunk := raw.read1(
                CHUNK, decode_content=False
            ):  # what is there: `stream` would wait for a dripping chunk to fill
                if not self._put(chunk):
                    break
            else:
                self._watch.let_go()
                raw.release_conn()
                raw = None
                self._put(None)
        except Exception as error:  # noqa: BLE001  (handed to the waiting thread, which translates it)
            self._put(error)
        finally:
            if raw is not None:
                raw.close()
                raw.release_conn()
            self._watch.let_go()
            self._leave()
            self._ended.set()

    def _put(self, found: HTTPResponse | bytes | Exception | None) -> bool:
        while not self._given_up.is_set():
            try:
                self._queue.put(found, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def next(self, deadline: Deadline) -> HTTPResponse | bytes | Exception | None:
        """What comes next. Raises as `Patience.check` does, and RemoteUnavailableError when the answer takes longer than its kind may."""
        while True:
            deadline.check()
            if self._ends_at is not None and deadline.clock.monotonic() > self._ends_at:
                raise _ended_early(self._subject, "it took too long as a whole")
            with suppress(queue.Empty):
                return self._queue.get(
                    timeout=min(POLL_SECONDS, deadline.remaining_seconds() + 0.01)
                )

    def give_up(self) -> None:
        """Nothing more is read. What is about to end by itself may do so, and its connection is kept; any other socket is shut down."""
        self._given_up.set()
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        if not self._ended.wait(DRAIN_TIMEOUT_SECONDS):
            self._watch.end()


class _Answer:
    """A response whose body is read with a cap, a deadline and an ear for signals."""

    def __init__(
        self, request: Request, raw: HTTPResponse, exchange: _Exchange, deadline: Deadline
    ) -> None:
        self.status, self.url = raw.status, request.url
        self.headers: Mapping[str, str] = {
            name.lower(): raw.headers[name] for name in raw.headers
        }  # what comes twice is joined
        self._request, self._exchange, self._deadline = request, exchange, deadline

    def chunks(self) -> Iterator[bytes]:
        count, subject, cap = 0, self._request.subject, self._request.max_body_bytes
        try:
            length = self.headers.get("content-length", "")
            if length.isdecimal() and len(length) < 20 and int(length) > cap:
                raise BadResponseError(
                    f"the answer for {subject} says it has {length} bytes, more than the {cap} it may have",
                    hint="nothing was changed",
                )
            for chunk in self._decoded():
                count += len(chunk)
                if count > cap:
                    raise BadResponseError(
                        f"the answer for {subject} is longer than the {cap} bytes it may have",
                        hint="nothing was changed",
                    )
                yield chunk
        finally:
            self.close()

    def _decoded(self) -> Iterator[bytes]:
        """The body without its content coding. Unpacked here and not by the library: a bomb piece by piece, and a cut is noticed."""
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding in ("", "identity"):
            yield from self._pieces()
        elif coding in ("gzip", "x-gzip"):
            yield from _inflated(self._pieces(), self._request.subject)
        else:
            raise BadResponseError(
                f"the answer for {self._request.subject} is encoded in a way nobody asked for ({coding[:20]!r})",
                hint="nothing was changed",
            )

    def _pieces(self) -> Iterator[bytes]:
        while (piece := self._exchange.next(self._deadline)) is not None:
            if isinstance(piece, BadResponseError):
                raise piece
            if isinstance(piece, Exception):
                raise _ended_early(self._request.subject, reason_of(piece)) from piece
            if isinstance(piece, HTTPResponse):
                raise TypeError("a second head in one answer")
            yield piece

    def close(self) -> None:
        self._exchange.give_up()


def _ended_early(subject: str, reason: str) -> RemoteUnavailableError:
    return RemoteUnavailableError(
        f"the answer for {subject} ended early: {reason}",
        hint="nothing was changed; the next run asks again",
    )


def _inflated(pieces: Iterator[bytes], subject: str) -> Iterator[bytes]:
    """Gzip, unpacked at most `CHUNK` at a time. Raises RemoteUnavailableError for what is damaged or cut."""
    inflater, begun = zlib.decompressobj(wbits=31), False
    try:
        for piece in pieces:
            while piece:
                begun = True
                yield inflater.decompress(piece, CHUNK)
                piece = inflater.unconsumed_tail
                if inflater.eof and inflater.unused_data:  # a second member follows
                    piece, inflater = inflater.unused_data, zlib.decompressobj(wbits=31)
        yield inflater.flush()
    except zlib.error as error:
        raise _ended_early(subject, "its compression is damaged") from error
    if begun and not inflater.eof:
        raise _ended_early(subject, "its compression was cut")


class Network:
    """One identity's connections to its host. Every exchange is counted, also the hops of a redirect.

    `api` is where the identity's API is: no credential goes to an origin that may not have it (urls.py). `ca_file` alone vouches
    for its hosts; for every other host it adds to the usual authorities.
    Raises ConfigError for a `ca_file` that is not there.
    """

    def __init__(
        self,
        identity: str,
        clock: Clock,
        request_metrics: RequestMetrics,
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
                hint="correct ca_file: of the identity",
            )
        self._identity, self._clock, self._metrics, self._rate_limits, self._concurrency_limit = (
            identity,
            clock,
            request_metrics,
            rate_limits,
            concurrency_limit,
        )
        self._proxies = proxies
        for password in proxies.passwords():
            add_secret(Secret(password))
            add_secret(Secret(unquote(password)))  # the form in which it is sent
        self._trust = TlsContext(ca_file, owner=owner)
        self._others_trust = (
            TlsContext(ca_file, beside=True, owner=owner) if ca_file is not None else self._trust
        )
        self._api, self._own_hosts = api, hosts_of(api) if api is not None else frozenset[str]()
        self._own_kinds: set[str] = set()  # of the addresses from which the API itself has answered
        self._guard = threading.Lock()
        self._sessions: dict[
            tuple[str, str | None, bool], tuple[Session, ssl.SSLContext | None]
        ] = {}  # by origin, proxy, own host
        self.notices: list[str] = []

    def send(self, request: Request, deadline: Deadline) -> Response:
        sent, credential = request, request.headers.get("Authorization")
        self._check_credential(request, credential)
        self._rate_limits.get(request.installation).raise_if_blocked(
            _bucket(request), request.subject
        )
        for _ in range(MAX_REDIRECTS + 1):
            own = self._own_hosts or {urlsplit(request.url).hostname}
            named_by_answer = urlsplit(sent.url).hostname not in own or (
                self._api is None and request.route == "lfs_object"
            )
            answer = self._exchange(sent, credential, named_by_answer, deadline)
            if answer.status not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
                return (
                    self._heeded(request, answer)
                    if answer.status in (403, 429) and same_origin(sent.url, request.url)
                    else answer
                )
            answer.close()
            found = target(sent.url, answer.headers["location"], request.subject)
            if not same_origin(found, sent.url):
                check_redirect(sent.url, found, request.subject, request.allow_other_host)
                credential = None  # and it does not come back, wherever the next hop leads; nor does what a storage host wanted as a header of its own
                sent = replace(
                    sent,
                    headers={
                        name: value for name, value in sent.headers.items() if name in SAFE_HEADERS
                    },
                )
            if (
                sent.method != "GET"
                and answer.status not in (307, 308)
                and not request.is_read_only
            ):
                raise BadResponseError(
                    f"asked for {request.subject}: GitHub moved it ({answer.status}) in a way that a {sent.method} can't follow",
                    hint="check api: and repo:",
                )
            if answer.status == 301 and request.repo:
                number = NUMBERED.search(urlsplit(found).path)
                if number is not None:
                    self._metrics.record_renamed(self._identity, request.repo, int(number.group(1)))
                self._notice(
                    f"{request.repo} was renamed or moved; syncd follows, but write its new name into repo:"
                )
            sent = replace(sent, url=found)
        raise BadResponseError(
            f"asked for {request.subject}: redirected more than {MAX_REDIRECTS} times",
            hint="check api:",
        )

    def _check_credential(self, request: Request, credential: str | None) -> None:
        """Raises BadResponseError for a credential that is about to go to an origin that may not have it.

        What a storage host of LFS is to be shown is its own, from the answer that named the host, and none of ours.
        """
        holds_one = request.route == "login" or (
            credential is not None and request.route != "lfs_object"
        )
        if holds_one and self._api is not None and not may_send_credential(self._api, request.url):
            parts = urlsplit(request.url)
            raise BadResponseError(
                f"asked for {request.subject}: a credential is not sent to {parts.scheme}://{parts.hostname}, which api: {self._api} does not stand for",
                hint="check api: of the identity",
            )

    def close(self) -> None:
        with self._guard:
            sessions, self._sessions = self._sessions, {}
        for session, _ in sessions.values():
            session.close()

    def _heeded(self, request: Request, answer: Response) -> Response:
        """The refusal, read; when it speaks of a limit, no other request runs into it."""
        answer = buffered(answer)
        error = rate_limit_error(request, parse_error(answer), self._clock.now())
        if error is not None:
            self._rate_limits.get(request.installation).block_until(_bucket(request), error)
        return answer

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)
            log.warning("%s", text)

    def _begun(
        self, request: Request, credential: str | None, named_by_answer: bool, deadline: Deadline
    ) -> _Exchange:
        """The request on its way, in the place that the concurrency_limit has given it."""
        bound, host = request.bound, urlsplit(request.url).hostname or ""

        def connected(peer: str) -> None:
            if named_by_answer:
                check_peer(peer, self._own_kinds, host, request.subject)
            else:
                self._own_kinds.add(kind_of(peer))

        ends_at = deadline.clock.monotonic() + bound.seconds if bound.seconds is not None else None
        watch = Watch(bound.wire_bytes(request.max_body_bytes), request.subject, connected)
        try:
            return _Exchange(
                lambda: self._sent(request, credential),
                watch,
                self._concurrency_limit.release,
                request.subject,
                ends_at,
            )
        except BaseException:  # no thread could be started
            self._concurrency_limit.release()
            raise

    def _exchange(
        self, request: Request, credential: str | None, named_by_answer: bool, deadline: Deadline
    ) -> _Answer:
        deadline.check()
        charged = request.route not in UNCOUNTED_ROUTES
        may_be_free = (
            "If-None-Match" in request.headers and credential is not None
        )  # docs "Best practices": a 304 is free where a token asks
        rate_limit = self._rate_limits.get(request.installation)
        rate_limit.acquire(deadline, request.subject, charged, may_be_free)
        try:
            self._concurrency_limit.acquire(deadline)
            exchange = self._begun(request, credential, named_by_answer, deadline)
            raw = self._head(exchange, request, deadline)
            self._metrics.record(
                self._identity, raw.status, request.repo if charged else None, request.installation
            )
            deadline.request_count += 1
            answer = _Answer(request, raw, exchange, deadline)
            if answer.status < 400 and charged and credential is not None:
                self._metrics.record_token_expiry(self._identity, expiry_of(answer.headers))
            if answer.status != 401 and charged:
                rate_limit.update_from_headers(answer.headers, refused=answer.status in (403, 429))
        finally:
            if charged:
                rate_limit.release()
        server = date_of(answer.headers)
        if server is not None:
            self._metrics.skew_seconds = (server - self._clock.now()).total_seconds()
        return answer

    def _sent(self, request: Request, credential: str | None) -> HTTPResponse:
        """On the exchange's thread: whatever it raises is translated by who waits."""
        headers = {
            name: value for name, value in request.headers.items() if name != "Authorization"
        }
        headers.setdefault("Accept-Encoding", "gzip")
        if credential is not None:
            headers["Authorization"] = credential
        if any(INVALID_HEADER_CHARACTER.search(value) for value in headers.values()):
            raise ValueError(
                "a character that no header may have"
            )  # http.client lets a folded line through
        proxy = self._proxies.for_url(request.url)
        return send(
            self._session(request.url, proxy), request.method, request.url, request.body, headers
        )

    def _session(self, url: str, proxy: str | None) -> Session:
        """The session for the URL's origin. Raises OSError for authorities that can't be read."""
        parts = urlsplit(url)
        own, is_tls = parts.hostname in self._own_hosts, parts.scheme == "https"
        address, login = split_login(proxy) if proxy is not None else ("", None)
        others = (
            self._others_trust.context()
            if urlsplit(address).scheme == "https" or (is_tls and not own)
            else None
        )
        context = self._trust.context() if is_tls and own else others
        key = (f"{parts.scheme}://{parts.netloc}", proxy, own)
        with self._guard:
            session, made_with = self._sessions.pop(key, (None, None))
            if session is None or made_with is not context:
                if session is not None:
                    session.close()
                session = open_session(Route(context, address, login, others))
            self._sessions[key] = session, context  # the one used last is the last
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))[0].close()
            return session

    def _head(self, exchange: _Exchange, request: Request, deadline: Deadline) -> HTTPResponse:
        try:
            found = exchange.next(deadline)
        except BaseException:
            exchange.give_up()
            raise
        if isinstance(found, Exception):
            raise translated(request, found) from found
        if not isinstance(found, HTTPResponse):
            raise TypeError("an answer without a head")
        return found


def _bucket(request: Request) -> str:
    """Whose limit a request spends: one for the API as the identity, others for what goes without its token."""
    return request.route if request.route in UNCOUNTED_ROUTES else "api"


class RetryingTransport:
    """Asks again where that makes sense: lost connections and 5xx with growing random pauses, limits when the wait fits into the run.

    What does not fit is answered or raised at once, as it is: the reason says more than a used-up time.
    """

    def __init__(
        self,
        inner: Transport,
        clock: Clock,
        waits_out_limits: bool = True,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._inner, self._clock, self._waits, self._random_fraction = (
            inner,
            clock,
            waits_out_limits,
            random_fraction,
        )

    def send(self, request: Request, deadline: Deadline) -> Response:
        attempts, limited = request.attempts or Attempts(random_fraction=self._random_fraction), 0
        while True:
            try:
                answer = self._inner.send(request, deadline)
            except (TimedOutError, PermanentNetworkError):
                raise
            except RateLimitPendingError as error:
                if not self._waited(error, 1, deadline):
                    raise
                continue
            except RemoteUnavailableError:
                pause = attempts.next_delay_seconds(deadline, answered=False)
                if pause is None:
                    raise
            else:
                if answer.status in (403, 429):
                    answer = buffered(answer)
                    if not self._waited_out(request, answer, limited, deadline):
                        return answer
                    limited += 1
                    continue
                pause = (
                    attempts.next_delay_seconds(deadline, answered=True)
                    if answer.status in RETRIED_STATUSES
                    else None
                )
                if pause is None:
                    return answer
                answer.close()
            deadline.wait(pause)

    def _waited_out(
        self, request: Request, answer: Response, limited: int, deadline: Deadline
    ) -> bool:
        """True after the time that a limit asked for, when there was one and it fitted."""
        error = rate_limit_error(request, parse_error(answer), self._clock.now())
        return (
            error is not None
            and limited < MAX_RATE_LIMIT_WAITS
            and self._waited(error, 1 if error.primary else 2**limited, deadline)
        )

    def _waited(self, error: RateLimitedError, times: int, deadline: Deadline) -> bool:
        wait = (
            max(0.0, (error.retry_at - self._clock.now()).total_seconds()) * times
            + self._random_fraction()
        )
        if not self._waits or wait >= deadline.remaining_seconds():
            return False
        deadline.wait_for_rate_limit(wait)
        return True


__all__ = ["Network", "RetryingTransport"]
