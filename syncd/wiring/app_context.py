"""The collaborators of one command or of the daemon: store, blob cache, disk, hooks, GitHub,
clock and stop signals.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from syncd.clock import Clock, SystemClock
from syncd.config.model import Config
from syncd.config.protected import protected_paths
from syncd.deadline import Deadline
from syncd.engine.context import RunContext
from syncd.engine.other_jobs import OtherJobs
from syncd.engine.upstream import wanted_set
from syncd.errors import MirrorError, SyncdError
from syncd.github.client import GitHubSource
from syncd.github.rate_limit import RateLimit, SavedRateLimit
from syncd.github.request_cache import SingleFlight
from syncd.hooks.runner import HookRunner
from syncd.identities import AppIdentity, FleetIdentity, Identity, LoginIdentity
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.spelling import resolve
from syncd.mirror.symlink_publish import mirror_for
from syncd.mirror.trash import TrashLimits
from syncd.models import Job, Trigger
from syncd.ports import Head, Mirror, Source
from syncd.progress import SILENT, ProgressListener
from syncd.protected_paths import ProtectedPaths
from syncd.signatures.signers_file import SignersFiles
from syncd.store.blobs import BlobCache
from syncd.store.lock import job_lock
from syncd.store.oauth_tokens import OAuthTokenFile
from syncd.store.read_only_cache import ReadOnlyCache
from syncd.store.reload_turns import StoredReloadTurns
from syncd.store.store import SqliteStore
from syncd.store.token_expiry import expiries_of
from syncd.stored_jobs import follow_renames, open_store
from syncd.trusted_path import state_owner
from syncd.wiring.connections import ConnectionOptions, Connections, IdentityConnection
from syncd.wiring.job_owner import resolve_owner
from syncd.wiring.usage import UsageRecorder

if TYPE_CHECKING:
    from syncd.wiring.fleet import FleetParts

LOG = logging.getLogger("syncd")
PROTECTED_PATHS_TTL_SECONDS = 60.0
EVICTION_INTERVAL_SECONDS = 3600.0  # eviction reads the whole blob cache: not after each change


def trash_limits_of(config: Config) -> TrashLimits:
    """Return how long and how much the trash may keep."""
    return TrashLimits(config.trash.keep_seconds, config.trash.size_bytes)


class AppContext:
    """Collaborators of one command or daemon. `close` closes the connections and the store.

    The options decide more than the connections: `read_only` leaves the state folder exactly as it
    is. With `wait_for_limits`, a run waits for the end of a rate limit if its time suffices; that
    is off in the daemon, which starts another run later. `listener_of` returns what hears the
    progress of a job; the job "" is a command's own requests.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        store: SqliteStore,
        clock: Clock | None = None,
        options: ConnectionOptions = ConnectionOptions(),
    ) -> None:
        self.config, self.store = config, store
        self.clock = clock or SystemClock()
        self.stop = threading.Event()
        # A stopped daemon lets its hooks finish what they have begun.
        self.hook_stop = self.stop if options.wait_for_limits else threading.Event()
        cache = ReadOnlyCache if options.read_only else BlobCache
        self.blobs: BlobCache = cache(config.state / "blobs")
        self.mirror = DiskMirror(
            config.state / "trash", self.clock, trash_limits=trash_limits_of(config)
        )
        self.hooks = HookRunner(config.state, environ)
        self.connections = Connections(config, environ, store.facts, self.clock, options)
        self.request_metrics = self.connections.request_metrics
        self._usage = UsageRecorder(self.connections, store.facts, self.clock)
        self.environ, self._read_only = environ, options.read_only
        self._options = options
        self._fleet: FleetParts | None = None
        self.listener_of: Callable[[str], ProgressListener] = lambda job: SILENT
        self._failures: dict[Hashable, SyncdError] = {}  # shared by all runs of this command
        self._sources: dict[str, GitHubSource] = {}
        self._protected: tuple[float, ProtectedPaths] | None = None
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls,
        config: Config,
        environ: Mapping[str, str],
        options: ConnectionOptions = ConnectionOptions(),
        clock: Clock | None = None,
    ) -> AppContext:
        """Open the store of the configuration, and return a context with it.

        Parameters: see the class.
        """
        store = open_store(config, options.read_only)
        return cls(config, environ, store, clock, options)

    # --- runs -------------------------------------------------------------------------------------

    def run_context(self, job: Job, shared: SingleFlight | None = None) -> RunContext:
        """Return the collaborators of one run.

        The runs that are due together share the answers in `shared`; by default all runs of this
        command share theirs.
        """
        source, scope = self._source_of(job, shared)
        others = OtherJobs(
            self.config.jobs,
            resolve,
            lambda other, deadline: wanted_set(
                other, self._context_of_other(other, job, shared), deadline
            ),
        )
        return RunContext(
            source,
            self.store,
            self.mirror_for(job),
            self.blobs,
            self.clock,
            resolve_owner,
            scope,
            frozenset(self.config.jobs),
            self.hooks,
            others,
            self.store.former_name(job.name),
            self.protected(),
            SignersFiles(state_owner(self.config.state)),
            StoredReloadTurns(self.config.state, self.store.facts),
        )

    def _source_of(self, job: Job, shared: SingleFlight | None) -> tuple[Source, str]:
        """Return where the job comes from, and the scope of its heads in the store."""
        identity = self.config.identities[job.identity]
        if isinstance(identity, FleetIdentity):
            return self.fleet.source(job), self.scope_of(job)
        source = self.source(identity)
        return (source if shared is None else source.with_cache(shared)), self.scope_of(job)

    def stored_head(self, job: Job) -> Head | None:
        """Return the head of the job's ref that the store has. Raises StoreError."""
        return self.store.head(self.scope_of(job), job.repo, job.ref)

    def scope_of(self, job: Job) -> str:
        """Return the scope of the job's head in the store."""
        identity = self.config.identities[job.identity]
        is_fleet = isinstance(identity, FleetIdentity)
        return f"{identity.name} {job.name}" if is_fleet else f"{identity.api} {identity.name}"

    @property
    def fleet(self) -> FleetParts:
        """Return the fleet that `fleet:` describes. Raises ConfigError where nothing does."""
        with self._lock:
            if self._fleet is None:
                from syncd.wiring.fleet import FleetParts  # psycopg, for members of a fleet alone

                goes_on = not self._options.wait_for_limits  # a daemon
                self._fleet = FleetParts(self.config, self.environ, self.clock, goes_on)
            return self._fleet

    def _context_of_other(self, other: Job, job: Job, shared: SingleFlight | None) -> RunContext:
        """Return a context for questions about another job.

        It shares this run's answers if both use one identity.
        """
        if shared is not None and other.identity != job.identity:
            shared = SingleFlight()
        return self.run_context(other, shared)

    def protected(self) -> ProtectedPaths:
        """Return the paths that no commit may change.

        They are looked up again after a minute, because a link in the path of a key may point
        elsewhere by then.
        """
        with self._lock:
            now = self.clock.monotonic()
            if self._protected is None or now - self._protected[0] > PROTECTED_PATHS_TTL_SECONDS:
                self._protected = now, protected_paths(self.config, self.environ)
            return self._protected[1]

    def mirror_for(self, job: Job) -> Mirror:
        """Return the disk as this job publishes to it: in place, or through a symlink."""
        return mirror_for(job, self.mirror, self.clock, self.listener_of(job.name))

    def deadline(
        self,
        job: Job,
        trigger: Trigger = Trigger.OPERATOR,
        on_waiting: Callable[[bool], None] | None = None,
    ) -> Deadline:
        """Return the deadline of one run of the job.

        An interactive trigger may use the last requests of the hour, which timer-triggered runs
        leave unused.
        """
        deadline = Deadline(
            self.clock,
            job.timeout_seconds,
            self.stop,
            self.hook_stop,
            trigger.interactive,
            on_waiting,
        )
        deadline.failures, deadline.progress = self._failures, self.listener_of(job.name)
        return deadline

    def command_deadline(self, seconds: float) -> Deadline:
        """Return a deadline for requests that belong to no run. A signal ends it too."""
        deadline = Deadline(self.clock, seconds, self.stop)
        deadline.progress = self.listener_of("")
        return deadline

    @contextmanager
    def locked(self, job: Job) -> Iterator[None]:
        """Hold the lock of the job while the block runs, and clean up afterwards.

        Raises LockedError.
        """
        with job_lock(self.config.state, job.name), self.blobs.shared_lock():
            self.blobs.remove_abandoned_files()
            self._rename_stored_job(job)
            yield
        self.clean_up()

    def _rename_stored_job(self, job: Job) -> None:
        """Move what is stored under the job's former name to its present one."""
        if not self.store.knows(job.name):
            follow_renames(self.config.jobs, self.store)
        former = self.store.former_name(job.name)
        if former is not None:
            with job_lock(self.config.state, former):
                self.store.rename(job.name)

    def clean_up(self) -> None:
        """Remove unused blobs, leftovers of runs that died, and old trash.

        Nothing that a run uses is removed.

        A failure is logged; no run fails because of it.
        """
        self._evict_blobs()
        self._prune_trash()

    def _evict_blobs(self) -> None:
        try:
            if self.blobs.is_eviction_due() or (
                self.blobs.added and self.blobs.is_eviction_due(seconds=EVICTION_INTERVAL_SECONDS)
            ):
                self.blobs.evict_unused(self.store.blobs_in_use)
        except (SyncdError, OSError) as error:
            LOG.warning("syncd can't remove unused blobs in %s: %s", self.config.state, error)

    def _prune_trash(self) -> None:
        try:
            if self.mirror.trash.is_due():
                self.mirror.trash.prune()
        except (SyncdError, OSError) as error:
            LOG.warning("syncd can't remove old trash in %s: %s", self.config.state, error)

    # --- GitHub -----------------------------------------------------------------------------------

    def source(self, identity: Identity) -> GitHubSource:
        """Return the identity's view of GitHub.

        Raises ConfigError for a secret that can't be read.
        """
        with self._lock:
            if identity.name not in self._sources:
                connection = self.connection(identity)
                self._sources[identity.name] = GitHubSource(
                    connection.transport,
                    identity.api,
                    self.config.requests_at_once,
                    SingleFlight(),
                    remaining=connection.remaining_requests,
                )
            return self._sources[identity.name]

    def connection(self, identity: Identity) -> IdentityConnection:
        """Return the identity's connection to its host.

        Raises ConfigError for a secret that can't be read.
        """
        return self.connections.get(identity)

    def oauth_token_file(self, identity: LoginIdentity) -> OAuthTokenFile:
        """Return the file with the tokens of a login."""
        return OAuthTokenFile(self.config.state, identity.name)

    def replace_config(self, config: Config) -> frozenset[str]:
        """Use another configuration from now on.

        Returns the identities that are others than before, or have another secret.

        Connections and tokens of all other identities stay; runs in progress finish with the old
        ones.

        Raises ConfigError for a secret that can't be read; nothing has changed then.
        """
        with self._lock:
            dropped, changed = self.connections.replace_config(config)
            self.config, self._protected = config, None
            for name in dropped:
                self._sources.pop(name, None)
            self.mirror.trash.limits = trash_limits_of(config)
            with suppress(MirrorError):  # raised again by the first run of a job without a past
                follow_renames(config.jobs, self.store)
        return changed

    # --- rate limits ------------------------------------------------------------------------------

    def rate_limit_key(self, job: Job) -> tuple[str, str | None]:
        """Return which hourly limit the job uses, as far as the configuration shows: an App's
        per account, or a token's.
        """
        is_app = isinstance(self.config.identities[job.identity], AppIdentity)
        return job.identity, job.repo.partition("/")[0].lower() if is_app else None

    def token_groups(self, job: Job) -> Mapping[str, Hashable] | None:
        """Return repository -> what is equal for those that share a token; None: one reads all.

        `job` is one of the limit. Raises ConfigError for a secret that can't be read.
        """
        return self.connection(self.config.identities[job.identity]).token_groups(job.repo)

    def rate_limits_of(self, job: Job) -> tuple[RateLimit, RateLimit]:
        """Return the limits of REST and of GraphQL that the job's requests spend.

        Raises ConfigError for a secret that can't be read.
        """
        return self.connection(self.config.identities[job.identity]).rate_limits_of(job.repo)

    def observed_limits(self) -> tuple[SavedRateLimit, ...]:
        """Return the limits that this process has learned from GitHub, by identity, then by
        installation.
        """
        return self._usage.observed_limits()

    def save_rate_limits(self) -> None:
        """Save limits, usage per repository, token ends and moved repositories.

        A read-only command saves nothing. Raises StoreError.
        """
        if not self._read_only:
            self._usage.save(self.config.identities)
            self._usage.save_moved_repositories()

    def save_moved_repositories(self) -> None:
        """Save which repositories have another name now. Raises StoreError."""
        self._usage.save_moved_repositories()

    def token_expiries(self) -> dict[str, datetime]:
        """Return when an operator has to make a new token or log in again, by identity."""
        return expiries_of(self._usage.token_expiries(), self.config.state, self.config.identities)

    def close(self, revoke: bool = False) -> None:
        """Close everything. With `revoke`, end the installation tokens at GitHub first.

        A daemon revokes them at a clean stop; a one-shot leaves them to their hour.
        """
        if revoke:
            self.connections.revoke_tokens()
        try:
            self.save_rate_limits()
        except SyncdError as error:  # no run fails for it: its limits are learned again
            LOG.warning("syncd can't save the rate limits that GitHub reported: %s", error)
        for source in self._sources.values():
            source.close()
        self.connections.close()
        if self._fleet is not None:
            self._fleet.close()
        if isinstance(self.blobs, ReadOnlyCache):
            self.blobs.close()
        self.store.close()


__all__ = ["AppContext"]
