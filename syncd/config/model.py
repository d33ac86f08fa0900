"""The configuration as frozen values: what the rest of syncd sees of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from syncd.models import Identity, Job, SecretRef


@dataclass(frozen=True)
class Log:
    format: str = "auto"
    level: str = "info"


@dataclass(frozen=True)
class Webhook:
    path: str
    secret: SecretRef


@dataclass(frozen=True)
class Web:
    listen: str
    password: SecretRef | None = None
    show_diffs: bool = False
    webhook: Webhook | None = None


@dataclass(frozen=True)
class Notify:
    webhook: SecretRef | str
    when: tuple[str, ...] = ("failed", "recovered", "drift")


@dataclass(frozen=True)
class Config:
    """`path` is what was asked for (a file or a folder), `files` the YAML files that were read, `digest` changes with any of their bytes."""

    path: Path
    files: tuple[Path, ...]
    state: Path
    identities: Mapping[str, Identity]
    jobs: Mapping[str, Job]
    workers: int = 8
    requests_at_once: int = 16
    timezone: str = "UTC"
    log: Log = Log()
    web: Web | None = None
    notify: tuple[Notify, ...] = ()
    digest: str = ""
    places: Mapping[str, tuple[str, int, int]] | None = None
