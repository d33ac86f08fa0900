"""Sessions of people who logged in with the form: a signed cookie, and what makes it invalid.

The cookie is signed with a key that this listener makes and keeps in memory, so a restart ends
every session. A session also ends with its lifetime, at a logout, and when the password or the user
changes. The cookie's name belongs to the listener too, because a browser sends one host's cookies
to all of its ports.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from datetime import timedelta

from flask import Flask, request, session
from flask.sessions import SecureCookieSessionInterface

from syncd.web.clients import Proxies
from syncd.web.passwords import Account, Passwords

LIFETIME = timedelta(hours=12)
MAX_ENDED = 1024  # sessions that ended before their time


class Sessions(SecureCookieSessionInterface):
    """Begins, recognizes and ends the session of a request."""

    def __init__(self, passwords: Passwords, proxies: Proxies) -> None:
        self._passwords, self._proxies = passwords, proxies
        self._ended: OrderedDict[str, None] = OrderedDict()

    def install(self, app: Flask) -> None:
        """Use these sessions in the application."""
        app.secret_key = secrets.token_bytes(32)
        app.session_interface = self
        app.config.update(
            SESSION_COOKIE_NAME=f"syncd_{secrets.token_hex(4)}",
            SESSION_COOKIE_HTTPONLY=True,
            SESSION_COOKIE_SAMESITE="Strict",
            SESSION_COOKIE_PATH=self._proxies.prefix or "/",
            SESSION_REFRESH_EACH_REQUEST=False,
            PERMANENT_SESSION_LIFETIME=LIFETIME,
        )

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return whether the browser may send the cookie only with TLS."""
        return self._proxies.is_https(request.remote_addr, request.headers.get)

    def begin(self, account: Account) -> None:
        """Begin a session for whose password was right."""
        session.clear()
        session.permanent = True
        session.update(
            user=account.user,
            proof=account.proof,
            id=secrets.token_hex(16),
            form=secrets.token_urlsafe(24),
        )

    def account(self) -> Account | None:
        """Return whose session this is; None without a valid one.

        Raises ConfigError if the secret behind it can't be read now.
        """
        if "proof" not in session or session["id"] in self._ended:
            return None
        found = self._passwords.account(session["user"])
        if found is None or not hmac.compare_digest(found.proof, session["proof"]):
            return None
        return found

    def form_token(self) -> str:
        """Return the token that a form of this session has to send; empty without a session."""
        token: str = session.get("form", "")
        return token

    def is_form_token(self, given: str) -> bool:
        """Return whether a form of this session sent this."""
        token = self.form_token()
        return bool(token) and hmac.compare_digest(token.encode(), given.encode())

    def end(self) -> None:
        """End the session of this request, also for copies of its cookie."""
        if "id" in session:
            self._ended[session["id"]] = None
            while len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
        session.clear()


__all__ = ["LIFETIME", "Sessions"]
