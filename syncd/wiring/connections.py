"""Connections of every identity to its GitHub host: network, credentials, retries and rate limits.

A connection is made when it is first needed. A reload keeps every connection whose identity and
secret did not change.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Mapping

from msgspec import Struct

from syncd.clock import Clock
from syncd.config.model import Config
from syncd.config.secrets import read_key, read_secret, read_token
from syncd.deadline import Deadline
from syncd.fastpath.early_requests import EarlyRequests
from syncd.github.api_version import VersionedTransport
from syncd.github.auth.app import AppCredentials
from syncd.github.auth.credentials import AuthTransport, Credentials, NoCredentials, StaticToken
from syncd.github.auth.status_credentials import StatusCredentials
from syncd.github.auth.user_credentials import UserCredentials
from syncd.github.protocol import Transport
from syncd.github.proxies import proxies_of
from syncd.github.rate_limit import ConcurrencyLimit, RateLimit, RateLimits, RequestMetrics
from syncd.github.replay import Replay, count_reply
from syncd.github.retry import RetryingTransport
from syncd.github.transport import Network
from syncd.identities import AppIdentity, Identity, LoginIdentity, TokenIdentity
from syncd.redaction import Secret
from syncd.store.app_memory import AppMemory
from syncd.store.facts import Facts
from syncd.store.oauth_tokens import OAuthTokenFile
from syncd.trusted_path import state_owner

REVOKE_TIMEOUT_SECONDS = 2.0  # a stop of the daemon takes five seconds in all


class IdentityConnection(Struct, frozen=True):
    """Connection of one identity. `transport` sends its credentials; `plain` adds none."""

    transport: Transport
    plain: Transport
    credentials: Credentials
    rate_limits: RateLimits

    def remaining_requests(self, repo: str) -> int | None:
        """Return what is left of the hourly limit for requests about `repo`; None while it is
        unknown.
        """
        return self.rate_limits_of(repo)[0].status().remaining

    def token_groups(self, repo: str) -> Mapping[str, Hashable] | None:
        """Return repository -> what is equal for those that share a token with each other.

        `repo` is one of the same limit. None: one token reads all.
        """
        if isinstance(self.credentials, AppCredentials):
            return self.credentials.token_groups(repo)
        return None

    def rate_limits_of(self, repo: str) -> tuple[RateLimit, RateLimit]:
        """Return the limits of REST and of GraphQL for requests about `repo`."""
        installation = None
        if isinstance(self.credentials, AppCredentials):
            installation = self.credentials.installation_of(repo)
        return self.rate_limits.get(installation), self.rate_limits.graphql(installation)


class ConnectionOptions(Struct, frozen=True):
    """Options of all connections.

    `early` are the requests of the nothing-to-do check: they are not sent again. With
    `wait_for_limits` off, a request that meets a rate limit fails at once. With `read_only`,
    nothing is written to the store.
    """

    early: EarlyRequests | None = None
    wait_for_limits: bool = True
    read_only: bool = False


class Fingerprint(Struct, frozen=True):
    """What a connection was made from: the identity, its secret, and an App's repositories."""

    identity: Identity
    secret: Secret | None = None
    repos: tuple[str, ...] = ()


class Connections:
    """Connections by identity name. Safe to use from many threads."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        facts: Facts,
        clock: Clock,
        options: ConnectionOptions,
    ) -> None:
        self.request_metrics = RequestMetrics()
        self.rate_limits: dict[str, RateLimits] = {}
        self._config, self._environ, self._facts = config, environ, facts
        self._clock, self._options = clock, options
        self._concurrency = ConcurrencyLimit(config.requests_at_once)
        self._proxies = proxies_of(environ)
        for text in self._proxies.warnings():
            logging.getLogger("syncd").warning("%s", text)
        if options.early is not None:
            options.early.on_reply(lambda reply: count_reply(reply, self.request_metrics))
        self._networks: dict[str, Network] = {}
        self._fingerprints: dict[str, Fingerprint] = {}
        self._connections: dict[str, IdentityConnection] = {}
        self._retired: list[Credentials] = []  # replaced by a reload; runs may still use them
        self._writers: dict[str, tuple[Transport, Credentials]] = {}  # for statuses
        self._lock = threading.RLock()

    def get(self, identity: Identity) -> IdentityConnection:
        """Return the connection of the identity.

        Raises ConfigError for a secret that can't be read.
        """
        with self._lock:
            if identity.name not in self._connections:
                # Read before it is used: a secret that is replaced meanwhile counts as changed.
                fingerprint = self._fingerprint(identity, self._config)
                self._connections[identity.name] = self._connect(identity)
                self._fingerprints[identity.name] = fingerprint
            return self._connections[identity.name]

    def add(self, identity: Identity, connection: IdentityConnection) -> None:
        """Keep a connection that was made for the identity.

        Raises ConfigError for a secret that can't be read.
        """
        with self._lock:
            self._fingerprints[identity.name] = self._fingerprint(identity, self._config)
            self._connections[identity.name] = connection

    def status_transport(self, identity: Identity) -> Transport:
        """Return what sets statuses as this identity, with a token that nothing else uses.

        Raises ConfigError for a secret that can't be read.
        """
        with self._lock:
            if identity.name not in self._writers:
                plain = self.get(identity).plain
                credentials = self._status_credentials(identity, plain)
                transport = AuthTransport(plain, credentials, self._clock)
                self._writers[identity.name] = transport, credentials
            return self._writers[identity.name][0]

    def limits_of(self, identity: Identity) -> RateLimits:
        """Return the rate limits of the identity. A reload keeps them."""
        return self.rate_limits.setdefault(identity.name, RateLimits(self._clock))

    def _connect(self, identity: Identity) -> IdentityConnection:
        rate_limits = self.limits_of(identity)
        network = self._networks.get(identity.name) or self._network(identity, rate_limits)
        self._networks[identity.name] = network
        versioned: Transport = VersionedTransport(network)
        if self._options.early is not None:
            versioned = Replay(identity.name, self._options.early, versioned, rate_limits)
        plain = RetryingTransport(versioned, self._clock, self._options.wait_for_limits)
        credentials = self._credentials(identity, versioned, plain)
        transport = AuthTransport(plain, credentials, self._clock)
        return IdentityConnection(transport, plain, credentials, rate_limits)

    def _network(self, identity: Identity, rate_limits: RateLimits) -> Network:
        return Network(
            identity.name,
            self._clock,
            self.request_metrics,
            rate_limits,
            self._concurrency,
            self._proxies,
            identity.ca_file,
            identity.api,
            state_owner(self._config.state),
        )

    def repository_numbers(self) -> dict[tuple[str, str], int]:
        """Return GitHub's numbers of repositories by identity and lower-case name.

        They come with an App's tokens and with redirects from a former name.
        """
        with self._lock:
            found = list(self._connections.items())
        numbers = {
            (name, repo): number
            for name, one in found
            if isinstance(one.credentials, AppCredentials)
            for repo, number in one.credentials.repository_numbers().items()
        }
        return numbers | self.request_metrics.renamed_repositories()

    # --- credentials ------------------------------------------------------------------------------

    def _credentials(
        self, identity: Identity, versioned: Transport, plain: Transport
    ) -> Credentials:
        if isinstance(identity, AppIdentity):
            return self._app_credentials(identity, plain)
        if isinstance(identity, TokenIdentity):
            return self._static_token(identity)
        if isinstance(identity, LoginIdentity):
            tokens = OAuthTokenFile(self._config.state, identity.name)
            return UserCredentials(
                identity.name, identity.api, identity.client_id, tokens, versioned, self._clock
            )
        return NoCredentials()

    def _app_credentials(self, identity: AppIdentity, plain: Transport) -> AppCredentials:
        def key() -> Secret:
            return read_key(
                identity.private_key,
                self._environ,
                f"github.{identity.name}.private_key",
                state_owner(self._config.state),
            )

        repos = [
            job.repo for job in self._config.polled_jobs.values() if job.identity == identity.name
        ]
        return AppCredentials(
            identity.api,
            identity.issuer,
            key(),
            identity.installation_id,
            repos,
            plain,
            self._clock,
            key,
            AppMemory(self._facts, identity.name, self._options.read_only),
            self.rate_limits[identity.name].set_account,
        )

    def _status_credentials(self, identity: Identity, plain: Transport) -> Credentials:
        if not isinstance(identity, AppIdentity):
            # no job reads with it: config/cross_checks.py
            return self.get(identity).credentials
        jobs = self._config.jobs.values()
        repos = [job.repo for job in jobs if job.report.identity == identity.name]
        where, owner = f"github.{identity.name}.private_key", state_owner(self._config.state)
        key = read_key(identity.private_key, self._environ, where, owner)
        return StatusCredentials(
            identity.api,
            identity.issuer,
            key,
            identity.installation_id,
            repos,
            plain,
            self._clock,
            lambda: read_key(identity.private_key, self._environ, where, owner),
        )

    def _static_token(self, identity: TokenIdentity) -> StaticToken:
        def token() -> Secret:
            return read_token(
                identity.token,
                self._environ,
                f"github.{identity.name}.token",
                state_owner(self._config.state),
            )

        return StaticToken(token(), token, self._clock)

    # --- reload -----------------------------------------------------------------------------------

    def replace_config(self, config: Config) -> tuple[frozenset[str], frozenset[str]]:
        """Use another configuration, and drop the connections that were made from something else.

        Runs in progress finish with the dropped ones. Returns the identities whose connection was
        dropped, and those of them that are configured with another identity or secret: an App that
        only got another repository is not among these.

        Raises ConfigError for a secret that can't be read; nothing has changed then.
        """
        with self._lock:
            fingerprints = {
                name: self._fingerprint(config.identities[name], config)
                for name in self._connections
                if name in config.identities
            }
            dropped = frozenset(
                name
                for name in self._connections
                if fingerprints.get(name) != self._fingerprints[name]
            )
            changed = frozenset(
                name for name, new in fingerprints.items() if self._is_other_identity(name, new)
            )
            self._config = config
            self._retired += [credentials for _, credentials in self._writers.values()]
            self._writers.clear()
            self._concurrency.resize(config.requests_at_once)
            for name in dropped:
                self._drop(name)
            return dropped, changed

    def _is_other_identity(self, name: str, new: Fingerprint) -> bool:
        old = self._fingerprints[name]
        return (new.identity, new.secret) != (old.identity, old.secret)

    def _drop(self, name: str) -> None:
        self._retired.append(self._connections.pop(name).credentials)
        identities = self._config.identities
        if name not in identities or identities[name] != self._fingerprints[name].identity:
            self._networks.pop(name).close()

    def _fingerprint(self, identity: Identity, config: Config) -> Fingerprint:
        """Return what a connection would be made from.

        Raises ConfigError for a secret that can't be read.
        """
        owner = state_owner(config.state)
        if isinstance(identity, AppIdentity):
            jobs = config.polled_jobs.values()
            repos = {job.repo.lower() for job in jobs if job.identity == identity.name}
            where = f"github.{identity.name}.private_key"
            secret = read_secret(identity.private_key, self._environ, where, owner)
            return Fingerprint(identity, secret, tuple(sorted(repos)))
        if isinstance(identity, TokenIdentity):
            where = f"github.{identity.name}.token"
            return Fingerprint(identity, read_secret(identity.token, self._environ, where, owner))
        return Fingerprint(identity)

    # --- end --------------------------------------------------------------------------------------

    def revoke_tokens(self) -> None:
        """Revoke the tokens of every App at once, in a few seconds at most.

        A token that can't be revoked expires within the hour.
        """
        with self._lock:
            current = [one.credentials for one in self._connections.values()]
            current += [credentials for _, credentials in self._writers.values()]
            apps = [one for one in (*self._retired, *current) if isinstance(one, AppCredentials)]
        threads = [
            threading.Thread(
                target=app.revoke_all,
                args=(Deadline(self._clock, REVOKE_TIMEOUT_SECONDS),),
                name="syncd-revoke",
                daemon=True,
            )
            for app in apps
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(REVOKE_TIMEOUT_SECONDS + 0.5)

    def close(self) -> None:
        """Close the network connections."""
        for network in self._networks.values():
            network.close()


__all__ = ["ConnectionOptions", "Connections", "IdentityConnection"]
