"""`syncd check`: every mistake in the configuration, each with its position."""

from __future__ import annotations

import click

from syncd.cli.common import Settings, emit, say, say_ignored
from syncd.config.cross_checks import ProblemFactory
from syncd.config.model import Config
from syncd.config.secrets import check_secrets
from syncd.errors import ConfigError, SyncdError
from syncd.hooks.command_lookup import missing_commands
from syncd.identities import LoginIdentity
from syncd.output import echo
from syncd.store.access import refuse_reader

LOGIN_SECONDS = 60.0


@click.command(name="check", short_help="Every mistake in the configuration.")
@click.option(
    "--online",
    is_flag=True,
    help="Also ask GitHub: every identity, and every job's repository and ref.",
)
@click.option(
    "--without-secrets",
    is_flag=True,
    help="Leave keys and tokens unopened: for places that have none, like a pipeline.",
)
@click.pass_obj
def command(settings: Settings, online: bool, without_secrets: bool) -> int:
    """Print every mistake in the configuration, each with its file, line and column. Exit 2 when
    there is one.
    """
    if online and without_secrets:
        raise click.UsageError(
            "--online asks GitHub, which takes the secrets that --without-secrets leaves unopened"
        )
    config, problem_at = settings.load_with_positions()
    say_ignored(settings, config)
    if online:
        refuse_reader(config.state, group_may_read=False)
    problems = [] if without_secrets else check_secrets(config, settings.environ, problem_at)
    if problems:
        raise ConfigError(problems)
    if not without_secrets:
        say_missing_commands(settings, config, problem_at)
    jobs, identities = len(config.jobs), len(config.identities)
    emit(
        settings,
        f"{config.path}: {jobs} job{'s' * (jobs != 1)}, {identities}"
        f" identit{'ies' if identities != 1 else 'y'}: good. State: {config.state}",
    )
    return _check_online(settings, config) if online else 0


def say_missing_commands(settings: Settings, config: Config, problem_at: ProblemFactory) -> None:
    """Warn of each hook whose command does not exist.

    It is no mistake, and has no exit code of its own: the package may come with a later step of the
    installation, and one missing program must not keep the other jobs' configuration from being
    used. A run that needs it fails, and `doctor` fails now.
    """
    said: set[tuple[str, int, int, str]] = set()  # a mistake in `defaults` is reported once
    for job, key, found in missing_commands(config.jobs.values()):
        one = problem_at(("jobs", job.name, key), f"warning: {found.text}; {found.hint}")
        if (one.file, one.line, one.column, one.text) not in said:
            said.add((one.file, one.line, one.column, one.text))
            say(settings, str(one))


def _check_online(settings: Settings, config: Config) -> int:
    """Ask GitHub for each job's ref, and check each login; write nothing but renewed tokens."""
    from syncd.wiring import AppContext

    app = AppContext.open(config, settings.environ, read_only=True)
    codes = []
    logins = [
        identity for identity in config.identities.values() if isinstance(identity, LoginIdentity)
    ]
    try:
        for identity in logins:
            try:
                app.connection(identity).credentials.token_for(
                    None, app.command_deadline(LOGIN_SECONDS)
                )
                pair = app.oauth_token_file(identity).load()
                emit(
                    settings,
                    f"✓ {identity.name}  {pair.login if pair is not None else 'an unknown user'} is"
                    " logged in",
                )
            except SyncdError as error:
                codes.append(error.exit_code)
                echo(
                    f"✕ {identity.name}  {error.message}"
                    + (f"\n    → {error.hint}" if error.hint else ""),
                    err=True,
                )
        for job in config.jobs.values():
            try:
                head = app.run_context(job).source.resolve(
                    job.repo, job.ref, None, app.deadline(job)
                )
                emit(settings, f"✓ {job.name}  {job.repo}@{job.ref or 'HEAD'} is {head.commit[:7]}")
            except SyncdError as error:
                codes.append(error.exit_code)
                echo(
                    f"✕ {job.name}  {error.message}"
                    + (f"\n    → {error.hint}" if error.hint else ""),
                    err=True,
                )
    finally:
        app.close()
    if not codes:
        return 0
    if len(codes) < len(config.jobs) + len(logins):
        return 3
    return codes[0] if len(set(codes)) == 1 else 1
