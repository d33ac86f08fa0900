"""Catches up with pushes that GitHub could not deliver: at the start, and when pushes fall silent.

GitHub sends a delivery once. Where an App has the webhook, GitHub's list says which deliveries did
not arrive, for one request per page, and every job of their repositories starts. A failure here
fails nothing: schedules find every change. For webhooks of repositories GitHub offers no such list.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from syncd.clock import Clock
from syncd.config.model import Config
from syncd.daemon.push_trigger import PushTrigger, is_announced
from syncd.deadline import Deadline
from syncd.errors import RemoteUnavailableError, StoppedError, SyncdError
from syncd.github.auth.app import AppCredentials
from syncd.github.deliveries import (
    Delivery,
    DeliveryList,
    SeenDelivery,
    is_about,
    list_deliveries,
    missed_pushes,
)
from syncd.identities import AppIdentity
from syncd.models import Job
from syncd.store.facts import DELIVERIES_READ, Staleness
from syncd.wiring import AppContext

LOG = logging.getLogger("syncd.daemon")
SILENCE = timedelta(minutes=15)  # without a delivery, until the list is read, and read again
TIMEOUT_SECONDS = 60.0  # for all pages of one App
FIRST_RETRY_SECONDS = 60.0
BEFORE_ALL = SeenDelivery(0, datetime.fromtimestamp(0, UTC))  # after a list that was empty


class WatchedApp(Struct, frozen=True):
    """One App of the configuration, and the jobs that its pushes start, each with its identity."""

    identity: AppIdentity
    jobs: list[tuple[Job, AppIdentity]]

    @property
    def key(self) -> str:
        """Return the App's name in the store: identities with one App share its list."""
        return f"{self.identity.api} {self.identity.issuer}"


class NextRead(Struct, frozen=True):
    """When an App's list is read next (monotonic seconds), after so many failures in a row."""

    at: float
    failures: int = 0


def watched_apps(config: Config) -> Iterator[WatchedApp]:
    """Yield each App whose webhook may start jobs here; none without `web.webhook`."""
    found: dict[tuple[str, str], WatchedApp] = {}
    for job in config.jobs.values():
        identity = config.identities[job.identity]
        if not isinstance(identity, AppIdentity) or not is_announced(config, job.name):
            continue
        app = found.setdefault((identity.api, identity.issuer), WatchedApp(identity, []))
        app.jobs.append((job, identity))
    yield from found.values()


class CatchUp:
    """Reads the list of deliveries of each App when it is due. For one thread."""

    def __init__(self, app: AppContext, push_trigger: PushTrigger, clock: Clock) -> None:
        self._app, self._push_trigger, self._clock = app, push_trigger, clock
        self._next: dict[str, NextRead] = {}  # by App

    def run_if_due(self) -> None:
        """Start the jobs of missed pushes, for each App whose list is due. Raises nothing of
        syncd's own: a list that can't be read is tried again later.
        """
        for app in watched_apps(self._app.config):
            if not self._is_due(app):
                continue
            try:
                self._catch_up(app)
            except StoppedError:
                return
            except SyncdError as error:
                self._failed(app, error)
            else:
                self._next[app.key] = NextRead(self._clock.monotonic() + SILENCE.total_seconds())

    def _is_due(self, app: WatchedApp) -> bool:
        following = self._next.get(app.key)
        if following is None:
            return True
        if self._clock.monotonic() < following.at:
            return False
        return following.failures > 0 or self._is_silent()

    def _is_silent(self) -> bool:
        last_at = self._push_trigger.stats().last_at
        silence = None if last_at is None else self._clock.now() - last_at
        # a negative one shows that the clock was set back
        return silence is None or not timedelta(0) <= silence < SILENCE

    def _failed(self, app: WatchedApp, error: SyncdError) -> None:
        failures = self._next.get(app.key, NextRead(0)).failures + 1
        delay = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10), SILENCE.total_seconds())
        self._next[app.key] = NextRead(self._clock.monotonic() + delay, failures)
        passing = isinstance(error, RemoteUnavailableError) or failures > 1
        LOG.log(
            logging.DEBUG if passing else logging.WARNING,
            "syncd can't see which deliveries of the App of %s were missed; "
            "scheduled runs find those changes: %s%s",
            app.identity.name,
            error.message,
            f" → {error.hint}" if error.hint else "",
        )

    def _catch_up(self, app: WatchedApp) -> None:
        """Read the list since the last known delivery. Raises SyncdError."""
        deadline = self._app.command_deadline(TIMEOUT_SECONDS)
        known = self._known(app)
        listed = list_deliveries(self._credentials(app.identity), app.identity.api, known, deadline)
        if known is not None:
            self._start(app, listed, deadline)
        if listed.deliveries:
            self._save(app, SeenDelivery(listed.deliveries[0].id, listed.deliveries[0].at))
        elif known is None:
            self._save(app, BEFORE_ALL)

    def _start(self, app: WatchedApp, listed: DeliveryList, deadline: Deadline) -> None:
        missed = missed_pushes(listed.deliveries)
        if not missed and listed.complete:
            return
        jobs = [
            job.name
            for job, identity in app.jobs
            if not listed.complete or self._is_missed(job.repo, identity, missed, deadline)
        ]
        started = len(self._push_trigger.deliveries_missed(len(missed), jobs))
        LOG.warning(
            "%s of %s did not reach the webhook%s; %s GitHub now",
            f"{len(missed)} push{'es' * (len(missed) != 1)}",
            f"the App of {app.identity.name}",
            f", the last one with {missed[0].outcome}" if missed else "",
            f"{started} job{'s ask' if started != 1 else ' asks'}",
        )

    def _is_missed(
        self, repo: str, identity: AppIdentity, missed: Sequence[Delivery], deadline: Deadline
    ) -> bool:
        """Return whether a push to the repository was missed, or may have been.

        The repository's number comes with the token that a run needs anyway.
        """
        credentials = self._credentials(identity)
        number = credentials.repository_numbers().get(repo.lower())
        if number is None:
            installation = credentials.installation_of(repo)
            if not any(is_about(one, None, installation) for one in missed):
                return False
            with suppress(SyncdError):  # the job's own run says what is wrong
                credentials.token_for(repo, deadline)
            number = credentials.repository_numbers().get(repo.lower())
        installation = credentials.installation_of(repo)
        return any(is_about(one, number, installation) for one in missed)

    def _credentials(self, identity: AppIdentity) -> AppCredentials:
        found = self._app.connection(identity).credentials
        if not isinstance(found, AppCredentials):
            raise TypeError(f"the identity {identity.name} is no App")
        return found

    # --- what is remembered -----------------------------------------------------------------------

    def _known(self, app: WatchedApp) -> SeenDelivery | None:
        for one in self._app.store.facts.staleness():
            if (one.reason, one.subject) == (DELIVERIES_READ, app.key) and one.detail.isdecimal():
                return SeenDelivery(int(one.detail), one.since)
        return None

    def _save(self, app: WatchedApp, newest: SeenDelivery) -> None:
        """Save the newest delivery, and forget Apps that are configured no more."""
        facts = self._app.store.facts
        keys = {one.key for one in watched_apps(self._app.config)} - {app.key}
        others = [
            one
            for one in facts.staleness()
            if one.reason == DELIVERIES_READ and one.subject in keys
        ]
        new = Staleness(DELIVERIES_READ, app.key, str(newest.id), newest.at)
        facts.save_staleness(DELIVERIES_READ, [*others, new])


__all__ = ["CatchUp", "watched_apps"]
