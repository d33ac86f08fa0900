"""Checks who syncd is at GitHub: Apps, their keys, installations and permissions; logins; the ends
of tokens.

For an App that is two requests, for a login none while its token is valid. A token is checked by
the first repository that is asked for with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from syncd.config.model import Config
from syncd.config.secrets import read_key
from syncd.diagnosis.finding import Finding, error, from_error, ok, warning
from syncd.errors import SyncdError
from syncd.github.auth.app import AppCredentials
from syncd.github.auth.fingerprint import key_fingerprint
from syncd.github.installations import AppInfo, InstallationInfo, get_app
from syncd.github.urls import web_origin
from syncd.identities import AppIdentity, LoginIdentity
from syncd.status.identities import expiring_tokens
from syncd.trusted_path import state_owner
from syncd.wiring import AppContext

LIMIT_SECONDS = 30.0
NEEDED = "contents: read"
ENOUGH = frozenset((NEEDED, "metadata: read"))
CONTENTS = "contents: "


# --- Apps -----------------------------------------------------------------------------------------


def check_app(app: AppContext, identity: AppIdentity) -> Iterator[Finding]:
    """Yield what GitHub says of an App: its name, its key, and its installations that jobs use."""
    credentials = app.connection(identity).credentials
    if not isinstance(credentials, AppCredentials):
        return
    key = _fingerprint(app, identity)
    try:
        found = get_app(credentials, identity.api, app.command_deadline(LIMIT_SECONDS))
    except SyncdError as failure:
        yield from_error("app", failure, f"{identity.name} (App {identity.issuer}, key {key})")
        return
    yield ok(
        "doctor/app",
        "app",
        f'{identity.name}: App {found.id} "{found.slug}", key {key}',
    )
    jobs = app.config.polled_jobs.values()
    owners = {job.repo.partition("/")[0] for job in jobs if job.identity == identity.name}
    yield from judge_installations(identity, found, owners)


def _fingerprint(app: AppContext, identity: AppIdentity) -> str:
    """Return the fingerprint of the App's key. Raises ConfigError for one that can't be read."""
    where = f"github.{identity.name}.private_key"
    key = read_key(identity.private_key, app.environ, where, state_owner(app.config.state))
    return key_fingerprint(key)


def judge_installations(
    identity: AppIdentity, app: AppInfo, owners: Iterable[str]
) -> Iterator[Finding]:
    """Yield the findings about the installations that jobs need: the one that the configuration
    names, or that of each of the jobs' `owners`. Pure.
    """
    settings = f"{web_origin(identity.api)}/apps/{app.slug}/installations/new"
    if identity.installation_id is not None:
        by_id = {one.id: one for one in app.installations}
        found = by_id.get(identity.installation_id)
        if found is None:
            yield _unknown(identity, app, settings)
        else:
            yield from _judge(identity.name, app, found)
        return
    by_account = {one.account.lower(): one for one in app.installations}
    for owner in sorted(set(owners)):
        found = by_account.get(owner.lower())
        if found is None:  # a warning: the owner may have another name now
            yield warning(
                "doctor/not-installed",
                "installation",
                f"{identity.name}: App {app.slug} is not installed in {owner}",
                f"install it there: {settings}",
            )
        else:
            yield from _judge(identity.name, app, found)


def _unknown(identity: AppIdentity, app: AppInfo, settings: str) -> Finding:
    there = ", ".join(f"{one.id} ({one.account})" for one in app.installations)
    return error(
        "doctor/unknown-installation",
        "installation",
        f"{identity.name}: App {app.slug} has no installation {identity.installation_id};"
        f" it has {there or 'none'}",
        "correct installation_id:, or leave it out" if there else f"install it: {settings}",
        exit_code=4,
    )


def _judge(name: str, app: AppInfo, one: InstallationInfo) -> Iterator[Finding]:
    label = f"{name}: installation {one.id} in {one.account}"
    if one.suspended:
        yield error(
            "auth/installation-suspended",
            "installation",
            f"{label} is suspended",
            "an owner of the account can unsuspend it under Settings → Applications",
            exit_code=4,
        )
    elif not any(granted.startswith(CONTENTS) for granted in one.permissions):
        asked = any(granted.startswith(CONTENTS) for granted in app.permissions)
        yield error(
            "doctor/permission-missing",
            "permission",
            f"{label} may not read contents; it has {_listed(one.permissions)}",
            f"an owner of {one.account} has to accept the App's new permission"
            if asked
            else "grant the App contents: read in its settings, and accept it in the account",
            exit_code=4,
        )
    else:
        yield ok("doctor/installation", "installation", f"{label}: {_listed(one.permissions)}")
        yield from _too_many(label, one)


def _too_many(label: str, one: InstallationInfo) -> Iterator[Finding]:
    more = [granted for granted in one.permissions if granted not in ENOUGH]
    if more:
        yield warning(
            "doctor/more-permissions",
            "permission",
            f"{label} has more than syncd needs: {_listed(more)}",
            "leave the App contents: read and metadata: read alone; syncd's own tokens are"
            " narrowed to that, but a stolen key has all of it",
        )


def _listed(permissions: Iterable[str]) -> str:
    return ", ".join(permissions) or "no permission"


# --- logins, and the ends of tokens ---------------------------------------------------------------


def check_login(app: AppContext, identity: LoginIdentity) -> Iterator[Finding]:
    """Yield whether a user is logged in and the token can be renewed.

    A renewed pair of tokens is stored, because the old one is invalid.
    """
    try:
        app.connection(identity).credentials.token_for(None, app.command_deadline(LIMIT_SECONDS))
        pair = app.oauth_token_file(identity).load()
    except SyncdError as failure:
        yield from_error("login", failure, identity.name)
        return
    user = pair.login if pair is not None else "an unknown user"
    yield ok("doctor/login", "login", f"{identity.name}: logged in as {user}")


def check_expiries(
    config: Config, expiries: Mapping[str, datetime], now: datetime
) -> Iterator[Finding]:
    """Yield when each token and login ends that syncd does not renew by itself. Pure."""
    said = set()
    for name, text, hint in expiring_tokens(config.identities, expiries, now):
        said.add(name)
        yield warning("doctor/expiry-near", "expiry", f"{name}: {text}", hint)
    for name, at in expiries.items():
        if name not in said:
            is_login = isinstance(config.identities[name], LoginIdentity)
            what = "the login" if is_login else "the token"
            yield ok("doctor/expiry", "expiry", f"{name}: {what} ends on {at:%Y-%m-%d}")
