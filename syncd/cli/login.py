"""`syncd login NAME`: logs a user in through the browser of any machine, without typing a
secret.
"""

from __future__ import annotations

import click
from msgspec.structs import replace

from syncd.cli.common import Settings, emit
from syncd.cli.completions import complete_login
from syncd.cli.sync import stop_on_signals
from syncd.config.model import Config
from syncd.errors import ConfigError
from syncd.github.auth.device_flow import (
    OAuthClient,
    TokenOwner,
    get_authenticated_user,
    parse_tokens,
)
from syncd.github.urls import display_host, web_origin
from syncd.identities import LoginIdentity
from syncd.output import echo
from syncd.text import did_you_mean, styled
from syncd.wiring import AppContext

TIMEOUT_SECONDS = 3600.0  # GitHub's own end of a code comes first


@click.command(name="login", short_help="Log in as a user, through any browser.")
@click.argument("name", metavar="NAME", shell_complete=complete_login)
@click.option(
    "--scope",
    default="repo",
    show_default=True,
    help="What an OAuth app asks for; '' is public repositories only. GitHub Apps ignore it.",
)
@click.pass_obj
def command(settings: Settings, name: str, scope: str) -> int:
    """Log in as the `login:` identity NAME. Shows a code and an address, waits until the code has
    been entered there, and keeps the tokens (0600, in the state folder). They are renewed
    automatically from then on. Exit 4 when GitHub or the user declines.
    """
    config = settings.load()
    identity = login_identity(config, name)
    app = AppContext.open(config, settings.environ)
    try:
        with stop_on_signals(app):
            return _log_in(settings, app, identity, scope)
    finally:
        app.close()


def _log_in(settings: Settings, app: AppContext, identity: LoginIdentity, scope: str) -> int:
    line, pairs, deadline = (
        app.connection(identity),
        app.oauth_token_file(identity),
        app.command_deadline(TIMEOUT_SECONDS),
    )
    client = OAuthClient(line.plain, web_origin(identity.api), identity.client_id, identity.name)
    invitation = client.request_device_code(scope, deadline)
    minutes = round(invitation.lifetime_seconds / 60)
    echo(
        f"Open {invitation.address} in any browser and enter the code"
        f" {styled(invitation.user_code, bold=True)}",
        err=True,
    )
    echo(f"waiting, up to {minutes} minutes; Ctrl-C ends it ...", err=True)
    found, at = client.poll_token(invitation, deadline)
    owner = TokenOwner(identity.api, identity.client_id, "")
    pair = parse_tokens(found, at, owner, app.clock.now())
    login = get_authenticated_user(line.plain, identity.api, pair.access, deadline)
    kept = parse_tokens(found, at, replace(owner, login=login), pair.issued_at)
    with pairs.exclusive_lock(deadline):
        pairs.save(kept)
    until = (
        f"; it is renewed by itself, and ends on {kept.refresh_expires_at:%Y-%m-%d} only if syncd"
        " does not run until then"
        if kept.refresh_expires_at is not None
        else ""
    )
    emit(settings, f"logged in to {display_host(web_origin(identity.api))} as {login}{until}")
    emit(settings, f"kept in {pairs.file} (0600); to end it: syncd logout {identity.name}")
    return 0


def login_identity(config: Config, name: str) -> LoginIdentity:
    """Return the login of that name. Raises ConfigError if there is none."""
    logins = [
        one for one, identity in config.identities.items() if isinstance(identity, LoginIdentity)
    ]
    found = config.identities.get(name)
    if isinstance(found, LoginIdentity):
        return found
    hint = (
        f"the identities with login: are {', '.join(logins)}"
        if logins
        else "write one under github:, like: me: {login: {client_id: Iv23li...}}"
    )
    if found is not None:
        raise ConfigError(
            f"'{name}' in {config.path} is no login: its own secret is in the configuration, and"
            " there is nothing to log in to",
            id="config/no-login",
            hint=hint,
        )
    raise ConfigError(
        f"there is no identity '{name}' under github: in {config.path}"
        + did_you_mean(name, config.identities),
        id="config/no-such-identity",
        hint=hint,
    )
