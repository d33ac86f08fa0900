"""Checks the secrets that a configuration names, and the drop-in that was made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from syncd.config.model import Config
from syncd.config.secrets import secret_errors
from syncd.config.yaml_reader import key_text
from syncd.diagnosis.finding import Finding, from_error, ok, warning


def check_config(config: Config) -> Iterator[Finding]:
    """Yield which configuration was read; its mistakes were errors before."""
    jobs = len(config.jobs)
    yield ok("doctor/config", "config", f"{config.path}, {jobs} job{'s' * (jobs != 1)}")


def check_secrets(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield each key, token, password and authority that can't be used, or others may see."""
    failures = list(secret_errors(config, environ))
    for key, failure in failures:
        found = from_error("secret", failure)
        yield replace(found, hint=found.hint or f"correct {key_text(key)}")
    if not failures:
        yield ok("doctor/secret", "secret", "every key, token and password is private and usable")


def check_dropin(outdated: str | None) -> Iterator[Finding]:
    """Yield the installed drop-in that is behind the configuration."""
    if outdated is not None:
        yield warning(
            "doctor/dropin-outdated",
            "service",
            f"{outdated} was written for another configuration than this",
            "syncd init --systemd --install, then restart the service",
        )
