"""What each path answers, and who may ask. Readings only: nothing here changes anything, on this machine or anywhere; the webhook rings a bell.

Promises: no answer holds a secret; nothing is answered to a wrong password, or to a page of another site that was pointed at this machine
(DNS rebinding: without a password only the names of this machine are answered to); every page is whole without a script.
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
from syncd.models import Secret
from syncd.readings import as_object
from syncd.redact import redact, redact_json
from syncd.text import visible
from syncd.web import page
from syncd.web.board import Board
from syncd.web.hook import Hook
from syncd.web.metrics import CONTENT_TYPE, exposition

log = logging.getLogger(__name__)

LARGEST_PAGE = 2 << 20  # characters; a thousand jobs take half of it

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(board: Board, password: Callable[[], Secret] | None, only_local_names: bool, show_diffs: bool, hook: Hook | None = None) -> Flask:
    """The WSGI application. `password` reads the one that is asked for; None asks for none. `only_local_names`: answer only where the
    Host header names this machine's loopback. `show_diffs`: the page may show lines of files that everybody may read. `hook` is asked for
    neither password nor name: what it takes is signed."""
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # two slashes are another path, and not a redirect
    app.jinja_env.finalize = _shown
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.before_request
    def guard() -> Response | None:
        if hook is not None and request.path == hook.path:
            return None
        if only_local_names and not _is_local_name(request.headers.get("Host", "")):
            return _text(421, "this is not the name of this machine's loopback; ask as 127.0.0.1 or localhost, or set web.password")
        if password is not None and not _is_right(password().reveal()):
            answer = _text(401, "a password is needed")
            answer.headers["WWW-Authenticate"] = 'Basic realm="syncd", charset="UTF-8"'
            return answer
        return None

    @app.after_request
    def sealed(answer: Response) -> Response:
        for name, value in HEADERS.items():
            answer.headers[name] = value
        return answer

    @app.get("/healthz", provide_automatic_options=False)
    def healthz() -> Response:
        frozen = board.frozen()
        return _text(503, f"frozen: {frozen}") if frozen is not None else _text(200, "alive")

    @app.get("/readyz", provide_automatic_options=False)
    def readyz() -> Response:
        stale = board.readings().stale
        return _text(503, "not ready\n" + "\n".join(stale)) if stale else _text(200, "ready")

    @app.get("/metrics", provide_automatic_options=False)
    def metrics() -> Response:
        return Response(exposition(board.readings()), content_type=CONTENT_TYPE)

    @app.get("/api/v1/status", provide_automatic_options=False)
    def status() -> Response:
        return Response(redact_json(as_object(board.readings())) + "\n", mimetype="application/json")

    @app.get("/", provide_automatic_options=False)
    def index() -> Response:
        return Response(redact(_page(page.view(board.readings(), board.recent(show_diffs))), None), mimetype="text/html")

    if hook is not None:
        door = hook  # one that is known to be there when it is asked
        app.add_url_rule(door.path, "webhook", lambda: _text(*door.answer(request.headers.get, request.environ["wsgi.input"])), methods=["POST"], provide_automatic_options=False)

    _tell_errors(app)
    return app


def _page(view: page.View) -> str:
    """The page, with as much of it as `LARGEST_PAGE` holds. Redacting takes time that grows with it."""
    text = render_template("status.html", view=view, version=__version__)
    while len(text) > LARGEST_PAGE and view.rows:
        view = page.shorter(view)
        text = render_template("status.html", view=view, version=__version__)
    return text


def _shown(value: object) -> object:
    """Any value in the page: text of others as escapes that a person can read, before HTML's own are added."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _tell_errors(app: Flask) -> None:
    """Whatever a door raises is answered in words, and what is our mistake is in the log."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _text(error.code or 500, error.name)

    @app.errorhandler(SyncdError)
    def failed(error: SyncdError) -> Response:
        log.warning("can't answer %s: %s", request.path, error.message)
        return _text(503, f"{error.message}\n{error.hint}" if error.hint else error.message)

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.error("a bug in syncd: can't answer %s", request.path, exc_info=error)
        return _text(500, "a bug in syncd; its log has the traceback")


def _text(status: int, text: str) -> Response:
    return Response(visible(redact(text)) + "\n", status=status, content_type="text/plain; charset=utf-8")


def _is_right(password: str) -> bool:
    """Does the request carry the password? Any user name will do. The comparison takes as long for a wrong one, whatever is wrong with it."""
    given = request.authorization.password if request.authorization is not None and request.authorization.type == "basic" else None
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given or "", password)]
    return hmac.compare_digest(*digests) and given is not None


def _is_local_name(host: str) -> bool:
    """Is this Host header `localhost` or a loopback address, with or without a port? A header that can't be read is not."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


__all__: list[Any] = ["HEADERS", "make_app"]
