"""The one place where a configuration becomes real objects: network, disk, database, clock."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial

from msgspec import Struct

from syncd.clock import Clock, SystemClock
from syncd.config.model import Config
from syncd.config.protected import protected_paths
from syncd.config.secrets import read_key, read_secret, read_token
from syncd.deadline import Deadline
from syncd.engine.other_jobs import OtherJobs
from syncd.engine.run import RunContext, wanted_set
from syncd.errors import MirrorError, SyncdError
from syncd.fastpath.check import Reply
from syncd.github.api_version import VersionedTransport
from syncd.github.auth.app import AppCredentials
from syncd.github.auth.credentials import AuthTransport, Credentials, NoCredentials, StaticToken
from syncd.github.auth.device_flow import UserCredentials
from syncd.github.client import GitHubSource
from syncd.github.protocol import Transport
from syncd.github.proxies import proxies_of
from syncd.github.rate_limit import ConcurrencyLimit, RateLimits, RequestMetrics, SavedRateLimit
from syncd.github.replay import Replay, count_replies
from syncd.github.request_cache import SingleFlight
from syncd.github.transport import Network, RetryingTransport
from syncd.hooks.runner import HookRunner
from syncd.identities import AppIdentity, Identity, LoginIdentity, TokenIdentity
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.spelling import resolve
from syncd.mirror.symlink_publish import mirror_for
from syncd.mirror.trash import TrashLimits
from syncd.models import Job, Trigger
from syncd.owners import Ids, user_and_group_ids
from syncd.ports import Mirror
from syncd.protected_paths import ProtectedPaths
from syncd.redaction import Secret
from syncd.store.app_memory import AppMemory
from syncd.store.blobs import BlobCache
from syncd.store.facts import LimitRow, Usage, hour_of
from syncd.store.lock import job_lock
from syncd.store.oauth_tokens import OAuthTokenFile
from syncd.store.read_only_cache import ReadOnlyCache
from syncd.store.store import SqliteStore
from syncd.store.token_expiry import expiries_of
from syncd.stored_jobs import follow_renames, open_store
from syncd.trusted_path import state_owner

REVOKE_SECONDS = 2.0  # a stop has five in all
PROTECTED_SECONDS = 60.0
AN_HOUR = 3600.0  # a sweep reads the whole memory: not after every small change


def trash_limits_of(config: Config) -> TrashLimits:
    """What the configuration allows the trash."""
    return TrashLimits(config.trash.keep_seconds, config.trash.size_bytes)


class IdentityConnection(Struct, frozen=True):
    """One identity's way to GitHub: `transport` shows its credentials, `plain` shows nothing by itself."""

    transport: Transport
    plain: Transport
    credentials: Credentials
    rate_limits: RateLimits


def _remaining_requests(connection: IdentityConnection, repo: str) -> int | None:
    """What is left of the hourly limit that requests about the repository spend; None while GitHub has not said."""
    credentials = connection.credentials
    installation = (
        credentials.installation_of(repo) if isinstance(credentials, AppCredentials) else None
    )
    return connection.rate_limits.get(installation).status().remaining


class AppContext:
    """Everything one command or daemon works with. `close` gives connections and the store back."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        store: SqliteStore,
        clock: Clock | None = None,
        replies: Sequence[Reply] = (),
        wait_for_limits: bool = True,
        read_only: bool = False,
    ) -> None:
        self.config, self.store = config, store
        self.clock = clock or SystemClock()
        self.stop = threading.Event()
        self.hook_stop = (
            self.stop if wait_for_limits else threading.Event()
        )  # a daemon's hooks may end what they have begun
        self.request_metrics = RequestMetrics()
        self._replies = replies
        count_replies(replies, self.request_metrics)
        self._read_only = read_only
        self.blobs: BlobCache = (
            ReadOnlyCache(config.state / "blobs")
            if read_only
            else BlobCache(config.state / "blobs")
        )
        self.mirror = DiskMirror(
            config.state / "trash", self.clock, trash_limits=trash_limits_of(config)
        )
        self.hooks = HookRunner(config.state, environ)
        self.rate_limits: dict[str, RateLimits] = {}
        self._saved: dict[tuple[str, int | None], SavedRateLimit] = {}
        self._counted: dict[tuple[str, int | None], dict[str, int]] = {}
        self._failures: dict[Hashable, SyncdError] = {}  # that all runs of this command share
        self._environ = environ
        self._waits_out_limits = wait_for_limits
        self._gate = ConcurrencyLimit(config.requests_at_once)
        self._proxies = proxies_of(environ)
        for text in self._proxies.warnings():
            logging.getLogger("syncd").warning("%s", text)
        self._networks: dict[str, Network] = {}
        self._marks: dict[str, tuple[Identity, Secret | None, tuple[str, ...]]] = {}
        self._sources: dict[str, GitHubSource] = {}
        self._lines: dict[str, IdentityConnection] = {}
        self._retired: list[
            Credentials
        ] = []  # of lines that a reload gave up: runs under way may still show them
        self._protected: tuple[float, ProtectedPaths] | None = None
        self._guard = threading.RLock()

    @classmethod
    def open(
        cls,
        config: Config,
        environ: Mapping[str, str],
        read_only: bool = False,
        clock: Clock | None = None,
        replies: Sequence[Reply] = (),
        wait_for_limits: bool = True,
    ) -> AppContext:
        """`read_only` leaves the state exactly as it is; `replies` are what GitHub has answered already, and is not asked again.

        `wait_for_limits`: a run waits for the end of GitHub's limits where its time suffices. The daemon's don't: they ask for another turn.
        """
        return cls(
            config,
            environ,
            open_store(config, read_only),
            clock,
            replies,
            wait_for_limits,
            read_only,
        )

    def run_context(self, job: Job, shared: SingleFlight | None = None) -> RunContext:
        """What a run of the job works with; `shared` is common to the runs of its tick; without it, to all of this command."""
        identity = self.config.identities[job.identity]
        source = self.source(identity)
        scope, jobs = f"{identity.api} {identity.name}", frozenset(self.config.jobs)
        source = source if shared is None else source.with_cache(shared)
        others = OtherJobs(
            self.config.jobs,
            resolve,
            lambda other, deadline: wanted_set(
                other, self._context_beside(other, job, shared), deadline
            ),
        )
        renamed_from = self.store.former_name(job.name)
        return RunContext(
            source,
            self.store,
            self.mirror_for(job),
            self.blobs,
            self.clock,
            resolve_owner,
            scope,
            jobs,
            self.hooks,
            others,
            renamed_from,
            self.protected(),
        )

    def _context_beside(self, other: Job, job: Job, shared: SingleFlight | None) -> RunContext:
        """What is asked about another job shares this run's answers where both use one identity."""
        if shared is not None and other.identity != job.identity:
            shared = SingleFlight()
        return self.run_context(other, shared)

    def protected(self) -> ProtectedPaths:
        """What no commit may change. Looked up again after a minute: the link of a key may lead elsewhere by then."""
        with self._guard:
            now = self.clock.monotonic()
            if self._protected is None or now - self._protected[0] > PROTECTED_SECONDS:
                self._protected = now, protected_paths(self.config, self._environ)
            return self._protected[1]

    def mirror_for(self, job: Job) -> Mirror:
        """The disk as this job writes it."""
        return mirror_for(job, self.mirror, self.clock)

    def deadline(
        self,
        job: Job,
        trigger: Trigger = Trigger.OPERATOR,
        on_waiting: Callable[[bool], None] | None = None,
    ) -> Deadline:
        """How long this run of the job may take; what began it says whether it may spend GitHub's last requests of the hour."""
        deadline = Deadline(
            self.clock,
            job.timeout_seconds,
            self.stop,
            self.hook_stop,
            trigger.interactive,
            on_waiting,
        )
        deadline.failures = self._failures
        return deadline

    def command_deadline(self, seconds: float) -> Deadline:
        """For what is no job's run; a signal ends it too."""
        return Deadline(self.clock, seconds, self.stop)

    @contextmanager
    def locked(self, job: Job) -> Iterator[None]:
        """The job is ours alone while the block runs. Afterwards what nobody needs any more is tidied away."""
        with job_lock(self.config.state, job.name), self.blobs.shared_lock():
            self.blobs.remove_abandoned_files()
            self._rename(job)
            yield
        self.clean_up()

    def _rename(self, job: Job) -> None:
        """What is stored under the name that the job had before is stored under its own."""
        if not self.store.knows(job.name):
            follow_renames(self.config.jobs, self.store)
        former = self.store.former_name(job.name)
        if former is not None:
            with job_lock(self.config.state, former):
                self.store.rename(job.name)

    def clean_up(self) -> None:
        """Blobs that nothing remembers, downloads of runs that died and old trash are gone, as far as no run is using them.

        What keeps it from that is logged; no run fails for it.
        """
        try:
            if self.blobs.is_eviction_due() or (
                self.blobs.added and self.blobs.is_eviction_due(seconds=AN_HOUR)
            ):
                self.blobs.evict_unused(self.store.blobs_in_use)
        except (SyncdError, OSError) as error:
            logging.getLogger("syncd").warning("can't tidy up in %s: %s", self.config.state, error)
        try:
            if self.mirror.trash.is_due():
                self.mirror.trash.prune()
        except (SyncdError, OSError) as error:
            logging.getLogger("syncd").warning("can't tidy up in %s: %s", self.config.state, error)

    def source(self, identity: Identity) -> GitHubSource:
        """The identity's view of GitHub, made when it is first needed. Raises ConfigError for a secret that can't be read."""
        with self._guard:
            if identity.name not in self._sources:
                line = self.connection(identity)
                self._sources[identity.name] = GitHubSource(
                    line.transport,
                    identity.api,
                    self.config.requests_at_once,
                    SingleFlight(),
                    remaining=partial(_remaining_requests, line),
                )
            return self._sources[identity.name]

    def connection(self, identity: Identity) -> IdentityConnection:
        """The identity's connection to its host, and what it has to show there. Raises ConfigError for a secret that can't be read."""
        with self._guard:
            if identity.name not in self._lines:
                rate_limits = self.rate_limits.setdefault(identity.name, RateLimits(self.clock))
                mark = self._mark(identity, self.config)
                network = self._networks.get(identity.name) or Network(
                    identity.name,
                    self.clock,
                    self.request_metrics,
                    rate_limits,
                    self._gate,
                    self._proxies,
                    identity.ca_file,
                    identity.api,
                    state_owner(self.config.state),
                )
                self._networks[identity.name], self._marks[identity.name] = network, mark
                replies = [reply for reply in self._replies if reply.identity == identity.name]
                spoken = Replay(replies, VersionedTransport(network), rate_limits)
                plain = RetryingTransport(spoken, self.clock, self._waits_out_limits)
                credentials = self._credentials(identity, spoken, plain)
                transport = AuthTransport(plain, credentials, self.clock)
                self._lines[identity.name] = IdentityConnection(
                    transport, plain, credentials, rate_limits
                )
            return self._lines[identity.name]

    def oauth_token_file(self, identity: LoginIdentity) -> OAuthTokenFile:
        """Where the tokens of who logged in are kept."""
        return OAuthTokenFile(self.config.state, identity.name)

    def _credentials(self, identity: Identity, network: Transport, plain: Transport) -> Credentials:
        if isinstance(identity, AppIdentity):
            repos = [job.repo for job in self.config.jobs.values() if job.identity == identity.name]

            def key() -> Secret:
                return read_key(
                    identity.private_key,
                    self._environ,
                    f"github.{identity.name}.private_key",
                    state_owner(self.config.state),
                )

            memory = AppMemory(self.store.facts, identity.name, self._read_only)
            return AppCredentials(
                identity.api,
                identity.issuer,
                key(),
                identity.installation_id,
                repos,
                plain,
                self.clock,
                key,
                memory,
                self.rate_limits[identity.name].set_account,
            )
        if isinstance(identity, TokenIdentity):

            def token() -> Secret:
                return read_token(
                    identity.token,
                    self._environ,
                    f"github.{identity.name}.token",
                    state_owner(self.config.state),
                )

            return StaticToken(token(), token, self.clock)
        if isinstance(identity, LoginIdentity):
            return UserCredentials(
                identity.name,
                identity.api,
                identity.client_id,
                self.oauth_token_file(identity),
                network,
                self.clock,
            )
        return NoCredentials()

    def replace_config(self, config: Config) -> frozenset[str]:
        """The configuration is this one from now on. The names of identities that are others than before, or have another secret.

        What was made of those is given up, and runs under way go on with it; everybody else's connections and tokens stay.
        Raises ConfigError for a secret that can't be read; nothing has changed then.
        """
        with self._guard:
            marks = {
                name: self._mark(config.identities[name], config)
                for name in self._lines
                if name in config.identities
            }
            others = frozenset(name for name in self._lines if marks.get(name) != self._marks[name])
            changed = frozenset(
                name for name, mark in marks.items() if mark[:2] != self._marks[name][:2]
            )  # not for another repository alone
            self.config, self._protected = config, None
            self.mirror.trash.limits = trash_limits_of(config)
            with suppress(MirrorError):  # asked again, and said, before a job without a past runs
                follow_renames(config.jobs, self.store)
            self._gate.resize(config.requests_at_once)
            for name in others:
                self._retired.append(self._lines.pop(name).credentials)
                self._sources.pop(name, None)
                if name not in config.identities or config.identities[name] != self._marks[name][0]:
                    self._networks.pop(name).close()
        return changed

    def _mark(
        self, identity: Identity, config: Config
    ) -> tuple[Identity, Secret | None, tuple[str, ...]]:
        """What a source was made of: the identity, its secret as it is now, and for an App the repositories that its tokens are for."""
        if isinstance(identity, AppIdentity):
            repos = tuple(
                sorted(
                    {
                        job.repo.lower()
                        for job in config.jobs.values()
                        if job.identity == identity.name
                    }
                )
            )
            return (
                identity,
                read_secret(
                    identity.private_key,
                    self._environ,
                    f"github.{identity.name}.private_key",
                    state_owner(config.state),
                ),
                repos,
            )
        if isinstance(identity, TokenIdentity):
            return (
                identity,
                read_secret(
                    identity.token,
                    self._environ,
                    f"github.{identity.name}.token",
                    state_owner(config.state),
                ),
                (),
            )
        return identity, None, ()

    def rate_limit_key(self, job: Job) -> Hashable:
        """Whose hourly limit the job spends, as the configuration shows it: an App's on each account, or a token's."""
        as_app = isinstance(self.config.identities[job.identity], AppIdentity)
        return job.identity, job.repo.partition("/")[0].lower() if as_app else None

    def observed_limits(self) -> tuple[SavedRateLimit, ...]:
        """What GitHub has told this process of its limits: by identity, then by installation."""
        return tuple(
            one
            for name, rate_limits in list(self.rate_limits.items())
            for one in rate_limits.snapshot(name)
        )

    def save_rate_limits(self) -> None:
        """What GitHub said of each identity's limit and of its token's end is kept, and which repositories spent of the limit.

        A command that only looks keeps nothing: it writes nothing.
        """
        if self._read_only:
            return
        limits = {(one.identity, one.installation): one for one in self.observed_limits()}
        changed = [one for key, one in limits.items() if self._saved.get(key) != one]
        facts, expiries = self.store.facts, None
        known = facts.token_expiries()
        seen = known | self.request_metrics.token_expiries()
        now = {
            name: at
            for name, at in seen.items()
            if at is not None and name in self.config.identities
        }
        if now != known:
            expiries = now
        counted = self.request_metrics.charged_requests()
        rows = [
            LimitRow(*key, one.account, one.view.limit, one.view.remaining, one.view.reset_at)
            for key, one in limits.items()
            if one in changed
        ]
        facts.save_github(rows, self._usage_since(counted), expiries)
        self._saved |= limits
        self._counted = counted

    def _usage_since(
        self, counted: Mapping[tuple[str, int | None], Mapping[str, int]]
    ) -> Iterator[Usage]:
        """What was charged since the last time, for each limit."""
        for key, by_repo in counted.items():
            before = self._counted.get(key, {})
            more = {
                repo: count - before.get(repo, 0)
                for repo, count in by_repo.items()
                if count > before.get(repo, 0)
            }
            if more:
                name, installation = key
                rate_limits = self.rate_limits.get(name)
                reset_at = (
                    rate_limits.get(installation).status().reset_at
                    if rate_limits is not None
                    else None
                )
                yield Usage(key, hour_of(self.clock.now(), reset_at), more)

    def token_expiries(self) -> dict[str, datetime]:
        """Identity -> when somebody has to make a new token or log in again, for those that end. What GitHub said last, from memory or disk."""
        known = self.store.facts.token_expiries() | self.request_metrics.token_expiries()
        return expiries_of(known, self.config.state, self.config.identities)

    def close(self, revoke: bool = False) -> None:
        """`revoke`: installation tokens are ended at GitHub, as a daemon does at a clean stop; a one-shot leaves them their hour."""
        if revoke:
            self._revoke()
        try:
            self.save_rate_limits()
        except SyncdError as error:  # the runs have said what is wrong with the store; that their limits are not remembered fails none of them
            logging.getLogger("syncd").warning(
                "can't remember what GitHub said of its limits: %s", error
            )
        for source in self._sources.values():
            source.close()
        for network in self._networks.values():
            network.close()
        if isinstance(self.blobs, ReadOnlyCache):
            self.blobs.close()
        self.store.close()

    def _revoke(self) -> None:
        """Every App's tokens at once, in a few seconds at most: what can't be reached ends by itself within the hour."""
        with self._guard:
            apps = [
                one
                for one in (*self._retired, *(line.credentials for line in self._lines.values()))
                if isinstance(one, AppCredentials)
            ]
        threads = [
            threading.Thread(
                target=app.revoke_all,
                args=(Deadline(self.clock, REVOKE_SECONDS),),
                name="syncd-revoke",
                daemon=True,
            )
            for app in apps
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(REVOKE_SECONDS + 0.5)


def look_up_owner(owner: str) -> Ids:
    """`user:group`, `user` or numbers -> ids; nothing for nothing. Raises MirrorError for a name that this machine does not know."""
    try:
        return user_and_group_ids(owner) if owner else (None, None)
    except KeyError as error:
        raise MirrorError(
            f"owner {owner}: this machine knows no such user or group",
            hint="create it, or correct owner:",
        ) from error


def resolve_owner(owner: str) -> Ids:
    """As `look_up_owner`, for who writes files. Raises MirrorError too where only root could give them to that owner."""
    uid, gid = look_up_owner(owner)
    if uid is None:
        return uid, gid
    if os.geteuid() != 0 and (
        uid != os.geteuid() or (gid is not None and gid not in {os.getegid(), *os.getgroups()})
    ):
        raise MirrorError(
            f"owner {owner}: only root may give files away",
            hint="run syncd as root, or leave owner: out",
        )
    return uid, gid
