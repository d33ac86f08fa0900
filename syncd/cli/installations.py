"""`syncd installations [NAME]`: asks GitHub what each identity can reach."""

from __future__ import annotations

from collections.abc import Iterator

import click

from syncd.cli.common import EXIT_SOME_FAILED, Settings, emit
from syncd.cli.completions import complete_identity
from syncd.config.model import Config
from syncd.errors import ConfigError, SyncdError
from syncd.github.auth.app import AppCredentials
from syncd.github.installations import (
    InstallationInfo,
    get_app_info,
    get_authenticated_user,
    list_user_installations,
)
from syncd.github.urls import display_host, web_origin
from syncd.identities import AnonymousIdentity, Identity
from syncd.output import echo
from syncd.status.identities import identity_description
from syncd.text import did_you_mean
from syncd.wiring import AppContext, ConnectionOptions

TIMEOUT_SECONDS = 600.0
NEEDED = "contents: "


@click.command(name="installations", short_help="What each identity reaches.")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_identity)
@click.pass_obj
def command(settings: Settings, name: str | None) -> int:
    """Ask GitHub what the identity NAME, or every one, can reach. For an App these are its
    installations, their repositories and permissions, and what is suspended; for a token or login,
    its user. Mints a token for each installation and revokes it again.

    Exit: 0 all answered, 3 some did, 4 GitHub refused the credentials, 5 try again later.
    """
    config = settings.load_read_only()
    identities = chosen_identities(config, name)
    app = AppContext.open(config, settings.environ, options=ConnectionOptions(read_only=True))
    codes = []
    try:
        for identity in identities:
            try:
                for line in _lines(app, config, identity):
                    emit(settings, line)
            except SyncdError as error:
                codes.append(error.exit_code)
                echo(
                    f"✕ {identity.name} ({identity_description(identity)}): {error.message}"
                    + (f"\n    → {error.hint}" if error.hint else ""),
                    err=True,
                )
    finally:
        app.close()
    if not codes:
        return 0
    if len(codes) < len(identities):
        return EXIT_SOME_FAILED
    return codes[0] if len(set(codes)) == 1 else 1


def chosen_identities(config: Config, name: str | None) -> list[Identity]:
    """Return the identity of that name, or all. Raises ConfigError."""
    if name is None:
        return list(config.identities.values())
    if name not in config.identities:
        raise ConfigError(
            f"there is no identity '{name}' under github: in {config.path}"
            + did_you_mean(name, config.identities),
            id="config/no-such-identity",
            hint="the identities are: " + ", ".join(config.identities),
        )
    return [config.identities[name]]


def _lines(app: AppContext, config: Config, identity: Identity) -> Iterator[str]:
    line, deadline, home = (
        app.connection(identity),
        app.command_deadline(TIMEOUT_SECONDS),
        display_host(web_origin(identity.api)),
    )
    wanted = {
        job.repo.lower() for job in config.polled_jobs.values() if job.identity == identity.name
    }
    if isinstance(line.credentials, AppCredentials):
        reach = get_app_info(line.credentials, identity.api, line.plain, deadline)
        count = len(reach.installations)
        yield (
            f"{identity.name}: App {reach.slug} ({reach.id}) on {home}, {count}"
            f" installation{'s' * (count != 1)}"
        )
        if not count:
            web = web_origin(identity.api)
            yield f"    → install it: {web}/apps/{reach.slug}/installations/new"
        yield from _installations(reach.installations, wanted)
        return
    if isinstance(identity, AnonymousIdentity):
        yield f"{identity.name}: anonymous; the public repositories of {home}"
        return
    login, scopes = get_authenticated_user(line.transport, identity.api, deadline)
    yield f"{identity.name}: {identity_description(identity)} of {login} on {home}" + (
        f", scopes: {scopes or 'none'}" if scopes is not None else ""
    )
    found = list_user_installations(line.transport, identity.api, deadline)
    if found is None:
        yield (
            "    GitHub does not list what such a token reaches; `syncd check --online` tries each"
            " job's repository"
        )
    else:
        yield from _installations(found, wanted)


def _installations(found: tuple[InstallationInfo, ...], wanted: set[str]) -> Iterator[str]:
    for one in found:
        marks = [f"{one.selection} repositories"] + [
            permission for permission in one.permissions if permission.startswith(NEEDED)
        ]
        yield f"  {one.id}  {one.account}: {', '.join(marks)}" + (
            "  SUSPENDED" if one.suspended else ""
        )
        if one.suspended:
            yield "    → an owner of the account can unsuspend it under Settings → Applications"
        elif not any(permission.startswith(NEEDED) for permission in one.permissions):
            yield (
                "    → it may not read contents: grant the App contents: read, and let an owner of"
                " the account accept it"
            )
        if one.problem is not None:
            yield f"    ✕ {one.problem.message}"
        for repo in one.repositories or ():
            yield f"    {repo}" + ("  (of a job)" if repo.lower() in wanted else "")
    reached = {repo.lower() for one in found for repo in one.repositories or ()}
    for repo in sorted(wanted - reached):
        yield f"  ✕ {repo} (of a job) is in none of them: select it, or it has another name now"
