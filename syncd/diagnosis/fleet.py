"""Checks the fleet: its database as this machine's login sees it, the keys, and each job."""

from __future__ import annotations

from collections.abc import Iterator

from syncd.config.model import Fleet
from syncd.diagnosis.finding import Finding, from_error, ok, warning
from syncd.errors import SyncdError
from syncd.fleet_labels import labels_text
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
        yield from _check_where(app)
    if fleet.role.mirrors:
        yield from _check_labels(app, fleet)
        yield from _check_jobs(app)


def _check_key(app: AppContext) -> Finding:
    try:
        key = app.fleet.signer().public_key
    except SyncdError as error:
        return from_error("fleet", error)
    return ok("doctor/fleet-key", "fleet", f"revisions are signed by {key}")


def _check_where(app: AppContext) -> Iterator[Finding]:
    """Yield the published jobs whose `where:` no agent has the labels for."""
    jobs = {name: job for name, job in app.config.polled_jobs.items() if job.where}
    try:
        lonely = app.fleet.jobs_without_agents(jobs) if jobs else []
    except SyncdError as error:
        yield from_error("fleet", error)
        return
    for name in lonely:
        where = dict(jobs[name].where)
        text = f"{name}: no agent has the labels {labels_text(where)}"
        labels = " ".join(f"--label {one}={value}" for one, value in where.items())
        yield warning("doctor/fleet-no-agent", "fleet", text, f"syncd fleet grant AGENT {labels}")


def _check_labels(app: AppContext, fleet: Fleet) -> Iterator[Finding]:
    """Yield the labels that the configuration asks for and that were not granted."""
    try:
        login, granted = app.fleet.granted_labels()
    except SyncdError as error:
        yield from_error("fleet", error)
        return
    missing = {name: one for name, one in fleet.labels.items() if granted.get(name) != one}
    if missing:
        text = f"no operator has granted {labels_text(missing)} to {login}"
        labels = " ".join(f"--label {name}={value}" for name, value in missing.items())
        hint = f"on a controller: syncd fleet grant {login} {labels}"
        yield warning("doctor/fleet-labels", "fleet", text, hint)


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
