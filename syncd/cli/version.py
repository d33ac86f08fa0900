"""`syncd version`."""

from __future__ import annotations

import click

from syncd import __version__


@click.command(name="version", short_help="Print the version.")
def command() -> None:
    """Print the version."""
    click.echo(f"syncd {__version__}")
