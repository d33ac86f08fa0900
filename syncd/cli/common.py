"""Shares what commands need: settings, finding the configuration, choosing jobs, exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from syncd.errors import ConfigError
from syncd.models import Job, RunReport, RunStatus
from syncd.output import echo
from syncd.text import did_you_mean

if TYPE_CHECKING:
    from syncd.config.cross_checks import ProblemFactory
    from syncd.config.model import Config
    from syncd.fastpath.early_requests import EarlyRequests

EXIT_SOME_FAILED = 3
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class Settings(Struct, kw_only=True):
    """The environment and the global options, which `cli/options.py` fills in while it parses.

    `early` are the requests of a nothing-to-do check that could not decide.
    """

    environ: Mapping[str, str]
    early: EarlyRequests | None = None
    config: str | None = None
    verbose: int = 0
    quiet: bool = False

    def load(self) -> Config:
        """Return the configuration. Raises ConfigError with every mistake."""
        return self.load_with_positions()[0]

    def load_read_only(self, members: bool = False) -> Config:
        """Return the configuration for a command that only reads the state.

        With `members`, members of `state_group` may run it too. Raises NotOwnerError for a user who
        may not.
        """
        from syncd.store.access import check_process_may_read

        config = self.load()
        check_process_may_read(config.state, group_may_read=members)
        return config

    def load_with_cache(self) -> Config:
        """Return the configuration, without checking again what was checked byte for byte
        before.
        """
        from syncd.cli.logging_setup import set_up_logging
        from syncd.config.cache import load_cached

        known = load_cached(self.config, self.environ)
        if known is None:
            return self.load()
        set_up_logging(self.verbose, self.quiet)
        return known

    def load_with_positions(self) -> tuple[Config, ProblemFactory]:
        """Return the configuration, and a function that gives a later mistake its position."""
        from syncd.cli.logging_setup import set_up_logging
        from syncd.config.load import find_config, load_with_positions

        set_up_logging(self.verbose, self.quiet)
        return load_with_positions(find_config(self.config, self.environ), self.environ)


def chosen_jobs(config: Config, names: Sequence[str]) -> list[Job]:
    """Return the named jobs, in the order of the configuration; all of them if none is named.

    Raises ConfigError for a name that does not exist.
    """
    if config.fleet is not None and not config.fleet.role.mirrors:
        raise ConfigError(
            f"{config.path} is of a controller (fleet.role), which publishes jobs and mirrors none",
            id="config/fleet-controller",
            hint="`syncd run` publishes them, and `syncd fleet status` shows how they are",
        )
    elsewhere = [name for name in names if config.fleet and name in config.fleet.not_here]
    if elsewhere:
        raise ConfigError(
            f"the job '{elsewhere[0]}' is not for this machine: its where: asks for other labels",
            id="config/fleet-elsewhere",
            hint="compare where: of the job with fleet.labels",
        )
    unknown = [name for name in names if name not in config.jobs]
    if unknown:
        raise ConfigError(
            f"there is no job '{unknown[0]}' in {config.path}"
            + did_you_mean(unknown[0], config.jobs),
            id="config/no-such-job",
            hint="the jobs are: " + ", ".join(config.jobs),
        )
    return [job for name, job in config.jobs.items() if not names or name in names]


def exit_code(reports: Iterable[RunReport]) -> int:
    """Return the exit code of a command over several jobs (contract section 3)."""
    failed, done = [], False
    for report in reports:
        if report.status in (RunStatus.FAILED, RunStatus.REFUSED):
            failed.append(report.error.exit_code if report.error else 1)
        else:
            done = True
    if not failed:
        return 0
    for above_all in (EXIT_BUG, EXIT_INTERRUPTED):
        if above_all in failed:
            return above_all
    if done:
        return EXIT_SOME_FAILED
    return failed[0] if len(set(failed)) == 1 else 1


def require_utf8(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Check an argument that is stored or sent as text. Raises BadParameter if it is not UTF-8."""
    if value is not None and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise click.BadParameter(
            "it is not valid UTF-8; jobs, refs and mirrored files have names in UTF-8",
            context,
            parameter,
        )
    return value


def say(settings: Settings, text: str) -> None:
    """Print a message to stderr, unless quiet."""
    if not settings.quiet:
        echo(text, err=True)


def say_ignored(settings: Settings, config: Config) -> None:
    """Name the files of a configuration folder that were left out though they look alike."""
    from syncd.config.folder import ignored_line

    if config.ignored:
        say(settings, f"warning: {ignored_line(config.ignored)}")


def emit(settings: Settings, text: str) -> None:
    """Print data to stdout, unless quiet; output for machines does not come through here."""
    if not settings.quiet:
        echo(text)


def emit_folded(settings: Settings, text: str, indent: str = "", first: str | None = None) -> None:
    """Print data as `emit` does, folded between words on a terminal.

    Each line has the indent, the first one `first` if that is given.
    """
    from syncd.cli.folding import fold, terminal_columns

    emit(settings, "\n".join(fold(text, terminal_columns(), indent, first)))


def bug_report(error: BaseException) -> str:
    """Return the text for a bug of ours: the traceback without secrets, and what to attach."""
    import platform
    import traceback

    from syncd import __version__
    from syncd.redaction import redact

    return (
        redact("".join(traceback.format_exception(error)))
        + f"This is a bug in syncd {__version__} (Python {platform.python_version()},"
        f" {platform.platform()}).\n"
        + "Please report it with the lines above, the command as you typed it, and what `syncd"
        " version --verbose` and `syncd check` say."
    )
