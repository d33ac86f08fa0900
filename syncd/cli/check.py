"""`syncd check`: every mistake in the configuration, each with its position."""

from __future__ import annotations

from itertools import chain

import click

from syncd.cli.common import EXIT_SOME_FAILED, Settings, emit_folded, say, say_ignored
from syncd.config.cross_checks import ProblemFactory
from syncd.config.model import Config
from syncd.config.secrets import check_secrets
from syncd.errors import ConfigError
from syncd.hooks.command_lookup import find_missing_commands
from syncd.store.access import check_process_may_read


@click.command(name="check", short_help="Every mistake in the configuration.")
@click.option(
    "--online",
    is_flag=True,
    help="Also ask GitHub: every identity, and every job's repository, ref and paths.",
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
        check_process_may_read(config.state, group_may_read=False)
    problems = [] if without_secrets else check_secrets(config, settings.environ, problem_at)
    if problems:
        raise ConfigError(problems)
    if not without_secrets:
        say_missing_commands(settings, config, problem_at)
    jobs, identities = len(config.jobs), len(config.identities)
    emit_folded(
        settings,
        f"{config.path}: {jobs} job{'s' * (jobs != 1)}, {identities}"
        f" identit{'ies' if identities != 1 else 'y'}: good. State: {config.state}",
        "  ",
        "",
    )
    return _check_online(settings, config) if online else 0


def say_missing_commands(settings: Settings, config: Config, problem_at: ProblemFactory) -> None:
    """Warn of each hook whose command does not exist.

    It is no mistake, and has no exit code of its own: the package may come with a later step of the
    installation, and one missing program must not keep the other jobs' configuration from being
    used. A run that needs it fails, and `doctor` fails now.
    """
    said: set[tuple[str, int, int, str]] = set()  # a mistake in `defaults` is reported once
    for job, key, found in find_missing_commands(config.jobs.values()):
        one = problem_at(("jobs", job.name, key), f"warning: {found.text}; {found.hint}")
        if (one.file, one.line, one.column, one.text) not in said:
            said.add((one.file, one.line, one.column, one.text))
            say(settings, str(one))


def _check_online(settings: Settings, config: Config) -> int:
    """Ask GitHub for each job's ref and paths, and check each identity; write nothing but renewed
    tokens. Findings that all is well go to stdout, the others to stderr.

    The exit is 3 when a login or a job is in order and others are not.
    """
    from syncd.cli.findings import FindingPrinter
    from syncd.cli.progress import progress_of
    from syncd.diagnosis.checks import OnlineChecks, has_error
    from syncd.diagnosis.finding import Finding, exit_code
    from syncd.diagnosis.runner import close, run_check
    from syncd.wiring import AppContext, ConnectionOptions

    options = ConnectionOptions(wait_for_limits=False, read_only=True)
    app = AppContext.open(config, settings.environ, options)
    printer = FindingPrinter(settings.verbose > 0, settings.quiet, bad_to_stderr=True)
    found: list[Finding] = []
    some_in_order = False
    try:
        online = OnlineChecks(app)
        with progress_of(settings, app):
            asking = (online.of_identities(), online.of_jobs(), online.of_fleet())
            for check in chain(*asking, online.of_answers()):
                new = run_check(check)
                some_in_order |= check.subject == "login" and not has_error(new)
                for one in new:
                    printer.show(one)
                found += new
        printer.finish()
    finally:
        close(app.close)
    some_in_order |= any(not has_error(job.findings) for job in online.jobs.values())
    code = exit_code(found)
    return EXIT_SOME_FAILED if code and some_in_order else code
