"""The checks of `syncd doctor` and `syncd check --online`, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from msgspec import Struct, field

from syncd.diagnosis import configuration, daemon, destinations, identities, repositories
from syncd.diagnosis.finding import Finding, Level, from_error, warning
from syncd.diagnosis.hooks import check_hooks
from syncd.diagnosis.repositories import CheckedJob, check_job
from syncd.diagnosis.runner import Check
from syncd.diagnosis.space import check_space
from syncd.diagnosis.store import check_store
from syncd.diagnosis.webhook import check_webhook
from syncd.errors import ConfigError, SyncdError
from syncd.identities import AppIdentity, LoginIdentity
from syncd.models import Job, WantedFile
from syncd.store.location import locks_on
from syncd.store.lock import daemon_lock_file
from syncd.wiring import AppContext

MAX_NAMED = 5  # jobs in one message
STORE_SECONDS = 60.0  # a large store is read whole
ONLINE_SECONDS = 45.0  # more than the requests' own limit, whose message says more


class OnlineChecks(Struct):
    """The checks that ask GitHub. `no_proxy` is why the environment's proxy can't be used: then
    GitHub is not asked.

    They fill `jobs`, what each job asks for, and `refused`, the identities that can't be used.
    """

    app: AppContext
    no_proxy: SyncdError | None = None
    jobs: dict[str, CheckedJob] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)  # of these, the ones that were said
    shown: set[Finding] = field(default_factory=set)  # about jobs

    def of_identities(self) -> Iterator[Check]:
        """Yield a check of each login, and of each App that a job uses."""
        if self.no_proxy is not None:
            self.refused.update(self.app.config.identities)
            yield Check("proxy", partial(_failed, "proxy", self.no_proxy))
            return
        used = {job.identity for job in self.app.config.polled_jobs.values()}
        for identity in self.app.config.identities.values():
            if isinstance(identity, LoginIdentity):
                login = partial(identities.check_login, self.app, identity)
                yield Check("login", login, ONLINE_SECONDS)
            elif isinstance(identity, AppIdentity) and identity.name in used:
                yield Check("app", partial(self._check_app, identity), ONLINE_SECONDS)

    def of_jobs(self) -> Iterator[Check]:
        """Yield a check of each job's repository, ref and paths."""
        for job in self.app.config.polled_jobs.values():
            yield Check("repository", partial(self._check_job, job), ONLINE_SECONDS)

    def of_fleet(self) -> Iterator[Check]:
        """Yield a check of the fleet that the machine belongs to."""
        if self.app.config.fleet is not None:
            from syncd.diagnosis.fleet import check_fleet

            yield Check("fleet", partial(check_fleet, self.app), ONLINE_SECONDS)

    def of_answers(self) -> Iterator[Check]:
        """Yield the checks of what GitHub's answers said besides."""
        app = self.app
        renamed = partial(repositories.check_renamed, app)
        yield Check("repository", renamed, ONLINE_SECONDS)
        yield Check("clock", lambda: repositories.check_clock(app.request_metrics.skew_seconds))
        yield Check("limit", partial(repositories.check_limits, app))
        yield Check("expiry", self._check_expiries)

    def _check_app(self, identity: AppIdentity) -> list[Finding]:
        try:
            found = list(identities.check_app(self.app, identity))
        except ConfigError:  # the check of the secrets has said it
            self.refused.add(identity.name)
            return []
        is_one = identity.installation_id is not None
        if any(one.exit_code and (is_one or one.subject == "app") for one in found):
            self.refused.add(identity.name)
        return found

    def _check_job(self, job: Job) -> list[Finding]:
        """Return what is new of this job: jobs of one repository and ref share the finding."""
        if job.identity in self.refused:
            return self._not_checked(job.identity)
        found = check_job(self.app, job)
        self.jobs[job.name] = found
        new = [one for one in found.findings if one not in self.shown]
        self.shown.update(new)
        return new

    def _not_checked(self, identity: str) -> list[Finding]:
        """Return that the jobs of an identity are not checked, for the first of them."""
        if identity in self.named:
            return []
        self.named.add(identity)
        jobs = [
            job.name for job in self.app.config.polled_jobs.values() if job.identity == identity
        ]
        more = f" and {len(jobs) - MAX_NAMED} more" if len(jobs) > MAX_NAMED else ""
        return [
            warning(
                "doctor/not-checked",
                "repository",
                f"{', '.join(jobs[:MAX_NAMED])}{more}: not checked, as {identity} can't be used",
                "once that is mended, run syncd doctor again",
            )
        ]

    def _check_expiries(self) -> Iterator[Finding]:
        now = self.app.clock.now()
        return identities.check_expiries(self.app.config, self.app.token_expiries(), now)


class LocalChecks(Struct, frozen=True):
    """The checks of this machine. `store_failure` is why the store could not be opened: `app` has
    an empty one then. `outdated_dropin` is the installed drop-in that does not fit.
    """

    app: AppContext
    store_failure: SyncdError | None = None
    outdated_dropin: str | None = None

    def before_online(self) -> Iterator[Check]:
        """Yield the checks of the configuration, the store and the daemon."""
        app, config, store = self.app, self.app.config, self.app.store
        yield Check("config", lambda: configuration.check_config(config))
        yield Check("secret", lambda: configuration.check_secrets(config, app.environ))
        sound = partial(check_store, config, store, self.store_failure)
        yield Check("store", sound, STORE_SECONDS)
        if self.store_failure is None:
            yield Check("daemon", lambda: daemon.check_daemon(config, store, app.clock.now()))

    def after_online(self, jobs: dict[str, CheckedJob]) -> Iterator[Check]:
        """Yield the checks of the disk, the hooks, the service and the webhook.

        `jobs` are what the checks about GitHub have found.
        """
        app, config = self.app, self.app.config
        locks = locks_on(daemon_lock_file(config.state))
        pid = next((pid for _, pid in locks if pid > 0), None)
        for job in config.jobs.values():
            yield Check("destination", partial(_check_destinations, job, pid))
        yield Check("space", lambda: check_space(config.state, self._missing_files(jobs)))
        yield Check("hook", lambda: check_hooks(config.jobs.values()))
        yield Check("service", lambda: configuration.check_dropin(self.outdated_dropin))
        yield Check("webhook", lambda: check_webhook(config, app.store, app.clock.now()))

    def _missing_files(self, jobs: dict[str, CheckedJob]) -> dict[str, WantedFile]:
        """Return destination -> file, for each file that no run has written yet as it has to be."""
        missing: dict[str, WantedFile] = {}
        for name, found in jobs.items():
            ledger = self.app.store.load_ledger(name)
            for path, wanted in (found.wanted or {}).items():
                row = ledger.get(path)
                if row is None or not row.entry.same_content(wanted):
                    missing[path] = wanted
        return missing


def _failed(subject: str, failure: SyncdError) -> list[Finding]:
    return [from_error(subject, failure)]


def _check_destinations(job: Job, daemon_pid: int | None) -> Iterator[Finding]:
    for rule in job.paths:
        yield from destinations.check_destination(job, rule, daemon_pid)


def has_error(findings: Iterable[Finding]) -> bool:
    """Return whether one of the findings is an error."""
    return any(one.level is Level.ERROR for one in findings)


__all__ = ["LocalChecks", "OnlineChecks", "has_error"]
