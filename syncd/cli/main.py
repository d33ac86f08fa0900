"""The command line: parses arguments, calls one function, returns the exit code.

Each command is a module of its own, loaded when it is called.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from syncd.cli.common import EXIT_BUG, Settings, bug_report
from syncd.cli.options import add_global_options, global_options
from syncd.core_dumps import forbid_dumps
from syncd.errors import ConfigError, NotOwnerError, SyncdError
from syncd.output import echo, use_colour
from syncd.owners import nearest_owner
from syncd.text import did_you_mean

if TYPE_CHECKING:
    from syncd.fastpath.early_requests import EarlyRequests

# name -> (module, one line of help): help and completion cost no import of the verbs themselves
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "A whole sync against a GitHub stand-in on loopback; nothing to configure."),
    "init": ("init", "Write a commented configuration, or the systemd drop-in of one."),
    "check": ("check", "Every mistake in the configuration, each with its place."),
    "plan": ("plan", "What a sync would do now, without doing it."),
    "sync": ("sync", "Bring the jobs in sync once; for cron and for manual use."),
    "run": ("run", "The daemon: follow every job's schedule until it is stopped."),
    "status": ("status", "The state of every job."),
    "watch": ("watch", "What happens to the jobs, as it happens."),
    "history": ("history", "What past runs did."),
    "explain": ("explain", "Why a path is as it is."),
    "trash": ("trash", "What was overwritten, and the way back."),
    "rollback": ("rollback", "The previous set again, from the local cache; holds the job."),
    "pause": ("pause", "Leave a job alone until it is resumed."),
    "resume": ("resume", "Go on with a paused or held job."),
    "verify": ("verify", "Read every mirrored file and cached blob again, byte by byte."),
    "doctor": ("doctor", "Everything a run leans on: what is wrong and what to do."),
    "login": ("login", "Log in as a user, through any browser."),
    "logout": ("logout", "Forget a login's tokens."),
    "installations": ("installations", "What each identity reaches."),
    "fleet": ("fleet", "The database of a fleet: jobs, agents and grants."),
    "web": ("web", "What the users of the status page need."),
    "backup": ("backup", "A copy of the store in one file, and the way back."),
    "migrate": ("migrate", "Bring the store to this version's schema."),
    "completion": ("completion", "Completion for bash, zsh or fish."),
    "version": ("version", "Print the version."),
    "help": ("help", "The help of a command."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"syncd.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        add_global_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command for the arguments; an unknown name fails with a suggestion."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no such command '{args[0]}'" + did_you_mean(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from their one-line helps."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    """Print the version, and end."""
    if asked and not context.resilient_parsing:
        from syncd import __version__

        echo(f"syncd {__version__}")
        context.exit()


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def cli() -> None:
    """syncd keeps the listed files and folders of GitHub repositories equal on this machine."""


cli.params[:0] = global_options(at_root=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave the process with its exit code (contract section 3)."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None, early: EarlyRequests | None = None) -> int:
    """Run a command, and return its exit code.

    `early` are the requests of a nothing-to-do check that could not decide.
    """
    forbid_dumps()
    settings = Settings(environ=dict(os.environ), early=early)
    use_colour(None, settings.environ)
    try:
        result = cli.main(
            args=list(arguments) if arguments is not None else None,
            prog_name="syncd",
            standalone_mode=False,
            obj=settings,
        )
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        echo(said.getvalue(), err=True, nl=False)
        return 2
    except (click.Abort, KeyboardInterrupt):
        echo("interrupted", err=True)
        return 130
    except ConfigError as error:
        return _show_config_error(error, arguments, settings.verbose > 0)
    except NotOwnerError as error:
        _refuse(error.message, error.owner, arguments, error.id if settings.verbose else None)
        return error.exit_code
    except PermissionError as error:  # never a bug of ours, wherever it came from
        place = error.filename if isinstance(error.filename, str) else "a file that it needs"
        _refuse(f"{place} can't be used: {error.strerror}", nearest_owner(place), arguments)
        return 1
    except SyncdError as error:
        _show_error(error, f"syncd: {error.message}", settings.verbose > 0)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  (what gets here is a bug of ours)
        echo(bug_report(error), err=True)
        return EXIT_BUG


def _refuse(
    message: str, owner: str, arguments: Sequence[str] | None, error_id: str | None = None
) -> None:
    """Print one sentence: what this user may not do, and the command to type."""
    from syncd.cli.refusals import command_as

    command = command_as(owner, arguments, os.environ)
    echo(f"syncd: {message}; run it as {owner}: {command}", err=True)
    if error_id is not None:
        echo(f"  error id: {error_id}", err=True)


def _show_error(error: SyncdError, text: str, verbose: bool) -> None:
    """Print the text, with -v the error's id, and what to do; folded on a terminal.

    An indented line is left as it is: a sign below it points into it, or a hook printed it.
    """
    from syncd.cli.folding import fold, terminal_columns

    columns = terminal_columns(err=True)
    for line in text.split("\n"):
        echo("\n".join([line] if line[:1] == " " else fold(line, columns, "  ", "")), err=True)
    if verbose:
        echo(f"  error id: {error.id}", err=True)
    if error.hint:
        echo("\n".join(fold(error.hint, columns, "  ")), err=True)


def _show_config_error(error: ConfigError, arguments: Sequence[str] | None, verbose: bool) -> int:
    """Print every problem of the configuration, or who may read it, and return the exit code."""
    if error.owner is not None:
        _refuse(error.message, error.owner, arguments, error.id if verbose else None)
        return error.exit_code
    from syncd.config.render_problems import render

    text = render(error) if error.problems else f"syncd: {error.message}"
    _show_error(error, text, verbose)
    return error.exit_code
