"""Options that every command takes, before its name and after it.

Each option writes its value into the `Settings` of the call while the command line is parsed, so
that a command finds the same settings wherever an option was typed. The last `-c` and `--color`
win, and each `-v` counts.
"""

from __future__ import annotations

import click

from syncd.cli.common import Settings
from syncd.fastpath.check import COLOURS
from syncd.output import use_colour


def global_options(at_root: bool = False) -> list[click.Parameter]:
    """Return new options. Those of the root also read the environment."""
    return [
        click.Option(
            ["-c", "--config", "config"],
            metavar="FILE|DIR",
            type=click.Path(readable=False),
            envvar="SYNCD_CONFIG" if at_root else None,
            callback=_keep_config,
            expose_value=False,
            help=(
                "The configuration. Default: $SYNCD_CONFIG, /etc/syncd/config.yaml, "
                "~/.config/syncd/config.yaml."
            ),
        ),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            callback=_keep_verbose,
            expose_value=False,
            help="Say more (twice: debug).",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            callback=_keep_quiet,
            expose_value=False,
            help="Say only what went wrong.",
        ),
        click.Option(
            ["--color"],
            type=click.Choice(COLOURS),
            callback=_keep_colour,
            expose_value=False,
            help="Colours: auto is on a terminal, unless the environment says otherwise.",
        ),
    ]


def add_global_options(command: click.Command) -> None:
    """Give the command and each of its own commands the options, once."""
    if not any(parameter.name == "config" for parameter in command.params):
        command.params += global_options()
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_global_options(inner)


def _settings(context: click.Context) -> Settings | None:
    return context.find_object(Settings)


def _keep_config(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    settings = _settings(context)
    if settings is not None and value is not None:
        settings.config = value


def _keep_verbose(context: click.Context, _parameter: click.Parameter, value: int) -> None:
    settings = _settings(context)
    if settings is not None:
        settings.verbose += value


def _keep_quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    settings = _settings(context)
    if settings is not None and value:
        settings.quiet = True


def _keep_colour(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    settings = _settings(context)
    if settings is not None and value is not None:
        use_colour(value, settings.environ)


__all__ = ["add_global_options", "global_options"]
