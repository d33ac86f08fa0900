"""Status pages as HTML: which values a request asks for, and how they are put into a template.

Texts of repositories, hooks and GitHub are escaped, and secrets in them are blanked. The size of a
page is bounded.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import socket

from flask import Flask, Response, abort, g, render_template, request
from markupsafe import Markup, escape

from syncd import __version__
from syncd.redaction import redact
from syncd.text import visible
from syncd.web import job_page, status_page
from syncd.web.access import AccessControl
from syncd.web.fleet_answers import of_agent
from syncd.web.ports import StatusSource
from syncd.web.views import ANY_PERSON, Personal

MAX_PAGE_CHARACTERS = 2 << 20  # characters; a thousand jobs take half of it
MAX_FILTER_CHARACTERS = 200
AS_OF = re.compile(r"<p>as of .*?</p>")


class Pages:
    """Makes the pages. With `show_diffs` they show lines of files that every user may read.

    A page is made once for all people who logged in: what differs between them has a placeholder
    that no text of a repository can contain.
    """

    def __init__(
        self,
        source: StatusSource,
        access: AccessControl,
        show_diffs: bool,
        has_actions: bool = False,
        host: str | None = None,
    ) -> None:
        self._source, self._access, self._show_diffs = source, access, show_diffs
        self._has_actions, self._host = has_actions, host or socket.gethostname()
        self._user, self._token = (f"person-{secrets.token_hex(12)}" for _ in range(2))

    def viewer(self) -> tuple[str, Personal]:
        """Return of what kind the person is who asks, and what of a page is theirs."""
        if not g.caller.in_session:
            return "", ANY_PERSON
        token = self._access.sessions.form_token()
        user = escape(g.caller.account.user or "web.password")
        texts = {self._user: user, self._token: token}
        tag = hashlib.sha256(f"{user} {token}".encode()).hexdigest()[:16]
        return "in session", Personal(
            {key.encode(): text.encode() for key, text in texts.items()}, tag
        )

    def install(self, app: Flask) -> None:
        """Add what the templates use to the application."""
        app.jinja_env.finalize = _shown
        app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
        app.jinja_env.filters["breakable"] = breakable

    def index(self) -> Response:
        """Answer with the overview, filtered as the query string says."""
        chosen = _chosen()
        readings, recent = (
            self._source.status_snapshot(),
            self._source.recent_runs(self._show_diffs),
        )
        applied = {one.state.applied_commit for one in readings.jobs}
        commits = self._source.run_history.commits({one for one in applied if one is not None})
        view = status_page.view(readings, recent, chosen, commits)
        text = self._render("status.html", view)
        while len(text) > MAX_PAGE_CHARACTERS and view.rows:
            view = status_page.shortened(view)
            text = self._render("status.html", view)
        return _html(text)

    def job(self, name: str) -> Response:
        """Answer with the page of a job."""
        readings = self._source.status_snapshot()
        one = next((one for one in readings.jobs if one.job.name == name), None)
        if one is None:
            abort(404)
        past = self._source.run_history
        runs = past.of_job(name)
        named = {run.commit for run in runs} | {one.state.applied_commit}
        facts = job_page.JobFacts(
            runs,
            past.actions_of(name),
            past.ledger_of(name),
            past.drift_of(name, self._show_diffs) if one.state.drift_count else (),
            past.commits({commit for commit in named if commit is not None}),
        )
        return _html(self._render("job.html", job_page.job_view(one, facts, readings.at)))

    def run(self, number: int) -> Response:
        """Answer with the page of a run."""
        run = self._source.run_history.run(number, self._show_diffs)
        if run is None:
            abort(404)
        commits = self._source.run_history.commits({run.commit} if run.commit else set())
        view = job_page.run_view(run, commits.get(run.commit or ""))
        return _html(self._render("run.html", view))

    def fleet(self) -> Response:
        """Answer with the page of the fleet, filtered as the query string says."""
        watch = self._source.fleet_watch
        if watch is None or not watch.has_overview:
            return of_agent()
        from syncd.web import fleet_page  # it loads the fleet's tables

        view = fleet_page.view(watch.look(), _chosen())
        text = self._render("fleet.html", view)
        while len(text) > MAX_PAGE_CHARACTERS and (view.jobs or view.agents):
            view = fleet_page.shortened(view)
            text = self._render("fleet.html", view)
        return _html(text)

    def _render(self, template: str, view: object) -> str:
        in_session, watch = g.caller.in_session, self._source.fleet_watch
        return render_template(
            template,
            view=view,
            has_fleet=watch is not None and watch.has_overview,
            host=self._host,
            version=__version__,
            user=self._user if in_session else None,
            form_token=self._token if in_session and self._has_actions else None,
        )


def _chosen() -> status_page.Filter:
    """Return what the query string asks for."""
    return status_page.Filter(
        request.args.get("state", "")[:MAX_FILTER_CHARACTERS],
        request.args.get("q", "").strip()[:MAX_FILTER_CHARACTERS],
        request.args.get("rows") == "all",
    )


def _html(text: str) -> Response:
    """Return the answer of a page. The time that redacting takes grows with the page.

    Its ETag changes with everything but the time that the page is as of.
    """
    shown = redact(text, None)
    answer = Response(shown, mimetype="text/html")
    answer.set_etag(hashlib.sha256(AS_OF.sub("", shown).encode("utf-8", "replace")).hexdigest())
    return answer


def _shown(value: object) -> object:
    """Return a template value with unprintable characters as escapes, before HTML escaping."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def breakable(text: str) -> Markup:
    """Return a path or address as HTML that may go on in the next line after each slash.

    Secrets are blanked before, because the break would hide them.
    """
    parts = re.split(r"(?<=/)(?=.)", visible(redact(text)))
    return Markup("<wbr>").join(escape(part) for part in parts)


__all__ = ["Pages", "breakable"]
