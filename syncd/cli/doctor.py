"""`syncd doctor`: checks everything that a run depends on, and says what to do."""

from __future__ import annotations

from itertools import chain

import click

from syncd.cli.common import Settings, say_ignored
from syncd.cli.findings import FindingPrinter
from syncd.cli.init import outdated_dropin
from syncd.cli.progress import progress_of
from syncd.config.model import Config
from syncd.diagnosis.checks import LocalChecks, OnlineChecks
from syncd.diagnosis.finding import Finding, as_json, exit_code
from syncd.diagnosis.runner import close, run_checks
from syncd.errors import ConfigError, StoreError
from syncd.github.proxies import proxies_of
from syncd.output import echo
from syncd.store.access import check_process_may_read
from syncd.store.store import SqliteStore
from syncd.stored_jobs import open_store
from syncd.text import json_text
from syncd.wiring import AppContext, ConnectionOptions


@click.command(name="doctor", short_help="Everything a run leans on: what is wrong and what to do.")
@click.option(
    "--json", "as_json_", is_flag=True, help="Print one JSON object (schema syncd.doctor/1)."
)
@click.pass_obj
def command(settings: Settings, as_json_: bool) -> int:
    """Check everything that a run depends on, and say what is wrong and what to type.

    That is: secrets, the store, the daemon, each identity and what it may do, each job's
    repository, ref and paths, the clock, each destination and its disk, hooks and the webhook.

    One failing check never hides the others. Asks GitHub twice per App, and for each job what its
    first sync would ask to list its files. Writes nothing but a login's renewed tokens.

    Exit: 0 no errors, 2 a mistake in the configuration, 4 GitHub refused who we are, 5 try again
    later, else 1.
    """
    config, _ = settings.load_with_positions()
    check_process_may_read(config.state, group_may_read=False)
    say_ignored(settings, config)
    app, no_store, no_proxy = open_context(settings, config)
    found: list[Finding] = []
    printer = FindingPrinter(settings.verbose > 0, settings.quiet)
    try:
        online = OnlineChecks(app, no_proxy)
        local = LocalChecks(app, no_store, outdated_dropin(settings))
        checks = chain(
            local.before_online(),
            online.of_identities(),
            online.of_jobs(),
            online.of_fleet(),
            online.of_answers(),
            local.after_online(online.jobs),
        )
        with progress_of(settings, app):
            for one in run_checks(checks):
                found.append(one)
                if not as_json_:
                    printer.show(one)
        requests = app.request_metrics.totals()["total"]
    finally:
        close(app.close)
    if as_json_:
        echo(json_text(as_json(found, requests)))
    else:
        printer.finish()
    return exit_code(found)


def open_context(
    settings: Settings, config: Config
) -> tuple[AppContext, StoreError | None, ConfigError | None]:
    """Return the collaborators, and why the store and the proxies can't be used.

    The context has an empty store then, or no proxies.
    """
    no_store = no_proxy = None
    try:
        store = open_store(config, read_only=True)
    except StoreError as error:
        no_store, store = error, SqliteStore.in_memory()
    environ = settings.environ
    try:
        proxies_of(environ)
    except ConfigError as error:
        no_proxy = error
        environ = {name: value for name, value in environ.items() if not _is_proxy(name)}
    options = ConnectionOptions(wait_for_limits=False, read_only=True)
    app = AppContext(config, environ, store, options=options)
    return app, no_store, no_proxy


def _is_proxy(name: str) -> bool:
    return name.lower().endswith("_proxy")
