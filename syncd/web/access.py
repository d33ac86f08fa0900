"""Decides who may ask.

A request that is refused gets no data, whatever it asks for. Without a password only this machine
is answered, under its own names: a page of another site can point a name of its own at 127.0.0.1
(DNS rebinding). With a password, each request needs a session, HTTP Basic, or on the paths for
machines the token.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from flask import Response, g, request
from msgspec import Struct

from syncd.web.answers import text_answer, too_many, unauthorized
from syncd.web.clients import Proxies
from syncd.web.failed_attempts import FailureLimits
from syncd.web.log_filter import LogLimit
from syncd.web.passwords import Account, Passwords
from syncd.web.sessions import Sessions

log = logging.getLogger(__name__)

MACHINE_PATHS = ("/healthz", "/readyz", "/metrics")  # and everything below /api/
LOGIN_PATH = "/login"
PORTS = {"http": 80, "https": 443}


class Caller(Struct, frozen=True):
    """Who asks: `account` is None without a password, and for the token."""

    account: Account | None = None
    in_session: bool = False


class Names(Struct, frozen=True):
    """The names that the listener answers to.

    With `only_local`, these are those of this machine's loopback and the host of `web.listen`.
    """

    only_local: bool
    listen_host: str = ""

    def may_be_host(self, host: str) -> bool:
        """Return whether a request with this Host header is answered."""
        return not self.only_local or self._is_local(_parsed(f"//{host}"))

    def may_be_origin(self, origin: str, host: str) -> bool:
        """Return whether a page of this origin may send a request to this host."""
        page, own = _parsed(origin), _parsed(f"//{host}")
        if page is None or own is None or page.scheme not in PORTS:
            return False
        if self.only_local and self._is_local(page):
            return True
        default = PORTS[page.scheme]
        return (page.hostname, page.port or default) == (own.hostname, own.port or default)

    def _is_local(self, parts: SplitResult | None) -> bool:
        name = (parts.hostname or "") if parts is not None else ""
        if name in ("localhost", self.listen_host.lower()) and name:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


class AccessControl:
    """Decides who may ask. `failures` counts the wrong passwords of every client."""

    def __init__(
        self,
        passwords: Passwords,
        names: Names,
        failures: FailureLimits,
        proxies: Proxies | None = None,
    ) -> None:
        self.passwords, self.proxies = passwords, proxies or Proxies()
        self.sessions = Sessions(passwords, self.proxies)
        self._names, self._failures = names, failures
        self._quiet = LogLimit()

    def refusal(self) -> Response | None:
        """Return the answer to a request that is refused; None for one that is allowed."""
        g.caller = Caller()
        foreign = self._foreign()
        if foreign is not None or not self.passwords.required:
            return foreign
        if self.passwords.exist and request.path == LOGIN_PATH:
            return None
        return self._judged()

    def client(self) -> str:
        """Return the name of the client of this request."""
        return self.proxies.client(request.remote_addr, request.headers.get("X-Forwarded-For"))

    def attempt(self, judge: Callable[[], Account | bool | None]) -> Account | bool | Response:
        """Return what `judge` finds, or the answer to a wrong guess, or to one too many."""
        client = self.client()
        seconds = self._failures.take(client)
        if seconds:
            if self._quiet.may_log(client):
                log.warning(
                    "wrong passwords come from %s: its next tries are refused without a look",
                    client,
                )
            return too_many(seconds)
        found = judge()
        if not found:
            return unauthorized(self.passwords.exist)
        self._failures.succeeded(client)
        return found

    def _foreign(self) -> Response | None:
        """Return the answer to a request under another name, or of another site's page."""
        if not self._names.may_be_host(request.headers.get("Host", "")):
            return text_answer(
                421,
                "this is not the name of this machine's loopback; ask as 127.0.0.1 or localhost, "
                "or set web.password",
            )
        origin = request.headers.get("Origin")
        host = self.proxies.host(request.remote_addr, request.headers.get)
        if origin is not None and not self._names.may_be_origin(origin, host):
            return text_answer(
                403,
                "a page of another site asks; if it is this one, let the proxy in front pass on "
                "Host with its port",
            )
        return None

    def _judged(self) -> Response | None:
        account = self.sessions.account()
        if account is not None:
            g.caller = Caller(account, in_session=True)
            return None
        given = request.authorization
        if given is not None and given.type == "basic":
            name, password = given.username or "", given.password or ""
            found = self.attempt(lambda: self.passwords.check(name, password))
        elif given is not None and given.type == "bearer" and _is_for_machines(request.path):
            token = given.token or ""
            found = self.attempt(lambda: self.passwords.is_token(token))
        else:
            return unauthorized(self.passwords.exist)  # what a browser gets first
        if isinstance(found, Response):
            return found
        g.caller = Caller(found if isinstance(found, Account) else None)
        return None


def _is_for_machines(path: str) -> bool:
    return path in MACHINE_PATHS or path.startswith("/api/")


def _parsed(address: str) -> SplitResult | None:
    """Return the parts of an address without a path; None if its host or port is none."""
    try:
        parts = urlsplit(address)
        is_whole = (
            bool(parts.hostname) and not parts.path and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return None
    return parts if is_whole else None


__all__ = ["LOGIN_PATH", "AccessControl", "Caller", "Names"]
