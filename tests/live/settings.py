"""The settings of `make live`, from the environment: consent, server, App and repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from syncd.redaction import Secret, add_secret

DEFAULT_API = "https://api.github.com"
DEFAULT_MAX_REQUESTS = 150
# A tree with zero-padded modes that "git fsck" reports. Source: ohmyzsh/ohmyzsh issue 4963.
DEFAULT_PADDED_TREE = "ohmyzsh/ohmyzsh@2b7227859263b6aabcc28355b0b994995b7148b6"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+\Z", re.ASCII)
CI_VARIABLES = ("CI", "GITHUB_ACTIONS")


class SettingsError(Exception):
    """The environment does not allow a run; the text says which variable to set."""


class Settings(Struct, frozen=True):
    """One run. `write` allows commits and refs in `repo`, which is the scratch repository then."""

    api: str
    app_id: str
    private_key: str
    repo: str
    installation_id: str | None
    ref: str | None
    same_name: str | None
    padded_tree: str
    ca_file: str | None
    write: bool
    max_requests: int
    report: Path


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Return the settings of the environment. Raises SettingsError without consent or values."""
    _check_consent(environ)
    write = environ.get("SYNCD_LIVE_WRITE") == "1"
    repository = "SYNCD_LIVE_SCRATCH" if write else "SYNCD_LIVE_REPO"
    repo = _required(environ, repository)
    if not REPOSITORY.match(repo):
        raise SettingsError(f"{repository}: write it like owner/name")
    key = _private_key(environ)
    add_secret(Secret(key))
    return Settings(
        api=environ.get("SYNCD_LIVE_API", DEFAULT_API).rstrip("/"),
        app_id=_required(environ, "SYNCD_LIVE_APP_ID"),
        private_key=key,
        repo=repo,
        installation_id=environ.get("SYNCD_LIVE_INSTALLATION_ID") or None,
        ref=None if write else environ.get("SYNCD_LIVE_REF") or None,
        same_name=environ.get("SYNCD_LIVE_SAME_NAME") or None,
        padded_tree=environ.get("SYNCD_LIVE_PADDED_TREE", DEFAULT_PADDED_TREE),
        ca_file=environ.get("SYNCD_LIVE_CA_FILE") or None,
        write=write,
        max_requests=_number(environ, "SYNCD_LIVE_MAX_REQUESTS", DEFAULT_MAX_REQUESTS),
        report=Path(environ.get("SYNCD_LIVE_REPORT", "live-report")),
    )


def _check_consent(environ: Mapping[str, str]) -> None:
    found = next((name for name in CI_VARIABLES if environ.get(name)), None)
    if found is not None:
        raise SettingsError(f"{found} is set: the live questions are never asked in CI")
    if environ.get("SYNCD_LIVE") != "1":
        raise SettingsError(
            "set SYNCD_LIVE=1 to agree that requests are sent to GitHub in your App's name; "
            "docs/development/live.md lists the other variables"
        )


def _private_key(environ: Mapping[str, str]) -> str:
    if environ.get("SYNCD_LIVE_PRIVATE_KEY"):
        return environ["SYNCD_LIVE_PRIVATE_KEY"].replace("\\n", "\n")
    place = Path(_required(environ, "SYNCD_LIVE_PRIVATE_KEY_FILE"))
    try:
        return place.read_text()
    except OSError as error:
        raise SettingsError(f"SYNCD_LIVE_PRIVATE_KEY_FILE: {error.strerror}") from error


def _required(environ: Mapping[str, str], name: str) -> str:
    if not environ.get(name):
        raise SettingsError(f"set {name}; docs/development/live.md lists the variables")
    return environ[name]


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    if not text.isdecimal() or not int(text):
        raise SettingsError(f"{name}: {text!r} is no number of requests")
    return int(text)
