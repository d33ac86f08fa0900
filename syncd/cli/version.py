"""`syncd version`: prints the version, and with --verbose what a bug report needs."""

from __future__ import annotations

import click

from syncd import __version__
from syncd.cli.common import Settings
from syncd.output import echo


@click.command(name="version", short_help="Print the version.")
@click.pass_obj
def command(settings: Settings) -> None:
    """Print the version.

    With --verbose (-v), also what a bug report needs: versions of Python and the libraries, system,
    systemd, store, file systems, proxies without passwords, and locale. It holds no secret and no
    content of the configuration.
    """
    echo(f"syncd {__version__}")
    if not settings.verbose:
        return
    from syncd.cli.table import table
    from syncd.diagnosis.environment import describe

    for line in table(describe(settings.config, settings.environ)):
        echo(line)
