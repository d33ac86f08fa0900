"""Flask application: what each path answers, and who may ask.

No path changes anything, on this machine or elsewhere, but for `web.actions` (actions.py), and for
the webhook, which can start runs. No answer holds a secret. Who may ask is decided in `access`.
Every page is whole without scripts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from syncd.config.model import Web as WebConfig
from syncd.errors import SyncdError
from syncd.web.access import AccessControl
from syncd.web.actions import add_actions
from syncd.web.answers import text_answer, too_many
from syncd.web.fleet_answers import agents_answer, jobs_answer
from syncd.web.log_filter import LogLimit
from syncd.web.login import accepts_html, add_login, login_form
from syncd.web.metrics import CONTENT_TYPE, exposition
from syncd.web.pages import Pages
from syncd.web.ports import StatusSource
from syncd.web.status_text import StatusText
from syncd.web.views import TooBusyError, TooLargeError, Views
from syncd.web.webhook import WebhookEndpoint

log = logging.getLogger(__name__)

POLICY = "Content-Security-Policy"
HEADERS = {
    POLICY: (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(
    source: StatusSource,
    access: AccessControl,
    views: Views,
    web: WebConfig,
    hook: WebhookEndpoint | None = None,
) -> Flask:
    """Return the WSGI application. The webhook needs neither password nor local name, because its
    deliveries are signed.
    """
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # two slashes are another path, and not a redirect
    has_actions = web.actions and access.passwords.exist
    pages = Pages(source, access, web.show_diffs, has_actions)
    pages.install(app)

    @app.before_request
    def guard() -> Response | None:
        if hook is not None and request.path == hook.path:
            return None
        refused = access.refusal()
        if refused is None or refused.status_code != 401:
            return refused
        return login_form() if access.passwords.exist and accepts_html() else refused

    @app.after_request
    def sealed(answer: Response) -> Response:
        policy = answer.headers.get(POLICY, HEADERS[POLICY])  # the login form has its own
        answer.headers.update(HEADERS | {POLICY: policy})
        return answer

    access.sessions.install(app)
    _add_views(app, source, views, pages)
    if access.passwords.exist:
        add_login(app, access)
    if has_actions:
        add_actions(app, access, lambda: source.job_control, views.acted)
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


def _add_views(app: Flask, source: StatusSource, views: Views, pages: Pages) -> None:
    """Add every path that only reads."""

    @app.get("/healthz", provide_automatic_options=False)
    def healthz() -> Response:
        frozen = source.stall_reason()
        return (
            text_answer(503, f"frozen: {frozen}")
            if frozen is not None
            else text_answer(200, "alive")
        )

    def view(name: str, make: Callable[[], Response]) -> None:
        app.add_url_rule(
            name,
            name,
            lambda: views.answer(name, make),
            methods=["GET"],
            provide_automatic_options=False,
        )

    def page(rule: str, make: Callable[..., Response]) -> None:
        """Add a page that depends on its path, its query string and who asks."""

        def answer(**parts: object) -> Response:
            kind, personal = pages.viewer()
            asked = f"{kind} {request.full_path}"
            return views.answer(rule, lambda: make(**parts), asked, personal)

        app.add_url_rule(
            rule,
            rule,
            answer,
            methods=["GET"],
            provide_automatic_options=False,
        )

    view("/readyz", lambda: _ready(source))
    view(
        "/metrics",
        lambda: _metrics(source),
    )
    texts = StatusText()
    view("/api/v1/status", lambda: _status(source, texts))
    page("/", pages.index)
    page("/jobs/<name>", pages.job)
    page("/runs/<int:number>", pages.run)
    watch = source.fleet_watch
    if watch is not None:
        page("/fleet", pages.fleet)
        view("/api/v1/fleet", lambda: jobs_answer(watch))
        view("/api/v1/fleet/agents", lambda: agents_answer(watch))


def _ready(source: StatusSource) -> Response:
    stale = source.status_snapshot().stale
    return (
        text_answer(503, "not ready\n" + "\n".join(stale)) if stale else text_answer(200, "ready")
    )


def _metrics(source: StatusSource) -> Response:
    watch = source.fleet_watch
    fleet = None if watch is None else watch.look()
    return Response(exposition(source.status_snapshot(), fleet), content_type=CONTENT_TYPE)


def _status(source: StatusSource, texts: StatusText) -> Response:
    return Response(texts.of(source.status_snapshot()) + "\n", mimetype="application/json")


def _delivered(hook: WebhookEndpoint) -> Response:
    client = hook.proxies.client(request.remote_addr, request.headers.get("X-Forwarded-For"))
    status, text, seconds = hook.answer(client, request.headers.get, request.environ["wsgi.input"])
    return too_many(seconds) if seconds else text_answer(status, text)


def _handle_errors(app: Flask) -> None:
    """Answer every exception without naming anything of this machine, and log what is a bug."""
    quiet = LogLimit()

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        answer = text_answer(error.code or 500, error.name)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            answer.headers["Allow"] = ", ".join(sorted(error.valid_methods))  # RFC 9110, 15.5.6
        return answer

    @app.errorhandler(SyncdError)
    def failed(error: SyncdError) -> Response:
        if quiet.may_log(error.message):
            log.warning(
                "syncd can't answer %s: %s%s",
                request.path,
                error.message,
                f" → {error.hint}" if error.hint else "",
            )
        return text_answer(503, "this can't be answered now; syncd's own log says why")

    @app.errorhandler(TooBusyError)
    def busy(_: TooBusyError) -> Response:
        answer = text_answer(503, "others are being answered; ask again in a second")
        answer.headers["Retry-After"] = "1"
        return answer

    @app.errorhandler(TooLargeError)
    def large(_: TooLargeError) -> Response:
        return text_answer(503, "this page is too large to be shown; on this machine: syncd status")

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        if quiet.may_log(f"{type(error).__name__} of {request.url_rule}"):
            log.error("a bug in syncd: %s can't be answered", request.path, exc_info=error)
        return text_answer(500, "a bug in syncd; its log has the traceback")


__all__ = ["HEADERS", "make_app"]
