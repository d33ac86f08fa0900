"""`syncd logout NAME`: removes the tokens of a login from this machine."""

from __future__ import annotations

import click

from syncd.cli.common import Settings, emit
from syncd.cli.completions import complete_login
from syncd.cli.login import login_identity
from syncd.cli.sync import stop_on_signals
from syncd.github.urls import web_origin
from syncd.store.access import check_process_is_owner
from syncd.wiring import AppContext, ConnectionOptions

TIMEOUT_SECONDS = 60.0


@click.command(name="logout", short_help="Forget a login's tokens.")
@click.argument("name", metavar="NAME", shell_complete=complete_login)
@click.pass_obj
def command(settings: Settings, name: str) -> int:
    """Remove the tokens of the `login:` identity NAME from this machine. GitHub lets only the app's
    owner, with its secret, revoke them there; the command says what you can do yourself on the web.
    Exit 0 also when you were not logged in.
    """
    config = settings.load()
    identity = login_identity(config, name)
    check_process_is_owner(config.state)
    app = AppContext.open(config, settings.environ, options=ConnectionOptions(read_only=True))
    try:
        pairs = app.oauth_token_file(identity)
        if not pairs.file.exists():
            emit(settings, f"no login was stored for {name}")
            return 0
        with stop_on_signals(app), pairs.exclusive_lock(app.command_deadline(TIMEOUT_SECONDS)):
            pairs.delete()
    finally:
        app.close()
    emit(settings, f"the tokens of {name} are gone from {config.state}")
    web = web_origin(identity.api)
    emit(
        settings,
        "GitHub still knows them until they end. To end them now, revoke the app:"
        f" {web}/settings/apps/authorizations (a GitHub App) or {web}/settings/applications (an"
        " OAuth app)",
    )
    return 0
