"""Actions of people on jobs: sync now, pause and resume. Off unless `web.actions` is set.

Only a person who logged in with the form may act: HTTP Basic and the token may not. Each request
comes from a page of this listener, which the `Origin` header and the session's token both show, and
the answer leads to the job's page.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, g, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from syncd.config.value_types import positive_duration
from syncd.redaction import redact
from syncd.store.actions import PAUSE, RESUME, SYNC, Person
from syncd.web.access import AccessControl
from syncd.web.answers import text_answer
from syncd.web.login import accepts_html
from syncd.web.ports import JobControl

FORM_FIELD = "token"
MAX_REASON_CHARACTERS = 200

Act = Callable[[str, Person], str | None]


class _WrongFormError(Exception):
    """What a person typed is wrong; the text says what."""


def add_actions(
    app: Flask, access: AccessControl, control: Callable[[], JobControl], acted: Callable[[], None]
) -> None:
    """Add a path for each action. `control` returns what acts on jobs; `acted` is called after."""

    def view(act: Act, job: str) -> AnyResponse:
        caller = g.caller
        refused = _refusal(access)
        if refused is not None:
            return _refused(403, job, refused)
        if not control().has(job):
            return _refused(404, job, "the configuration has no such job")
        try:
            problem = act(job, Person(caller.account.user, access.client()))
        except _WrongFormError as error:
            return _refused(400, job, str(error))
        acted()
        if problem is not None:
            return _refused(409, job, problem)
        return redirect(f"{request.script_root}{request.path.rpartition('/')[0]}", 303)

    def pause(job: str, by: Person) -> str | None:
        reason, seconds = _reason(), _seconds()
        control().pause(job, by, reason, seconds)
        return None

    acts: dict[str, Act] = {
        SYNC: lambda job, by: control().sync_now(job, by),
        PAUSE: pause,
        RESUME: lambda job, by: control().resume(job, by),
    }
    for name, act in acts.items():
        app.add_url_rule(
            f"/jobs/<name>/{name}",
            name,
            lambda name, act=act: view(act, name),
            methods=["POST"],
            provide_automatic_options=False,
        )


def _refusal(access: AccessControl) -> str | None:
    """Return why this request may not act; None if it may. A foreign Origin was refused before."""
    if not g.caller.in_session:
        return "only a person who logged in with the form may act"
    if not request.headers.get("Origin"):
        return "the request does not say which page it comes from"
    if not access.sessions.is_form_token(request.form.get(FORM_FIELD, "")):
        return "this form is of an earlier login; load the page again"
    return None


def _reason() -> str:
    """Return why the job is paused, in one line. Raises _WrongFormError."""
    reason = " ".join(request.form.get("reason", "").split())
    if not reason:
        raise _WrongFormError("a pause needs a reason")
    if len(reason) > MAX_REASON_CHARACTERS:
        raise _WrongFormError(f"a reason has at most {MAX_REASON_CHARACTERS} characters")
    return reason


def _seconds() -> float | None:
    """Return how long the pause lasts; None until it is ended. Raises _WrongFormError."""
    text = request.form.get("for", "").strip()
    if not text:
        return None
    try:
        return positive_duration(text)
    except ValueError as error:
        raise _WrongFormError(str(error)) from error


def _refused(status: int, job: str, why: str) -> AnyResponse:
    """Return an answer that says why nothing was done, as a page for browsers."""
    if not accepts_html():
        return text_answer(status, f"nothing was done: {why}")
    page = render_template("refused.html", job=job, why=redact(why))
    return Response(page, status, mimetype="text/html")


__all__ = ["FORM_FIELD", "add_actions"]
