"""The network, and the only module that imports requests.

Promises: our credential goes to the host it was made for and to no other; a body is bounded in bytes and time; every failure of the
library is a RemoteUnavailableError or BadResponseError here, before anybody can take it for a full disk (requests' errors are OSErrors).
Small transports of one shape wrap each other: Retrying(Authorised(Network)).
"""

from __future__ import annotations

import queue
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from syncd.clock import Clock, Patience
from syncd.errors import BadResponseError, RateLimitedError, RemoteUnavailableError, TimedOutError
from syncd.github.limits import Budget, Gate, Tally
from syncd.github.protocol import Request, Response, Transport, date_of, failure, refusal

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # GitHub cuts its own work off after 10 s
POLL_SECONDS = 0.5  # how soon a read notices a signal
CHUNK = 128 << 10
HOPS = 5
TRIES = 4
BACKOFF_SECONDS = 0.5
RETRIED = {408, 500, 502, 503, 504}


@dataclass(frozen=True)
class Proxies:
    """Proxies as the operator set them: by scheme, and the hosts that need none."""

    by_scheme: Mapping[str, str]
    none_for: tuple[str, ...] = ()

    def for_url(self, url: str) -> dict[str, str]:
        host = urlsplit(url).hostname or ""
        if host in ("localhost", "127.0.0.1", "::1") or any(host == one or host.endswith("." + one.lstrip(".")) or one == "*" for one in self.none_for):
            return {}
        proxy = self.by_scheme.get(urlsplit(url).scheme)
        return {urlsplit(url).scheme: proxy} if proxy else {}


class _Header(requests.auth.AuthBase):
    """Our Authorization, or none at all. An auth object, because a plain header would be replaced from ~/.netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.pop("Authorization", None)
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class _Exchange:
    """One request on a thread of its own, so that a signal or the deadline ends the wait for it whatever the server does.

    The thread puts the head, then the body's chunks, then the end or the error into a short queue. Given up, it ends by its own
    read timeout.
    """

    def __init__(self, send: Callable[[], requests.Response]) -> None:
        self._send = send
        self._queue: queue.Queue[requests.Response | bytes | Exception | None] = queue.Queue(maxsize=8)
        self._given_up = threading.Event()
        threading.Thread(target=self._work, name="syncd-request", daemon=True).start()

    def _work(self) -> None:
        raw: requests.Response | None = None
        try:
            raw = self._send()
            self._put(raw)
            for chunk in raw.raw.stream(CHUNK, decode_content=True):
                if not self._put(chunk):
                    break
            else:
                raw.raw.release_conn()
                self._put(None)
                raw = None
        except Exception as error:  # noqa: BLE001  (handed to the waiting thread, which translates it)
            self._put(error)
        finally:
            if raw is not None:
                raw.close()

    def _put(self, found: requests.Response | bytes | Exception | None) -> bool:
        while not self._given_up.is_set():
            try:
                self._queue.put(found, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def next(self, patience: Patience) -> requests.Response | bytes | Exception | None:
        """What comes next. Raises as `Patience.check` does."""
        while True:
            patience.check()
            with suppress(queue.Empty):
                return self._queue.get(timeout=min(POLL_SECONDS, patience.remaining_seconds() + 0.01))

    def give_up(self) -> None:
        self._given_up.set()


class _Answer:
    """A response whose body is read with a cap, a deadline and an ear for signals."""

    def __init__(self, request: Request, raw: requests.Response, exchange: _Exchange, patience: Patience, release: Callable[[], None]) -> None:
        self.status = raw.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in raw.headers.items()}
        self.url = raw.url
        self._request, self._exchange, self._patience, self._release = request, exchange, patience, release

    def chunks(self) -> Iterator[bytes]:
        count, subject, cap = 0, self._request.subject, self._request.cap_bytes
        try:
            length = self.headers.get("content-length", "")
            if length.isdigit() and int(length) > cap:
                raise BadResponseError(f"the answer for {subject} says it has {length} bytes, more than the {cap} it may have", hint="nothing was changed")
            while (chunk := self._exchange.next(self._patience)) is not None:
                if isinstance(chunk, Exception):
                    raise RemoteUnavailableError(f"the answer for {subject} ended early: {_words(chunk)}", hint="nothing was changed; the next run asks again") from chunk
                if isinstance(chunk, requests.Response):
                    raise TypeError("a second head in one answer")
                count += len(chunk)
                if count > cap:
                    raise BadResponseError(f"the answer for {subject} is longer than the {cap} bytes it may have", hint="nothing was changed")
                yield chunk
        finally:
            self.close()

    def close(self) -> None:
        self._exchange.give_up()
        release, self._release = self._release, _nothing
        release()


def _nothing() -> None:
    pass


class Network:
    """One host's connections. Every exchange is counted, also the hops of a redirect."""

    def __init__(self, identity: str, clock: Clock, tally: Tally, budget: Budget, gate: Gate, proxies: Proxies, ca_file: str | None = None) -> None:
        self._identity, self._clock, self._tally, self._budget, self._gate = identity, clock, tally, budget, gate
        self._proxies = proxies
        self._verify: str | bool = ca_file or True
        self._session = requests.Session()
        self._session.trust_env = False  # no netrc, no CA bundle and no proxy from the environment behind our back
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=gate.at_once, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self.notices: list[str] = []

    def send(self, request: Request, patience: Patience) -> Response:
        sent, credential = request, request.headers.get("Authorization")
        for _ in range(HOPS + 1):
            answer = self._exchange(sent, credential, patience)
            if answer.status not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
                return answer
            answer.close()
            target = urljoin(sent.url, answer.headers["location"])
            if not _same_origin(target, request.url):
                self._check_elsewhere(request, target)
                credential = None
            if sent.method != "GET" and answer.status not in (307, 308):
                raise BadResponseError(f"asked for {request.subject}: GitHub moved it ({answer.status}) in a way that a {sent.method} can't follow", hint="check api: and repo:")
            if answer.status == 301 and request.repo:
                self.notices.append(f"{request.repo} was renamed or moved; syncd follows, but write its new name into repo:")
            sent = replace(sent, url=target)
        raise BadResponseError(f"asked for {request.subject}: redirected more than {HOPS} times", hint="check api:")

    def close(self) -> None:
        self._session.close()

    def _check_elsewhere(self, request: Request, target: str) -> None:
        """Raises unless this request may leave our host, and the target is one that a server may send us to."""
        ours, theirs = urlsplit(request.url), urlsplit(target)
        loopback = theirs.hostname in ("127.0.0.1", "localhost", "::1")
        link_local = (theirs.hostname or "").startswith(("169.254.", "fe80:"))
        fine = request.elsewhere and not link_local and (theirs.scheme == "https" or (theirs.scheme == "http" and ours.scheme == "http" and loopback))
        if not fine or theirs.username:
            raise BadResponseError(f"asked for {request.subject}: redirected to {theirs.scheme}://{theirs.hostname}, which is refused", hint="check api:, and what stands between here and GitHub")

    def _exchange(self, request: Request, credential: str | None, patience: Patience) -> _Answer:
        headers = {name: value for name, value in request.headers.items() if name != "Authorization"}
        headers.setdefault("Accept-Encoding", "gzip")
        patience.check()
        self._budget.take(patience)
        self._gate.enter(patience)
        try:
            prepared = self._session.prepare_request(requests.Request(request.method, request.url, headers=headers, data=request.body, auth=_Header(credential)))
            prepared.url = request.url  # as we quoted it: the library would resolve and re-quote
            exchange = _Exchange(
                lambda: self._session.send(
                    prepared, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS), verify=self._verify, allow_redirects=False, proxies=self._proxies.for_url(request.url)
                )
            )  # fmt: skip
            raw = self._head(exchange, request, patience)
        except BaseException:
            self._gate.leave()
            raise
        self._tally.count(self._identity, raw.status_code)
        answer = _Answer(request, raw, exchange, patience, self._gate.leave)
        if credential is not None:
            self._budget.note(answer.headers)
        server = date_of(answer.headers)
        if server is not None:
            self._tally.skew_seconds = (server - self._clock.now()).total_seconds()
        return answer

    def _head(self, exchange: _Exchange, request: Request, patience: Patience) -> requests.Response:
        try:
            found = exchange.next(patience)
        except BaseException:
            exchange.give_up()
            raise
        if isinstance(found, Exception):
            raise _translated(request, found) from found
        if not isinstance(found, requests.Response):
            raise TypeError("an answer without a head")
        return found


def _translated(request: Request, error: Exception) -> RemoteUnavailableError | BadResponseError:
    where = urlsplit(request.url).netloc
    hint = "check the network, DNS and any proxy; the next run tries again"
    if isinstance(error, requests.exceptions.SSLError):
        text = str(error)
        for sign, words in (("expired", "its certificate has expired"), ("doesn't match", "its certificate is for another host"), ("not valid for", "its certificate is for another host")):
            if sign in text.lower():
                return RemoteUnavailableError(f"asked for {request.subject}: {where}: {words}", hint="a proxy may stand between, or the clock is wrong")
        return RemoteUnavailableError(f"asked for {request.subject}: the certificate of {where} can't be trusted: {_words(error)}", hint="for a private authority set ca_file: in the identity")
    if isinstance(error, requests.exceptions.ProxyError):
        return RemoteUnavailableError(f"asked for {request.subject}: the proxy failed: {_words(error)}", hint="check HTTPS_PROXY and its credentials")
    if isinstance(error, requests.exceptions.Timeout):
        return RemoteUnavailableError(f"asked for {request.subject}: {where} did not answer in time", hint=hint)
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)):
        return BadResponseError(f"asked for {request.subject}: {where or request.url} is no address", hint="check api:")
    if isinstance(error, (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ssl.SSLError, ValueError)):
        return RemoteUnavailableError(f"asked for {request.subject}: {where} can't be reached: {_words(error)}", hint=hint)
    raise error


def _words(error: BaseException) -> str:
    """The innermost reason of a chain of library errors, without object addresses."""
    seen: BaseException = error
    while seen.args and isinstance(seen.args[-1], BaseException):
        seen = seen.args[-1]
    reason = getattr(seen, "reason", None)
    if isinstance(reason, BaseException):
        return _words(reason)
    text = str(seen).rpartition(">: ")[2] or type(seen).__name__
    return text.strip("'\"() ")


def _same_origin(one: str, other: str) -> bool:
    a, b = urlsplit(one), urlsplit(other)
    return (a.scheme, a.hostname, a.port) == (b.scheme, b.hostname, b.port)


class Retrying:
    """Asks again where that makes sense: lost connections and 5xx with growing random pauses, limits when the wait fits into the run."""

    def __init__(self, inner: Transport, clock: Clock, waits_out_limits: bool = True, tries: int = TRIES, chance: Callable[[], float] = random.random) -> None:
        self._inner, self._clock, self._waits, self._tries, self._chance = inner, clock, waits_out_limits, tries, chance

    def send(self, request: Request, patience: Patience) -> Response:
        attempt, limited = 0, 0
        while True:
            attempt += 1
            try:
                answer = self._inner.send(request, patience)
            except TimedOutError:
                raise
            except RemoteUnavailableError:
                if attempt >= self._tries:
                    raise
                self._pause(attempt, patience)
                continue
            if answer.status in RETRIED and attempt < self._tries:
                answer.close()
                self._pause(attempt, patience)
                continue
            if answer.status in (403, 429):
                found = refusal(answer)
                error = failure(request, found, self._clock.now())
                wait = (error.retry_at - self._clock.now()).total_seconds() if isinstance(error, RateLimitedError) else None
                if wait is None or not self._waits or wait >= patience.remaining_seconds() or limited >= 2:
                    raise error
                limited += 1
                attempt -= 1
                patience.wait(wait * 2 ** (limited - 1) + self._chance())
                continue
            return answer

    def _pause(self, attempt: int, patience: Patience) -> None:
        patience.wait(self._chance() * BACKOFF_SECONDS * 2**attempt)
