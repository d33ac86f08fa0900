"""Checks the fleet: its database as this machine's login sees it, the keys, and each job."""

from __future__ import annotations

from collections.abc import Iterator

from syncd.diagnosis.finding import Finding, from_error, ok, warning
from syncd.errors import SyncdError
from syncd.wiring import AppContext

ONLINE_SECONDS = 30.0


def check_fleet(app: AppContext) -> Iterator[Finding]:
    """Yield whether the database answers and, of an agent, what it has of each job."""
    fleet = app.config.fleet
    if fleet is None:
        return
    try:
        version, login, wanted = app.fleet.describe()
    except SyncdError as error:
        yield from_error("fleet", error)
        return
    if version < wanted:
        yield warning(
            "doctor/fleet-outdated",
            "fleet",
            f"the database has the fleet's schema {version}, and this version knows {wanted}",
            "run syncd fleet init as the owner of the database",
        )
    yield ok("doctor/fleet", "fleet", f"the database answers {login} (schema {version})")
    if fleet.role.controls:
        yield _check_key(app)
    if fleet.role.mirrors:
        yield from _check_jobs(app)


def _check_key(app: AppContext) -> Finding:
    try:
        key = app.fleet.signer().public_key
    except SyncdError as error:
        return from_error("fleet", error)
    return ok("doctor/fleet-key", "fleet", f"revisions are signed by {key}")


def _check_jobs(app: AppContext) -> Iterator[Finding]:
    deadline = app.command_deadline(ONLINE_SECONDS)
    for job in app.config.jobs.values():
        try:
            head = app.fleet.source(job).resolve(job.repo, job.ref, None, deadline)
        except SyncdError as error:
            yield from_error("fleet", error)
        else:
            text = f"{job.name}: commit {head.commit[:7]} of {job.repo}, signed by a trusted key"
            yield ok("doctor/fleet-job", "fleet", text)


__all__ = ["check_fleet"]
