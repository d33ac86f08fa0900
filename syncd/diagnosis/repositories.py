"""Checks what jobs ask of GitHub: each repository, its ref, and every listed path at that commit.

A ref is one request, and a listing costs what a first sync of the job would: jobs of one repository
and ref share both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from syncd.diagnosis.finding import Finding, error, from_error, ok, warning
from syncd.engine.desired import desired, set_limit_error
from syncd.errors import MirrorError, NotFoundError, SyncdError
from syncd.github.protocol import get, read_json, server_text
from syncd.models import Job, Listing, TreeEntry, WantedFile
from syncd.ports import Head
from syncd.status.identities import identity_description
from syncd.wiring import AppContext

LIMIT_SECONDS = 30.0
SKEW_SHOWN_SECONDS = 30.0

WantedSets = dict[str, Mapping[str, WantedFile]]


class CheckedJob(Struct, frozen=True):
    """What one job asks of GitHub: the finding about its ref, and those about its paths.

    `wanted` is destination -> file, where everything that the job lists is there.
    """

    ref: Finding
    paths: tuple[Finding, ...] = ()
    wanted: Mapping[str, WantedFile] | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return all findings."""
        return (self.ref, *self.paths)


def check_job(app: AppContext, job: Job) -> CheckedJob:
    """Return what GitHub has of the job's repository, ref and listed paths."""
    what = f"{job.repo}@{job.ref or 'HEAD'}"
    identity = app.config.identities[job.identity]
    who = f"{job.identity} ({identity_description(identity)})"
    try:
        context, deadline = app.run_context(job), app.command_deadline(LIMIT_SECONDS)
        known = app.store.head(context.scope, job.repo, job.ref)
        if known is not None:  # a name that is both a branch and a tag is found now, not tomorrow
            known = replace(known, checked_at=None)
        head = context.source.resolve(job.repo, job.ref, known, deadline)
    except SyncdError as failure:
        return CheckedJob(from_error("repository", failure, f"{what} as {job.identity}"))
    found = ok("doctor/repository", "repository", f"{what} is {head.commit[:7]}, read as {who}")
    return _with_paths(app, job, head, found)


def _with_paths(app: AppContext, job: Job, head: Head, ref: Finding) -> CheckedJob:
    """Add the findings about the listed paths. Where one is missing, each is looked for alone."""
    findings: list[Finding] = []
    entries: dict[str, TreeEntry] = {}
    try:
        entries.update(_list(app, job, head))
    except NotFoundError:
        for rule in job.paths:
            alone = Job(job.name, job.identity, job.repo, job.ref, (rule,))
            try:
                _list(app, alone, head)
            except SyncdError as failure:
                findings.append(from_error("path", failure, job.name))
    except SyncdError as failure:
        findings.append(from_error("path", failure, job.name))
    if findings:
        return CheckedJob(ref, tuple(findings))
    return _with_wanted(app, job, Listing(entries), ref)


def _list(app: AppContext, job: Job, head: Head) -> Mapping[str, TreeEntry]:
    deadline = app.command_deadline(LIMIT_SECONDS)
    source = app.run_context(job).source
    return source.listing(job.repo, head.commit, job.paths, app.store, deadline).entries


def _with_wanted(app: AppContext, job: Job, listing: Listing, ref: Finding) -> CheckedJob:
    """Add what the job would mirror: a policy may refuse it, a limit too, and filters may leave
    nothing.
    """
    try:
        wanted = desired(job, listing, app.run_context(job).resolve_owner)
        past_limit = set_limit_error(job, wanted)
    except (MirrorError, NotFoundError) as failure:
        return CheckedJob(ref, (from_error("path", failure, job.name),))
    if past_limit is not None:
        return CheckedJob(ref, (from_error("path", past_limit, job.name),))
    count = len(wanted)
    paths = ", ".join(f"{rule.source}{'/' * rule.directory}" for rule in job.paths)
    if not count:
        text = f"{job.name}: include and exclude leave no file of {paths}"
        return CheckedJob(ref, (error("doctor/nothing-selected", "path", text, FILTER_HINT),))
    text = f"{job.name}: {paths}: {count:,} file{'s' * (count != 1)}"
    return CheckedJob(ref, (ok("doctor/path", "path", text),), wanted)


FILTER_HINT = "correct include: and exclude:; they are relative to from:"


# --- what the answers said besides ----------------------------------------------------------------


def check_renamed(app: AppContext) -> Iterator[Finding]:
    """Yield each repository that has another name now, at one request each."""
    for (name, repo), number in app.request_metrics.renamed_repositories().items():
        now = _name_of(app, name, repo, number)
        yield warning(
            "doctor/repository-renamed",
            "repository",
            f"{repo} has another name on GitHub now{f': {now}' if now else ''}",
            f"write repo: {now}" if now else "write its present name into repo:",
        )


def _name_of(app: AppContext, identity: str, repo: str, number: int) -> str | None:
    """Return the present name of a repository; None where GitHub does not say."""
    connection = app.connection(app.config.identities[identity])
    api = app.config.identities[identity].api
    request = get(api, f"/repositories/{number}", "repo", f"the name of {repo}", repo)
    try:
        answer = connection.transport.send(request, app.command_deadline(LIMIT_SECONDS))
        found = read_json(request, answer) if answer.status == 200 else None
    except SyncdError:  # the name is only for the hint
        return None
    return server_text(found.get("full_name")) or None if isinstance(found, dict) else None


def check_clock(skew_seconds: float | None) -> Iterator[Finding]:
    """Yield the difference of the clocks. Pure."""
    if skew_seconds is None:
        return
    text = f"{abs(skew_seconds):.1f} s from GitHub's"
    if abs(skew_seconds) <= SKEW_SHOWN_SECONDS:
        yield ok("doctor/clock", "clock", text)
        return
    side = "behind" if skew_seconds > 0 else "ahead of"
    yield warning(
        "doctor/clock-off",
        "clock",
        f"{abs(skew_seconds):.1f} s {side} GitHub's",
        "set up NTP: timedatectl set-ntp true; syncd reckons with the difference meanwhile",
    )


def check_limits(app: AppContext) -> Iterator[Finding]:
    """Yield each hourly limit that the answers named, and how many requests the checks took."""
    for one in app.observed_limits():
        view = one.view
        if view.limit is None or view.remaining is None:
            continue
        until = f" until {view.reset_at:%H:%M} UTC" if view.reset_at is not None else ""
        text = f"{one.name}: {view.remaining:,} of {view.limit:,} requests left{until}"
        if view.remaining < view.limit // 10:
            yield warning("doctor/limit-low", "limit", text, LOW_HINT)
        else:
            yield ok("doctor/limit", "limit", text)
    count = app.request_metrics.totals()["total"]
    yield ok("doctor/requests", "requests", f"{count:,} to GitHub for these checks")


LOW_HINT = "raise every: of the jobs; syncd status shows which repository spends how much"


__all__ = ["CheckedJob", "check_clock", "check_job", "check_limits", "check_renamed"]
