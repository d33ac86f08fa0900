"""Defines the configuration as frozen values, all that the rest of syncd sees of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from syncd.identities import AppIdentity, Identity, SecretRef, TokenIdentity
from syncd.models import Job


class Log(Struct, frozen=True):
    """Format and level of the log."""

    format: str = "auto"
    level: str = "info"


class Webhook(Struct, frozen=True):
    """Path and secret of the webhook."""

    path: str
    secret: SecretRef


class Web(Struct, frozen=True):
    """The listener for the status page, the metrics and the webhook.

    `users` are the hashes of their passwords, by name. `trusted_proxies` are networks, and `unix`
    for every client of a unix socket. `actions` lets people who logged in act.
    """

    listen: str
    password: SecretRef | None = None
    show_diffs: bool = False
    webhook: Webhook | None = None
    users: Mapping[str, SecretRef] = {}
    token: SecretRef | None = None
    prefix: str = "/"
    trusted_proxies: tuple[str, ...] = ()
    actions: bool = False

    @property
    def is_guarded(self) -> bool:
        """Return whether a stranger gets nothing."""
        return bool(self.password or self.users or self.token)


class Notify(Struct, frozen=True):
    """One receiver of notifications, and the events that are sent to it."""

    webhook: SecretRef | str
    when: tuple[str, ...] = ("failed", "recovered", "drift")
    template: str | None = None


class TrashRules(Struct, frozen=True):
    """How long, and how much of, replaced content is kept."""

    keep_seconds: float = 7 * 86400.0
    size_bytes: int = 1 << 30


class FleetRole(StrEnum):
    """What a machine does in a fleet."""

    CONTROLLER = "controller"
    AGENT = "agent"
    BOTH = "both"

    @property
    def controls(self) -> bool:
        """Return whether it asks GitHub and publishes."""
        return self is not FleetRole.AGENT

    @property
    def mirrors(self) -> bool:
        """Return whether it mirrors what controllers publish."""
        return self is not FleetRole.CONTROLLER


class Fleet(Struct, frozen=True):
    """The fleet that this machine belongs to.

    `published` are the jobs that it publishes as a controller; `jobs` of the configuration are
    those that it mirrors. `trust` are public keys, as lines of `.pub` files. `not_here` are the
    jobs of the configuration whose `where:` the machine's labels do not match.
    """

    role: FleetRole
    database: SecretRef
    name: str | None = None
    sign: SecretRef | None = None
    trust: tuple[str, ...] = ()
    published: Mapping[str, Job] = {}
    labels: Mapping[str, str] = {}
    not_here: tuple[str, ...] = ()


class Endpoint(Struct, frozen=True):
    """Where notifications are sent.

    `name` says where its address, which is a secret, is read from: `env:HOOK_URL`. `when` lists the
    events that it receives, `template` gives their text or body.
    """

    name: str
    address: SecretRef
    when: tuple[str, ...]
    template: str | None = None


class Config(Struct, frozen=True):
    """The whole configuration.

    `path` is the file or folder that was named, `files` the YAML files that were read, `digest`
    changes with any of their bytes. `ignored` are files of the folder that were not read though
    they look like configuration.
    """

    path: Path
    files: tuple[Path, ...]
    state: Path
    identities: Mapping[str, Identity]
    jobs: Mapping[str, Job]
    state_group: str | None = None
    workers: int = 8
    requests_at_once: int = 16
    timezone: str = "UTC"
    log: Log = Log()
    web: Web | None = None
    notify: tuple[Notify, ...] = ()
    trash: TrashRules = TrashRules()
    digest: str = ""
    places: Mapping[str, tuple[str, int, int]] | None = None
    ignored: tuple[Path, ...] = ()
    fleet: Fleet | None = None

    @property
    def polled_jobs(self) -> Mapping[str, Job]:
        """Return the jobs about which this machine asks GitHub."""
        return self.jobs if self.fleet is None else self.fleet.published

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return every endpoint of `notify` once, with all events that it receives."""
        found: dict[str, Endpoint] = {}
        for one in self.notify:
            ref = (
                one.webhook
                if isinstance(one.webhook, SecretRef)
                else SecretRef("file", one.webhook)
            )
            name = f"{ref.kind}:{ref.value}"
            before = found.get(name)
            when = tuple(dict.fromkeys((*(before.when if before else ()), *one.when)))
            template = one.template or (before.template if before else None)
            found[name] = Endpoint(name, ref, when, template)
        return tuple(found.values())


def secrets_of(config: Config) -> dict[tuple[str | int, ...], SecretRef]:
    """Return every secret that the configuration names, by its key."""
    found: dict[tuple[str | int, ...], SecretRef] = {}
    for name, identity in config.identities.items():
        if isinstance(identity, AppIdentity):
            found["github", name, "private_key"] = identity.private_key
        elif isinstance(identity, TokenIdentity):
            found["github", name, "token"] = identity.token
    if config.web is not None:
        found |= _web_secrets(config.web)
    if config.fleet is not None:
        found["fleet", "database"] = config.fleet.database
        if config.fleet.sign is not None:
            found["fleet", "sign"] = config.fleet.sign
    for index, one in enumerate(config.notify):
        if isinstance(one.webhook, SecretRef):
            found["notify", index, "webhook"] = one.webhook
    return found


def _web_secrets(web: Web) -> dict[tuple[str | int, ...], SecretRef]:
    found: dict[tuple[str | int, ...], SecretRef] = {}
    if web.password is not None:
        found["web", "password"] = web.password
    for name, ref in web.users.items():
        found["web", "users", name, "hash"] = ref
    if web.token is not None:
        found["web", "token"] = web.token
    if web.webhook is not None:
        found["web", "webhook", "secret"] = web.webhook.secret
    return found
