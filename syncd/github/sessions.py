"""Sessions of `requests` that take nothing from the environment.

This is the only module that knows how the library sends. The given TLS context alone decides
which certificates are accepted. A URL is sent as it was quoted. No redirect is followed, no cookie
is sent, no body is read or unpacked here. Redirects, limits and deadlines are left to the caller
(transport.py).
"""

from __future__ import annotations

import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from msgspec import Struct
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager, ProxyManager, Retry
from urllib3 import exceptions as urllib3_errors
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from syncd.errors import BadResponseError, RemoteUnavailableError
from syncd.github.bounds import CONNECT_SECONDS
from syncd.github.connections import Watch, watched
from syncd.github.network_errors import innermost_reason, underlying_error

READ_TIMEOUT_SECONDS = 30.0  # GitHub cuts its own work off after 10 s
MAX_ANSWER_BYTES = 64 << 10  # of an answer to a message, with its head
MAX_CONNECTIONS_PER_HOST = 64  # of `requests_at_once`, which a reload may raise


class Route(Struct, frozen=True):
    """How an origin is reached: its TLS context, and the proxy with its login and context.

    `proxy` is "" for none.
    """

    context: ssl.SSLContext | None
    proxy: str = ""
    login: str | None = None  # USER:PASSWORD
    proxy_context: ssl.SSLContext | None = None


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None, so that the library does not read the whole body of a redirect."""
        return None


class _Adapter(HTTPAdapter):
    """The library's adapter over connections that can be cancelled, with the route's settings.

    The settings are its TLS context and its proxy; the connections are those of connections.py.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        super().__init__(max_retries=Retry(False))

    def init_poolmanager(self, *_: Any, **__: Any) -> None:
        """Make the one pool manager.

        The library's arguments are its defaults, and none of them applies.
        """
        route = self._route
        if not route.proxy:
            self.poolmanager = watched(
                PoolManager(
                    num_pools=4, maxsize=MAX_CONNECTIONS_PER_HOST, ssl_context=route.context
                )
            )
            return
        login = route.login
        headers = (
            {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}
            if login
            else None
        )
        self.poolmanager = watched(
            ProxyManager(
                route.proxy,
                num_pools=4,
                maxsize=MAX_CONNECTIONS_PER_HOST,
                ssl_context=route.context,
                proxy_ssl_context=route.proxy_context,
                proxy_headers=headers,
            )
        )

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *_: Any, **__: Any
    ) -> Any:
        """Return the pool of the request's host; the context alone decides on certificates."""
        parts = urlsplit(request.url or "")
        return self.poolmanager.connection_from_host(parts.hostname, parts.port, str(parts.scheme))

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Do nothing: the library would add certifi's authorities to those of the context."""

    def request_url(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> str:
        """Return the request target as it was quoted.

        A proxy of plain HTTP gets the whole address (RFC 9112, 3.2.2).
        """
        url = str(request.url)
        parts = urlsplit(url)
        if self._route.proxy and parts.scheme == "http":
            return url
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def open_session(route: Route) -> requests.Session:
    """Return a session for one origin."""
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(route))
    return session


def send(
    session: requests.Session, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
) -> HTTPResponse:
    """Send the request and return the answer's head; its body is read later, as it arrives.

    Raises requests.RequestException, urllib3.HTTPError, OSError.
    """
    prepared = requests.PreparedRequest()
    prepared.prepare(method, url, headers, data=body)
    prepared.url = url  # as it was quoted
    answer = session.send(
        prepared,
        stream=True,
        allow_redirects=False,
        timeout=(CONNECT_SECONDS, READ_TIMEOUT_SECONDS),
        proxies={},
    )
    if not isinstance(answer.raw, HTTPResponse):
        raise TypeError("an answer of another kind")
    return answer.raw


def post_once(
    route: Route, url: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float
) -> tuple[int, str | None]:
    """Post to an address that is not GitHub's; return its status and Retry-After.

    Raises RemoteUnavailableError, after `timeout_seconds` at the latest.
    """
    watch = Watch(MAX_ANSWER_BYTES, "a message", lambda _: None)
    late = threading.Event()

    def time_out() -> None:
        late.set()
        watch.cancel()

    timer = threading.Timer(timeout_seconds, time_out)
    timer.daemon = True
    timer.start()
    session = open_session(route)
    try:
        watch.activate()
        answer = send(session, "POST", url, body, headers)
        # The status alone says whether the message was taken.
        with suppress(BadResponseError, HTTPError, OSError):
            answer.read(MAX_ANSWER_BYTES, decode_content=False)
        return answer.status, answer.headers.get("Retry-After")
    except (requests.RequestException, HTTPError, OSError, ValueError, BadResponseError) as error:
        raise RemoteUnavailableError(_words(error, late.is_set())) from error
    finally:
        timer.cancel()
        watch.detach()
        session.close()


def _words(error: Exception, is_late: bool) -> str:
    """Return why a message did not arrive, without what the address holds."""
    cause = underlying_error(error)
    text = innermost_reason(cause).removeprefix("Failed to establish a new connection: ")
    timed_out = isinstance(cause, (TimeoutError, urllib3_errors.TimeoutError))
    if is_late or (timed_out and not isinstance(cause, urllib3_errors.NewConnectionError)):
        return "did not answer in time"
    if "certificate verify failed" in str(cause).lower() or "CERTIFICATE_VERIFY_FAILED" in str(
        cause
    ):
        reason = text.partition("verify failed: ")[2].partition(" (_ssl")[0]
        return f"its certificate can't be trusted: {reason or text}"
    return f"can't be reached: {text}"


__all__ = ["Route", "open_session", "post_once", "send"]
