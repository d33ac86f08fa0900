"""Answers about the fleet for machines, and for people who ask an agent.

`syncd.fleet` is loaded where there is a fleet alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Response

from syncd.redaction import redact_json
from syncd.status import rfc3339
from syncd.status.fleet import DatabaseState
from syncd.web.answers import text_answer
from syncd.web.ports import FleetWatch

if TYPE_CHECKING:
    from syncd.fleet.overview import FleetReading


def jobs_answer(watch: FleetWatch) -> Response:
    """Answer with what `syncd fleet status --json` prints."""
    from syncd.fleet.overview_json import jobs_json

    return _answer(watch, lambda reading: jobs_json(reading.jobs))


def agents_answer(watch: FleetWatch) -> Response:
    """Answer with what `syncd fleet agents --json` prints."""
    from syncd.fleet.overview_json import agents_json

    return _answer(watch, lambda reading: agents_json(reading.agents))


def _answer(watch: FleetWatch, make: Callable[[FleetReading], object]) -> Response:
    if not watch.has_overview:
        return of_agent()
    look = watch.look()
    if look.reading is None or not look.database.up:
        return text_answer(503, away_line(look.database))
    return Response(redact_json(make(look.reading)) + "\n", mimetype="application/json")


def of_agent() -> Response:
    """Answer that an agent does not know the fleet."""
    return text_answer(
        404,
        "this machine is an agent, which reads nothing of the fleet but its own jobs: "
        "they are on / here; the whole fleet is on /fleet of a controller",
    )


def away_line(state: DatabaseState) -> str:
    """Return that the database does not answer, and since when."""
    if state.up is None or state.since is None:
        return "the fleet's database has not answered yet; ask again in a second"
    return f"the fleet's database is away since {rfc3339(state.since)}: {state.error}"


__all__ = ["agents_answer", "away_line", "jobs_answer", "of_agent"]
