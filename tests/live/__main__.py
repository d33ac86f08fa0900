"""`make live`: asks a real GitHub, or an Enterprise Server, what only it can answer.

Opt-in: it runs with SYNCD_LIVE=1 alone, and never in CI. docs/development/live.md is its manual.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from tests.live import corrections, open_points, own_client
from tests.live.answers import Question, Result
from tests.live.api import Api, NotApplicable
from tests.live.report import Report, write
from tests.live.scratch import scratch
from tests.live.settings import Settings, SettingsError, settings_of
from tests.live.subject import Subject

QUESTIONS = [*open_points.QUESTIONS, *corrections.QUESTIONS, *own_client.QUESTIONS]


def main(environ: Mapping[str, str]) -> int:
    """Ask every question and write the report; return 0, or 2 without consent or settings."""
    try:
        settings = settings_of(environ)
        report = ask_all(settings)
    except (SettingsError, NotApplicable) as error:
        print(f"make live: {error}", file=sys.stderr)
        return 2
    for one in report.results:
        print(f"{one.section:10} {one.answer:15} {one.id}: {one.text}")
    paths = " and ".join(map(str, write(report)))
    print(f"{report.request_count} requests; report: {paths}", file=sys.stderr)
    return 0


def ask_all(
    settings: Settings,
    questions: Sequence[Question] = QUESTIONS,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Return the report of one run. Raises NotApplicable where the repository can't be read."""
    api = Api(settings, sleep)
    with ExitStack() as stack:
        stack.callback(api.close)
        if settings.write:
            api.settings = stack.enter_context(scratch(api))
        subject = Subject(api)
        _ = subject.commit  # what every question needs: its failure is the run's
        results = [_ask(question, subject) for question in questions]
    return Report(settings, datetime.now(UTC), api.request_count, results)


def _ask(question: Question, subject: Subject) -> Result:
    subject.api.evidence.clear()
    try:
        if question.writes and not subject.settings.write:
            raise NotApplicable("asked with SYNCD_LIVE_WRITE=1 alone")
        answer = question.ask(subject)
        found, text = answer.answer, answer.text
    except NotApplicable as reason:
        found, text = "not applicable", str(reason)
    evidence = list(subject.api.evidence)
    return Result(question.id, question.section, question.text, found, text, evidence)


if __name__ == "__main__":
    sys.exit(main(os.environ))
