"""The login form for browsers, and the logout.

A request that accepts HTML and has no right password gets the form, with status 401. Other clients
get `WWW-Authenticate` and use HTTP Basic. The form holds its own style, because a stranger gets no
other file of the listener.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from pathlib import Path
from urllib.parse import quote

from flask import Flask, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from syncd.web.access import LOGIN_PATH, AccessControl
from syncd.web.passwords import Account

log = logging.getLogger(__name__)

STYLE = (Path(__file__).parent / "templates" / "login.css").read_text().removesuffix("\n")
STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")  # no host, no backslash, no control character
MAX_PATH_CHARACTERS = 2000


def add_login(app: Flask, access: AccessControl) -> None:
    """Add the login form and the logout."""

    def form() -> AnyResponse:
        return _to("/") if access.sessions.account() is not None else login_form()

    def log_in() -> AnyResponse:
        name, password = request.form.get("user", ""), request.form.get("password", "")
        found = access.attempt(lambda: access.passwords.check(name, password))
        if not isinstance(found, Account):
            refused = found if isinstance(found, Response) else None
            if refused is not None and (refused.status_code != 401 or not accepts_html()):
                return refused
            return login_form("The user name or the password is wrong.")
        access.sessions.begin(found)
        log.info("%s logged in from %s", found.user or "web.password", access.client())
        return _to(request.form.get("next", "/"))

    def log_out() -> AnyResponse:
        access.sessions.end()
        return _to("/")

    for path, method, view in (
        (LOGIN_PATH, "GET", form),
        (LOGIN_PATH, "POST", log_in),
        ("/logout", "POST", log_out),
    ):
        app.add_url_rule(
            path,
            f"{method} {path}",
            view,
            methods=[method],
            provide_automatic_options=False,
        )
    app.jinja_env.globals["login_with_name"] = bool(access.passwords.users)


def accepts_html() -> bool:
    """Return whether the request asks for HTML by name, as browsers do."""
    return any(
        kind.lower() == "text/html" and quality > 0 for kind, quality in request.accept_mimetypes
    )


def login_form(problem: str | None = None) -> Response:
    """Return the form, which leads to the page that was asked for."""
    asked = request.form.get("next") if request.path == LOGIN_PATH else None
    if request.method in ("GET", "HEAD") and request.path != LOGIN_PATH:
        query = request.query_string.decode("latin-1")
        asked = quote(request.path) + (f"?{query}" if query else "")
    text = render_template("login.html", problem=problem, following=_own(asked or "/"))
    answer = Response(text, 401, mimetype="text/html")
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src {STYLE_SOURCE}; img-src data:; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
    return answer


def _own(path: str) -> str:
    """Return a path of this listener: the page itself for an address of another site."""
    return path if len(path) <= MAX_PATH_CHARACTERS and OWN_PATH.fullmatch(path) else "/"


def _to(path: str) -> AnyResponse:
    return redirect(request.script_root + _own(path), 303)


__all__ = ["accepts_html", "add_login", "login_form"]
