"""`syncd version`: prints the version."""

from __future__ import annotations

import click

from syncd import __version__
from syncd.output import echo


@click.command(name="version", short_help="Print the version.")
def command() -> None:
    """Print the version."""
    echo(f"syncd {__version__}")
