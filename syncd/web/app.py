"""Flask application: what each path answers, and who may ask.

No path changes anything, on this machine or elsewhere; only the webhook can start runs. No answer
holds a secret. A wrong password gets no data, and neither does a page of another site that was
pointed at this machine (DNS rebinding: without a password, only names of this machine are
answered). Every page works without scripts.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, render_template, request
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

from syncd import __version__
from syncd.errors import SyncdError
from syncd.redaction import Secret, redact, redact_json
from syncd.status import status_json
from syncd.text import visible
from syncd.web import status_page
from syncd.web.clients import client_name
from syncd.web.failed_attempts import FailureLimits
from syncd.web.log_filter import LogLimit
from syncd.web.metrics import CONTENT_TYPE, exposition
from syncd.web.ports import StatusSource
from syncd.web.views import TooBusyError, TooLargeError, Views
from syncd.web.webhook import WebhookEndpoint

log = logging.getLogger(__name__)

MAX_PAGE_CHARACTERS = 2 << 20  # characters; a thousand jobs take half of it

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AccessControl:
    """Decides who may ask.

    `password` reads the required password; None requires none. With `only_local_names`, only
    requests whose Host header names this machine's loopback are answered. `failures` counts the
    wrong passwords of every client.
    """

    def __init__(
        self, password: Callable[[], Secret] | None, only_local_names: bool, failures: FailureLimits
    ) -> None:
        self._password, self._only_local_names, self._failures = (
            password,
            only_local_names,
            failures,
        )
        self._quiet = LogLimit()

    def refusal(self) -> Response | None:
        """Return the answer to a request that is refused; None for one that is allowed."""
        if self._only_local_names and not _is_local_name(request.headers.get("Host", "")):
            return _text(
                421,
                "this is not the name of this machine's loopback; ask as 127.0.0.1 or localhost, "
                "or set web.password",
            )
        return None if self._password is None else self._judged(self._password)

    def _judged(self, password: Callable[[], Secret]) -> Response | None:
        given = (
            request.authorization.password
            if request.authorization is not None and request.authorization.type == "basic"
            else None
        )
        if given is None:  # what a browser does first
            return _unauthorized()
        client = client_name(request.remote_addr, request.headers.get("X-Forwarded-For", ""))
        seconds = self._failures.take(client)
        if seconds:
            if self._quiet.may_log(client):
                log.warning(
                    "wrong passwords come from %s: its next tries are refused without a look",
                    client,
                )
            return _too_many(seconds)
        if not _is_equal(given, password().reveal()):
            return _unauthorized()
        self._failures.succeeded(client)
        return None


def make_app(
    source: StatusSource,
    access: AccessControl,
    views: Views,
    show_diffs: bool,
    hook: WebhookEndpoint | None = None,
) -> Flask:
    """Return the WSGI application.

    With `show_diffs` the page shows lines of files that every user may read. The webhook needs
    neither password nor local name, because its deliveries are signed.
    """
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # two slashes are another path, and not a redirect
    app.jinja_env.finalize = _shown
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.before_request
    def guard() -> Response | None:
        if hook is not None and request.path == hook.path:
            return None
        return access.refusal()

    @app.after_request
    def sealed(answer: Response) -> Response:
        for name, value in HEADERS.items():
            answer.headers[name] = value
        return answer

    _add_views(app, source, views, show_diffs)
    if hook is not None:
        app.add_url_rule(
            hook.path,
            "webhook",
            lambda: _delivered(hook),
            methods=["POST"],
            provide_automatic_options=False,
        )
    _handle_errors(app)
    return app


def _add_views(app: Flask, source: StatusSource, views: Views, show_diffs: bool) -> None:
    """Add every path that only reads."""

    @app.get("/healthz", provide_automatic_options=False)
    def healthz() -> Response:
        frozen = source.stall_reason()
        return _text(503, f"frozen: {frozen}") if frozen is not None else _text(200, "alive")

    def view(name: str, make: Callable[[], Response]) -> None:
        app.add_url_rule(
            name,
            name,
            lambda: views.answer(name, make),
            methods=["GET"],
            provide_automatic_options=False,
        )

    view("/readyz", lambda: _ready(source))
    view(
        "/metrics",
        lambda: Response(exposition(source.status_snapshot()), content_type=CONTENT_TYPE),
    )
    view("/api/v1/status", lambda: _status(source))
    view("/", lambda: _index(source, show_diffs))


def _page(view: status_page.View) -> str:
    """Return the page, with as much of it as `MAX_PAGE_CHARACTERS` allows.

    The time that redacting takes grows with the page.
    """
    text = render_template("status.html", view=view, version=__version__)
    while len(text) > MAX_PAGE_CHARACTERS and view.rows:
        view = status_page.shortened(view)
        text = render_template("status.html", view=view, version=__version__)
    return text


def _shown(value: object) -> object:
    """Return a template value with unprintable characters as escapes, before HTML escaping."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _ready(source: StatusSource) -> Response:
    stale = source.status_snapshot().stale
    return _text(503, "not ready\n" + "\n".join(stale)) if stale else _text(200, "ready")


def _status(source: StatusSource) -> Response:
    return Response(
        redact_json(status_json(source.status_snapshot())) + "\n", mimetype="application/json"
    )


def _index(source: StatusSource, show_diffs: bool) -> Response:
    shown = status_page.view(source.status_snapshot(), source.recent_runs(show_diffs))
    return Response(redact(_page(shown), None), mimetype="text/html")


def _delivered(hook: WebhookEndpoint) -> Response:
    client = client_name(request.remote_addr, request.headers.get("X-Forwarded-For", ""))
    status, text, seconds = hook.answer(client, request.headers.get, request.environ["wsgi.input"])
    return _too_many(seconds) if seconds else _text(status, text)


def _too_many(seconds: int) -> Response:
    answer = _text(429, f"too many wrong tries; try again in {seconds} s")
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _unauthorized() -> Response:
    answer = _text(401, "a password is needed")
    answer.headers["WWW-Authenticate"] = 'Basic realm="syncd", charset="UTF-8"'
    return answer


def _handle_errors(app: Flask) -> None:
    """Answer every exception without naming anything of this machine, and log what is a bug."""
    quiet = LogLimit()

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _text(error.code or 500, error.name)

    @app.errorhandler(SyncdError)
    def failed(error: SyncdError) -> Response:
        if quiet.may_log(error.message):
            log.warning(
                "syncd can't answer %s: %s%s",
                request.path,
                error.message,
                f" → {error.hint}" if error.hint else "",
            )
        return _text(503, "this can't be answered now; syncd's own log says why")

    @app.errorhandler(TooBusyError)
    def busy(_: TooBusyError) -> Response:
        answer = _text(503, "others are being answered; ask again in a second")
        answer.headers["Retry-After"] = "1"
        return answer

    @app.errorhandler(TooLargeError)
    def large(_: TooLargeError) -> Response:
        return _text(503, "this page is too large to be shown; on this machine: syncd status")

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        if quiet.may_log(f"{type(error).__name__} of {request.url_rule}"):
            log.error("a bug in syncd: %s can't be answered", request.path, exc_info=error)
        return _text(500, "a bug in syncd; its log has the traceback")


def _text(status: int, text: str) -> Response:
    return Response(
        visible(redact(text)) + "\n", status=status, content_type="text/plain; charset=utf-8"
    )


def _is_equal(given: str, password: str) -> bool:
    """Return whether the password is right, in a time that does not depend on the difference.

    The user name is ignored.
    """
    digests = [
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, password)
    ]
    return hmac.compare_digest(*digests)


def _is_local_name(host: str) -> bool:
    """Return whether a Host header is `localhost` or a loopback address, with or without a port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


__all__: list[Any] = ["HEADERS", "AccessControl", "make_app"]
